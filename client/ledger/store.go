package ledger

// This file holds what the ledger asks of a store.

import (
	"context"
	"errors"
	"time"
)

// MaxLazy is how long a lazy write may wait for another one.
const MaxLazy = 20 * time.Millisecond

// The errors of a Store that are no failures of it.
var (
	// ErrNotFound means that there is no such row.
	ErrNotFound = errors.New("the ledger has no such row")
	// ErrConflict means that the row was written meanwhile, or is of a newer format.
	ErrConflict = errors.New("the row of the ledger was written meanwhile")
)

// Store keeps rows. Package storetest holds the tests that every Store must pass. Any error but
// the two above means that the store cannot be trusted until it is opened again. A write whose
// error is another one may have been done.
//
// The rows that a Store returns are the caller's. It does not keep a row that it is given.
type Store interface {
	// Get returns the row of an order, or ErrNotFound.
	Get(ctx context.Context, key Key) (*Row, error)

	// GetByImpUID returns the row that has an attempt with this imp_uid, or ErrNotFound.
	GetByImpUID(ctx context.Context, account, impUID string) (*Row, error)

	// Put writes a row if the stored version is still was, 0 for no row; otherwise the error is
	// ErrConflict. row.Version must differ from was. It removes a row that is Empty. It
	// returns when the write is durable. A lazy write need not be made durable at once: it may
	// wait up to MaxLazy for another one, and share its sync.
	Put(ctx context.Context, row *Row, was uint64, lazy bool) error

	// Due returns up to limit rows of a queue whose place there is now or earlier and whose format
	// is not newer, earliest first. Their place is Row.Due in the queue Looks, in which all rows
	// are, and Row.QueueDue in the queue that Row.Queue names.
	Due(ctx context.Context, queue Queue, now int64, limit int) ([]*Row, error)

	// List returns up to limit rows behind a key, in the order of their keys: by account, then by
	// order, byte by byte. The zero Key stands before all.
	List(ctx context.Context, after Key, limit int) ([]*Row, error)

	// Close ends the store. Writes that wait are done first.
	Close() error
}

// Clock is implemented by a Store that several nodes share. Rows are dated by its clock.
type Clock interface {
	// Now returns the time in Unix milliseconds. It asks nobody: the Store compares its clock with
	// this machine's from time to time. It works after Close, too.
	Now() int64
}

// writtenAtOnce is how many rows are written at once when there are many. In a file they share a sync. A
// store that several nodes share has few connections, and what waits for one runs out of time.
func writtenAtOnce(s Store) int {
	if _, shared := s.(Clock); shared {
		return 5
	}
	return 100
}

// Movable is a Store whose rows can be moved, or copied, to another one.
type Movable interface {
	Store
	// Note returns a short value that is kept beside the rows. If there is none, initial is kept,
	// durably, and returned, unless it is "". A name has at most 64 bytes of ASCII, a value at most
	// 512 bytes of UTF-8 without NUL.
	Note(ctx context.Context, name, initial string) (string, error)
	// SetNote keeps a value, and returns when that is durable. "" removes it.
	SetNote(ctx context.Context, name, value string) error
	// Notes returns all notes with their values, but for those of the store itself.
	Notes(ctx context.Context) (map[string]string, error)
}
