//go:build !race

package acceptance

// This file holds the crash run: the gateway is a process that is killed and stopped at random
// moments, often while the API has a POST /cvs of it, and impatient apps ask for the barcodes of
// their orders again and again. At the end each app asks once more, and then a till scans every
// barcode that the API has issued. The parts of the run are in the other files named crashrun.
//
// The seed decides what each app does, the order of the kills and stops, and the order of the
// faults. Which request meets them depends on the machine.

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// crashTimeout is the timeout of one call to the API. The default, 10s, would only make the run
// longer.
const crashTimeout = 500 * time.Millisecond

// crashRun is the state of a run.
type crashRun struct {
	g        *gatewaytest.Gateway
	gateways *gateways
	draw     *sharedRand
	calm     atomic.Bool // nothing fails any more
	full     atomic.Bool // no more orders are needed
	ended    <-chan struct{}
	busy     atomic.Int64
	held     atomic.Pointer[heldCall]
	counts   faultCounts
	plans    map[emulator.Endpoint]faultPlan

	mu     sync.Mutex
	orders []*crashOrder
	voided map[string]time.Time // when the API voided a barcode, at the latest
}

// TestCrashRun fails on an order with two barcodes that a till takes, on a barcode that a till
// takes and that the app does not know after asking once more, and on an answer with another
// order's, another amount's or an outdated barcode. With -ledger=false it fails if it finds no
// order with two barcodes: without the ledger there are many.
func TestCrashRun(t *testing.T) { runCrashes(t, "") }

// The same with three gateways that share a database, to which happens much, too.
func TestCrashRunOnPostgres(t *testing.T) { runCrashes(t, dbtest.Postgres) }

func TestCrashRunOnMariaDB(t *testing.T) { runCrashes(t, dbtest.MariaDB) }

func runCrashes(t *testing.T, kind dbtest.Kind) {
	orders, apps := 150, 24
	if *long {
		orders, apps = 3000, 64
	}
	c := newCrashRun(t, kind)
	began := time.Now()
	c.gateways.start(t)
	var around sync.WaitGroup
	var next atomic.Int64
	defer around.Wait() // also if the operator fails
	defer c.full.Store(true)
	for range apps {
		around.Go(func() {
			for !c.full.Load() || next.Load() < int64(orders) {
				c.serve(t, next.Add(1))
			}
		})
	}
	var database sync.WaitGroup
	defer database.Wait()
	if c.gateways.database != nil {
		database.Go(func() { c.gateways.database.operate(t, 0) })
	}
	c.operate(t)
	database.Wait()
	c.full.Store(true)
	around.Wait()
	c.calm.Store(true)
	for c.busy.Load() > 0 { // until what was delayed is done
		wait(nil, 10*time.Millisecond)
	}
	c.gateways.kill()
	c.gateways.start(t)
	c.askOnceMore(t)
	c.scanAll(t)
	c.report(t, time.Since(began))
}

// newCrashRun starts the API and the shop, and makes the gateway's configuration.
func newCrashRun(t *testing.T, kind dbtest.Kind) *crashRun {
	t.Helper()
	draws := &sharedRand{rng: draw(1)}
	c := &crashRun{draw: draws, voided: make(map[string]time.Time), plans: newCrashPlans(draws), ended: t.Context().Done()}
	setup := gatewaytest.Setup{
		API:     http.HandlerFunc(c.serveAPI),
		Account: "timeout " + crashTimeout.String() + "\n" + firstKeys,
		Ledger:  databaseLedger(kind, "refuse"),
		Confirm: "order_check {\nroute {\nrespond 200\n}\n}",
	}
	withoutLedger(&setup)
	g, config := gatewaytest.Prepare(t, setup)
	c.g, c.gateways = g, newGateways(t, g, config, kind, "{env.CVS_TEST_SECRET}", "{env.CVS_TEST_SECOND_SECRET}", "{env.CVS_TEST_SECOND_SECRET}", "{env.CVS_TEST_SECRET}")
	if *long && kind != "" {
		c.gateways.takeVersions(t)
	}
	g.HTTP.Transport = &balancer{g, c.gateways, g.HTTP.Transport.(*http.Transport)}
	confirms := &balancer{g, c.gateways, &http.Transport{DisableKeepAlives: true}}
	g.API = emulator.New(emulator.Options{MaxPayments: 1_000_000, Transport: confirms, Fault: func(_ emulator.Endpoint, r *http.Request) emulator.Fault {
		if r == nil { // a webhook
			return emulator.Fault{}
		}
		fault, _ := r.Context().Value(faultKey{}).(emulator.Fault)
		return fault
	}})
	return c
}

// inParallel calls do for each order.
func (c *crashRun) inParallel(do func(o *crashOrder)) {
	next := make(chan *crashOrder)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for o := range next {
				do(o)
			}
		})
	}
	for _, o := range c.orders {
		next <- o
	}
	close(next)
	all.Wait()
}

// askOnceMore lets each app ask until it has its barcode, or knows that the order is paid. The
// gateway is fit and answers at once, or says when to ask again.
func (c *crashRun) askOnceMore(t *testing.T) {
	c.inParallel(func(o *crashOrder) {
		o.refresh(10 * time.Minute)
		deadline := time.Now().Add(time.Minute)
		for {
			o.last = c.ask(t, o, o.request, 10*time.Second)
			pause := max(o.last.retryAfter, crashTimeout/5)
			if o.last.status == http.StatusOK || o.leftAtTill() || time.Now().Add(pause).After(deadline) {
				return
			}
			wait(nil, pause)
		}
	})
}

// scanAll lets a till scan every barcode that it may take, those of one order in random order.
func (c *crashRun) scanAll(t *testing.T) {
	barcodes := make(map[string][]emulator.Payment)
	now := time.Now().Unix()
	for _, p := range c.g.API.Payments() {
		if p.Status == "ready" && p.ExpiredAt > now {
			barcodes[p.MerchantUID] = append(barcodes[p.MerchantUID], p)
		}
	}
	c.inParallel(func(o *crashOrder) {
		list := barcodes[o.id]
		o.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, p := range list {
			result, err := c.g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: p.Barcode})
			if !errors.Is(err, emulator.ErrExpired) && assert.NoError(t, err) {
				o.scans = append(o.scans, crashScan{impUID: p.ImpUID, ended: time.Now(), final: true, accepted: result.Accepted, reason: result.Reason})
			}
		}
	})
	require.NotEmpty(t, barcodes)
}
