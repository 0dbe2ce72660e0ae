package ledger

// This file holds tests of the API's calls, with the real client and the emulator.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// sandbox returns an emulator, and the API of a client of it.
func sandbox(t *testing.T) (*emulator.Emulator, *client.Client, API) {
	t.Helper()
	return sandboxWith(t, emulator.Options{})
}

func sandboxWith(t *testing.T, opts emulator.Options) (*emulator.Emulator, *client.Client, API) {
	t.Helper()
	e := emulator.New(opts)
	server := httptest.NewServer(e)
	c, err := client.New(client.Config{API: server.URL, ImpKey: "key", ImpSecret: "secret", Transport: &http.Transport{}, Timeout: 2 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() {
		c.Close()
		c.State().Close()
		server.Close()
		_ = e.Close()
	})
	return e, c, APIOf(c)
}

// completed is a POST /cvs as the gateway completes it.
func completed(t *testing.T, c *client.Client, body string) *Request {
	t.Helper()
	i, err := client.ParseIssue(strict.JSON, []byte(body), time.Now())
	require.NoError(t, err)
	base, err := signedurl.ParseBase("http://127.0.0.1:1/cvs/confirm")
	require.NoError(t, err)
	require.NoError(t, i.Complete(client.Defaults{ConfirmURL: base, PG: "galaxia.M1"}, keys(t, "key"), "", time.Now()))
	return &Request{Terms: TermsOf(i), Issue: i, Identity: c.Identity(i)}
}

func TestTermsOfARequest(t *testing.T) {
	t.Parallel()
	_, c, _ := sandbox(t)
	deadline := time.Now().Add(time.Hour).Unix()
	r := completed(t, c, fmt.Sprintf(`{"merchant_uid":"o","amount":15000.0,"barcode":"1234","channel_key":"k","expired_at":%d}`, deadline))
	assert.Equal(t, Terms{
		Order: "o", Amount: "15000", Own: "1234", PG: "galaxia.M1", ChannelKey: "k", Deadline: deadline,
		Named: client.Named{ChannelKey: true, ExpiredAt: true},
	}, r.Terms)
}

func TestCallsOfTheAPI(t *testing.T) {
	t.Parallel()
	e, c, calls := sandbox(t)
	ctx := t.Context()
	r := completed(t, c, `{"merchant_uid":"o","amount":15000,"name":"김밥"}`)
	seen, err := calls.Issue(ctx, r, "the-attempts-id", nil)
	require.NoError(t, err)
	require.NotEmpty(t, seen.ImpUID)
	assert.Equal(t, Issued, seen.state())
	assert.Equal(t, "o", seen.Order)
	assert.Equal(t, "15000", seen.Amount)
	assert.NotEmpty(t, seen.Barcode)
	assert.True(t, seen.CVS)
	assert.InDelta(t, time.Now().Unix(), seen.StartedAt, 5)
	assert.Contains(t, string(seen.Answer.Body), seen.ImpUID)
	assert.Subset(t, seen.Fields, []string{"imp_uid", "merchant_uid", "amount", "status", "vbank_num", "name", "started_at"})
	assert.NotSubset(t, seen.Fields, []string{"paid_at"})
	assert.NotContains(t, seen.Fields, "cancel_history", "an empty list is no value")
	confirmURL, _ := e.WebhookURLs(seen.ImpUID)
	assert.Contains(t, confirmURL, "cvs_id=the-attempts-id")

	again, err := calls.Payment(ctx, seen.ImpUID)
	require.NoError(t, err)
	assert.True(t, again.hasAll(seen.Fields), "a look-up shows what the answer had")
	again.Fields = again.Fields[1:]
	assert.False(t, again.hasAll(seen.Fields))
	_, err = calls.Payment(ctx, "imp_0")
	require.ErrorIs(t, err, client.ErrNotFound)

	list, err := calls.Payments(ctx, "o")
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, seen.ImpUID, list[0].ImpUID)
	assert.Equal(t, again.StartedAt, list[0].StartedAt)
	assert.Nil(t, list[0].Answer)
	list, err = calls.Payments(ctx, "unknown")
	require.NoError(t, err)
	assert.Empty(t, list)

	resp, err := calls.Void(ctx, seen.ImpUID, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Err())
	again, err = calls.Payment(ctx, seen.ImpUID)
	require.NoError(t, err)
	assert.Equal(t, Void, again.state(), "voided, not refunded")
	resp, err = calls.Void(ctx, seen.ImpUID, nil)
	require.NoError(t, err)
	assert.Equal(t, declined, outcomeOf(resp.Err()))

	assert.WithinDuration(t, time.Now(), calls.Now(), 3*time.Second)
	assert.LessOrEqual(t, calls.EarliestStart(time.Now()), time.Now().Unix())
}

