package caddycvs

// This file holds templates: the URLs and header fields of order checks and of tells, with their
// placeholders.

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// template is a text with placeholders, parsed once. Placeholders such as {env.*} are
// expanded when the configuration is loaded, those of the request and of the time for each
// request.
type template []part

type part struct {
	literal     string
	placeholder string
	place       place
}

// place says where a placeholder stands. It decides how the value is escaped.
type place int

const (
	inHeader place = iota
	inPath
	inQuery
)

func parseTemplate(raw string, kind *targetKind) (template, error) {
	var t template
	for raw != "" {
		literal, rest, found := strings.Cut(raw, "{")
		if literal != "" {
			t = append(t, part{literal: literal})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !closed:
			return nil, errors.New("a placeholder is not closed")
		case strings.Contains(name, "{"):
			return nil, errors.New("a placeholder stands inside another: write them side by side")
		}
		p, err := parsePlaceholder(name, kind)
		if err != nil {
			return nil, err
		}
		t, raw = append(t, p), after
	}
	return t, nil
}

func parsePlaceholder(name string, kind *targetKind) (part, error) {
	if cvs, ok := strings.CutPrefix(name, placeholderPrefix); ok && !slices.Contains(kind.placeholders, cvs) {
		return part{}, fmt.Errorf("there is no placeholder {%s}; there are {http.cvs.%s}", name, strings.Join(kind.placeholders, "|"))
	} else if !ok && !kind.hasRequest && strings.HasPrefix(name, "http.") {
		return part{}, fmt.Errorf("{%s} belongs to a request, and a tell has none; there are {http.cvs.%s}", name, strings.Join(kind.placeholders, "|"))
	}
	if strings.HasPrefix(name, "http.") {
		return part{placeholder: name}, nil
	}
	value, err := caddy.NewReplacer().ReplaceOrErr("{"+name+"}", true, true)
	if strings.HasPrefix(name, "time.") { // expanded for each request; here only an unknown name is found
		return part{placeholder: name}, err
	}
	return part{literal: value}, err
}

// hasInPath reports whether the placeholder {http.cvs.<name>} stands in the path.
func (t template) hasInPath(name string) bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.place == inPath && p.placeholder == placeholderPrefix+name })
}

// expand returns the text with its values. complete is false if a value in a path is empty.
func (t template) expand(repl *caddy.Replacer) (text string, complete bool) {
	var b strings.Builder
	complete = true
	for _, p := range t {
		if p.placeholder == "" {
			b.WriteString(p.literal)
			continue
		}
		value, _ := repl.GetString(p.placeholder)
		switch p.place {
		case inPath:
			complete = complete && value != ""
			value = url.PathEscape(value)
		case inQuery:
			value = url.QueryEscape(value)
		case inHeader:
		}
		b.WriteString(value)
	}
	return b.String(), complete
}

// parseURLTemplate accepts placeholders of a request in path and query only: no webhook can
// choose the host.
func parseURLTemplate(raw string, kind *targetKind) (template, error) {
	if strings.HasPrefix(raw, "unix") {
		return nil, errors.New(kind.forSocket)
	}
	t, err := parseTemplate(raw, kind)
	if err != nil {
		return nil, err
	}
	prefix := ""
	for i := range t {
		if t[i].placeholder == "" {
			prefix += t[i].literal
			continue
		}
		if u, err := url.Parse(prefix); err != nil || u.Hostname() == "" || u.Path == "" && u.RawQuery == "" {
			return nil, errors.New("a request's placeholder may stand in path and query only")
		}
		t[i].place = inPath
		if strings.Contains(prefix, "?") {
			t[i].place = inQuery
		}
		prefix += "x"
	}
	u, err := url.Parse(prefix)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("need an absolute http or https URL such as http://127.0.0.1:3000/payable" + kind.orElse)
	case u.User != nil || strings.Contains(prefix, "#"):
		return nil, errors.New("need a URL without credentials and fragment")
	case !client.FitsPath(u.Path):
		return nil, errors.New("need a path without . and .. segments")
	}
	return t, nil
}

var errUnfit = errors.New("a value would change the path")

// expandURL returns the URL to ask, or errUnfit if a value in its path is empty
// or could be resolved to another path.
func (t template) expandURL(repl *caddy.Replacer) (*url.URL, error) {
	text, complete := t.expand(repl)
	u, err := url.Parse(text)
	if err != nil || !complete {
		return nil, errUnfit
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(u.EscapedPath(), "/"), "/") {
		if value, err := url.PathUnescape(segment); err != nil || !client.FitsPath(value) {
			return nil, errUnfit
		}
	}
	return u, nil
}
