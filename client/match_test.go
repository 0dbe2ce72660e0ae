package client_test

// This file holds tests of which payment a look-up takes for the call's own.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// Every field that the payment shows must have the value that was sent.
func TestRecoveredPaymentMatchesEveryField(t *testing.T) {
	t.Parallel()
	const fields = `"merchant_uid":"o","amount":15000,"name":"우산","buyer_name":"홍길동","buyer_tel":"010-1234-5678","barcode":"2222","pg":"galaxia.M2","custom_data":{"a":[1,2],"b":"x"}`
	shown := map[string]string{
		"imp_uid": `"imp_1"`, "merchant_uid": `"o"`, "amount": "15000", "status": `"ready"`, "name": `"우산"`, "buyer_name": `"홍길동"`,
		"buyer_tel": `"010-1234-5678"`, "vbank_num": `"2222"`, "pg_id": `"M2"`, "custom_data": `"{\"b\": \"x\", \"a\": [1, 2.0]}"`,
		"pay_method": `"cvs"`, "currency": `"KRW"`, "started_at": fmt.Sprint(time.Now().Unix()),
	}
	var assertions []func()
	for name, tc := range map[string]struct {
		field, value string
		matches      bool
	}{
		"all the same":              {"", "", true},
		"paid meanwhile":            {"status", `"paid"`, true},
		"no number shown":           {"vbank_num", "null", true},
		"no merchant id shown":      {"pg_id", "null", true},
		"an unknown method":         {"pay_method", `"convenience"`, true},
		"less than a won apart":     {"amount", "15000.000000000002", true},
		"another barcode":           {"vbank_num", `"1111"`, false},
		"another name":              {"name", `"양산"`, false},
		"no name":                   {"name", "null", false},
		"another buyer":             {"buyer_name", `"임꺽정"`, false},
		"another telephone":         {"buyer_tel", `"010-0000-0000"`, false},
		"an address nobody gave":    {"buyer_addr", `"서울"`, false},
		"other data":                {"custom_data", `"{\"a\":[1,3],\"b\":\"x\"}"`, false},
		"no data":                   {"custom_data", "null", false},
		"another merchant id":       {"pg_id", `"M1"`, false},
		"a payment by card":         {"pay_method", `"card"`, false},
		"a payment by bank account": {"pay_method", `"vbank"`, false},
		"another currency":          {"currency", `"USD"`, false},
		"a won more":                {"amount", "15001", false},
	} {
		members := []string{}
		for field, value := range shown {
			if field != tc.field {
				members = append(members, fmt.Sprintf("%q:%s", field, value))
			}
		}
		if tc.field != "" {
			members = append(members, fmt.Sprintf("%q:%s", tc.field, tc.value))
		}
		api := &scriptedAPI{issue: hangUp, find: succeed("{" + strings.Join(members, ",") + "}")}
		c := newClient(t, newServer(t, api).URL, timeout(brief))
		call := issueInBackground(context.Background(), c, parse(t, strict.JSON, "{"+fields+"}"))
		assertions = append(assertions, func() {
			r := <-call
			assert.EqualValues(t, 1, api.posts.Load(), name)
			if tc.matches {
				assert.NoError(t, r.err, name)
			} else {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			}
		})
	}
	runAll(assertions)
}

// custom_data may be sent in several ways, and comes back as the text of its JSON.
func TestRecoveredPaymentMatchesCustomData(t *testing.T) {
	t.Parallel()
	var assertions []func()
	for body, matches := range map[string]bool{
		`{"merchant_uid":"o","amount":1,"custom_data":"{\"a\":1}"}`: true,
		`{"merchant_uid":"o","amount":1,"custom_data":{"a":1}}`:     true,
		`{"merchant_uid":"o","amount":1,"custom_data":[{"a":1}]}`:   false,
		`{"merchant_uid":"o","amount":1}`:                           false,
		`merchant_uid=o&amount=1&custom_data=%7B%22a%22%3A1%7D`:     true,
		`merchant_uid=o&amount=1&custom_data%5Ba%5D=1`:              false, // how the API reads it is not known
	} {
		contentType := strict.JSON
		if body[0] != '{' {
			contentType = strict.Form
		}
		shown := fmt.Sprintf(`{"imp_uid":"imp_1","merchant_uid":"o","amount":1,"status":"ready","started_at":%d,"custom_data":"{\"a\":1}"}`, time.Now().Unix())
		c := newClient(t, newServer(t, &scriptedAPI{issue: hangUp, find: succeed(shown)}).URL, timeout(brief))
		call := issueInBackground(context.Background(), c, parse(t, contentType, body))
		assertions = append(assertions, func() { assert.Equal(t, matches, (<-call).err == nil, body) })
	}
	runAll(assertions)
}

