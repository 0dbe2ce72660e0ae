// Package shop is the quickstart's merchant: an app that sells a few things and holds no credential. It asks Caddy for
// barcodes (barcode), answers Caddy's order check (payable) and hears of payments (notice). The rest is any shop's.
package shop

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

const (
	maxBody   = 64 << 10 // bytes
	maxOrders = 10_000
	lifetime  = 72 * time.Hour   // of a barcode
	patience  = 35 * time.Second // longer than the gateway's, whose answer says more than a time-out
)

type product struct {
	ID, Ko, En            string
	Price, Stock, Initial int
	// lastOneGoes lets another customer take the last one while this one walks to the store, to be seen at the till.
	lastOneGoes bool
}

type order struct {
	ID, State string // new (without a barcode), waiting, paid or cancelled
	Product   *product
	Total     int // won
	Barcode   string
	Picture   template.HTML // of the barcode
	Expires   time.Time     // the barcode
	Checked   time.Time     // when the customer last asked whether the payment has arrived
	impUID    string        // the payment that the barcode stands for
	inDoubt   bool          // an attempt to get a barcode ended without an answer: there may be one
	issuing   *sync.Mutex   // held while a barcode is asked for, so that two clicks do not get two
}

type shop struct {
	gateway, till string
	client        *http.Client
	now           func() time.Time
	pages         map[string]*template.Template // by language

	mu       sync.Mutex // guards the stock and the orders
	products []*product
	orders   map[string]*order
}

// New returns the shop. The gateway is where Caddy's cvs_proxy listens, such as http://127.0.0.1:8081; the till is the sandbox's
// till page, such as http://127.0.0.1:8480/till, to which the voucher links.
func New(gateway, till string) http.Handler {
	return newShop(gateway, till).handler()
}

func newShop(gateway, till string) *shop {
	return &shop{
		gateway: gateway, till: till, client: &http.Client{Timeout: patience}, now: time.Now,
		pages: map[string]*template.Template{"ko": parse("ko"), "en": parse("en")},
		products: []*product{
			{ID: "umbrella", Ko: "접이식 우산", En: "Folding umbrella", Price: 15000, Stock: 5, Initial: 5},
			{ID: "mug", Ko: "머그컵", En: "Mug", Price: 9000, Stock: 12, Initial: 12},
			{ID: "lamp", Ko: "한정판 램프", En: "Limited lamp", Price: 42000, Stock: 1, Initial: 1, lastOneGoes: true},
		},
		orders: make(map[string]*order),
	}
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("POST /products/{id}/restock", s.restock)
	mux.HandleFunc("POST /orders", s.create)
	mux.HandleFunc("GET /orders/{id}", s.ordered(s.show))
	mux.HandleFunc("GET /orders/{id}/state", s.state)
	mux.HandleFunc("POST /orders/{id}/barcode", s.ordered(s.barcode))
	mux.HandleFunc("POST /orders/{id}/refresh", s.ordered(s.refresh))
	mux.HandleFunc("POST /orders/{id}/payable", s.payable)
	mux.HandleFunc("POST /cvs/notice", s.notice)
	mux.Handle("GET /static/{file}", http.FileServerFS(static))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.render(w, r, http.StatusNotFound, "problem", view{Problem: "page"})
	})
	// No other site may order or restock for a visitor. Caddy's requests are no browser's, and pass.
	return guard(http.NewCrossOriginProtection().Handler(mux))
}

func (s *shop) home(w http.ResponseWriter, r *http.Request) {
	var v view
	s.mu.Lock()
	for _, p := range s.products {
		v.Products = append(v.Products, *p)
	}
	s.mu.Unlock()
	s.render(w, r, http.StatusOK, "home", v)
}

func (s *shop) product(id string) *product {
	if i := slices.IndexFunc(s.products, func(p *product) bool { return p.ID == id }); i >= 0 {
		return s.products[i]
	}
	return nil
}

func (s *shop) restock(w http.ResponseWriter, r *http.Request) {
	p := s.product(r.PathValue("id"))
	if p == nil {
		s.render(w, r, http.StatusNotFound, "problem", view{Problem: "page"})
		return
	}
	s.mu.Lock()
	p.Stock = p.Initial
	s.mu.Unlock()
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *shop) create(w http.ResponseWriter, r *http.Request) {
	p := s.product(r.PostFormValue("product"))
	if p == nil {
		s.render(w, r, http.StatusBadRequest, "problem", view{Problem: "product"})
		return
	}
	id := "order-" + strings.ToLower(rand.Text()[:10]) // not to be guessed: the address of an order opens it
	s.mu.Lock()
	soldOut, full := p.Stock == 0, len(s.orders) >= maxOrders
	if !soldOut && !full {
		s.orders[id] = &order{ID: id, State: "new", Product: p, Total: p.Price, issuing: new(sync.Mutex)}
		if p.lastOneGoes {
			p.Stock = 0
		}
	}
	s.mu.Unlock()
	switch {
	case soldOut:
		s.render(w, r, http.StatusConflict, "problem", view{Problem: "soldout"})
	case full:
		s.render(w, r, http.StatusServiceUnavailable, "problem", view{Problem: "full"})
	default:
		http.Redirect(w, r, "/orders/"+id, http.StatusSeeOther)
	}
}

