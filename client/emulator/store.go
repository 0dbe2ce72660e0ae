package emulator

// The payments of all merchants in memory, and the rules by which a payment changes.

import (
	"cmp"
	"crypto/rand"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// The reasons why a barcode cannot be paid, or why a payment cannot be changed.
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
	errNothingLeft    = errors.New("payment is fully refunded")
	errNotPaid        = errors.New("payment is not paid")
	errTooMuch        = errors.New("amount exceeds what is left of the payment")
	errChecksum       = errors.New("checksum differs from what is left of the payment")
	errBarcodeInUse   = errors.New("barcode is in use")
)

// orderID identifies an order. Two merchants may use the same number.
type orderID struct{ impKey, merchantUID string }

// store holds the payments of all merchants. It returns copies.
type store struct {
	mu        sync.Mutex
	max       int
	changes   int64      // the number of changes, which orders changes within the same second
	list      []*payment // in the order of issue, like each list in byOrder
	byUID     map[string]*payment
	byBarcode map[string]*payment // the newest with that barcode
	byOrder   map[orderID][]*payment
}

func newStore(maxPayments int) *store {
	return &store{
		max:       maxPayments,
		byUID:     make(map[string]*payment),
		byBarcode: make(map[string]*payment),
		byOrder:   make(map[orderID][]*payment),
	}
}

// add adds a payment with a new barcode. It sets the imp_uid, the time of issue, and the barcode's number if it is empty.
func (s *store) add(p payment, now time.Time) (payment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isPaid(orderID{p.impKey, p.MerchantUID}) {
		return p, errPaidOrder
	}
	// Assumption: no two merchants share a barcode, because the till reads nothing but its number.
	if held := s.byBarcode[p.Barcode]; held != nil && held.payable(now.Unix()) {
		return p, errBarcodeInUse
	}
	if p.Barcode == "" {
		p.Barcode = unusedID(s.byBarcode, "", 20)
	}
	p.Status, p.StartedAt = statusReady, now.Unix()
	s.byBarcode[p.Barcode] = &p
	s.insert(&p, now)
	return p, nil
}

// addPaid adds a payment without a barcode that is paid already.
func (s *store) addPaid(p payment, now time.Time) (payment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isPaid(orderID{p.impKey, p.MerchantUID}) {
		return p, errPaidOrder
	}
	p.Status, p.StartedAt, p.PaidAt = statusPaid, now.Unix(), now.Unix()
	p.pgTID, p.applyNum = randomDigits(20), randomDigits(8)
	s.insert(&p, now)
	return p, nil
}

// isPaid reports whether an order was ever paid, even if it was refunded later.
func (s *store) isPaid(order orderID) bool {
	return slices.ContainsFunc(s.byOrder[order], func(p *payment) bool { return p.PaidAt != 0 })
}

func (s *store) insert(p *payment, now time.Time) {
	p.ImpUID = unusedID(s.byUID, "imp_", 12)
	p.since = now
	s.recordChange(p, now)
	s.list = append(s.list, p)
	s.byUID[p.ImpUID] = p
	order := orderID{p.impKey, p.MerchantUID}
	s.byOrder[order] = append(s.byOrder[order], p)
	s.removeOldest()
}

// removeOldest removes the oldest payments if there are more than the maximum.
func (s *store) removeOldest() {
	for len(s.list) > s.max {
		oldest := s.list[0]
		s.list[0] = nil
		s.list = s.list[1:]
		delete(s.byUID, oldest.ImpUID)
		if s.byBarcode[oldest.Barcode] == oldest {
			delete(s.byBarcode, oldest.Barcode)
		}
		order := orderID{oldest.impKey, oldest.MerchantUID}
		if s.byOrder[order] = s.byOrder[order][1:]; len(s.byOrder[order]) == 0 {
			delete(s.byOrder, order)
		}
	}
}

// void cancels a merchant's unpaid payment.
func (s *store) void(impKey, impUID string, now time.Time) (payment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byUID[impUID]
	if p == nil || p.impKey != impKey {
		return payment{}, errUnknownPayment
	}
	if err := p.closedError(); err != nil {
		return *p, err
	}
	p.keepHistory(now)
	p.Status, p.CancelledAt, p.cancelReason = statusCancelled, now.Unix(), "수납번호 말소"
	s.recordChange(p, now)
	return *p, nil
}

// refund is a request to pay back a payment or a part of it. It names the payment by its imp_uid or by its order.
type refund struct {
	impUID, merchantUID string
	amount              *float64 // nil for all that is left
	checksum            *float64 // what the merchant believes is left
	reason              string
	notify              bool // send a notice webhook
}

// cancel refunds a merchant's payment or a part of it.
func (s *store) cancel(impKey string, r refund, now time.Time) (payment, cancellation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.findForRefund(impKey, r)
	if p == nil {
		return payment{}, cancellation{}, errUnknownPayment
	}
	left := p.unrefunded()
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
	done := cancellation{PGTID: randomDigits(20), Amount: amount, CancelledAt: now.Unix(), Reason: r.reason, CancellationID: "cancellation_" + randomDigits(12)}
	p.keepHistory(now)
	p.cancellations = append(slices.Clone(p.cancellations), done)
	p.CancelAmount = toCents(p.CancelAmount + amount)
	// Assumption: a partial refund sets this status, too, because the provider's own shop plugins read it so.
	p.Status, p.CancelledAt, p.cancelReason = statusCancelled, now.Unix(), r.reason
	s.recordChange(p, now)
	return *p, done, nil
}

