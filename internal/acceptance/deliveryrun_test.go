//go:build !race

package acceptance

// This file holds the delivery run: gateways in processes of their own, which are killed, stopped and
// reloaded, and from which the shop must hear of every payment. Notices are lost, doubled, forged and
// early, and the shop is down, slow or broken. At the end all faults end, and what the shop was told is
// compared with what the API has. The parts of the run are in the other files named deliveryrun.
//
// There are two kinds of accounts. With the sweep a notice may be lost. Without it every notice is
// repeated until it is acknowledged, and nothing else has the payment looked at: then an acknowledged
// notice that the gateway forgets is a payment that the shop is never told of.
//
// The seed decides what becomes of each order, and the order of the faults. Which request meets them
// depends on the machine.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// deliveryTimeout is the time of one call of the API, and of telling the shop once.
const deliveryTimeout = time.Second

// deliverySecret signs what the shop is told.
var deliverySecret = gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"]

// deliveryAccount is an account of the gateway.
type deliveryAccount struct {
	name, key, secret string // name is "" for the unnamed account
	swept             bool
	confirms          bool   // its barcodes are paid after a confirm webhook
	inside            string // base URL of its cvs_proxy
}

// deliverySize is how much a run does.
type deliverySize struct {
	orders, foreign, older int
	accounts               int           // half of them are swept
	over                   time.Duration // in which the orders begin
	tries                  time.Duration // how long apps and customers try again while the gateway is down
	patience               time.Duration // how long nothing may come to the shop until the run gives up
	full                   bool          // the long form, with its faults
	operator               bool          // the gateway is killed, stopped and reloaded
}

// deliveryRun is the state of a run.
type deliveryRun struct {
	size     deliverySize
	g        *gatewaytest.Gateway
	gateways *gateways
	program  string // the gateway's binary, "" for this one
	sender   *http.Client
	draw     *deliveryDraw
	accounts []*deliveryAccount
	shop     *deliveryShop
	api      *deliveryAPI
	oracle   *apiOracle
	counts   faultCounts
	calm     atomic.Bool  // nothing fails any more
	starts   atomic.Int64 // how often a gateway was ended
	backedUp atomic.Int64 // orders in a copy of the ledger, made in the middle of the run
	began    time.Time
	ctx      context.Context
	ended    <-chan struct{}
	older    []string // imp_uids of payments that are not the ledger's
	retried  int
	left     deliveryLeft
	onDown   string
	unknown  map[string]bool   // imp_uids of barcodes that the ledger never learned of, see neverWritten
	rows     map[string]string // what the ledger has of the orders of mistakes, while the gateways run

	mu      sync.Mutex
	stuck   map[*deliveryOrder]string // whose app or customer tried in vain, and what
	orders  map[string]*deliveryOrder
	stories map[string]int
	acks    map[ack]bool
	paid    map[string]time.Time // when each payment was paid
}

// TestDeliveryRun fails if the shop is not told of a payment or a refund, or is told what is not so, twice
// at once, or out of order.
func TestDeliveryRun(t *testing.T) { runDelivery(t, "") }

// The same with three gateways that share a database, to which happens much, too. Of an odd seed no barcode is
// issued without the ledger. Of an even one it is, and then a gateway that ends before its ledger is up again
// takes what it knows with it: of such a barcode the shop need not hear. They are counted.
func TestDeliveryRunOnPostgres(t *testing.T) { runDelivery(t, dbtest.Postgres) }

func TestDeliveryRunOnMariaDB(t *testing.T) { runDelivery(t, dbtest.MariaDB) }

func runDelivery(t *testing.T, kind dbtest.Kind) {
	size := deliverySize{orders: 300, foreign: 24, older: 1000, accounts: 3, over: 18 * time.Second, tries: 2 * time.Minute, patience: 40 * time.Second, operator: true}
	if *long {
		size = deliverySize{orders: 10_000, foreign: 400, older: 1000, accounts: 6, over: 12 * time.Minute, tries: 2 * time.Minute, patience: 6 * time.Minute, full: true, operator: true}
	}
	c := newDeliveryRun(t, size, kind, "")
	c.run(t)
	j := c.judge()
	c.report(t, j)
	for _, found := range j.found {
		t.Error(found)
	}
	for order, row := range c.rows {
		t.Logf("%s in the ledger: %s", order, row)
	}
	for o, why := range c.stuck {
		if !c.unknown[o.last] {
			t.Errorf("order %s %s", o.id, why)
		}
	}
}

