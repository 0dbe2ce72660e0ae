package emulator

import (
	"slices"
	"sync"
)

const maxHistory = 20

// exchange is a scan as the till's page shows it.
type exchange struct {
	ID      int64
	At      int64 // Unix seconds of the API's clock
	Request ScanRequest
	Result  ScanResult
	Err     error // why the gateway was not asked
}

// history holds the last scans.
type history struct {
	mu    sync.Mutex
	count int64
	list  []exchange
}

func (h *history) add(x exchange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	x.ID = h.count
	if len(h.list) == maxHistory {
		h.list = slices.Delete(h.list, 0, 1)
	}
	h.list = append(h.list, x)
}

// newest returns the last scans, the newest first.
func (h *history) newest() []exchange {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Clone(h.list)
	slices.Reverse(list)
	return list
}
