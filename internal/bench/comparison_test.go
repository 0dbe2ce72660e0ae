// Package bench measures the gateway: beside what a merchant would use instead, with many accounts,
// barcodes and order checks, and with each place where the ledger can be.
package bench

// This file holds the comparison: how fast the handlers are beside what a merchant would use
// instead, and beside a handler that only passes requests on. The gateway and its backends
// are processes of their own. The process of the test sends the requests.
//
//	go test -run '^$' -bench '^BenchmarkComparison$' -benchtime 15x -timeout 30m ./internal/bench -cell 200ms

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

var (
	cellTime = flag.Duration("cell", 200*time.Millisecond, "how long the comparison measures each contender at each number of connections")
	onlyJob  = flag.String("job", "", "the only job that the comparison measures, such as issue; default all")
)

// connections are the numbers of requests that are under way at once.
var connections = []int{1, 16, 256}

// contender is one configuration that does a job.
type contender struct {
	job, name string
	site      string // the directives of its site at the gateway; "" if the load goes to what stands behind
	requests  []func(address string) source
	only      []int // of connections; default all
	gateway   int   // withLedger, withoutLedger or lockedLedger
}

// The gateways of the comparison: one with the ledger in a file, one without it, and one whose file
// another process holds.
const (
	withLedger = iota
	withoutLedger
	lockedLedger
	gateways
)

// key names a contender at a number of connections.
func (c contender) key(conns int) string { return fmt.Sprintf("%s/%s/%d", c.job, c.name, conns) }

// conns returns the numbers of connections that it is measured at.
func (c contender) conns() []int {
	if c.only != nil {
		return c.only
	}
	return connections
}

// sources returns the sources of the requests that it sends, one after another.
func (c contender) sources(address string) []source {
	all := make([]source, len(c.requests))
	for i, from := range c.requests {
		all[i] = from(address)
	}
	return all
}

// source makes the n-th request of a load.
type source func(n uint64, buf []byte) []byte

const (
	distance   = 20 * time.Millisecond // of an API that is far away
	slowChecks = 10 * time.Millisecond
)

func contenders(backend, far string) []contender {
	proxied := func(to string) string {
		return "reverse_proxy " + to + " {\nheader_up Authorization \"Bearer static\"\n}"
	}
	const proxy = "cvs_proxy {\npg galaxia\nconfirm_url https://shop.example/cvs/confirm\nnotice_url https://shop.example/cvs/notice\nexpires_in 72h\n"
	checks := func(n int, path string) string {
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "order_check http://%s%s/orders/{http.cvs.merchant_uid}/payable {\nrequire payable true\namount total\n}\n", backend, path)
		}
		return "cvs_confirm {\n" + b.String() + "}"
	}
	issuing := []func(string) source{issues}
	sdk := []func(string) source{tokens, issues} // what an app does with PortOne's SDKs
	confirming := []func(string) source{confirms}
	return []contender{
		{"issue", "cvs_proxy", proxy + "}", issuing, nil, withLedger},
		{"issue", "repeat pass", proxy + "repeat pass\n}", issuing, nil, withLedger},
		{"issue", "ledger off", proxy + "}", issuing, nil, withoutLedger},
		{"issue", "off, pass", proxy + "repeat pass\n}", issuing, nil, withoutLedger},
		{"issue", "reverse_proxy", proxied(backend), issuing, nil, withLedger},
		{"issue", "bare", "test_bare " + backend, issuing, nil, withLedger},
		{"issue far", "cvs_proxy", proxy + "account far\n}", issuing, []int{16}, withLedger},
		{"issue far", "reverse_proxy", proxied(far), issuing, []int{16}, withLedger},
		{"issue far", "sdk", "", sdk, []int{16}, withLedger},
		{"confirm", "cvs_confirm", checks(1, ""), confirming, nil, withLedger},
		{"confirm", "ledger off", checks(1, ""), confirming, nil, withoutLedger},
		{"confirm", "ledger locked", proxy + "}\n" + checks(1, ""), confirming, nil, lockedLedger},
		{"confirm", "forward_auth", "forward_auth " + backend + " {\nuri /orders/x/payable\n}\nrespond 200", confirming, nil, withLedger},
		{"confirm", "reverse_proxy", "reverse_proxy " + backend, confirming, nil, withLedger},
		{"confirm", "bare", "test_bare " + backend, confirming, nil, withLedger},
		{"confirm, other checks", "route", "cvs_confirm {\norder_check {\nroute {\nreverse_proxy " + backend + "\n}\nrequire payable true\namount total\n}\n}", confirming, []int{16}, withLedger},
		{"confirm, other checks", "2 checks", checks(2, ""), confirming, []int{16}, withLedger},
		{"confirm, other checks", "5 checks", checks(5, ""), confirming, []int{16}, withLedger},
		{"issue, traced", "no tracing", proxy + "repeat pass\n}", issuing, []int{1, 16}, withoutLedger},
		{"issue, traced", "Caddy's span", "tracing\ntest_untraced\n" + proxy + "repeat pass\n}", issuing, []int{1, 16}, withoutLedger},
		{"issue, traced", "all spans", "tracing\n" + proxy + "repeat pass\n}", issuing, []int{1, 16}, withoutLedger},
		{"confirm, traced", "no tracing", checks(1, ""), confirming, []int{1, 16}, withoutLedger},
		{"confirm, traced", "Caddy's span", "tracing\ntest_untraced\n" + checks(1, ""), confirming, []int{1, 16}, withoutLedger},
		{"confirm, traced", "all spans", "tracing\n" + checks(1, ""), confirming, []int{1, 16}, withoutLedger},
		{"confirm, slow checks", "1 check", checks(1, "/slow"), confirming, []int{1, 16}, withLedger},
		{"confirm, slow checks", "5 checks", checks(5, "/slow"), confirming, []int{1, 16}, withLedger},
	}
}

