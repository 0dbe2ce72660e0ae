package sqlstore

// This file holds writing.

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// The bytes that the columns of MySQL hold. Some servers cut what is longer.
const (
	maxAccount = 255
	maxOrder   = 512
	maxImpUID  = 255
	maxQueue   = 512
)

// writeLimit is by how much the database's clock may differ from what a writer takes it for, when it
// does a write: for how long that was under way, and more. A hold lasts a second longer than its holder
// needs it.
const writeLimit = time.Second

var (
	errRow         = errors.New("writing a row of the ledger")
	errSameVersion = fmt.Errorf("%w: its version is the old one", errRow)
	errLong        = fmt.Errorf("%w: its account, order number, imp_uid or queue is too long", errRow)
)

// write is a Put.
type write struct {
	account, order []byte
	version, was   int64
	writer         int64 // tells, after a connection was lost, whose write a row is
	at             int64 // when it was begun, by the database's clock
	empty          bool
	values         []any // of the columns behind the key; the condition follows
	impUIDs        [][]byte
	impUIDsJSON    []byte
}

// Put implements ledger.Store. Each write is durable when it returns: the database lets several share
// a sync.
func (s *Store) Put(ctx context.Context, row *ledger.Row, was uint64, _ bool) error {
	w, err := newWrite(row, was, s.Now())
	if err != nil {
		return err
	}
	again := false
	return s.try(ctx, func(ctx context.Context) error {
		n, err := s.write(ctx, w)
		switch {
		case err == nil && n == 0:
			err = s.settled(ctx, w, again)
		case err != nil && s.isSerialization(err):
			err = ledger.ErrConflict
		}
		again = true
		return err
	})
}

func newWrite(row *ledger.Row, was uint64, now int64) (*write, error) {
	if row.Version == was {
		return nil, errSameVersion
	}
	w := &write{account: []byte(row.Account), order: []byte(row.Order), version: int64(row.Version), was: int64(was), at: now, empty: row.Empty()} //nolint:gosec // all bits are kept
	if w.empty {
		return w, nil
	}
	data, err := row.Encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRow, err)
	}
	long := len(w.account) > maxAccount || len(w.order) > maxOrder || len(row.Queue) > maxQueue
	ids := row.ImpUIDs()
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for _, id := range ids {
		w.impUIDs = append(w.impUIDs, []byte(id))
		long = long || len(id) > maxImpUID
	}
	if long {
		return nil, errLong
	}
	if w.impUIDsJSON, err = json.Marshal(w.impUIDs); err != nil {
		return nil, fmt.Errorf("%w: %w", errRow, err)
	}
	w.writer = rand.Int64() //nolint:gosec // no secret
	queueDue := row.QueueDue
	if row.Queue == ledger.Looks { // it stands in no other queue: the index need not change
		queueDue = 0
	}
	w.values = []any{w.version, w.writer, int64(row.Format), row.Due, []byte(row.Queue), queueDue, w.impUIDsJSON, data}
	return w, nil
}

// write writes the row, and returns how many rows it has written: 0 if the stored version is another
// one, or too much time has passed.
func (s *Store) write(ctx context.Context, w *write) (int64, error) {
	switch {
	case w.empty && w.was == 0:
		return 0, nil
	case w.empty:
		return s.change(ctx, w, s.remove, nil)
	case w.was == 0 && len(w.impUIDs) == 0:
		return affected(s.db.ExecContext(ctx, s.insert, w.insertion()...))
	case w.was == 0:
		return s.change(ctx, w, s.insert, w.insertion())
	}
	set := slices.Concat(w.values, w.condition())
	if n, err := affected(s.db.ExecContext(ctx, s.updateSame, append(slices.Clip(set), w.impUIDsJSON)...)); n > 0 || err != nil {
		return n, err
	}
	return s.change(ctx, w, s.update, set)
}

// insertion returns the arguments of an INSERT.
func (w *write) insertion() []any {
	return slices.Concat([]any{w.account, w.order}, w.values, []any{w.at, writeLimit.Milliseconds()})
}

// condition returns the arguments of the condition of a write.
func (w *write) condition() []any {
	return []any{w.account, w.order, w.was, int64(ledger.Format), w.at, writeLimit.Milliseconds()}
}

// change writes a row whose payments are not those that are stored.
func (s *Store) change(ctx context.Context, w *write, statement string, args []any) (n int64, err error) {
	var stored [][]byte
	if w.was != 0 {
		var list []byte
		err := s.db.QueryRowContext(ctx, s.payments, w.account, w.order, w.was, int64(ledger.Format)).Scan(&list)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if err := json.Unmarshal(list, &stored); err != nil {
			return 0, fmt.Errorf("%w: reading its payments: %w", errRow, err)
		}
	}
	if args == nil {
		args = w.condition()
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		if n, err = affected(tx.ExecContext(ctx, statement, args...)); err != nil || n == 0 {
			return err
		}
		return s.changePayments(ctx, tx, w, stored)
	})
	return n, err
}

// changePayments makes the table of the payments follow a row.
func (s *Store) changePayments(ctx context.Context, tx *sql.Tx, w *write, stored [][]byte) error {
	has := func(list [][]byte, id []byte) bool {
		return slices.ContainsFunc(list, func(other []byte) bool { return string(other) == string(id) })
	}
	for _, id := range stored {
		if !has(w.impUIDs, id) {
			if _, err := tx.ExecContext(ctx, s.removePayment, w.account, id, w.order); err != nil {
				return err
			}
		}
	}
	for _, id := range w.impUIDs {
		if !has(stored, id) {
			if _, err := tx.ExecContext(ctx, s.addPayment, w.account, id, w.order); err != nil {
				return err
			}
		}
	}
	return nil
}

// settled tells why a write has changed nothing. It is done if an earlier try, whose connection was
// lost, has done it.
func (s *Store) settled(ctx context.Context, w *write, again bool) error {
	var version, writer int64
	err := s.db.QueryRowContext(ctx, s.version, w.account, w.order).Scan(&version, &writer)
	if err = ignoreNoRows(err); err != nil {
		return err
	}
	switch {
	case w.empty && version == 0 && (w.was == 0 || again), !w.empty && again && version == w.version && writer == w.writer:
		return nil
	case version == w.was: // it was refused because of the time
		_ = s.measure(ctx)
	}
	return ledger.ErrConflict
}

// affected returns how many rows a statement has changed.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
