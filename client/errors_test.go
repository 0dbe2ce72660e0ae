package client_test

// This file holds tests of the errors, and of what they may say.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// kinds returns the names of all errors that err matches.
func kinds(err error) []string {
	var names []string
	for name, sentinel := range map[string]error{
		"ErrCredentials": client.ErrCredentials, "ErrNotFound": client.ErrNotFound, "ErrNoToken": client.ErrNoToken,
		"ErrUnreachable": client.ErrUnreachable, "ErrOutcomeUnknown": client.ErrOutcomeUnknown, "ErrNotAPI": client.ErrNotAPI,
	} {
		if errors.Is(err, sentinel) {
			names = append(names, name)
		}
	}
	if _, ok := errors.AsType[*client.APIError](err); ok {
		names = append(names, "APIError")
	}
	if _, ok := errors.AsType[*client.InvalidError](err); ok {
		names = append(names, "InvalidError")
	}
	return names
}

// assertDiscreet fails if printing an error in any way shows a secret.
func assertDiscreet(t testing.TB, err error) {
	t.Helper()
	for _, format := range []string{"%v", "%+v", "%s", "%q", "%x"} {
		text := fmt.Sprintf(format, err)
		if format == "%x" {
			assert.NotContains(t, text, fmt.Sprintf("%x", "canary"))
		}
		assert.NotContains(t, text, "canary", format)
	}
	assert.NotContains(t, err.Error(), "canary")
	assert.NotContains(t, err.Error(), "body")
}

// token answers getToken with a token that no error may show.
var token = succeed(`{"access_token":"token-canary","now":1790000000,"expired_at":1790001800}`)

