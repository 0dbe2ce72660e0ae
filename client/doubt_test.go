package client_test

// This file holds tests of what happens to a POST /cvs whose answer is lost.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func TestIssueResolvesLostAnswer(t *testing.T) {
	t.Parallel()
	var assertions []func()
	for _, tc := range []struct {
		name      string
		faults    []emulator.Fault
		posts     int
		payments  int
		recovered bool
		err       error
	}{
		{
			name:   "answer lost after the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "half an answer",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBody}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "garbage after the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Garbage: true}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "far too much after the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Oversized: true}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "broken before the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBefore}},
			posts:  1, err: client.ErrOutcomeUnknown,
		},
		{
			name: "look-up answers at the second attempt",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter},
				{Endpoint: emulator.EndpointFind, Times: 1, Status: 503},
			},
			posts: 1, payments: 1, recovered: true,
		},
		{
			name: "look-up refused",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter},
				{Endpoint: emulator.EndpointFind, Status: 500},
			},
			posts: 1, payments: 1, err: client.ErrOutcomeUnknown,
		},
		{
			name: "look-up broken",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBefore},
				{Endpoint: emulator.EndpointFind, Drop: emulator.DropAfter},
			},
			posts: 1, err: client.ErrOutcomeUnknown,
		},
		{
			name: "look-up garbled",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Garbage: true},
				{Endpoint: emulator.EndpointFind, Garbage: true},
			},
			posts: 1, payments: 1, err: client.ErrOutcomeUnknown,
		},
		{
			name:   "refused by the API",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Status: 500, Message: "점검"}},
			posts:  1,
		},
	} {
		limit := timeout(client.DefaultTimeout)
		if tc.err != nil {
			limit = timeout(brief) // which the look-ups take
		}
		e, c := newSandbox(t, emulator.Options{}, limit)
		for _, f := range tc.faults {
			inject(t, e, f)
		}
		call := issueInBackground(context.Background(), c, order(t, "주문/1"))
		assertions = append(assertions, func() {
			r := <-call
			assert.Equal(t, tc.posts, e.Requests(emulator.EndpointIssue), tc.name)
			ledger := e.Payments()
			assert.Len(t, ledger, tc.payments, tc.name)
			if tc.err != nil {
				assert.ErrorIs(t, r.err, tc.err, tc.name)
				assert.Nil(t, r.resp, tc.name)
				return
			}
			require.NoError(t, r.err, tc.name)
			assert.Equal(t, tc.recovered, r.resp.Recovered, tc.name)
			if p, err := r.resp.Payment(); tc.payments == 1 && assert.NoError(t, err, tc.name) {
				assert.Equal(t, ledger[0].ImpUID, p.ImpUID, tc.name)
			}
			if tc.posts == 1 && !tc.recovered {
				assert.Zero(t, e.Requests(emulator.EndpointFind), "%s: an answer of the API leaves no doubt", tc.name)
			}
		})
	}
	runAll(assertions)
}

func TestIssueResolvesLostAnswerOverHTTP2(t *testing.T) {
	t.Parallel()
	for drop, payments := range map[emulator.Drop]int{emulator.DropBefore: 0, emulator.DropAfter: 1, emulator.DropBody: 1} {
		t.Run(string(drop), func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{BeforeRequest: func(_ emulator.Endpoint, r *http.Request) {
				assert.Equal(t, 2, r.ProtoMajor)
			}})
			server := httptest.NewUnstartedServer(e)
			server.EnableHTTP2 = true
			server.StartTLS()
			t.Cleanup(server.Close)
			c := newClient(t, server.URL, transport(server.Client().Transport), timeout(brief))
			fetchToken(t, c)
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: drop})
			resp, err := c.IssueRaw(context.Background(), order(t, "o"))
			if payments == 0 {
				require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			} else {
				require.NoError(t, err)
				assert.True(t, resp.Recovered)
			}
			assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
			assert.Len(t, e.Payments(), payments)
		})
	}
}

