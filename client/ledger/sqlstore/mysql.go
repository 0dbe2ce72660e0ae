package sqlstore

// This file holds MySQL and MariaDB.

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

var errMySQLAddress = errors.New("the address of the database cannot be read: write it as user:password@tcp(host:3306)/database?tls=true")

// MySQL reads the address of a database, as go-sql-driver/mysql has it. It connects to nothing. Its
// errors show no part of the address.
func MySQL(dsn string) (*Database, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil || config.DBName == "" {
		return nil, errMySQLAddress
	}
	config.InterpolateParams = true // one round trip, and no prepared statement that a pooler could lose
	config.ClientFoundRows = false  // what does not change counts as not written
	config.RejectReadOnly = true    // after a failover another connection is made
	config.MultiStatements, config.AllowAllFiles = false, false
	config.Timeout = openLimit
	config.ReadTimeout, config.WriteTimeout = opLimit, opLimit // a COMMIT has no context
	config.Logger = &mysql.NopLogger{}
	if config.Params == nil {
		config.Params = make(map[string]string)
	}
	for name, value := range map[string]string{
		"autocommit":               "1",
		"innodb_lock_wait_timeout": strconv.Itoa(int(opLimit.Seconds())),
		"sql_mode":                 "'STRICT_ALL_TABLES'", // in one of MariaDB's modes "" is NULL
		// In some character sets a byte of a character is a backslash: an order number could end its literal.
		"character_set_client": "utf8mb4",
	} {
		maps.DeleteFunc(config.Params, func(other, _ string) bool { return strings.EqualFold(other, name) })
		config.Params[name] = value
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, errMySQLAddress
	}
	return &Database{mariadb, connector}, nil
}

// mariadb is the dialect of MySQL and MariaDB. InnoDB's keys hold 3072 bytes.
var mariadb = (&dialect{
	name: "MySQL",
	schema: []string{
		`CREATE TABLE IF NOT EXISTS caddy_cvs_orders (
  account VARBINARY(255) NOT NULL,
  merchant_uid VARBINARY(512) NOT NULL,
  version BIGINT NOT NULL,
  writer BIGINT NOT NULL DEFAULT 0,
  format BIGINT NOT NULL,
  due BIGINT NOT NULL,
  queue VARBINARY(512) NOT NULL DEFAULT '',
  queue_due BIGINT NOT NULL DEFAULT 0,
  imp_uids BLOB NOT NULL,
  data MEDIUMBLOB NOT NULL,
  PRIMARY KEY (account, merchant_uid),
  KEY caddy_cvs_orders_due (due),
  KEY caddy_cvs_orders_queue (queue, queue_due)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC`,
		`CREATE TABLE IF NOT EXISTS caddy_cvs_payments (
  account VARBINARY(255) NOT NULL,
  imp_uid VARBINARY(255) NOT NULL,
  merchant_uid VARBINARY(512) NOT NULL,
  PRIMARY KEY (account, imp_uid, merchant_uid)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC`,
		`CREATE TABLE IF NOT EXISTS caddy_cvs_notes (
  name VARBINARY(64) PRIMARY KEY,
  value VARBINARY(1024) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC`,
	},
	later: []string{
		`ALTER TABLE caddy_cvs_orders ADD COLUMN writer BIGINT NOT NULL DEFAULT 0`,
		`ALTER TABLE caddy_cvs_orders ADD COLUMN queue VARBINARY(512) NOT NULL DEFAULT ''`,
		`ALTER TABLE caddy_cvs_orders ADD COLUMN queue_due BIGINT NOT NULL DEFAULT 0`,
		`CREATE INDEX caddy_cvs_orders_queue ON caddy_cvs_orders (queue, queue_due)`,
	},
	check: checkMySQL,
	code: func(err error) (string, bool) {
		if answer, ok := errors.AsType[*mysql.MySQLError](err); ok {
			return strconv.Itoa(int(answer.Number)), true
		}
		return "", false
	},
	missing: set("1146", "1054"),         // ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR
	exists:  set("1050", "1060", "1061"), // ER_TABLE_EXISTS_ERROR, ER_DUP_FIELDNAME, ER_DUP_KEYNAME
	// Too many connections (of the server, of the user), shutdown, killed, out of time, a Galera node that is not ready, read-only.
	away:      set("1040", "1203", "1226", "1053", "1317", "1969", "3024", "1927", "1047", "1290", "1792", "1836"),
	conflicts: set("1213", "1205", "1020", "1062"), // deadlock, lock wait, changed since it was read, duplicate
	refusals:  set("1044", "1045", "1049", "1142", "1227", "1698"),
	now:       "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000", // whatever the session's time zone

	from:        " FROM DUAL",
	ignore:      "ON DUPLICATE KEY UPDATE version = caddy_cvs_orders.version",
	replaceNote: "ON DUPLICATE KEY UPDATE value = VALUES(value)",
}).statements(func(statement string) string { return statement })

// checkMySQL looks for settings with which a write that was confirmed can be lost, and for a replica.
func checkMySQL(ctx context.Context, db *sql.DB) (warning string, err error) {
	var flush, sync string
	var binlog, readOnly bool
	const settings = "SELECT @@global.innodb_flush_log_at_trx_commit, @@global.log_bin, @@global.sync_binlog, @@global.read_only"
	if err := db.QueryRowContext(ctx, settings).Scan(&flush, &binlog, &sync, &readOnly); err != nil {
		return "", err
	}
	if readOnly {
		return "", errors.New("the server is read-only: it is a replica, or a failover is under way")
	}
	var wrong []string
	if flush != "1" && flush != "3" { // 3 is 1 with one more sync
		wrong = append(wrong, "innodb_flush_log_at_trx_commit is "+flush+", not 1")
	}
	if binlog && sync != "1" { // a crash undoes what the binary log lacks
		wrong = append(wrong, "sync_binlog is "+sync+", not 1")
	}
	if len(wrong) == 0 {
		return "", nil
	}
	return strings.Join(wrong, ", and ") + ": what the ledger has been told is written may be lost when the database's machine fails, and an order may get a second barcode or its shop not hear of a payment", nil
}
