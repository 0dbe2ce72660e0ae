package acceptance

// This file holds the fault run: many orders at once through a real Caddy that is reloaded
// and shut down again and again, while the API, the network, the tills and the shop fail at
// random. At the end the API's ledger is compared with the answers that the apps got. The
// faults are in the other files named faultrun.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

const (
	runDecision = time.Second            // the timeout of a confirm webhook
	runMargin   = 100 * time.Millisecond // between the gateway's answer and our clock, beside the lag
)

// runTimeout is the timeout of one call to the API. A call for a barcode takes at most two
// timeouts. The default, 10s, would only make the run longer.
func runTimeout() time.Duration {
	if *long {
		return 5 * time.Second
	}
	return 2 * time.Second
}

// faultRun is the state of a run.
type faultRun struct {
	g         *gatewaytest.Gateway
	network   *network
	second    *front    // under HTTP/2
	sites     [2]string // base URLs of cvs_proxy, the API under HTTP/1.1 and HTTP/2
	draw      *sharedRand
	calm      atomic.Bool // nothing fails any more
	storm     atomic.Bool // tokens are refused
	down      atomic.Bool // no token is given
	faults    faultCounts
	faultPlan map[emulator.Endpoint]faultPlan
	apps      *deck[string]
	shops     *deck[string]
	routes    *deck[string]
	shown     *deck[bool]
	storms    *deck[bool]
	lag       machineLag // of the timers
	disk      machineLag
	busy      atomic.Int64 // whole requests at the API
	asking    atomic.Int64 // POST /cvs under way
	process   atomic.Pointer[lifetime]
	reloads   int
	slowest   struct{ shutDown time.Duration }

	mu      sync.Mutex
	saidYes map[string]bool // orders that the shop accepted, in whole answers
	saidNo  map[string]bool // orders that a route was asked about: whether it refused them in time, the first time
	views   []*appView
}

// lifetime is the time between a start of the gateway and its shutdown. At the shutdown of a
// real gateway its process ends, and the connections of its apps break.
type lifetime struct {
	ctx   context.Context
	end   context.CancelFunc
	ended time.Time // to be read when ctx is done
}

func newLifetime() *lifetime {
	ctx, end := context.WithCancel(context.Background())
	return &lifetime{ctx: ctx, end: end}
}

// span is the time that an answer took.
type span struct{ from, to time.Time }

func (s span) took() time.Duration { return s.to.Sub(s.from) }

// appView is what an app knows of its order.
type appView struct {
	order   string
	site    string
	asked   int // times
	status  int // of the last answer; 0: the app left, or its connection broke
	code    int
	message string
	impUID  string
	barcode string
	refused bool      // the last time, nobody listened
	died    time.Time // when the gateway did that had the call; zero if it did not
	began   time.Time // the last time
	ended   time.Time
	slowest time.Duration
	slow    []span // answers that took longer than their limit
}

// buy is one customer's order. The app asks for a barcode, and asks again only if the answer
// says that nothing was done: the gateway must prevent a second barcode.
func (f *faultRun) buy(t *testing.T, order, site string) *appView {
	v := &appView{order: order, site: site}
	ctx, amount := context.Background(), wholeAmount
	switch fate := f.apps.next(); fate {
	case leftEarly:
		f.faults.add(fate)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.draw.between(time.Millisecond, runTimeout()))
		defer cancel()
	case fractionOfAWon:
		f.faults.add(fate)
		amount = fractionalAmount
	}
	for {
		v.ask(ctx, t, f, amount)
		switch {
		case amount == fractionalAmount && v.status == http.StatusBadRequest:
			assert.Contains(t, v.message, "won")
			amount = wholeAmount
			continue
		case v.refused, strings.Contains(v.message, "Nothing was done."), strings.Contains(v.message, "It may be asked for again."):
			if !wait(ctx.Done(), f.draw.between(50*time.Millisecond, 400*time.Millisecond)) {
				continue
			}
			v.status = 0 // the app has left meanwhile
		case amount == fractionalAmount && v.status != 0:
			t.Errorf("order %s: a fraction of a won was answered %d", order, v.status)
		}
		return v
	}
}

