package emulator

// Faults: their form, and their effect on responses.

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxDelay = time.Hour

	// The sizes of oversized bodies, above what a careful reader accepts of a response and of a webhook.
	oversizedResponse = 16 << 20
	oversizedWebhook  = 2 << 20

	garbage = "<!DOCTYPE html>\n<html><head><title>503 Service Temporarily Unavailable</title></head>" +
		"<body><h1>점검 중입니다.</h1></body></html>\n"
)

// Drop says when a connection is closed without a response.
type Drop string

// The values of [Drop]. A webhook with DropBefore is not sent. A webhook with DropAfter arrives, and its response is lost.
const (
	DropBefore Drop = "before" // before the request is processed
	DropAfter  Drop = "after"  // after the request was processed, without a response
	DropBody   Drop = "body"   // after the headers and half of the body; not for webhooks
)

// Fault makes requests to the API or the emulator's webhooks fail. Beside a delay it has at most one effect; Done and Late may
// join another one. Its JSON form is that of POST /sandbox/faults.
type Fault struct {
	// Endpoint is the kind of request that fails. EndpointAll means each kind that the fault can affect.
	Endpoint Endpoint `json:"endpoint"`

	// Times is the number of requests that fail. 0 means all until the fault is cleared. [Emulator.Faults] returns the number left.
	Times int `json:"times,omitempty"`

	// Delay is the time before the request is processed or the webhook is sent, at most an hour. Close ends it. In JSON it is a
	// string such as "1.5s". The request is processed even if the client closes the connection, as on a real server.
	Delay time.Duration `json:"-"`

	// CancelWithClient ends the delay, and does not process the request, when the client closes the connection.
	CancelWithClient bool `json:"cancel_with_client,omitempty"`

	// Status is the HTTP status of an error response, and Code its code. The request is not processed, except with Done or Late.
	// Without Code it is -1, and without Status it is HTTP 200. Message is the envelope's message.
	Status  int    `json:"status,omitempty"`
	Code    int    `json:"code,omitempty"`
	Message string `json:"message,omitempty"`

	// Drop closes the connection without a response.
	Drop Drop `json:"drop,omitempty"`

	// Garbage processes the request, then responds with 200 and an HTML page. A webhook is sent with the page as its body.
	Garbage bool `json:"garbage,omitempty"`

	// Oversized processes the request, then responds with 16 MiB: spaces and the right JSON. A webhook is sent with 2 MiB.
	Oversized bool `json:"oversized,omitempty"`

	// ExpiredToken expires the request's token early, so that the response is 401.
	ExpiredToken bool `json:"expired_token,omitempty"`

	// Done processes the request before the error response of Status or Code: what was refused is done all the same. It affects
	// the requests that change a payment.
	Done bool `json:"done,omitempty"`

	// Late processes the request so long after its response, at most an hour, as an API with a queue may do. The response is
	// that of Status, Code or Garbage; without one the connection is closed at once. Close ends the time, and the request is
	// then processed. The token is checked before that time. It affects the requests that change a payment. In JSON it is a
	// string, as the delay is.
	Late time.Duration `json:"-"`

	// Stale makes a look-up show the payments as they were so long ago, at most an hour, in place of [Options].Lag. In JSON it
	// is a string, as the delay is.
	Stale time.Duration `json:"-"`

	// Omit leaves a field, such as vbank_num, out of each payment in the response.
	Omit string `json:"omit,omitempty"`

	// Duplicate sends a webhook twice, one after the other. The first response decides.
	Duplicate bool `json:"duplicate,omitempty"`

	// Forged alters a webhook as a forger would do.
	Forged Forgery `json:"forged,omitempty"`
}

// plainFault is a Fault without its methods, so that MarshalJSON and UnmarshalJSON do not call themselves.
type plainFault Fault

