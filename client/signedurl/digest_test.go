package signedurl_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

func TestDigestIsKnownUnderEveryKey(t *testing.T) {
	t.Parallel()
	old, err := signedurl.NewKeys("the old secret")
	require.NoError(t, err)
	rotated, err := signedurl.NewKeys("the new secret", "the old secret")
	require.NoError(t, err)
	value := old.Digest("01012345678901234567")
	assert.NotContains(t, value, "0101")
	assert.Len(t, value, 22)
	assert.True(t, old.IsDigest(value, "01012345678901234567"))
	assert.True(t, rotated.IsDigest(value, "01012345678901234567"))
	assert.False(t, rotated.IsDigest(value, "01012345678901234568"))
	assert.NotEqual(t, value, rotated.Digest("01012345678901234567"))
	assert.False(t, old.IsDigest(rotated.Digest("1"), "1"), "a key that is not known any more, or not yet")
	assert.Empty(t, signedurl.Keys{}.Digest("1"))
	assert.False(t, signedurl.Keys{}.IsDigest("", "1"))
}

func TestProbeMACsCompareKeys(t *testing.T) {
	t.Parallel()
	nonce := signedurl.NewID()
	keys, err := signedurl.NewKeys("the new secret", "the old secret")
	require.NoError(t, err)
	old, err := signedurl.NewKeys("the old secret")
	require.NoError(t, err)
	macs := keys.ProbeMACs(nonce)
	require.Len(t, macs, 2)
	assert.Regexp(t, `^[\w-]{22}$`, macs[0])
	assert.Equal(t, macs[1:], old.ProbeMACs(nonce), "by key, and not by place")
	assert.NotEqual(t, macs[0], macs[1])
	assert.NotEqual(t, macs, keys.ProbeMACs(signedurl.NewID()), "no fingerprint that stays the same")
	assert.NotEqual(t, macs[0], keys.Digest(nonce), "another use of the key")
	assert.Empty(t, signedurl.Keys{}.ProbeMACs(nonce))
	for _, chosen := range []string{"", "x", nonce + "A", "01012345678901234567"} {
		assert.Empty(t, keys.ProbeMACs(chosen), "no MAC of a text that somebody chose")
	}
}
