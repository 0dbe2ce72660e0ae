package ledger

// This file holds tests of hints: what is looked at, how often, and what becomes of it.

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

func TestHintIsMet(t *testing.T) {
	t.Parallel()
	cancellations := func(ids ...string) func(*Seen) {
		return func(p *Seen) {
			for _, id := range ids {
				p.Cancellations = append(p.Cancellations, client.OutlineCancellation{ID: id})
			}
		}
	}
	for _, c := range []struct {
		status       client.Status
		cancellation string
		seen         *Seen
		want         bool
	}{
		{"", "", shows(client.StatusReady), true},
		{"ready", "", shows(client.StatusReady), true},
		{"failed", "", shows(client.StatusReady), true},
		{"paid", "", shows(client.StatusReady), false},
		{"paid", "", shows(client.StatusPaid), true},
		{"paid", "", shows(client.StatusCancelled), false},
		{"paid", "", shows(client.StatusCancelled, refunded), true},
		{"cancelled", "", shows(client.StatusReady), false},
		{"cancelled", "", shows(client.StatusPaid), false},
		{"cancelled", "", shows(client.StatusCancelled), true},
		{"cancelled", "", shows(client.StatusPaid, refunded), true},
		{"cancelled", "c1", shows(client.StatusPaid, cancellations("c1")), false},
		{"cancelled", "c1", shows(client.StatusCancelled), true},
		{"cancelled", "c1", shows(client.StatusCancelled, refunded, cancellations("c1")), true},
		{"cancelled", "c1", shows(client.StatusPaid, refunded, cancellations("c0", "c1")), true},
		{"cancelled", "c1", shows(client.StatusPaid, refunded, cancellations("c0")), false},
		{"cancelled", "c1", shows(client.StatusCancelled, refunded, cancellations("c0")), false},
	} {
		h := Hint{Status: string(c.status), Cancellation: c.cancellation}
		assert.Equal(t, c.want, h.isMet(c.seen), "%+v %+v", h, c.seen)
	}
}

// A look-up may lag behind the notice.
func TestPaidWhileTheLookUpLags(t *testing.T) {
	t.Parallel()
	for name, shown := range map[string]client.Status{"ready": client.StatusReady, "unknown": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				w.put(w.issued("a", "imp_1"))
				if shown != "" {
					w.seen("imp_1", shown)
				}
				w.notice("imp_1", "paid")
				looks := []int{1, 1, 1, 1}
				for i, pause := range []time.Duration{0, 5 * time.Second, 30 * time.Second, 2 * time.Minute} {
					time.Sleep(pause)
					assert.Equal(t, looks[i], w.lines("GET imp_1"), pause)
				}
				assert.Empty(t, s.told())
				if shown == "" {
					w.seen("imp_1", client.StatusReady)
				}
				w.api.change("imp_1", paid)
				time.Sleep(10 * time.Minute)
				assert.Equal(t, []string{"imp_1 paid"}, s.events())
				assert.Empty(t, w.row().Hints)
				assert.Empty(t, w.reported())
			})
		})
	}
}

// What the API does not show for a day is an alarm, once.
func TestHintThatIsNotMetForADay(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]client.Status{"unknown": "", "ready": client.StatusReady} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				a := w.issued("a", "imp_1")
				a.Deadline += 7 * 24 * 3600
				w.put(a)
				impUID := "imp_1"
				if status != "" {
					w.seen("imp_1", status)
				} else {
					impUID = "imp_9"
				}
				w.notice(impUID, "paid", signed("o", "b", "15000"))
				w.pass(23*time.Hour + 59*time.Minute)
				assert.Len(t, w.row().Hints, 1)
				assert.Empty(t, w.reported())
				w.pass(2 * time.Hour)
				w.pass(72 * time.Hour)
				assert.Empty(t, w.row().Hints)
				assert.Equal(t, []string{"a notice says what the API has not shown for a day: paid " + impUID}, w.reported())
				assert.Empty(t, s.told())
			})
		})
	}
}

// A hint of the API's own list is looked at once, whatever the look-up shows.
func TestHintWithoutAWordIsLookedAtOnce(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.notice("imp_1", "")
		w.work()
		assert.Empty(t, w.row().Hints)
		w.notice("imp_9", "", signed("o9", "", "1"))
		w.work()
		assert.Nil(t, w.store.get(Key{"shop", "o9"}), "there is nothing to keep")
	})
}

