package acceptance

// This file holds tests of what a request on the wire can do: every protocol, request
// smuggling, and header fields that must not reach an order check.

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestEveryProtocolHasTheSameRules(t *testing.T) {
	t.Parallel()
	certificate, trust := selfSigned(t)
	hasty, in, out, hastyTLS := "http://"+gatewaytest.Address(t), "https://"+gatewaytest.Address(t), "https://"+gatewaytest.Address(t), "https://"+gatewaytest.Address(t)
	site := func(base, options string) string { return base + " {\n" + options + "\n}\n" }
	confirm := func(options string) string {
		return "cvs_confirm /cvs/confirm {\n" + options + gatewaytest.UsualConfirm + "\n}\n"
	}
	const impatient = "timeout 300ms"
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Globals: "servers {\nprotocols h1 h2 h2c h3\n}",
		Sites: site(hasty, confirm(impatient)) + site(in, certificate+"\ncvs_proxy") + site(out, certificate+"\n"+confirm("")) +
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
		{"HTTP/1.1", g.HTTP, g.Inside, g.Outside, hasty},
		{"HTTP/2.0", &http.Client{Transport: cleartext}, g.Inside, g.Outside, hasty},
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
		i := g.MustIssue(t, fmt.Sprintf("order-%d", n))
		i.ConfirmURL = strings.Replace(i.ConfirmURL, g.Outside, way.out, 1)
		for name, c := range map[string]struct {
			target string
			body   io.Reader
			header http.Header
			status int
		}{
			"issue":             {way.in + "/cvs", strings.NewReader("merchant_uid=a&amount=1"), http.Header{"Content-Type": {gatewaytest.FormType}}, 200},
			"forwarded":         {way.in + "/cvs", strings.NewReader("merchant_uid=a&amount=1"), http.Header{"Content-Type": {gatewaytest.FormType}, "X-Forwarded-For": {"10.0.0.1"}}, 403},
			"forwarded, other":  {way.in + "/cvs", strings.NewReader("merchant_uid=a&amount=1"), http.Header{"Content-Type": {gatewaytest.FormType}, "x-real-ip": {"10.0.0.1"}}, 403},
			"too large":         {way.in + "/cvs", strings.NewReader(strings.Repeat("x", 100_000)), http.Header{"Content-Type": {gatewaytest.FormType}}, 413},
			"of unknown length": {way.in + "/cvs", io.LimitReader(zeros{}, 70_000), http.Header{"Content-Type": {gatewaytest.FormType}}, 413},
			"confirm":           {i.ConfirmURL, strings.NewReader(i.Webhook()), http.Header{"Content-Type": {gatewaytest.JSONType}}, 200},
			"trailers":          {i.ConfirmURL, io.MultiReader(strings.NewReader(i.Webhook())), http.Header{"Content-Type": {gatewaytest.JSONType}, "Trailer": {"x"}}, 200},
			"forged":            {gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_amount", "1"), strings.NewReader(i.Webhook()), http.Header{"Content-Type": {gatewaytest.JSONType}}, 403},
			"dribbling":         {way.hasty + "/cvs/confirm", dribble(t, i.Webhook()), http.Header{"Content-Type": {gatewaytest.JSONType}}, 408},
		} {
			status, body := send(c.target, c.body, c.header)
			assert.Equal(t, c.status, status, "%s, %s: %s", protocol, name, body)
		}
	}
	assert.Equal(t, 2*len(ways), g.Shop.Count())
	for _, seen := range g.Shop.Requests {
		assert.Equal(t, []string{"15000"}, seen.Header.Values("X-Cvs-Amount"))
		assert.Empty(t, seen.Trailer)
	}
}

// selfSigned returns the directive for a certificate of 127.0.0.1, and the configuration of a
// client that trusts it.
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

// dribble returns a body that never ends: its last byte does not come.
func dribble(t testing.TB, body string) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	go io.WriteString(w, body[:len(body)-1])
	return r
}

func TestBodyIsNeverReadAsRequest(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	at := "Host: " + gatewaytest.Host(g.Inside) + "\r\n"
	// The gateway answers the token's request with 200, and the next handler answers the
	// last one with 418. So the statuses show how many requests the server saw, and that
	// it took no part of a body for a request.
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
		"absolute target":               {"POST " + g.Inside + "/users/getToken HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n", one},
		"nominated as hop-by-hop":       {token + "Connection: X-Forwarded-For\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length: 0\r\n\r\n", []int{403, 418}},
		"upgrade to h2c is not offered": {token + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n", one},
		// After a refusal the connection ends: the rest could be taken for a request.
		"too large, with a request in it": {"POST /cvs HTTP/1.1\r\n" + at + "Content-Length: 70000\r\n\r\n" + inner + strings.Repeat(" ", 70_000-len(inner)), []int{413}},
		"forwarded, with a request in it": {"POST /cvs HTTP/1.1\r\n" + at + "X-Real-IP: 10.0.0.1\r\nContent-Length: " + strconv.Itoa(len(inner)) + "\r\n\r\n" + inner, []int{403}},
		"GET with a request in its body":  {"GET /end HTTP/1.1\r\n" + at + "Content-Length: " + strconv.Itoa(len(inner)) + "\r\n\r\n" + inner, []int{418, 418}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, c.want, gatewaytest.Statuses(gatewaytest.SendRaw(t, "tcp", gatewaytest.Host(g.Inside), c.raw+end)))
		})
	}
	t.Cleanup(func() { assert.Zero(t, g.API.Requests(emulator.EndpointAll)) })
}

