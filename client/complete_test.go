package client_test

// This file holds tests of the gateway's part of a POST /cvs.

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func TestCompleteFillsMissingFieldsOnly(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 999_999_999)
	defaults := client.Defaults{PG: "galaxia.M1", ChannelKey: `channel "키"`, ExpiresIn: 72 * time.Hour}
	for _, tc := range []struct {
		name, contentType, body, want string
	}{
		{
			"absent", strict.JSON, ` { "amount" : 15000.0, "merchant_uid":"o" , "x":{"pg":1} } `,
			` { "amount" : 15000.0, "merchant_uid":"o" , "x":{"pg":1} ,"pg":"galaxia.M1","channel_key":"channel \"키\"","expired_at":1790259200} `,
		},
		{
			"null and empty", strict.JSON, `{"pg": null ,"amount":1,"channel_key":"","merchant_uid":"o","expired_at":"" }`,
			`{"pg": "galaxia.M1" ,"amount":1,"channel_key":"channel \"키\"","merchant_uid":"o","expired_at":1790259200 }`,
		},
		{
			"supplied", strict.JSON, `{"pg":"galaxia","amount":1,"channel_key":"k","merchant_uid":"o","expired_at":"1790000001"}`,
			`{"pg":"galaxia","amount":1,"channel_key":"k","merchant_uid":"o","expired_at":"1790000001"}`,
		},
		{
			"absent in a form", strict.Form, `merchant_uid=o&amount=1&x%5Bpg%5D=1`,
			`merchant_uid=o&amount=1&x%5Bpg%5D=1&pg=galaxia.M1&channel_key=channel+%22%ED%82%A4%22&expired_at=1790259200`,
		},
		{
			"empty in a form", strict.Form, `pg=&merchant_uid=o&channel_key=&amount=1&expired_at=`,
			`pg=galaxia.M1&merchant_uid=o&channel_key=channel+%22%ED%82%A4%22&amount=1&expired_at=1790259200`,
		},
		{
			"supplied in a form", strict.Form, `pg=galaxia&merchant_uid=o&channel_key=k&amount=1&expired_at=1790000001`,
			`pg=galaxia&merchant_uid=o&channel_key=k&amount=1&expired_at=1790000001`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			i := parse(t, tc.contentType, tc.body)
			i.Complete(defaults, keys(t), "", now)
			_, got := wire(t, i)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, strings.Contains(tc.want, "1790259200"), i.ExpiredAt == 1790259200)
			_, err := client.ParseIssue(tc.contentType, []byte(got), longAgo)
			assert.NoError(t, err)
		})
	}
}

