package ledger

// This file holds how the rows of a store are moved to another one.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// The errors of Move that only a person can mend.
var (
	// ErrMoved means that the rows of a store were moved to another one, and are kept there since.
	ErrMoved = errors.New("the ledger was moved away")
	// ErrNewerRows means that a store has rows of a newer format. This version would lose a part of them.
	ErrNewerRows = errors.New("the ledger has rows of a newer version: move it with that version")
	// ErrSameStore means that a store was to be moved to itself, or to a copy of it.
	ErrSameStore = errors.New("a ledger cannot be moved to itself, or to a copy of it")
)

const movedPage = 500 // rows that are read at once

// Place is a store, and what an operator calls it: the path of a file, or the kind of a database. The
// other store keeps the name, so it must not be a secret such as a database's address.
type Place struct {
	Movable
	Name string
}

// Summary says what Move did.
type Summary struct {
	Rows    int  // rows of the source, which the target has now
	Written int  // those of them that it lacked, or that knew more
	Before  bool // the move was done before: nothing was left to do
}

// Move writes the rows of a store into another one, and marks the first as moved away. Until then the
// target must not be used by this process. It may have rows already, also of the same orders, and other
// nodes may use it meanwhile. Nobody may use the source: its nodes are stopped first, because
// what they write to a row that was copied stays behind.
//
// After any error, or the end of the process, Move is called again, with both stores opened anew: it
// begins at the start, and writes what the target lacks. An error with ErrMoved, ErrNewerRows or ErrSameStore
// in its chain comes again until a person has changed something. While Move runs, the stores
// must not be closed; end ctx for that.
//
// Both stores are opened so that they let pass what CheckMoved refuses: the source may be marked
// because the move was done before, and the target because its rows were moved to the source,
// and come back now. The target's mark is removed last, so of the two at most one can be used at any time.
//
// A source that is a file is opened at each start, which must not create it. If it does not exist,
// Moved says whether it was moved before; else its name is wrong. Do not ask Moved first:
// several nodes may have files of the same name. For a source that is a database, Moved
// is asked first: after the move it may be gone.
//
// The times of rows are left as they are, by the source's clock. If it was ahead, the Ledger finds that
// they are too late when it reads every row at its start. If it was behind, an attempt without an outcome may be
// given up early; what it makes is voided. Times that are changed would differ each time that Move is called.
func Move(ctx context.Context, from, to Place) (Summary, error) {
	m := &mover{from: from, to: to, marks: make(map[string]*mark)}
	if err := m.move(ctx); err != nil {
		return m.summary(), fmt.Errorf("moving the ledger from %s to %s: %w", from.Name, to.Name, err)
	}
	return m.summary(), nil
}

// mover is one call of Move.
type mover struct {
	from, to      Place
	fromID, toID  string
	marks         map[string]*mark // by account
	read, written atomic.Int64
	before        bool
	now           int64 // by the target's clock
}

// mark is what is known of the marks of an account's rows.
type mark struct {
	row    *Row // the source's
	theirs Past // the source's
	ours   Past // the target's
}

// moving is a row of an order, and the mark of its account in the target.
type moving struct {
	row  *Row
	ours Past
}

func (m *mover) summary() Summary {
	return Summary{Rows: int(m.read.Load()), Written: int(m.written.Load()), Before: m.before}
}

// move does what Move does. The order of the notes lets it go on after an end between any two of them:
// the source is marked when the target has all, the target knows the source when that one is marked, and
// its own mark goes when nothing is left to do.
func (m *mover) move(ctx context.Context) error {
	done, away, err := m.begin(ctx)
	switch {
	case err != nil:
		return err
	case done: // the end may have come before the last note
		m.before = true
		_, err := m.to.Note(ctx, noteFrom(m.from.Name), m.note(m.fromID, m.from.Name))
		return err
	}
	if err := m.copy(ctx); err != nil {
		return err
	}
	if err := m.from.SetNote(ctx, NoteMoved, m.note(m.toID, m.to.Name)); err != nil {
		return err
	}
	if err := m.to.SetNote(ctx, noteFrom(m.from.Name), m.note(m.fromID, m.from.Name)); err != nil {
		return err
	}
	if away {
		return m.to.SetNote(ctx, NoteMoved, "")
	}
	return nil
}

func (m *mover) note(id, name string) string { return note{id, time.UnixMilli(m.now), name}.String() }

// begin reads the notes. away says that the target is marked. If both are, one of two moves between them did
// not come to its end, but has copied all: nobody could use either since, and any of them may go on.
func (m *mover) begin(ctx context.Context) (done, away bool, err error) {
	m.now = nowOf(m.to.Movable)
	if m.fromID, err = m.from.Note(ctx, noteID, signedurl.NewID()); err != nil {
		return false, false, err
	}
	if m.toID, err = m.to.Note(ctx, noteID, signedurl.NewID()); err != nil {
		return false, false, err
	}
	if m.fromID == m.toID {
		return false, false, ErrSameStore
	}
	source, err := noted(ctx, m.from, NoteMoved)
	if err != nil {
		return false, false, err
	}
	target, err := noted(ctx, m.to, NoteMoved)
	switch {
	case err != nil:
		return false, false, err
	case source.id != "" && source.id != m.toID: // its rows are out of date
		return false, false, source.err()
	case target.id != "" && target.id != m.fromID: // the rows of that one would be left behind
		return false, false, target.err()
	}
	return source.id != "" && target.id == "", target.id != "", nil
}

