//go:build !race

package acceptance

// This file holds the test of a shop that was away for long: many orders wait to be told.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

const (
	waitingConcurrency = 8
	// waitingHeap is by how much more the heap may be with many orders than with none.
	waitingHeap = 8 << 20
	// waitingAPI is how long the API takes for a POST /cvs.
	waitingAPI = 100 * time.Millisecond
)

// Many waiting orders take no memory, the oldest is told first when the shop is back, at concurrency, and a
// checkout does not notice. The short form does not judge the last.
func TestWaitingOrders(t *testing.T) {
	orders, pairs := 3000, 1
	if *long {
		orders, pairs = 100_000, 30
	}
	const window = 2 * time.Second
	empty := newWaitingRun(t, 0)
	emptyHeap := empty.heap(t)
	empty.process.kill()

	w := newWaitingRun(t, orders)
	wait(t.Context().Done(), time.Second) // the shop is away
	figures := table{title: "waiting orders"}
	figures.row("orders", orders)
	away := w.heap(t)
	w.open(t)
	require.True(t, eventually(90*time.Second, func() bool { return w.count() > 0 }), "the shop is not told")
	var with, without []time.Duration
	for range pairs {
		with = append(with, w.checkouts(t, window)...)
		w.gate.Lock()
		without = append(without, w.checkouts(t, window)...)
		w.gate.Unlock()
	}
	require.True(t, eventually(time.Minute, func() bool { return w.count() >= 500 }), "%d were told", w.count())
	under := w.heap(t)
	w.process.kill()

	w.mu.Lock()
	defer w.mu.Unlock()
	farthest := 0
	for position, number := range w.told {
		farthest = max(farthest, number-position, position-number)
	}
	figures.row("heap without orders", mebibytes(emptyHeap))
	figures.row("heap while the shop is away", mebibytes(away))
	figures.row("heap while it is told", mebibytes(under))
	figures.row("told", len(w.told))
	figures.row("farthest from its place by age", farthest)
	figures.row("most at once", w.most)
	figures.row("POST /cvs while the shop is told, median", median(with).Round(10*time.Microsecond))
	figures.row("POST /cvs while it is not, median", median(without).Round(10*time.Microsecond))
	figures.print(t)
	assert.Less(t, max(away, under)-emptyHeap, int64(waitingHeap))
	assert.LessOrEqual(t, farthest, 3*waitingConcurrency, "the oldest first")
	assert.Equal(t, waitingConcurrency, w.most)
	if *long {
		assert.LessOrEqual(t, median(with), median(without)*11/10)
	}
}

// waitingRun is a gateway whose shop is away at first, and then can be held.
type waitingRun struct {
	g       *gatewaytest.Gateway
	process *gatewayProcess
	admin   string
	address string
	gate    sync.RWMutex // held, no message is answered
	checked atomic.Int64

	mu   sync.Mutex
	told []int
	at   int
	most int
}

func newWaitingRun(t *testing.T, orders int) *waitingRun {
	t.Helper()
	w := &waitingRun{address: gatewaytest.Address(t), admin: gatewaytest.Address(t)}
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Emulator: emulator.Options{Fault: func(e emulator.Endpoint, _ *http.Request) emulator.Fault {
			if e == emulator.EndpointIssue {
				return emulator.Fault{Delay: waitingAPI}
			}
			return emulator.Fault{}
		}},
		Notice: fmt.Sprintf("tell http://%s/payments/{http.cvs.merchant_uid} {\nrequire heard true\n}\nconcurrency %d\nsweep off", w.address, waitingConcurrency),
	})
	w.g = g
	writeWaiting(t, g.Ledger, orders)
	w.process = &gatewayProcess{config: gatewaytest.LogErrorsOnly(strings.Replace(config, "admin off", "admin "+w.admin, 1), g.LogFile)}
	w.process.start(t)
	return w
}

// writeWaiting writes rows of orders that are paid, and that the shop is to hear of: the order with the
// lower number first.
func writeWaiting(t *testing.T, file string, orders int) {
	t.Helper()
	store, err := boltstore.Open(file, boltstore.Options{NoSync: true})
	require.NoError(t, err)
	now := time.Now()
	var all sync.WaitGroup
	const writers = 1000 // which share commits
	for first := range writers {
		all.Go(func() {
			for n := first; n < orders; n += writers {
				assert.NoError(t, store.Put(context.Background(), waitingRow(n, now), 0, false))
			}
		})
	}
	all.Wait()
	require.NoError(t, store.Close())
}

// waitingRow is the row of an order that waits.
func waitingRow(number int, now time.Time) *ledger.Row {
	since := now.Add(-time.Hour).UnixMilli() + int64(number)
	return &ledger.Row{
		Format: ledger.Format, Order: fmt.Sprintf("waiting-%d", number), Version: 1, Due: now.Add(24 * time.Hour).UnixMilli(),
		Attempts: []ledger.Attempt{{
			ID: fmt.Sprintf("id-%d", number), State: ledger.Paid, ImpUID: fmt.Sprintf("imp_%012d", number), Amount: "15000",
			Deadline: now.Add(24 * time.Hour).Unix(), Asked: since, Since: since, Verified: now.UnixMilli(), Status: "paid", PaidAt: since / 1000,
			Happenings: []ledger.Happening{{Event: tell.Paid, Seen: since}},
		}},
		Telling: ledger.Telling{Since: since}, Queue: ledger.TellQueue(""), QueueDue: since,
	}
}

