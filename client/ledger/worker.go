package ledger

// This file holds the worker: it looks at each order when it is due.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	poll       = time.Second
	batch      = 64   // rows that are read at once
	maxBatch   = 4096 // likewise, behind rows that are held, or whose account has no calls left
	atOnce     = 8    // rows that are worked on at once
	lease      = time.Minute
	retryFirst = 10 * time.Second
	retryLimit = 10 * time.Minute
	tellAfter  = 3                // failures in a row until the operator is told
	elsewhere  = 10 * time.Minute // until a row is read again whose account this node does not have
)

// Work looks at the orders that are due until Close. It is called once, after Use.
func (l *Ledger) Work() {
	ctx, cancel := context.WithCancel(context.Background())
	l.spawn(func() { <-l.closed; cancel() }) // first: after Close has begun, nothing more is started
	l.spawn(func() {
		for ctx.Err() == nil {
			l.reviewIfNeeded(ctx)
			pause := poll
			if l.workOnce(ctx) >= batch/2 { // there may be more
				pause /= 100
			}
			if l.opts.clock.Sleep(ctx, pause, l.working) != nil {
				return
			}
		}
	})
	l.spawn(func() {
		for ctx.Err() == nil {
			l.tellAll(ctx)
			if l.opts.clock.Sleep(ctx, poll, l.telling) != nil {
				return
			}
		}
	})
}

// sameClock reports whether no clock was set between two moments.
func (m moment) sameClock(before moment) bool {
	const slack = 2 * time.Second
	return (milliseconds(m.wall-before.wall) - (m.monotonic - before.monotonic)).Abs() <= slack
}

// workOnce works on the orders that are due, and returns how many it worked on. It waits a moment only for
// those that the API keeps waiting: others may become due meanwhile. If it could not work on most of
// those that it read, it reads more the next time: there may be others behind them.
func (l *Ledger) workOnce(ctx context.Context) int {
	var rows []*Row
	limit := max(l.limit, batch)
	err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
		rows, err = s.Due(ctx, Looks, l.now().wall, limit)
		return err
	})
	if err != nil {
		return 0
	}
	var worked atomic.Int64
	// Several nodes read the same rows.
	rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] }) //nolint:gosec // no secret
	var working sync.WaitGroup
	for _, row := range rows {
		select {
		case l.places <- struct{}{}:
		case <-ctx.Done(): // also if nothing gives its place back, because Close has begun
			return int(worked.Load())
		}
		working.Add(1)
		l.opts.spawn(func() {
			defer func() { <-l.places; working.Done() }()
			if l.workOn(ctx, row) {
				worked.Add(1)
			}
		})
	}
	ended := make(chan struct{})
	l.opts.spawn(func() { working.Wait(); close(ended) })
	_ = l.opts.clock.Sleep(ctx, poll, ended)
	done := int(worked.Load())
	if l.limit = batch; len(rows) == limit && done < limit/2 {
		l.limit = min(2*limit, maxBatch)
	}
	return done
}

// workOn claims a row and does what is due, and reports whether it did. A step that panics is tried again
// later.
func (l *Ledger) workOn(ctx context.Context, row *Row) bool {
	acc := l.account(row.Account)
	if acc == nil {
		return l.postpone(ctx, row, elsewhere)
	}
	if !l.budget(acc.Name).ready() || acc.Tells != nil && !l.hasMark(ctx, acc) {
		return false
	}
	acc = l.inBackground(acc)
	if row.Mark != nil {
		return l.sweepAccount(ctx, acc, row)
	}
	o := l.order(acc, row.Order)
	o.take(row)
	if o.hold.heldByAnother(row, l.now()) != 0 {
		return false // a call that is under way writes it
	}
	if !l.postpone(ctx, row, lease) {
		return false
	}
	o.was = row.Version
	o.work(ctx)
	return true
}

// work does what is due for a row that is claimed.
func (o *order) work(ctx context.Context) {
	waited := o.row.Telling.Waiting
	defer func() {
		if problem := recover(); problem != nil {
			o.fail(ctx, fmt.Errorf("panic: %v", problem))
		}
	}()
	limited, cancel := context.WithTimeout(ctx, lease/2)
	defer cancel()
	if err := o.lookAtDue(limited); err != nil && !errors.Is(err, errAgain) {
		o.fail(ctx, err)
		return
	}
	o.row.Tries, o.changed = 0, true
	_ = o.settle(ctx)
	if t := &o.row.Telling; t.Waiting != 0 && waited == 0 {
		o.reportAs(GaveUp, "an order waits for a person before the shop is told of it: "+t.Cause, "")
	}
}

// postpone claims a row: nobody else looks at it before d has passed.
func (l *Ledger) postpone(ctx context.Context, row *Row, d time.Duration) bool {
	was := row.Version
	row.Version, row.Due = was+1, l.now().wall+d.Milliseconds()
	if l.put(ctx, row, was, true) != nil {
		row.Version = was // else a later write could pass for that of who was first
		return false
	}
	return true
}

// pauseAfter returns how long the worker waits after so many failures in a row.
func pauseAfter(tries int) time.Duration {
	if tries == 0 {
		return 0
	}
	return min(retryFirst<<min(tries-1, 10), retryLimit)
}

// fail has the worker try again later, each time after a longer pause.
func (o *order) fail(ctx context.Context, err error) {
	e := o.env()
	o.row.Tries++
	again := e.in(pauseAfter(o.row.Tries))
	for i := range o.row.Attempts {
		if a := &o.row.Attempts[i]; a.Next != 0 && a.Next < again {
			a.Next = again
		}
	}
	if o.row.Tries == tellAfter {
		o.report("an order's payments could not be looked at several times, and will be again", "", err)
	}
	o.changed = true
	_ = o.settle(ctx)
}
