package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	impKey    = "imp-key-canary"
	impSecret = "imp-secret-canary"
)

// longAgo is before every deadline of these tests.
var longAgo = time.Unix(1_700_000_000, 0)

func newServer(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server
}

// newClient returns a client with connections of its own, which end with the test.
func newClient(t testing.TB, api string, settings ...func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{API: api, ImpKey: impKey, ImpSecret: impSecret, Transport: &http.Transport{}}
	for _, set := range settings {
		set(&cfg)
	}
	c, err := client.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// newSandbox returns an emulator behind a server, and a client of it.
func newSandbox(t testing.TB, opts emulator.Options, settings ...func(*client.Config)) (*emulator.Emulator, *client.Client) {
	t.Helper()
	e := emulator.New(opts)
	server := newServer(t, e)
	t.Cleanup(func() { _ = e.Close() })
	return e, newClient(t, server.URL, settings...)
}

func inject(t testing.TB, e *emulator.Emulator, f emulator.Fault) {
	t.Helper()
	require.NoError(t, e.Inject(f))
}

func timeout(d time.Duration) func(*client.Config) {
	return func(cfg *client.Config) { cfg.Timeout = d }
}

func transport(rt http.RoundTripper) func(*client.Config) {
	return func(cfg *client.Config) { cfg.Transport = rt }
}

// fetchToken makes the client fetch its token. On a busy machine, a time-out that a
// test set for its own call may be too short for this one.
func fetchToken(t testing.TB, c *client.Client) {
	t.Helper()
	_, err := c.Payment(context.Background(), "imp_0")
	for range 20 {
		if !client.IsTimeout(err) {
			break
		}
		_, err = c.Payment(context.Background(), "imp_0")
	}
	require.ErrorIs(t, err, client.ErrNotFound)
}

func parse(t testing.TB, contentType, body string) *client.Issue {
	t.Helper()
	issue, err := client.ParseIssue(contentType, []byte(body), longAgo)
	require.NoError(t, err, body)
	return issue
}

// order returns the issue of a barcode of 15,000 won.
func order(t testing.TB, merchantUID string) *client.Issue {
	t.Helper()
	return parse(t, strict.JSON, `{"merchant_uid":"`+merchantUID+`","amount":15000}`)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inProcess serves requests by a handler without a network.
func inProcess(h http.Handler) roundTripper {
	return func(r *http.Request) (*http.Response, error) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec.Result(), nil
	}
}

// scriptedAPI is the API with the answers that a test writes.
type scriptedAPI struct {
	now                func() time.Time // its clock, by default time.Now
	token              http.HandlerFunc // by default gives one
	issue, find, other http.HandlerFunc
	posts, finds       atomic.Int32
}

func (a *scriptedAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch {
	case r.URL.Path == "/users/getToken" && a.token != nil:
		a.token(w, r)
	case r.URL.Path == "/users/getToken":
		now := a.clock().Unix()
		succeed(fmt.Sprintf(`{"access_token":"token-canary","now":%d,"expired_at":%d}`, now, now+1800))(w, r)
	case r.Method == http.MethodPost:
		a.posts.Add(1)
		a.issue(w, r)
	case strings.HasPrefix(r.URL.Path, "/payments/find/"):
		a.finds.Add(1)
		a.find(w, r)
	default:
		a.other(w, r)
	}
}

func (a *scriptedAPI) clock() time.Time {
	if a.now == nil {
		return time.Now()
	}
	return a.now()
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// succeed answers with a response in the envelope.
func succeed(response string) http.HandlerFunc {
	return answer(200, strict.JSON, `{"code":0,"message":null,"response":`+response+`}`)
}

// refuse answers with a message in the envelope.
func refuse(status, code int, message string) http.HandlerFunc {
	return answer(status, strict.JSON, fmt.Sprintf(`{"code":%d,"message":%q,"response":null}`, code, message))
}

func page(status int) http.HandlerFunc {
	return answer(status, "text/html", "<html>body-canary</html>")
}

func missing(w http.ResponseWriter, r *http.Request) {
	refuse(404, -1, "존재하지 않는 결제정보입니다.")(w, r)
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// found answers with a payment that started then.
func found(merchantUID, amount string, started time.Time) http.HandlerFunc {
	return succeed(fmt.Sprintf(`{"imp_uid":"imp_old","merchant_uid":%q,"amount":%s,"status":"ready","started_at":%d}`, merchantUID, amount, started.Unix()))
}

// inTurn answers each request by the next of the handlers, the last one for good.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		handlers[min(int(n.Add(1)), len(handlers))-1](w, r)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]client.Config{
		"no key":      {ImpSecret: impSecret},
		"no secret":   {ImpKey: impKey},
		"bad address": {ImpKey: impKey, ImpSecret: impSecret, API: "api.iamport.kr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := client.New(cfg)
			require.Error(t, err)
			assert.Nil(t, c)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestParseAPI(t *testing.T) {
	t.Parallel()
	for _, good := range []string{client.DefaultAPI, "https://api.iamport.kr/", "http://127.0.0.1:8080", "http://[::1]:8080/"} {
		u, err := client.ParseAPI(good)
		if assert.NoError(t, err, good) {
			assert.Equal(t, strings.TrimSuffix(good, "/"), u.String())
		}
	}
	for _, bad := range []string{
		"", "api.iamport.kr", "//api.iamport.kr", "ftp://api.iamport.kr", "https://", "https:///v1", "https://api.iamport.kr/v1",
		"https://api.iamport.kr//", "https://api.iamport.kr?a=b", "https://api.iamport.kr#a", "https://user-canary:pw-canary@api.iamport.kr", "http://a b", ":",
	} {
		_, err := client.ParseAPI(bad)
		if assert.Error(t, err, bad) {
			assert.NotContains(t, err.Error(), "canary")
			assert.Contains(t, err.Error(), client.DefaultAPI, "the error shows what is right")
		}
	}
}

// Behind "https://host?" every path would be appended to the query.
func TestParseAPIRefusesAnEmptyQuery(t *testing.T) {
	t.Parallel()
	_, err := client.ParseAPI("https://api.iamport.kr?")
	assert.Error(t, err)
}

func TestClientStartsWhileTheAPIIsDown(t *testing.T) {
	t.Parallel()
	c := newClient(t, deadAddress)
	assert.NotNil(t, c.State())
	assert.WithinDuration(t, time.Now(), c.State().Now(), time.Minute)
	_, err := c.Payment(context.Background(), "imp_1")
	assert.ErrorIs(t, err, client.ErrNoToken)
}

func TestDefaultsOfAConfig(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "https://api.iamport.kr", client.DefaultAPI)
	var hosts []string
	var left time.Duration
	c := newClient(t, "", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.Scheme+"://"+r.URL.Host)
		deadline, _ := r.Context().Deadline()
		left = time.Until(deadline)
		return inProcess(&scriptedAPI{other: missing}).RoundTrip(r)
	})))
	fetchToken(t, c)
	assert.Equal(t, []string{client.DefaultAPI, client.DefaultAPI}, hosts)
	assert.Greater(t, left, client.DefaultTimeout-time.Second*5)
	assert.LessOrEqual(t, left, client.DefaultTimeout)
}

