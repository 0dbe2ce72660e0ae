package caddycvs

// This file holds the configuration of cvs_notice.

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

func init() {
	caddy.RegisterModule(Notice{})
}

// Notice receives PortOne's notices of an account's barcodes, and tells the merchant's app what has happened to
// their payments, at least once. A notice says only which payment to look up: what the app is told is what the API
// says. Other requests, such as notices of card payments, go to the next handler. Each account has at most one
// cvs_notice, which may stand on several servers with the same options. It needs a ledger.
type Notice struct {
	// Account is the name of the account whose payments the app is told of. Default: the unnamed account.
	Account string `json:"account,omitempty"`

	// Tell is where the app is told. Required.
	Tell *Tell `json:"tell,omitempty"`

	// Events are what the app is told of. An empty list, an unknown word and one that is given twice are refused.
	// Default: paid, cancelled, expired.
	Events []string `json:"events,omitempty"`

	// Retry is how long an order is told again that the app refuses, until it waits for a person: a duration such as
	// "72h", at least 1s. The time while the app is down does not count. Default: 72h.
	Retry caddy.Duration `json:"retry,omitempty"`

	// Concurrency is how many messages are on their way at once, at least 1; a negative number is refused. Default: 8.
	Concurrency int `json:"concurrency,omitempty"`

	// Intervals are the pauses after the app has refused an order: durations of at least 100ms. The last one repeats.
	// An empty list is refused. Default: 5s, 30s, 2m, 10m, 30m, 1h.
	Intervals []caddy.Duration `json:"intervals,omitempty"`

	// Sweep is how often PortOne's lists of payments are read, for notices that were lost: a text such as "5m", at
	// least 1s, or "off" for never. Default: 5m.
	Sweep string `json:"sweep,omitempty"`

	// Sandbox is what becomes of a payment by a test channel whose barcode was not issued as one: "reject" has it wait
	// for a person, "allow" tells the app. Default: reject.
	Sandbox string `json:"sandbox,omitempty"`

	account  *account
	webhooks webhookReceiver
	keeper   noticeKeeper
	warned   *warnTimer
	logger   *zap.Logger
}

const (
	sweepOff = "off"

	sandboxReject = "reject"
	sandboxAllow  = "allow"

	defaultTellRetry       = 72 * time.Hour
	defaultTellConcurrency = 8
	defaultSweep           = "5m"

	minTellRetry = time.Second
	minInterval  = 100 * time.Millisecond
	minSweep     = time.Second
)

var (
	tellEvents       = []string{string(tell.Paid), string(tell.Cancelled), string(tell.Expired)}
	defaultIntervals = []caddy.Duration{
		caddy.Duration(5 * time.Second), caddy.Duration(30 * time.Second), caddy.Duration(2 * time.Minute),
		caddy.Duration(10 * time.Minute), caddy.Duration(30 * time.Minute), caddy.Duration(time.Hour),
	}
)

// CaddyModule returns the Caddy module information.
func (Notice) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cvs_notice",
		New: func() caddy.Module { return new(Notice) },
	}
}

// Provision prepares the tell, and gives it to the account's ledger.
func (n *Notice) Provision(ctx caddy.Context) error {
	n.logger, n.warned = ctx.Logger(), new(warnTimer)
	app, err := loadApp(ctx)
	if err != nil {
		return err
	}
	if n.account, err = app.account(n.Account); err != nil {
		return err
	}
	if err := n.validate(); err != nil {
		return err
	}
	n.applyDefaults()
	if err := n.Tell.provision(ctx); err != nil {
		return fmt.Errorf("tell: %w", err)
	}
	if n.Account == "" && n.Tell.target.url.hasInPath("account") {
		return errors.New("tell: url: the unnamed account has no name for {http.cvs.account} in the path")
	}
	if n.Tell.Requirements == nil {
		n.logger.Warn("tell has no require: every answer with an accepted status that is no page counts as heard, even that of another site; add require", zap.String("account", n.Account))
	}
	tells, err := n.tells()
	if err != nil {
		return err
	}
	if err := app.addTells(n.account, string(caddyconfig.JSON(n, nil)), tells); err != nil {
		return err
	}
	n.webhooks = webhookReceiver{app: app, purpose: signedurl.Notice}
	n.keeper = noticeLedger{app, n.account}
	return nil
}

