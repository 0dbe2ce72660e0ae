package acceptance

// This file holds the forgery run: thousands of confirm webhooks, most of them attacks,
// against a real gateway whose shop knows the true state of each order. The long form:
//
//	go test -run '^TestForgeryRun$' -v -timeout 60m ./internal/acceptance -long -seed 2

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
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
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func TestForgeryRun(t *testing.T) {
	t.Parallel()
	const workers = 8
	count, pool := 3_000, 16
	if *long {
		count, pool = 120_000, 200
	}
	f := newForgery(t, pool)
	before := f.g.Shop.Count()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			d := &drawer{forgery: f, rng: draw(uint64(w))}
			for i := w; i < count; i += workers {
				if d.rng.IntN(10) < 3 {
					f.fire(t, pick(d, genuines), d, true)
				} else {
					f.fire(t, attacks[i/workers%len(attacks)], d, false)
				}
			}
		})
	}
	wg.Wait()
	f.conclude(t, before)
}

// forgery is one run: the barcodes that were issued, and how the webhooks were answered.
type forgery struct {
	g                        *gatewaytest.Gateway
	lookup, only, quiet      string // base URLs: unsigned lookup, account second alone, unsigned reject without access log
	open, odd, twins         []*order
	second, secondTwins      []*order // of the account second; a twin has its namesake's number and amount
	void, paid, expired      []*order
	reissued, lent           []*order // voided and issued anew at another amount; victims of a claimed imp_uid
	foreign, secret, current signedurl.Keys
	previous, secondKeys     signedurl.Keys
	prefix                   string       // of the order numbers
	strayed                  atomic.Int64 // requests at the API at a path that nobody may choose

	mu         sync.Mutex
	truth      map[string]*order // by imp_uid
	figures    map[string]*figure
	complaints int
	asks       int // order checks that there must have been
	claims     int // of them about an imp_uid that is not the order's
	total      struct{ genuine, attacks, forged, refused, broken, unexpected int }
}

// How often each kind must be sent at least, in the short form and in the long form.
const (
	leastGenuine, leastGenuineLong = 50, 2_500
	leastAttack, leastAttackLong   = 10, 800
)

// figure counts how the webhooks of one kind were answered.
type figure struct{ answers map[int]int }

func (fig *figure) fired() (times int) {
	for _, n := range fig.answers {
		times += n
	}
	return times
}

func (fig *figure) String() string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(fig.answers)) {
		parts = append(parts, fmt.Sprintf("%d × %d", fig.answers[status], status))
	}
	return strings.Join(parts, ", ")
}

// order is a barcode with the true values of its order.
type order struct {
	gatewaytest.Issued
	signedQuery
	notice signedQuery
	closed bool   // void or paid
	total  string // what the order costs now
}

// signedQuery is the query of a signed URL.
type signedQuery struct{ amount, expires, account, id, sig string }

func parseSigned(t *testing.T, raw string) signedQuery {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	return signedQuery{q.Get("cvs_amount"), q.Get("cvs_expires"), q.Get("cvs_account"), q.Get("cvs_id"), q.Get("cvs_sig")}
}

func (q signedQuery) query() string {
	query := "cvs_amount=" + q.amount + "&cvs_expires=" + q.expires
	if q.account != "" {
		query += "&cvs_account=" + q.account
	}
	if q.id != "" {
		query += "&cvs_id=" + q.id
	}
	return query + "&cvs_sig=" + q.sig
}

// newForgery starts the gateway and issues the barcodes.
func newForgery(t *testing.T, pool int) *forgery {
	t.Helper()
	f := &forgery{
		lookup: "http://" + gatewaytest.Address(t), only: "http://" + gatewaytest.Address(t), quiet: "http://" + gatewaytest.Address(t),
		truth: make(map[string]*order), figures: make(map[string]*figure),
	}
	f.prepareKeys(t)
	inside := f.start(t)
	f.fill(t, inside, pool)
	for _, uid := range unfitNumbers {
		body, _ := json.Marshal(map[string]any{"merchant_uid": uid, "amount": 1000})
		require.Equal(t, 400, f.g.Do(t, http.MethodPost, f.g.Inside+"/cvs", gatewaytest.JSONType, string(body)).Status, "%q", uid)
	}
	return f
}

// prepareKeys makes the keys that sign, and those of forgers.
func (f *forgery) prepareKeys(t *testing.T) {
	t.Helper()
	for _, k := range []struct {
		keys   *signedurl.Keys
		secret string
	}{
		{&f.current, gatewaytest.Canaries["CVS_TEST_SIGNING_KEY"]},
		{&f.previous, gatewaytest.Canaries["CVS_TEST_PREVIOUS_KEY"]},
		{&f.secondKeys, gatewaytest.Canaries["CVS_TEST_SECOND_SECRET"]},
		{&f.secret, gatewaytest.Canaries["CVS_TEST_SECRET"]}, // not a key any more where there is a signing key
		{&f.foreign, "a key that nobody configured"},
	} {
		var err error
		*k.keys, err = signedurl.NewKeys(k.secret)
		require.NoError(t, err)
	}
}