func TestCompleteSignsTheCallbacks(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_790_000_000, 0)
	defaults := func(expiresIn time.Duration) client.Defaults {
		return client.Defaults{
			ConfirmURL: base(t, "https://shop.example/cvs/confirm"), NoticeURL: base(t, "https://shop.example/cvs/notice?a=1"), ExpiresIn: expiresIn,
		}
	}
	for _, tc := range []struct {
		name, contentType, body, account string
		expiresIn                        time.Duration
		amount                           string
		expires                          int64
	}{
		{"JSON", strict.JSON, `{"merchant_uid":"주문&1","amount":15000.00}`, "", 0, "15000", 0},
		{"JSON, null and empty", strict.JSON, `{"confirm_url":null,"notice_url":"","merchant_uid":"주문&1","amount":5e1}`, "", 0, "50", 0},
		{"own deadline", strict.JSON, `{"merchant_uid":"주문&1","amount":15000,"expired_at":1790000001}`, "second", time.Hour, "15000", 1790000001},
		{"default deadline", strict.JSON, `{"merchant_uid":"주문&1","amount":1.5e4}`, "second", time.Hour, "15000", 1790003600},
		{"form", strict.Form, `merchant_uid=%EC%A3%BC%EB%AC%B8%261&amount=15000`, "second", time.Hour, "15000", 1790003600},
		{"form, empty", strict.Form, `confirm_url=&merchant_uid=%EC%A3%BC%EB%AC%B8%261&notice_url=&amount=15000`, "", 0, "15000", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := keys(t)
			others, err := signedurl.NewKeys("another")
			require.NoError(t, err)
			i := parse(t, tc.contentType, tc.body)
			i.Complete(defaults(tc.expiresIn), k, tc.account, now)
			_, sent := wire(t, i)
			for field, purpose := range map[string]signedurl.Purpose{"confirm_url": signedurl.Confirm, "notice_url": signedurl.Notice} {
				raw := value(t, tc.contentType, sent, field)
				u, err := url.Parse(raw)
				require.NoError(t, err)
				assert.True(t, strings.HasPrefix(raw, "https://shop.example/cvs/"+string(purpose)+"?"), raw)
				claims, err := signedurl.Parse(u.RawQuery)
				require.NoError(t, err)
				assert.Equal(t, tc.account, claims.Account)
				assert.Equal(t, tc.amount, claims.Amount)
				assert.Equal(t, tc.expires, claims.Expires)
				require.NoError(t, claims.Verify(k, purpose, "주문&1"))
				other := map[signedurl.Purpose]signedurl.Purpose{signedurl.Confirm: signedurl.Notice, signedurl.Notice: signedurl.Confirm}[purpose]
				require.Error(t, claims.Verify(k, other, "주문&1"))
				require.Error(t, claims.Verify(k, purpose, "주문"))
				require.Error(t, claims.Verify(others, purpose, "주문&1"))
			}
			assert.Equal(t, "1", queryValue(t, value(t, tc.contentType, sent, "notice_url"), "a"))
		})
	}
}

// value returns a field of a body that was sent.
func value(t testing.TB, contentType, body, field string) string {
	t.Helper()
	if contentType == strict.Form {
		form, err := url.ParseQuery(body)
		require.NoError(t, err)
		require.Len(t, form[field], 1)
		return form.Get(field)
	}
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &members))
	text, ok := members[field].(string)
	require.True(t, ok, "%s in %s", field, body)
	return text
}

func queryValue(t testing.TB, raw, name string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	return u.Query().Get(name)
}

func TestCompleteKeepsCallbacksOfTheRequest(t *testing.T) {
	t.Parallel()
	d := client.Defaults{ConfirmURL: base(t, "https://shop.example/confirm"), NoticeURL: base(t, "https://shop.example/notice")}
	for contentType, bodies := range map[string][]string{
		strict.JSON: {
			`{"merchant_uid":"o","amount":1,"confirm_url":"http://own.example/%7e?a=b","notice_url":"http://own.example/n"}`,
			`{"merchant_uid":"o","amount":1,"confirm_url":"http://own.example/","notice_url":["http://own.example/1"]}`,
			`{"merchant_uid":"o","amount":1,"confirm_url":"http://own.example/","notice_url":[]}`,
		},
		strict.Form: {
			`merchant_uid=o&amount=1&confirm_url=http://own.example/%257e&notice_url=http://own.example/n`,
			`merchant_uid=o&notice_url[]=http://own.example/1&notice_url[]=http://own.example/2&amount=1&confirm_url=http://own.example`,
			`merchant_uid=o&notice_url[0]=http://own.example/1&notice_url[1]=http://own.example/2&amount=1&confirm_url=http://own.example`,
			`merchant_uid=o&notice_url%5B%5D=http://own.example/1&amount=1&confirm_url=http://own.example`,
		},
	} {
		for _, body := range bodies {
			i := parse(t, contentType, body)
			i.Complete(d, keys(t), "", time.Now())
			_, got := wire(t, i)
			assert.Equal(t, body, got)
		}
	}
}

