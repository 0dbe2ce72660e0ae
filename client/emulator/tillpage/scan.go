package tillpage

// How the page tells what happened in a scan.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// scanView is a scan as the template shows it.
type scanView struct {
	ID      int64
	Kind    string // "good", "bad", or "doubtful": paid although cvs_confirm did not accept it
	Title   string
	Detail  string
	Time    string
	What    string // how the customer paid, and the scenario
	Warning string // set if a response of either till was NotCvsConfirm
	Number  string
	URL     string
	Steps   []stepView
}

// stepView is one step of a scan: a webhook, its response, or the state of the payment.
type stepView struct {
	Title, Note, Line, Body string
}

// Parts returns the line split before each query parameter of a URL, where the browser may break it.
func (s stepView) Parts() []string {
	return strings.Split(strings.NewReplacer("?", "\n?", "&", "\n&").Replace(s.Line), "\n")
}

// scan returns the view of a scan on the page that shows query.
func (l language) scan(s Scan, query Query) scanView {
	v := scanView{
		ID: s.ID, Kind: "bad",
		Time:   time.Unix(s.At, 0).In(kst).Format("15:04:05"),
		What:   l.t("현금", "Cash"),
		Number: number(s.Barcode),
		URL:    query.scanURL(s.Barcode),
	}
	if s.PayType == "card" {
		v.What = l.t("카드", "Card")
	}
	if name := nameOf(l.scenarios(), s.Scenario); name != "" {
		v.What += " · " + name
	}
	switch {
	case s.NotAsked == NotRefunded:
		v.Title = l.t("환불할 수 없습니다", "This cannot be refunded")
		return v
	case s.NotAsked != "":
		v.Title = l.notAsked(s.NotAsked)
		v.Detail = l.t("게이트웨이에 묻지 않았습니다.", "The gateway was not asked.")
		return v
	}
	switch {
	case s.Result.Accepted && s.Result.notCvsConfirm():
		v.Kind = "doubtful"
	case s.Result.Accepted:
		v.Kind = "good"
	}
	v.Title, v.Detail = l.outcome(s.Result)
	if s.Refund > 0 {
		v.Title = l.t("환불했습니다: ", "Refunded ") + l.amount(s.Refund)
	}
	v.Steps = l.steps(s.Result)
	if s.Result.notCvsConfirm() || s.Second != nil && s.Second.notCvsConfirm() {
		v.Warning = l.warning()
	}
	if s.Second != nil {
		title, detail := l.outcome(*s.Second)
		v.Steps = append(v.Steps, stepView{Title: l.t("두 번째 계산대: ", "The second till: ") + title, Line: detail})
		v.Steps = append(v.Steps, l.steps(*s.Second)...)
	}
	return v
}

func (r Result) notCvsConfirm() bool { return r.Confirm != nil && r.Confirm.NotCvsConfirm }

// notAsked says why the till did not ask the gateway.
func (l language) notAsked(state string) string {
	switch state {
	case statePaid:
		return l.t("이미 결제된 바코드입니다", "This barcode is paid already")
	case stateCancelled:
		return l.t("말소된 바코드입니다", "This barcode is void")
	case stateExpired:
		return l.t("납부 기한이 지났습니다", "The deadline has passed")
	}
	return l.t("발급되지 않은 바코드입니다", "No such barcode was issued")
}

// outcome says in one line how a scan ended, and why.
func (l language) outcome(r Result) (title, detail string) {
	switch c := r.Confirm; {
	case r.NoticeOnly:
		return l.t("통보를 보냈습니다", "The notice was sent"), ""
	case r.Accepted && r.notCvsConfirm():
		return l.t("cvs_confirm의 승인 없이 결제되었습니다", "Paid, but cvs_confirm did not accept it"), ""
	case r.Accepted:
		return l.t("결제되었습니다", "Paid"), ""
	case c != nil && c.Error != "":
		return l.t("게이트웨이의 응답을 받지 못했습니다", "No answer from the gateway"), l.failure(c.Error)
	case c != nil && c.Status != http.StatusOK:
		return l.t("게이트웨이가 거절했습니다", "The gateway refused"), r.Reason
	}
	title = l.t("승인되었지만 결제되지 않았습니다", "Acceptable, but not paid")
	if r.notCvsConfirm() {
		title = l.t("결제되지 않았습니다", "Not paid")
	}
	switch r.Status {
	case statePaid:
		detail = l.t("다른 계산대가 먼저 결제했습니다.", "The other till was faster.")
	case stateCancelled:
		detail = l.t("그사이 바코드가 말소되었습니다.", "The barcode was voided meanwhile.")
	}
	return title, detail
}

