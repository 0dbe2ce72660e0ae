// Package signedurl signs the callback URLs that are sent with a barcode. A webhook
// carries neither an amount nor a signature. The URL at which it arrives proves for
// which order, amount and deadline the barcode was issued. Whoever holds the key can
// verify any webhook: nothing is stored per barcode.
//
// It knows URLs, keys and claims. It does not know the API, a webhook's body, or who
// may call.
package signedurl

// This file holds all of it: keys, signing, reading the claims of a query, verifying.

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

// Purpose keeps a URL that was signed for one callback from serving another.
type Purpose string

// The callbacks of a barcode, and the probe of a callback URL, which is about no barcode.
const (
	Confirm Purpose = "confirm"
	Notice  Purpose = "notice"
	Probe   Purpose = "probe"
)

const (
	version = "caddy-cvs v1"
	prefix  = "cvs_"
	sigSize = 16 // 128 bits
	idSize  = 12 // 96 bits
)

// names are the parameters that Sign adds.
var names = []string{"cvs_amount", "cvs_expires", "cvs_account", "cvs_id", "cvs_sig"}

var (
	// ErrUnsigned is returned for a query without any cvs_ parameter.
	ErrUnsigned = errors.New("the URL is not signed")
	// ErrNoKey is returned for signing without a key.
	ErrNoKey = errors.New("there is no key to sign the URL with")
	// ErrSignature is returned for anything but the one signed query.
	ErrSignature = errors.New("the URL's signature does not hold for this order")
)

// Keys are the keys of one account. The first signs, all verify. The zero Keys can do
// neither.
type Keys struct{ keys [][]byte }

// NewKeys derives the keys from secrets with HKDF-SHA256. The derivation is the
// same for every secret, so that an account which signed with its imp_secret
// can move to a key of its own and keep imp_secret as the previous one.
func NewKeys(secrets ...string) (Keys, error) {
	var k Keys
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, version+" signed url", sha256.Size)
		if err != nil {
			return Keys{}, err
		}
		k.keys = append(k.keys, key)
	}
	if len(k.keys) == 0 {
		return Keys{}, errors.New("deriving signing keys: no secret given")
	}
	return k, nil
}

// Claims is what a signed URL says about its barcode.
type Claims struct {
	Account string // name of the account, "" for the unnamed one
	Amount  string // in the form that decimal.Canonical gives
	Expires int64  // payment deadline in Unix seconds, 0 if the barcode has none that is known
	ID      string // of the attempt to issue the barcode, from NewID; "" in URLs of old versions

	sig []byte
}

