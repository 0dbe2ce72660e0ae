package ledger

// This file holds tests of the pure functions that decide what is done for an order next.

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

const (
	noon = int64(1_790_000_000_000) // by this machine's clock
	api  = noon / 1000              // by the API's
)

// at returns what a step knows at noon.
func at(t testing.TB) *env {
	t.Helper()
	return &env{
		now: noon, api: api, timeout: timeout, keep: DefaultKeep, keys: keys(t, "key"),
		earliest: func(asked int64) int64 { return asked/1000 - 2 },
	}
}

// row is an order with attempts of an hour ago, whose deadlines are in an hour.
func row(attempts ...Attempt) *Row {
	for i := range attempts {
		a := &attempts[i]
		if a.Amount == "" {
			a.Amount = "15000"
		}
		if a.Asked == 0 {
			a.Asked = noon - time.Hour.Milliseconds()
		}
		if a.Since == 0 {
			a.Since = a.Asked
		}
		if a.Deadline == 0 {
			a.Deadline = api + 3600
		}
	}
	return &Row{Format: Format, Account: "shop", Order: "o", Version: 1, Due: 1, Attempts: attempts}
}

func shows(status client.Status, change ...func(*Seen)) *Seen {
	s := &Seen{ImpUID: "imp_1", Order: "o", Amount: "15000", Status: status, CVS: true, StartedAt: api - 3600, Fields: []string{"imp_uid"}}
	for _, c := range change {
		c(s)
	}
	return s
}

func refunded(s *Seen) { s.Refunded = true }

var one = Attempt{ID: "a", State: Issued, ImpUID: "imp_1", Fields: []string{"imp_uid"}}

func with(change func(*Attempt)) Attempt {
	a := one
	change(&a)
	return a
}

func TestNextByStateAndAnswer(t *testing.T) {
	t.Parallel()
	asked := Attempt{ID: "a", State: Asked, Asked: noon - 1000}
	state := func(s State) Attempt { return with(func(a *Attempt) { a.State = s }) }
	voiding := func(s State) Attempt { return with(func(a *Attempt) { a.State, a.Voiding = s, true }) }
	for _, c := range []struct {
		name     string
		attempts []Attempt
		k        known
		want     doing
		attempt  int
		err      error
		then     string // the row afterwards
	}{
		{name: "no row", want: doIssue},
		{name: "asked", attempts: []Attempt{asked}, want: doList, then: "a asked"},
		{name: "asked before another one", attempts: []Attempt{state(Void), asked}, want: doList, attempt: 1, then: "a/imp_1 void, a asked"},
		{name: "given up", attempts: []Attempt{with(func(a *Attempt) { a.State, a.ImpUID, a.Closed = Asked, "", true })}, want: doIssue, then: "a askedx"},
		{name: "void", attempts: []Attempt{state(Void)}, want: doIssue, then: "a/imp_1 void"},
		{name: "failed", attempts: []Attempt{state(Failed)}, want: doIssue, then: "a/imp_1 failed"},
		{name: "paid", attempts: []Attempt{state(Paid)}, want: doIssue, then: "a/imp_1 paid"},
		{name: "refunded", attempts: []Attempt{state(Refunded)}, want: doIssue, then: "a/imp_1 refunded"},
		{name: "a newer version's state", attempts: []Attempt{state("settled")}, want: doIssue, then: "a/imp_1 settled"},
		{name: "issued", attempts: []Attempt{one}, want: doLookUp, then: "a/imp_1 issued"},
		{name: "issued, ready", attempts: []Attempt{one}, k: known{seen: shows(client.StatusReady)}, want: doReuse, then: "a/imp_1 issued"},
		{name: "issued, paid", attempts: []Attempt{one}, k: known{seen: shows(client.StatusPaid)}, want: doWrite, then: "a/imp_1 paid"},
		{name: "issued, refunded", attempts: []Attempt{one}, k: known{seen: shows(client.StatusCancelled, refunded)}, want: doWrite, then: "a/imp_1 refunded"},
		{name: "issued, refunded in part", attempts: []Attempt{one}, k: known{seen: shows(client.StatusPaid, refunded)}, want: doWrite, then: "a/imp_1 refunded"},
		{name: "issued, cancelled", attempts: []Attempt{one}, k: known{seen: shows(client.StatusCancelled)}, want: doWrite, then: "a/imp_1 void"},
		{name: "issued, failed", attempts: []Attempt{one}, k: known{seen: shows(client.StatusFailed)}, want: doVoid, then: "a/imp_1 issued"},
		{name: "issued, 404", attempts: []Attempt{one}, k: known{missing: true}, want: doVoid, then: "a/imp_1 issued"},
		{name: "issued, unknown word", attempts: []Attempt{one}, k: known{seen: shows("settled")}, want: doRefuse, err: ErrSilent, then: "a/imp_1 issued"},
		{name: "voiding", attempts: []Attempt{voiding(Issued)}, want: doVoid, then: "a/imp_1 issued!"},
		{name: "voiding, whatever is shown", attempts: []Attempt{voiding(Issued)}, k: known{seen: shows(client.StatusReady)}, want: doVoid, then: "a/imp_1 issued!"},
		{name: "expired", attempts: []Attempt{state(Expired)}, want: doLookUp, then: "a/imp_1 expired"},
		{name: "expired, cancelled", attempts: []Attempt{state(Expired)}, k: known{seen: shows(client.StatusCancelled)}, want: doWrite, then: "a/imp_1 void"},
		{name: "expired, failed", attempts: []Attempt{state(Expired)}, k: known{seen: shows(client.StatusFailed)}, want: doVoid, then: "a/imp_1 expired"},
		{name: "expired, paid", attempts: []Attempt{state(Expired)}, k: known{seen: shows(client.StatusPaid)}, want: doWrite, then: "a/imp_1 paid"},
		{name: "two", attempts: []Attempt{one, with(func(a *Attempt) { a.ImpUID = "imp_2" })}, want: doVoid, then: "a/imp_1 issued, a/imp_2 issued"},
		{
			name: "another one is paid", attempts: []Attempt{state(Paid), with(func(a *Attempt) { a.ImpUID = "imp_2" })}, want: doVoid, attempt: 1,
			then: "a/imp_1 paid, a/imp_2 issued!",
		},
		{
			name: "another one was paid", attempts: []Attempt{with(func(a *Attempt) { a.ImpUID = "imp_2" }), state(Refunded)}, want: doVoid,
			then: "a/imp_2 issued!, a/imp_1 refunded",
		},
		{
			name: "void and issued", attempts: []Attempt{state(Void), with(func(a *Attempt) { a.ImpUID = "imp_2" })}, want: doLookUp, attempt: 1,
			then: "a/imp_1 void, a/imp_2 issued",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := row(c.attempts...)
			s := next(r, &Terms{Order: "o", Amount: "15000"}, c.k, at(t))
			assert.Equal(t, c.want, s.do)
			assert.Equal(t, c.attempt, s.attempt)
			assert.ErrorIs(t, s.err, c.err)
			assert.Equal(t, c.then, describe(r))
		})
	}
}

