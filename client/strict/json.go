package strict

// This file holds how a JSON body is read, and what of it is rejected.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
)

// maxDepth is far beyond what custom_data needs and far below what exhausts a
// recursive parser's stack.
const maxDepth = 32

var (
	errUTF8   = errors.New("the body is not valid UTF-8: convert it first, from EUC-KR perhaps")
	errDepth  = errors.New("the body is nested deeper than 32 levels")
	errEscape = errors.New(`the body has a \u escape that is half of a surrogate pair`)
)

// ValidJSON reports whether text is one JSON value in valid UTF-8, nested no
// deeper than Parse allows. Use it for what is only read here: it accepts what two
// parsers may read differently, which Parse rejects.
func ValidJSON[T string | []byte](text T) bool {
	raw := []byte(text)
	d := newDecoder(raw, jsontext.AllowInvalidUTF8(true)) // accepts half of a surrogate pair, too
	for values := 0; ; {
		_, err := d.ReadToken()
		switch {
		case err != nil: // io.EOF at the end
			return errors.Is(err, io.EOF) && values == 1 && utf8.Valid(raw)
		case d.StackDepth() > maxDepth:
			return false
		case d.StackDepth() == 0:
			values++
		}
	}
}

// newDecoder returns a decoder that leaves duplicate names to validateMembers.
func newDecoder(raw []byte, options ...jsontext.Options) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(raw), append(options, jsontext.AllowDuplicateNames(true))...)
}

func (b *Body) parseJSON(raw []byte) error {
	if !utf8.Valid(raw) {
		return errUTF8
	}
	d := newDecoder(raw)
	err := validateValue(d)
	if err == nil {
		_, err = d.ReadToken() // io.EOF, if nothing follows
	}
	root := gjson.Parse(b.text)
	_, isSyntax := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case isSyntax && ValidJSON(raw):
		return errEscape
	case isSyntax || err == nil || !root.IsObject():
		return notObject(raw)
	case !errors.Is(err, io.EOF):
		return err
	}
	b.fields = make([]field, 0, 12)
	root.ForEach(func(name, value gjson.Result) bool {
		b.fields = append(b.fields, field{
			name: name.Str, value: jsonValue(value),
			start: value.Index, end: value.Index + len(value.Raw),
		})
		return true
	})
	return nil
}

var formPattern = regexp.MustCompile(`^\s*[A-Za-z_]+(\[[^\]]*\])*=`)

// notObject says why a body is not one JSON object.
func notObject(raw []byte) error {
	const message = "the body is not one valid JSON object"
	syntax, invalid := errors.AsType[*json.SyntaxError](json.Unmarshal(raw, new(json.RawMessage)))
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return errors.New(message + ": it is empty")
	case formPattern.Match(raw):
		return errors.New("the body looks like a form, but its Content-Type is " + JSON + ": send Content-Type: " + Form)
	case invalid && syntax.Offset >= int64(len(raw)):
		return errors.New(message + ": it ends too early, or with a mistake")
	case invalid:
		return fmt.Errorf("%s: there is a mistake at byte %d", message, syntax.Offset)
	default:
		return fmt.Errorf("%s: it is %s", message, KindOf(gjson.ParseBytes(raw)))
	}
}

// memberError is a problem of a member. Its path is put together on the way back from an
// error only: bodies come from strangers, and may have many members with long names.
type memberError struct {
	path    string // from the outside in: "outer.inner"
	problem string
}

func (e *memberError) Error() string { return fieldError(e.path, e.problem).Error() }

// within returns err with the name of a member before its path.
func within(name string, err error) error {
	if e, ok := errors.AsType[*memberError](err); ok {
		if e.path != "" {
			name += "."
		}
		e.path = name + e.path
	}
	return err
}

// validateValue rejects duplicate names and numbers out of range, at any depth, besides
// what the decoder rejects.
func validateValue(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	switch {
	case err != nil:
		return err
	case d.StackDepth() > maxDepth:
		return errDepth
	case token.Kind() == '0' && !fitsDouble(token.String()):
		return &memberError{problem: "has a number that no double holds"}
	case token.Kind() == '{':
		return validateMembers(d)
	case token.Kind() == '[':
		for d.PeekKind() != ']' {
			if err := validateValue(d); err != nil {
				return err
			}
		}
		_, err = d.ReadToken()
	}
	return err
}

func validateMembers(d *jsontext.Decoder) error {
	seen := make(map[string]bool)
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		folded := foldCase(name)
		if seen[folded] {
			return &memberError{name, givenTwice}
		}
		seen[folded] = true
		if err := validateValue(d); err != nil {
			return within(name, err)
		}
	}
	_, err := d.ReadToken()
	return err
}

// fitsDouble reports whether a double holds a number, at least approximately.
func fitsDouble(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	mantissa, _, _ := strings.Cut(strings.ToLower(number), "e")
	return err == nil && (f != 0 || !strings.ContainsAny(mantissa, "123456789"))
}
