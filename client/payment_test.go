package client_test

// This file holds tests of reading a payment.

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// full is a payment with every field of both references.
const full = `{
	"imp_uid":"imp_123412341234", "merchant_uid":"주문-1", "pay_method":"cvs", "channel":"api",
	"pg_provider":"galaxia", "emb_pg_provider":"naverpay", "pg_tid":"tid-1", "pg_id":"M1234567", "sandbox":true, "escrow":true,
	"apply_num":"12345678", "bank_code":"004", "bank_name":"국민은행",
	"card_code":"381", "card_name":"국민카드", "card_issuer_code":"382", "card_issuer_name":"발급사", "card_publisher_code":"383",
	"card_publisher_name":"발행사", "card_quota":3, "card_number":"1234-****-****-5678", "card_type":1,
	"vbank_code":"020", "vbank_name":"우리은행", "vbank_num":"11222222", "vbank_holder":"예금주",
	"vbank_date":1790000001, "vbank_issued_at":1790000002,
	"name":"떡볶이", "amount":15000, "cancel_amount":500.5, "currency":"KRW",
	"buyer_name":"홍길동", "buyer_email":"hong@shop.example", "buyer_tel":"010-1234-5678", "buyer_addr":"서울시 중구", "buyer_postcode":"04524",
	"custom_data":"{\"cart\":[1,2]}", "user_agent":"Mozilla/5.0", "status":"paid",
	"started_at":1790000003, "paid_at":1790000004, "failed_at":1790000005, "cancelled_at":1790000006,
	"fail_reason":"재고 없음", "cancel_reason":"변심", "receipt_url":"https://pg.example/receipt",
	"cancel_history":[{"pg_tid":"tid-2","amount":500.5,"cancelled_at":1790000007,"reason":"부분 취소","cancellation_id":"can_1","receipt_url":"https://pg.example/cancel"}],
	"deposit_history":[{"pg_tid":"tid-3","amount":15000,"depositor_name":"홍판서","deposited_at":1790000008}],
	"cancel_receipt_urls":["https://pg.example/1","https://pg.example/2"],
	"cash_receipt_issued":true, "customer_uid":"customer-1", "customer_uid_usage":"payment",
	"promotion":{"id":"promo-1","discount":1000}
}`

var fullPayment = client.Payment{
	ImpUID: "imp_123412341234", MerchantUID: "주문-1", PayMethod: "cvs", Channel: "api",
	PGProvider: "galaxia", EmbPGProvider: "naverpay", PGTID: "tid-1", PGID: "M1234567", Sandbox: true, Escrow: true,
	ApplyNum: "12345678", BankCode: "004", BankName: "국민은행",
	CardCode: "381", CardName: "국민카드", CardIssuerCode: "382", CardIssuerName: "발급사", CardPublisherCode: "383",
	CardPublisherName: "발행사", CardQuota: 3, CardNumber: "1234-****-****-5678", CardType: "1",
	VBankCode: "020", VBankName: "우리은행", VBankNum: "11222222", VBankHolder: "예금주",
	VBankDate: 1790000001, VBankIssuedAt: 1790000002,
	Name: "떡볶이", Amount: "15000", CancelAmount: "500.5", Currency: "KRW",
	BuyerName: "홍길동", BuyerEmail: "hong@shop.example", BuyerTel: "010-1234-5678", BuyerAddr: "서울시 중구", BuyerPostcode: "04524",
	CustomData: `{"cart":[1,2]}`, UserAgent: "Mozilla/5.0", Status: client.StatusPaid,
	StartedAt: 1790000003, PaidAt: 1790000004, FailedAt: 1790000005, CancelledAt: 1790000006,
	FailReason: "재고 없음", CancelReason: "변심", ReceiptURL: "https://pg.example/receipt",
	CancelHistory: []client.Cancellation{{
		PGTID: "tid-2", Amount: "500.5", CancelledAt: 1790000007, Reason: "부분 취소", CancellationID: "can_1", ReceiptURL: "https://pg.example/cancel",
	}},
	DepositHistory:    []client.Deposit{{PGTID: "tid-3", Amount: "15000", DepositorName: "홍판서", DepositedAt: 1790000008}},
	CancelReceiptURLs: []client.Text{"https://pg.example/1", "https://pg.example/2"},
	CashReceiptIssued: true, CustomerUID: "customer-1", CustomerUIDUsage: "payment",
	Promotion: &client.Promotion{ID: "promo-1", Discount: "1000"},
}

