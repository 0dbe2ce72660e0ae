package emulator

// The till's page: the data that package tillpage renders, and the forms of the page.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/emulator/tillpage"
)

// serveRoot handles GET /.
func (e *Emulator) serveRoot(w http.ResponseWriter, r *http.Request) {
	tillpage.Redirect(w, r.URL.Query())
}

// tillPage returns what the page shows. The parts may differ by a moment; the page's next refresh shows them all up to date.
func (e *Emulator) tillPage(ctx context.Context, query tillpage.Query) tillpage.Page {
	now := e.now()
	found := e.store.search(query.Text, query.State, now, (query.Page-1)*tillpage.PageSize, tillpage.PageSize)
	page := tillpage.Page{Query: query, Matches: found.total, Counts: found.counts, Gateway: gatewayIn(ctx)}
	for _, p := range found.payments {
		page.Payments = append(page.Payments, shownPayment(p, now))
	}
	if p, ok := e.store.findBarcode(query.Barcode); ok {
		page.Selected = new(shownPayment(p.Payment, now))
	}
	for _, s := range e.scanLog.newest() {
		page.Scans = append(page.Scans, shownScan(s))
	}
	for _, f := range e.Faults() {
		page.Faults = append(page.Faults, shownFault(f))
	}
	return page
}

func shownPayment(p Payment, now int64) tillpage.Payment {
	return tillpage.Payment{
		ImpUID: p.ImpUID, MerchantUID: p.MerchantUID, Name: p.Name, Amount: p.Amount, Barcode: p.Barcode, State: p.state(now),
		ExpiredAt: p.ExpiredAt, PaidAt: p.PaidAt, CancelledAt: p.CancelledAt, FailReason: p.FailReason,
		Refunded: p.CancelAmount, Left: p.unrefunded(),
	}
}

func shownScan(s scanRecord) tillpage.Scan {
	shown := tillpage.Scan{
		ID: s.id, At: s.at, Barcode: s.request.Barcode, Scenario: string(s.request.Scenario),
		PayType: cmp.Or(s.result.PayType, s.request.PayType), Refund: s.refunded,
	}
	switch {
	case s.err == nil:
		shown.Result = shownResult(s.result)
	case errors.Is(s.err, ErrPaid):
		shown.NotAsked = statusPaid
	case errors.Is(s.err, ErrVoid):
		shown.NotAsked = statusCancelled
	case errors.Is(s.err, ErrExpired):
		shown.NotAsked = stateExpired
	case errors.Is(s.err, errRefund):
		shown.NotAsked = tillpage.NotRefunded
	default:
		shown.NotAsked = "unknown"
	}
	if s.result.Second != nil {
		shown.Second = new(shownResult(*s.result.Second))
	}
	return shown
}

func shownResult(r ScanResult) tillpage.Result {
	shown := tillpage.Result{
		Accepted: r.Accepted, NoticeOnly: r.noticeOnly, Reason: r.gatewayReason,
		Confirm: shownWebhook(r.Confirm), ImpUID: r.Payment.ImpUID, Status: r.Payment.Status,
		Refunded: r.Payment.CancelAmount, Left: r.Payment.unrefunded(),
	}
	for _, n := range r.Notice {
		shown.Notices = append(shown.Notices, *shownWebhook(&n))
	}
	return shown
}

func shownWebhook(r *WebhookResult) *tillpage.Webhook {
	if r == nil {
		return nil
	}
	return &tillpage.Webhook{
		URL: r.URL, Sent: r.Sent, Status: r.Status, Body: r.Body, DurationMS: r.DurationMS, Error: r.Error,
		Forged: string(r.Forged), NotCvsConfirm: r.notCvsConfirm, Duplicate: shownWebhook(r.Duplicate),
	}
}

