package caddycvs

// This file holds the resource run: what the gateway holds of goroutines, open
// files and memory, and what it sends unasked. The long forms:
//
//	go test -run '^Test(ResourceRun|OutstandingBarcodesCostNoMemory|IdleAccountsCostNoTraffic)$' -v -timeout 60m . -long -seed 2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// forgetfulAPI answers as PortOne's API does and keeps nothing but counters, so
// that what grows is the gateway's. The emulator would keep 10,000 payments. An
// order's number may ask for one of the fates.
type forgetfulAPI struct {
	token, issue, other atomic.Int64
	shortLived          atomic.Bool // tokens of the first account, renewed every second
}

func (a *forgetfulAPI) requests() int64 { return a.token.Load() + a.issue.Load() + a.other.Load() }

// The fates of an order, as parts of its number.
const (
	fateBroken   = "-broken"   // the API does the work, then the connection breaks
	fateGone     = "-gone"     // the app hangs up while the API is at work
	fateRefused  = "-refused"  // one order check says no while the other is being asked
	fateSlow     = "-slow"     // the shop answers too late
	fateAbsent   = "-absent"   // the shop breaks the connection
	fateOversize = "-oversize" // the shop's answer is too large
)

const forgetfulToken = "canary-token-of-the-resource-run"

func (a *forgetfulAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	now := time.Now().Unix()
	switch r.URL.Path {
	case "/users/getToken":
		a.token.Add(1)
		life := int64(1800)
		// A second account's token stays short-lived: should its renewal outlive
		// the account, the API will see it.
		if a.shortLived.Load() || bytes.Contains(body, []byte("second")) {
			life = 10
		}
		fmt.Fprintf(w, `{"code":0,"message":null,"response":{"access_token":%q,"now":%d,"expired_at":%d}}`, forgetfulToken, now, now+life)
	case "/cvs":
		a.issue.Add(1)
		asked := gjson.GetManyBytes(body, "merchant_uid", "confirm_url")
		if strings.Contains(asked[0].Str, fateBroken) {
			panic(http.ErrAbortHandler)
		}
		if strings.Contains(asked[0].Str, fateGone) {
			time.Sleep(10 * time.Millisecond)
		}
		writePayment(w, asked[0].Str, asked[1].Str, now)
	default:
		a.other.Add(1)
		writePayment(w, path.Base(r.URL.Path), "", now)
	}
}

// writePayment answers with a payment made of the order's number alone, and with
// the URL that its webhook would go to.
func writePayment(w http.ResponseWriter, merchantUID, confirmURL string, now int64) {
	w.Header().Set("Content-Type", jsonType)
	fmt.Fprintf(w, `{"code":0,"message":null,"response":{"imp_uid":"imp_%s","merchant_uid":%[1]q,"status":"ready","amount":15000,"started_at":%d,"vbank_num":"12345678901234567890","confirm_url":%q,"buyer_name":%q,"buyer_tel":%q,"buyer_email":%q}}`,
		merchantUID, now, confirmURL, buyerName, buyerTel, buyerEmail)
}

// forgetfulShop is an order check that keeps nothing.
func forgetfulShop(w http.ResponseWriter, r *http.Request) {
	switch order := r.Header.Get("X-Cvs-Merchant-Uid"); {
	case strings.Contains(order, fateRefused) && r.URL.Path != "/second":
		w.WriteHeader(http.StatusConflict)
	case strings.Contains(order, fateRefused) || strings.Contains(order, fateSlow):
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not notice the end
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	case strings.Contains(order, fateAbsent):
		panic(http.ErrAbortHandler)
	case strings.Contains(order, fateOversize):
		_, _ = w.Write(bytes.Repeat([]byte(" "), maxCheckAnswer+100))
	default:
		fmt.Fprint(w, `{"payable":true,"total":15000}`)
	}
}

// peer is a server that knows how many connections it has.
type peer struct {
	*httptest.Server
	open atomic.Int64
}

