package ledger

// This file holds the shop of the model run, the notices, and what becomes of a payment after it was
// made: it is paid back, or paid although it was void.

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

const (
	shopTimeout = 5 * time.Second
	shortRetry  = 30 * time.Second
	pageOfModel = 3
)

// tellProfile is what may happen in a history in which the shop is told.
type tellProfile struct {
	sweep       time.Duration // 0 for never
	events      []tell.Event
	retry       time.Duration
	concurrency int
	faults      int  // of 1000 messages
	refuses     bool // each fault is a refusal
	lostNotices int  // of 1000
	oddPayments int  // of 1000: those that wait for a person, or are paid although they are void
	refunds     int  // of 1000 payments
}

func drawTells(r *rand.Rand) *tellProfile {
	if r.IntN(2) == 0 {
		return nil
	}
	events := []tell.Event{tell.Paid, tell.Cancelled, tell.Expired}
	return &tellProfile{
		sweep:  []time.Duration{0, 0, time.Minute, 5 * time.Minute}[r.IntN(4)],
		events: events[:[]int{3, 3, 3, 2}[r.IntN(4)]], retry: []time.Duration{shortRetry, 72 * time.Hour}[r.IntN(2)], concurrency: 1 + r.IntN(2),
		faults: []int{0, 200, 500, 900}[r.IntN(4)], refuses: r.IntN(3) == 0, lostNotices: []int{0, 300, 700, 1000}[r.IntN(4)],
		oddPayments: []int{0, 0, 200}[r.IntN(3)], refunds: []int{0, 400, 800}[r.IntN(3)],
	}
}

// modelShop is the shop that is told.
type modelShop struct {
	w       *model
	profile *tellProfile
	relaxed bool  // the operator has allowed test channels, and the lists are read once a day
	down    int64 // until when it cannot be reached
	heals   int64 // when its faults end, later than others

	onWay    map[string]int64  // until when a message about an order is on its way
	ids      map[string]string // what a message was about, by its id
	refusals map[string]int    // by order
	accepted map[string]bool   // orders of which a person has accepted another amount
	forged   map[string]bool   // payments and statuses of which a forged notice was sent
	notices  []modelNotice     // that were answered with 200
}

// modelTold is a message that has come to the shop.
type modelTold struct {
	event        tell.Event
	cancellation string
	at           int64
	heard        int64 // when the shop knew, 0 for never
}

// modelNotice is a notice that the ledger has noted.
type modelNotice struct {
	impUID, status, cancellation string
	at                           int64
}

// modelRefund is a refund of a payment, or of a part.
type modelRefund struct {
	id  string
	at  int64
	won int
}

// modelLook is what look-ups have shown of a payment from one time to another.
type modelLook struct {
	first, last  int64
	status       client.Status
	amount, back string
	paidAt       int64
}

func newShop(w *model) *modelShop {
	if w.profile.tells == nil {
		return nil
	}
	for range w.rng.IntN(2 * pageOfModel) { // another system's payments
		p := &modelPayment{
			impUID: fmt.Sprint("imp", len(w.api.payments)+1), order: "foreign", amount: "1000", pg: "galaxia.M1", made: 1,
			paid: w.now + w.span(-time.Hour, time.Hour)/3_600_000*3_600_000,
		}
		w.api.payments = append(w.api.payments, p)
	}
	return &modelShop{w: w, profile: w.profile.tells, heals: 1 << 60, onWay: map[string]int64{}, ids: map[string]string{}, refusals: map[string]int{}, accepted: map[string]bool{}, forged: map[string]bool{}}
}

// tells is the configuration of a node.
func (s *modelShop) tells(n *node) *Tells {
	t := &Tells{
		Send: n.tellShop, Timeout: shopTimeout, Events: s.profile.events, Retry: s.profile.retry, Concurrency: s.profile.concurrency,
		Intervals: []time.Duration{time.Second, 5 * time.Second, 20 * time.Second}, Sweep: s.profile.sweep, Sandbox: s.relaxed,
	}
	if s.relaxed {
		t.Sweep = daily
	}
	return t
}

