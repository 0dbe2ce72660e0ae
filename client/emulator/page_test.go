package emulator_test

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

const asHTML = "text/html,application/xhtml+xml"

// page returns the till's page as a browser gets it.
func (s *sandbox) page(query string, header ...string) string {
	s.t.Helper()
	a := s.do("GET", "/till"+query, "", "", append([]string{"Accept", asHTML}, header...)...)
	if a.status != 200 {
		s.t.Fatalf("GET /till%s: %d", query, a.status)
	}
	return a.raw
}

// submit posts a form of the page without following the redirect, and returns where that leads.
func (s *sandbox) submit(path string, form url.Values) (status int, location string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", s.server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", asForm)
	req.Header.Set("Accept", asHTML)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location")
}

// words returns a page's text without its markup.
func words(page string) string {
	page = strings.ReplaceAll(page, "<wbr>", "")
	page = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(page)), " ")
}

func mustContain(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}

func TestPageShowsPaymentStates(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, Deadline: time.Hour})
	g := newGateway(t, status(200))
	barcodes := map[string]string{}
	for _, name := range []string{"paid", "void", "expired"} {
		barcodes[name] = s.order("order-"+name, g).field("vbank_num")
	}
	s.scan(barcodes["paid"], "cash")
	s.do("DELETE", "/cvs/"+s.get("/payments/find/order-void").field("imp_uid"), "", "")
	c.advance(time.Hour + time.Second)
	s.token = s.login("key", "secret")
	barcodes["waiting"] = s.order("order-waiting", g).field("vbank_num")

	korean := words(s.page("?barcode=" + barcodes["waiting"]))
	mustContain(t, korean, "편의점 계산대 샌드박스", "돈이 오가지 않습니다", "결제 대기 1 · 결제 완료 1 · 말소 1 · 기한 지남 1", "15,000원")
	english := words(s.page("?barcode="+barcodes["waiting"], "Accept-Language", "fr, en-US;q=0.9, ko;q=0.1"))
	mustContain(t, english, "Convenience-store till Sandbox", "no money moves", "Waiting 1 · Paid 1 · Void 1 · Expired 1", "15,000 KRW")
	for name, state := range map[string]string{"waiting": "ready", "paid": "paid", "void": "cancelled", "expired": "expired"} {
		list := s.page("?state=" + state)
		mustContain(t, list, "order-"+name+"</a>", barcodes[name])
		for other := range barcodes {
			if other != name && strings.Contains(list, "order-"+other+"</a>") {
				t.Errorf("%s is listed as %s", other, state)
			}
		}
	}
	mustContain(t, s.page(""), `<html lang="ko">`)
	// Four in the list, and the selected one on the till.
	if n := strings.Count(s.page("?barcode="+barcodes["waiting"]), "<svg "); n != 5 {
		t.Errorf("%d barcodes are drawn", n)
	}
}

func TestPageTimesAreKorean(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Now: func() time.Time { return time.Date(2026, 12, 31, 15, 0, 0, 0, time.UTC) }, Deadline: time.Hour, Fractions: emulator.FractionsKeep})
	s.issue(`"merchant_uid":"order","amount":1234567.5`)
	mustContain(t, words(s.page("")), "기한 2027-01-01 01:00", "1,234,567.5원")
	mustContain(t, words(s.page("", "Accept-Language", "en")), "until 1 Jan 2027, 01:00 KST", "1,234,567.5 KRW")
}

func TestPageUsesChosenOrAcceptedLanguage(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, test := range []struct{ accept, cookie, want string }{
		{"", "", "ko"},
		{"fr", "", "ko"},
		{"en", "", "en"},
		{"ko-KR,ko;q=0.9,en;q=0.8", "", "ko"},
		{"de, en-GB;q=0.7", "", "en"},
		{"en", "cvs_sandbox_lang=ko", "ko"},
		{"ko", "cvs_sandbox_lang=en", "en"},
		{"en", "cvs_sandbox_lang=xx", "en"},
	} {
		mustContain(t, s.page("", "Accept-Language", test.accept, "Cookie", test.cookie), `<html lang="`+test.want+`">`)
	}
	rec := serve(s.Emulator, "GET", "/till?barcode=1+2&lang=en&page=2", nil)
	if rec.Code != 303 || rec.Header().Get("Location") != "till?barcode=1+2&page=2" ||
		rec.Header().Get("Set-Cookie") != "cvs_sandbox_lang=en; Path=/; HttpOnly; SameSite=Lax" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
	if rec := serve(s.Emulator, "GET", "/till?lang=xx", nil); rec.Code != 200 || rec.Header().Get("Set-Cookie") != "" {
		t.Errorf("unknown language: %d %v", rec.Code, rec.Header())
	}
	mustContain(t, s.page("?barcode=1&q=a%26b"), `href="till?barcode=1&amp;q=a%26b&amp;lang=en"`)
	mustContain(t, s.page(""), `href="till?lang=en"`)
}

