package caddycvs

// This file holds tests of traces, with a receiver of them and Caddy's own directive tracing. They are not
// parallel: see gatewaytest.ReceiveTraces.

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	oteltrace "go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// tracedGateway is a gateway whose sites are traced: "checkout" is the span of a request to cvs_proxy,
// "webhook" that of one to cvs_confirm or cvs_notice.
type tracedGateway struct {
	*gatewaytest.Gateway
	traces *gatewaytest.Traces

	mu   sync.Mutex
	seen map[emulator.Endpoint][]http.Header // what the API got
}

func startTraced(t *testing.T, s gatewaytest.Setup) *tracedGateway {
	t.Helper()
	g := &tracedGateway{traces: gatewaytest.ReceiveTraces(t), seen: make(map[emulator.Endpoint][]http.Header)}
	s.Emulator.BeforeRequest = func(e emulator.Endpoint, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.seen[e] = append(g.seen[e], r.Header)
	}
	var config string
	g.Gateway, config = gatewaytest.Prepare(t, s)
	config = strings.Replace(config, "\tcvs_proxy {", "\ttracing {\n\t\tspan checkout\n\t}\n\tcvs_proxy {", 1)
	config = strings.Replace(config, "\tcvs_confirm /", "\ttracing {\n\t\tspan webhook\n\t}\n\tcvs_confirm /", 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	return g
}

// apiSaw returns the header fields of the API's requests of a kind.
func (g *tracedGateway) apiSaw(e emulator.Endpoint) []http.Header {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[e]
}

const (
	senderTrace = "0af7651916cd43dd8448eb211c80319c"
	senderSpan  = "b7ad6b7169203331"
	sampled     = "-01"
	notSampled  = "-00"
)

// sendFrom sends a request that is part of a trace of the sender's.
func (g *tracedGateway) sendFrom(t *testing.T, flags, target, body string) gatewaytest.Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header = http.Header{
		"Content-Type": {gatewaytest.JSONType}, "Traceparent": {"00-" + senderTrace + "-" + senderSpan + flags},
		"Tracestate": {"sender=1"}, "Baggage": {"sender=1"},
	}
	return g.Send(t, r)
}

// traceOf returns the trace's id in a line of the log.
func traceOf(t *testing.T, line string) string {
	t.Helper()
	var fields struct{ TraceID string }
	require.NoError(t, json.Unmarshal([]byte(line), &fields))
	require.Regexp(t, "^[0-9a-f]{32}$", fields.TraceID, line)
	return fields.TraceID
}

// assertPassedOn compares what a request had of the trace with the span that it was sent from.
func assertPassedOn(t *testing.T, from gatewaytest.Span, header http.Header) {
	t.Helper()
	assert.Equal(t, []string{"00-" + from.TraceID + "-" + from.ID + sampled}, header.Values("Traceparent"), from.Name)
	assert.Equal(t, from.State, header.Get("Tracestate"), from.Name)
	assert.Empty(t, header.Get("Baggage"), from.Name)
}

func named(t *testing.T, spans []gatewaytest.Span, name string) gatewaytest.Span {
	t.Helper()
	for _, s := range spans {
		if s.Name == name {
			return s
		}
	}
	require.Fail(t, "no span", "%s in\n%s", name, gatewaytest.Tree(spans))
	return gatewaytest.Span{}
}

