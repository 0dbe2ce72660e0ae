package emulator

// Refunds: POST /payments/cancel.

import (
	"context"
	"errors"
)

// cancellation is the API's model PaymentCancelAnnotation.
type cancellation struct {
	PGTID          string  `json:"pg_tid"`
	Amount         float64 `json:"amount"`
	CancelledAt    int64   `json:"cancelled_at"`
	Reason         string  `json:"reason"`
	CancellationID string  `json:"cancellation_id"`
	ReceiptURL     *string `json:"receipt_url"`
}

// cancelPayment handles POST /payments/cancel. Refusals come with HTTP 200 and code 1.
func (e *Emulator) cancelPayment(c *call) response {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	r, wrong := readRefund(params, e.opts.Fractions)
	if len(wrong) > 0 {
		return wrong.response()
	}
	p, cancelled, err := e.store.cancel(c.impKey, r, e.opts.Now())
	switch {
	case errors.Is(err, errUnknownPayment):
		return refused("취소할 결제건이 존재하지 않습니다.")
	case errors.Is(err, errNothingLeft):
		return refused("이미 전액취소된 주문입니다.")
	// Assumption: the messages of the following refusals.
	case errors.Is(err, errNotPaid):
		return refused("결제가 완료되지 않은 주문은 취소할 수 없습니다.")
	case errors.Is(err, errChecksum):
		return refused("취소 가능 잔액(checksum)이 일치하지 않습니다.")
	case errors.Is(err, errTooMuch):
		return refused("취소 가능 잔액을 초과하였습니다.")
	}
	if (r.notify || e.opts.CancelNotices) && len(p.noticeURL) > 0 && e.startTask() {
		// In the background, because the merchant's app may serve only one request at a time, the one that waits for this response.
		go func() {
			defer e.tasks.Done()
			e.logNotices(p, e.notify(context.Background(), p, notice{cancellationID: cancelled.CancellationID}))
		}()
	}
	return succeeded(e.annotate(p))
}

func readRefund(params parameters, fractions Fractions) (refund, violations) {
	var r refund
	var wrong violations
	for _, field := range []struct {
		name string
		to   *string
	}{{"imp_uid", &r.impUID}, {"merchant_uid", &r.merchantUID}, {"reason", &r.reason}} {
		var err error
		if *field.to, err = params.text(field.name); err != nil {
			wrong.add(field.name, err)
		}
	}
	if params.raw("amount") != nil { // an amount of 0 or "" is an error, and does not refund all
		amount := readAmount(params, "amount", fractions, &wrong)
		r.amount = &amount
	}
	switch checksum, ok, err := params.number("checksum"); {
	case err != nil:
		wrong.add("checksum", err)
	case ok && checksum < 0:
		wrong.add("checksum", "0 이상이어야 합니다")
	case ok:
		r.checksum = &checksum
	}
	r.notify = string(params.raw("enable_webhook")) == "true" || string(params.raw("enable_webhook")) == `"true"`
	if len(wrong) == 0 && r.impUID == "" && r.merchantUID == "" {
		wrong.add("imp_uid", messageRequired)
	}
	return r, wrong
}
