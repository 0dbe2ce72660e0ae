package caddycvs

// This file holds benchmarks of the handlers inside Caddy without a network: what
// a request costs, and that it costs the same however much there is besides.

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
)

// BenchmarkAccounts issues barcodes for one of so many accounts: an account is
// found when the configuration is loaded, so their number costs a request
// nothing.
func BenchmarkAccounts(b *testing.B) {
	for _, accounts := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			g, config := prepare(b, setup{account: manyAccounts(b, accounts), proxy: fmt.Sprintf("account scale-%d\n", accounts-1) + usualProxy})
			issueMany(b, sitesOf(b, quieten(config, g.logFile)), g)
		})
	}
}

// manyAccounts returns the options of accounts with keys of their own.
func manyAccounts(b *testing.B, n int) string {
	b.Helper()
	var blocks strings.Builder
	for i := range n {
		b.Setenv(fmt.Sprintf("CVS_TEST_SCALE_%d", i), fmt.Sprintf("canary-scale-%d", i))
		fmt.Fprintf(&blocks, "account scale-%d {\nimp_key {env.CVS_TEST_SCALE_%[1]d}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi http://127.0.0.1:1\ntransport test_forgetful\n}\n", i)
	}
	return blocks.String()
}

// BenchmarkOutstanding issues barcodes when so many were issued before: nothing is
// kept of them.
func BenchmarkOutstanding(b *testing.B) {
	numbers := []int{0, 10_000}
	if *long {
		numbers = append(numbers, 1_000_000)
	}
	for _, before := range numbers {
		b.Run(fmt.Sprint(before), func(b *testing.B) {
			g, config := prepare(b, setup{account: "transport test_forgetful"})
			served := sitesOf(b, quieten(config, g.logFile))
			for i := range before {
				served.post(g.inside+"/cvs", issueBody(fmt.Sprintf("before-%d", i)))
			}
			issueMany(b, served, g)
		})
	}
}

func issueMany(b *testing.B, served sites, g *gateway) {
	b.Helper()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if w := served.post(g.inside+"/cvs", issueBody(fmt.Sprintf("order-%d", n))); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// routeCheck says yes to every order of the usual amount.
const routeCheck = "order_check {\nroute {\nrespond `{\"payable\":true,\"total\":15000}`\n}\nrequire payable true\namount total\n}\n"

// BenchmarkOrderChecks decides webhooks with so many checks, each a route without
// a network: a check costs the same however many there are.
func BenchmarkOrderChecks(b *testing.B) {
	for _, checks := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprint(checks), func(b *testing.B) {
			g, config := prepare(b, setup{account: "transport test_forgetful", confirm: strings.Repeat(routeCheck, checks)})
			served := sitesOf(b, quieten(config, g.logFile))
			issue := served.post(g.inside+"/cvs", issueBody("order-1"))
			i := issued{impUID: "imp_order-1", merchantUID: "order-1", barcode: "12345678901234567890"}
			i.confirmURL = answer{body: issue.Body.String()}.payment(b)["confirm_url"].(string)
			body := i.webhook()
			b.ReportAllocs()
			for b.Loop() {
				if w := served.post(i.confirmURL, body); w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(checks), "ns/check")
		})
	}
}

// BenchmarkLoad loads and reloads a configuration with so many accounts.
func BenchmarkLoad(b *testing.B) {
	for _, accounts := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			_, config := prepare(b, setup{account: manyAccounts(b, accounts)})
			b.Cleanup(func() { require.NoError(b, caddy.Stop()) })
			began := time.Now()
			require.NoError(b, reload(b, config))
			first := time.Since(began)
			n := 0
			for b.Loop() {
				n++
				require.NoError(b, reload(b, strings.Replace(config, "next handler", fmt.Sprintf("reload %d", n), 1)))
			}
			b.ReportMetric(float64(first.Milliseconds()), "ms-first")
		})
	}
}

// BenchmarkJudge evaluates an order check's answer: one reading for its syntax,
// and one until each path is found.
func BenchmarkJudge(b *testing.B) {
	check := &OrderCheck{Requirements: []Requirement{{"payable", "true"}, {"stock.available", "true"}}, Amount: "total"}
	body := []byte(`{"payable":true,"stock":{"available":true,"left":3},"total":15000}`)
	b.ReportAllocs()
	for b.Loop() {
		if v, why := check.judge(http.StatusOK, body, cause{}, "15000"); v != yes {
			b.Fatal(why)
		}
	}
}
