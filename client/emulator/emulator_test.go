package emulator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestCloseCancelsScans(t *testing.T) {
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
			<-time.After(time.Second) // in the fake time of synctest
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

func TestBeforeRequestSeesEachAPIRequest(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[emulator.Endpoint]string{}
	s := newSandbox(t, emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen[endpoint] = r.Method + " " + string(body)
	}})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Status: 500})
	s.do("POST", "/cvs", asJSON, orderBody).expect(t, 200, 0) // the emulator can read the body, too
	s.get("/payments/find/order")
	s.get("/sandbox/payments")
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 3 || seen[emulator.EndpointIssue] != "POST "+orderBody || seen[emulator.EndpointFind] != "GET " {
		t.Errorf("%q", seen)
	}
}

// TestMethodsMayBeCalledConcurrently is for the race detector.
func TestMethodsMayBeCalledConcurrently(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{MaxPayments: 5})
	g := newGateway(t, status(200))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				s.inject(emulator.Fault{Endpoint: emulator.EndpointList, Times: 1, Status: 500})
				a := s.do("POST", "/cvs", asJSON, `{"merchant_uid":"o","amount":1,"confirm_url":"`+g.URL+`","notice_url":"`+g.URL+`"}`)
				barcode := a.field("vbank_num")
				_, _ = s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode})
				s.do("DELETE", "/cvs/"+a.field("imp_uid"), "", "")
				s.get("/payments/status/all?page=1")
				s.get("/sandbox/payments")
				s.get("/sandbox/faults")
				_, _ = s.Requests(emulator.EndpointList), s.TokensIssued()
			}
		})
	}
	wg.Wait()
	_ = s.Close()
	_ = s.Close() // a second Close has no effect
}
