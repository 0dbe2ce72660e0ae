package client

// This file holds the types of a payment's fields, which the API writes in several ways.

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

// List is a list that may come as null or, when it is empty, as anything else.
type List[T any] []T

// UnmarshalJSON reads an array; anything else counts as empty.
func (l *List[T]) UnmarshalJSON(raw []byte) error {
	*l = nil
	if raw[0] != '[' {
		return nil
	}
	return json.Unmarshal(raw, (*[]T)(l))
}

// scalar returns the text of a JSON string, or any other value as it is
// written, and "" for null.
func scalar(raw []byte) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// Text is a string that may come as a number, a bool or null.
type Text string

// UnmarshalJSON reads any JSON value.
func (t *Text) UnmarshalJSON(raw []byte) error {
	*t = Text(scalar(raw))
	return nil
}

// Bool is a bool that may come as a string, a number or null.
type Bool bool

// UnmarshalJSON reads true, "true", 1 and "1" as true, all else as false.
func (b *Bool) UnmarshalJSON(raw []byte) error {
	s := scalar(raw)
	*b = s == "true" || s == "1"
	return nil
}

// Int is a whole number that may come as a string or null.
type Int int64

// UnmarshalJSON reads a number or a numeric string; anything else counts as 0.
func (n *Int) UnmarshalJSON(raw []byte) error {
	*n = 0
	if text, ok := decimal.Canonical(strings.TrimSpace(scalar(raw))); ok {
		whole, _, _ := strings.Cut(text, ".")
		if i, err := strconv.ParseInt(whole, 10, 64); err == nil {
			*n = Int(i)
		}
	}
	return nil
}

// Time is a moment in Unix seconds, 0 for none.
type Time int64

// UnmarshalJSON reads a number or a numeric string; anything else counts as 0.
func (t *Time) UnmarshalJSON(raw []byte) error { return (*Int)(t).UnmarshalJSON(raw) }

// Time returns the moment, or the zero time.Time for 0.
func (t Time) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0)
}

// Amount is an amount of money, digit for digit as it is written.
type Amount string

// Won is an amount in the currency that has no smaller unit.
func Won(n int64) Amount { return Amount(strconv.FormatInt(n, 10)) }

// Equal reports whether the two are the same number: 15000 equals 15000.0.
func (a Amount) Equal(other Amount) bool { return decimal.Equal(string(a), string(other)) }

// Canonical returns the number in the form that decimal.Canonical gives, or ""
// if there is none.
func (a Amount) Canonical() string {
	text, _ := decimal.Canonical(string(a))
	return text
}

// UnmarshalJSON reads a number or a numeric string, and null as "".
func (a *Amount) UnmarshalJSON(raw []byte) error {
	s := strings.TrimSpace(scalar(raw))
	if s == "null" {
		s = ""
	}
	if _, ok := decimal.Canonical(s); !ok && s != "" {
		return errors.New("reading amount: not a number")
	}
	*a = Amount(s)
	return nil
}

// MarshalJSON writes a number, null for "", and any other text as a string,
// which ParseIssue then rejects.
func (a Amount) MarshalJSON() ([]byte, error) {
	if a == "" {
		return []byte("null"), nil
	}
	if _, ok := decimal.Canonical(string(a)); !ok {
		return json.Marshal(string(a))
	}
	return []byte(a), nil
}