func TestDoSendsWhatItIsGivenAndReturnsWhatItGets(t *testing.T) {
	t.Parallel()
	const sent, got = `{ "merchant_uid" : "주문-1", "amount":15000.00 }`, ` {"response":{"x":1.10} , "message":null,"code":0}` + "\n"
	seen := make(chan *http.Request, 2)
	api := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		if r.URL.Path != "/users/getToken" {
			assert.Equal(t, sent, string(body))
		}
		r.Form, _ = url.ParseQuery(string(body))
		seen <- r
		if r.URL.Path == "/users/getToken" {
			succeed(`{"access_token":"t1","now":1790000000,"expired_at":1790001800}`)(w, r)
			return
		}
		answer(201, "application/json; charset=utf-8", got)(w, r)
	}))
	c := newClient(t, api.URL, func(cfg *client.Config) { cfg.Tier = "001" })
	resp, err := c.Do(context.Background(), client.Request{
		Method: http.MethodPost, Path: "/x/%2F%EC%A3%BC", Query: "a=b%20c&d", ContentType: "application/json; charset=utf-8", Body: []byte(sent),
	})
	require.NoError(t, err)
	assert.Equal(t, &client.Response{Status: 201, ContentType: "application/json; charset=utf-8", Body: []byte(got)}, resp)

	token, call := <-seen, <-seen
	assert.Equal(t, http.MethodPost, token.Method)
	assert.Equal(t, strict.Form, token.Header.Get("Content-Type"))
	assert.Equal(t, url.Values{"imp_key": {impKey}, "imp_secret": {impSecret}}, token.Form)
	assert.Empty(t, token.Header.Get("Authorization"))

	assert.Equal(t, http.MethodPost, call.Method)
	assert.Equal(t, "/x/%2F%EC%A3%BC?a=b%20c&d", call.RequestURI)
	assert.Equal(t, "application/json; charset=utf-8", call.Header.Get("Content-Type"))
	assert.Equal(t, strict.JSON, call.Header.Get("Accept"))
	assert.Equal(t, "caddy-cvs", call.Header.Get("User-Agent"))
	assert.Equal(t, "Bearer t1", call.Header.Get("Authorization"))
	assert.Equal(t, "001", call.Header.Get("Tier"))
}

func TestKeysAreEncodedAsAForm(t *testing.T) {
	t.Parallel()
	const key, secret = "a&b=c+d%20 가", "&imp_key=other+ "
	_, c := newSandbox(t, emulator.Options{Keys: map[string]string{key: secret}}, func(cfg *client.Config) {
		cfg.ImpKey, cfg.ImpSecret = key, secret
	})
	fetchToken(t, c)
}

func TestDoRefusesAPathThatIsNone(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	_, err := c.Do(context.Background(), client.Request{Method: http.MethodGet, Path: "/%zz-canary"})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "canary")
}

func TestRequestsKeepValuesInTheirPathSegment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		got  client.Request
		want client.Request
	}{
		{client.PaymentRequest("imp_1"), client.Request{Method: "GET", Path: "/payments/imp_1", Query: "include_sandbox=true"}},
		{client.PaymentRequest("a/b?c#d"), client.Request{Method: "GET", Path: "/payments/a%2Fb%3Fc%23d", Query: "include_sandbox=true"}},
		{client.FindRequest("o", ""), client.Request{Method: "GET", Path: "/payments/find/o", Query: "sorting=-started&include_sandbox=true"}},
		{client.FindRequest("주/1", client.StatusPaid), client.Request{Method: "GET", Path: "/payments/find/%EC%A3%BC%2F1/paid", Query: "sorting=-started&include_sandbox=true"}},
		{client.VoidRequest("a/../b"), client.Request{Method: "DELETE", Path: "/cvs/a%2F..%2Fb"}},
	} {
		assert.Equal(t, c.want, c.got)
	}
}

func TestIssueSendsEveryField(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	ctx := context.Background()
	deadline := time.Now().Add(time.Hour).Unix()
	p, err := c.Issue(ctx, &client.IssueRequest{
		MerchantUID: "주문-1", Amount: "15000.0", Barcode: "8801234", ExpiredAt: deadline, Name: "<떡볶이> & 김밥",
		BuyerName: "홍길동", BuyerEmail: "hong@shop.example", BuyerTel: "010-1234-5678", BuyerAddr: "서울시 중구", BuyerPostcode: "04524",
		PG: "galaxia.M1", ChannelKey: "channel-key-1",
		ConfirmURL: "http://127.0.0.1/confirm?a=1&b=2", NoticeURL: []string{"http://127.0.0.1/1", "http://127.0.0.1/2"},
		CustomData: map[string]any{"장바구니": []int{1, 2}},
	})
	require.NoError(t, err)
	assert.Equal(t, client.StatusReady, p.Status)
	assert.Equal(t, "8801234", p.Barcode())
	assert.Equal(t, "주문-1", p.MerchantUID)
	assert.True(t, p.Amount.Equal("15000"))
	assert.EqualValues(t, "<떡볶이> & 김밥", p.Name)
	assert.EqualValues(t, "홍길동", p.BuyerName)
	assert.EqualValues(t, "hong@shop.example", p.BuyerEmail)
	assert.EqualValues(t, "010-1234-5678", p.BuyerTel)
	assert.EqualValues(t, "서울시 중구", p.BuyerAddr)
	assert.EqualValues(t, "04524", p.BuyerPostcode)
	assert.EqualValues(t, "M1", p.PGID)
	assert.JSONEq(t, `{"장바구니":[1,2]}`, string(p.CustomData))

	ledger := e.Payments()
	require.Len(t, ledger, 1)
	assert.Equal(t, p.ImpUID, ledger[0].ImpUID)
	assert.Equal(t, deadline, ledger[0].ExpiredAt)
	assert.Equal(t, "galaxia.M1", ledger[0].PG)
	assert.Equal(t, "channel-key-1", ledger[0].ChannelKey)
	confirm, notices := e.WebhookURLs(p.ImpUID)
	assert.Equal(t, "http://127.0.0.1/confirm?a=1&b=2", confirm)
	assert.Equal(t, []string{"http://127.0.0.1/1", "http://127.0.0.1/2"}, notices)
}

func TestIssueLeavesEmptyFieldsOut(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 2)
	e := emulator.New(emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, r *http.Request) {
		if endpoint == emulator.EndpointIssue {
			body, _ := io.ReadAll(r.Body)
			bodies <- string(body)
		}
	}})
	c := newClient(t, newServer(t, e).URL)
	p, err := c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "a&b<c>", Amount: client.Won(15000)})
	require.NoError(t, err)
	assert.Equal(t, `{"merchant_uid":"a&b<c>","amount":15000}`, strings.TrimSpace(<-bodies))
	assert.NotEmpty(t, p.Barcode(), "GalaxiaMoneytree issues a number")
}

