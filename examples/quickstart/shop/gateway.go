package shop

// This file holds everything that communicates with Caddy: the shop asks for a barcode, answers the order check, and is told
// what happens to a payment. It is what an existing shop would add.

import (
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

// barcode asks the gateway for the order's barcode: at the first click, and in the same way at every other one, after a time-out,
// or when the page is reloaded. The gateway answers each time with the order's one barcode, so the shop needs no lock, and no
// look-up before it asks again. The call goes on if the customer leaves.
func (s *shop) barcode(w http.ResponseWriter, r *http.Request, o *order) {
	lifetime := usualLifetime
	if r.PostFormValue("lifetime") == "minute" { // to see one expire
		lifetime = time.Minute
	}
	if form := s.request(o, lifetime); form != nil {
		p, f := s.ask(form)
		if f == nil {
			f = s.keep(o, p)
		}
		if f != nil { // the page's button asks again
			s.render(w, r, http.StatusBadGateway, "order", view{Order: s.copy(o), Problem: "barcode", Message: f.message})
			return
		}
	}
	http.Redirect(w, r, "/orders/"+o.ID, http.StatusSeeOther)
}

// request returns what the gateway is asked for, nil if the order is to get no barcode. The deadline is chosen once and sent again
// until it has passed: the answer does not contain it, and the voucher must show the one that the barcode has.
func (s *shop) request(o *order, lifetime time.Duration) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !o.open() || o.overdue(now) {
		return nil
	}
	if now.After(o.Expires) {
		o.Expires = now.Add(lifetime)
	}
	return url.Values{
		"merchant_uid": {o.ID},
		"amount":       {strconv.Itoa(o.Total)},
		"name":         {o.Product.Ko},
		"expired_at":   {strconv.FormatInt(o.Expires.Unix(), 10)},
	}
}

// payment is what the shop reads of a payment.
type payment struct {
	ImpUID  string `json:"imp_uid"`
	Barcode string `json:"vbank_num"` // where the sandbox puts the number
}

// failure is an answer of the gateway that is not a success, or a missing one, which has no message.
type failure struct{ message string }

// ask sends POST /cvs to the gateway, without any credential.
func (s *shop) ask(form url.Values) (payment, *failure) {
	resp, err := s.client.PostForm(s.gateway+"/cvs", form)
	if err != nil {
		return payment{}, &failure{}
	}
	defer func() { _ = resp.Body.Close() }()
	var envelope struct {
		Code     int
		Message  string
		Response payment
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&envelope); err != nil {
		return payment{}, &failure{}
	}
	if resp.StatusCode != http.StatusOK || envelope.Code != 0 {
		return payment{}, &failure{envelope.Message}
	}
	return envelope.Response, nil
}

// keep stores the barcode that the gateway answered, a new one or the earlier one, unless the order was paid meanwhile.
func (s *shop) keep(o *order, p payment) *failure {
	picture, err := code128.SVG(p.Barcode)
	if err != nil {
		return &failure{} // there is a payment, but no number to show
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.open() {
		o.State, o.impUID, o.Barcode, o.Picture = "waiting", p.ImpUID, p.Barcode, template.HTML(picture) //nolint:gosec // drawn by code128
	}
	return nil
}

// payable is the order check: Caddy asks it while the customer stands at the till, and compares the total itself. Two tills
// may ask at once for the last item in stock. A shop can prevent that: it reserves the item for the first order until it is
// told of the payment, or for a minute.
func (s *shop) payable(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[r.PathValue("id")]
	switch {
	case o == nil:
		refuse(w, http.StatusNotFound, "없는 주문입니다")
	case o.State == "paid":
		refuse(w, http.StatusConflict, "이미 결제된 주문입니다")
	case o.State == "refunded":
		refuse(w, http.StatusConflict, "환불된 주문입니다")
	case o.State == "new" || o.impUID != r.Header.Get("X-Cvs-Imp-Uid"):
		refuse(w, http.StatusConflict, "다른 바코드로 결제해 주세요")
	case o.State == "expired":
		refuse(w, http.StatusConflict, "결제 기한이 지났습니다")
	case o.Product.Stock == 0:
		refuse(w, http.StatusConflict, "품절되었습니다")
	default:
		answer(w, http.StatusOK, map[string]any{"payable": true, "total": o.Total})
	}
}

// news is what Caddy tells of a payment.
type news struct {
	Event        string  `json:"event"` // paid, cancelled or expired
	ImpUID       string  `json:"imp_uid"`
	Amount       float64 `json:"amount"`
	CancelAmount float64 `json:"cancel_amount"` // how much was paid back of it until now
	Late         bool    `json:"late"`          // paid although its barcode had expired or was void
	Test         bool    `json:"test"`          // of no payment: caddy cvs trigger tries whether the shop hears
}

// told receives what happened to a payment. Caddy has looked it up, and goes on telling it until it is answered {"heard":true}.
// So the shop may be told twice: each event changes only an order that it has not changed yet. Here the site keeps everybody
// else from this path. A shop with a secret verifies webhook-signature first: also a test is ignored only if it is genuine.
func (s *shop) told(w http.ResponseWriter, r *http.Request) {
	var n news
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
		refuse(w, http.StatusBadRequest, "JSON이 아닙니다")
		return
	}
	if n.Test {
		answer(w, http.StatusOK, map[string]any{"heard": true})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.orders[r.PathValue("id")]
	switch {
	case o == nil:
		refuse(w, http.StatusNotFound, "없는 주문입니다")
		return
	case n.Amount != float64(o.Total):
		refuse(w, http.StatusConflict, "금액이 주문과 다릅니다")
		return
	case n.Event == "paid" && o.open(): // also after it had expired
		o.State, o.impUID = "paid", n.ImpUID
		o.Product.Stock = max(0, o.Product.Stock-1)
	case n.Event == "cancelled" && n.ImpUID == o.impUID && !o.open():
		o.State, o.Refunded = "refunded", max(o.Refunded, int(n.CancelAmount))
	case n.Event == "expired" && n.ImpUID == o.impUID && o.State == "waiting":
		o.State = "expired"
	}
	o.note(r.Header.Get("Webhook-Id"), n, s.now()) // for the order's page
	answer(w, http.StatusOK, map[string]any{"heard": true})
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
