// Command quickstart starts Caddy with caddy-cvs, the sandbox in place of
// PortOne, and a small shop, all on this machine. Nothing leaves it and no money
// moves.
package main

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-cvs/caddy-cvs"
	"github.com/caddy-cvs/caddy-cvs/examples/quickstart/shop"
)

//go:embed Caddyfile
var caddyfile []byte

// The ports are the Caddyfile's.
var ports = []struct{ variable, usual, what string }{
	{"SHOP_PORT", "8080", "the shop's site"},
	{"APP_PORT", "3000", "the shop's app"},
	{"GATEWAY_PORT", "8081", "the gateway"},
	{"SANDBOX_PORT", "8480", "the sandbox"},
}

const hints = `
caddy-cvs quickstart, on the sandbox: no money moves here.

Open http://%s

Order something, and be the cashier, too. Ctrl-C ends everything.
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run() error {
	data, err := os.MkdirTemp("", "caddy-cvs-quickstart")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	if err := setEnvironment(data); err != nil {
		return err
	}
	if err := requirePorts(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address("APP_PORT"))
	if err != nil {
		return fmt.Errorf("starting the shop: %w", err)
	}
	server := &http.Server{
		Handler:           shop.New("http://"+address("GATEWAY_PORT"), "http://"+address("SANDBOX_PORT")+"/till"),
		ReadHeaderTimeout: 5 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	if err := startCaddy(); err != nil {
		return fmt.Errorf("starting Caddy: %w", err)
	}
	fmt.Printf(hints, address("SHOP_PORT"))

	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	select {
	case err = <-failed:
	case <-interrupted:
	}
	return errors.Join(err, caddy.Stop(), server.Close())
}

// requirePorts returns an error that says which ports are taken, and how to choose others.
// Caddy would share a port with another quickstart, and each would get half of the requests.
func requirePorts() error {
	var taken, command string
	for _, p := range ports {
		if err := requireFree(address(p.variable)); err != nil {
			taken += fmt.Sprintf("\n  %s: %v", p.what, err)
			command += fmt.Sprintf("%s=%d ", p.variable, freePort())
		} else if port := os.Getenv(p.variable); port != p.usual {
			command += fmt.Sprintf("%s=%s ", p.variable, port)
		}
	}
	if taken == "" {
		return nil
	}
	return fmt.Errorf("no port for%s\nFree what is taken, or choose others:\n  %sgo run ./examples/quickstart", taken, command)
}

// requireFree returns an error if the address is in use.
func requireFree(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return listener.Close()
}

// freePort returns a port that is free at the moment, 0 if there is none.
func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// setEnvironment sets the variables of the Caddyfile that are not set. The sandbox accepts any
// keys; in production they come from the environment or from files, and only
// Caddy has them. The data directory, which has the ledger, is the quickstart's own: the
// orders end with the sandbox, and another Caddy of this machine keeps its own ledger.
func setEnvironment(data string) error {
	if err := os.Setenv("XDG_DATA_HOME", data); err != nil {
		return err
	}
	missing := map[string]string{"PORTONE_IMP_KEY": "sandbox-key", "PORTONE_IMP_SECRET": "sandbox-secret"}
	for _, p := range ports {
		missing[p.variable] = p.usual
	}
	for name, value := range missing {
		if err := os.Setenv(name, cmp.Or(os.Getenv(name), value)); err != nil {
			return err
		}
	}
	return nil
}

// address returns the address of a listener. variable is the one that holds its port.
func address(variable string) string {
	return net.JoinHostPort("127.0.0.1", os.Getenv(variable))
}

func startCaddy() error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}
