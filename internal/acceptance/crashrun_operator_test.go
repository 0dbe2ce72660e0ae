//go:build !race

package acceptance

// This file holds what the crash run does to the gateway's process.

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// disruption is one thing that is done to a gateway, or to all. The call that it waits for, if any, is at the API
// and unanswered at that moment.
type disruption struct {
	name        string
	short, long int               // how often
	held        emulator.Endpoint // the call to wait for; "" for a random moment
	done        bool              // the API has done its work
	stop, upTo  time.Duration     // how long the gateway is stopped; 0 for not at all
	kill        bool
	all         func(gs *gateways, t *testing.T) // what is done to all that share a database
}

var disruptions = []disruption{
	{name: "killed with a POST /cvs at the API", short: 4, long: 70, held: emulator.EndpointIssue, kill: true},
	{name: "killed with a POST /cvs done and unanswered", short: 4, long: 70, held: emulator.EndpointIssue, done: true, kill: true},
	{name: "killed with a DELETE at the API", short: 1, long: 20, held: emulator.EndpointVoid, kill: true},
	{name: "killed with a DELETE done and unanswered", short: 1, long: 20, held: emulator.EndpointVoid, done: true, kill: true},
	{name: "killed at a random moment", short: 2, long: 50, kill: true},
	{name: "stopped at a random moment", short: 2, long: 40, stop: crashTimeout / 2, upTo: 3 * crashTimeout},
	{name: "stopped with a POST /cvs at the API", short: 1, long: 30, held: emulator.EndpointIssue, stop: crashTimeout / 2, upTo: 3 * crashTimeout},
	{name: "stopped with a POST /cvs done and unanswered", short: 1, long: 30, held: emulator.EndpointIssue, done: true, stop: crashTimeout / 2, upTo: 3 * crashTimeout},
	{name: "stopped for longer than a hold may be old", short: 1, long: 10, stop: 2100 * time.Millisecond, upTo: 3 * time.Second},
	{name: "stopped, then killed, with a POST /cvs at the API", short: 1, long: 20, held: emulator.EndpointIssue, stop: crashTimeout / 4, upTo: crashTimeout, kill: true},
}

// changes are done to all gateways that share a database, one after the other.
var changes = []disruption{
	{name: "all given new keys, one after the other", short: 1, long: 8, all: (*gateways).changeKeys},
	{name: "all upgraded or put back, one after the other", long: 3, all: (*gateways).changeVersion},
}

// disruptions are printed in this order.
func (c *crashRun) disruptions() []disruption {
	if c.gateways.database == nil {
		return disruptions
	}
	return slices.Concat(disruptions, changes)
}

// times is the number of times in this form of the run.
func (d disruption) times() int { return leastFaults(d.short, d.long) }

// operate does all that is to be done to the gateways, in random order.
func (c *crashRun) operate(t *testing.T) {
	rng := draw(2)
	var plan []disruption
	for _, d := range c.disruptions() {
		for range d.times() {
			plan = append(plan, d)
		}
	}
	rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	for _, d := range plan {
		wait(nil, time.Duration(rng.Int64N(int64(200*time.Millisecond))))
		if d.all != nil {
			d.all(c.gateways, t)
		} else {
			c.disrupt(t, d, rng)
		}
		c.counts.add(d.name)
	}
}

// disrupt does what is to be done to one gateway.
func (c *crashRun) disrupt(t *testing.T, d disruption, rng *rand.Rand) {
	t.Helper()
	gw, release := c.waitForCall(t, d)
	goOn := func() {}
	if d.stop > 0 {
		goOn = gw.pause(t)
		wait(nil, d.stop+time.Duration(rng.Int64N(int64(d.upTo-d.stop))))
	}
	if !d.kill {
		if rng.IntN(2) == 0 { // the API does its work while the gateway is stopped
			release()
			wait(nil, time.Millisecond)
		}
		goOn()
		release()
		return
	}
	gw.kill()
	c.releaseLater(rng.IntN(3), release, func() {
		wait(nil, time.Duration(rng.Int64N(int64(100*time.Millisecond))))
		gw.start(t)
	})
}

// waitForCall waits until the API holds the call that a disruption needs, and returns the gateway that sent
// it. The function that it returns releases the call.
func (c *crashRun) waitForCall(t *testing.T, d disruption) (gw *gateway, release func()) {
	t.Helper()
	if d.held == "" {
		return c.gateways.any(), func() {}
	}
	h := &heldCall{endpoint: d.held, done: d.done, arrived: make(chan struct{}), released: make(chan struct{})}
	c.held.Store(h)
	require.True(t, wait(h.arrived, 30*time.Second), "no %s came to the API", d.held)
	open := true
	return h.from, func() {
		if open {
			close(h.released)
		}
		open = false
	}
}

// releaseLater starts the gateway again and lets the API do the work of a dead gateway's call: at
// once, when the next gateway is there, or some time later.
func (c *crashRun) releaseLater(how int, release, start func()) {
	switch how {
	case 0:
		release()
		start()
	case 1:
		start()
		release()
	default:
		start()
		c.busy.Add(1)
		after := c.draw.between(0, 2*crashTimeout)
		go func() {
			defer c.busy.Add(-1)
			wait(nil, after)
			release()
		}()
	}
}
