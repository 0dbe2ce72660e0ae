package caddycvs

// This file holds the order checks of cvs_confirm: how one is asked, and what
// its answer means.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

// OrderCheck asks the merchant's app whether an order may be paid now, at a URL
// or through a route of Caddy's handlers.
type OrderCheck struct {
	// Name stands for the check in logs. Default: its position, from 1
	Name string `json:"name,omitempty"`

	// URL is where to ask: http or https. Placeholders may stand in its path
	// and query and are escaped for their place.
	URL string `json:"url,omitempty"`

	// Route are the handlers to ask instead of a URL.
	Route caddyhttp.RouteList `json:"route,omitempty"`

	// Method is POST, with the webhook's body as it came, or GET without one.
	// Default: POST. Not for a route.
	Method string `json:"method,omitempty"`

	// Header are further header fields to send, with placeholders. Not for a route.
	Header map[string]string `json:"header,omitempty"`

	// Timeout bounds this check; the handler's bounds them all. Default: 3s
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Accept are the statuses that mean yes: 200 to 299, or "2xx". Default: 200
	Accept []string `json:"accept,omitempty"`

	// Require are conditions on the JSON answer, all of which must hold.
	Require []Requirement `json:"require,omitempty"`

	// Amount is the gjson path of the number that must equal the barcode's amount.
	Amount string `json:"amount,omitempty"`

	// Reason is the gjson path of the text to give on refusal. Default: reason
	Reason string `json:"reason,omitempty"`

	// Shadow makes the check one that is asked and logged but never decides.
	Shadow bool `json:"shadow,omitempty"`

	url       template
	header    map[string]template
	handler   caddyhttp.Handler
	used      []string // placeholders in Route that the site may define
	transport http.RoundTripper
}

// Requirement is a gjson path in the JSON answer and the value it must have.
type Requirement struct {
	Path  string `json:"path,omitempty"`
	Value string `json:"value,omitempty"`
}

const (
	defaultCheckTimeout = 3 * time.Second
	maxCheckAnswer      = 64_000
)

