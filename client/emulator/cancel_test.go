package emulator_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// cancelled holds the fields of a response about cancellations.
type cancelled struct {
	Status        string  `json:"status"`
	CancelAmount  float64 `json:"cancel_amount"`
	CancelledAt   int64   `json:"cancelled_at"`
	CancelReason  *string `json:"cancel_reason"`
	CancelHistory []struct {
		PGTID          string  `json:"pg_tid"`
		Amount         float64 `json:"amount"`
		CancelledAt    int64   `json:"cancelled_at"`
		Reason         string  `json:"reason"`
		CancellationID string  `json:"cancellation_id"`
	} `json:"cancel_history"`
}

func (e envelope) cancelled(t *testing.T) (c cancelled) {
	t.Helper()
	if err := json.Unmarshal(e.Response, &c); err != nil {
		t.Fatal(err, e.raw)
	}
	return c
}

func TestCancelRefundsPartially(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	impUID := s.paid("order").field("imp_uid")
	c.advance(time.Minute)
	first := s.cancel(`"imp_uid":"` + impUID + `","amount":4000,"checksum":15000,"reason":"하나 반품"`).cancelled(t)
	if first.Status != "cancelled" || first.CancelAmount != 4000 || first.CancelledAt != c.now().Unix() || *first.CancelReason != "하나 반품" || len(first.CancelHistory) != 1 {
		t.Errorf("after a part: %+v", first)
	}
	for members, message := range map[string]string{
		`"imp_uid":"` + impUID + `","amount":11001`:                 "취소 가능 잔액을 초과하였습니다.",
		`"imp_uid":"` + impUID + `","amount":1000,"checksum":15000`: "취소 가능 잔액(checksum)이 일치하지 않습니다.",
		`"imp_uid":"` + impUID + `","checksum":0`:                   "취소 가능 잔액(checksum)이 일치하지 않습니다.",
	} {
		a := s.cancel(members)
		a.expect(t, 200, 1)
		if *a.Message != message {
			t.Errorf("%s: %s", members, a.raw)
		}
	}
	c.advance(time.Minute)
	rest := s.do("POST", "/payments/cancel/", asForm, "merchant_uid=order&checksum=11000").cancelled(t) // by the order's number, and all that is left
	if rest.Status != "cancelled" || rest.CancelAmount != 15000 || len(rest.CancelHistory) != 2 || rest.CancelReason != nil {
		t.Errorf("after the rest: %+v", rest)
	}
	one, two := rest.CancelHistory[0], rest.CancelHistory[1]
	if one.Amount != 4000 || two.Amount != 11000 || one.CancellationID == two.CancellationID || one.PGTID == two.PGTID || one.CancelledAt >= two.CancelledAt || one.Reason != "하나 반품" {
		t.Errorf("history: %+v", rest.CancelHistory)
	}
	a := s.cancel(`"imp_uid":"` + impUID + `"`)
	a.expect(t, 200, 1)
	if *a.Message != "이미 전액취소된 주문입니다." {
		t.Error(a.raw)
	}
	if got := s.Payments()[0]; got.CancelAmount != 15000 || got.Status != "cancelled" {
		t.Errorf("%+v", got)
	}
	if got := s.get("/payments/status/cancelled").field("total"); got != "1" {
		t.Errorf("%s are listed as cancelled", got)
	}
	s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":15000}`).expect(t, 200, 1) // refused, because the order was paid once
	if code, _ := s.scan(s.Payments()[0].Barcode, "card"); code != 409 {
		t.Errorf("a refunded barcode was scanned: %d", code)
	}
}

