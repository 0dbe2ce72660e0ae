package caddycvs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// gateway is a real Caddy on real sockets, with what stands around it.
type gateway struct {
	inside    string // base URL of cvs_proxy
	outside   string // base URL of cvs_confirm
	api       *emulator.Emulator
	apiURL    string
	apiServer *httptest.Server
	shop      *shop
	logFile   string // with the log at debug level
	http      *http.Client
}

// setup changes one thing or another of the usual gateway.
type setup struct {
	keys    string           // replaces imp_key and imp_secret
	account string           // more options of the unnamed account
	second  string           // options of the account "second"; "" for none
	proxy   string           // replaces the options of cvs_proxy
	confirm string           // replaces the options of cvs_confirm
	sites   string           // more sites
	globals string           // more global options
	api     http.Handler     // replaces the emulator
	apiURL  string           // replaces the address of the emulator
	opts    emulator.Options // of the emulator
	payable http.HandlerFunc // the shop's order check
}

const (
	usualProxy = `
		pg galaxia
		confirm_url OUTSIDE/cvs/confirm
		expires_in 72h`
	usualConfirm = `
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable {
			require payable true
			amount total
		}`
)

// start starts a gateway that ends with the test.
func start(t testing.TB, s setup) *gateway {
	t.Helper()
	g, config := prepare(t, s)
	runCaddy(t, config)
	return g
}

// prepare starts what stands around a gateway and returns its configuration.
func prepare(t testing.TB, s setup) (*gateway, string) {
	t.Helper()
	g := &gateway{
		inside: "http://" + address(t), outside: "http://" + address(t),
		shop: newShop(t, s.payable), logFile: logFile(t), http: httpClient(t),
	}
	handler := s.api
	if handler == nil {
		s.opts.BeforeRequest = noteTokens(s.opts.BeforeRequest)
		g.api = emulator.New(s.opts)
		handler = g.api
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		if g.api != nil {
			_ = g.api.Close() // first: it ends the delays that the server would wait for
		}
		server.Close()
	})
	g.apiServer = server
	if g.apiURL = server.URL; s.apiURL != "" {
		g.apiURL = s.apiURL
	}

	second := ""
	if s.second != "" {
		second = "account second {\n" + s.second + "\n}"
	}
	pick := func(given, usual string) string {
		if given != "" {
			return given
		}
		return usual
	}
	config := `{
	admin off
	persist_config off
	auto_https off
	log {
		output file LOGS
		level DEBUG
	}
	` + s.globals + `
	cvs {
		` + pick(s.keys, "imp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}") + `
		api API
		` + s.account + `
		` + second + `
	}
}
INSIDE {
	log {
		output file LOGS
	}
	cvs_proxy {
		` + pick(s.proxy, usualProxy) + `
	}
	respond "next handler" 418
}
OUTSIDE {
	log {
		output file LOGS
	}
	cvs_confirm /cvs/confirm {
		` + pick(s.confirm, usualConfirm) + `
	}
	respond "next handler" 418
}
` + s.sites
	return g, g.fill(config)
}

// fill replaces the names of addresses in a configuration.
func (g *gateway) fill(config string) string {
	return strings.NewReplacer("INSIDE", g.inside, "OUTSIDE", g.outside, "API", g.apiURL, "SHOP", g.shop.URL, "LOGS", g.logFile).Replace(config)
}

// provisioning guards what all Caddys of a process share while they start.
var provisioning sync.Mutex

// runCaddy starts a Caddy of its own beside others in this process.
func runCaddy(t testing.TB, config string) {
	t.Helper()
	provisioning.Lock()
	defer provisioning.Unlock()
	ctx, err := caddy.ProvisionContext(adapt(t, config))
	require.NoError(t, err)
	app, err := ctx.App("http")
	require.NoError(t, err)
	require.NoError(t, app.(*caddyhttp.App).Start())
	t.Cleanup(func() { _ = app.(*caddyhttp.App).Stop() })
}

func adapt(t testing.TB, config string) *caddy.Config {
	t.Helper()
	adapted, _, err := adaptCaddyfile(config)
	require.NoError(t, err, config)
	cfg := new(caddy.Config)
	require.NoError(t, json.Unmarshal(adapted, cfg))
	return cfg
}

var nextPort atomic.Int32

// address returns a free one, below the range that outgoing connections use.
func address(t testing.TB) string {
	t.Helper()
	nextPort.CompareAndSwap(0, 12000+rand.Int32N(10000))
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", nextPort.Add(1))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

func logFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(written.dir, fmt.Sprintf("%s-%d.log", strings.ReplaceAll(t.Name(), "/", "-"), rand.Uint32()))
}

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cvs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func httpClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func noteTokens(also func(emulator.Endpoint, *http.Request)) func(emulator.Endpoint, *http.Request) {
	return func(e emulator.Endpoint, r *http.Request) {
		if token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); token != "" && token != placeholderToken {
			written.Lock()
			written.tokens[token] = true
			written.Unlock()
		}
		if also != nil {
			also(e, r)
		}
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) get(t testing.TB, field string) any {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &fields), a.body)
	return fields[field]
}

