package caddycvs

// This file holds traces: within Caddy's directive tracing, each request that this module sends for
// the request that Caddy is serving is a span of that request's trace. Without it nothing is done.

import (
	"context"
	"errors"
	"io"
	"net/http"

	otelattr "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

const (
	tracerName = "github.com/caddy-cvs/caddy-cvs"
	traceField = "traceID" // as in Caddy's access log
)

// traceContext writes traceparent and tracestate. What else a trace may carry, such as baggage, is
// the sender's, and is not passed on.
var traceContext propagation.TraceContext

// spanIn returns the span that a context has, or nil. A span of another process alone does not count:
// only Caddy's tracing can make what a sender writes part of the trace.
func spanIn(ctx context.Context) trace.Span {
	span := trace.SpanFromContext(ctx)
	if own := span.SpanContext(); !own.IsValid() || own.IsRemote() {
		return nil
	}
	return span
}

// spanOnly returns a context that has the span of another one, and nothing else of that.
func spanOnly(ctx context.Context) context.Context {
	span := spanIn(ctx)
	if span == nil {
		return context.Background()
	}
	return trace.ContextWithSpan(context.Background(), span)
}

// traceID returns the id of a context's trace, or "".
func traceID(ctx context.Context) string {
	span := spanIn(ctx)
	if span == nil {
		return ""
	}
	return span.SpanContext().TraceID().String()
}

// traceFields returns the field of a log line that names its trace, if there is one.
func traceFields(id string) []zap.Field {
	if id == "" {
		return nil
	}
	return []zap.Field{zap.String(traceField, id)}
}

// tracedRoundTrip sends a request. If its context has a span, it passes the trace on; if the trace is
// sampled, it does so from a span of its own, which ends with the answer's body. The span of the
// context may have ended: a token fetch or a shadow check may outlive the request, and a span that has
// ended is not recording.
func tracedRoundTrip(transport http.RoundTripper, r *http.Request, describe func(*http.Request) spanKind) (*http.Response, error) {
	parent := spanIn(r.Context())
	if parent == nil {
		return transport.RoundTrip(r)
	}
	if !parent.SpanContext().IsSampled() {
		return transport.RoundTrip(withTrace(r.Context(), r))
	}
	kind := describe(r)
	ctx, span := startSpan(r.Context(), kind.name(r), trace.SpanKindClient, kind.attributes(r))
	answered := false
	defer func() { // not span.End itself, which would record the panic's text
		if !answered {
			endFailed(span, errPanicked)
		}
	}()
	resp, err := transport.RoundTrip(withTrace(ctx, r))
	answered = true
	if err != nil {
		endFailed(span, err)
		return nil, err
	}
	kind.setStatus(span, resp.StatusCode)
	span.SetAttributes(semconv.NetworkProtocolVersion(protocolVersion(resp)))
	resp.Body = &tracedBody{resp.Body, span}
	return resp, nil
}

var errPanicked = errors.New("the transport panicked")

// startSpan starts a span by the provider of its parent: Caddy sets no global one.
func startSpan(ctx context.Context, name string, kind trace.SpanKind, attributes []otelattr.KeyValue) (context.Context, trace.Span) {
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer(tracerName, trace.WithSchemaURL(semconv.SchemaURL))
	return tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
}

// withTrace returns a copy of a request with a context, whose span is passed on.
func withTrace(ctx context.Context, r *http.Request) *http.Request {
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	inject(ctx, r.Header)
	return r
}

func inject(ctx context.Context, header http.Header) {
	header.Del("Tracestate") // of another trace
	traceContext.Inject(ctx, propagation.HeaderCarrier(header))
}

// tracedBody is an answer's body, with which its span ends.
type tracedBody struct {
	io.ReadCloser
	span trace.Span
}

func (b *tracedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		setFailed(b.span, err)
	}
	return n, err
}

func (b *tracedBody) Close() error {
	err := b.ReadCloser.Close()
	b.span.End()
	return err
}

// startSpan starts the span of an order check that a route answers. ended ends it, also if the check's
// time is over and the route does not return.
func (u *upstreamRoute) startSpan(ctx context.Context, header http.Header) (_ context.Context, ended func(*upstreamAnswer)) {
	parent := spanIn(ctx)
	if parent == nil {
		return ctx, func(*upstreamAnswer) {}
	}
	if !parent.SpanContext().IsSampled() {
		inject(ctx, header)
		return ctx, func(*upstreamAnswer) {}
	}
	traced, span := startSpan(ctx, "order_check "+u.name, trace.SpanKindInternal, []otelattr.KeyValue{checkName.String(u.name)})
	inject(traced, header)
	inTime := context.AfterFunc(ctx, func() { endFailed(span, ctx.Err()) })
	return traced, func(answer *upstreamAnswer) {
		if !inTime() {
			return
		}
		kind := spanKind{expected: http.StatusConflict}
		status, _, broken := answer.current()
		if status != 0 {
			kind.setStatus(span, status)
		}
		if broken.name != "" {
			span.SetAttributes(semconv.ErrorTypeKey.String(broken.name))
			span.SetStatus(codes.Error, broken.detail)
		}
		span.End()
	}
}