// newDeliveryRun prepares a run with the ledger in a kind of database, "" for a file. program is the
// gateway's binary, "" for this one.
func newDeliveryRun(t *testing.T, size deliverySize, kind dbtest.Kind, program string) *deliveryRun {
	t.Helper()
	c := &deliveryRun{
		size: size, onDown: []string{"issue", "refuse"}[*seed%2], stuck: make(map[*deliveryOrder]string), draw: newDeliveryDraw(), program: program, ctx: t.Context(), ended: t.Context().Done(),
		orders: make(map[string]*deliveryOrder), stories: make(map[string]int), acks: make(map[ack]bool), paid: make(map[string]time.Time),
	}
	c.shop = newDeliveryShop(t, c)
	c.api = newDeliveryAPI(c)
	c.g, _ = gatewaytest.Prepare(t, gatewaytest.Setup{API: c.api})
	confirms := &balancer{g: c.g, next: &http.Transport{DisableKeepAlives: true}}
	c.g.API = emulator.New(emulator.Options{
		MaxPayments: 1_000_000, Now: c.api.now, Transport: deliveryTransport{confirms},
		Fault: func(_ emulator.Endpoint, r *http.Request) emulator.Fault {
			if r == nil { // a webhook
				return emulator.Fault{}
			}
			fault, _ := r.Context().Value(faultKey{}).(emulator.Fault)
			return fault
		},
	})
	t.Cleanup(func() { _ = c.g.API.Close() })
	for i := range size.accounts {
		a := &deliveryAccount{key: fmt.Sprintf("canary-delivery-key-%d", i), secret: fmt.Sprintf("canary-delivery-secret-%d", i), swept: i%2 == 0, confirms: i%4 == 0, inside: fmt.Sprintf("%s/a%d", c.g.Inside, i)}
		if i > 0 {
			a.name = fmt.Sprintf("a%d", i)
		}
		t.Setenv(fmt.Sprintf("CVS_DELIVERY_KEY_%d", i), a.key)
		t.Setenv(fmt.Sprintf("CVS_DELIVERY_SECRET_%d", i), a.secret)
		t.Setenv(fmt.Sprintf("CVS_DELIVERY_NEXT_SECRET_%d", i), "next-"+a.secret)
		gatewaytest.AddSecret(a.key)
		gatewaytest.AddSecret(a.secret)
		c.accounts = append(c.accounts, a)
	}
	c.oracle = &apiOracle{api: c.g.API, accounts: c.accounts, tokens: make(map[string]string)}
	c.gateways = newGateways(t, c.g, c.config(kind), kind, "{env.CVS_DELIVERY_SECRET_", "{env.CVS_DELIVERY_NEXT_SECRET_", "{env.CVS_DELIVERY_NEXT_SECRET_", "{env.CVS_DELIVERY_SECRET_")
	for _, gw := range c.gateways.list {
		gw.program = program
	}
	if size.full && kind != "" {
		c.gateways.takeVersions(t)
	}
	confirms.gs = c.gateways
	apps := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(apps.CloseIdleConnections)
	c.sender = &http.Client{Timeout: 20 * time.Second, Transport: &balancer{c.g, c.gateways, apps}}
	c.payOlder(t)
	return c
}

// deliveryTransport keeps the emulator's own notices back: the run sends them as it draws them.
type deliveryTransport struct{ confirms http.RoundTripper }

func (d deliveryTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/cvs/notice") {
		return nil, errors.New("the run sends it")
	}
	return d.confirms.RoundTrip(r)
}

// config returns the gateway's configuration.
func (c *deliveryRun) config(kind dbtest.Kind) string {
	var accounts, proxies, notices strings.Builder
	for i, a := range c.accounts {
		options := fmt.Sprintf("imp_key {env.CVS_DELIVERY_KEY_%d}\nimp_secret {env.CVS_DELIVERY_SECRET_%[1]d}\napi API\ntimeout %s\n%s", i, deliveryTimeout, firstKeys)
		account, confirm, sweep := "", "", "off"
		if a.name != "" {
			options = fmt.Sprintf("account %s {\n%s}\n", a.name, options)
			account = "account " + a.name
		}
		if a.swept {
			sweep = "1s"
		}
		if a.confirms { // which has the payment looked at later, whatever becomes of its notice
			confirm = "confirm_url OUTSIDE/cvs/confirm"
		}
		accounts.WriteString(options)
		fmt.Fprintf(&proxies, "handle_path /a%d/* {\ncvs_proxy {\n%s\npg galaxia\n%s\nnotice_url OUTSIDE/cvs/notice\nexpires_in 72h\nserve POST /payments/cancel\n}\n}\n", i, account, confirm)
		fmt.Fprintf(&notices, `cvs_notice /cvs/notice {
			%s
			tell %s/payments/{http.cvs.merchant_uid} {
				timeout %s
				require heard true
				secret {env.CVS_TEST_NOTICE_SECRET}
				header %s %s
			}
			retry 3s
			intervals 100ms 300ms 1s
			sweep %s
		}
		`, account, c.shop.url, deliveryTimeout, toldByHeader, gatewayNumber, sweep)
	}
	return c.g.Fill(`{
	admin off
	persist_config off
	auto_https off
	grace_period 500ms
	log {
		output file LOGS
		level DEBUG
	}
	cvs {
		ledger `+cmp.Or(databaseLedger(kind, c.onDown), "LEDGER")+`
		`) + c.g.Fill(accounts.String()) + c.g.Fill(`
	}
}
INSIDE {
	`+proxies.String()+`
}
OUTSIDE {
	log {
		output file LOGS
	}
	cvs_confirm /cvs/confirm {
		order_check {
			route {
				respond 200
			}
		}
	}
	`+notices.String()+`
	reverse_proxy `) + c.shop.url + "\n}\n"
}

