package ledger

// This file holds tests of how the shop is told, and a shop that is told.

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// fakeShop is told, and answers as a test says.
type fakeShop struct {
	mu      sync.Mutex
	heard   []tell.Message
	replies []Reply                      // the next ones; Heard afterwards
	answer  func(m *tell.Message) *Reply // asked first; nil for the next of replies
	onWay   map[string]bool              // orders of which a message is on its way
	most    int                          // messages on their way at once
	doubled bool                         // two were on their way for one order
}

func (s *fakeShop) send(_ context.Context, m *tell.Message) Reply {
	s.mu.Lock()
	s.heard = append(s.heard, *m)
	s.doubled = s.doubled || s.onWay[m.MerchantUID]
	s.onWay[m.MerchantUID] = true
	s.most = max(s.most, len(s.onWay))
	answer := s.answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.onWay, m.MerchantUID)
	}()
	if answer != nil {
		if reply := answer(m); reply != nil {
			return *reply
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.replies) == 0 {
		return Reply{}
	}
	reply := s.replies[0]
	s.replies = s.replies[1:]
	return reply
}

// told returns the messages that the shop was told since the last call.
func (s *fakeShop) told() (list []tell.Message) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	list, s.heard = s.heard, nil
	return list
}

// events returns them in short, such as "imp_1 paid" or "imp_1 paid late".
func (s *fakeShop) events() (list []string) {
	for _, m := range s.told() {
		line := m.ImpUID + " " + string(m.Event)
		if m.CancellationID != "" {
			line += " " + m.CancellationID
		}
		if m.Late {
			line += " late"
		}
		list = append(list, line)
	}
	return list
}

func (s *fakeShop) on(answer func(m *tell.Message) *Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// inShop runs a test in a world with a shop that is told, and a worker.
func inShop(t *testing.T, test func(w *world, s *fakeShop)) {
	t.Helper()
	inIdleShop(t, func(w *world, s *fakeShop) {
		w.l.Work()
		synctest.Wait()
		w.book.read()
		test(w, s)
	})
}

// inIdleShop is inShop without the worker.
func inIdleShop(t *testing.T, test func(w *world, s *fakeShop)) {
	t.Helper()
	inWorld(t, func(w *world) {
		s := &fakeShop{onWay: make(map[string]bool)}
		w.acc.Tells = &Tells{
			Send: s.send, Timeout: 10 * time.Second, Events: []tell.Event{tell.Paid, tell.Cancelled, tell.Expired},
			Retry: 72 * time.Hour, Concurrency: 8, Intervals: []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour},
		}
		require.True(t, w.l.hasMark(context.Background(), w.acc))
		w.book.read()
		test(w, s)
		assert.False(w.t, s.doubled, "two messages were on their way for one order")
	})
}

// paid, and others below, change a payment as the API shows it.
func paid(p *Seen) { p.Status, p.PaidAt = client.StatusPaid, p.StartedAt+1 }

// cancels pays a part of a payment back.
func cancels(id string, at int64) func(*Seen) {
	return func(p *Seen) {
		p.Status, p.Refunded, p.CancelledAt = client.StatusCancelled, true, at
		p.CancelAmount = fmt.Sprint(500 * (len(p.Cancellations) + 1))
		p.Cancellations = append(p.Cancellations, client.OutlineCancellation{ID: id, CancelledAt: at})
	}
}

// notice has the ledger receive a notice.
func (w *world) notice(impUID, status string, change ...func(*Notice)) {
	w.t.Helper()
	n := &Notice{ImpUID: impUID, Status: status}
	for _, c := range change {
		c(n)
	}
	known, err := w.l.Notice(context.Background(), w.acc, n)
	require.NoError(w.t, err)
	require.True(w.t, known)
}

// isPaid stores a row of another order whose payment is paid, and which the shop is to hear of.
func (w *world) isPaid(order string, change ...func(*Row)) {
	a := w.issued("a", "imp_"+order)
	w.seen("imp_"+order, client.StatusReady, paid, func(p *Seen) { p.Order = order })
	a.State, a.Status, a.PaidAt, a.Verified, a.Next = Paid, "paid", w.now(0)/1000, w.now(0), 0
	a.Happenings = []Happening{{Event: tell.Paid, Seen: w.now(0)}}
	row := &Row{Format: Format, Account: "shop", Order: order, Version: 1, Attempts: []Attempt{a}}
	row.Telling.Since = w.now(0)
	for _, c := range change {
		c(row)
	}
	prepare(row, 1, w.l.env(w.acc))
	w.store.set(row)
	w.l.telling.wake()
}

