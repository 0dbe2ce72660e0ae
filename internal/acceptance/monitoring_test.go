package acceptance

// This file holds the test of examples/monitoring: a real Prometheus reads a gateway while the sandbox and
// the shop fail, and each alert fires for its fault, and for no other. Without Prometheus it is skipped; CI
// installs it.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// monitoring is the directory of the example.
const monitoring = "../../examples/monitoring"

// monitoringProgram returns the path of a program of Prometheus.
func monitoringProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("the alerts were not tested: " + name + " is not installed (Debian's package prometheus)")
	}
	return path
}

// readExample returns a file of the example.
func readExample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, name))
	require.NoError(t, err)
	return string(text)
}

func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool := monitoringProgram(t, "promtool")
	for _, command := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, command...)
		cmd.Dir = monitoring
		output, err := cmd.CombinedOutput()
		assert.NoError(t, err, "%s", output)
	}
	// The README explains every alert.
	var named, explained []string
	for _, match := range regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(readExample(t, "alerts.yml"), -1) {
		named = append(named, match[1])
	}
	for _, match := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(readExample(t, "README.md"), -1) {
		explained = append(explained, match[1])
	}
	assert.Equal(t, slices.Sorted(slices.Values(explained)), slices.Sorted(slices.Values(named)))
}

const (
	// shortMinute is how long a minute of the rules is in the test.
	shortMinute = 300 * time.Millisecond
	scrapeEvery = shortMinute / 2
	// shortSeconds is how many seconds a minute is in which an order waits: the ledger is counted every 15 s.
	shortSeconds = 2
)

var (
	ruleDuration = regexp.MustCompile(`\b(\d+)([mhd])\b`)
	ruleSeconds  = regexp.MustCompile(`\b(\d+) \* 60\b`)
)

// shortened returns rules with short minutes.
func shortened(t *testing.T, rules string) string {
	t.Helper()
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	var lines []string
	for line := range strings.Lines(rules) {
		if what := strings.TrimSpace(line); !strings.HasPrefix(what, "summary:") && !strings.HasPrefix(what, "description:") {
			line = ruleDuration.ReplaceAllStringFunc(line, func(text string) string {
				match := ruleDuration.FindStringSubmatch(text)
				minutes := map[string]int{"m": 1, "h": 60, "d": 24 * 60}[match[2]]
				return fmt.Sprintf("%dms", (time.Duration(number(match[1])*minutes) * shortMinute).Milliseconds())
			})
			line = ruleSeconds.ReplaceAllStringFunc(line, func(text string) string {
				return strconv.Itoa(number(ruleSeconds.FindStringSubmatch(text)[1]) * shortSeconds)
			})
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// prometheus is a server that evaluates the example's rules.
type prometheus struct{ url string }

// startPrometheus starts one that reads the metrics at an address.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	program, dir := monitoringProgram(t, "prometheus"), t.TempDir()
	config := strings.NewReplacer("localhost:2019", target, "15s", scrapeEvery.String()).Replace(readExample(t, "prometheus.yml"))
	for name, text := range map[string]string{"prometheus.yml": config, "alerts.yml": shortened(t, readExample(t, "alerts.yml"))} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	address := gatewaytest.Address(t)
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn")
	output := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if _ = cmd.Wait(); t.Failed() {
			t.Log(output.String())
		}
	})
	p := &prometheus{"http://" + address}
	require.True(t, eventually(30*time.Second, func() bool {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}), "Prometheus does not come up")
	return p
}

// query returns the results of an expression.
func (p *prometheus) query(t *testing.T, expression string) []gjson.Result {
	t.Helper()
	resp, err := http.PostForm(p.url+"/api/v1/query", url.Values{"query": {expression}})
	require.NoError(t, err)
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "success", gjson.Get(body.String(), "status").Str, "%s: %s", expression, body.String())
	return gjson.Get(body.String(), "data.result").Array()
}

