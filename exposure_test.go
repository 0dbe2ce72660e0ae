package caddycvs

// This file holds the exposure review: who reaches cvs_proxy and through what,
// and what a request, a configured value or an order's number can make the
// gateway send, fetch, keep or tell.

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// host returns a base URL's address.
func host(base string) string { return strings.TrimPrefix(base, "http://") }

// wire sends bytes as they are and returns every answer until the connection
// ends. Of a connection that stays open, the last request must ask for its end.
func wire(t testing.TB, network, address, raw string) []answer {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), network, address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	go io.WriteString(conn, raw) // beside reading: the server may answer before it has read all
	var got []answer
	for r := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return got
		}
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		got = append(got, answer{resp.StatusCode, resp.Header, string(body)})
	}
}

func statuses(answers []answer) []int {
	list := []int{}
	for _, a := range answers {
		list = append(list, a.status)
	}
	return list
}

// ask sends a request that costs the API nothing to a base URL's getToken, where
// only the right to call decides.
func (g *gateway) ask(t testing.TB, base string, header http.Header) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/users/getToken", nil)
	require.NoError(t, err)
	r.Header = header.Clone()
	return g.send(t, r).status
}

// trap is a server that nobody should call.
type trap struct {
	*httptest.Server
	calls atomic.Int32
}

func newTrap(t testing.TB) *trap {
	t.Helper()
	tr := new(trap)
	tr.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { tr.calls.Add(1) }))
	t.Cleanup(tr.Close)
	return tr
}

func TestNoForwardingFieldOfAStrangerPasses(t *testing.T) {
	t.Parallel()
	g := start(t, setup{globals: "servers {\nclient_ip_headers X-Shop-Client\n}"})
	for _, name := range append([]string{"X-Shop-Client"}, forwardingHeaders...) {
		for _, values := range [][]string{{"10.0.0.1"}, {""}, {"10.0.0.1", "10.0.0.2"}, {"for=127.0.0.1;proto=https"}, {"1.1 front"}, {"unknown"}} {
			assert.Equal(t, 403, g.ask(t, g.inside, http.Header{name: values}), "%s: %q", name, values)
			assert.Equal(t, 403, g.ask(t, g.inside, http.Header{strings.ToLower(name): values}), "%s: %q", name, values)
		}
	}
	assert.Equal(t, 200, g.ask(t, g.inside, nil))
}

func TestTrustedProxyCannotBeMadeToVouch(t *testing.T) {
	t.Parallel()
	const trusting = "servers {\ntrusted_proxies static 127.0.0.1/32\n"
	g := start(t, setup{globals: trusting + "}"})
	named := start(t, setup{globals: trusting + "client_ip_headers X-Shop-Client X-Forwarded-For\n}"})
	for name, c := range map[string]struct {
		g      *gateway
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
		assert.Equal(t, c.status, c.g.ask(t, c.g.inside, c.header), name)
	}
}

// proxied is a PROXY protocol's header, which gives a request a peer of any address.
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

func TestPublicAddressMayNotCall(t *testing.T) {
	t.Parallel()
	g := start(t, setup{globals: acceptingPROXY("127.0.0.1/32", "")})
	ignoring := start(t, setup{globals: acceptingPROXY("192.0.2.0/24", ""), proxy: "allow 10.0.0.0/8"})
	for name, c := range map[string]struct {
		g              *gateway
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
			raw := c.preface + "POST " + path + " HTTP/1.1\r\nHost: " + host(c.g.inside) + "\r\nConnection: close\r\nContent-Type: " + formType + "\r\n" + c.field +
				"Content-Length: 29\r\n\r\nmerchant_uid=order-1&amount=1"
			assert.Equal(t, []int{c.status}, statuses(wire(t, "tcp", host(c.g.inside), raw)), "%s %s", name, path)
		}
	}
	assert.Len(t, g.api.Payments(), 2)
	assert.Zero(t, ignoring.api.Requests(emulator.EndpointAll))
}

func TestPublicListenerInFront(t *testing.T) {
	t.Parallel()
	fields := map[string]string{
		"none": "", "spoofed": "X-Forwarded-For: 10.0.0.7\r\nForwarded: for=10.0.0.7\r\nX-Real-IP: 10.0.0.7\r\n",
		// The way to have a proxy drop a field before it passes the request on.
		"nominated": "Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Via\r\nX-Forwarded-For: 10.0.0.7\r\n",
	}
	for trusted, want := range map[string]map[string]int{
		"":                                    {"10.0.0.7": 403, "203.0.113.9": 403},
		"trusted_proxies static 127.0.0.1/32": {"10.0.0.7": 200, "203.0.113.9": 403, "2001:db8::1": 403},
		"trusted_proxies static private_ranges\ntrusted_proxies_strict": {"203.0.113.9": 403, "2001:db8::1": 403},
	} {
		front := address(t)
		g := start(t, setup{
			globals: acceptingPROXY("127.0.0.1/32", trusted),
			sites:   "http://" + front + " {\nreverse_proxy INSIDE {\nheader_up Host {upstream_hostport}\n}\n}\n",
		})
		for from, status := range want {
			for name, field := range fields {
				raw := proxied(from) + "POST /users/getToken HTTP/1.1\r\nHost: " + front + "\r\nContent-Length: 0\r\n" + field
				if name != "nominated" {
					raw += "Connection: close\r\n"
				}
				assert.Equal(t, []int{status}, statuses(wire(t, "tcp", front, raw+"\r\n")), "%q, %s from %s", trusted, name, from)
			}
		}
		assert.Zero(t, g.api.Requests(emulator.EndpointAll))
	}
}

