package caddycvs

// This file holds tests of the calls that cvs_proxy passes on, or refuses to.

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// An app that looks for a code in the body takes an empty 200 for success: it would believe
// in a refund that never happened.
func TestProxyRefusesUnservedAPICalls(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	for _, c := range []struct{ method, path, message string }{
		{"POST", "/payments/cancel", `The gateway does not serve "POST /payments/cancel", and nothing was done. If the app is to call it, add "serve POST /payments/cancel" to cvs_proxy`},
		{"POST", "/payments/cancel/", `"serve POST /payments/cancel"`},
		{"GET", "/payments/cancel", `"serve GET /payments/cancel"`},
		{"POST", "/payments/prepare", `"serve POST /payments/prepare"`},
		{"GET", "/payments/findAll/order-1", `"serve GET /payments/findAll/order-1"`},
		{"GET", "/payments/status/paid", `"serve GET /payments/status/paid"`},
		{"GET", "/payments/imp_1/balance", `"serve GET /payments/imp_1/balance"`},
		{"GET", "/payments", `"serve GET /payments"`},
		{"GET", "/payments/", `"serve GET /payments"`},
		{"GET", "/payments/find/a/b/c", "does not serve"},
		{"POST", "/subscribe/payments/again", "does not serve"},
		{"POST", "/vbanks", "does not serve"},
		{"GET", "/receipts/imp_1", "does not serve"},
		{"DELETE", "/cvs/a/b", "there are POST /cvs, DELETE /cvs/{imp_uid} and POST /users/getToken"},
		{"POST", "/users/gettoken", "there are POST /cvs"},
		{"POST", "/CVS", "write the path as PortOne does"},
		{"POST", "//cvs", "write the path as PortOne does"},
		{"POST", "/cvs//", "write the path as PortOne does"},
		{"POST", "/x/../cvs", "write the path as PortOne does"},
		{"POST", "/Payments//Cancel", "write the path as PortOne does"},
		{"POST", "/payments%2Fcancel", "write the path as PortOne does"},
	} {
		a := g.Do(t, c.method, g.Inside+c.path, gatewaytest.JSONType, "{}")
		require.Equal(t, http.StatusForbidden, a.Status, c)
		assert.EqualValues(t, -1, a.Field(t, "code"), c)
		assert.Contains(t, a.Field(t, "message"), c.message, c)
	}
	assert.Zero(t, g.API.Requests(emulator.EndpointAll), "and nothing is sent")
	g.WaitForLine(t, `"operation":"unserved","account":"","merchant_uid":"","imp_uid":"","amount":"","status":403,"code":-1`)
	g.WaitForLine(t, `"method":"POST","path":"/payments/cancel","client_ip":"127.0.0.1","rule":"serve"`)
}

func TestTrailingSlashIsIgnored(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	a := g.Do(t, http.MethodPost, g.Inside+"/cvs/", gatewaytest.JSONType, `{"merchant_uid":"order-1","amount":15000}`)
	require.Equal(t, 200, a.Status, a.Body)
	impUID := a.Payment(t)["imp_uid"].(string)
	for _, path := range []string{"/payments/find/order-1/", "/payments/find/order-1/ready/", "/payments/" + impUID + "/?include_sandbox=true"} {
		a = g.Do(t, http.MethodGet, g.Inside+path, "", "")
		require.Equal(t, 200, a.Status, path)
		assert.Equal(t, impUID, a.Payment(t)["imp_uid"], path)
	}
	assert.Equal(t, 200, g.Do(t, http.MethodPost, g.Inside+"/users/getToken/", gatewaytest.FormType, "imp_key=&imp_secret=").Status)
	assert.Equal(t, "cancelled", g.Do(t, http.MethodDelete, g.Inside+"/cvs/"+impUID+"/", "", "").Payment(t)["status"])
}

