package ledger

// This file holds tests of how the rows are counted.

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// slowStore is a store whose reads of several rows take some time, and are counted.
type slowStore struct {
	Store
	takes time.Duration
	reads atomic.Int64
}

func (s *slowStore) Due(ctx context.Context, queue Queue, now int64, limit int) ([]*Row, error) {
	s.spend()
	return s.Store.Due(ctx, queue, now, limit)
}

func (s *slowStore) List(ctx context.Context, after Key, limit int) ([]*Row, error) {
	s.spend()
	return s.Store.List(ctx, after, limit)
}

func (s *slowStore) spend() {
	s.reads.Add(1)
	time.Sleep(s.takes)
}

// isPending stores a row of which the shop is to hear since a moment.
func (w *world) isPending(account, order string, since time.Duration) {
	a := w.issued("a", "imp_"+order)
	a.State, a.Happenings = Paid, []Happening{{Event: tell.Paid, Seen: w.now(0)}}
	row := &Row{Format: Format, Account: account, Order: order, Version: 1, Attempts: []Attempt{a}, Telling: Telling{Since: w.now(-since)}}
	prepare(row, 1, w.l.env(w.acc))
	w.store.set(row)
}

func TestCounts(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		silent := *w.acc
		silent.Name, silent.Tells = "silent", nil
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc, "silent": &silent}})
		assert.Equal(t, Counts{}, w.l.Counts(), "nothing was counted yet")
		w.isIssued("issued")
		w.waits("shop", "waits", causeAmount)
		w.isPending("shop", "old", time.Hour)
		w.isPending("shop", "new", time.Minute)
		w.isPending("silent", "left", time.Hour)
		w.store.change(Key{"shop", "replaced"}, func(row *Row) {
			a := w.issued("a", "imp_old")
			a.State = Void
			row.Attempts = []Attempt{a, w.issued("b", "imp_new")}
		})
		w.l.Count()
		synctest.Wait()
		counts := w.l.Counts()
		assert.Equal(t, map[string]TellCounts{"shop": {Pending: 2, Waiting: 1, Oldest: time.Hour}}, counts.Tells)
		assert.Equal(t, map[string]map[State]int{"shop": {Issued: 2, Void: 1, Paid: 3}, "silent": {Paid: 1}}, counts.Barcodes)

		w.isPending("shop", "newest", 0)
		time.Sleep(countEvery - time.Second)
		synctest.Wait()
		assert.Equal(t, 2, w.l.Counts().Tells["shop"].Pending, "not counted more often")
		assert.Equal(t, time.Hour+countEvery-time.Second, w.l.Counts().Tells["shop"].Oldest, "time passes between two counts, too")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, 3, w.l.Counts().Tells["shop"].Pending)
	})
}

// Behind a queue's first rows, the walk through all of them tells their number.
func TestCountsOfALongQueue(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		for i := range maxCounted + 200 {
			w.isPending("shop", fmt.Sprintf("order-%04d", i), time.Duration(i)*time.Second)
		}
		w.l.Count()
		synctest.Wait()
		assert.Equal(t, TellCounts{Pending: maxCounted + 200, Oldest: (maxCounted + 199) * time.Second}, w.l.Counts().Tells["shop"])
	})
}

// A large or slow ledger is not read all day long, and nobody counts for nobody.
func TestCountTakesItsShareOfTheTime(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		for i := range 20 * batch {
			w.isIssued(fmt.Sprintf("order-%04d", i))
		}
		store := &slowStore{Store: w.store, takes: 50 * time.Millisecond}
		w.l.mu.Lock()
		w.l.store = store
		w.l.mu.Unlock()
		w.l.Count()
		const watched = time.Hour
		for range watched / time.Minute {
			time.Sleep(time.Minute)
			w.l.Counts()
		}
		assert.Equal(t, map[State]int{Issued: 20 * batch}, w.l.Counts().Barcodes["shop"])
		assert.Positive(t, store.reads.Load())
		assert.LessOrEqual(t, time.Duration(store.reads.Load())*store.takes, watched/50)

		time.Sleep(countedFor + 10*time.Minute) // the last count may take a while
		synctest.Wait()
		before := store.reads.Load()
		time.Sleep(watched)
		synctest.Wait()
		assert.Equal(t, before, store.reads.Load(), "nobody has asked")
		w.l.Counts()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Greater(t, store.reads.Load(), before)
	})
}

// While the store is down, what was counted last stays.
func TestCountsWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.isPending("shop", "a", time.Hour)
		w.l.Count()
		synctest.Wait()
		w.l.mu.Lock()
		store := w.l.store
		w.l.store = nil
		w.l.mu.Unlock()
		w.l.Counts()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, w.l.Counts().Tells["shop"].Pending)
		w.l.mu.Lock()
		w.l.store = store
		w.l.mu.Unlock()
	})
}

// If nobody has asked for long, the queues that were counted last are out of date: an order of which the
// shop has heard since would look as if it had been waiting all that time.
func TestCountsThatAreOutOfDateAreNotShown(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.isPending("shop", "a", time.Second)
		w.l.Count()
		synctest.Wait()
		assert.Equal(t, 1, w.l.Counts().Tells["shop"].Pending)
		time.Sleep(countedFor + time.Minute)
		w.store.change(Key{"shop", "a"}, func(row *Row) { row.Telling, row.Queue, row.Attempts[0].Happenings = Telling{}, "", nil })
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Nil(t, w.l.Counts().Tells)
		time.Sleep(countEvery)
		synctest.Wait()
		assert.Equal(t, map[string]TellCounts{"shop": {}}, w.l.Counts().Tells)
	})
}
