package client_test

// This file holds tests of several attempts to issue a barcode for one order.

import (
	"context"
	"fmt"
	"io"
	"net/http"
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

func TestIdenticalIssuesShareOneCall(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	calls := []<-chan result{issueInBackground(context.Background(), c, order(t, "o"))}
	h.await(t)
	for range 9 {
		ctx := watched(t.Context(), doneCallsOfIssue)
		calls = append(calls, issueInBackground(ctx, c, order(t, "o")))
		<-ctx.waits // it has joined and waits
	}
	close(h.release)
	var bodies []string
	for _, call := range calls {
		r := <-call
		require.NoError(t, r.err)
		bodies = append(bodies, string(r.resp.Body))
	}
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	require.Len(t, e.Payments(), 1)
	for _, body := range bodies {
		assert.Contains(t, body, e.Payments()[0].ImpUID)
	}

	_, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.Len(t, e.Payments(), 2, "a later one is a call of its own")
}

func TestDifferentIssuesAreSeparateCalls(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	server := newServer(t, e)
	tiered := newClient(t, server.URL, func(cfg *client.Config) { cfg.State, cfg.Tier = c.State(), "001" })
	body := `{"merchant_uid":"o","amount":15000}`
	completed := parse(t, strict.JSON, body)
	completed.Complete(client.Defaults{PG: "galaxia.M2"}, keys(t), "", time.Now())
	other := parse(t, strict.JSON, body)
	other.Complete(client.Defaults{PG: "galaxia.M2"}, keys(t), "second", time.Now())
	calls := []<-chan result{
		issueInBackground(context.Background(), c, parse(t, strict.JSON, body)),
		issueInBackground(context.Background(), c, parse(t, strict.JSON, `{"merchant_uid":"o","amount":15001}`)),
		issueInBackground(context.Background(), c, parse(t, strict.Form, `merchant_uid=o&amount=15000`)),
		issueInBackground(context.Background(), c, completed),
		issueInBackground(context.Background(), c, other),
		issueInBackground(context.Background(), tiered, parse(t, strict.JSON, body)),
	}
	for range calls {
		h.await(t) // all are under way at once
	}
	close(h.release)
	for _, call := range calls {
		require.NoError(t, (<-call).err)
	}
	assert.Len(t, e.Payments(), len(calls))
}

func TestIssuesCompletedAtDifferentTimesShareOneCall(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	now := time.Now()
	complete := func(at time.Time) *client.Issue {
		i := order(t, "o")
		_ = i.Complete(client.Defaults{ExpiresIn: time.Hour}, keys(t), "", at)
		return i
	}
	first := issueInBackground(context.Background(), c, complete(now))
	h.await(t)
	ctx := watched(t.Context(), doneCallsOfIssue)
	second := issueInBackground(ctx, c, complete(now.Add(time.Second)))
	<-ctx.waits
	close(h.release)
	a, b := <-first, <-second
	require.NoError(t, a.err)
	require.NoError(t, b.err)
	assert.Equal(t, a.resp, b.resp)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
}

// The answer to a call is lost just after another call of its order was answered. The
// look-up finds the first call's payment. By its start, which the API gives in whole
// seconds, it could be of either call, and it does not show the deadline in which the two
// calls differ.
func TestRecoveredPaymentIsNotOfAnotherCall(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(time.Hour).Unix()
	for name, second := range map[string]string{
		"another barcode and name": `{"merchant_uid":"o","amount":15000,"barcode":"2222","name":"second"}`,
		"another deadline":         fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, deadline),
		"another confirm_url":      `{"merchant_uid":"o","amount":15000,"confirm_url":"http://127.0.0.1/2"}`,
		"the same":                 `{"merchant_uid":"o","amount":15000}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, c := newSandbox(t, emulator.Options{}, timeout(brief))
			fetchToken(t, c)
			_, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.NoError(t, err)
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Drop: emulator.DropBefore, Times: 1})
			_, err = c.IssueRaw(context.Background(), parse(t, strict.JSON, second))
			require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			assert.Len(t, e.Payments(), 1)
		})
	}
}

// Two calls at once are both left without an answer, and one payment is found, which may
// be of either.
func TestAmbiguousPaymentIsNotRecovered(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first, second string
		found         int // of the two
	}{
		"they show the same":    {`{"merchant_uid":"o","amount":15000}`, fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, time.Now().Add(time.Hour).Unix()), 0},
		"they do not":           {`{"merchant_uid":"o","amount":15000,"name":"first"}`, `{"merchant_uid":"o","amount":15000,"name":"second"}`, 1},
		"of two orders they do": {`{"merchant_uid":"o","amount":15000}`, `{"merchant_uid":"p","amount":15000}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts atomic.Int32
			both := make(chan struct{})
			e, c := newSandbox(t, emulator.Options{
				BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
					if endpoint == emulator.EndpointIssue {
						if posts.Add(1) == 2 {
							close(both)
						}
						<-both
					}
				},
				Fault: func(endpoint emulator.Endpoint, r *http.Request) emulator.Fault {
					body, _ := io.ReadAll(r.Body)
					switch {
					case endpoint != emulator.EndpointIssue:
						return emulator.Fault{}
					case string(body) == tc.first:
						return emulator.Fault{Drop: emulator.DropAfter}
					}
					return emulator.Fault{Drop: emulator.DropBefore}
				},
			}, timeout(brief))
			fetchToken(t, c)
			one := issueInBackground(context.Background(), c, parse(t, strict.JSON, tc.first))
			two := issueInBackground(context.Background(), c, parse(t, strict.JSON, tc.second))
			found := 0
			for _, r := range []result{<-one, <-two} {
				if r.err == nil {
					found++
					assert.True(t, r.resp.Recovered)
				} else {
					assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown)
				}
			}
			assert.Equal(t, tc.found, found)
			assert.Len(t, e.Payments(), 1)
		})
	}
}