// post writes one request.
func post(buf []byte, address, target, contentType string, body []byte) []byte {
	return fmt.Appendf(buf, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", target, address, contentType, len(body), body)
}

// issues asks for the barcode of a new order with each request.
func issues(address string) source {
	return func(n uint64, buf []byte) []byte {
		return post(buf, address, "/cvs", gatewaytest.JSONType, fmt.Appendf(nil, `{"merchant_uid":"order-%016d","amount":15000,"name":"접이식 우산","buyer_name":"홍길동","buyer_tel":"010-0000-0000","custom_data":{"cart":[1,2,3]}}`, n))
	}
}

// tokens asks for an access token.
func tokens(address string) source {
	return func(_ uint64, buf []byte) []byte {
		return post(buf, address, "/users/getToken", gatewaytest.JSONType, []byte(`{"imp_key":"key","imp_secret":"secret"}`))
	}
}

// different is the number of orders whose webhooks are sent.
const different = 4096

// webhookID is the id of the attempt that the i-th webhook is about.
func webhookID(i int) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%012d", i))
}

// fillLedger writes the orders of the webhooks into a ledger, as if their barcodes had been issued.
func fillLedger(b *testing.B, file string) {
	b.Helper()
	store, err := boltstore.Open(file, boltstore.Options{})
	require.NoError(b, err)
	now, end := time.Now(), time.Now().Add(72*time.Hour)
	var writing sync.WaitGroup
	for i := range different {
		row := &ledger.Row{Format: ledger.Format, Order: fmt.Sprintf("order-%016d", i), Version: 1, Due: end.UnixMilli(), Attempts: []ledger.Attempt{{
			ID: webhookID(i), State: ledger.Issued, ImpUID: fmt.Sprintf("imp_%012d", i), Amount: "15000", PG: "galaxia",
			Deadline: end.Unix(), Asked: now.UnixMilli(), Since: now.UnixMilli(), Next: end.UnixMilli(), Fields: strings.Fields("imp_uid merchant_uid pay_method channel pg_provider vbank_num name amount currency buyer_name status started_at"),
		}}}
		writing.Go(func() { assert.NoError(b, store.Put(b.Context(), row, 0, false)) })
	}
	writing.Wait()
	require.NoError(b, store.Close())
}

// confirms sends genuine webhooks, each at its own signed URL.
func confirms(address string) source {
	keys, err := signedurl.NewKeys(gatewaytest.Canaries["CVS_TEST_SECRET"])
	if err != nil {
		panic(err)
	}
	base, err := signedurl.ParseBase("http://a.example/cvs/confirm")
	if err != nil {
		panic(err)
	}
	webhooks := make([][]byte, different)
	for i := range webhooks {
		order := fmt.Sprintf("order-%016d", i)
		claims := signedurl.Claims{Amount: "15000", Expires: time.Now().Add(72 * time.Hour).Unix(), ID: webhookID(i)}
		target, err := base.Sign(keys, signedurl.Confirm, order, claims)
		if err != nil {
			panic(err)
		}
		hook := gatewaytest.Issued{ImpUID: fmt.Sprintf("imp_%012d", i), MerchantUID: order, Barcode: "12345678901234567890"}
		webhooks[i] = post(nil, address, strings.TrimPrefix(target, "http://a.example"), gatewaytest.JSONType, []byte(hook.Webhook()))
	}
	return func(n uint64, buf []byte) []byte { return append(buf, webhooks[n%different]...) }
}

