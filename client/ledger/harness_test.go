package ledger

// This file holds what the tests share: a world with a clock that a test moves, a store, an API,
// and one book of what both were asked for.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

const timeout = 10 * time.Second

// world is a Ledger with all that it needs. Time passes only while every goroutine waits.
type world struct {
	t     *testing.T
	l     *Ledger
	acc   *Account
	api   *fakeAPI
	store *mapStore
	clock *testClock
	book  *book
	opens func() (Store, error) // how the store is opened

	mu     sync.Mutex
	events []Event
}

// inWorld runs a test in a new world.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &book{}
		clock := &testClock{system: systemClock{time.Now()}}
		w := &world{t: t, clock: clock, book: b, store: &mapStore{book: b, rows: map[Key]*Row{}}, api: &fakeAPI{book: b, clock: clock, pageOf: 1000}}
		w.acc = &Account{Name: "shop", API: w.api, Timeout: timeout, Keys: keys(t, "key")}
		w.opens = func() (Store, error) { return w.store, nil }
		ids := 0
		w.l = New(Options{
			Open: func() (Store, error) { return w.opens() }, clock: clock, newID: func() string {
				w.mu.Lock()
				defer w.mu.Unlock()
				ids++
				return fmt.Sprintf("n%d", ids)
			}, Report: func(e Event) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.events = append(w.events, e)
			},
		})
		w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}})
		require.NoError(t, w.l.Open())
		defer func() { require.NoError(t, w.l.Close()) }()
		test(w)
	})
}

func (w *world) use(s Settings) { w.l.Use(&s) }

// pass sets both clocks ahead, and lets the worker see it: as time that passes, but for what is done
// meanwhile.
func (w *world) pass(d time.Duration) {
	synctest.Wait()
	w.clock.setBy(d-2*time.Second, d-2*time.Second)
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

// node returns another Ledger with the same store, API and accounts. It does not work.
func (w *world) node() *Ledger {
	l := New(Options{Open: func() (Store, error) { return w.store, nil }, clock: w.clock})
	l.Use(&Settings{Accounts: map[string]*Account{"shop": w.acc}})
	require.NoError(w.t, l.Open())
	w.t.Cleanup(func() { require.NoError(w.t, l.Close()) })
	return l
}

// lines counts the lines of the book since the last read of it that begin with a word.
func (w *world) lines(word string) (n int) {
	for _, line := range w.book.read() {
		if strings.HasPrefix(line, word) {
			n++
		}
	}
	return n
}

// reported returns the messages to the operator.
func (w *world) reported() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		list = append(list, strings.TrimSpace(e.Message+" "+e.ImpUID))
	}
	return list
}

// counted returns the kinds of the events that are counted.
func (w *world) counted() (kinds []EventKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind != 0 {
			kinds = append(kinds, e.Kind)
		}
	}
	return kinds
}

// configure changes the account, as a new configuration does.
func (w *world) configure(change func(acc *Account)) {
	acc := *w.acc
	if acc.Tells != nil {
		acc.Tells = new(*acc.Tells)
	}
	change(&acc)
	w.acc = &acc
	w.use(Settings{Accounts: map[string]*Account{"shop": w.acc}})
}

// put stores a row as it is.
func (w *world) put(attempts ...Attempt) *Row {
	row := &Row{Format: Format, Account: "shop", Order: "o", Version: 1, Due: 1, Attempts: attempts}
	w.store.set(row)
	return row
}

// row returns the stored row of the order, after all writes behind an answer.
func (w *world) row() *Row {
	synctest.Wait()
	return w.store.get(Key{"shop", "o"})
}

// stopAtPut sets the clocks ahead when a hold is written for the first time, as if the process were
// stopped then.
func (w *world) stopAtPut(wall, monotonic time.Duration) {
	stops := 1
	w.store.hook(func(_ context.Context, op string, row *Row) error {
		if op == "put" && row.Holder != "" && stops > 0 {
			stops--
			w.clock.setBy(wall, monotonic)
		}
		return nil
	})
}

// states returns the states of the stored attempts.
func (w *world) states() string { return describe(w.row()) }

func (w *world) issue(change ...func(*Terms)) (Answer, error) {
	return w.l.Issue(context.Background(), w.acc, request(change...))
}