// stale has the payment of a row looked up before the shop is told.
func stale(row *Row) { row.Attempts[0].Verified = 0 }

func TestNoticeIsTold(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a1", "imp_1"))
		p := w.seen("imp_1", client.StatusReady, paid)
		w.notice("imp_1", "paid")
		assert.Equal(t, []tell.Message{{
			Account: "shop", ImpUID: "imp_1", MerchantUID: "o", Event: tell.Paid, Status: "paid", Amount: "15000", CancelAmount: "0",
			PaidAt: p.PaidAt, Expires: w.row().Attempts[0].Deadline,
		}}, s.told())
		w.pass(48 * time.Hour)
		assert.Empty(t, s.told())
		assert.Empty(t, w.reported())
		assert.Empty(t, w.row().Queue)
	})
}

// Each event follows the answer to the one before.
func TestEventsOfAnOrderFollowEachOther(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a1", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid, cancels("c1", w.now(0)/1000+2), cancels("c2", w.now(0)/1000+3))
		s.on(func(*tell.Message) *Reply { time.Sleep(2 * time.Second); return nil })
		w.notice("imp_1", "cancelled")
		for _, want := range []string{"imp_1 paid", "imp_1 cancelled c1", "imp_1 cancelled c2"} {
			assert.Equal(t, []string{want}, s.events())
			time.Sleep(2 * time.Second)
		}
		assert.Empty(t, s.told())
		for _, h := range w.row().Attempts[0].Happenings {
			assert.NotZero(t, h.Done)
		}
	})
}

// Orders are told the oldest first, as many at once as the configuration says.
func TestOldestFirstAndNotMoreThanConcurrency(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, s *fakeShop) {
		w.acc.Tells.Concurrency = 3
		for i := range 10 {
			w.isPaid(fmt.Sprintf("o%d", 9-i)) // the order of the keys is another one
			time.Sleep(time.Millisecond)
		}
		s.on(func(*tell.Message) *Reply { time.Sleep(time.Second); return nil })
		w.l.Work()
		var told []string
		for range 4 {
			synctest.Wait()
			var batch []string
			for _, m := range s.told() {
				batch = append(batch, m.MerchantUID)
			}
			told = append(told, fmt.Sprint(len(batch)))
			for _, order := range batch {
				assert.Contains(t, [][]string{{"o9", "o8", "o7"}, {"o6", "o5", "o4"}, {"o3", "o2", "o1"}, {"o0"}}[len(told)-1], order)
			}
			time.Sleep(time.Second)
		}
		assert.Equal(t, []string{"3", "3", "3", "1"}, told)
		assert.Equal(t, 3, s.most)
		assert.Empty(t, s.told())
	})
}

// A process that is stopped before it sends finds that another one may be telling the order.
func TestMessageIsWithdrawnAfterAStop(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]struct{ wall, monotonic time.Duration }{
		"stopped":             {13 * time.Second, 13 * time.Second},
		"the machine slept":   {13 * time.Second, 0},
		"the clock was set":   {0, 13 * time.Second},
		"stopped for a while": {11 * time.Second, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inIdleShop(t, func(w *world, s *fakeShop) {
				w.isPaid("o")
				stops := 1
				w.store.hook(func(_ context.Context, op string, row *Row) error {
					if op == "put" && row.Telling.Until != 0 && stops > 0 {
						stops--
						w.clock.setBy(stop.wall, stop.monotonic)
					}
					return nil
				})
				o := w.l.order(w.acc, "o")
				require.NoError(t, o.read(t.Context()))
				want, times := Withdrawn, 0
				if stop.wall == 11*time.Second {
					want, times = Heard, 1
				}
				assert.Equal(t, want, o.tell())
				assert.Len(t, s.told(), times)
				assert.Equal(t, times == 0, w.row().pending())
				assert.Zero(t, w.row().Telling.Until, "it may be told again at once")
				assert.Zero(t, w.row().Telling.Tries)
			})
		})
	}
}

