// Package emulator imitates, in memory, PortOne's V1 API for payment in convenience stores (CVS): tokens, barcodes,
// payments, the till that scans a barcode, and the webhooks that follow from it.
//
// It keeps the API's documented rules, and on demand it misbehaves (see [Fault]), so that a program can be tried over HTTP
// against everything that the real API may do. It moves no money, and every answer says so in the header X-Cvs-Sandbox.
// Where the API's documents leave a rule open, the choice made here is marked "assumption" at the place where it is made.
package emulator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	defaultTokenLife      = 30 * time.Minute
	defaultDeadline       = 72 * time.Hour
	defaultConfirmTimeout = 10 * time.Second
	defaultMaxPayments    = 10_000
	maxRequestBody        = 1 << 20
)

// Endpoint names a kind of request: the API's endpoints, which the emulator answers, and the two webhooks, which it sends.
type Endpoint string

// The endpoints. EndpointAll stands for all of them in a [Fault].
const (
	EndpointToken    Endpoint = "token"    // POST /users/getToken
	EndpointIssue    Endpoint = "issue"    // POST /cvs
	EndpointVoid     Endpoint = "void"     // DELETE /cvs/{imp_uid}
	EndpointPayment  Endpoint = "payment"  // GET /payments/{imp_uid}
	EndpointPayments Endpoint = "payments" // GET /payments?imp_uid[]=
	EndpointBalance  Endpoint = "balance"  // GET /payments/{imp_uid}/balance
	EndpointFind     Endpoint = "find"     // GET /payments/find/{merchant_uid}[/{payment_status}]
	EndpointFindAll  Endpoint = "find_all" // GET /payments/findAll/{merchant_uid}[/{payment_status}]
	EndpointList     Endpoint = "list"     // GET /payments/status/{payment_status}
	EndpointCancel   Endpoint = "cancel"   // POST /payments/cancel
	EndpointPrepare  Endpoint = "prepare"  // POST and PUT /payments/prepare, GET /payments/prepare/{merchant_uid}
	EndpointCard     Endpoint = "card"     // POST /subscribe/payments/onetime
	EndpointConfirm  Endpoint = "confirm"  // POST {confirm_url}, sent by the emulator
	EndpointNotice   Endpoint = "notice"   // POST {notice_url}, sent by the emulator
	EndpointAll      Endpoint = "all"
)

// Options are the settings of an [Emulator]. The zero value is usable.
type Options struct {
	// Now is the API's clock, by default time.Now. Webhook time-outs and the delays of faults run by the real clock.
	Now func() time.Time

	// Keys holds the accepted pairs of imp_key and imp_secret. If nil, any pair of non-empty keys is accepted.
	Keys map[string]string

	// TokenLife is the life of a new token in whole seconds, by default 30 minutes.
	TokenLife time.Duration

	// Deadline is the time, in whole seconds, in which a barcode issued without expired_at must be paid: what the real
	// service's contract defines. By default 72 hours.
	Deadline time.Duration

	// ConfirmTimeout is how long the till waits for the answer to the confirm webhook, by default 10 seconds. The API's
	// pages give 10 seconds in one place and 5 in another.
	ConfirmTimeout time.Duration

	// MaxPayments bounds the ledger, by default to 10,000 payments. The oldest are forgotten first.
	MaxPayments int

	// Fractions says what becomes of an amount with a fraction of a won, by default [FractionsRefuse].
	Fractions Fractions

	// LiveChannel has the payments be those of a live channel. By default they are a test channel's, which the API hides from
	// GET /payments/{imp_uid} without include_sandbox=true.
	LiveChannel bool

	// CancelNotices sends a notice for each cancellation by POST /payments/cancel. The real service does so if the call asks for
	// it by enable_webhook, which works here, too.
	CancelNotices bool

	// PublicWebhooks allows webhooks to public addresses. Otherwise they go only to loopback and private addresses,
	// whatever name they are reached by.
	PublicWebhooks bool

	// Transport, if set, sends the webhooks instead of the emulator's own transport. PublicWebhooks then has no effect.
	Transport http.RoundTripper

	// BeforeRequest, if set, is called with each API request before a fault or the API's own work. It may block, and it may
	// read the body.
	BeforeRequest func(endpoint Endpoint, r *http.Request)

	// Fault, if set, chooses the fault of each API request, which it may read, and of each webhook, for which there is no
	// request yet, if none of those injected meets it. What cannot go wrong at the endpoint does not.
	Fault func(endpoint Endpoint, r *http.Request) Fault
}

