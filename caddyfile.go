package caddycvs

// This file holds how a Caddyfile is parsed: the global option cvs and the directives.

import (
	"encoding/json"
	"strings"

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
	httpcaddyfile.RegisterDirective("cvs_notice", parseNoticeRoutes)
	httpcaddyfile.RegisterHandlerDirective("cvs_barcode", parseBarcode)
	httpcaddyfile.RegisterHandlerDirective("cvs_sandbox", parseSandbox)
	// Before every directive that changes or answers a request: after the rewrite or
	// try_files of a front controller, the shop's own 200 would accept the payment, or acknowledge the
	// notice.
	for _, directive := range []string{"cvs_confirm", "cvs_notice"} {
		httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "redir")
	}
	// After basic_auth and forward_auth; before handle and route, so that a catch-all of the
	// shop does not answer the API's paths, or get a barcode's number. cvs_sandbox is the last: it
	// answers everything.
	for _, directive := range []string{"cvs_proxy", "cvs_barcode", "cvs_sandbox"} {
		httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "invoke")
	}
}

// parseApp parses the global option.
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("the global option cvs is given twice: put all accounts into one")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "cvs", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets up the app from the global option. Syntax:
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
//		ledger [<path>|postgres <dsn>|mysql <dsn>|off] {
//			keep    <duration>
//			on_down issue|refuse
//			from    <path>|postgres <dsn>|mysql <dsn>
//		}
//		metrics {
//			per_account
//		}
//	}
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	start := *d
	opts := a.Account.options()
	opts["account"] = option{repeats: true, parse: a.unmarshalAccount}
	opts["ledger"] = option{parse: a.unmarshalLedger}
	opts["metrics"] = option{parse: a.unmarshalMetrics}
	if d.NextArg() {
		return d.ArgErr()
	}
	if err := parseBlock(d, opts); err != nil {
		return err
	}
	if a.Account.empty() && len(a.Accounts) > 0 {
		return nil
	}
	return a.Account.validateKeys(&start)
}

func (a *App) unmarshalAccount(d *caddyfile.Dispenser) error {
	start := *d
	var name string
	if err := text(&name, validateAccountName).parse(d); err != nil {
		return err
	}
	if a.Accounts[name] != nil {
		return d.Errf("account %s is given twice", name)
	}
	acc := new(Account)
	if a.Accounts == nil {
		a.Accounts = make(map[string]*Account)
	}
	a.Accounts[name] = acc
	if err := parseBlock(d, acc.options()); err != nil {
		return err
	}
	return acc.validateKeys(&start)
}

