package caddycvs

// This file holds what becomes of a confirm webhook that misses its cvs_confirm.

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

func init() {
	caddy.RegisterModule(Unrouted{})
}

// Unrouted answers 404 to a confirm webhook with a signed URL that no cvs handler
// takes, because its path is mistyped or a rule of the site comes first, and passes
// everything else on, a notice to the shop's app, too. Without it the app, or Caddy's
// empty 200, would accept the payment. A Caddyfile adds it behind each cvs_confirm
// that has a matcher.
type Unrouted struct {
	logger *zap.Logger
	// isLast reports whether no other cvs handler stands behind this one in the server's
	// routes. It is found out once.
	isLast func(*caddyhttp.Server) bool
}

// CaddyModule returns the Caddy module information.
func (Unrouted) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cvs_unrouted",
		New: func() caddy.Module { return new(Unrouted) },
	}
}

// Provision prepares the handler.
func (u *Unrouted) Provision(ctx caddy.Context) error {
	u.logger = ctx.Logger()
	var once sync.Once
	var last bool
	u.isLast = func(server *caddyhttp.Server) bool {
		once.Do(func() { last = server != nil && !newWalk(server).standsBefore(u, server.Routes) })
		return last
	}
	return nil
}

func (u *Unrouted) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !hasSignature(r.URL.RawQuery) {
		return next.ServeHTTP(w, r)
	}
	// Caddy's access log prints the URL, and with it the signature. The lines that are
	// written here stand in for it.
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	if r.Method != http.MethodPost || isNotice(w, r) {
		u.logger.Info("a request with a signature in its URL was passed on", u.fields(r)...)
		return next.ServeHTTP(w, r)
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !u.isLast(server) {
		guarded := &guardedWriter{ResponseWriter: w, request: r}
		err := next.ServeHTTP(guarded, r)
		if isTaken(r) {
			return err
		}
	}
	closeUnread(w, r)
	err := sendAnswer(w, http.StatusNotFound, strict.JSON, []byte(`{"accepted":false,"reason":"no handler of this site takes this webhook"}`))
	u.logger.Warn("a signed confirm webhook reached no cvs_confirm: compare the path with those of cvs_confirm, and with confirm_url", u.fields(r)...)
	return err
}

func (u *Unrouted) fields(r *http.Request) []zap.Field {
	return []zap.Field{zap.String("method", r.Method), zap.String("host", r.Host), zap.String("path", r.URL.Path), zap.String("client_ip", clientIP(r))}
}

// hasSignature reports whether a query has a signature in it, however it is spelled:
// no shop has a parameter of that name.
func hasSignature(query string) bool {
	const name = "cvs_sig"
	plain, _ := url.QueryUnescape(query)
	return strings.Contains(strings.ToLower(query), name) || strings.Contains(strings.ToLower(plain), name)
}

// isNotice reports whether a request's body is that of a notice, whose URL may be
// signed, too: it names a payment and not the event of a confirm. The body can be read
// again behind it. A notice is sent once, so that nothing but its content decides.
func isNotice(w http.ResponseWriter, r *http.Request) bool {
	defer readUntil(w, time.Now().Add(bodyTimeout))()
	body, err := io.ReadAll(io.LimitReader(r.Body, maxWebhook))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	return err == nil && names(body, "imp_uid", "imp_uid") && !names(body, "event", webhook.EventConfirm)
}

// names reports whether a body has a text in it, as it is or escaped, or a JSON member
// of that name with the text in it.
func names(body []byte, member, text string) bool {
	plain, _ := url.QueryUnescape(string(body))
	value := gjson.GetBytes(body, member)
	return bytes.Contains(body, []byte(text)) || strings.Contains(plain, text) || value.Exists() && (member == text || value.Str == text)
}

// takenVar notes that a handler of this module answers a request.
const takenVar = "cvs_taken"

func take(r *http.Request) { caddyhttp.SetVar(r.Context(), takenVar, true) }

func isTaken(r *http.Request) bool {
	taken, _ := caddyhttp.GetVar(r.Context(), takenVar).(bool)
	return taken
}

// guardedWriter lets through what a handler of this module answers, and drops all else.
type guardedWriter struct {
	http.ResponseWriter
	request *http.Request
}

func (g *guardedWriter) Header() http.Header {
	if !isTaken(g.request) {
		return make(http.Header)
	}
	return g.ResponseWriter.Header()
}

func (g *guardedWriter) WriteHeader(status int) {
	if isTaken(g.request) {
		g.ResponseWriter.WriteHeader(status)
	}
}

func (g *guardedWriter) Write(p []byte) (int, error) {
	if !isTaken(g.request) {
		return len(p), nil
	}
	return g.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController, which would else flush what Unwrap gives.
func (g *guardedWriter) FlushError() error {
	if !isTaken(g.request) {
		return nil
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController set deadlines.
func (g *guardedWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Interface guards
var (
	_ caddy.Provisioner           = (*Unrouted)(nil)
	_ caddyhttp.MiddlewareHandler = (*Unrouted)(nil)
)
