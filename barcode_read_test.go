package caddycvs

// This file holds tests of the pictures of cvs_barcode: an independent program reads the number from them, in the sizes
// that a phone's screen and a printer give them, and their edges are sharp.

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

// readNumbers are the numbers that are read back: of each length of interest, with digits that set C of Code 128 has in
// pairs, and one that is left over.
var readNumbers = []string{
	"42", "123", "8801234567893", aNumber, "98200142857142857142571", "00000000000000000000", "99999999999999999999",
	"982001428571428571425714285714285714285714285714",
}

// readBarcode has zbarimg read a picture, and returns what it found.
func readBarcode(t *testing.T, picture []byte) string {
	t.Helper()
	zbarimg, file := program(t, "zbarimg"), filepath.Join(t.TempDir(), "picture.png")
	require.NoError(t, os.WriteFile(file, picture, 0o600))
	out, err := exec.CommandContext(t.Context(), zbarimg, "--quiet", "--raw", "-Sdisable", "-Scode128.enable", file).Output()
	assert.NoError(t, err, "no barcode was found")
	return strings.TrimSpace(string(out))
}

// render has librsvg draw an SVG as a browser would, in a width in pixels of the screen or the printer, and returns a PNG.
func render(t *testing.T, svg []byte, width int) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, "rsvg-convert"), "--width", strconv.Itoa(width), "--keep-aspect-ratio", "--background-color", "white")
	cmd.Stdin = bytes.NewReader(svg)
	out, err := cmd.Output()
	require.NoError(t, err)
	return out
}

func decodePNG(t *testing.T, content []byte) image.Image {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(content))
	require.NoError(t, err)
	return picture
}

// drawn returns a picture, and its width in pixels.
func drawn(t *testing.T, options, name string) (content []byte, width int) {
	t.Helper()
	b := loadBarcode(t, options)
	_, content, ok := b.draw("/" + name)
	require.True(t, ok)
	number, _, _ := strings.Cut(name, ".")
	_, asPNG, _ := b.draw("/" + number + ".png")
	return content, decodePNG(t, asPNG).Bounds().Dx()
}

// A page shows a picture in its own size, or as wide as the screen of a phone, which has two or three pixels where the
// page has one.
func TestBarcodeSVGIsReadFromAPhone(t *testing.T) {
	t.Parallel()
	program(t, "zbarimg")
	const phone = 360
	for _, options := range []string{"", "text", "scale 4\nheight 200\ntext"} {
		for _, number := range readNumbers {
			svg, width := drawn(t, options, number+".svg")
			for _, density := range []int{2, 3} {
				shown := min(width, phone) * density
				assert.Equal(t, number, readBarcode(t, render(t, svg, shown)), "%q, %d pixels", options, shown)
			}
		}
	}
}

// On paper the narrowest bar is 0.25 to 0.5 mm wide, which at 300 dpi is no whole number of dots.
func TestBarcodeSVGIsReadFromPaper(t *testing.T) {
	t.Parallel()
	program(t, "zbarimg")
	for _, options := range []string{"", "text"} {
		for _, number := range readNumbers {
			svg, width := drawn(t, options, number+".svg")
			modules := width / code128.DefaultScale
			for _, module := range []float64{0.25, 0.33, 0.5} {
				dots := int(math.Round(float64(modules) * module / 25.4 * 300))
				assert.Equal(t, number, readBarcode(t, render(t, svg, dots)), "%q, %g mm, %d dots", options, module, dots)
			}
		}
	}
}

// A PNG with 4 pixels for the narrowest bar is printed dot by dot at 300 dpi.
func TestBarcodePNGIsRead(t *testing.T) {
	t.Parallel()
	program(t, "zbarimg")
	for _, options := range []string{"", "text", "scale 1", "scale 4\nheight 180\ntext", "scale 10\nheight 500", "height 20"} {
		for _, number := range readNumbers {
			picture, _ := drawn(t, options, number+".png")
			assert.Equal(t, number, readBarcode(t, picture), "%q", options)
		}
	}
}

