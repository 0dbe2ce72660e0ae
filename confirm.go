package caddycvs

// This file holds cvs_confirm: from the webhook to the answer.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

func init() {
	caddy.RegisterModule(Confirm{})
}

// Confirm answers GalaxiaMoneytree's confirm webhook, "may this order be paid,
// now, at the till?": 200 if the webhook is genuine and every order check says
// yes, and any other status if not.
type Confirm struct {
	// Account is the only account whose webhooks are answered. Default: all of
	// them, by the account in the signed URL; the unnamed one for look-ups
	Account string `json:"account,omitempty"`

	// Timeout bounds the whole decision; the answer leaves before. The sender
	// waits 5 to 10 seconds. Default: 4s, at most 10s
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Unsigned says what becomes of a webhook at an unsigned URL: "lookup"
	// asks PortOne whether there is such a payment, "reject" refuses it,
	// "allow" believes it. Default: lookup
	Unsigned string `json:"unsigned,omitempty"`

	// OnError decides where an order check gives no answer: "reject" or
	// "accept". Default: reject
	OnError string `json:"on_error,omitempty"`

	// Allow lists the addresses that may send webhooks, as IPs or CIDR ranges;
	// "portone" stands for the published ones. Default: any
	Allow []string `json:"allow,omitempty"`

	// OrderChecks are asked all at once. All must say yes.
	OrderChecks []*OrderCheck `json:"order_check,omitempty"`

	app    *App
	asked  *account // for look-ups
	access access
	logger *zap.Logger
}

const (
	defaultTimeout = 4 * time.Second
	maxTimeout     = 10 * time.Second
	minTimeout     = 100 * time.Millisecond
	maxWebhook     = 64 << 10
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
	var err error
	if c.app, err = loadApp(ctx); err != nil {
		return err
	}
	if slices.Contains(c.OrderChecks, nil) {
		return errors.New("order_check: null is not a check")
	}
	c.applyDefaults()
	if c.Account != "" || c.Unsigned == "lookup" {
		if c.asked, err = c.app.account(c.Account); err != nil {
			return err
		}
	}
	if err := c.access.provision(ctx, c.Allow); err != nil {
		return err
	}
	// A short life of idle connections: an app closes its own after a few
	// seconds, and a webhook sent into a closing one could not be repeated.
	transport, err := newTransport(ctx, time.Second)
	if err != nil {
		return err
	}
	transport.Transport.Proxy = nil // one named in the environment would answer for the shop
	for _, check := range c.OrderChecks {
		if err := check.provision(ctx, transport); err != nil {
			return fmt.Errorf("order_check %s: %w", check.Name, err)
		}
		if !check.Shadow && check.Require == nil && check.Amount == "" {
			c.logger.Warn("this order check has no condition: any answer with an accepted status is a yes, a page of an error or of another site, too; give it require or amount",
				zap.String("order_check", check.Name))
		}
	}
	return c.app.watch(ctx)
}

func (c *Confirm) applyDefaults() {
	c.Timeout = cmp.Or(c.Timeout, caddy.Duration(defaultTimeout))
	c.Unsigned = cmp.Or(c.Unsigned, "lookup")
	c.OnError = cmp.Or(c.OnError, "reject")
	for i, check := range c.OrderChecks {
		check.Name = cmp.Or(check.Name, strconv.Itoa(i+1))
	}
}

