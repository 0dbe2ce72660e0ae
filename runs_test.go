package caddycvs

// This file holds what the runs share: long tests that count what must not
// happen. Their short forms run with the other tests; the long ones by
//
//	go test -run '^TestFaultRun$' -timeout 60m . -long -seed 2

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var (
	long = flag.Bool("long", false, "run the long form of a run")
	seed = flag.Uint64("seed", 1, "of what a run draws at random")
	bad  = flag.Int("faults", 10, "percent of all requests and webhooks that meet a fault of their own in the fault run")
)

// draw returns the random numbers of one part of a run, so that the parts draw
// the same whatever their order.
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
