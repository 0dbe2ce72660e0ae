package ledger

// This file holds what the shop is told: its configuration, and what is kept of it in a row.

import (
	"context"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// Tells says what of an account's payments the shop is told, and how.
type Tells struct {
	// Send tells the shop once, and returns within Timeout, also if ctx has not ended.
	Send    func(ctx context.Context, m *tell.Message) Reply
	Timeout time.Duration

	Events      []tell.Event    // the events to tell
	Retry       time.Duration   // how long the shop may refuse an order until that waits for a person
	Concurrency int             // messages on their way at once
	Intervals   []time.Duration // the pauses after a refusal; the last one repeats
	Sweep       time.Duration   // how often the API's lists of payments are read; 0 for never
	Sandbox     bool            // a payment of a test channel is told, although its barcode was not issued as one
}

// Reply is the shop's answer to a message.
type Reply struct {
	Verdict Verdict
	Cause   string // for the operator; it repeats nothing of the answer
}

// Verdict says what an answer of the shop means.
type Verdict int

// The values of Verdict.
const (
	Heard     Verdict = iota // the shop knows
	Refused                  // the shop answers, but does not take this order: it is told again after a pause
	Unheard                  // the shop is down, slow or broken: other orders would fare no better
	Withdrawn                // nothing was sent
)

// Happening is something that the shop is to hear, or has heard, of a payment.
type Happening struct {
	Event        tell.Event `json:"event"`
	Cancellation string     `json:"cancellation,omitzero"` // cancellation_id of the event Cancelled
	Seen         int64      `json:"seen"`                  // when a look-up showed it
	Done         int64      `json:"done,omitzero"`         // when the shop heard it, or it was found that it need not
}

// Telling is what is kept of telling the shop about an order.
type Telling struct {
	Until   int64  `json:"until,omitzero"`   // the end of the message that is on its way
	Next    int64  `json:"next,omitzero"`    // the next attempt is made no earlier
	Since   int64  `json:"since,omitzero"`   // since when the shop is to hear something
	Tries   int    `json:"tries,omitzero"`   // refusals in a row
	Looks   int    `json:"looks,omitzero"`   // look-ups that failed, since the shop heard something
	Spent   int64  `json:"spent,omitzero"`   // milliseconds of the pauses after them
	Cause   string `json:"cause,omitzero"`   // why the last attempt failed, or why it waits for a person
	Waiting int64  `json:"waiting,omitzero"` // since when it waits for a person; 0 if it does not
}

// Hint says that a payment is to be looked at: a notice, or a payment of the API's list that the
// row does not know as it is there.
type Hint struct {
	ImpUID       string `json:"imp_uid"`
	Status       string `json:"status,omitzero"`       // the notice's word; "" if it need only be looked at once
	Cancellation string `json:"cancellation,omitzero"` // cancellation_id of a notice
	ID           string `json:"id,omitzero"`           // cvs_id of a signed URL
	Amount       string `json:"amount,omitzero"`       // of a signed URL; "" if the notice is not signed
	Expires      int64  `json:"expires,omitzero"`      // of a signed URL
	At           int64  `json:"at"`                    // when it was noted
	Looks        int    `json:"looks,omitzero"`
	Looked       int64  `json:"looked,omitzero"` // when it was looked at last
	Next         int64  `json:"next"`            // when it is looked at next
}

// markOrder is the order number of an account's row. No order has it.
const markOrder = "\x00"

// Mark is how far an account's lists of payments have been read. Its row has the order number markOrder.
// Times are Unix seconds by the API's clock, unless said otherwise.
type Mark struct {
	Since     int64 `json:"since"`     // since when the shop is told, in Unix milliseconds by the clock that dates rows
	Born      int64 `json:"born"`      // likewise by the API's, some minutes earlier: what is older is history
	Paid      int64 `json:"paid"`      // the time of the last payment seen in the list of paid ones
	Cancelled int64 `json:"cancelled"` // likewise of cancelled ones
}

// Past says what of an order is history, of which the shop is not told: what took place before Born, if the
// barcode was asked for before Since. Both are as in Mark.
type Past struct {
	Since int64 `json:"since"`
	Born  int64 `json:"born"`
}

func (m *Mark) past() Past { return Past{m.Since, m.Born} }

// Queue names an order in which a store lists rows by time.
type Queue string

// Looks is the queue of all rows, by Row.Due.
const Looks Queue = ""

// TellQueue is the queue of an account's rows of which the shop is to hear something.
func TellQueue(account string) Queue { return Queue("tell " + account) }

// PersonQueue is the queue of an account's rows that wait for a person.
func PersonQueue(account string) Queue { return Queue("person " + account) }
