package acceptance

// This file holds tests of what notices, and telling the shop, may show: in logs, in the configuration,
// in the ledger, in errors and to an operator. RunMain searches all of it once more.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

const secretiveTell = `
	tell SHOP/payments/{http.cvs.merchant_uid}?key={env.CVS_TEST_INTERNAL_KEY} {
		header X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}
		secret {env.CVS_TEST_NOTICE_SECRET}
		require heard true
		timeout 2s
	}
	intervals 600ms
	retry 1s`

const proxyWithNotice = gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice"

// keepSecret adds what of a barcode and of its URLs nothing written may contain.
func keepSecret(t *testing.T, g *gatewaytest.Gateway, i gatewaytest.Issued) (noticeURL string) {
	t.Helper()
	_, urls := g.API.WebhookURLs(i.ImpUID)
	require.Len(t, urls, 1)
	for _, raw := range []string{i.ConfirmURL, urls[0]} {
		gatewaytest.AddSecret(parseSigned(t, raw).sig)
	}
	gatewaytest.AddSecret(i.Barcode)
	return urls[0]
}

// pay pays a barcode at the till, which sends the genuine notice.
func pay(t *testing.T, g *gatewaytest.Gateway, i gatewaytest.Issued) {
	t.Helper()
	result, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
	require.NoError(t, err)
	require.True(t, result.Accepted, result.Reason)
	require.Equal(t, 200, result.Notice[0].Status, "%+v", result.Notice)
}

// echo answers with everything that the shop was told, as the page of a debugger does.
func echo(w http.ResponseWriter, r *http.Request, status int) {
	signature := r.Header.Get("Webhook-Signature")
	w.Header().Set("Location", "http://shop.invalid/?signature="+signature)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"heard": fmt.Sprint(r.Header), "reason": gatewaytest.BuyerName + " " + r.RequestURI + " " + signature,
	})
}