func TestRootRedirectsToTill(t *testing.T) {
	t.Parallel()
	if rec := serve(emulator.New(emulator.Options{}), "GET", "/?barcode=1", nil); rec.Code != 303 || rec.Header().Get("Location") != "till?barcode=1" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

// What a merchant, a buyer or a gateway writes is never read as HTML.
func TestPageEscapesForeignText(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(409)
		_, _ = fmt.Fprintf(w, `{"reason":%q}`, evil)
	})
	barcode := `7"><script>`
	s.issue(fmt.Sprintf(`"merchant_uid":%q,"name":%q,"barcode":%q,"amount":1,"confirm_url":"%s/%%22><script>"`,
		`"><script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, barcode, g.URL))
	s.submit("/till", url.Values{"barcode": {barcode}, "pay_type": {"card"}})
	s.submit("/till", url.Values{"barcode": {evil}, "pay_type": {"card"}})
	page := s.page("?"+url.Values{"barcode": {barcode}, "q": {`"`}, "state": {evil}, "pay_type": {evil}}.Encode()) +
		s.page("?"+url.Values{"barcode": {evil}, "q": {evil}}.Encode()) + s.page("?barcode="+url.QueryEscape(barcode))
	if strings.Count(page, "<script") != 3 || strings.Contains(page, "<img") || strings.Contains(page, "javascript:") {
		t.Errorf("not escaped: %s", page)
	}
	mustContain(t, words(page), evil, barcode)
}

func TestPageLoadsOnlyItsOwnFiles(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.order("order", newGateway(t, status(200)))
	for path, contentType := range map[string]string{
		"/till":     "text/html; charset=utf-8",
		"/till.css": "text/css; charset=utf-8",
		"/till.js":  "text/javascript; charset=utf-8",
		"/till.svg": "image/svg+xml",
	} {
		rec := serve(s.Emulator, "GET", path, nil)
		h := rec.Header()
		if rec.Code != 200 || h.Get("Content-Type") != contentType || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("X-Cvs-Sandbox") != "true" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, rec.Code, h)
		}
		policy := h.Get("Content-Security-Policy")
		mustContain(t, policy, "default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'")
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s: %s", path, policy)
		}
		// No other site is named, except by the SVG namespace, which is a name and is not loaded.
		for _, m := range regexp.MustCompile(`(?:https?:)?//[\w.-]+\.\w+`).FindAllString(rec.Body.String(), -1) {
			if m != "http://www.w3.org" {
				t.Errorf("%s names %s", path, m)
			}
		}
	}
}

func TestPageIsNotSentAgainUnchanged(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	tag := serve(s.Emulator, "GET", "/till", nil).Header().Get("ETag")
	if rec := serve(s.Emulator, "GET", "/till", nil, "If-None-Match", tag); rec.Code != 304 || rec.Body.Len() != 0 {
		t.Errorf("unchanged: %d", rec.Code)
	}
	s.issue(`"merchant_uid":"order","amount":1`)
	rec := serve(s.Emulator, "GET", "/till", nil, "If-None-Match", tag)
	if rec.Code != 200 || rec.Header().Get("ETag") == tag {
		t.Errorf("changed: %d %v", rec.Code, rec.Header())
	}
}

