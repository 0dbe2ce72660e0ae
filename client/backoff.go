package client

// This file holds the pauses between attempts.

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff doubles the pause from first up to limit. It takes off up to a quarter at
// random, so that many nodes do not come back at the same moment.
func backoff(attempt int, first, limit time.Duration) time.Duration {
	d := limit
	if attempt < 20 {
		d = min(first<<(attempt-1), limit)
	}
	return d - rand.N(d/4+1) //nolint:gosec // jitter needs no secrecy
}

// pause waits for d and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
