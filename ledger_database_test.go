package caddycvs

// This file holds the tests of a ledger in a real database, and of moving one.

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/sqlstore"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// storeOf is the word for a kind of server in the option ledger.
var storeOf = map[dbtest.Kind]string{dbtest.Postgres: ledgerPostgres, dbtest.MariaDB: ledgerMySQL}

// onDatabases runs a test with each kind of server.
func onDatabases(t *testing.T, test func(t *testing.T, kind dbtest.Kind)) {
	t.Helper()
	for _, kind := range dbtest.Kinds {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

// newDatabase makes a database, of whose address nothing may be written.
func newDatabase(t *testing.T, server *dbtest.Server) dbtest.Database {
	t.Helper()
	db := server.NewDatabase(t)
	gatewaytest.AddSecret(db.Name)
	gatewaytest.AddSecret(db.Password)
	return db
}

// inDatabase is a gateway whose ledger is in a database.
func inDatabase(kind dbtest.Kind, dsn string) gatewaytest.Setup {
	return gatewaytest.Setup{Ledger: storeOf[kind] + " DATABASE", Database: dsn}
}

func TestLedgerInADatabase(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Shared(t, kind)
		db := newDatabase(t, server)
		g := gatewaytest.Start(t, inDatabase(kind, db.DSN))
		first := g.MustIssue(t, "order-1")
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
		assert.Equal(t, http.StatusOK, g.Confirm(t, first).Status)
		assert.Equal(t, [][]string{{"1"}}, server.Query(t, db.Name, "SELECT COUNT(*) FROM caddy_cvs_orders"))
		g.WaitForLine(t, `"level":"info"`, "the ledger is open", `"store":"`+storeOf[kind]+`"`)
		_, err := os.Stat(g.Ledger)
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
}

// Caddy starts without the database, and finds it by itself later.
func TestStartWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Start(t, kind, dbtest.Options{NoSync: true})
		db := newDatabase(t, server)
		require.NoError(t, server.Stop())
		g := gatewaytest.Start(t, inDatabase(kind, db.DSN))
		first := g.MustIssue(t, "order-1")
		g.WaitForLine(t, `"level":"error"`, "the ledger is down", `"store":"`+storeOf[kind]+`"`)
		g.WaitForLine(t, `"level":"error"`, "the order is looked up at the API instead", `"merchant_uid":"order-1"`)
		require.NoError(t, server.Start())
		waitUntilUp(t, g)
		assert.Equal(t, [][]string{{"1"}}, server.Query(t, db.Name, "SELECT COUNT(*) FROM caddy_cvs_orders"), "what was missed")
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
		assert.Len(t, g.API.Payments(), 1)

		require.NoError(t, server.Kill()) // what the driver says of it shows no address
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
		assert.NotContains(t, g.WaitForLine(t, `"msg":"the ledger is down"`, `"error"`), server.Addr())
	})
}

// waitUntilUp waits until the ledger is opened again, which is tried after longer and longer pauses.
func waitUntilUp(t *testing.T, g *gatewaytest.Gateway) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(g.Log(t), "the ledger is up again") }, 40*time.Second, 20*time.Millisecond)
}

// startBehindProxy starts a gateway whose database is reached by way of a proxy.
func startBehindProxy(t *testing.T, kind dbtest.Kind) (*gatewaytest.Gateway, dbtest.Database, *dbtest.Proxy) {
	t.Helper()
	server := dbtest.Shared(t, kind)
	proxy := dbtest.NewProxy(t, server.Addr())
	db := newDatabase(t, server)
	return gatewaytest.Start(t, inDatabase(kind, db.At(proxy.Addr()))), db, proxy
}

// A database that hangs does not hold up an issue for long, and is used again when it works.
func TestDatabaseThatHangs(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		g, db, proxy := startBehindProxy(t, kind)
		first := g.MustIssue(t, "order-1")
		proxy.Hold()
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
		second := g.MustIssue(t, "order-2")
		g.WaitForLine(t, `"level":"error"`, "the order is looked up at the API instead", `"merchant_uid":"order-2"`)
		proxy.Release()
		waitUntilUp(t, g)
		assert.Equal(t, [][]string{{"2"}}, dbtest.Shared(t, kind).Query(t, db.Name, "SELECT COUNT(*) FROM caddy_cvs_orders"), "what was missed")
		assert.Equal(t, second.ImpUID, g.MustIssue(t, "order-2").ImpUID)
		assert.Len(t, g.API.Payments(), 2)
	})
}

