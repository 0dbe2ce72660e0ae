package ledger_test

// This file holds tests of moving rows from one store to another.

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/storetest"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// shelf is a store that is opened again and again.
type shelf struct {
	name string
	open func(t testing.TB) ledger.Movable
}

func file(t testing.TB, name string) shelf {
	path := filepath.Join(t.TempDir(), name)
	return shelf{path, func(t testing.TB) ledger.Movable {
		s, err := boltstore.Open(path, boltstore.Options{NoSync: true, Moved: true})
		require.NoError(t, err)
		return s
	}}
}

func memory(name string) shelf {
	m := storetest.NewMemory()
	return shelf{name, func(testing.TB) ledger.Movable {
		m = m.Reopen()
		return m
	}}
}

// use opens the store, and closes it.
func (s shelf) use(t testing.TB, do func(m ledger.Movable)) {
	t.Helper()
	m := s.open(t)
	do(m)
	require.NoError(t, m.Close())
}

// put writes rows, in place of those that are there.
func (s shelf) put(t testing.TB, rows ...*ledger.Row) {
	t.Helper()
	s.use(t, func(m ledger.Movable) {
		for _, row := range rows {
			old, err := m.Get(t.Context(), row.Key())
			if errors.Is(err, ledger.ErrNotFound) {
				old, err = new(ledger.Row), nil
			}
			require.NoError(t, err)
			require.NoError(t, m.Put(t.Context(), row, old.Version, false))
		}
	})
}

func (s shelf) rows(t testing.TB) map[ledger.Key]*ledger.Row {
	t.Helper()
	all := make(map[ledger.Key]*ledger.Row)
	s.use(t, func(m ledger.Movable) {
		rows, err := m.List(t.Context(), ledger.Key{}, 1000)
		require.NoError(t, err)
		for _, row := range rows {
			all[row.Key()] = row
		}
	})
	return all
}

func (s shelf) isMoved(t testing.TB) (moved bool) {
	t.Helper()
	s.use(t, func(m ledger.Movable) {
		err := ledger.CheckMoved(t.Context(), m)
		if moved = errors.Is(err, ledger.ErrMoved); !moved {
			require.NoError(t, err)
		}
	})
	return moved
}

func (s shelf) knows(t testing.TB, name string) (known bool) {
	t.Helper()
	s.use(t, func(m ledger.Movable) {
		var err error
		known, err = ledger.Moved(t.Context(), m, name)
		require.NoError(t, err)
	})
	return known
}

// move moves once. wrap may change the stores.
func move(t testing.TB, from, to shelf, wrap func(ledger.Movable) ledger.Movable) (ledger.Summary, error) {
	t.Helper()
	if wrap == nil {
		wrap = func(m ledger.Movable) ledger.Movable { return m }
	}
	source, target := from.open(t), to.open(t)
	defer func() { assert.NoError(t, errors.Join(source.Close(), target.Close())) }()
	return ledger.Move(t.Context(), ledger.Place{Movable: wrap(source), Name: from.name}, ledger.Place{Movable: wrap(target), Name: to.name})
}

func mustMove(t testing.TB, from, to shelf) ledger.Summary {
	t.Helper()
	done, err := move(t, from, to, nil)
	require.NoError(t, err)
	return done
}

// kill ends everything at one operation, before it is done or after.
type kill struct {
	left  atomic.Int64
	after bool
}

var errKilled = errors.New("killed")

// killed is a store that is killed.
type killed struct {
	ledger.Movable
	k *kill
}

func (s killed) do(do func() error) error {
	left := s.k.left.Add(-1)
	if left < 0 || left == 0 && !s.k.after {
		return errKilled
	}
	if err := do(); left > 0 {
		return err
	}
	return errKilled
}

func (s killed) Get(ctx context.Context, key ledger.Key) (row *ledger.Row, err error) {
	return row, s.do(func() error { row, err = s.Movable.Get(ctx, key); return err })
}

