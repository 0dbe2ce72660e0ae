package webhook_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

const documented = `{ "event": "Galaxia.Cvs.Confirm", "imp_uid": "imp_123412341234", "merchant_uid": "asdfasdfasdf", "status": "ready", "extra": { "barcode": "11222222", "payType": "card" } }`

func TestParseConfirm(t *testing.T) {
	t.Parallel()
	want := webhook.Confirm{ImpUID: "imp_123412341234", MerchantUID: "asdfasdfasdf", Barcode: "11222222", PayType: "card"}
	got, err := webhook.ParseConfirm("application/json", []byte(documented))
	require.NoError(t, err)
	assert.Equal(t, want, got)

	got, err = webhook.ParseConfirm("application/x-www-form-urlencoded",
		[]byte("event=Galaxia.Cvs.Confirm&imp_uid=imp_123412341234&merchant_uid=asdfasdfasdf&status=ready&extra[barcode]=11222222&extra[payType]=card"))
	require.NoError(t, err)
	assert.Equal(t, want, got)

	got, err = webhook.ParseConfirm("application/json",
		[]byte(`{"event":"Galaxia.Cvs.Confirm","imp_uid":"imp_1","merchant_uid":"주문 1","status":"ready","added":{"later":1}}`))
	require.NoError(t, err)
	assert.Equal(t, webhook.Confirm{ImpUID: "imp_1", MerchantUID: "주문 1"}, got, "extra is optional, new fields are tolerated")

	got, err = webhook.ParseConfirm("application/json", []byte(strings.Replace(documented, `"11222222"`, `11222222`, 1)))
	require.NoError(t, err)
	assert.Equal(t, want, got, "a barcode may come as a number")

	got, err = webhook.ParseConfirm("application/json", []byte(strings.Replace(documented, `"11222222"`, `"1\n2"`, 1)))
	require.NoError(t, err)
	assert.Empty(t, got.Barcode, "a barcode with a line feed is left out")
}

// How the customer pays decides nothing here, so that a new kind must not cost a sale.
func TestParseConfirmKeepsPayType(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		`"cash"`: "cash", `"CARD"`: "CARD", `"간편결제"`: "간편결제", `""`: "", `null`: "", `["card"]`: "", `1`: "", `{"kind":"card"}`: "",
		`"a\u000ab"`: "", `"` + strings.Repeat("x", 32) + `"`: strings.Repeat("x", 32), `"` + strings.Repeat("x", 33) + `"`: "",
	} {
		got, err := webhook.ParseConfirm(strict.JSON, []byte(strings.Replace(documented, `"card"`, sent, 1)))
		require.NoError(t, err, sent)
		assert.Equal(t, want, got.PayType, sent)
	}
	got, err := webhook.ParseConfirm(strict.Form, []byte("event=Galaxia.Cvs.Confirm&imp_uid=i&merchant_uid=m&status=ready&extra[payType]=point"))
	require.NoError(t, err)
	assert.Equal(t, "point", got.PayType)
}

func TestParseConfirmReadsAnAmount(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{"15000": "15000", `"15000.0"`: "15000", "1.5e4": "15000", "15000.5": "15000.5", "null": "", `""`: "", "-1": "-1"} {
		got, err := webhook.ParseConfirm(strict.JSON, []byte(strings.Replace(documented, "{", `{"amount":`+sent+",", 1)))
		require.NoError(t, err, sent)
		assert.Equal(t, want, got.Amount, sent)
	}
	got, err := webhook.ParseConfirm(strict.Form, []byte("event=Galaxia.Cvs.Confirm&imp_uid=i&merchant_uid=m&status=ready&amount=15000"))
	require.NoError(t, err)
	assert.Equal(t, "15000", got.Amount)
	for _, sent := range []string{`"15,000"`, "true", "[15000]", "{}", `" 15000"`} {
		_, err := webhook.ParseConfirm(strict.JSON, []byte(strings.Replace(documented, "{", `{"amount":`+sent+",", 1)))
		assert.ErrorContains(t, err, "amount is not a number", sent)
	}
	_, err = webhook.ParseConfirm(strict.JSON, []byte(strings.Replace(documented, "{", `{"Amount":1,`, 1)))
	require.ErrorContains(t, err, "could be taken for amount")
	_, err = webhook.ParseConfirm(strict.Form, []byte("event=Galaxia.Cvs.Confirm&imp_uid=i&merchant_uid=m&status=ready&amount[]=15000"))
	assert.ErrorContains(t, err, "amount is not a number")
}

