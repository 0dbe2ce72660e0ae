package client_test

// This file holds tests of the API's rules for POST /cvs.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// post sends a body to POST /cvs without any validation, and returns the API's refusal.
func post(t testing.TB, c *client.Client, contentType, body string) (*client.Payment, error) {
	t.Helper()
	resp, err := c.Do(context.Background(), client.Request{Method: http.MethodPost, Path: "/cvs", ContentType: contentType, Body: []byte(body)})
	require.NoError(t, err)
	return resp.Payment()
}

// jsonBody returns a valid request with further members, or with others instead.
func jsonBody(member string) string {
	const merchantUID, amount = `"merchant_uid":"주문-1"`, `"amount":15000`
	switch name, _, _ := strings.Cut(member, ":"); name {
	case `"merchant_uid"`:
		return "{" + amount + "," + member + "}"
	case `"amount"`:
		return "{" + merchantUID + "," + member + "}"
	}
	return "{" + merchantUID + "," + amount + "," + member + "}"
}

func formBody(field string) string {
	const merchantUID, amount = "merchant_uid=%EC%A3%BC%EB%AC%B8-1", "amount=15000"
	switch name, _, _ := strings.Cut(field, "="); name {
	case "merchant_uid":
		return amount + "&" + field
	case "amount":
		return merchantUID + "&" + field
	}
	return merchantUID + "&" + amount + "&" + field
}

func quote(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}

func TestLengthsAreInCharacters(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for field, limit := range map[string]int{
		"merchant_uid": 40, "name": 40, "buyer_name": 16, "buyer_email": 64, "buyer_tel": 16, "buyer_addr": 128, "buyer_postcode": 8,
	} {
		for _, letter := range []string{"a", "가", "🏪"} {
			for _, length := range []int{1, limit - 1, limit, limit + 1, 3 * limit} {
				text := strings.Repeat(letter, length)
				for contentType, body := range map[string]string{
					strict.JSON: jsonBody(`"` + field + `":` + quote(text)),
					strict.Form: formBody(field + "=" + url.QueryEscape(text)),
				} {
					_, err := client.ParseIssue(contentType, []byte(body), longAgo)
					_, refusal := post(t, c, contentType, body)
					if length <= limit {
						assert.NoError(t, err, body)
						assert.NoError(t, refusal, body)
						continue
					}
					want := fmt.Sprintf("%s has %d characters, at most %d are allowed", field, length, limit)
					var invalid *client.InvalidError
					if assert.ErrorAs(t, err, &invalid, body) {
						assert.Equal(t, []string{want}, invalid.Problems)
					}
					assert.Error(t, refusal, "the API has the same limit: %s", body)
				}
			}
		}
	}
	for _, field := range []string{"barcode", "channel_key"} {
		body := jsonBody(`"` + field + `":` + quote(strings.Repeat("가", 1000)))
		_, err := client.ParseIssue(strict.JSON, []byte(body), longAgo)
		assert.NoError(t, err, "no limit is documented for %s", field)
	}
}

const notANumber = "amount must be a number greater than 0 such as 15000, without commas and currency"

