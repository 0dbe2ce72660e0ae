package boltstore

// This file holds notes: short values beside the rows.

import (
	"cmp"
	"context"
	"strconv"

	"go.etcd.io/bbolt"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// movedFormat is the format of a file whose rows were moved away. Versions that know nothing of notes refuse
// it: after going back to one of them, it must not go on with rows that are out of date.
const movedFormat = 1000 + fileFormat

// Note implements ledger.Movable.
func (s *Store) Note(ctx context.Context, name, initial string) (value string, err error) {
	err = s.read(ctx, func(b buckets) error {
		value = string(b.note(name))
		return nil
	})
	if err != nil || value != "" || initial == "" {
		return value, err
	}
	err = s.updateNote(ctx, func(tx *bbolt.Tx) error {
		if value = string(bucketsOf(tx).note(name)); value != "" { // meanwhile
			return errNoChange
		}
		value = initial
		return setNote(tx, name, initial)
	})
	return value, err
}

// SetNote implements ledger.Movable.
func (s *Store) SetNote(ctx context.Context, name, value string) error {
	return s.updateNote(ctx, func(tx *bbolt.Tx) error { return setNote(tx, name, value) })
}

// Notes implements ledger.Movable.
func (s *Store) Notes(ctx context.Context) (notes map[string]string, err error) {
	notes = make(map[string]string)
	err = s.read(ctx, func(b buckets) error {
		if b.notes == nil {
			return nil
		}
		return b.notes.ForEach(func(name, value []byte) error {
			notes[string(name)] = string(value)
			return nil
		})
	})
	return notes, err
}

func (s *Store) updateNote(ctx context.Context, change func(*bbolt.Tx) error) error {
	if err := cmp.Or(ctx.Err(), s.down()); err != nil {
		return err
	}
	return s.update(change)
}

// note returns the value of a note, nil if there is none.
func (b buckets) note(name string) []byte {
	if b.notes == nil {
		return nil
	}
	return b.notes.Get([]byte(name))
}

// setNote makes the bucket, too: only a file that is moved has it.
func setNote(tx *bbolt.Tx, name, value string) error {
	notes, err := tx.CreateBucketIfNotExists(notesBucket)
	if err != nil {
		return err
	}
	if name == ledger.NoteMoved {
		format := fileFormat
		if value != "" {
			format = movedFormat
		}
		if err := tx.Bucket(metaBucket).Put(formatKey, strconv.AppendInt(nil, int64(format), 10)); err != nil {
			return err
		}
	}
	if value == "" {
		return notes.Delete([]byte(name))
	}
	return notes.Put([]byte(name), []byte(value))
}