// fill issues the barcodes of both accounts. The second one's cvs_proxy is at inside.
func (f *forgery) fill(t *testing.T, inside string, pool int) {
	t.Helper()
	for n := range pool {
		uid := f.prefix + strconv.Itoa(n)
		f.open = append(f.open, f.issue(t, f.g.Inside, "open-"+uid, 10_000+n, "open"))
		f.second = append(f.second, f.issue(t, inside, "second-"+uid, 20_000+n, "open"))
		f.twins = append(f.twins, f.issue(t, f.g.Inside, "twin-"+uid, 15_000, "open"))
		f.secondTwins = append(f.secondTwins, f.issue(t, inside, "twin-"+uid, 15_000, "open"))
	}
	for n := range 8 {
		uid := f.prefix + strconv.Itoa(n)
		for list, state := range map[*[]*order]string{&f.void: "void", &f.paid: "paid", &f.expired: "expired", &f.lent: "lent", &f.reissued: "reissued"} {
			*list = append(*list, f.issue(t, f.g.Inside, state+"-"+uid, 30_000+n, state))
		}
	}
	if f.prefix != "" { // they are issued already
		f.odd = f.open
		return
	}
	for n, uid := range oddNumbers {
		f.odd = append(f.odd, f.issue(t, f.g.Inside, uid, 40_000+n, "open"))
	}
}

// apiRequests matches every request that the gateway may send to the API in this run.
var apiRequests = regexp.MustCompile(`^(POST /users/getToken|POST /cvs|DELETE /cvs/imp_\d+|GET /payments/[^/?#]+\?include_sandbox=true)$`)

// start starts the gateway and returns the base URL of the second account's cvs_proxy.
func (f *forgery) start(t *testing.T) (inside string) {
	t.Helper()
	inside = "http://" + gatewaytest.Address(t)
	api := emulator.New(emulator.Options{BeforeRequest: gatewaytest.NoteTokens(nil)})
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !apiRequests.MatchString(r.Method + " " + r.RequestURI) {
			f.strayed.Add(1)
		}
		api.ServeHTTP(w, r)
	})
	// Long timeouts, so that a busy machine does not turn an answer into a 504.
	check := `
		timeout 10s
		order_check SHOP/orders/{http.cvs.merchant_uid}/payable {
			timeout 9s
			require payable true
			amount total
		}`
	site := func(base, log, options string) string {
		return base + " {\n" + log + "\ncvs_confirm /cvs/confirm {\n" + options + check + "\n}\nrespond \"next handler\" 418\n}\n"
	}
	const logged = "log {\noutput file LOGS.access\n}"
	urls := "pg galaxia\nconfirm_url OUTSIDE/cvs/confirm\nnotice_url SHOP/notice\nexpires_in 72h"
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{
		Account: `signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}
		account sibling {
			imp_key {env.CVS_TEST_SECOND_KEY}
			imp_secret {env.CVS_TEST_SECOND_SECRET}
			api API
			signing_key {env.CVS_TEST_SIGNING_KEY} # the same: the name alone tells the two apart
		}`,
		Second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		Proxy:  urls, Confirm: "unsigned reject" + check,
		Sites: inside + " {\ncvs_proxy {\naccount second\n" + urls + "\n}\n}\n" +
			site(f.lookup, logged, "unsigned lookup") + site(f.only, logged, "account second\nunsigned reject") +
			// Caddy itself would log the URL of a request that does not reach cvs_confirm.
			site(f.quiet, "", "unsigned reject"),
		API: counted, Payable: f.payable,
	})
	g.API, f.g = api, g
	gatewaytest.Run(t, config)
	return inside
}

