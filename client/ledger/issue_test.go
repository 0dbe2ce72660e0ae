package ledger

// This file holds tests of Issue: in which order it reads, writes and calls, and what it answers.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// The attempt is durable before its call, and so is that a barcode is to be voided. That it is
// void, and the next attempt, are one write.
func TestIssueWritesBeforeItCalls(t *testing.T) {
	t.Parallel()
	asked := "n2 asked"
	for _, c := range []struct {
		name   string
		row    func(w *world) []Attempt
		seen   client.Status // of imp_1, "" for a 404
		faults map[string][]fault
		book   []string
		reused bool
		err    error
		answer string
	}{
		{
			name: "no row", book: []string{"put held: " + asked, "POST", "put: n2/new_1 issued"}, answer: "new_1",
		},
		{
			name: "the same again", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, seen: client.StatusReady,
			book: []string{"GET imp_1"}, reused: true, answer: "imp_1",
		},
		{
			name: "another amount", row: func(w *world) []Attempt {
				a := w.issued("a", "imp_1")
				a.Amount = "1"
				return []Attempt{a}
			}, seen: client.StatusReady,
			book: []string{
				"GET imp_1", "put held: a/imp_1 issued!", "DELETE imp_1", "put held: a/imp_1 void, " + asked, "POST",
				"put: a/imp_1 void, n2/new_1 issued",
			}, answer: "new_1",
		},
		{
			name: "to be voided", row: func(w *world) []Attempt {
				a := w.issued("a", "imp_1")
				a.Voiding = true
				return []Attempt{a}
			}, seen: client.StatusReady,
			book: []string{
				"put held: a/imp_1 issued!", "DELETE imp_1", "put held: a/imp_1 void, " + asked, "POST", "put: a/imp_1 void, n2/new_1 issued",
			}, answer: "new_1",
		},
		{
			name: "two barcodes", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1"), w.issued("b", "imp_2")} }, seen: client.StatusReady,
			book:   []string{"put held: a/imp_1 issued!, b/imp_2 issued", "DELETE imp_1", "GET imp_2", "put: a/imp_1 void, b/imp_2 issued"},
			reused: true, answer: "imp_2",
		},
		{
			name: "cancelled by somebody", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, seen: client.StatusCancelled,
			book:   []string{"GET imp_1", "put: a/imp_1 void", "put held: a/imp_1 void, " + asked, "POST", "put: a/imp_1 void, n2/new_1 issued"},
			answer: "new_1",
		},
		{
			name: "paid", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, seen: client.StatusPaid,
			faults: map[string][]fault{"POST": {{err: errRefused}}},
			book:   []string{"GET imp_1", "put: a/imp_1 paid", "put held: a/imp_1 paid, " + asked, "POST", "put: a/imp_1 paid"},
		},
		{
			name: "failed", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, seen: client.StatusFailed,
			book: []string{
				"GET imp_1", "put held: a/imp_1 issued!", "DELETE imp_1", "GET imp_1", "put held: a/imp_1 failed, " + asked, "POST",
				"put: a/imp_1 failed, n2/new_1 issued",
			}, answer: "new_1",
		},
		{
			name: "404", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} },
			book: []string{
				"GET imp_1", "put held: a/imp_1 issued!", "DELETE imp_1", "GET imp_1", "put held: a/imp_1 failed, " + asked, "POST",
				"put: a/imp_1 failed, n2/new_1 issued",
			}, answer: "new_1",
		},
		{
			name: "silent", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, seen: client.StatusReady,
			faults: map[string][]fault{"GET imp_1": {{err: errSilent}}}, book: []string{"GET imp_1"}, err: ErrSilent,
		},
		{
			name: "an unknown word", row: func(w *world) []Attempt { return []Attempt{w.issued("a", "imp_1")} }, seen: "settled",
			book: []string{"GET imp_1"}, err: ErrSilent,
		},
		{
			name: "refused", faults: map[string][]fault{"POST": {{err: errRefused}}}, book: []string{"put held: " + asked, "POST", "put: "},
		},
		{
			name: "no connection", faults: map[string][]fault{"POST": {{err: client.ErrUnreachable}}}, err: client.ErrUnreachable,
			book: []string{"put held: " + asked, "POST", "put: "},
		},
		{
			name: "another server's answer", faults: map[string][]fault{"POST": {{err: client.ErrNotAPI}}}, err: client.ErrNotAPI,
			book: []string{"put held: " + asked, "POST", "put: "},
		},
		{
			name: "in doubt", faults: map[string][]fault{"POST": {{err: errSilent}}}, err: client.ErrOutcomeUnknown,
			book: []string{"put held: " + asked, "POST", "put: " + asked},
		},
		{
			name: "the API is ill", faults: map[string][]fault{"POST": {{err: &client.APIError{Status: 500, Code: -1}}}},
			book: []string{"put held: " + asked, "POST", "put: " + asked},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if c.row != nil {
					w.put(c.row(w)...)
				}
				if c.seen != "" {
					w.seen("imp_1", c.seen)
				}
				if c.name == "two barcodes" {
					w.seen("imp_2", client.StatusReady)
				}
				w.api.on(func(call string) fault {
					if list := c.faults[call]; len(list) > 0 {
						c.faults[call] = list[1:]
						return list[0]
					}
					return fault{work: true}
				})
				if c.name == "another amount" {
					w.api.find("imp_1").Amount = "1"
				}
				answer, err := w.issue()
				assert.Equal(t, c.book, w.book.read())
				assert.ErrorIs(t, err, c.err)
				assert.Equal(t, c.reused, answer.Reused)
				if c.err == nil && c.answer != "" {
					assert.Equal(t, c.answer, string(answer.Response.Body))
					assert.Equal(t, []string{c.answer}, w.api.live())
				}
				if c.err == nil && c.answer == "" {
					assert.Error(t, answer.Response.Err(), "the API's own refusal is the answer")
				}
				if r := w.row(); r != nil {
					assert.Empty(t, r.Holder, "the hold has ended")
					assert.NotZero(t, r.Due)
				}
			})
		})
	}
}

