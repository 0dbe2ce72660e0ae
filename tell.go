package caddycvs

// This file holds the target of a tell: its configuration, and how the shop's app is told once.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// Tell is where the merchant's app is told what has happened to a payment, by a POST to a URL, and which of its
// answers mean that it has heard.
type Tell struct {
	// URL is where to tell: http or https, without credentials and fragment. Placeholders such as
	// `{http.cvs.merchant_uid}` may stand in its path and query, where their values are escaped; those of a request
	// are refused. Required.
	URL string `json:"url,omitempty"`

	// Header has further header fields to send, with placeholders. X-Cvs-* and Webhook-*, which every message has,
	// Idempotency-Key and X-Idempotency-Key are refused. Default: none.
	Header map[string]string `json:"header,omitempty"`

	// Timeout limits the request and its answer: a duration such as "10s", at least 1ms. Default: 10s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Accept lists the statuses that mean that the app has heard: from 200 to 299, or "2xx" for all of these. An empty
	// list is refused. Default: 2xx.
	Accept []string `json:"accept,omitempty"`

	// Requirements are conditions on the JSON answer, all of which must hold. An empty list is refused. Default: none;
	// then Caddy warns at load.
	Requirements []Requirement `json:"requirements,omitempty"`

	// As is the form of the body: "json" or "form". Default: json.
	As string `json:"as,omitempty"`

	// Secret has the secrets by which the app verifies a message, as the Standard Webhooks do: each a placeholder for
	// `whsec_` and 24 to 64 bytes in base64. All of them sign, so that the app may take over a new one at any time. An
	// empty list is refused. Default: none, and nothing is signed.
	Secret []string `json:"secret,omitempty"`

	target    target
	secrets   []tell.Secret
	transport http.RoundTripper
}

const (
	asJSON = "json"
	asForm = "form"

	defaultTellTimeout = 10 * time.Second
)

func (t *Tell) provision(ctx caddy.Context) (err error) {
	if err := t.validate(); err != nil {
		return err
	}
	if err := validateDuration("timeout", t.Timeout, time.Millisecond); err != nil {
		return err
	}
	if t.Timeout == 0 {
		t.Timeout = caddy.Duration(defaultTellTimeout)
	}
	if t.Accept == nil {
		t.Accept = []string{"2xx"}
	}
	if t.As == "" {
		t.As = asJSON
	}
	if t.target, err = parseTarget(t.URL, t.Header, ofTell); err != nil {
		return err
	}
	if err := t.provisionSecrets(); err != nil {
		return err
	}
	t.transport, err = newAppTransport(ctx)
	return err
}

func (t *Tell) provisionSecrets() error {
	t.secrets = nil
	for _, raw := range t.Secret {
		text, err := resolveSecret("secret", raw)
		if err != nil {
			return err
		}
		secret, err := tell.ParseSecret(text)
		if err != nil {
			return fmt.Errorf("secret %s: %w", raw, err)
		}
		t.secrets = append(t.secrets, secret)
	}
	return nil
}

func (t *Tell) validate() error {
	switch {
	case t.URL == "":
		return errors.New("need a URL such as http://127.0.0.1:3000/payments/{http.cvs.merchant_uid}")
	case t.As != "" && t.As != asJSON && t.As != asForm:
		return fmt.Errorf("as must be json or form, not %q", t.As)
	case t.Secret != nil && len(t.Secret) == 0:
		return errors.New("secret is empty: name one, or leave it out")
	}
	if err := validateHeader(t.Header, ofTell); err != nil {
		return err
	}
	return validateAnswer(t.Accept, t.Requirements)
}

// Send tells the app once. It returns within the timeout.
func (t *Tell) Send(ctx context.Context, m *tell.Message) ledger.Reply {
	return t.exchange(ctx, m).reply
}

// tellExchange is one request to the app, and what it answered.
type tellExchange struct {
	request     *http.Request // nil if none was sent
	body        []byte
	status      int // 0 for no answer
	contentType string
	answer      []byte
	reply       ledger.Reply
}

func (t *Tell) exchange(ctx context.Context, m *tell.Message) (x tellExchange) {
	if ctx.Err() != nil {
		x.reply = ledger.Reply{Verdict: ledger.Withdrawn, Cause: causeTimeout}
		return x
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(t.Timeout))
	defer cancel()
	contentType, body := m.Encode(t.As == asForm)
	request, unfit := t.request(m, contentType, body)
	if unfit != "" {
		x.reply = ledger.Reply{Verdict: ledger.Refused, Cause: unfit}
		return x
	}
	x.request, x.body = request, body
	answer := newUpstreamAnswer()
	sending := upstream{request: request, body: body, transport: t.transport, once: true, span: &t.target.span}
	sending.run(ctx, answer)
	var broken cause
	x.status, x.answer, broken = answer.current()
	x.contentType = answer.Header().Get("Content-Type")
	x.reply = t.judge(x.status, x.contentType, x.answer, broken)
	return x
}

// request builds the request of a message. unfit is the cause if a value of the order cannot stand in
// it, else "".
func (t *Tell) request(m *tell.Message, contentType string, body []byte) (r *http.Request, unfit string) {
	about := messageRecord(m)
	header := about.header(contentType, time.Duration(t.Timeout))
	id, now := m.ID(), time.Now()
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	if t.secrets != nil {
		header.Set("Webhook-Signature", tell.Sign(t.secrets, id, now, body))
	}
	repl := caddy.NewReplacer()
	repl.Map(about.placeholder)
	return t.target.request(http.MethodPost, header, repl)
}

// messageRecord is the record of telling the app a message.
func messageRecord(m *tell.Message) *record {
	return &record{
		subject: subject{operation: "tell", account: m.Account, merchantUID: m.MerchantUID, impUID: m.ImpUID, amount: m.Amount},
		kind:    tellings, event: string(m.Event), status: m.Status, expires: m.Expires, late: m.Late,
	}
}
