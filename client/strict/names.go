package strict

// This file decides which names of fields some parser could take for another name.

import (
	"slices"
	"strings"
	"unicode"
)

func (b *Body) rejectLookalikes(known []string) error {
	for i := range b.fields {
		name := b.fields[i].name
		read := name
		if b.mediaType == Form {
			name, _, _ = strings.Cut(name, "[")
			read = phpName(name)
		}
		if want, found := resembledName(name, read, known); found {
			return lookalike(b.fields[i].name, want)
		}
	}
	return nil
}

// resembledName returns the known name for which name could be taken, if there is one.
// read is the name as some parser reads it.
func resembledName(name, read string, known []string) (want string, found bool) {
	if slices.Contains(known, name) {
		return "", false
	}
	for _, want := range known {
		if strings.EqualFold(read, want) {
			return want, true
		}
	}
	return "", false
}

func lookalike(name, want string) error {
	return fieldError(name, "could be taken for "+want+": write it exactly so")
}

// foldCase maps all names that a case-insensitive reader takes for the same one to
// the same text, by Unicode's simple case folding as encoding/json does it.
func foldCase(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		return least
	}, name)
}

var underscores = strings.NewReplacer(" ", "_", ".", "_")

// phpName maps all spellings of a name that PHP takes for the same to one.
func phpName(name string) string {
	name = strings.TrimLeft(name, " ")
	base, _, _ := strings.Cut(name, "[")
	return underscores.Replace(base) + name[len(base):]
}
