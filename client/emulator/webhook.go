package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"
)

const (
	noticeTimeout     = 30 * time.Second
	maxWebhookAnswer  = 64 << 10
	minSecretLength   = 16 // a shorter query value is hidden with its name only: alone it may be any word
	parameterSig      = "cvs_sig"
	parameterAmount   = "cvs_amount"
	parameterExpires  = "cvs_expires"
	parameterAccount  = "cvs_account"
	hidden            = "…"
	eventConfirm      = "Galaxia.Cvs.Confirm"
	userAgent         = "cvs-sandbox"
	dialTimeout       = 10 * time.Second // "waits 10 s to connect"
	messageNotSent    = "sandbox fault: the webhook was not sent"
	messageAnswerLost = "sandbox fault: the answer was lost"
	messageNoAnswer   = "no answer within "
	messageTooLong    = "(more than 64 KiB)"
)

// WebhookResult is how a webhook fared.
type WebhookResult struct {
	// URL is where it was sent. Of its query only the values of cvs_amount, cvs_expires and cvs_account are shown: others may
	// be secret, as a signature is.
	URL string `json:"url"`
	// Sent is the body, nil if the webhook was not sent: its JSON, or its text as a JSON string.
	Sent json.RawMessage `json:"sent,omitempty"`
	// Status is the HTTP status of the answer, 0 if there was none.
	Status int `json:"status"`
	// Body is the answer to a confirm webhook: its JSON, or its text as a JSON string.
	Body       json.RawMessage `json:"body,omitempty"`
	DurationMS int64           `json:"duration_ms"`
	// Error says why there was no answer, or not a whole one.
	Error string `json:"error"`
	// Forged says what a fault altered in the webhook.
	Forged Forgery `json:"forged,omitempty"`
	// Duplicate is how the same webhook fared when a fault sent it again.
	Duplicate *WebhookResult `json:"duplicate,omitempty"`

	foreign bool // a confirm webhook that something other than cvs_confirm answered 200
}

// message is the body of a webhook. The notice has neither event nor extra, and that of a cancellation names it.
type message struct {
	Event          string `json:"event,omitempty"`
	ImpUID         string `json:"imp_uid"`
	MerchantUID    string `json:"merchant_uid"`
	Status         string `json:"status"`
	CancellationID string `json:"cancellation_id,omitempty"`
	Extra          *extra `json:"extra,omitempty"`
}

type extra struct {
	Barcode string `json:"barcode"`
	PayType string `json:"payType"`
}

// webhook is one webhook to be sent.
type webhook struct {
	endpoint Endpoint
	url      string
	message  message
	timeout  time.Duration
	fault    Fault
}

// sendWebhook sends a webhook, and a second time if the fault says so.
func (e *Emulator) sendWebhook(ctx context.Context, h webhook) WebhookResult {
	u, err := url.Parse(h.url)
	if err != nil { // not after the check at issue
		return WebhookResult{Error: "URL cannot be parsed"}
	}
	scrub := newScrubber(u)
	sent := *u
	if h.fault.Forged != "" {
		forge(h.fault.Forged, &sent, &h.message)
		scrub = newScrubber(u, &sent)
	}
	result := e.attempt(ctx, h, &sent, scrub)
	if h.fault.Duplicate {
		result.Duplicate = new(e.attempt(ctx, h, &sent, scrub))
	}
	return result
}

// attempt sends a webhook once, within its time-out.
func (e *Emulator) attempt(ctx context.Context, h webhook, u *url.URL, scrub scrubber) WebhookResult {
	result := WebhookResult{URL: shownURL(u), Forged: h.fault.Forged}
	if _ = e.pause(ctx, h.fault.Delay); ctx.Err() != nil {
		result.Error = scrub.err(context.Cause(ctx))
		return result
	}
	if h.fault.Drop == DropBefore {
		result.Error = messageNotSent
		return result
	}
	e.count(h.endpoint)
	media, content := h.content()
	result.Sent = asJSON(string(content))
	if h.fault.Oversized {
		content, _ = io.ReadAll(oversize(content, oversizedWebhook))
	}
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, h.timeout, fmt.Errorf(messageNoAnswer+"%v", h.timeout))
	defer cancel()
	status, body, err := e.post(ctx, u, media, content)
	result.DurationMS = time.Since(start).Milliseconds()
	result.Status = status
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case h.fault.Drop == DropAfter:
		result.Status, result.Error = 0, messageAnswerLost
	case err != nil:
		result.Error = scrub.err(err)
	case h.endpoint == EndpointConfirm:
		result.Body = asJSON(scrub.text(string(body)))
		result.foreign = status == http.StatusOK && !isAcceptance(body) // before scrubbing, which may hide a part of it
	}
	return result
}

// content returns the body of a webhook and its media type.
func (h webhook) content() (media string, body []byte) {
	if h.fault.Garbage {
		return "text/html", []byte(garbage)
	}
	return mediaJSON, bytes.TrimSpace(encode(h.message, ""))
}