// Fractions says what becomes of an amount with a fraction of a won. The API's documents do not say whether it keeps one.
type Fractions string

// The ways to treat a fraction.
const (
	FractionsRefuse Fractions = ""      // as a gateway does that lets no doubt arise
	FractionsKeep   Fractions = "keep"  // the amount is shown as it was sent
	FractionsRound  Fractions = "round" // to whole won, halves away from zero, as a database column of whole numbers would
)

// Emulator is the API in memory, an [http.Handler]. Its methods may be called from several goroutines at once. It runs no
// goroutine of its own between requests, but for the notices of cancellations, which Close ends.
type Emulator struct {
	opts      Options
	routes    []route
	tokens    *tokens
	ledger    *ledger
	prepared  prepared
	faults    faultList
	history   history
	transport http.RoundTripper
	origins   *http.CrossOriginProtection

	ctx    context.Context // ended by Close
	cancel context.CancelFunc

	mu     sync.Mutex // guards counts, and closed together with scans.Add
	counts map[Endpoint]int
	closed bool
	scans  sync.WaitGroup
}

// New returns an emulator with an empty ledger.
func New(opts Options) *Emulator {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	opts.Keys = maps.Clone(opts.Keys)
	opts.TokenLife = defaultTo(opts.TokenLife, defaultTokenLife)
	opts.Deadline = defaultTo(opts.Deadline, defaultDeadline)
	opts.ConfirmTimeout = defaultTo(opts.ConfirmTimeout, defaultConfirmTimeout)
	opts.MaxPayments = defaultTo(opts.MaxPayments, defaultMaxPayments)
	ctx, cancel := context.WithCancel(context.Background())
	e := &Emulator{
		opts:      opts,
		tokens:    newTokens(seconds(opts.TokenLife)),
		ledger:    newLedger(opts.MaxPayments),
		prepared:  prepared{amounts: make(map[orderID]float64)},
		transport: opts.Transport,
		origins:   http.NewCrossOriginProtection(),
		ctx:       ctx,
		cancel:    cancel,
		counts:    make(map[Endpoint]int),
	}
	if e.transport == nil {
		e.transport = newTransport(opts.PublicWebhooks)
	}
	e.routes = e.newRoutes()
	return e
}

// Close ends the delays of faults, cuts the webhooks under way off and waits for their scans to end. Later scans are refused
// with [ErrClosed]; the API goes on answering. The error is always nil.
func (e *Emulator) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.scans.Wait()
	return nil
}

// Payments returns the ledger, the payments of all merchants, newest first.
func (e *Emulator) Payments() []Payment {
	return e.ledger.all()
}

// WebhookURLs returns the confirm_url and the notice_urls of a payment as they were given, with their query strings, which
// may carry a signature: they must not be printed. Both are empty if there are none or the payment is unknown.
func (e *Emulator) WebhookURLs(impUID string) (confirmURL string, noticeURL []string) {
	p, _ := e.ledger.get(impUID)
	return p.confirmURL, slices.Clone(p.noticeURL)
}

// Requests returns how many requests reached an endpoint of the API, answered or not, or how many webhooks of a kind were sent.
func (e *Emulator) Requests(endpoint Endpoint) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[endpoint]
}

