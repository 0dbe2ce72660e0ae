package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// annotationFields are the fields of PaymentAnnotation in the documents.
const annotationFields = `imp_uid merchant_uid pay_method channel pg_provider emb_pg_provider pg_tid pg_id sandbox escrow
	apply_num bank_code bank_name card_code card_name card_issuer_code card_issuer_name card_publisher_code
	card_publisher_name card_quota card_number card_type vbank_code vbank_name vbank_num vbank_holder vbank_date
	vbank_issued_at name amount cancel_amount currency buyer_name buyer_email buyer_tel buyer_addr buyer_postcode
	custom_data user_agent status started_at paid_at failed_at cancelled_at fail_reason cancel_reason receipt_url
	cancel_history deposit_history cancel_receipt_urls cash_receipt_issued customer_uid customer_uid_usage promotion`

func TestIssueAnswersThePayment(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, Fractions: emulator.FractionsKeep})
	a := s.do("POST", "/cvs", asJSON, `{
		"merchant_uid":"주문-1","amount":15000.5,"name":"김밥 <참치> & 라면","buyer_name":"홍길동","buyer_email":"a@b.kr",
		"buyer_tel":"010-1234-5678","buyer_addr":"서울","buyer_postcode":"06234","pg":"galaxia.M1234567",
		"channel_key":"channel-key-1","custom_data":{"b":1,"a":["<x>"]},"unknown":{"kept":false}}`, "Tier", "001")
	a.expect(t, 200, 0)
	if a.header.Get("Content-Type") != "application/json; charset=utf-8" || !strings.Contains(a.raw, "<참치> & 라면") {
		t.Errorf("Content-Type %q with %s", a.header.Get("Content-Type"), a.raw)
	}
	var got map[string]any
	if err := json.Unmarshal(a.Response, &got); err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(annotationFields) {
		if _, ok := got[name]; !ok {
			t.Errorf("field %s is missing", name)
		}
	}
	for name, want := range map[string]any{
		"merchant_uid": "주문-1", "amount": 15000.5, "name": "김밥 <참치> & 라면", "buyer_name": "홍길동",
		"buyer_email": "a@b.kr", "buyer_tel": "010-1234-5678", "buyer_addr": "서울", "buyer_postcode": "06234",
		"pg_id": "M1234567", "pg_provider": "galaxia", "custom_data": `{"b":1,"a":["<x>"]}`, "status": "ready",
		"pay_method": "cvs", "sandbox": true, "currency": "KRW", "card_type": nil, "started_at": float64(c.now().Unix()),
		"paid_at": 0.0, "cancelled_at": 0.0, "failed_at": 0.0, "fail_reason": nil, "pg_tid": nil,
	} {
		if got[name] != want {
			t.Errorf("%s is %#v, want %#v", name, got[name], want)
		}
	}
	if !regexp.MustCompile(`^imp_\d{12}$`).MatchString(a.field("imp_uid")) {
		t.Errorf("imp_uid %q", a.field("imp_uid"))
	}
	if !regexp.MustCompile(`^\d{20}$`).MatchString(a.field("vbank_num")) {
		t.Errorf("barcode %q", a.field("vbank_num"))
	}
	want := emulator.Payment{
		ImpUID: a.field("imp_uid"), MerchantUID: "주문-1", Name: "김밥 <참치> & 라면", Amount: 15000.5, Status: "ready", PayMethod: "cvs",
		Barcode: a.field("vbank_num"), PG: "galaxia.M1234567", ChannelKey: "channel-key-1", Tier: "001",
		StartedAt: c.now().Unix(), ExpiredAt: c.now().Add(72 * time.Hour).Unix(),
	}
	if entry := s.Payments()[0]; fmt.Sprint(entry) != fmt.Sprint(want) {
		t.Errorf("ledger has\n%+v, want\n%+v", entry, want)
	}
}