// read has a payment read as the answer of an API.
func read(t testing.TB, response string) (*client.Payment, error) {
	t.Helper()
	c := newClient(t, "http://api.example", transport(inProcess(&scriptedAPI{other: succeed(response)})))
	return c.Payment(context.Background(), "imp_1")
}

func TestPaymentReadsEveryField(t *testing.T) {
	t.Parallel()
	c := newClient(t, newServer(t, &scriptedAPI{other: succeed(full)}).URL)
	p, err := c.Payment(context.Background(), "imp_123412341234")
	require.NoError(t, err)
	assert.Equal(t, full, string(p.Raw), "Raw keeps the bytes")
	assert.Equal(t, "11222222", p.Barcode())
	p.Raw = nil
	assert.Equal(t, &fullPayment, p)

	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(full), &members))
	fields := reflect.VisibleFields(reflect.TypeFor[client.Payment]())
	for _, field := range fields {
		if name := field.Tag.Get("json"); name != "-" {
			assert.Contains(t, members, name, "the fixture lacks a field of the model")
			assert.False(t, reflect.ValueOf(fullPayment).FieldByIndex(field.Index).IsZero(), name)
		}
	}
	assert.Len(t, members, len(fields)-1)
}

// with returns a payment with further members, the last of which count.
func with(members string) string {
	return `{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,"status":"ready",` + members + `}`
}

func TestPaymentAcceptsLooseTypes(t *testing.T) {
	t.Parallel()
	base := client.Payment{ImpUID: "imp_1", MerchantUID: "o", Amount: "15000", Status: client.StatusReady}
	for _, tc := range []struct {
		members string
		want    func(*client.Payment)
	}{
		{`"started_at":"1790000000","paid_at":" 1790000001 ","failed_at":null,"vbank_date":""`, func(p *client.Payment) {
			p.StartedAt, p.PaidAt = 1790000000, 1790000001
		}},
		{`"started_at":1790000000.9,"paid_at":1.79e9`, func(p *client.Payment) { p.StartedAt, p.PaidAt = 1790000000, 1790000000 }},
		{`"started_at":"null","paid_at":"later","failed_at":{},"cancelled_at":true,"vbank_date":1e300`, func(*client.Payment) {}},
		{`"card_type":0`, func(p *client.Payment) { p.CardType = "0" }},
		{`"card_type":"1"`, func(p *client.Payment) { p.CardType = "1" }},
		{`"card_type":"null"`, func(p *client.Payment) { p.CardType = "null" }},
		{`"card_type":null,"name":null,"pg_tid":null`, func(*client.Payment) {}},
		{`"card_quota":"3"`, func(p *client.Payment) { p.CardQuota = 3 }},
		{`"card_quota":"null"`, func(*client.Payment) {}},
		{`"card_quota":-1`, func(p *client.Payment) { p.CardQuota = -1 }},
		{`"amount":"15000.00"`, func(p *client.Payment) { p.Amount = "15000.00" }},
		{`"amount":" 15000 "`, func(p *client.Payment) { p.Amount = "15000" }},
		{`"cancel_amount":null`, func(*client.Payment) {}},
		{`"cancel_amount":"null"`, func(*client.Payment) {}},
		{`"cancel_amount":""`, func(*client.Payment) {}},
		{`"escrow":"true","sandbox":1,"cash_receipt_issued":"1"`, func(p *client.Payment) { p.Escrow, p.Sandbox, p.CashReceiptIssued = true, true, true }},
		{`"escrow":"false","sandbox":0,"cash_receipt_issued":null`, func(*client.Payment) {}},
		{`"escrow":"null","sandbox":"","cash_receipt_issued":{}`, func(*client.Payment) {}},
		{`"pg_id":1234567,"vbank_num":11222222,"buyer_tel":false`, func(p *client.Payment) { p.PGID, p.VBankNum, p.BuyerTel = "1234567", "11222222", "false" }},
		{`"vbank_num":12345678901234567890123`, func(p *client.Payment) { p.VBankNum = "12345678901234567890123" }},
		{`"custom_data":{"a":[1, 2]},"card_name":{"ko":"국민"}`, func(p *client.Payment) { p.CustomData, p.CardName = `{"a":[1, 2]}`, `{"ko":"국민"}` }},
		{`"cancel_history":null,"deposit_history":[],"cancel_receipt_urls":[null,1],"promotion":null`, func(p *client.Payment) {
			p.DepositHistory, p.CancelReceiptURLs = []client.Deposit{}, []client.Text{"", "1"}
		}},
		{`"cancel_history":[{"amount":"100","cancelled_at":"1790000000","new":{}}]`, func(p *client.Payment) {
			p.CancelHistory = []client.Cancellation{{Amount: "100", CancelledAt: 1790000000}}
		}},
		{`"promotion":{"id":1,"discount":"10.50"}`, func(p *client.Payment) { p.Promotion = &client.Promotion{ID: "1", Discount: "10.50"} }},
		{`"new_field":{"a":[{"b":null}]},"another":[1]`, func(*client.Payment) {}},
		{`"status":"expired"`, func(p *client.Payment) { p.Status = "expired" }},
	} {
		want := base
		tc.want(&want)
		want.Raw = json.RawMessage(with(tc.members))
		p, err := read(t, with(tc.members))
		if assert.NoError(t, err, tc.members) {
			assert.Equal(t, &want, p, tc.members)
		}
	}
}

