package strict

// This file holds Value, one value of a Body.

import "github.com/tidwall/gjson"

// Kind is the type of a Value. A form's values are all of kind String.
type Kind int

// The kinds of JSON values, and Absent for no value.
const (
	Absent Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// String names the kind as a message does: "a number".
func (k Kind) String() string {
	return [...]string{"nothing", "null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// Value is one value of a Body.
type Value struct {
	Kind Kind
	// Text is a string's content, or a number or bool as it was written.
	Text string
	raw  string // of an array or object
}

// Missing reports whether the value is missing, null or empty.
func (v Value) Missing() bool {
	return v.Kind == Absent || v.Kind == Null || (v.Kind == String && v.Text == "")
}

// KindOf returns the kind of a JSON value, Absent if it does not exist.
func KindOf(r gjson.Result) Kind {
	switch {
	case !r.Exists():
		return Absent
	case r.Type == gjson.Null:
		return Null
	case r.Type == gjson.True || r.Type == gjson.False:
		return Bool
	case r.Type == gjson.Number:
		return Number
	case r.Type == gjson.String:
		return String
	case r.IsArray():
		return Array
	default:
		return Object
	}
}

func jsonValue(r gjson.Result) Value {
	v := Value{Kind: KindOf(r)}
	switch v.Kind {
	case Bool, Number:
		v.Text = r.Raw
	case String:
		v.Text = r.Str
	case Array, Object:
		v.raw = r.Raw
	case Absent, Null:
	}
	return v
}
