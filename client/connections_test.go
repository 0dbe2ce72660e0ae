package client_test

// This file holds tests of connections that die silently.

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// If a firewall forgot several connections, only one call may fail because of them.
func TestDeadConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP2 %v", http2), func(t *testing.T) {
			t.Parallel()
			const many = 8
			e := emulator.New(emulator.Options{})
			n := newNetwork(t, tlsServer(t, e, http2))
			c := newClient(t, "https://"+n.listener.Addr().String(), timeout(brief), transport(overTLS(http2)))
			fetchToken(t, c)
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointPayment, Delay: 100 * time.Millisecond, Times: many})
			var all sync.WaitGroup
			for range many { // at once, so that each has a connection of its own over HTTP/1.1
				all.Go(func() { _, _ = c.Payment(context.Background(), "imp_0") })
			}
			all.Wait()
			n.forget()
			_, err := c.IssueRaw(context.Background(), order(t, "lost"))
			require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			_, err = c.IssueRaw(context.Background(), order(t, "o"))
			require.NoError(t, err, "the next one meets no other dead connection")
		})
	}
}

// Under a steady load a connection of HTTP/2 is never idle, and only a ping finds out
// that it is dead.
func TestPingsFindDeadConnectionUnderLoad(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	n := newNetwork(t, tlsServer(t, e, true))
	rt := overTLS(true)
	client.KeepHealthy(rt)
	c := newClient(t, "https://"+n.listener.Addr().String(), timeout(brief), transport(rt))
	fetchToken(t, c)
	n.forget()
	done := make(chan struct{})
	var once sync.Once
	var all sync.WaitGroup
	began := time.Now()
	for i := range 4 {
		all.Go(func() {
			next := time.NewTimer(time.Duration(i) * 250 * time.Millisecond) // so that there is always a call
			defer next.Stop()
			<-next.C
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := c.Payment(context.Background(), "imp_0"); err != nil && !assert.Less(t, time.Since(began), 20*time.Second, "the dead connection is still in use") {
					return
				} else if isAnswer(err) {
					once.Do(func() { close(done) })
				}
			}
		})
	}
	all.Wait()
	assert.GreaterOrEqual(t, n.opened.Load(), int32(2))
}

func isAnswer(err error) bool {
	return err != nil && strings.Contains(err.Error(), "HTTP 404")
}

func TestKeepHealthyKeepsExplicitSettings(t *testing.T) {
	t.Parallel()
	rt := &http.Transport{HTTP2: &http.HTTP2Config{SendPingTimeout: time.Minute, MaxConcurrentStreams: 7}}
	client.KeepHealthy(rt)
	assert.Equal(t, time.Minute, rt.HTTP2.SendPingTimeout)
	assert.Equal(t, 3*time.Second, rt.HTTP2.PingTimeout)
	assert.Equal(t, 7, rt.HTTP2.MaxConcurrentStreams)
}
