package caddycvs

// This file holds cvs_confirm: its configuration, and how a webhook is received, authenticated and answered.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

func init() {
	caddy.RegisterModule(Confirm{})
}

// Confirm answers GalaxiaMoneytree's confirm webhook, "may this order be paid, now, at the till?": 200 if the
// webhook is genuine and every order check says yes, and another status if not. It answers every request that
// reaches it. In JSON, put its route before those that change requests, and a cvs_unrouted behind it.
type Confirm struct {
	// Account is the only account whose webhooks are answered, and that looks up unsigned ones. Default: all accounts,
	// each by the name in its signed URL; the unnamed account for look-ups.
	Account string `json:"account,omitempty"`

	// Timeout limits the whole decision: the answer is sent before it ends. A duration from 100ms to 10s: the sender
	// waits for 5 to 10 seconds. Default: 4s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Unsigned is what becomes of a webhook whose URL is not signed: "lookup" asks PortOne whether there is such a
	// payment, "reject" answers 403, "allow" has the checks decide without proof, and without an amount. Default:
	// lookup.
	Unsigned string `json:"unsigned,omitempty"`

	// OnError decides if an order check gives no answer: "reject" answers 502, 503 or 504, "accept" counts it as a
	// yes. Default: reject.
	OnError string `json:"on_error,omitempty"`

	// Allow lists the addresses that may send webhooks, as IP addresses or CIDR ranges; "private_ranges" stands for
	// Caddy's list of private ranges, "portone" for the addresses that PortOne has published. An empty list is
	// refused. Default: everybody.
	Allow []string `json:"allow,omitempty"`

	// OrderChecks are asked all at once, each at a URL or through a route. The first no refuses the payment; all must
	// say yes. At least one must not be a shadow. Required.
	OrderChecks []*OrderCheck `json:"order_checks,omitempty"`

	webhooks webhookReceiver
	standing *standingReader
	lookup   *account // looks up the payment of an unsigned webhook
	logger   *zap.Logger
}

const (
	defaultTimeout = 4 * time.Second
	maxTimeout     = 10 * time.Second
	minTimeout     = 100 * time.Millisecond
	maxReason      = 200 // characters
)

// CaddyModule returns the Caddy module information.
func (Confirm) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cvs_confirm",
		New: func() caddy.Module { return new(Confirm) },
	}
}

// Provision prepares the order checks.
func (c *Confirm) Provision(ctx caddy.Context) error {
	c.logger = ctx.Logger()
	app, err := loadApp(ctx)
	if err != nil {
		return err
	}
	c.webhooks = webhookReceiver{app: app, purpose: signedurl.Confirm, account: c.Account}
	c.standing = &standingReader{app: app}
	if slices.Contains(c.OrderChecks, nil) {
		return errors.New("order_check: null is not a check")
	}
	c.applyDefaults()
	if c.Account != "" || c.Unsigned == "lookup" {
		if c.lookup, err = app.account(c.Account); err != nil {
			return err
		}
	}
	if c.Allow != nil {
		c.webhooks.access = new(access)
		if err := c.webhooks.access.provision(ctx, c.Allow); err != nil {
			return err
		}
	}
	transport, err := newAppTransport(ctx)
	if err != nil {
		return err
	}
	for _, check := range c.OrderChecks {
		if err := check.provision(ctx, transport); err != nil {
			return fmt.Errorf("order_check %s: %w", check.Name, err)
		}
		app.metrics.existCheck(c.accounts(app), check.Name)
		if !check.Shadow && check.Requirements == nil && check.Amount == "" {
			c.logger.Warn("this order check has no condition: every answer with an accepted status is a yes, even an error page or the page of another site; add require or amount",
				zap.String("order_check", check.Name))
		}
	}
	return app.watch(ctx)
}

// accounts are the names of the accounts whose webhooks are answered.
func (c *Confirm) accounts(app *App) []string {
	if c.Account != "" {
		return []string{c.Account}
	}
	return slices.Collect(maps.Keys(app.accounts))
}

func (c *Confirm) applyDefaults() {
	c.Timeout = cmp.Or(c.Timeout, caddy.Duration(defaultTimeout))
	c.Unsigned = cmp.Or(c.Unsigned, "lookup")
	c.OnError = cmp.Or(c.OnError, "reject")
	for i, check := range c.OrderChecks {
		check.Name = cmp.Or(check.Name, strconv.Itoa(i+1))
	}
}

// Validate refuses a configuration that would accept payments without asking the shop.
func (c *Confirm) Validate() error {
	switch {
	case c.Unsigned != "" && c.Unsigned != "lookup" && c.Unsigned != "reject" && c.Unsigned != "allow":
		return fmt.Errorf("unsigned must be lookup, reject or allow, not %q", c.Unsigned)
	case c.OnError != "" && c.OnError != "reject" && c.OnError != "accept":
		return fmt.Errorf("on_error must be reject or accept, not %q", c.OnError)
	}
	if err := validateConfirmTimeout(c.Timeout); err != nil {
		return err
	}
	names := make(map[string]bool)
	deciding := 0
	for i, check := range c.OrderChecks {
		name := cmp.Or(check.Name, strconv.Itoa(i+1))
		if names[name] {
			return fmt.Errorf("order_check %s: the name is given twice", name)
		}
		names[name] = true
		if !check.Shadow {
			deciding++
		}
	}
	if deciding == 0 {
		return errors.New("need at least one order_check that is not a shadow: without it every genuine webhook would be accepted")
	}
	return nil
}

func validateConfirmTimeout(d caddy.Duration) error {
	if d != 0 && (time.Duration(d) < minTimeout || time.Duration(d) > maxTimeout) {
		return fmt.Errorf("timeout must be %s to %s: the sender waits no longer", minTimeout, maxTimeout)
	}
	return nil
}