func newPeer(t testing.TB, handler http.Handler) *peer {
	t.Helper()
	p := new(peer)
	p.Server = httptest.NewUnstartedServer(handler)
	p.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			p.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			p.open.Add(-1)
		}
	}
	p.Start()
	t.Cleanup(p.Close)
	return p
}

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

// resourceRun is what its parts share.
type resourceRun struct {
	*gateway
	config    string
	stub      *forgetfulAPI
	api, till *peer

	issues, confirms, faulty, lost, late atomic.Int64
	reloads, refused                     int
	most                                 resources
	apps                                 []weak.Pointer[App]

	mu         sync.Mutex
	unexpected []string
}

// newResourceRun prepares a gateway with an API and a shop that keep nothing.
func newResourceRun(t *testing.T, s setup) *resourceRun {
	t.Helper()
	written.Lock()
	written.tokens[forgetfulToken] = true
	written.Unlock()
	stub := new(forgetfulAPI)
	run := &resourceRun{stub: stub, api: newPeer(t, stub), till: newPeer(t, http.HandlerFunc(forgetfulShop))}
	s.api, s.apiURL = http.NotFoundHandler(), run.api.URL
	if s.confirm == "" {
		s.confirm = strings.Replace(usualConfirm, "SHOP", run.till.URL, 1)
	}
	run.gateway, run.config = prepare(t, s)
	if *long {
		run.config = quieten(run.config, run.logFile) // the lines of the long run would fill the disk
	}
	return run
}

// quieten makes a configuration log errors only.
func quieten(config, logFile string) string {
	config = strings.Replace(config, "level DEBUG", "", 1)
	return strings.ReplaceAll(config, "output file "+logFile, "output file "+logFile+"\nlevel ERROR")
}

// ask is send for a client that may lose its connection.
func (run *resourceRun) ask(ctx context.Context, target, body string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", jsonType)
	resp, err := run.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// expect notes an answer that is not the due one. A connection that waits in
// the queue of a listener that is being replaced is closed by Caddy, which is
// neither.
func (run *resourceRun) expect(what string, want, status int, body []byte, err error) bool {
	if err != nil {
		run.lost.Add(1)
		return false
	}
	if strings.HasPrefix(what, "confirm") && status == http.StatusGatewayTimeout && want != status {
		run.late.Add(1) // a busy machine's, not this run's subject
		return false
	}
	if status != want {
		run.mu.Lock()
		defer run.mu.Unlock()
		if len(run.unexpected) < 10 {
			run.unexpected = append(run.unexpected, fmt.Sprintf("%s: %d %s", what, status, body))
		}
	}
	return status == want && status == http.StatusOK
}

func issueBody(merchantUID string) string {
	return fmt.Sprintf(`{"merchant_uid":%q,"amount":15000,"buyer_name":%q,"buyer_tel":%q,"buyer_email":%q}`, merchantUID, buyerName, buyerTel, buyerEmail)
}

// order is one order's life: a barcode is issued, and its webhook comes.
func (run *resourceRun) order(merchantUID string) {
	ctx := context.Background()
	run.issues.Add(1)
	if strings.Contains(merchantUID, fateGone) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		_, _, _ = run.ask(ctx, run.inside+"/cvs", issueBody(merchantUID))
		return
	}
	status, body, err := run.ask(ctx, run.inside+"/cvs", issueBody(merchantUID))
	if !run.expect("issue "+merchantUID, http.StatusOK, status, body, err) || strings.Contains(merchantUID, fateBroken) {
		return // what was looked up tells no URL
	}
	known := gjson.GetManyBytes(body, "response.imp_uid", "response.confirm_url", "response.vbank_num")
	i := issued{impUID: known[0].Str, merchantUID: merchantUID, barcode: known[2].Str, confirmURL: known[1].Str}
	want := http.StatusOK
	switch {
	case strings.Contains(merchantUID, fateRefused):
		want = http.StatusConflict
	case strings.Contains(merchantUID, fateSlow):
		want = http.StatusGatewayTimeout
	case strings.Contains(merchantUID, fateAbsent), strings.Contains(merchantUID, fateOversize):
		want = http.StatusBadGateway
	}
	run.confirms.Add(1)
	status, body, err = run.ask(ctx, i.confirmURL, i.webhook())
	run.expect("confirm "+merchantUID, want, status, body, err)
}

