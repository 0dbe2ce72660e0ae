package client_test

// This file holds tests of what becomes of a POST /cvs whose answer is lost, and of
// connections that die without a word.

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// network is what lies between a client and a server. It can reset connections, and
// forget them: then nothing arrives any more in either direction, and nothing is
// closed. New connections work.
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

// forget has the network forget its connections.
func (n *network) forget() { n.epoch.Add(1) }

// reset resets the clients' connections. The server's stay, so that it goes on with
// its work.
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

// The API may be at work on what was written, however its connection ends.
func TestIssueIsNotSentAgainAfterAReset(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for _, http2 := range []bool{false, true} {
		for _, work := range []time.Duration{limit / 2, limit * 3 / 2, limit * 3} {
			t.Run(fmt.Sprintf("HTTP2 %v, work %v", http2, work), func(t *testing.T) {
				t.Parallel()
				arrived := make(chan struct{}, 10)
				e := emulator.New(emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
					if endpoint == emulator.EndpointIssue {
						arrived <- struct{}{}
					}
				}})
				t.Cleanup(func() { _ = e.Close() })
				n := newNetwork(t, tlsServer(t, e, http2))
				c := newClient(t, "https://"+n.listener.Addr().String(), timeout(limit), transport(overTLS(http2)))
				fetchToken(t, c)
				inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: work, Times: 1})
				began := time.Now()
				call := issueInBackground(context.Background(), c, order(t, "o"))
				<-arrived
				n.reset()
				r := <-call
				if took := time.Since(began); r.err == nil {
					assert.True(t, r.resp.Recovered)
				} else {
					require.ErrorIs(t, r.err, client.ErrOutcomeUnknown)
					assert.GreaterOrEqual(t, took, limit, "looked up until the API should be done")
					assert.Greater(t, work, limit, "what is done by then is found")
				}
				require.Eventually(t, func() bool { return len(e.Payments()) > 0 }, 10*time.Second, 5*time.Millisecond)
				assert.Equal(t, 1, e.Requests(emulator.EndpointIssue))
				assert.Len(t, e.Payments(), 1)
			})
		}
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

// After these ends of a stream http.Transport sends a request again by itself, if it
// is let. A server may have done the work all the same.
func TestIssueIsNotSentAgainByTheTransport(t *testing.T) {
	t.Parallel()
	code := func(c byte) []byte { return []byte{0, 0, 0, c} }
	for name, end := range map[string]func(stream uint32) []byte{
		"refused stream": func(stream uint32) []byte { return frame(frameReset, stream, code(7)...) },
		"protocol error": func(stream uint32) []byte { return frame(frameReset, stream, code(1)...) },
		"internal error": func(stream uint32) []byte { return frame(frameReset, stream, code(2)...) },
		"going away":     func(uint32) []byte { return frame(frameGoAway, 0, append(code(0), code(0)...)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, requests := rawHTTP2(t, end)
			api := &scriptedAPI{find: missing, other: missing}
			raw := overTLS(true)
			t.Cleanup(raw.CloseIdleConnections)
			c := newClient(t, "https://"+address, timeout(brief), transport(roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/cvs" {
					return raw.RoundTrip(r)
				}
				return inProcess(api).RoundTrip(r)
			})))
			_, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			assert.EqualValues(t, 1, requests.Load())
		})
	}
}

// A 401 is the API's word that nothing was done, over HTTP/2 as well.
func TestIssueIsSentAgainAfterA401OverHTTP2(t *testing.T) {
	t.Parallel()
	e := emulator.New(emulator.Options{})
	c := newClient(t, "https://"+tlsServer(t, e, true), transport(overTLS(true)))
	fetchToken(t, c)
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, ExpiredToken: true})
	resp, err := c.IssueRaw(context.Background(), order(t, "o"))
	require.NoError(t, err)
	assert.False(t, resp.Recovered)
	assert.Equal(t, 2, e.Requests(emulator.EndpointIssue))
	assert.Len(t, e.Payments(), 1)
}

