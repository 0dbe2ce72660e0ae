package client

// This file holds tests of what an operator is shown of an account.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTokenStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := new(fakeAPI)
		c := fakeClient(t, api, "")
		assert.Equal(t, TokenStatus{}, c.State().TokenStatus(), "nothing was asked yet")

		require.NoError(t, call(c))
		status := c.State().TokenStatus()
		assert.Equal(t, TokenStatus{InUse: true, ValidUntil: status.ValidUntil}, status)
		assert.WithinDuration(t, time.Now().Add(30*time.Minute), status.ValidUntil, 6*time.Second)

		api.status.Store(401)
		advance(40 * time.Minute)
		require.ErrorIs(t, call(c), ErrCredentials)
		failed := TokenFailure{At: time.Now().Round(0), Cause: TokenCredentials}
		assert.Equal(t, TokenStatus{InUse: true, Failing: true, Failure: &failed}, c.State().TokenStatus())

		api.status.Store(0)
		advance(time.Minute)
		require.NoError(t, call(c))
		status = c.State().TokenStatus()
		assert.False(t, status.Failing)
		assert.False(t, status.ValidUntil.IsZero())
		assert.Equal(t, &failed, status.Failure, "the last failure is kept")

		advance(16 * time.Minute)
		assert.False(t, c.State().TokenStatus().InUse)
	})
}

func TestTokenCause(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for want, err := range map[TokenCause]error{
		TokenCredentials: &failure{ErrCredentials, errors.New("canary")},
		TokenRefused:     &tokenError{&APIError{Status: 200, Code: -1, Message: "canary"}},
		TokenThrottled:   &tokenError{&NotAPIError{Status: http.StatusTooManyRequests}},
		TokenForeign:     &tokenError{&NotAPIError{Status: 200}},
		TokenUnreachable: &tokenError{&failure{ErrUnreachable, refused}},
		TokenTimeout:     &tokenError{&failure{ErrOutcomeUnknown, context.DeadlineExceeded}},
		TokenBroken:      &tokenError{&failure{ErrOutcomeUnknown, io.ErrUnexpectedEOF}},
	} {
		assert.Equal(t, want, tokenCause(err))
		assert.NotContains(t, newTokenFailure(err).Detail, "canary")
	}
	for err, want := range map[error]TokenCause{
		&tokenError{ErrNotAPI}: TokenForeign,
		&tokenError{&APIError{Status: http.StatusServiceUnavailable}}: TokenForeign,
		&tokenError{&APIError{Status: http.StatusTooManyRequests}}:    TokenThrottled,
		&tokenError{errPanic}: TokenBroken,
	} {
		assert.Equal(t, want, tokenCause(err), "%v", err)
	}
	assert.Equal(t, "connection refused", newTokenFailure(&tokenError{&failure{ErrUnreachable, refused}}).Detail)
}

func TestRetryToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := new(fakeAPI)
		c := fakeClient(t, api, "")
		assert.False(t, c.RetryToken(), "an account that was never used costs nothing")
		require.NoError(t, call(c))
		assert.False(t, c.RetryToken(), "the last fetch succeeded")

		api.status.Store(401)
		advance(40 * time.Minute)
		require.Error(t, call(c))
		fetches := api.fetches.Load()
		assert.False(t, c.RetryToken(), "the pause is not over")
		advance(2 * time.Minute)
		api.latency = time.Second
		began := time.Now()
		assert.True(t, c.RetryToken())
		assert.False(t, c.RetryToken(), "one at a time")
		assert.Equal(t, began, time.Now(), "it is not waited for")
		advance(2 * time.Second)
		assert.Equal(t, fetches+1, api.fetches.Load())
		assert.True(t, c.State().TokenStatus().Failing)

		api.status.Store(0)
		advance(2 * time.Minute)
		assert.True(t, c.RetryToken())
		advance(2 * time.Second)
		assert.False(t, c.State().TokenStatus().Failing)

		api.status.Store(401)
		advance(40 * time.Minute)
		require.Error(t, call(c))
		advance(2 * time.Minute)
		c.Retire()
		assert.False(t, c.RetryToken(), "its configuration has ended")
	})
}

func TestClockOffset(t *testing.T) {
	t.Parallel()
	s := NewState()
	_, known := s.ClockOffset()
	assert.False(t, known)
	s.clock.set(time.Now().Unix(), time.Now())
	offset, known := s.ClockOffset()
	assert.True(t, known)
	assert.Zero(t, offset)
	now := time.Now()
	s.clock.set(now.Add(-time.Minute).Unix(), now)
	offset, _ = s.ClockOffset()
	assert.InDelta(t, -60, offset.Seconds(), 1.5)
	_, known = s.clock.offsetAt(asleep(now, time.Hour))
	assert.False(t, known, "the clock may have been set")
}
