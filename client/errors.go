package client

// This file holds the errors that a caller distinguishes.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The errors to distinguish with errors.Is. A business refusal is an *APIError, a
// request that breaks the API's rules an *InvalidError, and a failure to get a token
// an *UnavailableError.
var (
	// ErrCredentials means that the API refuses the account's keys, or that it
	// refuses a token which it has just confirmed. Trying again is pointless.
	ErrCredentials = errors.New("the API refuses the account's credentials")
	// ErrNotFound means that the API knows no such payment.
	ErrNotFound = errors.New("the API knows no such payment")
	// ErrNoToken means that the client could not get an access token. Nothing was sent.
	ErrNoToken = errors.New("the API gives no access token")
	// ErrUnreachable means that no connection could be made. Nothing was sent.
	ErrUnreachable = errors.New("the API cannot be reached")
	// ErrWithdrawn means that the caller's MaySend refused. Nothing was done.
	ErrWithdrawn = errors.New("the call was withdrawn before it was sent")
	// ErrOutcomeUnknown means that the request may have reached the API and
	// that no usable answer came back. Test for it first: such an error may match
	// another one too, which is then its cause.
	ErrOutcomeUnknown = errors.New("the API's answer did not arrive; it may have done the work")
	// ErrNotAPI means that something answered, but not with the API's envelope.
	ErrNotAPI = errors.New("the answer is not the API's")
)

// APIError is the API's own refusal: a code other than 0 or an HTTP status of
// 400 and above, in its envelope.
type APIError struct {
	Status  int    // HTTP status; 200 for most business refusals
	Code    int64  // the envelope's code; not 0 except for some statuses from 400
	Message string // the API's text, Korean as a rule

	RetryAfter string // the header field, "" if there is none that can be read
}

func (e *APIError) Error() string {
	return fmt.Sprintf("the API refuses: %s (code %d, HTTP %d)", e.Message, e.Code, e.Status)
}

// Is makes a 404 match ErrNotFound.
func (e *APIError) Is(target error) bool { return target == ErrNotFound && e.Status == 404 }

// InvalidError lists everything in a request that the API's rules forbid.
type InvalidError struct{ Problems []string }

func (e *InvalidError) Error() string { return strings.Join(e.Problems, "; ") }

// UnreadableError is an ErrOutcomeUnknown of a call that the API accepted, with an answer
// that cannot be read as a payment.
type UnreadableError struct {
	ImpUID string // the payment's number, "" if that cannot be read either
}

func (e *UnreadableError) Error() string {
	const what = "the API did the work, but its answer cannot be read"
	if e.ImpUID == "" {
		return what
	}
	return what + ": look up " + strconv.Quote(e.ImpUID)
}

// Is makes it match ErrOutcomeUnknown.
func (e *UnreadableError) Is(target error) bool { return target == ErrOutcomeUnknown }

// UnavailableError is an ErrNoToken or, after refused keys, an ErrCredentials,
// with the time after which the next attempt is made.
type UnavailableError struct {
	RetryAfter time.Duration
	err        error
}

func (e *UnavailableError) Error() string { return e.err.Error() }
func (e *UnavailableError) Unwrap() error { return e.err }

// failure joins one of the errors above with its cause. It prints a
// description of the cause only: the text of a transport's error can repeat
// bytes of the answer.
type failure struct {
	kind  error
	cause error
}

func (e *failure) Error() string   { return e.kind.Error() + ": " + Cause(e.cause) }
func (e *failure) Unwrap() []error { return []error{e.kind, e.cause} }

// NotAPIError is an ErrNotAPI of an answer that came over HTTP.
type NotAPIError struct {
	Status     int    // HTTP status
	RetryAfter string // the header field, "" if there is none that can be read
}

func (e *NotAPIError) Error() string { return fmt.Sprintf("%s (HTTP %d)", ErrNotAPI, e.Status) }

// Unwrap makes it match ErrNotAPI.
func (e *NotAPIError) Unwrap() error { return ErrNotAPI }

// provesNoWork reports whether an answer with this status means that the API is not at
// work on the call. A proxy's 502 or 504 does not.
func (e *NotAPIError) provesNoWork() bool {
	return e.Status >= 200 && e.Status < 500 && e.Status != 408 && e.Status != 425 && e.Status != 429
}

// errPanic stands for a transport that panicked.
var errPanic = errors.New("the transport panicked")

// tokenError is ErrNoToken with its cause. It does not wrap the cause: if getToken's
// outcome is unknown, nothing was sent of the call that needs the token all the same.
type tokenError struct{ cause error }

func (e *tokenError) Error() string { return ErrNoToken.Error() + ": " + Cause(e.cause) }
func (e *tokenError) Unwrap() error { return ErrNoToken }

// IsTimeout reports whether err comes from a time limit: a context's deadline or
// one of the transport's own.
func IsTimeout(err error) bool {
	limit, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && limit.Timeout()
}
