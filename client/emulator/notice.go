package emulator

// The notices of a payment, and of its refunds.

import (
	"context"
	"net/url"
	"sync"
)

// notice says what a notice is about, and what becomes of it.
type notice struct {
	cancellationID string // of a refund, or ""
	scenario       Scenario
}

// notify sends the notice webhooks of a payment, all at the same time, and returns their results. It does not wait for those that
// a fault delays: the till's page shows them as entries of their own when they are sent.
func (e *Emulator) notify(ctx context.Context, p payment, n notice) []WebhookResult {
	ctx, cancel := e.untilClose(ctx)
	defer cancel()
	results := make([]WebhookResult, len(p.noticeURL))
	var wg sync.WaitGroup
	for i, u := range p.noticeURL {
		hook := webhook{
			endpoint: EndpointNotice,
			url:      u,
			timeout:  noticeTimeout,
			form:     e.opts.NoticeForm,
			fault:    n.scenario.noticeFault(e.fault(EndpointNotice, noRequest)), // here, so that the faults are used in the order of the URLs
			message:  message{ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, Status: p.Status, CancellationID: n.cancellationID},
		}
		if hook.fault.Delay > 0 && e.startTask() {
			results[i] = hook.announced()
			go e.notifyLater(context.WithoutCancel(ctx), p, hook)
			continue
		}
		wg.Go(func() { results[i] = e.sendWebhook(ctx, hook) })
	}
	wg.Wait()
	return results
}

// notifyLater sends a notice that a fault delays, and logs it for the till's page.
func (e *Emulator) notifyLater(ctx context.Context, p payment, hook webhook) {
	defer e.tasks.Done()
	ctx, cancel := e.untilClose(ctx)
	defer cancel()
	e.logNotices(p, []WebhookResult{e.sendWebhook(ctx, hook)})
}

// announced returns the result of a webhook that is sent later.
func (h webhook) announced() WebhookResult {
	result := WebhookResult{Error: messageSentLater + h.fault.Delay.String()}
	if u, err := url.Parse(h.url); err == nil {
		result.URL = redactURL(u)
	}
	return result
}

// logNotices logs notices that were sent apart from a scan.
func (e *Emulator) logNotices(p payment, sent []WebhookResult) {
	if current, ok := e.store.get(p.ImpUID); ok {
		p = current
	}
	req := ScanRequest{Barcode: p.Barcode, PayType: p.PayType}
	result := newResult(req, p)
	result.Accepted, result.noticeOnly, result.Notice = true, true, sent
	e.scanLog.add(scanRecord{at: e.now(), request: req, result: result})
}