func TestUnixSocketBehindAProxy(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for globals, want := range map[string]map[string]int{
		"": {"": 200, "X-Forwarded-For: 10.0.0.1\r\n": 403, "X-Forwarded-For: 203.0.113.9\r\n": 403, "Forwarded: for=127.0.0.1\r\n": 403},
		// Who trusts its sockets has a proxy behind them, which must say for whom it asks.
		"servers {\ntrusted_proxies_unix\n}": {
			"": 403, "X-Forwarded-For: 10.0.0.1\r\n": 200, "X-Forwarded-For: 203.0.113.9\r\n": 403,
			"X-Forwarded-For: 10.0.0.1, 203.0.113.9\r\n": 403, "X-Forwarded-For: @\r\n": 403, "X-Real-IP: 127.0.0.1\r\n": 403,
		},
	} {
		socket := filepath.Join(dir, strconv.Itoa(len(globals)))
		start(t, setup{globals: globals, sites: "http://socket {\nbind unix/" + socket + "\ncvs_proxy\n}\n"})
		for field, status := range want {
			raw := "POST /users/getToken HTTP/1.1\r\nHost: socket\r\nConnection: close\r\nContent-Length: 0\r\n" + field + "\r\n"
			assert.Equal(t, []int{status}, statuses(wire(t, "unix", socket, raw)), "%q with %q", globals, field)
		}
	}
}

// In 0-RTT data of HTTP/3 nobody has proved yet that the address is theirs.
func TestAddressIsNotBelievedBeforeTheHandshake(t *testing.T) {
	t.Parallel()
	var a access
	a.matcher.Ranges = []string{"127.0.0.1"}
	r := httptest.NewRequest(http.MethodPost, "/cvs", nil)
	r.TLS = new(tls.ConnectionState)
	var refused *httpError
	require.ErrorAs(t, a.verifyAddress(r), &refused)
	assert.Equal(t, http.StatusTooEarly, refused.status)
}

func TestEveryProtocolHasTheSameRules(t *testing.T) {
	t.Parallel()
	certificate, trust := selfSigned(t)
	hasty, in, out, hastyTLS := "http://"+address(t), "https://"+address(t), "https://"+address(t), "https://"+address(t)
	site := func(base, options string) string { return base + " {\n" + options + "\n}\n" }
	confirm := func(options string) string { return "cvs_confirm /cvs/confirm {\n" + options + usualConfirm + "\n}\n" }
	const impatient = "timeout 300ms"
	g := start(t, setup{
		globals: "servers {\nprotocols h1 h2 h2c h3\n}",
		sites: site(hasty, confirm(impatient)) + site(in, certificate+"\ncvs_proxy") + site(out, certificate+"\n"+confirm("")) +
			site(hastyTLS, certificate+"\n"+confirm(impatient)),
	})
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	cleartext := &http.Transport{Protocols: h2c}
	overTLS := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}
	quic := &http3.Transport{TLSClientConfig: trust.Clone()}
	t.Cleanup(func() {
		cleartext.CloseIdleConnections()
		overTLS.CloseIdleConnections()
		_ = quic.Close()
	})
	ways := []struct {
		protocol       string
		client         *http.Client
		in, out, hasty string
	}{
		{"HTTP/1.1", g.http, g.inside, g.outside, hasty},
		{"HTTP/2.0", &http.Client{Transport: cleartext}, g.inside, g.outside, hasty},
		{"HTTP/2.0", &http.Client{Transport: overTLS}, in, out, hastyTLS},
		{"HTTP/3.0", &http.Client{Transport: quic}, in, out, hastyTLS},
	}
	for n, way := range ways {
		protocol, c := way.protocol, way.client
		send := func(target string, body io.Reader, header http.Header) (int, string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, body)
			require.NoError(t, err)
			r.Header = header
			if header.Get("Trailer") != "" {
				r.Header.Del("Trailer")
				r.Trailer = http.Header{"X-Cvs-Amount": {"1"}, "X-Forwarded-For": {"10.0.0.1"}}
			}
			resp, err := c.Do(r)
			require.NoError(t, err, protocol)
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			require.NoError(t, err, protocol)
			require.Equal(t, protocol, resp.Proto)
			return resp.StatusCode, string(answer)
		}
		i := g.mustIssue(t, fmt.Sprintf("order-%d", n))
		i.confirmURL = strings.Replace(i.confirmURL, g.outside, way.out, 1)
		for name, c := range map[string]struct {
			target string
			body   io.Reader
			header http.Header
			status int
		}{
			"issue":             {way.in + "/cvs", strings.NewReader("merchant_uid=a&amount=1"), http.Header{"Content-Type": {formType}}, 200},
			"forwarded":         {way.in + "/cvs", strings.NewReader("merchant_uid=a&amount=1"), http.Header{"Content-Type": {formType}, "X-Forwarded-For": {"10.0.0.1"}}, 403},
			"forwarded, other":  {way.in + "/cvs", strings.NewReader("merchant_uid=a&amount=1"), http.Header{"Content-Type": {formType}, "x-real-ip": {"10.0.0.1"}}, 403},
			"too large":         {way.in + "/cvs", strings.NewReader(strings.Repeat("x", 100_000)), http.Header{"Content-Type": {formType}}, 413},
			"of unknown length": {way.in + "/cvs", io.LimitReader(zeros{}, 70_000), http.Header{"Content-Type": {formType}}, 413},
			"confirm":           {i.confirmURL, strings.NewReader(i.webhook()), http.Header{"Content-Type": {jsonType}}, 200},
			"trailers":          {i.confirmURL, io.MultiReader(strings.NewReader(i.webhook())), http.Header{"Content-Type": {jsonType}, "Trailer": {"x"}}, 200},
			"forged":            {alter(t, i.confirmURL, "cvs_amount", "1"), strings.NewReader(i.webhook()), http.Header{"Content-Type": {jsonType}}, 403},
			"dribbling":         {way.hasty + "/cvs/confirm", dribble(t, i.webhook()), http.Header{"Content-Type": {jsonType}}, 408},
		} {
			status, body := send(c.target, c.body, c.header)
			assert.Equal(t, c.status, status, "%s, %s: %s", protocol, name, body)
		}
	}
	assert.Equal(t, 2*len(ways), g.shop.asked())
	for _, seen := range g.shop.seen {
		assert.Equal(t, []string{"15000"}, seen.Header.Values("X-Cvs-Amount"))
		assert.Empty(t, seen.Trailer)
	}
}

