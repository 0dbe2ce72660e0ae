package caddycvs

// This file holds tests of cvs_notice: which notices it keeps, which requests it passes on, and how
// it answers.

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// keeper stands for the ledger: it knows the payments whose numbers begin with imp_known, and what is
// signed.
type keeper struct {
	mu      sync.Mutex
	notices []ledger.Notice
	down    error
	read    bool // while it is down, it still knows
}

func (k *keeper) Notice(_ context.Context, n *ledger.Notice) (known bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known = n.Signed != nil || strings.HasPrefix(n.ImpUID, "imp_known")
	switch {
	case k.down != nil && !k.read:
		return false, k.down
	case k.down != nil && known:
		return true, k.down
	case known:
		k.notices = append(k.notices, *n)
	}
	return known, nil
}

func (k *keeper) set(down error, read bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down, k.read = down, read
}

func (k *keeper) take() []ledger.Notice {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.notices
	k.notices = nil
	return list
}

// handlersOf returns the handlers of a type in a configuration.
func handlersOf[T caddyhttp.MiddlewareHandler](t *testing.T, ctx caddy.Context) (list []T) {
	t.Helper()
	app, err := ctx.App("http")
	require.NoError(t, err)
	for _, server := range app.(*caddyhttp.App).Servers {
		newWalk(server).has(routesOf(server), func(h caddyhttp.MiddlewareHandler) bool {
			if handler, ok := h.(T); ok {
				list = append(list, handler)
			}
			return false
		})
	}
	return list
}

// runWith starts a Caddy whose handlers of a type are changed before it serves.
func runWith[T caddyhttp.MiddlewareHandler](t *testing.T, config string, change func(T)) {
	t.Helper()
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
		handlers := handlersOf[T](t, ctx)
		require.NotEmpty(t, handlers)
		for _, handler := range handlers {
			change(handler)
		}
		app, err := ctx.App("http")
		require.NoError(t, err)
		require.NoError(t, app.(*caddyhttp.App).Start())
		t.Cleanup(func() { _ = app.(*caddyhttp.App).Stop() })
	})
}

// startNotice starts a gateway with a cvs_notice whose ledger is a keeper.
func startNotice(t *testing.T, s gatewaytest.Setup) (*gatewaytest.Gateway, *keeper) {
	t.Helper()
	if s.Notice == "" {
		s.Notice = gatewaytest.UsualNotice
	}
	if s.Proxy == "" {
		s.Proxy = gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice"
	}
	g, config := gatewaytest.Prepare(t, s)
	return g, runWithKeeper(t, config)
}

func runWithKeeper(t *testing.T, config string) *keeper {
	t.Helper()
	k := new(keeper)
	runWith(t, config, func(n *Notice) { n.keeper = k })
	return k
}

// noticeURL returns the signed URL of a barcode's notice.
func noticeURL(t *testing.T, g *gatewaytest.Gateway, i gatewaytest.Issued) string {
	t.Helper()
	_, urls := g.API.WebhookURLs(i.ImpUID)
	require.NotEmpty(t, urls)
	return urls[0]
}

func notice(impUID, order string) string {
	return fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid"}`, impUID, order)
}

