package client

// This file holds what becomes of a POST /cvs whose answer is lost: the look-ups,
// and the rules by which a payment is known as the one that the call made.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// IssueRaw sends a checked POST /cvs and returns the API's answer as it came.
//
// A call of which a byte may have been written is never sent again, for the API
// would issue a second barcode; one of which nothing was is. If the answer is
// lost, the order is looked up, at once and again until the Timeout has passed
// since the call began, or one and a half for a call that was itself timed out:
// the API may be at work on it for as long. The payment that is the same by all
// that it shows, and cannot be another call's, is returned as if nothing had
// happened. What remains is ErrOutcomeUnknown, or ErrNotAPI where something
// answered in the API's place and the API then knows of no payment. All of it
// takes less than twice the Timeout.
//
// Identical calls at the same moment are one call. It goes on when ctx ends, for
// a barcode must not be issued unseen; ctx ends only this caller's wait.
func (c *Client) IssueRaw(ctx context.Context, i *Issue) (*Response, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("issuing a barcode: nothing was sent: %w", ctx.Err())
	}
	r := Request{Method: http.MethodPost, Path: "/cvs", ContentType: i.body.MediaType(), Body: i.body.Bytes()}
	key := i.identity(c.tier)
	lasting := context.WithoutCancel(ctx)
	select {
	case result := <-c.state.issues.DoChan(key, func() (any, error) { return c.issueSafely(lasting, r, i) }):
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Response), nil
	case <-ctx.Done():
		return nil, &failure{ErrOutcomeUnknown, ctx.Err()}
	}
}

// issueSafely turns a transport's panic into doubt: nobody above this goroutine
// would recover it.
func (c *Client) issueSafely(ctx context.Context, r Request, i *Issue) (resp *Response, err error) {
	a := c.state.orders.begin(i)
	defer func() {
		if recover() != nil {
			resp, err = nil, &failure{ErrOutcomeUnknown, errPanic}
		}
		c.state.orders.end(a, resp, err, c.timeout)
	}()
	if resp, err = c.send(ctx, r, a.began); inDoubt(err) {
		resp, err = c.settle(ctx, a, err)
	}
	return resp, err
}

// send sends the call, and again while it is certain that nothing was written. It
// takes the Timeout at most, of which the last attempt has half.
func (c *Client) send(ctx context.Context, r Request, began time.Time) (*Response, error) {
	resp, err := c.Do(ctx, r)
	if !errors.Is(err, ErrUnreachable) {
		return resp, err
	}
	ctx, cancel := context.WithDeadline(ctx, began.Add(c.timeout))
	defer cancel()
	for attempt := 1; attempt <= 2 && errors.Is(err, ErrUnreachable); attempt++ {
		if !pause(ctx, backoff(attempt, 100*time.Millisecond, time.Second)) || time.Since(began) > c.timeout/2 {
			break
		}
		resp, err = c.Do(ctx, r)
	}
	return resp, err
}

// inDoubt reports whether the API may have done the work in spite of err.
func inDoubt(err error) bool {
	return errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotAPI)
}

// settle looks for the payment that a call in doubt has made. Only the last
// look-up, which begins when the API should be done, can tell that there is none.
func (c *Client) settle(ctx context.Context, a *attempt, doubt error) (*Response, error) {
	last := a.began.Add(c.timeout)
	if IsTimeout(doubt) {
		last = last.Add(c.timeout / 2)
	}
	ctx, cancel := context.WithDeadline(ctx, a.began.Add(c.longest()))
	defer cancel()
	var result finding
	for n := 1; ; n++ {
		isLast := !time.Now().Before(last)
		var resp *Response
		// The connection may be dead: each look-up leaves time for another.
		resp, result = c.look(ctx, max(time.Until(last), c.timeout/2), a)
		if result == matched {
			resp.Recovered = true
			return resp, nil
		}
		if isLast && result != noReply || !pause(ctx, untilNextLook(n, result, time.Until(last))) {
			break
		}
	}
	if other, ok := errors.AsType[*NotAPIError](doubt); ok && result == absent && other.settled() {
		return nil, doubt
	}
	return nil, &failure{ErrOutcomeUnknown, doubt}
}

// longest bounds a call with its look-ups: a little less than twice the Timeout, so
// that the answer leaves before.
func (c *Client) longest() time.Duration {
	return 2*c.timeout - min(c.timeout/10, 100*time.Millisecond)
}

// untilNextLook is the pause after the n-th look-up, with so much time left until the
// last one is due.
func untilNextLook(n int, result finding, left time.Duration) time.Duration {
	wait := backoff(n, 250*time.Millisecond, 2*time.Second)
	if left > 0 && (result == throttled || left < wait) {
		return left
	}
	return wait
}

// finding is what a look-up tells of the payment that a call may have made.
type finding int

const (
	noReply   finding = iota
	throttled         // 429
	unclear           // neither is certain
	matched           // the payment that the call made
	absent            // the API has no payment that the call can have made
)

// look is one look-up.
func (c *Client) look(ctx context.Context, limit time.Duration, a *attempt) (*Response, finding) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := c.Do(ctx, FindRequest(a.order, ""))
	if other, ok := errors.AsType[*NotAPIError](err); ok && other.Status == http.StatusTooManyRequests {
		return nil, throttled
	}
	switch {
	case err != nil:
		return nil, noReply
	case resp.Status == http.StatusTooManyRequests:
		return nil, throttled
	case resp.Status >= 500:
		return nil, noReply
	}
	return resp, c.compare(a, resp)
}

// compare tells whether the newest payment of the order is the one that the call
// made: the same by all that it shows, not started before the call, not voided
// since, and no other call's. The API shows the newest only: behind another that
// began later, the call's own may stand.
func (c *Client) compare(a *attempt, resp *Response) finding {
	p, err := resp.Payment()
	switch {
	case errors.Is(err, ErrNotFound):
		return absent
	case err != nil || p.StartedAt == 0:
		return unclear
	case int64(p.StartedAt) < c.state.earliest(a.began):
		return absent
	case !a.issue.matches(p) || p.Status != StatusReady && p.Status != StatusPaid:
		return unclear
	}
	return c.state.orders.compare(a, p)
}