// work sends orders until stop is closed. Some have a fate, for what leaks is
// often what failed.
func (run *resourceRun) work(worker uint64, stop <-chan struct{}) {
	fates := []string{fateBroken, fateGone, fateRefused, fateSlow, fateAbsent, fateOversize}
	for r, n := draw(worker), 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		merchantUID := fmt.Sprintf("order-%d-%d", worker, n)
		if k := r.IntN(50 * len(fates)); k < len(fates) {
			merchantUID += fates[k]
			run.faulty.Add(1)
		}
		run.order(merchantUID)
	}
}

// variant is the configuration of one reload: another life of barcodes, and in
// turns another log file, a second account with its own transport, and a site
// that uses it.
func (run *resourceRun) variant(n int, extra string) string {
	config := strings.Replace(run.config, "expires_in 72h", fmt.Sprintf("expires_in %dh", n%70+1), 1)
	if n%2 == 1 {
		config = strings.ReplaceAll(config, run.logFile, run.logFile+".2")
	}
	if n%3 > 0 {
		config = strings.Replace(config, "\tcvs {", "\tcvs {\naccount second {\nimp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi "+run.api.URL+"\ntransport http {\nkeepalive 1s\n}\n}", 1)
	}
	if n%3 == 2 {
		config += extra + " {\ncvs_proxy {\naccount second\n}\n}\n"
	}
	return config
}

// reloadAll reloads every time until enough was done.
func (run *resourceRun) reloadAll(t *testing.T, every time.Duration, enough func() bool) {
	t.Helper()
	extra := "http://" + address(t)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for first := run.reloads; !enough(); run.reloads++ {
		<-ticker.C
		n := run.reloads - first
		require.NoError(t, reload(t, run.variant(n, extra)))
		run.note(t)
		switch n % 3 {
		case 2:
			run.issues.Add(1)
			status, body, err := run.ask(context.Background(), extra+"/cvs", issueBody(fmt.Sprintf("second-%d", n)))
			run.expect("second", http.StatusOK, status, body, err)
		case 1: // a configuration that fails after it took what it needs
			broken := strings.Replace(run.variant(n+1, extra), "{env.CVS_TEST_SECOND_KEY}", "{env.CVS_TEST_UNSET}", 1)
			require.Error(t, reload(t, broken))
			run.refused++
		}
	}
}

// note remembers the configuration in force, and what the process holds.
func (run *resourceRun) note(t *testing.T) {
	t.Helper()
	app, err := caddy.ActiveContext().App("cvs")
	require.NoError(t, err)
	run.apps = append(run.apps, weak.Make(app.(*App)))
	run.most.goroutines = max(run.most.goroutines, runtime.NumGoroutine())
	run.most.files = max(run.most.files, openFiles())
}

// reachable counts the configurations that something still holds.
func (run *resourceRun) reachable() (n int) {
	for _, app := range run.apps {
		if app.Value() != nil {
			n++
		}
	}
	return n
}

// load works from several goroutines while the configuration is reloaded.
func (run *resourceRun) load(t *testing.T, every time.Duration, enough func() bool) {
	t.Helper()
	const workers = 6
	stop := make(chan struct{})
	var working sync.WaitGroup
	for worker := range uint64(workers) {
		working.Go(func() { run.work(worker, stop) })
	}
	defer working.Wait()
	defer close(stop)
	run.reloadAll(t, every, enough)
}

// rest loads the first configuration, uses it once, and hangs up.
func (run *resourceRun) rest(t *testing.T) {
	t.Helper()
	run.stub.shortLived.Store(false)
	require.NoError(t, reload(t, run.config))
	run.note(t)
	run.http.CloseIdleConnections() // or the order might go to the configuration that ends
	run.order("order-at-rest")
	run.http.CloseIdleConnections()
}

