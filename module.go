// Package caddycvs is a Caddy module for convenience-store payment: it issues
// barcodes through PortOne's API with credentials that the app behind Caddy
// never sees, and answers GalaxiaMoneytree's confirm webhook by asking the
// merchant's own order checks.
//
// This package is the Caddy part. It knows Caddy, its configuration and its requests; the
// API's wire format is known by package client and those below it, which know nothing of
// Caddy.
//
// This file holds the cvs app and its accounts.
package caddycvs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

func init() {
	caddy.RegisterModule(App{})
}

// App is the gateway's accounts at PortOne, and what they share: the ledger and the metrics. The handlers
// cvs_proxy, cvs_confirm and cvs_notice need it. Its own fields are those of the unnamed account; further accounts
// have names.
type App struct {
	Account

	// Accounts are further merchants, by name: 1 to 64 letters, digits, `_` and `-`. Each has the fields of the
	// unnamed account, whose own fields stand beside this one and may be left out if there is a named one. Default:
	// none.
	Accounts map[string]*Account `json:"accounts,omitempty"`

	// Ledger is where orders and their barcodes are kept, so that an order never has two. All accounts share it.
	// Default: the file cvs/ledger.db in Caddy's data directory.
	Ledger *Ledger `json:"ledger,omitempty"`

	// Metrics has the options of the metrics, which need none. Default: metrics without the label account.
	Metrics *Metrics `json:"metrics,omitempty"`

	accounts map[string]*account
	ledger   *appLedger
	metrics  *metrics
	events   *emitter
	registry *prometheus.Registry       // in which it shows its metrics, nil before
	servers  map[*caddyhttp.Server]bool // servers with a cvs_confirm; true if guarded
	pending  *pendingCalls
	started  bool
	logger   *zap.Logger
}

// Account is one merchant's access to PortOne's API: credentials, address, and the keys that sign callback URLs.
type Account struct {
	// ImpKey is the REST API key of PortOne's console, as one placeholder such as `{env.PORTONE_IMP_KEY}` or
	// `{file./run/secrets/imp_key}`. A literal is refused: it could be read in `/config/` and in the autosaved
	// configuration. Required.
	ImpKey string `json:"imp_key,omitempty"`

	// ImpSecret is the REST API secret, as a placeholder. Required.
	ImpSecret string `json:"imp_secret,omitempty"`

	// API is the address of PortOne's API: http or https, without path, query and credentials. It may have
	// placeholders, which are expanded at load. Default: https://api.iamport.kr.
	API string `json:"api,omitempty"`

	// Tier is the code of a sub-merchant, of 3 letters or digits. The keys are then the agency's. Default: none.
	Tier string `json:"tier,omitempty"`

	// SigningKey has the keys that sign confirm_url and notice_url, each as a placeholder for at least 16 characters.
	// The first signs, all verify: to change a key, put the new one first, and keep the old one until the last barcode
	// signed with it has expired. Default: a key derived from imp_secret.
	SigningKey []string `json:"signing_key,omitempty"`

	// Timeout limits one call of the API: a duration such as "10s", at least 1ms. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// TransportRaw is how the API is reached: a transport of reverse_proxy. Default: http, with the settings that
	// reverse_proxy has by default.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`
}