// ask sends one POST /cvs.
func (v *appView) ask(ctx context.Context, t *testing.T, f *faultRun, amount string) {
	v.status, v.message, v.refused = 0, "", false
	v.asked++
	served := f.process.Load()
	sent, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(served.ctx, cancel)()
	body := url.Values{"merchant_uid": {v.order}, "amount": {amount}, "buyer_name": {gatewaytest.BuyerName}}.Encode()
	r, err := http.NewRequestWithContext(sent, http.MethodPost, v.site+"/cvs", strings.NewReader(body))
	assert.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.FormType)
	v.began = time.Now()
	f.asking.Add(1)
	resp, err := f.g.HTTP.Do(r)
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	f.asking.Add(-1)
	v.ended = time.Now()
	if err != nil {
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			f.faults.add(shutDownRefused)
			v.refused = true
		case served.ctx.Err() != nil:
			f.faults.add(shutDownBroke)
			v.died = served.ended
		case ctx.Err() == nil:
			f.faults.add(reloadBroke)
		}
		return
	}
	took := span{v.began, v.ended}
	if v.slowest = max(v.slowest, took.took()); took.took() > 2*runTimeout() {
		v.slow = append(v.slow, took)
	}
	var envelope struct {
		Code     int
		Message  string
		Response struct {
			ImpUID  string `json:"imp_uid"`
			Barcode string `json:"vbank_num"`
		}
	}
	assert.NoError(t, json.Unmarshal(answer, &envelope), "%s", answer)
	v.status, v.code, v.message = resp.StatusCode, envelope.Code, envelope.Message
	if v.status == http.StatusOK && v.code == 0 {
		v.impUID, v.barcode = envelope.Response.ImpUID, envelope.Response.Barcode
	}
}

// TestFaultRun fails on a barcode that no app knows of, an order with two barcodes, a success
// without a payment, a late answer, a payment that the shop did not accept, a fraction of a
// won, an interrupted call without a log line, and a request into a dead connection.
func TestFaultRun(t *testing.T) {
	orders, workers := 360, 48
	if *long {
		orders, workers = 20_000, 192
	}
	f, config := newFaultRun(t, orders)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	done, ended := make(chan struct{}), make(chan struct{})
	var around, watching sync.WaitGroup
	watching.Go(func() { f.lag.watchTimers(ended) })
	watching.Go(func() { f.disk.watchDisk(t, ended) })
	around.Go(func() { f.weather(done) })
	around.Go(func() { f.operate(t, config, done) })
	began := time.Now()
	scans := f.serve(t, orders, workers)
	took := time.Since(began)
	close(done)
	around.Wait()
	f.calm.Store(true)
	for f.busy.Load() > 0 { // until what was delayed is done
		wait(nil, 10*time.Millisecond)
	}
	require.NoError(t, gatewaytest.Reload(t, config), "without what is left of the connections")
	close(ended)
	watching.Wait()
	f.report(t, took, scans)
}

// newFaultRun starts the API, the network and the shop, and returns the configuration.
func newFaultRun(t *testing.T, orders int) (*faultRun, string) {
	t.Helper()
	draws := &sharedRand{rng: draw(1)}
	f := &faultRun{
		draw: draws, saidYes: make(map[string]bool), saidNo: make(map[string]bool), faultPlan: newFaultPlans(draws), lag: machineLag{began: time.Now()}, disk: machineLag{began: time.Now()},
		apps:   newDeck(draws, nil, among(25, leftEarly, leftEarly, fractionOfAWon, fractionOfAWon)),
		shops:  newDeck(draws, nil, among(25, shopNo, shopNo, shop500, shopSilent, shopBroken, shopGarbage, shopTruncated, shopOversized)),
		routes: newDeck(draws, nil, among(12, routeNo, routeNo, routeSilent, routeBroken)),
		shown:  newDeck(draws, hits(1), hits(3)), storms: newDeck(draws, hits(1), hits(5)),
	}
	f.process.Store(newLifetime())
	f.network = &network{draw: &sharedRand{rng: draw(2)}, calm: &f.calm, faults: &f.faults, ctx: t.Context()}
	for _, protocol := range []int{1, 2} {
		f.network.owed[protocol].Store(int64(leastAt(2, 10)))
	}
	draws = f.network.draw
	first := &front{
		network: f.network, protocol: overHTTP1, address: gatewaytest.Address(t),
		unread:    newDeck(draws, hits(1), hits(20)),
		faultPlan: newDeck(draws, []string{netBlackHole, netCutOff}, among(20, netCutOff, netBlackHole)),
	}
	f.second = &front{ // fewer connections, each with more in it
		network: f.network, protocol: overHTTP2, address: gatewaytest.Address(t),
		unread:    newDeck(draws, hits(1), hits(10)),
		faultPlan: newDeck(draws, []string{netBlackHole, netCutOff}, among(6, netCutOff, netBlackHole)),
	}
	reluctantShop.Store(f)
	inside, outside := "http://"+gatewaytest.Address(t), "http://"+gatewaytest.Address(t)
	options := "\ntimeout " + runTimeout().String()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Globals: "grace_period 1s",
		API:     http.HandlerFunc(f.serveAPI),
		APIURL:  "http://" + first.address,
		Payable: f.payable,
		Account: options,
		Second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi https://" + f.second.address +
			"\ntransport http {\ntls\ntls_insecure_skip_verify\n}" + options,
		Confirm: "timeout " + runDecision.String() + gatewaytest.UsualConfirm,
		Sites: inside + " {\nlog {\noutput file LOGS\n}\ncvs_proxy {\naccount second" + strings.Replace(gatewaytest.UsualProxy, "OUTSIDE", outside, 1) + "\n}\nrespond \"next handler\" 418\n}\n" +
			outside + " {\nlog {\noutput file LOGS\n}\ncvs_confirm /cvs/confirm {\ntimeout " + runDecision.String() +
			"\non_error accept\norder_check {\ntimeout 600ms\nrequire payable true\nroute {\ntest_misbehaving_route\n}\n}\n}\nrespond \"next handler\" 418\n}\n",
	})
	// The log is read to its end.
	config = strings.ReplaceAll(config, "output file "+g.LogFile, "output file "+g.LogFile+" {\nroll_disabled\n}")
	g.API = emulator.New(emulator.Options{MaxPayments: 2 * orders, Fault: f.fault})
	f.g, f.sites = g, [2]string{g.Inside, inside}

	server := httptest.NewUnstartedServer(http.HandlerFunc(f.serveAPI))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the gateway has no need of any more
	server.StartTLS()
	t.Cleanup(func() {
		_ = g.API.Close()
		server.Close()
	})
	first.to, f.second.to = g.APIServer.Listener.Addr().String(), server.Listener.Addr().String()
	first.run(t)
	f.second.run(t)
	return f, config
}

