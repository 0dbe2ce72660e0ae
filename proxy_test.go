package caddycvs

// This file holds tests of cvs_proxy: issuing, looking up and voiding, tokens and accounts.

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestIssueInjectsWhatTheAppDoesNotHave(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen *http.Request
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "tier 001", Emulator: emulator.Options{
		Keys: map[string]string{gatewaytest.Canaries["CVS_TEST_KEY"]: gatewaytest.Canaries["CVS_TEST_SECRET"]},
		BeforeRequest: func(e emulator.Endpoint, r *http.Request) {
			if e == emulator.EndpointIssue {
				mu.Lock()
				defer mu.Unlock()
				seen = r.Clone(context.Background())
			}
		},
	}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", strings.NewReader(`{"merchant_uid":"주문-1","amount":15000}`))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {gatewaytest.JSONType}, "Authorization": {"Bearer held-by-caddy-cvs"}, "Cookie": {"a=b"}, "X-Custom": {"1"}, "Tier": {"001"}}
	a := g.Send(t, r)
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))

	mu.Lock()
	defer mu.Unlock()
	assert.NotContains(t, seen.Header.Get("Authorization"), "held-by-caddy-cvs")
	assert.Equal(t, "001", seen.Header.Get("Tier"))
	assert.Empty(t, seen.Header.Get("Cookie"))
	assert.Empty(t, seen.Header.Get("X-Custom"), "only what the API needs is sent")

	confirmURL, _ := g.API.WebhookURLs(a.Payment(t)["imp_uid"].(string))
	u, err := url.Parse(confirmURL)
	require.NoError(t, err)
	claims, err := signedurl.Parse(u.RawQuery)
	require.NoError(t, err)
	keys, err := signedurl.NewKeys(gatewaytest.Canaries["CVS_TEST_SECRET"])
	require.NoError(t, err)
	require.NoError(t, claims.Verify(keys, signedurl.Confirm, "주문-1"), "signed with a key derived from imp_secret")
	assert.Equal(t, "15000", claims.Amount)
	assert.WithinDuration(t, time.Now().Add(72*time.Hour), time.Unix(claims.Expires, 0), time.Minute)
	assert.Equal(t, "galaxia", g.API.Payments()[0].PG)
}

