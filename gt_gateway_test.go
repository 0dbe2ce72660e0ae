package caddycvs

import (
	"encoding/json"
	"fmt"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
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

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/stretchr/testify/require"
)

// gateway is a real Caddy on real sockets, with what stands around it.
type Gateway struct {
	Inside    string // base URL of cvs_proxy
	Outside   string // base URL of cvs_confirm
	API       *emulator.Emulator
	APIURL    string
	APIServer *httptest.Server
	Shop      *Shop
	LogFile   string // with the log at debug level
	HTTP      *http.Client
}

// setup changes one thing or another of the usual gateway.
type Setup struct {
	Keys     string           // replaces imp_key and imp_secret
	Account  string           // more options of the unnamed account
	Second   string           // options of the account "second"; "" for none
	Proxy    string           // replaces the options of cvs_proxy
	Confirm  string           // replaces the options of cvs_confirm
	Sites    string           // more sites
	Globals  string           // more global options
	API      http.Handler     // replaces the emulator
	APIURL   string           // replaces the address of the emulator
	Emulator emulator.Options // of the emulator
	Payable  http.HandlerFunc // the shop's order check
}

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
)

// start starts a gateway that ends with the test.
func Start(t testing.TB, s Setup) *Gateway {
	t.Helper()
	g, config := Prepare(t, s)
	Run(t, config)
	return g
}

// prepare starts what stands around a gateway and returns its configuration.
func Prepare(t testing.TB, s Setup) (*Gateway, string) {
	t.Helper()
	g := &Gateway{
		Inside: "http://" + Address(t), Outside: "http://" + Address(t),
		Shop: NewShop(t, s.Payable), LogFile: LogFile(t), HTTP: HTTPClient(t),
	}
	handler := s.API
	if handler == nil {
		s.Emulator.BeforeRequest = NoteTokens(s.Emulator.BeforeRequest)
		g.API = emulator.New(s.Emulator)
		handler = g.API
	}
	server := httptest.NewServer(handler)
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
	` + s.Globals + `
	cvs {
		` + pick(s.Keys, "imp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}") + `
		api API
		` + s.Account + `
		` + second + `
	}
}
INSIDE {
	log {
		output file LOGS
	}
	cvs_proxy {
		` + pick(s.Proxy, UsualProxy) + `
	}
	respond "next handler" 418
}
OUTSIDE {
	log {
		output file LOGS
	}
	cvs_confirm /cvs/confirm {
		` + pick(s.Confirm, UsualConfirm) + `
	}
	respond "next handler" 418
}
` + s.Sites
	return g, g.Fill(config)
}

// fill replaces the names of addresses in a configuration.
func (g *Gateway) Fill(config string) string {
	return strings.NewReplacer("INSIDE", g.Inside, "OUTSIDE", g.Outside, "API", g.APIURL, "SHOP", g.Shop.URL, "LOGS", g.LogFile).Replace(config)
}

// provisioning guards what all Caddys of a process share while they start.
var provisioning sync.Mutex

// runCaddy starts a Caddy of its own beside others in this process.
func Run(t testing.TB, config string) {
	t.Helper()
	RunConfig(t, Adapt(t, config))
}

// runConfig is runCaddy for a configuration that is adapted already.
func RunConfig(t testing.TB, cfg *caddy.Config) {
	t.Helper()
	Provisioned(t, cfg, func(ctx caddy.Context) {
		app, err := ctx.App("http")
		require.NoError(t, err)
		require.NoError(t, app.(*caddyhttp.App).Start())
		t.Cleanup(func() { _ = app.(*caddyhttp.App).Stop() })
	})
}

// provision provisions a configuration without starting it.
func Provision(cfg *caddy.Config) (caddy.Context, error) {
	provisioning.Lock()
	defer provisioning.Unlock()
	return caddy.ProvisionContext(cfg)
}

// provisioned provisions a configuration and calls use with it, while no other Caddy of
// this process starts.
func Provisioned(t testing.TB, cfg *caddy.Config, use func(ctx caddy.Context)) {
	t.Helper()
	provisioning.Lock()
	defer provisioning.Unlock()
	ctx, err := caddy.ProvisionContext(cfg)
	require.NoError(t, err)
	use(ctx)
}

func Adapt(t testing.TB, config string) *caddy.Config {
	t.Helper()
	adapted, _, err := AdaptCaddyfile(config)
	require.NoError(t, err, config)
	cfg := new(caddy.Config)
	require.NoError(t, json.Unmarshal(adapted, cfg))
	return cfg
}

// adaptText adapts a Caddyfile to JSON.
func AdaptCaddyfile(config string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(config), nil)
}

func Reload(t testing.TB, config string) error {
	t.Helper()
	adapted, _, err := AdaptCaddyfile(config)
	require.NoError(t, err, config)
	return caddy.Load(adapted, true)
}

var nextPort atomic.Int32

// address returns a free one, below the range that outgoing connections use.
func Address(t testing.TB) string {
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

func LogFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(written.dir, fmt.Sprintf("%s-%d.log", strings.ReplaceAll(t.Name(), "/", "-"), rand.Uint32()))
}

// shortDir is a directory whose path leaves room for a socket's name.
func ShortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cvs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func HTTPClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// placeholder is the token that the gateway gives to apps. It is no secret.
const placeholder = "held-by-caddy-cvs"

// noteTokens returns a BeforeRequest of the emulator that adds each token to the secrets
// which findSecrets searches for.
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

// host returns a base URL's address.
func Host(base string) string { return strings.TrimPrefix(base, "http://") }

// alter changes one query parameter of a URL.
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