// Connections that a firewall forgot must not cost a call each.
func TestForgottenConnectionsAreGivenUp(t *testing.T) {
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

// While calls come one upon the other, no connection of HTTP/2 is ever idle, and only
// a ping finds out that it is dead.
func TestPingsFindADeadConnectionUnderLoad(t *testing.T) {
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

func TestKeepHealthyKeepsWhatWasSet(t *testing.T) {
	t.Parallel()
	rt := &http.Transport{HTTP2: &http.HTTP2Config{SendPingTimeout: time.Minute, MaxConcurrentStreams: 7}}
	client.KeepHealthy(rt)
	assert.Equal(t, time.Minute, rt.HTTP2.SendPingTimeout)
	assert.Equal(t, 3*time.Second, rt.HTTP2.PingTimeout)
	assert.Equal(t, 7, rt.HTTP2.MaxConcurrentStreams)
}

// What is found must be what was asked for, by all that it shows.
func TestRecoveredPaymentShowsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	const asked = `"merchant_uid":"o","amount":15000,"name":"우산","buyer_name":"홍길동","buyer_tel":"010-1234-5678","barcode":"2222","pg":"galaxia.M2","custom_data":{"a":[1,2],"b":"x"}`
	shown := map[string]string{
		"imp_uid": `"imp_1"`, "merchant_uid": `"o"`, "amount": "15000", "status": `"ready"`, "name": `"우산"`, "buyer_name": `"홍길동"`,
		"buyer_tel": `"010-1234-5678"`, "vbank_num": `"2222"`, "pg_id": `"M2"`, "custom_data": `"{\"b\": \"x\", \"a\": [1, 2.0]}"`,
		"pay_method": `"cvs"`, "currency": `"KRW"`, "started_at": fmt.Sprint(time.Now().Unix()),
	}
	var checks []func()
	for name, tc := range map[string]struct {
		field, value string
		ours         bool
	}{
		"all the same":              {"", "", true},
		"paid meanwhile":            {"status", `"paid"`, true},
		"no number shown":           {"vbank_num", "null", true},
		"no merchant id shown":      {"pg_id", "null", true},
		"an unknown method":         {"pay_method", `"convenience"`, true},
		"less than a won apart":     {"amount", "15000.000000000002", true},
		"another barcode":           {"vbank_num", `"1111"`, false},
		"another name":              {"name", `"양산"`, false},
		"no name":                   {"name", "null", false},
		"another buyer":             {"buyer_name", `"임꺽정"`, false},
		"another telephone":         {"buyer_tel", `"010-0000-0000"`, false},
		"an address nobody gave":    {"buyer_addr", `"서울"`, false},
		"other data":                {"custom_data", `"{\"a\":[1,3],\"b\":\"x\"}"`, false},
		"no data":                   {"custom_data", "null", false},
		"another merchant id":       {"pg_id", `"M1"`, false},
		"a payment by card":         {"pay_method", `"card"`, false},
		"a payment by bank account": {"pay_method", `"vbank"`, false},
		"another currency":          {"currency", `"USD"`, false},
		"a won more":                {"amount", "15001", false},
	} {
		members := []string{}
		for field, value := range shown {
			if field != tc.field {
				members = append(members, fmt.Sprintf("%q:%s", field, value))
			}
		}
		if tc.field != "" {
			members = append(members, fmt.Sprintf("%q:%s", tc.field, tc.value))
		}
		api := &scriptedAPI{issue: hangUp, find: succeed("{" + strings.Join(members, ",") + "}")}
		c := newClient(t, newServer(t, api).URL, timeout(brief))
		call := issueInBackground(context.Background(), c, parse(t, strict.JSON, "{"+asked+"}"))
		checks = append(checks, func() {
			r := <-call
			assert.EqualValues(t, 1, api.posts.Load(), name)
			if tc.ours {
				assert.NoError(t, r.err, name)
			} else {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			}
		})
	}
	runAll(checks)
}

// custom_data may be sent in several ways, and comes back as the text of its JSON.
func TestRecoveredPaymentShowsTheDataThatWasSent(t *testing.T) {
	t.Parallel()
	var checks []func()
	for body, ours := range map[string]bool{
		`{"merchant_uid":"o","amount":1,"custom_data":"{\"a\":1}"}`: true,
		`{"merchant_uid":"o","amount":1,"custom_data":{"a":1}}`:     true,
		`{"merchant_uid":"o","amount":1,"custom_data":[{"a":1}]}`:   false,
		`{"merchant_uid":"o","amount":1}`:                           false,
		`merchant_uid=o&amount=1&custom_data=%7B%22a%22%3A1%7D`:     true,
		`merchant_uid=o&amount=1&custom_data%5Ba%5D=1`:              false, // how the API reads it is not known
	} {
		contentType := strict.JSON
		if body[0] != '{' {
			contentType = strict.Form
		}
		shown := fmt.Sprintf(`{"imp_uid":"imp_1","merchant_uid":"o","amount":1,"status":"ready","started_at":%d,"custom_data":"{\"a\":1}"}`, time.Now().Unix())
		c := newClient(t, newServer(t, &scriptedAPI{issue: hangUp, find: succeed(shown)}).URL, timeout(brief))
		call := issueInBackground(context.Background(), c, parse(t, contentType, body))
		checks = append(checks, func() { assert.Equal(t, ours, (<-call).err == nil, body) })
	}
	runAll(checks)
}

// A call that comes right behind another one of its order is lost. The look-up finds
// the first one's payment, which within the second that the API's times have could be
// either's, and shows nothing of the deadline in which they differ.
func TestRecoveredPaymentIsNotAnotherCalls(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(time.Hour).Unix()
	for name, second := range map[string]string{
		"another barcode and name": `{"merchant_uid":"o","amount":15000,"barcode":"2222","name":"second"}`,
		"another deadline":         fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, deadline),
		"another confirm_url":      `{"merchant_uid":"o","amount":15000,"confirm_url":"http://127.0.0.1/2"}`,
		"the same":                 `{"merchant_uid":"o","amount":15000}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, c := newSandbox(t, emulator.Options{}, timeout(brief))
			fetchToken(t, c)
			_, err := c.IssueRaw(context.Background(), order(t, "o"))
			require.NoError(t, err)
			inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Drop: emulator.DropBefore, Times: 1})
			_, err = c.IssueRaw(context.Background(), parse(t, strict.JSON, second))
			require.ErrorIs(t, err, client.ErrOutcomeUnknown)
			assert.Len(t, e.Payments(), 1)
		})
	}
}

// Of two calls at once, both without an answer, one payment is found. Whose is it?
func TestRecoveredPaymentThatCouldBeEithersIsNobodys(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first, second string
		found         int // of the two
	}{
		"they show the same":    {`{"merchant_uid":"o","amount":15000}`, fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, time.Now().Add(time.Hour).Unix()), 0},
		"they do not":           {`{"merchant_uid":"o","amount":15000,"name":"first"}`, `{"merchant_uid":"o","amount":15000,"name":"second"}`, 1},
		"of two orders they do": {`{"merchant_uid":"o","amount":15000}`, `{"merchant_uid":"p","amount":15000}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var posts atomic.Int32
			both := make(chan struct{})
			e, c := newSandbox(t, emulator.Options{
				BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
					if endpoint == emulator.EndpointIssue {
						if posts.Add(1) == 2 {
							close(both)
						}
						<-both
					}
				},
				Fault: func(endpoint emulator.Endpoint, r *http.Request) emulator.Fault {
					body, _ := io.ReadAll(r.Body)
					switch {
					case endpoint != emulator.EndpointIssue:
						return emulator.Fault{}
					case string(body) == tc.first:
						return emulator.Fault{Drop: emulator.DropAfter}
					}
					return emulator.Fault{Drop: emulator.DropBefore}
				},
			}, timeout(brief))
			fetchToken(t, c)
			one := issueInBackground(context.Background(), c, parse(t, strict.JSON, tc.first))
			two := issueInBackground(context.Background(), c, parse(t, strict.JSON, tc.second))
			found := 0
			for _, r := range []result{<-one, <-two} {
				if r.err == nil {
					found++
					assert.True(t, r.resp.Recovered)
				} else {
					assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown)
				}
			}
			assert.Equal(t, tc.found, found)
			assert.Len(t, e.Payments(), 1)
		})
	}
}

