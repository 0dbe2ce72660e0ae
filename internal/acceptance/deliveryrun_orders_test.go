//go:build !race

package acceptance

// This file holds what becomes of each order of the delivery run: its app, its customer, and the
// refunds.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// shortDeadline is the time in which a barcode must be paid that expires.
const shortDeadline = 2 * time.Second

// live lets an order's story take place.
func (c *deliveryRun) live(t *testing.T, o *deliveryOrder) {
	t.Helper()
	deadline := time.Duration(0)
	if o.waits() {
		deadline = shortDeadline
	}
	barcode := c.issue(t, o, deadline)
	if barcode.impUID == "" {
		return
	}
	if c.draw.oneIn2.next() {
		c.forge(t, o, barcode.impUID)
	} else {
		defer func() { c.forge(t, o, barcode.impUID) }()
	}
	switch o.story {
	case storyExpired, storyOpen:
	case storyVoided, storyVoidPaid:
		c.voidAsApp(t, o, barcode.impUID)
	case storyAgain:
		wait(c.ended, shortDeadline+time.Second+c.draw.rand.between(0, 13*time.Second))
		barcode = c.issue(t, o, 0)
	case storyLate:
		c.waitForVoid(o, barcode.impUID)
	}
	switch o.story {
	case storyExpired, storyOpen, storyVoided:
	case storyVoidPaid, storyLate:
		c.pay(t, o, barcode, emulator.ScenarioAfterVoid)
	default:
		c.pay(t, o, barcode, "")
	}
}

// deliveryBarcode is a barcode as the app knows it.
type deliveryBarcode struct{ impUID, number string }

// issue asks for a barcode until there is one.
func (c *deliveryRun) issue(t *testing.T, o *deliveryOrder, deadline time.Duration) deliveryBarcode {
	t.Helper()
	members := map[string]any{"merchant_uid": o.id, "amount": o.amount, "buyer_name": gatewaytest.BuyerName, "buyer_tel": gatewaytest.BuyerTel}
	asked, ends := 0, c.ends()
	var answers faultCounts
	for began := time.Now(); time.Since(began) < c.size.tries; wait(c.ended, 100*time.Millisecond) {
		if deadline != 0 {
			members["expired_at"] = time.Now().Add(deadline).Unix() + 1
		}
		body, _ := json.Marshal(members)
		asked++
		status, answer := c.ask(t, http.MethodPost, o.account.inside+"/cvs", string(body))
		var envelope struct {
			Code     int
			Response struct {
				ImpUID  string `json:"imp_uid"`
				Barcode string `json:"vbank_num"`
				Sandbox bool   `json:"sandbox"`
			}
		}
		if status != http.StatusOK || json.Unmarshal(answer, &envelope) != nil || envelope.Code != 0 || envelope.Response.ImpUID == "" {
			answers.add(fmt.Sprintf("%d %s", status, answer))
			continue
		}
		p := envelope.Response
		written := o.story == storySandbox && c.isWritten(t, o.id, p.ImpUID)
		c.mu.Lock()
		defer c.mu.Unlock()
		o.last = p.ImpUID
		o.barcodes[p.ImpUID] = true
		if o.story == storySandbox {
			o.forbidden = !p.Sandbox && asked == 1 && ends == c.ends() && written
			o.unclear = !o.forbidden
		}
		return deliveryBarcode{p.ImpUID, p.Barcode}
	}
	c.gaveUp(o, fmt.Sprintf("got no barcode, but in %d tries %v times these answers: %q", asked, answers.counts, answers.names))
	return deliveryBarcode{}
}

// ends counts what may keep an outcome from being written: the end of a gateway, and faults of the database.
func (c *deliveryRun) ends() int64 {
	n := c.starts.Load()
	if d := c.gateways.database; d != nil {
		n += d.changes.Load() + d.changes.Load()%2*1_000_000 // never the same again, if there is a fault now
	}
	return n
}

// isWritten waits for half a second, and reports whether the ledger has an order's barcode. It is written a
// moment after the answer; if it is lost, a look-up shows all of it.
func (c *deliveryRun) isWritten(t *testing.T, order, impUID string) bool {
	t.Helper()
	wait(c.ended, 500*time.Millisecond)
	if c.gateways.database == nil {
		return true
	}
	_, answer := c.gateways.askAdmin(t, c.gateways.list[0], http.MethodGet, "/cvs/barcodes?order="+order, "")
	return strings.Contains(answer, impUID)
}

// gaveUp notes an order whose app or customer tried in vain.
func (c *deliveryRun) gaveUp(o *deliveryOrder, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck[o] = why
}

