package caddycvs

// This file holds how the directive cvs_barcode is parsed.

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func parseBarcode(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	b := new(Barcode)
	return b, b.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from the directive. Syntax:
//
//	cvs_barcode [<matcher>] {
//		height <pixels>
//		scale  <pixels>
//		text
//	}
func (b *Barcode) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return parseDirective(d, map[string]option{
		"height": heightPixels.option(&b.Height),
		"scale":  scalePixels.option(&b.Scale),
		"text":   toggle(&b.Text),
	})
}

// option is an option with a number of pixels.
func (p pixels) option(target *int) option {
	var raw string
	return text(&raw, func(s string) error {
		*target, _ = strconv.Atoi(s) // 0, which no option accepts, for what is no number
		return p.validate(*target)
	})
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Barcode)(nil)