func TestNoticeKeepsItsOwn(t *testing.T) {
	t.Parallel()
	g, k := startNotice(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	signed := noticeURL(t, g, i)
	claims, err := signedurl.Parse(signed[strings.Index(signed, "?")+1:])
	require.NoError(t, err)
	plain := g.Outside + "/cvs/notice"
	of := func(n ledger.Notice) ledger.Notice {
		n.ImpUID, n.Order = i.ImpUID, "order-1"
		return n
	}
	form := url.Values{"imp_uid": {i.ImpUID}, "merchant_uid": {"order-1"}, "status": {"paid"}}.Encode()
	for name, c := range map[string]struct {
		url, contentType, body string
		want                   ledger.Notice
	}{
		"signed":             {signed, gatewaytest.JSONType, notice(i.ImpUID, "order-1"), of(ledger.Notice{Status: "paid", Signed: &claims})},
		"signed, form":       {signed, gatewaytest.FormType, form, of(ledger.Notice{Status: "paid", Signed: &claims})},
		"signed, with slash": {strings.Replace(signed, "/cvs/notice?", "/CVS//notice/?", 1), gatewaytest.JSONType, notice(i.ImpUID, "order-1"), of(ledger.Notice{Status: "paid", Signed: &claims})},
		"signed, no status":  {signed, gatewaytest.JSONType, `{"imp_uid":"` + i.ImpUID + `","merchant_uid":"order-1"}`, of(ledger.Notice{Signed: &claims})},
		"signed, 64 KiB":     {signed, gatewaytest.JSONType, strings.Replace(notice(i.ImpUID, "order-1"), "{", "{"+strings.Repeat(" ", 64<<10-len(notice(i.ImpUID, "order-1"))), 1), of(ledger.Notice{Status: "paid", Signed: &claims})},
		"known":              {plain, gatewaytest.JSONType, notice("imp_known", "order-2"), ledger.Notice{ImpUID: "imp_known", Order: "order-2", Status: "paid"}},
		"known, cancelled":   {plain, gatewaytest.JSONType, `{"imp_uid":"imp_known","merchant_uid":"order-2","status":"cancelled","cancellation_id":"c1"}`, ledger.Notice{ImpUID: "imp_known", Order: "order-2", Status: "cancelled", CancellationID: "c1"}},
		"known, forged":      {gatewaytest.AlterQuery(t, signed, "cvs_amount", "1"), gatewaytest.JSONType, notice("imp_known", "order-1"), ledger.Notice{ImpUID: "imp_known", Order: "order-1", Status: "paid"}},
		"known, of a confirm": {
			plain + i.ConfirmURL[strings.Index(i.ConfirmURL, "?"):], gatewaytest.JSONType, notice("imp_known", "order-1"),
			ledger.Notice{ImpUID: "imp_known", Order: "order-1", Status: "paid"},
		},
		"known, with other parameters": {plain + "?cvs_amount=1", gatewaytest.FormType, "imp_uid=imp_known", ledger.Notice{ImpUID: "imp_known"}},
	} {
		a := g.Do(t, http.MethodPost, c.url, c.contentType, c.body)
		require.Equal(t, http.StatusOK, a.Status, "%s: %s", name, a.Body)
		assert.JSONEq(t, `{"kept":true}`, a.Body)
		assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		assert.Equal(t, []ledger.Notice{c.want}, k.take(), name)
	}
	assert.Zero(t, g.Shop.Count())
	g.WaitForLine(t, `"level":"info"`, `"msg":"notice"`, `"operation":"notice","account":"","merchant_uid":"order-1","imp_uid":"`+i.ImpUID+`","amount":"15000","status":200,"duration":`, `"outcome":"kept","client_ip":"127.0.0.1"}`)
	assert.NotContains(t, g.Log(t), "/cvs/notice", "not in the access log either")
}

// The deadline of a barcode is no deadline for its notice.
func TestNoticeMayComeAfterTheDeadline(t *testing.T) {
	t.Parallel()
	g, k := startNotice(t, gatewaytest.Setup{})
	assert.Equal(t, 200, g.Do(t, http.MethodPost, signNotice(t, g, "order-1", signedurl.Claims{Amount: "15000", Expires: time.Now().Add(-time.Hour).Unix()}), gatewaytest.JSONType, notice("imp_1", "order-1")).Status)
	assert.Len(t, k.take(), 1)
}

// signNotice returns a notice URL that is signed by the gateway's key.
func signNotice(t *testing.T, g *gatewaytest.Gateway, order string, claims signedurl.Claims) string {
	t.Helper()
	keys, err := signedurl.NewKeys(gatewaytest.Canaries["CVS_TEST_SECRET"])
	require.NoError(t, err)
	base, err := signedurl.ParseBase(g.Outside + "/cvs/notice")
	require.NoError(t, err)
	signed, err := base.Sign(keys, signedurl.Notice, order, claims)
	require.NoError(t, err)
	return signed
}

// What claims to be a barcode's notice and is not, or cannot be read, does not reach the shop's app.
func TestNoticeRefuses(t *testing.T) {
	t.Parallel()
	g, k := startNotice(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	signed := noticeURL(t, g, i)
	good := notice(i.ImpUID, "order-1")
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, good)
	require.NoError(t, z.Close())
	foreign := gatewaytest.Start(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Keys: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}"})
	foreignURL := noticeURL(t, foreign, foreign.MustIssue(t, "order-1"))
	for name, c := range map[string]struct {
		url, contentType, encoding string
		body                       string
		status                     int
		outcome                    string
	}{
		"another amount":     {gatewaytest.AlterQuery(t, signed, "cvs_amount", "1"), gatewaytest.JSONType, "", good, 403, "refused"},
		"another order":      {signed, gatewaytest.JSONType, "", notice(i.ImpUID, "order-2"), 403, "refused"},
		"no order":           {signed, gatewaytest.JSONType, "", `{"imp_uid":"imp_1"}`, 403, "refused"},
		"a confirm's URL":    {g.Outside + "/cvs/notice" + i.ConfirmURL[strings.Index(i.ConfirmURL, "?"):], gatewaytest.JSONType, "", good, 403, "refused"},
		"a foreign key":      {g.Outside + "/cvs/notice" + foreignURL[strings.Index(foreignURL, "?"):], gatewaytest.JSONType, "", good, 403, "refused"},
		"percent-encoded":    {strings.Replace(signed, "cvs_sig", "cvs%5Fsig", 1), gatewaytest.JSONType, "", good, 403, "refused"},
		"in upper case":      {strings.ReplaceAll(signed, "cvs_", "CVS_"), gatewaytest.JSONType, "", good, 403, "refused"},
		"compressed":         {signed, gatewaytest.JSONType, "gzip", zipped.String(), 415, "invalid"},
		"text":               {signed, "text/plain", "", good, 415, "invalid"},
		"no type":            {signed, "", "", good, 415, "invalid"},
		"65 KiB":             {signed, gatewaytest.JSONType, "", strings.Replace(good, "{", "{"+strings.Repeat(" ", 65<<10), 1), 413, "invalid"},
		"one byte too large": {signed, gatewaytest.JSONType, "", strings.Replace(good, "{", "{"+strings.Repeat(" ", 64<<10+1-len(good)), 1), 413, "invalid"},
		"empty":              {signed, gatewaytest.JSONType, "", "", 400, "invalid"},
		"duplicate":          {signed, gatewaytest.JSONType, "", strings.Replace(good, "{", `{"imp_uid":"imp_2",`, 1), 400, "invalid"},
	} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(c.body)
			if chunked {
				body = struct{ io.Reader }{body}
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, body)
			require.NoError(t, err)
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			if c.encoding != "" {
				r.Header.Set("Content-Encoding", c.encoding)
			}
			a := g.Send(t, r)
			require.Equal(t, c.status, a.Status, "%s: %s", name, a.Body)
			assert.Equal(t, false, a.Field(t, "kept"), name)
			assert.NotEmpty(t, a.Field(t, "reason"), name)
			assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			g.WaitForLine(t, `"level":"warn"`, `"msg":"notice"`, fmt.Sprintf(`"status":%d`, c.status), `"outcome":"`+c.outcome+`"`)
		}
	}
	assert.Empty(t, k.take())
	g.WaitForLine(t, `"cause":"forbidden"`, `"rule":"signature"`)
	assert.NotContains(t, g.Log(t), "vs_sig")
}

