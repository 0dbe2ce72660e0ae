package emulator_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// payments returns the payments in a response: one, a list, or a page.
func (e envelope) payments(t *testing.T) []map[string]any {
	t.Helper()
	var list []map[string]any
	if json.Unmarshal(e.Response, &list) == nil {
		return list
	}
	var page struct{ List []map[string]any }
	require.NoError(t, json.Unmarshal(e.Response, &page), e.raw)
	if page.List != nil {
		return page.List
	}
	var one map[string]any
	require.NoError(t, json.Unmarshal(e.Response, &one), e.raw)
	return []map[string]any{one}
}

// Nothing but the payment's own field is missing: the entries of cancel_history keep their pg_tid.
func TestFaultOmitLeavesOutAField(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.payByCard("other", 5)
	paid := s.paid("order").field("imp_uid")
	s.cancel(`"imp_uid":"`+paid+`","amount":5000`).expect(t, 200, 0)
	for _, path := range []string{
		"/payments/" + paid + "?include_sandbox=true", "/payments?imp_uid[]=" + paid, "/payments/find/order", "/payments/findAll/order", "/payments/status/all",
	} {
		want := s.get(path)
		s.inject(emulator.Fault{Endpoint: emulator.EndpointAll, Times: 1, Omit: "pg_tid"})
		got := s.get(path)
		wanted := want.payments(t)
		for _, p := range wanted {
			assert.NotNil(t, p["pg_tid"], path)
			delete(p, "pg_tid")
		}
		assert.Equal(t, wanted, got.payments(t), path)
		assert.Equal(t, want.field("total"), got.field("total"), path)
		assert.Equal(t, want.payments(t), s.get(path).payments(t), "the fault is used up")
	}
}

func TestFaultOmitAffectsChanges(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.inject(emulator.Fault{Endpoint: emulator.EndpointAll, Omit: "vbank_num"})
	issued := s.issue(`"merchant_uid":"order","amount":1`)
	void := s.do("DELETE", "/cvs/"+issued.field("imp_uid"), "", "")
	card := s.payByCard("card", 1)
	refunded := s.cancel(`"merchant_uid":"card"`)
	for _, a := range []envelope{issued, void, card, refunded} {
		a.expect(t, 200, 0)
		assert.NotContains(t, a.payments(t)[0], "vbank_num")
		assert.Contains(t, a.payments(t)[0], "vbank_name")
	}
	s.do("DELETE", "/cvs/"+issued.field("imp_uid"), "", "").expect(t, 200, 1) // a refusal has no payment
	s.get("/payments/card/balance").expect(t, 404, -1)                        // nor has this
	s.ClearFaults()
	assert.Contains(t, s.get("/payments/find/order").payments(t)[0], "vbank_num")
}
