package caddycvs

// This file holds the tests of "one order, one barcode" through a gateway: what an app gets that
// asks again, and what the till gets.

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/boltstore"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// ask sends a POST /cvs as a form.
func ask(t testing.TB, g *gatewaytest.Gateway, fields string) gatewaytest.Answer {
	t.Helper()
	return g.Do(t, http.MethodPost, g.Inside+"/cvs", gatewaytest.FormType, fields)
}

// barcodeOf returns the barcode of an answer.
func barcodeOf(t testing.TB, g *gatewaytest.Gateway, a gatewaytest.Answer) gatewaytest.Issued {
	t.Helper()
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	p := a.Payment(t)
	i := gatewaytest.Issued{ImpUID: p["imp_uid"].(string), MerchantUID: p["merchant_uid"].(string), Barcode: p["vbank_num"].(string)}
	i.ConfirmURL, _ = g.API.WebhookURLs(i.ImpUID)
	return i
}

// ready returns the imp_uids of the payments that are open.
func ready(g *gatewaytest.Gateway) (list []string) {
	for _, p := range g.API.Payments() {
		if p.Status == "ready" {
			list = append(list, p.ImpUID)
		}
	}
	return list
}

func TestRepeatedRequestGetsTheOrdersBarcode(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]string{"file": "LEDGER", "off": "off"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Ledger: place})
			first := ask(t, g, "merchant_uid=order-1&amount=15000&buyer_name=A")
			assert.Empty(t, first.Header.Values("X-Cvs-Reused"))
			for _, again := range []string{"amount=15000&buyer_name=A", "amount=15000.0&buyer_name=B&custom_data=x", "amount=15000&pg=galaxia"} {
				a := ask(t, g, "merchant_uid=order-1&"+again)
				assert.Equal(t, barcodeOf(t, g, first), barcodeOf(t, g, a), again)
				assert.Equal(t, []string{"1"}, a.Header.Values("X-Cvs-Reused"))
				assert.Equal(t, first.Payment(t)["buyer_name"], a.Payment(t)["buyer_name"], "the API's own answer")
			}
			assert.Len(t, g.API.Payments(), 1)
			g.WaitForLine(t, `"operation":"issue"`, `"reused":true`)
			assert.Equal(t, http.StatusOK, g.Confirm(t, barcodeOf(t, g, first)).Status)
		})
	}
}

func TestAnotherRequestReplacesTheBarcode(t *testing.T) {
	t.Parallel()
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for name, c := range map[string]struct{ ledger, first, second string }{
		"amount":           {"LEDGER", "amount=15000", "amount=15001"},
		"amount, off":      {"off", "amount=15000", "amount=15001"},
		"own barcode":      {"LEDGER", "amount=15000&barcode=12345678", "amount=15000&barcode=12345679"},
		"own barcode, off": {"off", "amount=15000&barcode=12345678", "amount=15000&barcode=12345679"},
		"no own any more":  {"LEDGER", "amount=15000&barcode=12345678", "amount=15000"},
		"earlier deadline": {"LEDGER", "amount=15000", "amount=15000&expired_at=" + in(time.Hour)},
		"later deadline":   {"LEDGER", "amount=15000&expired_at=" + in(time.Hour), "amount=15000&expired_at=" + in(2*time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatewaytest.Start(t, gatewaytest.Setup{Ledger: c.ledger, Confirm: "order_check SHOP/ {\nrequire payable true\n}"})
			first := barcodeOf(t, g, ask(t, g, "merchant_uid=order-1&"+c.first))
			answer := ask(t, g, "merchant_uid=order-1&"+c.second)
			second := barcodeOf(t, g, answer)
			assert.NotEqual(t, first.ImpUID, second.ImpUID)
			assert.Empty(t, answer.Header.Values("X-Cvs-Reused"))
			assert.Equal(t, []string{second.ImpUID}, ready(g))
			if c.ledger != "off" {
				refusal := g.Confirm(t, first)
				assert.Equal(t, http.StatusConflict, refusal.Status)
				assert.Equal(t, "the barcode was replaced or voided", refusal.Field(t, "reason"))
				g.WaitForLine(t, `"operation":"confirm"`, `"cause":"replaced barcode"`)
			}
			assert.Equal(t, http.StatusOK, g.Confirm(t, second).Status)
		})
	}
}

