package caddycvs

// This file holds cvs_proxy: PortOne's API with an account's credentials.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func init() {
	caddy.RegisterModule(Proxy{})
}

// Proxy serves the part of PortOne's API that a convenience-store merchant
// needs, at the API's own paths, with an account's credentials. Other calls of the API
// are answered 404, unless Serve lets them through. Requests for anything else go to
// the next handler.
type Proxy struct {
	// Account is the name of the account to use. Default: the unnamed one
	Account string `json:"account,omitempty"`

	// Allow lists the client addresses that may call, as IPs or CIDR ranges;
	// "private_ranges" stands for Caddy's own list. Default: private_ranges
	Allow []string `json:"allow,omitempty"`

	// PG fills the field pg where a request leaves it out.
	PG string `json:"pg,omitempty"`

	// ChannelKey fills the field channel_key where a request leaves it out.
	ChannelKey string `json:"channel_key,omitempty"`

	// ConfirmURL fills the field confirm_url, signed.
	ConfirmURL string `json:"confirm_url,omitempty"`

	// NoticeURL fills the field notice_url, signed.
	NoticeURL string `json:"notice_url,omitempty"`

	// ExpiresIn fills the field expired_at, counted from the request.
	ExpiresIn caddy.Duration `json:"expires_in,omitempty"`

	// Serve lists further calls of the API that are let through.
	Serve []Serve `json:"serve,omitempty"`

	// MaxBody is the greatest size of a request's body in bytes. Default: 64000
	MaxBody int64 `json:"max_body,omitempty"`

	account  *account
	calls    *underWay
	access   access
	defaults client.Defaults
	logger   *zap.Logger
}

const (
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

// Provision finds the account and prepares what fills in requests.
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
	p.calls = app.calls
	if p.Allow == nil {
		p.Allow = []string{"private_ranges"}
	}
	if p.ConfirmURL == "" {
		p.logger.Warn("no confirm_url: a barcode issued without one is paid at the till without asking the shop")
	}
	if slices.Contains(p.Allow, "portone") {
		return errPortOneCalls
	}
	if err := p.access.provision(ctx, p.Allow); err != nil {
		return err
	}
	if p.MaxBody == 0 {
		p.MaxBody = defaultMaxBody
	}
	for i := range p.Serve {
		if err := p.Serve[i].provision(ctx); err != nil {
			return err
		}
	}
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
			p.warnOfCallback(o.name, value)
		}
	}
	return nil
}

// Validate checks what the types leave open.
func (p *Proxy) Validate() error {
	if p.MaxBody < 0 {
		return errors.New("max_body must be positive")
	}
	if err := checkDuration("expires_in", p.ExpiresIn, time.Second); err != nil {
		return err
	}
	return client.CheckPG(p.defaults.PG)
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	call, ok := p.parseRequest(r)
	if !ok {
		return next.ServeHTTP(w, r)
	}
	began := time.Now()
	take(r)
	x := &exchange{call: call, query: dropToken(r), account: p.account.name, answered: func() {}}
	defer func() { x.answered() }()
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(x.placeholder)
	resp, err := p.serve(w, r, x)
	gone := r.Context().Err() != nil // now; who leaves with the answer has it
	if gone && err != nil && !x.call.changes() {
		err = errGone
	}
	if err != nil {
		resp = x.own(err)
		closeUnread(w, r)
	}
	if resp.RetryAfter != "" {
		w.Header().Set("Retry-After", resp.RetryAfter)
	}
	x.read(resp)
	writeErr := sendAnswer(w, resp.Status, resp.ContentType, resp.Body)
	p.log(x, r, resp, err, gone || writeErr != nil, time.Since(began))
	return nil
}

// errGone ends a look-up whose app has hung up, which is nobody's fault. The status is
// what Caddy's reverse_proxy gives then.
var errGone = &httpError{status: 499, message: "The app hung up before PortOne answered."}