// A process that was stopped must not end the claim of the one that tells the order since.
func TestTwoNodesNeverTellOneOrderAtOnce(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, s *fakeShop) {
		other := w.node()
		for range 20 {
			w.isPaid(fmt.Sprintf("o%d", time.Now().UnixNano()))
			time.Sleep(time.Millisecond)
		}
		s.on(func(*tell.Message) *Reply { time.Sleep(3 * time.Second); return nil })
		w.l.Work()
		other.Work()
		time.Sleep(time.Minute)
		assert.Len(t, s.told(), 20, "each once")
	})
	inIdleShop(t, func(w *world, s *fakeShop) {
		other := w.node()
		w.isPaid("o")
		s.on(func(*tell.Message) *Reply { time.Sleep(9 * time.Second); return nil })
		stops := 1
		w.acc.API = stopping{w.api, func() {
			if stops > 0 {
				stops--
				time.Sleep(40 * time.Second) // the process is stopped
			}
		}}
		w.store.change(Key{"shop", "o"}, func(row *Row) { row.Attempts[0].Verified = 0 })
		w.l.Work()
		time.Sleep(39 * time.Second)
		require.Empty(t, s.told())
		other.Work() // the claim has ended
		time.Sleep(30 * time.Second)
		assert.Len(t, s.told(), 1)
	})
}

// stopping is an API during whose look-ups something happens.
type stopping struct {
	*fakeAPI
	stop func()
}

func (s stopping) Payment(ctx context.Context, impUID string) (Seen, error) {
	seen, err := s.fakeAPI.Payment(ctx, impUID)
	s.stop()
	return seen, err
}

// What a look-up showed is told for ten minutes. Then the payment is looked up again.
func TestPaymentIsVerifiedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ago   time.Duration
		looks int
	}{
		"just now":                        {0, 0},
		"ten minutes ago":                 {10 * time.Minute, 0},
		"more than ten minutes ago":       {10*time.Minute + time.Millisecond, 1},
		"by a clock that was set back":    {-time.Hour, 1},
		"never since it is in this state": {math.MinInt64, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inIdleShop(t, func(w *world, s *fakeShop) {
				w.isPaid("o")
				w.store.change(Key{"shop", "o"}, func(row *Row) {
					row.Attempts[0].Verified = w.now(-c.ago)
					if c.ago == math.MinInt64 {
						row.Attempts[0].Verified = 0
					}
				})
				w.l.tellAll(t.Context())
				assert.Equal(t, []string{"imp_o paid"}, s.events())
				assert.Equal(t, c.looks, w.lines("GET imp_o"))
			})
		})
	}
}

// A payment that was paid back meanwhile is told as it is.
func TestVerifiedAgainShowsMore(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, s *fakeShop) {
		w.isPaid("o")
		w.api.change("imp_o", cancels("c1", w.now(0)/1000))
		time.Sleep(11 * time.Minute)
		w.l.Work()
		told := s.told()
		require.Len(t, told, 2)
		assert.Equal(t, []string{"cancelled", "500"}, []string{told[0].Status, told[0].CancelAmount}, "true now")
		assert.Equal(t, tell.Cancelled, told[1].Event)
	})
}

// While the payment cannot be looked up, nothing is told.
func TestLookUpThatFailsBeforeTheMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm  func(w *world)
		cause string
	}{
		"silent":          {func(w *world) { w.api.on(func(string) fault { return fault{err: errSilent} }) }, "the payment could not be looked up: the API does not tell"},
		"unknown":         {func(w *world) { w.api.on(func(string) fault { return fault{err: errMissing} }) }, "the payment could not be looked up: "},
		"an unknown word": {func(w *world) { w.api.change("imp_o", func(p *Seen) { p.Status = "settled" }) }, "the payment could not be looked up: the API does not tell"},
		"another order's": {func(w *world) { w.api.change("imp_o", func(p *Seen) { p.Order = "o2" }) }, "the payment could not be looked up: a look-up by imp_uid shows another order"},
		"lags":            {func(w *world) { w.api.change("imp_o", func(p *Seen) { p.Status = client.StatusReady }) }, "the payment could not be looked up: the look-up shows an earlier state"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				w.isPaid("o", stale, func(*Row) { c.harm(w) })
				time.Sleep(time.Hour)
				assert.Empty(t, s.told())
				tl := w.row().Telling
				assert.Contains(t, tl.Cause, c.cause)
				assert.NotContains(t, tl.Cause, "none", "the API's words are not kept")
				assert.Zero(t, tl.Tries)
				assert.Zero(t, tl.Spent)
				assert.Zero(t, tl.Waiting)
				looks := w.lines("GET imp_o")
				assert.InDelta(t, 11, looks, 2, "after ever longer pauses")
				assert.Equal(t, []string{"a payment could not be looked up several times before the shop is told, and will be again imp_o"}, w.reported())
				w.api.on(nil)
				w.api.change("imp_o", paid, func(p *Seen) { p.Order = "o" })
				time.Sleep(11 * time.Minute)
				assert.Equal(t, []string{"imp_o paid"}, s.events())
			})
		})
	}
}