// TokensIssued returns how many different access tokens have been issued.
func (e *Emulator) TokensIssued() int {
	return e.tokens.count()
}

// ExpireTokens ends the life of every access token now: each is answered 401, and the next POST /users/getToken gives a new one.
func (e *Emulator) ExpireTokens() {
	e.tokens.expireAll()
}

func (e *Emulator) count(endpoint Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[endpoint]++
}

// now returns the API's time in Unix seconds, the API's only resolution.
func (e *Emulator) now() int64 {
	return e.opts.Now().Unix()
}

// route is one request that the emulator serves: an endpoint of the API, or a control of the sandbox.
type route struct {
	path     []string // escaped segments, "*" for any
	method   string
	endpoint Endpoint
	api      func(*call) answer
	control  http.HandlerFunc
}

func (e *Emulator) newRoutes() []route {
	api := func(method, path string, endpoint Endpoint, do func(*call) answer) route {
		return route{path: strings.Split(path, "/"), method: method, endpoint: endpoint, api: do}
	}
	control := func(method, path string, do http.HandlerFunc) route {
		return route{path: strings.Split(path, "/"), method: method, control: do}
	}
	return []route{
		api(http.MethodPost, "users/getToken", EndpointToken, e.getToken),
		api(http.MethodPost, "cvs", EndpointIssue, e.issue),
		api(http.MethodDelete, "cvs/*", EndpointVoid, e.void),
		api(http.MethodGet, "payments", EndpointPayments, e.payments),
		api(http.MethodGet, "payments/*", EndpointPayment, e.payment),
		api(http.MethodGet, "payments/*/balance", EndpointBalance, e.balance),
		api(http.MethodGet, "payments/find/*", EndpointFind, e.find),
		api(http.MethodGet, "payments/find/*/*", EndpointFind, e.find),
		api(http.MethodGet, "payments/findAll/*", EndpointFindAll, e.findAll),
		api(http.MethodGet, "payments/findAll/*/*", EndpointFindAll, e.findAll),
		api(http.MethodGet, "payments/status/*", EndpointList, e.list),
		api(http.MethodPost, "payments/cancel", EndpointCancel, e.cancelPayment),
		api(http.MethodPost, "payments/prepare", EndpointPrepare, e.prepare),
		api(http.MethodPut, "payments/prepare", EndpointPrepare, e.prepareAgain),
		api(http.MethodGet, "payments/prepare/*", EndpointPrepare, e.preparedPayment),
		api(http.MethodPost, "subscribe/payments/onetime", EndpointCard, e.payByCard),
		control(http.MethodGet, "", e.serveRoot),
		control(http.MethodGet, "till", e.servePage),
		control(http.MethodGet, "till.css", e.serveFile("till.css", "text/css; charset=utf-8")),
		control(http.MethodGet, "till.js", e.serveFile("till.js", "text/javascript; charset=utf-8")),
		control(http.MethodGet, "till.svg", e.serveFile("till.svg", "image/svg+xml")),
		control(http.MethodPost, "till", e.serveTill),
		control(http.MethodPost, "till-faults", e.serveFaultForm),
		control(http.MethodPost, "till-normal", e.serveNormal),
		control(http.MethodGet, "sandbox/payments", e.servePayments),
		control(http.MethodGet, "sandbox/faults", e.serveFaults),
		control(http.MethodPost, "sandbox/faults", e.serveInject),
		control(http.MethodDelete, "sandbox/faults", e.serveClear),
	}
}

// fixedWords stand in paths where others have an imp_uid.
var fixedWords = []string{"cancel", "find", "findAll", "prepare", "status"}

