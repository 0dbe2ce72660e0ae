package emulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// query is what must be seen nowhere but by the gateway.
const (
	secret = "c2lnbmF0dXJlLW9mLTIy"
	query  = "?cvs_amount=15000&cvs_sig=" + secret

	shownQuery = "?cvs_amount=15000&cvs_sig=…"
)

// order issues a barcode for 15,000 won that is confirmed and noticed at the gateway.
func (s *sandbox) order(merchantUID string, g *gateway) envelope {
	s.t.Helper()
	return s.issue(fmt.Sprintf(`"merchant_uid":%q,"amount":15000,"confirm_url":"%s/confirm%s","notice_url":"%s/notice%s"`,
		merchantUID, g.URL, query, g.URL, query))
}

func TestScanAccepted(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"accepted":true}`) })
	for _, payType := range []string{"card", "cash"} {
		before := len(g.got())
		issued := s.order("order-"+payType, g)
		impUID, barcode := issued.field("imp_uid"), issued.field("vbank_num")
		c.advance(time.Minute)
		code, result := s.scan(barcode, payType)
		if code != 200 || !result.Accepted || result.Reason != "" || result.Barcode != barcode || result.PayType != payType {
			t.Errorf("%s: %d %+v", payType, code, result)
		}
		confirm := result.Confirm
		if confirm == nil || confirm.Status != 200 || compact(confirm.Body) != `{"accepted":true}` || confirm.Error != "" ||
			confirm.URL != g.URL+"/confirm"+shownQuery || confirm.Duplicate != nil || confirm.Forged != "" {
			t.Errorf("%s: confirm %+v", payType, confirm)
		}
		if n := result.Notice; len(n) != 1 || n[0].Status != 200 || n[0].Error != "" || n[0].URL != g.URL+"/notice"+shownQuery || n[0].Body != nil {
			t.Errorf("%s: notice %+v", payType, result.Notice)
		}
		if p := result.Payment; p.Status != "paid" || p.PaidAt != c.now().Unix() || p.PayType != payType || p.ImpUID != impUID {
			t.Errorf("%s: payment %+v", payType, p)
		}
		hits := g.got()[before:]
		if len(hits) != 2 {
			t.Fatalf("%s: %d webhooks", payType, len(hits))
		}
		for i, want := range []struct{ uri, body string }{
			{"/confirm" + query, `{"event":"Galaxia.Cvs.Confirm","imp_uid":"` + impUID + `","merchant_uid":"order-` + payType +
				`","status":"ready","extra":{"barcode":"` + barcode + `","payType":"` + payType + `"}}`},
			{"/notice" + query, `{"imp_uid":"` + impUID + `","merchant_uid":"order-` + payType + `","status":"paid"}`},
		} {
			if h := hits[i]; h.method != "POST" || h.uri != want.uri || h.body != want.body || h.header.Get("Content-Type") != asJSON || h.header.Get("User-Agent") != "cvs-sandbox" {
				t.Errorf("%s: webhook %+v, want %+v", payType, h, want)
			}
		}
		a := s.get("/payments/" + impUID + "?include_sandbox=true")
		if a.field("status") != "paid" || a.field("paid_at") != fmt.Sprint(c.now().Unix()) || len(a.field("pg_tid")) != 20 ||
			(payType == "card") != (a.field("card_type") == "0" && len(a.field("apply_num")) == 8) ||
			(payType == "cash") != (a.field("card_type") == "null" && a.field("apply_num") == "null") {
			t.Errorf("%s: %s", payType, a.raw)
		}
	}
	if s.Requests(emulator.EndpointConfirm) != 2 || s.Requests(emulator.EndpointNotice) != 2 {
		t.Error("webhooks are not counted")
	}
}

func compact(raw json.RawMessage) string {
	return strings.Join(strings.Fields(string(raw)), "")
}

