package caddycvs

// This file holds the start of the tests. The runs, the tests of exposure and the benchmarks
// of requests are in internal/acceptance and internal/bench.

import (
	"flag"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestMain(m *testing.M) {
	// Most of these tests wait for a timeout, so more of them than there are processors can
	// run at once. The command line may say otherwise.
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	lockTimeout, lockTimeoutLater = 100*time.Millisecond, 10*time.Millisecond
	gatewaytest.RunMain(dbtest.M{M: m})
}
