package caddycvs

// This file holds tests of the configurations in examples/ and in the documents.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// configurations returns every Caddyfile of examples/ and of the documents by name.
func configurations(t *testing.T) map[string]string {
	t.Helper()
	configs := make(map[string]string)
	files, err := filepath.Glob("examples/*.caddyfile")
	require.NoError(t, err)
	require.Len(t, files, 4)
	folders, err := filepath.Glob("examples/*/Caddyfile")
	require.NoError(t, err)
	require.Subset(t, folders, []string{"examples/node/Caddyfile", "examples/python/Caddyfile", "examples/quickstart/Caddyfile", "examples/systemd/Caddyfile"})
	for _, name := range append(files, folders...) {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		configs[name] = strings.ReplaceAll(string(content), "{$CVS_SECRETS}", "/run/secrets") // the unit sets it
	}
	const accounts = "{\n\tcvs {\n\t\timp_key {env.K}\n\t\timp_secret {env.S}\n\t\taccount second {\n\t\t\timp_key {env.K}\n\t\t\timp_secret {env.S}\n\t\t}\n\t}\n}\n"
	for i, block := range fenced(t, "caddyfile") {
		name := fmt.Sprintf("Caddyfile %d of the documents", i+1)
		if configs[name] = block; !strings.HasPrefix(block, "{") {
			configs[name] = accounts + block
		}
	}
	require.Len(t, configs, len(files)+len(folders)+strings.Count(documents(t), "```caddyfile\n"))
	return configs
}

var (
	envPattern  = regexp.MustCompile(`\{env\.[A-Z_]+\}`)
	filePattern = regexp.MustCompile(`\{file\.(?:\{\$[^}]+\}|[^}])+\}`)
)

// addressesInDocs are the addresses that the documents give as examples.
var addressesInDocs = map[string]string{
	ledgerPostgres: "postgres://caddy_cvs:a-password@db.example:5432/shop?sslmode=verify-full",
	ledgerMySQL:    "caddy_cvs:a-password@tcp(db.example:3306)/caddycvs?tls=true",
}

// withSecrets replaces the placeholders of a configuration by ones that resolve. A channel key is
// no secret.
func withSecrets(t *testing.T, config string) string {
	t.Helper()
	for store, address := range addressesInDocs {
		if option := store + " {env.CVS_DATABASE}"; strings.Contains(config, option) {
			config = strings.ReplaceAll(config, option, store+" "+gatewaytest.Placeholder(t, address))
		}
	}
	config = strings.ReplaceAll(config, "{env.PORTONE_CHANNEL_KEY}", "channel-key-1")
	config = envPattern.ReplaceAllStringFunc(config, func(placeholder string) string {
		if strings.HasPrefix(placeholder, "{env.CVS_") && strings.HasSuffix(placeholder, "_SECRET}") {
			return "{env.CVS_TEST_NOTICE_SECRET}"
		}
		return "{env.CVS_TEST_SIGNING_KEY}"
	})
	return filePattern.ReplaceAllStringFunc(config, func(placeholder string) string {
		if strings.HasSuffix(placeholder, "/tell_secret}") {
			return "{env.CVS_TEST_NOTICE_SECRET}"
		}
		return "{env.CVS_TEST_SECOND_KEY}"
	})
}

// caddy.Validate cleans up what the process shares, so these tests do not run
// in parallel.

func TestShownCaddyfilesLoad(t *testing.T) {
	for _, address := range addressesInDocs {
		require.Contains(t, documents(t), "`"+address+"`")
	}
	for name, config := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, string(caddyfile.Format([]byte(config))), config, "formatted as caddy fmt does it")
			require.NoError(t, caddy.Validate(gatewaytest.Adapt(t, withSecrets(t, config))))
		})
	}
}

// An app may use any name of the gateway's machine. A site with one Host would answer the
// others with Caddy's empty 200: nothing would be issued or logged.
func TestShownGatewaysListenForEveryHost(t *testing.T) {
	t.Parallel()
	gateways := 0
	for name, config := range configurations(t) {
		for _, server := range servers(t, gatewaytest.Adapt(t, withSecrets(t, config))) {
			routes := string(caddyconfig.JSON(server.Routes, nil))
			if !strings.Contains(routes, `"handler":"cvs_proxy"`) {
				continue
			}
			gateways++
			assert.NotContains(t, routes, `"host":`, name)
			for _, listen := range server.Listen {
				assert.Regexp(t, `^127\.0\.0\.1:\d+$`, listen, "%s: not to be reached from elsewhere", name)
			}
		}
	}
	assert.Greater(t, gateways, 11)
}

