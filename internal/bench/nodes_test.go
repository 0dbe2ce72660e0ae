package bench

// This file holds the comparison of nodes: how many barcodes and notices a second three gateways with
// one database do, beside one gateway with its file.
//
//	go test -run '^$' -bench '^BenchmarkNodes$' -benchtime 15x -timeout 30m ./internal/bench -long -cell 500ms

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// nodesContender is a number of gateways that share a ledger; 0 for the API without one.
type nodesContender struct {
	kind  string
	nodes int
}

func (c nodesContender) String() string {
	switch c.nodes {
	case 0:
		return "the API alone"
	case 1:
		return c.kind + ", 1 node"
	}
	return fmt.Sprintf("%s, %d nodes", c.kind, c.nodes)
}

var nodesContenders = []nodesContender{{file, 1}, {postgres, 1}, {postgres, 3}, {mariadb, 1}, {mariadb, 3}, {"", 0}}

// lanes are the numbers of requests that are under way at once, over all nodes.
func lanes() []int {
	if *long {
		return []int{1, 16, 64}
	}
	return []int{16}
}

// nodesCell is what one contender did at one number of lanes in one round.
type nodesCell struct {
	rate, p50, p99          float64 // requests a second; milliseconds
	gateways, database, api float64 // microseconds of processors, for each request
}

// BenchmarkNodes measures all contenders in turn, in as many rounds as -benchtime says. In each round
// each of them starts anew, with an empty ledger, and nothing of the others runs beside it. A node
// issues barcodes, and then receives one notice of each of them.
func BenchmarkNodes(b *testing.B) {
	all := startServers(b)
	pids := make(map[string]string)
	for kind, server := range all {
		pids[kind] = pid(b, server)
	}
	api := startProcess(b, "payments")
	address := api.line(b)
	require.Equal(b, "ready", api.line(b))
	cells := make(map[string][]nodesCell)
	rounds := 0
	for b.Loop() {
		rounds++
		for _, c := range nodesContenders {
			run := &nodesRun{contender: c, api: api, pid: pids[c.kind], issues: []string{address}}
			if c.nodes > 0 {
				run.start(b, all, address)
			}
			for _, n := range lanes() {
				for job, done := range run.measure(b, n) {
					key := fmt.Sprintf("%s/%v/%d", job, c, n)
					cells[key] = append(cells[key], done)
					fmt.Printf("BenchmarkNodes/%s 1 %.0f req/s %.3f p50-ms %.3f p99-ms %.0f gateway-cpu-µs/op %.0f database-cpu-µs/op %.0f api-cpu-µs/op\n",
						strings.ReplaceAll(strings.ReplaceAll(key, ", ", ","), " ", "_"), done.rate, done.p50, done.p99, done.gateways, done.database, done.api)
				}
			}
			for _, gateway := range run.gateways {
				gateway.stop()
			}
		}
	}
	for key, list := range cells {
		require.Len(b, list, rounds, key)
	}
	require.Len(b, cells, (2*len(nodesContenders)-1)*len(lanes()), "the API alone gets no notices, everything else was measured")
	printNodes(rounds, cells)
}

// nodesRun is a contender in one round.
type nodesRun struct {
	contender       nodesContender
	api             *process
	gateways        []*process
	pid             string   // of its database
	issues, notices []string // addresses, one for each node
	counter         atomic.Uint64
}

// start starts the gateways with an empty ledger.
func (r *nodesRun) start(b *testing.B, all servers, api string) {
	b.Helper()
	where := gatewaytest.LedgerFile(b)
	if kind := r.contender.kind; kind != file {
		directive := map[string]string{postgres: "postgres ", mariadb: "mysql "}[kind]
		where = directive + gatewaytest.Placeholder(b, all[kind].NewDatabase(b).DSN)
	}
	r.issues = nil
	for range r.contender.nodes {
		issues, notices := gatewaytest.Address(b), gatewaytest.Address(b)
		gateway := startProcess(b, "gateway")
		fmt.Fprintf(gateway.in, `%s
http://%s {
	cvs_proxy {
		pg galaxia
		confirm_url https://shop.example/cvs/confirm
		notice_url https://shop.example/cvs/notice
		expires_in 72h
	}
}
http://%s {
	cvs_notice /cvs/notice {
		tell http://%s/payments/{http.cvs.merchant_uid} {
			require heard true
		}
		sweep off
	}
}
`+"\x00", globalOptions(api, api, where), issues, notices, api)
		r.gateways, r.issues, r.notices = append(r.gateways, gateway), append(r.issues, issues), append(r.notices, notices)
	}
	for _, gateway := range r.gateways {
		require.Equal(b, "ready", gateway.line(b))
	}
}

