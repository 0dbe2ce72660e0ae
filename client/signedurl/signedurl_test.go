package signedurl_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

const merchantUID = "주문-2026/0001"

// signURL signs a confirm_url.
func signURL(t testing.TB, base *signedurl.Base, k signedurl.Keys, merchantUID string, claims signedurl.Claims) string {
	t.Helper()
	signed, err := base.Sign(k, signedurl.Confirm, merchantUID, claims)
	require.NoError(t, err)
	return signed
}

// Keys that nobody set must neither end the program nor sign.
func TestZeroKeysSignAndVerifyNothing(t *testing.T) {
	t.Parallel()
	base, err := signedurl.ParseBase("https://shop.example/confirm")
	require.NoError(t, err)
	claims := signedurl.Claims{Amount: "15000"}
	signed, err := base.Sign(signedurl.Keys{}, signedurl.Confirm, "o", claims)
	require.ErrorIs(t, err, signedurl.ErrNoKey)
	assert.Empty(t, signed)
	_, query, _ := strings.Cut(signURL(t, base, keys(t, "k"), "o", claims), "?")
	claims, err = signedurl.Parse(query)
	require.NoError(t, err)
	require.NoError(t, claims.Verify(keys(t, "k"), signedurl.Confirm, "o"))
	assert.ErrorIs(t, claims.Verify(signedurl.Keys{}, signedurl.Confirm, "o"), signedurl.ErrSignature)
}

func keys(t testing.TB, secrets ...string) signedurl.Keys {
	t.Helper()
	k, err := signedurl.NewKeys(secrets...)
	require.NoError(t, err)
	return k
}

// sign returns the signed query, without "?".
func sign(t testing.TB, k signedurl.Keys, claims signedurl.Claims) string {
	t.Helper()
	base, err := signedurl.ParseBase("https://shop.example/cvs/confirm")
	require.NoError(t, err)
	u, err := url.Parse(signURL(t, base, k, merchantUID, claims))
	require.NoError(t, err)
	return u.RawQuery
}

func verify(query string, k signedurl.Keys, p signedurl.Purpose, uid string) error {
	claims, err := signedurl.Parse(query)
	if err != nil {
		return err
	}
	return claims.Verify(k, p, uid)
}

func TestSignedURLKeepsTheBase(t *testing.T) {
	t.Parallel()
	claims := signedurl.Claims{Amount: "15000", Expires: 1800000000}
	for base, want := range map[string]string{
		"https://shop.example/c":     "https://shop.example/c?cvs_amount=15000&cvs_expires=1800000000&cvs_sig=",
		"https://shop.example/c?":    "https://shop.example/c?cvs_amount=15000&cvs_expires=1800000000&cvs_sig=",
		"http://127.0.0.1:1/c?a=%20": "http://127.0.0.1:1/c?a=%20&cvs_amount=15000&cvs_expires=1800000000&cvs_sig=",
	} {
		b, err := signedurl.ParseBase(base)
		require.NoError(t, err, base)
		got := signURL(t, b, keys(t, "k"), merchantUID, claims)
		assert.True(t, strings.HasPrefix(got, want), got)
		assert.Len(t, strings.TrimPrefix(got, want), 22)
		u, err := url.Parse(got)
		require.NoError(t, err)
		assert.NoError(t, verify(u.RawQuery, keys(t, "k"), signedurl.Confirm, merchantUID))
	}
}

func TestParseBaseRejects(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "/cvs/confirm", "shop.example/c", "ftp://shop.example/", "https://", "https://u:p@shop.example/", "https://shop.example/#a", "https://shop.example/?cvs_sig=1", "https://shop.example/%zz"} {
		_, err := signedurl.ParseBase(raw)
		assert.Error(t, err, raw)
	}
}

func TestClaimsRoundTrip(t *testing.T) {
	t.Parallel()
	k := keys(t, "secret")
	for _, want := range []signedurl.Claims{
		{Amount: "15000", Expires: 1800000000},
		{Amount: "0.5"},
		{Amount: "1e300", Account: "second", Expires: 1},
		{Amount: "1", ID: signedurl.NewID()},
		{Amount: "1", Account: "second", Expires: 1, ID: "AAAAAAAAAAAAAAAA"},
	} {
		got, err := signedurl.Parse("lang=ko&" + sign(t, k, want) + "&x=%zz")
		require.NoError(t, err)
		require.NoError(t, got.Verify(k, signedurl.Confirm, merchantUID))
		assert.Equal(t, []any{want.Account, want.Amount, want.Expires, want.ID}, []any{got.Account, got.Amount, got.Expires, got.ID})
	}
}

