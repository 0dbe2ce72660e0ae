package acceptance

// This file holds tests that start Caddy in a process of its own: they end the process, or
// change its environment.

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// prepareForShutdown prepares a gateway with a short grace period. The channel receives a
// value for each request that arrives at an endpoint of its API.
func prepareForShutdown(t *testing.T, endpoint emulator.Endpoint) (g *gatewaytest.Gateway, config string, arrived chan struct{}) {
	t.Helper()
	arrived = make(chan struct{}, 2)
	g, config = gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: "timeout 5s", Globals: "grace_period 100ms",
		Emulator: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
			if e == endpoint {
				arrived <- struct{}{}
			}
		}},
	})
	return g, config, arrived
}

// A shutdown waits for calls that the API is working on, even after the grace period.
func TestShutdownFinishesCallsUnderWay(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method, path, body string
		endpoint           emulator.Endpoint
	}{
		"issue": {http.MethodPost, "/cvs", "merchant_uid=order-2&amount=15000", emulator.EndpointIssue},
		"void":  {http.MethodDelete, "/cvs/{imp_uid}", "", emulator.EndpointVoid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config, arrived := prepareForShutdown(t, tc.endpoint)
			cmd := gatewaytest.StartProcess(t, config)
			first := g.MustIssue(t, "order-1")
			for len(arrived) > 0 {
				<-arrived
			}
			require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: tc.endpoint, Delay: time.Second}))
			answered := make(chan gatewaytest.Answer, 1)
			go func() {
				answered <- g.Do(t, tc.method, g.Inside+strings.Replace(tc.path, "{imp_uid}", first.ImpUID, 1), gatewaytest.FormType, tc.body)
			}()
			<-arrived
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			a := <-answered
			assert.Equal(t, 200, a.Status, a.Body)
			_ = cmd.Wait()
			assert.Contains(t, g.Log(t), `"operation":"`+name+`"`, "its outcome is in the log")
			assert.NotContains(t, g.Log(t), "stopped before an api call was answered")
		})
	}
}

// A shutdown soon after a reload waits for the calls of the configuration before. The reload
// itself does not wait for them.
func TestShutdownFinishesCallsOfEarlierConfigurations(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(g *gatewaytest.Gateway, config string) string{
		"the same": func(_ *gatewaytest.Gateway, config string) string {
			return strings.Replace(config, "expires_in 72h", "expires_in 1h", 1)
		},
		"another secret": func(_ *gatewaytest.Gateway, config string) string {
			return strings.Replace(config, "{env.CVS_TEST_SECRET}", "{env.CVS_TEST_SECOND_SECRET}", 1)
		},
		"no cvs_proxy": func(g *gatewaytest.Gateway, config string) string {
			global, _, _ := strings.Cut(config, g.Inside)
			return global + g.Outside + " {\nrespond 404\n}\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config, arrived := prepareForShutdown(t, emulator.EndpointIssue)
			admin := gatewaytest.Address(t)
			config = strings.Replace(config, "admin off", "admin "+admin, 1)
			cmd := gatewaytest.StartProcess(t, config)
			require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: 2 * time.Second}))
			answered := make(chan gatewaytest.Answer, 1)
			go func() { answered <- g.Issue(t, "order-1") }()
			<-arrived
			adapted, _, err := gatewaytest.AdaptCaddyfile(change(g, config))
			require.NoError(t, err)
			began := time.Now()
			assert.Equal(t, 200, g.Do(t, http.MethodPost, "http://"+admin+"/load", gatewaytest.JSONType, string(adapted)).Status)
			assert.Less(t, time.Since(began), 1500*time.Millisecond, "a reload does not wait")
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			assert.Equal(t, 200, (<-answered).Status)
		})
	}
}

// A proxy that the environment names must not answer in place of the shop, and must not see
// the key of an order check.
func TestOrderChecksIgnoreProxyEnvironment(t *testing.T) {
	t.Parallel()
	var asked bytes.Buffer
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(&asked, r.Method, r.RequestURI)
		fmt.Fprint(w, `{"payable":true,"total":15000}`)
	}))
	t.Cleanup(proxy.Close)
	// A name that does not exist: http.ProxyFromEnvironment never uses a proxy for localhost.
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Confirm: "timeout 1s\norder_check http://shop.invalid/payable {\nrequire payable true\namount total\n}"})
	gatewaytest.StartProcess(t, config, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=127.0.0.1")
	a := g.Confirm(t, g.MustIssue(t, "order-1"))
	assert.NotEqual(t, 200, a.Status, a.Body)
	assert.Empty(t, asked.String())
}