// The loser of a race writes nothing, and asks again.
func TestIssueEntersTheTableAgain(t *testing.T) {
	t.Parallel()
	at := func(w *world, op string, n int, do func()) {
		w.store.hook(func(_ context.Context, o string, _ *Row) error {
			if o == op {
				if n--; n == 0 {
					do()
				}
			}
			return nil
		})
	}
	t.Run("written before the attempt is", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.seen("imp_2", client.StatusReady)
			at(w, "put", 1, func() {
				w.store.change(Key{"shop", "o"}, func(r *Row) { r.Attempts = append(r.Attempts, w.issued("b", "imp_2")) })
			})
			answer, err := w.issue()
			require.NoError(t, err)
			assert.Equal(t, "imp_2", string(answer.Response.Body))
			assert.True(t, answer.Reused)
			assert.NotContains(t, w.book.read(), "POST")
			assert.Equal(t, "b/imp_2 issued", w.states())
		})
	})
	t.Run("written before the barcode is answered again", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(w.issued("a", "imp_1"))
			w.seen("imp_1", client.StatusReady)
			at(w, "get", 2, func() {
				w.api.status("imp_1", client.StatusCancelled)
				w.store.change(Key{"shop", "o"}, func(r *Row) { r.Attempts[0].State = Void })
			})
			answer, err := w.issue()
			require.NoError(t, err)
			assert.Equal(t, "new_1", string(answer.Response.Body))
			assert.False(t, answer.Reused)
		})
	})
	t.Run("the customer comes to the till before the barcode is to be voided", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(w.issued("a", "imp_1"), w.issued("b", "imp_2"))
			w.seen("imp_1", client.StatusReady)
			w.seen("imp_2", client.StatusReady)
			at(w, "put", 2, func() { w.l.MarkAtTill(context.Background(), Key{"shop", "o"}) })
			_, err := w.issue(amount("1"))
			require.ErrorAs(t, err, new(*AtTillError))
			assert.Equal(t, "a/imp_1 void, b/imp_2 issued", w.states(), "the till takes it")
			assert.Equal(t, []string{"imp_2"}, w.api.live())
		})
	})
	t.Run("stopped after the attempt is written", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct{ wall, monotonic time.Duration }{{2001 * time.Millisecond, 0}, {-time.Hour, 0}, {0, 2001 * time.Millisecond}} {
			inWorld(t, func(w *world) {
				w.stopAtPut(c.wall, c.monotonic)
				_, err := w.issue()
				require.NoError(t, err)
				assert.Equal(t, []string{"put held: n2 asked", "put: ", "put held: n3 asked", "POST", "put: n3/new_1 issued"}, w.book.read(),
					"nothing was sent, and nothing is left of the first one")
			})
		}
	})
	t.Run("stopped after it is written that a barcode is to be voided", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(w.issued("a", "imp_1"))
			w.seen("imp_1", client.StatusReady)
			w.stopAtPut(3*time.Second, 3*time.Second)
			_, err := w.issue(amount("1"))
			require.NoError(t, err)
			assert.Equal(t, []string{
				"GET imp_1", "put held: a/imp_1 issued!", "put: a/imp_1 issued!", "put held: a/imp_1 issued!", "DELETE imp_1",
				"put held: a/imp_1 void, n2 asked", "POST", "put: a/imp_1 void, n2/new_1 issued",
			}, w.book.read())
		})
	})
}

