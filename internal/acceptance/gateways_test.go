//go:build !race

package acceptance

// This file holds the gateways of the crash run and of the delivery run: one with the ledger in a file, or
// several that share a database, as behind a load balancer.

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// gatewayProcess is a gateway. It has the same addresses and the same files after each start.
type gatewayProcess struct {
	config  string
	program string   // another binary than this one; "" for this one
	env     []string // besides this one's
	cmd     *exec.Cmd
	starts  int
	pauses  atomic.Int64 // how often it was stopped
}

func (p *gatewayProcess) start(t *testing.T) {
	t.Helper()
	program := cmp.Or(p.program, os.Args[0])
	p.cmd = gatewaytest.StartProgram(t, program, p.config, p.env...)
	p.starts++
}

// kill ends the process as kill -9 does, stopped or not, and waits for its end.
func (p *gatewayProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// shutDown ends the process as a service manager does.
func (p *gatewayProcess) shutDown(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	_ = p.cmd.Wait()
}

// pause stops the process where it is. The function that it returns lets it go on.
func (p *gatewayProcess) pause(t *testing.T) (goOn func()) {
	t.Helper()
	p.pauses.Add(1)
	p.signal(t, syscall.SIGSTOP)
	return func() { p.signal(t, syscall.SIGCONT) }
}

func (p *gatewayProcess) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(s))
}

// gateway is one of the gateways.
type gateway struct {
	gatewayProcess
	number          int
	inside, outside string // its own base URLs
	api             string // the address at which it alone calls the API
	admin           string // address
	log             string
	versions        [2]string // the programs of this version and of the one before
}

// gateways are all gateways of a run. They have the addresses of the gatewaytest.Gateway in common, at
// which nobody listens: balancer sends a request there to one of them.
type gateways struct {
	list     []*gateway
	database *sharedDatabase // nil with a file
	client   *http.Client    // for the admin endpoints
	draw     *sharedRand
	replaced *strings.Replacer // of each key in a configuration by another one

	upgradedFrom string // the version before; "" if there is none
}

// The signing keys of a configuration, in turn: the first signs, all verify.
const (
	firstKeys  = "signing_key {env.CVS_TEST_SIGNING_KEY}\n"
	secondKeys = "signing_key {env.CVS_TEST_PREVIOUS_KEY} {env.CVS_TEST_SIGNING_KEY}\n"
	thirdKeys  = "signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}\n"
)

// gatewayNumber is in a configuration in place of the gateway's number.
const gatewayNumber = "GATEWAY-NUMBER"

// newGateways prepares the gateways. The configuration is that of one; without a kind of database there is
// only one. What keys has is replaced when keys are changed, besides the signing keys.
func newGateways(t *testing.T, g *gatewaytest.Gateway, config string, kind dbtest.Kind, keys ...string) *gateways {
	t.Helper()
	gs := &gateways{
		client: gatewaytest.HTTPClient(t), draw: &sharedRand{rng: draw(4)},
		replaced: strings.NewReplacer(append([]string{secondKeys, thirdKeys, thirdKeys, secondKeys, firstKeys, secondKeys}, keys...)...),
	}
	count := 1
	if kind != "" {
		count = max(*nodes, 1)
		gs.database = startDatabase(t, kind, count)
	}
	for n := range count {
		gw := &gateway{
			number: n, inside: "http://" + gatewaytest.Address(t), outside: "http://" + gatewaytest.Address(t), api: gatewaytest.Address(t),
			admin: gatewaytest.Address(t), log: gatewaytest.LogFile(t),
		}
		gw.env = []string{"XDG_DATA_HOME=" + t.TempDir()}
		if gs.database != nil {
			gw.env = append(gw.env, databaseVariable+"="+gs.database.at(n))
		}
		gw.config = strings.NewReplacer(
			"\n"+g.Inside+" {", "\n"+gw.inside+" {", "\n"+g.Outside+" {", "\n"+gw.outside+" {", "admin off", "admin "+gw.admin,
			g.LogFile, gw.log, g.APIURL+"\n", "http://"+gw.api+"\n", gatewayNumber, strconv.Itoa(n),
		).Replace(config)
		listener, err := net.Listen("tcp", gw.api)
		require.NoError(t, err)
		go func() { _ = g.APIServer.Config.Serve(listener) }()
		t.Cleanup(func() { _ = listener.Close() })
		gs.list = append(gs.list, gw)
	}
	return gs
}

// start starts all gateways.
func (gs *gateways) start(t *testing.T) {
	t.Helper()
	for _, gw := range gs.list {
		gw.start(t)
	}
}

// kill ends all gateways.
func (gs *gateways) kill() {
	for _, gw := range gs.list {
		gw.kill()
	}
}

// starts is how often a gateway was started.
func (gs *gateways) starts() (sum int) {
	for _, gw := range gs.list {
		sum += gw.starts
	}
	return sum
}

// any returns one of the gateways.
func (gs *gateways) any() *gateway { return gs.list[gs.draw.below(len(gs.list))] }

// callerOf returns the gateway that sent a request to the API.
func (gs *gateways) callerOf(r *http.Request) *gateway {
	address, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	for _, gw := range gs.list {
		if address != nil && gw.api == address.String() {
			return gw
		}
	}
	return nil
}

// numbered returns the gateway of a number, as a text.
func (gs *gateways) numbered(number string) *gateway {
	if n, err := strconv.Atoi(number); err == nil && n < len(gs.list) {
		return gs.list[n]
	}
	return nil
}

