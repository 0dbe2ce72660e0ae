package caddycvs

// This file holds the command `caddy cvs check`.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// checkCommand is the command with its flags.
type checkCommand struct {
	config, adapter, address string
	json                     bool

	out, err  io.Writer
	colours   bool
	provision func(*caddy.Config) (caddy.Context, error)
	network   *network // nil for the real one
}

func newCheckCommand() *cobra.Command {
	c := &checkCommand{provision: caddy.ProvisionContext}
	cmd := &cobra.Command{
		Use:   "check [--config <path>] [--adapter <name>] [--address <admin address>] [--json]",
		Short: "Says what is wrong with a set-up, and what to do",
		Long: `
Says what is wrong with a set-up, line by line, and what to do. It loads the
configuration as Caddy would, without starting it, gets a token with the real
keys, connects to the app, and probes confirm_url from outside. It changes no
order: nothing is issued, paid or told.

Run it as the user that runs Caddy and with the same environment. By default it
reads the Caddyfile of the present directory. --address is that of the admin
endpoint of the running Caddy, by default as the configuration has it.

It exits with 0 if all is good, 1 if something was found, and 2 if it could not
look.`,
		Example: "  $ caddy cvs check --config /etc/caddy/Caddyfile",
		Args:    refuseWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceErrors = true // the lines say it
			c.out, c.err, c.colours = cmd.OutOrStdout(), cmd.ErrOrStderr(), isTerminal(os.Stdout)
			return exitWith(cmd, c.run(cmd.Context()))
		},
	}
	cmd.Flags().StringVarP(&c.config, "config", "c", "", "The configuration file")
	cmd.Flags().StringVarP(&c.adapter, "adapter", "a", "", "The name of the configuration's adapter, if it is not JSON")
	cmd.Flags().StringVar(&c.address, "address", "", "The admin address of the running Caddy")
	cmd.Flags().BoolVar(&c.json, "json", false, "Print JSON")
	completeFlags(cmd, "address")
	cmd.SetFlagErrorFunc(refuseCall)
	return cmd
}

// isTerminal reports whether a person reads what is written to a file.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// run runs the command, and returns its exit code.
func (c *checkCommand) run(ctx context.Context) int {
	if ctx == nil {
		ctx = context.Background()
	}
	found, err := c.inspect(ctx)
	if err == nil && c.json {
		err = found.printJSON(c.out)
	} else if err == nil {
		err = found.print(c.out, c.colours)
	}
	switch {
	case err != nil:
		_, _ = fmt.Fprintln(c.err, "Error: "+err.Error())
		return exitUnasked
	case len(found.Findings) > 0:
		return exitFound
	default:
		return exitGood
	}
}

// inspect inspects the configuration. Its error says why it could not look. What keeps Caddy from loading the
// configuration is a finding.
func (c *checkCommand) inspect(ctx context.Context) (*report, error) {
	if c.config != "" && c.config != "-" {
		if _, err := os.Stat(c.config); err != nil {
			return nil, fmt.Errorf("reading the configuration: %w: name it with --config", err)
		}
	}
	adapted, file, _, err := caddycmd.LoadConfig(c.config, c.adapter)
	switch {
	case err != nil && c.config == "" && c.adapter != "":
		return nil, err
	case err != nil:
		return brokenConfig(cmp.Or(c.config, "Caddyfile"), err), nil
	case file == "":
		return nil, errors.New("there is no Caddyfile in this directory: name the configuration with --config")
	}
	s, err := loadSetup(adapted, c.provision)
	switch {
	case errors.Is(err, errNoCVS):
		return nil, err
	case err != nil:
		return brokenConfig(file, err), nil
	}
	n := c.network
	if n == nil {
		n = newNetwork(c.askAdmin(adapted, file))
	}
	found := s.inspect()
	found.add(s.inspectNetwork(ctx, n))
	return found, nil
}

// brokenConfig is the report of a configuration that cannot be loaded. Of the modules that Caddy was loading it
// names the innermost: which ones are around it depends on the order in which Caddy loads its apps.
func brokenConfig(file string, err error) *report {
	const mark = ": provision "
	text := err.Error()
	if i := strings.LastIndex(text, mark); i >= 0 {
		text = text[i+len(mark):]
	}
	r := new(report)
	r.fail("not_loaded", file, "Caddy cannot load the configuration: "+text, "")
	return r
}

// askAdmin returns a function that asks the admin endpoint of the running Caddy. With admin off there is none, and
// what answers at the default address is another Caddy.
func (c *checkCommand) askAdmin(adapted []byte, file string) func(ctx context.Context, uri string) ([]byte, error) {
	return func(ctx context.Context, uri string) ([]byte, error) {
		if c.address == "" && gjson.GetBytes(adapted, "admin.disabled").Bool() {
			return nil, errors.New("admin is off")
		}
		address, err := caddycmd.DetermineAdminAPIAddress(c.address, adapted, file, c.adapter)
		if err != nil {
			return nil, err
		}
		g, err := newGateway(address)
		if err != nil {
			return nil, err
		}
		return g.ask(ctx, http.MethodGet, uri, nil, "ledger")
	}
}
