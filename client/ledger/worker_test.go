package ledger

// This file holds tests of the worker: what it does about each attempt that is due.

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// work works once on what is due.
func (w *world) work() int { return w.l.workOnce(context.Background()) }

// due is an attempt that is to be looked at now.
func due(a Attempt, change ...func(*Attempt)) Attempt {
	a.Next = 1
	for _, c := range change {
		c(&a)
	}
	return a
}

func TestWorkerByStateAndAnswer(t *testing.T) {
	t.Parallel()
	is := func(s State) func(*Attempt) { return func(a *Attempt) { a.State = s } }
	over := func(a *Attempt) { a.Deadline -= 2 * 3600 }
	voiding := func(a *Attempt) { a.Voiding = true }
	asked := func(ago time.Duration, closed bool) func(*Attempt) {
		return func(a *Attempt) {
			a.State, a.ImpUID, a.Closed = Asked, "", closed
			a.Asked += (time.Minute - ago).Milliseconds()
		}
	}
	const never = time.Duration(-1)
	for _, c := range []struct {
		name    string
		attempt []func(*Attempt)
		seen    client.Status
		book    []string // without the claim
		next    time.Duration
		report  string
	}{
		{"issued, ready", nil, client.StatusReady, []string{"GET imp_1", "put: a/imp_1 issued"}, time.Hour + 3*time.Minute, ""},
		{"issued, paid", nil, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, ""},
		{"issued, cancelled", nil, client.StatusCancelled, []string{"GET imp_1", "put: a/imp_1 void"}, time.Minute, ""},
		{"issued, over", []func(*Attempt){over}, client.StatusReady, []string{"GET imp_1", "put: a/imp_1 expired"}, never, ""},
		{"issued, over, paid", []func(*Attempt){over}, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, ""},
		{"issued, over, an unknown payment", []func(*Attempt){over}, "", []string{"GET imp_1", "put: a/imp_1 failed"}, time.Minute, ""},
		{"issued, an unknown payment", nil, "", []string{"GET imp_1", "put: a/imp_1 issued"}, 2 * time.Minute, ""},
		{"to be voided", []func(*Attempt){voiding}, client.StatusReady, []string{"put held: a/imp_1 issued!", "DELETE imp_1", "put: a/imp_1 void"}, time.Minute, ""},
		{
			"to be voided, paid",
			[]func(*Attempt){voiding},
			client.StatusPaid,
			[]string{"put held: a/imp_1 issued!", "DELETE imp_1", "GET imp_1", "put: a/imp_1 paid"},
			never, "",
		},
		{"void, still ready", []func(*Attempt){is(Void)}, client.StatusReady, []string{"GET imp_1", "put: a/imp_1 void"}, 9 * time.Minute, ""},
		{"void, cancelled", []func(*Attempt){is(Void)}, client.StatusCancelled, []string{"GET imp_1", "put: a/imp_1 void"}, 9 * time.Minute, ""},
		{"void, paid after all", []func(*Attempt){is(Void)}, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, "a barcode was paid after it was voided imp_1"},
		{"void, an unknown payment", []func(*Attempt){is(Void)}, "", []string{"GET imp_1", "put: a/imp_1 void"}, 9 * time.Minute, ""},
		{
			"issued, failed", nil, client.StatusFailed,
			[]string{"GET imp_1", "put held: a/imp_1 issued!", "DELETE imp_1", "GET imp_1", "put: a/imp_1 failed"},
			time.Minute, "",
		},
		{
			"failed, ready after all",
			[]func(*Attempt){is(Failed)},
			client.StatusReady,
			[]string{"GET imp_1", "put held: a/imp_1 failed!", "DELETE imp_1", "put: a/imp_1 void"},
			time.Minute, "",
		},
		{"failed, as before", []func(*Attempt){is(Failed)}, client.StatusFailed, []string{"GET imp_1", "put: a/imp_1 failed"}, 9 * time.Minute, ""},
		{"failed, paid after all", []func(*Attempt){is(Failed)}, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, "a barcode was paid after it was voided imp_1"},
		{"asked, found", []func(*Attempt){asked(time.Minute, false)}, client.StatusReady, []string{"LIST", "put: a/imp_1 issued"}, time.Hour + 3*time.Minute, ""},
		{"asked, none", []func(*Attempt){asked(time.Minute, false)}, "", []string{"LIST", "put: a askedx"}, time.Minute, ""},
		{"given up, none", []func(*Attempt){asked(time.Minute, true)}, "", []string{"LIST", "put: a askedx"}, 9 * time.Minute, ""},
		{
			"given up, found",
			[]func(*Attempt){asked(time.Minute, true)},
			client.StatusReady,
			[]string{"LIST", "put: a/imp_1 issued!x"},
			time.Minute,
			"the payment of an attempt that was given up has appeared: it is voided, or was paid imp_1",
		},
		{
			"given up, paid",
			[]func(*Attempt){asked(time.Minute, true)},
			client.StatusPaid,
			[]string{"LIST", "put: a/imp_1 paidx"},
			never,
			"the payment of an attempt that was given up has appeared: it is voided, or was paid imp_1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.put(due(w.issued("a", "imp_1"), c.attempt...))
				if c.seen != "" {
					w.seen("imp_1", c.seen)
				}
				require.Equal(t, 1, w.work())
				assert.Equal(t, c.book, w.book.read()[1:])
				a := w.row().Attempts[0]
				switch c.next {
				case never:
					assert.Zero(t, a.Next)
				default:
					assert.WithinDuration(t, time.UnixMilli(w.now(c.next)), time.UnixMilli(a.Next), time.Second)
				}
				if c.report == "" {
					assert.Empty(t, w.reported())
				} else {
					assert.Equal(t, []string{c.report}, w.reported())
				}
				assert.Empty(t, w.row().Holder)
				assert.Greater(t, w.row().Due, w.now(0))
			})
		})
	}
}

