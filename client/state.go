package client

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// State is what an account's clients share and what must outlive each of them:
// the access token, the memory of failures to get one, and the calls under way.
// It belongs to one API address and one pair of keys. A State costs no
// goroutine; Close it when its last client is gone.
type State struct {
	issues singleflight.Group

	current  atomic.Pointer[grant]
	renewer  atomic.Pointer[tokenSource] // the source in use, which renews in the background
	lastUsed atomic.Int64                // since epoch, in nanoseconds
	skew     atomic.Int64                // the API's clock minus this machine's, in nanoseconds
	blur     atomic.Int64                // how far off skew can be, in nanoseconds
	epoch    time.Time

	mu       sync.Mutex
	flight   *flight
	failures int
	failed   error     // why the last fetch failed, until it may be repeated
	retryAt  time.Time // no fetch before
	refused  *grant    // refused by the API although it has just confirmed it
	timer    *time.Timer
	closed   bool
}

// NewState returns an empty State.
func NewState() *State { return &State{epoch: time.Now()} }

// Close ends background renewals.
func (s *State) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

// Now returns the time by the API's clock, as far as it is known: deadlines
// are given and compared in the API's time. Before the first token it is this
// machine's.
func (s *State) Now() time.Time { return s.atAPI(time.Now()) }

func (s *State) atAPI(local time.Time) time.Time {
	// Round drops the monotonic reading: a machine that slept must not lag behind.
	return local.Round(0).Add(time.Duration(s.skew.Load()))
}

// setSkew notes the API's clock, which has a resolution of a second, as read
// by an exchange that began at start. A difference of up to two seconds counts
// as none.
func (s *State) setSkew(apiNow int64, start time.Time) {
	took := time.Since(start)
	skew := time.Unix(apiNow, 0).Add(time.Second / 2).Sub(start.Round(0).Add(took / 2))
	if skew.Abs() <= maxIgnoredSkew {
		skew = 0
	}
	s.skew.Store(int64(skew))
	s.blur.Store(int64(took/2 + time.Second/2))
}

const maxIgnoredSkew = 2 * time.Second

// earliest returns the earliest second in which the API, by its own clock, can
// have begun what was asked for at local.
func (s *State) earliest(local time.Time) int64 {
	return s.atAPI(local).Add(-time.Duration(s.blur.Load()) - maxIgnoredSkew).Unix()
}
