package caddycvs

// This file holds tests of what an operator asks on Caddy's admin endpoint.

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// adminLedger stands for the ledger, and notes what it is asked.
type adminLedger struct {
	filter ledger.Filter
	rows   []*ledger.Row
	next   ledger.Key
	asked  string
	accept bool
	err    error
	backup string
}

func (l *adminLedger) Barcodes(_ context.Context, f ledger.Filter) ([]*ledger.Row, ledger.Key, error) {
	l.filter = f
	return l.rows, l.next, l.err
}

func (l *adminLedger) Waiting(context.Context) (person, pending int, err error) { return 2, 7, l.err }

func (l *adminLedger) Retry(_ context.Context, key ledger.Key, acceptAmount bool) (bool, error) {
	l.asked, l.accept = key.Account+"/"+key.Order, acceptAmount
	return key.Order == "order-1", l.err
}

func (l *adminLedger) RetryAll(context.Context) (int, error) {
	l.asked = "all"
	return 5, l.err
}

func (l *adminLedger) WriteBackup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, l.backup)
	return cmp.Or(l.err, err)
}

// ask sends a request to the admin's handler of a path, as Caddy does.
func (l *adminLedger) ask(t *testing.T, method, target, contentType, body string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	a := &Admin{ledger: func() (operatorLedger, error) { return l, nil }}
	return askAdmin(t, a, method, target, contentType, body)
}

func askAdmin(t *testing.T, a *Admin, method, target, contentType, body string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	for _, route := range a.Routes() {
		if route.Pattern == r.URL.Path {
			return w, route.Handler.ServeHTTP(w, r)
		}
	}
	t.Fatalf("no route for %s", target)
	return nil, nil
}

func TestAdminListsBarcodes(t *testing.T) {
	t.Parallel()
	at := func(s string) int64 {
		parsed, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return parsed.UnixMilli()
	}
	l := &adminLedger{next: ledger.Key{Account: "second", Order: "a/b"}, rows: []*ledger.Row{
		{
			Account: "second", Order: "주문 1", Version: 3, Due: 1, Holder: "canary-holder", Queue: ledger.PersonQueue("second"), QueueDue: 1,
			Attempts: []ledger.Attempt{
				{ID: "canary-id", State: ledger.Void, ImpUID: "imp_1", Amount: "15000", Own: "canary-digest", Fields: []string{"canary-field"}, Asked: at("2026-01-01T00:00:00Z"), Status: client.Status("cancelled")},
				{
					ID: "canary-id-2", State: ledger.Refunded, ImpUID: "imp_2", Amount: "15000", PG: "galaxia", ChannelKey: "canary-channel", Late: true,
					Asked: at("2026-01-02T00:00:00Z"), Deadline: at("2026-01-05T00:00:00Z") / 1000, PaidAt: at("2026-01-03T00:00:00Z") / 1000,
					Happenings: []ledger.Happening{
						{Event: tell.Paid, Seen: at("2026-01-03T00:00:01Z"), Done: at("2026-01-03T00:00:02.5Z")},
						{Event: tell.Cancelled, Cancellation: "c1", Seen: at("2026-01-04T00:00:00Z")},
					},
				},
			},
			Hints:   []ledger.Hint{{ImpUID: "imp_2", ID: "canary-id-2"}},
			Telling: ledger.Telling{Since: at("2026-01-04T00:00:00Z"), Tries: 4, Spent: 1, Next: at("2026-01-04T01:00:00Z"), Cause: "status 404", Waiting: at("2026-01-04T02:00:00Z")},
		},
		{Order: "order-2", Attempts: []ledger.Attempt{{State: ledger.Asked, Amount: "1", Asked: at("2026-01-01T00:00:00Z")}}},
		{Order: "order-3", Hints: []ledger.Hint{{ImpUID: "imp_3"}}},
	}}
	w, err := l.ask(t, http.MethodGet, "/cvs/barcodes", "", "")
	require.NoError(t, err)
	assert.Equal(t, 200, w.Code)
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.JSONEq(t, `{"waiting":2,"pending":7,"next":"second/a/b","barcodes":[
		{"account":"second","merchant_uid":"주문 1","state":"refunded","attempts":[
			{"imp_uid":"imp_1","state":"void","amount":"15000","asked":"2026-01-01T00:00:00Z"},
			{"imp_uid":"imp_2","state":"refunded","amount":"15000","pg":"galaxia","asked":"2026-01-02T00:00:00Z","deadline":"2026-01-05T00:00:00Z","paid":"2026-01-03T00:00:00Z","late":true,"events":[
				{"event":"paid","seen":"2026-01-03T00:00:01Z","heard":"2026-01-03T00:00:02.5Z"},
				{"event":"cancelled","cancellation_id":"c1","seen":"2026-01-04T00:00:00Z"}]}],
			"telling":{"since":"2026-01-04T00:00:00Z","tries":4,"next":"2026-01-04T01:00:00Z","cause":"status 404","waiting":"2026-01-04T02:00:00Z"}},
		{"account":"","merchant_uid":"order-2","state":"asked","attempts":[{"state":"asked","amount":"1","asked":"2026-01-01T00:00:00Z"}]},
		{"account":"","merchant_uid":"order-3","state":"","attempts":[]}
	]}`, w.Body.String())
	assert.NotContains(t, w.Body.String(), "canary")

	l.rows, l.next = nil, ledger.Key{}
	w, err = l.ask(t, http.MethodGet, "/cvs/barcodes", "", "")
	require.NoError(t, err)
	assert.JSONEq(t, `{"waiting":2,"pending":7,"barcodes":[]}`, w.Body.String(), "the last page")
}

