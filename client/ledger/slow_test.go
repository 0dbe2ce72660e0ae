package ledger

// This file holds tests of a store that works, and is slow.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// takes waits as an operation of a store does.
func takes(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A store whose every operation is slow is used as far as the time allows. An order that needs more of
// it is busy, comes on with each request, and is done without the store by nobody.
func TestStoreThatIsSlowForEverybodyStaysInUse(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		const slow = 900 * time.Millisecond
		w.store.hook(func(ctx context.Context, _ string, _ *Row) error { return takes(ctx, slow) })
		ask := func(change ...func(*Terms)) (Answer, error) {
			began := time.Now()
			answer, err := w.issue(change...)
			assert.LessOrEqual(t, time.Since(began), storeLimit)
			time.Sleep(3 * slow) // what is written behind an answer has its own time
			return answer, err
		}
		_, err := ask()
		require.ErrorIs(t, err, ErrBusy, "whether another one has given it up meanwhile could not be read")
		assert.Equal(t, "n2/new_1 issued", w.states())
		answer, err := ask()
		require.NoError(t, err)
		assert.True(t, answer.Reused)

		_, err = ask(amount("1"))
		require.ErrorIs(t, err, ErrBusy)
		assert.Equal(t, "n2/new_1 void", w.states(), "the attempt that could not be written is left out")
		_, err = ask(amount("1"))
		require.ErrorIs(t, err, ErrBusy)
		answer, err = ask(amount("1"))
		require.NoError(t, err)
		assert.Equal(t, "new_2", string(answer.Response.Body))
		assert.Empty(t, w.reported())
		assert.Empty(t, w.row().Holder)
		assert.Equal(t, []string{"new_2"}, w.api.live())
	})
}

// However slow each operation is: no call waits for the store longer than 2 s in all.
func TestNoCallWaitsLongerThanTwoSecondsForTheStore(t *testing.T) {
	t.Parallel()
	calls := map[string]func(w *world) error{
		"issue": func(w *world) error {
			_, err := w.issue(amount([]string{"15000", "1"}[rand.IntN(2)]))
			return err
		},
		"void": func(w *world) error {
			_, err := w.l.Void(context.Background(), w.acc, "imp_1", func(maySend func() error) (*client.Response, error) {
				return w.api.Void(context.Background(), "imp_1", maySend)
			})
			return err
		},
		"notice": func(w *world) error {
			_, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "paid"})
			return err
		},
		"standing": func(w *world) error {
			_, err := w.l.Standing(context.Background(), Key{"shop", "o"}, "a", "imp_1")
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := make(map[string]int)
			for history := range uint64(300) {
				rng := rand.New(rand.NewPCG(1, history))
				inWorld(t, func(w *world) {
					w.put(w.issued("a", "imp_1"))
					w.seen("imp_1", client.StatusReady)
					var mu sync.Mutex
					longest := 1 + rng.Int64N(int64(1500*time.Millisecond))
					w.store.hook(func(ctx context.Context, _ string, _ *Row) error {
						mu.Lock()
						d := time.Duration(rng.Int64N(longest))
						mu.Unlock()
						return takes(ctx, d)
					})
					began := time.Now()
					err := call(w)
					if !assert.LessOrEqual(t, time.Since(began), storeLimit, "history %d", history) {
						return
					}
					switch {
					case w.l.Down():
						ends["down"]++
					case errors.Is(err, ErrBusy):
						ends["busy"]++
					default:
						assert.NoError(t, err)
						ends["done"]++
					}
				})
			}
			t.Log(ends)
			assert.Greater(t, ends["done"], 100)
			if name != "standing" {
				assert.Greater(t, ends["busy"], 10)
			}
		})
	}
}

// reads has others read without end.
func (w *world) reads() (stop func()) {
	ended := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for takes(context.Background(), 100*time.Millisecond) == nil {
			select {
			case <-ended:
				return
			default:
				_, _ = w.l.Row(context.Background(), Key{"shop", "another"})
			}
		}
	})
	return func() { close(ended); reading.Wait() }
}

// A DELETE whose order cannot be found in time is not sent past its hold.
func TestVoidWhoseOrderIsNotFoundInTimeIsBusy(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(w.issued("a", "imp_1"))
		w.store.hook(func(ctx context.Context, op string, row *Row) error {
			if op == "find" {
				return hang(ctx, op, row)
			}
			return nil
		})
		defer w.reads()()
		_, err := w.l.Void(context.Background(), w.acc, "imp_1", func(func() error) (*client.Response, error) { panic("it is sent") })
		require.ErrorIs(t, err, ErrBusy)
		assert.False(t, w.l.Down())
	})
}