func TestIssueChecksBeforeItSends(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	var invalid *client.InvalidError
	_, err := c.Issue(context.Background(), &client.IssueRequest{Amount: "-1", PG: "kcp"})
	require.ErrorAs(t, err, &invalid)
	assert.Len(t, invalid.Problems, 3)
	_, err = c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o", Amount: "1", CustomData: func() {}})
	assert.ErrorContains(t, err, "encoding the request")
	assert.Zero(t, e.Requests(emulator.EndpointIssue))
}

// An amount that is no number, the zero value included, must not fail in the
// JSON encoder instead of being one of an InvalidError's problems.
func TestIssueWithoutAmountIsInvalid(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1")
	for _, amount := range []client.Amount{"", "15,000", "NaN"} {
		var invalid *client.InvalidError
		_, err := c.Issue(context.Background(), &client.IssueRequest{Amount: amount, PG: "kcp"})
		if assert.ErrorAs(t, err, &invalid, "amount %q", amount) {
			assert.Len(t, invalid.Problems, 3, "with everything else that is wrong: %v", invalid)
		}
	}
}

// encoding/json puts U+FFFD in the place of invalid UTF-8, so that orders
// with different numbers (in EUC-KR, say) would be sent under the same one.
func TestIssueRefusesInvalidUTF8(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	_, err := c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "\xc1\xd6\xb9\xae", Amount: "15000"})
	assert.Error(t, err)
	assert.Empty(t, e.Payments())
}

func TestVoid(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	ctx := context.Background()
	p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
	require.NoError(t, err)
	voided, err := c.Void(ctx, p.ImpUID)
	require.NoError(t, err)
	assert.Equal(t, client.StatusCancelled, voided.Status)
	assert.Equal(t, p.ImpUID, voided.ImpUID)
	assert.NotZero(t, voided.CancelledAt)

	var refusal *client.APIError
	_, err = c.Void(ctx, p.ImpUID)
	require.ErrorAs(t, err, &refusal)
	assert.Equal(t, client.APIError{Status: 200, Code: 1, Message: "이미 말소된 수납번호입니다."}, *refusal)
	_, err = c.Void(ctx, "imp_0")
	require.ErrorIs(t, err, client.ErrNotFound)

	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointVoid, Times: 1, Drop: emulator.DropAfter})
	before := e.Requests(emulator.EndpointVoid)
	_, err = c.Void(ctx, "imp_0")
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.Equal(t, before+1, e.Requests(emulator.EndpointVoid), "a void that may have arrived is not repeated")
}

func TestPaymentAndFindPayment(t *testing.T) {
	t.Parallel()
	const uid = "주문 1/2?x=%41#&.."
	clock := &manualClock{t: time.Unix(1_790_000_000, 0)}
	e, c := newSandbox(t, emulator.Options{Now: clock.now})
	ctx := context.Background()
	issue := func() *client.Payment {
		p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: uid, Amount: "15000", CustomData: clock.now().String()})
		require.NoError(t, err)
		clock.advance(time.Minute)
		return p
	}
	first, second, third := issue(), issue(), issue()
	_, err := c.Void(ctx, second.ImpUID)
	require.NoError(t, err)
	result, err := e.Scan(ctx, emulator.ScanRequest{Barcode: first.Barcode(), PayType: emulator.PayTypeCard})
	require.NoError(t, err)
	require.True(t, result.Accepted)

	for status, want := range map[client.Status]string{
		"": third.ImpUID, client.StatusReady: third.ImpUID, client.StatusCancelled: second.ImpUID, client.StatusPaid: first.ImpUID,
	} {
		p, err := c.FindPayment(ctx, uid, status)
		if assert.NoError(t, err, status) {
			assert.Equal(t, want, p.ImpUID, status)
			assert.Equal(t, uid, p.MerchantUID)
		}
		looked, err := c.Payment(ctx, want)
		if assert.NoError(t, err) {
			assert.Equal(t, p, looked)
		}
	}
	_, err = c.FindPayment(ctx, uid, client.StatusFailed)
	require.ErrorIs(t, err, client.ErrNotFound)
	_, err = c.FindPayment(ctx, "주문 1", "")
	require.ErrorIs(t, err, client.ErrNotFound)
	_, err = c.Payment(ctx, "find/"+uid)
	require.ErrorIs(t, err, client.ErrNotFound)

	_, err = c.Issue(ctx, &client.IssueRequest{MerchantUID: uid, Amount: "15000"})
	var refusal *client.APIError
	require.ErrorAs(t, err, &refusal, "an order that is paid is refused")
	assert.Equal(t, client.APIError{Status: 200, Code: 1, Message: "이미 결제가 이뤄진 merchant_uid입니다."}, *refusal)
}

func TestListPayments(t *testing.T) {
	t.Parallel()
	clock := &manualClock{t: time.Unix(1_790_000_000, 0)}
	_, c := newSandbox(t, emulator.Options{Now: clock.now})
	ctx := context.Background()
	begin := clock.now()
	for i := range 5 {
		p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: fmt.Sprintf("o%d", i), Amount: "15000"})
		require.NoError(t, err)
		if i == 4 {
			_, err := c.Void(ctx, p.ImpUID)
			require.NoError(t, err)
		}
		clock.advance(time.Hour)
	}
	list := func(status client.Status, o client.ListOptions) (*client.PaymentPage, []string) {
		t.Helper()
		found, err := c.ListPayments(ctx, status, o)
		require.NoError(t, err)
		var orders []string
		for _, p := range found.List {
			orders = append(orders, p.MerchantUID)
			assert.NotEmpty(t, p.Raw)
		}
		return found, orders
	}
	for _, tc := range []struct {
		name   string
		status client.Status
		o      client.ListOptions
		want   []string
		page   client.PaymentPage
	}{
		{"default", client.StatusReady, client.ListOptions{}, []string{"o3", "o2", "o1", "o0"}, client.PaymentPage{Total: 4}},
		{"all", client.StatusAll, client.ListOptions{}, []string{"o4", "o3", "o2", "o1", "o0"}, client.PaymentPage{Total: 5}},
		{"cancelled", client.StatusCancelled, client.ListOptions{}, []string{"o4"}, client.PaymentPage{Total: 1}},
		{"none", client.StatusPaid, client.ListOptions{}, nil, client.PaymentPage{}},
		{"first page", client.StatusAll, client.ListOptions{Limit: 2}, []string{"o4", "o3"}, client.PaymentPage{Total: 5, Next: 2}},
		{"second page", client.StatusAll, client.ListOptions{Limit: 2, Page: 2}, []string{"o2", "o1"}, client.PaymentPage{Total: 5, Previous: 1, Next: 3}},
		{"last page", client.StatusAll, client.ListOptions{Limit: 2, Page: 3}, []string{"o0"}, client.PaymentPage{Total: 5, Previous: 2}},
		{"sorting", client.StatusAll, client.ListOptions{Sorting: "started"}, []string{"o0", "o1", "o2", "o3", "o4"}, client.PaymentPage{Total: 5}},
		{
			"from and to", client.StatusAll,
			client.ListOptions{From: begin.Add(time.Hour), To: begin.Add(2*time.Hour + time.Minute)},
			[]string{"o2", "o1"},
			client.PaymentPage{Total: 2},
		},
	} {
		found, orders := list(tc.status, tc.o)
		assert.Equal(t, tc.want, orders, tc.name)
		found.List = nil
		assert.Equal(t, &tc.page, found, tc.name)
	}

	var refusal *client.APIError
	_, err := c.ListPayments(ctx, client.StatusAll, client.ListOptions{Page: 2})
	require.ErrorAs(t, err, &refusal)
	assert.Equal(t, 400, refusal.Status)
	assert.Equal(t, "데이터 범위를 넘어선 page입니다.", refusal.Message)
	_, err = c.ListPayments(ctx, "a/find/o1", client.ListOptions{})
	require.ErrorAs(t, err, &refusal)
	assert.Equal(t, 400, refusal.Status, "the status stays in its path segment")
	var invalid *client.InvalidError
	_, err = c.ListPayments(ctx, "../find/o1", client.ListOptions{})
	require.ErrorAs(t, err, &invalid, "and what could leave it is not sent")
}

