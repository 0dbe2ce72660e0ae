package ledger

// This file holds the calls of the API that the ledger makes, and how their outcomes are told
// apart.

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// API is what the ledger asks of the API. maySend is asked immediately before a call is sent; after
// its error the call ends with client.ErrWithdrawn.
type API interface {
	// Now returns the API's time.
	Now() time.Time
	// EarliestStart returns the earliest second of the API's in which a payment can have begun that
	// was asked for at local, by this machine's clock; 0 if the API's clock is not known.
	EarliestStart(local time.Time) int64
	// Issue makes the call of an attempt. Without an error the API has accepted it; the payment is
	// zero if it cannot be read. With an error, the payment holds the API's answer, if there is one.
	Issue(ctx context.Context, r *Request, id string, maySend func() error) (Seen, error)
	// Payment looks a payment up.
	Payment(ctx context.Context, impUID string) (Seen, error)
	// Payments lists all payments of an order.
	Payments(ctx context.Context, order string) ([]Seen, error)
	// Page lists a page of the account's payments of a status, StatusPaid or StatusCancelled, that were
	// paid or cancelled from one Unix second to another, both included, by the API's clock: the paid
	// ones in the order in which they were paid, the cancelled ones in the order of their last change.
	// more reports whether there is another page. The first page is 1; one beyond the last is empty.
	Page(ctx context.Context, status client.Status, from, to int64, page int) (list []Seen, more bool, err error)
	// Void voids an unpaid barcode. The answer is nil after an error.
	Void(ctx context.Context, impUID string, maySend func() error) (*client.Response, error)
}

// Request is one POST /cvs.
type Request struct {
	Terms
	Issue    *client.Issue
	Identity string // equal for identical requests of an account only: see client.Client.Identity
	ID       string // of its first attempt; a new one if it is empty

	begun bool // ID is used
}

// nextID returns the id of the request's next attempt.
func (r *Request) nextID(newID func() string) string {
	if r.begun || r.ID == "" {
		return newID()
	}
	r.begun = true
	return r.ID
}

// Account is one account of the present configuration.
type Account struct {
	Name    string
	API     API
	Timeout time.Duration // of one call
	Keys    signedurl.Keys
	Tells   *Tells // nil if nobody is told
}

// lookUp looks a payment up. The error is client.ErrNotFound or an ErrSilent.
func (acc *Account) lookUp(ctx context.Context, impUID string) (*Seen, error) {
	seen, err := acc.API.Payment(ctx, impUID)
	switch {
	case err == nil:
		return &seen, nil
	case errors.Is(err, client.ErrNotFound):
		return nil, client.ErrNotFound
	default:
		return nil, silent(err)
	}
}

// void voids a barcode. A refusal of the API is an error too.
func (acc *Account) void(ctx context.Context, impUID string, maySend func() error) error {
	resp, err := acc.API.Void(ctx, impUID, maySend)
	if err == nil {
		err = resp.Err()
	}
	return err
}

// calls is the API of a client.
type calls struct{ *client.Client }

// APIOf returns the API of a client.
func APIOf(c *client.Client) API { return calls{c} }

func (c calls) Now() time.Time { return c.State().Now() }

func (c calls) EarliestStart(local time.Time) int64 { return c.State().EarliestStart(local) }

func (c calls) Issue(ctx context.Context, r *Request, id string, maySend func() error) (Seen, error) {
	if r.Issue.ID != id {
		if err := r.Issue.BeginAttempt(id); err != nil {
			return Seen{}, err
		}
	}
	resp, err := c.IssueAlone(ctx, r.Issue, maySend)
	if err != nil {
		return Seen{}, err
	}
	return seeAnswer(resp)
}

func (c calls) Payment(ctx context.Context, impUID string) (Seen, error) {
	resp, err := c.Do(ctx, client.PaymentRequest(impUID))
	if err != nil {
		return Seen{}, err
	}
	seen, err := seeAnswer(resp)
	if err == nil && seen.ImpUID != impUID {
		return Seen{}, client.ErrNotAPI
	}
	return seen, err
}

func (c calls) Payments(ctx context.Context, order string) ([]Seen, error) {
	payments, err := c.OrderPayments(ctx, order)
	if err != nil {
		return nil, err
	}
	list := make([]Seen, len(payments))
	for i := range payments {
		outline, _ := client.OutlineOf(payments[i].Raw) // which was read before
		list[i] = see(outline, nil)
	}
	return list, nil
}

// pageSize is how many payments a page has, the most that the API allows.
const pageSize = 1000

func (c calls) Page(ctx context.Context, status client.Status, from, to int64, page int) ([]Seen, bool, error) {
	o := client.ListOptions{Page: page, Limit: pageSize, From: time.Unix(from, 0), To: time.Unix(to, 0), Sorting: "paid"}
	if status == client.StatusCancelled {
		o.Sorting = "updated" // there is no sorting by the time of cancellation
	}
	resp, err := c.Do(ctx, client.ListRequest(status, o))
	if err != nil {
		return nil, false, err
	}
	if resp.Status == http.StatusBadRequest && page > 1 { // so the API answers beyond the last page
		return nil, false, nil
	}
	outlines, more, err := resp.Outlines()
	list := make([]Seen, len(outlines))
	for i := range outlines {
		list[i] = see(outlines[i], nil)
	}
	return list, more, err
}

func (c calls) Void(ctx context.Context, impUID string, maySend func() error) (*client.Response, error) {
	r := client.VoidRequest(impUID)
	r.MaySend = maySend
	return c.Do(ctx, r)
}

// seeAnswer reads the payment of an answer. One that was accepted and cannot be read has no
// payment.
func seeAnswer(resp *client.Response) (Seen, error) {
	p, err := resp.Outline()
	switch {
	case errors.Is(err, client.ErrNotAPI):
		return Seen{Answer: resp}, nil
	case err != nil:
		return Seen{Answer: resp}, err
	default:
		return see(p, resp), nil
	}
}

// outcome is what a call that changes something has done.
type outcome int

const (
	done        outcome = iota
	declined            // the API refuses, and has done nothing
	notSent             // nothing was sent
	withdrawn           // likewise, because the hold was not fresh any more
	outcomeOpen         // it may have been done
)

// outcomeOf tells from a call's error what it has done.
func outcomeOf(err error) outcome {
	refusal, isRefusal := errors.AsType[*client.APIError](err)
	switch {
	case err == nil:
		return done
	case errors.Is(err, client.ErrWithdrawn):
		return withdrawn
	case errors.Is(err, client.ErrOutcomeUnknown): // before its cause
		return outcomeOpen
	case isRefusal && refusal.Status < 500:
		return declined
	case isRefusal, errors.Is(err, client.ErrNotAPI):
		return outcomeOpen
	default: // no token, no connection, not a valid request
		return notSent
	}
}
