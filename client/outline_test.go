package client_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// The outline says what the whole payment says.
func TestOutlineAgreesWithPayment(t *testing.T) {
	t.Parallel()
	for _, payment := range []string{
		`{"imp_uid":"imp_1","merchant_uid":"o","amount":15000,"status":"ready"}`,
		`{"imp_uid":"imp_1","merchant_uid":"주문","amount":"15000.0","cancel_amount":null,"status":"paid","started_at":"1800000000","paid_at":1800000001.0,"vbank_num":12345,"pg_id":null,"pay_method":"card"}`,
		`{"imp_uid":"imp_1","merchant_uid":"\u006f","amount":null,"cancel_amount":"500","status":"cancelled","pay_method":null,"vbank_num":"0123","pg_id":"M1","new":[{"a":1}]}`,
		`{"imp_uid":"","amount":1}`, `{"imp_uid":7}`, `{"amount":1}`, `{}`, `[]`, `null`, `"imp_uid"`,
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
		assert.Equal(t, client.Outline{
			ImpUID: whole.ImpUID, MerchantUID: whole.MerchantUID, Amount: whole.Amount, CancelAmount: whole.CancelAmount, Barcode: whole.Barcode(),
			PGID: string(whole.PGID), Status: whole.Status, StartedAt: int64(whole.StartedAt), PaidAt: int64(whole.PaidAt), MayBeCVS: whole.MayBeCVS(),
		}, outline, payment)
	}
	_, err := (&client.Response{Status: 404, Code: -1, Body: []byte(`{"code":-1}`)}).Outline()
	require.ErrorIs(t, err, client.ErrNotFound)
}

func TestOutlineNamesTheFieldsThatHaveAValue(t *testing.T) {
	t.Parallel()
	outline, err := client.OutlineOf([]byte(`{"imp_uid":"imp_1","a":null,"b":"","c":0,"d":false,"e":[],"f":{},"g":"0","h":0.5,"i":true,"j":[null],"k":{"l":null}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"imp_uid", "g", "h", "i", "j", "k"}, outline.Fields)
}
