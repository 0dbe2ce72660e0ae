package ledger

// This file holds tests of the worker's budget.

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// fill stores rows of an account that are due now.
func (w *world) fill(account string, n int) {
	for i := range n {
		order := fmt.Sprintf("%s%04d", account, i)
		w.seen("imp_"+order, client.StatusReady, func(p *Seen) { p.Order = order })
		w.store.set(&Row{Format: Format, Account: account, Order: order, Version: 1, Due: 1, Attempts: []Attempt{due(w.issued("a", "imp_"+order))}})
	}
}

func TestWorkerMakesFiftyCallsASecond(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.fill("shop", 400)
		w.l.Work()
		time.Sleep(100 * time.Millisecond)
		calls := w.lines("GET")
		assert.InDelta(t, 55, calls, atOnce+1, "at once")
		for range 5 {
			time.Sleep(time.Second)
			n := w.lines("GET")
			assert.LessOrEqual(t, n, 50+atOnce)
			calls += n
		}
		assert.InDelta(t, 300, calls, 30)
		time.Sleep(10 * time.Second)
		assert.Equal(t, 400, calls+w.lines("GET"))
		_, err := w.issue()
		require.NoError(t, err, "the app's own calls are not counted")
	})
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		ctx, counted := t.Context(), w.l.inBackground(w.acc)
		assert.NotSame(t, w.acc, counted)
		b := w.l.budget("shop")
		assert.Same(t, b, w.l.budget("shop"))
		assert.NotSame(t, b, w.l.budget("other"))
		require.True(t, b.ready())
		for i, call := range []func(){
			func() { _, _ = counted.API.Payment(ctx, "imp_1") },
			func() { _, _ = counted.API.Payments(ctx, "o") },
			func() { _, _, _ = counted.API.Page(ctx, client.StatusPaid, 0, 1, 1) },
			func() { _, _ = counted.API.Void(ctx, "imp_1", nil) },
		} {
			call()
			assert.InDelta(t, 50-i-1, b.left, 0)
		}
		for range 46 {
			b.spend(nil)
		}
		assert.False(t, b.ready())
		time.Sleep(19 * time.Millisecond)
		assert.False(t, b.ready())
		time.Sleep(time.Millisecond)
		assert.True(t, b.ready())
		time.Sleep(time.Hour)
		assert.True(t, b.ready())
		assert.InDelta(t, 50, b.left, 0, "not more for a long silence")
	})
}

func TestPauseThatTheAPIAsksFor(t *testing.T) {
	t.Parallel()
	refusal := func(after string) error { return &client.APIError{Status: 429, RetryAfter: after} }
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{nil, 0},
		{errMissing, 0},
		{errRefused, 0},
		{refusal("30"), 30 * time.Second},
		{fmt.Errorf("looking up: %w", refusal("30")), 30 * time.Second},
		{refusal("0"), 0},
		{refusal("-5"), 0},
		{refusal("Wed, 21 Oct 2026 07:28:00 GMT"), 0},
		{refusal("86400"), 10 * time.Minute},
		{refusal("99999999999999999999"), 0},
		{&client.NotAPIError{RetryAfter: "7"}, 7 * time.Second},
		{&client.UnavailableError{RetryAfter: 9 * time.Second}, 9 * time.Second},
		{&client.UnavailableError{RetryAfter: time.Hour}, 10 * time.Minute},
		{errSilent, 2 * time.Second},
		{fmt.Errorf("%w: canary", client.ErrUnreachable), 2 * time.Second},
		{fmt.Errorf("%w: canary", client.ErrNoToken), 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := New(Options{})
			b := l.budget("shop")
			b.spend(c.err)
			b.spend(nil)
			if c.want != 0 {
				assert.False(t, b.ready(), c.err)
				time.Sleep(c.want - time.Millisecond)
				assert.False(t, b.ready(), c.err)
				time.Sleep(time.Millisecond)
			}
			assert.True(t, b.ready(), c.err)
		})
	}
}

func TestWorkerKeepsRetryAfter(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.fill("shop", 20)
		w.api.on(func(string) fault { return fault{err: &client.APIError{Status: 429, Code: -1, RetryAfter: "60"}} })
		time.Sleep(2 * time.Second)
		assert.LessOrEqual(t, w.lines("GET"), atOnce)
		w.isPaid("verified")
		w.isPaid("stale", stale)
		time.Sleep(55 * time.Second)
		assert.Zero(t, w.lines("GET"))
		assert.Equal(t, []string{"imp_verified paid"}, s.events(), "what needs no look-up is told")
		w.api.on(nil)
		time.Sleep(10 * time.Second)
		assert.Equal(t, 21, w.lines("GET"))
		assert.Equal(t, []string{"imp_stale paid"}, s.events())
	})
}

// Rows of another account are worked on, although the first ones are of one without budget.
func TestRowsBehindThoseWithoutBudget(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		other := *w.acc
		other.Name = "z"
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc, "z": &other}})
		w.fill("shop", 300)
		w.fill("z", 10)
		w.l.budget("shop").spend(&client.APIError{Status: 429, RetryAfter: "600"})
		w.l.Work()
		time.Sleep(10 * time.Second)
		assert.Equal(t, 10, w.lines("GET imp_z"))
		assert.Zero(t, w.lines("GET imp_shop"))
	})
}
