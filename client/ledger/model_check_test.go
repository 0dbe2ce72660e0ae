package ledger

// This file holds the invariants of the model run, and the apps and customers that could break
// them.

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// standing is what the ledger would say of a payment's confirm webhook now.
func (w *model) standing(p *modelPayment) Standing {
	row := w.store.rows[Key{"", p.order}]
	if row == nil {
		return Unknown
	}
	return row.standing(p.attempt, p.impUID)
}

// taken reports whether a till would take the payment's barcode now.
func (w *model) taken(p *modelPayment) bool {
	s := w.standing(p)
	return w.api.live(p) && (s == Unknown || s == Current)
}

// check checks what must hold at any time.
func (w *model) check() {
	for _, key := range w.keys() {
		var taken, live []string
		for _, p := range w.api.payments {
			if p.order != key.Order || !w.api.live(p) {
				continue
			}
			live = append(live, p.impUID)
			if w.taken(p) {
				taken = append(taken, p.impUID)
			}
		}
		if len(taken) > 1 {
			w.fail("one barcode that the till takes", "order %s has %v", key.Order, taken)
		}
		// The till has the ledger to ask, but one barcode is to be live in any case, unless the API
		// shows or does things too late, or a clock lies.
		if len(live) > 1 && w.profile.strict() {
			w.fail("one live barcode", "order %s has %v", key.Order, live)
		}
		if row := w.store.rows[key]; row != nil {
			w.checkRow(row)
		}
	}
}

func (w *model) checkRow(row *Row) {
	w.checkWaiting(row)
	if row.Due <= 0 || row.Due > w.latest()+longestDue.Milliseconds() {
		w.fail("a row is due", "order %s is due %s", row.Order, time.UnixMilli(row.Due))
	}
	for i := range row.Attempts {
		a := &row.Attempts[i]
		if p := w.api.find(a.ImpUID); p != nil && a.State == Void && w.api.live(p) {
			w.fail("what is noted as void is void", "%s is live", p.impUID)
		}
	}
}

// latest is the latest time that a clock has shown.
func (w *model) latest() int64 {
	for _, n := range w.nodes {
		w.api.latest = max(w.api.latest, w.now+n.ahead())
	}
	return w.api.latest
}

// checkSend checks that a call is alone, and that its hold is fresh. A clock that lies can break
// both.
func (w *model) checkSend(c *modelCall) {
	if w.profile.clocks == wild || !c.held {
		return
	}
	if old := w.now - c.caller.held; old > freshness.Milliseconds() {
		w.fail("a call has a fresh hold", "it was written %d ms ago", old)
	}
	for _, other := range w.api.calls {
		if other.order == c.order && other.held && !other.done && w.now < other.sent+timeout.Milliseconds() {
			w.fail("one call at a time", "another call about order %s was sent %d ms ago", c.order, w.now-other.sent)
		}
	}
}

// ask has an app ask for a barcode.
func (w *model) ask(n *node, t Terms) (a *actor) {
	if n.ledger == nil {
		return nil
	}
	l := n.ledger
	a = w.spawn(n, "ask", func() {
		w.counts.asks++
		w.log("asks for %s, amount %s, own %q, pg %q, deadline %d", t.Order, t.Amount, t.Own, t.PG, t.Deadline)
		answer, err := l.ask(impatient(context.Background()), n.acc, &Request{Terms: t}, n.Now().monotonic+timeout)
		w.answered(a, &t, answer, err)
	})
	return a
}

// answered checks an answer.
func (w *model) answered(a *actor, t *Terms, answer Answer, err error) {
	w.outcome = nil
	switch {
	case errors.Is(err, ErrBusy):
		w.counts.busy++
	case err != nil:
		w.counts.failed++
	case answer.Response == nil:
		w.fail("an answer", "there is none, and no error")
		return
	case answer.Response.Err() != nil:
		w.counts.refused++
		w.refused = answer.Response.Status == 200
	}
	if err != nil || answer.Response.Err() != nil {
		w.log("is answered: error %v", err)
		return
	}
	p := w.api.answers[answer.Response]
	w.log("is answered: %s, reused %v", p.impUID, answer.Reused)
	w.outcome = p
	w.counts.answers++
	if answer.Reused {
		w.counts.reused++
	}
	w.got[t.Order] = p.impUID
	if p.order != t.Order || p.amount != t.Amount || t.Own != "" && p.own != t.Own || t.Named.PG && p.pg != t.PG {
		w.fail("an answer matches its request", "%s has order %s, amount %s, own %q", p.impUID, p.order, p.amount, p.own)
	}
	if p.voided != 0 && p.voided < a.looked || p.paid != 0 && p.paid < a.looked {
		w.fail("an answer was ready", "%s ended before the last look", p.impUID)
	}
	row := w.store.rows[Key{"", p.order}]
	if row.find(&Attempt{ImpUID: p.impUID}) < 0 { // the outcome is written after the answer
		if i := row.find(&Attempt{ID: a.sent}); i < 0 || row.Attempts[i].State != Asked || row.Attempts[i].Closed {
			w.fail("an answer is the order's barcode", "%s is the answer of %s", p.impUID, a.sent)
		}
	} else if s := w.standing(p); s != Current {
		w.fail("an answer is the order's barcode", "the standing of %s is %d", p.impUID, s)
	}
}

// void has the app void what it got last.
func (w *model) void(n *node, order string) {
	impUID, l := w.got[order], n.ledger
	if impUID == "" || l == nil {
		return
	}
	w.spawn(n, "void", func() {
		w.counts.appVoids++
		w.log("DELETE of %s by the app", impUID)
		ctx := context.Background()
		resp, err := l.Void(ctx, n.acc, impUID, func(maySend func() error) (*client.Response, error) {
			return n.acc.API.Void(ctx, impUID, maySend)
		})
		if p := w.api.find(impUID); err == nil && resp.Err() == nil && w.taken(p) {
			w.fail("no till takes what the app voided", "%s", impUID)
		}
	})
}

// visit has a customer go to the till with a barcode, an old one perhaps.
func (w *model) visit(n *node) {
	var ready []*modelPayment
	for _, p := range w.api.payments {
		if w.api.live(p) && p.payAt == 0 {
			ready = append(ready, p)
		}
	}
	if len(ready) == 0 || n.ledger == nil {
		return
	}
	p, l := ready[w.rng.IntN(len(ready))], n.ledger
	w.spawn(n, "till", func() {
		const patience = 5000 // of the sender of the webhook, in milliseconds
		began, key := w.now, Key{"", p.order}
		standing, _ := l.Standing(context.Background(), key, p.attempt, p.impUID)
		w.log("the standing of %s is %d", p.impUID, standing)
		if w.now-began > patience || standing == Replaced || standing == PaidElse || !w.api.live(p) {
			w.counts.turnedAway++
			return
		}
		p.payAt = w.now + w.span(0, w.patience())
		w.after(p.payAt-w.now, func() {
			if p.status(w.now) == client.StatusReady {
				w.pay(p)
			}
		})
		if w.shop != nil && w.rng.IntN(8) == 0 { // before it is paid
			w.after(w.span(0, 10*time.Second), func() { w.send(&Notice{ImpUID: p.impUID, Status: "paid"}) })
		}
		l.MarkAtTill(context.Background(), key)
	})
}

// patience is how long a customer at the till takes at most.
func (w *model) patience() time.Duration {
	if w.shop != nil && w.rng.IntN(2) == 0 {
		return 10 * time.Second
	}
	return atTill * 9 / 10
}