// A database that is far away, or slow, has missed many orders. They do not wait for one of its connections
// until their time is over.
func TestDatabaseFarAwayComesBack(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		g, db, proxy := startBehindProxy(t, kind)
		g.MustIssue(t, "order")
		proxy.Refuse()
		proxy.Cut()
		const orders = 200
		var asking sync.WaitGroup
		for app := range 5 {
			asking.Go(func() {
				for n := range orders / 5 {
					order := fmt.Sprintf("order-%d-%d", app, n)
					// Until the ledger is known to be down, an order may be answered 503: its app asks again.
					assert.Eventually(t, func() bool { return issueAgain(g, order).Status == http.StatusOK }, 10*time.Second, 10*time.Millisecond, order)
				}
			})
		}
		asking.Wait()
		proxy.SetDelay(dbtest.ToServer, 50*time.Millisecond)
		require.NoError(t, proxy.Accept())
		waitUntilUp(t, g)
		assert.Equal(t, [][]string{{fmt.Sprint(orders + 1)}}, dbtest.Shared(t, kind).Query(t, db.Name, "SELECT COUNT(*) FROM caddy_cvs_orders"))
	})
}

// A row that somebody has altered does not keep the others from going on.
func TestRowThatCannotBeRead(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Shared(t, kind)
		db := newDatabase(t, server)
		g := gatewaytest.Start(t, inDatabase(kind, db.DSN))
		first, second := g.MustIssue(t, "order-1"), g.MustIssue(t, "order-2")
		require.Eventually(t, func() bool {
			return len(server.Query(t, db.Name, "SELECT 1 FROM caddy_cvs_payments")) == 2
		}, 10*time.Second, 5*time.Millisecond)
		server.Exec(t, db.Name, "UPDATE caddy_cvs_orders SET data = 'x', due = 1 WHERE merchant_uid = 'order-1'")
		g.WaitForLine(t, `"level":"warn"`, `order \"order-1\" of account \"\" cannot be read`) // the worker has met it
		assert.Equal(t, http.StatusServiceUnavailable, g.Issue(t, "order-1").Status)
		assert.Equal(t, second.ImpUID, g.MustIssue(t, "order-2").ImpUID)
		assert.Equal(t, http.StatusOK, g.Confirm(t, first).Status, "the order checks decide")
		assert.NotContains(t, g.Log(t), `"msg":"the ledger is down`)
		assert.NotContains(t, g.Log(t), "is looked up at the API instead")
		assert.Equal(t, 1, strings.Count(g.Log(t), "cannot be read: "))
	})
}

// caddy validate provisions a configuration.
func TestProvisionConnectsToNoDatabase(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		listener, err := net.Listen("tcp", gatewaytest.Address(t))
		require.NoError(t, err)
		dsn := map[dbtest.Kind]string{dbtest.Postgres: "postgres://a:b@%s/c?sslmode=disable", dbtest.MariaDB: "a:b@tcp(%s)/c"}[kind]
		_, config := gatewaytest.Prepare(t, inDatabase(kind, fmt.Sprintf(dsn, listener.Addr())))
		gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(caddy.Context) {})
		require.NoError(t, listener.(*net.TCPListener).SetDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = listener.Accept()
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, listener.Close())
	})
}

func TestWarningOfADatabaseIsLoggedOnce(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.MariaDB, dbtest.Options{NoSync: true, Settings: map[string]string{"innodb_flush_log_at_trx_commit": "2"}})
	db := newDatabase(t, server)
	g := gatewaytest.Start(t, inDatabase(dbtest.MariaDB, db.DSN))
	g.MustIssue(t, "order-1")
	place, err := (&LedgerPlace{Store: ledgerMySQL, DSN: g.Database}).resolve()
	require.NoError(t, err)
	g.Ledger = place.key
	openLedger(t, g).Reopen(errors.New("as after a failure"))
	g.WaitForLine(t, "the ledger is up again")
	assert.Equal(t, 1, strings.Count(g.Log(t), "innodb_flush_log_at_trx_commit is 2"))
	g.WaitForLine(t, `"level":"warn"`, "innodb_flush_log_at_trx_commit is 2", `"store":"mysql"`)
}

