package caddycvs

// This file holds what the answer of an order check means, and what that of a tell. These functions
// only decide: they send nothing.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// verdict is what a check says of an order.
type verdict string

const (
	yes      verdict = "yes"
	no       verdict = "no"
	noAnswer verdict = "no answer"
)

// checkResult is the result of one check.
type checkResult struct {
	check    *OrderCheck
	verdict  verdict
	cause    cause
	reason   string // the shop's text on a no
	status   int
	duration time.Duration
}

// isSetupFault reports whether the check's no may come from the set-up of the app, and not
// from the order.
func (c *checkResult) isSetupFault() bool { return c.cause.name == causeStatus && c.cause.detail != "" }

// meansNo reports whether a status alone means no, whatever the body says.
func (o *OrderCheck) meansNo(status int) bool {
	return 200 <= status && status < 300 && !o.accepts(status) || 400 <= status && status < 500
}

// judge decides what an answer means. broken is set if the answer is not complete. Even then,
// a status that means no is a no.
func (o *OrderCheck) judge(status int, body []byte, broken cause, amount string) (verdict, cause) {
	switch {
	case o.meansNo(status):
		return no, cause{causeStatus, setupFault(status)}
	case broken.name != "":
		return noAnswer, broken
	case status == 0:
		return noAnswer, cause{name: causeSilent}
	case status >= 500 || status < 200:
		return noAnswer, cause{name: causeServerError}
	case 300 <= status && status < 400:
		return noAnswer, cause{name: causeRedirect}
	case o.Requirements == nil && o.Amount == "":
		return yes, cause{}
	}
	text := string(body)
	if !gjson.Valid(text) {
		return noAnswer, cause{causeJSON, notJSON(body)}
	}
	answer := gjson.Parse(text)
	if why := unmet(o.Requirements, answer); why != "" {
		return no, cause{causeCondition, why}
	}
	switch v := answer.Get(o.Amount); {
	case o.Amount == "" || sameAmount(v, amount):
		return yes, cause{}
	case amount == "":
		return no, cause{causeAmount, "the barcode's amount is not known"}
	default:
		return no, cause{causeAmount, mismatch(o.Amount, v)}
	}
}

func (o *OrderCheck) accepts(status int) bool {
	if o.Accept == nil {
		return status == http.StatusOK
	}
	return accepts(o.Accept, status)
}

// unmet says what was found in place of the first required value that an answer lacks. It is "" if
// the answer has all of them.
func unmet(requirements []Requirement, answer gjson.Result) string {
	for _, r := range requirements {
		if v := answer.Get(r.Path); !holds(v, r.Value) {
			return mismatch(r.Path, v)
		}
	}
	return ""
}

// judge decides what the answer to a message means. broken is set if the answer is not complete. Even
// then, a status that the app sends because of the order counts.
func (t *Tell) judge(status int, contentType string, body []byte, broken cause) ledger.Reply {
	unheard := func(why cause) ledger.Reply { return ledger.Reply{Verdict: ledger.Unheard, Cause: why.String()} }
	refused := func(why cause) ledger.Reply { return ledger.Reply{Verdict: ledger.Refused, Cause: why.String()} }
	named := func(name string) cause { return cause{name: name + " " + strconv.Itoa(status)} }
	switch {
	case status >= 500:
		return unheard(named(causeServerError))
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests:
		return unheard(named(causeStatus))
	case 300 <= status && status < 400:
		return unheard(named(causeRedirect))
	case status >= 400 || status >= 200 && !accepts(t.Accept, status):
		return refused(named(causeStatus))
	case broken.name != "":
		return unheard(broken)
	case t.Requirements == nil && isHTML(contentType, body):
		return unheard(cause{name: causeHTML})
	case t.Requirements == nil:
		return ledger.Reply{Verdict: ledger.Heard}
	case gjson.ValidBytes(body):
	case isHTML(contentType, body):
		return unheard(cause{causeJSON, causeHTML})
	default:
		return refused(cause{causeJSON, notJSON(body)})
	}
	if why := unmet(t.Requirements, gjson.ParseBytes(body)); why != "" {
		return refused(cause{causeCondition, why})
	}
	return ledger.Reply{Verdict: ledger.Heard}
}