func TestPaymentThatTheRowDoesNotKnow(t *testing.T) {
	t.Parallel()
	asked := func(change ...func(*Attempt)) func(w *world) []Attempt {
		return func(w *world) []Attempt {
			a := Attempt{ID: "a", State: Asked, Amount: "15000", Began: w.now(-time.Minute) / 1000, Asked: w.now(-time.Minute), Since: w.now(-time.Minute), Next: w.now(time.Hour)}
			for _, c := range change {
				c(&a)
			}
			return []Attempt{a}
		}
	}
	for _, c := range []struct {
		name     string
		attempts func(w *world) []Attempt
		status   client.Status
		change   []func(*Seen)
		notice   func(*Notice)
		want     string
		told     []string
		report   string
	}{
		{"its answer was lost", asked(), client.StatusPaid, nil, signed("o", "a", "15000"), "a/imp_9 paid", []string{"imp_9 paid"}, ""},
		{"it was given up", asked(func(a *Attempt) { a.Closed = true }), client.StatusPaid, nil, signed("o", "a", "15000"), "a/imp_9 paidx", []string{"imp_9 paid"}, ""},
		{
			"its answer was lost, and it began before it was asked for, by a clock that was wrong",
			asked(func(a *Attempt) { a.Began += 3600 }), client.StatusPaid,
			[]func(*Seen){func(p *Seen) { p.StartedAt-- }},
			signed("o", "a", "15000"),
			"a/imp_9 paid",
			[]string{"imp_9 paid"},
			"",
		},
		{"its answer was lost, and it is of another pg", asked(func(a *Attempt) { a.PG = "galaxia.A" }), client.StatusPaid, []func(*Seen){func(p *Seen) { p.PGID = "B" }}, signed("o", "a", "15000"), "imp_9 paid, a askedx", []string{"imp_9 paid"}, ""},
		{"its row was lost", nil, client.StatusPaid, nil, signed("o", "a", "15000"), "a/imp_9 paid", []string{"imp_9 paid"}, ""},
		{"its row was lost, an old URL without an id", nil, client.StatusPaid, nil, signed("o", "", "15000"), "imp_9 paid", []string{"imp_9 paid"}, ""},
		{"its row was lost, ready", nil, client.StatusReady, nil, signed("o", "a", "15000"), "a/imp_9 issued", nil, ""},
		{"its row was lost, another amount", nil, client.StatusPaid, nil, signed("o", "a", "9"), "a/imp_9 paid", nil, "an order waits for a person before the shop is told of it: " + causeAmount},
		{"another amount than the attempt's", asked(func(a *Attempt) { a.Amount = "9" }), client.StatusPaid, nil, signed("o", "a", "15000"), "imp_9 paid, a askedx", []string{"imp_9 paid"}, ""},
		{"a second payment of one call", func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, client.StatusReady, nil, signed("o", "a", "15000"), "imp_9 void, a/imp_1 issued", nil, ""},
		{"a second payment of the order", func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, client.StatusReady, nil, signed("o", "b", "15000"), "b/imp_9 void, a/imp_1 issued", nil, ""},
		{"another order's", nil, client.StatusPaid, []func(*Seen){func(p *Seen) { p.Order = "o2" }}, signed("o", "a", "15000"), "no row", nil, "a notice for the order names another order's payment: it is not told imp_9"},
		{"a card's", nil, client.StatusPaid, []func(*Seen){func(p *Seen) { p.CVS = false }}, signed("o", "a", "15000"), "no row", nil, ""},
		{"an unknown word", nil, "settled", nil, signed("o", "a", "15000"), "", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				if c.attempts != nil {
					row := w.put(c.attempts(w)...)
					row.Due = w.now(time.Hour)
					w.store.set(row)
				}
				if w.row() != nil && w.row().Attempts[0].ImpUID != "" {
					w.seen("imp_1", client.StatusReady)
				}
				w.seen("imp_9", client.StatusReady, paid, func(p *Seen) { p.Status = c.status })
				w.api.change("imp_9", c.change...)
				if c.status == client.StatusReady {
					w.api.change("imp_9", func(p *Seen) { p.PaidAt = 0 })
				}
				w.notice("imp_9", "paid", c.notice)
				assert.Equal(t, c.told, s.events())
				time.Sleep(3 * time.Second)
				assert.Equal(t, c.want, w.states())
				if c.report == "" {
					assert.Empty(t, w.reported())
				} else {
					assert.Equal(t, []string{c.report}, w.reported())
				}
				if c.want == "" {
					assert.Len(t, w.row().Hints, 1, "it is looked at again")
				}
			})
		})
	}
}