// serve answers one call. Its errors become answers of exchange.own.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, x *exchange) (*client.Response, error) {
	if err := p.access.check(r); err != nil {
		return nil, err
	}
	if err := p.access.checkForwarded(r); err != nil {
		return nil, err
	}
	// No app is a browser: what a browser sends, some page made it send.
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return nil, forbidden(ruleBrowser, "A browser may not call the gateway: call it from the app's server, without Origin and Sec-Fetch-Site.")
	}
	for _, tier := range r.Header.Values("Tier") {
		if tier != "" && tier != p.account.tier {
			return nil, &httpError{status: http.StatusBadRequest, message: "The field Tier asks for another sub-merchant than this gateway's account, whose tier is " + strconv.Quote(p.account.tier) + ": leave it out, or call the gateway of the other account."}
		}
	}
	if x.call.operation == unserved {
		return nil, x.call.notServed(r)
	}
	if !x.call.takes(r.Method) {
		w.Header().Set("Allow", x.call.methods())
		return nil, &httpError{status: http.StatusMethodNotAllowed, message: "use " + x.call.method + " here"}
	}
	if !x.call.valid() {
		return nil, &httpError{status: http.StatusBadRequest, message: "a value in the path is . or .., or has a control character, and would lead to another call of the API"}
	}
	if strings.Contains(r.URL.RawQuery, " ") { // HTTP/2 lets it through, and it would end the target of an HTTP/1 request
		return nil, &httpError{status: http.StatusBadRequest, message: "the query has a space: write it as %20"}
	}
	if x.call.operation == "issue" {
		if x.query != "" { // dropped, it would be a field that the app believes to have sent
			return nil, &httpError{status: http.StatusBadRequest, message: "POST /cvs takes its fields in the body, and the URL has a query: nothing was sent"}
		}
		return p.issue(w, r, x)
	}
	var body []byte
	if r.ContentLength != 0 {
		var err error
		if body, err = readBody(w, r, p.MaxBody, time.Now().Add(bodyTimeout)); err != nil {
			return nil, err
		}
	}
	switch x.call.operation {
	case "token":
		return p.token(), nil
	case "other":
		return p.other(r, x, body)
	case "void":
		// Once sent, a void must be seen through even if the caller has left.
		x.answered = p.begin(pendingCall{operation: "void", impUID: x.call.impUID})
		return p.account.client.Do(context.WithoutCancel(r.Context()), x.withQuery(client.VoidRequest(x.call.impUID)))
	case "find":
		return p.account.client.Do(r.Context(), x.withQuery(client.FindRequest(x.call.merchantUID, client.Status(x.call.status))))
	default:
		return p.account.client.Do(r.Context(), x.withQuery(client.PaymentRequest(x.call.impUID)))
	}
}

func (x *exchange) withQuery(out client.Request) client.Request {
	out.Query = x.query
	return out
}

// other sends a call that only the option serve lets through, once.
func (p *Proxy) other(r *http.Request, x *exchange, body []byte) (*client.Response, error) {
	ctx := r.Context()
	if x.call.changes() {
		ctx = context.WithoutCancel(ctx)
		x.answered = p.begin(pendingCall{operation: r.Method + " " + x.call.path})
	}
	return p.account.client.Do(ctx, x.withQuery(client.Request{
		Method: r.Method, Path: x.call.path, List: true, ContentType: r.Header.Get("Content-Type"), Body: body,
	}))
}

func (p *Proxy) issue(w http.ResponseWriter, r *http.Request, x *exchange) (*client.Response, error) {
	body, err := readBody(w, r, p.MaxBody, time.Now().Add(bodyTimeout))
	if err != nil {
		return nil, err
	}
	now := p.account.client.State().Now()
	issue, err := client.ParseIssue(r.Header.Get("Content-Type"), body, now)
	if errors.Is(err, strict.ErrMediaType) {
		return nil, &httpError{status: http.StatusUnsupportedMediaType, message: err.Error()}
	}
	if err != nil {
		return nil, &httpError{status: http.StatusBadRequest, message: err.Error()}
	}
	x.call.merchantUID, x.amount = issue.MerchantUID, issue.Amount
	if err := issue.Complete(p.defaults, p.account.keys, p.account.name, now); err != nil {
		return nil, &httpError{status: http.StatusInternalServerError, message: err.Error() + ". Nothing was done."}
	}
	x.expires = issue.ExpiredAt
	x.answered = p.begin(pendingCall{operation: "issue", merchantUID: issue.MerchantUID, amount: issue.Amount})
	// The caller's leaving must not leave a barcode that no log line names.
	return p.account.client.IssueRaw(context.WithoutCancel(r.Context()), issue)
}

// begin notes a call that changes something, until the function is called that it
// returns.
func (p *Proxy) begin(c pendingCall) (end func()) {
	c.account, c.latest = p.account.name, time.Now().Add(p.account.limit)
	return p.calls.begin(c)
}

