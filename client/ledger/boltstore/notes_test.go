package boltstore

// This file holds tests of notes, and of files whose rows were moved away.

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// A file that was moved away is not opened, also not by versions that know nothing of notes.
func TestOpenRefusesWhatWasMovedAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "ledger.db"), filepath.Join(dir, "other.db")
	s := mustOpen(t, path, Options{})
	require.NoError(t, s.Put(t.Context(), issued(1), 0, false))
	require.NoError(t, s.Close())
	moveRows(t, path, other)
	for range 2 { // the second would find the file locked if the first left it open
		_, err := Open(path, Options{LockTimeout: 100 * time.Millisecond})
		require.ErrorIs(t, err, ledger.ErrMoved)
		assert.ErrorContains(t, err, path)
		assert.ErrorContains(t, err, "to "+other+" on 20")
	}
	assert.Greater(t, formatOf(t, path), fileFormat, "which they refuse as that of a newer version")
	s = mustOpen(t, path, Options{Moved: true})
	_, err := s.Get(t.Context(), issued(1).Key())
	require.NoError(t, err)
	require.NoError(t, s.Close())

	moveRows(t, other, path)
	s = mustOpen(t, path, Options{})
	require.NoError(t, s.Close())
	assert.Equal(t, fileFormat, formatOf(t, path))
	_, err = Open(other, Options{})
	assert.ErrorIs(t, err, ledger.ErrMoved)
}

// moveRows moves the rows of a file to another one.
func moveRows(t testing.TB, path, other string) ledger.Summary {
	t.Helper()
	from, to := mustOpen(t, path, Options{Moved: true, Existing: true}), mustOpen(t, other, Options{Moved: true})
	done, err := ledger.Move(t.Context(), ledger.Place{Movable: from, Name: path}, ledger.Place{Movable: to, Name: other})
	require.NoError(t, err)
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())
	return done
}

// formatOf reads the file's format as any version does.
func formatOf(t *testing.T, path string) (format int) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *bbolt.Tx) (err error) {
		format, err = strconv.Atoi(string(tx.Bucket(metaBucket).Get(formatKey)))
		return err
	}))
	require.NoError(t, db.Close())
	return format
}

// The source of a move is not made: its name may be wrong.
func TestOpenExisting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	_, err := Open(path, Options{Existing: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Open(path, Options{tune: func(o *bbolt.Options) {
		o.OpenFile = func(string, int, fs.FileMode) (*os.File, error) {
			require.NoError(t, mustOpen(t, path, Options{}).Close())
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
		}
	}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, mustOpen(t, path, Options{Existing: true}).Close(), "what another process has made meanwhile stays")
}

// A file without notes, of before there were any, is not written to be read.
func TestNoteIsReadWithoutAWrite(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	before := commits(t, s)
	value, err := s.Note(t.Context(), "id", "")
	require.NoError(t, err)
	assert.Empty(t, value)
	assert.Equal(t, before, commits(t, s))
	for range 3 {
		_, err = s.Note(t.Context(), "id", "a")
		require.NoError(t, err)
	}
	assert.Equal(t, before+1, commits(t, s))
}

// A note that cannot be written ends the store, as a row does.
func TestNoteFailure(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	require.Error(t, s.SetNote(t.Context(), "", "a name that bbolt refuses"))
	assert.Error(t, s.SetNote(t.Context(), "id", "a"))
	_, err := s.Note(t.Context(), "id", "a")
	require.Error(t, err)
	assertDown(t, s, err)
}

// A note may come while the store is closed.
func TestNotesBesideClose(t *testing.T) {
	t.Parallel()
	for range 20 {
		s := mustOpen(t, filepath.Join(t.TempDir(), "ledger.db"), Options{NoSync: true})
		var writing sync.WaitGroup
		var begun atomic.Int64
		first := make(chan struct{})
		for range 4 {
			writing.Go(func() {
				for {
					if err := s.SetNote(t.Context(), "n", "v"); err != nil {
						assert.ErrorIs(t, err, errClosed)
						return
					}
					if begun.Add(1) == 8 {
						close(first)
					}
				}
			})
		}
		<-first
		require.NoError(t, s.Close())
		writing.Wait()
	}
}

var moved = flag.Int("moved", 10_000, "the number of rows that BenchmarkMove moves")

// BenchmarkMove moves the rows of a file to another one, with every sync.
func BenchmarkMove(b *testing.B) {
	*rows = *moved
	for b.Loop() {
		dir := b.TempDir()
		fill(b, filepath.Join(dir, "from.db"))
		began := time.Now()
		require.Equal(b, *moved, moveRows(b, filepath.Join(dir, "from.db"), filepath.Join(dir, "to.db")).Written)
		b.ReportMetric(time.Since(began).Seconds(), "s/move")
		began = time.Now()
		require.True(b, moveRows(b, filepath.Join(dir, "from.db"), filepath.Join(dir, "to.db")).Before)
		b.ReportMetric(time.Since(began).Seconds(), "s/again")
		s := mustOpen(b, filepath.Join(dir, "from.db"), Options{Moved: true})
		require.NoError(b, s.SetNote(b.Context(), ledger.NoteMoved, ""))
		require.NoError(b, s.Close())
		began = time.Now()
		require.Zero(b, moveRows(b, filepath.Join(dir, "from.db"), filepath.Join(dir, "to.db")).Written)
		b.ReportMetric(time.Since(began).Seconds(), "s/repeated")
	}
}
