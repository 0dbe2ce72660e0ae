package acceptance

// This file holds the faults of the API, the tills and the shop in the fault run, and how often
// each must strike.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// The faults and events that are not of the network or of single requests.
const (
	leftEarly        = "app: left early"
	fractionOfAWon   = "app: fraction of a won"
	showsFloatError  = "API: shows an amount with a float's error"
	shutDown         = "gateway: shut down with calls under way"
	shutDownRefused  = "shutdown: connection refused"
	shutDownBroke    = "shutdown: connection broken"
	reloadBroke      = "reload: connection closed"
	tokenDown        = "token: down"
	shopNo           = "shop: no"
	shop500          = "shop: 500"
	shopSilent       = "shop: no answer in time"
	shopBroken       = "shop: connection broken"
	shopGarbage      = "shop: garbage"
	shopTruncated    = "shop: truncated"
	shopOversized    = "shop: oversized"
	routeNo          = "route: no, and goes on working"
	routeSilent      = "route: no answer in time"
	routeBroken      = "route: panic within an answer"
	before401        = ": 401 before its time"
	wholeAmount      = "15000"
	fractionalAmount = "15000.000000000002" // as a program has it that adds up floats
)

// requiredFault is the least number of times that a fault must strike: in the short form, and in the
// long form with -faults 20.
type requiredFault struct {
	name        string
	short, long int
}

// requiredFaults lists all faults, those of plannedFaults included.
func requiredFaults() []requiredFault {
	list := []requiredFault{
		{leftEarly, 10, 20},
		{fractionOfAWon, 10, 20},
		{showsFloatError, 2, 20},
		{shutDown, 1, 3},
		{shutDownRefused, 1, 20},
		{shutDownBroke, 0, 0}, // none if all calls end while the gateway waits
		{reloadBroke, 0, 0},   // a race that Caddy seldom loses
		{tokenDown, 0, 20},    // the short form may need no token just then
		{shopNo, 5, 20},
		{shop500, 3, 20},
		{shopSilent, 3, 20},
		{shopBroken, 3, 20},
		{shopGarbage, 3, 20},
		{shopTruncated, 3, 20},
		{shopOversized, 3, 20},
		{routeNo, 2, 20},
		{routeSilent, 1, 20},
		{routeBroken, 1, 20},
		{string(emulator.EndpointIssue) + before401, 1, 20},
		{string(emulator.EndpointFind) + before401, 0, 20},
	}
	for _, protocol := range []string{overHTTP1, overHTTP2} {
		list = append(
			list,
			requiredFault{netRefused + ", " + protocol, 3, 20},
			requiredFault{netUnread + ", " + protocol, 1, 20},
			requiredFault{netCutOff + ", " + protocol, 1, 20},
			requiredFault{netBlackHole + ", " + protocol, 1, 20},
			requiredFault{netReset + ", " + protocol, leastAt(1, 10), leastAt(20, 20)},
		)
	}
	for _, m := range plannedFaults {
		for _, at := range m.at {
			if m.resets {
				continue
			}
			least := requiredFault{m.nameAt(at), leastAt(1, 10), leastAt(20, 20)}
			switch {
			case at == emulator.EndpointToken && m.page == 0:
				least.short = 0 // so few are asked for that it takes luck
			case at == emulator.EndpointConfirm:
				least.short = leastAt(2, 10)
			}
			list = append(list, least)
		}
	}
	return list
}

// leastAt is the least number of strikes for a fault whose frequency depends on -faults. The
// number is for the given percentage; a smaller -faults lowers it in proportion.
func leastAt(least, percent int) int { return least * min(*bad, percent) / percent }

// requireFaults prints how often each fault struck, and fails if that was too seldom.
func (c *faultCounts) requireFaults(t *testing.T, figures *table) {
	c.mu.Lock()
	counts := maps.Clone(c.counts)
	c.mu.Unlock()
	for _, s := range requiredFaults() {
		least := s.short
		if *long {
			least = s.long
		}
		figures.row(s.name, fmt.Sprintf("%d (least %d)", counts[s.name], least))
		if counts[s.name] < least {
			t.Errorf("%q struck %d times, and must at least %d times", s.name, counts[s.name], least)
		}
		delete(counts, s.name)
	}
	for name, n := range counts {
		t.Errorf("%q, which struck %d times, is not in the table of strikes", name, n)
	}
}

