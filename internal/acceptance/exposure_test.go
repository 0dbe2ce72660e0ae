package acceptance

// This file holds tests of what a request, a configured value or an order's number can make
// the gateway send, fetch, keep in memory or show.

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// trap is a server that must not be called. It counts its calls.
type trap struct {
	*httptest.Server
	calls atomic.Int32
}

func newTrap(t testing.TB) *trap {
	t.Helper()
	tr := new(trap)
	tr.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { tr.calls.Add(1) }))
	t.Cleanup(tr.Close)
	return tr
}

func TestControlCharactersAreRejected(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "unsigned allow\norder_check SHOP/{http.cvs.merchant_uid} {\nheader X-Barcode {http.cvs.barcode}\n}"})
	confirm := func(contentType, body string) int {
		return g.Do(t, http.MethodPost, g.Outside+"/cvs/confirm", contentType, body).Status
	}
	for _, c := range []string{"\r\nX-Cvs-Amount: 1", "\r", "\n", "\x00", "\x7f", "\u0085", "\x1b[2J"} {
		value := "a" + c + "b"
		webhook := func(impUID, merchantUID, barcode string) string {
			return gatewaytest.Issued{ImpUID: impUID, MerchantUID: merchantUID, Barcode: barcode}.Webhook()
		}
		form := func(impUID, merchantUID string) string {
			return url.Values{"event": {"Galaxia.Cvs.Confirm"}, "imp_uid": {impUID}, "merchant_uid": {merchantUID}, "status": {"ready"}}.Encode()
		}
		assert.Equal(t, 400, confirm(gatewaytest.JSONType, webhook(value, "order", "1")), "%q", c)
		assert.Equal(t, 400, confirm(gatewaytest.JSONType, webhook("imp_1", value, "1")), "%q", c)
		assert.Equal(t, 400, confirm(gatewaytest.FormType, form(value, "order")), "%q", c)
		assert.Equal(t, 400, confirm(gatewaytest.FormType, form("imp_1", value)), "%q", c)
		before := g.Shop.Count()
		assert.Equal(t, 200, confirm(gatewaytest.JSONType, webhook("imp_1", "order", value)), "%q", c)
		require.Equal(t, before+1, g.Shop.Count())
		assert.Empty(t, g.Shop.Requests[before].Header.Values("X-Barcode")[0], "a barcode decides nothing, so it is left out: %q", c)

		issue, err := json.Marshal(map[string]any{"merchant_uid": value, "amount": 1})
		require.NoError(t, err)
		assert.Equal(t, 400, g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.JSONType, string(issue)).Status, "%q", c)
		assert.Equal(t, 400, g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.FormType, url.Values{"merchant_uid": {value}, "amount": {"1"}}.Encode()).Status, "%q", c)
		for path, method := range map[string]string{"/payments/": "GET", "/payments/find/": "GET", "/payments/find/order/": "GET", "/cvs/": "DELETE"} {
			assert.Equal(t, 400, g.Do(t, method, g.Inside+path+url.PathEscape(value), "", "").Status, "%s %q", path, c)
		}
	}
	assert.Zero(t, g.API.Requests(emulator.EndpointAll))
}

