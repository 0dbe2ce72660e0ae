// Package ledger remembers what was asked for, issued and paid, so that an app may ask for the
// barcode of an order again at any time: after a time-out, a crash, a page reload. The API says
// what a payment is; the ledger says which payments to ask about. Nothing in it is ever believed
// against the API.
//
// It knows rows, the steps between their states, and the calls of the API that these need. It does
// not know Caddy, nor how a Store keeps its rows.
package ledger

// This file holds the Ledger: its accounts, and how it starts and ends.

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// The defaults of Options.
const (
	DefaultKeep = 120 * 24 * time.Hour
	opTimeout   = time.Second // of one operation of the store, which is tried twice
	// storeLimit is how long a call waits for the store in all, and after how long without a success a
	// store that catches up is down.
	storeLimit = 2 * opTimeout
)

// Options are what a Ledger needs.
type Options struct {
	// Open opens the store. It is called again after the store has failed. Without it the Ledger
	// has no store: each request lists the order's payments first.
	Open func() (Store, error)
	// Report, if set, is told what an operator should see.
	Report func(Event)

	// For tests: the clock, how work is done beside an answer, how ids are made, how a pause is
	// changed a little, and the first pause before the store is opened again.
	clock       clock
	spawn       func(func())
	newID       func() string
	jitter      func(time.Duration) time.Duration
	reopenPause time.Duration
}

// Event is something that an operator should see.
type Event struct {
	Message string
	Key     Key    // the order, zero if it is not about one
	ImpUID  string // "" if it is not about a payment
	Err     error  // nil if there is none
	Notice  bool   // it is good news, and no error
	Kind    EventKind
}

// EventKind says what an Event is that is counted, 0 for another one.
type EventKind int

// The values of EventKind.
const (
	PaidTwice EventKind = iota + 1 // a second barcode of an order was paid
	GaveUp                         // an order waits for a person before the shop is told of it
)

// Settings are what may change while a Ledger is open.
type Settings struct {
	Accounts map[string]*Account // by name
	Keep     time.Duration       // how long a row is kept after its end; default DefaultKeep
	Refuse   bool                // while the store is down, nothing is issued
}

// Ledger gives each order one barcode. It may be used by many goroutines at once.
type Ledger struct {
	opts     Options
	identity singleflight.Group            // the calls of Issue under way, by their identity
	clock    atomic.Pointer[Clock]         // the store's, also while that is down; nil if it has none, or was never up
	reads    atomic.Int64                  // from the store that have succeeded
	writes   atomic.Int64                  // likewise to it
	counted  counting                      // for metrics
	nearly   atomic.Pointer[chan struct{}] // while the rest of what the store has missed is written; closed when that ends

	mu       sync.Mutex
	settings []*Settings // of the configurations in use, the newest last
	store    Store       // nil while it is down
	health   Health
	missed   []missed // what was done while it was down
	waiting  map[Key]*waiting
	fresh    map[payment]Key          // payments of answers that are not written yet
	occupied map[Key]int              // orders of requests under way
	doubts   map[Key]time.Duration    // when a call without the store ended in doubt
	marks    map[string]Mark          // of the accounts of which the shop is told
	tells    map[string]time.Duration // since when a configuration tells an account's shop, by the monotonic clock
	targets  map[string]*target       // by account
	budgets  map[string]*budget       // by account
	limit    int                      // rows that the worker reads at once; its own
	reviewed moment                   // when every row was read last; zero if never
	clockSet bool                     // a clock was set since, or that reading did not come to its end
	copying  context.CancelFunc       // ends the backup that is under way, nil if there is none
	ended    bool
	closed   chan struct{}  // closed by Close
	places   chan struct{}  // taken by the orders that the worker works on
	working  bell           // rings when a row is due at once
	telling  bell           // likewise of what the shop is to hear
	work     sync.WaitGroup // writes after an answer, the worker, and opening again
}

// New returns a Ledger whose store is down until Open.
func New(opts Options) *Ledger {
	if opts.clock == nil {
		opts.clock = systemClock{time.Now()}
	}
	if opts.Report == nil {
		opts.Report = func(Event) {}
	}
	if opts.newID == nil {
		opts.newID = signedurl.NewID
	}
	if opts.jitter == nil {
		opts.jitter = jitter
	}
	opts.reopenPause = cmp.Or(opts.reopenPause, time.Second)
	l := &Ledger{
		opts: opts, waiting: make(map[Key]*waiting), fresh: make(map[payment]Key), occupied: make(map[Key]int), doubts: make(map[Key]time.Duration),
		marks: make(map[string]Mark), tells: make(map[string]time.Duration), targets: make(map[string]*target), budgets: make(map[string]*budget),
		closed: make(chan struct{}), places: make(chan struct{}, atOnce), working: make(bell, 1), telling: make(bell, 1),
	}
	if opts.spawn == nil {
		l.opts.spawn = l.spawn
	}
	l.noteDown(nil)
	return l
}

