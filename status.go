package caddycvs

// This file holds whether the gateway is ready, and why not, as far as it is known: PortOne is not asked,
// and the ledger is not waited for.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

const (
	// statusLimit is how long the ledger is waited for. Who asks whether a server is ready often waits for a
	// second.
	statusLimit = 700 * time.Millisecond
	// readLimit is how long a read of the ledger may take, which may then have a part of its result.
	readLimit = 600 * time.Millisecond
	// maxReasons is how many accounts are named as reasons.
	maxReasons = 10
	// maxRetried is how many tokens are fetched at once because it is asked whether they can be.
	maxRetried = 16
)

// The kinds of reasons.
const (
	reasonToken    = "token"    // the last fetch of an account's token failed
	reasonMore     = "more"     // likewise of more accounts than are named
	reasonDegraded = "degraded" // the ledger cannot be used
	reasonSlow     = "slow"     // the ledger does not answer in time
)

// reason is why the gateway is not ready.
type reason struct {
	kind    string
	account string
	cause   string // why there is no token
	more    int
}

func (r *reason) String() string {
	switch r.kind {
	case reasonToken:
		name := "the unnamed account"
		if r.account != "" {
			name = "account " + strconv.Quote(r.account)
		}
		return fmt.Sprintf("%s: the last fetch of an access token failed (%s)", name, r.cause)
	case reasonMore:
		return fmt.Sprintf("and %d more accounts", r.more)
	case reasonDegraded:
		return "the ledger is degraded"
	default:
		return "the ledger does not answer in time"
	}
}

// presentApp returns the cvs app of the present configuration. The errors have a status for the admin
// endpoint. A configuration that could not be loaded is never the present one.
func presentApp() (*App, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil, errNotLoaded
	}
	app, err := ctx.AppIfConfigured("cvs")
	if err != nil {
		return nil, errNoApp
	}
	return app.(*App), nil
}

var (
	errNotLoaded = errors.New("no configuration is loaded yet")
	errNoApp     = errors.New("there is no cvs app in the configuration: add the global option cvs")
)

// names returns the names of the accounts in their order.
func (a *App) names() []string { return slices.Sorted(maps.Keys(a.accounts)) }

// reasons returns why the gateway is not ready, nothing if it is. With retry, tokens whose last fetch failed
// are fetched again beside that: a load balancer that sends no calls here would else never hear that they
// can be.
func (a *App) reasons(retry bool) (list []reason) {
	failing, retried := 0, 0
	for _, name := range a.names() {
		c := a.accounts[name].client
		status := c.State().TokenStatus()
		if !status.Failing {
			continue
		}
		if failing++; failing <= maxReasons {
			list = append(list, reason{kind: reasonToken, account: name, cause: string(status.Failure.Cause)})
		}
		if retry && retried < maxRetried && c.RetryToken() {
			retried++
		}
	}
	if failing > maxReasons {
		list = append(list, reason{kind: reasonMore, more: failing - maxReasons})
	}
	if l := a.openedLedger(); l != nil && l.stored {
		_, err := l.inTime("probe", func(ctx context.Context) (any, error) { return nil, l.Probe(ctx) })
		switch {
		case errors.Is(err, ledger.ErrDown):
			list = append(list, reason{kind: reasonDegraded})
		case err != nil:
			list = append(list, reason{kind: reasonSlow})
		}
	}
	return list
}

// inTime returns what read returns, or ErrSlow if that takes too long, also if the store does not keep to
// its time. Reads of a kind that do not end are one, whoever asks how often.
func (p *pooledLedger) inTime(kind string, read func(context.Context) (any, error)) (any, error) {
	done := p.reads.DoChan(kind, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), readLimit)
		defer cancel()
		return read(ctx)
	})
	timer := time.NewTimer(statusLimit)
	defer timer.Stop()
	select {
	case result := <-done:
		return result.Val, result.Err
	case <-timer.C:
		return nil, ledger.ErrSlow
	}
}
