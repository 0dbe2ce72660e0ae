package dbtest

// This file holds tests of a server's life: what it keeps, and what it leaves behind.

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// forEach runs a test with each kind of server.
func forEach(t *testing.T, test func(t *testing.T, kind Kind)) {
	t.Helper()
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// open opens a database at an address that the package has given.
func open(t *testing.T, kind Kind, dsn string) *sql.DB {
	t.Helper()
	driver := "mysql"
	if kind == Postgres {
		driver = "pgx"
	}
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// do runs statements.
func do(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

// brief is a context that ends while a server is paused.
func brief(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// What is committed survives a kill and a stop, and nothing else does. The address stays.
func TestServerKeepsWhatIsCommitted(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		s := Start(t, kind, Options{})
		require.Equal(t, kind, s.Kind())
		require.ErrorIs(t, s.Start(), errRunning)
		d := s.NewDatabase(t)
		db := open(t, kind, d.DSN)
		do(t, db, "CREATE TABLE a (b INT)", "INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (NULL)")
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), "INSERT INTO a VALUES (2)")
		require.NoError(t, err)

		addr := s.Addr()
		require.NoError(t, s.Kill())
		require.Error(t, tx.Commit())
		require.Error(t, db.PingContext(t.Context()))
		for _, down := range []func() error{s.Kill, s.Stop, s.Restart, s.Pause, s.Continue} {
			require.ErrorIs(t, down(), errDown)
		}
		require.NoError(t, s.Start())
		want := [][]string{{"1"}, {"NULL"}}
		assert.Equal(t, want, s.Query(t, d.Name, "SELECT b FROM a"))
		require.NoError(t, db.PingContext(t.Context()), "a user finds the server where it was")

		require.NoError(t, s.Stop())
		_, err = net.Dial("tcp", addr)
		require.Error(t, err)
		require.NoError(t, s.Start())
		require.NoError(t, s.Restart())
		assert.Equal(t, want, s.Query(t, d.Name, "SELECT b FROM a"))
		assert.Equal(t, addr, s.Addr())
	})
}

// A paused server answers nobody, also those that are connected, and goes on afterwards. It
// can be killed.
func TestPausedServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		s := Start(t, kind, Options{NoSync: true})
		d := s.NewDatabase(t)
		connected, other := open(t, kind, d.DSN), open(t, kind, d.DSN)
		idle, err := connected.Conn(t.Context())
		require.NoError(t, err)
		do(t, connected, "CREATE TABLE a (b INT)")

		require.NoError(t, s.Pause())
		_, err = connected.ExecContext(brief(t), "INSERT INTO a VALUES (1)")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, other.PingContext(brief(t)), context.DeadlineExceeded)
		require.NoError(t, s.Continue())
		require.NoError(t, idle.PingContext(t.Context()), "a connection of before the pause")
		require.NoError(t, other.PingContext(t.Context()))

		require.NoError(t, s.Pause())
		require.NoError(t, s.Kill())
		require.NoError(t, s.Start())
		require.NoError(t, other.PingContext(t.Context()))
	})
}

// A server is what its documentation says by default, and its options change that.
func TestSettings(t *testing.T) {
	t.Parallel()
	usual := map[Kind][]string{
		Postgres: {"fsync=on", "full_page_writes=on", "synchronous_commit=on", "max_connections=100", "default_transaction_isolation=read committed"},
		MariaDB: {
			"innodb_flush_log_at_trx_commit=1", "innodb_doublewrite=ON", "performance_schema=OFF", "max_connections=151", "tx_isolation=REPEATABLE-READ",
			"sql_mode=STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION",
		},
	}
	changed := map[Kind]struct {
		settings map[string]string
		want     []string
	}{
		Postgres: {map[string]string{"default_transaction_isolation": "serializable"}, []string{"fsync=off", "synchronous_commit=on", "max_connections=13", "default_transaction_isolation=serializable"}},
		MariaDB:  {map[string]string{"innodb_flush_log_at_trx_commit": "2"}, []string{"innodb_flush_method=nosync", "innodb_flush_log_at_trx_commit=2", "max_connections=13"}},
	}
	forEach(t, func(t *testing.T, kind Kind) {
		check := func(s *Server, want []string) {
			for _, setting := range want {
				name, value, _ := strings.Cut(setting, "=")
				query := "SELECT @@global." + name
				if kind == Postgres {
					query = "SHOW " + name
				}
				got := s.Query(t, "", query)[0][0]
				got = strings.NewReplacer("\x00", "").Replace(got)
				if got == "1" && (value == "ON") || got == "0" && value == "OFF" {
					got = value
				}
				assert.Equal(t, value, got, name)
			}
		}
		check(Start(t, kind, Options{}), usual[kind])
		check(Start(t, kind, Options{NoSync: true, MaxConnections: 13, Settings: changed[kind].settings}), changed[kind].want)
	})
}

// While users have all connections, a superuser still gets one.
func TestFullServer(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		s := Start(t, kind, Options{NoSync: true, MaxConnections: 10})
		d := s.NewDatabase(t)
		db := open(t, kind, d.DSN)
		var err error
		for n := 0; err == nil; n++ {
			require.LessOrEqual(t, n, 10)
			_, err = db.Conn(t.Context())
		}
		require.Regexp(t, "(?i)too many connections|remaining connection slots", err.Error())
		knocking, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			for knocking.Err() == nil {
				_ = db.PingContext(knocking)
			}
		}()
		for range 20 {
			assert.Equal(t, [][]string{{"1"}}, s.Query(t, d.Name, "SELECT 1"))
		}
	})
}

// recorder is a test that notes why it ends.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.failed = fmt.Sprint(args...)
	runtime.Goexit()
}

// record runs what may end the test, and returns how it did.
func record(t *testing.T, run func(t testing.TB)) *recorder {
	t.Helper()
	r, done := &recorder{TB: t}, make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r
}

// Not parallel: it ends the shared servers.
func TestSharedServer(t *testing.T) {
	for _, kind := range Kinds {
		s := Shared(t, kind)
		require.Same(t, s, Shared(t, kind))
		s.NewDatabase(t)
		dir := s.dir
		Stop()
		require.NoDirExists(t, dir)
		require.NotSame(t, s, Shared(t, kind))
	}
}
