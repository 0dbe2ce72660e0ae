package ledger

// This file holds what a store keeps of having been moved.

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// NoteMoved is the note that says where the rows are, if they were moved away.
const NoteMoved = "moved"

const (
	noteID  = "id" // a random name of the store
	maxName = 200  // bytes of a name that a note keeps
)

// Moved reports whether a source of this name was moved into a store, and the store was not moved away
// since. Two databases of the same name are not told apart.
func Moved(ctx context.Context, to Movable, name string) (bool, error) {
	away, err := to.Note(ctx, NoteMoved, "")
	if err != nil || away != "" {
		return false, err
	}
	known, err := to.Note(ctx, noteFrom(name), "")
	return known != "", err
}

// CheckMoved returns an error with ErrMoved in its chain if the rows of a store were moved away. Whatever
// opens a store calls it, so that no node goes on with rows that are out of date, except for Move.
func CheckMoved(ctx context.Context, s Movable) error {
	away, err := noted(ctx, s, NoteMoved)
	return cmp.Or(err, away.err())
}

// note is the value of a note about another store.
type note struct {
	id   string // of that store, "" if there is no note
	at   time.Time
	name string
}

func noted(ctx context.Context, s Movable, name string) (note, error) {
	value, err := s.Note(ctx, name, "")
	if err != nil {
		return note{}, err
	}
	id, rest, _ := strings.Cut(value, " ")
	at, called, _ := strings.Cut(rest, " ")
	milli, _ := strconv.ParseInt(at, 10, 64)
	return note{id, time.UnixMilli(milli), called}, nil
}

func (n note) String() string {
	name := strings.ToValidUTF8(strings.ReplaceAll(n.name, "\x00", ""), "")
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	return fmt.Sprintf("%s %d %s", n.id, n.at.UnixMilli(), name)
}

// err is why a store that has the note of its rows cannot be used.
func (n note) err() error {
	if n.id == "" {
		return nil
	}
	return fmt.Errorf("%w: to %s on %s. To go back, name that one behind `from`", ErrMoved, n.name, n.at.UTC().Format("2006-01-02 15:04 UTC"))
}

// noteFrom is the name of the note that a source of this name was moved here.
func noteFrom(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("from %x", sum[:8])
}
