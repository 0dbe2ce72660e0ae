package code128_test

import (
	"encoding/xml"
	"fmt"
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

var bar = regexp.MustCompile(`M(\d+) 0h(\d+)v40h-(\d+)z`)

// widths reads the widths of the bars and the spaces between them back from the picture.
func widths(t *testing.T, svg string) (first int, runs string) {
	t.Helper()
	end := -1
	for _, m := range bar.FindAllStringSubmatch(svg, -1) {
		start, _ := strconv.Atoi(m[1])
		width, _ := strconv.Atoi(m[2])
		assert.Equal(t, m[2], m[3], "a bar must be closed")
		if end < 0 {
			first = start
		} else {
			runs += strconv.Itoa(start - end)
		}
		runs += m[2]
		end = start + width
	}
	return first, runs
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
	assert.Contains(t, svg, fmt.Sprintf(`viewBox="0 0 %d 40"`, 12*11+13+2*code128.QuietZone))
	assert.Contains(t, svg, `width="330" height="80"`)
}

func TestSVGRejectsUnencodableText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "바코드", "12\n34", "\u00f1", strings.Repeat("1", 81), "\xff"} {
		_, err := code128.SVG(text)
		assert.ErrorContains(t, err, "drawing barcode: ", "%q", text)
	}
}

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
