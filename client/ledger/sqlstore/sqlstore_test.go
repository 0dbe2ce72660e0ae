package sqlstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/storetest"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// forEach tests with each kind of database.
func forEach(t *testing.T, test func(t *testing.T, server *dbtest.Server)) {
	t.Parallel()
	for _, kind := range dbtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, dbtest.Shared(t, kind))
		})
	}
}

// database reads an address.
func database(t testing.TB, kind dbtest.Kind, dsn string) *Database {
	t.Helper()
	read := Postgres
	if kind == dbtest.MariaDB {
		read = MySQL
	}
	d, err := read(dsn)
	require.NoError(t, err)
	return d
}

// open opens a store until the test ends.
func open(t testing.TB, d *Database) *Store {
	t.Helper()
	s, err := d.Open(Options{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// openNew opens a store in a new database.
func openNew(t testing.TB, server *dbtest.Server) *Store {
	t.Helper()
	return open(t, database(t, server.Kind(), server.NewDatabase(t).DSN))
}

func newRow(order string, impUIDs ...string) *ledger.Row {
	row := &ledger.Row{Format: ledger.Format, Order: order, Version: 1, Due: 1000, Attempts: []ledger.Attempt{{ID: "a", State: ledger.Asked, Amount: "15000"}}}
	for _, id := range impUIDs {
		row.Attempts = append(row.Attempts, ledger.Attempt{ID: "of " + id, State: ledger.Issued, ImpUID: id, Amount: "15000"})
	}
	return row
}

func TestStoreKeepsTheRulesOfAStore(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		opener := func() func(t *testing.T) *Store {
			var databases sync.Map
			return func(t *testing.T) *Store {
				d, known := databases.Load(t.Name())
				if !known {
					d = database(t, server.Kind(), server.NewDatabase(t).DSN)
					databases.Store(t.Name(), d)
				}
				s, err := d.(*Database).Open(Options{})
				require.NoError(t, err)
				return s
			}
		}
		rows, notes := opener(), opener()
		storetest.Run(t, func(t *testing.T) ledger.Store { return rows(t) })
		storetest.RunMovable(t, func(t *testing.T) ledger.Movable { return notes(t) })
	})
}

func TestAddressesAreRefusedWithoutBeingShown(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"", "s3cret", "postgres://u:s3cret@host:port/shop", "postgres://u:s3%ret@host/shop", "host=h sslmode=s3cret"} {
		if _, err := Postgres(dsn); assert.Error(t, err, dsn) || dsn == "" {
			assert.NotContains(t, err.Error(), "s3", dsn)
		}
	}
	for _, dsn := range []string{"", "s3cret", "u:s3cret@tcp(h)/", "u:s3cret@tcp(h)/shop?tls=s3cret"} {
		if _, err := MySQL(dsn); assert.Error(t, err, dsn) {
			assert.NotContains(t, err.Error(), "s3", dsn)
		}
	}
}

// Some character sets have characters whose last byte is a backslash. Whoever sends a notice chooses the imp_uid.
func TestCharacterSetsOfTheAddress(t *testing.T) {
	t.Parallel()
	server := dbtest.Shared(t, dbtest.MariaDB)
	d := server.NewDatabase(t)
	config, err := mysql.ParseDSN(d.DSN)
	require.NoError(t, err)
	for _, set := range []string{"gbk", "sjis", "big5", "euckr", "latin1"} {
		for _, param := range []string{"charset", "Character_Set_Client"} {
			config.Params = map[string]string{param: set}
			s := open(t, database(t, dbtest.MariaDB, config.FormatDSN()))
			for _, text := range []string{"日' OR 1=1 -- ", "日'本", "本\\", "가'\\"} {
				row := newRow(param+set+text, "imp_"+text)
				require.NoError(t, s.Put(t.Context(), row, 0, false), set)
				read, err := s.GetByImpUID(t.Context(), "", "imp_"+text)
				require.NoError(t, err, set)
				assert.Equal(t, row, read)
				require.NoError(t, s.Put(t.Context(), &ledger.Row{Order: row.Order, Version: 2}, 1, false))
			}
		}
	}
}

func TestModesOfMariaDB(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"EMPTY_STRING_IS_NULL", "ORACLE", "ANSI,NO_BACKSLASH_ESCAPES"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := dbtest.Start(t, dbtest.MariaDB, dbtest.Options{NoSync: true, Settings: map[string]string{"sql_mode": mode}})
			s := openNew(t, server)
			row := newRow("'\\'", "imp_1")
			require.NoError(t, s.Put(t.Context(), row, 0, false))
			read, err := s.Get(t.Context(), row.Key())
			require.NoError(t, err)
			assert.Equal(t, row, read)
		})
	}
}