// addTells gives the tells of an account to the ledger, which is opened after the whole configuration is
// provisioned. A site with several addresses, such as http and https, has the same cvs_notice on each server.
func (a *App) addTells(acc *account, config string, tells *ledger.Tells) error {
	const problem = "has another cvs_notice, with other options: an account has one"
	switch {
	case a.Ledger.Store == ledgerOff:
		return errors.New("cvs_notice keeps notices in the ledger: remove ledger off from the global option cvs")
	case acc.inLedger.Tells == nil:
		a.ledger.needed, acc.notice, acc.inLedger.Tells = true, config, tells
	case acc.notice != config && acc.name == "":
		return errors.New("the unnamed account " + problem)
	case acc.notice != config:
		return fmt.Errorf("account %s %s", acc.name, problem)
	}
	return nil
}

func (n *Notice) applyDefaults() {
	n.Retry = cmp.Or(n.Retry, caddy.Duration(defaultTellRetry))
	n.Concurrency = cmp.Or(n.Concurrency, defaultTellConcurrency)
	n.Sweep = cmp.Or(n.Sweep, defaultSweep)
	n.Sandbox = cmp.Or(n.Sandbox, sandboxReject)
	if n.Events == nil {
		n.Events = slices.Clone(tellEvents)
	}
	if n.Intervals == nil {
		n.Intervals = slices.Clone(defaultIntervals)
	}
}

// tells returns what the ledger needs to know.
func (n *Notice) tells() (*ledger.Tells, error) {
	sweep, err := parseSweep(n.Sweep)
	if err != nil {
		return nil, err
	}
	t := &ledger.Tells{
		Send: n.send, Timeout: time.Duration(n.Tell.Timeout), Retry: time.Duration(n.Retry), Concurrency: n.Concurrency,
		Sweep: sweep, Sandbox: n.Sandbox == sandboxAllow,
	}
	for _, event := range n.Events {
		t.Events = append(t.Events, tell.Event(event))
	}
	for _, pause := range n.Intervals {
		t.Intervals = append(t.Intervals, time.Duration(pause))
	}
	return t, nil
}

// validate refuses a configuration with which the app would not be told as its author means.
func (n *Notice) validate() error {
	switch {
	case n.Tell == nil:
		return errors.New("need a tell: the URL at which the app is told of payments")
	case n.Events != nil && len(n.Events) == 0:
		return errors.New("events is empty: name one, or leave it out for all")
	case n.Concurrency < 0:
		return errors.New("concurrency must be 1 or more")
	case n.Intervals != nil && len(n.Intervals) == 0:
		return errors.New("intervals is empty: name one, or leave it out")
	case n.Sandbox != "" && n.Sandbox != sandboxReject && n.Sandbox != sandboxAllow:
		return fmt.Errorf("sandbox must be reject or allow, not %q", n.Sandbox)
	}
	for i, event := range n.Events {
		if err := oneOf(tellEvents...)(event); err != nil {
			return fmt.Errorf("events: %w", err)
		}
		if slices.Contains(n.Events[:i], event) {
			return fmt.Errorf("events: %s is given twice", event)
		}
	}
	for _, pause := range n.Intervals {
		if err := validateInterval(pause); err != nil {
			return err
		}
	}
	if err := validateDuration("retry", n.Retry, minTellRetry); err != nil {
		return err
	}
	if n.Sweep == "" {
		return nil
	}
	_, err := parseSweep(n.Sweep)
	return err
}

func validateInterval(pause caddy.Duration) error {
	if pause == 0 {
		return fmt.Errorf("intervals must be %s or more", minInterval)
	}
	return validateDuration("intervals", pause, minInterval)
}

// parseSweep returns 0 for off.
func parseSweep(text string) (time.Duration, error) {
	if text == sweepOff {
		return 0, nil
	}
	d, err := caddy.ParseDuration(text)
	if err != nil || d < minSweep {
		return 0, fmt.Errorf("sweep must be a duration such as 5m, of 1s or more, or off, not %q", text)
	}
	return d, nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Notice)(nil)
	_ caddyhttp.MiddlewareHandler = (*Notice)(nil)
)
