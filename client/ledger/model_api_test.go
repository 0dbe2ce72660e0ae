package ledger

// This file holds the store and the API of the model run.

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// modelStore keeps the rows of a history. Both nodes use it.
type modelStore struct {
	w      *model
	rows   map[Key]*Row
	before map[Key]*Row // the version before, for a mutation
	skew   int64        // its clock minus the true time
	steady int64        // likewise when it is right
}

// nodeStore is the store as a call sees it: each use takes time, and the node may crash meanwhile.
type nodeStore struct{ *modelStore }

// sharedStore is a store with a clock. A node compares it with the monotonic clock of its machine every
// ten seconds.
type sharedStore struct {
	nodeStore
	n *node
}

func (s sharedStore) Now() int64 {
	now := s.w.now - s.n.zero
	if now-s.n.compared >= 10_000 {
		s.n.compared, s.n.offset = now, s.w.now+s.skew+s.n.inexact-now
	}
	return now + s.n.offset
}

// isLate reports whether an operation takes too long for who waits for it, who then tries it again, and
// succeeds: a store that fails twice is down. It may be done all the same.
func (s nodeStore) isLate(do func()) bool {
	w, a := s.w, s.w.running
	if a.late = !a.late && w.chance(w.profile.storeFaults); !a.late {
		return false
	}
	w.counts.slow++
	if do != nil && w.rng.IntN(3) > 0 {
		w.after(w.span(0, 3*opTimeout), do)
	}
	w.pause(opTimeout.Milliseconds())
	return true
}

func (s nodeStore) Get(_ context.Context, key Key) (*Row, error) {
	w := s.w
	if s.isLate(nil) {
		return nil, context.DeadlineExceeded
	}
	w.pause(w.short(500 * time.Millisecond))
	row := s.rows[key]
	if old := s.before[key]; w.mutation == staleReuse && row != nil && old != nil && len(old.Attempts) == len(row.Attempts) && w.rng.IntN(2) == 0 {
		row = old
	}
	if row == nil {
		return nil, ErrNotFound
	}
	row = row.Clone()
	if w.mutation == noHold {
		row.Holder = ""
	}
	return row, nil
}

func (s nodeStore) GetByImpUID(_ context.Context, account, impUID string) (*Row, error) {
	if s.isLate(nil) {
		return nil, context.DeadlineExceeded
	}
	s.w.pause(s.w.short(500 * time.Millisecond))
	for _, row := range s.rows {
		if row.Account == account && slices.Contains(row.ImpUIDs(), impUID) {
			return row.Clone(), nil
		}
	}
	return nil, ErrNotFound
}

// Put writes at a moment between two pauses. A lazy write comes later, and a crash before it loses
// it.
func (s nodeStore) Put(_ context.Context, row *Row, was uint64, lazy bool) error {
	w := s.w
	row = row.Clone()
	if w.chance(w.profile.storeFaults) { // another transaction was in the way
		w.counts.conflicts++
		return ErrConflict
	}
	done := func() {
		if s.write(row, was) == nil {
			w.counts.ambiguous++
		}
	}
	if s.isLate(done) {
		return context.DeadlineExceeded
	}
	if lazy {
		w.pause(w.span(0, MaxLazy))
	} else if w.mutation != notSynced {
		w.pause(w.short(500 * time.Millisecond))
	}
	if w.mutation == notSynced && !lazy && w.rng.IntN(4) == 0 { // it returns before it is durable: a crash loses it
		n, began := w.running.node, w.running.node.ledger
		w.after(w.span(0, MaxLazy), func() {
			if n.ledger == began {
				_ = s.write(row, was)
			}
		})
		return nil
	}
	if stored := s.rows[row.Key()]; w.mutation == lostHints && !lazy && stored != nil && row.Holder == stored.Holder && len(row.Hints) > len(stored.Hints) && w.rng.IntN(2) == 0 {
		return nil
	}
	err := s.write(row, was)
	w.pause(w.short(500 * time.Millisecond))
	return err
}

