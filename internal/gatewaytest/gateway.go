// Package gatewaytest starts a real Caddy with the module, with an emulator of PortOne's API
// and a merchant's shop around it, for the tests of several packages. It uses only what
// Caddy, the client and the emulator export, and does not import the module itself: the
// tests of the module import this package. A test package that uses it imports the module,
// and calls RunMain.
package gatewaytest

// This file holds the gateway: how a test configures, starts and reloads it.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// Gateway is a real Caddy on real sockets, with the API and the shop that it talks to.
type Gateway struct {
	Inside    string // base URL of cvs_proxy
	Outside   string // base URL of cvs_confirm
	API       *emulator.Emulator
	APIURL    string
	APIServer *httptest.Server // of API
	Shop      *Shop
	LogFile   string // at debug level
	Ledger    string // the ledger's file
	Database  string // the placeholder of the database's address, "" if there is none
	HTTP      *http.Client
}

// Setup changes parts of the usual gateway. The texts are parts of a Caddyfile; in them
// INSIDE, OUTSIDE, API, SHOP, LOGS and LEDGER stand for the addresses, the log file and the
// ledger's file, and DATABASE for the placeholder of the database's address.
type Setup struct {
	Keys     string           // replaces imp_key and imp_secret
	Database string           // address of a database, for "postgres DATABASE" or "mysql DATABASE" in Ledger; "" for none
	Ledger   string           // replaces the place and the options of the ledger
	Account  string           // more options of the unnamed account
	Second   string           // options of the account "second"; "" for none
	Proxy    string           // replaces the options of cvs_proxy
	Confirm  string           // replaces the options of cvs_confirm
	Notice   string           // options of a cvs_notice beside cvs_confirm; "" for none
	Sites    string           // more sites
	Globals  string           // more global options
	API      http.Handler     // replaces the emulator
	APIURL   string           // replaces the address of the emulator
	Emulator emulator.Options // of the emulator
	Payable  http.HandlerFunc // the shop's order check
}

// The usual options of cvs_proxy and cvs_confirm, and those of cvs_notice for tests that have one.
const (
	UsualProxy = `
		pg galaxia
		confirm_url OUTSIDE/cvs/confirm
		expires_in 72h`
	UsualConfirm = `
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable {
			require payable true
			amount total
		}`
	UsualNotice = `
		tell SHOP/payments/{http.cvs.merchant_uid} {
			require heard true
		}`
)

// Start starts a gateway that ends with the test.
func Start(t testing.TB, s Setup) *Gateway {
	t.Helper()
	g, config := Prepare(t, s)
	Run(t, config)
	return g
}

// Prepare starts the API and the shop of a gateway, and returns the configuration that the
// gateway would have. The caller starts it.
func Prepare(t testing.TB, s Setup) (*Gateway, string) {
	t.Helper()
	g := &Gateway{
		Inside: "http://" + Address(t), Outside: "http://" + Address(t),
		Shop: NewShop(t, s.Payable), LogFile: LogFile(t), Ledger: LedgerFile(t), HTTP: HTTPClient(t),
	}
	if s.Database != "" {
		g.Database = Placeholder(t, s.Database)
	}
	handler := s.API
	if handler == nil {
		s.Emulator.BeforeRequest = NoteTokens(s.Emulator.BeforeRequest)
		g.API = emulator.New(s.Emulator)
		handler = g.API
	}
	// On an address that no other API of this process gets: Caddy keeps an account's token by
	// the API's address.
	listener, err := net.Listen("tcp", Address(t))
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(func() {
		if g.API != nil {
			_ = g.API.Close() // first: it ends the delays that the server would wait for
		}
		server.Close()
	})
	g.APIServer = server
	if g.APIURL = server.URL; s.APIURL != "" {
		g.APIURL = s.APIURL
	}

	second := ""
	if s.Second != "" {
		second = "account second {\n" + s.Second + "\n}"
	}
	notice := ""
	if s.Notice != "" {
		notice = "cvs_notice /cvs/notice {\n" + s.Notice + "\n}"
	}
	config := `{
	admin off
	persist_config off
	auto_https off
	log {
		output file LOGS
		level DEBUG
	}
	` + s.Globals + `
	cvs {
		` + cmp.Or(s.Keys, "imp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}") + `
		api API
		ledger ` + cmp.Or(s.Ledger, "LEDGER") + `
		` + s.Account + `
		` + second + `
	}
}
INSIDE {
	log {
		output file LOGS
	}
	cvs_proxy {
		` + cmp.Or(s.Proxy, UsualProxy) + `
	}
	respond "next handler" 418
}
OUTSIDE {
	log {
		output file LOGS
	}
	cvs_confirm /cvs/confirm {
		` + cmp.Or(s.Confirm, UsualConfirm) + `
	}
	` + notice + `
	respond "next handler" 418
}
` + s.Sites
	return g, g.Fill(config)
}

// Fill replaces the names that Setup lists by what they stand for.
func (g *Gateway) Fill(config string) string {
	return strings.NewReplacer("INSIDE", g.Inside, "OUTSIDE", g.Outside, "API", g.APIURL, "SHOP", g.Shop.URL, "LOGS", g.LogFile, "LEDGER", g.Ledger, "DATABASE", g.Database).Replace(config)
}

// provisioning guards Caddy's global state while a configuration is provisioned.
var provisioning sync.Mutex

// Run starts a Caddy beside others in this process. It ends with the test.
func Run(t testing.TB, config string) {
	t.Helper()
	RunConfig(t, Adapt(t, config))
}

