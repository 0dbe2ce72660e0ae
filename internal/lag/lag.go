package gatewaytest

// This file holds WatchLag, which measures the machine's delays.

import "time"

// WatchLag measures how late timers are on a busy machine. The function that it returns ends
// the measurement and returns the greatest delay.
func WatchLag() (worst func() time.Duration) {
	done, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			due := time.Now().Add(5 * time.Millisecond)
			select {
			case <-time.After(5 * time.Millisecond):
				most = max(most, time.Since(due))
			case <-done:
				result <- most
				return
			}
		}
	}()
	return func() time.Duration {
		close(done)
		return <-result
	}
}
