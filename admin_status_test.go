package caddycvs

// This file holds tests of what an operator, or a load balancer, is told of the gateway's state.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/ledger/storetest"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// inProcess serves requests by a handler without a network.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// statusApp returns an app with accounts of these names at an emulator, and without a ledger.
func statusApp(t *testing.T, names ...string) (*App, *emulator.Emulator) {
	t.Helper()
	api := emulator.New(emulator.Options{})
	t.Cleanup(func() { _ = api.Close() })
	a := &App{accounts: make(map[string]*account), ledger: new(appLedger)}
	for _, name := range names {
		c, err := client.New(client.Config{ImpKey: "key-" + name, ImpSecret: "canary-secret", Transport: inProcess{api}})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		a.accounts[name] = &account{name: name, client: c}
	}
	return a, api
}

// use makes the accounts look a payment up.
func (a *App) use(names ...string) {
	for _, name := range names {
		_, _ = a.accounts[name].client.Payment(context.Background(), "imp_0")
	}
}

// withStore gives an app a ledger with a store.
func (a *App) withStore(t *testing.T, open func() (ledger.Store, error)) *pooledLedger {
	t.Helper()
	p := &pooledLedger{Ledger: ledger.New(ledger.Options{Open: open}), stored: true}
	p.Use(&ledger.Settings{Accounts: map[string]*ledger.Account{"": {}}})
	_ = p.Open()
	t.Cleanup(func() { _ = p.Close() })
	a.ledger.place = &knownPlace{store: ledgerFile}
	a.ledger.used = p
	return p
}

func (a *App) admin() *Admin { return &Admin{app: func() (*App, error) { return a, nil }} }

// get returns the answer to a GET on the admin endpoint.
func (a *App) get(t *testing.T, target string) (status int, body string) {
	t.Helper()
	w, err := askAdmin(t, a.admin(), http.MethodGet, target, "", "")
	require.NoError(t, err)
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.NotContains(t, w.Body.String(), "canary")
	return w.Code, strings.TrimSpace(w.Body.String())
}

func (a *App) statusView(t *testing.T, query string) (v statusView) {
	t.Helper()
	_, body := a.get(t, "/cvs/status"+query)
	require.NoError(t, json.Unmarshal([]byte(body), &v))
	return v
}

func TestStatusOfAccounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, api := statusApp(t, "", "failing", "idle")
		a.use("")
		require.NoError(t, api.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Code: 777}))
		a.use("failing")
		now := time.Now().UTC()
		v := a.statusView(t, "")
		assert.Equal(t, 3, v.Total)
		assert.Equal(t, 1, v.Failing)
		require.Len(t, v.Accounts, 3)
		assert.Equal(t, tokenValid, v.Accounts[0].Token)
		assert.WithinDuration(t, now.Add(30*time.Minute), *v.Accounts[0].ValidUntil, 10*time.Second)
		assert.True(t, v.Accounts[0].InUse)
		assert.Equal(t, new(0), v.Accounts[0].ClockOffset)
		assert.Equal(t, accountView{Name: "failing", Token: tokenFailed, InUse: true, LastError: &failureView{now.Truncate(time.Second), client.TokenRefused, "code 777, HTTP 200"}}, v.Accounts[1])
		assert.Equal(t, accountView{Name: "idle", Token: tokenNone}, v.Accounts[2])
		assert.Equal(t, ledgerView{Store: ledgerOff, State: ledgerOff}, v.Ledger)

		api.ClearFaults()
		time.Sleep(time.Minute)
		a.use("failing")
		v = a.statusView(t, "")
		assert.Equal(t, tokenValid, v.Accounts[1].Token)
		assert.NotNil(t, v.Accounts[1].LastError, "an error that is over can be seen, too")
		time.Sleep(time.Hour)
		v = a.statusView(t, "")
		assert.Equal(t, tokenNone, v.Accounts[1].Token)
		assert.False(t, v.Accounts[1].InUse)
	})
}

func TestStatusOfManyAccountsHasPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		names := []string{""}
		for i := range 250 {
			names = append(names, fmt.Sprintf("shop-%03d", i))
		}
		a, api := statusApp(t, names...)
		require.NoError(t, api.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Code: 1}))
		failing := names[100:112]
		a.use(failing...)
		var seen []string
		query := ""
		for pages := 1; ; pages++ {
			v := a.statusView(t, query)
			assert.LessOrEqual(t, len(v.Accounts), 100)
			assert.Equal(t, 251, v.Total)
			assert.Equal(t, len(failing), v.Failing, "of all pages")
			for _, acc := range v.Accounts {
				seen = append(seen, acc.Name)
			}
			if v.Next == "" {
				assert.Equal(t, 3, pages)
				break
			}
			query = "?after=" + v.Next
		}
		assert.Equal(t, names, seen)
		v := a.statusView(t, "?token=failed&after="+failing[0])
		require.Len(t, v.Accounts, len(failing)-1)
		assert.Equal(t, failing[1], v.Accounts[0].Name)

		status, body := a.get(t, "/cvs/ready")
		assert.Equal(t, 503, status)
		assert.Contains(t, body, `"reasons":["account \"shop-099\": the last fetch of an access token failed (refused)"`)
		assert.Contains(t, body, `"and 2 more accounts"]}`)
		assert.Equal(t, 10, strings.Count(body, "account \\\""))
	})
	for query, message := range map[string]string{
		"?after=":             "after must be given once, with a value",
		"?after=a&after=b":    "after must be given once, with a value",
		"?token=valid":        `token must be failed, not "valid"`,
		"?account=canary-123": `there is no parameter "account"; there are after and token`,
	} {
		_, err := askAdmin(t, new(App).admin(), http.MethodGet, "/cvs/status"+query, "", "")
		assertAdminError(t, err, 400, message)
	}
}

// A load balancer that sends no calls to a node that is not ready would else never hear that it is again.
func TestReadyFetchesAFailedTokenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		names := []string{"idle"}
		for i := range 20 {
			names = append(names, fmt.Sprint(i))
		}
		a, api := statusApp(t, names...)
		require.NoError(t, api.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Code: 1}))
		a.use(names[1:]...)
		assert.Len(t, a.reasons(true), 11)
		time.Sleep(3 * time.Minute)
		requests := api.Requests(emulator.EndpointToken)
		assert.Len(t, (&Sandbox{gateway: a}).gatewayState().Reasons, 11)
		synctest.Wait()
		assert.Equal(t, requests, api.Requests(emulator.EndpointToken), "the till's page shows it, and changes nothing")
		api.ClearFaults()
		assert.Len(t, a.reasons(true), 11, "it does not wait for the API")
		synctest.Wait()
		assert.Equal(t, requests+maxRetried, api.Requests(emulator.EndpointToken))
		assert.Len(t, a.reasons(true), 4)
		synctest.Wait()
		status, body := a.get(t, "/cvs/ready")
		assert.Equal(t, 200, status)
		assert.Equal(t, `{"ready":true}`, body)
		assert.Equal(t, requests+20, api.Requests(emulator.EndpointToken), "an account that is not used sends nothing")
	})
}

// The metric of a token that an idle account failed to get would else be 0, and its alert fire, until
// somebody uses the account.
func TestMetricsFetchAFailedTokenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, api := statusApp(t, "", "idle")
		a.metrics = newMetrics(nil)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(newAppCollector(a))
		require.NoError(t, api.Inject(emulator.Fault{Endpoint: emulator.EndpointToken, Code: 1}))
		a.use("")
		requests := api.Requests(emulator.EndpointToken)
		assert.InDelta(t, 0, gatheredFrom(t, registry)["token_valid"], 0)
		synctest.Wait()
		assert.Equal(t, requests, api.Requests(emulator.EndpointToken), "not more often than for calls")
		api.ClearFaults()
		time.Sleep(3 * time.Minute)
		gatheredFrom(t, registry)
		synctest.Wait()
		assert.InDelta(t, 1, gatheredFrom(t, registry)["token_valid"], 0)
		assert.Equal(t, requests+1, api.Requests(emulator.EndpointToken), "an account that is not used sends nothing")
	})
}

// stuckStore is a store that can be made to hang, whatever the time that it is given.
type stuckStore struct {
	*storetest.Memory
	stuck chan struct{}
}

func (s *stuckStore) Get(ctx context.Context, key ledger.Key) (*ledger.Row, error) {
	<-s.stuck
	return s.Memory.Get(ctx, key)
}

func (s *stuckStore) Due(ctx context.Context, queue ledger.Queue, now int64, limit int) ([]*ledger.Row, error) {
	<-s.stuck
	return s.Memory.Due(ctx, queue, now, limit)
}

