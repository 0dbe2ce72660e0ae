package shops

// This file holds the list that every shop must pass.

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// acceptance is the list. The items run in this order at one stand: the last ones leave the shop with another configuration,
// or without lamps.
var acceptance = []struct {
	name string
	item func(t *testing.T, s *stand)
}{
	{"shows its products in Korean", productsAreShown},
	{"answers odd requests", oddRequests},
	{"shows a voucher, and the same one at each reload", voucherStays},
	{"lets only Caddy ask and tell", publicIsKeptOut},
	{"is paid in cash", func(t *testing.T, s *stand) { isPaid(t, s, emulator.PayTypeCash) }},
	{"is paid by card", func(t *testing.T, s *stand) { isPaid(t, s, emulator.PayTypeCard) }},
	{"refuses with a reason", refusesWithReason},
	{"takes no other amount", takesNoOtherAmount},
	{"lets the order's present barcode be paid only", presentBarcodeCounts},
	{"takes the money of a barcode that had expired", paidLate},
	{"gets a barcode after a failure", triesAgain},
	{"stays paid while the page asks", paidMeanwhile},
	{"hears of a payment after it was down", downWhilePaid},
	{"takes no money while it is down", downAtTheTill},
	{"hears of a payment without its notice", noticeLost},
	{"pays back, in part and all", paysBack},
	{"believes no forged notice", forgedNotice},
	{"believes no forged tell", forgedTell},
	{"hears what it does not know, and refuses what it cannot read", oddTells},
	{"hears a test, and does nothing", testTell},
	{"has a person see to a second payment", paidTwice},
	{"gives back what nobody paid", givesBack},
	{"sells the last lamp once", soldOut},
	{"lets a barcode expire, and gives a new one", expires},
}

func TestShops(t *testing.T) {
	t.Parallel()
	for _, of := range list {
		t.Run(of.folder, func(t *testing.T) {
			t.Parallel()
			s := open(t, of)
			for _, entry := range acceptance {
				t.Run(entry.name, func(t *testing.T) { entry.item(t, s) })
			}
		})
	}
}

func productsAreShown(t *testing.T, s *stand) {
	a := s.Do(t, http.MethodGet, s.Outside+"/", "", "")
	require.Equal(t, http.StatusOK, a.Status)
	for _, text := range []string{`lang="ko"`, "우산", "15,000원", "램프", "주문하기", "실제로 결제되지 않습니다"} {
		assert.Contains(t, a.Body, text)
	}
	assert.Equal(t, http.StatusBadRequest, s.Do(t, http.MethodPost, s.Outside+"/orders", gatewaytest.FormType, "product=car").Status)
	for _, path := range []string{"/orders/order-none", "/nothing"} {
		assert.Equal(t, http.StatusNotFound, s.Do(t, http.MethodGet, s.Outside+path, "", "").Status, path)
	}
	assert.Equal(t, http.StatusOK, s.Do(t, http.MethodHead, s.Outside+"/", "", "").Status)
}

// What nobody should send has an answer that is no failure of the shop, and makes no order.
func oddRequests(t *testing.T, s *stand) {
	assert.Equal(t, http.StatusNotFound, s.Do(t, http.MethodPost, s.Outside+"/orders/order-none/barcode", gatewaytest.FormType, "").Status)
	for _, id := range []string{"%FF", "%ED%A0%80", "%00", "..%2F..%2Fetc%2Fpasswd", "%3Cscript%3Ealert(1)%3C%2Fscript%3E", "__proto__", "x'%20OR%201=1--", strings.Repeat("주문", 500)} {
		a := s.Do(t, http.MethodGet, s.Outside+"/orders/"+id, "", "")
		assert.True(t, a.Status == http.StatusNotFound || a.Status == http.StatusBadRequest, "%s: %d", id, a.Status)
		assert.NotContains(t, a.Body, "잠시 후", "it is no use to try again")
		assert.NotContains(t, a.Body, "<script>alert")
	}
	large := "product=umbrella&more=" + strings.Repeat("a", 200<<10)
	for name, body := range map[string]io.Reader{"large": strings.NewReader(large), "of unknown length": io.MultiReader(strings.NewReader(large))} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Outside+"/orders", body)
		require.NoError(t, err)
		r.Header.Set("Content-Type", gatewaytest.FormType)
		if status := s.Send(t, r).Status; !s.takesLargeForms || r.ContentLength <= 0 {
			assert.GreaterOrEqual(t, status, http.StatusBadRequest, name)
		}
	}
}

