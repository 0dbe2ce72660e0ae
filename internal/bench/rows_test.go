package bench

// This file holds what many rows cost: issuing a barcode, and finding what is due, in a ledger with few
// rows and in one with many; and how fast rows are moved from one place to another.
//
//	go test -run '^$' -bench '^Benchmark(Rows|Move)$' -benchtime 20x -timeout 60m ./internal/bench -long

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

var (
	kinds     = []string{file, postgres, mariadb}
	onlyPlace = flag.String("place", "", "the only place that BenchmarkRows measures, such as mariadb; default all")
)

const (
	fewRows  = 1000
	atOnce   = 16  // barcodes that are issued at once
	inQueues = 100 // rows that are due, and as many of which the shop is to hear
)

// manyRows is how many rows a large ledger has, and movedRows how many are moved.
func manyRows() (many, moved int) {
	if *long {
		return 1_000_000, 100_000
	}
	return 20_000, 2000
}

// numbering is how the numbers of orders and of their payments follow each other.
type numbering struct {
	name string
	nth  func(n int) string // of twelve digits
}

var (
	// growing is how it is at most shops.
	growing = numbering{"numbers that grow", func(n int) string { return fmt.Sprintf("%012d", n) }}
	// scattered is harder for an index: each number is far from the one before.
	scattered = numbering{"scattered numbers", func(n int) string { return fmt.Sprintf("%012d", uint64(n)*618_033_988_751%1_000_000_000_000) }}
)

// quickAPI issues a barcode at once.
type quickAPI struct{ ledger.API }

func (quickAPI) Now() time.Time                                          { return time.Now() }
func (quickAPI) EarliestStart(local time.Time) int64                     { return local.Unix() - 1 }
func (quickAPI) Payments(context.Context, string) ([]ledger.Seen, error) { return nil, nil }

func (quickAPI) Issue(_ context.Context, r *ledger.Request, _ string, maySend func() error) (ledger.Seen, error) {
	return ledger.Seen{
		ImpUID: "imp_" + r.Order[len("order-"):], Order: r.Order, Amount: r.Amount, Status: client.StatusReady, StartedAt: time.Now().Unix(), CVS: true,
		Fields: []string{"amount", "barcode", "buyer_email", "buyer_name", "buyer_tel", "channel", "currency", "expired_at", "imp_uid", "merchant_uid", "name", "pay_method", "pg_provider", "started_at", "status"},
		Answer: &client.Response{Status: 200},
	}, maySend()
}

// issuer issues barcodes with a ledger.
type issuer struct {
	numbering
	store  ledger.Movable
	ledger *ledger.Ledger
	acc    *ledger.Account
	next   atomic.Int64 // number of the next order
}

func newIssuer(b *testing.B, p place, next int) *issuer {
	b.Helper()
	i := &issuer{numbering: p.numbering, store: p.open(b, false), acc: &ledger.Account{API: quickAPI{}, Timeout: 10 * time.Second}}
	i.next.Store(int64(next))
	i.ledger = ledger.New(ledger.Options{Open: func() (ledger.Store, error) { return i.store, nil }, Report: func(e ledger.Event) { b.Errorf("%v", e) }})
	i.ledger.Use(&ledger.Settings{Accounts: map[string]*ledger.Account{"": i.acc}})
	require.NoError(b, i.ledger.Open())
	return i
}

// issue issues the barcodes of n new orders, some of them at once. It returns how long each took, and
// all of them together.
func (i *issuer) issue(b *testing.B, n, workers int) (each []time.Duration, all time.Duration) {
	b.Helper()
	first := int(i.next.Load())
	var mu sync.Mutex
	var working sync.WaitGroup
	began := time.Now()
	for range workers {
		working.Go(func() {
			for order := int(i.next.Add(1)) - 1; order < first+n; order = int(i.next.Add(1)) - 1 {
				began := time.Now()
				name := "order-" + i.nth(order)
				answer, err := i.ledger.Issue(b.Context(), i.acc, &ledger.Request{
					Terms: ledger.Terms{Order: name, Amount: "15000", PG: "galaxia", Deadline: time.Now().Add(72 * time.Hour).Unix()}, Identity: name,
				})
				took := time.Since(began)
				if err != nil || answer.Reused {
					b.Errorf("%v, reused %v", err, answer.Reused)
					return
				}
				mu.Lock()
				each = append(each, took)
				mu.Unlock()
			}
		})
	}
	working.Wait()
	all = time.Since(began)
	i.next.Store(int64(first + n))
	for order := first; order < first+n; order++ { // the last write of an order comes after its answer
		for !i.isIssued(b, order) {
			time.Sleep(time.Millisecond)
		}
	}
	return each, all
}

