package caddycvs

// This file holds what becomes of a webhook that misses its cvs_confirm, and the
// warning about sites where it would get an empty 200.

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

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
	behind func(*caddyhttp.Server) later // found once
}

// later is what a request can still meet behind an Unrouted.
type later struct{ confirm, proxy bool }

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
	var found later
	u.behind = func(server *caddyhttp.Server) later {
		once.Do(func() { found, _ = u.find(server, server.Routes) })
		return found
	}
	return nil
}

func (u *Unrouted) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !hasSignature(r.URL.RawQuery) {
		return next.ServeHTTP(w, r)
	}
	// Caddy's access log prints the URL, and with it the signature.
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	if r.Method != http.MethodPost || u.isTaken(r) || isNotice(w, r) {
		return next.ServeHTTP(w, r)
	}
	closeUnread(w, r)
	err := sendAnswer(w, http.StatusNotFound, strict.JSON, []byte(`{"accepted":false,"reason":"no handler of this site takes this webhook"}`))
	u.logger.Warn("a signed confirm webhook reached no cvs_confirm: compare the path with those of cvs_confirm, and with confirm_url",
		zap.String("host", r.Host),
		zap.String("path", r.URL.Path),
		zap.String("client_ip", clientIP(r)))
	return err
}

// hasSignature reports whether a query has a signature in it, however it is spelled:
// no shop has a parameter of that name.
func hasSignature(query string) bool {
	const name = "cvs_sig"
	plain, _ := url.QueryUnescape(query)
	return strings.Contains(strings.ToLower(query), name) || strings.Contains(strings.ToLower(plain), name)
}

// isNotice reports whether a request's body is that of a notice, whose URL may be
// signed, too. It leaves the body to be read again.
func isNotice(w http.ResponseWriter, r *http.Request) bool {
	body, err := readBody(w, r, maxWebhook, time.Now().Add(defaultTimeout))
	if err != nil {
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return bytes.Contains(body, []byte("imp_uid")) && !bytes.Contains(body, []byte(webhook.EventConfirm))
}

// isTaken reports whether a handler behind this one takes the request. Where directives
// are sorted there is none, but in a route they stand as they are written.
func (u *Unrouted) isTaken(r *http.Request) bool {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return false
	}
	behind := u.behind(server)
	_, isCall := parseCall(r.URL.EscapedPath())
	return behind.confirm || behind.proxy && isCall
}

// find looks for this handler in routes, and returns what stands behind it there.
func (u *Unrouted) find(server *caddyhttp.Server, routes caddyhttp.RouteList) (rest later, found bool) {
	for i, route := range routes {
		for j, handler := range route.Handlers {
			if found = handler == caddyhttp.MiddlewareHandler(u); !found {
				rest, found = u.find(server, inner(server, handler))
			}
			if !found {
				continue
			}
			rest.add(server, route.Handlers[j+1:])
			for _, next := range routes[i+1:] {
				if !route.Terminal && (route.Group == "" || next.Group != route.Group) {
					rest.add(server, next.Handlers)
				}
			}
			return rest, true
		}
	}
	return later{}, false
}

// add notes what is among handlers, and within them.
func (l *later) add(server *caddyhttp.Server, handlers []caddyhttp.MiddlewareHandler) {
	for _, handler := range handlers {
		switch handler.(type) {
		case *Confirm:
			l.confirm = true
		case *Proxy:
			l.proxy = true
		}
		for _, route := range inner(server, handler) {
			l.add(server, route.Handlers)
		}
	}
}

// inner returns the routes within a handler.
func inner(server *caddyhttp.Server, handler caddyhttp.MiddlewareHandler) caddyhttp.RouteList {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		return h.Routes
	case *caddyhttp.Invoke:
		if route := server.NamedRoutes[h.Name]; route != nil {
			return caddyhttp.RouteList{*route}
		}
	}
	return nil
}

// watch has the server looked at when all of it is loaded.
func (a *App) watch(ctx caddy.Context) {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && !slices.Contains(a.servers, server) {
		a.servers = append(a.servers, server)
	}
}

// warnOfSilence warns of a server with a cvs_confirm where a request can run past the
// last route. Caddy then answers an empty 200, which the sender of a webhook takes for
// "acceptable".
func (a *App) warnOfSilence(server *caddyhttp.Server) {
	// Who asks a server with TLS for a host that it does not serve gets no certificate.
	overTLS := len(server.TLSConnPolicies) > 0
	if answersAll(server, server.Routes, overTLS) {
		return
	}
	a.logger.Warn("a request that no route answers gets an empty 200, which the sender of a confirm webhook takes for acceptable: end each site that has cvs_confirm with a directive that answers everything, such as respond 404, and have a site for every Host",
		zap.Strings("listen", server.Listen))
}

// answersAll reports whether every request that reaches routes is answered by one of
// their handlers. Where hosts are known, a route for each of them is enough.
func answersAll(server *caddyhttp.Server, routes caddyhttp.RouteList, hostsKnown bool) bool {
	passing := make(map[string]bool) // groups of which a member may leave a request unanswered
	sites := 0
	for _, route := range routes {
		answers := slices.ContainsFunc(route.Handlers, func(h caddyhttp.MiddlewareHandler) bool { return alwaysAnswers(server, h) })
		switch {
		case route.Terminal && !answers:
			return false
		case route.Terminal:
			sites++
		case !answers:
			passing[route.Group] = true
		}
		if answers && len(route.MatcherSets) == 0 && (route.Group == "" || !passing[route.Group]) {
			return true
		}
	}
	return hostsKnown && sites > 0
}

// passingHandlers are those of Caddy's own that leave the answer to the next one.
var passingHandlers = []caddy.ModuleID{
	"http.handlers.authentication", "http.handlers.copy_response_headers", "http.handlers.encode", "http.handlers.headers",
	"http.handlers.intercept", "http.handlers.log_append", "http.handlers.map", "http.handlers.push", "http.handlers.request_body",
	"http.handlers.rewrite", "http.handlers.templates", "http.handlers.timeouts", "http.handlers.tracing", "http.handlers.vars",
}

// alwaysAnswers reports whether a handler answers every request that reaches it. One
// that is not known is believed to.
func alwaysAnswers(server *caddyhttp.Server, handler caddyhttp.MiddlewareHandler) bool {
	switch h := handler.(type) {
	case *caddyhttp.Subroute, *caddyhttp.Invoke:
		return answersAll(server, inner(server, handler), false)
	case *Proxy, *Unrouted:
		return false
	case *reverseproxy.Handler:
		return len(h.HandleResponse) == 0 // forward_auth has one, which passes on
	case caddy.Module:
		return !slices.Contains(passingHandlers, h.CaddyModule().ID)
	default:
		return true
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Unrouted)(nil)
	_ caddyhttp.MiddlewareHandler = (*Unrouted)(nil)
)
