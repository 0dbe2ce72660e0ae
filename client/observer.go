package client

// This file holds the Observer, which is told of each HTTP call, of each fetch of a token, and of each
// issue whose answer was lost: for metrics.

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Observer is told what a Client does. Any of its functions may be nil. They are called by many
// goroutines at once, and must return soon: a call waits for them.
type Observer struct {
	// Call is told of each HTTP call to the API, those for a token included, when it has ended. A call
	// that is repeated after a 401 is two. A call that is not made, for want of a token, is none.
	Call func(Call)

	// TokenFetched is told of each fetch of a token, which may take several calls, when it has ended. The
	// error is nil if there is a token, ErrCredentials if the API refuses the keys, and ErrNoToken
	// otherwise.
	TokenFetched func(err error)

	// IssueInDoubt is told of each POST /cvs whose answer was lost, when its look-ups have ended.
	IssueInDoubt func(Doubt)
}

// Call is one HTTP call.
type Call struct {
	Operation Operation
	Outcome   Outcome
	Duration  time.Duration // until the answer was read
}

// Operation is the kind of a call of the API.
type Operation string

// The operations.
const (
	OperationIssue   Operation = "issue"
	OperationVoid    Operation = "void"
	OperationPayment Operation = "payment"
	OperationFind    Operation = "find"
	OperationFindAll Operation = "find_all"
	OperationList    Operation = "list"
	OperationToken   Operation = "token"
	OperationOther   Operation = "other"
)

// Operations are all operations.
var Operations = []Operation{
	OperationIssue, OperationVoid, OperationPayment, OperationFind, OperationFindAll, OperationList, OperationToken, OperationOther,
}

// Outcome is how an HTTP call has ended.
type Outcome string

// The outcomes.
const (
	OutcomeOK           Outcome = "ok"
	OutcomeRefused      Outcome = "refused"      // the API says no: a code other than 0, or a 4xx
	OutcomeNotFound     Outcome = "not_found"    // 404 to a look-up
	OutcomeUnauthorized Outcome = "unauthorized" // 401
	OutcomeThrottled    Outcome = "throttled"    // 429
	OutcomeUnreachable  Outcome = "unreachable"  // no connection could be made: nothing was sent
	OutcomeTimeout      Outcome = "timeout"      // no answer in time
	OutcomeBroken       Outcome = "broken"       // the connection broke after something may have been sent
	OutcomeForeign      Outcome = "foreign"      // the answer is not the API's, or a 5xx
	OutcomeCancelled    Outcome = "cancelled"    // the caller left, or took the call back
)

// Outcomes are all outcomes.
var Outcomes = []Outcome{
	OutcomeOK, OutcomeRefused, OutcomeNotFound, OutcomeUnauthorized, OutcomeThrottled, OutcomeUnreachable,
	OutcomeTimeout, OutcomeBroken, OutcomeForeign, OutcomeCancelled,
}

// Doubt is what the look-ups after a lost answer have shown.
type Doubt string

// The values of Doubt.
const (
	DoubtFound   Doubt = "found"   // the payment that the call has made
	DoubtNone    Doubt = "none"    // the call has made none
	DoubtUnknown Doubt = "unknown" // neither
)

// Doubts are all values of Doubt.
var Doubts = []Doubt{DoubtFound, DoubtNone, DoubtUnknown}

// Operation returns the kind of a request.
func (r *Request) Operation() Operation {
	parts := strings.Split(strings.TrimPrefix(r.Path, "/"), "/")
	first, second := parts[0], ""
	if len(parts) > 1 {
		second = parts[1]
	}
	is := func(method, name string, least, most int) bool {
		return r.Method == method && first == name && least <= len(parts) && len(parts) <= most
	}
	switch {
	case is(http.MethodPost, "cvs", 1, 1):
		return OperationIssue
	case is(http.MethodDelete, "cvs", 2, 2):
		return OperationVoid
	case is(http.MethodPost, "users", 2, 2) && second == "getToken":
		return OperationToken
	case is(http.MethodGet, "payments", 3, 4) && second == "find":
		return OperationFind
	case is(http.MethodGet, "payments", 3, 4) && second == "findAll":
		return OperationFindAll
	case is(http.MethodGet, "payments", 3, 3) && second == "status":
		return OperationList
	case is(http.MethodGet, "payments", 2, 2):
		return OperationPayment
	default:
		return OperationOther
	}
}

// isLookUp reports whether a 404 means that the API knows no such payment.
func (o Operation) isLookUp() bool {
	return o == OperationPayment || o == OperationFind || o == OperationFindAll || o == OperationList
}

// outcomeOf tells how an HTTP call has ended. Without an answer and an error, the transport panicked.
func outcomeOf(o Operation, resp *Response, err error) Outcome {
	foreign, isForeign := errors.AsType[*NotAPIError](err)
	switch {
	case err == nil && resp != nil:
		return outcomeOfAnswer(o, resp)
	case errors.Is(err, ErrCredentials):
		return OutcomeUnauthorized
	case isForeign && foreign.Status == http.StatusTooManyRequests:
		return OutcomeThrottled
	case errors.Is(err, ErrNotAPI):
		return OutcomeForeign
	case errors.Is(err, ErrWithdrawn), errors.Is(err, context.Canceled):
		return OutcomeCancelled
	case errors.Is(err, ErrUnreachable):
		return OutcomeUnreachable
	case IsTimeout(err):
		return OutcomeTimeout
	default:
		return OutcomeBroken
	}
}

func outcomeOfAnswer(o Operation, resp *Response) Outcome {
	switch {
	case resp.Status == http.StatusTooManyRequests:
		return OutcomeThrottled
	case resp.Status == http.StatusNotFound && o.isLookUp():
		return OutcomeNotFound
	case resp.Status >= 500:
		return OutcomeForeign
	case resp.Err() != nil:
		return OutcomeRefused
	default:
		return OutcomeOK
	}
}

// observation follows the HTTP calls of a Request, which may be several, one after the other.
type observation struct {
	observer  *Observer
	operation Operation
	began     time.Time // the HTTP call that is under way, zero if none is
}

func (c *Client) observe(r *Request) observation {
	if c.observer.Call == nil {
		return observation{}
	}
	return observation{observer: &c.observer, operation: r.Operation()}
}

// begin is called before each HTTP call.
func (o *observation) begin() {
	if o.observer != nil {
		o.began = time.Now()
	}
}

// end is called after begin, and does nothing without it.
func (o *observation) end(resp *Response, err error) {
	if !o.began.IsZero() {
		o.observer.Call(Call{o.operation, outcomeOf(o.operation, resp, err), time.Since(o.began)})
		o.began = time.Time{}
	}
}

// tokenFetched tells of a fetch of a token.
func (o *Observer) tokenFetched(err error) {
	if o.TokenFetched != nil {
		o.TokenFetched(err)
	}
}

// issueInDoubt tells of a POST /cvs whose answer was lost, by what came of it.
func (o *Observer) issueInDoubt(err error) {
	switch {
	case o.IssueInDoubt == nil:
	case err == nil:
		o.IssueInDoubt(DoubtFound)
	case errors.Is(err, ErrOutcomeUnknown):
		o.IssueInDoubt(DoubtUnknown)
	default:
		o.IssueInDoubt(DoubtNone)
	}
}