func TestVoidInDoubtIsLookedUp(t *testing.T) {
	t.Parallel()
	refuses := fault{err: errRefused}
	lost, lostDone := fault{err: errSilent}, fault{err: errSilent, work: true}
	for _, c := range []struct {
		name    string
		deletes []fault
		status  client.Status // set at the first look-up after a DELETE
		calls   []string
		want    string
		err     error
		refused bool
	}{
		{name: "lost, done", deletes: []fault{lostDone}, calls: []string{"DELETE imp_1", "GET imp_1"}, want: "a/imp_1 void, n2/new_1 issued"},
		{name: "lost, not done", deletes: []fault{lost, {work: true}}, calls: []string{"DELETE imp_1", "GET imp_1", "DELETE imp_1"}, want: "a/imp_1 void, n2/new_1 issued"},
		{
			name: "lost twice", deletes: []fault{lost, lost}, calls: []string{"DELETE imp_1", "GET imp_1", "DELETE imp_1", "GET imp_1"},
			want: "a/imp_1 issued!", refused: true,
		},
		{name: "lost, paid", deletes: []fault{lost}, status: client.StatusPaid, calls: []string{"DELETE imp_1", "GET imp_1"}, want: "a/imp_1 paid"},
		{name: "lost, an unknown word", deletes: []fault{lost}, status: "settled", calls: []string{"DELETE imp_1", "GET imp_1"}, want: "a/imp_1 issued!", err: ErrSilent},
		{name: "refused", deletes: []fault{refuses}, calls: []string{"DELETE imp_1", "GET imp_1"}, want: "a/imp_1 issued!", refused: true},
		{name: "refused, paid", deletes: []fault{refuses}, status: client.StatusPaid, calls: []string{"DELETE imp_1", "GET imp_1"}, want: "a/imp_1 paid"},
		{name: "refused, cancelled", deletes: []fault{refuses}, status: client.StatusCancelled, calls: []string{"DELETE imp_1", "GET imp_1"}, want: "a/imp_1 void, n2/new_1 issued"},
		{name: "not sent", deletes: []fault{{err: client.ErrNoToken}}, calls: []string{"DELETE imp_1"}, want: "a/imp_1 issued!", err: client.ErrNoToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				a := w.issued("a", "imp_1")
				a.Voiding = true
				w.put(a)
				w.seen("imp_1", client.StatusReady)
				var calls []string
				w.api.on(func(call string) fault {
					if calls = append(calls, call); call == "DELETE imp_1" {
						f := c.deletes[0]
						c.deletes = c.deletes[1:]
						return f
					}
					if call == "GET imp_1" && c.status != "" {
						w.api.status("imp_1", c.status)
					}
					return fault{work: true}
				})
				answer, err := w.issue()
				if c.refused {
					var refused *NotVoidedError
					require.ErrorAs(t, err, &refused)
					assert.Equal(t, `the API refuses to void "imp_1", and it can still be paid`, err.Error())
				} else {
					require.ErrorIs(t, err, c.err)
				}
				if err == nil {
					assert.Equal(t, c.status == client.StatusPaid, answer.Response.Err() != nil, "the API refuses a paid order")
					c.calls = append(c.calls, "POST")
				}
				assert.Equal(t, c.calls, calls)
				assert.Equal(t, c.want, w.states())
			})
		})
	}
}

