package signedurl

// This file holds the keyed digest of a text that is compared and not kept, and the answer to a probe.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// digest returns 128 bits of HMAC-SHA256 in base64url. What is digested begins with another word
// than what is signed, and for each use with its own.
func digest(key []byte, use, text string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(version + " " + use + "\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:sigSize])
}

// Digest returns a digest of a text under the first key, "" without a key.
func (k Keys) Digest(text string) string {
	if len(k.keys) == 0 {
		return ""
	}
	return digest(k.keys[0], "digest", text)
}

// IsDigest reports whether Digest gave the value for this text, under any of the keys.
func (k Keys) IsDigest(value, text string) bool {
	for _, key := range k.keys {
		if hmac.Equal([]byte(digest(key, "digest", text)), []byte(value)) {
			return true
		}
	}
	return false
}

// ProbeMACs returns a MAC of a probe's nonce for each key, in their order. Two lists show how many keys two
// gateways share and in which order they have them, and nothing of a key. The nonce must be a ValidID:
// otherwise whoever chooses it could learn the MACs of other texts.
func (k Keys) ProbeMACs(nonce string) []string {
	if !ValidID(nonce) {
		return nil
	}
	macs := make([]string, len(k.keys))
	for i, key := range k.keys {
		macs[i] = digest(key, "probe", nonce)
	}
	return macs
}
