// Package signedurl signs the callback URLs that are sent with a barcode, so
// that a webhook, which carries neither amount nor signature, proves by the URL
// it arrives at for which order, amount and deadline the barcode was issued.
// Whoever holds the key can verify any webhook: nothing is stored per barcode.
package signedurl

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

// Purpose keeps a URL that was signed for one callback from serving another.
type Purpose string

// The callbacks of a barcode.
const (
	Confirm Purpose = "confirm"
	Notice  Purpose = "notice"
)

const (
	version = "caddy-cvs v1"
	prefix  = "cvs_"
	sigSize = 16 // 128 bits

	sigLength = (sigSize*8 + 5) / 6 // in base64url without padding
)

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
type Keys struct{ keys []*key }

// key lends out signers with the key already worked in, which is half of their work.
type key struct{ signers sync.Pool }

// signer is an HMAC with room for what it signs.
type signer struct {
	mac hash.Hash
	msg []byte
}

func newKey(secret []byte) *key {
	return &key{sync.Pool{New: func() any { return &signer{mac: hmac.New(sha256.New, secret)} }}}
}

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
		k.keys = append(k.keys, newKey(key))
	}
	if len(k.keys) == 0 {
		return Keys{}, errors.New("deriving signing keys: no secret given")
	}
	return k, nil
}

// Claims is what a signed URL tells about its barcode.
type Claims struct {
	Account string // name of the account, "" for the unnamed one
	Amount  string // in the form that decimal.Canonical gives
	Expires int64  // payment deadline in Unix seconds, 0 if the barcode has none that is known

	sig []byte
}

// ExpiredAt reports whether the deadline has passed at now.
func (t Claims) ExpiredAt(now time.Time) bool {
	return t.Expires != 0 && now.Unix() > t.Expires
}

// Base is a callback URL that is ready to be signed.
type Base struct{ prefix string }

// ParseBase checks a callback URL: absolute, http or https, without fragment,
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
func (b *Base) Sign(keys Keys, purpose Purpose, merchantUID string, t Claims) (string, error) {
	if len(keys.keys) == 0 {
		return "", ErrNoKey
	}
	account := ""
	if t.Account != "" {
		account = "&cvs_account=" + t.Account
	}
	expires := t.expires()
	mac := keys.keys[0].mac(purpose, merchantUID, t, expires)
	var sig [sigLength]byte
	base64.RawURLEncoding.Encode(sig[:], mac[:])
	return b.prefix + "cvs_amount=" + t.Amount + "&cvs_expires=" + expires + account + "&cvs_sig=" + string(sig[:]), nil
}

func (t Claims) expires() string {
	if t.Expires == 0 {
		return ""
	}
	return strconv.FormatInt(t.Expires, 10)
}

// Parse reads the claims in a query. It does not verify it: find the account's
// keys by its name, then call Verify. Any spelling but the one that Sign wrote
// is ErrSignature, percent-encoded or repeated parameters included.
func Parse(rawQuery string) (Claims, error) {
	var p params
	signed := false
	for pair := range strings.SplitSeq(rawQuery, "&") {
		name, value, written := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil || !strings.HasPrefix(decoded, prefix) {
			continue
		}
		param := p.named(name)
		if param == nil || param.there || !written {
			return Claims{}, ErrSignature
		}
		*param, signed = parameter{value, true}, true
	}
	if !signed {
		return Claims{}, ErrUnsigned
	}
	return p.claims()
}

// params are the parameters of a signed URL.
type params struct{ amount, expires, account, sig parameter }

type parameter struct {
	value string
	there bool
}

// named returns the parameter of that name, spelled exactly so, or nil.
func (p *params) named(name string) *parameter {
	switch name {
	case "cvs_amount":
		return &p.amount
	case "cvs_expires":
		return &p.expires
	case "cvs_account":
		return &p.account
	case "cvs_sig":
		return &p.sig
	default:
		return nil
	}
}

func (p *params) claims() (Claims, error) {
	if !p.amount.there || !p.expires.there || !p.sig.there || p.account.there && !ValidAccount(p.account.value) {
		return Claims{}, ErrSignature
	}
	t := Claims{Account: p.account.value, Amount: p.amount.value}
	if amount, ok := decimal.Canonical(t.Amount); !ok || amount != t.Amount {
		return Claims{}, ErrSignature
	}
	if p.expires.value != "" {
		t.Expires, _ = strconv.ParseInt(p.expires.value, 10, 64)
		if t.expires() != p.expires.value {
			return Claims{}, ErrSignature
		}
	}
	var err error
	// Strict, because the last character has bits to spare and a second
	// spelling of the same signature must not pass.
	t.sig, err = base64.RawURLEncoding.Strict().DecodeString(p.sig.value)
	if err != nil || len(t.sig) != sigSize || strings.ContainsAny(p.sig.value, "\r\n") {
		return Claims{}, ErrSignature
	}
	return t, nil
}

// Verify reports, as nil or ErrSignature, whether the claims was signed with
// one of the keys for this purpose and order. The time it takes tells nothing
// about the signature.
func (t Claims) Verify(keys Keys, purpose Purpose, merchantUID string) error {
	match, expires := false, t.expires()
	for _, key := range keys.keys {
		mac := key.mac(purpose, merchantUID, t, expires)
		if hmac.Equal(t.sig, mac[:]) {
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

// mac signs the fields with their lengths before them, so that no two lists of
// fields share an encoding.
func (k *key) mac(purpose Purpose, merchantUID string, t Claims, expires string) (sig [sigSize]byte) {
	s := k.signers.Get().(*signer)
	defer k.signers.Put(s)
	msg := s.msg[:0]
	for _, field := range [...]string{version, string(purpose), t.Account, merchantUID, t.Amount, expires} {
		msg = binary.AppendUvarint(msg, uint64(len(field)))
		msg = append(msg, field...)
	}
	s.mac.Reset()
	s.mac.Write(msg)
	s.msg = s.mac.Sum(msg[:0])
	copy(sig[:], s.msg)
	return sig
}
