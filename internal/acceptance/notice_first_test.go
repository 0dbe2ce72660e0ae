package acceptance

// This file holds the tests of how soon a notice is answered.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// A notice is answered before the payment is looked up, so that an API that hangs costs no notice. The
// test prints how long that takes, beside a write and a sync of the disk.
func TestNoticeIsAnsweredFirst(t *testing.T) {
	notices := 20
	if *long {
		notices = 500
	}
	asked, released := make(chan struct{}, notices), make(chan struct{})
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Notice: gatewaytest.UsualNotice, Proxy: gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice", Account: "timeout 30s",
		Emulator: emulator.Options{BeforeRequest: func(e emulator.Endpoint, _ *http.Request) {
			if e == emulator.EndpointPayment {
				asked <- struct{}{}
				<-released
			}
		}},
	})
	t.Cleanup(func() { close(released) }) // before the gateway ends, which waits for its calls
	var answers, syncs []time.Duration
	for n := range notices {
		i := g.MustIssue(t, fmt.Sprintf("order-%d", n))
		_, urls := g.API.WebhookURLs(i.ImpUID)
		require.Len(t, urls, 1)
		began := time.Now()
		a := g.Do(t, http.MethodPost, urls[0], gatewaytest.JSONType, fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid"}`, i.ImpUID, i.MerchantUID))
		answers = append(answers, time.Since(began))
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		syncs = append(syncs, syncOnce(t))
	}
	assert.Less(t, slices.Max(answers), 5*time.Second)
	select {
	case <-asked:
	case <-time.After(5 * time.Second):
		t.Error("the payment is not looked up")
	}
	assert.Zero(t, g.Shop.Count(), "the shop is told of nothing that no look-up has shown")
	figures := table{title: "answers to notices"}
	figures.row("notices", notices)
	figures.row("until the answer, median", median(answers).Round(10*time.Microsecond))
	figures.row("a write of 4 KiB and its sync, median", median(syncs).Round(10*time.Microsecond))
	figures.print(t)
}

// syncOnce returns how long the disk of the ledgers takes for a small write.
func syncOnce(t *testing.T) time.Duration {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "synced"))
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, file.Sync())
	began := time.Now()
	_, err = file.Write(make([]byte, 4096))
	require.NoError(t, err)
	require.NoError(t, file.Sync())
	return time.Since(began)
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
