package emulator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestVoidCancelsUnpaidBarcodeOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	unpaid := s.issue(`"merchant_uid":"unpaid","amount":1`)
	paid := s.issue(`"merchant_uid":"paid","amount":1`)
	s.scan(paid.field("vbank_num"), "card")
	c.advance(time.Minute)

	s.as("other").do("DELETE", "/cvs/"+unpaid.field("imp_uid"), "", "").expect(t, 404, -1)
	a := s.do("DELETE", "/cvs/"+unpaid.field("imp_uid"), "", "")
	a.expect(t, 200, 0)
	if a.field("status") != "cancelled" || a.field("cancelled_at") != fmt.Sprint(c.now().Unix()) ||
		a.field("cancel_reason") == "null" || a.field("cancel_amount") != "0" {
		t.Errorf("void payment: %s", a.raw)
	}
	s.do("DELETE", "/cvs/"+unpaid.field("imp_uid"), "", "").expect(t, 200, 1)
	s.do("DELETE", "/cvs/"+paid.field("imp_uid"), "", "").expect(t, 200, 1)
	s.do("DELETE", "/cvs/imp_0", "", "").expect(t, 404, -1)
	if got := s.Requests(emulator.EndpointVoid); got != 5 {
		t.Errorf("%d requests counted, want 5", got)
	}
}