func TestResolveAnAttemptWithoutOutcome(t *testing.T) {
	t.Parallel()
	const since = -5000 // the attempt was asked for 5 s ago
	p := func(impUID string, started int64, change ...func(*Seen)) Seen {
		return *shows(client.StatusReady, append(change, func(s *Seen) { s.ImpUID, s.StartedAt = impUID, api+started })...)
	}
	is := func(status client.Status) func(*Seen) { return func(s *Seen) { s.Status = status } }
	for _, c := range []struct {
		name   string
		asked  int64
		listed []Seen
		want   doing
		then   string
	}{
		{"none yet", since, nil, doWait, "a asked"},
		{"none, a moment too early", -11_999, nil, doWait, "a asked"},
		{"none", -12_000, nil, doWrite, "a askedx"},
		{"its own", since, []Seen{p("imp_1", -5)}, doWrite, "a/imp_1 issued"},
		{"its own, by the clocks' uncertainty", since, []Seen{p("imp_1", -7)}, doWrite, "a/imp_1 issued"},
		{"older", since, []Seen{p("imp_1", -8)}, doWait, "a asked"},
		{"without a beginning", since, []Seen{p("imp_1", -api)}, doWrite, "a/imp_1 issued"},
		{"another amount", since, []Seen{p("imp_1", 0, func(s *Seen) { s.Amount = "1" })}, doWait, "a asked"},
		{"another order", since, []Seen{p("imp_1", 0, func(s *Seen) { s.Order = "o2" })}, doWait, "a asked"},
		{"a card's", since, []Seen{p("imp_1", 0, func(s *Seen) { s.CVS = false })}, doWait, "a asked"},
		{"an unknown word", since, []Seen{p("imp_1", 0, is("settled"))}, doWait, "a asked"},
		{"in the row already", since, []Seen{p("imp_0", 0)}, doWait, "a asked"},
		{"paid", since, []Seen{p("imp_1", 0, is(client.StatusPaid))}, doWrite, "a/imp_1 paid"},
		{"cancelled", since, []Seen{p("imp_1", 0, is(client.StatusCancelled))}, doWrite, "a/imp_1 void"},
		{"failed", since, []Seen{p("imp_1", 0, is(client.StatusFailed))}, doWrite, "a/imp_1 failed"},
		{"several", since, []Seen{p("imp_1", 0), p("imp_2", 2), p("imp_3", 1)}, doWrite, "imp_1 issued!, imp_3 issued!, a/imp_2 issued"},
		{"the same on two pages", since, []Seen{p("imp_1", 0), p("imp_1", 0)}, doWrite, "a/imp_1 issued"},
		{
			"several, some ended", since,
			[]Seen{p("imp_3", 2), p("imp_2", 1, is(client.StatusCancelled)), p("imp_1", 0)},
			doWrite,
			"imp_2 void, imp_1 issued!, a/imp_3 issued",
		},
		{"the clock was set back", 5000, nil, doWrite, "a asked"},
		{"the clock was set back, and its barcode is live", 3600_000, []Seen{p("imp_1", -5)}, doWrite, "a/imp_1 issued"},
		{"the clock was set back, and its barcode was paid", 3600_000, []Seen{p("imp_1", -5, is(client.StatusPaid))}, doWrite, "a/imp_1 paid"},
		{"the clock was set back, and one that ended may be another's", 3600_000, []Seen{p("imp_1", -5, is(client.StatusCancelled))}, doWrite, "a asked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := row(with(func(a *Attempt) { a.ID, a.State, a.ImpUID = "", Void, "imp_0" }), Attempt{
				ID: "a", State: Asked, Began: api + c.asked/1000 - 2, Asked: noon + c.asked, Deadline: api + 60,
			})
			s := next(r, &Terms{Order: "o", Amount: "15000"}, known{listed: c.listed, listedAt: noon}, at(t))
			assert.Equal(t, c.want, s.do)
			assert.Equal(t, "imp_0 void, "+c.then, describe(r))
			if c.want == doWait {
				assert.Equal(t, noon+c.asked+12_000, s.until)
			}
			for _, a := range r.Attempts[1:] {
				assert.True(t, a.Asked <= noon || a.State != Asked, "the wait for it ends")
				if a.State != Paid && c.want != doWait {
					assert.NotZero(t, a.Next, "it is looked at again")
				}
				assert.Equal(t, api+60, a.Deadline)
			}
		})
	}
}

