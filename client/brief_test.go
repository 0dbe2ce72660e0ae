//go:build !race

package client_test

import "time"

// brief is the time-out of calls that stay in doubt, which take as long. It leaves a busy
// machine time for the others.
const brief = 2 * time.Second