// hangUp ends the connections to the peers at once, where a run only begins.
func (run *resourceRun) hangUp() {
	run.api.CloseClientConnections()
	run.till.CloseClientConnections()
}

func TestResourceRun(t *testing.T) {
	// The connections of a request that outlives its configuration stay until
	// their idle timer runs out: two minutes by default, as in the long form.
	every, reloads, operations, timers := 120*time.Millisecond, 12, int64(600), 20*time.Second
	keepAlive := "transport http {\nkeepalive 500ms\n}"
	if *long {
		every, reloads, operations, timers = time.Second, 120, 360_000, 3*time.Minute // an hour's worth, at 100 a second
		keepAlive = ""
	}
	run := newResourceRun(t, setup{account: keepAlive, confirm: `
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable {
			timeout 300ms
			require payable true
			amount total
		}
		order_check SHOP/second {
			timeout 300ms
		}`})
	run.config = strings.ReplaceAll(run.config, run.shop.URL, run.till.URL)
	running := false
	t.Cleanup(func() {
		if running {
			_ = caddy.Stop()
		}
	})
	halt := func() {
		run.http.CloseIdleConnections()
		require.NoError(t, caddy.Stop())
		running = false
	}

	// A whole life first, so that what is made once per process is there.
	running = true
	run.apps = make([]weak.Pointer[App], 0, 10_000)
	require.NoError(t, reload(t, run.config))
	warmed := 0
	run.load(t, every, func() bool { warmed++; return warmed > 4 })
	halt()
	run.hangUp()
	stopped, known := settled(t, run.api, run.till), goleak.IgnoreCurrent()
	running = true
	run.rest(t)
	run.hangUp()
	before := settled(t, run.api, run.till)

	run.issues.Store(0)
	run.confirms.Store(0)
	run.faulty.Store(0)
	run.lost.Store(0)
	run.late.Store(0)
	run.reloads, run.refused, run.most, run.apps = 0, 0, before, run.apps[:0]
	run.stub.shortLived.Store(true)
	began := time.Now()
	run.load(t, every, func() bool {
		return run.reloads >= reloads && run.issues.Load()+run.confirms.Load() >= operations
	})
	took := time.Since(began)
	tokens := run.stub.token.Load()
	run.rest(t)
	lingering := run.api.open.Load()
	after := returned(t, before, timers)
	reachable := 0
	eventually(drained, func() bool { held(); reachable = run.reachable(); return reachable <= 1 })
	quiet := run.stub.requests()
	refs, _ := states.References(stateKeyOf(run.api.URL))
	pooled := statesOf(run.api.URL)
	halt()
	end := returned(t, stopped, 5*time.Second)
	leaked := goleak.Find(known)

	tb := &table{title: "resource run"}
	done := run.issues.Load() + run.confirms.Load()
	tb.row("operations", done)
	tb.row("… issues", run.issues.Load())
	tb.row("… confirm webhooks", run.confirms.Load())
	tb.row("… with a fault", run.faulty.Load())
	tb.row("… lost in a listener's queue at a reload", run.lost.Load())
	tb.row("… answered by 504, the machine being busy", run.late.Load())
	tb.row("operations per second", int64(float64(done)/took.Seconds()))
	tb.row("minutes", fmt.Sprintf("%.1f", took.Minutes()))
	tb.row("tokens fetched", tokens)
	tb.row("reloads", run.reloads)
	tb.row("configurations refused", run.refused)
	tb.row("answers of another status than due", len(run.unexpected))
	tb.row("goroutines: before, most, after", fmt.Sprintf("%d, %d, %d", before.goroutines, run.most.goroutines, after.goroutines))
	tb.row("open files: before, most, after", fmt.Sprintf("%d, %d, %d", before.files, run.most.files, after.files))
	tb.row("connections to the API, with idle timers still running", lingering)
	tb.row("heap: before, after", mebibytes(before.heap)+", "+mebibytes(after.heap))
	tb.row("configurations still reachable", fmt.Sprintf("%d of %d", reachable, len(run.apps)))
	tb.row("stopped: goroutines before, after", fmt.Sprintf("%d, %d", stopped.goroutines, end.goroutines))
	tb.row("stopped: open files before, after", fmt.Sprintf("%d, %d", stopped.files, end.files))
	tb.row("stopped: heap before, after", mebibytes(stopped.heap)+", "+mebibytes(end.heap))
	tb.print(t)

	assert.Empty(t, run.unexpected)
	assert.Less(t, run.lost.Load()+run.late.Load(), done/2, "most operations did something")
	assert.LessOrEqual(t, reachable, 1, "configurations that something holds: the one in force")
	assert.Equal(t, 1, refs, "every configuration that ended, or never began, released what it held")
	assert.Equal(t, 1, pooled, "the second account is forgotten")
	assert.Equal(t, 0, statesOf(run.api.URL), "and the first, when Caddy has stopped")
	assert.NoError(t, leaked, "goroutines of a Caddy that has stopped")
	// A renewal that outlived its account would come once a second.
	assert.False(t, eventually(1200*time.Millisecond, func() bool { return run.stub.requests() > quiet }), "nobody is left to ask for anything")
}

