package ledger

// This file holds tests of how a notice is received, and of what becomes of it.

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// signed signs a notice for an order.
func signed(order, id, amount string) func(*Notice) {
	return func(n *Notice) {
		n.Order, n.Signed = order, &signedurl.Claims{ID: id, Amount: amount, Expires: time.Now().Add(time.Hour).Unix()}
	}
}

func TestNoticeByWhatIsKnown(t *testing.T) {
	t.Parallel()
	find := func(err error) func(*world) {
		return func(w *world) {
			w.store.hook(func(_ context.Context, op string, _ *Row) error {
				if op == "find" {
					return err
				}
				return nil
			})
		}
	}
	write := func(w *world) {
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op == "put" {
				return errBroken
			}
			return nil
		})
	}
	newer := func(w *world) { w.store.change(Key{"shop", "o"}, func(row *Row) { row.Format++ }) }
	sign := signed("o", "a", "15000")
	for _, c := range []struct {
		name   string
		impUID string
		sign   func(*Notice)
		before func(*world)
		known  bool
		err    error
		order  string // that has the hint
		puts   int
	}{
		{"known", "imp_1", nil, nil, true, nil, "o", 1},
		{"known, signed", "imp_1", sign, nil, true, nil, "o", 1},
		{"known, signed for another order", "imp_1", signed("o2", "a", "1"), nil, true, nil, "o", 1},
		{"unknown", "imp_9", nil, nil, false, nil, "", 0},
		{"unknown, signed", "imp_9", sign, nil, true, nil, "o", 1},
		{"unknown, signed, no row", "imp_9", signed("o2", "a", "1"), nil, true, nil, "o2", 1},
		{"the ledger is down", "imp_1", nil, find(errBroken), false, ErrDown, "", 0},
		{"the ledger is down, signed", "imp_1", sign, find(errBroken), true, ErrDown, "", 0},
		{"the write fails", "imp_1", nil, write, true, ErrDown, "", 0},
		{"the write fails, signed", "imp_9", sign, write, true, ErrDown, "", 0},
		{"a row of a newer format", "imp_1", nil, newer, true, ErrBusy, "", 0},
		{"a row of a newer format, signed", "imp_9", sign, newer, true, ErrBusy, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inIdleShop(t, func(w *world, _ *fakeShop) {
				w.put(w.issued("a", "imp_1"))
				if c.before != nil {
					c.before(w)
				}
				n := &Notice{ImpUID: c.impUID, Status: "paid", Order: "o2"}
				if c.sign != nil {
					c.sign(n)
				}
				known, err := w.l.Notice(t.Context(), w.acc, n)
				assert.Equal(t, c.known, known)
				assert.ErrorIs(t, err, c.err)
				assert.Equal(t, c.puts, w.lines("put"))
				for _, order := range []string{"o", "o2"} {
					row := w.store.get(Key{"shop", order})
					if order != c.order {
						assert.True(t, row == nil || len(row.Hints) == 0)
						continue
					}
					require.Len(t, row.Hints, 1)
					assert.Equal(t, c.impUID, row.Hints[0].ImpUID)
					assert.Equal(t, c.sign != nil, row.Hints[0].Amount != "")
					assert.Equal(t, w.now(0), row.Due, "looked at once")
				}
			})
		})
	}
}

func TestNoticesStatusThatNobodyKnows(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.notice("imp_1", "<script>")
		assert.Empty(t, w.row().Hints[0].Status, "it is not kept")
	})
}

// A notice that comes twice is written once, and one that says more is written.
func TestDoubledNotice(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		cancelled := func(id string) func(*Notice) { return func(n *Notice) { n.CancellationID = id } }
		for _, c := range []struct {
			status string
			change func(*Notice)
			puts   int
		}{
			{"paid", cancelled(""), 1},
			{"paid", cancelled(""), 0},
			{"paid", signed("o", "a", "15000"), 1},
			{"paid", signed("o", "a", "15000"), 0},
			{"paid", cancelled(""), 0},
			{"cancelled", cancelled("c1"), 1},
			{"cancelled", cancelled("c1"), 0},
			{"cancelled", cancelled("c2"), 1},
		} {
			w.notice("imp_1", c.status, c.change)
			assert.Equal(t, c.puts, w.lines("put"), "%+v", c)
		}
		assert.Len(t, w.row().Hints, 2)
		assert.Equal(t, "15000", w.row().Hints[0].Amount)
	})
}