// write is the moment at which a row is written.
func (s nodeStore) write(row *Row, was uint64) error {
	w, key, version := s.w, row.Key(), uint64(0)
	stored := s.rows[key]
	if stored != nil {
		version = stored.Version
	}
	if version != was && w.mutation != noVersion && (w.mutation != noClaim || !isClaim(stored, row)) {
		return ErrConflict
	}
	if w.running != nil && isClaim(stored, row) {
		w.running.claimed = w.now
	}
	w.mutation.apply(stored, row)
	if w.mutation == ownHold && w.running != nil && row.Holder != "" && (stored == nil || stored.HeldUntil != row.HeldUntil) {
		row.HeldUntil += w.running.node.skew - w.running.node.ahead()
	}
	w.changed = true
	if w.running != nil && row.Holder != "" {
		w.running.held = w.now
	}
	s.before[key] = stored
	if s.rows[key] = row; row.Empty() {
		delete(s.rows, key)
	}
	w.rouse(row)
	w.note(row)
	if w.tracing {
		w.log("row %s", inShort(row))
	}
	return nil
}

func (s nodeStore) Due(_ context.Context, queue Queue, now int64, limit int) (list []*Row, _ error) {
	s.w.pause(s.w.short(500 * time.Millisecond))
	for _, key := range s.w.allKeys() {
		if row := s.rows[key]; row != nil && isDue(row, queue, now) && s.shown(row) {
			list = append(list, row.Clone())
		}
	}
	if len(list) > 1 {
		slices.SortStableFunc(list, func(a, b *Row) int {
			if queue == Looks {
				return cmp.Compare(a.Due, b.Due)
			}
			return cmp.Compare(a.QueueDue, b.QueueDue)
		})
	}
	return list[:min(limit, len(list))], nil
}

func (s nodeStore) List(_ context.Context, after Key, limit int) (list []*Row, _ error) {
	s.w.pause(s.w.short(500 * time.Millisecond))
	for _, key := range s.w.allKeys() {
		if row := s.rows[key]; row != nil && key.Order > after.Order && len(list) < limit && s.shown(row) {
			list = append(list, row.Clone())
		}
	}
	return list, nil
}

// shown reports whether the worker sees a row. One mutation hides what is only watched.
func (s nodeStore) shown(row *Row) bool {
	if s.w.mutation != noWatch || row.Mark != nil {
		return true
	}
	return slices.ContainsFunc(row.Attempts, func(a Attempt) bool { return a.State == Asked && !a.Closed || a.open() })
}

func (nodeStore) Close() error { return nil }

// inShort is a row in short.
func inShort(r *Row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s v%d due %+.1f", r.Order, r.Version, float64(r.Due-epoch)/1000)
	if r.Holder != "" {
		fmt.Fprintf(&b, " held by %s until %+.1f", r.Holder, float64(r.HeldUntil-epoch)/1000)
	}
	if r.AtTill != 0 {
		fmt.Fprintf(&b, " at till %+.1f", float64(r.AtTill-epoch)/1000)
	}
	for _, a := range r.Attempts {
		fmt.Fprintf(&b, " [%s %s %s %s", a.ID, a.State, a.ImpUID, a.Amount)
		if a.Voiding {
			b.WriteString(" voiding")
		}
		if a.Closed {
			b.WriteString(" closed")
		}
		for _, h := range a.Happenings {
			fmt.Fprintf(&b, " %s%s", h.Event, h.Cancellation)
			if h.Done == 0 {
				b.WriteString("?")
			}
		}
		b.WriteString("]")
	}
	for _, h := range r.Hints {
		fmt.Fprintf(&b, " hint %s %s %s next %+.1f", h.ImpUID, h.Status, h.Cancellation, float64(h.Next-epoch)/1000)
	}
	if t := &r.Telling; r.Queue != "" {
		fmt.Fprintf(&b, " in %q at %+.1f, cause %q", r.Queue, float64(r.QueueDue-epoch)/1000, t.Cause)
	}
	return b.String()
}

// modelAPI is PortOne's API.
type modelAPI struct {
	w        *model
	payments []*modelPayment
	calls    []*modelCall // that change something
	answers  map[*client.Response]*modelPayment
	silent   bool  // it cannot be reached
	ahead    int64 // seconds: its clock minus the true time
	latest   int64 // the latest time that a machine's clock has shown
}

