package caddycvs

// This file holds tests of whole sites, as people write them, with other directives beside
// cvs_confirm.

import (
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// fastCGI serves a handler over FastCGI, as php-fpm does, and returns its address.
func fastCGI(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() { _ = fcgi.Serve(l, h) }()
	return l.Addr().String()
}

// webRoot returns a directory with files of these names.
func webRoot(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte("<?php"), 0o600))
	}
	return root
}

// The route of a check sees the values that the site's directives have set by then.
func TestRouteOfACheckSeesTheSite(t *testing.T) {
	t.Parallel()
	root := webRoot(t, "confirm.php", "index.php")
	php := fastCGI(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"payable":true,"script":%q}`, fcgi.ProcessEnv(r)["SCRIPT_FILENAME"])
	})
	for name, c := range map[string]struct{ site, route, require string }{
		"root, for php_fastcgi": {"root " + root, "rewrite /confirm.php\nphp_fastcgi " + php, "script " + root + "/confirm.php"},
		"root, for files":       {"root " + root, "try_files /confirm.php\nrespond \"{\\\"path\\\":\\\"{path}\\\"}\"", "path /confirm.php"},
		"vars":                  {"vars shop flowers", `respond "{\"shop\":\"{vars.shop}\"}"`, "shop flowers"},
		"vars of a matcher":     {"vars shop flowers", "@flowers vars {vars.shop} flowers\nrespond @flowers `{\"ok\":true}`\nrespond 500", "ok true"},
		"vars that it changes":  {"vars shop flowers", "vars shop books\nrespond \"{\\\"shop\\\":\\\"{vars.shop}\\\"}\"", "shop books"},
		"map":                   {"map {host} {tenant} {\n127.0.0.1 flowers\ndefault none\n}", `respond "{\"tenant\":\"{tenant}\"}"`, "tenant flowers"},
		"client_ip":             {"", `respond "{\"ip\":\"{client_ip}\"}"`, "ip 127.0.0.1"},
		"its own request":       {"", `respond "{\"method\":\"{method}\",\"query\":\"{query}\",\"order\":\"{http.cvs.merchant_uid}\"}"`, "order order-1\nrequire query \"\"\nrequire method POST"},
		"env":                   {"", `respond "{\"key\":\"{env.CVS_TEST_INTERNAL_KEY}\"}"`, "key " + gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, i := onSite(t, nil, c.site+"\ncvs_confirm /cvs/confirm {\norder_check {\nrequire "+c.require+"\nroute {\n"+c.route+"\n}\n}\n}\nrespond 404")
			a := g.Confirm(t, i)
			assert.Equal(t, 200, a.Status, "%s\n%s", a.Body, g.LazyLog(t))
		})
	}
}

