package ledger

// This file holds the model run: the code of this package, on two nodes that share a store, with an
// API, apps, customers, a shop that is told, crashes and clocks that are drawn at random. A history is the same each time
// for a seed. The long form is
//
//	go test -run '^TestModelRun$' -v -timeout 60m ./client/ledger -long -seed 2

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

var (
	long = flag.Bool("long", false, "run the long form of the model run")
	seed = flag.Uint64("seed", 1, "seed of the random numbers of the model run")
	only = flag.Int("history", -1, "print the steps of this history of the model run")
)

const (
	epoch      = 1_800_000_000_000 // when a history begins, in Unix milliseconds
	keepFor    = 3 * 24 * time.Hour
	longestDue = 5 * 24 * time.Hour

	longestRest = 15 * time.Second // of who has nothing to do

	longestHistory = 100_000 // steps
)

var modelKeys, _ = signedurl.NewKeys("secret")

// clocks says how far the machines' clocks may be wrong.
type clocks int

const (
	calm clocks = iota
	wild        // they are set, by hours too
)

// profile is what may happen in a history.
type profile struct {
	clocks        clocks
	shared        bool // the store has a clock, and those of the machines are off
	storeFaults   int  // of 1000 operations of the store, for each kind of fault
	nodeFaults    int  // of 1000 times at which a coroutine waits
	apiFaults     int  // of 1000 calls, for each kind of fault
	slowestPost   time.Duration
	slowestDelete time.Duration
	longestLag    time.Duration // of a look-up
	keepsExpired  bool          // it refuses to void a barcode whose deadline has passed
	life          []int64       // seconds from the beginning to a deadline, 0 for an unknown one
	asks          int
	orders        int
	staysPaid     bool         // it calls a payment paid of which a part was paid back
	tells         *tellProfile // nil if nobody is told
}

func drawProfile(r *rand.Rand) profile {
	pick := func(list ...time.Duration) time.Duration { return list[r.IntN(len(list))] }
	lives := [][]int64{{0}, {90, 600}, {1800, 7200}, {0, 1800}}
	return profile{
		clocks: clocks(r.IntN(2)), shared: r.IntN(2) == 0, storeFaults: []int{0, 0, 20, 60}[r.IntN(4)], nodeFaults: []int{0, 5, 15, 30}[r.IntN(4)], apiFaults: []int{0, 20, 60, 150}[r.IntN(4)],
		slowestPost: pick(timeout*4/10, timeout*4/10, 3*timeout, 9*timeout), slowestDelete: pick(timeout/2, 3*timeout),
		longestLag: pick(0, 0, timeout/2, timeout/2, 3*timeout), life: lives[r.IntN(len(lives))], asks: 2 + r.IntN(8), orders: 1 + r.IntN(8)/7,
		keepsExpired: r.IntN(2) == 0, staysPaid: r.IntN(2) == 0, tells: drawTells(r),
	}
}

// strict reports whether the API does and shows everything in time, and no clock lies that dates rows.
func (p *profile) strict() bool {
	return p.clocks == calm && p.slowestPost <= timeout*4/10 && p.longestLag <= timeout/2
}

func newModel(history uint64, m mutation, c *counts) *model {
	w := &model{rng: rand.New(rand.NewPCG(*seed, history)), now: epoch, mutation: m, counts: c, began: c.steps, faults: true, longest: poll, got: map[string]string{}}
	w.profile = drawProfile(w.rng)
	w.store = &modelStore{w: w, rows: map[Key]*Row{}, before: map[Key]*Row{}}
	w.api = &modelAPI{w: w, answers: map[*client.Response]*modelPayment{}, ahead: w.rng.Int64N(60) - 30}
	w.shop = newShop(w)
	w.store.steady = w.span(-10*time.Minute, 10*time.Minute)
	w.store.skew = w.store.steady
	for number := 1; number <= 2; number++ {
		n := &node{w: w, number: number, skew: w.anySkew(), inexact: w.rng.Int64N(50)}
		n.acc = &Account{API: nodeAPI{w.api, n}, Timeout: timeout, Keys: modelKeys}
		w.nodes = append(w.nodes, n)
		n.start()
	}
	return w
}

