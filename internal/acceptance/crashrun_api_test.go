//go:build !race

package acceptance

// This file holds the API of the crash run: the emulator, its faults, and the calls that are held
// until the gateway is dead.

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// heldCall is a call to the API that the operator waits for. Only one call is held.
type heldCall struct {
	endpoint emulator.Endpoint
	done     bool          // hold it after the API has done the work, before it answers
	from     *gateway      // that sent it; set when it is there
	arrived  chan struct{} // closed when it is there
	released chan struct{} // closed by the operator
}

// holdHere holds a call if the operator waits for such a one.
func (c *crashRun) holdHere(r *http.Request, endpoint emulator.Endpoint, done bool) {
	h := c.held.Load()
	if h != nil && h.endpoint == endpoint && h.done == done && c.held.CompareAndSwap(h, nil) {
		h.from = c.gateways.callerOf(r)
		close(h.arrived)
		select {
		case <-h.released:
		case <-c.ended:
		}
	}
}

// endpointOf returns the endpoint of a request that may meet a fault, or "".
func endpointOf(r *http.Request) emulator.Endpoint {
	switch path := r.URL.Path; {
	case path == "/users/getToken":
		return emulator.EndpointToken
	case path == "/cvs":
		return emulator.EndpointIssue
	case strings.HasPrefix(path, "/cvs/"):
		return emulator.EndpointVoid
	case strings.HasPrefix(path, "/payments/find/"):
		return emulator.EndpointFind
	case strings.HasPrefix(path, "/payments/findAll/"):
		return emulator.EndpointFindAll
	case strings.HasPrefix(path, "/payments/"):
		return emulator.EndpointPayment
	}
	return ""
}

// serveAPI handles a request before and after the emulator does.
func (c *crashRun) serveAPI(w http.ResponseWriter, r *http.Request) {
	c.busy.Add(1)
	defer c.busy.Add(-1)
	endpoint := endpointOf(r)
	gatewaytest.NoteTokens(nil)(endpoint, r)
	if endpoint == emulator.EndpointVoid {
		defer c.noteVoid(strings.TrimPrefix(r.URL.Path, "/cvs/")) // also if the emulator drops the answer
	}
	c.holdHere(r, endpoint, false)
	fault := c.fault(endpoint)
	if fault.Drop == emulator.DropBody || fault.Oversized { // which a recorder cannot hold
		c.g.API.ServeHTTP(w, withFault(r, fault))
		return
	}
	recorder := httptest.NewRecorder()
	c.g.API.ServeHTTP(recorder, withFault(r, fault))
	c.holdHere(r, endpoint, true)
	maps.Copy(w.Header(), recorder.Header())
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes()) // the gateway may be dead
}

func withFault(r *http.Request, fault emulator.Fault) *http.Request {
	// The work is done even if the gateway is dead.
	return r.WithContext(context.WithValue(r.Context(), faultKey{}, fault))
}

// noteVoid records that a barcode is void now.
func (c *crashRun) noteVoid(impUID string) {
	for _, p := range c.g.API.Payments() {
		if p.ImpUID != impUID || p.Status != "cancelled" {
			continue
		}
		c.mu.Lock()
		if _, known := c.voided[impUID]; !known {
			c.voided[impUID] = time.Now()
		}
		c.mu.Unlock()
	}
}

var (
	crashLookUps   = []emulator.Endpoint{emulator.EndpointFind, emulator.EndpointFindAll, emulator.EndpointPayment}
	crashCalls     = append([]emulator.Endpoint{emulator.EndpointIssue, emulator.EndpointVoid}, crashLookUps...)
	crashEndpoints = append([]emulator.Endpoint{emulator.EndpointToken}, crashCalls...)
)

// crashFaults are printed in this order.
var crashFaults = []*plannedFault{
	{name: "dropped before the work", at: crashEndpoints, fault: alwaysFault(emulator.Fault{Drop: emulator.DropBefore})},
	{name: "dropped after the work", at: crashEndpoints, fault: alwaysFault(emulator.Fault{Drop: emulator.DropAfter})},
	{name: "dropped within the answer", at: crashCalls, fault: alwaysFault(emulator.Fault{Drop: emulator.DropBody})},
	{name: "late", at: crashEndpoints, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(time.Millisecond, crashTimeout/2)}
	}},
	{name: "later than the time-out", at: crashCalls, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(crashTimeout, 3*crashTimeout)}
	}},
	{name: "later, given up with the client", at: crashCalls, fault: func(l *sharedRand) emulator.Fault {
		return emulator.Fault{Delay: l.between(crashTimeout, 2*crashTimeout), CancelWithClient: true}
	}},
	{name: "503", at: crashEndpoints, fault: alwaysFault(emulator.Fault{Status: http.StatusServiceUnavailable})},
	{name: "code", at: crashCalls, fault: alwaysFault(emulator.Fault{Code: -1})},
	{name: "garbage", at: crashEndpoints, fault: alwaysFault(emulator.Fault{Garbage: true})},
	{name: "401", at: crashCalls, fault: alwaysFault(emulator.Fault{ExpiredToken: true})},
}

// newCrashPlans deals a fault to one call in five of each endpoint, and to one request in ten for
// a token.
func newCrashPlans(draws *sharedRand) map[emulator.Endpoint]faultPlan {
	plans := make(map[emulator.Endpoint]faultPlan)
	for _, endpoint := range crashEndpoints {
		var faults []*plannedFault
		for _, m := range crashFaults {
			for _, at := range m.at {
				if at == endpoint {
					faults = append(faults, m)
				}
			}
		}
		size := 5
		if endpoint == emulator.EndpointToken {
			size = 10
		}
		plans[endpoint] = faultPlan{newDeck(draws, nil, hits(size)), newDeck(draws, nil, faults)}
	}
	return plans
}

// fault draws the fault of one request.
func (c *crashRun) fault(endpoint emulator.Endpoint) emulator.Fault {
	plan, ok := c.plans[endpoint]
	if c.calm.Load() || !ok || !plan.met.next() {
		return emulator.Fault{}
	}
	m := plan.plannedFaults.next()
	c.counts.add(m.nameAt(endpoint))
	return m.fault(c.draw)
}
