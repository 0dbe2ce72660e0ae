package caddycvs

// This file holds what all handlers share: an error with its HTTP status, how a body is
// read, and how an answer is sent.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// httpError is an error that the gateway answers by itself.
type httpError struct {
	status  int
	message string
	allow   string // the header field Allow of a 405
	rule    string // the rule that refuses the caller, for the log
	verdict string // on a webhook; "" stands for invalid
	cause   cause  // for the log; by default the status in words
}

func (e *httpError) Error() string { return e.message }

// logCause is the cause for the log. It does not repeat the message, which may quote the
// request.
func (e *httpError) logCause() cause {
	if e.cause != (cause{}) {
		return e.cause
	}
	return cause{name: strings.ToLower(http.StatusText(e.status))}
}

func forbidden(rule, message string) error {
	return &httpError{status: http.StatusForbidden, message: message, rule: rule}
}

func badRequest(message string) error {
	return &httpError{status: http.StatusBadRequest, message: message}
}

// unreadable is the error for a body that strict or a package above it refused.
func unreadable(err error) error {
	if errors.Is(err, strict.ErrMediaType) {
		return &httpError{status: http.StatusUnsupportedMediaType, message: err.Error()}
	}
	return badRequest(err.Error())
}

// readBody reads at most limit bytes, until the deadline: a slow sender must not hold the
// request.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time) ([]byte, error) {
	if err := validateBodyHeader(r, limit); err != nil {
		return nil, err
	}
	defer setReadDeadline(w, deadline)()
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if err != nil {
		return nil, bodyError(err, deadline)
	}
	return body, nil
}

// validateBodyHeader refuses a body by the header of its request.
func validateBodyHeader(r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
		return &httpError{status: http.StatusUnsupportedMediaType, message: "Content-Encoding " + strconv.Quote(encoding[:min(len(encoding), 60)]) + " is not supported: send the body without it"}
	}
	return nil
}

// bodyError is the error for a body that could not be read to its end.
func bodyError(err error, deadline time.Time) error {
	if exceeded, ok := errors.AsType[*http.MaxBytesError](err); ok { // the limit may be that of request_body
		return tooLarge(exceeded.Limit)
	}
	if time.Now().After(deadline) {
		return &httpError{status: http.StatusRequestTimeout, message: "the body did not arrive in time"}
	}
	return badRequest("the body is incomplete")
}

// setReadDeadline sets the deadline for a body to arrive. The caller must call clear after
// reading: a deadline that is left would end the connection.
func setReadDeadline(w http.ResponseWriter, deadline time.Time) (clear func()) {
	conn := http.NewResponseController(w)
	if conn.SetReadDeadline(deadline) != nil {
		return func() {}
	}
	return func() { _ = conn.SetReadDeadline(time.Time{}) }
}

func tooLarge(limit int64) error {
	return &httpError{status: http.StatusRequestEntityTooLarge, message: fmt.Sprintf("the body is larger than %d bytes", limit)}
}

// readAll reads a body until EOF: over HTTP/2, stopping at the last byte would cancel the
// stream. size is the declared size: with it, the buffer need not grow.
func readAll(body io.Reader, size int64) ([]byte, error) {
	const maxDeclared = 64 << 10 // allocated at most before a byte has arrived
	buf := bytes.NewBuffer(make([]byte, 0, max(min(size, maxDeclared), 0)+bytes.MinRead))
	_, err := buf.ReadFrom(body)
	return buf.Bytes(), err
}

// sendAnswer sends an answer and flushes it: logging comes after it and must not delay it.
func sendAnswer(w http.ResponseWriter, status int, contentType string, body []byte) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header["Content-Type"] = nil // else net/http guesses one
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// closeUnread closes the connection after an answer that was sent before the body was
// read. Over HTTP/1 the server would otherwise read the rest of the body first, and a sender
// that stalls would never get the answer.
func closeUnread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}

// takenVar is set if a handler of this module answers the request.
const takenVar = "cvs_taken"

func take(r *http.Request) { caddyhttp.SetVar(r.Context(), takenVar, true) }

func isTaken(r *http.Request) bool {
	taken, _ := caddyhttp.GetVar(r.Context(), takenVar).(bool)
	return taken
}

// skipAccessLog keeps a request out of Caddy's access log, which prints the URL with its
// signature or token. The handler's own log line replaces it.
func skipAccessLog(r *http.Request) { caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true) }