func (s killed) Put(ctx context.Context, row *ledger.Row, was uint64, lazy bool) error {
	return s.do(func() error { return s.Movable.Put(ctx, row, was, lazy) })
}

func (s killed) List(ctx context.Context, after ledger.Key, limit int) (rows []*ledger.Row, err error) {
	err = s.do(func() (err error) { rows, err = s.Movable.List(ctx, after, limit); return err })
	return rows, err
}

func (s killed) Note(ctx context.Context, name, initial string) (value string, err error) {
	err = s.do(func() (err error) { value, err = s.Movable.Note(ctx, name, initial); return err })
	return value, err
}

func (s killed) SetNote(ctx context.Context, name, value string) error {
	return s.do(func() error { return s.Movable.SetNote(ctx, name, value) })
}

// attempt returns an attempt, asked for at a time.
func attempt(id int, state ledger.State, impUID string) ledger.Attempt {
	return ledger.Attempt{ID: fmt.Sprint("id", id), State: state, ImpUID: impUID, Amount: "15000", Asked: int64(1000 + id), Since: int64(1000 + id)}
}

func row(order string, version uint64, attempts ...ledger.Attempt) *ledger.Row {
	return &ledger.Row{Format: ledger.Format, Account: "shop", Order: order, Version: version, Due: 5000, Attempts: attempts}
}

func told(a ledger.Attempt, done int64) ledger.Attempt {
	a.Happenings = []ledger.Happening{{Event: tell.Paid, Seen: 2000, Done: done}}
	return a
}

func marked(version uint64, m ledger.Mark) *ledger.Row {
	return &ledger.Row{Format: ledger.Format, Account: "shop", Order: "\x00", Version: version, Due: 1, Attempts: []ledger.Attempt{}, Mark: &m}
}

// full has rows of every kind.
func full() []*ledger.Row {
	hinted := row("hinted", 4, attempt(1, ledger.Issued, "imp_4"))
	hinted.Hints = []ledger.Hint{{ImpUID: "imp_4", Status: "paid", Amount: "15000", At: 7, Next: 8}}
	return []*ledger.Row{
		marked(9, ledger.Mark{Since: 500_000, Born: 400, Paid: 1_000_000, Cancelled: 900_000}),
		row("asked", 2, attempt(1, ledger.Asked, "")),
		row("issued", 3, attempt(1, ledger.Void, "imp_1"), attempt(2, ledger.Issued, "imp_2")),
		row("told", 7, told(attempt(1, ledger.Paid, "imp_3"), 3000)),
		hinted,
	}
}

// earlier is what a target has of before, or of other nodes.
func earlier() []*ledger.Row {
	return []*ledger.Row{
		marked(20, ledger.Mark{Since: 600_000, Born: 500, Paid: 2_000_000, Cancelled: 2_000_000}),
		row("issued", 9, attempt(2, ledger.Paid, "imp_2"), attempt(3, ledger.Issued, "imp_9")),
		row("told", 2, told(attempt(1, ledger.Paid, "imp_3"), 0)),
		row("theirs", 2, attempt(1, ledger.Issued, "imp_8")),
	}
}

var ranks = map[ledger.State]int{ledger.Asked: 0, ledger.Issued: 1, ledger.Expired: 2, ledger.Failed: 3, ledger.Void: 4, ledger.Paid: 5, ledger.Refunded: 6}

// assertHas asserts that a store has all that rows have.
func assertHas(t testing.TB, s shelf, rows ...*ledger.Row) {
	t.Helper()
	all := s.rows(t)
	for _, want := range rows {
		got := all[want.Key()]
		if !assert.NotNil(t, got, want.Order) {
			continue
		}
		assert.GreaterOrEqual(t, got.Version, want.Version, want.Order)
		for _, a := range want.Attempts {
			found := false
			for _, b := range got.Attempts {
				if b.ID != a.ID {
					continue
				}
				found = true
				assert.True(t, a.ImpUID == "" || a.ImpUID == b.ImpUID)
				assert.GreaterOrEqual(t, ranks[b.State], ranks[a.State])
				for i, h := range a.Happenings {
					assert.True(t, b.Happenings[i].Done != 0 || h.Done == 0, "what was told stays told")
				}
			}
			assert.True(t, found, "%s: %s", want.Order, a.ID)
		}
		assert.GreaterOrEqual(t, len(got.Hints), len(want.Hints))
	}
}

