package client

// This file holds what the client knows of the attempts to issue a barcode for each
// order, by which the payment of one attempt is distinguished from that of another.

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// attempt is one POST /cvs.
type attempt struct {
	order    string
	began    time.Time
	issue    *Issue    // nil once it was answered
	impUID   string    // of the answer, "" while the attempt is under way or in doubt
	forgetAt time.Time // zero while the attempt is under way
}

// attempts holds, by order number, the attempts that are under way, and those that
// ended so recently that a look-up could confuse their payment with another's.
type attempts struct {
	mu       sync.Mutex
	byOrder  map[string][]*attempt
	answered []*attempt // recently, sorted by forgetAt
	inDoubt  []*attempt // likewise
}

func (as *attempts) start(i *Issue) *attempt {
	a := &attempt{order: strings.Clone(i.MerchantUID), began: time.Now(), issue: i} // the clone does not hold the body
	as.mu.Lock()
	defer as.mu.Unlock()
	as.answered, as.inDoubt = as.forgetOld(as.answered, a.began), as.forgetOld(as.inDoubt, a.began)
	if as.byOrder == nil {
		as.byOrder = make(map[string][]*attempt)
	}
	as.byOrder[a.order] = append(as.byOrder[a.order], a)
	return a
}

const (
	// rememberDoubt is the number of time-outs for which an attempt in doubt is remembered:
	// its payment may appear late.
	rememberDoubt = 4
	// maxClockError is the greatest error that is expected of the API's clock, besides half of
	// a time-out: a slow answer to getToken makes the clock uncertain by so much. See
	// apiClock.earliestSecond.
	maxClockError = 5 * time.Second
)

// finish notes how an attempt ended. An answered attempt is remembered for as long as
// the clocks do not tell which payment started first, an attempt in doubt for as long as
// the API may be at work on it.
func (as *attempts) finish(a *attempt, resp *Response, err error, timeout time.Duration) {
	as.mu.Lock()
	defer as.mu.Unlock()
	accepted := err == nil && resp.Err() == nil
	if accepted {
		a.impUID = strings.Clone(resp.impUID()) // the clone does not hold the answer
	}
	switch {
	case a.impUID != "":
		a.issue = nil
		a.forgetAt = time.Now().Add(timeout + maxClockError)
		as.answered = append(as.answered, a)
	case accepted || inDoubt(err):
		a.forgetAt = time.Now().Add(rememberDoubt * timeout)
		as.inDoubt = append(as.inDoubt, a)
	default: // nothing was done
		as.forget(a)
	}
}

// forgetOld forgets the attempts of a list whose forgetAt has passed. It runs with the next
// call, not by a timer, so that an idle account costs nothing.
func (as *attempts) forgetOld(list []*attempt, now time.Time) []*attempt {
	for len(list) > 0 && !list[0].forgetAt.After(now) {
		as.forget(list[0])
		list[0] = nil
		list = list[1:]
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// forget removes an attempt. The lock must be held.
func (as *attempts) forget(a *attempt) {
	rest := slices.DeleteFunc(as.byOrder[a.order], func(other *attempt) bool { return other == a })
	if as.byOrder[a.order] = rest; len(rest) == 0 {
		delete(as.byOrder, a.order)
	}
	if len(as.byOrder) == 0 {
		as.byOrder = nil // a map that once was large never shrinks
	}
}

// mayBeOfAnother reports whether a payment that matches the attempt may be the payment
// of another attempt: it was the answer to that one, or that one has no answer and would
// look the same. Two calls that differ only in their deadline look the same.
func (as *attempts) mayBeOfAnother(a *attempt, p *Payment) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	return slices.ContainsFunc(as.byOrder[a.order], func(other *attempt) bool {
		return other != a && (other.impUID == p.ImpUID || other.impUID == "" && other.issue.matches(p))
	})
}
