package boltstore

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
)

func TestOpenCreatesAFileForItsOwner(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{})
	info, err := os.Stat(s.db.Path())
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode())
}

func TestOpenFailsOnALockedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	for limit, want := range map[time.Duration]time.Duration{0: 10 * time.Second, 3 * time.Second: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := mustOpen(t, path, Options{})
			began := time.Now()
			_, err := Open(path, Options{LockTimeout: limit})
			assert.ErrorIs(t, err, ErrLocked)
			assert.ErrorContains(t, err, path)
			assert.InDelta(t, want, time.Since(began), float64(100*time.Millisecond))
			require.NoError(t, s.Close())
			s = mustOpen(t, path, Options{})
			require.NoError(t, s.Close())
			require.NoError(t, s.Close(), "once more")
		})
	}
}

func TestOpenWaitsForTheLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, path, Options{})
		time.AfterFunc(2*time.Second, func() { assert.NoError(t, s.Close()) })
		s = mustOpen(t, path, Options{})
		require.NoError(t, s.Close())
	})
}

func TestOpenKeepsErrorsOfTheFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "missing", "ledger.db"), Options{})
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "no such file or directory")
	_, err = Open(dir, Options{})
	assert.ErrorIs(t, err, syscall.EISDIR)
	for _, cause := range []error{syscall.EROFS, syscall.EACCES} {
		_, err := Open(filepath.Join(dir, "ledger.db"), Options{tune: func(o *bbolt.Options) {
			o.OpenFile = func(name string, _ int, _ fs.FileMode) (*os.File, error) {
				return nil, &fs.PathError{Op: "open", Path: name, Err: cause}
			}
		}})
		assert.ErrorIs(t, err, cause)
		assert.NotErrorIs(t, err, ErrNotLedger)
	}
}

func TestOpenRefusesWhatIsNoLedger(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := mustOpen(t, path, Options{})
	for i := range 100 {
		require.NoError(t, s.Put(t.Context(), issued(i), 0, false))
	}
	var used int64
	require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
		used = tx.Size()
		return nil
	}))
	require.NoError(t, s.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	change := func(change func(tx *bbolt.Tx) error) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, whole, 0o600))
			db, err := bbolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(change))
			require.NoError(t, db.Close())
		}
	}
	file := func(data []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, data, 0o600)) }
	}
	page := os.Getpagesize()
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want error
	}{
		"a short text":          {file([]byte("hello")), ErrNotLedger},
		"zeros":                 {file(make([]byte, 1<<16)), ErrNotLedger},
		"one page":              {file(whole[:page]), ErrNotLedger},
		"four pages":            {file(whole[:4*page]), ErrNotLedger},
		"a part of the pages":   {file(whole[:20*page]), ErrNotLedger},
		"all but the last byte": {file(whole[:used-1]), ErrNotLedger},
		"no list of free pages": {file(append(append([]byte{}, whole[:2*page]...), make([]byte, len(whole)-2*page)...)), ErrNotLedger},
		"another database": {func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("theirs"))
				return err
			}))
			require.NoError(t, db.Close())
		}, ErrNotLedger},
		"a format that is no number": {change(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("new")) }), ErrNotLedger},
		"a newer format":             {change(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("2")) }), ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "other.db")
			c.make(t, path)
			for range 2 { // the second would find the file locked if the first left it open
				s, err := Open(path, Options{LockTimeout: 100 * time.Millisecond})
				assert.ErrorIs(t, err, c.want)
				assert.ErrorContains(t, err, path)
				if s != nil {
					assert.NoError(t, s.Close())
				}
			}
		})
	}
}

// Opening writes the meta pages again, and syncs them: see settle.
func TestOpenSettlesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := mustOpen(t, path, Options{})
	require.NoError(t, s.Put(t.Context(), issued(1), 0, false))
	require.NoError(t, s.Close())
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	old := time.Unix(1_700_000_000, 0)
	require.NoError(t, os.Chtimes(path, old, old))
	s = mustOpen(t, path, Options{})
	require.NoError(t, s.Close())
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.NotEqual(t, old, info.ModTime())
}
