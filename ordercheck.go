package caddycvs

// This file holds the order checks of cvs_confirm: their configuration, and the request that
// each of them gets.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// OrderCheck asks the merchant's app whether an order may be paid now, at a URL or through a route of Caddy's
// handlers. An accepted status with all conditions met means yes. Another status below 500 that is no redirect
// means no, and so does a condition that is not met. Everything else is no answer.
type OrderCheck struct {
	// Name stands for the check in logs, metrics and traces. No two checks have the same one. Default: its position,
	// from 1.
	Name string `json:"name,omitempty"`

	// URL is where to ask: http or https, without credentials and fragment. Placeholders such as
	// `{http.cvs.merchant_uid}` may stand in its path and query, where their values are escaped. Required, unless
	// there is a route.
	URL string `json:"url,omitempty"`

	// Route is a list of routes to ask instead of a URL, with any of Caddy's handlers. They get the webhook's body at
	// its path. A check has a URL or a route. Default: none.
	Route caddyhttp.RouteList `json:"route,omitempty"`

	// Method is "POST", with the webhook's body as it came, or "GET", without one. It is refused beside a route.
	// Default: POST.
	Method string `json:"method,omitempty"`

	// Header has further header fields to send, with placeholders. X-Cvs-*, which every check gets, Idempotency-Key
	// and X-Idempotency-Key are refused, and so is any field beside a route. Default: none.
	Header map[string]string `json:"header,omitempty"`

	// Timeout limits this check: a duration such as "3s", at least 1ms. The handler's timeout limits all of them.
	// Default: 3s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Accept lists the statuses that mean yes: from 200 to 299, or "2xx" for all of these. An empty list is refused.
	// Default: 200.
	Accept []string `json:"accept,omitempty"`

	// Requirements are conditions on the JSON answer, all of which must hold. An empty list is refused. Default: none;
	// Caddy warns of a check that has neither these nor an amount.
	Requirements []Requirement `json:"requirements,omitempty"`

	// Amount is the gjson path of the number in the JSON answer that must equal the barcode's amount. Default: none.
	Amount string `json:"amount,omitempty"`

	// Reason is the gjson path of the text that the answer to the till gives if this check says no, at most 200
	// characters of it. Default: reason.
	Reason string `json:"reason,omitempty"`

	// Shadow has the check asked and its result logged, but it never decides. Default: false.
	Shadow bool `json:"shadow,omitempty"`

	target       target
	routeSegment caddyfile.Segment // of the Caddyfile, until it is parsed
	handler      caddyhttp.Handler
	siteNames    []string // of placeholders in Route that the site may define
	transport    http.RoundTripper
}

// Requirement is a condition on a JSON answer: a path, and the value that stands there.
type Requirement struct {
	// Path is a gjson path in the JSON answer, such as `stock.available`. Required.
	Path string `json:"path,omitempty"`

	// Value is what stands there: strings are compared by their text, numbers by value, `true`, `false` and `null` by
	// name. Default: the empty text.
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
	if err := validateDuration("timeout", o.Timeout, time.Millisecond); err != nil {
		return err
	}
	if o.Route != nil {
		o.siteNames = sitePlaceholders(caddyconfig.JSON(o.Route, nil))
		if err := o.Route.Provision(ctx); err != nil {
			return fmt.Errorf("route: %w", err)
		}
		o.handler = o.Route.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil }))
		return nil
	}
	if o.Method == "" {
		o.Method = http.MethodPost
	}
	if o.target, err = parseTarget(o.URL, o.Header, ofCheck); err != nil {
		return err
	}
	o.target.span.expected, o.target.span.own = http.StatusConflict, checkName.String(o.Name)
	return nil
}

func (o *OrderCheck) validate() error {
	switch {
	case (o.URL == "") == !o.hasRoute():
		return errors.New("need either a URL or a route")
	case o.Route != nil && len(o.Route) == 0:
		return errors.New("the route has no handler")
	case o.hasRoute() && (o.Method != "" || o.Header != nil):
		return errors.New("method and header are for a URL: in a route use Caddy's method and request_header")
	case o.Method != "" && o.Method != http.MethodGet && o.Method != http.MethodPost:
		return errors.New("method must be GET or POST")
	}
	if err := validateHeader(o.Header, ofCheck); err != nil {
		return err
	}
	return validateAnswer(o.Accept, o.Requirements)
}

