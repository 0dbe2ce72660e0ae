package acceptance

// This file holds what the forgery run makes its webhooks from: orders, genuine webhooks
// and the ways to alter them.

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// drawer draws the webhooks of one goroutine.
type drawer struct {
	*forgery
	rng    *rand.Rand
	notice bool   // draws notices, not confirm webhooks
	status string // that the notices name; "" for any
}

func pick[T any](d *drawer, list []T) T { return list[d.rng.IntN(len(list))] }

func (d *drawer) among(list ...string) string { return pick(d, list) }

// two returns two different orders.
func (d *drawer) two(list []*order) (*order, *order) {
	i := d.rng.IntN(len(list))
	return list[i], list[(i+1+d.rng.IntN(len(list)-1))%len(list)]
}

// twin returns an order, and the order of the other account with the same number.
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

	// For notices.
	confirmOnly bool // altered so, a notice is as good as before
	vouched     bool // its signature is genuine, whatever it says: the payment is looked at
	misplaced   bool // it is a signed confirm webhook, which may not go to the next handler either
}

// shot is one webhook.
type shot struct {
	method, base, path, query, contentType, body string
	header, trailer                              http.Header
	want                                         int // instead of the kind's
}

// webhook returns the genuine webhook of an order. It goes to a site that looks up unsigned
// webhooks, or to one that does not: the answer must be the same.
func (d *drawer) webhook(o *order) shot {
	if d.notice {
		return shot{
			method: http.MethodPost, base: d.g.Outside, path: "/cvs/notice", query: o.notice.query(),
			contentType: gatewaytest.JSONType, body: d.body(o.Issued),
		}
	}
	return shot{
		method: http.MethodPost, base: d.among(d.g.Outside, d.lookup), path: "/cvs/confirm", query: o.query(),
		contentType: gatewaytest.JSONType, body: o.Webhook(),
	}
}

// signed returns the query of the URL of an order's webhook, unsuited the one of the other purpose.
func (d *drawer) signed(o *order) signedQuery {
	if d.notice {
		return o.notice
	}
	return o.signedQuery
}

func (d *drawer) unsuited(o *order) signedQuery {
	if d.notice {
		return o.signedQuery
	}
	return o.notice
}

func (d *drawer) purpose() signedurl.Purpose {
	if d.notice {
		return signedurl.Notice
	}
	return signedurl.Confirm
}

// body returns the webhook's body of a barcode.
func (d *drawer) body(i gatewaytest.Issued) string {
	if !d.notice {
		return i.Webhook()
	}
	body, _ := json.Marshal(struct {
		ImpUID      string `json:"imp_uid"`
		MerchantUID string `json:"merchant_uid"`
		Status      string `json:"status"`
	}{i.ImpUID, i.MerchantUID, cmp.Or(d.status, d.among("paid", "paid", "cancelled"))})
	return string(body)
}

// at returns a path for confirm webhooks, or the corresponding one for notices.
func (d *drawer) at(path string) string {
	if d.notice {
		path = strings.NewReplacer("confirm", "notice", "Confirm", "Notice", "notice", "confirm").Replace(path)
	}
	return path
}

// altered alters a body. A notice is altered until it is another one, and in what it has: the members
// of a confirm webhook mean nothing in it.
func (d *drawer) altered(body string, alter func() string) string {
	for {
		text := alter()
		lower := strings.ToLower(text)
		if !d.notice || text != body && !strings.Contains(lower, "extra") && !strings.Contains(lower, "paytype") {
			return text
		}
	}
}

func (d *drawer) any() shot { return d.webhook(pick(d, d.open)) }

// unsigned returns the webhook of an order without its query.
func (d *drawer) unsigned(base string, o *order) shot {
	s := d.webhook(o)
	s.base, s.query = base, ""
	return s
}

// signedBy returns an order's query, signed with these keys for this purpose.
func (o *order) signedBy(keys signedurl.Keys, purpose signedurl.Purpose) signedQuery {
	q := o.signedQuery
	base, _ := signedurl.ParseBase("http://a.example")
	expires, _ := strconv.ParseInt(q.expires, 10, 64)
	signed, _ := base.Sign(keys, purpose, o.MerchantUID, signedurl.Claims{Account: q.account, Amount: q.amount, Expires: expires, ID: q.id})
	_, q.sig, _ = strings.Cut(signed, "cvs_sig=")
	return q
}

// withSig makes genuine webhooks and alters their signature.
func withSig(alter func(d *drawer, sig string) string) func(*drawer) shot {
	return withSigned(func(d *drawer, o *order, q *signedQuery) { q.sig = alter(d, q.sig) })
}

// withSigned makes genuine webhooks and alters the values of their query.
func withSigned(alter func(d *drawer, o *order, q *signedQuery)) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		q := d.signed(o)
		alter(d, o, &q)
		s := d.webhook(o)
		s.query = q.query()
		return s
	}
}

// withPairs makes genuine webhooks and alters the text of their query so that it still counts
// as signed.
func withPairs(alter func(d *drawer, query string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		s := d.any()
		s.query = alter(d, s.query)
		return s
	}
}