// startError returns the error with which a configuration fails to start.
func startError(t *testing.T, setup gatewaytest.Setup) error {
	t.Helper()
	_, config := gatewaytest.Prepare(t, setup)
	var failed error
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
		app, err := ctx.App("cvs")
		require.NoError(t, err)
		failed = app.(*App).Start()
	})
	return failed
}

func TestDatabaseThatCanNeverBeUsed(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Shared(t, kind)
		db := newDatabase(t, server)
		other := newDatabase(t, server)
		reader := newReader(t, server, db)
		for name, c := range map[string]struct{ dsn, words string }{
			"wrong password":    {server.DSN(db.Name, db.User, "wrong-password-7d1"), ""},
			"no such user":      {server.DSN(db.Name, "nobody-41c", db.Password), ""},
			"no such database":  {server.DSN("nothing_82e", db.User, db.Password), ""},
			"another's":         {server.DSN(other.Name, db.User, db.Password), ""},
			"no right to write": {reader, "CREATE TABLE"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				err := startError(t, inDatabase(kind, c.dsn))
				require.Error(t, err)
				assert.ErrorContains(t, err, c.words)
				assert.ErrorContains(t, err, "correct the address that the dsn stands for, or what its user may do")
				_, port, _ := strings.Cut(server.Addr(), ":")
				for _, part := range []string{db.Name, db.Password, other.Name, "wrong-password-7d1", "nobody-41c", "nothing_82e", "127.0.0.1", port} {
					assert.NotContains(t, err.Error(), part)
				}
			})
		}
	})
}

// newReader returns the address of a database for a new user who may read and write its tables, but not
// make any.
func newReader(t *testing.T, server *dbtest.Server, db dbtest.Database) string {
	t.Helper()
	name := "r" + db.Name[1:]
	gatewaytest.AddSecret(name)
	if server.Kind() == dbtest.Postgres {
		server.Exec(t, db.Name, "CREATE ROLE "+name+" LOGIN PASSWORD '"+db.Password+"'", "GRANT CONNECT ON DATABASE "+db.Name+" TO "+name, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	} else {
		server.Exec(t, "", "CREATE USER "+name+"@'%' IDENTIFIED BY '"+db.Password+"'", "GRANT SELECT, INSERT, UPDATE, DELETE ON "+db.Name+".* TO "+name+"@'%'")
	}
	return server.DSN(db.Name, name, db.Password)
}

// A changed address, as after a change of the password, is another ledger to the process: for a moment both
// are open.
func TestReloadWithAnotherAddressOfTheSameDatabase(t *testing.T) {
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		server := dbtest.Shared(t, kind)
		db := newDatabase(t, server)
		g, config := gatewaytest.Prepare(t, inDatabase(kind, db.DSN))
		require.NoError(t, gatewaytest.Reload(t, config))
		t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
		first := g.MustIssue(t, "order-1")

		const changed = "changed-password-93b"
		gatewaytest.AddSecret(changed)
		if kind == dbtest.Postgres {
			server.Exec(t, "", "ALTER ROLE "+db.User+" PASSWORD '"+changed+"'")
		} else {
			server.Exec(t, "", "ALTER USER "+db.User+"@'%' IDENTIFIED BY '"+changed+"'")
		}
		other := gatewaytest.Placeholder(t, server.DSN(db.Name, db.User, changed))
		before := openedLedgers.Load()
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, strings.ReplaceAll(config, g.Database, other)))
		assert.Equal(t, before+1, openedLedgers.Load())
		assert.Equal(t, first.ImpUID, issueAgain(g, "order-1").Payment(t)["imp_uid"])
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, strings.ReplaceAll(config, g.Database, other)+"\n# changed"))
		assert.Equal(t, before+1, openedLedgers.Load(), "the same address, the same ledger")
		require.Len(t, g.API.Payments(), 1)
	})
}

