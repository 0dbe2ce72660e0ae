package ledger

// This file holds how the rows of a store are copied while it is used: for a backup.

import (
	"context"
	"errors"
)

// ErrCopying means that a backup is under way already.
var ErrCopying = errors.New("another backup is under way: wait for its end")

// Backup lets a function read the present store for as long as it needs, which no other call does. Its
// context ends also when the store fails or the Ledger is closed: both wait for the function, which must
// return soon then. The error is ErrDown, ErrCopying, or the function's own.
func (l *Ledger) Backup(ctx context.Context, read func(context.Context, Store) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	store := l.store
	switch {
	case store == nil || l.ended:
		l.mu.Unlock()
		return ErrDown
	case l.copying != nil:
		l.mu.Unlock()
		return ErrCopying
	}
	l.copying = cancel
	l.work.Add(1)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.copying = nil
		l.mu.Unlock()
		l.work.Done()
	}()
	return read(ctx, store)
}

// endCopy ends a backup that is under way. The caller has locked l.mu.
func (l *Ledger) endCopy() {
	if l.copying != nil {
		l.copying()
	}
}

// Copy writes all rows and notes of a store into another one that is empty. Nodes may use the source
// meanwhile. A row that is written during the copy is as it was at some moment of it: rows do not depend
// on each other. An account's mark is copied before its orders, so it never says that more of the API's lists
// was read than they show.
//
// The copy has the source's id, so neither is moved into the other by mistake.
func Copy(ctx context.Context, from, to Movable) error {
	m := &mover{from: Place{Movable: from}, to: Place{Movable: to}, marks: make(map[string]*mark), now: nowOf(from)}
	if err := m.copy(ctx); err != nil {
		return err
	}
	notes, err := from.Notes(ctx)
	if err != nil {
		return err
	}
	delete(notes, NoteMoved) // which another node may just have written
	for name, value := range notes {
		if err := to.SetNote(ctx, name, value); err != nil {
			return err
		}
	}
	return nil
}
