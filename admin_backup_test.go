package caddycvs

// This file holds tests of a backup: through the command and the admin endpoint, while the gateway works.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestAdminBackup(t *testing.T) {
	t.Parallel()
	l := &adminLedger{backup: "bytes"}
	w, err := l.ask(t, http.MethodGet, "/cvs/backup", "", "")
	require.NoError(t, err)
	assert.Equal(t, "bytes", w.Body.String())
	assert.Equal(t, backupType, w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	l.err = errors.New("torn")
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() { _, _ = l.ask(t, http.MethodGet, "/cvs/backup", "", "") }, "what was sent is not the whole")
	l.backup = ""
	for cause, status := range map[error]int{ledger.ErrDown: 503, ledger.ErrCopying: 409, errors.New("no space"): 500} {
		l.err = cause
		_, err := (&Admin{ledger: func() (operatorLedger, error) { return failing{l}, nil }}).ask(t, "/cvs/backup")
		assertAPIError(t, err, status, cause.Error())
	}
	for target, method := range map[string]string{"/cvs/backup": http.MethodPost, "/cvs/backup?x=1": http.MethodGet} {
		_, err := l.ask(t, method, target, "", "")
		require.Error(t, err)
	}
	_, err = (&Admin{ledger: func() (operatorLedger, error) { return nil, errors.New("there is no ledger") }}).ask(t, "/cvs/backup")
	assertAPIError(t, err, 404, "there is no ledger")
}

// failing fails before it writes.
type failing struct{ *adminLedger }

func (f failing) WriteBackup(context.Context, io.Writer) error { return f.err }

func (a *Admin) ask(t *testing.T, target string) (*httptest.ResponseRecorder, error) {
	t.Helper()
	return askAdmin(t, a, http.MethodGet, target, "", "")
}

func assertAPIError(t *testing.T, err error, status int, text string) {
	t.Helper()
	var refused caddy.APIError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, status, refused.HTTPStatus)
	assert.ErrorContains(t, refused.Err, text)
}

// serveBackup serves an admin endpoint with a backup.
func serveBackup(t *testing.T, write func(w http.ResponseWriter)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", backupType)
		write(w)
	}))
	t.Cleanup(server.Close)
	return gatewaytest.Host(server.URL)
}

// ledgerBytes is a ledger's file with some orders.
func ledgerBytes(t *testing.T, orders ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.db")
	fillFile(t, path, orders...)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func TestCvsBackup(t *testing.T) {
	t.Parallel()
	whole := ledgerBytes(t, "order-1", "order-2")
	address := serveBackup(t, func(w http.ResponseWriter) { _, _ = w.Write(whole) })
	dir := t.TempDir()
	path := filepath.Join(dir, "백업 1.db")
	got := runCvs(t, "backup", path, "--address", address)
	assert.Equal(t, ran{out: fmt.Sprintf("%s has 2 orders (%d bytes), and was verified.\n", path, len(whole))}, got)
	info, err := os.Stat(path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode())
	}
	is := func(want []byte) {
		t.Helper()
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(want, data))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Len(t, entries, 1, "nothing else is left behind")
	}
	is(whole)
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	got = runCvs(t, "backup", path, "--address", address)
	assert.Equal(t, ran{errors: "Error: " + path + " exists already, and was left as it is: name another file, or replace it with --force\n", code: 1}, got)
	is([]byte("mine"))

	for name, write := range map[string]func(w http.ResponseWriter){
		"broken off": func(w http.ResponseWriter) {
			_, _ = w.Write(whole[:len(whole)/2])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"cut short": func(w http.ResponseWriter) { _, _ = w.Write(whole[:3*os.Getpagesize()]) },
		"no ledger": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") },
		"empty":     func(http.ResponseWriter) {},
	} {
		got := runCvs(t, "backup", "--force", path, "--address", serveBackup(t, write))
		assert.Equal(t, 1, got.code, name)
		assert.Regexp(t, "^Error: the backup is not (whole|good), and was removed: ", got.errors, name)
		is([]byte("mine"))
	}
	assert.Equal(t, 0, runCvs(t, "backup", "--force", path, "--address", address).code)
	is(whole)
	s, err := boltstore.Open(path, boltstore.Options{})
	require.NoError(t, err)
	got = runCvs(t, "backup", "--force", path, "--address", address)
	require.NoError(t, s.Close())
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.errors, "is the ledger of a gateway that runs, and was left as it is")
	for _, test := range [][2]string{{"-", "cannot go to standard output"}, {dir, "is a directory: name a file in it"}, {filepath.Join(dir, "no", "x.db"), "no such file"}, {"", "name one file"}} {
		got := runCvs(t, "backup", test[0], "--address", address)
		assert.Equal(t, 1, got.code)
		assert.Contains(t, got.errors, test[1])
	}
}

