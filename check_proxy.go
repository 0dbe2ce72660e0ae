package caddycvs

// This file holds what `caddy cvs check` says of cvs_proxy: its options, and who can reach it.

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	caddyrewrite "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

func inspectProxies(s *setup, r *report) {
	for _, p := range s.proxies {
		where := p.name("cvs_proxy")
		if p.handler.ConfirmURL == "" {
			r.warn("no_confirm_url", where, "has no confirm_url: a barcode that is issued without one is paid at the till without asking the shop", "set confirm_url to the public address of cvs_confirm")
		}
		if p.handler.ExpiresIn == 0 {
			r.warn("no_expires_in", where, "has no expires_in: the gateway does not know until when a barcode can be paid whose request has no expired_at", "set expires_in, such as 72h")
		}
		if names := p.hostNames(); len(names) > 0 && !newWalk(p.server).answersAll(routesOf(p.server)) && len(p.server.TLSConnPolicies) == 0 {
			r.warn("proxy_one_host", where, "a call with another Host than "+strings.Join(names, ", ")+" gets an empty 200, which many apps take for success", "listen by port only, as http://:8081 with bind 127.0.0.1")
		}
		if slices.ContainsFunc(p.handler.Serve, func(serve Serve) bool { return serve.Method == "*" && slices.Contains(serve.Path, "*") }) {
			r.warn("serve_all", where, "serve all lets every app that may call pay back payments", "name the calls that the app needs, such as serve POST /payments/prepare")
		}
	}
}

func (p *position) hostNames() (names []string) {
	for _, route := range p.routes {
		names = append(names, hosts(route)...)
	}
	return names
}

// inspectExposure finds a cvs_proxy that others than the shop's own apps can call.
func inspectExposure(s *setup, r *report) {
	for _, p := range s.proxies {
		where := p.name("cvs_proxy")
		switch listens := p.listensPublicly(); {
		case listens == "" || p.isAuthenticated():
			r.good("%s: not open to strangers", where)
		case slices.ContainsFunc(p.handler.access.prefixes, isPublicPrefix):
			r.fail("proxy_exposed", where, "listens at "+listens+", allows public addresses and asks for no password: strangers can issue and void barcodes with the merchant's keys",
				"bind it to 127.0.0.1 or a private address, or allow the app's own addresses only, behind basic_auth")
		case p.handler.allowImplied:
			r.warn("proxy_public_listener", where, "listens at "+listens+", with neither allow nor a password: behind a proxy or a NAT that hides the client, strangers look like private addresses",
				"bind it to 127.0.0.1 or a private address, or write with allow who may call")
		default:
			r.good("%s: open to the addresses of allow only", where)
		}
	}
}

// listensPublicly returns the first address of the server at which the internet may reach it, "" for none.
func (p *position) listensPublicly() string {
	for _, listen := range p.server.Listen {
		addr, err := caddy.ParseNetworkAddress(listen)
		if err != nil || addr.IsUnixNetwork() || addr.Host == "localhost" {
			continue
		}
		ip, err := netip.ParseAddr(addr.Host)
		if addr.Host == "" || err == nil && (ip.IsUnspecified() || isPublicHost(ip.String())) || err != nil && isPublicHost(addr.Host) {
			return listen
		}
	}
	return ""
}

// isPublicPrefix reports whether a range has an address of the internet. What is private is what Caddy's
// private_ranges has, and smaller ranges of it.
func isPublicPrefix(prefix netip.Prefix) bool {
	return !slices.ContainsFunc(caddyhttp.PrivateRangesCIDR(), func(private string) bool {
		p, _ := caddyhttp.CIDRExpressionToPrefix(private)
		return p.IsValid() && p.Bits() <= prefix.Bits() && p.Contains(prefix.Addr())
	})
}

// isAuthenticated reports whether a request must prove who sends it, or come from a certain address, before
// it reaches the handler.
func (p *position) isAuthenticated() bool {
	for _, policy := range p.server.TLSConnPolicies {
		if policy.ClientAuthentication != nil && policy.ClientAuthentication.Active() {
			return true
		}
	}
	return slices.ContainsFunc(p.before, func(e earlier) bool { return e.always && authenticates(e.handler) })
}

// authenticates reports whether a handler is basic_auth, another authentication, or forward_auth.
func authenticates(handler caddyhttp.MiddlewareHandler) bool {
	if proxy, ok := handler.(*reverseproxy.Handler); ok {
		return len(proxy.HandleResponse) > 0
	}
	module, ok := handler.(caddy.Module)
	return ok && module.CaddyModule().ID == "http.handlers.authentication"
}

func changesPath(handler caddyhttp.MiddlewareHandler) bool {
	rw, ok := handler.(*caddyrewrite.Rewrite)
	return ok && (rw.URI != "" || rw.StripPathPrefix != "" || rw.StripPathSuffix != "" || rw.URISubstring != nil || rw.PathRegexp != nil)
}

// inspectTrustedProxies finds servers on which a client can choose the address by which it is judged.
func inspectTrustedProxies(s *setup, r *report) {
	var raw struct {
		Servers map[string]struct {
			TrustedProxies struct {
				Ranges []string `json:"ranges"`
			} `json:"trusted_proxies"`
		} `json:"servers"`
	}
	_ = json.Unmarshal(s.apps["http"], &raw) // was loaded before
	of := func(at *position) (ranges []string, isOpen bool) {
		ranges = raw.Servers[at.serverName].TrustedProxies.Ranges
		return ranges, slices.ContainsFunc(ranges, func(text string) bool {
			prefix, err := caddyhttp.CIDRExpressionToPrefix(text)
			return err == nil && isWide(prefix)
		})
	}
	open := func(where string) {
		r.fail("trusted_proxies_open", where, "trusted_proxies trusts a large part of the internet: whoever sends X-Forwarded-For passes for an allowed address", "name the addresses of your own proxies only")
	}
	for _, p := range s.proxies { // without trusted_proxies_strict it wants every named address allowed
		if _, isOpen := of(p.position); isOpen {
			open(p.name("cvs_proxy"))
		}
	}
	for _, c := range s.confirms {
		ranges, isOpen := of(c.position)
		switch {
		case c.handler.Allow == nil:
		case isOpen:
			open(c.name("cvs_confirm"))
		case len(ranges) > 0 && c.server.TrustedProxiesStrict == 0 && readsList(c.server.ClientIPHeaders):
			r.warn("trusted_proxies_not_strict", c.name("cvs_confirm"), "allow with trusted_proxies, but without trusted_proxies_strict: the client's address is the first one of X-Forwarded-For, which the client may have written", "add trusted_proxies_strict to the global option servers")
		}
	}
}

// readsList reports whether a header field is read that may begin with what the client wrote. A proxy overwrites
// those that name one address, such as CF-Connecting-IP.
func readsList(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.EqualFold(name, "X-Forwarded-For") || strings.EqualFold(name, "Forwarded")
	})
}

// isWide reports whether a range is larger than any that belongs to one operator.
func isWide(prefix netip.Prefix) bool {
	return isPublicPrefix(prefix) && (prefix.Addr().Is4() && prefix.Bits() < 8 || prefix.Addr().Is6() && prefix.Bits() < 16)
}
