package caddycvs

// This file holds how a confirm webhook is decided: by an error of the first steps, or by the
// results of the order checks.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// decision is the decision on one webhook.
type decision struct {
	record
	attempt string // cvs_id of the signed URL, "" if there is none
	atTill  bool   // the ledger is to note that the customer is about to pay
}

// The verdicts of a decision. invalid means that no order check was asked because the
// webhook is malformed or not genuine.
const (
	accepted   = "accepted"
	refused    = "refused"
	unanswered = "unanswered"
	invalid    = "invalid"
)

func (d *decision) set(status int, verdict string, why cause, reason string) {
	d.httpStatus, d.verdict, d.cause, d.reason = status, verdict, why, reason
}

// fail decides by an error of the steps before the checks.
func (d *decision) fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*httpError](err)
	if !ok {
		return // answer turns a missing status into 500
	}
	d.refuse(w, e)
	d.set(e.status, cmp.Or(e.verdict, invalid), d.cause, e.message)
}

// askAll asks all order checks at once. The first no decides.
func (c *Confirm) askAll(ctx context.Context, d *decision, in *checkInput) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // after a no, stops the other checks
	in.record = d.record
	in.deadline, _ = ctx.Deadline()
	ended := make(chan *preparedCheck, len(c.OrderChecks))
	deciding := 0
	for _, check := range c.OrderChecks {
		prepared := check.prepare(in)
		if check.Shadow {
			go c.askShadow(spanOnly(ctx), d.subject, prepared) // it goes on after the answer, within its own timeout
			continue
		}
		deciding++
		prepared.start(ctx, ended)
	}
	for range deciding {
		result := (<-ended).result()
		d.checks = append(d.checks, result)
		if result.verdict == no {
			d.set(http.StatusConflict, refused, result.cause, result.reason)
			return
		}
	}
	c.conclude(d)
}

// conclude decides when no check has said no.
func (c *Confirm) conclude(d *decision) {
	var why cause
	for _, result := range d.checks {
		switch {
		case result.verdict == yes:
		case result.verdict == noAnswer && c.OnError == "accept":
			why = cause{causeOnError + result.cause.name, result.cause.detail}
		default:
			d.set(statusFor(result.cause.name), unanswered, result.cause, "the order could not be checked")
			return
		}
	}
	d.set(http.StatusOK, accepted, why, "")
}

// askShadow asks a check whose result goes only to the log.
func (c *Confirm) askShadow(ctx context.Context, about subject, check *preparedCheck) {
	ended := make(chan *preparedCheck, 1)
	check.start(ctx, ended)
	result := (<-ended).result()
	c.webhooks.app.metrics.countCheck(about.account, &result)
	level := zapcore.InfoLevel
	if result.isSetupFault() {
		level = zapcore.WarnLevel
	}
	c.logger.Log(level, "shadow order check", append(traceFields(traceID(ctx)),
		zap.String("merchant_uid", about.merchantUID),
		zap.String("imp_uid", about.impUID),
		zap.Object("check", &result))...)
}

var acceptable = []byte(`{"accepted":true}`)

// answer answers GalaxiaMoneytree: 200 is "acceptable", any other status is not.
func (d *decision) answer(w http.ResponseWriter, r *http.Request) {
	if d.httpStatus == 0 || d.httpStatus == http.StatusOK && d.verdict != accepted { // a defect of this module must not accept
		d.httpStatus = http.StatusInternalServerError
	}
	caddyhttp.SetVar(r.Context(), decidedVar, d.httpStatus)
	body := acceptable
	if d.httpStatus != http.StatusOK {
		body, _ = json.Marshal(struct {
			Accepted bool   `json:"accepted"`
			Reason   string `json:"reason,omitempty"`
		}{false, cleanReason(d.reason)})
	}
	_ = sendAnswer(w, d.httpStatus, strict.JSON, body) // the sender may have left
}

// cleanReason makes the shop's text fit for an answer: valid UTF-8, one line, of bounded
// length.
func cleanReason(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(reason, "\ufffd"))
	reason = strings.TrimSpace(reason)
	if runes := []rune(reason); len(runes) > maxReason {
		reason = string(runes[:maxReason])
	}
	return reason
}
