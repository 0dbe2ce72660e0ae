package emulator

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

const (
	missing = "필수 파라미터입니다"

	maxMerchantUID = 40 // characters
	maxNoticeURLs  = 10 // the sandbox's own bound, as each is a connection
)

// issue answers POST /cvs.
func (e *Emulator) issue(c *call) answer {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	now := e.now()
	p, violations := readPayment(params, e.opts.Fractions)
	if len(violations) > 0 {
		return failed(http.StatusBadRequest, strings.Join(violations, " "))
	}
	if p.ExpiredAt == 0 {
		p.ExpiredAt = now + seconds(e.opts.Deadline)
	}
	p.impKey, p.PayMethod, p.pgProvider = c.impKey, payMethodCVS, "galaxia"
	p.Tier = c.request.Header.Get("Tier")
	p, err := e.ledger.add(p, now)
	switch {
	case errors.Is(err, errPaidOrder):
		return refused("이미 결제가 이뤄진 merchant_uid입니다.")
	case errors.Is(err, errLiveBarcode):
		return refused("이미 사용 중인 수납번호(barcode)입니다.")
	}
	return succeeded(e.annotate(p))
}

// violations collects what is wrong with a request, a sentence for each field.
type violations []string

func (v *violations) add(name string, problem any) {
	*v = append(*v, fmt.Sprintf("%s: %v.", name, problem))
}

// readPayment reads the fields of POST /cvs and returns everything that is wrong with them.
func readPayment(params parameters, fractions Fractions) (payment, violations) {
	var p payment
	var wrong violations
	readTexts(params, &p, &wrong)
	p.Amount = readAmount(params, "amount", fractions, &wrong)
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

// readAmount reads an amount of money that must be given.
func readAmount(params parameters, name string, fractions Fractions, wrong *violations) float64 {
	amount, ok, err := params.number(name)
	written, _ := params.digits(name)
	exact, _ := decimal.Canonical(written)
	if fractions == FractionsRound {
		amount = math.Round(amount) // before the check, as what is kept must be more than 0
	}
	switch {
	case err != nil:
		wrong.add(name, err)
	case !ok:
		wrong.add(name, missing)
	case amount <= 0:
		wrong.add(name, "0보다 커야 합니다")
	case fractions == FractionsRefuse && !decimal.Whole(exact):
		wrong.add(name, "원 단위의 정수여야 합니다")
	}
	return amount
}

// readTexts reads the strings. Their limits are in characters, not bytes.
func readTexts(params parameters, p *payment, wrong *violations) {
	for _, field := range []struct {
		name  string
		limit int // 0: none documented
		to    *string
	}{
		{"merchant_uid", maxMerchantUID, &p.MerchantUID},
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
		*field.to = readText(params, field.name, field.limit, wrong)
	}
}

// readText reads one of them.
func readText(params parameters, name string, limit int, wrong *violations) string {
	s, err := params.text(name)
	switch {
	case err != nil || params.hasMembers(name):
		wrong.add(name, errNotText)
	case strings.ContainsRune(s, 0):
		wrong.add(name, "NUL 문자를 포함할 수 없습니다")
	case strings.TrimSpace(s) == "" && name == "merchant_uid":
		wrong.add(name, missing)
	case limit > 0 && utf8.RuneCountInString(s) > limit:
		wrong.add(name, fmt.Sprintf("%d자를 넘을 수 없습니다", limit))
	}
	return s
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
	if err != nil || params.hasMembers("notice_url") {
		wrong.add("notice_url", errNotText)
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
	_, id, _ = strings.Cut(pg, ".")
	return id, pg == "" || pgPattern.MatchString(pg)
}

var pgPattern = regexp.MustCompile(`^galaxia(\.[^\s.]+)?$`)

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
	return succeeded(e.annotate(p))
}
