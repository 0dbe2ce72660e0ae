package ledger

// This file holds tests of how two copies of a row become one.

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// randomRow changes a row, or makes one, as a ledger might.
func randomRow(rng *rand.Rand, r *Row) *Row {
	if r == nil {
		r = &Row{Format: Format, Account: "shop", Order: "o", Version: uint64(1000 + rng.IntN(3))}
	}
	r = r.Clone()
	for range rng.IntN(6) {
		r.Version++
		r.Due = noon + rng.Int64N(1000) - 500
		r.grow(rng)
	}
	r.place(&env{now: noon})
	return r
}

func (r *Row) grow(rng *rand.Rand) {
	if len(r.Attempts) == 0 || rng.IntN(3) == 0 {
		a := Attempt{ID: fmt.Sprint("id", rng.IntN(6)), State: Asked, Amount: "1000", Asked: noon - rng.Int64N(10), Next: noon}
		if r.find(&a) < 0 {
			r.Attempts = append(r.Attempts, a)
		}
		return
	}
	a := &r.Attempts[rng.IntN(len(r.Attempts))]
	id := fmt.Sprint("imp_", rng.IntN(6))
	switch rng.IntN(8) {
	case 0:
		if a.ImpUID == "" && r.find(&Attempt{ImpUID: id}) < 0 {
			a.ImpUID, a.State, a.Next = id, Issued, noon+10
		}
	case 1, 2:
		states := []State{Issued, Expired, Failed, Void, Paid, Refunded}
		if to := states[rng.IntN(len(states))]; a.ImpUID != "" && to.rank() > a.State.rank() {
			a.State, a.Since, a.Verified, a.Voiding = to, noon, rng.Int64N(3), false
		}
	case 3:
		a.Voiding = a.open()
	case 4:
		a.Closed = a.Closed || a.State == Asked || a.State == Expired
		a.Voiding = a.Voiding && a.open()
	case 5:
		if h := (Happening{Event: tell.Paid, Seen: noon}); a.State.paid() && !a.has(h.Event, "") {
			a.Happenings = append(a.Happenings, h)
		}
	case 6:
		if len(a.Happenings) > 0 {
			a.Happenings[0].Done = noon
		}
	default:
		h := Hint{ImpUID: id, Status: []string{"", "paid"}[rng.IntN(2)], Next: noon}
		r.addHint(&h)
	}
}

// assertHas asserts that a row has all that another copy has.
func assertHas(t *testing.T, r, other *Row) {
	t.Helper()
	for i := range other.Attempts {
		a := &other.Attempts[i]
		n := r.find(&Attempt{ImpUID: a.ImpUID})
		if a.ImpUID == "" {
			n = r.find(&Attempt{ID: a.ID})
		}
		require.GreaterOrEqual(t, n, 0, "the attempt %v", a)
		mine := &r.Attempts[n]
		assert.GreaterOrEqual(t, mine.State.rank(), a.State.rank())
		assert.True(t, mine.Voiding || !a.Voiding || !mine.open(), "it is still to be voided")
		for _, h := range a.Happenings {
			if has := mine.happening(h.Event, h.Cancellation); assert.NotNil(t, has) {
				assert.True(t, has.Done != 0 || h.Done == 0, "what was told stays told")
			}
		}
	}
	for _, h := range other.Hints {
		assert.True(t, r.hasHint(h.ImpUID, h.Status))
	}
}

func (r *Row) hasHint(impUID, status string) bool {
	for _, h := range r.Hints {
		if h.ImpUID == impUID && h.Status == status {
			return true
		}
	}
	return false
}

// Of any two copies nothing is lost, and either is nothing new afterwards.
func TestUniteLosesNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20_000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var common *Row
		if seed%3 != 0 {
			common = randomRow(rng, nil)
		}
		stored, row := randomRow(rng, common), randomRow(rng, common)
		u := unite(stored, row, Past{}, noon)
		assertHas(t, u, stored)
		assertHas(t, u, row)
		ids := make(map[string]bool)
		for i := range u.Attempts {
			a := &u.Attempts[i]
			assert.False(t, ids[a.ID] && a.ID != "" || ids[a.ImpUID] && a.ImpUID != "", "each once")
			ids[a.ID], ids[a.ImpUID] = true, true
		}
		if !isSame(u, stored) {
			assert.Equal(t, u.pending(), u.Queue != "")
			assert.LessOrEqual(t, u.Due, min(stored.Due, row.Due))
			u.Version = max(stored.Version, row.Version) + 1
		}
		assert.True(t, isSame(u, unite(u, row, Past{}, noon)), "the source once more")
		assert.True(t, isSame(u, unite(u, stored, Past{}, noon)), "an older copy")
		if t.Failed() {
			t.Fatalf("seed %d:\nstored %+v\nrow %+v\nunited %+v", seed, stored, row, u)
		}
	}
}

