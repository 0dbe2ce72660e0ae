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
			arrived := make(chan struct{}, 2)
			g, config := prepare(t, setup{
				account: "timeout 5s", globals: "grace_period 100ms",
				opts: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
					if e == tc.endpoint {
						arrived <- struct{}{}
					}
				}},
			})
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
	u := newUnderWay()
	g, config := prepare(t, setup{account: "timeout 100ms"})
	ctx, err := caddy.ProvisionContext(adapt(t, config))
	require.NoError(t, err)
	app, err := ctx.App("cvs")
	require.NoError(t, err)
	for _, acc := range app.(*App).accounts {
		acc.calls = u
	}
	end := u.begin(changing{operation: "issue", account: "", merchantUID: "order-7", amount: "15000"})
	began := time.Now()
	lag := watchLag()
	require.NoError(t, app.(*App).finish(t.Context()))
	took := time.Since(began)
	assert.LessOrEqual(t, took, 1200*time.Millisecond+lag()+100*time.Millisecond)
	g.logs(t, "stopped before an api call was answered: its outcome is not known")
	assert.Contains(t, g.log(t), `"operation":"issue","account":"","merchant_uid":"order-7","imp_uid":"","amount":"15000"`)
	end()
	began = time.Now()
	require.NoError(t, app.(*App).finish(t.Context()))
	assert.Less(t, time.Since(began), time.Second, "nothing is under way any more")
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
