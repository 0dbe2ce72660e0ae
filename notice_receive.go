package caddycvs

// This file holds how cvs_notice receives a notice, and how it tells the merchant's app.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

// noticeKeeper is what cvs_notice asks of the ledger: see ledger.Ledger.Notice.
type noticeKeeper interface {
	Notice(ctx context.Context, n *ledger.Notice) (known bool, err error)
}

// noticeLedger is the ledger of a configuration, for one account.
type noticeLedger struct {
	app     *App
	account *account
}

func (l noticeLedger) Notice(ctx context.Context, n *ledger.Notice) (known bool, err error) {
	orders, err := l.app.theLedger()
	if err != nil {
		return false, err
	}
	return orders.Notice(ctx, l.account.inLedger, n)
}

// The outcomes of a notice.
const (
	noticeKept    = "kept"
	noticeRefused = "refused" // forged
	noticeInvalid = "invalid" // it cannot be read
	noticeNotKept = "not kept"
)

const (
	keepTimeout  = 5 * time.Second // for the ledger
	noticeRetry  = "10"            // seconds: the header field Retry-After of a 503
	warnInterval = time.Minute
)

// errForeign means that a request is not for this handler.
var errForeign = errors.New("not a notice of this account's barcodes")

// errUnknown is an errForeign: the request may be a notice, of a payment that the ledger does not know.
var errUnknown = fmt.Errorf("%w: the payment is not known", errForeign)

// passedAs is how a request is counted that goes to the next handler.
func passedAs(err error) string {
	if errors.Is(err, errUnknown) {
		return countedUnknown
	}
	return countedPassed
}

func (n *Notice) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	signed := hasSignature(r.URL.RawQuery)
	if signed {
		skipAccessLog(r)
	}
	if r.Method != http.MethodPost || !signed && !mayBeNotice(r) {
		return next.ServeHTTP(w, r)
	}
	began := time.Now()
	in := &incoming{record: record{kind: notices, signed: signed, subject: subject{operation: "notice", account: n.account.name}, traceID: traceID(r.Context())}}
	err := n.receive(in, w, r)
	if errors.Is(err, errForeign) {
		n.webhooks.app.metrics.countNotice(n.account.name, signed, passedAs(err))
		return n.passOn(w, r, next)
	}
	take(r)
	skipAccessLog(r)
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(in.placeholder)
	in.answer(w, r, err)
	in.clientIP, in.duration = clientIP(r), time.Since(began)
	n.webhooks.app.publish(n.logger, &in.record)
	return nil
}

// mayBeNotice reports whether a request without a signature can be a notice, by its media type. The body
// of another one is not touched.
func mayBeNotice(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (mediaType == strict.JSON || mediaType == strict.Form)
}

// incoming is a notice that is being received.
type incoming struct{ record }

// receive reads a notice and has it kept. Its errors are errForeign and of type *httpError.
func (n *Notice) receive(in *incoming, w http.ResponseWriter, r *http.Request) error {
	if claims, err := signedurl.Parse(r.URL.RawQuery); in.signed && err == nil && claims.Account != n.account.name {
		return errForeign // there may be a cvs_notice of that account
	}
	body := &bufferedBody{source: r.Body}
	r.Body = body
	contentType := r.Header.Get("Content-Type")
	content, err := body.whole(w, r)
	var sent webhook.Notice
	if err == nil {
		if sent, err = webhook.ParseNotice(contentType, content); err != nil {
			err = unreadable(err)
		}
	}
	if err != nil {
		if !in.signed || hasEvent(contentType, body.beginning(w)) {
			return errForeign
		}
		return err
	}
	in.merchantUID, in.impUID, in.status = sent.MerchantUID, sent.ImpUID, sent.Status
	return n.note(in, r, &sent)
}

// hasEvent reports whether a body is a confirm webhook, or another product's.
func hasEvent(contentType string, body []byte) bool {
	if mentions(body, "event", webhook.EventConfirm) {
		return true
	}
	b, err := strict.Parse(contentType, body, "event")
	return err == nil && b.Has("event")
}