// payAndCancel makes payments by card, one each second, and then pays back a half of each one that is
// in a list, again one each second.
func payAndCancel(t *testing.T, c *client.Client, clock *atomic.Int64, number int, cancel []int) {
	t.Helper()
	post := func(path, body string, args ...any) {
		clock.Add(1)
		resp, err := c.Do(t.Context(), client.Request{Method: http.MethodPost, Path: path, ContentType: strict.JSON, Body: fmt.Appendf(nil, body, args...)})
		require.NoError(t, err)
		require.NoError(t, resp.Err())
	}
	for i := range number {
		post("/subscribe/payments/onetime", `{"merchant_uid":"o%d","amount":1000,"card_number":"1234-5678-9012-3456","expiry":"2030-01"}`, i)
	}
	for _, i := range cancel {
		post("/payments/cancel", `{"merchant_uid":"o%d","amount":500}`, i)
	}
}

func TestPagesOfTheAPIsLists(t *testing.T) {
	t.Parallel()
	clock := new(atomic.Int64)
	began := time.Now().Unix()
	clock.Store(began)
	_, c, calls := sandboxWith(t, emulator.Options{Now: func() time.Time { return time.Unix(clock.Load(), 0) }})
	page := func(status client.Status, from, to int64, number int) (orders []string, list []Seen, more bool) {
		list, more, err := calls.Page(t.Context(), status, began+from, began+to, number)
		require.NoError(t, err)
		for i := range list {
			orders = append(orders, list[i].Order)
		}
		return orders, list, more
	}
	orders, _, more := page(client.StatusPaid, 0, 9, 1)
	assert.Empty(t, orders)
	assert.False(t, more)

	const number = pageSize + 1
	payAndCancel(t, c, clock, number, nil)
	orders, list, more := page(client.StatusPaid, 0, number, 1)
	require.Len(t, orders, pageSize)
	assert.True(t, more)
	assert.Equal(t, []string{"o0", "o1"}, orders[:2], "the one paid first")
	first := list[0]
	assert.Equal(t, Seen{
		ImpUID: first.ImpUID, Order: "o0", Amount: "1000", PGID: first.PGID, Status: client.StatusPaid, StartedAt: began + 1, PaidAt: began + 1,
		CancelAmount: "0", Sandbox: true, Fields: first.Fields,
	}, first)
	orders, _, more = page(client.StatusPaid, 0, number, 2)
	assert.Equal(t, []string{"o1000"}, orders)
	assert.False(t, more)
	orders, _, more = page(client.StatusPaid, 0, number, 3)
	assert.Empty(t, orders, "beyond the last page")
	assert.False(t, more)
	orders, _, _ = page(client.StatusPaid, 10, 12, 1)
	assert.Equal(t, []string{"o9", "o10", "o11"}, orders, "both ends are included")

	_, _, err := calls.Page(t.Context(), client.StatusPaid, began-100*24*3600, began, 1)
	refusal, refused := errors.AsType[*client.APIError](err)
	require.True(t, refused, "a refusal is no empty list")
	assert.Equal(t, 400, refusal.Status)
}

func TestPagesOfCancelledPayments(t *testing.T) {
	t.Parallel()
	clock := new(atomic.Int64)
	began := time.Now().Unix()
	clock.Store(began)
	_, c, calls := sandboxWith(t, emulator.Options{Now: func() time.Time { return time.Unix(clock.Load(), 0) }})
	payAndCancel(t, c, clock, 4, []int{2, 1, 3, 1, 2})
	list, more, err := calls.Page(t.Context(), client.StatusCancelled, began, began+9, 1)
	require.NoError(t, err)
	assert.False(t, more)
	require.Len(t, list, 3)
	assert.Equal(t, []string{"o3", "o1", "o2"}, []string{list[0].Order, list[1].Order, list[2].Order}, "by their last change")
	assert.Equal(t, "500", list[0].CancelAmount, "of which a part is left")
	assert.Equal(t, Refunded, list[0].state())
	last := list[2]
	assert.Equal(t, Refunded, last.state())
	assert.Equal(t, "1000", last.CancelAmount)
	assert.Equal(t, []int64{began + 3, began + 9}, []int64{last.PaidAt, last.CancelledAt})
	require.Len(t, last.Cancellations, 2)
	assert.NotEqual(t, last.Cancellations[0].ID, last.Cancellations[1].ID)
	for i, at := range []int64{began + 5, began + 9} {
		got := last.Cancellations[i]
		assert.Equal(t, client.OutlineCancellation{ID: got.ID, Amount: "500", CancelledAt: at}, got)
		assert.NotEmpty(t, got.ID)
	}
}

