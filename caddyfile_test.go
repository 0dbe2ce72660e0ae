package caddycvs

// This file holds the tests of the configuration: the fixtures in testdata/caddyfile,
// errors in JSON, and the fuzz test of the Caddyfile. The tests of the blocks' options
// are in caddyfile_options_test.go.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// fixtureSecrets must appear in no configuration, error or log.
var fixtureSecrets = map[string]string{
	"FIXTURE_IMP_KEY":       "k1-5f0c7e3d9b",
	"FIXTURE_IMP_SECRET":    "s1-b82e64a0d1c95f37",
	"FIXTURE_SECOND_KEY":    "k2-0a9d3c5e71",
	"FIXTURE_SECOND_SECRET": "s2-41d7f6e80b2c9a35",
	"FIXTURE_SIGNING_KEY":   "g1-sixteen-chars",
	"FIXTURE_PREVIOUS_KEY":  "g2-e61b0f93c8d2475a",
	"FIXTURE_SHORT_KEY":     "g3-only-15chars",
	"FIXTURE_SHOP_KEY":      "h1-c07a51f2e9",
	"FIXTURE_POSTGRES":      "postgres://u5-6b1e:p5-d07c44@h5-91.example:5432/n5-3fa8?sslmode=disable",
	"FIXTURE_MYSQL":         "u6-c2d9:p6-58e0b7@tcp(h6-27.example:3306)/n6-e41b",
	"FIXTURE_BAD_POSTGRES":  "postgres://u7-80fd:p7-2c95e3@h7-64.example:port/n7-b9d2",
	"FIXTURE_BAD_MYSQL":     "u8-1e7a:p8-f36d08@h8-5c.example/n8-4a70",
	"FIXTURE_SECRET":        "whsec_bjEtNGY5YjBlNzEtZDI4Ni00YTMzLWIxYzU=",
}

var fixtureSettings = map[string]string{
	"FIXTURE_API":         "http://127.0.0.1:8480",
	"FIXTURE_BACKEND":     "127.0.0.1:3000",
	"FIXTURE_CHANNEL_KEY": "channel-key-4a8c",
	"FIXTURE_DIRECTORY":   os.TempDir(),
	"FIXTURE_EMPTY":       "",
	"FIXTURE_MID":         "M1234567",
	"FIXTURE_SHOP":        "https://shop.example",
}

func init() {
	for _, env := range []map[string]string{fixtureSecrets, fixtureSettings} {
		for name, value := range env {
			if err := os.Setenv(name, value); err != nil {
				panic(err)
			}
		}
	}
	if err := os.Unsetenv("FIXTURE_UNSET"); err != nil {
		panic(err)
	}
}

// fixtureParts are the parts of the addresses of databases among the secrets.
var fixtureParts = regexp.MustCompile(`\b[uphn][5-8]-[0-9a-f]+(\.example)?`)

// A fixture's folder in testdata/caddyfile says what must become of its Caddyfile.
const (
	adapts           = "adapt"     // to the JSON below the line of dashes, which loads
	failsToAdapt     = "error"     // with the message below the line of dashes
	failsToProvision = "provision" // adapts, but loading it fails with the message below the line of dashes
)

var fixtureFolders = []string{adapts, failsToAdapt, failsToProvision}

// fixture is a Caddyfile and its expected result, separated by a line of dashes.
type fixture struct {
	path, name      string
	input, expected string
}

const fixtureSeparator = "\n----------\n"

// readFixtures returns the fixtures of each folder.
func readFixtures(t *testing.T) map[string][]fixture {
	t.Helper()
	fixtures := make(map[string][]fixture)
	require.NoError(t, filepath.WalkDir("testdata/caddyfile", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, isFixture := strings.CutSuffix(entry.Name(), ".caddyfiletest")
		require.True(t, isFixture, "%s is not read: name it *.caddyfiletest", path)
		folder, err := filepath.Rel("testdata/caddyfile", filepath.Dir(path))
		require.NoError(t, err)
		require.Contains(t, fixtureFolders, folder, "%s is in the wrong folder", path)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		parts := strings.Split(strings.ReplaceAll(string(content), "\r\n", "\n"), fixtureSeparator)
		require.Len(t, parts, 2, "%s needs one line of dashes", path)
		fixtures[folder] = append(fixtures[folder], fixture{path, name, parts[0] + "\n", strings.TrimSpace(parts[1])})
		return nil
	}))
	for _, folder := range fixtureFolders {
		require.NotEmpty(t, fixtures[folder], "no fixture was read from the folder %s", folder)
	}
	return fixtures
}

// update writes the actual result into the fixture if UPDATE_FIXTURES is set. The
// difference must be reviewed before it is committed.
func (f *fixture) update(t *testing.T, actual string) {
	t.Helper()
	if os.Getenv("UPDATE_FIXTURES") == "" {
		return
	}
	f.expected = actual
	content := strings.TrimSuffix(f.input, "\n") + fixtureSeparator + actual + "\n"
	require.NoError(t, os.WriteFile(f.path, []byte(content), 0o600))
}

func adaptCaddyfile(input string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
}

func prettyJSON(t *testing.T, raw []byte) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Indent(&b, raw, "", "\t"))
	return b.String()
}

func assertNoSecret(t *testing.T, where, text string) {
	t.Helper()
	for name, value := range fixtureSecrets {
		assert.NotContains(t, text, value, "%s shows %s", where, name)
	}
	assert.NotRegexp(t, fixtureParts, text, where)
}