// A database that reads, and does not write: what is written behind the answer shows that.
func TestStoreThatWritesNoMoreIsDown(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(func(ctx context.Context, op string, row *Row) error {
			if op == "put" {
				return hang(ctx, op, row)
			}
			return takes(ctx, 10*time.Millisecond)
		})
		defer w.reads()()
		_, err := w.issue()
		require.ErrorIs(t, err, ErrBusy, "the attempt could not be written in time")
		assert.Empty(t, w.book.read())
		time.Sleep(storeLimit + 500*time.Millisecond)
		require.True(t, w.l.Down())
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		time.Sleep(time.Minute)
		assert.True(t, w.l.Down(), "it opens, and does not take what it has missed")
		w.store.hook(nil)
		time.Sleep(reopenLimit + storeLimit)
		synctest.Wait()
		assert.False(t, w.l.Down())
		assert.Equal(t, "n4/new_1 issued", w.states())
	})
}

// What hangs for one order, because another session has locked its row, or because all connections are
// taken, is no failure of a store that works for others.
func TestStoreThatWorksForOthersStaysInUse(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(func(ctx context.Context, op string, row *Row) error {
			if op == "put" && row.Order == "o" {
				return hang(ctx, op, row)
			}
			return nil
		})
		var asking sync.WaitGroup
		asking.Go(func() {
			_, err := w.issue()
			assert.ErrorIs(t, err, ErrBusy)
		})
		for i := range 10 {
			time.Sleep(500 * time.Millisecond)
			_, err := w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = fmt.Sprint("other ", i) }))
			require.NoError(t, err)
		}
		asking.Wait()
		assert.Empty(t, w.reported())
		assert.False(t, w.l.Down())
		assert.Nil(t, w.row())
	})
}

// A database with few connections gets what it missed, however long an order waits for its turn.
func TestStoreWithFewConnectionsCatchesUp(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		opened := 0
		w.opens = func() (Store, error) { opened++; return w.store, nil }
		w.store.hook(broken)
		const orders = 300
		for i := range orders {
			_, err := w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = fmt.Sprint(i) }))
			require.NoError(t, err)
		}
		connections := make(chan struct{}, 5)
		w.store.hook(func(ctx context.Context, _ string, _ *Row) error {
			select {
			case connections <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			defer func() { <-connections }()
			return takes(ctx, 900*time.Millisecond)
		})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.False(t, w.l.Down())
		assert.Equal(t, 1, opened)
		for i := range orders {
			require.NotNil(t, w.store.get(Key{"shop", fmt.Sprint(i)}), "order %d", i)
		}
	})
}

// A write may have been done although it failed. Then the row has an attempt that was never sent, which
// nobody need wait for.
func TestAttemptOfAWriteThatWasDoneAllTheSameIsLeftOut(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.fails(func(*Row) bool { return true })
		began := time.Now()
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		assert.LessOrEqual(t, time.Since(began), storeLimit)
		assert.Equal(t, []string{"put held: n3 asked", "POST", "put: n3/new_1 issued"}, w.book.read())
		assert.Equal(t, "n3/new_1 issued", w.states())
		assert.Empty(t, w.row().Holder)
	})
}

// It is taken out of the row also if the request comes to nothing.
func TestAttemptOfAWriteThatWasDoneAllTheSameDoesNotStay(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		fails := 1
		w.store.hook(func(ctx context.Context, op string, row *Row) error {
			if op != "put" || fails == 0 {
				return nil
			}
			fails--
			held := row.Clone()
			held.Holder, held.HeldUntil = "other", w.now(2*timeout)
			held.Attempts = append(held.Attempts, w.issued("b", "imp_1"))
			w.store.set(held)
			return hang(ctx, op, row)
		})
		_, err := w.issue()
		require.ErrorIs(t, err, ErrBusy)
		assert.Equal(t, "b/imp_1 issued", w.states())
	})
}

