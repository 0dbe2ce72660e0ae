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
