package ledger

// This file holds tests of the sweep, and of the mark of an account.

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// mark returns the stored mark.
func (w *world) mark() Mark {
	synctest.Wait()
	row := w.store.get(Key{"shop", markOrder})
	require.NotNil(w.t, row)
	return *row.Mark
}

// inSweep runs a test in a shop whose sweep has run for the first time.
func inSweep(t *testing.T, test func(w *world, s *fakeShop)) {
	t.Helper()
	inIdleShop(t, func(w *world, s *fakeShop) {
		w.acc.Tells.Sweep = 5 * time.Minute
		w.l.Work()
		time.Sleep(2 * time.Second)
		w.book.read()
		w.asked()
		test(w, s)
	})
}

// asked returns the times of the pages that were asked for since the last call.
func (w *world) asked() (list [][2]int64) {
	synctest.Wait()
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	list, w.api.asked = w.api.asked, nil
	return list
}

// pages sets how many payments a page has, and whether it is in no order.
func (f *fakeAPI) pages(of int, unsorted bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pageOf, f.unsorted = of, unsorted
}

// isIssued stores a row of another order that has a barcode.
func (w *world) isIssued(order string) {
	w.store.set(&Row{Format: Format, Account: "shop", Order: order, Version: 1, Due: w.now(time.Hour), Attempts: []Attempt{w.issued("a", "imp_"+order)}})
}

// at pays a payment at a moment from now.
func (w *world) at(d time.Duration) func(*Seen) {
	second := w.now(d) / 1000
	return func(p *Seen) { p.Status, p.PaidAt = client.StatusPaid, second }
}

func TestSweepFindsWhatNoNoticeTold(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, w.at(0))
		w.seen("imp_foreign", client.StatusReady, w.at(0))
		w.seen("imp_other", client.StatusReady, w.at(0), func(p *Seen) { p.Order = "o2" })
		time.Sleep(5 * time.Minute)
		assert.Equal(t, []string{"imp_1 paid"}, s.events())
		w.api.change("imp_1", cancels("c1", w.now(0)/1000))
		time.Sleep(5 * time.Minute)
		assert.Equal(t, []string{"imp_1 cancelled c1"}, s.events())
		w.book.read()
		time.Sleep(time.Hour)
		assert.Zero(t, w.lines("GET"), "what is known is not looked at")
		assert.Empty(t, s.events())
		assert.Nil(t, w.store.get(Key{"shop", "o2"}))
	})
}

// A payment that the API lists as another order's is left to a notice.
func TestSweepLeavesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		row := w.put(w.issued("a", "imp_1"))
		seen := func(change ...func(*Seen)) *Seen {
			return w.seen("imp_1", client.StatusReady, append([]func(*Seen){w.at(0)}, change...)...)
		}
		require.NoError(t, w.l.compare(t.Context(), w.acc, seen(func(p *Seen) { p.Order = "o2" })))
		require.NoError(t, w.l.compare(t.Context(), w.acc, seen(func(p *Seen) { p.Status = "settled" })))
		assert.Empty(t, w.row().Hints)
		w.store.change(row.Key(), func(row *Row) { row.Format++ })
		require.NoError(t, w.l.compare(t.Context(), w.acc, seen()))
		assert.Empty(t, w.row().Hints)
		w.store.change(row.Key(), func(row *Row) { row.Format-- })
		require.NoError(t, w.l.compare(t.Context(), w.acc, seen()))
		assert.Len(t, w.row().Hints, 1)
	})
}

// A store that failed may have lost which payment an attempt has made, and a list of the order's payments may
// have lacked it.
func TestSweepFindsThePaymentOfAnAttemptWithoutOne(t *testing.T) {
	t.Parallel()
	foreign := map[string]func(*Seen){
		"another order": func(p *Seen) { p.Order = "o2" }, "another amount": func(p *Seen) { p.Amount = "9" },
		"a card": func(p *Seen) { p.CVS = false }, "no order": func(p *Seen) { p.Order = "" },
	}
	for _, closed := range []bool{false, true} {
		inSweep(t, func(w *world, s *fakeShop) {
			asked := func(id string, closed bool) Attempt {
				a := w.issued(id, "")
				a.State, a.Closed, a.Next = Asked, closed, w.now(time.Hour)
				return a
			}
			row := w.put(asked("a", true), asked("b", closed))
			w.store.change(row.Key(), func(row *Row) { row.Due = w.now(time.Hour) })
			for _, change := range foreign {
				w.seen("imp_foreign", client.StatusReady, w.at(0), change)
				time.Sleep(5 * time.Minute)
				assert.Empty(t, s.events())
			}
			w.seen("imp_1", client.StatusReady, w.at(0))
			time.Sleep(5 * time.Minute)
			assert.Equal(t, []string{"imp_1 paid"}, s.events())
			assert.Equal(t, "b", w.row().Attempts[1].ID)
			assert.Equal(t, "imp_1", w.row().Attempts[1].ImpUID, "the newest that may have made it")
		})
	}
}