// tellShop tells the shop once.
func (n *node) tellShop(_ context.Context, m *tell.Message) Reply {
	w, s := n.w, n.w.shop
	began := w.now
	w.counts.messages++
	if old := began - w.running.claimed; old > (timeout+freshness).Milliseconds() && w.profile.clocks == calm {
		w.fail("a message has a fresh claim", "it was written %d ms ago", old)
	}
	w.pause(w.short(shopTimeout)) // until there is a connection
	if w.now-began > shopTimeout.Milliseconds() {
		return Reply{Verdict: Unheard, Cause: "timeout"}
	}
	fault := s.fault()
	if fault == sendNothing {
		return Reply{Verdict: Withdrawn}
	}
	if fault == goDown {
		s.down = w.now + w.span(time.Second, time.Minute)
	}
	if w.now < s.down {
		w.counts.unheard++
		return Reply{Verdict: Unheard, Cause: "no connection"}
	}
	takes := w.rng.Int64N(30)
	if fault == beSlow {
		takes = w.span(0, 2*shopTimeout)
	}
	told := s.receive(m, w.now+takes, fault != refuse && fault != die)
	s.onWay[m.MerchantUID] = min(w.now+takes, began+shopTimeout.Milliseconds())
	w.pause(s.onWay[m.MerchantUID] - w.now)
	inTime := told.at+takes <= began+shopTimeout.Milliseconds()
	switch {
	case !inTime, fault == loseAnswer, fault == die:
		w.counts.unheard++
		return Reply{Verdict: Unheard, Cause: "no answer"}
	case fault == refuse:
		w.counts.refusals++
		s.refusals[m.MerchantUID]++
		return Reply{Verdict: Refused, Cause: "no"}
	default:
		return Reply{Verdict: Heard}
	}
}

// shopFault is a fault of the shop, or on the way to it.
type shopFault int

const (
	noFault shopFault = iota
	sendNothing
	goDown
	beSlow
	loseAnswer
	die // half-way
	refuse
)

// strikes reports whether a node is struck while it tells the shop or answers a notice. There are not
// many of these, and they come late in a history.
func (s *modelShop) strikes() bool {
	return s.w.now < s.heals && s.w.rng.IntN(1000) < 3*s.w.profile.nodeFaults
}

// fault draws what goes wrong with a message.
func (s *modelShop) fault() shopFault {
	if s.w.now >= s.heals || s.w.rng.IntN(1000) >= s.profile.faults {
		return noFault
	}
	if s.profile.refuses {
		return refuse
	}
	return 1 + shopFault(s.w.rng.IntN(int(refuse)))
}

// receive has a message come to the shop, which knows then, or never.
func (s *modelShop) receive(m *tell.Message, knows int64, hears bool) *modelTold {
	w := s.w
	told := &modelTold{event: m.Event, cancellation: m.CancellationID, at: w.now}
	if hears {
		told.heard = knows
	}
	w.log("the shop is told: %s%s of %s, %s, late %v; it knows then: %v", m.Event, m.CancellationID, m.ImpUID, m.Status, m.Late, hears)
	if w.now < s.onWay[m.MerchantUID] && w.profile.clocks == calm {
		w.fail("one message at a time", "another one about order %s is on its way", m.MerchantUID)
	}
	about := fmt.Sprintf("%q %q %q", m.ImpUID, m.Event, m.CancellationID)
	if other := s.ids[m.ID()]; other != "" && other != about {
		w.fail("an id names one event", "%s and %s have one", other, about)
	}
	s.ids[m.ID()] = about
	p := w.api.find(m.ImpUID)
	if p == nil || p.attempt == "" || p.order != m.MerchantUID {
		w.fail("only what the ledger issued is told", "%s of order %s", m.ImpUID, m.MerchantUID)
		return told
	}
	w.checkMessage(p, m)
	if slices.ContainsFunc(p.told, func(t *modelTold) bool {
		return t.event == m.Event && t.cancellation == m.CancellationID && t.heard != 0
	}) {
		w.counts.doubles++
	}
	p.told = append(p.told, told)
	return told
}

// won is the true amount.
func (p *modelPayment) won() int {
	n, _ := strconv.Atoi(cmp.Or(p.other, p.amount))
	return n
}

// refunded returns the refunds until a moment, and their sum.
func (p *modelPayment) refunded(at int64) (list []*modelRefund, won int) {
	for _, r := range p.refunds {
		if r.at <= at {
			list = append(list, r)
			won += r.won
		}
	}
	return list, won
}

// showPaid adds what the API shows of a payment that was paid or voided.
func (m *modelAPI) showPaid(p *modelPayment, s *Seen, at int64) {
	second := func(moment int64) int64 { return moment/1000 + m.ahead }
	if p.voided != 0 && p.voided <= at {
		s.CancelledAt = second(p.voided)
	}
	if p.paid == 0 || p.paid > at {
		return
	}
	s.PaidAt, s.Amount, s.Sandbox, s.CancelledAt = second(p.paid), cmp.Or(p.other, p.amount), p.sandbox, 0
	refunds, won := p.refunded(at)
	for _, r := range refunds {
		s.Refunded, s.CancelledAt = true, second(r.at)
		s.Cancellations = append(s.Cancellations, client.OutlineCancellation{ID: r.id, CancelledAt: second(r.at)})
	}
	s.CancelAmount = strconv.Itoa(won)
}

