package caddycvs

// This file holds the metrics that count what happens. Their collectors belong to the process, so that a
// reload does not reset them, and each configuration registers them with its own registry.

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// Metrics has the options of the metrics, which Caddy's admin endpoint and its directive metrics show.
type Metrics struct {
	// PerAccount adds the label account to each metric: about 320 lines and 100 kB for each account, so it is not for
	// thousands of them. Default: false.
	PerAccount bool `json:"per_account,omitempty"`
}

const metricsPrefix = "caddy_cvs"

const labelAccount = "account"

// counters are the collectors of the process, with or without the label account. What has no account
// of this configuration has the empty one.
type counters struct {
	perAccount bool
	all        []prometheus.Collector

	apiRequests     *prometheus.CounterVec
	apiDuration     *prometheus.HistogramVec
	issuesInDoubt   *prometheus.CounterVec
	tokenFetches    *prometheus.CounterVec
	confirms        *prometheus.CounterVec
	confirmDuration *prometheus.HistogramVec
	checkDuration   *prometheus.HistogramVec
	notices         *prometheus.CounterVec
	tells           *prometheus.CounterVec
	doublePayments  *prometheus.CounterVec
	eventsDropped   *prometheus.CounterVec
}

// Each configuration registers one of the two. What it counts with the label is counted without it, too:
// another configuration may go on with that.
var totals, byAccount = newCounters(false), newCounters(true)

func init() { totals.exist("") }

func newCounters(perAccount bool) *counters {
	c := &counters{perAccount: perAccount}
	c.apiRequests = c.counter("api_requests_total", "HTTP calls to PortOne's API that have ended.", "operation", "outcome")
	c.apiDuration = c.histogram("api_duration_seconds", "How long HTTP calls to PortOne's API took.", "operation")
	c.issuesInDoubt = c.counter("issues_in_doubt_total", "Calls of POST /cvs whose answer was lost, by what the look-ups found.", "outcome")
	c.tokenFetches = c.counter("token_fetches_total", "Fetches of an access token.", "outcome")
	c.confirms = c.counter("confirms_total", "Confirm webhooks that were answered.", "verdict", "cause")
	c.confirmDuration = c.histogram("confirm_duration_seconds", "How long confirm webhooks took until the answer was sent.")
	c.checkDuration = c.histogram("check_duration_seconds", "How long order checks took.", "check", "verdict")
	c.notices = c.counter("notices_total", "Notices that cvs_notice received.", "source", "outcome")
	c.tells = c.counter("tells_total", "Messages to the shop, and orders of which it is not told any more before a person acts.", "outcome")
	c.doublePayments = c.counter("double_payments_total", "Orders of which a second barcode was paid.")
	c.eventsDropped = c.counter("events_dropped_total", "Events that no handler has got, because the handlers are too slow or the configuration has ended.")
	return c
}

func (c *counters) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: metricsPrefix, Name: name, Help: help}, metricLabels(c.perAccount, labels...))
	c.all = append(c.all, v)
	return v
}

func (c *counters) histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(
		prometheus.HistogramOpts{Namespace: metricsPrefix, Name: name, Help: help, Buckets: prometheus.DefBuckets},
		metricLabels(c.perAccount, labels...))
	c.all = append(c.all, v)
	return v
}

// metricLabels are the names of a metric's labels, or the values of one of its series.
func metricLabels(perAccount bool, labels ...string) []string {
	if perAccount {
		labels = append(labels, labelAccount)
	}
	return labels
}

// of returns the values of the labels of a series.
func (c *counters) of(account string, values ...string) []string {
	if c.perAccount {
		values = append(values, account)
	}
	return values
}

// The outcomes of a fetch of a token, and the values of the labels of notices and tells.
const (
	fetchOK      = "ok"
	fetchRefused = "refused"
	fetchFailed  = "failed"

	sourceSigned   = "signed"
	sourceUnsigned = "unsigned"

	countedKept        = "kept"
	countedUnknown     = "unknown"
	countedRefused     = "refused"
	countedUnavailable = "unavailable"
	countedPassed      = "passed"

	countedHeard       = "heard"
	countedTellRefused = "refused"
	countedFailed      = "failed"
	countedGaveUp      = "gave_up"
)

var (
	fetchOutcomes  = []string{fetchOK, fetchRefused, fetchFailed}
	noticeSources  = []string{sourceSigned, sourceUnsigned}
	noticeOutcomes = []string{countedKept, countedUnknown, countedRefused, countedUnavailable, countedPassed}
	tellOutcomes   = []string{countedHeard, countedTellRefused, countedFailed, countedGaveUp}
)

// exist makes every series of an account whose labels are known: an alert needs the 0 before the 1.
func (c *counters) exist(account string) {
	for _, operation := range client.Operations {
		c.apiDuration.WithLabelValues(c.of(account, string(operation))...)
		for _, outcome := range client.Outcomes {
			c.apiRequests.WithLabelValues(c.of(account, string(operation), string(outcome))...)
		}
	}
	for _, doubt := range client.Doubts {
		c.issuesInDoubt.WithLabelValues(c.of(account, string(doubt))...)
	}
	for _, outcome := range fetchOutcomes {
		c.tokenFetches.WithLabelValues(c.of(account, outcome)...)
	}
	for verdict, causes := range confirmCauses {
		for _, cause := range causes {
			c.confirms.WithLabelValues(c.of(account, verdict, cause)...)
		}
	}
	for _, source := range noticeSources {
		for _, outcome := range noticeOutcomes {
			c.notices.WithLabelValues(c.of(account, source, outcome)...)
		}
	}
	for _, outcome := range tellOutcomes {
		c.tells.WithLabelValues(c.of(account, outcome)...)
	}
	c.confirmDuration.WithLabelValues(c.of(account)...)
	c.doublePayments.WithLabelValues(c.of(account)...)
	c.eventsDropped.WithLabelValues(c.of(account)...)
}

// metrics is what a configuration counts with.
type metrics struct{ sets []*counters }

func newMetrics(options *Metrics) *metrics {
	m := &metrics{sets: []*counters{totals}}
	if options != nil && options.PerAccount {
		m.sets = append(m.sets, byAccount)
	}
	return m
}

// shown returns the set that the configuration registers.
func (m *metrics) shown() *counters { return m.sets[len(m.sets)-1] }

// addMetrics prepares the metrics of the configuration. Its accounts, and those that other configurations of
// the process have had with the label, are the values of the label account.
func (a *App) addMetrics(ctx caddy.Context) error {
	if a.metrics.shown().perAccount {
		for name := range a.accounts {
			byAccount.exist(name)
		}
		for _, cause := range confirmCauses[invalid] { // whose a webhook is that is not genuine is not known
			byAccount.confirms.WithLabelValues(byAccount.of("", invalid, cause)...)
		}
	}
	return a.register(ctx.GetMetricsRegistry())
}
