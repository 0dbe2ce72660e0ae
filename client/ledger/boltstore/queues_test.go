package boltstore

// This file holds tests of the index of queues in files that an older version made or wrote.

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// queued returns a row that stands in the queue q.
func queued(i int, place int64) *ledger.Row {
	row := issued(i)
	row.Queue, row.QueueDue = "q", place
	return row
}

// orders returns the orders of the rows that are due in a queue.
func orders(t *testing.T, s *Store, queue ledger.Queue, limit int) (list []string) {
	t.Helper()
	rows, err := s.Due(t.Context(), queue, 1_790_000_000_000, limit)
	require.NoError(t, err)
	for _, row := range rows {
		list = append(list, row.Order)
	}
	return list
}

// asOlder changes a file as a version does that does not know the index of queues.
func asOlder(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(change))
	require.NoError(t, db.Close())
}

func TestFileOfAnOlderVersionGetsTheIndexOfQueues(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := mustOpen(t, path, Options{})
	require.NoError(t, s.Put(t.Context(), issued(1), 0, false))
	require.NoError(t, s.Close())
	asOlder(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket(queuesBucket) })

	s = mustOpen(t, path, Options{})
	assert.Empty(t, orders(t, s, "q", 10))
	assert.Equal(t, []string{issued(1).Order}, orders(t, s, ledger.Looks, 10))
	row := queued(1, 5)
	row.Version++
	require.NoError(t, s.Put(t.Context(), row, row.Version-1, false))
	before := commits(t, s)
	require.NoError(t, s.Close())

	s = mustOpen(t, path, Options{})
	assert.Equal(t, before, commits(t, s), "a file that has it is not written")
	assert.Equal(t, []string{row.Order}, orders(t, s, "q", 10))
	require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
		assert.Equal(t, "1", string(tx.Bucket(metaBucket).Get(formatKey)), "an older version can still read the file")
		return nil
	}))
	require.NoError(t, s.Close())
}

// An older version leaves the entry of a row that it removes, or writes without its queue.
func TestEntryOfAQueueThatItsRowDeniesIsPassedOver(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := mustOpen(t, path, Options{})
	for i := range 5 {
		require.NoError(t, s.Put(t.Context(), queued(i, int64(i)), 0, false))
	}
	other, later := queued(2, 2), queued(3, 7)
	other.Queue = "other"
	values := make(map[int][]byte)
	for i, row := range map[int]*ledger.Row{1: issued(1), 2: other, 3: later} {
		var err error
		values[i], err = s.encodeRow(row)
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	asOlder(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket(rowsBucket)
		for i, value := range values {
			if err := b.Put(rowKey(issued(i).Key()), value); err != nil {
				return err
			}
		}
		return b.Delete(rowKey(issued(0).Key()))
	})

	s = mustOpen(t, path, Options{})
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	assert.Equal(t, []string{issued(4).Order}, orders(t, s, "q", 10))
	assert.Equal(t, []string{issued(4).Order}, orders(t, s, "q", 1), "they take nobody's place")
	require.NoError(t, s.Put(t.Context(), queued(0, 0), 0, false))
	again := queued(1, 9)
	again.Version++
	require.NoError(t, s.Put(t.Context(), again, again.Version-1, false))
	assert.Equal(t, []string{issued(0).Order, issued(4).Order, issued(1).Order}, orders(t, s, "q", 10), "each stands there once")
}

// What a newer version wrote may be unreadable to this one.
func TestDueDoesNotReadRowsOfANewerFormat(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	newer := queued(1, 1)
	newer.Format = ledger.Format + 1
	require.NoError(t, s.Put(t.Context(), newer, 0, false))
	require.NoError(t, s.Put(t.Context(), queued(2, 2), 0, false))
	require.NoError(t, s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(rowsBucket).Put(rowKey(newer.Key()), []byte("unreadable"))
	}))
	s.durable.Add(1)
	for _, queue := range []ledger.Queue{ledger.Looks, "q"} {
		assert.Equal(t, []string{issued(2).Order}, orders(t, s, queue, 10))
	}
}

// An entry that stays behind would take time in each call of Due, for ever.
func TestQueueKeepsNoOldEntry(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	entries := func() (n int) {
		require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
			n = tx.Bucket(queuesBucket).Stats().KeyN
			return nil
		}))
		return n
	}
	row := issued(1)
	row.Version = 0
	for i, c := range []struct {
		change  func(*ledger.Row)
		entries int
	}{
		{func(*ledger.Row) {}, 0},
		{func(r *ledger.Row) { r.QueueDue = 4 }, 0},
		{func(r *ledger.Row) { r.Queue = "q" }, 1},
		{func(r *ledger.Row) { r.QueueDue = 5 }, 1},
		{func(r *ledger.Row) { r.Tries++ }, 1},
		{func(r *ledger.Row) { r.Queue = "other" }, 1},
		{func(r *ledger.Row) { r.Queue = "" }, 0},
		{func(r *ledger.Row) { r.Queue = "q" }, 1},
		{func(r *ledger.Row) { r.Attempts = nil }, 0},
	} {
		c.change(row)
		row.Version++
		require.NoError(t, s.Put(t.Context(), row, row.Version-1, false))
		assert.Equal(t, c.entries, entries(), "change %d", i)
	}
}
