package tillpage_test

import (
	"context"
	"html"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator/tillpage"
)

func get(load func(context.Context, tillpage.Query) tillpage.Page, target, language string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	tillpage.Handler(load)(w, r)
	return w
}

// The page shows the data that it is given, without an emulator.
func TestHandlerRendersData(t *testing.T) {
	t.Parallel()
	load := func(_ context.Context, query tillpage.Query) tillpage.Page {
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
				{Endpoint: "issue", Times: 2, Effects: []tillpage.Effect{{Value: "delay", Detail: "1s"}, {Value: "status", Detail: "503"}}},
				{Endpoint: "confirm", Effects: []tillpage.Effect{{Value: "forged_amount"}}},
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

// Each way in which a scan can end has its words in both languages.
func TestHandlerTellsHowAScanEnded(t *testing.T) {
	t.Parallel()
	confirm := func(status int, change func(*tillpage.Webhook)) *tillpage.Webhook {
		w := &tillpage.Webhook{URL: "http://shop.example/confirm?a=1&b=2", Status: status, Sent: []byte(`{"event":"x"}`), Body: []byte(`"plain text"`)}
		if change != nil {
			change(w)
		}
		return w
	}
	foreign := func(w *tillpage.Webhook) { w.NotCvsConfirm = true }
	for name, tc := range map[string]struct {
		scan tillpage.Scan
		ko   string
		en   string
	}{
		"void":            {tillpage.Scan{NotAsked: "cancelled"}, "말소된 바코드입니다", "This barcode is void"},
		"paid before":     {tillpage.Scan{NotAsked: "paid"}, "이미 결제된 바코드입니다", "This barcode is paid already"},
		"refused":         {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(409, nil), Reason: "품절"}}, "게이트웨이가 거절했습니다", "The gateway refused"},
		"timed out":       {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(0, func(w *tillpage.Webhook) { w.Error = "no answer within 10s" })}}, "10s 안에 응답이 없었습니다", "no answer within 10s"},
		"not sent":        {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(0, func(w *tillpage.Webhook) { w.Error = "sandbox fault: the webhook was not sent" })}}, "장애: 웹훅을 보내지 않았습니다", "sandbox fault: the webhook was not sent"},
		"answer lost":     {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(0, func(w *tillpage.Webhook) { w.Error = "sandbox fault: the answer was lost" })}}, "장애: 응답을 잃었습니다", "sandbox fault: the answer was lost"},
		"network":         {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(0, func(w *tillpage.Webhook) { w.Error = "connection refused" })}}, "connection refused", "connection refused"},
		"foreign 200":     {tillpage.Scan{Result: tillpage.Result{Accepted: true, Confirm: confirm(200, foreign)}}, "cvs_confirm의 승인 없이 결제되었습니다", "Paid, but cvs_confirm did not accept it"},
		"foreign, unpaid": {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(200, foreign)}}, "결제되지 않았습니다", "Not paid"},
		"other till":      {tillpage.Scan{Result: tillpage.Result{Status: "paid", Confirm: confirm(200, nil)}}, "다른 계산대가 먼저 결제했습니다.", "The other till was faster."},
		"voided":          {tillpage.Scan{Result: tillpage.Result{Status: "cancelled", Confirm: confirm(200, nil)}}, "그사이 바코드가 말소되었습니다.", "The barcode was voided meanwhile."},
		"no confirm_url":  {tillpage.Scan{Result: tillpage.Result{Accepted: true, Status: "paid"}}, "confirm_url이 없어 묻지 않았습니다", "No confirm_url: nobody was asked"},
		"notice only":     {tillpage.Scan{Result: tillpage.Result{NoticeOnly: true, Status: "paid", Notices: []tillpage.Webhook{*confirm(200, nil)}}}, "통보를 보냈습니다", "The notice was sent"},
		"refund":          {tillpage.Scan{Refund: 4000, Result: tillpage.Result{Accepted: true, NoticeOnly: true, Status: "cancelled", Refunded: 4000, Left: 11000}}, "환불했습니다: 4,000원", "Refunded 4,000 KRW"},
		"in part":         {tillpage.Scan{Refund: 4000, Result: tillpage.Result{Accepted: true, NoticeOnly: true, Status: "cancelled", Refunded: 4000, Left: 11000}}, "<em lang=\"ko\">일부 환불</em>", "<em lang=\"en\">Refunded in part</em>"},
		"as a whole":      {tillpage.Scan{Refund: 4000, Result: tillpage.Result{Accepted: true, NoticeOnly: true, Status: "cancelled", Refunded: 4000}}, "<em lang=\"ko\">환불</em>", "<em lang=\"en\">Refunded</em>"},
		"not refunded":    {tillpage.Scan{NotAsked: tillpage.NotRefunded}, "환불할 수 없습니다", "This cannot be refunded"},
		"notice later":    {tillpage.Scan{Result: tillpage.Result{Accepted: true, Notices: []tillpage.Webhook{{Error: "sandbox fault: the webhook is sent after 3s"}}}}, "장애: 웹훅을 3s 뒤에 보냅니다", "sandbox fault: the webhook is sent after 3s"},
		"twice":           {tillpage.Scan{Scenario: "twice", Second: &tillpage.Result{Confirm: confirm(409, nil)}}, "두 번째 계산대: 게이트웨이가 거절했습니다", "The second till: The gateway refused"},
		"sent again":      {tillpage.Scan{Result: tillpage.Result{Confirm: confirm(200, func(w *tillpage.Webhook) { w.Duplicate = confirm(200, nil) })}}, "승인 웹훅, 다시", "Confirm webhook, again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			load := func(context.Context, tillpage.Query) tillpage.Page {
				return tillpage.Page{Scans: []tillpage.Scan{tc.scan}}
			}
			for language, want := range map[string]string{"ko": tc.ko, "en": tc.en} {
				if page := get(load, "/till", language).Body.String(); !strings.Contains(html.UnescapeString(page), want) {
					t.Errorf("%s: %q is not in %s", language, want, page)
				}
			}
		})
	}
}

