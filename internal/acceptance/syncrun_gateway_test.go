package acceptance

// This file holds the sync run with the gateway in place of a small program.

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// The gateway sends nothing that depends on a row before the row is synced. With -ledger=false it
// has no row.
func TestGatewaySyncsBeforeItSends(t *testing.T) {
	t.Parallel()
	command, trace := strace(t)
	var setup gatewaytest.Setup
	withoutLedger(&setup)
	g, config := gatewaytest.Prepare(t, setup)
	cmd := gatewaytest.StartProcessUnder(t, command, config)
	var all sync.WaitGroup
	for n := range syncOrders {
		all.Go(func() {
			order := fmt.Sprintf("order-%d", n)
			amounts := []string{"15000", "15000"}
			if n%2 == 0 {
				amounts = append(amounts, "16000")
			}
			for _, amount := range amounts {
				form := url.Values{"merchant_uid": {order}, "amount": {amount}, "buyer_name": {gatewaytest.BuyerName}}
				a := g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.FormType, form.Encode())
				assert.Equal(t, 200, a.Status, a.Body)
			}
		})
	}
	all.Wait()
	require.NoError(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait()

	orders := make(map[string]emulator.Payment)
	for _, p := range g.API.Payments() {
		orders[p.ImpUID] = p
	}
	lost, sent := judgeTrace(t, "sync run, gateway", readTrace(t, trace, cmd.Process.Pid), g.Ledger, func(impUID string) (order, id string) {
		confirmURL, _ := g.API.WebhookURLs(impUID)
		_, query, _ := strings.Cut(confirmURL, "?")
		claims, err := signedurl.Parse(query)
		assert.NoError(t, err)
		return orders[impUID].MerchantUID, claims.ID
	})
	assert.Equal(t, syncOrders*5/2, sent[sendsAnswer])
	assert.Equal(t, *withLedger, len(lost) == 0, printed(lost))
	if *withLedger {
		assert.Equal(t, syncOrders*3/2, sent[sendsPost])
		assert.Equal(t, syncOrders/2, sent[sendsDelete])
	}
}