func (c *Confirm) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	began := time.Now()
	take(r)
	if r.URL.RawQuery != "" {
		skipAccessLog(r)
	}
	timeout := time.Duration(c.Timeout)
	if p := c.webhooks.findProbe(r); p != nil {
		c.answerProbe(w, r, p, began.Add(timeout/2))
		return nil
	}
	// This context bounds the whole decision. The margin leaves time to write the answer. The
	// request's own context is not its parent: what Caddy keeps there could control the
	// requests that are sent. Only the trace's span is taken over.
	ctx, cancel := context.WithDeadline(spanOnly(r.Context()), began.Add(timeout-min(timeout/10, 100*time.Millisecond)))
	defer cancel()

	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	d := &decision{record: record{kind: decisions, subject: subject{operation: "confirm"}, traceID: traceID(r.Context())}}
	repl.Map(d.placeholder)
	if in, err := c.receive(ctx, d, w, r); err != nil {
		d.fail(w, err)
	} else {
		in.repl = repl
		standing := c.standing.ask(d)
		c.askAll(ctx, d, in)
		c.standing.apply(ctx, d, standing)
	}
	if d.verdict == invalid {
		closeUnread(w, r)
	}
	d.answer(w, r)
	c.standing.mark(d)
	d.clientIP, d.duration = clientIP(r), time.Since(began)
	c.webhooks.app.publish(c.logger, &d.record)
	return nil
}

// receive reads the webhook, authenticates it, and compares its amount with the barcode's. Its
// errors are of type *httpError.
func (c *Confirm) receive(ctx context.Context, d *decision, w http.ResponseWriter, r *http.Request) (*checkInput, error) {
	body, err := c.webhooks.receive(w, r, halfTimeLeft(ctx))
	if err != nil {
		return nil, err
	}
	contentType := r.Header.Get("Content-Type")
	sent, err := webhook.ParseConfirm(contentType, body)
	d.merchantUID, d.impUID, d.barcode, d.payType = sent.MerchantUID, sent.ImpUID, sent.Barcode, sent.PayType // the log names an invalid one too
	switch {
	case err != nil && isProbe(contentType, body): // forged: see findProbe
		return nil, notGenuine(ruleSignature)
	case err != nil:
		return nil, unreadable(err)
	}
	d.event, d.status = webhook.EventConfirm, webhook.StatusReady
	if err := c.authenticate(ctx, d, r); err != nil {
		return nil, err
	}
	// The documented webhook has no amount.
	if sent.Amount != "" && d.amount != "" && !decimal.Equal(sent.Amount, d.amount) {
		return nil, &httpError{status: http.StatusForbidden, cause: cause{name: causeAnotherAmount}, message: "the amount is not the barcode's"}
	}
	return &checkInput{contentType: contentType, body: body, request: r}, nil
}

// halfTimeLeft bounds the steps before the checks. A slow sender or a slow look-up must
// leave time for the checks: otherwise on_error could accept a payment that was never
// checked.
func halfTimeLeft(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return time.Now().Add(time.Until(deadline) / 2)
}

// authenticate verifies the signature, or looks up the payment of an unsigned webhook. It takes
// the amount from the signed URL or from the payment. It refuses a barcode whose deadline has
// passed, or whose payment is not open.
func (c *Confirm) authenticate(ctx context.Context, d *decision, r *http.Request) error {
	acc, claims, err := c.webhooks.authenticate(r, d.merchantUID)
	if errors.Is(err, signedurl.ErrUnsigned) {
		return c.authenticateUnsigned(ctx, d)
	}
	if err != nil {
		return err
	}
	d.account, d.amount, d.expires, d.attempt = acc.name, claims.Amount, claims.Expires, claims.ID
	if claims.ExpiredAt(acc.client.State().Now()) {
		return &httpError{status: http.StatusGone, verdict: refused, cause: cause{name: causeExpired}, message: "the payment deadline has passed"}
	}
	return nil
}

// authenticateUnsigned does what the option unsigned says.
func (c *Confirm) authenticateUnsigned(ctx context.Context, d *decision) error {
	d.account = c.Account
	switch c.Unsigned {
	case "allow":
		return nil
	case "reject":
		return notGenuine(ruleUnsigned)
	}
	if !client.FitsPath(d.impUID) {
		return notGenuine(ruleLookup)
	}
	ctx, cancel := context.WithDeadline(ctx, halfTimeLeft(ctx))
	defer cancel()
	payment, err := c.lookup.client.Payment(ctx, d.impUID)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return notGenuine(ruleLookup)
	case err != nil:
		// on_error does not apply: nothing proves that this webhook is genuine.
		name := lookupCause(err)
		return &httpError{
			status: statusFor(name), verdict: unanswered, cause: cause{causeLookUp + name, client.Cause(err)}, message: "the payment could not be looked up",
		}
	case payment.ImpUID != d.impUID || payment.MerchantUID != d.merchantUID:
		return notGenuine(ruleLookup)
	case payment.Status != client.StatusReady:
		return &httpError{status: http.StatusConflict, verdict: refused, cause: cause{name: causeNotReady}, message: "the payment is not open any more"}
	}
	d.amount = payment.Amount.Canonical()
	return nil
}

// lookupCause returns the cause of a look-up that failed.
func lookupCause(err error) string {
	switch {
	case client.IsTimeout(err):
		return causeTimeout
	case errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrNoToken):
		return causeUnreachable
	default:
		return causeServerError
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Confirm)(nil)
	_ caddy.Validator             = (*Confirm)(nil)
	_ caddyhttp.MiddlewareHandler = (*Confirm)(nil)
)
