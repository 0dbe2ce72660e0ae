package caddycvs

// This file holds tests of what `caddy cvs check` finds by the network: real servers on loopback, to which
// the dialer leads the public names of a set-up.

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// world is what a set-up meets: the API, the shop's app, and what has the address shop.example.
type world struct {
	api    http.Handler
	public http.HandlerFunc // nil for a cvs_confirm with the same keys
	valid  time.Duration    // of the certificate, 90 days by default
	plain  bool             // no TLS at the public address
	closed bool             // nothing at the public address
	config string           // nil for the good set-up
	admin  string           // the answer of /cvs/status, "" for no Caddy
	found  []netip.Addr     // of shop.example

	connections []string // addresses to which the check connected
	mu          sync.Mutex
	requests    []string // at all servers
	limit       time.Duration
}

func (w *world) note(server string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, server+" "+r.Method+" "+r.URL.Path)
		w.mu.Unlock()
		next.ServeHTTP(rw, r)
	})
}

// serve starts a server on an address that no other API of this process had.
func (w *world) serve(t *testing.T, name string, handler http.Handler) *httptest.Server {
	t.Helper()
	listener, err := net.Listen("tcp", gatewaytest.Address(t))
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: w.note(name, handler)}}
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// certificate makes a certificate for shop.example.
func certificate(t *testing.T, valid time.Duration) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example"}, DNSNames: []string{"shop.example"},
		NotBefore: time.Now().Add(-90 * 24 * time.Hour), NotAfter: time.Now().Add(valid), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// answerProbes answers as a cvs_confirm with these keys.
func answerProbes(keys signedurl.Keys) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		claims, err := signedurl.Parse(r.URL.RawQuery)
		if err != nil || claims.Verify(keys, signedurl.Probe, claims.ID) != nil {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"accepted":false,"reason":"not genuine"}`)
			return
		}
		w.Header().Set(probeHeader, strings.Join(keys.ProbeMACs(claims.ID), ","))
		w.WriteHeader(http.StatusNoContent)
	}
}

// failLookups is an API that gives tokens, and answers everything else with a status.
func failLookups(status int) http.Handler {
	api := emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/users/getToken" {
			api.ServeHTTP(w, r)
			return
		}
		answer(status, "Content-Type", "application/json", `{"code":-1,"message":"no","response":null}`)(w, r)
	})
}

// refuseAddress answers as a cvs_confirm with these keys whose allow does not have the address that it sees.
func refuseAddress(keys signedurl.Keys, sees string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		claims, _ := signedurl.Parse(r.URL.RawQuery)
		w.Header().Set(probeHeader, strings.Join(keys.ProbeMACs(claims.ID), ","))
		w.Header().Set(probeClient, sees)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"accepted":false,"reason":"this address may not send webhooks"}`)
	}
}

func keysOf(t *testing.T, names ...string) signedurl.Keys {
	t.Helper()
	secrets := make([]string, len(names))
	for i := range names {
		secrets[i] = gatewaytest.Canaries[names[i]]
	}
	keys, err := signedurl.NewKeys(secrets...)
	require.NoError(t, err)
	return keys
}

// check runs the command in the world, and returns its exit code and what it prints.
func (w *world) check(t *testing.T, flags ...string) (code int, out, errOut string) {
	t.Helper()
	dir := t.TempDir()
	if w.api == nil {
		w.api = emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})
	}
	api, app := w.serve(t, "api", w.api), w.serve(t, "app", http.NotFoundHandler())
	api.Start()
	app.Start()
	if w.public == nil {
		w.public = answerProbes(keysOf(t, "CVS_TEST_SECRET"))
	}
	if w.valid == 0 {
		w.valid = 90 * 24 * time.Hour
	}
	public := w.serve(t, "public", w.public)
	cert, roots := certificate(t, w.valid)
	public.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	public.Config.ErrorLog = log.New(io.Discard, "", 0)
	if w.plain {
		public.Start()
	} else {
		public.StartTLS()
	}
	if w.config == "" {
		w.config = goodSetup
	}
	config := strings.NewReplacer("LEDGER", filepath.Join(dir, "cvs.db")+"\n api "+api.URL, "127.0.0.1:3000", gatewaytest.Host(app.URL), "DIR", dir).Replace(w.config)
	file := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	if w.limit == 0 {
		w.limit = stepLimit
	}
	n := &network{
		limit: w.limit, roots: roots,
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			w.mu.Lock()
			w.connections = append(w.connections, address)
			w.mu.Unlock()
			if host, _, _ := net.SplitHostPort(address); host == "shop.example" {
				if address = public.Listener.Addr().String(); w.closed {
					address = "127.0.0.1:1"
				}
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		lookup: func(context.Context, string) ([]netip.Addr, error) { return w.found, nil },
		own:    func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("203.0.113.7")} },
		admin: func(context.Context, string) ([]byte, error) {
			if w.admin == "" {
				return nil, errors.New("connection refused")
			}
			return []byte(w.admin), nil
		},
	}
	var stdout, stderr bytes.Buffer
	c := &checkCommand{config: file, provision: gatewaytest.Provision, network: n, out: &stdout, err: &stderr}
	for _, flag := range flags {
		c.json, c.colours = c.json || flag == "json", c.colours || flag == "colours"
	}
	code = c.run(t.Context())
	hide := strings.NewReplacer(dir, "DIR", time.Now().Add(w.valid).UTC().Format(time.DateOnly), "DATE", api.URL, "API", gatewaytest.Host(app.URL), "APP")
	return code, hide.Replace(stdout.String()), hide.Replace(stderr.String())
}

