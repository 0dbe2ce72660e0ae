package caddycvs

// This file holds cvs_proxy: its configuration, and the steps by which a call is sent to
// PortOne's API with an account's credentials.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func init() {
	caddy.RegisterModule(Proxy{})
}

// Proxy serves the part of PortOne's API that a convenience-store merchant needs, at the API's own paths, with an
// account's credentials, which the app never sees. It keeps an order from having two barcodes. Other calls of the
// API are answered 403, unless Serve lets them through. Requests for anything else go to the next handler.
type Proxy struct {
	// Account is the name of the account whose credentials are used. Default: the unnamed account.
	Account string `json:"account,omitempty"`

	// Allow lists the client addresses that may call, as IP addresses or CIDR ranges; "private_ranges" stands for
	// Caddy's own list of private ranges. An empty list and "portone" are refused. Default: private_ranges.
	Allow []string `json:"allow,omitempty"`

	// PG fills the field pg where a request leaves it out, or has it as null or "": `galaxia` or `galaxia.{merchant
	// id}`. It may have placeholders, which are expanded at load. Default: none.
	PG string `json:"pg,omitempty"`

	// ChannelKey fills the field channel_key in the same way. Default: none.
	ChannelKey string `json:"channel_key,omitempty"`

	// ConfirmURL fills the field confirm_url in the same way, signed: an absolute http or https URL without
	// credentials, fragment, and parameters whose names contain `cvs_`. Without it PortOne asks nobody at the till,
	// and Caddy warns at load. Default: none.
	ConfirmURL string `json:"confirm_url,omitempty"`

	// NoticeURL fills the field notice_url in the same way, signed. What is refused is the same. Default: none.
	NoticeURL string `json:"notice_url,omitempty"`

	// ExpiresIn fills the field expired_at, counted from the request: a duration such as "72h", at least 1s. Without
	// it the gateway does not know the deadline of a barcode whose request names none, and Caddy warns at load.
	// Default: none.
	ExpiresIn caddy.Duration `json:"expires_in,omitempty"`

	// Repeat is what happens to a POST /cvs for an order that has a barcode: "reuse" answers with that barcode if the
	// request is the same and it can still be paid, and voids it before another one is issued; "pass" sends every
	// request to PortOne, which issues a second one. Default: reuse.
	Repeat string `json:"repeat,omitempty"`

	// Serve lists further calls of the API that are let through. Every other one is answered 403. Default: none.
	Serve []Serve `json:"serve,omitempty"`

	// MaxBody is the largest body of a request, in bytes; a larger one is answered 413. A negative number is refused.
	// Default: 64000.
	MaxBody int64 `json:"max_body,omitempty"`

	app      *App
	account  *account
	pending  *pendingCalls
	access   access
	defaults client.Defaults
	logger   *zap.Logger

	allowImplied bool // Allow is the default

	cancelled func(impUID, cancellationID string) // has the payment of a refund looked at
}

const (
	repeatReuse = "reuse"
	repeatPass  = "pass"

	defaultMaxBody = 64_000
	bodyTimeout    = 10 * time.Second // for a request's body to arrive
)

// CaddyModule returns the Caddy module information.
func (Proxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cvs_proxy",
		New: func() caddy.Module { return new(Proxy) },
	}
}

// Provision finds the account and resolves the defaults of requests.
func (p *Proxy) Provision(ctx caddy.Context) error {
	p.logger = ctx.Logger()
	app, err := loadApp(ctx)
	if err != nil {
		return err
	}
	if p.account, err = app.account(p.Account); err != nil {
		return err
	}
	app.waitAtStop(ctx)
	p.app, p.pending, p.cancelled = app, app.pending, p.tellLedger
	if p.Allow == nil {
		p.Allow, p.allowImplied = []string{"private_ranges"}, true
	}
	if p.ConfirmURL == "" {
		p.logger.Warn("no confirm_url: a barcode issued without one is paid at the till without asking the shop")
	}
	if p.ExpiresIn == 0 {
		p.logger.Warn("no expires_in: a barcode whose request has no expired_at has the contract's deadline, which the gateway does not know: it is looked up daily, and replaced after 72h")
	}
	if slices.Contains(p.Allow, "portone") {
		return errPortOneCalls
	}
	if err := p.access.provision(ctx, p.Allow); err != nil {
		return err
	}
	p.MaxBody = cmp.Or(p.MaxBody, defaultMaxBody)
	p.Repeat = cmp.Or(p.Repeat, repeatReuse)
	p.account.bypasses = p.account.bypasses || p.Repeat == repeatPass
	app.ledger.needed = app.ledger.needed || app.Ledger.Store != ledgerOff || p.Repeat == repeatReuse
	for i := range p.Serve {
		if err := p.Serve[i].provision(ctx); err != nil {
			return err
		}
	}
	return p.provisionDefaults()
}