func TestTraceOfCheckout(t *testing.T) {
	g := startTraced(t, gatewaytest.Setup{})
	a := g.sendFrom(t, sampled, g.Inside+"/cvs", gatewaytest.IssueBody("order-1"))
	require.Equal(t, 200, a.Status, a.Body)
	spans := g.traces.Wait(t, senderTrace, "checkout", "POST /cvs")
	assert.Equal(t, "from "+senderSpan+"\n  checkout server 200\n    POST /users/getToken client 200\n    POST /cvs client 200\n", gatewaytest.Tree(spans))
	issue := named(t, spans, "POST /cvs")
	assertPassedOn(t, issue, g.apiSaw(emulator.EndpointIssue)[0])
	assertPassedOn(t, named(t, spans, "POST /users/getToken"), g.apiSaw(emulator.EndpointToken)[0])
	assert.Equal(t, "sender=1", issue.State)
	host, port, _ := strings.Cut(gatewaytest.Host(g.APIURL), ":")
	assert.Equal(t, map[string]string{
		"http.request.method": "POST", "http.response.status_code": "200", "network.protocol.version": "1.1",
		"server.address": host, "server.port": port, "url.full": g.APIURL + "/cvs", "url.template": "/cvs", "cvs.operation": "issue",
	}, issue.Attributes)
	assert.Equal(t, "github.com/caddy-cvs/caddy-cvs", issue.Scope)
	assert.Equal(t, senderTrace, traceOf(t, g.WaitForLine(t, `"msg":"api call"`)))
	assert.Equal(t, senderTrace, traceOf(t, g.WaitForLine(t, `"msg":"handled request"`)), "by the name that the access log has")

	// A request that comes without a trace begins one. The barcode is there already.
	require.Equal(t, "1", g.Issue(t, "order-1").Header.Get("X-Cvs-Reused"))
	again := traceOf(t, g.WaitForLine(t, `"msg":"api call"`, `"reused":true`))
	assert.NotEqual(t, senderTrace, again)
	assert.Equal(t, "  checkout server 200\n    GET /payments/{imp_uid} client 200\n", gatewaytest.Tree(g.traces.Wait(t, again, "checkout")))
	assert.Equal(t, g.APIURL+"/payments/REDACTED", named(t, g.traces.All(again), "GET /payments/{imp_uid}").Attributes["url.full"])
}

func TestTraceOfConfirm(t *testing.T) {
	const checks = `
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable?key={env.CVS_TEST_INTERNAL_KEY} {
			name stock
			require payable true
		}
		order_check {
			name price
			route {
				reverse_proxy SHOP
			}
			amount total
		}
		order_check SHOP/shadow {
			name fraud
			method GET
			shadow
		}`
	g := startTraced(t, gatewaytest.Setup{Confirm: checks})
	i := g.MustIssue(t, "order-1")
	a := g.sendFrom(t, sampled, i.ConfirmURL, i.Webhook())
	require.Equal(t, 200, a.Status, a.Body)
	const stock, price, fraud = "POST /orders/{http.cvs.merchant_uid}/payable", "order_check price", "GET /shadow"
	spans := g.traces.Wait(t, senderTrace, "webhook", stock, price, fraud)
	root := named(t, spans, "webhook")
	require.Len(t, spans, 4, gatewaytest.Tree(spans))
	kinds := make(map[string]string)
	for _, s := range spans {
		if kinds[s.Name] = s.Kind; s.Name != "webhook" {
			assert.Equal(t, root.ID, s.Parent, s.Name)
			assert.Equal(t, "STATUS_CODE_UNSET", s.Status, s.Name)
			assert.Equal(t, "200", s.Attributes["http.response.status_code"], s.Name)
		}
	}
	assert.Equal(t, map[string]string{"webhook": "SPAN_KIND_SERVER", stock: "SPAN_KIND_CLIENT", price: "SPAN_KIND_INTERNAL", fraud: "SPAN_KIND_CLIENT"}, kinds)
	for _, r := range g.Shop.Requests {
		switch {
		case strings.HasPrefix(r.URL.Path, "/orders/"):
			assertPassedOn(t, named(t, spans, stock), r.Header)
		case r.URL.Path == "/shadow":
			assertPassedOn(t, named(t, spans, fraud), r.Header)
		default:
			assertPassedOn(t, named(t, spans, price), r.Header)
		}
	}
	host, port, _ := strings.Cut(gatewaytest.Host(g.Shop.URL), ":")
	assert.Equal(t, map[string]string{
		"http.request.method": "POST", "http.response.status_code": "200", "network.protocol.version": "1.1", "server.address": host, "server.port": port,
		"url.full": g.Shop.URL + "/orders/REDACTED/payable", "url.template": "/orders/{http.cvs.merchant_uid}/payable", "cvs.order_check": "stock",
	}, named(t, spans, stock).Attributes)
	for _, s := range append(spans, g.traces.All("")...) {
		for name := range s.Attributes {
			if s.Scope == tracerName {
				assert.Contains(t, documents(t), "`"+name+"`")
			}
		}
	}
	for _, msg := range []string{"confirm webhook", "shadow order check"} {
		assert.Equal(t, senderTrace, traceOf(t, g.WaitForLine(t, `"msg":"`+msg+`"`)))
	}

	// The look-up of an unsigned webhook is a part of it, too.
	i = g.MustIssue(t, "order-2")
	i.ConfirmURL = g.Outside + "/cvs/confirm"
	require.Equal(t, 200, g.Confirm(t, i).Status)
	line := g.WaitForLine(t, `"msg":"confirm webhook"`, `"merchant_uid":"order-2"`)
	assert.Contains(t, gatewaytest.Tree(g.traces.Wait(t, traceOf(t, line), "webhook", "GET /payments/{imp_uid}")), "  webhook server 200\n    GET /payments/{imp_uid} client 200\n")
}

