package ledger

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRowKeepsMembersOfANewerVersion(t *testing.T) {
	t.Parallel()
	const newer = `{"format":2,"order":"o-1","version":7,"due":1,"told":{"paid":3},"attempts":[{"id":"a","state":"settled","amount":"1","asked":5,"since":6,"late":true}]}`
	row, err := DecodeRow([]byte(newer))
	require.NoError(t, err)
	assert.Equal(t, 2, row.Format)
	assert.Equal(t, State("settled"), row.Attempts[0].State)
	assert.Greater(t, row.Attempts[0].State.rank(), Refunded.rank())
	encoded, err := row.Encode()
	require.NoError(t, err)
	assert.JSONEq(t, newer, string(encoded))
}

func TestRowThatIsNoRow(t *testing.T) {
	t.Parallel()
	for _, data := range []string{``, `null x`, `{"format":"1"}`, `{"attempts":7}`} {
		_, err := DecodeRow([]byte(data))
		assert.ErrorContains(t, err, "reading a row of the ledger", data)
	}
}

func TestRowCloneIsDeep(t *testing.T) {
	t.Parallel()
	row := &Row{Order: "o", Attempts: []Attempt{{ID: "a", Fields: []string{"name"}, Unknown: []byte(`{}`)}}, Unknown: []byte(`{}`)}
	clone := row.Clone()
	assert.Equal(t, row, clone)
	clone.Attempts[0].ID, clone.Attempts[0].Fields[0], clone.Attempts[0].Unknown[0], clone.Unknown[0] = "b", "amount", ' ', ' '
	assert.Equal(t, &Row{Order: "o", Attempts: []Attempt{{ID: "a", Fields: []string{"name"}, Unknown: []byte(`{}`)}}, Unknown: []byte(`{}`)}, row)
}
