package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	// renewBefore lies inside the last 60 seconds of a token's life: asked then,
	// the API extends the token, asked earlier it changes nothing.
	renewBefore = 45 * time.Second
	// renewPause keeps an API that does not extend from being asked at once
	// again; it is less for a token whose whole life is short.
	renewPause = 5 * time.Second
	// idleAfter is how long after the last call a token is still renewed.
	idleAfter = 15 * time.Minute
	// maxLife bounds what the API says of a token's life; it is 30 minutes.
	maxLife = 24 * time.Hour
)

// grant is an access token with its life on this machine's monotonic clock.
type grant struct {
	token     string
	expiredAt int64     // as the API said
	expires   time.Time // not to be sent from here on
	renewAt   time.Time
}

// valid reports whether the token may be sent. The wall clock has a say besides
// the monotonic one, which stands still while a machine sleeps.
func (g *grant) valid(now time.Time) bool {
	return g != nil && now.Before(g.expires) && now.Round(0).Before(g.expires.Round(0))
}

// same reports whether the API gave the same token with the same end.
func (g *grant) same(other *grant) bool {
	return g.token == other.token && g.expiredAt == other.expiredAt
}

// newGrant computes a token's life from the API's two times and the moment
// before it was asked for, so that the local clock has no say in it.
func newGrant(token string, now, expiredAt int64, asked time.Time) (*grant, error) {
	if token == "" || now <= 0 || expiredAt <= now {
		return nil, ErrNotAPI
	}
	lifetime := time.Duration(min(expiredAt-now, int64(maxLife/time.Second))) * time.Second
	margin := min(max(lifetime/10, time.Second), 5*time.Second)
	g := &grant{token: token, expiredAt: expiredAt, expires: asked.Add(lifetime - margin)}
	g.renewAt = g.expires.Add(margin - renewBefore)
	if soonest := time.Now().Add(min(renewPause, lifetime/10)); g.renewAt.Before(soonest) {
		g.renewAt = soonest
	}
	return g, nil
}

// flight is one fetch that any number of calls wait for.
type flight struct {
	done  chan struct{}
	grant *grant
	err   error
}

func landed(g *grant, err error) *flight {
	f := &flight{done: make(chan struct{}), grant: g, err: err}
	close(f.done)
	return f
}

func (f *flight) wait(ctx context.Context) (*grant, error) {
	select {
	case <-f.done:
		return f.grant, f.err
	case <-ctx.Done():
		return nil, &failure{ErrNoToken, ctx.Err()}
	}
}

// tokenSource gets tokens for one client. What it gets belongs to the State.
type tokenSource struct {
	state *State
	fetch func(context.Context) (*grant, error)
	// limit bounds a fetch with its retries. A fetch serves many callers, so
	// none of them may cut it short.
	limit time.Duration
}

// token returns a valid token. While one is at hand it takes no lock and
// allocates nothing.
func (s *tokenSource) token(ctx context.Context) (*grant, error) {
	now := time.Now()
	s.touch(now)
	g := s.state.current.Load()
	if !g.valid(now) {
		return s.state.fly(s, g, false).wait(ctx)
	}
	if !now.Before(g.renewAt) {
		s.state.fly(s, g, false)
	}
	return g, nil
}

// touch notes that the account is in use. A second's precision will do, and
// saves most of the writes to memory that all processors share.
func (s *tokenSource) touch(now time.Time) {
	if since := int64(now.Sub(s.state.epoch)); since-s.state.lastUsed.Load() >= int64(time.Second) {
		s.state.lastUsed.Store(since)
	}
	if s.state.renewer.Load() != s {
		s.state.renewer.Store(s)
	}
}

// replace returns a grant to use instead of one that the API refused with 401,
// or the same grant if asking again gave nothing new.
func (s *tokenSource) replace(ctx context.Context, refused *grant) (*grant, error) {
	return s.state.fly(s, refused, true).wait(ctx)
}

// fly joins the fetch under way or starts one, unless a token other than stale
// is at hand, the last failure is too recent, or the API has just confirmed the
// token that it refused.
func (st *State) fly(s *tokenSource, stale *grant, refused bool) *flight {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now()
	current := st.current.Load()
	switch {
	case current != stale && current.valid(now):
		return landed(current, nil)
	case st.flight != nil:
		return st.flight
	case now.Before(st.retryAt) && st.failed != nil:
		return landed(nil, &UnavailableError{st.retryAt.Sub(now), st.failed})
	case refused && now.Before(st.retryAt) && st.confirmed == stale:
		return landed(stale, nil)
	}
	f := &flight{done: make(chan struct{})}
	st.flight = f
	var old *grant
	if refused {
		old = stale
	}
	go st.run(s, f, old)
	return f
}

