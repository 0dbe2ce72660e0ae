// Package client is a Go client for the convenience-store part of PortOne's
// REST API V1: barcodes are issued and voided, payments are looked up. It keeps
// the access token and distinguishes failures. After an issue whose answer is
// lost, it looks the payment up.
//
// It knows the API, and nothing of Caddy, zap or any other server or logger, so
// that every Go program can import it. The packages below it hold what belongs
// to the wire: strict bodies, the webhook, signed URLs, numbers as text, the
// picture of a barcode, and an emulator of the API.
package client

// This file holds the Client: its configuration, and how it starts and ends. The calls of an
// app are in calls.go.

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// The defaults of a Config.
const (
	DefaultAPI     = "https://api.iamport.kr"
	DefaultTimeout = 10 * time.Second
)

// Config is what a Client needs. ImpKey and ImpSecret are required.
type Config struct {
	API       string            // the API's address without a path; default DefaultAPI
	ImpKey    string            // REST API key
	ImpSecret string            // REST API secret
	Tier      string            // 3-character code of a sub-merchant; the keys are then the agency's
	Timeout   time.Duration     // for one API call; default DefaultTimeout
	Transport http.RoundTripper // default one of the client's own; see KeepHealthy for others
	State     *State            // shared with earlier and other clients of the same API and keys; default a new one
	Observer  Observer          // told what the Client does; default nobody

	// Detach, if not nil, returns the context of a token fetch that a call with ctx starts, such as one
	// with a trace's span. It must not end with ctx, because other calls wait for the same fetch, nor
	// have the httptrace of ctx, which reports on the call. Default: an empty context.
	Detach func(ctx context.Context) context.Context
}

// String names the API and leaves out the keys, whatever verb prints the Config.
func (c Config) String() string { return "client.Config for " + cmp.Or(c.API, DefaultAPI) }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// Client calls the API. It may be used by many goroutines at once.
type Client struct {
	api       url.URL
	key       string
	secret    string
	tier      string
	timeout   time.Duration
	transport http.RoundTripper
	state     *State
	fetcher   *tokenFetcher
	observer  Observer

	closeIdleAgain atomic.Bool // see closeIdleAfter
}

// New returns a Client. It sends nothing: the API may be down.
func New(cfg Config) (*Client, error) {
	if cfg.ImpKey == "" || cfg.ImpSecret == "" {
		return nil, errors.New("imp_key and imp_secret are required")
	}
	if cfg.API == "" {
		cfg.API = DefaultAPI
	}
	api, err := ParseAPI(cfg.API)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	if cfg.State == nil {
		cfg.State = NewState()
	}
	c := &Client{
		api: *api, key: cfg.ImpKey, secret: cfg.ImpSecret, tier: cfg.Tier,
		timeout: cfg.Timeout, transport: cfg.Transport, state: cfg.State, observer: cfg.Observer,
	}
	c.fetcher = &tokenFetcher{getToken: c.getToken, detach: cfg.Detach, timeout: cfg.Timeout, observer: c.observer}
	return c, nil
}

// ParseAPI parses the API's address: http or https, a host, no path or query.
func ParseAPI(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(raw, "/"))
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.Path != "" || u.User != nil || strings.ContainsAny(raw, "?#") {
		return nil, errors.New("api must be an address such as " + DefaultAPI + ", without path, query and credentials")
	}
	u.Host = strings.TrimSuffix(u.Host, ":") // a port that is empty
	return u, nil
}

// String names the API and leaves out the keys, whatever verb prints the Client.
func (c *Client) String() string { return "client.Client of " + c.api.String() }

// GoString is String.
func (c *Client) GoString() string { return c.String() }

// State returns the client's State.
func (c *Client) State() *State { return c.state }

// TakeOver makes this Client the one that renews the token in the background, if
// an earlier Client of its State does. Otherwise the State would hold that one and
// its Transport until this one is used.
func (c *Client) TakeOver() { c.state.tokens.takeOver(c.fetcher) }

// Retire keeps this Client from renewing tokens in the background from now on. A call that is still
// pending when another Client has taken over would otherwise make this one the renewer
// again, and its State would hold it and its Transport.
func (c *Client) Retire() { c.state.tokens.retire(c.fetcher) }

// Close ends the background renewals of a Client that shares its State with
// nobody, and the idle connections of its Transport.
func (c *Client) Close() {
	c.state.Close()
	c.closeIdleConnections()
}
