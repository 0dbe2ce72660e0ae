package emulator

// The log of the last scans, refunds and late notices, which the till's page shows.

import (
	"slices"
	"sync"
)

const maxScanRecords = 20

// scanRecord is one entry of the log.
type scanRecord struct {
	id      int64
	at      int64 // Unix seconds of the API's clock
	request ScanRequest
	result  ScanResult
	err     error // why the gateway was not asked, or errRefund

	refunded float64 // of a refund: the amount that was paid back
}

// scanLog holds the last entries.
type scanLog struct {
	mu      sync.Mutex
	count   int64
	records []scanRecord
}

func (l *scanLog) add(r scanRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	r.id = l.count
	if len(l.records) == maxScanRecords {
		l.records = slices.Delete(l.records, 0, 1)
	}
	l.records = append(l.records, r)
}

// newest returns the last entries, the newest first.
func (l *scanLog) newest() []scanRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	records := slices.Clone(l.records)
	slices.Reverse(records)
	return records
}