// A route can send a check over any protocol that Caddy has.
func TestRouteOfACheckReachesUnixAndTLS(t *testing.T) {
	t.Parallel()
	dir := gatewaytest.ShortDir(t)
	unix, err := net.Listen("unix", filepath.Join(dir, "shop.sock"))
	require.NoError(t, err)
	shop := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"payable":%v,"total":15000}`, r.Header.Get("X-Cvs-Merchant-Uid") == "yes")
	})
	server := &http.Server{Handler: shop, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(unix) }()
	t.Cleanup(func() { _ = server.Close() })
	overTLS := httptest.NewTLSServer(shop)
	t.Cleanup(overTLS.Close)
	authority := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: overTLS.Certificate().Raw}), 0o600))
	for name, route := range map[string]string{
		"unix": "reverse_proxy unix/" + unix.Addr().String(),
		"TLS":  "reverse_proxy " + overTLS.URL + " {\ntransport http {\ntls_trust_pool file " + authority + "\n}\n}",
	} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "order_check {\nrequire payable true\namount total\nroute {\n" + route + "\n}\n}"})
		for order, status := range map[string]int{"yes": 200, "no": 409} {
			a := g.Confirm(t, g.MustIssue(t, order))
			assert.Equal(t, status, a.Status, "%s: %s", name, a.Body)
		}
	}
}

// shape is a whole site, as people write it. In it CONFIRM stands for a cvs_confirm, CHECK for
// the address of its order check, SITE for the site's own address, APP and PHP for the shop's
// app, and WEBROOT for its files.
type shape struct {
	name string
	site string
	path string // of cvs_confirm; default /cvs/confirm
}

const guardedCheck = `unsigned reject
		timeout 1s
		order_check CHECK/orders/{http.cvs.merchant_uid}/payable {
			timeout 200ms
			require payable true
			amount total
		}`

var shapes = []shape{
	{name: "`cvs_confirm` and nothing else", site: "CONFIRM"},
	{name: "`reverse_proxy`", site: "CONFIRM\nreverse_proxy APP"},
	{name: "WordPress: `php_fastcgi`, `file_server`", site: "root WEBROOT\nCONFIRM\nphp_fastcgi PHP\nfile_server"},
	{name: "Laravel: `try_files {path} /index.php?{query}`, `php_fastcgi`", site: "root WEBROOT\nCONFIRM\ntry_files {path} /index.php?{query}\nphp_fastcgi PHP"},
	{name: "an SPA: `try_files {path} /index.html`, `file_server`", site: "root WEBROOT\nCONFIRM\ntry_files {path} /index.html\nfile_server"},
	{name: "`rewrite * /index.php`", site: "CONFIRM\nrewrite * /index.php\nreverse_proxy APP"},
	{name: "`method GET`", site: "CONFIRM\nmethod GET\nreverse_proxy APP"},
	{name: "`basic_auth` on the whole site", site: "basic_auth {\nshop $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\nCONFIRM\nreverse_proxy APP"},
	{name: "`redir` to other paths", site: "CONFIRM\nredir https://shop.example{uri}"},
	{name: "`respond 200` for the rest", site: "CONFIRM\nrespond \"the shop\" 200"},
	{name: "`respond 404` for the rest", site: "CONFIRM\nrespond 404"},
	{name: "`handle_errors` that answers 200", site: "CONFIRM\nerror 404\nhandle_errors {\nrespond \"sorry\" 200\n}"},
	{name: "`encode`, `header`", site: "encode gzip\nheader X-Frame-Options DENY\nCONFIRM\nreverse_proxy APP"},
	{name: "`intercept` that answers 200", site: "intercept {\n@any status 4xx 5xx\nhandle_response @any {\nrespond \"sorry\" 200\n}\n}\nCONFIRM\nreverse_proxy APP"},
	{name: "`route` with such an `intercept` before it", site: "route {\nintercept {\n@any status 4xx 5xx\nhandle_response @any {\nrespond \"sorry\" 200\n}\n}\nCONFIRM\nreverse_proxy APP\n}"},
	{name: "`handle /cvs/*` around it, an app in `handle`", site: "handle /cvs/* {\nCONFIRM\n}\nhandle {\nreverse_proxy APP\n}"},
	{name: "`handle_path /shop/*` around it, an app for the rest", site: "handle_path /shop/* {\nCONFIRM\n}\nreverse_proxy APP", path: "/shop/cvs/confirm"},
	{name: "`route` around all of it", site: "route {\nCONFIRM\nreverse_proxy APP\n}"},
	{name: "`route /cvs/*` in a `handle`, an app for the rest", site: "handle {\nroute /cvs/* {\nCONFIRM\n}\nreverse_proxy APP\n}"},
	{name: "`cvs_proxy` on the same site", site: "cvs_proxy {\nconfirm_url SITE/cvs/confirm\n}\nCONFIRM\nreverse_proxy APP"},
	{name: "a wildcard site, its shop in `handle @shop`", site: "@shop host 127.0.0.1\nhandle @shop {\nCONFIRM\nreverse_proxy APP\n}\nhandle {\nrespond 200\n}"},
	{name: "a named route, by `invoke`", site: "invoke shop"},
}

// site is a shape that was started.
type site struct {
	*gatewaytest.Gateway
	at string
}

func startShape(t *testing.T, s shape, check string) (*site, string) {
	t.Helper()
	app := fastCGI(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<h1>the shop</h1>") })
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<h1>the shop</h1>") }))
	t.Cleanup(page.Close)
	at := "http://" + gatewaytest.Address(t)
	path := s.path
	if path == "" {
		path = "/cvs/confirm"
	}
	fill := strings.NewReplacer("CONFIRM", "cvs_confirm /cvs/confirm {\n"+guardedCheck+"\n}", "SITE", at)
	values := strings.NewReplacer("CHECK", check, "APP", page.URL, "WEBROOT", webRoot(t, "index.php", "index.html"), "PHP", app)
	named := "&(shop) {\n" + fill.Replace("CONFIRM\nreverse_proxy APP") + "\n}\n"
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Proxy: "confirm_url " + at + path,
		Sites: values.Replace(named + at + " {\nlog {\noutput file LOGS\n}\n" + fill.Replace(s.site) + "\n}\n"),
	})
	gatewaytest.ExemptLog(g.LogFile) // reverse_proxy prints the URLs of webhooks that went astray, at DEBUG
	g.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{g, at}, path
}

// tableCell describes an answer as the reference's table does: its status, and whether the site
// itself gave it.
func tableCell(a gatewaytest.Answer) string {
	if strings.HasPrefix(a.Body, `{"accepted":`) {
		return strconv.Itoa(a.Status)
	}
	return "the site's " + strconv.Itoa(a.Status)
}

// On each shape an acceptance is answered 200, a refusal 409, a check that hangs 504, and a
// check that is down 503. A path that differs only in slashes or case is answered as well, and
// a wrong path is 404, whatever the site would answer.
func TestShapesOfSites(t *testing.T) {
	t.Parallel()
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/orders/yes/payable":
			fmt.Fprint(w, `{"payable":true,"total":15000}`)
		case "/orders/no/payable":
			fmt.Fprint(w, `{"payable":false,"total":15000,"reason":"sold out"}`)
		default:
			<-r.Context().Done()
		}
	}))
	t.Cleanup(shop.Close)
	rows := make([]string, len(shapes))
	t.Run("each", func(t *testing.T) {
		for n, s := range shapes {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				here, path := startShape(t, s, shop.URL)
				down, _ := startShape(t, s, "http://"+gatewaytest.Address(t))
				rows[n] = here.row(t, s.name, path, down)
			})
		}
	})
	table := "| site | yes | no | hung | down | near | wrong | wrong, unsigned |\n|---|---|---|---|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
	compareWithDocument(t, "docs/reference.md", "sites", table)
}

func (s *site) row(t *testing.T, name, path string, down *site) string {
	t.Helper()
	send := func(on *site, i gatewaytest.Issued, to string) gatewaytest.Answer {
		_, query, _ := strings.Cut(i.ConfirmURL, "?")
		i.ConfirmURL = on.at + to
		if query != "" {
			i.ConfirmURL += "?" + query
		}
		a := on.Confirm(t, i)
		assert.False(t, a.Status == 200 && i.MerchantUID != "yes" && query != "", "%s: %s of %s: accepted by %s", name, to, i.MerchantUID, a.Body)
		return a
	}
	yes, no, hung := s.MustIssue(t, "yes"), s.MustIssue(t, "no"), s.MustIssue(t, "hung")
	near := make(map[string]bool)
	for _, to := range []string{path + "/", strings.Replace(path, "/cvs/", "//cvs//", 1), strings.ToUpper(path)} {
		for _, i := range []gatewaytest.Issued{yes, no} {
			a := send(s, i, to)
			near[tableCell(a)] = true
			assert.Contains(t, []int{200, 404, 409}, a.Status, to)
		}
	}
	for _, i := range []gatewaytest.Issued{yes, no} {
		for _, to := range []string{"/", "/wrong", path + "/x", "/confirm.php", "/index.php", "/cvs/notice"} {
			a := send(s, i, to)
			assert.GreaterOrEqual(t, a.Status, 400, "%s: %s: %s", name, to, a.Body) // cvs_proxy has words of its own
		}
	}
	unsigned := yes
	unsigned.ConfirmURL = s.at
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |", name,
		tableCell(send(s, yes, path)), tableCell(send(s, no, path)), tableCell(send(s, hung, path)), tableCell(send(down, down.MustIssue(t, "yes"), path)),
		strings.Join(slices.Sorted(maps.Keys(near)), ", "), tableCell(send(s, yes, "/wrong")), tableCell(send(s, unsigned, "/wrong")))
}