func TestScanRefused(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, test := range []struct {
		name       string
		handle     http.HandlerFunc
		status     int
		reason     string
		failReason string
		body       string
	}{
		{"reason", answer(409, `{"accepted":false,"reason":"재고가 없습니다"}`), 409, "재고가 없습니다", "재고가 없습니다", `{"accepted":false,"reason":"재고가없습니다"}`},
		{"long reason", answer(409, `{"reason":"`+strings.Repeat("긴", 300)+`"}`), 409, strings.Repeat("긴", 200), strings.Repeat("긴", 200), ""},
		{"no reason", answer(403, ""), 403, "confirm webhook was answered 403; only 200 is an acceptance", "", ""},
		{"reason of another type", answer(403, `{"reason":1}`), 403, "confirm webhook was answered 403", "", `{"reason":1}`},
		{"text", answer(500, "oops"), 500, "confirm webhook was answered 500", "", `"oops"`},
		{"broken UTF-8", answer(500, "{\"a\":\"\xff\"}"), 500, "confirm webhook was answered 500", "", "{\"a\":\"\uFFFD\"}"},
		{"201", answer(201, `{"accepted":true}`), 201, "confirm webhook was answered 201", "", ""},
		{"204", answer(204, ""), 204, "confirm webhook was answered 204", "", ""},
		{"301", answer(301, ""), 301, "confirm webhook was answered 301", "", ""},
		{"307", answer(307, ""), 307, "confirm webhook was answered 307", "", ""},
		{"fairly long answer", answer(400, strings.Repeat("x", 64<<10)), 400, "confirm webhook was answered 400", "", `"` + strings.Repeat("x", 64<<10) + `"`},
		{"long answer", answer(400, strings.Repeat("x", 64<<10+1)), 400, "confirm webhook was answered 400", "", `"(morethan64KiB)"`},
		{"nothing", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, "confirm webhook failed: ", "", ""},
		{"half of an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"accepted":`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, 200, "confirm webhook failed: unexpected EOF", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, test.handle)
			issued := s.order(test.name, g)
			code, result := s.scan(issued.field("vbank_num"), "card")
			if code != 200 || result.Accepted || result.Payment.Status != "ready" || len(result.Notice) != 0 || result.Notice == nil {
				t.Errorf("%d %+v", code, result)
			}
			if result.Confirm.Status != test.status || !strings.HasPrefix(result.Reason, test.reason) ||
				(result.Confirm.Error != "") != strings.HasPrefix(test.reason, "confirm webhook failed") {
				t.Errorf("reason %q, confirm %+v", result.Reason, result.Confirm)
			}
			if test.body != "" && compact(result.Confirm.Body) != test.body {
				t.Errorf("body %s, want %s", result.Confirm.Body, test.body)
			}
			a := s.get("/payments/find/" + strings.ReplaceAll(test.name, " ", "%20"))
			failReason := strings.Replace(a.field("fail_reason"), "null", "", 1)
			if a.field("status") != "ready" || failReason != test.failReason || result.Payment.FailReason != test.failReason {
				t.Errorf("fail_reason %q, payment %+v", failReason, result.Payment)
			}
			if got := len(g.got()); got != 1 {
				t.Errorf("%d webhooks were sent", got)
			}
		})
	}
}

// foreign is the warning of a 200 that is not cvs_confirm's.
const foreign = `this 200 did not come from cvs_confirm, which answers {"accepted":true}: something else answered for it, ` +
	`and no order check was asked; check the path in confirm_url and the order of the site's routes`

// The real sender takes any 200 for an acceptance, so the payment is made whatever answered.
func TestScanWarnsOfAForeign200(t *testing.T) {
	t.Parallel()
	for body, warning := range map[string]string{
		"":                               foreign,
		"OK":                             foreign,
		"<html>":                         foreign,
		"true":                           foreign,
		"null":                           foreign,
		`{}`:                             foreign,
		`{"accepted":"true"}`:            foreign,
		`{"accepted":false}`:             foreign,
		`{"accepted":null}`:              foreign,
		`{"accepted":1}`:                 foreign,
		`{"Accepted":true}`:              foreign,
		`[{"accepted":true}]`:            foreign,
		`"{\"accepted\":true}"`:          foreign,
		`{"accepted":true`:               foreign,
		`{"accepted":true}{}`:            foreign,
		`{"accepted":true}`:              "",
		" {\r\n\t\"accepted\" : true } ": "",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			a := s.do("POST", "/till", asForm, "barcode="+s.order("order", newGateway(t, answers(body))).field("vbank_num"))
			var result emulator.ScanResult
			if err := json.Unmarshal([]byte(a.raw), &result); err != nil || !result.Accepted || result.Reason != "" ||
				result.Payment.Status != "paid" || len(result.Notice) != 1 {
				t.Errorf("%v in %s", err, a.raw)
			}
			if result.Warning != warning || strings.Contains(a.raw, `"warning"`) != (warning != "") {
				t.Errorf("warning %q in %s", result.Warning, a.raw)
			}
		})
	}
}

