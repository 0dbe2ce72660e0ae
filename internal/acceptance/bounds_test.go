package acceptance

// This file holds tests of the time that a decision and each of its parts may take.

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
	"github.com/caddy-cvs/caddy-cvs/internal/lag"
)

// stubborn is the handler of test_stubborn. It answers with a status, and then returns, waits
// for the end of its request, hangs, fails or panics.
type stubborn struct {
	Status int    `json:"status,omitempty"`
	Then   string `json:"then,omitempty"` // wait, hang, error, panic or fail
}

func init() {
	caddy.RegisterModule(stubborn{})
	httpcaddyfile.RegisterHandlerDirective("test_stubborn", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		s := new(stubborn)
		h.Next()
		for h.NextArg() {
			if _, err := fmt.Sscan(h.Val(), &s.Status); err != nil {
				s.Then = h.Val()
			}
		}
		return s, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_stubborn", httpcaddyfile.Before, "respond")
}

func (stubborn) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_stubborn", New: func() caddy.Module { return new(stubborn) }}
}

func (s *stubborn) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if s.Status != 0 {
		w.WriteHeader(s.Status)
		fmt.Fprint(w, `{"reason":"sold out","payable":true}`)
	}
	switch s.Then {
	case "wait":
		<-r.Context().Done()
	case "hang":
		select {}
	case "error":
		return fmt.Errorf("a handler's own error")
	case "fail":
		return caddyhttp.Error(http.StatusBadGateway, nil)
	case "panic":
		panic(http.ErrAbortHandler)
	}
	return nil
}

// A status that refuses the order counts even if the rest of the answer fails. A status that
// may accept it counts only if the answer is complete.
func TestRouteCheckRefusalSurvivesBrokenAnswer(t *testing.T) {
	t.Parallel()
	for _, onError := range []string{"accept", "reject"} {
		for _, then := range []string{"wait", "hang", "error", "fail", "panic", ""} {
			for status, want := range map[int]int{409: 409, 404: 409, 201: 409, 200: 0, 503: 0} {
				t.Run(fmt.Sprint(onError, then, status), func(t *testing.T) {
					t.Parallel()
					g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: fmt.Sprintf("timeout 2s\non_error %s\norder_check {\ntimeout 200ms\nroute {\ntest_stubborn %d %s\n}\n}", onError, status, then)})
					a := g.Confirm(t, g.MustIssue(t, "order-1"))
					switch {
					case want != 0:
						assert.Equal(t, want, a.Status, a.Body)
					case then == "" && status == 200:
						assert.Equal(t, 200, a.Status)
					case onError == "accept":
						assert.Equal(t, 200, a.Status, "no answer, and so configured")
					default:
						assert.GreaterOrEqual(t, a.Status, 500, "no answer")
					}
					if want != 0 && then != "error" {
						assert.Equal(t, "sold out", a.Field(t, "reason"))
					}
				})
			}
		}
	}
}

// The same for a check by URL: the status refuses the order, and the body never comes.
func TestURLCheckRefusalSurvivesMissingBody(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Confirm: "timeout 2s\non_error accept\norder_check SHOP/x {\ntimeout 200ms\n}",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	})
	assert.Equal(t, 409, g.Confirm(t, g.MustIssue(t, "order-1")).Status)
}

// The decision's timeout ends each kind of check that no other timeout would end.
func TestConfirmAnswersWithinItsTimeout(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
				fmt.Fprint(w, " ")
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	const long = "{\ntimeout 10s\n"
	for name, tc := range map[string]struct {
		checks   string
		payable  http.HandlerFunc
		unsigned bool
	}{
		"a URL":                        {"order_check SHOP/x " + long + "}", hang, false},
		"a URL whose body drips":       {"order_check SHOP/x " + long + "require payable true\n}", drip, false},
		"a URL that nobody listens at": {"order_check http://" + gatewaytest.Address(t) + "/x " + long + "}", nil, false},
		"a route":                      {"order_check " + long + "route {\ntest_stubborn wait\n}\n}", nil, false},
		"a route deaf to its end":      {"order_check " + long + "route {\ntest_stubborn hang\n}\n}", nil, false},
		"a route that began to answer": {"order_check " + long + "route {\ntest_stubborn 200 hang\n}\n}", nil, false},
		"a route to the shop":          {"order_check " + long + "route {\nreverse_proxy SHOP\n}\n}", hang, false},
		"several checks":               {"order_check SHOP/x " + long + "}\norder_check " + long + "route {\ntest_stubborn hang\n}\n}\norder_check {\nroute {\ntest_stubborn 200\n}\n}", hang, false},
		"a look-up":                    {"order_check SHOP/x " + long + "}", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout " + limit.String() + "\n" + tc.checks, Payable: tc.payable})
			i := g.MustIssue(t, "order-1")
			if tc.unsigned {
				i.ConfirmURL = g.Outside + "/cvs/confirm"
				require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "payment", Delay: time.Minute}))
			}
			late := lag.Watch()
			began := time.Now()
			a := g.Confirm(t, i)
			took := time.Since(began)
			assert.Contains(t, []int{503, 504}, a.Status, a.Body)
			assert.LessOrEqual(t, took, limit+late()+50*time.Millisecond)
			least := limit * 8 / 10
			if tc.unsigned {
				least = limit * 4 / 10 // the checks keep half of the time
			}
			assert.GreaterOrEqual(t, took, least, "it is not given up early")
		})
	}
}

// A sender that stalls is answered before the decision's timeout.
func TestConfirmAnswersStalledSenderInTime(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond
	g := gatewaytest.Start(t, gatewaytest.Setup{Confirm: "timeout " + limit.String() + gatewaytest.UsualConfirm})
	for name, head := range map[string]string{"declared": "Content-Length: 500", "chunked": "Transfer-Encoding: chunked"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(g.Outside, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			late := lag.Watch()
			began := time.Now()
			_, err = fmt.Fprintf(conn, "POST /cvs/confirm HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n%s\r\n\r\n", head)
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			status := make([]byte, 12)
			_, err = conn.Read(status)
			took := time.Since(began)
			require.NoError(t, err)
			assert.Equal(t, "HTTP/1.1 408", string(status))
			assert.LessOrEqual(t, took, limit+late()+50*time.Millisecond)
		})
	}
}

// A check ends at its own timeout, whatever its handler does, and the log says so.
func TestOrderCheckEndsAtItsOwnTimeout(t *testing.T) {
	t.Parallel()
	for name, check := range map[string]string{
		"a URL":                   "SHOP/x {\ntimeout 200ms\n}",
		"a route":                 "{\ntimeout 200ms\nroute {\ntest_stubborn wait\n}\n}",
		"a route deaf to its end": "{\ntimeout 200ms\nroute {\ntest_stubborn hang\n}\n}",
		"a route to the shop":     "{\ntimeout 200ms\nroute {\nreverse_proxy SHOP\n}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{
				Confirm: "timeout 10s\norder_check " + check,
				Payable: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			})
			i := g.MustIssue(t, "order-1")
			late := lag.Watch()
			began := time.Now()
			a := g.Confirm(t, i)
			took := time.Since(began)
			assert.Equal(t, 504, a.Status, a.Body)
			assert.LessOrEqual(t, took, 200*time.Millisecond+late()+50*time.Millisecond)
			g.WaitForLine(t, `"checks":[{"name":"1","verdict":"no answer","cause":"timed out","duration":0.2`)
		})
	}
}
