package emulator

import (
	"cmp"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
)

// The reasons why a barcode cannot be paid or a payment not be changed.
var (
	// ErrUnknownBarcode is returned for a barcode that was never issued.
	ErrUnknownBarcode = errors.New("barcode is unknown")
	// ErrVoid is returned for a barcode that was voided by DELETE /cvs/{imp_uid}.
	ErrVoid = errors.New("barcode is void")
	// ErrPaid is returned for a barcode that was paid.
	ErrPaid = errors.New("barcode is already paid")
	// ErrExpired is returned for a barcode whose deadline has passed.
	ErrExpired = errors.New("barcode's deadline has passed")

	errUnknownPayment = errors.New("payment is unknown")
	errPaidOrder      = errors.New("order is already paid")
	errNothingLeft    = errors.New("payment is refunded altogether")
	errNotPaid        = errors.New("payment is not paid")
	errTooMuch        = errors.New("amount is more than is left of the payment")
	errChecksum       = errors.New("checksum is not what is left of the payment")
	errLiveBarcode    = errors.New("barcode is in use")
)

type orderID struct{ impKey, merchantUID string }

// ledger holds the payments of all merchants. What it returns are copies.
type ledger struct {
	mu        sync.Mutex
	max       int
	changes   int64      // counts changes, to order those of the same second
	list      []*payment // in the order of issue, as in byOrder
	byUID     map[string]*payment
	byBarcode map[string]*payment // the newest with that barcode
	byOrder   map[orderID][]*payment
}

func newLedger(maxPayments int) *ledger {
	return &ledger{
		max:       maxPayments,
		byUID:     make(map[string]*payment),
		byBarcode: make(map[string]*payment),
		byOrder:   make(map[orderID][]*payment),
	}
}

// add issues a barcode. It fills in the payment's identifiers, a number for the barcode if it has none, and the start.
func (l *ledger) add(p payment, now int64) (payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isPaid(orderID{p.impKey, p.MerchantUID}) {
		return p, errPaidOrder
	}
	// Assumption: barcodes are unique among all merchants, as the till knows nothing but the number.
	if held := l.byBarcode[p.Barcode]; held != nil && held.live(now) {
		return p, errLiveBarcode
	}
	if p.Barcode == "" {
		p.Barcode = unused(l.byBarcode, "", 20)
	}
	p.Status, p.StartedAt = statusReady, now
	l.byBarcode[p.Barcode] = &p
	l.enter(&p, now)
	return p, nil
}

// addPaid enters a payment that is made at once, without a barcode.
func (l *ledger) addPaid(p payment, now int64) (payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isPaid(orderID{p.impKey, p.MerchantUID}) {
		return p, errPaidOrder
	}
	p.Status, p.StartedAt, p.PaidAt = statusPaid, now, now
	p.pgTID, p.applyNum = digits(20), digits(8)
	l.enter(&p, now)
	return p, nil
}

// isPaid reports whether an order was ever paid. One that was refunded is refused, too.
func (l *ledger) isPaid(order orderID) bool {
	return slices.ContainsFunc(l.byOrder[order], func(p *payment) bool { return p.PaidAt != 0 })
}

func (l *ledger) enter(p *payment, now int64) {
	p.ImpUID = unused(l.byUID, "imp_", 12)
	l.touch(p, now)
	l.list = append(l.list, p)
	l.byUID[p.ImpUID] = p
	order := orderID{p.impKey, p.MerchantUID}
	l.byOrder[order] = append(l.byOrder[order], p)
	l.forget()
}

// forget drops the oldest payments beyond the maximum.
func (l *ledger) forget() {
	for len(l.list) > l.max {
		oldest := l.list[0]
		l.list[0] = nil
		l.list = l.list[1:]
		delete(l.byUID, oldest.ImpUID)
		if l.byBarcode[oldest.Barcode] == oldest {
			delete(l.byBarcode, oldest.Barcode)
		}
		order := orderID{oldest.impKey, oldest.MerchantUID}
		if l.byOrder[order] = l.byOrder[order][1:]; len(l.byOrder[order]) == 0 {
			delete(l.byOrder, order)
		}
	}
}