func (p *Proxy) provisionDefaults() error {
	p.defaults = client.Defaults{ExpiresIn: time.Duration(p.ExpiresIn)}
	repl := caddy.NewReplacer()
	for _, o := range []struct {
		name, raw string
		text      *string
		url       **signedurl.Base
	}{
		{"pg", p.PG, &p.defaults.PG, nil},
		{"channel_key", p.ChannelKey, &p.defaults.ChannelKey, nil},
		{"confirm_url", p.ConfirmURL, nil, &p.defaults.ConfirmURL},
		{"notice_url", p.NoticeURL, nil, &p.defaults.NoticeURL},
	} {
		value, err := repl.ReplaceOrErr(o.raw, true, true)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", o.name, err)
		case o.text != nil:
			*o.text = value
		case value != "":
			if *o.url, err = signedurl.ParseBase(value); err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			p.warnAboutCallback(o.name, value)
		}
	}
	return nil
}

// Validate refuses values that the types allow.
func (p *Proxy) Validate() error {
	if p.MaxBody < 0 {
		return errors.New("max_body must be positive")
	}
	if p.Repeat != repeatReuse && p.Repeat != repeatPass {
		return fmt.Errorf("repeat must be reuse or pass, not %q", p.Repeat)
	}
	if err := validateDuration("expires_in", p.ExpiresIn, time.Second); err != nil {
		return err
	}
	return client.ValidatePG(p.defaults.PG)
}

// exchange is one call of an app that the gateway handles.
type exchange struct {
	record
	call     apiCall
	body     []byte
	issue    *client.Issue // of POST /cvs
	asksOnce bool          // the app must not ask again after a lost answer, because each request is sent
	answered func()        // to be called when a pending call was answered and logged
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	call, isAPI := parseCall(r, p.Serve)
	if !isAPI {
		return next.ServeHTTP(w, r)
	}
	began := time.Now()
	take(r)
	x := p.newExchange(call)
	x.traceID = traceID(r.Context())
	defer func() { x.answered() }()
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(x.placeholder)
	resp, err := p.handle(w, r, x)
	gone := r.Context().Err() != nil // must be read before the answer is sent, after which clients may leave
	if err != nil {
		if gone && !call.changes() {
			err = errGone
		}
		resp = x.errorAnswer(err)
		x.setError(w, r, err)
		closeUnread(w, r)
	}
	x.setAnswer(resp)
	if resp.RetryAfter != "" {
		w.Header().Set("Retry-After", resp.RetryAfter)
	}
	if x.reused {
		w.Header().Set("X-Cvs-Reused", "1")
	}
	sendErr := sendAnswer(w, resp.Status, resp.ContentType, resp.Body)
	x.gone, x.duration = gone || sendErr != nil, time.Since(began)
	p.lookAfterCancel(x, resp)
	p.app.publish(p.logger, &x.record)
	return nil
}

func (p *Proxy) newExchange(call apiCall) *exchange {
	x := &exchange{call: call, answered: func() {}, asksOnce: p.Repeat == repeatPass}
	x.kind, x.changes = apiCalls, call.changes()
	x.subject = subject{operation: call.operation, account: p.account.name, merchantUID: call.merchantUID, impUID: call.impUID}
	x.status = call.status
	if call.operation == opOther || call.operation == opUnserved {
		x.method, x.path = call.method, call.path
	}
	return x
}