// The lists are read from the last time seen less a day, but never before the account's birth, nor for
// longer than the API lists.
func TestSweepFromWhen(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, _ *fakeShop) {
		born := w.mark().Born
		assert.Equal(t, w.now(-2*time.Second)/1000-600, born, "some minutes before the account's first start")
		sweep := func() [2]int64 {
			w.asked()
			w.pass(5 * time.Minute)
			asked := w.asked()
			require.Len(t, asked, 2, "paid and cancelled")
			assert.Equal(t, asked[0], asked[1])
			assert.InDelta(t, w.now(0)/1000, asked[0][1], 2, "to now")
			assert.Equal(t, asked[0][1], w.mark().Paid)
			assert.Equal(t, asked[0][1], w.mark().Cancelled)
			return asked[0]
		}
		assert.Equal(t, born, sweep()[0])
		w.pass(23 * time.Hour)
		assert.Equal(t, born, sweep()[0])
		w.store.change(Key{"shop", markOrder}, func(row *Row) { row.Mark.Paid, row.Mark.Cancelled = born-3600, born-3600 })
		assert.Equal(t, born-3600, sweep()[0], "orders of before that were moved here")
		w.pass(48 * time.Hour)
		last := w.mark().Paid
		assert.Equal(t, last-24*3600, sweep()[0])
		w.pass(200 * 24 * time.Hour) // the gateway was off
		w.store.change(Key{"shop", markOrder}, func(row *Row) { row.Mark.Paid, row.Mark.Cancelled = last, last })
		asked := sweep()
		assert.Equal(t, asked[1]-90*24*3600, asked[0])
		assert.Equal(t, born, w.mark().Born)

		w.store.change(Key{"shop", markOrder}, func(row *Row) {
			row.Mark.Paid, row.Mark.Cancelled = asked[1]+10*24*3600, asked[1]+10*24*3600 // the clock was ahead
		})
		w.pass(48 * time.Hour)
		assert.InDelta(t, asked[1]+24*3600, sweep()[0], 600)
		w.store.change(Key{"shop", markOrder}, func(row *Row) { row.Mark.Born += 900 * 24 * 3600 })
		read := w.mark().Paid
		assert.Equal(t, read, sweep()[0], "nothing is left out, and there is never an end before the beginning")
	})
}

func TestSweepReadsEveryPage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		paid  []int // seconds
		many  bool
		mixed bool
		pages int
	}{
		{name: "one page", paid: []int{1, 2}, pages: 1},
		{name: "three pages", paid: []int{1, 2, 3, 4, 5, 6, 7}, pages: 3},
		{name: "a second fills a page", paid: []int{1, 2, 2, 2, 2, 2, 2, 2, 3, 4}, pages: 4},
		{name: "all in one second", paid: []int{1, 1, 1, 1, 1, 1, 1}, pages: 4},
		{name: "in no order", paid: []int{5, 3, 9, 1, 7, 2, 8}, mixed: true, pages: 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inSweep(t, func(w *world, s *fakeShop) {
				w.api.pages(3, c.mixed)
				began := w.now(0)
				for i, second := range c.paid {
					order := fmt.Sprint("o", i)
					w.isIssued(order)
					w.seen("imp_"+order, client.StatusReady, func(p *Seen) {
						p.Order, p.Status, p.PaidAt = order, client.StatusPaid, began/1000+int64(second)
					})
				}
				time.Sleep(5 * time.Minute)
				assert.Len(t, s.told(), len(c.paid))
				assert.Equal(t, c.pages, len(w.asked())-1, "and one of the cancelled ones")
			})
		})
	}
}

// A payment that leaves the list between two pages makes none be skipped.
func TestSweepOfAListThatChanges(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, s *fakeShop) {
		w.api.pages(2, false)
		for i := range 8 {
			order := fmt.Sprint("o", i)
			w.isIssued(order)
			w.seen("imp_"+order, client.StatusReady, func(p *Seen) { p.Order = order }, w.at(time.Duration(i)*time.Second))
		}
		pages := 0
		w.api.on(func(call string) fault {
			if call == "PAGE paid 1" || call == "PAGE paid 2" {
				if pages++; pages == 2 { // a payment of the first page is paid back
					w.api.change("imp_o0", cancels("c1", w.now(0)/1000))
				}
			}
			return fault{work: true}
		})
		time.Sleep(5*time.Minute + time.Second)
		events := s.events()
		for i := range 8 {
			assert.Contains(t, events, fmt.Sprintf("imp_o%d paid", i))
		}
		assert.Contains(t, events, "imp_o0 cancelled c1")
	})
}