func TestErrorsAreDistinctAndDiscreet(t *testing.T) {
	t.Parallel()
	tlsServer := httptest.NewUnstartedServer(token)
	tlsServer.Config.ErrorLog = log.New(io.Discard, "", 0)
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	oversized := answer(200, strict.JSON, `{"code":0,"message":null,"response":"`+strings.Repeat("body-canary", 200_000)+`"}`)
	for _, tc := range []struct {
		name  string
		token http.HandlerFunc
		other http.HandlerFunc
		kinds []string
		text  string
	}{
		{"not found", token, answer(404, strict.JSON, `{"code":-1,"message":"없음","response":"body-canary"}`), []string{"ErrNotFound", "APIError"}, "the API refuses: 없음 (code -1, HTTP 404)"},
		{"business refusal", token, answer(200, strict.JSON, `{"code":1,"message":"이미 결제됨","response":"body-canary"}`), []string{"APIError"}, "the API refuses: 이미 결제됨 (code 1, HTTP 200)"},
		{"no such code", token, answer(200, strict.JSON, `{"code":-99999999999,"message":null,"response":{"a":"body-canary"}}`), []string{"APIError"}, "the API refuses:  (code -99999999999, HTTP 200)"},
		{"error with code 0", token, answer(400, strict.JSON, `{"code":0,"message":"잘못","response":null}`), []string{"APIError"}, "the API refuses: 잘못 (code 0, HTTP 400)"},
		{"server error", token, refuse(500, -1, "점검"), []string{"APIError"}, "the API refuses: 점검 (code -1, HTTP 500)"},
		{"too many", token, refuse(429, -1, "천천히"), []string{"APIError"}, "the API refuses: 천천히 (code -1, HTTP 429)"},
		{"token refused after all", token, refuse(401, -1, "body-canary"), []string{"ErrCredentials"}, "the API refuses the account's credentials"},
		{"page", token, page(200), []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 200)"},
		{"page 503", token, page(503), []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 503)"},
		{"page 404", token, page(404), []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 404)"},
		{"redirect", token, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/payments/redirect-canary", http.StatusFound)
		}, []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 302)"},
		{"no code", token, answer(200, strict.JSON, `{"response":"body-canary"}`), []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 200)"},
		{"code null", token, answer(200, strict.JSON, `{"code":null,"response":"body-canary"}`), []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 200)"},
		{"invalid UTF-8", token, answer(200, strict.JSON, `{"code":0,"response":"`+"\xff"+`body-canary"}`), []string{"ErrNotAPI"}, "the answer is not the API's (HTTP 200)"},
		{"no payment", token, succeed(`"body-canary"`), []string{"ErrNotAPI"}, "the answer is not the API's"},
		{"connection broken", token, hangUp, []string{"ErrOutcomeUnknown"}, "it may have done the work: the connection was closed before the answer was whole"},
		{"half an answer", token, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			succeed(`"body-canary"`)(w, r)
		}, []string{"ErrOutcomeUnknown"}, "it may have done the work: the connection was closed before the answer was whole"},
		{"no HTTP", token, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if assert.NoError(t, err) {
				_, _ = io.WriteString(conn, "HTTP/1.1 body-canary\r\n\r\n")
				_ = conn.Close()
			}
		}, []string{"ErrOutcomeUnknown"}, "it may have done the work: the answer is not HTTP"},

		{"wrong keys", refuse(401, -1, "body-canary"), nil, []string{"ErrCredentials"}, "the API refuses the account's credentials"},
		{"token page 401", page(401), nil, []string{"ErrCredentials"}, "the API refuses the account's credentials"},
		// The kind of getToken's failure must not be visible. Otherwise the outcome of an
		// issue would seem unknown that was never sent, and a 404 would seem to say that
		// there is no such payment.
		{"token refused with 404", refuse(404, -1, "body-canary"), nil, []string{"ErrNoToken"}, "the API gives no access token: code -1, HTTP 404"},
		{"token refused with 200", refuse(200, 1, "body-canary"), nil, []string{"ErrNoToken"}, "the API gives no access token: code 1, HTTP 200"},
		{"token page 503", page(503), nil, []string{"ErrNoToken"}, "the API gives no access token: the answer is not the API's (HTTP 503)"},
		{"token lost", hangUp, nil, []string{"ErrNoToken"}, "the API gives no access token: the connection was closed before the answer was whole"},
		{"token without text", succeed(`{"now":1,"expired_at":2,"other":"body-canary"}`), nil, []string{"ErrNoToken"}, "the API gives no access token: the answer is not the API's"},
		{"token expired", succeed(`{"access_token":"token-canary","now":2,"expired_at":2}`), nil, []string{"ErrNoToken"}, "the API gives no access token: the answer is not the API's"},
		// An oversized answer is an answer, and not the API's.
		{"oversized", token, oversized, []string{"ErrNotAPI"}, "the answer is larger than any of the API's"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, newServer(t, &scriptedAPI{token: tc.token, other: tc.other}).URL)
			resp, err := c.Do(context.Background(), client.Request{
				Method: http.MethodGet, Path: "/payments/imp_1", Query: "q=query-canary", ContentType: strict.JSON, Body: []byte(`"request-canary"`),
			})
			if err == nil {
				_, err = resp.Payment()
			}
			require.Error(t, err)
			assert.ElementsMatch(t, tc.kinds, kinds(err), "%v", err)
			assert.True(t, strings.HasSuffix(err.Error(), tc.text), "%v", err)
			assertDiscreet(t, err)
		})
	}
}

func TestUnavailableErrorHasRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		api  string
		want error
		most time.Duration
	}{
		{"down", deadAddress, client.ErrNoToken, 5 * time.Second},
		{"failing", newServer(t, &scriptedAPI{token: page(503)}).URL, client.ErrNoToken, 5 * time.Second},
		{"wrong keys", newServer(t, emulator.New(emulator.Options{Keys: map[string]string{impKey: "another"}})).URL, client.ErrCredentials, 2 * time.Minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, tc.api)
			for range 2 { // the second is answered from memory
				_, err := c.Payment(context.Background(), "imp_1")
				require.ErrorIs(t, err, tc.want)
				var unavailable *client.UnavailableError
				require.ErrorAs(t, err, &unavailable)
				assert.Positive(t, unavailable.RetryAfter)
				assert.LessOrEqual(t, unavailable.RetryAfter, tc.most)
				assertDiscreet(t, err)

				_, err = c.IssueRaw(context.Background(), order(t, "o"))
				require.ErrorIs(t, err, tc.want)
			}
		})
	}
}

// Nothing was sent, so nothing is in doubt and nothing needs to be looked up.
func TestIssueWithoutATokenIsNotInDoubt(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]http.HandlerFunc{"lost": hangUp, "page": page(502)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &scriptedAPI{token: inTurn(fails, fails, fails, token), issue: succeed("null"), find: missing}
			c := newClient(t, newServer(t, api).URL)
			_, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.ErrorIs(t, err, client.ErrNoToken)
			require.NotErrorIs(t, err, client.ErrOutcomeUnknown)
			require.NotErrorIs(t, err, client.ErrNotAPI)
			assert.Zero(t, api.finds.Load())
		})
	}
}

