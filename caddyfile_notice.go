package caddycvs

// This file holds how the directive cvs_notice and its block tell are parsed.

import (
	"fmt"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseNoticeRoutes makes the route of the cvs_notice directive.
func parseNoticeRoutes(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	matchers, err := extractMatchers(h)
	if err != nil {
		return nil, err
	}
	n := new(Notice)
	if err := n.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(matchers, n), nil
}

// UnmarshalCaddyfile sets up the handler from the directive. Syntax:
//
//	cvs_notice [<matcher>] {
//		account     <name>
//		tell <url> {
//			...
//		}
//		events      paid|cancelled|expired...
//		retry       <duration>
//		concurrency <number>
//		intervals   <duration...>
//		sweep       <duration>|off
//		sandbox     reject|allow
//	}
func (n *Notice) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	start := *d
	start.Next()
	err := parseDirective(d, withAccountOptions(map[string]option{
		"account":     text(&n.Account, validateAccountName),
		"tell":        {parse: n.unmarshalTell},
		"events":      list(&n.Events, oneOf(tellEvents...)),
		"retry":       duration(&n.Retry, func(d caddy.Duration) error { return validateDuration("retry", d, minTellRetry) }),
		"concurrency": count(&n.Concurrency),
		"intervals":   durations(&n.Intervals, validateInterval),
		"sweep":       text(&n.Sweep, func(s string) error { _, err := parseSweep(s); return err }),
		"sandbox":     text(&n.Sandbox, oneOf(sandboxReject, sandboxAllow)),
	}))
	if err != nil {
		return err
	}
	if err := n.validate(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

func (n *Notice) unmarshalTell(d *caddyfile.Dispenser) error {
	n.Tell = new(Tell)
	return n.Tell.unmarshal(d)
}

// unmarshal sets up the tell from its block, with the dispenser at its name. Syntax:
//
//	tell <url> {
//		header  <field> <value>
//		timeout <duration>
//		accept  <status|2xx...>
//		require <path> <value>
//		as      json|form
//		secret  <placeholder...>
//	}
func (t *Tell) unmarshal(d *caddyfile.Dispenser) error {
	start := *d
	if !d.NextArg() {
		return d.ArgErr()
	}
	t.URL = d.Val()
	if _, err := parseURLTemplate(t.URL, ofTell); err != nil && !loadTimePlaceholder.MatchString(t.URL) {
		return d.WrapErr(err)
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	err := parseBlock(d, map[string]option{
		"header":    headerFields(&t.Header, ofTell),
		"timeout":   duration(&t.Timeout, nil),
		"accept":    list(&t.Accept, validateAccept),
		"require":   requirements(&t.Requirements),
		"as":        text(&t.As, oneOf(asJSON, asForm)),
		"secret":    list(&t.Secret, validateSecret("secret")),
		"route":     {elsewhere: "a tell's target is a URL: give the app a site of its own, bound to 127.0.0.1, and name that"},
		"transport": {elsewhere: "a tell's target is a URL: give the app a site of its own, with reverse_proxy and its transport, and name that"},
	})
	if err != nil {
		return err
	}
	if err := t.validate(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

// count is an option with a positive number.
func count(target *int) option {
	var raw string
	return text(&raw, func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a positive number such as 8", s)
		}
		*target = n
		return nil
	})
}

// durations is an option with one length of time or more.
func durations(target *[]caddy.Duration, validate func(caddy.Duration) error) option {
	var raw []string
	return list(&raw, func(s string) error {
		value, err := caddy.ParseDuration(s)
		if err != nil || value <= 0 {
			return fmt.Errorf("%q is not a positive duration such as 500ms, 4s or 72h", s)
		}
		*target = append(*target, caddy.Duration(value))
		return validate(caddy.Duration(value))
	})
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Notice)(nil)