// rules are requests by the rules of POST /cvs, with what is wrong with each:
// nothing, the one problem of an InvalidError, or "unreadable: " and why the
// body as a whole is refused.
var rules = []struct {
	contentType, body, problem string
}{
	{strict.JSON, jsonBody(`"merchant_uid":"a b/c?d#e%41"`), ""},
	{strict.JSON, jsonBody(`"merchant_uid":" "`), "merchant_uid is required"},
	{strict.JSON, jsonBody(`"merchant_uid":"　"`), "merchant_uid is required"}, // an ideographic space
	{strict.JSON, jsonBody(`"merchant_uid":""`), "merchant_uid is required"},
	{strict.JSON, jsonBody(`"merchant_uid":null`), "merchant_uid is required"},
	{strict.JSON, `{"amount":15000}`, "merchant_uid is required"},
	{strict.JSON, jsonBody(`"merchant_uid":20260001`), "merchant_uid must be a string, not a number: put it in quotes"},
	{strict.JSON, jsonBody(`"merchant_uid":"a\nb"`), "merchant_uid has a control character"},
	{strict.JSON, jsonBody(`"merchant_uid":"a\u0085b"`), "merchant_uid has a control character"},
	{strict.JSON, jsonBody(`"merchant_uid":" a"`), "merchant_uid begins or ends with a space"},
	{strict.JSON, jsonBody(`"merchant_uid":"a　"`), "merchant_uid begins or ends with a space"},
	{strict.JSON, jsonBody(`"merchant_uid":"..."`), ""},
	{strict.JSON, jsonBody(`"merchant_uid":"a/..b/.c"`), ""},
	{strict.JSON, jsonBody(`"merchant_uid":"."`), `merchant_uid must not have "." or ".." between slashes`},
	{strict.JSON, jsonBody(`"merchant_uid":"a/../b"`), `merchant_uid must not have "." or ".." between slashes`},
	{strict.JSON, jsonBody(`"merchant_uid":"a\\.."`), `merchant_uid must not have "." or ".." between slashes`},
	{strict.Form, "amount=15000", "merchant_uid is required"},
	{strict.Form, formBody("merchant_uid="), "merchant_uid is required"},
	{strict.Form, formBody("merchant_uid=+"), "merchant_uid is required"},
	{strict.Form, formBody("merchant_uid=a%0D%0Ab"), "merchant_uid has a control character"},

	{strict.JSON, jsonBody(`"amount":1`), ""},
	{strict.JSON, jsonBody(`"amount":15000.00`), ""},
	{strict.JSON, jsonBody(`"amount":1.5e4`), ""},
	{strict.JSON, jsonBody(`"amount":0.01`), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.JSON, jsonBody(`"amount":5e-324`), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.JSON, jsonBody(`"amount":1e308`), "amount is more than 9007199254740992, beyond which the API's numbers are not exact"},
	{strict.JSON, jsonBody(`"amount":"15000"`), ""},
	{strict.JSON, jsonBody(`"amount":0`), "amount must be a number greater than 0"},
	{strict.JSON, jsonBody(`"amount":0.00`), "amount must be a number greater than 0"},
	{strict.JSON, jsonBody(`"amount":-0`), "amount must be a number greater than 0"},
	{strict.JSON, jsonBody(`"amount":-1`), "amount must be a number greater than 0"},
	{strict.JSON, jsonBody(`"amount":-0.01`), "amount must be a number greater than 0"},
	{strict.JSON, jsonBody(`"amount":"15,000"`), notANumber},
	{strict.JSON, jsonBody(`"amount":"15000원"`), notANumber},
	{strict.JSON, jsonBody(`"amount":" 15000"`), notANumber},
	{strict.JSON, jsonBody(`"amount":"0"`), "amount must be a number greater than 0"},
	{strict.JSON, jsonBody(`"amount":"NaN"`), notANumber},
	{strict.JSON, jsonBody(`"amount":"Infinity"`), notANumber},
	{strict.JSON, jsonBody(`"amount":"0x3A98"`), notANumber},
	{strict.JSON, jsonBody(`"amount":"1e999"`), notANumber},
	{strict.JSON, jsonBody(`"amount":"1e-999"`), notANumber},
	{strict.JSON, jsonBody(`"amount":true`), "amount must be a number greater than 0, not a boolean"},
	{strict.JSON, jsonBody(`"amount":[15000]`), "amount must be a number greater than 0, not an array"},
	{strict.JSON, jsonBody(`"amount":{"krw":15000}`), "amount must be a number greater than 0, not an object"},
	{strict.JSON, jsonBody(`"amount":null`), "amount is required, as one number"},
	{strict.JSON, jsonBody(`"amount":""`), "amount is required, as one number"},
	{strict.JSON, `{"merchant_uid":"o"}`, "amount is required, as one number"},
	{strict.JSON, jsonBody(`"amount":1e999`), "unreadable: amount"},
	{strict.JSON, jsonBody(`"amount":1e-999`), "unreadable: amount"},
	{strict.JSON, jsonBody(`"amount":NaN`), "unreadable: JSON"},
	{strict.JSON, jsonBody(`"amount":+1`), "unreadable: JSON"},
	{strict.JSON, jsonBody(`"amount":015000`), "unreadable: JSON"},
	{strict.JSON, jsonBody(`"amount":15,000`), "unreadable: JSON"},
	{strict.Form, formBody("amount=0.01"), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.Form, formBody("amount=0"), "amount must be a number greater than 0"},
	{strict.Form, formBody("amount=-1"), "amount must be a number greater than 0"},
	{strict.Form, formBody("amount=+15000"), notANumber},
	{strict.Form, formBody("amount=15,000"), notANumber},
	{strict.Form, formBody("amount=1e999"), notANumber},
	{strict.Form, formBody("amount=NaN"), notANumber},
	{strict.Form, formBody("amount="), "amount is required, as one number"},
	{strict.Form, "merchant_uid=o&amount[]=15000", "amount is required, as one number"},
	{strict.Form, "merchant_uid=o&amount[krw]=15000", "amount is required, as one number"},

	{strict.JSON, jsonBody(`"expired_at":1`), "expired_at has passed: the barcode could not be paid"},
	{strict.JSON, jsonBody(`"expired_at":1790000000`), ""},
	{strict.JSON, jsonBody(`"expired_at":"1790000000"`), ""},
	{strict.JSON, jsonBody(`"expired_at":1700000000`), ""}, // longAgo
	{strict.JSON, jsonBody(`"expired_at":1699999999`), "expired_at has passed: the barcode could not be paid"},
	{strict.Form, formBody("expired_at=1500000000"), "expired_at has passed: the barcode could not be paid"},
	{strict.JSON, jsonBody(`"amount":15000.0`), ""},
	{strict.JSON, jsonBody(`"amount":"15000"`), ""},
	{strict.JSON, jsonBody(`"amount":1.5e4`), ""},
	{strict.JSON, jsonBody(`"amount":15000.000000000002`), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.JSON, jsonBody(`"amount":"14999.999999999998"`), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.JSON, jsonBody(`"amount":150001e-1`), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.JSON, jsonBody(`"amount":15000.000000000000000001`), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.Form, formBody("amount=15000.5"), "amount has a fraction of a won, and there is none: round it first; the usual cause is floating-point arithmetic"},
	{strict.JSON, jsonBody(`"amount":9007199254740992`), ""},
	{strict.JSON, jsonBody(`"amount":9007199254740993`), "amount is more than 9007199254740992, beyond which the API's numbers are not exact"},
	{strict.JSON, jsonBody(`"expired_at":99999999999`), ""},
	{strict.JSON, jsonBody(`"expired_at":100000000000`), "expired_at must be in Unix seconds; this looks like milliseconds"},
	{strict.JSON, jsonBody(`"expired_at":1790000000000`), "expired_at must be in Unix seconds; this looks like milliseconds"},
	{strict.JSON, jsonBody(`"expired_at":"1790000000000"`), "expired_at must be in Unix seconds; this looks like milliseconds"},
	{strict.JSON, jsonBody(`"expired_at":9223372036854775808`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":0`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":-1790000000`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":1790000000.5`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":1790000000.0`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":1.79e9`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":"2026-10-01T00:00:00Z"`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":"01790000000"`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":"+1790000000"`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":true`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":[]`), "expired_at must be a whole number of Unix seconds"},
	{strict.JSON, jsonBody(`"expired_at":{}`), "expired_at must be a whole number of Unix seconds"},
	{strict.Form, formBody("expired_at=1790000000"), ""},
	{strict.Form, formBody("expired_at=1790000000000"), "expired_at must be in Unix seconds; this looks like milliseconds"},
	{strict.Form, formBody("expired_at=1790000000.5"), "expired_at must be a whole number of Unix seconds"},
	{strict.Form, formBody("expired_at=-1"), "expired_at must be a whole number of Unix seconds"},

	{strict.JSON, jsonBody(`"pg":"galaxia"`), ""},
	{strict.JSON, jsonBody(`"pg":"galaxia.M1234567"`), ""},
	{strict.JSON, jsonBody(`"pg":"galaxia.상점-1"`), ""},
	{strict.Form, formBody("pg=galaxia.M1"), ""},
	{strict.JSON, jsonBody(`"pg":"Galaxia"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":"galaxia."`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":"galaxia.a.b"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":"galaxia.a b"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":"galaxia\n"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":" galaxia"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":"galaxia_x"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.JSON, jsonBody(`"pg":"kcp"`), `pg must be "galaxia" or "galaxia.{merchant id}"`},
	{strict.Form, formBody("pg=galaxia.+"), `pg must be "galaxia" or "galaxia.{merchant id}"`},

	{strict.JSON, jsonBody(`"confirm_url":"https://shop.example/확인?a=1&b=2#c"`), ""},
	{strict.JSON, jsonBody(`"confirm_url":"HTTP://127.0.0.1:8080"`), ""},
	{strict.Form, formBody("confirm_url=https%3A%2F%2Fshop.example%2F%3Fa%3D1"), ""},
	{strict.JSON, jsonBody(`"confirm_url":"/cvs/confirm"`), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":"shop.example/cvs"`), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":"//shop.example/cvs"`), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":"ftp://shop.example"`), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":"https:///cvs"`), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":"https://shop example/"`), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":"javascript:alert(1)"`), "confirm_url must be an absolute http or https URL"},
	{strict.Form, formBody("confirm_url=shop.example"), "confirm_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"confirm_url":["https://shop.example"]`), "confirm_url must be a string, not an array"},
	{strict.Form, formBody("confirm_url[]=https://shop.example"), "confirm_url must be one text, not a list or object"},

	{strict.JSON, jsonBody(`"notice_url":"https://shop.example/1"`), ""},
	{strict.JSON, jsonBody(`"notice_url":["https://shop.example/1","http://shop.example/2"]`), ""},
	{strict.JSON, jsonBody(`"notice_url":[]`), ""},
	{strict.Form, formBody("notice_url=https://shop.example/1"), ""},
	{strict.Form, formBody("notice_url[]=https://shop.example/1"), ""},
	{strict.Form, formBody("notice_url[]=https://shop.example/1&notice_url%5B%5D=https://shop.example/2"), ""},
	{strict.Form, formBody("notice_url[0]=https://shop.example/1"), ""},
	{strict.Form, formBody("notice_url%5B0%5D=https://shop.example/1&notice_url%5B1%5D=https://shop.example/2"), ""},
	{strict.Form, formBody("notice_url[1]=https://shop.example/1"), "notice_url must be a URL or a list of URLs"},
	{strict.Form, formBody("notice_url[0]=https://shop.example/1&notice_url[a]=https://shop.example/2"), "notice_url must be a URL or a list of URLs"},
	{strict.Form, formBody("notice_url[0]=shop.example"), "notice_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"notice_url":"shop.example"`), "notice_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"notice_url":["https://shop.example","/notice"]`), "notice_url must be an absolute http or https URL"},
	{strict.JSON, jsonBody(`"notice_url":["https://shop.example",1]`), "notice_url must be a URL or a list of URLs"},
	{strict.JSON, jsonBody(`"notice_url":["https://shop.example",null]`), "notice_url must be a URL or a list of URLs"},
	{strict.JSON, jsonBody(`"notice_url":{"a":"https://shop.example"}`), "notice_url must be a URL or a list of URLs"},
	{strict.JSON, jsonBody(`"notice_url":1`), "notice_url must be a URL or a list of URLs"},
	{strict.Form, formBody("notice_url=shop.example"), "notice_url must be an absolute http or https URL"},

	{strict.JSON, jsonBody(`"custom_data":["장바구니",1,{"a":null}]`), ""},
	{strict.JSON, jsonBody(`"custom_data":{"장바구니":[1.10,2]}`), ""},
	{strict.JSON, jsonBody(`"custom_data":"글"`), ""},
	{strict.JSON, jsonBody(`"custom_data":false`), ""},
	{strict.Form, formBody("custom_data=%7B%22a%22%3A1%7D"), ""},
	{strict.Form, formBody("custom_data[]=a&custom_data[]=b"), ""},
	{strict.Form, formBody("custom_data[a][b]=c"), ""},
	{strict.JSON, jsonBody(`"custom_data":{"a":1,"A":2}`), "unreadable: custom_data.A"},
	{strict.JSON, jsonBody(`"custom_data":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), "unreadable: nested"},

	{strict.JSON, jsonBody(`"name":"줄\n바꿈"`), ""},
	{strict.JSON, jsonBody(`"name":"a\u0000b"`), "name has a NUL character"},
	{strict.Form, formBody("buyer_addr=a%00b"), "buyer_addr has a NUL character"},
	{strict.Form, formBody("name[ko]=a"), "name must be one text, not a list or object"},
	{strict.JSON, jsonBody(`"new_field":{"a":[1.10]}`), ""},
	{strict.Form, formBody("new_field=1"), ""},

	{strict.JSON, jsonBody(`"Amount":1`), "unreadable: Amount"},
	{strict.JSON, jsonBody(`"\u0061mount":1`), "unreadable: amount"},
	{strict.JSON, jsonBody(`"name":"a","name":"b"`), "unreadable: name"},
	{strict.JSON, jsonBody(`"name":"` + "\xb1\xe8" + `"`), "unreadable: UTF-8"},
	{strict.JSON, jsonBody(`"name":"\ud800"`), "unreadable: surrogate"},
	{strict.JSON, jsonBody(`"name":"a"`) + "{}", "unreadable: JSON"},
	{strict.JSON, ``, "unreadable: JSON"},
	{strict.JSON, `[]`, "unreadable: JSON"},
	{strict.Form, formBody("name=a&name=b"), "unreadable: name"},
	{strict.Form, formBody("merchant.uid=o"), "unreadable: merchant.uid"},
	{strict.Form, formBody("name=%zz"), "unreadable: form"},
	{"text/plain", jsonBody(`"name":"a"`), "unreadable: Content-Type"},
	{"", jsonBody(`"name":"a"`), "unreadable: Content-Type"},
	{"application/json; charset=euc-kr", jsonBody(`"name":"a"`), "unreadable: Content-Type"},
	{"application/json; charset=UTF-8", jsonBody(`"name":"a"`), ""},
}

func TestParseIssueRules(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for _, rule := range rules {
		issue, err := client.ParseIssue(rule.contentType, []byte(rule.body), longAgo)
		if rule.problem == "" {
			if assert.NoError(t, err, rule.body) {
				_, refusal := post(t, c, rule.contentType, rule.body)
				assert.NoError(t, refusal, "the API refuses what passes here: %s", rule.body)
			}
			continue
		}
		assert.Nil(t, issue, rule.body)
		var invalid *client.InvalidError
		if why, unreadable := strings.CutPrefix(rule.problem, "unreadable: "); unreadable {
			if assert.ErrorContains(t, err, why, rule.body) {
				assert.NotErrorAs(t, err, &invalid)
				assert.Equal(t, why == "Content-Type", errors.Is(err, strict.ErrMediaType))
			}
			continue
		}
		if assert.ErrorAs(t, err, &invalid, rule.body) {
			assert.Contains(t, invalid.Problems, rule.problem, rule.body)
			for _, problem := range invalid.Problems { // more than one only if they are about the same
				assert.True(t, strings.HasPrefix(problem, strings.Fields(rule.problem)[0]), "%s: %v", rule.body, invalid.Problems)
			}
		}
		if !slices.ContainsFunc(stricter, func(words string) bool { return strings.Contains(rule.problem, words) }) {
			_, refusal := post(t, c, rule.contentType, rule.body)
			assert.Error(t, refusal, "the emulator accepts what is refused here: %s", rule.body)
		}
	}
}

// stricter are the problems that only the client finds: the API documents no such rule, and the emulator adds none.
var stricter = []string{
	"merchant_uid has a control character", "merchant_uid begins or ends with a space", `merchant_uid must not have "."`,
	"expired_at has passed", "this looks like milliseconds", "amount is more than 9007199254740992",
}

func TestParseIssueValidatesURLsOfFormList(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for _, field := range []string{
		"notice_url[]=javascript:alert(1)",
		"notice_url[]=https://shop.example&notice_url[]=/notice",
	} {
		_, refusal := post(t, c, strict.Form, formBody(field))
		require.Error(t, refusal, "as the API does")
		var invalid *client.InvalidError
		_, err := client.ParseIssue(strict.Form, []byte(formBody(field)), longAgo)
		assert.ErrorAs(t, err, &invalid, field)
	}
}

// If a list of deadlines were ignored, Complete would add a second deadline and sign
// that one.
func TestParseIssueRejectsListOfDeadlines(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for _, field := range []string{"expired_at[]=1790000000", "expired_at[at]=1790000000"} {
		var invalid *client.InvalidError
		_, err := client.ParseIssue(strict.Form, []byte(formBody(field)), longAgo)
		assert.ErrorAs(t, err, &invalid, field)
	}
	_, refusal := post(t, c, strict.Form, formBody("expired_at[]=1790000000"))
	require.Error(t, refusal, "as the API does")
}

// A form's list must not take the name of a known field in another case.
// FuzzParseIssue found it.
func TestParseIssueRejectsLookalikesOfLists(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"nOtice_url[]=https://shop.example", "Custom_data[a]=1", "notice.url[]=https://shop.example"} {
		_, err := client.ParseIssue(strict.Form, []byte(formBody(field)), longAgo)
		assert.ErrorContains(t, err, "could be taken for", field)
	}
}

// The url.URL.Host of "http://:80" is not empty, though it names no host.
func TestParseIssueRejectsURLsWithoutHost(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for _, field := range []string{`"confirm_url":"http://:80/cvs"`, `"notice_url":["http://:80/cvs"]`} {
		_, refusal := post(t, c, strict.JSON, jsonBody(field))
		require.Error(t, refusal, "as the API does")
		var invalid *client.InvalidError
		_, err := client.ParseIssue(strict.JSON, []byte(jsonBody(field)), longAgo)
		assert.ErrorAs(t, err, &invalid, field)
	}
}

func TestParseIssueReadsOrderAmountAndDeadline(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		contentType, body string
		want              client.Issue
	}{
		{strict.JSON, `{"merchant_uid":"\uc8fc\ubb38-1","amount":15000}`, client.Issue{MerchantUID: "주문-1", Amount: "15000"}},
		{strict.JSON, `{"merchant_uid":"o","amount":1.50e4,"expired_at":1790000000}`, client.Issue{MerchantUID: "o", Amount: "15000", ExpiredAt: 1790000000}},
		{strict.JSON, `{"merchant_uid":"o","amount":"10.0","expired_at":"1790000000"}`, client.Issue{MerchantUID: "o", Amount: "10", ExpiredAt: 1790000000}},
		{strict.JSON, `{"merchant_uid":"o","amount":9007199254740992,"expired_at":null}`, client.Issue{MerchantUID: "o", Amount: "9007199254740992"}},
		{strict.Form, `merchant_uid=%EC%A3%BC%EB%AC%B8+1&amount=15000.00&expired_at=`, client.Issue{MerchantUID: "주문 1", Amount: "15000"}},
	} {
		got := parse(t, tc.contentType, tc.body)
		assert.Equal(t, tc.want.MerchantUID, got.MerchantUID)
		assert.Equal(t, tc.want.Amount, got.Amount)
		assert.Equal(t, tc.want.ExpiredAt, got.ExpiredAt)
	}
}

func TestNullAndEmptyCountAsMissing(t *testing.T) {
	t.Parallel()
	_, c := newSandbox(t, emulator.Options{})
	for _, field := range []string{
		"barcode", "expired_at", "name", "buyer_name", "buyer_email", "buyer_tel", "buyer_addr", "buyer_postcode",
		"pg", "channel_key", "confirm_url", "notice_url", "custom_data",
	} {
		for contentType, bodies := range map[string][]string{
			strict.JSON: {jsonBody(`"` + field + `":null`), jsonBody(`"` + field + `":""`)},
			strict.Form: {formBody(field + "=")},
		} {
			for _, body := range bodies {
				_, err := client.ParseIssue(contentType, []byte(body), longAgo)
				assert.NoError(t, err, body)
				_, refusal := post(t, c, contentType, body)
				assert.NoError(t, refusal, body)
			}
		}
	}
}

func TestTextsMustBeStrings(t *testing.T) {
	t.Parallel()
	for _, field := range []string{
		"merchant_uid", "barcode", "name", "buyer_name", "buyer_email", "buyer_tel", "buyer_addr", "buyer_postcode",
		"pg", "channel_key", "confirm_url",
	} {
		for _, value := range []string{`1`, `1.5`, `true`, `false`, `[]`, `["a"]`, `{}`, `{"a":"b"}`} {
			body := jsonBody(`"` + field + `":` + value)
			var invalid *client.InvalidError
			_, err := client.ParseIssue(strict.JSON, []byte(body), longAgo)
			if assert.ErrorAs(t, err, &invalid, body) {
				assert.Contains(t, strings.Join(invalid.Problems, "\n"), field+" must be a string, not ")
			}
		}
	}
}

func TestAllViolationsAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("가", 129)
	members := map[string]any{
		"merchant_uid": "", "amount": "15,000", "barcode": 1, "expired_at": 1790000000000,
		"name": long, "buyer_name": long, "buyer_email": long, "buyer_tel": long, "buyer_addr": long, "buyer_postcode": long,
		"pg": "kcp", "channel_key": []string{}, "confirm_url": "/", "notice_url": 1,
	}
	body, err := json.Marshal(members)
	require.NoError(t, err)
	var invalid *client.InvalidError
	_, err = client.ParseIssue(strict.JSON, body, longAgo)
	require.ErrorAs(t, err, &invalid)
	fields := make(map[string]int)
	for _, problem := range invalid.Problems {
		fields[strings.Fields(problem)[0]]++
		assert.NotContains(t, problem, "가", "values are not repeated")
	}
	for field := range members {
		assert.Equal(t, 1, fields[field], field)
	}
	assert.Len(t, fields, len(members))
	assert.Equal(t, strings.Join(invalid.Problems, "; "), err.Error())
}

func TestValidatePG(t *testing.T) {
	t.Parallel()
	for _, pg := range []string{"", "galaxia", "galaxia.M1"} {
		assert.NoError(t, client.ValidatePG(pg), pg)
	}
	for _, pg := range []string{"kcp", "galaxia.", "galaxia.M1\n", "x.galaxia"} {
		assert.Error(t, client.ValidatePG(pg), pg)
	}
}

// FuzzParseIssue: what passes is completed into a body that passes again, and
// that the API accepts.
func FuzzParseIssue(f *testing.F) {
	for _, rule := range rules {
		f.Add(strings.HasPrefix(rule.contentType, strict.Form), rule.body)
	}
	d := client.Defaults{
		PG: "galaxia.M1", ChannelKey: "k", ExpiresIn: time.Hour,
		ConfirmURL: base(f, "http://127.0.0.1/confirm"), NoticeURL: base(f, "http://127.0.0.1/notice?a=b"),
	}
	k := keys(f)
	f.Fuzz(func(t *testing.T, isForm bool, body string) {
		contentType := strict.JSON
		if isForm {
			contentType = strict.Form
		}
		for _, defaults := range []client.Defaults{{}, d} {
			i, err := client.ParseIssue(contentType, []byte(body), longAgo)
			if err != nil {
				return
			}
			i.Complete(defaults, k, "", time.Now())
			sentType, sent := wire(t, i)
			again, err := client.ParseIssue(sentType, []byte(sent), longAgo)
			if err != nil || again.MerchantUID != i.MerchantUID || again.Amount != i.Amount || again.ExpiredAt != i.ExpiredAt {
				t.Fatalf("%s became %s: %v", body, sent, err)
			}
			if strings.Count(body, "notice_url") > 10 || strings.Count(body, "http") > 10 {
				return // more than the emulator's own bound
			}
			c := newClient(t, "http://api.example", transport(inProcess(emulator.New(emulator.Options{}))))
			if _, err := post(t, c, sentType, sent); err != nil {
				t.Fatalf("%s passes, but the API says: %v", sent, err)
			}
		}
	})
}
