package caddycvs

// This file holds a warning at load: a callback URL that the sender of webhooks cannot use.

import (
	"net/netip"
	"net/url"
	"strings"

	"go.uber.org/zap"
)

// warnAboutCallback warns of a callback URL that PortOne cannot reach.
func (p *Proxy) warnAboutCallback(option, raw string) {
	u, err := url.Parse(raw)
	if err != nil {
		return
	}
	api, _ := url.Parse(p.account.api)
	switch isPublic := isPublicHost(u.Hostname()); {
	case isPublic && u.Scheme == "http":
		p.logger.Warn("a callback URL is http at a public host: if that redirects to https, as Caddy does, the webhook is lost, because its sender follows no redirect; use https",
			zap.String("option", option), zap.String("host", u.Host))
	case !isPublic && api != nil && isPublicHost(api.Hostname()):
		p.logger.Warn("a callback URL is at a host that PortOne cannot reach: no webhook will come; use the shop's public address",
			zap.String("option", option), zap.String("host", u.Host))
	}
}

var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

// isPublicHost reports whether a host's name or address is one that can be reached from the
// internet.
func isPublicHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsGlobalUnicast() && !addr.IsPrivate() && !carrierNAT.Contains(addr)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	_, top, isQualified := strings.Cut(name, ".")
	for _, private := range []string{"localhost", "localdomain", "local", "internal", "intranet", "corp", "home", "lan", "svc", "test", "home.arpa"} {
		if name == private || strings.HasSuffix(name, "."+private) {
			return false
		}
	}
	return isQualified && top != ""
}
