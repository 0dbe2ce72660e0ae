package shops

// This file holds the shops and their runtimes. CI installs the runtimes, and fails if a test was
// skipped; elsewhere a shop without its runtime is skipped.

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	demo "github.com/caddy-cvs/caddy-cvs/examples/quickstart/shop"
	"github.com/caddy-cvs/caddy-cvs/internal/dbtest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

var list = []shop{
	{
		folder: "quickstart", prepare: prepareGo,
		unsigned: true, byClick: true, drawsItself: true, lastTaken: true, fewUmbrellas: true, listsNews: true, view: "/state",
		states: map[string]string{"cancelled": "refunded"},
	},
	{folder: "php", prepare: preparePHP, takesLargeForms: true},
	{folder: "node", prepare: prepareNode},
	{folder: "python", prepare: preparePython},
}

// prepareGo prepares the Go demo, which runs in this process. Its orders are in memory: it is down
// while nothing listens for it.
func prepareGo(_ *testing.T, s *stand) start {
	app := demo.New(s.Inside, s.APIURL+"/till")
	return func(t *testing.T, _ ...string) func() {
		t.Helper()
		listener, err := net.Listen("tcp", s.app)
		require.NoError(t, err)
		server := &http.Server{Handler: app, ReadHeaderTimeout: time.Minute}
		go server.Serve(listener)
		return func() { _ = server.Close() }
	}
}

// preparePHP prepares php-fpm and a MariaDB with the shop's tables; the ledger is in another database
// of the same server.
func preparePHP(t *testing.T, s *stand) start {
	t.Helper()
	fpm := program(t, "php-fpm")
	if modules, err := exec.Command(fpm, "-m").Output(); err != nil || !strings.Contains(string(modules), "pdo_mysql") {
		t.Skip("PHP has no pdo_mysql (Debian's package php-mysql)")
	}
	server := dbtest.Shared(t, dbtest.MariaDB)
	shop, ledger := server.NewDatabase(t), server.NewDatabase(t)
	schema, err := os.ReadFile(filepath.Join(examples, "php", "schema.sql"))
	require.NoError(t, err)
	server.Exec(t, shop.Name, string(schema))

	dir := gatewaytest.ShortDir(t)
	root, err := filepath.Abs(filepath.Join(examples, "php"))
	require.NoError(t, err)
	s.replace = map[string]string{
		"{env.CVS_DATABASE}": gatewaytest.Placeholder(t, ledger.DSN), "{$SHOP_ROOT:/srv/shop}": root, "{$PHP_SOCKET:/run/php/shop.sock}": dir + "/shop.sock",
	}
	conf, err := os.ReadFile(filepath.Join(root, "php-fpm.conf"))
	require.NoError(t, err)
	if os.Geteuid() == 0 { // php-fpm asks then as whom it is to serve
		conf = append(conf, "user = root\n"...)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fpm.conf"), conf, 0o600))
	host, port, _ := net.SplitHostPort(server.Addr())
	env := s.environment(
		"PHP_SOCKET="+dir+"/shop.sock", "SHOP_DB_USER="+shop.User, "SHOP_DB_PASSWORD="+shop.Password,
		"SHOP_DB_DSN=mysql:host="+host+";port="+port+";dbname="+shop.Name,
	)
	return func(t *testing.T, more ...string) func() {
		t.Helper()
		return s.run(t, "unix", dir+"/shop.sock", root, append(env, append([]string{"SHOP_LIFETIME="}, more...)...),
			fpm, "--nodaemonize", "--allow-to-run-as-root", "--fpm-config", filepath.Join(dir, "fpm.conf"))
	}
}

func prepareNode(t *testing.T, s *stand) start {
	t.Helper()
	node, folder := nodeWithPackages(t), filepath.Join(examples, "node")
	env := s.environment("SHOP_DATA=" + filepath.Join(t.TempDir(), "orders.json"))
	return func(t *testing.T, more ...string) func() {
		t.Helper()
		return s.run(t, "tcp", s.app, folder, append(env, more...), node, "server.js")
	}
}

func preparePython(t *testing.T, s *stand) start {
	t.Helper()
	python := pythonWithFlask(t)
	env := s.environment("PYTHONDONTWRITEBYTECODE=1", "SHOP_DATA="+filepath.Join(t.TempDir(), "shop.db"))
	return func(t *testing.T, more ...string) func() {
		t.Helper()
		return s.run(t, "tcp", s.app, filepath.Join(examples, "python"), append(env, more...), python, "shop.py")
	}
}

// nodeWithPackages returns the path of Node, or skips the test if it or the shop's packages are missing.
func nodeWithPackages(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(examples, "node", "node_modules")); err != nil {
		t.Skip("the packages of examples/node are not installed: run npm ci there")
	}
	return program(t, "node")
}

// pythonWithFlask returns the path of a Python with the shop's packages, or skips the test.
func pythonWithFlask(t *testing.T) (python string) {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} { // the first may be one without Debian's packages
		if path, err := exec.LookPath(name); err == nil && exec.Command(path, "-c", "import flask, requests").Run() == nil {
			python = path
		}
	}
	if python == "" {
		t.Skip("no python3 with Flask and requests (Debian's packages python3-flask and python3-requests)")
	}
	return python
}

// program returns the path of a program, or skips the test if it is missing. Debian puts a version into
// the name of php-fpm.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if found, _ := filepath.Glob("/usr/sbin/" + name + "*"); len(found) > 0 {
		return found[len(found)-1]
	}
	t.Skip(name + " is not installed")
	return ""
}

// run runs a program in a folder, waits until it accepts connections, and returns how to end it.
func (s *stand) run(t *testing.T, network, address, folder string, env []string, command ...string) func() {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	output, err := os.OpenFile(s.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer func() { _ = output.Close() }()
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = folder, env, output, output
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", command[0], s.printed(t))
		}
	}
	serves := assert.Eventually(t, func() bool {
		conn, err := net.Dial(network, address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond, "%s does not serve %s", command[0], address)
	if !serves {
		stop()
		t.FailNow()
	}
	return stop
}
