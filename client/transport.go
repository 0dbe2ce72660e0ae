package client

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
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

// sendTrace tells whether a request that failed can have reached the server.
type sendTrace struct{ asked, got atomic.Bool }

// hooks returns what http.Transport calls. It asks for a connection at every
// attempt and starts to write as soon as it got one.
func (s *sendTrace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.asked.Store(true); s.got.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { s.got.Store(true) },
	}
}

// unsent reports whether it is certain that nothing was written. A transport
// that calls no hooks leaves it uncertain.
func (s *sendTrace) unsent() bool { return s.asked.Load() && !s.got.Load() }
