package caddycvs

// This file holds the forgery run: confirm webhooks by the thousand, most of
// them attacks, against a real gateway whose shop knows the truth. The long form:
//
//	go test -run '^TestForgeryRun$' -timeout 30m . -long -seed 2

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

func TestForgeryRun(t *testing.T) {
	t.Parallel()
	const workers = 8
	count, pool := 3_000, 16
	if *long {
		count, pool = 120_000, 200
	}
	f := newForgery(t, pool)
	before := f.g.shop.asked()
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

// forgery is one run: what was issued, and what became of the webhooks.
type forgery struct {
	g                        *gateway
	lookup, only, quiet      string // base URLs: unsigned lookup, account second alone, unsigned reject without access log
	open, odd, twins         []*order
	second, secondTwins      []*order // of the account second; a twin has its namesake's number and amount
	void, paid, expired      []*order
	reissued, lent           []*order // voided and issued anew at another amount; victims of a claimed imp_uid
	foreign, secret, current signedurl.Keys
	previous, secondKeys     signedurl.Keys
	strayed                  atomic.Int64 // requests at the API at a path that nobody may choose

	mu         sync.Mutex
	truth      map[string]*order // by imp_uid
	figures    map[string]*figure
	complaints int
	asks       int // order checks that there must have been
	claims     int // of them about an imp_uid that is not the order's
	total      struct{ genuine, attacks, forged, refused, broken, unexpected int }
}

// How often each kind must be fired at least, in the short form and in the long one.
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

// order is a barcode, with what is true of it.
type order struct {
	issued
	ticket
	notice ticket
	closed bool   // void or paid
	total  string // what the order costs now
}

// ticket is the query of a signed URL.
type ticket struct{ amount, expires, account, sig string }

func parseTicket(t *testing.T, raw string) ticket {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	q := u.Query()
	return ticket{q.Get("cvs_amount"), q.Get("cvs_expires"), q.Get("cvs_account"), q.Get("cvs_sig")}
}

func (tk ticket) query() string {
	q := "cvs_amount=" + tk.amount + "&cvs_expires=" + tk.expires
	if tk.account != "" {
		q += "&cvs_account=" + tk.account
	}
	return q + "&cvs_sig=" + tk.sig
}

// newForgery starts the gateway and issues the barcodes.
func newForgery(t *testing.T, pool int) *forgery {
	t.Helper()
	f := &forgery{
		lookup: "http://" + address(t), only: "http://" + address(t), quiet: "http://" + address(t),
		truth: make(map[string]*order), figures: make(map[string]*figure),
	}
	for _, k := range []struct {
		keys   *signedurl.Keys
		secret string
	}{
		{&f.current, canaries["CVS_TEST_SIGNING_KEY"]},
		{&f.previous, canaries["CVS_TEST_PREVIOUS_KEY"]},
		{&f.secondKeys, canaries["CVS_TEST_SECOND_SECRET"]},
		{&f.secret, canaries["CVS_TEST_SECRET"]}, // not a key any more where there is a signing key
		{&f.foreign, "a key that nobody configured"},
	} {
		var err error
		*k.keys, err = signedurl.NewKeys(k.secret)
		require.NoError(t, err)
	}
	inside := f.start(t)
	for n := range pool {
		uid := strconv.Itoa(n)
		f.open = append(f.open, f.issue(t, f.g.inside, "open-"+uid, 10_000+n, "open"))
		f.second = append(f.second, f.issue(t, inside, "second-"+uid, 20_000+n, "open"))
		f.twins = append(f.twins, f.issue(t, f.g.inside, "twin-"+uid, 15_000, "open"))
		f.secondTwins = append(f.secondTwins, f.issue(t, inside, "twin-"+uid, 15_000, "open"))
	}
	for n := range 8 {
		uid := strconv.Itoa(n)
		for list, state := range map[*[]*order]string{&f.void: "void", &f.paid: "paid", &f.expired: "expired", &f.lent: "lent", &f.reissued: "reissued"} {
			*list = append(*list, f.issue(t, f.g.inside, state+"-"+uid, 30_000+n, state))
		}
	}
	for n, uid := range oddNumbers {
		f.odd = append(f.odd, f.issue(t, f.g.inside, uid, 40_000+n, "open"))
	}
	for _, uid := range unfitNumbers {
		body, _ := json.Marshal(map[string]any{"merchant_uid": uid, "amount": 1000})
		require.Equal(t, 400, f.g.do(t, http.MethodPost, f.g.inside+"/cvs", jsonType, string(body)).status, "%q", uid)
	}
	return f
}

// apiRequests are all that the run gives occasion for.
var apiRequests = regexp.MustCompile(`^(POST /users/getToken|POST /cvs|DELETE /cvs/imp_\d+|GET /payments/[^/?#]+\?include_sandbox=true)$`)

// start starts the gateway and returns the base URL of the second account's cvs_proxy.
func (f *forgery) start(t *testing.T) (inside string) {
	t.Helper()
	inside = "http://" + address(t)
	api := emulator.New(emulator.Options{BeforeRequest: noteTokens(nil)})
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !apiRequests.MatchString(r.Method + " " + r.RequestURI) {
			f.strayed.Add(1)
		}
		api.ServeHTTP(w, r)
	})
	// Time enough, so that a busy machine does not turn an answer into a 504.
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
	g, config := prepare(t, setup{
		account: `signing_key {env.CVS_TEST_SIGNING_KEY} {env.CVS_TEST_PREVIOUS_KEY}
		account sibling {
			imp_key {env.CVS_TEST_SECOND_KEY}
			imp_secret {env.CVS_TEST_SECOND_SECRET}
			api API
			signing_key {env.CVS_TEST_SIGNING_KEY} # the same: the name alone tells the two apart
		}`,
		second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API",
		proxy:  urls, confirm: "unsigned reject" + check,
		sites: inside + " {\ncvs_proxy {\naccount second\n" + urls + "\n}\n}\n" +
			site(f.lookup, logged, "unsigned lookup") + site(f.only, logged, "account second\nunsigned reject") +
			// What does not reach cvs_confirm is Caddy's to log.
			site(f.quiet, "", "unsigned reject"),
		api: counted, payable: f.payable,
	})
	g.api, f.g = api, g
	runCaddy(t, config)
	return inside
}

