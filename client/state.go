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
	orders orders

	current  atomic.Pointer[grant]
	renewer  atomic.Pointer[tokenSource] // the source in use, which renews in the background
	lastUsed atomic.Int64                // since epoch, in nanoseconds
	clock    atomic.Pointer[reading]     // of the API's clock
	epoch    time.Time

	mu        sync.Mutex
	flight    *flight
	failures  int
	failed    error     // why the last fetch failed, until it may be repeated
	confirmed *grant    // refused by the API, which then gave it again
	retryAt   time.Time // no fetch before
	timer     *time.Timer
	closed    bool
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