// The statuses of spans are those of the answers. A no of the shop, or a payment that does not exist, is an
// answer like any other.
func TestTraceOfFailures(t *testing.T) {
	answer := make(chan http.HandlerFunc, 1)
	g := startTraced(t, gatewaytest.Setup{
		Confirm: "timeout 2s\norder_check SHOP/x {\nrequire payable true\n}", Payable: func(w http.ResponseWriter, r *http.Request) { (<-answer)(w, r) },
	})
	i := g.MustIssue(t, "order-1")
	trace := func(order string, texts ...string) string {
		id := traceOf(t, g.WaitForLine(t, append(texts, order)...))
		var tree string
		require.Eventually(t, func() bool {
			tree = gatewaytest.Tree(g.traces.All(id))
			return strings.HasPrefix(tree, "  checkout ") || strings.HasPrefix(tree, "  webhook ")
		}, 5*time.Second, 10*time.Millisecond)
		_, below, _ := strings.Cut(tree, "\n")
		return below
	}
	for status, want := range map[int]string{409: "409", 401: "401 error ", 500: "500 error "} {
		answer <- gatewaytest.AnswerWith(status, "{}")
		g.Confirm(t, i)
		assert.Equal(t, "    POST /x client "+want+"\n", trace(`"msg":"confirm webhook"`, fmt.Sprintf(`"status":%d`, status)))
	}
	answer <- func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	g.Confirm(t, i)
	assert.Equal(t, "    POST /x client 200 error the connection was closed before the answer was whole\n", trace(`"msg":"confirm webhook"`, `before the answer was whole`))

	require.Equal(t, 404, g.Do(t, http.MethodGet, g.Inside+"/payments/imp_0", "", "").Status)
	assert.Equal(t, "    GET /payments/{imp_uid} client 404\n", trace(`"imp_uid":"imp_0"`, `"msg":"api call"`))
	g.API.ExpireTokens() // the call is repeated with a new token, and each attempt is a span
	require.Equal(t, 200, g.Issue(t, "order-2").Status)
	assert.Equal(t, "    POST /cvs client 401 error \n    POST /users/getToken client 200\n    POST /cvs client 200\n", trace(`"merchant_uid":"order-2"`, `"msg":"api call"`))
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter}))
	require.Equal(t, 200, g.Issue(t, "order-3").Status)
	assert.Equal(t, "    POST /cvs client  error the connection was closed before the answer was whole\n    GET /payments/find/{merchant_uid} client 200\n", trace(`"merchant_uid":"order-3"`, `"msg":"api call"`))
	g.APIServer.Close()
	require.Equal(t, 502, g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1", "", "").Status)
	assert.Regexp(t, "^    GET /payments/{imp_uid} client  error connection refused\n", trace(`"imp_uid":"imp_1"`, `"msg":"api call"`))
}