func (a answer) payment(t testing.TB) map[string]any {
	t.Helper()
	payment, ok := a.get(t, "response").(map[string]any)
	require.True(t, ok, "no payment in %d %s", a.status, a.body)
	return payment
}

// send sends a request and keeps what an own error says for findSecrets. It may
// be used by other goroutines than the test's, so it only notes a failure.
func (g *gateway) send(t testing.TB, r *http.Request) answer {
	t.Helper()
	resp, err := g.http.Do(r)
	if err != nil {
		t.Error(err)
		return answer{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if resp.StatusCode >= 400 {
		written.Lock()
		fmt.Fprintf(&written.errors, "%s\n", body)
		written.Unlock()
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (g *gateway) do(t testing.TB, method, target, contentType, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return answer{}
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return g.send(t, r)
}

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// issue asks for a barcode of an order of 15000 won.
func (g *gateway) issue(t testing.TB, merchantUID string) answer {
	t.Helper()
	body, _ := json.Marshal(map[string]any{
		"merchant_uid": merchantUID, "amount": 15000, "buyer_name": buyerName, "buyer_tel": buyerTel, "buyer_email": buyerEmail,
	})
	return g.do(t, http.MethodPost, g.inside+"/cvs", jsonType, string(body))
}

// issued is a barcode with the URL that its webhook goes to.
type issued struct {
	impUID, merchantUID, barcode, confirmURL string
}

func (g *gateway) mustIssue(t testing.TB, merchantUID string) issued {
	t.Helper()
	a := g.issue(t, merchantUID)
	require.Equal(t, http.StatusOK, a.status, a.body)
	p := a.payment(t)
	i := issued{impUID: p["imp_uid"].(string), merchantUID: merchantUID, barcode: p["vbank_num"].(string)}
	if g.api != nil {
		i.confirmURL, _ = g.api.WebhookURLs(i.impUID)
	}
	return i
}

// webhook returns the documented body.
func (i issued) webhook() string {
	body, _ := json.Marshal(map[string]any{
		"event": "Galaxia.Cvs.Confirm", "imp_uid": i.impUID, "merchant_uid": i.merchantUID, "status": "ready",
		"extra": map[string]string{"barcode": i.barcode, "payType": "card"},
	})
	return string(body)
}

// confirm sends the confirm webhook as GalaxiaMoneytree does.
func (g *gateway) confirm(t testing.TB, i issued) answer {
	t.Helper()
	return g.do(t, http.MethodPost, i.confirmURL, jsonType, i.webhook())
}

// log returns what was logged so far.
func (g *gateway) log(t testing.TB) string {
	t.Helper()
	content, err := os.ReadFile(g.logFile)
	require.NoError(t, err)
	return string(content)
}

// logs waits for a text in the log: lines are written after the answer has left.
func (g *gateway) logs(t testing.TB, text string) {
	t.Helper()
	g.line(t, text)
}

// line waits for the one line of the log that has all of these texts.
func (g *gateway) line(t testing.TB, texts ...string) string {
	t.Helper()
	var found string
	require.Eventually(t, func() bool {
		for line := range strings.Lines(g.log(t)) {
			hits := 0
			for _, text := range texts {
				if strings.Contains(line, text) {
					hits++
				}
			}
			if hits == len(texts) {
				found = line
			}
		}
		return found != ""
	}, 5*time.Second, 2*time.Millisecond, "%q in one line of:\n%s", texts, logText{g, t})
	return found
}

// logText reads the log only when it is printed.
type logText struct {
	g *gateway
	t testing.TB
}

func (l logText) String() string { return l.g.log(l.t) }

// shop is the merchant's app with its order check.
type shop struct {
	*httptest.Server
	mu      sync.Mutex
	seen    []*http.Request
	bodies  []string
	payable http.HandlerFunc
}

func newShop(t testing.TB, payable http.HandlerFunc) *shop {
	t.Helper()
	s := &shop{payable: payable}
	if payable == nil {
		s.payable = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"payable":true,"total":15000}`) }
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen, s.bodies = append(s.seen, r.Clone(context.Background())), append(s.bodies, string(body))
		s.mu.Unlock()
		s.payable(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// answers returns an order check that always gives this answer.
func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// alter changes one query parameter of a URL.
func alter(t testing.TB, raw, name, value string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	q.Set(name, value)
	if value == "" {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return u.String()
}