// ordered finds the order of a page.
func (s *shop) ordered(page func(http.ResponseWriter, *http.Request, *order)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		o := s.orders[r.PathValue("id")]
		s.mu.Unlock()
		if o == nil {
			s.render(w, r, http.StatusNotFound, "problem", view{Problem: "order"})
			return
		}
		page(w, r, o)
	}
}

// expired reports whether the barcode's time is over. The payment may have been made, and its notice lost.
func (o *order) expired(now time.Time) bool {
	return o.State == "waiting" && now.After(o.Expires)
}

// copy returns an order as it is now.
func (s *shop) copy(o *order) order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *o
}

func (s *shop) show(w http.ResponseWriter, r *http.Request, o *order) {
	s.render(w, r, http.StatusOK, "order", view{Order: s.copy(o)})
}

func (s *shop) state(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[r.PathValue("id")]; o != nil {
		state := o.State
		if o.expired(s.now()) {
			state = "expired"
		}
		answer(w, http.StatusOK, map[string]any{
			"order": o.ID, "state": state, "product": o.Product.ID, "total": o.Total, "barcode": o.Barcode,
		})
		return
	}
	refuse(w, http.StatusNotFound, "없는 주문입니다")
}

// barcode gets an order's barcode. Neither a second click nor a customer who leaves disturbs the call to the gateway.
func (s *shop) barcode(w http.ResponseWriter, r *http.Request, o *order) {
	o.issuing.Lock()
	defer o.issuing.Unlock()
	if s.copy(o).State == "new" {
		if f := s.issue(o); f != nil {
			s.render(w, r, http.StatusBadGateway, "order", view{Order: s.copy(o), Problem: "barcode", Message: f.message})
			return
		}
	}
	http.Redirect(w, r, "/orders/"+o.ID, http.StatusSeeOther)
}