// selfSigned returns the directive for a certificate of 127.0.0.1, and what a
// client needs to believe it.
func selfSigned(t testing.TB) (directive string, trust *tls.Config) {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	keyPair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(keyPair.PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: keyPair.Certificate[0]},
		"key.pem":  {Type: "PRIVATE KEY", Bytes: key},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return fmt.Sprintf("tls %s/cert.pem %[1]s/key.pem", dir), &tls.Config{RootCAs: roots}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// dribble returns a body that begins and never ends.
func dribble(t testing.TB, body string) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	go io.WriteString(w, body[:len(body)-1])
	return r
}

func TestSmugglingShapes(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	at := "Host: " + host(g.inside) + "\r\n"
	// The token's request asks the gateway only, the end is for the next handler:
	// the statuses tell how many requests were seen, and that none was of the body.
	token := "POST /users/getToken HTTP/1.1\r\n" + at
	end := "GET /end HTTP/1.1\r\n" + at + "Connection: close\r\n\r\n"
	chunked := token + "Transfer-Encoding: chunked\r\n"
	const lastChunk = "\r\n0\r\n\r\n"
	inner := token + "Content-Length: 0\r\n\r\n"
	refused := []int{400}
	unsupported := []int{501}
	one := []int{200, 418}
	for name, c := range map[string]struct {
		raw  string
		want []int
	}{
		"plain":                         {token + "Content-Length: 4\r\n\r\n{}{}", one},
		"two lengths":                   {token + "Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}{}", refused},
		"twice the same length":         {token + "Content-Length: 4\r\nContent-Length: 4\r\n\r\n{}{}", one},
		"a list of lengths":             {token + "Content-Length: 4, 4\r\n\r\n{}{}", refused},
		"length with a sign":            {token + "Content-Length: +4\r\n\r\n{}{}", refused},
		"negative length":               {token + "Content-Length: -4\r\n\r\n{}{}", refused},
		"hexadecimal length":            {token + "Content-Length: 0x4\r\n\r\n{}{}", refused},
		"length beyond int64":           {token + "Content-Length: 99999999999999999999\r\n\r\n{}{}", refused},
		"empty length":                  {token + "Content-Length: \r\n\r\n", refused},
		"space before the colon":        {token + "Content-Length : 4\r\n\r\n{}{}", refused},
		"space before the colon of TE":  {token + "Transfer-Encoding : chunked\r\n" + lastChunk, refused},
		"space before a trusted field":  {token + "X-Forwarded-For : 10.0.0.1\r\n\r\n", refused},
		"length and chunks: chunks":     {chunked + "Content-Length: 4\r\n" + lastChunk, one},
		"xchunked":                      {token + "Transfer-Encoding: xchunked\r\n" + lastChunk, unsupported},
		"identity, chunked":             {token + "Transfer-Encoding: identity, chunked\r\n" + lastChunk, unsupported},
		"chunked, identity":             {token + "Transfer-Encoding: chunked, identity\r\n" + lastChunk, unsupported},
		"chunked and then identity":     {chunked + "Transfer-Encoding: identity\r\n" + lastChunk, unsupported},
		"vertical tab before chunked":   {token + "Transfer-Encoding: \x0bchunked\r\n" + lastChunk, refused},
		"folded chunked":                {token + "Transfer-Encoding:\r\n chunked\r\n" + lastChunk, one},
		"no chunk size":                 {chunked + "\r\nzz\r\n{}\r\n0\r\n\r\n", refused},
		"chunk size beyond uint64":      {chunked + "\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n", refused},
		"chunks with bare LF":           {chunked + "\r\n2\n{}\n0\n\n", refused},
		"chunk extension with bare LF":  {chunked + "\r\n2;a\nb\r\n{}\r\n0\r\n\r\n", refused},
		"chunk longer than it says":     {chunked + "\r\n2\r\n{}x\r\n0\r\n\r\n", refused},
		"a request behind the chunks":   {chunked + "Content-Length: 200\r\n" + lastChunk + inner, []int{200, 200, 418}},
		"trailers":                      {chunked + "Trailer: X-Forwarded-For\r\n\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nX-Cvs-Amount: 1\r\n\r\n", one},
		"obs-fold hides no field":       {token + "Content-Length: 0\r\nX-A: a\r\n X-Forwarded-For: 10.0.0.1\r\n\r\n", one},
		"folded forwarding field":       {token + "Content-Length: 0\r\nX-Forwarded-For:\r\n 10.0.0.1\r\n\r\n", []int{403, 418}},
		"bare LF ends a line":           {token + "Content-Length: 0\r\nX-A: a\nX-Forwarded-For: 10.0.0.1\r\n\r\n", []int{403, 418}},
		"bare CR":                       {token + "Content-Length: 0\r\nX-A: a\rX-Forwarded-For: 10.0.0.1\r\n\r\n", refused},
		"NUL in a field":                {token + "Content-Length: 0\r\nX-A: a\x00\r\n\r\n", refused},
		"a line without colon":          {token + "Content-Length: 0\r\nX-A\r\n\r\n", refused},
		"space before the first field":  {"POST /users/getToken HTTP/1.1\r\n X-A: b\r\n" + at + "\r\n", refused},
		"space in the target":           {"GET /payments/a?b c HTTP/1.1\r\n" + at + "\r\n", refused},
		"tab for space":                 {"POST\t/users/getToken HTTP/1.1\r\n" + at + "\r\n", refused},
		"two hosts":                     {token + "Host: shop.example\r\n\r\n", refused},
		"no host":                       {"POST /users/getToken HTTP/1.1\r\n\r\n", refused},
		"absolute target":               {"POST " + g.inside + "/users/getToken HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n", one},
		"nominated as hop-by-hop":       {token + "Connection: X-Forwarded-For\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 0\r\n\r\n", []int{403, 418}},
		"upgrade to h2c is not offered": {token + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n", one},
		// What is refused is not read on: the rest might be a request by another reading.
		"too large, with a request in it": {"POST /cvs HTTP/1.1\r\n" + at + "Content-Length: 70000\r\n\r\n" + inner + strings.Repeat(" ", 70_000-len(inner)), []int{413}},
		"forwarded, with a request in it": {"POST /cvs HTTP/1.1\r\n" + at + "X-Real-IP: 10.0.0.1\r\nContent-Length: " + strconv.Itoa(len(inner)) + "\r\n\r\n" + inner, []int{403}},
		"GET with a request in its body":  {"GET /end HTTP/1.1\r\n" + at + "Content-Length: " + strconv.Itoa(len(inner)) + "\r\n\r\n" + inner, []int{418, 418}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, statuses(wire(t, "tcp", host(g.inside), c.raw+end)))
		})
	}
	t.Cleanup(func() { assert.Zero(t, g.api.Requests(emulator.EndpointAll)) })
}

