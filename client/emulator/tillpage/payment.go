package tillpage

// How the page shows a payment and its state.

import (
	"html/template"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

// The states of a payment: those of the API, and one for a barcode whose deadline has passed.
const (
	stateReady     = "ready"
	statePaid      = "paid"
	stateCancelled = "cancelled"
	stateExpired   = "expired"
)

// states are the states in the order of the page.
var states = []string{stateReady, statePaid, stateCancelled, stateExpired}

func (l language) state(s string) string {
	switch s {
	case statePaid:
		return l.t("결제 완료", "Paid")
	case stateCancelled:
		return l.t("말소", "Void")
	case stateExpired:
		return l.t("기한 지남", "Expired")
	}
	return l.t("결제 대기", "Waiting")
}

// stateOf names the state of a payment of which so much was paid back, and so much is left.
func (l language) stateOf(state string, refunded, left float64) string {
	switch {
	case refunded == 0:
		return l.state(state)
	case left > 0:
		return l.t("일부 환불", "Refunded in part")
	}
	return l.t("환불", "Refunded")
}

func (l language) counts(of map[string]int) string {
	parts := make([]string, len(states))
	for i, s := range states {
		parts[i] = l.state(s) + " " + humanize.Comma(int64(of[s]))
	}
	return strings.Join(parts, " · ")
}

// paymentView is a payment as the template shows it.
type paymentView struct {
	Payment
	StateName string
	Number    string
	Price     string
	Deadline  string
	Moment    string // the time that matters in this state
	SVG       template.HTML
	URL       string
	Chosen    bool
}

// Refundable reports whether some of the payment can be paid back.
func (v paymentView) Refundable() bool { return v.PaidAt != 0 && v.Left > 0 }

// payment returns the view of a payment on the page that shows query.
func (l language) payment(p Payment, query Query) paymentView {
	svg, _ := code128.SVG(p.Barcode) // empty if the merchant chose a number that Code 128 cannot encode
	v := paymentView{
		Payment: p, StateName: l.stateOf(p.State, p.Refunded, p.Left),
		Number: number(p.Barcode), Price: l.amount(p.Amount), Deadline: l.moment(p.ExpiredAt),
		SVG:    template.HTML(svg), //nolint:gosec // made of numbers and of package code128's own text
		URL:    query.scanURL(p.Barcode),
		Chosen: p.Barcode == query.Barcode,
	}
	switch p.State {
	case statePaid:
		v.Moment = l.t("결제 ", "paid ") + l.moment(p.PaidAt)
	case stateCancelled:
		v.Moment = l.t("말소 ", "void since ") + l.moment(p.CancelledAt)
		if p.Refunded > 0 {
			v.Moment = l.t("환불 ", "refunded ") + l.moment(p.CancelledAt)
		}
	default:
		v.Moment = l.t("기한 ", "until ") + v.Deadline
	}
	return v
}