func TestVerifyRejectsWhatWasNotSigned(t *testing.T) {
	t.Parallel()
	k := keys(t, "secret")
	const id = "abcdefghijklmnop"
	good := sign(t, k, signedurl.Claims{Amount: "15000", Expires: 1800000000, Account: "a", ID: id})
	require.NoError(t, verify(good, k, signedurl.Confirm, merchantUID))

	assert.ErrorIs(t, verify(good, keys(t, "other"), signedurl.Confirm, merchantUID), signedurl.ErrSignature, "key")
	assert.ErrorIs(t, verify(good, k, signedurl.Notice, merchantUID), signedurl.ErrSignature, "purpose")
	assert.ErrorIs(t, verify(good, k, signedurl.Confirm, "주문-2026/0002"), signedurl.ErrSignature, "order")

	sig := good[strings.Index(good, "cvs_sig=")+len("cvs_sig="):]
	for name, query := range map[string]string{
		"amount":               strings.Replace(good, "15000", "15", 1),
		"same amount":          strings.Replace(good, "15000", "15000.0", 1),
		"expiry":               strings.Replace(good, "1800000000", "1900000000", 1),
		"same expiry":          strings.Replace(good, "1800000000", "01800000000", 1),
		"signed expiry":        strings.Replace(good, "1800000000", "+1800000000", 1),
		"huge expiry":          strings.Replace(good, "1800000000", "99999999999999999999", 1),
		"expiry zero":          strings.Replace(good, "1800000000", "0", 1),
		"expiry cut":           strings.Replace(good, "1800000000", "", 1),
		"account":              strings.Replace(good, "account=a", "account=b", 1),
		"no account":           strings.Replace(good, "&cvs_account=a", "", 1),
		"empty account":        strings.Replace(good, "account=a", "account=", 1),
		"id":                   strings.Replace(good, id, "bbcdefghijklmnop", 1),
		"no id":                strings.Replace(good, "&cvs_id="+id, "", 1),
		"empty id":             strings.Replace(good, id, "", 1),
		"short id":             strings.Replace(good, id, id[1:], 1),
		"id, padded":           strings.Replace(good, id, id+"=", 1),
		"id, line feed":        strings.Replace(good, id, id+"\n", 1),
		"repeated id":          good + "&cvs_id=" + id,
		"id of a URL without":  sign(t, k, signedurl.Claims{Amount: "15000"}) + "&cvs_id=" + id,
		"no amount":            strings.Replace(good, "cvs_amount=15000&", "", 1),
		"no expiry":            strings.Replace(good, "&cvs_expires=1800000000", "", 1),
		"no signature":         strings.Replace(good, "&cvs_sig="+sig, "", 1),
		"empty signature":      strings.Replace(good, sig, "", 1),
		"short signature":      good[:len(good)-1],
		"long signature":       good + "A",
		"padded signature":     good + "==",
		"signature, line feed": good + "\n",
		"foreign signature":    strings.Replace(good, sig, "AAAAAAAAAAAAAAAAAAAAAA", 1),
		"repeated amount":      good + "&cvs_amount=15000",
		"unknown parameter":    good + "&cvs_other=1",
		"encoded name":         strings.Replace(good, "cvs_amount", "cvs%5Famount", 1),
		"encoded value":        strings.Replace(good, "15000", "%315000", 1),
		"fields shifted":       strings.NewReplacer("amount=15000", "amount=150", "expires=18", "expires=0018").Replace(good),
	} {
		assert.ErrorIs(t, verify(query, k, signedurl.Confirm, merchantUID), signedurl.ErrSignature, name)
	}
	for _, query := range []string{"", "a=b", "CVS_SIG=x", "%zz"} {
		assert.ErrorIs(t, verify(query, k, signedurl.Confirm, merchantUID), signedurl.ErrUnsigned, query)
	}
}

func TestFirstKeySignsAllVerify(t *testing.T) {
	t.Parallel()
	claims := signedurl.Claims{Amount: "1"}
	rotated := keys(t, "new", "old")
	assert.NoError(t, verify(sign(t, keys(t, "old"), claims), rotated, signedurl.Confirm, merchantUID))
	assert.NoError(t, verify(sign(t, rotated, claims), keys(t, "new"), signedurl.Confirm, merchantUID))
	assert.Error(t, verify(sign(t, rotated, claims), keys(t, "old"), signedurl.Confirm, merchantUID))
	_, err := signedurl.NewKeys()
	assert.Error(t, err)
}

func TestExpiredAt(t *testing.T) {
	t.Parallel()
	deadline := time.Unix(1800000000, 0)
	claims := signedurl.Claims{Expires: deadline.Unix()}
	assert.False(t, claims.ExpiredAt(deadline))
	assert.True(t, claims.ExpiredAt(deadline.Add(time.Second)))
	assert.False(t, signedurl.Claims{}.ExpiredAt(deadline))
}

func TestValidAccount(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"second": true, "A-1_b": true, "": false, "두번째": false, "a b": false, "a&b": false, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false} {
		assert.Equal(t, want, signedurl.ValidAccount(name), name)
	}
}