// Each fixture gives its expected result. Not parallel, because loading a configuration
// sets globals of Caddy.
func TestCaddyfile(t *testing.T) {
	restoreDefaultLogger(t)
	logged := false
	tests := map[string]func(*testing.T, fixture){
		adapts: func(t *testing.T, f fixture) {
			adapted := requireAdapts(t, f.input)
			f.update(t, prettyJSON(t, adapted))
			assert.JSONEq(t, f.expected, string(adapted))
			assert.Equal(t, f.expected, prettyJSON(t, []byte(f.expected)), "the JSON is not indented with tabs")
			log, err := loadConfig(t, adapted)
			logged = logged || log != ""
			assert.NoError(t, err)
		},
		failsToAdapt: func(t *testing.T, f fixture) {
			message := requireAdaptError(t, f.input)
			f.update(t, message)
			assert.Equal(t, f.expected, message)
		},
		failsToProvision: func(t *testing.T, f fixture) {
			_, err := loadConfig(t, requireAdapts(t, f.input))
			require.Error(t, err)
			f.update(t, err.Error())
			assert.Equal(t, f.expected, err.Error())
		},
	}
	fixtures := readFixtures(t)
	for _, folder := range fixtureFolders {
		t.Run(folder, func(t *testing.T) {
			for _, f := range fixtures[folder] {
				t.Run(f.name, func(t *testing.T) { tests[folder](t, f) })
			}
		})
	}
	assert.True(t, logged, "no log was read")
	assertNothingHeld(t)
}

// requireAdapts returns the JSON of a Caddyfile that must adapt without a warning.
func requireAdapts(t *testing.T, input string) []byte {
	t.Helper()
	adapted, warnings, err := adaptCaddyfile(input)
	assertNoSecret(t, "the adapted configuration", string(adapted))
	require.NoError(t, err)
	assert.Empty(t, warnings)
	return adapted
}

// requireAdaptError returns the error of a Caddyfile that must not adapt.
func requireAdaptError(t *testing.T, input string) string {
	t.Helper()
	adapted, _, err := adaptCaddyfile(input)
	assertNoSecret(t, "the adapted configuration", string(adapted))
	require.Error(t, err)
	assertNoSecret(t, "the error", err.Error())
	return err.Error()
}

// loadConfig provisions and validates a configuration, without starting it, and
// asserts that neither the error nor the log shows a secret.
func loadConfig(t *testing.T, config []byte) (logged string, err error) {
	t.Helper()
	var cfg *caddy.Config
	require.NoError(t, caddy.StrictUnmarshalJSON(config, &cfg))
	logFile := filepath.Join(t.TempDir(), "log")
	cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{
			Level:     "DEBUG",
			WriterRaw: caddyconfig.JSON(map[string]any{"output": "file", "filename": logFile, "roll": false}, nil),
		}},
	}}
	err = caddy.Validate(cfg)
	if err != nil {
		assertNoSecret(t, "the error", err.Error())
	}
	content, readErr := os.ReadFile(logFile)
	require.NoError(t, readErr)
	assertNoSecret(t, "the log", string(content))
	return string(content), err
}

// restoreDefaultLogger replaces Caddy's default logger at the end of the test, because
// loadConfig makes it write to a file of the test.
func restoreDefaultLogger(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { assert.NoError(t, caddy.Validate(new(caddy.Config))) })
}

// assertNothingHeld asserts that every configuration has released the state that it shares
// with others, also if provisioning it failed.
func assertNothingHeld(t *testing.T) {
	t.Helper()
	ofFixtures := make(map[any]bool)
	for _, api := range []string{"https://api.iamport.kr", "https://api.example", fixtureSettings["FIXTURE_API"]} {
		for _, pair := range [][2]string{{"FIXTURE_IMP_KEY", "FIXTURE_IMP_SECRET"}, {"FIXTURE_SECOND_KEY", "FIXTURE_SECOND_SECRET"}} {
			_, key := acquireState(api, fixtureSecrets[pair[0]], fixtureSecrets[pair[1]])
			releaseState(key)
			ofFixtures[key], ofFixtures[key.credentials] = true, true
		}
	}
	states.Range(func(key, _ any) bool {
		assert.False(t, ofFixtures[key], "the state of an account at %s was not released", key.(stateKey).api)
		return true
	})
	sandboxes.Range(func(key, _ any) bool {
		assert.False(t, ofFixtures[key.(sandboxKey).credentials], "an emulator was not released")
		return true
	})
}

func TestCaddyfileAcceptsSecretFromFile(t *testing.T) {
	restoreDefaultLogger(t)
	dir := t.TempDir()
	for _, name := range []string{"FIXTURE_IMP_KEY", "FIXTURE_IMP_SECRET"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(fixtureSecrets[name]+"\n"), 0o600))
	}
	adapted, _, err := adaptCaddyfile(fmt.Sprintf("{\n\tcvs {\n\t\timp_key {file.%s/FIXTURE_IMP_KEY}\n\t\timp_secret {file.%[1]s/FIXTURE_IMP_SECRET}\n\t}\n}\n", dir))
	require.NoError(t, err)
	assert.JSONEq(t, fmt.Sprintf(`{"apps":{"cvs":{"imp_key":"{file.%s/FIXTURE_IMP_KEY}","imp_secret":"{file.%[1]s/FIXTURE_IMP_SECRET}"}}}`, dir), string(adapted))
	_, err = loadConfig(t, adapted)
	assert.NoError(t, err)
}

