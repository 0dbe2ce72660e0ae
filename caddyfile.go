package caddycvs

// This file holds the parsing of the Caddyfile: the global option cvs and the
// directives.

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("cvs", parseApp)
	httpcaddyfile.RegisterHandlerDirective("cvs_proxy", parseProxy)
	httpcaddyfile.RegisterDirective("cvs_confirm", parseConfirmRoutes)
	httpcaddyfile.RegisterHandlerDirective("cvs_sandbox", parseSandbox)
	// Before all that changes a request or answers it: after the rewrite or try_files of
	// a front controller, the shop's own 200 would accept the payment.
	httpcaddyfile.RegisterDirectiveOrder("cvs_confirm", httpcaddyfile.Before, "redir")
	// Behind basic_auth and forward_auth; before handle and route, so that a catch-all of
	// the shop does not swallow the API's paths.
	for _, directive := range []string{"cvs_proxy", "cvs_sandbox"} {
		httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "invoke")
	}
}

// parseApp parses the global option. Syntax:
//
//	cvs {
//		imp_key     <placeholder>
//		imp_secret  <placeholder>
//		api         <address>
//		tier        <code>
//		signing_key <placeholder...>
//		timeout     <duration>
//		transport   <name> {
//			...
//		}
//		account <name> {
//			<any of the above>
//		}
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next()
	if existing != nil {
		return nil, d.Err("the global option cvs is given twice: put all accounts into one")
	}
	start := *d
	app := new(App)
	opts := app.Account.options()
	opts["account"] = option{repeats: true, parse: func(d *caddyfile.Dispenser) error {
		start := *d
		var name string
		if err := text(&name, checkAccountName).parse(d); err != nil {
			return err
		}
		if app.Accounts[name] != nil {
			return d.Errf("account %s is given twice", name)
		}
		acc := new(Account)
		if app.Accounts == nil {
			app.Accounts = make(map[string]*Account)
		}
		app.Accounts[name] = acc
		if err := parseBlock(d, acc.options()); err != nil {
			return err
		}
		return acc.checkKeys(&start)
	}}
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	if err := parseBlock(d, opts); err != nil {
		return nil, err
	}
	if !app.Account.empty() || len(app.Accounts) == 0 {
		if err := app.Account.checkKeys(&start); err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: "cvs", Value: caddyconfig.JSON(app, nil)}, nil
}

func (c *Account) options() map[string]option {
	return map[string]option{
		"imp_key":     text(&c.ImpKey, checkSecret("imp_key")),
		"imp_secret":  text(&c.ImpSecret, checkSecret("imp_secret")),
		"api":         text(&c.API, unlessPlaceholder(func(s string) error { _, err := client.ParseAPI(s); return err })),
		"tier":        text(&c.Tier, checkTier),
		"signing_key": list(&c.SigningKey, checkSecret("signing_key")),
		"timeout":     duration(&c.Timeout, nil),
		"transport": {parse: func(d *caddyfile.Dispenser) error {
			if !d.NextArg() {
				return d.ArgErr()
			}
			name := d.Val()
			if d.CountRemainingArgs() > 0 {
				return d.Errf("transport %s takes no arguments, only a block", name)
			}
			mod, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport."+name)
			if err != nil {
				return err
			}
			c.TransportRaw = caddyconfig.JSONModuleObject(mod, "protocol", name, nil)
			return nil
		}},
	}
}

