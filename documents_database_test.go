package caddycvs

// This file holds the tests of what the documents say about a ledger in a database: what is to be run in it
// before, and the operator's queries.

import (
	"cmp"
	"fmt"
	"net/http"
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

// documentedSQL returns the statements of the part of the documents that begins with these words, for a kind of
// database: each part has Postgres first.
func documentedSQL(t *testing.T, begin string, kind dbtest.Kind) (statements []string) {
	t.Helper()
	_, part, found := strings.Cut(documents(t), begin)
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

// documentedLedger returns the option ledger of the documents' Caddyfile for a kind of database.
func documentedLedger(t *testing.T, kind dbtest.Kind) string {
	t.Helper()
	for _, block := range fenced(t, "caddyfile") {
		match := regexp.MustCompile(`(?s)\n\t\tledger (` + storeOf[kind] + ` \{env\.CVS_DATABASE\} \{.*?\n\t\t\})`).FindStringSubmatch(block)
		if match != nil {
			return strings.ReplaceAll(match[1], "{env.CVS_DATABASE}", "DATABASE")
		}
	}
	require.Fail(t, "no Caddyfile", kind)
	return ""
}

const passwordInDocs = "a-password"

// documentedDatabase runs what a part of the documents says of a user, and returns the name and the address of the
// database.
func documentedDatabase(t *testing.T, server *dbtest.Server, begin string) (name, dsn string) {
	t.Helper()
	gatewaytest.AddSecret(passwordInDocs)
	name, within, statements := "caddycvs", "", documentedSQL(t, begin, server.Kind())
	if server.Kind() == dbtest.Postgres {
		name = newDatabase(t, server).Name
		within = name
		statements = append(statements, "GRANT CONNECT ON DATABASE "+name+" TO caddy_cvs") // that of the test lets nobody in but its owner
	}
	server.Exec(t, within, statements...)
	return name, server.DSN(name, "caddy_cvs", passwordInDocs)
}

// The user that the documents make can make the tables, and use them, with the documents' Caddyfile.
func TestDocumentedDatabaseUser(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Start(t, kind, dbtest.Options{NoSync: true}) // the user's name is the documents'
		name, dsn := documentedDatabase(t, server, "**What to give it.**")
		former := gatewaytest.LedgerFile(t)
		fillFile(t, former, "order-1", "former")
		option := strings.ReplaceAll(documentedLedger(t, kind), "/var/lib/shop/cvs.db", former)
		g := gatewaytest.Start(t, gatewaytest.Setup{Ledger: option, Database: dsn})
		first := g.MustIssue(t, "order-2")
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-2").ImpUID)
		count := map[bool]string{false: "1", true: "3"}[strings.Contains(option, "from ")]
		assert.Equal(t, [][]string{{count}}, server.Query(t, name, "SELECT COUNT(*) FROM "+map[dbtest.Kind]string{dbtest.Postgres: "caddy_cvs.", dbtest.MariaDB: ""}[kind]+"caddy_cvs_orders"))
	})
}

// A user who may not make tables is told what to have run, and then can use them.
func TestDocumentedDatabaseUserWhoMakesNoTables(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		server := dbtest.Start(t, kind, dbtest.Options{NoSync: true})
		name, dsn := documentedDatabase(t, server, "**If the user may not make tables**")
		err := startError(t, inDatabase(kind, dsn))
		require.Error(t, err)
		_, script, found := strings.Cut(err.Error(), "DELETE:\n")
		require.True(t, found, err)
		var statements []string
		if kind == dbtest.Postgres {
			const path = "SET search_path TO caddy_cvs;"
			require.Contains(t, documents(t), path)
			statements = []string{path}
		}
		server.Exec(t, name, append(statements, strings.Split(strings.TrimSuffix(strings.TrimSpace(script), ";"), ";\n")...)...)
		g := gatewaytest.Start(t, inDatabase(kind, dsn))
		first := g.MustIssue(t, "order-1")
		assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
		assert.Equal(t, [][]string{{"1"}}, server.Query(t, name, "SELECT COUNT(*) FROM "+map[dbtest.Kind]string{dbtest.Postgres: "caddy_cvs.", dbtest.MariaDB: ""}[kind]+"caddy_cvs_orders"))
	})
}

// answersOf returns what the documents' queries find, a line for each row.
func answersOf(t *testing.T, server *dbtest.Server, database string) (answers []string) {
	t.Helper()
	for _, query := range documentedSQL(t, "**What the tables hold**", server.Kind()) {
		var lines []string
		for _, row := range server.Query(t, database, query) {
			lines = append(lines, strings.Join(row, "|"))
		}
		answers = append(answers, strings.Join(lines, "\n"))
	}
	require.Len(t, answers, 5)
	return answers
}