// A look-up has taken the second attempt's payment for the first one's, whose own appears late.
func TestPaymentThatAnExchangeLeavesIsVoided(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		closed  bool
		status  client.Status
		started int64
		adopted bool
	}{
		{"live", true, client.StatusReady, -20, true},
		{"older than the row", true, client.StatusReady, -31, false},
		{"ended", true, client.StatusCancelled, -20, false},
		{"the attempt is in doubt", false, client.StatusReady, -20, false},
	} {
		r := row(Attempt{ID: "a", State: Issued, ImpUID: "imp_2", Began: api - 30}, Attempt{ID: "b", State: Asked, Closed: c.closed, Began: api - 10})
		seen := shows(c.status, func(s *Seen) { s.StartedAt = api + c.started })
		assert.Equal(t, c.adopted, adopt(r, 1, []Seen{*seen}, at(t)), c.name)
	}
}

// The payment of an attempt that was given up may appear when a later one is in doubt.
func TestLatePaymentIsNotThatOfAnotherRequest(t *testing.T) {
	t.Parallel()
	own, pg := keys(t, "key").Digest("0123456"), "galaxia.M1"
	for _, c := range []struct {
		name          string
		attempt       Attempt
		barcode, pgID string
		adopted       bool
	}{
		{"the own barcode", Attempt{Own: own}, "0123456", "", true},
		{"another number", Attempt{Own: own}, "9999999", "", false},
		{"a number that is not shown", Attempt{Own: own}, "", "", true},
		{"no own barcode", Attempt{}, "9999999", "", true},
		{"the pg", Attempt{PG: pg}, "", "M1", true},
		{"another pg", Attempt{PG: pg}, "", "M2", false},
		{"a pg that is not shown", Attempt{PG: pg}, "", "", true},
		{"a pg without the merchant's id", Attempt{PG: "galaxia"}, "", "M2", true},
	} {
		for _, closed := range []bool{false, true} {
			c.attempt.ID, c.attempt.State, c.attempt.Closed = "a", Asked, closed
			seen := shows(client.StatusReady, func(s *Seen) { s.Barcode, s.PGID = c.barcode, c.pgID })
			assert.Equal(t, c.adopted || closed, adopt(row(c.attempt), 0, []Seen{*seen}, at(t)), "%s, given up %v", c.name, closed)
		}
	}
}

// The clock may have been set since the attempt was asked for. In which second of the API's its payment
// can have begun does not change by that.
func TestPaymentBeganByTheAPIsClock(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-time.Hour, 0, 3 * time.Minute, time.Hour} { // of the clock when it was asked for
		r := row(Attempt{ID: "a", State: Asked, Closed: true, Began: api - 7, Asked: noon - 5000 + ahead.Milliseconds()})
		began := func(second int64) []Seen {
			return []Seen{*shows(client.StatusReady, func(s *Seen) { s.StartedAt = second })}
		}
		assert.False(t, adopt(r, 0, began(api-8), at(t)), ahead)
		assert.True(t, adopt(r, 0, began(api-7), at(t)), ahead)
	}
	assert.Equal(t, api-2, newAttempt("a", &Terms{}, at(t)).Began)
}

// While the API's clock is not known, this machine's may be wrong by hours. A payment that a till takes, or
// that was paid, may not be lost by that; one that has ended may be another's.
func TestPaymentOfAnAttemptThatHasNoDate(t *testing.T) {
	t.Parallel()
	e := at(t)
	e.earliest = func(int64) int64 { return 0 }
	for status, adopted := range map[client.Status]bool{
		client.StatusReady: true, client.StatusPaid: true, client.StatusCancelled: false, client.StatusFailed: false,
	} {
		a := newAttempt("a", &Terms{Amount: "15000"}, e)
		assert.Zero(t, a.Began)
		assert.Equal(t, adopted, adopt(row(a), 0, []Seen{*shows(status)}, e), status)
	}
	assert.True(t, adopt(row(newAttempt("a", &Terms{Amount: "15000"}, e)), 0, []Seen{*shows(client.StatusCancelled, refunded)}, e), "it was paid")
}

