package caddycvs

// This file holds caddy cvs barcodes and caddy cvs retry.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

func newBarcodesCommand() *cobra.Command {
	words := stateNames()
	cmd := &cobra.Command{
		Use:   "barcodes [--order <number>] [--state <state>] [--since <time>] [--limit <n>] [--after <next>] [--json]",
		Short: "Lists the orders with their barcodes",
		Long: `
Lists the orders that the ledger keeps, each with its last barcode: its state,
its imp_uid, and what the shop's app is still to hear of it.

The states are those of the barcode: asked (PortOne's answer is not known),
issued, paid, refunded, expired, void and failed; and those of telling the
shop's app: pending (it is still to hear something) and waiting (it was told in
vain, and a person has to look: LAST ANSWER says why).

The number of a barcode is money, and is not kept.

With --json it prints one page of the admin endpoint, at most 100 orders; the
member next is the value of --after for the following one.`,
		Example: "  $ caddy cvs barcodes --state waiting\n  $ caddy cvs barcodes --order 2026-0001\n  $ caddy cvs barcodes --since 2026-01-31T09:00:00+09:00 --limit 500",
		Args:    cobra.NoArgs,
		RunE:    exiting(listOrders),
	}
	addAdminFlags(cmd)
	flags := cmd.Flags()
	flags.Bool("json", false, jsonUsage)
	flags.String("order", "", "Only this order number (merchant_uid)")
	flags.String("state", "", "Only this state: "+strings.Join(words, ", "))
	flags.String("since", "", "Only orders whose last barcode was asked for since a time such as 2026-01-31T09:00:00+09:00, or Unix seconds")
	flags.Int("limit", maxListed, "How many orders to list")
	flags.String("after", "", "Go on behind this order: what the page before said")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"order", "since", "limit", "after"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return cmd
}

func listOrders(cmd *cobra.Command, _ []string) error {
	g, err := findGateway(cmd)
	if err != nil {
		return err
	}
	query := make(url.Values)
	for _, name := range []string{"order", "state", "since", "after"} {
		value, _ := cmd.Flags().GetString(name)
		if value != "" {
			query.Set(name, value)
		} else if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s needs a value", name)
		}
	}
	limit, _ := cmd.Flags().GetInt("limit")
	asJSON, _ := cmd.Flags().GetBool("json")
	switch {
	case limit < 1:
		return errors.New("--limit must be at least 1")
	case asJSON && cmd.Flags().Changed("limit"):
		return errors.New("--json prints one page as it is: use --after for the next one, not --limit")
	case asJSON:
		answer, err := g.ask(cmd.Context(), "GET", barcodesURI(query), nil, "barcodes")
		if err == nil {
			_, err = cmd.OutOrStdout().Write(answer)
		}
		return err
	}
	list, err := readOrders(cmd, g, query, limit)
	if err != nil {
		return err
	}
	return list.print(cmd.OutOrStdout(), query)
}

func barcodesURI(query url.Values) string {
	if len(query) == 0 {
		return "/cvs/barcodes"
	}
	return "/cvs/barcodes?" + query.Encode()
}

// readOrders reads pages until there are as many orders as wanted.
func readOrders(cmd *cobra.Command, g *gateway, query url.Values, limit int) (*barcodeList, error) {
	whole := new(barcodeList)
	for {
		answer, err := g.ask(cmd.Context(), "GET", barcodesURI(query), nil, "barcodes")
		if err != nil {
			return nil, err
		}
		var page barcodeList
		if json.Unmarshal(answer, &page) != nil {
			return nil, g.foreign()
		}
		whole.Barcodes = append(whole.Barcodes, page.Barcodes...)
		whole.Next, whole.Waiting, whole.Pending = page.Next, page.Waiting, page.Pending
		if len(whole.Barcodes) > limit {
			last := &whole.Barcodes[limit-1]
			whole.Barcodes, whole.Next = whole.Barcodes[:limit], keyText(ledger.Key{Account: last.Account, Order: last.MerchantUID})
		}
		if whole.Next == "" || len(whole.Barcodes) == limit {
			return whole, nil
		}
		query.Set("after", page.Next)
	}
}

