package ledger

// This file holds tests of the worker: what it does about each attempt that is due.

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// work works once on what is due.
func (w *world) work() int { return w.l.workOnce(context.Background()) }

// due is an attempt that is to be looked at now.
func due(a Attempt, change ...func(*Attempt)) Attempt {
	a.Next = 1
	for _, c := range change {
		c(&a)
	}
	return a
}

func TestWorkerByStateAndAnswer(t *testing.T) {
	t.Parallel()
	is := func(s State) func(*Attempt) { return func(a *Attempt) { a.State = s } }
	over := func(a *Attempt) { a.Deadline -= 2 * 3600 }
	voiding := func(a *Attempt) { a.Voiding = true }
	asked := func(ago time.Duration, closed bool) func(*Attempt) {
		return func(a *Attempt) {
			a.State, a.ImpUID, a.Closed = Asked, "", closed
			a.Asked += (time.Minute - ago).Milliseconds()
		}
	}
	const never = time.Duration(-1)
	for _, c := range []struct {
		name    string
		attempt []func(*Attempt)
		seen    client.Status
		book    []string // without the claim
		next    time.Duration
		report  string
	}{
		{"issued, ready", nil, client.StatusReady, []string{"GET imp_1", "put: a/imp_1 issued"}, time.Hour + 3*time.Minute, ""},
		{"issued, paid", nil, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, ""},
		{"issued, cancelled", nil, client.StatusCancelled, []string{"GET imp_1", "put: a/imp_1 void"}, time.Minute, ""},
		{"issued, over", []func(*Attempt){over}, client.StatusReady, []string{"GET imp_1", "put: a/imp_1 expired"}, never, ""},
		{"issued, over, paid", []func(*Attempt){over}, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, ""},
		{"issued, over, an unknown payment", []func(*Attempt){over}, "", []string{"GET imp_1", "put: a/imp_1 failed"}, time.Minute, ""},
		{"issued, an unknown payment", nil, "", []string{"GET imp_1", "put: a/imp_1 issued"}, 2 * time.Minute, ""},
		{"to be voided", []func(*Attempt){voiding}, client.StatusReady, []string{"put held: a/imp_1 issued!", "DELETE imp_1", "put: a/imp_1 void"}, time.Minute, ""},
		{
			"to be voided, paid", []func(*Attempt){voiding}, client.StatusPaid,
			[]string{"put held: a/imp_1 issued!", "DELETE imp_1", "GET imp_1", "put: a/imp_1 paid"}, never, "",
		},
		{"void, still ready", []func(*Attempt){is(Void)}, client.StatusReady, []string{"GET imp_1", "put: a/imp_1 void"}, 9 * time.Minute, ""},
		{"void, cancelled", []func(*Attempt){is(Void)}, client.StatusCancelled, []string{"GET imp_1", "put: a/imp_1 void"}, 9 * time.Minute, ""},
		{"void, paid after all", []func(*Attempt){is(Void)}, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, "a barcode was paid after it was voided imp_1"},
		{"void, an unknown payment", []func(*Attempt){is(Void)}, "", []string{"GET imp_1", "put: a/imp_1 void"}, 9 * time.Minute, ""},
		{
			"issued, failed", nil, client.StatusFailed,
			[]string{"GET imp_1", "put held: a/imp_1 issued!", "DELETE imp_1", "GET imp_1", "put: a/imp_1 failed"}, time.Minute, "",
		},
		{
			"failed, ready after all", []func(*Attempt){is(Failed)}, client.StatusReady,
			[]string{"GET imp_1", "put held: a/imp_1 failed!", "DELETE imp_1", "put: a/imp_1 void"}, time.Minute, "",
		},
		{"failed, as before", []func(*Attempt){is(Failed)}, client.StatusFailed, []string{"GET imp_1", "put: a/imp_1 failed"}, 9 * time.Minute, ""},
		{"failed, paid after all", []func(*Attempt){is(Failed)}, client.StatusPaid, []string{"GET imp_1", "put: a/imp_1 paid"}, never, "a barcode was paid after it was voided imp_1"},
		{"asked, found", []func(*Attempt){asked(time.Minute, false)}, client.StatusReady, []string{"LIST", "put: a/imp_1 issued"}, time.Hour + 3*time.Minute, ""},
		{"asked, none", []func(*Attempt){asked(time.Minute, false)}, "", []string{"LIST", "put: a askedx"}, time.Minute, ""},
		{"given up, none", []func(*Attempt){asked(time.Minute, true)}, "", []string{"LIST", "put: a askedx"}, 9 * time.Minute, ""},
		{
			"given up, found", []func(*Attempt){asked(time.Minute, true)}, client.StatusReady, []string{"LIST", "put: a/imp_1 issued!x"}, time.Minute,
			"the payment of an attempt that was given up has appeared: it is voided, or was paid imp_1",
		},
		{
			"given up, paid", []func(*Attempt){asked(time.Minute, true)}, client.StatusPaid, []string{"LIST", "put: a/imp_1 paidx"}, never,
			"the payment of an attempt that was given up has appeared: it is voided, or was paid imp_1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.put(due(w.issued("a", "imp_1"), c.attempt...))
				if c.seen != "" {
					w.seen("imp_1", c.seen)
				}
				require.Equal(t, 1, w.work())
				assert.Equal(t, c.book, w.book.read()[1:])
				a := w.row().Attempts[0]
				switch c.next {
				case never:
					assert.Zero(t, a.Next)
				default:
					assert.WithinDuration(t, time.UnixMilli(w.now(c.next)), time.UnixMilli(a.Next), time.Second)
				}
				if c.report == "" {
					assert.Empty(t, w.reported())
				} else {
					assert.Equal(t, []string{c.report}, w.reported())
				}
				assert.Empty(t, w.row().Holder)
				assert.Greater(t, w.row().Due, w.now(0))
			})
		})
	}
}

