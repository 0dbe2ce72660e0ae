package caddycvs

// This file holds tests of docs/operations.md: the Caddyfiles for what stands in front of Caddy, and how long
// the app must wait.

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

var trustedRanges = regexp.MustCompile(`trusted_proxies static [^#\n]+`)

// shownFront returns the server's options and the site of a shown Caddyfile, for the site's own address. The
// proxy in front is at 127.0.0.1.
func shownFront(t *testing.T, with, addressInDocs, address string) (options, site string) {
	t.Helper()
	for _, config := range fenced(t, "caddyfile") {
		if !strings.Contains(config, with) {
			continue
		}
		global, sites, found := strings.Cut(config, "\n}\n")
		require.True(t, found)
		begin, end := strings.Index(global, "\tservers "), strings.Index(global, "\tcvs {")
		require.True(t, begin >= 0 && end > begin)
		options = trustedRanges.ReplaceAllString(global[begin:end], "trusted_proxies static 127.0.0.1/32 ")
		options = regexp.MustCompile(`servers \S+`).ReplaceAllString(options, "servers "+address)
		_, site, found = strings.Cut(sites, addressInDocs+" {")
		require.True(t, found)
		return options, "http://:" + port(address) + " {\n\tbind 127.0.0.1" + site
	}
	require.Fail(t, "not shown: "+with)
	return "", ""
}

// PortOne is known by its address behind Cloudflare and behind an AWS load balancer, which send these header
// fields, and a client cannot say that it is PortOne.
func TestAllowPortOneBehindCloudflareAndLoadBalancer(t *testing.T) {
	t.Parallel()
	const portone, stranger = "52.78.100.19", "203.0.113.7"
	for name, c := range map[string]struct {
		with, site string
		sends      func(client, forged string) http.Header
	}{
		"Cloudflare": {"client_ip_headers Cf-Connecting-Ip", "\nshop.example", func(client, forged string) http.Header {
			return http.Header{"Cf-Connecting-Ip": {client}, "X-Forwarded-For": {forged + ", " + client}, "X-Forwarded-Proto": {"https"}, "X-Real-Ip": {forged}}
		}},
		"AWS load balancer": {"respond /healthz 200", "\nhttp://:8080", func(client, forged string) http.Header {
			return http.Header{"X-Forwarded-For": {forged + ", " + client}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"}, "Cf-Connecting-Ip": {forged}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behind := gatewaytest.Address(t)
			options, site := shownFront(t, c.with, c.site, behind)
			g := gatewaytest.Start(t, gatewaytest.Setup{
				Globals: options, Proxy: "confirm_url http://" + behind + "/cvs/confirm",
				Sites: strings.ReplaceAll(site, "http://127.0.0.1:3000", "SHOP"),
			})
			i := g.MustIssue(t, "order-1")
			send := func(client, forged string) int {
				return sendFrom(t, g, "127.0.0.1", http.MethodPost, i.ConfirmURL, i.Webhook(), c.sends(client, forged)).Status
			}
			assert.Equal(t, 200, send(portone, stranger))
			assert.Equal(t, 403, send(stranger, portone))
			assert.Equal(t, 403, sendFrom(t, g, "127.0.0.2", http.MethodPost, i.ConfirmURL, i.Webhook(), c.sends(portone, portone)).Status, "from another machine")
		})
	}
}

// The app's own time-out must be longer than three times the option timeout: twice is not enough if a barcode
// is looked up and voided before another one is asked for, and all answers to that are lost.
func TestAnswerIsSentWithinThreeTimeouts(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "timeout 500ms"})
	g.MustIssue(t, "order-1")
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointPayment, Delay: 400 * time.Millisecond, Times: 1}))
	for _, endpoint := range []emulator.Endpoint{emulator.EndpointIssue, emulator.EndpointFind, emulator.EndpointFindAll} {
		require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: endpoint, Delay: time.Hour, CancelWithClient: true}))
	}
	began := time.Now()
	a := g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.FormType, "merchant_uid=order-1&amount=20000")
	took := time.Since(began)
	assert.Equal(t, http.StatusGatewayTimeout, a.Status, a.Body)
	assert.Greater(t, took, 2*timeout)
	assert.Less(t, took, 3*timeout+time.Second)
}

// An app that has stopped waiting asks again, and gets the barcode of the call that goes on.
func TestAppThatStoppedWaitingGetsTheBarcodeOfItsFirstCall(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: 300 * time.Millisecond, Times: 1}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Inside+"/cvs", strings.NewReader(gatewaytest.IssueBody("order-1")))
	require.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	_, err = g.HTTP.Do(r)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	a := g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.JSONType, gatewaytest.IssueBody("order-1"))
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	assert.Equal(t, "1", a.Header.Get("X-Cvs-Reused"), "this request did not issue it")
	assert.Len(t, g.API.Payments(), 1)
}
