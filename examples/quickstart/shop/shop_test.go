package shop

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const barcode = "12345678901234567890"

// market is a shop and the gateway that it asks.
type market struct {
	*testing.T
	shop    *shop
	handler http.Handler

	mu       sync.Mutex
	calls    []string
	asked    []url.Values // for barcodes
	issued   int
	barcodes map[string]payment          // by order
	faults   map[string]http.HandlerFunc // by what a call begins with, in place of the gateway's own answer
}

func open(t *testing.T) *market {
	t.Helper()
	m := &market{T: t, barcodes: map[string]payment{}, faults: map[string]http.HandlerFunc{}}
	gateway := httptest.NewServer(m)
	t.Cleanup(gateway.Close)
	m.shop = newShop(gateway.URL, "http://till.example/till")
	m.shop.now = func() time.Time { return time.Date(2026, 11, 23, 0, 22, 0, 0, time.UTC) }
	m.handler = m.shop.handler()
	return m
}

// ServeHTTP is the gateway.
func (m *market) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	call := r.Method + " " + r.URL.RequestURI()
	m.mu.Lock()
	m.calls = append(m.calls, call)
	var fault http.HandlerFunc
	for prefix, f := range m.faults {
		if strings.HasPrefix(call, prefix) {
			fault = f
		}
	}
	m.mu.Unlock()
	assert.Empty(m, r.Header.Get("Authorization"), "the shop holds no credential")
	if fault != nil {
		fault(w, r)
		return
	}
	if call == "POST /cvs" {
		envelope(w, http.StatusOK, 0, "", m.issue(r.PostForm))
		return
	}
	http.NotFound(w, r)
}

// issue returns the order's barcode, or a new one.
func (m *market) issue(form url.Values) payment {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, form)
	order := form.Get("merchant_uid")
	if m.barcodes[order] == (payment{}) {
		m.issued++
		m.barcodes[order] = payment{ImpUID: fmt.Sprintf("imp_%d", m.issued), Barcode: barcode}
	}
	return m.barcodes[order]
}

// forgets makes the gateway issue a new barcode for an order.
func (m *market) forgets(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.barcodes, strings.TrimPrefix(path, "/orders/"))
}

func envelope(w http.ResponseWriter, status, code int, message string, response any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message, "response": response})
}

func fails(status, code int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { envelope(w, status, code, message, nil) }
}

func hangsUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// fault lets the calls that begin so fail, or no more if it is nil.
func (m *market) fault(call string, f http.HandlerFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.faults, call)
	if f != nil {
		m.faults[call] = f
	}
}

// called returns the calls to the gateway since the last time.
func (m *market) called() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	return calls
}

func (m *market) send(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w
}

func (m *market) get(target string, header ...string) string {
	m.Helper()
	w := m.send(http.MethodGet, target, "", header...)
	require.Equal(m, http.StatusOK, w.Code)
	return w.Body.String()
}

// order orders a product and returns the order's path.
func (m *market) order(product string) string {
	m.Helper()
	w := m.send(http.MethodPost, "/orders", "product="+product)
	require.Equal(m, http.StatusSeeOther, w.Code)
	return w.Header().Get("Location")
}

