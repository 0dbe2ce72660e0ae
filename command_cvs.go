package caddycvs

// This file holds the command caddy cvs with its sub-commands, and what they have in common.

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "cvs",
		Usage: "<command>",
		Short: "Checks, shows and mends a gateway of caddy-cvs",
		Long: `
Checks a set-up of caddy-cvs and tries the way to the shop; shows what state a
running gateway is in and which barcodes it has issued, has the shop told again,
and backs up the ledger.

check and trigger read the configuration: run them as the user that runs Caddy,
with the same environment. The other commands ask the admin endpoint of the
Caddy that runs, by default localhost:2019: run them on the same machine, or in
the same container.

Exit codes:
  0  good
  1  something was found to be wrong, or the command failed
  2  it could not look, ask or send`,
		CobraFunc: addCvsCommands,
	})
}

// cvsCommands are the sub-commands.
var cvsCommands = []func() *cobra.Command{newCheckCommand, newTriggerCommand, newStatusCommand, newBarcodesCommand, newRetryCommand, newBackupCommand}

func addCvsCommands(cmd *cobra.Command) {
	cmd.Example = "  $ caddy cvs check --config /etc/caddy/Caddyfile\n  $ caddy cvs trigger confirm --order 2026-0001 --amount 15000\n  $ caddy cvs status\n  $ caddy cvs barcodes --state waiting\n  $ caddy cvs retry --all\n  $ caddy cvs backup /var/backups/cvs.db"
	for _, command := range cvsCommands {
		cmd.AddCommand(command())
	}
	cmd.Args = cobra.ArbitraryArgs // or a mistyped name would print the help, and be a success
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("there is no command caddy cvs %q", args[0])
		if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
			text += ": did you mean " + strings.Join(similar, " or ") + "?"
		}
		return errors.New(text + "; caddy help cvs lists them")
	}
}

// The exit codes of the commands.
const (
	exitGood    = 0
	exitFound   = 1 // something is wrong, or the command failed
	exitUnasked = 2 // could not look, ask or send
)

// errFound says that a command has printed what is wrong.
var errFound = errors.New("found")

// exitWith returns the error with which Caddy ends with an exit code. Only its own function can set another
// one than 1.
func exitWith(cmd *cobra.Command, code int) error {
	switch code {
	case exitGood:
		return nil
	case exitFound:
		return errFound
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

// refuseCall says what is wrong with a call of check or trigger. A script must not take that for a finding, or for
// the shop's no.
func refuseCall(cmd *cobra.Command, err error) error {
	cmd.PrintErrln("Error: " + err.Error() + ": see " + cmd.CommandPath() + " --help")
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return exitWith(cmd, exitUnasked)
}

// refuseWords refuses words that would be ignored.
func refuseWords(cmd *cobra.Command, words []string) error {
	if len(words) > 0 {
		return refuseCall(cmd, fmt.Errorf("%q is no flag", words[0]))
	}
	return nil
}

// askError is that the gateway could not be asked.
type askError struct{ text string }

func (e *askError) Error() string { return e.text }

func cannotAsk(format string, args ...any) error { return &askError{fmt.Sprintf(format, args...)} }

// exiting returns what cobra runs. An error is printed as a sentence, without a time and a logger's name, and
// ends the process with the exit code that is documented.
func exiting(run func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		if err == nil {
			return nil
		}
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if !errors.Is(err, errFound) {
			cmd.PrintErrln("Error: " + err.Error())
		}
		if _, unasked := errors.AsType[*askError](err); unasked {
			return exitWith(cmd, exitUnasked)
		}
		return err
	}
}

// addAdminFlags adds the flags that say where the gateway is.
func addAdminFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.String("address", "", "Address of the admin endpoint, such as localhost:2019 or unix//run/caddy/admin.sock")
	flags.StringP("config", "c", "", "Configuration file that names the admin endpoint (if --address is not used)")
	flags.StringP("adapter", "a", "", "Name of the config adapter (if --config is used)")
	completeFlags(cmd, "address")
}

// completeFlags completes --adapter, and no file for the named flags: the shell would offer those of the directory.
func completeFlags(cmd *cobra.Command, names ...string) {
	_ = cmd.RegisterFlagCompletionFunc("adapter", cobra.FixedCompletions([]string{"caddyfile"}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range names {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

const jsonUsage = "Print the answer of the admin endpoint as it is"
