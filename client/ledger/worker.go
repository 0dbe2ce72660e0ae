package ledger

// This file holds the worker: it looks at each order when it is due.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const (
	poll       = time.Second
	batch      = 64 // rows that are read at once
	atOnce     = 4  // rows that are worked on at once
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
			l.sweepIfNeeded(ctx)
			pause := poll
			if l.workOnce(ctx) == batch { // there may be more
				pause /= 100
			}
			if l.opts.clock.Sleep(ctx, pause, nil) != nil {
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

// workOnce works on the orders that are due, and returns their number.
func (l *Ledger) workOnce(ctx context.Context) int {
	var rows []*Row
	err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
		rows, err = s.Due(ctx, Looks, l.opts.clock.Now().wall, batch)
		return err
	})
	if err != nil {
		return 0
	}
	// Several nodes read the same rows.
	rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] }) //nolint:gosec // no secret
	places := make(chan struct{}, atOnce)
	var working sync.WaitGroup
	for _, row := range rows {
		places <- struct{}{}
		working.Go(func() {
			l.workOn(ctx, row)
			<-places
		})
	}
	working.Wait()
	return len(rows)
}

// workOn claims a row and does what is due. A step that panics is tried again later.
func (l *Ledger) workOn(ctx context.Context, row *Row) {
	acc := l.account(row.Account)
	if acc == nil {
		l.postpone(ctx, row, elsewhere)
		return
	}
	o := l.order(acc, row.Order)
	o.row, o.was = row, row.Version
	if o.hold.heldByAnother(row, l.opts.clock.Now()) != 0 {
		return // a call that is under way writes it
	}
	if !l.postpone(ctx, row, lease) {
		return
	}
	o.was = row.Version
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
	if o.row.Attempts == nil { // it was removed
		return
	}
	o.row.Tries, o.changed = 0, true
	_ = o.settle(ctx)
}

// postpone claims a row: nobody else looks at it before d has passed.
func (l *Ledger) postpone(ctx context.Context, row *Row, d time.Duration) bool {
	was := row.Version
	row.Version, row.Due = was+1, l.opts.clock.Now().wall+d.Milliseconds()
	return l.put(ctx, row, was, true) == nil
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
	e := o.l.env(o.acc)
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

// lookAtDue does what is due for the order's attempts. A row that has nothing left to do is
// removed.
func (o *order) lookAtDue(ctx context.Context) error {
	e := o.l.env(o.acc)
	e.replan(o.row)
	idle := true
	for i := range o.row.Attempts {
		idle = idle && o.row.Attempts[i].Next == 0
	}
	if idle && e.due(o.row) <= e.now {
		return o.drop(ctx)
	}
	atTill := o.row.AtTill != 0 && e.ago(o.row.AtTill) <= tillAfter[len(tillAfter)-1]+lease
	var failed error
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

// drop removes the row. Its attempts ended long ago.
func (o *order) drop(ctx context.Context) error {
	o.row.Attempts = nil
	return o.write(ctx, false)
}

// lookAt does what is due for one attempt.
func (o *order) lookAt(ctx context.Context, i int) error {
	a := &o.row.Attempts[i]
	e := o.l.env(o.acc)
	switch {
	case a.State == Asked:
		return o.lookFor(ctx, i)
	case a.Voiding && a.open():
		return o.void(ctx, i)
	}
	seen, err := o.acc.lookUp(ctx, a.ImpUID)
	switch {
	case errors.Is(err, client.ErrNotFound) && a.open() && e.over(a):
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
	switch state := seen.state(); {
	case state == "":
		return ErrSilent
	case state == Failed && a.open(), state == Issued && a.State == Failed: // a till may take it
		return o.void(ctx, i)
	case state == Issued && a.open() && e.over(a):
		a.raise(Expired, e)
	case state.paid() || a.open():
		if a.State == Void || a.State == Failed {
			o.report("a barcode was paid after it was voided", a.ImpUID, nil)
		}
		a.raise(state, e)
		o.row.yieldToPaid(e)
	}
	a.Looks++
	a.Next = e.plan(a)
	return nil
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
	before := o.l.env(o.acc)
	listed, err := o.acc.API.Payments(ctx, o.key.Order)
	if err != nil {
		return silent(err)
	}
	e := o.l.env(o.acc)
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

// sweepIfNeeded reads every row at first, once a day, and after a clock was set.
func (l *Ledger) sweepIfNeeded(ctx context.Context) {
	now := l.noteClock()
	l.mu.Lock()
	needed := l.clockSet || now.monotonic-l.swept.monotonic > daily
	if needed {
		l.swept, l.clockSet = now, false
	}
	l.mu.Unlock()
	if needed && !l.sweep(ctx) {
		l.mu.Lock()
		l.clockSet = true
		l.mu.Unlock()
	}
}

// noteClock returns the time, and notes if a clock was set since every row was read. Each time by
// which a row is planned is noted: the clock may be right again when the worker looks.
func (l *Ledger) noteClock() moment {
	now := l.opts.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockSet = l.clockSet || !now.sameClock(l.swept)
	return now
}

// sweep reads every row, a page at a time, and corrects those that would be looked at too late
// because a clock was set. It reports whether it came to the end.
func (l *Ledger) sweep(ctx context.Context) bool {
	for after := (Key{}); ; {
		var rows []*Row
		err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
			rows, err = s.List(ctx, after, batch)
			return err
		})
		if err != nil || ctx.Err() != nil {
			return false
		}
		for _, row := range rows {
			after = row.Key()
			l.correct(ctx, row)
		}
		if len(rows) < batch {
			return true
		}
		if l.opts.clock.Sleep(ctx, time.Millisecond, nil) != nil { // it is in no hurry
			return false
		}
	}
}

// correct makes a row due if it would be too late.
func (l *Ledger) correct(ctx context.Context, row *Row) {
	acc := l.account(row.Account)
	if acc == nil || row.Format > Format {
		return
	}
	planned := row.Clone()
	l.env(acc).replan(planned)
	if planned.Due < row.Due {
		_ = l.update(ctx, acc, row.Key(), true, func(row *Row, e *env) { e.replan(row) })
	}
}