// A gateway that hangs keeps nobody waiting for ever, before the first byte or after it.
func TestCvsBackupOfAGatewayThatHangs(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	for want, begin := range map[string]bool{"sends no backup": false, "has stopped sending it": true} {
		address := serveBackup(t, func(w http.ResponseWriter) {
			if begin {
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
			}
			<-end
		})
		g, err := newGateway(address)
		require.NoError(t, err)
		g.patience = 300 * time.Millisecond
		dir := t.TempDir()
		_, _, err = g.backUp(t.Context(), filepath.Join(dir, "cvs.db"), false)
		require.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "see whether Caddy hangs")
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, entries)
	}
	close(end)
	assert.Greater(t, backupPatience, backupLimit, "the gateway says why it breaks a backup off")
}

// Somebody interrupts the command, or another one makes a file of that name meanwhile.
func TestCvsBackupMeanwhile(t *testing.T) {
	t.Parallel()
	whole := ledgerBytes(t, "order-1")
	dir := t.TempDir()
	path := filepath.Join(dir, "backup.db")
	ctx, cancel := context.WithCancel(t.Context())
	address := serveBackup(t, func(w http.ResponseWriter) {
		_, _ = w.Write(whole[:len(whole)/2])
		_ = http.NewResponseController(w).Flush()
		cancel()
		panic(http.ErrAbortHandler)
	})
	got := runCvsUntil(ctx, "backup", path, "--address", address)
	assert.Equal(t, 1, got.code)
	assert.Contains(t, got.errors, "interrupted")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
	address = serveBackup(t, func(w http.ResponseWriter) {
		assert.NoError(t, os.WriteFile(path, []byte("theirs"), 0o600))
		_, _ = w.Write(whole)
	})
	assert.Contains(t, runCvs(t, "backup", path, "--address", address).errors, "exists already, and was left as it is")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "theirs", string(data))
}

// hearing is a shop that hears of orders but of those that begin with "later", until it opens.
type hearing struct {
	mu    sync.Mutex
	heard map[string]int
	open  atomic.Bool
}

func (h *hearing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if order, isTell := strings.CutPrefix(r.URL.Path, "/payments/"); isTell {
		if strings.HasPrefix(order, "later") && !h.open.Load() {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		h.mu.Lock()
		h.heard[order]++
		h.mu.Unlock()
	}
	_, _ = io.WriteString(w, `{"payable":true,"total":15000,"heard":true}`)
}

func (h *hearing) of(order string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[order]
}

// A gateway that starts with a backup, made while many orders are issued, tells what was pending then, and
// nothing that was heard. Not parallel, because it uses the one Caddy of the process that can be reloaded.
func testBackupUnderTraffic(t *testing.T, setup gatewaytest.Setup) {
	t.Helper()
	shop := &hearing{heard: make(map[string]int)}
	admin := gatewaytest.Address(t)
	setup.Proxy, setup.Payable = gatewaytest.UsualProxy+"\nnotice_url OUTSIDE/cvs/notice", shop.ServeHTTP
	setup.Notice = gatewaytest.UsualNotice + "\nintervals 100ms"
	g, config := gatewaytest.Prepare(t, setup)
	config = strings.Replace(config, "admin off", "admin "+admin, 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	const orders = 10
	for i := range orders {
		for _, order := range []string{fmt.Sprint("done-", i), fmt.Sprint("later-", i)} {
			_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: g.MustIssue(t, order).Barcode})
			require.NoError(t, err)
		}
	}
	pending := func() string { return runCvs(t, "barcodes", "--state", "pending", "--address", admin).out }
	require.Eventually(t, func() bool {
		return strings.Contains(pending(), "\n10 shown.") && !strings.Contains(pending(), "done-")
	}, 20*time.Second, 50*time.Millisecond)

	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	issued := make(chan string, 1000)
	for w := range 4 {
		traffic.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				order := fmt.Sprintf("traffic-%d-%d", w, i)
				assert.Equal(t, 200, g.Issue(t, order).Status)
				select {
				case issued <- order:
				default:
				}
			}
		})
	}
	first := <-issued
	require.Eventually(t, func() bool { // its row is written behind the answer
		return strings.Contains(runCvs(t, "barcodes", "--order", first, "--state", "issued", "--address", admin).out, "\n1 shown.")
	}, 20*time.Second, 10*time.Millisecond)
	path := gatewaytest.LedgerFile(t)
	got := runCvs(t, "backup", path, "--address", admin)
	<-issued
	stop()
	traffic.Wait()
	require.Equal(t, 0, got.code, got.errors)

	require.NoError(t, caddy.Stop())
	shop.open.Store(true)
	start := strings.Index(config, "\t\tledger ")
	end := start + strings.Index(config[start:], "\n")
	require.NoError(t, gatewaytest.Reload(t, config[:start]+"\t\tledger "+path+config[end:]))
	// A message may have been on its way at the moment of the backup: it is told again when its time is over.
	require.Eventually(t, func() bool { return strings.Contains(pending(), "\n0 shown.") }, 2*time.Minute, 100*time.Millisecond)
	for i := range orders {
		assert.Equal(t, 1, shop.of(fmt.Sprint("done-", i)))
		assert.Equal(t, 1, shop.of(fmt.Sprint("later-", i)))
	}
	g.HTTP.CloseIdleConnections() // they are of the gateway before
	again := g.Issue(t, first)
	assert.Equal(t, "1", again.Header.Get("X-Cvs-Reused"), "an order of during the traffic has its barcode still: %s", again.Body)
}

