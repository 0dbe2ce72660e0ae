package caddycvs

import (
	"context"
	"errors"
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
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// misbehaving is a handler that goes wrong in one way.
type misbehaving struct {
	How string `json:"how,omitempty"`
}

func init() {
	caddy.RegisterModule(misbehaving{})
	for _, how := range []string{"hang", "panic", "error", "watch", "leave"} {
		httpcaddyfile.RegisterHandlerDirective("test_"+how, func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
			return &misbehaving{How: how}, nil
		})
		httpcaddyfile.RegisterDirectiveOrder("test_"+how, httpcaddyfile.After, "encode")
	}
}

func (misbehaving) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_misbehaving", New: func() caddy.Module { return new(misbehaving) }}
}

// watched hears when a request through test_watch has lost its client.
var watched = make(chan struct{}, 1)

func (m *misbehaving) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch m.How {
	case "watch":
		stop := context.AfterFunc(r.Context(), func() { watched <- struct{}{} })
		defer stop()
		return next.ServeHTTP(w, r)
	case "leave":
		ctx, leave := context.WithCancel(r.Context())
		defer leave()
		return next.ServeHTTP(leavingWriter{w, leave}, r.WithContext(ctx))
	case "hang":
		select {} // deaf to its context
	case "panic":
		panic("a handler's own fault")
	default:
		return errors.New("a handler's own error")
	}
}

// leavingWriter has the client leave as soon as it has the answer.
type leavingWriter struct {
	http.ResponseWriter
	leave func()
}

func (l leavingWriter) Unwrap() http.ResponseWriter { return l.ResponseWriter }

func (l leavingWriter) FlushError() error {
	err := http.NewResponseController(l.ResponseWriter).Flush()
	l.leave()
	return err
}

// stuckLog is a log that stops at the line of a decision until it is released.
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

func TestAStuckLogDoesNotDelayTheAnswer(t *testing.T) {
	t.Parallel()
	g, config := prepare(t, setup{})
	runCaddy(t, strings.Replace(config, "output file "+g.logFile, "output test_stuck", 1))
	i := g.mustIssue(t, "order-1")
	assert.Equal(t, 200, g.confirm(t, i).status)
	<-theStuckLog.reached
	theStuckLog.release <- struct{}{}
}

// The tests below use the one Caddy that a process can run and reload,
// so they do not run in parallel.

func reload(t testing.TB, config string) error {
	t.Helper()
	adapted, _, err := adaptCaddyfile(config)
	require.NoError(t, err, config)
	return caddy.Load(adapted, true)
}

func TestReloadLosesNeitherARequestNorTheToken(t *testing.T) {
	const load, reloads = 20, 5
	arrived, release := make(chan struct{}), make(chan struct{})
	g, config := prepare(t, setup{
		second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		opts: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
			if e == emulator.EndpointIssue {
				arrived <- struct{}{}
				<-release
			}
		}},
	})
	require.NoError(t, reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	answers := make(chan answer, load*reloads)
	for n := range reloads {
		for m := range load {
			go func() { answers <- g.issueAnyway(fmt.Sprintf("order-%d-%d", n, m)) }()
			<-arrived
		}
		// Now that many requests are under way, those of earlier configurations too.
		require.NoError(t, reload(t, strings.Replace(config, "expires_in 72h", "expires_in "+strconv.Itoa(n+1)+"h", 1)))
		broken := strings.Replace(config, "{env.CVS_TEST_SECOND_KEY}", "{env.CVS_TEST_UNSET}", 1)
		require.ErrorContains(t, reload(t, broken), "account second: imp_key: evaluated placeholder {env.CVS_TEST_UNSET} is empty")
	}
	close(release)
	var last string
	for range load * reloads {
		a := <-answers
		require.Equal(t, 200, a.status, a.body)
		last = a.payment(t)["imp_uid"].(string)
	}
	assert.Len(t, g.api.Payments(), load*reloads, "each request is one barcode")
	assert.Equal(t, 1, g.api.Requests(emulator.EndpointToken), "one token for all configurations")
	for _, p := range g.api.Payments() {
		if p.ImpUID == last {
			assert.Equal(t, 200, g.confirm(t, issuedBy(g, last, p.MerchantUID)).status, "barcodes from before a reload can be paid")
		}
	}
	refs, ok := states.References(stateKeyOf(g.apiURL))
	assert.True(t, ok)
	assert.Equal(t, 1, refs, "every configuration that ended, or never began, released what it held")
}

