package boltstore

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
)

var rows = flag.Int("rows", 10_000, "the number of live rows in the file that BenchmarkOpen opens")

// syncsOfCommit is the number of times that bbolt syncs for a commit: the pages, then the meta page.
const syncsOfCommit = 2

// BenchmarkPut writes rows from several goroutines at once. It compares the time of a write with
// that of a sync of a page, of which a writer that is alone needs two.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openNew(b, Options{})
			before, raw := commits(b, s), timeOfSync(b)
			b.ResetTimer()
			putAll(b, s, writers, b.N)
			b.StopTimer()
			raw = (raw + timeOfSync(b)) / 2
			b.ReportMetric(1000*syncsOfCommit*float64(commits(b, s)-before)/float64(b.N), "syncs/1000puts")
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(raw), "rawsyncs/put")
		})
	}
}

// putAll writes n new rows.
func putAll(b *testing.B, s *Store, writers, n int) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := s.Put(b.Context(), issued(i), 0, false); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// timeOfSync measures how long it takes to write a page and to sync it, as fast as the disk can.
func timeOfSync(b *testing.B) time.Duration {
	b.Helper()
	const times = 200
	file, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	require.NoError(b, err)
	defer file.Close()
	page := make([]byte, os.Getpagesize())
	var began time.Time
	for i := range 2 * times { // the first half lets the file grow
		if i == times {
			began = time.Now()
		}
		_, err := file.WriteAt(page, int64(i%times*len(page)))
		require.NoError(b, err)
		require.NoError(b, datasync(file))
	}
	return time.Since(began) / times
}

// BenchmarkOpen opens a file of many rows, and reads some. Each was written twice, asked and
// issued. `-rows 1000000` is what a large shop has.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ledger.db")
	fill(b, path)
	info, err := os.Stat(path)
	require.NoError(b, err)
	var opened, read time.Duration
	var heapOpen, heapRead int64
	for b.Loop() { // not b.N, which would fill a file for each number of rounds
		empty := heap()
		began := time.Now()
		s := mustOpen(b, path, Options{})
		opened += time.Since(began)
		heapOpen += heap() - empty
		began = time.Now()
		for range 10_000 {
			if _, err := s.Get(b.Context(), issued(rand.IntN(*rows)).Key()); err != nil {
				b.Fatal(err)
			}
		}
		read += time.Since(began)
		heapRead += heap() - empty
		require.NoError(b, s.Close())
	}
	n := float64(b.N)
	b.ReportMetric(opened.Seconds()*1000/n, "ms/open")
	b.ReportMetric(read.Seconds()*1e6/10_000/n, "µs/get")
	b.ReportMetric(float64(info.Size())/float64(*rows), "filebytes/row")
	b.ReportMetric(float64(heapOpen)/n/1024, "heapKB/open")
	b.ReportMetric(float64(heapRead)/n/1024, "heapKB/10000gets")
}

// fill writes the rows, as a thousand callers would.
func fill(b *testing.B, path string) {
	b.Helper()
	s := mustOpen(b, path, Options{NoSync: true})
	var next atomic.Int64
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < *rows; i = int(next.Add(1)) - 1 {
				asked := issued(i)
				asked.Version, asked.Due = 1, asked.Attempts[0].Asked
				asked.Attempts[0].State, asked.Attempts[0].ImpUID, asked.Attempts[0].Fields = ledger.Asked, "", nil
				if s.Put(b.Context(), asked, 0, false) != nil || s.Put(b.Context(), issued(i), 1, false) != nil {
					b.Error("cannot fill the file")
					return
				}
			}
		})
	}
	all.Wait()
	require.NoError(b, s.db.Sync())
	require.NoError(b, s.Close())
}

// heap returns the live heap. The second collection drops what a sync.Pool kept.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
