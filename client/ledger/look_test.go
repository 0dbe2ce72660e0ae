package ledger

// This file holds tests of what the worker does for an order that is due: of what expires, is paid
// late, or twice.

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// refuses makes the API refuse to void, and goes on as before.
func (w *world) refuses(impUID string) {
	w.api.on(func(call string) fault {
		if call == "DELETE "+impUID {
			return fault{err: errRefused}
		}
		return fault{work: true}
	})
}

// afterDeadline runs until the deadline of a barcode that issued made, and d further.
func (w *world) afterDeadline(d time.Duration) { w.pass(time.Hour + d) }

func TestExpiredIsTold(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady)
		w.afterDeadline(9 * time.Second)
		assert.Empty(t, s.events())
		assert.Equal(t, "a/imp_1 issued", w.states())
		time.Sleep(2 * time.Second)
		told := s.told()
		require.Len(t, told, 1)
		assert.Equal(t, []any{tell.Expired, "cancelled", int64(0)}, []any{told[0].Event, told[0].Status, told[0].PaidAt})
		assert.Equal(t, "a/imp_1 void", w.states())
		assert.Empty(t, w.api.live(), "no till takes it")

		w.api.change("imp_1", paid)
		w.pass(2 * time.Minute)
		assert.Equal(t, []string{"imp_1 paid late"}, s.events())
		assert.Equal(t, []string{"a barcode was paid after it was voided imp_1"}, w.reported())
	})
}

// A customer who is at the till at the deadline may pay for three minutes.
func TestExpiredAfterAnAcceptedConfirm(t *testing.T) {
	t.Parallel()
	for name, pays := range map[string]bool{"pays": true, "does not pay": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				w.put(w.issued("a", "imp_1"))
				w.seen("imp_1", client.StatusReady)
				w.afterDeadline(-5 * time.Second)
				w.l.MarkAtTill(t.Context(), Key{"shop", "o"})
				time.Sleep(2*time.Minute + 50*time.Second)
				assert.Equal(t, []string{"imp_1"}, w.api.live())
				if pays {
					w.api.change("imp_1", paid)
				}
				time.Sleep(15 * time.Second)
				want := "imp_1 expired"
				if pays {
					want = "imp_1 paid"
				}
				assert.Equal(t, []string{want}, s.events())
				assert.Empty(t, w.reported())
			})
		})
	}
}

// If the API refuses to void, nothing is told until no till can take the barcode any more, and a look-up
// an hour later shows that nobody has paid it.
func TestExpiredAndTheAPIRefusesToVoid(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(*Seen){"unpaid": nil, "paid": paid} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				w.put(w.issued("a", "imp_1"))
				w.seen("imp_1", client.StatusReady)
				w.refuses("imp_1")
				w.afterDeadline(15 * time.Second)
				assert.Equal(t, "a/imp_1 issued!", w.states())
				time.Sleep(2 * time.Minute)
				assert.Equal(t, 1, w.lines("DELETE"))
				time.Sleep(time.Minute)
				assert.Equal(t, "a/imp_1 expiredx", w.states())
				w.notice("imp_1", "ready") // it has the payment looked at before the hour is over
				time.Sleep(10 * time.Second)
				assert.Equal(t, "a/imp_1 expiredx", w.states())
				w.pass(58 * time.Minute)
				assert.Empty(t, s.events())
				if later != nil {
					w.api.change("imp_1", later)
				}
				time.Sleep(3 * time.Minute)
				if later != nil {
					assert.Equal(t, []string{"imp_1 paid late"}, s.events())
					return
				}
				assert.Equal(t, []string{"imp_1 expired"}, s.events())
				w.pass(24 * time.Hour)
				assert.Empty(t, s.events())
				assert.Empty(t, w.reported())
			})
		})
	}
}

