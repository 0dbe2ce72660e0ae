package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const listPath = "/payments/status/"

// PaymentRequest asks for one payment by its imp_uid. Payments made through a
// test channel are found too; without include_sandbox the API hides them.
func PaymentRequest(impUID string) Request {
	return Request{Method: http.MethodGet, Path: "/payments/" + url.PathEscape(impUID), Query: "include_sandbox=true"}
}

// FindRequest asks for the newest payment of an order, of any status if status is "".
func FindRequest(merchantUID string, status Status) Request {
	path := "/payments/find/" + url.PathEscape(merchantUID)
	if status != "" {
		path += "/" + url.PathEscape(string(status))
	}
	// include_sandbox is documented for look-ups by imp_uid only. Should the
	// API hide test payments here too, it helps; if not, it is ignored.
	return Request{Method: http.MethodGet, Path: path, Query: "sorting=-started&include_sandbox=true"}
}

// VoidRequest voids an unpaid barcode.
func VoidRequest(impUID string) Request {
	return Request{Method: http.MethodDelete, Path: "/cvs/" + url.PathEscape(impUID)}
}

// Issue asks for a barcode. See IssueRaw for what it does in doubt.
func (c *Client) Issue(ctx context.Context, r *IssueRequest) (*Payment, error) {
	if !r.validUTF8() {
		return nil, &InvalidError{[]string{"a text is not valid UTF-8"}}
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	issue, err := ParseIssue(strict.JSON, body.Bytes())
	if err != nil {
		return nil, err
	}
	resp, err := c.IssueRaw(ctx, issue)
	if err != nil {
		return nil, err
	}
	return resp.Payment()
}

// Void makes an unpaid barcode unusable, for an order that was changed or
// cannot be delivered any more.
func (c *Client) Void(ctx context.Context, impUID string) (*Payment, error) {
	return c.payment(ctx, VoidRequest(impUID))
}

// Payment looks up one payment.
func (c *Client) Payment(ctx context.Context, impUID string) (*Payment, error) {
	return c.payment(ctx, PaymentRequest(impUID))
}

// FindPayment looks up the newest payment of an order, of any status if status
// is "".
func (c *Client) FindPayment(ctx context.Context, merchantUID string, status Status) (*Payment, error) {
	return c.payment(ctx, FindRequest(merchantUID, status))
}

func (c *Client) payment(ctx context.Context, r Request) (*Payment, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp.Payment()
}

// ListOptions narrow ListPayments. Zero values stand for the API's defaults.
type ListOptions struct {
	Page    int       // from 1
	Limit   int       // payments a page, at most 1000; default 20
	From    time.Time // default 90 days before To
	To      time.Time // default now; at most 90 days after From
	Sorting string    // "-started" (the default), "started", "-paid", "paid", "-updated", "updated"
}

// ListPayments lists payments by status, StatusAll included, a page at a time.
func (c *Client) ListPayments(ctx context.Context, status Status, o ListOptions) (*PaymentPage, error) {
	q := url.Values{"include_sandbox": {"true"}}
	set := func(name string, n int64) {
		if n > 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	set("page", int64(o.Page))
	set("limit", int64(o.Limit))
	if !o.From.IsZero() {
		set("from", o.From.Unix())
	}
	if !o.To.IsZero() {
		set("to", o.To.Unix())
	}
	if o.Sorting != "" {
		q.Set("sorting", o.Sorting)
	}
	resp, err := c.Do(ctx, Request{Method: http.MethodGet, Path: listPath + url.PathEscape(string(status)), Query: q.Encode()})
	if err != nil {
		return nil, err
	}
	if err := resp.Err(); err != nil {
		return nil, err
	}
	page := new(PaymentPage)
	if err := json.Unmarshal([]byte(gjson.GetBytes(resp.Body, "response").Raw), page); err != nil {
		return nil, ErrNotAPI
	}
	return page, nil
}

// IssueRaw sends a checked POST /cvs and returns the API's answer as it came.
//
// It never repeats the call blindly, for the API would issue a second barcode.
// A call that was not sent is tried again. If the answer is lost, the payment
// is looked up, and the one that the call made is returned as if nothing had
// happened. If there is none, the call is repeated once where the connection
// broke; after a time-out it is not, because the API may still be at work on
// the first. What remains is ErrOutcomeUnknown or ErrNotAPI. All of it takes
// three times the Timeout at most.
//
// Identical calls at the same moment are one call. It goes on when ctx ends, for
// a barcode must not be issued unseen; ctx ends only this caller's wait.
func (c *Client) IssueRaw(ctx context.Context, i *Issue) (*Response, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("issuing a barcode: nothing was sent: %w", ctx.Err())
	}
	r := Request{Method: http.MethodPost, Path: "/cvs", ContentType: i.body.MediaType(), Body: i.body.Bytes()}
	key := i.identity(c.tier)
	if ctx.Done() == nil { // a caller who never leaves needs no other goroutine
		val, err, _ := c.state.issues.Do(key, func() (any, error) { return c.issueSafely(ctx, r, i) })
		return issued(val, err)
	}
	lasting := context.WithoutCancel(ctx)
	select {
	case result := <-c.state.issues.DoChan(key, func() (any, error) { return c.issueSafely(lasting, r, i) }):
		return issued(result.Val, result.Err)
	case <-ctx.Done():
		return nil, &failure{ErrOutcomeUnknown, ctx.Err()}
	}
}

func issued(val any, err error) (*Response, error) {
	if err != nil {
		return nil, err
	}
	return val.(*Response), nil
}

// issueSafely turns a transport's panic into doubt: nobody above this goroutine
// would recover it.
func (c *Client) issueSafely(ctx context.Context, r Request, i *Issue) (resp *Response, err error) {
	defer func() {
		if recover() != nil {
			resp, err = nil, &failure{ErrOutcomeUnknown, errPanic}
		}
	}()
	return c.issue(ctx, r, i)
}

func (c *Client) issue(ctx context.Context, r Request, i *Issue) (*Response, error) {
	began := time.Now()
	resp, err := c.Do(ctx, r)
	if err == nil { // as a rule: the rest needs a deadline of its own
		return resp, nil
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(3*c.timeout))
	defer cancel()
	if resp, err = c.resend(ctx, r, err); !inDoubt(err) {
		return resp, err
	}
	found, missing := c.lookUp(ctx, i, began)
	if found == nil && missing && repeatable(err) && c.timeLeft(ctx) {
		if resp, err = c.Do(ctx, r); err != nil {
			resp, err = c.resend(ctx, r, err)
		}
		if err == nil {
			return resp, nil
		}
		// Even a repeat that was not sent leaves the first call in doubt.
		found, _ = c.lookUp(ctx, i, began)
		missing = false
	}
	if found != nil {
		return found, nil
	}
	if other, ok := errors.AsType[*notAPIError](err); ok && missing && other.settled() {
		return nil, err
	}
	return nil, &failure{ErrOutcomeUnknown, err}
}

// resend sends a call that failed with err once more, and again, if it is certain
// that it was not sent.
func (c *Client) resend(ctx context.Context, r Request, err error) (resp *Response, _ error) {
	for attempt := 1; attempt <= 2 && errors.Is(err, ErrUnreachable) && pause(ctx, backoff(attempt, 100*time.Millisecond, time.Second)); attempt++ {
		resp, err = c.Do(ctx, r)
	}
	return resp, err
}

// inDoubt reports whether the API may have done the work in spite of err.
func inDoubt(err error) bool {
	return errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotAPI)
}

