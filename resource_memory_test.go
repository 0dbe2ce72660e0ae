package caddycvs

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
)

// resources is what a process holds.
type resources struct {
	goroutines int
	files      int // -1 where the system does not tell
	heap       int64
}

// held collects garbage and counts. Two collections, because a sync.Pool gives
// up what it holds at the second one after its last use.
func held() resources {
	runtime.GC()
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return resources{runtime.NumGoroutine(), openFiles(), int64(mem.HeapAlloc)}
}

func openFiles() int {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(files)
}

// The tolerances. Goroutines and files return exactly: a gateway that nobody
// talks to has only those that its configuration needs, and the tests wait for
// the rest. The heap does not: maps of Caddy and of the runtime keep the size
// that they once had, and pools hold a buffer here and there. A configuration
// that is not let go has more than heapTolerance in ten reloads; how many
// are still reachable is counted besides.
const heapTolerance = 2 << 20

func (r resources) within(base resources) bool {
	return r.goroutines <= base.goroutines && r.files <= base.files && r.heap <= base.heap+heapTolerance
}

// eventually polls in the test's own goroutine: assert.Eventually adds some, and
// goroutines are what is counted.
func eventually(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// drained is time enough for an old configuration to end. Its server waits for a
// connection without a request until that is more than five seconds old, and a client
// opens one that it then does not need, now and then. The runtime may keep a timer that
// was stopped, with all that it would use, until its time comes: fifteen seconds for a
// call.
const drained = 30 * time.Second

// settled waits until the peers have no connection and the counts stand still,
// which is where a run begins.
func settled(t *testing.T, peers ...*peer) resources {
	t.Helper()
	last, same := held(), 0
	require.True(t, eventually(30*time.Second, func() bool {
		now := held()
		idle := !slices.ContainsFunc(peers, func(p *peer) bool { return p.open.Load() != 0 })
		if same++; !idle || now.goroutines != last.goroutines || now.files != last.files {
			same = 0
		}
		last = now
		return same >= 5
	}), "the process does not come to rest")
	return last
}

// returned waits until the process holds no more than it did, or tells what it
// holds.
func returned(t *testing.T, base resources, limit time.Duration) resources {
	t.Helper()
	var now resources
	if !eventually(limit, func() bool { now = held(); return now.within(base) }) {
		assert.LessOrEqual(t, now.goroutines, base.goroutines, "goroutines")
		assert.LessOrEqual(t, now.files, base.files, "open files")
		assert.LessOrEqual(t, now.heap, base.heap+heapTolerance, "heap")
		var profile bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&profile, 1)
		t.Log(profile.String())
	}
	return now
}

func mebibytes(n int64) string { return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)) }

func TestOutstandingBarcodesCostNoMemory(t *testing.T) {
	barcodes := 20_000
	if *long {
		barcodes = 1_000_000
	}
	// Whatever the number, the whole may grow by this much. The least that could
	// be kept of a barcode, an entry of a map, takes 50 bytes and more.
	const tolerance = 256 << 10

	g, config := Prepare(t, Setup{
		API: http.NotFoundHandler(), Account: "timeout 100ms\ntransport test_forgetful",
		Confirm: RouteCheck,
	})
	served := LoadSites(t, LogErrorsOnly(config, g.LogFile))
	var failed atomic.Int64
	sign := func(first, n int, keep func(i int, confirmURL string)) {
		var working sync.WaitGroup
		const workers = 4
		for worker := range workers {
			working.Go(func() {
				for i := first + worker; i < first+n; i += workers {
					w := served.Post(g.Inside+"/cvs", IssueBody("order-"+strconv.Itoa(i)))
					confirmURL := gjson.Get(w.Body.String(), "response.confirm_url").String()
					if w.Code != http.StatusOK || !strings.Contains(confirmURL, "cvs_sig") {
						failed.Add(1)
					} else if keep != nil {
						keep(i, confirmURL)
					}
				}
			})
		}
		working.Wait()
	}
	sign(0, barcodes/10, nil) // warm
	require.Zero(t, failed.Load())

	// A few are kept, by the test, to see that they all were good.
	picked := map[int]string{barcodes / 10: "", barcodes/10 + barcodes - 1: ""}
	for r := draw(1); len(picked) < 20; {
		picked[barcodes/10+r.IntN(barcodes)] = ""
	}
	var mu sync.Mutex
	before, began := held(), time.Now()
	sign(barcodes/10, barcodes, func(i int, confirmURL string) {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := picked[i]; ok {
			picked[i] = strings.Clone(confirmURL)
		}
	})
	took := time.Since(began)
	var after resources
	// For some seconds, and until the next call, it is remembered who was answered what: see
	// client's orders.
	last := time.Now()
	eventually(15*time.Second, func() bool {
		if time.Since(last) > 6*time.Second {
			sign(0, 1, nil)
			last = time.Now()
		}
		after = held()
		return after.heap <= before.heap+tolerance
	})
	growth := after.heap - before.heap

	good := 0
	for i, confirmURL := range picked {
		one := Issued{ImpUID: "imp_order-" + strconv.Itoa(i), MerchantUID: "order-" + strconv.Itoa(i), Barcode: "1", ConfirmURL: confirmURL}
		if served.Post(confirmURL, one.Webhook()).Code == http.StatusOK {
			good++
		}
	}
	runtime.KeepAlive(served)

	tb := &table{title: "outstanding barcodes"}
	tb.row("barcodes signed", barcodes)
	tb.row("seconds", fmt.Sprintf("%.1f", took.Seconds()))
	tb.row("heap before, after", mebibytes(before.heap)+", "+mebibytes(after.heap))
	tb.row("bytes a barcode", fmt.Sprintf("%.3f", float64(growth)/float64(barcodes)))
	tb.row("goroutines before, after", fmt.Sprintf("%d, %d", before.goroutines, after.goroutines))
	tb.row("drawn at random, and payable", fmt.Sprintf("%d of %d", good, len(picked)))
	tb.print(t)
	assert.Zero(t, failed.Load())
	assert.LessOrEqual(t, growth, int64(tolerance), "heap")
	assert.LessOrEqual(t, after.goroutines, before.goroutines)
	assert.Equal(t, len(picked), good, "outstanding barcodes can be paid")
}

