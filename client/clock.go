package client

// This file holds the API's clock, as far as it is known.

import "time"

// Now returns the time by the API's clock, as far as it is known: deadlines
// are given and compared in the API's time. Before the first token it is this
// machine's.
func (s *State) Now() time.Time { return s.atAPI(time.Now()) }

// reading is what one exchange told of the API's clock.
type reading struct {
	at   time.Time     // by this machine's clocks
	skew time.Duration // the API's clock minus this machine's
	blur time.Duration // how far off skew can be
}

const maxIgnoredSkew = 2 * time.Second

// setClock notes the API's clock, which has a resolution of a second, as read
// by an exchange that began at start. A difference of up to two seconds counts
// as none.
func (s *State) setClock(apiNow int64, start time.Time) {
	took := time.Since(start)
	r := &reading{at: start.Add(took), blur: took/2 + time.Second/2}
	r.skew = time.Unix(apiNow, 0).Add(time.Second / 2).Sub(start.Round(0).Add(took / 2))
	if r.skew.Abs() <= maxIgnoredSkew {
		r.skew = 0
	}
	s.clock.Store(r)
}

// atAPI returns the API's time at a moment of this machine's. If the machine's
// clock was set since the reading, or the machine slept, what was read of the
// difference is not true any more, and its own clock the best there is.
func (s *State) atAPI(local time.Time) time.Time {
	wall := local.Round(0)
	r := s.clock.Load()
	if r == nil || clockWasSet(wall.Sub(r.at.Round(0)), local.Sub(r.at)) {
		return wall
	}
	return wall.Add(r.skew)
}

// clockWasSet compares what the wall clock and the monotonic clock say of the
// time since a reading.
func clockWasSet(wall, monotonic time.Duration) bool {
	return (wall - monotonic).Abs() > maxIgnoredSkew
}

// earliest returns the earliest second in which the API, by its own clock, can
// have begun what was asked for at local.
func (s *State) earliest(local time.Time) int64 {
	return s.atAPI(local).Add(-s.blur()).Unix()
}

// blur is how far off the API's time can be.
func (s *State) blur() time.Duration {
	if r := s.clock.Load(); r != nil {
		return r.blur + maxIgnoredSkew
	}
	return maxIgnoredSkew
}