// voucher orders a product and gets its barcode.
func (m *market) voucher(product string) string {
	m.Helper()
	path := m.order(product)
	require.Equal(m, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
	return path
}

func (m *market) state(path string) string {
	m.Helper()
	var answer struct{ State string }
	require.NoError(m, json.Unmarshal([]byte(m.get(path+"/state")), &answer))
	return answer.State
}

// tell tells as Caddy does, and returns the status and the reason, or that the shop has heard it.
func (m *market) tell(path, event, impUID string, amount int, fields ...string) string {
	m.Helper()
	id := strings.TrimPrefix(path, "/orders/")
	body := fmt.Sprintf(`{"event":%q,"imp_uid":%q,"merchant_uid":%q,"status":"x","amount":%d,"cancel_amount":0,"paid_at":null%s}`,
		event, impUID, id, amount, strings.Join(append([]string{""}, fields...), ","))
	w := m.send(http.MethodPost, "/payments/"+id, body, "Content-Type", "application/json", "webhook-id", "msg_"+impUID+event+strings.Join(fields, ""))
	var answer struct {
		Heard  bool
		Reason string
	}
	require.NoError(m, json.Unmarshal(w.Body.Bytes(), &answer))
	assert.Equal(m, w.Code == http.StatusOK, answer.Heard)
	return strings.TrimSpace(fmt.Sprint(w.Code, " ", answer.Reason))
}

// check asks as Caddy does, and returns the status and the reason, or the total.
func (m *market) check(path, impUID string) string {
	m.Helper()
	w := m.send(http.MethodPost, path+"/payable", `{"event":"Galaxia.Cvs.Confirm"}`, "Content-Type", "application/json", "X-Cvs-Imp-Uid", impUID)
	var answer struct {
		Payable bool
		Total   int
		Reason  string
	}
	require.NoError(m, json.Unmarshal(w.Body.Bytes(), &answer))
	assert.Equal(m, w.Code == http.StatusOK, answer.Payable)
	return fmt.Sprint(w.Code, " ", answer.Reason, answer.Total)
}

func (m *market) at(now time.Time) { m.shop.now = func() time.Time { return now } }

func (m *market) stock(id string) int {
	m.shop.mu.Lock()
	defer m.shop.mu.Unlock()
	return m.shop.product(id).Stock
}

func TestHomeListsProductsInBothLanguages(t *testing.T) {
	t.Parallel()
	m := open(t)
	home := m.get("/")
	for _, text := range []string{`<html lang="ko">`, "접이식 우산", "15,000원", "재고 5개", "9,000원", "재고 12개", "한정판 램프", "42,000원", "재고 1개", "샌드박스 데모"} {
		assert.Contains(t, home, text)
	}
	assert.Equal(t, 3, strings.Count(home, "주문하기"))
	assert.NotContains(t, home, "품절")

	home = m.get("/", "Accept-Language", "en-GB,en;q=0.9")
	for _, text := range []string{`<html lang="en">`, "Folding umbrella", "15,000 KRW", "5 left", "Order", "demo shop"} {
		assert.Contains(t, home, text)
	}
	assert.NotContains(t, home, "우산")
}

func TestSoldOutProductCannotBeOrdered(t *testing.T) {
	t.Parallel()
	m := open(t)
	m.order("lamp")
	home := m.get("/")
	assert.Equal(t, 2, strings.Count(home, "주문하기"))
	assert.Contains(t, home, "품절")

	w := m.send(http.MethodPost, "/orders", "product=lamp")
	assert.Equal(t, http.StatusConflict, w.Code)
	assert.Contains(t, w.Body.String(), "품절되었습니다")
	assert.Len(t, m.shop.orders, 1)

	w = m.send(http.MethodPost, "/products/lamp/restock", "")
	assert.Equal(t, http.StatusSeeOther, w.Code)
	assert.Equal(t, 1, m.stock("lamp"))
	m.order("lamp")
	assert.Equal(t, http.StatusNotFound, m.send(http.MethodPost, "/products/boat/restock", "").Code)
}

func TestUnknownPagesAreExplained(t *testing.T) {
	t.Parallel()
	m := open(t)
	for _, c := range []struct {
		method, target, body string
		status               int
		ko, en               string
	}{
		{"POST", "/orders", "product=boat", 400, "없는 상품입니다", "There is no such product"},
		{"POST", "/orders", "", 400, "umbrella, mug, lamp", "umbrella, mug and lamp"},
		{"POST", "/orders", "product=" + strings.Repeat("x", maxBody), 400, "없는 상품입니다", "There is no such product"},
		{"GET", "/orders/order-x", "", 404, "없는 주문입니다", "There is no such order"},
		{"POST", "/orders/order-x/barcode", "", 404, "없는 주문입니다", "There is no such order"},
		{"POST", "/stop", "stop=half", 400, "없는 페이지입니다", "There is no such page"},
		{"GET", "/nowhere", "", 404, "없는 페이지입니다", "There is no such page"},
		{"GET", "/static/", "", 404, "없는 페이지입니다", "There is no such page"},
	} {
		for lang, text := range map[string]string{"ko": c.ko, "en": c.en} {
			w := m.send(c.method, c.target, c.body, "Accept-Language", lang)
			assert.Equal(t, c.status, w.Code, c.target)
			assert.Contains(t, w.Body.String(), text, c.target)
			assert.Contains(t, w.Body.String(), `<html lang="`+lang+`">`)
		}
	}
	assert.Equal(t, http.StatusNotFound, m.send("GET", "/static/%2e%2e%2ftemplates%2fhome.html", "").Code)
	w := m.send("GET", "/orders/order-x/state", "")
	assert.Equal(t, http.StatusNotFound, w.Code)
	assert.JSONEq(t, `{"reason":"없는 주문입니다"}`, w.Body.String())
	assert.Empty(t, m.called())
}

func TestOrdersAreLimited(t *testing.T) {
	t.Parallel()
	m := open(t)
	for i := range maxOrders {
		m.shop.orders[fmt.Sprint(i)] = nil
	}
	w := m.send(http.MethodPost, "/orders", "product=lamp")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, w.Body.String(), "주문을 받을 수 없습니다")
	assert.Equal(t, 1, m.stock("lamp"))
}

