package dbtest

// This file holds a single connection of a proxy.

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// link is one connection.
type link struct {
	proxy *Proxy
	ends  [2]*net.TCPConn // by the direction of what is written to it
	done  chan struct{}   // closed when it has ended
	once  sync.Once

	loseAnswer bool // guarded by the proxy's mu
}

// piece is something that one end has sent.
type piece struct {
	data []byte
	due  time.Time // when it is passed on
	end  error     // why nothing follows; io.EOF if the end has closed its connection
}

// connect passes on what a client and the server send, until one of them or the proxy ends it.
func (p *Proxy) connect(client *net.TCPConn) {
	l := &link{proxy: p, ends: [2]*net.TCPConn{ToClient: client}, done: make(chan struct{})}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		l.cut()
		return
	}
	l.ends[ToServer] = server.(*net.TCPConn)
	if !p.add(l) {
		l.cut()
		return
	}
	defer p.remove(l)
	var pumps sync.WaitGroup
	for _, d := range []Direction{ToServer, ToClient} {
		pieces := make(chan piece, 1000) // what is on its way, while it is delayed or held
		pumps.Go(func() { l.read(d, pieces) })
		pumps.Go(func() { l.write(d, pieces) })
	}
	pumps.Wait()
	l.finish(false)
}

// read takes what one end sends.
func (l *link) read(d Direction, pieces chan<- piece) {
	for {
		buffer := make([]byte, 16<<10)
		n, err := l.ends[1-d].Read(buffer)
		select {
		case pieces <- piece{buffer[:n], time.Now().Add(l.proxy.delayOf(d)), err}:
		case <-l.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// write passes on what one end has sent to the other.
func (l *link) write(d Direction, pieces <-chan piece) {
	for {
		var p piece
		select {
		case p = <-pieces:
		case <-l.done:
			return
		}
		if !l.wait(d, p.due) {
			return
		}
		if l.proxy.loses(l, d, p.data) {
			l.cut()
			return
		}
		_, err := l.ends[d].Write(p.data)
		switch {
		case err != nil, p.end != nil && !errors.Is(p.end, io.EOF):
			l.cut()
			return
		case p.end != nil:
			_ = l.ends[d].CloseWrite()
			return
		}
	}
}

// wait waits until something may be passed on, and returns false if the connection has ended
// before.
func (l *link) wait(d Direction, due time.Time) bool {
	if delay := time.Until(due); delay > 0 {
		select {
		case <-time.After(delay):
		case <-l.done:
			return false
		}
	}
	for held := l.proxy.heldIn(d); held != nil; held = l.proxy.heldIn(d) {
		select {
		case <-held:
		case <-l.done:
			return false
		}
	}
	return true
}

// cut ends both connections in a way that both ends notice at once, and what is on its way is
// lost.
func (l *link) cut() { l.finish(true) }

func (l *link) finish(reset bool) {
	l.once.Do(func() {
		close(l.done)
		for _, end := range l.ends {
			if end == nil {
				continue
			}
			if reset {
				_ = end.SetLinger(0)
			}
			_ = end.Close()
		}
	})
}
