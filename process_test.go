package caddycvs

// This file holds tests that need a Caddy of their own process: what happens when it
// ends, and what it makes of its environment.

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// caddyVariable tells a process of the test's binary to be Caddy, with the
// configuration that it reads.
const caddyVariable = "CVS_TEST_CADDY"

// serveAsCaddy does so, until a signal ends the process. It reports false in any other
// process.
func serveAsCaddy() bool {
	if os.Getenv(caddyVariable) == "" {
		return false
	}
	input, err := io.ReadAll(os.Stdin)
	if err == nil {
		var adapted []byte
		if adapted, _, err = adaptCaddyfile(string(input)); err == nil {
			caddy.TrapSignals()
			err = caddy.Load(adapted, true)
		}
	}
	if err != nil {
		fmt.Println(err)
		return true
	}
	fmt.Println("ready")
	select {}
}

// startCaddyProcess starts a Caddy in a process of its own, with more in its environment.
func startCaddyProcess(t *testing.T, config string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), caddyVariable+"=1"), env...)
	cmd.Stdin = strings.NewReader(config)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line := make([]byte, len("ready\n"))
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(line))
	return cmd
}

// prepareForShutdown prepares a gateway that shuts down soon, and tells of each request
// that arrives at an endpoint of its API.
func prepareForShutdown(t *testing.T, endpoint emulator.Endpoint) (g *gateway, config string, arrived chan struct{}) {
	t.Helper()
	arrived = make(chan struct{}, 2)
	g, config = prepare(t, setup{
		account: "timeout 5s", globals: "grace_period 100ms",
		opts: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
			if e == endpoint {
				arrived <- struct{}{}
			}
		}},
	})
	return g, config, arrived
}

// A shutdown cuts nobody off while the API is at work on a barcode, whatever the grace
// period; and what is not learned in time is in the log by its name.
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
			cmd := startCaddyProcess(t, config)
			first := g.mustIssue(t, "order-1")
			for len(arrived) > 0 {
				<-arrived
			}
			require.NoError(t, g.api.Inject(emulator.Fault{Endpoint: tc.endpoint, Delay: time.Second}))
			answered := make(chan answer, 1)
			go func() {
				answered <- g.do(t, tc.method, g.inside+strings.Replace(tc.path, "{imp_uid}", first.impUID, 1), formType, tc.body)
			}()
			<-arrived
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			a := <-answered
			assert.Equal(t, 200, a.status, a.body)
			_ = cmd.Wait()
			assert.Contains(t, g.log(t), `"operation":"`+name+`"`, "its outcome is in the log")
			assert.NotContains(t, g.log(t), "stopped before an api call was answered")
		})
	}
}

// A handler that hangs for good, as when the disk of the log does, must neither keep
// the program from ending nor leave the order unnamed.
func TestShutdownNamesWhatItDoesNotLearn(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zapcore.ErrorLevel)
	u := newPendingCalls()
	answered := u.begin(pendingCall{subject{operation: "issue", merchantUID: "order-6"}, time.Now().Add(time.Minute)})
	var ends []func()
	for n := range 2 {
		c := pendingCall{subject{operation: "issue", account: "second", merchantUID: "order-7", amount: "15000"}, time.Now().Add(300 * time.Millisecond)}
		if n == 1 {
			c = pendingCall{subject{operation: "void", impUID: "imp_1"}, time.Now().Add(100 * time.Millisecond)}
		}
		ends = append(ends, u.begin(c))
	}
	time.AfterFunc(200*time.Millisecond, answered)
	began, lag := time.Now(), watchLag()
	u.finish(zap.New(core))
	took := time.Since(began)
	assert.LessOrEqual(t, took, 300*time.Millisecond+lag()+100*time.Millisecond)
	require.Equal(t, 2, lines.Len(), "each once, and not the one that was answered")
	assert.Equal(t, map[string]any{"operation": "void", "account": "", "merchant_uid": "", "imp_uid": "imp_1", "amount": ""}, lines.All()[0].ContextMap())
	assert.Equal(t, map[string]any{"operation": "issue", "account": "second", "merchant_uid": "order-7", "imp_uid": "", "amount": "15000"}, lines.All()[1].ContextMap())
	u.finish(zap.New(core))
	assert.Equal(t, 2, lines.Len(), "for the next server there is nothing left to wait for")
	for _, end := range ends {
		end() // after all
	}
}

// A shutdown soon after a reload finishes what the configuration before began, and a
// reload waits for nothing.
func TestShutdownFinishesCallsOfEarlierConfigurations(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(g *gateway, config string) string{
		"the same": func(_ *gateway, config string) string {
			return strings.Replace(config, "expires_in 72h", "expires_in 1h", 1)
		},
		"another secret": func(_ *gateway, config string) string {
			return strings.Replace(config, "{env.CVS_TEST_SECRET}", "{env.CVS_TEST_SECOND_SECRET}", 1)
		},
		"no cvs_proxy": func(g *gateway, config string) string {
			global, _, _ := strings.Cut(config, g.inside)
			return global + g.outside + " {\nrespond 404\n}\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, config, arrived := prepareForShutdown(t, emulator.EndpointIssue)
			admin := address(t)
			config = strings.Replace(config, "admin off", "admin "+admin, 1)
			cmd := startCaddyProcess(t, config)
			require.NoError(t, g.api.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: 2 * time.Second}))
			answered := make(chan answer, 1)
			go func() { answered <- g.issue(t, "order-1") }()
			<-arrived
			adapted, _, err := adaptCaddyfile(change(g, config))
			require.NoError(t, err)
			began := time.Now()
			assert.Equal(t, 200, g.do(t, http.MethodPost, "http://"+admin+"/load", jsonType, string(adapted)).status)
			assert.Less(t, time.Since(began), 1500*time.Millisecond, "a reload does not wait")
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			assert.Equal(t, 200, (<-answered).status)
		})
	}
}

// A proxy that the environment names must not answer for the shop, nor see the key of
// an order check.
func TestChecksUseNoProxyOfTheEnvironment(t *testing.T) {
	t.Parallel()
	var asked bytes.Buffer
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(&asked, r.Method, r.RequestURI)
		fmt.Fprint(w, `{"payable":true,"total":15000}`)
	}))
	t.Cleanup(proxy.Close)
	// A name that does not exist: http.ProxyFromEnvironment makes an exception of this machine.
	g, config := prepare(t, setup{confirm: "timeout 1s\norder_check http://shop.invalid/payable {\nrequire payable true\namount total\n}"})
	startCaddyProcess(t, config, "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=127.0.0.1")
	a := g.confirm(t, g.mustIssue(t, "order-1"))
	assert.NotEqual(t, 200, a.status, a.body)
	assert.Empty(t, asked.String())
}
