package ledger

// This file holds tests of how rows are corrected after a clock was set.

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the shop is to hear is told soon, although the clock was wrong when the row was written.
func TestReviewCorrectsWhatIsToBeTold(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		time.Sleep(10 * time.Second)
		w.clock.setBy(10*daily, 0)
		w.isPaid("o", func(row *Row) { row.Telling.Next = w.now(time.Minute) })
		w.clock.setBy(-10*daily, 0)
		time.Sleep(2 * time.Minute)
		assert.Empty(t, s.told(), "a refusal may be that long ago")
		time.Sleep(75 * time.Minute)
		assert.Equal(t, []string{"imp_o paid"}, s.events())
	})
}

// The place in the queue is corrected also if the next look is in time.
func TestReviewCorrectsThePlaceInTheQueue(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, s *fakeShop) {
		w.isPaid("o")
		w.store.change(Key{"shop", "o"}, func(row *Row) {
			row.Due, row.Telling.Since, row.QueueDue = w.now(time.Hour), w.now(daily), w.now(daily)
		})
		w.l.tellAll(t.Context())
		assert.Empty(t, s.told())
		require.True(t, w.l.review(t.Context()))
		assert.Equal(t, w.now(0), w.row().QueueDue)
		w.l.tellAll(t.Context())
		assert.Equal(t, []string{"imp_o paid"}, s.events())
	})
}

// The account's row is corrected, too: else its lists would not be read.
func TestReviewCorrectsTheMark(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, _ *fakeShop) {
		w.clock.setBy(10*daily, 0)
		time.Sleep(2 * time.Second) // the lists are read
		w.clock.setBy(-10*daily, 0)
		w.book.read()
		time.Sleep(6 * time.Minute)
		assert.NotZero(t, w.lines("PAGE"))
	})
}

// A review that the store ends is done again.
func TestReviewIsDoneAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		time.Sleep(10 * time.Second)
		w.clock.setBy(10*daily, 0)
		w.isPaid("o", func(row *Row) { row.Telling.Next = w.now(time.Minute) })
		w.failsAt("list", 1)
		w.clock.setBy(-10*daily, 0)
		time.Sleep(2 * time.Second)
		w.store.hook(nil)
		time.Sleep(80 * time.Minute)
		assert.Equal(t, []string{"imp_o paid"}, s.events())
	})
}
