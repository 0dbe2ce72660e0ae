// Package emulator imitates PortOne's V1 API for payment in convenience stores (CVS) in memory: tokens, barcodes, payments, the
// till that scans a barcode, and the webhooks that follow. It moves no money, and every response says so in the header
// X-Cvs-Sandbox.
//
// It keeps the API's documented rules and can be told to fail (see [Fault]), so that a program can be tried over HTTP against
// everything that the real API may do. Where the API's documents do not say how the API behaves, a comment beginning with
// "Assumption" marks the choice made here.
//
// The package knows the API's requests, responses, rules and webhooks. It must not know Caddy. It must not import package client
// either, and client must not import it, so that a wrong idea of the API in one of them fails a test. What the till's page looks
// like and says is in package tillpage.
package emulator

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
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

// Options are the settings of an [Emulator]. The zero value is usable.
type Options struct {
	// Now is the API's clock, by default time.Now. The timeouts of webhooks and the delays of faults use the real clock.
	Now func() time.Time

	// Keys holds the accepted pairs of imp_key and imp_secret. If nil, any pair of non-empty keys is accepted.
	Keys map[string]string

	// TokenLife is the life of a new token, rounded up to whole seconds. By default 30 minutes.
	TokenLife time.Duration

	// Deadline is the time in which a barcode issued without expired_at must be paid, rounded up to whole seconds. In the real
	// service the contract defines it. By default 72 hours.
	Deadline time.Duration

	// ConfirmTimeout is how long the till waits for the response to the confirm webhook, by default 10 seconds. The API's
	// documents give 10 seconds in one place and 5 in another.
	ConfirmTimeout time.Duration

	// Lag makes the API's look-ups show the payments as they were so long ago by Now: as replicas of a database do, a new payment
	// is not found yet, and a paid or void one is still ready. Calls that change a payment, and the till, see it as it is. The
	// fault Stale does the same for single look-ups.
	Lag time.Duration

	// MaxPayments is the number of payments that are kept, by default 10,000. The oldest are removed first.
	MaxPayments int

	// Fractions says what happens to an amount with a fraction of a won, by default [FractionsRefuse].
	Fractions Fractions

	// LiveChannel makes the payments those of a live channel. By default they are those of a test channel, which the API hides
	// from GET /payments/{imp_uid} without include_sandbox=true.
	LiveChannel bool

	// CancelNotices sends a notice for each cancellation by POST /payments/cancel. The real service does so if the request has
	// enable_webhook, which works here, too.
	CancelNotices bool

	// NoticeForm sends the notices as forms. By default they are JSON. PortOne's console has a setting for it.
	NoticeForm bool

	// PublicWebhooks allows webhooks to public addresses. Otherwise they are sent only to loopback and private addresses,
	// whatever the host name in the URL.
	PublicWebhooks bool

	// Transport, if set, sends the webhooks instead of the emulator's own transport. PublicWebhooks then has no effect.
	Transport http.RoundTripper

	// BeforeRequest, if set, is called with each API request before a fault takes effect and before the request is processed.
	// It may block, and it may read the body.
	BeforeRequest func(endpoint Endpoint, r *http.Request)

	// Fault, if set, chooses the fault of each API request and of each webhook that no injected fault affects. It may read the
	// request, which is nil for a webhook. A fault that cannot have an effect on the endpoint is ignored.
	Fault func(endpoint Endpoint, r *http.Request) Fault
}

// Fractions says what happens to an amount with a fraction of a won. The API's documents do not say whether it keeps the fraction.
type Fractions string

// The values of [Fractions].
const (
	FractionsRefuse Fractions = ""      // as a gateway must do to be sure of the amount
	FractionsKeep   Fractions = "keep"  // the amount is kept as it was sent
	FractionsRound  Fractions = "round" // to whole won, halves away from zero, as a database column for whole numbers does
)

// Emulator is the API in memory. It is an [http.Handler]. Its methods may be called from several goroutines at the same time. It
// has no goroutines except those that serve a request, those that send the notices of cancellations and delayed notices, and those that
// process a request late (see [Fault]). Close ends the last two.
type Emulator struct {
	opts      Options
	routes    []route
	tokens    *tokens
	store     *store
	prepared  preparedAmounts
	faults    faultList
	scanLog   scanLog
	transport http.RoundTripper
	origins   *http.CrossOriginProtection

	ctx    context.Context // ended by Close
	cancel context.CancelFunc

	mu     sync.Mutex // guards counts and closed, and tasks.Add
	counts map[Endpoint]int
	closed bool
	tasks  sync.WaitGroup // scans, notices that nobody waits for, and late work
}

// New returns an emulator without payments.
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
		store:     newStore(opts.MaxPayments),
		prepared:  preparedAmounts{amounts: make(map[orderID]float64)},
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

