package shops

// This file holds a stand: a shop with its gateway and its sandbox, and what a customer, the
// till and an operator do there.

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// patience is how long the list waits for what must happen.
const patience = 2 * time.Minute

// examples is the folder of the shops.
const examples = "../../examples"

// shop is a shop of the list. The usual one speaks the paths and words that all shops of
// examples/ share; the Go demo, which is older, differs in some.
type shop struct {
	folder  string // in examples/
	prepare func(t *testing.T, s *stand) start

	unsigned        bool              // it verifies no signature: its site alone keeps others from being told
	byClick         bool              // a page gets its barcode by a form, not by being opened
	drawsItself     bool              // it draws the barcode, without cvs_barcode
	lastTaken       bool              // an order takes the last item out of the stock, before it is paid
	fewUmbrellas    bool              // they must be restocked
	takesLargeForms bool              // by PHP's own limit, 8 MB
	listsNews       bool              // its page lists what it was told, in place of a log
	view            string            // what follows an order's path for its JSON, if not .json
	states          map[string]string // its words for states, by those of the others
}

// start starts the shop's program, with more in its environment, and returns how to stop it.
type start func(t *testing.T, env ...string) (stop func())

// stand is a shop that runs.
type stand struct {
	shop
	*gatewaytest.Gateway
	app   string // the address where Caddy asks and tells the shop
	start start
	stop  func()

	output  string            // the file of what the shop's program prints
	replace map[string]string // more to replace in the Caddyfile
}

// open starts the shop with its gateway and its sandbox.
func open(t *testing.T, of shop) *stand {
	t.Helper()
	s := &stand{shop: of, app: gatewaytest.Address(t), output: filepath.Join(t.TempDir(), "output"), Gateway: &gatewaytest.Gateway{
		Inside: "http://" + gatewaytest.Address(t), Outside: "http://" + gatewaytest.Address(t),
		LogFile: gatewaytest.LogFile(t), Ledger: gatewaytest.LedgerFile(t), HTTP: gatewaytest.HTTPClient(t),
		API: emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)}),
	}}
	s.HTTP.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s.APIServer = httptest.NewServer(s.API)
	s.APIURL = s.APIServer.URL
	t.Cleanup(func() {
		_ = s.API.Close()
		s.APIServer.Close()
	})
	config, err := os.ReadFile(filepath.Join(examples, of.folder, "Caddyfile"))
	require.NoError(t, err)
	s.start = of.prepare(t, s) // before Caddy: a shop without its runtime skips
	t.Cleanup(func() { s.stop() })
	s.up(t)
	gatewaytest.Run(t, s.configure(t, string(config)))
	return s
}

// up starts the shop's program.
func (s *stand) up(t *testing.T, env ...string) {
	t.Helper()
	s.stop = func() {}
	s.stop = s.start(t, env...)
}

// printed returns what the shop's program has printed for its operator.
func (s *stand) printed(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(s.output)
	require.NoError(t, err)
	return string(content)
}

// environment is what a shop's program has in its environment: all that it needs, and no key of
// the API.
func (s *stand) environment(more ...string) []string {
	_, port, _ := strings.Cut(s.app, ":")
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "PORT=" + port, "CVS_URL=" + s.Inside,
		"CVS_TELL_SECRET=" + gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"],
	}, more...)
}

// configure makes a shop's Caddyfile one for a test: other ports, keys and another ledger, the
// emulator of this process in place of the site with the sandbox, and a sweep each second.
func (s *stand) configure(t *testing.T, config string) string {
	t.Helper()
	config, sandbox, found := strings.Cut(config, "\n# In place of PortOne")
	require.True(t, found)
	require.Contains(t, sandbox, "cvs_sandbox")
	for variable, address := range map[string]string{
		"SHOP_PORT": s.Outside, "APP_PORT": s.app, "GATEWAY_PORT": s.Inside, "SANDBOX_PORT": s.APIURL,
	} {
		port := address[strings.LastIndexByte(address, ':')+1:]
		config = regexp.MustCompile(`\{\$`+variable+`:\d+\}`).ReplaceAllString(config, port)
	}
	replace := map[string]string{
		"{env.PORTONE_IMP_KEY}": "{env.CVS_TEST_KEY}", "{env.PORTONE_IMP_SECRET}": "{env.CVS_TEST_SECRET}",
		"sweep 10s":       "sweep 1s",
		"\tadmin off\n":   "\tadmin off\n\tauto_https off\n\tlog {\n\t\toutput file " + s.LogFile + "\n\t\tlevel DEBUG\n\t}\n",
		"intervals 1s 5s": "intervals 200ms 1s 5s",
	}
	maps.Copy(replace, s.replace)
	for was, is := range replace {
		require.Contains(t, config, was)
		config = strings.ReplaceAll(config, was, is)
	}
	config = strings.ReplaceAll(config, "{env.CVS_TELL_SECRET}", "{env.CVS_TEST_NOTICE_SECRET}")
	if !strings.Contains(config, "\tledger ") {
		config = strings.Replace(config, "\tcvs {\n", "\tcvs {\n\t\tledger "+s.Ledger+"\n", 1)
	}
	return config
}

