package storetest

// This file holds the tests of the queues that rows stand in, and of the rows without an attempt.

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// queued returns the orders of the rows of a queue whose place is now or earlier.
func (h *harness) queued(queue ledger.Queue, now int64, limit int) []string {
	h.Helper()
	rows, err := h.Due(h.Context(), queue, now, limit)
	require.NoError(h, err)
	return orders(rows)
}

// queue returns a row that stands in a queue.
func queue(queue ledger.Queue, place int64, order string) *ledger.Row {
	row := newRow(order, "imp_"+order)
	row.Queue, row.QueueDue = queue, place
	return row
}

func testQueue(h *harness) {
	const now = 1_753_000_000_000
	places := []int64{math.MinInt64, -1, 0, 255, 256, now, now + 1, math.MaxInt64}
	all := make([]string, len(places))
	for i, place := range slices.Backward(places) {
		row := queue("q", place, fmt.Sprintf("order-%d", i))
		row.Due = int64(len(places) - i) // the other way around
		h.put(row, 0)
		all[i] = row.Order
	}
	alone := newRow("alone", "imp_1")
	alone.Due, alone.QueueDue = 100, 1 // without a queue, the place says nothing
	h.put(alone, 0)
	assert.Equal(h, all[:6], h.queued("q", now, 10))
	assert.Equal(h, all[:5], h.queued("q", now-1, 10))
	assert.Equal(h, all[:1], h.queued("q", math.MinInt64, 10))
	assert.Equal(h, all, h.queued("q", math.MaxInt64, 10))
	for limit := range len(all) {
		assert.ElementsMatch(h, all[:limit], h.queued("q", math.MaxInt64, limit))
	}
	slices.Reverse(all)
	looks := h.due(math.MaxInt64, 10)
	require.Len(h, looks, len(all)+1)
	assert.Equal(h, all, looks[:len(all)], "all rows stand in Looks, by Due")
	assert.Equal(h, "alone", looks[len(all)])
}

