package caddycvs

// This file holds how the merchant's app is asked through a route of Caddy's handlers. The
// route runs as a request of its own, with copies of what the site's directives, such as
// root, vars and map, have set for the request that Caddy is serving.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// upstreamRoute runs a route's handlers for one request.
type upstreamRoute struct {
	handler caddyhttp.Handler
	repl    *caddy.Replacer
	vars    map[string]any
	name    string                // of the order check
	isFinal func(status int) bool // reports whether a status counts even if an error follows
}

// ask runs the handlers until they return.
func (u *upstreamRoute) ask(ctx context.Context, request *http.Request, body []byte, answer *upstreamAnswer) cause {
	server, _ := request.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	r := request.WithContext(routeContext{ctx, request.Context()})
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r = caddyhttp.PrepareRequest(r, u.repl, answer, server)
	for name, value := range u.vars {
		caddyhttp.SetVar(r.Context(), name, value)
	}
	err := u.handler.ServeHTTP(answer, r)
	// After the time limit the cause is the time-out, which run sets.
	if status, _, _ := answer.current(); err == nil || u.isFinal(status) || ctx.Err() != nil {
		return cause{}
	}
	// An error cannot mean yes, whatever was written before it.
	if handler, ok := errors.AsType[caddyhttp.HandlerError](err); ok && handler.StatusCode >= 400 {
		answer.replaceByError(handler.StatusCode)
	} else {
		answer.replaceByError(http.StatusInternalServerError)
	}
	if detail := client.Cause(err); detail != client.CauseUnknown {
		return cause{causeServerError, detail}
	}
	return cause{causeServerError, "the route ended with an error"}
}

// routeContext ends with one context and has the values of another, except those of Caddy:
// they belong to the request that Caddy is serving, and some of them control its connection.
type routeContext struct {
	context.Context
	values context.Context
}

func (c routeContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	if _, ok := key.(caddy.CtxKey); ok {
		return nil
	}
	return c.values.Value(key)
}

// copyVars copies the request's variables that are plain values. Other values belong to the
// request that Caddy is serving.
func copyVars(r *http.Request) map[string]any {
	all, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	vars := make(map[string]any, len(all))
	for name, value := range all {
		switch value.(type) {
		case string, bool, int, int64, float64:
			if name != takenVar && name != caddyhttp.LogSkipVar {
				vars[name] = value
			}
		}
	}
	return vars
}

var placeholderInJSON = regexp.MustCompile(`\{([^{}"\\\s]+)\}`)

// nonSitePrefixes begin the placeholders that a route's own request has, or that are the
// same for every request.
var nonSitePrefixes = []string{"env.", "file.", "system.", "time.", "http.request.", "http.response.", "http.vars.", "http.reverse_proxy.", "http.error", placeholderPrefix}

// sitePlaceholders returns the placeholders in a route that the site may define, as the
// directive map and the regular expressions of matchers do.
func sitePlaceholders(route []byte) (names []string) {
	for _, match := range placeholderInJSON.FindAllSubmatch(route, -1) {
		name := string(match[1])
		if !slices.ContainsFunc(nonSitePrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// copyPlaceholders returns a caddy.ReplacerFunc with the present values of some
// placeholders. A route must not ask the request's own replacer later: that is not safe for
// use by several goroutines.
func copyPlaceholders(repl *caddy.Replacer, names []string) caddy.ReplacerFunc {
	values := make(map[string]any, len(names))
	for _, name := range names {
		if value, known := repl.Get(name); known {
			values[name] = value
		}
	}
	return func(name string) (any, bool) {
		value, known := values[name]
		return value, known
	}
}
