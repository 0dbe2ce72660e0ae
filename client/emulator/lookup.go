package emulator

// Looking up payments: GET /payments and the paths below it. Old clients use POST.

import (
	"cmp"
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

const (
	messageUnknownPayment = "존재하지 않는 결제정보입니다."
	messageHiddenPayment  = messageUnknownPayment + " 테스트 채널의 결제는 include_sandbox=true로 조회해야 합니다."
	messageStatus         = "유효하지 않은 payment_status입니다."
	messageSorting        = "유효하지 않은 sorting입니다."

	maxImpUIDs = 100 // in one request; assumption
	maxLimit   = 1000
	maxRange   = 90 * 24 * 60 * 60 // seconds between from and to
)

// payment handles GET /payments/{imp_uid}. The API hides payments of a test channel unless the request has
// include_sandbox=true.
func (e *Emulator) payment(c *call) response {
	includeSandbox, _ := strconv.ParseBool(c.query().Get("include_sandbox"))
	p, ok := e.ownPayment(c, c.args[0])
	switch {
	case !ok:
		return failed(http.StatusNotFound, messageUnknownPayment)
	case !includeSandbox && !e.opts.LiveChannel:
		return failed(http.StatusNotFound, messageHiddenPayment)
	}
	return succeeded(e.annotate(p))
}

// ownPayment returns a payment of the merchant who sent the request.
func (e *Emulator) ownPayment(c *call, impUID string) (p payment, ok bool) {
	p, ok = e.store.get(impUID)
	if !ok || p.impKey != c.impKey {
		return payment{}, false
	}
	if shown := c.shown([]payment{p}); len(shown) > 0 {
		return shown[0], true
	}
	return payment{}, false
}

// payments handles GET /payments?imp_uid[]=, and keeps the order of the request. If some payments are unknown, the status is
// 207, as the official client for Node.js expects. Assumption: payments of a test channel are not hidden.
func (e *Emulator) payments(c *call) response {
	requested := impUIDs(c.query())
	if len(requested) == 0 || len(requested) > maxImpUIDs {
		return failed(http.StatusBadRequest, fmt.Sprintf("imp_uid[]는 1개 이상 %d개 이하여야 합니다.", maxImpUIDs))
	}
	var found []annotation
	for _, impUID := range requested {
		if p, ok := e.ownPayment(c, impUID); ok {
			found = append(found, e.annotate(p))
		}
	}
	r := succeeded(found)
	switch {
	case found == nil:
		return failed(http.StatusNotFound, messageUnknownPayment)
	case len(found) < len(requested):
		r.status = http.StatusMultiStatus
	}
	return r
}

// impUIDs returns the values of imp_uid in a query, in each of the ways in which clients write a list.
func impUIDs(query url.Values) []string {
	return slices.Concat(query["imp_uid"], query["imp_uid[]"], listElements(query, "imp_uid"))
}

// balance handles GET /payments/{imp_uid}/balance. Assumption: all of the amount was paid by the primary means of payment.
func (e *Emulator) balance(c *call) response {
	p, ok := e.ownPayment(c, c.args[0])
	if !ok || p.PaidAt == 0 {
		return failed(http.StatusNotFound, messageUnknownPayment)
	}
	type part struct {
		Amount  float64 `json:"amount"`
		TaxFree float64 `json:"tax_free"`
		Supply  float64 `json:"supply"`
		VAT     float64 `json:"vat"`
	}
	left := part{Amount: p.unrefunded()}
	left.VAT = math.Round(left.Amount / 11)
	left.Supply = left.Amount - left.VAT
	return succeeded(struct {
		Amount      float64 `json:"amount"`
		CashReceipt part    `json:"cash_receipt"`
		Primary     part    `json:"primary"`
		Secondary   part    `json:"secondary"`
		Discount    part    `json:"discount"`
		Histories   []any   `json:"histories"`
	}{Amount: left.Amount, Primary: left, Histories: []any{}})
}

// find handles GET /payments/find/{merchant_uid}[/{payment_status}].
func (e *Emulator) find(c *call) response {
	status, ok := c.orderStatus()
	if !ok {
		return failed(http.StatusBadRequest, messageStatus)
	}
	payments := c.shown(e.store.ofOrder(c.impKey, c.args[0]))
	if !sortPayments(payments, c.query().Get("sorting")) {
		return failed(http.StatusBadRequest, messageSorting)
	}
	for _, p := range payments {
		if status == statusAll || status == p.Status {
			return succeeded(e.annotate(p))
		}
	}
	return failed(http.StatusNotFound, messageUnknownPayment)
}

// orderStatus returns the status in the path after the order's number, or "all" if there is none. The API does not accept "all"
// itself there.
func (c *call) orderStatus() (status string, ok bool) {
	if len(c.args) == 1 || c.args[1] == "" {
		return statusAll, true
	}
	return c.args[1], c.args[1] != statusAll && isStatus(c.args[1])
}

// findAll handles GET /payments/findAll/{merchant_uid}[/{payment_status}]. Assumption: for an order without payments the list is
// empty.
func (e *Emulator) findAll(c *call) response {
	status, ok := c.orderStatus()
	if !ok {
		return failed(http.StatusBadRequest, messageStatus)
	}
	return e.search(c, e.store.ofOrder(c.impKey, c.args[0]), func(p payment, _ search) bool {
		return status == statusAll || status == p.Status
	})
}

// list handles GET /payments/status/{payment_status}. The period is compared with the time at which each payment got its present
// status, whichever status is listed.
func (e *Emulator) list(c *call) response {
	status := c.args[0]
	if !isStatus(status) {
		return failed(http.StatusBadRequest, messageStatus)
	}
	return e.search(c, e.store.all(), func(p payment, s search) bool {
		at := p.changedAt()
		return p.impKey == c.impKey && (status == statusAll || status == p.Status) && s.from <= at && at <= s.to
	})
}

// search returns one page of those payments that match.
func (e *Emulator) search(c *call, payments []payment, matches func(payment, search) bool) response {
	s, wrong := readSearch(c.query(), e.now())
	if len(wrong) > 0 {
		return wrong.response()
	}
	found := slices.DeleteFunc(c.shown(payments), func(p payment) bool { return !matches(p, s) })
	if !sortPayments(found, s.sorting) {
		return failed(http.StatusBadRequest, messageSorting)
	}
	return e.page(s, found)
}

// search holds the query parameters of a list.
type search struct {
	page, limit, from, to int64
	sorting               string
}

// readSearch reads the query parameters of a list. By default the list covers the last 90 days.
func readSearch(query url.Values, now int64) (search, violations) {
	var wrong violations
	integer := func(name string, fallback, least, most int64) int64 {
		v, err := strconv.ParseInt(cmp.Or(query.Get(name), strconv.FormatInt(fallback, 10)), 10, 64)
		if err != nil || v < least || v > most {
			wrong.add(name, "유효하지 않은 값입니다")
		}
		return v
	}
	const never = 1 << 50 // later than any real time, and small enough for additions not to overflow
	s := search{sorting: query.Get("sorting")}
	s.page = integer("page", 1, 1, never)
	s.limit = integer("limit", 20, 1, maxLimit)
	s.to = integer("to", now, 0, never)
	s.from = integer("from", s.to-maxRange, -maxRange, never)
	// Assumption: a longer period than the documented maximum of 90 days is refused, and not shortened.
	if s.to-s.from > maxRange {
		wrong.add("from", "검색기간은 최대 90일입니다")
	}
	return s, wrong
}

// page returns one page of the payments found. The first page may be empty. Any other page must have payments.
func (e *Emulator) page(s search, found []payment) response {
	total := int64(len(found))
	pages := max(1, (total+s.limit-1)/s.limit)
	if s.page > pages {
		return failed(http.StatusBadRequest, "데이터 범위를 넘어선 page입니다.")
	}
	first := (s.page - 1) * s.limit
	list := []annotation{}
	for _, p := range found[first:min(first+s.limit, total)] {
		list = append(list, e.annotate(p))
	}
	next := s.page + 1
	if next > pages {
		next = 0
	}
	return succeeded(struct {
		Total    int64        `json:"total"`
		Previous int64        `json:"previous"`
		Next     int64        `json:"next"`
		List     []annotation `json:"list"`
	}{total, s.page - 1, next, list})
}

func isStatus(s string) bool {
	switch s {
	case statusAll, statusReady, statusPaid, statusCancelled, statusFailed:
		return true
	}
	return false
}

// query returns the parameters of a look-up from its URL, and from the form in which old clients POST them.
func (c *call) query() url.Values {
	query := c.request.URL.Query()
	if media, _, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type")); media == mediaForm {
		form, _ := url.ParseQuery(string(c.body)) // a broken form counts as empty
		for name, values := range form {
			query[name] = append(query[name], values...)
		}
	}
	return query
}
