package client

// This file holds what is known of the calls for an order's barcode, by which the
// payment of one is told from that of another.

import (
	"slices"
	"sync"
	"time"
)

// attempt is one POST /cvs.
type attempt struct {
	order  string
	began  time.Time
	issue  *Issue    // until it is answered
	impUID string    // what was answered, "" while it is under way or in doubt
	until  time.Time // when it is forgotten
}

// orders holds, by order number, the attempts that are under way, and those that
// ended so short a time ago that a look-up could take their payment for another's.
type orders struct {
	mu       sync.Mutex
	attempts map[string][]*attempt
	answered []*attempt // that ended so, in the order in which they are forgotten
	inDoubt  []*attempt // likewise
}

func (o *orders) begin(i *Issue) *attempt {
	a := &attempt{order: i.MerchantUID, began: time.Now(), issue: i}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answered, o.inDoubt = o.prune(o.answered, a.began), o.prune(o.inDoubt, a.began)
	if o.attempts == nil {
		o.attempts = make(map[string][]*attempt)
	}
	o.attempts[a.order] = append(o.attempts[a.order], a)
	return a
}

const (
	// inDoubtFor is how many time-outs long an attempt in doubt is remembered, whose
	// payment may appear late.
	inDoubtFor = 4
	// clocksDiffer is how far the API's clock may be off, beside half of a time-out, by
	// which a slow token leaves it unknown: see State.earliest.
	clocksDiffer = 5 * time.Second
)

// end notes how an attempt ended. Its payment is remembered for as long as the clocks
// leave it unclear what began before what, its doubt for as long as the API may be at
// work.
func (o *orders) end(a *attempt, resp *Response, err error, timeout time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && resp.Err() == nil && resp.impUID() != "":
		a.impUID, a.issue = resp.impUID(), nil
		a.until = time.Now().Add(timeout + clocksDiffer)
		o.answered = append(o.answered, a)
	case err == nil && resp.Err() == nil || inDoubt(err):
		a.until = time.Now().Add(inDoubtFor * timeout)
		o.inDoubt = append(o.inDoubt, a)
	default: // nothing was done
		o.forget(a)
		return
	}
}

// prune forgets what need not be remembered any more. It comes with the next call, not
// by a timer: an account that is idle costs nothing.
func (o *orders) prune(list []*attempt, now time.Time) []*attempt {
	for len(list) > 0 && !list[0].until.After(now) {
		o.forget(list[0])
		list[0] = nil
		list = list[1:]
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// forget is called with the lock held.
func (o *orders) forget(a *attempt) {
	rest := slices.DeleteFunc(o.attempts[a.order], func(other *attempt) bool { return other == a })
	if o.attempts[a.order] = rest; len(rest) == 0 {
		delete(o.attempts, a.order)
	}
	if len(o.attempts) == 0 {
		o.attempts = nil // a map that once was large never shrinks
	}
}

// compare tells whether a payment that matches the attempt can be no other attempt's.
// It cannot tell if it was the answer to another one, behind which its own may stand,
// or if another one without an answer would look the same, as calls do which differ in
// their deadline only.
func (o *orders) compare(a *attempt, p *Payment) finding {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, other := range o.attempts[a.order] {
		if other != a && (other.impUID == p.ImpUID || other.impUID == "" && other.issue.matches(p)) {
			return unclear
		}
	}
	return matched
}