func TestFailedDialIsErrUnreachable(t *testing.T) {
	t.Parallel()
	d := new(faultyDialer)
	e, c := newSandbox(t, emulator.Options{}, d.transport())
	fetchToken(t, c)
	d.failures.Store(1)
	_, err := c.Payment(context.Background(), "imp_1")
	assert.Equal(t, []string{"ErrUnreachable"}, kinds(err))
	assert.EqualError(t, err, "the API cannot be reached: connecting failed")
	assertDiscreet(t, err)
	assert.Equal(t, 1, e.Requests(emulator.EndpointPayment), "the look-up is not repeated")
}

func TestFailedDialAfterRefusedTokenIsErrUnreachable(t *testing.T) {
	t.Parallel()
	d := new(faultyDialer)
	e, c := newSandbox(t, emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
		if endpoint == emulator.EndpointToken && d.dials.Load() > 1 {
			d.failures.Store(1) // the repeat with the new token cannot connect
		}
	}}, d.transport())
	fetchToken(t, c)
	e.ExpireTokens()
	_, err := c.Void(context.Background(), "imp_1")
	assert.Equal(t, []string{"ErrUnreachable"}, kinds(err), "the 401 means that nothing was done")
	assert.Equal(t, 1, e.Requests(emulator.EndpointVoid))
}

func TestRefusedConnectionIsErrUnreachable(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	server := newServer(t, e)
	first := newClient(t, server.URL, transport(&http.Transport{DisableKeepAlives: true}))
	fetchToken(t, first)
	server.Close()
	for _, call := range []func() error{
		func() error { _, err := first.Payment(context.Background(), "imp_1"); return err },
		func() error { _, err := first.Void(context.Background(), "imp_1"); return err },
		func() error { _, err := first.IssueRaw(context.Background(), order(t, "o")); return err },
		func() error {
			_, err := first.ListPayments(context.Background(), client.StatusAll, client.ListOptions{})
			return err
		},
	} {
		err := call()
		assert.Equal(t, []string{"ErrUnreachable"}, kinds(err))
		assert.EqualError(t, err, "the API cannot be reached: connection refused")
	}
}

func TestUntrustedCertificateIsErrUnreachable(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(&scriptedAPI{other: missing})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := newClient(t, server.URL, transport(server.Client().Transport))
	fetchToken(t, trusted)
	c := newClient(t, server.URL, func(cfg *client.Config) { cfg.State = trusted.State() })
	_, err := c.Payment(context.Background(), "imp_1")
	assert.Equal(t, []string{"ErrUnreachable"}, kinds(err))
	assert.EqualError(t, err, "the API cannot be reached: TLS: the certificate is signed by an unknown authority")

	plain := newServer(t, &scriptedAPI{})
	c = newClient(t, strings.Replace(plain.URL, "http", "https", 1), func(cfg *client.Config) { cfg.State = trusted.State() })
	_, err = c.Payment(context.Background(), "imp_1")
	assert.EqualError(t, err, "the API cannot be reached: TLS: the other side does not speak it")
}

func TestCallsEndWithContext(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 2)
	_, c := newSandbox(t, emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, r *http.Request) {
		if endpoint == emulator.EndpointVoid {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	}}, timeout(time.Second))
	fetchToken(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := c.Void(ctx, "imp_1")
	assert.Equal(t, []string{"ErrOutcomeUnknown"}, kinds(err))
	require.ErrorIs(t, err, context.Canceled)
	assert.True(t, strings.HasSuffix(err.Error(), ": canceled"), err.Error())

	_, err = c.Void(context.Background(), "imp_1") // and with the client's time-out
	assert.Equal(t, []string{"ErrOutcomeUnknown"}, kinds(err))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.True(t, strings.HasSuffix(err.Error(), ": timed out"), err.Error())
}

// hidden is an error that hides another one's type, as Caddy's DialError does.
type hidden struct{ text string }

func (e hidden) Error() string { return e.text }

