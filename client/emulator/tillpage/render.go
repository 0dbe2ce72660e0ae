package tillpage

// Rendering the page and serving its files. The page is rendered on the server; its script only replaces the parts that
// changed, which it takes from a fresh copy of the page.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"sync"
)

// contentPolicy lets the page load its own files only, and run no script that is written into the HTML.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed till.html till.css till.js till.svg
var files embed.FS

// templates holds the page's template in each language, parsed when the page is first requested.
var templates = sync.OnceValue(func() map[language]*template.Template {
	parsed := make(map[language]*template.Template)
	for _, l := range languages {
		t := template.New("till.html").Funcs(template.FuncMap{"t": l.t, "langOf": langOf})
		parsed[l] = template.Must(t.ParseFS(files, "till.html"))
	}
	return parsed
})

// Handler returns a handler for the page, which load fills. A request that chooses a language is redirected to the page after
// the language was stored in a cookie.
func Handler(load func(context.Context, Query) Page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if l := language(query.Get(languageQuery)); slices.Contains(languages, l) {
			http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: string(l), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}) //nolint:gosec // a sandbox speaks plain HTTP
			query.Del(languageQuery)
			Redirect(w, query)
			return
		}
		Render(w, r, http.StatusOK, load(r.Context(), ReadQuery(query)))
	}
}

// Render writes the page, or 304 if the browser has the same page already.
func Render(w http.ResponseWriter, r *http.Request, status int, p Page) {
	l := languageOf(r)
	var page bytes.Buffer
	if err := templates()[l].Execute(&page, newView(l, p)); err != nil {
		panic("tillpage: rendering the page: " + err.Error()) // an error in the embedded template, which every test of the page would show
	}
	sum := sha256.Sum256(page.Bytes())
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept-Language, Cookie")
	if status == http.StatusOK && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	setHeaders(w, "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
}

// File returns a handler for one of the files that the page loads.
func File(name, contentType string) http.HandlerFunc {
	content, err := files.ReadFile(name)
	if err != nil {
		panic("tillpage: " + err.Error()) // no file of this name is embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		setHeaders(w, contentType)
		_, _ = w.Write(content)
	}
}

// Redirect redirects to the page. The location is relative, because a proxy may have removed a prefix from the path.
func Redirect(w http.ResponseWriter, query url.Values) {
	w.Header().Set("Location", (&url.URL{Path: "till", RawQuery: query.Encode()}).String())
	w.WriteHeader(http.StatusSeeOther)
}

// setHeaders sets the content type and the headers that keep other sites from using the page.
func setHeaders(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Security-Policy", contentPolicy)
	// Not "no-referrer": browsers would send the forms with the origin "null", and they would be refused.
	w.Header().Set("Referrer-Policy", "same-origin")
}
