package emulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestFaultStatusAndCode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault        emulator.Fault
		status, code int
		message      string
	}{
		{emulator.Fault{Status: 500}, 500, -1, "요청을 처리할 수 없습니다."},
		{emulator.Fault{Status: 429, Code: 7, Message: "천천히"}, 429, 7, "천천히"},
		{emulator.Fault{Code: 1, Message: "한도 초과"}, 200, 1, "한도 초과"},
		{emulator.Fault{Code: -1}, 200, -1, "요청을 처리할 수 없습니다."},
	} {
		s := newSandbox(t, emulator.Options{})
		test.fault.Endpoint, test.fault.Times = emulator.EndpointIssue, 1
		s.inject(test.fault)
		a := s.do("POST", "/cvs", asJSON, orderBody)
		a.expect(t, test.status, test.code)
		if a.Message == nil || *a.Message != test.message {
			t.Errorf("%+v: %s", test.fault, a.raw)
		}
		if len(s.Payments()) != 0 {
			t.Errorf("%+v: the work was done all the same", test.fault)
		}
		s.do("POST", "/cvs", asJSON, orderBody).expect(t, 200, 0)
		if got := s.Requests(emulator.EndpointIssue); got != 2 {
			t.Errorf("%d requests counted", got)
		}
	}
}

func TestFaultStatusWithoutBody(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Status: 204})
	if a := s.get("/payments/find/order"); a.status != 204 || a.raw != "" || a.header.Get("Content-Length") != "" {
		t.Errorf("%d %q", a.status, a.raw)
	}
}

func TestFaultOnEachEndpoint(t *testing.T) {
	t.Parallel()
	requests := map[emulator.Endpoint]struct{ method, path, body string }{
		emulator.EndpointToken:    {"POST", "/users/getToken", `{"imp_key":"k","imp_secret":"s"}`},
		emulator.EndpointIssue:    {"POST", "/cvs", orderBody},
		emulator.EndpointVoid:     {"DELETE", "/cvs/imp_0", ""},
		emulator.EndpointPayment:  {"GET", "/payments/imp_0", ""},
		emulator.EndpointPayments: {"GET", "/payments?imp_uid[]=imp_0", ""},
		emulator.EndpointBalance:  {"GET", "/payments/imp_0/balance", ""},
		emulator.EndpointFind:     {"GET", "/payments/find/order", ""},
		emulator.EndpointFindAll:  {"GET", "/payments/findAll/order", ""},
		emulator.EndpointList:     {"GET", "/payments/status/all", ""},
		emulator.EndpointCancel:   {"POST", "/payments/cancel", `{"imp_uid":"imp_0"}`},
		emulator.EndpointPrepare:  {"GET", "/payments/prepare/order", ""},
		emulator.EndpointCard:     {"POST", "/subscribe/payments/onetime", cardBody("order", 1)},
	}
	for faulty := range requests {
		for _, endpoint := range []emulator.Endpoint{faulty, emulator.EndpointAll} {
			s := newSandbox(t, emulator.Options{})
			s.inject(emulator.Fault{Endpoint: endpoint, Status: 503})
			for name, r := range requests {
				want := endpoint == emulator.EndpointAll || name == faulty
				if a := s.do(r.method, r.path, asJSON, r.body); (a.status == 503) != want {
					t.Errorf("fault on %s: %s answered %d", endpoint, name, a.status)
				}
			}
			s.ClearFaults()
			for name, r := range requests {
				if a := s.do(r.method, r.path, asJSON, r.body); a.status == 503 {
					t.Errorf("cleared, but %s answered 503", name)
				}
			}
		}
	}
}

func TestFaultsAreUsedInOrder(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Times: 2, Status: 500})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointAll, Times: 1, Status: 502})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Status: 503})
	var got []int
	for range 5 {
		got = append(got, s.get("/payments/find/order").status)
		if len(got) == 1 && (len(s.Faults()) != 3 || s.Faults()[0].Times != 1) {
			t.Errorf("after one: %+v", s.Faults())
		}
	}
	if fmt.Sprint(got) != "[500 500 502 503 503]" {
		t.Errorf("answers %v", got)
	}
	if left := s.Faults(); len(left) != 1 || left[0].Status != 503 {
		t.Errorf("left: %+v", left)
	}
}

