package code128

// This file holds PNG.

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"sync"
)

// PNG returns a barcode as a PNG file with two colours, one bit for a pixel. The text is 1 to 80 printable ASCII characters.
func (p Picture) PNG(text string) ([]byte, error) {
	modules, err := p.encode(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = encoder.Encode(&b, &raster{p, modules, p.textRows(text, len(modules))})
	return b.Bytes(), err
}

var encoder = png.Encoder{BufferPool: new(buffers)}

// buffers keeps the encoder's buffers, of about 1 MB, for the next picture.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() *png.EncoderBuffer {
	buffer, _ := b.pool.Get().(*png.EncoderBuffer)
	return buffer
}

func (b *buffers) Put(buffer *png.EncoderBuffer) { b.pool.Put(buffer) }

// raster is the picture as the PNG encoder reads it. It computes each pixel, because all rows of the bars are the same:
// a large picture needs no memory.
type raster struct {
	Picture
	bars []bool
	text [][]bool // the rows below the bars, nil for a blank one
}

var blackOnWhite = color.Palette{color.White, color.Black}

// ColorModel returns the palette. With two colours in it, the encoder writes one bit for a pixel.
func (r *raster) ColorModel() color.Model { return blackOnWhite }

// Bounds returns the size in pixels.
func (r *raster) Bounds() image.Rectangle {
	return image.Rect(0, 0, len(r.bars)*r.Scale, r.fullHeight())
}

// At returns the colour of a pixel.
func (r *raster) At(x, y int) color.Color { return blackOnWhite[r.ColorIndexAt(x, y)] }

// ColorIndexAt returns the colour of a pixel as its index in the palette.
func (r *raster) ColorIndexAt(x, y int) uint8 {
	row := r.bars
	if y >= r.Height {
		row = r.text[(y-r.Height)/r.Scale]
	}
	if row != nil && row[x/r.Scale] {
		return 1
	}
	return 0
}

const (
	digitWidth = 5
	advance    = digitWidth + 1 // to the next digit, in modules
)

// digits are the digits' shapes, a byte for each row and a bit for each module.
var digits = [10][textHeight]byte{
	{0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110},
	{0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110},
	{0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111},
	{0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110},
	{0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010},
	{0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110},
	{0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110},
	{0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000},
	{0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110},
	{0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100},
}

// textRows draws the number in the middle of as many modules, with the gaps above and below it.
func (p Picture) textRows(number string, modules int) [][]bool {
	if !p.Text {
		return nil
	}
	rows := make([][]bool, textGap+textHeight+textGap)
	for i := range textHeight {
		rows[textGap+i] = make([]bool, modules)
	}
	parts := groups(number)
	room, gaps, gap := modules-len(number)*advance, len(parts)-1, 0
	if gaps > 0 {
		gap = min(advance, room/gaps)
	}
	x := (room - gaps*gap + 1) / 2
	for _, part := range parts {
		for _, digit := range part {
			drawDigit(rows[textGap:], x, digits[digit-'0'])
			x += advance
		}
		x += gap
	}
	return rows
}

func drawDigit(rows [][]bool, left int, shape [textHeight]byte) {
	for y, bits := range shape {
		for x := range digitWidth {
			rows[y][left+x] = bits>>(digitWidth-1-x)&1 == 1
		}
	}
}

// Interface guards
var _ image.PalettedImage = (*raster)(nil)