// A call in doubt is remembered after it ended, because its payment may appear late.
func TestLatePaymentIsNotOfNextCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		const limit = 4 * time.Second
		var posts int
		c := newClient(t, "http://api.example", timeout(limit), transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/cvs" {
				return inProcess(e).RoundTrip(r)
			}
			if posts++; posts == 1 { // the work is done three time-outs later
				body, _ := io.ReadAll(r.Body)
				late := r.Clone(context.Background())
				late.Body = io.NopCloser(strings.NewReader(string(body)))
				time.AfterFunc(3*limit, func() { _, _ = inProcess(e).RoundTrip(late) })
			}
			return nil, io.ErrUnexpectedEOF
		})))
		fetchToken(t, c)
		began := time.Now()
		_, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.ErrorIs(t, err, client.ErrOutcomeUnknown)
		<-time.After(time.Until(began.Add(3*limit - time.Second)))
		other := parse(t, strict.JSON, fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, longAgo.Add(time.Hour).Unix()))
		_, err = c.IssueRaw(context.Background(), other)
		require.ErrorIs(t, err, client.ErrOutcomeUnknown, "the payment has another deadline")
		assert.Len(t, e.Payments(), 1)
		c.Close()
		<-time.After(time.Hour) // on synctest's clock: nothing is left behind
	})
}

// A slow token leaves the API's clock uncertain for the calls that follow, so that earlier
// answers must be remembered for that much longer.
func TestAnsweredPaymentRememberedWhileClocksMayDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{TokenLife: 5 * time.Second})
		var posts, tokens int
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/cvs" {
				if posts++; posts == 2 {
					return nil, io.ErrUnexpectedEOF // lost before it reached the API
				}
			}
			resp, err := inProcess(e).RoundTrip(r)
			if r.URL.Path == "/users/getToken" {
				if tokens++; tokens > 1 {
					<-time.After(4800 * time.Millisecond) // on synctest's clock
				}
			}
			return resp, err
		})))
		fetchToken(t, c)
		issueUntil := func(deadline int64) error {
			_, err := c.IssueRaw(context.Background(), parse(t, strict.JSON, fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, deadline)))
			return err
		}
		require.NoError(t, issueUntil(2_000_000_000))
		<-time.After(4700 * time.Millisecond)
		require.ErrorIs(t, issueUntil(2_000_000_099), client.ErrOutcomeUnknown)
		assert.Len(t, e.Payments(), 1)
		c.Close()
		<-time.After(time.Hour) // on synctest's clock
	})
}
