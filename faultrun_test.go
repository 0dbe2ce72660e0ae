package caddycvs

// This file holds the fault run: many orders at once through a real Caddy that is
// reloaded all the while, against an API, a network, tills and a shop that fail
// at random. In the end the API's ledger is compared with what the apps believe.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

const runDecision = time.Second // the timeout of a confirm webhook

// runTimeout is that of one call to the API; a call for a barcode is bounded by
// three. The default, 10s, would make the run longer and show no more.
func runTimeout() time.Duration {
	if *long {
		return 5 * time.Second
	}
	return 2 * time.Second
}

// runSlack is what the machine adds between the gateway's answer and our clock.
// The short form shares it with other tests, and the race detector.
func runSlack() time.Duration {
	if *long {
		return 500 * time.Millisecond
	}
	return 3 * time.Second
}

// lottery draws from one source for many goroutines.
type lottery struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (l *lottery) percent() int { return l.below(100) }

func (l *lottery) below(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(n)
}

func (l *lottery) between(least, most time.Duration) time.Duration {
	return least + time.Duration(l.below(int(most-least)))
}

// tally counts by name.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	names  []string
}

func (c *tally) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	if c.counts[name]++; c.counts[name] == 1 {
		c.names = append(c.names, name)
	}
}

// front is the network before the API: it refuses connections for a while, resets
// some before anything was read, and cuts some off in the middle of an answer.
type front struct {
	address, to string
	draw        *lottery
	calm        *atomic.Bool
	faults      *tally
	ctx         context.Context // of the run
	all         sync.WaitGroup
}

func (f *front) run(t *testing.T) {
	listener, err := net.Listen("tcp", f.address)
	require.NoError(t, err)
	f.all.Go(func() {
		for {
			stop := context.AfterFunc(f.ctx, func() { _ = listener.Close() })
			opened := time.AfterFunc(f.draw.between(200*time.Millisecond, 800*time.Millisecond), func() {
				if !f.calm.Load() {
					f.faults.add("network: refused for a while")
					_ = listener.Close()
				}
			})
			for {
				conn, err := listener.Accept()
				if err != nil {
					break
				}
				f.all.Go(func() { f.forward(conn) })
			}
			opened.Stop()
			stop()
			select {
			case <-f.ctx.Done():
				return
			case <-time.After(f.draw.between(5*time.Millisecond, 60*time.Millisecond)):
			}
			if listener, err = net.Listen("tcp", f.address); err != nil {
				return // the calls that follow fail the run
			}
		}
	})
	t.Cleanup(f.all.Wait)
}

func (f *front) forward(conn net.Conn) {
	defer conn.Close()
	fate := 100
	if !f.calm.Load() {
		fate = f.draw.percent()
	}
	if fate < 4 {
		f.faults.add("network: reset before the request was read")
		_ = conn.(*net.TCPConn).SetLinger(0)
		return
	}
	api, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	defer api.Close()
	stop := context.AfterFunc(f.ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(api, conn)
		_ = api.Close()
	}()
	if fate < 8 {
		f.faults.add("network: cut off within an answer")
		_, _ = io.CopyN(conn, api, int64(1+f.draw.below(900)))
		return
	}
	_, _ = io.Copy(conn, api)
}

// faultRun is the state of a run.
type faultRun struct {
	g      *gateway
	draw   *lottery
	calm   atomic.Bool // nothing fails any more
	storm  atomic.Bool // tokens are refused
	down   atomic.Bool // no token is given
	faults tally
	busy   sync.WaitGroup // requests at the API

	mu      sync.Mutex
	saidYes map[string]bool // orders that the shop accepted, in whole answers
	views   []*appView
}

// appView is what an app believes of its order.
type appView struct {
	order   string
	asked   int // times before the last
	status  int // of the last answer; 0: the app left, or its connection broke
	code    int
	message string
	impUID  string
	barcode string
	took    time.Duration // of the slowest answer
}

