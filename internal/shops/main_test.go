// Package shops has one acceptance list for the shops of examples/: each runs with its own
// Caddyfile and its real runtime, at a sandbox in place of PortOne.
package shops

// This file holds the start of the tests.

import (
	"testing"

	_ "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestMain(m *testing.M) { gatewaytest.RunMain(dbtest.M{M: m}) }
