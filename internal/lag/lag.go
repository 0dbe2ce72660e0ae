// Package lag measures how late a busy machine is, for tests of time limits. It knows nothing
// of the project, so that the tests of every layer may use it.
package lag

import "time"

// Watch measures how late timers are on a busy machine. The function that it returns ends
// the measurement and returns the greatest delay.
func Watch() (worst func() time.Duration) {
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
