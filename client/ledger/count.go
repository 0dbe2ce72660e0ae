package ledger

// This file holds how the rows are counted, for metrics: in the background, and slowly, so that a large
// ledger is not read all day long.

import (
	"context"
	"math"
	"sync"
	"time"
)

const (
	countEvery = 15 * time.Second // from the beginning of a count to that of the next one at least
	// countShare is which part of the time a count reads at most. There are two.
	countShare = 100
	countedFor = 10 * time.Minute // after Counts was called
)

// Counts are the numbers of what the ledger holds, by account, as they were counted a while ago.
type Counts struct {
	Tells    map[string]TellCounts    // nil if nothing was counted yet
	Barcodes map[string]map[State]int // likewise; of a large ledger it takes minutes
}

// TellCounts are the numbers of an account's orders of which the shop is to hear something.
type TellCounts struct {
	Pending int           // without those that wait for a person
	Waiting int           // for a person
	Oldest  time.Duration // since when the shop is to hear of a pending one, at most
}

// queueCounts are TellCounts with a moment in place of a time.
type queueCounts struct {
	pending, waiting int
	oldest           int64 // Telling.Since of the oldest pending order, 0 for none
}

func (q *queueCounts) add(row *Row) {
	switch {
	case row.Queue == PersonQueue(row.Account):
		q.waiting++
	case row.Queue == TellQueue(row.Account):
		q.pending++
		if q.oldest == 0 || row.Telling.Since < q.oldest {
			q.oldest = row.Telling.Since
		}
	}
}

// counting is what was counted.
type counting struct {
	mu       sync.Mutex
	wanted   time.Duration          // when Counts was called last, by the monotonic clock
	queues   map[string]queueCounts // what the queues show, up to maxCounted rows of each
	walked   map[string]queueCounts // what a walk through all rows has shown
	barcodes map[string]map[State]int
}

// Counts returns what was counted last, and has it counted again for a while. It reads no row. Queues that
// were counted before a long time in which nobody asked are not shown: orders of which the shop has heard
// since would look as if they had been waiting all that time.
func (l *Ledger) Counts() Counts {
	now, accounts := l.now(), l.present().Accounts
	c := &l.counted
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.monotonic-c.wanted > countedFor {
		c.queues, c.walked = nil, nil
	}
	c.wanted = now.monotonic
	counts := Counts{Barcodes: c.barcodes}
	if c.queues == nil {
		return counts
	}
	counts.Tells = make(map[string]TellCounts, len(accounts))
	for name, acc := range accounts {
		if acc.Tells == nil { // what was left by an earlier configuration is told to nobody
			continue
		}
		q := c.queues[name]
		if walked := c.walked[name]; max(q.pending, q.waiting) >= maxCounted { // there may be more than were read
			q = queueCounts{max(q.pending, walked.pending), max(q.waiting, walked.waiting), q.oldest}
			if walked.oldest != 0 {
				q.oldest = min(q.oldest, walked.oldest)
			}
		}
		t := TellCounts{Pending: q.pending, Waiting: q.waiting}
		if q.oldest != 0 {
			t.Oldest = max(milliseconds(now.wall-q.oldest), 0)
		}
		counts.Tells[name] = t
	}
	return counts
}

// Count counts the rows in the background until Close: once, and then again while Counts is called. It is
// called once, after Use.
func (l *Ledger) Count() {
	ctx, cancel := context.WithCancel(context.Background())
	l.spawn(func() { <-l.closed; cancel() })
	for _, count := range []func(context.Context) bool{l.countQueues, l.countRows} {
		l.spawn(func() {
			counted := false
			for ctx.Err() == nil {
				began := l.opts.clock.Now().monotonic
				if !counted || l.isWanted(began) {
					counted = count(ctx) || counted
				}
				rest := max(countEvery-(l.opts.clock.Now().monotonic-began), 0)
				_ = l.opts.clock.Sleep(ctx, rest, nil)
			}
		})
	}
}

func (l *Ledger) isWanted(now time.Duration) bool {
	l.counted.mu.Lock()
	defer l.counted.mu.Unlock()
	return now-l.counted.wanted <= countedFor
}

// read reads some rows, and then rests for as long as its share of the time wants.
func (l *Ledger) read(ctx context.Context, rows func(context.Context, Store) ([]*Row, error)) (page []*Row, ok bool) {
	began := l.opts.clock.Now().monotonic
	err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
		page, err = rows(ctx, s)
		return err
	})
	took := l.opts.clock.Now().monotonic - began
	return page, l.opts.clock.Sleep(ctx, (countShare-1)*took, nil) == nil && err == nil
}

// countQueues counts the rows of the queues, of which there are few as a rule. It reports whether it came
// to its end.
func (l *Ledger) countQueues(ctx context.Context) bool {
	queues := make(map[string]queueCounts)
	for name, acc := range l.present().Accounts {
		if acc.Tells == nil {
			continue
		}
		var q queueCounts
		for _, queue := range []Queue{PersonQueue(name), TellQueue(name)} {
			page, ok := l.read(ctx, func(ctx context.Context, s Store) ([]*Row, error) {
				return s.Due(ctx, queue, math.MaxInt64, maxCounted)
			})
			if !ok {
				return false
			}
			for _, row := range page {
				q.add(row)
			}
		}
		queues[name] = q
	}
	l.counted.mu.Lock()
	defer l.counted.mu.Unlock()
	l.counted.queues = queues
	return true
}

// countRows counts all rows. It reports whether it came to its end.
func (l *Ledger) countRows(ctx context.Context) bool {
	walked, barcodes := make(map[string]queueCounts), make(map[string]map[State]int)
	for after := (Key{}); ; {
		page, ok := l.read(ctx, func(ctx context.Context, s Store) ([]*Row, error) { return s.List(ctx, after, batch) })
		if !ok {
			return false
		}
		for _, row := range page {
			after = row.Key()
			if row.Mark != nil {
				continue
			}
			q := walked[row.Account]
			q.add(row)
			walked[row.Account] = q
			if barcodes[row.Account] == nil {
				barcodes[row.Account] = make(map[State]int)
			}
			for i := range row.Attempts {
				barcodes[row.Account][row.Attempts[i].State]++
			}
		}
		if len(page) < batch {
			break
		}
	}
	l.counted.mu.Lock()
	defer l.counted.mu.Unlock()
	l.counted.walked, l.counted.barcodes = walked, barcodes
	return true
}
