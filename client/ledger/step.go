package ledger

// This file holds what is done for an order next: pure functions of its row, the request, and what
// the API showed.

import (
	"cmp"
	"slices"
	"strings"
)

// doing is a kind of step.
type doing int

const (
	doIssue  doing = iota // a new attempt is written, and its call made
	doLookUp              // the attempt's payment is looked up
	doList                // the order's payments are listed
	doWrite               // the row has changed: it is written, and the table entered again
	doWait                // until a moment, and the table is entered again
	doReuse               // the payment that was looked up is the answer
	doVoid                // the attempt's payment is voided
	doRefuse              // the request is refused
)

// step is what is to be done next.
type step struct {
	do      doing
	attempt int    // index of the attempt that it is about
	until   int64  // of doWait
	err     error  // of doRefuse
	alarm   string // reported as an error
}

// known is what the API showed since the row was read.
type known struct {
	seen     *Seen  // the newest open attempt's payment
	missing  bool   // the API knows of no such payment
	listed   []Seen // the order's payments
	listedAt int64  // before they were asked for: what came later may not be among them; 0 if they were not
}

// open reports whether a till could take the attempt's barcode, as far as the row knows. One whose
// deadline has passed counts, because it is voided before another is issued, unless the API refuses.
func (a *Attempt) open() bool { return a.State == Issued || a.State == Expired && !a.Closed }

// raise sets the attempt's state, unless it is as high already.
func (a *Attempt) raise(to State, e *env) {
	if to.rank() > a.State.rank() {
		a.Late = a.Late || to.paid() && a.State.ended()
		a.State, a.Since, a.Looks, a.Verified = to, e.now, 0, 0
		a.Voiding = a.Voiding && a.open()
	}
	a.Next = e.plan(a)
}

// yieldToPaid has the order's other barcodes voided if one is paid.
func (r *Row) yieldToPaid(e *env) {
	if !slices.ContainsFunc(r.Attempts, func(a Attempt) bool { return a.State.paid() }) {
		return
	}
	for i := range r.Attempts {
		if a := &r.Attempts[i]; a.open() && !a.Voiding {
			a.Voiding, a.Next = true, e.now
		}
	}
}

// undecided returns the index of the first attempt whose outcome is not known, or -1.
func (r *Row) undecided() int {
	for i := range r.Attempts {
		if a := &r.Attempts[i]; a.State == Asked && !a.Closed {
			return i
		}
	}
	return -1
}

// open returns the indexes of the attempts that a till could take, the newest first.
func (r *Row) open() (list []int) {
	for i := len(r.Attempts) - 1; i >= 0; i-- {
		if r.Attempts[i].open() {
			list = append(list, i)
		}
	}
	return list
}

// next returns what is to be done for a request. It may change the row, which is a copy of the
// stored one: doWrite says so.
func next(row *Row, q *Terms, k known, e *env) step {
	if i := row.undecided(); i >= 0 {
		return resolve(row, i, k, e)
	}
	row.yieldToPaid(e)
	open := row.open()
	switch {
	case len(open) == 0:
		return begin(row)
	case len(open) > 1:
		return step{do: doVoid, attempt: open[len(open)-1]}
	}
	a := &row.Attempts[open[0]]
	switch {
	case a.Voiding:
		return step{do: doVoid, attempt: open[0]}
	case k.seen == nil && !k.missing:
		return step{do: doLookUp, attempt: open[0]}
	case k.missing:
		return step{do: doVoid, attempt: open[0]}
	}
	switch state := k.seen.state(); state {
	case "":
		return step{do: doRefuse, err: ErrSilent}
	case Issued:
		return judge(row, open[0], q, k.seen, e)
	case Failed:
		return step{do: doVoid, attempt: open[0]}
	default:
		a.raise(state, e)
		return step{do: doWrite}
	}
}

// resolve looks for the payment of an attempt without an outcome.
func resolve(row *Row, i int, k known, e *env) step {
	if k.listedAt == 0 {
		return step{do: doList, attempt: i}
	}
	a := &row.Attempts[i]
	if adopt(row, i, k.listed, e) {
		return step{do: doWrite}
	}
	switch {
	case e.ago(a.Asked) < 0: // the clock was set back: count from now
		a.Asked = e.now
		a.Next = e.plan(a)
	case milliseconds(k.listedAt-a.Asked) < e.settled():
		return step{do: doWait, until: a.Asked + e.settled().Milliseconds()}
	default:
		a.Closed, a.Since = true, e.now
		a.Next = e.plan(a)
	}
	return step{do: doWrite}
}