// measure has barcodes issued for a time, and then sends a notice of each of them.
func (r *nodesRun) measure(b *testing.B, lanes int) map[string]nodesCell {
	b.Helper()
	issue := func(d time.Duration) func(address string, buf []byte) []byte {
		end := sync.OnceValue(func() time.Time { return time.Now().Add(d) })
		return func(address string, buf []byte) []byte {
			if time.Now().After(end()) {
				return nil
			}
			return issues(address)(r.counter.Add(1), buf)
		}
	}
	const issued, kept = `"status":"ready"`, `{"kept":true}`
	r.ask(b, r.issues, lanes, issued, issue(*cellTime/3)) // warm-up
	first := r.counter.Load()
	done := map[string]nodesCell{"issue": r.ask(b, r.issues, lanes, issued, issue(*cellTime))}
	if r.contender.nodes > 0 {
		notices := noticesOf(b, first+1, r.counter.Load())
		var sent atomic.Int64
		done["notice"] = r.ask(b, r.notices, lanes, kept, func(_ string, buf []byte) []byte {
			if n := sent.Add(1); n <= int64(len(notices)) {
				return append(buf, notices[n-1]...)
			}
			return nil
		})
	}
	return done
}

// paidNumber returns the imp_uid of an order of issues.
func paidNumber(n uint64) string { return fmt.Sprintf("imp_%016d", n) }

// noticesOf returns the notices that the orders were paid, each at its own signed URL.
func noticesOf(b *testing.B, first, last uint64) (list [][]byte) {
	b.Helper()
	keys, err := signedurl.NewKeys(gatewaytest.Canaries["CVS_TEST_SECRET"])
	require.NoError(b, err)
	base, err := signedurl.ParseBase("http://a.example/cvs/notice")
	require.NoError(b, err)
	for n := first; n <= last; n++ {
		order := fmt.Sprintf("order-%016d", n)
		target, err := base.Sign(keys, signedurl.Notice, order, signedurl.Claims{Amount: "15000", Expires: time.Now().Add(72 * time.Hour).Unix(), ID: webhookID(int(n))})
		require.NoError(b, err)
		body := fmt.Appendf(nil, `{"imp_uid":%q,"merchant_uid":%q,"status":"paid"}`, paidNumber(n), order)
		list = append(list, post(nil, "127.0.0.1", strings.TrimPrefix(target, "http://a.example"), gatewaytest.JSONType, body))
	}
	return list
}

// ask sends requests until there is no next one, and wants a text in each answer. Each lane has a
// connection to every node, and asks one after the other, as a load balancer does.
func (r *nodesRun) ask(b *testing.B, addresses []string, lanes int, want string, next func(address string, buf []byte) []byte) nodesCell {
	b.Helper()
	spent := func() (gateways, database, api time.Duration) {
		for _, gateway := range r.gateways {
			gateways += gateway.spent(b).CPU
		}
		if r.pid != "" {
			database = cpuOf(r.pid)
		}
		return gateways, database, r.api.spent(b).CPU
	}
	var mu sync.Mutex
	var taken []time.Duration
	var asking sync.WaitGroup
	gateways, database, api := spent()
	began := time.Now()
	for lane := range lanes {
		asking.Go(func() {
			mine, err := askInTurn(addresses, lane, want, next)
			mu.Lock()
			defer mu.Unlock()
			if taken = append(taken, mine...); err != nil {
				b.Error(err)
			}
		})
	}
	asking.Wait()
	seconds := time.Since(began).Seconds()
	gatewaysNow, databaseNow, apiNow := spent()
	require.False(b, b.Failed())
	require.NotEmpty(b, taken, "nothing was measured")
	slices.Sort(taken)
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(len(taken)) }
	return nodesCell{
		rate: float64(len(taken)) / seconds, p50: at(taken, 50), p99: at(taken, 99),
		gateways: each(gatewaysNow - gateways), database: each(databaseNow - database), api: each(apiNow - api),
	}
}

