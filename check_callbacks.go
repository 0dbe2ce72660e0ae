package caddycvs

// This file holds what `caddy cvs check` says of confirm_url and notice_url without asking the network:
// whether they are public and https, and lead to handlers of this configuration.

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// callback is a confirm_url or a notice_url.
type callback struct {
	option  string
	url     *url.URL
	base    *signedurl.Base
	account *account
	where   string
}

// callbacks returns the callback URLs of a cvs_proxy.
func (p placed[H]) callbacks(handler *Proxy) (list []callback) {
	for option, base := range map[string]*signedurl.Base{"confirm_url": handler.defaults.ConfirmURL, "notice_url": handler.defaults.NoticeURL} {
		if base == nil {
			continue
		}
		u, err := url.Parse(base.String())
		if err != nil { // was parsed before
			continue
		}
		list = append(list, callback{option, u, base, handler.account, p.name("cvs_proxy")})
	}
	if len(list) == 2 && list[0].option > list[1].option {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

// shown is the address without its query.
func (c *callback) shown() string { return c.url.Scheme + "://" + c.url.Host + c.url.EscapedPath() }

func inspectCallbacks(s *setup, r *report) {
	for _, p := range s.proxies {
		for _, c := range p.callbacks(p.handler) {
			where := c.where + ", " + c.option
			switch isPublic := isPublicHost(c.url.Hostname()); {
			case c.account.isSandbox():
			case !isPublic:
				r.fail("callback_not_public", where, c.url.Host+" is at a host that PortOne cannot reach: no webhook will come", "use the shop's public address")
				continue
			case c.url.Scheme == "http":
				r.fail("callback_not_https", where, "is http at a public host: a redirect to https, which Caddy makes by itself, loses the webhook, because its sender follows none", "use https")
			}
			s.inspectLeadsTo(&c, where, r)
		}
	}
}

// inspectLeadsTo finds a callback URL that leads to no handler, while there are handlers to which it could.
func (s *setup) inspectLeadsTo(c *callback, where string, r *report) {
	var at []destination
	directive := strings.TrimSuffix("cvs_"+c.option, "_url")
	if c.option == "confirm_url" {
		for _, p := range s.confirms {
			at = append(at, destination{p.position, p.handler.Account, p.handler.Account == ""})
		}
	} else {
		for _, p := range s.notices {
			at = append(at, destination{p.position, p.handler.Account, false})
		}
	}
	if len(at) == 0 { // another Caddy may have it
		return
	}
	var onHost, onPath []destination
	for _, d := range at {
		request := d.request(c)
		if d.takesHost(request) {
			onHost = append(onHost, d)
			if d.takesPath(request) {
				onPath = append(onPath, d)
			}
		}
	}
	switch {
	case len(onHost) == 0:
		r.warn("callback_other_host", where, "no site of this configuration with a "+directive+" has the host "+c.url.Hostname(), "correct the host, unless another Caddy has that site")
	case len(onPath) == 0:
		r.fail("callback_no_handler", where, "no "+directive+" of "+onHost[0].site()+" takes the path "+c.url.EscapedPath(), "use one path for both, such as /cvs/"+strings.TrimSuffix(c.option, "_url"))
	case !takesAccount(onPath, c.account.name):
		r.fail("callback_other_account", where, "leads to a "+directive+" of another account than "+accountInWords(c.account.name)+", which refuses its webhooks", "set the option account of both to the same name")
	default:
		r.good("%s leads to %s", where, onPath[0].name(directive))
	}
}

// destination is where a callback may arrive.
type destination struct {
	*position
	account string
	any     bool // takes every account's
}

func takesAccount(list []destination, name string) bool {
	for _, d := range list {
		if d.any || d.account == name {
			return true
		}
	}
	return false
}

// request is what a webhook to the callback looks like for Caddy's matchers. It is sent nowhere.
func (d *destination) request(c *callback) *http.Request {
	r := &http.Request{
		Method: http.MethodPost, URL: c.url, Host: c.url.Host, RequestURI: c.url.RequestURI(), Header: make(http.Header), Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), discardWriter{}, d.server)
}

// discardWriter is the writer of a request that nobody answers.
type discardWriter struct{}

func (discardWriter) Header() http.Header         { return http.Header{} }
func (discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (discardWriter) WriteHeader(int)             {}
