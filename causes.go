package caddycvs

// This file holds why an order check did not say yes, in words for the log.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// why is the cause of a verdict and what else an operator must know of it. It never holds
// a value of the answer's.
type why struct{ cause, detail string }

// The causes of a verdict; each noAnswer has a status for on_error.
const (
	causeStatus      = "status"
	causeCondition   = "condition"
	causeAmount      = "amount"
	causePath        = "order number unfit for a path"
	causeHeader      = "value unfit for a header field"
	causeServerError = "server error"
	causeRedirect    = "redirect"
	causeSilent      = "route wrote no answer"
	causeJSON        = "unreadable JSON"
	causeTooLarge    = "answer too large"
	causeBroken      = "connection broke"
	causeUnreachable = "unreachable"
	causeTimeout     = "timed out"
)

// statusFor is the answer to GalaxiaMoneytree when on_error rejects.
func statusFor(cause string) int {
	switch cause {
	case causeTimeout:
		return http.StatusGatewayTimeout
	case causeUnreachable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadGateway
	}
}

// failed says why a request to a shop's app got no answer, or not all of one.
func failed(err error) why {
	detail := client.Cause(err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case client.IsTimeout(err) || errors.Is(err, context.Canceled):
		return why{cause: causeTimeout}
	case isCertificate || errors.Is(err, http.ErrSchemeMismatch): // nothing was sent
		return why{causeUnreachable, detail}
	default:
		return why{causeBroken, detail}
	}
}

// setupFaults are the statuses that rarely are a shop's word on an order, and often that
// of what stands before it, with the usual cause.
var setupFaults = map[int]string{
	http.StatusCreated:              "201 is some frameworks' default for a POST: have the app answer 200, or accept 201",
	http.StatusUnauthorized:         "the app wants to know who asks: send a key by the option header",
	http.StatusForbidden:            "the app refuses who asks: a wrong key, an address that it does not know, or CSRF protection",
	http.StatusNotFound:             "the app has no such path, or no such order: compare the URL, and have the app answer 409 to an unknown order",
	http.StatusMethodNotAllowed:     "the app knows the path by another method: see the option method",
	http.StatusUnsupportedMediaType: "the app does not read this media type: the webhook's body comes as it was sent",
	419:                             "the app's CSRF protection: except the path from it",
	http.StatusTooManyRequests:      "the app limits how often it is asked: except this gateway",
}

// setupFault says what a status that means no tells of the app's set-up, "" if nothing.
func setupFault(status int) string {
	if fault := setupFaults[status]; fault != "" || status >= 300 {
		return fault
	}
	return "accept does not name this status"
}

// mismatch says what stands at a path in place of what must, without its value.
func mismatch(path string, v gjson.Result) string {
	switch kind := strict.KindOf(v); kind {
	case strict.Absent:
		return path + " is missing"
	case strict.Null, strict.Array, strict.Object:
		return path + " is " + kind.String()
	default:
		return path + " is " + kind.String() + " of another value"
	}
}

// notJSON says what a body that is not JSON looks like.
func notJSON(body []byte) string {
	switch body = bytes.TrimSpace(body); {
	case len(body) == 0:
		return "the answer is empty"
	case body[0] == '<':
		return "the answer begins like HTML"
	case bytes.HasPrefix(body, []byte("\ufeff")):
		return "the answer begins with a byte order mark"
	default:
		return "the answer is not one JSON value"
	}
}