// firing returns the names of the alerts that fire.
func (p *prometheus) firing(t *testing.T) []string {
	t.Helper()
	names := make(map[string]bool)
	for _, alert := range p.query(t, `ALERTS{alertstate="firing"}`) {
		names[alert.Get("metric.alertname").Str] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// watched is a gateway that Prometheus reads, and its shop.
type watched struct {
	*gatewaytest.Gateway
	*prometheus
	admin, config string
	orders        int
	other         io.Closer                        // another process that has the ledger's file
	check, tell   atomic.Pointer[http.HandlerFunc] // what the shop answers instead of the usual
}

func instead(status int, body string) *http.HandlerFunc {
	return new(gatewaytest.AnswerWith(status, body))
}

func (w *watched) shop(rw http.ResponseWriter, r *http.Request) {
	answer := &w.check
	usual := instead(http.StatusOK, `{"payable":true,"total":15000}`)
	if strings.HasPrefix(r.URL.Path, "/payments/") {
		answer, usual = &w.tell, instead(http.StatusOK, `{"heard":true}`)
	}
	(*cmp.Or(answer.Load(), usual))(rw, r)
}

// order returns the number of a new order.
func (w *watched) order() string {
	w.orders++
	return fmt.Sprintf("order-%d", w.orders)
}

// buy asks for a barcode, and pays it if there is one.
func (w *watched) buy(t *testing.T, scenario emulator.Scenario) {
	t.Helper()
	answer := w.Issue(t, w.order())
	if barcode := gjson.Get(answer.Body, "response.vbank_num").Str; barcode != "" {
		w.scan(t, barcode, scenario)
	}
}

func (w *watched) scan(t *testing.T, barcode string, scenario emulator.Scenario) {
	t.Helper()
	_, err := w.API.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode, Scenario: scenario})
	require.NoError(t, err)
}

// payTwice has an order's void barcode paid after its new one.
func (w *watched) payTwice(t *testing.T) {
	t.Helper()
	order := w.order()
	first := w.MustIssue(t, order)
	require.Equal(t, http.StatusOK, w.Do(t, http.MethodDelete, w.Inside+"/cvs/"+first.ImpUID, "", "").Status)
	w.scan(t, w.MustIssue(t, order).Barcode, "")
	w.scan(t, first.Barcode, emulator.ScenarioAfterVoid)
}

// alarm is an alert, and the fault for which it fires.
type alarm struct {
	name   string
	begin  func(t *testing.T, w *watched)
	strike func(t *testing.T, w *watched) // again and again
	end    func(t *testing.T, w *watched)
}

func buys(t *testing.T, w *watched) { t.Helper(); w.buy(t, "") }
func rests(*testing.T, *watched)    {}

// injects has the API fail at an endpoint.
func injects(f emulator.Fault) func(*testing.T, *watched) {
	return func(t *testing.T, w *watched) { t.Helper(); require.NoError(t, w.API.Inject(f)) }
}

func mends(_ *testing.T, w *watched) {
	w.API.ClearFaults()
	w.check.Store(nil)
	w.tell.Store(nil)
}

func checks(status int, body string) func(*testing.T, *watched) {
	return func(_ *testing.T, w *watched) { w.check.Store(instead(status, body)) }
}

// tells pays an order of which the shop does not hear.
func tells(status int) func(*testing.T, *watched) {
	return func(t *testing.T, w *watched) { t.Helper(); w.tell.Store(instead(status, "")); w.buy(t, "") }
}

func (w *watched) start(t *testing.T) {
	t.Helper()
	require.NoError(t, gatewaytest.Reload(t, w.config))
	w.HTTP.CloseIdleConnections()
}

// noGateway is a Caddy that shows nothing.
const noGateway = "{\nadmin off\npersist_config off\n}\n"

// alarms are all alerts. Wrong keys are tried again after two minutes only, so they come last.
var alarms = []alarm{
	{"CvsLedgerDown", rests, buys, func(t *testing.T, w *watched) { t.Helper(); require.NoError(t, w.other.Close()) }},
	{"CvsIssuesFail", injects(emulator.Fault{Endpoint: emulator.EndpointIssue, Status: http.StatusServiceUnavailable}), buys, mends},
	{"CvsIssuesInDoubt", injects(emulator.Fault{Endpoint: emulator.EndpointIssue, Drop: emulator.DropAfter}), buys, mends},
	{"CvsConfirmsUnanswered", checks(http.StatusInternalServerError, ""), buys, mends},
	{"CvsRefusalsJump", checks(http.StatusOK, `{"payable":false,"total":15000}`), buys, mends},
	{"CvsWebhooksInvalid", rests, func(t *testing.T, w *watched) { t.Helper(); w.buy(t, emulator.ScenarioForgedSignature) }, rests},
	{"CvsTellsLate", tells(http.StatusServiceUnavailable), rests, mends},
	{"CvsPersonNeeded", tells(http.StatusNotFound), rests, func(t *testing.T, w *watched) {
		t.Helper()
		mends(t, w)
		answer := w.Do(t, http.MethodPost, w.admin+"/cvs/retry", gatewaytest.JSONType, `{"all":true}`)
		assert.JSONEq(t, `{"retried":1}`, answer.Body)
	}},
	{"CvsDoublePayment", func(t *testing.T, w *watched) { t.Helper(); w.payTwice(t) }, rests, rests},
	{"CvsGatewayDown", func(t *testing.T, _ *watched) { t.Helper(); require.NoError(t, gatewaytest.Reload(t, noGateway)) }, rests, func(t *testing.T, w *watched) { t.Helper(); w.start(t) }},
	{"CvsTokenFetchFails", func(t *testing.T, w *watched) {
		t.Helper()
		injects(emulator.Fault{Endpoint: emulator.EndpointToken, Status: http.StatusServiceUnavailable})(t, w)
		w.API.ExpireTokens()
	}, buys, func(t *testing.T, w *watched) {
		t.Helper()
		mends(t, w)
		require.True(t, eventually(30*time.Second, func() bool { return w.Issue(t, w.order()).Status == http.StatusOK }), "a token is fetched again")
	}},
	{"CvsCredentialsRefused", func(t *testing.T, w *watched) {
		t.Helper()
		injects(emulator.Fault{Endpoint: emulator.EndpointToken, Status: http.StatusUnauthorized})(t, w)
		w.API.ExpireTokens()
	}, buys, nil},
}

