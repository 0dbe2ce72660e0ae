package acceptance

// This file holds the resource run: it asserts that goroutines, open files and memory return
// to where they began, and that the gateway sends nothing without a request. The long forms:
//
//	go test -run '^Test(ResourceRun|OutstandingBarcodesUseNoMemory|IdleAccountsSendNoRequests)$' -v -timeout 60m ./internal/acceptance -long -seed 2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
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

	caddycvs "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// What goes wrong with an order at the shop, as parts of the order's number. See
// gatewaytest.FateBroken for the API.
const (
	fateRefused  = "-refused"  // one order check says no while the other is being asked
	fateSlow     = "-slow"     // the shop answers too late
	fateAbsent   = "-absent"   // the shop breaks the connection
	fateOversize = "-oversize" // the shop's answer is too large
)

// forgetfulShop is an order check that keeps nothing in memory.
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
		_, _ = w.Write(bytes.Repeat([]byte(" "), 64_100))
	default:
		fmt.Fprint(w, `{"payable":true,"total":15000}`)
	}
}

// peer is a server that counts its open connections.
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

// resourceRun is the state of the run.
type resourceRun struct {
	*gatewaytest.Gateway
	config    string
	stub      *gatewaytest.ForgetfulAPI
	api, till *peer

	issues, confirms, faulty, lost, late atomic.Int64
	reloads, refused                     int
	most                                 resources
	apps                                 []weak.Pointer[caddycvs.App]

	mu         sync.Mutex
	unexpected []string
}

// newResourceRun prepares a gateway with an API and a shop that keep nothing.
func newResourceRun(t *testing.T, s gatewaytest.Setup) *resourceRun {
	t.Helper()
	gatewaytest.AddSecret(gatewaytest.ForgetfulToken)
	stub := new(gatewaytest.ForgetfulAPI)
	run := &resourceRun{stub: stub, api: newPeer(t, stub), till: newPeer(t, http.HandlerFunc(forgetfulShop))}
	s.API, s.APIURL = http.NotFoundHandler(), run.api.URL
	if s.Confirm == "" {
		s.Confirm = strings.Replace(gatewaytest.UsualConfirm, "SHOP", run.till.URL, 1)
	}
	run.Gateway, run.config = gatewaytest.Prepare(t, s)
	if *long {
		run.config = gatewaytest.LogErrorsOnly(run.config, run.LogFile) // the lines of the long run would fill the disk
	}
	return run
}

// ask sends a request whose connection may be lost.
func (run *resourceRun) ask(ctx context.Context, target, body string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	resp, err := run.HTTP.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// expect notes an answer with another status than it must have. It does not note a lost
// connection: at a reload Caddy closes those that wait in the queue of the old listener.
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

// order issues a barcode for an order and sends its confirm webhook.
func (run *resourceRun) order(merchantUID string) {
	ctx := context.Background()
	run.issues.Add(1)
	if strings.Contains(merchantUID, gatewaytest.FateGone) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		_, _, _ = run.ask(ctx, run.Inside+"/cvs", gatewaytest.IssueBody(merchantUID))
		return
	}
	status, body, err := run.ask(ctx, run.Inside+"/cvs", gatewaytest.IssueBody(merchantUID))
	if !run.expect("issue "+merchantUID, http.StatusOK, status, body, err) || strings.Contains(merchantUID, gatewaytest.FateBroken) {
		return // what was looked up tells no URL
	}
	known := gjson.GetManyBytes(body, "response.imp_uid", "response.confirm_url", "response.vbank_num")
	i := gatewaytest.Issued{ImpUID: known[0].Str, MerchantUID: merchantUID, Barcode: known[2].Str, ConfirmURL: known[1].Str}
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
	status, body, err = run.ask(ctx, i.ConfirmURL, i.Webhook())
	run.expect("confirm "+merchantUID, want, status, body, err)
}

