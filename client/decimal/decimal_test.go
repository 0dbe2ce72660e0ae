package decimal_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"15000":                  "15000",
		"15000.0":                "15000",
		"1.5e4":                  "15000",
		"1.5E+4":                 "15000",
		"150000e-1":              "15000",
		"0.5":                    "0.5",
		"5e-1":                   "0.5",
		"0.050":                  "0.05",
		"-12.340":                "-12.34",
		"0":                      "0",
		"-0.00":                  "0",
		"0e5":                    "0",
		"1e300":                  "1e300",
		"10e299":                 "1e300",
		"1e-300":                 "1e-300",
		"100000000000000000000":  "100000000000000000000",
		"9007199254740993":       "9007199254740993",
		"0.1000000000000000055":  "0.1000000000000000055",
		"123456789012345678.901": "123456789012345678.901",
	} {
		got, ok := decimal.Canonical(in)
		assert.True(t, ok, in)
		assert.Equal(t, want, got, in)
	}
}

func TestCanonicalRejects(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", "-", "+1", "01", "-01", ".5", "5.", "1e", "1e+", "1e+-1", "1e--1", "1x", "0x1F", "1_000", "15,000",
		" 1", "1 ", "NaN", "Infinity", "1e309", "-1e309", "1e99999", "1e-400", "1e99999999999999999999", "١",
	} {
		got, ok := decimal.Canonical(in)
		assert.False(t, ok, "%q gave %q", in, got)
	}
}

func TestEqualComparesNumbersNotText(t *testing.T) {
	t.Parallel()
	assert.True(t, decimal.Equal("15000", "15000.0"))
	assert.True(t, decimal.Equal("1e300", "10e299"))
	// One double, two numbers: rounding must not make them equal.
	assert.False(t, decimal.Equal("9007199254740993", "9007199254740992"))
	assert.False(t, decimal.Equal("15000", "15000.01"))
	assert.False(t, decimal.Equal("x", "x"))
}

func TestPositiveMeansGreaterThanZero(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{"1": true, "0.001": true, "0": false, "-0": false, "-1": false, "x": false} {
		assert.Equal(t, want, decimal.Positive(in), in)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"15000", "1.5e4", "-0.0", "1e-7", "1e309", "0.1e-19", "123e22"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := decimal.Canonical(s)
		if !ok {
			return
		}
		again, ok := decimal.Canonical(got)
		if !ok || again != got {
			t.Fatalf("%q: canonical form %q becomes %q", s, got, again)
		}
		a, _ := strconv.ParseFloat(s, 64)
		b, _ := strconv.ParseFloat(got, 64)
		if a != b {
			t.Fatalf("%q is %v, its canonical form %q is %v", s, a, got, b)
		}
	})
}

func TestNearMeansLessThanOneApart(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{{"15000", "15000"}, {"15000", "15000.999"}, {"14999.000000000001", "15000"}, {"15000", "1.5e4"}, {"1e300", "10e299"}} {
		assert.True(t, decimal.Near(pair[0], pair[1]), pair)
		assert.True(t, decimal.Near(pair[1], pair[0]), pair)
	}
	for _, pair := range [][2]string{{"15000", "15001"}, {"15000", "14999"}, {"9007199254740993", "9007199254740992"}, {"1", "-0.5"}, {"1e300", "1"}, {"x", "x"}, {"1", ""}} {
		assert.False(t, decimal.Near(pair[0], pair[1]), pair)
		assert.False(t, decimal.Near(pair[1], pair[0]), pair)
	}
}

func TestWholeAndExact(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]struct{ whole, exact bool }{
		"15000": {true, true}, "15000.0": {true, true}, "1.5e4": {true, true}, "-3": {true, true}, "0": {true, true},
		"9007199254740992": {true, true}, "9007199254740993": {true, false}, "1e300": {true, false}, "-1e300": {true, false},
		"15000.000000000002": {false, false}, "0.5": {false, false}, "-0.5": {false, false}, "1e-300": {false, false}, "-1e-300": {false, false},
		"x": {false, false}, "": {false, false},
	} {
		assert.Equal(t, want.whole, decimal.Whole(number), number)
		assert.Equal(t, want.exact, decimal.Exact(number), number)
	}
}
