package client_test

// This file holds tests of a token that the API refuses.

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestExpiredTokenIsReplaced(t *testing.T) {
	t.Parallel()
	// On a reused connection the transport itself might send a body again.
	e, c := newSandbox(t, emulator.Options{}, transport(&http.Transport{DisableKeepAlives: true}))
	ctx := context.Background()
	p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o1", Amount: "15000"})
	require.NoError(t, err)
	e.ExpireTokens()
	_, err = c.Payment(ctx, p.ImpUID)
	require.NoError(t, err)
	assert.Equal(t, 2, e.TokensIssued())

	// A 401 means that nothing was done, so that POST /cvs is repeated too.
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
	_, err = c.Issue(ctx, &client.IssueRequest{MerchantUID: "o2", Amount: "15000", Name: "김밥"})
	require.NoError(t, err)
	assert.Equal(t, 1+2, e.Requests(emulator.EndpointIssue))
	assert.Zero(t, e.Requests(emulator.EndpointFind), "nothing was in doubt")
	require.Len(t, e.Payments(), 2)
	assert.Equal(t, "김밥", e.Payments()[0].Name, "with the same body")
}

func TestConcurrentFirstCallsFetchOneToken(t *testing.T) {
	t.Parallel()
	const callers = 1000
	var entered sync.WaitGroup
	entered.Add(callers)
	e, c := newSandbox(t, emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
		if endpoint == emulator.EndpointToken {
			entered.Wait() // so that all ask before there is a token
		}
	}}, transport(&http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64}), timeout(time.Minute))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			ctx := watched(context.Background(), 1)
			go func() {
				<-ctx.waits
				entered.Done()
			}()
			_, err := c.Payment(ctx, "imp_0")
			assert.ErrorIs(t, err, client.ErrNotFound)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, e.Requests(emulator.EndpointToken))
	assert.Equal(t, 1, e.TokensIssued())
	assert.Equal(t, callers, e.Requests(emulator.EndpointPayment))
}

// A 401 means that the API did nothing, over HTTP/2 as well.
func TestIssueRepeatedAfter401OverHTTP2(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	c := newClient(t, "https://"+tlsServer(t, e, true), transport(overTLS(true)))
	fetchToken(t, c)
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
	resp, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.False(t, resp.Recovered)
	assert.Equal(t, 2, e.Requests(emulator.EndpointIssue))
	assert.Len(t, e.Payments(), 1)
}
