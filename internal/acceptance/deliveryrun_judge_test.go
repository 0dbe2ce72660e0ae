//go:build !race

package acceptance

// This file holds what the delivery run may not find: judgements of what the shop was told.

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The events that must not happen.
const (
	paidUntold      = "PAID ORDERS THAT THE SHOP WAS NEVER TOLD OF"
	refundUntold    = "REFUNDS THAT THE SHOP WAS NEVER TOLD OF"
	expiredUntold   = "EXPIRED BARCODES THAT THE SHOP WAS NEVER TOLD OF"
	ackForgotten    = "ACKNOWLEDGED NOTICES LOST"
	toldUnpaid      = "TOLD OF A PAYMENT THAT IS NOT"
	toldForeign     = "TOLD OF AN OLD OR FOREIGN PAYMENT"
	toldWrong       = "TOLD A WRONG AMOUNT, STATUS OR CANCELLATION"
	toldUnordered   = "TOLD OUT OF ORDER FOR ONE PAYMENT"
	toldAtOnce      = "TWO MESSAGES AT ONCE FOR ONE ORDER"
	toldNotLate     = "TOLD expired, AND PAID LATER WITHOUT late"
	toldUnexpired   = "TOLD expired OF A BARCODE THAT HAD NOT EXPIRED"
	toldOtherID     = "DOUBLES WITH ANOTHER webhook-id, OR TWO EVENTS WITH ONE"
	toldUnsigned    = "MESSAGES WITH A WRONG SIGNATURE"
	foreignMistaken = "FOREIGN NOTICES CHANGED OR NOT PASSED ON"
)

// deliveryMistakes are printed in this order.
var deliveryMistakes = []string{
	paidUntold, refundUntold, expiredUntold, ackForgotten, toldUnpaid, toldForeign, toldWrong, toldUnordered, toldAtOnce, toldNotLate,
	toldUnexpired, toldOtherID, toldUnsigned, foreignMistaken,
}

// deliveryEvent names what a message is about.
type deliveryEvent struct{ impUID, event, cancellation string }

// deliveryJudge compares what the shop was told with what the API has.
type deliveryJudge struct {
	orders   map[string]*deliveryOrder
	payments map[string]*deliveryPayment
	acks     map[ack]bool
	unknown  map[string]bool // imp_uids of barcodes of which the shop need not hear
	told     []toldMessage
	now      time.Time

	counts   faultCounts
	found    []string
	mistaken map[string]bool       // the orders of what was found
	events   map[deliveryEvent]int // how often the shop was told
	first    map[deliveryEvent]time.Time
	known    map[deliveryEvent]bool // the shop knows
	reached  map[string]int         // the place of the last event that was told of a payment
	ids      map[string]deliveryEvent
	heard    int // events that the shop knows
	doubles  int
	stopped  int // messages beside another one, of a gateway that had been stopped
	notLate  int // messages of a void barcode that was paid, whose void the gateway did not live to see
}

// judge judges all that happened until now.
func (c *deliveryRun) judge() *deliveryJudge {
	told := c.shop.messages() // first: what comes later is not known to be missing
	c.mu.Lock()
	defer c.mu.Unlock()
	j := &deliveryJudge{orders: c.orders, payments: c.oracle.payments(c.orders), acks: c.acks, unknown: c.unknown, told: told, now: time.Now()}
	j.judge()
	return j
}

func (j *deliveryJudge) judge() {
	j.events, j.first, j.known = make(map[deliveryEvent]int), make(map[deliveryEvent]time.Time), make(map[deliveryEvent]bool)
	j.mistaken = make(map[string]bool)
	j.reached, j.ids = make(map[string]int), make(map[string]deliveryEvent)
	for i := range j.told {
		j.message(&j.told[i])
	}
	j.heard = len(j.known)
	for _, p := range j.payments {
		j.untold(p)
	}
	for _, o := range j.orders {
		j.unexpired(o)
	}
}

func (j *deliveryJudge) missing() int {
	return j.counts.counts[paidUntold] + j.counts.counts[refundUntold] + j.counts.counts[expiredUntold]
}

func (j *deliveryJudge) note(mistake, impUID string, detail any) {
	j.counts.add(mistake)
	if len(j.found) >= 20 {
		return
	}
	if p := j.payments[impUID]; p != nil {
		j.mistaken[p.MerchantUID] = true
	}
	j.found = append(j.found, fmt.Sprintf("%s: %v\n%s", mistake, detail, j.history(impUID)))
}