func TestPaymentOfAClosedAttemptIsToBeVoided(t *testing.T) {
	t.Parallel()
	for status, want := range map[client.Status]string{
		client.StatusReady: "a/imp_1 issued!x", client.StatusPaid: "a/imp_1 paidx", client.StatusCancelled: "a/imp_1 voidx",
	} {
		r := row(Attempt{ID: "a", State: Asked, Closed: true, Began: api - 7})
		require.True(t, adopt(r, 0, []Seen{*shows(status, func(s *Seen) { s.StartedAt = api - 7 })}, at(t)))
		assert.Equal(t, want, describe(r))
	}
}

func TestJudgeAReadyBarcode(t *testing.T) {
	t.Parallel()
	const life = 3600 // seconds until the deadline
	named := func(deadline int64) func(*Terms) {
		return func(q *Terms) { q.Deadline, q.Named.ExpiredAt = api+deadline, true }
	}
	old, rotated := keys(t, "old"), keys(t, "new", "old")
	digest := func(a *Attempt) { a.Own = old.Digest("1234") }
	for _, c := range []struct {
		name    string
		attempt func(*Attempt)
		terms   func(*Terms)
		seen    func(*Seen)
		want    doing
		err     string
		alarm   string
	}{
		{name: "the same", want: doReuse},
		{name: "another amount", terms: func(q *Terms) { q.Amount = "15001" }, want: doVoid},
		{name: "the API shows another amount", seen: func(s *Seen) { s.Amount = "15001" }, want: doVoid},
		{name: "another order is shown", seen: func(s *Seen) { s.Order = "o2" }, want: doRefuse, err: ErrSilent.Error(), alarm: "a look-up by imp_uid shows another order"},
		{
			name: "a field is missing", attempt: func(a *Attempt) { a.Fields = []string{"imp_uid", "vbank_num"} }, want: doVoid,
			alarm: "a look-up lacks a field that the answer to POST /cvs had: the barcode is replaced",
		},
		{name: "a field more", seen: func(s *Seen) { s.Fields = []string{"vbank_num", "imp_uid"} }, want: doReuse},

		{name: "own barcode, under a rotated key", attempt: digest, terms: func(q *Terms) { q.Own = "1234" }, want: doReuse},
		{name: "another own barcode", attempt: digest, terms: func(q *Terms) { q.Own = "1235" }, want: doVoid},
		{name: "no own barcode any more", attempt: digest, want: doVoid},
		{name: "an own barcode now", terms: func(q *Terms) { q.Own = "1234" }, want: doVoid},

		{name: "pg named, the same", attempt: func(a *Attempt) { a.PG = "galaxia" }, terms: func(q *Terms) { q.PG, q.Named.PG = "galaxia", true }, want: doReuse},
		{
			name: "pg named, another", attempt: func(a *Attempt) { a.PG = "galaxia.A" }, terms: func(q *Terms) { q.PG, q.Named.PG = "galaxia.B", true }, want: doRefuse,
			err: `the order has a barcode whose pg is "galaxia.A", and the request says "galaxia.B"`,
		},
		{name: "pg filled in, another", attempt: func(a *Attempt) { a.PG = "galaxia.A" }, terms: func(q *Terms) { q.PG = "galaxia.B" }, want: doReuse},
		{name: "channel named, the same", attempt: func(a *Attempt) { a.ChannelKey = "k" }, terms: func(q *Terms) { q.ChannelKey, q.Named.ChannelKey = "k", true }, want: doReuse},
		{
			name: "channel named, another", attempt: func(a *Attempt) { a.ChannelKey = "k" }, terms: func(q *Terms) { q.ChannelKey, q.Named.ChannelKey = "l", true }, want: doRefuse,
			err: `the order has a barcode whose channel_key is "k", and the request says "l"`,
		},
		{name: "channel filled in, another", attempt: func(a *Attempt) { a.ChannelKey = "k" }, terms: func(q *Terms) { q.ChannelKey = "l" }, want: doReuse},

		{name: "the same deadline", terms: named(life), want: doReuse},
		{name: "a deadline filled in, whatever it is", terms: func(q *Terms) { q.Deadline = api + 10*life }, want: doReuse},
		{name: "earlier by the slack", terms: named(life - 5), want: doReuse},
		{name: "earlier", terms: named(life - 6), want: doVoid},
		{name: "later by half", terms: named(life + life/2), want: doReuse},
		{name: "later by more than half", terms: named(life + life/2 + 1), want: doVoid},
		{name: "in the year 3000", attempt: func(a *Attempt) { a.Deadline = 32_503_680_000 }, terms: named(32_503_680_000 - api), want: doReuse},
		{name: "in the year 5000 rather than 3000", attempt: func(a *Attempt) { a.Deadline = 32_503_680_000 }, terms: named(95_617_584_000 - api), want: doVoid},
		{name: "in its last second", attempt: func(a *Attempt) { a.Deadline = api }, want: doVoid},
		{name: "past its deadline", attempt: func(a *Attempt) { a.Deadline = api - 1 }, want: doVoid},
		{name: "past its deadline, which is named again", attempt: func(a *Attempt) { a.Deadline = api - 1 }, terms: named(-1), want: doVoid},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := row(with(func(a *Attempt) { a.State = Void }), with(func(a *Attempt) {
				if c.attempt != nil {
					c.attempt(a)
				}
			}))
			q := &Terms{Order: "o", Amount: "15000"}
			if c.terms != nil {
				c.terms(q)
			}
			s := shows(client.StatusReady)
			if c.seen != nil {
				c.seen(s)
			}
			e := at(t)
			e.keys = rotated
			got := judge(r, 1, q, s, e)
			assert.Equal(t, c.want, got.do)
			assert.Equal(t, c.alarm, got.alarm)
			if c.alarm != "" {
				assert.Equal(t, 1, got.attempt, "which it is about")
			}
			if c.err != "" {
				assert.EqualError(t, got.err, c.err)
			}
			r.AtTill = noon - time.Minute.Milliseconds()
			if got = judge(r, 1, q, s, e); c.want == doVoid {
				var atTill *AtTillError
				require.ErrorAs(t, got.err, &atTill)
				assert.Equal(t, 2*time.Minute, atTill.RetryAfter, "no barcode is voided while the customer pays it")
			} else {
				assert.Equal(t, c.want, got.do)
			}
		})
	}
}

