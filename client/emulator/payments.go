package emulator

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	messageUnknownPayment = "존재하지 않는 결제정보입니다."
	missing               = "필수 파라미터입니다"

	maxNoticeURLs = 10 // the sandbox's own bound, as each is a connection
	maxLimit      = 1000
	maxRange      = 90 * 24 * 60 * 60 // seconds that a search may span
)

// issue answers POST /cvs.
func (e *Emulator) issue(c *call) answer {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	now := e.now()
	p, violations := readPayment(params, e.opts.RoundAmounts)
	if len(violations) > 0 {
		return failed(http.StatusBadRequest, strings.Join(violations, " "))
	}
	if p.ExpiredAt == 0 {
		p.ExpiredAt = now + seconds(e.opts.Deadline)
	}
	p.impKey = c.impKey
	p.Tier = c.request.Header.Get("Tier")
	p, err := e.ledger.add(p, now)
	switch {
	case errors.Is(err, errPaidOrder):
		return refused("이미 결제가 이뤄진 merchant_uid입니다.")
	case errors.Is(err, errLiveBarcode):
		return refused("이미 사용 중인 수납번호(barcode)입니다.")
	}
	return succeeded(annotate(p))
}

// violations collects what is wrong with a request, a sentence for each field.
type violations []string

func (v *violations) add(name string, problem any) {
	*v = append(*v, fmt.Sprintf("%s: %v.", name, problem))
}

// readPayment reads the fields of POST /cvs and returns everything that is wrong with them.
func readPayment(params parameters, roundAmount bool) (payment, violations) {
	var p payment
	var wrong violations
	readTexts(params, &p, &wrong)
	amount, ok, err := params.number("amount")
	if roundAmount {
		amount = math.Round(amount) // before the check, as what is kept must be more than 0
	}
	switch {
	case err != nil:
		wrong.add("amount", err)
	case !ok:
		wrong.add("amount", missing)
	case amount <= 0:
		wrong.add("amount", "0보다 커야 합니다")
	}
	p.Amount = amount
	expiredAt, ok, err := params.integer("expired_at")
	if err != nil {
		wrong.add("expired_at", err)
	} else if ok && expiredAt <= 0 {
		wrong.add("expired_at", "Unix timestamp여야 합니다")
	}
	// Assumption: a deadline that has passed is accepted, and refused at the till.
	p.ExpiredAt = expiredAt
	// Assumption: what cannot be right in pg and the URLs is refused at once.
	p.pgID, ok = merchantID(p.PG)
	if !ok {
		wrong.add("pg", "galaxia 또는 galaxia.{상점 ID}여야 합니다")
	}
	p.customData = params.stored("custom_data")
	readURLs(params, &p, &wrong)
	return p, wrong
}

// readTexts reads the strings. Their limits are in characters, not bytes.
func readTexts(params parameters, p *payment, wrong *violations) {
	for _, field := range []struct {
		name  string
		limit int // 0: none documented
		to    *string
	}{
		{"merchant_uid", 40, &p.MerchantUID},
		{"barcode", 0, &p.Barcode},
		{"name", 40, &p.Name},
		{"buyer_name", 16, &p.buyerName},
		{"buyer_email", 64, &p.buyerEmail},
		{"buyer_tel", 16, &p.buyerTel},
		{"buyer_addr", 128, &p.buyerAddr},
		{"buyer_postcode", 8, &p.buyerPostcode},
		{"pg", 0, &p.PG},
		{"channel_key", 0, &p.ChannelKey},
	} {
		s, err := params.text(field.name)
		switch {
		case err != nil:
			wrong.add(field.name, err)
		case s == "" && field.name == "merchant_uid":
			wrong.add(field.name, missing)
		case field.limit > 0 && utf8.RuneCountInString(s) > field.limit:
			wrong.add(field.name, fmt.Sprintf("%d자를 넘을 수 없습니다", field.limit))
		default:
			*field.to = s
		}
	}
}