func TestProxyAcceptsLookUpsByPOST(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var methods []string
	g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{BeforeRequest: func(e emulator.Endpoint, r *http.Request) {
		if e == emulator.EndpointFind || e == emulator.EndpointPayment {
			mu.Lock()
			defer mu.Unlock()
			methods = append(methods, r.Method)
		}
	}}})
	i := g.MustIssue(t, "order-1")
	for _, path := range []string{"/payments/find/order-1", "/payments/find/order-1/ready", "/payments/" + i.ImpUID + "?include_sandbox=true"} {
		a := g.Do(t, http.MethodPost, g.Inside+path, gatewaytest.FormType, "merchant_uid=order-1")
		require.Equal(t, 200, a.Status, path)
		assert.Equal(t, i.ImpUID, a.Payment(t)["imp_uid"], path)
	}
	assert.Equal(t, []string{"GET", "GET", "GET"}, methods)
}

// apiRequest is a request that reached the API.
type apiRequest struct {
	method, uri, contentType, body string
	header                         http.Header
}

// recorder answers as its handler does, and keeps the requests.
type recorder struct {
	http.Handler
	mu       sync.Mutex
	requests []apiRequest
}

func (rec *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/users/getToken" {
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		rec.requests = append(rec.requests, apiRequest{r.Method, r.RequestURI, r.Header.Get("Content-Type"), string(body), r.Header.Clone()})
		rec.mu.Unlock()
	}
	rec.Handler.ServeHTTP(w, r)
}

func (rec *recorder) last(t *testing.T) apiRequest {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	require.NotEmpty(t, rec.requests)
	return rec.requests[len(rec.requests)-1]
}

func (rec *recorder) count() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return len(rec.requests)
}

// The gateway looks at a refund that it has let through, after the answer.
func TestServedCancelIsLookedAt(t *testing.T) {
	t.Parallel()
	const refunded, refused = `{"code":0,"message":null,"response":{"imp_uid":"imp_1","cancel_history":[{"cancellation_id":"c_1"},{"cancellation_id":"c_2"}]}}`, `{"code":1,"message":"no","response":{"imp_uid":"imp_1"}}`
	for name, c := range map[string]struct {
		method, path, ledger string
		status               int
		answer               string
		looks                bool
	}{
		"refunded":       {"POST", "/payments/cancel", "", 200, refunded, true},
		"with a slash":   {"POST", "/payments/cancel/", "", 200, refunded, true},
		"escaped":        {"POST", "/payments/c%61ncel", "", 200, refunded, true},
		"refused":        {"POST", "/payments/cancel", "", 200, refused, false},
		"failed":         {"POST", "/payments/cancel", "", 500, refunded, false},
		"nothing":        {"POST", "/payments/cancel", "", 200, `{"code":0,"message":null,"response":null}`, false},
		"another method": {"GET", "/payments/cancel", "", 200, refunded, false},
		"another call":   {"POST", "/payments/prepare", "", 200, refunded, false},
		"no ledger":      {"POST", "/payments/cancel", "off", 200, refunded, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config := gatewaytest.Prepare(t, gatewaytest.Setup{API: gatewaytest.StubAPI(c.status, gatewaytest.JSONType, c.answer), Proxy: "serve all\nrepeat pass", Ledger: c.ledger})
			looks := make(chan string, 10)
			runWith(t, config, func(p *Proxy) {
				p.cancelled = func(impUID, cancellationID string) { looks <- impUID + " " + cancellationID }
			})
			assert.Equal(t, c.status, g.Do(t, c.method, g.Inside+c.path, gatewaytest.JSONType, `{"imp_uid":"imp_1"}`).Status)
			g.WaitForLine(t, `"msg":"api call"`, `"operation":"other"`) // the look-up comes before it
			close(looks)
			var got []string
			for look := range looks {
				got = append(got, look)
			}
			assert.Equal(t, c.looks, len(got) == 1 && got[0] == "imp_1 c_2", "%q", got)
		})
	}
}

