package caddycvs

// This file holds GET /cvs/status and GET /cvs/ready of Caddy's admin endpoint.

import (
	"context"
	"errors"
	"net/http"
	"sort"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

// readyView is the answer of GET /cvs/ready.
type readyView struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"`
}

// ready answers GET /cvs/ready. A configuration that is replaced meanwhile may have closed its ledger.
func (a *Admin) ready(*http.Request) (int, any, error) {
	for {
		app, err := a.presentApp()
		if err != nil {
			return 0, nil, err
		}
		reasons := app.reasons(true)
		if again, err := a.presentApp(); err == nil && again != app {
			continue
		}
		if len(reasons) == 0 {
			return http.StatusOK, readyView{Ready: true}, nil
		}
		view := readyView{}
		for i := range reasons {
			view.Reasons = append(view.Reasons, reasons[i].String())
		}
		return http.StatusServiceUnavailable, view, nil
	}
}

func (a *Admin) presentApp() (*App, error) {
	find := a.app
	if find == nil {
		find = presentApp
	}
	app, err := find()
	switch {
	case errors.Is(err, errNotLoaded):
		return nil, adminError(http.StatusServiceUnavailable, err)
	case err != nil:
		return nil, adminError(http.StatusNotFound, err)
	}
	return app, nil
}

// statusView is the answer of GET /cvs/status.
type statusView struct {
	Accounts []accountView                          `json:"accounts"` // at most 100
	Next     string                                 `json:"next,omitempty"`
	Total    int                                    `json:"total"`   // accounts
	Failing  int                                    `json:"failing"` // accounts whose last fetch of a token failed
	Ledger   ledgerView                             `json:"ledger"`
	Handlers map[string]map[string]map[string]int64 `json:"handlers"`
	Since    time.Time                              `json:"since"` // since when the handlers count
}

// accountView is an account.
type accountView struct {
	Name        string       `json:"name"`
	Token       string       `json:"token"` // "valid", "none" or "failed"
	ValidUntil  *time.Time   `json:"valid_until,omitempty"`
	InUse       bool         `json:"in_use"`
	ClockOffset *int         `json:"clock_offset,omitempty"` // the API's clock minus this machine's, in seconds
	LastError   *failureView `json:"last_error,omitempty"`
}

type failureView struct {
	At     time.Time         `json:"at"`
	Cause  client.TokenCause `json:"cause"`
	Detail string            `json:"detail,omitempty"`
}

// The words for an account's token.
const (
	tokenValid  = "valid"
	tokenNone   = "none"   // none was fetched, or it has ended and nobody needed another one
	tokenFailed = "failed" // the last fetch failed
)

// ledgerView is the ledger.
type ledgerView struct {
	Store         string     `json:"store"`
	State         string     `json:"state"` // "up", "degraded", "slow", "closed" or "off"
	Since         *time.Time `json:"since,omitempty"`
	Cause         string     `json:"cause,omitempty"`
	Pending       *int       `json:"pending,omitempty"`        // orders of which the app is still to hear something
	OldestPending *time.Time `json:"oldest_pending,omitempty"` // since when
	Waiting       *int       `json:"waiting,omitempty"`        // orders that wait for a person
	AtLeast       bool       `json:"at_least,omitempty"`       // there may be more of both
}

// The words for a ledger.
const (
	ledgerUp       = "up"
	ledgerDegraded = "degraded"
	ledgerSlow     = "slow"
	ledgerClosed   = "closed" // no handler needs it
)

// status answers GET /cvs/status.
func (a *Admin) status(r *http.Request) (int, any, error) {
	query, err := parseStatusQuery(r)
	if err != nil {
		return 0, nil, err
	}
	for {
		app, err := a.presentApp()
		if err != nil {
			return 0, nil, err
		}
		view := app.status(query)
		if again, err := a.presentApp(); err == nil && again != app {
			continue
		}
		return http.StatusOK, view, nil
	}
}

// statusQuery is the query of GET /cvs/status.
type statusQuery struct {
	after  *string // the last name of the page before
	failed bool    // only accounts whose last fetch of a token failed
}

func parseStatusQuery(r *http.Request) (q statusQuery, err error) {
	for name, values := range r.URL.Query() {
		value := values[0]
		switch {
		case len(values) > 1 || value == "":
			return q, badQuery("%s must be given once, with a value", name)
		case name == "after":
			q.after = &value
		case name == "token" && value == tokenFailed:
			q.failed = true
		case name == "token":
			return q, badQuery("token must be %s, not %q", tokenFailed, value)
		default:
			return q, badQuery("there is no parameter %q; there are after and token", name)
		}
	}
	return q, nil
}

// status returns what an operator is shown of the app.
func (a *App) status(q statusQuery) *statusView {
	names := a.names()
	view := &statusView{
		Accounts: []accountView{}, Total: len(names), Ledger: a.ledgerStatus(), Since: handled.since.UTC().Truncate(time.Second),
		Handlers: map[string]map[string]map[string]int64{
			"cvs_proxy":   {"calls": handled.calls.view()},
			"cvs_confirm": {"confirms": handled.confirms.view()},
			"cvs_notice":  {"notices": handled.notices.view(), "tells": handled.tells.view()},
		},
	}
	start := 0
	if q.after != nil {
		start = sort.Search(len(names), func(i int) bool { return names[i] > *q.after })
	}
	for i, name := range names {
		shown := viewOfAccount(name, a.accounts[name].client.State())
		if shown.Token == tokenFailed {
			view.Failing++
		}
		if i < start || q.failed && shown.Token != tokenFailed {
			continue
		}
		if len(view.Accounts) == maxListed {
			view.Next = view.Accounts[maxListed-1].Name
			continue
		}
		view.Accounts = append(view.Accounts, shown)
	}
	return view
}

func viewOfAccount(name string, state *client.State) accountView {
	status := state.TokenStatus()
	view := accountView{Name: name, Token: tokenNone, InUse: status.InUse}
	if !status.ValidUntil.IsZero() {
		view.Token, view.ValidUntil = tokenValid, new(status.ValidUntil.UTC().Truncate(time.Second))
	}
	if status.Failing {
		view.Token = tokenFailed
	}
	if offset, known := state.ClockOffset(); known {
		view.ClockOffset = new(int(offset.Round(time.Second) / time.Second))
	}
	if f := status.Failure; f != nil {
		view.LastError = &failureView{f.At.UTC().Truncate(time.Second), f.Cause, f.Detail}
	}
	return view
}

// ledgerStatus returns what an operator is shown of the ledger.
func (a *App) ledgerStatus() ledgerView {
	if a.ledger.place == nil {
		return ledgerView{Store: ledgerOff, State: ledgerOff}
	}
	view := ledgerView{Store: a.ledger.place.store, State: ledgerClosed}
	l := a.openedLedger()
	if l == nil {
		return view
	}
	read, err := l.inTime("backlog", func(ctx context.Context) (any, error) {
		b, err := l.Backlog(ctx)
		return b, err
	})
	health := l.Health()
	view.State, view.Since = ledgerUp, new(health.Since.UTC().Truncate(time.Second))
	switch {
	case health.Down:
		view.State = ledgerDegraded
		if health.Err != nil {
			view.Cause = l.hide(health.Err).Error()
		}
	case errors.Is(err, ledger.ErrSlow):
		view.State, view.Since = ledgerSlow, nil
	}
	if err == nil {
		b := read.(ledger.Backlog)
		view.Pending, view.Waiting, view.OldestPending, view.AtLeast = &b.Pending, &b.Waiting, fromMilli(b.Oldest), b.Partial
	}
	return view
}