func (f *forgery) issue(t *testing.T, inside, uid string, amount int, state string) *order {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"merchant_uid": uid, "amount": amount})
	a := f.g.do(t, http.MethodPost, inside+"/cvs", jsonType, string(body))
	require.Equal(t, 200, a.status, "%q: %s", uid, a.body)
	p := a.payment(t)
	o := &order{total: strconv.Itoa(amount)}
	o.issued = issued{impUID: p["imp_uid"].(string), merchantUID: uid, barcode: p["vbank_num"].(string)}
	confirm, notices := f.g.api.WebhookURLs(o.impUID)
	o.ticket, o.notice = parseTicket(t, confirm), parseTicket(t, notices[0])
	require.Equal(t, strconv.Itoa(amount), o.amount)
	f.mu.Lock()
	f.truth[o.impUID] = o
	f.mu.Unlock()
	switch state {
	case "expired": // as if it had been issued long ago
		o.expires = strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
		o.ticket = o.signedBy(f.current, signedurl.Confirm)
	case "void":
		require.Equal(t, 200, f.g.do(t, http.MethodDelete, inside+"/cvs/"+o.impUID, "", "").status)
	case "reissued": // for less; its first URL is still signed
		require.Equal(t, 200, f.g.do(t, http.MethodDelete, inside+"/cvs/"+o.impUID, "", "").status)
		again := f.issue(t, inside, uid, amount/2, "open")
		f.mu.Lock()
		o.total = again.total
		f.mu.Unlock()
	case "paid":
		result, err := f.g.api.Scan(t.Context(), emulator.ScanRequest{Barcode: o.barcode})
		require.NoError(t, err)
		require.True(t, result.Accepted)
	}
	f.mu.Lock()
	o.closed = state == "void" || state == "paid"
	f.mu.Unlock()
	return o
}

// payable is the shop's order check. It knows each order's state, but leaves to
// the gateway what is the gateway's: deadlines and amounts.
func (f *forgery) payable(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.truth[r.Header.Get("X-Cvs-Imp-Uid")]
	switch {
	case o == nil || o.merchantUID != r.Header.Get("X-Cvs-Merchant-Uid"):
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
	r, err := http.NewRequestWithContext(context.Background(), s.method, s.base+s.path, strings.NewReader(s.body))
	if err != nil {
		t.Errorf("%s: %v", k.name, err)
		return
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
	a := f.g.send(t, r)
	accepted := a.status == 200 || strings.Contains(a.body, `"accepted":true`)

	f.mu.Lock()
	defer f.mu.Unlock()
	fig := f.figures[k.name]
	if fig == nil {
		fig = &figure{make(map[int]int)}
		f.figures[k.name] = fig
	}
	fig.answers[a.status]++
	count := func(counter *int, yes bool) {
		if yes {
			*counter++
		}
	}
	count(&f.total.genuine, genuine)
	count(&f.total.attacks, !genuine)
	count(&f.total.refused, genuine && !accepted)
	count(&f.total.forged, !genuine && accepted)
	count(&f.total.broken, a.status >= 500)
	count(&f.total.unexpected, a.status != s.want || accepted != strings.Contains(a.body, `"accepted":true`))
	count(&f.asks, genuine || k.asked)
	count(&f.claims, k.claims)
	if (a.status != s.want || accepted != genuine) && f.complaints < 20 {
		f.complaints++
		t.Errorf("%s: %d, want %d: %s\n%s %s%s?%s\n%q %.300q", k.name, a.status, s.want, a.body, s.method, s.base, s.path, s.query, r.Header, s.body)
	}
}

// conclude compares what the shop was asked with the truth, and prints the table.
func (f *forgery) conclude(t *testing.T, before int) {
	t.Helper()
	outside, untrue, claims := 0, 0, 0
	for i, r := range f.g.shop.seen[before:] {
		outside += f.count(t, !inTemplate(r), "outside the template", r)
		if uid := r.Header.Get("X-Cvs-Merchant-Uid"); strings.HasPrefix(uid, "lent-") {
			claims++
			continue
		}
		untrue += f.count(t, !f.isTrue(r, f.g.shop.bodies[before+i]), "not the truth", r)
	}
	asked := f.g.shop.asked() - before
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

// countFired prints how often each kind was fired, and whether that was enough.
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

// inTemplate reports whether an order check is at /orders/{one segment}/payable, of the very order.
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

// isTrue reports whether an order check was told nothing but the truth, and
// whether other parsers find the same in the body.
func (f *forgery) isTrue(r *http.Request, body string) bool {
	o := f.truth[r.Header.Get("X-Cvs-Imp-Uid")]
	if o == nil || r.Header.Get("X-Cvs-Merchant-Uid") != o.merchantUID || r.Header.Get("X-Cvs-Amount") != o.amount || len(r.Trailer) > 0 {
		return false
	}
	// A look-up tells no deadline.
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
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), formType) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return false
		}
		doc.ImpUID, doc.MerchantUID, doc.Event, doc.Status = form.Get("imp_uid"), form.Get("merchant_uid"), form.Get("event"), form.Get("status")
	} else if json.Unmarshal([]byte(body), &doc) != nil {
		return false
	}
	return doc.ImpUID == o.impUID && doc.MerchantUID == o.merchantUID && doc.Event == "Galaxia.Cvs.Confirm" && doc.Status == "ready"
}

// drawer draws one goroutine's webhooks.
type drawer struct {
	*forgery
	rng *rand.Rand
}

func pick[T any](d *drawer, list []T) T { return list[d.rng.IntN(len(list))] }

func (d *drawer) among(list ...string) string { return pick(d, list) }

// two returns two different ones.
func (d *drawer) two(list []*order) (*order, *order) {
	i := d.rng.IntN(len(list))
	return list[i], list[(i+1+d.rng.IntN(len(list)-1))%len(list)]
}

// twin returns an order, and its namesake at the other account.
func (d *drawer) twin() (*order, *order) {
	i := d.rng.IntN(len(d.twins))
	return d.twins[i], d.secondTwins[i]
}

// kind is one kind of webhook.
type kind struct {
	name   string
	want   int  // how it must be answered
	asked  bool // whether the shop has the last word
	claims bool // whether it claims an imp_uid that is not the order's
	shoot  func(*drawer) shot
}

// shot is one webhook.
type shot struct {
	method, base, path, query, contentType, body string
	header, trailer                              http.Header
	want                                         int // instead of the kind's
}

// webhook returns the genuine webhook of an order, at a gateway that must not
// care whether it looks up unsigned ones.
func (d *drawer) webhook(o *order) shot {
	return shot{
		method: http.MethodPost, base: d.among(d.g.outside, d.lookup), path: "/cvs/confirm", query: o.query(),
		contentType: jsonType, body: o.webhook(),
	}
}