// checkKeys reports a missing key at the place where the account begins.
func (c *Account) checkKeys(start *caddyfile.Dispenser) error {
	if err := checkSecret("imp_key")(c.ImpKey); err != nil {
		return start.WrapErr(err)
	}
	if err := checkSecret("imp_secret")(c.ImpSecret); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

// parseProxy parses the cvs_proxy directive. Syntax:
//
//	cvs_proxy [<matcher>] {
//		account     <name>
//		allow       <ip|cidr|private_ranges...>
//		pg          <code>
//		channel_key <key>
//		confirm_url <url>
//		notice_url  <url>
//		expires_in  <duration>
//		serve       <method> <path...>
//		serve       all
//		max_body    <size>
//	}
func parseProxy(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := new(Proxy)
	checkURL := unlessPlaceholder(func(s string) error { _, err := signedurl.ParseBase(s); return err })
	return p, parseDirective(h, ofAccount(map[string]option{
		"account":     text(&p.Account, checkAccountName),
		"allow":       list(&p.Allow, checkCaller),
		"pg":          text(&p.PG, unlessPlaceholder(client.CheckPG)),
		"channel_key": text(&p.ChannelKey, nil),
		"confirm_url": text(&p.ConfirmURL, checkURL),
		"notice_url":  text(&p.NoticeURL, checkURL),
		"expires_in":  duration(&p.ExpiresIn, nil),
		"serve":       {repeats: true, parse: p.parseServe},
		"max_body":    size(&p.MaxBody),
	}))
}

func (p *Proxy) parseServe(d *caddyfile.Dispenser) error {
	s := Serve{Method: "*", Path: caddyhttp.MatchPath{"*"}}
	if args := d.RemainingArgs(); len(args) != 1 || args[0] != "all" {
		if len(args) < 2 {
			return d.Err("serve takes a method and paths of the API, such as serve POST /payments/cancel, or all")
		}
		s = Serve{Method: args[0], Path: args[1:]}
	}
	if err := s.check(); err != nil {
		return d.WrapErr(err)
	}
	p.Serve = append(p.Serve, s)
	return nil
}

// parseConfirmRoutes makes two routes of the cvs_confirm directive: its own, and behind
// it one for webhooks that miss it. A path that is given as the matcher is taken with a
// slash behind it, too; other case and doubled slashes Caddy's matcher takes itself.
func parseConfirmRoutes(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	isPath := h.NextArg() && strings.HasPrefix(h.Val(), "/")
	h.Reset()
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	confirm, err := parseConfirm(h)
	if err != nil || matchers == nil { // without a matcher nothing misses it
		return h.NewRoute(matchers, confirm), err
	}
	if isPath {
		var paths caddyhttp.MatchPath
		if err := json.Unmarshal(matchers["path"], &paths); err != nil {
			return nil, h.WrapErr(err)
		}
		matchers["path"] = caddyconfig.JSON(withSlash(paths), nil)
	}
	return append(h.NewRoute(matchers, confirm), h.NewRoute(nil, new(Unrouted))...), nil
}

// withSlash adds the other spelling of a path, with or without a slash at its end.
func withSlash(paths caddyhttp.MatchPath) caddyhttp.MatchPath {
	path := paths[0]
	switch trimmed := strings.TrimSuffix(path, "/"); {
	case strings.HasSuffix(path, "*") || trimmed == "":
		return paths
	case trimmed != path:
		return append(paths, trimmed)
	default:
		return append(paths, path+"/")
	}
}

// parseConfirm parses the cvs_confirm directive. Syntax:
//
//	cvs_confirm [<matcher>] {
//		account  <name>
//		timeout  <duration>
//		unsigned lookup|reject|allow
//		on_error reject|accept
//		allow    <ip|cidr|private_ranges|portone...>
//		order_check [<url>] {
//			...
//		}
//	}
func parseConfirm(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := new(Confirm)
	start := *h.Dispenser
	start.Next()
	err := parseDirective(h, ofAccount(map[string]option{
		"account":  text(&c.Account, checkAccountName),
		"timeout":  duration(&c.Timeout, checkTimeout),
		"unsigned": text(&c.Unsigned, oneOf("lookup", "reject", "allow")),
		"on_error": text(&c.OnError, oneOf("reject", "accept")),
		"allow":    list(&c.Allow, checkRange),
		"order_check": {repeats: true, parse: func(d *caddyfile.Dispenser) error {
			check, err := parseOrderCheck(h, d)
			c.OrderChecks = append(c.OrderChecks, check)
			return err
		}},
	}))
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, start.WrapErr(err)
	}
	return c, nil
}

// parseOrderCheck parses an order check. Syntax:
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
func parseOrderCheck(h httpcaddyfile.Helper, d *caddyfile.Dispenser) (*OrderCheck, error) {
	o := new(OrderCheck)
	start := *d
	if d.NextArg() {
		o.URL = d.Val()
		if _, err := parseURLTemplate(o.URL); err != nil && !loadTimePlaceholder.MatchString(o.URL) {
			return nil, d.WrapErr(err)
		}
	}
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	err := parseBlock(d, map[string]option{
		"name":      text(&o.Name, nil),
		"method":    text(&o.Method, oneOf("POST", "GET")),
		"timeout":   duration(&o.Timeout, nil),
		"accept":    list(&o.Accept, checkAccept),
		"amount":    text(&o.Amount, nil),
		"reason":    text(&o.Reason, nil),
		"shadow":    toggle(&o.Shadow),
		"transport": {elsewhere: "ask by route { reverse_proxy ... { transport ... } } instead of a URL"},
		"header": {repeats: true, parse: func(d *caddyfile.Dispenser) error {
			var name, value string
			if err := pair(&name, &value).parse(d); err != nil {
				return err
			}
			name = http.CanonicalHeaderKey(name)
			if err := checkHeaderName(name); err != nil {
				return d.WrapErr(err)
			}
			if _, twice := o.Header[name]; twice {
				return d.Errf("header %s is given twice", name)
			}
			if o.Header == nil {
				o.Header = make(map[string]string)
			}
			if _, err := parseTemplate(value); err != nil && !loadTimePlaceholder.MatchString(value) {
				return d.WrapErr(err)
			}
			o.Header[name] = value
			return nil
		}},
		"require": {repeats: true, parse: func(d *caddyfile.Dispenser) error {
			var r Requirement
			if err := pair(&r.Path, &r.Value).parse(d); err != nil {
				return err
			}
			if r.Path == "" {
				return d.Err("require needs a path")
			}
			o.Require = append(o.Require, r)
			return nil
		}},
		"route": {parse: func(d *caddyfile.Dispenser) error {
			var err error
			o.Route, err = parseRoute(h, d.NextSegment())
			return err
		}},
	})
	if err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, start.WrapErr(err)
	}
	return o, nil
}

