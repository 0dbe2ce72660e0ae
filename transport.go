package caddycvs

// This file holds how the API and order checks are reached: Caddy's own transports, kept
// apart from the request that Caddy is serving.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-cvs/caddy-cvs/client"
)

func loadTransport(ctx caddy.Context, cfg *Account, fallback http.RoundTripper) (http.RoundTripper, error) {
	if cfg.TransportRaw == nil {
		return isolate(ctx, fallback), nil
	}
	mod, err := ctx.LoadModule(cfg, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("loading transport: %w", err)
	}
	transport, ok := mod.(http.RoundTripper)
	if !ok {
		return nil, errors.New("transport cannot send HTTP requests")
	}
	if caddys, ok := transport.(*reverseproxy.HTTPTransport); ok {
		client.KeepHealthy(caddys.Transport)
	}
	return isolate(ctx, transport), nil
}

// newTransport returns Caddy's own transport, which keeps connections idle for so
// long, 0 for its default, and as many as a rush needs: with its default of 32,
// most calls of a greater one would open a connection. They end with ctx.
func newTransport(ctx caddy.Context, idle time.Duration) (*reverseproxy.HTTPTransport, error) {
	transport := &reverseproxy.HTTPTransport{KeepAlive: &reverseproxy.KeepAlive{
		IdleConnTimeout:     caddy.Duration(idle),
		MaxIdleConnsPerHost: 512,
	}}
	if err := transport.Provision(ctx); err != nil {
		return nil, fmt.Errorf("preparing the transport: %w", err)
	}
	client.KeepHealthy(transport.Transport)
	// Not ctx.OnCancel: what is added to a copy of a Context is never called.
	context.AfterFunc(ctx.Context, func() { _ = transport.Cleanup() })
	return transport, nil
}

// isolated keeps a request of this module's own apart from the request that
// Caddy is serving: what Caddy notes in that one's context could steer this one,
// and is not safe for use by several goroutines.
//
// After a reload, calls under way go on with the transport of the configuration
// that is gone, and would leave their connections to nobody until those time out.
type isolated struct {
	transport     http.RoundTripper
	configuration context.Context
}

func isolate(ctx caddy.Context, transport http.RoundTripper) *isolated {
	return &isolated{transport, ctx.Context}
}

func (i *isolated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := i.transport.RoundTrip(r.WithContext(isolatedContext{r.Context()}))
	if err != nil {
		i.release()
		return nil, err
	}
	resp.Body = &releasingBody{resp.Body, i}
	return resp, nil
}

// release closes idle connections if the configuration was replaced.
func (i *isolated) release() {
	if i.configuration != nil && i.configuration.Err() != nil {
		i.CloseIdleConnections()
	}
}

// CloseIdleConnections closes those of Caddy's own transport.
func (i *isolated) CloseIdleConnections() {
	if t, ok := i.transport.(*reverseproxy.HTTPTransport); ok {
		t.Transport.CloseIdleConnections()
	}
}

// releasingBody is an answer whose end may be the last of its transport.
type releasingBody struct {
	io.ReadCloser
	isolated *isolated
}

func (b *releasingBody) Close() error {
	err := b.ReadCloser.Close()
	b.isolated.release()
	return err
}

type isolatedContext struct{ context.Context }

func (c isolatedContext) Value(key any) any {
	if key == caddy.ReplacerCtxKey { // a transport may expand its TLS server name
		return caddy.NewReplacer()
	}
	if _, caddys := key.(caddy.CtxKey); caddys {
		return nil
	}
	return c.Context.Value(key)
}
