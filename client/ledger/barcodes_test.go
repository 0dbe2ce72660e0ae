package ledger

// This file holds tests of what an operator sees, and of what is retried.

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// waits stores a row that waits for a person.
func (w *world) waits(account, order, cause string) {
	a := w.issued("a", "imp_"+order)
	a.State, a.Status, a.PaidAt, a.Verified, a.Next = Paid, "paid", w.now(0)/1000, w.now(0), 0
	a.Happenings = []Happening{{Event: tell.Paid, Seen: w.now(0)}}
	row := &Row{Format: Format, Account: account, Order: order, Version: 1, Attempts: []Attempt{a}}
	row.Telling = Telling{Since: w.now(-time.Hour), Waiting: w.now(-time.Minute), Cause: cause, Tries: 9, Spent: 1 << 40}
	prepare(row, 1, w.l.env(w.acc))
	w.store.set(row)
}

func TestBarcodesByFilter(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		other := *w.acc
		other.Name = ""
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc, "": &other}})
		w.isIssued("issued")
		w.isPaid("paid")
		w.waits("shop", "waits", causeAmount)
		w.waits("", "waits", causeAmount)
		w.store.change(Key{"shop", "old"}, func(row *Row) {
			a := w.issued("a", "imp_old")
			a.State, a.Asked = Void, w.now(-time.Hour)
			row.Attempts = []Attempt{w.issued("b", "imp_older"), a}
		})
		w.store.change(Key{"shop", "hinted"}, func(row *Row) { row.Hints = []Hint{{ImpUID: "imp_9"}} })
		for _, c := range []struct {
			name   string
			filter Filter
			want   []string
		}{
			{"all", Filter{}, []string{"/waits", "shop/hinted", "shop/issued", "shop/old", "shop/paid", "shop/waits"}},
			{"an order", Filter{Order: "waits"}, []string{"/waits", "shop/waits"}},
			{"an order of a state", Filter{Order: "issued", State: Paid}, nil},
			{"an unknown order", Filter{Order: "x"}, nil},
			{"a state", Filter{State: Void}, []string{"shop/old"}},
			{"pending", Filter{Pending: true}, []string{"/waits", "shop/paid", "shop/waits"}},
			{"waiting", Filter{Waiting: true}, []string{"/waits", "shop/waits"}},
			{"since", Filter{Since: w.now(-time.Minute)}, []string{"/waits", "shop/issued", "shop/paid", "shop/waits"}},
			{"after", Filter{After: Key{"shop", "old"}}, []string{"shop/paid", "shop/waits"}},
			{"limit", Filter{Limit: 2}, []string{"/waits", "shop/hinted"}},
		} {
			rows, next, err := w.l.Barcodes(t.Context(), c.filter)
			require.NoError(t, err, c.name)
			var got []string
			for _, row := range rows {
				got = append(got, row.Account+"/"+row.Order)
			}
			assert.Equal(t, c.want, got, c.name)
			if c.filter.Limit == 0 {
				assert.Zero(t, next, c.name)
			} else {
				assert.Equal(t, Key{"shop", "hinted"}, next)
			}
		}
		person, pending, err := w.l.Waiting(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int{2, 1}, []int{person, pending})
	})
}

// A large ledger is read in parts.
func TestBarcodesOfALargeLedger(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		const rows = maxScanned + 100
		list := make([]*Row, rows)
		for i := range list {
			list[i] = &Row{Format: Format, Account: "shop", Order: fmt.Sprintf("%06d", i), Version: 1, Attempts: []Attempt{{State: Void}}}
		}
		list[rows-1].Attempts[0].State = Paid
		w.l.store = fixedStore{w.store, list}
		found, next, err := w.l.Barcodes(t.Context(), Filter{State: Paid, Limit: 10})
		require.NoError(t, err)
		assert.Empty(t, found)
		require.NotZero(t, next)
		found, next, err = w.l.Barcodes(t.Context(), Filter{State: Paid, Limit: 10, After: next})
		require.NoError(t, err)
		assert.Len(t, found, 1)
		assert.Zero(t, next)
	})
}

// What an operator looks for at night is a few orders among many.
func TestBarcodesThatWaitInALargeLedger(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		list := make([]*Row, maxScanned+100)
		for i := range list {
			list[i] = &Row{Format: Format, Account: "shop", Order: fmt.Sprintf("%06d", i), Version: 1, Attempts: []Attempt{{State: Void}}}
		}
		w.isPaid("z1")
		for _, order := range []string{"z2", "z4", "z3"} {
			w.waits("shop", order, causeAmount)
		}
		w.l.store = fixedStore{w.store, list}
		orders := func(f Filter) (list []string, next Key) {
			rows, next, err := w.l.Barcodes(t.Context(), f)
			require.NoError(t, err)
			for _, row := range rows {
				list = append(list, row.Order)
			}
			return list, next
		}
		found, next := orders(Filter{Waiting: true, Limit: 2})
		assert.Equal(t, []string{"z2", "z3"}, found)
		found, next = orders(Filter{Waiting: true, Limit: 2, After: next})
		assert.Equal(t, []string{"z4"}, found)
		assert.Zero(t, next)
		found, _ = orders(Filter{Pending: true, Limit: 100})
		assert.Equal(t, []string{"z1", "z2", "z3", "z4"}, found)

		for i := range maxQueued {
			w.isPaid(fmt.Sprint("y", i))
		}
		found, next = orders(Filter{Pending: true, Limit: 100})
		assert.Empty(t, found, "they are looked for in all rows")
		assert.NotZero(t, next)
		found, _ = orders(Filter{Waiting: true, Limit: 100})
		assert.Equal(t, []string{"z2", "z3", "z4"}, found)
	})
}

