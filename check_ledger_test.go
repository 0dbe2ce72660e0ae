package caddycvs

// This file holds tests of what `caddy cvs check` says of the ledger and of several nodes.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func init() { caddy.RegisterModule(new(sharedStorage)) }

// ledgerReport asks for a ledger whose running Caddy answers with a state, "" for none.
func ledgerReport(t *testing.T, place *knownPlace, state string) *report {
	t.Helper()
	s := &setup{app: &App{ledger: &appLedger{place: place, needed: true}}}
	n := &network{limit: time.Second, admin: func(context.Context, string) ([]byte, error) {
		if state == "" {
			return nil, errors.New("connection refused")
		}
		return json.Marshal(statusView{Ledger: ledgerView{Store: place.store, State: state}})
	}}
	r := new(report)
	s.ledgerStep()(t.Context(), n, r)
	return r
}

func TestCheckWritesBesideTheLedger(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := &knownPlace{store: ledgerFile, path: filepath.Join(dir, "ledger.db")}
	assert.Contains(t, ledgerReport(t, place, "").OK[0], "can be written, a sync takes ")
	require.NoError(t, os.WriteFile(place.path, []byte("rows"), 0o600))
	assert.Contains(t, ledgerReport(t, place, "").OK[0], "can be written, a sync takes ")
	content, err := os.ReadFile(place.path)
	require.NoError(t, err)
	assert.Equal(t, "rows", string(content))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing is left behind")

	missing := &knownPlace{store: ledgerFile, path: filepath.Join(dir, "missing", "ledger.db")}
	r := ledgerReport(t, missing, "")
	require.Len(t, r.Findings, 1)
	assert.Equal(t, "ledger_not_writable", r.Findings[0].ID)
	assert.Contains(t, ledgerReport(t, missing, ledgerUp).OK[0], "in use by the running Caddy", "perhaps as another user")
	missing.implied = true
	assert.Contains(t, ledgerReport(t, missing, "").OK[0], "can be written", "Caddy makes the directory")
	assert.NoDirExists(t, filepath.Dir(missing.path))

	directory := &knownPlace{store: ledgerFile, path: filepath.Join(dir, "as-directory")}
	require.NoError(t, os.Mkdir(directory.path, 0o700))
	assert.True(t, ledgerReport(t, directory, "").has("ledger_not_writable"))
}

func TestCheckAsksTheRunningCaddyForADatabase(t *testing.T) {
	t.Parallel()
	place := &knownPlace{store: ledgerPostgres}
	assert.Equal(t, []string{"ledger: postgres, in use by the running Caddy"}, ledgerReport(t, place, ledgerUp).OK)
	assert.Equal(t, []string{"ledger: postgres, not asked, because no Caddy runs that uses it"}, ledgerReport(t, place, "").OK)
	assert.True(t, ledgerReport(t, place, ledgerDegraded).has("ledger_down"))
	slow := ledgerReport(t, place, ledgerSlow)
	require.True(t, slow.has("ledger_slow"))
	assert.Equal(t, "the ledger did not answer the running Caddy within 700ms", slow.Findings[0].Message, "as GET /cvs/status waits")
	assert.Equal(t, []string{"ledger: off"}, ledgerReport(t, nil, "").OK)
}

// sharedStorage is a storage that several nodes share, as that of Redis.
type sharedStorage struct{ caddy.StorageConverter }

func (*sharedStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.cvs_test_shared", New: func() caddy.Module { return &sharedStorage{new(filestorage.FileStorage)} }}
}

func TestCheckFindsSeveralNodesByTheirStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dsn := filepath.Join(dir, "dsn")
	require.NoError(t, os.WriteFile(dsn, []byte("shop:secret@tcp(127.0.0.1:1)/shop"), 0o600))
	found := func(storage, place string) *report {
		adapted, _, err := gatewaytest.AdaptCaddyfile(strings.ReplaceAll(goodSetup, "LEDGER", place))
		require.NoError(t, err)
		s, err := loadSetup([]byte(`{"storage":`+storage+","+string(adapted[1:])), gatewaytest.Provision)
		require.NoError(t, err)
		return s.inspect()
	}
	shared, own := `{"module":"cvs_test_shared"}`, fmt.Sprintf(`{"module":"file_system","root":%q}`, dir)
	r := found(shared, filepath.Join(dir, "cvs.db"))
	require.True(t, r.has("nodes_with_file"))
	assert.Contains(t, r.Findings[0].Message, "Caddy's storage is cvs_test_shared, which several nodes share")
	assert.Empty(t, found(own, filepath.Join(dir, "cvs.db")).Findings)
	assert.Empty(t, found(shared, "mysql {file."+dsn+"}").Findings)
}

// For tls internal, Caddy makes a certificate authority when it loads a configuration. A check by root would leave
// keys that Caddy cannot read.
func TestCheckMakesNoCertificateAuthority(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config := strings.NewReplacer("LEDGER", filepath.Join(dir, "cvs.db"), "shop.example {", "shop.example {\n tls internal").Replace(goodSetup)
	adapted, _, err := gatewaytest.AdaptCaddyfile(strings.Replace(config, "{", "{\n storage file_system "+filepath.Join(dir, "storage"), 1))
	require.NoError(t, err)
	s, err := loadSetup(adapted, gatewaytest.Provision)
	require.NoError(t, err)
	assert.Empty(t, s.inspect().Findings)
	assert.NoDirExists(t, filepath.Join(dir, "storage"))
}