// modelPayment is a payment. Times are true ones, 0 for never.
type modelPayment struct {
	impUID, attempt, order, amount, own, pg string
	started, deadline                       int64 // seconds by the API's clock
	made, voided, paid, forgotten           int64
	payAt                                   int64 // when the customer at the till has paid

	other     string         // what the API shows as its amount once it is paid, "" for the true one
	sandbox   bool           // it shows then that it is one of a test channel
	noted     bool           // a row has had it
	freak     bool           // it was paid although it was void, or its deadline had passed
	refunds   []*modelRefund // in their order
	staysPaid bool           // the API calls it paid after a refund of a part
	looks     []modelLook    // what look-ups have shown of it, in their order
	told      []*modelTold   // the messages about it that have come to the shop
}

// modelCall is a POST or DELETE that was sent.
type modelCall struct {
	order   string
	caller  *actor
	sent    int64
	done    bool // the API is done with it, or it was lost on its way
	held    bool // it needs the order's hold
	payment *modelPayment
	answer  *client.Response
	arrives int64 // when the answer does, 0 if it is lost
}

func (m *modelAPI) second() int64 { return m.w.now/1000 + m.ahead }

// status returns a payment's status at a moment, "" if it did not exist.
func (p *modelPayment) status(at int64) client.Status {
	switch {
	case p.made > at, p.forgotten != 0 && p.forgotten <= at:
		return ""
	case p.paid != 0 && p.paid <= at:
		if _, back := p.refunded(at); back != 0 && (back == p.won() || !p.staysPaid) {
			return client.StatusCancelled
		}
		return client.StatusPaid
	case p.voided != 0 && p.voided <= at:
		return client.StatusCancelled
	default:
		return client.StatusReady
	}
}

// live reports whether the payment is ready and in time.
func (m *modelAPI) live(p *modelPayment) bool {
	return p.status(m.w.now) == client.StatusReady && (p.deadline == 0 || m.second() <= p.deadline)
}

func (m *modelAPI) isPaid(order string) bool {
	return slices.ContainsFunc(m.payments, func(p *modelPayment) bool { return p.order == order && p.paid != 0 })
}

func (m *modelAPI) find(impUID string) *modelPayment {
	for _, p := range m.payments {
		if p.impUID == impUID {
			return p
		}
	}
	return nil
}

// seen is a payment as a look-up shows it.
func (m *modelAPI) seen(p *modelPayment, at int64) Seen {
	s := m.listed(p, at)
	s.Answer = m.answer(p)
	return s
}

// listed is a payment as a list shows it.
func (m *modelAPI) listed(p *modelPayment, at int64) Seen {
	_, pgID, _ := strings.Cut(p.pg, ".")
	s := Seen{
		PGID:   pgID,
		ImpUID: p.impUID, Order: p.order, Amount: p.amount, Barcode: cmp.Or(p.own, "9"+p.impUID), Status: p.status(at), StartedAt: p.started, CVS: true,
		Fields: []string{"imp_uid", "status", "amount"}, CancelAmount: "0",
	}
	m.showPaid(p, &s, at)
	return s
}

func (m *modelAPI) answer(p *modelPayment) *client.Response {
	r := &client.Response{Status: 200}
	m.answers[r] = p
	return r
}

// nodeAPI is the API as a node sees it.
type nodeAPI struct {
	*modelAPI
	n *node
}

// Now is right: a client knows by how much its clock is wrong.
func (a nodeAPI) Now() time.Time { return time.Unix(a.second(), 0) }

func (a nodeAPI) EarliestStart(local time.Time) int64 {
	if !a.n.asked {
		return 0
	}
	return (local.UnixMilli()-a.n.skew-2000)/1000 + a.ahead
}

var (
	errLost     = fmt.Errorf("%w: connection reset", client.ErrOutcomeUnknown)
	errDial     = fmt.Errorf("%w: no route", client.ErrUnreachable)
	errServer   = &client.APIError{Status: 500, Code: -1}
	errNoSuch   = &client.APIError{Status: 404, Code: -1}
	refusal     = client.Response{Status: 200, Code: 1}
	serverError = client.Response{Status: 500, Code: -1}
)

