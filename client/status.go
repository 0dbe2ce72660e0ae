package client

// This file holds what an operator is shown of an account: its token, the last failure to get one, and the
// API's clock.

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// TokenStatus is what is known of an account's access token.
type TokenStatus struct {
	ValidUntil time.Time     // zero if there is no valid token
	InUse      bool          // a call needed the token within the last 15 minutes: only then it is renewed
	Failing    bool          // the last fetch failed
	Failure    *TokenFailure // the last one, also if later fetches succeeded; nil if there was none
}

// TokenFailure is a fetch of a token that failed.
type TokenFailure struct {
	At     time.Time
	Cause  TokenCause
	Detail string // Cause of the error, or ""
}

// TokenCause says why there is no token.
type TokenCause string

// The values of TokenCause.
const (
	TokenCredentials TokenCause = "credentials" // the API refuses the keys
	TokenRefused     TokenCause = "refused"     // the API refuses, for another reason
	TokenThrottled   TokenCause = "throttled"   // the API was asked too often
	TokenForeign     TokenCause = "foreign"     // the answer is not the API's, or a 5xx
	TokenUnreachable TokenCause = "unreachable" // no connection could be made
	TokenTimeout     TokenCause = "timeout"     // no answer in time
	TokenBroken      TokenCause = "broken"      // the connection broke
)

// TokenStatus returns what is known now. It sends nothing.
func (s *State) TokenStatus() TokenStatus {
	t, now := &s.tokens, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	status := TokenStatus{
		InUse:   !t.lastUsed.IsZero() && now.Sub(t.lastUsed) < idleAfter,
		Failing: t.failed != nil,
		Failure: t.lastFailure,
	}
	if t.current.valid(now) {
		status.ValidUntil = t.current.expires.Round(0)
	}
	return status
}

// ClockOffset returns the API's clock minus this machine's, 0 if they differ by two seconds at most, which
// counts as no difference. It is not known before the first token, nor after this machine's clock was set.
func (s *State) ClockOffset() (offset time.Duration, known bool) { return s.clock.offsetAt(time.Now()) }

// RetryToken fetches the token in the background if the last fetch failed and the pause after it is over,
// and reports whether it does. Without it, an account that nobody uses would be shown as failing for ever.
func (c *Client) RetryToken() bool {
	t := &c.state.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil || t.fetching != nil || t.closed || c.fetcher.retired || time.Now().Before(t.retryAt) {
		return false
	}
	t.fetch(context.Background(), c.fetcher, nil)
	return true
}

func newTokenFailure(err error) *TokenFailure {
	f := &TokenFailure{At: time.Now().Round(0), Cause: tokenCause(err)}
	if f.Cause != TokenCredentials {
		f.Detail = Cause(err)
	}
	return f
}

// tokenCause finds why a fetch failed.
func tokenCause(err error) TokenCause {
	if errors.Is(err, ErrCredentials) {
		return TokenCredentials
	}
	if failed, ok := errors.AsType[*tokenError](err); ok {
		err = failed.cause
	}
	status := 0
	refusal, isRefusal := errors.AsType[*APIError](err)
	if isRefusal {
		status = refusal.Status
	}
	if foreign, ok := errors.AsType[*NotAPIError](err); ok {
		status = foreign.Status
	}
	switch {
	case status == http.StatusTooManyRequests:
		return TokenThrottled
	case status >= http.StatusInternalServerError, errors.Is(err, ErrNotAPI):
		return TokenForeign
	case isRefusal:
		return TokenRefused
	case IsTimeout(err):
		return TokenTimeout
	case errors.Is(err, ErrUnreachable):
		return TokenUnreachable
	default:
		return TokenBroken
	}
}