func (i *issuer) isIssued(b *testing.B, order int) bool {
	b.Helper()
	row, err := i.store.Get(b.Context(), ledger.Key{Order: "order-" + i.nth(order)})
	require.NoError(b, err)
	return row.Attempts[0].State == ledger.Issued
}

// template returns a row as a ledger has written it.
func template(b *testing.B) *ledger.Row {
	b.Helper()
	i := newIssuer(b, place{kind: file, numbering: growing, path: b.TempDir() + "/template.db"}, 0)
	i.issue(b, 1, 1)
	row, err := i.store.Get(b.Context(), ledger.Key{Order: "order-" + i.nth(0)})
	require.NoError(b, err)
	require.NoError(b, i.ledger.Close())
	return row
}

// nthRow returns the row of an order. The first are due at the times from 1001 on, of the next ones the
// shop is to hear.
func (x numbering) nthRow(template *ledger.Row, n int) *ledger.Row {
	row := template.Clone()
	row.Order, row.Due, row.Attempts[0].ImpUID = "order-"+x.nth(n), row.Due+int64(n), "imp_"+x.nth(n)
	switch place := int64(1001 + n); {
	case n < inQueues:
		row.Due = place
	case n < 2*inQueues:
		row.Queue, row.QueueDue = ledger.TellQueue(""), place
	}
	return row
}

// measures are what is measured of a ledger. Each returns some times.
var measures = []struct {
	name string
	do   func(b *testing.B, i *issuer, rows int) []time.Duration
}{
	{"issue, one at a time", func(b *testing.B, i *issuer, _ int) []time.Duration {
		each, _ := i.issue(b, 30, 1)
		return each
	}},
	{fmt.Sprintf("issue, %d at a time: one's share", atOnce), func(b *testing.B, i *issuer, _ int) []time.Duration {
		const n = 10 * atOnce
		_, all := i.issue(b, n, atOnce)
		return []time.Duration{all / n}
	}},
	{"an order, by its number", func(b *testing.B, i *issuer, rows int) []time.Duration {
		return repeat(b, 30, 1, func(ctx context.Context) ([]*ledger.Row, error) {
			row, err := i.store.Get(ctx, ledger.Key{Order: "order-" + i.nth(rand.IntN(rows))})
			return []*ledger.Row{row}, err
		})
	}},
	{"an order, by its payment's number", func(b *testing.B, i *issuer, rows int) []time.Duration {
		return repeat(b, 30, 1, func(ctx context.Context) ([]*ledger.Row, error) {
			row, err := i.store.GetByImpUID(ctx, "", "imp_"+i.nth(rand.IntN(rows)))
			return []*ledger.Row{row}, err
		})
	}},
	{"what is due, nothing", due(ledger.Looks, 1000, 0)},
	{fmt.Sprintf("what is due, %d orders", inQueues), due(ledger.Looks, 1000+inQueues, inQueues)},
	{"what the shop is to hear, nothing", due(ledger.TellQueue(""), 1000, 0)},
	{fmt.Sprintf("what the shop is to hear, %d orders", inQueues), due(ledger.TellQueue(""), 1000+2*inQueues, inQueues)},
	{"64 orders behind another", func(b *testing.B, i *issuer, rows int) []time.Duration {
		return repeat(b, 10, 64, func(ctx context.Context) ([]*ledger.Row, error) {
			after := "9"
			for after >= "9" { // behind that there may be fewer
				after = i.nth(rand.IntN(rows * 9 / 10))
			}
			return i.store.List(ctx, ledger.Key{Order: "order-" + after}, 64)
		})
	}},
}

// due measures the query of the worker and that of telling.
func due(queue ledger.Queue, now int64, want int) func(*testing.B, *issuer, int) []time.Duration {
	return func(b *testing.B, i *issuer, _ int) []time.Duration {
		return repeat(b, 10, want, func(ctx context.Context) ([]*ledger.Row, error) { return i.store.Due(ctx, queue, now, inQueues) })
	}
}

// repeat measures something that must return so many rows.
func repeat(b *testing.B, times, want int, do func(context.Context) ([]*ledger.Row, error)) (each []time.Duration) {
	b.Helper()
	for range times {
		began := time.Now()
		rows, err := do(b.Context())
		each = append(each, time.Since(began))
		require.NoError(b, err)
		require.Len(b, rows, want)
	}
	return each
}

// compared are a ledger with few rows and one with many.
type compared struct {
	kind string
	numbering
	issuers [2]*issuer
	taken   [][2][]time.Duration // of each measure
}