// warning explains a 200 that did not come from cvs_confirm.
func (l language) warning() string {
	return l.t(
		`이 200 응답은 cvs_confirm이 보낸 것이 아닙니다. cvs_confirm은 {"accepted":true}로 응답합니다. `+
			`쇼핑몰 앱, catch-all 라우트, 프런트 컨트롤러 등이 대신 응답했고, 주문은 확인되지 않았습니다. `+
			`실제 서비스는 어떤 200 응답이든 승인으로 처리합니다. confirm_url의 경로와 사이트의 라우트 순서를 확인하세요.`,
		`This 200 did not come from cvs_confirm, which answers {"accepted":true}. `+
			`Something else answered for it, such as the shop's app, a catch-all route or a front controller, `+
			`and no order check was asked. `+
			`The real service takes any 200 for an acceptance. Check the path in confirm_url and the order of the site's routes.`,
	)
}

// steps returns the webhooks and the state of the payment in the order in which they happened.
func (l language) steps(r Result) []stepView {
	var steps []stepView
	if r.Confirm != nil {
		steps = l.webhook(steps, l.t("승인 웹훅", "Confirm webhook"), *r.Confirm)
	} else if !r.NoticeOnly {
		steps = append(steps, stepView{Title: l.t("confirm_url이 없어 묻지 않았습니다", "No confirm_url: nobody was asked")})
	}
	state := l.stateOf(r.Status, r.Refunded, r.Left)
	if r.Accepted && !r.NoticeOnly {
		state = l.state(stateReady) + " → " + state
	}
	steps = append(steps, stepView{Title: l.t("결제 상태", "Payment"), Note: state, Line: r.ImpUID})
	for _, n := range r.Notices {
		steps = l.webhook(steps, l.t("통보 웹훅", "Notice webhook"), n)
	}
	return steps
}

// webhook appends a webhook and its response, and the same for its duplicate.
func (l language) webhook(steps []stepView, title string, w Webhook) []stepView {
	sent := stepView{Title: title, Line: "POST " + w.URL, Body: indentJSON(w.Sent)}
	if w.Forged != "" {
		sent.Note = nameOf(l.scenarios(), "forged_"+w.Forged)
	}
	response := stepView{Title: l.t("응답", "Answer"), Note: l.failure(w.Error), Body: indentJSON(w.Body)}
	if w.NotCvsConfirm {
		response.Note = l.t("cvs_confirm의 응답이 아닙니다", "not from cvs_confirm")
	}
	if w.Status != 0 {
		response.Line = fmt.Sprintf("%d %s · %s ms", w.Status, http.StatusText(w.Status), humanize.Comma(w.DurationMS))
	}
	steps = append(steps, sent, response)
	if w.Duplicate != nil {
		steps = l.webhook(steps, title+l.t(", 다시", ", again"), *w.Duplicate)
	}
	return steps
}

// failure translates the errors that the emulator words itself. Errors of the network stay in English.
func (l language) failure(text string) string {
	limit, timedOut := strings.CutPrefix(text, "no answer within ")
	delay, later := strings.CutPrefix(text, "sandbox fault: the webhook is sent after ")
	switch {
	case later:
		return l.t("장애: 웹훅을 "+delay+" 뒤에 보냅니다", text)
	case timedOut:
		return l.t(limit+" 안에 응답이 없었습니다", text)
	case text == "sandbox fault: the webhook was not sent":
		return l.t("장애: 웹훅을 보내지 않았습니다", text)
	case text == "sandbox fault: the answer was lost":
		return l.t("장애: 응답을 잃었습니다", text)
	}
	return text
}

// indentJSON indents JSON for reading. A JSON string becomes its plain text.
func indentJSON(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var indented bytes.Buffer
	if json.Indent(&indented, raw, "", "  ") != nil {
		return ""
	}
	return indented.String()
}
