package caddycvs

// This file holds the metrics that show a state: of the tokens, and of the ledger. They are read when the
// metrics are, from what is known: the ledger is counted beside that.

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// appCollector collects the states of one configuration.
type appCollector struct {
	app                                         *App
	perAccount                                  bool
	tokenValid, ledgerUp                        *prometheus.Desc
	barcodes, pending, oldestPending, forPerson *prometheus.Desc
}

func newAppCollector(a *App) *appCollector {
	perAccount := a.metrics.shown().perAccount
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(metricsPrefix, "", name), help, metricLabels(perAccount, labels...), nil)
	}
	return &appCollector{
		app: a, perAccount: perAccount,
		tokenValid:    gauge("token_valid", "0 if the last fetch of an access token failed, else 1."),
		ledgerUp:      prometheus.NewDesc(prometheus.BuildFQName(metricsPrefix, "", "ledger_up"), "0 while the ledger cannot be used, else 1.", nil, nil),
		barcodes:      gauge("barcodes", "Barcodes in the ledger.", "state"),
		pending:       gauge("tells_pending", "Orders of which the shop is to hear something."),
		oldestPending: gauge("tell_oldest_pending_seconds", "Since when the shop is to hear something of an order, at most."),
		forPerson:     gauge("tells_waiting_for_a_person", "Orders of which the shop is not told before a person acts."),
	}
}

// Describe implements prometheus.Collector.
func (c *appCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.tokenValid, c.ledgerUp, c.barcodes, c.pending, c.oldestPending, c.forPerson} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector. The registry belongs to the configuration, so it shows its
// accounts only. Tokens whose last fetch failed are fetched again beside that, as for /cvs/ready: an account
// that nobody uses would else be shown as failing for ever.
func (c *appCollector) Collect(metrics chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	valid, retried := 1.0, 0
	for name, acc := range c.app.accounts {
		own := 1.0
		if acc.client.State().TokenStatus().Failing {
			own = 0
			if retried < maxRetried && acc.client.RetryToken() {
				retried++
			}
		}
		if valid = min(valid, own); c.perAccount {
			send(c.tokenValid, own, name)
		}
	}
	if !c.perAccount {
		send(c.tokenValid, valid)
	}
	if !c.app.keepsLedger() {
		return
	}
	up, counts := 1.0, ledger.Counts{}
	if used := c.app.openedLedger(); used != nil {
		counts = used.Counts()
		if used.Health().Down { // not one that is closed with its configuration
			up = 0
		}
	}
	send(c.ledgerUp, up)
	c.collectCounts(counts, send)
}

// collectCounts sends what was counted. What was not counted yet has no series: 0 would be wrong.
func (c *appCollector) collectCounts(counts ledger.Counts, send func(*prometheus.Desc, float64, ...string)) {
	var sum accountCounts
	for name := range c.app.accounts {
		if c.perAccount {
			sum = accountCounts{}
		}
		sum.add(counts.Tells[name], counts.Barcodes[name])
		if c.perAccount {
			c.collectAccount(counts, &sum, send, name)
		}
	}
	if !c.perAccount {
		c.collectAccount(counts, &sum, send)
	}
}

// accountCounts are the counts of one account, or of all.
type accountCounts struct {
	tells    ledger.TellCounts
	barcodes map[ledger.State]int
}

func (a *accountCounts) add(tells ledger.TellCounts, barcodes map[ledger.State]int) {
	a.tells.Pending += tells.Pending
	a.tells.Waiting += tells.Waiting
	a.tells.Oldest = max(a.tells.Oldest, tells.Oldest)
	if a.barcodes == nil {
		a.barcodes = make(map[ledger.State]int, len(stateWords))
	}
	for state, n := range barcodes {
		a.barcodes[state] += n
	}
}

func (c *appCollector) collectAccount(counts ledger.Counts, sum *accountCounts, send func(*prometheus.Desc, float64, ...string), label ...string) {
	if counts.Tells != nil {
		send(c.pending, float64(sum.tells.Pending), label...)
		send(c.oldestPending, math.Round(sum.tells.Oldest.Seconds()), label...)
		send(c.forPerson, float64(sum.tells.Waiting), label...)
	}
	if counts.Barcodes != nil {
		for _, state := range stateWords {
			send(c.barcodes, float64(sum.barcodes[state]), append([]string{string(state)}, label...)...)
		}
	}
}

// Interface guards
var _ prometheus.Collector = (*appCollector)(nil)
