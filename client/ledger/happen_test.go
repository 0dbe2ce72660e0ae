package ledger

// This file holds tests of what the shop is to hear: pure functions of a look-up and a row.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// telling is what a step knows at noon for an account whose shop is told since a day ago.
func telling(t testing.TB) *env {
	t.Helper()
	e := at(t)
	e.tells = &Tells{
		Timeout: timeout, Events: []tell.Event{tell.Paid, tell.Cancelled, tell.Expired}, Retry: time.Hour, Intervals: []time.Duration{time.Second, time.Minute},
	}
	e.mark = Mark{Since: noon - daily.Milliseconds(), Born: api - 24*3600 - 600}
	return e
}

// An order that was moved here says itself what is history.
func TestObserveWhatWasMoved(t *testing.T) {
	t.Parallel()
	for past, want := range map[Past]string{
		{}: "paid+",
		{Since: noon - 3*daily.Milliseconds(), Born: api - 3*24*3600}:  "paid",
		{Since: noon - 25*3600*1000, Born: api - 24*3600 - 3600 - 600}: "paid",
		{Since: noon, Born: api}: "paid+",
	} {
		row := &Row{Past: past, Attempts: []Attempt{{State: Issued, ImpUID: "imp_1", Asked: noon - 2*daily.Milliseconds(), Amount: "15000"}}}
		row.observe(0, shows(client.StatusPaid, paidAt(api-25*3600)), telling(t))
		assert.Equal(t, want, happened(&row.Attempts[0]), past)
	}
}

