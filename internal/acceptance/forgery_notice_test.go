package acceptance

// This file holds the forgery run with notices in place of confirm webhooks: thousands of them, most
// of them forged, about payments that the ledger knows and about those that it does not, while
// payments are made and paid back, and their genuine notices come. The long form:
//
//	go test -run '^TestNoticeForgeryRun$' -v -timeout 60m ./internal/acceptance -long -seed 2

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestNoticeForgeryRun(t *testing.T) {
	t.Parallel()
	count, pool := 2_000, 16
	if *long {
		count, pool = 100_000, 200
	}
	f := newNoticeForgery(t, pool)
	half := len(f.paying) / 2
	unknown := f.flood(t, "unknown payments", f.strangers, f.paying[:half], count)
	known := f.flood(t, "known payments", f.known, f.paying[half:], count)
	f.conclude(t, unknown, known)
}

// noticeForgery is one run.
type noticeForgery struct {
	known     *forgery          // barcodes that the ledger knows
	strangers *forgery          // genuine barcodes that it does not: another gateway with the same keys issued them
	paying    []*order          // barcodes of the ledger that are paid meanwhile
	token     string            // of the API
	numbers   map[string]*order // the ledger's own barcodes, by imp_uid
	phase     atomic.Pointer[noticePhase]

	mu     sync.Mutex
	waits  map[string]chan struct{} // closed when the shop has heard it
	untrue []string                 // told, and not so
	tells  map[string]int           // by event
	ids    map[string]int           // by webhook-id
}

// noticePhase is a part of the run: what was sent, and what it made the gateway ask the API.
type noticePhase struct {
	title   string
	lookUps atomic.Int64 // requests at the API about payments that the ledger knows
	others  atomic.Int64 // about others, or about none

	mu      sync.Mutex
	elapsed time.Duration // of the forged ones
	figures map[string]*figure
	forged  int
	kept    int // of them answered 200
	genuine int
	wrong   int             // answered otherwise than they must be
	broken  int             // answered 5xx
	delays  []time.Duration // from sending a genuine notice until the shop hears
}

func (p *noticePhase) add(counter *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*counter++
}

func (p *noticePhase) setElapsed(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.elapsed = d
}

// count counts an answer.
func (p *noticePhase) count(k kind, status int, wrong bool, as func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fig := p.figures[k.name]
	if fig == nil {
		fig = &figure{make(map[int]int)}
		p.figures[k.name] = fig
	}
	fig.answers[status]++
	as()
	if wrong {
		p.wrong++
	}
	if status >= 500 {
		p.broken++
	}
}

func newNoticeForgery(t *testing.T, pool int) *noticeForgery {
	t.Helper()
	f := &noticeForgery{waits: make(map[string]chan struct{}), tells: make(map[string]int), ids: make(map[string]int)}
	f.phase.Store(new(noticePhase))
	f.known = &forgery{truth: make(map[string]*order)}
	f.known.prepareKeys(t)
	inside := f.start(t)
	f.known.lookup, f.known.only, f.known.quiet = f.known.g.Outside, f.known.g.Outside, f.known.g.Outside
	// The payments are made without a notice: the run sends them.
	require.NoError(t, f.known.g.API.Inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Drop: emulator.DropBefore}))
	f.known.fill(t, inside, pool)
	for n := range pool {
		at, amount := f.known.g.Inside, 50_000+n
		if n%4 == 3 {
			at = inside
		}
		f.paying = append(f.paying, f.known.issue(t, at, "paying-"+strconv.Itoa(n), amount, "open"))
	}
	f.paying = append(f.paying, f.known.odd[:8]...)
	f.numbers = f.known.truth
	f.strangers = f.startStrangers(t, pool)
	f.token = f.callAPI(t, "/users/getToken", map[string]any{
		"imp_key": gatewaytest.Canaries["CVS_TEST_KEY"], "imp_secret": gatewaytest.Canaries["CVS_TEST_SECRET"],
	})["access_token"].(string)
	return f
}

const noticeAccounts = `signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}
	account sibling {
		imp_key {env.CVS_TEST_SECOND_KEY}
		imp_secret {env.CVS_TEST_SECOND_SECRET}
		api API
		signing_key {env.CVS_TEST_SIGNING_KEY} # the same: the name alone tells the two apart
	}`

const noticeSecond = "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API"