func (a *App) unmarshalLedger(d *caddyfile.Dispenser) error {
	start := *d
	a.Ledger = new(Ledger)
	if words := d.RemainingArgs(); len(words) > 0 {
		if err := a.Ledger.set("ledger", words); err != nil {
			return d.WrapErr(err)
		}
	}
	err := parseBlock(d, map[string]option{
		"keep":    duration(&a.Ledger.Keep, validateKeep),
		"on_down": text(&a.Ledger.OnDown, oneOf(onDownIssue, onDownRefuse)),
		"from":    {parse: a.Ledger.unmarshalFrom},
	})
	if err != nil {
		return err
	}
	if err := a.Ledger.validate(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

func (a *App) unmarshalMetrics(d *caddyfile.Dispenser) error {
	a.Metrics = new(Metrics)
	if d.NextArg() {
		return d.ArgErr()
	}
	return parseBlock(d, map[string]option{"per_account": toggle(&a.Metrics.PerAccount)})
}

// unmarshalFrom parses the place where the ledger was before. Its mistakes are those of its line.
func (l *Ledger) unmarshalFrom(d *caddyfile.Dispenser) error {
	words := d.RemainingArgs()
	if len(words) == 0 {
		return d.ArgErr()
	}
	l.From = new(LedgerPlace)
	if err := l.From.set("from", words); err != nil {
		return d.WrapErr(err)
	}
	if err := l.validateFrom(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *Account) options() map[string]option {
	return map[string]option{
		"ledger":      {elsewhere: "it belongs to the global option cvs, outside of its accounts, which share one ledger"},
		"metrics":     {elsewhere: "it belongs to the global option cvs, outside of its accounts"},
		"imp_key":     text(&c.ImpKey, validateSecret("imp_key")),
		"imp_secret":  text(&c.ImpSecret, validateSecret("imp_secret")),
		"api":         text(&c.API, unlessPlaceholder(func(s string) error { _, err := client.ParseAPI(s); return err })),
		"tier":        text(&c.Tier, validateTier),
		"signing_key": list(&c.SigningKey, validateSecret("signing_key")),
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

// validateKeys reports a missing key at the place where the account begins.
func (c *Account) validateKeys(start *caddyfile.Dispenser) error {
	if err := validateSecret("imp_key")(c.ImpKey); err != nil {
		return start.WrapErr(err)
	}
	if err := validateSecret("imp_secret")(c.ImpSecret); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

func parseProxy(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := new(Proxy)
	return p, p.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from the directive. Syntax:
//
//	cvs_proxy [<matcher>] {
//		account     <name>
//		allow       <ip|cidr|private_ranges...>
//		pg          <code>
//		channel_key <key>
//		confirm_url <url>
//		notice_url  <url>
//		expires_in  <duration>
//		repeat      reuse|pass
//		serve       <method> <path...>
//		serve       all
//		max_body    <size>
//	}
func (p *Proxy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	validateURL := unlessPlaceholder(func(s string) error { _, err := signedurl.ParseBase(s); return err })
	return parseDirective(d, withAccountOptions(map[string]option{
		"account":     text(&p.Account, validateAccountName),
		"allow":       list(&p.Allow, validateCaller),
		"pg":          text(&p.PG, unlessPlaceholder(client.ValidatePG)),
		"channel_key": text(&p.ChannelKey, nil),
		"confirm_url": text(&p.ConfirmURL, validateURL),
		"notice_url":  text(&p.NoticeURL, validateURL),
		"expires_in":  duration(&p.ExpiresIn, nil),
		"repeat":      text(&p.Repeat, oneOf(repeatReuse, repeatPass)),
		"serve":       {repeats: true, parse: p.unmarshalServe},
		"max_body":    size(&p.MaxBody),
	}))
}

func (p *Proxy) unmarshalServe(d *caddyfile.Dispenser) error {
	s := Serve{Method: "*", Path: caddyhttp.MatchPath{"*"}}
	if args := d.RemainingArgs(); len(args) != 1 || args[0] != "all" {
		if len(args) < 2 {
			return d.Err("serve takes a method and paths of the API, such as serve POST /payments/cancel, or all")
		}
		s = Serve{Method: args[0], Path: args[1:]}
	}
	if err := s.validate(); err != nil {
		return d.WrapErr(err)
	}
	p.Serve = append(p.Serve, s)
	return nil
}

// extractMatchers returns the matchers of a directive that receives webhooks, nil if it has none. A
// path that is given as the matcher also matches with a slash at its end. Caddy's matcher itself
// ignores case and doubled slashes.
func extractMatchers(h httpcaddyfile.Helper) (caddy.ModuleMap, error) {
	h.Next()
	isPath := h.NextArg() && strings.HasPrefix(h.Val(), "/")
	h.Reset()
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil || !isPath {
		return matchers, err
	}
	var paths caddyhttp.MatchPath
	if err := json.Unmarshal(matchers["path"], &paths); err != nil {
		return nil, h.WrapErr(err)
	}
	matchers["path"] = caddyconfig.JSON(withSlash(paths), nil)
	return matchers, nil
}

// parseConfirmRoutes makes two routes of the cvs_confirm directive: its own, and after it
// one for webhooks that miss it.
func parseConfirmRoutes(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	matchers, err := extractMatchers(h)
	if err != nil {
		return nil, err
	}
	confirm, err := parseConfirm(h)
	if err != nil {
		return nil, err
	}
	if matchers == nil { // every request reaches it
		return h.NewRoute(nil, confirm), nil
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

func parseConfirm(h httpcaddyfile.Helper) (*Confirm, error) {
	c := new(Confirm)
	if err := c.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return c, c.FinalizeUnmarshalCaddyfile(h)
}

// UnmarshalCaddyfile sets up the handler from the directive. Routes of order checks need
// FinalizeUnmarshalCaddyfile afterwards. Syntax:
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
func (c *Confirm) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	start := *d
	start.Next()
	err := parseDirective(d, withAccountOptions(map[string]option{
		"account":  text(&c.Account, validateAccountName),
		"timeout":  duration(&c.Timeout, validateConfirmTimeout),
		"unsigned": text(&c.Unsigned, oneOf("lookup", "reject", "allow")),
		"on_error": text(&c.OnError, oneOf("reject", "accept")),
		"allow":    list(&c.Allow, validateRange),
		"order_check": {repeats: true, parse: func(d *caddyfile.Dispenser) error {
			check := new(OrderCheck)
			c.OrderChecks = append(c.OrderChecks, check)
			return check.unmarshal(d)
		}},
	}))
	if err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

func parseSandbox(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	s := new(Sandbox)
	return s, s.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile sets up the handler from the directive. Syntax:
//
//	cvs_sandbox [<matcher>] {
//		imp_key    <placeholder>
//		imp_secret <placeholder>
//		webhooks   private|any
//		channel    test|live
//		fractions  refuse|keep|round
//		cancel_notices
//		notices    json|form
//	}
func (s *Sandbox) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	start := *d
	start.Next()
	err := parseDirective(d, map[string]option{
		"imp_key":    text(&s.ImpKey, validateSecret("imp_key")),
		"imp_secret": text(&s.ImpSecret, validateSecret("imp_secret")),
		"webhooks":   text(&s.Webhooks, oneOf(webhookWords...)),
		"channel":    text(&s.Channel, oneOf(channelWords...)),
		"fractions":  text(&s.Fractions, oneOf(fractionWords...)),
		"notices":    text(&s.Notices, oneOf(noticeWords...)),

		"cancel_notices": toggle(&s.CancelNotices),
	})
	if err != nil {
		return err
	}
	if err := s.validate(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Proxy)(nil)
	_ caddyfile.Unmarshaler = (*Confirm)(nil)
	_ caddyfile.Unmarshaler = (*Sandbox)(nil)
)
