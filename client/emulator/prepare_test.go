package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestPreparedAmountIsKeptPerMerchant(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{MaxPayments: 2})
	const body = `{"merchant_uid":"order","amount":15000}`
	s.get("/payments/prepare/order").expect(t, 404, -1)
	s.do("PUT", "/payments/prepare", asJSON, body).expect(t, 404, -1)
	a := s.do("POST", "/payments/prepare/", asJSON, body)
	a.expect(t, 200, 0)
	if string(a.Response) != body {
		t.Error(a.raw)
	}
	s.do("POST", "/payments/prepare", asJSON, body).expect(t, 200, 1)
	s.do("PUT", "/payments/prepare", asForm, "merchant_uid=order&amount=9000").expect(t, 200, 0)
	if got := s.get("/payments/prepare/order/").field("amount"); got != "9000" {
		t.Errorf("%s", got)
	}
	s.as("other").get("/payments/prepare/order").expect(t, 404, -1)
	s.do("POST", "/payments/prepare", asJSON, `{"amount":-1}`).expect(t, 400, -1)
	for i := range 5 {
		s.do("POST", "/payments/prepare", asJSON, fmt.Sprintf(`{"merchant_uid":"order-%d","amount":1}`, i)).expect(t, 200, 0)
	}
	s.get("/payments/prepare/order-4").expect(t, 200, 0)
	s.get("/payments/prepare/order-3").expect(t, 200, 0)
	s.get("/payments/prepare/order-2").expect(t, 404, -1)
	s.do("POST", "/payments/prepare", asJSON, `{"merchant_uid":"`+strings.Repeat("가", 41)+`","amount":1}`).expect(t, 400, -1)
	s.get("/payments/prepare/order").expect(t, 404, -1) // removed, because MaxPayments is 2
}
