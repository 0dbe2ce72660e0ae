package caddycvs

// This file holds tests of the causes that answers and the log give for refusals and failures.

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// A refused caller is logged in one line with the rule, and the answer says what to do.
func TestRefusedCallerIsLogged(t *testing.T) {
	t.Parallel()
	proxied := func(options string) string {
		return "servers {\ntrusted_proxies static 127.0.0.1/32\n" + options + "}"
	}
	for name, c := range map[string]struct {
		setup   gatewaytest.Setup
		header  http.Header
		rule    string
		message string
	}{
		"not allowed":           {gatewaytest.Setup{Proxy: "allow 10.0.0.0/8"}, nil, "allow", "The address 127.0.0.1 may not call this gateway: see the option allow."},
		"a stranger's proxy":    {gatewaytest.Setup{}, http.Header{"X-Forwarded-For": {"10.0.0.7"}}, "trusted_proxies", "The address 127.0.0.1 forwarded the request, and is not a trusted proxy: see the global option trusted_proxies."},
		"a client of a proxy":   {gatewaytest.Setup{Globals: proxied("")}, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "allow", "The address 203.0.113.9 may not call"},
		"clients of a proxy":    {gatewaytest.Setup{Globals: proxied("")}, http.Header{"X-Forwarded-For": {"10.0.0.7, 203.0.113.9"}}, "allow", "A client that the proxy names in X-Forwarded-For may not call"},
		"a proxy that is mute":  {gatewaytest.Setup{Globals: proxied("trusted_proxies_strict\n")}, nil, "trusted_proxies", "does not name the client: configure it to send X-Forwarded-For."},
		"another field":         {gatewaytest.Setup{Globals: proxied("")}, http.Header{"X-Real-Ip": {"203.0.113.9"}}, "client_ip_headers", "The proxy names a client in X-Real-Ip: see the global option client_ip_headers."},
		"a browser":             {gatewaytest.Setup{}, http.Header{"Origin": {"https://shop.example"}}, "browser", "A browser may not call the gateway: call it from the app's server"},
		"a browser, by its own": {gatewaytest.Setup{}, http.Header{"Sec-Fetch-Site": {"same-origin"}}, "browser", "A browser may not call"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, c.setup)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Inside+"/payments/imp_1", nil) // a look-up, too
			require.NoError(t, err)
			r.Header = c.header
			a := g.Send(t, r)
			assert.Equal(t, 403, a.Status)
			assert.Contains(t, a.Field(t, "message"), c.message)
			ip := "127.0.0.1"
			if first, _, _ := strings.Cut(c.header.Get("X-Forwarded-For"), ","); strings.HasPrefix(name, "a client") || strings.HasPrefix(name, "clients") {
				ip = first
			}
			assert.Contains(t, g.WaitForLine(t, `"msg":"api call"`, `"status":403`), `"client_ip":"`+ip+`","rule":"`+c.rule+`"`)
			assert.Contains(t, g.WaitForLine(t, `"msg":"api call"`, `"status":403`), `"level":"info"`)
		})
	}
}

func TestRefusedUnixSocketIsLogged(t *testing.T) {
	t.Parallel()
	dir := gatewaytest.ShortDir(t)
	for i, c := range []struct{ globals, proxy, rule, message string }{
		{"", "allow 10.0.0.0/8", "allow", "A unix socket may not call this gateway"},
		{"servers {\ntrusted_proxies_unix\n}", "", "trusted_proxies", "which trusted_proxies_unix trusts, does not name the client: configure it to send X-Forwarded-For."},
	} {
		socket := filepath.Join(dir, strconv.Itoa(i))
		g := gatewaytest.Start(t, gatewaytest.Setup{Globals: c.globals, Sites: "http://socket {\nbind unix/" + socket + "\nlog {\noutput file LOGS\n}\ncvs_proxy {\n" + c.proxy + "\n}\n}\n"})
		raw := "POST /users/getToken HTTP/1.1\r\nHost: socket\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
		answers := gatewaytest.SendRaw(t, "unix", socket, raw)
		require.Equal(t, []int{403}, gatewaytest.Statuses(answers))
		assert.Contains(t, answers[0].Field(t, "message"), c.message)
		g.WaitForLine(t, `"msg":"api call"`, `"rule":"`+c.rule+`"`)
	}
}