// Each alert fires while its fault lasts, and no other one does. Without a fault, and without any traffic,
// none fires.
func TestAlertsFireForTheirFaults(t *testing.T) {
	w := new(watched)
	var config string
	w.Gateway, config = gatewaytest.Prepare(t, gatewaytest.Setup{
		Payable: w.shop, Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice",
		Notice: gatewaytest.UsualNotice + "\nretry 1s\nintervals 100ms 300ms 1s\nsweep 1s",
	})
	admin := gatewaytest.Address(t)
	w.admin, w.config = "http://"+admin, strings.Replace(config, "admin off", "admin "+admin, 1)
	var err error
	w.other, err = boltstore.Open(w.Ledger, boltstore.Options{})
	require.NoError(t, err)
	w.start(t)
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	w.prometheus = startPrometheus(t, admin)
	var named []string
	for _, a := range alarms {
		named = append(named, a.name)
		w.alarm(t, a)
		if a.name == "CvsLedgerDown" {
			w.rest(t)
		}
	}
	all := regexp.MustCompile(`(?m)^ *- alert: (\w+)$`).FindAllStringSubmatch(readExample(t, "alerts.yml"), -1)
	assert.Len(t, all, len(named), "each alert of the example is tested")
	w.requirePanels(t)
}

// alarm makes a fault until its alert fires, and ends it.
func (w *watched) alarm(t *testing.T, a alarm) {
	t.Helper()
	began := time.Now()
	a.begin(t, w)
	fires := func() bool {
		firing := w.firing(t)
		require.Subset(t, []string{a.name}, firing, "while the fault of %s lasts", a.name)
		return len(firing) > 0
	}
	for until := time.Now().Add(time.Minute); !fires(); {
		require.Less(t, time.Now(), until, "%s does not fire", a.name)
		a.strike(t, w)
		time.Sleep(scrapeEvery / 3)
	}
	fired := time.Since(began)
	for range 10 { // as long as the fault lasts
		a.strike(t, w)
		require.True(t, fires(), "%s ends while its fault lasts", a.name)
		time.Sleep(scrapeEvery / 3)
	}
	if a.end == nil {
		return
	}
	a.end(t, w)
	ended := time.Now()
	require.True(t, eventually(time.Minute, func() bool { return !fires() }), "%s does not end", a.name)
	t.Logf("%s fired after %s, and ended after %s", a.name, fired.Round(time.Millisecond), time.Since(ended).Round(time.Millisecond))
}

// rest lets a night pass without traffic, and then a good day.
func (w *watched) rest(t *testing.T) {
	t.Helper()
	for _, buys := range []bool{false, true} {
		for range 40 {
			if buys {
				w.buy(t, "")
			}
			require.Empty(t, w.firing(t), "nothing is wrong")
			time.Sleep(scrapeEvery / 3)
		}
	}
}

// requirePanels requires that each query of the dashboard returns data.
func (w *watched) requirePanels(t *testing.T) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(readExample(t, "dashboard.json")), &dashboard))
	asked := 0
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			asked++
			expression := strings.NewReplacer("$__rate_interval", "5m", "$job", ".+").Replace(target.Expr)
			hasNumber := func(r gjson.Result) bool { return r.Get("value.1").Str != "NaN" }
			assert.True(t, slices.ContainsFunc(w.query(t, expression), hasNumber), "%s: %s has no data", panel.Title, expression)
		}
	}
	assert.Greater(t, asked, 20)
}
