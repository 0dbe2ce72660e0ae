package caddycvs

// This file holds the calls that change something at the API and have no answer yet,
// and how the program waits for them before it ends.

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
	latest time.Time // when it is answered and logged at the latest
}

func newPendingCalls() *pendingCalls {
	return &pendingCalls{calls: make(map[*pendingCall]struct{}), ended: make(chan struct{})}
}

// processPending are those of all configurations: a call goes on when its own is replaced.
var processPending = newPendingCalls()

func init() {
	// In case that the last configuration has no server that would wait.
	caddy.OnExit(func(context.Context) { processPending.finish(caddy.Log()) })
}

// begin notes a call. The function that it returns notes that the call was answered
// and logged.
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

// left returns the calls under way, and a channel that is closed when one ends.
func (p *pendingCalls) left() (calls []*pendingCall, ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.calls {
		calls = append(calls, c)
	}
	return calls, p.ended
}

// finish waits until each call is answered, as long as it can take, and logs those
// that are not: their barcodes may exist, and nobody else will say so.
func (p *pendingCalls) finish(logger *zap.Logger) {
	for {
		calls, ended := p.left()
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
			logger.Error("stopped before an api call was answered: its outcome is not known", zap.Inline(&first.subject))
		}
	}
}

// waitAtStop has the server wait, when Caddy ends, for the calls under way. Caddy stops
// its apps in no order; when a server has stopped, no request comes any more, and the
// logs are still open.
func (a *App) waitAtStop(ctx caddy.Context) {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnStop(a.finish)
	}
}

// finish waits for the calls under way if Caddy ends. At a reload they go on by
// themselves.
func (a *App) finish(context.Context) error {
	if a.started && (caddy.Exiting() || caddy.ActiveContext().Context == nil) {
		a.pending.finish(a.logger)
	}
	return nil
}