// order orders a product, and returns the order's number.
func (s *stand) order(t *testing.T, product string) string {
	t.Helper()
	if s.fewUmbrellas && product == "umbrella" {
		s.Do(t, http.MethodPost, s.Outside+"/products/umbrella/restock", gatewaytest.FormType, "")
	}
	a := s.Do(t, http.MethodPost, s.Outside+"/orders", gatewaytest.FormType, "product="+product)
	require.Equal(t, http.StatusSeeOther, a.Status, a.Body)
	id, found := strings.CutPrefix(a.Header.Get("Location"), "/orders/")
	require.True(t, found, a.Header)
	return id
}

func (s *stand) page(t *testing.T, id string) string {
	t.Helper()
	a := s.Do(t, http.MethodGet, s.Outside+"/orders/"+id, "", "")
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	return a.Body
}

// voucher asks for the order's barcode as a customer does, and returns the page.
func (s *stand) voucher(t *testing.T, id string) string {
	t.Helper()
	if s.byClick {
		a := s.Do(t, http.MethodPost, s.Outside+"/orders/"+id+"/barcode", gatewaytest.FormType, "")
		require.Equal(t, http.StatusSeeOther, a.Status, a.Body)
	}
	return s.page(t, id)
}

var numberPattern = regexp.MustCompile(`<p class="number">((?:\d{4} )*\d{1,4})</p>`)

// number returns the barcode's number on a page, which has it in groups of four.
func number(t *testing.T, page string) string {
	t.Helper()
	found := numberPattern.FindStringSubmatch(page)
	require.NotNil(t, found, page)
	return strings.ReplaceAll(found[1], " ", "")
}

// buy orders a product, and returns the order's number and its payment.
func (s *stand) buy(t *testing.T, product string) (string, emulator.Payment) {
	t.Helper()
	id := s.order(t, product)
	return id, s.payment(t, number(t, s.voucher(t, id)))
}

// payment returns the payment of a barcode.
func (s *stand) payment(t *testing.T, barcode string) emulator.Payment {
	t.Helper()
	for _, p := range s.API.Payments() {
		if p.Barcode == barcode {
			return p
		}
	}
	require.Fail(t, "there is no such barcode", barcode)
	return emulator.Payment{}
}

// pay pays at the till.
func (s *stand) pay(t *testing.T, barcode, by string, scenario emulator.Scenario) emulator.ScanResult {
	t.Helper()
	result, err := s.API.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode, PayType: by, Scenario: scenario})
	require.NoError(t, err)
	return result
}

// confirm asks about a payment as the till does.
func (s *stand) confirm(t *testing.T, p emulator.Payment) gatewaytest.Answer {
	t.Helper()
	confirmURL, _ := s.API.WebhookURLs(p.ImpUID)
	return s.Confirm(t, gatewaytest.Issued{ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, Barcode: p.Barcode, ConfirmURL: confirmURL})
}

// state returns the state of an order, in the words that the shops share.
func (s *stand) state(t *testing.T, id string) string {
	t.Helper()
	path := ".json"
	if s.view != "" {
		path = s.view
	}
	a := s.Do(t, http.MethodGet, s.Outside+"/orders/"+id+path, "", "")
	if a.Status != http.StatusOK {
		return a.Body
	}
	state, _ := a.Field(t, "state").(string)
	for shared, own := range s.states {
		if own == state {
			return shared
		}
	}
	return state
}

// becomes waits until an order is in a state, and the page says so.
func (s *stand) becomes(t *testing.T, id, state string) {
	t.Helper()
	shows := map[string]string{"waiting": "결제 대기", "paid": "결제 완료", "cancelled": "환불 완료", "expired": "결제 기한 만료"}[state]
	require.Eventually(t, func() bool {
		return s.state(t, id) == state && strings.Contains(s.page(t, id), "<strong>"+shows+"</strong>")
	}, patience, 50*time.Millisecond, "%s is not %s\n%s", id, state, s.LazyLog(t))
}

// refund pays back as the shop's staff does in PortOne's console.
func (s *stand) refund(t *testing.T, p emulator.Payment, amount string) {
	t.Helper()
	form := url.Values{"imp_uid": {p.ImpUID}, "amount": {amount}, "enable_webhook": {"false"}}
	s.Do(t, http.MethodPost, s.APIURL+"/till-refund", gatewaytest.FormType, form.Encode())
}
