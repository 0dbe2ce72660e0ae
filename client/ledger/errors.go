package ledger

// This file holds the errors that a caller distinguishes.

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// The errors to distinguish with errors.Is. An error of package client is passed on: nothing was
// issued then, except as it says itself.
var (
	// ErrBusy means that another call about the order is under way, or that it cannot be told yet
	// whether an earlier one made a barcode. Nothing was issued. Ask again.
	ErrBusy = errors.New("the order is busy")
	// ErrSlow is an ErrBusy: the store works, and something took too long all the same. Going without the
	// store would make a second barcode beside a node that uses it. A barcode may have been issued: who
	// asks again gets it.
	ErrSlow = fmt.Errorf("%w: the ledger is slow", ErrBusy)
	// ErrSilent means that the API did not tell what the order's barcode is. Nothing was issued.
	ErrSilent = errors.New("the API does not tell the state of the order's barcode")
	// ErrTooMany means that the order has as many attempts as a row keeps, and that each may still
	// leave a payment.
	ErrTooMany = errors.New("the order has too many barcodes")
	// ErrDown means that the ledger cannot be read or written. Nothing was issued.
	ErrDown = errors.New("the ledger is down")
)

// The refusals of a request.
type (
	// ChannelError means that the order has a barcode of another pg or channel_key.
	ChannelError struct{ Field, Has, Wanted string }
	// AtTillError means that a customer is paying the order's barcode now.
	AtTillError struct{ RetryAfter time.Duration }
	// PaidError means that the order has a payment that was paid, or paid back, and that the API has
	// issued another barcode all the same, which is void now.
	PaidError struct{ ImpUID string }
	// NotVoidedError means that the order's barcode had to be voided, and that the API refuses to.
	NotVoidedError struct{ ImpUID string }
)

// silentError is an ErrSilent with its cause, which may be one that the caller distinguishes. It does
// not print the API's own words, which may repeat a value of the request.
type silentError struct{ cause error }

func silent(cause error) error { return &silentError{cause} }

func (e *silentError) Error() string {
	cause := e.cause.Error()
	if _, refused := errors.AsType[*client.APIError](e.cause); refused {
		cause = client.Cause(e.cause)
	}
	return ErrSilent.Error() + ": " + cause
}

func (e *silentError) Unwrap() []error { return []error{ErrSilent, e.cause} }

func (e *ChannelError) Error() string {
	return fmt.Sprintf("the order has a barcode whose %s is %s, and the request says %s", e.Field, strconv.Quote(e.Has), strconv.Quote(e.Wanted))
}

func (e *AtTillError) Error() string { return "a customer is at the till with the order's barcode" }

func (e *NotVoidedError) Error() string {
	return "the API refuses to void " + strconv.Quote(e.ImpUID) + ", and it can still be paid"
}

func (e *PaidError) Error() string {
	return "the order has the payment " + strconv.Quote(e.ImpUID) + ", which was paid, and the API has issued another barcode"
}