// A signed notice that breaks off is answered, and not passed on.
func TestNoticeRefusesBrokenBodies(t *testing.T) {
	t.Parallel()
	g, k := startNotice(t, gatewaytest.Setup{})
	signed := noticeURL(t, g, g.MustIssue(t, "order-1"))
	for body, status := range map[string]int{
		"Content-Length: 500\r\n\r\n{":                      400,
		"Transfer-Encoding: chunked\r\n\r\n5\r\n{\"imp":     400,
		"Transfer-Encoding: chunked\r\n\r\nz\r\n{\"imp\r\n": 400,
	} {
		conn, err := net.Dial("tcp", gatewaytest.Host(g.Outside))
		require.NoError(t, err)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%s", strings.TrimPrefix(signed, g.Outside), gatewaytest.Host(g.Outside), body)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		assert.Contains(t, string(answer), fmt.Sprintf("HTTP/1.1 %d ", status), body)
		require.NoError(t, conn.Close())
	}
	assert.Empty(t, k.take())
}

// noticeSite starts a site with cvs_notice before the shop's app, which answers 202 with the body that it
// got. It returns the base URL of the site.
func noticeSite(t *testing.T, s gatewaytest.Setup, directives string) (*gatewaytest.Gateway, *keeper, string) {
	t.Helper()
	at := "http://" + gatewaytest.Address(t)
	s.Proxy = gatewaytest.UsualProxy + "\nnotice_url " + at + "/cvs/notice"
	s.Sites += at + " {\n" + directives + "\nreverse_proxy SHOP\n}\n"
	s.Confirm = "order_check SHOP/x\n" // its site is another
	g, config := gatewaytest.Prepare(t, s)
	g.Shop.Payable = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, g.Shop.Bodies[len(g.Shop.Bodies)-1])
	}
	gatewaytest.ExemptLog(g.LogFile) // reverse_proxy prints the URLs at DEBUG
	return g, runWithKeeper(t, config), at
}

