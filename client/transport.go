package client

import (
	"io"
	"net/http"
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
