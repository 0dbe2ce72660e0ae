//go:build !race

package acceptance

// This file holds the end of the crash run: the figures, and how often each fault must strike.

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// report judges every answer and every scan, and prints the figures.
func (c *crashRun) report(t *testing.T, took time.Duration) {
	j := newCrashJudge(c.g.API.Payments(), c.voided)
	asks, reused, paid, tills := 0, 0, 0, 0
	var outcomes faultCounts
	for _, o := range c.orders {
		for _, a := range o.asks {
			asks++
			if a.status != 0 {
				outcomes.add(fmt.Sprintf("answered %d, code %d", a.status, a.code))
			}
			if a.reused {
				reused++
			}
		}
		if o.paid() {
			paid++
		}
		if o.leftAtTill() {
			tills++
		}
		j.judge(o)
	}
	figures := table{title: "crash run"}
	figures.row("seconds", int(took.Seconds()))
	c.gateways.figures(&figures)
	c.disruptionFigures(t, &figures)
	c.faultFigures(t, &figures)
	figures.row("orders", len(c.orders))
	figures.row("POST /cvs by the apps", asks)
	for _, name := range outcomes.names {
		figures.row(name, outcomes.counts[name])
	}
	figures.row("answers with X-Cvs-Reused", reused)
	figures.row("barcodes issued", len(j.payments))
	figures.row("barcodes voided", len(j.voided))
	figures.row("orders paid before the end", paid)
	figures.row("orders with a 409 after a scan in the end", tills)
	c.gateways.logFigures(t, &figures)
	for _, name := range mistakes {
		figures.row(name, j.counts.counts[name])
	}
	figures.print(t)
	if !*withLedger {
		assert.Positive(t, j.counts.counts[twoTaken], "the run finds nothing where there is much to find")
		return
	}
	assert.Positive(t, reused)
	for _, found := range j.found[:min(len(j.found), 20)] {
		t.Error(found)
	}
}

// disruptionFigures prints what was done to the gateway.
func (c *crashRun) disruptionFigures(t *testing.T, figures *table) {
	t.Helper()
	kills, pending, stops := 0, 0, 0
	for _, d := range c.disruptions() {
		n := c.counts.counts[d.name]
		figures.row("gateway: "+d.name, n)
		assert.Equal(t, d.times(), n, d.name)
		if d.kill {
			kills += n
		}
		if d.kill && d.held == emulator.EndpointIssue {
			pending += n
		}
		if d.stop > 0 {
			stops += n
		}
	}
	figures.row("kills", kills)
	figures.row("... with a POST /cvs written and unanswered", pending)
	figures.row("stops", stops)
	figures.row("starts", c.gateways.starts())
	if d := c.gateways.database; d != nil {
		d.figures(t, figures)
		d.write(t, c.g.Ledger)
	}
}

// faultFigures prints how often each fault struck, and fails if that was too seldom.
func (c *crashRun) faultFigures(t *testing.T, figures *table) {
	t.Helper()
	row := func(name string, least int) {
		n := c.counts.counts[name]
		figures.row(name, fmt.Sprintf("%d (least %d)", n, least))
		if n < least {
			t.Errorf("%q struck %d times, and must at least %d times", name, n, least)
		}
	}
	for _, name := range appActs {
		least := leastFaults(1, 20)
		if name == appRefused && len(c.gateways.list) > 1 { // as a rule another gateway is there
			least = 0
		}
		row(name, least)
	}
	for _, m := range crashFaults {
		for _, at := range m.at {
			switch {
			case at == emulator.EndpointIssue:
				row(m.nameAt(at), leastFaults(1, 20))
			case *withLedger && (at == emulator.EndpointPayment || at == emulator.EndpointVoid || at == emulator.EndpointFindAll):
				row(m.nameAt(at), leastFaults(0, 10))
			default: // a gateway may have no need of such calls
				row(m.nameAt(at), 0)
			}
		}
	}
}

// leastFaults is the least number in this form of the run.
func leastFaults(inShort, inLong int) int {
	if *long {
		return inLong
	}
	return inShort
}
