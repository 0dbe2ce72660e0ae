package caddycvs

// This file holds what `caddy cvs check` says of the ledger: whether it can be written, and how long a sync takes.
// A running Caddy holds the file, so that its admin endpoint is asked.

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	ledgerOption = "the global option cvs, ledger"
	slowSync     = 100 * time.Millisecond
)

func (s *setup) ledgerStep() step {
	return func(ctx context.Context, n *network, r *report) {
		place := s.app.ledger.place
		if place == nil {
			r.good("ledger: off")
			return
		}
		if !s.app.ledger.needed {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, n.limit)
		defer cancel()
		view, running := askLedger(ctx, n)
		if running && view.Store == place.store {
			switch view.State {
			case ledgerDegraded:
				r.fail("ledger_down", ledgerOption, "the running Caddy cannot use the ledger: "+view.Cause, "see its log; until then orders are looked up at the API before a barcode is issued")
				return
			case ledgerSlow:
				r.warn("ledger_slow", ledgerOption, "the ledger did not answer the running Caddy within "+statusLimit.String(), "look at the disk or the database")
				return
			}
		}
		if place.store == ledgerFile {
			inspectFile(place, running && view.State == ledgerUp, r)
			return
		}
		if running && view.State == ledgerUp {
			r.good("ledger: %s, in use by the running Caddy", place.store)
			return
		}
		r.good("ledger: %s, not asked, because no Caddy runs that uses it", place.store)
	}
}

// askLedger asks the running Caddy for its ledger.
func askLedger(ctx context.Context, n *network) (view ledgerView, running bool) {
	var status statusView
	body, err := n.admin(ctx, "/cvs/status")
	running = err == nil && json.Unmarshal(body, &status) == nil
	return status.Ledger, running
}

// inspectFile writes and syncs a file beside the ledger. isUp tells that a running Caddy writes the ledger,
// perhaps as another user.
func inspectFile(place *knownPlace, isUp bool, r *report) {
	directory := filepath.Dir(place.path)
	for place.implied { // it is made at the start
		if _, err := os.Stat(directory); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(directory) == directory {
			break
		}
		directory = filepath.Dir(directory)
	}
	took, err := timeSync(directory)
	if err == nil {
		err = validateWritable(place.path)
	}
	switch {
	case err != nil && isUp:
		r.good("ledger: %s, in use by the running Caddy", place.path)
	case err != nil:
		r.fail("ledger_not_writable", ledgerOption, "this user cannot write the file: "+err.Error(), "give directory and file to the user that runs Caddy, and run the check as that user")
	case took > slowSync:
		r.warn("ledger_slow_sync", ledgerOption, "a sync to the disk of "+place.path+" takes "+took.Round(time.Millisecond).String()+", and each barcode waits for one", "put the ledger on a faster, local disk")
	default:
		r.good("ledger: %s can be written, a sync takes %s", place.path, took.Round(100*time.Microsecond))
	}
}

// validateWritable opens the ledger's file without a change, if there is one.
func validateWritable(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// timeSync measures the time of a sync in a directory, the shortest of three.
func timeSync(directory string) (shortest time.Duration, err error) {
	file, err := os.CreateTemp(directory, ".cvs-check-*")
	if err != nil {
		return 0, err
	}
	defer func() { _, _ = file.Close(), os.Remove(file.Name()) }()
	shortest = time.Hour
	for range 3 {
		if _, err := file.Write(make([]byte, 4096)); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := file.Sync(); err != nil {
			return 0, err
		}
		shortest = min(shortest, time.Since(began))
	}
	return shortest, nil
}
