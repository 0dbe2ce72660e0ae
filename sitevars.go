package caddycvs

// This file holds what the route of an order check sees of its site: copies of what the
// site's directives, such as root, vars and map, have set for the request.

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// siteVars returns the request's variables that are plain values. What else Caddy and its
// handlers keep there belongs to the request that is being served.
func siteVars(r *http.Request) map[string]any {
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

// ownPlaceholders begin those that a route's own request has, or that are the same for all.
var ownPlaceholders = []string{"env.", "file.", "system.", "time.", "http.request.", "http.response.", "http.vars.", "http.reverse_proxy.", "http.error", placeholderPrefix}

// sitePlaceholders returns the placeholders in a route that its site may define, as map and
// a regular expression of a matcher do.
func sitePlaceholders(route []byte) (names []string) {
	for _, match := range placeholderInJSON.FindAllSubmatch(route, -1) {
		name := string(match[1])
		if !slices.ContainsFunc(ownPlaceholders, func(own string) bool { return strings.HasPrefix(name, own) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// snapshot returns a lookup of those placeholders with the values that they have now: later
// they are no longer safe to ask for.
func (o *OrderCheck) snapshot(repl *caddy.Replacer) caddy.ReplacerFunc {
	values := make(map[string]any, len(o.used))
	for _, name := range o.used {
		if value, known := repl.Get(name); known {
			values[name] = value
		}
	}
	return func(name string) (any, bool) {
		value, known := values[name]
		return value, known
	}
}
