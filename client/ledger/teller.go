package ledger

// This file holds how the shop is told: at least once, an order's events one after the other, the
// oldest order first.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// tellAll tells each account's shop what is due, and does not wait for the answers.
func (l *Ledger) tellAll(ctx context.Context) {
	accounts := l.present().Accounts
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		if acc := accounts[name]; acc.Tells != nil && l.hasMark(ctx, acc) {
			l.tellDue(ctx, l.inBackground(acc))
		}
	}
}

// tellDue begins with as many orders as may be told at once.
func (l *Ledger) tellDue(ctx context.Context, acc *Account) {
	t := l.target(acc.Name)
	now := l.now()
	room := t.room(acc.Tells.Concurrency, now.monotonic)
	if room == 0 {
		return
	}
	var rows []*Row
	err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
		rows, err = s.Due(ctx, TellQueue(acc.Name), now.wall, t.window(room))
		return err
	})
	if err != nil {
		return
	}
	t.sort(rows)
	ready := l.budget(acc.Name).ready()
	for _, row := range rows {
		o := l.order(acc, row.Order)
		o.take(row)
		if room == 0 || !ready && o.needsLook() || !t.begin(o.key, now.monotonic) {
			continue
		}
		room--
		l.opts.spawn(func() {
			t.end(o.key, o.tell(), l.opts.clock.Now().monotonic)
			l.telling.wake()
			if pause := milliseconds(o.again - l.now().wall); 0 < pause && pause < poll { // it is due before the next look at the queue
				_ = l.opts.clock.Sleep(ctx, pause, nil)
				l.telling.wake()
			}
		})
	}
}

// needsLook reports whether the payment must be looked up before the shop is told.
func (o *order) needsLook() bool {
	e := o.env()
	i, h := o.row.toTell(e)
	return h != nil && !e.isVerified(&o.row.Attempts[i])
}

// tell claims the order, tells the shop its next event, and writes what came of it. A step that panics
// is tried again like a message that was not heard.
func (o *order) tell() (verdict Verdict) {
	ctx := context.Background() // what has begun is finished: the shop may have heard it
	e := o.env()
	o.row.Telling.Until = e.in(e.tellLease())
	claimed := o.l.now()
	prepare(o.row, o.was, e)
	if o.l.put(ctx, o.row, o.was, true) != nil { // written meanwhile, or down
		return Withdrawn
	}
	defer func() {
		if problem := recover(); problem != nil {
			verdict = Unheard
			o.told(ctx, "", nil, nil, Reply{Verdict: Unheard, Cause: fmt.Sprintf("panic: %v", problem)})
		}
	}()
	i, h := o.row.toTell(e)
	if h == nil {
		return o.told(ctx, "", nil, nil, Reply{Verdict: Withdrawn, Cause: causeAsked})
	}
	impUID := o.row.Attempts[i].ImpUID
	var seen *Seen
	if !e.isVerified(&o.row.Attempts[i]) {
		var err error
		if seen, err = o.verify(ctx, i); err != nil {
			return o.told(ctx, impUID, nil, nil, Reply{Verdict: Withdrawn, Cause: "the payment could not be looked up: " + err.Error()})
		}
		if i, h = o.row.toTell(o.env()); h == nil || o.row.Telling.Waiting != 0 || o.row.Attempts[i].ImpUID != impUID {
			return o.told(ctx, impUID, seen, nil, Reply{Verdict: Withdrawn})
		}
	}
	if !o.l.now().within(o.acc.Timeout+freshness, claimed) { // the process was stopped: another one may be telling it
		return o.told(ctx, impUID, seen, nil, Reply{Verdict: Withdrawn})
	}
	about := *h
	return o.told(ctx, impUID, seen, &about, o.acc.Tells.Send(ctx, o.row.message(i, h)))
}

// verify looks the payment up, in this call's copy of the row.
func (o *order) verify(ctx context.Context, i int) (*Seen, error) {
	a := &o.row.Attempts[i]
	seen, err := o.acc.lookUp(ctx, a.ImpUID)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return nil, client.ErrNotFound
	case err != nil:
		return nil, err
	case seen.Order != o.key.Order:
		return nil, errOtherOrder
	case seen.state() == "":
		return nil, ErrSilent
	}
	e := o.env()
	o.row.observe(i, seen, e)
	if !e.isVerified(&o.row.Attempts[i]) {
		return nil, errLags
	}
	return seen, nil
}

// errLags means that a look-up shows a payment as it was before.
var errLags = errors.New("the look-up shows an earlier state of the payment")

// told writes what came of telling the shop about an event, nil for none: also on top of what others
// wrote meanwhile. If this process was stopped, another one may be telling the order now: its claim
// stays. It returns the verdict.
func (o *order) told(ctx context.Context, impUID string, seen *Seen, about *Happening, reply Reply) Verdict {
	claim, looked := o.row.Telling.Until, int64(0)
	if i := o.row.find(&Attempt{ImpUID: impUID}); seen != nil && i >= 0 {
		looked = o.row.Attempts[i].Verified
	}
	var t Telling
	waited := int64(-1)
	_ = o.l.update(ctx, o.acc, o.key, true, func(row *Row, e *env) {
		if waited < 0 { // before this was written: a write that failed may have been done
			waited = row.Telling.Waiting
		}
		mine := row.Telling.Until == claim
		if mine {
			row.Telling.Until = 0
		}
		i := row.find(&Attempt{ImpUID: impUID})
		if impUID != "" && i >= 0 {
			if seen != nil && row.Attempts[i].Verified < looked { // else another look-up has shown more meanwhile
				row.observe(i, seen, e)
			}
			if about != nil && reply.Verdict == Heard {
				if h := row.Attempts[i].happening(about.Event, about.Cancellation); h != nil {
					h.Done = e.now
				}
			}
		}
		row.toTell(e)                       // what is moot is done
		if mine || reply.Verdict == Heard { // else a refusal is noted already, or another one tells the shop
			row.Telling.note(about != nil, reply, e)
		}
		t = row.Telling
	})
	o.again = t.Next
	if about == nil && t.Looks == tellAfter {
		o.report("a payment could not be looked up several times before the shop is told, and will be again", impUID, nil)
	}
	if t.Waiting != 0 && waited == 0 {
		o.reportAs(GaveUp, "an order waits for a person before the shop is told of it: "+t.Cause, impUID)
	}
	return reply.Verdict
}

// note brings the shop's answer into the row.
func (t *Telling) note(sent bool, reply Reply, e *env) {
	switch {
	case t.Waiting != 0: // since the message was sent; its cause stays
	case reply.Verdict == Heard:
		t.Tries, t.Looks, t.Spent, t.Next, t.Cause = 0, 0, 0, 0, ""
	case reply.Verdict == Refused && t.Spent >= e.tells.Retry.Milliseconds():
		t.Waiting, t.Cause = e.now, causeRetry+": "+reply.Cause
	case reply.Verdict == Refused:
		t.Tries++
		pause := e.jitter(e.tells.Intervals[min(t.Tries, len(e.tells.Intervals))-1])
		t.Spent += pause.Milliseconds()
		t.Next, t.Cause = e.in(pause), reply.Cause
	case reply.Cause != "":
		t.Cause = reply.Cause
		if !sent && reply.Verdict == Withdrawn { // the look-up failed
			t.Looks++
			t.Next = e.in(e.jitter(pauseAfter(t.Looks)))
		}
	}
}

// jitter changes a pause by up to a fifth, so that orders that were refused together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1) //nolint:gosec // no secret
}