// note has the notice kept. Without an error it is kept, durably.
func (n *Notice) note(in *incoming, r *http.Request, sent *webhook.Notice) error {
	hint := &ledger.Notice{ImpUID: sent.ImpUID, Status: sent.Status, CancellationID: sent.CancellationID, Order: sent.MerchantUID}
	if _, claims, err := n.webhooks.authenticate(r, sent.MerchantUID); in.signed && err == nil {
		hint.Signed = &claims
		in.amount, in.expires = claims.Amount, claims.Expires
	}
	// A sender that leaves does not stop it, and neither does a handler's time limit.
	ctx, cancel := context.WithTimeout(context.Background(), keepTimeout)
	defer cancel()
	known, err := n.keeper.Notice(ctx, hint)
	switch {
	case known && err == nil:
		return nil
	case known, hint.Signed != nil, in.signed && err != nil:
		return notKept(err)
	case in.signed:
		return notGenuine(ruleSignature)
	case err == nil:
		return errUnknown
	case n.warned.isDue():
		n.logger.Warn("the ledger cannot be read, so that an unsigned notice went to the next handler, although it may be of a barcode", zap.Error(err))
	}
	return errForeign
}

// notKept is the error for a notice that the ledger could not write.
func notKept(err error) error {
	e := &httpError{status: http.StatusServiceUnavailable, message: "the notice could not be kept: send it again", cause: cause{name: "ledger"}}
	if err != nil {
		e.cause.detail = err.Error()
	}
	return e
}

// passOn gives a request to the next handler. A signed confirm webhook is at the wrong URL here: it is
// answered 404 unless a handler of this module takes it.
func (n *Notice) passOn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !hasSignature(r.URL.RawQuery) || isNotice(peek(w, r)) {
		return next.ServeHTTP(w, r)
	}
	return passConfirm(n.logger, w, r, next)
}

// answer answers PortOne: 200 only if the notice is kept.
func (in *incoming) answer(w http.ResponseWriter, r *http.Request, err error) {
	in.httpStatus, in.outcome = http.StatusOK, noticeKept
	body := []byte(`{"kept":true}`)
	if err != nil {
		e, ok := errors.AsType[*httpError](err)
		if !ok { // a defect of this module must not acknowledge
			e = &httpError{status: http.StatusInternalServerError}
		}
		in.fail(w, e)
		closeUnread(w, r)
		body, _ = json.Marshal(struct {
			Kept   bool   `json:"kept"`
			Reason string `json:"reason,omitempty"`
		}{false, e.message})
	}
	caddyhttp.SetVar(r.Context(), decidedVar, in.httpStatus)
	_ = sendAnswer(w, in.httpStatus, strict.JSON, body) // the sender may have left
}

func (in *incoming) fail(w http.ResponseWriter, e *httpError) {
	in.refuse(w, e)
	in.httpStatus = e.status
	switch {
	case e.status >= http.StatusInternalServerError:
		in.outcome, in.retryAfter = noticeNotKept, noticeRetry
		w.Header().Set("Retry-After", noticeRetry)
	case e.rule != "":
		in.outcome = noticeRefused
	default:
		in.outcome = noticeInvalid
	}
}

// warnTimer keeps a warning from being repeated for each request.
type warnTimer struct{ last atomic.Int64 } // Unix nanoseconds

func (t *warnTimer) isDue() bool {
	now, last := time.Now().UnixNano(), t.last.Load()
	return time.Duration(now-last).Abs() >= warnInterval && t.last.CompareAndSwap(last, now)
}

// told are the outcomes of telling the app.
var told = map[ledger.Verdict]string{ledger.Heard: "heard", ledger.Refused: "refused", ledger.Unheard: "unheard", ledger.Withdrawn: "withdrawn"}

// send tells the app once, and publishes what came of it.
func (n *Notice) send(ctx context.Context, m *tell.Message) ledger.Reply {
	began := time.Now()
	reply := n.Tell.Send(ctx, m)
	r := messageRecord(m)
	r.outcome, r.cause.name, r.duration = told[reply.Verdict], reply.Cause, time.Since(began)
	n.webhooks.app.publish(n.logger, r)
	return reply
}