// After its deadline a void barcode is looked up for the last time.
func TestWorkerLooksOnceMoreAfterTheDeadline(t *testing.T) {
	t.Parallel()
	for status, want := range map[client.Status]string{client.StatusPaid: "a/imp_1 paid", client.StatusCancelled: "a/imp_1 void"} {
		inWorld(t, func(w *world) {
			w.put(due(w.issued("a", "imp_1"), func(a *Attempt) { a.State, a.Since, a.Deadline = Void, w.now(-2*time.Hour), w.now(-time.Hour)/1000 }))
			w.seen("imp_1", status)
			w.work()
			assert.Contains(t, w.book.read(), "GET imp_1")
			assert.Equal(t, want, w.states())
			assert.Zero(t, w.row().Attempts[0].Next)
		})
	}
}

func TestWorkerPausesLongerAfterEachFailure(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]func(*Attempt){
		"asked":        func(a *Attempt) { a.State, a.ImpUID = Asked, "" },
		"over":         func(a *Attempt) { a.Deadline -= 2 * 3600 },
		"void":         func(a *Attempt) { a.State = Void },
		"unknown word": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if a == nil {
					w.seen("imp_1", "settled")
					a = func(a *Attempt) { a.Deadline -= 2 * 3600 }
				} else {
					w.api.on(func(string) fault { return fault{err: errSilent} })
				}
				w.put(due(w.issued("a", "imp_1"), a))
				for n, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second} {
					require.Equal(t, 1, w.work(), "it is due")
					assert.Equal(t, w.now(pause), w.row().Due)
					assert.Equal(t, n+1, w.row().Tries)
					time.Sleep(pause - time.Millisecond)
					assert.Zero(t, w.work())
					time.Sleep(time.Millisecond)
				}
				assert.Equal(t, []string{"an order's payments could not be looked at several times, and will be again"}, w.reported(), "once")
				w.api.on(nil)
				w.seen("imp_1", client.StatusPaid)
				if name != "unknown word" {
					w.work()
					assert.Zero(t, w.row().Tries)
				}
			})
		})
	}
}

func TestWorkerLooksAtEveryAttemptInSpiteOfAFailure(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1"), func(a *Attempt) { a.Voiding = true }), due(w.issued("b", "imp_2"), func(a *Attempt) { a.State = Void }))
		w.seen("imp_1", client.StatusReady)
		w.seen("imp_2", client.StatusPaid)
		w.api.on(func(call string) fault {
			if call == "DELETE imp_1" {
				return fault{err: errRefused}
			}
			return fault{work: true}
		})
		w.work()
		assert.Equal(t, "a/imp_1 issued!, b/imp_2 paid", w.states())
		assert.Equal(t, 1, w.row().Tries)
	})
}