func found(out string) (lines []string) {
	for line := range strings.Lines(out) {
		if line, isFinding := strings.CutPrefix(line, "!!  "); isFinding {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func answer(status int, header, value, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if header != "" {
			w.Header().Set(header, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// silent never answers. Only when the body is read does it see that the client has left.
func silent(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestCheckFindsByTheNetwork(t *testing.T) {
	t.Parallel()
	served := new(atomic.Int64)
	tier := strings.Replace(goodSetup, "ledger LEDGER", "tier 002\nledger LEDGER", 1)
	signing := func(names string) string {
		return strings.Replace(goodSetup, "ledger LEDGER", "signing_key "+names+"\nledger LEDGER", 1)
	}
	for name, tc := range map[string]struct {
		world    *world
		expected []string
	}{
		"everything is good": {&world{}, nil},
		"another site":       {&world{public: answer(404, "", "", "<h1>not here</h1>")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm answers HTTP 404, which is not cvs_confirm's: another site has that address: check the host and the path of confirm_url"}},
		"an app's own 200":   {&world{public: answer(200, "", "", "ok")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm answers 200, but it is not cvs_confirm: the till takes that for acceptable, and nobody asks the shop: check that the host is this Caddy's and that cvs_confirm takes the path"}},
		"an app's own 204":   {&world{public: answer(204, "", "", "")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm answers 204, but it is not cvs_confirm: check what stands before Caddy, and that the host is this Caddy's"}},
		"a redirect":         {&world{public: answer(308, "Location", "https://www.shop.example/cvs/confirm?cvs_sig=x", "")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm redirects to https://www.shop.example, and PortOne follows no redirect: set confirm_url to the address that answers by itself"}},
		"a redirect by path": {&world{public: answer(302, "Location", "/login", "")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm redirects, and PortOne follows no redirect: set confirm_url to the address that answers by itself"}},
		"a firewall":         {&world{public: answer(403, "", "", "<title>Attention Required!</title>")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm answers HTTP 403, which is not cvs_confirm's: a firewall or a bot protection: let POST requests to that path pass"}},
		"a password":         {&world{public: answer(401, "", "", "")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm asks for a password (HTTP 401): let the path of cvs_confirm pass without one"}},
		"a load balancer":    {&world{public: answer(502, "", "", "")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm answers HTTP 502: what stands before Caddy does not reach it: start Caddy, or correct the address in the load balancer"}},
		"no cvs_confirm there": {
			&world{public: answer(404, "", "", `{"accepted":false,"reason":"no handler of this site takes this webhook"}`)}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: the Caddy at shop.example has no cvs_confirm at the path /cvs/confirm: use one path for confirm_url and cvs_confirm"},
		},
		"a Caddy with other keys": {&world{public: answerProbes(keysOf(t, "CVS_TEST_SECOND_SECRET"))}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: a cvs_confirm at https://shop.example/cvs/confirm refuses the probe of the unnamed account: give that Caddy the same imp_secret and signing_key, and the right time; if its cvs_confirm has account, it must be this one"}},
		"a node with other keys": {&world{public: func(w http.ResponseWriter, r *http.Request) {
			keys := "CVS_TEST_SECRET"
			if served.Add(1)%5 == 0 {
				keys = "CVS_TEST_SECOND_SECRET"
			}
			answerProbes(keysOf(t, keys))(w, r)
		}}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: 2 of 10 probes, as of another node: a cvs_confirm at https://shop.example/cvs/confirm refuses the probe of the unnamed account: give that Caddy the same imp_secret and signing_key, and the right time; if its cvs_confirm has account, it must be this one"}},
		"an allow that this machine is not in": {&world{public: refuseAddress(keysOf(t, "CVS_TEST_SECRET"), "203.0.113.7")}, nil},
		"a proxy that hides the clients": {
			&world{public: refuseAddress(keysOf(t, "CVS_TEST_SECRET"), "172.17.0.1")}, []string{"warning: cvs_proxy at 127.0.0.1:8081, confirm_url: cvs_confirm at https://shop.example/cvs/confirm sees 172.17.0.1, which its allow refuses: if that is a proxy before Caddy, it refuses PortOne's webhooks as well: name the proxy in the global option trusted_proxies; if it is this machine, run the check elsewhere"},
		},
		"an allow, and other keys": {&world{public: refuseAddress(keysOf(t, "CVS_TEST_SECOND_SECRET"), "203.0.113.7")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: a node at shop.example has other signing keys for the unnamed account than this configuration: give all nodes the same imp_secret and signing_key"}},
		"a node that lacks a key": {
			&world{config: signing("{env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}"), public: answerProbes(keysOf(t, "CVS_TEST_SIGNING_KEY"))}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: a node at shop.example lacks 1 of the signing keys of the unnamed account: load this configuration on all nodes"},
		},
		"a node with more keys": {
			&world{config: signing("{env.CVS_TEST_SIGNING_KEY}"), public: answerProbes(keysOf(t, "CVS_TEST_PREVIOUS_KEY", "CVS_TEST_SIGNING_KEY"))}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: a node at shop.example has the signing keys of the unnamed account in another order, or more of them: load this configuration on all nodes"},
		},
		"a forged answer":                {&world{public: answer(204, probeHeader, "AAAAAAAAAAAAAAAAAAAAAA", "")}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: a node at shop.example has other signing keys for the unnamed account than this configuration: give all nodes the same imp_secret and signing_key"}},
		"plain http":                     {&world{plain: true}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm cannot be reached: TLS: the other side does not speak it: check DNS, the firewall and the certificate; a router may also keep its own network from its public address: then run the check elsewhere", "error: cvs_proxy at 127.0.0.1:8081, notice_url: https://shop.example/cvs/notice cannot be reached: TLS: the other side does not speak it: check DNS, the firewall and the certificate; a router may also keep its own network from its public address: then run the check elsewhere"}},
		"nobody listens":                 {&world{closed: true}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm cannot be reached: connection refused: check DNS, the firewall and the certificate; a router may also keep its own network from its public address: then run the check elsewhere", "error: cvs_proxy at 127.0.0.1:8081, notice_url: https://shop.example/cvs/notice cannot be reached: connection refused: check DNS, the firewall and the certificate; a router may also keep its own network from its public address: then run the check elsewhere"}},
		"it never answers":               {&world{limit: 300 * time.Millisecond, public: silent}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: https://shop.example/cvs/confirm does not answer a probe: timed out: check what stands before Caddy; PortOne waits 5 to 10 seconds"}},
		"a certificate that has expired": {&world{valid: -time.Hour}, []string{"error: cvs_proxy at 127.0.0.1:8081, confirm_url: the certificate of shop.example has expired, or this machine's clock is wrong: renew the certificate: PortOne sends no webhook to this site", "error: cvs_proxy at 127.0.0.1:8081, notice_url: the certificate of shop.example has expired, or this machine's clock is wrong: renew the certificate: PortOne sends no webhook to this site"}},
		"a certificate that expires":     {&world{valid: 5 * 24 * time.Hour}, []string{"warning: cvs_proxy at 127.0.0.1:8081, confirm_url: the certificate of shop.example expires on DATE: find out why it is not renewed: after that day no webhook comes", "warning: cvs_proxy at 127.0.0.1:8081, notice_url: the certificate of shop.example expires on DATE: find out why it is not renewed: after that day no webhook comes"}},
		"several nodes with a file": {
			&world{found: []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8")}}, []string{"warning: cvs_proxy at 127.0.0.1:8081, confirm_url: shop.example has 2 addresses, one of which is this machine's, and the ledger is a file of this node: each node may issue a barcode for the same order: use ledger postgres or ledger mysql, unless there is one node", "warning: cvs_proxy at 127.0.0.1:8081, notice_url: shop.example has 2 addresses, one of which is this machine's, and the ledger is a file of this node: each node may issue a barcode for the same order: use ledger postgres or ledger mysql, unless there is one node"},
		},
		"the keys are wrong":               {&world{api: emulator.New(emulator.Options{Keys: map[string]string{"a": "b"}})}, []string{"error: the unnamed account: API refuses imp_key and imp_secret: compare them with the REST API keys in PortOne's console"}},
		"the API has a fault, with a tier": {&world{config: tier, api: failLookups(503)}, []string{"error: the unnamed account: API gives a token, but no look-up succeeds: code -1, HTTP 503: run the check again later: the API has a fault, which PortOne's status page may name"}},
		"the API is busy":                  {&world{config: tier, api: failLookups(429)}, []string{"error: the unnamed account: API gives a token, but no look-up succeeds: code -1, HTTP 429: run the check again in a minute: the API had too many requests"}},
		"the API knows no such tier":       {&world{config: tier, api: failLookups(403)}, []string{"error: the unnamed account: API gives a token, but answers HTTP 403 with tier 002: compare tier with the code of the sub-merchant, and ask whether these keys may use it"}},
		"the keys may do nothing":          {&world{api: failLookups(403)}, []string{"error: the unnamed account: API gives a token, but no look-up succeeds: code -1, HTTP 403: ask PortOne what these keys may do"}},
		"the API is a website":             {&world{api: answer(200, "Content-Type", "text/html", "<html>")}, []string{"error: the unnamed account: API gives no token: the answer is not the API's (HTTP 200): check the option api: something else answers there, or the API is down"}},
		"the clock is wrong": {
			&world{api: emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil), Now: func() time.Time { return time.Now().Add(5 * time.Minute) }})}, []string{"warning: the unnamed account: this machine's clock is 5m0s slow by the API's: synchronize it, such as with chrony or systemd-timesyncd"},
		},
		"the running ledger is down": {&world{admin: `{"ledger":{"store":"file","state":"degraded","cause":"the disk is full"}}`}, []string{"error: the global option cvs, ledger: the running Caddy cannot use the ledger: the disk is full: see its log; until then orders are looked up at the API before a barcode is issued"}},
		"the running ledger is slow": {&world{admin: `{"ledger":{"store":"file","state":"slow"}}`}, []string{"warning: the global option cvs, ledger: the ledger did not answer the running Caddy within 700ms: look at the disk or the database"}},
		"the app is down": {
			&world{config: strings.ReplaceAll(goodSetup, "http://127.0.0.1:3000/pa", "http://127.0.0.1:1/pa")}, []string{"error: cvs_confirm at shop.example/cvs/confirm, order_check 1: 127.0.0.1:1 cannot be reached: connection refused: start the app, or correct the URL"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errOut := tc.world.check(t)
			assert.Empty(t, errOut)
			assert.Equal(t, tc.expected, found(out), out)
			assert.Equal(t, min(len(tc.expected), 1), code)
		})
	}
}

// TestCheckChangesNothing fails if the check sends anything else than a token, a look-up of a payment that does
// not exist, and probes, or connects to anything else than the configuration names.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	w := new(world)
	code, out, _ := w.check(t)
	require.Zero(t, code, out)
	counts := make(map[string]int)
	for _, r := range w.requests {
		counts[r]++
	}
	assert.Equal(t, map[string]int{"api POST /users/getToken": 1, "api GET /payments/" + noPayment: 1, "public POST /cvs/confirm": probes}, counts)
	for _, address := range w.connections {
		host, _, _ := net.SplitHostPort(address)
		assert.Contains(t, []string{"shop.example", "127.0.0.1"}, host)
	}
	assert.Len(t, w.connections, 2+probes+1, "both callbacks, the probes, and the app once")
}

// TestCheckEndsInTime fails if silent servers keep the check longer than their steps may take, one after the other.
func TestCheckEndsInTime(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	require.LessOrEqual(t, 3*stepLimit, 15*time.Second)
	w := &world{limit: limit, public: silent, api: http.HandlerFunc(silent)}
	began := time.Now()
	code, out, _ := w.check(t)
	assert.Equal(t, exitFound, code)
	assert.Less(t, time.Since(began), 3*limit+2*time.Second)
	assert.Contains(t, out, "API gives no token: timed out")
}

// TestCheckIsAnsweredByCaddy lets a real cvs_confirm answer the probes.
func TestCheckIsAnsweredByCaddy(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Run(t, config)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	var stdout, stderr bytes.Buffer
	c := &checkCommand{config: file, adapter: "caddyfile", provision: gatewaytest.Provision, out: &stdout, err: &stderr, json: true}
	assert.Equal(t, exitFound, c.run(t.Context()), "admin off, and a site that listens for one Host")
	var found report
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &found), stderr.String())
	assert.Contains(t, strings.Join(found.OK, "\n"), "cvs_confirm answers at "+g.Outside+"/cvs/confirm")
	assert.True(t, found.has("metrics_off"))
	for _, f := range found.Findings {
		assert.Contains(t, []string{"metrics_off", "proxy_one_host", "proxy_public_listener", "route_accepts"}, f.ID, f)
		assert.NotEmpty(t, f.Remedy, f)
	}
}

func TestCheckPrintsForPeopleAndPrograms(t *testing.T) {
	t.Parallel()
	config := strings.Replace(strings.Replace(goodSetup, "amount total", "", 1), "/cvs/confirm {", "/cvs/confirm {\n unsigned allow", 1)
	code, out, _ := (&world{config: config}).check(t)
	assert.Equal(t, exitFound, code)
	assert.NotContains(t, out, "\x1b")
	assert.Less(t, strings.Index(out, "ok  "), strings.Index(out, "!!  warning: "))
	assert.Less(t, strings.Index(out, "!!  warning: "), strings.Index(out, "!!  error: "))
	_, coloured, _ := (&world{config: config}).check(t, "colours")
	assert.Contains(t, coloured, colourError+"!!"+colourOff)
	code, text, _ := (&world{}).check(t, "json")
	assert.Equal(t, exitGood, code)
	assert.True(t, strings.HasPrefix(text, `{"findings":[],"ok":["`), text)
	assert.Equal(t, "a b", oneLine("a\x1bb"))
}

func TestCheckSaysWhenItCannotLook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "Caddyfile")
	require.NoError(t, os.WriteFile(other, []byte(":8080\nrespond 404\n"), 0o600))
	for _, tc := range []struct{ file, expected string }{
		{filepath.Join(dir, "missing"), "name it with --config"},
		{other, `no global option "cvs"`},
	} {
		var stdout, stderr bytes.Buffer
		c := &checkCommand{config: tc.file, provision: gatewaytest.Provision, out: &stdout, err: &stderr}
		assert.Equal(t, exitUnasked, c.run(t.Context()))
		assert.Contains(t, stderr.String(), tc.expected)
		assert.Empty(t, stdout.String())
	}
}

// The Caddyfile of the present directory is judged as one that is named.
func TestCheckReadsTheCaddyfileOfTheDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("Caddyfile", []byte("{\n\tcvs {\n\t\timp_kee x\n\t}\n}\n"), 0o600))
	for _, config := range []string{"", "Caddyfile"} {
		var stdout, stderr bytes.Buffer
		c := &checkCommand{config: config, provision: gatewaytest.Provision, out: &stdout, err: &stderr}
		assert.Equal(t, exitFound, c.run(t.Context()))
		assert.Empty(t, stderr.String())
		assert.Contains(t, stdout.String(), "!!  error: Caddyfile: Caddy cannot load the configuration: ")
	}
}

// TestCheckCommandHasExitCodes runs the command as Caddy does.
func TestCheckCommandHasExitCodes(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(broken, []byte("{\n\tcvs {\n\t\tapi\n\t}\n}\n"), 0o600))
	cmd := newCheckCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"--config", broken})
	require.ErrorIs(t, cmd.Execute(), errFound)
	assert.Contains(t, out.String(), "!!  error: "+broken+": Caddy cannot load the configuration: ")
	cmd.SetArgs([]string{"--config", broken + ".missing"})
	require.ErrorContains(t, cmd.Execute(), "exiting with status 2")
	for _, words := range [][]string{{"--colour"}, {broken}} {
		out.Reset()
		cmd.SetArgs(words)
		require.ErrorContains(t, cmd.Execute(), "exiting with status 2")
		assert.Contains(t, out.String(), "see check --help")
	}
	require.NoError(t, exitWith(cmd, exitGood))
}
