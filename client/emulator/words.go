package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"

	"github.com/caddy-cvs/caddy-cvs/client/code128"
)

// What the till's page says, in both languages side by side.

// language is one that the page speaks.
type language string

const (
	korean  language = "ko"
	english language = "en"
)

var languages = []language{korean, english}

// kst is the time of the stores. Korea has no summer time.
var kst = time.FixedZone("KST", 9*60*60)

// languageOf returns the language chosen on the page, else the first of the browser's that there is, else Korean.
func languageOf(r *http.Request) language {
	wanted := r.Header.Get("Accept-Language")
	if c, err := r.Cookie(languageCookie); err == nil {
		wanted = c.Value + "," + wanted
	}
	for tag := range strings.SplitSeq(wanted, ",") {
		for _, l := range languages {
			if strings.HasPrefix(strings.TrimSpace(tag), string(l)) {
				return l
			}
		}
	}
	return korean
}

func (l language) t(ko, en string) string {
	if l == english {
		return en
	}
	return ko
}

// moment writes a time of the API's clock.
func (l language) moment(unix int64) string {
	return time.Unix(unix, 0).In(kst).Format(l.t("2006-01-02 15:04", "2 Jan 2006, 15:04 KST"))
}

func (l language) amount(v float64) string {
	return humanize.Commaf(v) + l.t("원", " KRW")
}

