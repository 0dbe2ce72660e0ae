package acceptance

// This file holds the test of what metrics and events may show. RunMain searches all of it once more.

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// No label has anything of an order, and no event more than its number, its payment's and its amount: at
// debug level, Caddy's log has all events with their data.
func TestMetricsAndEventsShowNoSecret(t *testing.T) {
	admin := gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: "metrics {\nper_account\n}", Proxy: proxyWithNotice, Notice: gatewaytest.UsualNotice + "\nsweep off\nintervals 100ms",
		Confirm: "order_check SHOP/orders {\nname stock\nrequire payable true\namount total\nreason message\n}",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			switch r.Header.Get("X-Cvs-Merchant-Uid") {
			case "refused":
				fmt.Fprintf(w, `{"payable":false,"total":15000,"message":%q}`, gatewaytest.BuyerName)
			case "broken":
				echo(w, r, 500)
			default:
				fmt.Fprint(w, `{"payable":true,"total":15000,"heard":true}`)
			}
		},
	})
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, "admin off", "admin "+admin, 1)))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	var never []string
	for _, order := range []string{"paid", "refused", "broken"} {
		g.MustIssue(t, "order-"+order)
		i := g.MustIssue(t, order)
		keepSecret(t, g, i)
		never = append(never, i.ImpUID, i.Barcode, "order-"+order)
		_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
		require.NoError(t, err)
	}
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Code: 1, Message: gatewaytest.BuyerName + gatewaytest.BuyerTel}))
	g.Issue(t, "order-of-the-api")
	for _, event := range []string{"cvs.issued", "cvs.confirmed", "cvs.refused", "cvs.paid"} {
		line := g.WaitForLine(t, `"msg":"event"`, `"name":"`+event+`"`)
		for _, data := range []string{`"account":""`, `"amount":"15000"`, `"merchant_uid":"`, `"imp_uid":"imp_`} {
			assert.Contains(t, line, data)
		}
	}
	a := g.Do(t, http.MethodGet, "http://"+admin+"/metrics", "", "")
	require.Equal(t, http.StatusOK, a.Status)
	require.NoError(t, os.WriteFile(filepath.Join(gatewaytest.Dir(), "metrics-exposure"), []byte(a.Body), 0o600))
	assert.Contains(t, a.Body, `caddy_cvs_check_duration_seconds_count{account="",check="stock",verdict="yes"}`)
	for _, text := range append(never, gatewaytest.BuyerName, gatewaytest.BuyerTel, "15000") {
		assert.NotContains(t, a.Body, text)
	}
	assert.Empty(t, gatewaytest.FindSecrets())
}