func TestVoucherShowsTheBarcode(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.order("umbrella")
	assert.Regexp(t, `^/orders/order-[a-z2-7]{10}$`, path)
	assert.NotEqual(t, path, m.order("umbrella"))
	page := m.get(path)
	assert.Contains(t, page, "주문 접수")
	assert.Contains(t, page, "편의점에서 결제</button>")
	assert.NotContains(t, page, "<path d=")
	assert.Equal(t, "new", m.state(path))

	w := m.send(http.MethodPost, path+"/barcode", "")
	assert.Equal(t, http.StatusSeeOther, w.Code)
	assert.Equal(t, path, w.Header().Get("Location"))
	id := strings.TrimPrefix(path, "/orders/")
	require.Equal(t, []url.Values{{
		"merchant_uid": {id}, "amount": {"15000"}, "name": {"접이식 우산"},
		"expired_at": {fmt.Sprint(m.shop.now().Add(72 * time.Hour).Unix())},
	}}, m.asked)

	page = m.get(path)
	for _, text := range []string{
		"결제 대기", `<svg xmlns="http://www.w3.org/2000/svg" width="330"`, "1234 5678 9012 3456 7890", "15,000원", id,
		"2026년 11월 26일 09:22까지", `datetime="2026-11-26T00:22:00Z"`, "인쇄",
		`href="http://till.example/till?barcode=12345678901234567890&amp;lang=ko" target="_blank"`,
	} {
		assert.Contains(t, page, text)
	}
	page = m.get(path, "Accept-Language", "en")
	for _, text := range []string{"Waiting for payment", "until 26 Nov 2026, 09:22 KST", "be the cashier"} {
		assert.Contains(t, page, text)
	}
	assert.Equal(t, "{\n  \"barcode\": \""+barcode+"\",\n  \"order\": \""+id+"\",\n  \"product\": \"umbrella\",\n"+
		"  \"state\": \"waiting\",\n  \"stopped\": \"\",\n  \"told\": 0,\n  \"total\": 15000\n}\n", m.get(path+"/state"))
	assert.Equal(t, 5, m.stock("umbrella"), "nothing is taken before it is paid")
}

func TestOverdueOrderHidesItsBarcode(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.at(m.shop.now().Add(73 * time.Hour))
	page := m.get(path)
	assert.Contains(t, page, "확인하고 있습니다", "it may have been paid in time")
	assert.Equal(t, "overdue", m.state(path))
	assert.NotContains(t, page, "1234 5678", "nobody should carry it to a till")
	assert.NotContains(t, page, "새 바코드 받기")
	m.called()
	assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
	assert.Empty(t, m.called(), "before it is known that it was not paid")

	assert.Equal(t, "200", m.tell(path, "paid", "imp_1", 9000))
	assert.Equal(t, "paid", m.state(path))
}

