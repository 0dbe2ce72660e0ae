package client

// This file holds the access token: fetching it, renewing it before it ends, and
// replacing one that the API refuses.

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	// renewBefore lies inside the last 60 seconds of a token's life: the API extends
	// the token if it is asked then, and changes nothing if it is asked earlier.
	renewBefore = 45 * time.Second
	// renewPause keeps the client from asking again at once if the API does not extend
	// the token. It is less for a token whose whole life is short.
	renewPause = 5 * time.Second
	// idleAfter is how long after the last call a token is still renewed.
	idleAfter = 15 * time.Minute
	// maxLife limits the life that the API gives for a token; it is 30 minutes.
	maxLife = 24 * time.Hour
)

// accessToken is a token with its life on this machine's monotonic clock.
type accessToken struct {
	text      string
	expiredAt int64     // as the API said
	expires   time.Time // the token must not be sent after this
	renewAt   time.Time
}

// valid reports whether the token may be sent. It compares by the wall clock too,
// because the monotonic clock stands still while a machine sleeps.
func (t *accessToken) valid(now time.Time) bool {
	return t != nil && now.Before(t.expires) && now.Round(0).Before(t.expires.Round(0))
}

// equal reports whether the API gave the same token with the same end.
func (t *accessToken) equal(other *accessToken) bool {
	return t.text == other.text && t.expiredAt == other.expiredAt
}

// newAccessToken computes a token's life from the API's two times and the moment at
// which getToken was sent, so that a wrong local clock changes nothing.
func newAccessToken(text string, now, expiredAt int64, sentAt time.Time) (*accessToken, error) {
	if text == "" || now <= 0 || expiredAt <= now {
		return nil, ErrNotAPI
	}
	lifetime := time.Duration(min(expiredAt-now, int64(maxLife/time.Second))) * time.Second
	margin := min(max(lifetime/10, time.Second), 5*time.Second)
	t := &accessToken{text: text, expiredAt: expiredAt, expires: sentAt.Add(lifetime - margin)}
	t.renewAt = t.expires.Add(margin - renewBefore)
	if soonest := time.Now().Add(min(renewPause, lifetime/10)); t.renewAt.Before(soonest) {
		t.renewAt = soonest
	}
	return t, nil
}

// tokens holds an account's access token, and the one fetch of it that may be under way.
// The clients of a State share it.
type tokens struct {
	mu        sync.Mutex
	current   *accessToken
	fetching  *tokenFetch   // nil if none is under way
	fetcher   *tokenFetcher // of the client that was used last, which renews in the background
	lastUsed  time.Time
	failures  int          // in a row
	failed    error        // of the last fetch, nil if it succeeded
	confirmed *accessToken // the token that the API refused with 401 and then gave again
	retryAt   time.Time    // no fetch before this time, after a failure or a confirmed token
	renewal   *time.Timer
	closed    bool

	lastFailure *TokenFailure // nil if no fetch has failed
}

// tokenFetch is one fetch that any number of calls wait for.
type tokenFetch struct {
	done  chan struct{}
	token *accessToken
	err   error
}

// finishedFetch returns a fetch that needs no waiting.
func finishedFetch(token *accessToken, err error) *tokenFetch {
	f := &tokenFetch{done: make(chan struct{}), token: token, err: err}
	close(f.done)
	return f
}

func (f *tokenFetch) wait(ctx context.Context) (*accessToken, error) {
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return nil, &failure{ErrNoToken, ctx.Err()}
	}
}

// get returns a valid token. It waits only if there is none; one that ends soon is
// renewed in the background.
func (t *tokens) get(ctx context.Context, f *tokenFetcher) (*accessToken, error) {
	current, fetch := t.currentOrFetch(ctx, f)
	if fetch == nil {
		return current, nil
	}
	return fetch.wait(ctx)
}

