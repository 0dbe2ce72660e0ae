package client_test

// This file holds tests of how a Client starts, ends and shares its State.

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestNewRejectsInvalidConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.Config{
		"no key":      {ImpSecret: impSecret},
		"no secret":   {ImpKey: impKey},
		"bad address": {ImpKey: impKey, ImpSecret: impSecret, API: "api.iamport.kr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := client.New(cfg)
			require.Error(t, err)
			assert.Nil(t, c)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestParseAPI(t *testing.T) {
	t.Parallel()
	for _, good := range []string{client.DefaultAPI, "https://api.iamport.kr/", "http://127.0.0.1:8080", "http://[::1]:8080/"} {
		u, err := client.ParseAPI(good)
		if assert.NoError(t, err, good) {
			assert.Equal(t, strings.TrimSuffix(good, "/"), u.String())
		}
	}
	u, err := client.ParseAPI("https://api.iamport.kr:")
	if assert.NoError(t, err) {
		assert.Equal(t, client.DefaultAPI, u.String(), "without the empty port")
	}
	for _, bad := range []string{
		"", "api.iamport.kr", "//api.iamport.kr", "ftp://api.iamport.kr", "https://", "https:///v1", "https://api.iamport.kr/v1",
		"https://api.iamport.kr//", "https://api.iamport.kr?a=b", "https://api.iamport.kr#a", "https://user-canary:pw-canary@api.iamport.kr", "http://a b", ":",
	} {
		_, err := client.ParseAPI(bad)
		if assert.Error(t, err, bad) {
			assert.NotContains(t, err.Error(), "canary")
			assert.Contains(t, err.Error(), client.DefaultAPI, "the error shows what is right")
		}
	}
}

// Behind "https://host?" every path would be appended to the query.
func TestParseAPIRejectsEmptyQuery(t *testing.T) {
	t.Parallel()
	_, err := client.ParseAPI("https://api.iamport.kr?")
	assert.Error(t, err)
}

func TestClientStartsWhileTheAPIIsDown(t *testing.T) {
	t.Parallel()
	c := newClient(t, deadAddress)
	assert.NotNil(t, c.State())
	assert.WithinDuration(t, time.Now(), c.State().Now(), time.Minute)
	_, err := c.Payment(context.Background(), "imp_1")
	assert.ErrorIs(t, err, client.ErrNoToken)
}

func TestNewFillsInDefaults(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "https://api.iamport.kr", client.DefaultAPI)
	var hosts []string
	var left time.Duration
	c := newClient(t, "", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.Scheme+"://"+r.URL.Host)
		deadline, _ := r.Context().Deadline()
		left = time.Until(deadline)
		return inProcess(&scriptedAPI{other: missing}).RoundTrip(r)
	})))
	fetchToken(t, c)
	assert.Equal(t, []string{client.DefaultAPI, client.DefaultAPI}, hosts)
	assert.Greater(t, left, client.DefaultTimeout-time.Second*5)
	assert.LessOrEqual(t, left, client.DefaultTimeout)
}

func TestClientsOfOneStateShareTheToken(t *testing.T) {
	t.Parallel()
	e, first := newSandbox(t, emulator.Options{})
	server := newServer(t, e)
	fetchToken(t, first)
	for _, tier := range []string{"", "001"} {
		next := newClient(t, server.URL, func(cfg *client.Config) { cfg.State, cfg.Tier = first.State(), tier })
		assert.Same(t, first.State(), next.State())
		p, err := next.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o" + tier, Amount: "15000"})
		require.NoError(t, err)
		assert.Equal(t, tier, e.Payments()[0].Tier)
		first.Close() // as at a reload
		_, err = next.Payment(context.Background(), p.ImpUID)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, e.Requests(emulator.EndpointToken))
}

// idleTransport counts the calls of CloseIdleConnections.
type idleTransport struct {
	http.RoundTripper
	closed int
}

func (i *idleTransport) CloseIdleConnections() { i.closed++ }

func TestCloseEndsIdleConnections(t *testing.T) {
	t.Parallel()
	idle := &idleTransport{RoundTripper: inProcess(&scriptedAPI{other: missing})}
	c := newClient(t, "http://api.example", transport(idle))
	fetchToken(t, c)
	assert.Zero(t, idle.closed)
	c.Close()
	assert.Equal(t, 1, idle.closed)
}

// Not parallel: every httptest.Server that closes also closes the default transport's
// idle connections.
func TestCloseLeavesTheDefaultTransportAlone(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(missing))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range 2 {
		resp, err := http.Get(server.URL)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		c, err := client.New(client.Config{ImpKey: impKey, ImpSecret: impSecret})
		require.NoError(t, err)
		c.Close()
	}
	assert.EqualValues(t, 1, connections.Load(), "the whole program's connections are not the client's to end")
}
