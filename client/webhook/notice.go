package webhook

// This file holds the notice, which says that a payment has changed.

import (
	"errors"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// Notice is PortOne's notice of a payment, of any means of payment. It proves nothing, so that it only
// says which payment to look at.
type Notice struct {
	ImpUID         string
	MerchantUID    string // "" if the notice names none
	Status         string // the payment's status then; "" if the notice names none
	CancellationID string // of the notice of a cancellation; "" if the notice names none
}

const (
	maxStatus         = 32  // characters of a Status that is kept
	maxCancellationID = 128 // characters of a CancellationID that is kept
)

// ParseNotice reads a notice, strictly. The error is a strict.ErrMediaType, or says what is wrong
// without repeating any value. A body with a member event is no notice: it is a confirm webhook, or
// another product's.
func ParseNotice(contentType string, body []byte) (Notice, error) {
	b, err := strict.Parse(contentType, body, "event", "imp_uid", "merchant_uid", "status", "cancellation_id")
	if err != nil {
		return Notice{}, err
	}
	if b.Has("event") {
		return Notice{}, errors.New("a body with an event is no notice")
	}
	var n Notice
	if n.ImpUID, err = requiredText("imp_uid", b.Get("imp_uid"), maxImpUID); err != nil {
		return Notice{}, err
	}
	if !b.Missing("merchant_uid") {
		if n.MerchantUID, err = requiredText("merchant_uid", b.Get("merchant_uid"), maxMerchantUID); err != nil {
			return Notice{}, err
		}
	}
	// A payment is looked at with or without the two. So a loose type or a new word must not cost a
	// notice.
	if status, err := requiredText("status", b.Get("status"), maxStatus); err == nil && isWord(status) {
		n.Status = status
	}
	if id, err := requiredText("cancellation_id", b.Get("cancellation_id"), maxCancellationID); err == nil {
		n.CancellationID = id
	}
	return n, nil
}

// isWord reports whether text has nothing but what the API's words for a status are made of.
func isWord(text string) bool {
	return strings.Trim(text, "abcdefghijklmnopqrstuvwxyz_") == ""
}
