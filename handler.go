package caddycvs

// This file holds what the HTTP handlers share: how a body is read and how an answer is
// sent.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// httpError is an own answer.
type httpError struct {
	status  int
	message string
	rule    string // by which a caller is refused, for the log
}

func (e *httpError) Error() string { return e.message }

// readBody reads at most limit bytes, and not beyond the deadline: a slow body
// must not hold the request.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
		return nil, &httpError{status: http.StatusUnsupportedMediaType, message: "Content-Encoding " + strconv.Quote(encoding[:min(len(encoding), 60)]) + " is not read here: send the body as it is"}
	}
	defer readUntil(w, deadline)()
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if met, ok := errors.AsType[*http.MaxBytesError](err); ok { // perhaps request_body's
		return nil, tooLarge(met.Limit)
	}
	if err != nil && time.Now().After(deadline) {
		return nil, &httpError{status: http.StatusRequestTimeout, message: "the body did not arrive in time"}
	}
	if err != nil {
		return nil, &httpError{status: http.StatusBadRequest, message: "the body is incomplete"}
	}
	return body, nil
}

// readUntil sets a deadline for a body to arrive. The function that it returns takes it
// back: it must not outlive the body, for it would end the request.
func readUntil(w http.ResponseWriter, deadline time.Time) (end func()) {
	conn := http.NewResponseController(w)
	if conn.SetReadDeadline(deadline) != nil {
		return func() {}
	}
	return func() { _ = conn.SetReadDeadline(time.Time{}) }
}

func tooLarge(limit int64) error {
	return &httpError{status: http.StatusRequestEntityTooLarge, message: fmt.Sprintf("the body is larger than %d bytes", limit)}
}

// readAll reads a body to its end, which HTTP/2 tells apart from its last byte. The
// size that it declares, if any, saves copying.
func readAll(body io.Reader, size int64) ([]byte, error) {
	const largest = 64 << 10 // that a mere declaration gets
	whole := bytes.NewBuffer(make([]byte, 0, max(min(size, largest), 0)+bytes.MinRead))
	_, err := whole.ReadFrom(body)
	return whole.Bytes(), err
}

// sendAnswer sends an answer at once: what is done after it, such as logging, must
// not delay it.
func sendAnswer(w http.ResponseWriter, status int, contentType string, body []byte) error {
	header := w.Header()
	header["Cache-Control"] = []string{"no-store"} // of its own: other handlers change it in place
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	header["Content-Type"] = nil // keeps net/http from guessing one
	if contentType != "" {
		header["Content-Type"] = []string{contentType}
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// closeUnread ends the connection with an answer that does not depend on the
// body. Over HTTP/1 the server would else read what is left of it first, and a
// sender that stalls would never be answered.
func closeUnread(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
}
