package caddycvs

// This file holds the calls that change something at the API and have no answer yet,
// and how the program waits for them before it ends.

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// underWay holds the calls of one account. It survives reloads, as calls do.
type underWay struct {
	mu    sync.Mutex
	calls map[*changing]struct{}
	ended chan struct{} // closed and replaced when a call ends
}

// changing is a call that issues or voids a barcode.
type changing struct{ operation, account, merchantUID, impUID, amount string }

func newUnderWay() *underWay {
	return &underWay{calls: make(map[*changing]struct{}), ended: make(chan struct{})}
}

// begin notes a call. The function that it returns notes that the call was answered
// and logged.
func (u *underWay) begin(c changing) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls[&c] = struct{}{}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.calls, &c)
		close(u.ended)
		u.ended = make(chan struct{})
	}
}

// left returns the calls under way, and a channel that is closed when one ends.
func (u *underWay) left() ([]changing, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	calls := make([]changing, 0, len(u.calls))
	for c := range u.calls {
		calls = append(calls, *c)
	}
	return calls, u.ended
}

// wait returns the calls that are still under way when ctx ends.
func (u *underWay) wait(ctx context.Context) []changing {
	for {
		calls, ended := u.left()
		if len(calls) == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return calls
		}
	}
}

// finishWith has the calls that a handler begins finished before the program ends.
// Caddy stops its apps in no order, so the server calls when it has shut down: no
// request comes any more, and the logs are open still.
func (a *App) finishWith(ctx caddy.Context) {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnStop(a.finish)
	}
}

// finish waits, if the program ends, for each call under way as long as it can take,
// so that its outcome is in the log, and logs those that are left. A grace period that
// is over has cut their callers off, but the barcodes may exist. At a reload calls go
// on by themselves.
func (a *App) finish(context.Context) error {
	if !caddy.Exiting() && caddy.ActiveContext().Context != nil {
		return nil
	}
	const answering = time.Second               // what the log and the answer take besides
	limits := make(map[*underWay]time.Duration) // accounts with the same keys share one
	for _, acc := range a.accounts {
		limits[acc.calls] = max(limits[acc.calls], acc.limit+answering)
	}
	var all sync.WaitGroup
	for calls, limit := range limits {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			for _, c := range calls.wait(ctx) {
				a.logger.Error("stopped before an api call was answered: its outcome is not known",
					zap.String("operation", c.operation),
					zap.String("account", c.account),
					zap.String("merchant_uid", c.merchantUID),
					zap.String("imp_uid", c.impUID),
					zap.String("amount", c.amount))
			}
		})
	}
	all.Wait()
	return nil
}