// fixedStore lists rows that are in order.
type fixedStore struct {
	*mapStore
	rows []*Row
}

func (s fixedStore) List(_ context.Context, after Key, limit int) ([]*Row, error) {
	first := 0
	if after != (Key{}) {
		_, _ = fmt.Sscanf(after.Order, "%d", &first)
		first++
	}
	return s.rows[first:min(first+limit, len(s.rows))], nil
}

func TestOperatorsCallsWhileTheStoreIsDown(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(w *world) error{
		"Barcodes":             func(w *world) error { _, _, err := w.l.Barcodes(context.Background(), Filter{}); return err },
		"Barcodes of an order": func(w *world) error { _, _, err := w.l.Barcodes(context.Background(), Filter{Order: "o"}); return err },
		"Waiting":              func(w *world) error { _, _, err := w.l.Waiting(context.Background()); return err },
		"Retry":                func(w *world) error { _, err := w.l.Retry(context.Background(), Key{"shop", "o"}, false); return err },
		"RetryAll":             func(w *world) error { _, err := w.l.RetryAll(context.Background()); return err },
	} {
		inIdleShop(t, func(w *world, _ *fakeShop) {
			w.waits("shop", "o", causeAmount)
			w.store.hook(broken)
			assert.ErrorIs(t, call(w), ErrDown, name)
		})
	}
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.waits("shop", "o", causeAmount)
		w.failsAt("put", 1)
		n, err := w.l.RetryAll(t.Context())
		assert.ErrorIs(t, err, ErrDown)
		assert.Zero(t, n)
	})
}

func TestRetryByRow(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.isPaid("pending")
		w.waits("shop", "waits", causeRetry)
		w.waits("gone", "waits", causeRetry)
		w.waits("shop", "newer", causeRetry)
		w.store.change(Key{"shop", "newer"}, func(row *Row) { row.Format++ })
		for _, c := range []struct {
			key  Key
			want bool
			err  error
		}{
			{Key{"shop", "unknown"}, false, nil},
			{Key{"shop", "pending"}, false, nil},
			{Key{"gone", "waits"}, false, nil},
			{Key{"shop", "newer"}, false, ErrBusy},
			{Key{"shop", "waits"}, true, nil},
			{Key{"shop", "waits"}, false, nil},
		} {
			waited, err := w.l.Retry(t.Context(), c.key, false)
			assert.ErrorIs(t, err, c.err, c.key)
			assert.Equal(t, c.want, waited, c.key)
		}
		row := w.store.get(Key{"shop", "waits"})
		assert.Equal(t, Telling{Since: w.now(-time.Hour)}, row.Telling)
		assert.Equal(t, TellQueue("shop"), row.Queue)
		assert.Zero(t, row.Attempts[0].Verified, "it is looked up again")
		assert.Nil(t, w.store.get(Key{"shop", "unknown"}))
		r := &Row{}
		assert.False(t, r.retry(true), "another one was first")
	})
}

func TestRetryAll(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		const orders = batch + 10
		for i := range orders {
			order := fmt.Sprint(i)
			w.seen("imp_"+order, client.StatusReady, paid, func(p *Seen) { p.Order = order })
			w.waits("shop", order, causeRetry)
		}
		w.waits("gone", "x", causeRetry)
		s.on(func(*tell.Message) *Reply { return &Reply{Verdict: Refused, Cause: "no"} })
		time.Sleep(time.Minute)
		assert.Empty(t, s.told())
		n, err := w.l.RetryAll(t.Context())
		require.NoError(t, err)
		assert.Equal(t, orders, n)
		n, err = w.l.RetryAll(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)
		time.Sleep(3 * time.Second)
		assert.GreaterOrEqual(t, len(s.told()), orders)
		s.on(nil)
		time.Sleep(10 * time.Second)
		assert.Len(t, s.told(), orders)
	})
}

// A payment of another amount is told as it is, once a person has accepted it.
func TestPaymentOfAnotherAmount(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid, func(p *Seen) { p.Amount = "14000" })
		w.notice("imp_1", "paid")
		assert.Empty(t, s.told())
		report := "an order waits for a person before the shop is told of it: " + causeAmount
		assert.Equal(t, []string{report}, w.reported())
		retry := func(accept bool) {
			waited, err := w.l.Retry(t.Context(), Key{"shop", "o"}, accept)
			require.NoError(t, err)
			require.True(t, waited)
		}
		retry(false)
		time.Sleep(time.Second)
		assert.Empty(t, s.told(), "it has still another amount")
		assert.Equal(t, PersonQueue("shop"), w.row().Queue)
		assert.Equal(t, []string{report, report + " imp_1"}, w.reported())
		retry(true)
		told := s.told()
		require.Len(t, told, 1)
		assert.Equal(t, "14000", told[0].Amount)
		w.api.change("imp_1", cancels("c1", w.now(0)/1000))
		w.notice("imp_1", "cancelled")
		time.Sleep(5 * time.Second)
		assert.Equal(t, []string{"imp_1 cancelled c1"}, s.events(), "it was accepted")
		assert.Len(t, w.reported(), 2)
	})
}
