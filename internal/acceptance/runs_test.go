// Package acceptance tests the gateway from outside: by HTTP, its configuration and its logs.
// It may use only what is exported. The long tests, called runs, count events that must not
// happen.
package acceptance

// This file holds what the runs share. Their short forms run with the other tests. A long
// form is started by a command such as
//
//	go test -run '^TestFaultRun$' -v -timeout 60m ./internal/acceptance -long -seed 2

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

var (
	long        = flag.Bool("long", false, "run the long form of a run")
	seed        = flag.Uint64("seed", 1, "seed of the random numbers of a run")
	bad         = flag.Int("faults", 10, "percent of the requests and webhooks in the fault run that get a fault of their own")
	nodes       = flag.Int("nodes", 3, "number of gateways in a run in which they share a database")
	oldRevision = flag.String("old", "HEAD~1", "the version before, from which a run with a database upgrades its gateways, as git names it")
	withLedger  = flag.Bool("ledger", true, "with -ledger=false the crash run and the sync run must find what the ledger prevents")
)

// withoutLedger takes the ledger from a gateway if the flag says so. Each POST /cvs then goes to the
// API.
func withoutLedger(s *gatewaytest.Setup) {
	if !*withLedger {
		s.Ledger, s.Proxy = "off", gatewaytest.UsualProxy+"\nrepeat pass"
	}
}

// draw returns the random numbers of one part of a run. Each part has its own, so that the
// order of the parts makes no difference.
func draw(part uint64) *rand.Rand { return rand.New(rand.NewPCG(*seed, part)) }

// table prints a run's figures.
type table struct {
	title string
	rows  []string
}

func (tb *table) row(name string, value any) {
	tb.rows = append(tb.rows, fmt.Sprintf("%-58s %12v", name, value))
}

func (tb *table) print(t *testing.T) {
	t.Helper()
	t.Logf("%s, seed %d\n%s", tb.title, *seed, strings.Join(tb.rows, "\n"))
}
