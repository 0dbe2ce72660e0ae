package sqlstore

// This file holds reading.

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// Get implements ledger.Store.
func (s *Store) Get(ctx context.Context, key ledger.Key) (*ledger.Row, error) {
	return s.one(ctx, s.get, []byte(key.Account), []byte(key.Order))
}

// GetByImpUID implements ledger.Store.
func (s *Store) GetByImpUID(ctx context.Context, account, impUID string) (*ledger.Row, error) {
	return s.one(ctx, s.byImpUID, []byte(account), []byte(impUID))
}

// Due implements ledger.Store.
func (s *Store) Due(ctx context.Context, queue ledger.Queue, now int64, limit int) ([]*ledger.Row, error) {
	query, args := s.due, []any{now, int64(ledger.Format), int64(limit)}
	if queue != ledger.Looks {
		query, args = s.queued, slices.Insert(args, 0, any([]byte(queue)))
	}
	list, err := s.rows(ctx, limit, query, args...)
	return slices.DeleteFunc(list, func(row *ledger.Row) bool { return row.Format > ledger.Format }), err
}

// List implements ledger.Store. The rest of an account and those behind it are two queries: databases
// use the index for each of them.
func (s *Store) List(ctx context.Context, after ledger.Key, limit int) ([]*ledger.Row, error) {
	list, err := s.rows(ctx, limit, s.listAccount, []byte(after.Account), []byte(after.Order), int64(limit))
	if err != nil || len(list) >= limit {
		return list, err
	}
	rest, err := s.rows(ctx, limit-len(list), s.listRest, []byte(after.Account), int64(limit-len(list)))
	return append(list, rest...), err
}

// one returns the row that a query finds, or ErrNotFound.
func (s *Store) one(ctx context.Context, query string, args ...any) (*ledger.Row, error) {
	list, err := s.rows(ctx, 1, query, args...)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, ledger.ErrNotFound
	}
	return list[0], nil
}

// rows returns the rows that a query finds.
func (s *Store) rows(ctx context.Context, limit int, query string, args ...any) (list []*ledger.Row, err error) {
	if limit == 0 {
		return nil, ctx.Err()
	}
	err = s.try(ctx, func(ctx context.Context) error {
		list, err = s.read(ctx, query, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (s *Store) read(ctx context.Context, query string, args []any) (list []*ledger.Row, err error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var account, order, data []byte
		if err := rows.Scan(&account, &order, &data); err != nil {
			return nil, err
		}
		row, err := ledger.DecodeRow(data)
		if err != nil {
			row = s.unreadable(account, order)
		}
		list = append(list, row)
	}
	return list, rows.Err()
}

// unreadable stands for a row that somebody has altered so that it cannot be read. It is left alone, as one of a
// newer version is, and the other orders go on.
func (s *Store) unreadable(account, order []byte) *ledger.Row {
	s.warn(fmt.Sprintf("the row of order %q of account %q cannot be read: the order gets no barcode, and its shop is told nothing, until somebody has mended or deleted it", order, account))
	return &ledger.Row{Format: math.MaxInt, Account: string(account), Order: string(order)}
}