func TestStatusOfTheLedger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := statusApp(t, "")
		a.ledger.place = &knownPlace{store: ledgerPostgres}
		assert.Equal(t, ledgerView{Store: ledgerPostgres, State: ledgerClosed}, a.statusView(t, "").Ledger, "no handler needs it")
		status, _ := a.get(t, "/cvs/ready")
		assert.Equal(t, 200, status)

		store := &stuckStore{storetest.NewMemory(), make(chan struct{})}
		close(store.stuck)
		since := time.Now().UnixMilli() - 5000
		for i, order := range []string{"a", "b", "c"} {
			row := &ledger.Row{Format: ledger.Format, Order: order, Version: 1, Queue: ledger.TellQueue(""), Attempts: []ledger.Attempt{{ID: "a"}}, Telling: ledger.Telling{Since: since + int64(i)}}
			if order == "c" {
				row.Queue = ledger.PersonQueue("")
			}
			require.NoError(t, store.Put(t.Context(), row, 0, false))
		}
		up := time.Now().UTC().Truncate(time.Second)
		l := a.withStore(t, func() (ledger.Store, error) { return store, nil })
		assert.Equal(t, ledgerView{
			Store: ledgerFile, State: ledgerUp, Since: &up, Pending: new(2), Waiting: new(1), OldestPending: fromMilli(since),
		}, a.statusView(t, "").Ledger)

		time.Sleep(time.Minute)
		store.stuck = make(chan struct{})
		for range 3 {
			began := time.Now()
			assert.Equal(t, ledgerView{Store: ledgerFile, State: ledgerSlow}, a.statusView(t, "").Ledger)
			status, body := a.get(t, "/cvs/ready")
			assert.Equal(t, 503, status)
			assert.JSONEq(t, `{"ready":false,"reasons":["the ledger does not answer in time"]}`, body)
			assert.Equal(t, 2*statusLimit, time.Since(began), "a store that keeps to no time limit")
		}
		close(store.stuck)
		synctest.Wait()
		status, _ = a.get(t, "/cvs/ready")
		assert.Equal(t, 200, status)

		down := time.Now().UTC().Truncate(time.Second)
		const dsn = "postgres://cvs:canary-password@canary-host/shop"
		l.store = &storeOpener{here: &knownPlace{parts: partsPattern(ledgerPostgres, dsn)}}
		l.Reopen(errors.New("canary-host: no route to " + dsn))
		assert.Equal(t, ledgerView{Store: ledgerFile, State: ledgerDegraded, Since: &down, Cause: "***: no route to ***"}, a.statusView(t, "").Ledger)
		status, body := a.get(t, "/cvs/ready")
		assert.Equal(t, 503, status)
		assert.JSONEq(t, `{"ready":false,"reasons":["the ledger is degraded"]}`, body)
		l.store = nil
	})
}

// slowStore takes a while for each read of a queue, and keeps to its time.
type slowStore struct{ *storetest.Memory }

func (s slowStore) Due(ctx context.Context, queue ledger.Queue, now int64, limit int) ([]*ledger.Row, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return s.Memory.Due(ctx, queue, now, limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestStatusOfALedgerWithManyAccounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, _ := statusApp(t, "")
		l := a.withStore(t, func() (ledger.Store, error) { return slowStore{storetest.NewMemory()}, nil })
		accounts := make(map[string]*ledger.Account)
		for i := range 10_000 {
			accounts[fmt.Sprint(i)] = &ledger.Account{}
		}
		l.Use(&ledger.Settings{Accounts: accounts})
		began := time.Now()
		view := a.statusView(t, "").Ledger
		assert.Less(t, time.Since(began), statusLimit)
		assert.True(t, view.AtLeast)
		assert.Equal(t, ledgerUp, view.State)
		assert.NotNil(t, view.Pending)
	})
}

// A ledger that keeps nothing is always without a store. That is no fault.
func TestStatusWithLedgerOff(t *testing.T) {
	t.Parallel()
	a, _ := statusApp(t, "")
	a.ledger.used = &pooledLedger{Ledger: ledger.New(ledger.Options{})}
	assert.Empty(t, a.reasons(true))
	assert.Equal(t, ledgerView{Store: ledgerOff, State: ledgerOff}, a.ledgerStatus())
}

func TestStatusWithoutApp(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/cvs/status", "/cvs/ready"} {
		for err, status := range map[error]int{errNoApp: 404, errNotLoaded: 503} {
			a := &Admin{app: func() (*App, error) { return nil, err }}
			_, got := askAdmin(t, a, http.MethodGet, target, "", "")
			assertAdminError(t, got, status, err.Error())
		}
		w, err := askAdmin(t, new(Admin), http.MethodPost, target, "", "")
		assertAdminError(t, err, 405, "use GET")
		assert.Equal(t, "GET", w.Header().Get("Allow"))
	}
}

// A configuration that is replaced while it is looked at may have closed its ledger.
func TestStatusOfAReplacedConfigurationIsNotAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, _ := statusApp(t, "old")
		require.NoError(t, old.withStore(t, func() (ledger.Store, error) { return storetest.NewMemory(), nil }).Close())
		present, _ := statusApp(t, "present")
		for _, target := range []string{"/cvs/status", "/cvs/ready"} {
			asked := 0
			a := &Admin{app: func() (*App, error) {
				if asked++; asked == 1 {
					return old, nil
				}
				return present, nil
			}}
			w, err := askAdmin(t, a, http.MethodGet, target, "", "")
			require.NoError(t, err)
			assert.Equal(t, 200, w.Code)
			assert.NotContains(t, w.Body.String(), "old")
		}
	})
}

