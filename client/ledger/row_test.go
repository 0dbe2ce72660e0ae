package ledger

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
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

// full returns a row in which every field has a value.
func full(t *testing.T) *Row {
	t.Helper()
	r := new(Row)
	n := 0
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		n++
		switch v.Kind() {
		case reflect.Struct:
			for _, field := range v.Fields() {
				fill(field)
			}
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Slice:
			if v.Type() == reflect.TypeFor[jsontext.Value]() {
				v.SetBytes(fmt.Appendf(nil, `{"newer%d":true}`, n))
				return
			}
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fill(v.Index(0))
			fill(v.Index(1))
		case reflect.String:
			v.SetString(fmt.Sprint("text", n))
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(int64(n))
		case reflect.Uint64:
			v.SetUint(uint64(n))
		default:
			require.Fail(t, "a field of a kind that the test does not know", v.Type())
		}
	}
	fill(reflect.ValueOf(r).Elem())
	return r
}

func TestRowIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	row := full(t)
	encoded, err := row.Encode()
	require.NoError(t, err)
	got, err := DecodeRow(encoded)
	require.NoError(t, err)
	assert.Equal(t, row, got)
	small, err := (&Row{Format: Format, Order: "o", Attempts: []Attempt{{ID: "a", State: Asked}}}).Encode()
	require.NoError(t, err)
	assert.JSONEq(t, `{"format":1,"order":"o","version":0,"due":0,"attempts":[{"id":"a","state":"asked","amount":"","asked":0,"since":0}]}`, string(small), "what has no value takes no room")
}

func TestRowCloneIsDeep(t *testing.T) {
	t.Parallel()
	row, want := full(t), full(t)
	clone := row.Clone()
	assert.Equal(t, want, clone)
	seen := 0
	var spoil func(v reflect.Value)
	spoil = func(v reflect.Value) { // changes everything that a pointer or a slice leads to
		switch v.Kind() {
		case reflect.Struct:
			for _, field := range v.Fields() {
				spoil(field)
			}
		case reflect.Pointer:
			spoil(v.Elem())
			v.Elem().SetZero()
			seen++
		case reflect.Slice:
			for i := range v.Len() {
				spoil(v.Index(i))
				v.Index(i).SetZero()
				seen++
			}
		}
	}
	spoil(reflect.ValueOf(clone).Elem())
	assert.Equal(t, want, row)
	assert.Greater(t, seen, 10)
}

func TestRowThatIsEmpty(t *testing.T) {
	t.Parallel()
	assert.True(t, new(Row).Empty())
	assert.True(t, (&Row{Format: 1, Order: "o", AtTill: 5}).Empty())
	assert.False(t, (&Row{Attempts: []Attempt{{}}}).Empty())
	assert.False(t, (&Row{Hints: []Hint{{}}}).Empty(), "a notice of a payment that is not known yet")
	assert.False(t, (&Row{Mark: &Mark{}}).Empty())
}