// A page of payments that cannot be read is empty, and has others behind it.
func TestSweepOfAPageThatIsEmpty(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, w.at(0))
		w.configure(func(acc *Account) { acc.API = unreadablePage{w.api} })
		time.Sleep(5 * time.Minute)
		assert.Equal(t, []string{"imp_1 paid"}, s.events())
		assert.Empty(t, w.reported())
	})
}

// unreadablePage is an API whose first page has nothing that can be read.
type unreadablePage struct{ *fakeAPI }

func (u unreadablePage) Page(ctx context.Context, status client.Status, from, to int64, page int) ([]Seen, bool, error) {
	if page == 1 {
		return nil, true, nil
	}
	return u.fakeAPI.Page(ctx, status, from, to, page-1)
}

// After an error the list is read again from where it was, after ever longer pauses.
func TestSweepThatFails(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func() fault{
		"silent": func() fault { return fault{err: errSilent} },
		"panic":  func() fault { panic("canary") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inSweep(t, func(w *world, s *fakeShop) {
				w.configure(func(acc *Account) { acc.Tells.Sweep = time.Second })
				time.Sleep(5 * time.Minute)
				w.book.read()
				before := w.mark()
				w.api.on(func(call string) fault {
					if call == "PAGE paid 1" {
						return end()
					}
					return fault{work: true}
				})
				w.put(w.issued("a", "imp_1"))
				w.seen("imp_1", client.StatusReady, w.at(0))
				time.Sleep(45 * time.Minute)
				assert.InDelta(t, before.Paid, w.mark().Paid, 1)
				assert.Equal(t, name == "silent", w.mark().Cancelled > before.Cancelled+1000, "the other list goes on")
				pages := w.lines("PAGE paid")
				assert.InDelta(t, 9, pages, 3)
				assert.Equal(t, []string{"the API's lists of payments could not be read several times, and will be again"}, w.reported())
				assert.Empty(t, s.events())
				w.api.on(nil)
				time.Sleep(11 * time.Minute)
				assert.Equal(t, []string{"imp_1 paid"}, s.events())
				w.book.read()
				time.Sleep(time.Minute)
				assert.InDelta(t, 60, w.lines("PAGE paid"), 5, "as often as before")
			})
		})
	}
}

// What the store does not take is listed again: the mark is written after the rows.
func TestSweepWhoseRowsCannotBeWritten(t *testing.T) {
	t.Parallel()
	for op, impUID := range map[string]string{"find": "imp_1", "get": "", "put": "imp_1"} {
		inSweep(t, func(w *world, s *fakeShop) {
			a := w.issued("a", impUID)
			if impUID == "" {
				a.State, a.Closed = Asked, true
			}
			w.put(a)
			w.seen("imp_1", client.StatusReady, w.at(0))
			before := w.mark()
			w.store.hook(func(_ context.Context, o string, row *Row) error {
				if o == op && (row == nil || row.Order == "o") {
					return errBroken
				}
				return nil
			})
			time.Sleep(6 * time.Minute)
			assert.Equal(t, before, w.mark(), op)
			w.store.hook(nil)
			time.Sleep(11 * time.Minute)
			assert.Equal(t, []string{"imp_1 paid"}, s.events(), op)
		})
	}
}

func TestSweepIsOff(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, _ *fakeShop) {
		w.pass(time.Hour)
		time.Sleep(20 * time.Minute)
		assert.Zero(t, w.lines("PAGE"))
		on := w.acc
		w.configure(func(acc *Account) { acc.Tells = nil })
		time.Sleep(20 * time.Minute)
		w.acc = on
		assert.Zero(t, w.lines("PAGE"))
		w.configure(func(acc *Account) { acc.Tells.Sweep = time.Minute })
		time.Sleep(11 * time.Minute)
		assert.NotZero(t, w.lines("PAGE"))
	})
}

// Two nodes do not read the lists both.
func TestSweepByOneNode(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, _ *fakeShop) {
		w.node().Work()
		time.Sleep(30 * time.Minute)
		assert.InDelta(t, 6, w.lines("PAGE paid"), 1)
	})
}

// A node that reads the lists for long keeps the others from it, and one that has died does not.
func TestSweepThatTakesLong(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, s *fakeShop) {
		w.node().Work()
		const payments, slow = 300, 900 * time.Millisecond
		for i := range payments {
			order := fmt.Sprintf("o%d", i)
			w.isIssued(order)
			w.seen("imp_"+order, client.StatusReady, w.at(0), func(p *Seen) { p.Order = order })
		}
		w.store.hook(func(ctx context.Context, op string, _ *Row) error {
			if op == "find" {
				return takes(ctx, slow)
			}
			return nil
		})
		time.Sleep(5*time.Minute + payments*slow)
		assert.Equal(t, 1, w.lines("PAGE paid"))
		assert.Len(t, s.events(), payments)
		w.store.hook(nil)
		time.Sleep(5 * time.Minute)
		assert.NotZero(t, w.lines("PAGE paid"))

		row := w.store.get(Key{"shop", markOrder})
		require.True(t, w.l.postpone(t.Context(), row, sweepLease), "by a node that dies then")
		time.Sleep(sweepLease + 2*time.Second)
		assert.NotZero(t, w.lines("PAGE paid"))
	})
}