// A request that a fault cannot affect does not reduce the fault's Times.
func TestFaultOnAllIsKeptForAffectedRequests(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	s.inject(emulator.Fault{Endpoint: emulator.EndpointAll, Times: 1, Forged: emulator.ForgedUnsigned})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointAll, Times: 1, ExpiredToken: true})
	s.login("key", "secret")
	a := s.do("POST", "/cvs", asJSON, orderBody)
	a.expect(t, 401, -1)
	s.token = s.login("key", "secret")
	if _, result := s.scan(s.order("order", g).field("vbank_num"), "card"); result.Confirm.Forged != emulator.ForgedUnsigned {
		t.Errorf("%+v", result.Confirm)
	}
	barcode := s.order("other", g).field("vbank_num")
	s.inject(emulator.Fault{Endpoint: emulator.EndpointAll, Times: 1, Status: 500})
	if _, result := s.scan(barcode, "card"); !result.Accepted {
		t.Errorf("%+v", result)
	}
	s.get("/payments/find/order").expect(t, 500, -1)
}

// overEachProtocol runs a test with sandboxes over HTTP/1 and over HTTP/2.
func overEachProtocol(t *testing.T, test func(t *testing.T, start func() *sandbox)) {
	t.Helper()
	for name, listen := range map[string]func(*httptest.Server){
		"HTTP/1": (*httptest.Server).Start,
		"HTTP/2": func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func() *sandbox {
				e := emulator.New(emulator.Options{})
				server := httptest.NewUnstartedServer(e)
				listen(server)
				t.Cleanup(server.Close)
				s := &sandbox{Emulator: e, t: t, server: server}
				s.token = s.login("key", "secret")
				return s
			})
		})
	}
}

func TestFaultDropClosesTheConnection(t *testing.T) {
	t.Parallel()
	overEachProtocol(t, func(t *testing.T, start func() *sandbox) {
		for _, test := range []struct {
			drop emulator.Drop
			done bool
		}{{emulator.DropBefore, false}, {emulator.DropAfter, true}, {emulator.DropBody, true}} {
			s := start()
			s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: test.drop})
			a, err := s.try("POST", "/cvs", asJSON, orderBody)
			if err == nil {
				t.Fatalf("%s: answered %d %q", test.drop, a.status, a.raw)
			}
			if gotHeaders := a.status == 200; gotHeaders != (test.drop == emulator.DropBody) {
				t.Errorf("%s: status %d, %v", test.drop, a.status, err)
			}
			if half := a.raw; test.drop == emulator.DropBody && (!strings.HasPrefix(half, `{"code":0`) || json.Valid([]byte(half))) {
				t.Errorf("%s: body %q", test.drop, half)
			}
			if got := len(s.Payments()) == 1; got != test.done {
				t.Errorf("%s: work done = %v", test.drop, got)
			}
			s.do("POST", "/cvs", asJSON, orderBody).expect(t, 200, 0)
		}
	})
}

func TestFaultGarbageAnswersHTML(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Garbage: true})
	a := s.do("POST", "/cvs", asJSON, orderBody)
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || json.Valid([]byte(a.raw)) {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if len(s.Payments()) != 1 {
		t.Error("the work was not done")
	}
}

func TestFaultOversizedAnswers16MiB(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Oversized: true})
	a := s.do("POST", "/cvs", asJSON, orderBody)
	if len(a.raw) != 16<<20 || a.status != 200 || a.Code != 0 || a.field("merchant_uid") != "order" {
		t.Errorf("%d bytes with status %d and code %d", len(a.raw), a.status, a.Code)
	}
	if len(s.Payments()) != 1 {
		t.Error("the work was not done")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestFaultsKeepTheStatus(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Times: 1, Drop: emulator.DropBody})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Times: 1, Oversized: true})
	for range 2 {
		a, _ := s.try("GET", "/payments/find/none", "", "")
		if a.status != 404 || a.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("status %d, %v", a.status, a.header)
		}
	}
}