// What the API does with a barcode after its deadline is not known. The order must not depend on it.
func TestBarcodeAfterItsDeadlineThatTheAPIDoesNotVoidIsReplaced(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.issued("a", "imp_1")
		a.Deadline = w.now(-atTill)/1000 - 1
		w.put(a)
		w.seen("imp_1", client.StatusReady)
		w.api.fails("DELETE imp_1", fault{err: errRefused})
		_, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "a/imp_1 expiredx, n2/new_1 issued", w.states())
	})
}

func TestVoidInDoubtAndTheAPIIsSilent(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.issued("a", "imp_1")
		a.Voiding = true
		w.put(a)
		w.api.on(func(string) fault { return fault{err: errSilent} })
		_, err := w.issue()
		require.ErrorIs(t, err, ErrSilent)
		assert.Equal(t, "a/imp_1 issued!", w.states(), "no till takes it any more")
	})
}

func TestAttemptWithoutOutcomeIsLookedFor(t *testing.T) {
	t.Parallel()
	asked := func(w *world, ago time.Duration) Attempt {
		return Attempt{ID: "a", State: Asked, Amount: "15000", Asked: w.now(-ago), Since: w.now(-ago), Next: w.now(0), Deadline: w.now(time.Hour) / 1000}
	}
	t.Run("found", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(asked(w, time.Second))
			w.seen("imp_1", client.StatusReady)
			answer, err := w.issue()
			require.NoError(t, err)
			assert.True(t, answer.Reused)
			assert.Equal(t, []string{"LIST", "put: a/imp_1 issued", "GET imp_1"}, w.book.read())
		})
	})
	t.Run("appears while the request waits", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(asked(w, time.Second))
			w.l.spawn(func() {
				time.Sleep(3 * time.Second)
				w.seen("imp_1", client.StatusReady)
			})
			answer, err := w.issue()
			require.NoError(t, err)
			assert.True(t, answer.Reused)
			assert.Equal(t, []string{"imp_1"}, w.api.live())
		})
	})
	t.Run("does not appear", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(asked(w, 4*time.Second))
			began := time.Now()
			answer, err := w.issue()
			require.NoError(t, err)
			assert.Equal(t, "new_1", string(answer.Response.Body))
			assert.GreaterOrEqual(t, time.Since(began), 8*time.Second, "the API may be at work on it for a time-out after it was sent")
			assert.Equal(t, "a askedx, n2/new_1 issued", w.states())
		})
	})
	t.Run("not known yet", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(asked(w, time.Second))
			began := time.Now()
			_, err := w.issue()
			require.ErrorIs(t, err, ErrBusy)
			assert.Equal(t, timeout, time.Since(began))
			assert.Equal(t, "a asked", w.states())
		})
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(asked(w, time.Hour))
			w.api.fails("LIST", fault{err: errSilent})
			_, err := w.issue()
			require.ErrorIs(t, err, ErrSilent)
			assert.Equal(t, "a asked", w.states())
		})
	})
}

