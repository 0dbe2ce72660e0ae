package shop

// This file holds how the pages are rendered.

import (
	"embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed templates
var templates embed.FS

//go:embed static
var static embed.FS

// view is what a page shows.
type view struct {
	Products []product
	Order    order
	Problem  string // what went wrong
	Message  string // the gateway's message
	// The rest is filled in by render.
	Path    string // the address of this page
	Till    string
	State   string // of the order
	Times   int    // how often the shop was told of it
	Stopped string // how the shop is stopped
}

func (s *shop) render(w http.ResponseWriter, r *http.Request, status int, page string, v view) {
	v.Till, v.Path = s.till, "/"
	if v.Order.ID != "" {
		v.Path = "/orders/" + v.Order.ID
		v.State, v.Times = v.Order.shown(s.now()), v.Order.times()
	}
	s.mu.Lock()
	v.Stopped = s.stopped
	s.mu.Unlock()
	if lang := r.URL.Query().Get("lang"); s.pages[lang] != nil {
		//nolint:gosec // not Secure: the quickstart has no TLS, and a language is no secret
		http.SetCookie(w, &http.Cookie{
			Name: "lang", Value: lang, Path: "/", MaxAge: 365 * 24 * 60 * 60, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		})
		http.Redirect(w, r, v.Path, http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = s.pages[s.language(r)].ExecuteTemplate(w, page, v) // the visitor may have left
}

// language returns the language that the visitor chose here, or else prefers.
func (s *shop) language(r *http.Request) string {
	if c, err := r.Cookie("lang"); err == nil && s.pages[c.Value] != nil {
		return c.Value
	}
	for accepted := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(accepted, ";")
		lang, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		if s.pages[lang] != nil {
			return lang
		}
	}
	return "ko"
}

var seoul = time.FixedZone("KST", 9*60*60)

// parse returns the templates in one of the languages. Each template contains the texts of both.
func parse(lang string) *template.Template {
	choose := func(ko, en string) string {
		if lang == "ko" {
			return ko
		}
		return en
	}
	return template.Must(template.New("").Funcs(template.FuncMap{
		"lang": func() string { return lang },
		"t":    choose,
		"won":  func(n int) string { return thousands(n) + choose("원", " KRW") },
		"until": func(t time.Time) string {
			return t.In(seoul).Format(choose("2006년 1월 2일 15:04까지", "until 2 Jan 2006, 15:04 MST"))
		},
		"clock":  func(t time.Time) string { return t.In(seoul).Format("15:04:05") },
		"utc":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"groups": groups,
	}).ParseFS(templates, "templates/*.html"))
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// groups writes a barcode's number in groups of four, so that it can be read aloud.
func groups(s string) string {
	for i := 4; i < len(s); i += 5 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