func TestAdminFiltersBarcodes(t *testing.T) {
	t.Parallel()
	l := new(adminLedger)
	for query, want := range map[string]ledger.Filter{
		"":                                     {},
		"?order=a%2Fb":                         {Order: "a/b"},
		"?state=asked":                         {State: ledger.Asked},
		"?state=issued":                        {State: ledger.Issued},
		"?state=void":                          {State: ledger.Void},
		"?state=expired":                       {State: ledger.Expired},
		"?state=failed":                        {State: ledger.Failed},
		"?state=paid":                          {State: ledger.Paid},
		"?state=refunded":                      {State: ledger.Refunded},
		"?state=pending":                       {Pending: true},
		"?state=waiting&order=1":               {Waiting: true, Order: "1"},
		"?since=2026-01-31T09:00:00%2B09:00":   {Since: 1_769_817_600_000},
		"?since=1769817600":                    {Since: 1_769_817_600_000},
		"?after=second/a/b&since=0&state=paid": {After: ledger.Key{Account: "second", Order: "a/b"}, State: ledger.Paid},
		"?after=/order-1":                      {After: ledger.Key{Order: "order-1"}},
	} {
		_, err := l.ask(t, http.MethodGet, "/cvs/barcodes"+query, "", "")
		require.NoError(t, err, query)
		want.Limit = 100
		assert.Equal(t, want, l.filter, query)
	}
	for query, message := range map[string]string{
		"?state=ready":           `state "ready" is none of: pending, waiting, asked, issued, void, expired, failed, paid, refunded`,
		"?state=":                "state must be given once, with a value",
		"?state=paid&state=void": "state must be given once, with a value",
		"?since=yesterday":       `since must be a time such as 2026-01-31T09:00:00+09:00 (with + as %2B), or Unix seconds, not "yesterday"`,
		"?since=1769817600000":   "or Unix seconds, not",
		"?since=-1":              "or Unix seconds, not",
		"?since=2026-01-31":      "or Unix seconds, not",
		"?after=order-1":         "after must be the member next of the page before",
		"?limit=1000":            `there is no parameter "limit"; there are order, state, since and after`,
	} {
		_, err := l.ask(t, http.MethodGet, "/cvs/barcodes"+query, "", "")
		assertAdminError(t, err, http.StatusBadRequest, message)
	}
}

// assertAdminError asserts the error that Caddy answers as JSON.
func assertAdminError(t *testing.T, err error, status int, message string) {
	t.Helper()
	answered, ok := errors.AsType[caddy.APIError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, status, answered.HTTPStatus, err)
	assert.ErrorContains(t, answered.Err, message)
}

