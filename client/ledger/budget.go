package ledger

// This file holds the budget of the worker: its calls must not take the API from the app's own.

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
)

const (
	callsPerSecond = 50
	maxRetryAfter  = 10 * time.Minute
	silentFor      = 2 * time.Second // after a call that got no answer
)

// budget is how many calls the worker may make for one account. What it does for an order is begun
// only while there is one left.
type budget struct {
	clock clock

	mu     sync.Mutex
	left   float64
	at     time.Duration // when left was counted, by the monotonic clock
	paused time.Duration // until when the API is left alone
}

func (l *Ledger) budget(account string) *budget {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.budgets[account]
	if b == nil {
		b = &budget{clock: l.opts.clock, left: callsPerSecond, at: l.opts.clock.Now().monotonic}
		l.budgets[account] = b
	}
	return b
}

// ready reports whether the worker may begin with an order.
func (b *budget) ready() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now().monotonic
	b.left = min(b.left+(now-b.at).Seconds()*callsPerSecond, callsPerSecond)
	b.at = now
	return b.left >= 1 && now >= b.paused
}

// spend counts a call, and keeps what the API asks for.
func (b *budget) spend(err error) {
	pause := retryAfter(err)
	if pause == 0 && (errors.Is(err, client.ErrUnreachable) || errors.Is(err, client.ErrNoToken) || errors.Is(err, client.ErrOutcomeUnknown)) {
		pause = silentFor
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left--
	b.paused = max(b.paused, b.clock.Now().monotonic+pause)
}

// retryAfter returns for how long the API asks to be left alone.
func retryAfter(err error) time.Duration {
	text, pause := "", time.Duration(0)
	if refusal, ok := errors.AsType[*client.APIError](err); ok {
		text = refusal.RetryAfter
	}
	if foreign, ok := errors.AsType[*client.NotAPIError](err); ok {
		text = foreign.RetryAfter
	}
	if unavailable, ok := errors.AsType[*client.UnavailableError](err); ok {
		pause = unavailable.RetryAfter
	}
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		pause = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	}
	return min(pause, maxRetryAfter)
}

// inBackground returns the account for the worker, whose calls are counted.
func (l *Ledger) inBackground(acc *Account) *Account {
	counted := *acc
	counted.API = countedAPI{acc.API, l.budget(acc.Name)}
	return &counted
}

// countedAPI counts the calls that the worker makes.
type countedAPI struct {
	API
	budget *budget
}

func (c countedAPI) Payment(ctx context.Context, impUID string) (Seen, error) {
	seen, err := c.API.Payment(ctx, impUID)
	c.budget.spend(err)
	return seen, err
}

func (c countedAPI) Payments(ctx context.Context, order string) ([]Seen, error) {
	list, err := c.API.Payments(ctx, order)
	c.budget.spend(err)
	return list, err
}

func (c countedAPI) Page(ctx context.Context, status client.Status, from, to int64, page int) ([]Seen, bool, error) {
	list, more, err := c.API.Page(ctx, status, from, to, page)
	c.budget.spend(err)
	return list, more, err
}

func (c countedAPI) Void(ctx context.Context, impUID string, maySend func() error) (*client.Response, error) {
	resp, err := c.API.Void(ctx, impUID, maySend)
	c.budget.spend(err)
	return resp, err
}
