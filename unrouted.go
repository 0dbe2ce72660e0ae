package caddycvs

// This file holds cvs_unrouted: the answer to a confirm webhook that reaches no cvs_confirm.

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

// Unrouted answers 404 to a confirm webhook with a signed URL that no cvs handler answers, because its path is
// mistyped or another rule of the site comes first. Everything else, notices included, goes to the next handler.
// Without it the shop's app, or Caddy's empty 200, would accept the payment. It has no options. The Caddyfile adds
// it after each cvs_confirm that has a matcher.
type Unrouted struct {
	logger *zap.Logger
	// isLast reports whether no other cvs handler, or none for a confirm webhook, comes after this
	// one in the server's routes. It inspects the routes once, and keeps the results.
	isLast func(server *caddyhttp.Server, confirm bool) bool
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
	var last, lastForConfirms bool
	u.isLast = func(server *caddyhttp.Server, confirm bool) bool {
		once.Do(func() {
			last = server != nil && !newWalk(server).standsBefore(u, routesOf(server), takesWebhooks)
			lastForConfirms = server != nil && !newWalk(server).standsBefore(u, routesOf(server), takesConfirms)
		})
		return last || confirm && lastForConfirms
	}
	return nil
}

func (u *Unrouted) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !hasSignature(r.URL.RawQuery) {
		return next.ServeHTTP(w, r)
	}
	skipAccessLog(r)
	var body []byte
	if r.Method == http.MethodPost {
		body = peek(w, r)
	}
	if r.Method != http.MethodPost || isNotice(body) {
		if !isGuarded(r) {
			logPassed(u.logger, r)
		}
		return next.ServeHTTP(w, r)
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if u.isLast(server, mentions(body, "event", webhook.EventConfirm)) {
		take(r)
		return answerMisrouted(u.logger, w, r)
	}
	return passConfirm(u.logger, w, r, next)
}

// passConfirm passes a confirm webhook on, and answers it unless another handler of this module or
// the server's guard does.
func passConfirm(logger *zap.Logger, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if isGuarded(r) {
		return next.ServeHTTP(w, r)
	}
	err := next.ServeHTTP(&guardedWriter{ResponseWriter: w, request: r, isNotice: func() bool { return false }}, r)
	if isTaken(r) {
		return err
	}
	return answerMisrouted(logger, w, r)
}

// answerMisrouted answers a confirm webhook that reached no cvs handler.
func answerMisrouted(logger *zap.Logger, w http.ResponseWriter, r *http.Request) error {
	countUnrouted()
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
	return append(traceFields(traceID(r.Context())),
		zap.String("method", r.Method), zap.String("host", r.Host), zap.String("path", r.URL.Path), zap.String("client_ip", clientIP(r)))
}

// hasSignature reports whether a query has a signature in any spelling. No shop has a
// parameter of that name.
func hasSignature(query string) bool {
	const name = "cvs_sig"
	plain, _ := url.QueryUnescape(query)
	return strings.Contains(strings.ToLower(query), name) || strings.Contains(strings.ToLower(plain), name)
}

// isNotice reports whether a body is that of a notice, whose URL may be signed too: it has an
// imp_uid and not the event of a confirm. A notice is sent only once, so only its content
// decides.
func isNotice(body []byte) bool {
	return mentions(body, "imp_uid", "imp_uid") && !mentions(body, "event", webhook.EventConfirm)
}

// mentions reports whether a body contains a text, plain or percent-encoded, or whether it is
// the name or the value of a JSON member, which may be written with JSON's escapes.
func mentions(body []byte, member, text string) bool {
	plain, _ := url.QueryUnescape(string(body))
	value := gjson.GetBytes(body, member)
	return bytes.Contains(body, []byte(text)) || strings.Contains(plain, text) || value.Exists() && (member == text || value.Str == text)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Unrouted)(nil)
	_ caddyhttp.MiddlewareHandler = (*Unrouted)(nil)
)
