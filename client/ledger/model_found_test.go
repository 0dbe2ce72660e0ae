package ledger

// This file holds a test of each mistake that the model run has found in telling the shop.

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// told is what a step knows at noon of an account whose shop is told.
func told(t testing.TB) *env {
	t.Helper()
	e := at(t)
	e.tells = &Tells{Timeout: time.Second, Events: []tell.Event{tell.Paid, tell.Cancelled, tell.Expired}, Retry: time.Hour, Intervals: []time.Duration{time.Minute}}
	e.jitter = func(d time.Duration) time.Duration { return d }
	return e
}

func TestRetryIsNotTakenBackByAnOlderCopy(t *testing.T) {
	t.Parallel()
	e := told(t)
	waits := Attempt{ID: "a", State: Paid, ImpUID: "imp_1", Happenings: []Happening{{Event: tell.Paid, Seen: noon}}}
	stored, mine := row(waits), row(waits)
	stored.Telling = Telling{Waiting: noon, Cause: causeAmount}
	mine.Telling = stored.Telling
	mine.observe(0, &Seen{Status: client.StatusPaid, Amount: "900"}, e)
	assert.True(t, stored.retry(false))

	merge(stored, mine, true)
	assert.Zero(t, stored.Telling.Waiting)
	assert.False(t, e.isVerified(&stored.Attempts[0]), "what the older copy saw has to wait again: it is looked at anew")

	merge(stored, mine, false)
	assert.Equal(t, Telling{Waiting: noon, Cause: causeAmount}, stored.Telling, "the copy has found it")
	assert.True(t, e.isVerified(&stored.Attempts[0]))
}

func TestCopyKnowsThatItsRowWaited(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		waits := w.issued("a", "imp_1")
		waits.State, waits.Happenings = Paid, []Happening{{Event: tell.Paid, Seen: w.now(0)}}
		r := w.put(waits)
		r.Telling.Waiting = w.now(0)
		w.store.set(r)
		o := w.l.order(w.acc, "o")
		assert.NoError(t, o.read(context.Background()))
		r.Telling.Waiting = 0
		w.store.set(r)
		o.changed, o.was = true, 0 // it was written meanwhile
		assert.NoError(t, o.settle(context.Background()))
		assert.Zero(t, w.row().Telling.Waiting)
	})
}

func TestCauseOfWaitingOutlastsAnAnswer(t *testing.T) {
	t.Parallel()
	for _, reply := range []Reply{{Verdict: Heard}, {Verdict: Refused, Cause: "no"}, {Verdict: Unheard, Cause: "down"}} {
		waits := Telling{Waiting: noon, Cause: causeAmount}
		waits.note(true, reply, told(t))
		assert.Equal(t, Telling{Waiting: noon, Cause: causeAmount}, waits)
	}
}

// The process of the first claim was stopped, and that of the second is telling the shop.
func TestLateAnswerKeepsAnothersClaim(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, _ *fakeShop) {
		paid := w.issued("a", "imp_1")
		paid.State, paid.Next, paid.Happenings = Paid, 0, []Happening{{Event: tell.Paid, Seen: w.now(0)}}
		r := w.put(paid)
		r.Telling.Until = w.now(20 * time.Second)
		w.store.set(r)
		o := w.l.order(w.acc, "o")
		o.take(r.Clone())
		o.row.Telling.Until = w.now(time.Second)
		o.told(context.Background(), "imp_1", nil, nil, Reply{Verdict: Withdrawn})
		assert.Equal(t, w.now(20*time.Second), w.row().Telling.Until)

		o.row.Telling.Until = w.now(20 * time.Second)
		o.told(context.Background(), "imp_1", nil, nil, Reply{Verdict: Withdrawn})
		assert.Zero(t, w.row().Telling.Until, "its own")
	})
}

func TestNoticeIsLookedAtSoonAfterAClockWasSetBack(t *testing.T) {
	t.Parallel()
	e, r := told(t), row()
	r.Hints = []Hint{{ImpUID: "imp_1", Status: "paid", Looked: noon + time.Hour.Milliseconds(), Next: noon + 2*time.Hour.Milliseconds()}}
	assert.True(t, r.hint(Hint{ImpUID: "imp_1", Status: "paid"}, e))
	assert.Equal(t, e.in(lookAtMost), r.Hints[0].Next)
}

func TestNoticeOutlastsAnAPIThatIsDown(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		a := w.issued("a", "imp_1")
		a.Deadline, a.Next = w.now(daily)/1000, w.now(daily)
		w.put(a)
		w.seen("imp_1", client.StatusPaid, paid)
		w.api.on(func(string) fault { return fault{err: errSilent} })
		_, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "paid"})
		assert.NoError(t, err)
		time.Sleep(50 * time.Minute)
		w.api.on(func(string) fault { return fault{work: true} })
		time.Sleep(retryLimit + time.Minute)
		assert.Len(t, s.told(), 1, "not an hour later")
	})
}