// readURLs reads confirm_url and notice_url. The messages never repeat them: their query may carry a signature.
func readURLs(params parameters, p *payment, wrong *violations) {
	confirm, err := params.text("confirm_url")
	if err != nil {
		wrong.add("confirm_url", err)
	}
	if confirm != "" && !isWebURL(confirm) {
		wrong.add("confirm_url", "http 또는 https URL이어야 합니다")
	}
	notices, err := params.texts("notice_url")
	if err != nil {
		wrong.add("notice_url", err)
	}
	if len(notices) > maxNoticeURLs {
		wrong.add("notice_url", fmt.Sprintf("%d개를 넘을 수 없습니다", maxNoticeURLs))
	}
	for _, notice := range notices {
		if !isWebURL(notice) {
			wrong.add("notice_url", "http 또는 https URL이어야 합니다")
			break
		}
	}
	p.confirmURL, p.ConfirmURL = confirm, displayURL(confirm)
	p.noticeURL = notices
	for _, notice := range notices {
		p.NoticeURL = append(p.NoticeURL, displayURL(notice))
	}
}

// merchantID returns the Galaxia merchant id of a pg: nothing, "galaxia" or "galaxia.{merchant id}".
func merchantID(pg string) (id string, ok bool) {
	name, id, dotted := strings.Cut(pg, ".")
	return id, pg == "" || name == "galaxia" && dotted == (id != "")
}

// void answers DELETE /cvs/{imp_uid}.
func (e *Emulator) void(c *call) answer {
	p, err := e.ledger.void(c.impKey, c.args[0], e.now())
	switch {
	case errors.Is(err, errUnknownPayment):
		return failed(http.StatusNotFound, messageUnknownPayment)
	case errors.Is(err, ErrPaid):
		return refused("이미 수납이 완료되어 말소할 수 없습니다.")
	case errors.Is(err, ErrVoid):
		// Assumption: voiding twice is refused rather than repeated.
		return refused("이미 말소된 수납번호입니다.")
	}
	return succeeded(annotate(p))
}

// payment answers GET /payments/{imp_uid}. All payments here are a test channel's, which the API hides by default.
func (e *Emulator) payment(c *call) answer {
	includeSandbox, _ := strconv.ParseBool(c.request.URL.Query().Get("include_sandbox"))
	p, ok := e.ledger.get(c.args[0])
	if !ok || p.impKey != c.impKey || !includeSandbox {
		return failed(http.StatusNotFound, messageUnknownPayment)
	}
	return succeeded(annotate(p))
}

// find answers GET /payments/find/{merchant_uid}[/{payment_status}].
func (e *Emulator) find(c *call) answer {
	status := statusAll
	if len(c.args) > 1 && c.args[1] != "" {
		status = c.args[1]
		if status == statusAll || !isStatus(status) {
			return failed(http.StatusBadRequest, "유효하지 않은 payment_status입니다.")
		}
	}
	payments := e.ledger.order(c.impKey, c.args[0])
	if !sortPayments(payments, c.request.URL.Query().Get("sorting")) {
		return failed(http.StatusBadRequest, "유효하지 않은 sorting입니다.")
	}
	for _, p := range payments {
		if status == statusAll || status == p.Status {
			return succeeded(annotate(p))
		}
	}
	return failed(http.StatusNotFound, messageUnknownPayment)
}

// list answers GET /payments/status/{payment_status}.
func (e *Emulator) list(c *call) answer {
	status := c.args[0]
	if !isStatus(status) {
		return failed(http.StatusBadRequest, "유효하지 않은 payment_status입니다.")
	}
	s, wrong := readSearch(c.request.URL.Query(), e.now())
	if len(wrong) > 0 {
		return failed(http.StatusBadRequest, strings.Join(wrong, " "))
	}
	var found []payment
	for _, p := range e.ledger.snapshot() {
		at := p.changedAt()
		if status == statusAll {
			at = p.StartedAt
		}
		if p.impKey == c.impKey && (status == statusAll || status == p.Status) && s.from <= at && at <= s.to {
			found = append(found, p)
		}
	}
	if !sortPayments(found, s.sorting) {
		return failed(http.StatusBadRequest, "유효하지 않은 sorting입니다.")
	}
	return s.answer(found)
}

// search is the query of GET /payments/status/{payment_status}.
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

// answer returns the page of the payments found. The first page may be empty; any other is beyond the data then.
func (s search) answer(found []payment) answer {
	total := int64(len(found))
	pages := max(1, (total+s.limit-1)/s.limit)
	if s.page > pages {
		return failed(http.StatusBadRequest, "데이터 범위를 넘어선 page입니다.")
	}
	first := (s.page - 1) * s.limit
	list := []annotation{}
	for _, p := range found[first:min(first+s.limit, total)] {
		list = append(list, annotate(p))
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