// A route that hangs does not hold its span back, and one that panics shows nothing of the panic.
func TestTraceOfRoutesThatMisbehave(t *testing.T) {
	for how, message := range map[string]string{"hang": "timed out", "panic": "a handler panicked", "error": "the route ended with an error"} {
		g := startTraced(t, gatewaytest.Setup{Confirm: "timeout 1s\norder_check {\nname odd\nroute {\ntest_" + how + "\n}\nrequire payable true\n}"})
		g.Confirm(t, g.MustIssue(t, "order-1"))
		id := traceOf(t, g.WaitForLine(t, `"msg":"confirm webhook"`))
		odd := named(t, g.traces.Wait(t, id, "order_check odd"), "order_check odd")
		assert.Equal(t, "STATUS_CODE_ERROR "+message, odd.Status+" "+odd.Message, how)
		assert.Zero(t, odd.Events, "an event would have the panic's text")
		require.NoError(t, caddy.Stop())
	}
}

// A trace that the sender does not want recorded is passed on, and has no spans.
func TestTraceThatIsNotSampled(t *testing.T) {
	g := startTraced(t, gatewaytest.Setup{Confirm: gatewaytest.UsualConfirm + "\norder_check {\nroute {\nreverse_proxy SHOP\n}\nrequire payable true\n}"})
	require.Equal(t, 200, g.sendFrom(t, notSampled, g.Inside+"/cvs", gatewaytest.IssueBody("order-1")).Status)
	i := g.MustIssue(t, "order-2")
	require.Equal(t, 200, g.sendFrom(t, notSampled, i.ConfirmURL, i.Webhook()).Status)
	passed := regexp.MustCompile("^00-" + senderTrace + "-[0-9a-f]{16}-00$")
	assert.Regexp(t, passed, g.apiSaw(emulator.EndpointIssue)[0].Get("Traceparent"))
	require.Equal(t, 2, g.Shop.Count())
	for _, r := range g.Shop.Requests {
		assert.Regexp(t, passed, r.Header.Get("Traceparent"))
		assert.NotContains(t, r.Header.Get("Traceparent"), senderSpan)
		assert.Equal(t, "sender=1", r.Header.Get("Tracestate"))
		assert.Empty(t, r.Header.Get("Baggage"))
	}
	assert.Equal(t, senderTrace, traceOf(t, g.WaitForLine(t, `"msg":"confirm webhook"`)))
	require.NoError(t, caddy.Stop()) // sends what there is
	assert.Empty(t, g.traces.All(senderTrace))
}

// Caddy can be told to begin a trace of its own with each request. Then nothing of the sender's is passed
// on.
func TestTraceThatBeginsHere(t *testing.T) {
	t.Setenv("OTEL_PROPAGATORS", "none")
	g := startTraced(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	require.Equal(t, 200, g.sendFrom(t, sampled, i.ConfirmURL, i.Webhook()).Status)
	id := traceOf(t, g.WaitForLine(t, `"msg":"confirm webhook"`))
	assert.NotEqual(t, senderTrace, id)
	const check = "POST /orders/{http.cvs.merchant_uid}/payable"
	spans := g.traces.Wait(t, id, "webhook", check)
	assertPassedOn(t, named(t, spans, check), g.Shop.Requests[0].Header)
	assert.Empty(t, g.Shop.Requests[0].Header.Get("Tracestate"))
}

// A call goes on when its app has left, and so does its trace.
func TestTraceGoesOnWhenTheAppHasLeft(t *testing.T) {
	g := startTraced(t, gatewaytest.Setup{})
	g.MustIssue(t, "order-1") // there is a token now
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Delay: 300 * time.Millisecond}))
	ctx, leave := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Inside+"/cvs", strings.NewReader(gatewaytest.IssueBody("order-2")))
	require.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	_, err = g.HTTP.Do(r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	id := traceOf(t, g.WaitForLine(t, `"msg":"api call"`, `"merchant_uid":"order-2"`, `"client_gone":true`))
	spans := g.traces.Wait(t, id, "checkout", "POST /cvs")
	issue := named(t, spans, "POST /cvs")
	assert.Equal(t, named(t, spans, "checkout").ID, issue.Parent)
	assert.Equal(t, "200", issue.Attributes["http.response.status_code"])
}