// MarshalJSON writes the durations as strings.
func (f Fault) MarshalJSON() ([]byte, error) {
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(struct {
		plainFault
		Delay string `json:"delay,omitempty"`
		Late  string `json:"late,omitempty"`
		Stale string `json:"stale,omitempty"`
	}{plainFault(f), text(f.Delay), text(f.Late), text(f.Stale)})
}

// UnmarshalJSON reads the durations from strings and refuses unknown fields.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var read struct {
		plainFault
		Delay string `json:"delay"`
		Late  string `json:"late"`
		Stale string `json:"stale"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&read); err != nil {
		return fmt.Errorf("reading fault: %w", err)
	}
	for _, field := range []struct {
		name, text string
		to         *time.Duration
	}{
		{"delay", read.Delay, &read.plainFault.Delay},
		{"late", read.Late, &read.plainFault.Late},
		{"stale", read.Stale, &read.plainFault.Stale},
	} {
		if field.text == "" {
			continue
		}
		var err error
		if *field.to, err = time.ParseDuration(field.text); err != nil {
			return fmt.Errorf("reading fault: %s must be a duration such as \"1.5s\", not %q", field.name, field.text)
		}
	}
	*f = Fault(read.plainFault)
	return nil
}

// endpoints are the values that a fault may name.
var endpoints = []Endpoint{
	EndpointToken, EndpointIssue, EndpointVoid, EndpointPayment, EndpointPayments, EndpointBalance, EndpointFind, EndpointFindAll,
	EndpointList, EndpointCancel, EndpointPrepare, EndpointCard, EndpointConfirm, EndpointNotice, EndpointAll,
}

// The endpoints that an effect can affect.
var (
	changes      = []Endpoint{EndpointIssue, EndpointVoid, EndpointCancel, EndpointCard} // of a payment
	shows        = []Endpoint{EndpointPayment, EndpointPayments, EndpointFind, EndpointFindAll, EndpointList}
	withPayments = slices.Concat(changes, shows) // in the response
	lookUps      = slices.Concat(shows, []Endpoint{EndpointBalance})
	withToken    = slices.Concat(lookUps, changes, []Endpoint{EndpointPrepare})
	answered     = slices.Concat(withToken, []Endpoint{EndpointToken})
	webhooks     = []Endpoint{EndpointConfirm, EndpointNotice}
	anywhere     = slices.Concat(answered, webhooks)
)

// The names of effects that the till's page describes by more than the name.
const (
	effectError  = "status or code"
	effectDrop   = "drop"
	effectLate   = "late"
	effectStale  = "stale"
	effectOmit   = "omit"
	effectForged = "forged"
)

// effect is what a fault does, beside a delay.
type effect struct {
	name string
	set  bool
	on   []Endpoint
}

// effects returns a fault's effects.
func (f Fault) effects() []effect {
	return slices.DeleteFunc([]effect{
		{effectError, f.hasError(), answered},
		{effectDrop, f.Drop != "" && f.Drop != DropBody, anywhere},
		{effectDrop, f.Drop == DropBody, answered},
		{"garbage", f.Garbage, anywhere},
		{"oversized", f.Oversized, anywhere},
		{"expired_token", f.ExpiredToken, withToken},
		{"done", f.Done, changes},
		{effectLate, f.Late != 0, changes},
		{effectStale, f.Stale != 0, lookUps},
		{effectOmit, f.Omit != "", withPayments},
		{"duplicate", f.Duplicate, webhooks},
		{effectForged, f.Forged != "", webhooks},
	}, func(e effect) bool { return !e.set })
}

// combinations are the effects that one fault may have together: a response, and what becomes of the request in spite of it.
var combinations = []string{"status or code, done", "status or code, late", "garbage, late"}

// validate returns all errors in a fault.
func (f Fault) validate() error {
	var wrong []string
	require := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	effects := f.effects()
	names := make([]string, len(effects))
	for i, e := range effects {
		names[i] = e.name
	}
	combined := strings.Join(names, ", ")
	require(slices.Contains(endpoints, f.Endpoint), "endpoint must be one of %s", joinNames(endpoints))
	require(f.Times >= 0, "times must not be negative; 0 means until cleared")
	require(f.Delay >= 0 && f.Delay <= maxDelay, "delay must be between 0 and %v", maxDelay)
	require(f.Late >= 0 && f.Late <= maxDelay, "late must be between 0 and %v", maxDelay)
	require(f.Stale >= 0 && f.Stale <= maxDelay, "stale must be between 0 and %v", maxDelay)
	require(f.Status == 0 || f.Status >= 200 && f.Status <= 599, "status must be between 200 and 599")
	require(f.Message == "" || f.hasError(), "message needs a status or a code")
	require(!f.Done || f.hasError(), "done needs a status or a code")
	require(f.Omit == "" || isPaymentField(f.Omit), "omit must be a field of the API's payments, such as vbank_num")
	require(!f.CancelWithClient || f.Delay > 0, "cancel_with_client needs a delay")
	drops := []Drop{"", DropBefore, DropAfter, DropBody}
	require(slices.Contains(drops, f.Drop), "drop must be one of %s", joinNames(drops[1:]))
	forgeries := []Forgery{"", ForgedSignature, ForgedAmount, ForgedMerchantUID, ForgedUnsigned}
	require(slices.Contains(forgeries, f.Forged), "forged must be one of %s", joinNames(forgeries[1:]))
	require(len(names) <= 1 || slices.Contains(combinations, combined), "one fault cannot combine %s; inject one for each", combined)
	require(len(names) > 0 || f.Delay > 0, "a fault needs a delay or an effect")
	if len(wrong) == 0 {
		require(f.Endpoint == EndpointAll || f.affects(f.Endpoint), "%s has no effect on endpoint %s", combined, f.Endpoint)
		require(!f.CancelWithClient || !f.Endpoint.isWebhook(), "cancel_with_client has no effect on endpoint %s", f.Endpoint)
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

// affects reports whether a fault can have all its effects on a request to an endpoint.
func (f Fault) affects(endpoint Endpoint) bool {
	if f.Endpoint != EndpointAll && f.Endpoint != endpoint {
		return false
	}
	return !slices.ContainsFunc(f.effects(), func(e effect) bool { return !slices.Contains(e.on, endpoint) })
}

func (e Endpoint) isWebhook() bool { return slices.Contains(webhooks, e) }

func (f Fault) hasError() bool { return f.Status != 0 || f.Code != 0 }

// response returns the error response of a fault, if it has one.
func (f Fault) response() (response, bool) {
	if !f.hasError() {
		return response{}, false
	}
	return response{
		status:  cmp.Or(f.Status, http.StatusOK),
		code:    cmp.Or(f.Code, codeFailed),
		message: cmp.Or(f.Message, "요청을 처리할 수 없습니다."),
	}, true
}

// writeFaulty writes a response with the effect of a fault, if it has one.
func writeFaulty(w http.ResponseWriter, f Fault, r response) {
	switch {
	case f.Drop == DropAfter, f.Late > 0 && !f.hasError() && !f.Garbage:
		panic(http.ErrAbortHandler)
	case f.Drop == DropBody:
		body := r.encode()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(r.status)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush() // otherwise the server would drop this half, too
		panic(http.ErrAbortHandler)
	case f.Garbage:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, garbage)
	case f.Oversized:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(r.status)
		_, _ = io.Copy(w, oversize(r.encode(), oversizedResponse))
	default:
		writeResponse(w, r)
	}
}

// oversize returns JSON with spaces before it, size bytes in all.
func oversize(body []byte, size int) io.Reader {
	padding := io.LimitReader(spaces{}, int64(size-len(body)))
	return io.MultiReader(padding, bytes.NewReader(body))
}

// spaces is an endless reader of spaces.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// joinNames returns the names for an error message.
func joinNames[S ~string](items []S) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = string(item)
	}
	return strings.Join(names, ", ")
}