// united returns what becomes of a stored row, and of a copy that is newer.
func united(stored, row Row) *Row {
	for _, r := range []*Row{&stored, &row} {
		r.Format, r.Order = Format, "o"
		for i := range r.Attempts {
			r.Attempts[i].ID = fmt.Sprint("id", i)
		}
		r.place(&env{now: noon})
	}
	stored.Version, row.Version = 5, 7
	return unite(&stored, &row, Past{Since: 20, Born: 10}, noon)
}

func TestUniteKeepsWhatTheNewerOnePlans(t *testing.T) {
	t.Parallel()
	old := Attempt{State: Issued, ImpUID: "imp_1", Next: 1, Since: 1, Looks: 9, Verified: 3, Status: client.StatusReady}
	u := united(Row{Tries: 3, AtTill: 9, Attempts: []Attempt{old}}, Row{AtTill: 4, Attempts: []Attempt{{State: Issued, ImpUID: "imp_1", Next: noon, Since: 2}}})
	a := u.Attempts[0]
	assert.Equal(t, []int64{noon, 2, 9, 3}, []int64{a.Next, a.Since, int64(a.Looks), a.Verified})
	assert.Equal(t, client.StatusReady, a.Status)
	assert.Zero(t, u.Tries)
	assert.EqualValues(t, 9, u.AtTill)
}

// Two payments of one attempt are two attempts: the first to be voided, as after any lost race.
func TestUniteTwoPaymentsOfAnAttempt(t *testing.T) {
	t.Parallel()
	u := united(Row{Attempts: []Attempt{{State: Issued, ImpUID: "imp_1"}}}, Row{Attempts: []Attempt{{State: Issued, ImpUID: "imp_2"}}})
	require.Len(t, u.Attempts, 2)
	assert.Equal(t, Attempt{State: Issued, ImpUID: "imp_1", Voiding: true, Next: noon}, u.Attempts[0])
	assert.Equal(t, Attempt{ID: "id0", State: Issued, ImpUID: "imp_2"}, u.Attempts[1])
	assert.LessOrEqual(t, u.Due, noon)
}

// What the newer copy lacks stands where it was asked for; the last one is what the app knows.
func TestUniteKeepsTheOrderOfAttempts(t *testing.T) {
	t.Parallel()
	stored := &Row{Version: 5, Attempts: []Attempt{{ID: "a", Asked: 1}, {ID: "b", Asked: 2}, {ID: "c", Asked: 5}}}
	row := &Row{Version: 7, Attempts: []Attempt{{ID: "a", Asked: 1}, {ID: "d", Asked: 4}}}
	var ids string
	for _, a := range unite(stored, row, Past{}, noon).Attempts {
		ids += a.ID
	}
	assert.Equal(t, "abdc", ids)
}

func TestUniteAnAttempt(t *testing.T) {
	t.Parallel()
	u := united(Row{Attempts: []Attempt{{State: Paid, ImpUID: "imp_1"}}}, Row{})
	assert.Equal(t, "id0", u.Attempts[0].ID)
	stored := &Row{Version: 5, Attempts: []Attempt{{State: Paid, ImpUID: "imp_1"}}}
	row := &Row{Version: 7, Attempts: []Attempt{{ID: "id", State: Issued, ImpUID: "imp_1"}}}
	a := unite(stored, row, Past{}, noon).Attempts[0]
	assert.Equal(t, "id", a.ID, "the payment was found without its attempt")
	assert.Equal(t, Paid, a.State)

	u = united(Row{Attempts: []Attempt{{State: Expired, ImpUID: "imp_1", Closed: true}}}, Row{Attempts: []Attempt{{State: Expired, ImpUID: "imp_1", Voiding: true}}})
	a = u.Attempts[0]
	assert.Equal(t, []any{true, false, noon}, []any{a.Closed, a.Voiding, a.Next}, "the API refuses to void it")
}

