package strict

// This file holds how a form is read, and which names a form may have.

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

var errForm = errors.New("the form is not valid: write name=value, name[]=value or name[key]=value with & between, and escape everything else")

// shape is the kind of value that the names of a form give to a prefix such as "a" or
// "a[b]". A prefix may have one shape only, because parsers disagree about mixtures.
type shape struct {
	kind     Kind // String, Array or Object
	spelling string
}

// parseForm reads an application/x-www-form-urlencoded body.
func (b *Body) parseForm() error {
	if strings.ContainsRune(b.text, ';') {
		return errForm
	}
	shapes := make(map[string]shape)
	next := 0
	for segment := range strings.SplitSeq(b.text, "&") {
		start := next
		next += len(segment) + 1
		if segment == "" {
			continue
		}
		rawName, rawValue, found := strings.Cut(segment, "=")
		if !found {
			return errForm
		}
		name, value, err := unescapePair(rawName, rawValue)
		if err != nil {
			return err
		}
		if err := validateFormName(name, shapes); err != nil {
			return err
		}
		b.fields = append(b.fields, field{
			name: name, value: Value{Kind: String, Text: value},
			start: start + len(rawName) + 1, end: start + len(segment),
		})
	}
	return nil
}

func unescapePair(rawName, rawValue string) (name, value string, err error) {
	if name, err = url.QueryUnescape(rawName); err != nil {
		return "", "", errForm
	}
	if value, err = url.QueryUnescape(rawValue); err != nil {
		return "", "", errForm
	}
	if !utf8.ValidString(name) || !utf8.ValidString(value) {
		return "", "", errUTF8
	}
	return name, value, nil
}

// validateFormName rejects a malformed name, and one that came before in a spelling or
// shape that some parser takes for the same.
func validateFormName(name string, shapes map[string]shape) error {
	base, _, _ := strings.Cut(name, "[")
	rest := name[len(base):]
	if strings.TrimLeft(base, " ") == "" || strings.Contains(base, "]") || strings.ContainsFunc(name, unicode.IsControl) {
		return errForm
	}
	if strings.Count(rest, "[") > maxDepth { // each level costs a copy of the name
		return errDepth
	}
	isNew := func(prefix string, kind Kind) bool { // true also for another element of a list or object
		key := foldCase(phpName(prefix))
		before, seen := shapes[key]
		shapes[key] = shape{kind, prefix}
		return !seen || kind != String && before == shape{kind, prefix}
	}
	prefix := base
	for rest != "" {
		key, after, ok := strings.Cut(rest[1:], "]")
		if rest[0] != '[' || !ok || strings.Contains(key, "[") || key == "" && after != "" {
			return errForm
		}
		kind := Object
		if key == "" {
			kind = Array
		}
		if !isNew(prefix, kind) {
			return fieldError(name, givenTwice)
		}
		prefix, rest = prefix+"["+key+"]", after
	}
	if !strings.HasSuffix(name, "[]") && !isNew(name, String) {
		return fieldError(name, givenTwice)
	}
	return nil
}

const givenTwice = "is given twice; names that differ only in case or in brackets count as one"
