package caddycvs

// This file holds how the store of a ledger is opened, and how the orders of the place where the ledger was
// before are moved into it.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/sqlstore"
)

var (
	// lockTimeout is how long another process may hold the file until the site starts without it.
	lockTimeout = 10 * time.Second
	// lockTimeoutLater is the same for each later attempt to open the file. When Caddy stops, it
	// waits for the end of the attempt.
	lockTimeoutLater = time.Second
	// lockTimeoutSource is the same for the file whose orders are moved: as a rule the process that
	// holds it has to end first.
	lockTimeoutSource = 100 * time.Millisecond
	// firstMove is how long the start waits for orders that are moved. They are moved without a limit later.
	firstMove = 2 * time.Second
	// soonAtMost is how long the source of a move may be locked while that is looked at often.
	soonAtMost = time.Minute
)

// storeOpener opens the store of one ledger.
type storeOpener struct {
	here   *knownPlace
	logger func() *zap.Logger
	ctx    context.Context // ends with the ledger
	end    context.CancelFunc

	mu    sync.Mutex
	from  *knownPlace     // whose orders are still to be moved, nil for none
	moved map[string]bool // the places whose orders were moved, by key

	// Of open, whose calls follow each other.
	again bool            // it was called before
	began time.Time       // when it began to wait for the source
	said  map[string]bool // what was logged
}

func newStoreOpener(here, from *knownPlace, logger func() *zap.Logger) *storeOpener {
	o := &storeOpener{here: here, from: from, logger: logger, moved: make(map[string]bool), said: make(map[string]bool)}
	o.ctx, o.end = context.WithCancel(context.Background())
	return o
}

// moveFrom has the orders of another place moved, unless they were. It reports whether the store must be
// opened again for that.
func (o *storeOpener) moveFrom(from *knownPlace) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if from == nil || o.moved[from.key] || o.from != nil && o.from.key == from.key {
		return false
	}
	o.from = from
	return true
}

func (o *storeOpener) source() *knownPlace {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.from
}

func (o *storeOpener) noteMoved(from *knownPlace) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.moved[from.key] = true; o.from == from {
		o.from = nil
	}
}

// open opens the store. Its errors show no part of the address of a database.
func (o *storeOpener) open() (ledger.Store, error) {
	defer func() { o.again = true }()
	from := o.source()
	if from != nil && openPlaces.has(from.key) { // before the target is asked: this may take a while
		return nil, o.soon(fmt.Errorf("the orders of %s are moved when the configuration has ended that uses it", from.name()))
	}
	options := openOptions{moved: from != nil, lock: lockTimeout}
	if o.again {
		options.lock = lockTimeoutLater
	}
	store, err := o.openPlace(o.here, options)
	if err != nil {
		return nil, err
	}
	if from == nil {
		return store, nil
	}
	if err := o.move(from, store); err != nil {
		_ = store.Close()
		if o.again { // the first one is the caller's to log
			o.once(err.Error(), func() {
				o.logger().Error("the ledger cannot be used before the orders of its former place are moved", zap.Error(err))
			})
		}
		return nil, err
	}
	o.noteMoved(from)
	return store, nil
}

// soon marks an error as one that ends soon, as a rule. After a while that is not believed any more.
func (o *storeOpener) soon(err error) error {
	if o.began.IsZero() {
		o.began = time.Now()
	}
	if from := o.source(); from != nil && openPlaces.has(from.key) || time.Since(o.began) < soonAtMost {
		return fmt.Errorf("%w: %w", ledger.ErrSoon, err)
	}
	return err
}

// once does what says something that was not said before.
func (o *storeOpener) once(text string, say func()) {
	if !o.said[text] {
		o.said[text] = true
		say()
	}
}

// move moves the orders of a place, unless that was done before.
func (o *storeOpener) move(from *knownPlace, target ledger.Movable) error {
	ctx := o.ctx
	if !o.again {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, firstMove)
		defer cancel()
	}
	err := from.hide(o.here.hide(o.moveWithin(ctx, from, target)))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, errors.Is(err, boltstore.ErrLocked):
		return o.soon(fmt.Errorf("the orders of %s are not moved yet: %w", from.name(), err))
	}
	return err
}

