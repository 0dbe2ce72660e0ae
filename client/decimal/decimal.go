// Package decimal compares numbers as they are written, digit for digit, so
// that 15000, 15000.0 and 1.5e4 are one amount and nothing is rounded.
//
// It knows how JSON writes numbers. It knows nothing of money, currencies or the API.
package decimal

// This file holds all of it: the canonical form of a number, and comparisons by it.

import (
	"math/big"
	"strconv"
	"strings"
)

// maxZeros is how many zeros Canonical writes out at most. A number with more keeps an
// exponent, so that a short "1e300" cannot become a long string.
const maxZeros = 20

// Canonical returns the one spelling that every JSON notation of the same
// number shares, such as "15000" for "15000", "15000.00" and "1.5e4". It
// reports false if s is not a number as JSON writes them (RFC 8259, section 6),
// which leaves out "+1", "01", ".5", "0x1F", "NaN" and surrounding space, or if
// its magnitude does not fit a double, the API's type for amounts.
func Canonical(s string) (string, bool) {
	if isCanonicalInteger(s) {
		return s, true
	}
	num, ok := parse(s)
	if !ok {
		return "", false
	}
	if f, err := strconv.ParseFloat(s, 64); err != nil || (f == 0 && num.digits != "") {
		return "", false
	}
	return num.String(), true
}

// isCanonicalInteger reports whether s is a whole number in canonical form, as most
// amounts are.
func isCanonicalInteger(s string) bool {
	whole, rest := digits(s)
	return whole != "" && rest == "" && len(whole) <= maxZeros && (whole[0] != '0' || len(whole) == 1)
}

// Equal reports whether a and b are numbers of the same value.
func Equal(a, b string) bool {
	ca, okA := Canonical(a)
	cb, okB := Canonical(b)
	return okA && okB && ca == cb
}

// Near reports whether a and b are numbers less than one apart.
func Near(a, b string) bool {
	x, okA := rational(a)
	y, okB := rational(b)
	return okA && okB && x.Sub(x, y).Abs(x).Cmp(big.NewRat(1, 1)) < 0
}

func rational(s string) (*big.Rat, bool) {
	c, ok := Canonical(s)
	if !ok {
		return nil, false
	}
	return new(big.Rat).SetString(c)
}

// Whole reports whether s is a number without a fraction.
func Whole(s string) bool {
	c, ok := Canonical(s)
	return ok && !strings.ContainsAny(strings.TrimPrefix(c, "-"), ".-") // "-" as in 1e-300
}

// Exact reports whether s is a whole number of at most 2^53, up to which a double
// holds each of them.
func Exact(s string) bool {
	c, _ := Canonical(s)
	n, err := strconv.ParseInt(c, 10, 64)
	return err == nil && -1<<53 <= n && n <= 1<<53
}

// Positive reports whether s is a number greater than zero.
func Positive(s string) bool {
	c, ok := Canonical(s)
	return ok && c != "0" && c[0] != '-'
}

// number is 0.digits × 10^exp; digits has neither leading nor trailing zeros
// and is empty for zero.
type number struct {
	negative bool
	digits   string
	exp      int
}

func parse(s string) (number, bool) {
	var n number
	s, n.negative = strings.CutPrefix(s, "-")
	whole, rest := digits(s)
	if whole == "" || (len(whole) > 1 && whole[0] == '0') {
		return n, false
	}
	frac := ""
	if after, ok := strings.CutPrefix(rest, "."); ok {
		if frac, rest = digits(after); frac == "" {
			return n, false
		}
	}
	exp, ok := exponent(rest)
	if !ok {
		return n, false
	}
	all := strings.TrimLeft(whole+frac, "0")
	n.digits = strings.TrimRight(all, "0")
	n.exp = exp + len(whole) - (len(whole+frac) - len(all))
	if n.digits == "" {
		return number{}, true
	}
	return n, true
}

// digits returns the digits at the start of s, and what follows them.
func digits(s string) (start, rest string) {
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}

func exponent(s string) (int, bool) {
	if s == "" {
		return 0, true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	unsigned := strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	if start, rest := digits(unsigned); start == "" || rest != "" || len(s)-len(unsigned) > 1 {
		return 0, false
	}
	exp, err := strconv.Atoi(s)
	return exp, err == nil && -10000 < exp && exp < 10000
}

func (n number) String() string {
	if n.digits == "" {
		return "0"
	}
	var b strings.Builder
	if n.negative {
		b.WriteByte('-')
	}
	switch size := len(n.digits); {
	case n.exp > size+maxZeros || n.exp < -maxZeros:
		b.WriteString(n.digits + "e" + strconv.Itoa(n.exp-size))
	case n.exp >= size:
		b.WriteString(n.digits + strings.Repeat("0", n.exp-size))
	case n.exp > 0:
		b.WriteString(n.digits[:n.exp] + "." + n.digits[n.exp:])
	default:
		b.WriteString("0." + strings.Repeat("0", -n.exp) + n.digits)
	}
	return b.String()
}
