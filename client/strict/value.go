package strict

import "github.com/tidwall/gjson"

// Kind is the type of a Value. A form's values are all of kind String.
type Kind int

// The kinds of JSON values, and Absent for what is not there.
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

// Missing reports whether the sender left the value out: absent, null or "".
func (v Value) Missing() bool {
	return v.Kind == Absent || v.Kind == Null || (v.Kind == String && v.Text == "")
}

func jsonValue(r gjson.Result) Value {
	switch r.Type {
	case gjson.Null:
		return Value{Kind: Null}
	case gjson.True, gjson.False:
		return Value{Kind: Bool, Text: r.Raw}
	case gjson.Number:
		return Value{Kind: Number, Text: r.Raw}
	case gjson.String:
		return Value{Kind: String, Text: r.Str}
	default:
		if r.IsArray() {
			return Value{Kind: Array, raw: r.Raw}
		}
		return Value{Kind: Object, raw: r.Raw}
	}
}