func TestIssueToleratesClockSkew(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			e, c := newSandbox(t, emulator.Options{Now: func() time.Time { return time.Now().Add(skew) }})
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter})
			resp, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.NoError(t, err)
			assert.True(t, resp.Recovered)
			assert.Len(t, e.Payments(), 1)
			assert.WithinDuration(t, time.Now().Add(skew), c.State().Now(), 5*time.Second)
		})
	}
}

// If getToken took long, the API's clock is uncertain by half of that time. A look-up that
// ignored it would take the call's own payment for an older one, and the app would issue
// a second barcode.
func TestSlowTokenDoesNotHideIssuedPayment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{Now: func() time.Time { return time.Now().Add(-5 * time.Second) }})
		lost := false
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/users/getToken" {
				<-time.After(4 * time.Second) // on synctest's clock
			}
			resp, err := inProcess(e).RoundTrip(r)
			if r.Method == http.MethodPost && r.URL.Path == "/cvs" && !lost {
				lost = true
				return nil, io.ErrUnexpectedEOF
			}
			return resp, err
		})))
		fetchToken(t, c)
		resp, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.NoError(t, err)
		assert.True(t, resp.Recovered)
		assert.Len(t, e.Payments(), 1)
	})
}

func TestIssueLooksUpAfterTimeout(t *testing.T) {
	t.Parallel()
	// The API does the work at the time of the second look-up.
	e := emulator.New(emulator.Options{})
	release, done, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var finds atomic.Int32
	server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/cvs":
			body, _ := io.ReadAll(r.Body)
			select {
			case <-release:
			case <-over:
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			e.ServeHTTP(w, r)
			close(done)
			return
		case strings.HasPrefix(r.URL.Path, "/payments/find/") && finds.Add(1) == 2:
			close(release)
			<-done
		}
		e.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { close(over) })
	c := newClient(t, server.URL, timeout(brief))
	fetchToken(t, c)
	resp, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.True(t, resp.Recovered)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	assert.Len(t, e.Payments(), 1)
}

func TestIssueNotRepeatedAfterTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			answer := make(chan *http.Response, 1)
			go func() { // goes on when the client has gone
				resp, _ := inProcess(e).RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
				answer <- resp
			}()
			select {
			case resp := <-answer:
				return resp, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})))
		fetchToken(t, c)
		inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: time.Hour})
		_, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.ErrorIs(t, err, client.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Positive(t, e.Requests(emulator.EndpointFind), "it was looked up")
		assert.Empty(t, e.Payments())
		_ = e.Close() // ends the delay: the API does the work after all
		synctest.Wait()
		assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
		assert.Len(t, e.Payments(), 1)
		c.Close()
	})
}

// A time-out of the transport itself (Caddy's read_timeout) is not a
// context.DeadlineExceeded, but the API may be at work on the call all the same.
func TestIssueNotRepeatedAfterTransportTimeout(t *testing.T) {
	t.Parallel()
	dialer := &net.Dialer{}
	e, c := newSandbox(t, emulator.Options{}, transport(&http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				err = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			}
			return conn, err
		},
	}), timeout(brief))
	fetchToken(t, c)
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: time.Hour})
	_, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
}

func TestIssueIsErrNotAPIAfterForeignAnswer(t *testing.T) {
	t.Parallel()
	var assertions []func()
	for name, garbage := range map[string]http.HandlerFunc{
		"200 page": page(200),
		"404 page": page(404),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/cvs", http.StatusTemporaryRedirect)
		},
		"no code":          answer(200, strict.JSON, `{"message":null,"response":{"imp_uid":"imp_1"}}`),
		"code as text":     answer(200, strict.JSON, `{"code":"0","message":null,"response":{"imp_uid":"imp_1"}}`),
		"list":             answer(200, strict.JSON, `[{"code":0}]`),
		"trailing bytes":   answer(200, strict.JSON, `{"code":0} {"code":0}`),
		"empty":            answer(200, strict.JSON, ``),
		"no content":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"envelope and 302": answer(302, strict.JSON, `{"code":0,"message":null,"response":null}`),
	} {
		api := &scriptedAPI{issue: garbage, find: missing}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		assertions = append(assertions, func() {
			r := <-call
			assert.ErrorIs(t, r.err, client.ErrNotAPI, name)
			assert.NotErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			assert.Nil(t, r.resp, name)
			assert.EqualValues(t, 1, api.posts.Load(), name)
			assert.Positive(t, api.finds.Load(), "%s was looked up all the same", name)
		})
	}
	runAll(assertions)
}

