package boltstore

// This file holds tests with a disk that fails. The device behind the open file is exchanged:
// writing to /dev/full fails as on a full disk, and writing to /dev/null succeeds, but syncing fails.

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// openWithFile opens a ledger and returns the file that bbolt writes to.
func openWithFile(t *testing.T, path string, o Options) (s *Store, file *os.File) {
	t.Helper()
	o.tune = func(o *bbolt.Options) {
		o.OpenFile = func(name string, flag int, mode fs.FileMode) (f *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		}
	}
	return mustOpen(t, path, o), file
}

// exchange lets a file's descriptor stand for a device.
func exchange(t *testing.T, file *os.File, device string) {
	t.Helper()
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, syscall.Dup3(int(d.Fd()), int(file.Fd()), syscall.O_CLOEXEC))
}

func TestFailedDiskEndsTheStore(t *testing.T) {
	t.Parallel()
	for device, cause := range map[string]error{"/dev/full": syscall.ENOSPC, "/dev/null": syscall.EINVAL} {
		t.Run(filepath.Base(device), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.db")
			s, file := openWithFile(t, path, Options{})
			row := issued(1)
			require.NoError(t, s.Put(t.Context(), row, 0, false))
			for range 10 { // until there are free pages: the file is not to grow
				row.Version++
				require.NoError(t, s.Put(t.Context(), row, row.Version-1, false))
			}
			exchange(t, file, device)

			blocking, err := s.db.Begin(true)
			require.NoError(t, err)
			var all sync.WaitGroup
			for i := range 10 {
				all.Go(func() {
					next := row.Clone()
					next.Version += uint64(i + 1)
					err := s.Put(t.Context(), next, row.Version, i%2 == 0)
					assert.ErrorIs(t, err, cause)
					assert.NotErrorIs(t, err, ledger.ErrConflict)
				})
			}
			require.NoError(t, blocking.Rollback())
			all.Wait()
			assertDown(t, s, cause)
			_ = s.Close() // it cannot unlock a device
			assertDown(t, s, cause)

			s = mustOpen(t, path, Options{})
			defer s.Close()
			read, err := s.Get(t.Context(), row.Key())
			require.NoError(t, err)
			assert.Equal(t, row, read)
			next := row.Clone()
			next.Version++
			assert.NoError(t, s.Put(t.Context(), next, row.Version, false))
		})
	}
}

func TestNoSyncDoesNotSync(t *testing.T) {
	t.Parallel()
	s, file := openWithFile(t, filepath.Join(t.TempDir(), "ledger.db"), Options{NoSync: true})
	exchange(t, file, "/dev/null")
	assert.NoError(t, s.Put(t.Context(), issued(1), 0, false))
	_ = s.Close() // it cannot unlock a device
}

func TestFullFileEndsTheStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	s := mustOpen(t, path, Options{tune: func(o *bbolt.Options) { o.MaxSize, o.InitialMmapSize = 1<<20, 0 }})
	written := 0
	for ; ; written++ {
		err := s.Put(t.Context(), issued(written), 0, false)
		if err != nil {
			assert.ErrorIs(t, err, berrors.ErrMaxSizeReached)
			break
		}
	}
	assert.Greater(t, written, 100)
	assertDown(t, s, berrors.ErrMaxSizeReached)
	require.NoError(t, s.Close())

	s = mustOpen(t, path, Options{})
	defer s.Close()
	rows, err := s.List(t.Context(), ledger.Key{}, written+1)
	require.NoError(t, err)
	assert.Len(t, rows, written)
	assert.NoError(t, s.Put(t.Context(), issued(written), 0, false))
}

// Somebody truncates the file below a running program, which must live on.
func TestTruncatedFileIsAnError(t *testing.T) {
	t.Parallel()
	s, file := openWithFile(t, filepath.Join(t.TempDir(), "ledger.db"), Options{})
	for i := range 20 {
		require.NoError(t, s.Put(t.Context(), issued(i), 0, false))
	}
	require.NoError(t, file.Truncate(int64(2*os.Getpagesize())))
	_, err := s.Get(t.Context(), issued(1).Key())
	assert.ErrorIs(t, err, errDamaged)
	assert.ErrorIs(t, s.Put(t.Context(), issued(100), 0, false), errDamaged)
	assertDown(t, s, errDamaged)
	require.NoError(t, s.Close())
}

func TestFullDiskLeavesNoHalfFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	_, err := Open(path, Options{tune: func(o *bbolt.Options) {
		o.OpenFile = func(name string, flag int, mode fs.FileMode) (*os.File, error) {
			file, err := os.OpenFile(name, flag, mode)
			require.NoError(t, err)
			_, err = file.WriteString("half a page")
			require.NoError(t, err)
			exchange(t, file, "/dev/full")
			return file, nil
		}
	}})
	assert.ErrorIs(t, err, syscall.ENOSPC)
	assert.NotErrorIs(t, err, ErrNotLedger)
	s := mustOpen(t, path, Options{})
	require.NoError(t, s.Close())
}

func TestOpenFailsIfTheFileCannotBeSettled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	require.NoError(t, mustOpen(t, path, Options{}).Close())
	_, err := Open(path, Options{tune: func(o *bbolt.Options) {
		o.OpenFile = func(name string, _ int, mode fs.FileMode) (*os.File, error) {
			return os.OpenFile(name, os.O_RDONLY, mode)
		}
	}})
	assert.ErrorIs(t, err, syscall.EBADF)
	assert.NotErrorIs(t, err, ErrNotLedger)
	require.NoError(t, mustOpen(t, path, Options{}).Close())
}
