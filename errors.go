package caddycvs

// This file holds the errors that cvs_proxy answers by itself, in words for the app, and
// their HTTP status.

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// errGone ends a look-up whose app closed the connection. The status is the one that
// Caddy's reverse_proxy uses.
var errGone = &httpError{status: 499, message: "The app closed the connection before PortOne answered.", cause: cause{name: "the app closed the connection"}}

// errorAnswer turns an error into an answer in the API's envelope.
func (x *exchange) errorAnswer(err error) *client.Response {
	status, message := x.explain(err)
	body, _ := json.Marshal(map[string]any{"code": -1, "message": message, "response": nil})
	return &client.Response{
		Status: status, ContentType: strict.JSON, RetryAfter: x.retryAfterOf(status, err), Body: body, Code: -1,
	}
}

// retryAfterOf passes on a Retry-After, unless the API may have done the work: clients that
// repeat by themselves would do it twice.
func (x *exchange) retryAfterOf(status int, err error) string {
	if unavailable, ok := errors.AsType[*client.UnavailableError](err); ok {
		return inSeconds(unavailable.RetryAfter)
	}
	if paying, ok := errors.AsType[*ledger.AtTillError](err); ok {
		return inSeconds(paying.RetryAfter)
	}
	if foreign, ok := errors.AsType[*client.NotAPIError](err); ok && !x.mayBeDone(err) {
		return foreign.RetryAfter
	}
	if status == http.StatusServiceUnavailable {
		return "1"
	}
	return ""
}

func inSeconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(max(d.Seconds(), 1)))) }

// mayBeDone reports whether a call that failed may have changed something. For POST /cvs the
// client has looked this up already: only an unknown outcome leaves it open.
func (x *exchange) mayBeDone(err error) bool {
	return x.call.changes() && !errors.Is(err, ledger.ErrSilent) && (errors.Is(err, client.ErrOutcomeUnknown) || errors.Is(err, client.ErrNotAPI) && x.call.operation != opIssue)
}

// explain returns the HTTP status of an error, and what the app must know and do.
func (x *exchange) explain(err error) (status int, message string) {
	if he, ok := errors.AsType[*httpError](err); ok {
		return he.status, he.message
	}
	if status, message = x.explainOrder(err); status != 0 {
		return status, message
	}
	inDoubt := errors.Is(err, client.ErrOutcomeUnknown)
	isForeign := errors.Is(err, client.ErrNotAPI)
	order := strconv.Quote(x.merchantUID)
	switch {
	case x.call.operation == opOther && x.mayBeDone(err):
		return http.StatusGatewayTimeout, "Outcome unknown: " + describe(err) + ", and what was asked for may or may not have been done. Look the payment up before you ask again."
	case inDoubt && x.call.operation == opIssue:
		return http.StatusGatewayTimeout, "Outcome unknown: " + describe(err) + ", and order " + order + " may or may not have a barcode now. " + x.afterDoubt()
	case errors.Is(err, client.ErrCredentials):
		return http.StatusBadGateway, "PortOne refuses the gateway's credentials: check imp_key and imp_secret in Caddy's configuration. Nothing was done."
	case errors.Is(err, client.ErrNoToken):
		return http.StatusServiceUnavailable, "PortOne gives no access token at the moment (" + client.Cause(err) + "): try again later. Nothing was done."
	case isForeign && x.call.operation == opIssue:
		return http.StatusBadGateway, capitalize(describe(err)) + ", and PortOne knows of no new barcode for order " + order + ". It may be asked for again."
	case isForeign:
		return http.StatusBadGateway, capitalize(describe(err)) + "." + x.afterVoid() + remedy(err)
	case errors.Is(err, client.ErrUnreachable):
		status = http.StatusBadGateway
		if client.IsTimeout(err) {
			status = http.StatusGatewayTimeout
		}
		return status, "PortOne cannot be reached: " + client.Cause(err) + ". Nothing was done."
	case client.IsTimeout(err):
		return http.StatusGatewayTimeout, "PortOne did not answer in time." + x.afterVoid()
	default:
		return http.StatusBadGateway, capitalize(describe(err)) + "." + x.afterVoid()
	}
}

