package ledger

// This file holds what the worker does for an order that is due.

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// lookAtDue does what is due for the order's attempts. A row that has nothing left to do is
// removed.
func (o *order) lookAtDue(ctx context.Context) error {
	e := o.env()
	e.replan(o.row)
	idle := o.row.Queue == "" && len(o.row.Hints) == 0
	for i := range o.row.Attempts {
		idle = idle && o.row.Attempts[i].Next == 0
	}
	if idle && e.due(o.row) <= e.now { // its attempts ended long ago
		o.row.Attempts = nil
		return nil
	}
	atTill := o.row.AtTill != 0 && e.ago(o.row.AtTill) <= tillAfter[len(tillAfter)-1]+lease
	failed := o.lookAtHints(ctx)
	if errors.Is(failed, errAgain) {
		return failed
	}
	for i := 0; i < len(o.row.Attempts); i++ {
		a := &o.row.Attempts[i]
		if a.Next != 0 && a.Next <= e.now || atTill && a.open() {
			err := o.lookAt(ctx, i)
			if errors.Is(err, errAgain) {
				return err
			}
			failed = cmp.Or(failed, err) // a barcode that the API refuses to void hides no other one
		}
	}
	return failed
}

// lookAt does what is due for one attempt.
func (o *order) lookAt(ctx context.Context, i int) error {
	a := &o.row.Attempts[i]
	e := o.env()
	switch {
	case a.State == Asked:
		return o.lookFor(ctx, i)
	case a.Voiding && a.open():
		return o.voidDue(ctx, i)
	}
	seen, err := o.acc.lookUp(ctx, a.ImpUID)
	switch {
	case errors.Is(err, client.ErrNotFound) && (a.State == Expired && a.Closed || a.open() && e.over(a)):
		a.raise(Failed, e)
		return nil
	case errors.Is(err, client.ErrNotFound) && a.open(): // it may be a look-up that lags
		a.Looks++
		a.Next = e.in(watchAfter[0] << min(a.Looks, 6))
		return nil
	case errors.Is(err, client.ErrNotFound):
		a.Looks++
		a.Next = e.plan(a)
		return nil
	case err != nil:
		return err
	}
	return o.saw(ctx, i, seen)
}

// saw does what follows from what a look-up showed of an attempt's payment.
func (o *order) saw(ctx context.Context, i int, seen *Seen) error {
	a, e := &o.row.Attempts[i], o.env()
	if seen.Order != o.key.Order {
		return errOtherOrder
	}
	switch state := seen.state(); {
	case state == "":
		return ErrSilent
	case state == Failed && a.open(), state == Issued && a.State == Failed: // a till may take it
		return o.void(ctx, i)
	case state == Issued && a.open() && a.Voiding: // when that is due, however often a notice has it looked at
		return nil
	case state == Issued && a.open() && e.wants(tell.Expired) && a.Deadline != 0 && e.lapse(a) <= e.now:
		a.Overdue = true
		return o.voidDue(ctx, i)
	case state == Issued && a.open() && e.over(a):
		a.raise(Expired, e)
	case !state.paid() && a.State == Expired && a.Overdue: // the API has refused to void it
		waited := e.ago(a.Since)
		o.row.observe(i, seen, e)
		if a.State != Expired || waited >= voidAgain { // and nobody paid it
			o.row.happen(i, tell.Expired, "", a.Deadline, e)
		}
	case state.paid() || a.open() || state == a.State:
		o.reportPaid(a, state)
		lapsed := e.wants(tell.Expired) && a.lapsed(seen)
		o.row.observe(i, seen, e)
		if o.row.yieldToPaid(e); lapsed {
			o.row.happen(i, tell.Expired, "", a.Deadline, e)
		}
	}
	a.Looks++
	a.Next = e.plan(a)
	return nil
}

// lapsed reports whether a look-up shows for the first time that the barcode is void because of its
// deadline: the API did it, or this gateway, and then did not learn of it.
func (a *Attempt) lapsed(seen *Seen) bool {
	return seen.state() == Void && a.open() && a.Deadline != 0 && (a.Overdue || !a.Voiding && seen.CancelledAt >= a.Deadline)
}

// reportPaid tells the operator of a payment that should not have been possible. It may have become
// known by a void that the API refused, or by a request of the app.
func (o *order) reportPaid(a *Attempt, state State) {
	isKnown := func(a *Attempt) bool { return a.State.paid() && (o.acc.Tells == nil || a.has(tell.Paid, "")) }
	if !state.paid() || isKnown(a) {
		return
	}
	if a.State == Void || a.State == Failed {
		o.report("a barcode was paid after it was voided", a.ImpUID, nil)
	}
	if slices.ContainsFunc(o.row.Attempts, func(other Attempt) bool { return isKnown(&other) }) {
		o.reportAs(PaidTwice, "a second barcode of an order was paid: the customer has paid twice", a.ImpUID)
	}
}

// voidDue voids a barcode for the worker. One whose deadline has passed, and that the API does not void
// yet, is tried again when no customer can be paying it any more.
func (o *order) voidDue(ctx context.Context, i int) error {
	err := o.void(ctx, i)
	a, e := &o.row.Attempts[i], o.env()
	if _, refused := errors.AsType[*NotVoidedError](err); refused && a.Overdue {
		a.Next = e.plan(a)
		return nil
	}
	if err == nil && a.Overdue && a.State == Void {
		o.row.happen(i, tell.Expired, "", a.Deadline, e)
	}
	return err
}

// over reports whether no till takes the barcode any more, because of its deadline.
func (e *env) over(a *Attempt) bool {
	if a.Deadline == 0 {
		return e.ago(a.Since) >= unwatched
	}
	return e.local(a.Deadline)+atTill.Milliseconds() <= e.now
}

// lookFor lists the payments of an order whose attempt has no outcome, or was closed without one.
func (o *order) lookFor(ctx context.Context, i int) error {
	before := o.env()
	listed, err := o.acc.API.Payments(ctx, o.key.Order)
	if err != nil {
		return silent(err)
	}
	e := o.env()
	a := &o.row.Attempts[i]
	if !a.Closed {
		resolve(o.row, i, known{listed: listed, listedAt: before.now}, e)
		return nil
	}
	if id := a.ID; adopt(o.row, i, listed, e) {
		a = &o.row.Attempts[o.row.find(&Attempt{ID: id})]
		o.report("the payment of an attempt that was given up has appeared: it is voided, or was paid", a.ImpUID, nil)
		return nil
	}
	a.Looks++
	a.Next = e.plan(a)
	return nil
}