// The host in an absolute target replaces the field Host when Caddy chooses the site. It
// must change nothing else.
func TestAbsoluteTargetDoesNotChangeTheUpstream(t *testing.T) {
	t.Parallel()
	evil := newTrap(t)
	all := gatewaytest.Address(t)
	_, port, err := net.SplitHostPort(all)
	require.NoError(t, err)
	g := gatewaytest.Start(t, gatewaytest.Setup{Sites: "http://:" + port + " {\nbind 127.0.0.1\ncvs_proxy\ncvs_confirm /confirm {\norder_check {\nroute {\nreverse_proxy SHOP\n}\nrequire payable true\n}\n}\n}\n"})
	i := g.MustIssue(t, "order-1")
	query := i.ConfirmURL[strings.Index(i.ConfirmURL, "?"):]
	body := i.Webhook()
	raw := "GET " + evil.URL + "/payments/" + i.ImpUID + "?include_sandbox=true HTTP/1.1\r\nHost: a\r\n\r\n" +
		"POST " + evil.URL + "/confirm" + query + " HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Type: " + gatewaytest.JSONType + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	assert.Equal(t, []int{200, 200}, gatewaytest.Statuses(gatewaytest.SendRaw(t, "tcp", all, raw)), "served by the path")
	require.Equal(t, 1, g.Shop.Count())
	assert.Equal(t, "/confirm", g.Shop.Requests[0].RequestURI)
	assert.Zero(t, evil.calls.Load())

	raw = "GET http://evil.example/payments/" + i.ImpUID + " HTTP/1.1\r\nHost: " + gatewaytest.Host(g.Inside) + "\r\nConnection: close\r\n\r\n"
	got := gatewaytest.SendRaw(t, "tcp", gatewaytest.Host(g.Inside), raw)
	require.Len(t, got, 1)
	assert.Empty(t, got[0].Body, "a site with a name of its own does not serve another's")
}

// Over HTTP/2 and HTTP/3 a query may contain a space. In an HTTP/1 request to the API it
// would end the target.
func TestProxyRejectsQueryWithSpace(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	g := gatewaytest.Start(t, gatewaytest.Setup{API: recordingAPI(seen), Globals: "servers {\nprotocols h1 h2 h2c\n}"})
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	g.HTTP = &http.Client{Transport: &http.Transport{Protocols: h2c}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.Inside+"/payments/imp_1", nil)
	require.NoError(t, err)
	r.URL.RawQuery = "a HTTP/1.0"
	assert.Equal(t, 400, g.Send(t, r).Status)
	assert.Empty(t, seen)
}

func TestOrderCheckHasNoHeadersOfTheSender(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]string{
		"URL":   "order_check SHOP/cvs/confirm",
		"route": "order_check {\nroute {\nreverse_proxy SHOP\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: check})
			i := g.MustIssue(t, "order-1")
			body := i.Webhook()
			raw := "POST " + strings.TrimPrefix(i.ConfirmURL, g.Outside) + " HTTP/1.1\r\nHost: " + gatewaytest.Host(g.Outside) + "\r\nConnection: close, X-Cvs-Imp-Uid\r\n" +
				"Content-Type: application/json;\r\n charset=utf-8\r\nContent-Type: text/plain\r\nX-Cvs-Amount: 1\r\nx-cvs-amount: 2\r\nX_Cvs_Amount: 3\r\nX.Cvs.Amount: 4\r\n" +
				"Content-Length: 9\r\nTransfer-Encoding: chunked\r\nTrailer: X-Cvs-Expires\r\nExpect: 100-continue\r\nTe: trailers\r\nUpgrade: h2c\r\nProxy: http://evil.example\r\n" +
				"X-Http-Method-Override: GET\r\nX-Original-Url: /admin\r\n\r\n" +
				strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\nX-Cvs-Expires: 1\r\nX-Cvs-Amount: 5\r\nX-Cvs-Verdict: yes\r\n\r\n"
			got := gatewaytest.SendRaw(t, "tcp", gatewaytest.Host(g.Outside), raw)
			require.Equal(t, []int{100, 200}, gatewaytest.Statuses(got))
			require.Equal(t, 1, g.Shop.Count())
			seen := g.Shop.Requests[0]
			assert.Equal(t, body, g.Shop.Bodies[0])
			assert.Equal(t, "POST /cvs/confirm", seen.Method+" "+seen.RequestURI)
			assert.Equal(t, []string{"application/json; charset=utf-8"}, seen.Header.Values("Content-Type"))
			assert.Equal(t, []string{i.ImpUID}, seen.Header.Values("X-Cvs-Imp-Uid"))
			assert.Equal(t, []string{"15000"}, seen.Header.Values("X-Cvs-Amount"))
			assert.Empty(t, seen.Trailer)
			for name := range seen.Header {
				assert.NotContains(t, []string{"X-Cvs-Verdict", "X_cvs_amount", "X.cvs.amount", "Proxy", "Upgrade", "X-Http-Method-Override", "X-Original-Url", "Expect", "Trailer"}, name)
			}
		})
	}
}