// placeholderToken is what an SDK gets that asks for a token before each call.
// It opens nothing: whatever Authorization comes back is dropped.
const placeholderToken = "held-by-caddy-cvs" //nolint:gosec // no credential

func (p *Proxy) token() *client.Response {
	now := p.account.client.State().Now().Unix()
	return &client.Response{
		Status: http.StatusOK, ContentType: strict.JSON,
		Body: fmt.Appendf(nil, `{"code":0,"message":null,"response":{"access_token":%q,"now":%d,"expired_at":%d}}`, placeholderToken, now, now+1800),
	}
}

// exchange is what is known of one call, for the log and the placeholders.
type exchange struct {
	call    apiCall
	query   string // without a token
	account string
	amount  string
	expires int64
	code    int64 // the envelope's

	answered func() // called when the call was answered and logged
}

// read takes from an answer what is known of the call now.
func (x *exchange) read(resp *client.Response) {
	x.code = resp.Code
	for _, known := range [...]struct {
		path  string
		field *string
	}{
		{"response.imp_uid", &x.call.impUID},
		{"response.merchant_uid", &x.call.merchantUID},
		{"response.status", &x.call.status},
	} {
		if v := gjson.GetBytes(resp.Body, known.path); v.Exists() {
			*known.field = v.String()
		}
	}
	if x.amount == "" {
		x.amount = gjson.GetBytes(resp.Body, "response.amount").String()
	}
}

// placeholder tells logs and later handlers of the call.
func (x *exchange) placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, placeholderPrefix)
	if !ours {
		return nil, false
	}
	switch name {
	case "operation":
		return x.call.operation, true
	case "account":
		return x.account, true
	case "imp_uid":
		return x.call.impUID, true
	case "merchant_uid":
		return x.call.merchantUID, true
	case "status":
		return x.call.status, true
	case "amount":
		return x.amount, true
	case "expires":
		return when(x.expires != 0, strconv.FormatInt(x.expires, 10)), true
	case "code":
		return strconv.FormatInt(x.code, 10), true
	default:
		return nil, false
	}
}

// log writes one line per call: what changes something at Info, look-ups at
// Debug, failures that an operator should see at Error.
func (p *Proxy) log(x *exchange, r *http.Request, resp *client.Response, err error, gone bool, took time.Duration) {
	own, _ := errors.AsType[*httpError](err)
	isRefused := own != nil && own.rule != ""
	level := zapcore.DebugLevel
	switch {
	case resp.Status >= 500:
		level = zapcore.ErrorLevel
	case isRefused, x.call.operation == unserved, x.call.changes() && x.call.operation != "token":
		level = zapcore.InfoLevel
	}
	entry := p.logger.Check(level, "api call")
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.String("operation", x.call.operation),
		zap.String("account", x.account),
		zap.String("merchant_uid", x.call.merchantUID),
		zap.String("imp_uid", x.call.impUID),
		zap.String("amount", x.amount),
		zap.Int("status", resp.Status),
		zap.Int64("code", resp.Code),
		zap.Duration("duration", took),
	}
	if x.call.operation == unserved || x.call.operation == "other" {
		fields = append(fields, zap.String("method", x.call.method), zap.String("path", x.call.path))
	}
	if isRefused {
		fields = append(fields, zap.String("client_ip", clientIP(r)), zap.String("rule", own.rule))
	}
	if foreign, ok := errors.AsType[*client.NotAPIError](err); ok {
		fields = append(fields, unlessEmpty("retry_after", foreign.RetryAfter)) // perhaps not passed on
	} else {
		fields = append(fields, unlessEmpty("retry_after", resp.RetryAfter))
	}
	if resp.Recovered {
		fields = append(fields, zap.Bool("recovered", true))
	}
	if gone {
		fields = append(fields, zap.Bool("client_gone", true))
	}
	if err != nil {
		fields = append(fields, zap.String("cause", cause(err)))
	}
	entry.Write(fields...)
}

// cause is an error's text for the log. What was wrong with a request is not
// logged in detail: it is about the app's data.
func cause(err error) string {
	he, ok := errors.AsType[*httpError](err)
	switch {
	case !ok:
		return err.Error()
	case he == errGone:
		return "the app hung up"
	default:
		return strings.ToLower(http.StatusText(he.status))
	}
}

// own turns an error into an answer in the API's envelope.
func (x *exchange) own(err error) *client.Response {
	status, message := x.statusOf(err)
	body, _ := json.Marshal(map[string]any{"code": -1, "message": message, "response": nil})
	return &client.Response{
		Status: status, ContentType: strict.JSON, RetryAfter: x.retryAfter(status, err), Body: body, Code: -1,
	}
}

