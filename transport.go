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
	if own, ok := transport.(*reverseproxy.HTTPTransport); ok {
		client.KeepHealthy(own.Transport)
	}
	return isolate(ctx, transport), nil
}

// newTransport returns Caddy's own transport. It keeps idle connections for the given time,
// 0 for Caddy's default, and closes them when ctx ends. It keeps more of them than the
// default of 32: at peak load most calls would otherwise open a new connection.
func newTransport(ctx caddy.Context, idle time.Duration) (*reverseproxy.HTTPTransport, error) {
	transport := &reverseproxy.HTTPTransport{KeepAlive: &reverseproxy.KeepAlive{
		IdleConnTimeout:     caddy.Duration(idle),
		MaxIdleConnsPerHost: 512,
	}}
	if err := transport.Provision(ctx); err != nil {
		return nil, fmt.Errorf("preparing the transport: %w", err)
	}
	client.KeepHealthy(transport.Transport)
	// ctx.OnCancel does not work here: Caddy never calls functions that are added to a copy of
	// its Context.
	context.AfterFunc(ctx.Context, func() { _ = transport.Cleanup() })
	return transport, nil
}

// newAppTransport returns the transport for the merchant's app. Idle connections live for a short
// time only: many apps close theirs after a few seconds, and a request that is sent into a closing
// connection cannot be repeated.
func newAppTransport(ctx caddy.Context) (*reverseproxy.HTTPTransport, error) {
	transport, err := newTransport(ctx, time.Second)
	if err != nil {
		return nil, err
	}
	transport.Transport.Proxy = nil // a proxy of the environment could answer in the shop's place
	return transport, nil
}

// isolatedTransport hides from a transport what Caddy keeps in the context of the request
// that it is serving: these values could control the transport's own request, and are not
// safe for use by several goroutines.
//
// It also closes idle connections of a configuration that was replaced: calls that are still
// pending after a reload would otherwise leave connections that nobody uses until they time
// out.
type isolatedTransport struct {
	transport     http.RoundTripper
	configuration context.Context
}

func isolate(ctx caddy.Context, transport http.RoundTripper) *isolatedTransport {
	return &isolatedTransport{transport, ctx.Context}
}

func (i *isolatedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := tracedRoundTrip(i.transport, r.WithContext(isolatedContext{r.Context()}), ofAPI)
	if err != nil {
		i.closeIfReplaced()
		return nil, err
	}
	resp.Body = &watchedBody{resp.Body, i}
	return resp, nil
}

// closeIfReplaced closes idle connections if the configuration was replaced.
func (i *isolatedTransport) closeIfReplaced() {
	if i.configuration != nil && i.configuration.Err() != nil {
		i.CloseIdleConnections()
	}
}

// CloseIdleConnections closes the idle connections of Caddy's own transport. It does nothing
// for other transports.
func (i *isolatedTransport) CloseIdleConnections() {
	if t, ok := i.transport.(*reverseproxy.HTTPTransport); ok {
		t.Transport.CloseIdleConnections()
	}
}

// watchedBody is an answer's body. Its Close calls closeIfReplaced: only then is the
// connection idle.
type watchedBody struct {
	io.ReadCloser
	transport *isolatedTransport
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.transport.closeIfReplaced()
	return err
}

type isolatedContext struct{ context.Context }

func (c isolatedContext) Value(key any) any {
	if key == caddy.ReplacerCtxKey { // needed if the transport's TLS server name has placeholders
		return caddy.NewReplacer()
	}
	if _, isCaddyKey := key.(caddy.CtxKey); isCaddyKey {
		return nil
	}
	return c.Context.Value(key)
}
