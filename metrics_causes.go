package caddycvs

// This file holds the words that the metric of confirm webhooks has for the causes of a decision. The log
// has the causes with their details; a label needs a closed set.

import (
	"cmp"
	"strings"
)

// The prefixes of causes that have another cause behind them.
const (
	causeOnError = "on_error: "
	causeLookUp  = "look-up: "
)

// The words that do not stand for one cause of the log.
const (
	wordOK       = "ok"       // every check said yes
	wordOnError  = "on_error" // a check gave no answer, and on_error accepted
	wordLookUp   = "look_up"  // PortOne did not tell what an unsigned webhook's payment is
	wordSetup    = "setup"    // a status that is rarely the shop's own no
	wordDefect   = "defect"   // of this module
	wordUnrouted = "unrouted" // it reached no cvs_confirm
)

// confirmCauses are all values of the label cause, by verdict.
var confirmCauses = map[string][]string{
	accepted:   {wordOK, wordOnError},
	refused:    {"status", wordSetup, "condition", "amount", "order_number", "header", "expired", "not_ready", "replaced", "order_paid"},
	unanswered: {"server_error", "redirect", "silent", "json", "too_large", "broken", "unreachable", "timeout", wordLookUp, wordDefect},
	invalid:    {"signature", "account", "unsigned", "address", "other_amount", "malformed", "method", "media_type", "too_large", "slow", wordUnrouted},
}

// ruleWords are the words for the rules that refuse a webhook.
var ruleWords = map[string]string{
	ruleSignature: "signature", ruleAccount: "account", ruleUnsigned: "unsigned", ruleLookup: "unsigned",
	ruleAllow: "address", ruleTrustedProxies: "address", ruleClientIPHeaders: "address",
}

// causeWords are the words for the names of causes.
var causeWords = map[string]string{
	"":                 wordDefect,
	causeStatus:        "status",
	causeCondition:     "condition",
	causeAmount:        "amount",
	causePath:          "order_number",
	causeHeader:        "header",
	causeServerError:   "server_error",
	causeRedirect:      "redirect",
	causeSilent:        "silent",
	causeJSON:          "json",
	causeTooLarge:      "too_large",
	causeBroken:        "broken",
	causeUnreachable:   "unreachable",
	causeTimeout:       "timeout",
	causeExpired:       "expired",
	causeNotReady:      "not_ready",
	causeReplaced:      "replaced",
	causeOrderPaid:     "order_paid",
	causeAnotherAmount: "other_amount",

	"bad request":              "malformed",
	"method not allowed":       "method",
	"request timeout":          "slow",
	"request entity too large": "too_large",
	"unsupported media type":   "media_type",
}

// confirmLabels are the values of the labels verdict and cause.
func confirmLabels(r *record) (verdict, cause string) {
	name := r.cause.name
	switch word, isRule := ruleWords[r.rule]; {
	case isRule:
		cause = word
	case r.verdict == accepted && name == "":
		cause = wordOK
	case strings.HasPrefix(name, causeOnError):
		cause = wordOnError
	case strings.HasPrefix(name, causeLookUp):
		cause = wordLookUp
	case name == causeStatus && r.cause.detail != "":
		cause = wordSetup
	default:
		cause = cmp.Or(causeWords[name], wordDefect)
	}
	return cmp.Or(r.verdict, unanswered), cause
}