// currentOrFetch returns the current token or, if it is not valid, the fetch to wait for.
func (t *tokens) currentOrFetch(ctx context.Context, f *tokenFetcher) (*accessToken, *tokenFetch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.lastUsed = now
	if !f.retired {
		t.fetcher = f
	}
	if !t.current.valid(now) {
		return nil, t.fetch(ctx, f, nil)
	}
	if !now.Before(t.current.renewAt) {
		t.fetch(ctx, f, nil)
	}
	return t.current, nil
}

// replace returns a token to use instead of one that the API refused with 401, or an
// equal one if the API gave nothing new.
func (t *tokens) replace(ctx context.Context, f *tokenFetcher, refused *accessToken) (*accessToken, error) {
	return t.replacement(ctx, f, refused).wait(ctx)
}

func (t *tokens) replacement(ctx context.Context, f *tokenFetcher, refused *accessToken) *tokenFetch {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != refused && t.current.valid(time.Now()) { // another call has replaced it
		return finishedFetch(t.current, nil)
	}
	return t.fetch(ctx, f, refused)
}

// fetch joins the fetch under way or starts one, unless the last failure is too recent,
// or the API has just confirmed the token that it refused. refused is nil if no token
// was refused. The lock must be held.
func (t *tokens) fetch(ctx context.Context, f *tokenFetcher, refused *accessToken) *tokenFetch {
	now := time.Now()
	switch {
	case t.fetching != nil:
		return t.fetching
	case t.failed != nil && now.Before(t.retryAt):
		return finishedFetch(nil, &UnavailableError{t.retryAt.Sub(now), t.failed})
	case refused != nil && t.confirmed == refused && now.Before(t.retryAt):
		return finishedFetch(refused, nil)
	}
	t.fetching = &tokenFetch{done: make(chan struct{})}
	go t.run(f.detached(ctx), f, t.fetching, refused)
	return t.fetching
}

// run fetches a token, in place of refused if that is not nil.
func (t *tokens) run(ctx context.Context, f *tokenFetcher, fetch *tokenFetch, refused *accessToken) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout*3/2)
	defer cancel()
	fetch.token, fetch.err = f.fetchWithRetries(ctx)
	f.observer.tokenFetched(fetch.err)

	t.mu.Lock()
	defer t.mu.Unlock()
	t.fetching, t.failed, t.confirmed = nil, nil, nil
	if fetch.err == nil {
		t.failures, t.retryAt = 0, time.Time{}
		if refused != nil && fetch.token.equal(refused) {
			t.confirmed, t.retryAt = fetch.token, time.Now().Add(renewPause)
		}
		t.current = fetch.token
		t.scheduleRenewal(time.Until(t.current.renewAt))
	} else {
		t.failures++
		pause := fetchPause(fetch.err, t.failures)
		t.failed, t.retryAt = fetch.err, time.Now().Add(pause)
		t.lastFailure = newTokenFailure(fetch.err)
		fetch.err = &UnavailableError{pause, fetch.err}
		if t.current != nil {
			t.scheduleRenewal(pause)
		}
	}
	close(fetch.done)
}

// scheduleRenewal sets the background renewal of the current token. The lock must be held.
func (t *tokens) scheduleRenewal(in time.Duration) {
	if t.renewal != nil {
		t.renewal.Stop()
	}
	if t.closed {
		return
	}
	token := t.current
	t.renewal = time.AfterFunc(in, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		now := time.Now()
		if t.fetcher != nil && t.current == token && token.valid(now) && now.Sub(t.lastUsed) < idleAfter {
			t.fetch(context.Background(), t.fetcher, nil)
		}
	})
}

// takeOver makes f the fetcher that renews in the background, if another one does.
func (t *tokens) takeOver(f *tokenFetcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fetcher != nil {
		t.fetcher = f
	}
}

// retire keeps f from renewing in the background. Its calls may go on.
func (t *tokens) retire(f *tokenFetcher) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.retired = true
	if t.fetcher == f {
		t.fetcher = nil
	}
}

// close ends background renewals.
func (t *tokens) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.renewal != nil {
		t.renewal.Stop()
	}
}