func TestUniteVoidsWhatIsNotToBePaid(t *testing.T) {
	t.Parallel()
	u := united(Row{Attempts: []Attempt{{State: Paid, ImpUID: "imp_1"}}}, Row{Attempts: []Attempt{{State: Void, ImpUID: "imp_1"}, {State: Issued, ImpUID: "imp_2", Next: noon + 1}}})
	assert.Equal(t, Paid, u.Attempts[0].State)
	assert.True(t, u.Attempts[0].Late, "it was paid although it was void")
	assert.True(t, u.Attempts[1].Voiding, "another barcode of the order is paid")
	assert.Equal(t, noon, u.Attempts[1].Next)

	u = united(Row{Attempts: []Attempt{{State: Asked, Closed: true}}}, Row{Attempts: []Attempt{{State: Issued, ImpUID: "imp_1", Next: noon + 1}}})
	assert.True(t, u.Attempts[0].Voiding, "the attempt was given up")
	assert.Equal(t, noon, u.Attempts[0].Next)
}

// Why an order waited for a person may be seen again, if it is looked at before it is told.
func TestUniteWhatWaitsForAPerson(t *testing.T) {
	t.Parallel()
	paid := Attempt{State: Paid, ImpUID: "imp_1", Verified: noon, Happenings: []Happening{{Event: tell.Paid, Seen: 5}}}
	waiting := Telling{Waiting: 3, Since: 2, Cause: causeAmount}
	u := united(Row{Telling: waiting, Attempts: []Attempt{paid}}, Row{Telling: Telling{Since: 4}, Attempts: []Attempt{paid}})
	assert.Equal(t, Telling{Since: 4}, u.Telling, "a person has had it retried")
	assert.Zero(t, u.Attempts[0].Verified)
	assert.Equal(t, TellQueue(""), u.Queue)

	u = united(Row{Telling: waiting, Attempts: []Attempt{paid}}, Row{Attempts: []Attempt{{State: Issued, ImpUID: "imp_1"}}})
	assert.Equal(t, waiting, u.Telling)
	assert.Equal(t, PersonQueue(""), u.Queue)

	heard := paid
	heard.Happenings = []Happening{{Event: tell.Paid, Seen: 5, Done: 6}}
	u = united(Row{Telling: waiting, Attempts: []Attempt{paid}}, Row{Attempts: []Attempt{heard}})
	assert.Zero(t, u.Telling, "the shop has heard it since")
	assert.Empty(t, u.Queue)
}

func TestUniteHolds(t *testing.T) {
	t.Parallel()
	u := united(Row{Holder: "a", HeldUntil: noon + 1}, Row{AtTill: 1})
	assert.Equal(t, "a", u.Holder, "who holds the stored row may be sending")
	u = united(Row{Holder: "a", HeldUntil: noon}, Row{AtTill: 1})
	assert.Empty(t, u.Holder)
	u = united(Row{Holder: "a", HeldUntil: noon + 1}, Row{Holder: "b", HeldUntil: 1})
	assert.Equal(t, "b", u.Holder)
}

func TestUniteHints(t *testing.T) {
	t.Parallel()
	signed := Hint{ImpUID: "imp_1", Status: "paid", ID: "id", Amount: "10", Expires: 3, Next: 1}
	u := united(Row{Hints: []Hint{signed, {ImpUID: "imp_2", Next: 8}}}, Row{Hints: []Hint{{ImpUID: "imp_1", Status: "paid", Next: 5}}})
	assert.Equal(t, []Hint{{ImpUID: "imp_1", Status: "paid", ID: "id", Amount: "10", Expires: 3, Next: 5}, {ImpUID: "imp_2", Next: 8}}, u.Hints)
}

// What is history of one copy is not of the order, if the other one's shop was told before.
func TestUnitePast(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ stored, row, want Past }{
		"both as the mark":                   {},
		"an earlier one":                     {row: Past{15, 5}, want: Past{15, 5}},
		"an earlier one is stored":           {stored: Past{15, 5}, want: Past{15, 5}},
		"a later one":                        {row: Past{25, 15}},
		"a later one is stored":              {stored: Past{25, 15}},
		"a later one, as in both":            {stored: Past{25, 15}, row: Past{25, 15}, want: Past{25, 15}},
		"the one earlier here, the other so": {stored: Past{25, 5}, row: Past{15, 15}, want: Past{15, 5}},
	} {
		u := united(Row{Past: c.stored}, Row{Past: c.row, AtTill: 1})
		assert.Equal(t, c.want, u.Past, name)
	}
}
