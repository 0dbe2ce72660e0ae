package caddycvs

// This file holds the command `caddy cvs trigger`.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// triggerCommand is the command with its flags.
type triggerCommand struct {
	trigger
	config, adapter string
	json            bool
	provision       func(*caddy.Config) (caddy.Context, error)
}

const (
	triggerLong = `
Tries the way to your shop without a payment. It reads the configuration as
caddy adapt does, and the keys as Caddy does: run it as the user that runs Caddy
and with the same environment. It writes nothing into the ledger.

It exits with 0 if the webhook was accepted or the shop has heard, with 1 if
not, and with 2 if it could not send anything.`

	triggerConfirmLong = `
Sends the confirm webhook, genuinely signed, to the confirm_url of the account's
cvs_proxy or to the URL of --to, and shows whether the till would accept. The
signature is valid for ten minutes.

No such payment exists at PortOne, and the ledger knows no barcode with the id in
this URL, also if it knows the order: so the ledger refuses nothing and notes
nothing, and your order checks alone decide. The gateway cannot tell this webhook
from another one: it asks the checks, logs the decision, counts it in the metrics
and emits its event. A check that compares the imp_uid with that of the order
says no unless --imp-uid names that one.`

	triggerTellLong = `
Tells your app what cvs_notice would, once, at the same URL, with the same header
fields and signed with the same secret, and shows whether your app would count as
having heard. The body has "test":true, and an imp_uid that begins with imp_test_.

There is no such payment. The app should verify the signature first, then ignore
a message whose test is true, and answer as if it had heard. An app that does not
look at test takes the order for paid, paid back or expired: name one that does
not exist, or that nobody misses.`
)

func newTriggerCommand() *cobra.Command { return triggerCommandWith(caddy.ProvisionContext) }

func triggerCommandWith(provision func(*caddy.Config) (caddy.Context, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "trigger <confirm|paid|cancelled|expired>",
		Short:   "Sends a genuine confirm webhook, or tells the shop of a payment that does not exist",
		Long:    triggerLong,
		Example: "  $ caddy cvs trigger confirm --order 2026-0001 --amount 15000\n  $ caddy cvs trigger paid --order 2026-0001",
		Args:    cobra.ArbitraryArgs, // or a mistyped name would print the help, and be a success
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return refuseCall(cmd, fmt.Errorf("there is nothing to trigger that is called %q: there are confirm, paid, cancelled and expired", args[0]))
		},
	}
	cmd.SetFlagErrorFunc(refuseCall) // also of those below it
	cmd.AddCommand(newTriggerConfirmCommand())
	for _, event := range []tell.Event{tell.Paid, tell.Cancelled, tell.Expired} {
		cmd.AddCommand(newTriggerTellCommand(event, provision))
	}
	return cmd
}

func newTriggerConfirmCommand() *cobra.Command {
	t := new(triggerCommand)
	cmd := &cobra.Command{
		Use:     "confirm --order <order> --amount <won> [--account <name>] [--imp-uid <imp_uid>] [--to <url>] [--config <path> [--adapter <name>]] [--json]",
		Short:   "Sends the confirm webhook of a payment that does not exist",
		Long:    triggerConfirmLong,
		Example: "  $ caddy cvs trigger confirm --order 2026-0001 --amount 15000",
		Args:    refuseWords,
		RunE:    func(cmd *cobra.Command, _ []string) error { return t.end(cmd, t.run(cmd, t.sendConfirm)) },
	}
	t.addFlags(cmd)
	cmd.Flags().StringVar(&t.impUID, "imp-uid", "", "The imp_uid of the payment; by default one that does not exist")
	cmd.Flags().StringVar(&t.to, "to", "", "The URL of cvs_confirm; by default confirm_url")
	completeFlags(cmd, "order", "amount", "account", "imp-uid", "to")
	return cmd
}

