package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// seen returns the status of a payment in each look-up: "" if the look-up does not find it.
func (s *sandbox) seen(order, impUID string) map[string]string {
	s.t.Helper()
	statuses := make(map[string]string)
	for name, path := range map[string]string{
		"payment": "/payments/" + impUID + "?include_sandbox=true", "payments": "/payments?imp_uid[]=" + impUID, "find": "/payments/find/" + order,
		"find_all": "/payments/findAll/" + order, "list": "/payments/status/all",
	} {
		a := s.get(path)
		var one struct {
			Status string
			List   []struct {
				Status string
				ImpUID string `json:"imp_uid"`
			}
		}
		raw := []byte(strings.Trim(string(a.Response), "[]"))
		if a.Code == 0 {
			require.NoError(s.t, json.Unmarshal(raw, &one), a.raw)
		}
		for _, p := range one.List {
			if p.ImpUID == impUID {
				one.Status = p.Status
			}
		}
		statuses[name] = one.Status
	}
	return statuses
}

func everywhere(status string) map[string]string {
	return map[string]string{"payment": status, "payments": status, "find": status, "find_all": status, "list": status}
}

// Look-ups show each change only when it is as old as the lag, to the millisecond. Calls and the till see it at once.
func TestLagShowsThePast(t *testing.T) {
	t.Parallel()
	const lag = 1500 * time.Millisecond
	for name, test := range map[string]struct {
		opts  emulator.Options
		fault emulator.Fault
	}{
		"option":                     {opts: emulator.Options{Lag: lag}},
		"fault":                      {fault: emulator.Fault{Stale: lag}},
		"fault in place of a longer": {opts: emulator.Options{Lag: time.Hour}, fault: emulator.Fault{Stale: lag}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			c.advance(900 * time.Millisecond) // the second of the change and that of the look-up must not matter
			test.opts.Now = c.now
			s := newSandbox(t, test.opts)
			if test.fault.Stale > 0 {
				test.fault.Endpoint = emulator.EndpointAll
				s.inject(test.fault)
			}
			expect := func(impUID, before, after string) {
				t.Helper()
				c.advance(lag - time.Millisecond)
				assert.Equal(t, everywhere(before), s.seen("order", impUID))
				c.advance(time.Millisecond)
				assert.Equal(t, everywhere(after), s.seen("order", impUID))
			}
			first := s.issue(`"merchant_uid":"order","amount":11000`)
			expect(first.field("imp_uid"), "", "ready")
			s.do("DELETE", "/cvs/"+first.field("imp_uid"), "", "").expect(t, 200, 0)
			s.do("DELETE", "/cvs/"+first.field("imp_uid"), "", "").expect(t, 200, 1) // it is void, whatever a look-up shows
			code, _ := s.scan(first.field("vbank_num"), "card")
			assert.Equal(t, http.StatusConflict, code)
			expect(first.field("imp_uid"), "ready", "cancelled")

			second := s.issue(`"merchant_uid":"order","amount":11000`)
			impUID := second.field("imp_uid")
			c.advance(lag - time.Millisecond)
			assert.Equal(t, first.field("imp_uid"), s.get("/payments/find/order").field("imp_uid"), "the newest that is seen")
			c.advance(time.Millisecond)
			_, result := s.scan(second.field("vbank_num"), "cash")
			assert.True(t, result.Accepted, "at the till it is not late")
			assert.Equal(t, "paid", s.Payments()[0].Status)
			s.do("POST", "/cvs", asJSON, `{"merchant_uid":"order","amount":1}`).expect(t, 200, 1)
			s.get("/payments/"+impUID+"/balance").expect(t, 404, -1)
			expect(impUID, "ready", "paid")
			s.get("/payments/"+impUID+"/balance").expect(t, 200, 0)

			s.cancel(`"imp_uid":"`+impUID+`","amount":1000`).expect(t, 200, 0)
			c.advance(lag / 2)
			s.cancel(`"imp_uid":"`+impUID+`","amount":2000`).expect(t, 200, 0)
			for _, left := range []string{"11000", "10000", "8000"} {
				assert.Equal(t, left, s.get("/payments/"+impUID+"/balance").field("amount"))
				c.advance(lag / 2)
			}
			s.as("other").get("/payments/"+impUID+"?include_sandbox=true").expect(t, 404, -1)
		})
	}
}

// Lists are filtered and sorted by what was true then.
func TestLagAffectsFilters(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, Lag: time.Second})
	issued := s.issue(`"merchant_uid":"order","amount":1`)
	c.advance(time.Second)
	s.do("DELETE", "/cvs/"+issued.field("imp_uid"), "", "")
	s.get("/payments/find/order/ready").expect(t, 200, 0)
	s.get("/payments/find/order/cancelled").expect(t, 404, -1)
	for path, total := range map[string]string{"status/ready": "1", "status/cancelled": "0", "findAll/order/ready": "1"} {
		assert.Equal(t, total, s.get("/payments/"+path).field("total"), path)
	}
	c.advance(time.Second)
	s.get("/payments/find/order/ready").expect(t, 404, -1)
	s.get("/payments/find/order/cancelled").expect(t, 200, 0)
	for path, total := range map[string]string{"status/ready": "0", "status/cancelled": "1", "findAll/order/ready": "0"} {
		assert.Equal(t, total, s.get("/payments/"+path).field("total"), path)
	}
}

// A fault that is used up ends the lag, so that two look-ups in a row may contradict each other, as those of two replicas.
func TestFaultStaleIsOfOneLookUp(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.issue(`"merchant_uid":"order","amount":1`)
	s.inject(emulator.Fault{Endpoint: emulator.EndpointFind, Times: 1, Stale: time.Hour})
	s.get("/payments/find/order").expect(t, 404, -1)
	s.get("/payments/find/order").expect(t, 200, 0)
}

func TestLagShowsTheFailReasonLate(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, Lag: time.Second})
	g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"reason":"품절"}`))
	})
	issued := s.order("order", g)
	c.advance(time.Second)
	s.scan(issued.field("vbank_num"), "card")
	assert.Equal(t, "null", s.get("/payments/find/order").field("fail_reason"))
	c.advance(time.Second)
	assert.Equal(t, "품절", s.get("/payments/find/order").field("fail_reason"))
}