const theNotice = "cvs_notice /cvs/notice {\n" + gatewaytest.UsualNotice + "\n}\n"

// A confirm webhook at a wrong path does not reach the shop's app, also if the site has a cvs_notice.
func TestMisroutedConfirmDoesNotReachTheAppOfASiteWithNotice(t *testing.T) {
	t.Parallel()
	for _, directives := range []string{onlyConfirm + theNotice, "handle /cvs/* {\n" + onlyConfirm + theNotice + "}\n"} {
		g, _, at := noticeSite(t, gatewaytest.Setup{}, directives)
		i := g.MustIssue(t, "order-1")
		for _, path := range []string{"/cvs/confirmm", "/cvs/notice"} {
			for contentType, body := range map[string]string{
				gatewaytest.JSONType: i.Webhook(), gatewaytest.FormType: "event=Galaxia.Cvs.Confirm&imp_uid=" + i.ImpUID + "&merchant_uid=order-1&status=ready",
			} {
				a := g.Do(t, http.MethodPost, at+path+i.ConfirmURL[strings.Index(i.ConfirmURL, "?"):], contentType, body)
				assert.Equal(t, 404, a.Status, "%s: %s", path, a.Body)
			}
		}
		assert.Zero(t, g.Shop.Count())
	}
}

// Everything that is not a barcode's notice reaches the shop's app byte for byte, and so does its
// answer: notices of card payments come to the same URL in many shops.
func TestNoticePassesOnWhatIsForeign(t *testing.T) {
	t.Parallel()
	for site, directives := range map[string]string{"guarded": onlyConfirm + theNotice, "not guarded": theNotice} {
		g, k, at := noticeSite(t, gatewaytest.Setup{}, directives)
		signed := noticeURL(t, g, g.MustIssue(t, "order-1"))
		card := notice("imp_card", "order-9")
		for name, c := range map[string]struct{ method, url, contentType, encoding, body string }{
			"a card's notice":       {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", card},
			"with parameters":       {"POST", at + "/cvs/notice?shop=%31&cvs_amount=1", gatewaytest.JSONType, "", card},
			"a card's notice, form": {"POST", at + "/cvs/notice", gatewaytest.FormType, "", "imp_uid=imp_card&merchant_uid=order-9&status=paid"},
			"another charset":       {"POST", at + "/cvs/notice", gatewaytest.JSONType + "; charset=euc-kr", "", card},
			"text":                  {"POST", at + "/cvs/notice", "text/plain", "", card},
			"no type":               {"POST", at + "/cvs/notice", "", "", card},
			"multipart":             {"POST", at + "/cvs/notice", "multipart/form-data; boundary=x", "", "--x\r\nContent-Disposition: form-data; name=imp_uid\r\n\r\nimp_known\r\n--x--\r\n"},
			"compressed":            {"POST", at + "/cvs/notice", gatewaytest.JSONType, "br", "\x8b\x01imp_known"},
			"large":                 {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", `{"imp_uid":"imp_known","x":"` + strings.Repeat("a", 200_000) + `"}`},
			"no JSON":               {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", `{"imp_uid":"imp_known"`},
			"duplicate":             {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", `{"imp_uid":"imp_known","imp_uid":"imp_known"}`},
			"empty":                 {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", ""},
			"another event":         {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", `{"event":"Other","imp_uid":"imp_known"}`},
			"an event, form":        {"POST", at + "/cvs/notice", gatewaytest.FormType, "", "event=Other&imp_uid=imp_known"},
			"an unsigned confirm":   {"POST", at + "/cvs/notice", gatewaytest.JSONType, "", gatewaytest.Issued{ImpUID: "imp_known"}.Webhook()},
			"signed, another event": {"POST", signed, gatewaytest.JSONType, "", `{"event":"Other","imp_uid":"imp_known"}`},
			"PUT":                   {"PUT", at + "/cvs/notice", gatewaytest.JSONType, "", notice("imp_known", "order-1")},
			"DELETE, signed":        {"DELETE", signed, gatewaytest.JSONType, "", notice("imp_known", "order-1")},
			"GET":                   {"GET", at + "/cvs/notice?imp_uid=imp_known", "", "", ""},
			"another account's":     {"POST", gatewaytest.AlterQuery(t, signed, "cvs_account", "second"), gatewaytest.JSONType, "", notice("imp_known", "order-1")},
			"encoded twice":         {"POST", strings.ReplaceAll(signed, "cvs_", "%2563vs_"), gatewaytest.JSONType, "", card},
			"at another path":       {"POST", at + "/notice", gatewaytest.JSONType, "", notice("imp_known", "order-1")},
		} {
			for _, chunked := range []bool{false, true} {
				var body io.Reader = strings.NewReader(c.body)
				if chunked {
					body = struct{ io.Reader }{body}
				}
				r, err := http.NewRequestWithContext(t.Context(), c.method, c.url, body)
				require.NoError(t, err)
				r.Header.Set("X-Sent", name)
				if c.contentType != "" {
					r.Header.Set("Content-Type", c.contentType)
				}
				if c.encoding != "" {
					r.Header.Set("Content-Encoding", c.encoding)
				}
				a := g.Send(t, r)
				require.Equal(t, http.StatusAccepted, a.Status, "%s, %s: %s", site, name, a.Body)
				assert.Equal(t, c.body, a.Body, name)
				seen := g.Shop.Requests[g.Shop.Count()-1]
				assert.Equal(t, []string{c.method, strings.TrimPrefix(c.url, at), name, c.contentType, c.encoding},
					[]string{seen.Method, seen.RequestURI, seen.Header.Get("X-Sent"), seen.Header.Get("Content-Type"), seen.Header.Get("Content-Encoding")}, name)
			}
		}
		assert.Empty(t, k.take(), site)
	}
}

// A body that breaks off breaks off for the next handler, too.
func TestNoticePassesOnABrokenBody(t *testing.T) {
	t.Parallel()
	n := &Notice{account: new(account), keeper: new(keeper), warned: new(warnTimer), webhooks: webhookReceiver{app: quietApp(t)}}
	const begun = `{"imp_uid":"imp_known`
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cvs/notice", io.MultiReader(strings.NewReader(begun), iotest.ErrReader(io.ErrUnexpectedEOF)))
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
	var got []byte
	var err error
	require.NoError(t, n.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
		got, err = io.ReadAll(r.Body)
		return nil
	})))
	assert.Equal(t, begun, string(got))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// Two accounts may have one notice URL.
func TestNoticeLeavesOtherAccountsToTheirs(t *testing.T) {
	t.Parallel()
	second := "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API"
	g, k, at := noticeSite(t, gatewaytest.Setup{Second: second},
		"route {\n"+theNotice+strings.Replace(theNotice, "{\n", "{\naccount second\n", 1)+"}\n")
	keys, err := signedurl.NewKeys(gatewaytest.Canaries["CVS_TEST_SECOND_SECRET"])
	require.NoError(t, err)
	base, err := signedurl.ParseBase(at + "/cvs/notice")
	require.NoError(t, err)
	signed, err := base.Sign(keys, signedurl.Notice, "order-1", signedurl.Claims{Account: "second", Amount: "15000"})
	require.NoError(t, err)
	assert.Equal(t, 200, g.Do(t, http.MethodPost, signed, gatewaytest.JSONType, notice("imp_1", "order-1")).Status)
	require.Len(t, k.take(), 1)
	g.WaitForLine(t, `"msg":"notice"`, `"account":"second"`, `"outcome":"kept"`)
	a := g.Do(t, http.MethodPost, gatewaytest.AlterQuery(t, signed, "cvs_amount", "1"), gatewaytest.JSONType, notice("imp_1", "order-1"))
	assert.Equal(t, 403, a.Status)
	g.WaitForLine(t, `"msg":"notice"`, `"account":"second"`, `"outcome":"refused"`)
	assert.Zero(t, g.Shop.Count())
}

// The sender of a confirm webhook takes every 200 for acceptable.
func TestNoticeNeverAcceptsAConfirm(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	for site, directives := range map[string]string{
		"guarded": onlyConfirm + theNotice, "not guarded": theNotice, "in a block": "handle /cvs/* {\n" + theNotice + "}",
	} {
		g, k, at := noticeSite(t, gatewaytest.Setup{}, directives)
		g.Shop.Payable = gatewaytest.AnswerWith(200, `{"accepted":true}`)
		i := g.MustIssue(t, "order-1")
		zipped.Reset()
		z := gzip.NewWriter(&zipped)
		_, _ = io.WriteString(z, i.Webhook())
		require.NoError(t, z.Close())
		query := i.ConfirmURL[strings.Index(i.ConfirmURL, "?"):]
		for name, c := range map[string]struct{ url, contentType, encoding, body string }{
			"at the notice's path":       {at + "/cvs/notice" + query, gatewaytest.JSONType, "", i.Webhook()},
			"with the notice's URL":      {noticeURL(t, g, i), gatewaytest.JSONType, "", i.Webhook()},
			"of a payment that is known": {at + "/cvs/notice" + query, gatewaytest.JSONType, "", strings.ReplaceAll(i.Webhook(), i.ImpUID, "imp_known")},
			"of another account":         {at + "/cvs/notice" + strings.Replace(query, "&cvs_sig", "&cvs_account=second&cvs_sig", 1), gatewaytest.JSONType, "", i.Webhook()},
			"form":                       {at + "/cvs/notice" + query, gatewaytest.FormType, "", "event=Galaxia.Cvs.Confirm&imp_uid=" + i.ImpUID + "&merchant_uid=order-1&status=ready"},
			"text":                       {at + "/cvs/notice" + query, "text/plain", "", i.Webhook()},
			"large":                      {at + "/cvs/notice" + query, gatewaytest.JSONType, "", i.Webhook() + strings.Repeat(" ", 70_000)},
			"compressed":                 {at + "/cvs/notice" + query, gatewaytest.JSONType, "gzip", zipped.String()},
		} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
			require.NoError(t, err)
			r.Header.Set("Content-Type", c.contentType)
			if c.encoding != "" {
				r.Header.Set("Content-Encoding", c.encoding)
			}
			a := g.Send(t, r)
			want := http.StatusNotFound
			if c.encoding != "" {
				want = http.StatusUnsupportedMediaType
			}
			assert.Equal(t, want, a.Status, "%s, %s: %s", site, name, a.Body)
		}
		assert.Empty(t, k.take())
		g.WaitForLine(t, "a signed confirm webhook reached no cvs_confirm", `"path":"/cvs/notice"`)
	}
}

var errDisk = errors.New("no space left on device")

// A notice that is not written is not acknowledged. While the ledger cannot be read, an unsigned one
// may be a card payment's, which must reach the shop.
func TestNoticeWhileTheLedgerIsDown(t *testing.T) {
	t.Parallel()
	g, k, at := noticeSite(t, gatewaytest.Setup{}, theNotice)
	i := g.MustIssue(t, "order-1")
	signed := noticeURL(t, g, i)
	for _, read := range []bool{false, true} {
		k.set(errDisk, read)
		for name, c := range map[string]struct {
			url, impUID string
			status      int
		}{
			"signed":  {signed, i.ImpUID, 503},
			"forged":  {gatewaytest.AlterQuery(t, signed, "cvs_amount", "1"), i.ImpUID, map[bool]int{true: 403, false: 503}[read]},
			"known":   {at + "/cvs/notice", "imp_known", map[bool]int{true: 503, false: 202}[read]},
			"foreign": {at + "/cvs/notice", "imp_card", 202},
		} {
			a := g.Do(t, http.MethodPost, c.url, gatewaytest.JSONType, notice(c.impUID, "order-1"))
			assert.Equal(t, c.status, a.Status, "%s, %v: %s", name, read, a.Body)
			if c.status == 503 {
				assert.Equal(t, "10", a.Header.Get("Retry-After"), name)
				assert.Equal(t, false, a.Field(t, "kept"))
			}
		}
	}
	g.WaitForLine(t, `"level":"error"`, `"msg":"notice"`, `"status":503`, `"outcome":"not kept"`, `"retry_after":"10"`, `"cause":"ledger","detail":"no space left on device"`)
	assert.Equal(t, 1, strings.Count(g.Log(t), "the ledger cannot be read"), "at most once a minute:\n%s", g.LazyLog(t))
	k.set(nil, false)
	assert.Equal(t, 200, g.Do(t, http.MethodPost, signed, gatewaytest.JSONType, notice(i.ImpUID, "order-1")).Status)
}

// A request may outlive its configuration, and the ledger with it.
func TestNoticeAfterTheLedgerIsClosed(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Notice: gatewaytest.UsualNotice})
	i := g.MustIssue(t, "order-1")
	signed := noticeURL(t, g, i)
	require.NoError(t, openLedger(t, g).Close())
	assert.Equal(t, 503, g.Do(t, http.MethodPost, signed, gatewaytest.JSONType, notice(i.ImpUID, "order-1")).Status)
	again, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err)
	defer again.Close()
	row, err := again.Get(t.Context(), ledger.Key{Order: "order-1"})
	require.NoError(t, err)
	assert.Empty(t, row.Hints)
}

