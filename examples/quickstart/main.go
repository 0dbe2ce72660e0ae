// Command quickstart starts Caddy with caddy-cvs, the sandbox in place of
// PortOne, and a small shop, all on this machine. Nothing leaves it and no money
// moves.
package main

import (
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
)

//go:embed Caddyfile
var caddyfile []byte

const shopAddress = "127.0.0.1:3000"

const hints = `
caddy-cvs quickstart, on the sandbox: no money moves here.

Order an umbrella; the shop asks Caddy for a barcode, without any credential:
  curl http://127.0.0.1:8080/orders -d product=umbrella

Pay it at the till, with the barcode that the answer shows:
  curl http://127.0.0.1:8480/till -d pay_type=cash -d barcode=BARCODE

See that the shop knows:
  curl http://127.0.0.1:8080/orders/order-1

Order a lamp (product=lamp), which sells out on the way to the store, and see
the shop's reason at the till. Ctrl-C ends everything.
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run() error {
	// The sandbox accepts any keys. In production they come from the
	// environment or from files, and only Caddy has them.
	for _, name := range []string{"PORTONE_IMP_KEY", "PORTONE_IMP_SECRET"} {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, "sandbox-"+name); err != nil {
				return err
			}
		}
	}
	listener, err := net.Listen("tcp", shopAddress)
	if err != nil {
		return fmt.Errorf("starting the shop: %w (the addresses stand in examples/quickstart)", err)
	}
	server := &http.Server{Handler: newShop(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	if err := startCaddy(); err != nil {
		return fmt.Errorf("starting Caddy: %w (the addresses stand in examples/quickstart/Caddyfile)", err)
	}
	fmt.Print(hints)

	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	select {
	case err = <-failed:
	case <-interrupted:
	}
	return errors.Join(err, caddy.Stop(), server.Close())
}

func startCaddy() error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}
