package emulator

// Sending the confirm and the notice webhooks.

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
	"strings"
	"syscall"
	"time"
)

const (
	noticeTimeout  = 30 * time.Second
	maxWebhookBody = 64 << 10
	eventConfirm   = "Galaxia.Cvs.Confirm"
	userAgent      = "cvs-sandbox"
	dialTimeout    = 10 * time.Second // from the API's documents
	messageTooLong = "(more than 64 KiB)"

	// The till's page translates these.
	messageNotSent    = "sandbox fault: the webhook was not sent"
	messageAnswerLost = "sandbox fault: the answer was lost"
	messageSentLater  = "sandbox fault: the webhook is sent after "
	messageNoAnswer   = "no answer within "
)

// WebhookResult is a webhook that was sent, or was not, and its response.
type WebhookResult struct {
	// URL is where it was sent. Only the query values of cvs_amount, cvs_expires and cvs_account are shown, because others may
	// be secret, such as the signature.
	URL string `json:"url"`
	// Sent is the body as JSON. It is a JSON string if the body is no JSON, and nil if the webhook was not sent.
	Sent json.RawMessage `json:"sent,omitempty"`
	// Status is the HTTP status of the response, 0 if there was none.
	Status int `json:"status"`
	// Body is the body of the response to a confirm webhook as JSON. It is a JSON string if the body is no JSON.
	Body       json.RawMessage `json:"body,omitempty"`
	DurationMS int64           `json:"duration_ms"`
	// Error says why there was no complete response.
	Error string `json:"error"`
	// Forged says what a fault altered in the webhook.
	Forged Forgery `json:"forged,omitempty"`
	// Duplicate is the result of the same webhook, sent again by a fault.
	Duplicate *WebhookResult `json:"duplicate,omitempty"`

	notCvsConfirm bool // the response is a 200 that did not come from cvs_confirm
}

// message is the body of a webhook. A notice has neither event nor extra. The notice of a cancellation has a cancellation_id.
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
	form     bool // the body is a form, not JSON
	fault    Fault
}

// sendWebhook sends a webhook, and sends it again if the fault says so.
func (e *Emulator) sendWebhook(ctx context.Context, h webhook) WebhookResult {
	u, err := url.Parse(h.url)
	if err != nil { // cannot happen: the URL was validated when the barcode was issued
		return WebhookResult{Error: "URL cannot be parsed"}
	}
	redact := newRedactor(u)
	target := *u
	if h.fault.Forged != "" {
		forge(h.fault.Forged, &target, &h.message)
		redact = newRedactor(u, &target)
	}
	result := e.sendOnce(ctx, h, &target, redact)
	if h.fault.Duplicate {
		result.Duplicate = new(e.sendOnce(ctx, h, &target, redact))
	}
	return result
}

// sendOnce sends a webhook once, within its timeout.
func (e *Emulator) sendOnce(ctx context.Context, h webhook, u *url.URL, redact redactor) WebhookResult {
	result := WebhookResult{URL: redactURL(u), Forged: h.fault.Forged}
	switch _ = e.pause(ctx, h.fault.Delay); {
	case e.ctx.Err() != nil: // which reaches ctx a moment later
		result.Error = ErrClosed.Error()
		return result
	case ctx.Err() != nil:
		result.Error = redact.err(context.Cause(ctx))
		return result
	}
	if h.fault.Drop == DropBefore {
		result.Error = messageNotSent
		return result
	}
	e.count(h.endpoint)
	media, body := h.body()
	result.Sent = asJSON(string(body))
	if h.fault.Oversized {
		body, _ = io.ReadAll(oversize(body, oversizedWebhook))
	}
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, h.timeout, fmt.Errorf(messageNoAnswer+"%v", h.timeout))
	defer cancel()
	status, respBody, err := e.post(ctx, u, media, body)
	result.DurationMS = time.Since(start).Milliseconds()
	result.Status = status
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case h.fault.Drop == DropAfter:
		result.Status, result.Error = 0, messageAnswerLost
	case err != nil:
		result.Error = redact.err(err)
	case h.endpoint == EndpointConfirm:
		result.Body = asJSON(redact.text(string(respBody)))
		result.notCvsConfirm = status == http.StatusOK && !isAcceptance(respBody) // not the redacted body, in which this could be hidden
	}
	return result
}

// body returns the body of a webhook and its media type.
func (h webhook) body() (media string, body []byte) {
	if h.fault.Garbage {
		return "text/html", []byte(garbage)
	}
	if h.form {
		return mediaForm, []byte(h.message.form().Encode())
	}
	return mediaJSON, bytes.TrimSpace(encodeJSON(h.message, ""))
}

// form returns the fields of a notice.
func (m message) form() url.Values {
	values := url.Values{"imp_uid": {m.ImpUID}, "merchant_uid": {m.MerchantUID}, "status": {m.Status}}
	if m.CancellationID != "" {
		values.Set("cancellation_id", m.CancellationID)
	}
	return values
}

// post sends a request and reads the response. It uses the transport without an http.Client, because a client follows redirects
// and writes the URL with its signature into its errors.
func (e *Emulator) post(ctx context.Context, u *url.URL, media string, body []byte) (status int, respBody []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
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
	respBody, err = io.ReadAll(io.LimitReader(resp.Body, maxWebhookBody+1))
	if len(respBody) > maxWebhookBody {
		respBody = []byte(messageTooLong) // a shortened body could end within a secret, and half a secret would not be redacted
	}
	return resp.StatusCode, respBody, err
}

// newTransport returns a transport that connects only to loopback and private addresses, unless public ones are allowed. It uses
// no proxy, because only the proxy would see the address. It closes each connection, because an idle one keeps goroutines.
func newTransport(public bool) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !public {
		dialer.Control = refusePublic
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		DisableKeepAlives:      true,
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: maxWebhookBody,
	}
}

// refusePublic refuses to connect to a public address. It sees the address after the name was resolved, so that no name can lead
// to a public one.
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

// asJSON returns JSON as it is, and any other text as a JSON string.
func asJSON(s string) json.RawMessage {
	s = strings.ToValidUTF8(s, "\uFFFD")
	switch {
	case s == "":
		return nil
	case json.Valid([]byte(s)):
		return json.RawMessage(s)
	}
	return bytes.TrimSpace(encodeJSON(s, ""))
}
