package ledger

// This file holds tests of what an operator is shown of the ledger as a whole.

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHealthSaysSinceWhenAndWhy(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		began := time.Now().UnixMilli()
		health := func() []any {
			h := w.l.Health()
			return []any{h.Down, h.Since.UnixMilli() - began, h.Err}
		}
		assert.Equal(t, []any{false, int64(0), nil}, health())
		errAgain := errors.New("again")
		opened := 0
		w.opens = func() (Store, error) {
			if opened++; opened < 3 {
				return nil, errAgain
			}
			return w.store, nil
		}
		time.Sleep(5 * time.Second)
		w.store.hook(broken)
		_, err := w.l.get(t.Context(), Key{"shop", "o"})
		require.ErrorIs(t, err, ErrDown)
		w.store.hook(nil)
		assert.Equal(t, []any{true, int64(5000), errBroken}, health())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, []any{true, int64(5000), errAgain}, health(), "the latest cause, and the first time")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []any{false, int64(12000), nil}, health())
	})
	fresh := New(Options{Open: func() (Store, error) { return nil, errBroken }})
	h := fresh.Health()
	assert.True(t, h.Down)
	require.NoError(t, h.Err)
	require.ErrorIs(t, fresh.Open(), errBroken)
	assert.ErrorIs(t, fresh.Health().Err, errBroken)
	require.NoError(t, fresh.Close())
}

func TestProbeDoesNotWaitForASlowStore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		probe := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			return w.l.Probe(ctx)
		}
		require.NoError(t, probe())
		require.NoError(t, w.l.Probe(t.Context()))
		w.store.hook(hang)
		began := time.Now()
		require.ErrorIs(t, probe(), ErrSlow)
		assert.Equal(t, 300*time.Millisecond, time.Since(began))
		assert.False(t, w.l.Down(), "that shows no failure")
		w.store.hook(broken)
		require.ErrorIs(t, probe(), ErrDown)
		assert.True(t, w.l.Down())
		assert.ErrorIs(t, probe(), ErrDown)
	})
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		backlog := func() (Backlog, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			defer cancel()
			return w.l.Backlog(ctx)
		}
		b, err := backlog()
		require.NoError(t, err)
		assert.Zero(t, b)
		since := w.now(-time.Hour)
		for i, order := range []string{"a", "b", "c"} {
			w.waits("shop", order, causeAmount)
			w.store.change(Key{"shop", order}, func(row *Row) {
				row.Telling = Telling{Since: since + int64(i), Next: w.now(time.Hour) - int64(i)}
				prepare(row, 1, w.l.env(w.acc))
			})
		}
		w.waits("shop", "waits", causeAmount)
		b, err = backlog()
		require.NoError(t, err)
		assert.Equal(t, Backlog{Pending: 3, Waiting: 1, Oldest: since}, b, "the oldest is not the one that is told first")

		accounts := map[string]*Account{}
		for i := range 10 {
			accounts[fmt.Sprint(i)] = w.acc
		}
		w.use(Settings{Accounts: accounts})
		w.store.hook(func(ctx context.Context, _ string, _ *Row) error {
			time.Sleep(100 * time.Millisecond)
			return ctx.Err()
		})
		began := time.Now()
		b, err = backlog()
		require.NoError(t, err)
		assert.True(t, b.Partial, "there was time for some of the accounts")
		assert.Equal(t, 500*time.Millisecond, time.Since(began))
		w.store.hook(hang)
		_, err = backlog()
		require.ErrorIs(t, err, ErrSlow)
		w.store.hook(broken)
		_, err = backlog()
		require.ErrorIs(t, err, ErrDown)
	})
	b := new(Backlog)
	b.add(make([]*Row, maxCounted), true)
	assert.Equal(t, Backlog{Waiting: maxCounted, Partial: true}, *b)
}