// account is an Account in use.
type account struct {
	name   string
	api    string
	tier   string
	client *client.Client
	keys   signedurl.Keys
	pooled stateKey
	limit  time.Duration // within which a call is answered and logged

	inLedger *ledger.Account
	notice   string // the configuration of its cvs_notice, "" for none
	bypasses bool   // a cvs_proxy issues barcodes that the ledger does not know
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "cvs",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision resolves the accounts. It sends nothing, because Caddy starts when the API is
// down, and opens no ledger, because another configuration may have it.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger, a.pending, a.metrics = ctx.Logger(), processPending, newMetrics(a.Metrics)
	a.accounts = make(map[string]*account, len(a.Accounts)+1)
	a.ledger = new(appLedger)
	a.servers = make(map[*caddyhttp.Server]bool)
	if a.Ledger == nil {
		a.Ledger = new(Ledger)
	}
	var err error
	if a.events, err = newEmitter(ctx, a.metrics, a.logger); err != nil {
		return err
	}
	if a.ledger.place, a.ledger.from, err = a.Ledger.provision(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	fallback, err := newTransport(ctx, 0)
	if err != nil {
		return err
	}
	if !a.Account.empty() || len(a.Accounts) == 0 {
		if err := a.add(ctx, "", &a.Account, fallback); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Accounts)) {
		cfg := a.Accounts[name]
		if err := validateAccountName(name); err != nil {
			return err
		}
		if cfg == nil {
			cfg = new(Account)
		}
		if err := a.add(ctx, name, cfg, fallback); err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	return a.addMetrics(ctx)
}

func (c *Account) empty() bool {
	return c.ImpKey == "" && c.ImpSecret == "" && c.API == "" && c.Tier == "" &&
		c.SigningKey == nil && c.Timeout == 0 && c.TransportRaw == nil
}

var tierPattern = regexp.MustCompile(`^[0-9A-Za-z]{3}$`)

func validateTier(code string) error {
	if !tierPattern.MatchString(code) {
		return errors.New("tier must be a code of 3 letters or digits")
	}
	return nil
}

// validateDuration refuses durations so short that they must be a mistake: a bare number in
// JSON is in nanoseconds, so 5 does not mean five seconds. 0 means the default.
func validateDuration(name string, d caddy.Duration, least time.Duration) error {
	if d != 0 && time.Duration(d) < least {
		return fmt.Errorf("%s must be %s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds", name, least)
	}
	return nil
}

func validateAccountName(name string) error {
	if !signedurl.ValidAccount(name) {
		return fmt.Errorf("%q cannot name an account: use 1 to 64 letters, digits, '_' and '-'", name)
	}
	return nil
}

func (a *App) add(ctx caddy.Context, name string, cfg *Account, transport http.RoundTripper) error {
	key, err := resolveSecret("imp_key", cfg.ImpKey)
	if err != nil {
		return err
	}
	secret, err := resolveSecret("imp_secret", cfg.ImpSecret)
	if err != nil {
		return err
	}
	keys, err := signingKeys(cfg.SigningKey, secret)
	if err != nil {
		return err
	}
	if cfg.Tier != "" {
		if err := validateTier(cfg.Tier); err != nil {
			return err
		}
	}
	if err := validateDuration("timeout", cfg.Timeout, time.Millisecond); err != nil {
		return err
	}
	api, err := caddy.NewReplacer().ReplaceOrErr(cfg.API, true, true)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if api == "" {
		api = client.DefaultAPI
	}
	if transport, err = loadTransport(ctx, cfg, transport); err != nil {
		return err
	}
	state, pooled := acquireState(api, key, secret)
	timeout := cmp.Or(time.Duration(cfg.Timeout), client.DefaultTimeout)
	c, err := client.New(client.Config{
		API: api, ImpKey: key, ImpSecret: secret, Tier: cfg.Tier, Timeout: timeout,
		Transport: transport, State: state, Detach: spanOnly, Observer: a.metrics.observeClient(name, func() { a.events.credentialsRefused(name) }),
	})
	if err != nil {
		releaseState(pooled)
		return err
	}
	a.accounts[name] = &account{
		name: name, api: api, tier: cfg.Tier, client: c, keys: keys, pooled: pooled, limit: 3*timeout + time.Second,
		inLedger: &ledger.Account{Name: name, API: ledger.APIOf(c), Timeout: timeout, Keys: keys},
	}
	return nil
}

// Start takes over the background renewal of tokens from the previous configuration. It
// sends nothing: an account that is not used costs nothing.
func (a *App) Start() error {
	a.started = true
	if err := a.startLedger(); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	for _, acc := range a.accounts {
		acc.client.TakeOver()
		if acc.bypasses && acc.inLedger.Tells != nil {
			a.logger.Warn("the ledger does not know the barcodes of a cvs_proxy with repeat pass: without a signed notice of a payment, cvs_notice never tells it; use repeat reuse", zap.String("account", acc.name))
		}
	}
	for server, guarded := range a.servers {
		warnAboutRoutes(server, guarded, a.logger.Warn)
	}
	return nil
}

// Stop does nothing: Caddy may stop this app while its servers still serve requests. The
// servers wait for the pending calls: see finish.
func (a *App) Stop() error { return nil }

// Cleanup releases only what this instance acquired: it also runs after a failed Provision,
// while another configuration uses the same accounts.
func (a *App) Cleanup() error {
	registered.Delete(a.registry)
	// a.accounts is kept: requests that last longer than the grace period still use it.
	for _, acc := range a.accounts {
		acc.client.Retire()
		releaseState(acc.pooled)
	}
	a.releaseLedger()
	return nil
}

// loadApp returns the cvs app. Every handler needs it.
func loadApp(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("cvs")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errors.New(`no account is configured: add the global option "cvs" with imp_key and imp_secret`)
	}
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// account returns a configured account by its name, "" for the unnamed one.
func (a *App) account(name string) (*account, error) {
	acc, ok := a.accounts[name]
	switch {
	case ok:
		return acc, nil
	case name == "":
		return nil, errors.New("there is no unnamed account: choose one with the option account")
	default:
		return nil, fmt.Errorf("account %q is not configured in the global option cvs", name)
	}
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
