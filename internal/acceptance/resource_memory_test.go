package acceptance

// This file holds the measurement of goroutines, open files and memory, and the tests of
// what many barcodes and many accounts use.

import (
	"bytes"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"

	caddycvs "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// resources are the counts of a process.
type resources struct {
	goroutines int
	files      int // -1 where the system does not tell
	heap       int64
}

// held collects garbage and counts. It collects twice, because a sync.Pool is empty only
// after the second collection.
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

// heapTolerance is how much the heap may grow. Goroutines and files must return exactly: a
// gateway without requests has only those that its configuration needs, and the tests wait
// for the others to end. The heap does not return exactly: maps of Caddy and of the runtime
// do not shrink, and pools keep some buffers. Ten configurations that are not released take
// more than heapTolerance; besides, the run counts those that are still reachable.
const heapTolerance = 2 << 20

func (r resources) within(base resources) bool {
	return r.goroutines <= base.goroutines && r.files <= base.files && r.heap <= base.heap+heapTolerance
}

// eventually polls in the test's own goroutine: assert.Eventually would add goroutines, which
// are counted.
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

// drained is enough time for an old configuration to end. Its server waits up to five seconds
// for a new connection to send a request, and a client sometimes opens a connection that it
// does not use. The runtime may keep a stopped timer, and what its function refers to, until
// the timer would have fired: fifteen seconds for a call.
const drained = 30 * time.Second

// settled waits until the peers have no connections and the counts do not change any more.
// They are the counts at the start of a run.
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

// returned waits until the process is back at its counts, or reports what it still has.
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

func TestOutstandingBarcodesUseNoMemory(t *testing.T) {
	barcodes := 20_000
	if *long {
		barcodes = 1_000_000
	}
	// The heap may grow by this much, whatever the number of barcodes. The least that could
	// be kept for a barcode, an entry of a map, takes 50 bytes or more.
	const tolerance = 256 << 10

	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		API: http.NotFoundHandler(), Account: "timeout 100ms\ntransport test_forgetful",
		Ledger: "off", Proxy: gatewaytest.UsualProxy + "\nrepeat pass", // the ledger is on disk: see its own benchmark
		Confirm: gatewaytest.RouteCheck,
	})
	served := gatewaytest.LoadSites(t, gatewaytest.LogErrorsOnly(config, g.LogFile))
	var failed atomic.Int64
	sign := func(first, n int, keep func(i int, confirmURL string)) {
		var working sync.WaitGroup
		const workers = 4
		for worker := range workers {
			working.Go(func() {
				for i := first + worker; i < first+n; i += workers {
					w := served.Post(g.Inside+"/cvs", gatewaytest.IssueBody("order-"+strconv.Itoa(i)))
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

	// The test keeps a few barcodes to see that they can be paid.
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
	// The client remembers the answer for an order for some seconds, and until the next
	// call: see orders in package client.
	last := time.Now()
	eventually(15*time.Second, func() bool {
		if time.Since(last) > 6*time.Second {
			sign(0, 1, nil)
			last = time.Now()
		}
		after = held()
		return after.heap <= before.heap+tolerance && after.goroutines <= before.goroutines // one may be about to end
	})
	growth := after.heap - before.heap

	good := 0
	for i, confirmURL := range picked {
		one := gatewaytest.Issued{ImpUID: "imp_order-" + strconv.Itoa(i), MerchantUID: "order-" + strconv.Itoa(i), Barcode: "1", ConfirmURL: confirmURL}
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

func TestIdleAccountsSendNoRequests(t *testing.T) {
	accounts := 500
	if *long {
		accounts = 10_000
	}
	// The memory that an account may use: its part of the configuration, which Caddy keeps as
	// JSON and as values, its client, its keys and its state.
	const perAccount = 16 << 10

	var blocks strings.Builder
	for i := range accounts {
		t.Setenv("CVS_TEST_IDLE_"+strconv.Itoa(i), "canary-idle-"+strconv.Itoa(i)+strconv.Itoa(rand.Int()))
		fmt.Fprintf(&blocks, "account idle-%d {\nimp_key {env.CVS_TEST_IDLE_%[1]d}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API\n}\n", i)
	}
	run := newResourceRun(t, gatewaytest.Setup{Account: "#ACCOUNTS", Sites: "#SITES"})
	many := strings.Replace(run.config, "#ACCOUNTS", strings.ReplaceAll(blocks.String(), "API", run.api.URL), 1)
	blocks.Reset()
	last := "http://" + gatewaytest.Address(t)
	many = strings.Replace(many, "#SITES", last+" {\ncvs_proxy {\naccount idle-"+strconv.Itoa(accounts-1)+"\n}\n}\n", 1)

	t.Cleanup(func() { _ = caddy.Stop() })
	require.NoError(t, gatewaytest.Reload(t, many)) // warm
	require.NoError(t, gatewaytest.Reload(t, run.config))
	before := settled(t)
	began := time.Now()
	require.NoError(t, gatewaytest.Reload(t, many))
	loading := time.Since(began)
	loaded := settled(t)
	app, err := caddy.ActiveContext().App("cvs")
	require.NoError(t, err)
	loadedAccounts := len(app.(*caddycvs.App).Accounts)
	began = time.Now()
	require.NoError(t, gatewaytest.Reload(t, many))
	reloading := time.Since(began)
	idle, connections := run.stub.Requests(), run.api.open.Load()

	run.HTTP = gatewaytest.Redialing(run.HTTP)
	status, body, err := run.ask(t.Context(), last+"/cvs", gatewaytest.IssueBody("order-1"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status, "%s", body)
	run.HTTP.CloseIdleConnections()
	used := run.stub.Requests()
	require.NoError(t, gatewaytest.Reload(t, run.config))
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

	require.NoError(t, gatewaytest.Reload(t, many))
	used = run.stub.Requests()
	status, body, err = run.ask(t.Context(), last+"/cvs", gatewaytest.IssueBody("order-2"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status, "%s", body)
	assert.Equal(t, used+2, run.stub.Requests(), "accounts that are gone are forgotten: a token and a barcode again")
}