// begin is the part of a call before it is sent: it waits for a token and a connection, and then
// asks whether it may be sent.
func (a nodeAPI) begin(maySend func() error) error {
	w := a.w
	w.pause(w.short(5 * time.Second))
	if a.silent || w.chance(w.profile.apiFaults) {
		return errDial
	}
	a.n.asked = true
	if maySend == nil || w.mutation == noFreshness {
		return nil
	}
	if err := maySend(); err != nil {
		w.counts.withdrawn++
		w.log("withdrawn")
		return fmt.Errorf("%w: %w", client.ErrWithdrawn, err)
	}
	return nil
}

// send sends a call that changes something. The API does work after a while, even if the caller
// waits no longer.
func (a nodeAPI) send(order string, held bool, slowest time.Duration, work func(*modelCall) client.Response) *modelCall {
	w := a.w
	c := &modelCall{order: order, caller: w.running, sent: w.now, held: held}
	w.checkSend(c)
	a.calls = append(a.calls, c)
	if w.chance(w.profile.apiFaults) { // lost on its way
		c.done = true
		return c
	}
	takes := w.rng.Int64N(30)
	if w.chance(150) {
		takes = w.span(0, slowest)
	}
	w.after(takes, func() {
		c.done = true
		answer := work(c)
		if c.answer == nil {
			c.answer = &answer
		}
		w.changed = true
		if late := w.now - c.sent; late > timeout.Milliseconds() {
			w.counts.late++
		}
		if w.chance(w.profile.apiFaults * 2) {
			w.counts.lost++
			w.log("the answer is lost")
			return
		}
		c.arrives = w.now + w.short(5*time.Second)
		if !c.caller.killed && c.caller.at > c.arrives && c.caller.at == c.sent+timeout.Milliseconds() {
			c.caller.at = c.arrives
		}
	})
	return c
}

// await waits for the answer. It reports whether one arrived in time.
func (a nodeAPI) await(c *modelCall) bool {
	w := a.w
	if c.done && c.answer == nil && w.rng.IntN(2) == 0 { // the connection ends at once
		w.pause(w.span(0, time.Second))
		return false
	}
	w.pause(c.sent + timeout.Milliseconds() - w.now)
	return c.answer != nil && c.arrives != 0 && c.arrives <= w.now
}

func (a nodeAPI) Issue(_ context.Context, r *Request, id string, maySend func() error) (Seen, error) {
	w := a.w
	if err := a.begin(maySend); err != nil {
		return Seen{}, err
	}
	w.counts.posts++
	w.log("POST of %s, amount %s", id, r.Amount)
	w.running.looked, w.running.sent = w.now, id
	c := a.send(r.Order, true, w.profile.slowestPost, func(c *modelCall) client.Response { return a.issue(c, r, id) })
	if !a.await(c) {
		return a.resolve(c, r)
	}
	if err := c.answer.Err(); err != nil {
		w.log("refused: %v", err)
		return Seen{Answer: c.answer}, err
	}
	w.log("answer %s", c.payment.impUID)
	return a.seen(c.payment, c.payment.made), nil
}

// issue is the work of a POST.
func (a nodeAPI) issue(c *modelCall, r *Request, id string) client.Response {
	w := a.w
	switch {
	case a.isPaid(r.Order):
		return refusal
	case w.chance(w.profile.apiFaults / 2):
		return refusal
	case w.chance(w.profile.apiFaults / 2):
		return serverError
	}
	p := &modelPayment{
		impUID: fmt.Sprint("imp", len(a.payments)+1), attempt: id, order: r.Order, amount: r.Amount, own: r.Own, pg: r.PG,
		started: a.second(), deadline: r.Deadline, made: w.now, staysPaid: w.profile.staysPaid,
	}
	a.payments = append(a.payments, p)
	c.payment = p
	w.log("%s made by %s", p.impUID, id)
	if w.chance(w.profile.apiFaults / 2) {
		return serverError
	}
	c.answer = a.answer(p)
	return *c.answer
}