func TestCompletedIssueIsAcceptedAndItsCallbacksVerified(t *testing.T) {
	t.Parallel()
	e, c := newSandbox(t, emulator.Options{})
	d := client.Defaults{
		PG: "galaxia.M1", ChannelKey: "k", ExpiresIn: time.Hour,
		ConfirmURL: base(t, "http://127.0.0.1/confirm"), NoticeURL: base(t, "http://127.0.0.1/notice"),
	}
	i := order(t, "주문")
	i.Complete(d, keys(t), "second", c.State().Now())
	resp, err := c.IssueRaw(context.Background(), i)
	require.NoError(t, err)
	p, err := resp.Payment()
	require.NoError(t, err)
	confirm, notices := e.WebhookURLs(p.ImpUID)
	require.Len(t, notices, 1)
	for raw, purpose := range map[string]signedurl.Purpose{confirm: signedurl.Confirm, notices[0]: signedurl.Notice} {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		claims, err := signedurl.Parse(u.RawQuery)
		require.NoError(t, err)
		require.NoError(t, claims.Verify(keys(t), purpose, p.MerchantUID))
		assert.True(t, p.Amount.Equal(client.Amount(claims.Amount)))
		assert.Equal(t, e.Payments()[0].ExpiredAt, claims.Expires)
	}
}

// Validating and completing a body is strict.Parse, two signatures, and a copy in which
// four values are filled in.
func BenchmarkIssue(b *testing.B) {
	d := client.Defaults{
		PG: "galaxia.M1", ExpiresIn: 72 * time.Hour,
		ConfirmURL: base(b, "https://shop.example/cvs/confirm"), NoticeURL: base(b, "https://shop.example/cvs/notice"),
	}
	k, now := keys(b), time.Now()
	for name, request := range map[string][2]string{
		"JSON": {strict.JSON, `{"merchant_uid":"주문-20260001","amount":15000,"name":"떡볶이와 김밥","buyer_name":"홍길동","buyer_tel":"010-1234-5678","custom_data":{"cart":[1,2,3]}}`},
		"form": {strict.Form, `merchant_uid=%EC%A3%BC%EB%AC%B8-20260001&amount=15000&name=%EB%96%A1%EB%B3%B6%EC%9D%B4&buyer_tel=010-1234-5678&custom_data[]=1&custom_data[]=2`},
	} {
		b.Run(name, func(b *testing.B) {
			body := []byte(request[1])
			b.ReportAllocs()
			for b.Loop() {
				i, err := client.ParseIssue(request[0], body, longAgo)
				if err != nil {
					b.Fatal(err)
				}
				i.Complete(d, k, "", now)
			}
		})
	}
}

func TestCompleteWithoutKeyIsAnError(t *testing.T) {
	t.Parallel()
	base, err := signedurl.ParseBase("https://shop.example/confirm")
	require.NoError(t, err)
	for _, d := range []client.Defaults{{ConfirmURL: base}, {NoticeURL: base}} {
		require.ErrorIs(t, order(t, "o").Complete(d, signedurl.Keys{}, "", time.Now()), signedurl.ErrNoKey)
	}
	require.NoError(t, order(t, "o").Complete(client.Defaults{PG: "galaxia"}, signedurl.Keys{}, "", time.Now()))
}

