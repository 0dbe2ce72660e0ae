package emulator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

const (
	asJSON = "application/json"
	asForm = "application/x-www-form-urlencoded"
)

// clock is a clock for the API that a test advances.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock {
	return &clock{t: time.Unix(1_790_000_000, 0)}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// sandbox is an emulator behind a server, and a merchant's token for it.
type sandbox struct {
	*emulator.Emulator
	t      *testing.T
	server *httptest.Server
	token  string
}

func newSandbox(t *testing.T, opts emulator.Options) *sandbox {
	t.Helper()
	e := emulator.New(opts)
	server := httptest.NewServer(e)
	t.Cleanup(func() {
		_ = e.Close()
		server.Close()
	})
	s := &sandbox{Emulator: e, t: t, server: server}
	s.token = s.login("key", "secret")
	return s
}

// as returns the same sandbox for another merchant.
func (s *sandbox) as(impKey string) *sandbox {
	other := *s
	other.token = s.login(impKey, "secret")
	return &other
}

// envelope is any response of the API.
type envelope struct {
	status   int
	header   http.Header
	raw      string
	Code     int
	Message  *string
	Response json.RawMessage
}

// field returns a field of the response as JSON.
func (e envelope) field(name string) string {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(e.Response, &fields)
	return strings.Trim(string(fields[name]), `"`)
}

func (s *sandbox) login(impKey, impSecret string) string {
	s.t.Helper()
	a := s.do("POST", "/users/getToken", asJSON, `{"imp_key":"`+impKey+`","imp_secret":"`+impSecret+`"}`)
	if a.status != 200 || a.Code != 0 {
		s.t.Fatalf("getToken: %d %s", a.status, a.raw)
	}
	return a.field("access_token")
}

