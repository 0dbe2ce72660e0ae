package client_test

// This file holds tests of what is sent, and of the limits of a call.

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/internal/lag"
)

func TestDoPassesRequestAndResponseThrough(t *testing.T) {
	t.Parallel()
	const sent, got = `{ "merchant_uid" : "주문-1", "amount":15000.00 }`, ` {"response":{"x":1.10} , "message":null,"code":0}` + "\n"
	seen := make(chan *http.Request, 2)
	api := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		if r.URL.Path != "/users/getToken" {
			assert.Equal(t, sent, string(body))
		}
		r.Form, _ = url.ParseQuery(string(body))
		seen <- r
		if r.URL.Path == "/users/getToken" {
			succeed(`{"access_token":"t1","now":1790000000,"expired_at":1790001800}`)(w, r)
			return
		}
		answer(201, "application/json; charset=utf-8", got)(w, r)
	}))
	c := newClient(t, api.URL, func(cfg *client.Config) { cfg.Tier = "001" })
	resp, err := c.Do(context.Background(), client.Request{
		Method: http.MethodPost, Path: "/x/%2F%EC%A3%BC", Query: "a=b%20c&d", ContentType: "application/json; charset=utf-8", Body: []byte(sent),
	})
	require.NoError(t, err)
	assert.Equal(t, &client.Response{Status: 201, ContentType: "application/json; charset=utf-8", Body: []byte(got)}, resp)

	token, call := <-seen, <-seen
	assert.Equal(t, http.MethodPost, token.Method)
	assert.Equal(t, strict.Form, token.Header.Get("Content-Type"))
	assert.Equal(t, url.Values{"imp_key": {impKey}, "imp_secret": {impSecret}}, token.Form)
	assert.Empty(t, token.Header.Get("Authorization"))

	assert.Equal(t, http.MethodPost, call.Method)
	assert.Equal(t, "/x/%2F%EC%A3%BC?a=b%20c&d", call.RequestURI)
	assert.Equal(t, "application/json; charset=utf-8", call.Header.Get("Content-Type"))
	assert.Equal(t, strict.JSON, call.Header.Get("Accept"))
	assert.Equal(t, "caddy-cvs", call.Header.Get("User-Agent"))
	assert.Equal(t, "Bearer t1", call.Header.Get("Authorization"))
	assert.Equal(t, "001", call.Header.Get("Tier"))
}

func TestKeysAreEncodedAsAForm(t *testing.T) {
	t.Parallel()
	const key, secret = "a&b=c+d%20 가", "&imp_key=other+ "
	_, c := newSandbox(t, emulator.Options{Keys: map[string]string{key: secret}}, func(cfg *client.Config) {
		cfg.ImpKey, cfg.ImpSecret = key, secret
	})
	fetchToken(t, c)
}

func TestDoRejectsInvalidPath(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	_, err := c.Do(context.Background(), client.Request{Method: http.MethodGet, Path: "/%zz-canary"})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "canary")
	for _, request := range []client.Request{
		{Method: http.MethodGet, Path: ".evil.example/payments"}, // must not become part of the host
		{Method: http.MethodGet, Path: "/payments/%2e%2e/cvs"},
		{Method: "no method", Path: "/payments/imp_1"},
	} {
		_, err := c.Do(context.Background(), request)
		require.Error(t, err, request.Path)
		assert.NotErrorIs(t, err, client.ErrNoToken, "%s: nothing was sent", request.Path)
	}
}

func TestRequestsKeepValuesInTheirPathSegment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got  client.Request
		want client.Request
	}{
		{client.PaymentRequest("imp_1"), client.Request{Method: "GET", Path: "/payments/imp_1", Query: "include_sandbox=true"}},
		{client.PaymentRequest("a/b?c#d"), client.Request{Method: "GET", Path: "/payments/a%2Fb%3Fc%23d", Query: "include_sandbox=true"}},
		{client.FindRequest("o", ""), client.Request{Method: "GET", Path: "/payments/find/o", Query: "sorting=-started&include_sandbox=true"}},
		{client.FindRequest("주/1", client.StatusPaid), client.Request{Method: "GET", Path: "/payments/find/%EC%A3%BC%2F1/paid", Query: "sorting=-started&include_sandbox=true"}},
		{client.VoidRequest("a/../b"), client.Request{Method: "DELETE", Path: "/cvs/a%2F..%2Fb"}},
	} {
		assert.Equal(t, c.want, c.got)
	}
}

// The validated bytes are sent, even if the caller overwrites its own.
func TestParseIssueCopiesCallersBytes(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	body := []byte(`{"merchant_uid":"a","amount":15000}`)
	issue, err := client.ParseIssue(strict.JSON, body, longAgo)
	require.NoError(t, err)
	copy(body, `{"merchant_uid":"b","amount":9    }`)
	_, err = c.IssueRaw(context.Background(), issue)
	require.NoError(t, err)
	assert.Equal(t, "a", e.Payments()[0].MerchantUID)
}

// Each call ends within its time limit, whatever the server does.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{"no answer": hang, "drips": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &scriptedAPI{issue: h, find: h, other: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/payments/imp_0" {
					missing(w, r)
					return
				}
				h(w, r)
			}}
			c := newClient(t, newServer(t, api).URL, timeout(limit))
			fetchToken(t, c)
			for what, tc := range map[string]struct {
				call  func() error
				limit time.Duration
			}{
				"payment": {func() error { _, err := c.Payment(context.Background(), "imp_1"); return err }, limit},
				"find":    {func() error { _, err := c.FindPayment(context.Background(), "o", ""); return err }, limit},
				"void":    {func() error { _, err := c.Void(context.Background(), "imp_1"); return err }, limit},
				"issue":   {func() error { _, err := c.IssueRaw(context.Background(), order(t, "o")); return err }, 2 * limit},
			} {
				late := lag.Watch()
				began := time.Now()
				err := tc.call()
				took := time.Since(began)
				require.ErrorIs(t, err, client.ErrOutcomeUnknown, what)
				assert.LessOrEqual(t, took, tc.limit+late()+100*time.Millisecond, what)
				assert.GreaterOrEqual(t, took, tc.limit*9/10, "%s: nor is it given up early", what)
			}
		})
	}
}

func TestIssueIsSentByteForByte(t *testing.T) {
	t.Parallel()
	for contentType, bodies := range map[string][]string{
		strict.JSON: {
			`{"merchant_uid":"o","amount":15000}`,
			" {\n\t\"new\" : [ 1.10 , 1E2, {\"a\":\"\\u00e9\\/\"} ],\"amount\":15000.00 , \"merchant_uid\":\"\\uc8fc\" } \r\n",
		},
		strict.Form: {
			`merchant_uid=o&amount=15000`,
			`&b=%7e&amount=15000.00&&merchant_uid=%ec%A3%bc+%20x&a[]=1&a[]=2&`,
		},
	} {
		for _, body := range bodies {
			i := parse(t, contentType+"; charset=utf-8", body)
			i.Complete(client.Defaults{}, keys(t), "", time.Now())
			gotType, got := wire(t, i)
			assert.Equal(t, contentType, gotType)
			assert.Equal(t, body, got)
		}
	}
}