func TestIssueLimits(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for name, limit := range map[string]int{
		"merchant_uid": 40, "name": 40, "buyer_name": 16, "buyer_email": 64, "buyer_tel": 16, "buyer_addr": 128,
		"buyer_postcode": 8,
	} {
		for _, encode := range []func(map[string]string) (string, string){formBody, jsonBody} {
			fields := map[string]string{"merchant_uid": "order", "amount": "1", name: strings.Repeat("한", limit)}
			contentType, body := encode(fields)
			a := s.do("POST", "/cvs", contentType, body)
			a.expect(t, 200, 0)
			if a.field(name) != fields[name] {
				t.Errorf("%s of %d characters came back as %q", name, limit, a.field(name))
			}
			fields[name] += "글"
			contentType, body = encode(fields)
			a = s.do("POST", "/cvs", contentType, body)
			a.expect(t, 400, -1)
			if a.Message == nil || !strings.Contains(*a.Message, fmt.Sprintf("%s: %d자를 넘을 수 없습니다", name, limit)) {
				t.Errorf("message for %s: %s", name, a.raw)
			}
		}
	}
}

func jsonBody(fields map[string]string) (contentType, body string) {
	b, _ := json.Marshal(fields)
	return asJSON, string(b)
}

func formBody(fields map[string]string) (contentType, body string) {
	form := url.Values{}
	for name, value := range fields {
		form.Set(name, value)
	}
	return asForm, form.Encode()
}

func TestIssueRefusesBadParameters(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	const order = `"merchant_uid":"order"`
	for _, test := range []struct{ name, body, message string }{
		{"no merchant_uid", `{"amount":1}`, "merchant_uid: 필수 파라미터입니다."},
		{"empty merchant_uid", `{"merchant_uid":"","amount":1}`, "merchant_uid: 필수 파라미터입니다."},
		{"null merchant_uid", `{"merchant_uid":null,"amount":1}`, "merchant_uid: 필수 파라미터입니다."},
		{"merchant_uid of the wrong type", `{"merchant_uid":{},"amount":1}`, "merchant_uid: 문자열이어야 합니다."},
		{"no amount", `{` + order + `}`, "amount: 필수 파라미터입니다."},
		{"empty amount", `{` + order + `,"amount":""}`, "amount: 필수 파라미터입니다."},
		{"amount 0", `{` + order + `,"amount":0}`, "amount: 0보다 커야 합니다."},
		{"negative amount", `{` + order + `,"amount":-1}`, "amount: 0보다 커야 합니다."},
		{"merchant_uid a number", `{"merchant_uid":10231,"amount":1}`, "merchant_uid: 문자열이어야 합니다."},
		{"name a number", `{` + order + `,"amount":1,"name":1}`, "name: 문자열이어야 합니다."},
		{"a fraction of a won", `{` + order + `,"amount":1.5}`, "amount: 원 단위의 정수여야 합니다."},
		{"a fraction of a won, as text", `{` + order + `,"amount":"15000.000000000002"}`, "amount: 원 단위의 정수여야 합니다."},
		{"amount in words", `{` + order + `,"amount":"천원"}`, "amount: 숫자여야 합니다."},
		{"amount NaN", `{` + order + `,"amount":"NaN"}`, "amount: 숫자여야 합니다."},
		{"amount Inf", `{` + order + `,"amount":"Inf"}`, "amount: 숫자여야 합니다."},
		{"amount true", `{` + order + `,"amount":true}`, "amount: 숫자여야 합니다."},
		{"amount in words that are JSON", `{` + order + `,"amount":"true"}`, "amount: 숫자여야 합니다."},
		{"endless amount", `{` + order + `,"amount":1e999}`, "amount: 숫자여야 합니다."},
		{"broken expired_at", `{` + order + `,"amount":1,"expired_at":1.5}`, "expired_at: 정수여야 합니다."},
		{"expired_at of the wrong type", `{` + order + `,"amount":1,"expired_at":[1]}`, "expired_at: 정수여야 합니다."},
		{"expired_at 0", `{` + order + `,"amount":1,"expired_at":0}`, "expired_at: Unix timestamp여야 합니다."},
		{"other pg", `{` + order + `,"amount":1,"pg":"danal"}`, "pg: "},
		{"pg without its id", `{` + order + `,"amount":1,"pg":"galaxia."}`, "pg: "},
		{"pg that looks like it", `{` + order + `,"amount":1,"pg":"galaxia2"}`, "pg: "},
		{"relative confirm_url", `{` + order + `,"amount":1,"confirm_url":"/confirm"}`, "confirm_url: "},
		{"confirm_url without host", `{` + order + `,"amount":1,"confirm_url":"http://:80/"}`, "confirm_url: "},
		{"confirm_url of another scheme", `{` + order + `,"amount":1,"confirm_url":"ftp://a/"}`, "confirm_url: "},
		{"confirm_url of the wrong type", `{` + order + `,"amount":1,"confirm_url":["http://a/"]}`, "confirm_url: "},
		{"bad notice_url", `{` + order + `,"amount":1,"notice_url":["http://a/","::"]}`, "notice_url: "},
		{"notice_url of the wrong type", `{` + order + `,"amount":1,"notice_url":[{}]}`, "notice_url: "},
		{"too many notice_urls", `{` + order + `,"amount":1,"notice_url":["http://a"` + strings.Repeat(`,"http://a"`, 10) + `]}`, "notice_url: 10"},
		{"several at once", `{"amount":0,"name":[]}`, "merchant_uid: 필수 파라미터입니다. name: 문자열이어야 합니다. amount: 0보다 커야 합니다."},
		{"broken JSON", `{` + order, "JSON"},
		{"JSON with a tail", `{` + order + `,"amount":1}{}`, "JSON"},
		{"no object", `[]`, "JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := s.do("POST", "/cvs", asJSON, test.body)
			a.expect(t, 400, -1)
			if a.Message == nil || !strings.Contains(*a.Message, test.message) {
				t.Errorf("message %s does not contain %q", a.raw, test.message)
			}
		})
	}
	if got := s.Payments(); len(got) != 0 {
		t.Errorf("%d payments were issued all the same", len(got))
	}
}

