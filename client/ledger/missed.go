package ledger

// This file holds the way back of a store that was down: what it has missed is written before it is used.

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const maxMissed = 10_000

// missed is an attempt that was made while the store was down.
type missed struct {
	key     Key
	attempt Attempt
	own     bool // it is dated by this machine's clock, because the store's was not known yet
}

// trust takes a store into use, after what was missed is written. It reports whether it could, and
// closes the store if not. Its clock is used at once: what it has missed is dated by it. When a first part
// is written, requests wait for the rest: else more could be missed meanwhile, for ever.
func (l *Ledger) trust(store Store) bool {
	if clock, has := store.(Clock); has {
		l.clock.Store(&clock)
	}
	decided := make(chan struct{})
	defer func() {
		l.nearly.Store(nil)
		close(decided)
	}()
	for {
		l.mu.Lock()
		batch, ended := l.missed, l.ended
		l.missed = nil
		if len(batch) == 0 && !ended {
			l.store = store
			l.noteUp()
		}
		l.mu.Unlock()
		switch {
		case ended:
			_ = store.Close()
			return false
		case len(batch) == 0:
			return true
		}
		if rest := l.catchUp(store, batch); len(rest) > 0 {
			l.mu.Lock()
			l.missed = append(rest, l.missed...)
			l.mu.Unlock()
			_ = store.Close()
			return false
		}
		l.nearly.Store(&decided)
	}
}

// comesUp reports whether the store is up again. It waits, as long as the call waits for the store, while
// the last of what it has missed is written.
func (l *Ledger) comesUp(ctx context.Context) bool {
	if decided := l.nearly.Load(); decided != nil {
		limit, spend := l.patience(ctx)
		defer spend()
		_ = l.opts.clock.Sleep(context.WithoutCancel(ctx), limit, *decided) // ends by itself
	}
	return !l.Down()
}

// catchUp writes what was missed, and returns what could not be written. Several orders are written at
// once: on a slow disk more would be missed meanwhile than is written.
func (l *Ledger) catchUp(store Store, batch []missed) (rest []missed) {
	orders := make(map[Key][]missed)
	for _, m := range batch {
		orders[m.key] = append(orders[m.key], m)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	patient := patientStore{store, time.AfterFunc(storeLimit, cancel)}
	var failed sync.Map // by order
	var working sync.WaitGroup
	places := make(chan struct{}, writtenAtOnce(store))
	for key, list := range orders {
		places <- struct{}{}
		working.Go(func() {
			if ctx.Err() != nil || !l.writeMissed(ctx, patient, list) {
				cancel()
				failed.Store(key, true)
			}
			<-places
		})
	}
	working.Wait()
	patient.end.Stop()
	return slices.DeleteFunc(batch, func(m missed) bool {
		_, left := failed.Load(m.key)
		return !left
	})
}

// patientStore ends what is done with a store when nothing of it has succeeded for a while.
type patientStore struct {
	store Store
	end   *time.Timer
}

func (s patientStore) get(ctx context.Context, key Key) (*Row, error) {
	row, err := getOrNew(ctx, s.store, key)
	return row, s.note(err)
}

func (s patientStore) put(ctx context.Context, row *Row, was uint64, lazy bool) error {
	return s.note(s.store.Put(ctx, row, was, lazy))
}

func (s patientStore) note(err error) error {
	if works(err) {
		s.end.Reset(storeLimit)
	}
	return err
}

// writeMissed writes what was missed of one order, and reports whether it could.
func (l *Ledger) writeMissed(ctx context.Context, store rows, list []missed) bool {
	for i := range list {
		acc := l.account(list[i].key.Account)
		if acc == nil { // its account was taken out of the configuration
			continue
		}
		err := l.updateIn(ctx, store, acc, list[i].key, true, list[i].add)
		if err != nil && !errors.Is(err, ErrBusy) {
			return false
		}
	}
	return true
}

// add brings what was missed into a row.
func (m *missed) add(row *Row, e *env) {
	if row.find(&m.attempt) < 0 {
		a := m.attempt
		if m.own { // with a clock that is behind, an attempt would be given up while the API is still at work on it
			a.Asked, a.Since = a.Asked+e.ahead, a.Since+e.ahead
		}
		a.Next = e.plan(&a)
		row.Attempts = append(row.Attempts, a)
	}
}

// isOf reports whether another one is of the same payment.
func (m *missed) isOf(other missed) bool {
	return m.attempt.ImpUID != "" && m.key == other.key && m.attempt.ImpUID == other.attempt.ImpUID
}

// remember notes an attempt that was made while the store was down, and reports whether it still is.
func (l *Ledger) remember(m missed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store != nil {
		return false
	}
	if !slices.ContainsFunc(l.missed, m.isOf) { // one that is answered again and again is noted once
		if len(l.missed) >= maxMissed {
			l.missed = l.missed[1:]
		}
		l.missed = append(l.missed, m)
	}
	return true
}

// miss remembers an attempt that was made while the store was down. If the store is up again, the attempt
// is written behind the answer, and until then other requests of this process are kept from the order.
func (l *Ledger) miss(acc *Account, m missed) {
	if l.remember(m) {
		return
	}
	l.mu.Lock()
	l.occupied[m.key]++
	l.mu.Unlock()
	l.opts.spawn(func() {
		defer l.vacate(m.key)
		for {
			err := l.update(context.Background(), acc, m.key, true, m.add)
			if !errors.Is(err, ErrDown) && !errors.Is(err, ErrSlow) || l.remember(m) {
				return
			}
		}
	})
}
