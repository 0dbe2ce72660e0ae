package caddycvs

// This file holds the guard of a server that has a cvs_confirm: no other handler of the
// server can accept a signed webhook.

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// guard runs before all routes of a server. A confirm webhook with a signed URL may reach no
// cvs handler because its path is mistyped, because a block such as handle does not match it,
// or because no site has its Host. The guard then answers 404, whatever the site answers: the
// sender takes every 200 for acceptable.
type guard struct {
	routes  caddyhttp.RouteList // the server's own
	logger  *zap.Logger
	compile sync.Once
	chain   caddyhttp.Handler
}

// guardServer puts a guard before the routes of a server while they are provisioned: Caddy
// compiles the routes afterwards. It returns false if that is too late, as in a named route.
func (a *App) guardServer(ctx caddy.Context, server *caddyhttp.Server) (bool, error) {
	if !slices.ContainsFunc(server.Routes, func(route caddyhttp.Route) bool { return len(route.Handlers) == 0 }) {
		return false, nil
	}
	front := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{&guard{routes: server.Routes, logger: a.logger}}}
	if err := front.ProvisionHandlers(ctx, nil); err != nil {
		return false, err
	}
	server.Routes = caddyhttp.RouteList{front}
	return true, nil
}

// routesOf returns a server's own routes, without the guard.
func routesOf(server *caddyhttp.Server) caddyhttp.RouteList {
	if len(server.Routes) == 1 && len(server.Routes[0].Handlers) == 1 {
		if g, ok := server.Routes[0].Handlers[0].(*guard); ok {
			return g.routes
		}
	}
	return server.Routes
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	g.compile.Do(func() { g.chain = g.routes.Compile(next) })
	if !hasSignature(r.URL.RawQuery) {
		return g.chain.ServeHTTP(w, r)
	}
	caddyhttp.SetVar(r.Context(), guardedVar, true)
	skipAccessLog(r)
	if r.Method != http.MethodPost {
		logPassed(g.logger, r)
		return g.chain.ServeHTTP(w, r)
	}
	header := w.Header().Clone()
	body := &bufferedBody{source: r.Body}
	r.Body = body
	guarded := &guardedWriter{ResponseWriter: w, request: r, isNotice: sync.OnceValue(func() bool { return isNotice(body.beginning(w)) })}
	err := g.chain.ServeHTTP(guarded, r)
	switch {
	case isTaken(r):
		return err
	case guarded.isNotice():
		logPassed(g.logger, r)
		return err
	}
	clear(w.Header()) // of what the site has set
	maps.Copy(w.Header(), header)
	return answerMisrouted(g.logger, w, r)
}

const (
	guardedVar = "cvs_guarded" // a guard handles the request
	decidedVar = "cvs_decided" // the status with which a webhook is answered
)

func isGuarded(r *http.Request) bool {
	is, _ := caddyhttp.GetVar(r.Context(), guardedVar).(bool)
	return is
}

const maxSeen = maxWebhook + 1 // from the last byte it shows that a body is too large for a webhook

// bufferedBody keeps the beginning of a body, which can be inspected before or after other
// handlers read it.
type bufferedBody struct {
	mu     sync.Mutex
	source io.ReadCloser
	seen   []byte // at most maxSeen
	given  int    // bytes of it that other handlers have read
	err    error
}

func (b *bufferedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.given < len(b.seen) {
		n := copy(p, b.seen[b.given:])
		b.given += n
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.source.Read(p)
	if room := maxSeen - len(b.seen); room > 0 {
		b.seen = append(b.seen, p[:min(n, room)]...)
	}
	b.given = len(b.seen)
	return n, err
}

func (b *bufferedBody) Close() error { return b.source.Close() }

// beginning returns the beginning of the body, as much as arrives in time.
func (b *bufferedBody) beginning(w http.ResponseWriter) []byte {
	defer setReadDeadline(w, time.Now().Add(bodyTimeout))()
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxSeen - len(b.seen); room > 0 && b.err == nil {
		more, err := io.ReadAll(io.LimitReader(b.source, int64(room)))
		b.seen = append(b.seen, more...)
		if err != nil && !errors.Is(err, http.ErrBodyReadAfterClose) {
			b.err = err
		}
	}
	return bytes.Clone(b.seen)
}

// whole returns the body of a webhook, which no other handler has read yet. Its errors are of type
// *httpError. Later handlers read the same body, and end with the same error.
func (b *bufferedBody) whole(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := validateBodyHeader(r, maxWebhook); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(bodyTimeout)
	content := b.beginning(w)
	switch {
	case b.err != nil:
		return nil, bodyError(b.err, deadline)
	case len(content) > maxWebhook:
		return nil, tooLarge(maxWebhook)
	}
	return content, nil
}

// peek returns the beginning of a request's body. Later handlers read the whole body.
func peek(w http.ResponseWriter, r *http.Request) []byte {
	body := &bufferedBody{source: r.Body}
	r.Body = body
	return body.beginning(w)
}

// guardedWriter writes the answers of this module's handlers, and every answer to a notice.
// It drops all others.
type guardedWriter struct {
	http.ResponseWriter
	request  *http.Request
	isNotice func() bool
	wrote    bool // the header
}

func (g *guardedWriter) passes() bool { return isTaken(g.request) || g.isNotice() }

func (g *guardedWriter) WriteHeader(status int) {
	// An intercept around cvs_confirm must not turn its no into a 200.
	if decided, ok := caddyhttp.GetVar(g.request.Context(), decidedVar).(int); ok && status == http.StatusOK && decided != status {
		status = decided
		g.Header().Del("Content-Length") // of the answer that it replaces
	}
	g.wrote = g.wrote || status >= 200
	if g.passes() {
		g.ResponseWriter.WriteHeader(status)
	}
}

func (g *guardedWriter) Write(p []byte) (int, error) {
	if !g.wrote {
		g.WriteHeader(http.StatusOK)
	}
	if !g.passes() {
		return len(p), nil
	}
	return g.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController, which would otherwise flush the writer that
// Unwrap returns.
func (g *guardedWriter) FlushError() error {
	if !g.passes() {
		return nil
	}
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController set deadlines.
func (g *guardedWriter) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Interface guards
var _ caddyhttp.MiddlewareHandler = (*guard)(nil)
