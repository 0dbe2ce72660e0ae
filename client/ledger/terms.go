package ledger

// This file holds what is compared of a POST /cvs, and what a look-up shows of a payment.

import (
	"cmp"
	"slices"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

// Terms are the parts of a POST /cvs that make it the same request as an earlier one, or another.
type Terms struct {
	Order      string
	Amount     string // in the form that decimal.Canonical gives
	Own        string // the merchant's own barcode, "" if GalaxiaMoneytree is to issue one
	PG         string
	ChannelKey string
	Deadline   int64        // Unix seconds by the API's clock, 0 for the contract's default
	Named      client.Named // what the app named itself: the gateway's configuration makes no other request
}

// TermsOf returns the terms of a completed call.
func TermsOf(i *client.Issue) Terms {
	return Terms{
		Order: i.MerchantUID, Amount: i.Amount, Own: i.Field("barcode"), PG: i.Field("pg"), ChannelKey: i.Field("channel_key"),
		Deadline: i.ExpiredAt, Named: i.Named,
	}
}

// Seen is a payment as the API shows it.
type Seen struct {
	ImpUID    string
	Order     string
	Amount    string // in the form that decimal.Canonical gives
	Barcode   string
	PGID      string
	Status    client.Status
	Refunded  bool     // it was paid, and paid back in part or as a whole
	StartedAt int64    // Unix seconds by the API's clock, 0 if it is not shown
	CVS       bool     // a POST /cvs can have made it
	Fields    []string // names of its members that have a value

	PaidAt        int64  // Unix seconds by the API's clock, 0 if it was not paid
	CancelAmount  string // what was paid back of it, in the form that decimal.Canonical gives; "0" if nothing is shown
	CancelledAt   int64  // Unix seconds by the API's clock, 0 if it was not cancelled
	Cancellations []client.OutlineCancellation
	Sandbox       bool // it is one of a test channel

	Answer *client.Response // the API's whole answer; nil for a payment of a list
}

// see reads a payment of an answer.
func see(p client.Outline, answer *client.Response) Seen {
	return Seen{
		ImpUID: p.ImpUID, Order: p.MerchantUID, Amount: p.Amount.Canonical(), Barcode: p.Barcode, PGID: p.PGID,
		Status: p.Status, StartedAt: p.StartedAt, CVS: p.MayBeCVS, Fields: p.Fields, Answer: answer,
		PaidAt: p.PaidAt, CancelAmount: cmp.Or(p.CancelAmount.Canonical(), "0"), CancelledAt: p.CancelledAt, Cancellations: p.Cancellations, Sandbox: p.Sandbox,
		Refunded: p.Status == client.StatusCancelled && p.PaidAt != 0 || decimal.Positive(p.CancelAmount.Canonical()),
	}
}

// state is the attempt's state that the payment's status stands for, "" if it is none that is
// known.
func (s *Seen) state() State {
	switch {
	case s.Refunded:
		return Refunded
	case s.Status == client.StatusReady:
		return Issued
	case s.Status == client.StatusPaid:
		return Paid
	case s.Status == client.StatusCancelled:
		return Void
	case s.Status == client.StatusFailed:
		return Failed
	default:
		return ""
	}
}

// hasAll reports whether the payment shows every field of a list.
func (s *Seen) hasAll(fields []string) bool {
	return !slices.ContainsFunc(fields, func(name string) bool { return !slices.Contains(s.Fields, name) })
}