func TestFaultExpiredTokenAnswers401(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
	s.do("POST", "/cvs", asJSON, orderBody).expect(t, 401, -1)
	s.do("POST", "/cvs", asJSON, orderBody).expect(t, 401, -1) // the token stays expired
	old := s.token
	if s.token = s.login("key", "secret"); s.token == old || s.TokensIssued() != 2 {
		t.Error("no new token was issued")
	}
	s.do("POST", "/cvs", asJSON, orderBody).expect(t, 200, 0)
	if len(s.Payments()) != 1 {
		t.Errorf("%d payments", len(s.Payments()))
	}
}

func TestFaultDelayDelaysTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		if err := e.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Times: 1, Delay: 1500 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		rec := serve(e, "POST", "/users/getToken", strings.NewReader(`{"imp_key":"k","imp_secret":"s"}`))
		if got := time.Since(start); got != 1500*time.Millisecond || rec.Code != 200 {
			t.Errorf("answered %d after %v", rec.Code, got)
		}
	})
}

// The client closes the connection during a delay of an hour.
func TestFaultDelayAfterClientLeaves(t *testing.T) {
	t.Parallel()
	for _, cancelWithClient := range []bool{false, true} {
		t.Run(fmt.Sprint(cancelWithClient), func(t *testing.T) {
			t.Parallel()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var e *emulator.Emulator
			served := make(chan bool, 1)
			server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					if r.URL.Path == "/cvs" {
						served <- true
					}
				}()
				e.ServeHTTP(w, r)
			}))
			e = emulator.New(emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
				if endpoint == emulator.EndpointIssue {
					leave()
				}
			}})
			s := &sandbox{Emulator: e, t: t, server: server}
			s.token = s.login("key", "secret")
			s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Delay: time.Hour, CancelWithClient: cancelWithClient})
			req := must(http.NewRequestWithContext(ctx, "POST", server.URL+"/cvs", strings.NewReader(orderBody)))
			req.Header.Set("Content-Type", asJSON)
			req.Header.Set("Authorization", s.token)
			if resp, err := server.Client().Do(req); err == nil {
				_ = resp.Body.Close()
				t.Error("the client got an answer")
			}
			if !cancelWithClient {
				_ = e.Close() // nothing else ends the delay
			}
			<-served
			if done := len(e.Payments()) == 1; done == cancelWithClient {
				t.Errorf("the work was done = %v", done)
			}
		})
	}
}

func TestCloseEndsDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		token := issueDirectly(t, e, orderBody)
		if err := e.Inject(emulator.Fault{Endpoint: emulator.EndpointFind, Delay: time.Hour}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		code := make(chan int, 1)
		go func() { code <- serve(e, "GET", "/payments/find/order", nil, "Authorization", token).Code }()
		synctest.Wait()
		_ = e.Close()
		if got := <-code; got != 200 || time.Since(start) != 0 {
			t.Errorf("answered %d after %v", got, time.Since(start))
		}
	})
}