func voucherStays(t *testing.T, s *stand) {
	before := len(s.API.Payments())
	id := s.order(t, "umbrella")
	page := s.voucher(t, id)
	barcode := number(t, page)
	assert.Contains(t, page, "<strong>결제 대기</strong>")
	assert.Contains(t, page, "15,000원")
	assert.Regexp(t, `\d{4}년 \d{1,2}월 \d{1,2}일 \d\d:\d\d까지`, page)
	if !s.drawsItself {
		require.Contains(t, page, `<img src="/barcode/`+barcode+`.svg"`)
		picture := s.Do(t, http.MethodGet, s.Outside+"/barcode/"+barcode+".svg", "", "")
		assert.Equal(t, http.StatusOK, picture.Status)
		assert.Contains(t, picture.Header.Get("Content-Type"), "image/svg+xml")
	}
	for range 3 {
		assert.Equal(t, barcode, number(t, s.voucher(t, id)))
	}
	assert.Len(t, s.API.Payments(), before+1)
	assert.Equal(t, "waiting", s.state(t, id))
}

// The public site has no way to the paths that are Caddy's, in none of the spellings that a shop's router may take for the same.
func publicIsKeptOut(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	for _, path := range []string{
		"/orders/" + id + "/payable", "/orders/" + id + "/payable/", "//orders/" + id + "/payable", "/orders//" + id + "/payable//", "/Orders/" + id + "/Payable",
		"/orders/" + id + "/%70ayable", "/orders/./" + id + "/payable", "/orders/" + id + "%2Fpayable", "/orders/" + id + "/payable%2F",
		"/payments/" + id, "/payments/" + id + "/", "//payments//" + id, "/Payments/" + id, "/%70ayments/" + id, "/payments%2F" + id,
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.Outside+path, strings.NewReader("{}"))
			require.NoError(t, err)
			r.Header.Set("X-Cvs-Imp-Uid", p.ImpUID)
			a := s.Send(t, r)
			assert.Equal(t, http.StatusNotFound, a.Status, "%s %s", method, path)
			assert.Empty(t, a.Body, "%s %s reaches the shop", method, path)
		}
	}
}

func isPaid(t *testing.T, s *stand, by string) {
	id, p := s.buy(t, "umbrella")
	result := s.pay(t, p.Barcode, by, "")
	assert.True(t, result.Accepted, "%+v\n%s", result.Confirm, s.LazyLog(t))
	assert.Empty(t, result.Warning)
	s.becomes(t, id, "paid")
}

// The till asks again about an order that is paid.
func refusesWithReason(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	require.True(t, s.pay(t, p.Barcode, "", "").Accepted)
	s.becomes(t, id, "paid")
	a := s.confirm(t, p)
	assert.Equal(t, http.StatusConflict, a.Status, a.Body)
	assert.Equal(t, "이미 결제된 주문입니다", a.Field(t, "reason"))
}

// Somebody who reaches the gateway asks for a cheaper barcode of an order, and a forger alters the amount of a webhook.
func takesNoOtherAmount(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	assert.False(t, s.pay(t, p.Barcode, "", emulator.ScenarioForgedAmount).Accepted)
	a := s.Do(t, http.MethodPost, s.Inside+"/cvs", gatewaytest.FormType, "merchant_uid="+id+"&amount=1000")
	require.Equal(t, http.StatusOK, a.Status, a.Body)
	cheap := a.Payment(t)["vbank_num"].(string)
	result := s.pay(t, cheap, "", "")
	assert.False(t, result.Accepted)
	assert.Equal(t, http.StatusConflict, result.Confirm.Status)
	news := s.news(id, s.payment(t, cheap).ImpUID, "paid")
	news.Amount = "1000"
	assert.Equal(t, http.StatusConflict, s.tell(t, id, s.signed(t, news)).Status)
	assert.Equal(t, "waiting", s.state(t, id))
}

