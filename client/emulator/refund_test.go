package emulator_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// A refund from the page is one by the merchant's staff: whole or in part, with or without a notice.
func TestPageRefunds(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{CancelNotices: true}) // which is for the API's call: the page has its own choice
	g := newGateway(t, accepts)
	issued := s.order("order", g)
	here := "?barcode=" + issued.field("vbank_num")
	english := func() string { return words(s.page(here, "Accept-Language", "en")) }
	if page := english(); strings.Contains(page, "Amount to refund") {
		t.Errorf("an unpaid barcode can be refunded: %s", page)
	}
	s.scan(issued.field("vbank_num"), "card")
	mustContain(t, s.page(here), `name="imp_uid" value="`+issued.field("imp_uid")+`"`, `max="15000" step="any" value="15000"`)

	refund := func(amount, notice string) {
		t.Helper()
		form := url.Values{"imp_uid": {issued.field("imp_uid")}, "amount": {amount}, "enable_webhook": {notice}}
		if status, location := s.submit("/till-refund"+here, form); status != 303 || location != "till"+here {
			t.Errorf("%d %s", status, location)
		}
	}
	refund("4000", "false")
	mustContain(t, english(), "Refunded 4,000 KRW", "Payment Refunded in part imp_", "State Refunded in part")
	mustContain(t, s.page(here), `max="11000"`)
	if got := len(g.got()); got != 2 {
		t.Errorf("%d webhooks", got)
	}
	refund("11000", "true")
	mustContain(t, english(), "Refunded 11,000 KRW", "Payment Refunded imp_", "Notice webhook POST "+g.URL+"/notice", "200 OK")
	p := s.get("/payments/" + issued.field("imp_uid") + "?include_sandbox=true").cancelled(t)
	if p.CancelAmount != 15000 || len(p.CancelHistory) != 2 {
		t.Errorf("%+v", p)
	}
	want := fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":"order","status":"cancelled","cancellation_id":%q}`, issued.field("imp_uid"), p.CancelHistory[1].CancellationID)
	if got := g.got(); len(got) != 3 || got[2].body != want {
		t.Errorf("%v, want %s", got, want)
	}
	if strings.Contains(english(), "Amount to refund") {
		t.Error("a refunded payment can be refunded again")
	}
	refund("1", "true")
	mustContain(t, english(), "This cannot be refunded")
}

func TestPageRefusesRefunds(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	impUID := s.paid("order").field("imp_uid")
	for _, form := range []url.Values{
		{},
		{"imp_uid": {"nothing"}},
		{"imp_uid": {impUID}, "amount": {"x"}},
		{"imp_uid": {impUID}, "amount": {"15001"}},
		{"imp_uid": {s.issue(`"merchant_uid":"open","amount":1`).field("imp_uid")}},
	} {
		before := strings.Count(words(s.page("")), "환불할 수 없습니다")
		if status, _ := s.submit("/till-refund", form); status != 303 {
			t.Errorf("%v: %d", form, status)
		}
		if after := strings.Count(words(s.page("")), "환불할 수 없습니다"); after != before+1 {
			t.Errorf("%v: %d entries", form, after)
		}
	}
	if got := s.Payments()[1]; got.CancelAmount != 0 {
		t.Errorf("%+v", got)
	}
	s.do("POST", "/till-refund", asForm, "%").expect(t, 400, -1)
	s.do("POST", "/till-refund", asForm, "imp_uid="+impUID, "Sec-Fetch-Site", "cross-site").expect(t, 403, -1)
	_ = s.Close()
	s.do("POST", "/till-refund", asForm, "imp_uid="+impUID).expect(t, 503, -1)
}

// The API's own refunds show their notices on the page, too.
func TestPageShowsNoticesOfRefunds(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{CancelNotices: true})
	g := newGateway(t, accepts)
	s.scan(s.order("order", g).field("vbank_num"), "cash")
	s.cancel(`"merchant_uid":"order"`).expect(t, 200, 0)
	_ = s.Close() // waits for the notice
	mustContain(t, words(s.page("", "Accept-Language", "en")), "The notice was sent", "Payment Refunded imp_")
}