// look notes what a look-up has shown.
func (p *modelPayment) look(w *model, s *Seen) {
	if w.shop == nil {
		return
	}
	shows := modelLook{w.now, w.now, s.Status, s.Amount, s.CancelAmount, s.PaidAt}
	if n := len(p.looks); n > 0 {
		last := p.looks[n-1]
		shows.first = last.first
		if last.last = w.now; last == shows {
			p.looks[n-1] = shows
			return
		}
		shows.first = w.now
	}
	p.looks = append(p.looks, shows)
}

func (a nodeAPI) Page(_ context.Context, status client.Status, from, to int64, page int) (list []Seen, more bool, _ error) {
	lag, err := a.look()
	if err != nil || a.w.mutation == noSweep {
		return nil, false, err
	}
	for _, p := range a.payments {
		if p.status(a.w.now-lag) != status {
			continue
		}
		if s := a.listed(p, a.w.now-lag); s.listedTime(status) >= from && s.listedTime(status) <= to {
			list = append(list, s)
		}
	}
	slices.SortStableFunc(list, func(a, b Seen) int { return cmp.Compare(a.listedTime(status), b.listedTime(status)) })
	list = list[min((page-1)*pageOfModel, len(list)):]
	a.w.counts.pages++
	return list[:min(pageOfModel, len(list))], len(list) > pageOfModel, nil
}

// note notes which payments a row has had.
func (w *model) note(row *Row) {
	if w.shop == nil || w.shop.profile.oddPayments == 0 {
		return
	}
	for i := range row.Attempts {
		if p := w.api.find(row.Attempts[i].ImpUID); p != nil {
			p.noted = true
		}
	}
}

// pay has a payment be paid. Some are odd: a person has to decide about them.
func (w *model) pay(p *modelPayment) {
	w.log("%s is paid", p.impUID)
	p.paid, w.changed = w.now, true
	w.counts.paid++
	if w.shop == nil {
		return
	}
	profile := w.shop.profile
	if w.rng.IntN(1000) < profile.oddPayments/2 {
		p.other = "1500"
	}
	p.sandbox = w.rng.IntN(1000) < profile.oddPayments/2
	w.notify(p, client.StatusPaid, "")
	for at, left := int64(0), p.won(); left > 0 && w.rng.IntN(1000) < profile.refunds; {
		back := []int{left, left / 2}[w.rng.IntN(2)]
		left -= back
		at += w.span(0, []time.Duration{10 * time.Second, 10 * time.Second, time.Hour}[w.rng.IntN(3)])
		w.after(at, func() { w.refund(p, back) })
	}
}

// refund pays a payment back, or a part of it.
func (w *model) refund(p *modelPayment, won int) {
	r := &modelRefund{fmt.Sprint("c", len(p.refunds)+1), w.now, won}
	w.log("%d of %s are paid back by %s", won, p.impUID, r.id)
	p.refunds, w.changed = append(p.refunds, r), true
	w.counts.refunds++
	if n := w.anyNode(); w.rng.IntN(4) == 0 && n.ledger != nil { // the app has called through the gateway
		l := n.ledger
		w.spawn(n, "refund", func() { l.Cancelled(context.Background(), n.acc, p.impUID, r.id) })
	}
	w.notify(p, client.StatusCancelled, r.id)
}

// voidedAtAPI is what may follow when a payment was voided: a notice, and that it is paid after all.
func (w *model) voidedAtAPI(p *modelPayment) {
	if w.shop == nil {
		return
	}
	w.notify(p, client.StatusCancelled, "")
	if w.rng.IntN(1000) >= w.shop.profile.oddPayments {
		return
	}
	w.after(w.span(0, []time.Duration{10 * time.Second, time.Hour}[w.rng.IntN(2)]), func() {
		if p.paid == 0 && p.forgotten == 0 {
			p.freak = true
			w.counts.paidVoid++
			w.pay(p)
		}
	})
}

// endItself has the API cancel a payment whose deadline has passed, in some cases.
func (m *modelAPI) endItself(p *modelPayment) {
	if m.w.shop == nil || m.w.rng.IntN(3) > 0 {
		return
	}
	m.w.after(m.w.span(0, 2*time.Hour), func() {
		if p.status(m.w.now) == client.StatusReady && p.payAt < m.w.now {
			m.w.log("the API cancels %s", p.impUID)
			p.voided, m.w.changed = m.w.now, true
		}
	})
}

