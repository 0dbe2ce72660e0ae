package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// A payment by card is an ordinary payment of its order, but the till does not show it.
func TestCardPaymentIsPaidAtOnce(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	waiting := s.issue(`"merchant_uid":"order","amount":15000`)
	card := s.payByCard("order", 15000)
	for name, want := range map[string]string{
		"status": "paid", "pay_method": "card", "card_number": "123456******3456", "card_type": "0", "vbank_num": "null", "pg_provider": "kcp", "pg_id": "shop1", "name": "우산",
	} {
		if got := card.field(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if strings.Contains(fmt.Sprint(s.Payments()), "56789012") {
		t.Error("the ledger knows the card's number")
	}
	if got := s.get("/payments/find/order").field("imp_uid"); got != card.field("imp_uid") {
		t.Errorf("%s is the order's newest", got)
	}
	if got := s.get("/payments/findAll/order").field("total"); got != "2" {
		t.Errorf("the order has %s payments", got)
	}
	s.do("POST", "/subscribe/payments/onetime", asJSON, cardBody("order", 15000)).expect(t, 200, 1)
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":15000}`).expect(t, 200, 1)
	page := s.page("")
	if !strings.Contains(page, waiting.field("imp_uid")) && !strings.Contains(page, "order") || strings.Count(words(page), "결제 완료 1") != 0 {
		t.Error("the till shows a card's payment")
	}
	if code, _ := s.scan("", "card"); code != 400 {
		t.Errorf("scanned nothing: %d", code)
	}
	s.cancel(`"merchant_uid":"order"`).expect(t, 200, 0)
	if got := s.get("/payments/" + card.field("imp_uid") + "?include_sandbox=true").field("status"); got != "cancelled" {
		t.Errorf("the card's payment is %s", got)
	}
	for _, body := range []string{`{"merchant_uid":"x","amount":1}`, `{"merchant_uid":"x","amount":1,"card_number":"1234","expiry":"2030-12"}`, `{"merchant_uid":"x","amount":1,"card_number":1234567890123456,"expiry":"2030-12"}`, `{`} {
		s.do("POST", "/subscribe/payments/onetime", asJSON, body).expect(t, 400, -1)
	}
}
