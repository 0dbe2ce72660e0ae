package caddycvs

// This file holds the option serve: which further calls of the API cvs_proxy lets through.

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Serve lets further calls of the API through, such as refunds. In the Caddyfile, "serve all" stands for any
// method and any path.
type Serve struct {
	// Method is an HTTP method in capitals, or "*" for any. Required.
	Method string `json:"method,omitempty"`

	// Path lists paths of the API as in Caddy's path matcher, "*" for any. Paths that are not the API's are refused,
	// and those below /cvs and /users, which the gateway answers itself. Required.
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
