package ledger

// This file holds tests of a store with a clock, which nodes share whose own clocks are wrong.

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// clockStore is a store with a clock.
type clockStore struct {
	*mapStore
	clock *storeClock
}

func (s clockStore) Now() int64 { return s.clock.now() }

// storeClock is a database's clock. That of the test's machine can be set, and this one does not see it.
type storeClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *storeClock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead).UnixMilli()
}

func (c *storeClock) setBy(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// share gives the world's store a clock, and returns it. The store is opened again.
func (w *world) share(ahead time.Duration) *storeClock {
	c := &storeClock{ahead: ahead}
	w.opens = func() (Store, error) { return clockStore{w.store, c}, nil }
	w.l.fail(w.store, errBroken)
	time.Sleep(2 * time.Second)
	synctest.Wait()
	require.False(w.t, w.l.Down())
	return c
}

// another returns another node whose machine's clock is off.
func (w *world) another(c *storeClock, off time.Duration) *Ledger {
	clock := &testClock{system: w.clock.system, set: off}
	l := New(Options{Open: func() (Store, error) { return clockStore{w.store, c}, nil }, clock: clock, newID: func() string { return "other" }})
	l.Use(&Settings{Accounts: map[string]*Account{"shop": w.acc}})
	require.NoError(w.t, l.Open())
	w.t.Cleanup(func() { require.NoError(w.t, l.Close()) })
	return l
}

// A node whose clock is ten minutes off sees another one's hold, and its hold is seen.
func TestNodesWithWrongClocksSeeEachOthersHolds(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		for _, first := range []bool{true, false} {
			inWorld(t, func(w *world) {
				other := w.another(w.share(time.Hour), off)
				nodes := []*Ledger{w.l, other}
				if !first {
					nodes = []*Ledger{other, w.l}
				}
				w.api.on(func(string) fault {
					time.Sleep(timeout + 2*time.Second)
					return fault{work: true}
				})
				var both sync.WaitGroup
				both.Go(func() {
					_, err := nodes[0].Issue(t.Context(), w.acc, request())
					assert.NoError(t, err)
				})
				time.Sleep(time.Second)
				_, err := nodes[1].Issue(t.Context(), w.acc, request(amount("1")))
				require.ErrorIs(t, err, ErrBusy)
				both.Wait()
				assert.Equal(t, []string{"new_1"}, w.api.live())
			})
		}
	}
}

func TestRowsAreDatedByTheStoresClock(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		c := w.share(time.Hour)
		w.clock.setBy(-10*time.Minute, 0)
		machine := w.now(0)
		_, err := w.issue()
		require.NoError(t, err)
		a := w.row().Attempts[0]
		assert.Equal(t, c.now(), a.Asked)
		assert.Equal(t, c.now(), a.Since)
		assert.Equal(t, uint64(c.now())<<20+1, w.row().Version)
		assert.Equal(t, machine/1000-2, a.Began, "the API is asked by this machine's clock")

		w.l.MarkAtTill(t.Context(), Key{"shop", "o"})
		assert.Equal(t, c.now(), w.row().AtTill)
		standing, err := w.l.Standing(t.Context(), Key{"shop", "o"}, a.ID, a.ImpUID)
		require.NoError(t, err)
		assert.Equal(t, Marked, standing)
		assert.Equal(t, c.now()+tillAfter[0].Milliseconds(), w.row().Due)

		_, err = w.l.Notice(t.Context(), w.acc, &Notice{ImpUID: a.ImpUID, Status: "paid"})
		require.NoError(t, err)
		assert.Equal(t, c.now(), w.row().Hints[0].At)

		noted := c.now()
		w.api.change(a.ImpUID, paid)
		time.Sleep(10 * time.Second) // the worker and the teller look by the same clock
		assert.Equal(t, []string{a.ImpUID + " paid"}, s.events())
		a = w.row().Attempts[0]
		assert.InDelta(t, noted, a.Verified, 10_000)
		assert.InDelta(t, noted, a.Happenings[0].Done, 10_000)
	})
}

// The mark says since when the shop is told, by the clocks of the rows and of the API.
func TestMarkIsDatedByTheStoresClock(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.share(time.Hour)
		w.clock.setBy(-10*time.Minute, 0)
		w.configure(func(acc *Account) { acc.Tells = new(Tells) })
		require.True(t, w.l.hasMark(t.Context(), w.acc))
		mark := w.l.markOf("shop")
		assert.Equal(t, c.now(), mark.Since)
		assert.Equal(t, w.now(0)/1000-int64(bornBefore/time.Second), mark.Born)
	})
}

// A clock that is set while a call is on its way changes nothing.
func TestMachinesClockThatIsSetEndsNoHold(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-time.Hour, time.Hour} {
		inWorld(t, func(w *world) {
			other := w.another(w.share(0), 0)
			w.api.on(func(call string) fault {
				if call == "POST" {
					other.opts.clock.(*testClock).setBy(by, 0)
					time.Sleep(timeout)
				}
				return fault{work: true}
			})
			var both sync.WaitGroup
			both.Go(func() { _, _ = w.issue() })
			time.Sleep(time.Second)
			answer, err := other.Issue(t.Context(), w.acc, request())
			require.NoError(t, err)
			assert.True(t, answer.Reused)
			both.Wait()
			assert.Equal(t, []string{"new_1"}, w.api.live())
		})
	}
}

