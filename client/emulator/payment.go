package emulator

// A payment: what the emulator tells of it, what it keeps of it, and the payment object of the API.

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// The statuses of a payment. A barcode whose deadline has passed stays ready.
const (
	statusAll       = "all" // only in a search
	statusReady     = "ready"
	statusPaid      = "paid"
	statusCancelled = "cancelled"
	statusFailed    = "failed"

	stateExpired = "expired" // only on the till's page
)

// The methods of payment.
const (
	// Assumption: the API's schema lists no method for CVS. This one is given for cash and for cards at the till.
	payMethodCVS  = "cvs"
	payMethodCard = "card"
)

// Payment is what the emulator tells of a payment. Times are Unix seconds of the API's clock, 0 if unset.
type Payment struct {
	ImpUID      string  `json:"imp_uid"`
	MerchantUID string  `json:"merchant_uid"`
	Name        string  `json:"name,omitempty"`
	Amount      float64 `json:"amount"`
	Status      string  `json:"status"`
	// PayMethod is "cvs" for a barcode, "card" for a payment by card.
	PayMethod string `json:"pay_method"`
	Barcode   string `json:"barcode,omitempty"`
	// PayType is how the customer paid a barcode, "card" or "cash".
	PayType     string `json:"pay_type,omitempty"`
	PG          string `json:"pg,omitempty"`
	ChannelKey  string `json:"channel_key,omitempty"`
	Tier        string `json:"tier,omitempty"`
	StartedAt   int64  `json:"started_at"`
	ExpiredAt   int64  `json:"expired_at"`
	PaidAt      int64  `json:"paid_at"`
	CancelledAt int64  `json:"cancelled_at"`
	// CancelAmount is how much of a payment was refunded.
	CancelAmount float64 `json:"cancel_amount"`
	// FailReason is the reason that the gateway gave for its last refusal at the till.
	FailReason string `json:"fail_reason,omitempty"`
	// ConfirmURL and NoticeURL lack their query strings. See [Emulator.WebhookURLs].
	ConfirmURL string   `json:"confirm_url,omitempty"`
	NoticeURL  []string `json:"notice_url,omitempty"`
}

// payment is a payment with the fields that only the API shows or needs.
type payment struct {
	Payment
	impKey        string // of the merchant
	confirmURL    string
	noticeURL     []string
	buyerName     string
	buyerEmail    string
	buyerTel      string
	buyerAddr     string
	buyerPostcode string
	customData    string
	pgProvider    string
	pgID          string
	pgTID         string
	applyNum      string
	cancelReason  string
	cardNumber    string // masked
	cancellations []cancellation

	updated   int64 // the number of the last change in the store
	updatedAt int64

	since   time.Time // when it became as it is
	earlier *payment  // as it was before, or nil; never changed
}

// unrefunded returns the amount that is not refunded.
func (p *Payment) unrefunded() float64 { return toCents(p.Amount - p.CancelAmount) }

// toCents rounds to hundredths of a won, which removes the errors of floating-point arithmetic.
func toCents(amount float64) float64 { return math.Round(amount*100) / 100 }

// payable reports whether the barcode can be paid.
func (p *Payment) payable(now int64) bool {
	return p.Status == statusReady && now <= p.ExpiredAt
}

// state returns the status, or "expired" for a barcode that is ready but whose deadline has passed.
func (p *Payment) state(now int64) string {
	if p.Status == statusReady && !p.payable(now) {
		return stateExpired
	}
	return p.Status
}

// contains reports whether the payment contains a text in one of the fields that the till's page searches. The text is in
// lower case, and may have the spaces between the digits that the page shows.
func (p *Payment) contains(text string) bool {
	for _, s := range []string{p.MerchantUID, p.Name, p.Barcode, p.ImpUID} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return strings.Contains(p.Barcode, strings.ReplaceAll(text, " ", ""))
}

// public returns a deep copy of the exported part.
func (p *payment) public() Payment {
	public := p.Payment
	public.NoticeURL = slices.Clone(public.NoticeURL)
	return public
}

// changedAt returns the time by which payments of its status are searched.
func (p *payment) changedAt() int64 {
	switch p.Status {
	case statusPaid:
		return p.PaidAt
	case statusCancelled:
		return p.CancelledAt
	}
	return p.StartedAt
}