// spawn starts a goroutine that Close waits for.
func (l *Ledger) spawn(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.work.Go(do)
}

// Use makes a configuration the present one, until another one is or Retire takes it back.
func (l *Ledger) Use(s *Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings = append(slices.DeleteFunc(l.settings, func(other *Settings) bool { return other == s }), s)
	for name, acc := range s.Accounts {
		if _, known := l.tells[name]; !known && acc.Tells != nil {
			l.tells[name] = l.opts.clock.Now().monotonic
		}
	}
	for _, t := range l.targets { // it may be another one, or mended
		t.forget()
	}
}

// Retire takes a configuration back.
func (l *Ledger) Retire(s *Settings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings = slices.DeleteFunc(l.settings, func(other *Settings) bool { return other == s })
}

// present returns the present configuration.
func (l *Ledger) present() *Settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.settings) == 0 {
		return new(Settings)
	}
	return l.settings[len(l.settings)-1]
}

// account returns an account of the present configuration, nil if there is none of that name.
func (l *Ledger) account(name string) *Account { return l.present().Accounts[name] }

// env returns the times and limits for an account.
func (l *Ledger) env(acc *Account) *env {
	now := l.noteClock()
	return &env{
		now: now.wall, ahead: now.ahead(), own: !now.shared, api: acc.API.Now().Unix(), timeout: acc.Timeout, keep: cmp.Or(l.present().Keep, DefaultKeep), keys: acc.Keys,
		tells: acc.Tells, mark: l.markOf(acc.Name),
		earliest: func(asked int64) int64 { return acc.API.EarliestStart(time.UnixMilli(asked - now.ahead())) },
		jitter:   l.opts.jitter,
	}
}

// Close waits for the writes under way and closes the store. What a store that is down has missed is
// reported: it is lost.
func (l *Ledger) Close() error {
	l.mu.Lock()
	if !l.ended {
		l.ended = true
		close(l.closed)
		l.endCopy()
	}
	l.mu.Unlock()
	l.work.Wait()
	l.mu.Lock()
	store, lost := l.store, l.missed
	l.store, l.missed = nil, nil
	l.mu.Unlock()
	for _, m := range lost {
		l.opts.Report(Event{Message: "the ledger was closed before it was up again: this call is not in it, and the shop is not told of its payment", Key: m.key, ImpUID: m.attempt.ImpUID})
	}
	if store == nil {
		return nil
	}
	return store.Close()
}

// isClosed reports whether Close has begun.
func (l *Ledger) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// payment names a payment of an account.
type payment struct{ account, impUID string }

// moment is a time by several clocks. A wall clock can be set; the monotonic one stands still while
// some systems sleep.
type moment struct {
	wall      int64 // Unix milliseconds by the clock that dates rows: the store's if it has one
	machine   int64 // likewise by this machine's
	monotonic time.Duration
	shared    bool // wall is by the store's
}

// now returns the time.
func (l *Ledger) now() moment {
	now := l.opts.clock.Now()
	if clock := l.clock.Load(); clock != nil {
		now.wall, now.shared = (*clock).Now(), true
	}
	return now
}

// ahead is by how much the clock that dates rows is ahead of this machine's, in milliseconds.
func (m moment) ahead() int64 { return m.wall - m.machine }

// bell wakes who waits. It rings once for all that came since.
type bell chan struct{}

func (b bell) wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// milliseconds is the time between two moments by the wall clock.
func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// within reports whether a moment lies no longer than d before m, by every clock: the store's does not
// tell that this machine has slept.
func (m moment) within(d time.Duration, before moment) bool {
	return milliseconds(m.wall-before.wall).Abs() <= d && milliseconds(m.machine-before.machine).Abs() <= d && m.monotonic-before.monotonic <= d
}

// clock tells this machine's time, and waits.
type clock interface {
	Now() moment
	// Sleep waits for d, until wake is closed, or until ctx ends, which is its error.
	Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error
}

// systemClock is the machine's. Its field is the moment from which the monotonic clock counts.
type systemClock struct{ start time.Time }

func (c systemClock) Now() moment {
	now := time.Now()
	return moment{wall: now.UnixMilli(), machine: now.UnixMilli(), monotonic: now.Sub(c.start)}
}

func (systemClock) Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
