//go:build !race

package acceptance

// This file holds how the delivery run sends notices: genuine ones as the provider does, forged ones,
// and those of other payments, which the gateway must pass on.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// deliveryNotice is a request at the notice's URL.
type deliveryNotice struct {
	url, contentType, body string
}

// newNotice returns a notice as the provider sends it.
func newNotice(target, impUID, order, status, cancellation string, asForm bool) deliveryNotice {
	members := [][2]string{{"imp_uid", impUID}, {"merchant_uid", order}, {"status", status}}
	if cancellation != "" {
		members = append(members, [2]string{"cancellation_id", cancellation})
	}
	if asForm {
		form := make(url.Values)
		for _, m := range members {
			form.Set(m[0], m[1])
		}
		return deliveryNotice{target, gatewaytest.FormType, form.Encode()}
	}
	object := make(map[string]string)
	for _, m := range members {
		object[m[0]] = m[1]
	}
	body, _ := json.Marshal(object)
	return deliveryNotice{target, gatewaytest.JSONType, string(body)}
}

// send sends a notice once. The status is 0 without an answer.
func (c *deliveryRun) send(t *testing.T, n deliveryNotice) (status int, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url, strings.NewReader(n.body))
	if !assert.NoError(t, err) {
		return 0, nil
	}
	r.Header.Set("Content-Type", n.contentType)
	resp, err := c.sender.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header
}

// ack is an event whose notice was acknowledged.
type ack struct{ impUID, cancellation string }

// acknowledged notes that the gateway has taken over a genuine notice.
func (c *deliveryRun) acknowledged(a ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acks[a] = true
}

// deliver sends the notice of an event as was drawn for it. Without the sweep it is repeated until it
// is acknowledged, as the provider does.
func (c *deliveryRun) deliver(t *testing.T, o *deliveryOrder, impUID, status, cancellation, how string) {
	t.Helper()
	if how == noticeLost {
		c.counts.add(how)
		return
	}
	if o.asForm {
		c.counts.add(noticeForm)
	}
	_, urls := c.g.API.WebhookURLs(impUID)
	if !assert.Len(t, urls, 1) {
		return
	}
	n := newNotice(urls[0], impUID, o.id, status, cancellation, o.asForm)
	for tries := 0; ; tries++ {
		answer, _ := c.send(t, n)
		if answer == http.StatusOK {
			c.acknowledged(ack{impUID, cancellation})
		}
		if answer == http.StatusOK || o.account.swept {
			break
		}
		if !assert.Less(t, tries, 2000, "a notice is not acknowledged: %d", answer) {
			return
		}
		c.counts.add(noticeRepeated)
		wait(c.ended, c.draw.rand.between(50*time.Millisecond, 300*time.Millisecond))
	}
	if how == noticeDoubled {
		c.counts.add(how)
		c.send(t, n)
	}
}

// deliveryForgery is a notice that says what is not true.
type deliveryForgery struct {
	name string
	make func(c *deliveryRun, o, other *deliveryOrder, impUID, signed string) deliveryNotice
}

// deliveryForgeries are printed in this order. other is another order of the account, signed the
// order's genuine URL.
var deliveryForgeries = []*deliveryForgery{
	{"forged: paid, unsigned", func(c *deliveryRun, o, _ *deliveryOrder, impUID, _ string) deliveryNotice {
		return newNotice(c.g.Outside+"/cvs/notice", impUID, o.id, "paid", "", o.asForm)
	}},
	{"forged: paid, with the genuine URL", func(_ *deliveryRun, o, _ *deliveryOrder, impUID, signed string) deliveryNotice {
		return newNotice(signed, impUID, o.id, "paid", "", o.asForm)
	}},
	{"forged: cancelled", func(c *deliveryRun, o, _ *deliveryOrder, impUID, _ string) deliveryNotice {
		return newNotice(c.g.Outside+"/cvs/notice", impUID, o.id, "cancelled", "cancellation_1", o.asForm)
	}},
	{"forged: wrong signature", func(c *deliveryRun, o, _ *deliveryOrder, impUID, signed string) deliveryNotice {
		return newNotice(c.altered(signed, "cvs_sig", "AAAAAAAAAAAAAAAAAAAAAA"), impUID, o.id, "paid", "", o.asForm)
	}},
	{"forged: another amount", func(c *deliveryRun, o, _ *deliveryOrder, impUID, signed string) deliveryNotice {
		return newNotice(c.altered(signed, "cvs_amount", "1"), impUID, o.id, "paid", "", o.asForm)
	}},
	{"forged: another order's signed URL", func(_ *deliveryRun, o, other *deliveryOrder, _, signed string) deliveryNotice {
		return newNotice(signed, other.last, other.id, "paid", "", o.asForm)
	}},
	{"forged: another order's payment", func(_ *deliveryRun, o, other *deliveryOrder, _, signed string) deliveryNotice {
		return newNotice(signed, other.last, o.id, "paid", "", o.asForm)
	}},
	{"forged: an unknown payment, signed", func(c *deliveryRun, o, _ *deliveryOrder, _, signed string) deliveryNotice {
		return newNotice(signed, fmt.Sprintf("imp_%012d", c.draw.rand.below(1e9)), o.id, "paid", "", o.asForm)
	}},
}