const (
	usableApp      = `{"imp_key":"{env.FIXTURE_IMP_KEY}","imp_secret":"{env.FIXTURE_IMP_SECRET}"}`
	inHTTP         = "loading http app module: provision http: server gateway: setting up route handlers: route 0: loading handler modules: position 0: "
	inProxy        = inHTTP + "loading module 'cvs_proxy': provision http.handlers.cvs_proxy: "
	invalidProxy   = inHTTP + "loading module 'cvs_proxy': http.handlers.cvs_proxy: invalid configuration: "
	proxyJSON      = inHTTP + "loading module 'cvs_proxy': decoding module config: http.handlers.cvs_proxy: "
	inConfirm      = inHTTP + "loading module 'cvs_confirm': provision http.handlers.cvs_confirm: "
	invalidConfig  = inHTTP + "loading module 'cvs_confirm': http.handlers.cvs_confirm: invalid configuration: "
	confirmJSON    = inHTTP + "loading module 'cvs_confirm': decoding module config: http.handlers.cvs_confirm: "
	inNotice       = inHTTP + "loading module 'cvs_notice': provision http.handlers.cvs_notice: "
	noticeJSON     = inHTTP + "loading module 'cvs_notice': decoding module config: http.handlers.cvs_notice: "
	inBarcode      = inHTTP + "loading module 'cvs_barcode': http.handlers.cvs_barcode: invalid configuration: "
	barcodeJSON    = inHTTP + "loading module 'cvs_barcode': decoding module config: http.handlers.cvs_barcode: "
	inSandbox      = inHTTP + "loading module 'cvs_sandbox': provision http.handlers.cvs_sandbox: "
	sandboxJSON    = inHTTP + "loading module 'cvs_sandbox': decoding module config: http.handlers.cvs_sandbox: "
	inApp          = "loading cvs app module: provision cvs: "
	appJSON        = "loading cvs app module: decoding module config: cvs: "
	refusedLiteral = " must be one placeholder such as {env.NAME} or {file./path}: a literal could be read in /config/ and in the autosaved configuration; {$NAME} becomes a literal when the Caddyfile is parsed"
	badAddress     = "api must be an address such as https://api.iamport.kr, without path, query and credentials"
	noDecision     = "need at least one order_check that is not a shadow: without it every genuine webhook would be accepted"
)

