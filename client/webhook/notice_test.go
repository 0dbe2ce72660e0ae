package webhook_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/webhook"
)

const cancelNotice = `{"imp_uid":"imp_123412341234","merchant_uid":"주문 1","status":"cancelled","cancellation_id":"can_1+2"}`

func TestParseNotice(t *testing.T) {
	t.Parallel()
	want := webhook.Notice{ImpUID: "imp_123412341234", MerchantUID: "주문 1", Status: "cancelled", CancellationID: "can_1+2"}
	got, err := webhook.ParseNotice("application/json; charset=utf-8", []byte(cancelNotice))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	got, err = webhook.ParseNotice(strict.Form, []byte("imp_uid=imp_123412341234&merchant_uid=%EC%A3%BC%EB%AC%B8+1&status=cancelled&cancellation_id=can_1%2B2"))
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = webhook.ParseNotice("text/plain", []byte(cancelNotice))
	require.ErrorIs(t, err, strict.ErrMediaType)
}

// What no decision depends on must not cost a notice.
func TestParseNoticeLeavesOutWhatItCannotUse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 128)
	word := strings.Repeat("s", 32)
	for sent, want := range map[string]webhook.Notice{
		`"added":{"later":1}`:               {},
		`"merchant_uid":null`:               {},
		`"merchant_uid":""`:                 {},
		`"merchant_uid":"o"`:                {MerchantUID: "o"},
		`"status":"paid"`:                   {Status: "paid"},
		`"status":"partial_cancelled"`:      {Status: "partial_cancelled"},
		`"status":"` + word + `"`:           {Status: word},
		`"status":"s` + word + `"`:          {},
		`"status":"Paid"`:                   {},
		`"status":"paid "`:                  {},
		`"status":"결제"`:                     {},
		`"status":"p\u000aaid"`:             {},
		`"status":""`:                       {},
		`"status":null`:                     {},
		`"status":1`:                        {},
		`"status":["paid"]`:                 {},
		`"cancellation_id":"` + long + `"`:  {CancellationID: long},
		`"cancellation_id":"x` + long + `"`: {},
		`"cancellation_id":" 1"`:            {},
		`"cancellation_id":"1\u00002"`:      {},
		`"cancellation_id":null`:            {},
		`"cancellation_id":{}`:              {},
	} {
		want.ImpUID = "imp_1"
		got, err := webhook.ParseNotice(strict.JSON, []byte(`{"imp_uid":"imp_1",`+sent+`}`))
		require.NoError(t, err, sent)
		assert.Equal(t, want, got, sent)
		var members map[string]string
		if json.Unmarshal([]byte("{"+sent+"}"), &members) != nil {
			continue // a form has strings only
		}
		form := url.Values{"imp_uid": {"imp_1"}}
		for name, value := range members {
			form.Set(name, value)
		}
		got, err = webhook.ParseNotice(strict.Form, []byte(form.Encode()))
		require.NoError(t, err, sent)
		assert.Equal(t, want, got, sent)
	}
}

func TestParseNoticeRejects(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`:               "imp_uid is missing",
		`{"imp_uid":""}`:   "imp_uid is missing",
		`{"imp_uid":"  "}`: "imp_uid is missing",
		`{"imp_uid":7}`:    "imp_uid must be a string, not a number",
		`{"imp_uid":"` + strings.Repeat("1", 65) + `"}`:                    "imp_uid is longer than 64",
		`{"imp_uid":"a\u0000"}`:                                            "imp_uid has a control character",
		`{"imp_uid":"a "}`:                                                 "imp_uid has a space at an end",
		`{"imp_uid":"a","imp_uid":"b"}`:                                    "is given twice",
		`{"imp_uid":"a","Status":"paid"}`:                                  "could be taken for status",
		`{"imp_uid":"a","merchant_uid":1}`:                                 "merchant_uid must be a string, not a number",
		`{"imp_uid":"a","merchant_uid":["o"]}`:                             "merchant_uid must be a string, not an array",
		`{"imp_uid":"a","merchant_uid":"o\r\n"}`:                           "merchant_uid has a control character",
		`{"imp_uid":"a","merchant_uid":" "}`:                               "merchant_uid is missing",
		`{"imp_uid":"a","merchant_uid":"` + strings.Repeat("가", 41) + `"}`: "merchant_uid is longer than 40",
		documented:                     "a body with an event is no notice",
		`{"imp_uid":"a","event":null}`: "a body with an event is no notice",
		`{"imp_uid":"a","Event":"x"}`:  "could be taken for event",
		`[{"imp_uid":"a"}]`:            "object",
	} {
		_, err := webhook.ParseNotice(strict.JSON, []byte(body))
		assert.ErrorContains(t, err, want, body)
	}
	for body, want := range map[string]string{
		"imp_uid[]=a":                   "imp_uid is missing",
		"imp_uid=a&merchant_uid[]=o":    "merchant_uid is missing",
		"imp_uid=a&event=":              "a body with an event is no notice",
		"imp_uid=a&event[]=x":           "a body with an event is no notice",
		"imp_uid=a&cancellation.id=x":   "could be taken for cancellation_id",
		"imp_uid=a&merchant%5Fuid=o%0a": "merchant_uid has a control character",
	} {
		_, err := webhook.ParseNotice(strict.Form, []byte(body))
		assert.ErrorContains(t, err, want, body)
	}
}

// FuzzNotice: what was read is what any other parser reads, and the same as JSON and as a form.
func FuzzNotice(f *testing.F) {
	f.Add(false, []byte(cancelNotice))
	f.Add(false, []byte(`{"imp_uid":"i","status":"Paid","merchant_uid":null}`))
	f.Add(false, []byte(`{"imp_uid":"\u0069","event":1}`))
	f.Add(true, []byte("imp_uid=imp_1&merchant_uid=%EC%A3%BC%EB%AC%B8+1&status=paid&cancellation_id=1"))
	f.Add(true, []byte("imp_uid=imp_1&event[]=&status[]=paid"))
	f.Fuzz(func(t *testing.T, isForm bool, body []byte) {
		contentType := strict.JSON
		if isForm {
			contentType = strict.Form
		}
		n, err := webhook.ParseNotice(contentType, body)
		if err != nil {
			return
		}
		read := map[string]string{"imp_uid": n.ImpUID, "merchant_uid": n.MerchantUID, "status": n.Status, "cancellation_id": n.CancellationID}
		form := url.Values{}
		for name, value := range read {
			if value != "" {
				compareWithOthers(t, isForm, body, name, value)
				form.Set(name, value)
			}
		}
		asJSON, err := json.Marshal(read)
		require.NoError(t, err)
		for contentType, again := range map[string][]byte{strict.JSON: asJSON, strict.Form: []byte(form.Encode())} {
			got, err := webhook.ParseNotice(contentType, again)
			require.NoError(t, err, "%s", again)
			require.Equal(t, n, got, "%s", again)
		}
	})
}

// compareWithOthers compares a value that was read with what other parsers read.
func compareWithOthers(t *testing.T, isForm bool, body []byte, name, value string) {
	t.Helper()
	if isForm {
		form, err := url.ParseQuery(string(body))
		require.NoError(t, err)
		require.Equal(t, []string{value}, form[name])
		require.False(t, form.Has("event"))
		return
	}
	var other map[string]any
	require.NoError(t, json.Unmarshal(body, &other))
	require.Equal(t, value, other[name])
	require.NotContains(t, other, "event")
	require.Equal(t, value, gjson.GetBytes(body, name).String())
}