// history tells what happened to a payment, and what the shop was told of it.
func (j *deliveryJudge) history(impUID string) string {
	var text strings.Builder
	if p := j.payments[impUID]; p != nil {
		fmt.Fprintf(&text, "%+v\n", *p)
		if o := j.orders[p.MerchantUID]; o != nil {
			fmt.Fprintf(&text, "story %q, swept %v, notices %q, forged %v, stubborn %v, acknowledged %v\n",
				o.story, o.account.swept, o.notices, o.forgery != nil, o.stubborn, j.acks[ack{impUID: impUID}])
		}
	}
	for _, m := range j.told {
		if m.ImpUID == impUID {
			fmt.Fprintf(&text, "%s %s %s: %s, late %v, heard %v\n", m.at.Format("15:04:05.000"), m.Event, m.CancellationID, m.Status, m.Late, m.heard)
		}
	}
	return text.String()
}

// message judges a message.
func (j *deliveryJudge) message(m *toldMessage) {
	e := deliveryEvent{m.ImpUID, m.Event, m.CancellationID}
	if j.events[e]++; j.events[e] > 1 {
		j.doubles++
	}
	if other, seen := j.ids[m.id]; seen && other != e || !seen && j.events[e] > 1 {
		j.note(toldOtherID, m.ImpUID, m.id)
	}
	j.ids[m.id] = e
	if !m.genuine {
		j.note(toldUnsigned, m.ImpUID, m.id)
	}
	if m.stopped {
		j.stopped++
	}
	if m.overlapped {
		j.note(toldAtOnce, m.ImpUID, e)
	}
	if mistake := j.content(m); mistake != "" {
		j.note(mistake, m.ImpUID, e)
	}
	if place := j.place(m); place > 0 {
		if place < j.reached[m.ImpUID] || !j.knowsBefore(m, place) {
			j.note(toldUnordered, m.ImpUID, e)
		}
		j.reached[m.ImpUID] = max(place, j.reached[m.ImpUID])
	}
	if m.Event == "paid" && m.live != nil && !m.Late && j.orders[m.MerchantUID] != nil && j.orders[m.MerchantUID].afterVoid[m.ImpUID] {
		j.notLate++
	}
	if m.heard && !j.known[e] {
		j.known[e], j.first[e] = true, m.at
	}
}

// place is the place of a message's event among those of its payment: expired, paid, then each
// cancellation. It is 0 if there is no such event.
func (j *deliveryJudge) place(m *toldMessage) int {
	switch m.Event {
	case "expired":
		return 1
	case "paid":
		return 2
	}
	if p := j.payments[m.ImpUID]; p != nil {
		for i := range p.CancelHistory {
			if p.CancelHistory[i].ID == m.CancellationID {
				return 3 + i
			}
		}
	}
	return 0
}

// knowsBefore reports whether the shop knows of the events before a cancellation.
func (j *deliveryJudge) knowsBefore(m *toldMessage, place int) bool {
	if place < 3 {
		return true
	}
	before := deliveryEvent{m.ImpUID, "paid", ""}
	if place > 3 {
		before = deliveryEvent{m.ImpUID, "cancelled", j.payments[m.ImpUID].CancelHistory[place-4].ID}
	}
	return j.known[before]
}

// content returns what is wrong with what a message says, or "".
func (j *deliveryJudge) content(m *toldMessage) string {
	p, o := j.payments[m.ImpUID], j.orders[m.MerchantUID]
	switch {
	case p == nil || o == nil || p.MerchantUID != m.MerchantUID || o.account.name != m.Account || !o.barcodes[m.ImpUID] && m.live == nil:
		return toldForeign
	case m.live == nil || o.forbidden:
		return toldUnpaid
	case m.Event == "expired":
		return j.expired(m, o)
	case m.live.PaidAt == 0:
		return toldUnpaid
	case *m.Amount != p.Amount || m.PaidAt != p.PaidAt || !m.fitsCancellations():
		return toldWrong
	case m.Event == "paid" && !m.Late && j.events[deliveryEvent{m.ImpUID, "expired", ""}] > 0:
		return toldNotLate
	case m.Late && (m.Event != "paid" || !o.afterVoid[m.ImpUID]):
		return toldWrong
	}
	return ""
}