// Validate refuses what would accept payments unasked.
func (c *Confirm) Validate() error {
	switch {
	case c.Unsigned != "" && c.Unsigned != "lookup" && c.Unsigned != "reject" && c.Unsigned != "allow":
		return fmt.Errorf("unsigned must be lookup, reject or allow, not %q", c.Unsigned)
	case c.OnError != "" && c.OnError != "reject" && c.OnError != "accept":
		return fmt.Errorf("on_error must be reject or accept, not %q", c.OnError)
	}
	if err := checkTimeout(c.Timeout); err != nil {
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

func checkTimeout(d caddy.Duration) error {
	if d != 0 && (time.Duration(d) < minTimeout || time.Duration(d) > maxTimeout) {
		return fmt.Errorf("timeout must be %s to %s: the sender waits no longer", minTimeout, maxTimeout)
	}
	return nil
}

// decision is what becomes of one webhook.
type decision struct {
	webhook webhook.Confirm
	account string
	ticket  signedurl.Ticket

	status  int
	verdict string // accepted, refused, unanswered, or invalid if it was not worth asking
	why
	rule    string // by which the sender is refused
	reason  string
	results []result
}

const (
	accepted   = "accepted"
	refused    = "refused"
	unanswered = "unanswered"
	invalid    = "invalid"
)

func (d *decision) set(status int, verdict string, because why, reason string) {
	d.status, d.verdict, d.why, d.reason = status, verdict, because, reason
}

func (c *Confirm) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	began := time.Now()
	take(r)
	if r.URL.RawQuery != "" {
		// Caddy's access log prints the URL, and with it the signature, however
		// the rest is mangled. The line that log writes stands in for it.
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	// This is what bounds a decision, with all of its steps. The margin lets the answer
	// be written before the time is over. It has nothing of the request's context: what
	// Caddy notes there could steer the requests that are sent.
	timeout := time.Duration(c.Timeout)
	ctx, cancel := context.WithDeadline(context.Background(), began.Add(timeout-min(timeout/10, 100*time.Millisecond)))
	defer cancel()

	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	d := &decision{}
	repl.Map(d.placeholder)
	c.decide(ctx, d, w, r, repl)
	if d.verdict == invalid {
		closeUnread(w, r)
	}
	d.write(w, r)
	c.log(d, r, time.Since(began))
	return nil
}

// decide goes through the steps until one of them decides.
func (c *Confirm) decide(ctx context.Context, d *decision, w http.ResponseWriter, r *http.Request, repl *caddy.Replacer) {
	body, err := c.receive(ctx, d, w, r)
	if err == nil {
		err = c.authenticate(ctx, d, r)
	}
	if err != nil {
		if refusal, ok := errors.AsType[*refusal](err); ok {
			d.set(refusal.status, refusal.verdict, refusal.why, refusal.reason)
		} else if he, ok := errors.AsType[*httpError](err); ok {
			d.set(he.status, invalid, why{cause: strings.ToLower(http.StatusText(he.status))}, he.message)
			d.rule = he.rule
		}
		return
	}
	c.ask(ctx, d, &question{
		decision: *d, contentType: r.Header.Get("Content-Type"), body: body, request: r, repl: repl,
	})
}

// receive reads the webhook. Its errors are of type *httpError.
func (c *Confirm) receive(ctx context.Context, d *decision, w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &httpError{status: http.StatusMethodNotAllowed, message: "use POST"}
	}
	if c.Allow != nil {
		err := c.access.check(r)
		if own, ok := errors.AsType[*httpError](err); ok && own.rule != "" {
			return nil, forbidden(own.rule, "this address may not send webhooks") // the log names it
		}
		if err != nil {
			return nil, err
		}
	}
	body, err := readBody(w, r, maxWebhook, halfway(ctx))
	if err != nil {
		return nil, err
	}
	d.webhook, err = webhook.ParseConfirm(r.Header.Get("Content-Type"), body)
	if errors.Is(err, strict.ErrMediaType) {
		return nil, &httpError{status: http.StatusUnsupportedMediaType, message: err.Error()}
	}
	if err != nil {
		return nil, &httpError{status: http.StatusBadRequest, message: err.Error()}
	}
	return body, nil
}

// halfway bounds what comes before the checks. A slow sender or look-up must leave
// them their time: on_error may accept what they did not answer.
func halfway(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return time.Now().Add(time.Until(deadline) / 2)
}

// The rules by which a webhook is not genuine. Only the log tells them apart.
const (
	ruleSignature = "signature"
	ruleAccount   = "account"
	ruleUnsigned  = "unsigned reject"
	ruleLookup    = "unsigned lookup"
)

func notGenuine(rule string) error { return forbidden(rule, "the webhook is not genuine") }

// refusal is a decision that needs no order check.
type refusal struct {
	status  int
	verdict string
	why
	reason string
}

func (e *refusal) Error() string { return e.cause }

// authenticate establishes that the webhook is about a barcode of an account
// of this configuration, and learns the amount. Its errors are of type
// *httpError or *refusal.
func (c *Confirm) authenticate(ctx context.Context, d *decision, r *http.Request) error {
	ticket, err := signedurl.Parse(r.URL.RawQuery)
	if errors.Is(err, signedurl.ErrUnsigned) {
		return c.authenticateUnsigned(ctx, d)
	}
	switch {
	case err != nil:
		return notGenuine(ruleSignature)
	case c.Account != "" && ticket.Account != c.Account:
		return notGenuine(ruleAccount)
	}
	acc, err := c.app.account(ticket.Account)
	switch {
	case err != nil:
		return notGenuine(ruleAccount)
	case ticket.Verify(acc.keys, signedurl.Confirm, d.webhook.MerchantUID) != nil:
		return notGenuine(ruleSignature)
	}
	d.ticket, d.account = ticket, acc.name
	if ticket.ExpiredAt(acc.client.State().Now()) {
		return &refusal{http.StatusGone, refused, why{cause: "expired"}, "the payment deadline has passed"}
	}
	return d.compareAmounts()
}

// compareAmounts refuses a webhook whose body names another amount than the barcode
// was issued for. As documented it names none.
func (d *decision) compareAmounts() error {
	if sent, known := d.webhook.Amount, d.ticket.Amount; sent != "" && known != "" && !decimal.Equal(sent, known) {
		return &refusal{http.StatusForbidden, invalid, why{cause: "another amount"}, "the amount is not the barcode's"}
	}
	return nil
}

func (c *Confirm) authenticateUnsigned(ctx context.Context, d *decision) error {
	d.account = c.Account
	switch c.Unsigned {
	case "allow":
		return nil
	case "reject":
		return notGenuine(ruleUnsigned)
	}
	if !client.FitsPath(d.webhook.ImpUID) {
		return notGenuine(ruleLookup)
	}
	ctx, cancel := context.WithDeadline(ctx, halfway(ctx))
	defer cancel()
	payment, err := c.asked.client.Payment(ctx, d.webhook.ImpUID)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return notGenuine(ruleLookup)
	case err != nil:
		// Not for on_error to decide: nobody vouches for this webhook.
		cause := lookupCause(err)
		return &refusal{statusFor(cause), unanswered, why{"look-up: " + cause, client.Cause(err)}, "the payment could not be looked up"}
	case payment.ImpUID != d.webhook.ImpUID || payment.MerchantUID != d.webhook.MerchantUID:
		return notGenuine(ruleLookup)
	case payment.Status != client.StatusReady:
		return &refusal{http.StatusConflict, refused, why{cause: "payment not ready"}, "the payment is not open any more"}
	}
	d.ticket = signedurl.Ticket{Account: c.Account, Amount: payment.Amount.Canonical()}
	return d.compareAmounts()
}

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