// try sends a request and returns the response, or the error.
func (s *sandbox) try(method, path, contentType, body string, header ...string) (envelope, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		return envelope{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	a := envelope{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	_ = json.Unmarshal(raw, &a)
	return a, err
}

func (s *sandbox) do(method, path, contentType, body string, header ...string) envelope {
	s.t.Helper()
	a, err := s.try(method, path, contentType, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.header.Get("X-Cvs-Sandbox") != "true" {
		s.t.Errorf("%s %s: response lacks the header X-Cvs-Sandbox", method, path)
	}
	return a
}

func (s *sandbox) get(path string) envelope {
	s.t.Helper()
	return s.do("GET", path, "", "")
}

// issue issues a barcode, with the fields given as JSON members, and fails the test if it cannot.
func (s *sandbox) issue(members string) envelope {
	s.t.Helper()
	a := s.do("POST", "/cvs", asJSON, "{"+members+"}")
	if a.status != 200 || a.Code != 0 {
		s.t.Fatalf("POST /cvs {%s}: %d %s", members, a.status, a.raw)
	}
	return a
}

// scan scans a barcode at the till over HTTP.
func (s *sandbox) scan(barcode, payType string) (int, emulator.ScanResult) {
	s.t.Helper()
	a := s.do("POST", "/till", asJSON, `{"barcode":"`+barcode+`","pay_type":"`+payType+`"}`)
	var result emulator.ScanResult
	if err := json.Unmarshal([]byte(a.raw), &result); err != nil {
		s.t.Fatalf("POST /till: %v in %s", err, a.raw)
	}
	return a.status, result
}

func (s *sandbox) inject(f emulator.Fault) {
	s.t.Helper()
	if err := s.Inject(f); err != nil {
		s.t.Fatal(err)
	}
}

// expect asserts the HTTP status, the code, and whether there are a message and a response.
func (a envelope) expect(t *testing.T, status, code int) {
	t.Helper()
	if a.status != status || a.Code != code {
		t.Errorf("got %d code %d, want %d code %d: %s", a.status, a.Code, status, code, a.raw)
	}
	if (a.Message == nil) != (code == 0) {
		t.Errorf("code %d with this message: %s", a.Code, a.raw)
	}
	if got := string(a.Response) != "null"; got != (code == 0) {
		t.Errorf("code %d with this response: %s", a.Code, a.raw)
	}
}

// gateway is a merchant's server that records the webhooks that it receives.
type gateway struct {
	*httptest.Server
	mu   sync.Mutex
	hits []hit
}

type hit struct {
	method, uri, body string
	header            http.Header
}

func newGateway(t *testing.T, handle http.HandlerFunc) *gateway {
	g := &gateway{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		g.mu.Lock()
		g.hits = append(g.hits, hit{r.Method, r.RequestURI, string(body), r.Header})
		g.mu.Unlock()
		handle(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gateway) got() []hit {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]hit(nil), g.hits...)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// answers returns a handler that responds with 200 and with these bodies, one after the other. It repeats the last one.
func answers(bodies ...string) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, bodies[min(int(n.Add(1)), len(bodies))-1])
	}
}

// accepts responds as cvs_confirm does when it accepts.
var accepts = answers(`{"accepted":true}`)

func newServer(t *testing.T, h http.Handler) *httptest.Server {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// serve has the emulator serve a request without a network.
func serve(e *emulator.Emulator, method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	r.Header.Set("Content-Type", asJSON)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	e.ServeHTTP(rec, r)
	return rec
}

// issueDirectly issues a barcode without a network, and returns the token used.
func issueDirectly(t *testing.T, e *emulator.Emulator, body string) (token string) {
	t.Helper()
	var a envelope
	_ = json.Unmarshal(serve(e, "POST", "/users/getToken", strings.NewReader(`{"imp_key":"k","imp_secret":"s"}`)).Body.Bytes(), &a)
	token = a.field("access_token")
	if rec := serve(e, "POST", "/cvs", strings.NewReader(body), "Authorization", token); rec.Code != 200 {
		t.Fatal(rec.Body)
	}
	return token
}

// brokenReader is an incomplete body.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func cardBody(merchantUID string, amount int) string {
	return fmt.Sprintf(`{"merchant_uid":%q,"amount":%d,"card_number":"1234-5678-9012-3456","expiry":"2030-12","birth":"900101","pg":"kcp.shop1","name":"우산"}`, merchantUID, amount)
}

func (s *sandbox) payByCard(merchantUID string, amount int) envelope {
	s.t.Helper()
	a := s.do("POST", "/subscribe/payments/onetime", asJSON, cardBody(merchantUID, amount))
	a.expect(s.t, 200, 0)
	return a
}

// query is the query of the webhook URLs. Only the gateway may see its secret.
const (
	secret = "c2lnbmF0dXJlLW9mLTIy"
	query  = "?cvs_amount=15000&cvs_sig=" + secret

	shownQuery = "?cvs_amount=15000&cvs_sig=…"
)

// order issues a barcode for 15,000 won with webhooks to the gateway.
func (s *sandbox) order(merchantUID string, g *gateway) envelope {
	s.t.Helper()
	return s.issue(fmt.Sprintf(`"merchant_uid":%q,"amount":15000,"confirm_url":"%s/confirm%s","notice_url":"%s/notice%s"`,
		merchantUID, g.URL, query, g.URL, query))
}

func compact(raw json.RawMessage) string {
	return strings.Join(strings.Fields(string(raw)), "")
}

// roundTrip is a transport for tests with synctest, which cannot use the network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// hang waits until the request is cancelled.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, fmt.Errorf("Post %q: %w", r.URL, r.Context().Err())
}

// scenario scans a barcode over HTTP while something else happens.
func (s *sandbox) scenario(issued envelope, scenario emulator.Scenario) emulator.ScanResult {
	s.t.Helper()
	a := s.do("POST", "/till", asForm, "barcode="+issued.field("vbank_num")+"&scenario="+string(scenario))
	var result emulator.ScanResult
	if err := json.Unmarshal([]byte(a.raw), &result); err != nil || a.status != 200 {
		s.t.Fatalf("POST /till: %d %v in %s", a.status, err, a.raw)
	}
	return result
}

// paid issues a barcode for 15,000 won and pays it.
func (s *sandbox) paid(merchantUID string, members ...string) envelope {
	s.t.Helper()
	a := s.issue(strings.Join(append(members, `"merchant_uid":"`+merchantUID+`","amount":15000`), ","))
	if code, result := s.scan(a.field("vbank_num"), "card"); code != 200 || !result.Accepted {
		s.t.Fatalf("not paid: %d %+v", code, result)
	}
	return a
}

func (s *sandbox) cancel(members string) envelope {
	s.t.Helper()
	return s.do("POST", "/payments/cancel", asJSON, "{"+members+"}")
}

const orderBody = `{"merchant_uid":"order","amount":1}`
