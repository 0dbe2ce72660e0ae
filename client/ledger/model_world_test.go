package ledger

// This file holds the world of the model run: its time, its coroutines and its nodes. Nothing in it
// is concurrent: a coroutine runs until it asks the store, the API or a clock, and then the world
// says who goes on.

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"
)

// errKilled ends the coroutines of a node that has crashed. It is the value of a panic.
var errKilled = errors.New("the node has crashed")

// model is one history: a world of its own.
type model struct {
	rng      *rand.Rand
	profile  profile
	mutation mutation
	counts   *counts

	now     int64 // the true time, in Unix milliseconds
	actors  []*actor
	events  []event
	running *actor
	nodes   []*node
	store   *modelStore
	api     *modelAPI
	shop    *modelShop // nil if nobody is told
	ids     int
	began   int // of the steps that are counted

	got     map[string]string // the imp_uid that the app got last, by order
	outcome *modelPayment     // of the last answer, nil if it was none
	refused bool              // whether the API has refused a request
	faults  bool              // whether nodes, clocks and the API still fail
	longest time.Duration     // the longest pause of a worker: it need not ask when nothing is due
	changed bool              // since the invariants were checked
	problem string
	tracing bool
	trace   []string
}

// actor is a coroutine of a node.
type actor struct {
	name   string
	node   *node
	at     int64 // when it goes on
	wake   <-chan struct{}
	killed bool
	yield  func(struct{}) bool
	next   func() (struct{}, bool)
	stop   func()

	held   int64  // when it last wrote a row that is held
	sent   string // the id of the attempt that it sent last
	late   bool   // what it last asked of the store took too long
	looked int64  // when it last asked the API, less the lag of the answer

	tells   bool    // it tells the shop
	claimed int64   // when it last claimed a row for that
	frozen  *moment // the time that it sees, for a mutation
}

// event is something that happens to the world at a moment.
type event struct {
	at int64
	do func()
}

func (w *model) log(format string, args ...any) {
	if !w.tracing {
		return
	}
	who := "world"
	if w.running != nil {
		who = fmt.Sprintf("node %d, %s", w.running.node.number, w.running.name)
	}
	w.trace = append(w.trace, fmt.Sprintf("%9.3f  %-18s %s", float64(w.now-epoch)/1000, who, fmt.Sprintf(format, args...)))
}

// fail notes a broken invariant. The first one counts.
func (w *model) fail(invariant, format string, args ...any) {
	if w.problem == "" {
		w.problem = invariant + ": " + fmt.Sprintf(format, args...)
		w.log("BROKEN: %s", w.problem)
	}
}

// chance is true in n of 1000 cases, while there are faults.
func (w *model) chance(n int) bool { return w.faults && w.rng.IntN(1000) < n }

// span returns a number of milliseconds from a range.
func (w *model) span(from, to time.Duration) int64 {
	return from.Milliseconds() + w.rng.Int64N((to-from).Milliseconds()+1)
}

// short returns how long something takes that is mostly fast, and seldom slow.
func (w *model) short(seldom time.Duration) int64 {
	if w.chance(30) {
		return w.span(0, seldom)
	}
	return w.rng.Int64N(4)
}

func (w *model) after(d int64, do func()) { w.events = append(w.events, event{w.now + d, do}) }

// spawn starts a coroutine of a node.
func (w *model) spawn(n *node, name string, do func()) *actor {
	a := &actor{name: name, node: n, at: w.now}
	a.next, a.stop = iter.Pull(func(yield func(struct{}) bool) {
		a.yield = yield
		defer func() {
			if a.killed {
				_ = recover()
			}
		}()
		do()
	})
	w.actors = append(w.actors, a)
	return a
}

// pause has the running coroutine go on later. Its node may crash or stand still meanwhile.
func (w *model) pause(d int64) {
	a := w.running
	if a.killed {
		panic(errKilled)
	}
	a.at = w.now + d
	if w.chance(w.profile.nodeFaults) || (a.tells || a.name == "notice") && w.shop.strikes() {
		a.node.strike()
	}
	if !a.yield(struct{}{}) {
		panic(errKilled)
	}
}

