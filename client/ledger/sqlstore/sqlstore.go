// Package sqlstore keeps the rows of the ledger in a database that several nodes share: Postgres,
// MySQL or MariaDB.
//
// A row is written by one statement whose condition is the version that was read. Only a write that
// changes which payments a row knows is a transaction, because these stand in a table of their own.
// Nothing depends on the session: a pooler may hand each statement to another one.
//
// Each write says what time its writer takes it to be. If that is not the database's, the write was
// under way for too long, or the writer is mistaken: it is refused, and so nothing that was given up
// is done later, and no hold ends earlier than its holder thinks.
package sqlstore

// This file holds the Store: how it is opened and closed, and how a statement is tried again.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

var (
	// ErrSetup is in the chain of an error that only a person can mend: the database refuses user or
	// password, there is no such database, or it lacks the tables and the user may not make them.
	ErrSetup = errors.New("the database cannot be used as it is configured")

	errClosed = errors.New("the ledger is closed")
)

const (
	connections = 5
	openLimit   = 2 * time.Second // of Open
	opLimit     = 2 * time.Second // of each operation

	// A connection is given up when it was idle for so long: some databases and firewalls drop it.
	idleLimit = 5 * time.Minute
	// And after so long at the latest, so that a name that means another server now is looked up again.
	lifeLimit = 30 * time.Minute

	retryFirst = 10 * time.Millisecond
	retryLimit = 200 * time.Millisecond
)

// Database is a database that can be opened.
type Database struct {
	dialect   *dialect
	connector driver.Connector
}

// Options are the options of Open.
type Options struct {
	// Warn, if set, is told what an operator should mend, perhaps again and again, by many goroutines at once.
	Warn func(message string)
	// Moved opens also what was moved to another store: for ledger.Move.
	Moved bool
}

// Store is a ledger.Store in a database.
type Store struct {
	*dialect
	db    *sql.DB
	clock clock
	ended context.Context // ended by Close
	work  sync.WaitGroup
	close func() error
	warn  func(message string)
}

var (
	_ ledger.Store   = (*Store)(nil)
	_ ledger.Clock   = (*Store)(nil)
	_ ledger.Movable = (*Store)(nil)
)

// Schema returns the statements that make the tables, for a person to run who may do that.
func (d *Database) Schema() string { return script(d.dialect.schema, d.dialect.indexes) }

// Open connects to the database, and makes the tables that it lacks.
func (d *Database) Open(o Options) (*Store, error) {
	ended, end := context.WithCancel(context.Background())
	s := &Store{dialect: d.dialect, ended: ended, warn: o.Warn}
	if s.warn == nil {
		s.warn = func(string) {}
	}
	s.clock.wanted = make(chan struct{}, 1)
	s.db = sql.OpenDB(&connector{d.connector, s.clock.measureSoon})
	s.db.SetMaxOpenConns(connections)
	s.db.SetMaxIdleConns(connections)
	s.db.SetConnMaxIdleTime(idleLimit)
	s.db.SetConnMaxLifetime(lifeLimit)
	s.close = sync.OnceValue(func() error {
		end()
		s.work.Wait()
		return s.db.Close()
	})
	ctx, cancel := context.WithTimeout(context.Background(), openLimit)
	defer cancel()
	if err := s.prepare(ctx, o); err != nil {
		_ = s.close()
		if s.isSetup(err) {
			err = fmt.Errorf("%w: %w", ErrSetup, err)
		}
		return nil, fmt.Errorf("opening the ledger in %s: %w", s.name, err)
	}
	s.work.Go(s.keepTime)
	return s, nil
}

// prepare makes the database ready.
func (s *Store) prepare(ctx context.Context, o Options) error {
	for _, do := range []func(context.Context) error{s.makeTables, s.checkFormat, s.measure} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	if !o.Moved {
		if err := ledger.CheckMoved(ctx, s); err != nil {
			return err
		}
	}
	warning, err := s.check(ctx, s.db)
	if err == nil && warning != "" {
		s.warn(warning)
	}
	return err
}

// Close does the writes that are under way, and closes the connections.
func (s *Store) Close() error { return s.close() }

// try does something until it succeeds, fails for good, or the context ends. A lost connection tells
// nothing of what became of the statement: do must be such that it may be done again.
func (s *Store) try(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	for pause := retryFirst; ; pause = min(2*pause, retryLimit) {
		if s.ended.Err() != nil {
			return errClosed
		}
		err := ctx.Err()
		if err == nil {
			err = do(ctx)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return lateError(ctx, err)
		case !s.isLost(err):
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return lateError(ctx, err)
		case <-s.ended.Done():
			return errClosed
		}
	}
}

// lateError is that of a context, with what failed last.
func lateError(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// isLost reports whether nothing is known of what became of a statement, or it was not done: there is no
// connection for the moment, or another transaction was in its way.
func (s *Store) isLost(err error) bool {
	if errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrNotFound) || errors.Is(err, errRow) {
		return false
	}
	code, answered := s.code(err)
	return !answered || s.away[code] || s.conflicts[code]
}

// isSerialization reports whether a statement was rolled back because of another one.
func (s *Store) isSerialization(err error) bool {
	code, answered := s.code(err)
	return answered && s.conflicts[code]
}

// isSetup reports whether the database's answer is a matter for a person.
func (s *Store) isSetup(err error) bool {
	code, answered := s.code(err)
	return answered && s.refusals[code] || errors.Is(err, errTables) || errors.Is(err, errNewer)
}

// connector tells of each new connection.
type connector struct {
	driver.Connector
	connected func()
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err == nil {
		c.connected()
	}
	return conn, err
}
