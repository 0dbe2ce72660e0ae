// Package caddycvs is a Caddy module for convenience-store payment: it issues
// barcodes through PortOne's API with credentials that the app behind Caddy
// never sees, and answers GalaxiaMoneytree's confirm webhook by asking the
// merchant's own order checks.
//
// This file holds the cvs app: its accounts, and what of them survives a reload.
package caddycvs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

func init() {
	caddy.RegisterModule(App{})
}

// App holds the merchants' accounts at PortOne. Its own fields are the unnamed
// account's; further accounts have names.
type App struct {
	Account

	// Accounts are further merchants by name: 1 to 64 letters, digits, "_" and "-".
	Accounts map[string]*Account `json:"account,omitempty"`

	accounts map[string]*account
	servers  map[*caddyhttp.Server]bool // with a cvs_confirm; true if guarded
	calls    *underWay
	started  bool
	logger   *zap.Logger
}

// Account is one merchant's access to the API.
type Account struct {
	// ImpKey is the REST API key, as a placeholder such as {env.PORTONE_IMP_KEY}
	// or {file./run/secrets/imp_key}. A literal is refused: it could be read
	// in /config/ and in the autosaved configuration.
	ImpKey string `json:"imp_key,omitempty"`

	// ImpSecret is the REST API secret, as a placeholder.
	ImpSecret string `json:"imp_secret,omitempty"`

	// API is the API's address. Default: https://api.iamport.kr
	API string `json:"api,omitempty"`

	// Tier is the 3-character code of a sub-merchant; the keys are then the agency's.
	Tier string `json:"tier,omitempty"`

	// SigningKey are the keys for callback URLs, as placeholders, each of 16
	// characters or more. The first signs, all verify. Default: imp_secret.
	SigningKey []string `json:"signing_key,omitempty"`

	// Timeout bounds one API call. Default: 10s
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// TransportRaw is how the API is reached: a transport of reverse_proxy.
	// Default: reverse_proxy's own default, "http".
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
	limit  time.Duration // for a call, its answer and its line in the log
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "cvs",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision resolves the accounts. It sends nothing: Caddy starts when the API
// is down.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger, a.calls = ctx.Logger(), processCalls
	a.accounts = make(map[string]*account, len(a.Accounts)+1)
	a.servers = make(map[*caddyhttp.Server]bool)
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
		if err := checkAccountName(name); err != nil {
			return err
		}
		if cfg == nil {
			cfg = new(Account)
		}
		if err := a.add(ctx, name, cfg, fallback); err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	return nil
}

func (c *Account) empty() bool {
	return c.ImpKey == "" && c.ImpSecret == "" && c.API == "" && c.Tier == "" &&
		c.SigningKey == nil && c.Timeout == 0 && c.TransportRaw == nil
}

var tierPattern = regexp.MustCompile(`^[0-9A-Za-z]{3}$`)

func checkTier(code string) error {
	if !tierPattern.MatchString(code) {
		return errors.New("tier must be a code of 3 letters or digits")
	}
	return nil
}

// checkDuration refuses what is shorter than anybody can mean, 0 standing for the
// default: a number in JSON is in nanoseconds, and 5 is not what it looks like.
func checkDuration(name string, d caddy.Duration, least time.Duration) error {
	if d != 0 && time.Duration(d) < least {
		return fmt.Errorf("%s must be %s or more: in JSON write it as a text with a unit, such as \"5s\"; a number is in nanoseconds", name, least)
	}
	return nil
}

func checkAccountName(name string) error {
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
		if err := checkTier(cfg.Tier); err != nil {
			return err
		}
	}
	if err := checkDuration("timeout", cfg.Timeout, time.Millisecond); err != nil {
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
		Transport: transport, State: state,
	})
	if err != nil {
		releaseState(pooled)
		return err
	}
	a.accounts[name] = &account{
		name: name, api: api, tier: cfg.Tier, client: c, keys: keys, pooled: pooled, limit: 2*timeout + time.Second,
	}
	return nil
}

// Start takes over the background renewals of accounts in use. It sends nothing:
// an account costs nothing until it is used.
func (a *App) Start() error {
	a.started = true
	for _, acc := range a.accounts {
		acc.client.TakeOver()
	}
	for server, guarded := range a.servers {
		a.warnOf(server, guarded)
	}
	return nil
}

// Stop does nothing: Caddy may stop this app while its servers still serve. They have
// the calls under way finished: see finish.
func (a *App) Stop() error { return nil }

// Cleanup releases what this instance acquired, no more: it also runs after a
// failed Provision, while another configuration goes on using the same accounts.
func (a *App) Cleanup() error {
	// The accounts stay: requests that outlive the grace period still use them.
	for _, acc := range a.accounts {
		releaseState(acc.pooled)
	}
	return nil
}

// loadApp returns the cvs app, which a handler cannot do without.
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

var placeholderPattern = regexp.MustCompile(`^\{[^{}]+\}$`)

// checkSecret returns a check that a secret is given as a placeholder.
func checkSecret(option string) func(string) error {
	return func(raw string) error {
		switch {
		case raw == "":
			return fmt.Errorf("%s is missing: set it to a placeholder such as {env.PORTONE_%s}", option, strings.ToUpper(option))
		case strings.HasPrefix(raw, "{$"): // in JSON; in a Caddyfile its value stands here
			return fmt.Errorf("%s: {$NAME} is for a Caddyfile's other options: use {env.NAME}", option)
		case strings.ContainsAny(raw, "{}") && !placeholderPattern.MatchString(raw):
			return fmt.Errorf("%s must be one placeholder such as {env.NAME} or {file./path}, and nothing else", option)
		case !placeholderPattern.MatchString(raw):
			return fmt.Errorf("%s must be one placeholder such as {env.NAME} or {file./path}: a literal could be read in /config/ and in the autosaved configuration; {$NAME} becomes a literal when the Caddyfile is parsed", option)
		}
		return nil
	}
}