// RunConfig is Run for a configuration that is adapted already.
func RunConfig(t testing.TB, cfg *caddy.Config) {
	t.Helper()
	Provisioned(t, cfg, func(ctx caddy.Context) {
		app, err := ctx.App("http")
		require.NoError(t, err)
		require.NoError(t, app.(*caddyhttp.App).Start())
		t.Cleanup(func() { _ = app.(*caddyhttp.App).Stop() })
	})
}

// Provision provisions a configuration without starting it.
func Provision(cfg *caddy.Config) (caddy.Context, error) {
	provisioning.Lock()
	defer provisioning.Unlock()
	return caddy.ProvisionContext(cfg)
}

// Provisioned provisions a configuration and calls use with it, while no other Caddy of
// this process starts.
func Provisioned(t testing.TB, cfg *caddy.Config, use func(ctx caddy.Context)) {
	t.Helper()
	provisioning.Lock()
	defer provisioning.Unlock()
	ctx, err := caddy.ProvisionContext(cfg)
	require.NoError(t, err)
	use(ctx)
}

// Adapt adapts a Caddyfile that must be valid.
func Adapt(t testing.TB, config string) *caddy.Config {
	t.Helper()
	adapted, _, err := AdaptCaddyfile(config)
	require.NoError(t, err, config)
	cfg := new(caddy.Config)
	require.NoError(t, json.Unmarshal(adapted, cfg))
	return cfg
}

// AdaptCaddyfile adapts a Caddyfile to JSON.
func AdaptCaddyfile(config string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), nil)
}

// Reload loads a configuration into the one Caddy of this process that can be reloaded, or
// starts it. Tests that use it do not run in parallel, and stop it with caddy.Stop.
func Reload(t testing.TB, config string) error {
	t.Helper()
	adapted, _, err := AdaptCaddyfile(config)
	require.NoError(t, err, config)
	return caddy.Load(adapted, true)
}

// Address returns a free address. Its port is below the range that outgoing connections use.
func Address(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", nextPort(t))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// ports are those that no other process of tests uses: the tests of several packages run
// at the same time, and a port may be taken between Address and its use.
var ports struct {
	sync.Mutex
	last, end int          // of the block: the last port that was used, and the last that it has
	held      net.Listener // at the first port of the block
}

// nextPort returns a port of a block that this process has reserved. It reserves a block by
// listening at its first port until the process ends.
func nextPort(t testing.TB) int {
	t.Helper()
	const first, blocks, size = 12000, 20, 1000
	ports.Lock()
	defer ports.Unlock()
	if ports.last == ports.end {
		for _, block := range rand.Perm(blocks) {
			port := first + block*size
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				ports.last, ports.end, ports.held = port, port+size-1, l
				break
			}
		}
		require.NotEqual(t, ports.end, ports.last, "no free block of ports")
	}
	ports.last++
	return ports.last
}

// LogFile returns the name of a new file in Dir.
func LogFile(t testing.TB) string {
	t.Helper()
	return newFile(t, "log")
}

// LedgerFile returns the name of a new file in Dir, for a ledger: it is searched for secrets,
// too.
func LedgerFile(t testing.TB) string {
	t.Helper()
	return newFile(t, "db")
}

func newFile(t testing.TB, extension string) string {
	t.Helper()
	return filepath.Join(written.dir, fmt.Sprintf("%s-%d.%s", strings.ReplaceAll(t.Name(), "/", "-"), rand.Uint32(), extension))
}

// ShortDir returns a temporary directory with a short path: the path of a Unix socket is
// limited to about 100 bytes.
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cvs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// HTTPClient returns a client whose idle connections end with the test. It dials again if a reload has reset
// the connection before it was made: Caddy closes the listener of the configuration before with what waits
// in its queue, although the new one listens at the same address.
func HTTPClient(t testing.TB) *http.Client {
	t.Helper()
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		for range 10 {
			if conn, err = new(net.Dialer).DialContext(ctx, network, address); !errors.Is(err, syscall.ECONNRESET) {
				break
			}
		}
		return conn, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100, DialContext: dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// redialing sends a request again whose connection broke.
type redialing struct{ *http.Transport }

func (r redialing) RoundTrip(request *http.Request) (resp *http.Response, err error) {
	for range 100 {
		again := request.Clone(request.Context())
		if request.GetBody != nil {
			again.Body, _ = request.GetBody()
		}
		if resp, err = r.Transport.RoundTrip(again); err == nil || request.Context().Err() != nil {
			break
		}
	}
	return resp, err
}

// Redialing returns a client of HTTPClient for a gateway that is reloaded meanwhile: Caddy closes a connection that still waits in the queue of a
// listener when it replaces the listener. Each request may be sent twice.
func Redialing(c *http.Client) *http.Client {
	return &http.Client{Transport: redialing{c.Transport.(*http.Transport)}}
}

// placeholder is the token that cvs_proxy gives to apps in place of the API's. It is no
// secret.
const placeholder = "held-by-caddy-cvs"

// NoteTokens returns a BeforeRequest of the emulator that adds each token to the secrets
// that FindSecrets searches for, and then calls also, if it is not nil.
func NoteTokens(also func(emulator.Endpoint, *http.Request)) func(emulator.Endpoint, *http.Request) {
	return func(e emulator.Endpoint, r *http.Request) {
		if token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); token != "" && token != placeholder {
			AddSecret(token)
		}
		if also != nil {
			also(e, r)
		}
	}
}

// Host returns the address of a base URL.
func Host(base string) string { return strings.TrimPrefix(base, "http://") }

// AlterQuery changes one query parameter of a URL, or removes it if the value is empty.
func AlterQuery(t testing.TB, raw, name, value string) string {
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
