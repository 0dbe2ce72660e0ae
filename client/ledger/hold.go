package ledger

// This file holds the hold of an order: who may send a POST or DELETE for it.

import (
	"context"
	"errors"
	"time"
)

// errStale withdraws a call whose hold was written too long ago: the process may have been stopped
// meanwhile, and another one may hold the order.
var errStale = errors.New("the hold was written too long ago")

// hold is one call's hold of an order.
type hold struct {
	id      string
	length  time.Duration
	written moment // when it was written last; zero if it never was
}

// holdSlack is by how much a hold may end later than one that was taken now: another node's clock is
// ahead, or another configuration's time-out is longer. What ends later still was written before the
// clock was set back.
const holdSlack = time.Minute

// longest is how long a call that was sent within freshness may take.
func longest(timeout time.Duration) time.Duration { return freshness + 2*timeout + time.Second }

// take writes the hold into a row that is about to be put.
func (h *hold) take(row *Row, now moment) {
	row.Holder, row.HeldUntil = h.id, now.wall+h.length.Milliseconds()
	h.written = now
}

// heldByAnother returns until when another call holds the row, 0 if none does.
func (h *hold) heldByAnother(row *Row, now moment) int64 {
	if row.Holder == "" || row.Holder == h.id || row.HeldUntil <= now.wall || row.HeldUntil > now.wall+(h.length+holdSlack).Milliseconds() {
		return 0
	}
	return row.HeldUntil
}

// free ends the hold in a row that is about to be put.
func (h *hold) free(row *Row) {
	if row.Holder == h.id {
		row.Holder, row.HeldUntil = "", 0
	}
}

// maySend returns a function that allows to send while the hold is fresh.
func (l *Ledger) maySend(h *hold) func() error {
	return func() error {
		if l.now().within(freshness, h.written) {
			return nil
		}
		return errStale
	}
}

// waiting is who waits in this process for the hold of an order to end.
type waiting struct {
	wake  chan struct{}
	count int
}

// wait waits until a moment, or until a hold of this process on the order ends.
func (l *Ledger) wait(ctx context.Context, key Key, d time.Duration) error {
	l.mu.Lock()
	w := l.waiting[key]
	if w == nil {
		w = &waiting{wake: make(chan struct{})}
		l.waiting[key] = w
	}
	w.count++
	l.mu.Unlock()
	err := l.opts.clock.Sleep(ctx, d, w.wake)
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.count--; w.count == 0 && l.waiting[key] == w {
		delete(l.waiting, key)
	}
	return err
}

// wake tells who waits that a hold has ended.
func (l *Ledger) wake(key Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.waiting[key]; w != nil {
		close(w.wake)
		delete(l.waiting, key)
	}
}