// After its deadline a void barcode is looked up for the last time.
func TestWorkerLooksOnceMoreAfterTheDeadline(t *testing.T) {
	t.Parallel()
	for status, want := range map[client.Status]string{client.StatusPaid: "a/imp_1 paid", client.StatusCancelled: "a/imp_1 void"} {
		inWorld(t, func(w *world) {
			w.put(due(w.issued("a", "imp_1"), func(a *Attempt) { a.State, a.Since, a.Deadline = Void, w.now(-2*time.Hour), w.now(-time.Hour)/1000 }))
			w.seen("imp_1", status)
			w.work()
			assert.Contains(t, w.book.read(), "GET imp_1")
			assert.Equal(t, want, w.states())
			assert.Zero(t, w.row().Attempts[0].Next)
		})
	}
}

func TestWorkerPausesLongerAfterEachFailure(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]func(*Attempt){
		"asked":        func(a *Attempt) { a.State, a.ImpUID = Asked, "" },
		"over":         func(a *Attempt) { a.Deadline -= 2 * 3600 },
		"void":         func(a *Attempt) { a.State = Void },
		"unknown word": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				if a == nil {
					w.seen("imp_1", "settled")
					a = func(a *Attempt) { a.Deadline -= 2 * 3600 }
				} else {
					w.api.on(func(string) fault { return fault{err: errSilent} })
				}
				w.put(due(w.issued("a", "imp_1"), a))
				for n, pause := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second} {
					require.Equal(t, 1, w.work(), "it is due")
					assert.Equal(t, w.now(pause), w.row().Due)
					assert.Equal(t, n+1, w.row().Tries)
					time.Sleep(pause - time.Millisecond)
					assert.Zero(t, w.work())
					time.Sleep(time.Millisecond)
				}
				assert.Equal(t, []string{"an order's payments could not be looked at several times, and will be again"}, w.reported(), "once")
				w.api.on(nil)
				w.seen("imp_1", client.StatusPaid)
				if name != "unknown word" {
					w.work()
					assert.Zero(t, w.row().Tries)
				}
			})
		})
	}
}

func TestWorkerLooksAtEveryAttemptInSpiteOfAFailure(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(due(w.issued("a", "imp_1"), func(a *Attempt) { a.Voiding = true }), due(w.issued("b", "imp_2"), func(a *Attempt) { a.State = Void }))
		w.seen("imp_1", client.StatusReady)
		w.seen("imp_2", client.StatusPaid)
		w.api.on(func(call string) fault {
			if call == "DELETE imp_1" {
				return fault{err: errRefused}
			}
			return fault{work: true}
		})
		w.work()
		assert.Equal(t, "a/imp_1 issued!, b/imp_2 paid", w.states())
		assert.Equal(t, 1, w.row().Tries)
	})
}

// However it becomes known that a barcode is paid, the order's others are voided.
func TestPaidBarcodeVoidsTheOthers(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Attempt){
		"void":     func(a *Attempt) { a.State = Void },
		"given up": func(a *Attempt) { a.State, a.ImpUID, a.Closed = Asked, "", true },
		"asked":    func(a *Attempt) { a.State, a.ImpUID = Asked, "" },
		"issued":   func(*Attempt) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.put(w.issued("b", "imp_0"), due(w.issued("a", "imp_1"), change), w.issued("c", "imp_2"))
				for _, impUID := range []string{"imp_0", "imp_2"} {
					w.seen(impUID, client.StatusReady)
				}
				w.seen("imp_1", client.StatusPaid)
				w.work()
				w.work()
				assert.Empty(t, w.api.live())
				for _, a := range w.row().Attempts {
					assert.Equal(t, map[string]State{"imp_0": Void, "imp_1": Paid, "imp_2": Void}[a.ImpUID], a.State)
				}
			})
		})
	}
}