func TestListPaymentsRefusesWhatIsNoPage(t *testing.T) {
	t.Parallel()
	api := &scriptedAPI{other: inTurn(succeed(`"a text"`), answer(200, strict.JSON, `{"code":0}`), page(200), hangUp)}
	c := newClient(t, newServer(t, api).URL)
	for range 3 {
		_, err := c.ListPayments(context.Background(), client.StatusAll, client.ListOptions{})
		require.ErrorIs(t, err, client.ErrNotAPI)
	}
	_, err := c.ListPayments(context.Background(), client.StatusAll, client.ListOptions{})
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
}

func TestAListMayBeLargerThanOtherAnswers(t *testing.T) {
	t.Parallel()
	large := succeed(strings.Repeat(" ", 2<<20) + `{"total":1,"previous":0,"next":0,"list":[{"imp_uid":"imp_1"}]}`)
	c := newClient(t, newServer(t, &scriptedAPI{other: large}).URL)
	found, err := c.ListPayments(context.Background(), client.StatusAll, client.ListOptions{})
	require.NoError(t, err)
	assert.Equal(t, "imp_1", found.List[0].ImpUID)
	_, err = c.Payment(context.Background(), "imp_1")
	assert.Error(t, err)
}

// manualClock is the API's clock, moved by hand.
type manualClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *manualClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestExpiredTokenIsReplaced(t *testing.T) {
	t.Parallel()
	// On a connection in use before, the transport itself would send a body again.
	e, c := newSandbox(t, emulator.Options{}, transport(&http.Transport{DisableKeepAlives: true}))
	ctx := context.Background()
	p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o1", Amount: "15000"})
	require.NoError(t, err)
	e.ExpireTokens()
	_, err = c.Payment(ctx, p.ImpUID)
	require.NoError(t, err)
	assert.Equal(t, 2, e.TokensIssued())

	// A 401 means that nothing was done, so that POST /cvs is repeated too.
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
	_, err = c.Issue(ctx, &client.IssueRequest{MerchantUID: "o2", Amount: "15000", Name: "김밥"})
	require.NoError(t, err)
	assert.Equal(t, 1+2, e.Requests(emulator.EndpointIssue))
	assert.Zero(t, e.Requests(emulator.EndpointFind), "nothing was in doubt")
	require.Len(t, e.Payments(), 2)
	assert.Equal(t, "김밥", e.Payments()[0].Name, "with the same body")
}

func TestClientsOfOneStateShareTheToken(t *testing.T) {
	t.Parallel()
	e, first := newSandbox(t, emulator.Options{})
	server := newServer(t, e)
	fetchToken(t, first)
	for _, tier := range []string{"", "001"} {
		next := newClient(t, server.URL, func(cfg *client.Config) { cfg.State, cfg.Tier = first.State(), tier })
		assert.Same(t, first.State(), next.State())
		p, err := next.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o" + tier, Amount: "15000"})
		require.NoError(t, err)
		assert.Equal(t, tier, e.Payments()[0].Tier)
		first.Close() // as at a reload
		_, err = next.Payment(context.Background(), p.ImpUID)
		require.NoError(t, err)
	}
	assert.Equal(t, 1, e.Requests(emulator.EndpointToken))
}

// idleTransport counts what Close must end.
type idleTransport struct {
	http.RoundTripper
	closed int
}

func (i *idleTransport) CloseIdleConnections() { i.closed++ }

func TestCloseEndsIdleConnections(t *testing.T) {
	t.Parallel()
	idle := &idleTransport{RoundTripper: inProcess(&scriptedAPI{other: missing})}
	c := newClient(t, "http://api.example", transport(idle))
	fetchToken(t, c)
	assert.Zero(t, idle.closed)
	c.Close()
	assert.Equal(t, 1, idle.closed)
}

// Not parallel: every httptest.Server that closes ends the default transport's
// idle connections.
func TestCloseLeavesTheDefaultTransportAlone(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(missing))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for range 2 {
		resp, err := http.Get(server.URL)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		c, err := client.New(client.Config{ImpKey: impKey, ImpSecret: impSecret})
		require.NoError(t, err)
		c.Close()
	}
	assert.EqualValues(t, 1, connections.Load(), "the whole program's connections are not the client's to end")
}

func TestThousandFirstRequestsFetchOneToken(t *testing.T) {
	t.Parallel()
	const callers = 1000
	var entered sync.WaitGroup
	entered.Add(callers)
	e, c := newSandbox(t, emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
		if endpoint == emulator.EndpointToken {
			entered.Wait() // so that all ask before there is a token
		}
	}}, transport(&http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64}), timeout(time.Minute))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			ctx := watched(context.Background())
			go func() {
				<-ctx.waits
				entered.Done()
			}()
			_, err := c.Payment(ctx, "imp_0")
			assert.ErrorIs(t, err, client.ErrNotFound)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, e.Requests(emulator.EndpointToken))
	assert.Equal(t, 1, e.TokensIssued())
	assert.Equal(t, callers, e.Requests(emulator.EndpointPayment))
}

// watchedContext tells by waits that somebody asked for its end, as one does
// who is about to wait.
type watchedContext struct {
	context.Context
	once  sync.Once
	waits chan struct{}
}

