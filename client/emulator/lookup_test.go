package emulator_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func cardBody(merchantUID string, amount int) string {
	return fmt.Sprintf(`{"merchant_uid":%q,"amount":%d,"card_number":"1234-5678-9012-3456","expiry":"2030-12","birth":"900101","pg":"kcp.shop1","name":"우산"}`, merchantUID, amount)
}

func (s *sandbox) payByCard(merchantUID string, amount int) envelope {
	s.t.Helper()
	a := s.do("POST", "/subscribe/payments/onetime", asJSON, cardBody(merchantUID, amount))
	a.expect(s.t, 200, 0)
	return a
}

// Card payments stand beside barcodes everywhere but at the till.
func TestCardPayments(t *testing.T) {
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

func TestFindAll(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	var uids []string
	for range 3 {
		uids = append(uids, s.issue(`"merchant_uid":"주문/1","amount":1`).field("imp_uid"))
	}
	s.do("DELETE", "/cvs/"+uids[0], "", "").expect(t, 200, 0)
	s.issue(`"merchant_uid":"other","amount":1`)
	const order = "/payments/findAll/%EC%A3%BC%EB%AC%B8%2F1"
	for path, want := range map[string][]string{
		order:                      {uids[2], uids[1], uids[0]},
		order + "/":                {uids[2], uids[1], uids[0]},
		order + "?sorting=started": {uids[0], uids[1], uids[2]},
		order + "/ready":           {uids[2], uids[1]},
		order + "/cancelled/":      {uids[0]},
		order + "/paid":            {},
		order + "?limit=2&page=2":  {uids[0]},
		"/payments/findAll/nothing?sorting=-paid": {},
	} {
		var page struct {
			Total int
			List  []struct {
				ImpUID string `json:"imp_uid"`
			}
		}
		a := s.get(path)
		a.expect(t, 200, 0)
		if err := json.Unmarshal(a.Response, &page); err != nil || page.List == nil {
			t.Fatal(err, a.raw)
		}
		got := []string{}
		for _, p := range page.List {
			got = append(got, p.ImpUID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for _, bad := range []string{"/void", "/all", "?sorting=x", "?page=2", "?limit=0"} {
		s.get(order+bad).expect(t, 400, -1)
	}
	if got := s.as("stranger").get(order).field("total"); got != "0" {
		t.Errorf("a stranger sees %s", got)
	}
}

func TestPaymentsByTheirNumbers(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	one, two := s.issue(`"merchant_uid":"1","amount":1`).field("imp_uid"), s.issue(`"merchant_uid":"2","amount":2`).field("imp_uid")
	foreign := s.as("stranger").issue(`"merchant_uid":"3","amount":3`).field("imp_uid")
	for _, query := range []string{
		"imp_uid[]=" + two + "&imp_uid[]=" + one, "imp_uid%5B%5D=" + two + "&imp_uid%5B%5D=nothing&imp_uid[]=" + one,
		"imp_uid=" + two + "&imp_uid=" + one, "imp_uid[0]=" + two + "&imp_uid[1]=" + one, "imp_uid[]=" + two + "&imp_uid[]=" + foreign + "&imp_uid[]=" + one,
	} {
		a := s.get("/payments?" + query)
		a.expect(t, map[bool]int{true: 207, false: 200}[strings.Contains(query, "nothing") || strings.Contains(query, foreign)], 0)
		var list []struct {
			ImpUID string `json:"imp_uid"`
		}
		if err := json.Unmarshal(a.Response, &list); err != nil || len(list) != 2 || list[0].ImpUID != two || list[1].ImpUID != one {
			t.Errorf("%s: %v %s", query, err, a.raw)
		}
	}
	s.get("/payments?imp_uid[]=nothing").expect(t, 404, -1)
	s.do("POST", "/payments", asForm, "imp_uid[]="+one+"&imp_uid[]="+two).expect(t, 200, 0)
	s.get("/payments").expect(t, 400, -1)
	s.get("/payments?"+strings.Repeat("imp_uid[]=x&", 101)).expect(t, 400, -1)
}

func TestBalance(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	impUID := s.paid("order").field("imp_uid")
	s.cancel(`"imp_uid":"` + impUID + `","amount":4000`)
	var balance struct {
		Amount  float64
		Primary struct{ Amount, Supply, VAT float64 }
	}
	a := s.get("/payments/" + impUID + "/balance/")
	a.expect(t, 200, 0)
	if err := json.Unmarshal(a.Response, &balance); err != nil || balance.Amount != 11000 || balance.Primary.Amount != 11000 || balance.Primary.Supply != 10000 || balance.Primary.VAT != 1000 {
		t.Error(err, a.raw)
	}
	s.get("/payments/nothing/balance").expect(t, 404, -1)
	s.get("/payments/"+s.issue(`"merchant_uid":"open","amount":1`).field("imp_uid")+"/balance").expect(t, 404, -1)
	s.as("stranger").get("/payments/"+impUID+"/balance").expect(t, 404, -1)
}

// A test channel's payments are hidden, with a word why, and a live one's are not.
func TestChannels(t *testing.T) {
	t.Parallel()
	for _, live := range []bool{false, true} {
		s := newSandbox(t, emulator.Options{LiveChannel: live})
		issued := s.issue(`"merchant_uid":"order","amount":1`)
		if got := issued.field("sandbox"); got != fmt.Sprint(!live) {
			t.Errorf("sandbox is %s", got)
		}
		s.get("/payments/"+issued.field("imp_uid")+"?include_sandbox=true").expect(t, 200, 0)
		a := s.get("/payments/" + issued.field("imp_uid"))
		switch {
		case live:
			a.expect(t, 200, 0)
		case a.status != 404 || a.Message == nil || !strings.Contains(*a.Message, "include_sandbox=true"):
			t.Error(a.raw)
		}
		if a := s.get("/payments/nothing"); a.status != 404 || *a.Message != "존재하지 않는 결제정보입니다." {
			t.Error(a.raw)
		}
	}
}

// Old clients write a slash at the end, look up by POST, and put the token elsewhere.
func TestOldHabits(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{LiveChannel: true})
	impUID := s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	for _, path := range []string{"/payments/" + impUID, "/payments/find/order", "/payments/find/order/ready", "/payments/status/all", "/payments/findAll/order"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, slash := range []string{"", "/"} {
				s.do(method, path+slash, "", "").expect(t, 200, 0)
			}
		}
	}
	token := s.token
	s.token = ""
	s.get("/payments/"+impUID).expect(t, 401, -1)
	s.get("/payments/"+impUID+"?_token="+token).expect(t, 200, 0)
	s.do("GET", "/payments/"+impUID, "", "", "X-ImpTokenHeader", token).expect(t, 200, 0)
	s.do("GET", "/payments/"+impUID+"?_token="+token, "", "", "Authorization", "Bearer wrong").expect(t, 401, -1)
}

// No field of the model is of another type than the schema's, whatever the payment: a strict reader stops at the first.
func TestFieldsAreOfTheirTypes(t *testing.T) {
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
