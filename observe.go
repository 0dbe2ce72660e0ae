package caddycvs

// This file holds the record of one API call, of one decision on a webhook, of one notice, or of telling the
// shop. The log line, the metrics, the events and the placeholders {http.cvs.*} are made from it.

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// subject names the order and the operation in every log line of this module's calls and
// decisions.
type subject struct {
	operation, account, merchantUID, impUID, amount string
}

// MarshalLogObject writes every field, the empty ones too.
func (s *subject) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("operation", s.operation)
	enc.AddString("account", s.account)
	enc.AddString("merchant_uid", s.merchantUID)
	enc.AddString("imp_uid", s.impUID)
	enc.AddString("amount", s.amount)
	return nil
}

// record is what is known of one API call or of one decision.
type record struct {
	subject
	kind                            *kind
	event, status, barcode, payType string // of the payment
	expires                         int64  // deadline in Unix seconds, 0 if unknown
	httpStatus                      int    // of the answer, 0 before it is known
	changes                         bool   // something at the API, by a call
	signed                          bool   // of a notice: its URL has a signature, genuine or not
	late                            bool   // of a payment that was made although its barcode had ended
	code                            int64  // of the API's envelope, for a call
	verdict, reason                 string // of a decision
	outcome                         string // of a notice, or of telling the shop
	traceID                         string // of the trace that the request is part of, "" for none
	cause                           cause
	rule, clientIP                  string
	method, path                    string // of a call that only the option serve lets through, or nothing does
	retryAfter                      string
	recovered                       bool // the payment was looked up, because the API's own answer was lost
	reused                          bool // the barcode was issued by another request
	gone                            bool // the client closed the connection before the answer
	duration                        time.Duration
	checks                          []checkResult
}

// attribute is one text of a record. Its name is that of its placeholder and of its log
// field.
type attribute struct {
	name        string
	placeholder bool // {http.cvs.<name>}
	logged      bool // unless it is empty
	value       func(*record) string
}

// attributes lists every text of a record but the subject's log fields, which are always
// written. A new placeholder or log field is one line here. The reason is the shop's text,
// which may be about the buyer, and the barcode is worth money: neither is logged.
var attributes = []attribute{
	{"event", true, false, func(r *record) string { return r.event }},
	{"imp_uid", true, false, func(r *record) string { return r.impUID }},
	{"merchant_uid", true, false, func(r *record) string { return r.merchantUID }},
	{"status", true, false, func(r *record) string { return r.status }},
	{"barcode", true, false, func(r *record) string { return r.barcode }},
	{"pay_type", true, true, func(r *record) string { return r.payType }},
	{"amount", true, false, func(r *record) string { return r.amount }},
	{"expires", true, false, (*record).expiresText},
	{"account", true, false, func(r *record) string { return r.account }},
	{"operation", true, false, func(r *record) string { return r.operation }},
	{"code", true, false, (*record).codeText},
	{"verdict", true, true, func(r *record) string { return r.verdict }},
	{"outcome", false, true, func(r *record) string { return r.outcome }},
	{"reason", true, false, func(r *record) string { return r.reason }},
	{"method", false, true, func(r *record) string { return r.method }},
	{"path", false, true, func(r *record) string { return r.path }},
	{"client_ip", false, true, func(r *record) string { return r.clientIP }},
	{"rule", false, true, func(r *record) string { return r.rule }},
	{"retry_after", false, true, func(r *record) string { return r.retryAfter }},
	{"cause", false, true, func(r *record) string { return r.cause.name }},
	{"detail", false, true, func(r *record) string { return r.cause.detail }},
	{traceField, false, true, func(r *record) string { return r.traceID }},
}

// refuse records an error that the gateway answers by itself, and sets the field Allow.
func (r *record) refuse(w http.ResponseWriter, e *httpError) {
	r.cause, r.rule = e.logCause(), e.rule
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
}

// expiresText is empty for an unknown deadline.
func (r *record) expiresText() string {
	if r.expires == 0 {
		return ""
	}
	return strconv.FormatInt(r.expires, 10)
}

// codeText is the code of the API's envelope; for a decision it is the HTTP status of the
// answer.
func (r *record) codeText() string {
	switch {
	case r.kind == apiCalls:
		return strconv.FormatInt(r.code, 10)
	case r.httpStatus == 0:
		return ""
	default:
		return strconv.Itoa(r.httpStatus)
	}
}

const placeholderPrefix = "http.cvs."

// placeholderNames are the names behind placeholderPrefix.
var placeholderNames = func() (names []string) {
	for _, a := range attributes {
		if a.placeholder {
			names = append(names, a.name)
		}
	}
	return names
}()

// placeholder is a caddy.ReplacerFunc: it gives the record's values to logs, to order checks
// and to later handlers.
func (r *record) placeholder(key string) (any, bool) {
	name, ok := strings.CutPrefix(key, placeholderPrefix)
	if !ok {
		return nil, false
	}
	for i := range attributes {
		if a := &attributes[i]; a.name == name && a.placeholder {
			return a.value(r), true
		}
	}
	return nil, false
}

// MarshalLogObject writes the fields of the log line.
func (r *record) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	_ = r.subject.MarshalLogObject(enc)
	switch r.kind {
	case tellings:
		enc.AddString("event", r.event)
		enc.AddBool("late", r.late)
	case apiCalls:
		enc.AddInt("status", r.httpStatus)
		enc.AddInt64("code", r.code)
	default:
		enc.AddInt("status", r.httpStatus)
	}
	enc.AddDuration("duration", r.duration)
	if r.recovered {
		enc.AddBool("recovered", true)
	}
	if r.reused {
		enc.AddBool("reused", true)
	}
	if r.gone {
		enc.AddBool("client_gone", true)
	}
	for i := range attributes {
		a := &attributes[i]
		if !a.logged {
			continue
		}
		if value := a.value(r); value != "" {
			enc.AddString(a.name, value)
		}
	}
	if r.kind != decisions {
		return nil
	}
	return enc.AddArray("checks", zapcore.ArrayMarshalerFunc(func(list zapcore.ArrayEncoder) error {
		for i := range r.checks {
			if err := list.AppendObject(&r.checks[i]); err != nil {
				return err
			}
		}
		return nil
	}))
}

// MarshalLogObject writes a check's result, without its reason.
func (c *checkResult) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("name", c.check.Name)
	enc.AddString("verdict", string(c.verdict))
	if c.cause.name != "" {
		enc.AddString("cause", c.cause.name)
	}
	if c.cause.detail != "" {
		enc.AddString("detail", c.cause.detail)
	}
	if c.status != 0 {
		enc.AddInt("status", c.status)
	}
	enc.AddDuration("duration", c.duration)
	return nil
}

// Interface guards
var (
	_ zapcore.ObjectMarshaler = (*record)(nil)
	_ zapcore.ObjectMarshaler = (*checkResult)(nil)
)
