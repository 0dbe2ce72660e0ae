package boltstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/storetest"
)

// TestMain fails the run if a test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStoreKeepsTheRulesOfAStore(t *testing.T) {
	t.Parallel()
	var paths sync.Map
	open := func(t *testing.T) *Store {
		path, _ := paths.LoadOrStore(t.Name(), filepath.Join(t.TempDir(), "ledger.db"))
		return mustOpen(t, path.(string), Options{})
	}
	storetest.Run(t, func(t *testing.T) ledger.Store { return open(t) })
	storetest.RunMovable(t, func(t *testing.T) ledger.Movable { return open(t) })
}

// mustOpen opens a ledger.
func mustOpen(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	require.NoError(t, err)
	return s
}

// openNew opens a new ledger until the test ends.
func openNew(t testing.TB, o Options) *Store {
	t.Helper()
	s := mustOpen(t, filepath.Join(t.TempDir(), "ledger.db"), o)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// issued returns a row as it is after POST /cvs, with 15 fields of the answer.
func issued(i int) *ledger.Row {
	return &ledger.Row{
		Format: ledger.Format, Order: fmt.Sprintf("20260801-%07d", i), Version: 2, Due: 1_785_000_000_000 + int64(i)*1000,
		Attempts: []ledger.Attempt{{
			ID: "q8Zl2hW0pXv3nTfK", State: ledger.Issued, ImpUID: fmt.Sprintf("imp_%012d", i), Amount: "15000", PG: "nice.iamport01m", ChannelKey: "channel-key-5d1f3c1e-7a51-4f2a-9c0e-6c1d2f3a4b5c",
			Deadline: 1_785_000_000 + int64(i), Asked: 1_784_000_000_000 + int64(i), Since: 1_784_000_000_400 + int64(i),
			Fields: []string{"amount", "barcode", "buyer_email", "buyer_name", "buyer_tel", "channel", "currency", "expired_at", "imp_uid", "merchant_uid", "name", "pay_method", "pg_provider", "started_at", "status"},
		}},
	}
}

// commits returns the number of commits that the file has seen.
func commits(t testing.TB, s *Store) (n int) {
	t.Helper()
	require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
		n = tx.ID()
		return nil
	}))
	return n
}

// assertDown asserts that a store refuses everything.
func assertDown(t *testing.T, s *Store, cause error) {
	t.Helper()
	_, get := s.Get(t.Context(), ledger.Key{Order: "order"})
	_, byImpUID := s.GetByImpUID(t.Context(), "", "imp_1")
	_, due := s.Due(t.Context(), ledger.Looks, 1, 1)
	_, queue := s.Due(t.Context(), "q", 1, 1)
	_, list := s.List(t.Context(), ledger.Key{}, 1)
	for _, err := range []error{get, byImpUID, due, queue, list, s.Put(t.Context(), issued(0), 0, false), s.Put(t.Context(), issued(0), 0, true)} {
		assert.ErrorIs(t, err, cause)
		assert.NotErrorIs(t, err, ledger.ErrConflict)
		assert.NotErrorIs(t, err, ledger.ErrNotFound)
	}
}