func TestPaidAndRefundedPaymentsAreSeen(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]State{
		`{"imp_uid":"i","status":"paid","paid_at":5,"amount":100}`:                        Paid,
		`{"imp_uid":"i","status":"paid","paid_at":5,"amount":100,"cancel_amount":40}`:     Refunded,
		`{"imp_uid":"i","status":"cancelled","paid_at":5,"amount":100}`:                   Refunded,
		`{"imp_uid":"i","status":"cancelled","paid_at":0,"amount":100,"cancel_amount":0}`: Void,
		`{"imp_uid":"i","status":"failed","amount":100}`:                                  Failed,
		`{"imp_uid":"i","status":"ready","amount":100}`:                                   Issued,
		`{"imp_uid":"i","status":"settled","amount":100}`:                                 "",
	} {
		resp := &client.Response{Status: 200, Body: []byte(`{"code":0,"response":` + raw + `}`)}
		seen, err := seeAnswer(resp)
		require.NoError(t, err)
		assert.Equal(t, want, seen.state(), raw)
		paidBack := "0"
		if strings.Contains(raw, "40") {
			paidBack = "40"
		}
		assert.Equal(t, paidBack, seen.CancelAmount, raw)
	}
}

func TestAnswersThatAreNoPayment(t *testing.T) {
	t.Parallel()
	_, c, _ := sandbox(t)
	answers := func(status int, body string) API {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/users/getToken" {
				now := time.Now().Unix()
				_, _ = fmt.Fprintf(w, `{"code":0,"response":{"access_token":"t","now":%d,"expired_at":%d}}`, now, now+1800)
				return
			}
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
		}))
		t.Cleanup(server.Close)
		c, err := client.New(client.Config{API: server.URL, ImpKey: "key", ImpSecret: "secret", Transport: &http.Transport{DisableKeepAlives: true}})
		require.NoError(t, err)
		t.Cleanup(func() { c.Close(); c.State().Close() })
		return APIOf(c)
	}
	r := completed(t, c, `{"merchant_uid":"o","amount":15000}`)

	calls := answers(200, `{"code":0,"response":{"imp_uid":7}}`)
	seen, err := calls.Issue(t.Context(), r, "id", nil)
	require.NoError(t, err, "it was accepted")
	assert.Empty(t, seen.ImpUID)
	assert.NotNil(t, seen.Answer)
	_, err = calls.Payment(t.Context(), "imp_1")
	require.ErrorIs(t, err, client.ErrNotAPI)

	calls = answers(200, `{"code":0,"response":{"imp_uid":"imp_2","status":"ready","amount":1}}`)
	_, err = calls.Payment(t.Context(), "imp_1")
	require.ErrorIs(t, err, client.ErrNotAPI, "another payment's answer is none")

	calls = answers(200, `{"code":1,"message":"no","response":null}`)
	seen, err = calls.Issue(t.Context(), r, "id", nil)
	assert.Equal(t, declined, issueOutcome(err))
	assert.NotNil(t, seen.Answer, "the app gets the refusal")

	calls = answers(500, `{"code":-1,"message":"ill","response":null}`)
	seen, err = calls.Issue(t.Context(), r, "id", nil)
	assert.Equal(t, outcomeOpen, issueOutcome(err))
	assert.NotNil(t, seen.Answer)
	_, err = calls.Payments(t.Context(), "o")
	require.Error(t, err)
	assert.NotErrorIs(t, err, client.ErrNotFound)
	_, _, err = calls.Page(t.Context(), client.StatusPaid, 0, 1, 2)
	require.Error(t, err)
}

