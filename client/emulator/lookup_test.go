package emulator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestPaymentNeedsIncludeSandbox(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	impUID := s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	for query, want := range map[string]int{
		"?include_sandbox=true": 200, "": 404, "?include_sandbox=false": 404, "?include_sandbox=": 404, "?include_sandbox=yes": 404,
	} {
		if a := s.get("/payments/" + impUID + query); a.status != want {
			t.Errorf("%q got %d, want %d", query, a.status, want)
		}
	}
	s.get("/payments/imp_0?include_sandbox=true").expect(t, 404, -1)
	s.as("other").get("/payments/"+impUID+"?include_sandbox=true").expect(t, 404, -1)
	if got := s.get("/payments/" + impUID + "?include_sandbox=true").field("merchant_uid"); got != "order" {
		t.Errorf("got the payment of %q", got)
	}
}

func TestFindSortsAndFilters(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	issue := func() envelope { return s.issue(`"merchant_uid":"order","amount":1`) }
	first, second := issue(), issue() // in the same second
	c.advance(time.Second)
	third := issue()
	c.advance(time.Second)
	s.do("DELETE", "/cvs/"+second.field("imp_uid"), "", "")
	s.scan(first.field("vbank_num"), "card") // in the same second as the void
	names := map[string]string{
		first.field("imp_uid"): "first", second.field("imp_uid"): "second", third.field("imp_uid"): "third",
	}
	for query, want := range map[string]string{
		"": "third", "?sorting=-started": "third", "?sorting=started": "first",
		"?sorting=-paid": "first", "?sorting=-updated": "first", "?sorting=updated": "third",
		"/": "third", "/ready": "third", "/paid": "first", "/cancelled": "second", "/cancelled?sorting=started": "second",
	} {
		a := s.get("/payments/find/order" + query)
		a.expect(t, 200, 0)
		if got := names[a.field("imp_uid")]; got != want {
			t.Errorf("find %q gave the %s payment, want the %s", query, got, want)
		}
	}
	s.get("/payments/find/order/failed").expect(t, 404, -1)
	s.get("/payments/find/none").expect(t, 404, -1)
	s.as("other").get("/payments/find/order").expect(t, 404, -1)
	for _, bad := range []string{"order/all", "order/void", "order?sorting=amount", "order?sorting=--paid", "order?sorting=-"} {
		s.get("/payments/find/"+bad).expect(t, 400, -1)
	}
}

func TestFindCountsIssueAsUpdate(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Now: newClock().now})
	void := s.issue(`"merchant_uid":"order","amount":1`)
	s.do("DELETE", "/cvs/"+void.field("imp_uid"), "", "")
	newest := s.issue(`"merchant_uid":"order","amount":1`)
	if got := s.get("/payments/find/order?sorting=-updated").field("imp_uid"); got != newest.field("imp_uid") {
		t.Error("the void payment was updated last")
	}
}

func TestFindBreaksTiesByIssue(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{Now: newClock().now})
	var last string
	for range 20 {
		last = s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	}
	if got := s.get("/payments/find/order").field("imp_uid"); got != last {
		t.Error("not the newest of the same second")
	}
}

