package storetest

// This file holds the tests of notes.

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// RunMovable tests what a Movable does besides. open is as for Run.
func RunMovable(t *testing.T, open func(t *testing.T) ledger.Movable) {
	for name, test := range map[string]func(h *harness, note noter){
		"a note stays as it was first":               testNote,
		"a note can be changed and removed":          testSetNote,
		"one of many first values of a note is kept": testNoteRace,
		"notes are there after opening again":        testNotesReopen,
		"notes end with the store":                   testNotesEnd,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &harness{T: t, open: func(t *testing.T) ledger.Store { return open(t) }}
			h.reopen()
			t.Cleanup(func() { assert.NoError(t, h.Close()) })
			test(h, func() ledger.Movable { return h.Store.(ledger.Movable) })
		})
	}
}

// noter returns the test's store, as it was opened last.
type noter func() ledger.Movable

// is asserts the value of a note.
func (n noter) is(h *harness, name, value string) {
	h.Helper()
	got, err := n().Note(h.Context(), name, "")
	require.NoError(h, err)
	assert.Equal(h, value, got, name)
}

func testNote(h *harness, note noter) {
	note.is(h, "id", "")
	for range 2 {
		got, err := note().Note(h.Context(), "id", "first")
		require.NoError(h, err)
		assert.Equal(h, "first", got)
	}
	got, err := note().Note(h.Context(), "id", "second")
	require.NoError(h, err)
	assert.Equal(h, "first", got)
	note.is(h, "id", "first")
	note.is(h, "ID", "")
	note.is(h, "id ", "")
	assert.Empty(h, h.list(), "a note is no row")
}

func testSetNote(h *harness, note noter) {
	long := strings.Repeat("글", 170) // 510 bytes
	name := strings.Repeat("n", 64)
	for _, value := range []string{"a", "b c ", long, "'\\\"%_", ""} {
		for range 2 { // a value that is there already is no error
			require.NoError(h, note().SetNote(h.Context(), name, value))
			note.is(h, name, value)
		}
	}
	got, err := note().Note(h.Context(), name, "anew")
	require.NoError(h, err)
	assert.Equal(h, "anew", got)
}

func testNoteRace(h *harness, note noter) {
	values := make([]string, 8)
	each(len(values), func(i int) {
		var err error
		values[i], err = note().Note(h.Context(), "id", fmt.Sprint("writer ", i))
		assert.NoError(h, err)
	})
	for _, value := range values {
		note.is(h, "id", value)
	}
}

func testNotesReopen(h *harness, note noter) {
	_, err := note().Note(h.Context(), "id", "kept")
	require.NoError(h, err)
	require.NoError(h, note().SetNote(h.Context(), "set", "kept"))
	require.NoError(h, note().SetNote(h.Context(), "gone", "x"))
	require.NoError(h, note().SetNote(h.Context(), "gone", ""))
	require.NoError(h, h.Close())
	h.reopen()
	note.is(h, "id", "kept")
	note.is(h, "set", "kept")
	note.is(h, "gone", "")
	notes, err := note().Notes(h.Context())
	require.NoError(h, err)
	assert.Equal(h, map[string]string{"id": "kept", "set": "kept"}, notes)
}

func testNotesEnd(h *harness, note noter) {
	use := func(ctx context.Context) map[string]error {
		_, read := note().Note(ctx, "id", "")
		_, first := note().Note(ctx, "id", "first")
		_, all := note().Notes(ctx)
		return map[string]error{"Note": read, "Note with a value": first, "SetNote": note().SetNote(ctx, "id", "set"), "Notes": all}
	}
	ctx, cancel := context.WithCancel(h.Context())
	cancel()
	for call, err := range use(ctx) {
		assert.ErrorIs(h, err, context.Canceled, call)
	}
	note.is(h, "id", "")
	require.NoError(h, h.Close())
	for call, err := range use(h.Context()) {
		assertFailure(h.T, err, call)
	}
	h.reopen()
	note.is(h, "id", "")
}
