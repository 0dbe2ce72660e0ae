package storetest

// This file holds the tests of single rows and of the orders in which rows are returned.

import (
	"math"
	"reflect"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// fullRow returns a row with a value in every field.
func fullRow() *ledger.Row {
	return &ledger.Row{
		Format: ledger.Format, Account: "둘째", Order: "주문-1\x00\U0001F3EA", Version: math.MaxInt64, Due: 1_753_000_000_000,
		Holder: "node-1", HeldUntil: 1_753_000_010_000, AtTill: 1_752_999_999_999, Tries: 3,
		Attempts: []ledger.Attempt{
			{
				ID: "a1", State: ledger.Void, Voiding: true, Closed: true, ImpUID: "imp_1", Amount: "15000", Own: "digest", PG: "nice.x", ChannelKey: "channel-key-1", Deadline: 1_753_000_000, Fields: []string{"amount", "이름"},
				Began: 1, Asked: 1, Since: 2, Looks: 3, Next: 4, Verified: 5, Status: "paid", PaidAt: 6, CancelAmount: "0.5",
				Happenings: []ledger.Happening{{Event: "cancelled", Cancellation: "취소", Seen: 7, Done: 8}},
				Late:       true, Overdue: true, Accepted: true, Unknown: jsontext.Value(`{"later":true}`),
			},
			{ID: "a2", State: "settled", Amount: "1e300", Asked: math.MinInt64, Since: math.MaxInt64},
		},
		Hints:   []ledger.Hint{{ImpUID: "imp_2", Status: "paid", Cancellation: "c", ID: "a1", Amount: "15000", Expires: 1, At: 2, Looks: 3, Looked: 4, Next: 5}},
		Telling: ledger.Telling{Until: 1, Next: 2, Since: 3, Tries: 4, Looks: 7, Spent: 5, Cause: "원인", Waiting: 6},
		Queue:   "tell 둘째\x00", QueueDue: 1_753_000_000_001,
		Mark:    &ledger.Mark{Since: 4, Born: 1, Paid: 2, Cancelled: 3},
		Past:    ledger.Past{Since: 3, Born: 2},
		Unknown: jsontext.Value(`{"told":{"paid":3}}`),
	}
}

// assertFull asserts that fullRow has what it promises: a field that it lacks is tested by nothing.
func (h *harness) assertFull(v reflect.Value) {
	if v.Kind() == reflect.Slice {
		v = v.Index(0)
	}
	if v = reflect.Indirect(v); v.Kind() != reflect.Struct {
		return
	}
	for field, value := range v.Fields() {
		if assert.False(h, value.IsZero(), "%s of %s", field.Name, v.Type()) {
			h.assertFull(value)
		}
	}
}

func testRoundTrip(h *harness) {
	row := fullRow()
	h.assertFull(reflect.ValueOf(row))
	h.missing(row.Key())
	h.put(row, 0)
	assert.Equal(h, row, h.get(row.Key()))
	byImpUID, err := h.GetByImpUID(h.Context(), row.Account, "imp_1")
	require.NoError(h, err)
	assert.Equal(h, row, byImpUID)
	due, err := h.Due(h.Context(), ledger.Looks, row.Due, 1)
	require.NoError(h, err)
	assert.Equal(h, []*ledger.Row{row}, due)
	queued, err := h.Due(h.Context(), row.Queue, row.QueueDue, 1)
	require.NoError(h, err)
	assert.Equal(h, []*ledger.Row{row}, queued)
	list, err := h.List(h.Context(), ledger.Key{}, 1)
	require.NoError(h, err)
	assert.Equal(h, []*ledger.Row{row}, list)
}

func testCopies(h *harness) {
	spoil := func(row *ledger.Row) {
		row.Holder, row.Due, row.Attempts[0].ImpUID, row.Attempts[0].Fields[0], row.Unknown[2] = "spoiled", 1, "spoiled", "spoiled", 'X'
		row.Attempts[0].Happenings[0].Event, row.Hints[0].ImpUID, row.Mark.Paid = "spoiled", "spoiled", 0
	}
	row := fullRow()
	h.put(row, 0)
	spoil(row)
	reads := []func() ([]*ledger.Row, error){
		func() ([]*ledger.Row, error) {
			row, err := h.Get(h.Context(), fullRow().Key())
			return []*ledger.Row{row}, err
		},
		func() ([]*ledger.Row, error) {
			row, err := h.GetByImpUID(h.Context(), fullRow().Account, "imp_1")
			return []*ledger.Row{row}, err
		},
		func() ([]*ledger.Row, error) { return h.Due(h.Context(), ledger.Looks, fullRow().Due, 10) },
		func() ([]*ledger.Row, error) { return h.Due(h.Context(), fullRow().Queue, fullRow().QueueDue, 10) },
		func() ([]*ledger.Row, error) { return h.List(h.Context(), ledger.Key{}, 10) },
	}
	for range 2 {
		for _, read := range reads {
			rows, err := read()
			require.NoError(h, err)
			require.Equal(h, []*ledger.Row{fullRow()}, rows)
			spoil(rows[0])
		}
	}
}

func testVersions(h *harness) {
	put := func(version, was uint64) error {
		row := newRow("order", "imp_1")
		row.Version = version
		return h.Put(h.Context(), row, was, false)
	}
	assert.ErrorIs(h, put(2, 1), ledger.ErrConflict, "no row, but a version")
	h.missing(ledger.Key{Order: "order"})
	h.missing(ledger.Key{}) // Ledger.Probe reads it
	assert.NoError(h, put(1, 0))
	for _, was := range []uint64{0, 2, math.MaxInt64} {
		assert.ErrorIs(h, put(3, was), ledger.ErrConflict, "the version is 1, not %d", was)
	}
	assert.Equal(h, uint64(1), h.get(ledger.Key{Order: "order"}).Version)
	assert.NoError(h, put(math.MaxInt64, 1), "a version need not be the next one")
	assert.ErrorIs(h, put(2, 1), ledger.ErrConflict)
	assertFailure(h.T, put(math.MaxInt64, math.MaxInt64), "a version that is the old one")
	assert.NoError(h, put(2, math.MaxInt64))
}

func testRemoval(h *harness) {
	row := newRow("order", "imp_1", "imp_2")
	h.put(row, 0)
	empty := next(row, func(r *ledger.Row) { r.Attempts = nil })
	assert.ErrorIs(h, h.Put(h.Context(), empty, 5, false), ledger.ErrConflict)
	h.found("", "imp_2", "order")
	h.put(empty, 1)
	h.missing(row.Key())
	h.found("", "imp_1", "")
	h.found("", "imp_2", "")
	assert.Empty(h, h.due(math.MaxInt64, 10))
	assert.Empty(h, h.list())
	h.put(empty, 0)
	h.missing(row.Key())
	empty.Attempts = []ledger.Attempt{}
	h.put(row, 0)
	h.put(empty, 1)
	h.missing(row.Key())
	row.Version = 3
	assert.ErrorIs(h, h.Put(h.Context(), row, 2, false), ledger.ErrConflict, "there is no row any more")
	h.put(row, 0)
	h.found("", "imp_1", "order")
}

func testNewerFormat(h *harness) {
	newer := newRow("newer", "imp_1")
	newer.Format, newer.Due, newer.Unknown = ledger.Format+1, 1, jsontext.Value(`{"new":1}`)
	h.put(newer, 0)
	ours := newRow("ours", "imp_2")
	h.put(ours, 0)
	for _, change := range []func(*ledger.Row){
		func(*ledger.Row) {},
		func(r *ledger.Row) { r.Format = ledger.Format },
		func(r *ledger.Row) { r.Attempts = nil },
	} {
		assert.ErrorIs(h, h.Put(h.Context(), next(newer, change), newer.Version, false), ledger.ErrConflict)
	}
	assert.Equal(h, []string{"ours"}, h.due(1000, 1), "a newer row takes nobody's place")
	assert.Equal(h, []string{"ours"}, h.due(1000, 10))
	assert.Equal(h, newer, h.get(newer.Key()))
	h.found("", "imp_1", "newer")
	assert.Equal(h, []string{"newer", "ours"}, h.list())
}

func testImpUID(h *harness) {
	row := newRow("order", "", "")
	h.put(row, 0)
	h.found("", "", "")
	row = next(row, func(r *ledger.Row) { r.Attempts[1].ImpUID = "imp_2" })
	h.put(row, 1)
	h.found("", "imp_2", "order")
	row = next(row, func(r *ledger.Row) { r.Attempts[0].ImpUID = "imp_1" })
	h.put(row, 2)
	h.found("", "imp_1", "order")
	h.found("", "imp_2", "order")
	row = next(row, func(r *ledger.Row) { r.Attempts[1].ImpUID = "imp_3" })
	h.put(row, 3)
	h.found("", "imp_2", "")
	h.found("", "imp_3", "order")
	row = next(row, func(r *ledger.Row) { r.Attempts = r.Attempts[1:] })
	h.put(row, 4)
	h.found("", "imp_1", "")
	h.found("", "imp_3", "order")
	assert.ErrorIs(h, h.Put(h.Context(), newRow("order", "imp_9"), 0, false), ledger.ErrConflict)
	h.found("", "imp_9", "")
	h.found("", "imp", "")
	h.found("", "imp_33", "")
	h.put(newRow("another", "imp_1"), 0)
	h.found("", "imp_1", "another")
}

func testImpUIDOfAccount(h *harness) {
	for _, account := range []string{"", "a", "ab"} {
		row := newRow("order-of-"+account, "imp_1", "b", "ab")
		row.Account = account
		h.put(row, 0)
	}
	for _, account := range []string{"", "a", "ab"} {
		h.found(account, "imp_1", "order-of-"+account)
		h.found(account, "b", "order-of-"+account)
		h.found(account, "ab", "order-of-"+account)
		h.found(account, "bb", "")
		h.found(account, "aab", "")
	}
	h.found("b", "imp_1", "")
	h.found("A", "imp_1", "")
}

func testDue(h *harness) {
	assert.Empty(h, h.due(math.MaxInt64, 10))
	for order, due := range map[string]int64{"1": 1, "255": 255, "256": 256, "now": 1_753_000_000_000, "later": 1_753_000_000_001, "never": math.MaxInt64, "before": -5} {
		row := newRow(order, "imp_"+order)
		row.Due = due
		h.put(row, 0)
	}
	const now = 1_753_000_000_000
	all := []string{"before", "1", "255", "256", "now", "later", "never"}
	assert.Equal(h, all[:5], h.due(now, 10))
	assert.Equal(h, all[:4], h.due(now-1, 10))
	assert.Equal(h, all[:6], h.due(now+1, 10))
	assert.Equal(h, all, h.due(math.MaxInt64, 10))
	for limit := range 6 {
		assert.ElementsMatch(h, all[:limit], h.due(now+1, limit))
	}
	assert.Equal(h, all[:1], h.due(0, 10))
}

func testDueMoves(h *harness) {
	row := newRow("moves", "imp_1")
	h.put(row, 0)
	same := newRow("same", "imp_2")
	same.Account = "a"
	h.put(same, 0)
	assert.ElementsMatch(h, []string{"moves", "same"}, h.due(1000, 10), "the same moment")
	later := next(row, func(r *ledger.Row) { r.Due = 2000 })
	h.put(later, 1)
	assert.Equal(h, []string{"same"}, h.due(1999, 10))
	assert.Equal(h, []string{"same", "moves"}, h.due(2000, 10))
	assert.ErrorIs(h, h.Put(h.Context(), row, 5, false), ledger.ErrConflict)
	assert.Equal(h, []string{"same", "moves"}, h.due(2000, 10))
	h.put(next(later, func(r *ledger.Row) { r.Due = 500 }), 2)
	assert.Equal(h, []string{"moves", "same"}, h.due(2000, 10))
}

// keys are keys in their order. Some are alike to a database that folds letters or spaces, that
// compares UTF-16, or that ends a text at a NUL.
var keys = []ledger.Key{
	{Account: "", Order: "\x00"},
	{Account: "", Order: "\x00\x00"},
	{Account: "", Order: "\x01"},
	{Account: "", Order: "A"},
	{Account: "", Order: "B"},
	{Account: "", Order: "a"},
	{Account: "", Order: "a\x00"},
	{Account: "", Order: "a\x00\x00"},
	{Account: "", Order: "a\x00\x01"},
	{Account: "", Order: "a\x00b"},
	{Account: "", Order: "a\x01"},
	{Account: "", Order: "a "},
	{Account: "", Order: "a%"},
	{Account: "", Order: "a_"},
	{Account: "", Order: "aa"},
	{Account: "", Order: "e\u0301"},
	{Account: "", Order: "\u007f"},
	{Account: "", Order: "\u0080"},
	{Account: "", Order: "\u00e9"},
	{Account: "", Order: "\u1109\u1165"}, // 서 in two parts
	{Account: "", Order: "서"},
	{Account: "", Order: "주문-1"},
	{Account: "", Order: "주문-10"},
	{Account: "", Order: "주문-2"},
	{Account: "", Order: "\uffff"},
	{Account: "", Order: "\U00010000"},
	{Account: "\x00", Order: "a"},
	{Account: "\x00\x01", Order: "a"},
	{Account: "A", Order: "a"},
	{Account: "a", Order: "a"},
	{Account: "a", Order: "b"},
	{Account: "a", Order: "\U00010000"},
	{Account: "a\x00", Order: "a"},
	{Account: "a\x00\x01a", Order: "a"},
	{Account: "a\x01", Order: "a"},
	{Account: "aa", Order: "\x00"},
	{Account: "aa", Order: "a"},
	{Account: "둘째", Order: "a"},
}

// putKeys writes a row for each key, the last first.
func (h *harness) putKeys() {
	for i, key := range slices.Backward(keys) {
		row := newRow(key.Order, "imp_1")
		row.Account, row.Due = key.Account, int64(i+1)
		h.put(row, 0)
	}
}

func testList(h *harness) {
	require.True(h, slices.IsSortedFunc(keys, compare))
	h.putKeys()
	for _, limit := range []int{1, 2, 3, len(keys) - 1, len(keys), len(keys) + 1} {
		var listed []ledger.Key
		for after := (ledger.Key{}); ; after = listed[len(listed)-1] {
			page, err := h.List(h.Context(), after, limit)
			require.NoError(h, err)
			require.LessOrEqual(h, len(page), limit)
			if len(page) == 0 {
				break
			}
			for _, row := range page {
				listed = append(listed, row.Key())
			}
		}
		assert.Equal(h, keys, listed, "in pages of %d", limit)
	}
	for after, want := range map[ledger.Key]ledger.Key{
		{Account: "", Order: "aaa"}:                 {Account: "", Order: "e\u0301"},
		{Account: "a", Order: ""}:                   {Account: "a", Order: "a"},
		{Account: "a", Order: "a\x00"}:              {Account: "a", Order: "b"},
		{Account: "Z", Order: "\U0010ffff"}:         {Account: "a", Order: "a"},
		{Account: "a\x00\x01", Order: "\U0010ffff"}: {Account: "a\x00\x01a", Order: "a"},
	} {
		page, err := h.List(h.Context(), after, 1)
		require.NoError(h, err)
		require.Len(h, page, 1)
		assert.Equal(h, want, page[0].Key(), "behind %q, which is no row", after)
	}
}

func testAlikeKeys(h *harness) {
	h.putKeys()
	for i, key := range keys {
		row := h.get(key)
		assert.Equal(h, key, row.Key())
		assert.Equal(h, int64(i+1), row.Due, "%q", key)
	}
	for _, key := range []ledger.Key{{}, {Order: "b"}, {Account: "a"}, {Account: "a", Order: "a "}, {Account: "b", Order: "a"}, {Account: "\x01a"}} {
		h.missing(key)
	}
	want := make([]string, 0, len(keys))
	for _, key := range keys {
		want = append(want, key.Order)
	}
	assert.Equal(h, want, h.due(int64(len(keys)), 100))
}