// findForRefund finds the payment to refund: by its imp_uid if there is one, else the first paid payment of the order that is
// not fully refunded, else the newest payment of the order.
func (s *store) findForRefund(impKey string, r refund) *payment {
	if r.impUID != "" {
		if p := s.byUID[r.impUID]; p != nil && p.impKey == impKey {
			return p
		}
		return nil
	}
	var found *payment
	for _, p := range s.byOrder[orderID{impKey, r.merchantUID}] {
		if found == nil || found.PaidAt == 0 || found.unrefunded() == 0 {
			found = p
		}
	}
	return found
}

// findPayable returns the payment of a barcode, with an error if it cannot be paid now.
func (s *store) findPayable(barcode string, now int64) (payment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byBarcode[barcode]
	if p == nil {
		return payment{}, ErrUnknownBarcode
	}
	if err := p.closedError(); err != nil {
		return *p, err
	}
	if !p.payable(now) {
		return *p, ErrExpired
	}
	return *p, nil
}

// expire sets the deadline of a barcode to the past, unless it is no longer payable.
func (s *store) expire(barcode string, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.byBarcode[barcode]; p != nil && p.payable(now) {
		p.ExpiredAt = now - 1
	}
}

// pay marks a payment as paid. It fails if the payment was paid since the scan, or voided, unless a void one may be paid.
func (s *store) pay(impUID, payType string, void bool, now time.Time) (payment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byUID[impUID]
	if p == nil {
		return payment{}, ErrUnknownBarcode
	}
	if err := p.closedError(); err != nil && (!void || !errors.Is(err, ErrVoid)) {
		return *p, err
	}
	// Assumption: the API lets a second barcode of the same order be paid. Only the gateway refuses it.
	p.keepHistory(now)
	p.Status, p.PaidAt, p.PayType, p.FailReason = statusPaid, now.Unix(), payType, ""
	p.CancelledAt, p.cancelReason = 0, "" // of a void
	p.pgTID = randomDigits(20)
	if payType == PayTypeCard {
		p.applyNum = randomDigits(8)
	}
	s.recordChange(p, now)
	return *p, nil
}

// setFailReason records why the gateway refused a payment. Its status stays the same.
func (s *store) setFailReason(impUID, reason string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.byUID[impUID]; p != nil && p.Status == statusReady && p.FailReason != reason {
		p.keepHistory(now)
		p.FailReason = reason
	}
}

func (s *store) get(impUID string) (p payment, ok bool) { return s.copyOf(s.byUID, impUID) }

// findBarcode returns the newest payment with a barcode.
func (s *store) findBarcode(barcode string) (p payment, ok bool) {
	return s.copyOf(s.byBarcode, barcode)
}

func (s *store) copyOf(index map[string]*payment, key string) (p payment, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := index[key]
	if !ok {
		return payment{}, false
	}
	return *held, true
}

// searchResult is one page of the payments that match a search, newest first.
type searchResult struct {
	payments []Payment
	total    int            // the number of matching payments
	counts   map[string]int // the number of all payments with a barcode, by state
}

// search returns the payments of all merchants that have a barcode, are in the given state, and contain the given text in the
// merchant_uid, the name, the barcode or the imp_uid. An empty state or text matches all.
func (s *store) search(text, state string, now int64, skip, limit int) searchResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := searchResult{counts: make(map[string]int)}
	text = strings.ToLower(text)
	for _, p := range slices.Backward(s.list) {
		if p.Barcode == "" { // a payment by card, which no till scans
			continue
		}
		actual := p.state(now)
		found.counts[actual]++
		if state != "" && state != actual || text != "" && !p.contains(text) {
			continue
		}
		if found.total >= skip && found.total < skip+limit {
			found.payments = append(found.payments, p.public())
		}
		found.total++
	}
	return found
}

// ofOrder returns a merchant's payments for an order, in the order of issue.
func (s *store) ofOrder(impKey, merchantUID string) []payment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copies(s.byOrder[orderID{impKey, merchantUID}])
}

// all returns the payments of all merchants in the order of issue.
func (s *store) all() []payment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return copies(s.list)
}

func (s *store) recordChange(p *payment, now time.Time) {
	s.changes++
	p.updated, p.updatedAt = s.changes, now.Unix()
}

// closedError returns why a payment can no longer be paid or voided, or nil if it can.
func (p *payment) closedError() error {
	switch p.Status {
	case statusPaid:
		return ErrPaid
	case statusCancelled:
		if p.PaidAt != 0 { // it was paid and then refunded
			return ErrPaid
		}
		return ErrVoid
	}
	return nil
}

// sortings are the values of the API's parameter sorting, each in ascending order. A "-" before the name means descending order.
// Payments of the same second keep the order in which they were issued, paid or changed.
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

// sortPayments sorts payments, which are in the order of issue, by the API's parameter sorting. It reports whether the value is
// valid.
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

// unusedID returns the prefix and n random digits that are not yet a key.
func unusedID(taken map[string]*payment, prefix string, n int) string {
	for {
		if s := prefix + randomDigits(n); taken[s] == nil {
			return s
		}
	}
}

// randomDigits returns a random number of n digits that does not start with 0.
func randomDigits(n int) string {
	least := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n-1)), nil)
	span := new(big.Int).Mul(least, big.NewInt(9))
	i, _ := rand.Int(rand.Reader, span) // never fails
	return i.Add(i, least).String()
}