// happened describes what the shop is to hear of an attempt: "+" if it has heard it, or need not.
func happened(a *Attempt) string {
	var list []string
	for _, h := range a.Happenings {
		s := string(h.Event) + h.Cancellation
		if h.Done != 0 {
			s += "+"
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func paidAt(second int64) func(*Seen) {
	return func(p *Seen) { p.PaidAt = second }
}

func TestObserveByState(t *testing.T) {
	t.Parallel()
	c := func(ids ...string) func(*Seen) {
		return func(p *Seen) {
			p.Refunded, p.PaidAt = true, api-60
			for i, id := range ids {
				p.Cancellations = append(p.Cancellations, client.OutlineCancellation{ID: id, CancelledAt: api - 50 + int64(i)})
			}
		}
	}
	heard := func(events ...tell.Event) func(*Attempt) {
		return func(a *Attempt) {
			for _, event := range events {
				a.Happenings = append(a.Happenings, Happening{Event: event, Seen: noon - 5, Done: noon - 4})
			}
		}
	}
	is := func(s State) func(*Attempt) { return func(a *Attempt) { a.State = s } }
	for _, c := range []struct {
		name   string
		before []func(*Attempt)
		seen   *Seen
		env    func(*env)
		state  State
		events string
		late   bool
		lags   bool
	}{
		{name: "ready", seen: shows(client.StatusReady), state: Issued},
		{name: "paid", seen: shows(client.StatusPaid, paidAt(api-60)), state: Paid, events: "paid"},
		{name: "paid, at an unknown time", seen: shows(client.StatusPaid), state: Paid, events: "paid"},
		{name: "paid and heard", before: []func(*Attempt){is(Paid), heard(tell.Paid)}, seen: shows(client.StatusPaid, paidAt(api-60)), state: Paid, events: "paid+"},
		{name: "refunded in part", before: []func(*Attempt){is(Paid), heard(tell.Paid)}, seen: shows(client.StatusPaid, c("a")), state: Refunded, events: "paid+ cancelleda"},
		{name: "refunded in part twice", before: []func(*Attempt){is(Paid), heard(tell.Paid)}, seen: shows(client.StatusCancelled, c("a", "b")), state: Refunded, events: "paid+ cancelleda cancelledb"},
		{name: "refunded before paid was told", seen: shows(client.StatusCancelled, c("a")), state: Refunded, events: "paid cancelleda"},
		{
			name: "refunds in no order", seen: shows(client.StatusCancelled, c("b", "a"), func(p *Seen) { p.Cancellations[0].CancelledAt = api - 1 }),
			state: Refunded, events: "paid cancelleda cancelledb",
		},
		{
			name: "refunds without an id", seen: shows(client.StatusCancelled, c("", ""), func(p *Seen) { p.Cancellations[1].CancelledAt = p.Cancellations[0].CancelledAt }), state: Refunded,
			events: fmt.Sprintf("paid cancelled%d-1 cancelled%d-2", api-50, api-50),
		},
		{name: "refunded, and no list of refunds", seen: shows(client.StatusCancelled, c(), func(p *Seen) { p.CancelledAt = api - 9 }), state: Refunded, events: fmt.Sprintf("paid cancelled%d-1", api-9)},
		{name: "cancelled, and never paid", seen: shows(client.StatusCancelled, func(p *Seen) { p.CancelledAt = api }), state: Void},
		{name: "failed", seen: shows(client.StatusFailed), state: Failed},
		{name: "paid after it was void", before: []func(*Attempt){is(Void)}, seen: shows(client.StatusPaid), state: Paid, events: "paid", late: true},
		{name: "paid after it failed", before: []func(*Attempt){is(Failed)}, seen: shows(client.StatusPaid), state: Paid, events: "paid", late: true},
		{name: "paid after it expired", before: []func(*Attempt){is(Expired), heard(tell.Expired)}, seen: shows(client.StatusPaid), state: Paid, events: "expired+ paid", late: true},
		{name: "refunded after it expired", before: []func(*Attempt){is(Expired)}, seen: shows(client.StatusCancelled, c("a")), state: Refunded, events: "paid cancelleda", late: true},
		{name: "expired, and still ready", before: []func(*Attempt){is(Expired)}, seen: shows(client.StatusReady), state: Expired},
		{name: "a look-up that lags: ready", before: []func(*Attempt){is(Paid)}, seen: shows(client.StatusReady), state: Paid, lags: true},
		{name: "a look-up that lags: paid", before: []func(*Attempt){is(Refunded)}, seen: shows(client.StatusPaid), state: Refunded, lags: true},
		{name: "a look-up that lags: void", before: []func(*Attempt){is(Void)}, seen: shows(client.StatusReady), state: Void, lags: true},
		{name: "nobody is told", seen: shows(client.StatusPaid), env: func(e *env) { e.tells = nil }, state: Paid},
		{name: "paid is not told", seen: shows(client.StatusCancelled, c("a")), env: func(e *env) { e.tells.Events = []tell.Event{tell.Cancelled} }, state: Refunded, events: "paid+ cancelleda"},
		{name: "cancelled is not told", seen: shows(client.StatusCancelled, c("a")), env: func(e *env) { e.tells.Events = []tell.Event{tell.Paid} }, state: Refunded, events: "paid cancelleda+"},
		{
			name: "history", before: []func(*Attempt){func(a *Attempt) { a.Asked = noon - 2*daily.Milliseconds() }},
			seen: shows(client.StatusPaid, paidAt(api-25*3600)), state: Paid, events: "paid+",
		},
		{
			name: "history, paid back since", before: []func(*Attempt){func(a *Attempt) { a.Asked = noon - 2*daily.Milliseconds() }},
			seen: shows(client.StatusCancelled, c("a"), paidAt(api-25*3600)), state: Refunded, events: "paid+ cancelleda",
		},
		{
			name: "asked for before the shop was told, and paid since", before: []func(*Attempt){func(a *Attempt) { a.Asked = noon - 2*daily.Milliseconds() }},
			seen: shows(client.StatusPaid, paidAt(api-24*3600-600)), state: Paid, events: "paid",
		},
		{name: "asked for since, by a clock that is ahead of the API's", seen: shows(client.StatusPaid, paidAt(api-25*3600)), state: Paid, events: "paid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := telling(t)
			if c.env != nil {
				c.env(e)
			}
			r := row(one)
			a := &r.Attempts[0]
			for _, change := range c.before {
				change(a)
			}
			before := r.Clone()
			assert.Equal(t, !c.lags && (a.State != c.state || len(strings.Fields(c.events)) != len(a.Happenings)), r.lacks(0, c.seen, e))
			assert.Equal(t, before, r, "lacks changes nothing")
			c.seen.CancelAmount = "7"
			r.observe(0, c.seen, e)
			assert.Equal(t, c.state, a.State)
			assert.Equal(t, c.events, happened(a))
			assert.Equal(t, c.late, a.Late)
			if c.lags {
				assert.Zero(t, a.Verified)
				return
			}
			assert.Equal(t, noon, a.Verified)
			assert.Equal(t, []any{c.seen.Status, c.seen.PaidAt, "7"}, []any{a.Status, a.PaidAt, a.CancelAmount})
			assert.False(t, r.lacks(0, c.seen, e))
			r.observe(0, c.seen, e)
			assert.Equal(t, c.events, happened(a), "once")
			assert.Zero(t, r.Telling.Waiting)
		})
	}
	assert.False(t, row(one).lacks(0, shows("settled"), telling(t)))
}

func TestMismatchWaitsForAPerson(t *testing.T) {
	t.Parallel()
	sandbox := func(p *Seen) { p.Sandbox = true }
	for _, c := range []struct {
		name   string
		seen   *Seen
		change func(*Row, *env)
		cause  string
	}{
		{name: "none", seen: shows(client.StatusPaid)},
		{name: "amount", seen: shows(client.StatusPaid, func(p *Seen) { p.Amount = "1" }), cause: causeAmount},
		{name: "amount, accepted", seen: shows(client.StatusPaid, func(p *Seen) { p.Amount = "1" }), change: func(r *Row, _ *env) { r.Attempts[0].Accepted = true }},
		{name: "amount, of a barcode that is not paid", seen: shows(client.StatusReady, func(p *Seen) { p.Amount = "1" })},
		{name: "amount, and nothing to tell", seen: shows(client.StatusPaid, func(p *Seen) { p.Amount = "1" }), change: func(_ *Row, e *env) { e.tells.Events = nil }},
		{name: "test channel", seen: shows(client.StatusPaid, sandbox), cause: causeSandbox},
		{name: "test channel, as the barcode", seen: shows(client.StatusPaid, sandbox), change: func(r *Row, _ *env) { r.Attempts[0].Fields = []string{"sandbox"} }},
		{name: "test channel, allowed", seen: shows(client.StatusPaid, sandbox), change: func(_ *Row, e *env) { e.tells.Sandbox = true }},
	} {
		e, r := telling(t), row(one)
		if c.change != nil {
			c.change(r, e)
		}
		r.observe(0, c.seen, e)
		assert.Equal(t, c.cause, r.Telling.Cause, c.name)
		assert.Equal(t, c.cause != "", r.Telling.Waiting == noon, c.name)
		if r.Attempts[0].Accepted {
			assert.Equal(t, "1", r.Attempts[0].Amount)
		}
		e.now += 1000
		r.observe(0, c.seen, e)
		assert.Equal(t, c.cause != "", r.Telling.Waiting == noon, "it waits since then")
	}
}

func TestNextToTell(t *testing.T) {
	t.Parallel()
	h := func(event tell.Event, seen, done int64) Happening {
		return Happening{Event: event, Seen: seen, Done: done}
	}
	attempt := func(s State, list ...Happening) Attempt { return Attempt{State: s, Happenings: list} }
	for _, c := range []struct {
		name     string
		attempts []Attempt
		attempt  int
		event    tell.Event // "" for none
	}{
		{"nothing", []Attempt{attempt(Issued)}, 0, ""},
		{"all heard", []Attempt{attempt(Paid, h(tell.Paid, 1, 2))}, 0, ""},
		{"paid", []Attempt{attempt(Paid, h(tell.Paid, 1, 0))}, 0, tell.Paid},
		{"paid, then cancelled", []Attempt{attempt(Refunded, h(tell.Paid, 1, 0), h(tell.Cancelled, 1, 0))}, 0, tell.Paid},
		{"cancelled", []Attempt{attempt(Refunded, h(tell.Paid, 1, 2), h(tell.Cancelled, 1, 0))}, 0, tell.Cancelled},
		{"cancelled, by a clock that was set back", []Attempt{attempt(Refunded, h(tell.Paid, 5, 0), h(tell.Cancelled, 1, 0))}, 0, tell.Paid},
		{"the earlier one of two", []Attempt{attempt(Paid, h(tell.Paid, 2, 0)), attempt(Paid, h(tell.Paid, 1, 0))}, 1, tell.Paid},
		{"expired", []Attempt{attempt(Void), attempt(Expired, h(tell.Expired, 1, 0))}, 1, tell.Expired},
		{"expired, and a newer barcode", []Attempt{attempt(Expired, h(tell.Expired, 1, 0)), attempt(Issued)}, 0, ""},
		{"expired, and another one is paid", []Attempt{attempt(Paid, h(tell.Paid, 1, 2)), attempt(Expired, h(tell.Expired, 1, 0))}, 0, ""},
		{"expired, and paid since", []Attempt{attempt(Paid, h(tell.Expired, 1, 0), h(tell.Paid, 2, 0))}, 0, tell.Paid},
	} {
		r := row(c.attempts...)
		i, next := r.toTell(telling(t))
		if c.event == "" {
			assert.Nil(t, next, c.name)
			assert.False(t, r.pending(), c.name)
			continue
		}
		if assert.NotNil(t, next, c.name) {
			assert.Equal(t, c.attempt, i, c.name)
			assert.Equal(t, c.event, next.Event, c.name)
			assert.True(t, r.pending(), c.name)
		}
	}
}

func TestMessageOfAnEvent(t *testing.T) {
	t.Parallel()
	r := row(with(func(a *Attempt) {
		a.Status, a.PaidAt, a.CancelAmount, a.Late = "cancelled", api-5, "500", true
		a.Happenings = []Happening{{Event: tell.Paid}, {Event: tell.Cancelled, Cancellation: "c1"}}
	}))
	want := tell.Message{
		Account: "shop", ImpUID: "imp_1", MerchantUID: "o", Event: tell.Paid, Status: "cancelled", Amount: "15000", CancelAmount: "500", PaidAt: api - 5,
		Expires: api + 3600, Late: true,
	}
	assert.Equal(t, want, *r.message(0, &r.Attempts[0].Happenings[0]))
	want.Event, want.CancellationID, want.Late = tell.Cancelled, "c1", false
	r.Attempts[0].CancelAmount, want.CancelAmount = "", "0"
	assert.Equal(t, want, *r.message(0, &r.Attempts[0].Happenings[1]))
}

func TestPlaceInAQueue(t *testing.T) {
	t.Parallel()
	pending := with(func(a *Attempt) { a.State, a.Happenings = Paid, []Happening{{Event: tell.Paid, Seen: noon}} })
	for _, c := range []struct {
		name    string
		telling Telling
		queue   Queue
		due     int64
	}{
		{"new", Telling{}, "tell shop", noon},
		{"since a while ago", Telling{Since: noon - 9}, "tell shop", noon - 9},
		{"refused", Telling{Since: noon - 9, Next: noon + 7, Tries: 1}, "tell shop", noon + 7},
		{"on its way", Telling{Since: noon - 9, Next: noon - 7, Until: noon + 5}, "tell shop", noon + 5},
		{"waits for a person", Telling{Since: noon - 9, Waiting: noon - 3, Next: noon + 5}, "person shop", noon - 3},
	} {
		r := row(pending)
		r.Telling = c.telling
		r.place(telling(t))
		assert.Equal(t, c.queue, r.Queue, c.name)
		assert.Equal(t, c.due, r.QueueDue, c.name)
		r.Attempts[0].Happenings = []Happening{{Event: tell.Paid, Seen: noon, Done: noon}}
		r.place(telling(t))
		assert.Zero(t, r.Queue, c.name)
		assert.Zero(t, r.QueueDue, c.name)
		assert.Zero(t, r.Telling, "nothing of it is left")
	}
}

func TestTellingAfterAClockWasSetBack(t *testing.T) {
	t.Parallel()
	e := telling(t)
	ahead := noon + daily.Milliseconds()
	set := func(tl Telling) *Row {
		r := row(with(func(a *Attempt) { a.State, a.Happenings = Paid, []Happening{{Event: tell.Paid, Seen: ahead}} }))
		r.Telling = tl
		e.replan(r)
		return r
	}
	assert.Equal(t, noon, set(Telling{Since: ahead}).QueueDue)
	assert.Equal(t, noon+75_000, set(Telling{Since: ahead, Next: ahead}).QueueDue, "the longest pause")
	assert.Equal(t, noon+23_000, set(Telling{Since: ahead, Until: ahead}).QueueDue, "a look-up and a message")
	assert.Equal(t, 23*time.Second, e.tellLease())
	assert.Equal(t, noon, set(Telling{Since: ahead, Waiting: ahead}).QueueDue)
	r := set(Telling{Since: noon - 9, Next: noon + 500})
	assert.Equal(t, noon+500, r.QueueDue, "what is sooner stays")
	e.tells = nil
	assert.Equal(t, ahead, set(Telling{Since: noon, Next: ahead}).QueueDue)
}
