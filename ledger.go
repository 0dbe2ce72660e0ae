package caddycvs

// This file holds the configuration of the ledger: where it is, how long it keeps an order,
// and what happens while it is down. Nothing here opens it: Caddy validates and adapts
// configurations while another process uses the same file.

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// Ledger is where the gateway keeps what was asked for, issued and paid, so that an app that asks again, after a
// time-out or a crash, gets no second barcode. All accounts share it. It has no buyer's data, no barcode's number
// and no token.
type Ledger struct {
	LedgerPlace

	// Keep is how long an order is kept after its last barcode has ended: a duration such as "120d", at least 24h. An
	// order of which the shop is still to hear stays. Default: 120d.
	Keep caddy.Duration `json:"keep,omitempty"`

	// OnDown is what becomes of a POST /cvs while the ledger cannot be read or written: "issue" looks the order up at
	// PortOne before it asks for a barcode, "refuse" answers 503. Default: issue.
	OnDown string `json:"on_down,omitempty"`

	// From is where the ledger was before. Its orders are moved here before this ledger is used; then the former place
	// is closed to every gateway. A file needs its path here; "off" is refused. Default: none.
	From *LedgerPlace `json:"from,omitempty"`
}

const (
	onDownIssue  = "issue"
	onDownRefuse = "refuse"

	minKeep = 24 * time.Hour
)

// provision validates the configuration and fills in the defaults. It creates and locks
// nothing. It returns where the ledger is, and where it was before: nil for nowhere.
func (l *Ledger) provision() (here, before *knownPlace, err error) {
	if err := l.validate(); err != nil {
		return nil, nil, err
	}
	if l.Store == ledgerOff {
		return nil, nil, nil
	}
	l.Store = cmp.Or(l.Store, ledgerFile)
	l.Keep = cmp.Or(l.Keep, caddy.Duration(ledger.DefaultKeep))
	l.OnDown = cmp.Or(l.OnDown, onDownIssue)
	if here, err = l.resolve(); err != nil {
		return nil, nil, err
	}
	if l.Path != "" { // the directory of the default is made when the file is
		if err := validateLedgerFile(here.path); err != nil {
			return nil, nil, err
		}
	}
	if l.From == nil {
		return here, nil, nil
	}
	if before, err = l.From.resolve(); err != nil {
		return nil, nil, fmt.Errorf("from: %w", err)
	}
	if before.key == here.key {
		return nil, nil, errFromItself
	}
	return here, before, nil
}

var errFromItself = errors.New("from names the ledger's own place: remove from, or name the place where the ledger was before")

// validate refuses what is wrong on every machine.
func (l *Ledger) validate() error {
	switch {
	case l.Store == ledgerOff && (l.Keep != 0 || l.OnDown != "" || l.From != nil):
		return errOffKeepsNothing
	case l.OnDown != "" && l.OnDown != onDownIssue && l.OnDown != onDownRefuse:
		return fmt.Errorf("on_down must be issue or refuse, not %q", l.OnDown)
	}
	if err := validateKeep(l.Keep); err != nil {
		return err
	}
	if err := l.LedgerPlace.validate(); err != nil {
		return err
	}
	return l.validateFrom()
}

func (l *Ledger) validateFrom() error {
	if l.From == nil {
		return nil
	}
	if err := l.From.validate(); err != nil && l.From.Store != ledgerOff {
		return fmt.Errorf("from: %w", err)
	}
	switch {
	case l.From.Store == ledgerOff:
		return errors.New("from cannot be off: with ledger off nothing was kept; remove from")
	case databases[l.From.Store] == nil && l.From.Path == "":
		return errors.New("from needs a path, postgres <dsn> or mysql <dsn>: by default the file was cvs/ledger.db in Caddy's data directory, which caddy environ prints as caddy.AppDataDir")
	case cmp.Or(l.From.Store, ledgerFile) == cmp.Or(l.Store, ledgerFile) && l.From.Path == l.Path && l.From.DSN == l.DSN:
		return errFromItself
	}
	return nil
}

func validateKeep(d caddy.Duration) error {
	if d != 0 && time.Duration(d) < minKeep {
		return errors.New(`keep must be 24h or more: in JSON write it as a text with a unit, such as "120d"; a number is in nanoseconds`)
	}
	return nil
}
