package ledger

// This file holds what the shop is to hear of a payment: pure functions of what a look-up showed and
// what is in the row.

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

const (
	// verifiedFor is how long what a look-up showed may be told without another one.
	verifiedFor = 10 * time.Minute
	// bornBefore is by how much an account's birth by the API's clock lies before the moment in which
	// it was written: a clock that was not known yet must not hide a payment.
	bornBefore = 10 * time.Minute
)

// causeAsked is why nothing is told of an order that is pending.
const causeAsked = "the order is asking for another barcode"

// The causes for which an order waits for a person.
const (
	causeAmount  = "the payment has another amount than the barcode"
	causeSandbox = "the payment was made through a test channel, and the barcode was not issued as one of it"
	causeRetry   = "the shop has refused for as long as retry says"
)

// observe brings into a row what a look-up showed of an attempt's payment.
func (r *Row) observe(i int, seen *Seen, e *env) {
	a := &r.Attempts[i]
	state := seen.state()
	a.raise(state, e)
	if a.isAheadOf(state) {
		return // the look-up lags
	}
	a.Verified, a.Status, a.PaidAt, a.CancelAmount = e.now, seen.Status, seen.PaidAt, seen.CancelAmount
	a.Next = e.plan(a)
	if a.Accepted {
		a.Amount = seen.Amount
	}
	if e.tells == nil || !state.paid() {
		return
	}
	r.happen(i, tell.Paid, "", seen.PaidAt, e)
	for _, c := range cancellations(seen) {
		r.happen(i, tell.Cancelled, c.ID, c.CancelledAt, e)
	}
	if cause := a.mismatch(seen, e); cause != "" && r.pending() {
		r.Telling.Waiting, r.Telling.Cause = cmp.Or(r.Telling.Waiting, e.now), cause
	}
}

// isAheadOf reports whether a look-up shows the attempt as it was before. A barcode that has expired stays
// ready at the API.
func (a *Attempt) isAheadOf(state State) bool {
	return state.rank() < a.State.rank() && (a.State != Expired || state != Issued)
}

// cancellations returns each refund of a payment that had been paid, with an id.
func cancellations(seen *Seen) []client.OutlineCancellation {
	if seen.state() != Refunded {
		return nil
	}
	list := slices.Clone(seen.Cancellations)
	if len(list) == 0 { // the API's schema has them always
		list = []client.OutlineCancellation{{CancelledAt: seen.CancelledAt}}
	}
	slices.SortStableFunc(list, func(a, b client.OutlineCancellation) int { return cmp.Compare(a.CancelledAt, b.CancelledAt) })
	for i := range list { // the API's schema has an id always
		list[i].ID = cmp.Or(list[i].ID, fmt.Sprintf("%d-%d", list[i].CancelledAt, i+1))
	}
	return list
}

// mismatch returns why a payment must not be told without a person, "" if it may be.
func (a *Attempt) mismatch(seen *Seen, e *env) string {
	switch {
	case seen.Amount != a.Amount:
		return causeAmount
	case seen.Sandbox && !e.tells.Sandbox && !slices.Contains(a.Fields, "sandbox"):
		return causeSandbox
	default:
		return ""
	}
}

// happen adds an event that took place at a second of the API's, unless the row has it. One that the
// shop is not told, or that is older than the configuration that tells, counts as done.
func (r *Row) happen(i int, event tell.Event, cancellation string, at int64, e *env) {
	a := &r.Attempts[i]
	if a.has(event, cancellation) {
		return
	}
	h := Happening{Event: event, Cancellation: cancellation, Seen: e.now}
	past := cmp.Or(r.Past, e.mark.past())
	if !e.wants(event) || at != 0 && at < past.Born && a.Asked < past.Since {
		h.Done = e.now
	}
	a.Happenings = append(a.Happenings, h)
}

// has reports whether an event is in the list of the attempt's.
func (a *Attempt) has(event tell.Event, cancellation string) bool {
	return a.happening(event, cancellation) != nil
}

func (a *Attempt) happening(event tell.Event, cancellation string) *Happening {
	for i := range a.Happenings {
		if h := &a.Happenings[i]; h.Event == event && h.Cancellation == cancellation {
			return h
		}
	}
	return nil
}