// BenchmarkRows measures what a ledger with few rows and one with many cost, in turn. The first round
// warms up.
func BenchmarkRows(b *testing.B) {
	all, row, dir := startServers(b), template(b), b.TempDir()
	many, _ := manyRows()
	sizes := [2]int{fewRows, many}
	var pairs []*compared
	var places [][2]place
	fmt.Printf("\n%-10s %-18s %9s %11s %11s\n", "place", "", "rows", "loading s", "bytes/row")
	for _, numbers := range []numbering{growing, scattered} {
		for _, kind := range kinds {
			if *onlyPlace != "" && *onlyPlace != kind {
				continue
			}
			var both [2]place
			for i, size := range sizes {
				both[i] = all.newPlace(b, kind, dir)
				both[i].numbering = numbers
				began := time.Now()
				both[i].load(b, all, row, size)
				fmt.Printf("%-10s %-18s %9d %11.1f %11.0f\n", kind, numbers.name, size, time.Since(began).Seconds(), float64(both[i].size(b, all))/float64(size))
			}
			places = append(places, both)
			pairs = append(pairs, &compared{kind: kind, numbering: numbers, taken: make([][2][]time.Duration, len(measures))})
		}
	}
	for _, server := range all { // what was loaded is on the disk, and measured by nothing
		require.NoError(b, server.Restart())
	}
	for n, p := range pairs {
		for i, size := range sizes {
			p.issuers[i] = newIssuer(b, places[n][i], size)
		}
	}
	rounds := -1
	round := func() {
		rounds++
		for _, p := range pairs {
			p.measure(b, sizes, rounds)
		}
	}
	round()
	for b.Loop() {
		round()
	}
	require.NotEmpty(b, pairs, "nothing was measured")
	fmt.Printf("\nmedians of %d rounds, in µs, in a ledger of %d and of %d rows; ledger and database share %d processors\n", rounds, sizes[0], sizes[1], runtime.NumCPU())
	for _, p := range pairs {
		p.print(b, sizes)
		for _, i := range p.issuers {
			require.NoError(b, i.ledger.Close())
		}
	}
}

// measure does one round.
func (p *compared) measure(b *testing.B, sizes [2]int, round int) {
	b.Helper()
	for m, measure := range measures {
		for turn := range sizes {
			i := (turn + max(round, 0)) % len(sizes)
			if taken := measure.do(b, p.issuers[i], sizes[i]); round > 0 {
				p.taken[m][i] = append(p.taken[m][i], taken...)
			}
		}
		require.False(b, b.Failed())
	}
}

func (p *compared) print(b *testing.B, sizes [2]int) {
	b.Helper()
	fmt.Printf("\n%-42s %9d %9d %9s\n", p.kind+", "+p.name, sizes[0], sizes[1], "ratio")
	for m, measure := range measures {
		require.NotEmpty(b, p.taken[m][0], "nothing was measured")
		few, many := middle(p.taken[m][0]), middle(p.taken[m][1])
		fmt.Printf("%-42s %9.0f %9.0f %9.2f\n", measure.name, few, many, many/few)
	}
}

// middle returns the median in microseconds.
func middle(times []time.Duration) float64 {
	values := make([]float64, len(times))
	for i, d := range times {
		values[i] = float64(d.Nanoseconds()) / 1000
	}
	return median(values)
}

// BenchmarkMove moves a ledger from a file to each kind of database, and back.
func BenchmarkMove(b *testing.B) {
	all, row, dir := startServers(b), template(b), b.TempDir()
	_, rows := manyRows()
	rates := make(map[string][]float64)
	var names []string
	move := func(from, to place) {
		stores := []ledger.Movable{from.open(b, false), to.open(b, false)}
		began := time.Now()
		summary, err := ledger.Move(b.Context(), ledger.Place{Movable: stores[0], Name: from.kind}, ledger.Place{Movable: stores[1], Name: to.kind})
		took := time.Since(began).Seconds()
		require.NoError(b, errors.Join(err, stores[0].Close(), stores[1].Close()))
		require.Equal(b, ledger.Summary{Rows: rows, Written: rows}, summary)
		name := from.kind + " to " + to.kind
		if rates[name] = append(rates[name], float64(rows)/took); len(rates[name]) == 1 {
			names = append(names, name)
		}
		fmt.Printf("BenchmarkMove/%s_to_%s %d %.0f ns/op %.0f rows/s %.0f bytes/row\n", from.kind, to.kind, rows, took*1e9/float64(rows), float64(rows)/took, float64(to.size(b, all))/float64(rows))
	}
	for b.Loop() {
		for _, kind := range []string{postgres, mariadb} {
			source, database, target := all.newPlace(b, file, dir), all.newPlace(b, kind, dir), all.newPlace(b, file, dir)
			source.load(b, all, row, rows)
			move(source, database)
			move(database, target)
			require.NoError(b, errors.Join(os.Remove(source.path), os.Remove(target.path)))
		}
	}
	require.Len(b, names, 4, "not everything was measured")
	fmt.Printf("\nmoving %d rows, medians in rows a second; ledger and database share %d processors\n", rows, runtime.NumCPU())
	for _, name := range names {
		fmt.Printf("%-22s %7.0f\n", name, median(rates[name]))
	}
}
