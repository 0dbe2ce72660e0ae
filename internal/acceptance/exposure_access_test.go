package acceptance

// This file holds tests of who may call cvs_proxy: peers, proxies in front of it, sockets
// and browsers.

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestProxyRejectsPublicClientBehindTrustedProxy(t *testing.T) {
	t.Parallel()
	const trusting = "servers {\ntrusted_proxies static 127.0.0.1/32\n"
	g := gatewaytest.Start(t, gatewaytest.Setup{Globals: trusting + "}"})
	named := gatewaytest.Start(t, gatewaytest.Setup{Globals: trusting + "client_ip_headers X-Shop-Client X-Forwarded-For\n}"})
	for name, c := range map[string]struct {
		g      *gatewaytest.Gateway
		header http.Header
		status int
	}{
		"two fields, private":          {g, http.Header{"X-Forwarded-For": {"10.0.0.7", "10.0.0.8"}}, 200},
		"two fields, one public":       {g, http.Header{"X-Forwarded-For": {"10.0.0.7", "203.0.113.9"}}, 403},
		"public in the middle":         {g, http.Header{"X-Forwarded-For": {"10.0.0.7, 203.0.113.9, 10.0.0.8"}}, 403},
		"private IPv6":                 {g, http.Header{"X-Forwarded-For": {"fd00::1"}}, 200},
		"public IPv6":                  {g, http.Header{"X-Forwarded-For": {"2001:db8::1"}}, 403},
		"public IPv6 with port":        {g, http.Header{"X-Forwarded-For": {"10.0.0.7, [2001:db8::1]:443"}}, 403},
		"public with port":             {g, http.Header{"X-Forwarded-For": {"10.0.0.7, 203.0.113.9:443"}}, 403},
		"public, mapped":               {g, http.Header{"X-Forwarded-For": {"::ffff:203.0.113.9"}}, 403},
		"octal":                        {g, http.Header{"X-Forwarded-For": {"012.0.0.1"}}, 403},
		"short":                        {g, http.Header{"X-Forwarded-For": {"127.1"}}, 403},
		"a range":                      {g, http.Header{"X-Forwarded-For": {"10.0.0.0/8"}}, 403},
		"a zone":                       {g, http.Header{"X-Forwarded-For": {"fe80::1%eth0"}}, 403},
		"quoted":                       {g, http.Header{"X-Forwarded-For": {`"10.0.0.1"`}}, 403},
		"words beside private":         {g, http.Header{"X-Forwarded-For": {"10.0.0.7, unknown"}}, 403},
		"semicolons":                   {g, http.Header{"X-Forwarded-For": {"10.0.0.7; 203.0.113.9"}}, 403},
		"a field of its own":           {named, http.Header{"X-Shop-Client": {"10.0.0.1"}}, 200},
		"a field of its own, public":   {named, http.Header{"X-Shop-Client": {"203.0.113.9"}}, 403},
		"public in the second of two":  {named, http.Header{"X-Shop-Client": {"10.0.0.1"}, "X-Forwarded-For": {"203.0.113.9"}}, 403},
		"public in the first of two":   {named, http.Header{"X-Shop-Client": {"203.0.113.9"}, "X-Forwarded-For": {"10.0.0.1"}}, 403},
		"words in both":                {named, http.Header{"X-Shop-Client": {"me"}, "X-Forwarded-For": {"you"}}, 403},
		"a host does not make private": {g, http.Header{"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Host": {"127.0.0.1"}}, 403},
	} {
		assert.Equal(t, c.status, c.g.GetToken(t, c.g.Inside, c.header), name)
	}
}

// proxied is a header of the PROXY protocol. It gives a request any peer address.
func proxied(from string) string {
	family := "4"
	if strings.Contains(from, ":") {
		family = "6"
	}
	return "PROXY TCP" + family + " " + from + " " + map[string]string{"4": "127.0.0.1", "6": "::1"}[family] + " 4000 80\r\n"
}

