package ledger

// This file holds tests of when an order is looked at again.

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

func TestPlanByState(t *testing.T) {
	t.Parallel()
	const never = time.Duration(-1 << 62)
	a := func(s State, since time.Duration, change ...func(*Attempt)) Attempt {
		at := noon + since.Milliseconds()
		a := Attempt{ID: "a", ImpUID: "imp_1", State: s, Asked: at, Since: at, Deadline: api + 3600}
		for _, c := range change {
			c(&a)
		}
		return a
	}
	unlimited := func(a *Attempt) { a.Deadline = 0 }
	deadline := func(d time.Duration) func(*Attempt) {
		return func(a *Attempt) { a.Deadline = api + int64(d.Seconds()) }
	}
	closed := func(a *Attempt) { a.Closed = true }
	voiding := func(a *Attempt) { a.Voiding = true }
	for _, c := range []struct {
		name    string
		attempt Attempt
		want    time.Duration // from now
	}{
		{"asked", a(Asked, 0), 12 * time.Second},
		{"asked long ago", a(Asked, -time.Hour), 0},
		{"issued", a(Issued, 0), time.Hour + 3*time.Minute},
		{"issued, deadline passed", a(Issued, 0, deadline(-time.Hour)), -time.Hour + 3*time.Minute},
		{"issued, no known deadline", a(Issued, 0, unlimited), 24 * time.Hour},
		{"issued, no known deadline, a day ago", a(Issued, -25*time.Hour, unlimited), 23 * time.Hour},
		{"issued, no known deadline, on its last day", a(Issued, -30*24*time.Hour+time.Minute, unlimited), time.Minute},
		{"issued, no known deadline, after its last day", a(Issued, -30*24*time.Hour, unlimited), never},
		{"to be voided", a(Issued, -time.Hour, voiding), time.Minute},
		{"expired, to be voided, and the API refuses to", a(Expired, -time.Hour, voiding), never},
		{"expired", a(Expired, 0), never},
		{"paid", a(Paid, 0), never},
		{"refunded", a(Refunded, 0), never},
		{"void", a(Void, 0), time.Minute},
		{"void a minute ago", a(Void, -time.Minute), 9 * time.Minute},
		{"void ten minutes ago", a(Void, -10*time.Minute), 50 * time.Minute},
		{"void an hour ago, deadline sooner than the next look", a(Void, -time.Hour, deadline(time.Hour)), time.Hour + time.Minute},
		{"void an hour ago, deadline far off", a(Void, -time.Hour, deadline(48*time.Hour)), 5 * time.Hour},
		{"void, deadline passed", a(Void, -time.Hour, deadline(-time.Minute)), never},
		{"void, no known deadline", a(Void, -71*time.Hour, unlimited), time.Hour},
		{"void, no known deadline, after three days", a(Void, -72*time.Hour, unlimited), never},
		{"failed", a(Failed, 0), time.Minute},
		{"given up", a(Asked, 0, closed), time.Minute},
		{"given up, deadline passed", a(Asked, -2*time.Hour, closed, deadline(-time.Hour)), never},
	} {
		want := int64(0)
		if c.want != never {
			want = noon + c.want.Milliseconds()
		}
		assert.Equal(t, want, at(t).plan(&c.attempt), c.name)
	}
}

func TestDueIsTheEarliest(t *testing.T) {
	t.Parallel()
	e := at(t)
	minutes := func(n int64) int64 { return noon + n*60_000 }
	done := Attempt{State: Paid, Since: noon - 1000}
	assert.Equal(t, noon-1000+DefaultKeep.Milliseconds(), e.due(row(done)), "dropped after keep")
	assert.Equal(t, minutes(5), e.due(row(done, Attempt{Next: minutes(7)}, Attempt{Next: minutes(5)})))
	for ago, want := range map[int64]int64{0: 1, 1: 4, 4: 1, 5: 25, 29: 1, 30: 100} {
		r := row(Attempt{State: Issued, Next: minutes(100)})
		r.AtTill = minutes(-ago)
		assert.Equal(t, minutes(want), e.due(r), "%d minutes after the till", ago)
	}
}

func TestReplanAfterAClockWasSetBack(t *testing.T) {
	t.Parallel()
	ahead := noon + time.Hour.Milliseconds()
	r := row(
		Attempt{ID: "a", State: Void, Asked: ahead, Since: ahead, Next: ahead},
		Attempt{ID: "b", State: Issued, Next: noon + (365 * 24 * time.Hour).Milliseconds()},
		Attempt{ID: "c", State: Issued, Next: noon + 1},
		Attempt{ID: "d", State: Paid},
	)
	r.AtTill, r.Due = ahead, ahead
	at(t).replan(r)
	assert.Equal(t, noon, r.AtTill)
	assert.Equal(t, noon, r.Attempts[0].Asked)
	assert.Equal(t, noon, r.Attempts[0].Since)
	assert.Equal(t, noon+time.Minute.Milliseconds(), r.Attempts[0].Next)
	assert.Equal(t, noon+(time.Hour+3*time.Minute).Milliseconds(), r.Attempts[1].Next, "at its deadline at the latest")
	assert.Equal(t, noon+1, r.Attempts[2].Next, "what is sooner stays")
	assert.Zero(t, r.Attempts[3].Next)
	assert.Equal(t, noon+1, r.Due)
}