// isHTML reports whether an answer is a page, such as that of a site under maintenance. An empty one is
// none, whatever it says: PHP gives it the media type of a page.
func isHTML(contentType string, body []byte) bool {
	body = bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\ufeff")), " \t\r\n")
	mediaType, _, _ := strings.Cut(contentType, ";")
	return len(body) > 0 && (body[0] == '<' || slices.Contains(pageTypes, strings.ToLower(strings.TrimSpace(mediaType))))
}

var pageTypes = []string{"text/html", "application/xhtml+xml"}

// holds reports whether a JSON value is the wanted one: numbers by value,
// strings by their text, true, false and null by their names.
func holds(v gjson.Result, want string) bool {
	switch v.Type {
	case gjson.Number:
		return decimal.Equal(v.Raw, want)
	case gjson.String:
		return v.Str == want
	case gjson.True, gjson.False, gjson.Null:
		return v.Exists() && v.Raw == want
	default:
		return false
	}
}

// sameAmount compares numbers, not text: 15000, 15000.0 and "15000" are equal.
// An amount that is not known equals none.
func sameAmount(v gjson.Result, amount string) bool {
	switch v.Type {
	case gjson.Number:
		return decimal.Equal(v.Raw, amount)
	case gjson.String:
		return decimal.Equal(v.Str, amount)
	default:
		return false
	}
}

// cause says, for the log, why a verdict is not yes or why a call failed, and what else an
// operator must know. It never holds a value of an answer.
type cause struct{ name, detail string }

func (c cause) String() string {
	if c.detail == "" {
		return c.name
	}
	return c.name + ": " + c.detail
}

// The causes of a verdict. For those of noAnswer, statusFor gives the status of the answer.
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
	causeHTML        = "the answer is HTML"
	causeTooLarge    = "answer too large"
	causeBroken      = "connection broke"
	causeUnreachable = "unreachable"
	causeTimeout     = "timed out"
)

// The causes of a refusal that no order check has.
const (
	causeExpired       = "expired"
	causeNotReady      = "payment not ready"
	causeAnotherAmount = "another amount"
	causeReplaced      = "replaced barcode"
	causeOrderPaid     = "order paid"
)

// statusFor returns the status of the answer to GalaxiaMoneytree if an order check, or the
// look-up of an unsigned webhook, gave no answer for this cause.
func statusFor(name string) int {
	switch name {
	case causeTimeout:
		return http.StatusGatewayTimeout
	case causeUnreachable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadGateway
	}
}

// transportCause says why a request to the shop's app got no answer, or only a part of one.
func transportCause(err error) cause {
	detail := client.Cause(err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case client.IsTimeout(err) || errors.Is(err, context.Canceled):
		return cause{name: causeTimeout}
	case isCertificate || errors.Is(err, http.ErrSchemeMismatch): // nothing was sent
		return cause{causeUnreachable, detail}
	default:
		return cause{causeBroken, detail}
	}
}

// setupFaults are statuses that seldom mean that the shop refuses the order. They usually
// come from how the app, or a proxy before it, is set up.
var setupFaults = map[int]string{
	http.StatusCreated:              "201 is some frameworks' default for a POST: have the app answer 200, or accept 201",
	http.StatusUnauthorized:         "the app requires authentication: send a key by the option header",
	http.StatusForbidden:            "the app refuses who asks: a wrong key, an address that it does not know, or CSRF protection",
	http.StatusNotFound:             "the app has no such path, or no such order: compare the URL, and have the app answer 409 to an unknown order",
	http.StatusMethodNotAllowed:     "the app knows the path by another method: see the option method",
	http.StatusUnsupportedMediaType: "the app does not read this media type: the webhook's body comes as it was sent",
	419:                             "the app's CSRF protection: exempt the path from it",
	http.StatusTooManyRequests:      "the app limits how often it is asked: exempt this gateway",
}

// setupFault explains a status that means no by a likely fault of the app's set-up. It is
// "" for a status that an app sends on purpose.
func setupFault(status int) string {
	if fault := setupFaults[status]; fault != "" || status >= 300 {
		return fault
	}
	return "accept does not name this status"
}

// mismatch says what was found at a path in place of the wanted value. It does not repeat
// the value.
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
