// Package webhook reads what PortOne sends: the confirm webhook, by which
// GalaxiaMoneytree asks when a customer wants to pay at the till, and the notice
// of a payment.
//
// It knows the fields of a webhook's body. It does not know whether a webhook is
// authentic, at which URL it arrived, or what is answered to it.
package webhook

// This file holds the confirm webhook.

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// EventConfirm is the event that asks whether an order may be paid now.
const EventConfirm = "Galaxia.Cvs.Confirm"

// StatusReady is the only status of a payment that may still be paid.
const StatusReady = "ready"

// Confirm is the confirm webhook. It carries no amount and no proof of its
// sender: see package signedurl.
type Confirm struct {
	ImpUID      string
	MerchantUID string
	Amount      string // in the form that decimal.Canonical gives; "" if the webhook names none, as documented
	Barcode     string // "" if the webhook names none
	PayType     string // "card", "cash", another kind, or "" if the webhook names none
}

// How long texts may be, in characters.
const (
	maxImpUID      = 64
	maxMerchantUID = 40
	maxPayType     = 32 // of a PayType that is kept
)

// ParseConfirm reads a confirm webhook, strictly. The error is a
// strict.ErrMediaType, or says what is wrong without repeating any value.
func ParseConfirm(contentType string, body []byte) (Confirm, error) {
	b, err := strict.Parse(contentType, body, "event", "imp_uid", "merchant_uid", "status", "amount", "extra")
	if err != nil {
		return Confirm{}, err
	}
	if event := b.Get("event"); event.Kind != strict.String || event.Text != EventConfirm {
		return Confirm{}, errors.New("event is not " + EventConfirm)
	}
	if status := b.Get("status"); status.Kind != strict.String || status.Text != StatusReady {
		return Confirm{}, errors.New("status is not " + StatusReady)
	}
	var c Confirm
	if c.ImpUID, err = requiredText("imp_uid", b.Get("imp_uid"), maxImpUID); err != nil {
		return Confirm{}, err
	}
	if c.MerchantUID, err = requiredText("merchant_uid", b.Get("merchant_uid"), maxMerchantUID); err != nil {
		return Confirm{}, err
	}
	if err = c.readAmount(b); err != nil {
		return Confirm{}, err
	}
	err = c.readExtra(b)
	return c, err
}

// readAmount reads the amount, which the general confirm process sends.
func (c *Confirm) readAmount(b *strict.Body) error {
	if b.Missing("amount") {
		return nil
	}
	v := b.Get("amount")
	amount, ok := decimal.Canonical(v.Text)
	if !ok || v.Kind != strict.Number && v.Kind != strict.String {
		return errors.New("amount is not a number")
	}
	c.Amount = amount
	return nil
}

func (c *Confirm) readExtra(b *strict.Body) error {
	if extra := b.Get("extra"); !extra.Missing() && extra.Kind != strict.Object {
		return errors.New("extra is not an object")
	}
	if err := b.ValidateMembers("extra", "barcode", "payType"); err != nil {
		return err
	}
	// No decision depends on the two, so a loose type or a new kind must not prevent a
	// payment.
	if barcode := b.Member("extra", "barcode"); !strings.ContainsFunc(barcode.Text, unicode.IsControl) {
		c.Barcode = barcode.Text
	}
	payType := b.Member("extra", "payType")
	if payType.Kind == strict.String && utf8.RuneCountInString(payType.Text) <= maxPayType && !strings.ContainsFunc(payType.Text, unicode.IsControl) {
		c.PayType = payType.Text
	}
	return nil
}

// requiredText returns a value that can stand in a header and in a URL.
func requiredText(name string, v strict.Value, limit int) (string, error) {
	switch {
	case v.Missing() || v.Kind == strict.String && strings.TrimSpace(v.Text) == "":
		return "", errors.New(name + " is missing")
	case v.Kind != strict.String:
		return "", fmt.Errorf("%s must be a string, not %s", name, v.Kind)
	case utf8.RuneCountInString(v.Text) > limit:
		return "", fmt.Errorf("%s is longer than %d characters", name, limit)
	case strings.ContainsFunc(v.Text, unicode.IsControl):
		return "", errors.New(name + " has a control character")
	case strings.TrimSpace(v.Text) != v.Text: // a header field would lose the space, and so name another order
		return "", errors.New(name + " has a space at an end")
	}
	return v.Text, nil
}
