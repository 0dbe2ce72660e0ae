package tell

// This file holds how a message goes over the wire: its id and its body.

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// idBytes is how many bytes of the digest an id keeps: enough that no two messages share one.
const idBytes = 16

// ID returns the webhook-id, which is derived from what the message is about. So it is the same in
// every attempt, on every node and after a restore, and the app can ignore what it has heard before.
func (m *Message) ID() string {
	digest := sha256.New()
	for _, part := range []string{m.Account, m.ImpUID, string(m.Event), m.CancellationID} {
		_, _ = fmt.Fprintf(digest, "%d:%s", len(part), part) // with the length, "a" and "bc" are not "ab" and "c"
	}
	return "cvs_" + base64.RawURLEncoding.EncodeToString(digest.Sum(nil)[:idBytes])
}

// member is a member of the body. Its value is a string, a number, a bool, or nil for null.
type member struct {
	name  string
	value any
}

// members returns the members of the body, in order. The first ones are those of the provider's
// notice, so that an app's handler of notices works unchanged.
func (m *Message) members() []member {
	var paidAt, cancellation any
	if m.PaidAt != 0 {
		paidAt = m.PaidAt
	}
	if m.CancellationID != "" {
		cancellation = m.CancellationID
	}
	list := []member{
		{"imp_uid", m.ImpUID},
		{"merchant_uid", m.MerchantUID},
		{"status", m.Status},
		{"event", string(m.Event)},
		{"amount", number(m.Amount)},
		{"cancel_amount", number(m.CancelAmount)},
		{"paid_at", paidAt},
		{"cancellation_id", cancellation},
		{"account", m.Account},
		{"late", m.Late},
	}
	if m.Test { // of a payment there is no such member
		list = append(list, member{"test", true})
	}
	return list
}

// number returns an amount digit for digit, or nil if it is none.
func number(amount string) any {
	if text, ok := decimal.Canonical(amount); ok {
		return json.Number(text)
	}
	return nil
}

// Encode returns the body, as JSON or as a form, and its Content-Type. Both have the same members in
// the same order; a form has an empty value for null. Bytes that are not valid UTF-8 are replaced.
func (m *Message) Encode(form bool) (contentType string, body []byte) {
	if form {
		return strict.Form, m.encodeForm()
	}
	return strict.JSON, m.encodeJSON()
}

func (m *Message) encodeJSON() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // nobody writes this JSON into a page
	for _, member := range m.members() {
		fmt.Fprintf(&b, ",%q:", member.name)
		_ = enc.Encode(member.value) // never fails: the values are scalars
		b.Truncate(b.Len() - 1)      // without the line feed
	}
	body := append(b.Bytes(), '}')
	body[0] = '{'
	return body
}

func (m *Message) encodeForm() []byte {
	var b bytes.Buffer
	for _, member := range m.members() {
		text := ""
		if member.value != nil {
			text = fmt.Sprint(member.value)
		}
		fmt.Fprintf(&b, "&%s=%s", member.name, url.QueryEscape(string([]rune(text))))
	}
	return b.Bytes()[1:]
}
