package gatewaytest

// This file holds the merchant's shop, and simple answers of a shop and of the API.

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Shop is the merchant's app with its order check. It keeps every request.
type Shop struct {
	*httptest.Server
	mu       sync.Mutex
	Requests []*http.Request
	Bodies   []string
	Payable  http.HandlerFunc
}

// NewShop starts a shop. Without payable it accepts every order at 15000 won.
func NewShop(t testing.TB, payable http.HandlerFunc) *Shop {
	t.Helper()
	s := &Shop{Payable: payable}
	if payable == nil {
		s.Payable = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"payable":true,"total":15000}`) }
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.Requests, s.Bodies = append(s.Requests, r.Clone(context.Background())), append(s.Bodies, string(body))
		s.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.Payable(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// Count is the number of requests so far.
func (s *Shop) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Requests)
}

// AnswerWith returns an order check that always gives this answer.
func AnswerWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// StubAPI returns an API that answers every call but getToken with this answer.
func StubAPI(status int, contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/users/getToken" {
			now := time.Now().Unix()
			fmt.Fprintf(w, `{"code":0,"message":null,"response":{"access_token":"canary-token-of-stub","now":%d,"expired_at":%d}}`, now, now+1800)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("X-Internal", "api")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// RouteCheck is an order check by a route that accepts every order at 15000 won, without a
// network.
const RouteCheck = "order_check {\nroute {\nrespond `{\"payable\":true,\"total\":15000}`\n}\nrequire payable true\namount total\n}\n"

// IssueBody is the body of a request for a barcode, as JSON.
func IssueBody(merchantUID string) string {
	return fmt.Sprintf(`{"merchant_uid":%q,"amount":15000,"buyer_name":%q,"buyer_tel":%q,"buyer_email":%q}`, merchantUID, BuyerName, BuyerTel, BuyerEmail)
}