func TestPageListsPayments(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for i := range 45 {
		s.issue(fmt.Sprintf(`"merchant_uid":"order-%02d","name":"우산 %02d","amount":1,"barcode":"9000%02d"`, i, i, i))
	}
	listed := func(query string) string {
		var found []string
		for _, m := range regexp.MustCompile(`order-(\d\d)</a>`).FindAllStringSubmatch(s.page(query), -1) {
			found = append(found, m[1])
		}
		return strings.Join(found, " ")
	}
	for query, want := range map[string]string{
		"":                         "44 43 42 41 40 39 38 37 36 35 34 33 32 31 30 29 28 27 26 25",
		"?page=3":                  "04 03 02 01 00",
		"?page=4":                  "",
		"?page=-1&q=900044":        "44",
		"?q=order-07":              "07",
		"?q=%EC%9A%B0%EC%82%B0+12": "12",
		"?q=none":                  "",
		"?state=paid":              "",
	} {
		if got := listed(query); got != want {
			t.Errorf("%q lists %s", query, got)
		}
	}
	first, last := s.page("?q=9"), s.page("?q=9&page=3")
	mustContain(t, first, "1 / 3", `href="till?page=2&amp;q=9#list-title"`)
	mustContain(t, last, "3 / 3", `href="till?page=2&amp;q=9#list-title"`)
	mustContain(t, s.page("?page=9"), `href="till?page=3#list-title"`)
	if strings.Contains(first, "Newer") || strings.Contains(last, "이전 →") {
		t.Error("the page links to a page of the list that does not exist")
	}
	mustContain(t, words(s.page("?q=none")), "맞는 바코드가 없습니다")
	mustContain(t, words(newSandbox(t, emulator.Options{}).page("")), "아직 발급된 바코드가 없습니다", "아직 아무 바코드도 스캔하지 않았습니다")
}

func TestPageScansBarcode(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	grouped := barcode[:4] + " " + barcode[4:8] + "  " + barcode[8:]
	status, location := s.submit("/till?q=order&page=1", url.Values{"barcode": {" " + grouped}, "pay_type": {"cash"}})
	if status != 303 || location != "till?barcode="+barcode+"&page=1&pay_type=cash&q=order" {
		t.Errorf("%d %s", status, location)
	}
	if p := s.Payments()[0]; p.Status != "paid" || p.PayType != "cash" {
		t.Errorf("%+v", p)
	}
	if _, location = s.submit("/till", url.Values{"barcode": {"77 88"}}); location != "till?barcode=7788&pay_type=card" {
		t.Error(location)
	}
	own := s.issue(`"merchant_uid":"own","amount":1,"barcode":"A 1"`)
	if _, location = s.submit("/till", url.Values{"barcode": {"A 1"}}); location != "till?barcode=A+1&pay_type=card" || s.Payments()[0].Status != "paid" {
		t.Errorf("%s %+v", location, own)
	}
	for _, form := range []url.Values{
		{"barcode": {""}},
		{"barcode": {"1"}, "pay_type": {"gold"}},
		{"barcode": {"1"}, "scenario": {"thrice"}},
	} {
		if status, _ := s.submit("/till", form); status != 400 {
			t.Errorf("%v: %d", form, status)
		}
	}
	_ = s.Close()
	if status, _ := s.submit("/till", url.Values{"barcode": {"1"}}); status != 503 {
		t.Errorf("closed: %d", status)
	}
}

func TestPageShowsUnencodableBarcodeWithoutPicture(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.issue(`"merchant_uid":"order","amount":1,"barcode":"바코드"`)
	mustContain(t, words(s.page("?barcode=바코드")), "이 번호는 Code 128로 그릴 수 없습니다.", "order")
	mustContain(t, words(s.page("?barcode=none")), "이 번호로 발급된 바코드가 없습니다.")
}