// fillByGateway has a gateway issue two barcodes. One is paid, and the shop refuses to hear of it.
func fillByGateway(t *testing.T, server *dbtest.Server, db dbtest.Database) (personal []string) {
	t.Helper()
	t.Run("gateway", func(t *testing.T) { // it ends with the test: nothing is written afterwards
		setup := inDatabase(server.Kind(), db.DSN)
		setup.Proxy, setup.Notice = gatewaytest.UsualProxy+"\nnotice_url OUTSIDE/cvs/notice", "tell SHOP/payments {\nrequire heard true\n}"
		setup.Payable = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"payable":true,"total":15000,"heard":false}`)
		}
		g := gatewaytest.Start(t, setup)
		open, paid := g.MustIssue(t, "A-1001"), g.MustIssue(t, "A-1002")
		till := g.Do(t, http.MethodPost, g.APIURL+"/till", gatewaytest.FormType, "pay_type=cash&barcode="+paid.Barcode)
		require.Equal(t, http.StatusOK, till.Status, till.Body)
		require.Eventually(t, func() bool {
			answers := answersOf(t, server, db.Name)
			return strings.Contains(answers[0], `"state":"issued"`) && strings.Contains(answers[2], "heard")
		}, 20*time.Second, 20*time.Millisecond)
		personal = []string{gatewaytest.BuyerName, gatewaytest.BuyerTel, gatewaytest.BuyerEmail, open.Barcode, paid.Barcode}
	})
	return personal
}

// fillByHand adds the rows of orders with which something is wrong.
func fillByHand(t *testing.T, kind dbtest.Kind, db dbtest.Database) {
	t.Helper()
	read := map[dbtest.Kind]func(string) (*sqlstore.Database, error){dbtest.Postgres: sqlstore.Postgres, dbtest.MariaDB: sqlstore.MySQL}[kind]
	database, err := read(db.DSN)
	require.NoError(t, err)
	store, err := database.Open(sqlstore.Options{})
	require.NoError(t, err)
	defer store.Close()
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
	paid := func(impUID string, asked time.Duration, late bool) ledger.Attempt {
		return ledger.Attempt{ID: "of " + impUID, State: ledger.Paid, ImpUID: impUID, Amount: "15000", Asked: ago(asked), Late: late}
	}
	const day = 24 * time.Hour
	for _, row := range []*ledger.Row{
		{Order: "\x00", Account: "second", Due: 1, Mark: &ledger.Mark{Born: 1}},
		{Order: "두-번", Attempts: []ledger.Attempt{paid("imp_2", time.Hour, false), paid("imp_1", 2*time.Hour, false)}},
		{Order: "too-late", Due: ago(1000 * time.Second), Attempts: []ledger.Attempt{paid("imp_3", 40*day+time.Hour, true)}},
		{Order: "to-hear", Account: "second", Queue: ledger.TellQueue("second"), QueueDue: 9, Attempts: []ledger.Attempt{paid("imp_4", 3*day, false)}, Telling: ledger.Telling{Since: ago(2*day + 30*time.Second)}},
		{Order: "waits", Queue: ledger.PersonQueue(""), QueueDue: 1, Attempts: []ledger.Attempt{paid("imp_5", 3*day, false)}, Telling: ledger.Telling{Waiting: ago(90*time.Minute + 30*time.Second), Cause: "the amount is another one"}},
		{Order: "void", Attempts: []ledger.Attempt{{ID: "v", State: ledger.Void, ImpUID: "imp_6", Amount: "1", Asked: ago(day), Happenings: []ledger.Happening{{Event: tell.Paid}}}}},
	} {
		row.Format, row.Version, row.Due = ledger.Format, 1, cmp.Or(row.Due, 4_000_000_000_000)
		require.NoError(t, store.Put(t.Context(), row, 0, false))
	}
}

// An operator sees in the database what the gateway knows, and nothing personal.
func TestDocumentedQueries(t *testing.T) {
	t.Parallel()
	onDatabases(t, func(t *testing.T, kind dbtest.Kind) {
		t.Parallel()
		options := dbtest.Options{NoSync: true}
		if kind == dbtest.MariaDB { // what MySQL has by default
			options.Settings = map[string]string{"sql_mode": "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"}
		}
		server := dbtest.Start(t, kind, options)
		db := newDatabase(t, server)
		personal := fillByGateway(t, server, db)
		fillByHand(t, kind, db)

		answers := answersOf(t, server, db.Name)
		assert.Contains(t, answers[0], `"order":"A-1001"`)
		assert.Equal(t, "issued|1\npaid|6\nvoid|1", answers[1])
		assert.Regexp(t, `^second\|to-hear\|the shop\|288\d\|0\|NULL\n\|waits\|a person\|9\d\|0\|the amount is another one\n\|A-1002\|the shop\|\d\|1\|condition: heard is a boolean of another value$`, answers[2])
		assert.Equal(t, "|too-late|imp_3|1\n|두-번|imp_1 imp_2|0", answers[3])
		assert.Regexp(t, `^7\|40\|[12]\|10\d\d$`, answers[4])

		text := map[dbtest.Kind]string{dbtest.Postgres: "convert_from(data, 'UTF8')", dbtest.MariaDB: "CONVERT(data USING utf8mb4)"}[kind]
		for _, row := range server.Query(t, db.Name, "SELECT "+text+" FROM caddy_cvs_orders") {
			for _, secret := range personal {
				assert.NotContains(t, row[0], secret)
			}
		}
	})
}