// operate reloads the configuration, and sometimes shuts the gateway down.
func (f *faultRun) operate(t *testing.T, config string, done <-chan struct{}) {
	most, first, again := 2*time.Second, 1500*time.Millisecond, time.Hour
	if *long { // a dead connection can outlive its time before the next reload
		most, first, again = 12*time.Second, 20*time.Second, 20*time.Second
	}
	next := time.Now().Add(first)
	for !wait(done, f.draw.between(100*time.Millisecond, most)) {
		f.reloads++
		changed := strings.ReplaceAll(config, `respond "next handler" 418`, fmt.Sprintf(`respond "reload %d" 418`, f.reloads))
		if !assert.NoError(t, gatewaytest.Reload(t, changed)) {
			return
		}
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(f.draw.between(again, 2*again))
		if !f.restart(t, changed) || !*long && f.deadEnd(done) {
			return
		}
	}
}

// deadEnd breaks all connections and then does not reload for longer than the gateway may use
// them.
func (f *faultRun) deadEnd(done <-chan struct{}) (over bool) {
	if wait(done, time.Second) { // after the restart there are new ones
		return true
	}
	f.second.blacken()
	return wait(done, longDead+time.Second)
}

// restart shuts the gateway down, as at the end of its process, and starts it again.
func (f *faultRun) restart(t *testing.T, config string) bool {
	if f.asking.Load() > 0 {
		f.faults.add(shutDown)
	}
	began := time.Now()
	if !assert.NoError(t, caddy.Stop()) {
		return false
	}
	f.slowest.shutDown = max(f.slowest.shutDown, time.Since(began))
	over := f.process.Swap(newLifetime())
	over.ended = time.Now()
	over.end()
	wait(nil, f.draw.between(100*time.Millisecond, 300*time.Millisecond)) // until the next one is there
	var err error
	for range 50 {
		if err = gatewaytest.Reload(t, config); err == nil {
			return true
		}
		wait(nil, 100*time.Millisecond) // a port may still be busy
	}
	return assert.NoError(t, err)
}

// scan is the result of an attempt to pay.
type scan struct {
	span
	order  string
	site   string
	result emulator.ScanResult
}

// serve lets all customers order, and those with a barcode pay.
func (f *faultRun) serve(t *testing.T, orders, workers int) []scan {
	next := make(chan int)
	go func() {
		defer close(next)
		for i := range orders {
			if !*long {
				wait(nil, 38*time.Millisecond) // so that the few last for all that is to happen
			}
			next <- i
		}
	}()
	var all sync.WaitGroup
	var scans []scan
	for range workers {
		all.Go(func() {
			for i := range next {
				order := fmt.Sprintf("order-%d", i)
				v := f.buy(t, order, f.sites[i%len(f.sites)])
				f.mu.Lock()
				f.views = append(f.views, v)
				f.mu.Unlock()
				if v.barcode == "" {
					continue
				}
				began := time.Now()
				result, err := f.g.API.Scan(context.Background(), emulator.ScanRequest{Barcode: v.barcode})
				if errors.Is(err, emulator.ErrUnknownBarcode) {
					continue // counted as a success that does not exist
				}
				assert.NoError(t, err)
				f.mu.Lock()
				scans = append(scans, scan{span{began, time.Now()}, order, v.site, result})
				f.mu.Unlock()
			}
		})
	}
	all.Wait()
	return scans
}