// print writes a table.
func (l *barcodeList) print(out io.Writer, query url.Values) error {
	table := append(make([][]string, 0, 1+len(l.Barcodes)), []string{"ORDER", "ACCOUNT", "STATE", "AMOUNT", "IMP_UID", "ASKED", "PAID", "TELLING", "LAST ANSWER"})
	for i := range l.Barcodes {
		table = append(table, l.Barcodes[i].cells())
	}
	text := aligned(table)
	if len(l.Barcodes) == 0 {
		text = "There is no such order.\n"
	}
	text += fmt.Sprintf("\n%d shown. In all, %d pending and %d waiting for a person.\n", len(l.Barcodes), l.Pending, l.Waiting)
	if l.Next != "" {
		text += "There are more: repeat the command with --after " + shellQuoted(l.Next) + "\n"
	}
	if l.Waiting > 0 && query.Get("state") == "waiting" {
		text += "Remove the cause, then: caddy cvs retry --all\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

func (v *orderView) cells() []string {
	cells := []string{printable(v.MerchantUID), accountName(v.Account), string(v.State), "", "", "", "", "", ""}
	if n := len(v.Attempts); n > 0 {
		a := &v.Attempts[n-1]
		cells[3], cells[4], cells[5], cells[6] = printable(a.Amount), printable(a.ImpUID), localTimeOf(a.Asked), localTimeOf(a.Paid)
	}
	if t := v.Telling; t != nil {
		cells[7], cells[8] = "pending", printable(t.Cause)
		if t.Waiting != nil {
			cells[7] = "waiting"
		}
	}
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	return cells
}

func newRetryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retry (--order <number> [--account <name>] [--accept-amount] | --all) [--json]",
		Short: "Has the shop told again of orders that wait for a person",
		Long: `
Has the shop's app told again, at once, of an order that waits for a person, or
of all of them. Such an order was told in vain for the time that "retry" of
cvs_notice says, or is one that the gateway does not tell without being asked,
because another amount was paid than the order's.

It looks the payment up at PortOne again, and tells what is true then. It says
how many orders that concerns. An order that does not wait is left alone, and
that is exit code 1 with --order.`,
		Example: "  $ caddy cvs retry --order 2026-0001\n  $ caddy cvs retry --order 2026-0001 --account second --accept-amount\n  $ caddy cvs retry --all",
		Args:    cobra.NoArgs,
		RunE:    exiting(retryOrders),
	}
	addAdminFlags(cmd)
	flags := cmd.Flags()
	flags.Bool("json", false, jsonUsage)
	flags.String("order", "", "The order number (merchant_uid)")
	flags.String("account", "", "The order's account, if it is not the unnamed one")
	flags.Bool("all", false, "All orders that wait for a person")
	flags.Bool("accept-amount", false, "Tell the payment although another amount was paid than the order's")
	for _, name := range []string{"order", "account"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return cmd
}

func retryOrders(cmd *cobra.Command, _ []string) error {
	var in retryRequest
	flags := cmd.Flags()
	in.Order, _ = flags.GetString("order")
	in.Account, _ = flags.GetString("account")
	in.All, _ = flags.GetBool("all")
	in.AcceptAmount, _ = flags.GetBool("accept-amount")
	switch {
	case in.All && (flags.Changed("order") || flags.Changed("account") || in.AcceptAmount):
		return errors.New("--all goes without --order, --account and --accept-amount: an amount is accepted for one order at a time")
	case !in.All && in.Order == "":
		return errors.New("name an order with --order, or all that wait with --all. caddy cvs barcodes --state waiting lists them")
	}
	g, err := findGateway(cmd)
	if err != nil {
		return err
	}
	answer, err := g.ask(cmd.Context(), "POST", "/cvs/retry", in, "retried")
	if err != nil {
		return err
	}
	var result struct {
		Retried int `json:"retried"`
	}
	if json.Unmarshal(answer, &result) != nil {
		return g.foreign()
	}
	text := string(answer)
	if asJSON, _ := flags.GetBool("json"); !asJSON {
		text = retriedText(&in, result.Retried)
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
		return err
	}
	if result.Retried == 0 && !in.All {
		return errFound
	}
	return nil
}

func retriedText(in *retryRequest, n int) string {
	switch {
	case n > 0:
		return plural(n, "order is", "orders are") + " told again. caddy cvs barcodes --state pending shows how that goes.\n"
	case in.All:
		return "No order waits for a person: nothing is to be told again.\n"
	}
	return fmt.Sprintf("The order %s of account %s does not wait for a person: nothing is told again. See it with: caddy cvs barcodes --order %s\n",
		printable(in.Order), accountName(in.Account), shellQuoted(in.Order))
}
