package emulator

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The till's page is rendered here altogether; its script only takes the parts that changed from a fresh copy.

const (
	pageSize       = 20 // payments
	languageQuery  = "lang"
	languageCookie = "cvs_sandbox_lang" // of its own: a cookie is sent to every port of a host

	// The page loads nothing but its own files, and runs no script that stands in it.
	contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

//go:embed page
var pageFiles embed.FS

// pages holds the page's template in each language, parsed when a page is first asked for.
var pages = sync.OnceValue(func() map[language]*template.Template {
	parsed := make(map[language]*template.Template)
	for _, l := range languages {
		t := template.New("till.html").Funcs(template.FuncMap{"t": l.t, "langOf": langOf})
		parsed[l] = template.Must(t.ParseFS(pageFiles, "page/till.html"))
	}
	return parsed
})

// serveRoot answers GET /.
func (e *Emulator) serveRoot(w http.ResponseWriter, r *http.Request) {
	seeOther(w, "till", r.URL.Query())
}

// servePage answers GET /till.
func (e *Emulator) servePage(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if l := language(query.Get(languageQuery)); slices.Contains(languages, l) {
		http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: string(l), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}) //nolint:gosec // a sandbox speaks plain HTTP
		query.Del(languageQuery)
		seeOther(w, "till", query)
		return
	}
	e.render(w, r, http.StatusOK, "")
}

// render writes the page, or 304 if it is the one that the browser has.
func (e *Emulator) render(w http.ResponseWriter, r *http.Request, status int, problem string) {
	l := languageOf(r)
	view := e.view(l, readPlace(r.URL.Query()))
	view.Problem = problem
	var page bytes.Buffer
	if err := pages()[l].Execute(&page, view); err != nil {
		panic("emulator: rendering the page: " + err.Error()) // the template is ours, and every test renders it
	}
	sum := sha256.Sum256(page.Bytes())
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Vary", "Accept-Language, Cookie")
	if status == http.StatusOK && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	secure(w, "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
}

// serveFile returns a handler for one of the page's files.
func (e *Emulator) serveFile(name, contentType string) http.HandlerFunc {
	content, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		panic("emulator: " + err.Error()) // names a file that is not embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		secure(w, contentType)
		_, _ = w.Write(content)
	}
}

// scanFromPage answers POST /till for a browser: the page then shows what happened.
func (e *Emulator) scanFromPage(w http.ResponseWriter, r *http.Request, req ScanRequest) {
	if _, known := e.ledger.find(req.Barcode); !known {
		// People type the number as they see it, in groups.
		req.Barcode = strings.Join(strings.Fields(req.Barcode), "")
	}
	_, err := e.Scan(r.Context(), req)
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrPayType), errors.Is(err, ErrScenario):
		write(w, failed(scanStatus(err), err.Error()))
		return
	}
	query := r.URL.Query()
	query.Set("barcode", req.Barcode)
	query.Set("pay_type", cmp.Or(req.PayType, PayTypeCard))
	seeOther(w, "till", query)
}

// serveFaultForm answers POST /till-faults, the page's form.
func (e *Emulator) serveFaultForm(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	fault, err := readFault(r)
	if err == nil {
		err = e.Inject(fault)
	}
	if err != nil {
		e.render(w, r, http.StatusBadRequest, strings.TrimPrefix(err.Error(), injecting))
		return
	}
	seeOther(w, "till", r.URL.Query())
}

// serveNormal answers POST /till-normal.
func (e *Emulator) serveNormal(w http.ResponseWriter, r *http.Request) {
	e.ClearFaults()
	seeOther(w, "till", r.URL.Query())
}

// seeOther redirects to a path beside the request's. The location is relative, as a proxy may have cut a prefix off.
func seeOther(w http.ResponseWriter, path string, query url.Values) {
	w.Header().Set("Location", (&url.URL{Path: path, RawQuery: query.Encode()}).String())
	w.WriteHeader(http.StatusSeeOther)
}

// secure sets the headers that keep a page to itself.
func secure(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Security-Policy", contentPolicy)
	// Not "no-referrer": a form would then come without an origin, and be refused.
	w.Header().Set("Referrer-Policy", "same-origin")
}

// wantsPage reports whether a browser asks, which names HTML; other clients get JSON.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// place is which part of the ledger the page shows: its query.
type place struct {
	Barcode string // on the till
	PayType string
	Text    string
	State   string
	Page    int
}

func readPlace(query url.Values) place {
	page, _ := strconv.Atoi(query.Get("page"))
	return place{
		Barcode: query.Get("barcode"),
		PayType: query.Get("pay_type"),
		Text:    strings.TrimSpace(query.Get("q")),
		State:   query.Get("state"),
		Page:    max(1, page),
	}
}

