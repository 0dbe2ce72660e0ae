package tell_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
)

// sent is an attempt as it goes over the wire.
type sent struct {
	Secrets     []string `json:"secrets"`
	ID          string   `json:"webhook-id"`
	Timestamp   int64    `json:"webhook-timestamp"`
	Signature   string   `json:"webhook-signature"`
	ContentType string   `json:"content-type"`
	Body        string   `json:"body"`
}

const (
	published = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // of the tests of the reference libraries
	another   = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw=="
)

func paid() tell.Message {
	return tell.Message{
		ImpUID: "imp_123412341234", MerchantUID: "주문 1&2", Event: tell.Paid, Status: "paid", Amount: "15000", CancelAmount: "0", PaidAt: 1790000000,
		Expires: 1790000600,
	}
}

func cancelled() tell.Message {
	return tell.Message{
		Account: "second", ImpUID: "imp_1", MerchantUID: `<b>"김밥"\` + "\u2028", Event: tell.Cancelled, Status: "cancelled", Amount: "12345678901234567.25", CancelAmount: "500.5",
		PaidAt: 1790000000, CancellationID: "can_1+2=3", Late: true,
	}
}

func expired() tell.Message {
	return tell.Message{ImpUID: "imp_1", MerchantUID: "o", Event: tell.Expired, Status: "cancelled", Amount: "15000", CancelAmount: "0"}
}

// What goes over the wire stays as it is in testdata/signed.json: an app that heard a message from one
// version knows its id in the next. .ci/sdks verifies the file by the npm package standardwebhooks.
func TestAttemptsAreAsTheFileHasThem(t *testing.T) {
	t.Parallel()
	var list []sent
	at := time.Unix(1790000001, 999_000_000)
	for _, m := range []tell.Message{paid(), cancelled(), expired()} {
		for _, form := range []bool{false, true} {
			for _, texts := range [][]string{{published}, {another, published}} {
				contentType, body := m.Encode(form)
				list = append(list, sent{texts, m.ID(), at.Unix(), tell.Sign(secrets(t, texts...), m.ID(), at, body), contentType, string(body)})
			}
		}
	}
	got, err := json.MarshalIndent(list, "", "\t")
	require.NoError(t, err)
	const file = "testdata/signed.json"
	if os.Getenv("UPDATE_FIXTURES") != "" {
		require.NoError(t, os.WriteFile(file, append(got, '\n'), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.JSONEq(t, string(want), string(got))
}

func TestIDsDifferByWhatTheMessageIsAbout(t *testing.T) {
	t.Parallel()
	first := paid()
	assert.Regexp(t, `^cvs_[A-Za-z0-9_-]{22}$`, first.ID())
	same := paid()
	same.MerchantUID, same.Status, same.Amount, same.CancelAmount, same.PaidAt, same.Expires, same.Late = "x", "cancelled", "1", "1", 1, 1, true
	assert.Equal(t, first.ID(), same.ID(), "what may have changed since the last attempt is no part of it")
	ids := map[string]bool{}
	messages := []tell.Message{
		first,
		{Account: "a", ImpUID: first.ImpUID, Event: tell.Paid},
		{ImpUID: first.ImpUID, Event: tell.Cancelled},
		{ImpUID: first.ImpUID, Event: tell.Cancelled, CancellationID: "1"},
		{ImpUID: first.ImpUID, Event: tell.Cancelled, CancellationID: "2"},
		{Account: "a", ImpUID: "bc", Event: tell.Paid},
		{Account: "ab", ImpUID: "c", Event: tell.Paid},
	}
	for i := range messages {
		ids[messages[i].ID()] = true
	}
	assert.Len(t, ids, len(messages))
}

func TestEncodeHasTheMembersInOrder(t *testing.T) {
	t.Parallel()
	m := paid()
	contentType, body := m.Encode(false)
	assert.Equal(t, strict.JSON, contentType)
	assert.Equal(t, `{"imp_uid":"imp_123412341234","merchant_uid":"주문 1&2","status":"paid","event":"paid","amount":15000,"cancel_amount":0,"paid_at":1790000000,"cancellation_id":null,"account":"","late":false}`, string(body))
	contentType, body = m.Encode(true)
	assert.Equal(t, strict.Form, contentType)
	assert.Equal(t, "imp_uid=imp_123412341234&merchant_uid=%EC%A3%BC%EB%AC%B8+1%262&status=paid&event=paid&amount=15000&cancel_amount=0&paid_at=1790000000&cancellation_id=&account=&late=false", string(body))
	m = expired()
	_, body = m.Encode(false)
	assert.Contains(t, string(body), `"paid_at":null,`)
	_, body = m.Encode(true)
	assert.Contains(t, string(body), "&paid_at=&")
}

// Whatever the texts are, the body is valid, and JSON and the form say the same.
func FuzzEncode(f *testing.F) {
	f.Add("imp_1", "주문 1&2=3", "paid", "15000", "can_1")
	f.Add("\xff\x00", "<script>\u2028", "\\\"", "1e300", "\xed\xa0\x80\xff")
	f.Add("", "%zz+;", "", "x", "")
	f.Fuzz(func(t *testing.T, impUID, order, status, amount, cancellation string) {
		m := tell.Message{Account: order, ImpUID: impUID, MerchantUID: order, Event: tell.Event(status), Status: status, Amount: amount, CancelAmount: amount, CancellationID: cancellation}
		_, asJSON := m.Encode(false)
		_, asForm := m.Encode(true)
		form, err := url.ParseQuery(string(asForm))
		require.NoError(t, err)
		var members map[string]any
		dec := json.NewDecoder(bytes.NewReader(asJSON))
		dec.UseNumber()
		require.NoError(t, dec.Decode(&members), "%s", asJSON)
		require.Len(t, members, len(form))
		for name, value := range members {
			if value == nil {
				value = ""
			}
			require.Equal(t, []string{fmt.Sprint(value)}, form[name], name)
		}
		require.Equal(t, string([]rune(order)), members["merchant_uid"])
		require.Equal(t, string([]rune(cancellation)), form.Get("cancellation_id"))
	})
}

func secrets(t *testing.T, texts ...string) (list []tell.Secret) {
	t.Helper()
	for _, text := range texts {
		secret, err := tell.ParseSecret(text)
		require.NoError(t, err)
		list = append(list, secret)
	}
	return list
}

// The vector is that of the tests of the reference libraries,
// https://github.com/standard-webhooks/standard-webhooks.
func TestSignAgreesWithTheReferenceLibraries(t *testing.T) {
	t.Parallel()
	const id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	at := time.Unix(1614265330, 0)
	assert.Equal(t, want, tell.Sign(secrets(t, published), id, at, []byte(body)))
	both := strings.Split(tell.Sign(secrets(t, another, published), id, at, []byte(body)), " ")
	require.Len(t, both, 2)
	assert.Equal(t, want, both[1])
	assert.NotEqual(t, want, both[0])
	assert.Empty(t, tell.Sign(nil, id, at, []byte(body)))
}

func TestParseSecretRejects(t *testing.T) {
	t.Parallel()
	const long = "QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQUJDQQ==" // 64 bytes
	const notBase64 = "not base64 of the standard alphabet"
	for text, want := range map[string]string{
		"":                                       "does not begin with whsec_",
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":       "does not begin with whsec_",
		" " + published:                          "does not begin with whsec_",
		"WHSEC_QUJDQUJDQUJD":                     "does not begin with whsec_",
		"whsec_":                                 "has 0 bytes, and must have 24 to 64",
		"whsec_QUJDQUJDQUJDQUJDQUJDQUJDQUJDQUI=": "has 23 bytes, and must have 24 to 64",
		"whsec_" + long[:86] + "FB":              "has 66 bytes, and must have 24 to 64",
		published + "\n":                         notBase64,
		published + " ":                          notBase64,
		"whsec_MfKQ9r8GKYqrTwjUPD8I\nLPZIo2LaLaSw":      notBase64,
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS_":        notBase64, // base64url
		"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGA":      notBase64, // no padding
		"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGB==":    notBase64, // bits that no byte has
		"whsec_not base64 at all, and a secret all the": notBase64,
	} {
		secret, err := tell.ParseSecret(text)
		require.ErrorContains(t, err, want, text)
		assert.Equal(t, tell.Secret{}, secret)
		if _, encoded, _ := strings.Cut(text, "_"); encoded != "" {
			assert.NotContains(t, err.Error(), strings.TrimSpace(encoded))
		}
	}
	secrets(t, published, "whsec_"+long)
}

func TestSecretsDoNotPrintThemselves(t *testing.T) {
	t.Parallel()
	secret := secrets(t, published)[0]
	holder := struct {
		S tell.Secret
		s []tell.Secret // fmt does not call the methods of an unexported field
	}{secret, []tell.Secret{secret}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		assert.Equal(t, "***", fmt.Sprintf(verb, secret), verb)
		assert.Equal(t, "***", fmt.Sprintf(verb, &secret), verb)
		whole := fmt.Sprintf(verb, holder)
		assert.Contains(t, whole, "***", verb)
		for _, bytes := range []string{"49 242 144", "31f290", "0x31, 0xf2, 0x90", `\xf2\x90`} { // as the verbs write the key
			assert.NotContains(t, whole, bytes, verb)
		}
	}
	assert.Equal(t, "***", secret.String())
	text, err := json.Marshal(map[string]any{"a": secret, "b": &secret})
	require.NoError(t, err)
	assert.JSONEq(t, `{"a":"***","b":"***"}`, string(text))
}

func TestOnlyATestSaysThatItIsOne(t *testing.T) {
	t.Parallel()
	for _, form := range []bool{false, true} {
		m := paid()
		_, usual := m.Encode(form)
		assert.NotContains(t, string(usual), "test")
		m.Test = true
		_, body := m.Encode(form)
		want := strings.TrimSuffix(string(usual), "}") + `,"test":true}`
		if form {
			want = string(usual) + "&test=true"
		}
		assert.Equal(t, want, string(body))
	}
}