// Only the log says why a webhook was refused. The answers are the same.
func TestRefusedWebhookIsLogged(t *testing.T) {
	t.Parallel()
	const check = "\norder_check SHOP/x"
	unsigned := func(i gatewaytest.Issued) string { before, _, _ := strings.Cut(i.ConfirmURL, "?"); return before }
	for name, c := range map[string]struct {
		confirm string
		target  func(gatewaytest.Issued) string
		rule    string
		reason  string
	}{
		"not allowed":     {"allow 10.0.0.0/8" + check, unsigned, "allow", "this address may not send webhooks"},
		"a bad signature": {check, func(i gatewaytest.Issued) string { return i.ConfirmURL + "x" }, "signature", "not genuine"},
		"an unknown one": {check, func(i gatewaytest.Issued) string {
			return gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_account", "third")
		}, "account", "not genuine"},
		"another account":   {"account second" + check, func(i gatewaytest.Issued) string { return i.ConfirmURL }, "account", "not genuine"},
		"unsigned":          {"unsigned reject" + check, unsigned, "unsigned reject", "not genuine"},
		"unsigned, unknown": {check, unsigned, "unsigned lookup", "not genuine"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: c.confirm, Second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}"})
			i := g.MustIssue(t, "order-1")
			target := c.target(i)
			if c.rule == "unsigned lookup" {
				i.ImpUID = "imp_000000000000"
			}
			a := g.Do(t, http.MethodPost, target, gatewaytest.JSONType, i.Webhook())
			assert.Equal(t, 403, a.Status, a.Body)
			assert.Contains(t, a.Field(t, "reason"), c.reason)
			g.WaitForLine(t, `"msg":"confirm webhook"`, `"rule":"`+c.rule+`"`, `"status":403`, `"client_ip":"127.0.0.1"`)
		})
	}
}

// broken returns addresses that give no answer, each for a reason of its own.
func broken(t *testing.T) map[string]struct{ url, cause string } {
	t.Helper()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	t.Cleanup(plain.Close)
	// Reads the whole request. Otherwise the sender could fail in writing it, which has another cause.
	read := func(conn net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}
	resetting := listener(t, func(conn net.Conn) {
		read(conn)
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	})
	closing := listener(t, func(conn net.Conn) {
		read(conn)
		_ = conn.Close()
	})
	silent := listener(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	return map[string]struct{ url, cause string }{
		"DNS":       {"http://nobody.invalid", "(DNS)"},
		"refused":   {"http://" + gatewaytest.Address(t), "connection refused"},
		"authority": {untrusted.URL, "TLS: the certificate is signed by an unknown authority"},
		"no TLS":    {strings.Replace(plain.URL, "http:", "https:", 1), "TLS: the other side does not speak it"},
		"reset":     {"http://" + resetting, "the connection was reset"},
		"closed":    {"http://" + closing, "the connection was closed before the answer was whole"},
		"time-out":  {"http://" + silent, "timed out"},
	}
}

func listener(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

// waits are timeouts: short where the timeout itself is the cause, and long elsewhere.
var waits = map[bool]string{false: "3s", true: "500ms"}

// One line of the log and the app's answer say why the API was not reached.
func TestUnreachableAPIHasACause(t *testing.T) {
	t.Parallel()
	for name, c := range broken(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{APIURL: c.url, Account: "timeout " + waits[name == "time-out"]})
			a := g.Issue(t, "order-1")
			assert.Equal(t, 503, a.Status, a.Body)
			assert.Contains(t, a.Field(t, "message"), c.cause)
			assert.NotEmpty(t, a.Header.Get("Retry-After"))
			g.WaitForLine(t, `"msg":"api call"`, `"level":"error"`, `"cause":"the API gives no access token: `, c.cause)

			i := gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: "order-1", ConfirmURL: g.Outside + "/cvs/confirm"}
			assert.GreaterOrEqual(t, g.Confirm(t, i).Status, 502)
			g.WaitForLine(t, `"msg":"confirm webhook"`, `"level":"error"`, `"cause":"look-up: `, `"detail":"`, c.cause)
		})
	}
}