// A name in two forms is refused, whichever is read first.
func TestFormNamesAFieldOnce(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for range 20 {
		for _, twice := range []string{"merchant_uid=a&merchant_uid[0]=b", "merchant_uid=a&merchant_uid[]=b", "merchant_uid[]=a&merchant_uid[0]=b"} {
			s.do("POST", "/cvs", asForm, twice+"&amount=1").expect(t, 400, -1)
		}
	}
}

func TestIssueReadsAmounts(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Fractions: emulator.FractionsKeep})
	for raw, want := range map[string]string{
		`15000`: "15000", `"15000"`: "15000", `0.01`: "0.01", `1.5e3`: "1500",
	} {
		if got := s.issue(`"merchant_uid":"order","amount":` + raw).field("amount"); got != want {
			t.Errorf("amount %s came back as %s, want %s", raw, got, want)
		}
	}
}

func TestRoundAmounts(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Fractions: emulator.FractionsRound})
	for raw, want := range map[string]string{
		`15000`: "15000", `15000.4`: "15000", `"15000.5"`: "15001", `15000.5`: "15001", `15001.5`: "15002", `0.5`: "1", `1.5e3`: "1500",
	} {
		issued := s.issue(`"merchant_uid":"order","amount":` + raw)
		looked := s.get("/payments/" + issued.field("imp_uid") + "?include_sandbox=true")
		if issued.field("amount") != want || looked.field("amount") != want || fmt.Sprint(s.Payments()[0].Amount) != want {
			t.Errorf("amount %s came back as %s and then as %s, want %s", raw, issued.field("amount"), looked.field("amount"), want)
		}
	}
	before := len(s.Payments())
	for raw, message := range map[string]string{
		`0.4`: "amount: 0보다 커야 합니다.", `"0.49"`: "amount: 0보다 커야 합니다.", `-0.4`: "amount: 0보다 커야 합니다.",
		`0`: "amount: 0보다 커야 합니다.", `"x"`: "amount: 숫자여야 합니다.", `""`: "amount: 필수 파라미터입니다.",
	} {
		a := s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":`+raw+`}`)
		a.expect(t, 400, -1)
		if a.Message == nil || *a.Message != message {
			t.Errorf("amount %s: %s", raw, a.raw)
		}
	}
	if got := len(s.Payments()); got != before {
		t.Errorf("%d payments were issued all the same", got-before)
	}
}