func shownFault(f Fault) tillpage.Fault {
	shown := tillpage.Fault{Endpoint: string(f.Endpoint), Times: f.Times}
	add := func(value, detail string) {
		shown.Effects = append(shown.Effects, tillpage.Effect{Value: value, Detail: detail})
	}
	if f.Delay > 0 {
		add("delay", f.Delay.String())
	}
	if f.Status != 0 {
		add("status", strconv.Itoa(f.Status))
	} else if f.Code != 0 {
		add("code", strconv.Itoa(f.Code))
	}
	for _, e := range f.effects() {
		switch e.name {
		case effectError: // above
		case effectDrop:
			add("drop_"+string(f.Drop), "")
		case effectLate:
			add(e.name, f.Late.String())
		case effectStale:
			add(e.name, f.Stale.String())
		case effectOmit:
			add(e.name, f.Omit)
		case effectForged:
			add(forgedPrefix+string(f.Forged), "")
		default:
			add(e.name, "")
		}
	}
	return shown
}

// serveScanForm handles POST /till from the page, and redirects to the page, which shows what happened.
func (e *Emulator) serveScanForm(w http.ResponseWriter, r *http.Request, req ScanRequest) {
	if _, known := e.store.findBarcode(req.Barcode); !known {
		// People type the number in groups of digits, as the page shows it.
		req.Barcode = strings.Join(strings.Fields(req.Barcode), "")
	}
	_, err := e.Scan(r.Context(), req)
	if errors.Is(err, ErrClosed) || errors.Is(err, ErrPayType) || errors.Is(err, ErrScenario) {
		writeResponse(w, failed(scanStatus(err), err.Error()))
		return
	}
	query := r.URL.Query()
	query.Set("barcode", req.Barcode)
	query.Set("pay_type", cmp.Or(req.PayType, PayTypeCard))
	tillpage.Redirect(w, query)
}

// serveFaultForm handles POST /till-faults.
func (e *Emulator) serveFaultForm(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)
	fault, err := readFaultForm(r)
	if err == nil {
		err = e.Inject(fault)
	}
	if err != nil {
		page := e.tillPage(r.Context(), tillpage.ReadQuery(r.URL.Query()))
		page.Problem = strings.TrimPrefix(err.Error(), injectingPrefix)
		tillpage.Render(w, r, http.StatusBadRequest, page)
		return
	}
	tillpage.Redirect(w, r.URL.Query())
}

// serveClearForm handles POST /till-normal.
func (e *Emulator) serveClearForm(w http.ResponseWriter, r *http.Request) {
	e.ClearFaults()
	tillpage.Redirect(w, r.URL.Query())
}

// wantsPage reports whether a browser sent the request, which accepts HTML. Other clients get JSON.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// readFaultForm reads the form of a fault. It leaves to Inject what the fields mean together.
func readFaultForm(r *http.Request) (Fault, error) {
	if err := r.ParseForm(); err != nil {
		return Fault{}, err
	}
	form := r.PostForm
	effect := form.Get("effect")
	f := Fault{Endpoint: Endpoint(form.Get("endpoint"))}
	var wrong []error
	number := func(name string) int {
		n, err := strconv.Atoi(cmp.Or(form.Get(name), "0"))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s must be a whole number, not %q", strings.TrimSuffix(name, "_value"), form.Get(name)))
		}
		return n
	}
	duration := func(name string) time.Duration {
		text := form.Get(name + "_value")
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(seconds) {
			wrong = append(wrong, fmt.Errorf("%s must be a number of seconds, not %q", name, text))
		}
		return time.Duration(min(seconds, 2*maxDelay.Seconds()) * float64(time.Second))
	}
	f.Times = number("times")
	switch effect {
	case "delay":
		f.Delay = duration("delay")
	case effectLate:
		f.Late = duration("late")
	case effectStale:
		f.Stale = duration("stale")
	case effectOmit:
		f.Omit = strings.TrimSpace(form.Get("omit_value"))
	case "done":
		f.Done, f.Code = true, number("done_value")
	case "status":
		f.Status = number("status_value")
	case "code":
		f.Code = number("code_value")
	case "garbage":
		f.Garbage = true
	case "oversized":
		f.Oversized = true
	case "expired_token":
		f.ExpiredToken = true
	case "duplicate":
		f.Duplicate = true
	default:
		drop, _ := strings.CutPrefix(effect, "drop_")
		if f.Forged = Scenario(effect).forgery(); f.Forged == "" {
			f.Drop = Drop(drop)
		}
	}
	return f, errors.Join(wrong...)
}