func TestHandledCounts(t *testing.T) {
	t.Parallel()
	h := newHandledCounts()
	for _, r := range []record{{httpStatus: 200}, {httpStatus: 200, code: -1}, {httpStatus: 403}, {httpStatus: 404, code: -1}, {httpStatus: 499, code: -1}, {httpStatus: 500}, {httpStatus: 504, code: -1}} {
		h.call(&r)
	}
	assert.Equal(t, map[string]int64{"ok": 1, "refused": 3, "failed": 2, "left": 1}, h.calls.view())
	for _, outcome := range []string{noticeKept, noticeKept, noticeNotKept, noticeRefused, noticeInvalid, "another"} {
		h.notice(&record{outcome: outcome})
	}
	assert.Equal(t, map[string]int64{"kept": 2, "refused": 1, "invalid": 1, "not_kept": 1}, h.notices.view())
	assert.Equal(t, map[string]int64{"heard": 0, "refused": 0, "unheard": 0, "withdrawn": 0}, h.tells.view())
}

// On the admin endpoint of a running Caddy, over reloads that succeed and fail. Not parallel, because it
// uses the one Caddy of the process that can be reloaded.
func TestStatusOverReloads(t *testing.T) {
	admin := gatewaytest.Address(t)
	t.Setenv("CVS_NOTICE_SECRET", "whsec_"+strings.Repeat("A", 32))
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Proxy:  gatewaytest.UsualProxy + "\nnotice_url OUTSIDE/cvs/notice",
		Notice: gatewaytest.UsualNotice,
	})
	config = strings.Replace(config, "admin off", "admin "+admin, 1)
	require.NoError(t, gatewaytest.Reload(t, config))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	status := func() (v statusView) {
		a := g.Do(t, http.MethodGet, "http://"+admin+"/cvs/status", "", "")
		require.Equal(t, 200, a.Status, a.Body)
		require.NoError(t, json.Unmarshal([]byte(a.Body), &v))
		return v
	}
	ready := func() int { return g.Do(t, http.MethodGet, "http://"+admin+"/cvs/ready", "", "").Status }
	before := status()
	assert.Equal(t, tokenNone, before.Accounts[0].Token)
	i := g.MustIssue(t, "order-1")
	_, err := g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: i.Barcode})
	require.NoError(t, err)
	g.WaitForLine(t, `"msg":"tell"`)
	after := status()
	assert.Equal(t, tokenValid, after.Accounts[0].Token)
	for _, c := range [][3]string{{"cvs_proxy", "calls", "ok"}, {"cvs_confirm", "confirms", "accepted"}, {"cvs_notice", "notices", "kept"}} {
		of := func(v statusView) int64 { return v.Handlers[c[0]][c[1]][c[2]] }
		assert.Equal(t, of(before)+1, of(after), c)
	}
	assert.Greater(t, sum(after.Handlers["cvs_notice"]["tells"]), sum(before.Handlers["cvs_notice"]["tells"]))
	assert.Equal(t, 200, ready())

	// A configuration that cannot be loaded is not the present one.
	broken := strings.Replace(config, "cvs {", "cvs {\n\t\taccount second {\n\t\t\timp_key {env.CVS_TEST_KEY}\n\t\t\timp_secret {env.CVS_TEST_SECRET}\n\t\t}", 1)
	require.Error(t, gatewaytest.Reload(t, strings.Replace(broken, g.Ledger, "/proc/no/ledger.db", 1)))
	assert.Equal(t, 1, status().Total)
	// Another ledger, and another account. What was counted goes on.
	first, err := presentApp()
	require.NoError(t, err)
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(broken, g.Ledger, gatewaytest.LedgerFile(t), 1)))
	second, err := presentApp()
	require.NoError(t, err)
	assert.NotSame(t, first.openedLedger(), second.openedLedger())
	later := status()
	assert.Equal(t, 2, later.Total)
	assert.Equal(t, ledgerUp, later.Ledger.State)
	assert.Equal(t, after.Handlers["cvs_proxy"], later.Handlers["cvs_proxy"])
	assert.Equal(t, after.Accounts[0].ValidUntil, later.Accounts[0].ValidUntil, "the token survives")
	assert.Equal(t, 200, ready())

	require.NoError(t, gatewaytest.Reload(t, "{\nadmin "+admin+"\npersist_config off\n}\n"))
	a := g.Do(t, http.MethodGet, "http://"+admin+"/cvs/ready", "", "")
	assert.Equal(t, 404, a.Status)
	assert.Equal(t, errNoApp.Error(), a.Field(t, "error"))
}

func sum(counts map[string]int64) (n int64) {
	for _, count := range counts {
		n += count
	}
	return n
}