// history plays one history. It returns the world at its end.
func history(number uint64, m mutation, c *counts, tracing bool) *model {
	w := newModel(number, m, c)
	w.tracing = tracing
	defer w.end()
	w.log("%+v %+v", w.profile, w.profile.tells)
	w.schedule()
	c.histories++
	w.run(w.now + w.span(20*time.Second, 150*time.Second))
	w.heal()
	if w.rng.IntN(6) == 0 {
		w.outage()
	}
	w.run(w.now + (retryLimit + 3*time.Minute).Milliseconds()) // a clock that was fast can have put it off so long
	w.checkHealed()
	if !w.askAgain() {
		return w
	}
	w.longest = daily + time.Second
	watched := 75 * time.Minute
	if w.profile.clocks == wild { // the looks of the first hour may have been taken for done
		watched += watchEvery
	}
	w.hear()
	w.runIdle(watched.Milliseconds(), 300)
	w.checkWatched()
	if w.rng.IntN(10) == 0 {
		w.forget()
	}
	for day := 0; day < 45 && w.hasRows() && w.problem == ""; day++ {
		w.runIdle(daily.Milliseconds(), 320)
		w.operate(true)
	}
	for _, key := range w.keys() {
		if row := w.store.rows[key]; row != nil {
			w.fail("a row ends", "%s", inShort(row))
		}
	}
	w.checkPaid()
	w.checkHeard(w.now, false)
	return w
}

// keys returns the orders.
func (w *model) keys() []Key { return []Key{{"", "o1"}, {"", "o2"}}[:w.profile.orders] }

// allKeys returns the keys of all rows, in their order.
func (w *model) allKeys() []Key {
	return []Key{{"", markOrder}, {"", "o1"}, {"", "o2"}}[:1+w.profile.orders]
}

// hasRows reports whether an order has a row.
func (w *model) hasRows() bool {
	return slices.ContainsFunc(w.keys(), func(key Key) bool { return w.store.rows[key] != nil })
}

func (w *model) anyNode() *node { return w.nodes[w.rng.IntN(len(w.nodes))] }

func (w *model) anyOrder() string { return w.keys()[w.rng.IntN(w.profile.orders)].Order }

// anyTerms returns a request. Most are the same.
func (w *model) anyTerms(order string) Terms {
	rare := func() bool { return w.rng.IntN(6) == 0 }
	otherPG := w.rng.IntN(36) == 0
	t := Terms{Order: order, Amount: "1000", PG: "galaxia.M1"}
	life := w.profile.life[0]
	if rare() {
		t.Amount = "2000"
	}
	if rare() {
		t.Own = "0123456"
	}
	if rare() {
		life = w.profile.life[len(w.profile.life)-1]
	}
	if otherPG {
		t.PG, t.Named.PG = "galaxia.M2", true
	}
	if life != 0 {
		t.Deadline, t.Named.ExpiredAt = epoch/1000+w.api.ahead+life, true
	}
	return t
}

// schedule has the apps ask, again and again and at the same time, and the rest happen.
func (w *model) schedule() {
	at := int64(0)
	for range w.profile.asks {
		if w.rng.IntN(3) > 0 {
			at += w.span(0, 20*time.Second)
		}
		w.after(at, func() {
			switch order := w.anyOrder(); w.rng.IntN(8) {
			case 0:
				w.void(w.anyNode(), order)
			default:
				w.ask(w.anyNode(), w.anyTerms(order))
			}
		})
	}
	visits := []time.Duration{0, 0, 0, 2 * time.Minute, 2 * time.Minute, 2 * time.Minute}[w.rng.IntN(4):][:3]
	if w.shop != nil { // there is more to see of what was paid early
		visits = append(visits, 20*time.Second, 20*time.Second)
	}
	for _, latest := range visits {
		if latest != 0 {
			w.after(w.span(time.Second, latest), func() { w.visit(w.anyNode()) })
		}
	}
	if w.rng.IntN(10) == 0 {
		w.after(w.span(0, 2*time.Minute), w.forget)
	}
	if w.shop != nil {
		for range w.rng.IntN(4) {
			w.after(w.span(0, 3*time.Minute), w.forge)
		}
		if w.rng.IntN(3) == 0 {
			w.after(w.span(time.Minute, 3*time.Minute), func() { w.operate(w.rng.IntN(2) == 0) })
		}
	}
	for range w.rng.IntN(4) {
		if w.profile.shared { // whose clock does not matter
			w.after(w.span(0, 90*time.Second), func() { w.setMachine(w.anyNode()) })
		}
	}
	if w.profile.clocks == calm {
		return
	}
	for range 1 + w.rng.IntN(4) {
		w.after(w.span(0, 90*time.Second), func() {
			if w.profile.shared { // another host takes over
				w.setClock("the store", &w.store.skew)
			} else {
				w.setMachine(w.anyNode())
			}
		})
	}
}