func (o *OrderCheck) provision(ctx caddy.Context, transport http.RoundTripper) (err error) {
	o.transport = transport
	if o.Timeout == 0 {
		o.Timeout = caddy.Duration(defaultCheckTimeout)
	}
	if o.Reason == "" {
		o.Reason = "reason"
	}
	if err := o.validate(); err != nil {
		return err
	}
	if err := checkDuration("timeout", o.Timeout, time.Millisecond); err != nil {
		return err
	}
	if o.Route != nil {
		o.used = sitePlaceholders(caddyconfig.JSON(o.Route, nil))
		if err := o.Route.Provision(ctx); err != nil {
			return fmt.Errorf("route: %w", err)
		}
		o.handler = o.Route.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		return nil
	}
	if o.Method == "" {
		o.Method = http.MethodPost
	}
	if o.url, err = parseURLTemplate(o.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	o.header = make(map[string]template, len(o.Header))
	for _, name := range slices.Sorted(maps.Keys(o.Header)) {
		if o.header[name], err = parseTemplate(o.Header[name]); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
		if slices.ContainsFunc(o.header[name], func(p part) bool { return !fitsHeader(p.literal) }) {
			return fmt.Errorf("header %s: the value has a line break or another control character", name)
		}
	}
	return nil
}

func (o *OrderCheck) validate() error {
	switch {
	case (o.URL == "") == (o.Route == nil):
		return errors.New("need either a URL or a route")
	case o.Route != nil && len(o.Route) == 0:
		return errors.New("the route has no handler")
	case o.Accept != nil && len(o.Accept) == 0:
		return errors.New("accept is empty: no status would mean yes")
	case slices.ContainsFunc(o.Require, func(r Requirement) bool { return r.Path == "" }):
		return errors.New("require needs a path")
	case o.Route != nil && (o.Method != "" || o.Header != nil):
		return errors.New("method and header are for a URL: in a route use Caddy's method and request_header")
	case o.Method != "" && o.Method != http.MethodGet && o.Method != http.MethodPost:
		return errors.New("method must be GET or POST")
	}
	seen := make(map[string]bool, len(o.Header))
	for _, name := range slices.Sorted(maps.Keys(o.Header)) {
		if err := checkHeaderName(name); err != nil {
			return err
		}
		if name = http.CanonicalHeaderKey(name); seen[name] {
			return fmt.Errorf("header %s is given twice", name)
		}
		seen[name] = true
	}
	for _, status := range o.Accept {
		if err := checkAccept(status); err != nil {
			return err
		}
	}
	return nil
}

func checkHeaderName(name string) error {
	switch {
	case !headerPattern.MatchString(name):
		return fmt.Errorf("header %q: not a name of a header field", name)
	case strings.HasPrefix(http.CanonicalHeaderKey(name), "X-Cvs-"):
		return fmt.Errorf("header %s: the X-Cvs- fields are reserved, every check gets them", name)
	}
	return nil
}

// fitsHeader reports whether a value can be sent in a header field.
func fitsHeader(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func checkAccept(status string) error {
	if code, err := strconv.Atoi(status); status != "2xx" && (err != nil || code < 200 || code > 299) {
		return fmt.Errorf("accept %s: only 200 to 299 and 2xx can mean yes", status)
	}
	return nil
}

var headerPattern = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+$")

// verdict is what a check says of an order.
type verdict string

const (
	yes      verdict = "yes"
	no       verdict = "no"
	noAnswer verdict = "no answer"
)

// result is one check's answer.
type result struct {
	check   *OrderCheck
	verdict verdict
	why
	reason   string
	status   int
	duration time.Duration
}

// saysNo reports whether a status means no by itself, whatever the body says.
func (o *OrderCheck) saysNo(status int) bool {
	return 200 <= status && status < 300 && !o.accepts(status) || 400 <= status && status < 500
}

// judge decides what an answer means, as far as it has come; broken says why no more of
// it did. A final status that means no counts even if nothing else of the answer does.
func (o *OrderCheck) judge(status int, body []byte, broken why, amount string) (verdict, why) {
	switch {
	case o.saysNo(status):
		return no, why{causeStatus, setupFault(status)}
	case broken.cause != "":
		return noAnswer, broken
	case status == 0:
		return noAnswer, why{cause: causeSilent}
	case status >= 500 || status < 200:
		return noAnswer, why{cause: causeServerError}
	case 300 <= status && status < 400:
		return noAnswer, why{cause: causeRedirect}
	case o.Require == nil && o.Amount == "":
		return yes, why{}
	}
	text := string(body)
	if !gjson.Valid(text) {
		return noAnswer, why{causeJSON, notJSON(body)}
	}
	answer := gjson.Parse(text)
	for _, r := range o.Require {
		if v := answer.Get(r.Path); !holds(v, r.Value) {
			return no, why{causeCondition, mismatch(r.Path, v)}
		}
	}
	switch v := answer.Get(o.Amount); {
	case o.Amount == "" || sameAmount(v, amount):
		return yes, why{}
	case amount == "":
		return no, why{causeAmount, "the barcode's amount is not known"}
	default:
		return no, why{causeAmount, mismatch(o.Amount, v)}
	}
}

func (o *OrderCheck) accepts(status int) bool {
	if o.Accept == nil {
		return status == http.StatusOK
	}
	return slices.ContainsFunc(o.Accept, func(a string) bool {
		return a == strconv.Itoa(status) || a == "2xx" && status/100 == 2
	})
}

// holds reports whether a JSON value is the wanted one: numbers by value,
// strings by their text, true, false and null by their names.
func holds(v gjson.Result, want string) bool {
	switch v.Type {
	case gjson.Number:
		return decimal.Equal(v.Raw, want)
	case gjson.String:
		return v.Str == want
	case gjson.True, gjson.False, gjson.Null:
		return v.Exists() && v.Raw == want
	default:
		return false
	}
}

// sameAmount compares numbers, not text: 15000, 15000.0 and "15000" are equal.
// An amount that is not known equals none.
func sameAmount(v gjson.Result, amount string) bool {
	switch v.Type {
	case gjson.Number:
		return decimal.Equal(v.Raw, amount)
	case gjson.String:
		return decimal.Equal(v.Str, amount)
	default:
		return false
	}
}

// question is a confirm webhook as the checks see it.
type question struct {
	decision
	contentType string
	body        []byte
	request     *http.Request
	repl        *caddy.Replacer
	deadline    time.Time
}

// inquiry is one check, ready to be asked: nothing in it is shared with the
// request that Caddy is serving, so that it may go on after the answer.
type inquiry struct {
	check   *OrderCheck
	request *http.Request
	repl    *caddy.Replacer // a route's own
	vars    map[string]any  // of a route, as the site set them
	body    []byte
	amount  string
	cause   string // why it cannot be asked
}

// prepare builds the inquiry, in the goroutine of the request.
func (o *OrderCheck) prepare(q *question) *inquiry {
	in := &inquiry{check: o, body: q.body, amount: q.ticket.Amount}
	header := q.header(min(time.Duration(o.Timeout), time.Until(q.deadline)))
	if o.handler != nil {
		in.request, in.repl, in.vars = o.routeRequest(q, header), caddy.NewReplacer(), siteVars(q.request)
		in.repl.Map(q.placeholder)
		in.repl.Map(o.snapshot(q.repl))
		return in
	}
	target, err := o.url.expandURL(q.repl)
	if err != nil {
		in.cause = causePath
		return in
	}
	method := o.Method
	if method == http.MethodGet {
		in.body = nil
		header.Del("Content-Type")
	}
	in.request = &http.Request{Method: method, URL: target, Host: target.Host, Header: header}
	for name, t := range o.header {
		value, _ := t.expand(q.repl)
		if !fitsHeader(value) {
			in.cause = causeHeader
		}
		header.Set(name, value)
	}
	if host := header.Get("Host"); host != "" {
		in.request.Host = host
		header.Del("Host")
	}
	return in
}

// header returns what every check is told. A client's own X-Cvs fields have no
// part in it.
func (q *question) header(left time.Duration) http.Header {
	values := make([]string, 0, 8) // of all fields, at one place
	h := make(http.Header, cap(values))
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set("Content-Type", q.contentType)
	set("User-Agent", "caddy-cvs")
	set("X-Cvs-Imp-Uid", q.webhook.ImpUID)
	set("X-Cvs-Merchant-Uid", q.webhook.MerchantUID)
	set("X-Cvs-Timeout-Ms", strconv.FormatInt(max(left.Milliseconds(), 0), 10))
	if q.ticket.Amount != "" {
		set("X-Cvs-Amount", q.ticket.Amount)
	}
	if q.ticket.Expires != 0 {
		set("X-Cvs-Expires", strconv.FormatInt(q.ticket.Expires, 10))
	}
	if parent := q.request.Header.Get("Traceparent"); parent != "" {
		set("Traceparent", parent)
	}
	return h
}

// routeRequest is the webhook's request for a route, without the query, which
// holds the signature, and without the sender's header fields.
func (o *OrderCheck) routeRequest(q *question, header http.Header) *http.Request {
	r := q.request.Clone(context.WithoutCancel(q.request.Context()))
	r.Method, r.Header, r.Trailer, r.TransferEncoding = http.MethodPost, header, nil, nil
	r.URL.RawQuery, r.URL.ForceQuery = "", false
	r.RequestURI = r.URL.RequestURI()
	header.Set("Content-Length", strconv.Itoa(len(q.body)))
	return r
}

// ask asks the check and returns its verdict. This is what bounds a check: by its own
// timeout, or the end of ctx, whatever the shop and the handlers of a route do.
func (in *inquiry) ask(ctx context.Context) result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(in.check.Timeout))
	defer cancel()
	res := result{check: in.check, verdict: no, why: why{cause: in.cause}}
	if in.cause == "" {
		r := newReply()
		go in.fetch(ctx, r)
		select {
		case <-r.done:
		case <-ctx.Done():
		}
		res = in.judge(r)
	}
	res.duration = time.Since(began)
	return res
}

