package caddycvs

// This file holds the tests of what the README says about a ledger in a database: what is to be run in it
// before, and the operator's queries.

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/sqlstore"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// readmeSQL returns the statements of the README's part that begins with these words, for a kind of
// database: each part has Postgres first.
func readmeSQL(t *testing.T, begin string, kind dbtest.Kind) (statements []string) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, part, found := strings.Cut(string(readme), begin)
	require.True(t, found)
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(part, 2)
	require.Len(t, blocks, 2)
	block := blocks[map[dbtest.Kind]int{dbtest.Postgres: 0, dbtest.MariaDB: 1}[kind]][1]
	for statement := range strings.SplitSeq(strings.TrimSpace(block), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}

// The user that the README makes can make the tables, and use them.
func TestREADMEsDatabaseUser(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Start(t, kind, dbtest.Options{NoSync: true}) // the user's name is the README's
		database := "caddy_cvs"
		if kind == dbtest.Postgres {
			database = newDatabase(t, server).Name
		}
		const password = "a-password"
		gatewaytest.AddSecret(password)
		statements := readmeSQL(t, "**What to give it.**", kind)
		within := map[dbtest.Kind]string{dbtest.Postgres: database}[kind]
		server.Exec(t, within, statements...)
		if kind == dbtest.Postgres { // that of the test lets nobody in but its owner
			server.Exec(t, within, "GRANT CONNECT ON DATABASE "+database+" TO caddy_cvs")
		}
		g := gatewaytest.Start(t, inDatabase(kind, server.DSN(database, "caddy_cvs", password)))
		first := g.MustIssue(t, "order-1")
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
		assert.Equal(t, [][]string{{"1"}}, server.Query(t, database, "SELECT COUNT(*) FROM caddy_cvs.caddy_cvs_orders"))
	})
}

// An operator sees in the database what the gateway knows.
func TestREADMEsQueries(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Shared(t, kind)
		db := newDatabase(t, server)
		g := gatewaytest.Start(t, inDatabase(kind, db.DSN)) // makes the tables
		g.MustIssue(t, "A-1001")
		require.Eventually(t, func() bool {
			return strings.Contains(server.Query(t, db.Name, readmeSQL(t, "**What the tables hold**", kind)[0])[0][0], `"state":"issued"`)
		}, 10*time.Second, 5*time.Millisecond)
		read := map[dbtest.Kind]func(string) (*sqlstore.Database, error){dbtest.Postgres: sqlstore.Postgres, dbtest.MariaDB: sqlstore.MySQL}[kind]
		database, err := read(db.DSN)
		require.NoError(t, err)
		store, err := database.Open(sqlstore.Options{})
		require.NoError(t, err)
		defer store.Close()
		paid := func(impUID string) ledger.Attempt {
			return ledger.Attempt{ID: "of " + impUID, State: ledger.Paid, ImpUID: impUID, Amount: "15000", Asked: 1_796_000_000_000}
		}
		second := paid("imp_2")
		second.Asked++
		for _, row := range []*ledger.Row{
			{Order: "\x00", Mark: &ledger.Mark{Born: 1}},
			{Order: "두-번", Attempts: []ledger.Attempt{second, paid("imp_1")}},
			{Order: "to-hear", Queue: ledger.TellQueue(""), QueueDue: 1, Attempts: []ledger.Attempt{paid("imp_3")}, Telling: ledger.Telling{Since: 1_796_000_100_000, Tries: 2, Cause: "the shop answers 404"}},
			{Order: "longer", Queue: ledger.TellQueue("second"), QueueDue: 9, Account: "second", Attempts: []ledger.Attempt{paid("imp_4")}, Telling: ledger.Telling{Since: 1_796_000_000_000}},
			{Order: "waits", Queue: ledger.PersonQueue(""), QueueDue: 1, Attempts: []ledger.Attempt{paid("imp_5")}, Telling: ledger.Telling{Waiting: 1_796_000_000_000, Cause: "the amount is another one"}},
			{Order: "void", Attempts: []ledger.Attempt{{ID: "v", State: ledger.Void, ImpUID: "imp_6", Amount: "1", Happenings: []ledger.Happening{{Event: tell.Paid}}}}},
		} {
			row.Format, row.Version, row.Due = ledger.Format, 1, 4_000_000_000_000
			require.NoError(t, store.Put(t.Context(), row, 0, false))
		}
		var answers []string
		for _, query := range readmeSQL(t, "**What the tables hold**", kind) {
			var lines []string
			for _, row := range server.Query(t, db.Name, query) {
				lines = append(lines, strings.Join(row, "|"))
			}
			answers = append(answers, strings.Join(lines, "\n"))
		}
		require.Len(t, answers, 5)
		assert.Contains(t, answers[0], `"order":"A-1001"`)
		assert.NotContains(t, answers[0], gatewaytest.BuyerName)
		assert.Equal(t, "issued|1\npaid|5\nvoid|1", answers[1])
		assert.Regexp(t, `^longer\|2026-11-\d\d.*\|NULL\|NULL\nto-hear\|2026-11-\d\d.*\|2\|the shop answers 404$`, answers[2])
		assert.Regexp(t, `^waits\|2026-11-\d\d.*\|the amount is another one$`, answers[3])
		assert.Equal(t, "두-번|imp_1 imp_2", answers[4])
	})
}
