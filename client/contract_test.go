package client_test

// This file holds the contract of POST /cvs: what was validated is what every parser reads.

import (
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// sentFields is POST /cvs as encoding/json reads it, which takes names in any case and the last of two.
type sentFields struct {
	MerchantUID string          `json:"merchant_uid"`
	Amount      json.RawMessage `json:"amount"`
	ExpiredAt   json.RawMessage `json:"expired_at"`
	Barcode     string          `json:"barcode"`
	ConfirmURL  string          `json:"confirm_url"`
}

// readings returns what independent parsers read in a body: each the texts of the fields that matter, by name.
func readings(t *testing.T, contentType string, body string) []map[string]string {
	t.Helper()
	names := []string{"merchant_uid", "amount", "expired_at", "barcode", "confirm_url"}
	if contentType == strict.Form {
		form, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("net/url refuses %q: %v", body, err)
		}
		first, last := map[string]string{}, map[string]string{}
		for _, name := range names {
			values := append([]string{""}, form[name]...)
			first[name], last[name] = form.Get(name), values[len(values)-1]
		}
		return []map[string]string{first, last}
	}
	var s sentFields
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("encoding/json refuses %q: %v", body, err)
	}
	plain := func(raw json.RawMessage) string {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			return text
		}
		return strings.TrimSpace(string(raw))
	}
	std := map[string]string{
		"merchant_uid": s.MerchantUID, "amount": plain(s.Amount), "expired_at": plain(s.ExpiredAt),
		"barcode": s.Barcode, "confirm_url": s.ConfirmURL,
	}
	first, last := map[string]string{}, map[string]string{}
	for _, name := range names {
		first[name] = gjson.Get(body, name).String()
		last[name] = ""
	}
	gjson.Parse(body).ForEach(func(k, v gjson.Result) bool {
		if slices.Contains(names, k.String()) {
			last[k.String()] = v.String()
		}
		return true
	})
	// gjson prints numbers in its own way; their digits are what was written.
	for _, m := range []map[string]string{first, last} {
		for _, name := range []string{"amount", "expired_at"} {
			if v := gjson.Get(body, name); v.Type == gjson.Number {
				m[name] = v.Raw
			}
		}
	}
	return []map[string]string{std, first, last}
}

// FuzzIssueContract: encoding/json, gjson and net/url read the same values in the body that is sent, completed and signed, as
// ParseIssue did, whether they take the first or the last of two equal names.
func FuzzIssueContract(f *testing.F) {
	for _, rule := range rules {
		f.Add(strings.HasPrefix(rule.contentType, strict.Form), rule.body)
	}
	k := keys(f)
	d := client.Defaults{PG: "galaxia.M1", ExpiresIn: time.Hour, ConfirmURL: base(f, "http://127.0.0.1/confirm?a=b")}
	f.Fuzz(func(t *testing.T, isForm bool, body string) {
		contentType := strict.JSON
		if isForm {
			contentType = strict.Form
		}
		i, err := client.ParseIssue(contentType, []byte(body), time.Unix(1_700_000_000, 0))
		if err != nil {
			return
		}
		_ = i.Complete(d, k, "", time.Unix(1_800_000_000, 0))
		sentType, sent := wire(t, i)
		if sentType != contentType {
			t.Fatalf("came as %s, sent as %s", contentType, sentType)
		}
		for _, read := range readings(t, contentType, sent) {
			amount, ok := decimal.Canonical(strings.TrimSpace(read["amount"]))
			if !ok || amount != i.Amount || read["merchant_uid"] != i.MerchantUID {
				t.Fatalf("we read %q %s in %q, another parser %q %q", i.MerchantUID, i.Amount, sent, read["merchant_uid"], read["amount"])
			}
			if read["expired_at"] != strconv.FormatInt(i.ExpiredAt, 10) {
				e, ok := decimal.Canonical(strings.TrimSpace(read["expired_at"]))
				if !ok || e != strconv.FormatInt(i.ExpiredAt, 10) {
					t.Fatalf("we read the deadline %d in %q, another parser %q", i.ExpiredAt, sent, read["expired_at"])
				}
			}
			requireSigned(t, k, i, body, read["confirm_url"])
		}
	})
}

// requireSigned fails unless a URL is the app's own or signed for what is sent.
func requireSigned(t *testing.T, k signedurl.Keys, i *client.Issue, body, confirmURL string) {
	t.Helper()
	query, hasBase := strings.CutPrefix(confirmURL, "http://127.0.0.1/confirm?a=b&")
	if !hasBase {
		if confirmURL == "" {
			t.Fatalf("%q leaves without a confirm_url", body)
		}
		return
	}
	claims, err := signedurl.Parse(query)
	if err != nil || claims.Verify(k, signedurl.Confirm, i.MerchantUID) != nil {
		return // a URL of the app that only begins like the signed one
	}
	if claims.Amount != i.Amount || claims.Expires != i.ExpiredAt {
		t.Fatalf("%q is signed for %s until %d, and sent for %s until %d", body, claims.Amount, claims.Expires, i.Amount, i.ExpiredAt)
	}
}
