package storetest

// This file holds a store in memory.

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

var (
	errClosed      = errors.New("the store is closed")
	errSameVersion = errors.New("the row's version is the old one")
)

// Memory is a Store in memory, for tests. Get and Put are cheap; all else looks at every row.
type Memory struct {
	mu     sync.Mutex
	closed bool
	rows   map[ledger.Key]*ledger.Row
	notes  map[string]string
}

var _ ledger.Movable = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{rows: make(map[ledger.Key]*ledger.Row), notes: make(map[string]string)}
}

// Reopen returns a store with the rows of one that was closed. Holds live on.
func (m *Memory) Reopen() *Memory { return &Memory{rows: m.rows, notes: m.notes} }

// lock locks the store, or returns why it cannot be used.
func (m *Memory) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return errClosed
	}
	return nil
}

// Get implements ledger.Store.
func (m *Memory) Get(ctx context.Context, key ledger.Key) (*ledger.Row, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	row := m.rows[key]
	if row == nil {
		return nil, ledger.ErrNotFound
	}
	return row.Clone(), nil
}

// GetByImpUID implements ledger.Store.
func (m *Memory) GetByImpUID(ctx context.Context, account, impUID string) (*ledger.Row, error) {
	rows, err := m.list(ctx, byKey, 1, func(row *ledger.Row) bool {
		return row.Account == account && slices.Contains(row.ImpUIDs(), impUID)
	})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ledger.ErrNotFound
	}
	return rows[0], nil
}

// Put implements ledger.Store.
func (m *Memory) Put(ctx context.Context, row *ledger.Row, was uint64, _ bool) error {
	if row.Version == was {
		return errSameVersion
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	key := row.Key()
	var version uint64
	if old := m.rows[key]; old != nil {
		if old.Format > ledger.Format {
			return ledger.ErrConflict
		}
		version = old.Version
	}
	if version != was {
		return ledger.ErrConflict
	}
	if row.Empty() {
		delete(m.rows, key)
	} else {
		m.rows[key] = row.Clone()
	}
	return nil
}

// Due implements ledger.Store.
func (m *Memory) Due(ctx context.Context, queue ledger.Queue, now int64, limit int) ([]*ledger.Row, error) {
	place := func(row *ledger.Row) int64 { return row.Due }
	if queue != ledger.Looks {
		place = func(row *ledger.Row) int64 { return row.QueueDue }
	}
	// Ties are broken by key, so that a test gets the same rows each time.
	order := func(a, b *ledger.Row) int { return cmp.Or(cmp.Compare(place(a), place(b)), byKey(a, b)) }
	return m.list(ctx, order, limit, func(row *ledger.Row) bool {
		return (queue == ledger.Looks || queue == row.Queue) && place(row) <= now && row.Format <= ledger.Format
	})
}

// List implements ledger.Store.
func (m *Memory) List(ctx context.Context, after ledger.Key, limit int) ([]*ledger.Row, error) {
	return m.list(ctx, byKey, limit, func(row *ledger.Row) bool {
		return compare(row.Key(), after) > 0
	})
}

// list returns copies of the first of the wanted rows.
func (m *Memory) list(ctx context.Context, order func(a, b *ledger.Row) int, limit int, want func(*ledger.Row) bool) ([]*ledger.Row, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var rows []*ledger.Row
	for _, row := range m.rows {
		if want(row) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, order)
	rows = rows[:min(limit, len(rows))]
	for i, row := range rows {
		rows[i] = row.Clone()
	}
	return rows, nil
}

// Note implements ledger.Movable.
func (m *Memory) Note(ctx context.Context, name, initial string) (string, error) {
	if err := m.lock(ctx); err != nil {
		return "", err
	}
	defer m.mu.Unlock()
	if m.notes[name] == "" {
		m.notes[name] = initial
	}
	return m.notes[name], nil
}

// Notes implements ledger.Movable.
func (m *Memory) Notes(ctx context.Context) (map[string]string, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	notes := maps.Clone(m.notes)
	maps.DeleteFunc(notes, func(_, value string) bool { return value == "" })
	return notes, nil
}

// SetNote implements ledger.Movable.
func (m *Memory) SetNote(ctx context.Context, name, value string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.notes[name] = value
	return nil
}

// Close implements ledger.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

func compare(a, b ledger.Key) int {
	return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Order, b.Order))
}

func byKey(a, b *ledger.Row) int { return compare(a.Key(), b.Key()) }
