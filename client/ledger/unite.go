package ledger

// This file holds how two copies of a row become one, if both were written on: the one was moved, or
// nodes with a store each had the same order.

import (
	"bytes"
	"cmp"
	"slices"
)

// isSame reports whether two rows are the same for a store.
func isSame(a, b *Row) bool {
	one, err := a.Encode()
	two, err2 := b.Encode()
	return err == nil && err2 == nil && bytes.Equal(one, two)
}

// unite returns what a row, as it is stored, becomes with what a copy of it knows more of: the same if
// that is nothing. The first version of a row is a time, so of two copies the one with the higher
// version is the newer one. It says how the order stands; no attempt and nothing that was heard is lost of the
// other. What neither copy shows is whether the newer one has dropped something on purpose: it comes back, is
// looked at, and dropped again. mark is that of the account where the row is stored.
func unite(stored, row *Row, mark Past, now int64) *Row {
	if isSame(stored, row) {
		return stored
	}
	newer, older := stored.Clone(), row.Clone()
	if row.Version > stored.Version {
		newer, older = older, newer
	}
	newer.add(older, now)
	newer.Past = stored.Past.older(row.Past, mark)
	newer.Version = stored.Version
	if isSame(stored, newer) {
		return stored
	}
	e := &env{now: now}
	newer.yieldToPaid(e)
	newer.place(e)
	newer.Due = min(stored.Due, row.Due, e.due(newer))
	return newer
}

// add brings into a row what an older copy of it knows more of.
func (r *Row) add(older *Row, now int64) {
	r.AtTill = max(r.AtTill, older.AtTill)
	if r.Holder == "" && older.HeldUntil > now {
		r.Holder, r.HeldUntil = older.Holder, older.HeldUntil
	}
	if len(r.Unknown) == 0 {
		r.Unknown = older.Unknown
	}
	for i := range older.Hints {
		r.addHint(&older.Hints[i])
	}
	wasPending := r.pending()
	for i := range older.Attempts {
		r.addAttempt(&older.Attempts[i], now)
	}
	if !wasPending && r.pending() {
		r.Telling = older.Telling
	}
	if r.Telling.Waiting == 0 && older.Telling.Waiting != 0 { // why it waited is to be seen again before it is told
		for i := range r.Attempts {
			if slices.ContainsFunc(r.Attempts[i].Happenings, func(h Happening) bool { return h.Done == 0 }) {
				r.Attempts[i].Verified = 0
			}
		}
	}
}

// addHint adds a hint that the row does not have.
func (r *Row) addHint(h *Hint) {
	i := slices.IndexFunc(r.Hints, func(o Hint) bool { return o.ImpUID == h.ImpUID && o.Status == h.Status })
	if i < 0 {
		r.Hints = append(r.Hints, *h)
		return
	}
	mine := &r.Hints[i]
	mine.Cancellation = cmp.Or(mine.Cancellation, h.Cancellation)
	if mine.Amount == "" {
		mine.ID, mine.Amount, mine.Expires = h.ID, h.Amount, h.Expires
	}
}

// addAttempt brings an attempt of an older copy into the row. A payment stays that attempt's which has it.
func (r *Row) addAttempt(a *Attempt, now int64) {
	if i := r.find(&Attempt{ImpUID: a.ImpUID}); i >= 0 {
		if r.find(&Attempt{ID: a.ID}) >= 0 {
			a.ID = ""
		}
		r.Attempts[i].add(a, now)
		return
	}
	switch i := r.find(&Attempt{ID: a.ID}); {
	case i >= 0 && (a.ImpUID == "" || r.Attempts[i].ImpUID == ""):
		r.Attempts[i].add(a, now)
	case i >= 0: // the attempt has another payment: see merge
		a.ID, a.Voiding = "", a.open()
		a.hasten(now)
		r.Attempts = slices.Insert(r.Attempts, i, *a)
	default:
		at := len(r.Attempts)
		for at > 0 && r.Attempts[at-1].Asked > a.Asked {
			at--
		}
		r.Attempts = slices.Insert(r.Attempts, at, *a)
	}
}

// add brings into an attempt what an older copy knows more of: its state only rises.
func (a *Attempt) add(older *Attempt, now int64) {
	id, impUID, other := cmp.Or(a.ID, older.ID), cmp.Or(a.ImpUID, older.ImpUID), *older
	if older.State.rank() > a.State.rank() {
		*a, other = *older, *a
	}
	a.ID, a.ImpUID = id, impUID
	givenUp := other.State == Asked && other.Closed
	if a.State == other.State {
		if !a.Closed && other.Closed {
			a.Closed, a.Next = true, now
		}
		a.Looks = max(a.Looks, other.Looks)
		if other.Verified > a.Verified {
			a.Verified, a.Status, a.PaidAt, a.CancelAmount = other.Verified, other.Status, other.PaidAt, other.CancelAmount
		}
	}
	if voiding := (a.Voiding || other.Voiding || givenUp) && a.open(); voiding != a.Voiding {
		a.Voiding = voiding
		a.hasten(now)
	}
	a.mergeTelling(&other)
}

// hasten makes a barcode due that is to be voided.
func (a *Attempt) hasten(now int64) {
	if a.Voiding {
		a.Next = now
	}
}

// older returns the earlier of two, of which an empty one stands for the mark, as in a row.
func (p Past) older(other, mark Past) Past {
	if p == other {
		return p
	}
	p, other = cmp.Or(p, mark), cmp.Or(other, mark)
	if p = (Past{min(p.Since, other.Since), min(p.Born, other.Born)}); p == mark {
		return Past{}
	}
	return p
}
