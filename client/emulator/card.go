package emulator

import (
	"cmp"
	"net/http"
	"regexp"
	"strings"
)

var cardPattern = regexp.MustCompile(`^\d{4}-?\d{4}-?\d{4}-?\d{2,4}$`)

// payByCard answers POST /subscribe/payments/onetime: a payment by card, at once and without a till, as shops have beside their
// barcodes. Of the card nothing is kept but its first and last digits. Assumptions: any card is good, and no notice is sent of it.
func (e *Emulator) payByCard(c *call) answer {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	pg, _ := params.text("pg")
	delete(params, "pg") // of any provider
	p, wrong := readPayment(params, e.opts.Fractions)
	p.pgProvider, p.pgID, _ = strings.Cut(cmp.Or(pg, "nice"), ".")
	p.Barcode, p.ExpiredAt, p.confirmURL, p.ConfirmURL = "", 0, "", "" // a barcode's only
	number, err := params.text("card_number")
	switch {
	case err != nil:
		wrong.add("card_number", err)
	case !cardPattern.MatchString(number):
		wrong.add("card_number", "0000-0000-0000-0000 형식이어야 합니다")
	}
	if expiry, err := params.text("expiry"); err != nil || expiry == "" {
		wrong.add("expiry", "YYYY-MM 형식이어야 합니다")
	}
	if len(wrong) > 0 {
		return failed(http.StatusBadRequest, strings.Join(wrong, " "))
	}
	number = strings.ReplaceAll(number, "-", "")
	p.cardNumber = number[:6] + "******" + number[12:]
	p.impKey, p.PayMethod, p.Tier = c.impKey, payMethodCard, c.request.Header.Get("Tier")
	if p, err = e.ledger.addPaid(p, e.now()); err != nil {
		return refused("이미 결제가 이뤄진 merchant_uid입니다.")
	}
	return succeeded(e.annotate(p))
}
