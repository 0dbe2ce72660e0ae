package gatewaytest

// This file holds an API and a transport that keep nothing, and sites that are called
// without a network: for tests and benchmarks that measure what the gateway itself uses.

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// ForgetfulAPI answers as PortOne's API does and keeps nothing but counters, so that any
// growth of memory is the gateway's. The emulator would keep 10,000 payments. The order's
// number may ask for FateBroken or FateGone.
type ForgetfulAPI struct {
	Tokens, Issues, Others atomic.Int64
	ShortLived             atomic.Bool // tokens of the first account, renewed every second
}

// Requests is the number of all requests.
func (a *ForgetfulAPI) Requests() int64 { return a.Tokens.Load() + a.Issues.Load() + a.Others.Load() }

// What goes wrong with an order at the ForgetfulAPI, as parts of the order's number.
const (
	FateBroken = "-broken" // the API does the work, then the connection breaks
	FateGone   = "-gone"   // the API is slow, and the app closes the connection
)

// forgotten stands for a confirm_url in a look-up: a field must not be missing that the answer to
// POST /cvs had.
const forgotten = "http://127.0.0.1/forgotten"

// ForgetfulToken is the token that the ForgetfulAPI gives to every account.
const ForgetfulToken = "canary-token-of-the-resource-run"

func (a *ForgetfulAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	now := time.Now().Unix()
	switch r.URL.Path {
	case "/users/getToken":
		a.Tokens.Add(1)
		life := int64(1800)
		// The second account's token always has a short life: if its renewal goes on
		// after the account is gone, the API sees the requests.
		if a.ShortLived.Load() || bytes.Contains(body, []byte("second")) {
			life = 10
		}
		fmt.Fprintf(w, `{"code":0,"message":null,"response":{"access_token":%q,"now":%d,"expired_at":%d}}`, ForgetfulToken, now, now+life)
	case "/cvs":
		a.Issues.Add(1)
		fields := gjson.GetManyBytes(body, "merchant_uid", "confirm_url")
		if strings.Contains(fields[0].Str, FateBroken) {
			panic(http.ErrAbortHandler)
		}
		if strings.Contains(fields[0].Str, FateGone) {
			time.Sleep(10 * time.Millisecond)
		}
		writePayment(w, fields[0].Str, fields[1].Str, now)
	default: // the order's number is in the path, or in that of its payment
		a.Others.Add(1)
		order := strings.TrimPrefix(path.Base(r.URL.Path), "imp_")
		if strings.HasPrefix(r.URL.Path, "/payments/findAll/") {
			fmt.Fprintf(w, `{"code":0,"message":null,"response":{"total":1,"previous":0,"next":0,"list":[%s]}}`, payment(order, forgotten, now))
			return
		}
		writePayment(w, order, forgotten, now)
	}
}

// writePayment answers with a payment that consists of the order's number, and with the
// URL that its webhook would go to.
func writePayment(w http.ResponseWriter, merchantUID, confirmURL string, now int64) {
	w.Header().Set("Content-Type", JSONType)
	fmt.Fprintf(w, `{"code":0,"message":null,"response":%s}`, payment(merchantUID, confirmURL, now))
}

func payment(merchantUID, confirmURL string, now int64) string {
	return fmt.Sprintf(`{"imp_uid":"imp_%s","merchant_uid":%[1]q,"status":"ready","amount":15000,"started_at":%d,"vbank_num":"12345678901234567890","confirm_url":%q,"buyer_name":%q,"buyer_tel":%q,"buyer_email":%q}`,
		merchantUID, now, confirmURL, BuyerName, BuyerTel, BuyerEmail)
}

// forgetfulTransport is a ForgetfulAPI without a network, for many calls. A Caddyfile
// names it test_forgetful.
type forgetfulTransport struct{}

var theForgetfulAPI ForgetfulAPI

func init() { caddy.RegisterModule(forgetfulTransport{}) }

func (forgetfulTransport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.test_forgetful", New: func() caddy.Module { return new(forgetfulTransport) }}
}

func (*forgetfulTransport) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (forgetfulTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	theForgetfulAPI.ServeHTTP(w, r)
	return w.Result(), nil
}

// Sites are the servers of a configuration by their port, to be called without a network.
type Sites map[string]http.Handler

// LoadSites provisions a configuration without starting it: it opens nothing but the
// files of its logs.
func LoadSites(t testing.TB, config string) Sites {
	t.Helper()
	ctx, err := Provision(Adapt(t, config))
	require.NoError(t, err)
	app, err := ctx.App("http")
	require.NoError(t, err)
	byPort := make(Sites)
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, listen := range server.Listen {
			byPort[listen[strings.LastIndex(listen, ":"):]] = server
		}
	}
	return byPort
}

// Post sends JSON to a URL of one of the sites.
func (s Sites) Post(target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", JSONType)
	r.RemoteAddr = "127.0.0.1:1024"
	w := httptest.NewRecorder()
	s[":"+r.URL.Port()].ServeHTTP(w, r)
	return w
}

// LogErrorsOnly changes a configuration so that it logs nothing but errors.
func LogErrorsOnly(config, logFile string) string {
	config = strings.Replace(config, "level DEBUG", "", 1)
	return strings.ReplaceAll(config, "output file "+logFile, "output file "+logFile+"\nlevel ERROR")
}

// Interface guards
var (
	_ http.RoundTripper     = forgetfulTransport{}
	_ caddyfile.Unmarshaler = (*forgetfulTransport)(nil)
)