func TestRefundOfAPartMeetsItsNotice(t *testing.T) {
	t.Parallel()
	h := Hint{Status: string(client.StatusCancelled), Cancellation: "c1"}
	seen := Seen{Status: client.StatusPaid, Refunded: true, Cancellations: []client.OutlineCancellation{{ID: "c1"}}}
	assert.True(t, h.isMet(&seen), "the API may call it paid all the same")
	seen.Cancellations[0].ID = "c0"
	assert.False(t, h.isMet(&seen))
	h.Cancellation = ""
	assert.True(t, h.isMet(&seen))
}

func TestBarcodeThatTheAPIDoesNotKnowIsNotLookedAtAgainAndAgain(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]struct {
		change func(*Attempt)
		status client.Status
		calls  int64
		state  State
		told   int
	}{
		"its deadline has just passed": {func(*Attempt) {}, "", 4, Failed, 0},
		"the API has refused to void it": {func(a *Attempt) {
			a.State, a.Closed, a.Overdue, a.Since = Expired, true, true, a.Asked-2*time.Hour.Milliseconds()
		}, "", 3, Failed, 0},
		"the API has cancelled it then": {func(a *Attempt) {
			a.State, a.Closed, a.Overdue, a.Since = Expired, true, true, a.Asked-2*time.Hour.Milliseconds()
		}, client.StatusCancelled, 3, Void, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				a := w.issued("a", "imp_1")
				a.Deadline, a.Next = w.now(-lapseAfter)/1000-1, w.now(0)
				r.change(&a)
				if r.status != "" {
					w.seen("imp_1", r.status)
				}
				var calls atomic.Int64
				w.api.on(func(string) fault { calls.Add(1); return fault{work: true} })
				w.put(a)
				time.Sleep(8 * time.Minute)
				assert.LessOrEqual(t, calls.Load(), r.calls)
				assert.Equal(t, r.state, w.row().Attempts[0].State)
				assert.Len(t, s.told(), r.told)
			})
		})
	}
}

func TestURLOfAnotherPaymentSaysNothing(t *testing.T) {
	t.Parallel()
	e, r := told(t), row(Attempt{ID: "a", State: Void, ImpUID: "imp_1"}, Attempt{ID: "b", State: Asked, Closed: true, Amount: "900"})
	seen := &Seen{ImpUID: "imp_2", Order: r.Order, Amount: "900", Status: client.StatusPaid, CVS: true}
	assert.Negative(t, r.adoptHinted(&Hint{ImpUID: "imp_2", ID: "a", Amount: "15000"}, seen, e))
	assert.Equal(t, 1, r.adoptHinted(&Hint{ImpUID: "imp_2", ID: "b", Amount: "900"}, seen, e))
}

func TestNoticeIsNotMetByALookUpThatLags(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		a := w.issued("a", "imp_1")
		a.State, a.Next, a.Verified = Paid, 0, w.now(0)
		a.Happenings = []Happening{{Event: tell.Paid, Seen: w.now(0), Done: w.now(0)}}
		w.put(a)
		p := w.seen("imp_1", client.StatusCancelled) // void, as it was before the payment
		_, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "cancelled", CancellationID: "c1"})
		assert.NoError(t, err)
		time.Sleep(time.Second)
		w.api.mu.Lock()
		paid(p)
		p.Refunded, p.Cancellations = true, []client.OutlineCancellation{{ID: "c1", CancelledAt: p.PaidAt}}
		w.api.mu.Unlock()
		time.Sleep(time.Minute)
		assert.Len(t, s.told(), 1)
	})
}

func TestNoticeOutlastsACallThatIsStillToWriteItsPayment(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.seen("imp_1", client.StatusPaid, paid)
		asked := w.issued("a", "")
		asked.State, asked.Closed, asked.Next = Asked, true, w.now(daily)
		w.put(asked)
		w.l.order(w.acc, "o").announce("imp_1")
		_, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "paid"})
		assert.NoError(t, err)
		time.Sleep(time.Second)
		w.store.change(Key{"shop", "o"}, func(r *Row) { r.Attempts[0].State, r.Attempts[0].ImpUID = Issued, "imp_1" })
		time.Sleep(time.Minute)
		assert.Len(t, s.told(), 1)
	})
}

func TestPaymentOfANoticeGivesWayToAnAttemptWithoutOutcome(t *testing.T) {
	t.Parallel()
	ready := &Seen{ImpUID: "imp_2", Amount: "15000", Status: client.StatusReady, CVS: true}
	for undecided, want := range map[bool]string{true: "imp_2 issued!, a/imp_1 void, b asked", false: "imp_2 issued, a/imp_1 void, b askedx"} {
		r := row(Attempt{ID: "a", State: Void, ImpUID: "imp_1"}, Attempt{ID: "b", State: Asked, Closed: !undecided})
		assert.Zero(t, r.adoptHinted(&Hint{ImpUID: "imp_2", ID: "a", Amount: "15000"}, ready, told(t)))
		assert.Equal(t, want, describe(r))
	}
}