// post sends a webhook. It uses the transport without a client, which would follow redirects and put the URL, with its
// signature, into its errors.
func (e *Emulator) post(ctx context.Context, u *url.URL, media string, content []byte) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", media)
	req.Header.Set("User-Agent", userAgent)
	if u.User != nil {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	resp, err := e.transport.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxWebhookAnswer+1))
	if len(body) > maxWebhookAnswer {
		body = []byte(messageTooLong) // a part of it could end within a secret, which would go unnoticed
	}
	return resp.StatusCode, body, err
}

// newTransport returns a transport that reaches loopback and private addresses only, unless public ones are allowed. It uses
// no proxy, behind which the address could not be checked, and keeps no connection, and with it no goroutine, alive.
func newTransport(public bool) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !public {
		dialer.Control = refusePublic
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		DisableKeepAlives:      true,
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: maxWebhookAnswer,
	}
}

// refusePublic sees the address that is dialled, after names were resolved, so that no name can lead elsewhere.
func refusePublic(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.New("webhook refused: address is no IP address")
	}
	if ip := to.Addr().Unmap().WithZone(""); !ip.IsLoopback() && !ip.IsPrivate() {
		return fmt.Errorf("webhook refused: %v is neither a loopback nor a private address", ip)
	}
	return nil
}

// forge alters what a forger would alter. What it puts in has the same length, so that nothing but the forgery is wrong.
func forge(f Forgery, u *url.URL, m *message) {
	switch f {
	case ForgedSignature:
		u.RawQuery = alterParameter(u.RawQuery, parameterSig)
	case ForgedAmount:
		u.RawQuery = alterParameter(u.RawQuery, parameterAmount)
	case ForgedMerchantUID:
		m.MerchantUID = alter(m.MerchantUID)
	case ForgedUnsigned:
		u.RawQuery, u.ForceQuery = "", false
	}
}

// alterParameter alters a parameter's value in a query, or adds the parameter, and leaves the rest byte for byte.
func alterParameter(query, name string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			pairs[i] = name + "=" + alter(value)
			return strings.Join(pairs, "&")
		}
	}
	return strings.TrimPrefix(query+"&"+name+"="+alter(""), "&")
}

// alter replaces the first character. Of a signature in base64 the last one may carry bits that mean nothing.
func alter(s string) string {
	if s == "" {
		return "1"
	}
	runes := []rune(s)
	if runes[0] == '1' {
		runes[0] = '2'
	} else {
		runes[0] = '1'
	}
	return string(runes)
}

// asJSON returns JSON as it is and other text as a JSON string.
func asJSON(s string) json.RawMessage {
	s = strings.ToValidUTF8(s, "\uFFFD")
	switch {
	case s == "":
		return nil
	case json.Valid([]byte(s)):
		return json.RawMessage(s)
	}
	return bytes.TrimSpace(encode(s, ""))
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}

// displayURL returns a URL without what may be secret in it: user, query, fragment.
func displayURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return u.String()
}

// shownURL returns a URL with what may be secret in it hidden: user, fragment, and the values of most parameters.
func shownURL(u *url.URL) string {
	shown := *u
	shown.User, shown.Fragment, shown.RawFragment = nil, "", ""
	pairs := strings.Split(u.RawQuery, "&")
	for i, pair := range pairs {
		name, _, named := strings.Cut(pair, "=")
		switch {
		case name == parameterAmount, name == parameterExpires, name == parameterAccount:
		case named:
			pairs[i] = name + "=" + hidden
		case len(pair) >= minSecretLength:
			pairs[i] = hidden
		}
	}
	shown.RawQuery = strings.Join(pairs, "&")
	return shown.String()
}

// scrubber removes the secrets of a webhook's URLs from texts that are shown: a gateway's error page often repeats the URL.
type scrubber struct{ replacer *strings.Replacer }

func newScrubber(urls ...*url.URL) scrubber {
	var pairs []string
	hide := func(s string) {
		if s != "" {
			pairs = append(pairs, s, hidden)
		}
	}
	for _, u := range urls {
		password, _ := u.User.Password()
		hide(password)
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			_, raw, named := strings.Cut(pair, "=")
			if named {
				hide(pair) // by pairs, as JSON and HTML write the & between them in other ways
			} else {
				raw = pair
			}
			if len(raw) >= minSecretLength {
				value, _ := url.QueryUnescape(raw)
				hide(raw)
				hide(value)
			}
		}
	}
	return scrubber{strings.NewReplacer(pairs...)}
}

func (s scrubber) text(t string) string {
	return s.replacer.Replace(t)
}

// queries matches the query of any URL in an error's text.
var queries = regexp.MustCompile(`\?[^\s"'<>]*`)

// err returns an error's text.
func (s scrubber) err(err error) string {
	return s.text(queries.ReplaceAllString(err.Error(), ""))
}