// Another host in the target is another name of the site, whatever the field Host says, and nothing more.
func TestAbsoluteTargetChoosesNoUpstream(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	all := address(t)
	_, port, err := net.SplitHostPort(all)
	require.NoError(t, err)
	g := start(t, setup{sites: "http://:" + port + " {\nbind 127.0.0.1\ncvs_proxy\ncvs_confirm /confirm {\norder_check {\nroute {\nreverse_proxy SHOP\n}\nrequire payable true\n}\n}\n}\n"})
	i := g.mustIssue(t, "order-1")
	query := i.confirmURL[strings.Index(i.confirmURL, "?"):]
	body := i.webhook()
	raw := "GET " + evil.URL + "/payments/" + i.impUID + "?include_sandbox=true HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST " + evil.URL + "/confirm" + query + " HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Type: " + jsonType + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	assert.Equal(t, []int{200, 200}, statuses(wire(t, "tcp", all, raw)), "served by the path")
	require.Equal(t, 1, g.shop.asked())
	assert.Equal(t, "/confirm", g.shop.seen[0].RequestURI)
	assert.Zero(t, evil.calls.Load())

	raw = "GET http://evil.example/payments/" + i.impUID + " HTTP/1.1\r\nHost: " + host(g.inside) + "\r\nConnection: close\r\n\r\n"
	got := wire(t, "tcp", host(g.inside), raw)
	require.Len(t, got, 1)
	assert.Empty(t, got[0].body, "a site with a name of its own does not serve another's")
}

func TestSenderAddsNothingToAnOrderCheck(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]string{
		"URL":   "order_check SHOP/cvs/confirm",
		"route": "order_check {\nroute {\nreverse_proxy SHOP\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{confirm: check})
			i := g.mustIssue(t, "order-1")
			body := i.webhook()
			raw := "POST " + strings.TrimPrefix(i.confirmURL, g.outside) + " HTTP/1.1\r\nHost: " + host(g.outside) + "\r\nConnection: close, X-Cvs-Imp-Uid\r\n" +
				"Content-Type: application/json;\r\n charset=utf-8\r\nContent-Type: text/plain\r\nX-Cvs-Amount: 1\r\nx-cvs-amount: 2\r\nX_Cvs_Amount: 3\r\nX.Cvs.Amount: 4\r\n" +
				"Content-Length: 9\r\nTransfer-Encoding: chunked\r\nTrailer: X-Cvs-Expires\r\nExpect: 100-continue\r\nTe: trailers\r\nUpgrade: h2c\r\nProxy: http://evil.example\r\n" +
				"X-Http-Method-Override: GET\r\nX-Original-Url: /admin\r\n\r\n" +
				strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\nX-Cvs-Expires: 1\r\nX-Cvs-Amount: 5\r\nX-Cvs-Verdict: yes\r\n\r\n"
			got := wire(t, "tcp", host(g.outside), raw)
			require.Equal(t, []int{100, 200}, statuses(got))
			require.Equal(t, 1, g.shop.asked())
			seen := g.shop.seen[0]
			assert.Equal(t, body, g.shop.bodies[0])
			assert.Equal(t, "POST /cvs/confirm", seen.Method+" "+seen.RequestURI)
			assert.Equal(t, []string{"application/json; charset=utf-8"}, seen.Header.Values("Content-Type"))
			assert.Equal(t, []string{i.impUID}, seen.Header.Values("X-Cvs-Imp-Uid"))
			assert.Equal(t, []string{"15000"}, seen.Header.Values("X-Cvs-Amount"))
			assert.Empty(t, seen.Trailer)
			for name := range seen.Header {
				assert.NotContains(t, []string{"X-Cvs-Verdict", "X_cvs_amount", "X.cvs.amount", "Proxy", "Upgrade", "X-Http-Method-Override", "X-Original-Url", "Expect", "Trailer"}, name)
			}
		})
	}
}

