package client

// This file holds tests of the pauses between attempts.

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestBackoffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	for attempt, want := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 5: 1000, 19: 1000, 1000: 1000} {
		for range 50 {
			d := backoff(attempt, 100*time.Millisecond, time.Second)
			assert.LessOrEqual(t, d, want*time.Millisecond)
			assert.GreaterOrEqual(t, d, want*time.Millisecond*3/4)
		}
	}
	assert.Greater(t, fetchPause(ErrCredentials, 1), fetchPause(&tokenError{ErrUnreachable}, 20), "wrong keys stay wrong")
}

func TestPauseAfterFailedTokenFetchDependsOnTheError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err         error
		first, last time.Duration
	}{
		{&tokenError{&failure{ErrUnreachable, io.EOF}}, 500 * time.Millisecond, 5 * time.Second},
		{&tokenError{&APIError{Status: 200, Code: -1}}, time.Second, 2 * time.Minute},
		{&tokenError{&NotAPIError{Status: 429}}, time.Second, 2 * time.Minute},
		{ErrCredentials, 10 * time.Second, 2 * time.Minute},
		{&tokenError{&NotAPIError{Status: 503, RetryAfter: "0"}}, 500 * time.Millisecond, 5 * time.Second},
	} {
		for failures, want := range map[int]time.Duration{1: c.first, 2: 2 * c.first, 30: c.last} {
			got := fetchPause(c.err, failures)
			assert.LessOrEqual(t, got, want, "%v, %d", c.err, failures)
			assert.GreaterOrEqual(t, got, want*3/4, "%v, %d", c.err, failures)
		}
	}
	for asked, want := range map[string]time.Duration{"15": 15 * time.Second, "86400": 2 * time.Minute} {
		assert.Equal(t, want, fetchPause(&tokenError{&APIError{Status: 429, RetryAfter: asked}}, 1))
		assert.Equal(t, want, fetchPause(&tokenError{&NotAPIError{Status: 429, RetryAfter: asked}}, 1))
		assert.Equal(t, min(want, 20*time.Second), fetchPause(&tokenError{&NotAPIError{Status: 503, RetryAfter: asked}}, 1))
	}
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		assert.Equal(t, "5", readRetryAfter(&http.Response{Header: http.Header{"Retry-After": {strings.Repeat("0", 3000) + "5"}}}), "as short as it can be")
		for value, want := range map[string]time.Duration{
			"": 0, "0": 0, "120": 2 * time.Minute, "99999999999999": 1_000_000_000 * time.Second,
			time.Now().Add(time.Minute).UTC().Format(http.TimeFormat): time.Minute,
			"Fri, 31 Dec 1999 23:59:59 GMT":                           0,
			"-1":                                                      -1, "soon": -1, "1.5": -1, "99999999999999999999": -1,
		} {
			assert.Equal(t, want, parseRetryAfter(value), value)
		}
	})
}
