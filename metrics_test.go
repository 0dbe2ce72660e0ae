package caddycvs

// This file holds tests of the metrics: their tables in the documents, their labels, and reloads.

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

var (
	quoted      = regexp.MustCompile("`([^`]*)`")
	description = regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: \{([^}]*)\}`)
)

// words returns what stands between backquotes.
func words(text string) (list []string) {
	for _, match := range quoted.FindAllStringSubmatch(text, -1) {
		list = append(list, match[1])
	}
	return list
}

// described returns the labels of each metric of a configuration, by its name.
func described(perAccount bool) map[string][]string {
	m := newMetrics(&Metrics{PerAccount: perAccount})
	descs := make(chan *prometheus.Desc, 100)
	for _, c := range append(slices.Clone(m.shown().all), newAppCollector(&App{metrics: m})) {
		c.Describe(descs)
	}
	close(descs)
	labels := make(map[string][]string)
	for desc := range descs {
		match := description.FindStringSubmatch(desc.String())
		labels[match[1]] = strings.FieldsFunc(match[2], func(r rune) bool { return r == ',' })
	}
	return labels
}

// existing returns the values that each label of a metric has from the start, as "metric label".
func existing(t *testing.T) map[string][]string {
	t.Helper()
	fresh, registry := newCounters(false), prometheus.NewPedanticRegistry()
	fresh.exist("")
	registry.MustRegister(fresh.all...)
	families, err := registry.Gather()
	require.NoError(t, err)
	values := make(map[string][]string)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				key := family.GetName() + " " + label.GetName()
				if !slices.Contains(values[key], label.GetValue()) {
					values[key] = append(values[key], label.GetValue())
				}
			}
		}
	}
	for _, state := range stateWords {
		values["caddy_cvs_barcodes state"] = append(values["caddy_cvs_barcodes state"], string(state))
	}
	for _, verdict := range checkVerdicts {
		values["caddy_cvs_check_duration_seconds verdict"] = append(values["caddy_cvs_check_duration_seconds verdict"], verdict)
	}
	return values
}

func TestDocumentedMetrics(t *testing.T) {
	t.Parallel()
	rows, values := tableRows(t, "metrics"), existing(t)
	documented := make(map[string][]string)
	for _, row := range rows {
		name := words(row[0])[0]
		labels := []string{}
		for part := range strings.SplitSeq(row[1], ";") {
			label, list, listed := strings.Cut(part, ":")
			for _, l := range words(label) {
				labels = append(labels, l)
				if listed {
					assert.ElementsMatch(t, values[name+" "+l], words(list), "%s, %s", name, l)
				}
			}
		}
		documented[name] = labels
		require.Len(t, row, 4, name)
		assert.NotEmpty(t, row[2], name)
	}
	for name, labels := range described(false) {
		require.Contains(t, documented, name)
		assert.ElementsMatch(t, labels, documented[name], name)
		delete(documented, name)
	}
	assert.Empty(t, documented, "there are no such metrics")

	var outcomes []string
	for _, row := range tableRows(t, "outcomes") {
		outcomes = append(outcomes, words(row[0])[0])
	}
	assert.Equal(t, values["caddy_cvs_api_requests_total outcome"], slices.Sorted(slices.Values(outcomes)))
	assert.Len(t, outcomes, len(client.Outcomes))
	causes, verdict := make(map[string][]string), ""
	for _, row := range tableRows(t, "causes") {
		if list := words(row[0]); list != nil {
			verdict = list[0]
		}
		causes[verdict] = append(causes[verdict], words(row[1])...)
	}
	assert.Len(t, causes, len(confirmCauses))
	for verdict, list := range confirmCauses {
		assert.ElementsMatch(t, list, causes[verdict], verdict)
	}
}

// The label account is on each metric that is about an account, and only if it is asked for.
func TestPerAccountLabel(t *testing.T) {
	t.Parallel()
	plain := described(false)
	for name, labels := range described(true) {
		if name == "caddy_cvs_ledger_up" {
			assert.Empty(t, labels)
			continue
		}
		assert.Equal(t, append(slices.Clone(plain[name]), labelAccount), append(slices.DeleteFunc(labels, func(l string) bool { return l == labelAccount }), labelAccount), name)
	}
}

// constants returns the values of the package's text constants with a prefix.
func constants(t *testing.T, prefix string) map[string]string {
	t.Helper()
	values := make(map[string]string)
	for _, file := range sources(t, ".") {
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, prefix) {
				return true
			}
			if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
				value, err := strconv.Unquote(literal.Value)
				require.NoError(t, err)
				values[spec.Names[0].Name] = value
			}
			return true
		})
	}
	return values
}

// A new cause needs a word, and so does a new rule.
func TestEachCauseHasAWord(t *testing.T) {
	t.Parallel()
	var all []string
	for _, list := range confirmCauses {
		all = append(all, list...)
	}
	for name, value := range constants(t, "cause") {
		switch name {
		case "causeOnError", "causeLookUp", "causeHTML": // prefixes, and one that only a tell has
		default:
			assert.Contains(t, causeWords, value, name)
		}
	}
	for name, value := range constants(t, "rule") {
		if name != "ruleBrowser" && name != "ruleServe" { // of cvs_proxy only
			assert.Contains(t, ruleWords, value, name)
		}
	}
	for _, word := range slices.Concat(slices.Collect(maps.Values(causeWords)), slices.Collect(maps.Values(ruleWords))) {
		assert.Contains(t, all, word)
	}
}

func TestConfirmLabels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    record
		want string
	}{
		{record{verdict: accepted}, "accepted ok"},
		{record{verdict: accepted, cause: cause{name: "on_error: timed out"}}, "accepted on_error"},
		{record{verdict: refused, cause: cause{name: causeStatus}}, "refused status"},
		{record{verdict: refused, cause: cause{causeStatus, setupFault(404)}}, "refused setup"},
		{record{verdict: refused, cause: cause{causeCondition, "stock is false"}}, "refused condition"},
		{record{verdict: unanswered, cause: cause{name: causeTimeout}}, "unanswered timeout"},
		{record{verdict: unanswered, cause: cause{"look-up: timed out", "x"}}, "unanswered look_up"},
		{record{verdict: invalid, rule: ruleAllow, cause: cause{name: "forbidden"}}, "invalid address"},
		{record{verdict: invalid, rule: ruleLookup, cause: cause{name: "forbidden"}}, "invalid unsigned"},
		{record{verdict: invalid, cause: cause{name: causeAnotherAmount}}, "invalid other_amount"},
		{record{}, "unanswered defect"},
		{record{verdict: refused, cause: cause{name: "a cause that has no word"}}, "refused defect"},
	} {
		verdict, cause := confirmLabels(&c.r)
		assert.Equal(t, c.want, verdict+" "+cause)
	}
	for _, status := range []int{400, 405, 408, 413, 415} {
		e := &httpError{status: status}
		_, cause := confirmLabels(&record{verdict: invalid, cause: e.logCause()})
		assert.Contains(t, confirmCauses[invalid], cause, status)
	}
}

// appOf returns an app with these accounts, of which nobody asks the API.
func appOf(t *testing.T, options *Metrics, names ...string) *App {
	t.Helper()
	a := &App{ledger: new(appLedger), metrics: newMetrics(options), accounts: make(map[string]*account)}
	for _, name := range names {
		c, err := client.New(client.Config{ImpKey: "k", ImpSecret: "s"})
		require.NoError(t, err)
		a.accounts[name] = &account{client: c}
	}
	return a
}

func gaugesOf(t *testing.T, a *App, counts ledger.Counts) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	c := newAppCollector(a)
	registry.MustRegister(c)
	got := gatheredFrom(t, registry)
	c.collectCounts(counts, func(desc *prometheus.Desc, value float64, labels ...string) {
		match := description.FindStringSubmatch(desc.String())
		got[strings.TrimPrefix(match[1], "caddy_cvs_")+fmt.Sprint(labels)] = value
	})
	return got
}

func TestLedgersGauges(t *testing.T) {
	t.Parallel()
	counts := ledger.Counts{
		Tells:    map[string]ledger.TellCounts{"": {Pending: 2, Waiting: 1, Oldest: time.Minute}, "second": {Pending: 3, Oldest: time.Hour}, "gone": {Pending: 9}},
		Barcodes: map[string]map[ledger.State]int{"": {ledger.Issued: 4}, "second": {ledger.Issued: 1, ledger.Paid: 2, "newer": 1}, "gone": {ledger.Paid: 9}},
	}
	got := gaugesOf(t, appOf(t, nil, "", "second"), counts)
	assert.Equal(t, map[string]float64{
		"token_valid": 1, "tells_pending[]": 5, "tells_waiting_for_a_person[]": 1, "tell_oldest_pending_seconds[]": 3600,
		"barcodes[asked]": 0, "barcodes[issued]": 5, "barcodes[void]": 0, "barcodes[expired]": 0, "barcodes[failed]": 0, "barcodes[paid]": 2, "barcodes[refunded]": 0,
	}, got)
	got = gaugesOf(t, appOf(t, &Metrics{PerAccount: true}, "", "second"), counts)
	for series, want := range map[string]float64{
		"tells_pending[]": 2, "tells_pending[second]": 3, "tell_oldest_pending_seconds[]": 60, "barcodes[issued second]": 1, "token_valid{second}": 1,
	} {
		assert.InDelta(t, want, got[series], 0, series)
	}
	assert.Len(t, got, 2*(1+3+7))

	assert.Equal(t, map[string]float64{"token_valid": 1}, gaugesOf(t, appOf(t, nil, ""), ledger.Counts{}), "nothing was counted yet")
	down := appOf(t, nil, "")
	down.ledger.needed, down.ledger.place = true, new(knownPlace)
	assert.Equal(t, map[string]float64{"token_valid": 1, "ledger_up": 1}, gaugesOf(t, down, ledger.Counts{}), "it is not open yet")
	down.ledger.used = &pooledLedger{Ledger: ledger.New(ledger.Options{})}
	assert.Equal(t, map[string]float64{"token_valid": 1, "ledger_up": 0}, gaugesOf(t, down, ledger.Counts{}))
}

// What the ledger reports is counted.
func TestReportsAreCounted(t *testing.T) {
	a := quietApp(t)
	p := &pooledLedger{apps: []*App{a}}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(totals.all...)
	before := gatheredFrom(t, registry)
	p.report(ledger.Event{Message: "m", Key: ledger.Key{Order: "o"}, Kind: ledger.PaidTwice})
	p.report(ledger.Event{Message: "m", Key: ledger.Key{Order: "o"}, Kind: ledger.GaveUp})
	p.report(ledger.Event{Message: "m"})
	assert.Equal(t, []string{"double_payments_total", "tells_total{gave_up}"}, moved(before, gatheredFrom(t, registry)))
}

// A webhook that no cvs_confirm takes is counted, and a request that cvs_notice passes on.
func TestPassedRequestsAreCounted(t *testing.T) {
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Notice: gatewaytest.UsualNotice + "\nsweep off"})
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	i := g.MustIssue(t, "order-1")
	for _, c := range []struct{ target, body, want string }{
		{strings.Replace(i.ConfirmURL, "/cvs/confirm", "/cvs/elsewhere", 1), i.Webhook(), "confirms_total{invalid,unrouted}"},
		{g.Outside + "/cvs/notice", `{"imp_uid":"imp_other","merchant_uid":"o","status":"paid"}`, "notices_total{unsigned,unknown}"},
		{g.Outside + "/cvs/notice", `{"anything":1}`, "notices_total{unsigned,passed}"},
		{g.Outside + "/cvs/notice?cvs_sig=x", `{"imp_uid":"imp_other","merchant_uid":"o","status":"paid"}`, "notices_total{signed,refused}"},
	} {
		before := gathered(t)
		g.Do(t, http.MethodPost, c.target, gatewaytest.JSONType, c.body)
		require.Eventually(t, func() bool { return slices.Equal([]string{c.want}, counted(moved(before, gathered(t)))) }, 10*time.Second, time.Millisecond, c.want)
	}
}

// Neither a reload nor a second handler resets, doubles or freezes a metric, with or without the label.
func TestMetricsSurviveReloads(t *testing.T) {
	other := "http://" + gatewaytest.Address(t)
	g, plain := gatewaytest.Prepare(t, gatewaytest.Setup{Sites: other + " {\ncvs_confirm /cvs/confirm {" + gatewaytest.UsualConfirm + "\n}\ncvs_proxy\n}\n"})
	labelled := strings.Replace(plain, "api http", "metrics {\nper_account\n}\napi http", 1)
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	require.NoError(t, gatewaytest.Reload(t, plain))
	begun := gathered(t)
	confirmed, orders := 0, 0
	confirm := func() {
		t.Helper()
		orders++
		i := gatewaytest.Issued{MerchantUID: fmt.Sprintf("order-%d", orders)}
		i.ImpUID = issueAgain(g, i.MerchantUID).Payment(t)["imp_uid"].(string)
		signed, _ := g.API.WebhookURLs(i.ImpUID)
		for _, site := range []string{g.Outside, other} {
			require.Eventually(t, func() bool { // a connection of before the reload breaks
				resp, err := g.HTTP.Post(strings.Replace(signed, g.Outside, site, 1), gatewaytest.JSONType, strings.NewReader(i.Webhook()))
				if err != nil {
					return false
				}
				defer resp.Body.Close()
				return assert.Equal(t, http.StatusOK, resp.StatusCode)
			}, 10*time.Second, time.Millisecond)
			confirmed++
		}
	}
	is := func(series string, want float64) {
		t.Helper()
		require.Eventually(t, func() bool { return gathered(t)[series]-begun[series] == want }, 10*time.Second, time.Millisecond, "%s: %v", series, gathered(t)[series]-begun[series])
	}
	const accepts, issues = "confirms_total{accepted,ok}", "api_requests_total{issue,ok}"
	for range 3 {
		confirm()
		is(accepts, float64(confirmed))
		is(issues, float64(orders))
		require.NoError(t, gatewaytest.Reload(t, plain))
		is(accepts, float64(confirmed))
	}
	require.Error(t, gatewaytest.Reload(t, strings.Replace(plain, "{env.CVS_TEST_KEY}", "{env.CVS_TEST_UNSET}", 1)))
	confirm()
	is(accepts, float64(confirmed))

	require.NoError(t, gatewaytest.Reload(t, labelled))
	assert.NotContains(t, gathered(t), accepts)
	begun = gathered(t)
	confirm()
	is("confirms_total{accepted,ok,}", 2)
	require.NoError(t, gatewaytest.Reload(t, labelled))
	is("confirms_total{accepted,ok,}", 2)
	require.NoError(t, gatewaytest.Reload(t, plain))
	begun = map[string]float64{accepts: gathered(t)[accepts] - float64(confirmed)}
	confirm()
	is(accepts, float64(confirmed))
}

// Accounts make no series unless they are asked for.
func TestManyAccountsMakeNoSeries(t *testing.T) {
	series := func(accounts int, options *Metrics) map[string]float64 {
		app := App{Accounts: make(map[string]*Account), Metrics: options, Ledger: &Ledger{LedgerPlace: LedgerPlace{Store: ledgerOff}}}
		for n := range accounts {
			app.Accounts[fmt.Sprintf("shop%d", n)] = &Account{ImpKey: "{env.CVS_TEST_KEY}", ImpSecret: "{env.CVS_TEST_SECRET}"}
		}
		raw, err := json.Marshal(app)
		require.NoError(t, err)
		ctx, err := gatewaytest.Provision(&caddy.Config{AppsRaw: caddy.ModuleMap{"cvs": raw}})
		require.NoError(t, err)
		loaded, err := ctx.App("cvs")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, loaded.(*App).Cleanup()) })
		return gatheredFrom(t, ctx.GetMetricsRegistry())
	}
	few, many, asked := series(1, nil), series(10_000, nil), series(3, &Metrics{PerAccount: true})
	assert.Equal(t, slices.Sorted(maps.Keys(few)), slices.Sorted(maps.Keys(many)))
	assert.Less(t, len(many), 250)
	for _, name := range []string{"shop0", "shop1", "shop2"} {
		assert.Contains(t, asked, "api_requests_total{issue,ok,"+name+"}")
		assert.Contains(t, asked, "token_valid{"+name+"}")
	}
	assert.NotContains(t, asked, "token_valid")
	for _, cause := range confirmCauses[invalid] { // whose a webhook is that is not genuine is not known
		assert.Contains(t, asked, "confirms_total{invalid,"+cause+",}")
	}
}

// Caddy's admin endpoint has the registry of the configuration that was loaded last, also if that failed: its
// metrics are those of the configuration that runs, or every alert would be silent.
func TestMetricsOfTheAdminEndpointAfterAFailedReload(t *testing.T) {
	admin := gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	config = strings.Replace(config, "admin off", "admin "+admin, 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	shown := func() string { return g.Do(t, http.MethodGet, "http://"+admin+"/metrics", "", "").Body }
	g.MustIssue(t, "order-1")
	for name, broken := range map[string]string{
		"before the module": strings.Replace(config, "{env.CVS_TEST_KEY}", "{env.CVS_TEST_UNSET}", 1),
		"behind the module": strings.Replace(config, g.Ledger, "/proc/no/ledger.db", 1),
	} {
		require.Error(t, gatewaytest.Reload(t, broken), name)
		require.Eventually(t, func() bool { return strings.Contains(shown(), "\ncaddy_cvs_token_valid 1\n") }, 10*time.Second, 10*time.Millisecond, name)
		assert.Contains(t, shown(), "\ncaddy_cvs_ledger_up 1\n", name)
		require.Eventually(t, func() bool { return strings.Contains(shown(), "\ncaddy_cvs_tells_pending 0\n") }, 10*time.Second, 10*time.Millisecond, name)
	}
	require.NoError(t, gatewaytest.Reload(t, config))
	require.Eventually(t, func() bool { return strings.Contains(shown(), "\ncaddy_cvs_token_valid 1\n") }, 10*time.Second, 10*time.Millisecond)
}