// Another node's hold: nothing tells when it ends.
func TestIssueWaitsForAnothersHold(t *testing.T) {
	t.Parallel()
	hold := func(w *world, d time.Duration) {
		r := w.put(w.issued("a", "imp_1"))
		r.Holder, r.HeldUntil = "other", w.now(d)
		w.store.set(r)
		w.seen("imp_1", client.StatusReady)
	}
	inWorld(t, func(w *world) {
		hold(w, 20*time.Second)
		began := time.Now()
		_, err := w.issue()
		require.ErrorIs(t, err, ErrBusy)
		assert.Equal(t, timeout, time.Since(began))
		assert.Empty(t, w.book.read(), "nothing was sent or written")
	})
	inWorld(t, func(w *world) {
		hold(w, 4200*time.Millisecond)
		began := time.Now()
		answer, err := w.issue()
		require.NoError(t, err)
		assert.True(t, answer.Reused)
		assert.Equal(t, 4200*time.Millisecond, time.Since(began))
	})
}

func TestIssueLeavesAHoldOfThisProcessAtOnce(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := make(chan struct{})
		w.api.on(func(call string) fault {
			if call == "POST" {
				<-release
			}
			return fault{work: true}
		})
		first := make(chan Answer)
		go func() {
			answer, _ := w.issue()
			first <- answer
		}()
		synctest.Wait()
		second := make(chan Answer)
		go func() {
			answer, err := w.issue(func(q *Terms) { q.PG = "galaxia" }) // not identical, and the same barcode
			assert.NoError(t, err)
			second <- answer
		}()
		time.Sleep(5050 * time.Millisecond)
		began := time.Now()
		close(release)
		assert.Equal(t, "new_1", string((<-first).Response.Body))
		answer := <-second
		assert.True(t, answer.Reused)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		assert.Zero(t, time.Since(began), "it was woken")
		assert.Empty(t, w.l.waiting)
	})
}

func TestIdenticalRequestsAreOne(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := make(chan struct{})
		w.api.on(func(string) fault {
			<-release
			return fault{work: true}
		})
		answers := make(chan Answer, 3)
		for range 3 {
			go func() {
				answer, err := w.issue()
				assert.NoError(t, err)
				answers <- answer
			}()
		}
		synctest.Wait()
		close(release)
		reused := 0
		for range 3 {
			if answer := <-answers; answer.Reused {
				reused++
			}
		}
		assert.Equal(t, 2, reused)
		assert.Len(t, w.api.live(), 1)
	})
}

// A refusal is nobody's barcode.
func TestJoinedRefusalIsNotReused(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		release := make(chan struct{})
		w.api.on(func(string) fault {
			<-release
			return fault{err: errRefused}
		})
		answers := make(chan Answer, 2)
		for range 2 {
			go func() {
				answer, _ := w.issue()
				answers <- answer
			}()
		}
		synctest.Wait()
		close(release)
		assert.False(t, (<-answers).Reused)
		assert.False(t, (<-answers).Reused)
	})
}

// The process is stopped during its call, for longer than its hold lasts. Another node gives the
// attempt up, and issues.
func TestBarcodeOfAnAttemptThatWasGivenUpIsNoAnswer(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		posts := 0
		w.api.on(func(call string) fault {
			if call == "POST" {
				if posts++; posts == 1 {
					w.clock.setBy(time.Minute, time.Minute)
					w.seen("imp_2", client.StatusReady)
					w.store.change(Key{"shop", "o"}, func(r *Row) {
						r.Attempts[0].Closed, r.Holder = true, ""
						r.Attempts = append(r.Attempts, w.issued("b", "imp_2"))
					})
				}
			}
			return fault{work: true}
		})
		_, err := w.issue()
		require.ErrorIs(t, err, ErrBusy, "its time is over")
		assert.Equal(t, "n2/new_1 issued!x, b/imp_2 issued", w.states())
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "imp_2", string(answer.Response.Body))
		assert.Equal(t, []string{"imp_2"}, w.api.live())
	})
}

