package ledger

// This file holds Issue: how a POST /cvs gets its order's one barcode.

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// Answer is the API's answer to a request.
type Answer struct {
	Response *client.Response
	Reused   bool // this request did not issue the barcode

	checked time.Duration // by the monotonic clock: a barcode that is reused was not voided until then
}

// Issue answers a POST /cvs: with the order's barcode if it has one that is the same request's, and
// else with a new one. Everything before the call that issues one takes a time-out at most, that
// call twice as long. Of this, it waits for the store for 2 s at most: the error is ErrBusy if that works,
// and is slow. Identical requests at the same time are one. The error is one of this
// package or of package client.
func (l *Ledger) Issue(ctx context.Context, acc *Account, r *Request) (Answer, error) {
	began := l.opts.clock.Now().monotonic
	for {
		issued := false
		got, err, _ := l.identity.Do(acc.Name+"\x00"+r.Identity, func() (any, error) {
			issued = true
			return l.issue(impatient(context.WithoutCancel(ctx)), acc, r)
		})
		answer := got.(Answer)
		if !issued && err == nil && answer.Reused && answer.checked < began {
			continue // the barcode may have been voided before this request came
		}
		answer.Reused = answer.Reused || !issued && err == nil && answer.Response.Err() == nil
		return answer, err
	}
}

// issue does without the store what it cannot do with it. Requests of this process for one order
// follow each other: while the store fails, some have a hold and others cannot see it.
func (l *Ledger) issue(ctx context.Context, acc *Account, r *Request) (Answer, error) {
	key, until := Key{acc.Name, r.Order}, l.opts.clock.Now().monotonic+acc.Timeout
	if err := l.occupy(ctx, key, until); err != nil {
		return Answer{}, err
	}
	defer l.vacate(key)
	if l.opts.Open != nil {
		answer, err := l.ask(ctx, acc, r, until)
		if errors.Is(err, ErrDown) && l.comesUp(ctx) {
			answer, err = l.ask(ctx, acc, r, until)
		}
		if !errors.Is(err, ErrDown) || l.present().Refuse {
			return answer, err
		}
		l.opts.Report(Event{Message: "the ledger is down: the order is looked up at the API instead", Key: key})
	}
	return l.issueWithout(ctx, acc, r, until)
}

// asking is a POST /cvs on its way through the table.
type asking struct {
	*order
	r        *Request
	until    time.Duration // by the monotonic clock: when it waits no longer
	lookedUp time.Duration // likewise: when the last look-up began
	entered  int
	paid     string // imp_uid of a payment in spite of which the API has issued a barcode
}

// ask enters the table until there is an answer.
func (l *Ledger) ask(ctx context.Context, acc *Account, r *Request, until time.Duration) (Answer, error) {
	a := &asking{order: l.order(acc, r.Order), r: r, until: until}
	bounded, cancel := context.WithTimeout(ctx, until-l.opts.clock.Now().monotonic)
	defer cancel()
	defer a.leave()
	for {
		answer, err := a.enter(ctx, bounded)
		if !errors.Is(err, errAgain) {
			return answer, err
		}
		if err := a.settle(ctx); err != nil {
			return Answer{}, err
		}
		if l.opts.clock.Now().monotonic > a.until {
			return Answer{}, ErrBusy
		}
	}
}

// enter reads the row and does one step after the other. bounded ends when the request waits no
// longer; the call that issues a barcode has its own time. The error errAgain means that the table
// is to be entered again.
func (a *asking) enter(ctx, bounded context.Context) (Answer, error) {
	if err := a.read(ctx); err != nil {
		return Answer{}, err
	}
	a.entered++
	now := a.l.now()
	if until := a.hold.heldByAnother(a.row, now); until != 0 {
		return Answer{}, a.pause(bounded, until)
	}
	var k known
	for {
		e := a.env()
		s := next(a.row, &a.r.Terms, k, e)
		if s.alarm != "" {
			a.report(s.alarm, a.row.Attempts[s.attempt].ImpUID, nil)
		}
		switch s.do {
		case doLookUp:
			a.lookedUp = a.l.opts.clock.Now().monotonic
			seen, err := a.acc.lookUp(bounded, a.row.Attempts[s.attempt].ImpUID)
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				return Answer{}, err
			}
			k.seen, k.missing = seen, err != nil
		case doList:
			var err error
			if k.listed, err = a.acc.API.Payments(bounded, a.key.Order); err != nil {
				return Answer{}, silent(err)
			}
			k.listedAt = e.now
		case doWrite:
			if err := a.write(ctx, false); err != nil {
				return Answer{}, err
			}
			k = known{}
		case doWait:
			return Answer{}, a.pause(bounded, s.until)
		case doReuse:
			return a.reuse(ctx, k.seen)
		case doVoid:
			if err := a.void(bounded, s.attempt); err != nil {
				return Answer{}, err
			}
			k = known{}
		case doRefuse:
			return Answer{}, s.err
		case doIssue:
			if a.paid != "" {
				return Answer{}, &PaidError{a.paid}
			}
			return a.send(ctx, bounded)
		}
	}
}