// A page reload must not kill the voucher in the customer's hand.
func TestALaterDeadlineOfTheConfigurationReplacesNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var mu sync.Mutex
	g := gatewaytest.Start(t, gatewaytest.Setup{Emulator: emulator.Options{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}}})
	first := barcodeOf(t, g, ask(t, g, "merchant_uid=order-1&amount=15000"))
	second := barcodeOf(t, g, ask(t, g, "merchant_uid=order-1&amount=15000"))
	assert.Equal(t, first, second)
}

func TestABarcodeAtTheTillIsNotReplaced(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	first := g.MustIssue(t, "order-1")
	require.Equal(t, http.StatusOK, g.Confirm(t, first).Status)
	// The mark is written after the answer to the till.
	require.Eventually(t, func() bool {
		row, err := rowOf(t, g, "order-1")
		return err == nil && row.AtTill != 0
	}, 5*time.Second, 5*time.Millisecond)
	a := ask(t, g, "merchant_uid=order-1&amount=16000")
	assert.Equal(t, http.StatusConflict, a.Status, a.Body)
	assert.Contains(t, a.Field(t, "message"), "A customer is paying")
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	assert.InDelta(t, 180, wait, 20)
	assert.Equal(t, []string{first.ImpUID}, ready(g))
	assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID, "the same request is answered")
}

func TestAnotherChannelIsNamed(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	first := barcodeOf(t, g, ask(t, g, "merchant_uid=order-1&amount=15000&pg=galaxia.M1&channel_key=c1"))
	for named, words := range map[string]string{
		"pg=galaxia.M2": `issued for pg "galaxia.M1", and the request says "galaxia.M2"`, "channel_key=c2": `issued for channel_key "c1", and the request says "c2"`,
	} {
		a := ask(t, g, "merchant_uid=order-1&amount=15000&"+named)
		assert.Equal(t, http.StatusConflict, a.Status)
		assert.Contains(t, a.Field(t, "message"), words)
	}
	assert.Equal(t, first, barcodeOf(t, g, ask(t, g, "merchant_uid=order-1&amount=15000")), "the gateway's configuration makes no other request")
}

func TestTheAppsOwnVoid(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	first := g.MustIssue(t, "order-1")
	void := g.Do(t, http.MethodDelete, g.Inside+"/cvs/"+first.ImpUID, "", "")
	require.Equal(t, http.StatusOK, void.Status)
	assert.Equal(t, "cancelled", void.Payment(t)["status"])
	assert.Equal(t, http.StatusConflict, g.Confirm(t, first).Status)
	second := g.MustIssue(t, "order-1")
	assert.Equal(t, []string{second.ImpUID}, ready(g))
	again := g.Do(t, http.MethodDelete, g.Inside+"/cvs/"+first.ImpUID, "", "")
	assert.EqualValues(t, 1, again.Field(t, "code"), "the API's refusal is passed on")
}

func TestAPaidOrderIsTheAPIsToRefuse(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	first := g.MustIssue(t, "order-1")
	_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: first.Barcode})
	require.NoError(t, err)
	for range 3 {
		a := g.Issue(t, "order-1")
		assert.Equal(t, http.StatusOK, a.Status)
		assert.NotZero(t, a.Field(t, "code"), a.Body)
		assert.Empty(t, a.Header.Values("X-Cvs-Reused"))
	}
	assert.Len(t, g.API.Payments(), 1)
}

func TestBarcodeOfAPaidOrderIsNotAnswered(t *testing.T) {
	t.Parallel()
	x := exchange{call: apiCall{operation: opIssue}}
	x.merchantUID = "order-1"
	resp := x.errorAnswer(&ledger.PaidError{ImpUID: "imp_1"})
	assert.Equal(t, http.StatusConflict, resp.Status)
	assert.Empty(t, resp.RetryAfter)
	assert.Contains(t, string(resp.Body), "GET /payments/imp_1: use another order number.")
}

