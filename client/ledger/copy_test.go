package ledger_test

// This file holds tests of copying the rows of a store while it is used.

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

func TestCopyHasAllRowsAndNotes(t *testing.T) {
	t.Parallel()
	from, to := memory("postgres"), file(t, "copy.db")
	from.put(t, full()...)
	from.use(t, func(m ledger.Movable) {
		require.NoError(t, m.SetNote(t.Context(), "id", "its-id"))
		require.NoError(t, m.SetNote(t.Context(), "from 0123", "where it was"))
		require.NoError(t, m.SetNote(t.Context(), ledger.NoteMoved, "x 1 elsewhere"))
	})
	from.use(t, func(source ledger.Movable) {
		to.use(t, func(target ledger.Movable) { require.NoError(t, ledger.Copy(t.Context(), source, target)) })
	})
	assert.Equal(t, from.rows(t), to.rows(t))
	to.use(t, func(m ledger.Movable) {
		notes, err := m.Notes(t.Context())
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"id": "its-id", "from 0123": "where it was"}, notes, "a copy was not moved away")
		require.NoError(t, ledger.CheckMoved(t.Context(), m))
	})
	_, err := move(t, to, from, nil)
	assert.ErrorIs(t, err, ledger.ErrSameStore)
}

func TestCopyStopsAtRowsOfANewerFormat(t *testing.T) {
	t.Parallel()
	from, to := memory("postgres"), memory("copy")
	newer := row("newer", 1, attempt(1, ledger.Issued, "imp_1"))
	newer.Format = ledger.Format + 1
	from.put(t, newer)
	from.use(t, func(source ledger.Movable) {
		to.use(t, func(target ledger.Movable) {
			assert.ErrorIs(t, ledger.Copy(t.Context(), source, target), ledger.ErrNewerRows)
		})
	})
}

// What nodes write meanwhile is in the copy as it was, or as it is. Each row of before is.
func TestCopyBesideWriters(t *testing.T) {
	t.Parallel()
	from, to := memory("postgres"), file(t, "copy.db")
	from.put(t, full()...)
	from.use(t, func(source ledger.Movable) {
		var writing sync.WaitGroup
		var ended atomic.Bool
		begun := make(chan struct{})
		writing.Go(func() {
			for version := uint64(3); !ended.Load(); version++ {
				next := row("issued", version+1, attempt(1, ledger.Void, "imp_1"), attempt(2, ledger.Issued, "imp_2"))
				if !assert.NoError(t, source.Put(t.Context(), next, version, false)) {
					return
				}
				if version == 5 {
					close(begun)
				}
			}
		})
		<-begun
		to.use(t, func(target ledger.Movable) { assert.NoError(t, ledger.Copy(t.Context(), source, target)) })
		ended.Store(true)
		writing.Wait()
	})
	assertHas(t, to, full()...)
	assert.ElementsMatch(t, slices.Collect(maps.Keys(from.rows(t))), slices.Collect(maps.Keys(to.rows(t))))
}