func TestExpiredOrderGetsANewBarcode(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.order("mug")
	assert.Contains(t, m.get(path), `name="lifetime" value="minute"`)
	start := m.shop.now()
	m.send(http.MethodPost, path+"/barcode", "lifetime=minute")
	assert.Equal(t, fmt.Sprint(start.Add(time.Minute).Unix()), m.asked[0].Get("expired_at"))
	m.send(http.MethodPost, path+"/barcode", "")
	assert.Equal(t, m.asked[0], m.asked[1], "the deadline stays")

	m.at(start.Add(75 * time.Second))
	assert.Equal(t, "overdue", m.state(path))
	assert.Equal(t, "200", m.tell(path, "expired", "imp_9", 9000))
	assert.Equal(t, "overdue", m.state(path), "of another barcode")
	assert.Equal(t, "200", m.tell(path, "expired", "imp_1", 9000))
	assert.Equal(t, "expired", m.state(path))
	assert.Equal(t, "409 결제 기한이 지났습니다0", m.check(path, "imp_1"))
	page := m.get(path, "Accept-Language", "en")
	for _, text := range []string{"You can get a new barcode.", "Get a new barcode</button>", "<code>expired</code>", "09:23:15"} {
		assert.Contains(t, page, text)
	}
	assert.Contains(t, m.get(path), "새 바코드 받기")

	m.forgets(path)
	assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
	assert.Equal(t, "waiting", m.state(path))
	assert.Equal(t, "200 9000", m.check(path, "imp_2"))
	assert.Equal(t, fmt.Sprint(m.shop.now().Add(72*time.Hour).Unix()), m.asked[2].Get("expired_at"))
	assert.Equal(t, "200", m.tell(path, "expired", "imp_1", 9000), "once more")
	assert.Equal(t, "waiting", m.state(path), "the new barcode has not expired")
}

func TestExpiredOrderIsPaidLate(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.tell(path, "expired", "imp_1", 9000)
	assert.Equal(t, "expired", m.state(path))
	assert.Equal(t, "200", m.tell(path, "paid", "imp_1", 9000, `"late":true`))
	assert.Equal(t, "paid", m.state(path))
	assert.Equal(t, 11, m.stock("mug"))
	assert.Contains(t, m.get(path), "<code>paid</code> (기한이 지난 뒤)")
}

func TestFailedBarcodeIsExplainedAndAskedForAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault http.HandlerFunc
		text  string
	}{
		"refused":      {fails(200, 1, "점검 <b>중</b>입니다"), "점검 &lt;b&gt;중&lt;/b&gt;입니다"},
		"bad request":  {fails(400, -1, "expired_at is wrong"), "expired_at is wrong"},
		"no token":     {fails(503, -1, "no token"), "no token"},
		"unreachable":  {fails(502, -1, "PortOne cannot be reached."), "PortOne cannot be reached."},
		"in doubt":     {fails(504, -1, "Outcome unknown"), "Outcome unknown"},
		"broken":       {hangsUp, "게이트웨이가 응답하지 않았습니다."},
		"not JSON":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "게이트웨이가 응답하지"},
		"no number":    {func(w http.ResponseWriter, _ *http.Request) { envelope(w, 200, 0, "", payment{ImpUID: "imp_1"}) }, "게이트웨이가"},
		"endless":      {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"message":"%0*d"`, maxBody, 0) }, "게이트웨이가"},
		"null message": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"code":1,"message":null}`) }, "게이트웨이가"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t)
			path := m.order("mug")
			m.fault("POST /cvs", c.fault)
			w := m.send(http.MethodPost, path+"/barcode", "")
			assert.Equal(t, http.StatusBadGateway, w.Code)
			for _, text := range []string{`role="alert"`, "바코드를 발급받지 못했습니다.", "주문은 그대로", c.text, "다시 시도</button>", `href="` + path + `?lang=en"`} {
				assert.Contains(t, w.Body.String(), text)
			}
			assert.Equal(t, "new", m.state(path), "nothing is lost")

			m.fault("POST /cvs", nil)
			assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
			assert.Equal(t, []string{"POST /cvs", "POST /cvs"}, m.called(), "no look-up in between")
			assert.Equal(t, "waiting", m.state(path))
		})
	}
}

