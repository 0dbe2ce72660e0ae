package caddycvs

// This file holds the option serve: which further calls of the API cvs_proxy lets through.

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
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
	if err := s.validate(); err != nil {
		return err
	}
	s.Path = slices.Clone(s.Path) // Provision changes it in place
	return s.Path.Provision(ctx)
}

func (s *Serve) validate() error {
	if !methodPattern.MatchString(s.Method) {
		return fmt.Errorf("serve: %q is not a method in capitals, such as POST, or * for any", s.Method)
	}
	if len(s.Path) == 0 {
		return errors.New("serve: name the paths of the API, such as /payments/cancel, or * for any")
	}
	for _, pattern := range s.Path {
		switch {
		case pattern == "*" || strings.Contains(pattern, "{"):
		case !strings.HasPrefix(pattern, "/") || !inAPI(strings.TrimSuffix(pattern, "*")):
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

// serves reports whether the option serve lets a call through. An escaped slash stays
// escaped, so that it cannot match a slash of a pattern.
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

// notServed is the error for a call that no option lets through. It is not 404, which PortOne
// answers for an unknown payment: some SDKs treat a 404 as a normal answer, and a refund
// would look done.
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
