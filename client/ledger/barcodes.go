package ledger

// This file holds what an operator sees of the rows, and how what waits for a person is retried.

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
)

// Filter narrows Barcodes. Zero values do not.
type Filter struct {
	Order   string // merchant_uid
	State   State  // of the order's last attempt
	Pending bool   // only what the shop is still to hear of
	Waiting bool   // only what waits for a person
	Since   int64  // Unix milliseconds: only rows with an attempt that was asked for then or later
	After   Key    // in the order of accounts and order numbers
	Limit   int
}

const (
	maxScanned = 20_000 // rows that one call of Barcodes reads
	maxQueued  = 5000   // rows of queues that it sorts
	maxCounted = 1000   // of each account by Waiting
)

// lets reports whether a row passes.
func (f *Filter) lets(r *Row) bool {
	if r.Mark != nil {
		return false
	}
	last := Attempt{}
	if n := len(r.Attempts); n > 0 {
		last = r.Attempts[n-1]
	}
	return (f.Order == "" || r.Order == f.Order) && (f.State == "" || last.State == f.State) &&
		(!f.Pending || r.pending()) && (!f.Waiting || r.Telling.Waiting != 0) && last.Asked >= f.Since
}

// Barcodes returns the rows that a filter lets pass, at most Limit, and the key to go on after, the
// zero Key at the end. Of a large ledger it may return fewer rows than there are, with a key to go
// on after: it reads a limited number. The error is ErrDown, or ErrBusy if the store is slow.
func (l *Ledger) Barcodes(ctx context.Context, f Filter) (rows []*Row, next Key, err error) {
	if f.Order != "" {
		rows, err = l.ofOrder(ctx, &f)
		return rows, Key{}, err
	}
	if f.Waiting || f.Pending {
		if rows, next, found, err := l.inQueues(ctx, &f); found || err != nil {
			return rows, next, err
		}
	}
	for after, scanned := f.After, 0; scanned < maxScanned; {
		var page []*Row
		err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
			page, err = s.List(ctx, after, batch)
			return err
		})
		if err != nil {
			return nil, Key{}, err
		}
		for _, row := range page {
			after = row.Key()
			if f.lets(row) {
				if rows = append(rows, row); len(rows) == f.Limit {
					return rows, after, nil
				}
			}
		}
		if len(page) < batch {
			return rows, Key{}, nil
		}
		scanned += len(page)
		next = after
	}
	return rows, next, nil
}

// inQueues does what Barcodes does for rows that stand in queues: an operator is not to look for a few of
// them in a large ledger. found is false if there are too many.
func (l *Ledger) inQueues(ctx context.Context, f *Filter) (rows []*Row, next Key, found bool, err error) {
	var queued []*Row
	for account := range l.present().Accounts {
		queues := []Queue{PersonQueue(account), TellQueue(account)}
		if f.Waiting {
			queues = queues[:1]
		}
		for _, q := range queues {
			err := l.use(ctx, func(ctx context.Context, s Store) error {
				page, err := s.Due(ctx, q, math.MaxInt64, maxQueued-len(queued))
				queued = append(queued, page...)
				return err
			})
			if err != nil || len(queued) >= maxQueued {
				return nil, Key{}, false, err
			}
		}
	}
	slices.SortFunc(queued, func(a, b *Row) int { return a.Key().compare(b.Key()) })
	for _, row := range queued {
		if f.After.compare(row.Key()) < 0 && f.lets(row) {
			if rows = append(rows, row); len(rows) == f.Limit {
				return rows, row.Key(), true, nil
			}
		}
	}
	return rows, Key{}, true, nil
}

// compare compares keys in the order of Store.List.
func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Account, other.Account), cmp.Compare(k.Order, other.Order))
}

// ofOrder returns the rows of an order number, which several accounts may have.
func (l *Ledger) ofOrder(ctx context.Context, f *Filter) (rows []*Row, err error) {
	for _, account := range slices.Sorted(maps.Keys(l.present().Accounts)) {
		row, err := l.Row(ctx, Key{account, f.Order})
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, err
		case f.lets(row):
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// Waiting returns how many orders wait for a person, and how many have something that the shop is
// to hear, up to a limit of 1,000 for each account.
func (l *Ledger) Waiting(ctx context.Context) (person, pending int, err error) {
	b, err := l.Backlog(ctx)
	return b.Waiting, b.Pending, err
}

// Retry has the shop told again at once about an order that waits for a person, and reports whether
// it waited. With acceptAmount, a payment of another amount than the barcode's is told as it is. The
// error is ErrDown, or ErrBusy for a row that only a newer version may write, or if the store is slow.
func (l *Ledger) Retry(ctx context.Context, key Key, acceptAmount bool) (bool, error) {
	acc := l.account(key.Account)
	if acc == nil {
		return false, nil
	}
	row, err := l.get(ctx, key)
	if err != nil || row.Telling.Waiting == 0 {
		return false, err
	}
	waited := false
	err = l.update(ctx, acc, key, false, func(row *Row, _ *env) { waited = row.retry(acceptAmount) || waited })
	return waited, err
}

// RetryAll does the same for all orders that wait for a person, and returns their number.
func (l *Ledger) RetryAll(ctx context.Context) (n int, err error) {
	began := l.now().wall
	for _, account := range slices.Sorted(maps.Keys(l.present().Accounts)) {
		for {
			var rows []*Row
			err := l.use(ctx, func(ctx context.Context, s Store) (err error) {
				rows, err = s.Due(ctx, PersonQueue(account), began, batch)
				return err
			})
			if err != nil {
				return n, err
			}
			before := n
			for _, row := range rows {
				waited, err := l.Retry(ctx, row.Key(), false)
				if err != nil {
					return n, err
				}
				if waited {
					n++
				}
			}
			if n == before { // none, or none that this version may write
				break
			}
		}
	}
	return n, nil
}

// retry has the row's payments looked at anew, and told.
func (r *Row) retry(acceptAmount bool) bool {
	if r.Telling.Waiting == 0 {
		return false
	}
	r.Telling = Telling{Since: r.Telling.Since, Until: r.Telling.Until} // a message may be on its way
	for i := range r.Attempts {
		if a := &r.Attempts[i]; slices.ContainsFunc(a.Happenings, func(h Happening) bool { return h.Done == 0 }) {
			a.Verified = 0
			a.Accepted = a.Accepted || acceptAmount
		}
	}
	return true
}