func TestFailureAfterTheBarcodeKeepsIt(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.fault("POST /cvs", fails(503, -1, "no token"))
	w := m.send(http.MethodPost, path+"/barcode", "", "Accept-Language", "en")
	assert.Equal(t, http.StatusBadGateway, w.Code)
	for _, text := range []string{"no token", "Below is the one that you have.", "1234 5678 9012 3456 7890"} {
		assert.Contains(t, w.Body.String(), text)
	}
	assert.Equal(t, "200 9000", m.check(path, "imp_1"))
}

func TestEachClickAsksForTheSameBarcode(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.order("mug")
	now := m.shop.now()
	m.shop.now = func() time.Time { return now }
	m.fault("POST /cvs", func(w http.ResponseWriter, r *http.Request) { // issued, but the answer is lost
		m.issue(r.PostForm)
		hangsUp(w, r)
	})
	assert.Equal(t, http.StatusBadGateway, m.send(http.MethodPost, path+"/barcode", "").Code)
	assert.Equal(t, "409 다른 바코드로 결제해 주세요0", m.check(path, "imp_1"), "which the customer does not have")
	m.fault("POST /cvs", nil)
	for range 2 {
		now = now.Add(36 * time.Hour)
		assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
		assert.Contains(t, m.get(path), "2026년 11월 26일 09:22까지", "the deadline of the barcode")
		assert.Equal(t, "200 9000", m.check(path, "imp_1"))
	}
	assert.Equal(t, []url.Values{m.asked[0], m.asked[0], m.asked[0]}, m.asked)
}

func TestDeadlineIsChosenAgainWhenItHasPassed(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.order("mug")
	m.fault("POST /cvs", hangsUp)
	m.send(http.MethodPost, path+"/barcode", "")
	later := m.shop.now().Add(73 * time.Hour)
	m.shop.now = func() time.Time { return later }
	m.fault("POST /cvs", nil)
	m.send(http.MethodPost, path+"/barcode", "")
	assert.Contains(t, m.get(path), "2026년 11월 29일 10:22까지")
	assert.Equal(t, fmt.Sprint(later.Add(72*time.Hour).Unix()), m.asked[0].Get("expired_at"))
}

func TestReplacedBarcodeIsShownAndTheEarlierOneRefused(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.forgets(path)
	m.send(http.MethodPost, path+"/barcode", "")
	assert.Equal(t, "409 다른 바코드로 결제해 주세요0", m.check(path, "imp_1"))
	assert.Equal(t, "200 9000", m.check(path, "imp_2"))
}

func TestInvalidGatewayAddressIs502(t *testing.T) {
	t.Parallel()
	m := open(t)
	m.shop.gateway = "http://127.0.0.1:port"
	assert.Equal(t, http.StatusBadGateway, m.send(http.MethodPost, m.order("mug")+"/barcode", "").Code)
}

func TestTwoClicksGetOneBarcode(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.order("mug")
	arrived, answer := make(chan struct{}, 2), make(chan struct{})
	m.fault("POST /cvs", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-answer
		envelope(w, http.StatusOK, 0, "", m.issue(r.PostForm))
	})
	var clicks sync.WaitGroup
	for range 2 {
		clicks.Go(func() { assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code) })
	}
	<-arrived
	<-arrived
	assert.Equal(t, "new", m.state(path), "the shop goes on meanwhile")
	close(answer)
	clicks.Wait()
	assert.Equal(t, []url.Values{m.asked[0], m.asked[0]}, m.asked, "the same request, which the gateway answers with one barcode")
	assert.Equal(t, "200 9000", m.check(path, "imp_1"))
}

func TestLateAnswerDoesNotReopenAPaidOrder(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.fault("POST /cvs", func(w http.ResponseWriter, r *http.Request) {
		p := m.issue(r.PostForm)
		assert.Equal(t, "200", m.tell(path, "paid", "imp_1", 9000))
		envelope(w, http.StatusOK, 0, "", p)
	})
	assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
	assert.Equal(t, "paid", m.state(path))
}

