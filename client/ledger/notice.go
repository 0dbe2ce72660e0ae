package ledger

// This file holds how a notice is received.

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// Notice is a notice of the provider. It proves nothing: it says which payment to look at.
type Notice struct {
	ImpUID         string
	Status         string
	CancellationID string

	Order  string            // merchant_uid; used only if the notice is signed
	Signed *signedurl.Claims // of the URL, verified; nil if it is not signed
}

// Notice notes a notice, durably. known is false for a payment that is not this ledger's; it is
// true if it is, also if there is an error, which then means that the notice is not noted. With an
// error and known false, the ledger cannot be read, and it is not known whose the payment is.
func (l *Ledger) Notice(ctx context.Context, acc *Account, n *Notice) (known bool, err error) {
	h := Hint{ImpUID: n.ImpUID, Cancellation: n.CancellationID}
	if slices.Contains([]client.Status{client.StatusReady, client.StatusPaid, client.StatusCancelled, client.StatusFailed}, client.Status(n.Status)) {
		h.Status = n.Status
	}
	ctx = impatient(ctx)
	number, err := l.orderOf(ctx, acc.Name, n.ImpUID)
	switch {
	case err == nil:
	case n.Signed == nil && errors.Is(err, ErrNotFound):
		return false, nil
	case n.Signed == nil:
		return false, err
	default:
		number = n.Order
	}
	if n.Signed != nil {
		h.ID, h.Amount, h.Expires = n.Signed.ID, n.Signed.Amount, n.Signed.Expires
	}
	return true, l.note(ctx, acc, Key{acc.Name, number}, h, false)
}

// Cancelled has a payment looked at soon, because the gateway has passed on a call that paid it back,
// with this cancellation_id. It does nothing if the ledger does not know the payment.
func (l *Ledger) Cancelled(ctx context.Context, acc *Account, impUID, cancellationID string) {
	if number, err := l.orderOf(ctx, acc.Name, impUID); err == nil {
		h := Hint{ImpUID: impUID, Status: string(client.StatusCancelled), Cancellation: cancellationID}
		_ = l.note(ctx, acc, Key{acc.Name, number}, h, true)
	}
}

// note writes a hint, unless the row has it as it would be written. The error is ErrBusy if the row has no
// room for it.
func (l *Ledger) note(ctx context.Context, acc *Account, key Key, h Hint, lazy bool) error {
	row, err := l.get(ctx, key)
	if err != nil {
		return err
	}
	switch room := row.hasRoom(&h); {
	case !room:
		return ErrBusy
	case !row.hint(h, l.env(acc)):
		return nil
	}
	full := false
	err = l.update(ctx, acc, key, lazy, func(row *Row, e *env) {
		if full = !row.hasRoom(&h); !full {
			row.hint(h, e)
		}
	})
	if err == nil && full {
		return ErrBusy
	}
	return err
}
