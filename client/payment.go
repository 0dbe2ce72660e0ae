package client

// This file holds a payment, as the API describes it.

import (
	"encoding/json"
	"errors"
)

// Status is the state of a payment. There is none for "expired".
type Status string

// The states of a payment.
const (
	StatusReady     Status = "ready"
	StatusPaid      Status = "paid"
	StatusCancelled Status = "cancelled"
	StatusFailed    Status = "failed"
	StatusAll       Status = "all" // for ListPayments only
)

// Payment is the API's PaymentAnnotation. The API's answers vary in their types, so the
// fields accept several. Raw keeps fields that the API adds later.
type Payment struct {
	ImpUID        string `json:"imp_uid"`
	MerchantUID   string `json:"merchant_uid"`
	PayMethod     Text   `json:"pay_method"`
	Channel       Text   `json:"channel"`
	PGProvider    Text   `json:"pg_provider"`
	EmbPGProvider Text   `json:"emb_pg_provider"`
	PGTID         Text   `json:"pg_tid"`
	PGID          Text   `json:"pg_id"`
	Sandbox       Bool   `json:"sandbox"` // paid through a test channel
	Escrow        Bool   `json:"escrow"`
	ApplyNum      Text   `json:"apply_num"`
	BankCode      Text   `json:"bank_code"`
	BankName      Text   `json:"bank_name"`

	CardCode          Text `json:"card_code"`
	CardName          Text `json:"card_name"`
	CardIssuerCode    Text `json:"card_issuer_code"`
	CardIssuerName    Text `json:"card_issuer_name"`
	CardPublisherCode Text `json:"card_publisher_code"`
	CardPublisherName Text `json:"card_publisher_name"`
	CardQuota         Int  `json:"card_quota"` // months of instalment, 0 for none
	CardNumber        Text `json:"card_number"`
	CardType          Text `json:"card_type"` // "0" credit, "1" debit, "" or "null" unknown

	VBankCode     Text `json:"vbank_code"`
	VBankName     Text `json:"vbank_name"`
	VBankNum      Text `json:"vbank_num"`
	VBankHolder   Text `json:"vbank_holder"`
	VBankDate     Time `json:"vbank_date"`
	VBankIssuedAt Time `json:"vbank_issued_at"`

	Name         Text   `json:"name"`
	Amount       Amount `json:"amount"`
	CancelAmount Amount `json:"cancel_amount"`
	Currency     Text   `json:"currency"`

	BuyerName     Text `json:"buyer_name"`
	BuyerEmail    Text `json:"buyer_email"`
	BuyerTel      Text `json:"buyer_tel"`
	BuyerAddr     Text `json:"buyer_addr"`
	BuyerPostcode Text `json:"buyer_postcode"`

	CustomData        Text               `json:"custom_data"` // a JSON text
	UserAgent         Text               `json:"user_agent"`
	Status            Status             `json:"status"`
	StartedAt         Time               `json:"started_at"`
	PaidAt            Time               `json:"paid_at"`
	FailedAt          Time               `json:"failed_at"`
	CancelledAt       Time               `json:"cancelled_at"`
	FailReason        Text               `json:"fail_reason"`
	CancelReason      Text               `json:"cancel_reason"`
	ReceiptURL        Text               `json:"receipt_url"`
	CancelHistory     List[Cancellation] `json:"cancel_history"`
	DepositHistory    List[Deposit]      `json:"deposit_history"`
	CancelReceiptURLs List[Text]         `json:"cancel_receipt_urls"`
	CashReceiptIssued Bool               `json:"cash_receipt_issued"`
	CustomerUID       Text               `json:"customer_uid"`
	CustomerUIDUsage  Text               `json:"customer_uid_usage"`
	Promotion         *Promotion         `json:"promotion"`

	// Raw is the payment as the API sent it.
	Raw json.RawMessage `json:"-"`
}

// Barcode returns the number that the customer shows at the till. No document
// names the field that carries a number which GalaxiaMoneytree issued; this one
// is the only field of the model that could. Nothing else relies on it.
func (p *Payment) Barcode() string { return string(p.VBankNum) }

// Cancellation is one entry of a payment's cancel_history.
type Cancellation struct {
	PGTID          Text   `json:"pg_tid"`
	Amount         Amount `json:"amount"`
	CancelledAt    Time   `json:"cancelled_at"`
	Reason         Text   `json:"reason"`
	CancellationID Text   `json:"cancellation_id"`
	ReceiptURL     Text   `json:"receipt_url"`
}

// Deposit is one entry of a payment's deposit_history.
type Deposit struct {
	PGTID         Text   `json:"pg_tid"`
	Amount        Amount `json:"amount"`
	DepositorName Text   `json:"depositor_name"`
	DepositedAt   Time   `json:"deposited_at"`
}

// Promotion is the discount that a payment had.
type Promotion struct {
	ID       Text   `json:"id"`
	Discount Amount `json:"discount"`
}

// UnmarshalJSON reads an object; anything else, such as the [] that some
// encoders make of an empty one, counts as empty.
func (p *Promotion) UnmarshalJSON(raw []byte) error {
	type plain Promotion
	*p = Promotion{}
	if raw[0] != '{' {
		return nil
	}
	return json.Unmarshal(raw, (*plain)(p))
}

// PaymentPage is one page of ListPayments.
type PaymentPage struct {
	Total    Int       `json:"total"`
	Previous Int       `json:"previous"` // 0 on the first page
	Next     Int       `json:"next"`     // 0 on the last page
	List     []Payment `json:"list"`
}

func readPayment(raw []byte) (*Payment, error) {
	p := new(Payment)
	if err := json.Unmarshal(raw, p); err != nil || p.ImpUID == "" {
		return nil, ErrNotAPI
	}
	return p, nil
}

// UnmarshalJSON reads the payment and keeps its bytes.
func (p *Payment) UnmarshalJSON(raw []byte) error {
	type plain Payment
	if err := json.Unmarshal(raw, (*plain)(p)); err != nil {
		return errors.New("reading payment: a field has an unexpected type")
	}
	p.Raw = append(json.RawMessage(nil), raw...)
	return nil
}
