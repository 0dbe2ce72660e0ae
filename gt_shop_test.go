package caddycvs

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// shop is the merchant's app with its order check.
type Shop struct {
	*httptest.Server
	mu       sync.Mutex
	Requests []*http.Request
	Bodies   []string
	payable  http.HandlerFunc
}

func NewShop(t testing.TB, payable http.HandlerFunc) *Shop {
	t.Helper()
	s := &Shop{payable: payable}
	if payable == nil {
		s.payable = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"payable":true,"total":15000}`) }
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.Requests, s.Bodies = append(s.Requests, r.Clone(context.Background())), append(s.Bodies, string(body))
		s.mu.Unlock()
		s.payable(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *Shop) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.Requests)
}

// answers returns an order check that always gives this answer.
func AnswerWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// stub answers every call but getToken with one and the same answer.
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

// routeCheck says yes to every order of the usual amount.
const RouteCheck = "order_check {\nroute {\nrespond `{\"payable\":true,\"total\":15000}`\n}\nrequire payable true\namount total\n}\n"

func IssueBody(merchantUID string) string {
	return fmt.Sprintf(`{"merchant_uid":%q,"amount":15000,"buyer_name":%q,"buyer_tel":%q,"buyer_email":%q}`, merchantUID, BuyerName, BuyerTel, BuyerEmail)
}