func TestMoveInto(t *testing.T) {
	t.Parallel()
	from, to := file(t, "cvs.db"), memory("postgres")
	from.put(t, full()...)
	assert.Equal(t, ledger.Summary{Rows: 4, Written: 4}, mustMove(t, from, to))
	rows := to.rows(t)
	for _, want := range full() {
		assert.Equal(t, want, rows[want.Key()], "it is as it was, to its version")
	}
	assert.True(t, from.isMoved(t))
	assert.False(t, to.isMoved(t))
	assert.True(t, to.knows(t, from.name))
	assert.False(t, to.knows(t, "another"))
	assert.Equal(t, ledger.Summary{Before: true}, mustMove(t, from, to))
}

// Wherever a move ends, the next one completes it. The store whose rows are out of date is never one that can be
// used beside the other.
func TestMoveAfterAnEndAtEachOperation(t *testing.T) {
	t.Parallel()
	for name, pair := range map[string]func(t testing.TB) (from, to shelf){
		"file to memory": func(t testing.TB) (from, to shelf) { return file(t, "cvs.db"), memory("postgres") },
		"memory to file": func(t testing.TB) (from, to shelf) { return memory("mysql"), file(t, "cvs.db") },
	} {
		for _, target := range []string{"empty", "used", "moved away"} {
			t.Run(name+", "+target, func(t *testing.T) {
				t.Parallel()
				for n, ended := 1, 0; ended < 2; n++ {
					from, to := pair(t)
					source := full()
					switch target {
					case "empty":
						from.put(t, source...)
					case "used":
						from.put(t, source...)
						to.put(t, earlier()...)
					default:
						to.put(t, source...)
						mustMove(t, to, from)
						source = append(source, row("since", 2, attempt(1, ledger.Issued, "imp_5")), row("asked", 8, attempt(1, ledger.Issued, "imp_6")))
						from.put(t, source[len(source)-2:]...)
					}
					k := &kill{after: n%2 == 0}
					k.left.Store(int64((n + 1) / 2))
					_, err := move(t, from, to, func(m ledger.Movable) ledger.Movable { return killed{m, k} })
					if err == nil {
						ended++
					} else {
						require.ErrorIs(t, err, errKilled)
					}
					assert.True(t, target != "moved away" || from.isMoved(t) || to.isMoved(t), "at most one can be used")
					assert.True(t, err == nil || target == "moved away" || !to.knows(t, from.name) || from.isMoved(t), "what is not marked is not believed to be moved")
					mustMove(t, from, to)
					assertHas(t, to, source...)
					assert.True(t, from.isMoved(t))
					assert.False(t, to.isMoved(t))
					assert.True(t, to.knows(t, from.name))
					assert.True(t, mustMove(t, from, to).Before)
				}
			})
		}
	}
}

// After an end the file may have been used again, because somebody went back.
func TestMoveAfterGoingBack(t *testing.T) {
	t.Parallel()
	from, to := file(t, "cvs.db"), memory("postgres")
	from.put(t, full()...)
	k := new(kill)
	k.left.Store(11)
	_, err := move(t, from, to, func(m ledger.Movable) ledger.Movable { return killed{m, k} })
	require.ErrorIs(t, err, errKilled)
	require.False(t, from.isMoved(t))
	since := []*ledger.Row{row("asked", 3, attempt(1, ledger.Issued, "imp_6")), row("new", 1, attempt(1, ledger.Asked, ""))}
	from.put(t, since...)
	mustMove(t, from, to)
	assertHas(t, to, append(full()[2:], since...)...)
}

