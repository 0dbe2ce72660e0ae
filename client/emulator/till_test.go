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
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestScanPaysIfGatewayAccepts(t *testing.T) {
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

func TestScanDoesNotPayIfGatewayRefuses(t *testing.T) {
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

// warningNotCvsConfirm is the warning about a 200 that did not come from cvs_confirm.
const warningNotCvsConfirm = `this 200 did not come from cvs_confirm, which answers {"accepted":true}: something else answered for it, ` +
	`and no order check was asked; check the path in confirm_url and the order of the site's routes`

// The real service treats every 200 as an acceptance, so the payment is made.
func TestScanWarnsIf200IsNotFromCvsConfirm(t *testing.T) {
	t.Parallel()
	for body, warning := range map[string]string{
		"":                               warningNotCvsConfirm,
		"OK":                             warningNotCvsConfirm,
		"<html>":                         warningNotCvsConfirm,
		"true":                           warningNotCvsConfirm,
		"null":                           warningNotCvsConfirm,
		`{}`:                             warningNotCvsConfirm,
		`{"accepted":"true"}`:            warningNotCvsConfirm,
		`{"accepted":false}`:             warningNotCvsConfirm,
		`{"accepted":null}`:              warningNotCvsConfirm,
		`{"accepted":1}`:                 warningNotCvsConfirm,
		`{"Accepted":true}`:              warningNotCvsConfirm,
		`[{"accepted":true}]`:            warningNotCvsConfirm,
		`"{\"accepted\":true}"`:          warningNotCvsConfirm,
		`{"accepted":true`:               warningNotCvsConfirm,
		`{"accepted":true}{}`:            warningNotCvsConfirm,
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

// Only the response that decides causes a warning, even if the payment is not made afterwards.
func TestScanWarnsOnlyOfDecidingResponse(t *testing.T) {
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
		{name: "the first of two", handle: answers("OK", genuine), fault: emulator.Fault{Duplicate: true}, want: warningNotCvsConfirm},
		{name: "void meanwhile", handle: answers("OK"), request: emulator.ScenarioVoid, want: warningNotCvsConfirm},
		{name: "forged", handle: answers("OK"), request: emulator.ScenarioForgedAmount, want: warningNotCvsConfirm},
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
		if result.Warning != warningNotCvsConfirm || result.Second.Warning != warningNotCvsConfirm {
			t.Errorf("%+v, second %+v", result, result.Second)
		}
	})
	t.Run("without confirm_url", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t, emulator.Options{})
		issued := s.issue(`"merchant_uid":"order","amount":1,"notice_url":"` + newGateway(t, answers("OK")).URL + `"`)
		for range 2 { // the second scan only repeats the notice
			if result := s.scenario(issued, emulator.ScenarioRepeatedNotice); !result.Accepted || result.Warning != "" {
				t.Errorf("%+v", result)
			}
		}
	})
	// The redacted body is not what decides whether the response came from cvs_confirm.
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

func TestRefusedBarcodeCanBeScannedAgain(t *testing.T) {
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

func TestScanWithoutURLsAsksNobody(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	a := s.do("POST", "/till", asForm, "barcode="+barcode)
	if a.status != 200 || !strings.Contains(a.raw, "\n  \"accepted\": true,\n") || !strings.Contains(a.raw, `"confirm": null`) ||
		!strings.Contains(a.raw, `"notice": []`) || !strings.Contains(a.raw, `"pay_type": "card"`) {
		t.Errorf("%d %s", a.status, a.raw)
	}
}

func TestScanRejectsUnpayableBarcodes(t *testing.T) {
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
	// The API has no status "expired". The payment stays ready.
	s.get("/payments/find/expired/ready").expect(t, 200, 0)
}

func TestTillRejectsInvalidRequests(t *testing.T) {
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
		{asForm, `{"barcode":"0"}`, 404}, // as curl -d sends it
		{asForm, `{"barcode":"0"`, 400},
		{asJSON, strings.Repeat(" ", 1<<20+1), 413},
	} {
		s.do("POST", "/till", test.contentType, test.body).expect(t, test.status, -1)
	}
}

// Both tills get the gateway's acceptance before either payment is made.
func TestConcurrentScansPayOnce(t *testing.T) {
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

func TestPaymentRemovedDuringScan(t *testing.T) {
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

func TestRefusalOfVoidPaymentIsNotRecorded(t *testing.T) {
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

// If ctx ends before the gateway has responded, the payment is not made. The notices of a payment that was made are sent even if
// ctx has ended.
func TestCancelledScanPaysOnlyWithoutConfirmURL(t *testing.T) {
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