// start starts the gateway and returns the base URL of the second account's cvs_proxy. Only notices make
// it look: there is no sweep.
func (f *noticeForgery) start(t *testing.T) (inside string) {
	t.Helper()
	inside = "http://" + gatewaytest.Address(t)
	api := emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})
	urls := "pg galaxia\nconfirm_url OUTSIDE/cvs/confirm\nnotice_url OUTSIDE/cvs/notice\nexpires_in 72h"
	const notice = `
		tell SHOP/payments/{http.cvs.merchant_uid} {
			header X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}
			secret {env.CVS_TEST_NOTICE_SECRET}
			require heard true
		}
		sweep off`
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: noticeAccounts, Second: noticeSecond, Proxy: urls, Confirm: "unsigned reject\norder_check SHOP/orders/{http.cvs.merchant_uid}/payable {\nrequire payable true\n}", Notice: "account second" + notice + "\n}\ncvs_notice /cvs/notice {" + notice,
		Sites: inside + " {\ncvs_proxy {\naccount second\n" + urls + "\n}\n}\n",
		API:   f.counting(api), Payable: f.serveShop,
	})
	g.API, f.known.g = api, g
	gatewaytest.Run(t, config)
	return inside
}

// startStrangers starts another gateway, whose barcodes have the first one's URLs, issues barcodes and
// forgets them.
func (f *noticeForgery) startStrangers(t *testing.T, pool int) *forgery {
	t.Helper()
	inside, of := "http://"+gatewaytest.Address(t), f.known.g
	urls := "pg galaxia\nconfirm_url " + of.Outside + "/cvs/confirm\nnotice_url " + of.Outside + "/cvs/notice\nexpires_in 72h"
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: noticeAccounts, Second: noticeSecond, Proxy: urls,
		Sites: inside + " {\ncvs_proxy {\naccount second\n" + urls + "\n}\n}\n", API: of.API,
	})
	g.API = of.API
	gatewaytest.Run(t, config)
	strangers := &forgery{g: g, lookup: of.Outside, only: of.Outside, quiet: of.Outside, prefix: "strange-", truth: make(map[string]*order)}
	strangers.prepareKeys(t)
	strangers.fill(t, inside, pool)
	g.Outside = of.Outside
	return strangers
}

// serveShop is the shop: every order may be paid, and what it is told is compared with the truth.
func (f *noticeForgery) serveShop(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/orders/") {
		fmt.Fprint(w, `{"payable":true}`)
		return
	}
	body, _ := io.ReadAll(r.Body)
	var m told
	err := json.Unmarshal(body, &m)
	what := m.untrue(r, f.numbers[m.ImpUID], f.payment(m.ImpUID))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tells[m.Event]++; err != nil || what != "" {
		f.untrue = append(f.untrue, fmt.Sprintf("%s: %s %s", what, r.RequestURI, body))
	}
	f.ids[r.Header.Get("Webhook-Id")]++
	if wait := f.waits[m.ImpUID+m.Event]; wait != nil {
		close(wait)
		delete(f.waits, m.ImpUID+m.Event)
	}
	fmt.Fprint(w, `{"heard":true}`)
}

// told is what the shop is told.
type told struct {
	ImpUID       string  `json:"imp_uid"`
	MerchantUID  string  `json:"merchant_uid"`
	Status       string  `json:"status"`
	Event        string  `json:"event"`
	Amount       float64 `json:"amount"`
	CancelAmount float64 `json:"cancel_amount"`
	PaidAt       int64   `json:"paid_at"`
	Account      string  `json:"account"`
	Late         bool    `json:"late"`
}

// untrue returns what is not true of a message about a barcode of the ledger, nil for none, whose
// payment is this now, or "".
func (m *told) untrue(r *http.Request, o *order, p emulator.Payment) string {
	switch {
	case o == nil:
		return "a payment that the ledger does not know"
	case m.ImpUID != p.ImpUID || m.MerchantUID != o.MerchantUID || m.Account != o.account:
		return "another order"
	case p.PaidAt == 0 || m.PaidAt != p.PaidAt:
		return "paid, or the time"
	case m.Amount != p.Amount || m.CancelAmount != p.CancelAmount:
		return "the amounts"
	case m.Status != p.Status || m.Late:
		return "the status"
	case m.Event != "paid" && (m.Event != "cancelled" || p.CancelAmount == 0):
		return "the event"
	}
	segment, err := url.PathUnescape(strings.TrimPrefix(r.RequestURI, "/payments/"))
	if err != nil || segment != o.MerchantUID {
		return "the path"
	}
	for name, want := range map[string]string{
		"X-Cvs-Imp-Uid": o.ImpUID, "X-Cvs-Merchant-Uid": o.MerchantUID, "X-Cvs-Amount": o.amount, "X-Cvs-Expires": o.expires,
		"X-Internal-Key": gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"],
	} {
		if values := r.Header.Values(name); len(values) != 1 || values[0] != want {
			return "the header field " + name
		}
	}
	return ""
}

