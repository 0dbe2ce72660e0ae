package client

// This file holds the outline of a payment: what tells one payment from another. Reading it takes a
// tenth of the time that a whole Payment takes.

import (
	"strings"

	"github.com/tidwall/gjson"
)

// Outline is a part of a Payment, with values of the same meaning.
type Outline struct {
	ImpUID       string
	MerchantUID  string
	Amount       Amount
	CancelAmount Amount
	Barcode      string
	PGID         string
	Status       Status
	StartedAt    int64
	PaidAt       int64
	MayBeCVS     bool
	Sandbox      bool
	CancelledAt  int64
	Fields       []string // names of the members that have a value: not null, and not the zero value of their type

	Cancellations []OutlineCancellation // of cancel_history
}

// OutlineCancellation is a part of a Cancellation.
type OutlineCancellation struct {
	ID          string // cancellation_id
	Amount      Amount
	CancelledAt int64
}

// Outline reads the outline of the one payment of an answer. The error is that of Payment, except
// that fields which the outline does not have may have any type.
func (r *Response) Outline() (Outline, error) {
	if err := r.Err(); err != nil {
		return Outline{}, err
	}
	return outline(r.response())
}

// Outlines reads the outlines of a page of a list. more reports whether there is another page. It
// leaves out what is no payment, or none that can be read: a list has payments of all kinds, and one
// must not hide the others.
func (r *Response) Outlines() (list []Outline, more bool, err error) {
	if err := r.Err(); err != nil {
		return nil, false, err
	}
	page := r.response()
	payments := page.Get("list")
	if !payments.IsArray() {
		return nil, false, ErrNotAPI
	}
	payments.ForEach(func(_, payment gjson.Result) bool {
		if o, err := outline(payment); err == nil {
			list = append(list, o)
		}
		return true
	})
	var next Int
	if raw := page.Get("next").Raw; raw != "" {
		_ = next.UnmarshalJSON([]byte(raw)) // never fails
	}
	return list, next != 0, nil
}

// OutlineOf reads the outline of a payment. The error is ErrNotAPI.
func OutlineOf(raw []byte) (Outline, error) { return outline(gjson.ParseBytes(raw)) }

func outline(payment gjson.Result) (o Outline, err error) {
	o.MayBeCVS = true
	payment.ForEach(func(name, value gjson.Result) bool {
		err = o.set(name.Str, value)
		if hasValue(value) {
			o.Fields = append(o.Fields, strings.Clone(name.Str)) // the clone does not hold the answer
		}
		return err == nil
	})
	if err != nil || o.ImpUID == "" {
		return Outline{}, ErrNotAPI
	}
	return o, nil
}

func (o *Outline) set(name string, value gjson.Result) error {
	raw := func() []byte { return []byte(value.Raw) } // most members need no copy
	switch name {
	case "imp_uid":
		o.ImpUID = strings.Clone(value.Str)
	case "merchant_uid":
		o.MerchantUID = strings.Clone(value.Str)
	case "amount":
		return o.Amount.UnmarshalJSON(raw())
	case "cancel_amount":
		return o.CancelAmount.UnmarshalJSON(raw())
	case "vbank_num": // see Payment.Barcode
		o.Barcode = text(raw())
	case "pg_id":
		o.PGID = text(raw())
	case "pay_method":
		o.MayBeCVS = mayBeCVS(text(raw()))
	case "status":
		o.Status = Status(strings.Clone(value.Str))
	case "started_at":
		return (*Time)(&o.StartedAt).UnmarshalJSON(raw())
	case "paid_at":
		return (*Time)(&o.PaidAt).UnmarshalJSON(raw())
	case "cancelled_at":
		return (*Time)(&o.CancelledAt).UnmarshalJSON(raw())
	case "sandbox":
		return (*Bool)(&o.Sandbox).UnmarshalJSON(raw())
	case "cancel_history":
		return o.setCancellations(value)
	}
	return nil
}

// setCancellations reads the cancel_history, which is empty for most payments.
func (o *Outline) setCancellations(history gjson.Result) error {
	if !hasValue(history) {
		return nil
	}
	var list List[Cancellation]
	if err := list.UnmarshalJSON([]byte(history.Raw)); err != nil {
		return err
	}
	for i := range list {
		o.Cancellations = append(o.Cancellations, OutlineCancellation{string(list[i].CancellationID), list[i].Amount, int64(list[i].CancelledAt)})
	}
	return nil
}

// text reads a Text, of which null is none.
func text(raw []byte) string {
	var t Text
	_ = t.UnmarshalJSON(raw) // never fails
	return string(t)
}

func hasValue(v gjson.Result) bool {
	switch v.Type {
	case gjson.Null, gjson.False:
		return false
	case gjson.Number:
		return v.Num != 0
	case gjson.String:
		return v.Str != ""
	case gjson.JSON:
		filled := false
		v.ForEach(func(_, _ gjson.Result) bool {
			filled = true
			return false
		})
		return filled
	default:
		return true
	}
}
