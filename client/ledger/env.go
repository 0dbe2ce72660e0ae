package ledger

// This file holds the times and limits by which the steps decide.

import (
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

const (
	// freshness is how long after the write of a hold a call may still be sent.
	freshness = 2 * time.Second
	// atTill is how long after an accepted confirm webhook the customer may still be paying.
	atTill = 3 * time.Minute
	// markAgain is how soon after an accepted confirm webhook another one makes a mark again.
	markAgain = 10 * time.Second
	// unknownDeadline is after how long a barcode whose deadline is not known is replaced.
	unknownDeadline = 72 * time.Hour
	// daily is how often a barcode whose deadline is not known is looked up, and unwatched when it
	// no longer is.
	daily     = 24 * time.Hour
	unwatched = 30 * daily
	// watchEvery is how often a void or a closed attempt is looked up after the first hour, and
	// watchPast how long after its deadline for the last time.
	watchEvery = 6 * time.Hour
	watchPast  = time.Minute
	// deadlineSlack is by how many seconds another deadline may be earlier and still count as the
	// same: the clocks of an app's servers differ.
	deadlineSlack = 5
)

// watchAfter is when a void or a closed attempt is looked up in the first hour.
var watchAfter = []time.Duration{time.Minute, 10 * time.Minute, time.Hour}

// tillAfter is when an order is looked up after an accepted confirm webhook.
var tillAfter = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute}

// env is what a step knows besides the row: it reads no clock itself.
type env struct {
	now      int64         // Unix milliseconds by this machine's clock
	api      int64         // Unix seconds by the API's clock
	timeout  time.Duration // of one call
	keep     time.Duration
	keys     signedurl.Keys
	earliest func(asked int64) int64 // the earliest second of the API's in which a payment can begin that is asked for then
}

// ago returns the time since a moment.
func (e *env) ago(moment int64) time.Duration { return milliseconds(e.now - moment) }

// in returns the moment that lies d ahead.
func (e *env) in(d time.Duration) int64 { return e.now + d.Milliseconds() }

// local returns the moment, by this machine's clock, of a second of the API's.
func (e *env) local(second int64) int64 { return e.now + (second-e.api)*1000 }

// settled is the time after which an attempt that was asked for and left no payment can make none
// any more: its call was sent within freshness, and the API is done with it within a time-out.
func (e *env) settled() time.Duration { return freshness + e.timeout }

// plan returns when an attempt is to be looked at next, 0 for never.
func (e *env) plan(a *Attempt) int64 {
	switch {
	case a.State == Asked && !a.Closed:
		return max(min(a.Asked, e.now)+e.settled().Milliseconds(), e.now)
	case a.Voiding && a.State == Issued:
		return e.in(watchAfter[0])
	case a.State == Issued && a.Deadline != 0:
		return e.local(a.Deadline) + atTill.Milliseconds()
	case a.State == Issued:
		return e.first(a.Since, daily, a.Since+unwatched.Milliseconds())
	case a.State == Void, a.State == Failed, a.Closed && a.State == Asked:
		for _, after := range watchAfter {
			if at := a.Since + after.Milliseconds(); at > e.now {
				return at
			}
		}
		end := a.Since + unknownDeadline.Milliseconds()
		if a.Deadline != 0 {
			end = e.local(a.Deadline) + watchPast.Milliseconds()
		}
		return e.first(a.Since, watchEvery, end)
	default:
		return 0
	}
}

// first returns the first moment in steps from a beginning that lies ahead, at most end; 0 if that
// has passed too.
func (e *env) first(from int64, step time.Duration, end int64) int64 {
	if end <= e.now {
		return 0
	}
	passed := max(e.now-from, 0) / step.Milliseconds()
	return min(from+(passed+1)*step.Milliseconds(), end)
}

// due returns when the row is to be looked at next. Without anything left to do it is dropped
// then.
func (e *env) due(r *Row) int64 {
	due := int64(0)
	sooner := func(at int64) {
		if at != 0 && (due == 0 || at < due) {
			due = at
		}
	}
	last := int64(0)
	for i := range r.Attempts {
		sooner(r.Attempts[i].Next)
		last = max(last, r.Attempts[i].Since)
	}
	if r.AtTill != 0 {
		for _, after := range tillAfter {
			if at := r.AtTill + after.Milliseconds(); at > e.now {
				sooner(at)
				break
			}
		}
	}
	if due == 0 {
		due = last + e.keep.Milliseconds()
	}
	return due
}

// replan corrects a row whose times lie in the future, because a clock was set back since, and
// plans anew what it must.
func (e *env) replan(r *Row) {
	r.AtTill = min(r.AtTill, e.now)
	again := e.in(pauseAfter(r.Tries))
	for i := range r.Attempts {
		a := &r.Attempts[i]
		if a.State != Asked { // else it says which payments may be the attempt's: see adopt
			a.Asked = min(a.Asked, e.now)
		}
		if a.Since > e.now {
			a.Since = e.now
			a.Next = e.plan(a)
		}
		if a.Next != 0 { // also if the plan has no further moment: the last look is still to come
			a.Next = min(a.Next, max(e.plan(a), again))
		}
	}
	r.Due = min(r.Due, e.due(r))
}
