package dbtest

// This file holds a proxy between a client and a server, which delays, holds, cuts and refuses
// connections. link.go has a single connection.

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Direction is a direction of what a proxy passes on.
type Direction int

// The directions.
const (
	ToServer Direction = iota
	ToClient
)

// Proxy passes on the bytes of TCP connections. If the server refuses one, the proxy cuts it.
// Its methods may be called at the same time.
type Proxy struct {
	target  string
	port    int
	running sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	accepted int
	closed   bool
	delay    [2]time.Duration
	held     [2]chan struct{} // closed by Release; nil while nothing is held
	lose     loss
}

// loss is what a proxy waits for to lose it.
type loss struct {
	text   []byte // of a request, in lower case; nil if nothing is waited for
	answer bool   // the answer is lost, not the request
}

// NewProxy starts a proxy before the server at target. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("what needs a proxy did not run: dbtest has the addresses of Linux")
	}
	reserved, port, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, port: port, links: map[*link]struct{}{}}
	t.Cleanup(func() {
		p.Refuse()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.Cut()
		p.running.Wait()
		_ = reserved.Close()
	})
	if err := p.Accept(); err != nil {
		t.Fatal(err)
	}
	return p
}

// Addr returns the host and port at which the proxy listens. They never change.
func (p *Proxy) Addr() string { return fmt.Sprintf("%s:%d", host, p.port) }

// SetDelay delays everything that arrives from now on, in one direction. It does not make the
// connection narrower: what follows is not delayed by what is before it.
func (p *Proxy) SetDelay(d Direction, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay[d] = delay
}

// Hold keeps back everything in these directions until Release, as a network that has lost its
// way does. Connections are still accepted. Without directions it holds both.
func (p *Proxy) Hold(directions ...Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(directions) == 0 {
		directions = []Direction{ToServer, ToClient}
	}
	for _, d := range directions {
		if p.held[d] == nil {
			p.held[d] = make(chan struct{})
		}
	}
}

// Release passes on what Hold has kept back.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, held := range p.held {
		if held != nil {
			close(held)
			p.held[d] = nil
		}
	}
}

// LoseRequest cuts the connection of the next request that has this text, in upper or lower
// case, in place of passing it on. Only a request that arrives in one piece is found, as that
// of a short statement does.
func (p *Proxy) LoseRequest(text string) { p.setLoss(text, false) }

// LoseAnswer passes on the next request that has this text, in upper or lower case, and cuts
// its connection in place of passing on the answer: the server has done what it was asked.
func (p *Proxy) LoseAnswer(text string) { p.setLoss(text, true) }

func (p *Proxy) setLoss(text string, answer bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = loss{bytes.ToLower([]byte(text)), answer}
}

// Lost returns whether LoseRequest or LoseAnswer has found its request.
func (p *Proxy) Lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lose.text == nil
}

// Cut cuts all connections, and returns how many there were. What was on its way is lost.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.links)
	for l := range p.links {
		l.cut()
	}
	clear(p.links)
	return n
}

// Refuse refuses new connections until Accept, as the system of a server does that is down.
// Those that are open stay.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

// Accept accepts new connections again.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.Addr())
	if err != nil {
		return err
	}
	p.listener = l
	p.running.Go(func() { p.serve(l) })
	return nil
}

// Accepted returns how many connections were accepted so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Open returns how many connections are open.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(client.(*net.TCPConn)) })
	}
}

// add begins a connection, unless the proxy has ended.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.links[l] = struct{}{}
	p.accepted++
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) delayOf(d Direction) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay[d]
}

func (p *Proxy) heldIn(d Direction) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[d]
}

// loses returns whether a connection is cut in place of passing this on.
func (p *Proxy) loses(l *link, d Direction, data []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d == ToClient {
		return l.loseAnswer
	}
	if p.lose.text == nil || !bytes.Contains(bytes.ToLower(data), p.lose.text) {
		return false
	}
	l.loseAnswer = p.lose.answer
	p.lose = loss{}
	return !l.loseAnswer
}
