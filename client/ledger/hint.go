package ledger

// This file holds hints: payments that are to be looked at, because a notice names them or the API
// lists them.

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

const (
	hintLife   = 24 * time.Hour  // how long a payment is looked at that does not become what a notice says
	lookAtMost = 5 * time.Second // how often, while one notice after the other comes
	// unsignedAtMost is how often at last, while one unsigned notice after the other says what is not so.
	unsignedAtMost = time.Minute
	// maxForeign is how many payments that are not the row's own it keeps hints of.
	maxForeign = 20
)

// errOtherOrder means that the API shows a payment of the row as another order's.
var errOtherOrder = errors.New("a look-up by imp_uid shows another order")

// hasRoom reports whether the row can take a hint. Whoever has a signed URL may name any payment.
func (r *Row) hasRoom(h *Hint) bool {
	foreign := 0
	for i := range r.Hints {
		if other := &r.Hints[i]; other.ImpUID == h.ImpUID {
			return true
		} else if r.find(&Attempt{ImpUID: other.ImpUID}) < 0 {
			foreign++
		}
	}
	return foreign < maxForeign || r.find(&Attempt{ImpUID: h.ImpUID}) >= 0
}

// hint adds a hint, and reports whether the row has changed. One that the row has is looked at again,
// but not more often than lookAtMost, and soon less often if it is not signed: anybody may send notices. It
// is written also while the worker is looking at it: that look may miss what this notice is of.
func (r *Row) hint(h Hint, e *env) bool {
	h.At, h.Next = e.now, e.now
	for i := range r.Hints {
		old := &r.Hints[i]
		if old.ImpUID != h.ImpUID || old.Status != h.Status {
			continue
		}
		pause := lookAtMost
		if h.Amount == "" {
			pause = min(lookAtMost<<min(old.Looks, 10), unsignedAtMost)
		}
		next := max(e.now, min(old.Looked, e.now)+pause.Milliseconds()) // a clock may have been set back
		isLookedAt := old.Next <= e.now && r.Due > e.now
		if old.Cancellation == h.Cancellation && (h.Amount == "" || old.Amount != "") && old.Next <= next && !isLookedAt {
			return false
		}
		old.Cancellation, old.Next = h.Cancellation, next
		if h.Amount != "" {
			old.At, old.Looks, old.ID, old.Amount, old.Expires = e.now, 0, h.ID, h.Amount, h.Expires
		}
		return true
	}
	h.space(r, e.now)
	r.Hints = append(r.Hints, h)
	return true
}

// space has a payment not looked at again at once if a look-up showed a moment ago what the hint says.
func (h *Hint) space(r *Row, now int64) {
	i := r.find(&Attempt{ImpUID: h.ImpUID})
	if i < 0 || !r.Attempts[i].shows(h) || r.Attempts[i].Verified <= h.Looked {
		return
	}
	h.Looked = min(r.Attempts[i].Verified, now)
	h.Next = max(h.Next, h.Looked+lookAtMost.Milliseconds())
}

// shows reports whether the last look-up showed what a hint says, or the hint says nothing.
func (a *Attempt) shows(h *Hint) bool {
	switch client.Status(h.Status) {
	case client.StatusPaid:
		return a.State.paid()
	case client.StatusCancelled:
		return (a.State == Refunded || a.Status == client.StatusCancelled) && (h.Cancellation == "" || !a.State.paid() || a.has(tell.Cancelled, h.Cancellation))
	default:
		return true
	}
}

// mergeHints brings into a row when another copy has looked at the payments of its hints. A hint that came
// meanwhile is looked at anew, but not more often than lookAtMost.
func (r *Row) mergeHints(other *Row) {
	for i := range r.Hints {
		h := &r.Hints[i]
		h.space(other, h.Next)
		for _, o := range other.Hints {
			if o.ImpUID != h.ImpUID || o.Status != h.Status || o.Looked <= h.Looked {
				continue
			}
			h.Looked = o.Looked
			if h.Cancellation == o.Cancellation && h.Amount == o.Amount {
				h.Looks, h.Next = o.Looks, o.Next
			} else {
				h.Next = max(h.Next, h.Looked+lookAtMost.Milliseconds())
			}
		}
	}
}

// isMet reports whether a payment shows what the hint says, or more.
func (h *Hint) isMet(seen *Seen) bool {
	switch client.Status(h.Status) {
	case client.StatusPaid:
		return seen.state().paid()
	case client.StatusCancelled:
		named := h.Cancellation == "" || len(seen.Cancellations) == 0 ||
			slices.ContainsFunc(seen.Cancellations, func(c client.OutlineCancellation) bool { return c.ID == h.Cancellation })
		return named && (seen.Status == client.StatusCancelled || seen.Refunded) // of a part: then it may still be called paid
	default:
		return true
	}
}

