package emulator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// The ways to pay at the till.
const (
	PayTypeCard = "card"
	PayTypeCash = "cash"
)

const (
	maxReason = 200 // characters kept of a gateway's reason

	warningForeign = `this 200 did not come from cvs_confirm, which answers {"accepted":true}: something else answered for it, ` +
		`and no order check was asked; check the path in confirm_url and the order of the site's routes`
)

var (
	// ErrClosed is returned by Scan after Close.
	ErrClosed = errors.New("emulator is closed")
	// ErrPayType is returned by Scan for another way to pay than card or cash.
	ErrPayType = errors.New("pay_type must be card or cash")
	// ErrScenario is returned by Scan for a scenario that does not exist.
	ErrScenario = errors.New("scenario must be one of " + list(scenarios))
)

// Scenario is what happens around a scan, beyond a customer who pays. A forged webhook is sent instead of the genuine one,
// altered as a [Forgery] says, and if the gateway believes it, the payment is made.
type Scenario string

// The scenarios.
const (
	ScenarioTwice             Scenario = "twice"           // two tills scan the barcode at the same moment
	ScenarioVoid              Scenario = "void"            // the merchant voids the barcode while the till waits for the answer
	ScenarioLate              Scenario = "late"            // the barcode's deadline passes before the scan, and stays passed
	ScenarioRepeatedNotice    Scenario = "repeated_notice" // the notice comes twice, or again if the payment is paid already
	ScenarioForgedSignature   Scenario = "forged_signature"
	ScenarioForgedAmount      Scenario = "forged_amount"
	ScenarioForgedMerchantUID Scenario = "forged_merchant_uid"
	ScenarioForgedUnsigned    Scenario = "forged_unsigned"
)

// scenarios are those which a scan may name.
var scenarios = []Scenario{
	ScenarioTwice, ScenarioVoid, ScenarioLate, ScenarioRepeatedNotice,
	ScenarioForgedSignature, ScenarioForgedAmount, ScenarioForgedMerchantUID, ScenarioForgedUnsigned,
}

// forgery returns what is altered in the webhook, if anything is.
func (s Scenario) forgery() Forgery {
	forged, _ := strings.CutPrefix(string(s), "forged_")
	if forged == string(s) {
		return ""
	}
	return Forgery(forged)
}

// ScanRequest is a customer's attempt to pay at the till.
type ScanRequest struct {
	Barcode string `json:"barcode"`
	// PayType is "card", the default, or "cash".
	PayType string `json:"pay_type"`
	// Scenario is what else happens, by default nothing.
	Scenario Scenario `json:"scenario,omitempty"`
}

func (req ScanRequest) validate() error {
	switch {
	case req.PayType != PayTypeCard && req.PayType != PayTypeCash:
		return ErrPayType
	case req.Scenario != "" && !slices.Contains(scenarios, req.Scenario):
		return ErrScenario
	}
	return nil
}

// ScanResult is how the attempt ended.
type ScanResult struct {
	// Accepted tells whether the payment is paid now.
	Accepted bool `json:"accepted"`
	// Reason is why not: the gateway's own if it gave one, which the payment then carries as fail_reason.
	Reason string `json:"reason"`
	// Warning is set if the confirm webhook was answered 200 by something other than cvs_confirm: the body is not a JSON object
	// whose "accepted" is true. The real sender takes any 200 for an acceptance, so the payment is made all the same.
	Warning string `json:"warning,omitempty"`
	Barcode string `json:"barcode"`
	PayType string `json:"pay_type"`
	// Confirm is how the confirm webhook fared, nil if none was sent: the payment has no confirm_url, or is paid already.
	Confirm *WebhookResult `json:"confirm"`
	// Payment is the payment as it is now.
	Payment Payment `json:"payment"`
	// Notice is how the notice webhooks fared, one for each notice_url.
	Notice []WebhookResult `json:"notice"`
	// Second is the other till's result in [ScenarioTwice].
	Second *ScanResult `json:"second,omitempty"`

	given  string // the gateway's own reason, if it gave one
	resent bool   // the payment was paid before, and only its notice was sent again
}

// Scan does what a till does when it scans a barcode: asks the gateway by the confirm webhook whether the payment is
// acceptable, makes it paid, and sends the notice webhooks. A refusal is a result; the error is one of [ErrUnknownBarcode],
// [ErrVoid], [ErrPaid], [ErrExpired], [ErrPayType], [ErrScenario] and [ErrClosed], and then the gateway was not asked. If ctx
// ends before the gateway has answered, the payment is not made; the notices of a paid one are sent in any case.
func (e *Emulator) Scan(ctx context.Context, req ScanRequest) (ScanResult, error) {
	req.PayType = cmp.Or(req.PayType, PayTypeCard)
	if err := req.validate(); err != nil {
		return ScanResult{}, err
	}
	if !e.begin() {
		return ScanResult{}, ErrClosed
	}
	defer e.scans.Done()
	at := e.now()
	result, err := e.scan(ctx, req)
	e.history.add(exchange{At: at, Request: req, Result: result, Err: err})
	return result, err
}