func TestParseConfirmRejects(t *testing.T) {
	t.Parallel()
	swap := func(old, replacement string) string {
		require.Contains(t, documented, old)
		return strings.Replace(documented, old, replacement, 1)
	}
	for name, c := range map[string]struct{ body, want string }{
		"no event":             {swap(`"event"`, `"x"`), "event is not"},
		"another event":        {swap("Cvs.Confirm", "Cvs.Paid"), "event is not"},
		"event as a list":      {swap(`"Galaxia.Cvs.Confirm"`, `["Galaxia.Cvs.Confirm"]`), "event is not"},
		"paid":                 {swap("ready", "paid"), "status is not ready"},
		"no status":            {swap(`"status": "ready",`, ``), "status is not ready"},
		"no imp_uid":           {swap(`"imp_uid": "imp_123412341234",`, ``), "imp_uid is missing"},
		"imp_uid a number":     {swap(`"imp_123412341234"`, `123`), "imp_uid must be a string, not a number"},
		"imp_uid too long":     {swap("imp_123412341234", strings.Repeat("1", 65)), "imp_uid is longer than 64"},
		"no merchant_uid":      {swap(`"merchant_uid": "asdfasdfasdf",`, ``), "merchant_uid is missing"},
		"blank merchant_uid":   {swap("asdfasdfasdf", "  "), "merchant_uid is missing"},
		"merchant_uid long":    {swap("asdfasdfasdf", strings.Repeat("가", 41)), "merchant_uid is longer than 40"},
		"CR LF":                {swap("asdfasdfasdf", `a\r\nX-Cvs-Amount: 1`), "control character"},
		"NUL":                  {swap("asdfasdfasdf", `a\u0000`), "control character"},
		"space before":         {swap("asdfasdfasdf", " asdfasdfasdf"), "merchant_uid has a space at an end"},
		"space behind":         {swap("imp_123412341234", `imp_123412341234\u3000`), "imp_uid has a space at an end"},
		"extra is text":        {swap(`{ "barcode": "11222222", "payType": "card" }`, `"x"`), "extra is not an object"},
		"payType twice":        {swap(`"payType": "card"`, `"payType":"card","paytype":"cash"`), "is given twice"},
		"merchant_uid twice":   {swap(`"status"`, `"Merchant_uid":"b","status"`), "is given twice"},
		"payType lookalike":    {swap("payType", "paytype"), `field "extra.paytype" could be taken for payType`},
		"a lookalike of extra": {swap(`"extra"`, `"Extra"`), "could be taken for extra"},
	} {
		_, err := webhook.ParseConfirm("application/json", []byte(c.body))
		assert.ErrorContains(t, err, c.want, name)
	}
	_, err := webhook.ParseConfirm("application/x-www-form-urlencoded", []byte("event=Galaxia.Cvs.Confirm&imp_uid=i&merchant_uid=m&status=ready&extra[PayType]=x"))
	require.ErrorContains(t, err, `field "extra.PayType" could be taken for payType`)
	_, err = webhook.ParseConfirm("text/plain", []byte(documented))
	assert.ErrorIs(t, err, strict.ErrMediaType)
}

