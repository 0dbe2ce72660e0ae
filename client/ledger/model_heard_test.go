package ledger

// This file holds what must be true of what the shop of the model run is told, and the mutations of
// telling it.

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// looksLast is how long what a look-up has shown may be told.
const looksLast = verifiedFor + timeout + freshness + shopTimeout

// checkMessage checks that a message is true, and that its turn has come.
func (w *model) checkMessage(p *modelPayment, m *tell.Message) {
	shown := slices.ContainsFunc(p.looks, func(l modelLook) bool {
		return string(l.status) == m.Status && l.amount == m.Amount && l.back == m.CancelAmount && l.paidAt == m.PaidAt &&
			(l.last >= w.now-looksLast.Milliseconds() || w.profile.clocks == wild)
	})
	if !shown {
		w.fail("what is told was looked up", "%+v", *m)
	}
	if !slices.Contains(w.shop.profile.events, m.Event) {
		w.fail("only the events of the configuration are told", "%s", m.Event)
	}
	if p.other != "" && m.Event != tell.Expired && !w.shop.accepted[p.order] {
		w.fail("another amount waits for a person", "%s", p.impUID)
	}
	if p.sandbox && m.Event != tell.Expired && !w.shop.relaxed {
		w.fail("a test payment waits for a person", "%s", p.impUID)
	}
	if m.Late && !p.freak && p.voided == 0 && w.profile.strict() && (p.deadline == 0 || p.paid/1000+w.api.ahead <= p.deadline) {
		w.fail("only what was paid late is called late", "%s", p.impUID)
	}
	if m.Event == tell.Expired {
		w.checkExpired(p)
		return
	}
	w.checkTurn(p, m)
}

// checkExpired checks that a payment of which the shop hears that it has expired can be paid no more.
func (w *model) checkExpired(p *modelPayment) {
	w.counts.toldExpired++
	if w.profile.clocks == wild { // when the deadline is, is not known
		return
	}
	payable := p.status(w.now) == client.StatusReady && (w.api.live(p) || p.payAt > w.now)
	if payable || p.paid != 0 && p.paid <= w.now && !p.freak {
		w.fail("what is told as expired cannot be paid", "%s", p.impUID)
	}
	early := p.deadline == 0 || p.voided != 0 && p.voided/1000+w.api.ahead < p.deadline
	if early && w.profile.strict() { // else it may be the late payment of another attempt
		w.fail("only what was not paid in time is told as expired", "%s", p.impUID)
	}
}

// checkTurn checks that what is told has happened, and that the shop knows what happened before.
func (w *model) checkTurn(p *modelPayment, m *tell.Message) {
	if p.paid == 0 || p.paid > w.now {
		w.fail("only what was paid is told as paid", "%s", p.impUID)
		return
	}
	isTold := func(event tell.Event, id string) func(*modelTold) bool {
		return func(t *modelTold) bool { return t.event == event && t.cancellation == id }
	}
	if m.Event == tell.Paid && !m.Late && slices.ContainsFunc(p.told, isTold(tell.Expired, "")) {
		w.fail("what is paid after the shop heard that it has expired is late", "%s", p.impUID)
	}
	if m.Late {
		w.counts.toldLate++
	}
	chain := p.chain(w.now, w.shop.profile.events)
	turn := slices.IndexFunc(chain, func(t modelTold) bool { return t.event == m.Event && t.cancellation == m.CancellationID })
	if turn < 0 {
		w.fail("only what has happened is told", "%s%s of %s", m.Event, m.CancellationID, p.impUID)
		return
	}
	for i, other := range chain {
		told := isTold(other.event, other.cancellation)
		if i < turn && !slices.ContainsFunc(p.told, func(t *modelTold) bool { return told(t) && t.heard != 0 && t.heard <= w.now }) ||
			i > turn && slices.ContainsFunc(p.told, told) && w.profile.clocks == calm {
			w.fail("events are told in their order", "%s%s of %s is told", m.Event, m.CancellationID, p.impUID)
		}
	}
}

// chain returns what the shop is to hear of a payment that was paid.
func (p *modelPayment) chain(now int64, events []tell.Event) (list []modelTold) {
	if slices.Contains(events, tell.Paid) {
		list = append(list, modelTold{event: tell.Paid, at: p.paid})
	}
	refunds, _ := p.refunded(now)
	for _, r := range refunds {
		if slices.Contains(events, tell.Cancelled) {
			list = append(list, modelTold{event: tell.Cancelled, cancellation: r.id, at: r.at})
		}
	}
	return list
}

