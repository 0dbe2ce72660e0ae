package ledger

// This file holds tests of a store that fails, hangs, or comes back.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const (
	isDown    = "the ledger is down"
	isUp      = "the ledger is up again"
	isWithout = "the ledger is down: the order is looked up at the API instead"
)

func TestStoreThatFailsIsDoneWithout(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(context.Context, string, *Row) error{"fails": broken, "hangs": hang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.opens = func() (Store, error) { return nil, errBroken }
				w.store.hook(fails)
				began := time.Now()
				answer, err := w.issue()
				require.NoError(t, err)
				assert.Equal(t, "new_1", string(answer.Response.Body))
				assert.LessOrEqual(t, time.Since(began), 2*time.Second)
				assert.Equal(t, []string{"LIST", "POST"}, w.book.read(), "the order is looked up first")
				assert.Equal(t, []string{isDown, isWithout}, w.reported())
				assert.True(t, w.l.Down())
				assert.Equal(t, 1, w.store.closed)

				answer, err = w.issue()
				require.NoError(t, err)
				assert.True(t, answer.Reused)
				assert.Equal(t, []string{"LIST", "GET new_1"}, w.book.read())
			})
		})
	}
}

func TestNothingIsIssuedWhileDownIfSettingsRefuse(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}, Refuse: true})
		w.store.hook(broken)
		_, err := w.issue()
		require.ErrorIs(t, err, ErrDown)
		assert.Empty(t, w.book.read())
	})
}

// A store is opened again, after longer and longer pauses, and gets what it missed before anything
// is read from it.
func TestStoreGetsWhatItMissedBeforeItIsTrusted(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var opened []time.Duration
		began := time.Now()
		w.opens = func() (Store, error) {
			if opened = append(opened, time.Since(began)); len(opened) < 4 {
				return nil, errBroken
			}
			return w.store, nil
		}
		w.store.hook(broken)
		_, err := w.issue()
		require.NoError(t, err)
		w.api.fails("POST", fault{err: errSilent})
		_, err = w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = "o2" }))
		require.ErrorIs(t, err, client.ErrOutcomeUnknown)
		w.api.fails("POST", fault{err: errRefused})
		_, err = w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = "o3" }))
		require.NoError(t, err)
		w.store.hook(nil)
		w.book.read()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.Equal(t, []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}, opened)
		assert.ElementsMatch(t, []string{"put: n2/new_1 issued", "put: n4 asked"}, w.book.read())
		assert.Contains(t, w.reported(), isUp)
		assert.False(t, w.l.Down())
		assert.NotZero(t, w.row().Due)
		answer, err := w.issue()
		require.NoError(t, err)
		assert.True(t, answer.Reused)
	})
}

// What was answered while the store was down is the order's barcode afterwards, whoever had asked for
// it: the row may be missing, or have only the barcode that was voided meanwhile.
func TestBarcodeThatWasAnsweredWithoutTheStoreStays(t *testing.T) {
	t.Parallel()
	hour := int64(3600)
	for name, c := range map[string]struct {
		row      func(w *world)
		deadline int64 // of the request, from now
		want     string
	}{
		"no row":      {func(*world) {}, 0, "imp_2 issued"},
		"another one": {func(w *world) { w.put(w.issued("a", "imp_1")) }, hour, "a/imp_1 void, imp_2 issued"},
		"its own row": {func(w *world) { w.put(w.issued("b", "imp_2")) }, 0, "b/imp_2 issued"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				c.row(w)
				w.seen("imp_1", client.StatusCancelled)
				w.seen("imp_2", client.StatusReady)
				deadline := int64(0)
				if c.deadline != 0 {
					deadline = w.api.Now().Unix() + c.deadline
				}
				ask := func() {
					answer, err := w.issue(func(q *Terms) { q.Deadline = deadline })
					require.NoError(t, err)
					assert.True(t, answer.Reused)
					assert.Equal(t, "imp_2", string(answer.Response.Body))
				}
				w.store.hook(broken)
				for range 3 {
					ask()
				}
				assert.Len(t, w.l.missed, 1)
				w.store.hook(nil)
				time.Sleep(2 * time.Second)
				ask()
				assert.Equal(t, c.want, w.states())
				assert.Equal(t, []string{"imp_2"}, w.api.live())
				assert.Zero(t, w.api.posts)
				if last := w.row().Attempts; c.want != "b/imp_2 issued" {
					assert.Equal(t, deadline, last[len(last)-1].Deadline)
				}
			})
		})
	}
}