// fetch has the reply written. A panic breaks it off: nobody above this goroutine
// would recover it.
func (in *inquiry) fetch(ctx context.Context, r *reply) {
	broken := why{causeBroken, "a handler panicked"}
	defer func() {
		if recover() == http.ErrAbortHandler { //nolint:errorlint // panics are not wrapped
			broken.detail = "the answer broke off"
		}
		if ctx.Err() != nil && broken.cause == "" { // what ends with the time is no answer in time
			broken.cause = causeTimeout
		}
		r.end(broken)
	}()
	if in.check.handler != nil {
		broken = in.askRoute(ctx, r)
	} else {
		broken = in.askURL(ctx, r)
	}
}

// judge decides what a reply means, and reads the reason of a no.
func (in *inquiry) judge(r *reply) result {
	status, body, broken := r.soFar()
	res := result{check: in.check, status: status}
	res.verdict, res.why = in.check.judge(status, body, broken, in.amount)
	if res.verdict == no && gjson.ValidBytes(body) {
		if text := gjson.GetBytes(body, in.check.Reason); text.Type == gjson.String {
			res.reason = text.Str
		}
	}
	return res
}

// askURL sends the request, again while there is time if no connection can be
// made. A request that may have arrived is not repeated.
func (in *inquiry) askURL(ctx context.Context, answer *reply) why {
	for wait := 25 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		r := in.request.WithContext(ctx)
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(in.body)), nil }
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(in.body)), int64(len(in.body))
		if len(in.body) == 0 {
			r.Body = http.NoBody
		}
		resp, err := in.check.transport.RoundTrip(r)
		if err == nil {
			return answer.read(resp)
		}
		if _, dialing := errors.AsType[reverseproxy.DialError](err); !dialing {
			return failed(err)
		}
		unreachable := why{causeUnreachable, client.Cause(err)}
		answer.pending(unreachable)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return unreachable
		}
	}
}

