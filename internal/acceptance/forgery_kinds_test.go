package acceptance

// This file holds the kinds of webhooks of the forgery run: the genuine ones and the
// attacks, with the answer that each must get.

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// genuines must be accepted, after an order check with true values.
var genuines = []kind{
	{name: "genuine", want: 200, shoot: (*drawer).any},
	{name: "genuine, of the second account", want: 200, shoot: func(d *drawer) shot {
		_, twin := d.twin()
		s := d.webhook(pick(d, []*order{twin, pick(d, d.second)}))
		s.base = d.among(d.g.Outside, d.lookup, d.only)
		return s
	}},
	{name: "genuine, with an odd order number", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.odd)
		s := d.webhook(o)
		if d.rng.IntN(3) == 0 {
			s.contentType, s.body = gatewaytest.FormType, d.form(o)
		}
		return s
	}},
	{name: "genuine, signed by an old version, without an id", want: 200, shoot: func(d *drawer) shot {
		o := *pick(d, d.open)
		o.id = ""
		s := d.webhook(&o)
		s.query = o.signedBy(d.current, d.purpose()).query()
		return s
	}},
	{name: "genuine, as a form", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		s.contentType = gatewaytest.FormType + d.among("", "; charset=UTF-8", ";charset=\"utf-8\"")
		s.body = d.among("", "&", "&&") + strings.NewReplacer("merchant_uid", d.among("merchant_uid", "%6derchant%5Fuid"), "-", "%2D").Replace(d.form(o)) + d.among("", "&", "&x=1&y[]=1&y[]=2")
		return s
	}},
	{name: "genuine, spelled otherwise", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, slices.Concat(d.odd[:8], d.open))
		s := d.webhook(o)
		s.contentType = d.among(gatewaytest.JSONType, "application/json;charset=UTF-8", "Application/JSON; charset=\"utf-8\"")
		event := `"event":"Galaxia\u002eCvs.Confirm","status":"ready"`
		if d.notice {
			event = d.among(`"status":"p\u0061id"`, `"status":1`, `"status":"a new word"`, `"status":null`, `"cancellation_id":"x"`)
		}
		s.body = fmt.Sprintf("%s{\"x\":%s, \"%s\" : \"%s\",\t\"imp_uid\":\"%s\",%s%s}%s",
			d.among("", " ", "\r\n\t"), d.among("1e308", "-0", "[[[[{}]]]]", `{"merchant_uid":"a","Merchant_UID_":1}`, `"\ud83d\ude00"`, "null"),
			d.among("merchant_uid", escapes("merchant_uid")), escapes(o.MerchantUID), o.ImpUID, event,
			d.among("", `,"extra":null`, `,"extra":{}`, `,"extra":{"payType":"cash","barcode":1e5}`), d.among("", "\n", "  "))
		return s
	}},
	{name: "genuine, at a path that is nearly right", want: 200, shoot: func(d *drawer) shot {
		s := d.any()
		s.path = d.at(d.among("/cvs/confirm/", "//cvs/confirm", "/cvs//confirm/", "/CVS/Confirm", "/Cvs/confirm/", "/cvs%2Fconfirm%2F"))
		return s
	}},
	{name: "genuine, with an amount or a new kind of payment", want: 200, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		if d.notice || d.rng.IntN(2) == 0 {
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
		s.query = o.signedBy(d.previous, d.purpose()).query()
		return s
	}},
	{name: "genuine, unsigned and looked up", want: 200, shoot: func(d *drawer) shot {
		s := d.unsigned(d.lookup, pick(d, slices.Concat(d.odd, d.open)))
		s.query = d.among("", "", "utm=1")
		return s
	}},
}

