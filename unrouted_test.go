package caddycvs

// This file holds tests of webhooks that miss cvs_confirm: on sites whose directives come
// before it, and at paths that are similar to the right one.

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// onSite issues a barcode whose webhook goes to a site with these directives.
func onSite(t *testing.T, payable http.HandlerFunc, directives string) (*gatewaytest.Gateway, gatewaytest.Issued) {
	t.Helper()
	at := "http://" + gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Proxy: "confirm_url " + at + "/cvs/confirm", Payable: payable,
		Sites: at + " {\nlog {\noutput file LOGS\n}\n" + directives + "\n}\n",
	})
	return g, g.MustIssue(t, "order-1")
}

const onlyConfirm = "cvs_confirm /cvs/confirm {\n" + gatewaytest.UsualConfirm + "\n}\n"

// A 200 of the shop's site must not count as an acceptance.
func TestConfirmComesBeforeWhatChangesARequest(t *testing.T) {
	t.Parallel()
	const app = "respond \"the shop's page\" 200\n"
	for name, directives := range map[string]string{
		"a front controller":  "root /nowhere\ntry_files {path} /index.php?{query}\n" + app,
		"rewrite":             "rewrite * /index.php\n" + app,
		"uri":                 "uri strip_prefix /cvs\n" + app,
		"redir":               "redir https://shop.example{uri}\n",
		"method":              "method GET\n" + app,
		"basic_auth":          "basic_auth {\nshop $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\n" + app,
		"request_header":      "request_header Content-Type text/plain\n" + app,
		"handle":              "handle {\n" + app + "}\n",
		"route":               "route {\n" + app + "}\n",
		"encode":              "encode gzip\n" + app,
		"redir of other case": "@upper path_regexp [A-Z]\nredir @upper /lower\n" + app,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, payable := range []http.HandlerFunc{nil, gatewaytest.AnswerWith(409, `{"reason":"sold out"}`)} {
				g, i := onSite(t, payable, onlyConfirm+directives)
				a := g.Confirm(t, i)
				assert.Equal(t, 1, g.Shop.Count(), "the order check is asked")
				if payable == nil {
					assert.Equal(t, 200, a.Status, a.Body)
					assert.Equal(t, true, a.Field(t, "accepted"))
				} else {
					assert.Equal(t, 409, a.Status, a.Body)
				}
			}
		})
	}
}

// cvs_proxy uses the merchant's credentials, so the site's password must protect it.
func TestProxyRunsAfterBasicAuth(t *testing.T) {
	t.Parallel()
	at := "http://" + gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Sites: at + " {\nbasic_auth {\nshop $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\ncvs_proxy\ncvs_confirm /cvs/confirm {\n" + gatewaytest.UsualConfirm + "\n}\n}\n"})
	a := g.Do(t, http.MethodPost, at+"/cvs", gatewaytest.FormType, "merchant_uid=order-1&amount=15000")
	assert.Equal(t, http.StatusUnauthorized, a.Status)
	assert.Empty(t, g.API.Payments())

	guarded := "http://" + gatewaytest.Address(t)
	g = gatewaytest.Start(t, gatewaytest.Setup{
		Payable: gatewaytest.AnswerWith(http.StatusUnauthorized, ""),
		Sites:   guarded + " {\nforward_auth SHOP {\nuri /auth\n}\ncvs_proxy\n}\n",
	})
	a = g.Do(t, http.MethodPost, guarded+"/cvs", gatewaytest.FormType, "merchant_uid=order-1&amount=15000")
	assert.Equal(t, http.StatusUnauthorized, a.Status)
	assert.Empty(t, g.API.Payments())
}

