package client

// This file holds how a payment that was looked up is compared with the POST /cvs that
// may have made it.

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// otherMethods are the pay_methods that the API's schema names. There is none for
// convenience stores among them, so no POST /cvs made a payment with one of these.
var otherMethods = []string{
	"samsung", "card", "trans", "vbank", "phone", "cultureland", "culturegift", "smartculture", "booknlife", "point",
	"ssgpay", "lpay", "payco", "kakaopay", "tosspay", "naverpay", "applepay", "paypal",
}

// MayBeCVS reports whether a POST /cvs can have made the payment, by its pay_method.
func (p *Payment) MayBeCVS() bool { return mayBeCVS(string(p.PayMethod)) }

func mayBeCVS(payMethod string) bool { return !slices.Contains(otherMethods, payMethod) }

// matches reports whether every field of a payment that this request could have set has
// the value of the request. Fields that the API sets by itself, such as a barcode's
// number, are not compared.
func (i *Issue) matches(p *Payment) bool {
	if p.MerchantUID != i.MerchantUID || !decimal.Near(string(p.Amount), i.Amount) ||
		!p.MayBeCVS() || !absentOr(string(p.Currency), "KRW") {
		return false
	}
	for _, shown := range [...]struct {
		field string
		value Text
	}{
		{"name", p.Name},
		{"buyer_name", p.BuyerName},
		{"buyer_email", p.BuyerEmail},
		{"buyer_tel", p.BuyerTel},
		{"buyer_addr", p.BuyerAddr},
		{"buyer_postcode", p.BuyerPostcode},
	} {
		if strings.TrimSpace(i.body.Get(shown.field).Text) != strings.TrimSpace(string(shown.value)) {
			return false
		}
	}
	if own := i.body.Get("barcode").Text; own != "" && !absentOr(p.Barcode(), own) {
		return false
	}
	if _, id, named := strings.Cut(i.body.Get("pg").Text, "."); named && !absentOr(string(p.PGID), id) {
		return false
	}
	return sameData(i.body, string(p.CustomData))
}

// absentOr reports whether a value is missing, or is the wanted one.
func absentOr(shown, want string) bool { return shown == "" || shown == want }

// sameData compares custom_data, which comes back as the text of its JSON.
func sameData(b *strict.Body, shown string) bool {
	sent := b.Get("custom_data")
	if b.Missing("custom_data") || shown == "" {
		return b.Missing("custom_data") && shown == ""
	}
	if sent.Missing() {
		return false // how the API puts the custom_data[...] of a form together is not known
	}
	if sent.Kind == strict.String && sent.Text == shown {
		return true
	}
	raw := sent.Text // of a form
	if b.MediaType() == strict.JSON {
		raw = gjson.Get(b.Original(), "custom_data").Raw
	}
	var want, got any
	errWant := json.Unmarshal([]byte(raw), &want)
	errGot := json.Unmarshal([]byte(shown), &got)
	return errors.Join(errWant, errGot) == nil && reflect.DeepEqual(want, got)
}