// The same for calls that have a token already.
func TestFailedCallHasACause(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		status  int
		message string
		cause   string
		after   string
	}{
		"a page of 503": {foreign(503, "30"), 502, "The answer, of HTTP status 503, was not PortOne's. Try again later.", "the answer is not the API's (HTTP 503)", "30"},
		"a page of 429": {foreign(429, "Fri, 31 Dec 1999 23:59:59 GMT"), 502, "The answer, of HTTP status 429, was not PortOne's. Try again later.", "the answer is not the API's (HTTP 429)", "Fri, 31 Dec 1999 23:59:59 GMT"},
		"a page of 404": {foreign(404, "soon"), 502, "The answer, of HTTP status 404, was not PortOne's. Compare the option api", "the answer is not the API's (HTTP 404)", ""},
		"the API's 429": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
			fmt.Fprint(w, `{"code":-1,"message":"천천히","response":null}`)
		}, 429, "천천히", "", "7"},
		"hung up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "PortOne's answer did not come: the connection was closed before the answer was whole.", "the connection was closed before the answer was whole", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{API: emulatorWith("/payments/", c.answer)})
			a := g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1", "", "")
			assert.Equal(t, c.status, a.Status, a.Body)
			assert.Contains(t, a.Field(t, "message"), c.message)
			assert.Equal(t, c.after, a.Header.Get("Retry-After"))
			line := g.WaitForLine(t, `"msg":"api call"`, `"operation":"payment"`)
			if c.cause != "" {
				assert.Contains(t, line, c.cause)
			}
			if c.after != "" {
				assert.Contains(t, line, `"retry_after":"`+c.after+`"`)
			}
		})
	}
}

// foreign answers with a page that is not the API's.
func foreign(status int, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(status)
		fmt.Fprint(w, "<html>busy</html>")
	}
}

// emulatorWith returns the emulator with another handler for the paths with this prefix.
func emulatorWith(prefix string, h http.HandlerFunc) http.Handler {
	e := emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, prefix) {
			h(w, r)
			return
		}
		e.ServeHTTP(w, r)
	})
}

// If the outcome of a call for a barcode is unknown, the answer says what came instead of
// PortOne's answer.
func TestUnknownOutcomeHasACause(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer  http.HandlerFunc
		status  int
		message string
		after   string
	}{
		"a page of 503": {foreign(503, "30"), 504, "Outcome unknown: the answer, of HTTP status 503, was not PortOne's, and order \"order-1\" may or may not have a barcode now.", ""},
		"a page of 403": {foreign(403, ""), 502, "The answer, of HTTP status 403, was not PortOne's, and PortOne knows of no new barcode for order \"order-1\".", ""},
		"hung up":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 504, "Outcome unknown: PortOne's answer did not come: the connection was closed before the answer was whole, and", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{API: emulatorWith("/cvs", c.answer), Account: "timeout 300ms"})
			a := g.Issue(t, "order-1")
			assert.Equal(t, c.status, a.Status, a.Body)
			assert.Contains(t, a.Field(t, "message"), c.message)
			assert.Equal(t, c.after, a.Header.Get("Retry-After"), "no leave to send again what may be done")
			if strings.HasPrefix(name, "a page of 503") {
				g.WaitForLine(t, `"msg":"api call"`, `"retry_after":"30"`)
			}
		})
	}
}

// Also with a valid token, an API that was not reached has done nothing.
func TestUnreachableAPIWithValidTokenDidNothing(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "timeout 500ms"})
	i := g.MustIssue(t, "order-1")
	g.APIServer.Close()
	for _, call := range []string{"GET /payments/" + i.ImpUID, "DELETE /cvs/" + i.ImpUID, "POST /cvs"} {
		method, path, _ := strings.Cut(call, " ")
		a := g.Do(t, method, g.Inside+path, gatewaytest.FormType, "merchant_uid=order-2&amount=1")
		assert.Equal(t, 502, a.Status, call)
		assert.Equal(t, "PortOne cannot be reached: connection refused. Nothing was done.", a.Field(t, "message"), call)
	}
}