func servers(t *testing.T, cfg *caddy.Config) map[string]*caddyhttp.Server {
	t.Helper()
	var app caddyhttp.App
	if raw := cfg.AppsRaw["http"]; raw != nil {
		require.NoError(t, json.Unmarshal(raw, &app))
	}
	return app.Servers
}

// A service manager that does not wait long enough cuts off calls that issue barcodes.
func TestShownServicesWaitForPendingCalls(t *testing.T) {
	t.Parallel()
	for name, pattern := range map[string]string{
		"examples/systemd/caddy-cvs.service": `(?m)^TimeoutStopSec=(\d+s)$`,
		"examples/docker/README.md":          `(?m)^\s+stop_grace_period: (\d+s) `,
	} {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		found := regexp.MustCompile(pattern).FindSubmatch(content)
		require.NotNil(t, found, name)
		waits, err := time.ParseDuration(string(found[1]))
		require.NoError(t, err)
		assert.Greater(t, waits, 3*client.DefaultTimeout+time.Second, name)
	}
}

// startExample runs an example as it is shipped. It replaces only what a test does not have:
// the names, certificates and ports of real shops, PortOne by the emulator, and the ledger's
// path.
func startExample(t *testing.T, name string, lacks map[string]string) *gatewaytest.Gateway {
	t.Helper()
	content, err := os.ReadFile("examples/" + name + ".caddyfile")
	require.NoError(t, err)
	g := &gatewaytest.Gateway{LogFile: gatewaytest.LogFile(t), Ledger: gatewaytest.LedgerFile(t), HTTP: gatewaytest.HTTPClient(t), API: emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})}
	g.APIServer = httptest.NewServer(g.API)
	t.Cleanup(func() {
		_ = g.API.Close()
		g.APIServer.Close()
	})
	g.Shop = gatewaytest.NewShop(t, exampleShop)
	g.Inside, g.Outside = "http://"+gatewaytest.Address(t), "http://"+gatewaytest.Address(t)
	pairs := []string{
		"http://:8081 {", "http://:" + port(gatewaytest.Host(g.Inside)) + " {",
		"shop.example {", g.Outside + " {", "https://shop.example", g.Outside,
		"books.example {", g.Outside + " {", "https://books.example", g.Outside,
	}
	for _, upstream := range []string{"127.0.0.1:3000", "127.0.0.1:3001", "127.0.0.1:3002", "127.0.0.1:5000", "10.0.0.12:8000"} {
		pairs = append(pairs, upstream, gatewaytest.Host(g.Shop.URL))
	}
	for was, is := range lacks {
		require.Contains(t, string(content), was)
		pairs = append(pairs, was, is)
	}
	config := strings.NewReplacer(pairs...).Replace(withSecrets(t, string(content)))
	inAccount := regexp.MustCompile(`(?m)^(\s+)imp_key `)
	require.Regexp(t, inAccount, config)
	config = inAccount.ReplaceAllString(config, "${1}api "+g.APIServer.URL+"\n${1}imp_key ")
	require.NotContains(t, config, "ledger", "the examples use the default path")
	config = strings.Replace(config, "\tcvs {", "\tcvs {\n\t\tledger "+g.Ledger, 1)
	config = strings.Replace(config, "\n{\n", "\n{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n\tlog {\n\t\toutput file "+g.LogFile+"\n\t}\n", 1)
	gatewaytest.Run(t, config)
	return g
}

// exampleShop answers the order checks of all examples. It refuses the order "no".
func exampleShop(w http.ResponseWriter, r *http.Request) {
	isNo := strings.HasSuffix(r.URL.Path, "/no/payable") || r.URL.Query().Get("order") == "no"
	state, total := "open", 15000
	if isNo {
		state, total = "sold out", 0
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"payable": !isNo, "total": total, "state": state, "stock": map[string]any{"available": !isNo}, "score": map[string]any{"ok": true},
	})
}