func TestBackupUnderTraffic(t *testing.T) { testBackupUnderTraffic(t, gatewaytest.Setup{}) }

func TestBackupOfADatabaseUnderTraffic(t *testing.T) {
	for _, kind := range dbtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			before := backupsLeft(t)
			testBackupUnderTraffic(t, inDatabase(kind, newDatabase(t, dbtest.Shared(t, kind)).DSN))
			assert.Equal(t, before, backupsLeft(t))
		})
	}
}

// backupsLeft returns the temporary files of backups.
func backupsLeft(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "cvs-backup-*"))
	require.NoError(t, err)
	return found
}

// looking is the writer of a backup that looks whether a directory is empty.
type looking struct {
	t         *testing.T
	directory string
	n         int
}

func (l *looking) Write(p []byte) (int, error) {
	l.n += len(p)
	entries, err := os.ReadDir(l.directory)
	assert.NoError(l.t, err)
	assert.Empty(l.t, entries)
	return len(p), nil
}

// A gateway that is killed cannot remove the file through which the rows of a database are copied.
func TestBackupOfADatabaseHasNoNameMeanwhile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("which keeps the name of an open file")
	}
	directory := t.TempDir()
	t.Setenv("TMPDIR", directory)
	path := filepath.Join(t.TempDir(), "ledger.db")
	fillFile(t, path, "order-1")
	from, err := boltstore.Open(path, boltstore.Options{})
	require.NoError(t, err)
	out := &looking{t: t, directory: directory}
	require.NoError(t, copyThroughFile(t.Context(), from, out))
	assert.NotZero(t, out.n)
	require.NoError(t, from.Close())
}

// A client that does not read may not keep a backup open, for which the file grows.
func TestBackupEndsIfTheClientStalls(t *testing.T) {
	saved := backupStall
	backupStall = 50 * time.Millisecond
	t.Cleanup(func() { backupStall = saved })
	admin := gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	store, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err)
	require.NoError(t, store.Put(t.Context(), &ledger.Row{ // larger than what sockets keep
		Format: ledger.Format, Order: "order-1", Version: 1, Due: 1 << 60, Attempts: []ledger.Attempt{{ID: "a", State: ledger.Issued, PG: strings.Repeat("x", 32<<20)}},
	}, 0, false))
	require.NoError(t, store.Close())
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, "admin off", "admin "+admin, 1)))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/cvs/backup", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	g.WaitForLine(t, "a backup of the ledger was broken off")
	_, err = io.Copy(io.Discard, response.Body)
	assert.Error(t, err, "it does not look whole")
}