// repeatable reports whether a call in doubt of which nothing was found may be
// sent again: only if it cannot be under way any more.
func repeatable(err error) bool {
	return errors.Is(err, ErrOutcomeUnknown) && !IsTimeout(err)
}

// timeLeft reports whether there is time for another call.
func (c *Client) timeLeft(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	return time.Until(deadline) >= c.timeout
}

// lookUp looks for the payment that a call which began then has made. missing
// is true only if that is the API's word, and the last of three, as the work may
// take a moment longer than the connection lasted. A look-up without an answer
// says nothing, and is repeated while the time lasts.
func (c *Client) lookUp(ctx context.Context, i *Issue, began time.Time) (found *Response, missing bool) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout*3/2)
	defer cancel()
	answers, limit := 0, c.timeout/2 // of the first: its connection may be dead
	for attempt := 1; ; attempt++ {
		resp, finding := c.look(ctx, limit, i, began)
		switch finding {
		case ours:
			resp.Recovered = true
			return resp, false
		case others, unclear:
			answers++
		case silence:
		}
		if answers == 3 {
			return nil, finding == others
		}
		if !pause(ctx, backoff(attempt, 250*time.Millisecond, 2*time.Second)) {
			return nil, false
		}
		limit = c.timeout
	}
}

// look is one look-up.
func (c *Client) look(ctx context.Context, limit time.Duration, i *Issue, began time.Time) (*Response, finding) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := c.Do(ctx, FindRequest(i.MerchantUID, ""))
	if other, ok := errors.AsType[*notAPIError](err); ok && other.status == http.StatusTooManyRequests {
		return nil, unclear // and wants to be left alone
	}
	if err != nil || resp.Status >= 500 {
		return nil, silence
	}
	return resp, i.compare(resp, c.state.earliest(began))
}

// finding is what a look-up tells of the payment that a call may have made.
type finding int

const (
	silence finding = iota // no answer yet
	unclear                // not the API's word for either
	ours
	others // another payment, or none
)

// compare tells whether the newest payment of the order is the one that this
// issue made: of the same amount, not started before it, and not voided since.
func (i *Issue) compare(resp *Response, earliest int64) finding {
	p, err := resp.Payment()
	switch {
	case errors.Is(err, ErrNotFound):
		return others
	case err != nil:
		return unclear
	case p.MerchantUID != i.MerchantUID || !decimal.Equal(string(p.Amount), i.Amount):
		return others
	case p.StartedAt == 0:
		return unclear
	case int64(p.StartedAt) < earliest || p.Status == StatusCancelled || p.Status == StatusFailed:
		return others
	case p.Status == StatusReady || p.Status == StatusPaid:
		return ours
	default:
		return unclear
	}
}
