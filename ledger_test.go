package caddycvs

// This file holds the tests of the ledger's configuration.

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestLedgerDefaults(t *testing.T) {
	t.Parallel()
	file := LedgerPlace{Store: "file"}
	const keep = caddy.Duration(120 * 24 * time.Hour)
	for config, want := range map[string]Ledger{
		usableApp:                            {LedgerPlace: file, Keep: keep, OnDown: "issue"},
		appWith(`"ledger":{}`):               {LedgerPlace: file, Keep: keep, OnDown: "issue"},
		appWith(`"ledger":{"keep":"30d"}`):   {LedgerPlace: file, Keep: caddy.Duration(30 * 24 * time.Hour), OnDown: "issue"},
		appWith(`"ledger":{"path":"/x.db"}`): {LedgerPlace: LedgerPlace{Store: "file", Path: "/x.db"}, Keep: keep, OnDown: "issue"},
		appWith(`"ledger":{"store":"mysql","dsn":"{env.FIXTURE_MYSQL}","from":{"path":"/x.db"}}`): {
			LedgerPlace: LedgerPlace{Store: "mysql", DSN: "{env.FIXTURE_MYSQL}"}, Keep: keep, OnDown: "issue", From: &LedgerPlace{Path: "/x.db"},
		},
		appWith(`"ledger":{"store":"off"}`): {LedgerPlace: LedgerPlace{Store: "off"}},
	} {
		gatewaytest.Provisioned(t, &caddy.Config{AppsRaw: caddy.ModuleMap{"cvs": json.RawMessage(config)}}, func(ctx caddy.Context) {
			app, err := ctx.App("cvs")
			require.NoError(t, err, config)
			assert.Equal(t, want, *app.(*App).Ledger, config)
		})
	}
}

func TestLedgerFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "old.db"), []byte("old"), 0o600))
	in := func(name string) string { return dir + "/" + name }
	for path, want := range map[string]string{
		in("new.db"):        in("new.db"),
		in("old.db"):        in("old.db"),
		in("/x/..//new.db"): in("new.db"),
		"{env.FIXTURE_DIRECTORY}/{env.FIXTURE_MID}.db": filepath.Join(fixtureSettings["FIXTURE_DIRECTORY"], fixtureSettings["FIXTURE_MID"]+".db"),
	} {
		here, _, err := (&Ledger{LedgerPlace: LedgerPlace{Path: path}}).provision()
		require.NoError(t, err, path)
		assert.Equal(t, want, here.path)
	}
}

// A path may be the address of a database, with its password, that stands in the wrong place.
func TestLedgerErrorsShowNoAddress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for path, message := range map[string]string{
		"{env.FIXTURE_SHOP_KEY}":        "the path must be absolute",
		"{env.FIXTURE_SHOP_KEY}/x":      "the path must be absolute",
		"{env.FIXTURE_POSTGRES}":        "this is not the path of a file: write postgres <dsn> or mysql <dsn>",
		"{env.FIXTURE_MYSQL}":           "this is not the path of a file: write postgres <dsn> or mysql <dsn>",
		"{env.FIXTURE_UNSET}":           "path: evaluated placeholder {env.FIXTURE_UNSET} is empty",
		dir:                             dir + " is a directory: name a file in it, such as " + dir + "/ledger.db",
		dir + "/":                       "the path must be that of a file",
		dir + "{env.FIXTURE_EMPTY}":     "path: evaluated placeholder {env.FIXTURE_EMPTY} is empty",
		filepath.Join(dir, "no", "x"):   "the directory of the file is missing: create it",
		filepath.Join(dir, "file", "x"): "not a directory",
	} {
		_, _, err := (&Ledger{LedgerPlace: LedgerPlace{Path: path}}).provision()
		require.ErrorContains(t, err, message, path)
		assertNoSecret(t, "the error", err.Error())
	}
}

// Another Caddy may use the same file while a configuration is adapted or validated.
func TestValidatingCreatesNoLedger(t *testing.T) {
	restoreDefaultLogger(t)
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	for _, line := range []string{"", "\t\tledger\n", "\t\tledger " + filepath.Join(dir, "ledger.db") + "\n"} {
		_, err := loadConfig(t, requireAdapts(t, "{\n\tcvs {\n\t\timp_key {env.FIXTURE_IMP_KEY}\n\t\timp_secret {env.FIXTURE_IMP_SECRET}\n"+line+"\t}\n}\n\n:8081 {\n\tcvs_proxy\n}\n"))
		require.NoError(t, err, line)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, entries, line)
	}
}

// RunMain must see a ledger at the default path.
func TestDefaultLedgerIsSeen(t *testing.T) {
	file, err := new(LedgerPlace).file()
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(file))
	require.False(t, gatewaytest.HasDefaultLedger())
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	t.Cleanup(func() { require.NoError(t, os.Remove(file)) })
	assert.True(t, gatewaytest.HasDefaultLedger())
}

// A relative data directory, as Caddy has it without a home, makes no relative path.
func TestDefaultLedgerIsAbsolute(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "data")
	file, err := new(LedgerPlace).file()
	require.NoError(t, err)
	assert.True(t, filepath.IsAbs(file), file)
}

// What was due while Caddy was stopped is looked at now: the worker knows the accounts when it
// begins.
func TestWorkerKnowsTheAccountsAtTheStart(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	store, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err)
	due := &ledger.Row{Format: ledger.Format, Order: "order-1", Version: 1, Due: 1, Attempts: []ledger.Attempt{
		{ID: "a", State: ledger.Issued, ImpUID: "imp_1", Amount: "15000", Deadline: 1, Asked: 1, Since: 1, Next: 1},
	}}
	require.NoError(t, store.Put(t.Context(), due, 0, false))
	require.NoError(t, store.Close())
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
		app, err := ctx.App("cvs")
		require.NoError(t, err)
		a := app.(*App)
		require.NoError(t, a.acquireLedger()) // and no more: later would be too late
		t.Cleanup(func() { _, _ = ledgers.Delete(g.Ledger) })
	})
	require.Eventually(t, func() bool { return g.API.Requests(emulator.EndpointPayment) > 0 }, 5*time.Second, 5*time.Millisecond)
}