// issueAnyway asks again if the connection broke: one that waits in the queue of
// a listener which is being replaced is closed by Caddy before anybody saw it.
func (g *gateway) issueAnyway(merchantUID string) answer {
	for range 100 {
		resp, err := g.http.Post(g.inside+"/cvs", formType, strings.NewReader("amount=15000&merchant_uid="+merchantUID))
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return answer{resp.StatusCode, resp.Header, string(body)}
	}
	return answer{}
}

func stateKeyOf(api string) stateKey {
	_, key := acquireState(api, canaries["CVS_TEST_KEY"], canaries["CVS_TEST_SECRET"])
	releaseState(key)
	return key
}

func TestConfigurationShowsNoSecret(t *testing.T) {
	caddy.ConfigAutosavePath = filepath.Join(written.dir, "autosave.json")
	admin := address(t)
	g, config := prepare(t, setup{
		account: "signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}",
		second:  "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		confirm: "order_check SHOP/x {\nheader X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}\n}",
	})
	config = strings.Replace(strings.Replace(config, "admin off", "admin "+admin, 1), "persist_config off", "", 1)
	require.NoError(t, reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	require.Equal(t, 200, g.confirm(t, g.mustIssue(t, "order-1")).status)

	for _, path := range []string{"/config/", "/metrics", "/debug/pprof/cmdline", "/debug/vars"} {
		a := g.do(t, http.MethodGet, "http://"+admin+path, "", "")
		require.Equal(t, 200, a.status, path)
		require.NoError(t, os.WriteFile(filepath.Join(written.dir, "admin"+strings.ReplaceAll(path, "/", "-")), []byte(a.body), 0o600))
		if path == "/config/" {
			assert.Contains(t, a.body, "{env.CVS_TEST_SECRET}", "the placeholder stays")
		}
	}
	saved, err := os.ReadFile(caddy.ConfigAutosavePath)
	require.NoError(t, err)
	assert.Contains(t, string(saved), "{env.CVS_TEST_SECRET}")
	assert.Empty(t, findSecrets())
}

func TestSandboxSurvivesAReload(t *testing.T) {
	addr := address(t)
	config := "{\nadmin off\npersist_config off\nlog {\noutput file " + logFile(t) + "\n}\n}\nhttp://" + addr + " {\ncvs_sandbox {\nimp_key {env.CVS_TEST_KEY}\nimp_secret {env.CVS_TEST_SECRET}\n}\n%s}\n"
	require.NoError(t, reload(t, fmt.Sprintf(config, "")))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	g := &gateway{http: httpClient(t)}
	a := g.do(t, http.MethodPost, "http://"+addr+"/users/getToken", formType, "imp_key="+canaries["CVS_TEST_KEY"]+"&imp_secret="+canaries["CVS_TEST_SECRET"])
	require.Equal(t, 200, a.status, a.body)
	require.Equal(t, 401, g.do(t, http.MethodPost, "http://"+addr+"/users/getToken", formType, "imp_key=a&imp_secret=b").status)
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+addr+"/cvs", strings.NewReader("merchant_uid=a&amount=1"))
	require.NoError(t, err)
	r.Header = http.Header{"Content-Type": {formType}, "Authorization": {a.payment(t)["access_token"].(string)}}
	require.Equal(t, 200, g.send(t, r).status)

	require.NoError(t, reload(t, fmt.Sprintf(config, "header X-New 1\n")))
	var resp *http.Response
	require.Eventually(t, func() bool { // a connection that waits in the queue of the old listener breaks
		resp, err = g.http.Get("http://" + addr + "/sandbox/payments")
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "1", resp.Header.Get("X-New"))
	assert.Equal(t, "true", resp.Header.Get("X-Cvs-Sandbox"))
	assert.Contains(t, string(body), `"merchant_uid": "a"`)
}

// A call that goes on after a reload, and asks again, leaves no connection behind.
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

	g, config := prepare(t, setup{apiURL: server.URL})
	require.NoError(t, reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	answered := make(chan answer, 1)
	go func() { answered <- g.issue(t, "order-1") }()
	<-arrived
	require.NoError(t, reload(t, strings.Replace(config, "next handler", "reloaded", 1)))
	close(release)
	assert.Equal(t, 200, (<-answered).status, "after a 401, with a new token")
	assert.Eventually(t, func() bool { return open.Load() == 0 }, 5*time.Second, 5*time.Millisecond, "connections of the old configuration")
}