// However it becomes known that a barcode is paid, the order's others are voided.
func TestPaidBarcodeVoidsTheOthers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Attempt){
		"void":     func(a *Attempt) { a.State = Void },
		"given up": func(a *Attempt) { a.State, a.ImpUID, a.Closed = Asked, "", true },
		"asked":    func(a *Attempt) { a.State, a.ImpUID = Asked, "" },
		"issued":   func(*Attempt) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.put(w.issued("b", "imp_0"), due(w.issued("a", "imp_1"), change), w.issued("c", "imp_2"))
				for _, impUID := range []string{"imp_0", "imp_2"} {
					w.seen(impUID, client.StatusReady)
				}
				w.seen("imp_1", client.StatusPaid)
				w.work()
				w.work()
				assert.Empty(t, w.api.live())
				for _, a := range w.row().Attempts {
					assert.Equal(t, map[string]State{"imp_0": Void, "imp_1": Paid, "imp_2": Void}[a.ImpUID], a.State)
				}
			})
		})
	}
}

// The clock was an hour ahead when the attempt was asked for, and right when its payment began.
func TestWorkerFindsAPaymentFromBeforeTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := due(w.issued("a", "imp_1"), func(a *Attempt) { a.State, a.ImpUID = Asked, "" })
		a.Asked, a.Since, a.Began = w.now(time.Hour), w.now(time.Hour), w.now(time.Hour)/1000-2
		w.put(a)
		w.seen("imp_1", client.StatusReady)
		w.work() // plans it anew
		time.Sleep(15 * time.Second)
		w.work()
		assert.Equal(t, "a/imp_1 issued", w.states())
	})
}

func TestRowIsRemovedAfterKeep(t *testing.T) {
	t.Parallel()
	ended := func(w *world, keep time.Duration) *Row {
		r := w.put(due(w.issued("a", "imp_1"), func(a *Attempt) { a.State, a.Since = Paid, w.now(-keep) }))
		r.Attempts[0].Next = 0
		w.store.set(r)
		return r
	}
	for _, keep := range []time.Duration{0, time.Hour} {
		inWorld(t, func(w *world) {
			w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}, Keep: keep})
			if keep == 0 {
				keep = DefaultKeep
			}
			ended(w, keep-time.Second)
			w.work()
			require.NotNil(t, w.row())
			assert.Equal(t, w.now(time.Second), w.row().Due)
			r := ended(w, keep-time.Second)
			r.AtTill = w.now(-time.Minute)
			w.store.set(r)
			time.Sleep(time.Second)
			w.work()
			require.NotNil(t, w.row(), "a customer is at the till")

			ended(w, keep)
			w.book.read()
			w.work()
			assert.Nil(t, w.row())
			assert.Equal(t, []string{"put: a/imp_1 paid", "put: "}, w.book.read())
		})
	}
}

// What the shop has not heard, or waits for a person, stays.
func TestRowIsKeptWhileItIsPending(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.waits("shop", "o", causeAmount)
		w.waits("shop", "hinted", causeAmount)
		w.store.change(Key{"shop", "hinted"}, func(row *Row) {
			row.Attempts[0].Happenings[0].Done = 1
			row.Hints = []Hint{{ImpUID: "imp_9", Status: "paid", Amount: "1", At: w.now(2 * DefaultKeep), Next: w.now(2*DefaultKeep + time.Hour)}}
		})
		w.pass(2 * DefaultKeep)
		for _, order := range []string{"o", "hinted"} {
			w.store.change(Key{"shop", order}, func(row *Row) { row.Due = 1 })
		}
		w.work()
		require.NotNil(t, w.row())
		assert.InDelta(t, w.now(daily), w.row().Due, 3000)
		require.NotNil(t, w.store.get(Key{"shop", "hinted"}))
		w.store.change(Key{"shop", "o"}, func(row *Row) {
			row.Attempts[0].Happenings[0].Done = 1
			row.Due = 1
			row.place(w.l.env(w.acc))
		})
		w.work()
		assert.Nil(t, w.row())
	})
}

// An account whose mark cannot be written is left alone: what is history is not known.
func TestWorkerNeedsTheMark(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.acc.Tells = &Tells{Intervals: []time.Duration{time.Second}}
		row := w.put(due(w.issued("a", "imp_1")))
		w.seen("imp_1", client.StatusReady, paid)
		w.store.set(&Row{Format: Format + 1, Account: "shop", Order: markOrder, Version: 1, Mark: &Mark{}})
		assert.False(t, w.l.workOn(t.Context(), row))
		w.l.tellAll(t.Context())
		assert.Zero(t, w.lines("GET"))
		assert.False(t, w.l.Down())
	})
}

