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

// sendTrace follows one request while the transport sends it.
type sendTrace struct {
	wantsConn   atomic.Bool // the transport asked for a connection
	hasConn     atomic.Bool // the transport got the connection
	wroteStream atomic.Bool // the transport wrote into a stream of HTTP/2 or HTTP/3

	calls     observation  // told of each HTTP call
	maySend   func() error // asked before anything is sent; nil stands for yes
	withdrawn atomic.Bool  // it said no
}

// permit asks maySend.
func (s *sendTrace) permit() error {
	if s.maySend == nil {
		return nil
	}
	err := s.maySend()
	if err != nil {
		s.withdrawn.Store(true)
	}
	return err
}

// guardBody asks maySend once more when the transport begins to read the body: until then it may
// have waited for a connection. Without its body the API can do nothing with the request.
func (s *sendTrace) guardBody(req *http.Request) {
	if s.maySend == nil || req.Body == nil || req.Body == http.NoBody {
		return
	}
	getBody := req.GetBody
	req.Body = &guardedBody{ReadCloser: req.Body, permit: s.permit}
	req.GetBody = func() (io.ReadCloser, error) {
		body, err := getBody()
		return &guardedBody{ReadCloser: body, permit: s.permit}, err
	}
}

// guardedBody is a body whose first byte needs a permission.
type guardedBody struct {
	io.ReadCloser
	permit func() error
	asked  bool
}

func (b *guardedBody) Read(p []byte) (int, error) {
	if !b.asked {
		if err := b.permit(); err != nil {
			return 0, err
		}
		b.asked = true
	}
	return b.ReadCloser.Read(p)
}

// context returns a context with which http.Transport reports to the trace. The transport
// asks for a connection at every attempt and starts to write as soon as it has one. Only
// HTTP/2 and HTTP/3 have field names that begin with a colon.
func (s *sendTrace) context(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { s.wantsConn.Store(true); s.hasConn.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { s.hasConn.Store(true) },
		WroteHeaderField: func(name string, _ []string) {
			if strings.HasPrefix(name, ":") {
				s.wroteStream.Store(true)
			}
		},
	})
}

var errWritten = errors.New("the request was written, and is not sent again")

// forbidRepeat keeps the transport from sending the body again after a byte of it may
// have been written. Over HTTP/2 the transport would do so after some resets, of which
// not all mean that the server did nothing. Over HTTP/1.1 it counts the bytes that it
// wrote, and sends again only if there were none: for that it needs GetBody.
func (s *sendTrace) forbidRepeat(req *http.Request) {
	getBody := req.GetBody
	req.GetBody = func() (io.ReadCloser, error) {
		if s.wroteStream.Load() {
			return nil, errWritten
		}
		return getBody()
	}
}

// allowRepeat ends forbidRepeat. It is called after an answer that allows to repeat the
// request.
func (s *sendTrace) allowRepeat() { s.wroteStream.Store(false) }

// nothingSent reports whether it is certain that no byte was written. A transport that
// does not report leaves it uncertain.
func (s *sendTrace) nothingSent() bool { return s.wantsConn.Load() && !s.hasConn.Load() }
