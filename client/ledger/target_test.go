package ledger

// This file holds tests of a shop that is down, slow or up again.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// number is that of an order such as "o7".
func number(order string) int {
	n, _ := strconv.Atoi(order[1:])
	return n
}

var unheard = &Reply{Verdict: Unheard, Cause: "connection refused"}

// A shop that is down is tried by one message at a time, after 5 seconds and up to a minute. When it is
// up again, the oldest orders are told first.
func TestShopThatIsDown(t *testing.T) {
	t.Parallel()
	for name, takes := range map[string]time.Duration{"at once": time.Millisecond, "after a while": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inIdleShop(t, func(w *world, s *fakeShop) {
				var probes []time.Duration
				var most int
				began, down := time.Now(), true
				s.on(func(m *tell.Message) *Reply {
					s.mu.Lock()
					if since := time.Since(began); since > takes+2*time.Second { // it is known to be down
						probes, most = append(probes, since), max(most, len(s.onWay))
					}
					s.mu.Unlock()
					time.Sleep(takes)
					s.mu.Lock()
					defer s.mu.Unlock()
					if down {
						return unheard
					}
					return nil
				})
				for i := range 30 {
					w.isPaid(fmt.Sprintf("o%02d", 29-i))
					time.Sleep(time.Millisecond)
				}
				w.l.Work()
				time.Sleep(10 * time.Minute)
				s.told()
				require.GreaterOrEqual(t, len(probes), 7)
				before := time.Duration(0)
				for i, pause := range []int{5, 10, 20, 40, 60, 60, 60} {
					assert.InDelta(t, pause, (probes[i] - before - takes).Seconds(), 1.1, i)
					before = probes[i]
				}
				assert.Equal(t, 1, most)

				s.mu.Lock()
				down, s.most = false, 0
				s.mu.Unlock()
				time.Sleep(90 * time.Second)
				var orders []string
				for _, m := range s.told() {
					orders = append(orders, m.MerchantUID)
				}
				require.Len(t, orders, 30)
				assert.LessOrEqual(t, s.most, 8)
				for i, order := range orders { // the oldest one is o29
					assert.InDelta(t, 29-i, number(order), 16, "as many as two rounds at once")
				}
				rows, _, err := w.l.Barcodes(t.Context(), Filter{})
				require.NoError(t, err)
				for _, row := range rows {
					assert.Zero(t, row.Telling, "nothing is used up")
				}
			})
		})
	}
}

// An order that the shop always answers with an error keeps no other order from being told.
func TestPoisonedOrder(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		poisoned := 0
		s.on(func(m *tell.Message) *Reply {
			if m.MerchantUID != "poison" {
				return nil
			}
			poisoned++
			return unheard
		})
		w.configure(func(acc *Account) { acc.Tells.Concurrency = 1 })
		w.isPaid("poison")
		for i := range 100 {
			time.Sleep(3 * time.Second)
			w.isPaid(fmt.Sprint(i))
		}
		time.Sleep(5 * time.Second)
		told := slices.DeleteFunc(s.events(), func(e string) bool { return e == "imp_poison paid" })
		assert.Len(t, told, 100)
		assert.InDelta(t, 8, poisoned, 3, "it is tried after ever longer pauses")
		assert.Zero(t, w.store.get(Key{"shop", "poison"}).Telling.Waiting, "it never waits for a person")
		s.on(nil)
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"imp_poison paid"}, s.events())
	})
}

// A new configuration may tell another shop, or a mended one: it is tried at once.
func TestReloadTriesTheShopAgain(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		s.on(func(*tell.Message) *Reply { return unheard })
		for i := range 3 {
			w.isPaid(fmt.Sprint(i))
		}
		time.Sleep(10 * time.Minute)
		require.NotEmpty(t, s.told())
		target := w.l.target("shop")
		for len(s.told()) == 0 { // a minute is to pass after a probe
			time.Sleep(time.Second)
		}
		s.on(nil)
		time.Sleep(10 * time.Second)
		assert.Empty(t, s.told())
		assert.True(t, target.isDown())
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}})
		time.Sleep(time.Second)
		assert.Len(t, s.told(), 3)
		assert.False(t, target.isDown())
	})
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for misses, want := range map[int]time.Duration{-1: 5 * time.Second, 1: 5 * time.Second, 2: 10 * time.Second, 4: 40 * time.Second, 5: time.Minute, 1000: time.Minute} {
		assert.Equal(t, want, pauseOf(misses), misses)
	}
	l := New(Options{})
	target := l.target("shop")
	assert.Same(t, target, l.target("shop"))
	assert.NotSame(t, target, l.target(""))
	key := func(n int) Key { return Key{"shop", fmt.Sprint(n)} }
	assert.True(t, target.begin(key(1), 0))
	assert.False(t, target.begin(key(1), 0), "it is on its way")
	assert.Equal(t, 7, target.room(8, 0))
	assert.Equal(t, 0, target.room(1, 0))
	assert.Equal(t, 8, target.window(7))
	target.end(key(1), Withdrawn, 0)
	assert.True(t, target.begin(key(1), 0), "nothing was sent")
	target.end(key(1), Refused, 0)
	for n := range 2 {
		target.end(key(n), Unheard, 0)
	}
	assert.Equal(t, 8, target.room(8, 0), "two may be an accident")
	assert.False(t, target.begin(key(1), 5*time.Second-1))
	assert.True(t, target.begin(key(1), 5*time.Second))
	target.end(key(1), Refused, 5*time.Second)
	assert.True(t, target.begin(key(1), 5*time.Second), "it has answered")
	for n := range 3 {
		target.end(key(n), Unheard, 10*time.Second)
	}
	assert.Equal(t, 0, target.room(8, 15*time.Second-1))
	assert.Equal(t, 1, target.room(8, 15*time.Second))
	assert.False(t, target.begin(key(1), 12*time.Second))
	target.end(key(7), Heard, 12*time.Second)
	assert.True(t, target.begin(key(1), 12*time.Second), "it is up again: the oldest order comes first")
	for n := range maxTried + 5 {
		target.end(key(n), Unheard, 10*time.Second)
	}
	assert.LessOrEqual(t, len(target.tried), maxTried)
	assert.LessOrEqual(t, len(target.later), maxTried)
}

// Orders that make the shop fail keep no other one from being told, however long they were the only ones,
// and however many they are.
func TestPoisonedOrdersWithoutOthers(t *testing.T) {
	t.Parallel()
	for _, poisoned := range []int{1, 3, 20, 500} {
		inIdleShop(t, func(w *world, s *fakeShop) {
			s.on(func(m *tell.Message) *Reply {
				if strings.HasPrefix(m.MerchantUID, "poison") {
					return unheard
				}
				return nil
			})
			for i := range poisoned {
				w.isPaid(fmt.Sprint("poison", i))
			}
			w.l.Work()
			time.Sleep(time.Hour)
			s.told()
			for i := range 5 {
				w.isPaid(fmt.Sprint(i))
				time.Sleep(3 * time.Minute)
				assert.Contains(t, s.events(), fmt.Sprintf("imp_%d paid", i), poisoned)
			}
		})
	}
}