func TestTransportErrorTextIsNotRepeated(t *testing.T) {
	t.Parallel()
	canary := errors.New("error-canary")
	for _, tc := range []struct {
		err  error
		want string
	}{
		{canary, "the exchange failed"},
		{fmt.Errorf("error-canary: %w", context.DeadlineExceeded), "timed out"},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "timed out"},
		{fmt.Errorf("error-canary: %w", context.Canceled), "canceled"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "host-canary", Err: "error-canary"}}, "the host name cannot be resolved (DNS)"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: "host-canary", IsNotFound: true}}, "no such host name (DNS)"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "no route to the host"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "connecting timed out"},
		{&net.OpError{Op: "dial", Err: canary}, "connecting failed"},
		{&net.OpError{Op: "proxyconnect", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}, "there is no such socket"},
		{&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}, "the socket's permissions refuse it"},
		{hidden{"dial unix /run/canary.sock: connect: no such file or directory"}, "there is no such socket"},
		{hidden{"dial unix /run/canary.sock: connect: permission denied"}, "the socket's permissions refuse it"},
		{errors.New("stream error: stream ID 1; INTERNAL_ERROR; error-canary"), "the connection was reset"},
		{errors.New("http2: server sent GOAWAY and closed the connection; error-canary"), "the connection was reset"},
		{errors.New("malformed MIME header: error-canary"), "the answer is not HTTP"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "the connection was reset"},
		{&net.OpError{Op: "read", Err: canary}, "the connection broke"},
		{hidden{"dial tcp: lookup host-canary on 127.0.0.53:53: no such host"}, "no such host name (DNS)"},
		{hidden{"dial tcp: lookup host-canary: server misbehaving"}, "the host name cannot be resolved (DNS)"},
		{hidden{"dial tcp 127.0.0.1:1: connect: connection refused"}, "connection refused"},
		{hidden{"dial tcp 10.0.0.1:1: connect: no route to host"}, "no route to the host"},
		{hidden{"dial tcp 10.0.0.1:1: i/o timeout"}, "connecting timed out"},
		{hidden{"dial tcp host-canary: error-canary"}, "connecting failed"},
		{io.EOF, "the connection was closed before the answer was whole"},
		{io.ErrUnexpectedEOF, "the connection was closed before the answer was whole"},
		{errors.New("http2: client connection lost, error-canary"), "the connection is dead: a ping was not answered"},
		{tls.AlertError(40), "TLS: the other side refused the handshake"},
		{&net.OpError{Op: "remote error", Err: canary}, "TLS: the other side refused the handshake"},
		{&net.OpError{Op: "local error", Err: canary}, "TLS: the handshake failed"},
		{tls.RecordHeaderError{Msg: "error-canary"}, "TLS: the other side does not speak it"},
		{&tls.CertificateVerificationError{Err: canary}, "TLS: the certificate is not valid"},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: new(x509.Certificate), Host: "host-canary"}}, "TLS: the certificate is for another host name"},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, "TLS: the certificate has expired or is not valid yet"},
	} {
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/users/getToken" {
				return inProcess(&scriptedAPI{}).RoundTrip(r)
			}
			return nil, tc.err
		})))
		_, err := c.Payment(context.Background(), "imp_1")
		require.ErrorIs(t, err, client.ErrOutcomeUnknown, "nobody says that it was not sent")
		require.ErrorIs(t, err, tc.err, "the cause is kept")
		assert.EqualError(t, err, client.ErrOutcomeUnknown.Error()+": "+tc.want)
		assert.Equal(t, tc.want, client.Cause(err))
		assert.Empty(t, client.Cause(nil))
		assertDiscreet(t, err)
	}
}

func TestInvalidErrorListsItsProblems(t *testing.T) {
	t.Parallel()
	_, err := client.ParseIssue(strict.JSON, []byte(`{"merchant_uid":"o","amount":"canary","name":["canary"],"confirm_url":"canary"}`), longAgo)
	assert.Equal(t, []string{"InvalidError"}, kinds(err))
	assertDiscreet(t, err)
	assert.Len(t, strings.Split(err.Error(), "; "), 3)
}

func TestPrintingHidesKeys(t *testing.T) {
	t.Parallel()
	cfg := client.Config{ImpKey: impKey, ImpSecret: impSecret}
	c, err := client.New(cfg)
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{cfg, &cfg, c, struct{ C client.Config }{cfg}} {
			text := fmt.Sprintf(verb, value)
			assert.NotContains(t, text, impKey, verb)
			assert.NotContains(t, text, impSecret, verb)
		}
	}
}