func TestIssueBodies(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	const order = `{"merchant_uid":"order","amount":1}`
	for _, test := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"charset", "application/json;charset=UTF-8", order, 200},
		{"upper case", "Application/JSON", order, 200},
		{"form", asForm, "merchant_uid=order&amount=1&expired_at=&barcode=&confirm_url=&notice_url=&pg=", 200},
		{"no type", "", order, 415},
		{"text", "text/plain", order, 415},
		{"multipart", "multipart/form-data; boundary=x", order, 415},
		{"nothing", "", "", 400},
		{"null", asJSON, "null", 400},
		{"1 MiB", asJSON, order + strings.Repeat(" ", 1<<20-len(order)), 200},
		{"more than 1 MiB", asJSON, order + strings.Repeat(" ", 1<<20-len(order)+1), 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			code := -1
			if test.status == 200 {
				code = 0
			}
			s.do("POST", "/cvs", test.contentType, test.body).expect(t, test.status, code)
		})
	}
}

func TestIssueBrokenBody(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	rec := serve(s.Emulator, "POST", "/cvs", brokenReader{})
	if rec.Code != 400 {
		t.Errorf("a body that breaks off got %d", rec.Code)
	}
}

func TestCustomData(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, test := range []struct{ contentType, sent, want string }{
		{asJSON, `[1, "둘", {"c":  3}]`, `[1,"둘",{"c":3}]`},
		{asJSON, `{"z":1.10,"a":"<&>"}`, `{"z":1.10,"a":"<&>"}`},
		{asJSON, `"그대로"`, `그대로`},
		{asJSON, `"{\"a\":1}"`, `{"a":1}`},
		{asJSON, `12`, `12`},
		{asForm, `custom_data=%7B%22a%22%3A1%7D`, `{"a":1}`},
		{asForm, `custom_data[]=a&custom_data[]=b`, `["a","b"]`},
		{asForm, `custom_data[]=a`, `["a"]`},
	} {
		body := `{"merchant_uid":"order","amount":1,"custom_data":` + test.sent + `}`
		if test.contentType == asForm {
			body = "merchant_uid=order&amount=1&" + test.sent
		}
		a := s.do("POST", "/cvs", test.contentType, body)
		var got struct {
			CustomData string `json:"custom_data"`
		}
		if err := json.Unmarshal(a.Response, &got); err != nil {
			t.Fatal(err)
		}
		if got.CustomData != test.want {
			t.Errorf("custom_data %s came back as %q, want %q", test.sent, got.CustomData, test.want)
		}
	}
	for _, none := range []string{"", `,"custom_data":null`, `,"custom_data":""`} {
		if got := s.issue(`"merchant_uid":"order","amount":1` + none).field("custom_data"); got != "null" {
			t.Errorf("%q gave custom_data %s", none, got)
		}
	}
}

func TestWebhookURLs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, test := range []struct {
		contentType, body string
		want              []string
	}{
		{asJSON, `{"merchant_uid":"o","amount":1,"confirm_url":"http://a/c?q=1","notice_url":"http://a/n?q=2"}`, []string{"http://a/n?q=2"}},
		{asJSON, `{"merchant_uid":"o","amount":1,"confirm_url":"http://a/c?q=1","notice_url":["http://a/1","","http://a/2"]}`, []string{"http://a/1", "http://a/2"}},
		{asForm, "merchant_uid=o&amount=1&confirm_url=http://a/c?q=1&notice_url=http://a/1&notice_url=http://a/2", []string{"http://a/1", "http://a/2"}},
		{asForm, "merchant_uid=o&amount=1&confirm_url=http://a/c?q=1&notice_url[]=http://a/1", []string{"http://a/1"}},
		{asForm, "merchant_uid=o&amount=1&confirm_url=http://a/c?q=1&notice_url[1]=http://a/2&notice_url[0]=http://a/1", []string{"http://a/1", "http://a/2"}},
		{asForm, "merchant_uid=o&amount=1&confirm_url=http://a/c?q=1", nil},
		{asForm, "merchant_uid=o&amount=1&confirm_url=http://a/c?q=1" + strings.Repeat("&notice_url=http://a/1", 10), slices.Repeat([]string{"http://a/1"}, 10)},
	} {
		a := s.do("POST", "/cvs", test.contentType, test.body)
		confirm, notice := s.WebhookURLs(a.field("imp_uid"))
		if confirm != "http://a/c?q=1" || !slices.Equal(notice, test.want) {
			t.Errorf("%s: confirm %q, notice %q", test.body, confirm, notice)
		}
		if entry := s.Payments()[0]; entry.ConfirmURL != "http://a/c" || strings.Contains(fmt.Sprint(entry), "q=") {
			t.Errorf("the ledger shows a query: %+v", entry)
		}
	}
	if confirm, notice := s.WebhookURLs("imp_0"); confirm != "" || notice != nil {
		t.Errorf("an unknown payment has %q and %q", confirm, notice)
	}
}

