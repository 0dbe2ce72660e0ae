//go:build !race

package client_test

import "time"

// brief is the time-out of calls whose outcome stays unknown: they take all of it. It is
// long enough for the other calls on a busy machine.
const brief = 2 * time.Second
