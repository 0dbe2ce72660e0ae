package client

// This file holds how a request gets the token, and how it is sent again after a 401.

import "net/http"

// sendWithToken sends a request with the token, and once more after a 401 if that
// brought a new token or a longer life for it. A 401 means that the API did nothing, so
// that even POST /cvs may be repeated.
func (c *Client) sendWithToken(req *http.Request, trace *sendTrace) (*http.Response, error) {
	token, err := c.state.tokens.get(req.Context(), c.fetcher)
	if err != nil {
		return nil, err
	}
	c.authorize(req, token)
	if err := trace.permit(); err != nil {
		return nil, err
	}
	resp, err := c.roundTrip(req, trace)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	discard(resp)
	trace.calls.end(nil, ErrCredentials)
	trace.allowRepeat()
	renewed, err := c.state.tokens.replace(req.Context(), c.fetcher, token)
	if err != nil {
		return nil, err
	}
	if renewed.equal(token) {
		return nil, ErrCredentials
	}
	repeat := req.Clone(req.Context()) // the transport may still be reading the first one
	if repeat.Body, err = req.GetBody(); err != nil {
		return nil, err
	}
	c.authorize(repeat, renewed)
	if err := trace.permit(); err != nil {
		return nil, err
	}
	if resp, err = c.roundTrip(repeat, trace); err == nil && resp.StatusCode == http.StatusUnauthorized {
		discard(resp)
		return nil, ErrCredentials
	}
	return resp, err
}

// authorize sets the token, and the tier if there is one.
func (c *Client) authorize(req *http.Request, token *accessToken) {
	req.Header.Set("Authorization", "Bearer "+token.text)
	if c.tier != "" {
		req.Header.Set("Tier", c.tier)
	}
}

// sendWithoutToken sends getToken.
func (c *Client) sendWithoutToken(req *http.Request, trace *sendTrace) (*http.Response, error) {
	return c.roundTrip(req, trace)
}

// roundTrip makes one HTTP call. Its end is told when the answer is read.
func (c *Client) roundTrip(req *http.Request, trace *sendTrace) (*http.Response, error) {
	trace.calls.begin()
	return c.transport.RoundTrip(req)
}