// The process is stopped during its call. Another node finds the payment, and the app has it voided,
// or the look-up shows the payment of that node's own call.
func TestBarcodeThatIsAnotherOnesIsNoAnswer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(r *Row){
		"found, and voided": func(r *Row) { r.Attempts[0].ImpUID, r.Attempts[0].State = "new_1", Void },
		"found, and to be voided": func(r *Row) {
			r.Attempts[0].ImpUID, r.Attempts[0].State, r.Attempts[0].Voiding = "new_1", Issued, true
		},
		"found for another attempt": func(r *Row) {
			r.Attempts = append(r.Attempts, Attempt{ID: "b", State: Issued, ImpUID: "new_1", Amount: "15000"})
		},
		"another one was found": func(r *Row) { r.Attempts[0].ImpUID, r.Attempts[0].State = "imp_2", Issued },
	} {
		inWorld(t, func(w *world) {
			w.api.on(func(call string) fault {
				if call == "POST" {
					w.clock.setBy(time.Minute, time.Minute)
					w.store.change(Key{"shop", "o"}, change)
				}
				return fault{work: true}
			})
			_, err := w.issue()
			assert.ErrorIs(t, err, ErrBusy, name)
			synctest.Wait()
		})
	}
}

// What the API has answered stays true if the store fails afterwards.
func TestStoreFailsAfterTheCall(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.api.on(func(call string) fault {
			if call == "POST" {
				w.store.hook(broken)
			}
			return fault{work: true}
		})
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		assert.Equal(t, "n2 asked", w.states(), "a look-up will restore it")
	})
}

func TestAcceptedAnswerThatCannotBeReadLeavesTheAttempt(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.acc.API = unreadable{w.api}
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "garbage", string(answer.Response.Body), "it is the app's")
		assert.Equal(t, "n2 asked", w.states())
	})
}

// unreadable is an API whose answers to POST /cvs have no payment.
type unreadable struct{ *fakeAPI }

func (u unreadable) Issue(ctx context.Context, r *Request, id string, maySend func() error) (Seen, error) {
	seen, err := u.fakeAPI.Issue(ctx, r, id, maySend)
	seen.Answer.Body = []byte("garbage")
	return Seen{Answer: seen.Answer}, err
}

func TestAlarmIsReported(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		a := w.issued("a", "imp_1")
		a.Fields = []string{"vbank_num"}
		w.put(a)
		w.seen("imp_1", client.StatusReady)
		_, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, []string{"a look-up lacks a field that the answer to POST /cvs had: the barcode is replaced imp_1"}, w.reported())
		assert.Equal(t, "a/imp_1 void, n2/new_1 issued", w.states())
	})
}

func TestRefusalsChangeNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(r *Row, now int64)
		terms  func(*Terms)
		want   any
	}{
		{"at the till", func(r *Row, now int64) { r.AtTill = now }, amount("1"), new(*AtTillError)},
		{"another channel", nil, func(q *Terms) { q.PG, q.Named.PG = "galaxia", true }, new(*ChannelError)},
	} {
		inWorld(t, func(w *world) {
			r := w.put(w.issued("a", "imp_1"))
			if c.change != nil {
				c.change(r, w.now(0))
				w.store.set(r)
			}
			w.seen("imp_1", client.StatusReady)
			_, err := w.issue(c.terms)
			require.ErrorAs(t, err, c.want, c.name)
			assert.Equal(t, []string{"GET imp_1"}, w.book.read())
		})
	}
}

func TestRowOfANewerFormatIsLeftAlone(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		r := w.put(w.issued("a", "imp_1"))
		r.Format = Format + 1
		w.store.set(r)
		_, err := w.issue()
		require.ErrorIs(t, err, ErrBusy)
		_, err = w.l.Void(context.Background(), w.acc, "imp_1", func(func() error) (*client.Response, error) { return nil, errors.New("sent") })
		require.ErrorIs(t, err, ErrBusy)
		w.l.MarkAtTill(context.Background(), Key{"shop", "o"})
		assert.Empty(t, w.book.read())
		assert.False(t, w.l.Down(), "it is no failure of the store")
	})
}

