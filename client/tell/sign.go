package tell

// This file holds the signature of the Standard Webhooks, https://www.standardwebhooks.com.

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

const (
	secretPrefix = "whsec_"
	minSecret    = 24 // bytes, by the specification
	maxSecret    = 64
)

// Secret is a key that signs messages. It does not print itself.
type Secret struct {
	mac func() hash.Hash // hides the key from fmt, which does not call the methods of an unexported field
}

// ParseSecret reads a secret as the Standard Webhooks write it: "whsec_" and the base64 of 24 to 64
// bytes. The error does not repeat any of it.
func ParseSecret(text string) (Secret, error) {
	encoded, found := strings.CutPrefix(text, secretPrefix)
	if !found {
		return Secret{}, errors.New("the secret does not begin with " + secretPrefix)
	}
	// The decoder would ignore line feeds, and unused bits at the end. Other libraries do not.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return Secret{}, errors.New("what follows " + secretPrefix + " in the secret is not base64 of the standard alphabet, with padding and without spaces")
	}
	if len(key) < minSecret || len(key) > maxSecret {
		return Secret{}, fmt.Errorf("the secret has %d bytes, and must have %d to %d: make one with \"openssl rand -base64 32\", and put %s before it", len(key), minSecret, maxSecret, secretPrefix)
	}
	return Secret{func() hash.Hash { return hmac.New(sha256.New, key) }}, nil
}

// hidden stands for a secret wherever it is printed.
const hidden = "***"

// String hides the secret.
func (Secret) String() string { return hidden }

// Format hides the secret from every verb, such as %x and %#v.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the secret from JSON and from logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Sign returns the header field webhook-signature of an attempt: a signature for each secret, so
// that the app accepts it before and after it gets a new one. at is the time that the field
// webhook-timestamp has, in whole seconds. Without secrets there is no signature, and no field.
func Sign(secrets []Secret, id string, at time.Time, body []byte) string {
	signed := bytes.Join([][]byte{[]byte(id), fmt.Append(nil, at.Unix()), body}, []byte("."))
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := secret.mac()
		mac.Write(signed)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

var (
	_ fmt.Stringer  = Secret{}
	_ fmt.Formatter = Secret{}
)
