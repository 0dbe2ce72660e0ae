package boltstore

// This file holds writing: Put, which queues a write, and the committer, which does all that wait.

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

var (
	errSameVersion = errors.New("writing a row of the ledger: its version is the old one")
	errLongKey     = errors.New("writing a row of the ledger: its order number, imp_uid or queue is too long")
	errNoChange    = errors.New("no write of the commit changes anything")
)

// write is a Put that waits.
type write struct {
	key     []byte
	value   []byte // nil to remove the row
	entries entries
	was     uint64
	lazy    bool
	since   time.Time
	err     error      // what Put returns if the commit succeeds
	done    chan error // has room, because Put may have ended
}

// Put implements ledger.Store. When the context ends while the write waits, Put returns the
// context's error, and the write may still be done.
func (s *Store) Put(ctx context.Context, row *ledger.Row, was uint64, lazy bool) error {
	if err := cmp.Or(ctx.Err(), s.down()); err != nil {
		return err
	}
	w, err := s.newWrite(row, was, lazy)
	if err != nil {
		return err
	}
	select {
	case s.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return errClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newWrite does what needs no transaction, so that the committer, which is alone, need not. What
// it refuses would fail the whole commit.
func (s *Store) newWrite(row *ledger.Row, was uint64, lazy bool) (*write, error) {
	if row.Version == was {
		return nil, errSameVersion
	}
	w := &write{key: rowKey(row.Key()), was: was, lazy: lazy, since: time.Now(), done: make(chan error, 1)}
	if row.Empty() {
		return w, nil
	}
	if w.entries = entriesOf(row, w.key); w.entries.tooLong() {
		return nil, errLongKey
	}
	var err error
	w.value, err = s.encodeRow(row)
	return w, err
}

// run is the committer.
func (s *Store) run() {
	defer close(s.stopped)
	for {
		batch, last := s.gather()
		if len(batch) > 0 {
			s.commit(batch)
		}
		if last {
			return
		}
	}
}

// gather waits for a reason to commit, and returns the writes that wait then: one that is not
// lazy, a lazy one that has waited for long enough, or the end.
func (s *Store) gather() (batch []*write, last bool) {
	var patience <-chan time.Time
	for {
		select {
		case w := <-s.writes:
			batch = append(batch, w)
			if !w.lazy {
				return s.drain(batch), false
			}
			if patience == nil {
				patience = time.After(time.Until(w.since.Add(ledger.MaxLazy)))
			}
		case <-patience:
			return s.drain(batch), false
		case <-s.closing:
			return s.drain(batch), true
		}
	}
}

// drain adds the writes that wait.
func (s *Store) drain(batch []*write) []*write {
	for {
		select {
		case w := <-s.writes:
			batch = append(batch, w)
		default:
			return batch
		}
	}
}

// commit does writes in one transaction, and tells each what became of it.
func (s *Store) commit(batch []*write) {
	err := s.down()
	if err == nil {
		err = s.update(func(tx *bbolt.Tx) error { return s.apply(tx, batch) })
	}
	for _, w := range batch {
		if err != nil {
			w.err = err
		}
		w.done <- w.err
	}
}

// update changes the file in one transaction. After a failure the kernel may hold what the disk does not
// have, and say nothing of it any more, so the Store ends.
func (s *Store) update(change func(*bbolt.Tx) error) error {
	s.syncing <- struct{}{}
	defer func() { <-s.syncing }()
	var id int
	err := guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return change(tx)
		})
	})
	switch {
	case errors.Is(err, errNoChange):
		return nil
	case errors.Is(err, berrors.ErrDatabaseNotOpen): // a note came too late
		return errClosed
	case err != nil:
		err = fmt.Errorf("writing to the ledger: %w", err)
		s.failed.Store(&err)
		return err
	}
	s.durable.Store(int64(id))
	return nil
}

// apply does writes, each on top of those before it. It returns errNoChange if there is nothing to
// commit.
func (s *Store) apply(tx *bbolt.Tx, batch []*write) error {
	b := bucketsOf(tx)
	changed := false
	for _, w := range batch {
		old, err := s.stored(b, w)
		if err != nil {
			w.err = err
			continue
		}
		if err := b.write(w, old); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return errNoChange
	}
	return nil
}

// stored returns the entries of the row that a write replaces, or why the write must not be done.
func (s *Store) stored(b buckets, w *write) (old entries, err error) {
	value := b.rows.Get(w.key)
	if value == nil {
		if w.was != 0 {
			return old, ledger.ErrConflict
		}
		return old, nil
	}
	row, err := s.decodeRow(value)
	if err != nil {
		return old, err
	}
	if row.Version != w.was || row.Format > ledger.Format {
		return old, ledger.ErrConflict
	}
	return entriesOf(row, w.key), nil
}

// buckets are the buckets of a transaction.
type buckets struct{ rows, due, queues, imps, notes *bbolt.Bucket }

func bucketsOf(tx *bbolt.Tx) buckets {
	return buckets{
		rows:   tx.Bucket(rowsBucket),
		due:    tx.Bucket(dueBucket),
		queues: tx.Bucket(queuesBucket),
		imps:   tx.Bucket(impBucket),
		notes:  tx.Bucket(notesBucket), // nil if there is none
	}
}

// write writes or removes a row and its entries.
func (b buckets) write(w *write, old entries) error {
	if w.value == nil {
		if err := b.rows.Delete(w.key); err != nil {
			return err
		}
	} else if err := b.rows.Put(w.key, w.value); err != nil {
		return err
	}
	return b.index(w.entries, old)
}

// index replaces the entries of a row. What stays is left alone: it would only be written again.
func (b buckets) index(now, old entries) error {
	if err := move(b.due, now.due, old.due, now.format, old.format); err != nil {
		return err
	}
	if err := move(b.queues, now.queued, old.queued, now.format, old.format); err != nil {
		return err
	}
	for _, key := range old.imps {
		if !contains(now.imps, key) {
			if err := b.imps.Delete(key); err != nil {
				return err
			}
		}
	}
	for _, key := range now.imps {
		if !contains(old.imps, key) {
			if err := b.imps.Put(key, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// move replaces an entry that has the row's format as its value. A key is nil if there is no entry.
func move(b *bbolt.Bucket, now, old, format, oldFormat []byte) error {
	same := bytes.Equal(now, old)
	if !same && old != nil {
		if err := b.Delete(old); err != nil {
			return err
		}
	}
	if now == nil || same && bytes.Equal(format, oldFormat) {
		return nil
	}
	return b.Put(now, format)
}

func contains(keys [][]byte, key []byte) bool {
	return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
}