// handle takes a call through its steps, until one of them fails.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request, x *exchange) (*client.Response, error) {
	if err := p.access.authorize(r); err != nil {
		return nil, err
	}
	if err := x.call.validate(r, p.account.tier); err != nil {
		return nil, err
	}
	if r.ContentLength != 0 || x.call.operation == opIssue {
		var err error
		if x.body, err = readBody(w, r, p.MaxBody, time.Now().Add(bodyTimeout)); err != nil {
			return nil, err
		}
	}
	contentType := r.Header.Get("Content-Type")
	if x.call.operation == opIssue {
		if err := p.complete(x, contentType); err != nil {
			return nil, err
		}
	}
	return p.send(r.Context(), x, contentType)
}

// complete validates a POST /cvs and fills in its defaults.
func (p *Proxy) complete(x *exchange, contentType string) error {
	now := p.account.client.State().Now()
	issue, err := client.ParseIssue(contentType, x.body, now)
	if err != nil {
		return unreadable(err)
	}
	x.body = nil // not held twice while the call is pending
	x.issue, x.merchantUID, x.amount = issue, issue.MerchantUID, issue.Amount
	if err := issue.Complete(p.defaults, p.account.keys, p.account.name, now); err != nil {
		return &httpError{status: http.StatusInternalServerError, message: err.Error() + ". Nothing was done."}
	}
	x.expires = issue.ExpiredAt
	return nil
}

// send sends the call. One that changes something is finished even if the app closes the
// connection: its outcome must be logged.
func (p *Proxy) send(ctx context.Context, x *exchange, contentType string) (*client.Response, error) {
	if x.call.operation == opToken {
		return p.answerToken(), nil
	}
	if x.call.changes() {
		ctx = context.WithoutCancel(ctx)
		about := x.subject
		if x.call.operation == opOther {
			about.operation = x.method + " " + x.path
		}
		x.answered = p.pending.begin(pendingCall{about, time.Now().Add(p.account.limit), x.traceID})
	}
	var out client.Request
	switch x.call.operation {
	case opIssue:
		return p.sendIssue(ctx, x)
	case opVoid:
		return p.sendVoid(ctx, x)
	case opFind:
		out = client.FindRequest(x.merchantUID, client.Status(x.call.status))
	case opPayment:
		out = client.PaymentRequest(x.impUID)
	default:
		out = client.Request{Method: x.call.method, Path: x.call.path, List: true, ContentType: contentType, Body: x.body}
	}
	out.Query = x.call.query
	return p.account.client.Do(ctx, out)
}

// placeholderToken is for SDKs that ask for a token before each call. It gives access to
// nothing: the gateway drops the Authorization that such an SDK then sends.
const placeholderToken = "held-by-caddy-cvs" //nolint:gosec // no credential

func (p *Proxy) answerToken() *client.Response {
	now := p.account.client.State().Now().Unix()
	return &client.Response{
		Status: http.StatusOK, ContentType: strict.JSON,
		Body: fmt.Appendf(nil, `{"code":0,"message":null,"response":{"access_token":%q,"now":%d,"expired_at":%d}}`, placeholderToken, now, now+1800),
	}
}

// setAnswer adds to the record what the answer tells of the call.
func (x *exchange) setAnswer(resp *client.Response) {
	x.httpStatus, x.code, x.recovered = resp.Status, resp.Code, resp.Recovered
	if x.retryAfter == "" {
		x.retryAfter = resp.RetryAfter
	}
	payment := gjson.GetBytes(resp.Body, "response")
	set := func(field *string, name string) {
		if v := payment.Get(name); v.Exists() {
			*field = v.String()
		}
	}
	set(&x.impUID, "imp_uid")
	set(&x.merchantUID, "merchant_uid")
	set(&x.status, "status")
	if x.amount == "" {
		set(&x.amount, "amount")
	}
}

// setError adds to the record why the gateway answers by itself.
func (x *exchange) setError(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*httpError](err); ok {
		x.refuse(w, e)
		if e.rule != "" {
			x.clientIP = clientIP(r)
		}
		return
	}
	x.cause.name = err.Error()
	if foreign, ok := errors.AsType[*client.NotAPIError](err); ok {
		x.retryAfter = foreign.RetryAfter // for the log, even if it is not passed on
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Proxy)(nil)
	_ caddy.Validator             = (*Proxy)(nil)
	_ caddyhttp.MiddlewareHandler = (*Proxy)(nil)
)
