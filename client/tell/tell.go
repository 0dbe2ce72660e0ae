// Package tell knows what the shop's app is told of a payment: the body of the request, the id by
// which it knows that it has heard of it before, and the signature by the Standard Webhooks.
//
// It does not know to whom, when and how often it is sent.
package tell

// This file holds the message.

// Event is what has happened to a payment.
type Event string

// The events.
const (
	Paid      Event = "paid"
	Cancelled Event = "cancelled" // paid back, in part or as a whole
	Expired   Event = "expired"   // it was not paid in time, and cannot be paid any more
)

// Message is what the shop's app is told. Amounts are in the form that decimal.Canonical gives.
type Message struct {
	Account        string // "" for the unnamed one
	ImpUID         string
	MerchantUID    string
	Event          Event
	Status         string // of the payment, in the API's own word, true now
	Amount         string // of the payment
	CancelAmount   string // what was paid back of it until now; "0" for nothing
	PaidAt         int64  // Unix seconds by the API's clock, 0 if it was not paid
	CancellationID string // of the event Cancelled; "" if the API shows none
	Expires        int64  // the barcode's deadline in Unix seconds, 0 if unknown; a header field, no part of the body
	Late           bool   // paid although the barcode had expired or was voided
	Test           bool   // of no payment: somebody tries whether the app hears it
}
