//go:build !race

package acceptance

// This file holds what the crash run may not find: judgements of answers and scans.

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// The events that must not happen.
const (
	twoTaken     = "ORDERS WITH TWO BARCODES THAT THE TILL TAKES"
	unknownTaken = "BARCODES THAT THE TILL TAKES AND NO APP KNOWS"
	refusedKnown = "BARCODES OF APPS THAT THE TILL REFUSES"
	noAnswer     = "ORDERS WITHOUT A BARCODE IN THE END"
	otherOrder   = "ANSWERS WITH ANOTHER ORDER'S BARCODE"
	otherRequest = "ANSWERS WITH ANOTHER AMOUNT OR DEADLINE"
	outdated     = "ANSWERS WITH AN OUTDATED BARCODE"
	inexistent   = "ANSWERS WITH A BARCODE THAT DOES NOT EXIST"
)

// mistakes are printed in this order.
var mistakes = []string{twoTaken, unknownTaken, refusedKnown, noAnswer, otherOrder, otherRequest, outdated, inexistent}

// crashJudge compares what the apps know with what the API and the till know.
type crashJudge struct {
	payments map[string]emulator.Payment
	voided   map[string]time.Time // when, at the latest
	counts   faultCounts
	found    []string
}

func newCrashJudge(payments []emulator.Payment, voided map[string]time.Time) *crashJudge {
	j := &crashJudge{payments: make(map[string]emulator.Payment), voided: voided}
	for _, p := range payments {
		j.payments[p.ImpUID] = p
	}
	return j
}

// judge judges all that happened to an order.
func (j *crashJudge) judge(o *crashOrder) {
	for _, a := range o.asks {
		if a.impUID == "" {
			continue
		}
		if mistake := j.ofAnswer(o, a); mistake != "" {
			j.note(mistake, o, a.impUID)
		}
	}
	j.scans(o)
}

func (j *crashJudge) note(mistake string, o *crashOrder, detail any) {
	j.counts.add(mistake)
	j.found = append(j.found, fmt.Sprintf("%s: order %s: %v\n%s", mistake, o.id, detail, j.history(o)))
}

// history tells what happened to an order, in milliseconds since it was first asked for. The API
// tells times in whole seconds.
func (j *crashJudge) history(o *crashOrder) string {
	type event struct {
		at   time.Time
		text string
	}
	var events []event
	add := func(at time.Time, format string, args ...any) {
		events = append(events, event{at, fmt.Sprintf(format, args...)})
	}
	for n, a := range o.asks {
		add(a.began, "ask %d: %d won until %d", n, a.request.amount, a.request.deadline)
		add(a.ended, "ask %d: %d, code %d, reused %v, %s %s", n, a.status, a.code, a.reused, a.impUID, a.message)
	}
	for n, d := range o.voids {
		add(d.began, "DELETE %d of the app", n)
		add(d.ended, "DELETE %d: answered %v", n, d.answered)
	}
	for _, p := range j.payments {
		if p.MerchantUID == o.id {
			add(time.Unix(p.StartedAt, 0), "%s: issued in this second, %v won until %d, %s", p.ImpUID, p.Amount, p.ExpiredAt, p.Status)
			if at, void := j.voided[p.ImpUID]; void {
				add(at, "%s: void", p.ImpUID)
			}
		}
	}
	for _, s := range o.scans {
		add(s.ended, "scan of %s: accepted %v %s", s.impUID, s.accepted, s.reason)
	}
	slices.SortFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	var text strings.Builder
	for _, e := range events {
		fmt.Fprintf(&text, "%8d %s\n", e.at.Sub(o.asks[0].began).Milliseconds(), e.text)
	}
	return text.String()
}

// ofAnswer returns what is wrong with an answer that has a barcode, or "".
func (j *crashJudge) ofAnswer(o *crashOrder, a *crashAsk) string {
	p, exists := j.payments[a.impUID]
	switch {
	case !exists || p.Barcode != a.barcode:
		return inexistent
	case p.MerchantUID != o.id || a.merchantUID != o.id:
		return otherOrder
	case int(p.Amount) != a.request.amount || a.amount != a.request.amount || !fitsDeadline(a, p.ExpiredAt):
		return otherRequest
	case a.state != "ready" || p.ExpiredAt < a.began.Unix() || j.voidedBefore(o, a):
		return outdated
	}
	for _, s := range o.scans {
		if s.accepted && s.impUID == a.impUID && s.ended.Before(a.began) {
			return outdated
		}
	}
	return ""
}

