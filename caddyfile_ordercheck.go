package caddycvs

// This file holds how the block of an order check, and the route in it, is parsed.

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// unmarshal sets up the order check from its block, with the dispenser at its name. Syntax:
//
//	order_check [<url>] {
//		name    <name>
//		method  POST|GET
//		header  <field> <value>
//		timeout <duration>
//		accept  <status|2xx...>
//		require <path> <value>
//		amount  <path>
//		reason  <path>
//		shadow
//		route {
//			<directives>
//		}
//	}
func (o *OrderCheck) unmarshal(d *caddyfile.Dispenser) error {
	start := *d
	if d.NextArg() {
		o.URL = d.Val()
		if _, err := parseURLTemplate(o.URL, ofCheck); err != nil && !loadTimePlaceholder.MatchString(o.URL) {
			return d.WrapErr(err)
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	err := parseBlock(d, map[string]option{
		"name":      text(&o.Name, nil),
		"method":    text(&o.Method, oneOf("POST", "GET")),
		"timeout":   duration(&o.Timeout, nil),
		"accept":    list(&o.Accept, validateAccept),
		"amount":    text(&o.Amount, nil),
		"reason":    text(&o.Reason, nil),
		"shadow":    toggle(&o.Shadow),
		"transport": {elsewhere: "ask by route { reverse_proxy ... { transport ... } } instead of a URL"},
		"header":    headerFields(&o.Header, ofCheck),
		"require":   requirements(&o.Requirements),
		"route": {parse: func(d *caddyfile.Dispenser) error {
			o.routeSegment = d.NextSegment()
			return nil
		}},
	})
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

// headerFields is the option with a header field of a target.
func headerFields(header *map[string]string, kind *targetKind) option {
	return option{repeats: true, parse: func(d *caddyfile.Dispenser) error {
		var name, value string
		if err := pair(&name, &value).parse(d); err != nil {
			return err
		}
		name = http.CanonicalHeaderKey(name)
		if err := validateHeaderName(name, kind); err != nil {
			return d.WrapErr(err)
		}
		if _, twice := (*header)[name]; twice {
			return d.Errf("header %s is given twice", name)
		}
		if *header == nil {
			*header = make(map[string]string)
		}
		if _, err := parseTemplate(value, kind); err != nil && !loadTimePlaceholder.MatchString(value) {
			return d.WrapErr(err)
		}
		(*header)[name] = value
		return nil
	}}
}

// requirements is the option with a condition on a JSON answer.
func requirements(list *[]Requirement) option {
	return option{repeats: true, parse: func(d *caddyfile.Dispenser) error {
		var r Requirement
		if err := pair(&r.Path, &r.Value).parse(d); err != nil {
			return err
		}
		if r.Path == "" {
			return d.Err("require needs a path")
		}
		*list = append(*list, r)
		return nil
	}}
}

// parseRoute parses a route block as Caddy's own directive route does, which keeps the order
// of its directives. For that the segment is put into a block of its own.
func parseRoute(h httpcaddyfile.Helper, segment caddyfile.Segment) (caddyhttp.RouteList, error) {
	first, last := segment[0], segment[len(segment)-1]
	token := func(text string, line int) caddyfile.Token {
		return caddyfile.Token{File: first.File, Line: line, Text: text}
	}
	enclosed := caddyfile.NewDispenser(slices.Concat(
		caddyfile.Segment{token("order_check", first.Line-1), token("{", first.Line-1)},
		segment,
		caddyfile.Segment{token("}", last.Line+1)},
	))
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(h.WithDispenser(enclosed))
	if err != nil {
		return nil, err
	}
	at := caddyfile.NewDispenser(segment)
	at.Next()
	outer := handler.(*caddyhttp.Subroute).Routes
	if len(outer) != 1 || outer[0].MatcherSetsRaw != nil {
		return nil, at.Err("the route of an order check takes no matcher: put matchers inside")
	}
	var route caddyhttp.Subroute
	if err := json.Unmarshal(outer[0].HandlersRaw[0], &route); err != nil {
		return nil, at.WrapErr(err)
	}
	if len(route.Routes) == 0 {
		return nil, at.Err("the route has no handler")
	}
	return route.Routes, nil
}

// FinalizeUnmarshalCaddyfile parses the routes of the order checks, whose directives only a
// site's helper knows.
func (c *Confirm) FinalizeUnmarshalCaddyfile(h httpcaddyfile.Helper) (err error) {
	for _, check := range c.OrderChecks {
		if check.routeSegment == nil {
			continue
		}
		if check.Route, err = parseRoute(h, check.routeSegment); err != nil {
			return err
		}
	}
	return nil
}
