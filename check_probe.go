package caddycvs

// This file holds how `caddy cvs check` tries a callback URL: by TCP and TLS, and a confirm_url by probes.

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const probes = 10 // of each confirm_url, to meet all nodes behind it

// callbackStep tries a callback URL the way that PortOne takes.
func (s *setup) callbackStep(c callback) step {
	return func(ctx context.Context, n *network, r *report) {
		where := c.where + ", " + c.option
		leaf, err := n.connect(ctx, c.url)
		switch {
		case err != nil && isExpired(err):
			r.fail("certificate_expired", where, "the certificate of "+c.url.Host+" has expired, or this machine's clock is wrong", "renew the certificate: PortOne sends no webhook to this site")
			return
		case err != nil:
			r.fail("callback_unreachable", where, c.shown()+" cannot be reached: "+client.Cause(err), "check DNS, the firewall and the certificate; a router may also keep its own network from its public address: then run the check elsewhere")
			return
		}
		reportExpiry(leaf, where, c.url.Host, r)
		s.inspectAddresses(ctx, n, &c, where, r)
		if c.option == "notice_url" { // a notice could not be told from a real one
			r.good("%s: %s can be reached", where, c.url.Host)
			return
		}
		n.probe(ctx, &c, where, r)
	}
}

// inspectAddresses finds a host that is several machines, one of which is this one, with a ledger in a file.
func (s *setup) inspectAddresses(ctx context.Context, n *network, c *callback, where string, r *report) {
	place := s.app.ledger.place
	if place == nil || place.store != ledgerFile {
		return
	}
	if _, err := netip.ParseAddr(c.url.Hostname()); err == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.limit)
	defer cancel()
	found, err := n.lookup(ctx, c.url.Hostname())
	own := n.own()
	if err == nil && len(found) > 1 && slices.ContainsFunc(found, func(a netip.Addr) bool { return slices.Contains(own, a.Unmap()) }) {
		r.warn("nodes_with_file", where, fmt.Sprintf("%s has %d addresses, one of which is this machine's, and the ledger is a file of this node: each node may issue a barcode for the same order", c.url.Hostname(), len(found)),
			"use ledger postgres or ledger mysql, unless there is one node")
	}
}

// probe sends all probes at once, each over a connection of its own, and reports each kind of answer once.
func (n *network) probe(ctx context.Context, c *callback, where string, r *report) {
	ctx, cancel := context.WithTimeout(ctx, n.limit)
	defer cancel()
	answers := make([]probeAnswer, probes)
	var work sync.WaitGroup
	for i := range answers {
		work.Go(func() { answers[i] = n.probeOnce(ctx, c) })
	}
	work.Wait()
	counts := make(map[string]int)
	var kinds []probeAnswer
	for _, a := range answers {
		if counts[a.id]++; counts[a.id] == 1 {
			kinds = append(kinds, a)
		}
	}
	for _, a := range kinds {
		if a.id == "" {
			if len(kinds) == 1 {
				r.good("%s: cvs_confirm answers at %s%s", where, c.shown(), a.message)
			}
			continue
		}
		message := a.message
		if len(kinds) > 1 {
			message = fmt.Sprintf("%d of %d probes, as of another node: %s", counts[a.id], probes, message)
		}
		if a.id == probeFromInside {
			r.warn(a.id, where, message, a.remedy)
			continue
		}
		r.fail(a.id, where, message, a.remedy)
	}
}

// probeAnswer is what an answer to a probe means. The id is "" if it is right; the message is a note then.
type probeAnswer struct{ id, message, remedy string }

// probeFromInside is that allow refuses a probe that seems to come from a private address.
const probeFromInside = "probe_from_inside"