// The backends.

// behind answers as PortOne's API and the shop do, after a delay.
func behind(delay time.Duration) http.Handler {
	payment := fmt.Appendf(nil, `{"code":0,"message":null,"response":{"imp_uid":"imp_123456789012","merchant_uid":"order","status":"ready","amount":15000,"vbank_num":"12345678901234567890","started_at":%d,"custom_data":%q}}`,
		time.Now().Unix(), strings.Repeat("-", 600))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		wait := delay
		if strings.HasPrefix(r.URL.Path, "/slow/") {
			wait += slowChecks
		}
		if wait > 0 {
			time.Sleep(wait)
		}
		w.Header()["Content-Type"] = []string{gatewaytest.JSONType}
		switch r.URL.Path {
		case "/users/getToken":
			now := time.Now().Unix()
			fmt.Fprintf(w, `{"code":0,"message":null,"response":{"access_token":"token","now":%d,"expired_at":%d}}`, now, now+1800)
		case "/cvs":
			_, _ = w.Write(payment)
		default:
			if strings.HasPrefix(r.URL.Path, "/payments/findAll/") {
				_, _ = io.WriteString(w, `{"code":0,"message":null,"response":{"total":0,"previous":0,"next":0,"list":[]}}`)
				return
			}
			_, _ = io.WriteString(w, `{"payable":true,"total":15000}`)
		}
	})
}

// bare passes every request on and returns its answer, and does nothing else: any handler in
// Caddy costs as much.
type bare struct {
	To        string `json:"to"`
	transport *http.Transport
}

func (bare) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_bare", New: func() caddy.Module { return new(bare) }}
}

func (b *bare) Provision(caddy.Context) error {
	b.transport = &http.Transport{MaxIdleConnsPerHost: 1024}
	return nil
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+b.To+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	out.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	out.Header.Set("Authorization", "Bearer static")
	resp, err := b.transport.RoundTrip(out)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, err = w.Write(answer)
	return err
}

// untraced hides the span of Caddy's tracing from the handlers behind it.
type untraced struct{}

func (untraced) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_untraced", New: func() caddy.Module { return new(untraced) }}
}

func (untraced) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r.WithContext(trace.ContextWithSpan(r.Context(), nil)))
}

// The processes.

const roleVariable = "CVS_COMPARISON_ROLE"

// play runs the role that the comparison gave to this process, and reports whether there was
// one. The role ends when the input of the process ends.
func play() bool {
	in := bufio.NewReader(os.Stdin)
	switch os.Getenv(roleVariable) {
	case "gateway":
		caddy.RegisterModule(bare{})
		httpcaddyfile.RegisterHandlerDirective("test_bare", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
			h.Next()
			b := new(bare)
			if !h.AllArgs(&b.To) {
				return nil, h.ArgErr()
			}
			return b, nil
		})
		httpcaddyfile.RegisterDirectiveOrder("test_bare", httpcaddyfile.After, "encode")
		caddy.RegisterModule(untraced{})
		httpcaddyfile.RegisterHandlerDirective("test_untraced", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) { return new(untraced), nil })
		httpcaddyfile.RegisterDirectiveOrder("test_untraced", httpcaddyfile.After, "tracing")
		config, err := in.ReadString(0)
		if err == nil {
			err = run(strings.TrimSuffix(config, "\x00"))
		}
		if err != nil {
			fmt.Println(err)
			return true
		}
	case "behind":
		serve(behind(0))
		serve(behind(distance))
	case "payments":
		serve(payments())
	default:
		return false
	}
	fmt.Println("ready")
	for {
		if _, err := in.ReadBytes('\n'); err != nil {
			return true
		}
		_ = json.NewEncoder(os.Stdout).Encode(spentSoFar())
	}
}

// serve serves at an address that it prints.
func serve(handler http.Handler) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(listener.Addr())
	go func() { _ = (&http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}).Serve(listener) }()
}

func run(config string) error {
	adapted, _, err := gatewaytest.AdaptCaddyfile(config)
	if err != nil {
		return err
	}
	return caddy.Load(adapted, true)
}