// answeredBy is the field of an answer's header in which balancer says which gateway it is from.
const answeredBy = "X-Test-Gateway"

// balancer sends each request to one of the gateways, and to another one if nobody listens there, as a
// load balancer does. It passes on a request to another address as it is.
type balancer struct {
	g    *gatewaytest.Gateway
	gs   *gateways
	next *http.Transport
}

func (b *balancer) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	first := b.gs.draw.below(len(b.gs.list))
	for n := range b.gs.list {
		gw := b.gs.list[(first+n)%len(b.gs.list)]
		out := r.Clone(r.Context())
		switch "http://" + r.URL.Host {
		case b.g.Inside:
			out.URL.Host = gatewaytest.Host(gw.inside)
		case b.g.Outside:
			out.URL.Host = gatewaytest.Host(gw.outside)
		default:
			return b.next.RoundTrip(r)
		}
		if n > 0 && r.GetBody != nil {
			if out.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
		if resp, err = b.next.RoundTrip(out); err == nil {
			resp.Header.Set(answeredBy, strconv.Itoa(gw.number))
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
	}
	return resp, err
}

// askAdmin sends a request to a gateway's admin endpoint. The status is 0 without an answer.
func (gs *gateways) askAdmin(t *testing.T, gw *gateway, method, path, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+gw.admin+path, strings.NewReader(body))
	if !assert.NoError(t, err) {
		return 0, ""
	}
	if body != "" {
		r.Header.Set("Content-Type", gatewaytest.JSONType)
	}
	resp, err := gs.client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(content)
}

// load loads a configuration into a gateway.
func (gs *gateways) load(t *testing.T, gw *gateway, config string) {
	t.Helper()
	adapted, _, err := gatewaytest.AdaptCaddyfile(config)
	require.NoError(t, err)
	status, answer := gs.askAdmin(t, gw, http.MethodPost, "/load", string(adapted))
	require.Equal(t, http.StatusOK, status, answer)
}

// changeKeys gives new keys to one gateway after the other. Each still knows the keys before.
func (gs *gateways) changeKeys(t *testing.T) {
	t.Helper()
	for _, gw := range gs.list {
		gw.config = gs.replaced.Replace(gw.config)
		gs.load(t, gw, gw.config)
		wait(t.Context().Done(), gs.draw.between(100*time.Millisecond, time.Second))
	}
}

// changeVersion shuts down one gateway after the other, and starts the other version in its place.
func (gs *gateways) changeVersion(t *testing.T) {
	t.Helper()
	for _, gw := range gs.list {
		gw.shutDown(t)
		gw.versions[0], gw.versions[1] = gw.versions[1], gw.versions[0]
		gw.program = gw.versions[0]
		gw.start(t)
		wait(t.Context().Done(), gs.draw.between(100*time.Millisecond, time.Second))
	}
}

// waitUntilUp waits until no gateway lacks its ledger any more.
func (gs *gateways) waitUntilUp(t *testing.T) {
	t.Helper()
	const longest = 45 * time.Second // a gateway tries every 30 s at least to open it again
	for _, gw := range gs.list {
		began, status := time.Now(), 0
		for status != http.StatusOK && assert.Less(t, time.Since(began), longest, "gateway %d does not open its ledger again", gw.number) {
			if status, _ = gs.askAdmin(t, gw, http.MethodGet, "/cvs/barcodes?state=pending", ""); status != http.StatusOK {
				wait(t.Context().Done(), 100*time.Millisecond)
			}
		}
	}
}

// logFigures prints how often the gateways logged each error that is not about one call. While the ledger
// is down, nothing keeps an order from getting two barcodes.
func (gs *gateways) logFigures(t *testing.T, figures *table) {
	t.Helper()
	var counts faultCounts
	gs.readLogs(t, func(line string) {
		entry := gjson.GetMany(line, "level", "msg", "error", "operation")
		if entry[0].Str != "error" || entry[3].Exists() || entry[1].Str == "handled request" {
			return
		}
		name := "logged: " + entry[1].Str
		if strings.HasPrefix(entry[1].Str, "the ledger is down") && entry[2].Exists() {
			name += ": " + entry[2].Str[:min(len(entry[2].Str), 100)]
		}
		counts.add(name)
	})
	for _, name := range counts.names {
		figures.row(name, counts.counts[name])
	}
}

// readLogs reads each line that the gateways have logged.
func (gs *gateways) readLogs(t *testing.T, read func(line string)) {
	t.Helper()
	for _, gw := range gs.list {
		content, err := os.ReadFile(gw.log)
		require.NoError(t, err)
		for line := range strings.Lines(string(content)) {
			read(line)
		}
	}
}

// figures prints what the gateways are.
func (gs *gateways) figures(figures *table) {
	if gs.database == nil {
		figures.row("gateways, with the ledger in a file", len(gs.list))
		return
	}
	figures.row("gateways, with the ledger in "+string(gs.database.server.Kind()), len(gs.list))
	figures.row("upgraded from", cmp.Or(gs.upgradedFrom, "nothing, in the short form"))
	for _, gw := range gs.list {
		for _, variable := range gw.env {
			if offset, found := strings.CutPrefix(variable, clockVariable+"="); found {
				figures.row(fmt.Sprintf("gateway %d: its clock is wrong by", gw.number), offset)
			}
		}
	}
}
