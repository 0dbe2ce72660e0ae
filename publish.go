package caddycvs

// This file holds what becomes of a record when it is done: a line of the log, metrics, and an event. All
// records go through publish.

import (
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// kind says what is made of the records of one kind.
type kind struct {
	line  string // the message of the log line
	level func(*record) zapcore.Level
	count func(*metrics, *record)
	tally func(*record)        // for /cvs/status
	event func(*record) string // the name of the event, "" for none
}

// The kinds of records.
var (
	apiCalls  = &kind{"api call", callLevel, func(*metrics, *record) {}, handled.call, callEvent} // the client counts what was sent
	decisions = &kind{"confirm webhook", decisionLevel, (*metrics).countDecision, handled.confirm, decisionEvent}
	notices   = &kind{"notice", noticeLevel, func(m *metrics, r *record) { m.countNotice(r.account, r.signed, countedNotices[r.outcome]) }, handled.notice, noEvent}
	tellings  = &kind{"tell", tellLevel, func(m *metrics, r *record) { m.countTell(r.account, countedTells[r.outcome]) }, handled.tell, tellEvent}
)

// publish writes the log line of a record that is done, counts it, and emits its event. The answer has
// left.
func (a *App) publish(logger *zap.Logger, r *record) {
	if entry := logger.Check(r.kind.level(r), r.kind.line); entry != nil {
		entry.Write(zap.Inline(r))
	}
	r.kind.count(a.metrics, r)
	r.kind.tally(r)
	if name := r.kind.event(r); name != "" {
		a.events.emit(name, r)
	}
}

// callLevel: calls that change something and refused callers are logged at Info, look-ups at Debug,
// failures that an operator should see at Error.
func callLevel(r *record) zapcore.Level {
	switch {
	case r.httpStatus >= http.StatusInternalServerError:
		return zapcore.ErrorLevel
	case r.rule != "", r.operation == opUnserved, r.changes && r.operation != opToken:
		return zapcore.InfoLevel
	default:
		return zapcore.DebugLevel
	}
}

func decisionLevel(r *record) zapcore.Level {
	switch {
	case r.verdict == unanswered:
		return zapcore.ErrorLevel
	case r.verdict == accepted && r.cause.name != "", // on_error accepted, and not the shop
		slices.ContainsFunc(r.checks, func(c checkResult) bool { return c.isSetupFault() }):
		return zapcore.WarnLevel
	default:
		return zapcore.InfoLevel
	}
}

// noticeLevel: a notice that is refused or invalid is a warning, because its sender believes that it is a
// barcode's.
func noticeLevel(r *record) zapcore.Level {
	switch r.outcome {
	case noticeKept:
		return zapcore.InfoLevel
	case noticeNotKept:
		return zapcore.ErrorLevel
	default:
		return zapcore.WarnLevel
	}
}

func tellLevel(r *record) zapcore.Level {
	if r.outcome == told[ledger.Heard] {
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}

func noEvent(*record) string { return "" }

// callEvent: a barcode that the order had already is no event.
func callEvent(r *record) string {
	if r.operation == opIssue && r.httpStatus == http.StatusOK && r.code == 0 && !r.reused {
		return eventIssued
	}
	return ""
}

// decisionEvent: a webhook that is not genuine is no event, because anybody may send it. Neither is an
// unsigned one whose payment could not be looked up: nothing proves that it is genuine.
func decisionEvent(r *record) string {
	switch {
	case r.verdict == accepted:
		return eventConfirmed
	case strings.HasPrefix(r.cause.name, causeLookUp):
		return ""
	case r.verdict == refused, r.verdict == unanswered:
		return eventRefused
	default:
		return ""
	}
}

func tellEvent(r *record) string {
	switch {
	case r.outcome == told[ledger.Refused], r.outcome == told[ledger.Unheard]:
		return eventTellFailed
	case r.outcome == told[ledger.Heard] && r.event == string(tell.Paid):
		return eventPaid
	case r.outcome == told[ledger.Heard] && r.event == string(tell.Expired):
		return eventExpired
	default:
		return ""
	}
}