// The worker reports an order that comes to wait for a person, once.
func TestWorkerReportsWhoWaits(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.put(due(w.issued("a", "imp_1")))
		w.seen("imp_1", client.StatusReady, paid, func(p *Seen) { p.Amount = "1" })
		w.work()
		report := []string{"an order waits for a person before the shop is told of it: " + causeAmount}
		assert.Equal(t, report, w.reported())
		assert.Equal(t, []EventKind{GaveUp}, w.counted())
		w.notice("imp_1", "paid")
		w.pass(10 * time.Second)
		w.work()
		assert.Equal(t, 2, w.lines("GET"))
		assert.Equal(t, report, w.reported())
	})
}

// The worker of another node, or a call, may be about to write the row.
func TestWorkerClaimsARow(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		r := w.put(due(w.issued("a", "imp_1")))
		w.seen("imp_1", client.StatusReady)
		r.Holder, r.HeldUntil = "a call", w.now(time.Second)
		w.store.set(r)
		w.work()
		assert.Empty(t, w.book.read(), "it is held")

		r.Holder = ""
		w.store.set(r)
		rows, err := w.store.Due(context.Background(), Looks, w.now(0), 1)
		require.NoError(t, err)
		w.store.change(r.Key(), func(*Row) {})
		w.l.workOn(context.Background(), rows[0])
		assert.Empty(t, w.book.read(), "another node was first")

		var leased int64
		w.api.on(func(string) fault {
			leased = w.store.get(r.Key()).Due
			return fault{work: true}
		})
		w.work()
		assert.Equal(t, w.now(time.Minute), leased, "nobody else looks at it meanwhile")
	})
}

func TestWorkerLeavesAnAccountThatIsUnknownHere(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1")))
		w.seen("imp_1", client.StatusPaid)
		w.use(Settings{})
		assert.Equal(t, 1, w.work())
		assert.Equal(t, []string{"put: a/imp_1 issued"}, w.book.read())
		assert.Equal(t, w.now(10*time.Minute), w.row().Due)
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}})
		time.Sleep(10 * time.Minute)
		w.work()
		assert.Equal(t, "a/imp_1 paid", w.states())
	})
}

func TestWorkerRecoversFromAPanic(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1")))
		w.seen("imp_1", client.StatusReady)
		w.api.on(func(string) fault { panic("canary") })
		w.work()
		assert.Equal(t, 1, w.row().Tries)
		assert.Equal(t, w.now(10*time.Second), w.row().Due)
	})
}

func TestWorkerGivesUpVoidingAfterTheDeadline(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1"), func(a *Attempt) { a.Voiding = true }))
		w.seen("imp_1", client.StatusReady)
		w.api.on(func(call string) fault {
			if call == "DELETE imp_1" {
				return fault{err: errRefused}
			}
			return fault{work: true}
		})
		w.work()
		assert.Equal(t, "a/imp_1 issued!", w.states())
		w.clock.setBy(time.Hour+3*time.Minute, time.Hour+3*time.Minute)
		w.work()
		assert.Equal(t, "a/imp_1 expiredx", w.states())
		assert.Zero(t, w.row().Attempts[0].Next, "no till takes it any more")
	})
}

// An accepted webhook brings look-ups after 1, 5 and 30 minutes, whatever else is planned.
func TestWorkerLooksAfterTheTill(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady)
		w.l.Work()
		w.l.MarkAtTill(context.Background(), Key{"shop", "o"})
		w.l.MarkAtTill(context.Background(), Key{"shop", "unknown"})
		w.l.MarkAtTill(context.Background(), Key{"elsewhere", "o"})
		began := w.now(0)
		var looks []int64
		w.api.on(func(string) fault {
			looks = append(looks, (w.now(0)-began)/60_000)
			return fault{work: true}
		})
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		assert.Equal(t, []int64{1, 5, 30}, looks)
		assert.Nil(t, w.store.get(Key{"shop", "unknown"}))
	})
}

func TestWorkReadsAgainAtOnceIfThereIsMore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		for i := range 2*batch + 1 { // of an account that this node does not have: they need no call of the API
			w.store.set(&Row{Format: Format, Account: "elsewhere", Order: fmt.Sprint(i), Version: 1, Due: 1, Attempts: []Attempt{due(w.issued("a", "imp_1"))}})
		}
		atOnceNow, most := 0, 0
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op != "put" {
				return nil
			}
			w.mu.Lock()
			atOnceNow++
			most = max(most, atOnceNow)
			w.mu.Unlock()
			time.Sleep(time.Millisecond)
			w.mu.Lock()
			atOnceNow--
			w.mu.Unlock()
			return nil
		})
		w.l.Work()
		time.Sleep(800 * time.Millisecond)
		synctest.Wait()
		assert.Equal(t, atOnce, most)
		assert.Empty(t, w.store.some(1000, func(r *Row) bool { return r.Due <= w.now(0) }))
	})
}

