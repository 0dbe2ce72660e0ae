package emulator

// Paying at the till: Scan and POST /till.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// The ways to pay at the till.
const (
	PayTypeCard = "card"
	PayTypeCash = "cash"
)

const (
	maxReason = 200 // characters of a gateway's reason that are kept

	warningNotCvsConfirm = `this 200 did not come from cvs_confirm, which answers {"accepted":true}: something else answered for it, ` +
		`and no order check was asked; check the path in confirm_url and the order of the site's routes`
)

var (
	// ErrClosed is returned by Scan after Close.
	ErrClosed = errors.New("emulator is closed")
	// ErrPayType is returned by Scan for a pay_type other than card and cash.
	ErrPayType = errors.New("pay_type must be card or cash")
	// ErrScenario is returned by Scan for a scenario that does not exist.
	ErrScenario = errors.New("scenario must be one of " + joinNames(scenarios))
)

// ScanRequest is one attempt to pay at the till.
type ScanRequest struct {
	Barcode string `json:"barcode"`
	// PayType is "card", the default, or "cash".
	PayType string `json:"pay_type"`
	// Scenario is what else happens. By default nothing does.
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
	// Accepted says whether the payment is paid now.
	Accepted bool `json:"accepted"`
	// Reason says why the payment is not paid. A reason that the gateway gave is also the payment's fail_reason.
	Reason string `json:"reason"`
	// Warning is set if the response to the confirm webhook is a 200 that did not come from cvs_confirm: its body is not a JSON
	// object with "accepted": true. The payment is made nevertheless, because the real service treats every 200 as an acceptance.
	Warning string `json:"warning,omitempty"`
	Barcode string `json:"barcode"`
	PayType string `json:"pay_type"`
	// Confirm is the confirm webhook. It is nil if none was sent: the payment has no confirm_url, or is paid already.
	Confirm *WebhookResult `json:"confirm"`
	// Payment is the payment as it is now.
	Payment Payment `json:"payment"`
	// Notice holds the notice webhooks, one for each notice_url. One that a fault delays is not sent yet; its Error says so.
	Notice []WebhookResult `json:"notice"`
	// Second is the other till's result in [ScenarioTwice].
	Second *ScanResult `json:"second,omitempty"`

	gatewayReason string // the reason that the gateway gave, or ""
	noticeOnly    bool   // the payment was paid or refunded before, and only its notice was sent
}

// Scan does what a till does when it scans a barcode: it asks the gateway by the confirm webhook whether to accept the payment,
// marks the payment as paid, and sends the notice webhooks. A refusal by the gateway is a result, not an error. The error is
// [ErrUnknownBarcode], [ErrVoid], [ErrPaid], [ErrExpired], [ErrPayType], [ErrScenario] or [ErrClosed], and in these cases the
// gateway was not asked. If ctx ends before the gateway has responded, the payment is not made. The notices of a payment that
// was made are sent even if ctx ends.
func (e *Emulator) Scan(ctx context.Context, req ScanRequest) (ScanResult, error) {
	req.PayType = cmp.Or(req.PayType, PayTypeCard)
	if err := req.validate(); err != nil {
		return ScanResult{}, err
	}
	if !e.startTask() {
		return ScanResult{}, ErrClosed
	}
	defer e.tasks.Done()
	at := e.now()
	result, err := e.scan(ctx, req)
	e.scanLog.add(scanRecord{at: at, request: req, result: result, err: err})
	return result, err
}

func (e *Emulator) scan(ctx context.Context, req ScanRequest) (ScanResult, error) {
	if req.Scenario == ScenarioLate {
		e.store.expire(req.Barcode, e.now())
	}
	p, err := e.store.findPayable(req.Barcode, e.now())
	if errors.Is(err, ErrPaid) && p.Status == statusPaid && req.Scenario == ScenarioRepeatedNotice {
		result := newResult(req, p)
		result.Accepted, result.noticeOnly, result.PayType = true, true, p.PayType
		result.Notice = e.notify(context.WithoutCancel(ctx), p, notice{})
		return result, nil
	}
	if errors.Is(err, ErrVoid) && req.Scenario == ScenarioAfterVoid {
		result := newResult(req, p)
		e.completeScan(ctx, p, req, "", &result)
		return result, nil
	}
	if err != nil {
		return ScanResult{}, err
	}
	if req.Scenario != ScenarioTwice {
		result := newResult(req, p)
		e.completeScan(ctx, p, req, e.confirm(ctx, p, req, &result), &result)
		return result, nil
	}
	// Both tills have the gateway's response before either makes the payment.
	first, second := newResult(req, p), newResult(req, p)
	var firstReason, secondReason string
	var wg sync.WaitGroup
	wg.Go(func() { firstReason = e.confirm(ctx, p, req, &first) })
	wg.Go(func() { secondReason = e.confirm(ctx, p, req, &second) })
	wg.Wait()
	e.completeScan(ctx, p, req, firstReason, &first)
	e.completeScan(ctx, p, req, secondReason, &second)
	first.Second = &second
	return first, nil
}