// expired judges a message of the event expired.
func (j *deliveryJudge) expired(m *toldMessage, o *deliveryOrder) string {
	switch {
	case m.live.Status == "ready" || o.voided[m.ImpUID] || m.at.Unix() <= j.payments[m.ImpUID].expires:
		return toldUnexpired
	case m.Status != "cancelled" || m.PaidAt != 0 || *m.CancelAmount != 0 || m.Late || *m.Amount != m.live.Amount || m.CancellationID != "":
		return toldWrong
	}
	return ""
}

// fitsCancellations reports whether the status, the cancellation and the sum that was paid back are ones
// that the payment had until the message came.
func (m *toldMessage) fitsCancellations() bool {
	sums, own := []float64{0}, 0
	for i, cancelled := range m.live.CancelHistory {
		sums = append(sums, sums[i]+cancelled.Amount)
		if cancelled.ID == m.CancellationID {
			own = i + 1
		}
	}
	n := slices.Index(sums, *m.CancelAmount)
	switch m.Event {
	case "paid":
		return m.CancellationID == "" && (m.Status == "paid" && n == 0 || m.Status == "cancelled" && n > 0)
	case "cancelled":
		return m.Status == "cancelled" && own > 0 && n >= own
	}
	return false
}

// untold finds what of a payment the shop was never told.
func (j *deliveryJudge) untold(p *deliveryPayment) {
	o := j.orders[p.MerchantUID]
	if p.PaidAt == 0 || o.forbidden || o.unclear || j.unknown[p.ImpUID] {
		return
	}
	lacks := func(e deliveryEvent, mistake string) {
		if j.known[e] {
			return
		}
		j.note(mistake, p.ImpUID, e)
		if !o.account.swept && j.acks[ack{p.ImpUID, e.cancellation}] {
			j.note(ackForgotten, p.ImpUID, e)
		}
	}
	lacks(deliveryEvent{p.ImpUID, "paid", ""}, paidUntold)
	for _, cancelled := range p.CancelHistory {
		lacks(deliveryEvent{p.ImpUID, "cancelled", cancelled.ID}, refundUntold)
	}
}

// unexpired finds an order whose barcode has expired and of which the shop was never told.
func (j *deliveryJudge) unexpired(o *deliveryOrder) {
	last := j.payments[o.last]
	if last == nil || j.unknown[o.last] || o.voided[o.last] || last.expires > j.now.Unix() {
		return
	}
	for _, p := range j.payments {
		if p.MerchantUID == o.id && p.PaidAt != 0 {
			return
		}
	}
	if e := (deliveryEvent{o.last, "expired", ""}); !j.known[e] {
		j.note(expiredUntold, o.last, e)
	}
}

