package boltstore

// This file holds reading. Each call has a transaction of its own, which ends before the call
// returns: while one is open, the file grows instead of using its free pages.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// read runs a function in a transaction. What it read is synced: bbolt shows a commit to readers before
// the last sync of it has ended, and whoever finds there what he was about to write relies on it.
func (s *Store) read(ctx context.Context, do func(b buckets) error) error {
	if err := cmp.Or(ctx.Err(), s.down()); err != nil {
		return err
	}
	var id int
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return do(bucketsOf(tx))
		})
	})
	if err == nil || errors.Is(err, ledger.ErrNotFound) {
		err = cmp.Or(s.awaitSync(ctx, int64(id)), err)
	}
	switch {
	case err == nil, errors.Is(err, ledger.ErrNotFound):
		return err
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return errClosed
	}
	return fmt.Errorf("reading the ledger: %w", err)
}

var errNotSynced = errors.New("what was read is not synced")

// awaitSync waits until a transaction that was read is synced.
func (s *Store) awaitSync(ctx context.Context, id int64) error {
	if id <= s.durable.Load() {
		return nil
	}
	select {
	case s.syncing <- struct{}{}: // the commit has ended
		<-s.syncing
	case <-ctx.Done():
		return ctx.Err()
	}
	if id <= s.durable.Load() {
		return nil
	}
	return cmp.Or(s.down(), errNotSynced)
}

// row returns the row with a key of the bucket rows.
func (s *Store) row(b buckets, key []byte) (*ledger.Row, error) {
	value := b.rows.Get(key)
	if value == nil {
		return nil, ledger.ErrNotFound
	}
	return s.decodeRow(value)
}

// Get implements ledger.Store.
func (s *Store) Get(ctx context.Context, key ledger.Key) (row *ledger.Row, err error) {
	err = s.read(ctx, func(b buckets) (err error) {
		row, err = s.row(b, rowKey(key))
		return err
	})
	return row, err
}

// GetByImpUID implements ledger.Store.
func (s *Store) GetByImpUID(ctx context.Context, account, impUID string) (row *ledger.Row, err error) {
	prefix := impPrefix(account, impUID)
	err = s.read(ctx, func(b buckets) (err error) {
		entry, _ := b.imps.Cursor().Seek(prefix)
		if !bytes.HasPrefix(entry, prefix) {
			return ledger.ErrNotFound
		}
		row, err = s.row(b, rowKey(ledger.Key{Account: account, Order: string(entry[len(prefix):])}))
		return err
	})
	return row, err
}

// Due implements ledger.Store. Rows of a newer format are passed over without reading them.
func (s *Store) Due(ctx context.Context, queue ledger.Queue, now int64, limit int) (rows []*ledger.Row, err error) {
	err = s.read(ctx, func(b buckets) error {
		index, prefix := b.due, []byte(nil)
		if queue != ledger.Looks {
			index, prefix = b.queues, queuePrefix(queue)
		}
		last := appendDue(bytes.Clone(prefix), now)
		cursor := index.Cursor()
		for entry, value := cursor.Seek(prefix); entry != nil && len(rows) < limit; entry, value = cursor.Next() {
			if !bytes.HasPrefix(entry, prefix) || bytes.Compare(entry[:len(last)], last) > 0 {
				return nil
			}
			if format, _ := binary.Varint(value); format > ledger.Format {
				continue
			}
			row, err := s.standing(b, queue, entry, entry[len(last):])
			if err != nil {
				return err
			}
			if row != nil {
				rows = append(rows, row)
			}
		}
		return nil
	})
	return rows, err
}

// standing returns the row that an entry of a queue is of, or nil if it does not stand there. It
// always stands in Looks: all versions keep that index.
func (s *Store) standing(b buckets, queue ledger.Queue, entry, key []byte) (*ledger.Row, error) {
	value := b.rows.Get(key)
	if value == nil && queue != ledger.Looks {
		return nil, nil
	}
	row, err := s.decodeRow(value)
	if err != nil || queue == ledger.Looks || bytes.Equal(queueEntry(row, key), entry) {
		return row, err
	}
	return nil, nil
}

// List implements ledger.Store.
func (s *Store) List(ctx context.Context, after ledger.Key, limit int) (rows []*ledger.Row, err error) {
	start := rowKey(after)
	err = s.read(ctx, func(b buckets) error {
		cursor := b.rows.Cursor()
		key, value := cursor.Seek(start)
		if bytes.Equal(key, start) {
			key, value = cursor.Next()
		}
		for ; key != nil && len(rows) < limit; key, value = cursor.Next() {
			row, err := s.decodeRow(value)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}
