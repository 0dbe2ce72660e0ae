package caddycvs

// This file holds the test of the documents' table of what each fault of the sandbox moves. It runs in no
// other test's company: the metrics are the process's.

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// faultRows are the faults of the rows of the documents' table, by their first cell.
var faultRows = map[string][]emulator.Fault{
	"`delay`, shorter than `timeout`":      {{Delay: 10 * time.Millisecond}},
	"`delay`, longer":                      {{Delay: 4 * faultTimeout}},
	"`code`":                               {{Code: 1}},
	"`status` 401":                         {{Status: 401, Times: 2}},
	"`status` 429":                         {{Status: 429}},
	"another 4xx":                          {{Status: 400}},
	"5xx":                                  {{Status: 503}},
	"`done` with `code`":                   {{Code: 1, Done: true}},
	"`late`, within `timeout`":             {{Late: 500 * time.Millisecond}},
	"`late`, beyond it":                    {{Late: time.Minute}},
	"`drop` `before`":                      {{Drop: emulator.DropBefore}},
	"`drop` `after`":                       {{Drop: emulator.DropAfter}},
	"`drop` `body`":                        {{Drop: emulator.DropBody}},
	"`garbage`":                            {{Garbage: true}},
	"`oversized`":                          {{Oversized: true}},
	"`expired_token`":                      {{ExpiredToken: true, Times: 1}},
	"`stale`":                              {{Stale: time.Minute}},
	"`omit`":                               {{Omit: "vbank_num"}},
	"`duplicate`":                          {{Duplicate: true}},
	"`forged` `signature`, `merchant_uid`": {{Forged: emulator.ForgedSignature}, {Forged: emulator.ForgedMerchantUID}},
	"`forged` `amount`":                    {{Forged: emulator.ForgedAmount}},
	"`forged` `unsigned`":                  {{Forged: emulator.ForgedUnsigned}},
}

// The time-outs of the account: the short one where the test has to wait for it.
const (
	faultTimeout = 600 * time.Millisecond
	longTimeout  = 5 * time.Second
)

func timeoutFor(fault *emulator.Fault) time.Duration {
	if fault.Delay > faultTimeout || fault.Late > longTimeout || fault.Drop == emulator.DropBefore {
		return faultTimeout
	}
	return longTimeout
}

// The columns of the table.
const (
	issueColumn = iota + 1
	callColumn
	otherColumn
	tokenColumn
	confirmColumn
	noticeColumn
)

// faultCall is a call that reaches an endpoint.
type faultCall struct {
	endpoint                        emulator.Endpoint
	column                          int
	operation, method, target, body string
	instead                         map[string]string // an outcome that this call has in place of the table's
}

const form = "merchant_uid=NEW&amount=15000"

var faultCalls = []faultCall{
	{emulator.EndpointIssue, issueColumn, "issue", http.MethodPost, "/cvs", form, nil},
	{emulator.EndpointPayment, callColumn, "payment", http.MethodGet, "/payments/IMP?include_sandbox=true", "", nil},
	{emulator.EndpointFind, callColumn, "find", http.MethodGet, "/payments/find/ORDER?include_sandbox=true", "", nil},
	{emulator.EndpointVoid, callColumn, "void", http.MethodDelete, "/cvs/IMP", "", nil},
	{emulator.EndpointFindAll, otherColumn, "find_all", http.MethodGet, "/payments/findAll/ORDER?include_sandbox=true", "", nil},
	{emulator.EndpointList, otherColumn, "list", http.MethodGet, "/payments/status/ready?include_sandbox=true", "", nil},
	{emulator.EndpointPayments, otherColumn, "other", http.MethodGet, "/payments?imp_uid[]=IMP&include_sandbox=true", "", map[string]string{"stale": "refused"}},
	{emulator.EndpointBalance, otherColumn, "other", http.MethodGet, "/payments/IMP/balance", "", map[string]string{"ok": "refused"}},
	{emulator.EndpointCancel, otherColumn, "other", http.MethodPost, "/payments/cancel", "imp_uid=IMP", map[string]string{"ok": "refused"}},
	{emulator.EndpointPrepare, otherColumn, "other", http.MethodPost, "/payments/prepare", "merchant_uid=NEW&amount=1", nil},
	{emulator.EndpointCard, otherColumn, "other", http.MethodPost, "/subscribe/payments/onetime", "merchant_uid=NEW&amount=1000&card_number=1234-1234-1234-1234&expiry=2030-01", nil},
	{emulator.EndpointToken, tokenColumn, "", http.MethodGet, "/payments/IMP?include_sandbox=true", "", nil},
	{emulator.EndpointConfirm, confirmColumn, "", http.MethodPost, "/till", "barcode=BARCODE&pay_type=cash", nil},
	{emulator.EndpointNotice, noticeColumn, "", http.MethodPost, "/till", "barcode=BARCODE&pay_type=cash", nil},
}