func TestAtTillEndsAfterThreeMinutes(t *testing.T) {
	t.Parallel()
	q := &Terms{Order: "o", Amount: "1"}
	for _, c := range []struct {
		mark  time.Duration // before now
		after time.Duration // 0 if the barcode is voided
	}{
		{0, 3 * time.Minute},
		{time.Minute, 2 * time.Minute},
		{3*time.Minute - time.Millisecond, time.Millisecond},
		{3 * time.Minute, 0},
		{-time.Minute, 3 * time.Minute}, // the clock was set back a little
		{-time.Hour, 0},                 // by more than a mark lasts
	} {
		r := row(one)
		r.AtTill = noon - c.mark.Milliseconds()
		s := judge(r, 0, q, shows(client.StatusReady), at(t))
		if c.after == 0 {
			assert.Equal(t, doVoid, s.do, c.mark)
			continue
		}
		var atTill *AtTillError
		require.ErrorAs(t, s.err, &atTill, c.mark)
		assert.Equal(t, c.after, atTill.RetryAfter, c.mark)
		assert.EqualError(t, s.err, "a customer is at the till with the order's barcode")
	}
}

func TestBarcodeWithoutDeadlineIsReplacedAfterThreeDays(t *testing.T) {
	t.Parallel()
	r := row(one)
	r.Attempts[0].Deadline = 0
	q := &Terms{Order: "o", Amount: "15000"}
	for age, want := range map[time.Duration]doing{72 * time.Hour: doReuse, 72*time.Hour + time.Millisecond: doVoid, -time.Hour: doReuse} {
		r.Attempts[0].Asked = noon - age.Milliseconds()
		assert.Equal(t, want, judge(r, 0, q, shows(client.StatusReady), at(t)).do, age)
	}
	q.Deadline, q.Named.ExpiredAt = api+60, true
	r.Attempts[0].Asked = noon
	assert.Equal(t, doVoid, judge(r, 0, q, shows(client.StatusReady), at(t)).do, "a deadline is another one than none")
}

func TestBeginMakesRoom(t *testing.T) {
	t.Parallel()
	full := func(change func(i int, a *Attempt)) *Row {
		r := row()
		for i := range MaxAttempts {
			a := with(func(a *Attempt) { a.ID, a.State, a.ImpUID, a.Next = fmt.Sprint(i), Void, fmt.Sprint("imp_", i), 1 })
			change(i, &a)
			r.Attempts = append(r.Attempts, a)
		}
		return r
	}
	for _, c := range []struct {
		name   string
		change func(i int, a *Attempt)
		gone   string
	}{
		{"all may still leave a payment", func(int, *Attempt) {}, ""},
		{"all given up, and looked for", func(_ int, a *Attempt) { a.State, a.Closed, a.Looks = Asked, true, 3 }, ""},
		{"one looked at", func(i int, a *Attempt) { a.Looks = i / 7 }, "7"},
		{"paid, and done with", func(i int, a *Attempt) { a.State, a.Next = Paid, 0 }, ""},
		{"paid first, and done with", func(i int, a *Attempt) {
			if a.Next = 0; i < 3 {
				a.State = Paid
			}
		}, "3"},
		{"one done with", func(i int, a *Attempt) { a.Next = int64(5 - i) }, "5"},
	} {
		r := full(c.change)
		s := begin(r)
		if c.gone == "" {
			assert.ErrorIs(t, s.err, ErrTooMany, c.name)
			assert.Len(t, r.Attempts, MaxAttempts, c.name)
			continue
		}
		assert.Equal(t, doIssue, s.do, c.name)
		assert.Len(t, r.Attempts, MaxAttempts-1, c.name)
		assert.Negative(t, r.find(&Attempt{ID: c.gone}), c.name)
	}
	assert.Equal(t, doIssue, begin(row(one)).do)
}

