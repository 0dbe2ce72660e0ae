package emulator_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

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

func TestNoticeFormOptionSendsForms(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{NoticeForm: true})
	refunded := make(chan struct{})
	g := newGateway(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "cancelled") {
			close(refunded)
		}
	})
	issued := s.order("주문/1", g)
	s.inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Forged: emulator.ForgedMerchantUID, Times: 1})
	s.scan(issued.field("vbank_num"), "card")
	done := s.cancel(`"imp_uid":"` + issued.field("imp_uid") + `","amount":4000,"enable_webhook":true`).cancelled(t)
	<-refunded // sent after the response
	hits := g.got()
	if len(hits) != 3 || hits[0].header.Get("Content-Type") != asJSON {
		t.Fatalf("the confirm webhook stays JSON: %v", hits)
	}
	for i, want := range []url.Values{
		{"imp_uid": {issued.field("imp_uid")}, "merchant_uid": {"1문/1"}, "status": {"paid"}},
		{"imp_uid": {issued.field("imp_uid")}, "merchant_uid": {"주문/1"}, "status": {"cancelled"}, "cancellation_id": {done.CancelHistory[0].CancellationID}},
	} {
		h := hits[i+1]
		form, err := url.ParseQuery(h.body)
		if err != nil || h.header.Get("Content-Type") != asForm || !reflect.DeepEqual(form, want) {
			t.Errorf("%v %s, want %v", err, h.body, want)
		}
	}
}

func TestWebhooksTimeOut(t *testing.T) {
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

func TestPublicWebhooksOptionAllowsPublicAddresses(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{PublicWebhooks: true})
	g := newGateway(t, status(200))
	// 0.0.0.0 counts as public but connects to this machine.
	here := strings.Replace(g.URL, "127.0.0.1", "0.0.0.0", 1)
	barcode := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"` + here + `"`).field("vbank_num")
	if _, result := s.scan(barcode, "card"); !result.Accepted {
		t.Errorf("%+v", result.Confirm)
	}
}

// A proxy would hide the address of the connection, and an idle connection keeps goroutines.
func TestTransportHasNoProxyAndNoIdleConnections(t *testing.T) {
	t.Parallel()
	transport := emulator.Transport(emulator.New(emulator.Options{})).(*http.Transport)
	if transport.Proxy != nil || !transport.DisableKeepAlives {
		t.Errorf("proxy set: %v, keep-alives: %v", transport.Proxy != nil, !transport.DisableKeepAlives)
	}
}

func TestWebhookSendsBasicAuthOfURL(t *testing.T) {
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
