package signedurl

// This file holds the keyed digest of a text that is compared and not kept.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// digest returns 128 bits of HMAC-SHA256 in base64url. What is digested begins with another word
// than what is signed.
func digest(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(version + " digest\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:sigSize])
}

// Digest returns a digest of a text under the first key, "" without a key.
func (k Keys) Digest(text string) string {
	if len(k.keys) == 0 {
		return ""
	}
	return digest(k.keys[0], text)
}

// IsDigest reports whether Digest gave the value for this text, under any of the keys.
func (k Keys) IsDigest(value, text string) bool {
	for _, key := range k.keys {
		if hmac.Equal([]byte(digest(key, text)), []byte(value)) {
			return true
		}
	}
	return false
}