// copyOf opens a copy of the file of an open store, which has what a killed process leaves.
func copyOf(t *testing.T, s *Store) *Store {
	t.Helper()
	data, err := os.ReadFile(s.db.Path())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	c := mustOpen(t, path, Options{})
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

func TestPutIsInTheFileWhenItReturns(t *testing.T) {
	t.Parallel()
	for _, lazy := range []bool{false, true} {
		s := openNew(t, Options{})
		require.NoError(t, s.Put(t.Context(), issued(1), 0, lazy))
		row, err := copyOf(t, s).Get(t.Context(), issued(1).Key())
		require.NoError(t, err)
		assert.Equal(t, issued(1), row)
	}
}

// bbolt shows a commit to readers before its last sync has ended.
func TestWhatIsReadIsSynced(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	require.NoError(t, s.Put(t.Context(), issued(1), 0, false))
	s.syncing <- struct{}{} // a commit is under way, up to its last sync
	w, err := s.newWrite(issued(2), 0, false)
	require.NoError(t, err)
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error { return s.apply(tx, []*write{w}) }))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for _, order := range []string{issued(2).Order, "none"} {
		_, err = s.Get(ctx, ledger.Key{Order: order})
		assert.ErrorIs(t, err, context.DeadlineExceeded, order)
	}
	<-s.syncing
	_, err = s.Get(t.Context(), issued(2).Key())
	assert.ErrorIs(t, err, errNotSynced, "the sync has failed")
	s.syncing <- struct{}{}
	read := make(chan error)
	go func() {
		_, err := s.Get(t.Context(), issued(2).Key())
		read <- err
	}()
	s.durable.Add(1)
	<-s.syncing
	assert.NoError(t, <-read)
	require.NoError(t, s.Put(t.Context(), issued(3), 0, false))
	_, err = s.Get(t.Context(), issued(3).Key())
	assert.NoError(t, err)
}

func TestHoldOfAnEarlierOpeningIsDead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := mustOpen(t, path, Options{})
	held := issued(1)
	held.Holder, held.HeldUntil = "node", 1_900_000_000_000
	require.NoError(t, s.Put(t.Context(), held, 0, false))
	row, err := s.Get(t.Context(), held.Key())
	require.NoError(t, err)
	assert.Equal(t, held, row, "a hold of this opening")
	require.NoError(t, s.Close())

	s = mustOpen(t, path, Options{})
	defer s.Close()
	free := issued(1)
	row, err = s.Get(t.Context(), held.Key())
	require.NoError(t, err)
	assert.Equal(t, free, row)
	row, err = s.GetByImpUID(t.Context(), "", held.Attempts[0].ImpUID)
	require.NoError(t, err)
	assert.Equal(t, free, row)
	due, err := s.Due(t.Context(), ledger.Looks, held.Due, 1)
	require.NoError(t, err)
	assert.Equal(t, []*ledger.Row{free}, due)
	list, err := s.List(t.Context(), ledger.Key{}, 1)
	require.NoError(t, err)
	assert.Equal(t, []*ledger.Row{free}, list)

	held.Version = 3
	require.NoError(t, s.Put(t.Context(), held, 2, false))
	row, err = s.Get(t.Context(), held.Key())
	require.NoError(t, err)
	assert.Equal(t, held, row, "taken again")
}

// Of writes that come while a commit is under way, the next one takes all.
func TestWritesThatWaitShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Store{writes: make(chan *write), closing: make(chan struct{})} // its committer is busy
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() { assert.NoError(t, s.Put(t.Context(), issued(i), 0, i%2 == 0)) })
		}
		synctest.Wait()
		batch, last := s.gather()
		assert.Len(t, batch, 50)
		assert.False(t, last)
		for _, w := range batch {
			w.done <- nil
		}
		all.Wait()
	})
}

func TestLazyWrites(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T, s *Store, put func(i int, lazy bool)){
		"wait for MaxLazy": func(t *testing.T, s *Store, put func(int, bool)) {
			began, before := time.Now(), commits(t, s)
			var all sync.WaitGroup
			all.Go(func() { put(1, true) })
			time.Sleep(ledger.MaxLazy / 2)
			all.Go(func() { put(2, true) })
			all.Wait()
			assert.Equal(t, ledger.MaxLazy, time.Since(began))
			assert.Equal(t, 1, commits(t, s)-before)
		},
		"go with another": func(t *testing.T, s *Store, put func(int, bool)) {
			began, before := time.Now(), commits(t, s)
			var all sync.WaitGroup
			all.Go(func() { put(1, true) })
			all.Go(func() { put(2, true) })
			synctest.Wait()
			put(3, false)
			all.Wait()
			assert.Zero(t, time.Since(began))
			assert.Equal(t, 1, commits(t, s)-before)
		},
		"are done by Close": func(t *testing.T, s *Store, put func(int, bool)) {
			began := time.Now()
			var all sync.WaitGroup
			all.Go(func() { put(1, true) })
			synctest.Wait()
			assert.NoError(t, s.Close())
			all.Wait()
			assert.Zero(t, time.Since(began))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.db")
			synctest.Test(t, func(t *testing.T) {
				s := mustOpen(t, path, Options{})
				test(t, s, func(i int, lazy bool) { assert.NoError(t, s.Put(t.Context(), issued(i), 0, lazy)) })
				require.NoError(t, s.Close())
			})
		})
	}
}