func TestStoreThatFailsAgainWhileItCatchesUp(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(context.Context, string, *Row) error{"fails": broken, "hangs": hang, "fails after the write": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if fails == nil {
					fails = func(_ context.Context, _ string, row *Row) error {
						w.store.set(row)
						return errBroken
					}
				}
				w.store.hook(broken)
				for i := range 3 {
					_, err := w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = fmt.Sprint(i) }))
					require.NoError(t, err)
				}
				var puts atomic.Int64
				w.store.hook(func(ctx context.Context, op string, row *Row) error {
					if op == "put" && puts.Add(1) == 2 {
						return fails(ctx, op, row)
					}
					return nil
				})
				time.Sleep(10 * time.Second)
				synctest.Wait()
				for i := range 3 {
					row := w.store.get(Key{"shop", fmt.Sprint(i)})
					require.NotNil(t, row, "order %d", i)
					assert.Len(t, row.Attempts, 1)
				}
				assert.False(t, w.l.Down())
				assert.Equal(t, 2, w.store.closed, "each time that it failed")
			})
		})
	}
}

// A store that is slow gets what it missed in one go, and is not left behind what is missed meanwhile.
func TestStoreThatIsSlowCatchesUp(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(broken)
		const orders = 500
		for i := range orders {
			_, err := w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = fmt.Sprint(i % (orders - 1)) }))
			require.NoError(t, err)
		}
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op == "put" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		assert.False(t, w.l.Down())
		for i := range orders - 1 {
			require.NotNil(t, w.store.get(Key{"shop", fmt.Sprint(i)}), "order %d", i)
		}
	})
}

// Apps that ask faster than a slow store writes do not keep it from being used again: they wait for a moment
// while the rest of what it has missed is written.
func TestStoreCatchesUpHoweverFastAppsAsk(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.api.on(func(string) fault { time.Sleep(30 * time.Millisecond); return fault{work: true} })
		w.store.hook(broken)
		var asking sync.WaitGroup
		var done atomic.Bool
		for app := range 10 {
			asking.Go(func() {
				for i := 0; !done.Load(); i++ {
					_, err := w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = fmt.Sprint(app, i) }))
					assert.NoError(t, err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		require.True(t, w.l.Down())
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op == "put" {
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		})
		time.Sleep(3 * time.Second)
		assert.False(t, w.l.Down())
		done.Store(true)
		asking.Wait()
		w.api.on(nil)
	})
}

// What is issued before the store is opened for the first time is missed, too.
func TestFirstOpenThatCannotCatchUpIsTriedAgain(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		other := New(w.l.opts)
		other.Use(&Settings{Accounts: map[string]*Account{"shop": w.acc}})
		defer other.Close()
		_, err := other.Issue(t.Context(), w.acc, request())
		require.NoError(t, err)
		w.store.hook(broken)
		require.ErrorIs(t, other.Open(), ErrDown)
		w.store.hook(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.False(t, other.Down())
		assert.Equal(t, "n2/new_1 issued", w.states())
	})
}

func TestWhatIsLostIsReported(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(broken)
		_, err := w.issue()
		require.NoError(t, err)
		require.NoError(t, w.l.Close())
		list := w.reported()
		require.NotEmpty(t, list)
		assert.Equal(t, "the ledger was closed before it was up again: this call is not in it, and the shop is not told of its payment new_1", list[len(list)-1])
	})
}

func TestOnlySoMuchIsRemembered(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.opens = func() (Store, error) { return nil, errBroken }
		w.store.hook(broken)
		_, _ = w.issue()
		for i := range maxMissed + 5 {
			m := missed{key: Key{"shop", fmt.Sprint(i)}, attempt: Attempt{ID: fmt.Sprint(i), State: Issued, ImpUID: fmt.Sprint(i)}}
			w.l.miss(w.acc, m)
		}
		require.Len(t, w.l.missed, maxMissed)
		assert.Equal(t, "5", w.l.missed[0].attempt.ID, "the oldest are forgotten")
	})
}

