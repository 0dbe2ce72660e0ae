package emulator

// Payments by card: POST /subscribe/payments/onetime.

import (
	"cmp"
	"regexp"
	"strings"
)

var cardPattern = regexp.MustCompile(`^\d{4}-?\d{4}-?\d{4}-?\d{2,4}$`)

// payByCard handles POST /subscribe/payments/onetime: a payment by card, which is paid at once and without a till. Shops have
// such payments beside their barcodes. Only the first and the last digits of the card are kept. Assumptions: every card is
// accepted, and no notice is sent.
func (e *Emulator) payByCard(c *call) response {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	pg, _ := params.text("pg")
	delete(params, "pg") // any provider is allowed, unlike for a barcode
	p, wrong := readPayment(params, e.opts.Fractions)
	p.pgProvider, p.pgID, _ = strings.Cut(cmp.Or(pg, "nice"), ".")
	p.Barcode, p.ExpiredAt, p.confirmURL, p.ConfirmURL = "", 0, "", "" // fields of a barcode only
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
		return wrong.response()
	}
	number = strings.ReplaceAll(number, "-", "")
	p.cardNumber = number[:6] + "******" + number[12:]
	p.impKey, p.PayMethod, p.Tier = c.impKey, payMethodCard, c.request.Header.Get("Tier")
	if p, err = e.store.addPaid(p, e.opts.Now()); err != nil {
		return refused("이미 결제가 이뤄진 merchant_uid입니다.")
	}
	return succeeded(e.annotate(p))
}
