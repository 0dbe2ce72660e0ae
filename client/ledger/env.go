package ledger

// This file holds the times and limits by which the steps decide.

import (
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

const (
	// freshness is how long after the write of a hold a call may still be sent.
	freshness = 2 * time.Second
	// atTill is how long after an accepted confirm webhook the customer may still be paying.
	atTill = 3 * time.Minute
	// lapseAfter is how long after its deadline a barcode is voided for which no confirm webhook was
	// accepted: the API's clock and that of the rows differ.
	lapseAfter = 10 * time.Second
	// voidAgain is when a barcode that the API refuses to void after its deadline is looked at again.
	voidAgain = time.Hour
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

// lookAfter is when a payment is looked at of which the shop is to hear, or of which a notice came:
// at once, and again after the last look-up if the API fails to show it. The last pause repeats.
var lookAfter = []time.Duration{0, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

// env is what a step knows besides the row: it reads no clock itself.
type env struct {
	now      int64         // Unix milliseconds by the clock that dates rows
	ahead    int64         // by how much that clock is ahead of this machine's
	own      bool          // it is this machine's: no store was up that has one
	api      int64         // Unix seconds by the API's clock
	timeout  time.Duration // of one call
	keep     time.Duration
	keys     signedurl.Keys
	tells    *Tells                  // nil if nobody is told
	mark     Mark                    // of the account, if somebody is
	atTill   int64                   // the row's
	earliest func(asked int64) int64 // the earliest second of the API's in which a payment can begin that is asked for then; 0 if unknown
	jitter   func(time.Duration) time.Duration
}

// ago returns the time since a moment.
func (e *env) ago(moment int64) time.Duration { return milliseconds(e.now - moment) }

// in returns the moment that lies d ahead.
func (e *env) in(d time.Duration) int64 { return e.now + d.Milliseconds() }

// local returns the moment, by the clock that dates rows, of a second of the API's.
func (e *env) local(second int64) int64 { return e.now + (second-e.api)*1000 }

// settled is the time after which an attempt that was asked for and left no payment can make none
// any more: its call was sent within freshness, and the API is done with it within a time-out.
func (e *env) settled() time.Duration { return freshness + e.timeout }

// plan returns when an attempt is to be looked at next, 0 for never.
func (e *env) plan(a *Attempt) int64 {
	switch {
	case a.State == Asked && !a.Closed:
		return max(min(a.Asked, e.now)+e.settled().Milliseconds(), e.now)
	case a.Voiding && a.State == Issued && a.Overdue: // the API refuses to void it yet: when nobody can be paying it
		return max(e.local(a.Deadline)+atTill.Milliseconds(), e.in(watchAfter[0]))
	case a.Voiding && a.State == Issued:
		return e.in(watchAfter[0])
	case a.State == Issued && a.Deadline != 0:
		return e.lapse(a)
	case a.State == Issued:
		return e.first(a.Since, daily, a.Since+unwatched.Milliseconds())
	case a.State.paid() && a.Verified == 0 && e.tells != nil: // the shop is to hear of it
		return e.in(lookAfter[min(a.Looks, len(lookAfter)-1)])
	case a.State == Expired && a.Closed && a.Overdue && !a.has(tell.Expired, ""):
		return a.Since + voidAgain.Milliseconds()
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

// lapse returns when a barcode with a known deadline is looked at for its end. A customer at the till
// may still be paying it.
func (e *env) lapse(a *Attempt) int64 {
	if !e.wants(tell.Expired) {
		return e.local(a.Deadline) + atTill.Milliseconds()
	}
	end := e.local(a.Deadline) + lapseAfter.Milliseconds()
	if e.atTill != 0 && e.atTill+atTill.Milliseconds() > e.now {
		end = max(end, e.atTill+atTill.Milliseconds())
	}
	return end
}

// wants reports whether the shop is told of an event.
func (e *env) wants(event tell.Event) bool {
	return e.tells != nil && slices.Contains(e.tells.Events, event)
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
	for i := range r.Hints {
		sooner(r.Hints[i].Next)
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
		if due = last + e.keep.Milliseconds(); r.Queue != "" { // what the shop has not heard is kept
			due = max(due, e.in(daily))
		}
	}
	return due
}

// missingAgain returns when a barcode that is to be looked at, and that the API does not know, is looked
// at again; 0 for one that is not.
func (e *env) missingAgain(a *Attempt) int64 {
	if a.State != Issued || a.Looks == 0 || e.plan(a) > e.now {
		return 0
	}
	return e.in(watchAfter[0] << min(a.Looks, 6))
}

// replan corrects a row whose times lie in the future, because a clock was set back since, and
// plans anew what it must.
func (e *env) replan(r *Row) {
	if r.Mark != nil {
		r.Mark.Since, r.Mark.Born = min(r.Mark.Since, e.now), min(r.Mark.Born, e.api)
		if e.tells != nil {
			r.Due = min(r.Due, e.in(e.tells.Sweep))
		}
		return
	}
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
			a.Next = min(a.Next, max(e.plan(a), again, e.missingAgain(a)))
		}
	}
	for i := range r.Hints {
		r.Hints[i].Next = min(r.Hints[i].Next, e.in(lookAfter[len(lookAfter)-1]))
	}
	r.replanTelling(e)
	r.Due = min(r.Due, e.due(r))
}