// askRoute runs the route's handlers as a request of its own.
func (in *inquiry) askRoute(ctx context.Context, answer *reply) why {
	server, _ := in.request.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	r := in.request.WithContext(joinedContext{ctx, in.request.Context()})
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(in.body)), int64(len(in.body))
	r = caddyhttp.PrepareRequest(r, in.repl, answer, server)
	for name, value := range in.vars {
		caddyhttp.SetVar(r.Context(), name, value)
	}
	err := in.check.handler.ServeHTTP(answer, r)
	// If the time is over that is the cause, as fetch says, whatever the handlers say.
	if status, _, _ := answer.soFar(); err == nil || in.check.saysNo(status) || ctx.Err() != nil {
		return why{}
	}
	// Whatever was written before, an error cannot mean yes.
	if handler, ok := errors.AsType[caddyhttp.HandlerError](err); ok && handler.StatusCode >= 400 {
		answer.fail(handler.StatusCode)
	} else {
		answer.fail(http.StatusInternalServerError)
	}
	if detail := client.Cause(err); detail != client.CauseUnknown {
		return why{causeServerError, detail}
	}
	return why{causeServerError, "the route ended with an error"}
}

// joinedContext has the end of one context and the values of another, without those
// of Caddy: they belong to the request that Caddy is serving, and some of them steer
// its connection.
type joinedContext struct {
	context.Context
	values context.Context
}

func (c joinedContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	if _, caddys := key.(caddy.CtxKey); caddys {
		return nil
	}
	return c.values.Value(key)
}
