package dbtest

// This file holds where the programs of the servers are, and how they are called.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// programs are the programs of a kind of server.
type programs struct {
	kind   Kind
	create string // makes the files of a new server
	server string
}

// postgresDirs are where Debian keeps the programs of Postgres, out of PATH and in a folder for
// each version.
var postgresDirs = "/usr/lib/postgresql/*/bin"

// find returns the programs of a kind of server, or an error that says what to install.
func find(kind Kind) (programs, error) {
	if runtime.GOOS != "linux" {
		return programs{}, fmt.Errorf("dbtest does not run servers on %s", runtime.GOOS)
	}
	p := programs{kind: kind}
	switch kind {
	case Postgres:
		dirs, _ := filepath.Glob(postgresDirs)
		slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
		p.create = program("initdb", dirs...)
		if target, err := filepath.EvalSymlinks(p.create); err == nil {
			p.create = target
		}
		p.server = program(filepath.Join(filepath.Dir(p.create), "postgres")) // of the same version
		if p.create == "" || p.server == "" {
			return p, missing("postgres", "postgresql")
		}
	case MariaDB:
		p.create, p.server = program("mariadb-install-db"), program("mariadbd", "/usr/sbin", "/usr/libexec")
		if p.create == "" || p.server == "" {
			return p, missing("mariadbd", "mariadb-server")
		}
	default:
		return p, fmt.Errorf("there is no kind of server %q", kind)
	}
	return p, nil
}

// version returns the version in /usr/lib/postgresql/17/bin.
func version(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// program returns the path of a program in PATH or in one of the other folders, or "".
func program(name string, others ...string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range others {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// createArgs are the arguments of the program that makes the files of a new server. It does
// not wait for the disk: a power failure would end the test as well.
func (s *Server) createArgs() []string {
	if s.kind == Postgres {
		return []string{
			"--pgdata=" + s.data(), "--no-sync", "--username=" + s.superuser(), "--pwfile=" + s.secret(),
			"--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale",
		}
	}
	return []string{
		"--no-defaults", "--datadir=" + s.data(), "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=32M", "--loose-innodb-flush-method=nosync",
	}
}

// secretText is what the file with the superuser's password has: for Postgres the password,
// for MariaDB what it does before it accepts connections.
func (s *Server) secretText() string {
	if s.kind == Postgres {
		return s.password + "\n"
	}
	return "ALTER USER root@localhost IDENTIFIED BY '" + s.password + "';\n"
}

// serverArgs are the arguments of the server. What an operator would not set is only there
// to save memory and time, and to keep everything in the directory.
func (s *Server) serverArgs() []string {
	var args []string
	prefix := "--"
	if s.kind == Postgres {
		prefix = "-c"
		args = append(args, "-D", s.data())
	} else {
		args = append(args, "--no-defaults") // the machine's own configuration has nothing to say here
	}
	set := func(name, value string) { args = append(args, prefix+name+"="+value) }
	if s.kind == Postgres {
		set("listen_addresses", host)
		set("unix_socket_directories", s.dir)
		set("shared_buffers", "32MB")
		set("dynamic_shared_memory_type", "mmap") // files in the directory, where nothing stays behind
		set("log_line_prefix", "%m [%p] ")
		if s.options.NoSync {
			set("fsync", "off")
			set("full_page_writes", "off")
		}
	} else {
		set("datadir", s.data())
		set("bind-address", host)
		set("socket", s.socket())
		set("init-file", s.secret())
		set("pid-file", filepath.Join(s.data(), "mariadbd.pid"))
		set("innodb-buffer-pool-size", "32M")
		set("innodb-log-file-size", "32M")
		set("performance-schema", "OFF")
		if s.options.NoSync {
			set("loose-innodb-flush-method", "nosync")
		}
	}
	set("port", strconv.Itoa(s.port))
	if s.options.MaxConnections != 0 {
		set("max_connections", strconv.Itoa(s.options.MaxConnections))
	}
	for name, value := range s.options.Settings {
		set(name, value)
	}
	return args
}

// superuser is the name of the user that may do everything.
func (p programs) superuser() string {
	if p.kind == Postgres {
		return "postgres"
	}
	return "root"
}

// stopSignal lets the server end as a service manager ends it, without waiting for clients.
func (p programs) stopSignal() syscall.Signal {
	if p.kind == Postgres {
		return syscall.SIGINT
	}
	return syscall.SIGTERM
}

// endSignal is for a server whose data nobody needs any more. Postgres gives back its shared
// memory with it.
func (p programs) endSignal() string {
	if p.kind == Postgres {
		return "QUIT"
	}
	return "KILL"
}

// socket is the path of the socket in the server's directory.
func (s *Server) socket() string {
	if s.kind == Postgres {
		return filepath.Join(s.dir, ".s.PGSQL."+strconv.Itoa(s.port))
	}
	return filepath.Join(s.dir, "mariadb.sock")
}

// tail returns the end of what the server has printed.
func (s *Server) tail() string {
	const size = 4000
	content, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-size):])
}