func TestFaultsAlterWebhooks(t *testing.T) {
	t.Parallel()
	const signed = "/confirm?a=%20b&cvs_amount=15000&cvs_sig=AbCdEf&z=1"
	for _, test := range []struct {
		name     string
		fault    emulator.Fault
		uri      string // the path of the confirm_url
		want     string // the path of the webhooks sent
		merchant string
		sent     int
		accepted bool
	}{
		{"none", emulator.Fault{}, signed, signed, "order", 1, true},
		{"dropped before", emulator.Fault{Drop: emulator.DropBefore}, signed, "", "", 0, false},
		{"dropped after", emulator.Fault{Drop: emulator.DropAfter}, signed, signed, "order", 1, false},
		{"duplicate", emulator.Fault{Duplicate: true}, signed, signed, "order", 2, true},
		{"forged signature", emulator.Fault{Forged: emulator.ForgedSignature}, signed, "/confirm?a=%20b&cvs_amount=15000&cvs_sig=1bCdEf&z=1", "order", 1, true},
		{"forged amount", emulator.Fault{Forged: emulator.ForgedAmount}, signed, "/confirm?a=%20b&cvs_amount=25000&cvs_sig=AbCdEf&z=1", "order", 1, true},
		{"forged order", emulator.Fault{Forged: emulator.ForgedMerchantUID}, signed, signed, "1rder", 1, true},
		{"unsigned", emulator.Fault{Forged: emulator.ForgedUnsigned}, signed, "/confirm", "order", 1, true},
		{"signature added", emulator.Fault{Forged: emulator.ForgedSignature}, "/confirm", "/confirm?cvs_sig=1", "order", 1, true},
		{"amount added", emulator.Fault{Forged: emulator.ForgedAmount}, "/confirm?a=b", "/confirm?a=b&cvs_amount=1", "order", 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			g := newGateway(t, status(200))
			barcode := s.issue(`"merchant_uid":"order","amount":15000,"confirm_url":"` + g.URL + test.uri + `"`).field("vbank_num")
			if test.fault != (emulator.Fault{}) {
				test.fault.Endpoint = emulator.EndpointConfirm
				s.inject(test.fault)
			}
			_, result := s.scan(barcode, "card")
			if result.Accepted != test.accepted || result.Confirm.Forged != test.fault.Forged {
				t.Errorf("%+v", result)
			}
			if !test.accepted && !strings.Contains(result.Reason, "sandbox fault: ") {
				t.Errorf("reason %q", result.Reason)
			}
			hits := g.got()
			if len(hits) != test.sent || s.Requests(emulator.EndpointConfirm) != test.sent {
				t.Fatalf("%d webhooks sent, %d counted", len(hits), s.Requests(emulator.EndpointConfirm))
			}
			for _, h := range hits {
				if h.uri != test.want || !strings.Contains(h.body, `"merchant_uid":"`+test.merchant+`"`) {
					t.Errorf("sent %s with %s", h.uri, h.body)
				}
			}
		})
	}
}

func TestFirstAnswerToDuplicateConfirmDecides(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	var n atomic.Int32
	g := newGateway(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 2 {
			w.WriteHeader(409)
			_, _ = io.WriteString(w, `{"reason":"second"}`)
		}
	})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointConfirm, Duplicate: true})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Duplicate: true})
	_, result := s.scan(s.order("order", g).field("vbank_num"), "card")
	second := result.Confirm.Duplicate
	if !result.Accepted || result.Confirm.Status != 200 || second == nil || second.Status != 409 ||
		compact(second.Body) != `{"reason":"second"}` || result.Payment.FailReason != "" {
		t.Errorf("%+v\n%+v", result, second)
	}
	if notice := result.Notice[0]; notice.Duplicate == nil || notice.Duplicate.Status != 200 || len(g.got()) != 4 {
		t.Errorf("%+v, %d webhooks", notice, len(g.got()))
	}
}

func TestFaultsAlterWebhookBodies(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	for _, f := range []emulator.Fault{{Garbage: true}, {Oversized: true}} {
		f.Endpoint, f.Times = emulator.EndpointNotice, 1
		s.inject(f)
	}
	for i, matches := range []func(hit) bool{
		func(h hit) bool {
			return h.header.Get("Content-Type") == "text/html" && strings.HasPrefix(h.body, "<!DOCTYPE html>")
		},
		func(h hit) bool { return len(h.body) == 2<<20 && json.Valid([]byte(h.body)) },
		func(h hit) bool { return h.body[0] == '{' && len(h.body) < 200 },
	} {
		s.scan(s.issue(fmt.Sprintf(`"merchant_uid":"order-%d","amount":1,"notice_url":%q`, i, g.URL)).field("vbank_num"), "card")
		if h := g.got()[i]; !matches(h) {
			t.Errorf("webhook %d: %d bytes of %s", i, len(h.body), h.header.Get("Content-Type"))
		}
	}
}

