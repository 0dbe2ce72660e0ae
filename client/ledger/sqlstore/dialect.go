package sqlstore

// This file holds what differs between the databases, and the statements.

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
)

// dialect is what differs between the databases.
type dialect struct {
	name    string
	schema  []string // makes the tables
	later   []string // adds what a table of an older version lacks
	indexes []string // makes the indexes that do not come with the tables

	// check returns what an operator should mend, "" for nothing.
	check func(ctx context.Context, db *sql.DB) (warning string, err error)
	// lock lets one transaction at a time make tables; nil if that needs none.
	lock string
	// code returns the number of an error with which the database has answered.
	code func(err error) (code string, answered bool)

	missing   map[string]bool // no such table or column
	exists    map[string]bool // what is to be made is there
	away      map[string]bool // there is no connection for the moment
	conflicts map[string]bool // rolled back because of another transaction
	refusals  map[string]bool // user, password, database, rights

	// Parts of statements.
	now         string // an expression: Unix milliseconds
	durable     string // a condition, always true, whose evaluation makes the transaction durable
	from        string // what a SELECT without a table needs before its WHERE
	ignore      string // the end of an INSERT of an order that does nothing if it is there
	replaceNote string // the end of an INSERT of a note that changes one that is there

	insert, update, updateSame, remove string // writes of a row
	addPayment, removePayment          string
	version, payments                  string // reads of one column or two
	get, byImpUID, due, queued         string
	listAccount, listRest              string
	note, notes                        string
	addNote, setNote, removeNote       string
	readNow                            string
}

// The columns of a row, in the order of its values.
const columns = "account, merchant_uid, version, writer, format, due, queue, queue_due, imp_uids, data"

// The condition of the time. See the package's comment.
const inTime = "ABS({now} - ?) <= ?"

// statements fills in the statements. bind writes the places of the arguments as the database has them.
func (d *dialect) statements(bind func(string) string) *dialect {
	fill := func(statement string) string {
		return bind(strings.NewReplacer(
			"{durable}", d.durable, "{from}", d.from, "{in time}", strings.ReplaceAll(inTime, "{now}", d.now), "{now}", d.now, "{columns}", columns,
			"{key}", "account = ? AND merchant_uid = ?", "{was}", "version = ? AND format <= ?",
		).Replace(statement))
	}
	const set = "UPDATE caddy_cvs_orders SET version = ?, writer = ?, format = ?, due = ?, queue = ?, queue_due = ?, imp_uids = ?, data = ? WHERE {key} AND {was} AND {in time}{durable}"
	d.insert = fill("INSERT INTO caddy_cvs_orders ({columns}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?{from} WHERE {in time}{durable} " + d.ignore)
	d.update = fill(set)
	d.updateSame = fill(set + " AND imp_uids = ?")
	d.remove = fill("DELETE FROM caddy_cvs_orders WHERE {key} AND {was} AND {in time}{durable}")
	d.addPayment = fill("INSERT INTO caddy_cvs_payments (account, imp_uid, merchant_uid) VALUES (?, ?, ?)")
	d.removePayment = fill("DELETE FROM caddy_cvs_payments WHERE account = ? AND imp_uid = ? AND merchant_uid = ?")
	d.version = fill("SELECT version, writer FROM caddy_cvs_orders WHERE {key}")
	d.payments = fill("SELECT imp_uids FROM caddy_cvs_orders WHERE {key} AND {was}")
	d.get = fill("SELECT account, merchant_uid, data FROM caddy_cvs_orders WHERE {key}")
	d.byImpUID = fill("SELECT o.account, o.merchant_uid, o.data FROM caddy_cvs_payments p JOIN caddy_cvs_orders o ON o.account = p.account AND o.merchant_uid = p.merchant_uid WHERE p.account = ? AND p.imp_uid = ? ORDER BY p.merchant_uid LIMIT 1")
	d.due = fill("SELECT account, merchant_uid, data FROM caddy_cvs_orders WHERE due <= ? AND format <= ? ORDER BY due LIMIT ?")
	d.queued = fill("SELECT account, merchant_uid, data FROM caddy_cvs_orders WHERE queue = ? AND queue_due <= ? AND format <= ? ORDER BY queue_due LIMIT ?")
	d.listAccount = fill("SELECT account, merchant_uid, data FROM caddy_cvs_orders WHERE account = ? AND merchant_uid > ? ORDER BY merchant_uid LIMIT ?")
	d.listRest = fill("SELECT account, merchant_uid, data FROM caddy_cvs_orders WHERE account > ? ORDER BY account, merchant_uid LIMIT ?")
	d.note = fill("SELECT value FROM caddy_cvs_notes WHERE name = ?")
	d.notes = fill("SELECT name, value FROM caddy_cvs_notes")
	d.addNote = fill("INSERT INTO caddy_cvs_notes (name, value) SELECT ?, ?{from} WHERE NOT EXISTS (SELECT 1 FROM caddy_cvs_notes WHERE name = ?){durable}")
	d.setNote = fill("INSERT INTO caddy_cvs_notes (name, value) SELECT ?, ?{from} WHERE 1 = 1{durable} " + d.replaceNote)
	d.removeNote = fill("DELETE FROM caddy_cvs_notes WHERE name = ?{durable}")
	d.readNow = fill("SELECT {now}")
	return d
}

// numbered turns the question marks of a statement into $1, $2 and so on.
func numbered(statement string) string {
	parts := strings.Split(statement, "?")
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteString("$" + strconv.Itoa(i))
		}
		b.WriteString(part)
	}
	return b.String()
}

// set makes a set of codes.
func set(codes ...string) map[string]bool {
	m := make(map[string]bool, len(codes))
	for _, code := range codes {
		m[code] = true
	}
	return m
}

// script writes statements one below the other.
func script(lists ...[]string) string { return strings.Join(slices.Concat(lists...), ";\n") + ";\n" }