func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	a, b := file(t, "cvs.db"), memory("postgres")
	a.put(t, full()...)
	mustMove(t, a, b)
	changed := []*ledger.Row{
		row("asked", 5, attempt(1, ledger.Issued, "imp_6")), row("told", 12, told(attempt(1, ledger.Refunded, "imp_3"), 3000)), row("new", 1, attempt(1, ledger.Asked, "")),
	}
	b.put(t, changed...)
	assert.Equal(t, 3, mustMove(t, b, a).Written, "the others have not changed")
	assert.False(t, a.isMoved(t))
	assert.True(t, b.isMoved(t))
	assertHas(t, a, append(full()[2:], changed...)...)
	more := row("more", 1, attempt(1, ledger.Asked, ""))
	a.put(t, more)
	assert.False(t, b.knows(t, a.name), "only what was moved before was moved")
	assert.Equal(t, 3, mustMove(t, a, b).Written, "and those that were united")
	assertHas(t, b, more)
	assert.True(t, a.isMoved(t))
	assert.False(t, b.isMoved(t))
}

// Nodes that use the target change it while rows come in.
func TestMoveBesideOtherWriters(t *testing.T) {
	t.Parallel()
	const orders = 200
	from, to := file(t, "cvs.db"), file(t, "other.db")
	var source []*ledger.Row
	for i := range orders {
		source = append(source, row(fmt.Sprintf("o-%03d", i), 5, attempt(1, ledger.Issued, fmt.Sprint("imp_", i))))
	}
	from.put(t, source...)
	s, target := from.open(t), to.open(t)
	write := func(i, id int) {
		key := source[i].Key()
		for {
			r, err := target.Get(t.Context(), key)
			if errors.Is(err, ledger.ErrNotFound) {
				r, err = row(key.Order, 0), nil
			}
			assert.NoError(t, err)
			was := r.Version
			r.Attempts, r.Version = append(r.Attempts, attempt(id, ledger.Asked, "")), was+1
			if err := target.Put(t.Context(), r, was, false); !errors.Is(err, ledger.ErrConflict) {
				assert.NoError(t, err)
				return
			}
		}
	}
	var all sync.WaitGroup
	for id := 2; id < 6; id++ {
		all.Go(func() {
			for i := range orders {
				write(i, id)
			}
		})
	}
	_, err := ledger.Move(t.Context(), ledger.Place{Movable: s, Name: from.name}, ledger.Place{Movable: target, Name: to.name})
	require.NoError(t, err)
	all.Wait()
	require.NoError(t, errors.Join(s.Close(), target.Close()))
	assertHas(t, to, source...)
	for _, r := range to.rows(t) {
		assert.Len(t, r.Attempts, 5)
	}
}

// The row of the target's may have been removed when it is read.
func TestMoveOfARowThatIsRemoved(t *testing.T) {
	t.Parallel()
	from, to := memory("a"), memory("b")
	from.put(t, row("o", 1, attempt(1, ledger.Asked, "")))
	refused := new(atomic.Bool)
	_, err := move(t, from, to, func(m ledger.Movable) ledger.Movable { return removed{m, refused} })
	require.NoError(t, err)
	assert.Len(t, to.rows(t), 1)
}

// removed is a store whose row is removed after the first write was refused.
type removed struct {
	ledger.Movable
	refused *atomic.Bool
}

func (s removed) Put(ctx context.Context, row *ledger.Row, was uint64, lazy bool) error {
	if !s.refused.Swap(true) {
		return ledger.ErrConflict
	}
	return s.Movable.Put(ctx, row, was, lazy)
}

// Nodes with files of the same name and a database: each file is moved once, and a node without one may start.
func TestMoveSeveralIntoOne(t *testing.T) {
	t.Parallel()
	to := memory("postgres")
	for i := range 2 {
		from := file(t, "cvs.db")
		from.name = "/var/lib/shop/cvs.db"
		from.put(t, row(fmt.Sprint("o", i), 1, attempt(i, ledger.Asked, "")))
		assert.Equal(t, i > 0, to.knows(t, from.name))
		assert.Equal(t, 1, mustMove(t, from, to).Written)
	}
	assert.True(t, to.knows(t, "/var/lib/shop/cvs.db"))
	assert.Len(t, to.rows(t), 2)
}

