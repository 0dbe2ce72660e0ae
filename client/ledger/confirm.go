package ledger

// This file holds what the ledger says about a confirm webhook.

import (
	"context"
	"errors"
)

// Standing is what the ledger knows of the barcode of a confirm webhook.
type Standing int

// The values of Standing.
const (
	Unknown  Standing = iota // nothing: the order checks decide
	Current                  // it is the order's one barcode
	Marked                   // likewise, and MarkAtTill was called for it a moment ago
	Replaced                 // it was voided, or another one was answered for the order
	PaidElse                 // another barcode of the order is paid
)

// Standing returns what the ledger knows of the barcode with this attempt's id and payment.
func (l *Ledger) Standing(ctx context.Context, key Key, id, impUID string) (Standing, error) {
	row, err := l.Row(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return Unknown, nil
	case err != nil:
		return Unknown, err
	}
	standing := row.standing(id, impUID)
	if standing == Current && milliseconds(l.now().wall-row.AtTill).Abs() < markAgain {
		return Marked, nil
	}
	return standing, nil
}

// Row returns what is kept of an order, or ErrNotFound.
func (l *Ledger) Row(ctx context.Context, key Key) (row *Row, err error) {
	err = l.use(ctx, func(ctx context.Context, s Store) (err error) {
		row, err = s.Get(ctx, key)
		return err
	})
	return row, err
}

// standing finds the payment by its number if it knows the id: what was answered for one attempt may
// be the late payment of another, which has that one's id in its URLs.
func (r *Row) standing(id, impUID string) Standing {
	i := r.find(&Attempt{ID: id})
	if i < 0 {
		return Unknown
	}
	if payment := r.find(&Attempt{ImpUID: impUID}); payment >= 0 {
		i = payment
	}
	newer := false
	for n := range r.Attempts {
		a := &r.Attempts[n]
		if n != i && a.State.paid() {
			return PaidElse
		}
		newer = newer || n > i && a.open()
	}
	switch a := &r.Attempts[i]; {
	case newer, a.Closed, a.Voiding, a.State == Void, a.State == Failed, a.ImpUID != "" && a.ImpUID != impUID:
		return Replaced
	default:
		return Current
	}
}

// MarkAtTill notes that a confirm webhook was accepted: the customer is about to pay. Without the mark
// the barcode could be replaced while the customer pays: the API then decides which comes first.
func (l *Ledger) MarkAtTill(ctx context.Context, key Key) {
	acc := l.account(key.Account)
	if acc == nil {
		return
	}
	_ = l.update(ctx, acc, key, true, func(row *Row, e *env) { row.AtTill = e.now })
}