// ask asks all order checks at once, and decides as soon as it is clear.
func (c *Confirm) ask(ctx context.Context, d *decision, q *question) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a refusal ends what is still being asked
	q.deadline, _ = ctx.Deadline()
	answers := make(chan result, len(c.OrderChecks))
	deciding := 0
	for _, check := range c.OrderChecks {
		inquiry := check.prepare(q)
		if check.Shadow {
			go c.askShadow(d.webhook, inquiry) //nolint:gosec // it goes on after the answer, within its own timeout
			continue
		}
		deciding++
		go func() { answers <- inquiry.ask(ctx) }()
	}
	for range deciding {
		if d.note(<-answers) {
			return
		}
	}
	c.conclude(d)
}

// note takes a result down, and reports whether it is a refusal.
func (d *decision) note(res result) bool {
	d.results = append(d.results, res)
	if res.verdict == no {
		d.set(http.StatusConflict, refused, res.why, res.reason)
	}
	return res.verdict == no
}

// conclude decides when no check has said no.
func (c *Confirm) conclude(d *decision) {
	for _, res := range d.results {
		switch {
		case res.verdict == yes:
		case res.verdict == noAnswer && c.OnError == "accept":
			d.why = why{"on_error: " + res.cause, res.detail}
		default:
			d.set(statusFor(res.cause), unanswered, res.why, "the order could not be checked")
			return
		}
	}
	d.set(http.StatusOK, accepted, d.why, "")
}

// askShadow asks a check whose answer only the log will see.
func (c *Confirm) askShadow(about webhook.Confirm, in *inquiry) {
	res := in.ask(context.Background())
	level := zapcore.InfoLevel
	if res.suspect() {
		level = zapcore.WarnLevel
	}
	c.logger.Log(level, "shadow order check",
		zap.String("merchant_uid", about.MerchantUID),
		zap.String("imp_uid", about.ImpUID),
		zap.Object("check", res))
}