// ask sends a request of an app. The status is 0 without an answer.
func (c *deliveryRun) ask(t *testing.T, method, target, body string) (status int, answer []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if !assert.NoError(t, err) {
		return 0, nil
	}
	r.Header.Set("Content-Type", gatewaytest.JSONType)
	resp, err := c.sender.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// voidAsApp sends the app's own DELETE until it is done.
func (c *deliveryRun) voidAsApp(t *testing.T, o *deliveryOrder, impUID string) {
	t.Helper()
	c.mu.Lock()
	o.voided[impUID] = true
	c.mu.Unlock()
	for began := time.Now(); time.Since(began) < c.size.tries; wait(c.ended, 200*time.Millisecond) {
		status, _ := c.ask(t, http.MethodDelete, o.account.inside+"/cvs/"+impUID, "")
		if p := c.oracle.payment(o.account.name, impUID); status == http.StatusOK && p != nil && p.Status == "cancelled" {
			return
		}
	}
	c.gaveUp(o, "is not voided")
}

// waitForVoid waits until the API has voided a barcode.
func (c *deliveryRun) waitForVoid(o *deliveryOrder, impUID string) {
	for began := time.Now(); time.Since(began) < c.size.tries; wait(c.ended, 200*time.Millisecond) {
		if p := c.oracle.payment(o.account.name, impUID); p != nil && p.Status == "cancelled" {
			wait(c.ended, c.draw.rand.between(0, time.Second)) // before, while and after the shop is told
			return
		}
	}
}

// pay lets the customer pay until the till accepts it, and then sends the notices of the payment and of
// its refunds.
func (c *deliveryRun) pay(t *testing.T, o *deliveryOrder, barcode deliveryBarcode, scenario emulator.Scenario) {
	t.Helper()
	for began := time.Now(); ; wait(c.ended, 200*time.Millisecond) {
		if o.notices[0] == noticeEarly {
			c.api.lagFrom(barcode.impUID)
		}
		result, err := c.g.API.Scan(c.ctx, emulator.ScanRequest{Barcode: barcode.number, Scenario: scenario})
		if err == nil && result.Accepted {
			break
		}
		if scenario == "" && (errors.Is(err, emulator.ErrVoid) || errors.Is(err, emulator.ErrExpired)) { // the customer wants another one
			barcode = c.issue(t, o, 0)
		}
		if time.Since(began) >= c.size.tries {
			c.gaveUp(o, fmt.Sprintf("is not paid: %v %s", err, result.Reason))
			return
		}
	}
	c.mu.Lock()
	c.paid[barcode.impUID] = time.Now()
	o.afterVoid[barcode.impUID] = scenario == emulator.ScenarioAfterVoid
	c.mu.Unlock()
	if o.notices[0] == noticeEarly {
		c.counts.add(noticeEarly)
	}
	if !o.reversed {
		c.deliver(t, o, barcode.impUID, "paid", "", o.notices[0])
	}
	for i, amount := range o.refunds {
		wait(c.ended, c.draw.rand.between(0, time.Second))
		cancellation := c.refund(t, o, barcode.impUID, amount)
		c.deliver(t, o, barcode.impUID, "cancelled", cancellation, o.notices[1+i])
	}
	if o.reversed {
		c.counts.add(noticeReversed)
		c.deliver(t, o, barcode.impUID, "paid", "", o.notices[0])
	}
}

// refund pays back a part, or with 0 all that is left, and returns the cancellation_id. It is made by
// the app through the gateway, or by the merchant elsewhere.
func (c *deliveryRun) refund(t *testing.T, o *deliveryOrder, impUID string, amount int) string {
	t.Helper()
	body := fmt.Sprintf(`{"imp_uid":%q}`, impUID)
	if amount > 0 {
		body = fmt.Sprintf(`{"imp_uid":%q,"amount":%d}`, impUID, amount)
	}
	before := c.cancellations(o, impUID)
	if o.served {
		c.counts.add(refundServed)
		c.ask(t, http.MethodPost, o.account.inside+"/payments/cancel", body)
	}
	if after := c.cancellations(o, impUID); len(after) > len(before) {
		return after[len(after)-1]
	}
	_, err := c.oracle.do(o.account, http.MethodPost, "/payments/cancel", body)
	assert.NoError(t, err)
	after := c.cancellations(o, impUID)
	if !assert.Len(t, after, len(before)+1) {
		return ""
	}
	return after[len(after)-1]
}

// cancellations returns the cancellation_ids of a payment.
func (c *deliveryRun) cancellations(o *deliveryOrder, impUID string) (list []string) {
	p := c.oracle.payment(o.account.name, impUID)
	if p == nil {
		return nil
	}
	for _, cancelled := range p.CancelHistory {
		list = append(list, cancelled.ID)
	}
	return list
}
