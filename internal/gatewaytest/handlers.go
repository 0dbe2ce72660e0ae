package gatewaytest

// This file holds handlers that misbehave, for the configurations of tests.

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// misbehaving is the handler of these directives: test_hang never returns, test_panic
// panics, test_error returns an error, test_watch tells Watched when the client has left,
// and test_leave makes the client leave when it has the answer.
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

// Watched receives a value when a request through test_watch has lost its client.
var Watched = make(chan struct{}, 1)

func (m *misbehaving) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch m.How {
	case "watch":
		stop := context.AfterFunc(r.Context(), func() { Watched <- struct{}{} })
		defer stop()
		return next.ServeHTTP(w, r)
	case "leave":
		ctx, leave := context.WithCancel(r.Context())
		defer leave()
		return next.ServeHTTP(leavingWriter{w, leave}, r.WithContext(ctx))
	case "hang":
		select {} // even after its context has ended
	case "panic":
		panic("a handler's own fault")
	default:
		return errors.New("a handler's own error")
	}
}

// leavingWriter makes the client leave as soon as it has the answer.
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
