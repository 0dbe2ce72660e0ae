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

var errTooLarge = errors.New("the answer is larger than any of the API's")

// readBody reads an answer of at most limit bytes, to its end: over HTTP/2, to stop
// at the last byte would cancel the call.
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