func TestMissedAttemptOfARemovedAccountOrANewerRowIsLeft(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		newer := w.put(w.issued("a", "imp_1"))
		newer.Format++
		w.store.set(newer)
		w.store.hook(broken)
		_, _ = w.issue(func(q *Terms) { q.Order = "o3" })
		for _, key := range []Key{{"elsewhere", "o"}, {"shop", "o"}, {"shop", "o2"}} {
			w.l.miss(w.acc, missed{key: key, attempt: w.issued("b", "imp_2")})
		}
		w.store.hook(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.False(t, w.l.Down())
		assert.Equal(t, "a/imp_1 issued", w.states())
		assert.Equal(t, "b/imp_2 issued", describe(w.store.get(Key{"shop", "o2"})))
		assert.Nil(t, w.store.get(Key{"elsewhere", "o"}))
	})
}

func TestOpenThatFailsGoesOnTrying(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		opens := 0
		other := New(Options{Open: func() (Store, error) {
			if opens++; opens < 8 {
				return nil, errBroken
			}
			return w.store, nil
		}})
		require.ErrorIs(t, other.Open(), errBroken)
		time.Sleep(90 * time.Second)
		synctest.Wait()
		assert.True(t, other.Down(), "1 s, 2 s, 4 s, 8 s, 16 s, 30 s, and 30 s again")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.False(t, other.Down())
		require.NoError(t, other.Close())
		assert.Equal(t, 1, w.store.closed)
	})
}

// A store that will be there in a moment is not waited for longer and longer.
func TestOpenThatWillSucceedSoonIsTriedOften(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var errs []error // of the opens to come
		other := New(Options{Open: func() (Store, error) {
			if len(errs) == 0 {
				return w.store, nil
			}
			err := errs[0]
			errs = errs[1:]
			return nil, err
		}})
		soon := fmt.Errorf("%w: %w", ErrSoon, errBroken)
		errs = append(slices.Repeat([]error{soon}, 50), errBroken, errBroken, soon)
		began := time.Now()
		require.ErrorIs(t, other.Open(), ErrSoon)
		for other.Down() {
			time.Sleep(time.Millisecond)
		}
		assert.InDelta(t, (50*100*time.Millisecond + time.Second + 2*time.Second + 100*time.Millisecond).Milliseconds(), time.Since(began).Milliseconds(), 5)
		require.NoError(t, other.Close())
	})
}

func TestReopen(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		opened := 0
		w.opens = func() (Store, error) { opened++; return w.store, nil }
		w.l.Reopen(errBroken)
		assert.True(t, w.l.Down())
		w.l.Reopen(errBroken) // is under way
		time.Sleep(time.Second)
		synctest.Wait()
		assert.False(t, w.l.Down())
		assert.Equal(t, 1, opened)
		assert.Equal(t, 1, w.store.closed)
		assert.Equal(t, []string{isDown, isUp}, w.reported())
	})
}

// Close leaves no store open and no goroutine behind, and closes no store twice.
func TestCloseAtAnyMoment(t *testing.T) {
	t.Parallel()
	t.Run("while the store is down", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.opens = func() (Store, error) { return nil, errBroken }
			w.store.hook(broken)
			_, _ = w.issue()
			began := time.Now()
			require.NoError(t, w.l.Close())
			assert.Zero(t, time.Since(began))
			assert.Equal(t, 1, w.store.closed)
		})
	})
	t.Run("while it is opened again", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			opening, open := make(chan struct{}), make(chan struct{})
			w.opens = func() (Store, error) {
				close(opening)
				<-open
				return w.store, nil
			}
			w.store.hook(broken)
			_, _ = w.issue()
			<-opening
			var closing sync.WaitGroup
			closing.Go(func() { assert.NoError(t, w.l.Close()) })
			synctest.Wait()
			close(open)
			closing.Wait()
			assert.Equal(t, 2, w.store.closed, "after it failed, and now")
			assert.True(t, w.l.Down())
			assert.NotContains(t, w.reported(), isUp)
		})
	})
	t.Run("before it is opened", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			require.NoError(t, w.l.Close())
			require.ErrorIs(t, w.l.Open(), ErrDown)
			assert.Equal(t, 2, w.store.closed)
		})
	})
	t.Run("while a request uses the store, which then fails", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			fail := make(chan struct{})
			w.store.hook(func(context.Context, string, *Row) error {
				<-fail
				return errBroken
			})
			var asking sync.WaitGroup
			asking.Go(func() { _, _ = w.issue() })
			synctest.Wait()
			w.l.mu.Lock()
			w.l.ended = true // Close has begun, and waits for other work
			close(w.l.closed)
			w.l.mu.Unlock()
			close(fail)
			asking.Wait()
			require.NoError(t, w.l.Close())
			assert.Equal(t, 1, w.store.closed)
		})
	})
	t.Run("twice, and with writes behind an answer", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			answer, err := w.issue()
			require.NoError(t, err)
			require.NotNil(t, answer.Response)
			require.NoError(t, w.l.Close())
			require.NoError(t, w.l.Close())
			assert.Equal(t, "n2/new_1 issued", describe(w.store.get(Key{"shop", "o"})))
			assert.Equal(t, 1, w.store.closed)
		})
	})
}

