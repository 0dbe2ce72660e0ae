package client_test

// This file holds tests of when a request is sent again, and when it is not.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// The API may be at work on what was written, in whatever way the connection ends.
func TestIssueNotRepeatedAfterReset(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for _, http2 := range []bool{false, true} {
		for _, work := range []time.Duration{limit / 2, limit * 3 / 2, limit * 3} {
			t.Run(fmt.Sprintf("HTTP2 %v, work %v", http2, work), func(t *testing.T) {
				t.Parallel()
				arrived := make(chan struct{}, 10)
				e := emulator.New(emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
					if endpoint == emulator.EndpointIssue {
						arrived <- struct{}{}
					}
				}})
				t.Cleanup(func() { _ = e.Close() })
				n := newNetwork(t, tlsServer(t, e, http2))
				c := newClient(t, "https://"+n.listener.Addr().String(), timeout(limit), transport(overTLS(http2)))
				fetchToken(t, c)
				inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: work, Times: 1})
				began := time.Now()
				call := issueInBackground(context.Background(), c, order(t, "o"))
				<-arrived
				n.reset()
				r := <-call
				if took := time.Since(began); r.err == nil {
					assert.True(t, r.resp.Recovered)
				} else {
					require.ErrorIs(t, r.err, client.ErrOutcomeUnknown)
					assert.GreaterOrEqual(t, took, limit, "looked up until the API should be done")
					assert.Greater(t, work, limit, "what is done by then is found")
				}
				require.Eventually(t, func() bool { return len(e.Payments()) > 0 }, 10*time.Second, 5*time.Millisecond)
				assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
				assert.Len(t, e.Payments(), 1)
			})
		}
	}
}

// After these ends of a stream http.Transport would send a request again by itself. But
// the server may have done the work.
func TestTransportDoesNotRepeatIssue(t *testing.T) {
	t.Parallel()
	code := func(c byte) []byte { return []byte{0, 0, 0, c} }
	for name, end := range map[string]func(stream uint32) []byte{
		"refused stream": func(stream uint32) []byte { return frame(frameReset, stream, code(7)...) },
		"protocol error": func(stream uint32) []byte { return frame(frameReset, stream, code(1)...) },
		"internal error": func(stream uint32) []byte { return frame(frameReset, stream, code(2)...) },
		"going away":     func(uint32) []byte { return frame(frameGoAway, 0, append(code(0), code(0)...)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, requests := rawHTTP2(t, end)
			api := &scriptedAPI{find: missing, other: missing}
			raw := overTLS(true)
			t.Cleanup(raw.CloseIdleConnections)
			c := newClient(t, "https://"+address, timeout(brief), transport(roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/cvs" {
					return raw.RoundTrip(r)
				}
				return inProcess(api).RoundTrip(r)
			})))
			_, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			assert.EqualValues(t, 1, requests.Load())
		})
	}
}

func TestIssueRepeatedIfNothingSent(t *testing.T) {
	t.Parallel()
	d := new(faultyDialer)
	e, c := newSandbox(t, emulator.Options{}, d.transport())
	fetchToken(t, c)
	d.failures.Store(2)
	resp, err := c.IssueRaw(context.Background(), order(t, "o1"))
	require.NoError(t, err)
	assert.False(t, resp.Recovered)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	assert.Zero(t, e.Requests(emulator.EndpointFind), "nothing was in doubt")

	d.failures.Store(1000)
	dials := d.dials.Load()
	_, err = c.IssueRaw(context.Background(), order(t, "o2"))
	require.ErrorIs(t, err, client.ErrUnreachable)
	require.NotErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.EqualValues(t, 3, d.dials.Load()-dials)
	assert.Len(t, e.Payments(), 1)
}

func TestIssueInDoubtIfTransportDoesNotTrace(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	posts := 0
	c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/cvs" {
			if posts++; posts == 1 {
				_, err := inProcess(e).RoundTrip(r)
				assert.NoError(t, err)
				return nil, errors.New("error-canary")
			}
		}
		return inProcess(e).RoundTrip(r)
	})))
	resp, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.True(t, resp.Recovered)
	assert.Len(t, e.Payments(), 1)
}