// Only a 200 that decides is warned of, whatever then becomes of the payment.
func TestScanWarnsOfTheDecidingAnswer(t *testing.T) {
	t.Parallel()
	const genuine = `{"accepted":true}`
	for _, test := range []struct {
		name    string
		handle  http.HandlerFunc
		fault   emulator.Fault
		request emulator.Scenario
		want    string
	}{
		{name: "refusal", handle: status(409)},
		{name: "204", handle: status(204)},
		{name: "no answer", handle: answers("OK"), fault: emulator.Fault{Drop: emulator.DropAfter}},
		{name: "not sent", handle: answers("OK"), fault: emulator.Fault{Drop: emulator.DropBefore}},
		{name: "the second of two", handle: answers(genuine, "OK"), fault: emulator.Fault{Duplicate: true}},
		{name: "the first of two", handle: answers("OK", genuine), fault: emulator.Fault{Duplicate: true}, want: foreign},
		{name: "void meanwhile", handle: answers("OK"), request: emulator.ScenarioVoid, want: foreign},
		{name: "forged", handle: answers("OK"), request: emulator.ScenarioForgedAmount, want: foreign},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			if test.fault != (emulator.Fault{}) {
				test.fault.Endpoint = emulator.EndpointConfirm
				s.inject(test.fault)
			}
			if result := s.scenario(s.order("order", newGateway(t, test.handle)), test.request); result.Warning != test.want {
				t.Errorf("warning %q of %+v", result.Warning, result)
			}
		})
	}
	t.Run("at both tills", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t, emulator.Options{})
		result := s.scenario(s.order("order", newGateway(t, status(200))), emulator.ScenarioTwice)
		if result.Warning != foreign || result.Second.Warning != foreign {
			t.Errorf("%+v, second %+v", result, result.Second)
		}
	})
	t.Run("without confirm_url", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t, emulator.Options{})
		issued := s.issue(`"merchant_uid":"order","amount":1,"notice_url":"` + newGateway(t, answers("OK")).URL + `"`)
		for range 2 { // paid, and its notice again
			if result := s.scenario(issued, emulator.ScenarioRepeatedNotice); !result.Accepted || result.Warning != "" {
				t.Errorf("%+v", result)
			}
		}
	})
	// What is hidden in the answer that is shown does not make it another's.
	t.Run("password in the answer", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t, emulator.Options{})
		g := newGateway(t, accepts)
		issued := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"` + strings.Replace(g.URL, "http://", "http://shop:true@", 1) + `"`)
		if result := s.scenario(issued, ""); !strings.Contains(string(result.Confirm.Body), "…") || result.Warning != "" {
			t.Errorf("%+v", result)
		}
	})
}

func TestScanAgainAfterRefusal(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	var once sync.Once
	g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() {
			w.WriteHeader(409)
			_, _ = io.WriteString(w, `{"reason":"later"}`)
		})
	})
	barcode := s.order("order", g).field("vbank_num")
	if _, result := s.scan(barcode, "card"); result.Payment.FailReason != "later" {
		t.Errorf("first: %+v", result)
	}
	if _, result := s.scan(barcode, "card"); !result.Accepted || result.Payment.FailReason != "" {
		t.Errorf("second: %+v", result)
	}
}

func TestScanWithoutURLs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	a := s.do("POST", "/till", asForm, "barcode="+barcode)
	if a.status != 200 || !strings.Contains(a.raw, "\n  \"accepted\": true,\n") || !strings.Contains(a.raw, `"confirm": null`) ||
		!strings.Contains(a.raw, `"notice": []`) || !strings.Contains(a.raw, `"pay_type": "card"`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

func TestScanRefusesDeadBarcodes(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, Deadline: time.Hour, TokenLife: 2 * time.Hour})
	g := newGateway(t, status(200))
	void, paid, expired := s.order("void", g), s.order("paid", g), s.order("expired", g)
	s.do("DELETE", "/cvs/"+void.field("imp_uid"), "", "")
	c.advance(time.Hour)
	if _, result := s.scan(paid.field("vbank_num"), "card"); !result.Accepted {
		t.Errorf("refused at its deadline: %+v", result)
	}
	c.advance(time.Second)
	before := len(g.got())
	for _, test := range []struct {
		barcode string
		payType string
		status  int
		err     error
	}{
		{void.field("vbank_num"), "card", 409, emulator.ErrVoid},
		{paid.field("vbank_num"), "card", 409, emulator.ErrPaid},
		{expired.field("vbank_num"), "card", 410, emulator.ErrExpired},
		{"0", "cash", 404, emulator.ErrUnknownBarcode},
		{expired.field("vbank_num"), "cheque", 400, emulator.ErrPayType},
	} {
		a := s.do("POST", "/till", asJSON, `{"barcode":"`+test.barcode+`","pay_type":"`+test.payType+`"}`)
		a.expect(t, test.status, -1)
		if a.Message == nil || *a.Message != test.err.Error() {
			t.Errorf("message %s, want %v", a.raw, test.err)
		}
		_, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: test.barcode, PayType: test.payType})
		if !errors.Is(err, test.err) {
			t.Errorf("error %v, want %v", err, test.err)
		}
	}
	if got := len(g.got()); got != before {
		t.Errorf("%d webhooks were sent for dead barcodes", got-before)
	}
	// There is no status "expired": the payment stays ready.
	s.get("/payments/find/expired/ready").expect(t, 200, 0)
}