// The operator's function may ask the Ledger.
func TestReportMayAskTheLedger(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var other *Ledger
		down := false
		other = New(Options{Open: func() (Store, error) { return w.store, nil }, Report: func(Event) { down = down || other.Down() }})
		require.NoError(t, other.Open())
		w.store.hook(broken)
		_, err := other.Standing(t.Context(), Key{"shop", "o"}, "a", "imp_1")
		require.ErrorIs(t, err, ErrDown)
		assert.True(t, down)
		require.NoError(t, other.Close())
	})
}

func TestStandingInTheStore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		standing, err := w.l.Standing(t.Context(), Key{"shop", "o"}, "a", "imp_1")
		require.NoError(t, err)
		assert.Equal(t, Unknown, standing)
		w.put(w.issued("a", "imp_1"))
		standing, err = w.l.Standing(t.Context(), Key{"shop", "o"}, "a", "imp_1")
		require.NoError(t, err)
		assert.Equal(t, Current, standing)
	})
}

// The store comes up while a call is under way that was made without it.
func TestAttemptThatEndsAfterTheStoreIsUpAgainIsWritten(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(broken)
		w.api.on(func(call string) fault {
			if call == "POST" {
				w.store.hook(nil)
				time.Sleep(5 * time.Second)
				assert.False(t, w.l.Down())
			}
			return fault{work: true}
		})
		_, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "n2/new_1 issued", w.states())
		assert.Empty(t, w.l.missed)
	})
}

// One request has a hold when the store fails, and the next one cannot see it.
func TestRequestsFollowEachOtherWhenTheStoreFailsOrComesBack(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(w *world){
		"fails":      func(w *world) { w.store.hook(broken) },
		"comes back": func(w *world) { w.store.hook(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if name == "comes back" {
					w.store.hook(broken)
				}
				w.api.on(func(call string) fault {
					if call == "POST" {
						fails(w)
						time.Sleep(5 * time.Second)
					}
					return fault{work: true}
				})
				var both sync.WaitGroup
				for i, wait := range []time.Duration{0, 3 * time.Second} {
					both.Go(func() {
						time.Sleep(wait)
						answer, err := w.issue(func(q *Terms) { q.PG = fmt.Sprint("galaxia.", i) })
						assert.NoError(t, err)
						assert.Equal(t, i == 1, answer.Reused)
					})
				}
				both.Wait()
				assert.Equal(t, []string{"new_1"}, w.api.live())
				assert.Empty(t, w.l.occupied)
			})
		})
	}
}

// A request that has waited when the store fails does not begin to wait anew.
func TestStoreThatFailsLateLeavesTheRestOfTheTime(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		r := w.put(w.issued("a", "imp_1"))
		r.Holder, r.HeldUntil = "other", w.now(timeout)
		w.store.set(r)
		time.AfterFunc(timeout-2*time.Second, func() { w.store.hook(broken) })
		w.acc.API = silentList{w.api}
		began := time.Now()
		_, err := w.issue()
		require.ErrorIs(t, err, ErrSilent)
		assert.Equal(t, timeout, time.Since(began))
	})
}

// silentList is an API whose lists end with their context.
type silentList struct{ *fakeAPI }

func (silentList) Payments(ctx context.Context, _ string) ([]Seen, error) {
	<-ctx.Done()
	return nil, errors.Join(client.ErrOutcomeUnknown, ctx.Err())
}