// payment returns the API's truth.
func (f *noticeForgery) payment(impUID string) emulator.Payment {
	list := f.known.g.API.Payments()
	i := slices.IndexFunc(list, func(p emulator.Payment) bool { return p.ImpUID == impUID })
	if i < 0 {
		return emulator.Payment{}
	}
	return list[i]
}

// lookedUp matches the path of a look-up.
var lookedUp = regexp.MustCompile(`^/payments/(imp_\d+)$`)

// counting counts what a phase makes the gateway ask the API.
func (f *noticeForgery) counting(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if match := lookedUp.FindStringSubmatch(r.URL.Path); match != nil && f.numbers[match[1]] != nil {
			f.phase.Load().lookUps.Add(1)
		} else if r.URL.Path != "/users/getToken" {
			f.phase.Load().others.Add(1)
		}
		api.ServeHTTP(w, r)
	})
}

// callAPI calls the API as the merchant does in the admin console, past the gateway.
func (f *noticeForgery) callAPI(t *testing.T, path string, body map[string]any) map[string]any {
	t.Helper()
	text, _ := json.Marshal(body)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(text))
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	r.Header.Set("Authorization", "Bearer "+f.token)
	w := httptest.NewRecorder()
	f.known.g.API.ServeHTTP(w, r)
	response, ok := gatewaytest.Answer{Status: w.Code, Body: w.Body.String()}.Field(t, "response").(map[string]any)
	assert.True(t, ok, "%s: %s", path, w.Body)
	return response
}

// flood sends forged notices about the barcodes of victims, while payments are made. About payments that
// the ledger does not know it sends them until the shop has heard of those that are made.
func (f *noticeForgery) flood(t *testing.T, title string, victims *forgery, paying []*order, count int) *noticePhase {
	t.Helper()
	p := &noticePhase{title: title, figures: make(map[string]*figure)}
	f.phase.Store(p)
	var kinds []kind
	for _, k := range slices.Concat(attacks, misplacedConfirms, noticeAttacks) {
		if !k.confirmOnly && (victims == f.known || !k.vouched) {
			kinds = append(kinds, k)
		}
	}
	var next, unpaid atomic.Int64
	unpaid.Store(int64(len(paying)))
	var all sync.WaitGroup
	began := time.Now()
	for w := range 8 {
		all.Go(func() {
			defer func() { p.setElapsed(time.Since(began)) }()
			d := &drawer{forgery: victims, rng: draw(uint64(w)), notice: true}
			for i := int(next.Add(1)); i <= count || victims != f.known && unpaid.Load() > 0; i = int(next.Add(1)) {
				f.forge(t, p, kinds[i%len(kinds)], d, victims == f.known)
			}
		})
	}
	const tills = 4
	for w := range tills {
		all.Go(func() {
			for i := w; i < len(paying); i += tills {
				f.pay(t, p, paying[i], i)
				unpaid.Add(-1)
			}
		})
	}
	all.Wait()
	return p
}

// forge sends one forged notice and judges the answer.
func (f *noticeForgery) forge(t *testing.T, p *noticePhase, k kind, d *drawer, known bool) {
	s := k.shoot(d)
	a, sent := d.send(t, s)
	if !sent {
		return
	}
	// What cannot be read, or is no notice, is never kept.
	readable := !slices.Contains([]int{400, 404, 405, 413, 415}, k.want)
	kept := a.Status == 200 || strings.Contains(a.Body, `true`)
	wrong := kept && (!known || !readable) || k.misplaced && a.Status == 418
	p.count(k, a.Status, wrong, func() { p.forged++ })
	if kept {
		p.add(&p.kept)
	}
	if wrong || a.Status >= 500 {
		t.Errorf("%s, %s: %d %s\n%s %s%s?%s\n%q %q %.300q", p.title, k.name, a.Status, a.Body, s.method, s.base, s.path, s.query, s.contentType, s.header, s.body)
	}
}

