// Package boltstore keeps the rows of the ledger in one file, by bbolt. One process uses it at a time.
//
// It commits in groups: while one commit is synced, the writes that come meanwhile gather, and the
// next commit takes all of them. bbolt syncs twice for each commit, so the number of writes in a
// second hardly depends on the disk.
package boltstore

// This file holds the Store: its options and errors, its beginning and end.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// The errors of Open that are no errors of the file system.
var (
	// ErrLocked means that another process, or another Store of this one, uses the file.
	ErrLocked = errors.New("the file is in use by another process")
	// ErrNotLedger means that the file is something else, or damaged.
	ErrNotLedger = errors.New("the file is no ledger, or it is damaged")
	// ErrNewer means that a newer version of this package wrote the file.
	ErrNewer = errors.New("the file was written by a newer version")
)

var errClosed = errors.New("the ledger is closed")

const (
	// fileFormat is the version of the buckets, their keys and values. The rows have their own,
	// ledger.Format.
	fileFormat = 1

	defaultLockTimeout = 10 * time.Second

	// mapSize is the address space that is reserved for the file. When the file outgrows it, bbolt
	// waits until no read is under way, and lets no other one begin. It takes no memory.
	mapSize = 1 << 30

	// growBy is by how much the file grows. bbolt's default, 16 MB, is much for a small shop.
	growBy = 1 << 20
)

// The buckets.
var (
	metaBucket = []byte("meta")
	rowsBucket = []byte("rows")    // row key → opening, row
	dueBucket  = []byte("due")     // due, row key → format of the row
	impBucket  = []byte("imp_uid") // account, imp_uid, order → nothing

	// queuesBucket has queue, place, row key → format of the row. Older versions do not know it, and
	// write a file that has it: an entry may be of a row that left the queue, or was removed.
	queuesBucket = []byte("queues")

	// notesBucket has name → value. Older versions do not know it.
	notesBucket = []byte("notes")

	formatKey = []byte("format") // in meta, as decimal digits
)

// Options are the options of Open.
type Options struct {
	LockTimeout time.Duration // how long Open waits for another process to release the file; default 10s
	NoSync      bool          // for tests: what was written is lost with a power cut
	Existing    bool          // a missing file is an error, fs.ErrNotExist, and is not created
	Moved       bool          // for ledger.Move: a file is opened also if its rows were moved away

	tune func(*bbolt.Options) // for the tests of this package
}

// Store is a ledger.Store in one file.
type Store struct {
	db      *bbolt.DB
	file    *os.File // the one of db
	opening [8]byte  // random; a hold that another opening wrote is dead

	syncing chan struct{} // has something during a commit
	durable atomic.Int64  // the last transaction that is synced

	writes  chan *write           // to the committer
	closing chan struct{}         // closed when Close begins
	stopped chan struct{}         // closed when the committer has ended
	failed  atomic.Pointer[error] // why the Store refuses everything
	close   func() error
}

var _ ledger.Movable = (*Store)(nil)

// Open opens a ledger's file, and creates it if it is missing, readable for its owner only. The
// directory must exist. An error of the file system is in the chain of the error that it returns, and
// ledger.ErrMoved if the rows of the file were moved away.
func Open(path string, o Options) (*Store, error) {
	s := &Store{syncing: make(chan struct{}, 1), writes: make(chan *write), closing: make(chan struct{}), stopped: make(chan struct{})}
	_, _ = rand.Read(s.opening[:]) // never fails
	if err := s.open(path, o.bbolt()); err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, err)
	}
	_ = s.db.View(func(tx *bbolt.Tx) error { s.durable.Store(int64(tx.ID())); return nil })
	s.close = sync.OnceValue(func() error {
		close(s.closing)
		<-s.stopped
		cause := s.down()
		s.failed.CompareAndSwap(nil, &errClosed)
		return s.release(cause)
	})
	go s.run()
	if o.Moved {
		return s, nil
	}
	if err := ledger.CheckMoved(context.Background(), s); err != nil {
		return nil, fmt.Errorf("opening the ledger %s: %w", path, errors.Join(err, s.Close()))
	}
	return s, nil
}

// Close does the writes that wait, and releases the file. It waits for reads that are under way.
func (s *Store) Close() error { return s.close() }

// down returns why the Store refuses everything, or nil.
func (s *Store) down() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// release closes the file. After a panic bbolt may hold its own locks for ever, and closing would
// wait for them: then the file is taken from it, and only its mapping stays.
func (s *Store) release(cause error) error {
	if errors.Is(cause, errDamaged) {
		return errors.Join(unlock(s.file), s.file.Close())
	}
	return s.db.Close()
}

var errDamaged = errors.New("the file is damaged")

// guard returns a panic as an error. bbolt panics when a page is not what it must be. A page
// behind the end of the file, which somebody truncated, is a fault, and would end the program.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return do()
}
