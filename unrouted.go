package caddycvs

// This file holds what becomes of a confirm webhook that misses its cvs_confirm.

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"sync"

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
		once.Do(func() { last = server != nil && !newWalk(server).standsBefore(u, routesOf(server)) })
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
	if r.Method != http.MethodPost || isNotice(peek(w, r)) {
		if !isGuarded(r) {
			logPassed(u.logger, r)
		}
		return next.ServeHTTP(w, r)
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	switch {
	case u.isLast(server):
		take(r)
		return answerAstray(u.logger, w, r)
	case isGuarded(r):
		return next.ServeHTTP(w, r)
	}
	err := next.ServeHTTP(&guardedWriter{ResponseWriter: w, request: r, isNotice: func() bool { return false }}, r)
	if isTaken(r) {
		return err
	}
	return answerAstray(u.logger, w, r)
}

// answerAstray answers a confirm webhook that no cvs handler has taken.
func answerAstray(logger *zap.Logger, w http.ResponseWriter, r *http.Request) error {
	closeUnread(w, r)
	caddyhttp.SetVar(r.Context(), decidedVar, http.StatusNotFound)
	err := sendAnswer(w, http.StatusNotFound, strict.JSON, []byte(`{"accepted":false,"reason":"no handler of this site takes this webhook"}`))
	logger.Warn("a signed confirm webhook reached no cvs_confirm: compare the path with those of cvs_confirm, and with confirm_url", requestFields(r)...)
	return err
}

func logPassed(logger *zap.Logger, r *http.Request) {
	logger.Info("a request with a signature in its URL was passed on", requestFields(r)...)
}

func requestFields(r *http.Request) []zap.Field {
	return []zap.Field{zap.String("method", r.Method), zap.String("host", r.Host), zap.String("path", r.URL.Path), zap.String("client_ip", clientIP(r))}
}

// hasSignature reports whether a query has a signature in it, however it is spelled:
// no shop has a parameter of that name.
func hasSignature(query string) bool {
	const name = "cvs_sig"
	plain, _ := url.QueryUnescape(query)
	return strings.Contains(strings.ToLower(query), name) || strings.Contains(strings.ToLower(plain), name)
}

// isNotice reports whether a body is that of a notice, whose URL may be signed, too: it
// names a payment and not the event of a confirm. A notice is sent once, so that nothing but
// its content decides.
func isNotice(body []byte) bool {
	return names(body, "imp_uid", "imp_uid") && !names(body, "event", webhook.EventConfirm)
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

// Interface guards
var (
	_ caddy.Provisioner           = (*Unrouted)(nil)
	_ caddyhttp.MiddlewareHandler = (*Unrouted)(nil)
)