// A signed webhook at a path that differs only in slashes or case is answered by cvs_confirm.
// At any other path it is refused and logged, whatever the site would answer.
func TestWebhookAtASimilarPathIsAnswered(t *testing.T) {
	t.Parallel()
	for name, directives := range map[string]string{
		"nothing else":       "",
		"an app":             "respond \"the shop's page\" 200\n",
		"a front controller": "rewrite * /index.php\nrespond 200\n",
		"handle":             "handle {\nrespond 200\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, i := onSite(t, nil, onlyConfirm+directives)
			at, query, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
			for path, status := range map[string]int{
				"/cvs/confirm": 200, "/cvs/confirm/": 200, "//cvs/confirm": 200, "/cvs//confirm": 200, "/cvs/confirm//": 200,
				"/CVS/Confirm": 200, "/cvs%2Fconfirm": 200,
				"/cvs/confrim": 404, "/cvs": 404, "/": 404, "/cvs/confirm/x": 404, "/shop/cvs/confirm": 404, "/cvs/confirm.php": 404, "/cvs/notice": 404,
			} {
				near := i
				near.ConfirmURL = at + path + query
				a := g.Confirm(t, near)
				assert.Equal(t, status, a.Status, "%s: %s", path, a.Body)
				assert.Equal(t, status == 200, a.Field(t, "accepted"), path)
			}
			g.WaitForLine(t, "a signed confirm webhook reached no cvs_confirm")
			g.WaitForLine(t, `"path":"/cvs/confrim"`)
			assert.NotContains(t, g.Log(t), "cvs_sig")
		})
	}
}

// A request that is not a signed webhook goes to the site.
func TestUnroutedPassesOtherRequestsOn(t *testing.T) {
	t.Parallel()
	g, i := onSite(t, nil, onlyConfirm+"respond \"the shop's page\" 202\n")
	at, query, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
	for target, method := range map[string]string{
		at + "/":                        http.MethodPost,
		at + "/orders?cvs_amount=1":     http.MethodPost,
		at + "/orders?sig=1":            http.MethodPost,
		at + "/orders" + query:          http.MethodGet,
		at + "/cvs/notice?imp_uid=imp1": http.MethodPost,
	} {
		a := g.Do(t, method, target, gatewaytest.JSONType, "{}")
		assert.Equal(t, 202, a.Status, target)
		assert.Equal(t, "the shop's page", a.Body)
	}
	for _, spelled := range []string{"?%63vs_sig=x", "?a;cvs_sig=x", "?CVS_SIG=x", "?a=1&cvs_sig"} {
		for contentType, body := range map[string]string{gatewaytest.JSONType: i.Webhook(), gatewaytest.FormType: "event=Galaxia.Cvs.Confirm&imp_uid=imp_1", "text/plain": "", "text/html": "<html>"} {
			assert.Equal(t, 404, g.Do(t, http.MethodPost, at+"/orders"+spelled, contentType, body).Status, spelled)
		}
	}
}

// A notice has a signed URL as well. The app gets it, with its body.
func TestSignedNoticesReachTheApp(t *testing.T) {
	t.Parallel()
	at := "http://" + gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Proxy: "confirm_url " + at + "/cvs/confirm\nnotice_url " + at + "/notice",
		Sites: at + " {\nlog {\noutput file LOGS\n}\n" + onlyConfirm + "reverse_proxy SHOP\n}\n",
	})
	gatewaytest.Run(t, strings.Replace(config, "level DEBUG", "level INFO", 1)) // at DEBUG reverse_proxy prints the URL
	i := g.MustIssue(t, "order-1")
	_, notices := g.API.WebhookURLs(i.ImpUID)
	require.Len(t, notices, 1)
	require.Contains(t, notices[0], "cvs_sig=")
	for contentType, body := range map[string]string{
		gatewaytest.JSONType:                      `{"imp_uid":"imp_1","merchant_uid":"order-1","status":"paid"}`,
		gatewaytest.FormType:                      "imp_uid=imp_1&merchant_uid=order-1&status=paid",
		gatewaytest.JSONType + "; charset=euc-kr": `{"imp_uid":"imp_1","status":"cancelled"}`,
	} {
		before := g.Shop.Count()
		assert.Equal(t, 200, g.Do(t, http.MethodPost, notices[0], contentType, body).Status, body)
		require.Equal(t, before+1, g.Shop.Count())
		assert.Equal(t, body, g.Shop.Bodies[before])
	}
	large := `{"imp_uid":"imp_1","x":"` + strings.Repeat("a", 70_000) + `"}`
	for _, body := range []string{large, "imp%5Fuid=imp_1&status=paid", `{"imp\u005fuid":"imp_1"}`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, notices[0], struct{ io.Reader }{strings.NewReader(body)}) // chunked
		require.NoError(t, err)
		r.Header = http.Header{"Content-Type": {gatewaytest.JSONType}, "Content-Encoding": {"identity"}}
		before := g.Shop.Count()
		assert.Equal(t, 200, g.Send(t, r).Status, "%.50s", body)
		require.Equal(t, before+1, g.Shop.Count())
		assert.Equal(t, body, g.Shop.Bodies[before])
	}
	for _, confirm := range []string{`{"event":"Galaxia\u002eCvs.Confirm","imp_uid":"imp_1"}`, "event=Galaxia%2ECvs.Confirm&imp_uid=imp_1"} {
		assert.Equal(t, 404, g.Do(t, http.MethodPost, notices[0], gatewaytest.FormType, confirm).Status, confirm)
	}
	result, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
	require.NoError(t, err)
	require.True(t, result.Accepted)
	assert.Equal(t, 200, result.Notice[0].Status)
}