// anySkew is by how much the clock of a machine is off.
func (w *model) anySkew() int64 {
	if w.profile.shared {
		return w.span(-10*time.Minute, 10*time.Minute)
	}
	return w.rng.Int64N(50)
}

// forget has the API forget a payment.
func (w *model) forget() {
	if n := len(w.api.payments); n > 0 {
		if p := w.api.payments[w.rng.IntN(n)]; p.paid == 0 && p.payAt == 0 {
			w.log("the API forgets %s", p.impUID)
			p.forgotten, w.changed = w.now, true
		}
	}
}

// setMachine sets a node's clock. It does not know then by how much that of the API differs.
func (w *model) setMachine(n *node) {
	w.setClock("a machine", &n.skew)
	n.asked = false
}

// setClock sets a clock, of which skew is known.
func (w *model) setClock(whose string, skew *int64) {
	if !w.faults {
		return
	}
	w.counts.clocksSet++
	by := w.span(0, []time.Duration{3 * time.Second, 5 * time.Minute, 20 * time.Hour}[w.rng.IntN(3)])
	if w.rng.IntN(2) == 0 {
		by = -by
	}
	w.log("the clock of %s is set by %d ms", whose, by)
	*skew += by
	for _, n := range w.nodes {
		if a := n.idle[TellQueue("")]; a != nil {
			a.at = min(a.at, w.now+poll.Milliseconds())
		}
	}
}

// heal ends all faults.
func (w *model) heal() {
	w.log("all is well from now on")
	w.faults, w.longest = false, longestRest
	if w.shop != nil {
		w.shop.heals = w.now + (5 * time.Minute).Milliseconds()
	}
	w.store.skew = w.store.steady
	for _, n := range w.nodes {
		n.skew, n.stoppedUntil, n.doomed = w.anySkew(), 0, false
		n.start()
	}
}

// outage has the API fail for longer than the workers try often.
func (w *model) outage() {
	w.log("the API is down")
	w.api.silent = true
	w.runIdle((20 * time.Minute).Milliseconds(), 400)
	w.log("the API is up")
	w.api.silent = false
	w.run(w.now + (retryLimit + lease).Milliseconds())
}

// checkHealed checks that nothing stays held, and that each row is due soon enough.
func (w *model) checkHealed() {
	if w.problem != "" {
		return
	}
	now := w.nodes[0].ledger.now()
	for _, key := range w.keys() {
		row := w.store.rows[key]
		if row == nil {
			continue
		}
		h := hold{length: longest(timeout)}
		if h.heldByAnother(row, now) != 0 && w.profile.clocks == calm { // one that a fast clock has written may begin now
			w.fail("no hold stays", "%s", inShort(row))
		}
		latest := now.wall + keepFor.Milliseconds()
		for i := range row.Attempts {
			if a := &row.Attempts[i]; a.State == Asked && !a.Closed {
				w.fail("what is to be decided is decided", "%s", inShort(row))
			}
			if row.Attempts[i].Next != 0 {
				latest = now.wall + daily.Milliseconds()
			}
		}
		if row.Due > latest {
			w.fail("a row is due in time", "%s", inShort(row))
		}
	}
}

