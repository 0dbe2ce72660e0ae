package caddycvs

// This file holds which paths are the API's, and which of its calls cvs_proxy serves.

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// Serve lets further calls of the API through. In the Caddyfile, "serve all" stands
// for any method and any path.
type Serve struct {
	// Method is an HTTP method, "*" for any.
	Method string `json:"method,omitempty"`

	// Path lists paths as in Caddy's path matcher, "*" for any.
	Path caddyhttp.MatchPath `json:"path,omitempty"`
}

var methodPattern = regexp.MustCompile(`^(\*|[A-Z]+)$`)

func (s *Serve) provision(ctx caddy.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	s.Path = slices.Clone(s.Path) // Provision changes it in place
	return s.Path.Provision(ctx)
}

func (s *Serve) check() error {
	if !methodPattern.MatchString(s.Method) {
		return fmt.Errorf("serve: %q is not a method in capitals, such as POST, or * for any", s.Method)
	}
	if len(s.Path) == 0 {
		return errors.New("serve: name the paths of the API, such as /payments/cancel, or * for any")
	}
	for _, pattern := range s.Path {
		switch {
		case pattern == "*" || strings.Contains(pattern, "{"):
		case !strings.HasPrefix(pattern, "/") || !isAPI(strings.TrimSuffix(pattern, "*")):
			return fmt.Errorf("serve: %q is not a path of the API, such as /payments/cancel", pattern)
		case slices.Contains(ownRoots, apiRoot(pattern)):
			return fmt.Errorf("serve: the gateway answers %s itself: leave it out", pattern)
		}
	}
	return nil
}

func (s *Serve) matches(r *http.Request) bool {
	if s.Method != "*" && s.Method != r.Method {
		return false
	}
	matched, err := s.Path.MatchWithError(r)
	return err == nil && matched
}

// apiRoots are the first segments of the API's paths, by its schema and its SDKs. Of
// "users", which shops have too, only getToken is the API's.
var apiRoots = []string{
	"authenticate", "banks", "cards", "certifications", "codes", "cvs", "escrows", "kakao",
	"naver", "payco", "payments", "receipts", "subscribe", "users", "vbanks",
}

// ownRoots are those of which the gateway answers every call itself.
var ownRoots = []string{"cvs", "users"}

// apiRoot returns the first segment of a path if it is one of the API's, in any case
// and behind any number of slashes.
func apiRoot(p string) string {
	root, rest, _ := strings.Cut(strings.TrimLeft(strings.ToLower(p), "/"), "/")
	next, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if !slices.Contains(apiRoots, root) || root == "users" && next != "gettoken" {
		return ""
	}
	return root
}

// isAPI reports whether a path, without escapes, lies in the API's name space, as it is
// or as a server would resolve it. What does is answered here: an empty 200 of Caddy's
// would be success to an app that finds no code in it.
func isAPI(p string) bool { return apiRoot(p) != "" || apiRoot(path.Clean("/"+p)) != "" }

// apiCall is a request in the API's name space.
type apiCall struct {
	operation   string // issue, void, payment, find, token, other or unserved
	method      string
	path        string // escaped, without a slash at its end
	segments    []string
	impUID      string
	merchantUID string
	status      string
}

// unserved is the operation of a call that no option lets through.
const unserved = "unserved"

// fixedWords stand in the API's paths where other calls have an imp_uid.
var fixedWords = []string{"cancel", "find", "findall", "prepare", "status"}

// parseCall reads a path of the API's name space. Its segments are unescaped one by
// one, so that an escaped slash stays inside its segment. A slash at the end means
// nothing: the API's own schema writes some paths so.
func parseCall(escapedPath string) apiCall {
	call := apiCall{operation: unserved, path: strings.TrimSuffix(escapedPath, "/")}
	segments := strings.Split(strings.TrimPrefix(call.path, "/"), "/")
	for i, s := range segments {
		unescaped, err := url.PathUnescape(s)
		if err != nil || unescaped == "" {
			return call
		}
		segments[i] = unescaped
	}
	call.segments = segments
	is := func(operation, method string) { call.operation, call.method = operation, method }
	switch n := len(segments); {
	case n == 1 && segments[0] == "cvs":
		is("issue", http.MethodPost)
	case n == 2 && segments[0] == "cvs":
		is("void", http.MethodDelete)
		call.impUID = segments[1]
	case n == 2 && segments[0] == "users" && segments[1] == "getToken":
		is("token", http.MethodPost)
	case n == 2 && segments[0] == "payments" && !slices.Contains(fixedWords, strings.ToLower(segments[1])):
		is("payment", http.MethodGet)
		call.impUID = segments[1]
	case (n == 3 || n == 4) && segments[0] == "payments" && segments[1] == "find":
		is("find", http.MethodGet)
		call.merchantUID = segments[2]
		if n == 4 {
			call.status = segments[3]
		}
	}
	return call
}