func TestTillRefusesBadRequests(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, test := range []struct {
		contentType, body string
		status            int
	}{
		{asJSON, `{}`, 400},
		{asJSON, `{"barcode":[]}`, 400},
		{asJSON, `{"barcode":"1","pay_type":{}}`, 400},
		{asJSON, `{"barcode"`, 400},
		{"text/plain", `barcode=1`, 415},
		{asForm, `pay_type=card`, 400},
		{asForm, `{"barcode":"0"}`, 404}, // curl -d without a header
		{asForm, `{"barcode":"0"`, 400},
		{asJSON, strings.Repeat(" ", 1<<20+1), 413},
	} {
		s.do("POST", "/till", test.contentType, test.body).expect(t, test.status, -1)
	}
}

// Both tills have the gateway's acceptance in hand before either payment is made.
func TestScanTwiceConcurrently(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	var both sync.WaitGroup
	both.Add(2)
	g := newGateway(t, func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/confirm") {
			both.Done()
			both.Wait()
		}
	})
	barcode := s.order("order", g).field("vbank_num")
	var results [2]emulator.ScanResult
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { _, results[i] = s.scan(barcode, "card") })
	}
	wg.Wait()
	if results[0].Accepted {
		results[0], results[1] = results[1], results[0]
	}
	if results[0].Accepted || !results[1].Accepted || results[0].Reason != emulator.ErrPaid.Error() || results[0].Payment.Status != "paid" {
		t.Errorf("one %+v\nother %+v", results[0], results[1])
	}
	if got := s.Requests(emulator.EndpointNotice); got != 1 {
		t.Errorf("%d notices", got)
	}
}

func TestVoidDuringScanWins(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	var impUID string
	g := newGateway(t, func(http.ResponseWriter, *http.Request) { s.do("DELETE", "/cvs/"+impUID, "", "").expect(t, 200, 0) })
	issued := s.order("order", g)
	impUID = issued.field("imp_uid")
	_, result := s.scan(issued.field("vbank_num"), "card")
	if result.Accepted || result.Reason != emulator.ErrVoid.Error() || result.Payment.Status != "cancelled" || len(result.Notice) != 0 {
		t.Errorf("%+v", result)
	}
}

func TestForgottenDuringScan(t *testing.T) {
	t.Parallel()
	for code, reason := range map[int]string{200: emulator.ErrUnknownBarcode.Error(), 409: "too late"} {
		s := newSandbox(t, emulator.Options{MaxPayments: 1})
		g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) {
			s.issue(`"merchant_uid":"newer","amount":1`)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `{"reason":"too late"}`)
		})
		_, result := s.scan(s.order("order", g).field("vbank_num"), "card")
		if result.Accepted || result.Reason != reason || result.Payment.MerchantUID != "order" {
			t.Errorf("%+v", result)
		}
	}
}

func TestRefusalOfAVoidPaymentIsNotRecorded(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	var impUID string
	g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) {
		s.do("DELETE", "/cvs/"+impUID, "", "").expect(t, 200, 0)
		w.WriteHeader(409)
		_, _ = io.WriteString(w, `{"reason":"void"}`)
	})
	issued := s.order("order", g)
	impUID = issued.field("imp_uid")
	_, result := s.scan(issued.field("vbank_num"), "card")
	if result.Accepted || result.Reason != "void" || result.Payment.Status != "cancelled" || result.Payment.FailReason != "" {
		t.Errorf("%+v", result)
	}
}

