package caddycvs

// This file holds tests of the quickstart's shop with a gateway: what a shop gets that asks again
// after any failure, and that it hears of each payment.

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/examples/quickstart/shop"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// quickstart is the quickstart's shop at a gateway.
type quickstart struct {
	*gatewaytest.Gateway
	shop   string        // its URL
	atAPI  chan struct{} // gets a value for each POST /cvs that the API receives
	breaks chan breaking // each takes one call
}

// breaking takes a call of the shop, whose connection is then closed without an answer.
type breaking func(q *quickstart, r *http.Request, gateway http.Handler)

func startQuickstart(t *testing.T) *quickstart {
	t.Helper()
	q := &quickstart{atAPI: make(chan struct{}, 10), breaks: make(chan breaking, 1)}
	var config string
	q.Gateway, config = gatewaytest.Prepare(t, gatewaytest.Setup{
		Confirm: "order_check QUICKSTART/orders/{http.cvs.merchant_uid}/payable {\nrequire payable true\namount total\n}",
		Notice:  "tell QUICKSTART/payments/{http.cvs.merchant_uid} {\nrequire heard true\n}\nintervals 100ms\nsweep 1s",
		Emulator: emulator.Options{BeforeRequest: func(endpoint emulator.Endpoint, _ *http.Request) {
			if endpoint == emulator.EndpointIssue {
				q.atAPI <- struct{}{}
			}
		}},
	})
	q.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	inside, err := url.Parse(q.Inside)
	require.NoError(t, err)
	gateway := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(inside) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {}, // a call that was broken off
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case broken := <-q.breaks:
			broken(q, r, gateway)
			panic(http.ErrAbortHandler)
		default:
			gateway.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	app := httptest.NewServer(shop.New(front.URL, ""))
	t.Cleanup(app.Close)
	q.shop = app.URL
	gatewaytest.Run(t, strings.ReplaceAll(config, "QUICKSTART", app.URL))
	return q
}

// order orders an umbrella, and returns the order's URL.
func (q *quickstart) order(t *testing.T) string {
	t.Helper()
	a := q.Do(t, http.MethodPost, q.shop+"/orders", gatewaytest.FormType, "product=umbrella")
	require.Equal(t, http.StatusSeeOther, a.Status, a.Body)
	return q.shop + a.Header.Get("Location")
}

// click asks for the order's barcode, and returns the status of the shop's answer.
func (q *quickstart) click(t *testing.T, order string) int {
	t.Helper()
	return q.Do(t, http.MethodPost, order+"/barcode", gatewaytest.FormType, "").Status
}

// assertOneBarcode asserts that there is one barcode, that the shop shows it, and that a till may take it.
func (q *quickstart) assertOneBarcode(t *testing.T, order string) {
	t.Helper()
	payments := q.API.Payments()
	require.Len(t, payments, 1)
	p := payments[0]
	assert.Equal(t, p.Barcode, q.Do(t, http.MethodGet, order+"/state", "", "").Field(t, "barcode"))
	i := gatewaytest.Issued{ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, Barcode: p.Barcode}
	i.ConfirmURL, _ = q.API.WebhookURLs(p.ImpUID)
	a := q.Confirm(t, i)
	assert.Equal(t, http.StatusOK, a.Status, a.Body)
}

func TestQuickstartShopAsksAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  emulator.Fault
		breaks breaking
	}{
		"PortOne refuses": {fault: emulator.Fault{Code: 1, Times: 1}},
		"no gateway":      {breaks: func(*quickstart, *http.Request, http.Handler) {}},
		"answer lost": {breaks: func(_ *quickstart, r *http.Request, gateway http.Handler) {
			gateway.ServeHTTP(httptest.NewRecorder(), r)
		}},
		"call ended midway": {emulator.Fault{Delay: 200 * time.Millisecond, Times: 1}, endAtAPI},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := startQuickstart(t)
			order := q.order(t)
			if c.fault.Times > 0 {
				c.fault.Endpoint = emulator.EndpointIssue
				require.NoError(t, q.API.Inject(c.fault))
			}
			if c.breaks != nil {
				q.breaks <- c.breaks
			}
			assert.Equal(t, http.StatusBadGateway, q.click(t, order))
			for range 2 {
				assert.Equal(t, http.StatusSeeOther, q.click(t, order))
			}
			q.assertOneBarcode(t, order)
		})
	}
}