// assertSharp asserts that the bars are black on white, without grey, in whole modules, with quiet zones of ten.
func assertSharp(t *testing.T, picture image.Image, module, height int) {
	t.Helper()
	bounds := picture.Bounds()
	row := make([]bool, bounds.Dx())
	for x := range row {
		shade := color.GrayModel.Convert(picture.At(x, 0)).(color.Gray).Y
		require.Contains(t, []uint8{0, 255}, shade, "at %d", x)
		row[x] = shade == 0
		for y := range height {
			require.Equal(t, shade, color.GrayModel.Convert(picture.At(x, y)).(color.Gray).Y, "at %d, %d", x, y)
		}
		require.Equal(t, row[x/module*module], row[x], "within a module, at %d", x)
	}
	quiet := code128.QuietZone * module
	assert.NotContains(t, row[:quiet], true)
	assert.NotContains(t, row[len(row)-quiet:], true)
	assert.True(t, row[quiet] && row[len(row)-quiet-1], "the first and the last bar stand at the quiet zones")
}

func TestBarcodePNGIsSharpWithOneBitForAPixel(t *testing.T) {
	t.Parallel()
	for options, c := range map[string]struct{ module, height int }{"": {2, 80}, "scale 4\nheight 180\ntext": {4, 180}, "scale 1\nheight 20": {1, 20}} {
		picture, _ := drawn(t, options, aNumber+".png")
		assert.Equal(t, []byte{1, 3}, picture[24:26], "the bits for a pixel, and a palette")
		assertSharp(t, decodePNG(t, picture), c.module, c.height)
	}
}

// Where a picture has a whole number of pixels for a module, each bar has its exact width. In other sizes it is a pixel
// more or less, and never grey.
func TestBarcodeSVGIsSharp(t *testing.T) {
	t.Parallel()
	svg, width := drawn(t, "", aNumber+".svg")
	for _, times := range []int{1, 2, 3} {
		assertSharp(t, decodePNG(t, render(t, svg, times*width)), times*code128.DefaultScale, times*code128.DefaultHeight)
	}
	for _, odd := range []int{638, 720, 1001} {
		picture := decodePNG(t, render(t, svg, odd))
		for x := range picture.Bounds().Dx() {
			assert.Contains(t, []uint8{0, 255}, color.GrayModel.Convert(picture.At(x, 10)).(color.Gray).Y, "%d of %d", x, odd)
		}
	}
}

// A number and its text stay within the picture, and the text leaves the bars and their quiet zones alone.
func TestBarcodePNGTextStaysBelowTheBars(t *testing.T) {
	t.Parallel()
	for length := 1; length <= code128.MaxDigits; length++ {
		number := strings.Repeat("1234567890", 5)[:length]
		plain, _ := drawn(t, "", number+".png")
		with, _ := drawn(t, "text", number+".png")
		below, bars := decodePNG(t, with), decodePNG(t, plain)
		black := 0
		for x := range below.Bounds().Dx() {
			require.Equal(t, bars.At(x, 79), below.At(x, 79), "%s at %d", number, x)
			for y := 80; y < below.Bounds().Dy(); y++ {
				if color.GrayModel.Convert(below.At(x, y)) == (color.Gray{}) {
					black++
					require.True(t, y >= 86 && y < 100, "%s at %d, %d", number, x, y)
				}
			}
		}
		assert.Positive(t, black)
	}
}

func BenchmarkBarcode(b *testing.B) {
	for _, options := range []struct {
		name    string
		picture code128.Picture
		number  string
	}{
		{"default", code128.Picture{Scale: code128.DefaultScale, Height: code128.DefaultHeight}, aNumber},
		{"largest", code128.Picture{Scale: 10, Height: 500, Text: true}, readNumbers[len(readNumbers)-1]},
	} {
		handler := Barcode{picture: options.picture}
		for _, extension := range []string{".svg", ".png"} {
			b.Run(options.name+extension, func(b *testing.B) {
				for b.Loop() {
					if _, _, ok := handler.draw("/" + options.number + extension); !ok {
						b.Fatal("no picture")
					}
				}
			})
		}
	}
}
