// Package client is a Go client for the convenience-store part of PortOne's
// REST API V1: barcodes are issued and voided, payments are looked up. It keeps
// the access token, tells failures apart, and never leaves an issue in doubt
// that a look-up can settle.
//
// It knows nothing of Caddy. Below it lie the packages for what belongs to the
// wire: strict bodies, the webhook reader, signed URLs, and an emulator.
package client

import (
	"cmp"
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

const (
	maxAnswer     = 1 << 20  // one payment, with much room
	maxListAnswer = 16 << 20 // a thousand payments
	userAgent     = "caddy-cvs"
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
}

// String names the API and leaves out the keys, whatever verb prints the Config.
func (c Config) String() string { return "client.Config for " + cmp.Or(c.API, DefaultAPI) }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// Client calls the API. It may be used by many goroutines at once.
type Client struct {
	api       string
	timeout   time.Duration
	state     *State
	bare      http.RoundTripper // for getToken
	transport http.RoundTripper // with the token added
	key       string
	secret    string
	tier      string
	suspect   atomic.Bool // the idle connections may be dead
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
		api: api.String(), timeout: cfg.Timeout, state: cfg.State, bare: cfg.Transport,
		key: cfg.ImpKey, secret: cfg.ImpSecret, tier: cfg.Tier,
	}
	c.transport = &authTransport{
		base: cfg.Transport, tier: cfg.Tier,
		tokens: &tokenSource{state: cfg.State, fetch: c.getToken, limit: cfg.Timeout},
	}
	return c, nil
}

// String names the API and leaves out the keys, whatever verb prints the Client.
func (c *Client) String() string { return "client.Client of " + c.api }

// GoString is String.
func (c *Client) GoString() string { return c.String() }

// ParseAPI checks the API's address: http or https, a host, no path or query.
func ParseAPI(raw string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSuffix(raw, "/"))
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" ||
		u.Path != "" || u.User != nil || strings.ContainsAny(raw, "?#") {
		return nil, errors.New("api must be an address such as " + DefaultAPI + ", without path, query and credentials")
	}
	return u, nil
}

// State returns the client's State.
func (c *Client) State() *State { return c.state }

// TakeOver makes this Client the one that renews the token in the background, if
// an earlier Client of its State did. Else that one, with its Transport, would
// be held until this one is used.
func (c *Client) TakeOver() {
	if s := c.state.renewer.Load(); s != nil {
		c.state.renewer.CompareAndSwap(s, c.transport.(*authTransport).tokens)
	}
}

// Close ends the background renewals of a Client that shares its State with
// nobody, and the idle connections of its Transport.
func (c *Client) Close() {
	c.state.Close()
	c.closeIdle()
}