// The shop's refusals use up the intervals, and then retry. Then the order waits for a person.
func TestRefusedOrderWaitsForAPerson(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.configure(func(acc *Account) { acc.Tells.Retry = 4 * time.Minute })
		var at []time.Duration
		began := time.Now()
		s.on(func(m *tell.Message) *Reply {
			if m.MerchantUID != "o" {
				return nil
			}
			at = append(at, time.Since(began))
			return &Reply{Verdict: Refused, Cause: "HTTP 409"}
		})
		w.isPaid("o")
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		require.Len(t, at, 5, "after four pauses of about 0:05, 0:30, 2:00 and 10:00 the time is over")
		for i, pause := range w.acc.Tells.Intervals[:4] {
			assert.InEpsilon(t, pause.Seconds(), (at[i+1] - at[i]).Seconds(), 0.11+1.5/pause.Seconds(), i)
		}
		tl := w.row().Telling
		assert.NotZero(t, tl.Waiting)
		assert.Equal(t, "the shop has refused for as long as retry says: HTTP 409", tl.Cause)
		assert.Equal(t, PersonQueue("shop"), w.row().Queue)
		assert.Equal(t, []string{"an order waits for a person before the shop is told of it: the shop has refused for as long as retry says: HTTP 409 imp_o"}, w.reported())
		rows, _, err := w.l.Barcodes(t.Context(), Filter{Waiting: true})
		require.NoError(t, err)
		assert.Len(t, rows, 1)
		w.isPaid("o2")
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Len(t, at, 5, "it is left alone")

		s.on(nil)
		waited, err := w.l.Retry(t.Context(), Key{"shop", "o"}, false)
		require.NoError(t, err)
		assert.True(t, waited)
		assert.Contains(t, s.events(), "imp_o paid")
		assert.Len(t, w.reported(), 1, "once")
	})
}

func TestPausesAfterRefusals(t *testing.T) {
	t.Parallel()
	e := at(t)
	e.tells, e.jitter = &Tells{Retry: time.Hour, Intervals: []time.Duration{time.Second, time.Minute}}, jitter
	var tl Telling
	spread := make(map[int64]bool)
	for n := range 30 {
		before := tl
		tl.note(true, Reply{Verdict: Refused, Cause: "no"}, e)
		pause := e.tells.Intervals[min(n, 1)]
		assert.Equal(t, n+1, tl.Tries)
		assert.InEpsilon(t, pause.Milliseconds(), tl.Next-noon, 0.1)
		assert.Equal(t, tl.Spent-before.Spent, tl.Next-noon)
		spread[tl.Next] = true
	}
	assert.Greater(t, len(spread), 20, "orders that were refused together do not come back together")
	kept := tl
	tl.note(true, Reply{Verdict: Unheard, Cause: "down"}, e)
	kept.Cause = "down"
	assert.Equal(t, kept, tl, "a shop that is down uses up nothing")
	tl.note(true, Reply{Verdict: Withdrawn}, e)
	assert.Equal(t, kept, tl)
	tl.Since, tl.Looks = 7, 3
	tl.note(true, Reply{Verdict: Heard}, e)
	assert.Equal(t, Telling{Since: 7}, tl)
}

// A message whose answer was lost is sent again, with the same id.
func TestAnswerThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		s.on(func(*tell.Message) *Reply { w.store.hook(broken); return nil })
		w.isPaid("o")
		time.Sleep(10 * time.Second)
		first := s.told()
		require.Len(t, first, 1)
		s.on(nil)
		w.store.hook(nil)
		time.Sleep(20 * time.Second)
		again := s.told()
		require.Len(t, again, 1)
		assert.Equal(t, first[0].ID(), again[0].ID())
		assert.False(t, w.row().pending())
		time.Sleep(time.Hour)
		assert.Empty(t, s.told())
	})
}

func TestPanicWhileTelling(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		s.on(func(*tell.Message) *Reply { panic("canary") })
		w.isPaid("o")
		assert.Len(t, s.told(), 1)
		assert.Equal(t, "panic: canary", w.row().Telling.Cause)
		s.on(nil)
		time.Sleep(7 * time.Second)
		assert.Equal(t, []string{"imp_o paid"}, s.events())
	})
}