func TestCallsWithoutAKeyOrConnection(t *testing.T) {
	t.Parallel()
	_, c, calls := sandbox(t)
	r := completed(t, c, `{"merchant_uid":"o","amount":15000}`)
	dead, err := client.New(client.Config{API: "http://127.0.0.1:1", ImpKey: "key", ImpSecret: "secret", Transport: &http.Transport{}, Timeout: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { dead.Close(); dead.State().Close() })
	_, err = APIOf(dead).Issue(t.Context(), r, "id", nil)
	assert.Equal(t, notSent, issueOutcome(err))

	i, err := client.ParseIssue(strict.JSON, []byte(`{"merchant_uid":"o","amount":15000}`), time.Now())
	require.NoError(t, err)
	base, err := signedurl.ParseBase("http://127.0.0.1:1/cvs/confirm")
	require.NoError(t, err)
	require.ErrorIs(t, i.Complete(client.Defaults{ConfirmURL: base}, signedurl.Keys{}, "", time.Now()), signedurl.ErrNoKey)
	_, err = calls.Issue(t.Context(), &Request{Terms: TermsOf(i), Issue: i}, "id", nil)
	require.ErrorIs(t, err, signedurl.ErrNoKey)
	assert.Equal(t, notSent, issueOutcome(err))
}

func TestWithdrawnCallsReachNobody(t *testing.T) {
	t.Parallel()
	e, c, calls := sandbox(t)
	refuse := func() error { return errStale }
	_, err := calls.Issue(t.Context(), completed(t, c, `{"merchant_uid":"o","amount":15000}`), "id", refuse)
	assert.Equal(t, withdrawn, issueOutcome(err))
	_, err = calls.Void(t.Context(), "imp_1", refuse)
	assert.Equal(t, withdrawn, outcomeOf(err))
	assert.Zero(t, e.Requests(emulator.EndpointIssue))
	assert.Zero(t, e.Requests(emulator.EndpointVoid))
}

func TestOutcomeOfAnError(t *testing.T) {
	t.Parallel()
	refusal := func(status int) error { return &client.APIError{Status: status, Code: 1} }
	for _, c := range []struct {
		err         error
		want, issue outcome
	}{
		{nil, done, done},
		{client.ErrWithdrawn, withdrawn, withdrawn},
		{refusal(200), declined, declined},
		{refusal(404), declined, declined},
		{refusal(429), declined, declined},
		{refusal(500), outcomeOpen, outcomeOpen},
		{client.ErrOutcomeUnknown, outcomeOpen, outcomeOpen},
		{errors.Join(client.ErrOutcomeUnknown, refusal(400)), outcomeOpen, outcomeOpen},
		{errors.Join(client.ErrOutcomeUnknown, client.ErrNotAPI), outcomeOpen, outcomeOpen},
		{&client.UnreadableError{}, outcomeOpen, outcomeOpen},
		{client.ErrNotAPI, outcomeOpen, notSent},
		{&client.NotAPIError{Status: 502}, outcomeOpen, notSent}, // of an issue it says that the client knows
		{client.ErrNoToken, notSent, notSent},
		{client.ErrCredentials, notSent, notSent},
		{client.ErrUnreachable, notSent, notSent},
		{&client.InvalidError{}, notSent, notSent},
		{signedurl.ErrNoKey, notSent, notSent},
	} {
		assert.Equal(t, c.want, outcomeOf(c.err), "%v", c.err)
		assert.Equal(t, c.issue, issueOutcome(c.err), "%v", c.err)
	}
}

// The whole way, with the real clock, client and API.
func TestLedgerWithTheEmulator(t *testing.T) {
	t.Parallel()
	e, c, calls := sandbox(t)
	store := &mapStore{book: &book{}, rows: map[Key]*Row{}}
	l := New(Options{Open: func() (Store, error) { return store, nil }})
	acc := &Account{API: calls, Timeout: 2 * time.Second, Keys: keys(t, "key")}
	l.Use(&Settings{Accounts: map[string]*Account{"": acc}})
	require.NoError(t, l.Open())
	l.Work()
	ctx := context.Background()
	first, err := l.Issue(ctx, acc, completed(t, c, `{"merchant_uid":"o","amount":15000,"name":"a"}`))
	require.NoError(t, err)
	second, err := l.Issue(ctx, acc, completed(t, c, `{"merchant_uid":"o","amount":15000,"name":"b"}`))
	require.NoError(t, err)
	assert.True(t, second.Reused)
	p, err := first.Response.Payment()
	require.NoError(t, err)
	q, err := second.Response.Payment()
	require.NoError(t, err)
	assert.Equal(t, p.ImpUID, q.ImpUID)
	third, err := l.Issue(ctx, acc, completed(t, c, `{"merchant_uid":"o","amount":16000}`))
	require.NoError(t, err)
	assert.False(t, third.Reused)
	live := 0
	for _, p := range e.Payments() {
		if p.Status == "ready" {
			live++
		}
	}
	assert.Equal(t, 1, live)
	require.NoError(t, l.Close())
}

// The words of the API may repeat a value of the request.
func TestSilentErrorsRepeatNoWordsOfTheAPI(t *testing.T) {
	t.Parallel()
	refusal := &client.APIError{Status: 400, Code: -1, Message: "canary"}
	err := silent(fmt.Errorf("looking up: %w", refusal))
	assert.Equal(t, "the API does not tell the state of the order's barcode: code -1, HTTP 400", err.Error())
	require.ErrorIs(t, err, ErrSilent)
	require.ErrorIs(t, err, refusal)
	assert.Equal(t, "the API does not tell the state of the order's barcode: the API refuses the account's credentials", silent(client.ErrCredentials).Error())
	require.ErrorIs(t, silent(client.ErrCredentials), client.ErrCredentials)
}