// The page shows each outcome of a scan in both languages.
func TestPageShowsOutcomeOfScan(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		handle http.HandlerFunc
		fault  emulator.Fault
		times  int // scans
		req    emulator.ScanRequest
		ko, en []string
	}{
		{
			name: "paid", handle: accepts, req: emulator.ScanRequest{PayType: "cash"}, times: 1,
			ko: []string{"결제되었습니다", "· 현금", "승인 웹훅 POST", `"payType": "cash"`, "응답 200 OK ·", "결제 상태 결제 대기 → 결제 완료", "통보 웹훅 POST", "cvs_sig=…"},
			en: []string{"Paid", "· Cash", "Confirm webhook POST", "Answer 200 OK ·", "Payment Waiting → Paid", "Notice webhook POST"},
		},
		{
			name: "paid by a 200 from another program", handle: answers("<h1>Welcome</h1>"), times: 1,
			ko: []string{
				"cvs_confirm의 승인 없이 결제되었습니다", "주의: 이 200 응답은 cvs_confirm이 보낸 것이 아닙니다.", "라우트 순서를 확인하세요.",
				"응답 cvs_confirm의 응답이 아닙니다 200 OK ·", "결제 상태 결제 대기 → 결제 완료",
			},
			en: []string{
				"Paid, but cvs_confirm did not accept it", `Warning: This 200 did not come from cvs_confirm, which answers {"accepted":true}.`,
				"Answer not from cvs_confirm 200 OK ·", "Payment Waiting → Paid",
			},
		},
		{
			name: "void, and a 200 from another program", handle: status(200), req: emulator.ScanRequest{Scenario: emulator.ScenarioVoid}, times: 1,
			ko: []string{"결제되지 않았습니다 그사이 바코드가 말소되었습니다.", "주의: 이 200 응답은"},
			en: []string{"Not paid The barcode was voided meanwhile.", "Warning: This 200 did not"},
		},
		{
			name: "twice, and a 200 from another program", handle: status(200), req: emulator.ScanRequest{Scenario: emulator.ScenarioTwice}, times: 1,
			ko: []string{"cvs_confirm의 승인 없이 결제되었습니다", "두 번째 계산대: 결제되지 않았습니다 다른 계산대가 먼저 결제했습니다."},
			en: []string{"Paid, but cvs_confirm did not accept it", "The second till: Not paid The other till was faster."},
		},
		{
			name: "refused", times: 1, handle: func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(409)
				_, _ = io.WriteString(w, `{"accepted":false,"reason":"품절"}`)
			},
			ko: []string{"게이트웨이가 거절했습니다 품절", "· 카드", "응답 409 Conflict", `"accepted": false`, "결제 상태 결제 대기 imp_", "마지막 거절 품절"},
			en: []string{"The gateway refused 품절", "Payment Waiting imp_"},
		},
		{
			name: "refused without reason", handle: status(403), times: 1,
			ko: []string{"게이트웨이가 거절했습니다", "403 Forbidden"}, en: []string{"The gateway refused"},
		},
		{
			name: "no answer", times: 1, handle: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			ko: []string{"게이트웨이의 응답을 받지 못했습니다", "EOF"}, en: []string{"No answer from the gateway"},
		},
		{
			name: "not sent", handle: accepts, fault: emulator.Fault{Endpoint: emulator.EndpointConfirm, Drop: emulator.DropBefore}, times: 1,
			ko: []string{"게이트웨이의 응답을 받지 못했습니다 장애: 웹훅을 보내지 않았습니다"}, en: []string{"No answer from the gateway"},
		},
		{
			name: "response lost", handle: accepts, fault: emulator.Fault{Endpoint: emulator.EndpointConfirm, Drop: emulator.DropAfter}, times: 1,
			ko: []string{"게이트웨이의 응답을 받지 못했습니다 장애: 응답을 잃었습니다"}, en: []string{"No answer from the gateway sandbox fault: the answer was lost"},
		},
		{name: "HTML response", times: 1, handle: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(502)
			_, _ = io.WriteString(w, "<h1>Bad Gateway</h1>")
		}, ko: []string{"502 Bad Gateway", "<h1>Bad Gateway</h1>"}, en: []string{"The gateway refused"}},
		{
			name: "twice", handle: accepts, req: emulator.ScanRequest{Scenario: emulator.ScenarioTwice}, times: 1,
			ko: []string{"결제되었습니다", "두 계산대에서 동시에", "두 번째 계산대: 승인되었지만 결제되지 않았습니다 다른 계산대가 먼저 결제했습니다."},
			en: []string{"At two tills at once", "The second till: Acceptable, but not paid The other till was faster."},
		},
		{
			name: "void", handle: accepts, req: emulator.ScanRequest{Scenario: emulator.ScenarioVoid}, times: 1,
			ko: []string{"승인되었지만 결제되지 않았습니다 그사이 바코드가 말소되었습니다.", "결제 상태 말소"},
			en: []string{"Acceptable, but not paid The barcode was voided meanwhile."},
		},
		{
			name: "void again", handle: accepts, req: emulator.ScanRequest{Scenario: emulator.ScenarioVoid}, times: 2,
			ko: []string{"말소된 바코드입니다 게이트웨이에 묻지 않았습니다."}, en: []string{"This barcode is void The gateway was not asked."},
		},
		{
			name: "late", handle: accepts, req: emulator.ScanRequest{Scenario: emulator.ScenarioLate}, times: 1,
			ko: []string{"납부 기한이 지났습니다"}, en: []string{"The deadline has passed"},
		},
		{
			name: "paid again", handle: accepts, times: 2,
			ko: []string{"이미 결제된 바코드입니다"}, en: []string{"This barcode is paid already"},
		},
		{
			name: "unknown", handle: accepts, req: emulator.ScanRequest{Barcode: "12345"}, times: 1,
			ko: []string{"발급되지 않은 바코드입니다", "1234 5"}, en: []string{"No such barcode was issued"},
		},
		{
			name: "notice again", handle: accepts, req: emulator.ScanRequest{Scenario: emulator.ScenarioRepeatedNotice}, times: 2,
			ko: []string{"통보를 보냈습니다", "통보 웹훅, 다시"}, en: []string{"The notice was sent", "Notice webhook, again"},
		},
		{
			name: "forged", handle: status(403), req: emulator.ScanRequest{Scenario: emulator.ScenarioForgedAmount}, times: 1,
			ko: []string{"승인 웹훅 다른 금액 POST", "cvs_amount=25000"}, en: []string{"Confirm webhook Wrong amount POST"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			barcode := s.order("order", newGateway(t, test.handle)).field("vbank_num")
			if test.fault != (emulator.Fault{}) {
				s.inject(test.fault)
			}
			if test.req.Barcode == "" {
				test.req.Barcode = barcode
			}
			for range test.times {
				_, _ = s.Scan(t.Context(), test.req)
			}
			mustContain(t, words(s.page("?barcode="+barcode)), test.ko...)
			mustContain(t, words(s.page("?barcode="+barcode, "Accept-Language", "en")), test.en...)
		})
	}
	t.Run("without confirm_url", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t, emulator.Options{})
		barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
		s.scan(barcode, "card")
		mustContain(t, words(s.page("")), "결제되었습니다", "confirm_url이 없어 묻지 않았습니다")
	})
}

