package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	Now         int64  `json:"now"`
	ExpiredAt   int64  `json:"expired_at"`
}

func TestTokenLivesAndIsExtended(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	start := c.now().Unix()
	first := s.token
	var last string
	for _, step := range []struct {
		after     time.Duration
		name      string
		same      bool  // as in the previous step
		expiredAt int64 // seconds after the start
	}{
		{0, "new", true, 1800},
		{10 * time.Minute, "reused", true, 1800},
		{19*time.Minute - time.Second, "61 s before its expiry", true, 1800},
		{time.Second, "60 s before its expiry: extended", true, 2100},
		{time.Second, "extended already", true, 2100},
		{6*time.Minute - 2*time.Second, "1 s before its expiry: extended again", true, 2400},
		{301 * time.Second, "expired", false, 2400 + 1800},
	} {
		c.advance(step.after)
		a := s.do("POST", "/users/getToken", asJSON, `{"imp_key":"key","imp_secret":"secret"}`)
		a.expect(t, 200, 0)
		var got tokenAnswer
		if err := json.Unmarshal(a.Response, &got); err != nil {
			t.Fatal(err)
		}
		if last == "" {
			last = first
		}
		if (got.AccessToken == last) != step.same {
			t.Errorf("%s: same token = %v, want %v", step.name, got.AccessToken == last, step.same)
		}
		if got.Now != c.now().Unix() || got.ExpiredAt != start+step.expiredAt {
			t.Errorf("%s: now %d expired_at %d, want %d and %d", step.name,
				got.Now-start, got.ExpiredAt-start, c.now().Unix()-start, step.expiredAt)
		}
		last = got.AccessToken
	}
	if got := s.TokensIssued(); got != 2 {
		t.Errorf("%d tokens issued, want 2", got)
	}
	if got := s.Requests(emulator.EndpointToken); got != 8 {
		t.Errorf("%d requests counted, want 8", got)
	}
	if s.token = first; s.get("/payments/find/none").status != 401 {
		t.Error("the expired token is still accepted")
	}
	if s.token = last; s.get("/payments/find/none").status != 404 {
		t.Error("the new token is not accepted")
	}
}

func TestTokenLifeOptionIsRoundedUp(t *testing.T) {
	t.Parallel()
	for life, want := range map[time.Duration]int64{5 * time.Minute: 300, time.Millisecond: 1, 0: 1800, -1: 1800} {
		s := newSandbox(t, emulator.Options{TokenLife: life, Now: newClock().now})
		a := s.do("POST", "/users/getToken", asForm, "imp_key=other&imp_secret=secret")
		var got tokenAnswer
		if err := json.Unmarshal(a.Response, &got); err != nil {
			t.Fatal(err)
		}
		if got.ExpiredAt-got.Now != want {
			t.Errorf("TokenLife %v gave a token for %d s, want %d", life, got.ExpiredAt-got.Now, want)
		}
	}
}

func TestTokenExpiresExactly(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	c.advance(30*time.Minute - time.Second)
	if a := s.get("/payments/find/none"); a.status != 404 {
		t.Errorf("a second before its expiry the token got %d", a.status)
	}
	c.advance(time.Second)
	if a := s.get("/payments/find/none"); a.status != 401 {
		t.Errorf("at its expiry the token got %d", a.status)
	}
}

func TestTokenNeedsAcceptedKeys(t *testing.T) {
	t.Parallel()
	const pair = `{"imp_key":"key","imp_secret":"secret"}`
	only := map[string]string{"key": "secret"}
	for _, test := range []struct {
		name        string
		keys        map[string]string
		contentType string
		body        string
		status      int
	}{
		{"any pair", nil, asJSON, `{"imp_key":"a","imp_secret":"b"}`, 200},
		{"any pair in a form", nil, asForm, "imp_key=a&imp_secret=b", 200},
		{"numbers", nil, asJSON, `{"imp_key":1234567890123456,"imp_secret":"b"}`, 200},
		{"empty key", nil, asJSON, `{"imp_key":"","imp_secret":"b"}`, 401},
		{"empty secret", nil, asJSON, `{"imp_key":"a","imp_secret":""}`, 401},
		{"null secret", nil, asJSON, `{"imp_key":"a","imp_secret":null}`, 401},
		{"secret of the wrong type", nil, asJSON, `{"imp_key":"a","imp_secret":["b"]}`, 401},
		{"no body", nil, "", "", 401},
		{"no keys in a form", nil, asForm, "", 401},
		{"long key", nil, asForm, "imp_secret=b&imp_key=" + strings.Repeat("a", 256), 200},
		{"overlong key", nil, asForm, "imp_secret=b&imp_key=" + strings.Repeat("a", 257), 401},
		{"right pair", only, asJSON, pair, 200},
		{"wrong secret", only, asJSON, `{"imp_key":"key","imp_secret":"other"}`, 401},
		{"wrong key", only, asJSON, `{"imp_key":"other","imp_secret":"secret"}`, 401},
		{"no keys accepted", map[string]string{}, asJSON, pair, 401},
		{"broken JSON", nil, asJSON, `{"imp_key":`, 400},
		{"broken form", nil, asForm, "imp_key=%zz", 400},
		{"other type", nil, "text/plain", pair, 415},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{Keys: test.keys})
			s := &sandbox{Emulator: e, t: t, server: newServer(t, e)}
			code := -1
			if test.status == 200 {
				code = 0
			}
			s.do("POST", "/users/getToken", test.contentType, test.body).expect(t, test.status, code)
		})
	}
}

