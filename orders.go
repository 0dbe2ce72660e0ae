package caddycvs

// This file holds how cvs_proxy gives an order one barcode: it asks the ledger for each POST /cvs
// and DELETE /cvs, and tells it of refunds.

import (
	"context"
	"net/http"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// sendIssue answers with the order's barcode, or issues one.
func (p *Proxy) sendIssue(ctx context.Context, x *exchange) (*client.Response, error) {
	if p.Repeat == repeatPass {
		return p.account.client.IssueRaw(ctx, x.issue)
	}
	orders, done, err := p.app.holdLedger()
	if err != nil {
		return nil, ledger.ErrDown
	}
	defer done()
	answer, err := orders.Issue(ctx, p.account.inLedger, &ledger.Request{
		Terms: ledger.TermsOf(x.issue), Issue: x.issue, Identity: p.account.pooled.String() + p.account.client.Identity(x.issue), ID: x.issue.ID,
	})
	x.reused = answer.Reused
	return answer.Response, err
}

// lookAfterCancel has the payment of a refund that the app has made through the option serve looked at
// soon. The answer has left.
func (p *Proxy) lookAfterCancel(x *exchange, resp *client.Response) {
	if x.call.isCancel() && x.httpStatus == http.StatusOK && x.code == 0 && x.impUID != "" && p.app.ledger.needed {
		refunds := gjson.GetBytes(resp.Body, "response.cancel_history.#.cancellation_id").Array()
		last := ""
		if n := len(refunds); n > 0 {
			last = refunds[n-1].Str
		}
		p.cancelled(x.impUID, last)
	}
}

// tellLedger tells the ledger of a refund, and does not wait for it.
func (p *Proxy) tellLedger(impUID, cancellationID string) {
	go func() {
		if orders, err := p.app.theLedger(); err == nil {
			orders.Cancelled(context.Background(), p.account.inLedger, impUID, cancellationID)
		}
	}()
}

// sendVoid sends the app's own DELETE.
func (p *Proxy) sendVoid(ctx context.Context, x *exchange) (*client.Response, error) {
	send := func(maySend func() error) (*client.Response, error) {
		out := client.VoidRequest(x.impUID)
		out.Query, out.MaySend = x.call.query, maySend
		return p.account.client.Do(ctx, out)
	}
	if !p.app.ledger.needed {
		return send(nil)
	}
	orders, done, err := p.app.holdLedger()
	if err != nil {
		return send(nil)
	}
	defer done()
	return orders.Void(ctx, p.account.inLedger, x.impUID, send)
}
