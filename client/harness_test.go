package client_test

// This file holds what the tests share: clients, sandboxes, and APIs and transports that fail as told.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	impKey    = "imp-key-canary"
	impSecret = "imp-secret-canary"
)

// longAgo is earlier than every deadline in these tests.
var longAgo = time.Unix(1_700_000_000, 0)

func newServer(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// newClient returns a client with connections of its own, which end with the test.
func newClient(t testing.TB, api string, settings ...func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{API: api, ImpKey: impKey, ImpSecret: impSecret, Transport: &http.Transport{}}
	for _, set := range settings {
		set(&cfg)
	}
	c, err := client.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// newSandbox returns an emulator behind a server, and a client of it.
func newSandbox(t testing.TB, opts emulator.Options, settings ...func(*client.Config)) (*emulator.Emulator, *client.Client) {
	t.Helper()
	e := emulator.New(opts)
	server := newServer(t, e)
	t.Cleanup(func() { _ = e.Close() })
	return e, newClient(t, server.URL, settings...)
}

func inject(t testing.TB, e *emulator.Emulator, f emulator.Fault) {
	t.Helper()
	require.NoError(t, e.Inject(f))
}

func timeout(d time.Duration) func(*client.Config) {
	return func(cfg *client.Config) { cfg.Timeout = d }
}

func transport(rt http.RoundTripper) func(*client.Config) {
	return func(cfg *client.Config) { cfg.Transport = rt }
}

// fetchToken makes the client fetch its token. On a busy machine, a time-out that a
// test set for its own call may be too short for this one.
func fetchToken(t testing.TB, c *client.Client) {
	t.Helper()
	_, err := c.Payment(context.Background(), "imp_0")
	for range 20 {
		if !client.IsTimeout(err) {
			break
		}
		_, err = c.Payment(context.Background(), "imp_0")
	}
	require.ErrorIs(t, err, client.ErrNotFound)
}

func parse(t testing.TB, contentType, body string) *client.Issue {
	t.Helper()
	issue, err := client.ParseIssue(contentType, []byte(body), longAgo)
	require.NoError(t, err, body)
	return issue
}

// order returns the issue of a barcode of 15,000 won.
func order(t testing.TB, merchantUID string) *client.Issue {
	t.Helper()
	return parse(t, strict.JSON, `{"merchant_uid":"`+merchantUID+`","amount":15000}`)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inProcess serves requests by a handler without a network.
func inProcess(h http.Handler) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Result(), nil
	}
}

// scriptedAPI is the API with the answers that a test writes.
type scriptedAPI struct {
	now                func() time.Time // its clock, by default time.Now
	token              http.HandlerFunc // by default gives one
	issue, find, other http.HandlerFunc
	posts, finds       atomic.Int32
}

func (a *scriptedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch {
	case r.URL.Path == "/users/getToken" && a.token != nil:
		a.token(w, r)
	case r.URL.Path == "/users/getToken":
		now := a.clock().Unix()
		succeed(fmt.Sprintf(`{"access_token":"token-canary","now":%d,"expired_at":%d}`, now, now+1800))(w, r)
	case r.Method == http.MethodPost:
		a.posts.Add(1)
		a.issue(w, r)
	case strings.HasPrefix(r.URL.Path, "/payments/find/"):
		a.finds.Add(1)
		a.find(w, r)
	default:
		a.other(w, r)
	}
}

func (a *scriptedAPI) clock() time.Time {
	if a.now == nil {
		return time.Now()
	}
	return a.now()
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// succeed answers with a response in the envelope.
func succeed(response string) http.HandlerFunc {
	return answer(200, strict.JSON, `{"code":0,"message":null,"response":`+response+`}`)
}

// refuse answers with a message in the envelope.
func refuse(status, code int, message string) http.HandlerFunc {
	return answer(status, strict.JSON, fmt.Sprintf(`{"code":%d,"message":%q,"response":null}`, code, message))
}

func page(status int) http.HandlerFunc {
	return answer(status, "text/html", "<html>body-canary</html>")
}

func missing(w http.ResponseWriter, r *http.Request) {
	refuse(404, -1, "존재하지 않는 결제정보입니다.")(w, r)
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// found answers with a payment that started at a given time.
func found(merchantUID, amount string, started time.Time) http.HandlerFunc {
	return succeed(fmt.Sprintf(`{"imp_uid":"imp_old","merchant_uid":%q,"amount":%s,"status":"ready","started_at":%d}`, merchantUID, amount, started.Unix()))
}

// inTurn answers each request by the next handler, and by the last one from then on.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		handlers[min(int(n.Add(1)), len(handlers))-1](w, r)
	}
}

// manualClock is the API's clock, moved by hand.
type manualClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *manualClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// watchedContext closes waits at a call of Done, which a caller makes just before it waits.
type watchedContext struct {
	context.Context
	left  atomic.Int32
	waits chan struct{}
}

// IssueRaw calls Done twice: to see whether the context can end, and to wait after it has
// joined a call.
const doneCallsOfIssue = 2

func watched(ctx context.Context, calls int32) *watchedContext {
	w := &watchedContext{Context: ctx, waits: make(chan struct{})}
	w.left.Store(calls)
	return w
}

func (w *watchedContext) Done() <-chan struct{} {
	if w.left.Add(-1) == 0 {
		close(w.waits)
	}
	return w.Context.Done()
}

// deadAddress is an address at which nobody listens. Another test may get a port that was
// free a moment ago; the system gives port 1 to nobody.
const deadAddress = "http://127.0.0.1:1"

// runAll runs the assertions of cases that all started before, because each of them
// takes seconds.
func runAll(assertions []func()) {
	for _, run := range assertions {
		run()
	}
}

func respond(status int) *http.Response {
	rec := httptest.NewRecorder()
	page(status)(rec, nil)
	return rec.Result()
}

// faultyDialer fails to connect as often as failures says.
type faultyDialer struct {
	net.Dialer
	failures atomic.Int32
	dials    atomic.Int32
}

func (d *faultyDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.dials.Add(1)
	if d.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused: error-canary")}
	}
	return d.Dialer.DialContext(ctx, network, addr)
}

