package client

// This file holds what tells whether a byte of a request may have been written.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
)

// sendTrace follows one request on its way.
type sendTrace struct {
	asked, got atomic.Bool // a connection
	stream     atomic.Bool // written into, of HTTP/2 or HTTP/3
}

type sendTraceKey struct{}

// follow returns a context with which http.Transport tells the trace what it does. It
// asks for a connection at every attempt and starts to write as soon as it got one.
// Names with a colon are those of HTTP/2 and HTTP/3 only.
func (s *sendTrace) follow(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(context.WithValue(ctx, sendTraceKey{}, s), &httptrace.ClientTrace{
		GetConn: func(string) { s.asked.Store(true); s.got.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { s.got.Store(true) },
		WroteHeaderField: func(name string, _ []string) {
			if strings.HasPrefix(name, ":") {
				s.stream.Store(true)
			}
		},
	})
}

var errWritten = errors.New("the request was written, and is not sent again")

// guard keeps the transport from sending a body again of which something was
// written. Over HTTP/2 it would do so after some resets, of which not all mean that
// the server did nothing. Over HTTP/1.1 it knows how many bytes it wrote, and sends
// again only if there were none.
func (s *sendTrace) guard(req *http.Request) {
	body := req.GetBody
	req.GetBody = func() (io.ReadCloser, error) {
		if s.stream.Load() {
			return nil, errWritten
		}
		return body()
	}
}

// answered tells the request's trace that there was an answer, after which it is
// ours to send the request again.
func answered(req *http.Request) {
	if s, ok := req.Context().Value(sendTraceKey{}).(*sendTrace); ok {
		s.stream.Store(false)
	}
}

// unsent reports whether it is certain that nothing was written. A transport
// that calls no hooks leaves it uncertain.
func (s *sendTrace) unsent() bool { return s.asked.Load() && !s.got.Load() }
