package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestSandboxListsPayments(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	if a := s.get("/sandbox/payments"); a.status != 200 || strings.Join(strings.Fields(a.raw), "") != `{"payments":[]}` {
		t.Errorf("empty: %d %s", a.status, a.raw)
	}
	s.issue(`"merchant_uid":"first","amount":1`)
	s.as("other").issue(`"merchant_uid":"second","amount":2,"notice_url":"http://a/n?q=1"`)
	s.token = "" // no credentials are needed
	a := s.get("/sandbox/payments")
	var got struct{ Payments []emulator.Payment }
	if err := json.Unmarshal([]byte(a.raw), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Payments) != 2 || got.Payments[0].MerchantUID != "second" || got.Payments[1].MerchantUID != "first" {
		t.Errorf("%s", a.raw)
	}
	if !strings.Contains(a.raw, "\n  \"payments\": [") || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("neither pretty nor uncached: %v %s", a.header, a.raw)
	}
	s.Payments()[0].NoticeURL[0] = "changed"
	if got := s.Payments()[0].NoticeURL[0]; got != "http://a/n" {
		t.Errorf("the ledger was changed from outside: %s", got)
	}
}

func TestSandboxInjectsAndClearsFaults(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.token = ""
	flat := func(a envelope) string { return strings.Join(strings.Fields(a.raw), "") }
	if got := flat(s.get("/sandbox/faults")); got != `{"faults":[]}` {
		t.Errorf("none: %s", got)
	}
	// With the Content-Type that curl -d sends.
	a := s.do("POST", "/sandbox/faults", asForm, `{"endpoint":"issue","times":2,"delay":"1500ms","drop":"after"}`)
	const want = `{"faults":[{"endpoint":"issue","times":2,"drop":"after","delay":"1.5s"}]}`
	if a.status != 200 || flat(a) != want || flat(s.get("/sandbox/faults")) != want {
		t.Errorf("injected: %d %s", a.status, a.raw)
	}
	if a := s.do("DELETE", "/sandbox/faults", "", ""); a.status != 200 || flat(a) != `{"faults":[]}` || len(s.Faults()) != 0 {
		t.Errorf("cleared: %d %s", a.status, a.raw)
	}
}

func TestControlsRejectOtherOrigins(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	host := strings.TrimPrefix(s.server.URL, "http://")
	barcode := s.issue(`"merchant_uid":"order","amount":1`).field("vbank_num")
	for _, test := range []struct {
		name    string
		header  []string
		refused bool
	}{
		{"no browser", nil, false},
		{"same origin", []string{"Origin", s.server.URL}, false},
		{"same origin by fetch metadata", []string{"Sec-Fetch-Site", "same-origin", "Origin", s.server.URL}, false},
		{"typed in", []string{"Sec-Fetch-Site", "none"}, false},
		{"other host", []string{"Origin", "https://evil.example"}, true},
		{"other port", []string{"Origin", "http://127.0.0.1:1"}, true},
		{"null", []string{"Origin", "null"}, true},
		{"similar host", []string{"Origin", "http://" + host + ".evil.example"}, true},
		{"cross-site", []string{"Sec-Fetch-Site", "cross-site"}, true},
		{"cross-site, own origin", []string{"Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example"}, true},
		{"same-site", []string{"Sec-Fetch-Site", "same-site"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, r := range []struct{ method, path, body string }{
				{"POST", "/sandbox/faults", `{"endpoint":"list","status":500}`},
				{"DELETE", "/sandbox/faults", ""},
				{"POST", "/till", `{"barcode":"none"}`},
				{"POST", "/till", `{"barcode":"` + barcode + `"}`},
				{"POST", "/till-faults", "endpoint=list&effect=garbage&times=1"},
				{"POST", "/till-normal", ""},
			} {
				before := len(s.Faults())
				a := s.do(r.method, r.path, asForm, r.body, test.header...)
				if (a.status == http.StatusForbidden) != test.refused {
					t.Errorf("%s %s got %d", r.method, r.path, a.status)
				}
				if test.refused && len(s.Faults()) != before {
					t.Errorf("%s %s took effect", r.method, r.path)
				}
			}
		})
	}
	t.Run("reading", func(t *testing.T) {
		if a := s.do("GET", "/sandbox/faults", "", "", "Origin", "https://evil.example"); a.status != 200 ||
			a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%d %v", a.status, a.header)
		}
	})
}
