package caddycvs

// This file holds cvs_sandbox and the command cvs-sandbox: the emulator, served
// by Caddy.

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func init() {
	caddy.RegisterModule(Sandbox{})
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "cvs-sandbox",
		Usage: "[--listen <address>]",
		Short: "Serves an emulator of PortOne's API for convenience-store payment",
		Long: `
Serves an emulator of PortOne's API for convenience-store payment, for
development and tests: it keeps everything in memory, moves no money and
accepts any keys. Point the global option cvs at it with

	api http://127.0.0.1:8480

Its till is at /till, a page where a barcode is paid as a customer would; so
does POST {"barcode":"...","pay_type":"card"}. Its webhooks go to loopback and
private addresses only.`,
		Flags: func() *flag.FlagSet {
			flags := flag.NewFlagSet("cvs-sandbox", flag.ExitOnError)
			flags.String("listen", "127.0.0.1:8480", "The address to listen on")
			return flags
		}(),
		Func: runSandbox,
	})
}

// Sandbox serves an emulator of PortOne's API, with a till, for development and
// tests. It answers every request that reaches it. Its payments survive a
// reload and end with the process.
type Sandbox struct {
	// ImpKey and ImpSecret are the only keys that are accepted, as placeholders.
	// Default: any
	ImpKey    string `json:"imp_key,omitempty"`
	ImpSecret string `json:"imp_secret,omitempty"`

	// Webhooks says where webhooks may go: "private" means loopback and private
	// addresses, "any" every address. Default: private
	Webhooks string `json:"webhooks,omitempty"`

	// Channel says of which kind of channel the payments are: "test", which the API
	// hides from GET /payments/{imp_uid} without include_sandbox=true, or "live".
	// Default: test
	Channel string `json:"channel,omitempty"`

	// Fractions says what becomes of an amount with a fraction of a won: "refuse",
	// "keep" or "round". Default: refuse
	Fractions string `json:"fractions,omitempty"`

	// CancelNotices sends a notice for each cancellation by POST /payments/cancel. PortOne
	// does so if the call has enable_webhook. Default: false
	CancelNotices bool `json:"cancel_notices,omitempty"`

	emulator *emulator.Emulator
	pooled   sandboxKey
}

// The words of the options that take one.
var (
	webhookWords  = []string{"private", "any"}
	channelWords  = []string{"test", "live"}
	fractionWords = []string{"refuse", "keep", "round"}
)

// sandboxes holds the emulators in use, by everything that defines them.
var sandboxes = caddy.NewUsagePool()

type sandboxKey struct {
	credentials   [sha256.Size]byte
	webhooks      string
	channel       string
	fractions     string
	cancelNotices bool
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
		PublicWebhooks: s.Webhooks == "any", LiveChannel: s.Channel == "live", CancelNotices: s.CancelNotices,
	}
	if s.Fractions != "refuse" {
		opts.Fractions = emulator.Fractions(s.Fractions)
	}
	key := sandboxKey{
		webhooks: cmp.Or(s.Webhooks, "private"), channel: cmp.Or(s.Channel, "test"),
		fractions: cmp.Or(s.Fractions, "refuse"), cancelNotices: s.CancelNotices,
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
		{"webhooks", s.Webhooks, webhookWords}, {"channel", s.Channel, channelWords}, {"fractions", s.Fractions, fractionWords},
	} {
		if option.value == "" {
			continue
		}
		if err := oneOf(option.words...)(option.value); err != nil {
			return fmt.Errorf("%s: %w", option.name, err)
		}
	}
	switch {
	case (s.ImpKey == "") != (s.ImpSecret == ""):
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
	s.emulator.ServeHTTP(w, r)
	return nil
}

// parseSandbox parses the cvs_sandbox directive. Syntax:
//
//	cvs_sandbox [<matcher>] {
//		imp_key    <placeholder>
//		imp_secret <placeholder>
//		webhooks   private|any
//		channel    test|live
//		fractions  refuse|keep|round
//		cancel_notices
//	}
func parseSandbox(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	s := new(Sandbox)
	start := *h.Dispenser
	start.Next()
	err := parseDirective(h, map[string]option{
		"imp_key":    text(&s.ImpKey, checkSecret("imp_key")),
		"imp_secret": text(&s.ImpSecret, checkSecret("imp_secret")),
		"webhooks":   text(&s.Webhooks, oneOf(webhookWords...)),
		"channel":    text(&s.Channel, oneOf(channelWords...)),
		"fractions":  text(&s.Fractions, oneOf(fractionWords...)),

		"cancel_notices": toggle(&s.CancelNotices),
	})
	if err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, start.WrapErr(err)
	}
	return s, nil
}

// sandboxConfig is the configuration of the command cvs-sandbox.
func sandboxConfig(listen string) *caddy.Config {
	persist := false
	return &caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}},
		AppsRaw: caddy.ModuleMap{
			"http": caddyconfig.JSON(caddyhttp.App{Servers: map[string]*caddyhttp.Server{
				"sandbox": {
					Listen:    []string{listen},
					AutoHTTPS: &caddyhttp.AutoHTTPSConfig{Disabled: true},
					Routes: caddyhttp.RouteList{{
						HandlersRaw: []json.RawMessage{caddyconfig.JSONModuleObject(Sandbox{}, "handler", "cvs_sandbox", nil)},
					}},
				},
			}}, nil),
		},
	}
}

// sandboxURL returns where a sandbox that listens so can be opened. It refuses an
// address that cannot be opened, and one that is taken: Caddy itself would share the port
// with its owner, so that each of two sandboxes got half of the requests.
func sandboxURL(listen string) (string, error) {
	addr, err := caddy.ParseNetworkAddress(listen)
	switch {
	case err != nil:
		return "", err
	case addr.Network != "tcp" && addr.Network != "tcp4" && addr.Network != "tcp6" || addr.PortRangeSize() != 1 || addr.StartPort == 0:
		return "", errors.New("need one TCP port, such as 127.0.0.1:8480 or :8480")
	}
	listener, err := net.Listen(addr.Network, addr.JoinHostPort(0))
	if err != nil {
		return "", fmt.Errorf("%w: choose another address with --listen", err)
	}
	host := addr.Host
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost" // whoever listens everywhere does so here
	}
	return "http://" + net.JoinHostPort(host, strconv.FormatUint(uint64(addr.StartPort), 10)), listener.Close()
}

// startSandbox starts a sandbox and returns where it can be opened.
func startSandbox(listen string) (string, error) {
	url, err := sandboxURL(listen)
	if err == nil {
		err = caddy.Run(sandboxConfig(listen))
	}
	if err != nil {
		return "", fmt.Errorf("starting the sandbox on %s: %w", listen, err)
	}
	return url, nil
}

// refuseWords refuses what would be ignored, such as an address without its flag.
func refuseWords(words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("cvs-sandbox takes no words but --listen <address>, and there is %q", words[0])
	}
	return nil
}

func runSandbox(flags caddycmd.Flags) (int, error) {
	if err := refuseWords(flags.Args()); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	caddy.TrapSignals()
	url, err := startSandbox(flags.String("listen"))
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Printf("caddy-cvs sandbox, not PortOne: no money moves here. API at %[1]s, till at %[1]s/till\n", url)
	select {}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Sandbox)(nil)
	_ caddy.CleanerUpper          = (*Sandbox)(nil)
	_ caddyhttp.MiddlewareHandler = (*Sandbox)(nil)
	_ caddy.Destructor            = pooledEmulator{}
)
