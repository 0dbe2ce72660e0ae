package caddycvs

// This file holds what `caddy cvs check` says of cvs_confirm and cvs_notice.

import (
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	caddyrewrite "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

func inspectConfirms(s *setup, r *report) {
	for _, c := range s.confirms {
		where := c.name("cvs_confirm")
		if c.handler.Unsigned == "allow" {
			r.fail("unsigned_allow", where, "unsigned allow believes a webhook that anybody can write", "use unsigned lookup, which asks PortOne, or reject")
		}
		if c.handler.OnError == "accept" {
			r.warn("on_error_accept", where, "on_error accept accepts a payment when the shop does not answer, also for goods that are sold out", "use on_error reject")
		}
		if slices.ContainsFunc(c.before, func(e earlier) bool { return rewrites(e.handler) }) {
			r.fail("rewrite_before_confirm", where, "a rewrite, method or try_files stands before it, so that webhooks go to another path and another handler may accept them", "write cvs_confirm outside of route, or before the rewrite")
		}
		if slices.ContainsFunc(c.before, func(e earlier) bool { return e.always && authenticates(e.handler) }) {
			r.fail("password_before_confirm", where, "a password or forward_auth stands before it, which the sender of webhooks does not have", "write cvs_confirm outside of route, or before it")
		}
	}
}

// rewrites reports whether a handler sends a request to another path or changes its method. What strips a
// prefix is part of handle_path.
func rewrites(handler caddyhttp.MiddlewareHandler) bool {
	rw, ok := handler.(*caddyrewrite.Rewrite)
	return ok && (rw.URI != "" || rw.Method != "")
}

// inspectChecks finds order checks for which any answer is a yes.
func inspectChecks(s *setup, r *report) {
	for _, c := range s.confirms {
		for _, check := range c.handler.OrderChecks {
			where := c.name("cvs_confirm") + ", order_check " + check.Name
			switch {
			case check.Shadow:
			case check.Requirements == nil && check.Amount == "":
				r.warn("check_without_condition", where, "has no condition: every answer with an accepted status is a yes, even an error page or the page of another site", "add require or amount")
			default:
				r.good("%s: has a condition", where)
			}
			if check.Timeout > c.handler.Timeout {
				r.warn("check_timeout", where, "its timeout is longer than that of cvs_confirm, which ends it before", "make timeout of order_check shorter, or that of cvs_confirm longer, at most 10s")
			}
		}
	}
}

func inspectNotices(s *setup, r *report) {
	for _, n := range s.notices {
		where := n.name("cvs_notice") + ", tell"
		if n.handler.Tell.Requirements == nil {
			r.warn("tell_without_require", where, "has no require: every answer with an accepted status that is no page counts as heard, even that of another site", "add require, such as require heard true")
		}
		if len(n.handler.Tell.Secret) == 0 && !hasSecretHeader(n.handler.Tell.Header) {
			r.warn("tell_without_secret", where, "has no secret: the app cannot tell whether it is the gateway that says that an order is paid", "add secret, such as secret {env.CVS_TELL_SECRET}, and verify it in the app")
		}
	}
}

// hasSecretHeader reports whether a header field has a value from outside of the configuration: a key, by which the
// app knows the gateway as well.
func hasSecretHeader(header map[string]string) bool {
	for _, value := range header {
		if strings.Contains(value, "{env.") || strings.Contains(value, "{file.") {
			return true
		}
	}
	return false
}

// inspectPairs finds a notice_url without a cvs_notice, and the reverse.
func inspectPairs(s *setup, r *report) {
	for _, p := range s.proxies {
		name, where := p.handler.account.name, p.name("cvs_proxy")
		hasNotice := s.app.accounts[name].notice != ""
		switch {
		case p.handler.NoticeURL != "" && !hasNotice && len(s.notices) == 0:
			r.warn("notice_url_without_notice", where+", notice_url", "no cvs_notice of this configuration takes the notices of "+accountInWords(name), "add cvs_notice to the public site, unless another Caddy or the app takes them")
		case p.handler.NoticeURL == "" && hasNotice:
			r.warn("notice_without_notice_url", where, "has no notice_url, although there is a cvs_notice: a paid order is told late, by look-ups and the sweep only", "set notice_url to the public address of cvs_notice")
		}
		if p.handler.Repeat == repeatPass && hasNotice {
			r.fail("notice_with_repeat_pass", where, "repeat pass issues barcodes that the ledger does not know: without a signed notice of a payment, cvs_notice never tells it", "use repeat reuse")
		}
	}
}

// inspectRoutes repeats the warnings about routes that Caddy logs when it starts.
func inspectRoutes(s *setup, r *report) {
	for server, guarded := range s.app.servers {
		warnAboutRoutes(server, guarded, func(message string, fields ...zap.Field) {
			enc := zapcore.NewMapObjectEncoder()
			for _, f := range fields {
				f.AddTo(enc)
			}
			where := "the server at " + strings.Join(server.Listen, ", ")
			if names, ok := enc.Fields["hosts"].([]any); ok && len(names) > 0 {
				where = "the site " + joinAny(names)
			}
			what, remedy := splitRemedy(message)
			r.fail("route_accepts", where, what, remedy)
		})
	}
	slices.SortFunc(r.Findings, func(a, b finding) int { return strings.Compare(a.Where+a.Message, b.Where+b.Message) })
}

func joinAny(list []any) string {
	names := make([]string, len(list))
	for i := range list {
		names[i], _ = list[i].(string)
	}
	return strings.Join(names, ", ")
}

// splitRemedy splits a sentence of a log line or an error before what to do.
func splitRemedy(message string) (what, remedy string) {
	for _, mark := range []string{"; write ", ": "} {
		if i := strings.LastIndex(message, mark); i >= 0 {
			return message[:i], message[i+2:]
		}
	}
	return message, ""
}
