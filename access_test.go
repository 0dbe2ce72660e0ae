package caddycvs

// This file holds tests of who may call cvs_proxy, by its list of forwarding fields and by
// the state of a TLS handshake.

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestProxyRejectsForwardedFromUntrustedPeer(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Globals: "servers {\nclient_ip_headers X-Shop-Client\n}"})
	for _, name := range append([]string{"X-Shop-Client"}, forwardingHeaders...) {
		for _, values := range [][]string{{"10.0.0.1"}, {""}, {"10.0.0.1", "10.0.0.2"}, {"for=127.0.0.1;proto=https"}, {"1.1 front"}, {"unknown"}} {
			assert.Equal(t, 403, g.GetToken(t, g.Inside, http.Header{name: values}), "%s: %q", name, values)
			assert.Equal(t, 403, g.GetToken(t, g.Inside, http.Header{strings.ToLower(name): values}), "%s: %q", name, values)
		}
	}
	assert.Equal(t, 200, g.GetToken(t, g.Inside, nil))
}

// A client that sends 0-RTT data by HTTP/3 has not proved yet that its address is its own.
func TestProxyRejectsRequestsBeforeTheHandshake(t *testing.T) {
	t.Parallel()
	var a access
	a.matcher.Ranges = []string{"127.0.0.1"}
	r := httptest.NewRequest(http.MethodPost, "/cvs", nil)
	r.TLS = new(tls.ConnectionState)
	var refused *httpError
	require.ErrorAs(t, a.verifyAddress(r), &refused)
	assert.Equal(t, http.StatusTooEarly, refused.status)
}
