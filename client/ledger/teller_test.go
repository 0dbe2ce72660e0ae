package ledger

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// fakeShop is told, and answers as a test says.
type fakeShop struct {
	mu      sync.Mutex
	heard   []tell.Message
	replies []Reply // the next ones; Heard afterwards
}

func (s *fakeShop) send(_ context.Context, m *tell.Message) Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, *m)
	if len(s.replies) == 0 {
		return Reply{}
	}
	reply := s.replies[0]
	s.replies = s.replies[1:]
	return reply
}

// told returns the events that the shop was told since the last call.
func (s *fakeShop) told() (list []tell.Message) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	list, s.heard = s.heard, nil
	return list
}

// inShop runs a test in a world with a shop that is told.
func inShop(t *testing.T, test func(w *world, s *fakeShop)) {
	t.Helper()
	inWorld(t, func(w *world) {
		s := &fakeShop{}
		w.acc.Tells = &Tells{
			Send: s.send, Timeout: 10 * time.Second, Events: []tell.Event{tell.Paid, tell.Cancelled, tell.Expired},
			Retry: 72 * time.Hour, Concurrency: 8, Intervals: []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour},
			Sweep: 5 * time.Minute,
		}
		w.l.Work()
		test(w, s)
	})
}

func paid(p *Seen) { p.PaidAt = p.StartedAt + 1 }

func TestNoticeIsTold(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a1", "imp_1"))
		w.seen("imp_1", client.StatusPaid, paid)
		known, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "paid"})
		require.NoError(t, err)
		assert.True(t, known)
		time.Sleep(time.Millisecond)
		told := s.told()
		require.Len(t, told, 1)
		assert.Equal(t, tell.Message{
			Account: "shop", ImpUID: "imp_1", MerchantUID: "o", Event: tell.Paid, Status: "paid", Amount: "15000", CancelAmount: "0", PaidAt: told[0].PaidAt, Expires: told[0].Expires,
		}, told[0])
		time.Sleep(48 * time.Hour)
		assert.Empty(t, s.told())
		assert.Empty(t, w.reported())
	})
}

func TestExpiredIsToldAndLateAfterwards(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a1", "imp_1"))
		p := w.seen("imp_1", client.StatusReady)
		time.Sleep(time.Hour + 12*time.Second)
		told := s.told()
		require.Len(t, told, 1)
		assert.Equal(t, tell.Expired, told[0].Event)
		assert.Equal(t, "cancelled", told[0].Status)
		w.api.mu.Lock()
		p.Status = client.StatusPaid
		paid(p)
		w.api.mu.Unlock()
		time.Sleep(2 * time.Minute)
		told = s.told()
		require.Len(t, told, 1)
		assert.Equal(t, tell.Paid, told[0].Event)
		assert.True(t, told[0].Late)
		assert.Equal(t, []string{"a barcode was paid after it was voided imp_1"}, w.reported())
	})
}

func TestShopDown(t *testing.T) {
	t.Parallel()
	inShop(t, func(w *world, s *fakeShop) {
		w.put(w.issued("a1", "imp_1"))
		w.seen("imp_1", client.StatusPaid, paid)
		for range 5 {
			s.replies = append(s.replies, Reply{Verdict: Unheard, Cause: "down"})
		}
		for range 3 {
			s.replies = append(s.replies, Reply{Verdict: Refused, Cause: "no"})
		}
		_, err := w.l.Notice(context.Background(), w.acc, &Notice{ImpUID: "imp_1", Status: "paid"})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		assert.Len(t, s.told(), 9)
		assert.Empty(t, w.row().Queue)
	})
}