// run lets the world go on until a moment.
func (w *model) run(until int64) {
	for w.problem == "" {
		a, e := w.choose()
		switch {
		case a == nil && e < 0, a != nil && a.due() > until, e >= 0 && w.events[e].at > until:
			w.now = max(w.now, until)
			return
		case a != nil:
			w.now = max(w.now, a.due())
			w.resume(a)
		default:
			happens := w.events[e]
			w.events = slices.Delete(w.events, e, e+1)
			w.now = max(w.now, happens.at)
			happens.do()
		}
		if w.counts.steps++; w.counts.steps-w.began > longestHistory {
			w.fail("a history ends", "it does not")
		}
		if w.changed {
			w.changed = false
			w.check()
		}
	}
}

// choose returns what comes next, a coroutine or the index of an event: one of those that are due
// first.
func (w *model) choose() (next *actor, e int) {
	first, ties := int64(1)<<62, 0
	e = -1
	candidate := func(at int64) bool {
		switch {
		case at < first:
			first, ties = at, 1
			return true
		case at > first:
			return false
		}
		ties++
		return w.rng.IntN(ties) == 0
	}
	for _, a := range w.actors {
		if candidate(max(a.due(), w.now)) {
			next, e = a, -1
		}
	}
	for i := range w.events {
		if candidate(max(w.events[i].at, w.now)) {
			next, e = nil, i
		}
	}
	return next, e
}

// due returns when the coroutine goes on.
func (a *actor) due() int64 {
	if a.wake != nil {
		select {
		case <-a.wake:
			a.wake, a.at = nil, 0
		default:
		}
	}
	return max(a.at, a.node.stoppedUntil)
}

func (w *model) resume(a *actor) {
	w.running = a
	_, goesOn := a.next()
	w.running = nil
	if !goesOn {
		w.actors = slices.DeleteFunc(w.actors, func(other *actor) bool { return other == a })
	}
	if a.node.doomed {
		a.node.crash()
	}
}

// end ends every coroutine.
func (w *model) end() {
	for _, n := range w.nodes {
		n.kill()
	}
}

// node is a process with a ledger, and the machine under it. It is the clock of its ledger.
type node struct {
	w            *model
	number       int
	ledger       *Ledger // nil while it is down
	acc          *Account
	skew         int64 // its wall clock minus the true time
	inexact      int64 // by how much it takes the store's clock to be ahead of what that is
	compared     int64 // when it last compared the store's clock, by its monotonic clock
	offset       int64 // the store's clock minus the monotonic clock, then
	zero         int64 // the true time at which its monotonic clock was 0
	stoppedUntil int64
	asked        bool             // it has called the API, and so knows that clock, since it started or its own was set
	doomed       bool             // it crashes as soon as the coroutine yields
	idle         map[Queue]*actor // the worker and the teller, while they wait for something to do
}

func (n *node) Now() moment {
	if a := n.w.running; n.w.mutation == staleClaim && a != nil && a.tells {
		if a.frozen == nil {
			a.frozen = new(n.trueNow())
		}
		return *a.frozen
	}
	return n.trueNow()
}

func (n *node) trueNow() moment {
	return moment{wall: n.w.now + n.skew, machine: n.w.now + n.skew, monotonic: time.Duration(n.w.now-n.zero) * time.Millisecond}
}

func (n *node) Sleep(_ context.Context, d time.Duration, wake <-chan struct{}) error {
	n.w.running.wake = wake
	n.w.pause((d + time.Millisecond - 1).Milliseconds())
	if !n.w.running.killed {
		n.w.running.wake = nil
	}
	return nil
}

// strike stops the node's process for a while, or ends it.
func (n *node) strike() {
	w := n.w
	if w.rng.IntN(3) == 0 {
		n.doomed = true
		return
	}
	w.counts.pauses++
	d := w.span(0, 5*time.Second)
	if w.rng.IntN(2) == 0 {
		d = w.span(0, 90*time.Second)
	}
	n.stoppedUntil = w.now + d
	if w.profile.clocks == wild && w.rng.IntN(4) == 0 { // the machine sleeps: its monotonic clock stands still
		n.zero += d
	}
	w.log("stands still for %d ms", d)
}

// kill ends the node's coroutines where they are.
func (n *node) kill() {
	n.doomed, n.ledger = false, nil
	mine := slices.Clone(n.w.actors)
	n.w.actors = slices.DeleteFunc(n.w.actors, func(a *actor) bool { return a.node == n })
	for _, a := range mine {
		if a.node == n {
			a.killed = true
			n.w.running = a
			a.stop()
		}
	}
	n.w.running = nil
}

func (n *node) crash() {
	w := n.w
	w.counts.crashes++
	w.log("node %d crashes", n.number)
	n.kill()
	w.after(w.span(0, 8*time.Second), n.start)
}