// What is on its way is finished, and what came of it is written.
func TestCloseWaitsForAMessage(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		s.on(func(*tell.Message) *Reply { time.Sleep(5 * time.Second); return nil })
		w.isPaid("o")
		require.Len(t, s.told(), 1)
		began := time.Now()
		require.NoError(t, w.l.Close())
		assert.Equal(t, 5*time.Second, time.Since(began))
		assert.False(t, w.row().pending())
		assert.Equal(t, 1, w.store.closed)
	})
}

// A configuration without cvs_notice keeps what the shop is still to hear.
func TestAccountThatTellsNobodyKeepsWhatIsPending(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		silent := *w.acc
		silent.Tells = nil
		w.use(Settings{Accounts: map[string]*Account{"shop": &silent}, Keep: time.Hour})
		w.isPaid("o")
		w.pass(50 * time.Hour)
		w.pass(50 * time.Hour)
		assert.Empty(t, s.told())
		require.NotNil(t, w.row())
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}, Keep: time.Hour})
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"imp_o paid"}, s.events())
		w.pass(25 * time.Hour)
		assert.Nil(t, w.row(), "now it is dropped")
	})
}

// What is not the shop's business any more is not told, and does not stay.
func TestMootEventIsDone(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, s *fakeShop) {
		a, b := w.issued("a", "imp_1"), w.issued("b", "imp_2")
		a.State, a.Happenings, a.Verified = Void, []Happening{{Event: tell.Expired, Seen: w.now(0)}}, w.now(0)
		row := w.put(a, b)
		prepare(row, 1, w.l.env(w.acc))
		require.Equal(t, TellQueue("shop"), row.Queue)
		w.store.set(row)
		w.l.tellAll(t.Context())
		assert.Empty(t, s.told())
		assert.False(t, w.row().pending())
		assert.Empty(t, w.row().Queue)
	})
}

// An attempt that never has a barcode, because the API refuses it or its outcome is never found, does not
// keep the shop from hearing that the order's barcode has expired. While its outcome is open, the shop waits.
func TestAttemptWithoutABarcodeMakesNothingMoot(t *testing.T) {
	t.Parallel()
	for becomes, told := range map[string][]string{"refused": {"imp_1 expired"}, "closed": {"imp_1 expired"}, "issued": nil} {
		inShop(t, func(w *world, s *fakeShop) {
			a := w.issued("a", "imp_1")
			a.State, a.Happenings, a.Verified, a.Next = Void, []Happening{{Event: tell.Expired, Seen: w.now(0)}}, w.now(0), 0
			b := Attempt{ID: "b", State: Asked, Amount: "15000", Asked: w.now(0), Since: w.now(0), Next: w.now(time.Hour)}
			row := w.put(a, b)
			prepare(row, 1, w.l.env(w.acc))
			w.store.set(row)
			time.Sleep(5 * time.Second)
			assert.Empty(t, s.told())
			assert.LessOrEqual(t, w.lines("put"), 2, "it is looked at again after a pause")
			w.store.change(Key{"shop", "o"}, func(row *Row) {
				switch b := &row.Attempts[1]; becomes {
				case "refused":
					row.Attempts = row.Attempts[:1]
				case "closed":
					b.Closed = true
				case "issued":
					b.State, b.ImpUID, b.Deadline = Issued, "imp_2", w.now(time.Hour)/1000
				}
				row.Version++
			})
			time.Sleep(20 * time.Second)
			assert.Equal(t, told, s.events(), becomes)
			assert.False(t, w.row().pending(), becomes)
		})
	}
}

// Nothing is told to anybody while the store is down, and a store that fails at the claim neither.
func TestNothingIsToldWithoutAClaim(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"due", "put"} {
		inIdleShop(t, func(w *world, s *fakeShop) {
			w.isPaid("o")
			w.failsAt(op, 1)
			w.l.tellAll(t.Context())
			assert.Empty(t, s.told(), op)
			assert.True(t, w.l.Down(), op)
		})
	}
	inIdleShop(t, func(w *world, s *fakeShop) {
		w.isPaid("o")
		o := w.l.order(w.acc, "o")
		require.NoError(t, o.read(t.Context()))
		w.store.change(Key{"shop", "o"}, func(*Row) {})
		assert.Equal(t, Withdrawn, o.tell(), "another node was first")
		assert.Empty(t, s.told())
	})
}

