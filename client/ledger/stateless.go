package ledger

// This file holds what is done without the store: while it is down, and where it is switched off.

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// issueWithout answers a POST /cvs without the store: the order's payments are listed first. A
// barcode's deadline is not known then. It is taken to live as long as the one that is asked for. until
// is as in ask: what has passed of it was spent with the store.
func (l *Ledger) issueWithout(ctx context.Context, acc *Account, r *Request, until time.Duration) (Answer, error) {
	bounded, cancel := context.WithTimeout(ctx, until-l.opts.clock.Now().monotonic)
	defer cancel()
	inDoubt := l.inDoubt(Key{acc.Name, r.Order}, l.env(acc).settled()) // before the list, which may lack what came later
	listed, err := acc.API.Payments(bounded, r.Order)
	if err != nil {
		return Answer{}, silent(err)
	}
	keep, replace := choose(listed, &r.Terms, acc.API.Now().Unix())
	for _, impUID := range replace {
		if err := voidWithout(bounded, acc, impUID); err != nil {
			return Answer{}, err
		}
	}
	if keep != "" {
		now := l.opts.clock.Now().monotonic
		seen, err := acc.API.Payment(bounded, keep)
		if err != nil {
			return Answer{}, silent(err)
		}
		if seen.state() != Issued {
			return Answer{}, ErrBusy // it has changed since it was listed
		}
		l.missReused(ctx, acc, r, &seen)
		return Answer{Response: seen.Answer, Reused: true, checked: now}, nil
	}
	if inDoubt {
		return Answer{}, ErrBusy
	}
	return l.sendWithout(ctx, acc, r)
}

// sendWithout makes the call of a new attempt that is not in the store.
func (l *Ledger) sendWithout(ctx context.Context, acc *Account, r *Request) (Answer, error) {
	e := l.env(acc)
	attempt := newAttempt(r.nextID(l.opts.newID), &r.Terms, e)
	seen, err := acc.API.Issue(ctx, r, attempt.ID, nil)
	outcome := issueOutcome(err)
	if outcome == done && seen.ImpUID != "" {
		attempt.ImpUID, attempt.Fields = seen.ImpUID, seen.Fields
		attempt.raise(Issued, e)
	}
	if attempt.State == Asked && (outcome == done || outcome == outcomeOpen) {
		l.doubt(Key{acc.Name, r.Order}, 2*e.settled())
	}
	if l.opts.Open != nil && (outcome == done || outcome == outcomeOpen) {
		l.miss(acc, missed{Key{acc.Name, r.Order}, attempt, e.own})
	}
	if seen.Answer != nil {
		return Answer{Response: seen.Answer}, nil
	}
	return Answer{}, err
}

// missReused remembers what was answered without the store, so that it is the order's barcode when the
// store is up again: its row may be missing, or have only the one that was voided.
func (l *Ledger) missReused(ctx context.Context, acc *Account, r *Request, seen *Seen) {
	if l.opts.Open == nil {
		return
	}
	e := l.env(acc)
	reused := newAttempt("", &r.Terms, e)
	reused.ImpUID, reused.Fields, reused.Deadline = seen.ImpUID, seen.Fields, 0
	if r.Deadline != 0 {
		reused.Deadline = seen.StartedAt + r.Deadline - e.api // as choose takes it
	}
	reused.raise(Issued, e)
	l.miss(acc, missed{Key{acc.Name, r.Order}, reused, e.own})
}

// doubt remembers, in this process, that the outcome of an order's call is not known. What was
// remembered longer than limit ago is forgotten.
func (l *Ledger) doubt(key Key, limit time.Duration) {
	now := l.opts.clock.Now().monotonic
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.doubts, func(_ Key, at time.Duration) bool { return now-at > limit })
	l.doubts[key] = now
}

// inDoubt reports whether the API may still be at work on a call of which no list shows anything.
func (l *Ledger) inDoubt(key Key, limit time.Duration) bool {
	now := l.opts.clock.Now().monotonic
	l.mu.Lock()
	defer l.mu.Unlock()
	at, found := l.doubts[key]
	return found && now-at < limit
}

// choose returns the payment to answer with, "" for none, and those to void first. An order that is
// paid has none.
func choose(listed []Seen, q *Terms, now int64) (keep string, replace []string) {
	life := int64(unknownDeadline / time.Second)
	if q.Deadline != 0 {
		life = q.Deadline - now
	}
	slices.SortStableFunc(listed, func(a, b Seen) int { return int(b.StartedAt - a.StartedAt) })
	paid := slices.ContainsFunc(listed, func(p Seen) bool { return p.Order == q.Order && p.state().paid() })
	for i := range listed {
		p := &listed[i]
		if !p.CVS || p.Order != q.Order || p.state() != Issued || p.ImpUID == keep { // pages may overlap
			continue
		}
		same := !paid && p.Amount == q.Amount && p.StartedAt+life > now && (q.Own == "" || p.Barcode == "" || p.Barcode == q.Own)
		if keep == "" && same {
			keep = p.ImpUID
			continue
		}
		replace = append(replace, p.ImpUID)
	}
	return keep, replace
}

// voidWithout voids a barcode without the store.
func voidWithout(ctx context.Context, acc *Account, impUID string) error {
	err := acc.void(ctx, impUID, nil)
	switch outcomeOf(err) {
	case done:
		return nil
	case notSent, withdrawn:
		return err
	case declined, outcomeOpen: // a look-up tells
	}
	seen, err := acc.lookUp(ctx, impUID)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return nil
	case err != nil:
		return err
	case seen.state() == Issued:
		return &NotVoidedError{impUID}
	default:
		return nil
	}
}

// occupy keeps other requests of this process away from an order, as a hold does in the store. It
// waits until a moment of the monotonic clock.
func (l *Ledger) occupy(ctx context.Context, key Key, until time.Duration) error {
	for {
		l.mu.Lock()
		taken := l.occupied[key] > 0
		if !taken {
			l.occupied[key] = 1
		}
		l.mu.Unlock()
		if !taken {
			return nil
		}
		left := until - l.opts.clock.Now().monotonic
		if left <= 0 || l.wait(ctx, key, min(left, time.Second)) != nil {
			return ErrBusy
		}
	}
}

// vacate ends occupy.
func (l *Ledger) vacate(key Key) {
	l.mu.Lock()
	l.occupied[key]--
	left := l.occupied[key]
	if left == 0 {
		delete(l.occupied, key)
	}
	l.mu.Unlock()
	if left == 0 {
		l.wake(key)
	}
}
