package client

// This file holds State: what the clients of one account share.

import (
	"time"

	"golang.org/x/sync/singleflight"
)

// State is what an account's clients share and what must outlive each of them:
// the access token, the memory of failures to get one, and the calls under way.
// It belongs to one API address and one pair of keys. A State costs no
// goroutine; Close it when its last client is gone.
type State struct {
	tokens   tokens
	clock    apiClock
	issues   singleflight.Group // the calls of IssueRaw under way, by their identity
	attempts attempts
}

// NewState returns an empty State.
func NewState() *State { return new(State) }

// Close ends background renewals.
func (s *State) Close() { s.tokens.close() }

// Now returns the time by the API's clock, as far as it is known: deadlines
// are given and compared in the API's time. Before the first token it is this
// machine's.
func (s *State) Now() time.Time { return s.clock.timeAt(time.Now()) }

// EarliestStart returns the earliest second, by the API's clock, in which the API can have begun a
// payment that was asked for at local, by this machine's as it is set now. It is 0 if the API's clock is not
// known: this machine's may be wrong by hours.
func (s *State) EarliestStart(local time.Time) int64 { return s.earliestStart(local, time.Now()) }

// earliestStart counts back from now, which has a monotonic time: a local that was stored has none,
// and could not tell that the clock was set since the API's was read.
func (s *State) earliestStart(local, now time.Time) int64 {
	local = now.Add(local.Round(0).Sub(now.Round(0)))
	if _, known := s.clock.offsetAt(local); !known {
		return 0
	}
	return s.clock.earliestSecond(local)
}
