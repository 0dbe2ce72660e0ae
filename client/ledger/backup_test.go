package ledger

// This file holds tests of reading the store of a ledger as a whole.

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// waits reads until its context ends.
func waits(ctx context.Context, _ Store) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestBackupReadsThePresentStore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		err := w.l.Backup(context.Background(), func(_ context.Context, s Store) error {
			assert.Same(t, w.l.current(), s)
			assert.ErrorIs(t, w.l.Backup(context.Background(), waits), ErrCopying)
			return errBroken
		})
		require.ErrorIs(t, err, errBroken)
		assert.False(t, w.l.Down(), "its error is no failure of the store")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, w.l.Backup(ctx, waits), context.Canceled, "and another one may follow")
	})
}

// A failure and Close do not wait until the backup ends by itself.
func TestBackupEndsWithTheStore(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world){
		"failure": func(w *world) { w.l.fail(w.l.current(), errBroken) },
		"close":   func(w *world) { assert.NoError(t, w.l.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				done := make(chan error, 1)
				go func() { done <- w.l.Backup(context.Background(), waits) }()
				synctest.Wait()
				end(w)
				synctest.Wait()
				require.ErrorIs(t, <-done, context.Canceled)
				if name == "close" {
					assert.ErrorIs(t, w.l.Backup(context.Background(), waits), ErrDown)
				}
			})
		})
	}
	fresh := New(Options{Open: func() (Store, error) { return nil, errBroken }})
	assert.ErrorIs(t, fresh.Backup(context.Background(), waits), ErrDown)
	assert.NoError(t, fresh.Close())
}
