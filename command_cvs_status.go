package caddycvs

// This file holds caddy cvs status.

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const (
	shownAccounts = 20
	// longPending is from when on an order of which the shop has not heard is called a fault.
	longPending = time.Hour
)

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [--failed] [--json] [--address <address> | --config <path> [--adapter <name>]]",
		Short: "Shows whether the gateway works, and what to do if not",
		Long: `
Shows the accounts with their access tokens, the ledger, and what the handlers
have answered since the gateway started. If something is wrong, it says what to
do, and ends with exit code 1.

Beside the name of an account is whether it has a token of PortOne: "none" is
good, too: nobody needed one yet. "clock" is by how many seconds PortOne's
clock is ahead of this machine's.

"pending" are orders of which the shop's app is still to hear something: that
they were paid, paid back or have expired. "waiting" are those of which it was
told in vain, and which wait for a person.`,
		Example: "  $ caddy cvs status\n  $ caddy cvs status --config /etc/caddy/Caddyfile",
		Args:    cobra.NoArgs,
		RunE:    exiting(showStatus),
	}
	addAdminFlags(cmd)
	cmd.Flags().Bool("json", false, jsonUsage)
	cmd.Flags().Bool("failed", false, "Only accounts that cannot get a token")
	return cmd
}

func showStatus(cmd *cobra.Command, _ []string) error {
	g, err := findGateway(cmd)
	if err != nil {
		return err
	}
	uri := "/cvs/status"
	if failed, _ := cmd.Flags().GetBool("failed"); failed {
		uri += "?token=" + tokenFailed
	}
	answer, err := g.ask(cmd.Context(), "GET", uri, nil, "ledger")
	if err != nil {
		return err
	}
	var status statusView
	if json.Unmarshal(answer, &status) != nil {
		return g.foreign()
	}
	advice := status.advice(time.Now())
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		_, err = cmd.OutOrStdout().Write(answer)
	} else {
		err = status.print(cmd.OutOrStdout(), advice)
	}
	if err == nil && len(advice) > 0 {
		err = errFound
	}
	return err
}

// print writes the status and what to do.
func (v *statusView) print(out io.Writer, advice []string) error {
	table := append(v.accountLines(), []string{"ledger", v.Ledger.Store, v.Ledger.line()})
	for _, handler := range slices.Sorted(maps.Keys(v.Handlers)) {
		for _, what := range slices.Sorted(maps.Keys(v.Handlers[handler])) {
			table = append(table, []string{handler, what, countsLine(v.Handlers[handler][what])})
		}
	}
	text := aligned(append(table, []string{"counted", "", "since " + localTime(v.Since)}))
	if len(advice) == 0 {
		text += "\nNothing is wrong.\n"
	} else {
		text += "\nWhat to do:\n- " + strings.Join(advice, "\n- ") + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// accountLines returns the accounts, those that fail first.
func (v *statusView) accountLines() (table [][]string) {
	works := func(a accountView) bool { return a.Token != tokenFailed }
	accounts := slices.DeleteFunc(slices.Clone(v.Accounts), works)
	accounts = append(accounts, slices.DeleteFunc(slices.Clone(v.Accounts), func(a accountView) bool { return !works(a) })...)
	accounts = accounts[:min(len(accounts), shownAccounts)]
	for i := range accounts {
		a := &accounts[i]
		line := "token " + a.Token
		if a.ValidUntil != nil {
			line += ", valid until " + localTime(*a.ValidUntil)
		}
		if a.ClockOffset != nil {
			line += fmt.Sprintf(", clock %+d s", *a.ClockOffset)
		}
		table = append(table, []string{"account", accountName(a.Name), line})
	}
	if hidden := v.Total - len(accounts); hidden > 0 {
		table = append(table, []string{"account", "", fmt.Sprintf("and %d more", hidden)})
	}
	return table
}

func (l *ledgerView) line() string {
	line := l.State
	if l.Since != nil {
		line += " since " + localTime(*l.Since)
	}
	if l.Pending == nil || l.Waiting == nil {
		return line
	}
	least := ""
	if l.AtLeast {
		least = "at least "
	}
	return fmt.Sprintf("%s, pending %s%d, waiting %s%d", line, least, *l.Pending, least, *l.Waiting)
}

func countsLine(counts map[string]int64) string {
	list := make([]string, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(list, ", ")
}

// What to do when an account gets no token.
const (
	keysRemedy  = "compare imp_key and imp_secret with PortOne's console, correct them and reload"
	otherRemedy = "it is tried again by itself. See whether this machine reaches PortOne's API, and whether PortOne has an outage"
)

// advice returns what is wrong, with what to do.
func (v *statusView) advice(now time.Time) (list []string) {
	failing := 0
	for i := range v.Accounts {
		a := &v.Accounts[i]
		if a.Token != tokenFailed {
			continue
		}
		if failing++; failing > maxReasons {
			continue
		}
		cause, remedy := "", otherRemedy
		if a.LastError != nil {
			cause = fmt.Sprintf(" (%s, last at %s)", a.LastError.Cause, localTime(a.LastError.At))
			if a.LastError.Cause == client.TokenCredentials {
				remedy = keysRemedy
			}
		}
		list = append(list, fmt.Sprintf("account %s gets no access token%s: %s", accountName(a.Name), cause, remedy))
	}
	if more := v.Failing - min(failing, maxReasons); more > 0 {
		list = append(list, fmt.Sprintf("%d more accounts get no access token: caddy cvs status --failed", more))
	}
	return append(list, v.Ledger.advice(now)...)
}

func (l *ledgerView) advice(now time.Time) (list []string) {
	switch l.State {
	case ledgerDegraded:
		cause := ""
		if l.Cause != "" {
			cause = " (" + printable(l.Cause) + ")"
		}
		list = append(list, "the ledger cannot be used"+cause+": barcodes are issued without it, or refused, as on_down says, and the shop is told nothing. Remove the cause; the gateway goes on by itself")
	case ledgerSlow:
		list = append(list, "the ledger does not answer in time: see how busy its disk or its database is")
	}
	if l.Waiting != nil && *l.Waiting > 0 {
		list = append(list, fmt.Sprintf("%s for a person: caddy cvs barcodes --state waiting shows why. Mend that in the shop's app, then: caddy cvs retry --all", plural(*l.Waiting, "order waits", "orders wait")))
	}
	if l.OldestPending != nil && now.Sub(*l.OldestPending) > longPending {
		list = append(list, fmt.Sprintf("the shop's app has not heard of an order since %s: see whether it is up. caddy cvs barcodes --state pending shows what it answered", localTime(*l.OldestPending)))
	}
	return list
}
