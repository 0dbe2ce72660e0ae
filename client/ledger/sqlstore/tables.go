package sqlstore

// This file holds making the tables, and the notes beside the rows.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// tableFormat is the version of the tables. The rows have their own, ledger.Format. Columns and
// indexes are only added, so that nodes of several versions can share them: it grows only if that
// cannot be kept up.
const tableFormat = 1

const formatNote = "format"

var (
	errTables = errors.New("the tables are missing, or older, and this user may not make them")
	errNewer  = errors.New("a newer version has made the tables, and this one cannot use them")
)

// probes fail if a table or a column is missing.
var probes = []string{
	"SELECT " + columns + " FROM caddy_cvs_orders WHERE 1 = 0",
	"SELECT account, imp_uid, merchant_uid FROM caddy_cvs_payments WHERE 1 = 0",
	"SELECT name, value FROM caddy_cvs_notes WHERE 1 = 0",
}

// makeTables makes the tables, or the columns, that are missing. A user who may not do that can use
// those that another one has made.
func (s *Store) makeTables(ctx context.Context) error {
	lacks, err := s.lacks(ctx)
	if err != nil || !lacks {
		return err
	}
	statements := slices.Concat(s.schema, s.later, s.indexes)
	if err := s.transact(ctx, func(tx *sql.Tx) error { return s.runAll(ctx, tx, statements) }); err != nil {
		if code, answered := s.code(err); answered && s.refusals[code] {
			return fmt.Errorf("%w (%w): have somebody run this who may, and let this user SELECT, INSERT, UPDATE and DELETE:\n%s", errTables, err, s.scriptFor(ctx))
		}
		return err
	}
	return nil
}

// scriptFor is what makes the tables, or what the table of an older version lacks.
func (s *Store) scriptFor(ctx context.Context) string {
	rows, err := s.db.QueryContext(ctx, "SELECT account FROM caddy_cvs_orders WHERE 1 = 0")
	if err != nil {
		return script(s.schema, s.indexes)
	}
	_ = rows.Close()
	return script(s.schema, s.later, s.indexes)
}

// lacks reports whether a table or a column is missing.
func (s *Store) lacks(ctx context.Context) (bool, error) {
	for _, probe := range probes {
		rows, err := s.db.QueryContext(ctx, probe)
		if err == nil {
			err = errors.Join(rows.Err(), rows.Close())
		}
		if code, answered := s.code(err); answered && s.missing[code] {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// runAll runs statements one after the other. What is there already is no error.
func (s *Store) runAll(ctx context.Context, tx *sql.Tx, statements []string) error {
	if s.lock != "" {
		if _, err := tx.ExecContext(ctx, s.lock); err != nil {
			return err
		}
	}
	for _, statement := range statements {
		_, err := tx.ExecContext(ctx, statement)
		if code, answered := s.code(err); err != nil && (!answered || !s.exists[code]) {
			return err
		}
	}
	return nil
}

// checkFormat refuses tables of a newer version.
func (s *Store) checkFormat(ctx context.Context) error {
	value, err := s.Note(ctx, formatNote, strconv.Itoa(tableFormat))
	if err != nil {
		return err
	}
	if format, err := strconv.Atoi(value); err != nil || format > tableFormat {
		return fmt.Errorf("%w: their format is %q, this version knows %d", errNewer, value, tableFormat)
	}
	return nil
}

// Note implements ledger.Movable.
func (s *Store) Note(ctx context.Context, name, initial string) (value string, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		read := func() error { return s.db.QueryRowContext(ctx, s.note, []byte(name)).Scan(&value) }
		err := read()
		if !errors.Is(err, sql.ErrNoRows) || initial == "" {
			return ignoreNoRows(err)
		}
		if _, err := s.db.ExecContext(ctx, s.addNote, []byte(name), []byte(initial), []byte(name)); err != nil {
			return err
		}
		return read() // another node may have been first
	})
	return value, err
}

// SetNote implements ledger.Movable.
func (s *Store) SetNote(ctx context.Context, name, value string) error {
	statement, args := s.setNote, []any{[]byte(name), []byte(value)}
	if value == "" {
		statement, args = s.removeNote, args[:1]
	}
	return s.try(ctx, func(ctx context.Context) error {
		_, err := s.db.ExecContext(ctx, statement, args...)
		return err
	})
}

// Notes implements ledger.Movable.
func (s *Store) Notes(ctx context.Context) (notes map[string]string, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		notes = make(map[string]string)
		rows, err := s.db.QueryContext(ctx, s.notes)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name, value []byte
			if err := rows.Scan(&name, &value); err != nil {
				return err
			}
			notes[string(name)] = string(value)
		}
		delete(notes, formatNote)
		return rows.Err()
	})
	return notes, err
}

func ignoreNoRows(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// transact does something in a transaction.
func (s *Store) transact(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = within(ctx, tx.Rollback)
		return err
	}
	return within(ctx, tx.Commit)
}

// within ends a transaction, and waits for that no longer than its context. MySQL's driver would wait for
// as long as the server is silent.
func within(ctx context.Context, end func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- end() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
