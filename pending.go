package caddycvs

// This file holds the pending calls, which change something at the API and have no answer
// yet. The program waits for them before it ends.

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// pendingCalls holds the calls that have no answer yet.
type pendingCalls struct {
	mu    sync.Mutex
	calls map[*pendingCall]struct{}
	ended chan struct{} // closed and replaced when a call ends
}

// pendingCall is a call that changes something, such as one that issues a barcode.
type pendingCall struct {
	subject
	latest  time.Time // when it is answered and logged at the latest
	traceID string    // as in its record
}

func newPendingCalls() *pendingCalls {
	return &pendingCalls{calls: make(map[*pendingCall]struct{}), ended: make(chan struct{})}
}

// processPending holds the pending calls of all configurations: a call goes on when its
// configuration is replaced.
var processPending = newPendingCalls()

func init() {
	// For a last configuration that has no server, which would wait.
	caddy.OnExit(func(context.Context) { processPending.finish(caddy.Log()) })
}

// begin adds a call. The caller must call end when the call was answered and logged.
func (p *pendingCalls) begin(c pendingCall) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[&c] = struct{}{}
	return func() { p.end(&c) }
}

func (p *pendingCalls) end(c *pendingCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c)
	close(p.ended)
	p.ended = make(chan struct{})
}

// list returns the pending calls, and a channel that is closed when one of them ends.
func (p *pendingCalls) list() (calls []*pendingCall, ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.calls {
		calls = append(calls, c)
	}
	return calls, p.ended
}

// finish waits until each call is answered, or its time limit is over. It logs the calls
// that were not answered: their barcodes may exist, and no other line names them.
func (p *pendingCalls) finish(logger *zap.Logger) {
	for {
		calls, ended := p.list()
		if len(calls) == 0 {
			return
		}
		first := calls[0]
		for _, c := range calls {
			if c.latest.Before(first.latest) {
				first = c
			}
		}
		select {
		case <-ended:
		case <-time.After(time.Until(first.latest)):
			p.end(first)
			logger.Error("stopped before an api call was answered: its outcome is not known", append(traceFields(first.traceID), zap.Inline(&first.subject))...)
		}
	}
}

// waitAtStop makes the server wait for the pending calls when Caddy ends. Caddy stops its
// apps in no fixed order, but when a server has stopped no more requests arrive and the logs
// are still open.
func (a *App) waitAtStop(ctx caddy.Context) {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnStop(a.finish)
	}
}

// finish waits for the pending calls if Caddy ends. At a reload they simply go on.
func (a *App) finish(context.Context) error {
	if a.started && isStopping() {
		a.pending.finish(a.logger)
	}
	return nil
}

// isStopping reports whether Caddy ends, and does not only replace its configuration.
func isStopping() bool { return caddy.Exiting() || caddy.ActiveContext().Context == nil }
