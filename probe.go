package caddycvs

// This file holds probes: the signed requests by which `caddy cvs check` finds out whether a confirm_url
// leads to a cvs_confirm with the same keys. A probe is about no order and no payment, and changes nothing.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

const (
	probeEvent    = "caddy-cvs.probe"
	probeHeader   = "X-Cvs-Probe"
	probeClient   = "X-Cvs-Probe-Client" // the address that allow refuses, as Caddy sees it
	probeAmount   = "0"                  // no barcode has it
	probeLifetime = time.Minute
	invalidProbe  = "probe" // the rule that refuses one that is too old, or whose body is none; it is only logged
)

// probeBody is the body of a probe.
type probeBody struct {
	Event string `json:"event"`
	Nonce string `json:"nonce"`
}

// probe is a request that is sent to a confirm_url.
type probe struct {
	base    *signedurl.Base
	account string
	keys    signedurl.Keys
	nonce   string
}

// newProbe returns a probe with a nonce of its own. The error is signedurl.ErrNoKey, or says that there is no
// URL.
func newProbe(base *signedurl.Base, account string, keys signedurl.Keys) (*probe, error) {
	p := &probe{base, account, keys, signedurl.NewID()}
	switch {
	case base == nil:
		return nil, errors.New("there is no confirm_url to probe")
	case len(keys.ProbeMACs(p.nonce)) == 0:
		return nil, signedurl.ErrNoKey
	}
	return p, nil
}

// request returns the request, which is valid for a minute.
func (p *probe) request(ctx context.Context) (*http.Request, error) {
	signed, err := p.base.Sign(p.keys, signedurl.Probe, p.nonce, signedurl.Claims{
		Account: p.account, Amount: probeAmount, Expires: time.Now().Add(probeLifetime).Unix(), ID: p.nonce,
	})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(probeBody{probeEvent, p.nonce})
	if err != nil {
		return nil, err
	}
	r, err := newWebhook(ctx, signed, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "caddy-cvs")
	return r, nil
}

// newWebhook returns a request to a signed confirm_url.
func newWebhook(ctx context.Context, signed string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, signed, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("confirm_url is not the URL of a request") // the error of net/url would repeat the signature
	}
	r.Header.Set("Content-Type", strict.JSON)
	return r, nil
}

// compare compares the keys of the gateway that answered with those of the probe, by the header field
// X-Cvs-Probe of its answer. ok is false if no cvs_confirm wrote it that has one of the keys. missing is how many
// of the probe's keys the gateway lacks. sameOrder means that both have the same keys, and no other ones, in
// the same order.
func (p *probe) compare(header string) (sameOrder bool, missing int, ok bool) {
	own, theirs := p.keys.ProbeMACs(p.nonce), strings.Split(header, ",")
	for _, mac := range own {
		if !slices.Contains(theirs, mac) {
			missing++
		}
	}
	return slices.Equal(own, theirs), missing, missing < len(own)
}

// receivedProbe is a probe that cvs_confirm received. Its URL is genuine.
type receivedProbe struct {
	account *account
	claims  signedurl.Claims
}

// macs is the value of the header field X-Cvs-Probe.
func (p *receivedProbe) macs() string {
	return strings.Join(p.account.keys.ProbeMACs(p.claims.ID), ",")
}

// findProbe returns the probe for which the URL was signed, nil if it is none.
func (wr *webhookReceiver) findProbe(r *http.Request) *receivedProbe {
	if !strings.Contains(r.URL.RawQuery, "cvs_amount="+probeAmount+"&") { // saves a webhook the work
		return nil
	}
	claims, err := signedurl.Parse(r.URL.RawQuery)
	if err != nil || claims.ID == "" {
		return nil
	}
	acc, err := wr.app.account(claims.Account)
	if err != nil || claims.Verify(acc.keys, signedurl.Probe, claims.ID) != nil {
		return nil
	}
	return &receivedProbe{acc, claims}
}

// isProbe reports whether a body is a probe's. Without findProbe, the probe is forged.
func isProbe(contentType string, body []byte) bool {
	b, err := strict.Parse(contentType, body, "event")
	return err == nil && b.Get("event").Text == probeEvent
}

// answerProbe answers a probe: 204 with a MAC for each key of its account. It asks no order check, and
// publishes nothing: no metric, count, event or row of the ledger changes. A probe is never answered with 200,
// by which a till accepts.
func (c *Confirm) answerProbe(w http.ResponseWriter, r *http.Request, p *receivedProbe, deadline time.Time) {
	d := &decision{record: record{kind: decisions, subject: subject{operation: "probe", account: p.account.name}}}
	level := zapcore.DebugLevel
	if err := c.verifyProbe(w, r, p, deadline); err != nil {
		level = zapcore.InfoLevel // whoever runs the check looks for why
		d.fail(w, err)
		if d.rule == ruleAllow || d.rule == ruleTrustedProxies {
			// Such as allow portone, outside of which the check runs as a rule. The probe is genuine, so its sender
			// may know that the keys are the same, and how it looks from here.
			w.Header().Set(probeHeader, p.macs())
			w.Header().Set(probeClient, clientIP(r))
		}
		closeUnread(w, r)
		d.answer(w, r)
	} else {
		d.httpStatus = http.StatusNoContent
		caddyhttp.SetVar(r.Context(), decidedVar, d.httpStatus)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set(probeHeader, p.macs())
		w.WriteHeader(d.httpStatus)
		_ = http.NewResponseController(w).Flush() // the sender may have left
	}
	if entry := c.logger.Check(level, "probe"); entry != nil {
		entry.Write(append(traceFields(traceID(r.Context())), zap.String("account", d.account), zap.Int("status", d.httpStatus),
			zap.String("rule", d.rule), zap.String("cause", d.cause.name), zap.String("client_ip", clientIP(r)))...)
	}
}

// verifyProbe verifies what a webhook must fulfil, too, and that the probe is not old. Its errors are of type
// *httpError.
func (c *Confirm) verifyProbe(w http.ResponseWriter, r *http.Request, p *receivedProbe, deadline time.Time) error {
	body, err := c.webhooks.receive(w, r, deadline)
	if err != nil {
		return err
	}
	if c.Account != "" && p.claims.Account != c.Account {
		return notGenuine(ruleAccount)
	}
	b, err := strict.Parse(r.Header.Get("Content-Type"), body, "event", "nonce")
	if err != nil || b.Get("event").Text != probeEvent || b.Get("nonce").Text != p.claims.ID {
		return notGenuine(invalidProbe)
	}
	if p.claims.Expires == 0 || p.claims.ExpiredAt(time.Now()) {
		return notGenuine(invalidProbe)
	}
	return nil
}
