package client

// This file holds what keeps connections usable: pings, and closing those that may be
// dead.

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"
)

// A connection is pinged after pingAfter without a frame, and closed if no answer arrives
// within pingTimeout.
const (
	pingAfter   = 2 * time.Second
	pingTimeout = 3 * time.Second
)

// KeepHealthy makes a transport ping each connection of HTTP/2 on which nothing arrives,
// unless it does so already. Without pings, the transport would keep using a connection that
// a firewall or a NAT has forgotten, and each call over it would time out. It must be called before the transport is used.
func KeepHealthy(t *http.Transport) {
	var cfg http.HTTP2Config
	if t.HTTP2 != nil {
		cfg = *t.HTTP2
	}
	cfg.SendPingTimeout = cmp.Or(cfg.SendPingTimeout, pingAfter)
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, pingTimeout)
	t.HTTP2 = &cfg
}

// newTransport returns a transport of the client's own.
func newTransport() http.RoundTripper {
	usual, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program has replaced it
		return http.DefaultTransport
	}
	own := usual.Clone()
	KeepHealthy(own)
	return own
}

// closeIdleConnections closes the transport's idle connections, unless the transport is
// http.DefaultTransport, which the whole program shares.
func (c *Client) closeIdleConnections() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok && c.transport != http.DefaultTransport {
		t.CloseIdleConnections()
	}
}

// closeIdleAfter closes the idle connections after a call over one of them failed. If a
// firewall forgot that connection, it has probably forgotten the others too, and each
// would cost a call. A connection of HTTP/2 becomes idle only after the transport has
// finished its last call, so the next call closes the idle connections once more.
func (c *Client) closeIdleAfter(err error) {
	if !errors.Is(err, context.Canceled) {
		c.closeIdleConnections()
		c.closeIdleAgain.Store(true)
	}
}