func TestNoticesAndTellsShowNoSecret(t *testing.T) {
	caddy.ConfigAutosavePath = filepath.Join(gatewaytest.Dir(), "autosave-notice.json")
	admin := gatewaytest.Address(t)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: "signing_key {env.CVS_TEST_SIGNING_KEY}", Proxy: proxyWithNotice, Notice: secretiveTell, Globals: "metrics",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/orders/") {
				fmt.Fprint(w, `{"payable":true,"total":15000}`)
				return
			}
			assert.Equal(t, gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"], r.Header.Get("X-Internal-Key"))
			signature := r.Header.Get("Webhook-Signature")
			assert.True(t, strings.HasPrefix(signature, "v1,"))
			gatewaytest.AddSecret(signature)
			switch r.Header.Get("X-Cvs-Merchant-Uid") {
			case "held":
				arrived <- struct{}{}
				<-release
				fmt.Fprint(w, `{"heard":true}`)
			case "refused":
				echo(w, r, 409)
			case "not-met":
				echo(w, r, 200)
			case "redirected":
				echo(w, r, 302)
			default:
				echo(w, r, 500)
			}
		},
	})
	config = strings.Replace(strings.Replace(config, "admin off", "admin "+admin, 1), "persist_config off", "", 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	show := func(method, path, contentType, body string) gatewaytest.Answer {
		a := g.Do(t, method, "http://"+admin+path, contentType, body)
		name := "notice-exposure" + strings.NewReplacer("/", "-", "?", "-", "&", "-", "=", "-").Replace(method+path)
		require.NoError(t, os.WriteFile(filepath.Join(gatewaytest.Dir(), name), []byte(a.Body), 0o600))
		return a
	}
	held := g.MustIssue(t, "held")
	sendBadNotices(t, g, held, keepSecret(t, g, held))
	pay(t, g, held)
	<-arrived
	for _, path := range []string{
		"/config/", "/config/apps/http/servers", "/metrics", "/debug/vars", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/cvs/barcodes", "/cvs/barcodes?state=pending", "/cvs/status", "/cvs/ready",
	} {
		assert.Equal(t, 200, show(http.MethodGet, path, "", "").Status, path)
	}
	close(release)
	g.WaitForLine(t, `"msg":"tell"`, `"merchant_uid":"held"`, `"outcome":"heard"`)
	for _, c := range []struct{ order, outcome string }{{"refused", "refused"}, {"not-met", "refused"}, {"redirected", "e"}, {"broken", "unheard"}} {
		i := g.MustIssue(t, c.order)
		keepSecret(t, g, i)
		pay(t, g, i)
		g.WaitForLine(t, `"msg":"tell"`, `"merchant_uid":"`+c.order+`"`, c.outcome)
	}
	g.WaitForLine(t, `"level":"error"`, "waits for a person", `"merchant_uid":"refused"`)
	for _, path := range []string{"/cvs/barcodes?order=refused", "/cvs/barcodes?order=broken", "/cvs/barcodes?state=waiting", "/cvs/barcodes?state=paid"} {
		a := show(http.MethodGet, path, "", "")
		assert.Equal(t, 200, a.Status, path)
		assert.Contains(t, a.Body, `"merchant_uid"`, path)
	}
	assert.Equal(t, 400, show(http.MethodGet, "/cvs/barcodes?barcode=1", "", "").Status)
	show(http.MethodPost, "/cvs/retry", gatewaytest.JSONType, `{"all":true}`)
	// A literal secret is refused, and the refusal does not repeat it.
	literal := strings.Replace(config, "{env.CVS_TEST_NOTICE_SECRET}", gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"], 1)
	assert.Equal(t, 400, show(http.MethodPost, "/adapt", "text/caddyfile", literal).Status)
	assert.Equal(t, 400, show(http.MethodPost, "/load", "text/caddyfile", literal).Status)

	saved, err := os.ReadFile(caddy.ConfigAutosavePath)
	require.NoError(t, err)
	assert.Contains(t, string(saved), "{env.CVS_TEST_NOTICE_SECRET}")
	assert.Empty(t, gatewaytest.FindSecrets())
}

// sendBadNotices sends notices that are refused, passed on or misplaced, all with a URL that is signed.
func sendBadNotices(t *testing.T, g *gatewaytest.Gateway, i gatewaytest.Issued, signed string) {
	t.Helper()
	body := fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid","buyer_name":%q,"buyer_tel":%q,"vbank_num":%q}`, i.ImpUID, i.MerchantUID, gatewaytest.BuyerName, gatewaytest.BuyerTel, i.Barcode)
	unknown := strings.Replace(body, i.ImpUID, "imp_unknown", 1)
	for name, c := range map[string]struct{ method, url, contentType, body string }{
		"forged":             {"POST", gatewaytest.AlterQuery(t, signed, "cvs_amount", "1"), gatewaytest.JSONType, unknown},
		"unreadable":         {"POST", signed, gatewaytest.JSONType, body[1:]},
		"another type":       {"POST", signed, "text/plain", body},
		"too large":          {"POST", signed, gatewaytest.JSONType, body + strings.Repeat(" ", 70_000)},
		"a confirm":          {"POST", signed, gatewaytest.JSONType, i.Webhook()},
		"another account's":  {"POST", gatewaytest.AlterQuery(t, signed, "cvs_account", "second"), gatewaytest.JSONType, body},
		"another method":     {"PUT", signed, gatewaytest.JSONType, body},
		"GET":                {"GET", signed, "", ""},
		"at another path":    {"POST", strings.Replace(signed, "/cvs/notice", "/cvs/notices", 1), gatewaytest.JSONType, body},
		"at the root":        {"POST", strings.Replace(signed, "/cvs/notice", "/", 1), gatewaytest.JSONType, body},
		"at the confirm's":   {"POST", strings.Replace(signed, "/cvs/notice", "/cvs/confirm", 1), gatewaytest.JSONType, body},
		"unsigned, unknown":  {"POST", g.Outside + "/cvs/notice?buyer_tel=1", gatewaytest.JSONType, unknown},
		"unsigned, barcode":  {"POST", g.Outside + "/cvs/notice", gatewaytest.FormType, "imp_uid=" + i.ImpUID + "&status=" + i.Barcode},
		"signed, status":     {"POST", signed, gatewaytest.JSONType, strings.Replace(body, `"paid"`, `"`+i.Barcode+`"`, 1)},
		"signed, own imp_id": {"POST", signed, gatewaytest.JSONType, unknown},
	} {
		a := g.Do(t, c.method, c.url, c.contentType, c.body)
		assert.NotZero(t, a.Status, name)
		assert.Less(t, a.Status, 500, "%s: %s", name, a.Body)
		for _, secret := range []string{parseSigned(t, signed).sig, gatewaytest.BuyerTel, i.Barcode} {
			assert.NotContains(t, a.Body, secret, name)
		}
	}
}

// The URL of a tell may have a key. A transport's error often repeats the URL.
func TestUnreachableTellShowsNoSecret(t *testing.T) {
	t.Parallel()
	for name, to := range map[string]string{
		"closed": "http://" + gatewaytest.Address(t), "no name": "http://shop.invalid", "no TLS": "https://SHOP",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			notice := strings.Replace(secretiveTell, "SHOP", to, 1)
			g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Proxy: proxyWithNotice, Notice: notice})
			config = strings.Replace(config, "https://http://", "https://", 1)
			gatewaytest.Run(t, config)
			i := g.MustIssue(t, "order-1")
			keepSecret(t, g, i)
			pay(t, g, i)
			line := g.WaitForLine(t, `"msg":"tell"`, `"outcome":"unheard"`)
			assert.NotContains(t, line, gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"])
			assert.NotContains(t, g.Log(t), i.Barcode)
		})
	}
}