func TestMergeOnlyRaises(t *testing.T) {
	t.Parallel()
	asked := Attempt{ID: "a", State: Asked}
	is := func(s State) Attempt { return Attempt{ID: "a", State: s, ImpUID: "imp_1"} }
	flagged := func(a Attempt, voiding, closed bool) Attempt {
		a.Voiding, a.Closed = voiding, closed
		return a
	}
	for _, c := range []struct {
		name         string
		stored, mine []Attempt
		want         string
	}{
		{"a higher state", []Attempt{asked}, []Attempt{is(Issued)}, "a/imp_1 issued"},
		{"a lower state", []Attempt{is(Paid)}, []Attempt{is(Issued)}, "a/imp_1 paid"},
		{"the same", []Attempt{is(Issued)}, []Attempt{is(Issued)}, "a/imp_1 issued"},
		{"failed, and it was voided", []Attempt{is(Failed)}, []Attempt{is(Void)}, "a/imp_1 void"},
		{"void, and it was paid", []Attempt{is(Void)}, []Attempt{is(Paid)}, "a/imp_1 paid"},
		{"a newer version's state", []Attempt{is("settled")}, []Attempt{is(Paid)}, "a/imp_1 settled"},
		{"another attempt", []Attempt{asked}, []Attempt{{ID: "b", State: Issued}}, "a asked, b issued"},
		{"a payment without an id", []Attempt{is(Issued)}, []Attempt{{State: Void, ImpUID: "imp_1"}}, "a/imp_1 void"},
		{
			"a payment that is a later attempt's",
			[]Attempt{flagged(asked, false, true), {ID: "b", State: Issued, ImpUID: "imp_2"}},
			[]Attempt{{ID: "a", State: Issued, ImpUID: "imp_2"}},
			"a askedx, b/imp_2 issued",
		},
		{
			"a payment that is an earlier attempt's",
			[]Attempt{{ID: "a", State: Issued, ImpUID: "imp_2", Voiding: true, Closed: true}, {ID: "b", State: Asked}},
			[]Attempt{{ID: "b", State: Issued, ImpUID: "imp_2"}},
			"a/imp_2 issued!x, b asked",
		},
		{"a second payment", []Attempt{is(Issued)}, []Attempt{{ID: "a", State: Issued, ImpUID: "imp_2"}}, "imp_2 issued!, a/imp_1 issued"},
		{"a second payment, void", []Attempt{is(Issued)}, []Attempt{{ID: "a", State: Void, ImpUID: "imp_2"}}, "imp_2 void, a/imp_1 issued"},
		{"to be voided meanwhile", []Attempt{flagged(is(Issued), true, false)}, []Attempt{is(Issued)}, "a/imp_1 issued!"},
		{"to be voided", []Attempt{is(Issued)}, []Attempt{flagged(is(Issued), true, false)}, "a/imp_1 issued!"},
		{"to be voided, and void", []Attempt{flagged(is(Issued), true, false)}, []Attempt{is(Void)}, "a/imp_1 void"},
		{"given up, and it has a barcode after all", []Attempt{flagged(asked, false, true)}, []Attempt{is(Issued)}, "a/imp_1 issued!x"},
		{"given up, and it is paid after all", []Attempt{flagged(asked, false, true)}, []Attempt{is(Paid)}, "a/imp_1 paidx"},
		{"given up meanwhile", []Attempt{flagged(asked, false, true)}, []Attempt{asked}, "a askedx"},
		{"given up", []Attempt{asked}, []Attempt{flagged(asked, false, true)}, "a askedx"},
	} {
		stored, mine := row(c.stored...), row(c.mine...)
		merge(stored, mine, false)
		assert.Equal(t, c.want, describe(stored), c.name)
	}
	stored, mine := row(one), row(one)
	stored.AtTill, stored.Tries, mine.Tries, stored.Attempts[0].Looks = 7, 1, 2, 5
	merge(stored, mine, false)
	assert.EqualValues(t, 7, stored.AtTill)
	assert.Equal(t, 2, stored.Tries)
	assert.Equal(t, 5, stored.Attempts[0].Looks)
}

func TestRaiseNeverLowers(t *testing.T) {
	t.Parallel()
	all := []State{Asked, Issued, Expired, Void, Failed, Paid, Refunded, "settled"}
	for _, from := range all {
		for _, to := range all {
			a := Attempt{State: from, Since: 1, Looks: 3, Asked: noon, Voiding: true, Deadline: api + 3600}
			a.raise(to, at(t))
			if to.rank() > from.rank() {
				assert.Equal(t, to, a.State)
				assert.Equal(t, noon, a.Since)
				assert.Zero(t, a.Looks)
				assert.Equal(t, to == Issued || to == Expired, a.Voiding, "%s %s", from, to)
			} else {
				assert.Equal(t, from, a.State)
				assert.EqualValues(t, 1, a.Since)
				assert.True(t, a.Voiding)
			}
		}
	}
}