func watched(ctx context.Context) *watchedContext {
	return &watchedContext{Context: ctx, waits: make(chan struct{})}
}

func (w *watchedContext) Done() <-chan struct{} {
	w.once.Do(func() { close(w.waits) })
	return w.Context.Done()
}

// deadAddress is one at which nobody listens. A port that was free may be another test's by
// the time it is asked; this one the system gives to nobody.
const deadAddress = "http://127.0.0.1:1"

// The rules of IssueRaw in doubt.

func TestIssueInDoubt(t *testing.T) {
	t.Parallel()
	var checks []func()
	for _, tc := range []struct {
		name      string
		faults    []emulator.Fault
		posts     int
		payments  int
		recovered bool
		err       error
	}{
		{
			name:   "answer lost after the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "half an answer",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBody}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "garbage after the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Garbage: true}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "far too much after the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Oversized: true}},
			posts:  1, payments: 1, recovered: true,
		},
		{
			name:   "broken before the work",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBefore}},
			posts:  1, err: client.ErrOutcomeUnknown,
		},
		{
			name: "look-up answers at the second attempt",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter},
				{Endpoint: emulator.EndpointFind, Times: 1, Status: 503},
			},
			posts: 1, payments: 1, recovered: true,
		},
		{
			name: "look-up refused",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter},
				{Endpoint: emulator.EndpointFind, Status: 500},
			},
			posts: 1, payments: 1, err: client.ErrOutcomeUnknown,
		},
		{
			name: "look-up broken",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBefore},
				{Endpoint: emulator.EndpointFind, Drop: emulator.DropAfter},
			},
			posts: 1, err: client.ErrOutcomeUnknown,
		},
		{
			name: "look-up garbled",
			faults: []emulator.Fault{
				{Endpoint: emulator.EndpointIssue, Times: 1, Garbage: true},
				{Endpoint: emulator.EndpointFind, Garbage: true},
			},
			posts: 1, payments: 1, err: client.ErrOutcomeUnknown,
		},
		{
			name:   "refused by the API",
			faults: []emulator.Fault{{Endpoint: emulator.EndpointIssue, Times: 1, Status: 500, Message: "점검"}},
			posts:  1,
		},
	} {
		limit := timeout(client.DefaultTimeout)
		if tc.err != nil {
			limit = timeout(brief) // which the look-ups take
		}
		e, c := newSandbox(t, emulator.Options{}, limit)
		for _, f := range tc.faults {
			inject(t, e, f)
		}
		call := issueInBackground(context.Background(), c, order(t, "주문/1"))
		checks = append(checks, func() {
			r := <-call
			assert.Equal(t, tc.posts, e.Requests(emulator.EndpointIssue), tc.name)
			ledger := e.Payments()
			assert.Len(t, ledger, tc.payments, tc.name)
			if tc.err != nil {
				assert.ErrorIs(t, r.err, tc.err, tc.name)
				assert.Nil(t, r.resp, tc.name)
				return
			}
			require.NoError(t, r.err, tc.name)
			assert.Equal(t, tc.recovered, r.resp.Recovered, tc.name)
			if p, err := r.resp.Payment(); tc.payments == 1 && assert.NoError(t, err, tc.name) {
				assert.Equal(t, ledger[0].ImpUID, p.ImpUID, tc.name)
			}
			if tc.posts == 1 && !tc.recovered {
				assert.Zero(t, e.Requests(emulator.EndpointFind), "%s: an answer of the API leaves no doubt", tc.name)
			}
		})
	}
	runAll(checks)
}

// runAll runs the checks of cases that were all begun before, as each of them
// takes its time.
func runAll(checks []func()) {
	for _, check := range checks {
		check()
	}
}

func TestIssueInDoubtOverHTTP2(t *testing.T) {
	t.Parallel()
	for drop, payments := range map[emulator.Drop]int{emulator.DropBefore: 0, emulator.DropAfter: 1, emulator.DropBody: 1} {
		t.Run(string(drop), func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{BeforeRequest: func(_ emulator.Endpoint, r *http.Request) {
				assert.Equal(t, 2, r.ProtoMajor)
			}})
			server := httptest.NewUnstartedServer(e)
			server.EnableHTTP2 = true
			server.StartTLS()
			t.Cleanup(server.Close)
			c := newClient(t, server.URL, transport(server.Client().Transport), timeout(brief))
			fetchToken(t, c)
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: drop})
			resp, err := c.IssueRaw(context.Background(), order(t, "o"))
			if payments == 0 {
				require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			} else {
				require.NoError(t, err)
				assert.True(t, resp.Recovered)
			}
			assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
			assert.Len(t, e.Payments(), payments)
		})
	}
}

func TestIssueWorksAgainstAClockThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			e, c := newSandbox(t, emulator.Options{Now: func() time.Time { return time.Now().Add(skew) }})
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter})
			resp, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.NoError(t, err)
			assert.True(t, resp.Recovered)
			assert.Len(t, e.Payments(), 1)
			assert.WithinDuration(t, time.Now().Add(skew), c.State().Now(), 5*time.Second)
		})
	}
}

// A token that was slow to come leaves the API's clock uncertain by half that
// time. Without room for it, the payment that the call made would be taken for
// an older one, and a second barcode issued.
func TestSlowTokenDoesNotHideThePaymentThatWasMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{Now: func() time.Time { return time.Now().Add(-5 * time.Second) }})
		lost := false
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/users/getToken" {
				<-time.After(4 * time.Second) // on synctest's clock
			}
			resp, err := inProcess(e).RoundTrip(r)
			if r.Method == http.MethodPost && r.URL.Path == "/cvs" && !lost {
				lost = true
				return nil, io.ErrUnexpectedEOF
			}
			return resp, err
		})))
		fetchToken(t, c)
		resp, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.NoError(t, err)
		assert.True(t, resp.Recovered)
		assert.Len(t, e.Payments(), 1)
	})
}

func TestTimedOutIssueIsLookedUp(t *testing.T) {
	t.Parallel()
	// The work is done when the API is asked for the second time whether it has been.
	e := emulator.New(emulator.Options{})
	release, done, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var finds atomic.Int32
	server := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/cvs":
			body, _ := io.ReadAll(r.Body)
			select {
			case <-release:
			case <-over:
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			e.ServeHTTP(w, r)
			close(done)
			return
		case strings.HasPrefix(r.URL.Path, "/payments/find/") && finds.Add(1) == 2:
			close(release)
			<-done
		}
		e.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { close(over) })
	c := newClient(t, server.URL, timeout(brief))
	fetchToken(t, c)
	resp, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.True(t, resp.Recovered)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	assert.Len(t, e.Payments(), 1)
}

func TestTimedOutIssueIsNeverRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			answer := make(chan *http.Response, 1)
			go func() { // goes on when the client has gone
				resp, _ := inProcess(e).RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
				answer <- resp
			}()
			select {
			case resp := <-answer:
				return resp, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})))
		fetchToken(t, c)
		inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: time.Hour})
		_, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.ErrorIs(t, err, client.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Positive(t, e.Requests(emulator.EndpointFind), "it was looked up")
		assert.Empty(t, e.Payments())
		_ = e.Close() // ends the delay: the API does the work after all
		synctest.Wait()
		assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
		assert.Len(t, e.Payments(), 1)
		c.Close()
	})
}

// A time-out of the transport's own (Caddy's read_timeout) is no
// context.DeadlineExceeded, but the API may be at work on the call all the same.
func TestIssueThatTheTransportTimedOutIsNotRepeated(t *testing.T) {
	t.Parallel()
	dialer := &net.Dialer{}
	e, c := newSandbox(t, emulator.Options{}, transport(&http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				err = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			}
			return conn, err
		},
	}), timeout(brief))
	fetchToken(t, c)
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: time.Hour})
	_, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
}

func TestIssueThatMeetsGarbageWithoutWork(t *testing.T) {
	t.Parallel()
	var checks []func()
	for name, garbage := range map[string]http.HandlerFunc{
		"200 page": page(200),
		"404 page": page(404),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/cvs", http.StatusTemporaryRedirect)
		},
		"no code":          answer(200, strict.JSON, `{"message":null,"response":{"imp_uid":"imp_1"}}`),
		"code as text":     answer(200, strict.JSON, `{"code":"0","message":null,"response":{"imp_uid":"imp_1"}}`),
		"list":             answer(200, strict.JSON, `[{"code":0}]`),
		"trailing bytes":   answer(200, strict.JSON, `{"code":0} {"code":0}`),
		"empty":            answer(200, strict.JSON, ``),
		"no content":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"envelope and 302": answer(302, strict.JSON, `{"code":0,"message":null,"response":null}`),
	} {
		api := &scriptedAPI{issue: garbage, find: missing}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		checks = append(checks, func() {
			r := <-call
			assert.ErrorIs(t, r.err, client.ErrNotAPI, name)
			assert.NotErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			assert.Nil(t, r.resp, name)
			assert.EqualValues(t, 1, api.posts.Load(), name)
			assert.Positive(t, api.finds.Load(), "%s was looked up all the same", name)
		})
	}
	runAll(checks)
}

// A gateway's own page for a 502 or 504 says nothing of what the API is doing.
func TestIssueThatAGatewayGaveUpIsInDoubt(t *testing.T) {
	t.Parallel()
	var checks []func()
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		api := &scriptedAPI{issue: page(status), find: missing}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		checks = append(checks, func() {
			require.ErrorIs(t, (<-call).err, client.ErrOutcomeUnknown, status)
			assert.EqualValues(t, 1, api.posts.Load(), status)
		})
	}
	runAll(checks)
}

// An answer beyond the limit is no broken connection: something answered.
func TestIssueThatMeetsAnOversizedAnswerIsNotRepeated(t *testing.T) {
	t.Parallel()
	api := &scriptedAPI{issue: succeed(strings.Repeat(" ", 2<<20) + "null"), find: missing}
	c := newClient(t, newServer(t, api).URL, timeout(brief))
	_, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.ErrorIs(t, err, client.ErrNotAPI)
	require.NotErrorIs(t, err, client.ErrOutcomeUnknown, "the last look-up found none")
	assert.EqualValues(t, 1, api.posts.Load())
}

func TestIssueTellsItsPaymentFromOthers(t *testing.T) {
	t.Parallel()
	var checks []func()
	apiNow := time.Now().Add(time.Hour) // the API's clock is not ours
	clock := func() time.Time { return apiNow }
	for _, tc := range []struct {
		name string
		find http.HandlerFunc
		ours bool
	}{
		{"ours", found("o", "15000", apiNow), true},
		{"ours, the amount written otherwise", found("o", `"15000.00"`, apiNow), true},
		{"ours, the amount with a float's error", found("o", "14999.999999999998", apiNow), true},
		{"older", found("o", "15000", apiNow.Add(-time.Minute)), false},
		{"much older, though newer than our clock", found("o", "15000", apiNow.Add(-30*time.Minute)), false},
		{"another amount", found("o", "15001", apiNow), false},
		{"another order", found("O", "15000", apiNow), false},
		{"none", missing, false},
	} {
		api := &scriptedAPI{now: clock, issue: hangUp, find: tc.find}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		checks = append(checks, func() {
			r := <-call
			assert.EqualValues(t, 1, api.posts.Load(), tc.name)
			if !tc.ours {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, tc.name)
				return
			}
			require.NoError(t, r.err, tc.name)
			p, err := r.resp.Payment()
			require.NoError(t, err, tc.name)
			assert.Equal(t, "imp_old", p.ImpUID, tc.name)
			assert.True(t, r.resp.Recovered, tc.name)
		})
	}
	runAll(checks)
}

// A payment that was voided a moment before must not pass for the one that the
// call made: the app would show a barcode that cannot be paid.
func TestIssueDoesNotAnswerWithAVoidedPayment(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{}, timeout(brief))
	ctx := context.Background()
	p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
	require.NoError(t, err)
	_, err = c.Void(ctx, p.ImpUID)
	require.NoError(t, err)
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBefore})
	again, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.Nil(t, again)
}

// A look-up that finds something it cannot read is not the API's word that
// there is none.
func TestIssueIsNotRepeatedAfterALookUpThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var checks []func()
	now := time.Now().Unix()
	for name, response := range map[string]string{
		"null":          `null`,
		"no payment":    `{}`,
		"unlike itself": fmt.Sprintf(`{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,"status":"ready","started_at":%d,"promotion":[]}`, now),
	} {
		api := &scriptedAPI{issue: hangUp, find: succeed(response)}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		checks = append(checks, func() {
			if r := <-call; r.err == nil {
				assert.True(t, r.resp.Recovered, name)
			} else {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			}
			assert.EqualValues(t, 1, api.posts.Load(), name)
		})
	}
	runAll(checks)
}

// A payment of this order and amount whose state is new to us, or whose start
// cannot be read, is not surely another one.
func TestIssueIsNotRepeatedAfterALookUpThatFoundSomethingNew(t *testing.T) {
	t.Parallel()
	var checks []func()
	now := time.Now().Unix()
	for name, members := range map[string]string{
		"new state":       fmt.Sprintf(`"status":"pending","started_at":%d`, now),
		"no state":        fmt.Sprintf(`"status":null,"started_at":%d`, now),
		"no start":        `"status":"ready","started_at":null`,
		"start as a text": fmt.Sprintf(`"status":"ready","started_at":%q`, time.Unix(now, 0).Format(time.RFC3339)),
	} {
		api := &scriptedAPI{issue: hangUp, find: succeed(`{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,` + members + `}`)}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		checks = append(checks, func() {
			if r := <-call; r.err == nil {
				assert.True(t, r.resp.Recovered, name)
			} else {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			}
			assert.EqualValues(t, 1, api.posts.Load(), name)
		})
	}
	runAll(checks)
}

