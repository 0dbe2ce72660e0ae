package dbtest

// This file holds what a test does in a server: new databases and their users, statements and
// queries of the superuser.

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
)

// Database is a database of a server, with a user of its own who has all rights in it and
// none in any other.
type Database struct {
	Name, User, Password string
	// DSN is its address, as sqlstore.Postgres or sqlstore.MySQL reads it.
	DSN string

	server *Server
}

// At returns the database's address by way of a Proxy at addr.
func (d Database) At(addr string) string { return d.server.dsn(addr, d.Name, d.User, d.Password) }

// NewDatabase makes a new, empty database with a user of its own.
func (s *Server) NewDatabase(t testing.TB) Database {
	t.Helper()
	name := "t" + random()
	d := Database{Name: name, User: name, Password: random(), server: s}
	d.DSN = d.At(s.Addr())
	if s.kind == Postgres {
		// Postgres lets everybody connect to a new database.
		s.Exec(t, "", "CREATE ROLE "+name+" LOGIN PASSWORD '"+d.Password+"'", "CREATE DATABASE "+name+" OWNER "+name, "REVOKE ALL ON DATABASE "+name+" FROM PUBLIC")
	} else {
		s.Exec(t, "", "CREATE DATABASE "+name, "CREATE USER "+name+"@'%' IDENTIFIED BY '"+d.Password+"'", "GRANT ALL ON "+name+".* TO "+name+"@'%'")
	}
	return d
}

// DSN returns the address of a database of this server, for a user.
func (s *Server) DSN(database, user, password string) string {
	return s.dsn(s.Addr(), database, user, password)
}

func (s *Server) dsn(addr, database, user, password string) string {
	if s.kind == Postgres {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
		return u.String()
	}
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName = user, password, "tcp", addr, database
	return c.FormatDSN()
}

// Superuser opens a database as superuser, by the server's socket: this also works while users
// have all connections. No database means one of the server's own. The caller closes it.
func (s *Server) Superuser(database string) (*sql.DB, error) {
	if s.kind == Postgres {
		if database == "" {
			database = "postgres"
		}
		return sql.Open("pgx", fmt.Sprintf("host=%s port=%d user=%s database=%s", s.dir, s.port, s.superuser(), database))
	}
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName = s.superuser(), s.password, "unix", s.socket(), database
	c.MultiStatements = true
	// The driver prints the failed connections of a server that is starting.
	c.Logger = &mysql.NopLogger{}
	return sql.Open("mysql", c.FormatDSN())
}

// Exec runs statements as superuser, each by itself.
func (s *Server) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	if err := s.exec(t.Context(), database, statements...); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) exec(ctx context.Context, database string, statements ...string) error {
	db, err := s.connect(ctx, database)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// Query runs a query as superuser, and returns its rows as text. A NULL is "NULL".
func (s *Server) Query(t testing.TB, database, query string) [][]string {
	t.Helper()
	db, err := s.connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found, err := readAll(t.Context(), db, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return found
}

// connect connects as superuser. A user whom a full server is about to refuse has the
// superuser's connection until then, so it asks again.
func (s *Server) connect(ctx context.Context, database string) (*sql.DB, error) {
	db, err := s.Superuser(database)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := db.PingContext(ctx)
		if err == nil {
			return db, nil
		}
		if !full(err) || ctx.Err() != nil {
			return nil, errors.Join(err, db.Close())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// full returns whether an error is that of a server that has no connection left.
func full(err error) bool {
	var inPostgres *pgconn.PgError
	var inMariaDB *mysql.MySQLError
	return errors.As(err, &inPostgres) && inPostgres.Code == "53300" || errors.As(err, &inMariaDB) && inMariaDB.Number == 1040
}

func readAll(ctx context.Context, db *sql.DB, query string) ([][]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var found [][]string
	for rows.Next() {
		row, values := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range row {
			values[i] = &row[i]
		}
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		texts := make([]string, len(row))
		for i, value := range row {
			texts[i] = "NULL"
			if value.Valid {
				texts[i] = value.String
			}
		}
		found = append(found, texts)
	}
	return found, rows.Err()
}

// ping returns whether the server answers.
func (s *Server) ping(ctx context.Context) error { return s.exec(ctx, "", "SELECT 1") }

// random returns a text that nobody guesses. It needs no quotes anywhere.
func random() string { return strings.ToLower(rand.Text()) }