func acceptingPROXY(from, options string) string {
	return "servers {\nlistener_wrappers {\nproxy_protocol {\nallow " + from + "\n}\n}\n" + options + "\n}"
}

func TestProxyRejectsPublicPeer(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Globals: acceptingPROXY("127.0.0.1/32", "")})
	ignoring := gatewaytest.Start(t, gatewaytest.Setup{Globals: acceptingPROXY("192.0.2.0/24", ""), Proxy: "allow 10.0.0.0/8"})
	for name, c := range map[string]struct {
		g              *gatewaytest.Gateway
		preface, field string
		status         int
	}{
		"nothing told":        {g, "", "", 200},
		"private":             {g, proxied("10.0.0.7"), "", 200},
		"public":              {g, proxied("203.0.113.9"), "", 403},
		"public IPv6":         {g, proxied("2001:db8::1"), "", 403},
		"public and spoofing": {g, proxied("203.0.113.9"), "X-Forwarded-For: 10.0.0.7\r\n", 403},
		"private, forwarding": {g, proxied("10.0.0.7"), "X-Forwarded-For: 10.0.0.7\r\n", 403},
		"told by a stranger":  {ignoring, proxied("10.0.0.7"), "", 403},
	} {
		for _, path := range []string{"/users/getToken", "/cvs"} {
			raw := c.preface + "POST " + path + " HTTP/1.1\r\nHost: " + gatewaytest.Host(c.g.Inside) + "\r\nConnection: close\r\nContent-Type: " + gatewaytest.FormType + "\r\n" + c.field +
				"Content-Length: 29\r\n\r\nmerchant_uid=order-1&amount=1"
			assert.Equal(t, []int{c.status}, gatewaytest.Statuses(gatewaytest.SendRaw(t, "tcp", gatewaytest.Host(c.g.Inside), raw)), "%s %s", name, path)
		}
	}
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointIssue))
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointPayment), "the same order again")
	assert.Zero(t, ignoring.API.Requests(emulator.EndpointAll))
}

func TestProxyRejectsPublicClientOfAnotherSite(t *testing.T) {
	t.Parallel()
	fields := map[string]string{
		"none": "", "spoofed": "X-Forwarded-For: 10.0.0.7\r\nForwarded: for=10.0.0.7\r\nX-Real-IP: 10.0.0.7\r\n",
		// A field that Connection names is dropped by a proxy before it passes the request on.
		"nominated": "Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Via\r\nX-Forwarded-For: 10.0.0.7\r\n",
	}
	for trusted, want := range map[string]map[string]int{
		"":                                    {"10.0.0.7": 403, "203.0.113.9": 403},
		"trusted_proxies static 127.0.0.1/32": {"10.0.0.7": 200, "203.0.113.9": 403, "2001:db8::1": 403},
		"trusted_proxies static private_ranges\ntrusted_proxies_strict": {"203.0.113.9": 403, "2001:db8::1": 403},
	} {
		front := gatewaytest.Address(t)
		g := gatewaytest.Start(t, gatewaytest.Setup{
			Globals: acceptingPROXY("127.0.0.1/32", trusted),
			Sites:   "http://" + front + " {\nreverse_proxy INSIDE {\nheader_up Host {upstream_hostport}\n}\n}\n",
		})
		for from, status := range want {
			for name, field := range fields {
				raw := proxied(from) + "POST /users/getToken HTTP/1.1\r\nHost: " + front + "\r\nContent-Length: 0\r\n" + field
				if name != "nominated" {
					raw += "Connection: close\r\n"
				}
				assert.Equal(t, []int{status}, gatewaytest.Statuses(gatewaytest.SendRaw(t, "tcp", front, raw+"\r\n")), "%q, %s from %s", trusted, name, from)
			}
		}
		assert.Zero(t, g.API.Requests(emulator.EndpointAll))
	}
}

