package caddycvs

// This file holds what an operator asks the gateway on Caddy's admin endpoint: the orders that the
// ledger keeps, and to tell the app again. Caddy provisions these routes before its apps, and once for
// many configurations: they read what the process holds.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin adds /cvs/barcodes, /cvs/retry, /cvs/backup, /cvs/status and /cvs/ready to Caddy's admin endpoint. It has
// no options.
type Admin struct {
	ledger func() (operatorLedger, error) // nil stands for the process's ledger
	app    func() (*App, error)           // nil stands for the present configuration's app
}

// operatorLedger is what an operator asks of the ledger.
type operatorLedger interface {
	Barcodes(ctx context.Context, f ledger.Filter) (rows []*ledger.Row, next ledger.Key, err error)
	Waiting(ctx context.Context) (person, pending int, err error)
	Retry(ctx context.Context, key ledger.Key, acceptAmount bool) (bool, error)
	RetryAll(ctx context.Context) (int, error)
	WriteBackup(ctx context.Context, w io.Writer) error
}

const (
	maxListed  = 100
	maxRequest = 64 << 10
	maxSeconds = 99_999_999_999 // above are Unix milliseconds, by mistake
)

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.cvs",
		New: func() caddy.Module { return new(Admin) },
	}
}

// Routes returns the routes for the admin endpoint.
func (a *Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/cvs/barcodes", Handler: answering(http.MethodGet, a.ofLedger(a.listBarcodes))},
		{Pattern: "/cvs/retry", Handler: answering(http.MethodPost, a.ofLedger(a.retry))},
		{Pattern: "/cvs/backup", Handler: caddy.AdminHandlerFunc(a.backup)},
		{Pattern: "/cvs/status", Handler: answering(http.MethodGet, a.status)},
		{Pattern: "/cvs/ready", Handler: answering(http.MethodGet, a.ready)},
	}
}

// answering returns a handler that answers one method with JSON.
func answering(method string, answer func(*http.Request) (status int, result any, err error)) caddy.AdminHandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := requireMethod(w, r, method); err != nil {
			return err
		}
		status, result, err := answer(r)
		if err != nil {
			return err
		}
		body, err := json.Marshal(result)
		if err != nil {
			return err
		}
		return sendAnswer(w, status, strict.JSON, append(body, '\n'))
	}
}

func requireMethod(w http.ResponseWriter, r *http.Request, method string) error {
	if r.Method == method {
		return nil
	}
	w.Header().Set("Allow", method)
	return adminError(http.StatusMethodNotAllowed, fmt.Errorf("use %s", method))
}

// ofLedger finds the ledger that an answer needs.
func (a *Admin) ofLedger(answer func(*http.Request, operatorLedger) (any, error)) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		orders, err := a.presentLedger()
		if err != nil {
			return 0, nil, err
		}
		result, err := answer(r, orders)
		if errors.Is(err, ledger.ErrDown) || errors.Is(err, ledger.ErrBusy) {
			return 0, nil, adminError(http.StatusServiceUnavailable, err)
		}
		return http.StatusOK, result, err
	}
}

func (a *Admin) presentLedger() (operatorLedger, error) {
	open := a.ledger
	if open == nil {
		open = presentLedger
	}
	orders, err := open()
	if err != nil {
		return nil, adminError(http.StatusNotFound, err)
	}
	return orders, nil
}

func adminError(status int, err error) error { return caddy.APIError{HTTPStatus: status, Err: err} }

func badQuery(format string, args ...any) error {
	return adminError(http.StatusBadRequest, fmt.Errorf(format, args...))
}

// presentLedger returns the ledger that was opened last. There are two only while a configuration
// with another ledger takes over.
func presentLedger() (operatorLedger, error) {
	var present *pooledLedger
	ledgers.Range(func(_, value any) bool {
		if p := value.(*pooledLedger); p.stored && (present == nil || p.opened > present.opened) {
			present = p
		}
		return true
	})
	if present == nil {
		return nil, errors.New("there is no ledger: it is opened for a cvs_proxy or cvs_notice, unless ledger is off")
	}
	return present, nil
}

