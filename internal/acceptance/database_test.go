//go:build !race

package acceptance

// This file holds the database that the gateways of a run share, and what is done to it.

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

const (
	// databaseVariable has the database's address in the environment of a gateway.
	databaseVariable = "CVS_TEST_SHARED_DSN"
	// databaseConnections is how many connections the server accepts. Each gateway has five.
	databaseConnections = 30
)

// databaseLedger returns the option ledger for a kind of database, "" for a file.
func databaseLedger(kind dbtest.Kind, onDown string) string {
	names := map[dbtest.Kind]string{dbtest.Postgres: "postgres", dbtest.MariaDB: "mysql"}
	if kind == "" {
		return ""
	}
	return fmt.Sprintf("%s {env.%s} {\non_down %s\n}", names[kind], databaseVariable, onDown)
}

// sharedDatabase is the database. Each gateway reaches it by a way of its own.
type sharedDatabase struct {
	server   *dbtest.Server
	database dbtest.Database
	ways     []*dbtest.Proxy
	draw     *sharedRand
	changes  atomic.Int64 // odd while there is a fault
	counts   faultCounts
}

// startDatabase starts a server.
func startDatabase(t *testing.T, kind dbtest.Kind, gateways int) *sharedDatabase {
	t.Helper()
	d := &sharedDatabase{
		server: dbtest.Start(t, kind, dbtest.Options{MaxConnections: databaseConnections, NoSync: !*long}),
		draw:   &sharedRand{rng: draw(3)},
	}
	d.database = d.server.NewDatabase(t)
	gatewaytest.AddSecret(d.database.Password)
	for range gateways {
		d.ways = append(d.ways, dbtest.NewProxy(t, d.server.Addr()))
	}
	return d
}

// at returns the database's address for a gateway.
func (d *sharedDatabase) at(gateway int) string { return d.database.At(d.ways[gateway].Addr()) }

// databaseFault is one thing that is done to the database or to the way to it.
type databaseFault struct {
	name        string
	short, long int // how often
	act         func(d *sharedDatabase, t *testing.T)
}

// databaseFaults are printed in this order.
var databaseFaults = []databaseFault{
	{"database: killed and started", 1, 25, (*sharedDatabase).kill},
	{"database: restarted", 1, 20, (*sharedDatabase).restart},
	{"database: paused", 1, 40, (*sharedDatabase).pause},
	{"database: slow", 1, 40, (*sharedDatabase).slow},
	{"database: all connections cut", 2, 30, (*sharedDatabase).cut},
	{"database: no connection left", 1, 20, (*sharedDatabase).full},
	{"database: refuses one gateway", 1, 15, (*sharedDatabase).refuseOne},
	{"database: silent for one gateway", 1, 15, (*sharedDatabase).silentForOne},
}

func (f databaseFault) times() int { return leastFaults(f.short, f.long) }

// upTo draws for how long a fault lasts. In the short form it is not long.
func (d *sharedDatabase) upTo(longest time.Duration) time.Duration {
	const least, longestInShort = 200 * time.Millisecond, 1500 * time.Millisecond
	if !*long {
		longest = min(longest, longestInShort)
	}
	return d.draw.between(least, longest)
}

// operate does all that is to be done, in random order, spread over a time if that is not over before.
func (d *sharedDatabase) operate(t *testing.T, over time.Duration) {
	rng := draw(5)
	var plan []databaseFault
	for _, f := range databaseFaults {
		for range f.times() {
			plan = append(plan, f)
		}
	}
	rng.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	began := time.Now()
	for i, f := range plan {
		pause := max(over*time.Duration(i+1)/time.Duration(len(plan)+1)-time.Since(began), d.upTo(3*time.Second))
		if wait(t.Context().Done(), pause) {
			return
		}
		d.changes.Add(1)
		f.act(d, t)
		d.changes.Add(1)
		d.counts.add(f.name)
	}
}

func (d *sharedDatabase) kill(t *testing.T) {
	assert.NoError(t, d.server.Kill())
	wait(nil, d.upTo(3*time.Second))
	assert.NoError(t, d.server.Start())
}