// explainOrder is explain for the errors of the ledger. All but one mean that nothing was issued.
func (x *exchange) explainOrder(err error) (status int, message string) {
	channel, isChannel := errors.AsType[*ledger.ChannelError](err)
	_, isAtTill := errors.AsType[*ledger.AtTillError](err)
	kept, isKept := errors.AsType[*ledger.NotVoidedError](err)
	paid, isPaid := errors.AsType[*ledger.PaidError](err)
	order := strconv.Quote(x.merchantUID)
	switch {
	case errors.Is(err, ledger.ErrSlow) && x.call.operation == opVoid:
		return http.StatusServiceUnavailable, "The gateway's ledger does not answer in time: try again. Nothing was done."
	case errors.Is(err, ledger.ErrSlow):
		return http.StatusServiceUnavailable, "The gateway's ledger does not answer in time: ask again, and get the one barcode of order " + order + "."
	case errors.Is(err, ledger.ErrBusy) && x.call.operation == opVoid:
		return http.StatusServiceUnavailable, "Another call about the order of this barcode is under way: try again. Nothing was done."
	case errors.Is(err, ledger.ErrBusy):
		return http.StatusServiceUnavailable, "Another call about order " + order + " is under way, or PortOne may still be at work on an earlier one: ask again. Nothing was issued."
	case errors.Is(err, ledger.ErrDown):
		return http.StatusServiceUnavailable, "The gateway's ledger cannot be read or written, and on_down is refuse: see Caddy's log. Nothing was issued."
	case errors.Is(err, ledger.ErrTooMany):
		return http.StatusConflict, "Order " + order + " has had too many barcodes: use another order number. Nothing was issued."
	case isChannel:
		return http.StatusConflict, "Order " + order + " has a barcode that was issued for " + channel.Field + " " + strconv.Quote(channel.Has) + ", and the request says " + strconv.Quote(channel.Wanted) + ": void the barcode first, or ask for the same. Nothing was issued."
	case isAtTill:
		return http.StatusConflict, "A customer is paying the barcode of order " + order + " now: it cannot be replaced. Look the payment up, and ask again later. Nothing was issued."
	case isPaid:
		return http.StatusConflict, "Order " + order + " was paid, and may have been refunded, see GET /payments/" + url.PathEscape(paid.ImpUID) + ": use another order number. PortOne issued a barcode all the same, which was voided."
	case isKept:
		return http.StatusConflict, "Order " + order + " has a barcode of another amount or deadline, and PortOne refuses to void it: see DELETE /cvs/" + url.PathEscape(kept.ImpUID) + ". Nothing was issued."
	case errors.Is(err, client.ErrCredentials), errors.Is(err, client.ErrNoToken), !errors.Is(err, ledger.ErrSilent):
		return 0, ""
	default:
		return http.StatusGatewayTimeout, "PortOne does not tell the state of the barcode of order " + order + " (" + client.Cause(err) + "): ask again. Nothing was issued."
	}
}

// afterDoubt says what the app must do about an issue whose outcome is unknown.
func (x *exchange) afterDoubt() string {
	if x.asksOnce {
		return "Look it up with GET /payments/find/" + url.PathEscape(x.merchantUID) + " before you ask again."
	}
	return "Ask again: you get the barcode if there is one."
}

// describe says what happened to a call that was sent.
func describe(err error) string {
	foreign, isForeign := errors.AsType[*client.NotAPIError](err)
	switch {
	case isForeign:
		return "the answer, of HTTP status " + strconv.Itoa(foreign.Status) + ", was not PortOne's"
	case client.IsTimeout(err):
		return "PortOne did not answer in time"
	default:
		return "PortOne's answer did not come: " + client.Cause(err)
	}
}

func capitalize(sentence string) string { return strings.ToUpper(sentence[:1]) + sentence[1:] }

// remedy says what to do about an answer that was not the API's. A 429 or 5xx comes from
// a server in front of the API that is busy or down; anything else from a wrong address.
func remedy(err error) string {
	foreign, ok := errors.AsType[*client.NotAPIError](err)
	if ok && (foreign.Status == http.StatusTooManyRequests || foreign.Status >= 500) {
		return " Try again later."
	}
	return " Compare the option api, and any proxy between the gateway and PortOne."
}

// afterVoid says what to do about a void whose outcome is unknown.
func (x *exchange) afterVoid() string {
	if x.call.operation == opVoid {
		return " The barcode may or may not be void now: look it up with GET /payments/" + url.PathEscape(x.impUID) + "."
	}
	return ""
}
