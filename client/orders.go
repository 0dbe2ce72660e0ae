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
	issue  *Issue // until it is answered
	impUID string // what was answered, "" while it is under way or in doubt
}

// orders holds, by order number, the attempts that are under way, and those that
// ended so short a time ago that a look-up could take their payment for another's.
type orders struct {
	mu       sync.Mutex
	attempts map[string][]*attempt
}

func (o *orders) begin(i *Issue) *attempt {
	a := &attempt{order: i.MerchantUID, began: time.Now(), issue: i}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempts == nil {
		o.attempts = make(map[string][]*attempt)
	}
	o.attempts[a.order] = append(o.attempts[a.order], a)
	return a
}

// inDoubtFor is how many time-outs long an attempt in doubt is remembered, whose
// payment may appear late.
const inDoubtFor = 4

// end notes how an attempt ended. Its payment is remembered for as long as the clocks
// leave it unclear what began before what, its doubt for as long as the API may be at
// work.
func (o *orders) end(a *attempt, resp *Response, err error, tolerance, timeout time.Duration) {
	var keep time.Duration
	impUID := ""
	switch {
	case inDoubt(err):
		keep = inDoubtFor * timeout
	case err == nil && resp.Err() == nil:
		impUID, keep = resp.impUID(), tolerance
	}
	if impUID != "" {
		o.mu.Lock()
		a.impUID, a.issue = impUID, nil
		o.mu.Unlock()
	}
	if keep == 0 {
		o.forget(a)
		return
	}
	time.AfterFunc(keep, func() { o.forget(a) })
}

func (o *orders) forget(a *attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rest := slices.DeleteFunc(o.attempts[a.order], func(other *attempt) bool { return other == a })
	if o.attempts[a.order] = rest; len(rest) == 0 {
		delete(o.attempts, a.order)
	}
	if len(o.attempts) == 0 {
		o.attempts = nil // a map keeps the room of a rush
	}
}

// whose tells whether a payment that matches the attempt is its own. It is another's
// if it was the answer to that one; and who can tell, if another is open that would
// look the same, as calls do which differ in their deadline only?
func (o *orders) whose(a *attempt, p *Payment) finding {
	o.mu.Lock()
	defer o.mu.Unlock()
	result := ours
	for _, other := range o.attempts[a.order] {
		switch {
		case other == a:
		case other.impUID == p.ImpUID:
			return others
		case other.impUID == "" && other.issue.matches(p):
			result = unclear
		}
	}
	return result
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
		slices.Contains(otherMethods, string(p.PayMethod)) || !unless(string(p.Currency), "KRW") {
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
	if own := i.body.Get("barcode").Text; own != "" && !unless(p.Barcode(), own) {
		return false
	}
	if _, id, named := strings.Cut(i.body.Get("pg").Text, "."); named && !unless(string(p.PGID), id) {
		return false
	}
	return sameData(i.body, string(p.CustomData))
}

// unless reports whether a value that is shown is the wanted one.
func unless(shown, want string) bool { return shown == "" || shown == want }

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
	var a, z any
	errA := json.Unmarshal([]byte(gjson.Get(b.Original(), "custom_data").Raw), &a)
	errZ := json.Unmarshal([]byte(shown), &z)
	return errors.Join(errA, errZ) == nil && reflect.DeepEqual(a, z)
}