func TestPayableDecidesByOrderAndPayment(t *testing.T) {
	t.Parallel()
	m := open(t)
	assert.Equal(t, "404 없는 주문입니다0", m.check("/orders/order-x", "imp_1"))

	path := m.order("mug")
	assert.Equal(t, "409 다른 바코드로 결제해 주세요0", m.check(path, "imp_1"), "without a barcode")
	assert.Equal(t, "409 다른 바코드로 결제해 주세요0", m.check(path, ""))
	m.send(http.MethodPost, path+"/barcode", "")
	assert.Equal(t, "200 9000", m.check(path, "imp_1"))
	assert.Equal(t, "200 9000", m.check(path, "imp_1"), "asked again")
	assert.Equal(t, "409 다른 바코드로 결제해 주세요0", m.check(path, "imp_2"))
	assert.Equal(t, "waiting", m.state(path), "a question changes nothing")

	m.tell(path, "paid", "imp_1", 9000)
	assert.Equal(t, "409 이미 결제된 주문입니다0", m.check(path, "imp_1"))
	m.tell(path, "cancelled", "imp_1", 9000)
	assert.Equal(t, "409 환불된 주문입니다0", m.check(path, "imp_1"))

	path = m.voucher("lamp")
	assert.Equal(t, "409 품절되었습니다0", m.check(path, "imp_2"), "the last one is gone")
	m.send(http.MethodPost, "/products/lamp/restock", "")
	assert.Equal(t, "200 42000", m.check(path, "imp_2"))
}

func TestPaidIsHeardOnce(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("umbrella")
	for range 3 {
		assert.Equal(t, "200", m.tell(path, "paid", "imp_1", 15000))
		assert.Equal(t, "paid", m.state(path))
		assert.Equal(t, 4, m.stock("umbrella"), "taken once")
	}
	page := m.get(path)
	assert.Contains(t, page, "결제 완료")
	assert.NotContains(t, page, "1234 5678")
	assert.Contains(t, page, `<time datetime="2026-11-23T00:22:00Z">09:22:00</time>, 3번째`)
	assert.Contains(t, m.get(path, "Accept-Language", "en"), "</time>, told 3 times")
	assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, path+"/barcode", "").Code)
	assert.Len(t, m.asked, 1, "a paid order gets no further barcode")
	assert.Equal(t, "200", m.tell(path, "expired", "imp_1", 15000))
	assert.Equal(t, "paid", m.state(path))
}

func TestCancelledIsShownAsRefunded(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.tell(path, "paid", "imp_1", 9000)
	assert.Equal(t, "200", m.tell(path, "cancelled", "imp_2", 9000, `"cancel_amount":9000`))
	assert.Equal(t, "paid", m.state(path), "by another payment than the refunded one")
	for range 2 {
		assert.Equal(t, "200", m.tell(path, "cancelled", "imp_1", 9000, `"cancel_amount":4000`, `"cancellation_id":"1"`))
		assert.Equal(t, "refunded", m.state(path))
		page := m.get(path, "Accept-Language", "en")
		assert.Contains(t, page, "<strong>Refunded in part</strong>")
		assert.Contains(t, page, "<dd>4,000 KRW</dd>")
	}
	m.tell(path, "cancelled", "imp_1", 9000, `"cancel_amount":9000`, `"cancellation_id":"2"`)
	page := m.get(path)
	for _, text := range []string{"<strong>환불 완료</strong>", "<dd>9,000원</dd>", "(환불 누계 4000)", "(환불 누계 9000)", ", 2번째"} {
		assert.Contains(t, page, text)
	}
	m.tell(path, "paid", "imp_1", 9000)
	assert.Equal(t, "refunded", m.state(path), "told again of what was before")
	assert.Equal(t, 11, m.stock("mug"))
}

func TestRefundIsOfThePaymentThatPaidTheOrder(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("mug")
	m.forgets(path)
	m.send(http.MethodPost, path+"/barcode", "")
	m.tell(path, "paid", "imp_1", 9000, `"late":true`) // the barcode before this one
	m.tell(path, "cancelled", "imp_2", 9000, `"cancel_amount":9000`)
	assert.Equal(t, "paid", m.state(path))
	m.tell(path, "cancelled", "imp_1", 9000, `"cancel_amount":9000`)
	assert.Equal(t, "refunded", m.state(path))
}

