package caddycvs

// This file holds cvs_barcode: the pictures of barcodes.

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

func init() {
	caddy.RegisterModule(Barcode{})
}

// Barcode draws the numbers of payment barcodes for vouchers: {number}.svg and {number}.png, behind any path. It
// has no credentials, asks nobody, and cannot tell whether there is such a barcode. It answers every request that
// reaches it, and logs none: whoever knows the number can pay it, or show it at a till as his own.
type Barcode struct {
	// Height is the height of the bars, in pixels from 20 to 500. Default: 80.
	Height int `json:"height,omitempty"`

	// Scale is the width of the narrowest bar, in pixels from 1 to 10. Default: 2.
	Scale int `json:"scale,omitempty"`

	// Text adds the number below the bars, in groups of four digits. Default: false.
	Text bool `json:"text,omitempty"`

	picture code128.Picture
}

// pixels are the limits of an option: everybody can ask for pictures, and a large one takes time.
type pixels struct {
	name     string
	min, max int
}

var (
	heightPixels = pixels{"height", 20, 500}
	scalePixels  = pixels{"scale", 1, 10}
)

func (p pixels) validate(n int) error {
	if n < p.min || n > p.max {
		return fmt.Errorf("%s must be a number of pixels from %d to %d", p.name, p.min, p.max)
	}
	return nil
}

// CaddyModule returns the Caddy module information.
func (Barcode) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.cvs_barcode",
		New: func() caddy.Module { return new(Barcode) },
	}
}

// Provision sets the defaults.
func (b *Barcode) Provision(caddy.Context) error {
	b.Height = cmp.Or(b.Height, code128.DefaultHeight)
	b.Scale = cmp.Or(b.Scale, code128.DefaultScale)
	b.picture = code128.Picture{Scale: b.Scale, Height: b.Height, Text: b.Text}
	return nil
}

// Validate refuses pictures that no scanner reads, or that take long to draw.
func (b *Barcode) Validate() error {
	if err := heightPixels.validate(b.Height); err != nil {
		return err
	}
	return scalePixels.validate(b.Scale)
}

// ServeHTTP returns no error: Caddy would log it with the URL.
func (b *Barcode) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	skipAccessLog(r)
	// A browser that shows the picture by itself asks the site for its icon, and would name the picture's address: in a request that is logged.
	w.Header().Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		closeUnread(w, r)
		w.Header().Set("Allow", "GET, HEAD")
		_ = sendAnswer(w, http.StatusMethodNotAllowed, "", nil)
		return nil
	}
	contentType, content, ok := b.draw(r.URL.Path)
	if !ok { // not for the next handler: the path may have a number, which it would log
		_ = sendAnswer(w, http.StatusNotFound, "", nil)
		return nil
	}
	header := w.Header()
	header.Set("Cache-Control", "private, max-age=86400")
	header.Set("Content-Type", contentType)
	header.Set("Content-Length", strconv.Itoa(len(content)))
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(content)
	return nil
}

// draw returns the picture that a path names in its last segment.
func (b *Barcode) draw(path string) (contentType string, content []byte, ok bool) {
	number, format, _ := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ".")
	if !code128.IsNumber(number) {
		return "", nil, false
	}
	switch format {
	case "svg":
		svg, err := b.picture.SVG(number)
		return "image/svg+xml", []byte(svg), err == nil
	case "png":
		content, err := b.picture.PNG(number)
		return "image/png", content, err == nil
	}
	return "", nil, false
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Barcode)(nil)
	_ caddy.Validator             = (*Barcode)(nil)
	_ caddyhttp.MiddlewareHandler = (*Barcode)(nil)
)
