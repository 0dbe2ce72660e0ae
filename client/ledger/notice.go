package ledger

// This file holds how a notice is received.

import (
	"context"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// Notice is a notice of the provider. It proves nothing: it says which payment to look at.
type Notice struct {
	ImpUID         string
	Status         string
	CancellationID string

	Order  string            // merchant_uid; used if it is signed only
	Signed *signedurl.Claims // of the URL, verified; nil if it is not signed
}

// Notice notes a notice, durably. known is false for a payment that is not this ledger's; it is
// true if it is, also if there is an error, which then means that the notice is not noted. With an
// error and known false, the ledger cannot be read, and it is not known whose the payment is.
func (l *Ledger) Notice(ctx context.Context, acc *Account, n *Notice) (known bool, err error) {
	return false, ErrDown
}

// LookNow has a payment looked at soon, because the gateway has passed on a call that changes it. It
// does nothing if the ledger does not know the payment.
func (l *Ledger) LookNow(ctx context.Context, acc *Account, impUID string) {}
