package dbtest

// This file holds the processes of a server: as which user they run, how they are found,
// stopped and killed, and what happens if the test binary is killed.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// other is the user of the servers if the tests run as root: neither server starts as root.
// It is nil for another user, who runs them.
var other = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
})

// own gives a file to the user of the servers.
func own(path string) error {
	c, err := other()
	if err != nil || c == nil {
		return err
	}
	return os.Chown(path, int(c.Uid), int(c.Gid))
}

// makeDir makes the directory of a server, with a short path: that of a socket may have
// about 100 bytes.
func makeDir() (string, error) {
	c, err := other()
	if err != nil {
		return "", err
	}
	parent := os.TempDir()
	if len(parent) > 60 || c != nil && !passable(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "dbtest")
	if err != nil {
		return "", err
	}
	return dir, own(dir)
}

// passable returns whether every user can reach what is in a folder.
func passable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&1 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// process is a server's first process.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// run starts a program, which prints to the file log. It works in dir: the guard knows the
// processes of a server by that.
func run(dir, log, program string, args ...string) (*process, error) {
	output, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd, err := command(program, args...)
	if err != nil {
		return nil, err
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = append(cmd.Env, "TMPDIR="+filepath.Dir(log)) // the tests' own may be closed to the other user
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its result is in cmd.ProcessState
		close(p.done)
	}()
	return p, nil
}

// command returns a command of the user of the servers. It is in a group of its own: Ctrl-C
// is for the tests, which then end the servers.
func command(program string, args ...string) (*exec.Cmd, error) {
	c, err := other()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c}
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME=/")
	return cmd, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) succeeded() bool { return p.cmd.ProcessState.Success() }

func (p *process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// pause stops the first process, which then starts no others, and after it the others.
func (p *process) pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := wait(p.cmd.Process.Pid, "T"); err != nil {
		return err
	}
	return each(p.children(), syscall.SIGSTOP)
}

func (p *process) goOn() error {
	return errors.Join(each(p.children(), syscall.SIGCONT), p.signal(syscall.SIGCONT))
}

// kill kills all processes, and waits until they are gone: Postgres does not start again while
// one of them is left. Postgres has one for each connection, each in a group of its own.
func (p *process) kill() error {
	err := p.pause()
	children := p.children()
	err = errors.Join(err, each(children, syscall.SIGKILL), p.signal(syscall.SIGKILL))
	for _, pid := range children {
		err = errors.Join(err, wait(pid, ended))
	}
	return err
}

// ended are the states of a process that has ended: what /proc says while its parent has not
// asked how, or nothing.
const ended = "ZX"

// wait waits until a process is in one of the states, or has ended.
func wait(pid int, states string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if strings.Contains(states+ended, state(pid)) {
			return nil
		}
	}
	return fmt.Errorf("process %d is in state %s, not in one of %s", pid, state(pid), states)
}

func each(pids []int, s syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func (p *process) children() []int { return childrenOf(p.cmd.Process.Pid) }

// childrenOf returns the processes that one has started.
func childrenOf(parent int) []int {
	var found []int
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if fields := stat(pid); err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			found = append(found, pid)
		}
	}
	return found
}

// state returns a process's state as /proc has it, or "" if there is no such process.
func state(pid int) string {
	fields := stat(pid)
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// stat returns what /proc says about a process, from its state on: before that there is its
// name, which may contain anything.
func stat(pid int) []string {
	content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
}

// guard is a process that ends a server and removes its directory, when it is asked to or
// when the test binary ends in whatever way.
type guard struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// guardScript waits for the end of its input, which the kernel closes if the test binary is
// killed. A process of the server is one that works in the directory of the data. It runs as
// the user of the servers, so that it may see where a process works. The number in the 7th
// line of postmaster.pid is the shared memory that Postgres leaves when it is killed.
const guardScript = `
cd /
read -r _
signal_all() {
	none=true
	for p in /proc/[0-9]*; do
		if [ "$p/cwd" -ef "$1/data" ]; then
			none=false
			kill "-$2" "${p#/proc/}"
			kill -CONT "${p#/proc/}"
		fi
	done
	$none
}
signal=$2
tries=0
until signal_all "$1" "$signal"; do
	sleep 0.02
	tries=$((tries + 1))
	[ $tries -lt 100 ] || signal=KILL
	[ $tries -lt 1000 ] || break
done
memory=$(sed -n '7s/.* //p' "$1/data/postmaster.pid") && [ -n "$memory" ] && ipcrm -m "$memory"
rm -rf "$1"
`

func startGuard(dir, signal string) (*guard, error) {
	cmd, err := command("sh", "-c", guardScript, "dbtest", dir, signal)
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &guard{cmd, stdin}, cmd.Start()
}

// end asks the guard to do what it is for, and waits until it is done.
func (g *guard) end() {
	_ = g.stdin.Close()
	_ = g.cmd.Wait()
}