// A call in doubt is remembered after its answer, as its payment may come late.
func TestLatePaymentIsNotTheNextCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		const limit = 4 * time.Second
		var posts int
		c := newClient(t, "http://api.example", timeout(limit), transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/cvs" {
				return inProcess(e).RoundTrip(r)
			}
			if posts++; posts == 1 { // the work is done three time-outs later
				body, _ := io.ReadAll(r.Body)
				late := r.Clone(context.Background())
				late.Body = io.NopCloser(strings.NewReader(string(body)))
				time.AfterFunc(3*limit, func() { _, _ = inProcess(e).RoundTrip(late) })
			}
			return nil, io.ErrUnexpectedEOF
		})))
		fetchToken(t, c)
		began := time.Now()
		_, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.ErrorIs(t, err, client.ErrOutcomeUnknown)
		<-time.After(time.Until(began.Add(3*limit - time.Second)))
		other := parse(t, strict.JSON, fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, longAgo.Add(time.Hour).Unix()))
		_, err = c.IssueRaw(context.Background(), other)
		require.ErrorIs(t, err, client.ErrOutcomeUnknown, "the payment has another deadline")
		assert.Len(t, e.Payments(), 1)
		c.Close()
		<-time.After(time.Hour) // on synctest's clock: nothing is left behind
	})
}

