package emulator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// The ways to pay at the till.
const (
	PayTypeCard = "card"
	PayTypeCash = "cash"
)

const maxReason = 200 // characters kept of a gateway's reason

var (
	// ErrClosed is returned by Scan after Close.
	ErrClosed = errors.New("emulator is closed")
	// ErrPayType is returned by Scan for another way to pay than card or cash.
	ErrPayType = errors.New("pay_type must be card or cash")
)

// ScanRequest is a customer's attempt to pay at the till.
type ScanRequest struct {
	Barcode string `json:"barcode"`
	// PayType is "card", the default, or "cash".
	PayType string `json:"pay_type"`
}

// ScanResult is how the attempt ended.
type ScanResult struct {
	// Accepted tells whether the payment is paid now.
	Accepted bool `json:"accepted"`
	// Reason is why not: the gateway's own if it gave one, which the payment then carries as fail_reason.
	Reason  string `json:"reason"`
	Barcode string `json:"barcode"`
	PayType string `json:"pay_type"`
	// Confirm is how the confirm webhook fared, nil if the payment has no confirm_url.
	Confirm *WebhookResult `json:"confirm"`
	// Payment is the payment as it is now.
	Payment Payment `json:"payment"`
	// Notice is how the notice webhooks fared, one for each notice_url.
	Notice []WebhookResult `json:"notice"`
}

// Scan does what a till does when it scans a barcode: asks the gateway by the confirm webhook whether the payment is
// acceptable, makes it paid, and sends the notice webhooks. A refusal is a result; the error is one of [ErrUnknownBarcode],
// [ErrVoid], [ErrPaid], [ErrExpired], [ErrPayType] and [ErrClosed], and then the gateway was not asked. If ctx ends before
// the gateway has answered, the payment is not made; the notices of a paid one are sent in any case.
func (e *Emulator) Scan(ctx context.Context, req ScanRequest) (ScanResult, error) {
	payType := cmp.Or(req.PayType, PayTypeCard)
	if payType != PayTypeCard && payType != PayTypeCash {
		return ScanResult{}, ErrPayType
	}
	if !e.begin() {
		return ScanResult{}, ErrClosed
	}
	defer e.scans.Done()
	p, err := e.ledger.scan(req.Barcode, e.now())
	if err != nil {
		return ScanResult{}, err
	}
	result := ScanResult{Barcode: req.Barcode, PayType: payType, Notice: []WebhookResult{}}
	result.Reason = e.confirm(ctx, p, payType, &result)
	if result.Reason == "" {
		// Of two tills that got this far with one barcode, one is too late here.
		if paid, err := e.ledger.pay(p.ImpUID, payType, e.now()); err != nil {
			result.Reason = err.Error()
		} else {
			result.Accepted = true
			result.Notice = e.notify(context.WithoutCancel(ctx), paid)
		}
	}
	if held, ok := e.ledger.get(p.ImpUID); ok {
		p = held
	}
	result.Payment = p.entry()
	return result, nil
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
func (e *Emulator) confirm(ctx context.Context, p payment, payType string, result *ScanResult) (reason string) {
	if p.confirmURL == "" {
		return "" // documented: without a confirm_url every payment is accepted
	}
	ctx, cancel := e.untilClose(ctx)
	defer cancel()
	result.Confirm = new(e.sendWebhook(ctx, webhook{
		endpoint: EndpointConfirm,
		url:      p.confirmURL,
		timeout:  e.opts.ConfirmTimeout,
		fault:    e.faults.take(EndpointConfirm),
		message: message{
			Event:       eventConfirm,
			ImpUID:      p.ImpUID,
			MerchantUID: p.MerchantUID,
			Status:      p.Status,
			Extra:       &extra{Barcode: p.Barcode, PayType: payType},
		},
	}))
	reason, given := verdict(*result.Confirm)
	if given {
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

// notify sends the notice webhooks of a paid payment, all at once, and once each.
func (e *Emulator) notify(ctx context.Context, p payment) []WebhookResult {
	ctx, cancel := e.untilClose(ctx)
	defer cancel()
	results := make([]WebhookResult, len(p.noticeURL))
	var wg sync.WaitGroup
	for i, u := range p.noticeURL {
		h := webhook{
			endpoint: EndpointNotice,
			url:      u,
			timeout:  noticeTimeout,
			fault:    e.faults.take(EndpointNotice), // in the order of the URLs
			message:  message{ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, Status: p.Status},
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