// probeOnce sends one probe.
func (n *network) probeOnce(ctx context.Context, c *callback) probeAnswer {
	p, err := newProbe(c.base, c.account.name, c.account.keys)
	if err != nil {
		return probeAnswer{"probe_unsigned", "no probe could be signed: " + err.Error(), "check signing_key"}
	}
	request, err := p.request(ctx)
	if err != nil {
		return probeAnswer{"probe_unsigned", "no probe could be signed", "check signing_key"}
	}
	transport := &http.Transport{
		DialContext: n.dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: n.roots, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(request) // follows no redirect, as PortOne
	if err != nil {
		return probeAnswer{"probe_unanswered", c.shown() + " does not answer a probe: " + client.Cause(err), "check what stands before Caddy; PortOne waits 5 to 10 seconds"}
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	sees, isRefused := resp.Header[probeClient]
	isRefused = isRefused && resp.StatusCode == http.StatusForbidden
	if !isRefused && resp.StatusCode != http.StatusNoContent {
		return judgeProbe(resp, body, c)
	}
	if a := judgeKeys(p, resp.Header.Get(probeHeader), c); a.id != "" || !isRefused {
		return a
	}
	return judgeAddress(sees[0], c)
}

// judgeAddress says what it means that allow refuses the address that a cvs_confirm with the right keys sees. One
// of the internet is most likely this machine's, which need not be allowed. A private one may be that of a proxy,
// behind which every webhook is refused.
func judgeAddress(sees string, c *callback) probeAnswer {
	if ip, err := netip.ParseAddr(sees); err == nil && isPublicHost(ip.String()) {
		return probeAnswer{"", ", and refuses this machine, " + ip.String() + ", as its allow says", ""}
	} else if err != nil {
		sees = "a client without an address"
	}
	return probeAnswer{
		probeFromInside, "cvs_confirm at " + c.shown() + " sees " + sees + ", which its allow refuses: if that is a proxy before Caddy, it refuses PortOne's webhooks as well",
		"name the proxy in the global option trusted_proxies; if it is this machine, run the check elsewhere",
	}
}

func judgeKeys(p *probe, header string, c *callback) probeAnswer {
	if header == "" {
		return probeAnswer{"probe_other_204", c.shown() + " answers 204, but it is not cvs_confirm", "check what stands before Caddy, and that the host is this Caddy's"}
	}
	switch sameOrder, missing, ok := p.compare(header); {
	case !ok:
		return probeAnswer{"probe_other_keys", "a node at " + c.url.Host + " has other signing keys for " + accountInWords(c.account.name) + " than this configuration", "give all nodes the same imp_secret and signing_key"}
	case missing > 0:
		return probeAnswer{"probe_lacks_keys", fmt.Sprintf("a node at %s lacks %d of the signing keys of %s", c.url.Host, missing, accountInWords(c.account.name)), "load this configuration on all nodes"}
	case !sameOrder:
		return probeAnswer{"probe_key_order", "a node at " + c.url.Host + " has the signing keys of " + accountInWords(c.account.name) + " in another order, or more of them", "load this configuration on all nodes"}
	}
	return probeAnswer{}
}

// judgeProbe says what an answer means that is not 204.
func judgeProbe(resp *http.Response, body []byte, c *callback) probeAnswer {
	own := gjson.ValidBytes(body) && gjson.GetBytes(body, "accepted").Type == gjson.False
	switch code := resp.StatusCode; {
	case own && code == http.StatusForbidden:
		return probeAnswer{
			"probe_refused", "a cvs_confirm at " + c.shown() + " refuses the probe of " + accountInWords(c.account.name),
			"give that Caddy the same imp_secret and signing_key, and the right time; if its cvs_confirm has account, it must be this one",
		}
	case own && code == http.StatusNotFound:
		return probeAnswer{"probe_no_handler", "the Caddy at " + c.url.Host + " has no cvs_confirm at the path " + c.url.EscapedPath(), "use one path for confirm_url and cvs_confirm"}
	case code/100 == 3:
		return probeAnswer{"probe_redirect", c.shown() + " redirects" + target3xx(resp) + ", and PortOne follows no redirect", "set confirm_url to the address that answers by itself"}
	case code == http.StatusOK:
		return probeAnswer{"probe_other_200", c.shown() + " answers 200, but it is not cvs_confirm: the till takes that for acceptable, and nobody asks the shop", "check that the host is this Caddy's and that cvs_confirm takes the path"}
	case code == http.StatusUnauthorized || code == http.StatusProxyAuthRequired:
		return probeAnswer{"probe_password", fmt.Sprintf("%s asks for a password (HTTP %d)", c.shown(), code), "let the path of cvs_confirm pass without one"}
	case code == http.StatusForbidden || code == http.StatusTooManyRequests || code == http.StatusNotAcceptable:
		return probeAnswer{"probe_firewall", fmt.Sprintf("%s answers HTTP %d, which is not cvs_confirm's: a firewall or a bot protection", c.shown(), code), "let POST requests to that path pass"}
	case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return probeAnswer{"probe_gateway", fmt.Sprintf("%s answers HTTP %d: what stands before Caddy does not reach it", c.shown(), code), "start Caddy, or correct the address in the load balancer"}
	default:
		return probeAnswer{"probe_other_site", fmt.Sprintf("%s answers HTTP %d, which is not cvs_confirm's: another site has that address", c.shown(), code), "check the host and the path of confirm_url"}
	}
}

// target3xx names the host to which an answer redirects, without path and query, which may have the signature.
func target3xx(resp *http.Response) string {
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || to.Host == "" {
		return ""
	}
	return " to " + strings.TrimPrefix(to.Scheme+"://"+to.Host, "://")
}