func TestIdenticalRequestsAreOne(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "issue", Delay: 300 * time.Millisecond, Times: 1}))
	const callers = 8
	answers := make([]gatewaytest.Answer, callers)
	var asking sync.WaitGroup
	for i := range answers {
		asking.Go(func() { answers[i] = ask(t, g, "merchant_uid=order-1&amount=15000") })
	}
	asking.Wait()
	issued := 0
	for _, a := range answers {
		assert.Equal(t, barcodeOf(t, g, answers[0]), barcodeOf(t, g, a))
		if a.Header.Get("X-Cvs-Reused") == "" {
			issued++
		}
	}
	assert.Equal(t, 1, issued, "every other answer says that its request issued nothing")
	assert.Len(t, g.API.Payments(), 1)
}

func TestRepeatPassSendsEveryRequest(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Proxy: gatewaytest.UsualProxy + "\nrepeat pass"})
	first, second := g.MustIssue(t, "order-1"), g.MustIssue(t, "order-1")
	assert.NotEqual(t, first.ImpUID, second.ImpUID)
	assert.Len(t, ready(g), 2)
	assert.Zero(t, g.API.Requests(emulator.EndpointFindAll)+g.API.Requests(emulator.EndpointPayment))
}

// With the ledger off a request costs one look-up more, and with repeat pass nothing.
func TestLedgerOffLooksTheOrderUpFirst(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{Ledger: "off"})
	g.MustIssue(t, "order-1")
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointFindAll))
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointIssue))
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "find_all", Status: 503}))
	a := g.Issue(t, "order-2")
	assert.Equal(t, http.StatusGatewayTimeout, a.Status, a.Body)
	assert.Contains(t, a.Field(t, "message"), "Nothing was issued.")
	assert.Equal(t, 1, g.API.Requests(emulator.EndpointIssue))
	_, err := os.Stat(g.Ledger)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// rowOf returns what the gateway keeps of an order. Its file is locked.
func rowOf(t testing.TB, g *gatewaytest.Gateway, order string) (*ledger.Row, error) {
	t.Helper()
	return openLedger(t, g).Row(context.Background(), ledger.Key{Order: order})
}

// openLedger returns the ledger that the gateway uses.
func openLedger(t testing.TB, g *gatewaytest.Gateway) *pooledLedger {
	t.Helper()
	var found *pooledLedger
	ledgers.Range(func(key, value any) bool {
		if key == g.Ledger {
			found = value.(*pooledLedger)
		}
		return found == nil
	})
	require.NotNil(t, found)
	return found
}

func TestIssueWhileTheLedgerIsLocked(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	other, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err)
	gatewaytest.Run(t, config)
	first := g.MustIssue(t, "order-1")
	g.WaitForLine(t, `"level":"error"`, "the ledger is down", "in use by another process")
	g.WaitForLine(t, `"level":"error"`, "the order is looked up at the API instead", `"merchant_uid":"order-1"`)
	assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
	assert.Equal(t, http.StatusOK, g.Confirm(t, first).Status, "the order checks decide")
	require.NoError(t, other.Close())
	g.WaitForLine(t, `"level":"info"`, "the ledger is up again")
	row, err := rowOf(t, g, "order-1")
	require.NoError(t, err)
	assert.Equal(t, first.ImpUID, row.Attempts[0].ImpUID, "it was written before the ledger was trusted again")
	assert.Equal(t, first.ImpUID, g.MustIssue(t, "order-1").ImpUID)
	assert.Len(t, g.API.Payments(), 1)
}

// Caddy waits for an attempt to open the file when it stops.
func TestOnlyTheStartWaitsLongForALockedLedger(t *testing.T) {
	t.Parallel()
	path := gatewaytest.LedgerFile(t)
	other, err := boltstore.Open(path, boltstore.Options{})
	require.NoError(t, err)
	defer other.Close()
	open := newStoreOpener(&knownPlace{store: ledgerFile, key: path, path: path}, nil, zap.NewNop).open
	wait := func() time.Duration {
		began := time.Now()
		_, err := open()
		require.ErrorIs(t, err, boltstore.ErrLocked)
		return time.Since(began)
	}
	first := wait()
	assert.Eventually(t, func() bool { return wait() < first/2 }, 5*time.Second, time.Millisecond)
}