func TestFaultDelaysWebhook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent time.Time
		e := emulator.New(emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			sent = time.Now()
			rec := httptest.NewRecorder()
			rec.WriteHeader(200)
			return rec.Result(), nil
		})})
		issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"barcode":"1","confirm_url":"http://gateway/"}`)
		if err := e.Inject(emulator.Fault{Endpoint: emulator.EndpointConfirm, Delay: time.Minute}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		result, err := e.Scan(t.Context(), emulator.ScanRequest{Barcode: "1"})
		if err != nil || !result.Accepted || sent.Sub(start) != time.Minute || result.Confirm.DurationMS != 0 {
			t.Errorf("%v %+v, sent after %v", err, result, sent.Sub(start))
		}
	})
}

// The till does not wait for a notice that a fault delays, so that notices can come in another order than the payments.
func TestFaultDelaysOneNotice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		sent := map[string]time.Duration{} // by the order's number
		e := emulator.New(emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			sent[string(body)] = time.Since(start)
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})})
		if err := e.Inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Delay: time.Minute, Times: 1}); err != nil {
			t.Fatal(err)
		}
		want := map[string]time.Duration{}
		for i, after := range []time.Duration{time.Minute, 0} {
			order := fmt.Sprintf("order-%d", i)
			issueDirectly(t, e, fmt.Sprintf(`{"merchant_uid":%q,"amount":1,"barcode":"%d","notice_url":"http://shop.example/notice?cvs_sig=secret"}`, order, i))
			result, err := e.Scan(t.Context(), emulator.ScanRequest{Barcode: fmt.Sprint(i)})
			if err != nil || !result.Accepted || time.Since(start) != 0 {
				t.Errorf("%v %+v after %v", err, result, time.Since(start))
			}
			if i == 0 && (result.Notice[0].Error != "sandbox fault: the webhook is sent after 1m0s" || result.Notice[0].URL != "http://shop.example/notice?cvs_sig=…") {
				t.Errorf("%+v", result.Notice)
			}
			want[fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid"}`, result.Payment.ImpUID, order)] = after
		}
		entries := strings.Count(serve(e, "GET", "/till", nil).Body.String(), `class="exchange good"`)
		time.Sleep(time.Minute)
		synctest.Wait()
		if fmt.Sprint(sent) != fmt.Sprint(want) {
			t.Errorf("sent %v, want %v", sent, want)
		}
		page := serve(e, "GET", "/till", nil, "Accept-Language", "en").Body.String()
		if entries != 2 || strings.Count(page, `class="exchange good"`) != 3 || !strings.Contains(page, "<strong>The notice was sent</strong>") {
			t.Errorf("the late notice has no entry: %s", words(page))
		}
		_ = e.Close()
	})
}

func TestCloseCancelsDelayedNotices(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{Transport: roundTrip(hang)})
		issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"barcode":"1","notice_url":"http://shop.example/"}`)
		if err := e.Inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Delay: time.Minute}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := e.Scan(t.Context(), emulator.ScanRequest{Barcode: "1"}); err != nil {
			t.Error(err)
		}
		_ = e.Close()
		if time.Since(start) != 0 || e.Requests(emulator.EndpointNotice) != 0 {
			t.Errorf("closed after %v, %d notices", time.Since(start), e.Requests(emulator.EndpointNotice))
		}
	})
}

func TestDelayedWebhookIsCancelledWithScan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{Transport: roundTrip(hang)})
		issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"barcode":"1","confirm_url":"http://gateway/"}`)
		if err := e.Inject(emulator.Fault{Endpoint: emulator.EndpointConfirm, Delay: time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		result, err := e.Scan(ctx, emulator.ScanRequest{Barcode: "1"})
		if err != nil || result.Accepted || result.Confirm.Error == "" || time.Since(start) != time.Second || e.Requests(emulator.EndpointConfirm) != 0 {
			t.Errorf("%v %+v after %v", err, result, time.Since(start))
		}
	})
}