// request is a POST /cvs.
func request(change ...func(*Terms)) *Request {
	r := &Request{Terms: Terms{Order: "o", Amount: "15000"}}
	for _, c := range change {
		c(&r.Terms)
	}
	r.Identity = fmt.Sprint(r.Terms)
	return r
}

func amount(won string) func(*Terms) { return func(q *Terms) { q.Amount = won } }

// now returns Unix milliseconds d ahead.
func (w *world) now(d time.Duration) int64 { return w.clock.Now().wall + d.Milliseconds() }

// issued is an attempt with a barcode, asked for a while ago.
func (w *world) issued(id, impUID string) Attempt {
	return Attempt{
		ID: id, State: Issued, ImpUID: impUID, Amount: "15000", Asked: w.now(-time.Minute), Since: w.now(-time.Minute), Next: w.now(time.Hour),
		Deadline: w.now(time.Hour) / 1000,
	}
}

// seen makes the API show a payment.
func (w *world) seen(impUID string, status client.Status, change ...func(*Seen)) *Seen {
	s := &Seen{ImpUID: impUID, Order: "o", Amount: "15000", Status: status, StartedAt: w.now(0) / 1000, CVS: true, Fields: []string{"imp_uid"}}
	for _, c := range change {
		c(s)
	}
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	w.api.payments = append(w.api.payments, s)
	return s
}

func keys(t testing.TB, secrets ...string) signedurl.Keys {
	t.Helper()
	k, err := signedurl.NewKeys(secrets...)
	require.NoError(t, err)
	return k
}

// book is what happened, in order.
type book struct {
	mu    sync.Mutex
	lines []string
}

func (b *book) add(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
}

// read returns the lines since the last call, without those that only read the store.
func (b *book) read() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines
	b.lines = nil
	return lines
}

// describe names a row's attempts with their states: "!" is to be voided, "x" given up.
func describe(r *Row) string {
	if r == nil {
		return "no row"
	}
	var list []string
	for _, a := range r.Attempts {
		s := strings.TrimLeft(a.ID+"/"+a.ImpUID, "/")
		s = strings.TrimRight(s, "/") + " " + string(a.State)
		if a.Voiding {
			s += "!"
		}
		if a.Closed {
			s += "x"
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}

// testClock is the machine's clock, which can be set.
type testClock struct {
	system systemClock
	mu     sync.Mutex
	set    time.Duration // by how much the wall clock was set
	asleep time.Duration // by how much the monotonic clock went ahead alone
	jump   func()        // called at each sleep, before it
}

func (c *testClock) Now() moment {
	m := c.system.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := m.wall + c.set.Milliseconds()
	return moment{wall: wall, machine: wall, monotonic: m.monotonic + c.asleep}
}

func (c *testClock) Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	if c.jump != nil {
		c.jump()
	}
	return c.system.Sleep(ctx, d, wake)
}

func (c *testClock) setBy(wall, monotonic time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set += wall
	c.asleep += monotonic
}

// mapStore is a Store in a map.
type mapStore struct {
	book *book

	mu     sync.Mutex
	rows   map[Key]*Row
	closed int
	before func(ctx context.Context, op string, row *Row) error // called before each operation
}

var errBroken = errors.New("the disk is broken")

// hang is a before that waits for the end of the operation's time.
func hang(ctx context.Context, _ string, _ *Row) error {
	<-ctx.Done()
	return ctx.Err()
}

func broken(context.Context, string, *Row) error { return errBroken }

func (s *mapStore) enter(ctx context.Context, op string, row *Row) error {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		return before(ctx, op, row)
	}
	return nil
}

func (s *mapStore) hook(before func(ctx context.Context, op string, row *Row) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *mapStore) set(row *Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[row.Key()] = row.Clone()
}

func (s *mapStore) get(key Key) *Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	if row := s.rows[key]; row != nil {
		return row.Clone()
	}
	return nil
}

// change writes a row as another node would.
func (s *mapStore) change(key Key, change func(*Row)) {
	row := s.get(key)
	if row == nil {
		row = &Row{Format: Format, Account: key.Account, Order: key.Order, Version: 1 << 40}
	}
	change(row)
	row.Version++
	s.set(row)
}

func (s *mapStore) Get(ctx context.Context, key Key) (*Row, error) {
	if err := s.enter(ctx, "get", nil); err != nil {
		return nil, err
	}
	if row := s.get(key); row != nil {
		return row, nil
	}
	return nil, ErrNotFound
}