func TestOnDownRefuse(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Ledger: "LEDGER {\non_down refuse\n}"})
	other, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err)
	defer other.Close()
	gatewaytest.Run(t, config)
	a := g.Issue(t, "order-1")
	assert.Equal(t, http.StatusServiceUnavailable, a.Status)
	assert.NotEmpty(t, a.Header.Get("Retry-After"))
	assert.Contains(t, a.Field(t, "message"), "on_down is refuse")
	assert.Zero(t, g.API.Requests(emulator.EndpointIssue))
}

// What the configuration is to blame for fails the load, and what it is not does not.
func TestLedgerThatCanNeverBeOpened(t *testing.T) {
	t.Parallel()
	noLedger := gatewaytest.LedgerFile(t)
	require.NoError(t, os.WriteFile(noLedger, []byte(strings.Repeat("no ledger\n", 1000)), 0o600))
	for name, c := range map[string]struct{ path, words string }{
		"a directory that is not writable": {"/proc/cvs.db", "/proc/cvs.db"},
		"another file":                     {noLedger, "is no ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, config := gatewaytest.Prepare(t, gatewaytest.Setup{Ledger: c.path})
			gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(ctx caddy.Context) {
				app, err := ctx.App("cvs")
				require.NoError(t, err)
				err = app.(*App).Start()
				require.ErrorContains(t, err, c.words)
				assert.ErrorContains(t, err, "or write ledger off", "what to do")
			})
		})
	}
}

// caddy validate provisions a configuration while another process uses the file.
func TestProvisionOpensNoLedger(t *testing.T) {
	t.Parallel()
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	gatewaytest.Provisioned(t, gatewaytest.Adapt(t, config), func(caddy.Context) {})
	_, err := os.Stat(g.Ledger)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestLedgerOutlivesAReload(t *testing.T) {
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { _ = caddy.Stop() })
	first := g.MustIssue(t, "order-1")
	opened := openLedger(t, g).Ledger
	for range 3 {
		g.HTTP.CloseIdleConnections()
		require.NoError(t, gatewaytest.Reload(t, config))
		assert.Same(t, opened, openLedger(t, g).Ledger)
		assert.Equal(t, first.ImpUID, issueAgain(g, "order-1").Payment(t)["imp_uid"])
	}
	g.HTTP.CloseIdleConnections()
	require.Error(t, gatewaytest.Reload(t, strings.Replace(config, "ledger "+g.Ledger, "ledger /proc/cvs.db", 1)))
	assert.Equal(t, first.ImpUID, issueAgain(g, "order-1").Payment(t)["imp_uid"], "a configuration that fails changes nothing")
	require.NoError(t, caddy.Stop())
	store, err := boltstore.Open(g.Ledger, boltstore.Options{})
	require.NoError(t, err, "the last configuration has closed it")
	defer store.Close()
	row, err := store.Get(t.Context(), ledger.Key{Order: "order-1"})
	require.NoError(t, err)
	assert.Equal(t, first.ImpUID, row.Attempts[0].ImpUID)
	assert.Empty(t, row.Holder)
}

// A configuration that fails after the ledger knows it closes its log: what the ledger has to say goes
// to the log of the one that stays.
func TestLedgerLogsWhereTheConfigurationInUseDoes(t *testing.T) {
	t.Parallel()
	path := gatewaytest.LedgerFile(t)
	start := func() (*App, *observer.ObservedLogs) {
		core, logs := observer.New(zap.InfoLevel)
		here := &knownPlace{store: ledgerFile, key: path, path: path}
		a := &App{Ledger: new(Ledger), ledger: &appLedger{needed: true, place: here}, logger: zap.New(core)}
		require.NoError(t, a.startLedger())
		return a, logs
	}
	first, stays := start()
	second, ends := start()
	report := func() { first.ledger.used.report(ledger.Event{Message: "canary"}) }
	said := func(logs *observer.ObservedLogs) int { return logs.FilterMessage("canary").Len() }
	report()
	assert.Equal(t, 1, said(ends), "the newest")
	second.releaseLedger()
	report()
	assert.Equal(t, 1, said(ends))
	assert.Equal(t, 1, said(stays))
	first.releaseLedger()
	report()
	assert.Equal(t, 2, said(stays), "at the end")
}

