package caddycvs

// This file holds what a span says of a call of PortOne's API.

import (
	"net/http"
	"slices"
	"strings"
)

// apiTemplates are the paths of the calls that the gateway makes itself.
var apiTemplates = map[string]string{
	opIssue:   "/cvs",
	opVoid:    "/cvs/{imp_uid}",
	opToken:   "/users/getToken",
	opPayment: "/payments/{imp_uid}",
	opFind:    "/payments/find/{merchant_uid}",
	opFindAll: "/payments/findAll/{merchant_uid}",
	opList:    "/payments/status/{payment_status}",
}

// The operations of calls that no app makes, beside those of apiCall.
const (
	opFindAll = "find_all"
	opList    = "list"
)

// ofAPI describes a call of the API. That a look-up finds nothing is an answer.
func ofAPI(r *http.Request) spanKind {
	call := parsePath(r.URL.EscapedPath())
	operation, template := call.operation, ""
	switch segments := call.segments; {
	case r.Method == http.MethodGet && len(segments) == 3 && segments[0] == "payments" && segments[1] == "findAll":
		operation = opFindAll
	case r.Method == http.MethodGet && len(segments) == 3 && segments[0] == "payments" && segments[1] == "status":
		operation = opList
	case operation == opUnserved || r.Method != call.method:
		operation, template = opOther, otherTemplate(segments)
	case operation == opFind && call.status != "":
		template = apiTemplates[opFind] + "/{payment_status}"
	}
	if template == "" {
		template = apiTemplates[operation]
	}
	kind := spanKind{template: template, own: operationName.String(operation)}
	if r.Method == http.MethodGet {
		kind.expected = http.StatusNotFound
	}
	return kind
}

// otherTemplate is the template of a call that only the option serve lets through. Of its path it
// has only words that the API itself gives a meaning.
func otherTemplate(segments []string) string {
	var known []string
	for i, segment := range segments {
		if i == 0 && slices.Contains(apiRoots, segment) || i == 1 && slices.Contains(fixedWords, strings.ToLower(segment)) {
			known = append(known, segment)
			continue
		}
		known = append(known, "{value}")
	}
	if known == nil {
		return ""
	}
	return "/" + strings.Join(known, "/")
}