func TestInjectRejectsInvalidFaults(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for body, want := range map[string]string{
		`{}`:                               "endpoint must be one of token, issue, void, payment, payments, balance, find, find_all, list, cancel, prepare, card, confirm, notice, all; a fault needs a delay or an effect",
		`{"endpoint":"till","status":500}`: "endpoint must be one of token,",
		`{"endpoint":"issue"}`:             "a fault needs a delay or an effect",
		`{"endpoint":"issue","times":-1,"status":500}`:                 "times must not be negative",
		`{"endpoint":"issue","delay":"-1s"}`:                           "delay must be between 0 and 1h0m0s",
		`{"endpoint":"issue","delay":"61m"}`:                           "delay must be between 0 and 1h0m0s",
		`{"endpoint":"issue","delay":"soon"}`:                          `delay must be a duration such as "1.5s", not "soon"`,
		`{"endpoint":"issue","delay":1.5}`:                             "reading fault: json: ",
		`{"endpoint":"issue","status":199}`:                            "status must be between 200 and 599",
		`{"endpoint":"issue","status":600}`:                            "status must be between 200 and 599",
		`{"endpoint":"issue","message":"x","delay":"1s"}`:              "message needs a status or a code",
		`{"endpoint":"issue","drop":"later"}`:                          "drop must be one of before, after, body",
		`{"endpoint":"confirm","forged":"all"}`:                        "forged must be one of signature, amount, merchant_uid, unsigned",
		`{"endpoint":"issue","drop":"after","garbage":true}`:           "one fault cannot combine drop, garbage",
		`{"endpoint":"issue","late":"-1s"}`:                            "late must be between 0 and 1h0m0s",
		`{"endpoint":"issue","late":"61m"}`:                            "late must be between 0 and 1h0m0s",
		`{"endpoint":"issue","late":"soon"}`:                           `late must be a duration such as "1.5s", not "soon"`,
		`{"endpoint":"find","late":"1s"}`:                              "late has no effect on endpoint find",
		`{"endpoint":"notice","late":"1s"}`:                            "late has no effect on endpoint notice",
		`{"endpoint":"issue","late":"1s","drop":"after"}`:              "one fault cannot combine drop, late",
		`{"endpoint":"issue","late":"1s","code":1,"done":true}`:        "one fault cannot combine status or code, done, late",
		`{"endpoint":"find","stale":"-1s"}`:                            "stale must be between 0 and 1h0m0s",
		`{"endpoint":"find","stale":"61m"}`:                            "stale must be between 0 and 1h0m0s",
		`{"endpoint":"find","stale":"old"}`:                            `stale must be a duration such as "1.5s", not "old"`,
		`{"endpoint":"issue","stale":"1s"}`:                            "stale has no effect on endpoint issue",
		`{"endpoint":"find","stale":"1s","garbage":true}`:              "one fault cannot combine garbage, stale",
		`{"endpoint":"find","omit":"barcode"}`:                         "omit must be a field of the API's payments, such as vbank_num",
		`{"endpoint":"balance","omit":"vbank_num"}`:                    "omit has no effect on endpoint balance",
		`{"endpoint":"notice","omit":"status"}`:                        "omit has no effect on endpoint notice",
		`{"endpoint":"issue","done":true}`:                             "done needs a status or a code",
		`{"endpoint":"find","status":500,"done":true}`:                 "status or code, done has no effect on endpoint find",
		`{"endpoint":"issue","duplicate":true}`:                        "duplicate has no effect on endpoint issue",
		`{"endpoint":"token","expired_token":true}`:                    "expired_token has no effect on endpoint token",
		`{"endpoint":"confirm","status":500}`:                          "status or code has no effect on endpoint confirm",
		`{"endpoint":"notice","drop":"body"}`:                          "drop has no effect on endpoint notice",
		`{"endpoint":"notice","code":1}`:                               "status or code has no effect on endpoint notice",
		`{"endpoint":"issue","status":500,"cancel_with_client":true}`:  "cancel_with_client needs a delay",
		`{"endpoint":"notice","delay":"1s","cancel_with_client":true}`: "cancel_with_client has no effect on endpoint notice",
		`{"endpoint":"issue","statsu":500}`:                            `unknown field "statsu"`,
		`{"endpoint":`:                                                 "unexpected end of JSON input",
		``:                                                             "unexpected end of JSON input",
	} {
		a := s.do("POST", "/sandbox/faults", asJSON, body)
		a.expect(t, 400, -1)
		if a.Message == nil || !strings.Contains(*a.Message, want) {
			t.Errorf("%s got %s, want %s", body, a.raw, want)
		}
	}
	if got := s.Faults(); len(got) != 0 {
		t.Errorf("in force: %+v", got)
	}
	s.do("POST", "/sandbox/faults", asJSON, strings.Repeat(" ", 1<<20+1)).expect(t, 413, -1)
	for range 1000 {
		s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Status: 500})
	}
	if err := s.Inject(emulator.Fault{Endpoint: emulator.EndpointFind, Status: 500}); err == nil {
		t.Error("the faults are not bounded")
	}
}