func TestControlCharactersGoNowhere(t *testing.T) {
	t.Parallel()
	g := start(t, setup{confirm: "unsigned allow\norder_check SHOP/{http.cvs.merchant_uid} {\nheader X-Barcode {http.cvs.barcode}\n}"})
	confirm := func(contentType, body string) int {
		return g.do(t, http.MethodPost, g.outside+"/cvs/confirm", contentType, body).status
	}
	for _, c := range []string{"\r\nX-Cvs-Amount: 1", "\r", "\n", "\x00", "\x7f", "\u0085", "\x1b[2J"} {
		value := "a" + c + "b"
		webhook := func(impUID, merchantUID, barcode string) string {
			return issued{impUID: impUID, merchantUID: merchantUID, barcode: barcode}.webhook()
		}
		form := func(impUID, merchantUID string) string {
			return url.Values{"event": {"Galaxia.Cvs.Confirm"}, "imp_uid": {impUID}, "merchant_uid": {merchantUID}, "status": {"ready"}}.Encode()
		}
		assert.Equal(t, 400, confirm(jsonType, webhook(value, "order", "1")), "%q", c)
		assert.Equal(t, 400, confirm(jsonType, webhook("imp_1", value, "1")), "%q", c)
		assert.Equal(t, 400, confirm(formType, form(value, "order")), "%q", c)
		assert.Equal(t, 400, confirm(formType, form("imp_1", value)), "%q", c)
		before := g.shop.asked()
		assert.Equal(t, 200, confirm(jsonType, webhook("imp_1", "order", value)), "%q", c)
		require.Equal(t, before+1, g.shop.asked())
		assert.Empty(t, g.shop.seen[before].Header.Values("X-Barcode")[0], "a barcode decides nothing, so it is left out: %q", c)

		issue, err := json.Marshal(map[string]any{"merchant_uid": value, "amount": 1})
		require.NoError(t, err)
		assert.Equal(t, 400, g.do(t, http.MethodPost, g.inside+"/cvs", jsonType, string(issue)).status, "%q", c)
		assert.Equal(t, 400, g.do(t, http.MethodPost, g.inside+"/cvs", formType, url.Values{"merchant_uid": {value}, "amount": {"1"}}.Encode()).status, "%q", c)
		for path, method := range map[string]string{"/payments/": "GET", "/payments/find/": "GET", "/payments/find/order/": "GET", "/cvs/": "DELETE"} {
			assert.Equal(t, 400, g.do(t, method, g.inside+path+url.PathEscape(value), "", "").status, "%s %q", path, c)
		}
	}
	assert.Zero(t, g.api.Requests(emulator.EndpointAll))
}