func (e *Emulator) scan(ctx context.Context, req ScanRequest) (ScanResult, error) {
	if req.Scenario == ScenarioLate {
		e.ledger.expire(req.Barcode, e.now())
	}
	p, err := e.ledger.scan(req.Barcode, e.now())
	if errors.Is(err, ErrPaid) && p.Status == statusPaid && req.Scenario == ScenarioRepeatedNotice {
		result := newResult(req, p)
		result.Accepted, result.resent, result.PayType = true, true, p.PayType
		result.Notice = e.notify(context.WithoutCancel(ctx), p, "", false)
		return result, nil
	}
	if err != nil {
		return ScanResult{}, err
	}
	if req.Scenario != ScenarioTwice {
		result := newResult(req, p)
		e.settle(ctx, p, req, e.confirm(ctx, p, req, &result), &result)
		return result, nil
	}
	// Both tills have asked before either makes the payment.
	first, second := newResult(req, p), newResult(req, p)
	var firstReason, secondReason string
	var wg sync.WaitGroup
	wg.Go(func() { firstReason = e.confirm(ctx, p, req, &first) })
	wg.Go(func() { secondReason = e.confirm(ctx, p, req, &second) })
	wg.Wait()
	e.settle(ctx, p, req, firstReason, &first)
	e.settle(ctx, p, req, secondReason, &second)
	first.Second = &second
	return first, nil
}

func newResult(req ScanRequest, p payment) ScanResult {
	return ScanResult{Barcode: req.Barcode, PayType: req.PayType, Notice: []WebhookResult{}, Payment: p.entry()}
}

// settle makes the payment, unless there is a reason against it, and completes the result.
func (e *Emulator) settle(ctx context.Context, p payment, req ScanRequest, reason string, result *ScanResult) {
	if req.Scenario == ScenarioVoid {
		_, _ = e.ledger.void(p.impKey, p.ImpUID, e.now()) // what else settled it meanwhile refuses it as well
	}
	result.Reason = reason
	if reason == "" {
		// Of two tills that got this far with one barcode, one is too late here.
		if paid, err := e.ledger.pay(p.ImpUID, req.PayType, e.now()); err != nil {
			result.Reason = err.Error()
		} else {
			result.Accepted = true
			result.Notice = e.notify(context.WithoutCancel(ctx), paid, "", req.Scenario == ScenarioRepeatedNotice)
		}
	}
	if held, ok := e.ledger.get(p.ImpUID); ok {
		result.Payment = held.entry()
	}
}

// begin registers a scan that Close waits for, unless the emulator is closed.
func (e *Emulator) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.scans.Add(1)
	}
	return !e.closed
}

// confirm asks the gateway, and returns why the payment is refused, or "".
func (e *Emulator) confirm(ctx context.Context, p payment, req ScanRequest, result *ScanResult) (reason string) {
	if p.confirmURL == "" {
		return "" // documented: without a confirm_url every payment is accepted
	}
	ctx, cancel := e.untilClose(ctx)
	defer cancel()
	fault := e.fault(EndpointConfirm, noRequest)
	fault.Forged = cmp.Or(req.Scenario.forgery(), fault.Forged)
	result.Confirm = new(e.sendWebhook(ctx, webhook{
		endpoint: EndpointConfirm,
		url:      p.confirmURL,
		timeout:  e.opts.ConfirmTimeout,
		fault:    fault,
		message: message{
			Event:       eventConfirm,
			ImpUID:      p.ImpUID,
			MerchantUID: p.MerchantUID,
			Status:      p.Status,
			Extra:       &extra{Barcode: p.Barcode, PayType: req.PayType},
		},
	}))
	if result.Confirm.foreign {
		result.Warning = warningForeign
	}
	reason, given := verdict(*result.Confirm)
	if given {
		result.given = reason
		e.ledger.refuse(p.ImpUID, reason)
	}
	return reason
}

// verdict returns why the gateway's answer is no acceptance, or "", and whether the gateway itself gave that reason. Only 200
// is an acceptance; 201 and 204 are none. Assumption: a 200 whose body breaks off is none either.
func verdict(r WebhookResult) (reason string, given bool) {
	switch {
	case r.Error != "":
		return "confirm webhook failed: " + r.Error, false
	case r.Status == http.StatusOK:
		return "", false
	}
	var answer struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(r.Body, &answer) == nil && answer.Reason != "" {
		runes := []rune(answer.Reason)
		return string(runes[:min(len(runes), maxReason)]), true
	}
	return fmt.Sprintf("confirm webhook was answered %d; only 200 is an acceptance", r.Status), false
}

// isAcceptance reports whether a body is the one with which cvs_confirm accepts. A struct would take "Accepted" for "accepted".
func isAcceptance(body []byte) bool {
	var answer map[string]json.RawMessage
	return json.Unmarshal(body, &answer) == nil && string(answer["accepted"]) == "true"
}

// notify sends the notice webhooks of a payment, perhaps of a cancellation, all at once, and once each unless they are to be
// repeated.
func (e *Emulator) notify(ctx context.Context, p payment, cancellationID string, repeat bool) []WebhookResult {
	ctx, cancel := e.untilClose(ctx)
	defer cancel()
	results := make([]WebhookResult, len(p.noticeURL))
	var wg sync.WaitGroup
	for i, u := range p.noticeURL {
		fault := e.fault(EndpointNotice, noRequest) // in the order of the URLs
		fault.Duplicate = fault.Duplicate || repeat
		h := webhook{
			endpoint: EndpointNotice,
			url:      u,
			timeout:  noticeTimeout,
			fault:    fault,
			message:  message{ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, Status: p.Status, CancellationID: cancellationID},
		}
		wg.Go(func() { results[i] = e.sendWebhook(ctx, h) })
	}
	wg.Wait()
	return results
}

// untilClose returns a context that Close ends, too.
func (e *Emulator) untilClose(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.ctx, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