// askOn issues orders until it is stopped, about 200 a second, and asks twice for each. What a
// configuration that has ended refuses is asked for again, as an app does. It returns their numbers.
func askOn(t *testing.T, g *gatewaytest.Gateway) (stop func() []string) {
	t.Helper()
	const apps = 4
	pace := time.NewTicker(5 * time.Millisecond)
	t.Cleanup(pace.Stop)
	ask := func(order string) gatewaytest.Answer {
		for {
			select {
			case <-pace.C:
			case <-t.Context().Done():
			}
			if answer := issueAgain(g, order); answer.Status != http.StatusServiceUnavailable || t.Context().Err() != nil {
				return answer
			}
		}
	}
	var asking sync.WaitGroup
	var mu sync.Mutex
	var orders []string
	ended := make(chan struct{})
	for app := range apps {
		asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
				order := fmt.Sprintf("order-%d-%d", app, n)
				first, second := ask(order), ask(order)
				if assert.Equal(t, http.StatusOK, first.Status, first.Body) && assert.Equal(t, http.StatusOK, second.Status, second.Body) {
					assert.Equal(t, first.Payment(t)["imp_uid"], second.Payment(t)["imp_uid"])
				}
				mu.Lock()
				orders = append(orders, order)
				mu.Unlock()
			}
		})
	}
	stop = sync.OnceValue(func() []string {
		close(ended)
		asking.Wait()
		return orders
	})
	t.Cleanup(func() { stop() })
	return stop
}

const movedLine = "the orders of the ledger were moved"

// From the file to a database and back, while apps ask.
func TestLedgerMovesOverAReload(t *testing.T) {
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		db := newDatabase(t, dbtest.Shared(t, kind))
		g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Database: db.DSN})
		file, database := g.Ledger, g.Fill(storeOf[kind]+" DATABASE")
		at := func(place, from string) string {
			return strings.Replace(config, "ledger "+file, "ledger "+place+" {\nfrom "+from+"\n}", 1)
		}
		require.NoError(t, gatewaytest.Reload(t, config))
		t.Cleanup(func() { _ = caddy.Stop() })
		early := g.MustIssue(t, "early")
		stop := askOn(t, g)
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, at(database, file)))
		g.WaitForLine(t, `"level":"info"`, movedLine, `"from":"`+file+`"`, `"to":"`+storeOf[kind]+`"`)
		g.WaitForLine(t, "the ledger is up again") // with what was issued meanwhile
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, at(database, file)+"\n# changed"), "from may stay")
		assert.Equal(t, early.ImpUID, issueAgain(g, "early").Payment(t)["imp_uid"])
		g.HTTP.CloseIdleConnections()
		require.ErrorContains(t, gatewaytest.Reload(t, config), "the ledger was moved away: to "+storeOf[kind])

		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, at(file, database)))
		g.WaitForLine(t, `"level":"info"`, movedLine, `"from":"`+storeOf[kind]+`"`, `"to":"`+file+`"`)
		g.HTTP.CloseIdleConnections()
		orders := append(stop(), "early")
		payments := make(map[string]int)
		for _, p := range g.API.Payments() {
			payments[p.MerchantUID]++
		}
		for _, order := range orders {
			assert.Equal(t, 1, payments[order], order)
		}
		require.Eventually(t, func() bool { return !openLedger(t, g).Down() }, 10*time.Second, 10*time.Millisecond)
		for _, order := range orders {
			row, err := rowOf(t, g, order)
			require.NoError(t, err, order)
			assert.Len(t, row.Attempts, 1, order)
		}
		t.Logf("%d orders", len(orders))
	})
}