func TestTokenKeysAreCopied(t *testing.T) {
	t.Parallel()
	keys := map[string]string{"key": "secret"}
	s := newSandbox(t, emulator.Options{Keys: keys})
	delete(keys, "key")
	s.login("key", "secret")
}

func TestMerchantsHaveDifferentTokens(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	if other := s.as("other"); other.token == s.token {
		t.Error("two merchants share a token")
	}
	if again := s.as("key"); again.token != s.token {
		t.Error("one merchant got two tokens")
	}
}

func TestAuthorizationAcceptsTokenWithAndWithoutBearer(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	token := s.token
	for header, want := range map[string]int{
		"Bearer " + token:  404,
		"bearer " + token:  404,
		"Bearer  " + token: 404,
		token:              404,
		"Bearer":           401,
		"Bearer ":          401,
		"Bearer undefined": 401,
		"Basic " + token:   401,
		token + "0":        401,
	} {
		if a := s.do("GET", "/payments/find/none", "", "", "Authorization", header); a.status != want {
			t.Errorf("Authorization %q got %d, want %d", strings.ReplaceAll(header, token, "{token}"), a.status, want)
		}
	}
}

func TestEveryEndpointNeedsAToken(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	impUID := s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	requests := []struct{ method, path string }{
		{"POST", "/cvs"},
		{"DELETE", "/cvs/" + impUID},
		{"GET", "/payments/" + impUID + "?include_sandbox=true"},
		{"GET", "/payments/find/order"},
		{"GET", "/payments/find/order/ready"},
		{"GET", "/payments/status/all"},
	}
	assertUnauthorized := func(when string) {
		for _, r := range requests {
			a := s.do(r.method, r.path, "", "")
			if a.expect(t, 401, -1); t.Failed() {
				t.Fatalf("%s %s %s", r.method, r.path, when)
			}
		}
	}
	token := s.token
	s.token = ""
	assertUnauthorized("without a token")
	s.token = token
	s.ExpireTokens()
	assertUnauthorized("after ExpireTokens")
	if s.login("key", "secret") == token {
		t.Error("an expired token was issued again")
	}
}

func TestTokenUsesClockOption(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	a := s.do("POST", "/users/getToken", asForm, url.Values{"imp_key": {"k"}, "imp_secret": {"s"}}.Encode())
	var got tokenAnswer
	if err := json.Unmarshal(a.Response, &got); err != nil {
		t.Fatal(err)
	}
	if got.ExpiredAt >= time.Now().Unix() || got.ExpiredAt-got.Now != 1800 {
		t.Errorf("now %d and expired_at %d are not by the API's clock", got.Now, got.ExpiredAt)
	}
	s.get("/payments/find/none").expect(t, 404, -1)
}

func TestExpiredTokensAreRemoved(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, TokenLife: time.Second})
	for i := range 1500 {
		serve(s.Emulator, "POST", "/users/getToken", strings.NewReader(fmt.Sprintf(`{"imp_key":"key%d","imp_secret":"s"}`, i)))
		c.advance(time.Minute)
	}
	if got := s.TokensIssued(); got != 1501 {
		t.Fatalf("%d tokens issued", got)
	}
	if got := emulator.TokensHeld(s.Emulator); got > 1024 {
		t.Errorf("%d tokens are held", got)
	}
	before := emulator.TokensHeld(s.Emulator)
	for range 3 {
		c.advance(time.Minute)
		s.login("key", "secret")
	}
	if got := emulator.TokensHeld(s.Emulator); got > before+1 {
		t.Errorf("one merchant has %d tokens", got-before)
	}
}
