package ledger

// This file holds what every change of an order does: it reads the row, takes the hold, voids, and
// writes what came of it.

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// errAgain enters the table again: the row was written meanwhile, or the hold is not fresh any more.
var errAgain = errors.New("the row is to be read again")

// order is an order that a call or the worker is about to change.
type order struct {
	l       *Ledger
	acc     *Account
	key     Key
	hold    hold
	row     *Row     // this call's copy
	was     uint64   // the version of the stored row that it was made from
	waited  bool     // that one waited for a person
	changed bool     // the copy knows more than the stored row, or holds it
	dropped []string // ids of attempts that were never sent, or were refused
	again   int64    // when the shop is told again, after a message
	fresh   []string // imp_uids of barcodes that the store does not have yet
}

func (l *Ledger) order(acc *Account, number string) *order {
	return &order{l: l, acc: acc, key: Key{acc.Name, number}, hold: hold{id: l.opts.newID(), length: longest(acc.Timeout)}}
}

// env returns the times and limits for the order.
func (o *order) env() *env {
	e := o.l.env(o.acc)
	if o.row != nil {
		e.atTill = o.row.AtTill
	}
	return e
}

// read reads the row.
func (o *order) read(ctx context.Context) error {
	row, err := o.l.get(ctx, o.key)
	if err == nil {
		o.take(row)
	}
	return err
}

// take makes a row as it is stored this call's copy. A write that failed may have been done: then the row
// has an attempt that was never sent.
func (o *order) take(row *Row) {
	o.row, o.was, o.waited = row, row.Version, row.Telling.Waiting != 0
	o.changed = row.drop(o.dropped) || o.changed
}

// drop takes out attempts of which it is known that they have made nothing, and reports whether there were
// any.
func (r *Row) drop(ids []string) bool {
	n := len(r.Attempts)
	r.Attempts = slices.DeleteFunc(r.Attempts, func(a Attempt) bool {
		return a.State == Asked && a.ID != "" && slices.Contains(ids, a.ID)
	})
	return len(r.Attempts) < n
}

// write writes the copy and, with take, the hold. The error is errAgain if the row was written
// meanwhile.
func (o *order) write(ctx context.Context, take bool) error {
	e, changed := o.env(), o.changed
	if take {
		o.hold.take(o.row, o.l.now())
		o.changed = true
	}
	prepare(o.row, o.was, e)
	err := o.l.put(ctx, o.row, o.was, false)
	if errors.Is(err, ErrConflict) {
		o.changed = changed
		return errAgain
	}
	if err == nil {
		o.was = o.row.Version
	}
	return err
}

// settle writes what the copy knows more than the stored row, and ends the hold. The write may
// wait for another one: until it is done, the hold keeps others away, and if it is lost, a look-up
// restores it.
func (o *order) settle(ctx context.Context) error {
	if !o.changed {
		return nil
	}
	mine, dropped := o.row, o.dropped
	finish := func(row *Row, e *env) {
		row.drop(dropped)
		o.hold.free(row)
		row.yieldToPaid(e)
		e.replan(row)
	}
	e := o.env()
	finish(mine, e)
	prepare(mine, o.was, e)
	err := o.l.put(ctx, mine, o.was, true) // as a rule nobody else has written while this call had the hold
	if errors.Is(err, ErrConflict) {
		err = o.l.update(ctx, o.acc, o.key, true, func(row *Row, e *env) {
			merge(row, mine, o.waited)
			finish(row, e)
		})
	}
	o.changed = err != nil
	o.l.wake(o.key)
	return err
}

// announce lets the app's own DELETE find the order of a new barcode before the store has it.
func (o *order) announce(impUID string) {
	o.l.mu.Lock()
	defer o.l.mu.Unlock()
	o.l.fresh[payment{o.key.Account, impUID}] = o.key
	o.fresh = append(o.fresh, impUID)
}

// unannounce ends announce.
func (o *order) unannounce() {
	o.l.mu.Lock()
	defer o.l.mu.Unlock()
	for _, impUID := range o.fresh {
		delete(o.l.fresh, payment{o.key.Account, impUID})
	}
}

// leave is settle after the answer. It goes on while the store is slow or down: what the answer said may
// be known here only.
func (o *order) leave() {
	if !o.changed {
		o.unannounce()
		return
	}
	o.l.opts.spawn(func() {
		defer o.unannounce()
		for {
			err := o.settle(context.Background())
			if !errors.Is(err, ErrDown) && !errors.Is(err, ErrSlow) || o.l.isClosed() {
				return
			}
			_ = o.l.opts.clock.Sleep(context.Background(), poll, o.l.closed)
		}
	})
}

// report tells the operator.
func (o *order) report(message, impUID string, err error) {
	o.l.opts.Report(Event{Message: message, Key: o.key, ImpUID: impUID, Err: err})
}

func (o *order) reportAs(kind EventKind, message, impUID string) {
	o.l.opts.Report(Event{Message: message, Key: o.key, ImpUID: impUID, Kind: kind})
}

// void voids the payment of an attempt, or gives it up if the API does not void it after its
// deadline. What the attempt has become is in the copy of the row afterwards, and not written. It is
// written before the call that the barcode is to be voided, so that no till takes it from then on,
// whatever becomes of this process.
func (o *order) void(ctx context.Context, i int) error {
	impUID := o.row.Attempts[i].ImpUID
	for try := 1; ; try++ {
		if err := o.beginVoid(ctx, i); err != nil {
			return err
		}
		a := &o.row.Attempts[i]
		err := o.acc.void(ctx, impUID, o.l.maySend(&o.hold))
		switch outcome := outcomeOf(err); outcome {
		case done:
			a.raise(Void, o.env())
			return nil
		case withdrawn:
			return errAgain
		case notSent:
			return err
		case declined, outcomeOpen:
			ended, err := o.afterVoid(ctx, i)
			if ended || err != nil {
				return err
			}
			if e := o.env(); e.over(a) {
				a.Closed, a.Voiding = true, false
				a.raise(Expired, e)
				return nil
			}
			if outcome == declined || try > 1 {
				return &NotVoidedError{impUID}
			}
		}
	}
}

// beginVoid writes that an attempt's barcode is to be voided, and takes the hold.
func (o *order) beginVoid(ctx context.Context, i int) error {
	a := &o.row.Attempts[i]
	before := *a
	a.Voiding, a.Next = true, o.env().in(watchAfter[0])
	err := o.write(ctx, true)
	if errors.Is(err, errAgain) {
		*a = before // by the row as it is now the barcode may have to live: the customer may have come to the till
	}
	return err
}

// afterVoid looks up what became of a payment whose void was refused, or is in doubt. It reports
// whether it can be paid no more.
func (o *order) afterVoid(ctx context.Context, i int) (ended bool, err error) {
	a := &o.row.Attempts[i]
	seen, err := o.acc.lookUp(ctx, a.ImpUID)
	if errors.Is(err, client.ErrNotFound) {
		a.raise(Failed, o.env())
		return true, nil
	}
	if err != nil {
		return false, err
	}
	switch state := seen.state(); state {
	case "":
		return false, ErrSilent
	case Issued:
		return false, nil
	default:
		a.raise(state, o.env())
		return true, nil
	}
}
