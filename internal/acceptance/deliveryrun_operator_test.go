//go:build !race

package acceptance

// This file holds what the delivery run does to the gateways' processes and to the shop's.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
)

// deliveryDisruption is one thing that is done to a gateway, to all of them, or to the shop.
type deliveryDisruption struct {
	name        string
	short, long int // how often
	act         func(c *deliveryRun, t *testing.T, b *bait)
}

var deliveryDisruptions = []deliveryDisruption{
	{"killed when it has acknowledged a notice", 8, 40, (*deliveryRun).killAcknowledged},
	{"killed while the shop has a message", 1, 15, atMessage(false, (*deliveryRun).killAndStart)},
	{"killed when the shop has heard, before it answers", 1, 15, atMessage(true, (*deliveryRun).killAndStart)},
	{"killed while the API has a look-up", 0, 10, atCall(emulator.EndpointPayment, (*deliveryRun).killAndStart)},
	{"killed while the API has a list", 0, 5, atCall(emulator.EndpointList, (*deliveryRun).killAndStart)},
	{"killed at a random moment", 1, 20, anywhere((*deliveryRun).killAndStart)},
	{"stopped while the shop has a message", 1, 10, atMessage(false, (*deliveryRun).stopAndContinue)},
	{"stopped at a random moment", 1, 15, anywhere((*deliveryRun).stopAndContinue)},
	{"shut down and started", 1, 10, anywhere((*deliveryRun).shutDownAndStart)},
	{"reloaded", 2, 30, anywhere((*deliveryRun).reload)},
	{shopDown, 1, 12, (*deliveryRun).shopAway},
}

// deliveryChanges are done to all gateways that share a database, one after the other.
var deliveryChanges = []deliveryDisruption{
	{"all given new keys, one after the other", 1, 8, (*deliveryRun).changeKeys},
	{"all upgraded or put back, one after the other", 0, 3, (*deliveryRun).changeVersion},
}

// disruptions are printed in this order.
func (c *deliveryRun) disruptions() []deliveryDisruption {
	if c.gateways.database == nil {
		return deliveryDisruptions
	}
	return slices.Concat(deliveryDisruptions, deliveryChanges)
}

func (c *deliveryRun) times(d deliveryDisruption) int { return c.least(d.short, d.long) }

// operate does all that is to be done, in random order, spread over the time in which orders begin.
func (c *deliveryRun) operate(t *testing.T) {
	t.Helper()
	rng := draw(2)
	var plan []deliveryDisruption
	for _, d := range c.disruptions() {
		for range c.times(d) {
			plan = append(plan, d)
		}
	}
	rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	for i, d := range plan {
		if due := c.size.over * time.Duration(i) / time.Duration(len(plan)); time.Since(c.began) < due {
			wait(c.ended, due-time.Since(c.began))
		}
		b := c.bait(t)
		d.act(c, t, b)
		c.sendBait(t, b)
		c.counts.add(d.name)
	}
}

// bait is a payment of an unswept account that no notice has named yet.
type bait struct {
	notice       deliveryNotice
	event        ack
	acknowledged bool
	by           *gateway // that has acknowledged it
}

// baitPrefix begins the numbers of their orders, which the shop hears at once.
const baitPrefix = "bait-"

func (c *deliveryRun) bait(t *testing.T) *bait {
	t.Helper()
	account := c.accounts[1+2*c.draw.rand.below(len(c.accounts)/2)]
	c.mu.Lock()
	o := &deliveryOrder{
		id: fmt.Sprintf(baitPrefix+"%d", len(c.orders)), account: account, story: storyPaid, amount: 7000, notices: []string{noticeOnce},
		barcodes: make(map[string]bool), voided: make(map[string]bool), afterVoid: make(map[string]bool),
	}
	c.orders[o.id] = o
	c.mu.Unlock()
	barcode := c.issue(t, o, 0)
	require.NotEmpty(t, barcode.number, c.stuck[o])
	_, err := c.g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode.number})
	require.NoError(t, err)
	c.mu.Lock()
	c.paid[barcode.impUID] = time.Now()
	c.mu.Unlock()
	_, urls := c.g.API.WebhookURLs(barcode.impUID)
	require.Len(t, urls, 1)
	return &bait{event: ack{impUID: barcode.impUID}, notice: newNotice(urls[0], barcode.impUID, o.id, "paid", "", false)}
}

// sendBait sends the notice until it is acknowledged, and then calls each function at once.
func (c *deliveryRun) sendBait(t *testing.T, b *bait, at ...func()) {
	t.Helper()
	for began := time.Now(); !b.acknowledged && assert.Less(t, time.Since(began), 2*time.Minute); {
		status, header := c.send(t, b.notice)
		if b.acknowledged = status == http.StatusOK; !b.acknowledged {
			wait(c.ended, 20*time.Millisecond)
			continue
		}
		b.by = c.gateways.numbered(header.Get(answeredBy))
	}
	for _, do := range at {
		do()
	}
	c.acknowledged(b.event)
}

