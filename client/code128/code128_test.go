package code128_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image/color"
	"image/png"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

// The widths of bars and spaces from the standard's table, which are the same in every encoder.
const (
	startB = "211214"
	startC = "211232"
	stop   = "2331112"
)

var bar = regexp.MustCompile(`M(\d+) 0h(\d+)v80h-(\d+)z`)

// widths reads the widths of the bars and the spaces between them back from the picture, in modules.
func widths(t *testing.T, svg string) (first int, runs string) {
	t.Helper()
	end := -1
	for _, m := range bar.FindAllStringSubmatch(svg, -1) {
		start, width := modules(t, m[1]), modules(t, m[2])
		assert.Equal(t, m[2], m[3], "a bar must be closed")
		if end < 0 {
			first = start
		} else {
			runs += strconv.Itoa(start - end)
		}
		runs += strconv.Itoa(width)
		end = start + width
	}
	return first, runs
}

func modules(t *testing.T, pixels string) int {
	t.Helper()
	n, err := strconv.Atoi(pixels)
	require.NoError(t, err)
	require.Zero(t, n%code128.DefaultScale)
	return n / code128.DefaultScale
}

func TestSVGDrawsTheSymbols(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, runs string }{
		// 00 and 99 in code set C; the check symbols are 105 % 103 = 2 and (105 + 99 + 2*99) % 103 = 93.
		{"0000", startC + "212222" + "212222" + "222221" + stop},
		{"9999", startC + "113141" + "113141" + "111341" + stop},
		// A in code set B has the value 33: (104 + 33) % 103 = 34.
		{"A", startB + "111323" + "131123" + stop},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			svg, err := code128.SVG(c.text)
			require.NoError(t, err)
			first, runs := widths(t, svg)
			assert.Equal(t, code128.QuietZone, first)
			assert.Equal(t, c.runs, runs)
			assert.NoError(t, xml.Unmarshal([]byte(svg), new(struct{})), "well-formed")
		})
	}
}

func TestSVGHasQuietZonesAndWholePixels(t *testing.T) {
	t.Parallel()
	svg, err := code128.SVG(strings.Repeat("1234", 5))
	require.NoError(t, err)
	// Start, ten pairs of digits and the check symbol have 11 modules each, the stop symbol 13.
	const width = code128.DefaultScale * (12*11 + 13 + 2*code128.QuietZone)
	assert.Contains(t, svg, fmt.Sprintf(`width="%d" height="80" viewBox="0 0 %[1]d 80"`, width))
	assert.Equal(t, 330, width)
}

func TestSVGRejectsUnencodableText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "바코드", "12\n34", "\u00f1", strings.Repeat("1", 81), "\xff"} {
		_, err := code128.SVG(text)
		assert.ErrorContains(t, err, "drawing barcode: ", "%q", text)
		_, err = code128.Picture{Scale: 2, Height: 80}.PNG(text)
		assert.ErrorContains(t, err, "drawing barcode: ", "%q", text)
	}
}

func TestPictureRejectsTextThatCannotStandBelowIt(t *testing.T) {
	t.Parallel()
	p := code128.Picture{Scale: 2, Height: 80, Text: true}
	for _, text := range []string{"", "MERCHANT-1", "<&>", strings.Repeat("1", code128.MaxDigits+1)} {
		_, err := p.SVG(text)
		assert.ErrorContains(t, err, "drawing barcode: ", "%q", text)
		_, err = p.PNG(text)
		assert.ErrorContains(t, err, "drawing barcode: ", "%q", text)
	}
}

// The modules of both pictures are the same ones.
func TestPNGHasTheBarsOfTheSVG(t *testing.T) {
	t.Parallel()
	for _, p := range []code128.Picture{{Scale: 2, Height: 80}, {Scale: 2, Height: 80, Text: true}} {
		for _, text := range []string{"1", "12345678901234567890", strings.Repeat("1", code128.MaxDigits)} {
			svg, err := p.SVG(text)
			require.NoError(t, err)
			first, want := widths(t, svg)
			content, err := p.PNG(text)
			require.NoError(t, err)
			picture, err := png.Decode(bytes.NewReader(content))
			require.NoError(t, err)
			var runs string
			last := picture.Bounds().Dx() - p.Scale*code128.QuietZone
			for start, x := p.Scale*first, p.Scale*first+1; x <= last; x++ {
				if x == last || picture.At(x, 0) != picture.At(start, 0) {
					runs += strconv.Itoa((x - start) / p.Scale)
					start = x
				}
			}
			assert.Equal(t, want, runs, text)
			assert.Contains(t, svg, fmt.Sprintf(`width="%d" height="%d"`, picture.Bounds().Dx(), picture.Bounds().Dy()))
		}
	}
}

// The number stands below the bars in groups of four, each digit as it is.
func TestPNGWritesTheNumber(t *testing.T) {
	t.Parallel()
	content, err := code128.Picture{Scale: 1, Height: 1, Text: true}.PNG("1234567890")
	require.NoError(t, err)
	picture, err := png.Decode(bytes.NewReader(content))
	require.NoError(t, err)
	var rows []string
	for y := 1; y < picture.Bounds().Dy(); y++ {
		var row strings.Builder
		for x := range picture.Bounds().Dx() {
			if color.GrayModel.Convert(picture.At(x, y)) == (color.Gray{}) {
				row.WriteByte('#')
			} else {
				row.WriteByte(' ')
			}
		}
		rows = append(rows, strings.TrimRight(strings.TrimPrefix(row.String(), strings.Repeat(" ", 20)), " "))
	}
	assert.Equal(t, []string{"", "", ""}, rows[:3])
	assert.Equal(t, strings.Split(strings.Trim(wantDigits, "\n"), "\n"), rows[3:10])
	assert.Equal(t, []string{"", "", ""}, rows[10:])
}

// wantDigits is 1234 5678 90.
const wantDigits = `
 #    ###  #####    #        #####   ##  #####  ###         ###   ###
##   #   #    #    ##        #      #        # #   #       #   # #   #
 #       #   #    # #        ####  #        #  #   #       #   # #  ##
 #      #     #  #  #            # ####    #    ###         #### # # #
 #     #       # #####           # #   #  #    #   #           # ##  #
 #    #    #   #    #        #   # #   #  #    #   #          #  #   #
###  #####  ###     #         ###   ###   #     ###         ##    ###
`

func FuzzSVG(f *testing.F) {
	f.Add("12345678901234567890")
	f.Add("MERCHANT-1")
	f.Fuzz(func(t *testing.T, text string) {
		svg, err := code128.SVG(text)
		if err != nil {
			return
		}
		first, runs := widths(t, svg)
		assert.Equal(t, code128.QuietZone, first)
		assert.Equal(t, 0, (len(runs)-7)%6, "symbols have three bars and three spaces, the last one more")
		assert.NoError(t, xml.Unmarshal([]byte(svg), new(struct{})))
	})
}

func BenchmarkSVG(b *testing.B) {
	for b.Loop() {
		if _, err := code128.SVG("12345678901234567890"); err != nil {
			b.Fatal(err)
		}
	}
}