// What was issued without the store is written behind the answer if the store is up again. Until then the
// order's next request waits.
func TestMissedIsWrittenBehindTheAnswer(t *testing.T) {
	t.Parallel()
	for name, broke := range map[string]bool{"slow": false, "down again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.store.hook(broken)
				var puts atomic.Int64
				w.api.on(func(call string) fault {
					if call == "POST" {
						w.store.hook(func(ctx context.Context, op string, _ *Row) error {
							switch {
							case op != "put":
								return nil
							case puts.Add(1) == 1 && broke:
								return errBroken
							}
							return takes(ctx, 900*time.Millisecond)
						})
						time.Sleep(5 * time.Second)
						assert.False(t, w.l.Down())
					}
					return fault{work: true}
				})
				began := time.Now()
				_, err := w.issue()
				require.NoError(t, err)
				assert.Equal(t, 5*time.Second, time.Since(began))
				answer, err := w.issue()
				require.NoError(t, err)
				assert.True(t, answer.Reused)
				time.Sleep(5 * time.Second)
				assert.Equal(t, "n2/new_1 issued", w.states())
				assert.Equal(t, []string{"new_1"}, w.api.live())
				assert.Empty(t, w.l.occupied)
			})
		})
	}
}

// What the answer said is written as soon as the store takes it: only this process knows it.
func TestAnswerIsWrittenWhenTheStoreTakesIt(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(context.Context, string, *Row) error{"slow": hang, "down": broken} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.store.hook(func(ctx context.Context, op string, row *Row) error {
					if op == "put" && row.Order == "o" && row.Attempts[0].State == Issued {
						return fails(ctx, op, row)
					}
					return nil
				})
				_, err := w.issue()
				require.NoError(t, err)
				for range 10 { // others write
					time.Sleep(500 * time.Millisecond)
					_, err := w.l.Issue(t.Context(), w.acc, request(func(q *Terms) { q.Order = "other" }))
					require.NoError(t, err)
				}
				assert.Equal(t, "n2 asked", w.states())
				number, err := w.l.orderOf(t.Context(), "shop", "new_1")
				require.NoError(t, err, "the app's own DELETE finds it")
				assert.Equal(t, "o", number)
				w.store.hook(nil)
				time.Sleep(4 * time.Second)
				assert.Equal(t, "n2/new_1 issued", w.states())
				assert.Empty(t, w.row().Holder)
				assert.Empty(t, w.l.fresh)
			})
		})
	}
}

// It ends with the ledger.
func TestAnswerOfAStoreThatStaysDown(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(func(ctx context.Context, op string, row *Row) error {
			if op == "put" && row.Attempts[0].State == Issued {
				w.opens = func() (Store, error) { return nil, errBroken }
				return errBroken
			}
			return nil
		})
		_, err := w.issue()
		require.NoError(t, err)
		time.Sleep(time.Minute)
		assert.True(t, w.l.Down())
		require.NoError(t, w.l.Close())
		assert.Equal(t, "n2 asked", w.states())
	})
}

// fails has the next write that is meant be done, and fail all the same.
func (w *world) fails(meant func(*Row) bool) {
	left := 1
	w.store.hook(func(ctx context.Context, op string, row *Row) error {
		if op != "put" || left == 0 || !meant(row) {
			return nil
		}
		left--
		w.store.set(row)
		return hang(ctx, op, row)
	})
}

// A refusal counts once, and is reported once, although its write was done when it failed.
func TestRefusalOfAWriteThatWasDoneAllTheSameCountsOnce(t *testing.T) {
	t.Parallel()
	for retry, waits := range map[time.Duration]bool{time.Hour: false, 0: true} {
		inIdleShop(t, func(w *world, s *fakeShop) {
			s.replies = []Reply{{Verdict: Refused, Cause: "no"}, {Verdict: Refused, Cause: "no"}}
			w.configure(func(acc *Account) { acc.Tells.Retry = retry })
			w.isPaid("o")
			w.fails(func(row *Row) bool { return row.Telling.Cause != "" })
			w.l.tellAll(t.Context())
			time.Sleep(storeLimit)
			synctest.Wait()
			told := w.row().Telling
			assert.Equal(t, waits, told.Waiting != 0)
			assert.Equal(t, waits, len(w.reported()) == 1)
			if !waits {
				assert.Equal(t, 1, told.Tries)
				return
			}
			w.fails(func(*Row) bool { return true })
			waited, err := w.l.Retry(t.Context(), Key{"shop", "o"}, false)
			require.NoError(t, err)
			assert.True(t, waited)
		})
	}
}