// statesOf counts the accounts of an API in the pool.
func statesOf(api string) (n int) {
	states.Range(func(key, _ any) bool {
		if key.(stateKey).api == api {
			n++
		}
		return true
	})
	return n
}

func TestAReloadClosesIdleConnections(t *testing.T) {
	for name, account := range map[string]string{
		"Caddy's transport":      "",
		"a configured transport": "transport http {\nkeepalive 1h\n}",
	} {
		t.Run(name, func(t *testing.T) {
			run := newResourceRun(t, setup{account: account})
			require.NoError(t, reload(t, run.config))
			t.Cleanup(func() { _ = caddy.Stop() })
			run.order("order-1")
			require.Empty(t, run.unexpected)
			require.EqualValues(t, 1, run.api.open.Load(), "the connection waits for the next call")
			require.NoError(t, reload(t, strings.Replace(run.config, "expires_in 72h", "expires_in 1h", 1)))
			assert.True(t, eventually(5*time.Second, func() bool { return run.api.open.Load() == 0 }))
		})
	}
}

// An account that nobody uses after a reload must not hold the configuration
// that it was last used in: accounts may be many, and idle for long.
func TestAnIdleAccountHoldsNoOldConfiguration(t *testing.T) {
	run := newResourceRun(t, setup{})
	// An idle connection has a timer of two minutes: see drained.
	run.api.Config.SetKeepAlivesEnabled(false)
	run.till.Config.SetKeepAlivesEnabled(false)
	require.NoError(t, reload(t, run.config))
	t.Cleanup(func() { _ = caddy.Stop() })
	run.note(t)
	run.order("order-1")
	require.Empty(t, run.unexpected)
	run.http.CloseIdleConnections()
	require.NoError(t, reload(t, strings.Replace(run.config, "expires_in 72h", "expires_in 1h", 1)))
	run.hangUp()
	assert.True(t, eventually(drained, func() bool { held(); return run.reachable() == 0 }))
}

// forgetfulTransport is forgetfulAPI without a network, for many calls.
type forgetfulTransport struct{}

var theForgetfulAPI forgetfulAPI

func init() { caddy.RegisterModule(forgetfulTransport{}) }

func (forgetfulTransport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.test_forgetful", New: func() caddy.Module { return new(forgetfulTransport) }}
}

func (*forgetfulTransport) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (forgetfulTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	theForgetfulAPI.ServeHTTP(w, r)
	return w.Result(), nil
}

// sites are a gateway's servers, to be called without a network.
type sites map[string]http.Handler

