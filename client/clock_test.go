package client

// This file holds tests of the API's clock, and of a machine that sleeps.

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOffsetIgnoredAfterClockWasSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wall, monotonic time.Duration
		want            bool
	}{
		{time.Hour, time.Hour, false},
		{time.Hour + time.Second, time.Hour, false},
		{2 * time.Hour, time.Hour, true}, // set forward, or slept
		{0, time.Hour, true},             // set back
	} {
		assert.Equal(t, c.want, clockWasSet(c.wall, c.monotonic), "%v %v", c.wall, c.monotonic)
	}
	s := NewState()
	s.clock.set(time.Now().Add(time.Hour).Unix(), time.Now())
	assert.WithinDuration(t, time.Now().Add(time.Hour), s.Now(), 3*time.Second)
}

// asleep returns the time after the machine slept for d. The wall clock goes on during a
// sleep, and the monotonic clock does not. A time.Time holds the latter in its second
// word.
func asleep(t time.Time, d time.Duration) time.Time {
	t = t.Add(d)
	*(*int64)(unsafe.Add(unsafe.Pointer(&t), 8)) -= int64(d)
	return t
}

// A token that expired while the machine slept must not be sent, although it is still
// valid by the monotonic clock.
func TestTokenExpiresWhileMachineSleeps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	token, err := newAccessToken("t", 1000, 2800, now)
	require.NoError(t, err)
	assert.True(t, token.valid(now))
	assert.False(t, token.valid(now.Add(time.Hour)))
	woken := asleep(now, time.Hour)
	require.Equal(t, time.Hour, woken.Round(0).Sub(now.Round(0)))
	require.Zero(t, woken.Sub(now), "the monotonic clock stood still")
	assert.False(t, token.valid(woken))
	assert.True(t, token.valid(asleep(now, time.Minute)))
}

// An attempt's moment comes from a store, without a monotonic time.
func TestEarliestStartAfterClockWasSet(t *testing.T) {
	t.Parallel()
	s := NewState()
	now := time.Now()
	local := time.UnixMilli(now.Add(-time.Minute).UnixMilli())
	assert.Zero(t, s.earliestStart(local, now), "nothing is known of the API's clock")
	s.clock.set(now.Add(time.Hour).Unix(), now)
	assert.InDelta(t, local.Add(time.Hour).Unix(), s.EarliestStart(local), 5)
	assert.LessOrEqual(t, s.EarliestStart(local), local.Add(time.Hour-2*time.Second).Unix(), "never too late")
	woken := asleep(now, time.Hour)
	local = time.UnixMilli(woken.Add(-time.Minute).UnixMilli())
	assert.Zero(t, s.earliestStart(local, woken), "the offset is not true any more")
}