func TestCancelRefuses(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.issue(`"merchant_uid":"open","amount":1`)
	s.paid("order")
	paid := s.Payments()[0].ImpUID
	for _, c := range []struct {
		members      string
		status, code int
		message      string
	}{
		{"", 400, -1, "imp_uid: 필수 파라미터입니다."},
		{`"imp_uid":1`, 400, -1, "imp_uid: 문자열이어야 합니다."},
		{`"imp_uid":"` + paid + `","amount":0`, 400, -1, "amount: 0보다 커야 합니다."}, // refused, and not treated as a refund of all
		{`"imp_uid":"` + paid + `","amount":"x"`, 400, -1, "amount: 숫자여야 합니다."},
		{`"imp_uid":"` + paid + `","checksum":-1`, 400, -1, "checksum: 0 이상이어야 합니다."},
		{`"imp_uid":"` + paid + `","amount":""`, 400, -1, "amount: 필수 파라미터입니다."},
		{`"imp_uid":"` + paid + `","amount":0.5`, 400, -1, "amount: 원 단위의 정수여야 합니다."},
		{`"imp_uid":"nothing"`, 200, 1, "취소할 결제건이 존재하지 않습니다."},
		{`"imp_uid":"nothing","merchant_uid":"order"`, 200, 1, "취소할 결제건이 존재하지 않습니다."},
		{`"merchant_uid":"nothing"`, 200, 1, "취소할 결제건이 존재하지 않습니다."},
		{`"merchant_uid":"open"`, 200, 1, "결제가 완료되지 않은 주문은 취소할 수 없습니다."},
	} {
		a := s.cancel(c.members)
		a.expect(t, c.status, c.code)
		if a.Message == nil || *a.Message != c.message {
			t.Errorf("%s: %s", c.members, a.raw)
		}
	}
	a := s.as("other").cancel(`"imp_uid":"` + paid + `"`)
	a.expect(t, 200, 1)
	if got := s.Payments()[0]; got.CancelAmount != 0 || got.Status != "paid" {
		t.Errorf("%+v", got)
	}
}

// The amounts are sums of money, without the errors of floating-point arithmetic.
func TestCancelKeepsFractionsExact(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Fractions: emulator.FractionsKeep})
	a := s.issue(`"merchant_uid":"order","amount":0.3`)
	s.scan(a.field("vbank_num"), "cash")
	for _, left := range []string{"0.3", "0.2", "0.1"} {
		if got := s.get("/payments/" + a.field("imp_uid") + "/balance").field("amount"); got != left {
			t.Errorf("%s is left, want %s", got, left)
		}
		s.cancel(`"merchant_uid":"order","amount":0.1,"checksum":`+left).expect(t, 200, 0)
	}
	if got := s.Payments()[0]; got.Status != "cancelled" || got.CancelAmount != 0.3 {
		t.Errorf("%+v", got)
	}
	if _, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: a.field("vbank_num"), Scenario: emulator.ScenarioRepeatedNotice}); !errors.Is(err, emulator.ErrPaid) {
		t.Errorf("a refunded barcode was scanned: %v", err)
	}
	rounding := newSandbox(t, emulator.Options{Fractions: emulator.FractionsRound})
	rounding.paid("order")
	if got := rounding.cancel(`"merchant_uid":"order","amount":4000.6`).field("cancel_amount"); got != "4001" {
		t.Errorf("%s were refunded", got)
	}
}

func TestCancelSendsNoticeOnRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for body, wanted := range map[string]bool{
			`{"merchant_uid":"order","enable_webhook":true}`: true, `{"merchant_uid":"order","enable_webhook":"true"}`: true,
			`{"merchant_uid":"order","enable_webhook":false}`: false, `{"merchant_uid":"order"}`: false,
		} {
			notices := 0
			e := emulator.New(emulator.Options{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				notices++
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})})
			token := issueDirectly(t, e, `{"merchant_uid":"order","amount":1,"notice_url":"http://shop.example/notice"}`)
			if _, err := e.Scan(t.Context(), emulator.ScanRequest{Barcode: e.Payments()[0].Barcode}); err != nil {
				t.Fatal(err)
			}
			serve(e, "POST", "/payments/cancel", strings.NewReader(body), "Authorization", token)
			synctest.Wait()
			if want := map[bool]int{true: 2, false: 1}[wanted]; notices != want {
				t.Errorf("%d notices, want %d", notices, want)
			}
			_ = e.Close()
		}
	})
}

func TestCancelNoticeHasCancellationID(t *testing.T) {
	t.Parallel()
	came := make(chan struct{}, 2)
	shop := newGateway(t, func(http.ResponseWriter, *http.Request) { came <- struct{}{} })
	s := newSandbox(t, emulator.Options{CancelNotices: true})
	impUID := s.paid("order", `"notice_url":"`+shop.URL+`/notice"`).field("imp_uid")
	done := s.cancel(`"imp_uid":"` + impUID + `","amount":4000`).cancelled(t)
	<-came
	<-came // sent after the response
	want := fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":"order","status":"cancelled","cancellation_id":%q}`, impUID, done.CancelHistory[0].CancellationID)
	if got := shop.got(); got[1].body != want {
		t.Errorf("%s, want %s", got[1].body, want)
	}
}