// nowOf returns the time by a store's clock, or this machine's.
func nowOf(s Store) int64 {
	if c, ok := s.(Clock); ok {
		return c.Now()
	}
	return time.Now().UnixMilli()
}

// copy writes all rows of the source. The marks of accounts are written before the rows: who tells the shop
// must know what is history. How far the API's lists were read is written behind them: until then the
// target's nodes pass over the payments of rows that are not there yet.
func (m *mover) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	rows := make(chan moving)
	var working sync.WaitGroup
	for range writtenAtOnce(m.to.Movable) {
		working.Go(func() {
			for r := range rows {
				if err := m.write(ctx, r); err != nil {
					cancel(ofOrder(r.row, err))
				}
			}
		})
	}
	err := m.list(ctx, rows)
	close(rows)
	working.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for _, k := range m.marks {
		if err == nil {
			_, err = m.update(ctx, k.row, func(stored *Row) *Row { return rewind(stored, k.row.Mark) })
		}
	}
	return err
}

// list reads all rows of the source, and passes on those of orders. An account's mark stands before its orders.
func (m *mover) list(ctx context.Context, rows chan<- moving) error {
	for after := (Key{}); ; {
		page, err := m.from.List(ctx, after, movedPage)
		if err != nil {
			return err
		}
		for _, row := range page {
			after = row.Key()
			if row.Format > Format {
				return ofOrder(row, ErrNewerRows)
			}
			if row.Mark != nil {
				if err := m.mark(ctx, row); err != nil {
					return err
				}
				continue
			}
			select {
			case rows <- m.about(row):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if len(page) < movedPage {
			return nil
		}
	}
}

// ofOrder says which row an error is of.
func ofOrder(row *Row, err error) error {
	return fmt.Errorf("the order %s: %w", strconv.Quote(row.Order), err)
}

// mark writes an account's mark, if the target has none. If it has another one, that stays: the nodes that
// use it do not read it again, and it says what of their own orders is history.
func (m *mover) mark(ctx context.Context, row *Row) error {
	k := &mark{row: row, theirs: row.Mark.past(), ours: row.Mark.past()}
	m.marks[row.Account] = k
	_, err := m.update(ctx, row, func(stored *Row) *Row {
		if stored.Mark != nil {
			k.ours = stored.Mark.past()
		}
		return stored
	})
	return err
}

// about has a row say itself what of it is history, if the target's mark would say otherwise.
func (m *mover) about(row *Row) moving {
	k := m.marks[row.Account]
	if k == nil {
		return moving{row: row}
	}
	if row.Past == (Past{}) && k.theirs != k.ours {
		row.Past = k.theirs
	}
	return moving{row, k.ours}
}

// rewind has the target's nodes read the API's lists again from where the source has read them, and for as long
// before as they may lag: they passed over what was not in their rows.
func rewind(stored *Row, source *Mark) *Row {
	if stored.Mark == nil {
		return stored
	}
	stored = stored.Clone()
	back := func(at *int64, read int64) {
		from := max(read-int64(sweepOverlap/time.Second), source.Born)
		if *at > read || stored.Mark.Born > from {
			*at = min(*at, from)
		}
	}
	back(&stored.Mark.Paid, source.Paid)
	back(&stored.Mark.Cancelled, source.Cancelled)
	return stored
}

// write writes a row of an order.
func (m *mover) write(ctx context.Context, r moving) error {
	written, err := m.update(ctx, r.row, func(stored *Row) *Row { return unite(stored, r.row, r.ours, m.now) })
	if err != nil {
		return err
	}
	m.read.Add(1)
	if written {
		m.written.Add(1)
	}
	return nil
}

// update writes a row that the target lacks. Otherwise it writes what change makes of the target's, if that is
// another one, with a version that neither had. It reports whether it wrote.
func (m *mover) update(ctx context.Context, row *Row, change func(stored *Row) *Row) (written bool, err error) {
	for {
		if err := m.to.Put(ctx, row, 0, false); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
		stored, err := m.to.Get(ctx, row.Key())
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return false, err
		case stored.Format > Format:
			return false, ErrNewerRows
		}
		changed := change(stored)
		if isSame(stored, changed) {
			return false, nil
		}
		changed.Version = max(stored.Version, row.Version) + 1
		if err = m.to.Put(ctx, changed, stored.Version, false); !errors.Is(err, ErrConflict) {
			return err == nil, err
		}
	}
}