// What became of a statement whose connection was lost is found out.
func TestLostConnections(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		proxy := dbtest.NewProxy(t, server.Addr())
		s := open(t, database(t, server.Kind(), server.NewDatabase(t).At(proxy.Addr())))
		for i, lose := range []func(string){proxy.LoseAnswer, proxy.LoseRequest} {
			order := fmt.Sprintf("order %d", i)
			for version, step := range []struct {
				text string
				row  *ledger.Row
			}{
				{"insert into caddy_cvs_orders", newRow(order)},
				{"update caddy_cvs_orders", newRow(order)},
				{"commit", newRow(order, "imp_"+order)},
				{"delete from caddy_cvs_orders", &ledger.Row{Format: ledger.Format, Order: order}},
			} {
				step.row.Version = uint64(version + 1)
				lose(step.text)
				assert.NoError(t, s.Put(t.Context(), step.row, uint64(version), false), step.text)
				assert.True(t, proxy.Lost(), step.text)
				if step.row.Empty() {
					_, err := s.Get(t.Context(), step.row.Key())
					assert.ErrorIs(t, err, ledger.ErrNotFound)
					continue
				}
				row, err := s.Get(t.Context(), step.row.Key())
				require.NoError(t, err)
				assert.Equal(t, step.row, row)
			}
		}
		lost := newRow("read")
		require.NoError(t, s.Put(t.Context(), lost, 0, false))
		proxy.LoseAnswer("select data")
		row, err := s.Get(t.Context(), lost.Key())
		require.NoError(t, err)
		assert.Equal(t, lost, row)
	})
}

// A backup, or a replica that has to acknowledge, may hold up every COMMIT. MySQL's driver gives it no context.
func TestCommitThatHangs(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.MariaDB, dbtest.Options{NoSync: true})
	s, err := database(t, dbtest.MariaDB, server.NewDatabase(t).DSN).Open(Options{})
	require.NoError(t, err)
	db, err := server.Superuser("")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	backup, err := db.Conn(t.Context())
	require.NoError(t, err)
	for _, stage := range []string{"START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"} {
		_, err = backup.ExecContext(t.Context(), "BACKUP STAGE "+stage)
		require.NoError(t, err)
	}
	endBackup := func() { _, _ = backup.ExecContext(context.WithoutCancel(t.Context()), "BACKUP STAGE END") }
	defer time.AfterFunc(10*time.Second, endBackup).Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	assert.ErrorIs(t, s.Put(ctx, newRow("order", "imp_1"), 0, false), context.DeadlineExceeded)
	assert.NoError(t, s.Close())
	assert.Less(t, time.Since(began), 5*time.Second)
	endBackup()
	assert.NoError(t, backup.Close())
}

func TestTwoFirstRowsAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		d := database(t, server.Kind(), server.NewDatabase(t).DSN)
		stores := make([]*Store, 4)
		var all sync.WaitGroup
		for i := range stores { // they make the tables at once, too
			all.Go(func() { stores[i] = open(t, d) })
		}
		all.Wait()
		for order := range 10 {
			won := make([]error, len(stores))
			for i, s := range stores {
				all.Go(func() {
					row := newRow(fmt.Sprint(order), "imp_1")
					row.Holder = fmt.Sprint(i)
					won[i] = s.Put(context.WithoutCancel(t.Context()), row, 0, false)
				})
			}
			all.Wait()
			row, err := stores[0].Get(t.Context(), ledger.Key{Order: fmt.Sprint(order)})
			require.NoError(t, err)
			for i, err := range won {
				if row.Holder == fmt.Sprint(i) {
					assert.NoError(t, err)
				} else {
					assert.ErrorIs(t, err, ledger.ErrConflict)
				}
			}
		}
	})
}

// A transaction that the database rolls back for the sake of another one has not written.
func TestSerializationFailuresAreConflicts(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		d := server.NewDatabase(t)
		if server.Kind() == dbtest.Postgres {
			server.Exec(t, "", "ALTER DATABASE "+d.Name+" SET default_transaction_isolation = 'serializable'")
		}
		s := open(t, database(t, server.Kind(), d.DSN))
		require.NoError(t, s.Put(t.Context(), newRow("order", "imp_0"), 0, false))
		for version := uint64(1); version < 20; version++ {
			var all sync.WaitGroup
			won := make([]error, 5)
			for i := range won {
				all.Go(func() {
					row := newRow("order", fmt.Sprintf("imp_%d_%d", version, i))
					row.Version = version + 1
					won[i] = s.Put(context.WithoutCancel(t.Context()), row, version, false)
				})
			}
			all.Wait()
			done := 0
			for _, err := range won {
				if err == nil {
					done++
				} else {
					assert.ErrorIs(t, err, ledger.ErrConflict)
				}
			}
			require.Equal(t, 1, done)
		}
	})
}