// With each example, as it is shipped, one order is paid at the till, and another is refused.
func TestExamplesFromBarcodeToTill(t *testing.T) {
	t.Parallel()
	inside, outside := gatewaytest.Address(t), "http://"+gatewaytest.Address(t) // of the second merchant
	for name, lacks := range map[string]map[string]string{
		"http-shop": nil, "order-checks": nil,
		"two-merchants": {
			"http://:8082 {": "http://:" + port(inside) + " {", "https://flowers.example": outside, "flowers.example {": outside + " {",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startExample(t, name, lacks)
			second := *g
			if lacks != nil {
				second.Inside = "http://" + inside
			}
			for _, path := range []string{"/orders/yes/payable", "/orders/yes/payable/"} {
				assert.Equal(t, http.StatusNotFound, g.Do(t, http.MethodPost, g.Outside+path, gatewaytest.JSONType, "{}").Status, "the public asks %s", path)
			}
			for order, accepted := range map[string]bool{"yes": true, "no": false, "yes, elsewhere": true} {
				from := g
				if strings.Contains(order, "elsewhere") {
					from = &second
				}
				i := from.MustIssue(t, order)
				if from == &second && lacks != nil {
					assert.Contains(t, i.ConfirmURL, outside+"/cvs/confirm?", "the second merchant's own site")
				}
				result, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
				require.NoError(t, err)
				assert.Equal(t, accepted, result.Accepted, "%s: %+v\n%s", order, result.Confirm, g.LazyLog(t))
				assert.Equal(t, map[bool]int{true: 200, false: 409}[accepted], result.Confirm.Status)
				assert.Empty(t, result.Warning)
			}
		})
	}
}

func TestShownJSONLoads(t *testing.T) {
	blocks := fenced(t, "json")
	require.Len(t, blocks, 1)
	cfg := new(caddy.Config)
	require.NoError(t, caddy.StrictUnmarshalJSON([]byte(withSecrets(t, blocks[0])), cfg))
	require.NoError(t, caddy.Validate(cfg))
}

// TestReferenceNamesEveryOption keeps the reference complete.
func TestReferenceNamesEveryOption(t *testing.T) {
	t.Parallel()
	readme := strings.Join(fenced(t, "caddyfile"), "\n")
	for _, module := range []reflect.Type{reflect.TypeFor[App](), reflect.TypeFor[Ledger](), reflect.TypeFor[Proxy](), reflect.TypeFor[Confirm](), reflect.TypeFor[OrderCheck](), reflect.TypeFor[Notice](), reflect.TypeFor[Tell](), reflect.TypeFor[Barcode](), reflect.TypeFor[Sandbox]()} {
		options := jsonOptions(module)
		require.NotEmpty(t, options)
		for _, option := range options {
			for name, plural := range jsonPlurals {
				if option == plural {
					_, option, _ = strings.Cut(name, ".")
				}
			}
			assert.Regexp(t, `(?m)^\s*`+option+`\b`, readme, "%s", module)
		}
	}
}

// jsonOptions returns the JSON names of a module's fields, except the URL of a check or a tell and the
// ledger's place, which are arguments in the Caddyfile.
func jsonOptions(module reflect.Type) []string {
	var names []string
	for _, field := range reflect.VisibleFields(module) {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && !slices.Contains([]string{"url", "store", "path", "dsn"}, name) {
			names = append(names, name)
		}
	}
	return names
}

// A reader must find every file on the map.
func TestContributingListsEveryFile(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	house, _, found := strings.Cut(string(content), "## Tests")
	require.True(t, found)
	root, below, found := strings.Cut(house, "**The client**")
	require.True(t, found)
	for folder, part := range map[string]string{".": root, "client": below, "client/strict": below, "client/tell": below, "client/webhook": below, "client/emulator": below, "client/ledger": below, "client/ledger/boltstore": below, "client/ledger/sqlstore": below, "client/ledger/storetest": below} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				assert.Contains(t, part, "`"+filepath.Base(file)+"`", file)
			}
		}
	}
	for _, name := range regexp.MustCompile("`([a-z/_]+\\.go)`").FindAllStringSubmatch(house, -1) {
		matches, _ := filepath.Glob(name[1])
		for _, folder := range []string{"client", "client/strict", "client/tell", "client/webhook", "client/emulator", "client/ledger", "client/ledger/boltstore", "client/ledger/sqlstore", "client/ledger/storetest", "."} {
			more, _ := filepath.Glob(filepath.Join(folder, name[1]))
			matches = append(matches, more...)
		}
		assert.NotEmpty(t, matches, name[1])
	}
}