// notify sends a genuine notice: it may be lost, come late or twice, and have no signature.
func (w *model) notify(p *modelPayment, status client.Status, cancellation string) {
	n := &Notice{ImpUID: p.impUID, Status: string(status), CancellationID: cancellation, Order: p.order}
	if w.rng.IntN(3) > 0 {
		n.Signed = &signedurl.Claims{Amount: p.amount, Expires: p.deadline, ID: p.attempt}
	}
	for range 1 + w.rng.IntN(5)/4 {
		if w.rng.IntN(1000) < w.shop.profile.lostNotices {
			w.counts.noticesLost++
			continue
		}
		w.after(w.span(0, []time.Duration{time.Second, time.Second, time.Minute}[w.rng.IntN(3)]), func() { w.send(n) })
	}
}

// forge sends a notice that nobody has reason to send. Its signature, if it has one, is that of another
// payment.
func (w *model) forge() {
	payments := w.api.payments
	n := &Notice{ImpUID: "unknown", Status: []string{"paid", "cancelled", "failed", "ready", "strange", ""}[w.rng.IntN(6)], CancellationID: []string{"", "c1", "c9"}[w.rng.IntN(3)]}
	if len(payments) > 0 && w.rng.IntN(5) > 0 {
		n.ImpUID = payments[w.rng.IntN(len(payments))].impUID
	}
	if len(payments) > 0 && w.rng.IntN(2) == 0 {
		if p := payments[w.rng.IntN(len(payments))]; p.attempt != "" {
			n.Order, n.Signed = p.order, &signedurl.Claims{Amount: p.amount, Expires: p.deadline, ID: p.attempt}
		}
	}
	w.counts.forged++
	w.shop.forged[n.ImpUID+" "+n.Status] = true
	w.send(n)
}

// send has a notice come to a node.
func (w *model) send(notice *Notice) {
	n := w.anyNode()
	if n.ledger == nil {
		w.counts.noticesLost++
		return
	}
	l := n.ledger
	w.spawn(n, "notice", func() {
		p := w.api.find(notice.ImpUID)
		has := p != nil && p.attempt != "" && w.store.rows[Key{"", p.order}] != nil && w.store.rows[Key{"", p.order}].find(&Attempt{ImpUID: p.impUID}) >= 0
		known, err := l.Notice(context.Background(), n.acc, notice)
		w.log("notice of %s, %s %s, signed %v: known %v, error %v", notice.ImpUID, notice.Status, notice.CancellationID, notice.Signed != nil, known, err)
		switch {
		case err != nil:
		case !known && (has || notice.Signed != nil):
			w.fail("a notice of the ledger's payment is noted", "%s", notice.ImpUID)
		case known && notice.Signed == nil && (p == nil || p.attempt == ""):
			w.fail("another system's notice is passed on", "%s", notice.ImpUID)
		case known:
			w.counts.notices++
			w.shop.notices = append(w.shop.notices, modelNotice{notice.ImpUID, notice.Status, notice.CancellationID, w.now})
			if w.now < w.shop.heals && w.rng.IntN(1000) < 10*w.profile.nodeFaults {
				w.log("crashes after the answer")
				n.doomed = true
			}
		}
	})
}

// operate has an operator retry what waits for a person.
func (w *model) operate(accept bool) {
	n := w.anyNode()
	if w.shop == nil || n.ledger == nil {
		return
	}
	l := n.ledger
	w.spawn(n, "operator", func() {
		for _, key := range w.keys() {
			if accept {
				w.shop.accepted[key.Order] = true
			}
			if waited, _ := l.Retry(context.Background(), key, accept); waited {
				w.counts.retried++
				w.log("%s is retried", key.Order)
			}
		}
	})
}

// hear has the shop hear what has happened. Later on the lists are read less often.
func (w *model) hear() {
	if w.shop == nil {
		return
	}
	w.operate(true)
	w.runIdle((20 * time.Minute).Milliseconds(), 100)
	w.relax()
	w.run(w.now + time.Minute.Milliseconds())
	w.checkHeard(w.now-(20*time.Minute).Milliseconds(), true)
}

// relax is another configuration: test channels are allowed, and the lists are read once a day, which is
// enough for the days that follow.
func (w *model) relax() {
	w.shop.relaxed = true
	for _, n := range w.nodes {
		if n.ledger != nil { // it is up, unless an invariant is broken already
			n.use()
		}
	}
	w.operate(true)
}