// What a look-up shows before the message is sent may have it wait for a person: that is reported once.
func TestWaitingIsReported(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.isPaid("o", stale, func(*Row) { w.api.change("imp_o", func(p *Seen) { p.Amount = "1" }) })
		time.Sleep(time.Minute)
		assert.Empty(t, s.told())
		assert.Equal(t, PersonQueue("shop"), w.row().Queue)
		assert.Equal(t, []string{"an order waits for a person before the shop is told of it: " + causeAmount + " imp_o"}, w.reported())
		assert.Equal(t, []EventKind{GaveUp}, w.counted())
	})
}

// An order that came to wait while a message was on its way is reported by whoever found it.
func TestWaitingIsReportedOnce(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		s.on(func(*tell.Message) *Reply {
			time.Sleep(5 * time.Second)
			return &Reply{Verdict: Refused, Cause: "no"}
		})
		w.isPaid("o")
		require.Len(t, s.told(), 1)
		w.api.change("imp_o", func(p *Seen) { p.Amount = "1" })
		time.Sleep(time.Second)
		w.notice("imp_o", "cancelled")
		time.Sleep(time.Minute)
		assert.Empty(t, s.told())
		assert.Equal(t, PersonQueue("shop"), w.row().Queue)
		assert.Equal(t, []string{"an order waits for a person before the shop is told of it: " + causeAmount}, w.reported())
	})
}

// The text of a refusal is the operator's: it holds the cause, and never a word of the API's.
func TestCauseIsKept(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		s.on(func(*tell.Message) *Reply { return &Reply{Verdict: Refused, Cause: "HTTP 409"} })
		w.isPaid("o")
		s.told()
		assert.Equal(t, "HTTP 409", w.row().Telling.Cause)
		assert.True(t, strings.HasPrefix(string(w.row().Queue), "tell "))
	})
}

// A person may retry while a message is on its way, and another node look at the queue.
func TestRetryDuringAMessage(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		other := w.node()
		s.on(func(*tell.Message) *Reply {
			w.store.change(Key{"shop", "o"}, func(row *Row) { // the other node has looked at it
				row.Telling.Waiting, row.Telling.Cause = w.now(0), causeSandbox
				row.Version++
			})
			waited, err := w.l.Retry(t.Context(), Key{"shop", "o"}, false)
			require.NoError(t, err)
			assert.True(t, waited)
			s.on(nil)
			other.Work()
			time.Sleep(5 * time.Second)
			return nil
		})
		w.isPaid("o")
		time.Sleep(30 * time.Second)
		assert.Len(t, s.told(), 1)
	})
}

// While a message is on its way, another look-up may show more. What the one before the message showed does
// not replace it.
func TestLookUpBeforeAMessageIsOlderThanOneMeanwhile(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid)
		w.notice("imp_1", "paid")
		assert.Equal(t, []string{"imp_1 paid"}, s.events())
		w.api.change("imp_1", cancels("c1", w.now(0)/1000+2))
		s.on(func(m *tell.Message) *Reply {
			if m.CancellationID == "c1" {
				time.Sleep(9 * time.Second)
			}
			return nil
		})
		w.store.change(Key{"shop", "o"}, func(row *Row) {
			a := &row.Attempts[0]
			a.State, a.Verified = Refunded, 0
			a.Happenings = append(a.Happenings, Happening{Event: tell.Cancelled, Cancellation: "c1", Seen: w.now(0)})
			row.Version++
			prepare(row, row.Version, w.l.env(w.acc))
		})
		time.Sleep(3 * time.Second)
		w.api.change("imp_1", cancels("c2", w.now(0)/1000+3))
		w.notice("imp_1", "cancelled", func(n *Notice) { n.CancellationID = "c2" })
		time.Sleep(20 * time.Second)
		told := s.told()
		require.Len(t, told, 2)
		assert.Equal(t, []string{"c1", "500"}, []string{told[0].CancellationID, told[0].CancelAmount})
		assert.Equal(t, []string{"c2", "1000"}, []string{told[1].CancellationID, told[1].CancelAmount})
	})
}

// The process ends after the API has voided a barcode whose deadline has passed, and before that is
// written. A notice then has the payment looked at: what the look-up shows is told, too.
func TestExpiredIsToldIfALookUpShowsTheVoid(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		a := w.issued("a1", "imp_1")
		a.Deadline, a.Voiding, a.Overdue = w.now(-time.Minute)/1000, true, true
		w.put(a)
		w.seen("imp_1", client.StatusCancelled)
		w.notice("imp_1", "paid")
		time.Sleep(time.Minute)
		told := s.told()
		require.Len(t, told, 1)
		assert.Equal(t, tell.Expired, told[0].Event)
		assert.Equal(t, "cancelled", told[0].Status)
	})
}