// The target's mark stays, and its lists are read again from where the source's were. The rows that come say
// themselves what is history of them.
func TestMoveMarks(t *testing.T) {
	t.Parallel()
	theirs := ledger.Mark{Since: 600_000, Born: 1_500_000, Paid: 2_000_000, Cancelled: 890_000}
	from, to := memory("a"), memory("b")
	from.put(t, full()...)
	to.put(t, marked(20, theirs), row("told", 9, told(attempt(1, ledger.Paid, "imp_3"), 3000)))
	mustMove(t, from, to)
	rows := to.rows(t)
	got := rows[ledger.Key{Account: "shop", Order: "\x00"}]
	assert.Equal(t, ledger.Mark{Since: 600_000, Born: 1_500_000, Paid: 1_000_000 - 86_400, Cancelled: 900_000 - 86_400}, *got.Mark, "less a day, although not before the birth")
	assert.EqualValues(t, 21, got.Version)
	past := ledger.Past{Since: 500_000, Born: 400}
	assert.Equal(t, past, rows[ledger.Key{Account: "shop", Order: "issued"}].Past)
	assert.Equal(t, past, rows[ledger.Key{Account: "shop", Order: "told"}].Past, "in both")

	back := memory("c")
	back.put(t, marked(3, ledger.Mark{Since: 1, Born: 2, Paid: 3, Cancelled: 4}))
	mustMove(t, to, back)
	rows = back.rows(t)
	assert.Equal(t, past, rows[ledger.Key{Account: "shop", Order: "issued"}].Past, "it stays")
	assert.Equal(t, ledger.Mark{Since: 1, Born: 2, Paid: 3, Cancelled: 4}, *rows[ledger.Key{Account: "shop", Order: "\x00"}].Mark, "its lists were read less far")
}

// A row of the list comes behind the mark, so how far the lists were read is written last.
func TestMoveReadsTheListsAgainAtTheEnd(t *testing.T) {
	t.Parallel()
	from, to := memory("a"), memory("b")
	from.put(t, full()...)
	key := ledger.Key{Account: "shop", Order: "\x00"}
	_, err := move(t, from, to, func(m ledger.Movable) ledger.Movable { return swept{m, key} })
	require.NoError(t, err)
	assert.EqualValues(t, 1_000_000-86_400, to.rows(t)[key].Mark.Paid)
}

// swept is a store whose lists another node reads to their end when the first order is written.
type swept struct {
	ledger.Movable
	key ledger.Key
}

func (s swept) Put(ctx context.Context, row *ledger.Row, was uint64, lazy bool) error {
	if row.Order == "asked" {
		if mark, err := s.Get(ctx, s.key); err == nil {
			mark.Version++
			mark.Mark.Paid = 5_000_000
			if err := s.Movable.Put(ctx, mark, mark.Version-1, lazy); err != nil {
				return err
			}
		}
	}
	return s.Movable.Put(ctx, row, was, lazy)
}

// A hold of a database may be alive; one in a file is dead.
func TestMoveHolds(t *testing.T) {
	t.Parallel()
	held := row("held", 2, attempt(1, ledger.Asked, ""))
	held.Holder, held.HeldUntil = "node", time.Now().Add(time.Minute).UnixMilli()
	a, b, c := memory("postgres"), file(t, "cvs.db"), memory("mysql")
	a.put(t, held)
	source, target := a.open(t), b.open(t)
	_, err := ledger.Move(t.Context(), ledger.Place{Movable: source, Name: a.name}, ledger.Place{Movable: target, Name: b.name})
	require.NoError(t, err)
	got, err := target.Get(t.Context(), held.Key())
	require.NoError(t, err)
	assert.Equal(t, held, got)
	require.NoError(t, errors.Join(source.Close(), target.Close()))
	mustMove(t, b, c)
	assert.Empty(t, c.rows(t)[held.Key()].Holder)
}