func (o *OrderCheck) hasRoute() bool { return o.Route != nil || o.routeSegment != nil }

// checkInput is a confirm webhook as the order checks see it.
type checkInput struct {
	record      record // a copy
	contentType string
	body        []byte
	request     *http.Request
	repl        *caddy.Replacer
	deadline    time.Time
}

// preparedCheck is an order check that is ready to be asked.
type preparedCheck struct {
	check    *OrderCheck
	upstream upstream
	amount   string
	unfit    string // the cause if a value of the order cannot stand in the request, else ""

	began  time.Time
	cancel context.CancelFunc
	answer *upstreamAnswer
}

// prepare builds the request of a check. It runs in the goroutine of the request that Caddy
// is serving, because it reads from that.
func (o *OrderCheck) prepare(in *checkInput) *preparedCheck {
	p := &preparedCheck{check: o, amount: in.record.amount}
	header := in.header(min(time.Duration(o.Timeout), time.Until(in.deadline)))
	if o.handler != nil {
		p.upstream = o.routeUpstream(in, header)
		return p
	}
	p.upstream = upstream{body: in.body, transport: o.transport, span: &o.target.span}
	if o.Method == http.MethodGet {
		p.upstream.body = nil
		header.Del("Content-Type")
	}
	p.upstream.request, p.unfit = o.target.request(o.Method, header, in.repl)
	return p
}

// routeUpstream is the webhook's request for a route. It has neither the query, which holds
// the signature, nor the sender's header fields.
func (o *OrderCheck) routeUpstream(in *checkInput, header http.Header) upstream {
	r := in.request.Clone(context.WithoutCancel(in.request.Context()))
	r.Method, r.Header, r.Trailer, r.TransferEncoding = http.MethodPost, header, nil, nil
	r.URL.RawQuery, r.URL.ForceQuery = "", false
	r.RequestURI = r.URL.RequestURI()
	header.Set("Content-Length", strconv.Itoa(len(in.body)))
	route := &upstreamRoute{handler: o.handler, repl: caddy.NewReplacer(), vars: copyVars(in.request), isFinal: o.meansNo, name: o.Name}
	route.repl.Map(in.record.placeholder)
	route.repl.Map(copyPlaceholders(in.repl, o.siteNames))
	return upstream{request: r, body: in.body, route: route}
}

// header returns the header fields that every check gets. The sender's own X-Cvs fields and
// traceparent are not among them.
func (in *checkInput) header(left time.Duration) http.Header {
	return in.record.header(in.contentType, left)
}

// start asks the check. It sends the check to ended once: when the answer is complete, or
// when the check's timeout or ctx ends, whatever the shop and the handlers of a route do.
func (p *preparedCheck) start(ctx context.Context, ended chan<- *preparedCheck) {
	p.began = time.Now()
	ctx, p.cancel = context.WithTimeout(ctx, time.Duration(p.check.Timeout))
	if p.unfit != "" {
		ended <- p
		return
	}
	p.answer = newUpstreamAnswer()
	isInTime := context.AfterFunc(ctx, func() { ended <- p })
	go func() {
		p.upstream.run(ctx, p.answer)
		if isInTime() {
			ended <- p
		}
	}()
}

// result returns the result of a check that has ended.
func (p *preparedCheck) result() checkResult {
	defer p.cancel()
	result := checkResult{check: p.check, verdict: no, cause: cause{name: p.unfit}}
	if p.unfit == "" {
		result = p.read()
	}
	result.duration = time.Since(p.began)
	return result
}

// read judges the answer, and reads the reason if it means no.
func (p *preparedCheck) read() checkResult {
	status, body, broken := p.answer.current()
	result := checkResult{check: p.check, status: status}
	result.verdict, result.cause = p.check.judge(status, body, broken, p.amount)
	if result.verdict == no && gjson.ValidBytes(body) {
		if text := gjson.GetBytes(body, p.check.Reason); text.Type == gjson.String {
			result.reason = text.Str
		}
	}
	return result
}