func TestProxyReturnsTheAPIsAnswerUnchanged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status            int
		contentType, body string
	}{
		"success":        {200, "application/json; charset=utf-8", "{ \"code\":0 , \"message\":null,\n\"response\":{\"imp_uid\":\"imp_1\",\"amount\":15000.00} }\n"},
		"unknown fields": {200, "application/json", `{"code":0,"message":null,"response":{"imp_uid":"imp_1","sandbox":true,"later":{"a":[1e2]}},"trace":"가"}`},
		"code not 0":     {200, "application/json", `{"code":1,"message":"이미 결제가 이루어진 merchant_uid입니다.","response":null}`},
		"code -1":        {200, "application/json", `{"code":-1,"message":"\uac00","response":null}`},
		"not found":      {404, "application/json;charset=UTF-8", `{"code":-1,"message":"존재하지 않는 결제정보입니다.","response":null}`},
		"bad request":    {400, "application/json", `{"code":-1,"message":"x","response":null}`},
		"API's own 500":  {500, "application/json", `{"code":-1,"message":"x","response":null}`},
		"too many":       {429, "application/json", `{"code":-1,"message":"x","response":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{API: gatewaytest.StubAPI(c.status, c.contentType, c.body)})
			for _, a := range []gatewaytest.Answer{
				g.Issue(t, "order-1"),
				g.Do(t, http.MethodGet, g.Inside+"/payments/imp_1?include_sandbox=true", "", ""),
				g.Do(t, http.MethodGet, g.Inside+"/payments/find/order-1/ready", "", ""),
				g.Do(t, http.MethodDelete, g.Inside+"/cvs/imp_1", "", ""),
			} {
				assert.Equal(t, c.status, a.Status)
				assert.Equal(t, c.body, a.Body)
				assert.Equal(t, c.contentType, a.Header.Get("Content-Type"))
				assert.Empty(t, a.Header.Get("X-Internal"), "no other header field")
			}
		})
	}
}

func TestOtherRequestsGoToTheNextHandler(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	for _, path := range []string{"/", "/x/cvs", "/cvsx", "/payment", "/payments.html", "/users", "/users/1", "/orders/payments"} {
		assert.Equal(t, 418, g.Do(t, http.MethodPost, g.Inside+path, gatewaytest.JSONType, "{}").Status, path)
	}
	assert.Zero(t, g.API.Requests(emulator.EndpointAll))
}

func TestProxyRejectsOtherMethods(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	for path, allow := range map[string]string{"/cvs": "POST", "/cvs/imp_1": "DELETE", "/payments/imp_1": "GET, POST", "/payments/find/a": "GET, POST", "/payments/find/a/paid": "GET, POST", "/users/getToken": "POST"} {
		a := g.Do(t, http.MethodPut, g.Inside+path, "", "")
		assert.Equal(t, http.StatusMethodNotAllowed, a.Status, path)
		assert.Equal(t, allow, a.Header.Get("Allow"), path)
		assert.EqualValues(t, -1, a.Field(t, "code"))
	}
}

func TestProxyServesLookUpsAndVoid(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	uid := "주문/2026 1%"
	i := g.MustIssue(t, uid)
	a := g.Do(t, http.MethodGet, g.Inside+"/payments/find/"+url.PathEscape(uid)+"/ready?sorting=-started", "", "")
	require.Equal(t, 200, a.Status, a.Body)
	assert.Equal(t, uid, a.Payment(t)["merchant_uid"])
	assert.Equal(t, 404, g.Do(t, http.MethodGet, g.Inside+"/payments/"+i.ImpUID, "", "").Status, "the query is kept as it is, and so is its absence")
	assert.Equal(t, 200, g.Do(t, http.MethodGet, g.Inside+"/payments/"+i.ImpUID+"?include_sandbox=true", "", "").Status)
	a = g.Do(t, http.MethodDelete, g.Inside+"/cvs/"+i.ImpUID, "", "")
	assert.Equal(t, "cancelled", a.Payment(t)["status"])
	for _, path := range []string{"/payments/..%2Fusers", "/payments/%2E%2E", "/cvs/a%2F..%2Fb", "/payments/find/%2e%2e%5cx", "/payments/a%0Ab"} {
		assert.Equal(t, 400, g.Do(t, map[bool]string{true: "DELETE", false: "GET"}[strings.HasPrefix(path, "/cvs")], g.Inside+path, "", "").Status, path)
	}
}

func TestSDKWorksWithAnotherBaseURL(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	// The known SDKs first ask for a token, and then send it with the call.
	a := g.Do(t, http.MethodPost, g.Inside+"/users/getToken", gatewaytest.JSONType, `{"imp_key":"","imp_secret":""}`)
	require.Equal(t, 200, a.Status)
	token := a.Payment(t)
	assert.InDelta(t, 1800, token["expired_at"].(float64)-token["now"].(float64), 0)
	assert.Zero(t, g.API.Requests(emulator.EndpointToken), "the placeholder token comes from the gateway")

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", strings.NewReader("merchant_uid=order-1&amount=15000"))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {gatewaytest.FormType}, "Authorization": {token["access_token"].(string)}}
	assert.Equal(t, "ready", g.Send(t, r).Payment(t)["status"])

	// The placeholder token is of no use at the API itself.
	r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, g.APIURL+"/payments/find/order-1", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token["access_token"].(string))
	assert.Equal(t, 401, g.Send(t, r).Status)
}

func TestBadRequestsAreRefusedHere(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: "max_body 1KB"})
	for name, c := range map[string]struct {
		contentType, body string
		status            int
		message           string
	}{
		"all violations at once": {gatewaytest.JSONType, `{"amount":0,"buyer_name":"` + strings.Repeat("가", 17) + `"}`, 400, "buyer_name has 17 characters, at most 16 are allowed; merchant_uid is required; amount must be a number greater than 0"},
		"duplicate":              {gatewaytest.JSONType, `{"merchant_uid":"a","amount":1,"Amount":2}`, 400, `field "Amount" is given twice`},
		"form duplicate":         {gatewaytest.FormType, `merchant_uid=a&amount=1&amount=2`, 400, `field "amount" is given twice`},
		"not JSON":               {gatewaytest.JSONType, `{`, 400, "not one valid JSON object"},
		"media type":             {"text/plain", `{}`, 415, "application/json"},
		"no media type":          {"", `{}`, 415, "application/json"},
		"too large":              {gatewaytest.JSONType, `{"a":"` + strings.Repeat("x", 1000) + `"}`, 413, "larger than 1000 bytes"},
	} {
		a := g.Do(t, http.MethodPost, g.Inside+"/cvs", c.contentType, c.body)
		assert.Equal(t, c.status, a.Status, name)
		assert.Contains(t, a.Field(t, "message"), c.message, name)
		assert.EqualValues(t, -1, a.Field(t, "code"), name)
		assert.Equal(t, "no-store", a.Header.Get("Cache-Control"), name)
	}
	// Without Content-Length the limit holds too.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", struct{ *strings.Reader }{strings.NewReader(strings.Repeat("x", 2000))})
	require.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	assert.Equal(t, 413, g.Send(t, r).Status)
	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", strings.NewReader("{}"))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {gatewaytest.JSONType}, "Content-Encoding": {"gzip"}}
	assert.Equal(t, 415, g.Send(t, r).Status)
	assert.Zero(t, g.API.Requests(emulator.EndpointAll), "nothing was sent")
}

func TestOnlyAllowedAddressesMayCall(t *testing.T) {
	t.Parallel()
	direct := gatewaytest.Start(t, gatewaytest.Setup{})
	elsewhere := gatewaytest.Start(t, gatewaytest.Setup{Proxy: "allow 192.0.2.0/24"})
	proxied := gatewaytest.Start(t, gatewaytest.Setup{Globals: "servers {\ntrusted_proxies static 127.0.0.1/32\n}"})
	strictly := gatewaytest.Start(t, gatewaytest.Setup{Globals: "servers {\ntrusted_proxies static 127.0.0.1/32\ntrusted_proxies_strict\n}"})
	for name, c := range map[string]struct {
		g      *gatewaytest.Gateway
		header http.Header
		status int
	}{
		"private range":              {direct, nil, 200},
		"forwarded by a stranger":    {direct, http.Header{"X-Forwarded-For": {"10.0.0.1"}}, 403},
		"empty field of a stranger":  {direct, http.Header{"Forwarded": {""}}, 403},
		"another field":              {direct, http.Header{"X-Real-Ip": {"10.0.0.1"}}, 403},
		"outside the ranges":         {elsewhere, nil, 403},
		"trusted proxy, private":     {proxied, http.Header{"X-Forwarded-For": {"10.0.0.1"}}, 200},
		"trusted proxy, public":      {proxied, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, 403},
		"trusted proxy, made up":     {proxied, http.Header{"X-Forwarded-For": {"10.0.0.7, 203.0.113.9"}}, 403},
		"trusted proxy, no address":  {proxied, http.Header{"X-Forwarded-For": {"unknown"}}, 403},
		"strict proxy, made up":      {strictly, http.Header{"X-Forwarded-For": {"10.0.0.7, 203.0.113.9"}}, 403},
		"strict proxy, private":      {strictly, http.Header{"X-Forwarded-For": {"203.0.113.9, 10.0.0.7"}}, 200},
		"trusted proxy, long chain":  {proxied, http.Header{"X-Forwarded-For": {"203.0.113.9, 10.0.0.1"}}, 403},
		"trusted proxy, on its own":  {proxied, nil, 200},
		"trusted proxy, with scheme": {proxied, http.Header{"X-Forwarded-Proto": {"https"}}, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.g.Inside+"/users/getToken", nil)
		require.NoError(t, err)
		if c.header != nil {
			r.Header = c.header.Clone()
		}
		a := c.g.Send(t, r)
		assert.Equal(t, c.status, a.Status, "%s: %s", name, a.Body)
	}
}

func TestProxyAllowsUnixSocket(t *testing.T) {
	t.Parallel()
	dir := gatewaytest.ShortDir(t)
	open, closed := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	gatewaytest.Start(t, gatewaytest.Setup{Sites: "http://open {\nbind unix/" + open + "\ncvs_proxy\n}\nhttp://closed {\nbind unix/" + closed + "\ncvs_proxy {\nallow 10.0.0.0/8\n}\n}\n"})
	for socket, want := range map[string]int{open: 200, closed: 403} {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}}
		host := map[string]string{open: "open", closed: "closed"}[socket]
		resp, err := client.Post("http://"+host+"/users/getToken", "", nil)
		require.NoError(t, err)
		resp.Body.Close()
		assert.Equal(t, want, resp.StatusCode, host)
	}
}

func TestOneTokenForAThousandFirstRequests(t *testing.T) {
	t.Parallel()
	// Without a ledger, which on a busy machine has no time for a thousand orders at once.
	g := gatewaytest.Start(t, gatewaytest.Setup{Ledger: "off", Proxy: gatewaytest.UsualProxy + "\nrepeat pass"})
	var wg sync.WaitGroup
	var failed atomic.Int32
	for n := range 1000 {
		wg.Go(func() {
			if g.Issue(t, "order-"+strconv.Itoa(n)).Status != 200 {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	assert.Zero(t, failed.Load())
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointToken))
	assert.Equal(t, 1000, g.API.Requests(emulator.EndpointIssue))
}

func TestTokenRenewalDelaysNoRequest(t *testing.T) {
	t.Parallel()
	renewing, release := make(chan struct{}), make(chan struct{})
	var fetches atomic.Int32
	g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{
		// A token is renewed in the last minute of its life. This one is renewed after a second and a half, and lives long enough for a machine that stalls.
		TokenLife: 15 * time.Second,
		BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
			if e == emulator.EndpointToken && fetches.Add(1) == 2 {
				close(renewing)
				<-release
			}
		},
	}})
	require.Equal(t, 200, g.Issue(t, "order-1").Status)
	<-renewing // with no request under way
	assert.Equal(t, 200, g.Issue(t, "order-2").Status, "while the renewal hangs, the old token serves")
	close(release)
	assert.Equal(t, 200, g.Issue(t, "order-3").Status)
	assert.Equal(t, 1, g.API.TokensIssued(), "extended, not replaced")
}

func TestExpiredTokenIsNeverSent(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			var offset atomic.Int64
			offset.Store(int64(skew))
			g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{
				TokenLife: 2 * time.Second,
				Now:       func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
			}})
			for n := range 20 {
				require.Equal(t, 200, g.Issue(t, "order-"+strconv.Itoa(n)).Status)
			}
			assert.Equal(t, 20, g.API.Requests(emulator.EndpointIssue), "no call was refused and repeated")
			p := g.API.Payments()[0]
			assert.InDelta(t, time.Now().Add(skew+72*time.Hour).Unix(), p.ExpiredAt, 5, "expires_in counts in the API's time")
			assert.Equal(t, 200, g.Confirm(t, issuedBy(g, p.ImpUID, p.MerchantUID)).Status, "and so does the deadline at the till")
		})
	}
}

func issuedBy(g *gatewaytest.Gateway, impUID, merchantUID string) gatewaytest.Issued {
	confirmURL, _ := g.API.WebhookURLs(impUID)
	return gatewaytest.Issued{ImpUID: impUID, MerchantUID: merchantUID, Barcode: "1", ConfirmURL: confirmURL}
}

func TestRefusedTokenIsReplacedIfThatHelps(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	g.MustIssue(t, "order-1")
	g.API.ExpireTokens()
	g.MustIssue(t, "order-2")
	assert.Equal(t, 3, g.API.Requests(emulator.EndpointIssue), "repeated once")
	assert.Equal(t, 2, g.API.Requests(emulator.EndpointToken))
	assert.Len(t, g.API.Payments(), 2)

	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Status: 401}))
	a := g.Issue(t, "order-3")
	assert.Equal(t, 502, a.Status, "never a bare 401: the caller sent no credential")
	assert.Equal(t, 4, g.API.Requests(emulator.EndpointIssue), "not repeated with the token that was just refused")
	assert.Equal(t, 3, g.API.Requests(emulator.EndpointToken))
}

func TestWrongKeysAreNotSentAgainAtOnce(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{Keys: map[string]string{"other": "keys"}}})
	for range 50 {
		a := g.Issue(t, "order-1")
		assert.Equal(t, 502, a.Status)
		assert.Contains(t, a.Field(t, "message"), "imp_key and imp_secret")
		assert.NotEmpty(t, a.Header.Get("Retry-After"))
	}
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointToken))
	assert.Zero(t, g.API.Requests(emulator.EndpointIssue))
}

func TestCaddyStartsWhileTheAPIIsDown(t *testing.T) {
	t.Parallel()
	addr := gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{APIURL: "http://" + addr})
	a := g.Issue(t, "order-1")
	assert.Equal(t, 503, a.Status, a.Body)
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, wait, 1)

	api := emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})
	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: api}}
	server.Start()
	t.Cleanup(server.Close)
	assert.Eventually(t, func() bool { return g.Issue(t, "order-1").Status == 200 }, 10*time.Second, 20*time.Millisecond, "it serves as soon as the API does")
}

// An app that asks for another sub-merchant must not get a barcode of the configured one.
func TestTierOfAnotherSubMerchantIsRefused(t *testing.T) {
	t.Parallel()
	for account, tiers := range map[string]map[string]int{
		"tier 001": {"001": 200, "002": 400, "": 200, "0O1": 400},
		"":         {"001": 400, "": 200},
	} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Account: account})
		first := g.MustIssue(t, "order-0")
		issued := 1
		for tier, status := range tiers {
			for target, method := range map[string]string{"/cvs": http.MethodPost, "/payments/" + first.ImpUID: http.MethodGet, "/payments/find/order-0": http.MethodGet, "/users/getToken": http.MethodPost} {
				r, err := http.NewRequestWithContext(t.Context(), method, g.Inside+target, strings.NewReader("merchant_uid=order-"+strconv.Itoa(issued)+"&amount=15000"))
				require.NoError(t, err)
				r.Header = http.Header{"Content-Type": {gatewaytest.FormType}, "Tier": {tier}}
				if target == "/payments/"+first.ImpUID {
					r.URL.RawQuery = "include_sandbox=true"
				}
				a := g.Send(t, r)
				assert.Equal(t, status, a.Status, "%s %q %s: %s", account, tier, target, a.Body)
				if status == 400 {
					assert.Contains(t, a.Field(t, "message"), "The field Tier asks for another sub-merchant")
				} else if target == "/cvs" {
					issued++
				}
			}
		}
		assert.Len(t, g.API.Payments(), issued)
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "tier 001"})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", strings.NewReader("merchant_uid=order-1&amount=15000"))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {gatewaytest.FormType}, "Tier": {"001", "002"}}
	assert.Equal(t, 400, g.Send(t, r).Status, "one of two")
}

// An issue with a deadline or an amount that cannot be right is refused before it is sent.
func TestIssueRefusesWhatCouldNotBePaid(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }}})
	g.MustIssue(t, "order-0") // from now on the API's clock is known
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for fields, message := range map[string]string{
		"amount=15000.000000000002":                  "amount has a fraction of a won",
		"amount=0.5":                                 "amount has a fraction of a won",
		"amount=9007199254740993":                    "amount is more than 9007199254740992",
		"amount=15000&expired_at=1500000000":         "expired_at has passed",
		"amount=15000&expired_at=" + in(time.Hour/2): "expired_at has passed", // by the API's clock
		"amount=15000&expired_at=" + in(2*time.Hour): "",
		"amount=15000.0":                             "",
	} {
		a := g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.FormType, "merchant_uid=order-"+strconv.Itoa(len(g.API.Payments()))+"&"+fields)
		if message == "" {
			assert.Equal(t, 200, a.Status, a.Body)
			continue
		}
		assert.Equal(t, 400, a.Status, fields)
		assert.Contains(t, a.Field(t, "message"), message)
	}
	assert.Len(t, g.API.Payments(), 3)
}

func TestFailuresOfTheAPIAreExplained(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault   emulator.Fault
		do      func(*testing.T, *gatewaytest.Gateway) gatewaytest.Answer
		status  int
		message string
		issued  int // of order-2
	}{
		"issue answered, answer lost":    {emulator.Fault{Endpoint: "issue", Drop: emulator.DropAfter, Times: 1}, issueOrder2, 200, "", 1},
		"issue lost":                     {emulator.Fault{Endpoint: "issue", Drop: emulator.DropBefore, Times: 1}, issueOrder2, 504, "Ask again: you get the barcode if there is one.", 0},
		"issue cut off":                  {emulator.Fault{Endpoint: "issue", Drop: emulator.DropBody, Times: 1}, issueOrder2, 200, "", 1},
		"issue answered with garbage":    {emulator.Fault{Endpoint: "issue", Garbage: true, Times: 1}, issueOrder2, 200, "", 1},
		"issue answered at great length": {emulator.Fault{Endpoint: "issue", Oversized: true, Times: 1}, issueOrder2, 200, "", 1},
		"issue done late":                {emulator.Fault{Endpoint: "issue", Late: 300 * time.Millisecond, Times: 1}, issueOrder2, 200, "", 1},
		"issue done too late":            {emulator.Fault{Endpoint: "issue", Late: time.Hour, Times: 1}, issueOrder2, 504, "Ask again: you get the barcode if there is one.", 0},
		"void done late":                 {emulator.Fault{Endpoint: "void", Late: time.Hour}, voidOrder1, 502, "may or may not be void", 0},
		"business refusal":               {emulator.Fault{Endpoint: "issue", Code: 1, Message: "안됨"}, issueOrder2, 200, "안됨", 0},
		"void lost":                      {emulator.Fault{Endpoint: "void", Drop: emulator.DropBefore}, voidOrder1, 502, "may or may not be void", 0},
		"payment lost":                   {emulator.Fault{Endpoint: "payment", Drop: emulator.DropBefore}, lookUpOrder1, 502, "the connection was closed", 0},
		"payment garbage":                {emulator.Fault{Endpoint: "payment", Garbage: true}, lookUpOrder1, 502, "not PortOne's", 0},
		"API's own error":                {emulator.Fault{Endpoint: "payment", Status: 503, Message: "점검"}, lookUpOrder1, 503, "점검", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Account: "timeout 2s"})
			g.MustIssue(t, "order-1")
			require.NoError(t, g.API.Inject(c.fault))
			a := c.do(t, g)
			assert.Equal(t, c.status, a.Status, a.Body)
			if c.message != "" {
				assert.Contains(t, a.Field(t, "message"), c.message)
			}
			assert.Len(t, g.API.Payments(), 1+c.issued)
			if a.Status == 200 && c.issued == 1 {
				assert.Equal(t, "order-2", a.Payment(t)["merchant_uid"])
			}
		})
	}
}

func issueOrder2(t *testing.T, g *gatewaytest.Gateway) gatewaytest.Answer {
	return g.Issue(t, "order-2")
}

func voidOrder1(t *testing.T, g *gatewaytest.Gateway) gatewaytest.Answer {
	return g.Do(t, http.MethodDelete, g.Inside+"/cvs/"+g.API.Payments()[0].ImpUID, "", "")
}

func lookUpOrder1(t *testing.T, g *gatewaytest.Gateway) gatewaytest.Answer {
	return g.Do(t, http.MethodGet, g.Inside+"/payments/"+g.API.Payments()[0].ImpUID+"?include_sandbox=true", "", "")
}

func TestIssueAnswersUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, find := range map[string]emulator.Fault{
		"look-ups are lost": {Drop: emulator.DropBefore},
		"look-ups lag":      {Stale: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Account: "timeout 500ms"}) // the answer comes after two such times
			g.MustIssue(t, "order-1")
			find.Endpoint = emulator.EndpointFind
			require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "issue", Drop: emulator.DropAfter, Times: 1}))
			require.NoError(t, g.API.Inject(find))
			a := g.Issue(t, "order-2")
			assert.Equal(t, 504, a.Status)
			assert.Contains(t, a.Field(t, "message"), `Outcome unknown`)
			assert.Contains(t, a.Field(t, "message"), `Ask again`)
			g.WaitForLine(t, `"merchant_uid":"order-2"`) // the log names the order too
			assert.Len(t, g.API.Payments(), 2, "it is not blindly repeated")
		})
	}
}

func TestSlowLookUpIsAnswered504(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "timeout 300ms"})
	g.MustIssue(t, "order-1")
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "payment", Delay: time.Minute}))
	a := lookUpOrder1(t, g)
	assert.Equal(t, 504, a.Status)
	assert.Contains(t, a.Field(t, "message"), "in time")
}

// sendAndLeave sends a request, and closes the connection when it has arrived at the API.
func sendAndLeave(t *testing.T, g *gatewaytest.Gateway, r *http.Request, arrived <-chan struct{}) {
	t.Helper()
	ctx, leave := context.WithCancel(r.Context())
	defer leave()
	left := make(chan error)
	go func() {
		_, err := g.HTTP.Do(r.WithContext(ctx))
		left <- err
	}()
	<-arrived
	leave()
	require.Error(t, <-left)
}

func TestIssueContinuesWhenTheCallerLeaves(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Emulator: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
		if e == emulator.EndpointIssue {
			arrived <- struct{}{}
			<-release
		}
	}}})
	gatewaytest.Run(t, strings.Replace(config, "cvs_proxy", "test_watch\ncvs_proxy", 1))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", strings.NewReader(`{"merchant_uid":"order-1","amount":1}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	sendAndLeave(t, g, r, arrived)
	<-gatewaytest.Watched
	close(release)
	assert.Eventually(t, func() bool {
		return strings.Contains(g.Log(t), `"client_gone":true`) && strings.Contains(g.Log(t), g.API.Payments()[0].ImpUID)
	}, 5*time.Second, 5*time.Millisecond, "the barcode is issued and the log names it: %s", g.Log(t))
}

func TestCallerThatLeavesAfterTheAnswerIsNotLoggedAsGone(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Run(t, strings.Replace(config, "cvs_proxy", "test_leave\ncvs_proxy", 1))
	g.MustIssue(t, "order-1")
	g.WaitForLine(t, `"operation":"issue"`)
	assert.NotContains(t, g.Log(t), "client_gone")
}

func TestLookUpIsNoErrorWhenTheCallerLeaves(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 3)
	g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{BeforeRequest: func(e emulator.Endpoint, r *http.Request) {
		if e == emulator.EndpointFind {
			arrived <- struct{}{}
			<-r.Context().Done()
		}
	}}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Inside+"/payments/find/order-1", nil)
	require.NoError(t, err)
	sendAndLeave(t, g, r, arrived)
	g.WaitForLine(t, `"merchant_uid":"order-1"`)
	for line := range strings.Lines(g.Log(t)) {
		if strings.Contains(line, `"operation":"find"`) {
			assert.Contains(t, line, `"level":"debug"`)
			assert.Contains(t, line, `"status":499`)
			assert.Contains(t, line, `"client_gone":true,"cause":"the app closed the connection"`)
		}
	}
}