// resolveSecret expands a secret once. The result goes to unexported fields
// only, so that the configuration keeps showing the placeholder.
func resolveSecret(option, raw string) (string, error) {
	if err := checkSecret(option)(raw); err != nil {
		return "", err
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(raw, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w: set the variable, or check that the file can be read", option, err)
	}
	if strings.TrimSpace(value) != value || strings.HasPrefix(value, "\ufeff") {
		return "", fmt.Errorf("%s: what %s stands for has a space, a line break or a byte order mark at an end: remove it, for the API would refuse it", option, raw)
	}
	return value, nil
}

func signingKeys(raw []string, impSecret string) (signedurl.Keys, error) {
	if len(raw) == 0 {
		return signedurl.NewKeys(impSecret)
	}
	const shortest = 16
	secrets := make([]string, len(raw))
	for i := range raw {
		var err error
		if secrets[i], err = resolveSecret("signing_key", raw[i]); err != nil {
			return signedurl.Keys{}, err
		}
		if len(secrets[i]) < shortest {
			return signedurl.Keys{}, fmt.Errorf("signing_key %s is shorter than %d characters: make one with openssl rand -base64 32", raw[i], shortest)
		}
	}
	return signedurl.NewKeys(secrets...)
}

func loadTransport(ctx caddy.Context, cfg *Account, fallback http.RoundTripper) (http.RoundTripper, error) {
	if cfg.TransportRaw == nil {
		return isolate(ctx, fallback), nil
	}
	mod, err := ctx.LoadModule(cfg, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("loading transport: %w", err)
	}
	transport, ok := mod.(http.RoundTripper)
	if !ok {
		return nil, errors.New("transport cannot send HTTP requests")
	}
	if caddys, ok := transport.(*reverseproxy.HTTPTransport); ok {
		client.KeepHealthy(caddys.Transport)
	}
	return isolate(ctx, transport), nil
}

// newTransport returns Caddy's own transport, which keeps connections idle for so
// long, 0 for its default, and as many as a rush needs: with its default of 32,
// most calls of a greater one would open a connection. They end with ctx.
func newTransport(ctx caddy.Context, idle time.Duration) (*reverseproxy.HTTPTransport, error) {
	transport := &reverseproxy.HTTPTransport{KeepAlive: &reverseproxy.KeepAlive{
		IdleConnTimeout:     caddy.Duration(idle),
		MaxIdleConnsPerHost: 512,
	}}
	if err := transport.Provision(ctx); err != nil {
		return nil, fmt.Errorf("preparing the transport: %w", err)
	}
	client.KeepHealthy(transport.Transport)
	// Not ctx.OnCancel: what is added to a copy of a Context is never called.
	context.AfterFunc(ctx.Context, func() { _ = transport.Cleanup() })
	return transport, nil
}

// isolated keeps a request of this module's own apart from the request that
// Caddy is serving: what Caddy notes in that one's context could steer this one,
// and is not safe for use by several goroutines.
//
// After a reload, calls under way go on with the transport of the configuration
// that is gone, and would leave their connections to nobody until those time out.
type isolated struct {
	transport     http.RoundTripper
	configuration context.Context
}

func isolate(ctx caddy.Context, transport http.RoundTripper) *isolated {
	return &isolated{transport, ctx.Context}
}

func (i *isolated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := i.transport.RoundTrip(r.WithContext(isolatedContext{r.Context()}))
	if err != nil {
		i.release()
		return nil, err
	}
	resp.Body = &releasingBody{resp.Body, i}
	return resp, nil
}

// release closes idle connections if the configuration was replaced.
func (i *isolated) release() {
	if i.configuration != nil && i.configuration.Err() != nil {
		i.CloseIdleConnections()
	}
}

// CloseIdleConnections closes those of Caddy's own transport.
func (i *isolated) CloseIdleConnections() {
	if t, ok := i.transport.(*reverseproxy.HTTPTransport); ok {
		t.Transport.CloseIdleConnections()
	}
}

// releasingBody is an answer whose end may be the last of its transport.
type releasingBody struct {
	io.ReadCloser
	isolated *isolated
}

func (b *releasingBody) Close() error {
	err := b.ReadCloser.Close()
	b.isolated.release()
	return err
}

type isolatedContext struct{ context.Context }

func (c isolatedContext) Value(key any) any {
	if key == caddy.ReplacerCtxKey { // a transport may expand its TLS server name
		return caddy.NewReplacer()
	}
	if _, caddys := key.(caddy.CtxKey); caddys {
		return nil
	}
	return c.Context.Value(key)
}

// states holds what must survive a reload, by everything that defines it.
var states = caddy.NewUsagePool()

// stateKey identifies an account at the API without repeating its keys.
type stateKey struct {
	api         string
	credentials [sha256.Size]byte
}

// fingerprint identifies a pair of keys.
func fingerprint(key, secret string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(key), key, secret))
}

type pooledState struct{ *client.State }

// Destruct ends background renewals when no configuration uses the account any more.
func (p pooledState) Destruct() error {
	p.Close()
	return nil
}

func acquireState(api, key, secret string) (*client.State, stateKey) {
	k := stateKey{api, fingerprint(key, secret)}
	state, _ := states.LoadOrStore(k, pooledState{client.NewState()})
	return state.(pooledState).State, k
}

func releaseState(k stateKey) { _, _ = states.Delete(k) }

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
	_ caddy.Destructor   = pooledState{}
)
