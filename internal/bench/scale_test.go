package bench

// This file holds benchmarks of the handlers inside Caddy without a network: what a request
// costs with few and with many accounts, barcodes and order checks.

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

var long = flag.Bool("long", false, "measure with a million barcodes, too")

// passing are options of cvs_proxy without the ledger, whose file would be measured: see package
// boltstore for that.
const passing = gatewaytest.UsualProxy + "\nrepeat pass"

// BenchmarkAccounts issues barcodes for one of many accounts. The handler looks its account up
// when the configuration is loaded, so the number of accounts costs a request nothing.
func BenchmarkAccounts(b *testing.B) {
	for _, accounts := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			g, config := gatewaytest.Prepare(b, gatewaytest.Setup{Account: manyAccounts(b, accounts), Ledger: "off", Proxy: fmt.Sprintf("account scale-%d\n", accounts-1) + passing})
			issueMany(b, gatewaytest.LoadSites(b, gatewaytest.LogErrorsOnly(config, g.LogFile)), g)
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

// BenchmarkOutstanding issues barcodes after many others: nothing is kept of those.
func BenchmarkOutstanding(b *testing.B) {
	numbers := []int{0, 10_000}
	if *long {
		numbers = append(numbers, 1_000_000)
	}
	for _, before := range numbers {
		b.Run(fmt.Sprint(before), func(b *testing.B) {
			g, config := gatewaytest.Prepare(b, gatewaytest.Setup{Account: "transport test_forgetful", Ledger: "off", Proxy: passing})
			served := gatewaytest.LoadSites(b, gatewaytest.LogErrorsOnly(config, g.LogFile))
			for i := range before {
				served.Post(g.Inside+"/cvs", gatewaytest.IssueBody(fmt.Sprintf("before-%d", i)))
			}
			issueMany(b, served, g)
		})
	}
}

func issueMany(b *testing.B, served gatewaytest.Sites, g *gatewaytest.Gateway) {
	b.Helper()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if w := served.Post(g.Inside+"/cvs", gatewaytest.IssueBody(fmt.Sprintf("order-%d", n))); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkOrderChecks decides webhooks with several checks, each a route without a network: a
// check costs the same however many there are.
func BenchmarkOrderChecks(b *testing.B) {
	for _, checks := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprint(checks), func(b *testing.B) {
			g, config := gatewaytest.Prepare(b, gatewaytest.Setup{Account: "transport test_forgetful", Confirm: strings.Repeat(gatewaytest.RouteCheck, checks)})
			served := gatewaytest.LoadSites(b, gatewaytest.LogErrorsOnly(config, g.LogFile))
			issue := served.Post(g.Inside+"/cvs", gatewaytest.IssueBody("order-1"))
			i := gatewaytest.Issued{ImpUID: "imp_order-1", MerchantUID: "order-1", Barcode: "12345678901234567890"}
			i.ConfirmURL = gatewaytest.Answer{Body: issue.Body.String()}.Payment(b)["confirm_url"].(string)
			body := i.Webhook()
			b.ReportAllocs()
			for b.Loop() {
				if w := served.Post(i.ConfirmURL, body); w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(checks), "ns/check")
		})
	}
}

// BenchmarkLoad loads and reloads a configuration with many accounts.
func BenchmarkLoad(b *testing.B) {
	for _, accounts := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			_, config := gatewaytest.Prepare(b, gatewaytest.Setup{Account: manyAccounts(b, accounts)})
			b.Cleanup(func() { require.NoError(b, caddy.Stop()) })
			began := time.Now()
			require.NoError(b, gatewaytest.Reload(b, config))
			first := time.Since(began)
			n := 0
			for b.Loop() {
				n++
				require.NoError(b, gatewaytest.Reload(b, strings.Replace(config, "next handler", fmt.Sprintf("reload %d", n), 1)))
			}
			b.ReportMetric(float64(first.Milliseconds()), "ms-first")
		})
	}
}