// The barcode may be void already when it is looked at after its deadline.
func TestExpiredAndVoidAlready(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(w *world)
		want   []string
	}{
		"by the gateway, which was killed then": {func(w *world) {
			w.store.change(Key{"shop", "o"}, func(row *Row) { row.Attempts[0].Voiding, row.Attempts[0].Overdue = true, true })
		}, []string{"imp_1 expired"}},
		"by the API, at the deadline": {func(*world) {}, []string{"imp_1 expired"}},
		"by the API, before": {func(w *world) {
			w.api.change("imp_1", func(p *Seen) { p.CancelledAt -= 10 })
		}, nil},
	} {
		inShop(t, func(w *world, s *fakeShop) {
			a := w.issued("a", "imp_1")
			w.put(a)
			w.seen("imp_1", client.StatusReady)
			w.afterDeadline(5 * time.Second)
			w.api.change("imp_1", func(p *Seen) { p.Status, p.CancelledAt = client.StatusCancelled, a.Deadline+1 })
			c.before(w)
			w.notice("imp_1", "cancelled")
			time.Sleep(10 * time.Second)
			assert.Equal(t, "a/imp_1 void", w.states(), name)
			assert.Equal(t, c.want, s.events(), name)
		})
	}
}

// The shop is told of a deadline only if the barcode was the order's last one and its end is nobody's
// doing.
func TestExpiredIsNotTold(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(w *world){
		"the app got a new barcode": func(w *world) {
			w.store.change(Key{"shop", "o"}, func(row *Row) { row.Attempts = append(row.Attempts, w.issued("b", "imp_2")) })
			w.store.change(Key{"shop", "o"}, func(row *Row) { row.Attempts[1].Deadline += 24 * 3600; row.Attempts[1].Next += 24 * 3600_000 })
			w.seen("imp_2", client.StatusReady)
		},
		"another barcode is paid": func(w *world) {
			w.store.change(Key{"shop", "o"}, func(row *Row) {
				b := w.issued("b", "imp_2")
				b.State, b.Next = Paid, 0
				row.Attempts = append([]Attempt{b}, row.Attempts...)
			})
		},
		"the app voids it": func(w *world) {
			_, err := w.void("imp_1")
			require.NoError(w.t, err)
		},
		"the app voids it, and the answer is lost": func(w *world) {
			w.api.fails("DELETE imp_1", fault{err: errSilent})
			_, err := w.void("imp_1")
			require.Error(w.t, err)
		},
		"the gateway voids it": func(w *world) {
			w.store.change(Key{"shop", "o"}, func(row *Row) { row.Attempts[0].Voiding, row.Attempts[0].Next = true, w.now(0) })
		},
		"somebody else voids it": func(w *world) { w.api.status("imp_1", client.StatusCancelled) },
		"it fails":               func(w *world) { w.api.status("imp_1", client.StatusFailed) },
		"it is unknown":          func(w *world) { w.api.change("imp_1", func(p *Seen) { p.ImpUID = "gone" }) },
		"expired is not wanted": func(w *world) {
			w.configure(func(acc *Account) { acc.Tells.Events = []tell.Event{tell.Paid} })
		},
		"its deadline is not known": func(w *world) {
			w.store.change(Key{"shop", "o"}, func(row *Row) { row.Attempts[0].Deadline = 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				w.put(w.issued("a", "imp_1"))
				w.seen("imp_1", client.StatusReady)
				before(w)
				w.pass(3 * time.Minute)
				w.afterDeadline(10 * time.Minute)
				w.pass(2 * time.Hour)
				assert.Empty(t, s.events())
				assert.False(t, w.row().pending())
			})
		})
	}
}

