package bench

// This file holds the start of the benchmarks and of the processes that they use.

import (
	"testing"

	_ "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestMain(m *testing.M) {
	if !play() {
		gatewaytest.RunMain(m)
	}
}