// askAgain has an app ask until it has a barcode, which then is the order's only one, or a refusal
// because the order is paid. It returns false if the API makes that impossible.
func (w *model) askAgain() bool {
	for _, key := range w.keys() {
		terms := w.anyTerms(key.Order)
		terms.Named.PG = false
		w.outcome, w.refused = nil, false
		for try := 0; w.outcome == nil && !w.refused && w.problem == ""; try++ {
			if try == 30 && w.stuck(key) {
				w.counts.stuck++
				return false
			}
			if try == 30 {
				w.fail("an app that asks again gets a barcode", "order %s has none", key.Order)
			}
			if a := w.ask(w.anyNode(), terms); a == nil {
				w.fail("a node is up", "it is not")
			}
			w.run(w.now + (12 * time.Second).Milliseconds())
		}
		if w.refused && !w.api.isPaid(key.Order) {
			w.fail("an order that is not paid is not refused", "order %s", key.Order)
		}
		for _, p := range w.api.payments {
			if p.order == key.Order && p != w.outcome && w.taken(p) {
				w.fail("the answer is the only barcode that the till takes", "%s is one", p.impUID)
			}
		}
	}
	return true
}

// stuck reports whether the API refuses to void a barcode whose deadline has passed, while the row
// takes it for in time: it is the late payment of an attempt with another deadline.
func (w *model) stuck(key Key) bool {
	return w.profile.keepsExpired && slices.ContainsFunc(w.store.rows[key].Attempts, func(a Attempt) bool {
		p := w.api.find(a.ImpUID)
		return a.open() && p != nil && p.deadline != a.Deadline && !w.api.live(p)
	})
}

// runIdle lets the world go on, and checks that the workers look at nothing again and again.
func (w *model) runIdle(d int64, most int) {
	before := w.counts.claims
	w.run(w.now + d)
	if claims := w.counts.claims - before; claims > most*w.profile.orders {
		w.fail("no worker is busy with nothing", "%d claims", claims)
	}
}

// checkWatched checks that what appeared late was voided.
func (w *model) checkWatched() {
	for _, p := range w.api.payments {
		if w.api.live(p) && (w.store.rows[Key{"", p.order}] == nil || w.standing(p) != Current) {
			w.fail("no live barcode is lost track of", "%s, whose standing is %d", p.impUID, w.standing(p))
		}
	}
}

// checkPaid counts the orders that were paid twice. An API that shows a payment too late can bring
// that about: an app gives its own barcode to a customer before the API has issued it.
func (w *model) checkPaid() {
	for _, key := range w.keys() {
		paid := 0
		for _, p := range w.api.payments {
			if p.order == key.Order && p.paid != 0 && !p.freak {
				paid++
			}
		}
		if paid < 2 {
			continue
		}
		w.counts.paidTwice++
		if w.profile.strict() {
			w.fail("an order is paid once", "order %s was paid %d times", key.Order, paid)
		}
	}
}

// counts is what happened in histories.
type counts struct {
	histories, steps                                       int
	asks, answers, reused, refused, busy, failed, appVoids int
	posts, late, lost, withdrawn, deletes, refusedVoids    int
	voided, paid, paidTwice, turnedAway, stuck             int
	crashes, pauses, clocksSet, lags, claims               int
	notices, noticesLost, forged, pages                    int
	messages, unheard, refusals, doubles, mustHear         int
	slow, ambiguous, conflicts                             int
	refunds, paidVoid, toldLate, toldExpired, retried      int
	reports                                                map[string]int
}

func newCounts() *counts { return &counts{reports: make(map[string]int)} }

