package tillpage

// How the page shows the state of the gateway that runs in the same process.

import (
	"strings"

	"github.com/dustin/go-humanize"
)

// Gateway is whether a gateway is ready.
type Gateway struct {
	Reasons []Reason // why it is not; empty if it is
}

// Reason is why a gateway is not ready.
type Reason struct {
	Kind    string // "token", "more", "degraded" or "slow"
	Account string // of the kind "token", "" for the unnamed one
	Cause   string // of the kind "token", as GET /cvs/status has it
	More    int    // of the kind "more": accounts without a token that are not named
}

// gatewayView is a Gateway as the template shows it.
type gatewayView struct {
	Ready   bool
	Reasons []string
}

func (l language) gateway(g *Gateway) *gatewayView {
	if g == nil {
		return nil
	}
	v := &gatewayView{Ready: len(g.Reasons) == 0}
	for _, r := range g.Reasons {
		v.Reasons = append(v.Reasons, l.reason(r))
	}
	return v
}

func (l language) reason(r Reason) string {
	switch r.Kind {
	case "token":
		text := l.t("액세스 토큰을 받지 못했습니다: ", "No access token: ") + l.tokenCause(r.Cause)
		if r.Account != "" {
			text = l.t("계정 ", "Account ") + r.Account + ": " + text
		}
		return text
	case "more":
		return strings.Replace(l.t("그 밖의 계정 #개", "# more accounts"), "#", humanize.Comma(int64(r.More)), 1)
	case "degraded":
		return l.t("원장을 쓸 수 없습니다.", "The ledger cannot be used.")
	case "slow":
		return l.t("원장이 제때 응답하지 않습니다.", "The ledger does not answer in time.")
	}
	return r.Kind
}

func (l language) tokenCause(cause string) string {
	switch cause {
	case "credentials":
		return l.t("키가 맞지 않습니다", "wrong keys")
	case "refused":
		return l.t("API가 거절했습니다", "the API refuses")
	case "throttled":
		return l.t("요청이 너무 잦습니다", "asked too often")
	case "foreign":
		return l.t("API의 응답이 아니거나 5xx입니다", "not the API's answer, or a 5xx")
	case "unreachable":
		return l.t("연결할 수 없습니다", "no connection")
	case "timeout":
		return l.t("제때 응답이 없습니다", "no answer in time")
	case "broken":
		return l.t("연결이 끊겼습니다", "the connection broke")
	}
	return cause
}