// A sweep whose claim cannot be renewed ends: another node may have it.
func TestSweepThatLosesItsClaim(t *testing.T) {
	t.Parallel()
	inSweep(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady, w.at(0))
		w.api.on(func(call string) fault {
			if call == "PAGE paid 1" {
				time.Sleep(sweepLease)
				w.store.change(Key{"shop", markOrder}, func(*Row) {})
			}
			return fault{work: true}
		})
		before := w.mark()
		time.Sleep(5*time.Minute + sweepLease)
		assert.Empty(t, s.events())
		assert.Equal(t, before, w.mark())
	})
}

// Another node may have been first with the account's row.
func TestSweepNeedsTheClaim(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, _ *fakeShop) {
		w.acc.Tells.Sweep = time.Minute
		row := w.store.get(Key{"shop", markOrder})
		w.store.change(row.Key(), func(*Row) {})
		assert.False(t, w.l.workOn(t.Context(), row))
		assert.Zero(t, w.lines("PAGE"))
	})
}

// The mark is made once. Nothing is told before it is in the store.
func TestMarkOfAnAccount(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.acc.Tells = &Tells{Intervals: []time.Duration{time.Second}}
		w.failsAt("put", 1)
		assert.False(t, w.l.hasMark(t.Context(), w.acc))
		assert.False(t, w.l.hasMark(t.Context(), w.acc), "the store is down")
		assert.Zero(t, w.l.markOf("shop"))
		w.store.hook(nil)
		time.Sleep(2 * time.Second)
		require.True(t, w.l.hasMark(t.Context(), w.acc))
		first := w.mark()
		assert.Equal(t, Mark{Since: w.now(0), Born: w.now(0)/1000 - 600, Paid: w.now(0)/1000 - 600, Cancelled: w.now(0)/1000 - 600}, first)
		time.Sleep(time.Hour)
		assert.True(t, w.l.hasMark(t.Context(), w.acc))
		other := w.node()
		assert.True(t, other.hasMark(t.Context(), w.acc))
		assert.Equal(t, first, w.mark())
		assert.Equal(t, first, other.markOf("shop"))
		assert.Zero(t, other.markOf("elsewhere"))
	})
}

// A mark that was made by a clock that was ahead would make history of what happens now.
func TestMarkOfAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.clock.setBy(-10*daily, 0)
		time.Sleep(2 * time.Second) // every row is read again
		assert.LessOrEqual(t, w.mark().Since, w.now(0))
		assert.LessOrEqual(t, w.mark().Born, w.now(0)/1000)
		assert.Equal(t, w.mark().Since, w.l.markOf("shop").Since)
		w.isPaid("o")
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"imp_o paid"}, s.events())
	})
}

// A pause of less than a second is kept.
func TestShortIntervals(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.acc.Tells.Intervals = []time.Duration{100 * time.Millisecond}
		for range 3 {
			s.replies = append(s.replies, Reply{Verdict: Refused, Cause: "no"})
		}
		w.isPaid("o")
		time.Sleep(1500 * time.Millisecond)
		assert.Len(t, s.told(), 4)
	})
}

// What is paid while the store is down at the first start is no history.
func TestPaidBeforeTheStoreIsUpForTheFirstTime(t *testing.T) {
	t.Parallel()
	inIdleShop(t, func(w *world, s *fakeShop) {
		delete(w.store.rows, Key{"shop", markOrder}) // it is new
		w.l.setMark("shop", Mark{})
		var up atomic.Bool
		w.opens = func() (Store, error) {
			if !up.Load() {
				return nil, errBroken
			}
			return w.store, nil
		}
		w.store.hook(broken)
		w.configure(func(acc *Account) { acc.Tells.Sweep = 5 * time.Minute })
		w.l.Work()
		time.Sleep(time.Minute)
		require.True(t, w.l.Down())
		_, err := w.issue()
		require.NoError(t, err)
		w.pass(10 * time.Minute)
		require.Len(t, w.api.live(), 1)
		w.api.change(w.api.live()[0], paid)
		w.pass(time.Hour)
		assert.Empty(t, s.told())
		w.store.hook(nil)
		up.Store(true)
		time.Sleep(time.Minute)
		require.False(t, w.l.Down())
		w.pass(10 * time.Minute)
		assert.Len(t, s.told(), 1)
	})
}