func TestReplanKeepsTheLastLook(t *testing.T) {
	t.Parallel()
	past := func(a *Attempt) { a.Deadline, a.Next = api-61, noon-1000 }
	r := row(with(func(a *Attempt) { past(a); a.State = Void }), with(func(a *Attempt) { past(a); a.State, a.Closed = Asked, true }), with(past))
	r.Attempts = append(r.Attempts, Attempt{State: Issued, Asked: 1, Since: 1, Next: noon - 1000})
	at(t).replan(r)
	for _, a := range r.Attempts {
		assert.Equal(t, noon-1000, a.Next, a.State)
	}
	r.Attempts[0].Next = noon + 1000
	at(t).replan(r)
	assert.Equal(t, noon, r.Attempts[0].Next, "it is not later than planned")
}

func TestReplanKeepsThePauseAfterFailures(t *testing.T) {
	t.Parallel()
	for tries, pause := range []time.Duration{
		0, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 10 * time.Minute, 10 * time.Minute,
	} {
		assert.Equal(t, pause, pauseAfter(tries))
		r := row(Attempt{State: Asked, Next: noon + time.Hour.Milliseconds()})
		r.Tries = tries
		at(t).replan(r)
		assert.Equal(t, noon+pause.Milliseconds(), r.Attempts[0].Next, tries)
	}
	assert.Equal(t, 10*time.Minute, pauseAfter(1000))
}

func TestPlanOfWhatTheShopIsTold(t *testing.T) {
	t.Parallel()
	paid := func(change ...func(*Attempt)) Attempt {
		a := Attempt{State: Paid, Since: noon, Deadline: api + 3600}
		for _, c := range change {
			c(&a)
		}
		return a
	}
	is := func(s State) func(*Attempt) { return func(a *Attempt) { a.State = s } }
	past := func(seconds int64) func(*Attempt) { return func(a *Attempt) { a.Deadline = api - seconds } }
	looks := func(n int) func(*Attempt) { return func(a *Attempt) { a.Looks = n } }
	ended := func(a *Attempt) { a.State, a.Closed, a.Overdue, a.Since = Expired, true, true, noon-60_000 }
	voiding := func(a *Attempt) { a.State, a.Voiding, a.Overdue = Issued, true, true }
	for _, c := range []struct {
		name    string
		attempt Attempt
		change  func(*env)
		want    time.Duration // from now; 0 for never
	}{
		{"paid, and not looked at", paid(), nil, 1},
		{"paid, looked for", paid(looks(1)), nil, 5 * time.Second},
		{"paid, looked for again and again", paid(looks(100)), nil, time.Hour},
		{"paid, looked at", paid(func(a *Attempt) { a.Verified = noon }), nil, 0},
		{"paid, and nobody is told", paid(), func(e *env) { e.tells = nil }, 0},
		{"issued", paid(is(Issued)), nil, time.Hour + 10*time.Second},
		{"issued, expired is not told", paid(is(Issued)), func(e *env) { e.tells.Events = nil }, time.Hour + 3*time.Minute},
		{"issued, at the till long ago", paid(is(Issued), past(0)), func(e *env) { e.atTill = noon - 180_000 }, 10 * time.Second},
		{"issued, at the till", paid(is(Issued), past(0)), func(e *env) { e.atTill = noon - 60_000 }, 2 * time.Minute},
		{"issued, at the till long before the deadline", paid(is(Issued)), func(e *env) { e.atTill = noon - 60_000 }, time.Hour + 10*time.Second},
		{"the API refused to void it", paid(voiding, past(20)), nil, 160 * time.Second},
		{"the API refused to void it again", paid(voiding, past(300)), nil, time.Minute},
		{"over, and the API refused to void it", paid(ended), nil, 59 * time.Minute},
		{"over, and told", paid(ended, func(a *Attempt) { a.Happenings = []Happening{{Event: tell.Expired}} }), nil, 0},
	} {
		e := telling(t)
		if c.change != nil {
			c.change(e)
		}
		want := int64(0)
		if c.want > 0 {
			want = noon + c.want.Milliseconds()
		}
		assert.Equal(t, want, e.plan(&c.attempt), c.name)
	}
}

// What the shop has not heard is kept, and so is a hint.
func TestDueOfWhatIsPending(t *testing.T) {
	t.Parallel()
	e := telling(t)
	r := row(Attempt{State: Paid, Since: noon - 2*DefaultKeep.Milliseconds()})
	assert.Equal(t, noon-DefaultKeep.Milliseconds(), e.due(r))
	r.Queue = TellQueue("shop")
	assert.Equal(t, noon+daily.Milliseconds(), e.due(r))
	r.Hints = []Hint{{Next: noon + 7}, {Next: noon + 5}}
	assert.Equal(t, noon+5, e.due(r))
}

func TestReplanOfHintsAndMarks(t *testing.T) {
	t.Parallel()
	e := telling(t)
	e.tells.Sweep = time.Minute
	ahead := noon + daily.Milliseconds()
	r := row(Attempt{State: Paid, Verified: noon})
	r.Hints, r.Due = []Hint{{Next: ahead}, {Next: noon + 1}}, ahead
	e.replan(r)
	assert.Equal(t, []Hint{{Next: noon + time.Hour.Milliseconds()}, {Next: noon + 1}}, r.Hints)
	assert.Equal(t, noon+1, r.Due)
	mark := &Row{Mark: &Mark{Paid: 5}, Due: ahead}
	e.replan(mark)
	assert.Equal(t, noon+60_000, mark.Due)
	e.tells = nil
	mark.Due = ahead
	e.replan(mark)
	assert.Equal(t, ahead, mark.Due)
}