// The notice's line names its trace. The shop is told later, for no request, and that is no part of it.
func TestTellIsNoPartOfATrace(t *testing.T) {
	g := startTraced(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Notice: gatewaytest.UsualNotice, Payable: func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"payable":true,"total":15000,"heard":true}`)
	}})
	i := g.MustIssue(t, "order-1")
	result, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
	require.NoError(t, err)
	require.True(t, result.Accepted)
	traceOf(t, g.WaitForLine(t, `"msg":"notice"`, `"outcome":"kept"`))
	assert.NotContains(t, g.WaitForLine(t, `"msg":"tell"`, `"outcome":"heard"`), traceField)
	require.Equal(t, 2, g.Shop.Count())
	assert.NotContains(t, g.Shop.Requests[1].Header, "Traceparent")
	for _, s := range g.traces.All("") {
		assert.NotContains(t, s.Name, "/payments/{http.cvs.merchant_uid}")
	}
}

// Without tracing nothing of what a sender writes of a trace is passed on, or logged.
func TestNoTraceWithoutTracing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []http.Header
	g := &tracedGateway{}
	g.Gateway = gatewaytest.Start(t, gatewaytest.Setup{
		Confirm: "unsigned lookup\n" + gatewaytest.UsualConfirm + "\norder_check {\nroute {\nreverse_proxy SHOP\n}\nrequire payable true\n}",
		Emulator: emulator.Options{BeforeRequest: func(_ emulator.Endpoint, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, r.Header)
		}},
	})
	require.Equal(t, 200, g.sendFrom(t, sampled, g.Inside+"/cvs", gatewaytest.IssueBody("order-1")).Status)
	i := g.MustIssue(t, "order-2")
	require.Equal(t, 200, g.sendFrom(t, sampled, i.ConfirmURL, i.Webhook()).Status)
	require.Equal(t, 200, g.sendFrom(t, sampled, g.Outside+"/cvs/confirm", i.Webhook()).Status)
	for _, r := range g.Shop.Requests {
		seen = append(seen, r.Header)
	}
	require.Len(t, seen, 4+4, "a token, two barcodes, a look-up; four checks")
	for _, header := range seen {
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
			assert.NotContains(t, header, name)
		}
	}
	g.WaitForLine(t, `"msg":"confirm webhook"`)
	assert.NotContains(t, g.Log(t), traceField)
}

// fakeSpan is a span that has ended: it is not recording any more. Its provider counts the spans that
// are begun.
type fakeSpan struct {
	noop.Span
	context oteltrace.SpanContext
	begun   int
}

func (s *fakeSpan) SpanContext() oteltrace.SpanContext       { return s.context }
func (s *fakeSpan) TracerProvider() oteltrace.TracerProvider { return fakeProvider{span: s} }

type fakeProvider struct {
	noop.TracerProvider
	span *fakeSpan
}

func (p fakeProvider) Tracer(string, ...oteltrace.TracerOption) oteltrace.Tracer {
	return fakeTracer{span: p.span}
}

type fakeTracer struct {
	noop.Tracer
	span *fakeSpan
}

func (t fakeTracer) Start(ctx context.Context, _ string, _ ...oteltrace.SpanStartOption) (context.Context, oteltrace.Span) {
	t.span.begun++
	return ctx, noop.Span{}
}

func TestTracedRoundTrip(t *testing.T) {
	t.Parallel()
	of := oteltrace.SpanContextConfig{TraceID: oteltrace.TraceID{1}, SpanID: oteltrace.SpanID{2}, TraceFlags: oteltrace.FlagsSampled}
	ended := &fakeSpan{context: oteltrace.NewSpanContext(of)}
	of.Remote = true
	for name, c := range map[string]struct {
		ctx    context.Context
		begun  int
		passed bool
	}{
		"none":                        {t.Context(), 0, false},
		"another process's alone":     {oteltrace.ContextWithRemoteSpanContext(t.Context(), oteltrace.NewSpanContext(of)), 0, false},
		"one that has ended, sampled": {oteltrace.ContextWithSpan(t.Context(), ended), 1, true},
		"of a request that has left":  {spanOnly(oteltrace.ContextWithSpan(t.Context(), ended)), 1, true},
	} {
		ended.begun = 0
		r, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "http://api.example/payments/imp_1", nil)
		require.NoError(t, err)
		resp, err := tracedRoundTrip(roundTrip(func(sent *http.Request) (*http.Response, error) {
			assert.Equal(t, c.passed, sent.Header.Get("Traceparent") != "", name)
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		}), r, ofAPI)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, c.begun, ended.begun, name)
		assert.Empty(t, r.Header, "%s: a RoundTripper must not change its caller's request", name)
		assert.Equal(t, c.passed, traceID(c.ctx) != "", name)
	}
	r := (&http.Request{URL: &url.URL{}}).WithContext(oteltrace.ContextWithSpan(t.Context(), ended))
	assert.Panics(t, func() {
		_, _ = tracedRoundTrip(roundTrip(func(*http.Request) (*http.Response, error) { panic("a transport's own fault") }), r, ofAPI)
	})
}

func TestSpanTemplate(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"http://127.0.0.1:3000/orders/{http.cvs.merchant_uid}/payable?key={env.KEY}": "/orders/{http.cvs.merchant_uid}/payable",
		"https://shop.example":                  "/",
		"https://shop.example?order={a}":        "/",
		"{env.SHOP}/orders/{http.cvs.imp_uid}":  "/orders/{http.cvs.imp_uid}",
		"{file./run/secrets/shop_url}":          "/",
		"http://{file./run/host}:3000/payable":  "/payable",
		"http://shop.example/{env.KEY}/payable": "/{env.KEY}/payable",
	} {
		assert.Equal(t, want, spanTemplate(raw), raw)
	}
	assert.Equal(t, "/REDACTED/payable/REDACTED", redact("/{env.KEY}/payable/{http.cvs.imp_uid}"))
	assert.Equal(t, "/payable", redact("/payable"))
}

func TestSpanOfAPICall(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"POST /cvs":                             "POST /cvs|issue|/cvs",
		"DELETE /cvs/imp_1":                     "DELETE /cvs/{imp_uid}|void|/cvs/REDACTED",
		"POST /users/getToken":                  "POST /users/getToken|token|/users/getToken",
		"GET /payments/imp_1?include_sandbox=1": "GET /payments/{imp_uid}|payment|/payments/REDACTED",
		"GET /payments/find/o%2F1":              "GET /payments/find/{merchant_uid}|find|/payments/find/REDACTED",
		"GET /payments/find/o/ready":            "GET /payments/find/{merchant_uid}/{payment_status}|find|/payments/find/REDACTED/REDACTED",
		"GET /payments/findAll/o?page=1":        "GET /payments/findAll/{merchant_uid}|find_all|/payments/findAll/REDACTED",
		"GET /payments/status/paid?page=1":      "GET /payments/status/{payment_status}|list|/payments/status/REDACTED",
		"POST /payments/cancel":                 "POST /payments/cancel|other|/payments/cancel",
		"DELETE /payments/imp_1":                "DELETE /payments/{value}|other|/payments/REDACTED",
		"GET /payments/prepare/o":               "GET /payments/prepare/{value}|other|/payments/prepare/REDACTED",
		"POST /subscribe/customers/uid":         "POST /subscribe/{value}/{value}|other|/subscribe/REDACTED/REDACTED",
		"ODD //a":                               "HTTP|other|/REDACTED",
	} {
		method, target, _ := strings.Cut(call, " ")
		target, query, _ := strings.Cut(target, "?")
		r := &http.Request{Method: method, URL: &url.URL{Scheme: "https", Host: "api.iamport.kr", RawQuery: query}}
		var err error
		r.URL.RawPath = target
		r.URL.Path, err = url.PathUnescape(target)
		require.NoError(t, err)
		kind := ofAPI(r)
		attributes := make(map[string]string)
		for _, a := range kind.attributes(r) {
			attributes[string(a.Key)] = a.Value.String()
		}
		assert.Equal(t, want, kind.name(r)+"|"+attributes["cvs.operation"]+"|"+strings.TrimPrefix(attributes["url.full"], "https://api.iamport.kr"), call)
		assert.Equal(t, "443", attributes["server.port"])
	}
}
