package storetest_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/storetest"
)

// TestMain fails the run if a test leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	t.Parallel()
	var stores sync.Map
	open := func(t *testing.T) *storetest.Memory {
		m := storetest.NewMemory()
		if closed, ok := stores.Swap(t.Name(), m); ok {
			m = closed.(*storetest.Memory).Reopen()
			stores.Store(t.Name(), m)
		}
		return m
	}
	storetest.Run(t, func(t *testing.T) ledger.Store { return open(t) })
	storetest.RunMovable(t, func(t *testing.T) ledger.Movable { return open(t) })
}

// BenchmarkMemory reads a row and writes it again.
func BenchmarkMemory(b *testing.B) {
	row := &ledger.Row{Order: "order", Version: 1, Due: 1, Attempts: []ledger.Attempt{{ID: "a", ImpUID: "imp_1", Fields: []string{"amount", "status"}}}}
	m := storetest.NewMemory()
	require.NoError(b, m.Put(b.Context(), row, 0, false))
	for b.Loop() {
		read, err := m.Get(b.Context(), row.Key())
		if err != nil {
			b.Fatal(err)
		}
		read.Version++
		if err := m.Put(b.Context(), read, read.Version-1, false); err != nil {
			b.Fatal(err)
		}
	}
}
