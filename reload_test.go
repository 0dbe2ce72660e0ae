package caddycvs

// This file holds tests of reloads: what they keep, release and show.

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// stuckLog is a log that blocks at the line of a decision until it is released.
type stuckLog struct{ reached, release chan struct{} }

var theStuckLog = stuckLog{make(chan struct{}), make(chan struct{})}

func init() { caddy.RegisterModule(stuckLog{}) }

func (stuckLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.test_stuck", New: func() caddy.Module { return new(stuckLog) }}
}

func (stuckLog) String() string                                 { return "test_stuck" }
func (stuckLog) WriterKey() string                              { return "test_stuck" }
func (stuckLog) OpenWriter() (io.WriteCloser, error)            { return theStuckLog, nil }
func (*stuckLog) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }
func (stuckLog) Close() error                                   { return nil }

func (l stuckLog) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "confirm webhook") {
		l.reached <- struct{}{}
		<-l.release
	}
	return len(p), nil
}

func TestBlockedLogDoesNotDelayTheAnswer(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Run(t, strings.Replace(config, "output file "+g.LogFile, "output test_stuck", 1))
	i := g.MustIssue(t, "order-1")
	assert.Equal(t, 200, g.Confirm(t, i).Status)
	<-theStuckLog.reached
	theStuckLog.release <- struct{}{}
}

// The tests below use the one Caddy that a process can run and reload, so they do not run in
// parallel.

func TestReloadKeepsRequestsAndToken(t *testing.T) {
	const load, reloads = 20, 5
	arrived, release := make(chan struct{}), make(chan struct{})
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		Emulator: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
			if e == emulator.EndpointIssue {
				arrived <- struct{}{}
				<-release
			}
		}},
	})
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	answers := make(chan gatewaytest.Answer, load*reloads)
	for n := range reloads {
		for m := range load {
			go func() { answers <- issueAgain(g, fmt.Sprintf("order-%d-%d", n, m)) }()
			<-arrived
		}
		// Now many requests are under way, also those of earlier configurations.
		require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, "expires_in 72h", "expires_in "+strconv.Itoa(n+1)+"h", 1)))
		broken := strings.Replace(config, "{env.CVS_TEST_SECOND_KEY}", "{env.CVS_TEST_UNSET}", 1)
		require.ErrorContains(t, gatewaytest.Reload(t, broken), "account second: imp_key: evaluated placeholder {env.CVS_TEST_UNSET} is empty")
	}
	close(release)
	var last string
	for range load * reloads {
		a := <-answers
		require.Equal(t, 200, a.Status, a.Body)
		last = a.Payment(t)["imp_uid"].(string)
	}
	assert.Len(t, g.API.Payments(), load*reloads, "each request is one barcode")
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointToken), "one token for all configurations")
	for _, p := range g.API.Payments() {
		if p.ImpUID == last {
			assert.Equal(t, 200, g.Confirm(t, issuedBy(g, last, p.MerchantUID)).Status, "barcodes from before a reload can be paid")
		}
	}
	refs, ok := states.References(stateKeyOf(g.APIURL))
	assert.True(t, ok)
	assert.Equal(t, 1, refs, "every configuration that ended, or never began, released what it held")
}

// issueAgain asks for a barcode while the gateway is reloaded, and does not fail the test.
func issueAgain(g *gatewaytest.Gateway, merchantUID string) gatewaytest.Answer {
	resp, err := gatewaytest.Redialing(g.HTTP).Post(g.Inside+"/cvs", gatewaytest.FormType, strings.NewReader("amount=15000&merchant_uid="+merchantUID))
	if err != nil {
		return gatewaytest.Answer{}
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return gatewaytest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}

func stateKeyOf(api string) stateKey {
	_, key := acquireState(api, gatewaytest.Canaries["CVS_TEST_KEY"], gatewaytest.Canaries["CVS_TEST_SECRET"])
	releaseState(key)
	return key
}

// statesOf counts the accounts of an API in the pool.
func statesOf(api string) (n int) {
	states.Range(func(key, _ any) bool {
		if key.(stateKey).api == api {
			n++
		}
		return true
	})
	return n
}

func TestReloadForgetsRemovedAccounts(t *testing.T) {
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Account: "#SECOND"})
	second := strings.Replace(config, "#SECOND", "account second {\nimp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi "+g.APIURL+"\n}", 1)
	t.Cleanup(func() { _ = caddy.Stop() })
	require.NoError(t, gatewaytest.Reload(t, second))
	assert.Equal(t, 2, statesOf(g.APIURL))
	require.Error(t, gatewaytest.Reload(t, strings.Replace(second, "{env.CVS_TEST_SECOND_KEY}", "{env.CVS_TEST_UNSET}", 1)))
	assert.Equal(t, 2, statesOf(g.APIURL), "a refused configuration changes nothing")
	require.NoError(t, gatewaytest.Reload(t, config))
	assert.Equal(t, 1, statesOf(g.APIURL), "the second account is forgotten")
	refs, _ := states.References(stateKeyOf(g.APIURL))
	assert.Equal(t, 1, refs, "every configuration that ended, or never began, released what it held")
	require.NoError(t, caddy.Stop())
	assert.Zero(t, statesOf(g.APIURL), "and the first, when Caddy has stopped")
}