// pause waits until a moment at most, and enters the table again. A request that has waited long
// enough is refused.
func (a *asking) pause(ctx context.Context, until int64) error {
	if err := a.settle(ctx); err != nil {
		return err
	}
	now := a.l.now()
	left := a.until - now.monotonic
	if left <= 0 {
		return ErrBusy
	}
	const first, limit = 50 * time.Millisecond, time.Second
	d := min(first<<min(a.entered, 10), limit, left, max(milliseconds(until-now.wall), time.Millisecond))
	if err := a.l.wait(ctx, a.key, d); err != nil {
		return ErrBusy
	}
	return errAgain
}

// reuse answers with a payment that was looked up, unless the row was written since it was read.
func (a *asking) reuse(ctx context.Context, seen *Seen) (Answer, error) {
	row, err := a.l.get(ctx, a.key)
	switch {
	case err != nil:
		return Answer{}, err
	case row.Version != a.was:
		return Answer{}, errAgain
	}
	return Answer{Response: seen.Answer, Reused: true, checked: a.lookedUp}, nil
}

// send writes a new attempt and makes its call.
func (a *asking) send(ctx, bounded context.Context) (Answer, error) {
	attempt := newAttempt(a.r.nextID(a.l.opts.newID), &a.r.Terms, a.env())
	a.row.Attempts = append(a.row.Attempts, attempt)
	if err := a.write(ctx, true); err != nil {
		a.dropped = append(a.dropped, attempt.ID) // never sent
		return Answer{}, err
	}
	seen, err := a.acc.API.Issue(ctx, a.r, attempt.ID, a.l.maySend(&a.hold))
	mine := &a.row.Attempts[len(a.row.Attempts)-1]
	answer := Answer{Response: seen.Answer}
	switch outcome := issueOutcome(err); {
	case outcome == done && a.row.find(&Attempt{ImpUID: seen.ImpUID}) >= 0: // a look-up showed another attempt's payment
		return Answer{}, errAgain
	case outcome == done && seen.ImpUID != "":
		mine.ImpUID, mine.Fields = seen.ImpUID, seen.Fields
		mine.raise(Issued, a.env())
		a.announce(mine.ImpUID)
		if err := a.forgetPaid(ctx, bounded); err != nil {
			return Answer{}, err
		}
		if err := a.stillMine(ctx, &a.row.Attempts[len(a.row.Attempts)-1]); err != nil {
			return Answer{}, err
		}
		return answer, nil
	case outcome == done || outcome == outcomeOpen: // the attempt has no outcome yet
	case outcome == withdrawn:
		a.dropped = append(a.dropped, attempt.ID)
		return Answer{}, errAgain
	default:
		a.dropped = append(a.dropped, attempt.ID)
	}
	if answer.Response != nil {
		return answer, nil
	}
	return Answer{}, err
}

// forgetPaid looks up what is paid as the row has it, after the API has issued a barcode all the same.
// What the API does not know any more, because it is another merchant's or was reset, is dropped. If
// it is paid, the new barcode is voided: the customer would pay twice.
func (a *asking) forgetPaid(ctx, bounded context.Context) error {
	rest := make([]Attempt, 0, len(a.row.Attempts))
	for i := range a.row.Attempts {
		p := &a.row.Attempts[i]
		if p.State.paid() {
			_, err := a.acc.lookUp(bounded, p.ImpUID)
			if errors.Is(err, client.ErrNotFound) {
				continue
			}
			a.paid = p.ImpUID
			return errAgain
		}
		rest = append(rest, *p)
	}
	if len(rest) == len(a.row.Attempts) {
		return nil
	}
	a.row.Attempts = rest
	return a.write(ctx, false)
}

// stillMine is asked before a new barcode is the answer. If the call took longer than its hold
// lasts, because the process was stopped, another one may have given the attempt up, or found its
// payment and voided it. A look-up of the client may even have shown that one's payment.
func (a *asking) stillMine(ctx context.Context, mine *Attempt) error {
	row, err := a.l.get(ctx, a.key)
	if errors.Is(err, ErrSlow) { // if it is the order's barcode, the app gets it when it asks again
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // the API has answered, and nothing is known against it
	}
	i, payment := row.find(&Attempt{ID: mine.ID}), row.find(&Attempt{ImpUID: mine.ImpUID})
	if i < 0 || payment >= 0 && payment != i || row.standing(mine.ID, mine.ImpUID) != Current {
		return errAgain
	}
	return nil
}

// newAttempt is an attempt that is about to be sent.
func newAttempt(id string, q *Terms, e *env) Attempt {
	a := Attempt{
		ID: id, State: Asked, Amount: q.Amount, PG: q.PG, ChannelKey: q.ChannelKey, Deadline: q.Deadline,
		Began: e.earliest(e.now), Asked: e.now, Since: e.now, // Began is told at once: this machine's clock may be set
	}
	if q.Own != "" {
		a.Own = e.keys.Digest(q.Own)
	}
	a.Next = e.plan(&a)
	return a
}

// issueOutcome is outcomeOf for the call that issues a barcode: the client has looked a lost answer
// up already, and says if nothing was done.
func issueOutcome(err error) outcome {
	if errors.Is(err, client.ErrNotAPI) && !errors.Is(err, client.ErrOutcomeUnknown) {
		return notSent
	}
	return outcomeOf(err)
}
