package dbtest

// This file holds tests of the databases and users that tests get.

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A user has all rights in the database of its own and none in another, and needs its password.
func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		s := Shared(t, kind)
		a, b := s.NewDatabase(t), s.NewDatabase(t)
		for _, d := range []Database{a, b} {
			do(t, open(t, kind, d.DSN), "CREATE TABLE a (b INT)", "ALTER TABLE a ADD c INT", "CREATE INDEX d ON a (b)", "INSERT INTO a (b) VALUES (1)", "DROP TABLE a", "CREATE TABLE a (b INT)", "INSERT INTO a VALUES (1)")
		}
		s.Exec(t, a.Name, "UPDATE a SET b = 2", "INSERT INTO a VALUES (3)")
		assert.Equal(t, [][]string{{"2", "x"}, {"3", "x"}}, s.Query(t, a.Name, "SELECT b, 'x' FROM a ORDER BY b"))
		assert.Equal(t, [][]string{{"1"}}, s.Query(t, b.Name, "SELECT b FROM a"))
		assert.Empty(t, s.Query(t, b.Name, "SELECT b FROM a WHERE b = 2"))

		for name, dsn := range map[string]string{
			"another's database": s.DSN(b.Name, a.User, a.Password),
			"another's password": s.DSN(a.Name, a.User, b.Password),
			"no password":        s.DSN(a.Name, a.User, ""),
			"the superuser":      s.DSN(a.Name, s.superuser(), ""),
		} {
			err := open(t, kind, dsn).PingContext(t.Context())
			assert.Regexp(t, "(?i)denied|password authentication failed|empty password", err, name)
		}
	})
}

// A statement that fails ends the test.
func TestStatementFails(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		s := Shared(t, kind)
		assert.Contains(t, record(t, func(t testing.TB) { s.Exec(t, "", "SELECT 1", "SELECT nothing") }).failed, "SELECT nothing: ")
		assert.Contains(t, record(t, func(t testing.TB) { s.Query(t, "", "SELECT nothing") }).failed, "SELECT nothing: ")
		require.Contains(t, s.Log(), "ready ")
	})
}
