package caddycvs

// This file holds how the commands write times, names and tables.

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// unnamedAccount is how the account without a name is shown. No name of an account has parentheses.
const unnamedAccount = "(unnamed)"

func accountName(name string) string {
	if name == "" {
		return unnamedAccount
	}
	return printable(name)
}

func localTime(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05 -07:00") }

func localTimeOf(at *time.Time) string {
	if at == nil {
		return ""
	}
	return localTime(*at)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// printable returns a text as it is, or quoted if it has what would move a terminal's cursor, or spaces that
// do not show.
func printable(text string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return strconv.QuoteToGraphic(text)
		}
	}
	if strings.TrimSpace(text) != text {
		return strconv.QuoteToGraphic(text)
	}
	return text
}

// shellQuoted returns a word for a command line.
func shellQuoted(word string) string {
	plain := word != "" && strings.IndexFunc(word, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-./:@+", r)
	}) < 0
	if plain {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// aligned returns rows of cells as text with columns.
func aligned(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-width(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// wide are the characters that a terminal shows two columns wide: Korean, Chinese and Japanese ones, and
// full-width forms.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1100, 0x115f, 1}, {0x2e80, 0x303e, 1}, {0x3041, 0xa4cf, 1}, {0xa960, 0xa97f, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1}},
	R32: []unicode.Range32{{0x1f300, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}

// width returns how many columns of a terminal a text takes. The vowels and finals of decomposed Hangul, as
// macOS writes it, are shown within the syllable.
func width(text string) (columns int) {
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me), r >= 0x1160 && r <= 0x11ff:
		case unicode.Is(wide, r):
			columns += 2
		default:
			columns++
		}
	}
	return columns
}