// Close ends the delays of faults, cancels the webhooks that are being sent, and waits until their scans have ended and the
// requests that were to be processed late are processed. Later scans fail with [ErrClosed]. The API continues to respond. The
// error is always nil.
func (e *Emulator) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.cancel()
	e.tasks.Wait()
	return nil
}

// Payments returns the payments of all merchants, newest first.
func (e *Emulator) Payments() []Payment {
	payments := e.store.all()
	all := make([]Payment, 0, len(payments))
	for _, p := range slices.Backward(payments) {
		all = append(all, p.public())
	}
	return all
}

// WebhookURLs returns the confirm_url and the notice_urls of a payment with their query strings. The query strings may carry a
// signature, so they must not be printed. Both results are empty if the payment has no such URLs or is unknown.
func (e *Emulator) WebhookURLs(impUID string) (confirmURL string, noticeURL []string) {
	p, _ := e.store.get(impUID)
	return p.confirmURL, slices.Clone(p.noticeURL)
}

// Requests returns the number of requests to an endpoint of the API, including those without a response, or the number of
// webhooks sent.
func (e *Emulator) Requests(endpoint Endpoint) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[endpoint]
}

// TokensIssued returns the number of different access tokens that were issued.
func (e *Emulator) TokensIssued() int {
	return e.tokens.count()
}

// ExpireTokens expires every access token now. Requests with these tokens get 401, and the next POST /users/getToken gets a new
// token.
func (e *Emulator) ExpireTokens() {
	e.tokens.expireAll()
}

func (e *Emulator) count(endpoint Endpoint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[endpoint]++
}

// now returns the API's time in Unix seconds. The API has no finer resolution.
func (e *Emulator) now() int64 {
	return e.opts.Now().Unix()
}

// ServeHTTP serves the API, the till and its page, and the emulator's own endpoints below /sandbox.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Cvs-Sandbox", "true")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// The path is split in its escaped form, because an order number may contain a slash.
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
		writeResponse(w, failed(http.StatusNotFound, "존재하지 않는 API입니다. 주소를 확인해주세요."))
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	writeResponse(w, failed(http.StatusMethodNotAllowed, "허용되지 않는 메서드입니다."))
}

// call is one request to the API.
type call struct {
	request *http.Request
	body    []byte
	args    []string  // the variable segments of the path
	impKey  string    // of the merchant to whom the token was issued
	asOf    time.Time // a look-up shows the payments as they were then; the zero time means now
}

// serveAPI serves a request to an endpoint of the API, with its fault.
func (e *Emulator) serveAPI(w http.ResponseWriter, r *http.Request, rt route, args []string) {
	e.count(rt.endpoint)
	body, problem := readBody(w, r)
	if problem != nil {
		writeResponse(w, *problem)
		return
	}
	requestCopy := func() *http.Request {
		r := r.WithContext(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		return r
	}
	if e.opts.BeforeRequest != nil {
		e.opts.BeforeRequest(rt.endpoint, requestCopy())
	}
	fault := e.fault(rt.endpoint, requestCopy)
	ctx := r.Context()
	if !fault.CancelWithClient {
		ctx = context.WithoutCancel(ctx)
	}
	if e.pause(ctx, fault.Delay) != nil || fault.Drop == DropBefore {
		panic(http.ErrAbortHandler)
	}
	c := &call{request: r, body: body, args: args}
	if lag := cmp.Or(fault.Stale, e.opts.Lag); lag > 0 {
		c.asOf = e.opts.Now().Add(-lag)
	}
	writeFaulty(w, fault, e.process(rt, c, fault))
}

// process returns the response to a request: that of the fault, if it has one. It processes the request, unless the fault
// prevents that.
func (e *Emulator) process(rt route, c *call, fault Fault) response {
	answer, refused := fault.response()
	if refused && !fault.Done && fault.Late == 0 {
		return answer
	}
	done := e.authenticate(rt, c, fault)
	if refused {
		return answer
	}
	return done
}

// authenticate processes a request if its token is valid.
func (e *Emulator) authenticate(rt route, c *call, fault Fault) response {
	if rt.endpoint == EndpointToken {
		return rt.api(c)
	}
	token := requestToken(c.request)
	if fault.ExpiredToken {
		e.tokens.expire(token)
	}
	var ok bool
	if c.impKey, ok = e.tokens.owner(token, e.now()); !ok {
		return failed(http.StatusUnauthorized, "Unauthorized")
	}
	if fault.Late > 0 && e.startTask() {
		go func() {
			defer e.tasks.Done()
			_ = e.pause(context.Background(), fault.Late)
			rt.api(c)
		}()
		return response{} // nobody sees it
	}
	r := rt.api(c)
	if fault.Omit != "" {
		r = r.without(fault.Omit)
	}
	return r
}

// pause waits for the delay of a fault. It returns early if ctx ends, with the error of ctx, and on Close, without an error.
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

// readBody reads a request's body to its end. Only then can the server notice that the client closes the connection.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *response) {
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

// seconds returns a duration in seconds. It rounds up, so that a duration of less than a second does not become 0.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}
