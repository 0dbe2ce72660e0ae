// Package storetest holds the tests that every ledger.Store must pass, and a Store in memory.
package storetest

// This file holds Run, what its tests share, and the tests of what a Store is as a whole:
// versions under load, contexts, the end.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// Run tests a Store. The first call of open with a t returns a store without rows; later calls
// with the same t, after Close, open the same store again. t.Name() tells the tests apart, which
// run in parallel.
func Run(t *testing.T, open func(t *testing.T) ledger.Store) {
	for name, test := range map[string]func(h *harness){
		"a row comes back as it was written":            testRoundTrip,
		"a row that a caller holds is not the store's":  testCopies,
		"a write needs the stored version":              testVersions,
		"a removed row leaves nothing":                  testRemoval,
		"a row of a newer format is only read":          testNewerFormat,
		"the index of imp_uid follows the attempts":     testImpUID,
		"an imp_uid belongs to its account":             testImpUIDOfAccount,
		"due rows come earliest first":                  testDue,
		"due rows follow the writes":                    testDueMoves,
		"rows stand in a queue by their place":          testQueue,
		"queues are apart":                              testQueuesApart,
		"queues that look alike are different":          testAlikeQueues,
		"a row's place in a queue follows the writes":   testQueueMoves,
		"a queue passes over rows of a newer format":    testQueueNewerFormat,
		"a row without an attempt can be kept":          testWithoutAttempt,
		"hints are not in the index of imp_uid":         testHints,
		"rows are listed in the order of their keys":    testList,
		"keys that look alike are different":            testAlikeKeys,
		"one of many writers wins each version":         testRace,
		"writers of many orders do not disturb another": testManyOrders,
		"lazy writes and others are done together":      testLazy,
		"what was written is there after opening again": testReopen,
		"a context that is over stops a call":           testContext,
		"nothing works after Close":                     testClosed,
		"Close loses no write that it does not refuse":  testCloseUnderLoad,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &harness{T: t, open: open}
			h.reopen()
			t.Cleanup(func() { assert.NoError(t, h.Close()) })
			test(h)
		})
	}
}

// harness is a test with its store.
type harness struct {
	*testing.T
	ledger.Store
	open func(t *testing.T) ledger.Store
}

// reopen opens the test's store.
func (h *harness) reopen() { h.Store = h.open(h.T) }

// put writes a row.
func (h *harness) put(row *ledger.Row, was uint64) {
	h.Helper()
	require.NoError(h, h.Put(h.Context(), row, was, false))
}

// get returns a row that must exist.
func (h *harness) get(key ledger.Key) *ledger.Row {
	h.Helper()
	row, err := h.Get(h.Context(), key)
	require.NoError(h, err)
	return row
}

// missing asserts that there is no row.
func (h *harness) missing(key ledger.Key) {
	h.Helper()
	row, err := h.Get(h.Context(), key)
	assert.ErrorIs(h, err, ledger.ErrNotFound)
	assert.Nil(h, row)
}

// found asserts which order has an imp_uid, "" for none.
func (h *harness) found(account, impUID, order string) {
	h.Helper()
	row, err := h.GetByImpUID(h.Context(), account, impUID)
	if order == "" {
		assert.ErrorIs(h, err, ledger.ErrNotFound)
		return
	}
	require.NoError(h, err)
	assert.Equal(h, ledger.Key{Account: account, Order: order}, row.Key())
}

// due returns the orders of the rows that are due in the queue of all rows.
func (h *harness) due(now int64, limit int) []string {
	h.Helper()
	rows, err := h.Due(h.Context(), ledger.Looks, now, limit)
	require.NoError(h, err)
	return orders(rows)
}

// list returns the orders of rows of the unnamed account.
func (h *harness) list() []string {
	h.Helper()
	rows, err := h.List(h.Context(), ledger.Key{}, 1000)
	require.NoError(h, err)
	return orders(rows)
}

func orders(rows []*ledger.Row) (list []string) {
	for _, row := range rows {
		list = append(list, row.Order)
	}
	return list
}

// newRow returns a row of version 1 with one attempt for each imp_uid.
func newRow(order string, impUIDs ...string) *ledger.Row {
	row := &ledger.Row{Format: ledger.Format, Order: order, Version: 1, Due: 1000}
	for i, id := range impUIDs {
		row.Attempts = append(row.Attempts, ledger.Attempt{ID: fmt.Sprintf("attempt-%d", i), State: ledger.Issued, ImpUID: id, Amount: "15000", Asked: 500, Since: 600})
	}
	return row
}

// next returns a copy of a row with the next version, changed.
func next(row *ledger.Row, change func(*ledger.Row)) *ledger.Row {
	row = row.Clone()
	row.Version++
	change(row)
	return row
}

// assertFailure asserts that an error says that the store cannot be trusted.
func assertFailure(t *testing.T, err error, call string) {
	t.Helper()
	if assert.Error(t, err, call) {
		assert.NotErrorIs(t, err, ledger.ErrConflict, call)
		assert.NotErrorIs(t, err, ledger.ErrNotFound, call)
	}
}