// What BeginAttempt signs are the URLs that the gateway filled in: one that the app named is the
// app's.
func TestBeginAttemptSignsAgain(t *testing.T) {
	t.Parallel()
	d := client.Defaults{ConfirmURL: base(t, "https://shop.example/cvs/confirm"), NoticeURL: base(t, "https://shop.example/cvs/notice"), PG: "galaxia.M1"}
	i := parse(t, strict.JSON, `{"merchant_uid":"o","amount":15000,"notice_url":"https://shop.example/own","name":"n"}`)
	require.NoError(t, i.Complete(d, keys(t), "second", longAgo))
	first := i.ID
	require.NotEmpty(t, first)
	c := newClient(t, deadAddress)
	identity := c.Identity(i)
	for _, id := range []string{signedurl.NewID(), signedurl.NewID()} {
		require.NoError(t, i.BeginAttempt(id))
		assert.Equal(t, id, i.ID)
		_, sent := wire(t, i)
		u, err := url.Parse(value(t, strict.JSON, sent, "confirm_url"))
		require.NoError(t, err)
		claims, err := signedurl.Parse(u.RawQuery)
		require.NoError(t, err)
		assert.Equal(t, id, claims.ID)
		require.NoError(t, claims.Verify(keys(t), signedurl.Confirm, "o"))
		assert.Equal(t, "https://shop.example/own", value(t, strict.JSON, sent, "notice_url"))
		assert.Equal(t, identity, c.Identity(i), "the id makes no other request")
	}
	own := parse(t, strict.JSON, `{"merchant_uid":"o","amount":15000,"confirm_url":"https://shop.example/own","notice_url":""}`)
	require.NoError(t, own.Complete(client.Defaults{ConfirmURL: d.ConfirmURL}, keys(t), "", longAgo))
	require.NoError(t, own.BeginAttempt("id"))
	_, sent := wire(t, own)
	assert.Equal(t, "https://shop.example/own", value(t, strict.JSON, sent, "confirm_url"))
	assert.NotContains(t, sent, "cvs_")
	require.ErrorIs(t, parse(t, strict.JSON, `{"merchant_uid":"o","amount":1}`).Complete(d, signedurl.Keys{}, "", longAgo), signedurl.ErrNoKey)
}

func TestCompleteSaysWhatTheAppNamed(t *testing.T) {
	t.Parallel()
	d := client.Defaults{PG: "galaxia.M1", ChannelKey: "k", ExpiresIn: time.Hour}
	for _, c := range []struct {
		contentType, body string
		want              client.Named
		pg                string
	}{
		{strict.JSON, `{"merchant_uid":"o","amount":1}`, client.Named{}, "galaxia.M1"},
		{strict.JSON, `{"merchant_uid":"o","amount":1,"pg":"","channel_key":null,"expired_at":null}`, client.Named{}, "galaxia.M1"},
		{strict.JSON, `{"merchant_uid":"o","amount":1,"pg":"galaxia"}`, client.Named{PG: true}, "galaxia"},
		{strict.JSON, `{"merchant_uid":"o","amount":1,"channel_key":"l","expired_at":1790000001}`, client.Named{ChannelKey: true, ExpiredAt: true}, "galaxia.M1"},
		{strict.Form, `merchant_uid=o&amount=1&pg=galaxia&expired_at=1790000001`, client.Named{PG: true, ExpiredAt: true}, "galaxia"},
	} {
		i := parse(t, c.contentType, c.body)
		require.NoError(t, i.Complete(d, keys(t), "", longAgo))
		assert.Equal(t, c.want, i.Named, c.body)
		assert.Equal(t, c.pg, i.Field("pg"), c.body)
		assert.Empty(t, i.Field("barcode"))
	}
}

func TestIdentityIsOfOneAccountAndRequest(t *testing.T) {
	t.Parallel()
	c, other := newClient(t, deadAddress), newClient(t, deadAddress, func(cfg *client.Config) { cfg.Tier = "001" })
	d := client.Defaults{ConfirmURL: base(t, "https://shop.example/cvs/confirm"), ExpiresIn: time.Hour}
	complete := func(body string, now time.Time) *client.Issue {
		i := parse(t, strict.JSON, body)
		require.NoError(t, i.Complete(d, keys(t), "", now))
		return i
	}
	one := complete(`{"merchant_uid":"o","amount":1}`, longAgo)
	assert.Equal(t, c.Identity(one), c.Identity(complete(`{"merchant_uid":"o","amount":1}`, longAgo.Add(time.Second))), "the time makes no other request")
	assert.NotEqual(t, c.Identity(one), c.Identity(complete(`{"merchant_uid":"o","amount":2}`, longAgo)))
	assert.NotEqual(t, c.Identity(one), c.Identity(complete(`{"merchant_uid":"o","amount":1,"name":"n"}`, longAgo)))
	assert.NotEqual(t, c.Identity(one), other.Identity(one), "of another tier")
}