// recordingAPI answers every request and sends a copy of it to seen.
func recordingAPI(seen chan<- *http.Request) http.Handler {
	api := gatewaytest.StubAPI(200, gatewaytest.JSONType, `{"code":0,"message":null,"response":{"imp_uid":"imp_1","merchant_uid":"a","amount":1,"status":"ready"}}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/users/getToken" {
			seen <- r.Clone(context.Background())
		}
		api.ServeHTTP(w, r)
	})
}

func TestProxyEscapesPathSegments(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	g := gatewaytest.Start(t, gatewaytest.Setup{API: recordingAPI(seen)})
	for _, value := range []string{"@evil.example", "//evil.example/", "http://evil.example/", ":80@evil.example", "a?b=c", "a#b", "a;b", "a%2f..%2fb", "{env.CVS_TEST_SECRET}", "a b", "가"} {
		for prefix, method := range map[string]string{"/payments/": "GET", "/payments/find/": "GET", "/cvs/": "DELETE"} {
			a := g.Do(t, method, g.Inside+prefix+url.PathEscape(value), "", "")
			require.Equal(t, 200, a.Status, "%s %s", value, a.Body)
			r := <-seen
			assert.Equal(t, prefix+url.PathEscape(value), r.RequestURI)
			assert.Equal(t, gatewaytest.Host(g.APIURL), r.Host)
		}
	}
	a := g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1?a=%0d%0aX-A:%20b&c=//evil.example/..", "", "")
	require.Equal(t, 200, a.Status)
	r := <-seen
	assert.Equal(t, "/payments/imp_1?a=%0d%0aX-A:%20b&c=//evil.example/..", r.RequestURI, "the query as it came")
	assert.Empty(t, r.Header.Get("X-A"))
}

func TestProxyNeverFetchesCallbackURLs(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice"})
	for _, target := range []string{evil.URL + "/x", strings.Replace(evil.URL, "http://", "http://user:pass@", 1), "http://169.254.169.254/latest/meta-data/", "http://[::1]:1/{env.CVS_TEST_SECRET}"} {
		for _, notice := range []any{target, []string{target, target}} {
			order := fmt.Sprintf("order-%d", len(g.API.Payments()))
			body, err := json.Marshal(map[string]any{"merchant_uid": order, "amount": 1, "confirm_url": target, "notice_url": notice})
			require.NoError(t, err)
			a := g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.JSONType, string(body))
			require.Equal(t, 200, a.Status, a.Body)
			confirmURL, noticeURLs := g.API.WebhookURLs(a.Payment(t)["imp_uid"].(string))
			assert.Equal(t, target, confirmURL, "as the app gave it: unsigned, and nothing in it expanded")
			assert.Contains(t, noticeURLs, target)
		}
	}
	for _, target := range []string{"file:///etc/passwd", "gopher://127.0.0.1/", "//evil.example", "javascript:alert(1)", "http://", "http:evil", "http://a\r\nb/"} {
		body, err := json.Marshal(map[string]any{"merchant_uid": "order-1", "amount": 1, "confirm_url": target})
		require.NoError(t, err)
		assert.Equal(t, 400, g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.JSONType, string(body)).Status, target)
	}
	assert.Zero(t, evil.calls.Load())
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	for _, status := range []int{302, 307} {
		away := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.URL+"/x", status) }
		g := gatewaytest.Start(t, gatewaytest.Setup{API: http.HandlerFunc(away)})
		assert.Equal(t, 503, g.Issue(t, "order-1").Status, "for want of a token")
		token := gatewaytest.StubAPI(200, gatewaytest.JSONType, "")
		g = gatewaytest.Start(t, gatewaytest.Setup{API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/users/getToken" {
				token.ServeHTTP(w, r)
				return
			}
			away(w, r)
		})})
		assert.Equal(t, 502, g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1", "", "").Status)
		g = gatewaytest.Start(t, gatewaytest.Setup{Payable: away})
		assert.Equal(t, 502, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
	}
	assert.Zero(t, evil.calls.Load(), "neither keys nor a token nor a webhook went elsewhere")
}

func TestOrderNumberCannotChangeTheHost(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "unsigned allow\norder_check SHOP/{http.cvs.merchant_uid}/{http.cvs.imp_uid}?o={http.cvs.merchant_uid}"})
	_, port, err := net.SplitHostPort(gatewaytest.Host(evil.URL))
	require.NoError(t, err)
	numbers := []string{
		"@evil/", "//evil", "///evil", "..%2f", "%2e%2e", "..;/", "@" + gatewaytest.Host(evil.URL), "//" + gatewaytest.Host(evil.URL), evil.URL, ":" + port, ":" + port + "@" + gatewaytest.Host(evil.URL),
		"#", "?", "&o=b", "%", "%zz", "a%00b", "{env.CVS_TEST_SECRET}", "{http.cvs.imp_uid}", "{file./etc/hostname}", "…", "a\u2028b", "[::1]",
	}
	for _, number := range numbers {
		before := g.Shop.Count()
		a := g.Confirm(t, gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: number, Barcode: "1", ConfirmURL: g.Outside + "/cvs/confirm"})
		require.Equal(t, 200, a.Status, "%s: %s", number, a.Body)
		require.Equal(t, before+1, g.Shop.Count(), number)
		seen := g.Shop.Requests[before]
		assert.Equal(t, "/"+url.PathEscape(number)+"/imp_1?o="+url.QueryEscape(number), seen.RequestURI)
		assert.Equal(t, gatewaytest.Host(g.Shop.URL), seen.Host)
		assert.Equal(t, strings.TrimSpace(number), seen.Header.Get("X-Cvs-Merchant-Uid"))
	}
	for _, number := range []string{"..", "../", "/..", "a/../..", `..\a`, "/./", "."} {
		assert.Equal(t, 409, g.Confirm(t, gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: number, Barcode: "1", ConfirmURL: g.Outside + "/cvs/confirm"}).Status, number)
	}
	assert.Equal(t, len(numbers), g.Shop.Count())
	assert.Zero(t, evil.calls.Load())
}

// The gateway does not escape an order's number for Caddy's own directives in a route, but
// a number that looks like a placeholder must not be expanded.
func TestOrderNumberIsNotExpandedInRoutes(t *testing.T) {
	t.Parallel()
	const number = "{env.CVS_TEST_SECRET}"
	for name, c := range map[string]struct{ route, told string }{
		"respond":        {`respond "{\"reason\":\"{http.cvs.merchant_uid}\"}" 409`, number},
		"vars":           {"vars a {http.cvs.merchant_uid}\nrespond \"{\\\"reason\\\":\\\"{vars.a}\\\"}\" 409", number},
		"map":            {"map {http.cvs.merchant_uid} {m} {\ndefault {http.cvs.merchant_uid}\n}\nrespond \"{\\\"reason\\\":\\\"{m}\\\"}\" 409", number},
		"rewrite":        {"rewrite /x/{http.cvs.merchant_uid}\nreverse_proxy SHOP", "/x/" + url.PathEscape(number)},
		"rewrite query":  {"rewrite /x?o={http.cvs.merchant_uid}\nreverse_proxy SHOP", "/x?o=" + url.QueryEscape(number)},
		"uri":            {"uri path_regexp .* /x/{http.cvs.merchant_uid}\nreverse_proxy SHOP", "/x/" + url.PathEscape(number)},
		"request_header": {"request_header X-Order {http.cvs.merchant_uid}\nreverse_proxy SHOP", number},
		"header_up":      {"reverse_proxy SHOP {\nheader_up X-Order {http.cvs.merchant_uid}\n}", number},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{
				Confirm: "unsigned allow\norder_check {\nroute {\n" + c.route + "\n}\n}",
				Payable: func(w http.ResponseWriter, r *http.Request) {
					told := r.Header.Get("X-Order")
					if told == "" {
						told = r.RequestURI
					}
					w.WriteHeader(http.StatusConflict)
					_ = json.NewEncoder(w).Encode(map[string]string{"reason": told})
				},
			})
			a := g.Confirm(t, gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: number, Barcode: "1", ConfirmURL: g.Outside + "/cvs/confirm"})
			assert.Equal(t, 409, a.Status)
			assert.Equal(t, c.told, a.Field(t, "reason"))
		})
	}
}

func TestPanicShowsNoSecret(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Confirm: "order_check {\nroute {\ntest_panic\n}\n}"})
	gatewaytest.Run(t, strings.Replace(config, `respond "next handler"`, "test_panic /panic\nrespond \"next handler\"", 1))
	i := g.MustIssue(t, "order-1")
	assert.Equal(t, 502, g.Confirm(t, i).Status)

	body := "imp_secret=" + gatewaytest.Canaries["CVS_TEST_SECRET"] + "&buyer_tel=" + gatewaytest.BuyerTel
	raw := "POST /panic HTTP/1.1\r\nHost: " + gatewaytest.Host(g.Inside) + "\r\nAuthorization: Bearer " + gatewaytest.Canaries["CVS_TEST_SECRET"] + "\r\nContent-Type: " + gatewaytest.FormType +
		"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	assert.Empty(t, gatewaytest.SendRaw(t, "tcp", gatewaytest.Host(g.Inside), raw))
	g.WaitForLine(t, "http: panic serving")
	log := g.Log(t)
	for _, secret := range []string{gatewaytest.Canaries["CVS_TEST_SECRET"], gatewaytest.BuyerTel, "cvs_sig", i.ConfirmURL[len(i.ConfirmURL)-22:]} {
		assert.NotContains(t, log, secret)
	}
}

// The next three tests are not parallel: two measure the memory of the process, and one
// loads the one configuration that a process has.

// allocated returns how many bytes the process allocates while do runs.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestDeclaredBodySizeAllocatesNoMemory(t *testing.T) {
	const connections = 50
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	path := strings.TrimPrefix(i.ConfirmURL, g.Outside)
	for name, c := range map[string]struct {
		base, head, body string
		most             int // kB for a connection, buffers of both sides and the log included
	}{
		"declared to cvs_proxy":   {g.Inside, "POST /cvs HTTP/1.1\r\nContent-Length: 1073741824", "{", 128},
		"declared to getToken":    {g.Inside, "POST /users/getToken HTTP/1.1\r\nContent-Length: 9223372036854775807", "{", 128},
		"declared to cvs_confirm": {g.Outside, "POST " + path + " HTTP/1.1\r\nContent-Length: 1073741824", "{", 128},
		"expecting to continue":   {g.Outside, "POST " + path + " HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1073741824", "", 128},
		"one chunk, cvs_proxy":    {g.Inside, "POST /cvs HTTP/1.1\r\nTransfer-Encoding: chunked", "40000000\r\n" + strings.Repeat(" ", 70_000), 1024},
		"one chunk, cvs_confirm":  {g.Outside, "POST " + path + " HTTP/1.1\r\nTransfer-Encoding: chunked", "40000000\r\n" + strings.Repeat(" ", 70_000), 1024},
	} {
		raw := c.head + "\r\nContent-Type: " + gatewaytest.JSONType + "\r\nHost: " + gatewaytest.Host(c.base) + "\r\n\r\n" + c.body
		used := allocated(func() {
			for range connections {
				conn, err := net.Dial("tcp", gatewaytest.Host(c.base))
				require.NoError(t, err)
				_, err = io.WriteString(conn, raw)
				require.NoError(t, err)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
				status := make([]byte, 12)
				_, err = io.ReadFull(conn, status)
				require.NoError(t, err, name)
				assert.Equal(t, "HTTP/1.1 413", string(status), name)
				conn.Close()
			}
		})
		assert.Less(t, used, uint64(connections*c.most)<<10, name)
	}
}

func TestSlowBodiesStayWithinTheirMemoryLimit(t *testing.T) {
	const connections, sent = 50, 60_000
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 1s" + gatewaytest.UsualConfirm})
	i := g.MustIssue(t, "order-1")
	head := "POST " + strings.TrimPrefix(i.ConfirmURL, g.Outside) + " HTTP/1.1\r\nHost: " + gatewaytest.Host(g.Outside) + "\r\nContent-Type: " + gatewaytest.JSONType + "\r\nContent-Length: 65536\r\n\r\n"
	used := allocated(func() {
		conns := make([]net.Conn, connections)
		for n := range conns {
			conn, err := net.Dial("tcp", gatewaytest.Host(g.Outside))
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, head)
			require.NoError(t, err)
			_, err = io.CopyN(conn, zeros{}, sent)
			require.NoError(t, err)
			conns[n] = conn
		}
		for _, conn := range conns {
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			status := make([]byte, 12)
			_, err := io.ReadFull(conn, status)
			require.NoError(t, err)
			assert.Equal(t, "HTTP/1.1 408", string(status))
		}
	})
	assert.Less(t, used, uint64(connections<<20), "less than 1 MiB each for 60 kB that came, growing the buffer included")
}

func TestAdminAPIShowsNoSecretDuringRequests(t *testing.T) {
	caddy.ConfigAutosavePath = filepath.Join(gatewaytest.Dir(), "autosave-exposure.json")
	admin := gatewaytest.Address(t)
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Globals: "metrics {\nper_host\n}",
		Account: "signing_key {env.CVS_TEST_SIGNING_KEY}",
		Confirm: "timeout 10s\norder_check SHOP/x {\ntimeout 10s\nheader X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}\n}",
		Payable: func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-release
		},
	})
	config = strings.Replace(strings.Replace(config, "admin off", "admin "+admin, 1), "persist_config off", "", 1)
	config = strings.Replace(config, `respond "next handler"`, "test_panic /panic\nrespond \"next handler\"", 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	i := g.MustIssue(t, "order-1")
	g.Do(t, http.MethodPost, gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_amount", "1"), gatewaytest.JSONType, i.Webhook())
	gatewaytest.SendRaw(t, "tcp", gatewaytest.Host(g.Inside), "GET /panic HTTP/1.1\r\nHost: "+gatewaytest.Host(g.Inside)+"\r\n\r\n")
	done := make(chan gatewaytest.Answer)
	go func() { done <- g.Confirm(t, i) }()
	<-arrived

	show := func(method, path, contentType, body string) gatewaytest.Answer {
		a := g.Do(t, method, "http://"+admin+path, contentType, body)
		name := "admin-exposure" + strings.NewReplacer("/", "-", "?", "-").Replace(path)
		require.NoError(t, os.WriteFile(filepath.Join(gatewaytest.Dir(), name), []byte(a.Body), 0o600))
		return a
	}
	for _, path := range []string{
		"/config/", "/config/apps/cvs/imp_secret", "/config/apps/cvs/signing_key/0", "/metrics", "/reverse_proxy/upstreams", "/debug/vars",
		"/cvs/status", "/cvs/ready", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/allocs?debug=1",
	} {
		assert.Equal(t, 200, show(http.MethodGet, path, "", "").Status, path)
	}
	metrics, state := show(http.MethodGet, "/metrics", "", "").Body, show(http.MethodGet, "/cvs/status", "", "").Body
	assert.Equal(t, 2, strings.Count(metrics, "\ncaddy_http_requests_total{"), "both sites are counted")
	for _, word := range []string{"order-1", i.ImpUID, i.Barcode, "Bearer"} {
		assert.NotContains(t, metrics, word, "no label is about an order")
		assert.NotContains(t, state, word)
	}
	// A literal secret is refused, and the refusal does not repeat it.
	literal := strings.Replace(config, "{env.CVS_TEST_SECRET}", "CVS-LITERAL-"+gatewaytest.Canaries["CVS_TEST_SECRET"], 1)
	assert.Equal(t, 400, show(http.MethodPost, "/adapt", "text/caddyfile", literal).Status)
	assert.Equal(t, 400, show(http.MethodPost, "/load", "text/caddyfile", literal).Status)
	raw, err := json.Marshal(map[string]any{"imp_key": "{env.CVS_TEST_KEY}", "imp_secret": gatewaytest.Canaries["CVS_TEST_SECRET"]})
	require.NoError(t, err)
	assert.Equal(t, 400, show(http.MethodPost, "/load", gatewaytest.JSONType, `{"apps":{"cvs":`+string(raw)+`}}`).Status)
	close(release)
	assert.Equal(t, 200, (<-done).Status)

	saved, err := os.ReadFile(caddy.ConfigAutosavePath)
	require.NoError(t, err)
	assert.Contains(t, string(saved), "{env.CVS_TEST_SECRET}")
	assert.Empty(t, gatewaytest.FindSecrets())
}

// Another handler may change an answer's header field in place. That must not change any
// other answer.
func TestAnswersDoNotShareHeaders(t *testing.T) {
	t.Parallel()
	site := "http://" + gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Sites: site + " {\nheader {\nCache-Control no-store \"no-store, private\"\ndefer\n}\ncvs_proxy\n}\n"})
	for range 3 {
		a := g.Do(t, http.MethodPost, site+"/users/getToken", "", "")
		assert.Equal(t, "no-store, private", a.Header.Get("Cache-Control"))
	}
	assert.Equal(t, "no-store", g.Do(t, http.MethodPost, g.Inside+"/users/getToken", "", "").Header.Get("Cache-Control"))
}

// If an invalid header field stopped the check from being sent, "on_error accept" would
// accept the order without it.
func TestCheckIsSentDespiteInvalidHeaderValue(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "on_error accept\norder_check SHOP/x {\nheader X-Key {http.request.uri.query.x}\n}", Payable: gatewaytest.AnswerWith(409, "")})
	i := g.MustIssue(t, "order-1")
	i.ConfirmURL += "&x=%0d%0aX-Cvs-Amount:1"
	assert.Equal(t, 409, g.Confirm(t, i).Status)

	_, config := gatewaytest.Prepare(t, gatewaytest.Setup{Confirm: "order_check SHOP/x {\nheader X-Key {env.CVS_TEST_TWO_LINES}\n}"})
	_, err := gatewaytest.Provision(gatewaytest.Adapt(t, config))
	assert.ErrorContains(t, err, "header X-Key")
}

// A slow sender must leave the checks half of the time: otherwise "on_error accept" would
// accept an order that they had no time to refuse.
func TestSlowSenderIsNotAccepted(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 4s\non_error accept\norder_check SHOP/x", Payable: gatewaytest.AnswerWith(409, "")})
	i := g.MustIssue(t, "order-1")
	body := i.Webhook()
	began := time.Now()
	conn, err := net.Dial("tcp", gatewaytest.Host(g.Outside))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", strings.TrimPrefix(i.ConfirmURL, g.Outside), gatewaytest.Host(g.Outside), len(body), body[:len(body)-1])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 408, resp.StatusCode)
	assert.Less(t, time.Since(began), 3*time.Second, "long before the decision is due")
}