// One field of another shape, such as the [] that PHP makes of an empty object,
// must not make the whole payment unreadable, or the whole page of payments.
func TestPaymentAcceptsChangedShape(t *testing.T) {
	t.Parallel()
	for _, members := range []string{
		`"promotion":[]`,
		`"cancel_history":{}`,
		`"cancel_history":""`,
		`"deposit_history":false`,
		`"cancel_receipt_urls":""`,
	} {
		p, err := read(t, with(members))
		if assert.NoError(t, err, members) {
			assert.Equal(t, "imp_1", p.ImpUID)
		}
	}
}

func TestMalformedPaymentIsErrNotAPI(t *testing.T) {
	t.Parallel()
	for _, response := range []string{
		`null`, `[]`, `""`, `1`, `{}`, `{"imp_uid":null}`, `{"imp_uid":""}`, `{"imp_uid":["canary"]}`,
		`{"imp_uid":"imp_1","amount":"15,000"}`, `{"imp_uid":"imp_1","amount":{}}`, `{"imp_uid":"imp_1","amount":true}`,
	} {
		p, err := read(t, response)
		require.ErrorIs(t, err, client.ErrNotAPI, response)
		assert.Nil(t, p)
		assert.NotContains(t, err.Error(), "canary")
	}
}

func TestPaymentErrorHasNoValue(t *testing.T) {
	t.Parallel()
	var p client.Payment
	err := json.Unmarshal([]byte(`{"imp_uid":"imp_1","amount":"canary"}`), &p)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "canary")
	raw := []byte(`{"imp_uid":"imp_1"}`)
	require.NoError(t, json.Unmarshal(raw, &p))
	raw[2] = 'X'
	assert.JSONEq(t, `{"imp_uid":"imp_1"}`, string(p.Raw), "a copy")
}

// A cancel_amount that came as null is written as null.
func TestPaymentMarshalsAfterUnmarshal(t *testing.T) {
	t.Parallel()
	p, err := read(t, with(`"cancel_amount":null`))
	require.NoError(t, err)
	raw, err := json.Marshal(p)
	require.NoError(t, err)
	var again client.Payment
	require.NoError(t, json.Unmarshal(raw, &again))
	again.Raw = p.Raw
	assert.Equal(t, p, &again)
}

func FuzzPayment(f *testing.F) {
	f.Add(full)
	f.Add(with(`"amount":"1e400"`))
	f.Fuzz(func(t *testing.T, raw string) {
		var p client.Payment
		if err := json.Unmarshal([]byte(raw), &p); err != nil {
			return
		}
		if trimmed := strings.Trim(raw, " \t\r\n"); trimmed != "null" && string(p.Raw) != trimmed {
			t.Fatalf("%q was kept as %q", raw, p.Raw)
		}
		if p.Amount != "" && p.Amount.Canonical() == "" {
			t.Fatalf("amount %q is no number", p.Amount)
		}
	})
}