// A place behind from that was added while the ledger is open is moved at the reload, and then forgotten.
func TestFromIsAddedToAnOpenLedger(t *testing.T) {
	server := dbtest.Shared(t, dbtest.Postgres)
	db := newDatabase(t, server)
	g, config := gatewaytest.Prepare(t, inDatabase(dbtest.Postgres, db.DSN))
	fillFile(t, g.Ledger, "old-1", "old-2")
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { _ = caddy.Stop() })
	with := strings.Replace(config, "ledger postgres "+g.Database, "ledger postgres "+g.Database+" {\nfrom "+g.Ledger+"\n}", 1)
	before := openedLedgers.Load()
	for range 2 {
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, with+"\n#"))
		g.WaitForLine(t, movedLine, `"rows":2`)
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, config))
	}
	assert.Equal(t, before, openedLedgers.Load())
	assert.Equal(t, 1, strings.Count(g.Log(t), movedLine))
	assert.Equal(t, [][]string{{"2"}}, server.Query(t, db.Name, "SELECT COUNT(*) FROM caddy_cvs_orders"))
}

// fillFile makes a ledger in a file with a row for each order.
func fillFile(t *testing.T, path string, orders ...string) {
	t.Helper()
	store, err := boltstore.Open(path, boltstore.Options{})
	require.NoError(t, err)
	for _, order := range orders {
		row := &ledger.Row{Format: ledger.Format, Order: order, Version: 1, Due: 1 << 60, Attempts: []ledger.Attempt{
			{ID: "a" + order, State: ledger.Issued, ImpUID: "imp_" + order, Amount: "15000", Asked: time.Now().UnixMilli(), Since: time.Now().UnixMilli(), Next: 1 << 60},
		}}
		require.NoError(t, store.Put(t.Context(), row, 0, false))
	}
	require.NoError(t, store.Close())
}

func TestFromAFileThatIsMissing(t *testing.T) {
	t.Parallel()
	old := gatewaytest.LedgerFile(t)
	setup := gatewaytest.Setup{Ledger: "LEDGER {\nfrom " + old + "\n}"}
	require.ErrorContains(t, startError(t, setup), "from: there is no ledger to move: correct the path, or remove from")
	_, err := os.Stat(old)
	require.ErrorIs(t, err, os.ErrNotExist, "it is not created")

	fillFile(t, old, "order-1")
	g, config := gatewaytest.Prepare(t, setup)
	for range 2 { // moved, then gone
		gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
			app, err := ctx.App("cvs")
			require.NoError(t, err)
			a := app.(*App)
			require.NoError(t, a.Start())
			assert.False(t, a.ledger.used.Down())
			row, err := a.ledger.used.Row(t.Context(), ledger.Key{Order: "order-1"})
			require.NoError(t, err)
			assert.Len(t, row.Attempts, 1)
			a.releaseLedger()
		})
		_ = os.Remove(old)
	}
	assert.Equal(t, 1, strings.Count(g.Log(t), movedLine))
}

// Another process holds the source: the site starts, and has the orders soon after that one has ended.
func TestFromAFileThatIsLocked(t *testing.T) {
	t.Parallel()
	old := gatewaytest.LedgerFile(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Ledger: "LEDGER {\nfrom " + old + "\n}"})
	other, err := boltstore.Open(old, boltstore.Options{})
	require.NoError(t, err)
	gatewaytest.Run(t, config)
	first := g.MustIssue(t, "order-1")
	g.WaitForLine(t, `"level":"error"`, "the ledger is down", "in use by another process")
	require.NoError(t, other.Close())
	g.WaitForLine(t, movedLine)
	assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
	require.Eventually(t, func() bool { _, err := rowOf(t, g, "order-1"); return err == nil }, 5*time.Second, 5*time.Millisecond)
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointIssue))
}

// What a move meets after the start goes to the log, once.
func TestMoveThatFailsLater(t *testing.T) {
	t.Parallel()
	old := gatewaytest.LedgerFile(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Ledger: "LEDGER {\nfrom " + old + "\n}"})
	other, err := boltstore.Open(old, boltstore.Options{})
	require.NoError(t, err)
	gatewaytest.Run(t, config)
	g.MustIssue(t, "order-1")
	require.NoError(t, os.Remove(old)) // still open
	require.NoError(t, other.Close())
	g.WaitForLine(t, `"level":"error"`, "the ledger cannot be used before the orders of its former place are moved", "there is no ledger to move")
	assert.True(t, openLedger(t, g).Down())
}