func newResult(req ScanRequest, p payment) ScanResult {
	return ScanResult{Barcode: req.Barcode, PayType: req.PayType, Notice: []WebhookResult{}, Payment: p.public()}
}

// completeScan makes the payment if there is no reason to refuse it, sends the notices, and fills in the result.
func (e *Emulator) completeScan(ctx context.Context, p payment, req ScanRequest, reason string, result *ScanResult) {
	if req.Scenario == ScenarioVoid {
		_, _ = e.store.void(p.impKey, p.ImpUID, e.opts.Now()) // an error means that the payment was paid or voided meanwhile, and pay fails, too
	}
	result.Reason = reason
	if reason == "" {
		// If two tills have scanned one barcode, this fails for the second.
		if paid, err := e.store.pay(p.ImpUID, req.PayType, req.Scenario == ScenarioAfterVoid, e.opts.Now()); err != nil {
			result.Reason = err.Error()
		} else {
			result.Accepted = true
			result.Notice = e.notify(context.WithoutCancel(ctx), paid, notice{scenario: req.Scenario})
		}
	}
	if current, ok := e.store.get(p.ImpUID); ok {
		result.Payment = current.public()
	}
}

// startTask registers a task that Close waits for. It returns false if the emulator is closed.
func (e *Emulator) startTask() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.tasks.Add(1)
	}
	return !e.closed
}

// confirm sends the confirm webhook and returns the reason for a refusal, or "".
func (e *Emulator) confirm(ctx context.Context, p payment, req ScanRequest, result *ScanResult) (reason string) {
	if p.confirmURL == "" {
		return "" // as documented, every payment without a confirm_url is accepted
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
	if result.Confirm.notCvsConfirm {
		result.Warning = warningNotCvsConfirm
	}
	reason, given := refusalReason(*result.Confirm)
	if given {
		result.gatewayReason = reason
		e.store.setFailReason(p.ImpUID, reason, e.opts.Now())
	}
	return reason
}

// refusalReason returns why the gateway's response is no acceptance, or "", and whether the gateway gave that reason. Only 200 is
// an acceptance; 201 and 204 are not. Assumption: a 200 with an incomplete body is not one either.
func refusalReason(r WebhookResult) (reason string, given bool) {
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

// isAcceptance reports whether a body is that with which cvs_confirm accepts. It decodes into a map because a struct would also
// match the name "Accepted".
func isAcceptance(body []byte) bool {
	var answer map[string]json.RawMessage
	return json.Unmarshal(body, &answer) == nil && string(answer["accepted"]) == "true"
}

// untilClose returns a context that Close ends, with the cause ErrClosed.
func (e *Emulator) untilClose(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.ctx, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// serveTill handles POST /till, from the page and from JSON clients.
func (e *Emulator) serveTill(w http.ResponseWriter, r *http.Request) {
	params, problem := tillParameters(w, r)
	if problem != nil {
		writeResponse(w, *problem)
		return
	}
	barcode, errBarcode := params.digits("barcode")
	payType, errPayType := params.text("pay_type")
	scenario, errScenario := params.text("scenario")
	if err := errors.Join(errBarcode, errPayType, errScenario); err != nil || barcode == "" {
		writeResponse(w, failed(http.StatusBadRequest, `till needs {"barcode": "…", "pay_type": "card" or "cash"}`))
		return
	}
	for name := range params {
		if !slices.Contains([]string{"barcode", "pay_type", "scenario"}, name) {
			writeResponse(w, failed(http.StatusBadRequest, fmt.Sprintf("till knows barcode, pay_type and scenario, not %q", name)))
			return
		}
	}
	req := ScanRequest{Barcode: barcode, PayType: payType, Scenario: Scenario(scenario)}
	if wantsPage(r) {
		e.serveScanForm(w, r, req)
		return
	}
	result, err := e.Scan(r.Context(), req)
	if err != nil {
		writeResponse(w, failed(scanStatus(err), err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, encodeJSON(result, "  "))
}

func scanStatus(err error) int {
	switch {
	case errors.Is(err, ErrUnknownBarcode):
		return http.StatusNotFound
	case errors.Is(err, ErrVoid), errors.Is(err, ErrPaid):
		return http.StatusConflict
	case errors.Is(err, ErrExpired):
		return http.StatusGone
	case errors.Is(err, ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// tillParameters reads the fields of a request. A body that begins like JSON is read as JSON, because curl -d sends the
// Content-Type of a form.
func tillParameters(w http.ResponseWriter, r *http.Request) (parameters, *response) {
	body, problem := readBody(w, r)
	if problem != nil {
		return nil, problem
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return parseJSON(body)
	}
	return (&call{request: r, body: body}).parameters()
}