// spent is what a process has used.
type spent struct {
	CPU           time.Duration
	Mallocs, Heap uint64
}

func spentSoFar() spent {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return spent{time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), mem.Mallocs, mem.TotalAlloc}
}

// process is another process of the comparison.
type process struct {
	in   io.Writer
	out  *bufio.Scanner
	stop func() // ends it
}

func startProcess(b *testing.B, role string, env ...string) *process {
	b.Helper()
	self, err := os.Executable()
	require.NoError(b, err)
	cmd := exec.CommandContext(b.Context(), self)
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role), env...)
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	stop := sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	b.Cleanup(stop)
	return &process{in, bufio.NewScanner(out), stop}
}

func (p *process) line(b *testing.B) string {
	b.Helper()
	require.True(b, p.out.Scan(), "a process of the comparison has ended")
	return p.out.Text()
}

func (p *process) spent(b *testing.B) (s spent) {
	b.Helper()
	fmt.Fprintln(p.in)
	require.NoError(b, json.Unmarshal([]byte(p.line(b)), &s))
	return s
}

// The load.

// cell is what one contender did at one number of connections in one round.
type cell struct {
	rate, p50, p99      float64 // requests a second; milliseconds
	cpu, allocs, memory float64 // microseconds, allocations and kilobytes of the gateway's, for each request
	syncs               float64 // of the ledger's file, for 1,000 requests
}

// syncs returns how often the ledger's file was synced: twice for each transaction, whose number
// stands in the two first pages of a file of bbolt.
func syncs(b *testing.B, file string) float64 {
	b.Helper()
	content := make([]byte, os.Getpagesize()+128)
	f, err := os.Open(file)
	require.NoError(b, err)
	defer f.Close()
	_, err = io.ReadFull(f, content)
	require.NoError(b, err)
	const place = 64 // of the transaction's number in a page
	first, second := binary.NativeEndian.Uint64(content[place:]), binary.NativeEndian.Uint64(content[os.Getpagesize()+place:])
	return 2 * float64(max(first, second))
}

// load sends requests over a number of connections for a time, and returns how long each
// request took.
func load(b *testing.B, address string, requests []source, counter *atomic.Uint64, conns int, d time.Duration) []time.Duration {
	b.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var taken []time.Duration
	end := time.Now().Add(d)
	for range conns {
		all.Go(func() {
			mine, err := keepAsking(address, requests, counter, end)
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, mine...)
			if err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	require.False(b, b.Failed())
	return taken
}

func keepAsking(address string, requests []source, counter *atomic.Uint64, end time.Time) (taken []time.Duration, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answers := bufio.NewReaderSize(conn, 8<<10)
	var buf []byte
	for began := time.Now(); began.Before(end); {
		n := counter.Add(1)
		for _, next := range requests {
			buf = next(n, buf[:0])
			if _, err := conn.Write(buf); err != nil {
				return nil, err
			}
			if err := skipAnswer(answers, ""); err != nil {
				return nil, err
			}
		}
		now := time.Now()
		taken = append(taken, now.Sub(began))
		began = now
	}
	return taken, nil
}

// skipAnswer reads one answer, which must be a 200 with a Content-Length, and have a text in its body.
func skipAnswer(r *bufio.Reader, want string) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return err
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("answered %q", line)
		case len(line) == 2:
			body, err := r.Peek(length)
			if err == nil && !bytes.Contains(body, []byte(want)) {
				err = fmt.Errorf("answered %q", body)
			}
			_, _ = r.Discard(len(body))
			return err
		case length < 0 && bytes.EqualFold(line[:min(len(line), 15)], []byte("Content-Length:")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:]))); err != nil {
				return err
			}
		}
	}
}