// Orders that take long to move are moved after the start.
func TestStartDoesNotWaitForALongMove(t *testing.T) {
	before := firstMove
	firstMove = 0
	t.Cleanup(func() { firstMove = before })
	old := gatewaytest.LedgerFile(t)
	fillFile(t, old, "order-1")
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Ledger: "LEDGER {\nfrom " + old + "\n}"})
	gatewaytest.Run(t, config)
	g.MustIssue(t, "order-2")
	g.WaitForLine(t, `"level":"error"`, "the ledger is down", "are not moved yet")
	g.WaitForLine(t, movedLine, `"rows":1`)
	g.WaitForLine(t, "the ledger is up again")
	_, err := rowOf(t, g, "order-2")
	assert.NoError(t, err)
}

func TestSourceThatIsLockedForLong(t *testing.T) {
	t.Parallel()
	here, from := &knownPlace{store: ledgerFile, key: "/here", path: "/here"}, &knownPlace{store: ledgerFile, key: t.Name(), path: "/from"}
	o := newStoreOpener(here, from, zap.NewNop)
	defer o.end()
	assert.ErrorIs(t, o.soon(boltstore.ErrLocked), ledger.ErrSoon)
	o.began = time.Now().Add(-soonAtMost)
	err := o.soon(boltstore.ErrLocked)
	require.NotErrorIs(t, err, ledger.ErrSoon)
	require.ErrorIs(t, err, boltstore.ErrLocked)
	openPlaces.add(from.key, 1)
	defer openPlaces.add(from.key, -1)
	assert.ErrorIs(t, o.soon(err), ledger.ErrSoon, "this process releases it")
}

// The time of the first move may end while the database is away. What its driver says of that shows its
// address.
func TestMoveThatLosesItsDatabase(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Shared(t, kind)
		db := newDatabase(t, server)
		proxy := dbtest.NewProxy(t, server.Addr())
		here, err := (&LedgerPlace{Store: storeOf[kind], DSN: gatewaytest.Placeholder(t, db.At(proxy.Addr()))}).resolve()
		require.NoError(t, err)
		target, err := here.database.Open(sqlstore.Options{})
		require.NoError(t, err)
		defer target.Close()
		proxy.Refuse()
		proxy.Cut()
		old := gatewaytest.LedgerFile(t)
		fillFile(t, old, "order-1")
		from := &knownPlace{store: ledgerFile, key: old, path: old}
		o := newStoreOpener(here, from, zap.NewNop)
		defer o.end()
		err = o.move(from, target)
		require.ErrorIs(t, err, ledger.ErrSoon)
		_, port, _ := strings.Cut(proxy.Addr(), ":")
		for _, part := range []string{db.Name, port} {
			assert.NotContains(t, err.Error(), part)
		}
	})
}

// A source that is a database is not asked any more once its orders were moved: it may be gone.
func TestFromADatabaseThatIsGone(t *testing.T) {
	t.Parallel()
	server := dbtest.Shared(t, dbtest.Postgres)
	db := newDatabase(t, server)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Database: db.DSN, Ledger: "LEDGER {\nfrom postgres DATABASE\n}"})
	for range 2 {
		gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
			app, err := ctx.App("cvs")
			require.NoError(t, err)
			a := app.(*App)
			require.NoError(t, a.Start())
			assert.False(t, a.ledger.used.Down())
			a.releaseLedger()
		})
		server.Exec(t, "", "DROP DATABASE IF EXISTS "+db.Name+" WITH (FORCE)")
	}
	assert.Equal(t, 1, strings.Count(g.Log(t), movedLine))
	err := startError(t, gatewaytest.Setup{Database: db.DSN, Ledger: "LEDGER {\nfrom postgres DATABASE\n}"})
	require.ErrorIs(t, err, sqlstore.ErrSetup, "another ledger has never seen it")
	require.NotContains(t, err.Error(), db.Name)
}

