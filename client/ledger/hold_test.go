package ledger

// This file holds tests of the hold of an order.

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHoldKeepsOthersAway(t *testing.T) {
	t.Parallel()
	now := moment{wall: noon}
	mine := hold{id: "mine", length: longest(timeout)}
	assert.Equal(t, 23*time.Second, mine.length)
	r := row(one)
	assert.Zero(t, mine.heldByAnother(r, now), "nobody's")
	mine.take(r, now)
	assert.Zero(t, mine.heldByAnother(r, now), "its own")
	end := noon + 23_000
	other := hold{id: "other", length: longest(timeout)}
	assert.Equal(t, end, other.heldByAnother(r, now))
	assert.Equal(t, end, other.heldByAnother(r, moment{wall: end - 1}))
	assert.Zero(t, other.heldByAnother(r, moment{wall: end}), "it has ended")
	assert.Equal(t, end, other.heldByAnother(r, moment{wall: noon - 1}), "by the clock of a node that is a moment behind")
	assert.Equal(t, end, other.heldByAnother(r, moment{wall: noon - 60_000}))
	assert.Zero(t, other.heldByAnother(r, moment{wall: noon - 60_001}), "written before the clock was set back")
	shorter := hold{id: "other", length: longest(time.Second)}
	assert.Equal(t, end, shorter.heldByAnother(r, now), "by a configuration with a shorter time-out")

	other.free(r)
	assert.Equal(t, "mine", r.Holder, "only the holder frees it")
	mine.free(r)
	assert.Empty(t, r.Holder)
	assert.Zero(t, r.HeldUntil)
}

func TestHoldIsFreshForTwoSecondsByEveryClock(t *testing.T) {
	t.Parallel()
	written := moment{wall: noon, machine: noon - 600_000, monotonic: time.Hour}
	for _, c := range []struct {
		wall, machine, monotonic time.Duration // since it was written
		want                     bool
	}{
		{0, 0, 0, true},
		{2 * time.Second, 2 * time.Second, 2 * time.Second, true},
		{2*time.Second + time.Millisecond, time.Second, time.Second, false},
		{time.Second, 2*time.Second + time.Millisecond, time.Second, false},
		{time.Second, time.Second, 2*time.Second + 1, false}, // the wall clock was set back a little
		{0, 3 * time.Second, 0, false},                       // the machine slept, and the store's clock did not see it
		{3 * time.Second, 0, 0, false},                       // the store's clock was set
		{-3 * time.Second, -3 * time.Second, 0, false},       // the wall clock was set back
		{0, 0, 3 * time.Second, false},
	} {
		now := moment{wall: written.wall + c.wall.Milliseconds(), machine: written.machine + c.machine.Milliseconds(), monotonic: time.Hour + c.monotonic}
		assert.Equal(t, c.want, now.within(freshness, written), "%+v", c)
	}
	assert.False(t, written.within(freshness, moment{}), "never written")
}

// A webhook that comes twice makes one mark: a mark is a write.
func TestAMarkIsNotMadeAgainAtOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		key := Key{"shop", "o"}
		standing := func() Standing {
			s, err := w.l.Standing(t.Context(), key, "a", "imp_1")
			require.NoError(t, err)
			return s
		}
		w.l.MarkAtTill(t.Context(), key)
		assert.Nil(t, w.row(), "nothing is known of the order")
		w.put(w.issued("a", "imp_1"))
		assert.Equal(t, Current, standing())
		w.l.MarkAtTill(t.Context(), key)
		assert.Equal(t, w.now(0), w.row().AtTill)
		assert.Equal(t, Marked, standing())
		w.clock.setBy(markAgain-time.Second, 0)
		assert.Equal(t, Marked, standing())
		w.clock.setBy(time.Second, 0)
		assert.Equal(t, Current, standing())
	})
}