func TestLastLookUpDecides(t *testing.T) {
	t.Parallel()
	for last, want := range map[int]error{404: client.ErrNotAPI, 502: client.ErrOutcomeUnknown, 429: client.ErrOutcomeUnknown} {
		t.Run(strconv.Itoa(last), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				api := &scriptedAPI{issue: page(404), find: func(w http.ResponseWriter, r *http.Request) {
					if time.Since(began) < client.DefaultTimeout || last == 404 {
						missing(w, r)
						return
					}
					page(last)(w, r)
				}}
				c := newClient(t, "http://api.example", transport(inProcess(api)))
				_, err := c.IssueRaw(context.Background(), order(t, "o"))
				require.ErrorIs(t, err, want)
				assert.Equal(t, last == 404, !errors.Is(err, client.ErrOutcomeUnknown))
				assert.EqualValues(t, 1, api.posts.Load())
				assert.GreaterOrEqual(t, time.Since(began), client.DefaultTimeout)
				assert.Less(t, time.Since(began), 2*client.DefaultTimeout)
				c.Close()
			})
		})
	}
}

// What keeps a look-up from an answer, for as long as the time-out lasts, must
// not leave the app without the barcode that was issued.
func TestLookUpOutlastsWhatHindersIt(t *testing.T) {
	t.Parallel()
	const trouble = 4 * time.Second // of the default time-out's 10
	for name, hinder := range map[string]func(*http.Request, time.Duration) (*http.Response, error){
		"no token": func(r *http.Request, since time.Duration) (*http.Response, error) {
			switch {
			case since > trouble:
				return nil, nil
			case r.URL.Path == "/users/getToken":
				return respond(http.StatusServiceUnavailable), nil
			default:
				return respond(http.StatusUnauthorized), nil
			}
		},
		"the API is away": func(_ *http.Request, since time.Duration) (*http.Response, error) {
			if since > trouble {
				return nil, nil
			}
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
		},
		"a dead connection": func(r *http.Request, since time.Duration) (*http.Response, error) {
			if since > 0 {
				return nil, nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{})
				var lost time.Time
				c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					if !lost.IsZero() {
						if resp, err := hinder(r, time.Since(lost)); resp != nil || err != nil {
							return resp, err
						}
					}
					resp, err := inProcess(e).RoundTrip(r)
					if r.Method == http.MethodPost && r.URL.Path == "/cvs" {
						lost = time.Now()
						return nil, io.ErrUnexpectedEOF
					}
					return resp, err
				})))
				resp, err := c.IssueRaw(context.Background(), order(t, "o"))
				require.NoError(t, err)
				assert.True(t, resp.Recovered)
				assert.Len(t, e.Payments(), 1)
				assert.Less(t, time.Since(lost), 11*time.Second)
				c.Close()
				<-time.After(time.Minute) // on synctest's clock, for a token that is still being fetched
			})
		})
	}
}

// A slow API is not a dead one: a look-up and a token may take the whole time-out.
func TestSlowAnswersAreWaitedFor(t *testing.T) {
	t.Parallel()
	for slow, prefix := range map[string]string{"look-up": "/payments/find/", "token": "/users/getToken"} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{})
				c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
					if strings.HasPrefix(r.URL.Path, prefix) {
						select { // on synctest's clock
						case <-time.After(8 * time.Second):
						case <-r.Context().Done():
							return nil, r.Context().Err()
						}
					}
					resp, err := inProcess(e).RoundTrip(r)
					if r.Method == http.MethodPost && r.URL.Path == "/cvs" && prefix != "/users/getToken" {
						return nil, io.ErrUnexpectedEOF
					}
					return resp, err
				})))
				issue := order(t, "o")
				resp, err := c.IssueRaw(context.Background(), issue)
				if slow == "token" { // who has waited for ten seconds is told so; the token comes after all
					require.ErrorIs(t, err, client.ErrNoToken)
					<-time.After(5 * time.Second)
					resp, err = c.IssueRaw(context.Background(), issue)
				}
				require.NoError(t, err)
				assert.Equal(t, slow == "look-up", resp.Recovered)
				assert.Len(t, e.Payments(), 1)
				c.Close()
			})
		})
	}
}

// Look-ups must not add to an API's trouble.
func TestLookUpsKeepTheirDistance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		find http.HandlerFunc
		most int32
	}{
		"asked to leave it alone": {page(429), 2},
		"likewise, by the API":    {refuse(429, -1, "x"), 2},
		"a refusal":               {refuse(200, -1, "x"), 10},
		"down":                    {page(503), 17},
		"at work":                 {refuse(503, -1, "점검"), 17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				api := &scriptedAPI{issue: page(504), find: c.find}
				caller := newClient(t, "http://api.example", transport(inProcess(api)))
				_, err := caller.IssueRaw(context.Background(), order(t, "o"))
				require.ErrorIs(t, err, client.ErrOutcomeUnknown)
				assert.LessOrEqual(t, api.finds.Load(), c.most)
				assert.GreaterOrEqual(t, api.finds.Load(), int32(2))
				caller.Close()
			})
		})
	}
}

// The end of an answer may come in a frame of its own: to leave before would
// cancel what the server still does.
func TestAnswersAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	var left atomic.Int32
	ended := make(chan struct{}, 3)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Unix()
		body := fmt.Sprintf(`{"code":0,"message":null,"response":{"access_token":"t","now":%d,"expired_at":%d,"imp_uid":"imp_1"}}`, now, now+1800)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			left.Add(1)
		case <-time.After(20 * time.Millisecond): // the work after the answer
		}
		ended <- struct{}{}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, transport(server.Client().Transport))
	for range 2 {
		_, err := c.Do(context.Background(), client.PaymentRequest("imp_1"))
		require.NoError(t, err)
	}
	for range 3 { // a token and two payments
		<-ended
	}
	assert.Zero(t, left.Load())
}

// What was checked is what is sent, even if the caller uses the bytes again.
func TestIssueKeepsNothingOfTheCallers(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	body := []byte(`{"merchant_uid":"a","amount":15000}`)
	issue, err := client.ParseIssue(strict.JSON, body, longAgo)
	require.NoError(t, err)
	copy(body, `{"merchant_uid":"b","amount":9    }`)
	_, err = c.IssueRaw(context.Background(), issue)
	require.NoError(t, err)
	assert.Equal(t, "a", e.Payments()[0].MerchantUID)
}

func respond(status int) *http.Response {
	rec := httptest.NewRecorder()
	page(status)(rec, nil)
	return rec.Result()
}

// faultyDialer fails to connect as often as it is told.
type faultyDialer struct {
	net.Dialer
	failures atomic.Int32
	dials    atomic.Int32
}

