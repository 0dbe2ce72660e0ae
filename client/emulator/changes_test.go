package emulator_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// outcome has the emulator serve a request directly, and returns what the client sees: "closed" for a closed connection.
func outcome(e *emulator.Emulator, method, path, body, token string) (seen string) {
	defer func() {
		if recovered := recover(); recovered == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			seen = "closed"
		} else if recovered != nil {
			panic(recovered)
		}
	}()
	rec := serve(e, method, path, strings.NewReader(body), "Authorization", token)
	return strings.TrimSpace(rec.Body.String())
}

// pass lets the fake time of synctest pass, and what is then due be done.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// The client sees a closed connection, or an answer that tells nothing, at once. The work is done later.
func TestFaultLateDoesTheWorkAfterTheAnswer(t *testing.T) {
	t.Parallel()
	const refusal = `{"code":1,"message":"안됨","response":null}`
	for name, test := range map[string]struct {
		fault emulator.Fault
		seen  string
	}{
		"closed":  {emulator.Fault{}, "closed"},
		"refused": {emulator.Fault{Code: 1, Message: "안됨"}, refusal},
		"garbage": {emulator.Fault{Garbage: true}, "점검 중입니다."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := emulator.New(emulator.Options{})
				token := issueDirectly(t, e, `{"merchant_uid":"other","amount":1}`)
				void := "/cvs/" + e.Payments()[0].ImpUID
				test.fault.Endpoint, test.fault.Late = emulator.EndpointAll, 2*time.Second
				require.NoError(t, e.Inject(test.fault))
				start := time.Now()
				assert.Contains(t, outcome(e, "POST", "/cvs", orderBody, token), test.seen)
				assert.Contains(t, outcome(e, "DELETE", void, "", token), test.seen)
				assert.Contains(t, outcome(e, "POST", "/subscribe/payments/onetime", cardBody("card", 5), token), test.seen)
				assert.Zero(t, time.Since(start))
				assert.Contains(t, outcome(e, "GET", "/payments/find/order", "", token), "존재하지 않는 결제정보입니다.", "look-ups are not late")
				e.ExpireTokens() // too late to matter
				pass(2*time.Second - 1)
				assert.Len(t, e.Payments(), 1)
				pass(1)
				statuses := map[string]string{}
				for _, p := range e.Payments() {
					statuses[p.MerchantUID] = p.Status
				}
				assert.Equal(t, map[string]string{"order": "ready", "other": "cancelled", "card": "paid"}, statuses)
			})
		})
	}
}

func TestFaultLateRefundsAndNeedsAToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		token := issueDirectly(t, e, `{"merchant_uid":"order","amount":1000,"barcode":"1"}`)
		_, err := e.Scan(t.Context(), emulator.ScanRequest{Barcode: "1"})
		require.NoError(t, err)
		require.NoError(t, e.Inject(emulator.Fault{Endpoint: emulator.EndpointCancel, Late: time.Hour}))
		const body = `{"merchant_uid":"order","amount":400}`
		assert.Equal(t, "closed", outcome(e, "POST", "/payments/cancel", body, "wrong"))
		assert.Equal(t, "closed", outcome(e, "POST", "/payments/cancel", body, token))
		pass(time.Hour - 1)
		assert.Zero(t, e.Payments()[0].CancelAmount)
		pass(1)
		assert.InDelta(t, 400, e.Payments()[0].CancelAmount, 0)
	})
}

// What was to be done late is done when Close returns, and at once after that.
func TestCloseDoesLateWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := emulator.New(emulator.Options{})
		token := issueDirectly(t, e, `{"merchant_uid":"other","amount":1}`)
		require.NoError(t, e.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Late: time.Hour}))
		start := time.Now()
		assert.Equal(t, "closed", outcome(e, "POST", "/cvs", orderBody, token))
		assert.Len(t, e.Payments(), 1)
		_ = e.Close()
		assert.Len(t, e.Payments(), 2)
		assert.Equal(t, "closed", outcome(e, "POST", "/cvs", orderBody, token))
		assert.Len(t, e.Payments(), 3)
		assert.Zero(t, time.Since(start))
	})
}

func TestFaultLateClosesTheConnection(t *testing.T) {
	t.Parallel()
	overEachProtocol(t, func(t *testing.T, start func() *sandbox) {
		s := start()
		s.inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Late: time.Hour})
		_, err := s.try("POST", "/cvs", asJSON, orderBody)
		require.Error(t, err)
		assert.Empty(t, s.Payments())
		_ = s.Close()
		assert.Len(t, s.Payments(), 1)
	})
}

// The ways in which DELETE /cvs/{imp_uid} may end without telling what became of the barcode.
func TestFaultsOfVoid(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  emulator.Fault
		seen   string
		status string
	}{
		"refused":               {emulator.Fault{Code: 1, Message: "말소할 수 없습니다."}, `{"code":1,"message":"말소할 수 없습니다.","response":null}`, "ready"},
		"refused with a status": {emulator.Fault{Status: 500}, `{"code":-1,"message":"요청을 처리할 수 없습니다.","response":null}`, "ready"},
		"refused, but done":     {emulator.Fault{Code: 1, Message: "말소할 수 없습니다.", Done: true}, `{"code":1,"message":"말소할 수 없습니다.","response":null}`, "cancelled"},
		"failed, but done":      {emulator.Fault{Status: 500, Done: true}, `{"code":-1,"message":"요청을 처리할 수 없습니다.","response":null}`, "cancelled"},
		"done, answer lost":     {emulator.Fault{Drop: emulator.DropAfter}, "closed", "cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := emulator.New(emulator.Options{})
			token := issueDirectly(t, e, orderBody)
			test.fault.Endpoint = emulator.EndpointVoid
			require.NoError(t, e.Inject(test.fault))
			assert.Equal(t, test.seen, outcome(e, "DELETE", "/cvs/"+e.Payments()[0].ImpUID, "", token))
			assert.Equal(t, test.status, e.Payments()[0].Status)
		})
	}
}