// pay makes a payment, and sometimes pays it back, and sends the genuine notices.
func (f *noticeForgery) pay(t *testing.T, p *noticePhase, o *order, n int) {
	result, err := f.known.g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: o.Barcode})
	if err != nil || !result.Accepted {
		t.Errorf("%s is not paid: %v %s", o.MerchantUID, err, result.Reason)
		return
	}
	f.notify(t, p, o, "paid", n)
	if n%2 == 0 && o.account == "" {
		refund := map[string]any{"imp_uid": o.ImpUID}
		if n%4 == 0 {
			refund["amount"] = 1000
		}
		f.callAPI(t, "/payments/cancel", refund)
		f.notify(t, p, o, "cancelled", n+1)
	}
}

// notify sends a genuine notice of an order's payment, and waits until the shop has heard of it.
func (f *noticeForgery) notify(t *testing.T, p *noticePhase, o *order, event string, n int) {
	heard := make(chan struct{})
	f.mu.Lock()
	f.waits[o.ImpUID+event] = heard
	f.mu.Unlock()
	only := slices.Repeat([]*order{o}, 8)
	d := &drawer{
		forgery: &forgery{g: f.known.g, lookup: f.known.lookup, only: f.known.only, open: only, odd: only, second: only, twins: only, secondTwins: only, current: f.known.current, previous: f.known.previous},
		rng:     draw(uint64(1000 + n)), notice: true, status: f.payment(o.ImpUID).Status,
	}
	k := genuines[n%len(genuines)]
	began := time.Now()
	a, _ := d.send(t, k.shoot(d))
	p.count(k, a.Status, a.Status != 200, func() { p.genuine++ })
	if a.Status != 200 {
		t.Errorf("%s, %s: %d %s", p.title, k.name, a.Status, a.Body)
	}
	select {
	case <-heard:
		p.mu.Lock()
		p.delays = append(p.delays, time.Since(began))
		p.mu.Unlock()
	case <-time.After(time.Minute):
		t.Errorf("%s, %s: the shop was not told of %s of %s", p.title, k.name, event, o.MerchantUID)
	}
}

// conclude prints the table.
func (f *noticeForgery) conclude(t *testing.T, unknown, known *noticePhase) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	tb := &table{title: "forgery run, notices"}
	least := leastAttack
	if *long {
		least = leastAttackLong
	}
	for _, p := range []*noticePhase{unknown, known} {
		for _, k := range slices.Concat(genuines, attacks, misplacedConfirms, noticeAttacks) {
			fig := p.figures[k.name]
			if fig == nil {
				continue
			}
			tb.row(p.title+": "+k.name, fmt.Sprintf("%d: %v", fig.fired(), fig))
			assert.True(t, slices.ContainsFunc(genuines, func(g kind) bool { return g.name == k.name }) || fig.fired() >= least, "%s: %s: sent too seldom", p.title, k.name)
		}
	}
	for _, p := range []*noticePhase{unknown, known} {
		slices.Sort(p.delays)
		tb.row(p.title+": forged notices", p.forged)
		tb.row(p.title+": of them a second", int(float64(p.forged)/p.elapsed.Seconds()))
		tb.row(p.title+": kept as a hint to look", p.kept)
		tb.row(p.title+": answered 5xx", p.broken)
		tb.row(p.title+": ANSWERED 200, OR PASSED ON, WRONGLY", p.wrong)
		tb.row(p.title+": look-ups of payments that the ledger knows", p.lookUps.Load())
		tb.row(p.title+": OTHER REQUESTS AT THE API", p.others.Load())
		tb.row(p.title+": genuine notices meanwhile", p.genuine)
		tb.row(p.title+": until the shop had heard, median", p.delays[len(p.delays)/2])
		tb.row(p.title+": until the shop had heard, greatest", p.delays[len(p.delays)-1])
		assert.Zero(t, p.broken, p.title)
		assert.Zero(t, p.wrong, p.title)
		assert.Len(t, p.delays, p.genuine, p.title)
	}
	for event, n := range f.tells {
		tb.row("told: "+event, n)
	}
	tb.row("told more than once", f.tells["paid"]+f.tells["cancelled"]-len(f.ids))
	tb.row("TOLD, AND NOT TRUE", len(f.untrue))
	tb.print(t)
	assert.Zero(t, unknown.others.Load(), "requests at the API about payments that the ledger does not know")
	assert.Empty(t, f.untrue)
}
