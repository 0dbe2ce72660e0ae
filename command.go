package caddycvs

// This file holds the commands: caddy cvs-sandbox.

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "cvs-sandbox",
		Usage: "[--listen <address>]",
		Short: "Serves an emulator of PortOne's API for convenience-store payment",
		Long: `
Serves an emulator of PortOne's API for convenience-store payment, for
development and tests: it keeps everything in memory, moves no money and
accepts any keys. Point the global option cvs at it with

	api http://127.0.0.1:8480

Its till is the page /till, where you pay a barcode as a customer would. A
POST of {"barcode":"...","pay_type":"card"} to /till does the same. Its
webhooks go to loopback and private addresses only.`,
		Flags: func() *flag.FlagSet {
			flags := flag.NewFlagSet("cvs-sandbox", flag.ExitOnError)
			flags.String("listen", "127.0.0.1:8480", "The address to listen on")
			return flags
		}(),
		Func: runSandbox,
	})
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

// sandboxURL returns the URL of a sandbox that listens at an address. It refuses an address
// that cannot be used, and one that is in use: Caddy would share the port, and each of two
// sandboxes would get half of the requests.
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
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, strconv.FormatUint(uint64(addr.StartPort), 10)), listener.Close()
}

// startSandbox starts a sandbox and returns its URL.
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

// refuseArguments refuses arguments that would be ignored, such as an address without its
// flag.
func refuseArguments(words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("cvs-sandbox takes no arguments but --listen <address>, and there is %q", words[0])
	}
	return nil
}

func runSandbox(flags caddycmd.Flags) (int, error) {
	if err := refuseArguments(flags.Args()); err != nil {
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
