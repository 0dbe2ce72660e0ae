package client_test

// This file holds tests of the types of a payment's fields.

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

func TestAmountsAreKeptDigitForDigit(t *testing.T) {
	t.Parallel()
	assert.EqualValues(t, "15000", client.Won(15000))
	assert.EqualValues(t, "-1", client.Won(-1))
	assert.True(t, client.Amount("15000").Equal("1.5e4"))
	assert.True(t, client.Amount("15000").Equal("15000.00"))
	assert.False(t, client.Amount("15000").Equal("15000.01"))
	assert.False(t, client.Amount("").Equal(""), "none is not a number")
	assert.False(t, client.Amount("NaN").Equal("NaN"))
	assert.Equal(t, "15000", client.Amount("1.50e4").Canonical())
	assert.Empty(t, client.Amount("15,000").Canonical())
	assert.Empty(t, client.Amount("").Canonical())
	raw, err := json.Marshal(client.Amount("15000.00"))
	require.NoError(t, err)
	assert.Equal(t, "15000.00", string(raw))
}

func TestZeroTimeIsNone(t *testing.T) {
	t.Parallel()
	assert.True(t, client.Time(0).Time().IsZero())
	assert.True(t, time.Unix(1790000000, 0).Equal(client.Time(1790000000).Time()))
}
