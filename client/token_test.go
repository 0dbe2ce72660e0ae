package client

// This file holds tests of fetching and renewing the token.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeAPI answers without a network, so that it runs on synctest's clock.
type fakeAPI struct {
	skew    time.Duration // its clock minus the client's
	latency time.Duration
	status  atomic.Int32 // answered by getToken instead of a token
	frozen  atomic.Bool  // never extends or renews
	reject  atomic.Bool  // 401 for every token

	fetches, calls, expiredSent atomic.Int32

	mu      sync.Mutex
	token   int
	expires time.Time
}

func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	advance(f.latency)
	now := time.Now().Add(f.skew)
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/users/getToken") {
		f.fetches.Add(1)
		if s := f.status.Load(); s != 0 {
			return answer(int(s), `{"code":-1,"message":"no","response":null}`), nil
		}
		switch left := f.expires.Sub(now); {
		case f.frozen.Load():
		case left <= 0:
			f.token++
			f.expires = now.Add(30 * time.Minute)
		case left <= time.Minute:
			f.expires = f.expires.Add(5 * time.Minute)
		}
		return answer(200, fmt.Sprintf(`{"code":0,"message":null,"response":{"access_token":"t%d","now":%d,"expired_at":%d}}`, f.token, now.Unix(), f.expires.Unix())), nil
	}
	f.calls.Add(1)
	valid := r.Header.Get("Authorization") == fmt.Sprintf("Bearer t%d", f.token)
	if valid && !now.Before(f.expires) {
		f.expiredSent.Add(1)
	}
	if !valid || f.reject.Load() || !now.Before(f.expires) {
		return answer(401, `{"code":-1,"message":"Unauthorized","response":null}`), nil
	}
	return answer(200, `{"code":0,"message":null,"response":{"imp_uid":"imp_1","tier":"`+r.Header.Get("Tier")+`"}}`), nil
}

// revoke makes the API forget its token.
func (f *fakeAPI) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expires = time.Time{}
}

// advance lets time pass on synctest's clock.
func advance(d time.Duration) { <-time.After(d) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body))}
}

func fakeClient(t *testing.T, api http.RoundTripper, tier string) *Client {
	t.Helper()
	c, err := New(Config{ImpKey: "key", ImpSecret: "secret", Transport: api, Tier: tier})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func call(c *Client) error {
	_, err := c.Payment(context.Background(), "imp_1")
	return err
}

func TestWaitingCallsShareTokenFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{latency: time.Second}
		c := fakeClient(t, api, "")
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { assert.NoError(t, call(c)) })
		}
		wg.Wait()
		assert.EqualValues(t, 1, api.fetches.Load())
		assert.EqualValues(t, 1000, api.calls.Load())
	})
}

func TestWaitingCallsShareTokenFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{latency: time.Second}
		api.status.Store(503)
		c := fakeClient(t, api, "")
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				err := call(c)
				var unavailable *UnavailableError
				assert.ErrorIs(t, err, ErrNoToken)
				assert.ErrorAs(t, err, &unavailable)
				assert.Positive(t, unavailable.RetryAfter)
			})
		}
		wg.Wait()
		assert.EqualValues(t, 3, api.fetches.Load(), "a 5xx may pass: three attempts for all")
		assert.ErrorIs(t, call(c), ErrNoToken)
		assert.EqualValues(t, 3, api.fetches.Load(), "and none while the API is left alone")

		api.status.Store(0)
		advance(time.Second)
		assert.NoError(t, call(c), "after the pause it is asked again")
	})
}

func TestWrongKeysBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		api.status.Store(401)
		c := fakeClient(t, api, "")
		for range 600 { // one call a second for ten minutes
			assert.ErrorIs(t, call(c), ErrCredentials)
			advance(time.Second)
		}
		assert.LessOrEqual(t, api.fetches.Load(), int32(12))
		assert.Zero(t, api.calls.Load(), "without a token nothing is sent")
	})
}

func TestTokenRenewedInLastMinuteInBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		api.latency = 2 * time.Second
		for range 3 * 60 { // a call a minute for three hours
			advance(time.Minute)
			began := time.Now()
			require.NoError(t, call(c))
			assert.Equal(t, api.latency, time.Since(began), "no call waits for a token")
		}
		assert.Equal(t, 1, api.token, "the API extended the first token all the while")
		assert.InDelta(t, 31, api.fetches.Load(), 2, "once in the last minute of each life")
		assert.Zero(t, api.expiredSent.Load())
	})
}

func TestIdleAccountFetchesNoToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		advance(24 * time.Hour)
		assert.EqualValues(t, 1, api.fetches.Load(), "no traffic while idle")
		require.NoError(t, call(c))
		assert.EqualValues(t, 2, api.fetches.Load(), "one fetch after it")
		assert.Zero(t, api.expiredSent.Load())
	})
}

