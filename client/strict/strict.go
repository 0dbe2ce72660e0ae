// Package strict reads JSON and form bodies that must mean the same to every
// reader. Payments depend on what they say, and another parser reads the same body
// again. So this package rejects whatever two parsers could read differently:
// duplicate names, also by case or escape, invalid UTF-8, trailing bytes, numbers that
// no double holds, and deep nesting.
//
// It knows JSON, forms and media types. It does not know the API: the caller says which
// fields there are and what they may hold.
package strict

// This file holds Body: parsing it, and looking values up.

import (
	"errors"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// The media types that a body may have.
const (
	JSON = "application/json"
	Form = "application/x-www-form-urlencoded"
)

// ErrMediaType is returned for a Content-Type other than JSON or form in UTF-8.
var ErrMediaType = errors.New("use Content-Type application/json or application/x-www-form-urlencoded, in UTF-8")

// Body is an object or a form, with its bytes as they came.
type Body struct {
	mediaType string
	text      string // as it came; the values are parts of it
	raw       []byte // with the values that were set; nil if none was
	fields    []field
}

// field is one top-level name with the place of its value: raw[start:end].
type field struct {
	name       string
	value      Value
	start, end int
}

// Parse reads body as contentType says. The known names are those that the
// caller will look for: a name that only resembles one, such as "Amount" or, in
// a form, "amount[]" or "merchant.uid", is rejected, because some parsers take
// it for the known name.
//
// The error is an ErrMediaType that names what was sent instead, or says what is wrong
// with the body; it names fields, never their values.
func Parse(contentType string, body []byte, known ...string) (*Body, error) {
	mediaType, err := readMediaType(contentType)
	if err != nil {
		return nil, err
	}
	b := &Body{mediaType: mediaType, text: string(body)}
	if err := b.validateStart(); err != nil {
		return nil, err
	}
	if mediaType == JSON {
		err = b.parseJSON(body)
	} else {
		err = b.parseForm()
	}
	if err != nil {
		return nil, err
	}
	if err := b.rejectLookalikes(known); err != nil {
		return nil, err
	}
	return b, nil
}

func readMediaType(contentType string) (string, error) {
	if contentType == JSON || contentType == Form {
		return contentType, nil
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	charset, ok := params["charset"]
	switch {
	case contentType == "":
		return "", fmt.Errorf("there is no Content-Type: %w", ErrMediaType)
	case err != nil || mediaType != JSON && mediaType != Form:
		return "", fmt.Errorf("Content-Type %s: %w", quote(contentType), ErrMediaType)
	case ok && !isUTF8(charset):
		return "", fmt.Errorf("charset %s: convert the body to UTF-8: %w", quote(charset), ErrMediaType)
	}
	return mediaType, nil
}

const byteOrderMark = "\ufeff"

// validateStart rejects what the parser would accept, or reject with a misleading message:
// read as a form, JSON would be one strange name without any known field.
func (b *Body) validateStart() error {
	if strings.HasPrefix(b.text, byteOrderMark) {
		return errors.New("the body begins with a byte order mark: send it without")
	}
	start := strings.TrimLeft(b.text, " \t\r\n")
	if b.mediaType == Form && (strings.HasPrefix(start, "{") || strings.HasPrefix(start, "[")) {
		return errors.New("the body looks like JSON, but its Content-Type is " + Form + ", which curl sends unless told otherwise: send Content-Type: " + JSON)
	}
	return nil
}

// isUTF8 accepts the usual misspelling too. The bytes are validated in any case.
func isUTF8(charset string) bool {
	return strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}

// Get returns the value of a top-level name; the zero Value if it is absent.
func (b *Body) Get(name string) Value {
	for i := range b.fields {
		if b.fields[i].name == name {
			return b.fields[i].value
		}
	}
	return Value{}
}

// Member returns the value of name inside the object called object, which a
// form writes as "object[name]".
func (b *Body) Member(object, name string) Value {
	if b.mediaType == Form {
		return b.Get(object + "[" + name + "]")
	}
	var member Value
	if parent := b.Get(object); parent.Kind == Object {
		gjson.Parse(parent.raw).ForEach(func(k, v gjson.Result) bool {
			if k.Str == name {
				member = jsonValue(v)
			}
			return member.Kind == Absent
		})
	}
	return member
}

// ValidateMembers rejects, inside the object called object, names that only
// resemble a known one, as Parse does for the names outside.
func (b *Body) ValidateMembers(object string, known ...string) (err error) {
	validate := func(member string) bool {
		if want, found := resembledName(member, member, known); found {
			err = lookalike(object+"."+member, want)
		}
		return err == nil
	}
	if parent := b.Get(object); parent.Kind == Object {
		gjson.Parse(parent.raw).ForEach(func(k, _ gjson.Result) bool { return validate(k.Str) })
	}
	for i := range b.fields {
		if rest, ok := strings.CutPrefix(b.fields[i].name, object+"["); ok && b.mediaType == Form {
			member, _, _ := strings.Cut(rest, "]")
			validate(member)
		}
	}
	return err
}

// Strings returns the texts of a name that is a string or a list of strings. A form
// writes a list as "name[]" or, as PHP's http_build_query does, "name[0]" and so on. The
// list is empty for an absent or null value; ok is false for any other value.
func (b *Body) Strings(name string) (list []string, ok bool) {
	v := b.Get(name)
	switch v.Kind {
	case String:
		return []string{v.Text}, true
	case Array:
		for _, element := range gjson.Parse(v.raw).Array() {
			if element.Type != gjson.String {
				return nil, false
			}
			list = append(list, element.Str)
		}
		return list, true
	case Null:
		return nil, true
	case Absent:
		for i := range b.fields {
			index, inList := strings.CutPrefix(b.fields[i].name, name+"[")
			switch {
			case b.mediaType != Form || !inList:
			case index == "]" || index == strconv.Itoa(len(list))+"]":
				list = append(list, b.fields[i].value.Text)
			default:
				return nil, false
			}
		}
		return list, list != nil || !b.Has(name)
	default:
		return nil, false
	}
}

// Missing reports whether the sender left name out: it is absent, null or empty. A
// list or object that a form writes as "name[...]" is not missing.
func (b *Body) Missing(name string) bool {
	v := b.Get(name)
	return v.Missing() && (v.Kind != Absent || !b.Has(name))
}

// Has reports whether name is present in any form, "name[]" included.
func (b *Body) Has(name string) bool {
	return slices.ContainsFunc(b.fields, func(f field) bool {
		rest, found := strings.CutPrefix(f.name, name)
		return found && (rest == "" || b.mediaType == Form && rest[0] == '[')
	})
}

// Bytes returns the body, with what was set. It is for reading only, and until
// something else is set.
func (b *Body) Bytes() []byte {
	if b.raw == nil {
		return []byte(b.text)
	}
	return b.raw
}

// Original returns the body as it came.
func (b *Body) Original() string { return b.text }

// MediaType returns JSON or Form.
func (b *Body) MediaType() string { return b.mediaType }

func fieldError(name, problem string) error {
	return errors.New("field " + quote(name) + " " + problem)
}

// quote quotes what the sender wrote, at a length fit for a message.
func quote(text string) string {
	const longest = 60
	if r := []rune(text); len(r) > longest {
		text = string(r[:longest]) + "…"
	}
	return strconv.QuoteToGraphic(text)
}
