//go:build !race

package acceptance

// This file holds the API of the delivery run: its faults, and what it says without any.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// deliveryPayment is a payment as the API shows it.
type deliveryPayment struct {
	ImpUID        string                 `json:"imp_uid"`
	MerchantUID   string                 `json:"merchant_uid"`
	Status        string                 `json:"status"`
	Amount        float64                `json:"amount"`
	CancelAmount  float64                `json:"cancel_amount"`
	StartedAt     int64                  `json:"started_at"`
	PaidAt        int64                  `json:"paid_at"`
	CancelHistory []deliveryCancellation `json:"cancel_history"`

	account string
	expires int64
}

// deliveryCancellation is a refund as the API shows it.
type deliveryCancellation struct {
	ID     string  `json:"cancellation_id"`
	Amount float64 `json:"amount"`
}

// apiOracle asks the emulator in this process. Its requests meet no faults and are not counted.
type apiOracle struct {
	api      *emulator.Emulator
	accounts []*deliveryAccount

	mu     sync.Mutex
	tokens map[string]string // by account
}

// oracleKey marks a request of the oracle in its context.
type oracleKey struct{}

// do sends a request of an account, and returns the member response of the answer.
func (o *apiOracle) do(account *deliveryAccount, method, path, body string) (json.RawMessage, error) {
	for try := 0; ; try++ {
		token, err := o.token(account, try > 0)
		if err != nil {
			return nil, err
		}
		status, answer, err := o.send(method, path, token, body)
		if status != http.StatusUnauthorized || try > 0 {
			return answer, err
		}
	}
}

func (o *apiOracle) send(method, path, token, body string) (int, json.RawMessage, error) {
	r := httptest.NewRequestWithContext(context.WithValue(context.Background(), oracleKey{}, true), method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	r.Header.Set("Authorization", token)
	w := httptest.NewRecorder()
	o.api.ServeHTTP(w, r)
	var envelope struct {
		Code     int
		Message  string
		Response json.RawMessage
	}
	if err := json.Unmarshal(w.Body.Bytes(), &envelope); err != nil {
		return w.Code, nil, err
	}
	if w.Code != http.StatusOK || envelope.Code != 0 {
		return w.Code, nil, fmt.Errorf("%d, code %d: %s", w.Code, envelope.Code, envelope.Message)
	}
	return w.Code, envelope.Response, nil
}

// token returns the account's token, which is a new one after a 401: tokens of the time before the run
// have expired, and faults expire others.
func (o *apiOracle) token(account *deliveryAccount, fresh bool) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if token := o.tokens[account.name]; token != "" && !fresh {
		return token, nil
	}
	_, answer, err := o.send(http.MethodPost, "/users/getToken", "", fmt.Sprintf(`{"imp_key":%q,"imp_secret":%q}`, account.key, account.secret))
	if err != nil {
		return "", err
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(answer, &token); err != nil {
		return "", err
	}
	o.tokens[account.name] = token.AccessToken
	return token.AccessToken, nil
}

// payment returns a payment of an account as it is now, nil if there is none.
func (o *apiOracle) payment(account, impUID string) *deliveryPayment {
	for _, a := range o.accounts {
		if a.name != account {
			continue
		}
		answer, err := o.do(a, http.MethodGet, "/payments/"+impUID+"?include_sandbox=true", "")
		p := &deliveryPayment{account: account}
		if err != nil || json.Unmarshal(answer, p) != nil {
			return nil
		}
		return p
	}
	return nil
}

// payments returns all payments of the run's orders, by imp_uid.
func (o *apiOracle) payments(orders map[string]*deliveryOrder) map[string]*deliveryPayment {
	all := make(map[string]*deliveryPayment)
	for _, p := range o.api.Payments() {
		order := orders[p.MerchantUID]
		if order == nil {
			continue
		}
		if found := o.payment(order.account.name, p.ImpUID); found != nil {
			found.expires = p.ExpiredAt
			all[p.ImpUID] = found
		}
	}
	return all
}

// deliveryAPI is the API with its faults.
type deliveryAPI struct {
	run    *deliveryRun
	plans  map[emulator.Endpoint]faultPlan
	hold   atomic.Pointer[heldCall]
	offset atomic.Int64 // by which the API's clock is wrong, in nanoseconds

	mu     sync.Mutex
	calls  map[emulator.Endpoint]int
	failed map[string]bool      // paths that met a fault, in the short form: another one would take too long
	lags   map[string]time.Time // imp_uids of payments that look-ups show as they were, since when
}

func (a *deliveryAPI) now() time.Time { return time.Now().Add(time.Duration(a.offset.Load())) }

// deliveryLag is for how long a look-up does not show a payment of which there is a notice.
const deliveryLag = 1500 * time.Millisecond

// deliveryFaults are printed in this order.
var deliveryFaults = []*plannedFault{
	{name: "500", at: deliveryEndpoints, fault: alwaysFault(emulator.Fault{Status: http.StatusInternalServerError})},
	{name: "garbage", at: deliveryEndpoints, fault: alwaysFault(emulator.Fault{Garbage: true})},
	{name: "dropped", at: deliveryEndpoints, fault: alwaysFault(emulator.Fault{Drop: emulator.DropAfter})},
	{name: "lags", at: deliveryLookUps, fault: alwaysFault(emulator.Fault{Stale: 3 * time.Second})},
	{name: "401", at: deliveryEndpoints, fault: alwaysFault(emulator.Fault{ExpiredToken: true})},
	{name: "later than the time-out", at: deliveryEndpoints, fault: alwaysFault(emulator.Fault{Delay: 3 * deliveryTimeout / 2})},
}

var (
	deliveryLookUps   = []emulator.Endpoint{emulator.EndpointPayment, emulator.EndpointList}
	deliveryEndpoints = append([]emulator.Endpoint{emulator.EndpointVoid}, deliveryLookUps...)
)

// newDeliveryAPI deals a fault to one call in 25 of each endpoint.
func newDeliveryAPI(c *deliveryRun) *deliveryAPI {
	a := &deliveryAPI{
		run: c, plans: make(map[emulator.Endpoint]faultPlan), calls: make(map[emulator.Endpoint]int),
		failed: make(map[string]bool), lags: make(map[string]time.Time),
	}
	for _, endpoint := range deliveryEndpoints {
		var faults []*plannedFault
		for _, f := range deliveryFaults {
			for _, at := range f.at {
				if at == endpoint {
					faults = append(faults, f)
				}
			}
		}
		a.plans[endpoint] = faultPlan{newDeck(c.draw.rand, nil, hits(25)), newDeck(c.draw.rand, nil, faults)}
	}
	return a
}

// ServeHTTP serves a request of the gateway.
func (a *deliveryAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	endpoint := endpointOf(r)
	if strings.HasPrefix(r.URL.Path, "/payments/status/") {
		endpoint = emulator.EndpointList
	}
	gatewaytest.NoteTokens(nil)(endpoint, r)
	a.note(endpoint)
	if h := a.hold.Load(); h != nil && h.endpoint == endpoint && a.hold.CompareAndSwap(h, nil) {
		h.from = a.run.gateways.callerOf(r)
		close(h.arrived)
		wait(h.released, time.Minute)
	}
	fault := a.fault(endpoint, r)
	a.run.g.API.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), faultKey{}, fault)))
}