// A call of the old client that ends after the new one has taken over must not make the
// state hold the old one.
func TestRetiredClientIsNotHeldForRenewals(t *testing.T) {
	t.Parallel()
	state := NewState()
	t.Cleanup(state.Close)
	newClient := func() *Client {
		c, err := New(Config{ImpKey: "key", ImpSecret: "secret", Transport: &fakeAPI{}, State: state})
		require.NoError(t, err)
		return c
	}
	old, next := newClient(), newClient()
	require.NoError(t, call(old))
	next.TakeOver()
	old.Retire()
	require.NoError(t, call(old))
	assert.Same(t, next.fetcher, state.tokens.fetcher)
	next.Retire()
	require.NoError(t, call(old))
	assert.Nil(t, state.tokens.fetcher)
	next.TakeOver()
	assert.Nil(t, state.tokens.fetcher, "nobody has to renew")
}

func TestCallInLastMinuteRenewsTokenInBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		advance(29*time.Minute + 30*time.Second) // idle, then one call
		require.NoError(t, call(c))
		synctest.Wait()
		assert.EqualValues(t, 2, api.fetches.Load())
		advance(time.Minute)
		require.NoError(t, call(c))
		assert.EqualValues(t, 2, api.fetches.Load(), "the extended token is used")
	})
}

func TestFailedRenewalRepeatedBeforeTokenEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		advance(29 * time.Minute)
		require.NoError(t, call(c))
		api.status.Store(500)
		advance(30 * time.Second)
		require.NoError(t, call(c), "the old token still serves")
		api.status.Store(0)
		advance(15 * time.Second)
		before := api.fetches.Load()
		advance(30 * time.Second)
		require.NoError(t, call(c))
		assert.Equal(t, before, api.fetches.Load(), "renewed without a request")
		assert.Equal(t, 1, api.token)
	})
}

func TestExpiredTokenNotSentWithWrongClock(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{0, time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			api := &fakeAPI{skew: skew, latency: 50 * time.Millisecond}
			c := fakeClient(t, api, "")
			for _, wait := range []time.Duration{0, 29 * time.Minute, 59 * time.Second, 59 * time.Minute, 30 * time.Minute, 29*time.Minute + 59*time.Second, 2 * time.Hour} {
				advance(wait)
				require.NoError(t, call(c))
			}
			assert.Zero(t, api.expiredSent.Load(), "API's clock %v off", skew)
			assert.WithinDuration(t, time.Now().Add(skew), c.State().Now(), 3*time.Second, "deadlines are given in the API's time")
		})
	}
}

func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{latency: 10 * time.Millisecond}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		api.revoke()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { assert.NoError(t, call(c)) })
		}
		wg.Wait()
		assert.EqualValues(t, 2, api.fetches.Load(), "one fetch for all that were refused")
		assert.EqualValues(t, 1+50+50, api.calls.Load(), "each repeated once")
	})
}

func TestRefusedTokenNotSentAgainIfConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		api.reject.Store(true)
		assert.ErrorIs(t, call(c), ErrCredentials)
		assert.EqualValues(t, 2, api.fetches.Load())
		assert.EqualValues(t, 2, api.calls.Load(), "not repeated with the same token")
		for range 100 {
			assert.ErrorIs(t, call(c), ErrCredentials)
		}
		assert.EqualValues(t, 2, api.fetches.Load(), "nor is getToken hammered")
		api.reject.Store(false)
		assert.NoError(t, call(c))
	})
}

func TestTokenRefusedTwiceIsErrCredentials(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		api.reject.Store(true)
		api.revoke()
		assert.ErrorIs(t, call(c), ErrCredentials)
		assert.EqualValues(t, 3, api.calls.Load(), "one repeat with the new token, no more")
	})
}

func TestWaitingForTokenEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{latency: 5 * time.Second}
		c := fakeClient(t, api, "")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Payment(ctx, "imp_1")
		assert.ErrorIs(t, err, ErrNoToken)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		advance(4500 * time.Millisecond)
		require.NoError(t, call(c))
		assert.EqualValues(t, 1, api.fetches.Load(), "the fetch went on for the others")
	})
}

func TestTierIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, tier := range []string{"", "001"} {
			p, err := fakeClient(t, &fakeAPI{}, tier).Payment(context.Background(), "imp_1")
			require.NoError(t, err)
			assert.Contains(t, string(p.Raw), `"tier":"`+tier+`"`)
		}
	})
}

func TestNewAccessTokenRejectsNonsense(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		token          string
		now, expiredAt int64
	}{{"", 1, 1800}, {"t", 1800, 1800}, {"t", 1800, 1}, {"t", 0, 1800}} {
		_, err := newAccessToken(c.token, c.now, c.expiredAt, now)
		assert.ErrorIs(t, err, ErrNotAPI)
	}
	token, err := newAccessToken("t", 1, 1<<62, now)
	require.NoError(t, err)
	assert.LessOrEqual(t, token.expires.Sub(now), 24*time.Hour, "no overflow")
	token, err = newAccessToken("t", 1, 4, now)
	require.NoError(t, err)
	assert.Equal(t, 2*time.Second, token.expires.Sub(now))
}

