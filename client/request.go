package client

// This file holds a call as it goes over the wire, and Do, which sends it.

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// Request is one call as it goes over the wire.
type Request struct {
	Method      string
	Path        string // escaped, beginning with "/"
	Query       string // encoded
	ContentType string
	Body        []byte
	List        bool // the answer may be as long as a list
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
	// include_sandbox is documented for look-ups by imp_uid only. Should the
	// API hide test payments here too, it helps; if not, it is ignored.
	return Request{Method: http.MethodGet, Path: path, Query: "sorting=-started&include_sandbox=true"}
}

// VoidRequest voids an unpaid barcode.
func VoidRequest(impUID string) Request {
	return Request{Method: http.MethodDelete, Path: "/cvs/" + url.PathEscape(impUID)}
}
