package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
)

// gateway is where the shop asks for barcodes. It sends no credential there:
// Caddy has them.
const gateway = "http://127.0.0.1:8081"

type product struct {
	name    string
	price   int
	soldOut bool // to be seen at the till: the last one goes while the customer walks to the store
}

var products = map[string]product{
	"umbrella": {"접이식 우산", 15000, false},
	"lamp":     {"한정판 램프", 42000, true},
}

type order struct {
	ID      string `json:"order"`
	Product string `json:"product"`
	Total   int    `json:"total"`
	State   string `json:"state"` // waiting or paid
	Barcode string `json:"barcode"`
	ImpUID  string `json:"imp_uid"`
	product product
}

// shop is the merchant's existing app.
type shop struct {
	mu     sync.Mutex
	orders map[string]*order
}

func newShop() http.Handler {
	s := &shop{orders: make(map[string]*order)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.create)
	mux.HandleFunc("GET /orders/{id}", s.show)
	mux.HandleFunc("POST /orders/{id}/payable", s.payable)
	mux.HandleFunc("POST /cvs/notice", s.notice)
	return mux
}

// create makes an order and asks Caddy for its barcode.
func (s *shop) create(w http.ResponseWriter, r *http.Request) {
	p, ok := products[r.FormValue("product")]
	if !ok {
		http.Error(w, "choose product=umbrella or product=lamp", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	o := &order{ID: fmt.Sprintf("order-%d", len(s.orders)+1), Product: p.name, Total: p.price, State: "waiting", product: p}
	s.orders[o.ID] = o
	s.mu.Unlock()

	var answer struct {
		Code     int
		Message  string
		Response struct {
			ImpUID   string `json:"imp_uid"`
			VBankNum string `json:"vbank_num"` // where the sandbox puts the barcode's number
		}
	}
	resp, err := http.PostForm(gateway+"/cvs", url.Values{
		"merchant_uid": {o.ID}, "amount": {fmt.Sprint(p.price)}, "name": {p.name},
	})
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&answer)
	}
	if err != nil || answer.Code != 0 {
		http.Error(w, "no barcode: "+answer.Message, http.StatusBadGateway)
		return
	}
	s.mu.Lock()
	o.ImpUID, o.Barcode = answer.Response.ImpUID, answer.Response.VBankNum
	s.mu.Unlock()
	s.write(w, o)
}

func (s *shop) show(w http.ResponseWriter, r *http.Request) {
	if o := s.find(w, r.PathValue("id")); o != nil {
		s.write(w, o)
	}
}

// payable is the order check: Caddy asks it while the customer stands at the till.
func (s *shop) payable(w http.ResponseWriter, r *http.Request) {
	o := s.find(w, r.PathValue("id"))
	if o == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.State != "waiting":
		refuse(w, "이미 결제된 주문입니다")
	case o.product.soldOut:
		refuse(w, "품절되었습니다")
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"payable": true, "total": o.Total})
	}
}

func refuse(w http.ResponseWriter, reason string) {
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(map[string]string{"reason": reason})
}

// notice hears that a barcode was paid. The webhook is unsigned, so the shop
// looks the payment up, again through Caddy, and believes only that.
func (s *shop) notice(w http.ResponseWriter, r *http.Request) {
	var hook struct {
		ImpUID string `json:"imp_uid"`
	}
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&hook) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	var answer struct {
		Response struct {
			MerchantUID string `json:"merchant_uid"`
			Status      string
			Amount      int
		}
	}
	resp, err := http.Get(gateway + "/payments/" + url.PathEscape(hook.ImpUID) + "?include_sandbox=true")
	if err == nil {
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&answer)
	}
	if err != nil {
		http.Error(w, "the payment could not be looked up", http.StatusBadGateway)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[answer.Response.MerchantUID]; o != nil && answer.Response.Status == "paid" && answer.Response.Amount == o.Total {
		o.State = "paid"
	}
}

func (s *shop) find(w http.ResponseWriter, id string) *order {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[id]
	if o == nil {
		http.Error(w, `{"reason":"없는 주문입니다"}`, http.StatusNotFound)
	}
	return o
}

func (s *shop) write(w http.ResponseWriter, o *order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(o)
}