// Getting a token that is valid reads the clock, takes a lock and allocates nothing.
func BenchmarkTokenAtHand(b *testing.B) {
	token, _ := newAccessToken("t", 1, 1801, time.Now())
	shared, fetcher := &tokens{current: token}, new(tokenFetcher)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := shared.get(context.Background(), fetcher); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestOnlyTransientTokenErrorsAreRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want bool
	}{
		{ErrCredentials, false},
		{errors.New("anything else"), false},
		{&tokenError{&failure{ErrUnreachable, io.EOF}}, true},
		{&tokenError{&failure{ErrOutcomeUnknown, io.EOF}}, true},
		{&tokenError{&APIError{Status: 503}}, true},
		{&tokenError{&NotAPIError{Status: 502}}, true},
		{&tokenError{&NotAPIError{Status: 200}}, true},
		{&tokenError{&failure{&NotAPIError{Status: 200}, errTooLarge}}, true},
		{&tokenError{&APIError{Status: 429}}, false},
		{&tokenError{&APIError{Status: 400}}, false},
		{&tokenError{&APIError{Status: 200, Code: -1}}, false},
		{&tokenError{&NotAPIError{Status: 429}}, false},
		{&tokenError{&NotAPIError{Status: 302}}, false},
		{&tokenError{errPanic}, false},
	} {
		assert.Equal(t, c.want, worthRepeating(c.err), "%v", c.err)
	}
}

// After a Retry-After getToken is not repeated at once.
func TestTokenFetchObeysRetryAfter(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]int{"": 3, "5": 1} {
		fetches := 0
		shared := new(tokens)
		fetcher := &tokenFetcher{timeout: time.Second, getToken: func(context.Context) (*accessToken, error) {
			fetches++
			return nil, &tokenError{&NotAPIError{Status: 503, RetryAfter: asked}}
		}}
		_, err := shared.get(t.Context(), fetcher)
		require.Error(t, err)
		assert.Equal(t, want, fetches, asked)
	}
}

func TestHangingTokenFetchIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		shared := new(tokens)
		fetcher := &tokenFetcher{timeout: 10 * time.Second, getToken: func(ctx context.Context) (*accessToken, error) {
			if asked++; asked == 1 { // a dead connection
				<-ctx.Done()
				return nil, &tokenError{&failure{ErrOutcomeUnknown, ctx.Err()}}
			}
			now := time.Now()
			return newAccessToken("token", now.Unix(), now.Unix()+1800, now)
		}}
		defer shared.close()
		ctx, cancel := context.WithTimeout(context.Background(), fetcher.timeout)
		defer cancel()
		_, err := shared.get(ctx, fetcher)
		require.NoError(t, err)
		assert.Equal(t, 2, asked)
	})
}

func TestRefusedTokenFetchedAgainUnderTraffic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		c := fakeClient(t, api, "")
		require.NoError(t, call(c))
		api.reject.Store(true) // getToken goes on confirming the token
		for range 10 {
			require.ErrorIs(t, call(c), ErrCredentials)
			advance(time.Second)
		}
		api.reject.Store(false)
		api.revoke() // and now gives a new one
		recovered := 0
		for range 10 {
			if call(c) == nil {
				recovered++
			}
			advance(time.Second)
		}
		assert.GreaterOrEqual(t, recovered, 4, "calls in between do not put off the next fetch")
		assert.LessOrEqual(t, api.fetches.Load(), int32(6))
	})
}

func TestTransportPanicIsAnError(t *testing.T) {
	t.Parallel()
	c := fakeClient(t, panicking{}, "")
	assert.ErrorIs(t, call(c), ErrNoToken)

	token, err := newAccessToken("t", 1, 1801, time.Now())
	require.NoError(t, err)
	c.state.tokens.current = token
	issue, err := ParseIssue("application/json", []byte(`{"merchant_uid":"o","amount":1}`), time.Now())
	require.NoError(t, err)
	_, err = c.IssueRaw(t.Context(), issue)
	assert.ErrorIs(t, err, ErrOutcomeUnknown)
}

type panicking struct{}

func (panicking) RoundTrip(*http.Request) (*http.Response, error) { panic("a transport's own fault") }

// A token fetch is observed as a part of the call that starts it, and does not end with that call.
func TestTokenFetchHasTheDetachedContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	var seen atomic.Value
	asked := make(chan struct{}, 3)
	c, err := New(Config{
		ImpKey: "key", ImpSecret: "secret",
		Detach: func(ctx context.Context) context.Context {
			return context.WithValue(context.Background(), key{}, ctx.Value(key{}))
		},
		Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			if r.Context().Err() == nil {
				seen.Store(r.Context().Value(key{}))
			}
			asked <- struct{}{}
			return nil, errors.New("no network")
		}),
	})
	require.NoError(t, err)
	ctx, leave := context.WithCancel(context.WithValue(t.Context(), key{}, "trace"))
	leave()
	_, err = c.Payment(ctx, "imp_1")
	require.ErrorIs(t, err, context.Canceled)
	<-asked
	assert.Equal(t, "trace", seen.Load(), "and the fetch had not ended")
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