func (f *forgery) issue(t *testing.T, inside, uid string, amount int, state string) *order {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"merchant_uid": uid, "amount": amount})
	a := f.g.Do(t, http.MethodPost, inside+"/cvs", gatewaytest.JSONType, string(body))
	require.Equal(t, 200, a.Status, "%q: %s", uid, a.Body)
	p := a.Payment(t)
	o := &order{total: strconv.Itoa(amount)}
	o.Issued = gatewaytest.Issued{ImpUID: p["imp_uid"].(string), MerchantUID: uid, Barcode: p["vbank_num"].(string)}
	confirm, notices := f.g.API.WebhookURLs(o.ImpUID)
	o.signedQuery, o.notice = parseSigned(t, confirm), parseSigned(t, notices[0])
	require.Equal(t, strconv.Itoa(amount), o.amount)
	f.mu.Lock()
	f.truth[o.ImpUID] = o
	f.mu.Unlock()
	switch state {
	case "expired": // as if it had been issued long ago
		o.expires = strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
		o.signedQuery, o.notice = o.signedBy(f.current, signedurl.Confirm), o.signedBy(f.current, signedurl.Notice)
	case "void":
		require.Equal(t, 200, f.g.Do(t, http.MethodDelete, inside+"/cvs/"+o.ImpUID, "", "").Status)
	case "reissued": // for less; its first URL is still signed
		require.Equal(t, 200, f.g.Do(t, http.MethodDelete, inside+"/cvs/"+o.ImpUID, "", "").Status)
		again := f.issue(t, inside, uid, amount/2, "open")
		f.mu.Lock()
		o.total = again.total
		f.mu.Unlock()
	case "paid":
		result, err := f.g.API.Scan(t.Context(), emulator.ScanRequest{Barcode: o.Barcode})
		require.NoError(t, err)
		require.True(t, result.Accepted)
	}
	f.mu.Lock()
	o.closed = state == "void" || state == "paid"
	f.mu.Unlock()
	return o
}

// payable is the shop's order check. It knows the state of each order, but does not check what
// the gateway must enforce: deadlines and amounts.
func (f *forgery) payable(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.truth[r.Header.Get("X-Cvs-Imp-Uid")]
	switch {
	case o == nil || o.MerchantUID != r.Header.Get("X-Cvs-Merchant-Uid"):
		w.WriteHeader(http.StatusNotFound)
	case o.closed:
		fmt.Fprintf(w, `{"payable":false,"total":%s,"reason":"not open any more"}`, o.total)
	default:
		fmt.Fprintf(w, `{"payable":true,"total":%s}`, o.total)
	}
}

// fire sends one webhook and counts how it is answered.
func (f *forgery) fire(t *testing.T, k kind, d *drawer, genuine bool) {
	s := k.shoot(d)
	if s.want == 0 {
		s.want = k.want
	}
	a, sent := f.send(t, s)
	if !sent {
		return
	}
	accepted := a.Status == 200 || strings.Contains(a.Body, `"accepted":true`)

	f.mu.Lock()
	defer f.mu.Unlock()
	fig := f.figures[k.name]
	if fig == nil {
		fig = &figure{make(map[int]int)}
		f.figures[k.name] = fig
	}
	fig.answers[a.Status]++
	count := func(counter *int, yes bool) {
		if yes {
			*counter++
		}
	}
	count(&f.total.genuine, genuine)
	count(&f.total.attacks, !genuine)
	count(&f.total.refused, genuine && !accepted)
	count(&f.total.forged, !genuine && accepted)
	count(&f.total.broken, a.Status >= 500)
	count(&f.total.unexpected, a.Status != s.want || accepted != strings.Contains(a.Body, `"accepted":true`))
	count(&f.asks, genuine || k.asked)
	count(&f.claims, k.claims)
	if (a.Status != s.want || accepted != genuine) && f.complaints < 20 {
		f.complaints++
		t.Errorf("%s: %d, want %d: %s\n%s %s%s?%s\n%q %.300q", k.name, a.Status, s.want, a.Body, s.method, s.base, s.path, s.query, s.header, s.body)
	}
}

// send sends a webhook as it is.
func (f *forgery) send(t *testing.T, s shot) (a gatewaytest.Answer, sent bool) {
	r, err := http.NewRequestWithContext(context.Background(), s.method, s.base+s.path, strings.NewReader(s.body))
	if err != nil {
		t.Error(err)
		return a, false
	}
	r.URL.RawQuery = s.query
	if r.Header = s.header.Clone(); r.Header == nil {
		r.Header = make(http.Header)
	}
	if s.contentType != "" {
		r.Header["Content-Type"] = append([]string{s.contentType}, r.Header["Content-Type"]...)
	}
	if s.trailer != nil { // needs a chunked body
		r.Trailer, r.ContentLength = s.trailer, -1
		r.Body, r.GetBody = io.NopCloser(strings.NewReader(s.body)), nil
	}
	return f.g.Send(t, r), true
}