// resolve is what the client does about a lost answer: it looks the newest payment of the order up.
func (a nodeAPI) resolve(c *modelCall, r *Request) (Seen, error) {
	w := a.w
	w.pause(w.span(0, timeout*9/10))
	lag := a.lag()
	for _, p := range slices.Backward(a.payments) {
		if p.order != r.Order || p.status(w.now-lag) == "" {
			continue
		}
		another := slices.ContainsFunc(a.calls, func(other *modelCall) bool {
			return other != c && other.caller.node == c.caller.node && !other.caller.killed && other.payment == p
		})
		_, pgID, named := strings.Cut(r.PG, ".")
		_, shown, _ := strings.Cut(p.pg, ".")
		if named && pgID != shown || p.amount != r.Amount || r.Own != "" && p.own != r.Own || p.status(w.now-lag) == client.StatusCancelled || p.made < c.sent-2000 || another {
			break
		}
		w.running.looked = min(c.sent, w.now-lag)
		w.log("look-up found %s", p.impUID)
		return a.seen(p, w.now-lag), nil
	}
	w.log("no answer")
	return Seen{}, errLost
}

// lag is how old a look-up's answer is.
func (a nodeAPI) lag() int64 {
	if a.w.profile.longestLag == 0 || !a.w.chance(300) {
		return 0
	}
	a.w.counts.lags++
	return a.w.span(0, a.w.profile.longestLag)
}

// look is the part that look-ups have in common.
func (a nodeAPI) look() (lag int64, err error) {
	w := a.w
	began := w.now
	w.pause(w.short(timeout))
	switch {
	case a.silent, w.chance(w.profile.apiFaults):
		return 0, errDial
	case w.chance(w.profile.apiFaults):
		return 0, errServer
	}
	a.n.asked = true
	lag = a.lag()
	w.running.looked = min(began, w.now-lag)
	return lag, nil
}

func (a nodeAPI) Payment(_ context.Context, impUID string) (Seen, error) {
	lag, err := a.look()
	if err != nil {
		return Seen{}, err
	}
	p := a.find(impUID)
	switch {
	case p == nil:
		return Seen{}, errNoSuch
	case p.status(a.w.now-lag) == "" && a.w.profile.strict() && p.forgotten == 0:
		lag = 0
	case p.status(a.w.now-lag) == "":
		return Seen{}, errNoSuch
	}
	seen := a.seen(p, a.w.now-lag)
	if a.w.mutation == believes {
		a.believe(p, &seen)
	}
	a.w.log("%s is %s", impUID, seen.Status)
	p.look(a.w, &seen)
	a.w.pause(a.w.short(time.Second))
	return seen, nil
}

func (a nodeAPI) Payments(_ context.Context, order string) (list []Seen, _ error) {
	lag, err := a.look()
	if err != nil {
		return nil, err
	}
	for _, p := range slices.Backward(a.payments) {
		if p.order == order && p.status(a.w.now-lag) != "" {
			list = append(list, a.listed(p, a.w.now-lag))
		}
	}
	a.w.log("list of %d", len(list))
	a.w.pause(a.w.short(time.Second))
	return list, nil
}

func (a nodeAPI) Void(_ context.Context, impUID string, maySend func() error) (*client.Response, error) {
	w := a.w
	if err := a.begin(maySend); err != nil {
		return nil, err
	}
	p := a.find(impUID)
	if p == nil {
		return &client.Response{Status: 404, Code: -1}, nil
	}
	w.counts.deletes++
	w.log("DELETE of %s", impUID)
	c := a.send(p.order, maySend != nil, w.profile.slowestDelete, func(*modelCall) client.Response { return a.void(p) })
	if !a.await(c) {
		w.log("no answer")
		return nil, errLost
	}
	w.log("DELETE: code %d", c.answer.Code)
	return c.answer, nil
}

// void is the work of a DELETE.
func (a nodeAPI) void(p *modelPayment) client.Response {
	w := a.w
	switch {
	case p.forgotten != 0:
		return client.Response{Status: 404, Code: -1}
	case p.status(w.now) != client.StatusReady:
		return refusal
	case w.profile.keepsExpired && !a.live(p):
		a.endItself(p)
		return refusal
	case w.mutation == noVoid:
		return client.Response{Status: 200}
	case w.chance(w.profile.apiFaults):
		w.counts.refusedVoids++
		return refusal
	}
	p.voided = w.now
	w.counts.voided++
	w.log("%s is void", p.impUID)
	w.voidedAtAPI(p)
	if w.chance(w.profile.apiFaults / 2) {
		return serverError
	}
	return client.Response{Status: 200}
}
