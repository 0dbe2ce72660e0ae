package caddycvs

// This file holds tests of cvs_sandbox and of the command that starts one.

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestSandboxCommandServesAPIAndTill(t *testing.T) {
	addr := gatewaytest.Address(t)
	url, err := startSandbox(addr)
	require.NoError(t, err)
	assert.Equal(t, "http://"+addr, url)
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	g := &gatewaytest.Gateway{HTTP: gatewaytest.HTTPClient(t)}
	assert.Equal(t, 200, g.Do(t, http.MethodPost, "http://"+addr+"/users/getToken", gatewaytest.FormType, "imp_key=any&imp_secret=any").Status)

	page := g.Do(t, http.MethodGet, "http://"+addr+"/till", "", "")
	assert.Equal(t, 200, page.Status)
	assert.Contains(t, page.Body, "<h1>")

	_, err = startSandbox(addr)
	require.ErrorContains(t, err, "starting the sandbox on "+addr+": ")
	require.ErrorContains(t, err, "choose another address with --listen")
	for listen, want := range map[string]string{
		"not an address:": "", "192.0.2.1:80": "choose another address", "tcp/127.0.0.1:0-99999": "",
		":0": "need one TCP port", ":8480-8482": "need one TCP port", "unix//tmp/sandbox.sock": "need one TCP port", "udp/:8480": "need one TCP port",
	} {
		_, err := startSandbox(listen)
		require.ErrorContains(t, err, "starting the sandbox on "+listen+": ")
		require.ErrorContains(t, err, want)
	}
	assert.Contains(t, caddycmd.Commands(), "cvs-sandbox")
	require.NoError(t, refuseArguments(nil))
	assert.ErrorContains(t, refuseArguments([]string{":8480"}), `and there is ":8480"`)
}

// The printed URL can be opened, whatever address the sandbox listens on.
func TestSandboxPrintsItsURL(t *testing.T) {
	t.Parallel()
	_, port, err := net.SplitHostPort(gatewaytest.Address(t))
	require.NoError(t, err)
	for listen, want := range map[string]string{
		":" + port: "http://localhost:" + port, "0.0.0.0:" + port: "http://localhost:" + port, "[::]:" + port: "http://localhost:" + port,
		"127.0.0.1:" + port: "http://127.0.0.1:" + port, "localhost:" + port: "http://localhost:" + port, "tcp/127.0.0.1:" + port: "http://127.0.0.1:" + port,
	} {
		url, err := sandboxURL(listen)
		require.NoError(t, err)
		assert.Equal(t, want, url)
	}
}

// Each option of the sandbox changes what an app sees.
func TestSandboxOptionsChangeItsAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options string
		amount  string
		shown   any
		status  int // of a look-up without include_sandbox
		notices int
		media   string // of the notices
	}{
		"default": {"", "15000", 15000.0, 404, 1, "application/json"},
		"others":  {"channel live\nfractions round\ncancel_notices\nnotices form", "15000.4", 15000.0, 200, 2, gatewaytest.FormType},
		"keep":    {"fractions keep\nnotices json", "15000.4", 15000.4, 404, 1, "application/json"},
		"refuse":  {"fractions refuse\nchannel test", "15000.4", nil, 404, 0, ""},
	} {
		notices := make(chan string, 2)
		shop := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			notices <- r.URL.Path + " " + r.Header.Get("Content-Type")
		}))
		t.Cleanup(shop.Close)
		site := "http://" + gatewaytest.Address(t)
		g := gatewaytest.Start(t, gatewaytest.Setup{Sites: site + " {\ncvs_sandbox {\n" + c.options + "\n}\n}\n"})
		token := g.Do(t, http.MethodPost, site+"/users/getToken", gatewaytest.FormType, "imp_key=k&imp_secret=s").Payment(t)["access_token"].(string)
		ask := func(method, path, body string) gatewaytest.Answer {
			r, err := http.NewRequestWithContext(t.Context(), method, site+path, strings.NewReader(body))
			require.NoError(t, err)
			r.Header = http.Header{"Content-Type": {gatewaytest.FormType}, "Authorization": {token}}
			return g.Send(t, r)
		}
		issued := ask(http.MethodPost, "/cvs", "merchant_uid=order-1&amount="+c.amount+"&notice_url="+shop.URL+"/notice")
		if c.shown == nil {
			assert.Equal(t, 400, issued.Status, name)
			continue
		}
		p := issued.Payment(t)
		assert.Equal(t, c.shown, p["amount"], name)
		assert.Equal(t, c.status, ask(http.MethodGet, "/payments/"+p["imp_uid"].(string), "").Status, name)
		require.Equal(t, 200, g.Do(t, http.MethodPost, site+"/till", gatewaytest.FormType, "pay_type=cash&barcode="+p["vbank_num"].(string)).Status)
		require.Equal(t, 200, ask(http.MethodPost, "/payments/cancel", "imp_uid="+p["imp_uid"].(string)).Status)
		for range c.notices {
			assert.Equal(t, "/notice "+c.media, <-notices, name)
		}
	}
}

// The till shows whether the gateway beside it is ready. It makes the gateway fetch nothing.
func TestTillShowsTheGateway(t *testing.T) {
	t.Parallel()
	site := "http://" + gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{Sites: site + " {\ncvs_sandbox\n}\n"})
	till := func() string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+"/till", nil)
		require.NoError(t, err)
		r.Header.Set("Accept-Language", "en")
		return g.Send(t, r).Body
	}
	assert.Contains(t, till(), "<strong>Gateway</strong>: ready")
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Code: 1}))
	assert.Equal(t, 503, g.Issue(t, "order-1").Status)
	page := till()
	assert.Contains(t, page, "<strong>Gateway</strong>: not ready")
	assert.Contains(t, page, "<li>No access token: the API refuses</li>")
	fetches := g.API.Requests(emulator.EndpointToken)
	g.API.ClearFaults()
	for range 3 {
		till()
	}
	assert.Equal(t, fetches, g.API.Requests(emulator.EndpointToken))

	alone := "http://" + gatewaytest.Address(t)
	gatewaytest.Run(t, "{\nadmin off\npersist_config off\nauto_https off\n}\n"+alone+" {\ncvs_sandbox\n}\n")
	site = alone
	assert.NotContains(t, till(), "<strong>Gateway</strong>")
}