// recordingAPI answers everything, and keeps what it was asked.
func recordingAPI(seen chan<- *http.Request) http.Handler {
	api := stub(200, jsonType, `{"code":0,"message":null,"response":{"imp_uid":"imp_1","merchant_uid":"a","amount":1,"status":"ready"}}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/users/getToken" {
			seen <- r.Clone(context.Background())
		}
		api.ServeHTTP(w, r)
	})
}

func TestPathsOfTheAPIStayTheirOwn(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	g := start(t, setup{api: recordingAPI(seen)})
	for _, value := range []string{"@evil.example", "//evil.example/", "http://evil.example/", ":80@evil.example", "a?b=c", "a#b", "a;b", "a%2f..%2fb", "{env.CVS_TEST_SECRET}", "a b", "가"} {
		for prefix, method := range map[string]string{"/payments/": "GET", "/payments/find/": "GET", "/cvs/": "DELETE"} {
			a := g.do(t, method, g.inside+prefix+url.PathEscape(value), "", "")
			require.Equal(t, 200, a.status, "%s %s", value, a.body)
			r := <-seen
			assert.Equal(t, prefix+url.PathEscape(value), r.RequestURI)
			assert.Equal(t, host(g.apiURL), r.Host)
		}
	}
	a := g.do(t, http.MethodGet, g.inside+"/payments/imp_1?a=%0d%0aX-A:%20b&c=//evil.example/..", "", "")
	require.Equal(t, 200, a.status)
	r := <-seen
	assert.Equal(t, "/payments/imp_1?a=%0d%0aX-A:%20b&c=//evil.example/..", r.RequestURI, "the query as it came")
	assert.Empty(t, r.Header.Get("X-A"))
}

func TestCallbacksArePassedOnAndNeverFetched(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	g := start(t, setup{proxy: usualProxy + "\nnotice_url OUTSIDE/cvs/notice"})
	for _, target := range []string{evil.URL + "/x", strings.Replace(evil.URL, "http://", "http://user:pass@", 1), "http://169.254.169.254/latest/meta-data/", "http://[::1]:1/{env.CVS_TEST_SECRET}"} {
		for _, notice := range []any{target, []string{target, target}} {
			body, err := json.Marshal(map[string]any{"merchant_uid": "order-1", "amount": 1, "confirm_url": target, "notice_url": notice})
			require.NoError(t, err)
			a := g.do(t, http.MethodPost, g.inside+"/cvs", jsonType, string(body))
			require.Equal(t, 200, a.status, a.body)
			confirmURL, noticeURLs := g.api.WebhookURLs(a.payment(t)["imp_uid"].(string))
			assert.Equal(t, target, confirmURL, "as the app gave it: unsigned, and nothing in it expanded")
			assert.Contains(t, noticeURLs, target)
		}
	}
	for _, target := range []string{"file:///etc/passwd", "gopher://127.0.0.1/", "//evil.example", "javascript:alert(1)", "http://", "http:evil", "http://a\r\nb/"} {
		body, err := json.Marshal(map[string]any{"merchant_uid": "order-1", "amount": 1, "confirm_url": target})
		require.NoError(t, err)
		assert.Equal(t, 400, g.do(t, http.MethodPost, g.inside+"/cvs", jsonType, string(body)).status, target)
	}
	assert.Zero(t, evil.calls.Load())
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	for _, status := range []int{302, 307} {
		away := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.URL+"/x", status) }
		g := start(t, setup{api: http.HandlerFunc(away)})
		assert.Equal(t, 503, g.issue(t, "order-1").status, "for want of a token")
		token := stub(200, jsonType, "")
		g = start(t, setup{api: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/users/getToken" {
				token.ServeHTTP(w, r)
				return
			}
			away(w, r)
		})})
		assert.Equal(t, 502, g.do(t, http.MethodGet, g.inside+"/payments/imp_1", "", "").status)
		g = start(t, setup{payable: away})
		assert.Equal(t, 502, g.confirm(t, g.mustIssue(t, "order-1")).status)
	}
	assert.Zero(t, evil.calls.Load(), "neither keys nor a token nor a webhook went elsewhere")
}

func TestOrderNumberChoosesNoHost(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	g := start(t, setup{confirm: "unsigned allow\norder_check SHOP/{http.cvs.merchant_uid}/{http.cvs.imp_uid}?o={http.cvs.merchant_uid}"})
	_, port, err := net.SplitHostPort(host(evil.URL))
	require.NoError(t, err)
	numbers := []string{
		"@evil/", "//evil", "///evil", "..%2f", "%2e%2e", "..;/", "@" + host(evil.URL), "//" + host(evil.URL), evil.URL, ":" + port, ":" + port + "@" + host(evil.URL),
		"#", "?", "&o=b", "%", "%zz", "a%00b", "{env.CVS_TEST_SECRET}", "{http.cvs.imp_uid}", "{file./etc/hostname}", "…", "a\u2028b", "[::1]",
	}
	for _, number := range numbers {
		before := g.shop.asked()
		a := g.confirm(t, issued{impUID: "imp_1", merchantUID: number, barcode: "1", confirmURL: g.outside + "/cvs/confirm"})
		require.Equal(t, 200, a.status, "%s: %s", number, a.body)
		require.Equal(t, before+1, g.shop.asked(), number)
		seen := g.shop.seen[before]
		assert.Equal(t, "/"+url.PathEscape(number)+"/imp_1?o="+url.QueryEscape(number), seen.RequestURI)
		assert.Equal(t, host(g.shop.URL), seen.Host)
		assert.Equal(t, strings.TrimSpace(number), seen.Header.Get("X-Cvs-Merchant-Uid"))
	}
	for _, number := range []string{"..", "../", "/..", "a/../..", `..\a`, "/./", "."} {
		assert.Equal(t, 409, g.confirm(t, issued{impUID: "imp_1", merchantUID: number, barcode: "1", confirmURL: g.outside + "/cvs/confirm"}).status, number)
	}
	assert.Equal(t, len(numbers), g.shop.asked())
	assert.Zero(t, evil.calls.Load())

	for _, target := range []string{"http://{http.cvs.merchant_uid}/x", "http://shop{http.cvs.merchant_uid}/x", "http://shop:{http.cvs.merchant_uid}/x", "{http.cvs.merchant_uid}/x", "http://shop{http.cvs.merchant_uid}", "{http.cvs.merchant_uid}://shop/x", "http://{http.cvs.merchant_uid}@shop/x"} {
		_, err := parseURLTemplate(target)
		assert.Error(t, err, target)
	}
}

// What Caddy's own directives make of an order's number in a route is not the
// gateway's to escape, but no number becomes a placeholder.
func TestOrderNumberIsNoPlaceholderInARoute(t *testing.T) {
	t.Parallel()
	const number = "{env.CVS_TEST_SECRET}"
	for name, c := range map[string]struct{ route, told string }{
		"respond":        {`respond "{\"reason\":\"{http.cvs.merchant_uid}\"}" 409`, number},
		"vars":           {"vars a {http.cvs.merchant_uid}\nrespond \"{\\\"reason\\\":\\\"{vars.a}\\\"}\" 409", number},
		"map":            {"map {http.cvs.merchant_uid} {m} {\ndefault {http.cvs.merchant_uid}\n}\nrespond \"{\\\"reason\\\":\\\"{m}\\\"}\" 409", number},
		"rewrite":        {"rewrite /x/{http.cvs.merchant_uid}\nreverse_proxy SHOP", "/x/" + url.PathEscape(number)},
		"rewrite query":  {"rewrite /x?o={http.cvs.merchant_uid}\nreverse_proxy SHOP", "/x?o=" + url.QueryEscape(number)},
		"uri":            {"uri path_regexp .* /x/{http.cvs.merchant_uid}\nreverse_proxy SHOP", "/x/" + url.PathEscape(number)},
		"request_header": {"request_header X-Order {http.cvs.merchant_uid}\nreverse_proxy SHOP", number},
		"header_up":      {"reverse_proxy SHOP {\nheader_up X-Order {http.cvs.merchant_uid}\n}", number},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t, setup{
				confirm: "unsigned allow\norder_check {\nroute {\n" + c.route + "\n}\n}",
				payable: func(w http.ResponseWriter, r *http.Request) {
					told := r.Header.Get("X-Order")
					if told == "" {
						told = r.RequestURI
					}
					w.WriteHeader(http.StatusConflict)
					_ = json.NewEncoder(w).Encode(map[string]string{"reason": told})
				},
			})
			a := g.confirm(t, issued{impUID: "imp_1", merchantUID: number, barcode: "1", confirmURL: g.outside + "/cvs/confirm"})
			assert.Equal(t, 409, a.status)
			assert.Equal(t, c.told, a.get(t, "reason"))
		})
	}
}

func TestPanicTellsNothing(t *testing.T) {
	t.Parallel()
	g, config := prepare(t, setup{confirm: "order_check {\nroute {\ntest_panic\n}\n}"})
	runCaddy(t, strings.Replace(config, `respond "next handler"`, "test_panic /panic\nrespond \"next handler\"", 1))
	i := g.mustIssue(t, "order-1")
	assert.Equal(t, 502, g.confirm(t, i).status)

	body := "imp_secret=" + canaries["CVS_TEST_SECRET"] + "&buyer_tel=" + buyerTel
	raw := "POST /panic HTTP/1.1\r\nHost: " + host(g.inside) + "\r\nAuthorization: Bearer " + canaries["CVS_TEST_SECRET"] + "\r\nContent-Type: " + formType +
		"\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	assert.Empty(t, wire(t, "tcp", host(g.inside), raw))
	g.logs(t, "http: panic serving")
	log := g.log(t)
	for _, secret := range []string{canaries["CVS_TEST_SECRET"], buyerTel, "cvs_sig", i.confirmURL[len(i.confirmURL)-22:]} {
		assert.NotContains(t, log, secret)
	}
}

// The tests below are not parallel: the first two measure the process's memory,
// the last loads the one configuration that a process has.

// allocated returns how many bytes the process allocates while do runs.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestHugeBodiesCostNoMemory(t *testing.T) {
	const connections = 50
	g := start(t, setup{})
	i := g.mustIssue(t, "order-1")
	path := strings.TrimPrefix(i.confirmURL, g.outside)
	for name, c := range map[string]struct {
		base, head, body string
		most             int // kB for a connection, buffers of both sides and the log included
	}{
		"declared to cvs_proxy":   {g.inside, "POST /cvs HTTP/1.1\r\nContent-Length: 1073741824", "{", 128},
		"declared to getToken":    {g.inside, "POST /users/getToken HTTP/1.1\r\nContent-Length: 9223372036854775807", "{", 128},
		"declared to cvs_confirm": {g.outside, "POST " + path + " HTTP/1.1\r\nContent-Length: 1073741824", "{", 128},
		"expecting to continue":   {g.outside, "POST " + path + " HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1073741824", "", 128},
		"one chunk, cvs_proxy":    {g.inside, "POST /cvs HTTP/1.1\r\nTransfer-Encoding: chunked", "40000000\r\n" + strings.Repeat(" ", 70_000), 1024},
		"one chunk, cvs_confirm":  {g.outside, "POST " + path + " HTTP/1.1\r\nTransfer-Encoding: chunked", "40000000\r\n" + strings.Repeat(" ", 70_000), 1024},
	} {
		raw := c.head + "\r\nContent-Type: " + jsonType + "\r\nHost: " + host(c.base) + "\r\n\r\n" + c.body
		used := allocated(func() {
			for range connections {
				conn, err := net.Dial("tcp", host(c.base))
				require.NoError(t, err)
				_, err = io.WriteString(conn, raw)
				require.NoError(t, err)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
				status := make([]byte, 12)
				_, err = io.ReadFull(conn, status)
				require.NoError(t, err, name)
				assert.Equal(t, "HTTP/1.1 413", string(status), name)
				conn.Close()
			}
		})
		assert.Less(t, used, uint64(connections*c.most)<<10, name)
	}
}

func TestSlowBodiesHoldNoMoreThanTheirLimit(t *testing.T) {
	const connections, sent = 50, 60_000
	g := start(t, setup{confirm: "timeout 1s" + usualConfirm})
	i := g.mustIssue(t, "order-1")
	head := "POST " + strings.TrimPrefix(i.confirmURL, g.outside) + " HTTP/1.1\r\nHost: " + host(g.outside) + "\r\nContent-Type: " + jsonType + "\r\nContent-Length: 65536\r\n\r\n"
	used := allocated(func() {
		conns := make([]net.Conn, connections)
		for n := range conns {
			conn, err := net.Dial("tcp", host(g.outside))
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, head)
			require.NoError(t, err)
			_, err = io.CopyN(conn, zeros{}, sent)
			require.NoError(t, err)
			conns[n] = conn
		}
		for _, conn := range conns {
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			status := make([]byte, 12)
			_, err := io.ReadFull(conn, status)
			require.NoError(t, err)
			assert.Equal(t, "HTTP/1.1 408", string(status))
		}
	})
	assert.Less(t, used, uint64(connections<<20), "less than 1 MiB each for 60 kB that came, growing the buffer included")
}

func TestAdminShowsNoSecretWhileRequestsAreUnderWay(t *testing.T) {
	caddy.ConfigAutosavePath = filepath.Join(written.dir, "autosave-exposure.json")
	admin := address(t)
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	g, config := prepare(t, setup{
		globals: "metrics {\nper_host\n}",
		account: "signing_key {env.CVS_TEST_SIGNING_KEY}",
		confirm: "timeout 10s\norder_check SHOP/x {\ntimeout 10s\nheader X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}\n}",
		payable: func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-release
		},
	})
	config = strings.Replace(strings.Replace(config, "admin off", "admin "+admin, 1), "persist_config off", "", 1)
	config = strings.Replace(config, `respond "next handler"`, "test_panic /panic\nrespond \"next handler\"", 1)
	require.NoError(t, reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	i := g.mustIssue(t, "order-1")
	g.do(t, http.MethodPost, alter(t, i.confirmURL, "cvs_amount", "1"), jsonType, i.webhook())
	wire(t, "tcp", host(g.inside), "GET /panic HTTP/1.1\r\nHost: "+host(g.inside)+"\r\n\r\n")
	done := make(chan answer)
	go func() { done <- g.confirm(t, i) }()
	<-arrived

	show := func(method, path, contentType, body string) answer {
		a := g.do(t, method, "http://"+admin+path, contentType, body)
		name := "admin-exposure" + strings.NewReplacer("/", "-", "?", "-").Replace(path)
		require.NoError(t, os.WriteFile(filepath.Join(written.dir, name), []byte(a.body), 0o600))
		return a
	}
	for _, path := range []string{
		"/config/", "/config/apps/cvs/imp_secret", "/config/apps/cvs/signing_key/0", "/metrics", "/reverse_proxy/upstreams", "/debug/vars",
		"/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/allocs?debug=1",
	} {
		assert.Equal(t, 200, show(http.MethodGet, path, "", "").status, path)
	}
	metrics := show(http.MethodGet, "/metrics", "", "").body
	assert.Equal(t, 2, strings.Count(metrics, "\ncaddy_http_requests_total{"), "both sites are counted")
	for _, word := range []string{"order-1", i.impUID, i.barcode, "Bearer"} {
		assert.NotContains(t, metrics, word, "no label is about an order")
	}
	// A literal secret is refused, and not repeated in the refusal.
	literal := strings.Replace(config, "{env.CVS_TEST_SECRET}", "CVS-LITERAL-"+canaries["CVS_TEST_SECRET"], 1)
	assert.Equal(t, 400, show(http.MethodPost, "/adapt", "text/caddyfile", literal).status)
	assert.Equal(t, 400, show(http.MethodPost, "/load", "text/caddyfile", literal).status)
	raw, err := json.Marshal(map[string]any{"imp_key": "{env.CVS_TEST_KEY}", "imp_secret": canaries["CVS_TEST_SECRET"]})
	require.NoError(t, err)
	assert.Equal(t, 400, show(http.MethodPost, "/load", jsonType, `{"apps":{"cvs":`+string(raw)+`}}`).status)
	close(release)
	assert.Equal(t, 200, (<-done).status)

	saved, err := os.ReadFile(caddy.ConfigAutosavePath)
	require.NoError(t, err)
	assert.Contains(t, string(saved), "{env.CVS_TEST_SECRET}")
	assert.Empty(t, findSecrets())
}

// Caddy skips what it cannot read, and believes what the client made up before it.
func TestStrictProxyThatNamesNoAddress(t *testing.T) {
	t.Parallel()
	g := start(t, setup{globals: "servers {\ntrusted_proxies static 127.0.0.1/32\ntrusted_proxies_strict\n}"})
	for _, list := range []string{"10.0.0.7, unknown", "10.0.0.7, unix:", "10.0.0.7, [2001:db8::1]:443", "10.0.0.7, [2001:db8::1]", "unknown"} {
		assert.Equal(t, 403, g.ask(t, g.inside, http.Header{"X-Forwarded-For": {list}}), list)
	}
	for _, list := range []string{"203.0.113.9, 10.0.0.7", "203.0.113.9:80,10.0.0.7:99", "fd00::1"} {
		assert.Equal(t, 200, g.ask(t, g.inside, http.Header{"X-Forwarded-For": {list}}), list)
	}
}

// A trusted proxy tells the client's address in a field that Caddy does not read.
func TestTrustedProxyWithAnotherField(t *testing.T) {
	t.Parallel()
	for strict, untold := range map[string]int{"": 200, "trusted_proxies_strict\n": 403} {
		g := start(t, setup{globals: "servers {\ntrusted_proxies static 127.0.0.1/32\n" + strict + "}"})
		for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip"} {
			assert.Equal(t, 403, g.ask(t, g.inside, http.Header{name: {"203.0.113.9"}}), name)
		}
		assert.Equal(t, 403, g.ask(t, g.inside, http.Header{"X-Forwarded-For": {"10.0.0.7"}, "X-Real-Ip": {"203.0.113.9"}}), "nginx that sets the one and lets the other through")
		assert.Equal(t, 200, g.ask(t, g.inside, http.Header{"X-Forwarded-For": {"10.0.0.7"}, "X-Real-Ip": {"10.0.0.7"}}))
		assert.Equal(t, untold, g.ask(t, g.inside, http.Header{"X-Forwarded-Proto": {"https"}}))
	}
}

// A page that somebody inside looks at has their browser ask for barcodes.
func TestBrowsersMayNotCall(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	for _, header := range []http.Header{{"Origin": {"https://evil.example"}}, {"Origin": {"null"}}, {"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-origin"}}} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.inside+"/cvs", strings.NewReader("merchant_uid=order-1&amount=1&confirm_url=https://evil.example/yes"))
		require.NoError(t, err)
		r.Header = header
		r.Header.Set("Content-Type", formType)
		assert.Equal(t, 403, g.send(t, r).status, "%v", header)
	}
	assert.Empty(t, g.api.Payments())
}

// Over HTTP/2 and 3 a query may have a space, which ends the target of an HTTP/1 request.
func TestQueryStaysInItsRequestLine(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	g := start(t, setup{api: recordingAPI(seen), globals: "servers {\nprotocols h1 h2 h2c\n}"})
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	g.http = &http.Client{Transport: &http.Transport{Protocols: h2c}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.inside+"/payments/imp_1", nil)
	require.NoError(t, err)
	r.URL.RawQuery = "a HTTP/1.0"
	assert.Equal(t, 400, g.send(t, r).status)
	assert.Empty(t, seen)
}

// Another handler changes an answer's field in place: no other answer has a part in it.
func TestAnswersShareNoHeader(t *testing.T) {
	t.Parallel()
	site := "http://" + address(t)
	g := start(t, setup{sites: site + " {\nheader {\nCache-Control no-store \"no-store, private\"\ndefer\n}\ncvs_proxy\n}\n"})
	for range 3 {
		a := g.do(t, http.MethodPost, site+"/users/getToken", "", "")
		assert.Equal(t, "no-store, private", a.header.Get("Cache-Control"))
	}
	assert.Equal(t, "no-store", g.do(t, http.MethodPost, g.inside+"/users/getToken", "", "").header.Get("Cache-Control"))
}

// A shop may go on working after its answer has left: over HTTP/2, to stop at the
// last byte would cancel it.
func TestCheckIsHeardToItsEnd(t *testing.T) {
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
		answer := u.send(t.Context())
		<-answer.done
		status, _, cause := answer.current()
		assert.Equal(t, http.StatusOK, status, cause)
		<-ended
	}
	assert.Zero(t, left.Load())
}

// A header field that cannot be sent makes on_error accept say yes unasked.
func TestHeaderOfACheckThatCannotBeSent(t *testing.T) {
	t.Parallel()
	g := start(t, setup{confirm: "on_error accept\norder_check SHOP/x {\nheader X-Key {http.request.uri.query.x}\n}", payable: answers(409, "")})
	i := g.mustIssue(t, "order-1")
	i.confirmURL += "&x=%0d%0aX-Cvs-Amount:1"
	assert.Equal(t, 409, g.confirm(t, i).status)

	_, config := prepare(t, setup{confirm: "order_check SHOP/x {\nheader X-Key {env.CVS_TEST_TWO_LINES}\n}"})
	provisioning.Lock()
	defer provisioning.Unlock()
	_, err := caddy.ProvisionContext(adapt(t, config))
	assert.ErrorContains(t, err, "header X-Key")
}

// A sender that is slow leaves the checks half of the time: on_error may accept
// what they did not answer.
func TestSlowSenderDoesNotDecide(t *testing.T) {
	t.Parallel()
	g := start(t, setup{confirm: "timeout 4s\non_error accept\norder_check SHOP/x", payable: answers(409, "")})
	i := g.mustIssue(t, "order-1")
	body := i.webhook()
	began := time.Now()
	conn, err := net.Dial("tcp", host(g.outside))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", strings.TrimPrefix(i.confirmURL, g.outside), host(g.outside), len(body), body[:len(body)-1])
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 408, resp.StatusCode)
	assert.Less(t, time.Since(began), 3*time.Second, "long before the decision is due")
}
