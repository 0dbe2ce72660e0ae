package client

// This file holds what happens to a POST /cvs whose answer is lost: the look-ups, and
// what they tell of the payment that the call may have made.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// IssueRaw sends a validated POST /cvs and returns the API's answer as it came.
//
// The call is sent again only if it is certain that no byte of it was written:
// otherwise the API could issue a second barcode. If the answer is lost, the order is
// looked up: at once, and again until the Timeout has passed since the call began, or
// one and a half times the Timeout if the call itself timed out, because the API may
// still be at work on it. A payment that matches the call in every field that it
// shows, and cannot be another call's, is returned as if it were the answer.
// Otherwise the error is ErrOutcomeUnknown, or ErrNotAPI if another server answered
// and the API then knows of no payment. All of this takes less than twice the Timeout.
//
// Identical calls at the same time are sent as one call. The end of ctx ends only this
// caller's wait. The call goes on, because the outcome of an issue must be known.
func (c *Client) IssueRaw(ctx context.Context, i *Issue) (*Response, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("issuing a barcode: nothing was sent: %w", ctx.Err())
	}
	detached := context.WithoutCancel(ctx)
	issue := func() (any, error) { return c.IssueAlone(detached, i, nil) }
	if ctx.Done() == nil { // this caller cannot leave: it needs no goroutine, which costs a third of the CPU time of a call
		return issued(c.state.issues.Do(c.Identity(i), issue))
	}
	select {
	case result := <-c.state.issues.DoChan(c.Identity(i), issue):
		return issued(result.Val, result.Err, result.Shared)
	case <-ctx.Done():
		return nil, &failure{ErrOutcomeUnknown, ctx.Err()}
	}
}

// issued returns what singleflight gives every caller of one call.
func issued(val any, err error, _ bool) (*Response, error) {
	if err != nil {
		return nil, err
	}
	return val.(*Response), nil
}

// IssueAlone is IssueRaw for a caller that joins identical calls itself. maySend, if not nil, is
// that of a Request. The end of ctx ends the call.
func (c *Client) IssueAlone(ctx context.Context, i *Issue, maySend func() error) (resp *Response, err error) {
	// A transport's panic is an unknown outcome: in a goroutine of singleflight's it would end the
	// program.
	a, lost := c.state.attempts.start(i), false
	defer func() {
		if recover() != nil {
			resp, err, lost = nil, &failure{ErrOutcomeUnknown, errPanic}, true
		}
		c.state.attempts.finish(a, resp, err, c.timeout)
		if lost {
			c.observer.issueInDoubt(err)
		}
	}()
	if resp, err = c.sendIssue(ctx, a, maySend); inDoubt(err) {
		lost = true
		resp, err = c.resolveDoubt(ctx, a, err)
	}
	return resp, err
}

// sendIssue sends the call, and again while it is certain that nothing was written. It
// takes the Timeout at most, of which the last attempt has half.
func (c *Client) sendIssue(ctx context.Context, a *attempt, maySend func() error) (*Response, error) {
	body := a.issue.body
	r := Request{Method: http.MethodPost, Path: "/cvs", ContentType: body.MediaType(), Body: body.Bytes(), MaySend: maySend}
	resp, err := c.Do(ctx, r)
	if !errors.Is(err, ErrUnreachable) {
		return resp, err
	}
	ctx, cancel := context.WithDeadline(ctx, a.began.Add(c.timeout))
	defer cancel()
	for n := 1; n <= 2 && errors.Is(err, ErrUnreachable); n++ {
		if !pause(ctx, backoff(n, 100*time.Millisecond, time.Second)) || time.Since(a.began) > c.timeout/2 {
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

// resolveDoubt looks for the payment that a call in doubt has made. Only the last
// look-up, which begins when the API should be done, can tell that there is none.
func (c *Client) resolveDoubt(ctx context.Context, a *attempt, doubt error) (*Response, error) {
	last := a.began.Add(c.timeout)
	if IsTimeout(doubt) {
		last = last.Add(c.timeout / 2)
	}
	ctx, cancel := context.WithDeadline(ctx, a.began.Add(c.longestIssue()))
	defer cancel()
	var found lookUpResult
	for n := 1; ; n++ {
		isLast := !time.Now().Before(last)
		var resp *Response
		// The connection may be dead: each look-up leaves time for another one.
		resp, found = c.lookUp(ctx, max(time.Until(last), c.timeout/2), a)
		if found == foundMatch {
			resp.Recovered = true
			return resp, nil
		}
		if isLast && found != foundNoAnswer || !pause(ctx, lookUpPause(n, found, time.Until(last))) {
			break
		}
	}
	if other, ok := errors.AsType[*NotAPIError](doubt); ok && found == foundNone && other.provesNoWork() {
		return nil, doubt
	}
	return nil, &failure{ErrOutcomeUnknown, doubt}
}

// longestIssue limits a call with its look-ups: a little less than twice the Timeout, so
// that the answer is sent within that.
func (c *Client) longestIssue() time.Duration {
	return 2*c.timeout - min(c.timeout/10, 100*time.Millisecond)
}

// lookUpPause is the pause after the n-th look-up; left is the time until the last
// look-up is due.
func lookUpPause(n int, found lookUpResult, left time.Duration) time.Duration {
	wait := backoff(n, 250*time.Millisecond, 2*time.Second)
	if left > 0 && (found == foundThrottling || left < wait) {
		return left
	}
	return wait
}

// lookUpResult says what a look-up found of the payment that a call may have made.
type lookUpResult int

const (
	foundNoAnswer   lookUpResult = iota
	foundThrottling              // 429
	foundUnclear                 // a payment that may be the call's or another's
	foundMatch                   // the payment that the call made
	foundNone                    // the API has no payment that the call can have made
)

// lookUp looks the order up once.
func (c *Client) lookUp(ctx context.Context, limit time.Duration, a *attempt) (*Response, lookUpResult) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	resp, err := c.Do(ctx, FindRequest(a.order, ""))
	if other, ok := errors.AsType[*NotAPIError](err); ok && other.Status == http.StatusTooManyRequests {
		return nil, foundThrottling
	}
	switch {
	case err != nil:
		return nil, foundNoAnswer
	case resp.Status == http.StatusTooManyRequests:
		return nil, foundThrottling
	case resp.Status >= 500:
		return nil, foundNoAnswer
	}
	return resp, c.compare(a, resp)
}

// compare tells whether the newest payment of the order is the one that the call
// made: it matches in all that it shows, did not start before the call, was not voided
// since, and is no other call's. The API shows the newest payment only: if another one
// began later, the call's own may exist all the same.
func (c *Client) compare(a *attempt, resp *Response) lookUpResult {
	p, err := resp.Payment()
	switch {
	case errors.Is(err, ErrNotFound):
		return foundNone
	case err != nil || p.StartedAt == 0:
		return foundUnclear
	case int64(p.StartedAt) < c.state.clock.earliestSecond(a.began):
		return foundNone
	case !a.issue.matches(p) || p.Status != StatusReady && p.Status != StatusPaid:
		return foundUnclear
	case c.state.attempts.mayBeOfAnother(a, p):
		return foundUnclear
	default:
		return foundMatch
	}
}