// parseRequest returns the call that a request is, and whether it is one of the API's.
func (p *Proxy) parseRequest(r *http.Request) (apiCall, bool) {
	if !isAPI(r.URL.Path) {
		return apiCall{}, false
	}
	call := parseCall(r.URL.EscapedPath())
	switch {
	case !call.takes(r.Method) && p.serves(r, call):
		return apiCall{operation: "other", method: r.Method, path: call.path, segments: call.segments}, true
	case call.operation == unserved:
		call.method = r.Method
	}
	return call, true
}

// serves reports whether the option serve lets a call through. A slash inside a
// segment cannot be taken for one between two.
func (p *Proxy) serves(r *http.Request, call apiCall) bool {
	if root := call.root(); root == "" || slices.Contains(ownRoots, root) {
		return false
	}
	var plain strings.Builder
	for _, segment := range call.segments {
		plain.WriteString("/" + strings.ReplaceAll(segment, "/", "%2F"))
	}
	asked := r.WithContext(r.Context()) // a copy
	asked.URL = &url.URL{Path: plain.String()}
	return slices.ContainsFunc(p.Serve, func(s Serve) bool { return s.matches(asked) })
}

// root returns the first segment if the path is written as the API writes its own.
func (c *apiCall) root() string {
	if c.segments == nil || !slices.Contains(apiRoots, c.segments[0]) {
		return ""
	}
	return c.segments[0]
}

// takes reports whether a call is made by a method. Old SDKs look up by POST.
func (c *apiCall) takes(method string) bool {
	return method == c.method || method == http.MethodPost && c.method == http.MethodGet
}

// methods are those that a call takes, as in the field Allow.
func (c *apiCall) methods() string {
	if c.takes(http.MethodPost) && c.method != http.MethodPost {
		return c.method + ", " + http.MethodPost
	}
	return c.method
}

// changes reports whether a call may change something at the API.
func (c *apiCall) changes() bool { return c.method != http.MethodGet && c.method != http.MethodHead }

// valid reports whether every value of the path can only mean itself at the
// API: another path would be asked for with the merchant's token.
func (c *apiCall) valid() bool {
	return !slices.ContainsFunc(c.segments, func(segment string) bool {
		return !client.FitsPath(segment) || strings.ContainsFunc(segment, unicode.IsControl)
	})
}

// notServed is the answer to a call that no option lets through. It is not 404, which is
// PortOne's word for a payment that it does not know: there are SDKs that take that for an
// answer like any other, so that a refund would look done.
func (c *apiCall) notServed(r *http.Request) error {
	name := r.Method + " " + strings.TrimSuffix(r.URL.Path, "/")
	var message string
	switch root := c.root(); {
	case root == "":
		message = strconv.Quote(name) + " is none of PortOne's calls: write the path as PortOne does, such as /cvs, in small letters and without doubled slashes. Nothing was done."
	case slices.Contains(ownRoots, root):
		message = strconv.Quote(name) + " is none of PortOne's calls: there are POST /cvs, DELETE /cvs/{imp_uid} and POST /users/getToken. Nothing was done."
	default:
		message = "The gateway does not serve " + strconv.Quote(name) + ", and nothing was done. If the app is to call it, add \"serve " + name + "\" to cvs_proxy, with * in the place of a value."
	}
	return forbidden(ruleServe, message)
}

// Old SDKs put the access token here, too. Neither is passed on.
const (
	tokenParameter = "_token"
	tokenHeader    = "X-Imptokenheader" //nolint:gosec // a name
)

// withoutToken returns a query without the token, which is returned besides. All else
// stays as it came.
func withoutToken(query string) (rest string, tokens []string) {
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

// dropToken returns the query without a token, and has Caddy's access log skip a request
// with one, other than the placeholder, where the log would print it. The line that is
// written here stands in for it.
func dropToken(r *http.Request) (query string) {
	query, tokens := withoutToken(r.URL.RawQuery)
	tokens = append(tokens, r.Header.Values(tokenHeader)...)
	if slices.ContainsFunc(tokens, func(token string) bool { return token != placeholderToken }) {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	return query
}