// parseRoute parses a route block as Caddy's own route does, which keeps the
// order in which its directives are written. For that it is put into a block of
// its own.
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

// loadTimePlaceholder matches what only the machine that loads the
// configuration can expand. Without it a template is checked when it is parsed.
var loadTimePlaceholder = regexp.MustCompile(`\{(env|file|system)\.[^{}]*\}`)

// option is how one option of a block is parsed. The dispenser stands at the
// option's name.
type option struct {
	parse     func(*caddyfile.Dispenser) error
	repeats   bool
	elsewhere string // where it belongs, if not here
}

func parseDirective(h httpcaddyfile.Helper, opts map[string]option) error {
	h.Next()
	if h.NextArg() {
		return h.ArgErr()
	}
	return parseBlock(h.Dispenser, opts)
}

func parseBlock(d *caddyfile.Dispenser, opts map[string]option) error {
	seen := make(map[string]bool, len(opts))
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		opt, known := opts[name]
		if name == "{" {
			return d.Err("unexpected block: this option takes none")
		}
		if opt.elsewhere != "" {
			return d.Errf("%s is not an option of this block: %s", name, opt.elsewhere)
		}
		if !known {
			return d.Errf("unrecognized option %s; there are: %s", name, strings.Join(optionNames(opts), ", "))
		}
		if seen[name] && !opt.repeats {
			return d.Errf("%s is given twice", name)
		}
		seen[name] = true
		if err := opt.parse(d); err != nil {
			return err
		}
	}
	return nil
}

func optionNames(opts map[string]option) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(opts)), func(name string) bool { return opts[name].elsewhere != "" })
}

// ofAccount adds the options of an account, which stand in the global option, to those of
// a handler.
func ofAccount(opts map[string]option) map[string]option {
	for name := range new(Account).options() {
		if _, taken := opts[name]; !taken {
			opts[name] = option{elsewhere: "it belongs to the global option cvs, or to an account in it"}
		}
	}
	return opts
}

// text is an option with one argument, which check, if there is one, accepts.
func text(target *string, check func(string) error) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if !d.NextArg() {
			return d.ArgErr()
		}
		*target = d.Val()
		if *target == "" {
			return d.Errf("%s is empty", name)
		}
		if check != nil {
			if err := check(*target); err != nil {
				return d.WrapErr(err)
			}
		}
		if d.NextArg() {
			return d.ArgErr()
		}
		return nil
	}}
}

// pair is an option with two arguments.
func pair(first, second *string) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		if !d.AllArgs(first, second) {
			return d.ArgErr()
		}
		return nil
	}}
}

// list is an option with one argument or more.
func list(target *[]string, check func(string) error) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		*target = d.RemainingArgs()
		if len(*target) == 0 {
			return d.ArgErr()
		}
		for _, value := range *target {
			if err := check(value); err != nil {
				return d.WrapErr(err)
			}
		}
		return nil
	}}
}

// toggle is an option without arguments.
func toggle(target *bool) option {
	return option{parse: func(d *caddyfile.Dispenser) error {
		*target = true
		if d.NextArg() {
			return d.ArgErr()
		}
		return nil
	}}
}

// duration is an option with a positive length of time.
func duration(target *caddy.Duration, check func(caddy.Duration) error) option {
	var raw string
	return text(&raw, func(s string) error {
		value, err := caddy.ParseDuration(s)
		if err != nil || value <= 0 {
			return fmt.Errorf("%q is not a positive duration such as 500ms, 4s or 72h", s)
		}
		if *target = caddy.Duration(value); check != nil {
			return check(*target)
		}
		return nil
	})
}

// size is an option with a number of bytes.
func size(target *int64) option {
	var raw string
	return text(&raw, func(s string) error {
		value, err := humanize.ParseBytes(s)
		if err != nil || value == 0 || value > 1<<30 {
			return fmt.Errorf("%q is not a size such as 64KB, at most 1GiB", s)
		}
		*target = int64(value)
		return nil
	})
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("%q is none of: %s", s, strings.Join(words, ", "))
		}
		return nil
	}
}

// unlessPlaceholder leaves a value with placeholders to Provision.
func unlessPlaceholder(check func(string) error) func(string) error {
	return func(s string) error {
		if strings.Contains(s, "{") {
			return nil
		}
		return check(s)
	}
}
