package caddycvs

// This file holds tests of the events.

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// eventListener is an events handler that keeps what it gets, or does what a test says.
type eventListener struct{}

var heardEvents struct {
	sync.Mutex
	list   []caddy.Event
	handle func(caddy.Event)
}

func init() { caddy.RegisterModule(eventListener{}) }

func (eventListener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_listen", New: func() caddy.Module { return new(eventListener) }}
}

func (eventListener) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (eventListener) Handle(_ context.Context, e caddy.Event) error {
	heardEvents.Lock()
	handle := heardEvents.handle
	heardEvents.Unlock()
	if handle != nil {
		handle(e)
	}
	heardEvents.Lock()
	defer heardEvents.Unlock()
	heardEvents.list = append(heardEvents.list, e)
	return nil
}

// listen has the handlers of this test begin anew.
func listen(t testing.TB, handle func(caddy.Event)) {
	t.Helper()
	heardEvents.Lock()
	defer heardEvents.Unlock()
	heardEvents.list, heardEvents.handle = nil, handle
}

// heard returns the events of a name, without those that Caddy emits itself.
func heard(name string) (list []map[string]any) {
	heardEvents.Lock()
	defer heardEvents.Unlock()
	for _, e := range heardEvents.list {
		if e.Name() == name {
			list = append(list, maps.Clone(e.Data))
		}
	}
	return list
}

func onEach() string {
	var b strings.Builder
	b.WriteString("events {\n")
	for _, name := range eventNames {
		b.WriteString("on " + name + " test_listen\n")
	}
	return b.String() + "}"
}

func TestDocumentedEvents(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, row := range tableRows(t, "events") {
		documented = append(documented, words(row[0])[0])
	}
	assert.Equal(t, eventNames, documented)
	assert.ElementsMatch(t, slices.Collect(maps.Values(constants(t, "event"))), eventNames)
}

// The events of an order's life reach a handler, with what names the order and nothing else.
func TestEvents(t *testing.T) {
	listen(t, nil)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Globals: onEach(), Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Notice: gatewaytest.UsualNotice + "\nsweep off\nintervals 100ms",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasPrefix(r.URL.Path, "/payments/") && len(heard(eventTellFailed)) == 0:
				w.WriteHeader(http.StatusConflict)
			case strings.HasPrefix(r.URL.Path, "/payments/"):
				_, _ = w.Write([]byte(`{"heard":true}`))
			case strings.HasSuffix(r.URL.Path, "order-2/payable"):
				_, _ = w.Write([]byte(`{"payable":false,"reason":"` + gatewaytest.BuyerName + `"}`))
			default:
				_, _ = w.Write([]byte(`{"payable":true,"total":15000}`))
			}
		},
	})
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	i := g.MustIssue(t, "order-1")
	g.MustIssue(t, "order-1") // the same barcode
	scan := func(i gatewaytest.Issued) {
		_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
		require.NoError(t, err)
	}
	scan(i)
	is := func(name string, i gatewaytest.Issued, cause string) {
		t.Helper()
		require.Eventually(t, func() bool { return len(heard(name)) > 0 }, 20*time.Second, time.Millisecond, name)
		assert.Equal(t, []map[string]any{{"account": "", "merchant_uid": i.MerchantUID, "imp_uid": i.ImpUID, "amount": "15000", "cause": cause}}, heard(name))
	}
	is(eventIssued, i, "")
	is(eventConfirmed, i, "")
	is(eventTellFailed, i, "status 409")
	is(eventPaid, i, "")
	refusedOrder := g.MustIssue(t, "order-2")
	scan(refusedOrder)
	is(eventRefused, refusedOrder, causeCondition)

	i.ConfirmURL += "x" // which anybody can send
	assert.Equal(t, http.StatusForbidden, g.Confirm(t, i).Status)
	g.WaitForLine(t, `"msg":"confirm webhook"`, `"rule":"signature"`)
	assert.Len(t, heard(eventRefused), 1)
}

func TestEventOfRefusedCredentials(t *testing.T) {
	listen(t, nil)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Globals: onEach()})
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Status: 401}))
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	assert.Equal(t, http.StatusBadGateway, g.Issue(t, "order-1").Status)
	require.Eventually(t, func() bool { return len(heard(eventCredentialsRefused)) == 1 }, 20*time.Second, time.Millisecond)
	assert.Equal(t, map[string]any{"account": "", "merchant_uid": "", "imp_uid": "", "amount": "", "cause": "imp_key or imp_secret"}, heard(eventCredentialsRefused)[0])
	assert.Empty(t, heard(eventIssued))
}

func TestEventOfARecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r    record
		want string
	}{
		{record{kind: apiCalls, subject: subject{operation: opIssue}, httpStatus: 200}, eventIssued},
		{record{kind: apiCalls, subject: subject{operation: opIssue}, httpStatus: 200, recovered: true}, eventIssued},
		{record{kind: apiCalls, subject: subject{operation: opIssue}, httpStatus: 200, reused: true}, ""},
		{record{kind: apiCalls, subject: subject{operation: opIssue}, httpStatus: 200, code: 1}, ""},
		{record{kind: apiCalls, subject: subject{operation: opIssue}, httpStatus: 504}, ""},
		{record{kind: apiCalls, subject: subject{operation: opVoid}, httpStatus: 200}, ""},
		{record{kind: decisions, verdict: accepted}, eventConfirmed},
		{record{kind: decisions, verdict: refused}, eventRefused},
		{record{kind: decisions, verdict: unanswered}, eventRefused},
		{record{kind: decisions, verdict: invalid}, ""},
		{record{kind: decisions, verdict: unanswered, cause: cause{name: causeLookUp + causeTimeout}}, ""},
		{record{kind: notices, outcome: noticeKept}, ""},
		{record{kind: tellings, outcome: "heard", event: "paid"}, eventPaid},
		{record{kind: tellings, outcome: "heard", event: "expired"}, eventExpired},
		{record{kind: tellings, outcome: "heard", event: "cancelled"}, ""},
		{record{kind: tellings, outcome: "refused", event: "paid"}, eventTellFailed},
		{record{kind: tellings, outcome: "unheard", event: "paid"}, eventTellFailed},
		{record{kind: tellings, outcome: "withdrawn", event: "paid"}, ""},
	} {
		assert.Equal(t, c.want, c.r.kind.event(&c.r), "%+v", c.r)
	}
}

// emitting returns an emitter whose events reach test_listen, and a function that ends its configuration.
func emitting(t *testing.T) (*emitter, context.CancelFunc) {
	t.Helper()
	parent, err := gatewaytest.Provision(&caddy.Config{})
	require.NoError(t, err)
	ctx, cancel := caddy.NewContext(parent)
	t.Cleanup(cancel)
	e, err := newEmitter(ctx, newMetrics(nil), zap.NewNop())
	require.NoError(t, err)
	require.NoError(t, e.app.On(eventIssued, eventListener{}))
	return e, cancel
}

func dropped(t *testing.T) int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(totals.all...)
	return int(gatheredFrom(t, registry)["events_dropped_total"])
}

// A handler that hangs delays no answer, and what waits for it has a limit.
func TestSlowEventHandler(t *testing.T) {
	entered, release := make(chan struct{}, 2*maxEvents), make(chan struct{})
	listen(t, func(caddy.Event) { entered <- struct{}{}; <-release })
	e, end := emitting(t)
	before := dropped(t)
	e.emit(eventIssued, &record{})
	<-entered
	const more = 50
	for n := range maxEvents + more {
		e.emit(eventIssued, &record{subject: subject{merchantUID: strconv.Itoa(n)}}) // would block here
	}
	assert.Equal(t, before+more, dropped(t))
	e.emit(eventPaid, &record{})
	assert.Equal(t, before+more, dropped(t), "nobody listens to it")
	close(release)
	require.Eventually(t, func() bool { return len(heard(eventIssued)) == 1+maxEvents }, 20*time.Second, time.Millisecond)
	assert.Equal(t, "999", heard(eventIssued)[maxEvents]["merchant_uid"], "in their order")
	end()
	e.emit(eventIssued, &record{})
	assert.Equal(t, before+more+1, dropped(t), "the configuration has ended")
}

// What waits when the configuration ends is dropped, and counted.
func TestEventsOfAnEndedConfiguration(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	listen(t, func(caddy.Event) { entered <- struct{}{}; <-release })
	e, end := emitting(t)
	before := dropped(t)
	for range 5 {
		e.emit(eventIssued, &record{})
	}
	<-entered
	end()
	close(release)
	require.Eventually(t, func() bool { return dropped(t) == before+4 }, 20*time.Second, time.Millisecond)
	assert.Len(t, heard(eventIssued), 1)
}

func TestEventHandlerThatPanics(t *testing.T) {
	first := true
	listen(t, func(caddy.Event) {
		if first {
			first = false
			panic("a handler's own fault")
		}
	})
	e, _ := emitting(t)
	e.emit(eventIssued, &record{})
	e.emit(eventIssued, &record{})
	require.Eventually(t, func() bool { return len(heard(eventIssued)) == 1 }, 20*time.Second, time.Millisecond)
}

var (
	_ caddyevents.Handler   = eventListener{}
	_ caddyfile.Unmarshaler = (*eventListener)(nil)
)