// The ledger never delays the answer to the till by more than a moment.
func TestStandingThatDoesNotCome(t *testing.T) {
	t.Parallel()
	s := new(standingReader)
	d := &decision{record: record{verdict: accepted}}
	began := time.Now()
	s.apply(t.Context(), d, make(chan ledger.Standing))
	assert.GreaterOrEqual(t, time.Since(began), maxStandingWait)
	assert.Equal(t, accepted, d.verdict)
	assert.False(t, d.atTill)
	s.app = &App{ledger: &appLedger{needed: true}, Ledger: new(Ledger)}
	assert.Nil(t, s.ask(&decision{attempt: "an id"}), "it is not asked again for a while")

	ended, end := context.WithCancel(t.Context())
	end()
	for standing, verdict := range map[ledger.Standing]string{
		ledger.Unknown: accepted, ledger.Current: accepted, ledger.Marked: accepted, ledger.Replaced: refused, ledger.PaidElse: refused,
	} {
		answer := make(chan ledger.Standing, 1)
		answer <- standing
		d := &decision{record: record{verdict: accepted}}
		s.apply(ended, d, answer)
		assert.Equal(t, verdict, d.verdict, fmt.Sprint(standing))
		assert.Equal(t, standing == ledger.Current, d.atTill)
	}
	refusedAlready := &decision{record: record{verdict: refused}}
	s.apply(t.Context(), refusedAlready, make(chan ledger.Standing))
	assert.Equal(t, refused, refusedAlready.verdict)
}

// What a process shares between configurations, it shares for the same merchant only.
func TestRequestsOfTwoMerchantsAreNotJoined(t *testing.T) {
	t.Parallel()
	gateways := make([]*gatewaytest.Gateway, 2)
	for i := range gateways {
		gateways[i] = gatewaytest.Start(t, gatewaytest.Setup{Ledger: "off", Proxy: "expires_in 72h"})
		require.NoError(t, gateways[i].API.Inject(emulator.Fault{Endpoint: "issue", Delay: 300 * time.Millisecond, Times: 1}))
	}
	var asking sync.WaitGroup
	for _, g := range gateways {
		asking.Go(func() {
			a := ask(t, g, "merchant_uid=order-1&amount=15000&confirm_url=https://shop.example/")
			assert.Empty(t, a.Header.Get("X-Cvs-Reused"))
		})
	}
	asking.Wait()
	for _, g := range gateways {
		assert.Len(t, g.API.Payments(), 1)
	}
}

// The API's own words may repeat a value of the request.
func TestLedgerDoesNotLogTheAPIsWords(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{}) // whose log is searched for the buyer's data
	g.MustIssue(t, "order-1")
	require.NoError(t, g.API.Inject(emulator.Fault{Endpoint: "payment", Status: 400, Message: gatewaytest.BuyerName}))
	a := g.Issue(t, "order-1")
	assert.Equal(t, http.StatusGatewayTimeout, a.Status)
	assert.Contains(t, a.Field(t, "message"), "(code -1, HTTP 400)")
	assert.NotContains(t, g.WaitForLine(t, `"operation":"issue"`, `"status":504`, "code -1, HTTP 400"), gatewaytest.BuyerName)

	core, logs := observer.New(zap.InfoLevel)
	p := &pooledLedger{apps: []*App{{logger: zap.New(core), metrics: newMetrics(nil)}}}
	p.report(ledger.Event{Message: "m", Key: ledger.Key{Order: "o"}, ImpUID: "imp_1", Err: os.ErrPermission})
	p.report(ledger.Event{Message: "n"})
	assert.Equal(t, map[string]any{"account": "", "merchant_uid": "o", "imp_uid": "imp_1", "error": "permission denied"}, logs.All()[0].ContextMap())
	assert.Empty(t, logs.All()[1].ContextMap())
}