// query returns the place's query with its "?", or "" for the page as it first opens. How the customer pays is no part of it:
// every link would change with that.
func (p place) query() string {
	query := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("barcode", p.Barcode)
	set("q", p.Text)
	set("state", p.State)
	if p.Page > 1 {
		query.Set("page", strconv.Itoa(p.Page))
	}
	if len(query) == 0 {
		return ""
	}
	return "?" + query.Encode()
}

// pageView is what the template shows.
type pageView struct {
	place
	Lang      language
	Faults    []string
	Problem   string
	Selected  *paymentView
	Scenarios []choice
	Endpoints []choice
	Effects   []choice
	Exchanges []exchangeView
	Counts    string
	States    []choice
	Payments  []paymentView
	Pages     int
}

// choice is one of several values of a control.
type choice struct {
	Value, Name, About      string
	Kind                    string // of a fault: which requests it can meet
	Chosen                  bool
	Input                   string // the label of an effect's number
	Min, Max, Step, Default string
}

// view reads what the page shows. The parts may be a moment apart; the next look mends that.
func (e *Emulator) view(l language, at place) pageView {
	now := e.now()
	v := pageView{
		place: at, Lang: l,
		Scenarios: l.scenarios(), Endpoints: l.endpoints(), Effects: l.effects(),
	}
	for _, f := range e.Faults() {
		v.Faults = append(v.Faults, l.fault(f))
	}
	for _, x := range e.history.newest() {
		v.Exchanges = append(v.Exchanges, l.exchange(x, at))
	}
	found := e.ledger.search(at.Text, at.State, now, (at.Page-1)*pageSize, pageSize)
	v.Pages = max(1, (found.total+pageSize-1)/pageSize)
	v.Counts = l.counts(found.counts)
	for _, s := range states {
		v.States = append(v.States, choice{Value: s, Name: l.state(s), Chosen: s == at.State})
	}
	for _, p := range found.payments {
		v.Payments = append(v.Payments, l.payment(p, at, now))
	}
	if p, ok := e.ledger.find(at.Barcode); ok {
		v.Selected = new(l.payment(p.entry(), at, now))
	}
	return v
}

// Here is the query that comes back to this page.
func (v pageView) Here() string { return v.query() }

// LangURL is this page in another language.
func (v pageView) LangURL(l language) string {
	query := v.query()
	if query == "" {
		return "till?lang=" + string(l)
	}
	return "till" + query + "&lang=" + string(l)
}

// Filtered reports whether the list is a part of the ledger.
func (v pageView) Filtered() bool { return v.Text != "" || v.State != "" || v.Page > 1 }

// Newer is the page before, or "".
func (v pageView) Newer() string {
	if v.Page == 1 {
		return ""
	}
	return v.turn(min(v.Page-1, v.Pages))
}

// Older is the page behind, or "".
func (v pageView) Older() string {
	if v.Page >= v.Pages {
		return ""
	}
	return v.turn(v.Page + 1)
}

func (v pageView) turn(page int) string {
	to := v.place
	to.Page = page
	return "till" + to.query() + "#list-title"
}

// readFault reads the form of the faults.
func readFault(r *http.Request) (Fault, error) {
	if err := r.ParseForm(); err != nil {
		return Fault{}, err
	}
	form := r.PostForm
	effect := form.Get("effect")
	f := Fault{Endpoint: Endpoint(form.Get("endpoint"))}
	var wrong []error
	number := func(name string) int {
		n, err := strconv.Atoi(cmp.Or(form.Get(name), "0")) // which Inject refuses where it has no effect
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s must be a whole number, not %q", strings.TrimSuffix(name, "_value"), form.Get(name)))
		}
		return n
	}
	f.Times = number("times")
	switch effect {
	case "delay":
		seconds, err := strconv.ParseFloat(form.Get("delay_value"), 64)
		if err != nil || math.IsNaN(seconds) {
			wrong = append(wrong, fmt.Errorf("delay must be a number of seconds, not %q", form.Get("delay_value")))
		}
		f.Delay = time.Duration(min(seconds, 2*maxDelay.Seconds()) * float64(time.Second))
	case "status":
		f.Status = number("status_value")
	case "code":
		f.Code = number("code_value")
	case "garbage":
		f.Garbage = true
	case "oversized":
		f.Oversized = true
	case "expired_token":
		f.ExpiredToken = true
	case "duplicate":
		f.Duplicate = true
	default:
		drop, _ := strings.CutPrefix(effect, "drop_")
		f.Drop = Drop(drop)
	}
	return f, errors.Join(wrong...)
}