// Each write of a commit stands on those before it.
func TestWritesOfOneCommitSeeAnother(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	before := commits(t, s)
	var batch []*write
	for _, versions := range [][2]uint64{{1, 0}, {1, 0}, {2, 1}, {3, 1}, {3, 2}} {
		row := issued(1)
		row.Version = versions[0]
		w, err := s.newWrite(row, versions[1], false)
		require.NoError(t, err)
		batch = append(batch, w)
	}
	s.commit(batch)
	for i, want := range []error{nil, ledger.ErrConflict, nil, ledger.ErrConflict, nil} {
		assert.ErrorIs(t, <-batch[i].done, want, "write %d", i)
	}
	assert.Equal(t, 1, commits(t, s)-before)
	assert.ErrorIs(t, s.Put(t.Context(), issued(1), 7, false), ledger.ErrConflict)
	assert.Equal(t, 1, commits(t, s)-before, "a conflict alone is not synced")
}

func TestContextEndsWhileAWriteWaits(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]bool{"for the committer": false, "for the commit": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &Store{writes: make(chan *write)} // its committer is busy
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				all.Go(func() { assert.ErrorIs(t, s.Put(ctx, issued(1), 0, false), context.Canceled) })
				synctest.Wait()
				if taken {
					w := <-s.writes
					defer func() { w.done <- nil }() // the committer is not held up
				}
				cancel()
				all.Wait()
			})
		})
	}
}

func TestContextThatIsOverQueuesNothing(t *testing.T) {
	t.Parallel()
	s := &Store{writes: make(chan *write, 50)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range cap(s.writes) {
		assert.ErrorIs(t, s.Put(ctx, issued(i), 0, false), context.Canceled)
	}
	assert.Empty(t, s.writes)
}

// What bbolt would refuse fails alone, not with the writes beside it.
func TestUnwritableRowFailsAlone(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	long := string(make([]byte, bbolt.MaxKeySize))
	row := issued(1)
	row.Order, row.Attempts[0].ImpUID = long, ""
	assert.ErrorIs(t, s.Put(t.Context(), row, 0, false), errLongKey)
	row = issued(1)
	row.Attempts[0].ImpUID = long
	assert.ErrorIs(t, s.Put(t.Context(), row, 0, false), errLongKey)
	row = issued(1)
	row.Queue = ledger.Queue(long)
	assert.ErrorIs(t, s.Put(t.Context(), row, 0, false), errLongKey)
	row = issued(1)
	row.Order = "\xff"
	assert.ErrorContains(t, s.Put(t.Context(), row, 0, false), "writing a row of the ledger: ")
	assert.NoError(t, s.Put(t.Context(), issued(1), 0, false))
}

func TestUnreadableRow(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"short", "12345678{"} {
		s := openNew(t, Options{})
		row := queued(1, 1)
		require.NoError(t, s.Put(t.Context(), row, 0, false))
		require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(rowsBucket).Put(rowKey(row.Key()), []byte(value))
		}))
		_, get := s.Get(t.Context(), row.Key())
		_, due := s.Due(t.Context(), ledger.Looks, row.Due, 1)
		_, queue := s.Due(t.Context(), row.Queue, row.QueueDue, 1)
		_, list := s.List(t.Context(), ledger.Key{}, 1)
		row.Version = 3
		for _, err := range []error{get, due, queue, list, s.Put(t.Context(), row, 2, false)} {
			assert.ErrorContains(t, err, "reading a row of the ledger: ")
		}
		assert.NoError(t, s.Put(t.Context(), issued(2), 0, false), "others are not affected")
	}
}
