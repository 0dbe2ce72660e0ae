package emulator

// Issuing barcodes: POST /cvs.

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

const (
	maxMerchantUID = 40 // characters
	maxNoticeURLs  = 10 // a limit of the emulator's own, because each URL is a connection
)

// issue handles POST /cvs.
func (e *Emulator) issue(c *call) response {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	now := e.opts.Now()
	p, wrong := readPayment(params, e.opts.Fractions)
	if len(wrong) > 0 {
		return wrong.response()
	}
	if p.ExpiredAt == 0 {
		p.ExpiredAt = now.Unix() + seconds(e.opts.Deadline)
	}
	p.impKey, p.PayMethod, p.pgProvider = c.impKey, payMethodCVS, "galaxia"
	p.Tier = c.request.Header.Get("Tier")
	p, err := e.store.add(p, now)
	switch {
	case errors.Is(err, errPaidOrder):
		return refused("이미 결제가 이뤄진 merchant_uid입니다.")
	case errors.Is(err, errBarcodeInUse):
		return refused("이미 사용 중인 수납번호(barcode)입니다.")
	}
	return succeeded(e.annotate(p))
}

// readPayment reads the fields of POST /cvs and returns all their errors.
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
	// Assumption: a deadline in the past is accepted here and refused at the till.
	p.ExpiredAt = expiredAt
	// Assumption: a malformed pg, confirm_url or notice_url is refused.
	p.pgID, ok = merchantID(p.PG)
	if !ok {
		wrong.add("pg", "galaxia 또는 galaxia.{상점 ID}여야 합니다")
	}
	p.customData = params.textOrJSON("custom_data")
	readURLs(params, &p, &wrong)
	return p, wrong
}

// readTexts reads the strings.
func readTexts(params parameters, p *payment, wrong *violations) {
	for _, field := range []struct {
		name  string
		limit int // in characters, 0 for none
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

// readURLs reads confirm_url and notice_url. The messages never repeat a URL, because its query may carry a signature.
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
	p.confirmURL, p.ConfirmURL = confirm, withoutQuery(confirm)
	p.noticeURL = notices
	for _, notice := range notices {
		p.NoticeURL = append(p.NoticeURL, withoutQuery(notice))
	}
}

// isWebURL reports whether s is an absolute http or https URL.
func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}

// merchantID returns the Galaxia merchant ID of a pg, which is empty, "galaxia" or "galaxia.{merchant ID}".
func merchantID(pg string) (id string, ok bool) {
	_, id, _ = strings.Cut(pg, ".")
	return id, pg == "" || pgPattern.MatchString(pg)
}

var pgPattern = regexp.MustCompile(`^galaxia(\.[^\s.]+)?$`)