// The state of the gateway has its words in both languages. A sandbox alone shows none.
func TestHandlerShowsTheGateway(t *testing.T) {
	t.Parallel()
	because := func(reasons ...tillpage.Reason) *tillpage.Gateway { return &tillpage.Gateway{Reasons: reasons} }
	for _, tc := range []struct {
		gateway *tillpage.Gateway
		ko, en  string
	}{
		{&tillpage.Gateway{}, "<strong>게이트웨이</strong>: 준비됨", "<strong>Gateway</strong>: ready"},
		{because(tillpage.Reason{Kind: "slow"}), "<strong>게이트웨이</strong>: 준비되지 않음", "<strong>Gateway</strong>: not ready"},
		{because(tillpage.Reason{Kind: "slow"}), "<li>원장이 제때 응답하지 않습니다.</li>", "<li>The ledger does not answer in time.</li>"},
		{because(tillpage.Reason{Kind: "degraded"}), "<li>원장을 쓸 수 없습니다.</li>", "<li>The ledger cannot be used.</li>"},
		{because(tillpage.Reason{Kind: "token", Cause: "credentials"}), "<li>액세스 토큰을 받지 못했습니다: 키가 맞지 않습니다</li>", "<li>No access token: wrong keys</li>"},
		{because(tillpage.Reason{Kind: "token", Account: "b", Cause: "refused"}), "<li>계정 b: 액세스 토큰을 받지 못했습니다: API가 거절했습니다</li>", "<li>Account b: No access token: the API refuses</li>"},
		{because(tillpage.Reason{Kind: "token", Cause: "throttled"}), "요청이 너무 잦습니다", "asked too often"},
		{because(tillpage.Reason{Kind: "token", Cause: "foreign"}), "API의 응답이 아니거나 5xx입니다", "not the API's answer, or a 5xx"},
		{because(tillpage.Reason{Kind: "token", Cause: "unreachable"}), "연결할 수 없습니다", "no connection"},
		{because(tillpage.Reason{Kind: "token", Cause: "timeout"}), "제때 응답이 없습니다", "no answer in time"},
		{because(tillpage.Reason{Kind: "token", Cause: "broken"}), "연결이 끊겼습니다", "the connection broke"},
		{because(tillpage.Reason{Kind: "token", Cause: "a new one"}), "a new one", "a new one"},
		{because(tillpage.Reason{Kind: "more", More: 9990}), "<li>그 밖의 계정 9,990개</li>", "<li>9,990 more accounts</li>"},
		{because(tillpage.Reason{Kind: "another"}), "<li>another</li>", "<li>another</li>"},
	} {
		load := func(context.Context, tillpage.Query) tillpage.Page { return tillpage.Page{Gateway: tc.gateway} }
		for language, want := range map[string]string{"ko": tc.ko, "en": tc.en} {
			if page := get(load, "/till", language).Body.String(); !strings.Contains(html.UnescapeString(page), want) {
				t.Errorf("%s: %q is not in %s", language, want, page)
			}
		}
	}
	alone := func(context.Context, tillpage.Query) tillpage.Page { return tillpage.Page{} }
	if page := get(alone, "/till", "en").Body.String(); strings.Contains(page, "<strong>Gateway</strong>") {
		t.Error(page)
	}
}

// The language that a customer chose is kept in a cookie, and outranks the browser's.
func TestHandlerKeepsTheChosenLanguage(t *testing.T) {
	t.Parallel()
	load := func(context.Context, tillpage.Query) tillpage.Page { return tillpage.Page{} }
	w := get(load, "/till?lang=en&barcode=1", "ko")
	cookies := w.Result().Cookies()
	if w.Code != 303 || w.Header().Get("Location") != "till?barcode=1" || len(cookies) != 1 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	r := httptest.NewRequest("GET", "/till", nil)
	r.Header.Set("Accept-Language", "ko")
	r.AddCookie(cookies[0])
	w = httptest.NewRecorder()
	tillpage.Handler(load)(w, r)
	if !strings.Contains(w.Body.String(), `<html lang="en">`) {
		t.Error(w.Body)
	}
}