func (s *mapStore) GetByImpUID(ctx context.Context, account, impUID string) (*Row, error) {
	if err := s.enter(ctx, "find", nil); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.rows {
		if row.Account == account && slices.Contains(row.ImpUIDs(), impUID) {
			return row.Clone(), nil
		}
	}
	return nil, ErrNotFound
}

func (s *mapStore) Put(ctx context.Context, row *Row, was uint64, lazy bool) error {
	if err := s.enter(ctx, "put", row); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := s.rows[row.Key()]
	if stored == nil && was != 0 || stored != nil && (stored.Version != was || stored.Format > Format) {
		return ErrConflict
	}
	held := ""
	if row.Holder != "" {
		held = " held"
	}
	s.book.add("put%s: %s", held, describe(row))
	if s.rows[row.Key()] = row.Clone(); row.Empty() {
		delete(s.rows, row.Key())
	}
	return nil
}

func (s *mapStore) Due(ctx context.Context, queue Queue, now int64, limit int) ([]*Row, error) {
	if err := s.enter(ctx, "due", nil); err != nil {
		return nil, err
	}
	list := s.some(math.MaxInt, func(r *Row) bool { return isDue(r, queue, now) })
	if queue != Looks { // the tests of the worker expect the order of the keys
		slices.SortStableFunc(list, func(a, b *Row) int { return cmp.Compare(a.QueueDue, b.QueueDue) })
	}
	return list[:min(limit, len(list))], nil
}

func (s *mapStore) List(ctx context.Context, after Key, limit int) ([]*Row, error) {
	if err := s.enter(ctx, "list", nil); err != nil {
		return nil, err
	}
	return s.some(limit, func(r *Row) bool { return byKey(r.Key(), after) > 0 }), nil
}

// isDue reports whether Due returns a row.
func isDue(r *Row, queue Queue, now int64) bool {
	if r.Format > Format {
		return false
	}
	if queue == Looks {
		return r.Due <= now
	}
	return r.Queue == queue && r.QueueDue <= now
}

func (s *mapStore) some(limit int, wanted func(*Row) bool) (list []*Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range s.rows {
		if wanted(row) {
			list = append(list, row.Clone())
		}
	}
	slices.SortFunc(list, func(a, b *Row) int { return byKey(a.Key(), b.Key()) })
	return list[:min(limit, len(list))]
}

func byKey(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Order, b.Order))
}

