package shop

// This file holds everything that communicates with Caddy: it asks for a barcode, answers the
// order check, and receives the notice of a payment. It is what an existing shop would add.

import (
	"encoding/json"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

// barcode asks the gateway for the order's barcode: at the first click, and in the same way at every other one, after a time-out,
// or when the page is reloaded. The gateway answers each time with the order's one barcode, so the shop needs no lock, and no
// look-up before it asks again. The call goes on if the customer leaves.
func (s *shop) barcode(w http.ResponseWriter, r *http.Request, o *order) {
	if form := s.request(o); form != nil {
		p, f := s.ask(http.MethodPost, "/cvs", form)
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

// request returns what the gateway is asked for, nil if the order is to get no barcode any more. The deadline is chosen once and sent
// again until it has passed: the answer does not contain it, and the voucher must show the one that the barcode has.
func (s *shop) request(o *order) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !o.open() || o.expired(now) {
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

// failure is an answer of the gateway that is not a success, or a missing one, which has no status.
type failure struct {
	status  int
	message string
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
		return payment{}, &failure{resp.StatusCode, envelope.Message}
	}
	return envelope.Response, nil
}

// refresh looks the payment up when the customer asks for it, because a notice may get lost.
func (s *shop) refresh(w http.ResponseWriter, r *http.Request, o *order) {
	if now := s.copy(o); now.State == "waiting" {
		p, f := s.lookUp(url.PathEscape(now.impUID))
		if f != nil {
			s.render(w, r, http.StatusBadGateway, "order", view{Order: now, Problem: "refresh", Message: f.message})
			return
		}
		s.settle(p)
		s.mu.Lock()
		o.Refreshed = s.now()
		s.mu.Unlock()
	}
	http.Redirect(w, r, "/orders/"+o.ID, http.StatusSeeOther)
}

// payable is the order check: Caddy asks it while the customer stands at the till, and compares the total itself. Two tills
// may ask at once for the last item in stock. A shop can prevent that: it reserves the item for the first order until the
// notice arrives, or for a minute.
func (s *shop) payable(w http.ResponseWriter, r *http.Request) {
	impUID := readImpUID(r)
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

// notice receives the notice of a payment. Anybody can send one, so the shop looks the payment up and uses only the answer. A
// 5xx makes the sender send the notice again, which helps only if the look-up failed.
func (s *shop) notice(w http.ResponseWriter, r *http.Request) {
	impUID := readImpUID(r)
	if impUID == "" {
		refuse(w, http.StatusBadRequest, "imp_uid가 필요합니다")
		return
	}
	p, f := s.lookUp(url.PathEscape(impUID))
	switch {
	case f != nil && f.status == http.StatusNotFound:
		refuse(w, http.StatusNotFound, "알 수 없는 결제입니다")
		return
	case f != nil:
		refuse(w, http.StatusBadGateway, "결제를 조회하지 못했습니다")
		return
	}
	s.settle(p)
}

// settle updates the order from a payment that was looked up. A second call changes nothing.
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

// readImpUID returns the imp_uid of a webhook, which is sent as JSON or as a form.
func readImpUID(r *http.Request) string {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media == "application/x-www-form-urlencoded" {
		return r.PostFormValue("imp_uid")
	}
	var hook struct {
		ImpUID string `json:"imp_uid"`
	}
	_ = json.NewDecoder(r.Body).Decode(&hook) // a body that cannot be read gives ""
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
