package dbtest

// This file holds a server's life: its directory and port, its start and its ends.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

const host = "127.0.0.1"

// How long a server may take to start, which includes the recovery after a Kill, and to stop.
const patience = time.Minute

// Server is a database server. Its methods may be called at the same time, also by goroutines
// other than the test's, save for those that take the test.
type Server struct {
	programs
	options  Options
	dir      string // the data, the socket, and what the server prints
	port     int
	reserved net.Listener // keeps others from taking the port while the server is down
	password string       // of the superuser
	guard    *guard

	mu   sync.Mutex
	proc *process // nil while the server is down
}

// Errors of a server that is not in the state that a method needs.
var (
	errRunning = errors.New("the server is running")
	errDown    = errors.New("the server is down")
)

// newServer makes the files of a new server, and starts it.
func newServer(p programs, o Options) (*Server, error) {
	s := &Server{programs: p, options: o, password: random()}
	var err error
	if s.dir, err = makeDir(); err != nil {
		return nil, err
	}
	if s.guard, err = startGuard(s.dir, p.endSignal()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if err := s.create(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Server) create() error {
	var err error
	if s.reserved, s.port, err = reservePort(); err != nil {
		return err
	}
	if err := os.WriteFile(s.secret(), []byte(s.secretText()), 0o600); err != nil {
		return err
	}
	if err := errors.Join(own(s.secret()), os.Mkdir(s.data(), 0o700), own(s.data())); err != nil {
		return err
	}
	p, err := run(s.data(), s.log(), s.programs.create, s.createArgs()...)
	if err != nil {
		return err
	}
	<-p.done
	if !p.succeeded() {
		return fmt.Errorf("%s failed:\n%s", s.programs.create, s.tail())
	}
	return s.Start()
}

// close ends the server, and removes what it has left.
func (s *Server) close() {
	s.guard.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		<-s.proc.done
		s.proc = nil
	}
	if s.reserved != nil {
		_ = s.reserved.Close()
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// secret is the file that tells the programs the superuser's password.
func (s *Server) secret() string { return filepath.Join(s.dir, "secret") }

// Kind returns what kind of server it is.
func (s *Server) Kind() Kind { return s.kind }

// Addr returns the host and port at which the server listens. They stay the same when it is
// started again.
func (s *Server) Addr() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

// Start starts the server again with its data, after Stop or Kill, and waits until it answers.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil && !s.proc.ended() {
		return errRunning
	}
	p, err := run(s.data(), s.log(), s.server, s.serverArgs()...)
	if err != nil {
		return err
	}
	s.proc = p
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var pinged error
	for ctx.Err() == nil && !p.ended() {
		if pinged = s.ping(ctx); pinged == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.done:
		}
	}
	return fmt.Errorf("%s does not serve: %w\n%s", s.server, pinged, s.tail())
}

// Stop ends the server as a service manager does: what it has is written, clients are not
// waited for. A paused server does not stop.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return errDown
	}
	if err := s.proc.signal(s.stopSignal()); err != nil {
		return err
	}
	select {
	case <-s.proc.done:
		s.proc = nil
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s does not stop:\n%s", s.server, s.tail())
	}
}

// Restart stops the server and starts it again.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start()
}

// Kill ends all processes of the server at once, as the kernel does when memory is short.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return errDown
	}
	err := s.proc.kill()
	<-s.proc.done
	s.proc = nil
	return err
}

// Pause stops all processes of the server where they are. Connections stay, and new ones are
// accepted by the kernel, but nothing answers.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return errDown
	}
	return s.proc.pause()
}

// Continue lets a paused server go on.
func (s *Server) Continue() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.proc.ended() {
		return errDown
	}
	return s.proc.goOn()
}

// Log returns what the server has printed so far.
func (s *Server) Log() string {
	content, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// reservePort returns a free port below those that the kernel gives to outgoing connections.
// No other process of tests takes it before the listener is closed: the listener is at the
// same port of another loopback address.
func reservePort() (net.Listener, int, error) {
	const first, count, reserve = 10000, 2000, "127.0.0.2"
	err := errors.New("no port is free")
	for _, n := range rand.Perm(count) {
		port := strconv.Itoa(first + n)
		var reserved, free net.Listener
		if reserved, err = net.Listen("tcp", net.JoinHostPort(reserve, port)); err != nil {
			continue
		}
		if free, err = net.Listen("tcp", net.JoinHostPort(host, port)); err == nil {
			return reserved, first + n, free.Close()
		}
		_ = reserved.Close()
	}
	return nil, 0, err
}