// A call of a configuration that was replaced by one with another ledger writes its outcome: the ledger
// stays open until then.
func TestLedgerStaysOpenForACallUnderWay(t *testing.T) {
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { _ = caddy.Stop() })
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "issue", Delay: time.Second, Times: 1}))
	answer := make(chan gatewaytest.Answer)
	go func() { answer <- issueAgain(g, "order-1") }()
	require.Eventually(t, func() bool { return g.API.Requests(emulator.EndpointIssue) == 1 }, 5*time.Second, time.Millisecond)
	other := gatewaytest.LedgerFile(t)
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, "ledger "+g.Ledger, "ledger "+other+" {\nfrom "+g.Ledger+"\n}", 1)))
	require.Equal(t, http.StatusOK, (<-answer).Status)
	g.WaitForLine(t, movedLine, `"rows":1`)
	g.Ledger = other
	require.Eventually(t, func() bool {
		row, err := rowOf(t, g, "order-1")
		return err == nil && len(row.Attempts) == 1 && row.Attempts[0].State == ledger.Issued
	}, 5*time.Second, 5*time.Millisecond)
}

// The drivers put the address of the server into their errors.
func TestErrorsHideTheAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"failed to connect to `user=cvs database=shop`: db.example:5432: dial error: lookup db.example: no such host": "failed to connect to `user=*** database=***`: ***: dial error: lookup ***: no such host",
		"dial tcp 10.1.2.3:5432: connect: connection refused":                                                         "dial tcp ***: connect: connection refused",
		"dial tcp [fd00::12:7]:5432: connect: connection refused":                                                     "dial tcp ***: connect: connection refused",
		"second.example:5433 (10.0.0.9): password authentication failed for user \"cvs\"":                             "*** (***): password authentication failed for user \"***\"",
		"tls: x509: certificate is valid for node-7.internal, *.internal, not db.example (SQLSTATE)":                  "tls: x509: certificate is valid for ***, not *** (SQLSTATE)",
		"secret/pw1 is shown": "*** is shown",
		"CREATE TABLE caddy_cvs_orders: workshop, cvs2, 15:04:05": "CREATE TABLE caddy_cvs_orders: workshop, cvs2, 15:04:05",
	} {
		p := &knownPlace{parts: partsPattern(ledgerPostgres, "postgres://cvs:secret%2Fpw1@db.example:5432,second.example:5433/shop")}
		err := p.hide(fmt.Errorf("%s: %w", text, ledger.ErrDown))
		assert.Equal(t, want+": "+ledger.ErrDown.Error(), err.Error())
		assert.ErrorIs(t, err, ledger.ErrDown)
	}
	p := &knownPlace{parts: partsPattern(ledgerMySQL, "cvs:secret/pw1@tcp(db.example:3306)/shop")}
	assert.EqualError(t, p.hide(errors.New("Access denied for user 'cvs'@'10.0.0.2' (using password: YES), db.example, secret/pw1, shop")),
		"Access denied for user '***'@'***' (using password: YES), ***, ***, ***")
	for _, p := range []*knownPlace{nil, {store: ledgerFile}} {
		assert.Equal(t, ledger.ErrDown, p.hide(ledger.ErrDown))
	}
	assert.NoError(t, p.hide(nil))
}

// A replaced configuration whose ledger is closed issues nothing: the app asks again, and reaches the new one.
func TestCallAfterTheLedgerWasReleased(t *testing.T) {
	t.Parallel()
	path := gatewaytest.LedgerFile(t)
	a := &App{Ledger: new(Ledger), ledger: &appLedger{needed: true, place: &knownPlace{store: ledgerFile, key: path, path: path}}, logger: zap.NewNop()}
	_, done, err := a.holdLedger()
	require.NoError(t, err)
	a.ledger.ended = true // as releaseLedger at a reload
	a.closeLedger(false)
	assert.True(t, openPlaces.has(path))
	require.NoError(t, a.ledger.used.store.ctx.Err())
	done()
	assert.False(t, openPlaces.has(path))
	require.Error(t, a.ledger.used.store.ctx.Err(), "a move under way ends")
	_, _, err = a.holdLedger()
	assert.ErrorIs(t, err, errEnded)
}