// What is pending becomes moot when the order gets another barcode, or is paid, before it is told.
func TestExpiredIsWithdrawn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(w *world)
		want      []string
	}{
		"a new barcode": {func(w *world) {
			_, err := w.issue()
			require.NoError(w.t, err)
		}, nil},
		"paid after all": {func(w *world) { w.api.change("imp_1", paid); w.notice("imp_1", "paid") }, []string{"imp_1 paid late"}},
	} {
		inShop(t, func(w *world, s *fakeShop) {
			w.put(w.issued("a", "imp_1"))
			w.seen("imp_1", client.StatusReady)
			s.on(func(*tell.Message) *Reply { return &Reply{Verdict: Refused, Cause: "no"} })
			w.afterDeadline(15 * time.Second)
			require.NotEmpty(t, s.told())
			c.meanwhile(w)
			s.on(nil)
			s.told()
			time.Sleep(10 * time.Minute)
			assert.Subset(t, s.events(), c.want, name)
			assert.False(t, w.row().pending(), name)
		})
	}
}

// Two barcodes of an order are paid: the shop is told of both, and the operator once, however it becomes
// known.
func TestTwoPaidBarcodes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lost   bool // the row does not know the second barcode
		second func(w *world)
	}{
		"by a notice":                    {false, func(w *world) { w.notice("imp_2", "paid") }},
		"by a void that the API refuses": {false, func(*world) {}},
		"by a notice of a lost answer":   {true, func(w *world) { w.notice("imp_2", "paid", signed("o", "b", "15000")) }},
		"by the app's request":           {false, func(w *world) { _, _ = w.issue() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				attempts := []Attempt{w.issued("a", "imp_1"), w.issued("b", "imp_2")}
				if c.lost {
					attempts = attempts[:1]
				}
				w.put(attempts...)
				w.seen("imp_1", client.StatusReady, paid)
				w.seen("imp_2", client.StatusReady, paid)
				w.notice("imp_1", "paid")
				c.second(w)
				time.Sleep(2 * time.Minute)
				assert.ElementsMatch(t, []string{"imp_1 paid", "imp_2 paid"}, s.events())
				reported := w.reported()
				require.Len(t, reported, 1)
				assert.Contains(t, reported[0], "a second barcode of an order was paid: the customer has paid twice")
				assert.Equal(t, []EventKind{PaidTwice}, w.counted())
			})
		})
	}
}

// A payment that a request of the app finds is told, too.
func TestPaidFoundByARequest(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid)
		_, _ = w.issue()
		time.Sleep(time.Second)
		assert.Equal(t, []string{"imp_1 paid"}, s.events())
		assert.Empty(t, w.reported())
	})
}

// What the worker meets at an attempt does not keep it from the others.
func TestErrorsOfALook(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.put(due(w.issued("a", "imp_1")), due(w.issued("b", "imp_2")))
		w.seen("imp_1", client.StatusReady, func(p *Seen) { p.Order = "o2" })
		w.seen("imp_2", client.StatusCancelled)
		w.work()
		assert.Equal(t, "a/imp_1 issued, b/imp_2 void", w.states())
		assert.Equal(t, 1, w.row().Tries)
		o := w.l.order(w.acc, "o")
		require.NoError(t, o.read(t.Context()))
		assert.ErrorIs(t, o.saw(t.Context(), 0, w.seen("imp_3", "settled")), ErrSilent)
		assert.ErrorIs(t, o.saw(t.Context(), 0, w.seen("imp_4", "ready", func(p *Seen) { p.Order = "o2" })), errOtherOrder)
	})
}

// The order was written while the worker looked: it begins anew.
func TestLookOfARowThatIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	for _, hinted := range []bool{false, true} {
		inIdleShop(t, func(w *world, _ *fakeShop) {
			w.put(due(w.issued("a", "imp_1")))
			w.seen("imp_1", client.StatusFailed)
			if hinted {
				w.notice("imp_1", "ready")
			}
			w.store.hook(func(_ context.Context, op string, row *Row) error {
				if op == "put" && row.Holder != "" {
					w.store.hook(nil)
					w.store.change(row.Key(), func(row *Row) { row.AtTill = w.now(0) })
				}
				return nil
			})
			w.work()
			assert.NotZero(t, w.row().AtTill)
			assert.Zero(t, w.lines("DELETE"))
			assert.LessOrEqual(t, w.row().Due, w.now(time.Minute), "it is looked at again")
		})
	}
}
