package boltstore

// This file holds tests of copies of a file.

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// copied returns a copy of a store with some orders and the mark of an account.
func copied(t *testing.T, orders int) []byte {
	t.Helper()
	s := openNew(t, Options{NoSync: true})
	for i := range orders {
		require.NoError(t, s.Put(t.Context(), issued(i), 0, false))
	}
	require.NoError(t, s.Put(t.Context(), &ledger.Row{Format: ledger.Format, Version: 1, Mark: &ledger.Mark{Since: 1}}, 0, false))
	var b bytes.Buffer
	require.NoError(t, s.Copy(t.Context(), &b))
	return b.Bytes()
}

func TestVerify(t *testing.T) {
	t.Parallel()
	whole := copied(t, 200)
	path := filepath.Join(t.TempDir(), "copy.db")
	_, err := Verify(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist, "it is not created")

	write := func(data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	write(whole)
	orders, err := Verify(path)
	require.NoError(t, err)
	assert.Equal(t, 200, orders, "a mark is no order")
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(whole, after), "it is not written to")

	for length := 0; length < len(whole); length += len(whole)/20 + 1 {
		write(whole[:length])
		_, err := Verify(path)
		require.Error(t, err, "%d of %d bytes", length, len(whole))
	}
	write([]byte("<html>not found</html>"))
	_, err = Verify(path)
	require.ErrorIs(t, err, ErrNotLedger)
	damaged := bytes.Clone(whole)
	for i := 3 * os.Getpagesize(); i < len(damaged); i++ {
		damaged[i] ^= 0x5a
	}
	write(damaged)
	_, err = Verify(path)
	require.ErrorIs(t, err, ErrNotLedger)

	write(whole)
	s := mustOpen(t, path, Options{})
	_, err = Verify(path)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.Close())
}

// Each copy has all that was written before it, and nothing by halves.
func TestCopyBesideWriters(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{NoSync: true})
	var written atomic.Int64
	var writing sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for w := range 4 {
		writing.Go(func() {
			for i := w; ctx.Err() == nil; i += 4 {
				if !assert.NoError(t, s.Put(t.Context(), issued(i), 0, false)) {
					return
				}
				written.Add(1)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	for range 10 {
		var b bytes.Buffer
		before := written.Load()
		require.NoError(t, s.Copy(t.Context(), &b))
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
		orders, err := Verify(path)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, orders, int(before))
		opened := mustOpen(t, path, Options{NoSync: true})
		assert.Len(t, dueRows(t, opened), orders)
		require.NoError(t, opened.Close())
	}
	stop()
	writing.Wait()
}

func dueRows(t *testing.T, s *Store) []*ledger.Row {
	t.Helper()
	rows, err := s.Due(t.Context(), ledger.Looks, 1<<62, 1<<30)
	require.NoError(t, err)
	return rows
}

// ending is a writer whose context ends with the first byte.
type ending struct {
	cancel context.CancelFunc
	n      int
}

func (e *ending) Write(p []byte) (int, error) {
	e.cancel()
	e.n += len(p)
	return len(p), nil
}

func TestCopyEnds(t *testing.T) {
	t.Parallel()
	s := openNew(t, Options{NoSync: true})
	for i := range 200 {
		require.NoError(t, s.Put(t.Context(), issued(i), 0, false))
	}
	ctx, cancel := context.WithCancel(t.Context())
	out := &ending{cancel: cancel}
	require.ErrorIs(t, s.Copy(ctx, out), context.Canceled)
	assert.Equal(t, os.Getpagesize(), out.n)
	require.ErrorIs(t, s.Copy(ctx, out), context.Canceled)
	require.NoError(t, s.Close())
	assert.ErrorIs(t, s.Copy(t.Context(), out), errClosed)
}

func TestPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "backup.db")
	place := func(text string, replace bool) error {
		temporary := filepath.Join(dir, "temporary")
		require.NoError(t, os.WriteFile(temporary, []byte(text), 0o600))
		err := Place(temporary, path, replace)
		if err == nil {
			require.NoFileExists(t, temporary)
		}
		return err
	}
	is := func(want string) {
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	require.NoError(t, place("first", false))
	is("first")
	require.ErrorIs(t, place("second", false), fs.ErrExist)
	is("first")
	require.NoError(t, place("third", true))
	is("third")
	require.NoError(t, os.Remove(path))
	s := mustOpen(t, path, Options{})
	require.ErrorIs(t, place("fourth", true), ErrLocked)
	require.NoError(t, s.Close())
	assert.Error(t, Place(filepath.Join(dir, "missing"), filepath.Join(dir, "new"), false))
}
