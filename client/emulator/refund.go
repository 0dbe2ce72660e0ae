package emulator

// Refunds from the till's page.

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddy-cvs/caddy-cvs/client/emulator/tillpage"
)

// errRefund is the error of a refund in the log of scans.
var errRefund = errors.New("payment cannot be refunded")

// serveRefundForm handles POST /till-refund. It pays back as the merchant's staff does in PortOne's console, of which the
// merchant's app hears only by the notice.
func (e *Emulator) serveRefundForm(w http.ResponseWriter, r *http.Request) {
	params, problem := tillParameters(w, r)
	if problem != nil {
		writeResponse(w, *problem)
		return
	}
	if !e.startTask() {
		writeResponse(w, failed(http.StatusServiceUnavailable, ErrClosed.Error()))
		return
	}
	defer e.tasks.Done()
	e.scanLog.add(e.refund(r.Context(), params))
	tillpage.Redirect(w, r.URL.Query())
}

// refund pays back, sends the notices if the form says so, and returns the entry for the log.
func (e *Emulator) refund(ctx context.Context, params parameters) scanRecord {
	record := scanRecord{at: e.now(), err: errRefund}
	wanted, wrong := readRefund(params, e.opts.Fractions)
	p, known := e.store.get(wanted.impUID)
	record.request = ScanRequest{Barcode: p.Barcode, PayType: p.PayType}
	if len(wrong) > 0 || !known {
		return record
	}
	p, done, err := e.store.cancel(p.impKey, wanted, e.opts.Now())
	if err != nil {
		return record
	}
	record.err, record.refunded, record.result = nil, done.Amount, newResult(record.request, p)
	record.result.Accepted, record.result.noticeOnly = true, true
	if wanted.notify {
		record.result.Notice = e.notify(context.WithoutCancel(ctx), p, notice{cancellationID: done.CancellationID})
	}
	return record
}