// FuzzVerify looks for a second query that verifies for the same order.
func FuzzVerify(f *testing.F) {
	k := keys(f, "secret")
	claims := signedurl.Claims{Amount: "15000", Expires: 1800000000, Account: "a"}
	good := sign(f, k, claims)
	f.Add(good)
	f.Add(good + "&x=1")
	f.Add(strings.ReplaceAll(good, "_", "%5F"))
	f.Fuzz(func(t *testing.T, query string) {
		got, err := signedurl.Parse(query)
		if err != nil || got.Verify(k, signedurl.Confirm, merchantUID) != nil {
			return
		}
		if got.Amount != claims.Amount || got.Expires != claims.Expires || got.Account != claims.Account {
			t.Fatalf("%q verifies as %+v", query, got)
		}
		for part := range strings.SplitSeq(good, "&") {
			if !strings.Contains(query, part) {
				t.Fatalf("%q verifies without %q", query, part)
			}
		}
	})
}

// FuzzSign: what was signed verifies, and nothing else does: no other order, purpose, key or spelling.
func FuzzSign(f *testing.F) {
	f.Add("secret", "order-1", int64(15000), int64(1800000000), "", 3, byte('9'))
	f.Add("k", merchantUID, int64(1), int64(0), "second", 40, byte('%'))
	f.Fuzz(func(t *testing.T, secret, uid string, amount, expires int64, account string, at int, with byte) {
		if amount <= 0 || expires < 0 || account != "" && !signedurl.ValidAccount(account) {
			return
		}
		k := keys(t, secret)
		claims := signedurl.Claims{Account: account, Amount: strconv.FormatInt(amount, 10), Expires: expires}
		base, err := signedurl.ParseBase("https://shop.example/cvs/confirm")
		require.NoError(t, err)
		_, query, _ := strings.Cut(signURL(t, base, k, uid, claims), "?")
		got, err := signedurl.Parse(query)
		require.NoError(t, err, query)
		require.NoError(t, got.Verify(k, signedurl.Confirm, uid), query)
		if got.Account != account || got.Amount != claims.Amount || got.Expires != expires {
			t.Fatalf("%+v became %+v", claims, got)
		}
		require.Error(t, verify(query, k, signedurl.Notice, uid))
		require.Error(t, verify(query, k, signedurl.Confirm, uid+"x"))
		require.Error(t, verify(query, keys(t, secret+"x"), signedurl.Confirm, uid))

		at = int(uint(at) % uint(len(query)))
		altered := query[:at] + string(with) + query[at+1:]
		if altered != query && verify(altered, k, signedurl.Confirm, uid) == nil {
			t.Fatalf("%q and %q both verify", query, altered)
		}
		escaped := query[:at] + fmt.Sprintf("%%%02x", query[at]) + query[at+1:]
		if verify(escaped, k, signedurl.Confirm, uid) == nil {
			t.Fatalf("%q and %q both verify", query, escaped)
		}
	})
}

// Signing is one HMAC-SHA256 and one text. Verifying is the same without the text, after
// the query was parsed. The HMAC alone is the least that either can take.

func BenchmarkSign(b *testing.B) {
	k := keys(b, "imp_secret")
	base, err := signedurl.ParseBase("https://shop.example/cvs/confirm")
	require.NoError(b, err)
	claims := signedurl.Claims{Amount: "15000", Expires: 1_800_000_000}
	b.Run("Sign", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = base.Sign(k, signedurl.Confirm, merchantUID, claims)
		}
	})
	b.Run("HMAC", func(b *testing.B) {
		h, msg, sum := hmac.New(sha256.New, make([]byte, 32)), make([]byte, 60), make([]byte, 0, 32)
		b.ReportAllocs()
		for b.Loop() {
			h.Reset()
			h.Write(msg)
			sum = h.Sum(sum[:0])
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := keys(b, "imp_secret")
	query := sign(b, k, signedurl.Claims{Amount: "15000", Expires: 1_800_000_000})
	b.ReportAllocs()
	for b.Loop() {
		if err := verify(query, k, signedurl.Confirm, merchantUID); err != nil {
			b.Fatal(err)
		}
	}
}

// A URL that an old version signed, without an id, must stay valid: its barcode may be paid
// for weeks.
func TestURLOfOldVersionIsVerified(t *testing.T) {
	t.Parallel()
	const signed = "cvs_amount=15000&cvs_expires=1800000000&cvs_sig=b4Z8VD9mpp2RcWZTYRwTOA"
	require.NoError(t, verify(signed, keys(t, "secret"), signedurl.Confirm, merchantUID))
}

func TestNewIDIsUnique(t *testing.T) {
	t.Parallel()
	a, b := signedurl.NewID(), signedurl.NewID()
	assert.NotEqual(t, a, b)
	assert.Regexp(t, `^[0-9A-Za-z_-]{16}$`, a)
}
