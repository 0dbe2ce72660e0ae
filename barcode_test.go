package caddycvs

// This file holds tests of cvs_barcode: what it answers, and that its numbers are not logged. Those of
// the pictures themselves are in barcode_read_test.go.

import (
	"bufio"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

const aNumber = "98200142857142857142"

// startBarcode starts a site with cvs_barcode in front of the shop, which logs each request, and returns
// the site's address.
func startBarcode(t *testing.T, directives string) (g *gatewaytest.Gateway, site string) {
	t.Helper()
	site = "http://" + gatewaytest.Address(t)
	return gatewaytest.Start(t, gatewaytest.Setup{Sites: site + " {\nlog {\noutput file LOGS\n}\n" + directives + "\nreverse_proxy SHOP\n}\n"}), site
}

// loadBarcode returns the handler with these options.
func loadBarcode(t *testing.T, options string) *Barcode {
	t.Helper()
	b := new(Barcode)
	require.NoError(t, b.UnmarshalCaddyfile(caddyfile.NewTestDispenser("cvs_barcode {\n"+options+"\n}")))
	require.NoError(t, b.Provision(caddy.Context{}))
	require.NoError(t, b.Validate())
	return b
}

func TestBarcodeServesPictures(t *testing.T) {
	t.Parallel()
	g, site := startBarcode(t, "cvs_barcode /barcode/*")
	for extension, c := range map[string]struct{ contentType, begins string }{
		"svg": {"image/svg+xml", "<svg "},
		"png": {"image/png", "\x89PNG\r\n\x1a\n"},
	} {
		target := site + "/barcode/" + aNumber + "." + extension
		a := g.Do(t, http.MethodGet, target, "", "")
		assert.Equal(t, http.StatusOK, a.Status)
		assert.True(t, strings.HasPrefix(a.Body, c.begins), "%.20q", a.Body)
		for name, want := range map[string]string{
			"Content-Type": c.contentType, "Content-Length": strconv.Itoa(len(a.Body)),
			"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		} {
			assert.Equal(t, want, a.Header.Get(name), extension)
		}
		head := g.Do(t, http.MethodHead, target, "", "")
		assert.Equal(t, http.StatusOK, head.Status)
		assert.Empty(t, head.Body)
		a.Header.Del("Date")
		head.Header.Del("Date")
		assert.Equal(t, a.Header, head.Header)
	}
	assert.Equal(t, 0, g.Shop.Count())
}

// The name of a picture is the last segment of the path, wherever the site puts it.
func TestBarcodeServesPicturesUnderAnyPath(t *testing.T) {
	t.Parallel()
	g, site := startBarcode(t, "cvs_barcode /barcode/*\nhandle_path /voucher/* {\ncvs_barcode\n}")
	for _, path := range []string{"/barcode/1.svg", "/Barcode/1.png", "//barcode//1.svg", "/barcode/2026/1.svg", "/voucher/1.png", "/barcode/%31.svg", "/barcode/1.svg?v=2", "/barcode/" + strings.Repeat("8", 48) + ".png"} {
		assert.Equal(t, http.StatusOK, g.Do(t, http.MethodGet, site+path, "", "").Status, path)
	}
}

// A front controller in a block does not take the pictures.
func TestBarcodeComesBeforeTheShopsBlocks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "index.php"), nil, 0o600))
	for _, block := range []string{"handle", "route", "handle /barcode/*"} {
		g, site := startBarcode(t, block+" {\nroot "+root+"\ntry_files {path} /index.php\nreverse_proxy SHOP\n}\ncvs_barcode /barcode/*")
		assert.Equal(t, "image/png", g.Do(t, http.MethodGet, site+"/barcode/1.png", "", "").Header.Get("Content-Type"), block)
		assert.Equal(t, 0, g.Shop.Count(), block)
	}
}