// What the API says it did is done, whether its answer can be read or not.
func TestWhatWasDoneAndCannotBeReadIsUnknown(t *testing.T) {
	t.Parallel()
	for response, impUID := range map[string]string{
		`{"imp_uid":"imp_1","merchant_uid":"o","amount":"15,000","status":"ready","started_at":1}`: "imp_1",
		`{"imp_uid":17,"merchant_uid":"o","amount":15000}`:                                         "",
		`null`: "",
		`[]`:   "",
		`{"imp_uid":"` + strings.Repeat("x", 100) + `","amount":"-"}`: "",
	} {
		api := &scriptedAPI{issue: succeed(response), find: missing, other: succeed(response)}
		c := newClient(t, newServer(t, api).URL)
		for name, call := range map[string]func() (*client.Payment, error){
			"issue": func() (*client.Payment, error) {
				return c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
			},
			"void": func() (*client.Payment, error) { return c.Void(context.Background(), "imp_1") },
		} {
			p, err := call()
			require.ErrorIs(t, err, client.ErrOutcomeUnknown, "%s %s", name, response)
			require.NotErrorIs(t, err, client.ErrNotAPI, response)
			var unreadable *client.UnreadableError
			require.ErrorAs(t, err, &unreadable)
			assert.Equal(t, impUID, unreadable.ImpUID, response)
			assert.Contains(t, err.Error(), impUID)
			assert.Nil(t, p)
		}
		_, err := c.Payment(context.Background(), "imp_1")
		require.ErrorIs(t, err, client.ErrNotAPI, "a look-up does nothing")
		assert.EqualValues(t, 1, api.posts.Load())
	}
}