func TestToldRefusesWhatIsNotTheOrders(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("umbrella")
	assert.Equal(t, "409 금액이 주문과 다릅니다", m.tell(path, "paid", "imp_1", 14999))
	assert.Equal(t, "404 없는 주문입니다", m.tell("/orders/order-x", "paid", "imp_1", 15000))
	for _, body := range []string{"", "{", "imp_uid=imp_1", `{"amount":"15000"}`, `{"event":"` + strings.Repeat("x", maxBody) + `"}`} {
		w := m.send(http.MethodPost, "/payments/"+strings.TrimPrefix(path, "/orders/"), body)
		assert.Equal(t, http.StatusBadRequest, w.Code, body)
	}
	assert.Equal(t, "waiting", m.state(path))
	assert.Equal(t, 5, m.stock("umbrella"))
	assert.NotContains(t, m.get(path), "Caddy가 상점에 알린 것")
}

// A test is heard, whatever it is about, and changes nothing.
func TestTestsAreHeardAndIgnored(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("umbrella")
	for _, event := range []string{"paid", "cancelled", "expired"} {
		assert.Equal(t, "200", m.tell(path, event, "imp_1", 15000, `"test":true`))
		assert.Equal(t, "200", m.tell("/orders/order-x", event, "imp_test_1", 1000, `"test":true`))
	}
	assert.Equal(t, "waiting", m.state(path))
	assert.Equal(t, 5, m.stock("umbrella"))
	assert.NotContains(t, m.get(path), "Caddy가 상점에 알린 것")
}

func TestConcurrentTellingTakesOneItem(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("umbrella")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { m.tell(path, "paid", "imp_1", 15000) })
		all.Go(func() { m.get(path) })
		all.Go(func() { m.get("/") })
	}
	all.Wait()
	assert.Equal(t, 4, m.stock("umbrella"))
	assert.Contains(t, m.get(path), ", 8번째")
}

func TestStockIsNeverNegative(t *testing.T) {
	t.Parallel()
	m := open(t)
	path := m.voucher("lamp")
	m.tell(path, "paid", "imp_1", 42000)
	assert.Equal(t, "paid", m.state(path))
	assert.Equal(t, 0, m.stock("lamp"))
}

func TestStoppedShopDoesNotAnswerCaddy(t *testing.T) {
	t.Parallel()
	for way, check := range map[string]string{stoppedAll: "503 상점이 멈춰 있습니다0", stoppedTold: "200 9000"} {
		m := open(t)
		path := m.voucher("mug")
		home := m.get("/", "Accept-Language", "en")
		assert.Contains(t, home, `name="stop" value="`+way+`"`)
		assert.NotContains(t, home, "Start it again")
		assert.Equal(t, http.StatusSeeOther, m.send(http.MethodPost, "/stop", "stop="+way).Code)
		for range 2 {
			assert.Equal(t, "503 상점이 멈춰 있습니다", m.tell(path, "paid", "imp_1", 9000))
		}
		assert.Equal(t, check, m.check(path, "imp_1"))
		assert.Equal(t, "503 상점이 멈춰 있습니다", m.tell("/orders/order-x", "paid", "imp_1", 9000))
		assert.Equal(t, "waiting", m.state(path))
		assert.NotContains(t, m.get("/"), `value="`+way+`"`)
		for _, target := range []string{"/", path} {
			assert.Contains(t, m.get(target), "상점이 멈춰 있습니다.")
			assert.Contains(t, m.get(target, "Accept-Language", "en"), "The shop is stopped.")
			assert.Contains(t, m.get(target), `name="back" value="`+target+`"`)
		}
		assert.Contains(t, m.get(path), "응답하지 못한 횟수: "+map[string]string{stoppedAll: "3", stoppedTold: "2"}[way])
		assert.Contains(t, m.get(path+"/state"), `"stopped": "`+way+`"`)

		w := m.send(http.MethodPost, "/stop", "stop=&back="+path)
		assert.Equal(t, path, w.Header().Get("Location"))
		assert.NotContains(t, m.get(path), "상점이 멈춰 있습니다.")
		assert.Equal(t, "200", m.tell(path, "paid", "imp_1", 9000))
		assert.Equal(t, "paid", m.state(path))
	}
	m := open(t)
	for _, back := range []string{"", "https://evil.example/", "//evil.example/orders/"} {
		assert.Equal(t, "/", m.send(http.MethodPost, "/stop", "stop=&back="+back).Header().Get("Location"))
	}
}

