package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// The outline says what the whole payment says.
func TestOutlineAgreesWithPayment(t *testing.T) {
	t.Parallel()
	for _, payment := range []string{
		`{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,"status":"ready"}`,
		`{"imp_uid":"imp_1","merchant_uid":"주문","amount":"15000.0","cancel_amount":null,"status":"paid","started_at":"1800000000","paid_at":1800000001.0,"vbank_num":12345,"pg_id":null,"pay_method":"card"}`,
		`{"imp_uid":"imp_1","merchant_uid":"\u006f","amount":null,"cancel_amount":"500","status":"cancelled","pay_method":null,"vbank_num":"0123","pg_id":"M1","new":[{"a":1}]}`,
		`{"imp_uid":"","amount":1}`, `{"imp_uid":7}`, `{"amount":1}`, `{}`, `[]`, `null`, `"imp_uid"`,
		`{"imp_uid":"imp_1","sandbox":true,"cancelled_at":1800000002,"cancel_history":[]}`,
		`{"imp_uid":"imp_1","sandbox":"true","cancelled_at":"1800000002","cancel_history":null}`,
		`{"imp_uid":"imp_1","sandbox":null,"cancelled_at":null,"cancel_history":{"a":1}}`,
		`{"imp_uid":"imp_1","sandbox":0,"cancelled_at":{},"cancel_history":"x"}`,
		`{"imp_uid":"imp_1","cancel_history":[{"cancellation_id":"can_1","amount":500.5,"cancelled_at":1800000002,"pg_tid":"t"},{"cancellation_id":7,"amount":"1","cancelled_at":"1800000003"},{"cancellation_id":null},null,{}]}`,
		`{"imp_uid":"imp_1","cancel_history":[1]}`, `{"imp_uid":"imp_1","cancel_history":[{"amount":"x"}]}`,
		`{"imp_uid":"imp_1","amount":"x"}`, `{"imp_uid":"imp_1","cancel_amount":{}}`,
	} {
		resp := &client.Response{Status: 200, Body: []byte(`{"code":0,"message":null,"response":` + payment + `}`)}
		whole, wholeErr := resp.Payment()
		outline, err := resp.Outline()
		again, againErr := client.OutlineOf([]byte(payment))
		assert.Equal(t, err, againErr, payment)
		assert.Equal(t, outline, again, payment)
		if wholeErr != nil {
			require.ErrorIs(t, err, client.ErrNotAPI, payment)
			continue
		}
		require.NoError(t, err, payment)
		outline.Fields = nil
		var cancellations []client.OutlineCancellation
		for _, c := range whole.CancelHistory {
			cancellations = append(cancellations, client.OutlineCancellation{ID: string(c.CancellationID), Amount: c.Amount, CancelledAt: int64(c.CancelledAt)})
		}
		assert.Equal(t, client.Outline{
			ImpUID: whole.ImpUID, MerchantUID: whole.MerchantUID, Amount: whole.Amount, CancelAmount: whole.CancelAmount, Barcode: whole.Barcode(),
			PGID: string(whole.PGID), Status: whole.Status, StartedAt: int64(whole.StartedAt), PaidAt: int64(whole.PaidAt), MayBeCVS: whole.MayBeCVS(),
			Sandbox: bool(whole.Sandbox), CancelledAt: int64(whole.CancelledAt), Cancellations: cancellations,
		}, outline, payment)
	}
	_, err := (&client.Response{Status: 404, Code: -1, Body: []byte(`{"code":-1}`)}).Outline()
	require.ErrorIs(t, err, client.ErrNotFound)
}

func TestOutlineShowsWhatWasPaidBack(t *testing.T) {
	t.Parallel()
	outline, err := client.OutlineOf([]byte(`{"imp_uid":"imp_1","sandbox":"1","cancelled_at":"6","cancel_history":[{"cancellation_id":"can_1","amount":"500","cancelled_at":5},{"cancellation_id":2,"amount":1e3,"cancelled_at":"6"}]}`))
	require.NoError(t, err)
	assert.True(t, outline.Sandbox)
	assert.EqualValues(t, 6, outline.CancelledAt)
	assert.Equal(t, []client.OutlineCancellation{{"can_1", "500", 5}, {"2", "1e3", 6}}, outline.Cancellations)
}

func TestOutlinesOfAList(t *testing.T) {
	t.Parallel()
	read := func(page string) (impUIDs []string, more bool, err error) {
		list, more, err := (&client.Response{Status: 200, Body: []byte(`{"code":0,"response":` + page + `}`)}).Outlines()
		for _, o := range list {
			impUIDs = append(impUIDs, o.ImpUID)
		}
		return impUIDs, more, err
	}
	for page, more := range map[string]bool{
		`{"total":2,"next":2,"list":[{"imp_uid":"a"},{"imp_uid":"b"}]}`:                                             true,
		`{"total":2,"next":"2","list":[{"imp_uid":"a"},{"imp_uid":"b","pay_method":"card"}]}`:                       true,
		`{"total":2,"next":0,"list":[{"imp_uid":"a"},{"imp_uid":"b"}]}`:                                             false,
		`{"total":2,"next":null,"list":[{"imp_uid":"a"},{"imp_uid":"x","amount":"USD 1"},{},null,{"imp_uid":"b"}]}`: false,
		`{"list":[{"imp_uid":"a"},{"imp_uid":"b"}]}`:                                                                false,
	} {
		impUIDs, got, err := read(page)
		require.NoError(t, err, page)
		assert.Equal(t, []string{"a", "b"}, impUIDs, page)
		assert.Equal(t, more, got, page)
	}
	impUIDs, more, err := read(`{"total":0,"next":0,"list":[]}`)
	require.NoError(t, err)
	assert.Empty(t, impUIDs)
	assert.False(t, more)
	for _, page := range []string{`{"total":0}`, `{"list":null}`, `{"list":{}}`, `[]`, `null`, `"list"`} {
		_, _, err := read(page)
		require.ErrorIs(t, err, client.ErrNotAPI, page)
	}
	_, _, err = (&client.Response{Status: 400, Code: -1, Body: []byte(`{"code":-1}`)}).Outlines()
	_, refused := errors.AsType[*client.APIError](err)
	assert.True(t, refused)
}

func TestOutlineNamesTheFieldsThatHaveAValue(t *testing.T) {
	t.Parallel()
	outline, err := client.OutlineOf([]byte(`{"imp_uid":"imp_1","a":null,"b":"","c":0,"d":false,"e":[],"f":{},"g":"0","h":0.5,"i":true,"j":[null],"k":{"l":null}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"imp_uid", "g", "h", "i", "j", "k"}, outline.Fields)
}

// Every POST /cvs reads an outline, and every look-up.
func BenchmarkOutline(b *testing.B) {
	_, c := newSandbox(b, emulator.Options{})
	p, err := c.Issue(context.Background(), &client.IssueRequest{MerchantUID: "o", Amount: "15000", Name: "떡볶이와 김밥", BuyerTel: "010-0000-0000"})
	require.NoError(b, err)
	resp, err := c.Do(context.Background(), client.PaymentRequest(p.ImpUID))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := resp.Outline(); err != nil {
			b.Fatal(err)
		}
	}
}