// retryAfter passes on what was asked for in the API's name, too, unless the work may be
// done: to a client that repeats by itself the field is leave to do it twice.
func (x *exchange) retryAfter(status int, err error) string {
	if unavailable, ok := errors.AsType[*client.UnavailableError](err); ok {
		return strconv.Itoa(int(math.Ceil(max(unavailable.RetryAfter.Seconds(), 1))))
	}
	if foreign, ok := errors.AsType[*client.NotAPIError](err); ok && !x.mayBeDone(err) {
		return foreign.RetryAfter
	}
	return when(status == http.StatusServiceUnavailable, "1")
}

// mayBeDone reports whether a call that failed may have changed something. Of one that
// issues a barcode the client finds out, unless it says that the outcome is unknown.
func (x *exchange) mayBeDone(err error) bool {
	return x.call.changes() && (errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrNotAPI) && x.call.operation != "issue")
}

func (x *exchange) statusOf(err error) (int, string) {
	if he, ok := errors.AsType[*httpError](err); ok {
		return he.status, he.message
	}
	inDoubt := errors.Is(err, client.ErrOutcomeUnknown)
	isForeign := errors.Is(err, client.ErrNotAPI)
	order := strconv.Quote(x.call.merchantUID)
	switch {
	case x.call.operation == "other" && x.mayBeDone(err):
		return http.StatusGatewayTimeout, "Outcome unknown: " + told(err) + ", and what was asked for may or may not have been done. Look the payment up before you ask again."
	case inDoubt && x.call.operation == "issue":
		return http.StatusGatewayTimeout, "Outcome unknown: " + told(err) + ", and order " + order + " may or may not have a barcode now. Look it up with GET /payments/find/" + url.PathEscape(x.call.merchantUID) + " before you ask again."
	case errors.Is(err, client.ErrCredentials):
		return http.StatusBadGateway, "PortOne refuses the gateway's credentials: check imp_key and imp_secret in Caddy's configuration. Nothing was done."
	case errors.Is(err, client.ErrNoToken):
		return http.StatusServiceUnavailable, "PortOne gives no access token at the moment (" + client.Cause(err) + "): try again later. Nothing was done."
	case isForeign && x.call.operation == "issue":
		return http.StatusBadGateway, capital(told(err)) + ", and PortOne knows of no new barcode for order " + order + ". It may be asked for again."
	case isForeign:
		return http.StatusBadGateway, capital(told(err)) + "." + x.afterwards() + advice(err)
	case errors.Is(err, client.ErrUnreachable):
		status := http.StatusBadGateway
		if client.IsTimeout(err) {
			status = http.StatusGatewayTimeout
		}
		return status, "PortOne cannot be reached: " + client.Cause(err) + ". Nothing was done."
	case client.IsTimeout(err):
		return http.StatusGatewayTimeout, "PortOne did not answer in time." + x.afterwards()
	default:
		return http.StatusBadGateway, capital(told(err)) + "." + x.afterwards()
	}
}

// told says what became of a call that was sent.
func told(err error) string {
	foreign, isForeign := errors.AsType[*client.NotAPIError](err)
	switch {
	case isForeign:
		return "the answer, of HTTP status " + strconv.Itoa(foreign.Status) + ", was not PortOne's"
	case client.IsTimeout(err):
		return "PortOne did not answer in time"
	default:
		return "PortOne's answer did not come: " + client.Cause(err)
	}
}

func capital(sentence string) string { return strings.ToUpper(sentence[:1]) + sentence[1:] }

// advice is what to do about an answer that was not the API's: whoever is in front of it
// may be down or busy, or the address is wrong.
func advice(err error) string {
	foreign, ok := errors.AsType[*client.NotAPIError](err)
	if ok && (foreign.Status == http.StatusTooManyRequests || foreign.Status >= 500) {
		return " Try again later."
	}
	return " Check the option api and what stands between."
}

func (x *exchange) afterwards() string {
	if x.call.operation == "void" {
		return " The barcode may or may not be void now: look it up with GET /payments/" + url.PathEscape(x.call.impUID) + "."
	}
	return ""
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Proxy)(nil)
	_ caddy.Validator             = (*Proxy)(nil)
	_ caddyhttp.MiddlewareHandler = (*Proxy)(nil)
)
