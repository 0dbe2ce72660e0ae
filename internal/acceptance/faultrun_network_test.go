package acceptance

// This file holds the network of the fault run: it is between the gateway and the API, and
// breaks connections as real networks do.

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Over HTTP/2 the gateway sends a ping when no frame has come for pingAfter. It closes the
// connection if there is still no frame after pingAnswer.
const (
	pingAfter  = 2 * time.Second
	pingAnswer = 3 * time.Second
	pingSlack  = 2 * time.Second // for the machine
	longDead   = pingAfter + pingAnswer + pingSlack
)

const handshake = 10 // pieces of data by which one under TLS is over

const (
	overHTTP1 = "HTTP/1.1"
	overHTTP2 = "HTTP/2"
)

// The faults of the network, under each protocol.
const (
	netRefused   = "network: refused for a while"
	netUnread    = "network: reset before the request was read"
	netCutOff    = "network: cut off within an answer"
	netReset     = "network: reset while the API is at work"
	netBlackHole = "network: black-holed"
)

// network is the state that both fronts share.
type network struct {
	draw   *sharedRand
	calm   *atomic.Bool
	faults *faultCounts
	ctx    context.Context // of the run
	links  sync.Map        // by the address from which the API sees them
	owed   [3]atomic.Int64 // resets that came too late or must come first, by protocol

	mu   sync.Mutex
	dead []*link // that were written to when they were long dead
}

// front is the network before the API for one protocol. It refuses connections from time to
// time, and draws a fault, or none, for each connection.
type front struct {
	*network
	protocol    string
	address, to string
	unread      *deck[bool]   // at once
	faultPlan   *deck[string] // later
	next        atomic.Bool   // connection goes black
	all         sync.WaitGroup
}

func (f *front) strike(name string) { f.faults.add(name + ", " + f.protocol) }

func (f *front) run(t *testing.T) {
	listener, err := net.Listen("tcp", f.address)
	require.NoError(t, err)
	f.all.Go(func() {
		for {
			stop := context.AfterFunc(f.ctx, func() { _ = listener.Close() })
			opened := time.AfterFunc(f.draw.between(200*time.Millisecond, 800*time.Millisecond), func() {
				if !f.calm.Load() {
					f.strike(netRefused)
					_ = listener.Close()
				}
			})
			for {
				conn, err := listener.Accept()
				if err != nil {
					break
				}
				f.all.Go(func() { f.forward(conn.(*net.TCPConn)) })
			}
			opened.Stop()
			stop()
			select {
			case <-f.ctx.Done():
				return
			case <-time.After(f.draw.between(5*time.Millisecond, 60*time.Millisecond)):
			}
			if listener, err = net.Listen("tcp", f.address); err != nil {
				return // the calls that follow fail the run
			}
		}
	})
	t.Cleanup(f.all.Wait)
}

func (f *front) forward(gateway *net.TCPConn) {
	if !f.calm.Load() && f.unread.next() {
		f.strike(netUnread)
		_ = gateway.SetLinger(0)
		_ = gateway.Close()
		return
	}
	api, err := net.Dial("tcp", f.to)
	if err != nil {
		_ = gateway.Close()
		return
	}
	l := &link{front: f, gateway: gateway, api: api, blackAfter: -1, cutAfter: -1}
	from := api.LocalAddr().String()
	f.links.Store(from, l)
	stop := context.AfterFunc(f.ctx, func() {
		_ = gateway.Close()
		_ = api.Close()
	})
	var both sync.WaitGroup
	both.Go(l.toAPI)
	both.Go(l.toGateway)
	both.Wait()
	if l.cutAfter >= 0 && !l.cut { // it ended before
		f.faultPlan.again(netCutOff)
	}
	stop()
	f.links.Delete(from)
	_ = gateway.Close()
	_ = api.Close()
}

// resetSoon resets the gateway's connection while the API works on the request from this
// address. If the connection has ended already, another request's is reset later.
func (n *network) resetSoon(from string, protocol int, after time.Duration) {
	time.AfterFunc(after, func() {
		if l, ok := n.links.Load(from); ok && l.(*link).reset() {
			l.(*link).front.strike(netReset)
		} else {
			n.owed[protocol].Add(1)
		}
	})
}

// owes reports whether the next request's connection is to be reset.
func (n *network) owes(protocol int) bool {
	owed := n.owed[protocol].Load()
	return owed > 0 && n.owed[protocol].CompareAndSwap(owed, owed-1)
}