// plannedFault is a fault of one request or webhook.
type plannedFault struct {
	name   string
	at     []emulator.Endpoint
	fault  func(*sharedRand) emulator.Fault
	page   int  // the status of a page that comes instead of the API's answer
	resets bool // the connection is reset while the API is at work
}

func (m *plannedFault) nameAt(endpoint emulator.Endpoint) string {
	return string(endpoint) + ": " + m.name
}

var (
	tokenEndpoints = []emulator.Endpoint{emulator.EndpointIssue, emulator.EndpointFind}
	apiEndpoints   = append(slices.Clone(tokenEndpoints), emulator.EndpointToken)
	faultEndpoints = append(slices.Clone(apiEndpoints), emulator.EndpointConfirm)
)

// reset is the planned fault that the network carries out and counts.
var reset = &plannedFault{
	name: "reset", at: []emulator.Endpoint{emulator.EndpointIssue}, resets: true,
	fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(20*time.Millisecond, 3*runTimeout())}
	},
}

// plannedFaults are printed in this order.
var plannedFaults = []*plannedFault{
	{name: "dropped before the work", at: faultEndpoints, fault: alwaysFault(emulator.Fault{Drop: emulator.DropBefore})},
	{name: "dropped after the work", at: faultEndpoints, fault: alwaysFault(emulator.Fault{Drop: emulator.DropAfter})},
	{name: "dropped within the answer", at: apiEndpoints, fault: alwaysFault(emulator.Fault{Drop: emulator.DropBody})},
	{name: "late, then dropped", at: apiEndpoints, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(time.Millisecond, runTimeout()/2), Drop: emulator.DropAfter}
	}},
	{name: "late", at: faultEndpoints, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(time.Millisecond, runTimeout()/2)}
	}},
	{name: "later than the time-out", at: apiEndpoints, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(runTimeout(), 3*runTimeout())}
	}},
	{name: "later, given up with the client", at: apiEndpoints, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(runTimeout(), 2*runTimeout()), CancelWithClient: true}
	}},
	{name: "5xx", at: apiEndpoints, fault: func(l *sharedRand) emulator.Fault { return emulator.Fault{Status: 500 + l.below(4)} }},
	{name: "code", at: apiEndpoints, fault: alwaysFault(emulator.Fault{Code: -1})},
	{name: "garbage", at: faultEndpoints, fault: alwaysFault(emulator.Fault{Garbage: true})},
	{name: "401", at: tokenEndpoints, fault: alwaysFault(emulator.Fault{ExpiredToken: true})},
	{name: "oversized", at: apiEndpoints, fault: alwaysFault(emulator.Fault{Oversized: true})},
	{name: "page of 429", at: tokenEndpoints, page: http.StatusTooManyRequests},
	{name: "page of 503", at: apiEndpoints, page: http.StatusServiceUnavailable},
	{name: "sent twice", at: []emulator.Endpoint{emulator.EndpointConfirm}, fault: alwaysFault(emulator.Fault{Duplicate: true})},
	reset,
}

func alwaysFault(fault emulator.Fault) func(*sharedRand) emulator.Fault {
	return func(*sharedRand) emulator.Fault { return fault }
}

// faultPlan decides which requests of one endpoint get a planned fault, and which one.
type faultPlan struct {
	met           *deck[bool]
	plannedFaults *deck[*plannedFault]
}

// newFaultPlan deals the pages first: there may be too few requests to get them by chance. Where
// requests are few, more of them get a planned fault: the calls for a token, and the look-ups of the
// short form.
func newFaultPlan(draw *sharedRand, endpoint emulator.Endpoint) faultPlan {
	var lead, list []*plannedFault
	for _, m := range plannedFaults {
		if slices.Contains(m.at, endpoint) {
			if list = append(list, m); m.resets {
				list = append(list, m) // twice in each deck: what it may lead to is the worst
			}
			if m.page != 0 {
				lead = append(lead, m)
			}
		}
	}
	size, unlucky := 100, *bad
	switch {
	case endpoint == emulator.EndpointToken:
		unlucky += unlucky / 2
	case endpoint == emulator.EndpointFind && !*long:
		unlucky *= 2
	}
	for _, divisor := range []int{2, 2, 5, 5} { // the fewer cards, the more even
		if size%divisor == 0 && unlucky%divisor == 0 {
			size, unlucky = size/divisor, unlucky/divisor
		}
	}
	met := make([]bool, size)
	for i := range min(unlucky, size) {
		met[i] = true
	}
	return faultPlan{newDeck(draw, nil, met), newDeck(draw, lead, list)}
}