func TestMoveStopsAtRowsOfANewerFormat(t *testing.T) {
	t.Parallel()
	newer := row("newer", 2, attempt(1, "settled", "imp_1"))
	newer.Format++
	for _, there := range []bool{true, false} {
		from, to := file(t, "cvs.db"), memory("postgres")
		from.put(t, row("a", 1, attempt(1, ledger.Asked, "")))
		if there {
			from.put(t, newer)
		} else {
			from.put(t, row("newer", 5, attempt(1, ledger.Asked, "")))
			to.put(t, newer)
		}
		_, err := move(t, from, to, nil)
		assert.ErrorIs(t, err, ledger.ErrNewerRows)
		assert.ErrorContains(t, err, `the order "newer"`)
		assert.False(t, from.isMoved(t))
		assert.False(t, to.knows(t, from.name))
	}
}

func TestMoveRefuses(t *testing.T) {
	t.Parallel()
	a, b, c := memory("a"), memory("b"), memory("c")
	mustMove(t, a, b)
	_, err := move(t, a, c, nil)
	assert.ErrorIs(t, err, ledger.ErrMoved, "its rows are out of date")
	assert.ErrorContains(t, err, "to b on "+time.Now().UTC().Format("2006-"))
	_, err = move(t, c, a, nil)
	assert.ErrorIs(t, err, ledger.ErrMoved, "its rows are in b")
	_, err = move(t, b, b, nil)
	assert.ErrorIs(t, err, ledger.ErrSameStore)
}

func TestMoveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	from, to := memory("a"), memory("b")
	from.put(t, full()...)
	ctx, cancel := context.WithCancel(t.Context())
	stop := stopping{to.open(t), cancel}
	_, err := ledger.Move(ctx, ledger.Place{Movable: from.open(t), Name: "a"}, ledger.Place{Movable: stop, Name: "b"})
	assert.ErrorIs(t, err, context.Canceled)
	assert.False(t, from.isMoved(t))
}

// stopping ends a context when an order is written.
type stopping struct {
	ledger.Movable
	cancel func()
}

func (s stopping) Put(ctx context.Context, row *ledger.Row, was uint64, lazy bool) error {
	if row.Mark == nil {
		s.cancel()
	}
	return s.Movable.Put(ctx, row, was, lazy)
}

// A name may be as long as a path, and in any encoding; a note may not.
func TestMoveLongNames(t *testing.T) {
	t.Parallel()
	long := "/" + string(make([]byte, 3)) + "\xff"
	for range 300 {
		long += "글"
	}
	from, to := memory(long), file(t, "cvs.db")
	mustMove(t, from, to)
	assert.True(t, to.knows(t, long))
	assert.False(t, to.knows(t, long+"x"))
	_, err := move(t, to, from, nil)
	require.NoError(t, err)
	to.use(t, func(m ledger.Movable) {
		value, err := m.Note(t.Context(), ledger.NoteMoved, "")
		require.NoError(t, err)
		assert.Less(t, len(value), 512)
		assert.NotContains(t, value, "\x00")
		assert.True(t, utf8.ValidString(value))
	})
}

// A clock that the nodes share dates the move.
func TestMoveByTheTargetsClock(t *testing.T) {
	t.Parallel()
	from, to := memory("a"), memory("b")
	_, err := ledger.Move(t.Context(), ledger.Place{Movable: from.open(t), Name: "a"}, ledger.Place{Movable: clocked{to.open(t)}, Name: "b"})
	require.NoError(t, err)
	from.use(t, func(m ledger.Movable) {
		assert.ErrorContains(t, ledger.CheckMoved(t.Context(), m), "on 2033-05-18 03:33 UTC")
	})
}

type clocked struct{ ledger.Movable }

func (clocked) Now() int64 { return 2_000_000_000_000 }