func TestFaultSurvivesJSON(t *testing.T) {
	t.Parallel()
	for _, want := range []emulator.Fault{
		{Endpoint: "issue", Times: 3, Delay: 1500 * time.Millisecond, CancelWithClient: true},
		{Endpoint: "all", Status: 503, Code: 2, Message: "점검"},
		{Endpoint: "confirm", Forged: "amount"},
		{Endpoint: "find", Status: 200},
		{Endpoint: "find", Status: 599},
		{Endpoint: "find", Delay: time.Hour},
		{Endpoint: "find", Drop: "body"},
		{Endpoint: "find", Garbage: true},
		{Endpoint: "find", Oversized: true},
		{Endpoint: "find", ExpiredToken: true},
		{Endpoint: "issue", Late: 2 * time.Second},
		{Endpoint: "void", Late: time.Hour, Delay: time.Second, Code: 1},
		{Endpoint: "cancel", Late: time.Minute, Garbage: true},
		{Endpoint: "card", Status: 500, Done: true},
		{Endpoint: "all", Late: time.Second},
		{Endpoint: "payment", Stale: 2 * time.Second},
		{Endpoint: "list", Omit: "vbank_num"},
		{Endpoint: "notice", Duplicate: true},
	} {
		if err := emulator.New(emulator.Options{}).Inject(want); err != nil {
			t.Error(err)
		}
		b, err := json.Marshal(want)
		var got emulator.Fault
		if err = errors.Join(err, json.Unmarshal(b, &got)); err != nil || got != want {
			t.Errorf("%+v became %s and that %+v, %v", want, b, got, err)
		}
	}
	for want, f := range map[string]emulator.Fault{
		`{"endpoint":"find","delay":"1s"}`:   {Endpoint: "find", Delay: time.Second},
		`{"endpoint":"find","stale":"2s"}`:   {Endpoint: "find", Stale: 2 * time.Second},
		`{"endpoint":"void","late":"2s"}`:    {Endpoint: "void", Late: 2 * time.Second},
		`{"endpoint":"find","garbage":true}`: {Endpoint: "find", Garbage: true},
	} {
		if b, _ := json.Marshal(f); string(b) != want {
			t.Errorf("%s, want %s", b, want)
		}
	}
}

func TestFaultOptionChoosesFaults(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Fault: func(endpoint emulator.Endpoint, r *http.Request) emulator.Fault {
		switch {
		case endpoint == emulator.EndpointIssue:
			body, _ := io.ReadAll(r.Body)
			if strings.Contains(string(body), "unlucky") {
				return emulator.Fault{Status: 503}
			}
		case endpoint == emulator.EndpointConfirm && r == nil:
			return emulator.Fault{Duplicate: true}
		case endpoint == emulator.EndpointList:
			return emulator.Fault{Duplicate: true} // ignored: it cannot affect an API request
		}
		return emulator.Fault{}
	}})
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"unlucky","amount":1}`).expect(t, 503, -1)
	issued := s.order("lucky", newGateway(t, status(200)))
	s.get("/payments/status/all").expect(t, 200, 0)
	if _, result := s.scan(issued.field("vbank_num"), "card"); result.Confirm.Duplicate == nil || result.Notice[0].Duplicate != nil {
		t.Errorf("%+v", result)
	}
	s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Status: 500, Times: 1})
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"unlucky","amount":1}`).expect(t, 500, -1)
}