func TestTooManyAttempts(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		var all []Attempt
		for range MaxAttempts {
			a := w.issued("", "imp_1")
			a.State = Void
			all = append(all, a)
		}
		w.put(all...)
		_, err := w.issue()
		require.ErrorIs(t, err, ErrTooMany)
	})
}

// Who read a row that was removed meanwhile must not write over the next one.
// The API issues a barcode for an order that is paid as the ledger has it: the customer must not pay
// twice. If the API does not know the payment, because a sandbox was reset, it is none.
func TestBarcodeOfAPaidOrder(t *testing.T) {
	t.Parallel()
	paid := func(w *world, s State) {
		a := w.issued("a", "imp_1")
		a.State, a.Next = s, 0
		w.put(a)
	}
	for _, s := range []State{Paid, Refunded} {
		inWorld(t, func(w *world) {
			paid(w, s)
			answer, err := w.issue()
			require.NoError(t, err)
			assert.False(t, answer.Reused)
			assert.Equal(t, []string{"new_1"}, w.api.live())
			assert.Equal(t, "n2/new_1 issued", w.states())
			answer, err = w.issue()
			require.NoError(t, err)
			assert.True(t, answer.Reused)
		})
		inWorld(t, func(w *world) {
			paid(w, s)
			w.seen("imp_1", client.StatusCancelled, refunded)
			for n := range 2 {
				w.book.read()
				_, err := w.issue()
				refusal, ok := errors.AsType[*PaidError](err)
				require.True(t, ok, err)
				assert.Equal(t, "imp_1", refusal.ImpUID)
				assert.Contains(t, err.Error(), "imp_1")
				assert.Empty(t, w.api.live())
				assert.Equal(t, n+1, w.api.posts, "one for each request")
			}
		})
		inWorld(t, func(w *world) {
			paid(w, s)
			w.api.fails("GET imp_1", fault{err: errSilent})
			_, err := w.issue()
			require.Error(t, err)
			assert.Empty(t, w.api.live(), "what is not known counts as paid")
		})
		inWorld(t, func(w *world) {
			paid(w, s)
			w.store.hook(func(_ context.Context, op string, row *Row) error {
				if op == "put" && describe(row) == "n2/new_1 issued" {
					w.store.hook(nil)
					w.store.change(Key{"shop", "o"}, func(*Row) {})
				}
				return nil
			})
			_, err := w.issue()
			require.NoError(t, err)
			assert.Equal(t, []string{"new_2"}, w.api.live(), "another one wrote meanwhile")
		})
	}
}

func TestVersionOfARemovedRowDoesNotComeBack(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.api.on(func(string) fault { return fault{err: errRefused} })
		last := uint64(0)
		w.store.hook(func(_ context.Context, op string, row *Row) error {
			if op == "put" {
				assert.Greater(t, row.Version, last)
				last = row.Version
			}
			return nil
		})
		for range 3 {
			_, err := w.issue()
			require.NoError(t, err)
			require.Nil(t, w.row())
			time.Sleep(time.Millisecond)
		}
		assert.NotZero(t, last)
	})
}

// exchanging answers the first POST with the payment of another attempt, as a look-up after a lost
// answer may.
type exchanging struct {
	*fakeAPI
	first *Seen
}

func (x *exchanging) Issue(ctx context.Context, r *Request, id string, maySend func() error) (Seen, error) {
	if first := x.first; first != nil {
		x.first = nil
		return x.show(first), nil
	}
	return x.fakeAPI.Issue(ctx, r, id, maySend)
}

func TestAPaymentIsNotNotedForTwoAttempts(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		failed := w.issued("a", "imp_1")
		failed.State = Failed
		w.put(failed)
		w.acc.API = &exchanging{w.api, w.seen("imp_1", client.StatusReady)}
		_, err := w.issue()
		require.ErrorIs(t, err, ErrBusy, "the outcome is open")
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		seen := make(map[string]bool)
		for _, id := range w.row().ImpUIDs() {
			assert.False(t, seen[id], "%s is noted twice: %s", id, w.states())
			seen[id] = true
		}
	})
}