// Only the number 0 is success.
func TestOnlyZeroIsSuccess(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]int64{
		"0": 0, "-0": 0, "0.0": 0, "0e7": 0,
		"1": 1, "-1": -1, "1e2": 100, "-0.5": -1, "0.4": -1, "1e-300": -1, "1e300": -1, "9223372036854775808": -1, "1e-400": -1,
	} {
		api := &scriptedAPI{
			issue: answer(200, strict.JSON, `{"code":`+code+`,"message":"no","response":{"imp_uid":"imp_1","amount":1}}`),
			find:  missing,
		}
		c := newClient(t, newServer(t, api).URL)
		resp, err := c.IssueRaw(context.Background(), order(t, "o"))
		require.NoError(t, err, code)
		assert.Equal(t, want, resp.Code, code)
		assert.Equal(t, want == 0, resp.Err() == nil, code)
	}
}

func TestCompleteWithoutAKeyIsAnError(t *testing.T) {
	t.Parallel()
	base, err := signedurl.ParseBase("https://shop.example/confirm")
	require.NoError(t, err)
	for _, d := range []client.Defaults{{ConfirmURL: base}, {NoticeURL: base}} {
		require.ErrorIs(t, order(t, "o").Complete(d, signedurl.Keys{}, "", time.Now()), signedurl.ErrNoKey)
	}
	require.NoError(t, order(t, "o").Complete(client.Defaults{PG: "galaxia"}, signedurl.Keys{}, "", time.Now()))
}

// Each call is bounded, whatever keeps it from its answer.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Millisecond
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drip := func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{"no answer": hang, "drips": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &scriptedAPI{issue: h, find: h, other: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/payments/imp_0" {
					missing(w, r)
					return
				}
				h(w, r)
			}}
			c := newClient(t, newServer(t, api).URL, timeout(limit))
			fetchToken(t, c)
			for what, tc := range map[string]struct {
				call  func() error
				limit time.Duration
			}{
				"payment": {func() error { _, err := c.Payment(context.Background(), "imp_1"); return err }, limit},
				"find":    {func() error { _, err := c.FindPayment(context.Background(), "o", ""); return err }, limit},
				"void":    {func() error { _, err := c.Void(context.Background(), "imp_1"); return err }, limit},
				"issue":   {func() error { _, err := c.IssueRaw(context.Background(), order(t, "o")); return err }, 2 * limit},
			} {
				lag := watchLag()
				began := time.Now()
				err := tc.call()
				took := time.Since(began)
				require.ErrorIs(t, err, client.ErrOutcomeUnknown, what)
				assert.LessOrEqual(t, took, tc.limit+lag()+100*time.Millisecond, what)
				assert.GreaterOrEqual(t, took, tc.limit*9/10, "%s: nor is it given up early", what)
			}
		})
	}
}

// watchLag starts to watch how late timers are, on a machine with other work. The
// function that it returns tells the worst and ends the watch.
func watchLag() (worst func() time.Duration) {
	done, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			due := time.Now().Add(5 * time.Millisecond)
			select {
			case <-time.After(5 * time.Millisecond):
				most = max(most, time.Since(due))
			case <-done:
				result <- most
				return
			}
		}
	}()
	return func() time.Duration {
		close(done)
		return <-result
	}
}