func TestFindAcceptsAnyOrderNumber(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, order := range []string{"주문 1", "a/b", "a/ready", "..", "a%2Fb", "a?b=c", "100%", "a+b", "find", `"\`} {
		name, _ := json.Marshal(order)
		impUID := s.issue(`"amount":1,"merchant_uid":` + string(name)).field("imp_uid")
		for _, path := range []string{"", "/ready"} {
			if got := s.get("/payments/find/" + url.PathEscape(order) + path).field("imp_uid"); got != impUID {
				t.Errorf("order %q is not found at %q", order, path)
			}
		}
	}
}

func TestListPagesAndFilters(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now, TokenLife: 24 * time.Hour})
	start := c.now().Unix()
	var all []envelope
	for i := range 25 {
		all = append(all, s.issue(fmt.Sprintf(`"merchant_uid":"order-%d","amount":1`, i)))
		c.advance(time.Second)
	}
	s.as("other").issue(`"merchant_uid":"foreign","amount":1`)
	s.do("DELETE", "/cvs/"+all[3].field("imp_uid"), "", "")
	c.advance(time.Hour)
	s.scan(all[4].field("vbank_num"), "card")
	for _, test := range []struct {
		path                  string
		total, previous, next int
		first, last           string
		length                int
	}{
		{"all", 25, 0, 2, "order-24", "order-5", 20},
		{"all?page=2", 25, 1, 0, "order-4", "order-0", 5},
		{"all?page=2&limit=10", 25, 1, 3, "order-14", "order-5", 10},
		{"all?page=5&limit=5", 25, 4, 0, "order-4", "order-0", 5},
		{"all?limit=1000&sorting=started", 25, 0, 0, "order-0", "order-24", 25},
		{"ready?limit=1", 23, 0, 2, "order-24", "order-24", 1},
		{"ready?limit=100&sorting=started", 23, 0, 0, "order-0", "order-24", 23},
		{"paid", 1, 0, 0, "order-4", "order-4", 1},
		{"cancelled", 1, 0, 0, "order-3", "order-3", 1},
		{"failed", 0, 0, 0, "", "", 0},
		{"failed?page=1", 0, 0, 0, "", "", 0},
		{"all?sorting=-updated&limit=2", 25, 0, 2, "order-4", "order-3", 2},
		{fmt.Sprintf("all?from=%d&to=%d", start+3, start+5), 1, 0, 0, "order-5", "order-5", 1},
		{fmt.Sprintf("all?from=%d", start+25), 2, 0, 0, "order-4", "order-3", 2}, // also in the list of all, each by the time of its status
		{fmt.Sprintf("ready?from=%d&to=%d", start+3, start+5), 1, 0, 0, "order-5", "order-5", 1},
		{fmt.Sprintf("paid?to=%d", start+3600), 0, 0, 0, "", "", 0}, // filtered by the time of payment, not of issue
		{fmt.Sprintf("paid?from=%d", start+3600), 1, 0, 0, "order-4", "order-4", 1},
		{fmt.Sprintf("cancelled?from=%d&to=%d", start+25, start+25), 1, 0, 0, "order-3", "order-3", 1},
		{fmt.Sprintf("all?to=%d", start-1), 0, 0, 0, "", "", 0},
		{"all?to=0", 0, 0, 0, "", "", 0},
	} {
		a := s.get("/payments/status/" + test.path)
		a.expect(t, 200, 0)
		var got struct {
			Total, Previous, Next int
			List                  []struct {
				MerchantUID string `json:"merchant_uid"`
			}
		}
		if err := json.Unmarshal(a.Response, &got); err != nil {
			t.Fatal(err)
		}
		if got.Total != test.total || got.Previous != test.previous || got.Next != test.next || len(got.List) != test.length {
			t.Errorf("%s: total %d previous %d next %d, %d listed", test.path, got.Total, got.Previous, got.Next, len(got.List))
			continue
		}
		if got.List == nil {
			t.Errorf("%s: list is null", test.path)
		}
		if test.length > 0 && (got.List[0].MerchantUID != test.first || got.List[test.length-1].MerchantUID != test.last) {
			t.Errorf("%s: from %s to %s", test.path, got.List[0].MerchantUID, got.List[test.length-1].MerchantUID)
		}
	}
	c.advance(91 * 24 * time.Hour)
	if got := s.as("key").get("/payments/status/all").field("total"); got != "0" {
		t.Errorf("%s payments are found 91 days later", got)
	}
}

// A reader that goes on from the time of the last payment that it has seen misses nothing: payments come in the order in which
// they were paid or refunded, those of one second in a fixed order, and the ends of the period belong to it.
func TestListIsReadByTime(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	uids := make([]string, 4)
	for i := range uids {
		uids[i] = s.issue(fmt.Sprintf(`"merchant_uid":"order-%d","amount":15000`, i)).field("imp_uid")
	}
	start := c.now().Unix()
	for _, i := range []int{2, 0, 3, 1} { // order-0 and order-3 in the same second
		if i != 3 {
			c.advance(time.Minute)
		}
		s.scan(s.get("/payments/"+uids[i]+"?include_sandbox=true").field("vbank_num"), "card")
	}
	read := func(query string, args ...any) (listed []string) {
		var page struct {
			List []struct {
				MerchantUID string `json:"merchant_uid"`
			}
		}
		if err := json.Unmarshal(s.get("/payments/status/"+fmt.Sprintf(query, args...)).Response, &page); err != nil {
			t.Fatal(err)
		}
		for _, p := range page.List {
			listed = append(listed, strings.TrimPrefix(p.MerchantUID, "order-"))
		}
		return listed
	}
	expect := func(want, query string, args ...any) {
		t.Helper()
		if got := strings.Join(read(query, args...), " "); got != want {
			t.Errorf("%s %v: %q, want %q", query, args, got, want)
		}
	}
	expect("2 0 3 1", "paid?sorting=paid")
	expect("2 0", "paid?sorting=paid&limit=2")
	expect("0 3 1", "paid?sorting=paid&from=%d", start+120)
	expect("2 0 3", "paid?sorting=paid&to=%d", start+120)
	expect("1 3", "paid?sorting=-paid&limit=2")

	c.advance(time.Minute)
	s.cancel(`"merchant_uid":"order-1","amount":1000`)
	c.advance(time.Minute)
	s.cancel(`"merchant_uid":"order-2"`)
	expect("0 3", "paid?sorting=paid")
	expect("1 2", "cancelled?sorting=updated")
	expect("1", "cancelled?sorting=updated&to=%d", start+240)
	c.advance(time.Minute)
	s.cancel(`"merchant_uid":"order-1","amount":1000`) // a second part: it is listed by the time of the last one
	expect("2 1", "cancelled?sorting=updated")
	expect("2", "cancelled?sorting=updated&to=%d", start+300)
	expect("1", "cancelled?sorting=updated&from=%d", start+360)
}

func TestListRejectsInvalidQueries(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	s.issue(`"merchant_uid":"order","amount":1`)
	for _, bad := range []string{
		"void", "all?page=0", "all?page=2", "all?page=x", "all?page=9999999999999999999", "all?page=1125899906842624",
		"all?limit=0", "all?limit=1001", "all?limit=-1", "all?from=x", "all?to=-1", "all?to=x",
		"all?from=1&to=7776002", "all?sorting=name", "failed?page=2",
	} {
		s.get("/payments/status/"+bad).expect(t, 400, -1)
	}
	s.get("/payments/status/all?from=1&to=7776001").expect(t, 200, 0)
}

func TestFindAllReturnsPaymentsOfOrder(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSandbox(t, emulator.Options{Now: c.now})
	var uids []string
	for range 3 {
		uids = append(uids, s.issue(`"merchant_uid":"주문/1","amount":1`).field("imp_uid"))
	}
	s.do("DELETE", "/cvs/"+uids[0], "", "").expect(t, 200, 0)
	s.issue(`"merchant_uid":"other","amount":1`)
	const order = "/payments/findAll/%EC%A3%BC%EB%AC%B8%2F1"
	for path, want := range map[string][]string{
		order:                      {uids[2], uids[1], uids[0]},
		order + "/":                {uids[2], uids[1], uids[0]},
		order + "?sorting=started": {uids[0], uids[1], uids[2]},
		order + "/ready":           {uids[2], uids[1]},
		order + "/cancelled/":      {uids[0]},
		order + "/paid":            {},
		order + "?limit=2&page=2":  {uids[0]},
		"/payments/findAll/nothing?sorting=-paid": {},
	} {
		var page struct {
			Total int
			List  []struct {
				ImpUID string `json:"imp_uid"`
			}
		}
		a := s.get(path)
		a.expect(t, 200, 0)
		if err := json.Unmarshal(a.Response, &page); err != nil || page.List == nil {
			t.Fatal(err, a.raw)
		}
		got := []string{}
		for _, p := range page.List {
			got = append(got, p.ImpUID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	for _, bad := range []string{"/void", "/all", "?sorting=x", "?page=2", "?limit=0"} {
		s.get(order+bad).expect(t, 400, -1)
	}
	if got := s.as("stranger").get(order).field("total"); got != "0" {
		t.Errorf("a stranger sees %s", got)
	}
}

func TestPaymentsReturnsRequestedImpUIDs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	one, two := s.issue(`"merchant_uid":"1","amount":1`).field("imp_uid"), s.issue(`"merchant_uid":"2","amount":2`).field("imp_uid")
	otherMerchants := s.as("stranger").issue(`"merchant_uid":"3","amount":3`).field("imp_uid")
	for _, query := range []string{
		"imp_uid[]=" + two + "&imp_uid[]=" + one, "imp_uid%5B%5D=" + two + "&imp_uid%5B%5D=nothing&imp_uid[]=" + one,
		"imp_uid=" + two + "&imp_uid=" + one, "imp_uid[0]=" + two + "&imp_uid[1]=" + one, "imp_uid[]=" + two + "&imp_uid[]=" + otherMerchants + "&imp_uid[]=" + one,
	} {
		a := s.get("/payments?" + query)
		a.expect(t, map[bool]int{true: 207, false: 200}[strings.Contains(query, "nothing") || strings.Contains(query, otherMerchants)], 0)
		var list []struct {
			ImpUID string `json:"imp_uid"`
		}
		if err := json.Unmarshal(a.Response, &list); err != nil || len(list) != 2 || list[0].ImpUID != two || list[1].ImpUID != one {
			t.Errorf("%s: %v %s", query, err, a.raw)
		}
	}
	s.get("/payments?imp_uid[]=nothing").expect(t, 404, -1)
	s.do("POST", "/payments", asForm, "imp_uid[]="+one+"&imp_uid[]="+two).expect(t, 200, 0)
	s.get("/payments").expect(t, 400, -1)
	s.get("/payments?"+strings.Repeat("imp_uid[]=x&", 101)).expect(t, 400, -1)
}

func TestBalanceIsWhatIsNotRefunded(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	impUID := s.paid("order").field("imp_uid")
	s.cancel(`"imp_uid":"` + impUID + `","amount":4000`)
	var balance struct {
		Amount  float64
		Primary struct{ Amount, Supply, VAT float64 }
	}
	a := s.get("/payments/" + impUID + "/balance/")
	a.expect(t, 200, 0)
	if err := json.Unmarshal(a.Response, &balance); err != nil || balance.Amount != 11000 || balance.Primary.Amount != 11000 || balance.Primary.Supply != 10000 || balance.Primary.VAT != 1000 {
		t.Error(err, a.raw)
	}
	s.get("/payments/nothing/balance").expect(t, 404, -1)
	s.get("/payments/"+s.issue(`"merchant_uid":"open","amount":1`).field("imp_uid")+"/balance").expect(t, 404, -1)
	s.as("stranger").get("/payments/"+impUID+"/balance").expect(t, 404, -1)
}

// The API hides the payments of a test channel, and the message says why. It shows those of a live channel.
func TestLookupHidesTestChannel(t *testing.T) {
	t.Parallel()
	for _, live := range []bool{false, true} {
		s := newSandbox(t, emulator.Options{LiveChannel: live})
		issued := s.issue(`"merchant_uid":"order","amount":1`)
		if got := issued.field("sandbox"); got != fmt.Sprint(!live) {
			t.Errorf("sandbox is %s", got)
		}
		s.get("/payments/"+issued.field("imp_uid")+"?include_sandbox=true").expect(t, 200, 0)
		a := s.get("/payments/" + issued.field("imp_uid"))
		switch {
		case live:
			a.expect(t, 200, 0)
		case a.status != 404 || a.Message == nil || !strings.Contains(*a.Message, "include_sandbox=true"):
			t.Error(a.raw)
		}
		if a := s.get("/payments/nothing"); a.status != 404 || *a.Message != "존재하지 않는 결제정보입니다." {
			t.Error(a.raw)
		}
	}
}

// Old clients write a slash at the end of the path, use POST, and send the token in other places.
func TestLookupAcceptsOldClients(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{LiveChannel: true})
	impUID := s.issue(`"merchant_uid":"order","amount":1`).field("imp_uid")
	for _, path := range []string{"/payments/" + impUID, "/payments/find/order", "/payments/find/order/ready", "/payments/status/all", "/payments/findAll/order"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, slash := range []string{"", "/"} {
				s.do(method, path+slash, "", "").expect(t, 200, 0)
			}
		}
	}
	token := s.token
	s.token = ""
	s.get("/payments/"+impUID).expect(t, 401, -1)
	s.get("/payments/"+impUID+"?_token="+token).expect(t, 200, 0)
	s.do("GET", "/payments/"+impUID, "", "", "X-ImpTokenHeader", token).expect(t, 200, 0)
	s.do("GET", "/payments/"+impUID+"?_token="+token, "", "", "Authorization", "Bearer wrong").expect(t, 401, -1)
}