func TestIdleAccountsCostNoTraffic(t *testing.T) {
	accounts := 500
	if *long {
		accounts = 10_000
	}
	// What an account may keep in memory: its part of the configuration, which
	// Caddy keeps as JSON and as values, its client, keys and state.
	const perAccount = 16 << 10

	var blocks strings.Builder
	for i := range accounts {
		t.Setenv("CVS_TEST_IDLE_"+strconv.Itoa(i), "canary-idle-"+strconv.Itoa(i)+strconv.Itoa(rand.Int()))
		fmt.Fprintf(&blocks, "account idle-%d {\nimp_key {env.CVS_TEST_IDLE_%[1]d}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API\n}\n", i)
	}
	run := newResourceRun(t, Setup{Account: "#ACCOUNTS", Sites: "#SITES"})
	many := strings.Replace(run.config, "#ACCOUNTS", strings.ReplaceAll(blocks.String(), "API", run.api.URL), 1)
	blocks.Reset()
	last := "http://" + Address(t)
	many = strings.Replace(many, "#SITES", last+" {\ncvs_proxy {\naccount idle-"+strconv.Itoa(accounts-1)+"\n}\n}\n", 1)

	t.Cleanup(func() { _ = caddy.Stop() })
	require.NoError(t, Reload(t, many)) // warm
	require.NoError(t, Reload(t, run.config))
	before := settled(t)
	began := time.Now()
	require.NoError(t, Reload(t, many))
	loading := time.Since(began)
	loaded := settled(t)
	app, err := caddy.ActiveContext().App("cvs")
	require.NoError(t, err)
	loadedAccounts := len(app.(*App).Accounts)
	began = time.Now()
	require.NoError(t, Reload(t, many))
	reloading := time.Since(began)
	idle, connections := run.stub.Requests(), run.api.open.Load()

	status, body, err := run.ask(context.Background(), last+"/cvs", IssueBody("order-1"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status, "%s", body)
	run.HTTP.CloseIdleConnections()
	used := run.stub.Requests()
	require.NoError(t, Reload(t, run.config))
	after := returned(t, before, 10*time.Second)

	tb := &table{title: "idle accounts"}
	tb.row("accounts", accounts)
	tb.row("seconds to load, from the Caddyfile", fmt.Sprintf("%.2f", loading.Seconds()))
	tb.row("seconds to reload", fmt.Sprintf("%.2f", reloading.Seconds()))
	tb.row("requests to the API", idle)
	tb.row("connections to the API", connections)
	tb.row("requests after one use of one account", used)
	tb.row("goroutines: one account, all", fmt.Sprintf("%d, %d", before.goroutines, loaded.goroutines))
	tb.row("open files: one account, all", fmt.Sprintf("%d, %d", before.files, loaded.files))
	tb.row("heap: one account, all, one again", mebibytes(before.heap)+", "+mebibytes(loaded.heap)+", "+mebibytes(after.heap))
	tb.row("bytes an account", (loaded.heap-before.heap)/int64(accounts))
	tb.print(t)
	assert.Equal(t, accounts, loadedAccounts)
	assert.Zero(t, idle, "requests")
	assert.Zero(t, connections)
	assert.EqualValues(t, 2, used, "a token and a barcode, of the one account in use")
	// One more site needs goroutines and a socket of its own, however many accounts.
	const site = 5
	assert.LessOrEqual(t, loaded.goroutines, before.goroutines+site)
	assert.LessOrEqual(t, loaded.files, before.files+site)
	assert.LessOrEqual(t, (loaded.heap-before.heap)/int64(accounts), int64(perAccount))

	require.NoError(t, Reload(t, many))
	used = run.stub.Requests()
	status, body, err = run.ask(context.Background(), last+"/cvs", IssueBody("order-2"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status, "%s", body)
	assert.Equal(t, used+2, run.stub.Requests(), "accounts that are gone are forgotten: a token and a barcode again")
}
