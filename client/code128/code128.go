// Package code128 draws the number of a payment barcode as a till's scanner reads it: Code 128 (ISO/IEC 15417).
//
// It knows bars and their sizes. It does not know the API, nor whose number it draws.
package code128

// This file holds all of it: SVG, which draws the bars.

import (
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/code128"
)

const (
	// QuietZone is the blank at each side that a scanner needs, in modules, the width of the narrowest bar.
	QuietZone = 10
	// Height is the height of the bars in modules.
	Height = 40

	pixels = 2 // for a module: bars of whole pixels stay sharp
)

// SVG returns a barcode as an <svg> element: black bars on white, with the quiet zones that the standard asks for, and
// 2 pixels for a module unless the page says otherwise. It is hidden from screen readers, for which the number must stand
// beside it. The text is 1 to 80 printable ASCII characters; digits take half the width of others.
func SVG(text string) (string, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fmt.Errorf("drawing barcode: Code 128 has printable ASCII characters only")
	}
	symbol, err := code128.Encode(text)
	if err != nil {
		return "", fmt.Errorf("drawing barcode: %w", err)
	}
	modules := symbol.Bounds().Dx()
	width := modules + 2*QuietZone
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" shape-rendering="crispEdges" aria-hidden="true">`,
		pixels*width, pixels*Height, width, Height)
	b.WriteString(`<path fill="#fff" d="M0 0h` + fmt.Sprint(width) + `v` + fmt.Sprint(Height) + `H0z"/><path d="`)
	for start := 0; start < modules; {
		end := start + 1
		for end < modules && symbol.At(end, 0) == symbol.At(start, 0) {
			end++
		}
		if symbol.At(start, 0) == color.Black {
			fmt.Fprintf(&b, "M%d 0h%dv%dh-%dz", QuietZone+start, end-start, Height, end-start)
		}
		start = end
	}
	b.WriteString(`"/></svg>`)
	return b.String(), nil
}
