package ledger

// This file holds what an operator sees of the rows, and how what waits for a person is retried.

import "context"

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

// Barcodes returns the rows that a filter lets pass, at most Limit, and the key to go on after, the
// zero Key at the end. Of a large ledger it may return fewer rows than there are, with a key to go
// on after: it reads a limited number.
func (l *Ledger) Barcodes(ctx context.Context, f Filter) (rows []*Row, next Key, err error) {
	return nil, Key{}, ErrDown
}

// Waiting returns how many orders wait for a person, and how many have something that the shop is
// to hear, up to a limit of 1,000 for each account.
func (l *Ledger) Waiting(ctx context.Context) (person, pending int, err error) {
	return 0, 0, ErrDown
}

// Retry has the shop told again at once about an order that waits for a person, and reports whether
// it waited. With acceptAmount, a payment of another amount than the barcode's is told as it is. The
// error is ErrDown.
func (l *Ledger) Retry(ctx context.Context, key Key, acceptAmount bool) (bool, error) {
	return false, ErrDown
}

// RetryAll does the same for all orders that wait for a person, and returns their number.
func (l *Ledger) RetryAll(ctx context.Context) (int, error) {
	return 0, ErrDown
}
