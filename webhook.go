package caddycvs

// This file holds how a webhook is received, and how it proves that it is genuine.

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

// webhookReceiver receives the webhooks of one handler, which have one purpose.
type webhookReceiver struct {
	app     *App
	purpose signedurl.Purpose
	account string  // the only account whose webhooks are accepted, "" for all
	access  *access // who may send, nil for everybody
}

const maxWebhook = 64 << 10

// The rules that refuse a webhook which is not genuine. The sender gets one answer for all
// of them; only the log tells them apart.
const (
	ruleSignature = "signature"
	ruleAccount   = "account"
	ruleUnsigned  = "unsigned reject"
	ruleLookup    = "unsigned lookup"
)

func notGenuine(rule string) error { return forbidden(rule, "the webhook is not genuine") }

// receive reads the body. Its errors are of type *httpError.
func (wr *webhookReceiver) receive(w http.ResponseWriter, r *http.Request, deadline time.Time) ([]byte, error) {
	if r.Method != http.MethodPost {
		return nil, &httpError{status: http.StatusMethodNotAllowed, message: "use POST", allow: http.MethodPost}
	}
	if wr.access != nil {
		err := wr.access.verifyAddress(r)
		if refusal, ok := errors.AsType[*httpError](err); ok && refusal.rule != "" {
			return nil, forbidden(refusal.rule, "this address may not send webhooks") // the log has the address
		}
		if err != nil {
			return nil, err
		}
	}
	return readBody(w, r, maxWebhook, deadline)
}

// authenticate verifies that the URL was signed for this purpose and order by an account of
// this configuration. The error is signedurl.ErrUnsigned or an *httpError. The deadline is
// for the caller to compare.
func (wr *webhookReceiver) authenticate(r *http.Request, merchantUID string) (*account, signedurl.Claims, error) {
	claims, err := signedurl.Parse(r.URL.RawQuery)
	switch {
	case errors.Is(err, signedurl.ErrUnsigned):
		return nil, claims, err
	case err != nil:
		return nil, claims, notGenuine(ruleSignature)
	case wr.account != "" && claims.Account != wr.account:
		return nil, claims, notGenuine(ruleAccount)
	}
	acc, err := wr.app.account(claims.Account)
	switch {
	case err != nil:
		return nil, claims, notGenuine(ruleAccount)
	case claims.Verify(acc.keys, wr.purpose, merchantUID) != nil:
		return nil, claims, notGenuine(ruleSignature)
	}
	return acc, claims, nil
}
