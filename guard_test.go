package caddycvs

// This file holds tests of the guard, which keeps missed webhooks from being accepted.

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// inABlock is a site with cvs_confirm inside a block. Only the guard keeps a webhook outside
// the block from the shop's app.
func inABlock(t *testing.T, app http.HandlerFunc, rest string) (*gatewaytest.Gateway, gatewaytest.Issued) {
	t.Helper()
	g, i := onSite(t, app, "handle /cvs/* {\n"+onlyConfirm+"}\n"+rest)
	gatewaytest.ExemptLog(g.LogFile) // reverse_proxy prints the URLs at DEBUG
	return g, i
}

// The guard drops the answer of the site, with its header fields, to a webhook that no
// cvs_confirm received.
func TestGuardDropsTheSitesAnswer(t *testing.T) {
	t.Parallel()
	for name, rest := range map[string]string{
		"an app":           "reverse_proxy SHOP",
		"an app, encoded":  "encode gzip\nreverse_proxy SHOP",
		"a page":           "header X-Shop 1\nrespond \"the shop\" 200",
		"an error":         "error 500",
		"an error's page":  "error 500\nhandle_errors {\nrespond \"sorry\" 200\n}",
		"a file":           "root /\nfile_server",
		"a body, unread":   "request_body {\nmax_size 10MB\n}\nrespond 200",
		"nothing":          "",
		"another template": "templates\nrespond \"{{.Req.Method}}\" 200",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, i := inABlock(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Shop", "1")
				w.Header().Set("Set-Cookie", "a=b")
				_, _ = io.Copy(w, r.Body)
			}, rest)
			at, query, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
			i.ConfirmURL = at + "/wrong" + query
			a := g.Confirm(t, i)
			assert.Equal(t, 404, a.Status, a.Body)
			assert.Equal(t, false, a.Field(t, "accepted"))
			assert.Empty(t, a.Header.Get("X-Shop")+a.Header.Get("Set-Cookie")+a.Header.Get("Content-Encoding"))
			assert.Equal(t, fmt.Sprint(len(a.Body)), a.Header.Get("Content-Length"))
			g.WaitForLine(t, `"level":"warn"`, "a signed confirm webhook reached no cvs_confirm", `"path":"/wrong"`)
		})
	}
}

// A notice and any other signed request reach the app unchanged, and so does its answer.
func TestGuardPassesNoticesOn(t *testing.T) {
	t.Parallel()
	large := `{"imp_uid":"imp_1","x":"` + strings.Repeat("a", 100_000) + `"}`
	for name, app := range map[string]func(http.ResponseWriter, *http.Request){
		"that reads first": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202); _, _ = io.Copy(w, r.Body) },
		"that answers early": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(202)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.Copy(w, r.Body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g *gatewaytest.Gateway
			g, i := inABlock(t, nil, "reverse_proxy SHOP")
			g.Shop.Payable = func(w http.ResponseWriter, r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(g.Shop.Bodies[len(g.Shop.Bodies)-1]))
				app(w, r)
			}
			at, query, _ := strings.Cut(i.ConfirmURL, "/cvs/confirm")
			for _, body := range []string{`{"imp_uid":"imp_1","merchant_uid":"order-1","status":"paid"}`, large, "imp_uid=imp_1&status=paid"} {
				for _, reader := range []io.Reader{strings.NewReader(body), struct{ io.Reader }{strings.NewReader(body)}} { // chunked
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/notice"+query, reader)
					require.NoError(t, err)
					a := g.Send(t, r)
					assert.Equal(t, 202, a.Status)
					assert.Equal(t, body, a.Body)
				}
			}
			g.WaitForLine(t, "a request with a signature in its URL was passed on", `"path":"/notice"`)
			assert.Equal(t, 202, g.Do(t, http.MethodGet, at+"/page"+query, "", "").Status)
			assert.Equal(t, 202, g.Do(t, http.MethodPost, at+"/orders", gatewaytest.JSONType, "{}").Status, "unsigned")
		})
	}
}

// Caddy answers a request for a Host that no site has with an empty 200.
func TestGuardRefusesWebhooksOnOtherSites(t *testing.T) {
	t.Parallel()
	_, port, err := net.SplitHostPort(gatewaytest.Address(t))
	require.NoError(t, err)
	at := "http://127.0.0.1:" + port
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Proxy: "confirm_url " + at + "/cvs/confirm",
		Sites: "http://a.example:" + port + " {\nrespond \"a\" 200\n}\nhttp://b.example:" + port + " {\n" + onlyConfirm + "respond \"b\" 200\n}\n",
	})
	i := g.MustIssue(t, "order-1")
	for host, want := range map[string]int{"b.example": 200, "a.example": 404, "c.example": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, i.ConfirmURL, strings.NewReader(i.Webhook()))
		require.NoError(t, err)
		r.Host = host
		r.Header.Set("Content-Type", gatewaytest.JSONType)
		a := g.Send(t, r)
		assert.Equal(t, want, a.Status, host)
		assert.Equal(t, want == 200, a.Field(t, "accepted"), host)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/", nil)
	require.NoError(t, err)
	r.Host = "a.example"
	assert.Equal(t, "a", g.Send(t, r).Body)
}

// A JSON configuration without cvs_unrouted is guarded as well.
func TestGuardNeedsNoUnrouted(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	cfg := gatewaytest.Adapt(t, config)
	raw := strings.ReplaceAll(string(cfg.AppsRaw["http"]), `{"handler":"cvs_unrouted"}`, `{"handler":"headers"}`)
	cfg.AppsRaw["http"] = json.RawMessage(strings.ReplaceAll(raw, `"status_code":418`, `"status_code":200`))
	gatewaytest.RunConfig(t, cfg)
	i := g.MustIssue(t, "order-1")
	assert.Equal(t, 200, g.Confirm(t, i).Status)
	i.ConfirmURL = strings.Replace(i.ConfirmURL, "/cvs/confirm", "/wrong", 1)
	assert.Equal(t, 404, g.Confirm(t, i).Status)
}

// The guard waits for a body no longer than cvs_confirm does.
func TestGuardDoesNotHoldASlowWebhook(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout 400ms\n" + gatewaytest.UsualConfirm})
	i := g.MustIssue(t, "order-1")
	conn, err := net.Dial("tcp", gatewaytest.Host(g.Outside))
	require.NoError(t, err)
	defer conn.Close()
	began := time.Now()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{", strings.TrimPrefix(i.ConfirmURL, g.Outside), gatewaytest.Host(g.Outside))
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "HTTP/1.1 408")
	assert.Less(t, time.Since(began), 2*time.Second)
}