// In a route, directives run in the order in which they are written. Further handlers of the
// module may come after the one that answers missed webhooks.
func TestUnroutedLeavesWebhooksToLaterHandlers(t *testing.T) {
	t.Parallel()
	other := strings.Replace(onlyConfirm, "/cvs/confirm", "/other/confirm", 1)
	for name, directives := range map[string]string{
		"sorted":               other + onlyConfirm + "respond 200",
		"a route":              "route {\n" + other + onlyConfirm + "respond 200\n}",
		"a route in a route":   "route {\nroute {\n" + other + "}\n" + onlyConfirm + "respond 200\n}",
		"a route, then sorted": "route {\n" + other + "}\nroute {\n" + onlyConfirm + "}\nrespond 200",
		"a block of its own":   "handle /other/* {\n" + other + "}\nhandle {\n" + onlyConfirm + "respond 200\n}",
		"a handler behind":     "route {\n" + other + "handle {\n" + onlyConfirm + "}\nrespond 200\n}",
		"the proxy behind":     "route {\n" + other + onlyConfirm + "cvs_proxy\nrespond 200\n}",
		"no matcher behind":    "route {\n" + other + strings.Replace(onlyConfirm, " /cvs/confirm", "", 1) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, i := onSite(t, nil, directives)
			at, query, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
			for _, path := range []string{"/cvs/confirm", "/other/confirm", "/cvs/confirm/"} {
				one := i
				one.ConfirmURL = at + path + query
				a := g.Confirm(t, one)
				assert.Equal(t, 200, a.Status, "%s: %s", path, a.Body)
				assert.Equal(t, true, a.Field(t, "accepted"))
			}
			if strings.Contains(name, "no matcher") {
				return
			}
			astray := i
			astray.ConfirmURL = at + "/wrong" + query
			assert.Equal(t, 404, g.Confirm(t, astray).Status)
			astray.ConfirmURL = at + "/cvs" + query
			status := g.Confirm(t, astray).Status
			assert.GreaterOrEqual(t, status, 400, "of cvs_proxy, where there is one")
		})
	}
}

// A block handles the requests that match it, and the rest of the site handles the others.
func TestWebhookOutsideABlockIsRefused(t *testing.T) {
	t.Parallel()
	other := strings.Replace(onlyConfirm, "/cvs/confirm", "/other/confirm", 1)
	for name, directives := range map[string]string{
		"a handle beside":      onlyConfirm + "handle /other/* {\n" + other + "}\nrespond 200",
		"a handle_path beside": onlyConfirm + "handle_path /api/* {\n" + other + "}\nhandle {\nrespond \"app\" 200\n}",
		"a proxy behind":       "route {\n" + onlyConfirm + "handle /x/* {\ncvs_proxy\n}\nreverse_proxy SHOP\n}",
		"nothing that answers": onlyConfirm + "handle /other/* {\n" + other + "}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, i := onSite(t, nil, directives)
			if strings.Contains(directives, "reverse_proxy") { // which prints the URL at DEBUG
				gatewaytest.ExemptLog(g.LogFile)
			}
			at, query, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
			for path, status := range map[string]int{"/cvs/confirm": 200, "/cvs/confirm/": 200, "/cvs/confrim": 404, "/wrong": 404, "/": 404} {
				near := i
				near.ConfirmURL = at + path + query
				a := g.Confirm(t, near)
				assert.Equal(t, status, a.Status, "%s: %s", path, a.Body)
				assert.Equal(t, status == 200, a.Field(t, "accepted"), path)
			}
			if strings.Contains(directives, "/other/confirm") && !strings.Contains(directives, "/api") {
				near := i
				near.ConfirmURL = at + "/other/confirm" + query
				assert.Equal(t, 200, g.Confirm(t, near).Status)
			}
		})
	}
}

