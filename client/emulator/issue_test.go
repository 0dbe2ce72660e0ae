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

func TestIssueReturnsPayment(t *testing.T) {
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

func TestIssueLimitsTextLengths(t *testing.T) {
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

func TestIssueRejectsInvalidParameters(t *testing.T) {
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

func TestIssueKeepsAmounts(t *testing.T) {
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

func TestIssueRoundsAmounts(t *testing.T) {
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

func TestIssueStoresCustomData(t *testing.T) {
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

func TestIssueReadsWebhookURLs(t *testing.T) {
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

func TestIssueRefusesBarcodeInUse(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	own := fmt.Sprintf(`"amount":1,"barcode":"88001","expired_at":%d`, c.now().Unix()+60)
	first := s.issue(`"merchant_uid":"one",` + own)
	if got := first.field("vbank_num"); got != "88001" {
		t.Errorf("the merchant's own barcode came back as %q", got)
	}
	reissue := func() envelope { return s.do("POST", "/cvs", asJSON, `{"merchant_uid":"two",`+own+`}`) }
	reissue().expect(t, 200, 1) // still payable
	c.advance(60 * time.Second)
	reissue().expect(t, 200, 1) // still payable at the deadline
	c.advance(time.Second)
	reissue().expect(t, 200, 0) // its deadline has passed
	s.do("DELETE", "/cvs/"+first.field("imp_uid"), "", "").expect(t, 200, 0)

	third := s.issue(`"merchant_uid":"three","amount":1,"barcode":"88002"`)
	s.do("DELETE", "/cvs/"+third.field("imp_uid"), "", "").expect(t, 200, 0)
	s.issue(`"merchant_uid":"three","amount":1,"barcode":"88002"`) // free, because the payment is void
	other := s.as("other")
	other.do("POST", "/cvs", asJSON, `{"merchant_uid":"x","amount":1,"barcode":"88002"}`).expect(t, 200, 1)

	a, b := s.issue(`"merchant_uid":"four","amount":1`), s.issue(`"merchant_uid":"four","amount":1`)
	if a.field("vbank_num") == b.field("vbank_num") || a.field("imp_uid") == b.field("imp_uid") {
		t.Error("two barcodes for an unpaid order are the same")
	}
}

func TestIssueRefusesPaidOrder(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	second := s.issue(`"merchant_uid":"order","amount":1`)
	if code, result := s.scan(barcode, "cash"); code != 200 || !result.Accepted {
		t.Fatalf("scan: %d %+v", code, result)
	}
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":1}`).expect(t, 200, 1)
	s.do("DELETE", "/cvs/"+second.field("imp_uid"), "", "").expect(t, 200, 0)
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":1}`).expect(t, 200, 1) // the first barcode is still paid
	s.as("other").issue(`"merchant_uid":"order","amount":1`)                              // another merchant's order
}