// A machine that has lost its power refuses nothing: it is silent. The other host is found all the same.
func TestFirstHostIsSilent(t *testing.T) {
	t.Parallel()
	server := dbtest.Shared(t, dbtest.Postgres)
	d := server.NewDatabase(t)
	open(t, database(t, dbtest.Postgres, d.DSN)) // makes the tables
	silent := dbtest.NewProxy(t, server.Addr())
	silent.Hold()
	s := open(t, database(t, dbtest.Postgres, strings.Replace(d.DSN, "@", "@"+silent.Addr()+",", 1)))
	require.NoError(t, s.Put(t.Context(), newRow("order", "imp_1"), 0, false))
}

// Where everybody has lost the rights in the schema public, there is no schema for the tables.
func TestNoSchemaForTheTables(t *testing.T) {
	t.Parallel()
	server := dbtest.Shared(t, dbtest.Postgres)
	d, other := server.NewDatabase(t), server.NewDatabase(t)
	server.Exec(t, d.Name, "REVOKE ALL ON SCHEMA public FROM PUBLIC", "GRANT CONNECT ON DATABASE "+d.Name+" TO "+other.User)
	_, err := database(t, dbtest.Postgres, server.DSN(d.Name, other.User, other.Password)).Open(Options{})
	assert.ErrorIs(t, err, ErrSetup)
	assert.ErrorContains(t, err, "CREATE TABLE")
}

// A database may end what waits for a lock for long. It works for others.
func TestStatementsThatTheDatabaseEnds(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		d := server.NewDatabase(t)
		lock := "SELECT * FROM caddy_cvs_orders FOR UPDATE"
		if server.Kind() == dbtest.Postgres {
			server.Exec(t, "", "ALTER ROLE "+d.User+" SET statement_timeout = '100ms'")
		} else {
			d.DSN += "?max_statement_time=0.1"
		}
		s := open(t, database(t, server.Kind(), d.DSN))
		require.NoError(t, s.Put(t.Context(), newRow("order"), 0, false))
		db, err := server.Superuser(d.Name)
		require.NoError(t, err)
		defer db.Close()
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(t.Context(), lock)
		require.NoError(t, err)
		ended := time.AfterFunc(300*time.Millisecond, func() { _ = tx.Rollback() })
		defer ended.Stop()
		later := newRow("order")
		later.Version = 2
		assert.NoError(t, s.Put(t.Context(), later, 1, false))
	})
}

// Rows are moved to a database that is far away, or slow: they do not wait for one of its connections until
// their time is over.
func TestMovingToADatabaseThatIsFarAway(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		from := openNew(t, server)
		const rows = 100
		for i := range rows {
			require.NoError(t, from.Put(t.Context(), newRow(fmt.Sprint(i), fmt.Sprint("imp_", i)), 0, false))
		}
		proxy := dbtest.NewProxy(t, server.Addr())
		to := open(t, database(t, server.Kind(), server.NewDatabase(t).At(proxy.Addr())))
		proxy.SetDelay(dbtest.ToServer, 30*time.Millisecond)
		summary, err := ledger.Move(t.Context(), ledger.Place{Movable: from, Name: "here"}, ledger.Place{Movable: to, Name: "there"})
		require.NoError(t, err)
		assert.Equal(t, ledger.Summary{Rows: rows, Written: rows}, summary)
	})
}

// A writer that is mistaken about the time is refused, and learns it.
func TestWriterWithAWrongTime(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		s := openNew(t, server)
		require.NoError(t, s.Put(t.Context(), newRow("order"), 0, false))
		for _, wrong := range []time.Duration{time.Minute, -time.Minute} {
			s.clock.mu.Lock()
			s.clock.known.milliseconds += wrong.Milliseconds()
			s.clock.mu.Unlock()
			later := newRow("order", "imp_1")
			later.Version = 2
			assert.ErrorIs(t, s.Put(t.Context(), later, 1, false), ledger.ErrConflict)
			assert.NoError(t, s.Put(t.Context(), newRow(fmt.Sprint("another ", wrong)), 0, false))
		}
		assert.InDelta(t, time.Now().UnixMilli(), s.Now(), 900)
	})
}

