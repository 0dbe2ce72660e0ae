package caddycvs

// This file holds how the merchant's app is asked or told: one request, to a URL or through a route
// of Caddy's handlers, and as much of the answer as has arrived.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// upstream is one request to the merchant's app. It shares nothing with the request that
// Caddy is serving, so that it may go on after the answer to that.
type upstream struct {
	request   *http.Request
	body      []byte
	transport http.RoundTripper // for a URL
	once      bool              // for a URL: it is not sent again, also if no connection can be made
	route     *upstreamRoute    // nil for a URL
	span      *spanKind         // for a URL
}

// run sends the request and fills in the answer as it arrives. It recovers panics, which
// would end the program: its goroutine is not the request's.
func (u *upstream) run(ctx context.Context, answer *upstreamAnswer) {
	broken := cause{causeBroken, "a handler panicked"}
	ended := func(*upstreamAnswer) {}
	defer func() {
		if recover() == http.ErrAbortHandler { //nolint:errorlint // panics are not wrapped
			broken.detail = "the answer broke off"
		}
		if ctx.Err() != nil && broken.name == "" { // what came after the time limit does not count
			broken.name = causeTimeout
		}
		answer.end(broken)
		ended(answer)
	}()
	if u.route != nil {
		ctx, ended = u.route.startSpan(ctx, u.request.Header)
		broken = u.route.ask(ctx, u.request, u.body, answer)
	} else {
		broken = u.askURL(ctx, answer)
	}
}

// askURL sends the request. It repeats only while no connection can be made: a request that
// may have arrived is not sent again.
func (u *upstream) askURL(ctx context.Context, answer *upstreamAnswer) cause {
	var unreachable cause
	for wait := 25 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		traced, connected := ctx, false
		if unreachable.name != "" {
			traced = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
		}
		var inStream atomic.Bool
		if u.once {
			traced = httptrace.WithClientTrace(ctx, noteStream(&inStream))
		}
		r := u.request.WithContext(traced)
		r.GetBody = func() (io.ReadCloser, error) {
			if inStream.Load() {
				return nil, errInStream
			}
			return io.NopCloser(bytes.NewReader(u.body)), nil
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(u.body)), int64(len(u.body))
		if len(u.body) == 0 {
			r.Body = http.NoBody
		}
		resp, err := tracedRoundTrip(u.transport, r, u.span.describe)
		if err == nil {
			return answer.readFrom(resp)
		}
		_, dialing := errors.AsType[reverseproxy.DialError](err)
		switch {
		case dialing && u.once:
			return cause{causeUnreachable, client.Cause(err)}
		case dialing:
			unreachable = cause{causeUnreachable, client.Cause(err)}
			answer.setBroken(unreachable)
		case unreachable.name != "" && !connected && ctx.Err() != nil: // the time limit ended another attempt to connect
			return unreachable
		default:
			return transportCause(err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return unreachable
		}
	}
}

var errInStream = errors.New("the request was written, and is not sent again")

// noteStream notes that a request is written into a stream of HTTP/2, which the transport sends again
// after some resets of which not all mean that the app did nothing. Only HTTP/2 has field names that
// begin with a colon. Over HTTP/1.1 the transport sends again only what it has not begun to write.
func noteStream(written *atomic.Bool) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{WroteHeaderField: func(name string, _ []string) {
		if strings.HasPrefix(name, ":") {
			written.Store(true)
		}
	}}
}

// upstreamAnswer is as much of the answer of the merchant's app as has arrived. One goroutine
// writes it, possibly after its context has ended. Another one reads it without waiting for
// that; only the header must not be read before the end. The handlers of a route use it as their http.ResponseWriter.
type upstreamAnswer struct {
	header http.Header

	mu     sync.Mutex
	status int
	body   bytes.Buffer
	broken cause // why the answer is not complete
}

func newUpstreamAnswer() *upstreamAnswer {
	return &upstreamAnswer{header: make(http.Header), broken: cause{name: causeTimeout}}
}

// current returns what has arrived until now. Unless the status alone decides, the body must
// be used only if broken is empty.
func (a *upstreamAnswer) current() (status int, body []byte, broken cause) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status, bytes.Clone(a.body.Bytes()), a.broken
}

// setBroken sets the cause that holds if the time limit is reached now.
func (a *upstreamAnswer) setBroken(broken cause) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = broken
}

// end records that nothing more arrives, and the cause if the answer is not complete.
func (a *upstreamAnswer) end(broken cause) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.body.Len() > maxCheckAnswer {
		broken = cause{name: causeTooLarge}
	}
	a.broken = broken
}

// replaceByError replaces what a route has written before it ended with an error.
func (a *upstreamAnswer) replaceByError(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = status
	a.body.Reset()
}

func (a *upstreamAnswer) readFrom(resp *http.Response) cause {
	defer resp.Body.Close()
	if resp.StatusCode < 200 { // a 101's body is not an answer, and does not end with the context
		return cause{name: causeServerError}
	}
	a.setBroken(cause{name: causeTimeout})
	a.header = resp.Header
	a.WriteHeader(resp.StatusCode)
	body, err := readAll(io.LimitReader(resp.Body, maxCheckAnswer+1), resp.ContentLength)
	_, _ = a.Write(body)
	if err != nil {
		return transportCause(err)
	}
	return cause{}
}

func (a *upstreamAnswer) Header() http.Header { return a.header }

func (a *upstreamAnswer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writeHeader(status)
}

func (a *upstreamAnswer) writeHeader(status int) {
	if a.status == 0 && status >= 200 { // 1xx is not the answer yet
		a.status = status
	}
}

// Write keeps one byte more than is allowed: from it, end sees that the answer is too large.
// It drops the rest without an error, so that the handlers of a route can finish.
func (a *upstreamAnswer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writeHeader(http.StatusOK)
	room := maxCheckAnswer + 1 - a.body.Len()
	_, _ = a.body.Write(p[:min(len(p), room)])
	return len(p), nil
}