// A list that was asked for before the API had to be done with a call does not tell that there is no
// payment, however long the answer took, or the process stood still after it.
func TestAListFromBeforeTellsNothing(t *testing.T) {
	t.Parallel()
	// appears makes the payment appear while the first list is on its way.
	appears := func(w *world) {
		lists := 0
		w.api.on(func(call string) fault {
			if lists++; call != "LIST" || lists > 1 {
				return fault{work: true}
			}
			w.clock.setBy(20*time.Second, 0)
			return fault{work: true}
		})
	}
	attempt := func(w *world) Attempt {
		return Attempt{ID: "a", State: Asked, Amount: "15000", Began: w.now(-time.Minute) / 1000, Asked: w.now(0), Since: w.now(0), Next: w.now(0)}
	}
	t.Run("request", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(attempt(w))
			appears(w)
			_, err := w.issue()
			require.NoError(t, err)
			assert.Equal(t, []string{"LIST", "LIST"}, w.book.read()[:2], "it is listed again before the attempt is given up")
		})
	})
	t.Run("worker", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.put(attempt(w))
			appears(w)
			w.work()
			assert.Equal(t, "a asked", w.states())
			w.work()
			assert.Equal(t, "a askedx", w.states())
		})
	})
	t.Run("without the store", func(t *testing.T) {
		t.Parallel()
		inWorld(t, func(w *world) {
			w.store.hook(broken)
			w.api.fails("POST", fault{err: errSilent})
			_, err := w.issue()
			require.ErrorIs(t, err, errSilent)
			w.api.on(func(string) fault {
				w.clock.setBy(0, 20*time.Second)
				return fault{work: true}
			})
			_, err = w.issue()
			require.ErrorIs(t, err, ErrBusy)
		})
	})
}

// Identical requests share an answer, but not one that was true only before the second of them came: the
// app had the barcode voided in between, and knows that.
func TestIssueDoesNotShareAnAnswerOfBefore(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(w *world) (void func()){
		"the row was read late, and another node voids": func(w *world) func() {
			late := &lateStore{mapStore: w.store, at: 2} // the last read of the first request
			w.opens = func() (Store, error) { return late, nil }
			w.l.Reopen(errBroken)
			time.Sleep(time.Minute)
			return func() {
				w.store.change(Key{"shop", "o"}, func(r *Row) { r.Attempts[0].State = Void })
			}
		},
		"the look-up was late, and a node without its ledger voids": func(w *world) func() {
			w.configure(func(acc *Account) { acc.API = &lateAPI{API: acc.API} })
			return func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				void := prepare(w)
				w.put(w.issued("a", "imp_1"))
				w.seen("imp_1", client.StatusReady)
				var first sync.WaitGroup
				first.Go(func() {
					answer, err := w.issue()
					assert.NoError(t, err)
					assert.Equal(t, "imp_1", string(answer.Response.Body))
				})
				time.Sleep(opTimeout / 4)
				void()
				w.api.status("imp_1", client.StatusCancelled)
				answer, err := w.issue()
				require.NoError(t, err)
				assert.Equal(t, "new_1", string(answer.Response.Body))
				first.Wait()
			})
		})
	}
}

// lateAPI is an API whose answer to the first look-up comes late.
type lateAPI struct {
	API
	looked bool
}

func (l *lateAPI) Payment(ctx context.Context, impUID string) (Seen, error) {
	seen, err := l.API.Payment(ctx, impUID)
	if !l.looked {
		l.looked = true
		time.Sleep(opTimeout / 2)
	}
	return seen, err
}

// lateStore is a store whose answer to a read comes late.
type lateStore struct {
	*mapStore
	at int // which read, counted down
}

func (s *lateStore) Get(ctx context.Context, key Key) (*Row, error) {
	row, err := s.mapStore.Get(ctx, key)
	if s.at--; s.at == 0 {
		time.Sleep(opTimeout / 2)
	}
	return row, err
}
