package bench

// This file holds how many rows are brought into a ledger quickly, and how large it is.

import (
	"context"
	"database/sql"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

var (
	orderColumns   = []string{"account", "merchant_uid", "version", "writer", "format", "due", "queue", "queue_due", "imp_uids", "data"}
	paymentColumns = []string{"account", "imp_uid", "merchant_uid"}
)

// load brings rows into an empty place, of which each is as a ledger would have written it.
func (p place) load(b *testing.B, all servers, template *ledger.Row, rows int) {
	b.Helper()
	store := p.open(b, true) // which makes tables
	if p.kind == file {
		p.putAll(b, store, template, rows)
	}
	require.NoError(b, store.Close())
	switch p.kind {
	case file:
		written, err := os.OpenFile(p.path, os.O_RDWR, 0)
		require.NoError(b, err)
		require.NoError(b, written.Sync())
		require.NoError(b, written.Close())
	case postgres:
		p.copyIn(b, p.database.DSN, template, rows)
		all[p.kind].Exec(b, p.database.Name, "VACUUM ANALYZE", "CHECKPOINT") // as the server itself would, some time later
	case mariadb:
		p.insertAll(b, p.database.DSN, template, rows)
		all[p.kind].Exec(b, p.database.Name, "ANALYZE TABLE caddy_cvs_orders, caddy_cvs_payments")
	}
	p.compare(b, template)
}

// compare looks whether a row that was loaded is what the store itself would have written.
func (p place) compare(b *testing.B, template *ledger.Row) {
	b.Helper()
	store := p.open(b, true)
	defer store.Close()
	want := p.nthRow(template, 0)
	for _, read := range []func() (*ledger.Row, error){
		func() (*ledger.Row, error) { return store.Get(b.Context(), want.Key()) },
		func() (*ledger.Row, error) { return store.GetByImpUID(b.Context(), "", want.Attempts[0].ImpUID) },
	} {
		got, err := read()
		require.NoError(b, err)
		require.Equal(b, want, got)
	}
	list, err := store.Due(b.Context(), ledger.Looks, want.Due, 2)
	require.NoError(b, err)
	require.Equal(b, []*ledger.Row{want}, list)
}

// putAll has many writers share the commits of a file.
func (x numbering) putAll(b *testing.B, store ledger.Store, template *ledger.Row, rows int) {
	b.Helper()
	var next atomic.Int64
	var writing sync.WaitGroup
	for range 1000 {
		writing.Go(func() {
			for n := int(next.Add(1)) - 1; n < rows; n = int(next.Add(1)) - 1 {
				if !assert.NoError(b, store.Put(b.Context(), x.nthRow(template, n), 0, false)) {
					return
				}
			}
		})
	}
	writing.Wait()
	require.False(b, b.Failed())
}

// sorted returns the rows in the order of their keys: a table that
// is filled in the order of its keys is filled sooner.
func (x numbering) sorted(rows int) []int {
	type named struct {
		name string
		n    int
	}
	list := make([]named, rows)
	for n := range list {
		list[n] = named{x.nth(n), n}
	}
	slices.SortFunc(list, func(a, b named) int { return strings.Compare(a.name, b.name) })
	numbers := make([]int, rows)
	for i, x := range list {
		numbers[i] = x.n
	}
	return numbers
}

// orderValues are a row's columns as package sqlstore writes them.
func orderValues(row *ledger.Row) ([]any, error) {
	ids, err := json.Marshal([][]byte{[]byte(row.Attempts[0].ImpUID)})
	if err != nil {
		return nil, err
	}
	data, err := row.Encode()
	return []any{
		[]byte(row.Account), []byte(row.Order), int64(row.Version), rand.Int64(), int64(row.Format), row.Due, []byte(row.Queue), row.QueueDue, ids, data,
	}, err
}

func paymentValues(row *ledger.Row) ([]any, error) {
	return []any{[]byte(row.Account), []byte(row.Attempts[0].ImpUID), []byte(row.Order)}, nil
}

// copyIn loads a Postgres.
func (x numbering) copyIn(b *testing.B, dsn string, template *ledger.Row, rows int) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), dsn)
	require.NoError(b, err)
	defer conn.Close(context.Background())
	numbers := x.sorted(rows)
	from := func(values func(*ledger.Row) ([]any, error)) pgx.CopyFromSource {
		return pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return values(x.nthRow(template, numbers[i])) })
	}
	_, err = conn.CopyFrom(b.Context(), pgx.Identifier{"caddy_cvs_orders"}, orderColumns, from(orderValues))
	require.NoError(b, err)
	_, err = conn.CopyFrom(b.Context(), pgx.Identifier{"caddy_cvs_payments"}, paymentColumns, from(paymentValues))
	require.NoError(b, err)
}

// insertAll loads a MariaDB.
func (x numbering) insertAll(b *testing.B, dsn string, template *ledger.Row, rows int) {
	b.Helper()
	db, err := sql.Open("mysql", dsn+"?interpolateParams=true")
	require.NoError(b, err)
	defer db.Close()
	numbers := x.sorted(rows)
	insert := func(table string, columns []string, values func(*ledger.Row) ([]any, error)) {
		const page = 2000
		for list := range slices.Chunk(numbers, page) {
			var args []any
			for _, n := range list {
				more, err := values(x.nthRow(template, n))
				require.NoError(b, err)
				args = append(args, more...)
			}
			one := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
			_, err := db.ExecContext(b.Context(), "INSERT INTO "+table+" ("+strings.Join(columns, ", ")+") VALUES "+one+strings.Repeat(", "+one, len(list)-1), args...)
			require.NoError(b, err)
		}
	}
	insert("caddy_cvs_orders", orderColumns, orderValues)
	insert("caddy_cvs_payments", paymentColumns, paymentValues)
}

// size is how many bytes of the disk a place takes, without the log of a database.
func (p place) size(b *testing.B, all servers) int64 {
	b.Helper()
	query := ""
	switch p.kind {
	case file:
		info, err := os.Stat(p.path)
		require.NoError(b, err)
		return info.Size()
	case postgres:
		query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'caddy_cvs_%'"
	case mariadb:
		query = "SELECT SUM(file_size) FROM information_schema.innodb_sys_tablespaces WHERE name LIKE '" + p.database.Name + "/caddy_cvs_%'"
	}
	bytes, err := strconv.ParseInt(all[p.kind].Query(b, p.database.Name, query)[0][0], 10, 64)
	require.NoError(b, err)
	return bytes
}