func TestRequestWaitsForAnotherOneForATimeOut(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]bool{"with the store": false, "without it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if down {
					w.opens = func() (Store, error) { return nil, errBroken }
					w.store.hook(broken)
				}
				w.api.on(func(string) fault {
					time.Sleep(15 * time.Second)
					return fault{work: true}
				})
				var both sync.WaitGroup
				both.Go(func() { _, _ = w.issue() })
				synctest.Wait()
				began := time.Now()
				_, err := w.issue(amount("1"))
				require.ErrorIs(t, err, ErrBusy)
				assert.Equal(t, timeout, time.Since(began))
				both.Wait()
			})
		})
	}
}

func TestVoidWithoutTheStore(t *testing.T) {
	t.Parallel()
	lost := fault{err: errSilent}
	for _, c := range []struct {
		name string
		end  fault
		then client.Status // "" for a 404
		err  error
		busy bool
	}{
		{"done", fault{work: true}, client.StatusCancelled, nil, false},
		{"lost, done", fault{err: errSilent, work: true}, client.StatusCancelled, nil, false},
		{"lost, not done", lost, client.StatusReady, nil, true},
		{"lost, gone", lost, "", nil, false},
		{"refused, paid", fault{err: errRefused}, client.StatusPaid, nil, false},
		{"refused", fault{err: errRefused}, client.StatusReady, nil, true},
		{"not sent", fault{err: client.ErrUnreachable}, client.StatusReady, client.ErrUnreachable, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.opens = func() (Store, error) { return nil, errBroken }
				w.store.hook(broken)
				w.seen("imp_1", client.StatusReady)
				w.api.on(func(call string) fault {
					switch call {
					case "DELETE imp_1":
						return c.end
					case "GET imp_1":
						if c.then == "" {
							return fault{err: errMissing}
						}
						w.api.status("imp_1", c.then)
					}
					return fault{work: true}
				})
				answer, err := w.issue(amount("1"))
				switch {
				case c.busy:
					require.ErrorAs(t, err, new(*NotVoidedError))
				case c.err != nil:
					require.ErrorIs(t, err, c.err)
				default:
					require.NoError(t, err)
					assert.NotNil(t, answer.Response)
				}
				if c.busy || c.err != nil {
					assert.NotContains(t, w.book.read(), "POST")
				}
			})
		})
	}
}

func TestSilenceWithoutTheStore(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"LIST", "GET imp_1"} {
		inWorld(t, func(w *world) {
			w.opens = func() (Store, error) { return nil, errBroken }
			w.store.hook(broken)
			w.seen("imp_1", client.StatusReady)
			w.api.fails(call, fault{err: errSilent})
			_, err := w.issue()
			require.ErrorIs(t, err, ErrSilent)
			w.api.on(func(c string) fault {
				if c == "DELETE imp_1" {
					return fault{err: errRefused}
				}
				if c == "GET imp_1" {
					return fault{err: errSilent}
				}
				return fault{work: true}
			})
			_, err = w.issue(amount("1"))
			require.ErrorIs(t, err, ErrSilent)
			w.api.on(func(c string) fault {
				if c == "GET imp_1" {
					w.api.status("imp_1", client.StatusPaid)
				}
				return fault{work: true}
			})
			_, err = w.issue()
			require.ErrorIs(t, err, ErrBusy, "it was paid since it was listed")
			assert.NotContains(t, w.book.read(), "POST")
		})
	}
}

func TestLedgerThatIsOff(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		off := New(Options{})
		answer, err := off.Issue(t.Context(), w.acc, request())
		require.NoError(t, err)
		assert.False(t, answer.Reused)
		answer, err = off.Issue(t.Context(), w.acc, request())
		require.NoError(t, err)
		assert.True(t, answer.Reused)
		assert.Equal(t, []string{"LIST", "POST", "LIST", "GET new_1"}, w.book.read())
		assert.Empty(t, off.missed)
		require.NoError(t, off.Close())
	})
}

// A process that is stopped for a while finds the time of its operations over when it goes on. The
// store is not to blame.
func TestAPausedProcessDoesNotGiveUpItsStore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		paused := false
		w.store.hook(func(ctx context.Context, op string, row *Row) error {
			if paused {
				return nil
			}
			paused = true
			return hang(ctx, op, row)
		})
		answer, err := w.issue()
		require.NoError(t, err)
		assert.False(t, answer.Reused)
		assert.False(t, w.l.Down())
		assert.Empty(t, w.reported())
	})
}