// fitsDeadline reports whether a barcode's deadline is near enough to the one that the app named: later
// by a few seconds at most, and not earlier by more than half of the time that the barcode has left. If the
// app names none, any deadline fits: a page reload must not void the voucher in the customer's hand.
func fitsDeadline(a *crashAsk, deadline int64) bool {
	const slack = 5 // seconds
	named, left := a.request.deadline, max(deadline-a.began.Unix(), 0)
	return named == 0 || deadline <= named+slack && named-deadline <= left/2+1
}

// voidedBefore reports whether the barcode of an answer was void when the app got it. It is no
// mistake if the app itself had it voided while it waited: by its own DELETE, or by asking for
// something else.
func (j *crashJudge) voidedBefore(o *crashOrder, a *crashAsk) bool {
	at, void := j.voided[a.impUID]
	if !void || at.After(a.ended) {
		return false
	}
	if at.Before(a.began) {
		return true
	}
	const longest = 6 * crashTimeout // a call whose app has left goes on for some time
	concurrent := func(began, ended time.Time, answered bool) bool {
		return began.Before(at) && (ended.After(a.began) || !answered && a.began.Sub(ended) < longest)
	}
	for _, d := range o.voids {
		if concurrent(d.began, d.ended, d.answered) {
			return false
		}
	}
	for _, b := range o.asks {
		if b.request != a.request && concurrent(b.began, b.ended, b.status == http.StatusOK) {
			return false
		}
	}
	return true
}

// paid reports whether the customer paid before the last answer.
func (o *crashOrder) paid() bool {
	for _, s := range o.scans {
		if s.accepted && !s.final {
			return true
		}
	}
	return false
}

// leftAtTill reports whether the last answer may say that the barcode is at the till: a scan was
// accepted, and the till did not learn of it.
func (o *crashOrder) leftAtTill() bool {
	return o.last.status == http.StatusConflict && len(o.scans) > 0 && !o.scans[0].final
}

// scans compares what the till took with what the app knows.
func (j *crashJudge) scans(o *crashOrder) {
	var taken []string
	known := o.last.impUID
	for _, s := range o.scans {
		if s.accepted {
			taken = append(taken, s.impUID)
		}
	}
	if len(taken) > 1 {
		j.note(twoTaken, o, taken)
	}
	if o.paid() || o.leftAtTill() {
		return
	}
	if known == "" {
		j.note(noAnswer, o, o.last.message)
	}
	for _, s := range o.scans {
		switch {
		case s.accepted && s.impUID != known:
			j.note(unknownTaken, o, s.impUID)
		case !s.accepted && s.impUID == known && s.final && len(taken) == 0:
			j.note(refusedKnown, o, s.impUID)
		}
	}
}

