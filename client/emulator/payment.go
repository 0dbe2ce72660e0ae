package emulator

import (
	"math"
	"slices"
	"strings"
)

// The states of a payment. There is none for a barcode whose deadline has passed: it stays ready.
const (
	statusAll       = "all" // of a search only
	statusReady     = "ready"
	statusPaid      = "paid"
	statusCancelled = "cancelled"
	statusFailed    = "failed"

	stateExpired = "expired" // of the till's page only
)

// The methods of payment.
const (
	// Assumption: the schema lists the methods and has none for CVS, however the customer paid at the till.
	payMethodCVS  = "cvs"
	payMethodCard = "card"
)

// Payment is an entry of the ledger. Times are Unix seconds of the API's clock, 0 if unset.
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
	// FailReason is what the gateway gave for its last refusal at the till.
	FailReason string `json:"fail_reason,omitempty"`
	// ConfirmURL and NoticeURL lack their query strings. See [Emulator.WebhookURLs].
	ConfirmURL string   `json:"confirm_url,omitempty"`
	NoticeURL  []string `json:"notice_url,omitempty"`
}

// payment is a payment with what only the API itself gives or needs.
type payment struct {
	Payment
	impKey        string // the merchant's
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

	updated   int64 // the order of the last change
	updatedAt int64
}

// left returns how much of a payment is not refunded.
func (p *Payment) left() float64 { return toCents(p.Amount - p.CancelAmount) }

// toCents rounds away what floating-point arithmetic adds to a sum of amounts.
func toCents(amount float64) float64 { return math.Round(amount*100) / 100 }

// live reports whether the barcode can be paid.
func (p *Payment) live(now int64) bool {
	return p.Status == statusReady && now <= p.ExpiredAt
}

// state is the status, or "expired".
func (p *Payment) state(now int64) string {
	if p.Status == statusReady && !p.live(now) {
		return stateExpired
	}
	return p.Status
}

// contains reports whether a text in lower case stands in what people search by, in any case; of a barcode, also in groups of
// digits.
func (p *Payment) contains(text string) bool {
	for _, s := range []string{p.MerchantUID, p.Name, p.Barcode, p.ImpUID} {
		if strings.Contains(strings.ToLower(s), text) {
			return true
		}
	}
	return strings.Contains(p.Barcode, strings.ReplaceAll(text, " ", ""))
}

// entry returns the payment's entry of the ledger as a copy that shares nothing with it.
func (p *payment) entry() Payment {
	entry := p.Payment
	entry.NoticeURL = slices.Clone(entry.NoticeURL)
	return entry
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

// annotation is the API's model PaymentAnnotation: every field, also those which a payment of this kind never sets.
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

// annotate returns a payment as the API shows it.
func (e *Emulator) annotate(p payment) annotation {
	a := annotation{
		ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, PayMethod: text(p.PayMethod),
		Channel: "api", PGProvider: p.pgProvider, PGTID: text(p.pgTID), PGID: text(p.pgID), Sandbox: !e.opts.LiveChannel,
		ApplyNum: text(p.applyNum), CardNumber: text(p.cardNumber),
		Name: text(p.Name), Amount: p.Amount, CancelAmount: p.CancelAmount, Currency: "KRW",
		BuyerName: text(p.buyerName), BuyerEmail: text(p.buyerEmail), BuyerTel: text(p.buyerTel),
		BuyerAddr: text(p.buyerAddr), BuyerPostcode: text(p.buyerPostcode), CustomData: text(p.customData),
		Status: p.Status, StartedAt: p.StartedAt, PaidAt: p.PaidAt, CancelledAt: p.CancelledAt,
		FailReason: text(p.FailReason), CancelReason: text(p.cancelReason),
		CancelHistory: append([]cancellation{}, p.cancellations...), DepositHistory: []any{}, CancelReceiptURLs: []string{},
	}
	if p.PayMethod == payMethodCard || p.PayType == PayTypeCard {
		a.CardType = new(0) // a credit card
	}
	// Assumption: the model names no field for the number of the barcode; vbank_num is the only one that could carry it.
	a.VbankNum = text(p.Barcode)
	return a
}
