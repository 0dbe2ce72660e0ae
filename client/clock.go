package client

// This file holds the API's clock, as far as it is known.

import (
	"sync/atomic"
	"time"
)

// apiClock is the API's clock as the last answer of getToken showed it. The zero value
// is a clock that agrees with this machine's.
type apiClock struct{ last atomic.Pointer[clockReading] }

// clockReading is what one answer showed of the API's clock.
type clockReading struct {
	at          time.Time     // by this machine's clocks
	offset      time.Duration // the API's clock minus this machine's
	uncertainty time.Duration // how far off the offset can be
}

// maxIgnoredOffset is a difference between two clocks that counts as none.
const maxIgnoredOffset = 2 * time.Second

// set notes the API's time, which has a resolution of a second, as an answer gave it to
// a request that was sent at sentAt.
func (c *apiClock) set(apiNow int64, sentAt time.Time) {
	took := time.Since(sentAt)
	r := &clockReading{at: sentAt.Add(took), uncertainty: took/2 + time.Second/2}
	r.offset = time.Unix(apiNow, 0).Add(time.Second / 2).Sub(sentAt.Round(0).Add(took / 2))
	if r.offset.Abs() <= maxIgnoredOffset {
		r.offset = 0
	}
	c.last.Store(r)
}

// timeAt returns the API's time at a moment of this machine's. If this machine's clock
// was set since the reading, or the machine slept, the offset is not true any more, and
// this machine's clock is the best that there is.
func (c *apiClock) timeAt(local time.Time) time.Time {
	offset, _ := c.offsetAt(local)
	return local.Round(0).Add(offset)
}

// offsetAt returns the offset at a moment of this machine's, 0 if it is not known.
func (c *apiClock) offsetAt(local time.Time) (offset time.Duration, known bool) {
	r := c.last.Load()
	if r == nil || clockWasSet(local.Round(0).Sub(r.at.Round(0)), local.Sub(r.at)) {
		return 0, false
	}
	return r.offset, true
}

// clockWasSet compares the time since a reading by the wall clock with that by the
// monotonic clock.
func clockWasSet(wall, monotonic time.Duration) bool {
	return (wall - monotonic).Abs() > maxIgnoredOffset
}

// earliestSecond returns the earliest second, by the API's clock, in which the API can
// have begun what was asked for at local.
func (c *apiClock) earliestSecond(local time.Time) int64 {
	uncertainty := maxIgnoredOffset
	if r := c.last.Load(); r != nil {
		uncertainty += r.uncertainty
	}
	return c.timeAt(local).Add(-uncertainty).Unix()
}