// number writes a barcode's number as it is read out, four digits at a time.
func number(barcode string) string {
	if strings.Trim(barcode, "0123456789") != "" {
		return barcode
	}
	var b strings.Builder
	for i, digit := range barcode {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// states are those of a barcode, in the order of the page.
var states = []string{statusReady, statusPaid, statusCancelled, stateExpired}

func (l language) state(s string) string {
	switch s {
	case statusPaid:
		return l.t("결제 완료", "Paid")
	case statusCancelled:
		return l.t("말소", "Void")
	case stateExpired:
		return l.t("기한 지남", "Expired")
	}
	return l.t("결제 대기", "Waiting")
}

func (l language) counts(of map[string]int) string {
	parts := make([]string, len(states))
	for i, s := range states {
		parts[i] = l.state(s) + " " + humanize.Comma(int64(of[s]))
	}
	return strings.Join(parts, " · ")
}

// paymentView is a payment as the page shows it.
type paymentView struct {
	Payment
	State, StateName string
	Number           string
	Price            string
	Deadline         string
	Moment           string // the time that matters in its state
	SVG              template.HTML
	URL              string
	Chosen           bool
}

func (l language) payment(p Payment, at place, now int64) paymentView {
	state := p.state(now)
	// A merchant's own number may be one that Code 128 lacks; then there is no picture.
	svg, _ := code128.SVG(p.Barcode)
	chosen := p.Barcode == at.Barcode
	at.Barcode = p.Barcode
	v := paymentView{
		Payment: p, State: state, StateName: l.state(state),
		Number: number(p.Barcode), Price: l.amount(p.Amount), Deadline: l.moment(p.ExpiredAt),
		SVG: template.HTML(svg), URL: "till" + at.query() + "#scan-title", Chosen: chosen, //nolint:gosec // numbers and our own words
	}
	if state == statusCancelled && p.PaidAt != 0 {
		v.StateName = l.t("환불", "Refunded")
	}
	switch state {
	case statusPaid:
		v.Moment = l.t("결제 ", "paid ") + l.moment(p.PaidAt)
	case statusCancelled:
		v.Moment = l.t("말소 ", "void since ") + l.moment(p.CancelledAt)
		if p.PaidAt != 0 {
			v.Moment = l.t("환불 ", "refunded ") + l.moment(p.CancelledAt)
		}
	default:
		v.Moment = l.t("기한 ", "until ") + v.Deadline
	}
	return v
}

func (l language) scenarios() []choice {
	return []choice{
		{
			Value: string(ScenarioTwice), Name: l.t("두 계산대에서 동시에", "At two tills at once"),
			About: l.t("하나만 결제되어야 합니다.", "Only one may be paid."),
		},
		{
			Value: string(ScenarioVoid), Name: l.t("스캔하는 사이 말소", "Voided while scanning"),
			About: l.t("쇼핑몰이 바코드를 취소합니다.", "The shop takes the barcode back."),
		},
		{
			Value: string(ScenarioLate), Name: l.t("기한이 지난 뒤", "After the deadline"),
			About: l.t("기한이 지금 끝나고, 게이트웨이에 묻지 않습니다.", "It ends now, and the gateway is not asked."),
		},
		{
			Value: string(ScenarioRepeatedNotice), Name: l.t("통보가 두 번", "Notice twice"),
			About: l.t("결제된 바코드면 한 번 더 보냅니다.", "Once more, if it is paid already."),
		},
		{
			Value: string(ScenarioForgedSignature), Name: l.t("위조된 서명", "Forged signature"),
			About: l.t("URL의 cvs_sig를 바꿉니다.", "Alters cvs_sig in the URL."),
		},
		{
			Value: string(ScenarioForgedAmount), Name: l.t("다른 금액", "Wrong amount"),
			About: l.t("URL의 cvs_amount를 바꿉니다.", "Alters cvs_amount in the URL."),
		},
		{
			Value: string(ScenarioForgedMerchantUID), Name: l.t("다른 주문", "Another order"),
			About: l.t("본문의 merchant_uid를 바꿉니다.", "Alters merchant_uid in the body."),
		},
		{
			Value: string(ScenarioForgedUnsigned), Name: l.t("서명 없이", "No signature"),
			About: l.t("URL의 쿼리를 지웁니다.", "Removes the URL's query."),
		},
	}
}

// nameOf returns a choice's name, "" for a value that is none.
func nameOf[T ~string](choices []choice, value T) string {
	if i := slices.IndexFunc(choices, func(c choice) bool { return c.Value == string(value) }); i >= 0 {
		return choices[i].Name
	}
	return ""
}

func (l language) scenario(s Scenario) string { return nameOf(l.scenarios(), s) }

// The kinds of requests that a fault can meet. An effect names all that it can have an effect on.
const (
	kindAPI     = "api"
	kindToken   = "token"
	kindWebhook = "webhook"
	kindAll     = "all"
)

func (l language) endpoints() []choice {
	return []choice{
		{Kind: kindAll, Value: string(EndpointAll), Name: l.t("모든 요청", "All requests")},
		{Kind: kindToken, Value: string(EndpointToken), Name: l.t("토큰 발급", "Access token") + ": POST /users/getToken"},
		{Kind: kindAPI, Value: string(EndpointIssue), Name: l.t("바코드 발급", "Barcode") + ": POST /cvs"},
		{Kind: kindAPI, Value: string(EndpointVoid), Name: l.t("말소", "Void") + ": DELETE /cvs/…"},
		{Kind: kindAPI, Value: string(EndpointPayment), Name: l.t("결제 조회", "Payment") + ": GET /payments/…"},
		{Kind: kindAPI, Value: string(EndpointPayments), Name: l.t("여러 결제 조회", "Several payments") + ": GET /payments?imp_uid[]=…"},
		{Kind: kindAPI, Value: string(EndpointBalance), Name: l.t("잔액 조회", "Balance") + ": GET /payments/…/balance"},
		{Kind: kindAPI, Value: string(EndpointFind), Name: l.t("주문번호로 조회", "Payment of an order") + ": GET /payments/find/…"},
		{Kind: kindAPI, Value: string(EndpointFindAll), Name: l.t("주문번호의 모든 결제", "All payments of an order") + ": GET /payments/findAll/…"},
		{Kind: kindAPI, Value: string(EndpointList), Name: l.t("목록", "List") + ": GET /payments/status/…"},
		{Kind: kindAPI, Value: string(EndpointCancel), Name: l.t("환불", "Refund") + ": POST /payments/cancel"},
		{Kind: kindAPI, Value: string(EndpointPrepare), Name: l.t("사전등록", "Prepared amount") + ": /payments/prepare"},
		{Kind: kindAPI, Value: string(EndpointCard), Name: l.t("카드 결제", "Payment by card") + ": POST /subscribe/payments/onetime"},
		{Kind: kindWebhook, Value: string(EndpointConfirm), Name: l.t("승인 웹훅", "Confirm webhook") + ": confirm_url"},
		{Kind: kindWebhook, Value: string(EndpointNotice), Name: l.t("통보 웹훅", "Notice webhook") + ": notice_url"},
	}
}

func (l language) endpoint(e Endpoint) string { return nameOf(l.endpoints(), e) }

func (l language) effects() []choice {
	const everywhere = kindAPI + " " + kindToken + " " + kindWebhook
	const answers = kindAPI + " " + kindToken
	return []choice{
		{
			Value: "delay", Kind: everywhere, Name: l.t("지연", "Delay"), Input: l.t("초", "Seconds"), Min: "0.1", Max: "3600", Step: "0.1", Default: "3",
			About: l.t("이만큼(초) 늦게 처리하거나 보냅니다.", "Works, or is sent, so many seconds later."),
		},
		{
			Value: "status", Kind: answers, Name: l.t("HTTP 상태", "HTTP status"), Input: l.t("상태", "Status"), Min: "200", Max: "599", Step: "1", Default: "503",
			About: l.t("처리하지 않고 이 상태로 응답합니다.", "Answers with this instead of doing the work."),
		},
		{
			Value: "code", Kind: answers, Name: "code", Input: "code", Min: "-9999", Max: "9999", Step: "1", Default: "1",
			About: l.t("처리하지 않고 HTTP 200과 이 code로 거절합니다.", "Refuses with HTTP 200 and this code."),
		},
		{
			Value: "drop_before", Kind: everywhere, Name: l.t("처리 전 끊김", "Dropped before"),
			About: l.t("처리하기 전에 연결을 끊습니다. 웹훅은 보내지 않습니다.", "Breaks the connection before the work. A webhook is not sent."),
		},
		{
			Value: "drop_after", Kind: everywhere, Name: l.t("처리 후 끊김", "Dropped after"),
			About: l.t("처리한 뒤 응답 없이 끊습니다. 웹훅은 도착하지만 그 응답을 잃습니다.", "Does the work, then breaks. A webhook arrives, its answer is lost."),
		},
		{
			Value: "drop_body", Kind: answers, Name: l.t("응답 중 끊김", "Dropped in the answer"),
			About: l.t("처리한 뒤 응답을 절반만 보냅니다.", "Does the work, then sends half the answer."),
		},
		{
			Value: "garbage", Kind: everywhere, Name: l.t("엉뚱한 내용", "Garbage"),
			About: l.t("처리한 뒤 JSON 대신 HTML로 응답하거나, 웹훅을 HTML로 보냅니다.", "Does the work, then answers HTML. A webhook carries HTML."),
		},
		{
			Value: "oversized", Kind: everywhere, Name: l.t("너무 큰 내용", "Oversized"),
			About: l.t("16MiB로 응답하거나 2MiB를 보냅니다.", "Answers 16 MiB, or sends 2 MiB."),
		},
		{
			Value: "expired_token", Kind: kindAPI, Name: l.t("만료된 토큰", "Expired token"),
			About: l.t("토큰을 만료시키고 401로 응답합니다.", "Expires the token and answers 401."),
		},
		{
			Value: "duplicate", Kind: kindWebhook, Name: l.t("두 번 보냄", "Sent twice"),
			About: l.t("같은 웹훅을 두 번 보냅니다. 첫 응답이 결정합니다.", "Sends the webhook twice. The first answer decides."),
		},
	}
}

// fault describes a fault in force.
func (l language) fault(f Fault) string {
	count := l.t("되돌릴 때까지 모두", "all until back to normal")
	if f.Times > 0 {
		count = fmt.Sprintf(l.t("앞으로 %d번", "the next %d"), f.Times)
	}
	var what []string
	if f.Delay > 0 {
		what = append(what, l.effect("delay")+" "+f.Delay.String())
	}
	switch {
	case f.Status != 0:
		what = append(what, fmt.Sprintf("%s %d", l.effect("status"), f.Status))
	case f.Code != 0:
		what = append(what, fmt.Sprintf("code %d", f.Code))
	case f.Drop != "":
		what = append(what, l.effect("drop_"+string(f.Drop)))
	case f.Forged != "":
		what = append(what, l.scenario("forged_"+Scenario(f.Forged)))
	default:
		for _, name := range f.effects() {
			what = append(what, l.effect(name))
		}
	}
	return fmt.Sprintf("%s (%s): %s", l.endpoint(f.Endpoint), count, strings.Join(what, ", "))
}

func (l language) effect(value string) string { return nameOf(l.effects(), value) }

// exchangeView is a scan as the page shows it.
type exchangeView struct {
	ID     int64
	Kind   string // good, bad, or doubtful: paid, but not by the word of cvs_confirm
	Title  string
	Detail string
	Time   string
	What   string
	// Warning says that something other than cvs_confirm answered, at one till or at both.
	Warning string
	Number  string
	URL     string
	Steps   []stepView
}

// stepView is one step of it.
type stepView struct {
	Title, Note, Line, Body string
}

// Parts is the line in the pieces between which it may be broken: a URL's parameters.
func (s stepView) Parts() []string {
	return strings.Split(strings.NewReplacer("?", "\n?", "&", "\n&").Replace(s.Line), "\n")
}

func (l language) exchange(x exchange, at place) exchangeView {
	at.Barcode = x.Request.Barcode
	v := exchangeView{
		ID: x.ID, Kind: "bad",
		Time:   time.Unix(x.At, 0).In(kst).Format("15:04:05"),
		What:   l.t("현금", "Cash"),
		Number: number(x.Request.Barcode),
		URL:    "till" + at.query() + "#scan-title",
	}
	if cmp.Or(x.Result.PayType, x.Request.PayType) == PayTypeCard {
		v.What = l.t("카드", "Card")
	}
	if name := l.scenario(x.Request.Scenario); name != "" {
		v.What += " · " + name
	}
	if x.Err != nil {
		v.Title = l.stopped(x.Err)
		v.Detail = l.t("게이트웨이에 묻지 않았습니다.", "The gateway was not asked.")
		return v
	}
	switch {
	case x.Result.Accepted && x.Result.Warning != "":
		v.Kind = "doubtful"
	case x.Result.Accepted:
		v.Kind = "good"
	}
	v.Title, v.Detail = l.outcome(x.Result)
	v.Warning = l.warning(x.Result)
	v.Steps = l.steps(x.Result)
	if second := x.Result.Second; second != nil {
		title, detail := l.outcome(*second)
		v.Steps = append(v.Steps, stepView{Title: l.t("두 번째 계산대: ", "The second till: ") + title, Line: detail})
		v.Steps = append(v.Steps, l.steps(*second)...)
	}
	return v
}

// stopped says why the till did not even ask the gateway.
func (l language) stopped(err error) string {
	switch {
	case errors.Is(err, ErrPaid):
		return l.t("이미 결제된 바코드입니다", "This barcode is paid already")
	case errors.Is(err, ErrVoid):
		return l.t("말소된 바코드입니다", "This barcode is void")
	case errors.Is(err, ErrExpired):
		return l.t("납부 기한이 지났습니다", "The deadline has passed")
	}
	return l.t("발급되지 않은 바코드입니다", "No such barcode was issued")
}

// outcome says in a line how a scan ended, and why.
func (l language) outcome(r ScanResult) (title, detail string) {
	switch c := r.Confirm; {
	case r.resent:
		return l.t("통보를 다시 보냈습니다", "The notice was sent again"), ""
	case r.Accepted && r.Warning != "":
		return l.t("cvs_confirm의 승인 없이 결제되었습니다", "Paid, but cvs_confirm did not accept it"), ""
	case r.Accepted:
		return l.t("결제되었습니다", "Paid"), ""
	case c != nil && c.Error != "":
		return l.t("게이트웨이의 응답을 받지 못했습니다", "No answer from the gateway"), l.failure(c.Error)
	case c != nil && c.Status != http.StatusOK:
		return l.t("게이트웨이가 거절했습니다", "The gateway refused"), r.given
	}
	title = l.t("승인되었지만 결제되지 않았습니다", "Acceptable, but not paid")
	if r.Warning != "" {
		title = l.t("결제되지 않았습니다", "Not paid")
	}
	switch r.Payment.Status {
	case statusPaid:
		detail = l.t("다른 계산대가 먼저 결제했습니다.", "The other till was faster.")
	case statusCancelled:
		detail = l.t("그사이 바코드가 말소되었습니다.", "The barcode was voided meanwhile.")
	}
	return title, detail
}

// warning says that a 200 was not cvs_confirm's, or "".
func (l language) warning(r ScanResult) string {
	if r.Warning == "" && (r.Second == nil || r.Second.Warning == "") {
		return ""
	}
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

// steps tells a scan in the order of what was sent and answered.
func (l language) steps(r ScanResult) []stepView {
	var steps []stepView
	if r.Confirm != nil {
		steps = l.webhook(steps, l.t("승인 웹훅", "Confirm webhook"), *r.Confirm)
	} else if !r.resent {
		steps = append(steps, stepView{Title: l.t("confirm_url이 없어 묻지 않았습니다", "No confirm_url: nobody was asked")})
	}
	state := l.state(r.Payment.Status)
	if r.Accepted && !r.resent {
		state = l.state(statusReady) + " → " + state
	}
	steps = append(steps, stepView{Title: l.t("결제 상태", "Payment"), Note: state, Line: r.Payment.ImpUID})
	for _, n := range r.Notice {
		steps = l.webhook(steps, l.t("통보 웹훅", "Notice webhook"), n)
	}
	return steps
}

// webhook tells what was sent and what was answered.
func (l language) webhook(steps []stepView, title string, r WebhookResult) []stepView {
	sent := stepView{Title: title, Line: "POST " + r.URL, Body: pretty(r.Sent)}
	if r.Forged != "" {
		sent.Note = l.scenario("forged_" + Scenario(r.Forged))
	}
	steps = append(steps, sent)
	answer := stepView{Title: l.t("응답", "Answer"), Note: l.failure(r.Error), Body: pretty(r.Body)}
	if r.foreign {
		answer.Note = l.t("cvs_confirm의 응답이 아닙니다", "not from cvs_confirm")
	}
	if r.Status != 0 {
		answer.Line = fmt.Sprintf("%d %s · %s ms", r.Status, http.StatusText(r.Status), humanize.Comma(r.DurationMS))
	}
	steps = append(steps, answer)
	if r.Duplicate != nil {
		steps = l.webhook(steps, title+l.t(", 다시", ", again"), *r.Duplicate)
	}
	return steps
}

// failure says why there was no answer. What the network says of itself stays as it is.
func (l language) failure(text string) string {
	limit, timedOut := strings.CutPrefix(text, messageNoAnswer)
	switch {
	case timedOut:
		return l.t(limit+" 안에 응답이 없었습니다", text)
	case text == messageNotSent:
		return l.t("장애: 웹훅을 보내지 않았습니다", text)
	case text == messageAnswerLost:
		return l.t("장애: 응답을 잃었습니다", text)
	}
	return text
}

// langOf tells a screen reader how to read a text that a merchant or a gateway wrote.
func langOf(text string) language {
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Hangul, r) }) {
		return korean
	}
	return english
}

// pretty indents JSON, and takes other text out of its quotes.
func pretty(raw json.RawMessage) string {
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
