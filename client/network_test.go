package client_test

// This file holds the network of the tests. It resets connections, forgets them, or ends
// streams of HTTP/2 by a frame that the test writes.

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// network forwards bytes between a client and a server. It can reset connections, and
// forget them as a firewall does: then nothing arrives any more in either direction, and
// nothing is closed. New connections work.
type network struct {
	listener net.Listener
	to       string
	epoch    atomic.Int32 // connections of an earlier one are forgotten
	opened   atomic.Int32

	mu    sync.Mutex
	conns []net.Conn // of clients
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &network{listener: l, to: to}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", n.to)
			if err != nil {
				_ = conn.Close()
				continue
			}
			n.opened.Add(1)
			n.mu.Lock()
			n.conns = append(n.conns, conn)
			n.mu.Unlock()
			epoch := n.epoch.Load()
			go n.forward(server, conn, epoch)
			go n.forward(conn, server, epoch)
			t.Cleanup(func() { _, _ = conn.Close(), server.Close() })
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return n
}

func (n *network) forward(dst, src net.Conn, epoch int32) {
	buf := make([]byte, 32<<10)
	for {
		size, err := src.Read(buf)
		switch {
		case n.epoch.Load() != epoch:
			if err != nil {
				return
			}
		case err != nil:
			return
		default:
			_, _ = dst.Write(buf[:size])
		}
	}
}

// forget makes the network forget its connections.
func (n *network) forget() { n.epoch.Add(1) }

// reset resets the connections to the clients. Those to the server stay, so that it goes on
// with its work.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

// tlsServer serves an emulator over TLS, and returns its address.
func tlsServer(t *testing.T, h http.Handler, http2 bool) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// overTLS returns a transport that trusts every server.
func overTLS(http2 bool) *http.Transport {
	return &http.Transport{
		ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 16,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
}

// rawHTTP2 is a server of HTTP/2 that ends every stream by one frame of its own.
func rawHTTP2(t *testing.T, end func(stream uint32) []byte) (address string, requests *atomic.Int32) {
	t.Helper()
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(certified.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	requests = new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go serveFrames(conn, requests, end)
		}
	}()
	return l.Addr().String(), requests
}

const (
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	frameGoAway   = 7
)

func frame(kind byte, stream uint32, payload ...byte) []byte {
	header := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, 0}
	return append(binary.BigEndian.AppendUint32(header, stream), payload...)
}

func serveFrames(conn net.Conn, requests *atomic.Int32, end func(stream uint32) []byte) {
	if _, err := io.CopyN(io.Discard, conn, 24); err != nil { // the preface
		return
	}
	_, _ = conn.Write(frame(frameSettings, 0))
	for header := make([]byte, 9); ; {
		if _, err := io.ReadFull(conn, header); err != nil {
			return
		}
		size := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		if _, err := io.CopyN(io.Discard, conn, size); err != nil {
			return
		}
		const endStream = 1
		stream := binary.BigEndian.Uint32(header[5:])
		if kind := header[3]; kind == frameHeaders {
			requests.Add(1)
		} else if kind == 0 && header[4]&endStream != 0 { // the body is whole
			_, _ = conn.Write(end(stream))
		}
	}
}
