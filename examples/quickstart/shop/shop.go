// Package shop is the quickstart's merchant: an app that sells a few things and holds no credential. It asks Caddy for
// barcodes (barcode), answers Caddy's order check (payable) and is told what happens to payments (told). The rest is an ordinary
// shop.
package shop

import (
	"crypto/rand"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxBody   = 64 << 10 // bytes
	maxOrders = 10_000
	timeout   = 35 * time.Second // of a call; longer than the gateway's, so that the gateway's answer arrives first

	usualLifetime = 72 * time.Hour // of a barcode
)

type product struct {
	ID, Ko, En            string
	Price, Stock, Initial int
	// sellsOut takes the last item out of stock when it is ordered, so that the till shows a refusal: as if another customer
	// had bought it while this one walks to the store.
	sellsOut bool
}

type order struct {
	ID, State string // new (without a barcode), waiting, expired, paid or refunded
	Product   *product
	Total     int // won
	Barcode   string
	Picture   template.HTML // of the barcode
	Expires   time.Time     // when the barcode does, or the one that was asked for
	Refunded  int           // won
	impUID    string        // the payment that the barcode stands for, or by which the order was paid

	Told       []telling // what Caddy has told of it
	TurnedAway int       // how often Caddy asked or told while the shop was stopped
}

type shop struct {
	gateway, till string
	client        *http.Client
	now           func() time.Time
	pages         map[string]*template.Template // by language

	mu       sync.Mutex // guards the stock, the orders and stopped
	products []*product
	orders   map[string]*order
	stopped  string // how it is stopped, "" if it is not
}

// New returns the shop. The gateway is where Caddy's cvs_proxy listens, such as http://127.0.0.1:8081; the till is the sandbox's
// till page, such as http://127.0.0.1:8480/till, to which the voucher links.
func New(gateway, till string) http.Handler {
	return newShop(gateway, till).handler()
}

func newShop(gateway, till string) *shop {
	return &shop{
		gateway: gateway, till: till, client: &http.Client{Timeout: timeout}, now: time.Now,
		pages: map[string]*template.Template{"ko": parse("ko"), "en": parse("en")},
		products: []*product{
			{ID: "umbrella", Ko: "접이식 우산", En: "Folding umbrella", Price: 15000, Stock: 5, Initial: 5},
			{ID: "mug", Ko: "머그컵", En: "Mug", Price: 9000, Stock: 12, Initial: 12},
			{ID: "lamp", Ko: "한정판 램프", En: "Limited lamp", Price: 42000, Stock: 1, Initial: 1, sellsOut: true},
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
	mux.HandleFunc("POST /orders/{id}/payable", s.runs(s.payable, stoppedAll))
	mux.HandleFunc("POST /payments/{id}", s.runs(s.told, stoppedAll, stoppedTold))
	mux.HandleFunc("POST /stop", s.stop)
	mux.Handle("GET /static/{file}", http.FileServerFS(static))
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.render(w, r, http.StatusNotFound, "problem", view{Problem: "page"})
	})
	// No other site may make a visitor's browser order or restock. Caddy's requests do not come from a browser, and pass.
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
	id := "order-" + strings.ToLower(rand.Text()[:10]) // random, because whoever knows the address of an order can open it
	s.mu.Lock()
	soldOut, full := p.Stock == 0, len(s.orders) >= maxOrders
	if !soldOut && !full {
		s.orders[id] = &order{ID: id, State: "new", Product: p, Total: p.Price}
		if p.sellsOut {
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

// open reports whether the order may be paid yet.
func (o *order) open() bool { return o.State == "new" || o.State == "waiting" || o.State == "expired" }

// overdue reports whether the barcode's time is over. It may have been paid in time: Caddy tells that, or that it has expired.
func (o *order) overdue(now time.Time) bool {
	return o.State == "waiting" && now.After(o.Expires)
}

// shown returns the state that the customer sees.
func (o *order) shown(now time.Time) string {
	if o.overdue(now) {
		return "overdue"
	}
	return o.State
}

// times returns how often the shop was told of the order, or was not because it was stopped.
func (o *order) times() int {
	n := o.TurnedAway
	for _, t := range o.Told {
		n += t.Times
	}
	return n
}

// copy returns a copy of an order as it is now.
func (s *shop) copy(o *order) order {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := *o
	c.Told = slices.Clone(o.Told)
	return c
}

func (s *shop) show(w http.ResponseWriter, r *http.Request, o *order) {
	s.render(w, r, http.StatusOK, "order", view{Order: s.copy(o)})
}

func (s *shop) state(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[r.PathValue("id")]; o != nil {
		answer(w, http.StatusOK, map[string]any{
			"order": o.ID, "state": o.shown(s.now()), "product": o.Product.ID, "total": o.Total, "barcode": o.Barcode,
			"told": o.times(), "stopped": s.stopped,
		})
		return
	}
	refuse(w, http.StatusNotFound, "없는 주문입니다")
}

// guard limits the size of bodies, and tells browsers to load nothing from other sites.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "+
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "same-origin") // whoever knows the address of an order can open it
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}