// Each mistake is found, and what only looks like one is not.
func TestCrashJudge(t *testing.T) {
	t.Parallel()
	began := time.Now()
	second := func(n float64) time.Time { return began.Add(time.Duration(n * float64(time.Second))) }
	expires := second(72 * 3600).Unix()
	payment := emulator.Payment{ImpUID: "imp_1", MerchantUID: "o", Barcode: "1", Amount: 15000, ExpiredAt: expires}
	answer := crashAsk{
		request: crashRequest{amount: 15000, deadline: expires}, began: second(0), ended: second(1), status: 200,
		impUID: "imp_1", merchantUID: "o", barcode: "1", amount: 15000, state: "ready",
	}
	for name, tc := range map[string]struct {
		change func(o *crashOrder, a *crashAsk, p *emulator.Payment)
		voided time.Time
		want   string
	}{
		"right":                {},
		"another payment":      {change: func(_ *crashOrder, a *crashAsk, _ *emulator.Payment) { a.impUID = "imp_2" }, want: inexistent},
		"another barcode":      {change: func(_ *crashOrder, a *crashAsk, _ *emulator.Payment) { a.barcode = "2" }, want: inexistent},
		"another order's":      {change: func(_ *crashOrder, _ *crashAsk, p *emulator.Payment) { p.MerchantUID = "other" }, want: otherOrder},
		"names another order":  {change: func(_ *crashOrder, a *crashAsk, _ *emulator.Payment) { a.merchantUID = "other" }, want: otherOrder},
		"another amount":       {change: func(_ *crashOrder, _ *crashAsk, p *emulator.Payment) { p.Amount = 16000 }, want: otherRequest},
		"shows another amount": {change: func(_ *crashOrder, a *crashAsk, _ *emulator.Payment) { a.amount = 16000 }, want: otherRequest},
		"a later deadline":     {change: func(_ *crashOrder, _ *crashAsk, p *emulator.Payment) { p.ExpiredAt += 10 }, want: otherRequest},
		"a far earlier one":    {change: func(_ *crashOrder, _ *crashAsk, p *emulator.Payment) { p.ExpiredAt -= 40 * 3600 }, want: otherRequest},
		"one not named": {change: func(_ *crashOrder, a *crashAsk, p *emulator.Payment) {
			a.request.deadline, p.ExpiredAt = 0, second(10).Unix()
		}},
		"an earlier one": {change: func(_ *crashOrder, _ *crashAsk, p *emulator.Payment) { p.ExpiredAt -= 20 * 3600 }},
		"paid, it says":  {change: func(_ *crashOrder, a *crashAsk, _ *emulator.Payment) { a.state = "paid" }, want: outdated},
		"expired": {change: func(_ *crashOrder, a *crashAsk, p *emulator.Payment) {
			p.ExpiredAt = second(-2).Unix()
			a.request.deadline = p.ExpiredAt
		}, want: outdated},
		"paid before":        {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) { o.scans[0].ended = second(-1) }, want: outdated},
		"void before":        {voided: second(-1), want: outdated},
		"void after":         {voided: second(2)},
		"void, and nobody's": {voided: second(0.5), want: outdated},
		"void by the app": {voided: second(0.5), change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.voids = []crashVoid{{second(0.1), second(2), true}}
		}},
		"void by one late": {voided: second(0.5), change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.voids = []crashVoid{{second(-2), second(-1), false}}
		}},
		"void by one before": {voided: second(0.5), change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.voids = []crashVoid{{second(-2), second(-1), true}}
		}, want: outdated},
		"void by another ask": {voided: second(0.5), change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.asks = append(o.asks, &crashAsk{request: crashRequest{amount: 1}, began: second(0.1), ended: second(2)})
		}},
		"void by the same": {voided: second(0.5), change: func(o *crashOrder, a *crashAsk, _ *emulator.Payment) {
			o.asks = append(o.asks, &crashAsk{request: a.request, began: second(0.1), ended: second(2)})
		}, want: outdated},
		"two taken": {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.scans = []crashScan{{impUID: "imp_1", ended: second(3), accepted: true}, {impUID: "imp_2", ended: second(4), accepted: true, final: true}}
		}, want: twoTaken},
		"unknown taken":     {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) { o.scans[0].impUID = "imp_2" }, want: unknownTaken},
		"known refused":     {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) { o.scans[0].accepted = false }, want: refusedKnown},
		"none in the end":   {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) { o.last, o.scans = &crashAsk{status: 504}, nil }, want: noAnswer},
		"409 for no reason": {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) { o.last, o.scans = &crashAsk{status: 409}, nil }, want: noAnswer},
		"409 after a scan": {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.last, o.scans = &crashAsk{status: 409}, []crashScan{{impUID: "imp_1", ended: second(3)}}
		}},
		"paid": {change: func(o *crashOrder, _ *crashAsk, _ *emulator.Payment) {
			o.last, o.scans = &crashAsk{status: 200, code: 1}, []crashScan{{impUID: "imp_1", ended: second(3), accepted: true}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, p := answer, payment
			o := &crashOrder{id: "o", asks: []*crashAsk{&a}, last: &a, scans: []crashScan{{impUID: "imp_1", ended: second(5), accepted: true, final: true}}}
			if tc.change != nil {
				tc.change(o, &a, &p)
			}
			voided := make(map[string]time.Time)
			if !tc.voided.IsZero() {
				voided["imp_1"] = tc.voided
			}
			j := newCrashJudge([]emulator.Payment{p}, voided)
			j.judge(o)
			if tc.want == "" {
				assert.Empty(t, j.found)
			} else {
				assert.Equal(t, 1, j.counts.counts[tc.want], j.found)
			}
		})
	}
}
