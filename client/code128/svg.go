package code128

// This file holds SVG.

import (
	"fmt"
	"strings"
)

// SVG returns a barcode as an <svg> element, to stand in a page: see Picture.SVG.
func SVG(text string) (string, error) {
	return Picture{Scale: DefaultScale, Height: DefaultHeight}.SVG(text)
}

// SVG returns a barcode as an <svg> element, in the picture's size unless the page says otherwise. It is hidden from
// screen readers, for which the number must stand beside it. The text is 1 to 80 printable ASCII characters.
func (p Picture) SVG(text string) (string, error) {
	modules, err := p.encode(text)
	if err != nil {
		return "", err
	}
	width, height := len(modules)*p.Scale, p.fullHeight()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" shape-rendering="crispEdges" aria-hidden="true">`, width, height)
	fmt.Fprintf(&b, `<path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, width, height)
	for start := 0; start < len(modules); {
		end := start + 1
		for end < len(modules) && modules[end] == modules[start] {
			end++
		}
		if modules[start] {
			fmt.Fprintf(&b, "M%d 0h%dv%dh-%dz", start*p.Scale, (end-start)*p.Scale, p.Height, (end-start)*p.Scale)
		}
		start = end
	}
	b.WriteString(`"/>`)
	if p.Text {
		p.writeText(&b, strings.Join(groups(text), " "), len(modules))
	}
	b.WriteString(`</svg>`)
	return b.String(), nil
}

// writeText writes the number below the bars. Its font is the viewer's: the size leaves room for a wide one.
func (p Picture) writeText(b *strings.Builder, text string, modules int) {
	const (
		largest   = 10.0 // modules: capitals and digits have about 0.7 of it
		character = 0.65 // of the size: the width of a character in a wide font
	)
	size := min(largest, float64(modules)/(character*float64(len(text))))
	fmt.Fprintf(b, `<text x="50%%" y="%d" font-family="monospace" font-size="%.1f" text-anchor="middle">%s</text>`,
		p.Height+(textGap+textHeight)*p.Scale, size*float64(p.Scale), text)
}
