package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"
)

// authTransport is an http.RoundTripper that adds the token, and the tier if
// there is one, to a clone of each request.
type authTransport struct {
	base   http.RoundTripper
	tokens *tokenSource
	tier   string
}

// RoundTrip sends the request, and once more after a 401 if that brought a new
// token or a longer life for it. A 401 means that nothing was done, so that
// even POST /cvs may be repeated.
func (t *authTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	g, err := t.tokens.token(req.Context())
	if err != nil {
		return nil, err
	}
	resp, err := t.send(req, g, req.Body)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	discard(resp)
	answered(req)
	renewed, err := t.tokens.replace(req.Context(), g)
	if err != nil {
		return nil, err
	}
	if renewed.same(g) {
		return nil, ErrCredentials
	}
	body := req.Body
	if req.GetBody != nil {
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	if resp, err = t.send(req, renewed, body); err == nil && resp.StatusCode == http.StatusUnauthorized {
		discard(resp)
		return nil, ErrCredentials
	}
	return resp, err
}

func (t *authTransport) send(req *http.Request, g *grant, body io.ReadCloser) (*http.Response, error) {
	out := req.WithContext(req.Context())
	out.Header, out.Body = req.Header.Clone(), body
	out.Header.Set("Authorization", "Bearer "+g.token)
	if t.tier != "" {
		out.Header.Set("Tier", t.tier)
	}
	return t.base.RoundTrip(out)
}

// discard reads the rest of a short answer, so that its connection is used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

var errTooLarge = errors.New("the answer is larger than any of the API's")

// readBody reads an answer of at most limit bytes, to its end: over HTTP/2, to stop
// at the last byte would cancel the call.
func readBody(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	whole := bytes.NewBuffer(make([]byte, 0, max(min(resp.ContentLength, limit), 0)+bytes.MinRead))
	_, err := whole.ReadFrom(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(whole.Len()) > limit {
		err = errTooLarge
	}
	return whole.Bytes(), err
}

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

// A connection that died without a word is given up so long after its last frame.
const (
	pingAfter   = 2 * time.Second
	pingTimeout = 3 * time.Second
)

// KeepHealthy has a transport ask over each connection of HTTP/2 on which nothing
// arrives whether the other side is still there, unless it does so already. Without
// that, a connection which a firewall or a NAT has forgotten would be used for as
// long as calls are made over it, and each of them would time out. It must be called
// before the transport is used.
func KeepHealthy(t *http.Transport) {
	var cfg http.HTTP2Config
	if t.HTTP2 != nil {
		cfg = *t.HTTP2
	}
	cfg.SendPingTimeout = cmp.Or(cfg.SendPingTimeout, pingAfter)
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, pingTimeout)
	t.HTTP2 = &cfg
}

// newTransport returns a transport of the client's own.
func newTransport() http.RoundTripper {
	usual, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program has put another in its place
		return http.DefaultTransport
	}
	own := usual.Clone()
	KeepHealthy(own)
	return own
}
