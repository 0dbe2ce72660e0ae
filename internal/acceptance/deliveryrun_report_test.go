//go:build !race

package acceptance

// This file holds the end of the delivery run: the figures, and how often each fault must strike.

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// report prints the figures, and fails if a fault struck too seldom.
func (c *deliveryRun) report(t *testing.T, j *deliveryJudge) {
	t.Helper()
	c.shop.requireSound(t)
	figures := table{title: "delivery run"}
	figures.row("seconds", int(time.Since(c.began).Seconds()))
	c.gateways.figures(&figures)
	for _, s := range deliveryStories {
		c.figure(t, &figures, "order: "+s.name, c.stories[s.name], c.size.orders*s.times/25/2)
	}
	for _, d := range c.disruptions() {
		c.figure(t, &figures, d.name, c.counts.counts[d.name], c.times(d))
	}
	for _, name := range []string{
		noticeLost, noticeDoubled, noticeEarly, noticeReversed, noticeForm, foreignCard, foreignUnknown, refundServed, shopStubborn,
	} {
		c.figure(t, &figures, name, c.counts.counts[name], c.least(1, 50))
	}
	c.figure(t, &figures, noticeRepeated, c.counts.counts[noticeRepeated], c.least(0, 10)) // only while the gateway is down
	for _, f := range deliveryForgeries {
		c.figure(t, &figures, f.name, c.counts.counts[f.name], c.least(1, 50))
	}
	for _, name := range shopFaults {
		c.figure(t, &figures, name, c.counts.counts[name], c.least(2, 50))
	}
	for _, m := range deliveryFaults {
		for _, at := range m.at {
			least := 1
			if at == emulator.EndpointVoid || !c.size.full && at == emulator.EndpointList {
				least = c.least(0, 1)
			}
			c.figure(t, &figures, "API: "+m.nameAt(at), c.counts.counts[m.nameAt(at)], least)
		}
	}
	c.work(t, &figures, j)
	for _, name := range deliveryMistakes {
		figures.row(name, j.counts.counts[name])
	}
	figures.print(t)
}

// least is the least number in this form of the run.
func (c *deliveryRun) least(inShort, inLong int) int {
	if c.size.full {
		return inLong
	}
	return inShort
}

// figure prints how often a fault struck, and fails if that was too seldom.
func (c *deliveryRun) figure(t *testing.T, figures *table, name string, n, least int) {
	t.Helper()
	figures.row(name, fmt.Sprintf("%d (least %d)", n, least))
	if n < least {
		t.Errorf("%q: %d times, and must be at least %d times", name, n, least)
	}
}