// adopt records the payments of a list that the attempt may have made: the newest as its own, the
// others to be voided. What a closed attempt has made is to be voided too. It reports whether there
// was one.
func adopt(row *Row, i int, listed []Seen, e *env) bool {
	known := make(map[string]bool)
	for _, id := range row.ImpUIDs() {
		known[id] = true
	}
	began := row.Attempts[i].Began
	earliest := began // for what may not be lost: a barcode that a till takes, or that was paid
	isDated := began != 0 && began <= e.api
	if !isDated { // the API's clock was not known, or this machine's was set: one that has ended may be another's
		earliest = 0
	}
	if row.Attempts[i].Closed { // what an earlier attempt has made may be left, if this one's was taken for that one's
		for n := range row.Attempts {
			earliest = min(earliest, row.Attempts[n].Began)
		}
	}
	var mine []*Seen
	for n := range listed {
		p := &listed[n]
		matters := p.state() == Issued || p.state().paid()
		inTime := p.StartedAt == 0 || isDated && p.StartedAt >= began || matters && p.StartedAt >= earliest
		if known[p.ImpUID] || !p.CVS || p.Order != row.Order || p.state() == "" || !inTime || !e.mayHaveMade(&row.Attempts[i], p) {
			continue
		}
		known[p.ImpUID] = true
		if mine = append(mine, p); p.StartedAt > mine[0].StartedAt {
			mine[0], mine[len(mine)-1] = p, mine[0]
		}
	}
	for n, p := range mine {
		if n == 0 {
			a := &row.Attempts[i]
			a.ImpUID, a.Fields, a.Voiding = p.ImpUID, p.Fields, a.Closed && p.state() == Issued
			a.raise(p.state(), e)
			continue
		}
		other := Attempt{
			State: p.state(), Voiding: p.state() == Issued, ImpUID: p.ImpUID, Amount: p.Amount, Fields: p.Fields,
			Deadline: row.Attempts[i].Deadline, Began: began, Asked: row.Attempts[i].Asked, Since: e.now,
		}
		other.Next = e.plan(&other)
		row.Attempts = append(row.Attempts[:i], append([]Attempt{other}, row.Attempts[i:]...)...)
		i++ // the attempt itself stays behind those that are voided
	}
	return mine != nil
}

// claim records a payment as that of an attempt without one, the newest that may have made it, and reports
// whether there is one.
func (r *Row) claim(p *Seen, e *env) bool {
	for i := range slices.Backward(r.Attempts) {
		if r.Attempts[i].ImpUID == "" && adopt(r, i, []Seen{*p}, e) {
			return true
		}
	}
	return false
}

// mayHaveMade compares an attempt with what a payment shows: a late payment of an attempt that was
// given up can be of the same amount. What such an attempt has made is voided, and need not match.
func (e *env) mayHaveMade(a *Attempt, p *Seen) bool {
	_, pgID, named := strings.Cut(a.PG, ".")
	otherPG := named && p.PGID != "" && p.PGID != pgID
	otherOwn := a.Own != "" && p.Barcode != "" && !e.keys.IsDigest(a.Own, p.Barcode)
	return p.Amount == a.Amount && (a.Closed || !otherPG && !otherOwn)
}

// judge decides about a barcode that is still ready.
func judge(row *Row, i int, q *Terms, seen *Seen, e *env) step {
	a := &row.Attempts[i]
	replace := step{do: doVoid, attempt: i}
	switch {
	case seen.Order != row.Order:
		return step{do: doRefuse, attempt: i, err: ErrSilent, alarm: "a look-up by imp_uid shows another order"}
	case q.Named.PG && q.PG != a.PG:
		return step{do: doRefuse, err: &ChannelError{"pg", a.PG, q.PG}}
	case q.Named.ChannelKey && q.ChannelKey != a.ChannelKey:
		return step{do: doRefuse, err: &ChannelError{"channel_key", a.ChannelKey, q.ChannelKey}}
	case !seen.hasAll(a.Fields):
		replace.alarm = "a look-up lacks a field that the answer to POST /cvs had: the barcode is replaced"
	case seen.Amount != q.Amount, !e.sameOwn(a, q), e.anotherDeadline(a, q), e.pastDeadline(a):
	default:
		return step{do: doReuse, attempt: i}
	}
	if since := e.ago(row.AtTill); row.AtTill != 0 && since.Abs() < atTill {
		return step{do: doRefuse, err: &AtTillError{RetryAfter: atTill - max(since, 0)}}
	}
	return replace
}