// A 200 that did not come from cvs_confirm does not look like an acceptance.
func TestPageMarks200NotFromCvsConfirm(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		handle   http.HandlerFunc
		scenario emulator.Scenario
		kind     string
		warned   bool
		notes    int // the responses that are marked
	}{
		{"genuine", accepts, "", "good", false, 0},
		{"genuine at two tills", accepts, emulator.ScenarioTwice, "good", false, 0},
		{"refused", status(409), "", "bad", false, 0},
		{"empty", answers(""), "", "doubtful", true, 1},
		{"text", answers("OK"), "", "doubtful", true, 1},
		{"page", answers("<html>"), "", "doubtful", true, 1},
		{"string", answers(`{"accepted":"true"}`), "", "doubtful", true, 1},
		{"refusal in a 200", answers(`{"accepted":false}`), "", "doubtful", true, 1},
		{"at two tills", answers("OK"), emulator.ScenarioTwice, "doubtful", true, 2},
		{"not paid", answers("OK"), emulator.ScenarioVoid, "bad", true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			s.scenario(s.order("order", newGateway(t, test.handle)), test.scenario)
			for lang, mark := range map[string]string{"en": "not from cvs_confirm", "ko": "cvs_confirm의 응답이 아닙니다"} {
				page := s.page("", "Accept-Language", lang)
				mustContain(t, page, `<details class="exchange `+test.kind+`"`)
				if got := strings.Count(page, `<p class="warning"><strong>`) == 1; got != test.warned {
					t.Errorf("%s: warned %v", lang, got)
				}
				if got := strings.Count(page, ">"+mark+"</em>"); got != test.notes {
					t.Errorf("%s: %d answers are marked", lang, got)
				}
			}
		})
	}
	// Only one of the two tills got a 200 that did not come from cvs_confirm. Either till may be the one that pays.
	t.Run("at one of two tills", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t, emulator.Options{})
		s.scenario(s.order("order", newGateway(t, answers(`{"accepted":true}`, "OK"))), emulator.ScenarioTwice)
		page := s.page("", "Accept-Language", "en")
		if strings.Count(page, `<p class="warning">`) != 1 || strings.Count(page, ">not from cvs_confirm</em>") != 1 {
			t.Error(page)
		}
	})
}

