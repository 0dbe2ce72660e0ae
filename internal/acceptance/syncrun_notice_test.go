package acceptance

// This file holds the sync run of notices: a notice is in the ledger's file, and synced, before the first
// byte of its 200 is written.

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// Each notice comes several times at once: one that the ledger has already is answered without a write.
func TestNoticeIsSyncedBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	const copies = 4
	command, trace := strace(t)
	// No payment is made, so that each notice is to be looked at until the power is cut.
	site := "http://" + gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Proxy: gatewaytest.UsualProxy + "\nnotice_url " + site + "/cvs/notice",
		Sites: site + " {\nheader >" + noticeField + " {http.cvs.imp_uid}\ncvs_notice /cvs/notice {\n" + gatewaytest.UsualNotice + "\nsweep off\n}\nrespond 418\n}\n",
	})
	cmd := gatewaytest.StartProcessUnder(t, command, config)
	var all sync.WaitGroup
	for n := range syncOrders {
		all.Go(func() {
			i := g.MustIssue(t, fmt.Sprintf("order-%d", n))
			_, urls := g.API.WebhookURLs(i.ImpUID)
			body := fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid"}`, i.ImpUID, i.MerchantUID)
			target := urls[0]
			if n%2 == 0 { // not signed
				target, _, _ = strings.Cut(target, "?")
			}
			var sending sync.WaitGroup
			for range copies {
				sending.Go(func() {
					a := g.Do(t, http.MethodPost, target, gatewaytest.JSONType, body)
					assert.Equal(t, 200, a.Status, a.Body)
				})
			}
			sending.Wait()
		})
	}
	all.Wait()
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait()

	orders := make(map[string]emulator.Payment)
	for _, p := range g.API.Payments() {
		orders[p.ImpUID] = p
	}
	lost, sent := judgeTrace(t, "sync run, notices", readTrace(t, trace, cmd.Process.Pid), g.Ledger, func(impUID string) (order, id string) {
		confirmURL, _ := g.API.WebhookURLs(impUID)
		return orders[impUID].MerchantUID, parseSigned(t, confirmURL).id
	})
	assert.Equal(t, syncOrders*copies, sent[sendsKept])
	assert.Equal(t, 0, len(lost), printed(lost)) //nolint:testifylint // the whole list is too long to print
}
