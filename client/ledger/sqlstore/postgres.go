package sqlstore

// This file holds Postgres.

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

var errPostgresAddress = errors.New("the address of the database cannot be read: write it as postgres://user:password@host:5432/database?sslmode=verify-full, " +
	"with %2F for / and so on in the password; the files that it names must be readable")

// Postgres reads the address of a database, as libpq and pgx have it. It connects to nothing. Its
// errors show no part of the address.
func Postgres(dsn string) (*Database, error) {
	config, err := pgx.ParseConfig(dsn)
	if dsn == "" || err != nil {
		return nil, errPostgresAddress
	}
	// One round trip, and no prepared statement that a pooler could lose.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnectTimeout = openLimit
	if n := hosts(config); n > 1 { // this is the time of each, and the first one may be silent
		config.ConnectTimeout = openLimit / time.Duration(n+1)
	}
	// Whatever the address wants: a replica would be read, but not written.
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "caddy-cvs"
	}
	return &Database{postgres, stdlib.GetConnector(*config)}, nil
}

// hosts returns how many hosts an address has.
func hosts(config *pgx.ConnConfig) int {
	known := map[string]bool{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))): true}
	for _, other := range config.Fallbacks {
		known[net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port)))] = true
	}
	return len(known)
}

// postgres is the dialect of Postgres. What is off by default may be on for the user or the
// database: a commit that does not wait for the disk is made to, whatever session it is in.
var postgres = (&dialect{
	name: "Postgres",
	schema: []string{
		`CREATE TABLE IF NOT EXISTS caddy_cvs_orders (
  account bytea NOT NULL,
  merchant_uid bytea NOT NULL,
  version bigint NOT NULL,
  writer bigint NOT NULL DEFAULT 0,
  format bigint NOT NULL,
  due bigint NOT NULL,
  queue bytea NOT NULL DEFAULT '',
  queue_due bigint NOT NULL DEFAULT 0,
  imp_uids bytea NOT NULL,
  data bytea NOT NULL,
  PRIMARY KEY (account, merchant_uid)
)`,
		`CREATE TABLE IF NOT EXISTS caddy_cvs_payments (
  account bytea NOT NULL,
  imp_uid bytea NOT NULL,
  merchant_uid bytea NOT NULL,
  PRIMARY KEY (account, imp_uid, merchant_uid)
)`,
		`CREATE TABLE IF NOT EXISTS caddy_cvs_notes (
  name bytea PRIMARY KEY,
  value bytea NOT NULL
)`,
	},
	later: []string{
		`ALTER TABLE caddy_cvs_orders ADD COLUMN IF NOT EXISTS writer bigint NOT NULL DEFAULT 0`,
		`ALTER TABLE caddy_cvs_orders ADD COLUMN IF NOT EXISTS queue bytea NOT NULL DEFAULT ''`,
		`ALTER TABLE caddy_cvs_orders ADD COLUMN IF NOT EXISTS queue_due bigint NOT NULL DEFAULT 0`,
	},
	indexes: []string{
		`CREATE INDEX IF NOT EXISTS caddy_cvs_orders_due ON caddy_cvs_orders (due)`,
		`CREATE INDEX IF NOT EXISTS caddy_cvs_orders_queue ON caddy_cvs_orders (queue, queue_due)`,
	},
	check: func(context.Context, *sql.DB) (string, error) { return "", nil },
	lock:  `SELECT pg_advisory_xact_lock(7165344186430541)`, // a number of our own
	code: func(err error) (string, bool) {
		if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
			return answer.Code, true
		}
		return "", false
	},
	missing:   set("42P01", "42703"), // undefined_table, undefined_column
	away:      set("53300", "57014", "57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006", "08P01", "25006"),
	conflicts: set("40001", "40P01", "55P03", "23505"),
	refusals:  set("28000", "28P01", "3D000", "3F000", "42501"), // 3F000: no schema in which it may make tables
	now:       "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)",

	durable:     " AND (SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)) <> ''",
	ignore:      "ON CONFLICT DO NOTHING",
	replaceNote: "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
}).statements(numbered)
