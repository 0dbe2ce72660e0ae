package caddycvs

// This file holds cvs_sandbox: the emulator, served by Caddy.

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func init() {
	caddy.RegisterModule(Sandbox{})
}

// Sandbox serves an emulator of PortOne's API, with a till, for development and tests. It answers every request
// that reaches it. Its payments survive a reload and end with the process. It moves no money.
type Sandbox struct {
	// ImpKey is the only key that is accepted, as a placeholder. It goes together with imp_secret. Default: any key.
	ImpKey string `json:"imp_key,omitempty"`

	// ImpSecret is the only secret that is accepted, as a placeholder. It goes together with imp_key. Default: any secret.
	ImpSecret string `json:"imp_secret,omitempty"`

	// Webhooks is where webhooks may go: "private" means loopback and private addresses, "any" every address. Default:
	// private.
	Webhooks string `json:"webhooks,omitempty"`

	// Channel is the kind of channel that payments belong to: "test" or "live". The API hides payments of a test
	// channel from a look-up without include_sandbox=true. Default: test.
	Channel string `json:"channel,omitempty"`

	// Fractions is what becomes of an amount with a fraction of a won: "refuse", "keep" or "round". Default: refuse.
	Fractions string `json:"fractions,omitempty"`

	// CancelNotices sends a notice for each refund. Without it one is sent only if the call has enable_webhook, as by
	// PortOne. Default: false.
	CancelNotices bool `json:"cancel_notices,omitempty"`

	// Notices is the media type of the notices, as PortOne's console has it: "json" or "form". Default: json.
	Notices string `json:"notices,omitempty"`

	emulator *emulator.Emulator
	pooled   sandboxKey
	gateway  *App // of the same configuration, nil if there is none
}

// The values of these options.
var (
	webhookWords  = []string{"private", "any"}
	channelWords  = []string{"test", "live"}
	fractionWords = []string{"refuse", "keep", "round"}
	noticeWords   = []string{"json", "form"}
)

// sandboxes holds the emulators in use, by their settings: their payments survive a reload.
var sandboxes = caddy.NewUsagePool()

type sandboxKey struct {
	credentials   [sha256.Size]byte
	webhooks      string
	channel       string
	fractions     string
	cancelNotices bool
	notices       string
}

type pooledEmulator struct{ *emulator.Emulator }

// Destruct ends the emulator.
func (p pooledEmulator) Destruct() error { return p.Close() }

// CaddyModule returns the Caddy module information.
func (Sandbox) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cvs_sandbox",
		New: func() caddy.Module { return new(Sandbox) },
	}
}

// Provision starts the emulator, or takes over the one that runs already.
func (s *Sandbox) Provision(ctx caddy.Context) error {
	if err := s.validate(); err != nil {
		return err
	}
	opts := emulator.Options{
		PublicWebhooks: s.Webhooks == "any", LiveChannel: s.Channel == "live", CancelNotices: s.CancelNotices, NoticeForm: s.Notices == "form",
	}
	if s.Fractions != "refuse" {
		opts.Fractions = emulator.Fractions(s.Fractions)
	}
	key := sandboxKey{
		webhooks: cmp.Or(s.Webhooks, "private"), channel: cmp.Or(s.Channel, "test"),
		fractions: cmp.Or(s.Fractions, "refuse"), cancelNotices: s.CancelNotices,
		notices: cmp.Or(s.Notices, "json"),
	}
	if s.ImpKey != "" {
		impKey, err := resolveSecret("imp_key", s.ImpKey)
		if err != nil {
			return err
		}
		impSecret, err := resolveSecret("imp_secret", s.ImpSecret)
		if err != nil {
			return err
		}
		opts.Keys = map[string]string{impKey: impSecret}
		key.credentials = fingerprint(impKey, impSecret)
	}
	pooled, loaded, err := sandboxes.LoadOrNew(key, func() (caddy.Destructor, error) {
		return pooledEmulator{emulator.New(opts)}, nil
	})
	if err != nil {
		return err
	}
	s.emulator, s.pooled = pooled.(pooledEmulator).Emulator, key
	if app, err := ctx.AppIfConfigured("cvs"); err == nil {
		s.gateway = app.(*App)
	}
	if !loaded {
		ctx.Logger().Warn("this is a sandbox: it emulates PortOne's API, moves no money and forgets everything when it ends",
			zap.Bool("any_keys", opts.Keys == nil))
	}
	return nil
}

func (s *Sandbox) validate() error {
	for _, option := range []struct {
		name, value string
		words       []string
	}{
		{"webhooks", s.Webhooks, webhookWords},
		{"channel", s.Channel, channelWords},
		{"fractions", s.Fractions, fractionWords},
		{"notices", s.Notices, noticeWords},
	} {
		if option.value == "" {
			continue
		}
		if err := oneOf(option.words...)(option.value); err != nil {
			return fmt.Errorf("%s: %w", option.name, err)
		}
	}
	if (s.ImpKey == "") != (s.ImpSecret == "") {
		return errors.New("imp_key and imp_secret go together: set both, or none to accept any")
	}
	return nil
}

// Cleanup releases the emulator.
func (s *Sandbox) Cleanup() error {
	if s.emulator == nil { // not provisioned
		return nil
	}
	_, err := sandboxes.Delete(s.pooled)
	return err
}

func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if s.gateway != nil {
		r = r.WithContext(emulator.WithGateway(r.Context(), s.gatewayState))
	}
	s.emulator.ServeHTTP(w, r)
	return nil
}

// gatewayState returns what the till's page shows of the gateway. It changes nothing: a fault of the sandbox
// waits for the requests of the app.
func (s *Sandbox) gatewayState() (g emulator.Gateway) {
	for _, r := range s.gateway.reasons(false) {
		g.Reasons = append(g.Reasons, emulator.GatewayReason{Kind: r.kind, Account: r.account, Cause: r.cause, More: r.more})
	}
	return g
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Sandbox)(nil)
	_ caddy.CleanerUpper          = (*Sandbox)(nil)
	_ caddyhttp.MiddlewareHandler = (*Sandbox)(nil)
	_ caddy.Destructor            = pooledEmulator{}
)