// globalOptions are the global options of a gateway.
func globalOptions(near, far, ledger string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	cvs {
		imp_key {env.CVS_TEST_KEY}
		imp_secret {env.CVS_TEST_SECRET}
		api http://%s
		ledger %s
		account far {
			imp_key {env.CVS_TEST_KEY}
			imp_secret {env.CVS_TEST_SECRET}
			api http://%s
		}
	}
}
`, near, ledger, far)
}

// BenchmarkComparison measures all contenders in turn, in as many rounds as -benchtime says. It
// prints each cell for benchstat, and a table of the medians.
func BenchmarkComparison(b *testing.B) {
	back := startProcess(b, "behind")
	near, far := back.line(b), back.line(b)
	require.Equal(b, "ready", back.line(b))
	all := contenders(near, far)
	addresses, sources := make([]string, len(all)), make([][]source, len(all))
	held := gatewaytest.LedgerFile(b)
	holder, err := boltstore.Open(held, boltstore.Options{})
	require.NoError(b, err)
	defer holder.Close()
	file := gatewaytest.LedgerFile(b)
	fillLedger(b, file)
	var running [gateways]*process
	for which, place := range [gateways]string{file, "off", held} {
		config := globalOptions(near, far, place)
		for i, c := range all {
			if c.gateway != which {
				continue
			}
			if addresses[i] = far; c.site != "" {
				addresses[i] = gatewaytest.Address(b)
				config += "http://" + addresses[i] + " {\n" + c.site + "\n}\n"
			}
			sources[i] = c.sources(addresses[i])
		}
		running[which] = startProcess(b, "gateway", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+near)
		fmt.Fprintf(running[which].in, "%s\x00", config)
	}
	for _, gateway := range running {
		require.Equal(b, "ready", gateway.line(b))
	}

	var counter atomic.Uint64
	counter.Store(different) // orders that the ledger does not have
	cells := make(map[string][]cell)
	for b.Loop() {
		for i, c := range all {
			if *onlyJob != "" && *onlyJob != c.job {
				continue
			}
			gateway := running[c.gateway]
			for _, conns := range c.conns() {
				load(b, addresses[i], sources[i], &counter, conns, *cellTime/3) // warm-up
				before, began, synced := gateway.spent(b), time.Now(), syncs(b, file)
				taken := load(b, addresses[i], sources[i], &counter, conns, *cellTime)
				seconds, after := time.Since(began).Seconds(), gateway.spent(b)
				slices.Sort(taken)
				n := float64(len(taken))
				now := cell{
					rate: n / seconds, p50: at(taken, 50), p99: at(taken, 99),
					cpu:    float64((after.CPU - before.CPU).Microseconds()) / n,
					allocs: float64(after.Mallocs-before.Mallocs) / n,
					memory: float64(after.Heap-before.Heap) / n / 1000,
					syncs:  (syncs(b, file) - synced) / n * 1000,
				}
				key := c.key(conns)
				cells[key] = append(cells[key], now)
				fmt.Printf("BenchmarkComparison/%s %d %.0f ns/op %.0f req/s %.3f p50-ms %.3f p99-ms %.1f cpu-µs/op %.0f B/op %.0f allocs/op\n",
					strings.ReplaceAll(key, " ", "_"), len(taken), float64(conns)*seconds*1e9/n, now.rate, now.p50, now.p99, now.cpu, now.memory*1000, now.allocs)
			}
		}
	}
	printComparison(all, cells)
}

// at returns a percentile in milliseconds.
func at(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[len(sorted)*percent/100].Microseconds()) / 1000
}

// median returns 0 without values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// printComparison prints the medians of all rounds.
func printComparison(all []contender, cells map[string][]cell) {
	rate, p50, p99 := func(x cell) float64 { return x.rate }, func(x cell) float64 { return x.p50 }, func(x cell) float64 { return x.p99 }
	columns := []struct {
		title, format string
		of            func(cell) float64
		gateway       bool // what it costs the gateway, if that is asked
	}{
		{"req/s", " %9.0f", rate, false},
		{"p50 ms", " %9.2f", p50, false},
		{"p99 ms", " %9.2f", p99, false},
		{"CPU µs", " %9.0f", func(x cell) float64 { return x.cpu }, true},
		{"allocs", " %9.0f", func(x cell) float64 { return x.allocs }, true},
		{"kB", " %9.1f", func(x cell) float64 { return x.memory }, true},
	}
	fmt.Printf("\nmedians of %d rounds, %v each; gateway, load and what stands behind share %d processors\n", len(cells["issue/bare/16"]), *cellTime, runtime.NumCPU())
	job := ""
	for _, c := range all {
		if *onlyJob != "" && *onlyJob != c.job {
			continue
		}
		if c.job != job {
			job = c.job
			fmt.Printf("\n%-21s %5s", job, "conns")
			for _, column := range columns {
				fmt.Printf(" %9s", column.title)
			}
			fmt.Println()
		}
		for _, conns := range c.conns() {
			fmt.Printf("%-21s %5d", c.name, conns)
			for _, column := range columns {
				if c.site != "" || !column.gateway {
					fmt.Printf(column.format, medianOf(cells[c.key(conns)], column.of))
				}
			}
			fmt.Println()
		}
	}

	fmt.Printf("\nat 16 connections, medians of the ratios within a round\n")
	for _, r := range []struct {
		text, one, other string
		of               func(cell) float64
		want             string
	}{
		{"issue: requests/s beside reverse_proxy", "issue/cvs_proxy", "issue/reverse_proxy", rate, ">= 1.30"},
		{"issue: requests/s beside the bare handler", "issue/cvs_proxy", "issue/bare", rate, ">= 0.90"},
		{"issue: 99th percentile beside reverse_proxy", "issue/cvs_proxy", "issue/reverse_proxy", p99, "<= 1"},
		{"issue: 99th percentile beside the bare handler", "issue/cvs_proxy", "issue/bare", p99, "<= 1"},
		{"confirm: requests/s beside forward_auth", "confirm/cvs_confirm", "confirm/forward_auth", rate, ">= 2.5"},
		{"confirm: requests/s beside the bare handler", "confirm/cvs_confirm", "confirm/bare", rate, ">= 0.90"},
		{"confirm: requests/s beside reverse_proxy, which decides nothing", "confirm/cvs_confirm", "confirm/reverse_proxy", rate, ""},
		{"confirm: 99th percentile beside forward_auth", "confirm/cvs_confirm", "confirm/forward_auth", p99, "<= 1"},
		{"confirm: 99th percentile beside the bare handler", "confirm/cvs_confirm", "confirm/bare", p99, "<= 1"},
		{"issue with the ledger: requests/s beside repeat pass", "issue/cvs_proxy", "issue/repeat pass", rate, ">= 0.50"},
		{"issue with ledger off and a look-up: requests/s beside repeat pass", "issue/ledger off", "issue/off, pass", rate, ""},
		{"confirm with the ledger: median beside the one without", "confirm/cvs_confirm", "confirm/ledger off", p50, ""},
		{"confirm with a ledger that is locked: median beside the one without", "confirm/ledger locked", "confirm/ledger off", p50, "<= 1.03"},
		{"issue with tracing: requests/s with the spans beside Caddy's alone", "issue, traced/all spans", "issue, traced/Caddy's span", rate, ""},
		{"confirm with tracing: requests/s with the spans beside Caddy's alone", "confirm, traced/all spans", "confirm, traced/Caddy's span", rate, ""},
		{"issue, an API 20 ms away: median beside the SDKs' two calls", "issue far/cvs_proxy", "issue far/sdk", p50, "<= 0.55"},
	} {
		if len(cells[r.one+"/16"]) == 0 {
			continue
		}
		ratios := within(cells[r.one+"/16"], cells[r.other+"/16"], func(a, b cell) float64 { return r.of(a) / r.of(b) })
		fmt.Printf("%-63s %6.2f  %s\n", r.text, median(ratios), r.want)
	}
	for _, conns := range []string{"/1", "/16", "/256"} {
		more := within(cells["issue/cvs_proxy"+conns], cells["issue/repeat pass"+conns], func(a, b cell) float64 { return a.p50 - b.p50 })
		fmt.Printf("%-63s %6.2f  %s\n", "issue with the ledger: median, ms more than without, at "+conns[1:], median(more), "<= 5")
		fmt.Printf("%-63s %6.0f\n", "issue with the ledger: syncs for 1,000 barcodes, at "+conns[1:], medianOf(cells["issue/cvs_proxy"+conns], func(x cell) float64 { return x.syncs }))
		more = within(cells["confirm/cvs_confirm"+conns], cells["confirm/ledger off"+conns], func(a, b cell) float64 { return a.p50 - b.p50 })
		fmt.Printf("%-63s %6.2f  %s\n", "confirm with the ledger: median, ms more than without, at "+conns[1:], median(more), "<= 0.1, or 3 %")
	}
	for _, conns := range []string{"/1", "/16"} {
		more := within(cells["confirm, slow checks/5 checks"+conns], cells["confirm, slow checks/1 check"+conns], func(a, b cell) float64 { return a.p50 - b.p50 })
		fmt.Printf("%-63s %6.2f  %s\n", "confirm: median of 5 checks of 10 ms, ms more than of one, at "+conns[1:], median(more), "<= 2")
	}
}

func medianOf(cells []cell, of func(cell) float64) float64 {
	values := make([]float64, len(cells))
	for i, x := range cells {
		values[i] = of(x)
	}
	return median(values)
}

// within compares two contenders round by round.
func within(one, other []cell, compare func(a, b cell) float64) []float64 {
	values := make([]float64, len(one))
	for i := range one {
		values[i] = compare(one[i], other[i])
	}
	return values
}
