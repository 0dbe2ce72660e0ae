package caddycvs

// This file holds what an operator is shown of what the handlers have done since the process started. It
// counts by fixed words: no order, no account.

import (
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// tally counts by the words that it has from the start.
type tally map[string]*atomic.Int64

func newTally(words ...string) tally {
	t := make(tally, len(words))
	for _, word := range words {
		t[word] = new(atomic.Int64)
	}
	return t
}

func (t tally) add(word string) {
	if n := t[word]; n != nil {
		n.Add(1)
	}
}

func (t tally) view() map[string]int64 {
	v := make(map[string]int64, len(t))
	for word, n := range t {
		v[word] = n.Load()
	}
	return v
}

// The words for calls of cvs_proxy.
const (
	callOK      = "ok"      // the API did it
	callRefused = "refused" // the API or the gateway said no
	callFailed  = "failed"  // neither: a status from 500
	callLeft    = "left"    // the app closed the connection before
)

// noticeNotKeptWord is noticeNotKept as a name in JSON.
const noticeNotKeptWord = "not_kept"

// handledCounts are the counts of all handlers.
type handledCounts struct {
	since                           time.Time
	calls, confirms, notices, tells tally
}

func newHandledCounts() *handledCounts {
	return &handledCounts{
		since:    time.Now(),
		calls:    newTally(callOK, callRefused, callFailed, callLeft),
		confirms: newTally(accepted, refused, unanswered, invalid),
		notices:  newTally(noticeKept, noticeRefused, noticeInvalid, noticeNotKeptWord),
		tells:    newTally(slices.Collect(maps.Values(told))...),
	}
}

// handled counts for the whole process: a reload does not begin anew.
var handled = newHandledCounts()

// call counts a call of cvs_proxy.
func (h *handledCounts) call(r *record) {
	switch {
	case r.httpStatus == errGone.status:
		h.calls.add(callLeft)
	case r.httpStatus >= http.StatusInternalServerError:
		h.calls.add(callFailed)
	case r.httpStatus >= http.StatusBadRequest, r.code != 0:
		h.calls.add(callRefused)
	default:
		h.calls.add(callOK)
	}
}

// confirm counts a webhook that cvs_confirm answered.
func (h *handledCounts) confirm(r *record) { h.confirms.add(r.verdict) }

// tell counts a message to the shop.
func (h *handledCounts) tell(r *record) { h.tells.add(r.outcome) }

// notice counts a notice that cvs_notice took.
func (h *handledCounts) notice(r *record) {
	if r.outcome == noticeNotKept {
		h.notices.add(noticeNotKeptWord)
		return
	}
	h.notices.add(r.outcome)
}
