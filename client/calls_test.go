package client_test

// This file holds tests of the calls that an app makes.

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

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

func TestIssueOmitsEmptyFields(t *testing.T) {
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

func TestIssueValidatesBeforeSending(t *testing.T) {
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
func TestIssueRejectsInvalidUTF8(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	_, err := c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "\xc1\xd6\xb9\xae", Amount: "15000"})
	assert.Error(t, err)
	assert.Empty(t, e.Payments())
}

func TestVoidCancelsUnpaidBarcodeOnce(t *testing.T) {
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

func TestPaymentAndFindPaymentReturnTheRightPayment(t *testing.T) {
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

func TestListPaymentsPagesAndFilters(t *testing.T) {
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

func TestListPaymentsRejectsMalformedPage(t *testing.T) {
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

// If the API says that it did the work, the work is done, even if the rest of the answer
// cannot be read.
func TestUnreadablePaymentIsOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for response, impUID := range map[string]string{
		`{"imp_uid":"imp_1","merchant_uid":"o","amount":"15,000","status":"ready","started_at":1}`: "imp_1",
		`{"imp_uid":17,"merchant_uid":"o","amount":15000}`:                                         "",
		`null`: "",
		`[]`:   "",
		`{"imp_uid":"` + strings.Repeat("x", 100) + `","amount":"-"}`: "",
	} {
		api := &scriptedAPI{issue: succeed(response), find: missing, other: succeed(response)}
		c := newClient(t, newServer(t, api).URL)
		for name, call := range map[string]func() (*client.Payment, error){
			"issue": func() (*client.Payment, error) {
				return c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
			},
			"void": func() (*client.Payment, error) { return c.Void(context.Background(), "imp_1") },
		} {
			p, err := call()
			require.ErrorIs(t, err, client.ErrOutcomeUnknown, "%s %s", name, response)
			require.NotErrorIs(t, err, client.ErrNotAPI, response)
			var unreadable *client.UnreadableError
			require.ErrorAs(t, err, &unreadable)
			assert.Equal(t, impUID, unreadable.ImpUID, response)
			assert.Contains(t, err.Error(), impUID)
			assert.Nil(t, p)
		}
		_, err := c.Payment(context.Background(), "imp_1")
		require.ErrorIs(t, err, client.ErrNotAPI, "a look-up does nothing")
		assert.EqualValues(t, 1, api.posts.Load())
	}
}

func TestCustomDataComesBack(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for contentType, bodies := range map[string]map[string]string{
		strict.JSON: {
			jsonBody(`"custom_data":["장바구니",1.10]`):          `["장바구니",1.10]`,
			jsonBody(`"custom_data":{"b":1,"a":{"c":"<>"}}`): `{"b":1,"a":{"c":"<>"}}`,
			jsonBody(`"custom_data":"글"`):                    `글`,
		},
		strict.Form: {
			formBody("custom_data=%7B%22a%22%3A1%7D"):   `{"a":1}`,
			formBody("custom_data[]=a&custom_data[]=b"): `["a","b"]`,
		},
	} {
		for body, want := range bodies {
			resp, err := c.IssueRaw(context.Background(), parse(t, contentType, body))
			require.NoError(t, err)
			p, err := resp.Payment()
			require.NoError(t, err)
			assert.EqualValues(t, want, p.CustomData)
		}
	}
}

func TestOrderPaymentsReadsEveryPage(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	list, err := c.OrderPayments(context.Background(), "unknown")
	require.NoError(t, err)
	assert.Empty(t, list)
	const issued = 101 // one more than a page
	for range issued {
		p, err := c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "주문/1", Amount: "15000"})
		require.NoError(t, err)
		_, err = c.Void(context.Background(), p.ImpUID)
		require.NoError(t, err)
	}
	_, err = c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o2", Amount: "15000"})
	require.NoError(t, err)
	list, err = c.OrderPayments(context.Background(), "주문/1")
	require.NoError(t, err)
	seen := make(map[string]bool)
	for i, p := range list {
		seen[p.ImpUID] = true
		assert.True(t, i == 0 || p.StartedAt <= list[i-1].StartedAt, "the newest first")
		assert.True(t, p.MayBeCVS())
	}
	assert.Len(t, seen, issued)
	assert.Equal(t, 3, e.Requests(emulator.EndpointFindAll))
}

func TestOrderPaymentsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	list := func(next int) http.HandlerFunc {
		return succeed(fmt.Sprintf(`{"total":1,"previous":0,"next":%d,"list":[{"imp_uid":"imp_1","pay_method":"card"}]}`, next))
	}
	pages := new(atomic.Int32)
	for name, tc := range map[string]struct {
		other http.HandlerFunc
		err   error
		found int
	}{
		"404":               {other: missing},
		"404 on page 2":     {other: inTurn(list(2), missing), err: client.ErrNotFound},
		"silent on page 2":  {other: inTurn(list(2), hangUp), err: client.ErrOutcomeUnknown},
		"another's answer":  {other: page(200), err: client.ErrNotAPI},
		"one page":          {other: list(0), found: 1},
		"pages without end": {other: func(w http.ResponseWriter, r *http.Request) { pages.Add(1); list(2)(w, r) }, err: client.ErrNotAPI},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, "http://api.example", transport(inProcess(&scriptedAPI{other: tc.other})))
			if name == "silent on page 2" {
				c = newClient(t, newServer(t, &scriptedAPI{other: tc.other}).URL)
			}
			found, err := c.OrderPayments(context.Background(), "o")
			require.ErrorIs(t, err, tc.err)
			require.Len(t, found, tc.found)
			if tc.found > 0 {
				assert.False(t, found[0].MayBeCVS())
			}
			if name == "pages without end" {
				assert.EqualValues(t, 100, pages.Load())
			}
		})
	}
}