func newFaultPlans(draw *sharedRand) map[emulator.Endpoint]faultPlan {
	m := make(map[emulator.Endpoint]faultPlan)
	for _, endpoint := range faultEndpoints {
		m[endpoint] = newFaultPlan(draw, endpoint)
	}
	return m
}

// choose draws the planned fault of one request or webhook, or nil for none.
func (f *faultRun) choose(endpoint emulator.Endpoint, protocol int) *plannedFault {
	if f.calm.Load() {
		return nil
	}
	switch {
	case endpoint == emulator.EndpointToken && f.down.Load():
		return &plannedFault{name: "down", fault: alwaysFault(emulator.Fault{Status: 503})}
	case slices.Contains(tokenEndpoints, endpoint) && f.storm.Load() && f.storms.next():
		return &plannedFault{name: strings.TrimPrefix(before401, ": "), fault: alwaysFault(emulator.Fault{ExpiredToken: true})}
	}
	if endpoint == emulator.EndpointIssue && f.network.owes(protocol) {
		return reset
	}
	at, ok := f.faultPlan[endpoint]
	if !ok || !at.met.next() {
		return nil
	}
	return at.plannedFaults.next()
}

// faultKey is the key of a request's fault in its context.
type faultKey struct{}

// fault tells the emulator the fault of a request or webhook.
func (f *faultRun) fault(endpoint emulator.Endpoint, r *http.Request) emulator.Fault {
	if r != nil {
		fault, _ := r.Context().Value(faultKey{}).(emulator.Fault)
		return fault
	}
	m := f.choose(endpoint, 1) // a webhook's
	if m == nil {
		return emulator.Fault{}
	}
	f.faults.add(m.nameAt(endpoint))
	return m.fault(f.draw)
}

// serveAPI handles a request before the emulator does, and adds the faults that the emulator
// does not have.
func (f *faultRun) serveAPI(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // which may never come through a black hole
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.busy.Add(1)
	defer f.busy.Add(-1)
	var endpoint emulator.Endpoint
	switch {
	case r.URL.Path == "/users/getToken":
		endpoint = emulator.EndpointToken
	case r.URL.Path == "/cvs":
		endpoint = emulator.EndpointIssue
	case strings.HasPrefix(r.URL.Path, "/payments/find/"):
		endpoint = emulator.EndpointFind
	}
	gatewaytest.NoteTokens(nil)(endpoint, r)
	m := f.choose(endpoint, r.ProtoMajor)
	if m == nil && endpoint == emulator.EndpointFind {
		f.show(w, r)
		return
	}
	if m == nil {
		f.g.API.ServeHTTP(w, r)
		return
	}
	if !m.resets {
		f.faults.add(m.nameAt(endpoint))
	}
	if m.page != 0 {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(m.page)
		fmt.Fprintf(w, "<html><body><h1>%s</h1></body></html>", http.StatusText(m.page))
		return
	}
	fault := m.fault(f.draw)
	if m.resets {
		f.network.resetSoon(r.RemoteAddr, r.ProtoMajor, f.draw.between(10*time.Millisecond, min(fault.Delay, 300*time.Millisecond)))
	}
	if fault.Delay > 0 {
		f.delay(r, fault)
		fault.Delay, fault.CancelWithClient = 0, false
	}
	f.g.API.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, fault)))
}

// delay waits in place of the emulator, which would verify the token only after the wait. In
// this run tokens become invalid early, so most delayed requests would be answered 401.
func (f *faultRun) delay(r *http.Request, fault emulator.Fault) {
	valid := r.Header.Get("Authorization") == "Bearer "+f.token(r.ProtoMajor)
	var gone <-chan struct{}
	if fault.CancelWithClient {
		gone = r.Context().Done()
	}
	select {
	case <-time.After(fault.Delay):
	case <-gone:
		panic(http.ErrAbortHandler)
	case <-f.network.ctx.Done():
		panic(http.ErrAbortHandler)
	}
	if valid {
		r.Header.Set("Authorization", "Bearer "+f.token(r.ProtoMajor))
	}
}

