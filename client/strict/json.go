package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
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
// deeper than Parse allows. Unlike Parse it is for what is only read here, and so
// tolerates what parsers may differ about.
func ValidJSON[T string | []byte](text T) bool {
	raw := []byte(text)
	err := checkSurface(raw)
	return (err == nil || errors.Is(err, errEscape)) && gjson.ValidBytes(raw)
}

// checkSurface looks for what gjson lets through or must not be given.
func checkSurface(raw []byte) error {
	if !utf8.Valid(raw) {
		return errUTF8
	}
	depth := 0
	var bad error
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			size, whole := stringSize(raw[i+1:])
			if !whole {
				bad = errEscape
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
	return bad
}

// stringSize returns how many bytes of s, which begins behind the quote that opens
// a string, that string takes, and whether no escape is half of a surrogate pair.
func stringSize(s []byte) (size int, whole bool) {
	whole = true
	quote := -1 // the next one; found once, so that many escapes cost no more than their bytes
	for i := 0; ; {
		if quote < i {
			distance := bytes.IndexByte(s[i:], '"')
			if distance < 0 {
				return len(s), whole
			}
			quote = i + distance
		}
		distance := bytes.IndexByte(s[i:quote], '\\')
		if distance < 0 {
			return quote + 1, whole
		}
		size, ok := escapeSize(s[i+distance:])
		whole = whole && ok
		i += distance + size
	}
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
	if err := checkSurface(raw); err != nil {
		return err
	}
	root := gjson.Parse(b.text)
	if !gjson.ValidBytes(raw) || !root.IsObject() {
		return notObject(raw)
	}
	b.fields = make([]field, 0, 12)
	if f := findFlaw(root, b.addMember); f != nil {
		return fieldError(strings.TrimPrefix(f.name, "."), f.problem)
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

// flaw is what is wrong with a member, by its names from the outside in.
type flaw struct{ name, problem string }

// findFlaw looks for duplicate names and numbers out of range, at any depth, and
// shows each member of v itself.
func findFlaw(v gjson.Result, show func(name string, member gjson.Result)) (found *flaw) {
	if v.Type == gjson.Number && (math.IsInf(v.Num, 0) || v.Num == 0 && strings.ContainsAny(mantissa(v.Raw), "123456789")) {
		return &flaw{problem: "has a number that no double holds"}
	}
	isObject := v.IsObject()
	if !isObject && !v.IsArray() {
		return nil
	}
	var seen nameSet
	v.ForEach(func(k, member gjson.Result) bool {
		if isObject && !seen.add(fold(k.Str)) {
			found = &flaw{problem: givenTwice}
		} else {
			found = findFlaw(member, func(string, gjson.Result) {})
			show(k.Str, member)
		}
		if found != nil && isObject {
			found.name = "." + k.Str + found.name
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

// nameSet is a set that allocates a map only for objects with many names.
type nameSet struct {
	few  []string
	many map[string]struct{}
}

func (s *nameSet) add(name string) bool {
	if s.many != nil {
		_, dup := s.many[name]
		s.many[name] = struct{}{}
		return !dup
	}
	if slices.Contains(s.few, name) {
		return false
	}
	if s.few == nil {
		s.few = make([]string, 0, 8)
	}
	if s.few = append(s.few, name); len(s.few) > 24 {
		s.many = make(map[string]struct{}, 2*len(s.few))
		for _, n := range s.few {
			s.many[n] = struct{}{}
		}
	}
	return true
}
