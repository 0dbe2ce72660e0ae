// Package client is a Go client for the convenience-store part of PortOne's
// REST API V1: barcodes are issued and voided, payments are looked up. It keeps
// the access token, tells failures apart, and never leaves an issue in doubt
// that a look-up can settle.
//
// It knows nothing of Caddy. Below it lie the packages for what belongs to the
// wire: strict bodies, the webhook reader, signed URLs, and an emulator.
package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
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

// closeIdle ends the Transport's idle connections, unless they are the whole
// program's.
func (c *Client) closeIdle() {
	if t, ok := c.bare.(interface{ CloseIdleConnections() }); ok && c.bare != http.DefaultTransport {
		t.CloseIdleConnections()
	}
}

// FitsPath reports whether value can stand in one segment of a path, escaped,
// so that no server resolves it to another path: neither it nor a part of it
// between slashes or backslashes is "." or "..".
func FitsPath(value string) bool {
	if !strings.Contains(value, ".") {
		return true
	}
	parts := strings.FieldsFunc(value, func(r rune) bool { return r == '/' || r == '\\' })
	return !slices.Contains(parts, ".") && !slices.Contains(parts, "..")
}

// Request is one call as it goes over the wire.
type Request struct {
	Method      string
	Path        string // escaped, beginning with "/"
	Query       string // encoded
	ContentType string
	Body        []byte
	List        bool // the answer may be as long as a list
}

// Response is the API's answer as it came over the wire. Its body is the
// API's envelope; nothing else is ever returned as a Response. Callers of
// identical calls share one: it is for reading only.
type Response struct {
	Status      int
	ContentType string
	RetryAfter  string // the header field, "" if there is none that can be read
	Body        []byte
	Code        int64 // the envelope's
	Recovered   bool  // looked up by IssueRaw, because the call's own answer was lost
}

// Do sends one call with the token, once, and returns the API's answer whatever
// its status and code; only a 401 that a new token does not cure is an error.
// See the errors of this package for the others.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	return c.do(ctx, c.transport, r)
}

func (c *Client) do(ctx context.Context, via http.RoundTripper, r Request) (*Response, error) {
	for segment := range strings.SplitSeq(r.Path, "/") {
		if value, err := url.PathUnescape(segment); err != nil || !FitsPath(value) {
			return nil, &InvalidError{[]string{"a value would change the path"}}
		}
	}
	if c.suspect.Load() && c.suspect.CompareAndSwap(true, false) {
		c.closeIdle()
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	trace := new(sendTrace)
	req, err := http.NewRequestWithContext(trace.follow(ctx), r.Method, c.api+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, errors.New("building the request: the path is not valid")
	}
	trace.guard(req)
	req.URL.RawQuery = r.Query
	req.Header.Set("Accept", strict.JSON)
	req.Header.Set("User-Agent", userAgent)
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	resp, err := via.RoundTrip(req)
	switch {
	case errors.Is(err, ErrCredentials) || errors.Is(err, ErrNoToken):
		return nil, err
	case err != nil && trace.unsent():
		return nil, &failure{ErrUnreachable, err}
	case err != nil:
		c.distrust(err)
		return nil, &failure{ErrOutcomeUnknown, err}
	}
	if resp.StatusCode < 200 { // 101: what follows is no answer, and ends with no context
		_ = resp.Body.Close()
		return nil, newNotAPIError(resp)
	}
	if resp.StatusCode == http.StatusUnauthorized { // getToken's; its body is not documented
		discard(resp)
		return nil, ErrCredentials
	}
	limit := int64(maxAnswer)
	if r.List {
		limit = maxListAnswer
	}
	body, err := readBody(resp, limit)
	if errors.Is(err, errTooLarge) {
		return nil, &failure{newNotAPIError(resp), err}
	}
	if err != nil {
		c.distrust(err)
		return nil, &failure{ErrOutcomeUnknown, err}
	}
	return newResponse(resp, body)
}

// distrust ends the idle connections after one that failed: where one has died
// without a word, as when a firewall forgot it, the others will have, too, and each
// would cost a call. One of HTTP/2 counts as idle only when the transport has
// finished its last call, so the next call ends them once more.
func (c *Client) distrust(err error) {
	if !errors.Is(err, context.Canceled) {
		c.closeIdle()
		c.suspect.Store(true)
	}
}

// newResponse accepts nothing but the API's envelope.
func newResponse(resp *http.Response, body []byte) (*Response, error) {
	code := gjson.GetBytes(body, "code")
	isObject := bytes.HasPrefix(bytes.TrimSpace(body), []byte("{"))
	if resp.StatusCode < 200 || 300 <= resp.StatusCode && resp.StatusCode < 400 ||
		!isObject || !strict.ValidJSON(body) || code.Type != gjson.Number {
		return nil, newNotAPIError(resp)
	}
	return &Response{
		Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), RetryAfter: readRetryAfter(resp),
		Body: body, Code: readCode(code),
	}, nil
}

func newNotAPIError(resp *http.Response) *NotAPIError {
	return &NotAPIError{Status: resp.StatusCode, RetryAfter: readRetryAfter(resp)}
}

// readRetryAfter returns the header field as it came, if it can be read.
func readRetryAfter(resp *http.Response) string {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return strconv.FormatUint(seconds, 10)
	}
	if untilRetry(value) < 0 {
		return ""
	}
	return value
}

// untilRetry is the time that a Retry-After asks for, in seconds or as a date; 0 for none
// and less for one that cannot be read.
func untilRetry(value string) time.Duration {
	if value == "" {
		return 0
	}
	const longest = 1_000_000_000 // seconds; more would overflow
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, longest)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(time.Until(date), 0)
	}
	return -1
}

// readCode returns the envelope's code. Only the number 0 is success: what is not a
// whole number, such as -0.5, is a refusal by a code that nobody knows.
func readCode(code gjson.Result) int64 {
	canonical, _ := decimal.Canonical(code.Raw)
	n, err := strconv.ParseInt(canonical, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// Err returns an *APIError if the API refused.
func (r *Response) Err() error {
	if r.Status < 400 && r.Code == 0 {
		return nil
	}
	return &APIError{
		Status: r.Status, Code: r.Code, Message: gjson.GetBytes(r.Body, "message").String(), RetryAfter: r.RetryAfter,
	}
}

// Payment reads the one payment of an answer.
func (r *Response) Payment() (*Payment, error) {
	if err := r.Err(); err != nil {
		return nil, err
	}
	return readPayment([]byte(gjson.GetBytes(r.Body, "response").Raw))
}

// impUID returns the payment's number, as far as it can be read.
func (r *Response) impUID() string {
	const longest = 64
	v := gjson.GetBytes(r.Body, "response.imp_uid")
	if v.Type != gjson.String || len(v.Str) > longest {
		return ""
	}
	return v.Str
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