// attacks must be answered as the documents say, and none may be accepted.
var attacks = []kind{
	// Signatures.
	{name: "no signature", want: 403, shoot: func(d *drawer) shot { return d.unsigned(d.among(d.g.Outside, d.only), pick(d, d.open)) }},
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
	{name: "another attempt's id, or none", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		q.id = d.among("", signedurl.NewID(), pick(d, d.paid).id, o.id[1:], o.id+"=", "%41"+o.id[1:])
	})},
	{name: "another order's signature", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.twins) // of the same amount
		q := d.signed(o)
		q.sig = d.signed(other).sig
		s := d.webhook(o)
		s.query = q.query()
		return s
	}},
	{name: "another order's URL, replayed", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.open)
		s := d.webhook(o)
		s.query = d.signed(pick(d, []*order{other, pick(d, d.void), pick(d, d.paid), pick(d, d.expired), pick(d, d.second)})).query()
		return s
	}},
	{name: "another account's signature", want: 403, shoot: func(d *drawer) shot {
		o, twin := d.twin()
		q := d.signed(twin)
		switch d.rng.IntN(3) {
		case 0:
			q.account = "" // the second's for the unnamed one
		case 1:
			q, o = d.signed(o), twin
			q.account = "second"
		default:
			q = o.signedBy(d.secondKeys, d.purpose())
		}
		s := d.webhook(o)
		s.query = q.query()
		return s
	}},
	{name: "account swapped", want: 403, shoot: withSigned(func(d *drawer, _ *order, q *signedQuery) {
		q.account = d.among("sibling", "sibling", "second", "third", "Second", "default", "%00", "second%20", "..", strings.Repeat("a", 65))
	})},
	{name: "account that does not exist, signed", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		o2 := *o
		o2.signedQuery.account = "third"
		*q = o2.signedBy(pick(d, []signedurl.Keys{d.current, d.foreign}), d.purpose())
	})},
	{name: "the unnamed account's, where only the second's is answered", confirmOnly: true, want: 403, shoot: func(d *drawer) shot {
		o, _ := d.twin()
		s := d.webhook(o)
		s.base = d.only
		return s
	}},
	{name: "another key's signature", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		*q = o.signedBy(pick(d, []signedurl.Keys{d.foreign, d.secret, d.secondKeys}), d.purpose())
	})},
	{name: "the other purpose's signature", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) { *q = d.unsuited(o) })},
	{name: "another purpose's signature", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		*q = o.signedBy(d.current, signedurl.Purpose(d.at(d.among("notice", "", "Confirm", "confirm ", "void"))))
	})},
	{name: "amount swapped", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		q.amount = d.among("1", o.amount+"0", o.amount[1:], pick(d, d.second).amount, "0", "-1", "")
	})},
	{name: "amount spelled otherwise", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		q.amount = d.among(o.amount+".0", o.amount+".", "0"+o.amount, "%2B"+o.amount, "+"+o.amount, o.amount+"e0", o.amount+"%20", "%31"+o.amount[1:], o.amount+"%00", o.amount+",00", "１"+o.amount[1:])
	})},
	{name: "expiry swapped", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		q.expires = d.among("4000000000", o.expires+"0", "0", "", "-1", "1", "%2B"+o.expires, "0"+o.expires, o.expires+".0", "99999999999999999999", "9223372036854775807", "-9223372036854775808", "4e9")
	})},
	{name: "an expired barcode's expiry swapped", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.expired)
		q := d.signed(o)
		q.expires = d.among("4000000000", "", "0", strconv.FormatInt(time.Now().Unix()+60, 10), pick(d, d.open).expires)
		s := d.webhook(o)
		s.query = q.query()
		return s
	}},
	{name: "at another path", want: 404, shoot: func(d *drawer) shot {
		s := d.any()
		s.base, s.path = d.among(d.g.Outside, d.lookup, d.quiet), d.at(d.among("/", "/cvs", "/cvs/confirm/x", "/cvs/confirmed", "/x/cvs/confirm", "/cvs/confirm;x", "/cvs/confirm%00", "/cvs/notice"))
		return s
	}},

	// Order numbers.
	{name: "merchant_uid swapped", want: 403, shoot: withNumber(func(d *drawer, o *order) string {
		return pick(d, []*order{pick(d, d.open), pick(d, d.second), pick(d, d.odd), pick(d, d.void), pick(d, d.paid)}).MerchantUID
	})},
	{name: "merchant_uid resembling the true one", want: 403, shoot: withNumber(func(d *drawer, o *order) string {
		uid := o.MerchantUID
		return d.among(strings.ToUpper(uid), "\ufeff"+uid, uid+"\u200b", strings.ReplaceAll(uid, "-", "\u2010"), strings.ReplaceAll(uid, "o", "\u03bf"),
			strings.ReplaceAll(uid, "-", "%2d"), uid+"/", "/"+uid, uid+"%00", uid+"?", uid+"#", uid+";", uid[:len(uid)-1], uid+"0", strings.ReplaceAll(uid, "o", "\uff4f"), uid+"\u0301")
	})},
	{name: "merchant_uid aimed at the order check's URL", want: 403, shoot: withNumber(func(d *drawer, _ *order) string {
		return pick(d, slices.Concat(leavers, oddNumbers))
	})},
	{name: "the same, unsigned and looked up", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.Issued
		lie.MerchantUID = pick(d, slices.Concat(leavers, oddNumbers))
		s.body = d.body(lie)
		return s
	}},
	{name: "order number that leaves its place, rightly signed", vouched: true, want: 409, shoot: func(d *drawer) shot {
		// cvs_proxy issues no such number, but another holder of its key might.
		o := *pick(d, d.open)
		o.MerchantUID = pick(d, leavers)
		s := d.webhook(&o)
		s.query = o.signedBy(d.current, d.purpose()).query()
		return s
	}},
	{name: "order number with control characters or outer spaces, rightly signed", want: 400, shoot: func(d *drawer) shot {
		o := *pick(d, d.open)
		o.MerchantUID = d.among("a\r\nX-Cvs-Amount: 1", "a\nb", "a\rb", "a\x00b", "\x7fa", "a\u0085b", "a\tb", "a\x1b[2J", " ", "\u00a0", o.MerchantUID+" ", " "+o.MerchantUID, o.MerchantUID+"\u00a0", strings.Repeat("a", 41))
		s := d.webhook(&o)
		s.query = o.signedBy(d.current, d.purpose()).query()
		if d.rng.IntN(3) == 0 {
			s.contentType, s.body = gatewaytest.FormType, d.form(&o)
		}
		return s
	}},
	{name: "control characters or outer spaces in imp_uid", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return strings.Replace(doc, o.ImpUID, o.ImpUID+d.among(`\r\nX-Cvs-Amount: 1`, `\u0000`, `\n`, `\u007f`, `\u0085`, " ", `\u2003`, strings.Repeat("1", 65)), 1)
	})},
	{name: "imp_uid claimed, which no signature covers", vouched: true, want: 409, asked: true, claims: true, shoot: func(d *drawer) shot {
		o := pick(d, d.lent)
		s := d.webhook(o)
		lie := o.Issued
		lie.ImpUID = d.among("imp_0", pick(d, d.open).ImpUID, pick(d, d.second).ImpUID, strings.ToUpper(o.ImpUID), o.ImpUID+"0", "../"+o.ImpUID, "가")
		s.body = d.body(lie)
		return s
	}},

	// Look-ups.
	{name: "unsigned, of another order", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.Issued
		lie.MerchantUID = other.MerchantUID
		s.body = d.body(lie)
		return s
	}},
	{name: "unsigned, of another account", want: 403, shoot: func(d *drawer) shot {
		_, twin := d.twin()
		return d.unsigned(d.lookup, pick(d, []*order{twin, pick(d, d.second)}))
	}},
	{name: "unsigned, of no payment", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.Issued
		lie.ImpUID = d.among("imp_0", "imp_", "imp_"+strconv.Itoa(d.rng.Int()), o.MerchantUID, strings.ToUpper(o.ImpUID), o.ImpUID+"?x=1", o.ImpUID+"#", o.ImpUID+"/", "/"+o.ImpUID)
		s.body = d.body(lie)
		return s
	}},
	{name: "unsigned, imp_uid aimed at the API's URL", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.unsigned(d.lookup, o)
		lie := o.Issued
		lie.ImpUID = d.among("..", ".", "../users/getToken", "a/../"+o.ImpUID, `..\`+o.ImpUID, "find/"+o.MerchantUID, "status/ready", "%2e%2e", "%2e%2e/cvs", o.ImpUID+"?include_sandbox=false", "find%2F"+o.MerchantUID, "//evil.example/", "..;/x")
		s.body = d.body(lie)
		return s
	}},
	{name: "unsigned, of a void barcode", want: 409, shoot: func(d *drawer) shot { return d.unsigned(d.lookup, pick(d, d.void)) }},
	{name: "unsigned, of a paid barcode", want: 409, shoot: func(d *drawer) shot { return d.unsigned(d.lookup, pick(d, d.paid)) }},

	// Barcodes that may not be paid.
	{name: "a void barcode's", vouched: true, want: 409, asked: true, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.void)) }},
	{name: "a paid barcode's", vouched: true, want: 409, asked: true, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.paid)) }},
	{name: "an expired barcode's", vouched: true, want: 410, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.expired)) }},
	{name: "an older barcode's, at another amount", vouched: true, want: 409, asked: true, shoot: func(d *drawer) shot { return d.webhook(pick(d, d.reissued)) }},

	// JSON.
	{name: "JSON, member repeated", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		name, value := d.member()
		return d.either(doc, strconv.Quote(name)+":"+value)
	})},
	{name: "JSON, member repeated with the true value", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.either(doc, d.among(`"status":"ready"`, `"event":"Galaxia.Cvs.Confirm"`, `"merchant_uid":"`+o.MerchantUID+`"`, `"extra":{}`))
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
		return d.among(strings.Replace(doc, o.MerchantUID, o.MerchantUID+bad, 1), strings.Replace(doc, o.ImpUID, bad+o.ImpUID, 1), first(doc, `"`+bad+`":1`), last(doc, `"x":"`+bad+`"`), doc+bad)
	})},
	{name: "JSON, half a surrogate pair", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		bad := d.among(`\ud800`, `\udc00`, `\ud800\ud800`, `\ud83d\u0041`, `\uDFFF\uD800`)
		return d.among(strings.Replace(doc, o.MerchantUID, o.MerchantUID+bad, 1), first(doc, `"`+bad+`":1`), last(doc, `"x":"`+bad+`"`))
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
			strings.Replace(doc, "ready", `rea\dy`, 1), strings.Replace(doc, "ready", `\x72eady`, 1), strings.Replace(doc, o.ImpUID, o.ImpUID+"\n", 1), strings.Replace(doc, o.ImpUID, o.ImpUID+"\x00", 1))
	})},
	{name: "JSON, not an object", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		return d.among("", " ", "null", "true", "1", `"x"`, "[]", "{}", "{", "["+doc+"]", strconv.Quote(doc), doc[:1+d.rng.IntN(len(doc)-1)])
	})},
	{name: "JSON, members of another type", want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		value := d.among("1", "null", "true", `["`+o.MerchantUID+`"]`, `{"a":1}`, `""`, `" "`, "[]")
		member := d.among(`"imp_uid":"`+o.ImpUID+`"`, `"merchant_uid":"`+o.MerchantUID+`"`, `"status":"ready"`, `"event":"Galaxia.Cvs.Confirm"`)
		if d.notice { // which need not have the others
			member = `"imp_uid":"` + o.ImpUID + `"`
		}
		name, _, _ := strings.Cut(member, ":")
		return d.among(strings.Replace(doc, member, name+":"+value, 1), strings.Replace(doc, member, `"x":1`, 1), strings.Replace(doc, `{"barcode":"`+o.Barcode+`","payType":"card"}`, d.among(`"x"`, "[]", "1", "true"), 1))
	})},
	{name: "JSON, another event or status", want: 400, shoot: withBody(func(d *drawer, _ *order, doc string) string {
		if d.notice { // which has no event, and may have any status
			return d.either(doc, `"event":`+d.among(`"Galaxia.Cvs.Paid"`, `"galaxia.cvs.confirm"`, `"*"`, `""`, "null", "1", `["Galaxia.Cvs.Confirm"]`))
		}
		return d.among(strings.Replace(doc, "ready", d.among("paid", "Ready", "READY", "ready ", " ready", "cancelled", `ready\u0000`, "r\u0435ady"), 1),
			strings.Replace(doc, "Galaxia.Cvs.Confirm", d.among("Galaxia.Cvs.Paid", "galaxia.cvs.confirm", "Galaxia.Cvs.Confirm ", "Galaxia.Cvs.ConfirmX", "*"), 1))
	})},
	{name: "an amount in the body that is not the signed one", confirmOnly: true, want: 403, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.either(doc, `"amount":`+d.among("1", "0", "-"+o.amount, o.amount+"0", o.amount+".5", `"`+o.amount+`1"`, "1e300"))
	})},
	{name: "an amount in the body that is none", confirmOnly: true, want: 400, shoot: withBody(func(d *drawer, o *order, doc string) string {
		return d.either(doc, `"amount":`+d.among(`"15,000"`, "true", "[1]", `{"total":1}`, `"`+o.amount+` "`, `"0x10"`))
	})},

	// Forms.
	{name: "form, name repeated", want: 400, shoot: withForm(func(d *drawer, o *order, form string) string {
		name, value := d.member()
		pair := name + "=" + url.QueryEscape(strings.Trim(value, `"`))
		return d.among(form+"&"+pair, pair+"&"+form, form+"&"+form, form+"&"+name+"=", form+"&status=ready", form+"&%6Derchant_uid="+o.MerchantUID, form+"&extra[payType]=coin")
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
			form+"&a=%ff", form+"&%c0%af=1", form+"&a=\xff", strings.Replace(form, "merchant_uid="+o.MerchantUID, "merchant_uid="+o.MerchantUID+"%ff", 1), strings.ReplaceAll(form, "&", "%26"), strings.ReplaceAll(form, "=", ":"))
	})},
	{name: "form where JSON is said, and the other way round", want: 400, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		if d.rng.IntN(2) == 0 {
			s.contentType = gatewaytest.FormType
		} else {
			s.body = d.form(o)
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
		s.contentType = d.among(gatewaytest.JSONType, gatewaytest.FormType) + d.among("; charset=utf-16", "; charset=utf-7", "; charset=euc-kr", "; charset=iso-8859-1", "; charset=", "; charset=\"utf-16le\"", "; charset=utf-8; charset=utf-16", "; charset=utf-8,utf-16", "; CHARSET=UTF-32", "; charset*=utf-8''utf-16")
		if d.rng.IntN(2) == 0 {
			s.body = in16("\ufeff"+s.body, binary.LittleEndian)
		}
		return s
	}},
	{name: "two media types, the first another one", want: 415, shoot: func(d *drawer) shot {
		s := d.any()
		s.contentType, s.header = "text/plain", http.Header{"Content-Type": {gatewaytest.JSONType}}
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
			s.base, s.query = d.g.Outside, ""
		}
		return s
	}},
}