// One line of the log says why a check was not reached, by URL or by a route.
func TestUnreachableCheckHasACause(t *testing.T) {
	t.Parallel()
	for name, c := range broken(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check " + c.url + "/payable {\ntimeout " + waits[name == "time-out" || name == "refused" || name == "DNS"] + "\nrequire payable true\n}"})
			assert.GreaterOrEqual(t, g.Confirm(t, g.MustIssue(t, "order-1")).Status, 502)
			g.WaitForLine(t, `"msg":"confirm webhook"`, `"level":"error"`, `"verdict":"no answer","cause":"`, c.cause)
			if name == "time-out" || name == "DNS" { // a reverse_proxy may find the name later than the check waits
				return
			}
			g = gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check {\nrequire payable true\nroute {\nreverse_proxy " + c.url + "\n}\n}"})
			assert.Equal(t, 502, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
			g.WaitForLine(t, `"msg":"confirm webhook"`, `"level":"error"`, `"verdict":"no answer","cause":"server error","detail":"`+c.cause)
		})
	}
}

// The causes of a route that fails.
func TestFailedRouteHasACause(t *testing.T) {
	t.Parallel()
	half := listener(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 64<<10))
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
		_ = conn.Close()
	})
	for route, want := range map[string]string{
		`error "no stock" 503`:                  `"cause":"server error","detail":"the route ended with an error"`,
		"reverse_proxy " + half:                 `"cause":"connection broke","detail":"the answer broke off"`,
		"abort":                                 `"cause":"connection broke","detail":"the answer broke off"`,
		"reverse_proxy unix//nowhere/shop.sock": `"cause":"server error","detail":"there is no such socket"`,
	} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check {\nrequire payable true\nroute {\n" + route + "\n}\n}"})
		assert.Equal(t, 502, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
		assert.Contains(t, g.WaitForLine(t, `"msg":"confirm webhook"`), want, route)
	}
	// The cause is the timeout, whatever error the handler returns then.
	ended, end := context.WithCancel(t.Context())
	end()
	failing := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(502, ended.Err()) })
	u := upstream{
		request: httptest.NewRequest(http.MethodPost, "/", nil),
		route:   &upstreamRoute{handler: failing, repl: caddy.NewReplacer(), isFinal: new(OrderCheck).meansNo},
	}
	answer := newUpstreamAnswer()
	u.run(ended, answer)
	_, _, broken := answer.current()
	assert.Equal(t, causeTimeout, broken.name)
}

// After a failure during the handshake it is certain that the request was not sent. After a
// later failure it is not.
func TestTLSFailureAfterTheHandshakeIsNotUnreachable(t *testing.T) {
	t.Parallel()
	assert.Equal(t, causeUnreachable, transportCause(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}).name)
	assert.Equal(t, cause{causeBroken, "TLS: the other side refused the handshake"}, transportCause(&net.OpError{Op: "remote error", Err: tls.AlertError(116)}), "a client's certificate is asked for behind the handshake of TLS 1.3")
}