func (s *shop) issue(o *order) *failure {
	p, f := s.request(o)
	var picture string
	if f == nil {
		var err error
		if picture, err = code128.SVG(p.Barcode); err != nil {
			f = &failure{inDoubt: true} // there is a payment, but no number to show
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		o.inDoubt = o.inDoubt || f.inDoubt // for good: what nobody answered for may be done late
		return f
	}
	o.State, o.impUID, o.Barcode, o.Picture = "waiting", p.ImpUID, p.Barcode, template.HTML(picture) //nolint:gosec // drawn by code128
	return nil
}

// request asks the gateway for a barcode, unless an attempt that ended in doubt turns out to have issued one.
func (s *shop) request(o *order) (payment, *failure) {
	if o.inDoubt {
		p, f := s.lookUp("find/" + o.ID + "/ready")
		if f == nil && p.Amount == float64(o.Total) || f != nil && f.status != http.StatusNotFound {
			return p, f
		}
	}
	expires := s.now().Add(lifetime)
	s.mu.Lock()
	o.Expires = expires
	s.mu.Unlock()
	return s.ask(http.MethodPost, "/cvs", url.Values{
		"merchant_uid": {o.ID},
		"amount":       {strconv.Itoa(o.Total)},
		"name":         {o.Product.Ko},
		"expired_at":   {strconv.FormatInt(expires.Unix(), 10)},
	})
}

func (s *shop) lookUp(path string) (payment, *failure) {
	return s.ask(http.MethodGet, "/payments/"+path+"?include_sandbox=true", nil)
}

// payment is what the shop reads of a payment.
type payment struct {
	ImpUID      string  `json:"imp_uid"`
	MerchantUID string  `json:"merchant_uid"`
	Status      string  `json:"status"`
	Amount      float64 `json:"amount"`
	Barcode     string  `json:"vbank_num"` // where the sandbox puts the number
}

// failure is how the gateway did not do what it was asked to do. In doubt, it may have done it all the same.
type failure struct {
	status  int
	message string
	inDoubt bool
}

// ask sends a request to the gateway, without any credential.
func (s *shop) ask(method, path string, form url.Values) (payment, *failure) {
	req, err := http.NewRequest(method, s.gateway+path, strings.NewReader(form.Encode()))
	if err != nil {
		return payment{}, &failure{}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.client.Do(req)
	if err != nil {
		return payment{}, &failure{inDoubt: true}
	}
	defer func() { _ = resp.Body.Close() }()
	var envelope struct {
		Code     int
		Message  string
		Response payment
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&envelope)
	if err == nil && resp.StatusCode == http.StatusOK && envelope.Code == 0 {
		return envelope.Response, nil
	}
	return payment{}, &failure{resp.StatusCode, envelope.Message, err != nil || resp.StatusCode == http.StatusGatewayTimeout}
}

// refresh lets the customer ask for the payment, as a notice may get lost.
func (s *shop) refresh(w http.ResponseWriter, r *http.Request, o *order) {
	if now := s.copy(o); now.State == "waiting" {
		p, f := s.lookUp(url.PathEscape(now.impUID))
		if f != nil {
			s.render(w, r, http.StatusBadGateway, "order", view{Order: now, Problem: "refresh", Message: f.message})
			return
		}
		s.settle(p)
		s.mu.Lock()
		o.Checked = s.now()
		s.mu.Unlock()
	}
	http.Redirect(w, r, "/orders/"+o.ID, http.StatusSeeOther)
}

// payable is the order check: Caddy asks it while the customer stands at the till, and compares the total itself. Two tills
// may ask at once for the last one of a thing; a shop that minds keeps it for the first until the notice, or for a minute.
func (s *shop) payable(w http.ResponseWriter, r *http.Request) {
	impUID := webhook(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[r.PathValue("id")]
	switch {
	case o == nil:
		refuse(w, http.StatusNotFound, "없는 주문입니다")
	case o.State == "paid":
		refuse(w, http.StatusConflict, "이미 결제된 주문입니다")
	case o.State == "cancelled":
		refuse(w, http.StatusConflict, "취소된 주문입니다")
	case o.State == "new" || o.impUID != impUID:
		refuse(w, http.StatusConflict, "다른 바코드로 결제해 주세요")
	case o.Product.Stock == 0:
		refuse(w, http.StatusConflict, "품절되었습니다")
	default:
		answer(w, http.StatusOK, map[string]any{"payable": true, "total": o.Total})
	}
}

// notice hears that something was paid. Anybody can say so: the shop looks the payment up, and believes only that. A 5xx asks
// the sender to come again, which helps only if the look-up failed.
func (s *shop) notice(w http.ResponseWriter, r *http.Request) {
	impUID := webhook(r)
	if impUID == "" {
		refuse(w, http.StatusBadRequest, "imp_uid가 필요합니다")
		return
	}
	p, f := s.lookUp(url.PathEscape(impUID))
	switch {
	case f != nil && f.status == http.StatusNotFound && !f.inDoubt: // the API's own word
		refuse(w, http.StatusNotFound, "알 수 없는 결제입니다")
		return
	case f != nil:
		refuse(w, http.StatusBadGateway, "결제를 조회하지 못했습니다")
		return
	}
	s.settle(p)
}

// settle takes over what a look-up found. Doing so again changes nothing.
func (s *shop) settle(p payment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[p.MerchantUID]
	switch {
	case o == nil || p.Amount != float64(o.Total):
	case p.Status == "paid" && o.State != "paid":
		o.State = "paid"
		o.Product.Stock = max(0, o.Product.Stock-1)
	case p.Status == "cancelled" && o.State == "waiting" && p.ImpUID == o.impUID:
		o.State = "cancelled"
	}
}

// webhook returns the imp_uid of a webhook, which comes as JSON or as a form.
func webhook(r *http.Request) string {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == "application/x-www-form-urlencoded" {
		return r.PostFormValue("imp_uid")
	}
	var hook struct {
		ImpUID string `json:"imp_uid"`
	}
	_ = json.NewDecoder(r.Body).Decode(&hook) // what cannot be read names no payment
	return hook.ImpUID
}

func refuse(w http.ResponseWriter, status int, reason string) {
	answer(w, status, map[string]any{"reason": reason})
}

func answer(w http.ResponseWriter, status int, fields map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(fields)
}

// What follows is what a visitor sees.

//go:embed templates
var templates embed.FS

//go:embed static
var static embed.FS

// view is what a page shows.
type view struct {
	Products []product
	Order    order
	Problem  string // what went wrong
	Message  string // what the gateway says of it
	// The rest is filled in by render.
	Path    string // where the page is to be had again
	Till    string
	Expired bool // the order's barcode
}

func (s *shop) render(w http.ResponseWriter, r *http.Request, status int, page string, v view) {
	v.Till, v.Path = s.till, "/"
	if v.Order.ID != "" {
		v.Path = "/orders/" + v.Order.ID
		v.Expired = v.Order.expired(s.now())
	}
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

// parse returns the templates in one of the languages, which stand beside each other there.
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
		"clock": func(t time.Time) string { return t.In(seoul).Format("15:04:05") },
		"utc":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"fours": fours,
	}).ParseFS(templates, "templates/*.html"))
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// fours groups a barcode's number, to be read out.
func fours(s string) string {
	for i := 4; i < len(s); i += 5 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// guard bounds what is read, and tells browsers to load nothing from elsewhere.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin") // the address of an order opens it
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}
