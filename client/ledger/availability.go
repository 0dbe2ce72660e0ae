package ledger

// This file holds how the store is used, and what happens while it is down.

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	reopenLimit = 30 * time.Second
	reopenSoon  = 100 * time.Millisecond
)

// ErrSoon, in the chain of an error of Options.Open, says that the store can be opened in a moment: it is
// tried again soon.
var ErrSoon = errors.New("not yet")

// Open opens the store. After an error it goes on trying until Close.
func (l *Ledger) Open() error {
	store, err := l.opts.Open()
	if err == nil && !l.trust(store) {
		err = ErrDown
	}
	if err != nil {
		l.stayDown(err)
		l.spawn(func() { l.reopen(err) })
	}
	return err
}

// Reopen takes the store out of use, and opens it again.
func (l *Ledger) Reopen(reason error) {
	if store := l.current(); store != nil {
		l.fail(store, reason)
	}
}

// reopen opens the store again, until it succeeds. err is why it is not open.
func (l *Ledger) reopen(err error) {
	for next := l.opts.reopenPause; ; {
		pause := next
		if next = min(2*next, reopenLimit); errors.Is(err, ErrSoon) {
			pause, next = min(reopenSoon, l.opts.reopenPause), l.opts.reopenPause
		}
		select {
		case <-l.closed:
			return
		case <-time.After(pause):
		}
		var store Store
		if store, err = l.opts.Open(); err == nil && l.trust(store) {
			l.opts.Report(Event{Message: "the ledger is up again", Notice: true})
			return
		}
		l.stayDown(err)
	}
}

func (l *Ledger) stayDown(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteDown(err)
}

// fail takes a store out of use. Only opening it again tells what of it is true.
func (l *Ledger) fail(store Store, err error) {
	l.mu.Lock()
	failed := l.store == store
	if failed {
		l.store = nil
		l.noteDown(err)
		l.endCopy() // for which the store's Close would wait
	}
	l.mu.Unlock()
	if !failed {
		return
	}
	l.opts.Report(Event{Message: "the ledger is down", Err: err})
	l.mu.Lock()
	ended := l.ended
	if !ended {
		l.work.Go(func() {
			_ = store.Close() // may wait for a disk that hangs
			l.reopen(err)
		})
	}
	l.mu.Unlock()
	if ended { // Close does not know of it any more
		_ = store.Close()
	}
}

// Down reports whether the store cannot be used.
func (l *Ledger) Down() bool { return l.current() == nil }

func (l *Ledger) current() Store {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store
}

// patienceKey is the key of a *time.Duration in a context: how long the call still waits for the store.
type patienceKey struct{}

// impatient limits how long a call waits for the store in all. What is done behind its answer has a
// context of its own.
func impatient(ctx context.Context) context.Context {
	return context.WithValue(ctx, patienceKey{}, new(storeLimit))
}

// works reports whether an error, or none, is that of a store that works.
func works(err error) bool {
	return err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) || errors.Is(err, ErrBusy)
}

// use reads from the store. The error is do's own if it is no failure of the store, ErrSlow if it took
// too long, but that does not show that the store is down, and ErrDown otherwise.
func (l *Ledger) use(ctx context.Context, do func(context.Context, Store) error) error {
	return l.try(ctx, &l.reads, do)
}

// try is use. done counts what has succeeded of its kind: a database may read, and not write.
func (l *Ledger) try(ctx context.Context, done *atomic.Int64, do func(context.Context, Store) error) error {
	store := l.current()
	if store == nil {
		return ErrDown
	}
	before := done.Load()
	whole, err := l.within(ctx, store, do)
	if whole && errors.Is(err, context.DeadlineExceeded) { // the process itself may have been stopped meanwhile
		whole, err = l.within(ctx, store, do)
	}
	switch {
	case works(err):
		done.Add(1)
		return err
	case errors.Is(err, context.DeadlineExceeded) && (!whole || done.Load() != before):
		return ErrSlow
	}
	l.fail(store, err)
	return ErrDown
}

// patience returns how long a call still waits for the store, for one operation at most. What has passed
// then is to be spent.
func (l *Ledger) patience(ctx context.Context) (limit time.Duration, spend func()) {
	left, has := ctx.Value(patienceKey{}).(*time.Duration)
	if !has {
		return opTimeout, func() {}
	}
	began := l.opts.clock.Now().monotonic
	limit = min(opTimeout, *left)
	return limit, func() { *left -= min(l.opts.clock.Now().monotonic-began, limit) }
}

// within gives an operation of the store its time, and reports whether the call was patient enough for
// the whole of it.
func (l *Ledger) within(ctx context.Context, store Store, do func(context.Context, Store) error) (whole bool, err error) {
	limit, spend := l.patience(ctx)
	defer spend()
	if limit <= 0 {
		return false, context.DeadlineExceeded
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return limit == opTimeout, do(ctx, store)
}

// get returns the row of an order, or a new one.
func (l *Ledger) get(ctx context.Context, key Key) (row *Row, err error) {
	err = l.use(ctx, func(ctx context.Context, s Store) (err error) {
		row, err = getOrNew(ctx, s, key)
		return err
	})
	return row, err
}

// getOrNew returns the row of an order, or a new one. About a row of a newer format only a node of
// that version decides: the error is ErrBusy.
func getOrNew(ctx context.Context, s Store, key Key) (*Row, error) {
	row, err := s.Get(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return &Row{Format: Format, Account: key.Account, Order: key.Order}, nil
	case err == nil && row.Format > Format:
		return nil, ErrBusy
	}
	return row, err
}

// put writes a row that was read at a version.
func (l *Ledger) put(ctx context.Context, row *Row, was uint64, lazy bool) error {
	return l.try(ctx, &l.writes, func(ctx context.Context, s Store) error {
		err := s.Put(ctx, row, was, lazy)
		l.noteDue(row, err)
		return err
	})
}

// noteDue wakes the worker if a row that was written is due at once.
func (l *Ledger) noteDue(row *Row, err error) {
	now := l.now().wall
	if err == nil && row.Due <= now {
		l.working.wake()
	}
	if err == nil && row.Queue == TellQueue(row.Account) && row.QueueDue <= now {
		l.telling.wake()
	}
}

// prepare sets what a write sets. The first version of a row is a time, so that a row that was
// removed does not come back with a version that it had before.
func prepare(row *Row, was uint64, e *env) {
	if row.place(e); row.Mark == nil { // that of an account is due when its lists are to be read
		row.Due = e.due(row)
	}
	if row.Version = was + 1; was == 0 {
		row.Version = uint64(max(e.now, 1)) << 20
	}
}

// rows is where update reads and writes: the Ledger, or a store that is not in use yet.
type rows interface {
	get(ctx context.Context, key Key) (*Row, error)
	put(ctx context.Context, row *Row, was uint64, lazy bool) error
}

// update changes a row, whatever others write at the same time.
func (l *Ledger) update(ctx context.Context, acc *Account, key Key, lazy bool, change func(*Row, *env)) error {
	return l.updateIn(ctx, l, acc, key, lazy, change)
}

func (l *Ledger) updateIn(ctx context.Context, in rows, acc *Account, key Key, lazy bool, change func(*Row, *env)) error {
	for {
		row, err := in.get(ctx, key)
		if err != nil {
			return err
		}
		e := l.env(acc)
		e.atTill = row.AtTill
		was := row.Version
		change(row, e)
		prepare(row, was, e)
		if err = in.put(ctx, row, was, lazy); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}