// While a machine sleeps its monotonic clock may stand still. The database is asked for the time as soon as
// it is needed.
func TestMachineThatSleeps(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		s := openNew(t, server)
		for _, wallOnly := range []bool{false, true} { // or the wall clock was set
			s.clock.mu.Lock()
			s.clock.known.wall -= time.Minute.Milliseconds()
			if !wallOnly {
				s.clock.known.milliseconds -= time.Minute.Milliseconds()
			}
			s.clock.mu.Unlock()
			s.Now()
			require.Eventually(t, func() bool {
				s.clock.mu.Lock()
				defer s.clock.mu.Unlock()
				return !s.clock.known.slept(time.Now())
			}, 5*time.Second, time.Millisecond)
			assert.InDelta(t, time.Now().UnixMilli(), s.Now(), 900)
		}
	})
}

func TestOnlyAPersonCanMend(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		d := server.NewDatabase(t)
		refused := func(dsn string) error {
			t.Helper()
			_, err := database(t, server.Kind(), dsn).Open(Options{})
			require.ErrorIs(t, err, ErrSetup)
			assert.NotContains(t, err.Error(), d.Password)
			return err
		}
		_ = refused(server.DSN(d.Name, d.User, "wrong"))
		_ = refused(server.DSN("missing", d.User, d.Password))

		other := server.NewDatabase(t) // its user may look into d, and make no table
		grants := []string{"GRANT SELECT ON " + d.Name + ".* TO " + other.User + "@'%'"}
		schema := d.Name
		if server.Kind() == dbtest.Postgres {
			grants = []string{"GRANT CONNECT ON DATABASE " + d.Name + " TO " + other.User}
			schema = ""
		}
		server.Exec(t, schema, grants...)
		dsn := server.DSN(d.Name, other.User, other.Password)
		err := refused(dsn)
		assert.ErrorIs(t, err, errTables)
		schemaText := database(t, server.Kind(), dsn).Schema()
		assert.Contains(t, err.Error(), schemaText)
		server.Exec(t, d.Name, strings.Split(strings.TrimSuffix(schemaText, ";\n"), ";\n")...)
		if server.Kind() == dbtest.Postgres {
			server.Exec(t, d.Name, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+other.User)
		} else {
			server.Exec(t, d.Name, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+d.Name+".* TO "+other.User+"@'%'")
		}
		s := open(t, database(t, server.Kind(), dsn))
		require.NoError(t, s.Put(t.Context(), newRow("order", "imp_1"), 0, false))

		server.Exec(t, d.Name, "ALTER TABLE caddy_cvs_orders DROP COLUMN writer")
		assert.Contains(t, refused(dsn).Error(), "ADD COLUMN")

		require.NoError(t, s.SetNote(t.Context(), formatNote, "2"))
		_, err = database(t, server.Kind(), server.DSN(d.Name, d.User, d.Password)).Open(Options{})
		if server.Kind() == dbtest.MariaDB { // in Postgres the superuser's tables are not the user's
			assert.ErrorIs(t, err, errNewer)
		}
		assert.ErrorIs(t, err, ErrSetup)
	})
}

func TestTablesOfAnOlderVersion(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		dsn := server.NewDatabase(t).DSN
		d := database(t, server.Kind(), dsn)
		s := open(t, d)
		row := newRow("order", "imp_1")
		require.NoError(t, s.Put(t.Context(), row, 0, false))
		for _, statement := range []string{"DROP COLUMN queue_due", "DROP COLUMN queue", "DROP COLUMN writer"} {
			_, err := s.db.ExecContext(t.Context(), "ALTER TABLE caddy_cvs_orders "+statement)
			require.NoError(t, err)
		}
		s = open(t, d)
		read, err := s.Get(t.Context(), row.Key())
		require.NoError(t, err)
		assert.Equal(t, row, read)
		row.Version, row.Queue, row.QueueDue = 2, "q", 5
		require.NoError(t, s.Put(t.Context(), row, 1, false))
		queued, err := s.Due(t.Context(), "q", 5, 1)
		require.NoError(t, err)
		assert.Equal(t, []*ledger.Row{row}, queued)
	})
}

func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	server := dbtest.Shared(t, dbtest.Postgres)
	d := server.NewDatabase(t)
	server.Exec(t, "", "ALTER DATABASE "+d.Name+" SET default_transaction_read_only = on")
	for _, wanted := range []string{"", "&target_session_attrs=read-only", "&target_session_attrs=prefer-standby"} {
		_, err := database(t, dbtest.Postgres, d.DSN+wanted).Open(Options{})
		require.ErrorContains(t, err, "read only connection", wanted)
		assert.NotErrorIs(t, err, ErrSetup, "a failover may be under way")
	}
}