// checkHeard checks that the shop knows of each payment what happened until a moment.
func (w *model) checkHeard(until int64, promptly bool) {
	if w.shop == nil {
		return
	}
	for _, p := range w.api.payments {
		if p.attempt == "" || p.paid == 0 || p.paid > until || p.other != "" && !p.noted { // no list shows that this is the attempt's
			continue
		}
		for _, event := range p.chain(until, w.shop.profile.events) {
			if !w.mustHear(p, &event, promptly) {
				continue
			}
			w.counts.mustHear++
			heard := func(t *modelTold) bool {
				return t.event == event.event && t.cancellation == event.cancellation && t.heard != 0
			}
			if !slices.ContainsFunc(p.told, heard) {
				w.fail("the shop hears of each payment", "%s%s of %s", event.event, event.cancellation, p.impUID)
			}
		}
	}
}

// mustHear reports whether nothing excuses that the shop does not know: the lists are read, a notice
// was noted, or the ledger has reason to look itself.
func (w *model) mustHear(p *modelPayment, event *modelTold, promptly bool) bool {
	if w.shop.profile.sweep != 0 {
		return true
	}
	for _, n := range w.shop.notices {
		sameDay := event.at-n.at < daily.Milliseconds() && (event.at-n.at < time.Minute.Milliseconds() || !promptly)
		switch {
		case n.impUID != p.impUID || !sameDay:
		case event.event == tell.Paid && (n.status == "paid" || n.status == "cancelled" && n.at >= p.paid):
			return true
		case event.event == tell.Cancelled && n.status == "cancelled" && n.cancellation == event.cancellation && n.at >= event.at: // not forged
			return true
		}
	}
	return event.event == tell.Paid && !p.freak && !promptly // the barcode is looked at when its deadline has passed
}

// checkWaiting checks that there is a reason why a row waits for a person.
func (w *model) checkWaiting(row *Row) {
	t := &row.Telling
	if t.Waiting == 0 {
		return
	}
	odd := func(is func(*modelPayment) bool) bool {
		return slices.ContainsFunc(w.api.payments, func(p *modelPayment) bool { return p.order == row.Order && p.paid != 0 && is(p) })
	}
	const leastRefusals = 5 // that the pauses of shortRetry take
	switch {
	case !row.pending():
		w.fail("what waits for a person is to be told", "%s", inShort(row))
	case t.Cause == causeAmount && odd(func(p *modelPayment) bool { return p.other != "" }):
	case t.Cause == causeSandbox && odd(func(p *modelPayment) bool { return p.sandbox }):
	case strings.HasPrefix(t.Cause, causeRetry) && w.shop.profile.retry == shortRetry && w.shop.refusals[row.Order] >= leastRefusals:
	default:
		w.fail("what waits for a person has a cause", "%s", inShort(row))
	}
}

// checkAlarm checks that nobody is told that the API does not show what a notice says if it does.
func (w *model) checkAlarm(e *Event) {
	word, is := strings.CutPrefix(e.Message, "a notice says what the API has not shown for a day: ")
	p := w.api.find(e.ImpUID)
	forged := w.shop != nil && w.shop.forged[e.ImpUID+" "+word]
	unknown := p != nil && p.other != "" && !p.noted // no list shows that it is the attempt's
	if is && w.profile.clocks == calm && p != nil && p.paid != 0 && !forged && !unknown && (word == "paid" || word == "cancelled" && !p.freak) {
		w.fail("no alarm about a true notice", "%s of %s", word, p.impUID)
	}
}

// believe is a look-up that shows what the last notice said.
func (a nodeAPI) believe(p *modelPayment, s *Seen) {
	for _, n := range slices.Backward(a.w.shop.all()) {
		if n.impUID == p.impUID && n.status == "paid" && s.Status == client.StatusReady {
			s.Status, s.PaidAt = client.StatusPaid, a.second()
			return
		}
	}
}

func (s *modelShop) all() []modelNotice {
	if s == nil {
		return nil
	}
	return s.notices
}

// isClaim reports whether a write claims a row to tell the shop.
func isClaim(stored, row *Row) bool {
	return stored != nil && row.Telling.Until > stored.Telling.Until
}

// apply breaks a row that is written.
func (m mutation) apply(stored, row *Row) {
	for i := range row.Attempts {
		list := row.Attempts[i].Happenings
		switch {
		case m == noOrder && len(list) > 1:
			slices.SortStableFunc(list, func(a, b Happening) int { return strings.Compare(string(a.Event), string(b.Event)) })
		case m == doneFirst && isClaim(stored, row):
			if next := slices.IndexFunc(list, func(h Happening) bool { return h.Done == 0 }); next >= 0 {
				list[next].Done = 1
				return
			}
		}
	}
}
