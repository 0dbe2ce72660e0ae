package emulator_test

import (
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestStoreRemovesOldestPayments(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{MaxPayments: 3})
	first := s.issue(`"merchant_uid":"order","amount":1`)
	for range 4 {
		s.issue(`"merchant_uid":"order","amount":1`)
	}
	s.issue(`"merchant_uid":"other","amount":1`)
	if got := emulator.StoreSize(s.Emulator); got != [4]int{3, 3, 3, 2} {
		t.Errorf("the ledger holds %v", got)
	}
	for range 3 {
		s.issue(`"merchant_uid":"third","amount":1,"barcode":""`)
	}
	if got := emulator.StoreSize(s.Emulator); got != [4]int{3, 3, 3, 1} {
		t.Errorf("the ledger holds %v", got)
	}
	s.get("/payments/"+first.field("imp_uid")+"?include_sandbox=true").expect(t, 404, -1)
	s.get("/payments/find/order").expect(t, 404, -1)
	if code, _ := s.scan(first.field("vbank_num"), "card"); code != 404 {
		t.Errorf("a forgotten barcode was scanned: %d", code)
	}
}

// A barcode that is issued again belongs to the newer payment, even after the older payment was removed.
func TestStoreKeepsNewerPaymentOfReusedBarcode(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{MaxPayments: 1})
	old := s.issue(`"merchant_uid":"old","amount":1,"barcode":"1"`)
	s.do("DELETE", "/cvs/"+old.field("imp_uid"), "", "")
	s.issue(`"merchant_uid":"new","amount":1,"barcode":"1"`)
	if code, result := s.scan("1", "card"); code != 200 || result.Payment.MerchantUID != "new" {
		t.Errorf("scan: %d %+v", code, result)
	}
}