// work sends orders until stop is closed. Some of them fail, because leaks often follow
// failures.
func (run *resourceRun) work(worker uint64, stop <-chan struct{}) {
	fates := []string{gatewaytest.FateBroken, gatewaytest.FateGone, fateRefused, fateSlow, fateAbsent, fateOversize}
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

// variant is the configuration of one reload: another expires_in, and alternately another
// log file, a second account with its own transport, and a site that uses it.
func (run *resourceRun) variant(n int, extra string) string {
	config := strings.Replace(run.config, "expires_in 72h", fmt.Sprintf("expires_in %dh", n%70+1), 1)
	if n%2 == 1 {
		config = strings.ReplaceAll(config, run.LogFile, run.LogFile+".2")
	}
	if n%3 > 0 {
		config = strings.Replace(config, "\tcvs {", "\tcvs {\naccount second {\nimp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi "+run.api.URL+"\ntransport http {\nkeepalive 1s\n}\n}", 1)
	}
	if n%3 == 2 {
		config += extra + " {\ncvs_proxy {\naccount second\n}\n}\n"
	}
	return config
}

// reloadAll reloads at an interval until enough returns true.
func (run *resourceRun) reloadAll(t *testing.T, every time.Duration, enough func() bool) {
	t.Helper()
	extra := "http://" + gatewaytest.Address(t)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for first := run.reloads; !enough(); run.reloads++ {
		<-ticker.C
		n := run.reloads - first
		require.NoError(t, gatewaytest.Reload(t, run.variant(n, extra)))
		run.note(t)
		switch n % 3 {
		case 2:
			run.issues.Add(1)
			status, body, err := run.ask(context.Background(), extra+"/cvs", gatewaytest.IssueBody(fmt.Sprintf("second-%d", n)))
			run.expect("second", http.StatusOK, status, body, err)
		case 1: // a configuration that fails after it took what it needs
			broken := strings.Replace(run.variant(n+1, extra), "{env.CVS_TEST_SECOND_KEY}", "{env.CVS_TEST_UNSET}", 1)
			require.Error(t, gatewaytest.Reload(t, broken))
			run.refused++
		}
	}
}

// note keeps a weak pointer to the present configuration, and the greatest counts.
func (run *resourceRun) note(t *testing.T) {
	t.Helper()
	app, err := caddy.ActiveContext().App("cvs")
	require.NoError(t, err)
	run.apps = append(run.apps, weak.Make(app.(*caddycvs.App)))
	run.most.goroutines = max(run.most.goroutines, runtime.NumGoroutine())
	run.most.files = max(run.most.files, openFiles())
}

// reachable counts the configurations that are still referenced.
func (run *resourceRun) reachable() (n int) {
	for _, app := range run.apps {
		if app.Value() != nil {
			n++
		}
	}
	return n
}

// load sends orders from several goroutines while the configuration is reloaded.
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

// rest loads the first configuration, uses it once, and closes the client's connections.
func (run *resourceRun) rest(t *testing.T) {
	t.Helper()
	run.stub.ShortLived.Store(false)
	require.NoError(t, gatewaytest.Reload(t, run.config))
	run.note(t)
	run.HTTP.CloseIdleConnections() // or the order might go to the configuration that ends
	run.order("order-at-rest")
	run.HTTP.CloseIdleConnections()
}

// hangUp closes the connections to the peers, before the counts at the start are taken.
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
	run := newResourceRun(t, gatewaytest.Setup{Account: keepAlive, Confirm: `
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable {
			timeout 300ms
			require payable true
			amount total
		}
		order_check SHOP/second {
			timeout 300ms
		}`})
	run.config = strings.ReplaceAll(run.config, run.Shop.URL, run.till.URL)
	running := false
	t.Cleanup(func() {
		if running {
			_ = caddy.Stop()
		}
	})
	halt := func() {
		run.HTTP.CloseIdleConnections()
		require.NoError(t, caddy.Stop())
		running = false
	}

	// Everything is done once first, so that what is created once per process exists.
	running = true
	run.apps = make([]weak.Pointer[caddycvs.App], 0, 10_000)
	require.NoError(t, gatewaytest.Reload(t, run.config))
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
	run.stub.ShortLived.Store(true)
	began := time.Now()
	run.load(t, every, func() bool {
		return run.reloads >= reloads && run.issues.Load()+run.confirms.Load() >= operations
	})
	took := time.Since(began)
	tokens := run.stub.Tokens.Load()
	run.rest(t)
	lingering := run.api.open.Load()
	after := returned(t, before, timers)
	reachable := 0
	eventually(drained, func() bool { held(); reachable = run.reachable(); return reachable <= 1 })
	quiet := run.stub.Requests()
	renewed := eventually(1200*time.Millisecond, func() bool { return run.stub.Requests() > quiet })
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
	assert.False(t, renewed, "the second account is forgotten: nobody renews its token")
	assert.NoError(t, leaked, "goroutines of a Caddy that has stopped")
	// A renewal that went on after its account was gone would come once a second.
	assert.False(t, eventually(1200*time.Millisecond, func() bool { return run.stub.Requests() > quiet }), "nobody is left to ask for anything")

	// The token of the first account is valid for half an hour. If a configuration had not
	// released the account's state, the token would be used again.
	running = true
	tokens = run.stub.Tokens.Load()
	require.NoError(t, gatewaytest.Reload(t, run.config))
	run.order("order-after-restart")
	assert.Empty(t, run.unexpected)
	assert.Equal(t, tokens+1, run.stub.Tokens.Load(), "every configuration that ended, or never began, released what it held")
	halt()
}

func TestReloadClosesIdleConnections(t *testing.T) {
	for name, account := range map[string]string{
		"Caddy's transport":      "",
		"a configured transport": "transport http {\nkeepalive 1h\n}",
	} {
		t.Run(name, func(t *testing.T) {
			run := newResourceRun(t, gatewaytest.Setup{Account: account})
			require.NoError(t, gatewaytest.Reload(t, run.config))
			t.Cleanup(func() { _ = caddy.Stop() })
			run.order("order-1")
			require.Empty(t, run.unexpected)
			require.EqualValues(t, 1, run.api.open.Load(), "the connection waits for the next call")
			require.NoError(t, gatewaytest.Reload(t, strings.Replace(run.config, "expires_in 72h", "expires_in 1h", 1)))
			assert.True(t, eventually(5*time.Second, func() bool { return run.api.open.Load() == 0 }))
		})
	}
}

// An account that is not used after a reload must not keep the configuration of its last use
// in memory: there may be many accounts, and they may be idle for long.
func TestIdleAccountReleasesOldConfiguration(t *testing.T) {
	run := newResourceRun(t, gatewaytest.Setup{})
	// An idle connection has a timer of two minutes: see drained.
	run.api.Config.SetKeepAlivesEnabled(false)
	run.till.Config.SetKeepAlivesEnabled(false)
	require.NoError(t, gatewaytest.Reload(t, run.config))
	t.Cleanup(func() { _ = caddy.Stop() })
	run.note(t)
	run.order("order-1")
	require.Empty(t, run.unexpected)
	run.HTTP.CloseIdleConnections()
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(run.config, "expires_in 72h", "expires_in 1h", 1)))
	run.hangUp()
	assert.True(t, eventually(drained, func() bool { held(); return run.reachable() == 0 }))
}