// open has the shop listen.
func (w *waitingRun) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", w.address)
	require.NoError(t, err)
	server := &http.Server{Handler: w}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

func (w *waitingRun) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var number int
	_, err := fmt.Sscanf(r.URL.Path, "/payments/waiting-%d", &number)
	w.mu.Lock()
	if err == nil {
		w.told = append(w.told, number)
	}
	w.at++
	w.most = max(w.most, w.at)
	w.mu.Unlock()
	w.gate.RLock()
	defer w.gate.RUnlock()
	w.mu.Lock()
	w.at--
	w.mu.Unlock()
	fmt.Fprint(rw, `{"heard":true}`)
}

func (w *waitingRun) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told)
}

// heap returns the size of the gateway's heap after a collection of garbage.
func (w *waitingRun) heap(t *testing.T) int64 {
	t.Helper()
	get := func(path string) string {
		return w.g.Do(t, http.MethodGet, "http://"+w.admin+path, "", "").Body
	}
	get("/debug/pprof/heap?gc=1")
	return gjson.Get(get("/debug/vars"), "memstats.HeapAlloc").Int()
}

// checkouts lets apps ask for barcodes for a while, and returns how long each took.
func (w *waitingRun) checkouts(t *testing.T, window time.Duration) (list []time.Duration) {
	t.Helper()
	wait(nil, window/10) // what is under way ends
	var mu sync.Mutex
	var all sync.WaitGroup
	for until := time.Now().Add(window); len(list) == 0 || time.Now().Before(until); {
		for range 2 {
			all.Go(func() {
				body, _ := json.Marshal(map[string]any{"merchant_uid": fmt.Sprintf("checkout-%d", w.checked.Add(1)), "amount": 15000})
				began := time.Now()
				a := w.g.Do(t, http.MethodPost, w.g.Inside+"/cvs", gatewaytest.JSONType, string(body))
				took := time.Since(began)
				assert.Equal(t, http.StatusOK, a.Status, a.Body)
				mu.Lock()
				defer mu.Unlock()
				list = append(list, took)
			})
		}
		all.Wait()
	}
	return list
}

// The number of rows that are read for each message does not depend on how many orders wait.
func TestWaitingOrdersAreNotReadAgain(t *testing.T) {
	t.Parallel()
	orders, messages := 3000, 400
	if *long {
		orders, messages = 100_000, 4000
	}
	file := gatewaytest.LedgerFile(t)
	writeWaiting(t, file, orders)
	var read, told atomic.Int64
	enough := make(chan struct{})
	l := ledger.New(ledger.Options{Open: func() (ledger.Store, error) {
		store, err := boltstore.Open(file, boltstore.Options{NoSync: true})
		return countingStore{store, &read}, err
	}})
	l.Use(&ledger.Settings{Accounts: map[string]*ledger.Account{"": {
		API: presentAPI{}, Timeout: time.Second,
		Tells: &ledger.Tells{
			Timeout: time.Second, Events: []tell.Event{tell.Paid}, Retry: time.Hour, Concurrency: waitingConcurrency, Intervals: []time.Duration{time.Second},
			Send: func(context.Context, *tell.Message) ledger.Reply {
				if told.Add(1) == int64(messages) {
					close(enough)
				}
				return ledger.Reply{Verdict: ledger.Heard}
			},
		},
	}}})
	require.NoError(t, l.Open())
	l.Work()
	require.True(t, wait(enough, 2*time.Minute), "%d were told", told.Load())
	require.NoError(t, l.Close())
	figures := table{title: "rows read of waiting orders"}
	figures.row("orders", orders)
	figures.row("messages", told.Load())
	figures.row("rows read for each message", fmt.Sprintf("%.1f", float64(read.Load())/float64(told.Load())))
	figures.print(t)
	assert.LessOrEqual(t, read.Load(), 4*waitingConcurrency*told.Load())
}

// countingStore counts the rows of the queue of what the shop is to hear.
type countingStore struct {
	ledger.Store
	read *atomic.Int64
}

func (s countingStore) Due(ctx context.Context, q ledger.Queue, now int64, limit int) ([]*ledger.Row, error) {
	rows, err := s.Store.Due(ctx, q, now, limit)
	if q == ledger.TellQueue("") {
		s.read.Add(int64(len(rows)))
	}
	return rows, err
}

// presentAPI is an API that is never asked.
type presentAPI struct{ ledger.API }

func (presentAPI) Now() time.Time                      { return time.Now() }
func (presentAPI) EarliestStart(local time.Time) int64 { return local.Unix() }