func TestProxyOnUnixSocketVerifiesForwardedClient(t *testing.T) {
	t.Parallel()
	dir := gatewaytest.ShortDir(t)
	for globals, want := range map[string]map[string]int{
		"": {"": 200, "X-Forwarded-For: 10.0.0.1\r\n": 403, "X-Forwarded-For: 203.0.113.9\r\n": 403, "Forwarded: for=127.0.0.1\r\n": 403},
		// With trusted_proxies_unix a proxy uses the socket, and must name the client.
		"servers {\ntrusted_proxies_unix\n}": {
			"": 403, "X-Forwarded-For: 10.0.0.1\r\n": 200, "X-Forwarded-For: 203.0.113.9\r\n": 403,
			"X-Forwarded-For: 10.0.0.1, 203.0.113.9\r\n": 403, "X-Forwarded-For: @\r\n": 403, "X-Real-IP: 127.0.0.1\r\n": 403,
		},
	} {
		socket := filepath.Join(dir, strconv.Itoa(len(globals)))
		gatewaytest.Start(t, gatewaytest.Setup{Globals: globals, Sites: "http://socket {\nbind unix/" + socket + "\ncvs_proxy\n}\n"})
		for field, status := range want {
			raw := "POST /users/getToken HTTP/1.1\r\nHost: socket\r\nConnection: close\r\nContent-Length: 0\r\n" + field + "\r\n"
			assert.Equal(t, []int{status}, gatewaytest.Statuses(gatewaytest.SendRaw(t, "unix", socket, raw)), "%q with %q", globals, field)
		}
	}
}

// Caddy skips an address that it cannot parse, and would trust the one before it, which the
// client may have forged.
func TestProxyRejectsUnreadableForwardedAddress(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Globals: "servers {\ntrusted_proxies static 127.0.0.1/32\ntrusted_proxies_strict\n}"})
	for _, list := range []string{"10.0.0.7, unknown", "10.0.0.7, unix:", "10.0.0.7, [2001:db8::1]:443", "10.0.0.7, [2001:db8::1]", "unknown"} {
		assert.Equal(t, 403, g.GetToken(t, g.Inside, http.Header{"X-Forwarded-For": {list}}), list)
	}
	for _, list := range []string{"203.0.113.9, 10.0.0.7", "203.0.113.9:80,10.0.0.7:99", "fd00::1"} {
		assert.Equal(t, 200, g.GetToken(t, g.Inside, http.Header{"X-Forwarded-For": {list}}), list)
	}
}

// The trusted proxy sends the client's address in a field that Caddy does not read.
func TestProxyRejectsForwardingFieldThatCaddyIgnores(t *testing.T) {
	t.Parallel()
	for strict, untold := range map[string]int{"": 200, "trusted_proxies_strict\n": 403} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Globals: "servers {\ntrusted_proxies static 127.0.0.1/32\n" + strict + "}"})
		for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"} {
			assert.Equal(t, 403, g.GetToken(t, g.Inside, http.Header{name: {"203.0.113.9"}}), name)
		}
		assert.Equal(t, 403, g.GetToken(t, g.Inside, http.Header{"X-Forwarded-For": {"10.0.0.7"}, "X-Real-Ip": {"203.0.113.9"}}), "nginx that sets the one and lets the other through")
		assert.Equal(t, 200, g.GetToken(t, g.Inside, http.Header{"X-Forwarded-For": {"10.0.0.7"}, "X-Real-Ip": {"10.0.0.7"}}))
		assert.Equal(t, untold, g.GetToken(t, g.Inside, http.Header{"X-Forwarded-Proto": {"https"}}))
	}
}

// A web page could make the browser of somebody in the private network send requests.
func TestProxyRejectsBrowsers(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	for _, header := range []http.Header{{"Origin": {"https://evil.example"}}, {"Origin": {"null"}}, {"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-origin"}}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.Inside+"/cvs", strings.NewReader("merchant_uid=order-1&amount=1&confirm_url=https://evil.example/yes"))
		require.NoError(t, err)
		r.Header = header
		r.Header.Set("Content-Type", gatewaytest.FormType)
		assert.Equal(t, 403, g.Send(t, r).Status, "%v", header)
	}
	assert.Empty(t, g.API.Payments())
}
