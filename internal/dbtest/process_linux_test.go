package dbtest

// This file holds tests of the programs and processes: what is missing, what does not start,
// and what stays behind.

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The error of a server that does not start has what it printed.
func TestStartShowsWhatTheServerPrinted(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		p, err := find(kind)
		if err != nil {
			t.Skip(err)
		}
		_, err = newServer(p, Options{Settings: map[string]string{"no_such_setting": "1"}})
		require.ErrorContains(t, err, "does not serve")
		assert.Regexp(t, "no.such.setting", err)

		p.create = "/bin/ls"
		_, err = newServer(p, Options{})
		require.ErrorContains(t, err, "/bin/ls failed")
		assert.ErrorContains(t, err, "unrecognized option")
		p.create = "/nothing/here"
		_, err = newServer(p, Options{})
		assert.ErrorIs(t, err, os.ErrNotExist)
	})
}

// Without the programs, a test is skipped and says what to install. Not parallel: it changes PATH.
func TestMissingServerSkips(t *testing.T) {
	skipped := func(kind Kind) string {
		return record(t, func(t testing.TB) { Start(t, kind, Options{}) }).skipped
	}
	assert.Equal(t, `what needs a oracle server did not run: there is no kind of server "oracle"`, skipped("oracle"))
	t.Setenv("PATH", t.TempDir())
	assert.False(t, Installed(MariaDB))
	assert.Equal(t, "what needs a mariadb server did not run: mariadbd is not installed (Debian's package mariadb-server)", skipped(MariaDB))
	defer func(dirs string) { postgresDirs = dirs }(postgresDirs)
	postgresDirs = "/nothing/here/*/bin"
	assert.False(t, Installed(Postgres))
	assert.Equal(t, "what needs a postgres server did not run: postgres is not installed (Debian's package postgresql)", skipped(Postgres))

	// The newest of several versions, by its number.
	versions := t.TempDir()
	for _, v := range []string{"9", "17", "16"} {
		dir := filepath.Join(versions, v, "bin")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for _, name := range []string{"initdb", "postgres"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o755))
		}
	}
	postgresDirs = filepath.Join(versions, "*", "bin")
	p, err := find(Postgres)
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(versions, "17", "bin", "postgres"), p.server)
}

// TestHeldServers is run by TestNothingIsLeftBehind, in a process of its own that is killed.
func TestHeldServers(t *testing.T) {
	if os.Getenv("DBTEST_HOLD") == "" {
		return
	}
	for _, kind := range Kinds {
		s := Start(t, kind, Options{NoSync: true})
		db := open(t, kind, s.NewDatabase(t).DSN)
		require.NoError(t, db.PingContext(t.Context()))
		require.NoError(t, s.Kill(), "what a killed server leaves is removed, too")
		require.NoError(t, s.Start())
		require.NoError(t, db.PingContext(t.Context()))
		require.NoError(t, s.Pause())
		fmt.Println("server", s.dir, s.proc.cmd.Process.Pid)
	}
	fmt.Println("ready")
	select {}
}

// A test binary that is killed leaves no process and no file, even of a paused server.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds {
		if _, err := find(kind); err != nil {
			t.Skip(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHeldServers$", "-test.count=1")
	cmd.Env = append(os.Environ(), "DBTEST_HOLD=1")
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var dirs []string
	var pids []int
	lines := bufio.NewScanner(output)
	for lines.Scan() && lines.Text() != "ready" {
		var dir string
		var pid int
		if n, _ := fmt.Sscanf(lines.Text(), "server %s %d", &dir, &pid); n == 2 {
			require.DirExists(t, dir)
			dirs, pids = append(dirs, dir), append(pids, pid)
			pids = append(pids, childrenOf(pid)...)
		}
	}
	require.Len(t, dirs, 2, "the servers have started")
	require.Greater(t, len(pids), 4, "Postgres has a process for each connection")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, dir := range dirs {
		require.Eventually(t, func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) }, 20*time.Second, 10*time.Millisecond, dir)
	}
	for _, pid := range pids {
		assert.NoError(t, wait(pid, ""), "process %d", pid)
	}
}

// Postgres leaves shared memory when it is killed.
func TestKilledPostgresLeavesNoSharedMemory(t *testing.T) {
	t.Parallel()
	p, err := find(Postgres)
	if err != nil {
		t.Skip(err)
	}
	s, err := newServer(p, Options{NoSync: true})
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	require.NoError(t, err)
	segment := strings.Fields(strings.Split(string(content), "\n")[6])[1]
	segments := func() []string {
		var ids []string
		content, err := os.ReadFile("/proc/sysvipc/shm")
		require.NoError(t, err)
		for line := range strings.Lines(string(content)) {
			ids = append(ids, strings.Fields(line)[1])
		}
		return ids
	}
	require.NoError(t, s.Kill())
	require.Contains(t, segments(), segment)
	s.close()
	require.NotContains(t, segments(), segment)
}

// A directory that other users cannot reach is of no use to root, and a long one has no socket.
func TestDirectoryIsShortAndPassable(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(parent, strings.Repeat("a", 60)))
	dir, err := makeDir()
	require.NoError(t, err)
	require.NoError(t, os.Remove(dir))
	assert.Less(t, len(dir), 60)

	require.NoError(t, os.Chmod(parent, 0o700))
	assert.False(t, passable(filepath.Join(parent, "b")))
	assert.True(t, passable("/"))
	t.Setenv("TMPDIR", parent)
	Start(t, MariaDB, Options{NoSync: true}) // it writes temporary files
}