// rows returns the figures with their names.
func (c *counts) rows() []struct {
	name string
	n    *int
} {
	return []struct {
		name string
		n    *int
	}{
		{"histories", &c.histories},
		{"steps", &c.steps},
		{"asks for a barcode", &c.asks},
		{"answers with a barcode", &c.answers},
		{"of these, with one that the order had", &c.reused},
		{"answers that it is busy", &c.busy},
		{"answers with an error", &c.failed},
		{"refusals of the API that were passed on", &c.refused},
		{"voids by the app", &c.appVoids},
		{"POSTs", &c.posts},
		{"calls that the API worked on after the time-out", &c.late},
		{"answers of POST or DELETE that were lost", &c.lost},
		{"calls withdrawn because the hold was not fresh", &c.withdrawn},
		{"DELETEs", &c.deletes},
		{"refused though the barcode was ready", &c.refusedVoids},
		{"barcodes voided", &c.voided},
		{"barcodes paid", &c.paid},
		{"orders paid twice, the API being late", &c.paidTwice},
		{"customers turned away at the till", &c.turnedAway},
		{"orders whose barcode the API does not void", &c.stuck},
		{"crashes of a node", &c.crashes},
		{"stops of a node (SIGSTOP, sleep)", &c.pauses},
		{"clocks set", &c.clocksSet},
		{"operations of the store that took too long", &c.slow},
		{"of these, writes that were done all the same", &c.ambiguous},
		{"writes that failed because of another transaction", &c.conflicts},
		{"look-ups that lagged", &c.lags},
		{"claims of a row by a worker", &c.claims},
		{"payments paid back, or a part", &c.refunds},
		{"payments paid although they were void", &c.paidVoid},
		{"notices noted", &c.notices},
		{"notices lost", &c.noticesLost},
		{"notices forged", &c.forged},
		{"pages of lists", &c.pages},
		{"messages to the shop", &c.messages},
		{"of these, not heard", &c.unheard},
		{"of these, refused", &c.refusals},
		{"of these, heard before", &c.doubles},
		{"of these, that a barcode has expired", &c.toldExpired},
		{"of these, late", &c.toldLate},
		{"events that the shop had to hear", &c.mustHear},
		{"orders that a person retried", &c.retried},
	}
}

func (c *counts) add(other *counts) {
	rows := other.rows()
	for i, row := range c.rows() {
		*row.n += *rows[i].n
	}
	for message, n := range other.reports {
		c.reports[message] += n
	}
}

func (c *counts) String() string {
	var b strings.Builder
	for _, row := range c.rows() {
		fmt.Fprintf(&b, "\n%-52s %12d", row.name, *row.n)
	}
	for _, message := range slices.Sorted(maps.Keys(c.reports)) {
		fmt.Fprintf(&b, "\n%-52s %12d", "told the operator: "+message, c.reports[message])
	}
	return b.String()
}

// brokenHistory is a history that broke an invariant.
type brokenHistory struct {
	history int
	problem string
}

// playAll plays histories on all processors, and returns those that broke an invariant, in their
// order. It ends with the first one whose problem begins as enough says.
func playAll(number int, m mutation, enough string) (sum *counts, found []brokenHistory) {
	sum = newCounts()
	var next, end atomic.Int64
	end.Store(int64(number))
	var mu sync.Mutex
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			c := newCounts()
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				sum.add(c)
			}()
			for i := next.Add(1) - 1; i < end.Load(); i = next.Add(1) - 1 {
				w := history(uint64(i), m, c, false)
				if w.problem == "" {
					continue
				}
				mu.Lock()
				found = append(found, brokenHistory{int(i), w.problem})
				mu.Unlock()
				if strings.HasPrefix(w.problem, enough) {
					end.Store(min(end.Load(), i))
				}
			}
		})
	}
	workers.Wait()
	slices.SortFunc(found, func(a, b brokenHistory) int { return a.history - b.history })
	return sum, found
}

func TestModelRun(t *testing.T) {
	if *only >= 0 {
		w := history(uint64(*only), none, newCounts(), true)
		t.Log(strings.Join(w.trace, "\n"))
		require.Empty(t, w.problem)
		return
	}
	t.Parallel()
	number := shortRun
	if *long {
		number = 2_000_000
	}
	began := time.Now()
	sum, found := playAll(number, none, "")
	t.Logf("model run, seed %d, in %s%s", *seed, time.Since(began).Round(time.Second), sum)
	if len(found) > 0 {
		w := history(uint64(found[0].history), none, newCounts(), true)
		require.Emptyf(t, cmp.Or(w.problem, found[0].problem), "seed %d, history %d\n%s", *seed, found[0].history, strings.Join(w.trace, "\n"))
	}
}
