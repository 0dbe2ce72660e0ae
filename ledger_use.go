package caddycvs

// This file holds how the ledger is opened, shared by the configurations of a process, and told
// to the log.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
)

// openedLedgers counts the ledgers that the process has opened.
var openedLedgers atomic.Int64

// ledgers holds each open ledger by the path of its file. Without a file its key is that of its
// accounts.
var ledgers = caddy.NewUsagePool()

var (
	// lockTimeout is how long another process may hold the file until the site starts without it.
	lockTimeout = 10 * time.Second
	// lockTimeoutLater is the same for each later attempt to open the file. When Caddy stops, it
	// waits for the end of the attempt.
	lockTimeoutLater = time.Second
)

// pooledLedger is a ledger that outlives a reload.
type pooledLedger struct {
	*ledger.Ledger
	stored bool  // it keeps something
	opened int64 // counts the ledgers of the process

	mu      sync.Mutex
	loggers []*zap.Logger // of the configurations in use, the newest last
}

// useLogger makes a configuration's logger the present one.
func (p *pooledLedger) useLogger(logger *zap.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loggers = append(p.loggers, logger)
}

// retireLogger takes a configuration's logger back, because its files are closed. The last one stays for
// what is to be said at the end.
func (p *pooledLedger) retireLogger(logger *zap.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.loggers) > 1 {
		p.loggers = slices.DeleteFunc(p.loggers, func(other *zap.Logger) bool { return other == logger })
	}
}

// logger returns the logger of the present configuration.
func (p *pooledLedger) logger() *zap.Logger {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.loggers[len(p.loggers)-1]
}

// Destruct closes the ledger when no configuration uses it any more.
func (p *pooledLedger) Destruct() error { return p.Close() }

// appLedger is the ledger of one configuration. It is opened when the configuration starts, or
// when it is used for the first time: Caddy starts apps in no order.
type appLedger struct {
	needed   bool // there is a handler that issues barcodes by it, or keeps notices in it
	open     sync.Once
	pool     string // the key in ledgers
	used     *pooledLedger
	err      error
	settings ledger.Settings
}

// theLedger returns the ledger, and opens it if it is not open yet.
func (a *App) theLedger() (*ledger.Ledger, error) {
	l := a.ledger
	l.open.Do(func() { l.err = a.acquireLedger() })
	if l.err != nil {
		return nil, l.err
	}
	return l.used.Ledger, nil
}

// acquireLedger opens the ledger, or takes the one that another configuration has opened.
func (a *App) acquireLedger() error {
	l := a.ledger
	l.settings = ledger.Settings{
		Accounts: make(map[string]*ledger.Account, len(a.accounts)), Keep: time.Duration(a.Ledger.Keep), Refuse: a.Ledger.OnDown == onDownRefuse,
	}
	for name, acc := range a.accounts {
		l.settings.Accounts[name] = acc.inLedger
	}
	if l.pool = a.accountsKey(); a.Ledger.Store != ledgerOff {
		var err error
		if l.pool, err = a.Ledger.file(); err != nil {
			return err
		}
	}
	pooled, loaded, err := ledgers.LoadOrNew(l.pool, func() (caddy.Destructor, error) { return a.newLedger() })
	if err != nil {
		return err
	}
	l.used = pooled.(*pooledLedger)
	l.used.Use(&l.settings)
	switch {
	case loaded:
		l.used.useLogger(a.logger)
	case a.Ledger.Store != ledgerOff:
		l.used.Work() // after Use: it postpones a row whose account it does not know
	}
	return nil
}

// accountsKey identifies the accounts. It is no path.
func (a *App) accountsKey() string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(a.accounts)) {
		fmt.Fprintf(sum, "%q %s\n", name, a.accounts[name].pooled)
	}
	return fmt.Sprintf("%s %x", ledgerOff, sum.Sum(nil))
}

// newLedger opens the ledger. What the configuration is to blame for is an error. Otherwise the
// site starts without it, and it is opened as soon as that is possible.
func (a *App) newLedger() (*pooledLedger, error) {
	p := &pooledLedger{stored: a.Ledger.Store != ledgerOff, opened: openedLedgers.Add(1), loggers: []*zap.Logger{a.logger}}
	if !p.stored {
		p.Ledger = ledger.New(ledger.Options{Report: p.report})
		return p, nil
	}
	path := a.ledger.pool
	if a.Ledger.Path == "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
	}
	p.Ledger = ledger.New(ledger.Options{Report: p.report, Open: opener(path)})
	if err := p.Open(); isSetupError(err) {
		return nil, errors.Join(err, p.Close())
	} else if err != nil {
		a.logger.Error("the ledger is down: barcodes are issued without it, or refused, as on_down says", zap.Error(err))
	}
	return p, nil
}

// opener returns a function that opens the file. Calls of it follow each other.
func opener(path string) func() (ledger.Store, error) {
	patience := lockTimeout
	return func() (ledger.Store, error) {
		defer func() { patience = lockTimeoutLater }()
		return boltstore.Open(path, boltstore.Options{LockTimeout: patience})
	}
}

// isSetupError reports whether the ledger can never be opened as it is configured.
func isSetupError(err error) bool {
	for _, fault := range []error{
		fs.ErrNotExist, fs.ErrPermission, syscall.EROFS, syscall.ENOTDIR, syscall.EISDIR, boltstore.ErrNotLedger, boltstore.ErrNewer,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// startLedger opens the ledger if a handler needs it.
func (a *App) startLedger() error {
	if !a.ledger.needed {
		return nil
	}
	l, err := a.theLedger()
	if err == nil {
		l.Use(&a.ledger.settings) // it may have been opened before another configuration started
	}
	return err
}

// releaseLedger closes the ledger if no other configuration uses it.
func (a *App) releaseLedger() {
	l := a.ledger
	l.open.Do(func() { l.err = errors.New("the configuration has ended") })
	if l.used != nil {
		l.used.Retire(&l.settings)
		l.used.retireLogger(a.logger)
		_, _ = ledgers.Delete(l.pool)
	}
}

// report logs what an operator should see of the ledger.
func (p *pooledLedger) report(e ledger.Event) {
	fields := make([]zap.Field, 0, 4)
	if e.Key != (ledger.Key{}) {
		fields = append(fields, zap.String("account", e.Key.Account), zap.String("merchant_uid", e.Key.Order))
	}
	if e.ImpUID != "" {
		fields = append(fields, zap.String("imp_uid", e.ImpUID))
	}
	if e.Err != nil {
		fields = append(fields, zap.Error(e.Err))
	}
	log := p.logger().Error
	if e.Notice {
		log = p.logger().Info
	}
	log(e.Message, fields...)
}

// Interface guards
var _ caddy.Destructor = (*pooledLedger)(nil)