// annotation is the API's model PaymentAnnotation. It has every field, even those that are never set for such payments.
type annotation struct {
	ImpUID            string         `json:"imp_uid"`
	MerchantUID       string         `json:"merchant_uid"`
	PayMethod         *string        `json:"pay_method"`
	Channel           string         `json:"channel"`
	PGProvider        string         `json:"pg_provider"`
	EmbPGProvider     *string        `json:"emb_pg_provider"`
	PGTID             *string        `json:"pg_tid"`
	PGID              *string        `json:"pg_id"`
	Sandbox           bool           `json:"sandbox"`
	Escrow            bool           `json:"escrow"`
	ApplyNum          *string        `json:"apply_num"`
	BankCode          *string        `json:"bank_code"`
	BankName          *string        `json:"bank_name"`
	CardCode          *string        `json:"card_code"`
	CardName          *string        `json:"card_name"`
	CardIssuerCode    *string        `json:"card_issuer_code"`
	CardIssuerName    *string        `json:"card_issuer_name"`
	CardPublisherCode *string        `json:"card_publisher_code"`
	CardPublisherName *string        `json:"card_publisher_name"`
	CardQuota         int            `json:"card_quota"`
	CardNumber        *string        `json:"card_number"`
	CardType          *int           `json:"card_type"`
	VbankCode         *string        `json:"vbank_code"`
	VbankName         *string        `json:"vbank_name"`
	VbankNum          *string        `json:"vbank_num"`
	VbankHolder       *string        `json:"vbank_holder"`
	VbankDate         int64          `json:"vbank_date"`
	VbankIssuedAt     int64          `json:"vbank_issued_at"`
	Name              *string        `json:"name"`
	Amount            float64        `json:"amount"`
	CancelAmount      float64        `json:"cancel_amount"`
	Currency          string         `json:"currency"`
	BuyerName         *string        `json:"buyer_name"`
	BuyerEmail        *string        `json:"buyer_email"`
	BuyerTel          *string        `json:"buyer_tel"`
	BuyerAddr         *string        `json:"buyer_addr"`
	BuyerPostcode     *string        `json:"buyer_postcode"`
	CustomData        *string        `json:"custom_data"`
	UserAgent         *string        `json:"user_agent"`
	Status            string         `json:"status"`
	StartedAt         int64          `json:"started_at"`
	PaidAt            int64          `json:"paid_at"`
	FailedAt          int64          `json:"failed_at"`
	CancelledAt       int64          `json:"cancelled_at"`
	FailReason        *string        `json:"fail_reason"`
	CancelReason      *string        `json:"cancel_reason"`
	ReceiptURL        *string        `json:"receipt_url"`
	CancelHistory     []cancellation `json:"cancel_history"`
	DepositHistory    []any          `json:"deposit_history"`
	CancelReceiptURLs []string       `json:"cancel_receipt_urls"`
	CashReceiptIssued bool           `json:"cash_receipt_issued"`
	CustomerUID       *string        `json:"customer_uid"`
	CustomerUIDUsage  *string        `json:"customer_uid_usage"`
	Promotion         any            `json:"promotion"`
}

// isPaymentField reports whether the API's payments have a field.
func isPaymentField(name string) bool {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(encodeJSON(annotation{}, ""), &fields) // never fails: it is an object
	return fields[name] != nil
}

// annotate returns the payment object of the API.
func (e *Emulator) annotate(p payment) annotation {
	a := annotation{
		ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, PayMethod: nullIfEmpty(p.PayMethod),
		Channel: "api", PGProvider: p.pgProvider, PGTID: nullIfEmpty(p.pgTID), PGID: nullIfEmpty(p.pgID), Sandbox: !e.opts.LiveChannel,
		ApplyNum: nullIfEmpty(p.applyNum), CardNumber: nullIfEmpty(p.cardNumber),
		Name: nullIfEmpty(p.Name), Amount: p.Amount, CancelAmount: p.CancelAmount, Currency: "KRW",
		BuyerName: nullIfEmpty(p.buyerName), BuyerEmail: nullIfEmpty(p.buyerEmail), BuyerTel: nullIfEmpty(p.buyerTel),
		BuyerAddr: nullIfEmpty(p.buyerAddr), BuyerPostcode: nullIfEmpty(p.buyerPostcode), CustomData: nullIfEmpty(p.customData),
		Status: p.Status, StartedAt: p.StartedAt, PaidAt: p.PaidAt, CancelledAt: p.CancelledAt,
		FailReason: nullIfEmpty(p.FailReason), CancelReason: nullIfEmpty(p.cancelReason),
		CancelHistory: append([]cancellation{}, p.cancellations...), DepositHistory: []any{}, CancelReceiptURLs: []string{},
	}
	if p.PayMethod == payMethodCard || p.PayType == PayTypeCard {
		a.CardType = new(0) // a credit card
	}
	// Assumption: the model has no field for the barcode's number. vbank_num is the only one that could carry it.
	a.VbankNum = nullIfEmpty(p.Barcode)
	return a
}