func TestStandingOfAConfirmWebhook(t *testing.T) {
	t.Parallel()
	state := func(s State) Attempt { return with(func(a *Attempt) { a.State = s }) }
	other := func(s State) Attempt { return Attempt{ID: "b", ImpUID: "imp_2", State: s} }
	for _, c := range []struct {
		name       string
		attempts   []Attempt
		id, impUID string
		want       Standing
	}{
		{"issued", []Attempt{one}, "a", "imp_1", Current},
		{"asked, its answer is not here yet", []Attempt{{ID: "a", State: Asked}}, "a", "imp_1", Current},
		{"expired", []Attempt{state(Expired)}, "a", "imp_1", Current},
		{"paid already", []Attempt{state(Paid)}, "a", "imp_1", Current},
		{"unknown id", []Attempt{one}, "c", "imp_1", Unknown},
		{"no id", []Attempt{{State: Void, ImpUID: "imp_1"}}, "", "imp_1", Unknown},
		{"another payment of the same attempt", []Attempt{one}, "a", "imp_9", Replaced},
		{"void", []Attempt{state(Void)}, "a", "imp_1", Replaced},
		{"failed", []Attempt{state(Failed)}, "a", "imp_1", Replaced},
		{"to be voided", []Attempt{with(func(a *Attempt) { a.Voiding = true })}, "a", "imp_1", Replaced},
		{"given up", []Attempt{{ID: "a", State: Asked, Closed: true}}, "a", "imp_1", Replaced},
		{"a late payment of an older one is this one's", []Attempt{{ID: "b", State: Asked, Closed: true}, one}, "b", "imp_1", Current},
		{"a late payment of an older one, to be voided", []Attempt{{ImpUID: "imp_2", State: Issued, Voiding: true}, one}, "a", "imp_2", Replaced},
		{"an older one is void", []Attempt{other(Void), one}, "a", "imp_1", Current},
		{"a newer one was answered", []Attempt{one, other(Issued)}, "a", "imp_1", Replaced},
		{"the newer one", []Attempt{one, other(Issued)}, "b", "imp_2", Current},
		{"a newer one is void", []Attempt{one, other(Void)}, "a", "imp_1", Current},
		{"another one is paid", []Attempt{other(Paid), one}, "a", "imp_1", PaidElse},
		{"another one was paid", []Attempt{one, other(Refunded)}, "a", "imp_1", PaidElse},
	} {
		assert.Equal(t, c.want, row(c.attempts...).standing(c.id, c.impUID), c.name)
	}
}

func TestChooseWithoutTheStore(t *testing.T) {
	t.Parallel()
	p := func(impUID string, started int64, change ...func(*Seen)) Seen {
		return *shows(client.StatusReady, append(change, func(s *Seen) { s.ImpUID, s.StartedAt = impUID, api+started })...)
	}
	status := func(status client.Status) func(*Seen) { return func(s *Seen) { s.Status = status } }
	for _, c := range []struct {
		name    string
		listed  []Seen
		terms   func(*Terms)
		keep    string
		replace []string
	}{
		{name: "none"},
		{name: "one", listed: []Seen{p("imp_1", -60)}, keep: "imp_1"},
		{name: "the newest", listed: []Seen{p("imp_1", -60), p("imp_2", -50)}, keep: "imp_2", replace: []string{"imp_1"}},
		{name: "another amount", listed: []Seen{p("imp_1", -60, func(s *Seen) { s.Amount = "1" })}, replace: []string{"imp_1"}},
		{name: "a card's", listed: []Seen{p("imp_1", -60, func(s *Seen) { s.CVS = false })}},
		{name: "another order's", listed: []Seen{p("imp_1", -60, func(s *Seen) { s.Order = "o2" })}},
		{name: "cancelled", listed: []Seen{p("imp_1", -60, status(client.StatusCancelled))}},
		{name: "an unknown word", listed: []Seen{p("imp_1", -60, status("settled"))}},
		{name: "beside an unknown word", listed: []Seen{p("imp_1", -60, status("settled")), p("imp_2", -60)}, keep: "imp_2"},
		{name: "the same on two pages", listed: []Seen{p("imp_1", -60), p("imp_1", -60)}, keep: "imp_1"},
		{name: "paid", listed: []Seen{p("imp_1", -60), p("imp_2", -61, status(client.StatusPaid))}, replace: []string{"imp_1"}},
		{name: "refunded", listed: []Seen{p("imp_1", -60), p("imp_2", -61, status(client.StatusCancelled), refunded)}, replace: []string{"imp_1"}},
		{name: "another order is paid", listed: []Seen{p("imp_1", -60), p("imp_2", -61, status(client.StatusPaid), func(s *Seen) { s.Order = "o2" })}, keep: "imp_1"},
		{name: "in three days", listed: []Seen{p("imp_1", -72*3600+1)}, keep: "imp_1"},
		{name: "after three days", listed: []Seen{p("imp_1", -72*3600)}, replace: []string{"imp_1"}},
		{name: "in the life that is asked for", listed: []Seen{p("imp_1", -59)}, terms: func(q *Terms) { q.Deadline = api + 60 }, keep: "imp_1"},
		{name: "older than the life that is asked for", listed: []Seen{p("imp_1", -60)}, terms: func(q *Terms) { q.Deadline = api + 60 }, replace: []string{"imp_1"}},
		{name: "own barcode", listed: []Seen{p("imp_1", -1, func(s *Seen) { s.Barcode = "1" })}, terms: func(q *Terms) { q.Own = "1" }, keep: "imp_1"},
		{name: "own barcode that is not shown", listed: []Seen{p("imp_1", -1)}, terms: func(q *Terms) { q.Own = "1" }, keep: "imp_1"},
		{name: "another own barcode", listed: []Seen{p("imp_1", -1, func(s *Seen) { s.Barcode = "2" })}, terms: func(q *Terms) { q.Own = "1" }, replace: []string{"imp_1"}},
	} {
		q := &Terms{Order: "o", Amount: "15000"}
		if c.terms != nil {
			c.terms(q)
		}
		keep, replace := choose(c.listed, q, api)
		assert.Equal(t, c.keep, keep, c.name)
		assert.Equal(t, c.replace, replace, c.name)
	}
}