// A parameter named like the signature must not hide another request from the log.
func TestRequestWithSignatureParameterIsLogged(t *testing.T) {
	t.Parallel()
	g, i := onSite(t, nil, onlyConfirm+"respond \"admin\" 202\n")
	at, _, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
	assert.Equal(t, 202, g.Do(t, http.MethodGet, at+"/admin/export?cvs_sig=x", "", "").Status)
	assert.Equal(t, 202, g.Do(t, http.MethodPost, at+"/admin/delete?cvs_sig=x", gatewaytest.FormType, "id=imp_uid").Status)
	for method, path := range map[string]string{"GET": "/admin/export", "POST": "/admin/delete"} {
		g.WaitForLine(t, `"msg":"a request with a signature in its URL was passed on","method":"`+method+`","host":"`+strings.TrimPrefix(at, "http://")+`","path":"`+path+`","client_ip":"127.0.0.1"`)
	}
}

// When a site is loaded, the log warns if the site would accept a webhook that misses
// cvs_confirm.
func TestSiteThatAcceptsMissedWebhooksIsWarnedOf(t *testing.T) {
	t.Parallel()
	const (
		anyHost = "http://:8080 {\n"
		overTLS = "https://shop.example:8443 {\ntls internal\n"
		silent  = "a request that no route of this site answers gets an empty 200"
		host    = "a webhook for a Host that no site of this server has"
		block   = "cvs_confirm stands within a block"
	)
	for name, tc := range map[string]struct{ site, warning string }{
		"nothing else":                    {anyHost + onlyConfirm + "}", silent},
		"an app":                          {anyHost + onlyConfirm + "reverse_proxy SHOP\n}", ""},
		"an app for /*":                   {anyHost + onlyConfirm + "reverse_proxy /* SHOP\n}", ""},
		"a page":                          {anyHost + onlyConfirm + "respond 404\n}", ""},
		"an app for some paths":           {anyHost + onlyConfirm + "reverse_proxy /app/* SHOP\n}", silent},
		"middleware only":                 {anyHost + onlyConfirm + "encode gzip\nheader X-A b\n}", silent},
		"files that pass on":              {anyHost + onlyConfirm + "file_server {\npass_thru\n}\n}", silent},
		"the proxy only":                  {anyHost + onlyConfirm + "cvs_proxy\n}", silent},
		"a cvs_notice only":               {anyHost + onlyConfirm + "cvs_notice {\n" + gatewaytest.UsualNotice + "\n}\n}", silent},
		"no cvs_confirm, a cvs_notice":    {anyHost + theNotice + "}", ""},
		"forward_auth only":               {anyHost + onlyConfirm + "forward_auth SHOP {\nuri /a\n}\n}", silent},
		"pages for errors":                {anyHost + onlyConfirm + "reverse_proxy SHOP {\n@e status 500\nhandle_response @e {\nrewrite * /error.html\nfile_server\n}\n}\n}", ""},
		"handles, one for the rest":       {anyHost + onlyConfirm + "handle /a/* {\nreverse_proxy SHOP\n}\nhandle {\nrespond 404\n}\n}", ""},
		"handles, none for the rest":      {anyHost + onlyConfirm + "handle /a/* {\nreverse_proxy SHOP\n}\n}", silent},
		"a handle that answers nothing":   {anyHost + onlyConfirm + "handle /a/* {\nheader X-A b\n}\nhandle {\nrespond 404\n}\n}", silent},
		"no matcher":                      {anyHost + "cvs_confirm {\n" + gatewaytest.UsualConfirm + "\n}\n}", ""},
		"an SPA":                          {anyHost + onlyConfirm + "root /srv\ntry_files {path} /index.html\nfile_server\n}", ""},
		"PHP":                             {anyHost + onlyConfirm + "root /srv\nphp_fastcgi unix//run/php.sock\nfile_server\n}", ""},
		"one Host only":                   {"http://shop.example:8080 {\n" + onlyConfirm + "respond 404\n}", host},
		"one Host, and the rest":          {"http://shop.example:8080 {\n" + onlyConfirm + "respond 404\n}\n" + anyHost + "respond 404\n}", ""},
		"one Host with TLS":               {overTLS + onlyConfirm + "respond 404\n}", ""},
		"one Host with TLS, nothing else": {overTLS + onlyConfirm + "}", silent},
		"another site of the server":      {overTLS + onlyConfirm + "respond 404\n}\nhttps://other.example:8443 {\ntls internal\nrespond /health 200\n}", ""},
		"a wildcard":                      {"https://*.shop.example:8443 {\ntls internal\n@a host a.shop.example\nhandle @a {\n" + onlyConfirm + "reverse_proxy SHOP\n}\nhandle {\nabort\n}\n}", ""},
		"a named route":                   {"&(app) {\nrespond 404\n}\n" + anyHost + onlyConfirm + "invoke app\n}", ""},
		"a named route of itself":         {"&(again) {\n@x path /x/*\nroute @x {\nuri strip_prefix /x\ninvoke again\n}\nrespond 404\n}\n" + anyHost + onlyConfirm + "invoke again\n}", ""},
		"a handle around it":              {anyHost + "handle /cvs/confirm {\ncvs_confirm {\n" + gatewaytest.UsualConfirm + "\n}\n}\nrespond 404\n}", ""},
		"a handle for its paths":          {anyHost + "handle /cvs/* {\n" + onlyConfirm + "}\nrespond 404\n}", ""},
		"a route around it":               {anyHost + "route {\n" + onlyConfirm + "respond 404\n}\n}", ""},
		"a route for its paths":           {anyHost + "route /cvs/* {\n" + onlyConfirm + "}\nrespond 404\n}", ""},
		"a handle in a named route":       {"&(shop) {\nhandle /cvs/* {\n" + onlyConfirm + "}\nrespond 404\n}\n" + anyHost + "invoke shop\n}", block},
		"no cvs_confirm":                  {anyHost + "respond /a 404\n}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
			global, _, _ := strings.Cut(config, g.Inside)
			global = strings.Replace(global, "auto_https off", "auto_https disable_redirects\nskip_install_trust\nstorage file_system "+t.TempDir(), 1)
			gatewaytest.Provisioned(t, gatewaytest.Adapt(t, global+g.Fill(tc.site)), func(ctx caddy.Context) {
				app, err := ctx.App("cvs")
				require.NoError(t, err)
				require.NoError(t, app.(*App).Start())
			})
			for _, warning := range []string{silent, host, block} {
				assert.Equal(t, warning == tc.warning, strings.Contains(g.Log(t), warning), "%s: %s", warning, g.Log(t))
			}
		})
	}
}