func (a *deliveryAPI) note(endpoint emulator.Endpoint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[endpoint]++
}

// fault returns the fault of a request.
func (a *deliveryAPI) fault(endpoint emulator.Endpoint, r *http.Request) emulator.Fault {
	if endpoint == emulator.EndpointIssue {
		return a.issueFault(r)
	}
	if lag := a.lagOf(r.URL.Path); lag > 0 && endpoint == emulator.EndpointPayment {
		return emulator.Fault{Stale: lag}
	}
	plan, ok := a.plans[endpoint]
	if a.run.calm.Load() || !ok || !plan.met.next() || !a.mayFail(endpoint, r.URL.Path) {
		return emulator.Fault{}
	}
	m := plan.plannedFaults.next()
	a.run.counts.add(m.nameAt(endpoint))
	return m.fault(a.run.draw.rand)
}

// mayFail spares what would take longer than the short form lasts: another failure of the same call, and
// failures of calls that the ledger repeats after minutes only.
func (a *deliveryAPI) mayFail(endpoint emulator.Endpoint, path string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.run.size.full || endpoint == emulator.EndpointList {
		return true
	}
	spared := endpoint == emulator.EndpointVoid || a.failed[path]
	a.failed[path] = true
	return !spared
}

// issueFault leaves out that a payment is one of a test channel, for the orders that say so.
func (a *deliveryAPI) issueFault(r *http.Request) emulator.Fault {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var issue struct {
		MerchantUID string `json:"merchant_uid"`
	}
	if json.Unmarshal(body, &issue) == nil && a.run.isSandbox(issue.MerchantUID) {
		return emulator.Fault{Omit: "sandbox"}
	}
	return emulator.Fault{}
}

// lagFrom has look-ups show a payment as it was, for a while.
func (a *deliveryAPI) lagFrom(impUID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lags["/payments/"+impUID] = time.Now()
}

// lagOf returns how long ago the state of a payment is that a look-up shows.
func (a *deliveryAPI) lagOf(path string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, ok := a.lags[path]
	if ago := time.Since(since); ok && ago < deliveryLag {
		return ago + 10*time.Millisecond
	}
	return 0
}

// count returns the number of calls of an endpoint.
func (a *deliveryAPI) count(endpoint emulator.Endpoint) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[endpoint]
}