func (d *faultyDialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	d.dials.Add(1)
	if d.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused: error-canary")}
	}
	return d.Dialer.DialContext(ctx, network, addr)
}

func (d *faultyDialer) transport() func(*client.Config) {
	return transport(&http.Transport{DialContext: d.DialContext, DisableKeepAlives: true})
}

func TestIssueIsTriedAgainIfItWasNotSent(t *testing.T) {
	t.Parallel()
	d := new(faultyDialer)
	e, c := newSandbox(t, emulator.Options{}, d.transport())
	fetchToken(t, c)
	d.failures.Store(2)
	resp, err := c.IssueRaw(context.Background(), order(t, "o1"))
	require.NoError(t, err)
	assert.False(t, resp.Recovered)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	assert.Zero(t, e.Requests(emulator.EndpointFind), "nothing was in doubt")

	d.failures.Store(1000)
	dials := d.dials.Load()
	_, err = c.IssueRaw(context.Background(), order(t, "o2"))
	require.ErrorIs(t, err, client.ErrUnreachable)
	require.NotErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.EqualValues(t, 3, d.dials.Load()-dials)
	assert.Len(t, e.Payments(), 1)
}

func TestIssueOverATransportThatTellsNothingIsInDoubt(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	posts := 0
	c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/cvs" {
			if posts++; posts == 1 {
				_, err := inProcess(e).RoundTrip(r)
				assert.NoError(t, err)
				return nil, errors.New("error-canary")
			}
		}
		return inProcess(e).RoundTrip(r)
	})))
	resp, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.True(t, resp.Recovered)
	assert.Len(t, e.Payments(), 1)
}

// holder holds POST /cvs until released, and tells when each has arrived.
type holder struct {
	arrived chan struct{}
	release chan struct{}
}

func newHolder() *holder { return &holder{make(chan struct{}, 100), make(chan struct{})} }

func (h *holder) options() emulator.Options {
	return emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, r *http.Request) {
		if endpoint == emulator.EndpointIssue {
			h.arrived <- struct{}{}
			select {
			case <-h.release:
			case <-r.Context().Done():
			}
		}
	}}
}

// await waits for the next POST /cvs to arrive.
func (h *holder) await(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	select {
	case <-h.arrived:
	case <-ctx.Done():
		require.Fail(t, "no further POST /cvs arrives")
	}
}

type result struct {
	resp *client.Response
	err  error
}

func issueInBackground(ctx context.Context, c *client.Client, i *client.Issue) <-chan result {
	ch := make(chan result, 1)
	go func() {
		resp, err := c.IssueRaw(ctx, i)
		ch <- result{resp, err}
	}()
	return ch
}

func TestIdenticalIssuesAreOneCall(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	calls := []<-chan result{issueInBackground(context.Background(), c, order(t, "o"))}
	h.await(t)
	for range 9 {
		ctx := watched(context.Background())
		calls = append(calls, issueInBackground(ctx, c, order(t, "o")))
		<-ctx.waits // it has joined and waits
	}
	close(h.release)
	var bodies []string
	for _, call := range calls {
		r := <-call
		require.NoError(t, r.err)
		bodies = append(bodies, string(r.resp.Body))
	}
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	require.Len(t, e.Payments(), 1)
	for _, body := range bodies {
		assert.Contains(t, body, e.Payments()[0].ImpUID)
	}

	_, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.Len(t, e.Payments(), 2, "a later one is a call of its own")
}

func TestDifferentIssuesAreCallsOfTheirOwn(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	server := newServer(t, e)
	tiered := newClient(t, server.URL, func(cfg *client.Config) { cfg.State, cfg.Tier = c.State(), "001" })
	body := `{"merchant_uid":"o","amount":15000}`
	completed := parse(t, strict.JSON, body)
	completed.Complete(client.Defaults{PG: "galaxia.M2"}, keys(t), "", time.Now())
	other := parse(t, strict.JSON, body)
	other.Complete(client.Defaults{PG: "galaxia.M2"}, keys(t), "second", time.Now())
	calls := []<-chan result{
		issueInBackground(context.Background(), c, parse(t, strict.JSON, body)),
		issueInBackground(context.Background(), c, parse(t, strict.JSON, `{"merchant_uid":"o","amount":15001}`)),
		issueInBackground(context.Background(), c, parse(t, strict.Form, `merchant_uid=o&amount=15000`)),
		issueInBackground(context.Background(), c, completed),
		issueInBackground(context.Background(), c, other),
		issueInBackground(context.Background(), tiered, parse(t, strict.JSON, body)),
	}
	for range calls {
		h.await(t) // all are under way at once
	}
	close(h.release)
	for _, call := range calls {
		require.NoError(t, (<-call).err)
	}
	assert.Len(t, e.Payments(), len(calls))
}

func TestIssuesThatDifferInTheTimeOfCompletionAreOneCall(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	now := time.Now()
	complete := func(at time.Time) *client.Issue {
		i := order(t, "o")
		_ = i.Complete(client.Defaults{ExpiresIn: time.Hour}, keys(t), "", at)
		return i
	}
	first := issueInBackground(context.Background(), c, complete(now))
	h.await(t)
	ctx := watched(context.Background())
	second := issueInBackground(ctx, c, complete(now.Add(time.Second)))
	<-ctx.waits
	close(h.release)
	a, b := <-first, <-second
	require.NoError(t, a.err)
	require.NoError(t, b.err)
	assert.Equal(t, a.resp, b.resp)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
}

func TestIssueGoesOnWhenItsCallerLeaves(t *testing.T) {
	t.Parallel()
	h := newHolder()
	e, c := newSandbox(t, h.options())
	ctx, cancel := context.WithCancel(context.Background())
	first := issueInBackground(ctx, c, order(t, "o"))
	h.await(t)
	cancel()
	left := <-first
	require.ErrorIs(t, left.err, client.ErrOutcomeUnknown)
	require.ErrorIs(t, left.err, context.Canceled)

	waits := watched(context.Background())
	second := issueInBackground(waits, c, order(t, "o"))
	<-waits.waits // it has joined what the first began
	close(h.release)
	r := <-second
	require.NoError(t, r.err)
	assert.False(t, r.resp.Recovered)
	assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
	assert.Len(t, e.Payments(), 1)
}

// A caller who has left before the call must not get a barcode unseen.
func TestIssueWithAContextThatHasEndedSendsNothing(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	fetchToken(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.IssueRaw(ctx, order(t, "o"))
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, client.ErrOutcomeUnknown)
	// Whatever was begun in spite of it is joined here, and no second call made.
	_, err = c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.Len(t, e.Payments(), 1)
}

func BenchmarkClientPayment(b *testing.B) {
	_, c := newSandbox(b, emulator.Options{}, transport(&http.Transport{MaxIdleConnsPerHost: 64}))
	p, err := c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Payment(context.Background(), p.ImpUID); err != nil {
			b.Fatal(err)
		}
	}
}
