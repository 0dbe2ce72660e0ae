package strict

// This file holds what is validated of a JSON body beyond its syntax.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

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
	err := validateText(raw)
	return (err == nil || errors.Is(err, errEscape)) && gjson.ValidBytes(raw)
}

// validateText rejects what gjson accepts, or must not be given.
func validateText(raw []byte) error {
	if !utf8.Valid(raw) {
		return errUTF8
	}
	depth := 0
	var escapeErr error
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			size, ok := stringSize(raw[i+1:])
			if !ok {
				escapeErr = errEscape
			}
			i += size
		case '{', '[':
			if depth++; depth > maxDepth {
				return errDepth
			}
		case '}', ']':
			depth--
		}
	}
	return escapeErr
}

// stringSize returns the length of the string at the start of s, without its opening
// quote, and false if one of its escapes is half of a surrogate pair.
func stringSize(s []byte) (size int, ok bool) {
	ok = true
	for i := 0; i < len(s); {
		switch s[i] {
		case '"':
			return i + 1, ok
		case '\\':
			size, isWhole := escapeSize(s[i:])
			ok = ok && isWhole
			i += size
		default:
			i++
		}
	}
	return len(s), ok
}

// escapeSize returns how many bytes the escape at the start of s takes, a
// surrogate pair counting as one, and false for half of a pair.
func escapeSize(s []byte) (int, bool) {
	unit, ok := escapedUnit(s)
	switch {
	case !ok:
		return 2, true
	case unit < 0xD800 || unit > 0xDFFF:
		return 6, true
	case unit > 0xDBFF:
		return 6, false
	}
	low, ok := escapedUnit(s[6:])
	if !ok || low < 0xDC00 || low > 0xDFFF {
		return 6, false
	}
	return 12, true
}

func escapedUnit(s []byte) (uint64, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	return unit, err == nil
}

func (b *Body) parseJSON(raw []byte) error {
	if err := validateText(raw); err != nil {
		return err
	}
	root := gjson.Parse(b.text)
	if !gjson.ValidBytes(raw) || !root.IsObject() {
		return notObject(raw)
	}
	b.fields = make([]field, 0, 12)
	if p := findProblem(root, b.addMember); p != nil {
		return fieldError(strings.TrimPrefix(p.path, "."), p.text)
	}
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

func (b *Body) addMember(name string, v gjson.Result) {
	b.fields = append(b.fields, field{
		name: name, value: jsonValue(v),
		start: v.Index, end: v.Index + len(v.Raw),
	})
}

// problem is what is wrong with a member; its path is ".outer.inner".
type problem struct{ path, text string }

// findProblem looks for duplicate names and numbers out of range, at any depth. It calls
// visit for each member of v itself.
func findProblem(v gjson.Result, visit func(name string, member gjson.Result)) (found *problem) {
	if v.Type == gjson.Number && (math.IsInf(v.Num, 0) || v.Num == 0 && strings.ContainsAny(mantissa(v.Raw), "123456789")) {
		return &problem{text: "has a number that no double holds"}
	}
	isObject := v.IsObject()
	if !isObject && !v.IsArray() {
		return nil
	}
	seen := make(map[string]bool)
	v.ForEach(func(k, member gjson.Result) bool {
		if name := foldCase(k.Str); isObject && seen[name] {
			found = &problem{text: givenTwice}
		} else {
			seen[name] = true
			found = findProblem(member, func(string, gjson.Result) {})
			visit(k.Str, member)
		}
		if found != nil && isObject {
			found.path = "." + k.Str + found.path
		}
		return found == nil
	})
	return found
}

func mantissa(number string) string {
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		return number[:i]
	}
	return number
}
