package ledger

// This file holds Void: the app's own DELETE.

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// Void voids a barcode for the app: send makes the call, and its answer is returned as it is. If
// the ledger knows the payment, the call has its order's hold, and no till takes the barcode from
// then on. The errors are those of send, and ErrBusy.
func (l *Ledger) Void(ctx context.Context, acc *Account, impUID string, send func(maySend func() error) (*client.Response, error)) (*client.Response, error) {
	if l.Down() {
		return send(nil)
	}
	ctx = impatient(ctx)
	number, err := l.orderOf(ctx, acc.Name, impUID)
	if errors.Is(err, ErrBusy) {
		return nil, err
	}
	if err != nil {
		return send(nil) // not this ledger's, or it is down
	}
	v := &asking{order: l.order(acc, number), until: l.opts.clock.Now().monotonic + acc.Timeout}
	defer v.leave()
	for {
		resp, err := v.voidOnce(ctx, impUID, send)
		switch {
		case errors.Is(err, ErrDown):
			return send(nil)
		case !errors.Is(err, errAgain):
			return resp, err
		}
		if err := v.settle(ctx); err != nil || l.opts.clock.Now().monotonic > v.until {
			return nil, ErrBusy
		}
	}
}

// settling is the time in which another node writes what it has answered. The app may send its DELETE to
// this one before.
const settling = 100 * time.Millisecond

// orderOf returns the number of the order that has a payment, or ErrNotFound.
func (l *Ledger) orderOf(ctx context.Context, account, impUID string) (number string, err error) {
	l.mu.Lock()
	key, isFresh := l.fresh[payment{account, impUID}]
	l.mu.Unlock()
	if isFresh {
		return key.Order, nil
	}
	find := func(ctx context.Context, s Store) error {
		row, err := s.GetByImpUID(ctx, account, impUID)
		if err == nil {
			number = row.Order
		}
		return err
	}
	err = l.use(ctx, find)
	if errors.Is(err, ErrNotFound) && l.now().shared && l.opts.clock.Sleep(ctx, settling, nil) == nil {
		err = l.use(ctx, find)
	}
	return number, err
}

// voidOnce takes the hold and sends the call.
func (a *asking) voidOnce(ctx context.Context, impUID string, send func(maySend func() error) (*client.Response, error)) (*client.Response, error) {
	if err := a.read(ctx); err != nil {
		return nil, err
	}
	a.entered++
	if until := a.hold.heldByAnother(a.row, a.l.now()); until != 0 {
		return nil, a.pause(ctx, until)
	}
	i := a.row.find(&Attempt{ImpUID: impUID})
	if i < 0 || !a.row.Attempts[i].open() {
		return send(nil) // the API refuses it, or it makes no difference
	}
	before := a.row.Attempts[i]
	if err := a.beginVoid(ctx, i); err != nil {
		return nil, err
	}
	mine := &a.row.Attempts[i]
	resp, err := send(a.l.maySend(&a.hold))
	answered := err
	if err == nil {
		answered = resp.Err()
	}
	switch outcomeOf(answered) {
	case done:
		mine.raise(Void, a.env())
	case withdrawn:
		return nil, errAgain
	case notSent: // the app reads that nothing was done
		mine.Voiding, mine.Next = before.Voiding, before.Next
	case declined: // it may be paid: the worker looks at once
		mine.Next = a.env().now
	case outcomeOpen: // the worker voids it soon
	}
	return resp, err
}