func TestConfigurationShowsNoSecret(t *testing.T) {
	caddy.ConfigAutosavePath = filepath.Join(gatewaytest.Dir(), "autosave.json")
	admin := gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: "signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}",
		Second:  "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		Confirm: "order_check SHOP/x {\nheader X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}\n}",
	})
	config = strings.Replace(strings.Replace(config, "admin off", "admin "+admin, 1), "persist_config off", "", 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	require.Equal(t, 200, g.Confirm(t, g.MustIssue(t, "order-1")).Status)

	for _, path := range []string{"/config/", "/metrics", "/debug/pprof/cmdline", "/debug/vars"} {
		a := g.Do(t, http.MethodGet, "http://"+admin+path, "", "")
		require.Equal(t, 200, a.Status, path)
		require.NoError(t, os.WriteFile(filepath.Join(gatewaytest.Dir(), "admin"+strings.ReplaceAll(path, "/", "-")), []byte(a.Body), 0o600))
		if path == "/config/" {
			assert.Contains(t, a.Body, "{env.CVS_TEST_SECRET}", "the placeholder stays")
		}
	}
	saved, err := os.ReadFile(caddy.ConfigAutosavePath)
	require.NoError(t, err)
	assert.Contains(t, string(saved), "{env.CVS_TEST_SECRET}")
	assert.Empty(t, gatewaytest.FindSecrets())
}

func TestSandboxSurvivesAReload(t *testing.T) {
	addr := gatewaytest.Address(t)
	config := "{\nadmin off\npersist_config off\nlog {\noutput file " + gatewaytest.LogFile(t) + "\n}\n}\nhttp://" + addr + " {\ncvs_sandbox {\nimp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}\n}\n%s}\n"
	require.NoError(t, gatewaytest.Reload(t, fmt.Sprintf(config, "")))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	g := &gatewaytest.Gateway{HTTP: gatewaytest.HTTPClient(t)}
	a := g.Do(t, http.MethodPost, "http://"+addr+"/users/getToken", gatewaytest.FormType, "imp_key="+gatewaytest.Canaries["CVS_TEST_KEY"]+"&imp_secret="+gatewaytest.Canaries["CVS_TEST_SECRET"])
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, 401, g.Do(t, http.MethodPost, "http://"+addr+"/users/getToken", gatewaytest.FormType, "imp_key=a&imp_secret=b").Status)
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+addr+"/cvs", strings.NewReader("merchant_uid=a&amount=1"))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {gatewaytest.FormType}, "Authorization": {a.Payment(t)["access_token"].(string)}}
	require.Equal(t, 200, g.Send(t, r).Status)

	require.NoError(t, gatewaytest.Reload(t, fmt.Sprintf(config, "header X-New 1\n")))
	var resp *http.Response
	require.Eventually(t, func() bool { // a connection that waits in the queue of the old listener breaks
		resp, err = g.HTTP.Get("http://" + addr + "/sandbox/payments")
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "1", resp.Header.Get("X-New"))
	assert.Equal(t, "true", resp.Header.Get("X-Cvs-Sandbox"))
	assert.Contains(t, string(body), `"merchant_uid": "a"`)
}

// A call that continues after a reload, and is repeated, leaves no connection open.
func TestReloadLeavesNoConnections(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	api := emulator.New(emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
		if e == emulator.EndpointIssue {
			once.Do(func() {
				close(arrived)
				<-release
			})
		}
	}})
	t.Cleanup(func() { _ = api.Close() })
	require.NoError(t, api.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, ExpiredToken: true, Times: 1}))
	var open atomic.Int32
	server := httptest.NewUnstartedServer(api)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)

	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{APIURL: server.URL})
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	answered := make(chan gatewaytest.Answer, 1)
	go func() { answered <- g.Issue(t, "order-1") }()
	<-arrived
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, "next handler", "reloaded", 1)))
	close(release)
	assert.Equal(t, 200, (<-answered).Status, "after a 401, with a new token")
	assert.Eventually(t, func() bool { return open.Load() == 0 }, 5*time.Second, 5*time.Millisecond, "connections of the old configuration")
}
