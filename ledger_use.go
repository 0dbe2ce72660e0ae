package caddycvs

// This file holds how the ledger is opened, shared by the configurations of a process, and told
// to the log.

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// openedLedgers counts the ledgers that the process has opened.
var openedLedgers atomic.Int64

// ledgers holds each open ledger by the key of its place. If nothing is kept, its key is that of its
// accounts.
var ledgers = caddy.NewUsagePool()

// pooledLedger is a ledger that outlives a reload.
type pooledLedger struct {
	*ledger.Ledger
	stored bool               // it keeps something
	reads  singleflight.Group // for an operator
	store  *storeOpener       // nil if not
	opened int64              // counts the ledgers of the process

	mu   sync.Mutex
	apps []*App // of the configurations in use, the newest last
}

// useApp makes a configuration the one to which the ledger reports.
func (p *pooledLedger) useApp(a *App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.apps = append(p.apps, a)
}

// retireApp takes a configuration back, because its log files are closed. The last one stays for what is to
// be said at the end.
func (p *pooledLedger) retireApp(a *App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.apps) > 1 {
		p.apps = slices.DeleteFunc(p.apps, func(other *App) bool { return other == a })
	}
}

// app returns the present configuration.
func (p *pooledLedger) app() *App {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.apps[len(p.apps)-1]
}

// logger returns the logger of the present configuration.
func (p *pooledLedger) logger() *zap.Logger { return p.app().logger }

// Destruct closes the ledger when no configuration uses it any more.
func (p *pooledLedger) Destruct() error {
	if p.store == nil {
		return p.Close()
	}
	defer openPlaces.add(p.store.here.key, -1)
	p.store.end() // Close waits for an attempt to open it
	return p.Close()
}

// appLedger is the ledger of one configuration. It is opened when the configuration starts, or
// when it is used for the first time: Caddy starts apps in no order.
type appLedger struct {
	needed   bool        // there is a handler that issues barcodes by it, or keeps notices in it
	place    *knownPlace // nil if it keeps nothing
	from     *knownPlace // where it was before; nil if nothing is to be moved
	open     sync.Once
	pool     string // the key in ledgers
	used     *pooledLedger
	err      error
	settings ledger.Settings

	mu       sync.Mutex
	calls    int  // under way, whose outcome is to be written
	ended    bool // the configuration has
	released bool
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
	if l.pool = a.accountsKey(); l.place != nil {
		l.pool = l.place.key
	}
	pooled, loaded, err := ledgers.LoadOrNew(l.pool, func() (caddy.Destructor, error) { return a.newLedger() })
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.used = pooled.(*pooledLedger)
	l.mu.Unlock()
	l.used.Use(&l.settings)
	switch {
	case loaded:
		l.used.useApp(a)
		l.used.moveFrom(l.from)
	case l.used.stored:
		l.used.Work() // after Use: it postpones a row whose account it does not know
		l.used.Count()
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
	here := a.ledger.place
	p := &pooledLedger{stored: here != nil, opened: openedLedgers.Add(1), apps: []*App{a}}
	if !p.stored {
		p.Ledger = ledger.New(ledger.Options{Report: p.report})
		return p, nil
	}
	openPlaces.add(here.key, 1)
	p.store = newStoreOpener(here, a.ledger.from, p.logger)
	p.Ledger = ledger.New(ledger.Options{Report: p.report, Open: p.store.open})
	kind := zap.String("store", here.store)
	switch err := p.Open(); {
	case err == nil:
		a.logger.Info("the ledger is open", kind)
	case isSetupError(err):
		return nil, errors.Join(withRemedy(here, err), p.Destruct())
	default:
		a.logger.Error("the ledger is down: barcodes are issued without it, or refused, as on_down says", kind, zap.Error(err))
	}
	return p, nil
}

// moveFrom has the orders of another place moved into a ledger that is open already.
func (p *pooledLedger) moveFrom(from *knownPlace) {
	if p.stored && p.store.moveFrom(from) {
		p.Reopen(fmt.Errorf("the orders of %s are moved into it first", from.name()))
	}
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

// holdLedger is theLedger for a call whose outcome is to be written: a call goes on when its configuration is
// replaced, maybe by one with another ledger. The caller must call done at its end.
func (a *App) holdLedger() (orders *ledger.Ledger, done func(), err error) {
	if orders, err = a.theLedger(); err != nil {
		return nil, nil, err
	}
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.released {
		return nil, nil, errEnded
	}
	l.calls++
	return orders, func() {
		l.mu.Lock()
		l.calls--
		l.mu.Unlock()
		a.closeLedger(false)
	}, nil
}

var errEnded = errors.New("the configuration has ended")

// releaseLedger closes the ledger if no other configuration uses it, as soon as no call under way needs it.
func (a *App) releaseLedger() {
	l := a.ledger
	l.open.Do(func() { l.err = errEnded })
	if l.used == nil {
		return
	}
	l.used.retireApp(a)
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	a.closeLedger(isStopping())
}

// closeLedger closes the ledger when the configuration has ended and no call needs it. If Caddy ends, that
// has waited for the calls.
func (a *App) closeLedger(now bool) {
	l := a.ledger
	l.mu.Lock()
	due := l.ended && !l.released && (now || l.calls == 0)
	l.released = l.released || due
	l.mu.Unlock()
	if due {
		l.used.Retire(&l.settings)
		_, _ = ledgers.Delete(l.pool)
	}
}

// hide returns an error that does not show the address of a database.
func (p *pooledLedger) hide(err error) error {
	if p.store == nil {
		return err
	}
	return p.store.here.hide(err)
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
		fields = append(fields, zap.Error(p.hide(e.Err)))
	}
	app := p.app()
	log := app.logger.Error
	if e.Notice {
		log = app.logger.Info
	}
	log(e.Message, fields...)
	switch e.Kind {
	case ledger.PaidTwice:
		app.metrics.countDoublePayment(e.Key.Account)
	case ledger.GaveUp:
		app.metrics.countTell(e.Key.Account, countedGaveUp)
	}
}

// keepsLedger reports whether a handler of the configuration has a ledger that keeps something.
func (a *App) keepsLedger() bool { return a.ledger.needed && a.ledger.place != nil }

// openedLedger returns the ledger if it was opened, and nil before.
func (a *App) openedLedger() *pooledLedger {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	return a.ledger.used
}

// Interface guards
var _ caddy.Destructor = (*pooledLedger)(nil)