// Anybody may send notices. A payment is looked at every five seconds at most, and what is known of it
// is not written each time.
func TestFloodOfNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status client.Status
		change func(*Seen)
		notice string // "" for each word in turn
		forged bool   // each with another cancellation_id
	}{
		"ready, and said to be all":    {client.StatusReady, nil, "", true},
		"ready":                        {client.StatusReady, nil, "ready", false},
		"ready, and said to be paid":   {client.StatusReady, nil, "paid", false},
		"paid":                         {client.StatusPaid, paid, "paid", false},
		"paid, and said to be ready":   {client.StatusPaid, paid, "ready", false},
		"paid, and said to be settled": {client.StatusPaid, paid, "settled", false},
		"paid, cancellations":          {client.StatusPaid, paid, "cancelled", true},
		"void":                         {client.StatusCancelled, nil, "cancelled", false},
		"void, cancellations":          {client.StatusCancelled, nil, "cancelled", true},
		"unknown":                      {"", nil, "paid", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inShop(t, func(w *world, s *fakeShop) {
				w.put(w.issued("a", "imp_1"))
				if c.status != "" {
					w.seen("imp_1", c.status)
				}
				if c.change != nil {
					w.api.change("imp_1", c.change)
				}
				w.configure(func(acc *Account) { acc.API = stopping{w.api, func() { time.Sleep(30 * time.Millisecond) }} })
				for i := range 1200 {
					w.notice("imp_1", c.notice, func(n *Notice) {
						if c.notice == "" {
							n.Status = []string{"ready", "paid", "cancelled", "failed", "settled"}[i%5]
						} else if c.forged {
							n.CancellationID = fmt.Sprint(i)
						}
					})
					time.Sleep(50 * time.Millisecond)
				}
				assert.LessOrEqual(t, w.lines("GET"), 14, "in a minute")
				assert.LessOrEqual(t, len(s.told()), 1)
			})
		})
	}
}

// The notice of a payment may come before the answer of its POST is written, or while it is on its way.
func TestNoticeBeforeTheAnswerIsWritten(t *testing.T) {
	t.Parallel()
	for name, sign := range map[string]func(*Notice){"signed": signed("o", "n1", "15000"), "not signed": func(*Notice) {}} {
		inShop(t, func(w *world, s *fakeShop) {
			w.store.hook(func(_ context.Context, op string, row *Row) error {
				if op == "put" && row.Order == "o" && len(row.Attempts) > 0 && row.Attempts[0].State == Issued { // the API has answered
					w.store.hook(nil)
					w.api.change("new_1", paid)
					w.notice("new_1", "paid", sign)
				}
				return nil
			})
			_, err := w.issue()
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
			assert.Equal(t, []string{"new_1 paid"}, s.events(), name)
			assert.Len(t, w.row().Attempts, 1)
		})
	}
	inShop(t, func(w *world, s *fakeShop) {
		w.api.on(func(call string) fault {
			if call == "POST" {
				time.AfterFunc(time.Millisecond, func() {
					w.api.change("new_1", paid)
					w.notice("new_1", "paid", signed("o", "n1", "15000"))
				})
			}
			return fault{work: true}
		})
		w.configure(func(acc *Account) { acc.API = slow{w.api} })
		_, err := w.issue()
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		assert.Equal(t, []string{"new_1 paid"}, s.events())
		assert.Len(t, w.row().Attempts, 1)
		assert.Empty(t, w.reported())
	})
}

// slow is an API that works at once, and answers a POST after a second.
type slow struct{ *fakeAPI }

func (s slow) Issue(ctx context.Context, r *Request, id string, maySend func() error) (Seen, error) {
	seen, err := s.fakeAPI.Issue(ctx, r, id, maySend)
	time.Sleep(time.Second)
	return seen, err
}

func TestCancelledByTheGateway(t *testing.T) {
	t.Parallel()
	for name, partial := range map[string]bool{"whole": false, "in part, still paid": true} {
		inShop(t, func(w *world, s *fakeShop) {
			w.put(w.issued("a", "imp_1"))
			w.seen("imp_1", client.StatusReady, paid)
			w.notice("imp_1", "paid")
			assert.Equal(t, []string{"imp_1 paid"}, s.events())
			w.l.Cancelled(t.Context(), w.acc, "imp_1", "c1")
			w.l.Cancelled(t.Context(), w.acc, "imp_9", "c1")
			time.Sleep(time.Minute)
			assert.Empty(t, s.events(), "the look-up lags")
			w.api.change("imp_1", cancels("c1", w.now(0)/1000), func(p *Seen) {
				if partial {
					p.Status = client.StatusPaid
				}
			})
			time.Sleep(3 * time.Minute)
			assert.Equal(t, []string{"imp_1 cancelled c1"}, s.events(), name)
			assert.Empty(t, w.row().Hints, name)
			w.pass(25 * time.Hour)
			assert.Empty(t, w.reported())
		})
	}
}

var errCanary = errors.New("error-canary")

// While the API is silent, a hint stays, for as long as that lasts.
func TestHintStaysWhileTheAPIIsSilent(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid)
		w.api.on(func(string) fault { return fault{err: fmt.Errorf("%w: %w", client.ErrUnreachable, errCanary)} })
		w.notice("imp_1", "paid")
		w.pass(time.Minute)
		w.pass(49 * time.Hour)
		assert.Empty(t, s.told())
		assert.Len(t, w.row().Hints, 1)
		w.api.on(nil)
		w.pass(61 * time.Minute)
		assert.Equal(t, []string{"imp_1 paid"}, s.events())
		assert.Empty(t, w.row().Hints)
	})
}

// A notice that comes while the payment is being looked at may be of what came after that.
func TestNoticeDuringTheLookUp(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, paid, cancels("c1", w.now(0)/1000+2))
		again := true
		w.configure(func(acc *Account) {
			acc.API = stopping{w.api, func() {
				if again {
					again = false
					w.api.change("imp_1", cancels("c2", w.now(0)/1000+3))
					w.notice("imp_1", "cancelled")
				}
			}}
		})
		w.notice("imp_1", "cancelled")
		time.Sleep(20 * time.Second)
		assert.Equal(t, []string{"imp_1 paid", "imp_1 cancelled c1", "imp_1 cancelled c2"}, s.events())
	})
}
