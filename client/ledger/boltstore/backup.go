package boltstore

// This file holds copies of the file: how one is written while the file is used, and how one is verified.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/bbolt"
)

// verifyTimeout is how long Verify waits for another process that has the file open.
const verifyTimeout = 100 * time.Millisecond

// Copy writes the file as it is at this moment. Until it returns, the file grows instead of using its free
// pages, and Close waits: w must not be slow, and must fail soon when ctx ends.
//
// What is copied last may not be synced yet, and be lost with a power cut. That does no harm to a copy: it
// has an attempt more, which was not sent yet, and is looked up as any other.
func (s *Store) Copy(ctx context.Context, w io.Writer) error {
	if err := cmp.Or(ctx.Err(), s.down()); err != nil {
		return err
	}
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			_, err := tx.WriteTo(whileWanted{ctx, w})
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("copying the ledger: %w", cmp.Or(ctx.Err(), err))
	}
	return nil
}

// whileWanted is a writer that fails when its context has ended.
type whileWanted struct {
	ctx context.Context //nolint:containedctx // of one call
	w   io.Writer
}

func (w whileWanted) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// Verify reads a whole file that nobody uses, without writing to it, and returns how many orders it has. The
// errors are those of Open.
func Verify(path string) (orders int, err error) {
	options := Options{LockTimeout: verifyTimeout, Existing: true}.bbolt()
	options.ReadOnly = true
	s := new(Store)
	if err = s.openDatabase(path, options); err == nil {
		err = guard(func() error {
			return s.db.View(func(tx *bbolt.Tx) (err error) { orders, err = s.countOrders(tx); return err })
		})
		if closeErr := s.release(err); err == nil {
			err = closeErr
		}
	}
	if errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %w", ErrNotLedger, err)
	}
	if err != nil {
		return 0, fmt.Errorf("verifying %s: %w", path, err)
	}
	return orders, nil
}

// countOrders decodes all rows, and counts those of orders.
func (s *Store) countOrders(tx *bbolt.Tx) (n int, err error) {
	if _, err := s.inspect(tx); err != nil {
		return 0, err
	}
	b := bucketsOf(tx)
	if b.rows == nil || b.due == nil || b.imps == nil {
		return 0, ErrNotLedger
	}
	err = b.rows.ForEach(func(_, value []byte) error {
		row, err := s.decodeRow(value)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotLedger, err)
		}
		if row.Mark == nil {
			n++
		}
		return nil
	})
	return n, err
}