// placeholder tells order checks, logs and later handlers of the webhook and of
// what became of it.
func (d *decision) placeholder(key string) (any, bool) {
	name, ours := strings.CutPrefix(key, placeholderPrefix)
	if !ours {
		return nil, false
	}
	known := d.webhook.ImpUID != ""
	switch name {
	case "event":
		return when(known, webhook.EventConfirm), true
	case "imp_uid":
		return d.webhook.ImpUID, true
	case "merchant_uid":
		return d.webhook.MerchantUID, true
	case "status":
		return when(known, webhook.StatusReady), true
	case "barcode":
		return d.webhook.Barcode, true
	case "pay_type":
		return d.webhook.PayType, true
	case "amount":
		return d.ticket.Amount, true
	case "expires":
		return when(d.ticket.Expires != 0, strconv.FormatInt(d.ticket.Expires, 10)), true
	case "account":
		return d.account, true
	case "operation":
		return "confirm", true
	case "code":
		return when(d.status != 0, strconv.Itoa(d.status)), true
	case "verdict":
		return d.verdict, true
	case "reason":
		return d.reason, true
	default:
		return nil, false
	}
}

// when returns text where it means something, else "".
func when(known bool, text string) string {
	if !known {
		return ""
	}
	return text
}

var acceptable = []byte(`{"accepted":true}`)

// write answers GalaxiaMoneytree: 200 is "acceptable", any other status is not.
func (d *decision) write(w http.ResponseWriter, r *http.Request) {
	if d.status == 0 || d.status == http.StatusOK && d.verdict != accepted { // a mistake of ours must not accept
		d.status = http.StatusInternalServerError
	}
	caddyhttp.SetVar(r.Context(), decidedVar, d.status)
	body := acceptable
	if d.status != http.StatusOK {
		body, _ = json.Marshal(struct {
			Accepted bool   `json:"accepted"`
			Reason   string `json:"reason,omitempty"`
		}{false, tidy(d.reason)})
	}
	_ = sendAnswer(w, d.status, strict.JSON, body) // the sender may have left
}

// tidy makes any text fit for an answer: valid UTF-8, one line, of bounded length.
func tidy(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(reason, "\ufffd"))
	reason = strings.TrimSpace(reason)
	if runes := []rune(reason); len(runes) > maxReason {
		reason = string(runes[:maxReason])
	}
	return reason
}

// log writes the one line of a decision. The reason is the shop's text, which
// may be about the buyer, and stays out of it.
func (c *Confirm) log(d *decision, r *http.Request, took time.Duration) {
	level := zapcore.InfoLevel
	switch {
	case d.verdict == unanswered:
		level = zapcore.ErrorLevel
	case d.verdict == accepted && d.cause != "", // by on_error, not by the shop
		slices.ContainsFunc(d.results, result.suspect):
		level = zapcore.WarnLevel
	}
	if entry := c.logger.Check(level, "confirm webhook"); entry != nil {
		entry.Write(
			zap.String("operation", "confirm"),
			zap.String("account", d.account),
			zap.String("merchant_uid", d.webhook.MerchantUID),
			zap.String("imp_uid", d.webhook.ImpUID),
			zap.String("amount", d.ticket.Amount),
			zap.String("pay_type", d.webhook.PayType),
			zap.String("verdict", d.verdict),
			zap.String("cause", d.cause),
			unlessEmpty("detail", d.detail),
			unlessEmpty("rule", d.rule),
			zap.Int("status", d.status),
			zap.String("client_ip", clientIP(r)),
			zap.Duration("duration", took),
			zap.Objects("checks", d.results),
		)
	}
}

// unlessEmpty is a field that is left out if there is nothing in it.
func unlessEmpty(name, value string) zap.Field {
	if value == "" {
		return zap.Skip()
	}
	return zap.String(name, value)
}

// suspect reports whether the check's no may come from how the app is set up, and not from
// the order.
func (res result) suspect() bool { return res.cause == causeStatus && res.detail != "" }

// MarshalLogObject writes a check's result, without its reason.
func (res result) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("name", res.check.Name)
	enc.AddString("verdict", string(res.verdict))
	if res.cause != "" {
		enc.AddString("cause", res.cause)
	}
	if res.detail != "" {
		enc.AddString("detail", res.detail)
	}
	if res.status != 0 {
		enc.AddInt("status", res.status)
	}
	enc.AddDuration("duration", res.duration)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Confirm)(nil)
	_ caddy.Validator             = (*Confirm)(nil)
	_ caddyhttp.MiddlewareHandler = (*Confirm)(nil)
	_ zapcore.ObjectMarshaler     = result{}
)