// run fetches a token, in place of refused if that is not nil.
func (st *State) run(s *tokenSource, f *flight, refused *grant) {
	ctx, cancel := context.WithTimeout(context.Background(), s.limit*3/2)
	defer cancel()
	f.grant, f.err = s.fetchWithRetries(ctx)

	st.mu.Lock()
	defer st.mu.Unlock()
	st.flight, st.failed, st.confirmed = nil, nil, nil
	if f.err == nil {
		st.failures, st.retryAt = 0, time.Time{}
		if refused != nil && f.grant.same(refused) {
			st.confirmed, st.retryAt = f.grant, time.Now().Add(renewPause)
		}
		st.current.Store(f.grant)
		st.schedule(f.grant, time.Until(f.grant.renewAt))
	} else {
		st.failures++
		pause := fetchPause(f.err, st.failures)
		st.failed, st.retryAt = f.err, time.Now().Add(pause)
		f.err = &UnavailableError{pause, f.err}
		if g := st.current.Load(); g != nil {
			st.schedule(g, pause)
		}
	}
	close(f.done)
}

// schedule sets the background renewal of g.
func (st *State) schedule(g *grant, in time.Duration) {
	if st.timer != nil {
		st.timer.Stop()
	}
	if st.closed {
		return
	}
	st.timer = time.AfterFunc(in, func() {
		now := time.Now()
		idle := now.Sub(st.epoch) - time.Duration(st.lastUsed.Load())
		if s := st.renewer.Load(); s != nil && idle < idleAfter && st.current.Load() == g && g.valid(now) {
			st.fly(s, g, false)
		}
	})
}

// fetchWithRetries asks up to three times, if asking again can help.
func (s *tokenSource) fetchWithRetries(ctx context.Context) (*grant, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		limit := s.limit
		if attempt == 1 { // should its connection be dead, its callers live to see another
			limit /= 2
		}
		g, err := s.attempt(ctx, limit)
		if err == nil || attempt == attempts || !worthRepeating(err) || retryAfter(err) > 0 || !pause(ctx, backoff(attempt, 100*time.Millisecond, time.Second)) {
			return g, err
		}
	}
}

// attempt is one fetch. A transport's panic must not end the program, of which
// this goroutine is not the caller's part.
func (s *tokenSource) attempt(ctx context.Context, limit time.Duration) (g *grant, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if recover() != nil {
			g, err = nil, &tokenError{errPanic}
		}
	}()
	return s.fetch(ctx)
}

// worthRepeating reports whether getToken may succeed at once after err: a
// network fault, a 5xx or something's page in place of the answer may pass;
// wrong keys stay wrong, and whoever answers 429 wants to be left alone.
func worthRepeating(err error) bool {
	failed, ok := errors.AsType[*tokenError](err)
	if !ok {
		return false
	}
	if refusal, ok := errors.AsType[*APIError](failed.cause); ok {
		return refusal.Status >= 500
	}
	if other, ok := errors.AsType[*NotAPIError](failed.cause); ok {
		return other.Status < 300 || other.Status >= 500
	}
	return errors.Is(failed.cause, ErrUnreachable) || errors.Is(failed.cause, ErrOutcomeUnknown)
}

// fetchPause is how long the API is left alone after that many failed fetches: for as
// long as it asks for, within reason.
func fetchPause(err error, failures int) time.Duration {
	longest := 2 * time.Minute
	if worthRepeating(err) { // something before the API may be up again long before
		longest = 20 * time.Second
	}
	return max(backoffAfter(err, failures), min(retryAfter(err), longest))
}

// retryAfter returns for how long the answer to a fetch asks to be left alone.
func retryAfter(err error) time.Duration {
	failed, ok := errors.AsType[*tokenError](err)
	if !ok {
		return 0
	}
	if refusal, ok := errors.AsType[*APIError](failed.cause); ok {
		return untilRetry(refusal.RetryAfter)
	}
	if other, ok := errors.AsType[*NotAPIError](failed.cause); ok {
		return untilRetry(other.RetryAfter)
	}
	return 0
}

func backoffAfter(err error, failures int) time.Duration {
	switch {
	case worthRepeating(err):
		return backoff(failures, 500*time.Millisecond, 5*time.Second)
	case errors.Is(err, ErrCredentials):
		return backoff(failures, 10*time.Second, 2*time.Minute)
	default: // a refusal that may pass, or not
		return backoff(failures, time.Second, 2*time.Minute)
	}
}

// getToken asks for a token, once.
func (c *Client) getToken(ctx context.Context) (*grant, error) {
	form := url.Values{"imp_key": {c.key}, "imp_secret": {c.secret}}
	asked := time.Now()
	resp, err := c.do(ctx, c.bare, Request{
		Method: http.MethodPost, Path: "/users/getToken",
		ContentType: strict.Form, Body: []byte(form.Encode()),
	})
	if errors.Is(err, ErrCredentials) {
		return nil, err
	}
	if err != nil {
		return nil, &tokenError{err}
	}
	if err := resp.Err(); err != nil {
		return nil, &tokenError{err}
	}
	answer := gjson.GetBytes(resp.Body, "response")
	now, expiredAt := answer.Get("now").Int(), answer.Get("expired_at").Int()
	g, err := newGrant(answer.Get("access_token").String(), now, expiredAt, asked)
	if err != nil {
		return nil, &tokenError{err}
	}
	c.state.setClock(now, asked)
	return g, nil
}