func TestNoticesAreIndependent(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	good, bad := newGateway(t, status(204)), newGateway(t, status(500))
	barcode := s.issue(fmt.Sprintf(`"merchant_uid":"order","amount":1,"notice_url":["http://127.0.0.1:1/%s",%q,%q]`,
		query, bad.URL+"/"+query, good.URL+"/"+query)).field("vbank_num")
	_, result := s.scan(barcode, "cash")
	if !result.Accepted || len(result.Notice) != 3 {
		t.Fatalf("%+v", result)
	}
	if n := result.Notice; n[0].Error == "" || n[0].Status != 0 || n[1].Status != 500 || n[2].Status != 204 {
		t.Errorf("%+v", result.Notice)
	}
	if len(bad.got()) != 1 || len(good.got()) != 1 {
		t.Error("a notice was not sent exactly once")
	}
}

// roundTrip is a transport for tests in a bubble of synctest, where no network may be used.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, fmt.Errorf("Post %q: %w", r.URL, r.Context().Err())
}

func TestWebhookTimeouts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		timeout time.Duration
		member  string
		want    time.Duration
	}{
		{"confirm by default", 0, "confirm_url", 10 * time.Second},
		{"confirm as told", 5 * time.Second, "confirm_url", 5 * time.Second},
		{"notice", time.Second, "notice_url", 30 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{Transport: roundTrip(hang), ConfirmTimeout: test.timeout})
				issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"barcode":"1","`+test.member+`":"http://gateway/`+query+`"}`)
				start := time.Now()
				result, err := e.Scan(t.Context(), emulator.ScanRequest{Barcode: "1"})
				if err != nil {
					t.Fatal(err)
				}
				if got := time.Since(start); got != test.want {
					t.Errorf("waited %v, want %v", got, test.want)
				}
				hook := result.Confirm
				if hook == nil {
					hook = &result.Notice[0]
				}
				if hook.Error != "no answer within "+test.want.String() || hook.DurationMS != test.want.Milliseconds() {
					t.Errorf("%+v", hook)
				}
				if result.Accepted != (test.member == "notice_url") {
					t.Errorf("%+v", result)
				}
				_ = e.Close()
			})
		})
	}
}

func TestCloseCutsScansOff(t *testing.T) {
	t.Parallel()
	for _, member := range []string{"confirm_url", "notice_url"} {
		t.Run(member, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{Transport: roundTrip(hang)})
				issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"barcode":"1","`+member+`":"http://gateway/`+query+`"}`)
				var result emulator.ScanResult
				go func() { result, _ = e.Scan(context.Background(), emulator.ScanRequest{Barcode: "1"}) }()
				synctest.Wait()
				start := time.Now()
				_ = e.Close()
				synctest.Wait()
				if time.Since(start) != 0 {
					t.Error("Close waited for a time-out")
				}
				hooks := result.Notice
				if result.Confirm != nil {
					hooks = append(hooks, *result.Confirm)
				}
				if len(hooks) != 1 || hooks[0].Error != emulator.ErrClosed.Error() {
					t.Errorf("%+v", result)
				}
				if _, err := e.Scan(context.Background(), emulator.ScanRequest{Barcode: "1"}); !errors.Is(err, emulator.ErrClosed) {
					t.Errorf("a scan after Close: %v", err)
				}
				if rec := serve(e, "POST", "/till", strings.NewReader(`{"barcode":"1"}`)); rec.Code != 503 {
					t.Errorf("a till after Close got %d", rec.Code)
				}
				if rec := serve(e, "POST", "/users/getToken", strings.NewReader(`{"imp_key":"k","imp_secret":"s"}`)); rec.Code != 200 {
					t.Errorf("the API after Close got %d", rec.Code)
				}
			})
		})
	}
}