// killAcknowledged kills the gateway at the moment in which it acknowledges a notice.
func (c *deliveryRun) killAcknowledged(t *testing.T, b *bait) {
	t.Helper()
	c.sendBait(t, b, func() { c.kill(b.by) })
	b.by.start(t)
}

// atMessage does something to the gateway while the shop has a message of it, or has heard it and not
// answered.
func atMessage(heard bool, do func(c *deliveryRun, t *testing.T, gw *gateway)) func(c *deliveryRun, t *testing.T, b *bait) {
	return func(c *deliveryRun, t *testing.T, b *bait) {
		t.Helper()
		h := &heldMessage{heard: heard, arrived: make(chan struct{}), released: make(chan struct{})}
		c.shop.hold.Store(h)
		defer close(h.released)
		c.sendBait(t, b)
		require.True(t, wait(h.arrived, 90*time.Second), "no message came to the shop")
		do(c, t, h.from)
	}
}

// atCall does something to the gateway while the API has a call of it.
func atCall(endpoint emulator.Endpoint, do func(c *deliveryRun, t *testing.T, gw *gateway)) func(c *deliveryRun, t *testing.T, b *bait) {
	return func(c *deliveryRun, t *testing.T, _ *bait) {
		t.Helper()
		h := &heldCall{endpoint: endpoint, arrived: make(chan struct{}), released: make(chan struct{})}
		c.api.hold.Store(h)
		defer close(h.released)
		require.True(t, wait(h.arrived, 3*time.Minute), "no call came to the API")
		do(c, t, h.from)
	}
}

// anywhere does something to one of the gateways.
func anywhere(do func(c *deliveryRun, t *testing.T, gw *gateway)) func(c *deliveryRun, t *testing.T, b *bait) {
	return func(c *deliveryRun, t *testing.T, _ *bait) {
		t.Helper()
		do(c, t, c.gateways.any())
	}
}

func (c *deliveryRun) kill(gw *gateway) {
	c.starts.Add(1) // before: what is answered meanwhile may not be written
	gw.kill()
}

func (c *deliveryRun) killAndStart(t *testing.T, gw *gateway) {
	t.Helper()
	c.kill(gw)
	gw.start(t)
}

func (c *deliveryRun) stopAndContinue(t *testing.T, gw *gateway) {
	t.Helper()
	goOn := gw.pause(t)
	wait(c.ended, c.draw.rand.between(deliveryTimeout/2, 4*deliveryTimeout))
	goOn()
}

func (c *deliveryRun) shutDownAndStart(t *testing.T, gw *gateway) {
	t.Helper()
	c.starts.Add(1)
	gw.shutDown(t)
	gw.start(t)
}

// reload loads the configuration with another life of barcodes.
func (c *deliveryRun) reload(t *testing.T, gw *gateway) {
	t.Helper()
	c.gateways.load(t, gw, strings.ReplaceAll(gw.config, "expires_in 72h", fmt.Sprintf("expires_in %dh", 73+c.draw.rand.below(20))))
}

func (c *deliveryRun) changeKeys(t *testing.T, _ *bait) {
	t.Helper()
	c.gateways.changeKeys(t)
}

func (c *deliveryRun) changeVersion(t *testing.T, _ *bait) {
	t.Helper()
	c.starts.Add(1)
	c.gateways.changeVersion(t)
	c.starts.Add(1)
}

// shopAway has the shop refuse connections for a while.
func (c *deliveryRun) shopAway(t *testing.T, _ *bait) {
	t.Helper()
	c.shop.down()
	away := time.Second
	if c.size.full {
		away = c.draw.rand.between(time.Second, 8*time.Second)
	}
	wait(c.ended, away)
	c.shop.up(t)
}

// backUp has one of the gateways copy the ledger in the middle of the run, and reads the copy.
func (c *deliveryRun) backUp(t *testing.T) {
	wait(c.ended, c.size.over/2)
	file := filepath.Join(t.TempDir(), "backup.db")
	for began := time.Now(); time.Since(began) < 2*time.Minute && c.ctx.Err() == nil; wait(c.ended, time.Second) {
		status, content := c.gateways.askAdmin(t, c.gateways.any(), http.MethodGet, "/cvs/backup", "")
		if status != http.StatusOK { // it was killed, its ledger is down, or it is of a version without
			continue
		}
		if !assert.NoError(t, os.WriteFile(file, []byte(content), 0o600)) {
			return
		}
		orders, err := boltstore.Verify(file)
		assert.NoError(t, err)
		c.backedUp.Store(int64(orders))
		return
	}
}
