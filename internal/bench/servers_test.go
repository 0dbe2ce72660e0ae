package bench

// This file holds what the benchmarks with databases share: the places where a ledger can be, their
// servers, and what these use.

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/sqlstore"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
)

// The kinds of places.
const (
	file     = "file"
	postgres = string(dbtest.Postgres)
	mariadb  = string(dbtest.MariaDB)
)

// buffers is the memory that a server keeps pages in. A test server has less.
var buffers = flag.Int("buffers", 128, "the megabytes of shared_buffers and of innodb_buffer_pool_size; default that of the servers themselves")

// settings are the settings of a server.
func settings(kind dbtest.Kind) map[string]string {
	if kind == dbtest.Postgres {
		return map[string]string{"shared_buffers": fmt.Sprintf("%dMB", *buffers)}
	}
	return map[string]string{"innodb-buffer-pool-size": fmt.Sprintf("%dM", *buffers), "innodb-log-file-size": "96M"}
}

// servers are the servers of a benchmark, by kind. They wait for the disk, as a shop's do.
type servers map[string]*dbtest.Server

// startServers starts one server of each kind. Without one of them the benchmark is skipped, and says so
// also without -v.
func startServers(b *testing.B) servers {
	b.Helper()
	all := make(servers)
	for _, kind := range dbtest.Kinds {
		if !dbtest.Installed(kind) {
			fmt.Printf("%s did not run: it needs a %s server\n", b.Name(), kind)
			b.SkipNow()
		}
		all[string(kind)] = dbtest.Start(b, kind, dbtest.Options{Settings: settings(kind)})
	}
	return all
}

// place is where one ledger is.
type place struct {
	numbering // of the rows that it is filled with
	kind      string
	path      string          // of a file
	database  dbtest.Database // else
}

// newPlace returns an empty one. Its file is in dir.
func (all servers) newPlace(b *testing.B, kind, dir string) place {
	b.Helper()
	if kind == file {
		return place{numbering: growing, kind: kind, path: filepath.Join(dir, fmt.Sprintf("%d.db", time.Now().UnixNano()))}
	}
	return place{numbering: growing, kind: kind, database: all[kind].NewDatabase(b)}
}

// open opens it. lost says that what was written may be lost with a power cut, which only a file
// can be told here.
func (p place) open(b *testing.B, lost bool) ledger.Movable {
	b.Helper()
	if p.kind == file {
		store, err := boltstore.Open(p.path, boltstore.Options{NoSync: lost, Moved: true})
		require.NoError(b, err)
		return store
	}
	read := sqlstore.Postgres
	if p.kind == mariadb {
		read = sqlstore.MySQL
	}
	database, err := read(p.database.DSN)
	require.NoError(b, err)
	store, err := database.Open(sqlstore.Options{Moved: true})
	require.NoError(b, err)
	return store
}

// pid returns the number of a server's first process.
func pid(b *testing.B, server *dbtest.Server) string {
	b.Helper()
	name, query := "", "SELECT @@pid_file"
	if server.Kind() == dbtest.Postgres {
		name, query = "postmaster.pid", "SHOW data_directory"
	}
	content, err := os.ReadFile(filepath.Join(server.Query(b, "", query)[0][0], name))
	require.NoError(b, err)
	first, _, _ := strings.Cut(string(content), "\n")
	return first
}

// cpuOf returns what the threads of a server's processes have used so far, of those that have not
// ended.
func cpuOf(first string) (used time.Duration) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		content, _ := os.ReadFile(name)
		dir := filepath.Dir(name)
		_, rest, _ := strings.Cut(string(content), ") ") // behind the name of the program: state, parent
		if fields := strings.Fields(rest); filepath.Base(dir) != first && (len(fields) < 2 || fields[1] != first) {
			continue
		}
		threads, _ := filepath.Glob(filepath.Join(dir, "task", "*", "schedstat"))
		for _, thread := range threads {
			content, _ := os.ReadFile(thread)
			nanoseconds, _, _ := strings.Cut(string(content), " ")
			n, _ := strconv.ParseInt(nanoseconds, 10, 64)
			used += time.Duration(n)
		}
	}
	return used
}
