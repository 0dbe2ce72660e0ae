package caddycvs

// This file holds who may call, by the address of the client.

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// access decides by the client's address, as Caddy determines it.
type access struct {
	matcher  caddyhttp.MatchClientIP
	prefixes []netip.Prefix
}

// portoneAddresses are the published sources of webhooks.
var portoneAddresses = []string{"52.78.100.19", "52.78.48.223", "52.78.5.241"}

func (a *access) provision(ctx caddy.Context, allow []string) error {
	if allow != nil && len(allow) == 0 {
		return errors.New("allow is empty: name who may call, or leave it out for the default")
	}
	for _, word := range allow {
		if err := validateRange(word); err != nil {
			return err
		}
		for _, cidr := range ranges(word) {
			prefix, _ := caddyhttp.CIDRExpressionToPrefix(cidr)
			a.prefixes = append(a.prefixes, prefix)
			a.matcher.Ranges = append(a.matcher.Ranges, cidr)
		}
	}
	return a.matcher.Provision(ctx)
}

// ranges returns what a word of the option allow stands for.
func ranges(word string) []string {
	switch word {
	case "private_ranges":
		return caddyhttp.PrivateRangesCIDR()
	case "portone":
		return portoneAddresses
	default:
		return []string{word}
	}
}

var errPortOneCalls = errors.New("allow portone is for cvs_confirm: PortOne never calls cvs_proxy")

// validateCaller is validateRange for cvs_proxy.
func validateCaller(word string) error {
	if word == "portone" {
		return errPortOneCalls
	}
	return validateRange(word)
}

func validateRange(word string) error {
	for _, cidr := range ranges(word) {
		if _, err := caddyhttp.CIDRExpressionToPrefix(cidr); err != nil {
			return fmt.Errorf("allow %q: need an IP address, a CIDR range, private_ranges or portone", word)
		}
	}
	return nil
}

// The rules that refuse a caller. The log names the rule. Except for ruleBrowser, it is the
// name of an option, of this module or of Caddy.
const (
	ruleAllow           = "allow"
	ruleTrustedProxies  = "trusted_proxies"
	ruleClientIPHeaders = "client_ip_headers"
	ruleBrowser         = "browser"
	ruleServe           = "serve"
)

// notAllowed names the option in its message, because the caller may be the shop's own app.
func notAllowed(who string) error {
	return forbidden(ruleAllow, who+" may not call this gateway: see the option allow.")
}

// authorize refuses every caller except the shop's own apps.
func (a *access) authorize(r *http.Request) error {
	if err := a.verifyAddress(r); err != nil {
		return err
	}
	if err := a.verifyForwarded(r); err != nil {
		return err
	}
	// A page of another site can make a browser in the shop's network send requests.
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return forbidden(ruleBrowser, "A browser may not call the gateway: call it from the app's server, without Origin and Sec-Fetch-Site.")
	}
	return nil
}

func (a *access) verifyAddress(r *http.Request) error {
	switch ip := clientIP(r); {
	case r.RemoteAddr == "@" && ip == "@":
		return forbidden(ruleTrustedProxies, "The proxy at the unix socket, which trusted_proxies_unix trusts, does not name the client: configure it to send X-Forwarded-For.")
	case r.RemoteAddr == "@" && ip == "": // a unix socket is this machine
		if !a.contains("127.0.0.1") {
			return notAllowed(caller(r))
		}
		return nil
	}
	ok, err := a.matcher.MatchWithError(r)
	if err != nil {
		return &httpError{status: http.StatusTooEarly, message: "The TLS handshake is not complete: send the request again."}
	}
	if !ok {
		return notAllowed(caller(r))
	}
	return nil
}

// caller describes who calls. It begins a sentence of a message.
func caller(r *http.Request) string {
	if ip := clientIP(r); ip != "" {
		return "The address " + ip
	}
	return "A unix socket"
}

func (a *access) contains(ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && slices.ContainsFunc(a.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func clientIP(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}

// addressHeaders are set by proxies to tell a client's address.
var addressHeaders = []string{
	"Forwarded", "X-Forwarded-For", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip",
}

// forwardingHeaders are all that proxies set. A request that has one was not sent
// by the peer itself.
var forwardingHeaders = slices.Concat(addressHeaders, []string{
	"Via", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
})

// verifyForwarded refuses a request that an untrusted proxy forwarded: the proxy's own
// address, often a private one, would open the gateway to all of its clients. Of a trusted
// proxy every address that it names must be allowed: unless trusted_proxies_strict is set,
// Caddy takes the first one, which the client may have forged.
func (a *access) verifyForwarded(r *http.Request) error {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	var ipHeaders []string
	if server != nil {
		ipHeaders = server.ClientIPHeaders
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		return a.verifyNamedClients(r, ipHeaders, server != nil && server.TrustedProxiesStrict > 0)
	}
	forwarded := slices.ContainsFunc(forwardingHeaders, func(name string) bool { return len(r.Header[name]) > 0 }) ||
		slices.ContainsFunc(ipHeaders, func(name string) bool { return len(r.Header.Values(name)) > 0 })
	if forwarded {
		option := "trusted_proxies"
		if clientIP(r) == "" {
			option = "trusted_proxies_unix"
		}
		return forbidden(ruleTrustedProxies, caller(r)+" forwarded the request, and is not a trusted proxy: see the global option "+option+".")
	}
	return nil
}

// verifyNamedClients refuses a trusted proxy's request that may come from a client that is
// not allowed. Caddy skips what it cannot read as an address and takes the one before it,
// even with trusted_proxies_strict. A field that Caddy does not read may name another client
// than the one that it took.
func (a *access) verifyNamedClients(r *http.Request, ipHeaders []string, strict bool) error {
	named := false
	for _, name := range ipHeaders {
		for part := range strings.SplitSeq(strings.Join(r.Header.Values(name), ","), ",") {
			ip := strings.TrimSpace(part)
			if ip == "" {
				continue
			}
			named = true
			if strict && !isAddress(part) || !strict && !a.contains(ip) {
				return notAllowed("A client that the proxy names in " + name)
			}
		}
	}
	if strict && !named {
		return forbidden(ruleTrustedProxies, "trusted_proxies_strict is set, and the proxy does not name the client: configure it to send "+strings.Join(ipHeaders, " or ")+".")
	}
	for _, name := range addressHeaders {
		if slices.ContainsFunc(ipHeaders, func(read string) bool { return strings.EqualFold(read, name) }) {
			continue
		}
		for _, ip := range r.Header.Values(name) {
			if !a.contains(strings.TrimSpace(ip)) && (!named || name != "Forwarded") {
				return forbidden(ruleClientIPHeaders, "The proxy names a client in "+name+": see the global option client_ip_headers.")
			}
		}
	}
	return nil
}

// isAddress reports whether Caddy finds an address in one part of a list.
func isAddress(part string) bool {
	host, _, err := net.SplitHostPort(part)
	if err != nil {
		host = part
	}
	host, _, _ = strings.Cut(strings.TrimSpace(host), "%")
	_, err = netip.ParseAddr(host)
	return err == nil
}