func (d *drawer) any() shot { return d.webhook(pick(d, d.open)) }

// unsigned returns the webhook of an order without its query.
func (d *drawer) unsigned(base string, o *order) shot {
	s := d.webhook(o)
	s.base, s.query = base, ""
	return s
}

// signedBy returns an order's ticket as these keys sign it for this purpose.
func (o *order) signedBy(keys signedurl.Keys, purpose signedurl.Purpose) ticket {
	tk := o.ticket
	base, _ := signedurl.ParseBase("http://a.example")
	expires, _ := strconv.ParseInt(tk.expires, 10, 64)
	signed, _ := base.Sign(keys, purpose, o.merchantUID, signedurl.Ticket{Account: tk.account, Amount: tk.amount, Expires: expires})
	_, tk.sig, _ = strings.Cut(signed, "cvs_sig=")
	return tk
}

// withSig makes a kind's generator of one that alters the signature.
func withSig(alter func(d *drawer, sig string) string) func(*drawer) shot {
	return withTicket(func(d *drawer, o *order, tk *ticket) { tk.sig = alter(d, tk.sig) })
}

// withTicket makes a kind's generator of one that alters the query.
func withTicket(alter func(d *drawer, o *order, tk *ticket)) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		tk := o.ticket
		alter(d, o, &tk)
		s := d.webhook(o)
		s.query = tk.query()
		return s
	}
}

// withPairs makes a kind's generator of one that alters the query's text. What it
// makes still counts as signed.
func withPairs(alter func(d *drawer, query string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		s := d.any()
		s.query = alter(d, s.query)
		return s
	}
}

// withText makes a kind's generator of one that alters the query's text. What
// it makes may not count as signed, where that is refused.
func withText(alter func(d *drawer, query string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		s := d.any()
		s.base, s.query = d.g.outside, alter(d, s.query)
		return s
	}
}

// withBody makes a kind's generator of one that alters the JSON.
func withBody(alter func(d *drawer, o *order, doc string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		s.body = alter(d, o, s.body)
		return s
	}
}

// withForm makes a kind's generator of one that alters the form.
func withForm(alter func(d *drawer, o *order, form string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		s.contentType, s.body = formType, alter(d, o, form(o))
		return s
	}
}

// withNumber makes a kind's generator of one that names another order.
func withNumber(number func(d *drawer, o *order) string) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		lie := o.issued
		if lie.merchantUID = number(d, o); lie.merchantUID == o.merchantUID {
			lie.merchantUID += "x"
		}
		s.body = lie.webhook()
		return s
	}
}

func form(o *order) string {
	return url.Values{
		"event": {"Galaxia.Cvs.Confirm"}, "imp_uid": {o.impUID}, "merchant_uid": {o.merchantUID}, "status": {"ready"},
		"extra[barcode]": {o.barcode}, "extra[payType]": {"cash"},
	}.Encode()
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// flip replaces one character of a signature by another.
func flip(d *drawer, sig string) string {
	i := d.rng.IntN(len(sig))
	at := strings.IndexByte(base64url, sig[i])
	return sig[:i] + string(base64url[(at+1+d.rng.IntN(63))%64]) + sig[i+1:]
}

// respell writes a signature's bytes, or nearly so, in another way.
func respell(d *drawer, sig string) string {
	i := d.rng.IntN(len(sig))
	last := strings.IndexByte(base64url, sig[len(sig)-1])
	raw := fmt.Sprintf("%%%02X", sig[i])
	swapped := strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r ^ 0x20
		}
		return r
	}, sig)
	switch n := d.rng.IntN(8); {
	case n == 0 && strings.ContainsAny(sig, "-_"):
		return strings.NewReplacer("-", "%2B", "_", "%2F").Replace(sig)
	case n == 1 && strings.ContainsAny(sig, "-_"):
		return strings.NewReplacer("-", "+", "_", "/").Replace(sig)
	case n == 2:
		return sig[:i] + raw + sig[i+1:]
	case n == 3:
		return sig[:i] + strings.ToLower(strings.ReplaceAll(raw, "%", "%25")) + sig[i+1:]
	case n == 4:
		return hex.EncodeToString([]byte(sig))
	case n == 5:
		return sig[:len(sig)-1] + string(base64url[last|1+d.rng.IntN(15)]) // the last character's spare bits
	case n == 6:
		return swapped
	default:
		return d.among("%20", "+", "%0A", "%00") + sig
	}
}

// first and last put a member into a JSON object.
func first(doc, member string) string { return "{" + member + "," + doc[1:] }
func last(doc, member string) string  { return doc[:len(doc)-1] + "," + member + "}" }

func (d *drawer) either(doc, member string) string {
	if d.rng.IntN(2) == 0 {
		return first(doc, member)
	}
	return last(doc, member)
}

// member returns a known member with a value that would matter.
func (d *drawer) member() (name, value string) {
	switch d.rng.IntN(4) {
	case 0:
		return "merchant_uid", strconv.Quote(pick(d, d.second).merchantUID)
	case 1:
		return "imp_uid", strconv.Quote(pick(d, d.void).impUID)
	case 2:
		return "status", `"paid"`
	default:
		return "event", `"Galaxia.Cvs.Paid"`
	}
}

// recase spells a name so that some readers take it for the same.
func recase(d *drawer, name string) string {
	switch d.rng.IntN(4) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return strings.ToUpper(name[:1]) + name[1:]
	case 2:
		if long := strings.Replace(name, "s", "ſ", 1); long != name { // U+017F folds to s
			return long
		}
	}
	i := d.rng.IntN(len(name))
	return name[:i] + strings.ToUpper(name[i:i+1]) + strings.ToUpper(name[i+1:])
}

// escapes writes every character as an escape.
func escapes(text string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		fmt.Fprintf(&b, `\u%04x`, unit)
	}
	return b.String()
}