// endAtAPI ends a call when the API has received it.
func endAtAPI(q *quickstart, r *http.Request, gateway http.Handler) {
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		<-q.atAPI
		cancel()
	}()
	gateway.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
}

func TestQuickstartShopIsClickedTwiceAtOnce(t *testing.T) {
	t.Parallel()
	q := startQuickstart(t)
	order := q.order(t)
	require.NoError(t, q.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: 200 * time.Millisecond, Times: 1}))
	var clicks sync.WaitGroup
	for range 2 {
		clicks.Go(func() { assert.Equal(t, http.StatusSeeOther, q.click(t, order)) })
	}
	clicks.Wait()
	q.assertOneBarcode(t, order)
}

// buy orders an umbrella, and returns the order's URL and its barcode.
func (q *quickstart) buy(t *testing.T) (order, barcode string) {
	t.Helper()
	order = q.order(t)
	require.Equal(t, http.StatusSeeOther, q.click(t, order))
	return order, q.field(t, order, "barcode").(string)
}

// field returns what the shop says of an order.
func (q *quickstart) field(t *testing.T, order, field string) any {
	t.Helper()
	return q.Do(t, http.MethodGet, order+"/state", "", "").Field(t, field)
}

// pay pays a barcode at the till.
func (q *quickstart) pay(t *testing.T, barcode string, scenario emulator.Scenario) emulator.ScanResult {
	t.Helper()
	result, err := q.API.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode, Scenario: scenario})
	require.NoError(t, err)
	return result
}

// eventually waits until the shop says so of an order.
func (q *quickstart) eventually(t *testing.T, order, field string, want any) {
	t.Helper()
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, q.field(t, order, field)) }, time.Minute, 50*time.Millisecond)
}

func TestQuickstartShopThatWasDownHearsOfThePayment(t *testing.T) {
	t.Parallel()
	q := startQuickstart(t)
	order, barcode := q.buy(t)
	q.Do(t, http.MethodPost, q.shop+"/stop", gatewaytest.FormType, "stop=told")
	assert.True(t, q.pay(t, barcode, "").Accepted)
	require.Eventually(t, func() bool { return q.field(t, order, "told").(float64) >= 1 }, time.Minute, 50*time.Millisecond)
	assert.Equal(t, "waiting", q.field(t, order, "state"), "it is paid, and the shop does not know")
	q.Do(t, http.MethodPost, q.shop+"/stop", gatewaytest.FormType, "stop=")
	q.eventually(t, order, "state", "paid")
}

func TestQuickstartShopThatIsDownTakesNoMoney(t *testing.T) {
	t.Parallel()
	q := startQuickstart(t)
	order, barcode := q.buy(t)
	q.Do(t, http.MethodPost, q.shop+"/stop", gatewaytest.FormType, "stop=all")
	result := q.pay(t, barcode, "")
	assert.False(t, result.Accepted)
	assert.Equal(t, http.StatusBadGateway, result.Confirm.Status)
	q.Do(t, http.MethodPost, q.shop+"/stop", gatewaytest.FormType, "stop=")
	assert.True(t, q.pay(t, barcode, "").Accepted)
	q.eventually(t, order, "state", "paid")
}

func TestQuickstartShopHearsOfPaymentsWithoutNotices(t *testing.T) {
	t.Parallel()
	q := startQuickstart(t)
	order, barcode := q.buy(t)
	assert.True(t, q.pay(t, barcode, emulator.ScenarioLostNotice).Accepted)
	q.eventually(t, order, "state", "paid")

	refund := "imp_uid=" + q.API.Payments()[0].ImpUID + "&enable_webhook=false&amount="
	q.Do(t, http.MethodPost, q.APIURL+"/till-refund", gatewaytest.FormType, refund+"4000")
	q.eventually(t, order, "state", "refunded")
	assert.Contains(t, q.Do(t, http.MethodGet, order, "", "").Body, "일부 환불")
	q.Do(t, http.MethodPost, q.APIURL+"/till-refund", gatewaytest.FormType, refund+"11000")
	q.eventually(t, order, "told", 3.0)
	assert.Contains(t, q.Do(t, http.MethodGet, order, "", "").Body, "환불 완료")
}
