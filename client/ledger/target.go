package ledger

// This file holds what is known of an account's shop: whether it is up, and how many messages are on
// their way to it.

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	downAfter  = 3 // messages in a row that a shop did not hear
	probeFirst = 5 * time.Second
	probeLimit = time.Minute
)

// target is the shop that is told. It is known in memory only: a new process finds out by itself.
type target struct {
	mu     sync.Mutex
	onWay  map[Key]bool          // orders of which a message is on its way
	misses int                   // messages in a row that were not heard
	probe  time.Duration         // while it is down: when the next message may be sent, by the monotonic clock
	later  map[Key]time.Duration // orders that are not tried again before a moment of that clock
	tried  map[Key]int           // how often each of these was not heard
}

func (l *Ledger) target(account string) *target {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.targets[account]
	if t == nil {
		t = &target{onWay: make(map[Key]bool), later: make(map[Key]time.Duration), tried: make(map[Key]int)}
		l.targets[account] = t
	}
	return t
}

// forget has the shop tried again at once.
func (t *target) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.misses, t.probe = 0, 0
	clear(t.later)
	clear(t.tried)
}

// pauseOf returns how long a shop, or an order, is left alone after so many misses.
func pauseOf(misses int) time.Duration {
	return min(probeFirst<<min(max(misses, 1)-1, 10), probeLimit)
}

func (t *target) isDown() bool { return t.misses >= downAfter }

// room returns how many messages may be sent now.
func (t *target) room(concurrency int, now time.Duration) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isDown() {
		concurrency = 1
		if now < t.probe {
			return 0
		}
	}
	return max(concurrency-len(t.onWay), 0)
}

// window returns how many orders are to be read, to find as many as may be told: some of them may be
// left alone.
func (t *target) window(room int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isDown() {
		return maxTried
	}
	return room + len(t.onWay) + len(t.later)
}

// sort puts those orders first, while the shop is down, that it failed to hear least often. Among these
// it is the turn of the oldest, and then of the newest: it may be the older ones that make the shop fail.
func (t *target) sort(rows []*Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isDown() {
		return
	}
	if t.misses%2 == 0 {
		slices.Reverse(rows)
	}
	slices.SortStableFunc(rows, func(a, b *Row) int { return cmp.Compare(t.tried[a.Key()], t.tried[b.Key()]) })
}

// begin takes an order, unless it is taken or left alone.
func (t *target) begin(key Key, now time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.onWay[key] || t.later[key] > now {
		return false
	}
	t.onWay[key] = true
	return true
}

// end ends begin with what became of the message.
func (t *target) end(key Key, verdict Verdict, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.onWay, key)
	switch verdict {
	case Heard, Refused: // it answers: the oldest order is next
		t.misses = 0
		delete(t.later, key)
		delete(t.tried, key)
		if t.probe != 0 {
			t.probe = 0
			clear(t.later)
		}
	case Unheard:
		t.tried[key]++
		t.later[key] = now + pauseOf(t.tried[key])
		if t.isDown() && now < t.probe { // it was sent before the shop was known to be down: it is no probe
			break
		}
		if t.misses++; t.isDown() {
			t.probe = now + pauseOf(t.misses-downAfter+1)
		}
	case Withdrawn:
	}
	if len(t.tried) > maxTried {
		clear(t.tried)
		clear(t.later)
	}
}

// maxTried is how many orders are remembered that were not heard.
const maxTried = 1000