// The store's clock does not see that the machine has slept.
func TestMachineThatSleepsLosesItsHoldWithAStoresClock(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.share(0)
		w.book.read()
		w.stopAtPut(time.Hour, 0)
		_, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, []string{"put held: n2 asked", "put: ", "put held: n3 asked", "POST", "put: n3/new_1 issued"}, w.book.read())
	})
}

// All that looks at a row compares with the store's clock.
func TestRowsAreReadByTheStoresClock(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		inWorld(t, func(w *world) {
			c := w.share(ahead)
			held := w.put(w.issued("a", "imp_1"))
			held.Holder, held.HeldUntil, held.Due = "other", c.now()+2*timeout.Milliseconds(), c.now()
			w.store.set(held)
			w.seen("imp_1", client.StatusReady)
			_, err := w.issue(amount("1"))
			require.ErrorIs(t, err, ErrBusy)
			held.HeldUntil += timeout.Milliseconds()
			w.store.set(held)
			_, err = w.l.Void(context.Background(), w.acc, "imp_1", func(func() error) (*client.Response, error) { panic("it is held") })
			require.ErrorIs(t, err, ErrBusy)
			assert.False(t, w.l.workOn(t.Context(), held))

			waits := w.issued("b", "imp_2")
			waits.State, waits.Next, waits.Happenings = Paid, 0, []Happening{{Event: tell.Paid, Seen: c.now()}}
			person := &Row{Format: Format, Account: "shop", Order: "o2", Version: 1, Due: c.now(), Attempts: []Attempt{waits}}
			person.Telling.Waiting, person.Queue, person.QueueDue = c.now(), PersonQueue("shop"), c.now()
			w.store.set(person)
			n, err := w.l.RetryAll(t.Context())
			require.NoError(t, err)
			assert.Equal(t, 1, n)
			assert.Len(t, w.l.telling, 1, "the shop is to be told at once")
			w.l.noteDue(&Row{Due: c.now() + 1}, nil)
			assert.Empty(t, w.l.working)
		})
	}
}

// What was asked for before the store was ever up is dated by this machine's clock, and written by the
// store's.
func TestMissedBeforeTheFirstOpenIsDatedAnew(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		for name, takes := range map[string]time.Duration{"before": 0, "while it is opened": 5 * time.Second} {
			t.Run(name+" "+off.String(), func(t *testing.T) {
				t.Parallel()
				inWorld(t, func(w *world) {
					c := new(storeClock)
					opts := w.l.opts
					opts.Open = func() (Store, error) { return clockStore{w.store, c}, nil }
					other := New(opts)
					other.Use(&Settings{Accounts: map[string]*Account{"shop": w.acc}})
					defer other.Close()
					w.clock.setBy(off, 0)
					w.api.on(func(call string) fault {
						if call != "POST" {
							return fault{work: true}
						}
						time.Sleep(takes)
						return fault{err: errSilent}
					})
					asked := c.now()
					var asking sync.WaitGroup
					asking.Go(func() { _, _ = other.Issue(t.Context(), w.acc, request()) })
					time.Sleep(takes / 2)
					synctest.Wait()
					require.NoError(t, other.Open())
					asking.Wait()
					a := w.row().Attempts[0]
					assert.Equal(t, asked, a.Asked)
					assert.Equal(t, a.Asked+(freshness+timeout).Milliseconds(), a.Next)
				})
			})
		}
	}
}

// While the store is down, its clock is kept: what is missed is dated by it, and written as it is.
func TestStoresClockIsKeptWhileItIsDown(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.share(time.Hour)
		w.store.hook(broken)
		asked := c.now()
		_, err := w.issue()
		require.NoError(t, err)
		require.True(t, w.l.Down())
		w.clock.setBy(-10*time.Minute, 0)
		w.store.hook(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.False(t, w.l.Down())
		assert.Contains(t, w.reported(), isUp)
		assert.Equal(t, asked, w.row().Attempts[0].Asked)
		answer, err := w.issue()
		require.NoError(t, err)
		assert.True(t, answer.Reused)
	})
}

// A database's clock may jump, when another host takes over. Then every row is read.
func TestReviewAfterTheStoresClockWasSet(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		c := w.share(0)
		w.l.reviewIfNeeded(t.Context())
		lists := 0
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op == "list" {
				lists++
			}
			return nil
		})
		w.clock.setBy(time.Hour, 0)
		w.l.reviewIfNeeded(t.Context())
		assert.Zero(t, lists, "this machine's clock dates nothing")
		c.setBy(-time.Hour)
		w.l.reviewIfNeeded(t.Context())
		assert.Equal(t, 1, lists)
	})
}