// in16 encodes a text as UTF-16.
func in16(text string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// smuggled are header fields that would matter if they got through.
func (d *drawer) smuggled() http.Header {
	other := pick(d, d.second)
	h := make(http.Header)
	for _, name := range []string{"X-Cvs-", "x-cvs-", "X_Cvs_", "X-CVS-"} {
		for field, value := range map[string]string{
			"Amount": "1", "Imp-Uid": other.impUID, "Merchant-Uid": url.QueryEscape(other.merchantUID), "Expires": "4000000000",
			"Timeout-Ms": "1", "Account": "second", "Verdict": "accepted",
		} {
			if d.rng.IntN(2) == 0 {
				h[name+field] = []string{value} // as it is spelled
			}
		}
	}
	for name, value := range map[string]string{
		"X-Forwarded-For": "52.78.100.19", "X-Forwarded-Host": "evil.example", "X-Original-Url": "/admin", "X-Rewrite-Url": "/admin",
		"X-Http-Method-Override": "GET", "Authorization": "Basic eDp5", "Cookie": "admin=1", "Connection": "X-Cvs-Amount", "Te": "trailers",
		"Via": "1.1 evil.example", "Forwarded": "for=52.78.100.19", "X-Internal-Key": "guess", "Accept-Encoding": "identity",
	} {
		if d.rng.IntN(3) == 0 {
			h[name] = []string{value}
		}
	}
	return h
}

// oddNumbers are order numbers that cvs_proxy issues barcodes for, and that
// would mislead an order check which is asked carelessly.
var oddNumbers = []string{
	"주문/7 &?#%", "%2e%2e%2fadmin", "%2E%2E", "..%2f..%2fadmin", "%252e%252e", "...", "..a", ".a", "a..", "a/b", "/a/b", "a//b", "a/", `a\b`,
	"//evil.example/x", "http://evil.example/", "@evil.example", ":80", "u:p@h", "?payable=true", "#payable", "a?b#c", "a&b=c", "a;b", "..;", "..;/admin",
	"a%00b", "%0d%0aX-Cvs-Amount: 1", "a%2Fpayable", "x/payable?", "․․/admin", "．．／admin", "‥/admin", "∕admin", "⁄admin", "＼admin", "？a", "＃a", "％2e",
	"{http.cvs.amount}", "{env.CVS_TEST_SECRET}", "{http.request.uri}", "{", "}", "${x}", "$1", "$(x)", "`x`", "'\"<script>", "*", "!$&'()*+,;=:@", "-", "_", "~",
	"\u00e9", "e\u0301", "a\u200bb", "\u202egro.live", "a\u2028b", "\ufeffa", "a\u00a0b", "💳", "İ", "ı", "\u212a", "ﬀ", "nul", "CON", "0", "00", "1e3", "NaN", "null", "true",
	"Order-A", "order-a", "ORDER-A", "order-a \u200b", strings.Repeat("가", 40), strings.Repeat("/", 40), strings.Repeat("%", 40),
}

// unfitNumbers are those that it does not.
var unfitNumbers = []string{
	"", " ", "..", ".", "./a", "a/..", "a/.", "../../admin", "a/../../admin", `..\admin`, `a\..\b`, "a/..//b", "/..", "//..//",
	"a\r\nX-Cvs-Amount: 1", "a\nb", "a\x00b", "\x7f", "a\u0085b", "\t", " a", "a ", strings.Repeat("a", 41),
}

// leavers are those of them that a webhook may name, and no path may hold.
var leavers = []string{"..", ".", "./a", "a/..", "a/.", "../../admin", "a/../../admin", `..\admin`, `a\..\b`, "a/..//b", "/..", "//..//"}

// genuines must be accepted, and the shop asked about the truth.
var genuines = []kind{
	{name: "genuine", want: 200, shoot: (*drawer).any},
	{name: "genuine, of the second account", want: 200, shoot: func(d *drawer) shot {
		_, twin := d.twin()
		s := d.webhook(pick(d, []*order{twin, pick(d, d.second)}))
		s.base = d.among(d.g.outside, d.lookup, d.only)
		return s
	}},
	{name: "genuine, with an odd order number", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.odd)
		s := d.webhook(o)
		if d.rng.IntN(3) == 0 {
			s.contentType, s.body = formType, form(o)
		}
		return s
	}},
	{name: "genuine, as a form", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		s.contentType = formType + d.among("", "; charset=UTF-8", ";charset=\"utf-8\"")
		s.body = d.among("", "&", "&&") + strings.NewReplacer("merchant_uid", d.among("merchant_uid", "%6derchant%5Fuid"), "-", "%2D").Replace(form(o)) + d.among("", "&", "&x=1&y[]=1&y[]=2")
		return s
	}},
	{name: "genuine, spelled otherwise", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, slices.Concat(d.odd[:8], d.open))
		s := d.webhook(o)
		s.contentType = d.among(jsonType, "application/json;charset=UTF-8", "Application/JSON; charset=\"utf-8\"")
		s.body = fmt.Sprintf("%s{\"x\":%s, \"%s\" : \"%s\",\t\"imp_uid\":\"%s\",\"event\":\"Galaxia\\u002eCvs.Confirm\",\"status\":\"ready\"%s}%s",
			d.among("", " ", "\r\n\t"), d.among("1e308", "-0", "[[[[{}]]]]", `{"merchant_uid":"a","Merchant_UID_":1}`, `"\ud83d\ude00"`, "null"),
			d.among("merchant_uid", escapes("merchant_uid")), escapes(o.merchantUID), o.impUID,
			d.among("", `,"extra":null`, `,"extra":{}`, `,"extra":{"payType":"cash","barcode":1e5}`), d.among("", "\n", "  "))
		return s
	}},
	{name: "genuine, at a path that is nearly right", want: 200, shoot: func(d *drawer) shot {
		s := d.any()
		s.path = d.among("/cvs/confirm/", "//cvs/confirm", "/cvs//confirm/", "/CVS/Confirm", "/Cvs/confirm/", "/cvs%2Fconfirm%2F")
		return s
	}},
	{name: "genuine, with an amount or a new kind of payment", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		if d.rng.IntN(2) == 0 {
			s.body = d.either(s.body, `"amount":`+d.among(o.amount, o.amount+".0", `"`+o.amount+`"`, "null", `""`))
		} else {
			s.body = strings.Replace(s.body, `"card"`, d.among(`"coin"`, `"CARD"`, `"card "`, `"card,cash"`, "1", `["card"]`, "null"), 1)
		}
		return s
	}},
	{name: "genuine, with smuggled X-Cvs fields", want: 200, shoot: func(d *drawer) shot {
		s := d.any()
		s.header = d.smuggled()
		return s
	}},
	{name: "genuine, with smuggled trailers", want: 200, shoot: func(d *drawer) shot {
		s := d.any()
		s.trailer = http.Header{"X-Cvs-Amount": {"1"}, "X-Cvs-Merchant-Uid": {"other"}}
		return s
	}},
	{name: "genuine, with others' parameters", want: 200, shoot: func(d *drawer) shot {
		s := d.any()
		s.query = d.among("", "utm=1&") + s.query + d.among("&", "&utm=1", "&CVS_AMOUNT=1", "&Cvs_sig=x", "&amount=1;2", "&%zz", "&merchant_uid=other", "&xcvs_amount=1")
		return s
	}},
	{name: "genuine, signed with the previous key", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		s.query = o.signedBy(d.previous, signedurl.Confirm).query()
		return s
	}},
	{name: "genuine, unsigned and looked up", want: 200, shoot: func(d *drawer) shot {
		s := d.unsigned(d.lookup, pick(d, slices.Concat(d.odd, d.open)))
		s.query = d.among("", "", "utm=1")
		return s
	}},
}

