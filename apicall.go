package caddycvs

// This file holds which call of the API a request is, and whether it is a valid one.

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// The operations of calls.
const (
	opIssue    = "issue"
	opVoid     = "void"
	opPayment  = "payment"
	opFind     = "find"
	opToken    = "token"
	opOther    = "other"    // let through by the option serve
	opUnserved = "unserved" // a call of the API that no option lets through, or a path that is no call
)

// apiCall is a request in the API's name space.
type apiCall struct {
	operation   string
	method      string
	path        string // escaped, without a slash at its end
	query       string // without a token
	segments    []string
	impUID      string
	merchantUID string
	status      string
}

// parseCall returns the call that a request is, and whether its path is the API's.
func parseCall(r *http.Request, serve []Serve) (call apiCall, isAPI bool) {
	if !inAPI(r.URL.Path) {
		return apiCall{}, false
	}
	call = parsePath(r.URL.EscapedPath())
	call.query = dropToken(r)
	switch {
	case !call.accepts(r.Method) && call.isLetThrough(r, serve):
		call = apiCall{operation: opOther, method: r.Method, path: call.path, query: call.query, segments: call.segments}
	case call.operation == opUnserved:
		call.method = r.Method
	}
	return call, true
}

// isLetThrough reports whether the option serve lets a call through. An escaped slash stays
// escaped, so that it cannot match a slash of a pattern.
func (c *apiCall) isLetThrough(r *http.Request, serve []Serve) bool {
	if root := c.root(); root == "" || slices.Contains(ownRoots, root) {
		return false
	}
	var unescaped strings.Builder
	for _, segment := range c.segments {
		unescaped.WriteString("/" + strings.ReplaceAll(segment, "/", "%2F"))
	}
	request := r.WithContext(r.Context()) // a copy
	request.URL = &url.URL{Path: unescaped.String()}
	return slices.ContainsFunc(serve, func(s Serve) bool { return s.matches(request) })
}

// apiRoots are the first segments of the API's paths, from its schema and its SDKs. Of
// "users", a name that shops use too, only getToken is the API's.
var apiRoots = []string{
	"authenticate", "banks", "cards", "certifications", "codes", "cvs", "escrows", "kakao",
	"naver", "payco", "payments", "receipts", "subscribe", "users", "vbanks",
}

// ownRoots are the roots below which the option serve can let nothing through: the gateway
// answers every call there.
var ownRoots = []string{"cvs", "users"}

// apiRoot returns the first segment of a path if it is one of the API's. Case and doubled
// slashes do not matter.
func apiRoot(p string) string {
	root, rest, _ := strings.Cut(strings.TrimLeft(strings.ToLower(p), "/"), "/")
	next, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if !slices.Contains(apiRoots, root) || root == "users" && next != "gettoken" {
		return ""
	}
	return root
}

// inAPI reports whether an unescaped path lies in the API's name space, as it is or after a
// server has resolved its dots. All of these paths are answered here: Caddy's empty 200
// would mean success to an app that finds no code in the body.
func inAPI(p string) bool { return apiRoot(p) != "" || apiRoot(path.Clean("/"+p)) != "" }

// fixedWords stand in paths of the API at the place where other paths have an imp_uid.
var fixedWords = []string{"cancel", "find", "findall", "prepare", "status"}

// parsePath reads a path of the API's name space. It splits before it unescapes, so that an
// escaped slash stays inside its segment. A slash at the end has no meaning: the API's own
// schema writes some paths so.
func parsePath(escapedPath string) apiCall {
	call := apiCall{operation: opUnserved, path: strings.TrimSuffix(escapedPath, "/")}
	segments := strings.Split(strings.TrimPrefix(call.path, "/"), "/")
	for i, s := range segments {
		unescaped, err := url.PathUnescape(s)
		if err != nil || unescaped == "" {
			return call
		}
		segments[i] = unescaped
	}
	call.segments = segments
	switch n := len(segments); {
	case n == 1 && segments[0] == "cvs":
		call.operation, call.method = opIssue, http.MethodPost
	case n == 2 && segments[0] == "cvs":
		call.operation, call.method, call.impUID = opVoid, http.MethodDelete, segments[1]
	case n == 2 && segments[0] == "users" && segments[1] == "getToken":
		call.operation, call.method = opToken, http.MethodPost
	case n == 2 && segments[0] == "payments" && !slices.Contains(fixedWords, strings.ToLower(segments[1])):
		call.operation, call.method, call.impUID = opPayment, http.MethodGet, segments[1]
	case (n == 3 || n == 4) && segments[0] == "payments" && segments[1] == "find":
		call.operation, call.method, call.merchantUID = opFind, http.MethodGet, segments[2]
		if n == 4 {
			call.status = segments[3]
		}
	}
	return call
}