func TestCloseWaitsForScans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			<-time.After(time.Second) // of the bubble
			return nil, r.Context().Err()
		})})
		issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"barcode":"1","confirm_url":"http://gateway/"}`)
		go func() { _, _ = e.Scan(context.Background(), emulator.ScanRequest{Barcode: "1"}) }()
		synctest.Wait()
		start := time.Now()
		_ = e.Close()
		if got := time.Since(start); got != time.Second {
			t.Errorf("waited %v, want a second", got)
		}
	})
}

// A customer who leaves before the gateway has answered has not paid; once he has paid, the notice is sent in any case.
func TestScanCancelled(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g := newGateway(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	result, err := s.Scan(ctx, emulator.ScanRequest{Barcode: s.order("order", g).field("vbank_num")})
	if err != nil || result.Accepted || result.Confirm.Error != "context canceled" {
		t.Errorf("%v %+v", err, result)
	}
	quick := newGateway(t, status(200))
	barcode := s.issue(`"merchant_uid":"paid","amount":1,"notice_url":"` + quick.URL + `"`).field("vbank_num")
	result, err = s.Scan(ctx, emulator.ScanRequest{Barcode: barcode})
	if err != nil || !result.Accepted || result.Notice[0].Status != 200 {
		t.Errorf("%v %+v", err, result)
	}
}

func TestPublicAddressesAreRefused(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, host := range []string{"203.0.113.1", "169.254.169.254", "[2001:db8::1]", "0.0.0.0", "100.64.0.1"} {
		barcode := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"http://` + host + `:9/` + query + `"`).field("vbank_num")
		_, result := s.scan(barcode, "card")
		if result.Accepted || !strings.Contains(result.Confirm.Error, "is neither a loopback nor a private address") {
			t.Errorf("%s: %+v", host, result.Confirm)
		}
	}
	for address, ok := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "10.1.2.3:80": true, "172.16.0.1:80": true,
		"192.168.1.1:80": true, "[fd00::1]:80": true, "[::ffff:10.0.0.1]:80": true,
		"8.8.8.8:80": false, "172.32.0.1:80": false, "[::ffff:8.8.8.8]:80": false, "[fe80::1%eth0]:80": false,
		"[::]:80": false, "localhost:80": false, "/run/socket": false, "": false,
	} {
		if err := emulator.RefusePublic("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestPublicWebhooks(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{PublicWebhooks: true})
	g := newGateway(t, status(200))
	// An address that is neither loopback nor private, and leads here all the same.
	here := strings.Replace(g.URL, "127.0.0.1", "0.0.0.0", 1)
	barcode := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"` + here + `"`).field("vbank_num")
	if _, result := s.scan(barcode, "card"); !result.Accepted {
		t.Errorf("%+v", result.Confirm)
	}
}

// A proxy would hide the address that is dialled, and an idle connection keeps goroutines.
func TestTransportHasNoProxyAndNoIdleConnections(t *testing.T) {
	t.Parallel()
	transport := emulator.Transport(emulator.New(emulator.Options{})).(*http.Transport)
	if transport.Proxy != nil || !transport.DisableKeepAlives {
		t.Errorf("proxy set: %v, keep-alives: %v", transport.Proxy != nil, !transport.DisableKeepAlives)
	}
}

func TestWebhookBasicAuth(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "shop" || password != "hunter2" {
			w.WriteHeader(401)
		}
		_, _ = io.WriteString(w, "password is hunter2")
	})
	barcode := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"` +
		strings.Replace(g.URL, "http://", "http://shop:hunter2@", 1) + `"`).field("vbank_num")
	a := s.do("POST", "/till", asForm, "barcode="+barcode)
	if !strings.Contains(a.raw, `"accepted": true`) || strings.Contains(a.raw, "hunter2") {
		t.Error(a.raw)
	}
}

// Whatever the gateway and the network do, the secrets in the query of a webhook's URL are shown nowhere.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	echo := func(code int, format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			_, _ = fmt.Fprintf(w, format, r.RequestURI)
		}
	}
	escaped := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		_ = json.NewEncoder(w).Encode(map[string]string{"reason": r.RequestURI, "sig": r.URL.Query().Get("cvs_sig")})
	}
	for name, handle := range map[string]http.HandlerFunc{
		"text":         echo(404, "Cannot POST %s"),
		"reason":       echo(409, `{"reason":"no route %s"}`),
		"accepted":     echo(200, `{"path":%q}`),
		"escaped JSON": escaped,
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere"+r.RequestURI, http.StatusFound)
		},
		"broken redirect": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://%zz"+r.RequestURI)
			w.WriteHeader(302)
		},
		"hung up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			for _, forged := range []emulator.Forgery{"", emulator.ForgedSignature} {
				if forged != "" {
					s.inject(emulator.Fault{Endpoint: emulator.EndpointConfirm, Forged: forged})
				}
				s.checkNothingShown(t, newGateway(t, handle).URL)
				s = s.as("other")
			}
		})
	}
	t.Run("refused connection", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{}).checkNothingShown(t, "http://127.0.0.1:1")
	})
	t.Run("public address", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{}).checkNothingShown(t, "http://203.0.113.1")
	})
	t.Run("talkative transport", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("dialling for %s: refused, signature %s", r.URL, r.URL.Query().Get("cvs_sig"))
		})}).checkNothingShown(t, "http://gateway")
	})
	t.Run("client as transport", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.RequestURI, r.URL.Host = "", "127.0.0.1:1"
			return http.DefaultClient.Do(r)
		})}).checkNothingShown(t, "http://gateway")
	})
}