func (d *faultyDialer) transport() func(*client.Config) {
	return transport(&http.Transport{DialContext: d.DialContext, DisableKeepAlives: true})
}

// holder delays each POST /cvs until release is closed, and reports each that arrives.
type holder struct {
	arrived chan struct{}
	release chan struct{}
}

func newHolder() *holder { return &holder{make(chan struct{}, 100), make(chan struct{})} }

func (h *holder) options() emulator.Options {
	return emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, r *http.Request) {
		if endpoint == emulator.EndpointIssue {
			h.arrived <- struct{}{}
			select {
			case <-h.release:
			case <-r.Context().Done():
			}
		}
	}}
}

// await waits for the next POST /cvs to arrive.
func (h *holder) await(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	select {
	case <-h.arrived:
	case <-ctx.Done():
		require.Fail(t, "no further POST /cvs arrives")
	}
}

type result struct {
	resp *client.Response
	err  error
}

func issueInBackground(ctx context.Context, c *client.Client, i *client.Issue) <-chan result {
	ch := make(chan result, 1)
	go func() {
		resp, err := c.IssueRaw(ctx, i)
		ch <- result{resp, err}
	}()
	return ch
}

// wire returns the Content-Type and the body with which an issue is sent.
func wire(t testing.TB, i *client.Issue) (contentType, body string) {
	t.Helper()
	c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/cvs" {
			contentType = r.Header.Get("Content-Type")
			raw, _ := io.ReadAll(r.Body)
			body = string(raw)
		}
		return inProcess(&scriptedAPI{issue: succeed("null")}).RoundTrip(r)
	})))
	_, err := c.IssueRaw(context.Background(), i)
	require.NoError(t, err)
	return contentType, body
}

func keys(t testing.TB) signedurl.Keys {
	t.Helper()
	k, err := signedurl.NewKeys("signing-key-canary")
	require.NoError(t, err)
	return k
}

func base(t testing.TB, raw string) *signedurl.Base {
	t.Helper()
	b, err := signedurl.ParseBase(raw)
	require.NoError(t, err)
	return b
}
