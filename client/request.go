package client

// This file holds a call as it goes over the wire, and Do, which sends it.

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const userAgent = "caddy-cvs"

// Request is one call as it goes over the wire.
type Request struct {
	Method      string
	Path        string // escaped, beginning with "/"
	Query       string // encoded
	ContentType string
	Body        []byte
	List        bool // the answer may be as long as a list

	// MaySend, if set, is asked immediately before anything is sent, each time. After an error the
	// call ends with ErrWithdrawn.
	MaySend func() error
}

// PaymentRequest asks for one payment by its imp_uid. Payments made through a
// test channel are found too; without include_sandbox the API hides them.
func PaymentRequest(impUID string) Request {
	return Request{Method: http.MethodGet, Path: "/payments/" + url.PathEscape(impUID), Query: "include_sandbox=true"}
}

// FindRequest asks for the newest payment of an order, of any status if status is "".
func FindRequest(merchantUID string, status Status) Request {
	path := "/payments/find/" + url.PathEscape(merchantUID)
	if status != "" {
		path += "/" + url.PathEscape(string(status))
	}
	// include_sandbox is documented for look-ups by imp_uid only. If the API hides
	// test payments here too, it helps; if not, the API ignores it.
	return Request{Method: http.MethodGet, Path: path, Query: "sorting=-started&include_sandbox=true"}
}

// ListRequest asks for one page of the payments of a status.
func ListRequest(status Status, o ListOptions) Request {
	q := url.Values{"include_sandbox": {"true"}}
	set := func(name string, n int64) {
		if n > 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	set("page", int64(o.Page))
	set("limit", int64(o.Limit))
	if !o.From.IsZero() {
		set("from", o.From.Unix())
	}
	if !o.To.IsZero() {
		set("to", o.To.Unix())
	}
	if o.Sorting != "" {
		q.Set("sorting", o.Sorting)
	}
	return Request{Method: http.MethodGet, Path: "/payments/status/" + url.PathEscape(string(status)), Query: q.Encode(), List: true}
}

// VoidRequest voids an unpaid barcode.
func VoidRequest(impUID string) Request {
	return Request{Method: http.MethodDelete, Path: "/cvs/" + url.PathEscape(impUID)}
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

// Do sends one call with the token, once, and returns the API's answer whatever
// its status and code; only a 401 that a new token does not cure is an error.
// See the errors of this package for the others.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	return c.do(ctx, r, c.sendWithToken)
}

func (c *Client) do(ctx context.Context, r Request, send func(*http.Request, *sendTrace) (*http.Response, error)) (answer *Response, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	trace := &sendTrace{maySend: r.MaySend, calls: c.observe(&r)}
	defer func() { trace.calls.end(answer, err) }()
	req, err := c.newRequest(trace.context(ctx), r)
	if err != nil {
		return nil, err
	}
	trace.forbidRepeat(req)
	trace.guardBody(req)
	if c.closeIdleAgain.CompareAndSwap(true, false) {
		c.closeIdleConnections()
	}
	resp, err := send(req, trace)
	switch {
	case errors.Is(err, ErrCredentials) || errors.Is(err, ErrNoToken):
		return nil, err
	case err != nil && trace.withdrawn.Load():
		return nil, &failure{ErrWithdrawn, err}
	case err != nil && trace.nothingSent():
		return nil, &failure{ErrUnreachable, err}
	case err != nil:
		c.closeIdleAfter(err)
		return nil, &failure{ErrOutcomeUnknown, err}
	}
	return c.readResponse(resp, r.List)
}

// newRequest builds the request without the token.
func (c *Client) newRequest(ctx context.Context, r Request) (*http.Request, error) {
	path, err := url.PathUnescape(r.Path)
	if err != nil || !FitsPath(path) || !strings.HasPrefix(path, "/") {
		return nil, &InvalidError{[]string{"a value would change the path"}}
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, "", bytes.NewReader(r.Body))
	if err != nil {
		return nil, errors.New("building the request: the method is not valid")
	}
	u := c.api // parsed once, by New
	u.Path, u.RawPath, u.RawQuery = path, r.Path, r.Query
	req.URL, req.Host = &u, u.Host
	req.Header.Set("Accept", strict.JSON)
	req.Header.Set("User-Agent", userAgent)
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	return req, nil
}