func askInTurn(addresses []string, lane int, want string, next func(address string, buf []byte) []byte) (taken []time.Duration, err error) {
	conns, answers := make([]net.Conn, len(addresses)), make([]*bufio.Reader, len(addresses))
	for i, address := range addresses {
		if conns[i], err = net.Dial("tcp", address); err != nil {
			return nil, err
		}
		defer conns[i].Close()
		answers[i] = bufio.NewReaderSize(conns[i], 8<<10)
	}
	var buf []byte
	for turn := lane; ; turn++ {
		i := turn % len(addresses)
		if buf = next(addresses[i], buf[:0]); buf == nil {
			return taken, nil
		}
		began := time.Now()
		if _, err := conns[i].Write(buf); err != nil {
			return taken, err
		}
		if err := skipAnswer(answers[i], want); err != nil {
			return taken, err
		}
		taken = append(taken, time.Since(began))
	}
}

// payments answers as an API in which each order of issues is paid as soon as it has its barcode, and
// as the shop.
func payments() http.Handler {
	payment := func(w http.ResponseWriter, number, status string) {
		fmt.Fprintf(w, `{"code":0,"message":null,"response":{"imp_uid":"imp_%s","merchant_uid":"order-%[1]s","pay_method":"cvs","channel":"api","pg_provider":"galaxia","status":%q,"amount":15000,"currency":"KRW","vbank_num":"12345678901234567890","started_at":%d,"paid_at":0,"custom_data":%q}}`,
			number, status, time.Now().Unix(), strings.Repeat("-", 600))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["Content-Type"] = []string{gatewaytest.JSONType}
		number, isPayment := strings.CutPrefix(r.URL.Path, "/payments/imp_")
		switch {
		case r.URL.Path == "/users/getToken", strings.HasPrefix(r.URL.Path, "/payments/findAll/"):
			behind(0).ServeHTTP(w, r)
		case r.URL.Path == "/cvs":
			payment(w, strings.TrimPrefix(gjson.GetBytes(body, "merchant_uid").Str, "order-"), "ready")
		case isPayment:
			payment(w, number, "paid")
		default:
			_, _ = io.WriteString(w, `{"heard":true}`)
		}
	})
}

// printNodes prints the medians of all rounds.
func printNodes(rounds int, cells map[string][]nodesCell) {
	fmt.Printf("\nmedians of %d rounds, %v of barcodes each; gateways, database, API and load share %d processors\n", rounds, *cellTime, runtime.NumCPU())
	for _, job := range []string{"issue", "notice"} {
		fmt.Printf("\n%-20s %8s %9s %9s %9s %12s %12s %9s\n", job, "at once", "req/s", "p50 ms", "p99 ms", "gateways µs", "database µs", "API µs")
		for _, c := range nodesContenders {
			for _, n := range lanes() {
				list := cells[fmt.Sprintf("%s/%v/%d", job, c, n)]
				if len(list) == 0 {
					continue
				}
				mid := func(of func(nodesCell) float64) float64 {
					values := make([]float64, len(list))
					for i, x := range list {
						values[i] = of(x)
					}
					return median(values)
				}
				fmt.Printf("%-20v %8d %9.0f %9.2f %9.2f %12.0f %12.0f %9.0f\n", c, n, mid(func(x nodesCell) float64 { return x.rate }),
					mid(func(x nodesCell) float64 { return x.p50 }), mid(func(x nodesCell) float64 { return x.p99 }), mid(func(x nodesCell) float64 { return x.gateways }),
					mid(func(x nodesCell) float64 { return x.database }), mid(func(x nodesCell) float64 { return x.api }))
			}
		}
	}
	fmt.Printf("\nbeside one node with the file: medians of the ratios within a round\n%-28s %8s %9s %9s\n", "", "at once", "req/s", "p50")
	for _, job := range []string{"issue", "notice"} {
		for _, c := range nodesContenders {
			for _, n := range lanes() {
				one, other := cells[fmt.Sprintf("%s/%v/%d", job, c, n)], cells[fmt.Sprintf("%s/%v/%d", job, nodesContenders[0], n)]
				if len(one) == 0 || c == nodesContenders[0] {
					continue
				}
				var rates, latencies []float64
				for i := range one {
					rates, latencies = append(rates, one[i].rate/other[i].rate), append(latencies, one[i].p50/other[i].p50)
				}
				fmt.Printf("%-28s %8d %9.2f %9.2f\n", fmt.Sprintf("%s: %v", job, c), n, median(rates), median(latencies))
			}
		}
	}
}