// attacks must be answered with what the README says, and none with "acceptable".
var attacks = []kind{
	// Signatures.
	{name: "no signature", want: 403, shoot: func(d *drawer) shot { return d.unsigned(d.among(d.g.outside, d.only), pick(d, d.open)) }},
	{name: "no signature, the rest there", want: 403, shoot: withPairs(func(d *drawer, q string) string {
		return d.among(q[:strings.Index(q, "&cvs_sig")], q[strings.Index(q, "cvs_sig"):], q[:strings.Index(q, "&")], "cvs_sig", "cvs_sig=", "cvs_", "cvs_=1", strings.Replace(q, "cvs_sig=", "cvs_sig", 1))
	})},
	{name: "signature empty", want: 403, shoot: withSig(func(*drawer, string) string { return "" })},
	{name: "signature altered", want: 403, shoot: withSig(flip)},
	{name: "signature drawn at random", want: 403, shoot: withSig(func(d *drawer, sig string) string {
		return strings.Map(func(rune) rune { return rune(base64url[d.rng.IntN(64)]) }, sig[:21]) + string(base64url[16*d.rng.IntN(4)])
	})},
	{name: "signature truncated", want: 403, shoot: withSig(func(d *drawer, sig string) string { return sig[:1+d.rng.IntN(len(sig)-1)] })},
	{name: "signature extended", want: 403, shoot: withSig(func(d *drawer, sig string) string {
		return sig + d.among("A", "AA", "AAA", "=", "==", "%3D%3D", "%00", "%0a", "%20", "+", ",", sig, "."+sig)
	})},
	{name: "signature encoded otherwise", want: 403, shoot: withSig(respell)},
	{name: "names encoded otherwise", want: 403, shoot: withText(func(d *drawer, q string) string {
		name := d.among("cvs_amount", "cvs_expires", "cvs_sig")
		return strings.Replace(q, name+"=", d.among("%63"+name[1:], "cvs%5f"+name[4:], "cvs%5F"+name[4:], "%2563"+name[1:], "+"+name, "%20"+name, "%00"+name, name+"%00", name+"[]", strings.ToUpper(name), "Cvs_"+name[4:])+"=", 1)
	})},
	{name: "separators and places others read", want: 403, shoot: withText(func(d *drawer, q string) string {
		return d.among(strings.ReplaceAll(q, "&", ";"), "x;"+strings.ReplaceAll(q, "&", ";"), "x="+url.QueryEscape("&"+q), strings.ReplaceAll(q, "&", "%26"), strings.ReplaceAll(q, "=", "%3D"), "?"+q, "/"+q)
	})},
	{name: "parameters repeated", want: 403, shoot: withPairs(func(d *drawer, q string) string {
		pair := pick(d, strings.Split(q, "&"))
		name, _, _ := strings.Cut(pair, "=")
		extra := d.among(pair, name+"=", name, name+"=1")
		return d.among(q+"&"+extra, extra+"&"+q, q+"&"+q)
	})},
	{name: "parameters that nobody signed", want: 403, shoot: withPairs(func(d *drawer, q string) string {
		return q + d.among("&cvs_merchant_uid=x", "&cvs_purpose=confirm", "&cvs_", "&cvs_account=", "&cvs_version=1", "&cvs_Sig=x", "&cvs%5Fx=1")
	})},
	{name: "another order's signature", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.twins) // of the same amount
		tk := o.ticket
		tk.sig = other.ticket.sig
		s := d.webhook(o)
		s.query = tk.query()
		return s
	}},
	{name: "another order's URL, replayed", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.open)
		s := d.webhook(o)
		s.query = pick(d, []*order{other, pick(d, d.void), pick(d, d.paid), pick(d, d.expired), pick(d, d.second)}).query()
		return s
	}},
	{name: "another account's signature", want: 403, shoot: func(d *drawer) shot {
		o, twin := d.twin()
		tk := twin.ticket
		switch d.rng.IntN(3) {
		case 0:
			tk.account = "" // the second's for the unnamed one
		case 1:
			tk, o = o.ticket, twin
			tk.account = "second"
		default:
			tk = o.signedBy(d.secondKeys, signedurl.Confirm)
		}
		s := d.webhook(o)
		s.query = tk.query()
		return s
	}},
	{name: "account swapped", want: 403, shoot: withTicket(func(d *drawer, _ *order, tk *ticket) {
		tk.account = d.among("sibling", "sibling", "second", "third", "Second", "default", "%00", "second%20", "..", strings.Repeat("a", 65))
	})},
	{name: "account that does not exist, signed", want: 403, shoot: withTicket(func(d *drawer, o *order, tk *ticket) {
		o2 := *o
		o2.ticket.account = "third"
		*tk = o2.signedBy(pick(d, []signedurl.Keys{d.current, d.foreign}), signedurl.Confirm)
	})},
	{name: "the unnamed account's, where only the second's is answered", want: 403, shoot: func(d *drawer) shot {
		o, _ := d.twin()
		s := d.webhook(o)
		s.base = d.only
		return s
	}},
	{name: "another key's signature", want: 403, shoot: withTicket(func(d *drawer, o *order, tk *ticket) {
		*tk = o.signedBy(pick(d, []signedurl.Keys{d.foreign, d.secret, d.secondKeys}), signedurl.Confirm)
	})},
	{name: "the notice's signature", want: 403, shoot: withTicket(func(_ *drawer, o *order, tk *ticket) { *tk = o.notice })},
	{name: "another purpose's signature", want: 403, shoot: withTicket(func(d *drawer, o *order, tk *ticket) {
		*tk = o.signedBy(d.current, signedurl.Purpose(d.among("notice", "", "Confirm", "confirm ", "void")))
	})},
	{name: "amount swapped", want: 403, shoot: withTicket(func(d *drawer, o *order, tk *ticket) {
		tk.amount = d.among("1", o.amount+"0", o.amount[1:], pick(d, d.second).amount, "0", "-1", "")
	})},
	{name: "amount spelled otherwise", want: 403, shoot: withTicket(func(d *drawer, o *order, tk *ticket) {
		tk.amount = d.among(o.amount+".0", o.amount+".", "0"+o.amount, "%2B"+o.amount, "+"+o.amount, o.amount+"e0", o.amount+"%20", "%31"+o.amount[1:], o.amount+"%00", o.amount+",00", "１"+o.amount[1:])
	})},
	{name: "expiry swapped", want: 403, shoot: withTicket(func(d *drawer, o *order, tk *ticket) {
		tk.expires = d.among("4000000000", o.expires+"0", "0", "", "-1", "1", "%2B"+o.expires, "0"+o.expires, o.expires+".0", "99999999999999999999", "9223372036854775807", "-9223372036854775808", "4e9")
	})},
	{name: "an expired barcode's expiry swapped", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.expired)
		tk := o.ticket
		tk.expires = d.among("4000000000", "", "0", strconv.FormatInt(time.Now().Unix()+60, 10), pick(d, d.open).expires)
		s := d.webhook(o)
		s.query = tk.query()
		return s
	}},
	{name: "at another path", want: 404, shoot: func(d *drawer) shot {
		s := d.any()
		s.base, s.path = d.among(d.g.outside, d.lookup, d.quiet), d.among("/", "/cvs", "/cvs/confirm/x", "/cvs/confirmed", "/x/cvs/confirm", "/cvs/confirm;x", "/cvs/confirm%00", "/cvs/notice")
		return s
	}},

	// Order numbers.
	{name: "merchant_uid swapped", want: 403, shoot: withNumber(func(d *drawer, o *order) string {
		return pick(d, []*order{pick(d, d.open), pick(d, d.second), pick(d, d.odd), pick(d, d.void), pick(d, d.paid)}).merchantUID
	})},
	{name: "merchant_uid resembling the true one", want: 403, shoot: withNumber(func(d *drawer, o *order) string {
		uid := o.merchantUID
		return d.among(strings.ToUpper(uid), "\ufeff"+uid, uid+"\u200b", strings.ReplaceAll(uid, "-", "\u2010"), strings.ReplaceAll(uid, "o", "\u03bf"),
			strings.ReplaceAll(uid, "-", "%2d"), uid+"/", "/"+uid, uid+"%00", uid+"?", uid+"#", uid+";", uid[:len(uid)-1], uid+"0", strings.ReplaceAll(uid, "o", "\uff4f"), uid+"\u0301")
	})},
	{name: "merchant_uid aimed at the order check's URL", want: 403, shoot: withNumber(func(d *drawer, _ *order) string {
		return pick(d, slices.Concat(leavers, oddNumbers))
	})},
	{name: "the same, unsigned and looked up", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.issued
		lie.merchantUID = pick(d, slices.Concat(leavers, oddNumbers))
		s.body = lie.webhook()
		return s
	}},
	{name: "order number that leaves its place, rightly signed", want: 409, shoot: func(d *drawer) shot {
		// No cvs_proxy issues one; whoever shares its key might.
		o := *pick(d, d.open)
		o.merchantUID = pick(d, leavers)
		o.ticket = o.signedBy(d.current, signedurl.Confirm)
		return d.webhook(&o)
	}},
	{name: "order number with control characters or outer spaces, rightly signed", want: 400, shoot: func(d *drawer) shot {
		o := *pick(d, d.open)
		o.merchantUID = d.among("a\r\nX-Cvs-Amount: 1", "a\nb", "a\rb", "a\x00b", "\x7fa", "a\u0085b", "a\tb", "a\x1b[2J", " ", "\u00a0", o.merchantUID+" ", " "+o.merchantUID, o.merchantUID+"\u00a0", strings.Repeat("a", 41))
		o.ticket = o.signedBy(d.current, signedurl.Confirm)
		s := d.webhook(&o)
		if d.rng.IntN(3) == 0 {
			s.contentType, s.body = formType, form(&o)
		}
		return s
	}},
	{name: "control characters or outer spaces in imp_uid", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return strings.Replace(doc, o.impUID, o.impUID+d.among(`\r\nX-Cvs-Amount: 1`, `\u0000`, `\n`, `\u007f`, `\u0085`, " ", `\u2003`, strings.Repeat("1", 65)), 1)
	})},
	{name: "imp_uid claimed, which no signature covers", want: 409, asked: true, claims: true, shoot: func(d *drawer) shot {
		o := pick(d, d.lent)
		s := d.webhook(o)
		lie := o.issued
		lie.impUID = d.among("imp_0", pick(d, d.open).impUID, pick(d, d.second).impUID, strings.ToUpper(o.impUID), o.impUID+"0", "../"+o.impUID, "가")
		s.body = lie.webhook()
		return s
	}},

	// Look-ups.
	{name: "unsigned, of another order", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.issued
		lie.merchantUID = other.merchantUID
		s.body = lie.webhook()
		return s
	}},
	{name: "unsigned, of another account", want: 403, shoot: func(d *drawer) shot {
		_, twin := d.twin()
		return d.unsigned(d.lookup, pick(d, []*order{twin, pick(d, d.second)}))
	}},
	{name: "unsigned, of no payment", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.issued
		lie.impUID = d.among("imp_0", "imp_", "imp_"+strconv.Itoa(d.rng.Int()), o.merchantUID, strings.ToUpper(o.impUID), o.impUID+"?x=1", o.impUID+"#", o.impUID+"/", "/"+o.impUID)
		s.body = lie.webhook()
		return s
	}},
	{name: "unsigned, imp_uid aimed at the API's URL", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.issued
		lie.impUID = d.among("..", ".", "../users/getToken", "a/../"+o.impUID, `..\`+o.impUID, "find/"+o.merchantUID, "status/ready", "%2e%2e", "%2e%2e/cvs", o.impUID+"?include_sandbox=false", "find%2F"+o.merchantUID, "//evil.example/", "..;/x")
		s.body = lie.webhook()
		return s
	}},
	{name: "unsigned, of a void barcode", want: 409, shoot: func(d *drawer) shot { return d.unsigned(d.lookup, pick(d, d.void)) }},
	{name: "unsigned, of a paid barcode", want: 409, shoot: func(d *drawer) shot { return d.unsigned(d.lookup, pick(d, d.paid)) }},

	// Barcodes that may not be paid.
	{name: "a void barcode's", want: 409, asked: true, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.void)) }},
	{name: "a paid barcode's", want: 409, asked: true, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.paid)) }},
	{name: "an expired barcode's", want: 410, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.expired)) }},
	{name: "an older barcode's, at another amount", want: 409, asked: true, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.reissued)) }},

	// JSON.
	{name: "JSON, member repeated", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		name, value := d.member()
		return d.either(doc, strconv.Quote(name)+":"+value)
	})},
	{name: "JSON, member repeated with the true value", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.either(doc, d.among(`"status":"ready"`, `"event":"Galaxia.Cvs.Confirm"`, `"merchant_uid":"`+o.merchantUID+`"`, `"extra":{}`))
	})},
	{name: "JSON, member repeated in another case", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		name, value := d.member()
		return d.either(doc, strconv.Quote(recase(d, name))+":"+value)
	})},
	{name: "JSON, member in another case alone", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		name, _ := d.member()
		name = d.among(name, "extra") // which may be left out
		return strings.Replace(doc, name, recase(d, name), 1)
	})},
	{name: "JSON, member repeated by escapes", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		name, value := d.member()
		i := d.rng.IntN(len(name))
		return d.either(doc, `"`+d.among(escapes(name), name[:i]+escapes(name[i:]), name[:i]+fmt.Sprintf(`\u%04X`, name[i])+name[i+1:])+`":`+value)
	})},
	{name: "JSON, member repeated further in", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.among(first(doc, `"x":{"a":1,"a":2}`), last(doc, `"x":[{"a":1,"A":2}]`), strings.Replace(doc, `"payType":"card"`, `"payType":"card","payType":"coin"`, 1),
			strings.Replace(doc, `"payType":"card"`, `"payType":"card","PayType":"coin"`, 1), strings.Replace(doc, `"payType"`, `"PAYTYPE"`, 1), strings.Replace(doc, `"barcode"`, `"Barcode"`, 1))
	})},
	{name: "JSON, bytes around it", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.among(doc+"{}", doc+"x", doc+"\x00", doc+",", doc+"]", doc+"}", doc+doc, doc+"\n"+doc, "\x00"+doc, "x"+doc, ")]}',\n"+doc, "["+doc+"]", "\x1e"+doc, doc+"\u00a0", "\u00a0"+doc, doc+"\v", doc+"&merchant_uid=x")
	})},
	{name: "JSON, with a byte order mark", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.among("\ufeff"+doc, doc+"\ufeff", "\ufeff\ufeff"+doc, "\xfe\xff"+doc, "\xff\xfe"+doc)
	})},
	{name: "JSON in UTF-16 or UTF-32", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.among(in16(doc, binary.LittleEndian), in16(doc, binary.BigEndian), in16("\ufeff"+doc, binary.LittleEndian), in16("\ufeff"+doc, binary.BigEndian),
			strings.ReplaceAll(in16(doc, binary.BigEndian), "\x00", "\x00\x00\x00"))
	})},
	{name: "JSON, invalid UTF-8", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		bad := d.among("\xff", "\x80", "\xc0\xaf", "\xc0\x80", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xf0\x9f\x92")
		return d.among(strings.Replace(doc, o.merchantUID, o.merchantUID+bad, 1), strings.Replace(doc, o.impUID, bad+o.impUID, 1), first(doc, `"`+bad+`":1`), last(doc, `"x":"`+bad+`"`), doc+bad)
	})},
	{name: "JSON, half a surrogate pair", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		bad := d.among(`\ud800`, `\udc00`, `\ud800\ud800`, `\ud83d\u0041`, `\uDFFF\uD800`)
		return d.among(strings.Replace(doc, o.merchantUID, o.merchantUID+bad, 1), first(doc, `"`+bad+`":1`), last(doc, `"x":"`+bad+`"`))
	})},
	{name: "JSON, numbers that are none", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.either(doc, `"x":`+d.among("NaN", "Infinity", "-Infinity", "nan", "0x10", "01", "-01", "+1", ".5", "1.", "1e", "1e+", "--1", "1_000", "0b1", "undefined", "1,0.", "１"))
	})},
	{name: "JSON, numbers out of range", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.either(doc, `"x":`+d.among("1e999", "-1e999", "[1e400]", "1e-999", "1"+strings.Repeat("0", 400), strings.Repeat("9", 10_000), `{"a":-1e99999999999}`, "0."+strings.Repeat("0", 400)+"1"))
	})},
	{name: "JSON, nested deeply", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		n := 32 + d.rng.IntN(3)*d.rng.IntN(4_000)
		return d.either(doc, `"x":`+d.among(strings.Repeat("[", n)+strings.Repeat("]", n), strings.Repeat(`{"a":`, n)+"1"+strings.Repeat("}", n), strings.Repeat("[", n), strings.Repeat("[{\"a\":", n)))
	})},
	{name: "JSON, comments and other dialects", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.among("/**/"+doc, doc+"//", first(doc, "/*\"a\":1*/\"b\":1"), strings.ReplaceAll(doc, `"`, "'"), doc[:len(doc)-1]+",}", strings.Replace(doc, `"status"`, "status", 1),
			strings.Replace(doc, ":", "=", 1), strings.Replace(doc, ",", ";", 1), strings.Replace(doc, ",", ",,", 1), strings.Replace(doc, ",", "", 1), "#\n"+doc,
			strings.Replace(doc, "ready", `rea\dy`, 1), strings.Replace(doc, "ready", `\x72eady`, 1), strings.Replace(doc, o.impUID, o.impUID+"\n", 1), strings.Replace(doc, o.impUID, o.impUID+"\x00", 1))
	})},
	{name: "JSON, not an object", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.among("", " ", "null", "true", "1", `"x"`, "[]", "{}", "{", "["+doc+"]", strconv.Quote(doc), doc[:1+d.rng.IntN(len(doc)-1)])
	})},
	{name: "JSON, members of another type", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		value := d.among("1", "null", "true", `["`+o.merchantUID+`"]`, `{"a":1}`, `""`, `" "`, "[]")
		member := d.among(`"imp_uid":"`+o.impUID+`"`, `"merchant_uid":"`+o.merchantUID+`"`, `"status":"ready"`, `"event":"Galaxia.Cvs.Confirm"`)
		name, _, _ := strings.Cut(member, ":")
		return d.among(strings.Replace(doc, member, name+":"+value, 1), strings.Replace(doc, member, `"x":1`, 1), strings.Replace(doc, `{"barcode":"`+o.barcode+`","payType":"card"}`, d.among(`"x"`, "[]", "1", "true"), 1))
	})},
	{name: "JSON, another event or status", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.among(strings.Replace(doc, "ready", d.among("paid", "Ready", "READY", "ready ", " ready", "cancelled", `ready\u0000`, "r\u0435ady"), 1),
			strings.Replace(doc, "Galaxia.Cvs.Confirm", d.among("Galaxia.Cvs.Paid", "galaxia.cvs.confirm", "Galaxia.Cvs.Confirm ", "Galaxia.Cvs.ConfirmX", "*"), 1))
	})},
	{name: "an amount in the body that is not the signed one", want: 403, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.either(doc, `"amount":`+d.among("1", "0", "-"+o.amount, o.amount+"0", o.amount+".5", `"`+o.amount+`1"`, "1e300"))
	})},
	{name: "an amount in the body that is none", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.either(doc, `"amount":`+d.among(`"15,000"`, "true", "[1]", `{"total":1}`, `"`+o.amount+` "`, `"0x10"`))
	})},

	// Forms.
	{name: "form, name repeated", want: 400, shoot: withForm(func(d *drawer, o *order, form string) string {
		name, value := d.member()
		pair := name + "=" + url.QueryEscape(strings.Trim(value, `"`))
		return d.among(form+"&"+pair, pair+"&"+form, form+"&"+form, form+"&"+name+"=", form+"&status=ready", form+"&%6Derchant_uid="+o.merchantUID, form+"&extra[payType]=coin")
	})},
	{name: "form, name repeated in another case", want: 400, shoot: withForm(func(d *drawer, _ *order, form string) string {
		name, value := d.member()
		pair := url.QueryEscape(recase(d, name)) + "=" + url.QueryEscape(strings.Trim(value, `"`))
		return d.among(form+"&"+pair, pair+"&"+form, form+"&extra[PayType]=coin", form+"&Extra[payType]=coin", form+"&EXTRA=x", strings.ReplaceAll(form, "extra", "eXtra"))
	})},
	{name: "form, brackets", want: 400, shoot: withForm(func(d *drawer, _ *order, form string) string {
		name, value := d.member()
		value = url.QueryEscape(strings.Trim(value, `"`))
		return form + "&" + d.among(name+"[]="+value, name+"%5B%5D="+value, name+"[0]="+value, name+"[x]="+value, name+"[="+value, name+"]="+value, name+"[][]="+value, name+"[a]b="+value, "[]="+value, "["+name+"]="+value,
			"extra[payType][]=coin", "extra[payType][x]=coin", "extra[]=1", "extra=x", "extra[payType=1", "extra[[payType]]=coin")
	})},
	{name: "form, names that PHP takes for others", want: 400, shoot: withForm(func(d *drawer, _ *order, form string) string {
		return form + "&" + d.among("merchant.uid", "merchant+uid", "merchant%20uid", "+merchant_uid", "%20imp_uid", "imp.uid", "merchant_uid%00", "imp_uid%00x", "+status", "%09status") + "=x"
	})},
	{name: "form, other separators and escapes", want: 400, shoot: withForm(func(d *drawer, o *order, form string) string {
		return d.among(strings.ReplaceAll(form, "&", ";"), form+";merchant_uid=x", form+"&a=b;c", form+"&x", form+"&merchant_uid", form+"&=1", form+"&a=%zz", form+"&a=%", form+"&%u0061=1", form+"&a=%u0061",
			form+"&a=%ff", form+"&%c0%af=1", form+"&a=\xff", strings.Replace(form, "merchant_uid="+o.merchantUID, "merchant_uid="+o.merchantUID+"%ff", 1), strings.ReplaceAll(form, "&", "%26"), strings.ReplaceAll(form, "=", ":"))
	})},
	{name: "form where JSON is said, and the other way round", want: 400, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		if d.rng.IntN(2) == 0 {
			s.contentType = formType
		} else {
			s.body = form(o)
		}
		return s
	}},

	// Messages.
	{name: "another media type", want: 415, shoot: func(d *drawer) shot {
		s := d.any()
		s.contentType = d.among("", "text/plain", "text/json", "text/html", "application/xml", "application/jsonp", "application/json-patch+json", "application/problem+json", "multipart/form-data; boundary=x", "multipart/mixed",
			"application/json, text/plain", "application/json,application/json", "application", "/json", "*/*", "application/*", "application /json", "application/json; a", "application/json; a=1; a=2", "application/x-www-form-urlencoded, application/json")
		return s
	}},
	{name: "another character set", want: 415, shoot: func(d *drawer) shot {
		s := d.any()
		s.contentType = d.among(jsonType, formType) + d.among("; charset=utf-16", "; charset=utf-7", "; charset=euc-kr", "; charset=iso-8859-1", "; charset=", "; charset=\"utf-16le\"", "; charset=utf-8; charset=utf-16", "; charset=utf-8,utf-16", "; CHARSET=UTF-32", "; charset*=utf-8''utf-16")
		if d.rng.IntN(2) == 0 {
			s.body = in16("\ufeff"+s.body, binary.LittleEndian)
		}
		return s
	}},
	{name: "two media types, the first another one", want: 415, shoot: func(d *drawer) shot {
		s := d.any()
		s.contentType, s.header = "text/plain", http.Header{"Content-Type": {jsonType}}
		return s
	}},
	{name: "with a content encoding", want: 415, shoot: func(d *drawer) shot {
		s := d.any()
		s.header = http.Header{"Content-Encoding": {d.among("gzip", "deflate", "br", "identity", "zstd", "aws-chunked", "x")}}
		return s
	}},
	{name: "another method", want: 405, shoot: func(d *drawer) shot {
		s := d.any()
		s.method = d.among("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "Post", "CONFIRM", "PROPFIND", "POSTX", "QUERY")
		s.header = http.Header{"X-Http-Method-Override": {"POST"}, "X-Method-Override": {"POST"}}
		if d.rng.IntN(3) == 0 {
			s.query += "&_method=POST"
		}
		return s
	}},
	{name: "larger than 64 KiB", want: 413, shoot: func(d *drawer) shot {
		s := d.any()
		s.body += strings.Repeat(" ", 64<<10-len(s.body)+1+d.rng.IntN(100))
		if d.rng.IntN(2) == 0 {
			s.trailer = http.Header{"X-Cvs-Amount": {"1"}} // of unknown length
		}
		return s
	}},
	{name: "forged, with smuggled X-Cvs fields", want: 403, shoot: func(d *drawer) shot {
		s := withSig(flip)(d)
		if s.header = d.smuggled(); d.rng.IntN(2) == 0 {
			s.base, s.query = d.g.outside, ""
		}
		return s
	}},
}
