package caddycvs

// This file holds the configuration of the ledger: where it is, how long it keeps an order,
// and what happens while it is down. Nothing here opens it: Caddy validates and adapts
// configurations while another process uses the same file.

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// Ledger is where the gateway keeps what was asked for, issued and paid, so that an app that
// asks again, after a time-out or a crash, gets no second barcode. All accounts share it.
type Ledger struct {
	// Store is where the ledger is: "file", or "off" for no ledger. Default: file
	Store string `json:"store,omitempty"`

	// Path is the absolute path of the file, with placeholders that are expanded at load. Its
	// directory must exist. Default: cvs/ledger.db in Caddy's data directory
	Path string `json:"path,omitempty"`

	// Keep is how long an order is kept after its end, at least 24h. Default: 120d
	Keep caddy.Duration `json:"keep,omitempty"`

	// OnDown is what happens to a POST /cvs while the ledger cannot be read or written:
	// "issue" looks the order up at the API before it asks for a barcode, "refuse" answers an
	// error. Default: issue
	OnDown string `json:"on_down,omitempty"`
}

const (
	ledgerFile = "file"
	ledgerOff  = "off"

	onDownIssue  = "issue"
	onDownRefuse = "refuse"

	minKeep = 24 * time.Hour
)

// provision validates the configuration and fills in the defaults. It creates and locks
// nothing.
func (l *Ledger) provision() error {
	if err := l.validate(); err != nil {
		return err
	}
	if l.Store == ledgerOff {
		return nil
	}
	l.Store = cmp.Or(l.Store, ledgerFile)
	l.Keep = cmp.Or(l.Keep, caddy.Duration(ledger.DefaultKeep))
	l.OnDown = cmp.Or(l.OnDown, onDownIssue)
	path, err := l.file()
	if err != nil || l.Path == "" { // the directory of the default is made when the file is
		return err
	}
	return validateLedgerFile(path)
}

// validate refuses what is wrong on every machine. Its errors do not show a path: what
// somebody takes for one may be the address of a database, with its password.
func (l *Ledger) validate() error {
	switch {
	case l.Store != "" && l.Store != ledgerFile && l.Store != ledgerOff:
		return fmt.Errorf("store must be file or off, not %q: this version keeps no ledger in a database", l.Store)
	case l.Store == ledgerOff && (l.Path != "" || l.Keep != 0 || l.OnDown != ""):
		return errors.New("off keeps nothing: remove path, keep and on_down, or remove off")
	case l.OnDown != "" && l.OnDown != onDownIssue && l.OnDown != onDownRefuse:
		return fmt.Errorf("on_down must be issue or refuse, not %q", l.OnDown)
	}
	if err := validateKeep(l.Keep); err != nil {
		return err
	}
	if l.Path == "" {
		return nil
	}
	return unlessPlaceholder(validateLedgerPath)(l.Path)
}

func validateKeep(d caddy.Duration) error {
	if d != 0 && time.Duration(d) < minKeep {
		return errors.New(`keep must be 24h or more: in JSON write it as a text with a unit, such as "120d"; a number is in nanoseconds`)
	}
	return nil
}

func validateLedgerPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return errors.New("the path must be absolute, such as /var/lib/shop/cvs.db: a relative one would mean another file when Caddy is started in another directory")
	case os.IsPathSeparator(path[len(path)-1]):
		return errors.New("the path must be that of a file, such as /var/lib/shop/cvs.db, not of a directory")
	}
	return nil
}

// setPlace sets what the Caddyfile has behind the option's name: a path, or off.
func (l *Ledger) setPlace(place string) error {
	switch {
	case place == ledgerOff:
		l.Store = ledgerOff
	case place == "postgres", place == "mysql", strings.Contains(place, "://"):
		return errors.New("this version keeps no ledger in a database: there are ledger <path>, for a file, and ledger off")
	case !strings.ContainsAny(place, `/\{`): // most likely a mistyped word
		return errors.New("ledger takes a path with a slash, such as /var/lib/shop/cvs.db, or off")
	default:
		l.Path = place
	}
	return nil
}

// file returns the absolute path of the ledger's file.
func (l *Ledger) file() (string, error) {
	if l.Path == "" {
		return filepath.Abs(filepath.Join(caddy.AppDataDir(), "cvs", "ledger.db"))
	}
	path, err := caddy.NewReplacer().ReplaceOrErr(l.Path, true, true)
	if err != nil {
		return "", fmt.Errorf("path: %w", err)
	}
	if err := validateLedgerPath(path); err != nil {
		return "", err
	}
	return filepath.Clean(path), nil
}

// validateLedgerFile refuses a path at which no file can be. The file itself may be missing.
func validateLedgerFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory: name a file in it, such as %s", path, filepath.Join(path, "ledger.db"))
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file: name one, or a path where there is none yet", path)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	directory := filepath.Dir(path)
	if _, err := os.Stat(directory); err != nil {
		return fmt.Errorf("the directory of the file is missing: create it, for the user that runs Caddy: %w", err)
	}
	return nil
}
