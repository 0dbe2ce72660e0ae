package tillpage

// What the page offers to choose: scenarios of a scan, and endpoints and effects of a fault. The values are those that the
// emulator takes in the forms and in its JSON.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// choice is one value of a control.
type choice struct {
	Value, Name, About      string
	Kind                    string // the kinds of requests that a fault can affect
	Chosen                  bool
	Input                   string // the label of the number or text that an effect needs
	Min, Max, Step, Default string // of this number; a text has a default only
}

func (l language) scenarios() []choice {
	return append([]choice{
		{
			Value: "twice", Name: l.t("두 계산대에서 동시에", "At two tills at once"),
			About: l.t("하나만 결제되어야 합니다.", "Only one may be paid."),
		},
		{
			Value: "void", Name: l.t("스캔하는 사이 말소", "Voided while scanning"),
			About: l.t("쇼핑몰이 바코드를 취소합니다.", "The shop takes the barcode back."),
		},
		{
			Value: "late", Name: l.t("기한이 지난 뒤", "After the deadline"),
			About: l.t("기한이 지금 끝나고, 게이트웨이에 묻지 않습니다.", "It ends now, and the gateway is not asked."),
		},
		{
			Value: "after_void", Name: l.t("말소된 뒤에도 결제", "Paid in spite of the void"),
			About: l.t("말소되기 전에 물어본 계산대입니다.", "The till had asked before it."),
		},
		{
			Value: "lost_notice", Name: l.t("통보 유실", "Lose the notice"),
			About: l.t("결제되지만, 통보는 보내지 않습니다.", "It is paid, and no notice is ever sent."),
		},
		{
			Value: "repeated_notice", Name: l.t("통보가 두 번", "Notice twice"),
			About: l.t("결제된 바코드면 한 번 더 보냅니다.", "Once more, if it is paid already."),
		},
	}, l.forgeries()...)
}

// forgeries are scenarios of the confirm webhook, and effects of a fault of any webhook.
func (l language) forgeries() []choice {
	return []choice{
		{
			Value: "forged_signature", Name: l.t("위조된 서명", "Forged signature"),
			About: l.t("URL의 cvs_sig를 바꿉니다.", "Alters cvs_sig in the URL."),
		},
		{
			Value: "forged_amount", Name: l.t("다른 금액", "Wrong amount"),
			About: l.t("URL의 cvs_amount를 바꿉니다.", "Alters cvs_amount in the URL."),
		},
		{
			Value: "forged_merchant_uid", Name: l.t("다른 주문", "Another order"),
			About: l.t("본문의 merchant_uid를 바꿉니다.", "Alters merchant_uid in the body."),
		},
		{
			Value: "forged_unsigned", Name: l.t("서명 없이", "No signature"),
			About: l.t("URL의 쿼리를 지웁니다.", "Removes the URL's query."),
		},
	}
}

// nameOf returns the name of the choice with a value, or "".
func nameOf(choices []choice, value string) string {
	if i := slices.IndexFunc(choices, func(c choice) bool { return c.Value == value }); i >= 0 {
		return choices[i].Name
	}
	return ""
}

// The kinds of requests. An effect lists the kinds that it can affect.
const (
	kindChange  = "change" // of a payment
	kindLookUp  = "lookup"
	kindBalance = "balance" // a look-up that shows no payment
	kindOther   = "other"   // requests with a token that are none of the above
	kindToken   = "token"
	kindWebhook = "webhook"
	kindAll     = "all"
)

