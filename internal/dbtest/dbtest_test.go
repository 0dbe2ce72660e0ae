package dbtest

import (
	"database/sql"
	"os"
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

func TestStart(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		began := time.Now()
		s := Start(t, kind, Options{})
		t.Log("start", time.Since(began))
		d := s.NewDatabase(t)
		db := open(t, kind, d.DSN)
		_, err := db.ExecContext(t.Context(), "CREATE TABLE a (b INT)")
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "INSERT INTO a VALUES (1), (NULL)")
		require.NoError(t, err)
		assert.Equal(t, [][]string{{"1"}, {"NULL"}}, s.Query(t, d.Name, "SELECT b FROM a"))
		began = time.Now()
		require.NoError(t, s.Kill())
		require.Error(t, db.PingContext(t.Context()))
		require.NoError(t, s.Start())
		t.Log("restart", time.Since(began))
		assert.Equal(t, [][]string{{"1"}, {"NULL"}}, s.Query(t, d.Name, "SELECT b FROM a"))
		began = time.Now()
		require.NoError(t, s.Restart())
		t.Log("restart", time.Since(began))
	})
}
