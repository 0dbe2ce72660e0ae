package client_test

// This file holds tests of calls that the caller withdraws before they are sent.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// permits returns a MaySend that allows so many times, and then refuses.
func permits(times int32) (maySend func() error, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	return func() error {
		if asked.Add(1) > times {
			return errors.New("refusal-canary")
		}
		return nil
	}, asked
}

// bodies serves an emulator, and counts the bodies of POST /cvs that arrive whole.
func bodies(e *emulator.Emulator) (http.Handler, *atomic.Int32) {
	whole := new(atomic.Int32)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cvs" {
			body, err := io.ReadAll(r.Body)
			if err != nil || len(body) == 0 {
				return
			}
			whole.Add(1)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		e.ServeHTTP(w, r)
	}), whole
}

func TestCallWithdrawnBeforeItIsSent(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	maySend, _ := permits(0)
	_, err := c.IssueAlone(context.Background(), order(t, "o"), maySend)
	require.ErrorIs(t, err, client.ErrWithdrawn)
	require.NotErrorIs(t, err, client.ErrOutcomeUnknown)
	void := client.VoidRequest("imp_1")
	void.MaySend = maySend
	_, err = c.Do(context.Background(), void)
	require.ErrorIs(t, err, client.ErrWithdrawn)
	assert.Zero(t, e.Requests(emulator.EndpointIssue))
	assert.Zero(t, e.Requests(emulator.EndpointVoid))
	assert.Zero(t, e.Requests(emulator.EndpointFind), "nothing is in doubt")

	maySend, asked := permits(100)
	void.MaySend = maySend
	resp, err := c.Do(context.Background(), void)
	require.NoError(t, err)
	require.ErrorIs(t, resp.Err(), client.ErrNotFound, "it was sent")
	assert.Positive(t, asked.Load())
}

// The connection may have taken longer than the permission lasts.
func TestCallWithdrawnWhenItsBodyIsRead(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{})
			handler, whole := bodies(e)
			dialed := new(atomic.Bool)
			rt := overTLS(http2)
			rt.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dialed.Store(true) // from here on MaySend refuses
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			t.Cleanup(rt.CloseIdleConnections)
			address := tlsServer(t, handler, http2)
			token := overTLS(http2)
			t.Cleanup(token.CloseIdleConnections)
			c := newClient(t, "https://"+address, transport(roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/cvs" {
					return rt.RoundTrip(r)
				}
				return token.RoundTrip(r)
			})))
			fetchToken(t, c)
			_, err := c.IssueAlone(context.Background(), order(t, "o"), func() error {
				if dialed.Load() {
					return errors.New("refusal-canary")
				}
				return nil
			})
			require.ErrorIs(t, err, client.ErrWithdrawn)
			assert.NotContains(t, err.Error(), "refusal-canary")
			assert.True(t, dialed.Load())
			assert.Zero(t, whole.Load())
			assert.Empty(t, e.Payments())

			maySend, asked := permits(100)
			_, err = c.IssueAlone(context.Background(), order(t, "o"), maySend)
			require.NoError(t, err)
			assert.EqualValues(t, 2, asked.Load(), "before the connection, and before the body")
			assert.Len(t, e.Payments(), 1)
		})
	}
}

func TestCallWithdrawnBeforeItsRepeat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		http2  bool
		allows int32
	}{
		"HTTP/1.1": {false, 2}, "HTTP/1.1, when its body is read": {false, 3}, "HTTP/2": {true, 2}, "HTTP/2, when its body is read": {true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{})
			handler, whole := bodies(e)
			rt := overTLS(c.http2)
			t.Cleanup(rt.CloseIdleConnections)
			api := newClient(t, "https://"+tlsServer(t, handler, c.http2), transport(rt))
			fetchToken(t, api)
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
			maySend, asked := permits(c.allows)
			_, err := api.IssueAlone(context.Background(), order(t, "o"), maySend)
			require.ErrorIs(t, err, client.ErrWithdrawn)
			assert.Equal(t, c.allows+1, asked.Load())
			assert.EqualValues(t, 1, whole.Load(), "the first one, which got a 401")
			assert.Empty(t, e.Payments())
			assert.Zero(t, e.Requests(emulator.EndpointFind), "a 401 leaves no doubt")

			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
			maySend, asked = permits(100)
			_, err = api.IssueAlone(context.Background(), order(t, "o"), maySend)
			require.NoError(t, err)
			assert.EqualValues(t, 4, asked.Load(), "twice for each of the two")
			assert.Len(t, e.Payments(), 1)
		})
	}
}

// While no connection can be made, the call is tried again: each time with permission.
func TestCallWithdrawnBetweenConnections(t *testing.T) {
	t.Parallel()
	d := new(faultyDialer)
	e, c := newSandbox(t, emulator.Options{}, d.transport())
	fetchToken(t, c)
	d.failures.Store(1)
	maySend, asked := permits(1)
	_, err := c.IssueAlone(context.Background(), order(t, "o"), maySend)
	require.ErrorIs(t, err, client.ErrWithdrawn)
	assert.EqualValues(t, 2, asked.Load())
	assert.Empty(t, e.Payments())
}