// calls uses each method of a store that takes a context, and returns their errors.
func calls(ctx context.Context, s ledger.Store) map[string]error {
	_, get := s.Get(ctx, ledger.Key{Order: "order"})
	_, byImpUID := s.GetByImpUID(ctx, "", "imp_1")
	_, due := s.Due(ctx, ledger.Looks, 1000, 1)
	_, queue := s.Due(ctx, "q", 1000, 1)
	_, list := s.List(ctx, ledger.Key{}, 1)
	return map[string]error{
		"Get": get, "GetByImpUID": byImpUID, "Due": due, "Due of a queue": queue, "List": list,
		"Put":      s.Put(ctx, newRow("another", "imp_2"), 0, false),
		"lazy Put": s.Put(ctx, newRow("another", "imp_2"), 0, true),
	}
}

// each runs a function in n goroutines, and waits for all.
func each(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func testRace(h *harness) {
	const writers, versions = 8, 20
	row := newRow("order", "imp_1")
	h.put(row, 0)
	for version := row.Version; version < versions; version++ {
		won := make([]error, writers)
		each(writers, func(i int) {
			mine := next(row, func(r *ledger.Row) { r.Holder = fmt.Sprintf("writer %d of version %d", i, version) })
			won[i] = h.Put(h.Context(), mine, version, i%2 == 1 && version%8 == 0)
		})
		row = h.get(row.Key())
		assert.Equal(h, version+1, row.Version)
		for i, err := range won {
			if row.Holder == fmt.Sprintf("writer %d of version %d", i, version) {
				assert.NoError(h, err, "the winner")
			} else {
				assert.ErrorIs(h, err, ledger.ErrConflict)
			}
		}
	}
}

func testManyOrders(h *harness) {
	const writers, versions = 16, 5
	each(writers, func(i int) {
		row := newRow(fmt.Sprintf("order-%02d", i), fmt.Sprintf("imp_%d", i))
		for version := range uint64(versions) {
			row.Version = version + 1
			assert.NoError(h, h.Put(h.Context(), row, version, false))
			read, err := h.Get(h.Context(), row.Key())
			assert.NoError(h, err)
			assert.Equal(h, row, read, "a write can be read when it returns")
		}
	})
	assert.Len(h, h.list(), writers)
}

func testLazy(h *harness) {
	each(3, func(i int) {
		assert.NoError(h, h.Put(h.Context(), newRow(fmt.Sprintf("order-%d", i), "imp_1"), 0, i < 2))
	})
	assert.Equal(h, []string{"order-0", "order-1", "order-2"}, h.list())
	assert.NoError(h, h.Put(h.Context(), newRow("order-3", "imp_1"), 0, true), "a lazy write that nothing follows")
	h.get(ledger.Key{Order: "order-3"})
	assert.ErrorIs(h, h.Put(h.Context(), newRow("order-3", "imp_1"), 0, true), ledger.ErrConflict)
}

func testReopen(h *harness) {
	kept, lazy, gone := newRow("kept", "imp_1"), newRow("lazy", "imp_2"), newRow("gone", "imp_3")
	h.put(kept, 0)
	h.put(gone, 0)
	kept = next(kept, func(r *ledger.Row) { r.Due, r.Attempts[0].State = 2000, ledger.Paid })
	h.put(kept, 1)
	h.put(next(gone, func(r *ledger.Row) { r.Attempts = nil }), 1)
	require.NoError(h, h.Put(h.Context(), lazy, 0, true))
	require.NoError(h, h.Close())
	h.reopen()
	assert.Equal(h, kept, h.get(kept.Key()))
	assert.Equal(h, lazy, h.get(lazy.Key()))
	h.missing(gone.Key())
	h.found("", "imp_1", "kept")
	h.found("", "imp_3", "")
	assert.Equal(h, []string{"lazy", "kept"}, h.due(2000, 10))
	h.put(next(kept, func(*ledger.Row) {}), kept.Version)
}

func testContext(h *harness) {
	h.put(newRow("order", "imp_1"), 0)
	ctx, cancel := context.WithCancel(h.Context())
	cancel()
	for call, err := range calls(ctx, h.Store) {
		assert.ErrorIs(h, err, context.Canceled, call)
	}
	assert.Equal(h, newRow("order", "imp_1"), h.get(ledger.Key{Order: "order"}), "the store is still good")
}

func testClosed(h *harness) {
	h.put(newRow("order", "imp_1"), 0)
	require.NoError(h, h.Close())
	for call, err := range calls(h.Context(), h.Store) {
		assertFailure(h.T, err, call)
	}
	h.reopen()
	assert.Equal(h, []string{"order"}, h.list())
}

func testCloseUnderLoad(h *harness) {
	const writers = 16
	done := make([]int, writers) // the writes of each that returned no error
	busy := make(chan struct{}, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for {
				err := h.Put(h.Context(), newRow(fmt.Sprintf("order-%d-%d", i, done[i]), "imp_1"), 0, i%2 == 1)
				if err != nil {
					assert.False(h, errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrNotFound), err)
					return
				}
				done[i]++
				select {
				case busy <- struct{}{}:
				default:
				}
			}
		})
	}
	for range writers {
		<-busy
	}
	require.NoError(h, h.Close())
	all.Wait()
	h.reopen()
	for i, n := range done {
		for j := range n {
			h.get(ledger.Key{Order: fmt.Sprintf("order-%d-%d", i, j)})
		}
	}
}