// conclude compares the order checks with the true values, and prints the table.
func (f *forgery) conclude(t *testing.T, before int) {
	t.Helper()
	outside, untrue, claims := 0, 0, 0
	for i, r := range f.g.Shop.Requests[before:] {
		outside += f.count(t, !inTemplate(r), "outside the template", r)
		if uid := r.Header.Get("X-Cvs-Merchant-Uid"); strings.HasPrefix(uid, "lent-") {
			claims++
			continue
		}
		untrue += f.count(t, !f.isTrue(r, f.g.Shop.Bodies[before+i]), "not the truth", r)
	}
	asked := f.g.Shop.Count() - before
	tb := &table{title: "forgery run"}
	genuine, attack := leastGenuine, leastAttack
	if *long {
		genuine, attack = leastGenuineLong, leastAttackLong
	}
	f.countFired(t, tb, genuines, genuine)
	f.countFired(t, tb, attacks, attack)
	tb.row("webhooks", f.total.genuine+f.total.attacks)
	tb.row("genuine ones", f.total.genuine)
	tb.row("attacks", f.total.attacks)
	tb.row("forged accepted", f.total.forged)
	tb.row("genuine refused", f.total.refused)
	tb.row("answered otherwise than documented", f.total.unexpected)
	tb.row("answered 5xx", f.total.broken)
	tb.row("order checks", asked)
	tb.row("order checks that should not have been asked, or were not", asked-f.asks)
	tb.row("order checks at a path outside the template", outside)
	tb.row("order checks that saw anything but the truth", untrue)
	tb.row("requests at the API that a webhook chose", f.strayed.Load())
	tb.print(t)

	assert.Zero(t, f.total.forged, "forged accepted")
	assert.Zero(t, f.total.refused, "genuine refused")
	assert.Zero(t, f.total.unexpected, "answered otherwise than documented")
	assert.Zero(t, f.total.broken, "answered 5xx")
	assert.Equal(t, f.asks, asked, "order checks")
	assert.Equal(t, f.claims, claims, "order checks about a claimed imp_uid")
	assert.Zero(t, outside, "outside the template")
	assert.Zero(t, untrue, "untrue")
	assert.Zero(t, f.strayed.Load(), "strayed at the API")
}

// countFired prints how often each kind was sent, and fails if that was too seldom.
func (f *forgery) countFired(t *testing.T, tb *table, kinds []kind, least int) {
	t.Helper()
	for _, k := range kinds {
		fig := f.figures[k.name]
		if fig == nil {
			fig = new(figure)
		}
		tb.row(k.name, fmt.Sprintf("%d (least %d): %v", fig.fired(), least, fig))
		assert.GreaterOrEqual(t, fig.fired(), least, "%s: fired too seldom", k.name)
	}
}

func (f *forgery) count(t *testing.T, bad bool, what string, r *http.Request) int {
	t.Helper()
	if !bad {
		return 0
	}
	if f.complaints < 20 {
		f.complaints++
		t.Errorf("order check %s: %s %s %q", what, r.Method, r.RequestURI, r.Header)
	}
	return 1
}

var payablePath = regexp.MustCompile(`^/orders/([^/?#;]+)/payable$`)

// inTemplate reports whether the path of an order check is /orders/{number}/payable with the
// number of its order in one segment.
func inTemplate(r *http.Request) bool {
	match := payablePath.FindStringSubmatch(r.RequestURI)
	if r.Method != http.MethodPost || match == nil {
		return false
	}
	segment, err := url.PathUnescape(match[1])
	return err == nil && segment == r.Header.Get("X-Cvs-Merchant-Uid")
}

// checkFields are all header fields that an order check may have here.
var checkFields = []string{
	"Accept-Encoding", "Content-Length", "Content-Type", "User-Agent",
	"X-Cvs-Amount", "X-Cvs-Expires", "X-Cvs-Imp-Uid", "X-Cvs-Merchant-Uid", "X-Cvs-Timeout-Ms",
}

// isTrue reports whether an order check had only true values, and whether other parsers read
// the same values in the body.
func (f *forgery) isTrue(r *http.Request, body string) bool {
	o := f.truth[r.Header.Get("X-Cvs-Imp-Uid")]
	if o == nil || r.Header.Get("X-Cvs-Merchant-Uid") != o.MerchantUID || r.Header.Get("X-Cvs-Amount") != o.amount || len(r.Trailer) > 0 {
		return false
	}
	// After a look-up the deadline is not known.
	if expires := r.Header.Get("X-Cvs-Expires"); expires != "" && expires != o.expires {
		return false
	}
	for name, values := range r.Header {
		if len(values) != 1 || !slices.Contains(checkFields, name) {
			return false
		}
	}
	var doc struct {
		ImpUID      string `json:"imp_uid"`
		MerchantUID string `json:"merchant_uid"`
		Event       string `json:"event"`
		Status      string `json:"status"`
	}
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), gatewaytest.FormType) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return false
		}
		doc.ImpUID, doc.MerchantUID, doc.Event, doc.Status = form.Get("imp_uid"), form.Get("merchant_uid"), form.Get("event"), form.Get("status")
	} else if json.Unmarshal([]byte(body), &doc) != nil {
		return false
	}
	return doc.ImpUID == o.ImpUID && doc.MerchantUID == o.MerchantUID && doc.Event == "Galaxia.Cvs.Confirm" && doc.Status == "ready"
}