// One line of the log says which condition failed, by its path and the kind of the value. It
// does not show the value, which may be personal data.
func TestFailedConditionIsLogged(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"stock":{"left":"canary-shop-key"},"total":15000}`: `"cause":"condition","detail":"stock.left is a string of another value"`,
		`{"stock":{"left":2},"total":15000}`:                 `"cause":"condition","detail":"stock.left is a number of another value"`,
		`{"stock":{"left":false},"total":15000}`:             `"cause":"condition","detail":"stock.left is a boolean of another value"`,
		`{"stock":{"left":null},"total":15000}`:              `"cause":"condition","detail":"stock.left is null"`,
		`{"stock":{"left":[1]},"total":15000}`:               `"cause":"condition","detail":"stock.left is an array"`,
		`{"stock":{"left":{"n":1}},"total":15000}`:           `"cause":"condition","detail":"stock.left is an object"`,
		`{"stock":{},"total":15000}`:                         `"cause":"condition","detail":"stock.left is missing"`,
		`[]`:                                                 `"cause":"condition","detail":"stock.left is missing"`,
		`{"stock":{"left":1},"total":14000}`:                 `"cause":"amount","detail":"total is a number of another value"`,
		`{"stock":{"left":1},"total":"만원"}`:                  `"cause":"amount","detail":"total is a string of another value"`,
		`{"stock":{"left":1}}`:                               `"cause":"amount","detail":"total is missing"`,
		`<br /><b>Warning</b>: {}`:                           `"cause":"unreadable JSON","detail":"the answer begins like HTML"`,
		``:                                                   `"cause":"unreadable JSON","detail":"the answer is empty"`,
		`{"stock"`:                                           `"cause":"unreadable JSON","detail":"the answer is not one JSON value"`,
		"\ufeff" + `{"stock":{"left":1},"total":15000}`:      `"cause":"unreadable JSON","detail":"the answer begins with a byte order mark"`,
	} {
		t.Run(strconv.Itoa(len(body)), func(t *testing.T) { // a name of the log's file
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check SHOP/x {\nrequire stock.left 1\namount total\n}", Payable: gatewaytest.AnswerWith(200, body)})
			assert.NotEqual(t, 200, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
			assert.Contains(t, g.WaitForLine(t, `"msg":"confirm webhook"`), want)
		})
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "unsigned allow\norder_check SHOP/x {\namount total\n}"})
	i := gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: "order-1", ConfirmURL: g.Outside + "/cvs/confirm"}
	assert.Equal(t, 409, g.Confirm(t, i).Status)
	g.WaitForLine(t, `"msg":"confirm webhook"`, `"cause":"amount","detail":"the barcode's amount is not known"`)
}

// One line of the log, a warning, says that a check looks misconfigured.
func TestMisconfiguredCheckIsLoggedAsWarning(t *testing.T) {
	t.Parallel()
	for status, detail := range map[int]string{
		201: "201 is some frameworks' default for a POST: have the app answer 200, or accept 201", 204: "accept does not name this status",
		401: "send a key by the option header", 403: "a wrong key, an address that it does not know, or CSRF protection",
		404: "no such path, or no such order", 405: "see the option method", 415: "does not read this media type",
		419: "CSRF protection: exempt the path from it", 429: "limits how often it is asked",
		409: "", 400: "", 410: "", 422: "",
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Payable: gatewaytest.AnswerWith(status, ""), Confirm: gatewaytest.UsualConfirm + "\norder_check SHOP/y {\nname trial\nshadow\n}"})
			assert.Equal(t, 409, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
			level := map[bool]string{true: `"level":"warn"`, false: `"level":"info"`}[detail != ""]
			for _, message := range []string{`"msg":"confirm webhook"`, `"msg":"shadow order check"`} {
				line := g.WaitForLine(t, message)
				assert.Contains(t, line, level)
				assert.Equal(t, detail != "", strings.Contains(line, `"detail"`))
				assert.Contains(t, line, detail)
			}
		})
	}
}

// The gateway returns an answer as it came, with a Content-Type or without one.
func TestProxyAddsNoContentType(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{API: emulatorWith("/payments/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, `{"code":0,"message":null,"response":null}`)
	})})
	a := g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1", "", "")
	assert.Equal(t, 200, a.Status)
	assert.Empty(t, a.Header.Values("Content-Type"))
}

// The gateway sends only the body of POST /cvs. An app would take the fields in its query for
// sent, so they are refused.
func TestIssueRefusesFieldsInTheQuery(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	a := g.Do(t, http.MethodPost, g.Inside+"/cvs?notice_url=https://shop.example", gatewaytest.JSONType, `{"merchant_uid":"order-1","amount":15000}`)
	assert.Equal(t, 400, a.Status)
	assert.Contains(t, a.Field(t, "message"), "takes its fields in the body")
	assert.Empty(t, g.API.Payments())
	a = g.Do(t, http.MethodPost, g.Inside+"/cvs?_token="+placeholderToken, gatewaytest.JSONType, `{"merchant_uid":"order-1","amount":15000}`)
	assert.Equal(t, 200, a.Status, a.Body)
}

func TestTimePlaceholderInHeaderIsExpandedPerRequest(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check SHOP/x {\nrequire payable true\nheader X-Time {time.now.unix_ms}\nheader X-Both {env.CVS_TEST_INTERNAL_KEY}-{time.now.year}\n}"})
	i := g.MustIssue(t, "order-1")
	var times []int64
	for range 2 {
		before := time.Now().UnixMilli()
		require.Equal(t, 200, g.Confirm(t, i).Status)
		sent, err := strconv.ParseInt(g.Shop.Requests[len(g.Shop.Requests)-1].Header.Get("X-Time"), 10, 64)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, sent, before)
		times = append(times, sent)
	}
	assert.LessOrEqual(t, times[0], times[1])
	assert.Equal(t, gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"]+"-"+strconv.Itoa(time.Now().Year()), g.Shop.Requests[0].Header.Get("X-Both"))
}

func TestUnusableCallbackURLIsWarnedOf(t *testing.T) {
	t.Parallel()
	const private, public = "http://127.0.0.1:8480", "https://api.iamport.kr"
	for name, c := range map[string]struct{ api, option, url, warning string }{
		"http at a public host":        {public, "confirm_url", "http://shop.example/cvs/confirm", "no redirect; use https"},
		"… of a notice":                {public, "notice_url", "http://203.0.113.9/notice", "no redirect; use https"},
		"… from a sandbox":             {private, "notice_url", "http://shop.example/notice", "no redirect; use https"},
		"loopback":                     {public, "notice_url", "http://127.0.0.1:8080/notice", "PortOne cannot reach"},
		"loopback, by name":            {public, "confirm_url", "https://localhost/cvs/confirm", "PortOne cannot reach"},
		"loopback of IPv6":             {public, "confirm_url", "https://[::1]/cvs/confirm", "PortOne cannot reach"},
		"a private address":            {public, "notice_url", "https://10.0.0.7/notice", "PortOne cannot reach"},
		"a name without a domain":      {public, "notice_url", "https://shop/notice", "PortOne cannot reach"},
		"a name of the inside":         {public, "notice_url", "https://shop.internal/notice", "PortOne cannot reach"},
		"a public one":                 {public, "notice_url", "https://shop.example/notice", ""},
		"loopback of the sandbox":      {private, "confirm_url", "http://127.0.0.1:8080/cvs/confirm", ""},
		"a public one, with a sandbox": {private, "confirm_url", "https://shop.example/cvs/confirm", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{APIURL: c.api, Proxy: c.option + " " + c.url})
			if c.warning == "" {
				assert.NotContains(t, g.Log(t), "a callback URL is")
				return
			}
			u, err := url.Parse(c.url)
			require.NoError(t, err)
			g.WaitForLine(t, `"level":"warn"`, "a callback URL is", c.warning, `"option":"`+c.option+`","host":"`+u.Host+`"`)
		})
	}
}

// The last attempt to connect is cut off by the time limit. The cause is still that of the
// attempts before, unless this one reached the app.
func TestUnreachableCheckKeepsItsCauseAtTheTimeLimit(t *testing.T) {
	t.Parallel()
	for want, connects := range map[string]bool{causeUnreachable: false, causeTimeout: true} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			attempts := 0
			ctx, end := context.WithCancel(t.Context())
			u := upstream{
				request: httptest.NewRequest(http.MethodGet, "/", nil),
				transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					if attempts++; attempts == 1 {
						return nil, reverseproxy.NewDialError(syscall.ECONNREFUSED)
					}
					if connects {
						httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
					}
					end()
					return nil, r.Context().Err()
				}),
			}
			answer := newUpstreamAnswer()
			assert.Equal(t, want, u.askURL(ctx, answer).name)
			assert.Equal(t, 2, attempts)
		})
	}
}
