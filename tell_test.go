package caddycvs

// This file holds tests of telling the merchant's app: what is sent, and what its answer means.

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
	"github.com/caddy-cvs/caddy-cvs/internal/lag"
)

func TestTellVerdict(t *testing.T) {
	t.Parallel()
	heard := []Requirement{{"heard", "true"}}
	both := []Requirement{{"heard", "true"}, {"order.state", "paid"}}
	const page, html, plain, json = "<!doctype html><title>Soon</title>", "text/html; charset=utf-8", "text/plain", "application/json"
	for name, c := range map[string]struct {
		accept  []string
		require []Requirement
		status  int
		kind    string
		body    string
		broken  cause
		verdict ledger.Verdict
		cause   string
	}{
		"200":                       {status: 200, kind: plain, body: "OK"},
		"204":                       {status: 204},
		"299":                       {status: 299},
		"200, empty, as PHP":        {status: 200, kind: html},
		"200, spaces, as PHP":       {status: 200, kind: html, body: " \r\n"},
		"200, a page":               {status: 200, kind: html, body: page, verdict: ledger.Unheard, cause: "the answer is HTML"},
		"200, a text as a page":     {status: 200, kind: "Text/HTML", body: "OK", verdict: ledger.Unheard, cause: "the answer is HTML"},
		"200, XHTML":                {status: 200, kind: "application/xhtml+xml", body: "x", verdict: ledger.Unheard, cause: "the answer is HTML"},
		"200, a page as a text":     {status: 200, kind: plain, body: "\ufeff \n" + page, verdict: ledger.Unheard, cause: "the answer is HTML"},
		"201, not accepted":         {accept: []string{"200"}, status: 201, verdict: ledger.Refused, cause: "status 201"},
		"201, accepted":             {accept: []string{"200", "201"}, status: 201},
		"302":                       {status: 302, kind: html, body: page, verdict: ledger.Unheard, cause: "redirect 302"},
		"304":                       {status: 304, verdict: ledger.Unheard, cause: "redirect 304"},
		"400":                       {status: 400, verdict: ledger.Refused, cause: "status 400"},
		"404":                       {status: 404, kind: html, body: page, verdict: ledger.Refused, cause: "status 404"},
		"404, broken off":           {status: 404, broken: cause{name: causeBroken}, verdict: ledger.Refused, cause: "status 404"},
		"408":                       {status: 408, verdict: ledger.Unheard, cause: "status 408"},
		"410":                       {status: 410, verdict: ledger.Refused, cause: "status 410"},
		"429":                       {status: 429, verdict: ledger.Unheard, cause: "status 429"},
		"500":                       {status: 500, body: `{"heard":true}`, require: heard, verdict: ledger.Unheard, cause: "server error 500"},
		"599":                       {status: 599, verdict: ledger.Unheard, cause: "server error 599"},
		"600":                       {status: 600, verdict: ledger.Unheard, cause: "server error 600"},
		"101":                       {broken: cause{name: causeServerError}, verdict: ledger.Unheard, cause: "server error"},
		"nothing":                   {broken: cause{causeUnreachable, "connection refused"}, verdict: ledger.Unheard, cause: "unreachable: connection refused"},
		"late":                      {broken: cause{name: causeTimeout}, verdict: ledger.Unheard, cause: "timed out"},
		"200, broken off":           {status: 200, body: `{"heard":true}`, require: heard, broken: cause{causeBroken, "EOF"}, verdict: ledger.Unheard, cause: "connection broke: EOF"},
		"200, too large":            {status: 200, broken: cause{name: causeTooLarge}, verdict: ledger.Unheard, cause: "answer too large"},
		"condition met":             {require: both, status: 200, kind: json, body: `{"heard":true,"order":{"state":"paid"}}`},
		"condition met, as a page":  {require: heard, status: 200, kind: html, body: `{"heard":true}`},
		"condition not met":         {require: both, status: 200, kind: json, body: `{"heard":true,"order":{"state":"lost"}}`, verdict: ledger.Refused, cause: "condition: order.state is a string of another value"},
		"condition missing":         {require: both, status: 200, kind: json, body: `{"order":{"state":"paid"}}`, verdict: ledger.Refused, cause: "condition: heard is missing"},
		"a page for JSON":           {require: heard, status: 200, kind: html, body: page, verdict: ledger.Unheard, cause: "unreadable JSON: the answer is HTML"},
		"a page as JSON":            {require: heard, status: 200, kind: json, body: page, verdict: ledger.Unheard, cause: "unreadable JSON: the answer is HTML"},
		"nothing for JSON":          {require: heard, status: 200, kind: html, verdict: ledger.Refused, cause: "unreadable JSON: the answer is empty"},
		"a text for JSON":           {require: heard, status: 200, kind: plain, body: "OK", verdict: ledger.Refused, cause: "unreadable JSON: the answer is not one JSON value"},
		"not accepted, as required": {require: heard, accept: []string{"200"}, status: 202, body: `{"heard":true}`, verdict: ledger.Refused, cause: "status 202"},
	} {
		if c.accept == nil {
			c.accept = []string{"2xx"}
		}
		told := &Tell{Accept: c.accept, Requirements: c.require}
		assert.Equal(t, ledger.Reply{Verdict: c.verdict, Cause: c.cause}, told.judge(c.status, c.kind, []byte(c.body), c.broken), name)
	}
}

