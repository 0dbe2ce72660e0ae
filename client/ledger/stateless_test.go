package ledger

// This file holds the tests of what is done without the store.

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A call without an answer may still be at work when a list shows nothing of it.
func TestWithoutTheStoreNothingIsIssuedWhileAnOutcomeIsOpen(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(broken)
		w.api.fails("POST", fault{err: errSilent})
		_, err := w.issue()
		require.ErrorIs(t, err, errSilent)
		w.book.read()
		_, err = w.issue()
		require.ErrorIs(t, err, ErrBusy)
		assert.NotContains(t, w.book.read(), "POST")
		w.clock.setBy(0, freshness+timeout-time.Second)
		_, err = w.issue()
		require.ErrorIs(t, err, ErrBusy)
		w.clock.setBy(0, time.Second)
		_, err = w.issue()
		require.NoError(t, err)
		assert.Len(t, w.api.payments, 1)
	})
}

// What the API has done in spite of the lost answer is found.
func TestWithoutTheStoreALostAnswerIsFound(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.store.hook(broken)
		w.api.fails("POST", fault{err: errSilent, work: true})
		_, err := w.issue()
		require.ErrorIs(t, err, errSilent)
		answer, err := w.issue()
		require.NoError(t, err)
		assert.True(t, answer.Reused)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		assert.Len(t, w.api.payments, 1)
	})
}