// Each fault moves what the documents' table says, and nothing else.
func TestFaultsMoveTheirMetrics(t *testing.T) {
	rows := tableRows(t, "faults")
	assert.Len(t, rows, len(faultRows))
	for _, row := range rows {
		faults, known := faultRows[row[0]]
		require.True(t, known, row[0])
		for _, fault := range faults {
			for _, call := range faultCalls {
				fault.Endpoint = call.endpoint
				possible := emulator.New(emulator.Options{}).Inject(fault) == nil
				want := call.expects(row)
				if call.column != callColumn && call.column != otherColumn && (call.column < confirmColumn || fault.Drop != emulator.DropBefore) {
					assert.Equal(t, possible, want != nil, "%s, %s", row[0], call.endpoint)
				}
				if possible {
					t.Run(row[0]+" "+string(call.endpoint), func(t *testing.T) { call.run(t, fault, want) })
				}
			}
		}
	}
}

var seriesInRow = regexp.MustCompile("`(\\w+(?:\\{[^`]*\\})?)`")

// expects returns the series that move, nil for an empty cell.
func (c *faultCall) expects(row []string) (want []string) {
	for _, match := range seriesInRow.FindAllStringSubmatch(row[c.column], -1) {
		series := strings.Replace(match[1], "{*,", "{"+c.operation+",", 1)
		for outcome, instead := range c.instead {
			if outcome == "ok" || strings.Contains(row[0], outcome) {
				series = strings.Replace(series, c.operation+",ok}", c.operation+","+instead+"}", 1)
			}
		}
		want = append(want, series)
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		first, _, _ := strings.Cut(labels, ",")
		switch name {
		case "api_requests_total":
			want = append(want, "api_duration_seconds{"+first+"}")
		case "confirms_total":
			want = append(want, "confirm_duration_seconds")
			if first == accepted {
				want = append(want, "check_duration_seconds{1,yes}")
			}
		}
	}
	return want
}

// run has the call meet the fault in a gateway of its own.
func (c *faultCall) run(t *testing.T, fault emulator.Fault, want []string) {
	setup := gatewaytest.Setup{Account: "timeout " + timeoutFor(&fault).String(), Proxy: gatewaytest.UsualProxy + "\nserve all"}
	if c.column == noticeColumn {
		setup.Proxy += "\nnotice_url OUTSIDE/cvs/notice"
		setup.Notice = "tell SHOP/told {\nrequire payable true\n}\nsweep off"
		want = append(want, "confirms_total{accepted,ok}", "confirm_duration_seconds", "check_duration_seconds{1,yes}")
	}
	g, config := gatewaytest.Prepare(t, setup)
	start := func() {
		require.NoError(t, gatewaytest.Reload(t, config))
		g.HTTP.CloseIdleConnections()
	}
	start()
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	i := g.MustIssue(t, "order-1")
	if c.column == tokenColumn {
		require.NoError(t, caddy.Stop())
		start()
	}
	require.NoError(t, g.API.Inject(fault))
	before := gathered(t)
	fill := strings.NewReplacer("IMP", i.ImpUID, "ORDER", i.MerchantUID, "NEW", "order-2", "BARCODE", i.Barcode)
	base, contentType := g.Inside, ""
	if strings.HasPrefix(c.target, "/till") {
		base = g.APIURL
	}
	if c.body != "" {
		contentType = gatewaytest.FormType
	}
	g.Do(t, c.method, base+fill.Replace(c.target), contentType, fill.Replace(c.body))
	slices.Sort(want)
	want = slices.Compact(want)
	var got []string
	for range 1000 { // what follows an answer, and a fetch that has more time than the call
		if got = counted(moved(before, gathered(t))); slices.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	assert.Equal(t, want, got)
}

// counted leaves out the gauges of the ledger, which are counted when it is time.
func counted(series []string) []string {
	return slices.DeleteFunc(series, func(s string) bool {
		return strings.HasPrefix(s, "barcodes") || strings.HasPrefix(s, "tells_pending") || strings.HasPrefix(s, "tell_oldest") || strings.HasPrefix(s, "tells_waiting")
	})
}

// tableRows returns the cells of the rows of a table of the documents, between two comments.
func tableRows(t testing.TB, name string) (rows [][]string) {
	t.Helper()
	return cellsOf(between(t, documents(t), name))
}

// cellsOf returns the cells of a table's rows, without its head.
func cellsOf(table string) (rows [][]string) {
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows[2:]
}