// work prints what the gateway did.
func (c *deliveryRun) work(t *testing.T, figures *table, j *deliveryJudge) {
	t.Helper()
	forbidden, paid := 0, 0
	for _, o := range c.orders {
		if o.forbidden {
			forbidden++
		}
	}
	var delays []time.Duration
	for impUID, at := range c.paid {
		paid++
		if o := j.orders[j.payments[impUID].MerchantUID]; o.stubborn {
			continue
		}
		if told, ok := j.first[deliveryEvent{impUID, "paid", ""}]; ok {
			delays = append(delays, told.Sub(at))
		}
	}
	slices.Sort(delays)
	figures.row("starts of gateways", c.gateways.starts())
	figures.row("two messages at once, because a gateway was stopped", j.stopped)
	figures.row("orders with two barcodes at once: asked for without the ledger", c.withTwo())
	if d := c.gateways.database; d != nil {
		figures.row("on_down", c.onDown)
		figures.row("barcodes issued without the ledger, and lost with a gateway", len(c.unknown))
		d.figures(t, figures)
		d.write(t, c.g.Ledger)
		c.gateways.logFigures(t, figures)
	}
	if c.size.operator {
		c.figure(t, figures, "orders in a copy of the ledger, made in the middle of the run", int(c.backedUp.Load()), 1)
	}
	figures.row("orders that waited for a person, and were told again", c.retried)
	figures.row("left: pending", c.left.pending)
	figures.row("left: waiting for a person (of a test channel)", fmt.Sprintf("%d (%d)", c.left.waiting, forbidden))
	figures.row("payments", paid)
	figures.row("messages to the shop", len(j.told))
	figures.row("events that the shop knows", j.heard)
	figures.row("doubles", j.doubles)
	figures.row("paid after a void that the shop was not told of, not late", j.notLate)
	if len(delays) > 0 {
		figures.row("from paid to told, without orders refused until the end: median", delays[len(delays)/2].Round(time.Millisecond))
		figures.row("... 99th of 100", delays[len(delays)*99/100].Round(time.Millisecond))
		figures.row("... longest", delays[len(delays)-1].Round(time.Millisecond))
	}
	for _, endpoint := range []emulator.Endpoint{emulator.EndpointPayment, emulator.EndpointFindAll, emulator.EndpointVoid, emulator.EndpointList} {
		n := c.api.count(endpoint)
		figures.row("calls of the API for each payment: "+string(endpoint), fmt.Sprintf("%.2f of %d", float64(n)/float64(max(paid, 1)), n))
	}
	secret := gatewaytest.FindSecrets()
	assert.Empty(t, secret, "the run wrote a secret")
	c.foreign(j)
}

// neverWritten returns the imp_uids of barcodes that were issued without the ledger, by a gateway that lacked
// it, and that are in no row although all gateways are up again: the gateway was ended before.
func (c *deliveryRun) neverWritten(t *testing.T) map[string]bool {
	t.Helper()
	if c.gateways.database == nil {
		return nil
	}
	without, known, unknown := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	c.gateways.readLogs(t, func(line string) {
		if entry := gjson.GetMany(line, "msg", "merchant_uid"); entry[0].Str == issuesWithout {
			without[entry[1].Str] = true
		}
	})
	for _, row := range c.gateways.database.query(t, "SELECT imp_uid FROM caddy_cvs_payments") {
		known[row[0]] = true
	}
	for _, p := range c.g.API.Payments() {
		if without[p.MerchantUID] && !known[p.ImpUID] {
			unknown[p.ImpUID] = true
		}
	}
	return unknown
}

// rowsOf returns what the ledger has of the orders of mistakes.
func (c *deliveryRun) rowsOf(t *testing.T, j *deliveryJudge) map[string]string {
	t.Helper()
	rows := make(map[string]string)
	for order := range j.mistaken {
		if d := c.gateways.database; d != nil {
			query := "SELECT data FROM caddy_cvs_orders WHERE merchant_uid = '" + order + "'"
			rows[order] = fmt.Sprint(d.query(t, query))
		} else {
			rows[order] = c.askAdmin(t, http.MethodGet, "/cvs/barcodes?order="+url.QueryEscape(order), "")
		}
	}
	return rows
}

// issuesWithout is what a gateway logs of each order for which it asks without its ledger.
const issuesWithout = "the ledger is down: the order is looked up at the API instead"

// withTwo counts the orders with two barcodes that are paid, or that a till takes. Two gateways that lack their
// ledger at the same time may issue them, as long as on_down says issue.
func (c *deliveryRun) withTwo() (orders int) {
	live := make(map[string]int)
	for _, p := range c.g.API.Payments() {
		if c.orders[p.MerchantUID] != nil && (p.Status == "paid" || p.Status == "ready" && p.ExpiredAt > time.Now().Unix()) {
			live[p.MerchantUID]++
		}
	}
	for _, n := range live {
		if n > 1 {
			orders++
		}
	}
	return orders
}

// foreign brings into the judgement what the shop has found itself.
func (c *deliveryRun) foreign(j *deliveryJudge) {
	for _, misplaced := range c.shop.misplaced {
		j.note(foreignMistaken, "", misplaced)
	}
}