// A scan shows its own reason, not the reason of an earlier scan that the payment keeps.
func TestPageShowsReasonOfEachScan(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{ConfirmTimeout: 50 * time.Millisecond})
	release := make(chan struct{})
	var asked atomic.Int32
	g := newGateway(t, func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(409)
			_, _ = io.WriteString(w, `{"reason":"sold out"}`)
		case 2:
			w.WriteHeader(404)
		case 3:
			<-release
		}
	})
	barcode := s.order("order", g).field("vbank_num")
	for range 3 {
		s.scan(barcode, "card")
	}
	close(release)
	english := words(s.page("", "Accept-Language", "en"))
	mustContain(t, english, "No answer from the gateway no answer within 50ms", "The gateway refused sold out")
	if !regexp.MustCompile(`The gateway refused \d\d:\d\d:\d\d`).MatchString(english) {
		t.Errorf("the second scan has a reason: %s", english)
	}
	mustContain(t, words(s.page("")), "게이트웨이의 응답을 받지 못했습니다 50ms 안에 응답이 없었습니다")
}

func TestPageShowsRepeatedNotice(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	s.scan(barcode, "cash")
	if result, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode, Scenario: emulator.ScenarioRepeatedNotice}); err != nil || result.PayType != "cash" {
		t.Errorf("%+v %v", result, err)
	}
	page := words(s.page("", "Accept-Language", "en"))
	mustContain(t, page, "The notice was sent", "Cash · Notice twice", "Payment Paid imp_", "Payment Waiting → Paid imp_")
	if strings.Count(page, "nobody was asked") != 1 {
		t.Error(page)
	}
}

