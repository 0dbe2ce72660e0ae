package client

// This file holds what is known of the calls for an order's barcode, by which the
// payment of one is told from that of another.

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
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

// otherMethods are the pay_methods that the API's schema names. There is none for
// convenience stores among them, so a payment by one of these is another.
var otherMethods = []string{
	"samsung", "card", "trans", "vbank", "phone", "cultureland", "culturegift", "smartculture", "booknlife", "point",
	"ssgpay", "lpay", "payco", "kakaopay", "tosspay", "naverpay", "applepay", "paypal",
}

// matches reports whether a payment is, by all that it shows, one that this request
// asks for. What the API adds of its own, such as a barcode's number, tells nothing.
func (i *Issue) matches(p *Payment) bool {
	if p.MerchantUID != i.MerchantUID || !decimal.Near(string(p.Amount), i.Amount) ||
		slices.Contains(otherMethods, string(p.PayMethod)) || !absentOr(string(p.Currency), "KRW") {
		return false
	}
	for _, shown := range [...]struct {
		field string
		value Text
	}{
		{"name", p.Name},
		{"buyer_name", p.BuyerName},
		{"buyer_email", p.BuyerEmail},
		{"buyer_tel", p.BuyerTel},
		{"buyer_addr", p.BuyerAddr},
		{"buyer_postcode", p.BuyerPostcode},
	} {
		if strings.TrimSpace(i.body.Get(shown.field).Text) != strings.TrimSpace(string(shown.value)) {
			return false
		}
	}
	if own := i.body.Get("barcode").Text; own != "" && !absentOr(p.Barcode(), own) {
		return false
	}
	if _, id, named := strings.Cut(i.body.Get("pg").Text, "."); named && !absentOr(string(p.PGID), id) {
		return false
	}
	return sameData(i.body, string(p.CustomData))
}

// absentOr reports whether a value is not shown, or is the wanted one.
func absentOr(shown, want string) bool { return shown == "" || shown == want }

// sameData compares custom_data, which comes back as the text of its JSON.
func sameData(b *strict.Body, shown string) bool {
	if b.MediaType() == strict.Form && b.Get("custom_data").Kind == strict.Absent && b.Has("custom_data") {
		return false // how the API puts custom_data[...] together is not known
	}
	sent := b.Get("custom_data")
	if sent.Missing() || shown == "" {
		return sent.Missing() && shown == ""
	}
	if sent.Kind == strict.String && sent.Text == shown {
		return true
	}
	raw := sent.Text // of a form
	if b.MediaType() == strict.JSON {
		raw = gjson.Get(b.Original(), "custom_data").Raw
	}
	var want, got any
	errWant := json.Unmarshal([]byte(raw), &want)
	errGot := json.Unmarshal([]byte(shown), &got)
	return errors.Join(errWant, errGot) == nil && reflect.DeepEqual(want, got)
}
