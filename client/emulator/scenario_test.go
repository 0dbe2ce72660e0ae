package emulator_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestScenarioTwicePaysOnce(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	// The gateway responds only after both tills have asked.
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

func TestScenarioVoidPreventsPayment(t *testing.T) {
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

func TestScenarioAfterVoidPaysVoidBarcode(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(409))
	barcode := s.order("order", g)
	s.do("DELETE", "/cvs/"+barcode.field("imp_uid"), "", "")
	result := s.scenario(barcode, emulator.ScenarioAfterVoid)
	if !result.Accepted || result.Confirm != nil || len(result.Notice) != 1 || result.Payment.Status != "paid" || result.Payment.PaidAt == 0 || result.Payment.CancelledAt != 0 {
		t.Errorf("%+v", result)
	}
	_, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode.field("vbank_num"), Scenario: emulator.ScenarioAfterVoid})
	if !errors.Is(err, emulator.ErrPaid) {
		t.Errorf("paid twice: %v", err)
	}
	refused := s.scenario(s.order("another", g), emulator.ScenarioAfterVoid)
	if refused.Accepted || refused.Confirm == nil {
		t.Errorf("a barcode that is not void: %+v", refused)
	}
}

func TestScenarioLateExpiresBarcode(t *testing.T) {
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

func TestScenarioRepeatedNoticeSendsNoticeTwice(t *testing.T) {
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

func TestScenarioLostNoticePaysWithoutNotice(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	result := s.scenario(s.order("order", g), emulator.ScenarioLostNotice)
	if !result.Accepted || result.Payment.Status != "paid" || len(result.Notice) != 1 || result.Notice[0].Error != "sandbox fault: the webhook was not sent" {
		t.Errorf("%+v", result)
	}
	if len(g.got()) != 1 || s.Requests(emulator.EndpointNotice) != 0 {
		t.Errorf("%d webhooks", len(g.got()))
	}
	s.scenario(s.order("next", g), "")
	if len(g.got()) != 3 {
		t.Error("the next notice was lost, too")
	}
}

func TestScenarioForgedAltersWebhook(t *testing.T) {
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

func TestScanRejectsUnknownScenario(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, scenario := range []string{"thrice", "forged_", "forged"} {
		a := s.do("POST", "/till", asForm, "barcode=1&scenario="+scenario)
		a.expect(t, 400, -1)
		if !strings.Contains(a.raw, "twice, void, late, after_void, repeated_notice, lost_notice, forged_signature") {
			t.Errorf("%s does not say what there is", a.raw)
		}
	}
	s.do("POST", "/till", asJSON, `{"barcode":"1","scenario":1}`).expect(t, 400, -1)
}