func TestBarcodes(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	own := fmt.Sprintf(`"amount":1,"barcode":"88001","expired_at":%d`, c.now().Unix()+60)
	first := s.issue(`"merchant_uid":"one",` + own)
	if got := first.field("vbank_num"); got != "88001" {
		t.Errorf("the merchant's own barcode came back as %q", got)
	}
	reissue := func() envelope { return s.do("POST", "/cvs", asJSON, `{"merchant_uid":"two",`+own+`}`) }
	reissue().expect(t, 200, 1) // live
	c.advance(60 * time.Second)
	reissue().expect(t, 200, 1) // live until the deadline, the deadline included
	c.advance(time.Second)
	reissue().expect(t, 200, 0) // its deadline has passed
	s.do("DELETE", "/cvs/"+first.field("imp_uid"), "", "").expect(t, 200, 0)

	third := s.issue(`"merchant_uid":"three","amount":1,"barcode":"88002"`)
	s.do("DELETE", "/cvs/"+third.field("imp_uid"), "", "").expect(t, 200, 0)
	s.issue(`"merchant_uid":"three","amount":1,"barcode":"88002"`) // void, so free again
	other := s.as("other")
	other.do("POST", "/cvs", asJSON, `{"merchant_uid":"x","amount":1,"barcode":"88002"}`).expect(t, 200, 1)

	a, b := s.issue(`"merchant_uid":"four","amount":1`), s.issue(`"merchant_uid":"four","amount":1`)
	if a.field("vbank_num") == b.field("vbank_num") || a.field("imp_uid") == b.field("imp_uid") {
		t.Error("two barcodes for an unpaid order are the same")
	}
}

func TestPaidOrderIsRefused(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	second := s.issue(`"merchant_uid":"order","amount":1`)
	if code, result := s.scan(barcode, "cash"); code != 200 || !result.Accepted {
		t.Fatalf("scan: %d %+v", code, result)
	}
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":1}`).expect(t, 200, 1)
	s.do("DELETE", "/cvs/"+second.field("imp_uid"), "", "").expect(t, 200, 0)
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":1}`).expect(t, 200, 1) // the first is paid still
	s.as("other").issue(`"merchant_uid":"order","amount":1`)                              // another merchant's order
}

func TestVoid(t *testing.T) {
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

func TestPaymentNeedsIncludeSandbox(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	impUID := s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	for query, want := range map[string]int{
		"?include_sandbox=true": 200, "": 404, "?include_sandbox=false": 404, "?include_sandbox=": 404, "?include_sandbox=yes": 404,
	} {
		if a := s.get("/payments/" + impUID + query); a.status != want {
			t.Errorf("%q got %d, want %d", query, a.status, want)
		}
	}
	s.get("/payments/imp_0?include_sandbox=true").expect(t, 404, -1)
	s.as("other").get("/payments/"+impUID+"?include_sandbox=true").expect(t, 404, -1)
	if got := s.get("/payments/" + impUID + "?include_sandbox=true").field("merchant_uid"); got != "order" {
		t.Errorf("got the payment of %q", got)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	issue := func() envelope { return s.issue(`"merchant_uid":"order","amount":1`) }
	first, second := issue(), issue() // in the same second
	c.advance(time.Second)
	third := issue()
	c.advance(time.Second)
	s.do("DELETE", "/cvs/"+second.field("imp_uid"), "", "")
	s.scan(first.field("vbank_num"), "card") // the same second again
	names := map[string]string{
		first.field("imp_uid"): "first", second.field("imp_uid"): "second", third.field("imp_uid"): "third",
	}
	for query, want := range map[string]string{
		"": "third", "?sorting=-started": "third", "?sorting=started": "first",
		"?sorting=-paid": "first", "?sorting=-updated": "first", "?sorting=updated": "third",
		"/": "third", "/ready": "third", "/paid": "first", "/cancelled": "second", "/cancelled?sorting=started": "second",
	} {
		a := s.get("/payments/find/order" + query)
		a.expect(t, 200, 0)
		if got := names[a.field("imp_uid")]; got != want {
			t.Errorf("find %q gave the %s payment, want the %s", query, got, want)
		}
	}
	s.get("/payments/find/order/failed").expect(t, 404, -1)
	s.get("/payments/find/none").expect(t, 404, -1)
	s.as("other").get("/payments/find/order").expect(t, 404, -1)
	for _, bad := range []string{"order/all", "order/void", "order?sorting=amount", "order?sorting=--paid", "order?sorting=-"} {
		s.get("/payments/find/"+bad).expect(t, 400, -1)
	}
}

func TestFindCountsAnIssueAsAnUpdate(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Now: newClock().now})
	void := s.issue(`"merchant_uid":"order","amount":1`)
	s.do("DELETE", "/cvs/"+void.field("imp_uid"), "", "")
	newest := s.issue(`"merchant_uid":"order","amount":1`)
	if got := s.get("/payments/find/order?sorting=-updated").field("imp_uid"); got != newest.field("imp_uid") {
		t.Error("the void payment was updated last")
	}
}

