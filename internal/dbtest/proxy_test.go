package dbtest

// This file holds tests of the proxy, with a server that echoes, and with databases.

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo starts a server that sends back what it gets, and a proxy before it.
func echo(t *testing.T) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return NewProxy(t, l.Addr().String())
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn.(*net.TCPConn)
}

// ask sends a text and returns what comes back, and how long that took.
func ask(t *testing.T, conn net.Conn, text string) (string, time.Duration, error) {
	t.Helper()
	began := time.Now()
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", 0, err
	}
	answer := make([]byte, len(text))
	n, err := io.ReadFull(conn, answer)
	return string(answer[:n]), time.Since(began), err
}

// silent asserts that nothing comes.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
}

func TestProxyDelays(t *testing.T) {
	t.Parallel()
	for name, d := range map[string][2]time.Duration{"to the server": {150 * time.Millisecond, 0}, "to the client": {0, 150 * time.Millisecond}, "both": {70 * time.Millisecond, 80 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := echo(t)
			conn := dial(t, p)
			answer, _, err := ask(t, conn, "now")
			require.NoError(t, err)
			assert.Equal(t, "now", answer)
			p.SetDelay(ToServer, d[ToServer])
			p.SetDelay(ToClient, d[ToClient])
			answer, took, err := ask(t, conn, "later")
			require.NoError(t, err)
			assert.Equal(t, "later", answer)
			assert.GreaterOrEqual(t, took, 150*time.Millisecond)

			// Pieces do not wait for each other.
			began := time.Now()
			apart := time.NewTicker(time.Millisecond) // else they are one piece
			defer apart.Stop()
			for range 20 {
				<-apart.C
				_, err := conn.Write([]byte("x"))
				require.NoError(t, err)
			}
			_, err = io.ReadFull(conn, make([]byte, 20))
			require.NoError(t, err)
			assert.Less(t, time.Since(began), 1500*time.Millisecond)
		})
	}
}

func TestProxyHolds(t *testing.T) {
	t.Parallel()
	for name, directions := range map[string][]Direction{"to the server": {ToServer}, "to the client": {ToClient}, "both": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := echo(t)
			before := dial(t, p)
			_, _, err := ask(t, before, "a")
			require.NoError(t, err)
			p.Hold(directions...)
			p.Hold(directions...)
			during := dial(t, p)
			for _, conn := range []net.Conn{before, during} {
				_, err := conn.Write([]byte("held"))
				require.NoError(t, err)
				silent(t, conn)
			}
			p.Release()
			for _, conn := range []net.Conn{before, during} {
				answer := make([]byte, 4)
				_, err := io.ReadFull(conn, answer)
				require.NoError(t, err)
				assert.Equal(t, "held", string(answer))
			}
		})
	}
}

// The end of a connection is held like all else, and passed on when all data is.
func TestProxyPassesOnTheEnd(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	p.Hold(ToServer)
	_, err := conn.Write([]byte("the last"))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	silent(t, conn)
	p.Release()
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Equal(t, "the last", string(rest))
	require.Eventually(t, func() bool { return p.Open() == 0 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, 1, p.Accepted())
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	p := echo(t)
	a, b := dial(t, p), dial(t, p)
	p.Hold(ToClient)
	require.Eventually(t, func() bool { return p.Open() == 2 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, 2, p.Cut())
	assert.Zero(t, p.Open())
	assert.Zero(t, p.Cut())
	p.Release()
	for _, conn := range []net.Conn{a, b} {
		_, err := conn.Read(make([]byte, 1))
		assert.ErrorIs(t, err, syscall.ECONNRESET)
	}
	_, _, err := ask(t, dial(t, p), "a new one")
	require.NoError(t, err)
	assert.Equal(t, 3, p.Accepted())
}

func TestProxyRefuses(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	_, _, err := ask(t, conn, "a")
	require.NoError(t, err)
	p.Refuse()
	p.Refuse()
	_, err = net.Dial("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	_, _, err = ask(t, conn, "those that are open stay")
	require.NoError(t, err)
	require.NoError(t, p.Accept())
	require.NoError(t, p.Accept())
	_, _, err = ask(t, dial(t, p), "a")
	require.NoError(t, err)
}

// The proxy of a server that is down cuts connections.
func TestProxyOfNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	p := NewProxy(t, l.Addr().String())
	conn, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
	assert.Zero(t, p.Open())
}

// A client that resets its connection ends the one to the server.
func TestProxyPassesOnAReset(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	_, _, err := ask(t, conn, "a")
	require.NoError(t, err)
	require.NoError(t, conn.SetLinger(0))
	require.NoError(t, conn.Close())
	require.Eventually(t, func() bool { return p.Open() == 0 }, 10*time.Second, time.Millisecond)
}

// A COMMIT whose answer is lost has happened, one that is lost itself has not: the client cannot
// tell.
func TestProxyLosesACommit(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, kind Kind) {
		s := Shared(t, kind)
		p := NewProxy(t, s.Addr())
		d := s.NewDatabase(t)
		db := open(t, kind, d.At(p.Addr()))
		do(t, db, "CREATE TABLE a (b INT)")
		insert := func(value string) error {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(t.Context(), "INSERT INTO a VALUES ("+value+")")
			require.NoError(t, err)
			return tx.Commit()
		}
		p.LoseRequest("COMMIT")
		require.False(t, p.Lost())
		require.Error(t, insert("1"))
		require.True(t, p.Lost())
		require.NoError(t, insert("2"))
		p.LoseAnswer("COMMIT")
		require.False(t, p.Lost())
		require.Error(t, insert("3"))
		require.True(t, p.Lost())
		require.NoError(t, insert("4"))
		assert.Equal(t, [][]string{{"2"}, {"3"}, {"4"}}, s.Query(t, d.Name, "SELECT b FROM a ORDER BY b"))
	})
}

// What happens to a proxy that has ended: nothing is accepted, and nothing waits.
func TestProxyEnds(t *testing.T) {
	t.Parallel()
	var p *Proxy
	var conn *net.TCPConn
	t.Run("the test", func(t *testing.T) {
		p = echo(t)
		conn = dial(t, p)
		_, _, err := ask(t, conn, "a")
		require.NoError(t, err)
		p.Hold()
		_, err = conn.Write([]byte("held"))
		require.NoError(t, err)
	})
	_, err := net.Dial("tcp", p.Addr())
	require.Error(t, err)
	assert.Zero(t, p.Open())
	assert.False(t, p.add(&link{proxy: p}), "one that was accepted just before")
	_, err = conn.Read(make([]byte, 1))
	assert.False(t, err == nil || errors.Is(err, os.ErrDeadlineExceeded))
}