// Without the ledger's word that a notice is kept there is no 200.
func TestNoticeIsKeptOnlyIfTheLedgerSaysSo(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Notice: gatewaytest.UsualNotice})
	runWith(t, config, func(n *Notice) { n.keeper = forgetful{} })
	i := g.MustIssue(t, "order-1")
	assert.Equal(t, 503, g.Do(t, http.MethodPost, noticeURL(t, g, i), gatewaytest.JSONType, notice(i.ImpUID, "order-1")).Status)
}

// forgetful is a ledger that does not know what is signed.
type forgetful struct{}

func (forgetful) Notice(context.Context, *ledger.Notice) (bool, error) { return false, nil }

// An intercept around the site must not turn a 503 into an acknowledgement.
func TestInterceptDoesNotAcknowledgeANotice(t *testing.T) {
	t.Parallel()
	g, k, _ := noticeSite(t, gatewaytest.Setup{}, onlyConfirm+"route {\nintercept {\n@any status 4xx 5xx\nhandle_response @any {\nrespond \"sorry\" 200\n}\n}\n"+theNotice+"}\n")
	i := g.MustIssue(t, "order-1")
	k.set(errDisk, true)
	assert.Equal(t, 503, g.Do(t, http.MethodPost, noticeURL(t, g, i), gatewaytest.JSONType, notice(i.ImpUID, "order-1")).Status)
}