// open opens the store.
func (n *node) open() Store {
	if n.w.profile.shared {
		return sharedStore{nodeStore{n.w.store}, n}
	}
	return nodeStore{n.w.store}
}

// ahead is by how much the clock by which the node dates rows is ahead of the true time.
func (n *node) ahead() int64 {
	if n.w.profile.shared {
		return sharedStore{nodeStore{n.w.store}, n}.Now() - n.w.now
	}
	return n.skew
}

// start starts the process.
func (n *node) start() {
	w := n.w
	if n.ledger != nil {
		return
	}
	w.log("node %d starts", n.number)
	n.zero, n.stoppedUntil, n.compared, n.asked = w.now, 0, -1<<60, false
	n.ledger = New(Options{
		Open:   func() (Store, error) { return n.open(), nil },
		Report: w.report,
		clock:  n,
		spawn: func(do func()) {
			if a := w.running; !a.killed {
				w.spawn(n, a.name+", after it", do).tells = a.name == "teller"
			}
		},
		newID:  func() string { w.ids++; return fmt.Sprint("id", w.ids) },
		jitter: func(d time.Duration) time.Duration { return d*9/10 + time.Duration(w.rng.Int64N(int64(d/5+1))) },
	})
	n.idle = make(map[Queue]*actor)
	n.use()
	if err := n.ledger.Open(); err != nil {
		panic(err)
	}
	w.spawn(n, "worker", n.work)
	if w.shop != nil {
		w.spawn(n, "teller", n.tell)
	}
}

// use loads the node's configuration.
func (n *node) use() {
	if w := n.w; w.shop != nil {
		n.acc = new(*n.acc)
		n.acc.Tells = w.shop.tells(n)
	}
	n.ledger.Use(&Settings{Accounts: map[string]*Account{"": n.acc}, Keep: keepFor})
}

func (w *model) report(e Event) {
	if a := w.running; a != nil && a.killed {
		return
	}
	w.log("REPORT %s %s %v", e.Message, e.ImpUID, e.Err)
	w.counts.reports[e.Message]++
	w.checkAlarm(&e)
	if e.Message == "the ledger is down" || e.Err != nil && len(e.Err.Error()) >= 5 && e.Err.Error()[:5] == "panic" {
		w.fail("no panic, and no failure of the store", "%s: %v", e.Message, e.Err)
	}
}

// work is the worker of Ledger.Work without goroutines.
func (n *node) work() {
	ctx, l := context.Background(), n.ledger
	for {
		l.reviewIfNeeded(ctx)
		rows, _ := nodeStore{n.w.store}.Due(ctx, Looks, l.now().wall, batch)
		n.w.rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		for i, row := range rows {
			if row.Mark == nil {
				n.w.counts.claims++
			}
			if i == len(rows)-1 {
				l.workOn(ctx, row)
			} else {
				n.w.spawn(n, "worker, beside it", func() { l.workOn(ctx, row) })
			}
		}
		n.rest(Looks, l.working)
	}
}

// tell is the teller of Ledger.Work without goroutines.
func (n *node) tell() {
	for {
		n.ledger.tellAll(context.Background())
		n.rest(TellQueue(""), n.ledger.telling)
	}
}

// rest is the pause of the worker or the teller.
func (n *node) rest(queue Queue, wake bell) {
	now, longest := n.ledger.now().wall, n.w.longest
	if queue != Looks { // there is seldom something to tell
		longest = max(longest, longestRest)
	}
	next := now + longest.Milliseconds()
	for _, row := range n.w.store.rows {
		if at := place(row, queue); at != 0 && (nodeStore{n.w.store}).shown(row) {
			next = min(next, at)
		}
	}
	a := n.w.running
	n.idle[queue] = a
	_ = n.Sleep(context.Background(), max(poll, time.Duration(next-now)*time.Millisecond), wake)
	delete(n.idle, queue)
}

// place is the place of a row in a queue, 0 if it does not stand there.
func place(row *Row, queue Queue) int64 {
	switch queue {
	case Looks:
		return row.Due
	case row.Queue:
		return row.QueueDue
	default:
		return 0
	}
}

// rouse has who waits for something to do look earlier, because a row is due earlier: workers and
// tellers look every second, and here only when there is something.
func (w *model) rouse(row *Row) {
	for _, n := range w.nodes {
		for queue, a := range n.idle {
			if at := place(row, queue); at != 0 {
				a.at = min(a.at, max(w.now+poll.Milliseconds(), at-n.ahead()))
			}
		}
	}
}