func testQueuesApart(h *harness) {
	names := []ledger.Queue{ledger.TellQueue(""), ledger.TellQueue("a"), ledger.PersonQueue(""), ledger.PersonQueue("a")}
	for _, key := range keys {
		names = append(names, ledger.Queue(key.Account+key.Order))
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for i, name := range names {
		for j, account := range []string{"\x00", "a", ""} {
			row := queue(name, int64(j/2), fmt.Sprintf("%d in %d", j, i)) // two have the same place
			row.Account = account
			h.put(row, 0)
		}
	}
	for i, name := range names {
		rows, err := h.Due(h.Context(), name, math.MaxInt64, 10)
		require.NoError(h, err)
		require.Len(h, rows, 3, "%q", name)
		assert.ElementsMatch(h, []string{fmt.Sprintf("0 in %d", i), fmt.Sprintf("1 in %d", i)}, orders(rows[:2]), "%q", name)
		assert.Equal(h, fmt.Sprintf("2 in %d", i), rows[2].Order, "%q", name)
	}
	for _, name := range []ledger.Queue{"b", "tell", "tell a\x00", "tell b", "\x00\x02", "aaaa", ledger.Queue("A" + strings.Repeat("a", 100))} {
		assert.Empty(h, h.queued(name, math.MaxInt64, 10), "%q", name)
	}
}

// Written one behind the other, queue, place and key of the two rows are the same bytes.
func testAlikeQueues(h *harness) {
	const (
		text  = "aaaaaaaa"
		place = math.MinInt64 + 0x6161616161616161 // text, if the sign bit is turned for the order
	)
	long, short := queue("q"+text, place, "order"), queue("q", place, "order")
	short.Account = text
	h.put(long, 0)
	h.put(short, 0)
	for _, row := range []*ledger.Row{long, short} {
		rows, err := h.Due(h.Context(), row.Queue, math.MaxInt64, 10)
		require.NoError(h, err)
		assert.Equal(h, []*ledger.Row{row}, rows)
	}
	h.put(next(short, func(r *ledger.Row) { r.Queue = "" }), 1)
	assert.Equal(h, []string{"order"}, h.queued(long.Queue, math.MaxInt64, 10))
	assert.Empty(h, h.queued(short.Queue, math.MaxInt64, 10))
}

func testQueueMoves(h *harness) {
	row := queue("q", 5, "moves")
	h.put(row, 0)
	h.put(queue("q", 10, "stays"), 0)
	change := func(change func(*ledger.Row)) {
		row = next(row, change)
		h.put(row, row.Version-1)
	}
	stand := func(q, other []string) {
		h.Helper()
		assert.Equal(h, q, h.queued("q", 100, 10))
		assert.Equal(h, other, h.queued("other", 100, 10))
		assert.ElementsMatch(h, []string{"moves", "stays"}, h.due(1000, 10), "it stays in Looks")
	}
	stand([]string{"moves", "stays"}, nil)
	change(func(r *ledger.Row) { r.QueueDue = 20 })
	stand([]string{"stays", "moves"}, nil)
	change(func(r *ledger.Row) { r.Tries++ })
	stand([]string{"stays", "moves"}, nil)
	change(func(r *ledger.Row) { r.QueueDue = 200 })
	stand([]string{"stays"}, nil)
	change(func(r *ledger.Row) { r.QueueDue, r.Due = 1, 900 })
	stand([]string{"moves", "stays"}, nil)
	change(func(r *ledger.Row) { r.Queue = "other" })
	stand([]string{"stays"}, []string{"moves"})
	assert.ErrorIs(h, h.Put(h.Context(), queue("q", 1, "moves"), 77, false), ledger.ErrConflict)
	stand([]string{"stays"}, []string{"moves"})
	change(func(r *ledger.Row) { r.Queue = "" })
	stand([]string{"stays"}, nil)
	change(func(r *ledger.Row) { r.Queue = "q" })
	stand([]string{"moves", "stays"}, nil)
	h.put(next(row, func(r *ledger.Row) { r.Attempts = nil }), row.Version)
	assert.Equal(h, []string{"stays"}, h.queued("q", 100, 10), "it is removed")
	h.put(queue("other", 3, "moves"), 0)
	stand([]string{"stays"}, []string{"moves"})
	require.NoError(h, h.Close())
	h.reopen()
	stand([]string{"stays"}, []string{"moves"})
}

func testQueueNewerFormat(h *harness) {
	newer := queue("q", 1, "newer")
	newer.Format = ledger.Format + 1
	h.put(newer, 0)
	h.put(queue("q", 2, "ours"), 0)
	assert.Equal(h, []string{"ours"}, h.queued("q", 10, 1), "a newer row takes nobody's place")
	assert.Equal(h, []string{"ours"}, h.queued("q", 10, 10))
	ours := queue("q", 2, "ours")
	h.put(next(ours, func(r *ledger.Row) { r.Format = ledger.Format + 1 }), 1)
	assert.Empty(h, h.queued("q", 10, 10), "another node, of a newer version, has written it")
}

// A row is kept as long as there is an attempt, a hint or a mark.
func testWithoutAttempt(h *harness) {
	for order, fill := range map[string]func(*ledger.Row){
		"hinted": func(r *ledger.Row) { r.Hints = []ledger.Hint{{ImpUID: "imp_1", Status: "paid", At: 1, Next: 2}} },
		"marked": func(r *ledger.Row) { r.Mark = &ledger.Mark{Born: 1, Paid: 2} },
		"":       func(r *ledger.Row) { r.Mark = &ledger.Mark{} }, // the row of an account has no order number
	} {
		for _, account := range []string{"", "둘째"} {
			row := queue("q", 7, order)
			row.Account, row.Attempts = account, nil
			fill(row)
			h.put(row, 0)
			assert.Equal(h, row.Mark, h.get(row.Key()).Mark)
			assert.Equal(h, row.Hints, h.get(row.Key()).Hints)
			for _, name := range []ledger.Queue{ledger.Looks, "q"} {
				rows, err := h.Due(h.Context(), name, 1000, 10)
				require.NoError(h, err)
				require.Len(h, rows, 1)
				assert.Equal(h, row.Key(), rows[0].Key())
			}
			row = next(row, func(r *ledger.Row) { r.Attempts = newRow("", "imp_2").Attempts })
			h.put(row, 1)
			found, err := h.GetByImpUID(h.Context(), account, "imp_2")
			require.NoError(h, err)
			assert.Equal(h, row, found)
			row = next(row, func(r *ledger.Row) { r.Attempts = nil })
			h.put(row, 2)
			h.found(account, "imp_2", "")
			h.get(row.Key())
			h.put(next(row, func(r *ledger.Row) { r.Hints, r.Mark = nil, nil }), 3)
			h.missing(row.Key())
			assert.Empty(h, h.due(1000, 10))
			assert.Empty(h, h.queued("q", 1000, 10))
		}
	}
}

func testHints(h *harness) {
	hint := func(r *ledger.Row) { r.Hints = append(r.Hints, ledger.Hint{ImpUID: "imp_9", At: 1, Next: 2}) }
	hinted := newRow("hinted")
	hint(hinted)
	h.put(hinted, 0)
	h.found("", "imp_9", "")
	issued := newRow("issued", "imp_1")
	hint(issued)
	h.put(issued, 0)
	h.found("", "imp_9", "")
	h.found("", "imp_1", "issued")
	h.put(newRow("another", "imp_9"), 0)
	h.found("", "imp_9", "another")
	h.put(next(issued, func(r *ledger.Row) { r.Hints = nil }), 1)
	h.found("", "imp_9", "another")
	h.found("", "imp_1", "issued")
}
