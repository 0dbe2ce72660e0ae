package ledger

// This file holds tests of the app's own DELETE.

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// void is the app's DELETE of a barcode.
func (w *world) void(impUID string) (*client.Response, error) {
	return w.l.Void(context.Background(), w.acc, impUID, func(maySend func() error) (*client.Response, error) {
		if maySend == nil {
			w.book.add("without a hold")
		}
		return w.api.Void(context.Background(), impUID, maySend)
	})
}

func TestVoidTakesTheHold(t *testing.T) {
	t.Parallel()
	const held, deletes = "put held: a/imp_1 issued!", "DELETE imp_1"
	for _, c := range []struct {
		name  string
		end   fault
		book  []string
		err   error
		tells bool // the API's refusal is the answer
		next  time.Duration
	}{
		{"done", fault{work: true}, []string{held, deletes, "put: a/imp_1 void"}, nil, false, time.Minute},
		{"refused", fault{err: errRefused}, []string{held, deletes, "put: a/imp_1 issued!"}, errRefused, false, 0},
		{"refused in an answer", fault{work: true}, []string{held, deletes, "put: a/imp_1 issued!"}, nil, true, 0},
		{"in doubt", fault{err: errSilent}, []string{held, deletes, "put: a/imp_1 issued!"}, client.ErrOutcomeUnknown, false, time.Minute},
		{"not sent", fault{err: client.ErrUnreachable}, []string{held, deletes, "put: a/imp_1 issued"}, client.ErrUnreachable, false, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				w.put(w.issued("a", "imp_1"))
				w.seen("imp_1", client.StatusReady)
				if c.tells {
					w.api.status("imp_1", client.StatusPaid)
				}
				w.api.fails(deletes, c.end)
				resp, err := w.void("imp_1")
				require.ErrorIs(t, err, c.err)
				if err == nil {
					assert.Equal(t, c.tells, resp.Err() != nil)
				}
				assert.Equal(t, c.book, w.book.read())
				assert.Empty(t, w.row().Holder)
				assert.Equal(t, w.now(c.next), w.row().Attempts[0].Next, "when the worker looks")
			})
		})
	}
}

func TestVoidOfWhatTheLedgerDoesNotKnowIsPassedOn(t *testing.T) {
	t.Parallel()
	passed := []string{"without a hold", "DELETE imp_1"}
	for name, prepare := range map[string]func(w *world){
		"unknown":       func(*world) {},
		"void already":  func(w *world) { a := w.issued("a", "imp_1"); a.State = Void; w.put(a) },
		"store down":    func(w *world) { w.store.hook(broken); _, _ = w.l.Standing(w.t.Context(), Key{"shop", "o"}, "", "") },
		"store fails":   func(w *world) { w.store.hook(broken) },
		"fails to read": func(w *world) { w.put(w.issued("a", "imp_1")); w.failsAt("get", 1) },
		"fails to write": func(w *world) {
			w.put(w.issued("a", "imp_1"))
			w.failsAt("put", 1)
		},
		"another account's": func(w *world) {
			r := w.put(w.issued("a", "imp_1"))
			w.store.rows = map[Key]*Row{{"x", "o"}: r}
			r.Account = "x"
		},
		"gone meanwhile": func(w *world) {
			w.put(w.issued("a", "imp_1"))
			w.store.hook(func(_ context.Context, op string, _ *Row) error {
				if op == "get" {
					w.store.change(Key{"shop", "o"}, func(r *Row) { r.Attempts = nil })
				}
				return nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(w *world) {
				prepare(w)
				w.seen("imp_1", client.StatusReady)
				_, err := w.void("imp_1")
				require.NoError(t, err)
				assert.Equal(t, passed, w.book.read())
				assert.Empty(t, w.api.live())
			})
		})
	}
}

// The app gets a barcode from one node, and sends its DELETE to another one before the first has written it.
func TestVoidWaitsForTheBarcodeOfAnotherNode(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.share(0)
		w.seen("imp_1", client.StatusReady)
		time.AfterFunc(settling/2, func() { w.put(w.issued("a", "imp_1")) })
		_, err := w.void("imp_1")
		require.NoError(t, err)
		assert.Equal(t, []string{"put held: a/imp_1 issued!", "DELETE imp_1", "put: a/imp_1 void"}, w.book.read())
		_, err = w.void("imp_2")
		require.NoError(t, err)
		assert.Contains(t, w.book.read(), "without a hold", "it is not this ledger's")
	})
}

// failsAt makes the n-th operation of a kind fail, and all that follow.
func (w *world) failsAt(op string, n int) {
	w.store.hook(func(_ context.Context, o string, _ *Row) error {
		if o == op {
			n--
		}
		if n <= 0 {
			return errBroken
		}
		return nil
	})
}

func TestVoidWaitsForAnothersHold(t *testing.T) {
	t.Parallel()
	for held, want := range map[time.Duration]error{5 * time.Second: nil, 20 * time.Second: ErrBusy} {
		inWorld(t, func(w *world) {
			r := w.put(w.issued("a", "imp_1"))
			r.Holder, r.HeldUntil = "other", w.now(held)
			w.store.set(r)
			w.seen("imp_1", client.StatusReady)
			began := time.Now()
			_, err := w.void("imp_1")
			require.ErrorIs(t, err, want)
			assert.Equal(t, min(held, timeout), time.Since(began))
			assert.Equal(t, err == nil, len(w.api.live()) == 0)
		})
	}
}

func TestVoidThatIsStoppedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady)
		w.stopAtPut(3*time.Second, 3*time.Second)
		_, err := w.void("imp_1")
		require.NoError(t, err)
		assert.Equal(t, []string{
			"put held: a/imp_1 issued!", "put: a/imp_1 issued!", "put held: a/imp_1 issued!", "DELETE imp_1", "put: a/imp_1 void",
		}, w.book.read())
	})
	inWorld(t, func(w *world) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady)
		w.store.hook(func(_ context.Context, op string, _ *Row) error {
			if op == "put" {
				w.clock.setBy(6*time.Second, 6*time.Second)
			}
			return nil
		})
		_, err := w.void("imp_1")
		require.ErrorIs(t, err, ErrBusy, "it is stopped again and again")
		assert.NotContains(t, w.book.read(), "DELETE imp_1")
	})
}

// The customer comes to the till while the app voids: the app has decided.
func TestVoidIsNotKeptOffByTheTill(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady)
		w.l.MarkAtTill(context.Background(), Key{"shop", "o"})
		_, err := w.void("imp_1")
		require.NoError(t, err)
		assert.Empty(t, w.api.live())
	})
}

// A request waits for the app's own DELETE, and no longer.
func TestIssueIsWokenWhenAVoidEnds(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.put(w.issued("a", "imp_1"))
		w.seen("imp_1", client.StatusReady)
		const long = 5050 * time.Millisecond
		w.api.on(func(call string) fault {
			if call == "DELETE imp_1" {
				time.Sleep(long)
			}
			return fault{work: true}
		})
		var voiding sync.WaitGroup
		voiding.Go(func() { _, _ = w.void("imp_1") })
		synctest.Wait()
		began := time.Now()
		answer, err := w.issue()
		require.NoError(t, err)
		assert.Equal(t, "new_1", string(answer.Response.Body))
		assert.Equal(t, long, time.Since(began))
		voiding.Wait()
	})
}
