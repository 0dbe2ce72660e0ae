package acceptance

// This file holds the kinds of notices of the forgery run that confirm webhooks do not have.

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// misplacedConfirms are signed confirm webhooks where notices are received. Their sender takes every 200
// for an acceptance, also one of the next handler.
var misplacedConfirms = []kind{
	{name: "confirm at the notice's path", want: 404, misplaced: true, shoot: (*drawer).misplacedConfirm},
	{name: "confirm at the notice's path, form", want: 404, misplaced: true, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.confirmAs(o)
		confirms := *d
		confirms.notice = false
		s.contentType, s.body = gatewaytest.FormType, confirms.form(o)
		return s
	}},
	{name: "confirm at the notice's path, spelled otherwise", want: 404, misplaced: true, shoot: func(d *drawer) shot {
		s := d.misplacedConfirm()
		s.body = d.among(
			strings.Replace(s.body, `"event"`, `"`+escapes("event")+`"`, 1), strings.Replace(s.body, "Galaxia.Cvs.Confirm", escapes("Galaxia.Cvs.Confirm"), 1),
			" \r\n"+s.body+"\n", last(s.body, `"event":"x"`), first(s.body, `"event":"x"`), last(s.body, `"imp_uid":"x"`), last(s.body, `"Event":null`), s.body[:len(s.body)-1], s.body+"x",
			strings.Replace(s.body, `"imp_uid"`, `"IMP_UID"`, 1), "\ufeff"+s.body, last(s.body, `"x":"`+"\xff"+`"`), s.body+strings.Repeat(" ", 64<<10))
		return s
	}},
	{name: "confirm at the notice's path, in another encoding", want: 404, misplaced: true, shoot: func(d *drawer) shot {
		s := d.misplacedConfirm()
		switch d.rng.IntN(4) {
		case 0:
			s.contentType += "; charset=utf-16"
			s.body = in16("\ufeff"+s.body, binary.LittleEndian)
		case 1:
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write([]byte(s.body))
			_ = z.Close()
			s.body, s.header = b.String(), http.Header{"Content-Encoding": {"gzip"}}
		case 2:
			s.contentType = d.among("text/plain", "", "application/xml", "text/json", "multipart/form-data; boundary=x")
		default:
			s.contentType = gatewaytest.FormType
		}
		return s
	}},
	{name: "confirm of a payment that is known otherwise, at the notice's path", want: 404, misplaced: true, shoot: func(d *drawer) shot {
		s := d.misplacedConfirm()
		lie := pick(d, d.paid).Issued
		s.body = lie.Webhook()
		return s
	}},
}

// misplacedConfirm returns a confirm webhook at the notice's path: its own signature, or that of its
// notice, or one of another account.
func (d *drawer) misplacedConfirm() shot { return d.confirmAs(pick(d, d.open)) }

func (d *drawer) confirmAs(o *order) shot {
	s := d.webhook(o)
	s.body = o.Webhook()
	query := pick(d, []signedQuery{o.signedQuery, o.notice, pick(d, d.second).signedQuery, o.signedBy(d.previous, signedurl.Confirm), o.signedBy(d.foreign, signedurl.Notice)})
	s.query = query.query()
	return s
}

// noticeAttacks are notices that say what is not so. At the confirm's path they are accepted by nobody.
var noticeAttacks = []kind{
	{name: "a notice without a signature, of any status", want: 403, shoot: func(d *drawer) shot {
		o := pick(d, append([]*order{pick(d, d.paid), pick(d, d.void)}, d.open...))
		s := d.unsigned(d.g.Outside, o)
		s.body = strings.NewReplacer(`"paid"`, d.wrongStatus(), `"cancelled"`, d.wrongStatus()).Replace(s.body)
		return s
	}},
	{name: "a notice of a status that is not so, rightly signed", want: 403, vouched: true, shoot: func(d *drawer) shot {
		s := d.webhook(pick(d, append([]*order{pick(d, d.paid), pick(d, d.void), pick(d, d.expired)}, d.open...)))
		s.body = strings.NewReplacer(`"paid"`, d.wrongStatus(), `"cancelled"`, d.wrongStatus()).Replace(s.body)
		return s
	}},
	{name: "a notice of a cancellation that is not", want: 403, shoot: func(d *drawer) shot {
		s := d.unsigned(d.g.Outside, pick(d, append([]*order{pick(d, d.paid)}, d.open...)))
		s.body = last(s.body, `"cancellation_id":`+d.among(`"x"`, `""`, "null", "1", `"`+strings.Repeat("a", 200)+`"`, `"`+signedurl.NewID()+`"`))
		return s
	}},
	{name: "a notice that says more than a notice does", want: 403, shoot: func(d *drawer) shot {
		s := d.unsigned(d.g.Outside, pick(d, append([]*order{pick(d, d.paid)}, d.open...)))
		s.body = last(s.body, d.among(`"amount":1`, `"paid_at":1`, `"late":true`, `"account":"second"`, `"sandbox":true`, `"cancel_amount":1`, `"customer_uid":"x"`))
		return s
	}},
	{name: "another order's number with an imp_uid that may be known", want: 403, shoot: func(d *drawer) shot {
		o, other := d.two(d.open)
		s := d.unsigned(d.g.Outside, o)
		lie := o.Issued
		lie.MerchantUID = d.among(other.MerchantUID, pick(d, d.second).MerchantUID, "..", "", "{env.CVS_TEST_SECRET}", "\u0000")
		s.body = d.body(lie)
		return s
	}},
	{name: "a card payment's notice", want: 404, shoot: func(d *drawer) shot {
		s := d.unsigned(d.g.Outside, pick(d, d.open))
		s.body = d.body(gatewaytest.Issued{ImpUID: d.among("imp_card", "imp_0", "x", "imp_999999999999", "..", "../users/getToken", "imp_1?x=", "' OR 1=1", "%00"), MerchantUID: "card-1"})
		return s
	}},
	{name: "a notice at the confirm's path", want: 404, shoot: func(d *drawer) shot {
		o := pick(d, d.open)
		s := d.webhook(o)
		query := pick(d, []signedQuery{o.signedQuery, o.notice})
		s.path, s.query = "/cvs/confirm", query.query()
		if d.rng.IntN(3) == 0 {
			s.contentType, s.body = gatewaytest.FormType, url.Values{"imp_uid": {o.ImpUID}, "merchant_uid": {o.MerchantUID}, "status": {"ready"}}.Encode()
		}
		return s
	}},
	{name: "the confirm's signature on a notice", want: 403, shoot: withSigned(func(d *drawer, o *order, q *signedQuery) {
		*q = pick(d, []signedQuery{o.signedQuery, o.signedBy(d.previous, signedurl.Confirm), o.signedBy(d.current, "probe")})
	})},
}

// wrongStatus returns a status that the payment may not have, as JSON.
func (d *drawer) wrongStatus() string {
	return d.among(`"ready"`, `"paid"`, `"cancelled"`, `"failed"`, `"expired"`, `""`, "null", "1", `"PAID"`, `"paid\u0000"`, `"`+strings.Repeat("a", 100)+`"`)
}