func (l language) endpoints() []choice {
	return []choice{
		{Kind: kindAll, Value: "all", Name: l.t("모든 요청", "All requests")},
		{Kind: kindToken, Value: "token", Name: l.t("토큰 발급", "Access token") + ": POST /users/getToken"},
		{Kind: kindChange, Value: "issue", Name: l.t("바코드 발급", "Barcode") + ": POST /cvs"},
		{Kind: kindChange, Value: "void", Name: l.t("말소", "Void") + ": DELETE /cvs/…"},
		{Kind: kindLookUp, Value: "payment", Name: l.t("결제 조회", "Payment") + ": GET /payments/…"},
		{Kind: kindLookUp, Value: "payments", Name: l.t("여러 결제 조회", "Several payments") + ": GET /payments?imp_uid[]=…"},
		{Kind: kindBalance, Value: "balance", Name: l.t("잔액 조회", "Balance") + ": GET /payments/…/balance"},
		{Kind: kindLookUp, Value: "find", Name: l.t("주문번호로 조회", "Payment of an order") + ": GET /payments/find/…"},
		{Kind: kindLookUp, Value: "find_all", Name: l.t("주문번호의 모든 결제", "All payments of an order") + ": GET /payments/findAll/…"},
		{Kind: kindLookUp, Value: "list", Name: l.t("목록", "List") + ": GET /payments/status/…"},
		{Kind: kindChange, Value: "cancel", Name: l.t("환불", "Refund") + ": POST /payments/cancel"},
		{Kind: kindOther, Value: "prepare", Name: l.t("사전등록", "Prepared amount") + ": /payments/prepare"},
		{Kind: kindChange, Value: "card", Name: l.t("카드 결제", "Payment by card") + ": POST /subscribe/payments/onetime"},
		{Kind: kindWebhook, Value: "confirm", Name: l.t("승인 웹훅", "Confirm webhook") + ": confirm_url"},
		{Kind: kindWebhook, Value: "notice", Name: l.t("통보 웹훅", "Notice webhook") + ": notice_url"},
	}
}

// The kinds of requests that an effect can affect, as a list.
const (
	withToken  = kindChange + " " + kindLookUp + " " + kindBalance + " " + kindOther
	answers    = withToken + " " + kindToken
	everywhere = answers + " " + kindWebhook
)

func (l language) effects() []choice {
	forgeries := l.forgeries()
	for i := range forgeries {
		forgeries[i].Kind = kindWebhook
	}
	return slices.Concat([]choice{
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
	}, l.specialEffects(), forgeries)
}

// specialEffects are those that need a certain kind of request.
func (l language) specialEffects() []choice {
	return []choice{
		{
			Value: "done", Kind: kindChange, Name: l.t("처리하고 거절", "Refused, but done"), Input: "code", Min: "-9999", Max: "9999", Step: "1", Default: "1",
			About: l.t("처리한 뒤 HTTP 200과 이 code로 거절합니다.", "Does the work, then refuses with HTTP 200 and this code."),
		},
		{
			Value: "late", Kind: kindChange, Name: l.t("끊긴 뒤 처리", "Done late"), Input: l.t("초", "Seconds"), Min: "0.1", Max: "3600", Step: "0.1", Default: "3",
			About: l.t("바로 연결을 끊고, 이만큼(초) 뒤에 처리합니다.", "Breaks the connection at once, and does the work so many seconds later."),
		},
		{
			Value: "stale", Kind: kindLookUp + " " + kindBalance, Name: l.t("지난 내용", "Stale"), Input: l.t("초", "Seconds"), Min: "0.1", Max: "3600", Step: "0.1", Default: "3",
			About: l.t("이만큼(초) 전의 결제 상태로 응답합니다.", "Answers what was true so many seconds ago."),
		},
		{
			Value: "omit", Kind: kindChange + " " + kindLookUp, Name: l.t("빠진 필드", "Missing field"), Input: l.t("필드", "Field"), Default: "vbank_num",
			About: l.t("응답의 결제에서 이 필드를 뺍니다.", "Leaves this field out of the payments in the answer."),
		},
		{
			Value: "expired_token", Kind: withToken, Name: l.t("만료된 토큰", "Expired token"),
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
	effects := make([]string, len(f.Effects))
	for i, effect := range f.Effects {
		name := cmp.Or(nameOf(l.effects(), effect.Value), nameOf(l.scenarios(), effect.Value))
		effects[i] = strings.TrimSpace(name + " " + effect.Detail)
	}
	return fmt.Sprintf("%s (%s): %s", nameOf(l.endpoints(), f.Endpoint), count, strings.Join(effects, ", "))
}
