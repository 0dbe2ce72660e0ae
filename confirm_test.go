package caddycvs

// This file holds tests of cvs_confirm: which webhooks it takes, what it asks, how it decides.

import (
	"bytes"
	"context"
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
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestConfirmAcceptsOnlyWebhooks(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "allow 127.0.0.1 portone" + gatewaytest.UsualConfirm})
	i := g.MustIssue(t, "order-1")
	good := i.Webhook()
	form := url.Values{"event": {"Galaxia.Cvs.Confirm"}, "imp_uid": {i.ImpUID}, "merchant_uid": {"order-1"}, "status": {"ready"}, "extra[payType]": {"cash"}}.Encode()
	for name, c := range map[string]struct {
		method, contentType, body string
		status                    int
	}{
		"JSON":                 {"POST", gatewaytest.JSONType, good, 200},
		"JSON with charset":    {"POST", gatewaytest.JSONType + "; charset=utf-8", good, 200},
		"form":                 {"POST", gatewaytest.FormType, form, 200},
		"GET":                  {"GET", "", "", 405},
		"PUT":                  {"PUT", gatewaytest.JSONType, good, 405},
		"text":                 {"POST", "text/plain", good, 415},
		"no type":              {"POST", "", good, 415},
		"65 KiB":               {"POST", gatewaytest.JSONType, strings.Replace(good, "{", "{"+strings.Repeat(" ", 65<<10), 1), 413},
		"64 KiB":               {"POST", gatewaytest.JSONType, strings.Replace(good, "{", "{"+strings.Repeat(" ", 64<<10-len(good)), 1), 200},
		"empty":                {"POST", gatewaytest.JSONType, "", 400},
		"another event":        {"POST", gatewaytest.JSONType, strings.Replace(good, "Cvs.Confirm", "Cvs.Paid", 1), 400},
		"another status":       {"POST", gatewaytest.JSONType, strings.Replace(good, "ready", "paid", 1), 400},
		"another payType":      {"POST", gatewaytest.JSONType, strings.Replace(good, `"card"`, `"coin"`, 1), 200},
		"payType in capitals":  {"POST", gatewaytest.JSONType, strings.Replace(good, `"card"`, `"CARD"`, 1), 200},
		"the amount":           {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"amount":"15000.0",`, 1), 200},
		"the amount in a form": {"POST", gatewaytest.FormType, form + "&amount=15000", 200},
		"another amount":       {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"amount":1500,`, 1), 403},
		"another in a form":    {"POST", gatewaytest.FormType, form + "&amount=15001", 403},
		"an amount in words":   {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"amount":"15,000",`, 1), 400},
		"no imp_uid":           {"POST", gatewaytest.JSONType, strings.Replace(good, "imp_uid", "x", 1), 400},
		"no merchant_uid":      {"POST", gatewaytest.JSONType, strings.Replace(good, "merchant_uid", "x", 1), 400},
		"duplicate":            {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"merchant_uid":"order-2",`, 1), 400},
		"duplicate by case":    {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"Merchant_uid":"order-2",`, 1), 400},
		"duplicate in a form":  {"POST", gatewaytest.FormType, form + "&merchant_uid=order-2", 400},
		"trailing bytes":       {"POST", gatewaytest.JSONType, good + "{}", 400},
		"invalid UTF-8":        {"POST", gatewaytest.JSONType, strings.Replace(good, "order-1", "order-\xff", 1), 400},
		"control character":    {"POST", gatewaytest.JSONType, strings.Replace(good, "order-1", `order-1\r\nX-Cvs-Amount: 1`, 1), 400},
		"deep":                 {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+",", 1), 400},
		"number out of range":  {"POST", gatewaytest.JSONType, strings.Replace(good, "{", `{"a":1e999,`, 1), 400},
		"an order in the body": {"POST", gatewaytest.JSONType, strings.Replace(good, "order-1", "order-2", 1), 403},
	} {
		a := g.Do(t, c.method, i.ConfirmURL, c.contentType, c.body)
		assert.Equal(t, c.status, a.Status, "%s: %s", name, a.Body)
		assert.Equal(t, c.status == 200, a.Field(t, "accepted"), name)
		if c.status == 405 {
			assert.Equal(t, "POST", a.Header.Get("Allow"))
		}
	}
	assert.Equal(t, 8, g.Shop.Count(), "only about the genuine ones")
	assert.Equal(t, 418, g.Do(t, http.MethodPost, g.Outside+"/cvs/other", gatewaytest.JSONType, good).Status)

	closed := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "allow portone" + gatewaytest.UsualConfirm})
	assert.Equal(t, 403, closed.Confirm(t, closed.MustIssue(t, "order-1")).Status)
}

func TestConfirmRejectsForeignSignatures(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}", Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice"})
	i := g.MustIssue(t, "order-1")
	require.Equal(t, 200, g.Confirm(t, i).Status)
	_, notice := g.API.WebhookURLs(i.ImpUID)
	noticeQuery := notice[0][strings.Index(notice[0], "?"):]
	other := gatewaytest.Start(t, gatewaytest.Setup{Account: "signing_key {env.CVS_TEST_PREVIOUS_KEY}"})
	previous := other.MustIssue(t, "order-1")
	foreign := gatewaytest.Start(t, gatewaytest.Setup{}).MustIssue(t, "order-1")
	query := func(raw string) string { return raw[strings.Index(raw, "?"):] }

	for name, c := range map[string]struct {
		url    string
		status int
	}{
		"amount":               {gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_amount", "1"), 403},
		"amount, same value":   {gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_amount", "15000.0"), 403},
		"expiry":               {gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_expires", "4000000000"), 403},
		"no expiry":            {gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_expires", ""), 403},
		"account":              {i.ConfirmURL + "&cvs_account=second", 403},
		"signature cut":        {i.ConfirmURL[:len(i.ConfirmURL)-1], 403},
		"no signature":         {gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_sig", ""), 403},
		"of the notice":        {g.Outside + "/cvs/confirm" + noticeQuery, 403},
		"of a previous key":    {g.Outside + "/cvs/confirm" + query(previous.ConfirmURL), 200},
		"of a foreign key":     {g.Outside + "/cvs/confirm" + query(foreign.ConfirmURL), 403},
		"percent-encoded":      {strings.Replace(i.ConfirmURL, "cvs_sig", "cvs%5Fsig", 1), 403},
		"all percent-encoded":  {strings.ReplaceAll(i.ConfirmURL, "cvs_", "%63vs_"), 403},
		"repeated":             {i.ConfirmURL + "&" + query(i.ConfirmURL)[1:], 403},
		"with other parameter": {i.ConfirmURL + "&utm=1", 200},
		"behind a semicolon":   {strings.Replace(i.ConfirmURL, "&cvs_sig", ";cvs_sig", 1), 403},
		"encoded twice":        {strings.ReplaceAll(i.ConfirmURL, "cvs_", "%2563vs_"), 200}, // unsigned, and looked up
		"in upper case":        {strings.ReplaceAll(i.ConfirmURL, "cvs_", "CVS_"), 200},
	} {
		forged := i
		forged.ConfirmURL = c.url
		a := g.Confirm(t, forged)
		assert.Equal(t, c.status, a.Status, "%s: %s", name, a.Body)
	}
	g.WaitForLine(t, `"cause":"forbidden"`)
	assert.NotContains(t, g.Log(t), i.ConfirmURL[len(i.ConfirmURL)-22:], "not even Caddy's access log has a signature")
	assert.NotContains(t, g.Log(t), "vs_sig")
}

func TestConfirmRejectsOtherAccounts(t *testing.T) {
	t.Parallel()
	second := "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API"
	for account, status := range map[string]int{"": 200, "account second\n": 403} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Second: second, Confirm: account + gatewaytest.UsualConfirm})
		assert.Equal(t, status, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{Second: second, Proxy: "account second\n" + gatewaytest.UsualProxy, Confirm: "account second\n" + gatewaytest.UsualConfirm})
	assert.Equal(t, 200, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
}

func TestConfirmRejectsAfterTheDeadline(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	keys, err := signedurl.NewKeys(gatewaytest.Canaries["CVS_TEST_SECRET"])
	require.NoError(t, err)
	base, err := signedurl.ParseBase(g.Outside + "/cvs/confirm")
	require.NoError(t, err)
	for passed, status := range map[time.Duration]int{time.Minute: http.StatusGone, -time.Minute: http.StatusOK} {
		claims := signedurl.Claims{Amount: "15000", Expires: time.Now().Add(-passed).Unix()}
		i.ConfirmURL, err = base.Sign(keys, signedurl.Confirm, "order-1", claims)
		require.NoError(t, err)
		assert.Equal(t, status, g.Confirm(t, i).Status)
	}
	assert.Equal(t, 1, g.Shop.Count(), "not about what has expired")
}

func TestUnsignedWebhooksFollowTheOption(t *testing.T) {
	t.Parallel()
	const withoutURL = "pg galaxia" // the app's own confirm_url, or PortOne's
	for mode, want := range map[string]map[string]int{
		"lookup": {"genuine": 200, "another order": 403, "unknown": 403, "paid": 409, "void": 409},
		"reject": {"genuine": 403},
		"allow":  {"genuine": 409, "unknown": 409}, // no amount is known, so the condition on it fails
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: withoutURL, Confirm: "unsigned " + mode + gatewaytest.UsualConfirm})
			unsigned := func(uid string) gatewaytest.Issued {
				i := g.MustIssue(t, uid)
				i.ConfirmURL = g.Outside + "/cvs/confirm"
				return i
			}
			cases := map[string]gatewaytest.Issued{"genuine": unsigned("order-1"), "paid": unsigned("order-2"), "void": unsigned("order-3"), "another order": unsigned("order-4"), "unknown": unsigned("order-5")}
			_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: cases["paid"].Barcode, PayType: "cash"})
			require.NoError(t, err)
			g.Do(t, http.MethodDelete, g.Inside+"/cvs/"+cases["void"].ImpUID, "", "")
			i := cases["another order"]
			i.MerchantUID = "order-1"
			cases["another order"] = i
			i = cases["unknown"]
			i.ImpUID = "imp_0"
			cases["unknown"] = i
			if mode == "lookup" {
				before := g.API.Requests(emulator.EndpointPayment)
				for _, impUID := range []string{"..", "../users/getToken", "a/../b"} {
					assert.Equal(t, 403, g.Confirm(t, gatewaytest.Issued{ImpUID: impUID, MerchantUID: "a", Barcode: "1", ConfirmURL: g.Outside + "/cvs/confirm"}).Status)
				}
				assert.Equal(t, before, g.API.Requests(emulator.EndpointPayment), "no webhook chooses what the API is asked")
			}
			for name, status := range want {
				a := g.Confirm(t, cases[name])
				assert.Equal(t, status, a.Status, "%s: %s", name, a.Body)
			}
		})
	}
	for amount, status := range map[string]int{"15000": 200, `"15000.0"`: 200, "1500": 403, "15000.5": 403} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: withoutURL, Confirm: "unsigned lookup" + gatewaytest.UsualConfirm})
		i := g.MustIssue(t, "order-1")
		body := strings.Replace(i.Webhook(), "{", `{"amount":`+amount+",", 1)
		assert.Equal(t, status, g.Do(t, http.MethodPost, g.Outside+"/cvs/confirm", gatewaytest.JSONType, body).Status, "%s, by the amount that PortOne tells", amount)
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: withoutURL, Confirm: "unsigned allow\norder_check SHOP/check"})
	i := g.MustIssue(t, "order-1")
	i.ConfirmURL, i.ImpUID = g.Outside+"/cvs/confirm", "imp_0"
	assert.Equal(t, 200, g.Confirm(t, i).Status, "believed, as configured")
}

// A slow look-up must leave time for the checks: otherwise "on_error accept" would accept the
// order without their answer.
func TestSlowLookUpIsNotAccepted(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 4s\non_error accept\norder_check SHOP/check", Payable: gatewaytest.AnswerWith(409, "")})
	i := g.MustIssue(t, "order-1")
	i.ConfirmURL = g.Outside + "/cvs/confirm"
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "payment", Delay: time.Minute}))
	began := time.Now()
	assert.Equal(t, 504, g.Confirm(t, i).Status)
	assert.Less(t, time.Since(began), 3*time.Second, "long before the decision is due")
}

func TestProxyAndConfirmShareOneSite(t *testing.T) {
	t.Parallel()
	one := gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Sites: "http://" + one + " {\ncvs_proxy\ncvs_confirm /cvs/confirm {\n" + gatewaytest.UsualConfirm + "\n}\n}\n"})
	i := g.MustIssue(t, "order-1")
	i.ConfirmURL = strings.Replace(i.ConfirmURL, g.Outside, "http://"+one, 1)
	assert.Equal(t, 200, g.Confirm(t, i).Status, "/cvs/confirm is no payment's number")
	assert.Equal(t, 200, g.Do(t, http.MethodDelete, "http://"+one+"/cvs/"+i.ImpUID, "", "").Status)
}

func TestFailedLookUpIsNotAccepted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  emulator.Fault
		status int
	}{
		"server error": {emulator.Fault{Endpoint: "payment", Status: 500}, 502},
		"refusal":      {emulator.Fault{Endpoint: "payment", Code: 1, Message: "x"}, 502},
		"broken":       {emulator.Fault{Endpoint: "payment", Drop: emulator.DropBefore}, 502},
		"time-out":     {emulator.Fault{Endpoint: "payment", Delay: time.Minute}, 504},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 500ms\non_error accept\norder_check SHOP/check"})
			i := g.MustIssue(t, "order-1")
			i.ConfirmURL = g.Outside + "/cvs/confirm"
			require.NoError(t, g.API.Inject(c.fault))
			assert.Equal(t, c.status, g.Confirm(t, i).Status, "on_error has no say in who is genuine")
			assert.Zero(t, g.Shop.Count())
		})
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{APIURL: "http://" + gatewaytest.Address(t), Confirm: "on_error accept\norder_check SHOP/check"})
	assert.Equal(t, 503, g.Confirm(t, gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: "a", Barcode: "1", ConfirmURL: g.Outside + "/cvs/confirm"}).Status)
}

func TestOrderCheckGetsTheDocumentedRequest(t *testing.T) {
	t.Parallel()
	check := `
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable?id={http.cvs.imp_uid}&o={http.cvs.merchant_uid} {
			header X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}
			header X-Order "{http.cvs.merchant_uid} {http.cvs.pay_type} {http.cvs.barcode}"
			header Host shop.internal
		}`
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: check})
	uid := "주문/1 &?#%"
	i := g.MustIssue(t, uid)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.ConfirmURL, strings.NewReader(i.Webhook()+"\n "))
	require.NoError(t, err)
	r.Header = http.Header{
		"Content-Type": {"application/json;charset=UTF-8"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "Tracestate": {"sender=1"}, "Baggage": {"a=b"},
		"X-Cvs-Amount": {"1"}, "X-Cvs-Imp-Uid": {"imp_forged"}, "X-Cvs-Verdict": {"yes"}, "X-Internal-Key": {"guess"},
		"Cookie": {"admin=1"}, "Authorization": {"Basic eA=="}, "X-Forwarded-For": {"10.0.0.1"},
	}
	require.Equal(t, 200, g.Send(t, r).Status)

	seen := g.Shop.Requests[0]
	assert.Equal(t, "/orders/"+url.PathEscape(uid)+"/payable?id="+i.ImpUID+"&o="+url.QueryEscape(uid), seen.RequestURI)
	assert.Equal(t, "shop.internal", seen.Host)
	assert.Equal(t, i.Webhook()+"\n ", g.Shop.Bodies[0], "the body as it came")
	left, err := strconv.Atoi(seen.Header.Get("X-Cvs-Timeout-Ms"))
	require.NoError(t, err)
	assert.InDelta(t, 3000, left, 500)
	expires := seen.Header.Get("X-Cvs-Expires")
	assert.Contains(t, i.ConfirmURL, "cvs_expires="+expires)
	assert.Equal(t, http.Header{
		"Accept-Encoding": {"gzip"}, "User-Agent": {"caddy-cvs"}, "Content-Length": {strconv.Itoa(len(g.Shop.Bodies[0]))},
		"Content-Type":  {"application/json;charset=UTF-8"},
		"X-Cvs-Imp-Uid": {i.ImpUID}, "X-Cvs-Merchant-Uid": {uid}, "X-Cvs-Amount": {"15000"}, "X-Cvs-Expires": {expires}, "X-Cvs-Timeout-Ms": {strconv.Itoa(left)},
		"X-Internal-Key": {gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"]}, "X-Order": {uid + " card " + i.Barcode},
	}, seen.Header)

	g = gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check SHOP/x {\nmethod GET\n}", Proxy: "confirm_url OUTSIDE/cvs/confirm"})
	require.Equal(t, 200, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
	seen = g.Shop.Requests[0]
	assert.Equal(t, "GET", seen.Method)
	assert.Empty(t, g.Shop.Bodies[0])
	assert.Empty(t, seen.Header.Get("Content-Type"))
	assert.NotContains(t, seen.Header, "X-Cvs-Expires", "this barcode has no deadline that is known")
}

func TestOrderNumberStaysInItsPathSegment(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "unsigned allow\norder_check SHOP/orders/{http.cvs.merchant_uid}/payable"})
	for uid, status := range map[string]int{"..": 409, ".": 409, "../../admin": 409, "a/../../admin": 409, `..\admin`: 409, "%2e%2e%2fadmin": 200, "a/b": 200, "...": 200, "?x=1": 200, "a;b": 200} {
		a := g.Confirm(t, gatewaytest.Issued{ImpUID: "imp_1", MerchantUID: uid, Barcode: "1", ConfirmURL: g.Outside + "/cvs/confirm"})
		assert.Equal(t, status, a.Status, "%s: %s", uid, a.Body)
		assert.Equal(t, map[int]int{200: 200, 409: 400}[status], g.Issue(t, uid).Status, "nor is a barcode issued for it")
	}
	for _, seen := range g.Shop.Requests {
		segments := strings.Split(seen.URL.EscapedPath(), "/")
		require.Len(t, segments, 4, seen.RequestURI)
		assert.Equal(t, []string{"", "orders", "payable", ""}, []string{segments[0], segments[1], segments[3], seen.URL.RawQuery})
	}
}

func TestAnswerOfACheckDecides(t *testing.T) {
	t.Parallel()
	check := func(options string) string { return "order_check SHOP/check {\n" + options + "\n}" }
	for name, c := range map[string]struct {
		options string
		payable http.HandlerFunc
		status  int
		reason  string
	}{
		"200":                      {"", gatewaytest.AnswerWith(200, ""), 200, ""},
		"201":                      {"", gatewaytest.AnswerWith(201, ""), 409, ""},
		"204":                      {"", gatewaytest.AnswerWith(204, ""), 409, ""},
		"204 accepted":             {"accept 200 204", gatewaytest.AnswerWith(204, ""), 200, ""},
		"any 2xx accepted":         {"accept 2xx", gatewaytest.AnswerWith(299, ""), 200, ""},
		"404":                      {"", gatewaytest.AnswerWith(404, "not found"), 409, ""},
		"a reason":                 {"", gatewaytest.AnswerWith(409, `{"reason":"품절되었습니다"}`), 409, "품절되었습니다"},
		"a reason elsewhere":       {"reason errors.0.text", gatewaytest.AnswerWith(422, `{"errors":[{"text":"기한 만료"}]}`), 409, "기한 만료"},
		"a reason that is no text": {"", gatewaytest.AnswerWith(409, `{"reason":{"a":1}}`), 409, ""},
		"a bad reason is tidied":   {"", gatewaytest.AnswerWith(409, "{\"reason\":\"a\\nb\\u0000\xff"+strings.Repeat("가", 300)+"\"}"), 409, "a b �" + strings.Repeat("가", 195)},
		"500":                      {"", gatewaytest.AnswerWith(500, ""), 502, "could not be checked"},
		"503":                      {"", gatewaytest.AnswerWith(503, ""), 502, "could not be checked"},
		"redirect":                 {"", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) }, 502, "could not be checked"},
		"broken connection":        {"", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "could not be checked"},
		"too large":                {"", gatewaytest.AnswerWith(200, strings.Repeat("x", 70_000)), 502, "could not be checked"},
		"too large, but a no":      {"", gatewaytest.AnswerWith(404, strings.Repeat("x", 70_000)), 409, ""},
		"a no that breaks off": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(409)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 409, ""},
		"a yes that breaks off": {"", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 502, "could not be checked"},
		"required, true":              {"require stock.available true", gatewaytest.AnswerWith(200, `{"stock":{"available":true}}`), 200, ""},
		"required, false":             {"require stock.available true", gatewaytest.AnswerWith(200, `{"stock":{"available":false},"reason":"품절"}`), 409, "품절"},
		"required, text":              {`require state "open now"`, gatewaytest.AnswerWith(200, `{"state":"open now"}`), 200, ""},
		"required, number":            {"require n 1", gatewaytest.AnswerWith(200, `{"n":1.0}`), 200, ""},
		"required, null":              {"require n null", gatewaytest.AnswerWith(200, `{"n":null}`), 200, ""},
		"required, missing":           {"require n null", gatewaytest.AnswerWith(200, `{}`), 409, ""},
		"required, object":            {`require n "{}"`, gatewaytest.AnswerWith(200, `{"n":{}}`), 409, ""},
		"two required, one unmet":     {"require a 1\nrequire b 1", gatewaytest.AnswerWith(200, `{"a":1,"b":2}`), 409, ""},
		"required, no JSON":           {"require a 1", gatewaytest.AnswerWith(200, `<html>`), 502, "could not be checked"},
		"required, no body":           {"require a 1\naccept 204", gatewaytest.AnswerWith(204, ``), 502, "could not be checked"},
		"amount":                      {"amount total", gatewaytest.AnswerWith(200, `{"total":15000}`), 200, ""},
		"amount with fraction":        {"amount total", gatewaytest.AnswerWith(200, `{"total":15000.0}`), 200, ""},
		"amount as text":              {"amount total", gatewaytest.AnswerWith(200, `{"total":"15000"}`), 200, ""},
		"amount with exponent":        {"amount total", gatewaytest.AnswerWith(200, `{"total":1.5e4}`), 200, ""},
		"another amount":              {"amount total", gatewaytest.AnswerWith(200, `{"total":15000.01}`), 409, ""},
		"amount missing":              {"amount total", gatewaytest.AnswerWith(200, `{}`), 409, ""},
		"amount null":                 {"amount total", gatewaytest.AnswerWith(200, `{"total":null}`), 409, ""},
		"amount as words":             {"amount total", gatewaytest.AnswerWith(200, `{"total":"15,000"}`), 409, ""},
		"amount, no JSON":             {"amount total", gatewaytest.AnswerWith(200, ``), 502, "could not be checked"},
		"amount right, status 404":    {"amount total", gatewaytest.AnswerWith(404, `{"total":15000}`), 409, ""},
		"amount wrong, require right": {"amount total\nrequire ok true", gatewaytest.AnswerWith(200, `{"total":1,"ok":true}`), 409, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: check(c.options), Payable: c.payable})
			a := g.Confirm(t, g.MustIssue(t, "order-1"))
			assert.Equal(t, c.status, a.Status, a.Body)
			assert.Equal(t, c.status == 200, a.Field(t, "accepted"))
			if reason, _ := a.Field(t, "reason").(string); c.reason == "" {
				assert.Empty(t, reason)
			} else {
				assert.Contains(t, reason, c.reason)
				assert.LessOrEqual(t, len([]rune(reason)), 200)
			}
			assert.Equal(t, 1, g.Shop.Count(), "a request that may have arrived is not repeated")
		})
	}
}

func TestOnErrorAcceptStillRejectsARefusal(t *testing.T) {
	t.Parallel()
	byPath := func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(code)
	}
	for paths, status := range map[string]int{"200": 200, "500": 200, "500 200": 200, "500 404": 409, "302 500": 200} {
		confirm := "on_error accept\n"
		for p := range strings.FieldsSeq(paths) {
			confirm += "order_check SHOP/" + p + "\n"
		}
		g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: confirm, Payable: byPath})
		assert.Equal(t, status, g.Confirm(t, g.MustIssue(t, "order-1")).Status, paths)
	}
}

func TestConfirmFirstRefusalWins(t *testing.T) {
	t.Parallel()
	hanging, canceled := make(chan struct{}), make(chan struct{})
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Confirm: "timeout 8s\norder_check SHOP/yes\norder_check SHOP/hangs {\ntimeout 8s\n}\norder_check SHOP/no\n",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/hangs":
				close(hanging)
				<-r.Context().Done()
				close(canceled)
			case "/no":
				<-hanging
				w.WriteHeader(409)
				fmt.Fprint(w, `{"reason":"no"}`)
			}
		},
	})
	began := time.Now()
	a := g.Confirm(t, g.MustIssue(t, "order-1"))
	assert.Equal(t, 409, a.Status)
	assert.Equal(t, "no", a.Field(t, "reason"))
	assert.Less(t, time.Since(began), 7*time.Second)
	<-canceled // the check that is not needed any more is canceled
}

func TestHungChecksAreAnsweredInTime(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		confirm string
		payable http.HandlerFunc
		status  int
	}{
		"reject":       {"order_check SHOP/x", hang, 504},
		"accept":       {"on_error accept\norder_check SHOP/x", hang, 200},
		"check's own":  {"timeout 8s\norder_check SHOP/x {\ntimeout 200ms\n}", hang, 504},
		"body hangs":   {"order_check SHOP/x", func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); hang(w, r) }, 504},
		"a deaf route": {"order_check {\nroute {\ntest_hang\n}\n}", nil, 504},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			confirm := c.confirm
			if !strings.Contains(confirm, "timeout") {
				confirm = "timeout 400ms\n" + confirm
			}
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: confirm, Payable: c.payable})
			i := g.MustIssue(t, "order-1")
			began := time.Now()
			a := g.Confirm(t, i)
			assert.Equal(t, c.status, a.Status, a.Body)
			assert.Less(t, time.Since(began), 4*time.Second)
		})
	}
}

func TestSlowSenderIsAnsweredInTime(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 300ms" + gatewaytest.UsualConfirm})
	for name, c := range map[string]struct{ head, want string }{
		"slow":      {"POST /cvs/confirm HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 500", "408"},
		"chunked":   {"POST /cvs/confirm HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked", "408"},
		"method":    {"PUT /cvs/confirm HTTP/1.1\r\nContent-Length: 500", "405"},
		"encoded":   {"POST /cvs/confirm HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 500", "415"},
		"too large": {"POST /cvs/confirm HTTP/1.1\r\nContent-Length: 100000", "413"},
		"getToken":  {"POST /users/getToken HTTP/1.1\r\nContent-Length: 100000", "413"},
		"forwarded": {"POST /cvs HTTP/1.1\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 500", "403"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := g.Outside
			if !strings.Contains(c.head, "confirm") {
				target = g.Inside
			}
			conn, err := net.Dial("tcp", strings.TrimPrefix(target, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			_, err = fmt.Fprintf(conn, "%s\r\nHost: 127.0.0.1\r\n\r\n{", c.head)
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(8*time.Second)))
			status := make([]byte, 12)
			_, err = io.ReadFull(conn, status)
			require.NoError(t, err, "no answer")
			assert.Equal(t, "HTTP/1.1 "+c.want, string(status))
		})
	}
}

func TestDialFailureIsRetriedWhileTimeIsLeft(t *testing.T) {
	t.Parallel()
	addr := gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 8s\norder_check http://" + addr + "/x {\ntimeout 8s\n}"})
	i := g.MustIssue(t, "order-1")
	result := make(chan gatewaytest.Answer)
	go func() { result <- g.Confirm(t, i) }()
	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: gatewaytest.AnswerWith(200, "")}}
	server.Start()
	t.Cleanup(server.Close)
	assert.Equal(t, 200, (<-result).Status)

	g = gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check http://" + gatewaytest.Address(t) + "/x {\ntimeout 200ms\n}"})
	assert.Equal(t, 503, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
}

func TestShadowCheckNeverDecides(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Confirm: "order_check SHOP/yes\norder_check SHOP/no {\nname fraud\nshadow\n}\n",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/no" {
				w.WriteHeader(409)
			}
		},
	})
	i := g.MustIssue(t, "order-1")
	assert.Equal(t, 200, g.Confirm(t, i).Status)
	assert.Eventually(t, func() bool {
		log := g.Log(t)
		return strings.Contains(log, "shadow order check") && strings.Contains(log, `"name":"fraud","verdict":"no","cause":"status","status":409`)
	}, 5*time.Second, 5*time.Millisecond)
}

func TestAnswerOfARouteDecides(t *testing.T) {
	t.Parallel()
	route := func(directives, options string) string {
		return "order_check {\n" + options + "\nroute {\n" + directives + "\n}\n}"
	}
	for name, c := range map[string]struct {
		confirm string
		status  int
		reason  string
	}{
		"responds":             {route(`respond "{\"payable\":true,\"total\":15000}"`, "require payable true\namount total"), 200, ""},
		"placeholders":         {route(`respond "{\"order\":\"{http.cvs.merchant_uid}\",\"total\":{http.cvs.amount}}"`, "require order order-1\namount total"), 200, ""},
		"refuses":              {route(`respond "{\"reason\":\"닫힘\"}" 409`, ""), 409, "닫힘"},
		"handler error 404":    {route(`error 404`, ""), 409, ""},
		"handler error 503":    {route(`error 503`, ""), 502, "could not be checked"},
		"handler error 200":    {route(`error "sold out" 200`, ""), 502, "could not be checked"},
		"plain error":          {route(`test_error`, ""), 502, "could not be checked"},
		"too large, but a no":  {route(`respond "`+strings.Repeat("x", 70_000)+`" 409`, ""), 409, ""},
		"panics":               {route(`test_panic`, ""), 502, "could not be checked"},
		"writes nothing":       {route(`vars a b`, ""), 502, "could not be checked"},
		"writes only headers":  {route(`header A b`, ""), 502, "could not be checked"},
		"too large":            {route(`respond "`+strings.Repeat("x", 70_000)+`"`, ""), 502, "could not be checked"},
		"proxied to the shop":  {route(`reverse_proxy SHOP`, usualConditions), 200, ""},
		"proxied to nobody":    {route(`reverse_proxy 127.0.0.1:1`, ""), 502, "could not be checked"},
		"matcher does not fit": {route("@get method GET\nrespond @get 200", ""), 502, "could not be checked"},
		"rewritten":            {route("rewrite /confirm.php\nreverse_proxy SHOP", usualConditions), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: c.confirm})
			i := g.MustIssue(t, "order-1")
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.ConfirmURL, strings.NewReader(i.Webhook()))
			require.NoError(t, err)
			r.Header = http.Header{"Content-Type": {gatewaytest.JSONType}, "X-Cvs-Amount": {"1"}, "X-Internal-Key": {"guess"}, "Cookie": {"a=b"}}
			a := g.Send(t, r)
			assert.Equal(t, c.status, a.Status, a.Body)
			if c.reason != "" {
				assert.Contains(t, a.Field(t, "reason"), c.reason)
			}
			if g.Shop.Count() > 0 {
				seen := g.Shop.Requests[0]
				assert.Equal(t, i.Webhook(), g.Shop.Bodies[0])
				assert.Equal(t, "15000", seen.Header.Get("X-Cvs-Amount"))
				assert.Empty(t, seen.Header.Get("X-Internal-Key"))
				assert.Empty(t, seen.Header.Get("Cookie"))
				assert.Empty(t, seen.URL.RawQuery, "the signature does not go further")
				assert.Equal(t, map[bool]string{true: "/confirm.php", false: "/cvs/confirm"}[name == "rewritten"], seen.URL.Path)
			}
		})
	}
}

func TestTruncatedAnswerOfARouteIsNoAcceptance(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]int{200: 502, 409: 409, 500: 502} {
		g := gatewaytest.Start(t, gatewaytest.Setup{
			Confirm: "order_check {\nroute {\nreverse_proxy SHOP\n}\n}",
			Payable: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "9")
				w.WriteHeader(status)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			},
		})
		assert.Equal(t, want, g.Confirm(t, g.MustIssue(t, "order-1")).Status, status)
	}
}

const usualConditions = "require payable true\namount total"

func TestChecksOfARouteDoNotShareARequest(t *testing.T) {
	t.Parallel()
	confirm := ""
	for n := range 8 {
		confirm += fmt.Sprintf("order_check {\nroute {\nvars check %d\nuri path_regexp .* /check/{vars.check}\nreverse_proxy SHOP\n}\n}\n", n)
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: confirm})
	require.Equal(t, 200, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
	paths := make(map[string]bool)
	for _, seen := range g.Shop.Requests {
		paths[seen.URL.Path] = true
	}
	assert.Len(t, paths, 8)
}

func TestRepeatedWebhookIsAskedAndAnsweredAgain(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { assert.Equal(t, 200, g.Confirm(t, i).Status) })
	}
	wg.Wait()
	assert.Equal(t, 10, g.Shop.Count())
}

func TestBarcodeIsPaidAtTheTill(t *testing.T) {
	t.Parallel()
	var noticed bytes.Buffer
	var mu sync.Mutex
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Payable: func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.URL.Path == "/notice":
			fmt.Fprintln(&noticed, r.URL.Path)
		case strings.Contains(r.URL.Path, "sold-out"):
			w.WriteHeader(409)
			fmt.Fprint(w, `{"reason":"품절"}`)
		default:
			fmt.Fprint(w, `{"payable":true,"total":15000}`)
		}
	}})
	gatewaytest.Run(t, strings.Replace(config, "expires_in 72h", "expires_in 72h\nnotice_url "+g.Shop.URL+"/notice", 1))
	for _, payType := range []string{"card", "cash"} {
		i := g.MustIssue(t, "order-"+payType)
		result, err := g.API.Scan(context.Background(), emulator.ScanRequest{Barcode: i.Barcode, PayType: payType})
		require.NoError(t, err)
		assert.True(t, result.Accepted)
		assert.Equal(t, "paid", g.Do(t, http.MethodGet, g.Inside+"/payments/"+i.ImpUID+"?include_sandbox=true", "", "").Payment(t)["status"])
		assert.EqualValues(t, 1, g.Issue(t, "order-"+payType).Field(t, "code"), "a paid order gets no second barcode")
	}
	i := g.MustIssue(t, "sold-out")
	result, err := g.API.Scan(context.Background(), emulator.ScanRequest{Barcode: i.Barcode, PayType: "card"})
	require.NoError(t, err)
	assert.False(t, result.Accepted)
	assert.Equal(t, "품절", result.Reason)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, 2, strings.Count(noticed.String(), "/notice"))
}

// Each route of a webhook has a request of its own. Routes must not share what Caddy stores
// for the request that it serves, and a route may still run after the answer.
func TestRoutesDoNotShareTheServedRequest(t *testing.T) {
	t.Parallel()
	confirm := ""
	for n := range 4 {
		confirm += fmt.Sprintf("order_check {\nname c%d\nrequire payable true\nroute {\ntimeouts {\nwrite_timeout 5s\n}\nreverse_proxy SHOP\n}\n}\n", n)
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Globals: "servers {\ntimeouts {\nwrite_idle 30s\n}\n}",
		Confirm: confirm + "order_check SHOP/slow {\nshadow\nname s\n}", Payable: gatewaytest.AnswerWith(200, `{"payable":true}`),
	})
	for n := range 20 {
		assert.Equal(t, 200, g.Confirm(t, g.MustIssue(t, fmt.Sprintf("order-%d", n))).Status)
	}
	seen := routeContext{context.Background(), context.WithValue(context.WithValue(t.Context(), caddy.CtxKey("idle_timeouts"), 1), http.LocalAddrContextKey, 2)}
	assert.Nil(t, seen.Value(caddy.CtxKey("idle_timeouts")))
	assert.Equal(t, 2, seen.Value(http.LocalAddrContextKey), "what is not Caddy's is there")
}

// The read deadline for the body must be removed afterwards. The server reads from the
// connection to notice when the client leaves, and a deadline would look like that.
func TestReadDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "a=1"} {
		ended := make(chan error, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			const limit = 50 * time.Millisecond
			read, err := readBody(w, r, 1000, time.Now().Add(limit))
			assert.NoError(t, err)
			assert.Equal(t, body, string(read))
			select {
			case <-r.Context().Done():
			case <-time.After(4 * limit):
			}
			ended <- r.Context().Err()
		}))
		t.Cleanup(server.Close)
		resp, err := http.Post(server.URL, gatewaytest.FormType, strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.NoError(t, <-ended, "%q", body)
	}
}

// Only an acceptance is answered 200, whatever fails during the decision.
func TestOnlyAnAcceptanceIs200(t *testing.T) {
	t.Parallel()
	for _, r := range []record{{}, {httpStatus: 200}, {httpStatus: 200, verdict: refused}, {httpStatus: 200, verdict: unanswered}, {httpStatus: 200, verdict: invalid}} {
		d := decision{record: r}
		w := httptest.NewRecorder()
		d.answer(w, httptest.NewRequest(http.MethodPost, "/", nil))
		assert.Equal(t, 500, w.Code, "%+v", r)
		assert.Contains(t, w.Body.String(), `"accepted":false`)
	}
}

// A shop may continue to work after it has sent its answer. Over HTTP/2 the gateway would
// cancel that work if it stopped reading at the last byte.
func TestCheckReadsTheAnswerToItsEnd(t *testing.T) {
	t.Parallel()
	var left atomic.Int32
	ended := make(chan struct{}, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const body = `{"payable":true}`
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		fmt.Fprint(w, body)
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
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	u := upstream{
		request:   &http.Request{Method: http.MethodPost, URL: target, Host: target.Host, Header: make(http.Header)},
		transport: server.Client().Transport,
	}
	for range 3 {
		answer := newUpstreamAnswer()
		u.run(t.Context(), answer)
		status, _, cause := answer.current()
		assert.Equal(t, http.StatusOK, status, cause)
		<-ended
	}
	assert.Zero(t, left.Load())
}

// The order's number must not choose the host that an order check goes to.
func TestCheckURLRefusesPlaceholdersBeforeThePath(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"http://{http.cvs.merchant_uid}/x", "http://shop{http.cvs.merchant_uid}/x", "http://shop:{http.cvs.merchant_uid}/x", "{http.cvs.merchant_uid}/x", "http://shop{http.cvs.merchant_uid}", "{http.cvs.merchant_uid}://shop/x", "http://{http.cvs.merchant_uid}@shop/x"} {
		_, err := parseURLTemplate(target, ofCheck)
		assert.Error(t, err, target)
	}
}