func TestFindBreaksTiesByIssue(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Now: newClock().now})
	var last string
	for range 20 {
		last = s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	}
	if got := s.get("/payments/find/order").field("imp_uid"); got != last {
		t.Error("not the newest of the same second")
	}
}

func TestOrdersOfAnyName(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, order := range []string{"주문 1", "a/b", "a/ready", "..", "a%2Fb", "a?b=c", "100%", "a+b", "find", `"\`} {
		name, _ := json.Marshal(order)
		impUID := s.issue(`"amount":1,"merchant_uid":` + string(name)).field("imp_uid")
		for _, path := range []string{"", "/ready"} {
			if got := s.get("/payments/find/" + url.PathEscape(order) + path).field("imp_uid"); got != impUID {
				t.Errorf("order %q is not found at %q", order, path)
			}
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, TokenLife: 24 * time.Hour})
	start := c.now().Unix()
	var all []envelope
	for i := range 25 {
		all = append(all, s.issue(fmt.Sprintf(`"merchant_uid":"order-%d","amount":1`, i)))
		c.advance(time.Second)
	}
	s.as("other").issue(`"merchant_uid":"foreign","amount":1`)
	s.do("DELETE", "/cvs/"+all[3].field("imp_uid"), "", "")
	c.advance(time.Hour)
	s.scan(all[4].field("vbank_num"), "card")
	for _, test := range []struct {
		path                  string
		total, previous, next int
		first, last           string
		length                int
	}{
		{"all", 25, 0, 2, "order-24", "order-5", 20},
		{"all?page=2", 25, 1, 0, "order-4", "order-0", 5},
		{"all?page=2&limit=10", 25, 1, 3, "order-14", "order-5", 10},
		{"all?page=5&limit=5", 25, 4, 0, "order-4", "order-0", 5},
		{"all?limit=1000&sorting=started", 25, 0, 0, "order-0", "order-24", 25},
		{"ready?limit=1", 23, 0, 2, "order-24", "order-24", 1},
		{"ready?limit=100&sorting=started", 23, 0, 0, "order-0", "order-24", 23},
		{"paid", 1, 0, 0, "order-4", "order-4", 1},
		{"cancelled", 1, 0, 0, "order-3", "order-3", 1},
		{"failed", 0, 0, 0, "", "", 0},
		{"failed?page=1", 0, 0, 0, "", "", 0},
		{"all?sorting=-updated&limit=2", 25, 0, 2, "order-4", "order-3", 2},
		{fmt.Sprintf("all?from=%d&to=%d", start+3, start+5), 3, 0, 0, "order-5", "order-3", 3},
		{fmt.Sprintf("ready?from=%d&to=%d", start+3, start+5), 1, 0, 0, "order-5", "order-5", 1},
		{fmt.Sprintf("paid?to=%d", start+3600), 0, 0, 0, "", "", 0}, // by the time of payment, not of issue
		{fmt.Sprintf("paid?from=%d", start+3600), 1, 0, 0, "order-4", "order-4", 1},
		{fmt.Sprintf("cancelled?from=%d&to=%d", start+25, start+25), 1, 0, 0, "order-3", "order-3", 1},
		{fmt.Sprintf("all?to=%d", start-1), 0, 0, 0, "", "", 0},
		{"all?to=0", 0, 0, 0, "", "", 0},
	} {
		a := s.get("/payments/status/" + test.path)
		a.expect(t, 200, 0)
		var got struct {
			Total, Previous, Next int
			List                  []struct {
				MerchantUID string `json:"merchant_uid"`
			}
		}
		if err := json.Unmarshal(a.Response, &got); err != nil {
			t.Fatal(err)
		}
		if got.Total != test.total || got.Previous != test.previous || got.Next != test.next || len(got.List) != test.length {
			t.Errorf("%s: total %d previous %d next %d, %d listed", test.path, got.Total, got.Previous, got.Next, len(got.List))
			continue
		}
		if got.List == nil {
			t.Errorf("%s: list is null", test.path)
		}
		if test.length > 0 && (got.List[0].MerchantUID != test.first || got.List[test.length-1].MerchantUID != test.last) {
			t.Errorf("%s: from %s to %s", test.path, got.List[0].MerchantUID, got.List[test.length-1].MerchantUID)
		}
	}
	c.advance(91 * 24 * time.Hour)
	if got := s.as("key").get("/payments/status/all").field("total"); got != "0" {
		t.Errorf("%s payments are found 91 days later", got)
	}
}

func TestListRefusesBadQueries(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.issue(`"merchant_uid":"order","amount":1`)
	for _, bad := range []string{
		"void", "all?page=0", "all?page=2", "all?page=x", "all?page=9999999999999999999", "all?page=1125899906842624",
		"all?limit=0", "all?limit=1001", "all?limit=-1", "all?from=x", "all?to=-1", "all?to=x",
		"all?from=1&to=7776002", "all?sorting=name", "failed?page=2",
	} {
		s.get("/payments/status/"+bad).expect(t, 400, -1)
	}
	s.get("/payments/status/all?from=1&to=7776001").expect(t, 200, 0)
}

func TestRouting(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/users/getToken", 405, "POST"},
		{"GET", "/cvs", 405, "POST"},
		{"POST", "/cvs/imp_1", 405, "DELETE"},
		{"DELETE", "/payments/imp_1", 405, "GET, POST"},
		{"DELETE", "/payments/find/order", 405, "GET, POST"},
		{"PUT", "/payments/find/order/ready", 405, "GET, POST"},
		{"PUT", "/payments/status/all/", 405, "GET, POST"},
		{"GET", "/payments/cancel", 405, "POST"},
		{"DELETE", "/payments/prepare", 405, "POST, PUT"},
		{"GET", "/payments/findAll", 404, ""},
		{"GET", "/subscribe/payments/onetime", 405, "POST"},
		{"GET", "/till/", 404, ""},
		{"DELETE", "/till", 405, "GET, POST"},
		{"GET", "/till-faults", 405, "POST"},
		{"GET", "/till-normal", 405, "POST"},
		{"POST", "/till.js", 405, "GET"},
		{"POST", "/sandbox/payments", 405, "GET"},
		{"PUT", "/sandbox/faults", 405, "GET, POST, DELETE"},
		{"POST", "/", 405, "GET"},
		{"GET", "//", 404, ""},
		{"GET", "/payments/find/a/ready/c", 404, ""},
		{"POST", "/payments/cancel/now/please", 404, ""},
		{"GET", "/sandbox", 404, ""},
		{"POST", "/CVS", 404, ""},
	} {
		a := s.do(test.method, test.path, "", "")
		a.expect(t, test.status, -1)
		if got := a.header.Get("Allow"); got != test.allow {
			t.Errorf("%s %s: Allow %q, want %q", test.method, test.path, got, test.allow)
		}
	}
	if got := s.Requests(emulator.EndpointIssue); got != 0 {
		t.Errorf("%d requests of a wrong method were counted", got)
	}
}

func TestLedgerIsBounded(t *testing.T) {
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

// A barcode that was given out again belongs to the newer payment, also when the older is forgotten.
func TestForgettingKeepsNewerBarcode(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{MaxPayments: 1})
	old := s.issue(`"merchant_uid":"old","amount":1,"barcode":"1"`)
	s.do("DELETE", "/cvs/"+old.field("imp_uid"), "", "")
	s.issue(`"merchant_uid":"new","amount":1,"barcode":"1"`)
	if code, result := s.scan("1", "card"); code != 200 || result.Payment.MerchantUID != "new" {
		t.Errorf("scan: %d %+v", code, result)
	}
}