// What was confirmed is there after a crash, whatever the server's default.
func TestWhatWasWrittenSurvivesACrash(t *testing.T) {
	t.Parallel()
	for kind, settings := range map[dbtest.Kind]map[string]string{
		dbtest.Postgres: {"synchronous_commit": "off", "wal_writer_delay": "10s"},
		dbtest.MariaDB:  {},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := dbtest.Start(t, kind, dbtest.Options{Settings: settings})
			d := database(t, kind, server.NewDatabase(t).DSN)
			s := open(t, d)
			require.NoError(t, s.Put(t.Context(), newRow("order"), 0, false))
			later := newRow("order", "imp_1")
			later.Version = 2
			require.NoError(t, s.Put(t.Context(), later, 1, true))
			require.NoError(t, server.Kill())
			_, err := s.Get(t.Context(), later.Key())
			require.Error(t, err)
			require.NoError(t, server.Start())
			row, err := open(t, d).Get(t.Context(), later.Key())
			require.NoError(t, err)
			assert.Equal(t, later, row)
		})
	}
}

func TestMariaDBThatMayLoseWrites(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.MariaDB, dbtest.Options{Settings: map[string]string{"innodb_flush_log_at_trx_commit": "2", "log_bin": "bin", "server_id": "1"}})
	d := database(t, dbtest.MariaDB, server.NewDatabase(t).DSN)
	var warnings []string
	s, err := d.Open(Options{Warn: func(message string) { warnings = append(warnings, message) }})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Len(t, warnings, 1)
	assert.Contains(t, warnings[0], "innodb_flush_log_at_trx_commit is 2, not 1, and sync_binlog is 0, not 1: ")

	server.Exec(t, "", "SET GLOBAL read_only = 1")
	_, err = d.Open(Options{})
	require.ErrorContains(t, err, "read-only")
	assert.NotErrorIs(t, err, ErrSetup)
}

func TestRowsThatCannotBeKept(t *testing.T) {
	forEach(t, func(t *testing.T, server *dbtest.Server) {
		s := openNew(t, server)
		long := strings.Repeat("x", 600)
		queued := newRow("order")
		queued.Queue = ledger.Queue(long)
		for _, row := range []*ledger.Row{newRow(long), newRow("order", long), queued} {
			assert.ErrorIs(t, s.Put(t.Context(), row, 0, false), errLong)
		}
		require.NoError(t, s.Put(t.Context(), newRow("order", "imp_1"), 0, false))
		server.Exec(t, databaseOf(t, s), "UPDATE caddy_cvs_orders SET data = 'x', imp_uids = 'x'")
		row, err := s.Get(t.Context(), ledger.Key{Order: "order"})
		require.NoError(t, err)
		assert.Greater(t, row.Format, ledger.Format, "it is left alone")
		assert.Equal(t, ledger.Key{Order: "order"}, row.Key())
		due, err := s.Due(t.Context(), ledger.Looks, 4_000_000_000_000, 10)
		require.NoError(t, err)
		for _, row := range due {
			assert.NotEqual(t, "order", row.Order)
		}
		later := newRow("order")
		later.Version = 2
		assert.ErrorIs(t, s.Put(t.Context(), later, 1, false), errRow)
	})
}

// databaseOf returns the name of a store's database.
func databaseOf(t *testing.T, s *Store) (name string) {
	t.Helper()
	query := "SELECT current_database()"
	if s.name == "MySQL" {
		query = "SELECT DATABASE()"
	}
	require.NoError(t, s.db.QueryRowContext(t.Context(), query).Scan(&name))
	return name
}

// MariaDB's default lets a power failure take the end of the binary log, and a crash then undoes what that
// lacks. This is why there is a warning.
func TestUnsyncedBinaryLogLosesWrites(t *testing.T) {
	t.Parallel()
	server := dbtest.Start(t, dbtest.MariaDB, dbtest.Options{Settings: map[string]string{"log_bin": "bin", "server_id": "1"}})
	d := database(t, dbtest.MariaDB, server.NewDatabase(t).DSN)
	s := open(t, d)
	dir, synced := server.Query(t, "", "SELECT @@datadir")[0][0], server.Query(t, "", "SHOW MASTER STATUS")[0]
	require.NoError(t, s.Put(t.Context(), newRow("order"), 0, false))
	require.NoError(t, server.Kill())
	size, err := strconv.ParseInt(synced[1], 10, 64)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(dir, synced[0]), size))
	require.NoError(t, server.Start())
	_, err = open(t, d).Get(t.Context(), ledger.Key{Order: "order"})
	assert.ErrorIs(t, err, ledger.ErrNotFound)
}
