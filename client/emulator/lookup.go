package emulator

import (
	"cmp"
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	messageUnknownPayment = "존재하지 않는 결제정보입니다."
	messageHiddenPayment  = messageUnknownPayment + " 테스트 채널의 결제는 include_sandbox=true로 조회해야 합니다."
	messageStatus         = "유효하지 않은 payment_status입니다."
	messageSorting        = "유효하지 않은 sorting입니다."

	maxImpUIDs = 100 // of one request; assumption
	maxLimit   = 1000
	maxRange   = 90 * 24 * 60 * 60 // seconds that a search may span
)

// payment answers GET /payments/{imp_uid}. The API hides payments of a test channel, unless it is asked for them.
func (e *Emulator) payment(c *call) answer {
	includeSandbox, _ := strconv.ParseBool(c.query().Get("include_sandbox"))
	p, ok := e.own(c, c.args[0])
	switch {
	case !ok:
		return failed(http.StatusNotFound, messageUnknownPayment)
	case !includeSandbox && !e.opts.LiveChannel:
		return failed(http.StatusNotFound, messageHiddenPayment)
	}
	return succeeded(e.annotate(p))
}

// own returns a payment of the merchant who asks.
func (e *Emulator) own(c *call, impUID string) (p payment, ok bool) {
	p, ok = e.ledger.get(impUID)
	return p, ok && p.impKey == c.impKey
}

// payments answers GET /payments?imp_uid[]=, in the order that is asked for: 207 if some are unknown, as the official client
// for Node.js expects it. Assumption: a payment of a test channel is not hidden.
func (e *Emulator) payments(c *call) answer {
	asked := impUIDs(c.query())
	if len(asked) == 0 || len(asked) > maxImpUIDs {
		return failed(http.StatusBadRequest, fmt.Sprintf("imp_uid[]는 1개 이상 %d개 이하여야 합니다.", maxImpUIDs))
	}
	var found []annotation
	for _, impUID := range asked {
		if p, ok := e.own(c, impUID); ok {
			found = append(found, e.annotate(p))
		}
	}
	a := succeeded(found)
	switch {
	case found == nil:
		return failed(http.StatusNotFound, messageUnknownPayment)
	case len(found) < len(asked):
		a.status = http.StatusMultiStatus
	}
	return a
}

// impUIDs returns the values of imp_uid in a query, written as any client writes a list.
func impUIDs(query url.Values) []string {
	return slices.Concat(query["imp_uid"], query["imp_uid[]"], elements(query, "imp_uid"))
}

// balance answers GET /payments/{imp_uid}/balance. Assumption: all of it was paid by the primary means.
func (e *Emulator) balance(c *call) answer {
	p, ok := e.own(c, c.args[0])
	if !ok || p.PaidAt == 0 {
		return failed(http.StatusNotFound, messageUnknownPayment)
	}
	type part struct {
		Amount  float64 `json:"amount"`
		TaxFree float64 `json:"tax_free"`
		Supply  float64 `json:"supply"`
		VAT     float64 `json:"vat"`
	}
	left := part{Amount: p.left()}
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

// find answers GET /payments/find/{merchant_uid}[/{payment_status}].
func (e *Emulator) find(c *call) answer {
	status, ok := c.statusOfOrder()
	if !ok {
		return failed(http.StatusBadRequest, messageStatus)
	}
	payments := e.ledger.order(c.impKey, c.args[0])
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

// statusOfOrder returns the status that the path names behind an order's number, or "all". The API names that by leaving
// it out.
func (c *call) statusOfOrder() (status string, ok bool) {
	if len(c.args) == 1 || c.args[1] == "" {
		return statusAll, true
	}
	return c.args[1], c.args[1] != statusAll && isStatus(c.args[1])
}

// findAll answers GET /payments/findAll/{merchant_uid}[/{payment_status}]. Assumption: an order without payments has an empty
// list.
func (e *Emulator) findAll(c *call) answer {
	status, ok := c.statusOfOrder()
	if !ok {
		return failed(http.StatusBadRequest, messageStatus)
	}
	return e.search(c, e.ledger.order(c.impKey, c.args[0]), func(p payment, _ search) bool {
		return status == statusAll || status == p.Status
	})
}

// list answers GET /payments/status/{payment_status}.
func (e *Emulator) list(c *call) answer {
	status := c.args[0]
	if !isStatus(status) {
		return failed(http.StatusBadRequest, messageStatus)
	}
	return e.search(c, e.ledger.snapshot(), func(p payment, s search) bool {
		at := p.changedAt()
		if status == statusAll {
			at = p.StartedAt
		}
		return p.impKey == c.impKey && (status == statusAll || status == p.Status) && s.from <= at && at <= s.to
	})
}

// search answers with a page of those payments that are looked for.
func (e *Emulator) search(c *call, payments []payment, matches func(payment, search) bool) answer {
	s, wrong := readSearch(c.query(), e.now())
	if len(wrong) > 0 {
		return failed(http.StatusBadRequest, strings.Join(wrong, " "))
	}
	found := slices.DeleteFunc(payments, func(p payment) bool { return !matches(p, s) })
	if !sortPayments(found, s.sorting) {
		return failed(http.StatusBadRequest, messageSorting)
	}
	return e.page(s, found)
}

// search is the query of a list.
type search struct {
	page, limit, from, to int64
	sorting               string
}

// readSearch reads it. Without other times it covers the 90 days until now.
func readSearch(query url.Values, now int64) (search, violations) {
	var wrong violations
	integer := func(name string, fallback, least, most int64) int64 {
		v, err := strconv.ParseInt(cmp.Or(query.Get(name), strconv.FormatInt(fallback, 10)), 10, 64)
		if err != nil || v < least || v > most {
			wrong.add(name, "유효하지 않은 값입니다")
		}
		return v
	}
	const never = 1 << 50 // later than any time, and far from overflowing
	s := search{sorting: query.Get("sorting")}
	s.page = integer("page", 1, 1, never)
	s.limit = integer("limit", 20, 1, maxLimit)
	s.to = integer("to", now, 0, never)
	s.from = integer("from", s.to-maxRange, -maxRange, never)
	// Assumption: a longer search is refused, not cut to the 90 days that are documented as the most.
	if s.to-s.from > maxRange {
		wrong.add("from", "검색기간은 최대 90일입니다")
	}
	return s, wrong
}

// page returns a page of the payments found. The first page may be empty; any other is beyond the data then.
func (e *Emulator) page(s search, found []payment) answer {
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

// query returns a look-up's parameters: of its URL, and of the form with which old clients POST it.
func (c *call) query() url.Values {
	query := c.request.URL.Query()
	if media, _, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type")); media == mediaForm {
		form, _ := url.ParseQuery(string(c.body)) // what cannot be read asks for nothing
		for name, values := range form {
			query[name] = append(query[name], values...)
		}
	}
	return query
}
