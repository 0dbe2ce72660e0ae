package caddycvs

// This file holds how `caddy cvs check` uses the network: all steps at once, each with a time limit. It sends
// nothing that could change an order: a token and a look-up to the API, probes to confirm_url, and no byte
// of HTTP to anything else.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const (
	stepLimit   = 5 * time.Second // of each step
	expiresSoon = 14 * 24 * time.Hour
)

// network is how other machines are reached. Tests replace its parts.
type network struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	own    func() []netip.Addr // this machine's addresses
	roots  *x509.CertPool      // nil for the system's
	admin  func(ctx context.Context, uri string) ([]byte, error)
	limit  time.Duration // of each step
}

func newNetwork(admin func(ctx context.Context, uri string) ([]byte, error)) *network {
	return &network{
		dial: new(net.Dialer).DialContext,
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		},
		own: ownAddresses, admin: admin, limit: stepLimit,
	}
}

func ownAddresses() (list []netip.Addr) {
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(ip.IP); ok {
				list = append(list, addr.Unmap())
			}
		}
	}
	return list
}

// step is one inspection that waits for another machine. It returns soon after ctx has ended.
type step func(ctx context.Context, n *network, r *report)

// inspectNetwork runs all steps at the same time. The report has their findings in the order of the steps.
func (s *setup) inspectNetwork(ctx context.Context, n *network) *report {
	steps := s.steps()
	reports := make([]report, len(steps))
	var work sync.WaitGroup
	for i := range steps {
		work.Go(func() { steps[i](ctx, n, &reports[i]) })
	}
	work.Wait()
	all := new(report)
	for i := range reports {
		all.add(&reports[i])
	}
	return all
}

// steps lists what is to be asked of the network.
func (s *setup) steps() (steps []step) {
	for _, name := range s.app.names() {
		steps = append(steps, tokenStep(s.app.accounts[name]))
	}
	seen := make(map[string]bool)
	once := func(key string, next step) {
		if !seen[key] {
			seen[key] = true
			steps = append(steps, next)
		}
	}
	for _, p := range s.proxies {
		for _, c := range p.callbacks(p.handler) {
			once(c.option+c.account.name+c.url.String(), s.callbackStep(c))
		}
	}
	for _, c := range s.confirms {
		for _, check := range c.handler.OrderChecks {
			if u := check.target.address(); u != nil {
				once(u.Scheme+u.Host, connectStep(c.name("cvs_confirm")+", order_check "+check.Name, u))
			}
		}
	}
	for _, p := range s.notices {
		if u := p.handler.Tell.target.address(); u != nil {
			once(u.Scheme+u.Host, connectStep(p.name("cvs_notice")+", tell", u))
		}
	}
	return append(steps, s.ledgerStep())
}

// address returns scheme and host of the URL, nil for a route. Only path and query may depend on the order.
func (t *target) address() *url.URL {
	if len(t.url) == 0 {
		return nil
	}
	var text strings.Builder
	for _, p := range t.url {
		if p.placeholder == "" {
			text.WriteString(p.literal)
		} else {
			text.WriteString("x")
		}
	}
	u, err := url.Parse(text.String())
	if err != nil { // was parsed at load
		return nil
	}
	return u
}

// connectStep connects to the merchant's app, by TCP and TLS, and sends no request.
func connectStep(where string, u *url.URL) step {
	return func(ctx context.Context, n *network, r *report) {
		leaf, err := n.connect(ctx, u)
		if err != nil {
			r.fail("app_unreachable", where, u.Host+" cannot be reached: "+client.Cause(err), "start the app, or correct the URL")
			return
		}
		reportExpiry(leaf, where, u.Host, r)
		r.good("%s: %s can be reached", where, u.Host)
	}
}

// connect connects to the host of a URL, and returns its certificate, nil for plain http.
func (n *network) connect(ctx context.Context, u *url.URL) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, n.limit)
	defer cancel()
	conn, err := n.dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), strconv.Itoa(portOf(u))))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if u.Scheme == "http" {
		return nil, nil
	}
	secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), RootCAs: n.roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure.ConnectionState().PeerCertificates[0], nil
}

// reportExpiry warns of a certificate that ends soon.
func reportExpiry(leaf *x509.Certificate, where, host string, r *report) {
	if leaf == nil {
		return
	}
	if left := time.Until(leaf.NotAfter); left < expiresSoon && left < leaf.NotAfter.Sub(leaf.NotBefore)/5 {
		r.warn("certificate_soon", where, fmt.Sprintf("the certificate of %s expires on %s", host, leaf.NotAfter.UTC().Format(time.DateOnly)), "find out why it is not renewed: after that day no webhook comes")
	}
}

// isExpired reports whether a handshake failed because the certificate's time is over.
func isExpired(err error) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired
}