func newTriggerTellCommand(event tell.Event, provision func(*caddy.Config) (caddy.Context, error)) *cobra.Command {
	t := &triggerCommand{provision: provision}
	cmd := &cobra.Command{
		Use:     string(event) + " --order <order> [--amount <won>] [--account <name>] [--config <path> [--adapter <name>]] [--json]",
		Short:   "Tells the shop, as a test, that a payment is " + string(event),
		Long:    triggerTellLong,
		Example: "  $ caddy cvs trigger " + string(event) + " --order 2026-0001",
		Args:    refuseWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return t.end(cmd, t.run(cmd, func(ctx context.Context, c *triggerConfig) (*triggered, error) { return t.sendTell(ctx, c, event) }))
		},
	}
	t.addFlags(cmd)
	t.amount = defaultAmount
	cmd.Flags().Lookup("amount").DefValue = defaultAmount
	completeFlags(cmd, "order", "amount", "account")
	return cmd
}

func (t *triggerCommand) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&t.order, "order", "", "The order's number, the merchant_uid")
	flags.StringVar(&t.amount, "amount", "", "The amount in won")
	flags.StringVar(&t.account, "account", "", "The account; by default the unnamed one")
	flags.StringVarP(&t.config, "config", "c", "", "The configuration file; by default the Caddyfile of this directory")
	flags.StringVarP(&t.adapter, "adapter", "a", "", "The name of the config adapter")
	flags.BoolVar(&t.json, "json", false, "Print JSON")
}

// end returns the error with which the process ends with the right exit code.
func (t *triggerCommand) end(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if errors.Is(err, errFound) {
		return err // 1
	}
	cmd.PrintErrln("Error: " + err.Error())
	return exitWith(cmd, exitUnasked)
}

func (t *triggerCommand) run(cmd *cobra.Command, send func(context.Context, *triggerConfig) (*triggered, error)) error {
	if err := t.validate(); err != nil {
		return err
	}
	adapted, file, _, err := caddycmd.LoadConfig(t.config, t.adapter)
	switch {
	case err != nil:
		return err
	case file == "":
		return errors.New("there is no Caddyfile in this directory: name the configuration with --config")
	}
	c, err := readTriggerConfig(adapted)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if ctx == nil { // Caddy's commands get none
		ctx = context.Background()
	}
	result, err := send(ctx, c)
	if err != nil {
		return err
	}
	if err := result.print(cmd.OutOrStdout(), t.json); err != nil {
		return err
	}
	if !result.good {
		return errFound
	}
	return nil
}

func (t *triggerCommand) validate() (err error) {
	if t.order == "" {
		return errors.New("name an order with --order: its merchant_uid")
	}
	if t.impUID == "" {
		t.impUID = testImpUID + signedurl.NewID()
	}
	t.amount, err = validAmount(t.amount)
	return err
}

func (t *triggerCommand) sendConfirm(ctx context.Context, c *triggerConfig) (*triggered, error) {
	return t.confirm(ctx, c)
}

func (t *triggerCommand) sendTell(ctx context.Context, c *triggerConfig, event tell.Event) (*triggered, error) {
	n, err := c.notice(t.account)
	if err != nil {
		return nil, err
	}
	caddyCtx, err := t.provision(new(caddy.Config)) // only transports need it
	if err != nil {
		return nil, err
	}
	return t.tell(ctx, caddyCtx, n, event)
}

// print prints what was sent and answered, for a person or as JSON.
func (r *triggered) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.Request.Method, r.Request.URL)
	for _, name := range slices.Sorted(maps.Keys(r.Request.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, forTerminal(r.Request.Header[name]))
	}
	fmt.Fprintf(&b, "\n%s\n\n", forTerminal(r.Request.Body))
	if a := r.Answer; a != nil {
		fmt.Fprintf(&b, "%d %s\n", a.Status, http.StatusText(a.Status))
		if a.ContentType != "" {
			fmt.Fprintf(&b, "Content-Type: %s\n", forTerminal(a.ContentType))
		}
		fmt.Fprintf(&b, "\n%s\n\n", forTerminal(strings.TrimSpace(a.Body)))
	}
	fmt.Fprintf(&b, "%s: %s\n", r.Verdict, r.Meaning)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// forTerminal returns a text of somebody else as a terminal may get it: a beginning of it, without what controls
// the terminal.
func forTerminal(text string) string {
	const longest = 2000
	runes := []rune(strings.ToValidUTF8(text, "\ufffd"))
	end := ""
	if len(runes) > longest {
		runes, end = runes[:longest], "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, string(runes)) + end
}