// matches reports whether the escaped segments are the route's, and returns those in the place of a "*". One slash at the end
// of a path of the API means nothing, as many clients write one.
func (rt route) matches(segments []string) (args []string, ok bool) {
	if last := len(segments) - 1; rt.api != nil && last > 0 && segments[last] == "" {
		segments = segments[:last]
	}
	if len(segments) != len(rt.path) {
		return nil, false
	}
	for i, want := range rt.path {
		switch {
		case want == "*" && i == 1 && rt.path[0] == "payments" && slices.Contains(fixedWords, segments[1]):
			return nil, false
		case want == "*":
			arg, err := url.PathUnescape(segments[i])
			if err != nil {
				return nil, false
			}
			args = append(args, arg)
		case want != segments[i]:
			return nil, false
		}
	}
	return args, true
}

// methods are those by which a route is called. Clients of the API look up by POST, too.
func (rt route) methods() []string {
	if rt.api != nil && rt.method == http.MethodGet {
		return []string{http.MethodGet, http.MethodPost}
	}
	return []string{rt.method}
}

// ServeHTTP serves the API, the till and the controls of the sandbox.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Cvs-Sandbox", "true")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// The escaped path keeps an order number apart from the path around it even if it contains a slash.
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	var allow []string
	for _, rt := range e.routes {
		args, ok := rt.matches(segments)
		switch {
		case !ok:
		case !slices.Contains(rt.methods(), r.Method):
			allow = append(allow, rt.methods()...)
		case rt.api != nil:
			e.serveAPI(w, r, rt, args)
			return
		default:
			e.serveControl(w, r, rt)
			return
		}
	}
	if allow == nil {
		write(w, failed(http.StatusNotFound, "존재하지 않는 API입니다. 주소를 확인해주세요."))
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	write(w, failed(http.StatusMethodNotAllowed, "허용되지 않는 메서드입니다."))
}

// call is one request to the API on its way through the emulator.
type call struct {
	request *http.Request
	body    []byte
	args    []string // what the path carries
	impKey  string   // whose token the request carries
}

func (e *Emulator) serveAPI(w http.ResponseWriter, r *http.Request, rt route, args []string) {
	e.count(rt.endpoint)
	body, problem := readBody(w, r)
	if problem != nil {
		write(w, *problem)
		return
	}
	seen := func() *http.Request {
		r := r.WithContext(r.Context()) // a copy
		r.Body = io.NopCloser(bytes.NewReader(body))
		return r
	}
	if e.opts.BeforeRequest != nil {
		e.opts.BeforeRequest(rt.endpoint, seen())
	}
	fault := e.fault(rt.endpoint, seen)
	ctx := r.Context()
	if !fault.CancelWithClient {
		ctx = context.WithoutCancel(ctx)
	}
	if e.pause(ctx, fault.Delay) != nil || fault.Drop == DropBefore {
		panic(http.ErrAbortHandler)
	}
	deliver(w, fault, e.perform(rt, &call{request: r, body: body, args: args}, fault))
}

// perform does a request's work, unless the fault stands in for it.
func (e *Emulator) perform(rt route, c *call, fault Fault) answer {
	if a, ok := fault.answer(); ok {
		return a
	}
	if rt.endpoint == EndpointToken {
		return rt.api(c)
	}
	token := bearer(c.request)
	if fault.ExpiredToken {
		e.tokens.expire(token)
	}
	var ok bool
	if c.impKey, ok = e.tokens.owner(token, e.now()); !ok {
		return failed(http.StatusUnauthorized, "Unauthorized")
	}
	return rt.api(c)
}

// pause waits for the delay of a fault. It returns early, with the context's error, if ctx ends, and without one on Close.
func (e *Emulator) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.ctx.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// readBody reads a request's body to its end, which also lets the server notice that the client has left.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *answer) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err == nil {
		return body, nil
	}
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, new(failed(http.StatusRequestEntityTooLarge, "요청 본문이 너무 큽니다."))
	}
	return nil, new(failed(http.StatusBadRequest, "요청 본문을 읽을 수 없습니다."))
}

func defaultTo[T int | time.Duration](v, fallback T) T {
	if v <= 0 {
		return fallback
	}
	return v
}

// seconds rounds up, so that a life of less than a second is not none.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