// lookAtHints looks at the payments of the hints that are due, at each payment once.
func (o *order) lookAtHints(ctx context.Context) (failed error) {
	looked := make(map[string]*Seen)
	for i := 0; i < len(o.row.Hints); i++ {
		h := o.row.Hints[i]
		if h.Next > o.env().now {
			continue
		}
		met, err := o.lookAtHint(ctx, &h, looked)
		if errors.Is(err, errAgain) {
			return err
		}
		failed = cmp.Or(failed, err)
		e := o.env()
		h.Looked = e.now
		if err != nil { // the API tells nothing: it has not failed to show the payment
			h.Next = e.in(pauseAfter(o.row.Tries + 1))
		} else {
			h.Looks++
			h.Next = e.in(lookAfter[min(h.Looks, len(lookAfter)-1)])
		}
		over := err == nil && e.ago(h.At) >= hintLife
		if over && !met { // anybody may have sent an unsigned one
			o.l.opts.Report(Event{
				Message: "a notice says what the API has not shown for a day: " + cmp.Or(h.Status, "a payment"), Key: o.key, ImpUID: h.ImpUID, Notice: h.Amount == "",
			})
		}
		if o.row.Hints[i] = h; met || over {
			o.row.Hints = slices.Delete(o.row.Hints, i, i+1)
			i--
		}
	}
	return failed
}

// lookAtHint looks at one payment, unless another hint has had it looked at, and reports whether it is as
// the hint says.
func (o *order) lookAtHint(ctx context.Context, h *Hint, looked map[string]*Seen) (met bool, err error) {
	if seen := looked[h.ImpUID]; seen != nil {
		return o.isMet(h, seen), nil
	}
	seen, err := o.acc.lookUp(ctx, h.ImpUID)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return h.Status == "", nil // the look-up may lag behind the notice
	case err != nil:
		return false, err
	case seen.Order != o.key.Order:
		o.report("a notice for the order names another order's payment: it is not told", h.ImpUID, nil)
		return true, nil
	case seen.state() == "":
		return false, ErrSilent
	}
	i := o.row.find(&Attempt{ImpUID: h.ImpUID})
	if i < 0 {
		i = o.row.adoptHinted(h, seen, o.env())
	}
	if i < 0 {
		return h.Amount != "", nil // without a signature the payment was known a moment ago: its call may still have to write it
	}
	met, looked[h.ImpUID] = o.isMet(h, seen), seen
	return met, o.saw(ctx, i, seen)
}

// isMet reports whether a look-up at a payment of the row's shows what the hint says.
func (o *order) isMet(h *Hint, seen *Seen) bool {
	lags := h.Status != "" && o.row.Attempts[o.row.find(&Attempt{ImpUID: h.ImpUID})].isAheadOf(seen.state()) // it may show a void of before the payment
	return h.isMet(seen) && !lags
}

// adoptHinted adds the payment of a signed notice to a row that does not know it, because its answer
// was lost, or the ledger was. It returns the attempt's index, or -1.
func (r *Row) adoptHinted(h *Hint, seen *Seen, e *env) int {
	if h.Amount == "" || !seen.CVS {
		return -1
	}
	switch i := r.find(&Attempt{ID: h.ID}); {
	case i >= 0 && r.Attempts[i].ImpUID == "" && r.Attempts[i].Amount == seen.Amount && adopt(r, i, []Seen{*seen}, e):
		return r.find(&Attempt{ImpUID: h.ImpUID})
	case i >= 0 && r.Attempts[i].ImpUID != "" && h.Amount != seen.Amount: // the URL is that of another payment
		return -1
	}
	a := Attempt{
		ID: h.ID, State: Issued, ImpUID: h.ImpUID, Amount: h.Amount, Deadline: h.Expires, Fields: seen.Fields,
		Began: seen.StartedAt, Asked: e.now, Since: e.now,
	}
	if r.find(&Attempt{ID: h.ID}) >= 0 {
		a.ID = "" // one call, and two payments, or one that does not look like the call's
	}
	a.Voiding = (len(r.open()) > 0 || r.undecided() >= 0) && seen.state() == Issued // the order has a barcode, or may have one
	if a.Next = e.plan(&a); a.Voiding {
		a.Next = e.now
	}
	r.Attempts = slices.Insert(r.Attempts, 0, a) // the others were asked for by this ledger, and are what the app knows
	return 0
}