func TestTooLargeRequestNamesTheLimit(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Run(t, strings.Replace(config, "cvs_proxy", "request_body {\nmax_size 100B\n}\ncvs_proxy", 1))
	body := `{"merchant_uid":"order-1","amount":1,"name":"` + strings.Repeat("x", 100) + `"}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", io.MultiReader(strings.NewReader(body))) // of no known length
	require.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	a := g.Send(t, r)
	assert.Equal(t, http.StatusRequestEntityTooLarge, a.Status)
	assert.Contains(t, a.Field(t, "message"), "larger than 100 bytes")
}

func TestAccountsAreSeparate(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		Sites:  "http://127.0.0.1:9 {\n}\n",
		Emulator: emulator.Options{Keys: map[string]string{
			gatewaytest.Canaries["CVS_TEST_KEY"]: gatewaytest.Canaries["CVS_TEST_SECRET"], gatewaytest.Canaries["CVS_TEST_SECOND_KEY"]: gatewaytest.Canaries["CVS_TEST_SECOND_SECRET"],
		}},
		Proxy: "account second\nconfirm_url OUTSIDE/cvs/confirm",
	})
	i := g.MustIssue(t, "order-1")
	assert.Contains(t, i.ConfirmURL, "cvs_account=second")
	assert.Equal(t, 200, g.Confirm(t, i).Status)
	for _, account := range []string{"", "other"} {
		i := i
		i.ConfirmURL = gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_account", account)
		assert.Equal(t, 403, g.Confirm(t, i).Status, account)
	}
}

func TestPlaceholdersDescribeCallsAndDecisions(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	facts := func(directive, names string) string {
		return "log_append cvs {http.cvs.merchant_uid}\nheader X-Facts \"" + names + "\" {\ndefer\n}\n" + directive
	}
	config = strings.Replace(config, "cvs_proxy {", facts("cvs_proxy {", "{http.cvs.operation}|{http.cvs.merchant_uid}|{http.cvs.amount}|{http.cvs.status}|{http.cvs.code}|{http.cvs.account}|"), 1)
	config = strings.Replace(config, "cvs_confirm /cvs", facts("cvs_confirm /cvs", "{http.cvs.operation}|{http.cvs.verdict}|{http.cvs.code}|{http.cvs.imp_uid}"), 1)
	gatewaytest.Run(t, config)
	a := g.Issue(t, "order-1")
	assert.Equal(t, "issue|order-1|15000|ready|0||", a.Header.Get("X-Facts"))
	assert.Eventually(t, func() bool { return strings.Contains(g.Log(t), `"cvs":"order-1"`) }, 5*time.Second, 5*time.Millisecond)
	impUID := a.Payment(t)["imp_uid"].(string)
	assert.Equal(t, "confirm|accepted|200|"+impUID, g.Confirm(t, issuedBy(g, impUID, "order-1")).Header.Get("X-Facts"))
}

func TestOwnRequestsAreIsolatedFromTheServedOne(t *testing.T) {
	t.Parallel()
	served := caddy.NewReplacer()
	vars := map[string]any{}
	ctx := context.WithValue(context.WithValue(t.Context(), caddyhttp.VarsCtxKey, vars), caddy.ReplacerCtxKey, served)
	ctx = context.WithValue(ctx, caddy.CtxKey("reverse_proxy.dial_info"), "elsewhere")
	trace := new(httptrace.ClientTrace)
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(ctx, trace))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.example/", nil)
	require.NoError(t, err)
	_, err = (&isolatedTransport{transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		caddyhttp.SetVar(r.Context(), "a", "b")
		assert.Nil(t, r.Context().Value(caddy.CtxKey("reverse_proxy.dial_info")))
		assert.NotSame(t, served, r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer))
		assert.Same(t, trace, httptrace.ContextClientTrace(r.Context()))
		cancel()
		return nil, r.Context().Err()
	})}).RoundTrip(r)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, vars, "the served request's variables are not for other goroutines")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The log warns of what a barcode would lack without an option.
func TestProxyWarnsOfMissingOptions(t *testing.T) {
	t.Parallel()
	for proxy, missing := range map[string]string{
		"expires_in 72h":                       "no confirm_url",
		"confirm_url OUTSIDE/cvs/confirm":      "no expires_in",
		gatewaytest.UsualProxy:                 "",
		"repeat pass" + gatewaytest.UsualProxy: "",
	} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: proxy})
		g.MustIssue(t, "order-1")
		for _, option := range []string{"no confirm_url", "no expires_in"} {
			assert.Equal(t, option == missing, strings.Contains(g.Log(t), `"msg":"`+option+`: `), "%s: %s", proxy, option)
		}
	}
}
