// Package code128 draws the number of a payment barcode as a till's scanner reads it: Code 128 (ISO/IEC 15417).
//
// It knows bars and their sizes. It does not know the API, nor whose number it draws.
package code128

// This file holds what the pictures have in common: their sizes, and the bars themselves.

import (
	"errors"
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/code128"
)

const (
	// QuietZone is the blank at each side that a scanner needs, in modules, the width of the narrowest bar.
	QuietZone = 10
	// DefaultScale is the width of a module in pixels: bars of whole pixels stay sharp.
	DefaultScale = 2
	// DefaultHeight is the height of the bars in pixels.
	DefaultHeight = 80
	// MaxDigits is the length of the longest number that can stand below its bars without being wider.
	MaxDigits = 48

	// What stands below the bars, in modules: a gap, the digits, a gap.
	textGap    = 3
	textHeight = 7
	groupSize  = 4 // digits
)

// Picture says how a barcode is drawn: black bars on white, with the quiet zones that the standard asks for.
type Picture struct {
	Scale  int  // pixels for a module, positive
	Height int  // of the bars, in pixels, positive
	Text   bool // the number stands below the bars; it must have digits only, at most MaxDigits
}

// IsNumber reports whether a text can be the number of a payment barcode: 1 to MaxDigits digits.
func IsNumber(text string) bool {
	return text != "" && len(text) <= MaxDigits && !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

// encode returns a barcode with its quiet zones, a value for each module: true is black. The text is 1 to 80 printable
// ASCII characters; digits take half the width of others.
func encode(text string) ([]bool, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("drawing barcode: Code 128 has printable ASCII characters only")
	}
	symbol, err := code128.Encode(text)
	if err != nil {
		return nil, fmt.Errorf("drawing barcode: %w", err)
	}
	width := symbol.Bounds().Dx()
	modules := make([]bool, width+2*QuietZone)
	for x := range width {
		modules[QuietZone+x] = symbol.At(x, 0) == color.Black
	}
	return modules, nil
}

// encode returns the modules of the barcode, and refuses a text that cannot stand below it.
func (p Picture) encode(text string) ([]bool, error) {
	if p.Text && !IsNumber(text) {
		return nil, fmt.Errorf("drawing barcode: only digits, %d at most, can stand below the bars", MaxDigits)
	}
	return encode(text)
}

// fullHeight is the height of the picture in pixels.
func (p Picture) fullHeight() int {
	if !p.Text {
		return p.Height
	}
	return p.Height + (textGap+textHeight+textGap)*p.Scale
}

// groups returns the number in groups of four digits, as people read it out.
func groups(number string) (groups []string) {
	for len(number) > groupSize {
		groups, number = append(groups, number[:groupSize]), number[groupSize:]
	}
	return append(groups, number)
}