// A number that no picture has does not reach the shop, which could log it.
func TestBarcodeAnswersWhatIsNoPicture(t *testing.T) {
	t.Parallel()
	g, site := startBarcode(t, "cvs_barcode /barcode/*")
	refused := func(method, path string, status int) {
		a := g.Do(t, method, site+path, "text/plain", "")
		assert.Equal(t, status, a.Status, "%s %s", method, path)
		assert.Empty(t, a.Body)
		assert.Equal(t, "no-store", a.Header.Get("Cache-Control"), path)
		assert.Equal(t, "no-referrer", a.Header.Get("Referrer-Policy"), path)
		assert.Empty(t, a.Header.Get("Content-Type"))
		if status == http.StatusMethodNotAllowed {
			assert.Equal(t, "GET, HEAD", a.Header.Get("Allow"))
		}
	}
	for _, path := range []string{
		"", aNumber, ".svg", "1.", "1.gif", "1.svgz", "1.SVG", "1.svg.png", "1.svg/", "1.png/2", "A1.svg", "-1.svg", "+1.svg", "1e5.svg", "1 2.svg", "%EF%BC%91.svg", "1%00.svg", "1%0A.svg",
		"{http.request.uri}.svg", "<script>.svg", strings.Repeat("8", 49) + ".svg", strings.Repeat("8", 8000) + ".png",
	} {
		refused(http.MethodGet, "/barcode/"+strings.ReplaceAll(path, " ", "%20"), http.StatusNotFound)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "PROPFIND"} {
		refused(method, "/barcode/"+aNumber+".svg", http.StatusMethodNotAllowed)
		refused(method, "/barcode/"+aNumber, http.StatusMethodNotAllowed)
	}
	assert.Equal(t, 0, g.Shop.Count())
}

// The sender of a body that never comes gets the answer at once.
func TestBarcodeDoesNotWaitForABody(t *testing.T) {
	t.Parallel()
	_, site := startBarcode(t, "cvs_barcode /barcode/*")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", gatewaytest.Host(site))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	_, err = io.WriteString(conn, "POST /barcode/1.svg HTTP/1.1\r\nHost: "+gatewaytest.Host(site)+"\r\nContent-Length: 1000\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
}

func TestBarcodesNumberIsInNoLog(t *testing.T) {
	t.Parallel()
	g, site := startBarcode(t, "cvs_barcode /barcode/*")
	for _, name := range []string{aNumber + ".svg", aNumber + ".png", aNumber, aNumber + ".gif"} {
		g.Do(t, http.MethodGet, site+"/barcode/"+name, "", "")
		g.Do(t, http.MethodPost, site+"/barcode/"+name, "", "")
	}
	g.Do(t, http.MethodGet, site+"/last", "", "")
	g.WaitForLine(t, `"msg":"handled request"`, `"uri":"/last"`)
	log := g.Log(t)
	assert.NotContains(t, log, aNumber)
	assert.NotContains(t, log, "/barcode/")
}

// goneWriter is the writer for a client that has left.
type goneWriter struct{ http.ResponseWriter }

func (goneWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// Caddy would log the error, with the URL.
func TestBarcodeReturnsNoErrorForAClientThatHasLeft(t *testing.T) {
	t.Parallel()
	b := loadBarcode(t, "")
	for _, request := range []string{"GET /1.svg", "GET /1.gif", "POST /1.svg"} {
		method, path, _ := strings.Cut(request, " ")
		assert.NoError(t, b.ServeHTTP(goneWriter{httptest.NewRecorder()}, httptest.NewRequest(method, path, nil), nil), request)
	}
}

// Each option changes the size of the picture.
func TestBarcodeOptionsChangeThePicture(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]struct {
		width, height string
		text          []string
	}{
		"":                          {"330", "80", nil},
		"height 120":                {"330", "120", nil},
		"scale 4":                   {"660", "80", nil},
		"text":                      {"330", "106", []string{"9820 0142 8571 4285 7142"}},
		"scale 3\nheight 60\ntext":  {"495", "99", []string{"9820 0142 8571 4285 7142"}},
		"scale 10\nheight 500":      {"1650", "500", nil},
		"scale 1\nheight 20\n text": {"165", "33", []string{"9820 0142 8571 4285 7142"}},
	} {
		b := loadBarcode(t, options)
		_, content, ok := b.draw("/" + aNumber + ".svg")
		require.True(t, ok)
		var svg struct {
			Width  string   `xml:"width,attr"`
			Height string   `xml:"height,attr"`
			Text   []string `xml:"text"`
		}
		require.NoError(t, xml.Unmarshal(content, &svg))
		assert.Equal(t, want.width, svg.Width, options)
		assert.Equal(t, want.height, svg.Height, options)
		assert.Equal(t, want.text, svg.Text, options)

		_, content, ok = b.draw("/" + aNumber + ".png")
		require.True(t, ok)
		picture := decodePNG(t, content)
		assert.Equal(t, want.width, strconv.Itoa(picture.Bounds().Dx()), options)
		assert.Equal(t, want.height, strconv.Itoa(picture.Bounds().Dy()), options)
	}
}
