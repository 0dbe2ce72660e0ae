package boltstore

// This file holds the keys and values of the buckets.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/bbolt"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// appendText appends text so that what follows it cannot be taken for a part of it, and so that
// encoded texts stand in the order of the texts: a NUL becomes 00 FF, the end is 00 01.
func appendText(to []byte, text string) []byte {
	for i := range len(text) {
		to = append(to, text[i])
		if text[i] == 0 {
			to = append(to, 0xff)
		}
	}
	return append(to, 0, 1)
}

// rowKey returns the key of a row. Keys stand in the order of List.
func rowKey(key ledger.Key) []byte {
	return append(appendText(nil, key.Account), key.Order...)
}

// impPrefix returns how the entry of an imp_uid begins. The order follows.
func impPrefix(account, impUID string) []byte {
	return appendText(appendText(nil, account), impUID)
}

// queuePrefix returns how the entries of a queue begin. The place and the row's key follow.
func queuePrefix(queue ledger.Queue) []byte { return appendText(nil, string(queue)) }

// queueEntry returns the entry of a row in the queue that it names.
func queueEntry(row *ledger.Row, key []byte) []byte {
	return append(appendDue(queuePrefix(row.Queue), row.QueueDue), key...)
}

// appendDue appends a time so that encoded times stand in their order, also those before 1970.
func appendDue(to []byte, due int64) []byte {
	return binary.BigEndian.AppendUint64(to, uint64(due)^1<<63) //nolint:gosec // the sign is kept
}

// entries are what the indexes have of a row.
type entries struct {
	due    []byte
	queued []byte // nil if the row stands in no queue but Looks
	format []byte // the value of due and queued
	imps   [][]byte
}

func entriesOf(row *ledger.Row, key []byte) entries {
	e := entries{
		due:    append(appendDue(nil, row.Due), key...),
		format: binary.AppendVarint(nil, int64(row.Format)),
	}
	if row.Queue != ledger.Looks {
		e.queued = queueEntry(row, key)
	}
	for _, id := range row.ImpUIDs() {
		e.imps = append(e.imps, append(impPrefix(row.Account, id), row.Order...))
	}
	return e
}

// tooLong tells whether bbolt would refuse one of the keys.
func (e entries) tooLong() bool {
	if max(len(e.due), len(e.queued)) > bbolt.MaxKeySize { // the row's key is shorter
		return true
	}
	for _, key := range e.imps {
		if len(key) > bbolt.MaxKeySize {
			return true
		}
	}
	return false
}

// encodeRow returns the value of a row: the number of the opening that wrote it, and the row.
func (s *Store) encodeRow(row *ledger.Row) ([]byte, error) {
	data, err := row.Encode()
	if err != nil {
		return nil, fmt.Errorf("writing a row of the ledger: %w", err)
	}
	return append(s.opening[:], data...), nil
}

// decodeRow reads what encodeRow wrote. A hold that another opening wrote is dead: its holder was
// a process that has ended, for only one has the file open.
func (s *Store) decodeRow(value []byte) (*ledger.Row, error) {
	if len(value) < len(s.opening) {
		return nil, fmt.Errorf("reading a row of the ledger: %w", io.ErrUnexpectedEOF)
	}
	row, err := ledger.DecodeRow(value[len(s.opening):])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(value[:len(s.opening)], s.opening[:]) {
		row.Holder, row.HeldUntil = "", 0
	}
	return row, nil
}