func (s *mapStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// fakeAPI is the API in memory.
type fakeAPI struct {
	book  *book
	clock *testClock

	mu       sync.Mutex
	payments []*Seen
	posts    int
	pageOf   int                     // payments of a page
	unsorted bool                    // pages are in no order of time
	asked    [][2]int64              // the times of the pages that were asked for
	answer   func(call string) fault // chooses what happens to a call, such as "POST" or "GET imp_1"
}

// fault is what happens to a call.
type fault struct {
	err  error
	work bool // the API does its work before the error
}

// The API's ends of a call.
var (
	errSilent  = fmt.Errorf("%w: error-canary", client.ErrOutcomeUnknown)
	errRefused = &client.APIError{Status: 200, Code: 1, Message: "no"}
	errMissing = &client.APIError{Status: 404, Code: -1, Message: "none"}
)

// fails makes calls fail in turn, and then no more.
func (f *fakeAPI) fails(call string, faults ...fault) {
	f.on(func(c string) fault {
		if c != call || len(faults) == 0 {
			return fault{work: true}
		}
		first := faults[0]
		faults = faults[1:]
		return first
	})
}

func (f *fakeAPI) on(answer func(call string) fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer = answer
}

func (f *fakeAPI) enter(call string) fault {
	f.book.add("%s", call)
	f.mu.Lock()
	answer := f.answer
	f.mu.Unlock()
	if answer == nil {
		return fault{work: true}
	}
	return answer(call)
}

func (f *fakeAPI) Now() time.Time { return time.UnixMilli(f.clock.Now().wall) }

func (f *fakeAPI) EarliestStart(local time.Time) int64 { return local.Add(-2 * time.Second).Unix() }

func (f *fakeAPI) Issue(_ context.Context, r *Request, id string, maySend func() error) (Seen, error) {
	if maySend != nil {
		if err := maySend(); err != nil {
			return Seen{}, fmt.Errorf("%w: %w", client.ErrWithdrawn, err)
		}
	}
	end := f.enter("POST")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.payments {
		if p.Order == r.Order && p.Status == client.StatusPaid {
			end = fault{err: errRefused}
		}
	}
	if !end.work {
		refusal, ok := errors.AsType[*client.APIError](end.err)
		if ok {
			return Seen{Answer: &client.Response{Status: refusal.Status, Code: refusal.Code}}, end.err
		}
		return Seen{}, end.err
	}
	f.posts++
	p := &Seen{
		ImpUID: fmt.Sprintf("new_%d", f.posts), Order: r.Order, Amount: r.Amount, Status: client.StatusReady, StartedAt: f.Now().Unix(),
		CVS: true, Fields: []string{"imp_uid"}, Barcode: r.Own,
	}
	f.payments = append(f.payments, p)
	if end.err != nil {
		return Seen{}, end.err
	}
	return f.show(p), nil
}

// show is a payment with the API's whole answer.
func (f *fakeAPI) show(p *Seen) Seen {
	s := *p
	s.Answer = &client.Response{Status: 200, Body: []byte(p.ImpUID)}
	return s
}

func (f *fakeAPI) find(impUID string) *Seen {
	for _, p := range f.payments {
		if p.ImpUID == impUID {
			return p
		}
	}
	return nil
}

func (f *fakeAPI) Payment(_ context.Context, impUID string) (Seen, error) {
	end := f.enter("GET " + impUID)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.find(impUID)
	switch {
	case end.err != nil:
		return Seen{}, end.err
	case p == nil:
		return Seen{}, errMissing
	}
	return f.show(p), nil
}

func (f *fakeAPI) Payments(_ context.Context, order string) (list []Seen, err error) {
	end := f.enter("LIST")
	f.mu.Lock()
	defer f.mu.Unlock()
	if end.err != nil {
		return nil, end.err
	}
	for _, p := range f.payments {
		if p.Order == order {
			list = append(list, *p)
		}
	}
	return list, nil
}

// Page lists pages of pageOf payments.
func (f *fakeAPI) Page(_ context.Context, status client.Status, from, to int64, page int) (list []Seen, more bool, err error) {
	end := f.enter(fmt.Sprintf("PAGE %s %d", status, page))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, [2]int64{from, to})
	if end.err != nil {
		return nil, false, end.err
	}
	for _, p := range f.payments {
		if at := p.listedTime(status); p.Status == status && at >= from && at <= to {
			list = append(list, *p)
		}
	}
	if !f.unsorted {
		slices.SortStableFunc(list, func(a, b Seen) int { return cmp.Compare(a.listedTime(status), b.listedTime(status)) })
	}
	first, last := min((page-1)*f.pageOf, len(list)), min(page*f.pageOf, len(list))
	return list[first:last], last < len(list), nil
}

// change changes a payment.
func (f *fakeAPI) change(impUID string, change ...func(*Seen)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range change {
		c(f.find(impUID))
	}
}

func (f *fakeAPI) Void(_ context.Context, impUID string, maySend func() error) (*client.Response, error) {
	if maySend != nil {
		if err := maySend(); err != nil {
			return nil, fmt.Errorf("%w: %w", client.ErrWithdrawn, err)
		}
	}
	end := f.enter("DELETE " + impUID)
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.find(impUID)
	if end.work {
		if p == nil || p.Status != client.StatusReady {
			return &client.Response{Status: 200, Code: 1}, nil
		}
		p.Status = client.StatusCancelled
	}
	if end.err != nil {
		return nil, end.err
	}
	return &client.Response{Status: 200, Body: []byte(impUID)}, nil
}

// status sets the status of a payment.
func (f *fakeAPI) status(impUID string, status client.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.find(impUID).Status = status
}

// live returns the payments of the order that a till would take.
func (f *fakeAPI) live() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.payments {
		if p.Status == client.StatusReady {
			list = append(list, p.ImpUID)
		}
	}
	return list
}

// listedTime is the time by which the API lists a payment.
func (s *Seen) listedTime(status client.Status) int64 {
	if status == client.StatusPaid {
		return s.PaidAt
	}
	return s.CancelledAt
}