// token returns the present token of the account that uses the protocol.
func (f *faultRun) token(protocol int) string {
	account := "CVS_TEST_"
	if protocol == 2 {
		account = "CVS_TEST_SECOND_"
	}
	form := url.Values{"imp_key": {gatewaytest.Canaries[account+"KEY"]}, "imp_secret": {gatewaytest.Canaries[account+"SECRET"]}}
	r := httptest.NewRequest(http.MethodPost, "/users/getToken", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", gatewaytest.FormType)
	recorder := httptest.NewRecorder()
	f.g.API.ServeHTTP(recorder, r)
	return gjson.Get(recorder.Body.String(), "response.access_token").Str
}

// show answers a look-up. Some answers have the rounding error of a float in the amount.
func (f *faultRun) show(w http.ResponseWriter, r *http.Request) {
	const amount, inexact = `"amount":` + wholeAmount + `,`, `"amount":14999.999999999998,`
	recorder := httptest.NewRecorder()
	f.g.API.ServeHTTP(recorder, r)
	body := recorder.Body.String()
	if recorder.Code == http.StatusOK && strings.Contains(body, amount) && !f.calm.Load() && f.shown.next() {
		f.faults.add(showsFloatError)
		body = strings.Replace(body, amount, inexact, 1)
	}
	maps.Copy(w.Header(), recorder.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(recorder.Code)
	fmt.Fprint(w, body)
}

// payable is the shop's order check.
func (f *faultRun) payable(w http.ResponseWriter, r *http.Request) {
	order := strings.Split(r.URL.Path, "/")[2]
	fate := f.shops.next()
	if f.calm.Load() {
		fate = ""
	}
	if fate != "" {
		f.faults.add(fate)
	}
	switch fate {
	case shopNo:
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"reason":"sold out"}`)
	case shop500:
		w.WriteHeader(http.StatusInternalServerError)
	case shopSilent:
		<-r.Context().Done()
	case shopBroken:
		panic(http.ErrAbortHandler)
	case shopGarbage:
		fmt.Fprint(w, "<h1>OK</h1>")
	case shopTruncated:
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, `{"payable":true,"total":15000`)
	case shopOversized:
		fmt.Fprint(w, strings.Repeat(" ", 100_000)+`{"payable":true,"total":15000}`)
	default:
		f.mu.Lock()
		f.saidYes[order] = true
		f.mu.Unlock()
		fmt.Fprint(w, `{"payable":true,"total":15000}`)
	}
}

// misbehavingRoute is the handler in the route of the second site's order check. It does not return
// after its answer, like a script that continues to work.
type misbehavingRoute struct{}

// reluctantShop is the run that the handler belongs to.
var reluctantShop atomic.Pointer[faultRun]

func init() {
	caddy.RegisterModule(misbehavingRoute{})
	httpcaddyfile.RegisterHandlerDirective("test_misbehaving_route", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(misbehavingRoute), nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_misbehaving_route", httpcaddyfile.Before, "respond")
}

func (misbehavingRoute) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_misbehaving_route", New: func() caddy.Module { return new(misbehavingRoute) }}
}

func (*misbehavingRoute) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	f := reluctantShop.Load()
	order := r.Header.Get("X-Cvs-Merchant-Uid")
	f.mu.Lock()
	_, again := f.saidNo[order] // the first of two webhooks decides
	if !again {
		f.saidNo[order] = false
	}
	f.mu.Unlock()
	fate := f.routes.next()
	if f.calm.Load() {
		fate = ""
	}
	if fate != "" {
		f.faults.add(fate)
	}
	switch fate {
	case routeNo:
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"reason":"sold out"}`)
		if !again && r.Context().Err() == nil { // else it came too late
			f.mu.Lock()
			f.saidNo[order] = true
			f.mu.Unlock()
		}
		<-r.Context().Done()
	case routeSilent:
		<-r.Context().Done()
	case routeBroken:
		fmt.Fprint(w, `{"payable":true`)
		panic(http.ErrAbortHandler)
	default:
		fmt.Fprint(w, `{"payable":true}`)
	}
	return nil
}

// weather makes the API refuse tokens for some time, or makes its token endpoint fail.
func (f *faultRun) weather(done <-chan struct{}) {
	for i := 0; ; i++ {
		flag := &f.storm
		if i%3 == 2 {
			flag = &f.down
			f.g.API.ExpireTokens()
		}
		flag.Store(true)
		over := wait(done, f.draw.between(100*time.Millisecond, 400*time.Millisecond))
		flag.Store(false)
		if over || wait(done, f.draw.between(500*time.Millisecond, 2*time.Second)) {
			return
		}
	}
}