// sitesOf provisions a configuration. The file of a log is the only thing that
// it opens.
func sitesOf(t testing.TB, config string) sites {
	t.Helper()
	ctx, err := caddy.ProvisionContext(adapt(t, config))
	require.NoError(t, err)
	app, err := ctx.App("http")
	require.NoError(t, err)
	byPort := make(sites)
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, listen := range server.Listen {
			byPort[listen[strings.LastIndex(listen, ":"):]] = server
		}
	}
	return byPort
}

func (s sites) post(target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", jsonType)
	r.RemoteAddr = "127.0.0.1:1024"
	w := httptest.NewRecorder()
	s[":"+r.URL.Port()].ServeHTTP(w, r)
	return w
}

func TestOutstandingBarcodesCostNoMemory(t *testing.T) {
	barcodes := 20_000
	if *long {
		barcodes = 1_000_000
	}
	// Whatever the number, the whole may grow by this much. The least that could
	// be kept of a barcode, an entry of a map, takes 50 bytes and more.
	const tolerance = 256 << 10

	g, config := prepare(t, setup{
		api: http.NotFoundHandler(), account: "timeout 100ms\ntransport test_forgetful",
		confirm: routeCheck,
	})
	served := sitesOf(t, quieten(config, g.logFile))
	var failed atomic.Int64
	sign := func(first, n int, keep func(i int, confirmURL string)) {
		var working sync.WaitGroup
		const workers = 4
		for worker := range workers {
			working.Go(func() {
				for i := first + worker; i < first+n; i += workers {
					w := served.post(g.inside+"/cvs", issueBody("order-"+strconv.Itoa(i)))
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
		one := issued{impUID: "imp_order-" + strconv.Itoa(i), merchantUID: "order-" + strconv.Itoa(i), barcode: "1", confirmURL: confirmURL}
		if served.post(confirmURL, one.webhook()).Code == http.StatusOK {
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
	run := newResourceRun(t, setup{account: "#ACCOUNTS", sites: "#SITES"})
	many := strings.Replace(run.config, "#ACCOUNTS", strings.ReplaceAll(blocks.String(), "API", run.api.URL), 1)
	blocks.Reset()
	last := "http://" + address(t)
	many = strings.Replace(many, "#SITES", last+" {\ncvs_proxy {\naccount idle-"+strconv.Itoa(accounts-1)+"\n}\n}\n", 1)

	t.Cleanup(func() { _ = caddy.Stop() })
	require.NoError(t, reload(t, many)) // warm
	require.NoError(t, reload(t, run.config))
	before := settled(t)
	began := time.Now()
	require.NoError(t, reload(t, many))
	loading := time.Since(began)
	loaded := settled(t)
	pooled := statesOf(run.api.URL)
	began = time.Now()
	require.NoError(t, reload(t, many))
	reloading := time.Since(began)
	idle, connections := run.stub.requests(), run.api.open.Load()

	status, body, err := run.ask(context.Background(), last+"/cvs", issueBody("order-1"))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status, "%s", body)
	run.http.CloseIdleConnections()
	used := run.stub.requests()
	require.NoError(t, reload(t, run.config))
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
	assert.Equal(t, accounts+1, pooled)
	assert.Zero(t, idle, "requests")
	assert.Zero(t, connections)
	assert.EqualValues(t, 2, used, "a token and a barcode, of the one account in use")
	// One more site needs goroutines and a socket of its own, however many accounts.
	const site = 5
	assert.LessOrEqual(t, loaded.goroutines, before.goroutines+site)
	assert.LessOrEqual(t, loaded.files, before.files+site)
	assert.LessOrEqual(t, (loaded.heap-before.heap)/int64(accounts), int64(perAccount))
	assert.Equal(t, 1, statesOf(run.api.URL), "accounts that are gone are forgotten")
}

// Interface guards
var (
	_ http.RoundTripper     = forgetfulTransport{}
	_ caddyfile.Unmarshaler = (*forgetfulTransport)(nil)
)
