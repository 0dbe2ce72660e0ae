package caddycvs

// This file holds what the ledger says about the barcode of a confirm webhook. It never delays an
// answer by more than a moment: without the ledger, the order checks decide.

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

const (
	maxStandingWait  = 50 * time.Millisecond // after the order checks
	standingAvoidFor = 30 * time.Second      // after it failed
)

// standingReader asks the ledger.
type standingReader struct {
	app    *App
	failed atomic.Int64 // when it failed last, in Unix nanoseconds
}

// ask begins to read the standing of a webhook's barcode. The channel is nil if nobody is asked,
// and is closed without a value if the ledger fails.
func (s *standingReader) ask(d *decision) <-chan ledger.Standing {
	if d.attempt == "" || !s.app.ledger.needed || s.app.Ledger.Store == ledgerOff ||
		time.Since(time.Unix(0, s.failed.Load())) < standingAvoidFor {
		return nil
	}
	key, id, impUID := ledger.Key{Account: d.account, Order: d.merchantUID}, d.attempt, d.impUID
	answer := make(chan ledger.Standing, 1)
	go func() {
		defer close(answer)
		orders, err := s.app.theLedger()
		if err != nil {
			return
		}
		if standing, err := orders.Standing(context.Background(), key, id, impUID); err == nil {
			answer <- standing
		}
	}()
	return answer
}

// apply refuses a webhook that the order checks accepted, if its barcode is not the one that was
// last answered for the order.
func (s *standingReader) apply(ctx context.Context, d *decision, answer <-chan ledger.Standing) {
	if answer == nil || d.verdict != accepted {
		return
	}
	standing, known := awaitStanding(ctx, answer)
	if !known {
		s.failed.Store(time.Now().UnixNano())
		return
	}
	switch standing {
	case ledger.Replaced:
		d.set(http.StatusConflict, refused, cause{name: causeReplaced}, "the barcode was replaced or voided")
	case ledger.PaidElse:
		d.set(http.StatusConflict, refused, cause{name: causeOrderPaid}, "the order is paid by another barcode")
	case ledger.Current:
		d.atTill = true
	case ledger.Unknown, ledger.Marked: // the order checks decide
	}
}

// awaitStanding waits for the ledger's answer. One that is there already counts, even if no time is
// left.
func awaitStanding(ctx context.Context, answer <-chan ledger.Standing) (standing ledger.Standing, known bool) {
	select {
	case standing, known = <-answer:
		return standing, known
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, maxStandingWait)
	defer cancel()
	select {
	case standing, known = <-answer:
	case <-ctx.Done():
	}
	return standing, known
}

// mark notes that the customer is about to pay. The answer has left.
func (s *standingReader) mark(d *decision) {
	if !d.atTill {
		return
	}
	key := ledger.Key{Account: d.account, Order: d.merchantUID}
	go func() {
		if orders, err := s.app.theLedger(); err == nil {
			orders.MarkAtTill(context.Background(), key)
		}
	}()
}