// lacks reports whether a payment of the API's list shows what the row does not have.
func (r *Row) lacks(i int, listed *Seen, e *env) bool {
	if listed.state() == "" {
		return false
	}
	later := r.Clone()
	later.observe(i, listed, e)
	a, b := &r.Attempts[i], &later.Attempts[i]
	return b.State != a.State || len(b.Happenings) != len(a.Happenings)
}

// pending reports whether the shop is to hear something of the order.
func (r *Row) pending() bool {
	return slices.ContainsFunc(r.Attempts, func(a Attempt) bool {
		return slices.ContainsFunc(a.Happenings, func(h Happening) bool { return h.Done == 0 })
	})
}

// isMoot reports whether an event need not be told any more: an order that got another barcode, or
// was paid, has not expired. An attempt without an outcome has no barcode, and may never have one.
func (r *Row) isMoot(i int, h *Happening) bool {
	return h.Event == tell.Expired && (slices.ContainsFunc(r.Attempts[i+1:], func(a Attempt) bool { return a.State != Asked }) ||
		slices.ContainsFunc(r.Attempts, func(a Attempt) bool { return a.State.paid() }))
}

// toTell returns the event that the shop is to hear next, nil if there is none, and its attempt. What
// is moot counts as done.
func (r *Row) toTell(e *env) (i int, next *Happening) {
	for n := range r.Attempts {
		list := r.Attempts[n].Happenings
		for k := range list {
			if h := &list[k]; h.Done == 0 && r.isMoot(n, h) {
				h.Done = e.now
			}
		}
		// The order of the list is that of the events, also if a clock was set between them.
		first := slices.IndexFunc(list, func(h Happening) bool { return h.Done == 0 })
		if first >= 0 && list[first].Event == tell.Expired && r.undecided() > n {
			continue // it is not known yet whether the order gets another barcode
		}
		if first >= 0 && (next == nil || list[first].Seen < next.Seen) {
			i, next = n, &list[first]
		}
	}
	return i, next
}

// message is what the shop is told.
func (r *Row) message(i int, h *Happening) *tell.Message {
	a := &r.Attempts[i]
	return &tell.Message{
		Account: r.Account, ImpUID: a.ImpUID, MerchantUID: r.Order, Event: h.Event, Status: string(a.Status), Amount: a.Amount,
		CancelAmount: cmp.Or(a.CancelAmount, "0"), PaidAt: a.PaidAt, CancellationID: h.Cancellation, Expires: a.Deadline,
		Late: h.Event == tell.Paid && a.Late,
	}
}

// isVerified reports whether a look-up showed the attempt's payment as it is, a short while ago.
func (e *env) isVerified(a *Attempt) bool {
	return a.Verified != 0 && e.ago(a.Verified).Abs() <= verifiedFor
}

// place puts the row into the queue in which it is to stand.
func (r *Row) place(e *env) {
	t := &r.Telling
	switch {
	case !r.pending():
		r.Queue, r.QueueDue, r.Telling = "", 0, Telling{}
	case t.Waiting != 0:
		r.Queue, r.QueueDue = PersonQueue(r.Account), t.Waiting
	default:
		if t.Since == 0 {
			t.Since = e.now
		}
		r.Queue, r.QueueDue = TellQueue(r.Account), max(t.Since, t.Next, t.Until)
	}
}

// replanTelling corrects times that lie too far in the future, because a clock was set back since.
func (r *Row) replanTelling(e *env) {
	t := &r.Telling
	t.Since, t.Waiting = min(t.Since, e.now), min(t.Waiting, e.now)
	if e.tells != nil {
		t.Next = min(t.Next, e.in(slices.Max(e.tells.Intervals)*5/4))
		t.Until = min(t.Until, e.in(e.tellLease()))
	}
	r.place(e)
}

// tellLease is how long a message may be on its way, with the look-up before it.
func (e *env) tellLease() time.Duration { return e.timeout + e.tells.Timeout + freshness + time.Second }

// mergeTelling brings into an attempt what another copy of it knows of telling the shop.
func (a *Attempt) mergeTelling(other *Attempt) {
	for _, h := range other.Happenings {
		if mine := a.happening(h.Event, h.Cancellation); mine != nil {
			mine.Done = max(mine.Done, h.Done)
			continue
		}
		a.Happenings = append(a.Happenings, h)
	}
	a.Late = a.Late || other.Late || a.State.paid() && other.State.ended()
	a.Overdue, a.Accepted = a.Overdue || other.Overdue, a.Accepted || other.Accepted
}
