package caddycvs

// This file holds tests of whole sites, as people write them, with what stands around
// cvs_confirm.

import (
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fastCGI serves a responder as php-fpm would, and returns its address.
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

// The route of a check sees what the site's directives have set, as it is then.
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
		"env":                   {"", `respond "{\"key\":\"{env.CVS_TEST_INTERNAL_KEY}\"}"`, "key " + canaries["CVS_TEST_INTERNAL_KEY"]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, i := onSite(t, nil, c.site+"\ncvs_confirm /cvs/confirm {\norder_check {\nrequire "+c.require+"\nroute {\n"+c.route+"\n}\n}\n}\nrespond 404")
			a := g.confirm(t, i)
			assert.Equal(t, 200, a.status, "%s\n%s", a.body, logText{g, t})
		})
	}
}