func TestAdminRetries(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct {
		asked  string
		accept bool
		answer string
	}{
		`{"order":"order-1"}`: {"/order-1", false, `{"retried":1}`},
		`{"account":"second","order":"order-1","accept_amount":true}`: {"second/order-1", true, `{"retried":1}`},
		`{"account":"","order":"order-2","accept_amount":false}`:      {"/order-2", false, `{"retried":0}`},
		`{"all":true}`: {"all", false, `{"retried":5}`},
	} {
		l := new(adminLedger)
		w, err := l.ask(t, http.MethodPost, "/cvs/retry", "application/json; charset=utf-8", body)
		require.NoError(t, err, body)
		assert.JSONEq(t, want.answer, w.Body.String(), body)
		assert.Equal(t, want.asked, l.asked, body)
		assert.Equal(t, want.accept, l.accept, body)
	}
	l := new(adminLedger)
	for _, body := range []string{
		"", "{}", "null", "[]", `{"all":false}`, `{"all":true,"order":"order-1"}`, `{"all":true,"accept_amount":true}`, `{"all":true,"account":"second"}`,
		`{"order":1}`, `{"order":"order-1","order":"order-2"}`, `{"Order":"order-1"}`, `{"order":"order-1","amount":1}`, `{"order":"order-1"} x`,
		`{"order":"order-1","accept_amount":"true"}`, `{"account":"second"}`, "{\"order\":\"\xff\"}", `{"order":"` + strings.Repeat("a", 70_000) + `"}`,
	} {
		_, err := l.ask(t, http.MethodPost, "/cvs/retry", gatewaytest.JSONType, body)
		assertAdminError(t, err, http.StatusBadRequest, `the body must be {"account":"","order":"..."`)
	}
	for _, contentType := range []string{"", gatewaytest.FormType, "text/plain"} {
		_, err := l.ask(t, http.MethodPost, "/cvs/retry", contentType, `{"all":true}`)
		assertAdminError(t, err, http.StatusUnsupportedMediaType, "use Content-Type application/json")
	}
	assert.Empty(t, l.asked)
}

func TestAdminNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	l := &adminLedger{}
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/cvs/barcodes", ""}, {"POST", "/cvs/retry", `{"all":true}`}, {"POST", "/cvs/retry", `{"order":"order-1"}`},
	} {
		for _, l.err = range []error{ledger.ErrDown, ledger.ErrBusy, ledger.ErrSlow} {
			_, err := l.ask(t, c.method, c.target, gatewaytest.JSONType, c.body)
			assertAdminError(t, err, http.StatusServiceUnavailable, l.err.Error())
		}
	}
	for target, method := range map[string]string{"/cvs/barcodes": "GET", "/cvs/retry": "POST"} {
		w, err := l.ask(t, http.MethodPut, target, gatewaytest.JSONType, "{}")
		assertAdminError(t, err, http.StatusMethodNotAllowed, "use "+method)
		assert.Equal(t, method, w.Header().Get("Allow"))
	}
	none := &Admin{ledger: func() (operatorLedger, error) { return nil, errors.New("there is no ledger") }}
	_, err := askAdmin(t, none, http.MethodGet, "/cvs/barcodes", "", "")
	assertAdminError(t, err, http.StatusNotFound, "there is no ledger")
}

// While a configuration with another ledger takes over there are two. One that keeps nothing does not
// count. Not parallel, because other tests open ledgers.
func TestAdminKnowsThePresentLedger(t *testing.T) {
	add := func(name string, stored bool, opened int64) *pooledLedger {
		p := &pooledLedger{Ledger: ledger.New(ledger.Options{}), stored: stored, opened: opened}
		ledgers.LoadOrStore(t.Name()+name, p)
		t.Cleanup(func() { _, _ = ledgers.Delete(t.Name() + name) })
		return p
	}
	add("old", true, 1<<40)
	want := add("new", true, 1<<40+1)
	add("off", false, 1<<40+2)
	add("older", true, 1<<40-1)
	got, err := presentLedger()
	require.NoError(t, err)
	assert.Same(t, want, got)
}

// On the admin endpoint of a running Caddy, before and after its ledger is another one. Not parallel,
// because it uses the one Caddy of the process that can be reloaded.
func TestAdminUsesThePresentLedger(t *testing.T) {
	admin := gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	config = strings.Replace(config, "admin off", "admin "+admin, 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	a := g.Do(t, http.MethodGet, "http://"+admin+"/cvs/barcodes?state=no", "", "")
	assert.Equal(t, 400, a.Status)
	assert.Contains(t, a.Field(t, "error"), `state "no" is none of`)
	present := func() operatorLedger {
		l, err := presentLedger()
		require.NoError(t, err)
		return l
	}
	first := present()
	other := gatewaytest.LedgerFile(t)
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, g.Ledger, other, 1)))
	assert.NotSame(t, first, present())
	_, err := os.Stat(other)
	require.NoError(t, err)
	require.Equal(t, 200, issueAgain(g, "order-1").Status)
	row, err := present().(*pooledLedger).Row(t.Context(), ledger.Key{Order: "order-1"})
	require.NoError(t, err, "the one that is written now")
	assert.Equal(t, "order-1", row.Order)
}