// What two copies of a row know of telling the shop is brought together, whichever was written first.
func TestMergeOfTelling(t *testing.T) {
	t.Parallel()
	h := func(event tell.Event, id string, done int64) Happening {
		return Happening{Event: event, Cancellation: id, Seen: noon, Done: done}
	}
	is := func(s State, change ...func(*Attempt)) Attempt {
		a := Attempt{ID: "a", State: s, ImpUID: "imp_1", Amount: "15000"}
		for _, c := range change {
			c(&a)
		}
		return a
	}
	has := func(list ...Happening) func(*Attempt) { return func(a *Attempt) { a.Happenings = list } }
	for _, c := range []struct {
		name   string
		a, b   Attempt
		events string
		late   bool
	}{
		{"the same", is(Paid, has(h(tell.Paid, "", 0))), is(Paid, has(h(tell.Paid, "", 0))), "paid", false},
		{"heard", is(Paid, has(h(tell.Paid, "", 0))), is(Paid, has(h(tell.Paid, "", 5))), "paid+", false},
		{"one is behind", is(Issued), is(Paid, has(h(tell.Paid, "", 0))), "paid", false},
		{"heard, and paid back", is(Paid, has(h(tell.Paid, "", 5))), is(Refunded, has(h(tell.Paid, "", 0), h(tell.Cancelled, "1", 0))), "paid+ cancelled1", false},
		{"paid back once more", is(Refunded, has(h(tell.Paid, "", 0))), is(Refunded, has(h(tell.Paid, "", 5), h(tell.Cancelled, "1", 0))), "paid+ cancelled1", false},
		{"expired, and paid", is(Expired, has(h(tell.Expired, "", 5))), is(Paid, has(h(tell.Expired, "", 0), h(tell.Paid, "", 0))), "expired+ paid", true},
		{"void, and paid", is(Void), is(Paid, has(h(tell.Paid, "", 0))), "paid", true},
		{"late", is(Paid, func(a *Attempt) { a.Late = true }), is(Paid), "", true},
	} {
		for name, pair := range map[string][2]Attempt{"": {c.a, c.b}, ", the other way round": {c.b, c.a}} {
			stored, mine := row(pair[0]), row(pair[1])
			stored, mine = stored.Clone(), mine.Clone()
			merge(stored, mine, false)
			assert.Equal(t, c.events, happened(&stored.Attempts[0]), c.name+name)
			assert.Equal(t, c.late, stored.Attempts[0].Late, c.name+name)
		}
	}
	for _, both := range [][2]Attempt{
		{is(Paid, func(a *Attempt) { a.Overdue, a.Accepted = true, true }), is(Paid)},
		{is(Paid), is(Paid, func(a *Attempt) { a.Overdue, a.Accepted = true, true })},
		{is(Paid, func(a *Attempt) { a.Overdue, a.Accepted = true, true }), is(Refunded)},
	} {
		stored := row(both[0])
		merge(stored, row(both[1]), false)
		assert.True(t, stored.Attempts[0].Overdue)
		assert.True(t, stored.Attempts[0].Accepted)
	}

	older := is(Paid, func(a *Attempt) { a.Verified, a.Status, a.PaidAt, a.CancelAmount = noon-1, "ready", 1, "1" })
	newer := is(Paid, func(a *Attempt) { a.Verified, a.Status, a.PaidAt, a.CancelAmount = noon, "paid", 2, "2" })
	for _, pair := range [][2]Attempt{{older, newer}, {newer, older}} {
		stored := row(pair[0])
		merge(stored, row(pair[1]), false)
		got := stored.Attempts[0]
		assert.Equal(t, []any{noon, client.StatusPaid, int64(2), "2"}, []any{got.Verified, got.Status, got.PaidAt, got.CancelAmount})
	}

	stored, mine := row(is(Paid)), row(is(Paid))
	mine.Telling = Telling{Waiting: 7, Cause: causeAmount, Next: 9}
	stored.Telling = Telling{Until: 3, Tries: 2}
	merge(stored, mine, false)
	assert.Equal(t, Telling{Until: 3, Tries: 2, Waiting: 7, Cause: causeAmount}, stored.Telling)
	mine.Telling = Telling{}
	merge(stored, mine, false)
	assert.EqualValues(t, 7, stored.Telling.Waiting, "what the stored row knows stays")
}