// withText makes genuine webhooks and alters the text of their query so that it may not count
// as signed. They go to the site that refuses unsigned webhooks.
func withText(alter func(d *drawer, query string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		s := d.any()
		s.base, s.query = d.g.Outside, alter(d, s.query)
		return s
	}
}

// withBody makes genuine webhooks and alters their JSON.
func withBody(alter func(d *drawer, o *order, doc string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		body := s.body
		s.body = d.altered(body, func() string { return alter(d, o, body) })
		return s
	}
}

// withForm makes genuine webhooks and alters their form.
func withForm(alter func(d *drawer, o *order, form string) string) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		body := d.form(o)
		s.contentType, s.body = gatewaytest.FormType, d.altered(body, func() string { return alter(d, o, body) })
		return s
	}
}

// withNumber makes genuine webhooks and changes the order's number in their body.
func withNumber(number func(d *drawer, o *order) string) func(*drawer) shot {
	return func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		lie := o.Issued
		if lie.MerchantUID = number(d, o); lie.MerchantUID == o.MerchantUID {
			lie.MerchantUID += "x"
		}
		s.body = d.body(lie)
		return s
	}
}

func (d *drawer) form(o *order) string {
	if d.notice {
		return url.Values{"imp_uid": {o.ImpUID}, "merchant_uid": {o.MerchantUID}, "status": {cmp.Or(d.status, "paid")}}.Encode()
	}
	return url.Values{
		"event": {"Galaxia.Cvs.Confirm"}, "imp_uid": {o.ImpUID}, "merchant_uid": {o.MerchantUID}, "status": {"ready"},
		"extra[barcode]": {o.Barcode}, "extra[payType]": {"cash"},
	}.Encode()
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// flip replaces one character of a signature by another.
func flip(d *drawer, sig string) string {
	i := d.rng.IntN(len(sig))
	at := strings.IndexByte(base64url, sig[i])
	return sig[:i] + string(base64url[(at+1+d.rng.IntN(63))%64]) + sig[i+1:]
}

// respell writes the bytes of a signature in another encoding, or nearly the same bytes.
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

func last(doc, member string) string { return doc[:len(doc)-1] + "," + member + "}" }

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
		return "merchant_uid", strconv.Quote(pick(d, d.second).MerchantUID)
	case 1:
		return "imp_uid", strconv.Quote(pick(d, d.void).ImpUID)
	case 2:
		return "status", `"paid"`
	default:
		return "event", `"Galaxia.Cvs.Paid"`
	}
}

// recase changes the case of a name, so that some parsers take it for the same name.
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

// smuggled returns header fields that would change an order check if they reached it.
func (d *drawer) smuggled() http.Header {
	other := pick(d, d.second)
	h := make(http.Header)
	for _, name := range []string{"X-Cvs-", "x-cvs-", "X_Cvs_", "X-CVS-"} {
		for field, value := range map[string]string{
			"Amount": "1", "Imp-Uid": other.ImpUID, "Merchant-Uid": url.QueryEscape(other.MerchantUID), "Expires": "4000000000",
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

// oddNumbers are order numbers that cvs_proxy accepts. Without escaping they would change the
// request of an order check.
var oddNumbers = []string{
	"주문/7 &?#%", "%2e%2e%2fadmin", "%2E%2E", "..%2f..%2fadmin", "%252e%252e", "...", "..a", ".a", "a..", "a/b", "/a/b", "a//b", "a/", `a\b`,
	"//evil.example/x", "http://evil.example/", "@evil.example", ":80", "u:p@h", "?payable=true", "#payable", "a?b#c", "a&b=c", "a;b", "..;", "..;/admin",
	"a%00b", "%0d%0aX-Cvs-Amount: 1", "a%2Fpayable", "x/payable?", "․․/admin", "．．／admin", "‥/admin", "∕admin", "⁄admin", "＼admin", "？a", "＃a", "％2e",
	"{http.cvs.amount}", "{env.CVS_TEST_SECRET}", "{http.request.uri}", "{", "}", "${x}", "$1", "$(x)", "`x`", "'\"<script>", "*", "!$&'()*+,;=:@", "-", "_", "~",
	"\u00e9", "e\u0301", "a\u200bb", "\u202egro.live", "a\u2028b", "\ufeffa", "a\u00a0b", "💳", "İ", "ı", "\u212a", "ﬀ", "nul", "CON", "0", "00", "1e3", "NaN", "null", "true",
	"Order-A", "order-a", "ORDER-A", "order-a \u200b", strings.Repeat("가", 40), strings.Repeat("/", 40), strings.Repeat("%", 40),
}

// unfitNumbers are order numbers that cvs_proxy refuses.
var unfitNumbers = []string{
	"", " ", "..", ".", "./a", "a/..", "a/.", "../../admin", "a/../../admin", `..\admin`, `a\..\b`, "a/..//b", "/..", "//..//",
	"a\r\nX-Cvs-Amount: 1", "a\nb", "a\x00b", "\x7f", "a\u0085b", "\t", " a", "a ", strings.Repeat("a", 41),
}

// leavers are order numbers that a webhook may have, but that would leave their segment of a
// path.
var leavers = []string{"..", ".", "./a", "a/..", "a/.", "../../admin", "a/../../admin", `..\admin`, `a\..\b`, "a/..//b", "/..", "//..//"}