// A look-up shows the newest payment only. If another one began later, the call's own may
// exist all the same. An answer that there is none would lead to a second barcode.
func TestNewerPaymentLeavesOutcomeUnknown(t *testing.T) {
	t.Parallel()
	now := time.Now()
	payment := func(member string, started time.Time) http.HandlerFunc {
		return succeed(fmt.Sprintf(`{"imp_uid":"imp_9","merchant_uid":"o","amount":15000,"status":"ready","started_at":%d,%s}`, started.Unix(), member))
	}
	var assertions []func()
	for name, tc := range map[string]struct {
		find http.HandlerFunc
		want error
	}{
		"none":                    {missing, client.ErrNotAPI},
		"an older one":            {payment(`"name":"other"`, now.Add(-time.Minute)), client.ErrNotAPI},
		"another call's":          {payment(`"name":"other"`, now), client.ErrOutcomeUnknown},
		"by card":                 {payment(`"pay_method":"card"`, now), client.ErrOutcomeUnknown},
		"void meanwhile":          {payment(`"status":"cancelled"`, now), client.ErrOutcomeUnknown},
		"failed":                  {payment(`"status":"failed"`, now), client.ErrOutcomeUnknown},
		"of another amount":       {found("o", "16000", now), client.ErrOutcomeUnknown},
		"a start that is nowhere": {payment(`"started_at":null`, now), client.ErrOutcomeUnknown},
	} {
		c := newClient(t, newServer(t, &scriptedAPI{issue: page(403), find: tc.find}).URL, timeout(brief))
		call := issueInBackground(context.Background(), c, order(t, "o"))
		assertions = append(assertions, func() {
			r := <-call
			assert.ErrorIs(t, r.err, tc.want, name)
			assert.Equal(t, errors.Is(tc.want, client.ErrOutcomeUnknown), errors.Is(r.err, client.ErrOutcomeUnknown), name)
		})
	}
	runAll(assertions)
}

func TestLookUpMatchesOwnPaymentOnly(t *testing.T) {
	t.Parallel()
	var assertions []func()
	apiNow := time.Now().Add(time.Hour) // the API's clock differs from the client's
	clock := func() time.Time { return apiNow }
	for _, tc := range []struct {
		name    string
		find    http.HandlerFunc
		matches bool
	}{
		{"the own payment", found("o", "15000", apiNow), true},
		{"the own payment, the amount written otherwise", found("o", `"15000.00"`, apiNow), true},
		{"the own payment, the amount with a float's error", found("o", "14999.999999999998", apiNow), true},
		{"older", found("o", "15000", apiNow.Add(-time.Minute)), false},
		{"much older, though newer than our clock", found("o", "15000", apiNow.Add(-30*time.Minute)), false},
		{"another amount", found("o", "15001", apiNow), false},
		{"another order", found("O", "15000", apiNow), false},
		{"none", missing, false},
	} {
		api := &scriptedAPI{now: clock, issue: hangUp, find: tc.find}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		assertions = append(assertions, func() {
			r := <-call
			assert.EqualValues(t, 1, api.posts.Load(), tc.name)
			if !tc.matches {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, tc.name)
				return
			}
			require.NoError(t, r.err, tc.name)
			p, err := r.resp.Payment()
			require.NoError(t, err, tc.name)
			assert.Equal(t, "imp_old", p.ImpUID, tc.name)
			assert.True(t, r.resp.Recovered, tc.name)
		})
	}
	runAll(assertions)
}

// A payment that was voided a moment ago must not be taken for the one that the call
// made: the app would show a barcode that cannot be paid.
func TestLookUpRejectsVoidedPayment(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{}, timeout(brief))
	ctx := context.Background()
	p, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
	require.NoError(t, err)
	_, err = c.Void(ctx, p.ImpUID)
	require.NoError(t, err)
	inject(t, e, emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropBefore})
	again, err := c.Issue(ctx, &client.IssueRequest{MerchantUID: "o", Amount: "15000"})
	require.ErrorIs(t, err, client.ErrOutcomeUnknown)
	assert.Nil(t, again)
}

// If a look-up finds something that it cannot read, there may be a payment.
func TestIssueNotRepeatedAfterUnreadableLookUp(t *testing.T) {
	t.Parallel()
	var assertions []func()
	now := time.Now().Unix()
	for name, response := range map[string]string{
		"null":          `null`,
		"no payment":    `{}`,
		"unlike itself": fmt.Sprintf(`{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,"status":"ready","started_at":%d,"promotion":[]}`, now),
	} {
		api := &scriptedAPI{issue: hangUp, find: succeed(response)}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		assertions = append(assertions, func() {
			if r := <-call; r.err == nil {
				assert.True(t, r.resp.Recovered, name)
			} else {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			}
			assert.EqualValues(t, 1, api.posts.Load(), name)
		})
	}
	runAll(assertions)
}

// A payment of this order and amount with an unknown status, or with a start that cannot
// be read, may be the call's own.
func TestIssueNotRepeatedAfterUnclearLookUp(t *testing.T) {
	t.Parallel()
	var assertions []func()
	now := time.Now().Unix()
	for name, members := range map[string]string{
		"new state":       fmt.Sprintf(`"status":"pending","started_at":%d`, now),
		"no state":        fmt.Sprintf(`"status":null,"started_at":%d`, now),
		"no start":        `"status":"ready","started_at":null`,
		"start as a text": fmt.Sprintf(`"status":"ready","started_at":%q`, time.Unix(now, 0).Format(time.RFC3339)),
	} {
		api := &scriptedAPI{issue: hangUp, find: succeed(`{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,` + members + `}`)}
		call := issueInBackground(context.Background(), newClient(t, newServer(t, api).URL, timeout(brief)), order(t, "o"))
		assertions = append(assertions, func() {
			if r := <-call; r.err == nil {
				assert.True(t, r.resp.Recovered, name)
			} else {
				assert.ErrorIs(t, r.err, client.ErrOutcomeUnknown, name)
			}
			assert.EqualValues(t, 1, api.posts.Load(), name)
		})
	}
	runAll(assertions)
}