// A clock that was wrong when a row was written must not delay its look for years.
func TestSweepCorrectsRowsAfterTheClockWasSet(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.seen("imp_1", client.StatusPaid)
		w.l.Work()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := range batch + 10 {
			a := w.issued("a", "imp_1")
			a.Next = w.now(10 * 365 * 24 * time.Hour)
			row := &Row{Format: Format, Account: "shop", Order: fmt.Sprintf("%03d", i), Version: 1, Due: a.Next, Attempts: []Attempt{a}}
			switch i {
			case 0:
				row.Format++
			case 1:
				row.Account = "elsewhere"
			case 2:
				row.Due, row.Attempts[0].Next = w.now(time.Minute), w.now(time.Minute)
			}
			w.store.set(row)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Len(t, w.store.some(1000, func(r *Row) bool { return r.Due > w.now(2*time.Hour) }), batch+9, "no clock was set")
		w.clock.setBy(time.Hour, 0)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		later := w.store.some(1000, func(r *Row) bool { return r.Due > w.now(2*time.Hour) && r.Attempts[0].State == Issued })
		require.Len(t, later, 2)
		assert.Equal(t, []string{"001", "000"}, []string{later[0].Order, later[1].Order})
	})
	inWorld(t, func(w *world) {
		lists := 0
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op == "list" {
				lists++
			}
			return nil
		})
		w.l.Work()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, 1, lists)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.Equal(t, 2, lists, "once a day")
	})
}

// A configuration can fail right after it has opened the ledger.
func TestWorkEndsIfCloseComesAtOnce(t *testing.T) {
	t.Parallel()
	for range 100 {
		l := New(Options{Open: func() (Store, error) { return &mapStore{book: new(book), rows: map[Key]*Row{}}, nil }})
		require.NoError(t, l.Open())
		l.Work()
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			require.Fail(t, "Close waits for a worker that does not know of it")
		}
	}
}

func TestWorkEndsWithClose(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1")))
		w.seen("imp_1", client.StatusReady)
		arrived := make(chan struct{})
		w.acc.API = hanging{w.api, arrived}
		w.l.Work()
		<-arrived
		began := time.Now()
		require.NoError(t, w.l.Close())
		assert.Zero(t, time.Since(began))
		assert.Equal(t, 1, w.store.closed)
	})
}

// hanging is an API whose look-ups end with their context.
type hanging struct {
	*fakeAPI
	arrived chan struct{}
}

func (h hanging) Payment(ctx context.Context, _ string) (Seen, error) {
	close(h.arrived)
	<-ctx.Done()
	return Seen{}, errors.Join(client.ErrOutcomeUnknown, ctx.Err())
}

func TestWorkerDoesNothingWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1")))
		w.store.hook(broken)
		assert.Zero(t, w.work())
		assert.False(t, w.l.review(context.Background()))
		assert.Empty(t, w.book.read())
	})
}

// A row that was written while a clock was wrong is corrected, also if the clock is right again before
// the worker looks at it.
func TestSweepCorrectsRowsOfAClockThatIsRightAgain(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.l.Work()
		time.Sleep(10 * time.Second)
		w.clock.setBy(time.Hour, 0)
		_, err := w.issue()
		require.NoError(t, err)
		synctest.Wait()
		w.clock.setBy(-time.Hour, 0)
		require.Equal(t, w.now(daily+time.Hour), w.row().Due)
		time.Sleep(10 * time.Second)
		assert.LessOrEqual(t, w.row().Due, w.now(daily))
	})
}

// A row whose look-up hangs keeps no other row waiting.
func TestWorkerGoesOnWhileALookUpHangs(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		slow := w.put(due(w.issued("a", "imp_slow")))
		slow.Order = "slow"
		w.store.set(slow)
		w.put(w.issued("b", "imp_1"))
		w.seen("imp_slow", client.StatusReady)
		w.seen("imp_1", client.StatusPaid, paid)
		w.api.on(func(call string) fault {
			if call == "GET imp_slow" {
				time.Sleep(timeout)
			}
			return fault{}
		})
		time.Sleep(time.Second + time.Millisecond)
		_, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "paid"})
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		assert.Len(t, s.told(), 1)
	})
}
