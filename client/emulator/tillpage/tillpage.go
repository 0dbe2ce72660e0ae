// Package tillpage renders the till of the sandbox as an HTML page, in Korean and in English.
//
// It knows how the page looks, what it says, and the fields of its forms and links. It renders the plain data of a [Page] and
// keeps nothing between two requests. It must not know the emulator: neither how payments are stored, nor how a barcode is
// paid, nor how webhooks are sent. Package emulator fills a Page and handles the forms.
package tillpage

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// PageSize is the number of payments on one page of the list.
const PageSize = 20

// Page is the data that the page shows. Times are Unix seconds.
type Page struct {
	Query    Query
	Selected *Payment       // the payment with the barcode Query.Barcode, or nil
	Payments []Payment      // the page Query.Page of the list, newest first
	Matches  int            // the number of payments on all pages of the list
	Counts   map[string]int // the number of all payments by State
	Scans    []Scan         // the last scans, newest first
	Faults   []Fault        // the faults in force
	Problem  string         // why a fault from the form was refused, in English
	Gateway  *Gateway       // nil if there is none in this process
}

// Payment is a payment with a barcode.
type Payment struct {
	ImpUID      string
	MerchantUID string
	Name        string
	Amount      float64
	Barcode     string
	State       string // "ready", "paid", "cancelled" or "expired"
	ExpiredAt   int64
	PaidAt      int64 // also set if the payment was refunded, which makes it "cancelled"
	CancelledAt int64
	Refunded    float64 // how much of it was paid back
	Left        float64 // how much of it was not
	FailReason  string  // why the gateway last refused the payment
}

// Scan is one attempt to pay at the till.
type Scan struct {
	ID       int64
	At       int64
	Barcode  string
	PayType  string // "card" or "cash"
	Scenario string
	Refund   float64 // the amount that was paid back, if this is a refund and not a scan; its Result is NoticeOnly
	NotAsked string  // why the gateway was not asked: the State of the payment, "unknown" or NotRefunded. If it is set, Result is empty.
	Result   Result
	Second   *Result // the result of the second till in the scenario "twice"
}

// Result is how a scan ended at one till.
type Result struct {
	Accepted   bool
	NoticeOnly bool     // the payment was paid before, and only its notices were sent
	Reason     string   // the reason that the gateway gave for its refusal
	Confirm    *Webhook // nil if no confirm webhook was sent
	Notices    []Webhook
	ImpUID     string
	Status     string  // of the payment after the scan
	Refunded   float64 // of the payment
	Left       float64
}

// NotRefunded is the Scan.NotAsked of a refund that could not be made.
const NotRefunded = "not refunded"

// Webhook is one webhook and its response.
type Webhook struct {
	URL           string
	Sent          json.RawMessage
	Status        int // 0 if there was no response
	Body          json.RawMessage
	DurationMS    int64
	Error         string
	Forged        string   // what was altered, as in the scenario "forged_…"
	NotCvsConfirm bool     // the response is a 200 that did not come from cvs_confirm
	Duplicate     *Webhook // the same webhook, sent again
}

// Fault is a fault in force.
type Fault struct {
	Endpoint string
	Times    int // the requests left, 0 for all
	Effects  []Effect
}

// Effect is what a fault does.
type Effect struct {
	Value  string // of an effect in the form, or of a scenario "forged_…"
	Detail string // what the form's input holds for it, or ""
}

// Query is the query of the page's URL: the barcode on the till and the part of the list to show.
type Query struct {
	Barcode string
	PayType string
	Text    string
	State   string
	Page    int // from 1
}

// ReadQuery reads the query of a URL. Fields that it lacks or that cannot be read get their defaults.
func ReadQuery(values url.Values) Query {
	page, _ := strconv.Atoi(values.Get("page"))
	return Query{
		Barcode: values.Get("barcode"),
		PayType: values.Get("pay_type"),
		Text:    strings.TrimSpace(values.Get("q")),
		State:   values.Get("state"),
		Page:    max(1, page),
	}
}

// encode returns the query with its "?", or "" for the page without a query. It leaves out how the customer pays, because every
// link on the page would change with it.
func (q Query) encode() string {
	values := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	set("barcode", q.Barcode)
	set("q", q.Text)
	set("state", q.State)
	if q.Page > 1 {
		values.Set("page", strconv.Itoa(q.Page))
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// link returns the address of the page with this query, relative to the page.
func (q Query) link() string { return "till" + q.encode() }

// scanURL returns the address of this page with another barcode on the till.
func (q Query) scanURL(barcode string) string {
	q.Barcode = barcode
	return q.link() + "#scan-title"
}