// The row's own payment is another order's, as the API shows it.
func TestKnownPaymentOfAnotherOrder(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid, func(p *Seen) { p.Order = "o2" })
		w.notice("imp_1", "paid")
		time.Sleep(time.Minute)
		assert.Empty(t, s.told())
		assert.Equal(t, []string{"a notice for the order names another order's payment: it is not told imp_1"}, w.reported())
	})
}

func TestHintsOfTwoCopies(t *testing.T) {
	t.Parallel()
	h := Hint{ImpUID: "imp_1", Status: "cancelled", Cancellation: "c1", At: 1, Next: noon}
	looked := h
	looked.Looks, looked.Looked, looked.Next = 1, noon, noon+5000
	newer := h
	newer.Cancellation = "c2"
	other := h
	other.ImpUID = "imp_2"
	for _, c := range []struct {
		name               string
		stored, mine, want []Hint
	}{
		{"looked at", []Hint{h}, []Hint{looked}, []Hint{looked}},
		{"looked at by the other one", []Hint{looked}, []Hint{h}, []Hint{looked}},
		{"done", []Hint{h}, nil, []Hint{h}},
		{"done by the other one", nil, []Hint{h}, nil},
		{"another payment", []Hint{other}, []Hint{looked}, []Hint{other}},
		{"came meanwhile", []Hint{newer}, []Hint{looked}, []Hint{{ImpUID: "imp_1", Status: "cancelled", Cancellation: "c2", At: 1, Looked: noon, Next: noon + 5000}}},
	} {
		stored, mine := row(one), row(one)
		stored.Hints, mine.Hints = c.stored, c.mine
		merge(stored, mine, false)
		assert.Equal(t, c.want, stored.Hints, c.name)
	}
	stored, mine := row(one), row(one)
	stored.Hints = []Hint{h, other}
	mine.Attempts[0].Verified, mine.Attempts[0].Status = noon-1000, client.StatusCancelled
	merge(stored, mine, false)
	assert.Equal(t, noon+4000, stored.Hints[0].Next, "what was seen is not looked at again at once")
	assert.Equal(t, noon, stored.Hints[1].Next)
}

// Whoever has a signed URL may name any payment: a row keeps hints of so many only.
func TestRowKeepsHintsOfFewForeignPayments(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		signed := signedurl.Claims{Account: "shop", Amount: "15000", ID: "a"}
		notice := func(impUID string) error {
			_, err := w.l.Notice(t.Context(), w.acc, &Notice{ImpUID: impUID, Status: "paid", Order: "o", Signed: &signed})
			return err
		}
		for n := range maxForeign {
			require.NoError(t, notice(fmt.Sprintf("imp_x%d", n)))
		}
		require.ErrorIs(t, notice("imp_y"), ErrBusy)
		require.NoError(t, notice("imp_x3"), "it is kept already")
		require.NoError(t, notice("imp_1"), "the row's own")
		assert.Len(t, w.row().Hints, maxForeign+1)
	})
}

// Unsigned notices that say what is not so have a payment looked at less and less often; a signed one at once.
func TestUnsignedNoticesLookLessOften(t *testing.T) {
	t.Parallel()
	e := at(t)
	r := row(Attempt{ID: "a", State: Issued, ImpUID: "imp_1"})
	h := Hint{ImpUID: "imp_1", Status: "paid"}
	require.True(t, r.hint(h, e))
	for looks, pause := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute, time.Minute} {
		r.Hints[0].Looks, r.Hints[0].Looked, r.Hints[0].Next = looks, e.now, e.in(time.Hour)
		require.True(t, r.hint(h, e))
		assert.Equal(t, e.in(pause), r.Hints[0].Next)
		assert.False(t, r.hint(h, e))
	}
	h.Amount = "15000"
	r.Hints[0].At = e.in(-hintLife)
	require.True(t, r.hint(h, e))
	assert.Equal(t, e.in(lookAtMost), r.Hints[0].Next)
	assert.Zero(t, r.Hints[0].Looks)
	assert.Equal(t, e.now, r.Hints[0].At, "its day begins anew, whatever was forged before")
}