// Over plain HTTP, and on a host other than localhost, a browser sends only Origin and no Sec-Fetch-Site.
func TestPageFormsWorkWithoutFetchMetadata(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	if policy := serve(e, "GET", "/till", nil).Header().Get("Referrer-Policy"); policy != "same-origin" {
		t.Errorf("with the policy %q a form's origin is null", policy)
	}
	rec := serve(e, "POST", "http://till.example/till", strings.NewReader("barcode=1"),
		"Content-Type", asForm, "Accept", asHTML, "Origin", "http://till.example")
	if rec.Code != 303 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestPageMarksLanguages(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.issue(`"merchant_uid":"a","name":"우산","amount":1,"barcode":"1"`)
	s.issue(`"merchant_uid":"b","name":"Umbrella","amount":1,"barcode":"2"`)
	mustContain(t, s.page("", "Accept-Language", "en"), `<span lang="ko">우산</span>`, `<span lang="en">Umbrella</span>`)
}

func TestPageShowsLastScans(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for i := range 25 {
		_, _ = s.Scan(t.Context(), emulator.ScanRequest{Barcode: fmt.Sprint(100 + i)})
	}
	var ids []string
	for _, m := range regexp.MustCompile(`id="x(\d+)"`).FindAllStringSubmatch(s.page(""), -1) {
		ids = append(ids, m[1])
	}
	if got := strings.Join(ids, " "); got != "25 24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6" {
		t.Error(got)
	}
}

func TestPageInjectsFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		form string
		want emulator.Fault
		ko   string
		en   string
	}{
		{
			"endpoint=issue&effect=delay&delay_value=1.5&times=3",
			emulator.Fault{Endpoint: "issue", Times: 3, Delay: 1500 * time.Millisecond},
			"바코드 발급: POST /cvs (앞으로 3번): 지연 1.5s", "Barcode: POST /cvs (the next 3): Delay 1.5s",
		},
		{
			"endpoint=all&effect=status&status_value=503&code_value=1&delay_value=3&times=0",
			emulator.Fault{Endpoint: "all", Status: 503},
			"모든 요청 (되돌릴 때까지 모두): HTTP 상태 503", "All requests (all until back to normal): HTTP status 503",
		},
		{"endpoint=token&effect=code&code_value=-1&times=1", emulator.Fault{Endpoint: "token", Code: -1, Times: 1}, "code -1", "code -1"},
		{"endpoint=void&effect=drop_before&times=1", emulator.Fault{Endpoint: "void", Drop: "before", Times: 1}, "처리 전 끊김", "Dropped before"},
		{"endpoint=confirm&effect=drop_after&times=1", emulator.Fault{Endpoint: "confirm", Drop: "after", Times: 1}, "처리 후 끊김", "Dropped after"},
		{"endpoint=payment&effect=drop_body&times=1", emulator.Fault{Endpoint: "payment", Drop: "body", Times: 1}, "응답 중 끊김", "Dropped in the answer"},
		{"endpoint=find&effect=garbage&times=1", emulator.Fault{Endpoint: "find", Garbage: true, Times: 1}, "엉뚱한 내용", "Garbage"},
		{"endpoint=list&effect=oversized&times=1", emulator.Fault{Endpoint: "list", Oversized: true, Times: 1}, "너무 큰 내용", "Oversized"},
		{"endpoint=issue&effect=expired_token&times=1", emulator.Fault{Endpoint: "issue", ExpiredToken: true, Times: 1}, "만료된 토큰", "Expired token"},
		{"endpoint=void&effect=done&done_value=1&times=1", emulator.Fault{Endpoint: "void", Code: 1, Done: true, Times: 1}, "code 1, 처리하고 거절", "code 1, Refused, but done"},
		{"endpoint=issue&effect=late&late_value=2.5&times=1", emulator.Fault{Endpoint: "issue", Late: 2500 * time.Millisecond, Times: 1}, "끊긴 뒤 처리 2.5s", "Done late 2.5s"},
		{"endpoint=find&effect=stale&stale_value=3&times=1", emulator.Fault{Endpoint: "find", Stale: 3 * time.Second, Times: 1}, "지난 내용 3s", "Stale 3s"},
		{"endpoint=find&effect=omit&omit_value=+vbank_num&times=1", emulator.Fault{Endpoint: "find", Omit: "vbank_num", Times: 1}, "빠진 필드 vbank_num", "Missing field vbank_num"},
		{"endpoint=notice&effect=duplicate&times=1", emulator.Fault{Endpoint: "notice", Duplicate: true, Times: 1}, "두 번 보냄", "Sent twice"},
		{"endpoint=notice&effect=forged_merchant_uid&times=1", emulator.Fault{Endpoint: "notice", Forged: "merchant_uid", Times: 1}, "다른 주문", "Another order"},
	} {
		s := newSandbox(t, emulator.Options{})
		form, _ := url.ParseQuery(test.form)
		if status, location := s.submit("/till-faults?barcode=1", form); status != 303 || location != "till?barcode=1" {
			t.Fatalf("%s: %d %s", test.form, status, location)
		}
		if got := s.Faults(); len(got) != 1 || got[0] != test.want {
			t.Errorf("%s injected %+v", test.form, got)
		}
		mustContain(t, words(s.page("")), "지금 장애가 있습니다.", test.ko)
		mustContain(t, words(s.page("", "Accept-Language", "en")), "Things go wrong now.", test.en)
		if status, location := s.submit("/till-normal?q=a", nil); status != 303 || location != "till?q=a" || len(s.Faults()) != 0 {
			t.Errorf("back to normal: %d %s %v", status, location, s.Faults())
		}
		if strings.Contains(s.page(""), "지금 장애가 있습니다.") {
			t.Error("the page still shows faults")
		}
	}
}

func TestPageShowsForgedFault(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointConfirm, Forged: emulator.ForgedSignature})
	mustContain(t, words(s.page("")), "승인 웹훅: confirm_url (되돌릴 때까지 모두): 위조된 서명")
}