func TestNoticeSetsPlaceholders(t *testing.T) {
	t.Parallel()
	g, _, _ := noticeSite(t, gatewaytest.Setup{}, "header >X-Seen \"{http.cvs.operation} {http.cvs.account} {http.cvs.merchant_uid} {http.cvs.imp_uid} {http.cvs.status} {http.cvs.amount} {http.cvs.code}\"\n"+theNotice)
	i := g.MustIssue(t, "order-1")
	a := g.Do(t, http.MethodPost, noticeURL(t, g, i), gatewaytest.JSONType, notice(i.ImpUID, "order-1"))
	assert.Equal(t, "notice  order-1 "+i.ImpUID+" paid 15000 200", a.Header.Get("X-Seen"))
}

// onlyNotice returns a configuration with a cvs_notice and no cvs_proxy.
func onlyNotice(g *gatewaytest.Gateway, config, options string) string {
	global, _, _ := strings.Cut(config, g.Inside)
	return global + g.Fill("OUTSIDE {\ncvs_notice {\n"+options+"\n}\n}\n")
}

// tellsOf provisions a cvs_notice, and returns what its account's ledger is told.
func tellsOf(t *testing.T, options string) (tells *ledger.Tells, log string) {
	t.Helper()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, onlyNotice(g, config, options)), func(ctx caddy.Context) {
		require.Len(t, handlersOf[*Notice](t, ctx), 1)
		app, err := ctx.App("cvs")
		require.NoError(t, err)
		assert.True(t, app.(*App).ledger.needed)
		tells = app.(*App).accounts[""].inLedger.Tells
	})
	return tells, g.Log(t)
}

