package tillpage_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator/tillpage"
)

func get(load func(tillpage.Query) tillpage.Page, target, language string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	tillpage.Handler(load)(w, r)
	return w
}

// The page shows the data that it is given, without an emulator.
func TestHandlerRendersData(t *testing.T) {
	t.Parallel()
	load := func(query tillpage.Query) tillpage.Page {
		payment := tillpage.Payment{
			ImpUID: "imp_1", MerchantUID: "order-1", Name: "우산", Amount: 15000, Barcode: "88001234", State: "expired", ExpiredAt: 1_790_000_000,
		}
		return tillpage.Page{
			Query: query, Selected: &payment, Payments: []tillpage.Payment{payment}, Matches: 45, Counts: map[string]int{"expired": 45},
			Scans: []tillpage.Scan{
				{ID: 3, Barcode: "88001234", NotAsked: "expired"},
				{ID: 2, Barcode: "1", NotAsked: "unknown"},
				{ID: 1, Barcode: "88001234", PayType: "card", Result: tillpage.Result{
					Accepted: true, ImpUID: "imp_1", Status: "paid",
					Confirm: &tillpage.Webhook{URL: "http://shop.example/confirm", Status: 200, Body: []byte(`{"accepted":true}`)},
				}},
			},
			Faults: []tillpage.Fault{
				{Endpoint: "issue", Times: 2, Delay: time.Second, Effect: "status", Number: 503},
				{Endpoint: "confirm", Effect: "forged_amount"},
			},
		}
	}
	for language, texts := range map[string][]string{
		"ko": {"15,000원", "기한 지남 45", "납부 기한이 지났습니다", "발급되지 않은 바코드입니다", "결제되었습니다", "바코드 발급: POST /cvs (앞으로 2번): 지연 1s, HTTP 상태 503", "다른 금액"},
		"en": {"15,000 KRW", "Expired 45", "The deadline has passed", "No such barcode was issued", "Barcode: POST /cvs (the next 2): Delay 1s, HTTP status 503", "Wrong amount"},
	} {
		w := get(load, "/till?barcode=88001234&page=2&q=+order+", language)
		if w.Code != 200 {
			t.Errorf("%s: %d", language, w.Code)
		}
		page := w.Body.String()
		for _, want := range append(texts, `<html lang="`+language+`">`, "8800 1234", "2 / 3", `value="order"`, "http://shop.example/confirm") {
			if !strings.Contains(page, want) {
				t.Errorf("%s: %q is not in %s", language, want, page)
			}
		}
	}
}

func TestReadQueryDefaults(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]tillpage.Query{
		"":                             {Page: 1},
		"page=x&state=paid":            {Page: 1, State: "paid"},
		"page=0&pay_type=cash":         {Page: 1, PayType: "cash"},
		"page=7&q=+a+b+&barcode=1%202": {Page: 7, Text: "a b", Barcode: "1 2"},
	} {
		values, _ := url.ParseQuery(raw)
		if got := tillpage.ReadQuery(values); got != want {
			t.Errorf("%s: %+v, want %+v", raw, got, want)
		}
	}
}
