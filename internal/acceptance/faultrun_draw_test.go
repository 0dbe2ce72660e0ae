package acceptance

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// This file holds what the fault run draws, counts and measures with.

// sharedRand lets many goroutines draw from one source of random numbers.
type sharedRand struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (l *sharedRand) below(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.IntN(n)
}

func (l *sharedRand) between(least, most time.Duration) time.Duration {
	return least + time.Duration(l.below(int(most-least)))
}

// deck deals its cards in random order. Each card comes once before any comes again.
type deck[T any] struct {
	draw  *sharedRand
	cards []T

	mu   sync.Mutex
	left []T
}

// newDeck returns a deck. The cards of lead are dealt first, once.
func newDeck[T any](draw *sharedRand, lead, cards []T) *deck[T] {
	return &deck[T]{draw: draw, cards: cards, left: slices.Clone(lead)}
}

func (d *deck[T]) next() T {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.left) == 0 {
		d.left = slices.Clone(d.cards)
		for i := range d.left {
			j := i + d.draw.below(len(d.left)-i)
			d.left[i], d.left[j] = d.left[j], d.left[i]
		}
	}
	card := d.left[0]
	d.left = d.left[1:]
	return card
}

// again puts a card back on top, because it had no effect.
func (d *deck[T]) again(card T) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = slices.Insert(d.left, 0, card)
}

// among returns the cards and adds empty ones up to size.
func among(size int, cards ...string) []string {
	return append(cards, make([]string, size-len(cards))...)
}

// hits returns cards of which one is true.
func hits(size int) []bool {
	cards := make([]bool, size)
	cards[0] = true
	return cards
}

// faultCounts counts by name.
type faultCounts struct {
	mu     sync.Mutex
	counts map[string]int
	names  []string
}

func (c *faultCounts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	if c.counts[name]++; c.counts[name] == 1 {
		c.names = append(c.names, name)
	}
}

// wait waits, and reports whether done was closed before the time was over.
func wait(done <-chan struct{}, d time.Duration) (over bool) {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// machineLag measures how late a machine's timers are, or how slow its disk: it adds as much to any time
// that is measured.
type machineLag struct {
	began time.Time

	mu    sync.Mutex
	worst []time.Duration // of each lagSlot since began
}

const lagSlot = 100 * time.Millisecond

func (l *machineLag) watchTimers(done <-chan struct{}) {
	const tick = 5 * time.Millisecond
	for {
		due := time.Now().Add(tick)
		if wait(done, tick) {
			return
		}
		if over := time.Since(due); over > time.Millisecond {
			l.note(due, over)
		}
	}
}

// watchDisk measures how long the disk takes for what the ledger's file does when it commits: two writes,
// each with its sync.
func (l *machineLag) watchDisk(t *testing.T, done <-chan struct{}) {
	f, err := os.Create(filepath.Join(t.TempDir(), "synced"))
	if !assert.NoError(t, err) {
		return
	}
	defer f.Close()
	page := make([]byte, 4<<10)
	for !wait(done, 25*time.Millisecond) {
		began := time.Now()
		for range 2 {
			_, err := f.WriteAt(page, 0)
			assert.NoError(t, errors.Join(err, f.Sync()))
		}
		l.note(began, time.Since(began))
	}
}

func (l *machineLag) slot(at time.Time) int { return max(0, int(at.Sub(l.began)/lagSlot)) }

// note records a delay for each slot of time that it lasted.
func (l *machineLag) note(due time.Time, over time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.slot(due.Add(over))
	for len(l.worst) <= last {
		l.worst = append(l.worst, 0)
	}
	for i := l.slot(due); i <= last; i++ {
		l.worst[i] = max(l.worst[i], over)
	}
}

// between returns the greatest delay in a span of time.
func (l *machineLag) between(from, to time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var worst time.Duration
	for i := l.slot(from); i <= l.slot(to) && i < len(l.worst); i++ {
		worst = max(worst, l.worst[i])
	}
	return worst
}
