package client_test

// This file holds tests of what an Observer is told.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// seen is what an Observer was told, in words.
type seen struct {
	mu    sync.Mutex
	words []string
	calls []client.Call
}

func (s *seen) note(words ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words = append(s.words, fmt.Sprint(words...))
}

// take returns the words, and forgets them.
func (s *seen) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	words := s.words
	s.words = nil
	return words
}

func fetched(err error) string {
	switch {
	case err == nil:
		return "fetched ok"
	case errors.Is(err, client.ErrCredentials):
		return "fetched refused"
	default:
		return "fetched failed"
	}
}

// observed has a client tell s what it does.
func observed(s *seen) func(*client.Config) {
	return func(cfg *client.Config) {
		cfg.Observer = client.Observer{
			Call: func(c client.Call) {
				s.mu.Lock()
				s.calls = append(s.calls, c)
				s.mu.Unlock()
				s.note(c.Operation, " ", c.Outcome)
			},
			TokenFetched: func(err error) { s.note(fetched(err)) },
			IssueInDoubt: func(d client.Doubt) { s.note("doubt ", d) },
		}
	}
}

func TestOperationOfARequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, path string
		want         client.Operation
	}{
		{"POST", "/cvs", client.OperationIssue},
		{"GET", "/cvs", client.OperationOther},
		{"DELETE", "/cvs/imp_1", client.OperationVoid},
		{"DELETE", "/cvs", client.OperationOther},
		{"POST", "/users/getToken", client.OperationToken},
		{"POST", "/users/else", client.OperationOther},
		{"GET", "/payments/imp_1", client.OperationPayment},
		{"POST", "/payments/cancel", client.OperationOther},
		{"GET", "/payments", client.OperationOther},
		{"GET", "/payments/imp_1/balance", client.OperationOther},
		{"GET", "/payments/find/a", client.OperationFind},
		{"GET", "/payments/find/a/ready", client.OperationFind},
		{"GET", "/payments/find/a/ready/more", client.OperationOther},
		{"GET", "/payments/findAll/a", client.OperationFindAll},
		{"GET", "/payments/findAll/a%2Fb/paid", client.OperationFindAll},
		{"GET", "/payments/status/paid", client.OperationList},
		{"GET", "/payments/prepare/a", client.OperationOther},
		{"GET", "", client.OperationOther},
	} {
		r := client.Request{Method: c.method, Path: c.path}
		assert.Equal(t, c.want, r.Operation(), "%s %s", c.method, c.path)
	}
	for _, r := range []client.Request{client.VoidRequest("imp_1"), client.PaymentRequest("imp_1"), client.FindRequest("a", "ready"), client.ListRequest("all", client.ListOptions{})} {
		assert.NotEqual(t, client.OperationOther, r.Operation())
	}
}

// Each HTTP call is told once, with how it has ended.
func TestObserverIsToldOfEachCall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault emulator.Fault
		call  func(context.Context, *client.Client) error
		want  []string
	}{
		"a look-up":                {emulator.Fault{}, lookUp, []string{"payment not_found"}},
		"by order":                 {emulator.Fault{}, findOrder, []string{"find not_found"}},
		"all of an order":          {emulator.Fault{}, listOrder, []string{"find_all ok"}},
		"a list":                   {emulator.Fault{}, listPaid, []string{"list ok"}},
		"a void of nothing":        {emulator.Fault{}, voidOne, []string{"void refused"}},
		"a refusal":                {emulator.Fault{Code: 1}, lookUp, []string{"payment refused"}},
		"a refusal by status":      {emulator.Fault{Status: 400}, lookUp, []string{"payment refused"}},
		"a limit":                  {emulator.Fault{Status: 429}, lookUp, []string{"payment throttled"}},
		"an error of the API":      {emulator.Fault{Status: 503}, lookUp, []string{"payment foreign"}},
		"another server's page":    {emulator.Fault{Garbage: true}, lookUp, []string{"payment foreign"}},
		"an answer that is large":  {emulator.Fault{Oversized: true}, lookUp, []string{"payment foreign"}},
		"a lost answer":            {emulator.Fault{Drop: emulator.DropAfter}, voidOne, []string{"void broken"}},
		"half an answer":           {emulator.Fault{Drop: emulator.DropBody}, voidOne, []string{"void broken"}},
		"an expired token":         {emulator.Fault{ExpiredToken: true, Times: 1}, lookUp, []string{"payment unauthorized", "token ok", "fetched ok", "payment not_found"}},
		"a token that is refused":  {emulator.Fault{Status: 401}, lookUp, []string{"payment unauthorized", "token ok", "fetched ok"}},
		"a slow answer":            {emulator.Fault{Delay: time.Minute}, within(100*time.Millisecond, lookUp), []string{"payment timeout"}},
		"a caller that leaves":     {emulator.Fault{Delay: time.Minute}, leaving(lookUp), []string{"payment cancelled"}},
		"a call that is not valid": {emulator.Fault{}, func(ctx context.Context, c *client.Client) error { _, err := c.Payment(ctx, ".."); return err }, nil},
		"a call that is withdrawn": {emulator.Fault{}, withdrawn, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s seen
			e, cl := newSandbox(t, emulator.Options{}, observed(&s))
			fetchToken(t, cl)
			s.take()
			c.fault.Endpoint = emulator.EndpointAll
			if c.fault != (emulator.Fault{Endpoint: emulator.EndpointAll}) {
				if c.fault.ExpiredToken || c.fault.Status == http.StatusUnauthorized {
					c.fault.Endpoint = emulator.EndpointPayment
				}
				inject(t, e, c.fault)
			}
			began := time.Now()
			_ = c.call(t.Context(), cl)
			got := s.take()
			if c.fault.Status == http.StatusUnauthorized && len(got) == 4 { // a new token was tried
				assert.Equal(t, "payment unauthorized", got[3])
				got = got[:3]
			}
			assert.Equal(t, c.want, got)
			for _, call := range s.calls {
				assert.Positive(t, call.Duration)
				assert.LessOrEqual(t, call.Duration, time.Since(began)+time.Minute)
			}
		})
	}
}