func TestServeLetsFurtherCallsThrough(t *testing.T) {
	t.Parallel()
	api := &recorder{Handler: gatewaytest.StubAPI(200, gatewaytest.JSONType, `{"code":0,"message":null,"response":{"imp_uid":"imp_1","cancel_amount":500}}`)}
	g := gatewaytest.Start(t, gatewaytest.Setup{API: api, Proxy: "serve POST /payments/cancel /payments/prepare\nserve GET /payments/*/balance /payments/prepare/*"})
	const body = "imp_uid=imp_1&amount=500&reason=%EA%B0%80"
	a := g.Do(t, http.MethodPost, g.Inside+"/payments/cancel/?a=%31&_token=canary-token-1&b", gatewaytest.FormType, body)
	require.Equal(t, 200, a.Status, a.Body)
	assert.Equal(t, "imp_1", a.Payment(t)["imp_uid"])
	got := api.last(t)
	assert.Equal(t, "POST /payments/cancel?a=%31&b", got.method+" "+got.uri, "the query without the token, to the byte")
	assert.Equal(t, gatewaytest.FormType, got.contentType)
	assert.Equal(t, body, got.body)
	assert.Equal(t, "Bearer canary-token-of-stub", got.header.Get("Authorization"))
	g.WaitForLine(t, `"operation":"other","account":"","merchant_uid":"","imp_uid":"imp_1"`)

	assert.Equal(t, 200, g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1/balance", "", "").Status)
	assert.Equal(t, "/payments/imp_1/balance", api.last(t).uri)
	assert.Equal(t, 200, g.Do(t, http.MethodGet, g.Inside+"/payments/prepare/a%2Fb", "", "").Status)
	assert.Equal(t, "/payments/prepare/a%2Fb", api.last(t).uri, "a slash in a value stays one")

	sent := api.count()
	for _, path := range []string{"PUT /payments/prepare", "GET /payments/cancel", "POST /payments/imp_1/balance", "GET /payments/a%2Fb/c/balance", "POST /payments//cancel", "POST /payments%2Fcancel", "GET /payments/prepare/%2e%2e"} {
		method, path, _ := strings.Cut(path, " ")
		assert.Equal(t, 403, g.Do(t, method, g.Inside+path, "", "").Status, path)
	}
	assert.Equal(t, 400, g.Do(t, http.MethodGet, g.Inside+"/payments/prepare/..%2Fcancel", "", "").Status)
	assert.Equal(t, 418, g.Do(t, http.MethodPost, g.Inside+"/orders", "", "").Status)
	assert.Equal(t, sent, api.count(), "nothing else is sent")
}

func TestServeAllLetsEveryCallThrough(t *testing.T) {
	t.Parallel()
	api := &recorder{Handler: gatewaytest.StubAPI(200, gatewaytest.JSONType, `{"code":0,"message":null,"response":null}`)}
	g := gatewaytest.Start(t, gatewaytest.Setup{API: api, Proxy: "serve all"})
	for _, call := range []string{"POST /payments/cancel", "PUT /payments/prepare", "GET /payments?imp_uid[]=a&imp_uid[]=b", "DELETE /subscribe/customers/c1", "PATCH /payments/imp_1", "GET /vbanks/holder?bank_code=004"} {
		method, uri, _ := strings.Cut(call, " ")
		require.Equal(t, 200, g.Do(t, method, g.Inside+uri, gatewaytest.JSONType, "{}").Status, call)
		assert.Equal(t, call, api.last(t).method+" "+api.last(t).uri)
	}
	sent := api.count()
	assert.Equal(t, 200, g.Do(t, http.MethodPost, g.Inside+"/users/getToken", gatewaytest.JSONType, "{}").Status, "by the gateway")
	assert.Equal(t, 403, g.Do(t, http.MethodPost, g.Inside+"/CVS", gatewaytest.JSONType, `{"merchant_uid":"a","amount":1}`).Status, "only /cvs is read strictly, so nothing like it is sent")
	assert.Equal(t, 403, g.Do(t, http.MethodPost, g.Inside+"/cvs/a/b", gatewaytest.JSONType, "{}").Status)
	assert.Equal(t, 418, g.Do(t, http.MethodGet, g.Inside+"/users/1", "", "").Status)
	assert.Equal(t, sent, api.count())
}

// A call that changes something is sent once. If its outcome is unknown, the answer must not
// look like success or like failure.
func TestServedCallWithUnknownOutcomeIs504(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail        http.HandlerFunc
		post, get   int
		postMessage string
	}{
		"the connection breaks": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 504, 502, "Outcome unknown"},
		"no answer in time":     {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, 504, "Outcome unknown"},
		"somebody's page":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503); _, _ = io.WriteString(w, "<html>") }, 504, 502, "Outcome unknown"},
		"the API refuses":       {gatewaytest.StubAPI(400, gatewaytest.JSONType, `{"code":-1,"message":"x","response":null}`).ServeHTTP, 400, 400, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := gatewaytest.StubAPI(200, gatewaytest.JSONType, "")
			api := &recorder{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/users/getToken" {
					token.ServeHTTP(w, r)
					return
				}
				c.fail(w, r)
			})}
			g := gatewaytest.Start(t, gatewaytest.Setup{API: api, Account: "timeout 300ms", Proxy: "serve * /payments/cancel /payments/status/*"})
			a := g.Do(t, http.MethodPost, g.Inside+"/payments/cancel", gatewaytest.JSONType, `{"imp_uid":"imp_1"}`)
			assert.Equal(t, c.post, a.Status, a.Body)
			assert.Contains(t, a.Field(t, "message"), c.postMessage)
			assert.Equal(t, 1, api.count(), "once")
			a = g.Do(t, http.MethodGet, g.Inside+"/payments/status/paid", "", "")
			assert.Equal(t, c.get, a.Status, a.Body)
			assert.NotContains(t, a.Field(t, "message"), "Outcome unknown", "a look-up changes nothing")
		})
	}
}