// JSON is rejected for the same mistakes as a Caddyfile.
func TestJSONRejectsMistakes(t *testing.T) {
	restoreDefaultLogger(t)
	tests := []struct {
		name    string
		app     string // replaces the usable one
		handler string
		err     string // "" if the configuration loads
	}{
		{"app: durations as text", `{"imp_key":"{env.FIXTURE_IMP_KEY}","imp_secret":"{env.FIXTURE_IMP_SECRET}","timeout":"5s"}`, ``, ``},
		{"app: empty", `{}`, ``, inApp + "imp_key is missing: set it to a placeholder such as {env.PORTONE_IMP_KEY}"},
		{"app: imp_key missing", `{"imp_secret":"{env.FIXTURE_IMP_SECRET}"}`, ``, inApp + "imp_key is missing: set it to a placeholder such as {env.PORTONE_IMP_KEY}"},
		{"app: imp_secret missing", `{"imp_key":"{env.FIXTURE_IMP_KEY}"}`, ``, inApp + "imp_secret is missing: set it to a placeholder such as {env.PORTONE_IMP_SECRET}"},
		{"app: imp_key literal", `{"imp_key":"k1-5f0c7e3d9b","imp_secret":"{env.FIXTURE_IMP_SECRET}"}`, ``, inApp + "imp_key" + refusedLiteral},
		{"app: imp_key of a Caddyfile", `{"imp_key":"{$FIXTURE_IMP_KEY}","imp_secret":"{env.FIXTURE_IMP_SECRET}"}`, ``, inApp + "imp_key: {$NAME} is for a Caddyfile's other options: use {env.NAME}"},
		{"app: imp_secret literal", `{"imp_key":"{env.FIXTURE_IMP_KEY}","imp_secret":"s1-b82e64a0d1c95f37"}`, ``, inApp + "imp_secret" + refusedLiteral},
		{"app: signing_key literal", appWith(`"signing_key":["{env.FIXTURE_SIGNING_KEY}","g2-e61b0f93c8d2475a"]`), ``, inApp + "signing_key" + refusedLiteral},
		{"app: signing_key empty", appWith(`"signing_key":[""]`), ``, inApp + "signing_key is missing: set it to a placeholder such as {env.PORTONE_SIGNING_KEY}"},
		{"app: timeout negative", appWith(`"timeout":-1`), ``, inApp + "timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"app: timeout no duration", appWith(`"timeout":"soon"`), ``, appJSON + `time: invalid duration "soon"`},
		{"app: tier", appWith(`"tier":"0001"`), ``, inApp + "tier must be a code of 3 letters or digits"},
		{"app: api path", appWith(`"api":"https://api.iamport.kr/v2"`), ``, inApp + badAddress},
		{"app: api scheme", appWith(`"api":"api.iamport.kr"`), ``, inApp + badAddress},
		{"app: transport unknown", appWith(`"transport":{"protocol":"smoke_signals"}`), ``, inApp + "loading transport: loading module 'smoke_signals': unknown module: http.reverse_proxy.transport.smoke_signals"},
		{"app: transport without protocol", appWith(`"transport":{}`), ``, inApp + "loading transport: module name not specified with key 'protocol' in map[]"},
		{"app: transport unknown field", appWith(`"transport":{"protocol":"http","dial_time":1}`), ``, inApp + `loading transport: loading module 'http': decoding module config: http.reverse_proxy.transport.http: json: unknown field "dial_time"`},
		{"app: unknown field", appWith(`"impkey":"1"`), ``, appJSON + `json: unknown field "impkey"`},
		{"ledger", appWith(`"ledger":{"store":"file","keep":"24h","on_down":"refuse"}`), ``, ``},
		{"ledger: off", appWith(`"ledger":{"store":"off"}`), ``, ``},
		{"ledger: null", appWith(`"ledger":null`), ``, ``},
		{"ledger: postgres", appWith(`"ledger":{"store":"postgres","dsn":"{env.FIXTURE_POSTGRES}","from":{"store":"file","path":"/ledger.db"}}`), ``, ``},
		{"ledger: mysql", appWith(`"ledger":{"store":"mysql","dsn":"{env.FIXTURE_MYSQL}","from":{"store":"postgres","dsn":"{env.FIXTURE_POSTGRES}"}}`), ``, ``},
		{"ledger: store", appWith(`"ledger":{"store":"sqlite"}`), ``, inApp + `ledger: store must be file, postgres, mysql or off`},
		{"ledger: store an address", appWith(`"ledger":{"store":"` + fixtureSecrets["FIXTURE_POSTGRES"] + `"}`), ``, inApp + `ledger: store must be file, postgres, mysql or off`},
		{"ledger: store by another name", appWith(`"ledger":{"store":"MariaDB","dsn":"{env.FIXTURE_MYSQL}"}`), ``, inApp + `ledger: store must be mysql, not "MariaDB"`},
		{"ledger: store without dsn", appWith(`"ledger":{"store":"postgres"}`), ``, inApp + "ledger: postgres needs a dsn: " + nameTheDatabase},
		{"ledger: store with path", appWith(`"ledger":{"store":"postgres","path":"/ledger.db","dsn":"{env.FIXTURE_POSTGRES}"}`), ``, inApp + "ledger: path is for a file: remove it, or remove store postgres and dsn"},
		{"ledger: dsn with a file", appWith(`"ledger":{"dsn":"{env.FIXTURE_POSTGRES}"}`), ``, inApp + "ledger: dsn is for a database: set store to postgres or mysql, or remove dsn"},
		{"ledger: dsn with a path", appWith(`"ledger":{"store":"file","path":"/ledger.db","dsn":"{env.FIXTURE_POSTGRES}"}`), ``, inApp + "ledger: dsn is for a database: set store to postgres or mysql, or remove dsn"},
		{"ledger: dsn literal", appWith(`"ledger":{"store":"postgres","dsn":"` + fixtureSecrets["FIXTURE_POSTGRES"] + `"}`), ``, inApp + "ledger: dsn" + refusedLiteral},
		{"ledger: dsn unset", appWith(`"ledger":{"store":"mysql","dsn":"{env.FIXTURE_UNSET}"}`), ``, inApp + "ledger: dsn: evaluated placeholder {env.FIXTURE_UNSET} is empty: set the variable, or check that the file can be read"},
		{"ledger: off with dsn", appWith(`"ledger":{"store":"off","dsn":"{env.FIXTURE_POSTGRES}"}`), ``, inApp + "ledger: " + offKeepsNothing},
		{"ledger: off with from", appWith(`"ledger":{"store":"off","from":{"path":"/ledger.db"}}`), ``, inApp + "ledger: " + offKeepsNothing},
		{"ledger: from without path", appWith(`"ledger":{"store":"postgres","dsn":"{env.FIXTURE_POSTGRES}","from":{}}`), ``, inApp + "ledger: " + fromNeedsAPath},
		{"ledger: from store", appWith(`"ledger":{"from":{"store":"sqlite"}}`), ``, inApp + "ledger: from: store must be file, postgres, mysql or off"},
		{"ledger: from literal", appWith(`"ledger":{"from":{"store":"mysql","dsn":"` + fixtureSecrets["FIXTURE_MYSQL"] + `"}}`), ``, inApp + "ledger: from: dsn" + refusedLiteral},
		{"ledger: from unset", appWith(`"ledger":{"from":{"store":"mysql","dsn":"{env.FIXTURE_UNSET}"}}`), ``, inApp + "ledger: from: dsn: evaluated placeholder {env.FIXTURE_UNSET} is empty: set the variable, or check that the file can be read"},
		{"ledger: from off", appWith(`"ledger":{"from":{"store":"off"}}`), ``, inApp + "ledger: " + fromOff},
		{"ledger: from the same dsn", appWith(`"ledger":{"store":"mysql","dsn":"{env.FIXTURE_MYSQL}","from":{"store":"mysql","dsn":"{env.FIXTURE_MYSQL}"}}`), ``, inApp + "ledger: " + errFromItself.Error()},
		{"ledger: from the same path", appWith(`"ledger":{"path":"{env.FIXTURE_DIRECTORY}/ledger.db","from":{"path":"` + os.TempDir() + `/./ledger.db"}}`), ``, inApp + "ledger: " + errFromItself.Error()},
		{"ledger: off with path", appWith(`"ledger":{"store":"off","path":"/ledger.db"}`), ``, inApp + "ledger: " + offKeepsNothing},
		{"ledger: off with keep", appWith(`"ledger":{"store":"off","keep":"30d"}`), ``, inApp + "ledger: " + offKeepsNothing},
		{"ledger: off with on_down", appWith(`"ledger":{"store":"off","on_down":"issue"}`), ``, inApp + "ledger: " + offKeepsNothing},
		{"ledger: path without a slash", appWith(`"ledger":{"path":"ledger.db"}`), ``, inApp + "ledger: the path must be absolute, such as /var/lib/shop/cvs.db: a relative one would mean another file when Caddy is started in another directory"},
		{"ledger: path of a directory", appWith(`"ledger":{"path":"/"}`), ``, inApp + "ledger: the path must be that of a file, such as /var/lib/shop/cvs.db, not of a directory"},
		{"ledger: keep too short", appWith(`"ledger":{"keep":"23h"}`), ``, inApp + "ledger: " + shortKeep},
		{"ledger: keep without unit", appWith(`"ledger":{"keep":120}`), ``, inApp + "ledger: " + shortKeep},
		{"ledger: keep negative", appWith(`"ledger":{"keep":"-30d"}`), ``, inApp + "ledger: " + shortKeep},
		{"ledger: on_down", appWith(`"ledger":{"on_down":"reject"}`), ``, inApp + `ledger: on_down must be issue or refuse, not "reject"`},
		{"ledger: unknown field", appWith(`"ledger":{"url":"{env.FIXTURE_MID}"}`), ``, appJSON + `json: unknown field "url"`},
		{"ledger: from unknown field", appWith(`"ledger":{"from":{"keep":"30d"}}`), ``, appJSON + `json: unknown field "keep"`},
		{"account: name", appWith(`"accounts":{"shop.example":` + usableApp + `}`), ``, inApp + `"shop.example" cannot name an account: use 1 to 64 letters, digits, '_' and '-'`},
		{"account: without name", appWith(`"accounts":{"":` + usableApp + `}`), ``, inApp + `"" cannot name an account: use 1 to 64 letters, digits, '_' and '-'`},
		{"account: null", `{"accounts":{"second":null}}`, ``, inApp + "account second: imp_key is missing: set it to a placeholder such as {env.PORTONE_IMP_KEY}"},
		{"account: imp_secret missing", `{"accounts":{"second":{"imp_key":"{env.FIXTURE_IMP_KEY}"}}}`, ``, inApp + "account second: imp_secret is missing: set it to a placeholder such as {env.PORTONE_IMP_SECRET}"},
		{"account: timeout negative", `{"accounts":{"second":` + appWith(`"timeout":-1`) + `}}`, ``, inApp + "account second: timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"account: unnamed one incomplete", `{"tier":"001","accounts":{"second":` + usableApp + `}}`, ``, inApp + "imp_key is missing: set it to a placeholder such as {env.PORTONE_IMP_KEY}"},
		{"account: nested", appWith(`"accounts":{"second":` + appWith(`"accounts":{}`) + `}`), ``, appJSON + `json: unknown field "accounts"`},
		{"account: unknown field", appWith(`"accounts":{"second":` + appWith(`"keys":2`) + `}`), ``, appJSON + `json: unknown field "keys"`},

		{"proxy", usableApp, `{"handler":"cvs_proxy","expires_in":"72h","max_body":1}`, ``},
		{"proxy: account unknown", usableApp, `{"handler":"cvs_proxy","account":"second"}`, inProxy + `account "second" is not configured in the global option cvs`},
		{"proxy: account unnamed", `{"accounts":{"second":` + usableApp + `}}`, `{"handler":"cvs_proxy"}`, inProxy + "there is no unnamed account: choose one with the option account"},
		{"proxy: allow", usableApp, `{"handler":"cvs_proxy","allow":["10.0.0.1","10.0.0.0/33"]}`, inProxy + `allow "10.0.0.0/33": need an IP address, a CIDR range, private_ranges or portone`},
		{"proxy: pg", usableApp, `{"handler":"cvs_proxy","pg":"kakaopay"}`, invalidProxy + `pg must be "galaxia" or "galaxia.{merchant id}"`},
		{"proxy: confirm_url", usableApp, `{"handler":"cvs_proxy","confirm_url":"/cvs/confirm"}`, inProxy + "confirm_url: need an absolute http or https URL"},
		{"proxy: notice_url", usableApp, `{"handler":"cvs_proxy","notice_url":"https://shop.example/#n"}`, inProxy + "notice_url: need a URL without credentials and fragment"},
		{"proxy: notice_url reserved", usableApp, `{"handler":"cvs_proxy","notice_url":"https://shop.example/?cvs_sig="}`, inProxy + "notice_url: parameters that begin with cvs_ are added when the URL is signed"},
		{"proxy: expires_in negative", usableApp, `{"handler":"cvs_proxy","expires_in":"-1h"}`, invalidProxy + "expires_in must be 1s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"app: timeout without unit", appWith(`"timeout":5`), ``, inApp + "timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"proxy: expires_in without unit", usableApp, `{"handler":"cvs_proxy","expires_in":72}`, invalidProxy + "expires_in must be 1s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"order_check: timeout without unit", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","timeout":3`), inConfirm + "order_check 1: timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"proxy: max_body negative", usableApp, `{"handler":"cvs_proxy","max_body":-1}`, invalidProxy + "max_body must be positive"},
		{"proxy: repeat", usableApp, `{"handler":"cvs_proxy","repeat":"pass"}`, ``},
		{"proxy: repeat unknown", usableApp, `{"handler":"cvs_proxy","repeat":"refuse"}`, invalidProxy + `repeat must be reuse or pass, not "refuse"`},
		{"proxy: serve", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"POST","path":["/payments/cancel"]},{"method":"*","path":["*"]}]}`, ``},
		{"proxy: serve without method", usableApp, `{"handler":"cvs_proxy","serve":[{"path":["/payments/cancel"]}]}`, inProxy + `serve: "" is not a method in capitals, such as POST, or * for any`},
		{"proxy: serve method", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"post","path":["/payments/cancel"]}]}`, inProxy + `serve: "post" is not a method in capitals, such as POST, or * for any`},
		{"proxy: serve without path", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"POST"}]}`, inProxy + "serve: name the paths of the API, such as /payments/cancel, or * for any"},
		{"proxy: serve path", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"POST","path":["payments/cancel"]}]}`, inProxy + `serve: "payments/cancel" is not a path of the API, such as /payments/cancel`},
		{"proxy: serve path of the shop", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"POST","path":["/payments/cancel","/orders"]}]}`, inProxy + `serve: "/orders" is not a path of the API, such as /payments/cancel`},
		{"proxy: serve /cvs", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"POST","path":["/cvs"]}]}`, inProxy + "serve: the gateway answers /cvs itself: leave it out"},
		{"proxy: serve getToken", usableApp, `{"handler":"cvs_proxy","serve":[{"method":"POST","path":["/users/getToken"]}]}`, inProxy + "serve: the gateway answers /users/getToken itself: leave it out"},
		{"proxy: unknown field", usableApp, `{"handler":"cvs_proxy","alow":[]}`, proxyJSON + `json: unknown field "alow"`},

		{"confirm", usableApp, confirmWith(`"timeout":"4s","on_error":"reject","unsigned":"lookup"`), ``},
		{"confirm: without order_check", usableApp, `{"handler":"cvs_confirm"}`, invalidConfig + noDecision},
		{"confirm: order_check empty", usableApp, `{"handler":"cvs_confirm","order_checks":[]}`, invalidConfig + noDecision},
		{"confirm: only shadow", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","shadow":true`), invalidConfig + noDecision},
		{"confirm: account unknown", usableApp, confirmWith(`"account":"second"`), inConfirm + `account "second" is not configured in the global option cvs`},
		{"confirm: timeout negative", usableApp, confirmWith(`"timeout":-1`), invalidConfig + "timeout must be 100ms to 10s: the sender waits no longer"},
		{"confirm: timeout too short", usableApp, confirmWith(`"timeout":4`), invalidConfig + "timeout must be 100ms to 10s: the sender waits no longer"},
		{"confirm: timeout too long", usableApp, confirmWith(`"timeout":"11s"`), invalidConfig + "timeout must be 100ms to 10s: the sender waits no longer"},
		{"confirm: unsigned", usableApp, confirmWith(`"unsigned":"accept"`), invalidConfig + `unsigned must be lookup, reject or allow, not "accept"`},
		{"confirm: on_error", usableApp, confirmWith(`"on_error":"ignore"`), invalidConfig + `on_error must be reject or accept, not "ignore"`},
		{"confirm: allow", usableApp, confirmWith(`"allow":["galaxia"]`), inConfirm + `allow "galaxia": need an IP address, a CIDR range, private_ranges or portone`},
		{"confirm: allow empty", usableApp, confirmWith(`"allow":[]`), inConfirm + "allow is empty: name who may call, or leave it out for the default"},
		{"confirm: order_check null", usableApp, orderChecks(`null`), inConfirm + "order_check: null is not a check"},
		{"proxy: allow empty", usableApp, `{"handler":"cvs_proxy","allow":[]}`, inProxy + "allow is empty: name who may call, or leave it out for the default"},
		{"proxy: allow portone", usableApp, `{"handler":"cvs_proxy","allow":["portone"]}`, inProxy + "allow portone is for cvs_confirm: PortOne never calls cvs_proxy"},
		{"order_check: requirements empty", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","requirements":[]`), inConfirm + "order_check 1: requirements is empty: name one, or leave it out"},
		{"order_check: accept empty", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","accept":[]`), inConfirm + "order_check 1: accept is empty: no status would mean yes"},
		{"order_check: route empty", usableApp, orderCheck(`"route":[]`), inConfirm + "order_check 1: the route has no handler"},
		{"order_check: require without path", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","requirements":[{"value":"1"}]`), inConfirm + "order_check 1: require needs a path"},
		{"order_check: header in two spellings", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","header":{"x-a":"1","X-A":"2"}`), inConfirm + "order_check 1: header X-A is given twice"},
		{"confirm: name twice", usableApp, orderChecks(`{"name":"a","url":"http://127.0.0.1:3000"},{"name":"a","url":"http://127.0.0.1:3001"}`), invalidConfig + "order_check a: the name is given twice"},
		{"confirm: unknown field", usableApp, confirmWith(`"order_check":[]`), confirmJSON + `json: unknown field "order_check"`},

		{"order_check: neither", usableApp, orderCheck(`"name":"order"`), inConfirm + "order_check order: need either a URL or a route"},
		{"order_check: both", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","route":[{"handle":[{"handler":"static_response"}]}]`), inConfirm + "order_check 1: need either a URL or a route"},
		{"order_check: url", usableApp, orderCheck(`"url":"127.0.0.1:3000"`), inConfirm + "order_check 1: url: need an absolute http or https URL such as http://127.0.0.1:3000/payable, or a route"},
		{"order_check: method", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","method":"PUT"`), inConfirm + "order_check 1: method must be GET or POST"},
		{"order_check: method with route", usableApp, orderCheck(`"method":"GET","route":[{"handle":[{"handler":"static_response"}]}]`), inConfirm + "order_check 1: method and header are for a URL: in a route use Caddy's method and request_header"},
		{"order_check: header with route", usableApp, orderCheck(`"header":{"X-A":"1"},"route":[{"handle":[{"handler":"static_response"}]}]`), inConfirm + "order_check 1: method and header are for a URL: in a route use Caddy's method and request_header"},
		{"order_check: header name", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","header":{"X A":"1"}`), inConfirm + `order_check 1: header "X A": not a name of a header field`},
		{"order_check: header reserved", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","header":{"x-cvs-imp-uid":"1"}`), inConfirm + "order_check 1: header x-cvs-imp-uid: the X-Cvs- fields are reserved, every check gets them"},
		{"order_check: timeout negative", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","timeout":-1`), inConfirm + "order_check 1: timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"order_check: accept", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","accept":["2xx","300"]`), inConfirm + "order_check 1: accept 300: only 200 to 299 and 2xx can mean yes"},
		{"order_check: second one", usableApp, orderChecks(`{"url":"http://127.0.0.1:3000"},{"url":"http://127.0.0.1:3001","timeout":-1}`), inConfirm + "order_check 2: timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"order_check: handler unknown", usableApp, orderCheck(`"route":[{"handle":[{"handler":"cvs_check"}]}]`), inConfirm + "order_check 1: route: route 0: loading handler modules: position 0: loading module 'cvs_check': unknown module: http.handlers.cvs_check"},
		{"order_check: unknown field", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","retries":3`), confirmJSON + `json: unknown field "retries"`},
		{"order_check: unknown field of require", usableApp, orderCheck(`"url":"http://127.0.0.1:3000","requirements":[{"path":"ok","equals":"1"}]`), confirmJSON + `json: unknown field "equals"`},

		{"notice", usableApp, noticeWith(`"events":["expired"],"retry":"1h","concurrency":1,"intervals":["1s"],"sweep":"off","sandbox":"allow"`), ``},
		{"notice: sweep", usableApp, noticeWith(`"sweep":"1s"`), ``},
		{"notice: without tell", usableApp, `{"handler":"cvs_notice"}`, inNotice + "need a tell: the URL at which the app is told of payments"},
		{"notice: tell null", usableApp, `{"handler":"cvs_notice","tell":null}`, inNotice + "need a tell: the URL at which the app is told of payments"},
		{"notice: account unknown", usableApp, noticeWith(`"account":"second"`), inNotice + `account "second" is not configured in the global option cvs`},
		{"notice: ledger off", appWith(`"ledger":{"store":"off"}`), noticeWith(`"sandbox":"allow"`), inNotice + "cvs_notice keeps notices in the ledger: remove ledger off from the global option cvs"},
		{"notice: twice", usableApp, noticeWith(`"sandbox":"allow"`) + `]},{"handle":[` + noticeWith(`"sandbox":"reject"`), strings.Replace(inNotice, "route 0", "route 1", 1) + "the unnamed account has another cvs_notice, with other options: an account has one"},
		{"notice: events empty", usableApp, noticeWith(`"events":[]`), inNotice + "events is empty: name one, or leave it out for all"},
		{"notice: events unknown", usableApp, noticeWith(`"events":["refunded"]`), inNotice + `events: "refunded" is none of: paid, cancelled, expired`},
		{"notice: events twice", usableApp, noticeWith(`"events":["paid","expired","paid"]`), inNotice + "events: paid is given twice"},
		{"notice: retry without unit", usableApp, noticeWith(`"retry":72`), inNotice + "retry must be 1s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"notice: retry negative", usableApp, noticeWith(`"retry":"-1h"`), inNotice + "retry must be 1s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"notice: concurrency negative", usableApp, noticeWith(`"concurrency":-1`), inNotice + "concurrency must be 1 or more"},
		{"notice: intervals empty", usableApp, noticeWith(`"intervals":[]`), inNotice + "intervals is empty: name one, or leave it out"},
		{"notice: intervals zero", usableApp, noticeWith(`"intervals":["1s",0]`), inNotice + "intervals must be 100ms or more"},
		{"notice: intervals without unit", usableApp, noticeWith(`"intervals":[5]`), inNotice + "intervals must be 100ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"notice: sweep too often", usableApp, noticeWith(`"sweep":"999ms"`), inNotice + `sweep must be a duration such as 5m, of 1s or more, or off, not "999ms"`},
		{"notice: sweep a number", usableApp, noticeWith(`"sweep":300`), noticeJSON + "json: cannot unmarshal number into Go struct field Notice.sweep of type string"},
		{"notice: sandbox", usableApp, noticeWith(`"sandbox":"accept"`), inNotice + `sandbox must be reject or allow, not "accept"`},
		{"notice: unknown field", usableApp, noticeWith(`"order_checks":[]`), noticeJSON + `json: unknown field "order_checks"`},
		{"tell", usableApp, tellJSON(`"url":"https://shop.example","header":{"X-A":"b"},"timeout":"1s","accept":["204"],"requirements":[{"path":"ok","value":"1"}],"as":"form","secret":["{env.FIXTURE_SECRET}"]`), ``},
		{"tell: without url", usableApp, tellJSON(``), inNotice + "tell: need a URL such as http://127.0.0.1:3000/payments/{http.cvs.merchant_uid}"},
		{"tell: url relative", usableApp, tellJSON(`"url":"/payments"`), inNotice + "tell: url: need an absolute http or https URL such as http://127.0.0.1:3000/payable"},
		{"tell: url of a request", usableApp, tellJSON(`"url":"http://127.0.0.1/{http.request.host}"`), inNotice + "tell: url: {http.request.host} belongs to a request, and a tell has none; there are {http.cvs.event|imp_uid|merchant_uid|status|amount|expires|account}"},
		{"tell: header reserved", usableApp, tellJSON(`"url":"http://127.0.0.1","header":{"Webhook-Signature":"1"}`), inNotice + "tell: header Webhook-Signature: the X-Cvs- and webhook- fields are reserved, every tell gets them"},
		{"tell: header of vars", usableApp, tellJSON(`"url":"http://127.0.0.1","header":{"X-A":"{http.vars.a}"}`), inNotice + "tell: header X-A: {http.vars.a} belongs to a request, and a tell has none; there are {http.cvs.event|imp_uid|merchant_uid|status|amount|expires|account}"},
		{"tell: timeout without unit", usableApp, tellJSON(`"url":"http://127.0.0.1","timeout":10`), inNotice + "tell: timeout must be 1ms or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds"},
		{"tell: requirements empty", usableApp, tellJSON(`"url":"http://127.0.0.1","requirements":[]`), inNotice + "tell: requirements is empty: name one, or leave it out"},
		{"tell: accept empty", usableApp, tellJSON(`"url":"http://127.0.0.1","accept":[]`), inNotice + "tell: accept is empty: no status would mean yes"},
		{"tell: accept", usableApp, tellJSON(`"url":"http://127.0.0.1","accept":["404"]`), inNotice + "tell: accept 404: only 200 to 299 and 2xx can mean yes"},
		{"tell: require without path", usableApp, tellJSON(`"url":"http://127.0.0.1","requirements":[{"value":"1"}]`), inNotice + "tell: require needs a path"},
		{"tell: as", usableApp, tellJSON(`"url":"http://127.0.0.1","as":"xml"`), inNotice + `tell: as must be json or form, not "xml"`},
		{"tell: secret empty", usableApp, tellJSON(`"url":"http://127.0.0.1","secret":[]`), inNotice + "tell: secret is empty: name one, or leave it out"},
		{"tell: secret literal", usableApp, tellJSON(`"url":"http://127.0.0.1","secret":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]`), inNotice + "tell: secret" + refusedLiteral},
		{"tell: secret of another kind", usableApp, tellJSON(`"url":"http://127.0.0.1","secret":["{env.FIXTURE_IMP_SECRET}"]`), inNotice + "tell: secret {env.FIXTURE_IMP_SECRET}: the secret does not begin with whsec_"},
		{"tell: unknown field", usableApp, tellJSON(`"url":"http://127.0.0.1","method":"PUT"`), noticeJSON + `json: unknown field "method"`},

		{"barcode: without app", ``, `{"handler":"cvs_barcode"}`, ``},
		{"barcode", ``, `{"handler":"cvs_barcode","height":500,"scale":10,"text":true}`, ``},
		{"barcode: height", ``, `{"handler":"cvs_barcode","height":501}`, inBarcode + "height must be a number of pixels from 20 to 500"},
		{"barcode: scale", ``, `{"handler":"cvs_barcode","scale":-1}`, inBarcode + "scale must be a number of pixels from 1 to 10"},
		{"barcode: unknown field", ``, `{"handler":"cvs_barcode","width":330}`, barcodeJSON + `json: unknown field "width"`},

		{"sandbox: without app", ``, `{"handler":"cvs_sandbox"}`, ``},
		{"sandbox: imp_key alone", ``, `{"handler":"cvs_sandbox","imp_key":"{env.FIXTURE_IMP_KEY}"}`, inSandbox + "imp_key and imp_secret go together: set both, or none to accept any"},
		{"sandbox: imp_key literal", ``, `{"handler":"cvs_sandbox","imp_key":"any","imp_secret":"{env.FIXTURE_IMP_SECRET}"}`, inSandbox + "imp_key" + refusedLiteral},
		{"sandbox: webhooks", ``, `{"handler":"cvs_sandbox","webhooks":"public"}`, inSandbox + `webhooks: "public" is none of: private, any`},
		{"sandbox: channel", ``, `{"handler":"cvs_sandbox","channel":"real"}`, inSandbox + `channel: "real" is none of: test, live`},
		{"sandbox: fractions", ``, `{"handler":"cvs_sandbox","fractions":"cut"}`, inSandbox + `fractions: "cut" is none of: refuse, keep, round`},
		{"sandbox: unknown field", ``, `{"handler":"cvs_sandbox","keys":"any"}`, sandboxJSON + `json: unknown field "keys"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			apps := make(map[string]json.RawMessage)
			if tt.app != "" {
				apps["cvs"] = json.RawMessage(tt.app)
			}
			if tt.handler != "" {
				apps["http"] = json.RawMessage(`{"servers":{"gateway":{"listen":["127.0.0.1:8080"],"routes":[{"handle":[` + tt.handler + `]}]}}}`)
			}
			config, err := json.Marshal(map[string]any{"apps": apps})
			require.NoError(t, err)
			_, err = loadConfig(t, config)
			if tt.err == "" {
				assert.NoError(t, err)
				return
			}
			assert.EqualError(t, err, tt.err)
		})
	}
	assertNothingHeld(t)
}

// appWith adds fields to the usable app.
func appWith(fields string) string {
	return strings.TrimSuffix(usableApp, "}") + "," + fields + "}"
}

// confirmWith adds fields to a usable cvs_confirm.
func confirmWith(fields string) string {
	return `{"handler":"cvs_confirm","order_checks":[{"url":"http://127.0.0.1:3000"}],` + fields + `}`
}

// noticeWith adds fields to a usable cvs_notice.
func noticeWith(fields string) string {
	return `{"handler":"cvs_notice","tell":{"url":"http://127.0.0.1:3000"},` + fields + `}`
}

func tellJSON(fields string) string { return `{"handler":"cvs_notice","tell":{` + fields + `}}` }

func orderCheck(fields string) string { return orderChecks("{" + fields + "}") }

func orderChecks(checks string) string {
	return `{"handler":"cvs_confirm","order_checks":[` + checks + `]}`
}

// FuzzCaddyfile asserts that parsing any Caddyfile ends in an error, or in JSON that our
// types can read and write again without loss.
func FuzzCaddyfile(f *testing.F) {
	// Only Caddyfiles that adapt: the fuzzer makes mistakes by itself.
	files, err := filepath.Glob("testdata/caddyfile/" + adapts + "/*.caddyfiletest")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, name := range files {
		content, err := os.ReadFile(name)
		require.NoError(f, err)
		input, _, _ := strings.Cut(string(content), fixtureSeparator)
		f.Add(input)
	}
	adapter := caddyconfig.GetAdapter("caddyfile")
	f.Fuzz(func(t *testing.T, input string) {
		if strings.Contains(input, "import") {
			return // it would read files of this machine
		}
		adapted, _, err := adapter.Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
		if err != nil {
			return
		}
		var config any
		require.NoError(t, json.Unmarshal(adapted, &config))
		checkOwnModules(t, config)
	})
}

// checkOwnModules decodes each of our modules in a configuration as Caddy does, encodes it
// again, and compares the two.
func checkOwnModules(t *testing.T, config any) {
	t.Helper()
	switch c := config.(type) {
	case []any:
		for _, element := range c {
			checkOwnModules(t, element)
		}
	case map[string]any:
		if apps, ok := c["apps"].(map[string]any); ok && apps["cvs"] != nil {
			rewrite(t, apps["cvs"], new(App))
		}
		modules := map[any]any{"cvs_proxy": new(Proxy), "cvs_confirm": new(Confirm), "cvs_notice": new(Notice), "cvs_barcode": new(Barcode), "cvs_sandbox": new(Sandbox)}
		if module := modules[c["handler"]]; module != nil {
			options := maps.Clone(c)
			delete(options, "handler")
			rewrite(t, options, module)
		}
		for _, member := range c {
			checkOwnModules(t, member)
		}
	}
}

func rewrite(t *testing.T, options, module any) {
	t.Helper()
	written, err := json.Marshal(options)
	require.NoError(t, err)
	dec := json.NewDecoder(bytes.NewReader(written))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(module), "%s", written)
	again, err := json.Marshal(module)
	require.NoError(t, err)
	require.JSONEq(t, string(written), string(again))
}

func TestSecretRejectsWhitespaceOrBOMAtItsEnds(t *testing.T) {
	t.Parallel()
	for content, ok := range map[string]bool{
		"s1-b82e64a0d1c95f37": true, "s1-b82e64a0d1c95f37\n": true, // Caddy removes one line break
		"s1-b82e64a0d1c95f37\n\n": false, "s1-b82e64a0d1c95f37 ": false, "\ts1-b82e64a0d1c95f37": false, "\ufeffs1-b82e64a0d1c95f37": false,
	} {
		file := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		secret, err := resolveSecret("imp_secret", "{file."+file+"}")
		if ok {
			require.NoError(t, err, "%q", content)
			assert.Equal(t, "s1-b82e64a0d1c95f37", secret)
			continue
		}
		require.ErrorContains(t, err, "at an end: remove it", "%q", content)
		assert.NotContains(t, err.Error(), "b82e64")
	}
}
