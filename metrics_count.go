package caddycvs

// This file holds what is counted of a record, and of what the client and the ledger report.

import (
	"errors"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// observeClient counts what the client of an account does.
func (m *metrics) observeClient(account string, refused func()) client.Observer {
	return client.Observer{
		Call: func(call client.Call) {
			for _, c := range m.sets {
				c.apiRequests.WithLabelValues(c.of(account, string(call.Operation), string(call.Outcome))...).Inc()
				c.apiDuration.WithLabelValues(c.of(account, string(call.Operation))...).Observe(call.Duration.Seconds())
			}
		},
		TokenFetched: func(err error) {
			outcome := fetchOutcome(err)
			for _, c := range m.sets {
				c.tokenFetches.WithLabelValues(c.of(account, outcome)...).Inc()
			}
			if outcome == fetchRefused {
				refused()
			}
		},
		IssueInDoubt: func(doubt client.Doubt) {
			for _, c := range m.sets {
				c.issuesInDoubt.WithLabelValues(c.of(account, string(doubt))...).Inc()
			}
		},
	}
}

func fetchOutcome(err error) string {
	switch {
	case err == nil:
		return fetchOK
	case errors.Is(err, client.ErrCredentials):
		return fetchRefused
	default:
		return fetchFailed
	}
}

// countDecision counts a confirm webhook and the order checks that decided it.
func (m *metrics) countDecision(r *record) {
	verdict, cause := confirmLabels(r)
	for _, c := range m.sets {
		c.confirms.WithLabelValues(c.of(r.account, verdict, cause)...).Inc()
		c.confirmDuration.WithLabelValues(c.of(r.account)...).Observe(r.duration.Seconds())
	}
	for i := range r.checks {
		m.countCheck(r.account, &r.checks[i])
	}
}

// checkVerdicts are the values of the label verdict of a check.
var checkVerdicts = map[verdict]string{yes: "yes", no: "no", noAnswer: "none"}

func (m *metrics) countCheck(account string, result *checkResult) {
	for _, c := range m.sets {
		c.checkDuration.WithLabelValues(c.of(account, result.check.Name, checkVerdicts[result.verdict])...).Observe(result.duration.Seconds())
	}
}

// existCheck makes the series of an order check.
func (m *metrics) existCheck(accounts []string, check string) {
	for _, word := range checkVerdicts {
		totals.checkDuration.WithLabelValues(totals.of("", check, word)...)
		for _, account := range accounts {
			m.shown().checkDuration.WithLabelValues(m.shown().of(account, check, word)...)
		}
	}
}

// countUnrouted counts a confirm webhook that reached no cvs_confirm. Whose it is was not looked at.
func countUnrouted() {
	for _, c := range []*counters{totals, byAccount} {
		c.confirms.WithLabelValues(c.of("", invalid, wordUnrouted)...).Inc()
	}
}

// countedNotices are the values of the label outcome for the outcomes of a notice.
var countedNotices = map[string]string{
	noticeKept: countedKept, noticeRefused: countedRefused, noticeInvalid: countedRefused, noticeNotKept: countedUnavailable,
}

// countNotice counts a notice that was answered, or that the next handler got.
func (m *metrics) countNotice(account string, signed bool, outcome string) {
	source := sourceUnsigned
	if signed {
		source = sourceSigned
	}
	for _, c := range m.sets {
		c.notices.WithLabelValues(c.of(account, source, outcome)...).Inc()
	}
}

// countedTells are the values of the label outcome for what became of a message. One that was not sent is
// not counted.
var countedTells = map[string]string{
	told[ledger.Heard]: countedHeard, told[ledger.Refused]: countedTellRefused, told[ledger.Unheard]: countedFailed,
}

func (m *metrics) countTell(account, outcome string) {
	if outcome == "" {
		return
	}
	for _, c := range m.sets {
		c.tells.WithLabelValues(c.of(account, outcome)...).Inc()
	}
}

func (m *metrics) countDoublePayment(account string) {
	for _, c := range m.sets {
		c.doublePayments.WithLabelValues(c.of(account)...).Inc()
	}
}

func (m *metrics) countDropped(account string) {
	for _, c := range m.sets {
		c.eventsDropped.WithLabelValues(c.of(account)...).Inc()
	}
}
