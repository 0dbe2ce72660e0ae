package client

// This file holds what keeps connections usable: pings, and closing those that may be dead.

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"
)

// closeIdle ends the Transport's idle connections, unless they are the whole
// program's.
func (c *Client) closeIdle() {
	if t, ok := c.bare.(interface{ CloseIdleConnections() }); ok && c.bare != http.DefaultTransport {
		t.CloseIdleConnections()
	}
}

// distrust ends the idle connections after one that failed: where one has died
// without a word, as when a firewall forgot it, the others will have, too, and each
// would cost a call. One of HTTP/2 counts as idle only when the transport has
// finished its last call, so the next call ends them once more.
func (c *Client) distrust(err error) {
	if !errors.Is(err, context.Canceled) {
		c.closeIdle()
		c.suspect.Store(true)
	}
}

// A connection that died without a word is given up so long after its last frame.
const (
	pingAfter   = 2 * time.Second
	pingTimeout = 3 * time.Second
)

// KeepHealthy has a transport ask over each connection of HTTP/2 on which nothing
// arrives whether the other side is still there, unless it does so already. Without
// that, a connection which a firewall or a NAT has forgotten would be used for as
// long as calls are made over it, and each of them would time out. It must be called
// before the transport is used.
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
	if !ok { // the program has put another in its place
		return http.DefaultTransport
	}
	own := usual.Clone()
	KeepHealthy(own)
	return own
}
