// Package dbtest starts real Postgres and MariaDB servers for tests. Each has a directory
// of its own for its data, listens only at the loopback address, and ends with the test.
// Nothing stays behind, also if the test binary is killed.
package dbtest

// This file holds what a test asks for: a server of its own, or the one that the tests of a
// package share.

import (
	"fmt"
	"sync"
	"testing"
)

// Kind is a kind of database server.
type Kind string

// The kinds of servers.
const (
	Postgres Kind = "postgres"
	MariaDB  Kind = "mariadb"
)

// Kinds are all kinds of servers, for tests that run with each.
var Kinds = []Kind{Postgres, MariaDB}

// Options says how a server differs from one that a shop would have.
type Options struct {
	// NoSync lets the server write without waiting for the disk. What it has committed
	// survives Kill, but not a power failure.
	NoSync bool
	// MaxConnections is how many connections the server accepts; 0 is the server's default.
	// Postgres keeps 3 of them for superusers; MariaDB accepts 10 at least, and one more of
	// a superuser.
	MaxConnections int
	// Settings are other settings of the server, by their names in its documentation.
	Settings map[string]string
}

// Installed returns whether the programs of a kind of server are on this machine.
func Installed(kind Kind) bool {
	_, err := find(kind)
	return err == nil
}

// Start starts a server that ends with the test. The test is skipped if the server is not
// installed.
func Start(t testing.TB, kind Kind, o Options) *Server {
	t.Helper()
	s := start(t, kind, o)
	t.Cleanup(s.close)
	return s
}

func start(t testing.TB, kind Kind, o Options) *Server {
	t.Helper()
	p, err := find(kind)
	if err != nil {
		t.Skipf("what needs a %s server did not run: %v", kind, err)
	}
	s, err := newServer(p, o)
	if err != nil {
		t.Fatalf("starting %s: %v", kind, err)
	}
	return s
}

// shared are the servers that the tests of this process share.
var shared struct {
	sync.Mutex
	servers map[Kind]*Server
}

// Shared returns the server of this kind that all tests of this process share; the first one
// starts it, with NoSync. A test that stops or pauses a server needs its own. Main ends it.
func Shared(t testing.TB, kind Kind) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if s := shared.servers[kind]; s != nil {
		return s
	}
	s := start(t, kind, Options{NoSync: true})
	if shared.servers == nil {
		shared.servers = map[Kind]*Server{}
	}
	shared.servers[kind] = s
	return s
}

// Stop ends the shared servers.
func Stop() {
	shared.Lock()
	defer shared.Unlock()
	for _, s := range shared.servers {
		s.close()
	}
	shared.servers = nil
}

// M runs the tests of a package, and then ends the shared servers. With it, TestMain is
//
//	os.Exit(dbtest.M{M: m}.Run())
//
// or, where no test may leave a goroutine behind,
//
//	goleak.VerifyTestMain(dbtest.M{M: m})
type M struct{ *testing.M }

// Run runs the tests.
func (m M) Run() int {
	defer Stop()
	return m.M.Run()
}

// Main runs the tests of a package, ends the shared servers, and returns the exit code.
func Main(m *testing.M) int { return M{m}.Run() }

// missing is the error of a server that is not installed.
func missing(program, debianPackage string) error {
	return fmt.Errorf("%s is not installed (Debian's package %s)", program, debianPackage)
}
