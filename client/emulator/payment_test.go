package emulator_test

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// annotationFields are the fields of PaymentAnnotation in the documents.
const annotationFields = `imp_uid merchant_uid pay_method channel pg_provider emb_pg_provider pg_tid pg_id sandbox escrow
	apply_num bank_code bank_name card_code card_name card_issuer_code card_issuer_name card_publisher_code
	card_publisher_name card_quota card_number card_type vbank_code vbank_name vbank_num vbank_holder vbank_date
	vbank_issued_at name amount cancel_amount currency buyer_name buyer_email buyer_tel buyer_addr buyer_postcode
	custom_data user_agent status started_at paid_at failed_at cancelled_at fail_reason cancel_reason receipt_url
	cancel_history deposit_history cancel_receipt_urls cash_receipt_issued customer_uid customer_uid_usage promotion`

// Every field has the type of the API's schema for every kind of payment, because a strict client fails at a wrong one.
func TestPaymentFieldsMatchSchemaTypes(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	numbers := "card_quota vbank_date vbank_issued_at amount cancel_amount started_at paid_at failed_at cancelled_at"
	types := map[string]string{"card_type": "number or null", "promotion": "object or null"}
	for name := range strings.FieldsSeq(annotationFields) {
		types[name] = cmp.Or(types[name], "string or null")
	}
	for name := range strings.FieldsSeq(numbers) {
		types[name] = "number"
	}
	for _, name := range []string{"sandbox", "escrow", "cash_receipt_issued"} {
		types[name] = "bool"
	}
	for _, name := range []string{"cancel_history", "deposit_history", "cancel_receipt_urls"} {
		types[name] = "array"
	}
	void := s.issue(`"merchant_uid":"void","amount":1`)
	inCash := s.issue(`"merchant_uid":"cash","amount":1`)
	s.scan(inCash.field("vbank_num"), "cash")
	refunded := s.paid("refunded").field("imp_uid")
	answers := []envelope{
		void, s.do("DELETE", "/cvs/"+void.field("imp_uid"), "", ""), s.paid("paid"), s.get("/payments/find/paid"), s.get("/payments/find/cash"),
		s.payByCard("card", 1), s.cancel(`"imp_uid":"` + refunded + `"`),
	}
	for _, a := range answers {
		var fields map[string]any
		if err := json.Unmarshal(a.Response, &fields); err != nil {
			t.Fatal(err, a.raw)
		}
		for name, want := range types {
			got := map[bool]string{true: "null"}[fields[name] == nil]
			switch fields[name].(type) {
			case string:
				got = "string"
			case float64:
				got = "number"
			case bool:
				got = "bool"
			case []any:
				got = "array"
			case map[string]any:
				got = "object"
			}
			if got == "" || !strings.Contains(want, got) || fields[name] == "null" {
				t.Errorf("%s is %#v, want %s", name, fields[name], want)
			}
		}
	}
}
