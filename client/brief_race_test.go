//go:build race

package client_test

import "time"

// brief is longer here: the race detector slows everything down.
const brief = 6 * time.Second