// fault draws what goes wrong with one request or webhook.
func (f *faultRun) fault(endpoint emulator.Endpoint, _ *http.Request) emulator.Fault {
	if f.calm.Load() {
		return emulator.Fault{}
	}
	switch {
	case endpoint == emulator.EndpointToken && f.down.Load():
		f.faults.add("token: down")
		return emulator.Fault{Status: 503}
	case endpoint != emulator.EndpointToken && f.storm.Load() && f.draw.percent() < 20:
		f.faults.add(string(endpoint) + ": 401 before its time")
		return emulator.Fault{ExpiredToken: true}
	}
	kinds := []struct {
		name  string
		fault emulator.Fault
	}{
		{"dropped before the work", emulator.Fault{Drop: emulator.DropBefore}},
		{"dropped after the work", emulator.Fault{Drop: emulator.DropAfter}},
		{"dropped within the answer", emulator.Fault{Drop: emulator.DropBody}},
		{"late, then dropped", emulator.Fault{Delay: f.draw.between(0, runTimeout()/2), Drop: emulator.DropAfter}},
		{"late", emulator.Fault{Delay: f.draw.between(0, runTimeout()/2)}},
		{"later than the time-out", emulator.Fault{Delay: f.draw.between(runTimeout(), 3*runTimeout())}},
		{"later, given up with the client", emulator.Fault{Delay: f.draw.between(runTimeout(), 2*runTimeout()), CancelWithClient: true}},
		{"5xx", emulator.Fault{Status: 500 + f.draw.below(4)}},
		{"code", emulator.Fault{Code: -1}},
		{"garbage", emulator.Fault{Garbage: true}},
		{"401", emulator.Fault{ExpiredToken: true}},
		{"oversized", emulator.Fault{Oversized: true}},
	}
	if endpoint == emulator.EndpointConfirm || endpoint == emulator.EndpointNotice {
		kinds = append(kinds[:2], kinds[4], kinds[9], kinds[9])
		kinds[4].name, kinds[4].fault = "sent twice", emulator.Fault{Duplicate: true}
	}
	if f.draw.percent() >= *bad {
		return emulator.Fault{}
	}
	kind := kinds[f.draw.below(len(kinds))]
	if kind.fault.ExpiredToken && endpoint == emulator.EndpointToken {
		return emulator.Fault{}
	}
	f.faults.add(string(endpoint) + ": " + kind.name)
	return kind.fault
}