// tokenFetcher fetches tokens for one client.
type tokenFetcher struct {
	getToken func(context.Context) (*accessToken, error)
	observer Observer
	detach   func(context.Context) context.Context // nil for an empty context
	// timeout limits one attempt. A fetch serves many callers, so none of them may
	// shorten it.
	timeout time.Duration
	retired bool // never renews in the background; guarded by the lock of tokens
}

// detached returns the context of a fetch that a call with ctx starts.
func (f *tokenFetcher) detached(ctx context.Context) context.Context {
	if f.detach == nil {
		return context.Background()
	}
	return f.detach(ctx)
}

// fetchWithRetries asks up to three times, if asking again can help.
func (f *tokenFetcher) fetchWithRetries(ctx context.Context) (*accessToken, error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		timeout := f.timeout
		if attempt == 1 { // if its connection is dead, there must be time for a second attempt
			timeout /= 2
		}
		token, err := f.attempt(ctx, timeout)
		if err == nil || attempt == attempts || !worthRepeating(err) || retryAfter(err) > 0 ||
			!pause(ctx, backoff(attempt, 100*time.Millisecond, time.Second)) {
			return token, err
		}
	}
}

// attempt calls getToken once. It recovers a panic of the transport, which would end the
// program: this goroutine is not the caller's.
func (f *tokenFetcher) attempt(ctx context.Context, timeout time.Duration) (token *accessToken, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if recover() != nil {
			token, err = nil, &tokenError{errPanic}
		}
	}()
	return f.getToken(ctx)
}

// getToken asks the API for a token, once.
func (c *Client) getToken(ctx context.Context) (*accessToken, error) {
	form := url.Values{"imp_key": {c.key}, "imp_secret": {c.secret}}
	sentAt := time.Now()
	resp, err := c.do(ctx, Request{
		Method: http.MethodPost, Path: "/users/getToken",
		ContentType: strict.Form, Body: []byte(form.Encode()),
	}, c.sendWithoutToken)
	if errors.Is(err, ErrCredentials) {
		return nil, err
	}
	if err != nil {
		return nil, &tokenError{err}
	}
	if err := resp.Err(); err != nil {
		return nil, &tokenError{err}
	}
	answer := resp.response()
	now, expiredAt := answer.Get("now").Int(), answer.Get("expired_at").Int()
	token, err := newAccessToken(answer.Get("access_token").String(), now, expiredAt, sentAt)
	if err != nil {
		return nil, &tokenError{err}
	}
	c.state.clock.set(now, sentAt)
	return token, nil
}

// worthRepeating reports whether getToken may succeed if it is repeated at once after
// err. A network fault, a 5xx or another server's page may pass. Wrong keys stay wrong,
// and after a 429 the API must not be asked again at once.
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

// fetchPause is how long no token is fetched after that many failures in a row: at
// least for as long as the answer asks, up to a limit.
func fetchPause(err error, failures int) time.Duration {
	longest := 2 * time.Minute
	if worthRepeating(err) { // a proxy before the API may be up again long before
		longest = 20 * time.Second
	}
	return max(fetchBackoff(err, failures), min(retryAfter(err), longest))
}

// retryAfter returns the time that the answer to getToken asks to wait for.
func retryAfter(err error) time.Duration {
	failed, ok := errors.AsType[*tokenError](err)
	if !ok {
		return 0
	}
	if refusal, ok := errors.AsType[*APIError](failed.cause); ok {
		return parseRetryAfter(refusal.RetryAfter)
	}
	if other, ok := errors.AsType[*NotAPIError](failed.cause); ok {
		return parseRetryAfter(other.RetryAfter)
	}
	return 0
}

func fetchBackoff(err error, failures int) time.Duration {
	switch {
	case worthRepeating(err):
		return backoff(failures, 500*time.Millisecond, 5*time.Second)
	case errors.Is(err, ErrCredentials):
		return backoff(failures, 10*time.Second, 2*time.Minute)
	default: // a refusal that may pass, or not
		return backoff(failures, time.Second, 2*time.Minute)
	}
}