func (o *storeOpener) moveWithin(ctx context.Context, from *knownPlace, target ledger.Movable) error {
	known := func() (bool, error) { return ledger.Moved(ctx, target, from.name()) }
	if from.database != nil { // it may be gone
		if moved, err := known(); moved || err != nil {
			return err
		}
	}
	source, err := o.openPlace(from, openOptions{moved: true, existing: true, lock: lockTimeoutSource})
	if errors.Is(err, fs.ErrNotExist) {
		if moved, knownErr := known(); moved || knownErr != nil {
			return knownErr
		}
		return fmt.Errorf("%w: %w", errNothingToMove, err)
	}
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	defer source.Close()
	summary, err := ledger.Move(ctx, ledger.Place{Movable: source, Name: from.name()}, ledger.Place{Movable: target, Name: o.here.name()})
	if err == nil && !summary.Before {
		o.logger().Info("the orders of the ledger were moved", zap.String("from", from.name()), zap.String("to", o.here.name()),
			zap.Int("rows", summary.Rows), zap.Int("written", summary.Written))
	}
	return err
}

// openOptions say how a place is opened.
type openOptions struct {
	moved    bool // also if its orders were moved away
	existing bool // a missing file is not created
	lock     time.Duration
}

func (o *storeOpener) openPlace(p *knownPlace, options openOptions) (ledger.Movable, error) {
	if p.database == nil {
		if p.implied {
			if err := os.MkdirAll(filepath.Dir(p.path), 0o700); err != nil {
				return nil, err
			}
		}
		store, err := boltstore.Open(p.path, boltstore.Options{LockTimeout: options.lock, Moved: options.moved, Existing: options.existing})
		if err != nil { // no typed nil
			return nil, err
		}
		return store, nil
	}
	store, err := p.database.Open(sqlstore.Options{
		Moved: options.moved,
		Warn: func(message string) {
			o.once(message, func() { o.logger().Warn(message, zap.String("store", p.store)) })
		},
	})
	if err != nil {
		return nil, p.hide(err)
	}
	return store, nil
}

// isSetupError reports whether the ledger can never be opened as it is configured.
func isSetupError(err error) bool {
	for _, fault := range []error{
		fs.ErrNotExist, fs.ErrPermission, syscall.EROFS, syscall.ENOTDIR, syscall.EISDIR, boltstore.ErrNotLedger, boltstore.ErrNewer,
		sqlstore.ErrSetup, ledger.ErrMoved, ledger.ErrNewerRows, ledger.ErrSameStore,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// withRemedy adds to an error of the start what to do, unless it says so itself.
func withRemedy(p *knownPlace, err error) error {
	switch {
	case errors.Is(err, sqlstore.ErrSetup): // it may be long
		return fmt.Errorf("correct the address that the dsn stands for, or what its user may do: %w", err)
	case errors.Is(err, ledger.ErrMoved), errors.Is(err, ledger.ErrNewerRows), errors.Is(err, errNothingToMove):
		return err
	case errors.Is(err, ledger.ErrSameStore), p.database != nil:
		return fmt.Errorf("%w: correct the place behind from, or remove from", err)
	}
	return fmt.Errorf("%w: make the file usable for the user that runs Caddy, name another one with ledger <path>, or write ledger off", err)
}

var errNothingToMove = errors.New("from: there is no ledger to move: correct the path, or remove from")

// openPlaces counts the ledgers of this process by the keys of their places, until they are closed. A
// ledger must not be moved while a configuration that ends still writes to it.
var openPlaces placeCounts

type placeCounts struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *placeCounts) add(key string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	if c.counts[key] += n; c.counts[key] == 0 {
		delete(c.counts, key)
	}
}

func (c *placeCounts) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[key] > 0
}