// A look-up shows the newest payment only. Behind another one that began later, the
// call's own may stand: to say that there is none would invite a second barcode.
func TestNewerPaymentDoesNotMeanThatThereIsNone(t *testing.T) {
	t.Parallel()
	now := time.Now()
	payment := func(member string, started time.Time) http.HandlerFunc {
		return succeed(fmt.Sprintf(`{"imp_uid":"imp_9","merchant_uid":"o","amount":15000,"status":"ready","started_at":%d,%s}`, started.Unix(), member))
	}
	var checks []func()
	for name, tc := range map[string]struct {
		find http.HandlerFunc
		want error
	}{
		"none":                    {missing, client.ErrNotAPI},
		"an older one":            {payment(`"name":"other"`, now.Add(-time.Minute)), client.ErrNotAPI},
		"another call's":          {payment(`"name":"other"`, now), client.ErrOutcomeUnknown},
		"by card":                 {payment(`"pay_method":"card"`, now), client.ErrOutcomeUnknown},
		"void meanwhile":          {payment(`"status":"cancelled"`, now), client.ErrOutcomeUnknown},
		"failed":                  {payment(`"status":"failed"`, now), client.ErrOutcomeUnknown},
		"of another amount":       {found("o", "16000", now), client.ErrOutcomeUnknown},
		"a start that is nowhere": {payment(`"started_at":null`, now), client.ErrOutcomeUnknown},
	} {
		c := newClient(t, newServer(t, &scriptedAPI{issue: page(403), find: tc.find}).URL, timeout(brief))
		call := issueInBackground(context.Background(), c, order(t, "o"))
		checks = append(checks, func() {
			r := <-call
			assert.ErrorIs(t, r.err, tc.want, name)
			assert.Equal(t, errors.Is(tc.want, client.ErrOutcomeUnknown), errors.Is(r.err, client.ErrOutcomeUnknown), name)
		})
	}
	runAll(checks)
}

// A slow token leaves the API's clock uncertain for the calls that follow, so that what
// was answered before must be remembered for longer than it seemed.
func TestAnsweredPaymentIsRememberedWhileTheClocksMayDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{TokenLife: 5 * time.Second})
		var posts, tokens int
		c := newClient(t, "http://api.example", transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/cvs" {
				if posts++; posts == 2 {
					return nil, io.ErrUnexpectedEOF // lost before it reached the API
				}
			}
			resp, err := inProcess(e).RoundTrip(r)
			if r.URL.Path == "/users/getToken" {
				if tokens++; tokens > 1 {
					<-time.After(4800 * time.Millisecond) // on synctest's clock
				}
			}
			return resp, err
		})))
		fetchToken(t, c)
		issueUntil := func(deadline int64) error {
			_, err := c.IssueRaw(context.Background(), parse(t, strict.JSON, fmt.Sprintf(`{"merchant_uid":"o","amount":15000,"expired_at":%d}`, deadline)))
			return err
		}
		require.NoError(t, issueUntil(2_000_000_000))
		<-time.After(4700 * time.Millisecond)
		require.ErrorIs(t, issueUntil(2_000_000_099), client.ErrOutcomeUnknown)
		assert.Len(t, e.Payments(), 1)
		c.Close()
		<-time.After(time.Hour) // on synctest's clock
	})
}

// Behind a 101 nothing ends with a context any more: it must not be waited for.
func TestSwitchingProtocolsIsNoAnswer(t *testing.T) {
	t.Parallel()
	switching := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	}
	api := &scriptedAPI{issue: switching, find: missing, other: switching}
	c := newClient(t, newServer(t, api).URL, timeout(brief))
	began := time.Now()
	_, err := c.Payment(context.Background(), "imp_1")
	require.ErrorIs(t, err, client.ErrNotAPI)
	assert.Less(t, time.Since(began), brief)
	_, err = c.IssueRaw(context.Background(), order(t, "o"))
	require.ErrorIs(t, err, client.ErrOutcomeUnknown, "who knows what it does with what it was sent")
	assert.EqualValues(t, 1, api.posts.Load())

	now := time.Now().Unix()
	api = &scriptedAPI{other: missing, token: inTurn(switching, succeed(fmt.Sprintf(`{"access_token":"t","now":%d,"expired_at":%d}`, now, now+1800)))}
	c = newClient(t, newServer(t, api).URL, timeout(brief))
	require.Eventually(t, func() bool {
		_, err = c.Payment(context.Background(), "imp_1")
		return errors.Is(err, client.ErrNotFound)
	}, 10*time.Second, 50*time.Millisecond, "a token is asked for again")
}