// altered returns a URL with another value in its query.
func (c *deliveryRun) altered(signed, name, value string) string {
	u, err := url.Parse(signed)
	if err != nil {
		return signed
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// forge sends the order's forged notice, if it has one.
func (c *deliveryRun) forge(t *testing.T, o *deliveryOrder, impUID string) {
	t.Helper()
	_, urls := c.g.API.WebhookURLs(impUID)
	if o.forgery == nil || len(urls) == 0 {
		return
	}
	other := c.another(o)
	if other == nil {
		return
	}
	n := o.forgery.make(c, o, other, impUID, urls[0])
	for range 100 {
		if status, _ := c.send(t, n); status != 0 {
			c.counts.add(o.forgery.name)
			return
		}
		wait(c.ended, 100*time.Millisecond)
	}
}

// another returns another order of the account whose barcode the app knows, nil if there is none. In an
// unswept account its genuine notice must not be lost behind a forged one, so it is never one that is
// paid.
func (c *deliveryRun) another(o *deliveryOrder) *deliveryOrder {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.orders {
		if other != o && other.account == o.account && other.last != "" && (o.account.swept || !other.pays()) {
			copied := *other
			return &copied
		}
	}
	return nil
}

// foreignRequest is a request that is not the gateway's business.
type foreignRequest struct {
	query, contentType, body string
}

// foreignKey is the query parameter that tells foreign requests apart.
const foreignKey = "foreign"

// sendForeign sends a notice of another payment until the next handler has answered it.
func (c *deliveryRun) sendForeign(t *testing.T, number int) {
	t.Helper()
	name, impUID := foreignUnknown, fmt.Sprintf("imp_%012d", number)
	if number%2 == 0 {
		name, impUID = foreignCard, c.older[number%len(c.older)]
	}
	order := fmt.Sprintf("카드 %d&", number)
	bodies := []deliveryNotice{
		newNotice("", impUID, order, "paid", "", false),
		newNotice("", impUID, order, "paid", "", true),
		{"", "application/json; charset=utf-8", fmt.Sprintf("\n{\"imp_uid\": %q ,\"merchant_uid\":\"\\ud55c\",\"status\":\"paid\",\"more\":[1.0,2e3]} ", impUID)},
		{"", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"imp_uid\"\r\n\r\n" + impUID + "\r\n--x--\r\n"},
		{"", gatewaytest.FormType, "imp_uid=" + impUID + "&imp_uid=twice&%zz&large=" + strings.Repeat("x", 70_000)},
		{"", "text/plain", "no notice at all"},
	}
	n := bodies[number/2%len(bodies)]
	query := fmt.Sprintf("%s=%d&a=%%20b", foreignKey, number)
	n.url = c.g.Outside + "/cvs/notice?" + query
	c.shop.expect(number, foreignRequest{query, n.contentType, n.body})
	for range 300 {
		status, header := c.send(t, n)
		if status != 0 && status != http.StatusBadGateway { // the shop is down
			if header.Get(hookHeader) == "" {
				c.shop.notPassedOn(fmt.Errorf("%s: the gateway itself answered %d to %s", name, status, n.contentType))
			}
			c.counts.add(name)
			return
		}
		wait(c.ended, 100*time.Millisecond)
	}
	c.shop.notPassedOn(errors.New(name + ": no answer"))
}

// same compares a request that was passed on with what was sent.
func (f foreignRequest) same(r *http.Request, body []byte) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/cvs/notice" && r.URL.RawQuery == f.query && r.Header.Get("Content-Type") == f.contentType &&
		bytes.Equal(body, []byte(f.body))
}