func TestPageRejectsInvalidFaults(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for form, want := range map[string]string{
		"":               "endpoint must be one of",
		"endpoint=issue": "a fault needs a delay or an effect",
		"endpoint=issue&effect=delay&delay_value=x":     `delay must be a number of seconds, not "x"`,
		"endpoint=issue&effect=delay&delay_value=NaN":   `delay must be a number of seconds, not "NaN"`,
		"endpoint=issue&effect=garbage&times=two":       `times must be a whole number, not "two"`,
		"endpoint=issue&effect=garbage&times=1.5":       `times must be a whole number, not "1.5"`,
		"endpoint=issue&effect=status&status_value=5xx": `status must be a whole number, not "5xx"`,
		"endpoint=issue&effect=code&code_value=one":     `code must be a whole number, not "one"`,
		"endpoint=issue&effect=late&late_value=x":       `late must be a number of seconds, not "x"`,
		"endpoint=find&effect=stale&stale_value=x":      `stale must be a number of seconds, not "x"`,
		"endpoint=find&effect=omit&omit_value=barcode":  "omit must be a field of the API's payments, such as vbank_num",
		"endpoint=find&effect=omit":                     "a fault needs a delay or an effect",
		"endpoint=issue&effect=done":                    "done needs a status or a code",
		"endpoint=issue&effect=delay&delay_value=1e300": "delay must be between 0 and 1h",
		"endpoint=issue&effect=delay&delay_value=-1":    "delay must be between 0 and 1h",
		"endpoint=issue&effect=status&status_value=99":  "status must be between 200 and 599",
		"endpoint=issue&effect=duplicate":               "duplicate has no effect on endpoint issue",
		"endpoint=issue&effect=drop_never":              "drop must be one of before, after, body",
		"endpoint=issue&effect=garbage&times=-1":        "times must not be negative",
		"%":                                             "invalid URL escape",
	} {
		a := s.do("POST", "/till-faults", asForm, form, "Accept", asHTML)
		if a.status != 400 {
			t.Errorf("%s: %d", form, a.status)
		}
		mustContain(t, words(a.raw), "이 장애는 만들 수 없습니다: ", want)
		if strings.Contains(a.raw, "injecting") {
			t.Error("the problem begins with the prefix of Inject")
		}
	}
	if got := s.Faults(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// The form offers an effect for an endpoint exactly if Inject accepts it.
func TestPageOffersOnlyValidFaults(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	page := s.page("")
	endpoints := regexp.MustCompile(`<option value="(\w+)" data-kind="(\w+)"`).FindAllStringSubmatch(page, -1)
	effects := regexp.MustCompile(`name="effect" value="(\w+)" data-kind="([\w ]+)"`).FindAllStringSubmatch(page, -1)
	if len(endpoints) != 15 || len(effects) != 18 {
		t.Fatalf("%d endpoints, %d effects", len(endpoints), len(effects))
	}
	for _, endpoint := range endpoints {
		for _, effect := range effects {
			offered := endpoint[2] == "all" || strings.Contains(" "+effect[2]+" ", " "+endpoint[2]+" ")
			form := url.Values{
				"endpoint": {endpoint[1]}, "effect": {effect[1]}, "times": {"1"},
				"delay_value": {"1"}, "status_value": {"503"}, "code_value": {"1"}, "done_value": {"1"}, "late_value": {"1"}, "stale_value": {"1"}, "omit_value": {"vbank_num"},
			}
			if status, _ := s.submit("/till-faults", form); (status == 303) != offered {
				t.Errorf("%s on %s: %d, offered: %v", effect[1], endpoint[1], status, offered)
			}
		}
	}
}

func TestPageOffersOnlyValidScenarios(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	offered := regexp.MustCompile(`name="scenario" value="(\w+)"`).FindAllStringSubmatch(s.page(""), -1)
	if len(offered) != 10 {
		t.Fatalf("%d scenarios", len(offered))
	}
	for _, scenario := range offered {
		if status, _ := s.submit("/till", url.Values{"barcode": {"1"}, "scenario": {scenario[1]}}); status != 303 {
			t.Errorf("%s: %d", scenario[1], status)
		}
	}
}

func BenchmarkPage(b *testing.B) {
	for _, n := range []int{20, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := emulator.New(emulator.Options{})
			rec := serve(e, "POST", "/users/getToken", strings.NewReader(`{"imp_key":"k","imp_secret":"s"}`))
			token := regexp.MustCompile(`"access_token":"(\w+)"`).FindStringSubmatch(rec.Body.String())[1]
			for i := range n {
				body := fmt.Sprintf(`{"merchant_uid":"order-%d","amount":1}`, i)
				if rec := serve(e, "POST", "/cvs", strings.NewReader(body), "Authorization", token); rec.Code != 200 {
					b.Fatal(rec.Body)
				}
			}
			for b.Loop() {
				if rec := serve(e, "GET", "/till", nil); rec.Code != 200 {
					b.Fatal(rec.Code)
				}
			}
		})
	}
}