// provisionedTell returns a tell that is ready to send.
func provisionedTell(t *testing.T, told *Tell) *Tell {
	t.Helper()
	gatewaytest.Provisioned(t, new(caddy.Config), func(ctx caddy.Context) { require.NoError(t, told.provision(ctx)) })
	return told
}

func paidMessage() *tell.Message {
	return &tell.Message{
		Account: "second", ImpUID: "imp_1", MerchantUID: "주문 1", Event: tell.Paid, Status: "paid", Amount: "15000",
		CancelAmount: "0", PaidAt: 1_700_000_000, Expires: 1_700_000_900,
	}
}

func TestTellSendsTheMessage(t *testing.T) {
	t.Parallel()
	shop := gatewaytest.NewShop(t, gatewaytest.AnswerWith(200, `{"heard":true}`))
	for as, secrets := range map[string][]string{"json": {"{env.FIXTURE_SECRET}", "{env.CVS_TEST_NOTICE_SECRET}"}, "form": nil} {
		told := provisionedTell(t, &Tell{
			URL:    shop.URL + "/payments/{http.cvs.merchant_uid}?id={http.cvs.imp_uid}&o={http.cvs.merchant_uid}",
			Header: map[string]string{"x-internal-key": "{env.CVS_TEST_INTERNAL_KEY}", "Host": "shop.internal", "X-Event": "{http.cvs.event}/{http.cvs.status}/{http.cvs.account}/{http.cvs.amount}/{http.cvs.expires}"},
			As:     as, Secret: secrets, Requirements: []Requirement{{"heard", "true"}},
		})
		m, before := paidMessage(), time.Now().Unix()
		require.Equal(t, ledger.Reply{}, told.Send(t.Context(), m))
		seen, body := shop.Requests[shop.Count()-1], shop.Bodies[shop.Count()-1]
		assert.Equal(t, "POST", seen.Method)
		assert.Equal(t, "/payments/%EC%A3%BC%EB%AC%B8%201?id=imp_1&o=%EC%A3%BC%EB%AC%B8+1", seen.RequestURI)
		assert.Equal(t, "shop.internal", seen.Host)
		contentType, want := m.Encode(as == "form")
		assert.Equal(t, string(want), body)
		at, err := strconv.ParseInt(seen.Header.Get("webhook-timestamp"), 10, 64)
		require.NoError(t, err)
		assert.InDelta(t, before, at, 60)
		header := http.Header{
			"Content-Type": {contentType}, "User-Agent": {"caddy-cvs"}, "Content-Length": {strconv.Itoa(len(body))}, "Accept-Encoding": {"gzip"},
			"X-Cvs-Imp-Uid": {"imp_1"}, "X-Cvs-Merchant-Uid": {"주문 1"}, "X-Cvs-Amount": {"15000"}, "X-Cvs-Expires": {"1700000900"}, "X-Cvs-Timeout-Ms": {"10000"},
			"Webhook-Id": {m.ID()}, "Webhook-Timestamp": {strconv.FormatInt(at, 10)},
			"X-Internal-Key": {gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"]}, "X-Event": {"paid/paid/second/15000/1700000900"},
		}
		if secrets != nil {
			header.Set("Webhook-Signature", tell.Sign(told.secrets, m.ID(), time.Unix(at, 0), want))
			assert.Len(t, strings.Fields(header.Get("Webhook-Signature")), 2, "each secret signs")
		}
		assert.Equal(t, header, seen.Header)
	}
}

func TestTellLeavesOutAnUnknownDeadline(t *testing.T) {
	t.Parallel()
	shop := gatewaytest.NewShop(t, gatewaytest.AnswerWith(200, ""))
	m := paidMessage()
	m.Expires = 0
	assert.Equal(t, ledger.Heard, provisionedTell(t, &Tell{URL: shop.URL}).Send(t.Context(), m).Verdict)
	assert.NotContains(t, shop.Requests[0].Header, "X-Cvs-Expires")
}

// Such an order is the shop's own fault, and must not look as if the shop were down.
func TestTellRefusesUnfitOrders(t *testing.T) {
	t.Parallel()
	shop := gatewaytest.NewShop(t, gatewaytest.AnswerWith(200, ""))
	inPath := provisionedTell(t, &Tell{URL: shop.URL + "/payments/{http.cvs.merchant_uid}/paid"})
	fixed := provisionedTell(t, &Tell{URL: shop.URL})
	for order, want := range map[string]string{"..": causePath, ".": causePath, "a/../b": causePath, "": causePath, "a\nb": causeHeader} {
		m := paidMessage()
		m.MerchantUID = order
		assert.Equal(t, ledger.Reply{Verdict: ledger.Refused, Cause: want}, inPath.Send(t.Context(), m), "%q", order)
		if want == causeHeader {
			assert.Equal(t, ledger.Reply{Verdict: ledger.Refused, Cause: want}, fixed.Send(t.Context(), m), "%q", order)
		}
	}
	assert.Zero(t, shop.Count())
}

func TestTellToAShopThatIsDown(t *testing.T) {
	t.Parallel()
	elsewhere := gatewaytest.NewShop(t, gatewaytest.AnswerWith(200, ""))
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		shop  http.HandlerFunc
		cause string
	}{
		"closes the connection": {abort, "connection broke"},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"heard":`)
		}, "connection broke"},
		"hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timed out"},
		"hangs in its body": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "timed out"},
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "redirect 307"},
		"is too long": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat(" ", maxCheckAnswer+1))
		}, "answer too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop := gatewaytest.NewShop(t, c.shop)
			told := provisionedTell(t, &Tell{URL: shop.URL, Timeout: caddy.Duration(500 * time.Millisecond)})
			began, late := time.Now(), lag.Watch()
			reply := told.Send(context.Background(), paidMessage())
			assert.LessOrEqual(t, time.Since(began), 500*time.Millisecond+late()+100*time.Millisecond)
			assert.Equal(t, ledger.Unheard, reply.Verdict)
			assert.Contains(t, reply.Cause, c.cause)
			assert.Equal(t, 1, shop.Count(), "it is sent once")
		})
	}
	t.Cleanup(func() { assert.Zero(t, elsewhere.Count()) })
}

// The ledger repeats; a tell that waited for the shop would keep others from it.
func TestTellDoesNotWaitForAConnection(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	told := provisionedTell(t, &Tell{URL: "http://" + l.Addr().String(), Timeout: caddy.Duration(time.Minute)})
	began := time.Now()
	reply := told.Send(t.Context(), paidMessage())
	assert.Less(t, time.Since(began), 10*time.Second)
	assert.Equal(t, ledger.Unheard, reply.Verdict)
	assert.Contains(t, reply.Cause, "unreachable: ")
}

func TestTellUsesNoProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	told := provisionedTell(t, &Tell{URL: "http://shop.example"})
	assert.Nil(t, told.transport.(*reverseproxy.HTTPTransport).Transport.Proxy)
}

func TestTellSendsNothingAfterTheEnd(t *testing.T) {
	t.Parallel()
	shop := gatewaytest.NewShop(t, gatewaytest.AnswerWith(200, ""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, ledger.Withdrawn, provisionedTell(t, &Tell{URL: shop.URL}).Send(ctx, paidMessage()).Verdict)
	assert.Zero(t, shop.Count())
}

// roundTripper is a transport of a test.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Over HTTP/2 the transport itself repeats some requests of which it is not known that the app did
// nothing.
func TestTellIsNotRepeatedOverHTTP2(t *testing.T) {
	t.Parallel()
	var repeated atomic.Bool
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		before, err := r.GetBody()
		require.NoError(t, err, "nothing is written yet")
		_, _ = io.ReadAll(before)
		httptrace.ContextClientTrace(r.Context()).WroteHeaderField(":method", []string{"POST"})
		if _, err = r.GetBody(); err == nil {
			repeated.Store(true)
		}
		return nil, errors.New("reset")
	})
	told := provisionedTell(t, &Tell{URL: "https://shop.example"})
	told.transport = transport
	reply := told.Send(t.Context(), paidMessage())
	assert.Equal(t, ledger.Unheard, reply.Verdict)
	assert.False(t, repeated.Load())
}

// What is sent is in the log, with neither secret nor answer.
func TestTellIsLogged(t *testing.T) {
	t.Parallel()
	answers := map[int]string{200: `{"heard":true}`, 404: "the buyer moved away"}
	var status atomic.Int32
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		fmt.Fprint(w, answers[int(status.Load())])
	}))
	t.Cleanup(shop.Close)
	core, lines := observer.New(zapcore.InfoLevel)
	n := &Notice{Tell: provisionedTell(t, &Tell{URL: shop.URL, Secret: []string{"{env.FIXTURE_SECRET}"}}), logger: zap.New(core)}
	n.webhooks.app = quietApp(t)
	for _, want := range []struct {
		status         int32
		level          zapcore.Level
		outcome, cause string
	}{{200, zapcore.InfoLevel, "heard", ""}, {404, zapcore.WarnLevel, "refused", "status 404"}, {503, zapcore.WarnLevel, "unheard", "server error 503"}} {
		status.Store(want.status)
		n.send(t.Context(), paidMessage())
		line := lines.TakeAll()[0]
		assert.Equal(t, want.level, line.Level)
		fields := line.ContextMap()
		assert.Positive(t, fields["duration"])
		delete(fields, "duration")
		wanted := map[string]any{
			"operation": "tell", "account": "second", "merchant_uid": "주문 1", "imp_uid": "imp_1", "amount": "15000",
			"event": "paid", "late": false, "outcome": want.outcome,
		}
		if want.cause != "" {
			wanted["cause"] = want.cause
		}
		assert.Equal(t, wanted, fields)
	}
}

// The secrets are hidden wherever the configuration is printed.
func TestTellHidesItsSecrets(t *testing.T) {
	t.Parallel()
	told := provisionedTell(t, &Tell{URL: "http://shop.example", Secret: []string{"{env.FIXTURE_SECRET}"}})
	printed := fmt.Sprintf("%+v %#v", told.secrets, *told)
	assertNoSecret(t, "the tell", printed)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(fixtureSecrets["FIXTURE_SECRET"], "whsec_"))
	require.NoError(t, err)
	assert.NotContains(t, printed, string(key))
}