// listBarcodes answers GET /cvs/barcodes.
func (a *Admin) listBarcodes(r *http.Request, orders operatorLedger) (any, error) {
	filter, err := parseFilter(r)
	if err != nil {
		return nil, err
	}
	rows, next, err := orders.Barcodes(r.Context(), filter)
	if err != nil {
		return nil, err
	}
	list := barcodeList{Barcodes: make([]orderView, 0, len(rows)), Next: keyText(next)}
	if list.Waiting, list.Pending, err = orders.Waiting(r.Context()); err != nil {
		return nil, err
	}
	for _, row := range rows {
		list.Barcodes = append(list.Barcodes, viewOf(row))
	}
	return list, nil
}

// stateWords are the values of the parameter state, beside "pending" and "waiting".
var stateWords = []ledger.State{ledger.Asked, ledger.Issued, ledger.Void, ledger.Expired, ledger.Failed, ledger.Paid, ledger.Refunded}

// parseFilter reads the query of GET /cvs/barcodes.
func parseFilter(r *http.Request) (ledger.Filter, error) {
	f := ledger.Filter{Limit: maxListed}
	for name, values := range r.URL.Query() {
		value := values[0]
		if len(values) > 1 || value == "" {
			return f, badQuery("%s must be given once, with a value", name)
		}
		var err error
		switch name {
		case "order":
			f.Order = value
		case "state":
			err = setState(&f, value)
		case "since":
			f.Since, err = parseSince(value)
		case "after":
			f.After, err = parseKey(value)
		default:
			err = badQuery("there is no parameter %q; there are order, state, since and after", name)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

func setState(f *ledger.Filter, word string) error {
	switch word {
	case "pending":
		f.Pending = true
		return nil
	case "waiting":
		f.Waiting = true
		return nil
	}
	if state := ledger.State(word); slices.Contains(stateWords, state) {
		f.State = state
		return nil
	}
	return badQuery("state %q is none of: %s", word, strings.Join(stateNames(), ", "))
}

// stateNames returns all values of the parameter state.
func stateNames() []string {
	words := append(make([]string, 0, 2+len(stateWords)), "pending", "waiting")
	for _, state := range stateWords {
		words = append(words, string(state))
	}
	return words
}

// parseSince returns Unix milliseconds.
func parseSince(text string) (int64, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at.UnixMilli(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > maxSeconds {
		return 0, badQuery("since must be a time such as 2026-01-31T09:00:00+09:00 (with + as %%2B), or Unix seconds, not %q", text)
	}
	return seconds * 1000, nil
}

// keyText and parseKey write and read the parameter after. The name of an account has no slash.
func keyText(key ledger.Key) string {
	if key == (ledger.Key{}) {
		return ""
	}
	return key.Account + "/" + key.Order
}

func parseKey(text string) (ledger.Key, error) {
	account, order, found := strings.Cut(text, "/")
	if !found {
		return ledger.Key{}, badQuery("after must be the member next of the page before")
	}
	return ledger.Key{Account: account, Order: order}, nil
}

// retryRequest is the body of POST /cvs/retry.
type retryRequest struct {
	Account      string `json:"account"`
	Order        string `json:"order"`
	AcceptAmount bool   `json:"accept_amount"`
	All          bool   `json:"all"`
}

// retry answers POST /cvs/retry.
func (a *Admin) retry(r *http.Request, orders operatorLedger) (any, error) {
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != strict.JSON {
		return nil, adminError(http.StatusUnsupportedMediaType, errors.New("use Content-Type "+strict.JSON))
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		return nil, badQuery("the body is incomplete")
	}
	var in retryRequest
	const usage = `the body must be {"account":"","order":"...","accept_amount":false}, of which account and accept_amount may be left out, or {"all":true}`
	if err := jsonv2.Unmarshal(body, &in, jsonv2.RejectUnknownMembers(true)); err != nil {
		return nil, badQuery("%s: %w", usage, err)
	}
	count := 0
	switch {
	case in.All && (in.Account != "" || in.Order != "" || in.AcceptAmount), !in.All && in.Order == "":
		return nil, badQuery(usage)
	case in.All:
		count, err = orders.RetryAll(r.Context())
	default:
		var waited bool
		if waited, err = orders.Retry(r.Context(), ledger.Key{Account: in.Account, Order: in.Order}, in.AcceptAmount); waited {
			count = 1
		}
	}
	return map[string]int{"retried": count}, err
}

// Interface guards
var _ caddy.AdminRouter = (*Admin)(nil)