// The shop goes down between the till's question and the notice.
func downWhilePaid(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	require.NoError(t, s.API.Inject(emulator.Fault{Endpoint: emulator.EndpointNotice, Delay: 2 * time.Second, Times: 1}))
	require.True(t, s.pay(t, p.Barcode, "", "").Accepted)
	s.stop()
	s.WaitForLine(t, `"msg":"tell`, id, `"outcome":"unheard"`)
	s.up(t)
	s.becomes(t, id, "paid")
}

func downAtTheTill(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	s.stop()
	result := s.pay(t, p.Barcode, "", "")
	assert.False(t, result.Accepted)
	assert.Contains(t, []int{http.StatusBadGateway, http.StatusServiceUnavailable}, result.Confirm.Status, "no answer is no yes")
	s.up(t)
	assert.True(t, s.pay(t, p.Barcode, "", "").Accepted)
	s.becomes(t, id, "paid")
}

func noticeLost(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	require.True(t, s.pay(t, p.Barcode, "", emulator.ScenarioLostNotice).Accepted)
	s.becomes(t, id, "paid")
}

func paysBack(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	require.True(t, s.pay(t, p.Barcode, "", "").Accepted)
	s.becomes(t, id, "paid")
	s.refund(t, p, "4000")
	require.Eventually(t, func() bool { return strings.Contains(s.page(t, id), "4,000원") }, patience, 50*time.Millisecond)
	assert.Contains(t, s.page(t, id), "<strong>일부 환불</strong>")
	assert.NotEqual(t, http.StatusOK, s.confirm(t, p).Status, "it is not payable again")
	s.refund(t, p, "11000")
	s.becomes(t, id, "cancelled")
	a := s.confirm(t, p)
	assert.Equal(t, http.StatusConflict, a.Status)
	assert.Equal(t, "환불된 주문입니다", a.Field(t, "reason"), "the cashier does not say that it was cancelled")

	// Told again of the first part, of the payment, and of a refund of what was not paid.
	first := s.news(id, p.ImpUID, tell.Cancelled)
	first.CancelAmount = "4000"
	for _, news := range []*tell.Message{first, s.news(id, p.ImpUID, tell.Paid)} {
		require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, news)).Status)
		s.becomes(t, id, "cancelled")
	}
	unpaid, other := s.buy(t, "umbrella")
	first.MerchantUID, first.ImpUID = unpaid, other.ImpUID
	require.Equal(t, http.StatusOK, s.tell(t, unpaid, s.signed(t, first)).Status)
	assert.Equal(t, "waiting", s.state(t, unpaid))
}

// An order that is paid, or paid back, is not paid again by another barcode. Its money is there all the same.
func paidTwice(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	require.True(t, s.pay(t, p.Barcode, "", "").Accepted)
	s.becomes(t, id, "paid")
	for _, again := range []struct{ impUID, state string }{{"imp_second", "paid"}, {"imp_third", "cancelled"}} {
		other := s.news(id, again.impUID, tell.Paid)
		require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, other)).Status)
		other.Event, other.CancelAmount = tell.Cancelled, "15000"
		require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, other)).Status)
		assert.Equal(t, again.state, s.state(t, id), "it was another payment")
		if !s.listsNews {
			assert.Contains(t, s.printed(t), "order "+id+" was paid a second time, by "+again.impUID+": pay it back")
		}
		own := s.news(id, p.ImpUID, tell.Cancelled)
		own.CancelAmount = "15000"
		require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, own)).Status)
		s.becomes(t, id, "cancelled")
	}
}

// The till asked, was told yes, and took no money.
func givesBack(t *testing.T, s *stand) {
	if s.lastTaken {
		t.Log("here an order takes its item, and the operator restocks")
		return
	}
	id, p := s.buy(t, "lamp")
	soldOut := func() bool { return strings.Contains(s.Do(t, http.MethodGet, s.Outside+"/", "", "").Body, "품절") }
	for range 2 {
		require.Equal(t, http.StatusOK, s.confirm(t, p).Status)
		assert.True(t, soldOut())
	}
	news := s.news(id, p.ImpUID, tell.Expired)
	news.Amount = "30000"
	for range 2 {
		require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, news)).Status)
		assert.False(t, soldOut())
	}
	assert.Equal(t, "expired", s.state(t, id))
}

