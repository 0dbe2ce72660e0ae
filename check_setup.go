package caddycvs

// This file holds the set-up that `caddy cvs check` inspects: a configuration that is loaded as Caddy loads
// it, but not started, and where the handlers of this module stand in it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/filestorage"
)

// setup is a configuration that is inspected.
type setup struct {
	config   *caddy.Config
	apps     map[string]json.RawMessage // as written, without defaults
	storage  json.RawMessage            // likewise: Caddy forgets it when it loads the configuration
	app      *App
	http     *caddyhttp.App
	proxies  []placed[*Proxy]
	confirms []placed[*Confirm]
	notices  []placed[*Notice]
}

// placed is a handler and where it stands.
type placed[H caddyhttp.MiddlewareHandler] struct {
	handler H
	*position
}

// position is where a handler stands.
type position struct {
	serverName string
	server     *caddyhttp.Server
	routes     []caddyhttp.Route // that lead to it, the outermost first
	before     []earlier
}

// earlier is a handler that stands before another one.
type earlier struct {
	handler caddyhttp.MiddlewareHandler
	always  bool // every request passes it that reaches the other one
}

var errNoCVS = errors.New(`the configuration has no global option "cvs": nothing of this module would run; name another configuration with --config`)

// loadSetup loads an adapted configuration. Its error is one that Caddy would have when it loads the
// configuration, or errNoCVS. Nothing is started, opened or locked, and no log file is written.
func loadSetup(adapted []byte, provision func(*caddy.Config) (caddy.Context, error)) (*setup, error) {
	s := &setup{config: new(caddy.Config)}
	if err := json.Unmarshal(adapted, s.config); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	s.storage = slices.Clone(s.config.StorageRaw)
	s.apps = make(map[string]json.RawMessage)
	for name, raw := range s.config.AppsRaw {
		s.apps[name] = slices.Clone(raw)
	}
	if s.apps["cvs"] == nil && !strings.Contains(string(adapted), `"cvs_`) {
		return nil, errNoCVS
	}
	s.config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		caddy.DefaultLoggerName: {BaseLog: caddy.BaseLog{WriterRaw: json.RawMessage(`{"output":"discard"}`)}},
	}}
	defer s.replaceStorage()()
	ctx, err := provision(s.config)
	if err != nil {
		return nil, err
	}
	if s.app, err = loadApp(ctx); err != nil {
		return nil, err
	}
	loaded, err := ctx.App("http")
	if err != nil {
		return nil, err
	}
	s.http = loaded.(*caddyhttp.App)
	for name, server := range s.http.Servers {
		f := &finder{setup: s, walk: newWalk(server)}
		f.visit(routesOf(server), &position{serverName: name, server: server})
	}
	s.sort()
	return s, nil
}

// replaceStorage puts an empty directory in the place of the one where Caddy keeps certificates: for tls internal,
// Caddy would make a certificate authority there, with keys of whoever runs the check. The caller must call remove.
func (s *setup) replaceStorage() (remove func()) {
	if module := storageModule(s.storage); module != "" && module != fileStorage {
		return func() {}
	}
	directory, err := os.MkdirTemp("", "cvs-check-*")
	if err != nil { // in a container whose files cannot be written: neither can the storage, as a rule
		return func() {}
	}
	s.config.StorageRaw = caddyconfig.JSONModuleObject(filestorage.FileStorage{Root: directory}, "module", fileStorage, nil)
	return func() { _ = os.RemoveAll(directory) }
}

const fileStorage = "file_system" // the default

// storageModule returns which storage is configured, "" for none.
func storageModule(raw json.RawMessage) string { return gjson.GetBytes(raw, "module").Str }

// sort puts the handlers in an order that is the same in each run.
func (s *setup) sort() {
	slices.SortStableFunc(s.proxies, func(a, b placed[*Proxy]) int { return strings.Compare(a.serverName, b.serverName) })
	slices.SortStableFunc(s.confirms, func(a, b placed[*Confirm]) int { return strings.Compare(a.serverName, b.serverName) })
	slices.SortStableFunc(s.notices, func(a, b placed[*Notice]) int { return strings.Compare(a.serverName, b.serverName) })
}