func TestNoticeTellsTheLedger(t *testing.T) {
	t.Parallel()
	const noRequire = "tell has no require"
	tells, log := tellsOf(t, "tell SHOP")
	require.NotNil(t, tells.Send)
	tells.Send = nil
	assert.Equal(t, &ledger.Tells{
		Timeout: 10 * time.Second, Events: []tell.Event{tell.Paid, tell.Cancelled, tell.Expired}, Retry: 72 * time.Hour, Concurrency: 8,
		Intervals: []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour}, Sweep: 5 * time.Minute,
	}, tells, "the defaults")
	assert.Contains(t, log, noRequire)

	tells, log = tellsOf(t, "tell SHOP {\nrequire heard true\ntimeout 2s\n}\nevents expired paid\nretry 1h\nconcurrency 3\nintervals 1s 2s\nsweep off\nsandbox allow")
	tells.Send = nil
	assert.Equal(t, &ledger.Tells{
		Timeout: 2 * time.Second, Events: []tell.Event{tell.Expired, tell.Paid}, Retry: time.Hour, Concurrency: 3,
		Intervals: []time.Duration{time.Second, 2 * time.Second}, Sandbox: true,
	}, tells)
	assert.NotContains(t, log, noRequire)
}

// The ledger is opened for a cvs_notice alone, with what it tells.
func TestNoticeNeedsTheLedger(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, onlyNotice(g, config, gatewaytest.UsualNotice)), func(ctx caddy.Context) {
		app, err := ctx.App("cvs")
		require.NoError(t, err)
		require.NoError(t, app.(*App).startLedger())
		assert.NotNil(t, app.(*App).ledger.settings.Accounts[""].Tells)
		app.(*App).releaseLedger()
	})
}