// void cancels a merchant's unpaid payment.
func (l *ledger) void(impKey, impUID string, now int64) (payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.byUID[impUID]
	if p == nil || p.impKey != impKey {
		return payment{}, errUnknownPayment
	}
	if err := p.settled(); err != nil {
		return *p, err
	}
	p.Status, p.CancelledAt, p.cancelReason = statusCancelled, now, "수납번호 말소"
	l.touch(p, now)
	return *p, nil
}

// refund is what a merchant asks to be paid back.
type refund struct {
	impUID, merchantUID string
	amount, checksum    *float64
	reason              string
	notify              bool
}

// cancel refunds a payment of a merchant's, or a part of it.
func (l *ledger) cancel(impKey string, r refund, now int64) (payment, cancellation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.refundable(impKey, r)
	if p == nil {
		return payment{}, cancellation{}, errUnknownPayment
	}
	left := p.left()
	amount := left
	if r.amount != nil {
		amount = *r.amount
	}
	switch {
	case p.PaidAt == 0:
		return *p, cancellation{}, errNotPaid
	case left == 0:
		return *p, cancellation{}, errNothingLeft
	case r.checksum != nil && *r.checksum != left:
		return *p, cancellation{}, errChecksum
	case amount > left:
		return *p, cancellation{}, errTooMuch
	}
	done := cancellation{PGTID: digits(20), Amount: amount, CancelledAt: now, Reason: r.reason, CancellationID: "cancellation_" + digits(12)}
	p.cancellations = append(slices.Clone(p.cancellations), done)
	p.CancelAmount = toCents(p.CancelAmount + amount)
	// Assumption: a refund in part makes it cancelled, too, as the provider's own plugins for shops read it.
	p.Status, p.CancelledAt, p.cancelReason = statusCancelled, now, r.reason
	l.touch(p, now)
	return *p, done, nil
}

// refundable finds the payment that a refund means: by its imp_uid if there is one, else the order's payment of which something
// is left, or the newest.
func (l *ledger) refundable(impKey string, r refund) *payment {
	if r.impUID != "" {
		if p := l.byUID[r.impUID]; p != nil && p.impKey == impKey {
			return p
		}
		return nil
	}
	var found *payment
	for _, p := range l.byOrder[orderID{impKey, r.merchantUID}] {
		if found == nil || found.PaidAt == 0 || found.left() == 0 {
			found = p
		}
	}
	return found
}

// scan finds the payment of a barcode that can be paid now.
func (l *ledger) scan(barcode string, now int64) (payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.byBarcode[barcode]
	if p == nil {
		return payment{}, ErrUnknownBarcode
	}
	if err := p.settled(); err != nil {
		return *p, err
	}
	if !p.live(now) {
		return *p, ErrExpired
	}
	return *p, nil
}

// expire ends the life of a barcode that can still be paid.
func (l *ledger) expire(barcode string, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.byBarcode[barcode]; p != nil && p.live(now) {
		p.ExpiredAt = now - 1
	}
}

// pay makes a payment paid, unless it was voided or paid since it was scanned.
func (l *ledger) pay(impUID, payType string, now int64) (payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.byUID[impUID]
	if p == nil {
		return payment{}, ErrUnknownBarcode
	}
	if err := p.settled(); err != nil {
		return *p, err
	}
	// Assumption: nothing keeps a second barcode of the same order from being paid, too; that is for the gateway to refuse.
	p.Status, p.PaidAt, p.PayType, p.FailReason = statusPaid, now, payType, ""
	p.pgTID = digits(20)
	if payType == PayTypeCard {
		p.applyNum = digits(8)
	}
	l.touch(p, now)
	return *p, nil
}

// refuse records why the gateway refused a payment, which stays as it is.
func (l *ledger) refuse(impUID, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.byUID[impUID]; p != nil && p.Status == statusReady {
		p.FailReason = reason
	}
}