// RunMain searches everything that was written for the token.
func TestTokensOfOldSDKsAreNeitherSentNorLogged(t *testing.T) {
	t.Parallel()
	api := &recorder{Handler: gatewaytest.StubAPI(200, gatewaytest.JSONType, `{"code":0,"message":null,"response":{"imp_uid":"imp_1"}}`)}
	g := gatewaytest.Start(t, gatewaytest.Setup{API: api})
	const real = "canary-token-of-an-old-sdk"
	gatewaytest.AddSecret(real)
	ask := func(query, header string) apiRequest {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, g.Inside+"/payments/imp_1?x=1"+query, nil)
		require.NoError(t, err)
		if header != "" {
			r.Header.Set("X-ImpTokenHeader", header)
		}
		require.Equal(t, 200, g.Send(t, r).Status)
		return api.last(t)
	}
	for _, query := range []string{"", "&_token=" + real, "&%5Ftoken=" + real + "&y=2"} {
		got := ask(query, real)
		want := "/payments/imp_1?x=1"
		if strings.HasSuffix(query, "&y=2") {
			want += "&y=2"
		}
		assert.Equal(t, want, got.uri)
		assert.Empty(t, got.header.Get("X-ImpTokenHeader"))
	}
	ask("&_token="+placeholderToken, placeholderToken)
	g.WaitForLine(t, "handled request")
	assert.Equal(t, 1, strings.Count(g.Log(t), "handled request"), "Caddy's access log would print the others; the placeholder is no secret")
}

func TestAPIRoot(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"/cvs", "/cvs/", "/CVS/imp_1", "//cvs", "/payments", "/users/getToken", "/users//gettoken/", "/x/../payments/cancel", "/payments/../x", "/cvs/../x"} {
		assert.True(t, inAPI(p), p)
	}
	for _, p := range []string{"", "/", "/cvsx", "/x/cvs", "/users", "/users/", "/users/me", "/payment", "/payments.html"} {
		assert.False(t, inAPI(p), p)
	}
}