// validate refuses a call that is not served, and one that could reach the API as another
// call than the app wrote.
func (c *apiCall) validate(r *http.Request, tier string) error {
	for _, wanted := range r.Header.Values("Tier") {
		if wanted != "" && wanted != tier {
			return badRequest("The field Tier asks for another sub-merchant than this gateway's account, whose tier is " + strconv.Quote(tier) + ": leave it out, or call the gateway of the other account.")
		}
	}
	switch {
	case c.operation == opUnserved:
		return c.notServed(r)
	case !c.accepts(r.Method):
		return &httpError{status: http.StatusMethodNotAllowed, message: "use " + c.method + " here", allow: c.methods()}
	case !c.hasSafePath():
		return badRequest("a value in the path is . or .., or has a control character, and would lead to another call of the API")
	case strings.Contains(r.URL.RawQuery, " "): // possible over HTTP/2; in HTTP/1 it would end the request's target
		return badRequest("the query has a space: write it as %20")
	case c.operation == opIssue && c.query != "": // the app would believe that these fields were sent
		return badRequest("POST /cvs takes its fields in the body, and the URL has a query: nothing was sent")
	}
	return nil
}

// notServed is the error for a call that no option lets through. It is not 404, which PortOne
// answers for an unknown payment: some SDKs treat a 404 as a normal answer, and a refund
// would look done.
func (c *apiCall) notServed(r *http.Request) error {
	name := r.Method + " " + strings.TrimSuffix(r.URL.Path, "/")
	var message string
	switch root := c.root(); {
	case root == "":
		message = strconv.Quote(name) + " is none of PortOne's calls: write the path as PortOne does, such as /cvs, in lower case and without doubled slashes. Nothing was done."
	case slices.Contains(ownRoots, root):
		message = strconv.Quote(name) + " is none of PortOne's calls: there are POST /cvs, DELETE /cvs/{imp_uid} and POST /users/getToken. Nothing was done."
	default:
		message = "The gateway does not serve " + strconv.Quote(name) + ", and nothing was done. If the app is to call it, add \"serve " + name + "\" to cvs_proxy, with * in the place of a value."
	}
	return forbidden(ruleServe, message)
}

// root returns the first segment if the path is written exactly as the API writes it.
func (c *apiCall) root() string {
	if c.segments == nil || !slices.Contains(apiRoots, c.segments[0]) {
		return ""
	}
	return c.segments[0]
}

// accepts reports whether the call can be made by a method. Old SDKs look up by POST.
func (c *apiCall) accepts(method string) bool {
	return method == c.method || method == http.MethodPost && c.method == http.MethodGet
}

// methods are those that the call accepts, as in the header field Allow.
func (c *apiCall) methods() string {
	if c.method == http.MethodGet {
		return http.MethodGet + ", " + http.MethodPost
	}
	return c.method
}

// changes reports whether the call may change something at the API.
func (c *apiCall) changes() bool { return c.method != http.MethodGet && c.method != http.MethodHead }

// isCancel reports whether the call pays money back. Only the option serve lets it through.
func (c *apiCall) isCancel() bool {
	return c.operation == opOther && c.method == http.MethodPost && slices.Equal(c.segments, []string{"payments", "cancel"})
}

// hasSafePath reports whether no server can resolve the path to another one. The call would
// otherwise reach another resource with the merchant's token.
func (c *apiCall) hasSafePath() bool {
	return !slices.ContainsFunc(c.segments, func(segment string) bool {
		return !client.FitsPath(segment) || strings.ContainsFunc(segment, unicode.IsControl)
	})
}

// Old SDKs send their access token here too. It is not passed on.
const (
	tokenParameter = "_token"
	tokenHeader    = "X-Imptokenheader" //nolint:gosec // a name
)

// cutToken removes the token from a query and returns both. The rest of the query stays as
// it was sent.
func cutToken(query string) (rest string, tokens []string) {
	if !strings.Contains(query, tokenParameter) && !strings.Contains(query, "%") {
		return query, nil
	}
	pairs := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || name != tokenParameter {
			return false
		}
		tokens = append(tokens, value)
		return true
	})
	return strings.Join(pairs, "&"), tokens
}

// dropToken returns the query without a token. A request with a token other than the
// placeholder stays out of Caddy's access log, which would print it.
func dropToken(r *http.Request) (query string) {
	query, tokens := cutToken(r.URL.RawQuery)
	tokens = append(tokens, r.Header.Values(tokenHeader)...)
	if slices.ContainsFunc(tokens, func(token string) bool { return token != placeholderToken }) {
		skipAccessLog(r)
	}
	return query
}