func (l *ledger) get(impUID string) (p payment, ok bool) { return l.copyOf(l.byUID, impUID) }

// find returns the newest payment with a barcode.
func (l *ledger) find(barcode string) (p payment, ok bool) { return l.copyOf(l.byBarcode, barcode) }

func (l *ledger) copyOf(index map[string]*payment, key string) (p payment, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held, ok := index[key]
	if !ok {
		return payment{}, false
	}
	return *held, true
}

// listing is a part of the ledger, newest first.
type listing struct {
	payments []Payment
	total    int            // how many match
	counts   map[string]int // of all payments, by state
}

// search returns the barcodes of all merchants that are in a state, unless it is "", and have a text in their order's number,
// name, barcode or imp_uid.
func (l *ledger) search(text, state string, now int64, skip, limit int) listing {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := listing{counts: make(map[string]int)}
	text = strings.ToLower(text)
	for _, p := range slices.Backward(l.list) {
		if p.Barcode == "" { // no till has anything to do with it
			continue
		}
		is := p.state(now)
		found.counts[is]++
		if state != "" && state != is || text != "" && !p.contains(text) {
			continue
		}
		if found.total >= skip && found.total < skip+limit {
			found.payments = append(found.payments, p.entry())
		}
		found.total++
	}
	return found
}

// order returns a merchant's payments for an order.
func (l *ledger) order(impKey, merchantUID string) []payment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return copies(l.byOrder[orderID{impKey, merchantUID}])
}

// snapshot returns the payments of all merchants in the order of their issue.
func (l *ledger) snapshot() []payment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return copies(l.list)
}

func (l *ledger) all() []Payment {
	payments := l.snapshot()
	all := make([]Payment, 0, len(payments))
	for _, p := range slices.Backward(payments) {
		all = append(all, p.entry())
	}
	return all
}

func (l *ledger) touch(p *payment, now int64) {
	l.changes++
	p.updated, p.updatedAt = l.changes, now
}

// settled returns why a payment can be neither paid nor voided any more.
func (p *payment) settled() error {
	switch p.Status {
	case statusPaid:
		return ErrPaid
	case statusCancelled:
		if p.PaidAt != 0 { // and refunded
			return ErrPaid
		}
		return ErrVoid
	}
	return nil
}

// sortings are the orders in which the API lists payments, ascending; a "-" before the name reverses one. Within a second
// the order of the events themselves decides, which for issues is the order of the ledger.
var sortings = map[string]func(a, b payment) int{
	"started": func(a, b payment) int {
		return cmp.Compare(a.StartedAt, b.StartedAt)
	},
	"paid": func(a, b payment) int {
		return cmp.Or(cmp.Compare(a.PaidAt, b.PaidAt), cmp.Compare(a.updated, b.updated))
	},
	"updated": func(a, b payment) int {
		return cmp.Or(cmp.Compare(a.updatedAt, b.updatedAt), cmp.Compare(a.updated, b.updated))
	},
}

// sortPayments sorts payments of the ledger by one of the API's names, and reports whether it is one.
func sortPayments(payments []payment, sorting string) bool {
	name, descending := strings.CutPrefix(cmp.Or(sorting, "-started"), "-")
	compare, ok := sortings[name]
	if !ok {
		return false
	}
	slices.SortStableFunc(payments, compare)
	if descending {
		slices.Reverse(payments)
	}
	return true
}

func copies(list []*payment) []payment {
	payments := make([]payment, len(list))
	for i, p := range list {
		payments[i] = *p
	}
	return payments
}

// unused returns a random number of n digits that is not yet a key.
func unused(taken map[string]*payment, prefix string, n int) string {
	for {
		if s := prefix + digits(n); taken[s] == nil {
			return s
		}
	}
}

// digits returns a random decimal number of n digits, the first not 0.
func digits(n int) string {
	least := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n-1)), nil)
	span := new(big.Int).Mul(least, big.NewInt(9))
	i, _ := rand.Int(rand.Reader, span) // never fails
	return i.Add(i, least).String()
}
