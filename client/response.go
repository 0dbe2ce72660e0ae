package client

// This file holds the API's answer: how it is read, and what counts as one.

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	maxAnswer     = 1 << 20  // one payment, with much room
	maxListAnswer = 16 << 20 // a thousand payments
)

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
	return readPayment([]byte(r.response().Raw))
}

// response returns what the envelope holds.
func (r *Response) response() gjson.Result { return gjson.GetBytes(r.Body, "response") }

// impUID returns the payment's imp_uid, "" if it cannot be read.
func (r *Response) impUID() string {
	const longest = 64
	v := r.response().Get("imp_uid")
	if v.Type != gjson.String || len(v.Str) > longest {
		return ""
	}
	return v.Str
}

// readResponse reads an answer, which may be longer for a list.
func (c *Client) readResponse(resp *http.Response, list bool) (*Response, error) {
	if resp.StatusCode < 200 { // 101: what follows is not an answer, and the context does not end it
		_ = resp.Body.Close()
		return nil, newNotAPIError(resp)
	}
	if resp.StatusCode == http.StatusUnauthorized { // of getToken; its body is not documented
		discard(resp)
		return nil, ErrCredentials
	}
	limit := int64(maxAnswer)
	if list {
		limit = maxListAnswer
	}
	body, err := readBody(resp, limit)
	if errors.Is(err, errTooLarge) {
		return nil, &failure{newNotAPIError(resp), err}
	}
	if err != nil {
		c.closeIdleAfter(err)
		return nil, &failure{ErrOutcomeUnknown, err}
	}
	return newResponse(resp, body)
}

// newResponse accepts nothing but the API's envelope.
func newResponse(resp *http.Response, body []byte) (*Response, error) {
	code := gjson.GetBytes(body, "code")
	isObject := bytes.HasPrefix(bytes.TrimSpace(body), []byte("{"))
	isRedirect := 300 <= resp.StatusCode && resp.StatusCode < 400
	if isRedirect || !isObject || !strict.ValidJSON(body) || code.Type != gjson.Number {
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

// readCode returns the envelope's code. Only the number 0 is success: what is not a
// whole number, such as -0.5, counts as a refusal with an unknown code.
func readCode(code gjson.Result) int64 {
	canonical, _ := decimal.Canonical(code.Raw)
	n, err := strconv.ParseInt(canonical, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

var errTooLarge = errors.New("the answer is larger than any of the API's")

// readBody reads an answer of at most limit bytes until EOF: over HTTP/2, stopping at the
// last byte would cancel the call.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	whole := bytes.NewBuffer(make([]byte, 0, max(min(resp.ContentLength, limit), 0)+bytes.MinRead))
	_, err := whole.ReadFrom(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(whole.Len()) > limit {
		err = errTooLarge
	}
	return whole.Bytes(), err
}

// discard reads the rest of a short answer, so that its connection is used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// readRetryAfter returns the header field as it came, "" if it cannot be read.
func readRetryAfter(resp *http.Response) string {
	value := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return strconv.FormatUint(seconds, 10)
	}
	if parseRetryAfter(value) < 0 {
		return ""
	}
	return value
}

// parseRetryAfter returns the time that a Retry-After asks to wait for, in seconds or
// as a date: 0 if there is none, and less than 0 if it cannot be read.
func parseRetryAfter(value string) time.Duration {
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
