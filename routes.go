package caddycvs

// This file inspects the routes of a server: the order of the handlers, and whether a webhook
// can miss every cvs_confirm. It logs warnings when the configuration is loaded.

import (
	"slices"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// walk walks through a server's routes once. It enters each named route only once, because
// named routes may invoke themselves.
type walk struct {
	server  *caddyhttp.Server
	entered map[string]bool
}

func newWalk(server *caddyhttp.Server) *walk {
	return &walk{server, make(map[string]bool)}
}

// inner returns the routes inside a handler.
func (w *walk) inner(handler caddyhttp.MiddlewareHandler) caddyhttp.RouteList {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		return h.Routes
	case *caddyhttp.Invoke:
		if route := w.server.NamedRoutes[h.Name]; route != nil && !w.entered[h.Name] {
			w.entered[h.Name] = true
			return caddyhttp.RouteList{*route}
		}
	}
	return nil
}

// has reports whether the routes have a handler for which is returns true, at any depth.
func (w *walk) has(routes caddyhttp.RouteList, is func(caddyhttp.MiddlewareHandler) bool) bool {
	return slices.ContainsFunc(routes, func(route caddyhttp.Route) bool { return w.hasAny(route.Handlers, is) })
}

func (w *walk) hasAny(handlers []caddyhttp.MiddlewareHandler, is func(caddyhttp.MiddlewareHandler) bool) bool {
	return slices.ContainsFunc(handlers, func(h caddyhttp.MiddlewareHandler) bool { return is(h) || w.has(w.inner(h), is) })
}

func isConfirm(h caddyhttp.MiddlewareHandler) bool { _, ok := h.(*Confirm); return ok }

func takesWebhooks(h caddyhttp.MiddlewareHandler) bool {
	switch h.(type) {
	case *Proxy, *Confirm, *Notice:
		return true
	default:
		return false
	}
}

// takesConfirms leaves out cvs_notice, which passes a confirm webhook on.
func takesConfirms(h caddyhttp.MiddlewareHandler) bool {
	_, isNotice := h.(*Notice)
	return takesWebhooks(h) && !isNotice
}

// standsBefore reports whether a request that u passes on can still reach a handler for which takes returns
// true.
func (w *walk) standsBefore(u *Unrouted, routes caddyhttp.RouteList, takes func(caddyhttp.MiddlewareHandler) bool) bool {
	self := func(h caddyhttp.MiddlewareHandler) bool { return h == caddyhttp.MiddlewareHandler(u) }
	for i, route := range routes {
		for j, handler := range route.Handlers {
			within := newWalk(w.server).inner(handler)
			if !self(handler) && !newWalk(w.server).has(within, self) {
				continue
			}
			if !self(handler) && w.standsBefore(u, within, takes) || newWalk(w.server).hasAny(route.Handlers[j+1:], takes) {
				return true
			}
			return !route.Terminal && slices.ContainsFunc(routes[i+1:], func(next caddyhttp.Route) bool {
				return (route.Group == "" || next.Group != route.Group) && newWalk(w.server).hasAny(next.Handlers, takes)
			})
		}
	}
	return false
}

// watch puts a guard before the server's routes, and keeps the server for Start, which
// inspects the routes when all of them are loaded.
func (a *App) watch(ctx caddy.Context) (err error) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	if _, known := a.servers[server]; !known {
		a.servers[server], err = a.guardServer(ctx, server)
	}
	return err
}

// warnAboutRoutes calls warn for sites that would accept a webhook which misses cvs_confirm:
// sites without an unconditional last route, for which Caddy answers an empty 200, and,
// without a guard, sites whose cvs_confirm is inside a block, because the rest of the site
// answers requests that do not match the block.
func warnAboutRoutes(server *caddyhttp.Server, guarded bool, warn func(message string, fields ...zap.Field)) {
	sites, routes := caddyhttp.RouteList{}, routesOf(server)
	for _, route := range routes {
		if route.Terminal && newWalk(server).hasAny(route.Handlers, isConfirm) {
			sites = append(sites, route)
		}
	}
	if len(sites) == 0 { // one site for every host
		sites = caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{&caddyhttp.Subroute{Routes: routes}}}}
	} else if len(server.TLSConnPolicies) == 0 && !newWalk(server).answersAll(routes) {
		// Over TLS such a request fails: there is no certificate for a host without a site.
		warn("a webhook for a Host that no site of this server has gets an empty 200, which its sender takes for acceptable: listen by port only, as http://:8080, or add a site for every Host with respond 404",
			zap.Strings("listen", server.Listen))
	}
	for _, site := range sites {
		fields := []zap.Field{zap.Strings("listen", server.Listen), zap.Strings("hosts", hosts(site))}
		if !newWalk(server).hasAnswer(site.Handlers) {
			warn("a request that no route of this site answers gets an empty 200, which the sender of a confirm webhook takes for acceptable: end the site with a directive that answers everything, such as respond 404", fields...)
		}
		if !guarded && !newWalk(server).meetsUnrouted(site.Handlers) {
			warn("cvs_confirm stands within a block, such as handle, of a named route: a webhook with a mistyped path misses the block, and the rest of the site may accept it; write cvs_confirm <path> at the top of the site", fields...)
		}
	}
}

