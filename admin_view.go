package caddycvs

// This file holds what an operator sees of an order. Only what is named here leaves the ledger:
// nothing of a buyer, and no digest.

import (
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// barcodeList is the answer of GET /cvs/barcodes.
type barcodeList struct {
	Barcodes []orderView `json:"barcodes"`
	Next     string      `json:"next,omitempty"` // the parameter after of the next page
	Waiting  int         `json:"waiting"`        // orders that wait for a person
	Pending  int         `json:"pending"`        // orders of which the app is still to hear something
}

// orderView is an order.
type orderView struct {
	Account     string        `json:"account"`
	MerchantUID string        `json:"merchant_uid"`
	State       ledger.State  `json:"state"` // of the last attempt
	Attempts    []attemptView `json:"attempts"`
	Telling     *tellingView  `json:"telling,omitempty"` // while there is something to tell
}

// attemptView is a barcode, or a request for one.
type attemptView struct {
	ImpUID   string          `json:"imp_uid,omitempty"`
	State    ledger.State    `json:"state"`
	Amount   string          `json:"amount"`
	PG       string          `json:"pg,omitempty"`
	Asked    *time.Time      `json:"asked,omitempty"`
	Deadline *time.Time      `json:"deadline,omitempty"`
	Paid     *time.Time      `json:"paid,omitempty"`
	Late     bool            `json:"late,omitempty"`
	Events   []happeningView `json:"events,omitempty"`
}

// happeningView is something that the app is to hear, or has heard.
type happeningView struct {
	Event          string     `json:"event"`
	CancellationID string     `json:"cancellation_id,omitempty"`
	Seen           *time.Time `json:"seen,omitempty"`
	Heard          *time.Time `json:"heard,omitempty"`
}

// tellingView is how far telling the app has come.
type tellingView struct {
	Since   *time.Time `json:"since,omitempty"`
	Tries   int        `json:"tries"`
	Next    *time.Time `json:"next,omitempty"`
	Cause   string     `json:"cause,omitempty"`
	Waiting *time.Time `json:"waiting,omitempty"` // since when it waits for a person
}

func viewOf(row *ledger.Row) orderView {
	v := orderView{Account: row.Account, MerchantUID: row.Order, Attempts: make([]attemptView, 0, len(row.Attempts))}
	for i := range row.Attempts {
		a := &row.Attempts[i]
		seen := attemptView{
			ImpUID: a.ImpUID, State: a.State, Amount: a.Amount, PG: a.PG, Late: a.Late,
			Asked: fromMilli(a.Asked), Deadline: fromMilli(a.Deadline * 1000), Paid: fromMilli(a.PaidAt * 1000),
		}
		for _, h := range a.Happenings {
			seen.Events = append(seen.Events, happeningView{string(h.Event), h.Cancellation, fromMilli(h.Seen), fromMilli(h.Done)})
		}
		v.State, v.Attempts = a.State, append(v.Attempts, seen)
	}
	if t := row.Telling; t != (ledger.Telling{}) {
		v.Telling = &tellingView{fromMilli(t.Since), t.Tries, fromMilli(t.Next), t.Cause, fromMilli(t.Waiting)}
	}
	return v
}

// fromMilli returns a time, nil for 0.
func fromMilli(milliseconds int64) *time.Time {
	if milliseconds == 0 {
		return nil
	}
	at := time.UnixMilli(milliseconds).UTC()
	return &at
}