func (d *sharedDatabase) restart(t *testing.T) { assert.NoError(t, d.server.Restart()) }

func (d *sharedDatabase) pause(t *testing.T) {
	assert.NoError(t, d.server.Pause())
	wait(nil, d.upTo(5*time.Second))
	assert.NoError(t, d.server.Continue())
}

// slow delays what passes between the database and one gateway, or all of them.
func (d *sharedDatabase) slow(*testing.T) {
	ways := d.ways
	if n := d.draw.below(2 * len(ways)); n < len(ways) {
		ways = ways[n : n+1]
	}
	delay := d.draw.between(50*time.Millisecond, 900*time.Millisecond)
	there := time.Duration(d.draw.below(int(delay)))
	set := func(there, back time.Duration) {
		for _, way := range ways {
			way.SetDelay(dbtest.ToServer, there)
			way.SetDelay(dbtest.ToClient, back)
		}
	}
	set(there, delay-there)
	wait(nil, d.upTo(4*time.Second))
	set(0, 0)
}

func (d *sharedDatabase) cut(*testing.T) {
	for _, way := range d.ways {
		way.Cut()
	}
}

// full takes every connection of the server, those of the gateways, too.
func (d *sharedDatabase) full(t *testing.T) {
	driver := "pgx"
	if d.server.Kind() == dbtest.MariaDB {
		driver = "mysql"
	}
	db, err := sql.Open(driver, d.database.DSN)
	if !assert.NoError(t, err) {
		return
	}
	defer db.Close()
	take := func(until func(err error) bool) {
		for err := error(nil); !until(err); {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			var conn *sql.Conn
			if conn, err = db.Conn(ctx); err == nil {
				defer conn.Close()
			} else {
				wait(nil, 10*time.Millisecond)
			}
			cancel()
		}
	}
	began := time.Now()
	take(func(err error) bool { return err != nil || time.Since(began) > time.Minute })
	assert.Less(t, time.Since(began), time.Minute, "the server has more connections than it is to accept")
	d.cut(t)
	end := time.Now().Add(d.upTo(4 * time.Second))
	take(func(error) bool { return time.Now().After(end) }) // those that the gateways have lost
}

// refuseOne keeps one gateway from connecting.
func (d *sharedDatabase) refuseOne(t *testing.T) {
	way := d.ways[d.draw.below(len(d.ways))]
	way.Refuse()
	way.Cut()
	wait(nil, d.upTo(5*time.Second))
	assert.NoError(t, way.Accept())
}

// silentForOne loses what one gateway sends, or what the database answers to it, or both.
func (d *sharedDatabase) silentForOne(*testing.T) {
	way := d.ways[d.draw.below(len(d.ways))]
	way.Hold([][]dbtest.Direction{{dbtest.ToServer}, {dbtest.ToClient}, nil}[d.draw.below(3)]...)
	wait(nil, d.upTo(5*time.Second))
	if d.draw.below(2) == 0 { // what was sent never arrives
		way.Cut()
	}
	way.Release()
}

// figures prints how often each fault struck, and fails if that was too seldom.
func (d *sharedDatabase) figures(t *testing.T, figures *table) {
	t.Helper()
	for _, f := range databaseFaults {
		n := d.counts.counts[f.name]
		figures.row(f.name, n)
		assert.Equal(t, f.times(), n, f.name)
	}
}

func (d *sharedDatabase) query(t *testing.T, query string) [][]string {
	t.Helper()
	return d.server.Query(t, d.database.Name, query)
}

// write writes what the tables hold into a file that is searched for secrets.
func (d *sharedDatabase) write(t *testing.T, file string) {
	t.Helper()
	var text strings.Builder
	for _, query := range []string{"SELECT * FROM caddy_cvs_orders", "SELECT * FROM caddy_cvs_payments", "SELECT * FROM caddy_cvs_notes"} {
		for _, row := range d.query(t, query) {
			text.WriteString(strings.Join(row, " ") + "\n")
		}
	}
	require.NotEmpty(t, text.String())
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
}