// Each mistake is found, and what only looks like one is not.
func TestDeliveryJudge(t *testing.T) {
	t.Parallel()
	began := time.Now()
	const impUID, order = "imp_1", "o"
	number := func(n float64) *float64 { return &n }
	for name, tc := range map[string]struct {
		change func(j *deliveryJudge, o *deliveryOrder, p *deliveryPayment)
		want   string
		also   string // another mistake, of which there is one more
	}{
		"right":       {},
		"never told":  {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told = nil }, want: paidUntold, also: refundUntold},
		"not heard":   {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[1].heard = false }, want: refundUntold},
		"not the API": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[0].live = nil }, want: toldUnpaid},
		"lost": {change: func(j *deliveryJudge, o *deliveryOrder, _ *deliveryPayment) {
			j.told, j.acks[ack{impUID, "can_1"}] = j.told[:1], true
			o.account.swept = false
		}, want: refundUntold, also: ackForgotten},
		"too early": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) {
			j.told[0].live = &deliveryPayment{Status: "ready", Amount: 15000}
		}, want: toldUnpaid},
		"forbidden":      {change: func(_ *deliveryJudge, o *deliveryOrder, _ *deliveryPayment) { o.forbidden = true }, want: toldUnpaid, also: toldUnpaid},
		"foreign":        {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[0].Account = "other" }, want: toldForeign},
		"another amount": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[0].Amount = number(1) }, want: toldWrong},
		"another status": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[1].Status = "paid" }, want: toldWrong},
		"another sum":    {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[1].CancelAmount = number(0) }, want: toldWrong},
		"refunded already": {change: func(j *deliveryJudge, _ *deliveryOrder, p *deliveryPayment) {
			j.told[0].live, j.told[0].Status, j.told[0].CancelAmount = p, "cancelled", number(1000)
		}},
		"out of order": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { slices.Reverse(j.told) }, want: toldUnordered, also: toldUnordered},
		"a double":     {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told = append(j.told, j.told[1]) }},
		"another id": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) {
			j.told = append(j.told, j.told[1])
			j.told[2].id = "x"
		}, want: toldOtherID},
		"one id":     {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[1].id = j.told[0].id }, want: toldOtherID},
		"at once":    {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[1].overlapped = true }, want: toldAtOnce},
		"not signed": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[1].genuine = false }, want: toldUnsigned},
		"late": {change: func(j *deliveryJudge, o *deliveryOrder, _ *deliveryPayment) {
			o.afterVoid[impUID] = true
			j.told = slices.Insert(j.told, 0, expiredMessage(j.told[0], began))
		}, want: toldNotLate},
		"not late": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) { j.told[0].Late = true }, want: toldWrong},
		"expired, and paid": {change: func(j *deliveryJudge, o *deliveryOrder, _ *deliveryPayment) {
			o.afterVoid[impUID], j.told[0].Late = true, true
			j.told = slices.Insert(j.told, 0, expiredMessage(j.told[0], began))
		}},
		"expired after all": {change: func(j *deliveryJudge, _ *deliveryOrder, _ *deliveryPayment) {
			j.told = append(j.told, expiredMessage(j.told[0], began))
		}, want: toldUnordered},
		"payable": {change: func(j *deliveryJudge, o *deliveryOrder, _ *deliveryPayment) {
			o.afterVoid[impUID], j.told[0].Late = true, true
			m := expiredMessage(j.told[0], began)
			m.live.Status = "ready"
			j.told = slices.Insert(j.told, 0, m)
		}, want: toldUnexpired},
		"expired, untold": {change: func(j *deliveryJudge, _ *deliveryOrder, p *deliveryPayment) {
			p.PaidAt, p.CancelHistory, j.told = 0, nil, nil
		}, want: expiredUntold},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &deliveryOrder{
				id: order, account: &deliveryAccount{swept: true}, last: impUID, barcodes: map[string]bool{impUID: true},
				voided: make(map[string]bool), afterVoid: make(map[string]bool),
			}
			live := deliveryPayment{ImpUID: impUID, MerchantUID: order, Status: "paid", Amount: 15000, PaidAt: began.Unix(), expires: began.Unix() - 60}
			p := live
			p.Status, p.CancelAmount = "cancelled", 1000
			p.CancelHistory = []deliveryCancellation{{"can_1", 1000}}
			paid := toldMessage{
				at: began, id: "1", genuine: true, heard: true, live: &live, ImpUID: impUID, MerchantUID: order, Event: "paid", Status: "paid",
				Amount: number(15000), CancelAmount: number(0), PaidAt: began.Unix(),
			}
			cancelled := paid
			cancelled.id, cancelled.live, cancelled.Event, cancelled.Status, cancelled.CancellationID, cancelled.CancelAmount = "2", &p, "cancelled", "cancelled", "can_1", number(1000)
			j := &deliveryJudge{
				orders: map[string]*deliveryOrder{order: o}, payments: map[string]*deliveryPayment{impUID: &p}, acks: make(map[ack]bool),
				told: []toldMessage{paid, cancelled}, now: began,
			}
			if tc.change != nil {
				tc.change(j, o, &p)
			}
			j.judge()
			want := make(map[string]int)
			for _, mistake := range []string{tc.want, tc.also} {
				if mistake != "" {
					want[mistake]++
				}
			}
			if len(want) == 0 {
				assert.Empty(t, j.found)
			} else {
				assert.Equal(t, want, j.counts.counts, j.found)
			}
		})
	}
}

// expiredMessage says that the payment of another message has expired.
func expiredMessage(m toldMessage, at time.Time) toldMessage {
	zero := 0.0
	m.live = &deliveryPayment{ImpUID: m.ImpUID, MerchantUID: m.MerchantUID, Status: "cancelled", Amount: *m.Amount}
	m.id, m.at, m.Event, m.Status, m.PaidAt, m.Late, m.CancelAmount = "0", at, "expired", "cancelled", 0, false, &zero
	return m
}