func lookUp(ctx context.Context, c *client.Client) error {
	_, err := c.Payment(ctx, "imp_1")
	return err
}

func findOrder(ctx context.Context, c *client.Client) error {
	_, err := c.FindPayment(ctx, "a", "")
	return err
}

func listOrder(ctx context.Context, c *client.Client) error {
	_, err := c.OrderPayments(ctx, "a")
	return err
}

func listPaid(ctx context.Context, c *client.Client) error {
	_, err := c.ListPayments(ctx, client.StatusPaid, client.ListOptions{})
	return err
}

func voidOne(ctx context.Context, c *client.Client) error {
	_, err := c.Void(ctx, "imp_1")
	return err
}

func within(d time.Duration, call func(context.Context, *client.Client) error) func(context.Context, *client.Client) error {
	return func(ctx context.Context, c *client.Client) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return call(ctx, c)
	}
}

func leaving(call func(context.Context, *client.Client) error) func(context.Context, *client.Client) error {
	return func(ctx context.Context, c *client.Client) error {
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(100*time.Millisecond, cancel)
		defer timer.Stop()
		return call(ctx, c)
	}
}

func withdrawn(ctx context.Context, c *client.Client) error {
	r := client.VoidRequest("imp_1")
	r.MaySend = func() error { return errors.New("no") }
	_, err := c.Do(ctx, r)
	return err
}

func TestObserverIsToldThatNothingWasSent(t *testing.T) {
	t.Parallel()
	var s seen
	dialer := new(faultyDialer)
	cl := newClient(t, newServer(t, &scriptedAPI{other: missing}).URL, observed(&s), dialer.transport())
	fetchToken(t, cl)
	s.take()
	dialer.failures.Store(1)
	require.ErrorIs(t, lookUp(t.Context(), cl), client.ErrUnreachable)
	assert.Equal(t, []string{"payment unreachable"}, s.take())
}

// A call that the body's guard takes back has been begun.
func TestObserverIsToldOfACallTakenBack(t *testing.T) {
	t.Parallel()
	var s seen
	asked := 0
	_, cl := newSandbox(t, emulator.Options{}, observed(&s))
	fetchToken(t, cl)
	s.take()
	issue := order(t, "a")
	_, err := cl.IssueAlone(t.Context(), issue, func() error {
		if asked++; asked > 1 {
			return errors.New("no")
		}
		return nil
	})
	require.ErrorIs(t, err, client.ErrWithdrawn)
	assert.Equal(t, []string{"issue cancelled"}, s.take())
}

func TestObserverIsToldOfFetches(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault emulator.Fault
		want  []string
	}{
		"wrong keys":       {emulator.Fault{Status: 401}, []string{"token unauthorized", "fetched refused"}},
		"a refusal":        {emulator.Fault{Code: 1}, []string{"token refused", "fetched failed"}},
		"pages":            {emulator.Fault{Garbage: true, Times: 9}, nil},
		"broken, then not": {emulator.Fault{Drop: emulator.DropBefore, Times: 1}, []string{"token broken", "token ok", "fetched ok", "payment not_found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s seen
			e, cl := newSandbox(t, emulator.Options{}, observed(&s))
			assert.False(t, cl.State().TokenStatus().Failing)
			c.fault.Endpoint = emulator.EndpointToken
			inject(t, e, c.fault)
			_ = lookUp(t.Context(), cl)
			got := s.take()
			if c.want == nil {
				assert.Equal(t, "fetched failed", got[len(got)-1])
				got = slices.Compact(got[:len(got)-1])
				c.want = []string{"token foreign"}
			}
			assert.Equal(t, c.want, got)
			assert.Equal(t, slices.Contains(c.want, "fetched ok"), !cl.State().TokenStatus().Failing)
		})
	}
}

// Each POST /cvs whose answer is lost is told once, when it is known what came of it.
func TestObserverIsToldOfDoubt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		issue, find http.HandlerFunc
		want        string
	}{
		"none":    {page(404), missing, "doubt none"},
		"unknown": {hangUp, missing, "doubt unknown"},
		"found":   {hangUp, func(w http.ResponseWriter, r *http.Request) { found("a", "15000", time.Now())(w, r) }, "doubt found"},
		"refused": {refuse(200, 1, "no"), missing, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s seen
			cl := newClient(t, newServer(t, &scriptedAPI{issue: c.issue, find: c.find, other: missing}).URL, observed(&s), timeout(time.Second))
			fetchToken(t, cl)
			_, _ = cl.IssueRaw(t.Context(), order(t, "a"))
			got := slices.DeleteFunc(s.take(), func(word string) bool { return len(word) < 5 || word[:5] != "doubt" })
			if c.want == "" {
				assert.Empty(t, got)
				return
			}
			assert.Equal(t, []string{c.want}, got)
		})
	}
}

func TestObserverIsToldOfAPanic(t *testing.T) {
	t.Parallel()
	var s seen
	api := inProcess(&scriptedAPI{other: missing})
	cl := newClient(t, "http://api.example", observed(&s), transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/cvs" {
			panic("the transport's own")
		}
		return api(r)
	})))
	fetchToken(t, cl)
	s.take()
	_, err := cl.IssueRaw(t.Context(), order(t, "a"))
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.Equal(t, []string{"issue broken", "doubt unknown"}, s.take())
}