// hosts returns the hosts of a site.
func hosts(site caddyhttp.Route) (list []string) {
	for _, set := range site.MatcherSets {
		for _, matcher := range set {
			if h, ok := matcher.(*caddyhttp.MatchHost); ok {
				list = append(list, *h...)
			}
		}
	}
	return list
}

// meetsUnrouted reports whether every request reaches an Unrouted, or a cvs_confirm without
// a matcher.
func (w *walk) meetsUnrouted(handlers []caddyhttp.MiddlewareHandler) bool {
	return slices.ContainsFunc(handlers, func(h caddyhttp.MiddlewareHandler) bool {
		if _, ok := h.(*Unrouted); ok || isConfirm(h) {
			return true
		}
		return slices.ContainsFunc(w.inner(h), func(route caddyhttp.Route) bool {
			return (matchesAll(route) || isForHosts(route)) && w.meetsUnrouted(route.Handlers)
		})
	})
}

// matchesAll reports whether a route matches every request.
func matchesAll(route caddyhttp.Route) bool {
	return len(route.MatcherSets) == 0 || slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(matcher any) bool {
			paths, ok := matcher.(*caddyhttp.MatchPath)
			return !ok || !slices.Contains(*paths, "*") && !slices.Contains(*paths, "/*")
		})
	})
}

// isForHosts reports whether a route matches by nothing but the host, as in a site with a
// wildcard.
func isForHosts(route caddyhttp.Route) bool {
	return !slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
		return slices.ContainsFunc(set, func(matcher any) bool { _, ok := matcher.(*caddyhttp.MatchHost); return !ok })
	})
}

// answersAll reports whether one of the routes' handlers answers every request.
func (w *walk) answersAll(routes caddyhttp.RouteList) bool {
	passing := make(map[string]bool) // groups with a route that may leave a request unanswered
	for _, route := range routes {
		answers := w.hasAnswer(route.Handlers)
		switch {
		case !answers && route.Terminal && newWalk(w.server).hasAny(route.Handlers, isConfirm):
			return false
		case !answers:
			passing[route.Group] = true
		case matchesAll(route) && (route.Group == "" || !passing[route.Group]):
			return true
		}
	}
	return false
}

func (w *walk) hasAnswer(handlers []caddyhttp.MiddlewareHandler) bool {
	return slices.ContainsFunc(handlers, w.alwaysAnswers)
}

// passingHandlers are Caddy's handlers that leave the answer to the next handler.
var passingHandlers = []caddy.ModuleID{
	"http.handlers.acme_server", "http.handlers.authentication", "http.handlers.copy_response_headers", "http.handlers.encode",
	"http.handlers.headers", "http.handlers.intercept", "http.handlers.log_append", "http.handlers.map", "http.handlers.push",
	"http.handlers.request_body", "http.handlers.rewrite", "http.handlers.templates", "http.handlers.timeouts", "http.handlers.tracing",
	"http.handlers.vars",
}

// alwaysAnswers reports whether a handler answers every request that reaches it. An unknown
// handler is assumed to.
func (w *walk) alwaysAnswers(handler caddyhttp.MiddlewareHandler) bool {
	switch h := handler.(type) {
	case *caddyhttp.Invoke:
		return w.entered[h.Name] || w.answersAll(w.inner(handler))
	case *caddyhttp.Subroute:
		return w.answersAll(h.Routes)
	case *Proxy, *Notice, *Unrouted:
		return false
	case *fileserver.FileServer:
		return !h.PassThru
	case *reverseproxy.Handler: // the handle_response of forward_auth passes requests on
		return !slices.ContainsFunc(h.HandleResponse, func(rh caddyhttp.ResponseHandler) bool {
			return rh.StatusCode == "" && !w.answersAll(rh.Routes)
		})
	case caddy.Module:
		return !slices.Contains(passingHandlers, h.CaddyModule().ID)
	default:
		return true
	}
}
