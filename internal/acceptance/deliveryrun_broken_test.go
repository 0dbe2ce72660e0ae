//go:build !race

package acceptance

// This file holds the delivery run with a line of the product broken: it must find what follows.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// brokenLine is a line of the product that is replaced when the gateway is built.
type brokenLine struct {
	name, file string
	line, by   string
	mistake    string // what the run must find
	inShort    bool   // also in the short form: a build for each would take too long
}

var brokenLines = []brokenLine{
	{
		"the write of a notice is not awaited", "client/ledger/notice.go",
		`	return true, l.note(ctx, acc, Key{acc.Name, number}, h, false)`,
		`	go func() { _ = l.note(context.WithoutCancel(ctx), acc, Key{acc.Name, number}, h, true) }(); return true, nil`,
		ackForgotten, false,
	},
	{
		"what a notice says is taken for what a look-up showed", "client/ledger/hint.go",
		`	seen, err := o.acc.lookUp(ctx, h.ImpUID)`,
		`	seen, err := o.acc.lookUp(ctx, h.ImpUID); if err == nil && h.Status != "" { seen.Status, seen.PaidAt = client.Status(h.Status), max(seen.PaidAt, seen.StartedAt) }`,
		toldUnpaid, true,
	},
	{
		"the events of a payment are told in reverse", "client/ledger/happen.go",
		`		first := slices.IndexFunc(list, func(h Happening) bool { return h.Done == 0 })`,
		`		first := -1; for k := range list { if list[k].Done == 0 { first = k } }`,
		toldUnordered, false,
	},
	{
		"the sweep does nothing", "client/ledger/sweep.go",
		`	for page := 1; ; {`,
		`	if to > 0 { return nil }; for page := 1; ; {`,
		paidUntold, false,
	},
	{
		"a message counts as heard before it is sent", "client/ledger/teller.go",
		`	about := *h`,
		`	about := *h; o.told(ctx, impUID, seen, &about, Reply{Verdict: Heard})`,
		paidUntold, false,
	},
}

// buildBroken builds a gateway with the line replaced.
func buildBroken(t *testing.T, b brokenLine) string {
	t.Helper()
	file := filepath.Join(ownTree(t), b.file)
	source, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), b.line+"\n"), "%s has another line now", b.file)
	return buildGateway(t, ownTree(t), map[string]string{file: strings.Replace(string(source), b.line+"\n", b.by+"\n", 1)})
}

// The same stories and faults show each line that is broken. The short form breaks one line only.
func TestDeliveryRunFindsWhatIsBroken(t *testing.T) {
	for _, b := range brokenLines {
		if !b.inShort && !*long {
			continue
		}
		t.Run(strings.ReplaceAll(b.name, " ", "-"), func(t *testing.T) {
			began := time.Now()
			program := buildBroken(t, b)
			built := time.Since(began)
			size := deliverySize{orders: 75, foreign: 5, older: 100, accounts: 3, over: 5 * time.Second, tries: 5 * time.Second, patience: 5 * time.Second}
			if *long {
				size = deliverySize{orders: 300, foreign: 24, older: 1000, accounts: 3, over: 18 * time.Second, tries: 20 * time.Second, patience: 20 * time.Second, operator: true}
			}
			c := newDeliveryRun(t, size, "", program)
			c.run(t)
			j := c.judge()
			figures := table{title: "delivery run, in which " + b.name}
			figures.row("seconds", int(time.Since(c.began).Seconds()))
			figures.row("seconds of the build", int(built.Seconds()))
			figures.row("messages to the shop", len(j.told))
			for _, name := range deliveryMistakes {
				figures.row(name, j.counts.counts[name])
			}
			figures.print(t)
			assert.Positive(t, j.counts.counts[b.mistake], "the run finds nothing where there is something to find")
		})
	}
}