// What a gateway repeats is cleaned of secrets, and of nothing else.
func TestScrubbing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, answer, want string }{
		{"?k=0123456789abc%2Fd", `raw 0123456789abc%2Fd decoded 0123456789abc/d`, `"raw … decoded …"`},
		{"?0123456789abcdef", `bare 0123456789abcdef`, `"bare …"`},
		{"?k=0123456789abcde", `{"short":"0123456789abcde","pair":"k=0123456789abcde"}`, `{"short":"0123456789abcde","pair":"…"}`},
		{"?a", `{"a":"banana"}`, `{"a":"banana"}`},
		{"?a=1&b=2", `{"url":"/?a=1\u0026b=2"}`, `{"url":"/?…\u0026…"}`},
		{"", `{"a":"b?c=d"}`, `{"a":"b?c=d"}`},
	} {
		s := newSandbox(t, emulator.Options{})
		g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.answer) })
		barcode := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"` + g.URL + "/" + test.query + `"`).field("vbank_num")
		result, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode})
		if got := string(result.Confirm.Body); err != nil || got != test.want {
			t.Errorf("%s with %s became %s, want %s", test.answer, test.query, got, test.want)
		}
	}
}

func (s *sandbox) checkNothingShown(t *testing.T, gatewayURL string) {
	t.Helper()
	const fragments = "2bmF0dXJlLW9mLTIy" // the signature's end, which a forgery leaves
	issued := s.issue(fmt.Sprintf(`"merchant_uid":"order","amount":1,"confirm_url":"%s/c%s","notice_url":["%s/n%s"]`,
		gatewayURL, query, gatewayURL, query))
	for _, a := range []envelope{
		issued,
		s.do("POST", "/till", asForm, "barcode="+issued.field("vbank_num")),
		s.get("/sandbox/payments"),
		s.get("/sandbox/faults"),
		s.get("/payments/find/order"),
		s.do("POST", "/cvs", asJSON, `{"merchant_uid":"o","amount":0,"confirm_url":"http:///`+query+`","notice_url":"ftp://x/`+query+`"}`),
	} {
		for _, forbidden := range []string{secret, secret[1:], fragments} {
			if strings.Contains(a.raw, forbidden) {
				t.Errorf("%q is shown in %s", forbidden, a.raw)
			}
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", s.Payments()), secret[2:]) {
		t.Errorf("the ledger shows the signature: %+v", s.Payments())
	}
}

func TestScenarioTwice(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	// Neither till is answered before both have asked.
	var both sync.WaitGroup
	both.Add(2)
	g := newGateway(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/confirm" {
			both.Done()
			both.Wait()
		}
	})
	result := s.scenario(s.order("order", g), emulator.ScenarioTwice)
	if !result.Accepted || len(result.Notice) != 1 {
		t.Errorf("first till: %+v", result)
	}
	if second := result.Second; second == nil || second.Accepted || second.Confirm.Status != 200 || second.Reason != emulator.ErrPaid.Error() ||
		second.Payment.Status != "paid" || len(second.Notice) != 0 {
		t.Errorf("second till: %+v", second)
	}
	if got := s.Requests(emulator.EndpointNotice); got != 1 {
		t.Errorf("%d notices", got)
	}
}

func TestScenarioVoid(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	result := s.scenario(s.order("order", newGateway(t, status(200))), emulator.ScenarioVoid)
	if result.Accepted || result.Confirm.Status != 200 || result.Reason != emulator.ErrVoid.Error() || result.Payment.Status != "cancelled" ||
		len(result.Notice) != 0 {
		t.Errorf("%+v", result)
	}
	refused := s.scenario(s.order("order", newGateway(t, status(409))), emulator.ScenarioVoid)
	if refused.Accepted || refused.Payment.Status != "cancelled" {
		t.Errorf("refused: %+v", refused)
	}
}

func TestScenarioLate(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	barcode := s.order("order", g).field("vbank_num")
	for _, scenario := range []emulator.Scenario{emulator.ScenarioLate, ""} {
		_, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode, Scenario: scenario})
		if !errors.Is(err, emulator.ErrExpired) || len(g.got()) != 0 {
			t.Errorf("scenario %q: %v, %d webhooks", scenario, err, len(g.got()))
		}
	}
	if p := s.Payments()[0]; p.Status != "ready" {
		t.Errorf("%+v", p)
	}
	if _, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: "none", Scenario: emulator.ScenarioLate}); !errors.Is(err, emulator.ErrUnknownBarcode) {
		t.Error(err)
	}
}

func TestScenarioRepeatedNotice(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	issued := s.order("order", g)
	first := s.scenario(issued, emulator.ScenarioRepeatedNotice)
	if !first.Accepted || first.Confirm == nil || len(first.Notice) != 1 || first.Notice[0].Duplicate == nil {
		t.Errorf("first: %+v", first)
	}
	again := s.scenario(issued, emulator.ScenarioRepeatedNotice)
	if !again.Accepted || again.Confirm != nil || len(again.Notice) != 1 || again.Notice[0].Duplicate != nil || again.Payment.Status != "paid" {
		t.Errorf("again: %+v", again)
	}
	var paths []string
	for _, h := range g.got() {
		path, _, _ := strings.Cut(h.uri, "?")
		paths = append(paths, path)
	}
	if got := strings.Join(paths, " "); got != "/confirm /notice /notice /notice" {
		t.Error(got)
	}
}

func TestScenarioForged(t *testing.T) {
	t.Parallel()
	genuine := `{"event":"Galaxia.Cvs.Confirm","imp_uid":"IMP","merchant_uid":"order","status":"ready","extra":{"barcode":"NUMBER","payType":"card"}}`
	for scenario, want := range map[emulator.Scenario]struct{ uri, shown, body string }{
		emulator.ScenarioForgedSignature:   {"/confirm?cvs_amount=15000&cvs_sig=1" + secret[1:], "?cvs_amount=15000&cvs_sig=…", genuine},
		emulator.ScenarioForgedAmount:      {"/confirm?cvs_amount=25000&cvs_sig=" + secret, "?cvs_amount=25000&cvs_sig=…", genuine},
		emulator.ScenarioForgedMerchantUID: {"/confirm" + query, shownQuery, strings.Replace(genuine, `"order"`, `"1rder"`, 1)},
		emulator.ScenarioForgedUnsigned:    {"/confirm", "", genuine},
	} {
		t.Run(string(scenario), func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			g := newGateway(t, status(403))
			issued := s.order("order", g)
			result := s.scenario(issued, scenario)
			body := strings.NewReplacer("IMP", issued.field("imp_uid"), "NUMBER", issued.field("vbank_num")).Replace(want.body)
			if result.Accepted || result.Confirm.Forged == "" || result.Confirm.URL != g.URL+"/confirm"+want.shown || compact(result.Confirm.Sent) != body {
				t.Errorf("%+v sent %s", result.Confirm, result.Confirm.Sent)
			}
			if h := g.got()[0]; h.uri != want.uri || h.body != body {
				t.Errorf("sent %s %s", h.uri, h.body)
			}
			if next := s.scenario(issued, ""); next.Confirm.Forged != "" {
				t.Error("the next webhook was forged, too")
			}
		})
	}
}

func TestUnknownScenario(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, scenario := range []string{"thrice", "forged_", "forged"} {
		a := s.do("POST", "/till", asForm, "barcode=1&scenario="+scenario)
		a.expect(t, 400, -1)
		if !strings.Contains(a.raw, "twice, void, late, repeated_notice, forged_signature") {
			t.Errorf("%s does not say what there is", a.raw)
		}
	}
	s.do("POST", "/till", asJSON, `{"barcode":"1","scenario":1}`).expect(t, 400, -1)
}

// scenario scans a barcode over HTTP while something else happens.
func (s *sandbox) scenario(issued envelope, scenario emulator.Scenario) emulator.ScanResult {
	s.t.Helper()
	a := s.do("POST", "/till", asForm, "barcode="+issued.field("vbank_num")+"&scenario="+string(scenario))
	var result emulator.ScanResult
	if err := json.Unmarshal([]byte(a.raw), &result); err != nil || a.status != 200 {
		s.t.Fatalf("POST /till: %d %v in %s", a.status, err, a.raw)
	}
	return result
}

func TestShownURL(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	for i, test := range []struct{ query, want string }{
		{"?cvs_amount=1&cvs_expires=2&cvs_account=a&cvs_sig=s&k=v", "?cvs_amount=1&cvs_expires=2&cvs_account=a&cvs_sig=…&k=…"},
		{"?word", "?word"},
		{"?0123456789abcdef", "?…"},
		{"", ""},
	} {
		barcode := s.issue(fmt.Sprintf(`"merchant_uid":"order-%d","amount":1,"confirm_url":"%s/c%s"`, i, g.URL, test.query)).field("vbank_num")
		result, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode})
		if err != nil || result.Confirm.URL != g.URL+"/c"+test.want {
			t.Errorf("%s is shown as %s, %v", test.query, result.Confirm.URL, err)
		}
	}
}
