package ledger

// This file holds the sweep: the API's own lists of paid and cancelled payments are read from time to
// time, so that nothing depends on a notice.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const (
	sweepOverlap = 24 * time.Hour      // what is read again each time: a list may lag
	sweepRange   = 90 * 24 * time.Hour // the longest time that the API lists
	sweepLease   = time.Minute         // renewed while it goes on
)

// markOf returns an account's mark, zero if it is not known yet.
func (l *Ledger) markOf(account string) Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.marks[account]
}

// hasMark reports whether the account's mark is known. The first node that tells an account's shop
// makes it: what is older than its configuration is told to nobody. The store may be down at first.
func (l *Ledger) hasMark(ctx context.Context, acc *Account) bool {
	if l.markOf(acc.Name).Since != 0 {
		return true
	}
	var mark Mark
	err := l.update(ctx, acc, Key{acc.Name, markOrder}, false, func(row *Row, e *env) {
		if row.Mark == nil {
			toldFor := l.toldFor(acc.Name)
			born := e.api - int64((toldFor+bornBefore)/time.Second)
			row.Mark = &Mark{Since: e.now - toldFor.Milliseconds(), Born: born, Paid: born, Cancelled: born}
			row.Due = e.now
		}
		mark = *row.Mark
	})
	if err != nil {
		return false
	}
	l.setMark(acc.Name, mark)
	return true
}

// toldFor returns for how long a configuration of this process has told an account's shop.
func (l *Ledger) toldFor(account string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, known := l.tells[account]
	if !known {
		return 0
	}
	return l.opts.clock.Now().monotonic - since
}

func (l *Ledger) setMark(account string, mark Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks[account] = mark
}

// sweepAccount claims an account's row, reads its lists, and writes how far they were read. It reports
// whether it had the claim.
func (l *Ledger) sweepAccount(ctx context.Context, acc *Account, row *Row) bool {
	e := l.env(acc)
	if acc.Tells == nil || acc.Tells.Sweep == 0 {
		return l.postpone(ctx, row, elsewhere)
	}
	if !l.postpone(ctx, row, sweepLease) {
		return false
	}
	mark, again := *row.Mark, acc.Tells.Sweep
	s := &sweeping{l: l, acc: acc, row: row, claimed: l.opts.clock.Now().monotonic}
	err := s.lists(ctx, &mark, e.api)
	row.Tries++
	if err == nil {
		row.Tries = 0
	} else if again = max(again, pauseAfter(row.Tries)); row.Tries == tellAfter {
		l.opts.Report(Event{Message: "the API's lists of payments could not be read several times, and will be again", Key: Key{Account: acc.Name}, Err: err})
	}
	*row.Mark = mark
	l.postpone(ctx, row, again)
	return true
}

// sweeping is a sweep of an account whose row is claimed.
type sweeping struct {
	l       *Ledger
	acc     *Account
	row     *Row
	claimed time.Duration // when, by the monotonic clock
}

// keep renews the claim when half of its time is over: a node that has died must not keep the others from
// the account for long.
func (s *sweeping) keep(ctx context.Context) error {
	if s.l.opts.clock.Now().monotonic-s.claimed < sweepLease/2 {
		return nil
	}
	if !s.l.postpone(ctx, s.row, sweepLease) {
		return errClaimLost
	}
	s.claimed = s.l.opts.clock.Now().monotonic
	return nil
}

var errClaimLost = errors.New("the claim could not be renewed")

// lists reads both lists. A panic is an error.
func (s *sweeping) lists(ctx context.Context, mark *Mark, to int64) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	return errors.Join(
		s.list(ctx, client.StatusPaid, &mark.Paid, mark.Born, to),
		s.list(ctx, client.StatusCancelled, &mark.Cancelled, mark.Born, to))
}

// list reads one list, ascending, to an end that does not move. It goes on behind the last time
// seen, and by page only within one second: a payment that leaves the list while it is read would
// make the pages skip another one. The list of cancelled payments is sorted by their last change, which
// may be another time than that of the refund, so it is read by page: what a page skips, the next
// sweep finds. The mark is set when all that was found is written.
func (s *sweeping) list(ctx context.Context, status client.Status, mark *int64, born, to int64) error {
	from := max(min(*mark, to)-int64(sweepOverlap/time.Second), min(born, *mark, to), to-int64(sweepRange/time.Second)) // a clock may have been wrong, and orders of before the birth may have been moved here
	for page := 1; ; {
		list, more, err := s.acc.API.Page(ctx, status, from, to, page)
		if err != nil {
			return silent(err)
		}
		for i := range list {
			if err := s.keep(ctx); err != nil {
				return err
			}
			if err := s.l.compare(ctx, s.acc, &list[i]); err != nil {
				return err
			}
		}
		if !more {
			*mark = to
			return nil
		}
		if last := lastPaid(list); status == client.StatusPaid && last > from {
			from, page = last, 1
		} else {
			page++
		}
	}
}

// lastPaid returns the time of the last payment of a page, 0 if the page is not sorted by it.
func lastPaid(list []Seen) int64 {
	byTime := func(a, b Seen) int { return cmp.Compare(a.PaidAt, b.PaidAt) }
	if len(list) == 0 || !slices.IsSortedFunc(list, byTime) {
		return 0
	}
	return list[len(list)-1].PaidAt
}

// compare has a payment of a list looked at if its row does not know what it shows. A payment that
// this ledger did not issue is not its business.
func (l *Ledger) compare(ctx context.Context, acc *Account, p *Seen) error {
	var row *Row
	err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
		row, err = s.GetByImpUID(ctx, acc.Name, p.ImpUID)
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return l.claim(ctx, acc, p)
	case err != nil:
		return err
	}
	if i := row.find(&Attempt{ImpUID: p.ImpUID}); row.Format > Format || i < 0 || p.Order != row.Order || !row.lacks(i, p, l.env(acc)) {
		return nil
	}
	return l.note(ctx, acc, row.Key(), Hint{ImpUID: p.ImpUID}, true)
}

// claim records a payment of a list as that of an attempt whose outcome its row does not know: a store that
// failed may have lost it.
func (l *Ledger) claim(ctx context.Context, acc *Account, p *Seen) error {
	if !p.CVS || p.Order == "" {
		return nil
	}
	key := Key{acc.Name, p.Order}
	var row *Row
	err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
		row, err = s.Get(ctx, key)
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	if row.Format > Format || !row.claim(p, l.env(acc)) {
		return nil
	}
	return l.update(ctx, acc, key, true, func(row *Row, e *env) { row.claim(p, e) })
}
