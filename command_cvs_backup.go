package caddycvs

// This file holds caddy cvs backup.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
)

// backupPatience is how long the command waits in all: a moment longer than the gateway allows. A gateway that hangs
// must not keep a nightly backup, and all after it, waiting without a word.
var backupPatience = backupLimit + time.Minute

var errBackupLate = errors.New("the gateway has stopped sending it: see whether Caddy hangs")

func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup [--force] [--address <address> | --config <path> [--adapter <name>]] <file>",
		Short: "Writes a copy of the ledger, while the gateway works",
		Long: `
Writes a copy of the ledger, as it is now, to a file that only its owner can
read. The gateway works on meanwhile. Do not copy the ledger's own file with cp:
that copy may be torn.

The copy is a ledger. To go back to it, stop the gateway, put the copy in the
ledger's place and start the gateway; or put it anywhere and name it:

	ledger /var/backups/cvs.db

What was issued, paid or told after the backup is not in it. An order whose
barcode was issued since gets a second one if the app asks again: both can be
paid. What was told since is told again, with the same webhook-id.

With ledger postgres or mysql it is a file all the same. A database has backups
of its own, which you should rely on. This one is good for looking at it
elsewhere, and for moving to a file or to another database ("from").

The file is received under another name, verified by reading all of it, and
renamed then: it is whole, or it is not there. An existing file is kept, unless
you say --force. A backup cannot go to standard output (-), where nobody could
verify it.`,
		Example: "  $ caddy cvs backup /var/backups/cvs.db\n  $ caddy cvs backup --force --config /etc/caddy/Caddyfile /var/backups/cvs.db",
		Args:    cobra.ArbitraryArgs,
		RunE:    exiting(backUp),
	}
	addAdminFlags(cmd)
	cmd.Flags().Bool("force", false, "Replace the file if it exists")
	return cmd
}

func backUp(cmd *cobra.Command, args []string) error {
	force, _ := cmd.Flags().GetBool("force")
	switch {
	case len(args) != 1 || args[0] == "":
		return errors.New("name one file for the backup: caddy cvs backup <file>")
	case args[0] == "-":
		return errors.New("a backup is verified before it gets its name, so it cannot go to standard output: name a file")
	}
	path := args[0]
	if err := mayReplace(path, force); err != nil {
		return err
	}
	g, err := findGateway(cmd)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	orders, bytes, err := g.backUp(ctx, path, force)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has %s (%d bytes), and was verified.\n", printable(path), plural(orders, "order", "orders"), bytes)
	return err
}

// mayReplace refuses what cannot become a backup before the gateway is asked.
func mayReplace(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory: name a file in it, such as %s", path, filepath.Join(path, "cvs.db"))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file: name another one", path)
	case !force:
		return existsError(path)
	}
	return nil
}

func existsError(path string) error {
	return fmt.Errorf("%s exists already, and was left as it is: name another file, or replace it with --force", path)
}

// backUp receives a backup under another name, verifies it, and gives it its own.
func (g *gateway) backUp(ctx context.Context, path string, force bool) (orders int, bytes int64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(g.patience, backupPatience), errBackupLate)
	defer cancel()
	response, err := g.request(ctx, http.MethodGet, "/cvs/backup", nil)
	if errors.Is(context.Cause(ctx), errBackupLate) {
		return 0, 0, cannotAsk("the gateway sends no backup: see whether Caddy hangs")
	}
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	if err := g.refusal(response); err != nil {
		return 0, 0, err
	}
	if mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); mediaType != backupType {
		return 0, 0, g.foreign()
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp") // which only its owner can read
	if err != nil {
		return 0, 0, fmt.Errorf("the backup cannot be written there: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // nothing, if it has its own name
	if bytes, err = receive(file, response.Body); err != nil {
		switch {
		case errors.Is(context.Cause(ctx), errBackupLate):
			err = errBackupLate
		case ctx.Err() != nil:
			err = errors.New("interrupted")
		}
		return 0, 0, fmt.Errorf("the backup is not whole, and was removed: %w", err)
	}
	if orders, err = boltstore.Verify(file.Name()); err != nil {
		return 0, 0, fmt.Errorf("the backup is not good, and was removed: %w", err)
	}
	err = boltstore.Place(file.Name(), path, force)
	switch {
	case errors.Is(err, fs.ErrExist):
		err = existsError(path)
	case errors.Is(err, boltstore.ErrLocked):
		err = fmt.Errorf("%s is the ledger of a gateway that runs, and was left as it is: name another file", path)
	}
	return orders, bytes, err
}

// receive writes a body to a file, syncs and closes it. A body without its last chunk is an error.
func receive(file *os.File, body io.Reader) (n int64, err error) {
	n, err = io.Copy(file, body)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the gateway broke it off: its log says why")
	case err == nil:
		err = file.Sync()
	}
	return n, errors.Join(err, file.Close())
}