// NewID returns a random id of an attempt: 96 bits in base64url.
func NewID() string {
	var id [idSize]byte
	_, _ = rand.Read(id[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// ValidID reports whether NewID can have made an id.
func ValidID(id string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	return err == nil && len(raw) == idSize && !strings.ContainsAny(id, "\r\n")
}

// ExpiredAt reports whether the deadline has passed at now.
func (c Claims) ExpiredAt(now time.Time) bool {
	return c.Expires != 0 && now.Unix() > c.Expires
}

// Base is a callback URL that is ready to be signed.
type Base struct{ prefix string }

// ParseBase parses a callback URL: absolute, http or https, without fragment,
// credentials or parameters whose names begin with cvs_.
func ParseBase(raw string) (*Base, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("need an absolute http or https URL")
	case u.User != nil || strings.Contains(raw, "#"):
		return nil, errors.New("need a URL without credentials and fragment")
	case strings.Contains(u.RawQuery, prefix):
		return nil, errors.New("parameters that begin with cvs_ are added when the URL is signed")
	}
	if !strings.Contains(raw, "?") {
		raw += "?"
	} else if u.RawQuery != "" {
		raw += "&"
	}
	return &Base{raw}, nil
}

// String returns the URL without a signature, or "" for nil.
func (b *Base) String() string {
	if b == nil {
		return ""
	}
	return b.prefix
}

// Sign returns the URL for one barcode. The error is ErrNoKey.
func (b *Base) Sign(keys Keys, purpose Purpose, merchantUID string, c Claims) (string, error) {
	if len(keys.keys) == 0 {
		return "", ErrNoKey
	}
	account, id := "", ""
	if c.Account != "" {
		account = "&cvs_account=" + c.Account
	}
	if c.ID != "" {
		id = "&cvs_id=" + c.ID
	}
	sig := base64.RawURLEncoding.EncodeToString(mac(keys.keys[0], purpose, merchantUID, c))
	return b.prefix + "cvs_amount=" + c.Amount + "&cvs_expires=" + c.expires() + account + id + "&cvs_sig=" + sig, nil
}

// expires returns the deadline as it stands in the URL, "" for none.
func (c Claims) expires() string {
	if c.Expires == 0 {
		return ""
	}
	return strconv.FormatInt(c.Expires, 10)
}

// Parse reads the claims in a query. It does not verify them: find the account's
// keys by its name, then call Verify. Any spelling but the one that Sign wrote
// is ErrSignature, percent-encoded or repeated parameters included.
func Parse(rawQuery string) (Claims, error) {
	params := make(map[string]string)
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, value, hasValue := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil || !strings.HasPrefix(decoded, prefix) {
			continue
		}
		if _, repeated := params[name]; repeated || !hasValue || !slices.Contains(names, name) {
			return Claims{}, ErrSignature
		}
		params[name] = value
	}
	if len(params) == 0 {
		return Claims{}, ErrUnsigned
	}
	return readClaims(params)
}

func readClaims(params map[string]string) (Claims, error) {
	amount, hasAmount := params["cvs_amount"]
	expires, hasExpires := params["cvs_expires"]
	account, hasAccount := params["cvs_account"]
	id, hasID := params["cvs_id"]
	c := Claims{Account: account, Amount: amount, ID: id}
	if !hasAmount || !hasExpires || hasAccount && !ValidAccount(account) || hasID && !ValidID(id) {
		return Claims{}, ErrSignature
	}
	if canonical, ok := decimal.Canonical(amount); !ok || canonical != amount {
		return Claims{}, ErrSignature
	}
	if expires != "" {
		c.Expires, _ = strconv.ParseInt(expires, 10, 64)
		if c.expires() != expires {
			return Claims{}, ErrSignature
		}
	}
	var err error
	// Strict, because the last character has bits to spare: a second spelling of the
	// same signature must not pass.
	c.sig, err = base64.RawURLEncoding.Strict().DecodeString(params["cvs_sig"])
	if err != nil || len(c.sig) != sigSize || strings.ContainsAny(params["cvs_sig"], "\r\n") {
		return Claims{}, ErrSignature
	}
	return c, nil
}

// Verify reports, as nil or ErrSignature, whether the claims were signed with
// one of the keys for this purpose and order. The time it takes tells nothing
// about the signature.
func (c Claims) Verify(keys Keys, purpose Purpose, merchantUID string) error {
	match := false
	for _, key := range keys.keys {
		if hmac.Equal(c.sig, mac(key, purpose, merchantUID, c)) {
			match = true
		}
	}
	if !match {
		return ErrSignature
	}
	return nil
}

// ValidAccount reports whether name can name an account: 1 to 64 ASCII letters,
// digits, "_" and "-", which need no escaping in a URL.
func ValidAccount(name string) bool {
	return len(name) > 0 && len(name) <= 64 && strings.Trim(name, accountCharacters) == ""
}

const accountCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// mac returns the signature. Each field stands behind its length, so that no two lists of
// fields give one message.
func mac(key []byte, purpose Purpose, merchantUID string, c Claims) []byte {
	msg := make([]byte, 0, 128)
	fields := []string{version, string(purpose), c.Account, merchantUID, c.Amount, c.expires()}
	if c.ID != "" { // a URL of an old version has no such field, and stays valid
		fields = append(fields, c.ID)
	}
	for _, field := range fields {
		msg = binary.AppendUvarint(msg, uint64(len(field)))
		msg = append(msg, field...)
	}
	h := hmac.New(sha256.New, key)
	h.Write(msg)
	return h.Sum(nil)[:sigSize]
}
