package ledger

// This file holds how all rows are read from time to time, so that none is looked at too late because
// a clock was set.

import (
	"context"
	"time"
)

// reviewIfNeeded reads every row at first, once a day, and after a clock was set.
func (l *Ledger) reviewIfNeeded(ctx context.Context) {
	now := l.noteClock()
	l.mu.Lock()
	needed := l.clockSet || now.monotonic-l.reviewed.monotonic > daily
	if needed {
		l.reviewed, l.clockSet = now, false
	}
	l.mu.Unlock()
	if needed && !l.review(ctx) {
		l.mu.Lock()
		l.clockSet = true
		l.mu.Unlock()
	}
}

// noteClock returns the time, and notes if a clock was set since every row was read. Each time by
// which a row is planned is noted: the clock may be right again when the worker looks.
func (l *Ledger) noteClock() moment {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clockSet = l.clockSet || !now.sameClock(l.reviewed)
	return now
}

// review reads every row, a page at a time, and corrects those that would be looked at too late
// because a clock was set. It reports whether it came to the end.
func (l *Ledger) review(ctx context.Context) bool {
	for after := (Key{}); ; {
		var rows []*Row
		err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
			rows, err = s.List(ctx, after, batch)
			return err
		})
		if err != nil || ctx.Err() != nil {
			return false
		}
		for _, row := range rows {
			after = row.Key()
			l.correct(ctx, row)
		}
		if len(rows) < batch {
			return true
		}
		if l.opts.clock.Sleep(ctx, time.Millisecond, nil) != nil { // it is in no hurry
			return false
		}
	}
}

// correct makes a row due if it would be too late.
func (l *Ledger) correct(ctx context.Context, row *Row) {
	acc := l.account(row.Account)
	if acc == nil || row.Format > Format {
		return
	}
	planned, e := row.Clone(), l.env(acc)
	e.atTill = row.AtTill
	e.replan(planned)
	if row.Mark != nil && *planned.Mark != *row.Mark {
		l.setMark(row.Account, *planned.Mark)
	} else if planned.Due >= row.Due && planned.QueueDue >= row.QueueDue {
		return
	}
	_ = l.update(ctx, acc, row.Key(), true, func(row *Row, e *env) { e.replan(row) })
}