// finder finds the handlers of this module in a server's routes.
type finder struct {
	*walk
	setup *setup
}

// visit visits routes, and returns the handlers that stand before what follows them.
func (f *finder) visit(routes caddyhttp.RouteList, at *position) []earlier {
	var passed []earlier
	group := make(map[string][]earlier) // handlers of the routes of a group, of which one is taken
	for _, route := range routes {
		before := append(slices.Clone(at.before), passed...)
		for name, own := range group {
			if name != route.Group {
				before = append(before, own...)
			}
		}
		here := &position{at.serverName, at.server, append(slices.Clone(at.routes), route), before}
		always := matchesAll(route) && route.Group == ""
		var own []earlier
		for _, handler := range route.Handlers {
			f.note(handler, here)
			inner := append(f.visit(f.inner(handler), here), earlier{handler, true})
			here = &position{here.serverName, here.server, here.routes, append(slices.Clone(here.before), inner...)}
			for _, e := range inner {
				own = append(own, earlier{e.handler, e.always && always})
			}
		}
		switch {
		case route.Terminal: // what follows is for other requests
		case route.Group != "":
			group[route.Group] = append(group[route.Group], own...)
		default:
			passed = append(passed, own...)
		}
	}
	for _, own := range group {
		passed = append(passed, own...)
	}
	return passed
}

func (f *finder) note(handler caddyhttp.MiddlewareHandler, at *position) {
	switch h := handler.(type) {
	case *Proxy:
		f.setup.proxies = append(f.setup.proxies, placed[*Proxy]{h, at})
	case *Confirm:
		f.setup.confirms = append(f.setup.confirms, placed[*Confirm]{h, at})
	case *Notice:
		f.setup.notices = append(f.setup.notices, placed[*Notice]{h, at})
	}
}

// site names the site: its hosts, or the addresses at which its server listens.
func (p *position) site() string {
	var names []string
	for _, route := range p.routes {
		names = append(names, hosts(route)...)
	}
	if len(names) == 0 {
		names = p.server.Listen
	}
	return strings.Join(names, ", ")
}

// path is the path of a handler's own matcher, or of the innermost block around it that has one: two merchants may
// share a port. It is "" if there is none.
func (p *position) path() string {
	for _, route := range slices.Backward(p.routes) {
		for _, set := range route.MatcherSets {
			for _, matcher := range set {
				if paths, ok := matcher.(*caddyhttp.MatchPath); ok && len(*paths) > 0 {
					return (*paths)[0]
				}
			}
		}
	}
	return ""
}

// name is what a finding says of where a handler stands.
func (p *position) name(directive string) string { return directive + " at " + p.site() + p.path() }

// takesPath reports whether a request for a path can reach the handler, and takesHost whether one for a
// host can. A rewrite on the way may change the path; then it is assumed.
func (p *position) takesPath(r *http.Request) bool {
	if slices.ContainsFunc(p.before, func(e earlier) bool { return changesPath(e.handler) }) {
		return true
	}
	return p.matches(r, func(matcher any) bool {
		switch matcher.(type) {
		case *caddyhttp.MatchPath, *caddyhttp.MatchPathRE:
			return true
		default:
			return false
		}
	})
}

func (p *position) takesHost(r *http.Request) bool {
	return p.matches(r, func(matcher any) bool { _, ok := matcher.(*caddyhttp.MatchHost); return ok })
}

// matches reports whether the routes' matchers of a kind match. All others are assumed to.
func (p *position) matches(r *http.Request, isKind func(matcher any) bool) bool {
	return !slices.ContainsFunc(p.routes, func(route caddyhttp.Route) bool {
		return len(route.MatcherSets) > 0 && !slices.ContainsFunc(route.MatcherSets, func(set caddyhttp.MatcherSet) bool {
			return !slices.ContainsFunc(set, func(matcher any) bool {
				m, ok := matcher.(caddyhttp.RequestMatcherWithError)
				if !ok || !isKind(matcher) {
					return false
				}
				matched, err := m.MatchWithError(r)
				return !matched || err != nil
			})
		})
	})
}