// soldOut has several customers with an order of the last lamp, who come to the tills at the same moment.
func soldOut(t *testing.T, s *stand) {
	refused, p := s.buy(t, "lamp")
	if !s.lastTaken {
		refused, p = s.lastLamp(t, []emulator.Payment{p, s.lamp(t), s.lamp(t), s.lamp(t)})
	}
	result := s.pay(t, p.Barcode, "", "")
	assert.False(t, result.Accepted)
	assert.Equal(t, http.StatusConflict, result.Confirm.Status)
	assert.Equal(t, "품절되었습니다", result.Reason)
	assert.Equal(t, "waiting", s.state(t, refused))
	a := s.Do(t, http.MethodPost, s.Outside+"/orders", gatewaytest.FormType, "product=lamp")
	assert.Equal(t, http.StatusConflict, a.Status)
	assert.Contains(t, a.Body, "품절")
	if !s.lastTaken {
		news := s.news(refused, p.ImpUID, tell.Expired)
		news.Amount = "30000"
		require.Equal(t, http.StatusOK, s.tell(t, refused, s.signed(t, news)).Status)
		a := s.Do(t, http.MethodPost, s.Outside+"/orders/"+refused+"/barcode", gatewaytest.FormType, "")
		assert.Equal(t, http.StatusConflict, a.Status, "no new barcode for what is sold out")
		assert.Equal(t, "expired", s.state(t, refused))
	}
	assert.Contains(t, s.Do(t, http.MethodGet, s.Outside+"/", "", "").Body, "품절")
}

func (s *stand) lamp(t *testing.T) emulator.Payment {
	t.Helper()
	_, p := s.buy(t, "lamp")
	return p
}

// lastLamp pays all at once, of which one is accepted. Then another one is paid all the same, after it had expired. It returns one that
// is not paid.
func (s *stand) lastLamp(t *testing.T, lamps []emulator.Payment) (id string, p emulator.Payment) {
	t.Helper()
	results := make([]emulator.ScanResult, len(lamps))
	var tills sync.WaitGroup
	for i, lamp := range lamps {
		tills.Go(func() { results[i], _ = s.API.Scan(t.Context(), emulator.ScanRequest{Barcode: lamp.Barcode}) })
	}
	tills.Wait()
	var left []emulator.Payment
	for i, lamp := range lamps {
		if results[i].Accepted {
			s.becomes(t, lamp.MerchantUID, "paid")
		} else {
			left = append(left, lamp)
		}
	}
	require.Len(t, left, len(lamps)-1, "one is told yes")
	news := s.news(left[0].MerchantUID, left[0].ImpUID, tell.Paid)
	news.Amount, news.Late = "30000", true
	require.Equal(t, http.StatusOK, s.tell(t, news.MerchantUID, s.signed(t, news)).Status)
	s.becomes(t, news.MerchantUID, "paid")
	assert.Contains(t, s.printed(t), "order "+news.MerchantUID+" is paid, and there is no lamp left for it")
	return left[1].MerchantUID, left[1]
}

// expires starts the shop anew with barcodes that live three seconds; the Go demo has a form for one that lives a minute.
func expires(t *testing.T, s *stand) {
	if !s.byClick {
		s.stop()
		s.up(t, "SHOP_LIFETIME=3")
	}
	id := s.order(t, "umbrella")
	if s.byClick {
		s.Do(t, http.MethodPost, s.Outside+"/orders/"+id+"/barcode", gatewaytest.FormType, "lifetime=minute")
	}
	barcode := number(t, s.page(t, id))
	s.becomes(t, id, "expired")
	assert.NotContains(t, s.page(t, id), `class="number"`)
	_, err := s.API.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode})
	assert.Error(t, err, "the till takes no void barcode")

	if !s.byClick {
		s.stop() // the next one lives as long as usual
		s.up(t)
	}
	a := s.Do(t, http.MethodPost, s.Outside+"/orders/"+id+"/barcode", gatewaytest.FormType, "")
	require.Equal(t, http.StatusSeeOther, a.Status, a.Body)
	again := number(t, s.voucher(t, id))
	assert.NotEqual(t, barcode, again)
	assert.True(t, s.pay(t, again, "", "").Accepted)
	s.becomes(t, id, "paid")
}