// A proxy's own page for a 502 or 504 says nothing of what the API is doing.
func TestIssueOutcomeUnknownAfterProxyError(t *testing.T) {
	t.Parallel()
	var assertions []func()
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		api := &scriptedAPI{issue: page(status), find: missing}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		assertions = append(assertions, func() {
			require.ErrorIs(t, (<-call).err, client.ErrOutcomeUnknown, status)
			assert.EqualValues(t, 1, api.posts.Load(), status)
		})
	}
	runAll(assertions)
}

// An answer beyond the limit is not a broken connection: a server answered.
func TestIssueNotRepeatedAfterOversizedAnswer(t *testing.T) {
	t.Parallel()
	api := &scriptedAPI{issue: succeed(strings.Repeat(" ", 2<<20) + "null"), find: missing}
	c := newClient(t, newServer(t, api).URL, timeout(brief))
	_, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.ErrorIs(t, err, client.ErrNotAPI)
	require.NotErrorIs(t, err, client.ErrOutcomeUnknown, "the last look-up found none")
	assert.EqualValues(t, 1, api.posts.Load())
}

func TestLastLookUpDecides(t *testing.T) {
	t.Parallel()
	for last, want := range map[int]error{404: client.ErrNotAPI, 502: client.ErrOutcomeUnknown, 429: client.ErrOutcomeUnknown} {
		t.Run(strconv.Itoa(last), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				api := &scriptedAPI{issue: page(404), find: func(w http.ResponseWriter, r *http.Request) {
					if time.Since(began) < client.DefaultTimeout || last == 404 {
						missing(w, r)
						return
					}
					page(last)(w, r)
				}}
				c := newClient(t, "http://api.example", transport(inProcess(api)))
				_, err := c.IssueRaw(context.Background(), order(t, "o"))
				require.ErrorIs(t, err, want)
				assert.Equal(t, last == 404, !errors.Is(err, client.ErrOutcomeUnknown))
				assert.EqualValues(t, 1, api.posts.Load())
				assert.GreaterOrEqual(t, time.Since(began), client.DefaultTimeout)
				assert.Less(t, time.Since(began), 2*client.DefaultTimeout)
				c.Close()
			})
		})
	}
}

// If look-ups fail for a while within the time-out, the app must get the issued barcode
// all the same.
func TestLookUpRetriesUntilTroubleEnds(t *testing.T) {
	t.Parallel()
	const trouble = 4 * time.Second // of the default time-out's 10
	for name, hinder := range map[string]func(*http.Request, time.Duration) (*http.Response, error){
		"no token": func(r *http.Request, since time.Duration) (*http.Response, error) {
			switch {
			case since > trouble:
				return nil, nil
			case r.URL.Path == "/users/getToken":
				return respond(http.StatusServiceUnavailable), nil
			default:
				return respond(http.StatusUnauthorized), nil
			}
		},
		"the API is away": func(_ *http.Request, since time.Duration) (*http.Response, error) {
			if since > trouble {
				return nil, nil
			}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		},
		"a dead connection": func(r *http.Request, since time.Duration) (*http.Response, error) {
			if since > 0 {
				return nil, nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{})
				var lost time.Time
				c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					if !lost.IsZero() {
						if resp, err := hinder(r, time.Since(lost)); resp != nil || err != nil {
							return resp, err
						}
					}
					resp, err := inProcess(e).RoundTrip(r)
					if r.Method == http.MethodPost && r.URL.Path == "/cvs" {
						lost = time.Now()
						return nil, io.ErrUnexpectedEOF
					}
					return resp, err
				})))
				resp, err := c.IssueRaw(context.Background(), order(t, "o"))
				require.NoError(t, err)
				assert.True(t, resp.Recovered)
				assert.Len(t, e.Payments(), 1)
				assert.Less(t, time.Since(lost), 11*time.Second)
				c.Close()
				<-time.After(time.Minute) // on synctest's clock, for a token that is still being fetched
			})
		})
	}
}