// If the ledger cannot be opened, it is not known whose a payment is.
func TestNoticeWithoutTheLedger(t *testing.T) {
	t.Parallel()
	app := &App{ledger: new(appLedger)}
	app.releaseLedger()
	known, err := noticeLedger{app, new(account)}.Notice(t.Context(), new(ledger.Notice))
	assert.Error(t, err)
	assert.False(t, known)
}

// A site with several addresses has the same cvs_notice on each of its servers.
func TestSameNoticeOnTwoServers(t *testing.T) {
	t.Parallel()
	other := "http://" + gatewaytest.Address(t)
	g, keeper := startNotice(t, gatewaytest.Setup{Notice: gatewaytest.UsualNotice, Sites: other + " {\ncvs_notice /cvs/notice {" + gatewaytest.UsualNotice + "\n}\n}"})
	for _, site := range []string{g.Outside, other} {
		a := g.Do(t, http.MethodPost, site+"/cvs/notice", gatewaytest.JSONType, `{"imp_uid":"imp_known","merchant_uid":"o","status":"paid"}`)
		assert.Equal(t, http.StatusOK, a.Status, a.Body)
		assert.Len(t, keeper.take(), 1)
	}
}

// Without a row in the ledger, neither the sweep nor a deadline has the shop told.
func TestNoticeBesideRepeatPassIsWarnedOf(t *testing.T) {
	t.Parallel()
	const warning = "the ledger does not know the barcodes of a cvs_proxy with repeat pass"
	for _, c := range []struct {
		repeat, notice string
		warns          bool
	}{
		{"pass", gatewaytest.UsualNotice, true},
		{"reuse", gatewaytest.UsualNotice, false},
		{"pass", "", false},
	} {
		g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nrepeat " + c.repeat, Notice: c.notice})
		gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
			app, err := loadApp(ctx)
			require.NoError(t, err)
			require.NoError(t, app.Start())
		})
		assert.Equal(t, c.warns, strings.Contains(g.Log(t), warning), "%+v", c)
	}
}