func (e *env) sameOwn(a *Attempt, q *Terms) bool {
	return a.Own == "" && q.Own == "" || a.Own != "" && q.Own != "" && e.keys.IsDigest(a.Own, q.Own)
}

// anotherDeadline compares the deadline that the app named: it is another one if it is earlier, or
// later by more than half of what is left.
func (e *env) anotherDeadline(a *Attempt, q *Terms) bool {
	if !q.Named.ExpiredAt {
		return false
	}
	later, left := q.Deadline-a.Deadline, a.Deadline-e.api // seconds: a duration holds no deadline in the year 3000
	return later < -deadlineSlack || 2*later > left
}

// pastDeadline reports whether a barcode is of no use any more. The API's clock is known to a second only, so
// the last second of a barcode counts as past.
func (e *env) pastDeadline(a *Attempt) bool {
	if a.Deadline == 0 {
		return e.ago(a.Asked) > unknownDeadline
	}
	return e.api >= a.Deadline
}

// begin makes room for a new attempt. An attempt that is to be looked at again is dropped only if
// that has confirmed its end, and one that was paid never: it says that no till may take another.
func begin(row *Row) step {
	if len(row.Attempts) < MaxAttempts {
		return step{do: doIssue}
	}
	for i := range row.Attempts {
		a := &row.Attempts[i]
		if a.State.rank() < Paid.rank() && (a.Next == 0 || a.State.rank() >= Failed.rank() && a.Looks > 0) {
			row.Attempts = append(row.Attempts[:i], row.Attempts[i+1:]...)
			return step{do: doIssue}
		}
	}
	return step{do: doRefuse, err: ErrTooMany}
}

// merge brings into a row, as it is stored now, what another copy knows more of: states only rise. A
// payment stays that attempt's for which it was found first. waited says that the row waited for a person
// when the copy was made.
func merge(stored, mine *Row, waited bool) {
	stored.AtTill, stored.Tries = max(stored.AtTill, mine.AtTill), mine.Tries
	retried := waited && stored.Telling.Waiting == 0 // meanwhile
	if t := &mine.Telling; t.Waiting != 0 && !retried {
		stored.Telling.Waiting, stored.Telling.Cause = t.Waiting, t.Cause
	}
	stored.mergeHints(mine)
	for _, a := range mine.Attempts {
		if retried { // what the copy saw may have to wait again: the payment is looked at anew
			a.Verified = 0
		}
		i := stored.find(&a)
		if i < 0 {
			stored.Attempts = append(stored.Attempts, a)
			continue
		}
		s := &stored.Attempts[i]
		a.ID = cmp.Or(a.ID, s.ID)
		switch n := stored.find(&Attempt{ImpUID: a.ImpUID}); {
		case n >= 0 && n != i: // the payment is another attempt's
		case a.ImpUID != "" && s.ImpUID != "" && a.ImpUID != s.ImpUID: // the attempt has another one
			a.ID, a.Voiding = "", a.open()
			stored.Attempts = slices.Insert(stored.Attempts, i, a)
		case a.State.rank() > s.State.rank():
			a.Closed = a.Closed || s.Closed
			a.Voiding = (a.Voiding || s.Voiding || s.Closed) && a.open()
			before := *s
			*s = a
			s.mergeTelling(&before)
		case a.State.rank() == s.State.rank():
			s.Closed = s.Closed || a.Closed
			s.Voiding = (s.Voiding || a.Voiding || s.Closed) && s.open()
			s.Asked, s.Since, s.Looks, s.Next = a.Asked, a.Since, max(s.Looks, a.Looks), a.Next
			if a.Verified > s.Verified {
				s.Verified, s.Status, s.PaidAt, s.CancelAmount = a.Verified, a.Status, a.PaidAt, a.CancelAmount
			}
			s.mergeTelling(&a)
		default:
			s.mergeTelling(&a)
		}
	}
}

// find returns the index of an attempt in the row, by its id or else its payment, or -1.
func (r *Row) find(a *Attempt) int {
	if i := slices.IndexFunc(r.Attempts, func(s Attempt) bool { return a.ID != "" && s.ID == a.ID }); i >= 0 {
		return i
	}
	return slices.IndexFunc(r.Attempts, func(s Attempt) bool { return a.ImpUID != "" && s.ImpUID == a.ImpUID })
}
