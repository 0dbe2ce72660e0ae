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

	emulator *emulator.Emulator
	pooled   sandboxKey
}

// sandboxes holds the emulators in use, by everything that defines them.
var sandboxes = caddy.NewUsagePool()

type sandboxKey struct {
	credentials [sha256.Size]byte
	webhooks    string
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
	opts := emulator.Options{PublicWebhooks: s.Webhooks == "any"}
	key := sandboxKey{webhooks: cmp.Or(s.Webhooks, "private")}
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
	switch {
	case s.Webhooks != "" && s.Webhooks != "private" && s.Webhooks != "any":
		return fmt.Errorf("webhooks must be private or any, not %q", s.Webhooks)
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
//	}
func parseSandbox(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	s := new(Sandbox)
	start := *h.Dispenser
	start.Next()
	err := parseDirective(h, map[string]option{
		"imp_key":    text(&s.ImpKey, checkSecret("imp_key")),
		"imp_secret": text(&s.ImpSecret, checkSecret("imp_secret")),
		"webhooks":   text(&s.Webhooks, oneOf("private", "any")),
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

// checkFree refuses an address that is taken. Caddy itself would share the port
// with its owner, so that each of two sandboxes got half of the requests.
func checkFree(listen string) error {
	addr, err := caddy.ParseNetworkAddress(listen)
	if err != nil {
		return err
	}
	listener, err := net.Listen(addr.Network, addr.JoinHostPort(0))
	if err != nil {
		return fmt.Errorf("%w: choose another address with --listen", err)
	}
	return listener.Close()
}

func startSandbox(listen string) error {
	if err := checkFree(listen); err != nil {
		return fmt.Errorf("starting the sandbox on %s: %w", listen, err)
	}
	if err := caddy.Run(sandboxConfig(listen)); err != nil {
		return fmt.Errorf("starting the sandbox on %s: %w", listen, err)
	}
	fmt.Printf("caddy-cvs sandbox, not PortOne: no money moves here. API at http://%[1]s, till at http://%[1]s/till\n", listen)
	return nil
}

func runSandbox(flags caddycmd.Flags) (int, error) {
	caddy.TrapSignals()
	if err := startSandbox(flags.String("listen")); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	select {}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Sandbox)(nil)
	_ caddy.CleanerUpper          = (*Sandbox)(nil)
	_ caddyhttp.MiddlewareHandler = (*Sandbox)(nil)
	_ caddy.Destructor            = pooledEmulator{}
)