// The log warns of a check that accepts by its status alone, unless it is a shadow.
func TestChecksWithoutAConditionAreWarnedOf(t *testing.T) {
	t.Parallel()
	const warning = "this order check has no condition"
	for confirm, warns := range map[string]bool{
		"order_check SHOP/x":                                                         true,
		"order_check {\nroute {\nrespond 200\n}\n}":                                  true,
		"order_check SHOP/x {\nrequire payable true\n}":                              false,
		"order_check SHOP/x {\namount total\n}":                                      false,
		"order_check SHOP/x {\namount total\n}\norder_check SHOP/y {\nshadow\n}":     false,
		"order_check SHOP/x {\namount total\n}\norder_check SHOP/y {\nname other\n}": true,
	} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: confirm})
		g.MustIssue(t, "order-1")
		assert.Equal(t, warns, strings.Contains(g.Log(t), warning), confirm)
	}
}

// An acceptance without an answer of a check is logged as a warning.
func TestAcceptanceWithoutAnAnswerIsWarnedOf(t *testing.T) {
	t.Parallel()
	for answerOf, level := range map[int]string{200: "info", 500: "warn"} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "on_error accept\norder_check SHOP/x", Payable: gatewaytest.AnswerWith(answerOf, "")})
		require.Equal(t, 200, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
		g.WaitForLine(t, `"msg":"confirm webhook"`)
		for line := range strings.Lines(g.Log(t)) {
			if strings.Contains(line, `"msg":"confirm webhook"`) {
				assert.Contains(t, line, fmt.Sprintf(`"level":%q`, level), line)
			}
		}
	}
}