func TestLanguageIsChosenOrAccepted(t *testing.T) {
	t.Parallel()
	m := open(t)
	for _, c := range []struct{ accept, cookie, want string }{
		{"", "", "ko"},
		{"ko-KR,ko;q=0.9,en;q=0.8", "", "ko"},
		{"en-US,en;q=0.9,ko;q=0.8", "", "en"},
		{"ja, fr;q=0.9, EN;q=0.5", "", "en"},
		{"ja", "", "ko"},
		{"en", "lang=ko", "ko"},
		{"ko", "lang=en", "en"},
		{"ko", "lang=ja", "ko"},
	} {
		assert.Contains(t, m.get("/", "Accept-Language", c.accept, "Cookie", c.cookie), `<html lang="`+c.want+`">`, c)
	}
	path := m.order("mug")
	for target, back := range map[string]string{"/": "/", path: path, "/nowhere": "/", "/orders/order-x": "/"} {
		w := m.send(http.MethodGet, target+"?lang=en", "")
		assert.Equal(t, http.StatusSeeOther, w.Code)
		assert.Equal(t, back, w.Header().Get("Location"))
		assert.Equal(t, "lang=en; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax", w.Header().Get("Set-Cookie"))
	}
	w := m.send(http.MethodGet, "/?lang=<script>", "")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Empty(t, w.Header().Get("Set-Cookie"))
}

func TestForeignTextIsEscaped(t *testing.T) {
	t.Parallel()
	m := open(t)
	m.shop.products[0].Ko = `<script>alert("우산")</script>`
	m.shop.till = `javascript:alert(1)//`
	assert.NotContains(t, m.get("/"), "<script>alert")
	m.fault("POST /cvs", func(w http.ResponseWriter, r *http.Request) {
		p := m.issue(r.PostForm)
		p.Barcode = `1"><script>&`
		envelope(w, http.StatusOK, 0, "", p)
	})
	page := m.get(m.voucher("umbrella"))
	assert.NotContains(t, page, "<script>alert")
	assert.NotContains(t, page, `1"><script>`)
	assert.NotContains(t, page, "javascript:")
	assert.Contains(t, page, template.HTMLEscapeString(groups(`1"><script>&`)))
}

func TestHeadersForbidForeignContent(t *testing.T) {
	t.Parallel()
	m := open(t)
	for _, target := range []string{"/", "/static/shop.css", "/static/shop.js", "/static/icon.svg", "/nowhere", m.order("mug") + "/state"} {
		h := m.send(http.MethodGet, target, "").Header()
		assert.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self';", target)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), target)
		assert.Equal(t, "same-origin", h.Get("Referrer-Policy"), target)
		assert.Equal(t, "no-store", h.Get("Cache-Control"), target)
	}
	for _, page := range []string{m.get("/"), m.get(m.voucher("mug"))} {
		assert.NotContains(t, page, " style=", "which the policy forbids")
		assert.NotContains(t, page, "<style")
		assert.Equal(t, 1, strings.Count(page, "<h1"))
	}
}

func TestOtherOriginsCannotOrder(t *testing.T) {
	t.Parallel()
	m := open(t)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		w := m.send(http.MethodPost, "/orders", "product=mug", header...)
		assert.Equal(t, http.StatusForbidden, w.Code)
	}
	assert.Empty(t, m.shop.orders)
}

func TestNewServesTheShop(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(New("http://127.0.0.1:1", "http://127.0.0.1:2/till"))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
	assert.Contains(t, string(page), "</html>")
}