// payable is the shop's order check.
func (f *faultRun) payable(w http.ResponseWriter, r *http.Request) {
	order := strings.Split(r.URL.Path, "/")[2]
	yes := func() {
		f.mu.Lock()
		f.saidYes[order] = true
		f.mu.Unlock()
		fmt.Fprint(w, `{"payable":true,"total":15000}`)
	}
	fate := f.draw.percent()
	if f.calm.Load() {
		fate = 100
	}
	switch {
	case fate < 8:
		f.faults.add("shop: no")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"reason":"sold out"}`)
	case fate < 12:
		f.faults.add("shop: 500")
		w.WriteHeader(http.StatusInternalServerError)
	case fate < 16:
		f.faults.add("shop: no answer in time")
		<-r.Context().Done()
	case fate < 20:
		f.faults.add("shop: connection broken")
		panic(http.ErrAbortHandler)
	case fate < 24:
		f.faults.add("shop: garbage")
		fmt.Fprint(w, "<h1>OK</h1>")
	case fate < 28:
		f.faults.add("shop: truncated")
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, `{"payable":true,"total":15000`)
	case fate < 32:
		f.faults.add("shop: oversized")
		fmt.Fprint(w, strings.Repeat(" ", 100_000)+`{"payable":true,"total":15000}`)
	default:
		yes()
	}
}

// buy is one customer's order. The app asks for a barcode, again only if it is
// told that nothing was done: to keep two barcodes from it is the gateway's work.
func (f *faultRun) buy(t *testing.T, order string) *appView {
	v := &appView{order: order}
	ctx := context.Background()
	if f.draw.percent() < 8 {
		f.faults.add("app: left early")
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.draw.between(time.Millisecond, runTimeout()))
		defer cancel()
	}
	for {
		v.ask(ctx, t, f)
		if !strings.Contains(v.message, "Nothing was done.") && !strings.Contains(v.message, "It may be asked for again.") {
			return v
		}
		v.asked++
		wait(ctx.Done(), f.draw.between(50*time.Millisecond, 400*time.Millisecond))
	}
}

// ask sends one POST /cvs.
func (v *appView) ask(ctx context.Context, t *testing.T, f *faultRun) {
	v.status, v.message = 0, ""
	body := url.Values{"merchant_uid": {v.order}, "amount": {"15000"}, "buyer_name": {buyerName}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.g.inside+"/cvs", strings.NewReader(body))
	assert.NoError(t, err)
	r.Header.Set("Content-Type", formType)
	began := time.Now()
	resp, err := f.g.http.Do(r)
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err != nil {
		if ctx.Err() == nil {
			f.faults.add("reload: connection closed")
		}
		return
	}
	v.took = max(v.took, time.Since(began))
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

// weather brings storms: refused tokens, and a token endpoint that is down.
func (f *faultRun) weather(done <-chan struct{}) {
	for i := 0; ; i++ {
		flag := &f.storm
		if i%3 == 2 {
			flag = &f.down
			f.g.api.ExpireTokens()
		}
		flag.Store(true)
		over := wait(done, f.draw.between(100*time.Millisecond, 400*time.Millisecond))
		flag.Store(false)
		if over || wait(done, f.draw.between(500*time.Millisecond, 2*time.Second)) {
			return
		}
	}
}

// wait reports whether a run was over before the time was.
func wait(done <-chan struct{}, d time.Duration) (over bool) {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// TestFaultRun: no barcode that no app knows of, no order with two, no success
// that is none, no late answer, no payment that the shop did not accept.
func TestFaultRun(t *testing.T) {
	orders, workers := 300, 48
	if *long {
		orders, workers = 20_000, 192
	}
	f := &faultRun{draw: &lottery{rng: draw(1)}, saidYes: make(map[string]bool)}
	network := &front{address: address(t), draw: &lottery{rng: draw(2)}, calm: &f.calm, faults: &f.faults, ctx: t.Context()}
	api := emulator.New(emulator.Options{MaxPayments: 2 * orders, Fault: f.fault, BeforeRequest: noteTokens(nil)})
	g, config := prepare(t, setup{
		api: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.busy.Add(1)
			defer f.busy.Done()
			api.ServeHTTP(w, r)
		}),
		apiURL:  "http://" + network.address,
		payable: f.payable,
		account: "timeout " + runTimeout().String(),
		confirm: "timeout " + runDecision.String() + usualConfirm,
	})
	t.Cleanup(func() { _ = api.Close() })
	f.g, g.api = g, api
	network.to = strings.TrimPrefix(g.apiServer.URL, "http://")
	network.run(t)
	require.NoError(t, reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	done := make(chan struct{})
	var around sync.WaitGroup
	reloads := 0
	around.Go(func() { f.weather(done) })
	around.Go(func() {
		for !wait(done, 250*time.Millisecond) {
			reloads++
			changed := strings.ReplaceAll(config, `respond "next handler" 418`, fmt.Sprintf(`respond "reload %d" 418`, reloads))
			if !assert.NoError(t, reload(t, changed)) {
				return
			}
		}
	})
	began := time.Now()
	scans := f.serve(t, orders, workers)
	took := time.Since(began)
	close(done)
	around.Wait()
	f.calm.Store(true)
	f.busy.Wait() // what was delayed is done
	f.report(t, orders, reloads, took, scans)
}

// scan is how an attempt to pay ended.
type scan struct {
	order  string
	result emulator.ScanResult
}

// serve has all customers order, and those with a barcode pay.
func (f *faultRun) serve(t *testing.T, orders, workers int) []scan {
	next := make(chan string)
	go func() {
		defer close(next)
		for i := range orders {
			next <- fmt.Sprintf("order-%d", i)
		}
	}()
	var all sync.WaitGroup
	var scans []scan
	for range workers {
		all.Go(func() {
			for order := range next {
				v := f.buy(t, order)
				f.mu.Lock()
				f.views = append(f.views, v)
				f.mu.Unlock()
				if v.barcode == "" {
					continue
				}
				result, err := f.g.api.Scan(context.Background(), emulator.ScanRequest{Barcode: v.barcode})
				if errors.Is(err, emulator.ErrUnknownBarcode) {
					continue // counted as a success that does not exist
				}
				assert.NoError(t, err)
				f.mu.Lock()
				scans = append(scans, scan{order, result})
				f.mu.Unlock()
			}
		})
	}
	all.Wait()
	return scans
}

// report compares what the apps believe with the ledger, and prints the figures.
func (f *faultRun) report(t *testing.T, orders, reloads int, took time.Duration, scans []scan) {
	ledger := make(map[string][]emulator.Payment)
	for _, p := range f.g.api.Payments() {
		ledger[p.MerchantUID] = append(ledger[p.MerchantUID], p)
	}
	var unknown, twice, phantom, late int
	var doubt, doubtWith, left, leftWith, asked, slowest int
	outcomes := new(tally)
	for _, v := range f.views {
		issued := ledger[v.order]
		if len(issued) > 1 {
			twice++
			t.Errorf("order %s has %d barcodes; its app was answered %d", v.order, len(issued), v.status)
		}
		switch {
		case v.status == 0 || v.status == http.StatusGatewayTimeout:
			found := f.lookUp(t, v.order)
			if (found == "") != (len(issued) == 0) {
				unknown++
				t.Errorf("order %s: a look-up finds %q, and the ledger has %d", v.order, found, len(issued))
			}
			if v.status == 0 {
				left, leftWith = left+1, leftWith+min(1, len(issued))
			} else {
				doubt, doubtWith = doubt+1, doubtWith+min(1, len(issued))
			}
		case v.impUID == "" && len(issued) > 0:
			unknown++
			t.Errorf("order %s has a barcode, and its app was answered %d code %d", v.order, v.status, v.code)
		case v.status == 200 && v.code == 0 && (len(issued) == 0 || issued[0].ImpUID != v.impUID):
			phantom++
			t.Errorf("order %s has no payment %s", v.order, v.impUID)
		}
		asked += v.asked + 1
		if v.status != 0 {
			outcomes.add(fmt.Sprintf("answered %d, code %d", v.status, v.code))
		}
		slowest = max(slowest, int(v.took.Milliseconds()))
		if v.took > 3*runTimeout()+runSlack() {
			late++
			t.Errorf("order %s was answered after %v", v.order, v.took)
		}
	}
	var paid, unaccepted, slowestScan int
	for _, s := range scans {
		if s.result.Accepted {
			paid++
			if !f.saidYes[s.order] {
				unaccepted++
				t.Errorf("order %s is paid, and the shop did not accept it", s.order)
			}
		}
		for c := s.result.Confirm; c != nil; c = c.Duplicate {
			slowestScan = max(slowestScan, int(c.DurationMS))
			if time.Duration(c.DurationMS)*time.Millisecond > runDecision+runSlack() {
				late++
				t.Errorf("the webhook of order %s was answered after %d ms", s.order, c.DurationMS)
			}
		}
	}

	figures := table{title: "fault run"}
	figures.row("orders", orders)
	figures.row("POST /cvs by the apps", asked)
	figures.row("seconds", int(took.Seconds()))
	figures.row("reloads", reloads)
	for _, c := range []*tally{outcomes, f.doubts(t), &f.faults} {
		for _, name := range c.names {
			figures.row(name, c.counts[name])
		}
	}
	figures.row("apps that left or lost their connection", left)
	figures.row("... of which had a barcode, found by look-up", leftWith)
	figures.row("504 outcome unknown", doubt)
	figures.row("... of which had a barcode, found by look-up", doubtWith)
	figures.row("slowest answer to an app, ms", slowest)
	figures.row("scans", len(scans))
	figures.row("paid", paid)
	figures.row("slowest decision, ms", slowestScan)
	figures.row("BARCODES THAT NO APP KNOWS OF", unknown)
	figures.row("ORDERS WITH TWO BARCODES", twice)
	figures.row("SUCCESSES THAT DO NOT EXIST", phantom)
	figures.row("ANSWERS LATER THAN THEIR LIMIT", late)
	figures.row("PAID WITHOUT THE SHOP'S WORD", unaccepted)
	figures.print(t)
	assert.Positive(t, paid)
	assert.Positive(t, reloads)
}

// doubts counts, by what the log says of them, the calls for a barcode that ended in 504.
func (f *faultRun) doubts(t *testing.T) *tally {
	doubts := new(tally)
	for line := range strings.Lines(f.g.log(t)) {
		logged := gjson.GetMany(line, "operation", "status", "cause")
		if logged[0].Str == "issue" && logged[1].Int() == http.StatusGatewayTimeout {
			_, cause, _ := strings.Cut(logged[2].Str, ": ")
			doubts.add("504 after: " + cause)
		}
	}
	return doubts
}

// lookUp is what a 504 tells the app to do.
func (f *faultRun) lookUp(t *testing.T, order string) (impUID string) {
	for range 20 {
		a := f.g.do(t, http.MethodGet, f.g.inside+"/payments/find/"+order, "", "")
		switch a.status {
		case http.StatusOK:
			return a.payment(t)["imp_uid"].(string)
		case http.StatusNotFound:
			return ""
		}
		wait(nil, 200*time.Millisecond) // no token yet
	}
	t.Errorf("order %s cannot be looked up", order)
	return ""
}
