package sqlstore

// This file holds the database's clock.

import (
	"context"
	"sync"
	"time"
)

const (
	measureEvery = 10 * time.Second
	// drift is how far two clocks may part in a while, for each part of it.
	drift = 1000
	// parted is how far this machine's clocks may part between two measurements.
	parted = time.Second
)

// clock is what is known of the database's clock. Between two measurements it goes as this machine's
// monotonic clock does, which nobody sets.
type clock struct {
	wanted chan struct{} // a measurement is wanted

	mu    sync.Mutex
	known reading
}

// reading is the database's time at a moment of this machine.
type reading struct {
	milliseconds int64
	at           time.Time
	wall         int64         // at, in Unix milliseconds by this machine's wall clock
	unsure       time.Duration // by how much it may be wrong
}

// read returns the database's time at a moment.
func (r reading) read(at time.Time) int64 { return r.milliseconds + at.Sub(r.at).Milliseconds() }

// slept reports whether this machine may have slept since: its monotonic clock stands still meanwhile on
// some systems. Or its wall clock was set.
func (r reading) slept(until time.Time) bool {
	byWall := time.Duration(until.UnixMilli()-r.wall) * time.Millisecond
	return (byWall - until.Sub(r.at)).Abs() > parted
}

// Now implements ledger.Clock.
func (s *Store) Now() int64 {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	now := time.Now()
	if s.clock.known.slept(now) {
		s.clock.measureSoon()
	}
	return s.clock.known.read(now)
}

// measure asks the database for its time.
func (s *Store) measure(ctx context.Context) error {
	return s.try(ctx, func(ctx context.Context) error {
		conn, err := s.db.Conn(ctx) // waiting for one is no part of the question
		if err != nil {
			return err
		}
		defer conn.Close()
		asked := time.Now()
		var now int64
		if err := conn.QueryRowContext(ctx, s.readNow).Scan(&now); err != nil {
			return err
		}
		half := time.Since(asked) / 2
		at := asked.Add(half)
		s.clock.set(reading{now, at, at.UnixMilli(), half})
		return nil
	})
}

// set takes a reading into account. A better one is kept, unless it has become old, or a clock was set.
func (c *clock) set(r reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.known
	known.unsure += r.at.Sub(known.at) / drift
	apart := time.Duration(r.milliseconds-known.read(r.at)) * time.Millisecond
	if c.known.at.IsZero() || r.unsure <= known.unsure || apart.Abs() > r.unsure+known.unsure+2*time.Millisecond || known.slept(r.at) {
		c.known = r
	}
}

// measureSoon wants a measurement: a new connection may be to another server.
func (c *clock) measureSoon() {
	select {
	case c.wanted <- struct{}{}:
	default:
	}
}

// keepTime measures until Close.
func (s *Store) keepTime() {
	ticker := time.NewTicker(measureEvery)
	defer ticker.Stop()
	for {
		select {
		case <-s.ended.Done():
			return
		case <-ticker.C:
		case <-s.clock.wanted:
		}
		_ = s.measure(s.ended) // without it, the last one goes on
	}
}