// payOlder has the API have payments that are not the ledger's: paid before, by card or by a barcode
// that was issued elsewhere.
func (c *deliveryRun) payOlder(t *testing.T) {
	t.Helper()
	for i := range c.size.older {
		ago := time.Duration(1+c.draw.rand.below(200)) * time.Minute
		c.api.offset.Store(-int64(ago))
		a := c.accounts[i%len(c.accounts)]
		clear(c.oracle.tokens) // one of another time
		order := fmt.Sprintf("older-%d", i)
		if i%2 == 0 {
			answer, err := c.oracle.do(a, http.MethodPost, "/subscribe/payments/onetime", fmt.Sprintf(`{"merchant_uid":%q,"amount":5000,"card_number":"1234-1234-1234-1234","expiry":"2030-01"}`, order))
			require.NoError(t, err)
			c.older = append(c.older, gjson.GetBytes(answer, "imp_uid").Str)
			continue
		}
		answer, err := c.oracle.do(a, http.MethodPost, "/cvs", fmt.Sprintf(`{"merchant_uid":%q,"amount":5000,"pg":"galaxia"}`, order))
		require.NoError(t, err)
		_, err = c.g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: gjson.GetBytes(answer, "vbank_num").Str})
		require.NoError(t, err)
		c.older = append(c.older, gjson.GetBytes(answer, "imp_uid").Str)
	}
	c.api.offset.Store(0)
	c.g.API.ExpireTokens()
	clear(c.oracle.tokens)
}

// run lets all stories take place, ends all faults, and waits for what the shop is still to hear.
func (c *deliveryRun) run(t *testing.T) {
	t.Helper()
	c.began = time.Now()
	c.gateways.start(t)
	var around sync.WaitGroup
	defer around.Wait() // also if the operator fails
	orders := c.draw.orders(c.size.orders, c.size.full, c.accounts)
	for i, o := range orders {
		after := c.size.over * time.Duration(i) / time.Duration(len(orders))
		around.Go(func() {
			wait(c.ended, after)
			c.mu.Lock()
			c.orders[o.id] = o
			c.stories[o.story]++
			c.mu.Unlock()
			c.live(t, o)
		})
	}
	for i := range c.size.foreign {
		after := c.size.over * time.Duration(i) / time.Duration(c.size.foreign)
		around.Go(func() { wait(c.ended, after); c.sendForeign(t, i) })
	}
	if c.gateways.database != nil {
		around.Go(func() { c.gateways.database.operate(t, c.size.over) })
	}
	if c.size.operator {
		around.Go(func() { c.backUp(t) })
		c.operate(t)
	}
	around.Wait()
	c.calm.Store(true)
	c.gateways.waitUntilUp(t)
	c.unknown = c.neverWritten(t)
	c.settle(t)
	c.rows = c.rowsOf(t, c.judge())
	c.gateways.kill()
}

// deliveryLeft is what the gateway says of its work at the end.
type deliveryLeft struct{ pending, waiting int }

// settle has what waits for a person told again, and waits until the shop has heard everything.
func (c *deliveryRun) settle(t *testing.T) {
	t.Helper()
	state := c.askAdmin(t, http.MethodGet, "/cvs/status", "")
	assert.Equal(t, "up", gjson.Get(state, "ledger.state").Str, state)
	answer := c.askAdmin(t, http.MethodPost, "/cvs/retry", `{"all":true}`)
	c.retried = int(gjson.Get(answer, "retried").Int())
	heard, since := 0, time.Now()
	for time.Since(since) < c.size.patience {
		listed := gjson.GetMany(c.askAdmin(t, http.MethodGet, "/cvs/barcodes?state=pending", ""), "pending", "waiting")
		c.left = deliveryLeft{int(listed[0].Int()), int(listed[1].Int())}
		j := c.judge()
		if j.missing() == 0 && c.left.pending == 0 {
			return
		}
		if j.heard != heard {
			heard, since = j.heard, time.Now()
		}
		if !assert.NoError(t, c.ctx.Err()) {
			return
		}
		wait(c.ended, max(500*time.Millisecond, time.Since(since)/20))
	}
}

// askAdmin sends a request to the admin endpoint of one of the gateways.
func (c *deliveryRun) askAdmin(t *testing.T, method, path, body string) string {
	t.Helper()
	status, answer := c.gateways.askAdmin(t, c.gateways.any(), method, path, body)
	require.Equal(t, http.StatusOK, status, answer)
	return answer
}

// isStubborn reports whether the shop refuses an order until the end.
func (c *deliveryRun) isStubborn(order string) bool {
	c.mu.Lock()
	o := c.orders[order]
	c.mu.Unlock()
	if o == nil || !o.stubborn {
		return false
	}
	c.counts.add(shopStubborn)
	return true
}

func (c *deliveryRun) isSandbox(order string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.orders[order]
	return o != nil && o.story == storySandbox
}