// link is one connection through a front.
type link struct {
	front   *front
	gateway *net.TCPConn
	api     net.Conn

	mu         sync.Mutex
	pieces     int       // of data, in either direction
	blackAfter int       // so many; -1: never
	cutAfter   int       // bytes of the API's; -1: never
	cut        bool      // within an answer
	severed    bool      // the gateway's side is reset, and the API does not know
	black      time.Time // since when nothing is forwarded
	writable   time.Time // since when the gateway may find out
	written    time.Duration
}

// toAPI forwards what the gateway sends. The API does not see the end of a connection that
// the network broke: it continues its work.
func (l *link) toAPI() {
	buf := make([]byte, 32<<10)
	for {
		n, err := l.gateway.Read(buf)
		if err != nil {
			break
		}
		if l.passes() {
			_, _ = l.api.Write(buf[:n])
		} else {
			l.swallow(n)
		}
	}
	if !l.lost() {
		_ = l.api.Close()
		return
	}
	_ = l.api.SetReadDeadline(time.Now().Add(4 * runTimeout())) // longer than any work
}

// toGateway forwards what the API answers.
func (l *link) toGateway() {
	buf := make([]byte, 32<<10)
	for {
		n, err := l.api.Read(buf)
		if err != nil {
			break
		}
		if !l.passes() {
			continue
		}
		whole := l.allowance(n)
		_, _ = l.gateway.Write(buf[:whole])
		if whole < n {
			l.front.strike(netCutOff)
			l.cut = true
			break
		}
	}
	if !l.lost() { // what is black stays open, and what is reset is closed
		_ = l.gateway.Close()
	}
}

// passes reports whether a piece of data is forwarded.
func (l *link) passes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.front.calm.Load() {
		l.meetFate()
	}
	l.pieces++
	return l.black.IsZero() && !l.severed
}

// meetFate draws the fault of a connection when it is first used. Under HTTP/2 some
// connections are never used, and each begins with a TLS handshake.
func (l *link) meetFate() {
	first, most, bytes := 0, 3, 900 // the first request, its answer or the next request
	if l.front.protocol == overHTTP2 {
		first, most, bytes = handshake, 10, 300
	}
	if l.pieces == first && !l.severed && l.black.IsZero() {
		switch l.front.faultPlan.next() {
		case netBlackHole:
			l.blackAfter = first + l.front.draw.below(most)
		case netCutOff:
			l.cutAfter = l.front.draw.below(bytes)
		}
	}
	if l.severed || !l.black.IsZero() {
		return
	}
	if l.pieces == l.blackAfter || l.pieces > first && l.front.next.CompareAndSwap(true, false) {
		l.blacken()
	}
}

func (l *link) blacken() {
	l.black = time.Now()
	l.front.strike(netBlackHole)
}

// blacken makes all connections black holes at once, as a network does that goes down, or the
// next connection if there is none.
func (f *front) blacken() {
	f.next.Store(true)
	f.links.Range(func(_, value any) bool {
		l := value.(*link)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.front == f && !l.severed && l.black.IsZero() && l.pieces > handshake {
			l.blacken()
			f.next.Store(false)
		}
		return true
	})
}

// allowance returns how many of the next n bytes reach the gateway.
func (l *link) allowance(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cutAfter < 0 || l.front.calm.Load() {
		return n
	}
	whole := min(n, l.cutAfter)
	l.cutAfter -= whole
	return whole
}

func (l *link) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.severed || !l.black.IsZero()
}

// swallow notes that the gateway writes into a black hole. Under HTTP/1.1 the gateway can
// notice that only with its next request, so the time counts from there.
func (l *link) swallow(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.severed || bytes == 0 {
		return
	}
	if l.writable.IsZero() {
		if l.writable = l.black; l.front.protocol == overHTTP1 {
			l.writable = time.Now()
		}
	}
	if since := time.Since(l.writable); since > longDead {
		l.written = since
		l.front.note(l)
	}
}

func (n *network) note(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.dead, l) {
		n.dead = append(n.dead, l)
	}
}

// reset resets the connection to the gateway, and leaves the one to the API open.
func (l *link) reset() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.severed || !l.black.IsZero() || l.gateway.SetLinger(0) != nil {
		return false
	}
	l.severed = true
	return l.gateway.Close() == nil
}

func (l *link) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("a connection under %s that went black %v before", l.front.protocol, l.written.Round(time.Millisecond))
}
