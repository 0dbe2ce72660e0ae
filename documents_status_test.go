package caddycvs

// This file holds the test of what the documents show of the gateway's state.

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// steadyState replaces what differs from one run to another by the documents' values.
func steadyState(t *testing.T, body string) string {
	t.Helper()
	for _, value := range [][2]string{
		{`("valid_until":)"[^"]+Z"`, `$1"2026-11-27T05:31:07Z"`},
		{`("at":)"[^"]+Z"`, `$1"2026-11-27T04:58:12Z"`},
		{`("since":)"[^"]+Z",("pending")`, `$1"2026-11-20T23:00:01Z",$2`},
		{`("oldest_pending":)"[^"]+Z"`, `$1"2026-11-27T05:03:44Z"`},
		{`("since":)"[^"]+Z"}`, `$1"2026-11-20T23:00:00Z"}`},
		{`("ok":)\d+`, "${1}5120"},
		{`("accepted":)\d+`, "${1}1874"},
		{`("kept":)\d+`, "${1}1902"},
		{`("heard":)\d+`, "${1}1871"},
		{`("(refused|invalid|unanswered|failed|left|not_kept|unheard|withdrawn)":)\d+`, "${1}3"},
	} {
		pattern := regexp.MustCompile(value[0])
		require.Regexp(t, pattern, body)
		body = pattern.ReplaceAllString(body, value[1])
	}
	return strings.NewReplacer(
		`{"name"`, "\n  "+`{"name"`, `"total"`, "\n "+`"total"`, `"ledger"`, "\n "+`"ledger"`, `"handlers"`, "\n "+`"handlers"`,
		`"cvs_`, "\n  "+`"cvs_`, `"tells"`, "\n    "+`"tells"`, `"since":"2026-11-20T23:00:00Z"}`, "\n "+`"since":"2026-11-20T23:00:00Z"}`,
	).Replace(body)
}

// Not parallel, because it uses the one Caddy of the process that can be reloaded.
func TestDocumentsShowTheGatewaysState(t *testing.T) {
	admin := gatewaytest.Address(t)
	inside := "http://" + gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Emulator: emulator.Options{Keys: map[string]string{gatewaytest.Canaries["CVS_TEST_KEY"]: gatewaytest.Canaries["CVS_TEST_SECRET"]}},
		Second:   "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECRET}\napi API",
		Proxy:    gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice",
		Notice:   gatewaytest.UsualNotice,
		Payable: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if strings.HasPrefix(r.URL.Path, "/payments/") {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			_, _ = w.Write([]byte(`{"payable":true,"total":15000}`))
		},
		Sites: inside + " {\ncvs_proxy {\naccount second\n}\n}\n",
	})
	config = strings.Replace(config, "admin off", "admin "+admin, 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	shown := func(path string) string {
		a := g.Do(t, http.MethodGet, "http://"+admin+path, "", "")
		assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
		return strings.TrimSpace(a.Body)
	}
	require.JSONEq(t, `{"ready":true}`, shown("/cvs/ready"))
	_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: g.MustIssue(t, "order-1").Barcode})
	require.NoError(t, err)
	g.WaitForLine(t, `"msg":"tell"`)
	assert.Equal(t, 502, g.Do(t, http.MethodGet, inside+"/payments/imp_1", "", "").Status)

	for _, want := range []string{
		"\n```http\n200 OK\nContent-Type: application/json\n\n" + steadyState(t, shown("/cvs/status")) + "\n```\n",
		"\n```http\n503 Service Unavailable\nContent-Type: application/json\n\n" + shown("/cvs/ready") + "\n```\n",
	} {
		if !strings.Contains(documents(t), want) {
			t.Errorf("the documents do not show:\n%s", want)
		}
	}
	status := runCvs(t, "status", "--address", admin)
	assert.Equal(t, 1, status.code)
	if want := "\n```\n$ caddy cvs status\n" + steadyText(t, status.out) + "```\n"; !strings.Contains(documents(t), want) {
		t.Errorf("the documents do not show:\n%s", want)
	}
}

// steadyText is steadyState for what caddy cvs status prints.
func steadyText(t *testing.T, out string) string {
	t.Helper()
	const stamp = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d`
	for _, value := range [][2]string{
		{`(valid until )` + stamp, "${1}2026-11-27 14:31:07 +09:00"},
		{`(last at )` + stamp, "${1}2026-11-27 13:58:12 +09:00"},
		{`(up since )` + stamp, "${1}2026-11-21 08:00:01 +09:00"},
		{`(counted +since )` + stamp, "${1}2026-11-21 08:00:00 +09:00"},
		{`(ok )\d+`, "${1}5120"},
		{`(accepted )\d+`, "${1}1874"},
		{`(kept )\d+`, "${1}1902"},
		{`(heard )\d+`, "${1}1871"},
		{`((?: |, )(?:refused|invalid|unanswered|failed|left|not_kept|unheard|withdrawn) )\d+`, "${1}3"},
	} {
		pattern := regexp.MustCompile(value[0])
		require.Regexp(t, pattern, out)
		out = pattern.ReplaceAllString(out, value[1])
	}
	return out
}