// An API may be slow: a look-up and a token may take the whole time-out.
func TestCallsWaitForSlowAnswers(t *testing.T) {
	t.Parallel()
	for slow, prefix := range map[string]string{"look-up": "/payments/find/", "token": "/users/getToken"} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{})
				c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					if strings.HasPrefix(r.URL.Path, prefix) {
						select { // on synctest's clock
						case <-time.After(8 * time.Second):
						case <-r.Context().Done():
							return nil, r.Context().Err()
						}
					}
					resp, err := inProcess(e).RoundTrip(r)
					if r.Method == http.MethodPost && r.URL.Path == "/cvs" && prefix != "/users/getToken" {
						return nil, io.ErrUnexpectedEOF
					}
					return resp, err
				})))
				issue := order(t, "o")
				resp, err := c.IssueRaw(context.Background(), issue)
				if slow == "token" { // the caller gets an error after ten seconds; the token comes later
					require.ErrorIs(t, err, client.ErrNoToken)
					<-time.After(5 * time.Second)
					resp, err = c.IssueRaw(context.Background(), issue)
				}
				require.NoError(t, err)
				assert.Equal(t, slow == "look-up", resp.Recovered)
				assert.Len(t, e.Payments(), 1)
				c.Close()
			})
		})
	}
}

// Look-ups must not overload an API that has trouble.
func TestLookUpsBackOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		find http.HandlerFunc
		most int32
	}{
		"asked to leave it alone": {page(429), 2},
		"likewise, by the API":    {refuse(429, -1, "x"), 2},
		"a refusal":               {refuse(200, -1, "x"), 10},
		"down":                    {page(503), 17},
		"at work":                 {refuse(503, -1, "점검"), 17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				api := &scriptedAPI{issue: page(504), find: c.find}
				caller := newClient(t, "http://api.example", transport(inProcess(api)))
				_, err := caller.IssueRaw(context.Background(), order(t, "o"))
				require.ErrorIs(t, err, client.ErrOutcomeUnknown)
				assert.LessOrEqual(t, api.finds.Load(), c.most)
				assert.GreaterOrEqual(t, api.finds.Load(), int32(2))
				caller.Close()
			})
		})
	}
}

func TestIssueContinuesAfterCallerLeaves(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	ctx, cancel := context.WithCancel(context.Background())
	first := issueInBackground(ctx, c, order(t, "o"))
	h.await(t)
	cancel()
	left := <-first
	require.ErrorIs(t, left.err, client.ErrOutcomeUnknown)
	require.ErrorIs(t, left.err, context.Canceled)

	waits := watched(t.Context(), doneCallsOfIssue)
	second := issueInBackground(waits, c, order(t, "o"))
	<-waits.waits // it has joined what the first began
	close(h.release)
	r := <-second
	require.NoError(t, r.err)
	assert.False(t, r.resp.Recovered)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	assert.Len(t, e.Payments(), 1)
}

// If the caller left before the call, no barcode may be issued that nobody sees.
func TestIssueSendsNothingWithEndedContext(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	fetchToken(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.IssueRaw(ctx, order(t, "o"))
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, client.ErrOutcomeUnknown)
	// If the first call had been sent after all, this one would join it.
	_, err = c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.Len(t, e.Payments(), 1)
}
