package acceptance

// This file holds the test of what traces may show.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// No span has a secret or personal data. The module's own have no order's number and no barcode
// either: that of Caddy has the path that the app asked for.
func TestTracesShowNoSecret(t *testing.T) {
	const checks = `
		order_check SHOP/{env.CVS_TEST_INTERNAL_KEY}/{http.cvs.merchant_uid}/{http.cvs.barcode}?key={env.CVS_TEST_INTERNAL_KEY}&order={http.cvs.imp_uid} {
			name url
			header X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}
		}
		order_check {
			name handlers
			route {
				test_panic
			}
			shadow
		}`
	traces := gatewaytest.ReceiveTraces(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: "signing_key {env.CVS_TEST_SIGNING_KEY}", Confirm: checks, Notice: secretiveTell,
		Proxy: proxyWithNotice + "\nserve GET /subscribe/*\nserve POST /payments/cancel",
		Payable: func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.Header.Get("X-Cvs-Merchant-Uid"), "-broken") {
				w.Header().Set("Content-Length", "1000")
				fmt.Fprint(w, gatewaytest.BuyerTel, r.Header)
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(map[string]any{"request": fmt.Sprint(r.Header, r.RequestURI), "buyer": gatewaytest.BuyerName})
		},
	})
	for _, handler := range []string{"\tcvs_proxy {", "\tcvs_confirm /"} {
		config = strings.Replace(config, handler, "\ttracing\n"+handler, 1)
	}
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })

	orders := []string{"canary-order-1", "canary-order-broken"}
	var unwanted []string // in spans of the module's own
	for _, order := range orders {
		require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter}))
		i := g.MustIssue(t, order)
		notice := keepSecret(t, g, i)
		unwanted = append(unwanted, i.ImpUID, i.MerchantUID, i.Barcode)
		g.MustIssue(t, order)
		assert.NotEqual(t, 200, g.Confirm(t, i).Status)
		g.Do(t, http.MethodPost, gatewaytest.AlterQuery(t, i.ConfirmURL, "cvs_amount", "1"), gatewaytest.JSONType, i.Webhook())
		i.ConfirmURL = g.Outside + "/cvs/confirm"
		assert.NotEqual(t, 200, g.Confirm(t, i).Status)
		g.Do(t, http.MethodPost, notice, gatewaytest.JSONType, fmt.Sprintf(`{"imp_uid":%q,"merchant_uid":%q,"status":"paid","buyer_tel":%q}`, i.ImpUID, order, gatewaytest.BuyerTel))
		for _, call := range []string{
			"GET /payments/" + i.ImpUID, "GET /payments/find/" + order, "GET /payments/find/" + order + "/ready", "DELETE /cvs/" + i.ImpUID,
		} {
			method, path, _ := strings.Cut(call, " ")
			g.Do(t, method, g.Inside+path, "", "")
		}
	}
	// What the app itself writes into a URL is in the access log, so that it is no canary here.
	const phone = "010-1111-22222"
	unwanted = append(unwanted, phone, url.QueryEscape(gatewaytest.BuyerName))
	g.Do(t, http.MethodGet, g.Inside+"/subscribe/customers/"+phone+"?name="+url.QueryEscape(gatewaytest.BuyerName)+"&tel="+phone, "", "")
	g.Do(t, http.MethodPost, g.Inside+"/payments/cancel", gatewaytest.FormType, "imp_uid=imp_1&reason="+gatewaytest.BuyerTel)
	g.API.ExpireTokens()
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Status: 401, Message: gatewaytest.Canaries["CVS_TEST_KEY"]}))
	g.Issue(t, "canary-order-2")
	unwanted = append(unwanted, "canary-order")
	require.NoError(t, caddy.Stop()) // sends what there is

	secrets := []string{"cvs_sig", "Bearer", gatewaytest.BuyerName, gatewaytest.BuyerTel, gatewaytest.BuyerEmail}
	for _, value := range gatewaytest.Canaries {
		secrets = append(secrets, value)
	}
	names := make(map[string]int)
	for _, s := range traces.All("") {
		for _, secret := range secrets {
			assert.NotContains(t, s.Sent, secret)
		}
		if s.Scope != "github.com/caddy-cvs/caddy-cvs" {
			continue
		}
		names[s.Name]++
		for _, text := range unwanted {
			assert.NotContains(t, s.Sent, text)
		}
		for key := range s.Attributes {
			assert.Contains(t, []string{
				"http.request.method", "http.response.status_code", "url.full", "url.template", "server.address", "server.port",
				"network.protocol.version", "error.type", "cvs.operation", "cvs.order_check",
			}, key, "the documents' table has each attribute")
		}
	}
	for _, name := range []string{
		"POST /cvs", "DELETE /cvs/{imp_uid}", "POST /users/getToken", "GET /payments/{imp_uid}", "GET /payments/find/{merchant_uid}", "GET /payments/find/{merchant_uid}/{payment_status}",
		"GET /subscribe/{value}/{value}", "POST /payments/cancel", "POST /{env.CVS_TEST_INTERNAL_KEY}/{http.cvs.merchant_uid}/{http.cvs.barcode}", "order_check handlers",
	} {
		assert.NotZero(t, names[name], "%s of %v", name, names)
	}
	assert.Empty(t, gatewaytest.FindSecrets())
}
