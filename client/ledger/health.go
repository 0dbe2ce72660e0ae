package ledger

// This file holds what an operator is shown of the ledger as a whole.

import (
	"context"
	"errors"
	"math"
	"time"
)

// Health says whether the store can be used.
type Health struct {
	Down  bool
	Since time.Time // by this machine's clock
	Err   error     // why it is down; nil if it was not opened yet
}

// Health returns whether the store can be used, as far as the calls and the worker have found. It does not
// wait for the store.
func (l *Ledger) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health
}

// noteUp notes that the store can be used. The lock must be held.
func (l *Ledger) noteUp() { l.health = Health{Since: l.machineTime()} }

// noteDown notes that the store cannot be used, and why, if that is known. The lock must be held.
func (l *Ledger) noteDown(err error) {
	if !l.health.Down {
		l.health = Health{Down: true, Since: l.machineTime()}
	}
	if err != nil {
		l.health.Err = err
	}
}

func (l *Ledger) machineTime() time.Time { return time.UnixMilli(l.opts.clock.Now().machine) }

// hurried limits how long a call waits for the store in all to the time until the end of ctx.
func hurried(ctx context.Context) context.Context {
	end, has := ctx.Deadline()
	if !has {
		return ctx
	}
	left := time.Until(end)
	return context.WithValue(ctx, patienceKey{}, &left)
}

// Probe reads something from the store. The error is ErrDown, or ErrSlow if the store does not answer
// before the end of ctx.
func (l *Ledger) Probe(ctx context.Context) error {
	_, err := l.get(hurried(ctx), Key{})
	return err
}

// Backlog is what the shop is still to hear.
type Backlog struct {
	Pending int   // orders with something that the shop is to hear, without those that wait for a person
	Waiting int   // orders that wait for a person
	Oldest  int64 // since when the shop is to hear of a pending one, in Unix milliseconds; 0 if none is pending
	Partial bool  // there may be more: not everything was read
}

// Backlog counts up to 1,000 orders of each kind and account, until ctx ends. The error is ErrDown, or
// ErrSlow if the store is slow.
func (l *Ledger) Backlog(ctx context.Context) (b Backlog, err error) {
	ctx = hurried(ctx)
	queues := 0
	for account := range l.present().Accounts {
		for _, queue := range []Queue{PersonQueue(account), TellQueue(account)} {
			var rows []*Row
			err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
				rows, err = s.Due(ctx, queue, math.MaxInt64, maxCounted)
				return err
			})
			switch {
			case errors.Is(err, ErrSlow) && queues > 0: // there are too many accounts for the time
				b.Partial = true
				return b, nil
			case err != nil:
				return b, err
			}
			queues++
			b.add(rows, queue == PersonQueue(account))
		}
	}
	return b, nil
}

// add counts the rows of a queue.
func (b *Backlog) add(rows []*Row, waiting bool) {
	b.Partial = b.Partial || len(rows) == maxCounted
	if waiting {
		b.Waiting += len(rows)
		return
	}
	b.Pending += len(rows)
	for _, row := range rows {
		if since := row.Telling.Since; b.Oldest == 0 || since < b.Oldest {
			b.Oldest = since
		}
	}
}