// FuzzParseConfirm compares an accepted webhook with what encoding/json reads.
// FuzzParseConfirm: what was read is what any other parser reads, of JSON and of forms.
func FuzzParseConfirm(f *testing.F) {
	f.Add(false, []byte(documented))
	f.Add(false, []byte(strings.Replace(documented, "extra", "Extra", 1)))
	f.Add(true, []byte("event=Galaxia.Cvs.Confirm&imp_uid=imp_1&merchant_uid=%EC%A3%BC%EB%AC%B8+1&status=ready&extra[barcode]=1&extra[payType]=card"))
	f.Add(true, []byte("event=Galaxia.Cvs.Confirm&imp_uid=imp_1&merchant_uid=a&merchant%5Fuid=b&status=ready"))
	f.Fuzz(func(t *testing.T, isForm bool, body []byte) {
		contentType := strict.JSON
		if isForm {
			contentType = strict.Form
		}
		c, err := webhook.ParseConfirm(contentType, body)
		if err != nil {
			return
		}
		if isForm {
			compareForm(t, body, c)
			return
		}
		compareJSON(t, body, c)
	})
}

func compareForm(t *testing.T, body []byte, c webhook.Confirm) {
	t.Helper()
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Fatalf("net/url refuses %q: %v", body, err)
	}
	for name, want := range map[string]string{
		"event": webhook.EventConfirm, "status": webhook.StatusReady, "imp_uid": c.ImpUID, "merchant_uid": c.MerchantUID,
		"extra[payType]": c.PayType, "amount": c.Amount,
	} {
		if want == "" { // left out, or of no use
			continue
		}
		if name == "amount" && len(form[name]) == 1 && decimal.Equal(form.Get(name), want) {
			continue
		}
		if got := form[name]; len(got) != 1 || got[0] != want {
			t.Fatalf("read %+v, net/url reads %q in %q", c, got, name)
		}
	}
}

// plain returns the text of a string, or a number as it is written.
func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

func compareJSON(t *testing.T, body []byte, c webhook.Confirm) {
	t.Helper()
	var other struct {
		Event       string          `json:"event"`
		ImpUID      string          `json:"imp_uid"`
		MerchantUID string          `json:"merchant_uid"`
		Status      string          `json:"status"`
		Amount      json.RawMessage `json:"amount"`
		Extra       struct {
			Barcode string `json:"barcode"`
			PayType string `json:"payType"`
		} `json:"extra"`
	}
	_ = json.Unmarshal(body, &other) // what does not fit, such as a numeric barcode, stays empty
	if other.Event != webhook.EventConfirm || other.Status != webhook.StatusReady || other.ImpUID != c.ImpUID ||
		other.MerchantUID != c.MerchantUID || (other.Extra.Barcode != "" && c.Barcode != "" && other.Extra.Barcode != c.Barcode) || c.PayType != "" && other.Extra.PayType != c.PayType ||
		c.Amount != "" && !decimal.Equal(plain(other.Amount), c.Amount) {
		t.Fatalf("read %+v, encoding/json reads %+v", c, other)
	}
	last := map[string]string{}
	gjson.ParseBytes(body).ForEach(func(k, v gjson.Result) bool {
		last[k.String()] = v.String()
		return true
	})
	for name, want := range map[string]string{
		"event": webhook.EventConfirm, "status": webhook.StatusReady, "imp_uid": c.ImpUID, "merchant_uid": c.MerchantUID, "extra.payType": c.PayType,
	} {
		if want == "" { // a kind of payment that was left out, or of no use
			continue
		}
		if got := gjson.GetBytes(body, name).String(); got != want || name != "extra.payType" && last[name] != want {
			t.Fatalf("read %+v, gjson reads %q first and %q last in %q", c, got, last[name], name)
		}
	}
}

// Reading a webhook is strict.Parse, and a search for two members of extra.
func BenchmarkParseConfirm(b *testing.B) {
	body := []byte(documented)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := webhook.ParseConfirm(strict.JSON, body); err != nil {
			b.Fatal(err)
		}
	}
}
