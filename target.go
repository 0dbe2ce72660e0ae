package caddycvs

// This file holds what order checks and tells have in common: a URL of the merchant's app, the
// header fields that are sent there, and the configuration of which answers are accepted.

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// targetKind is what differs between the targets of order checks and of tells.
type targetKind struct {
	placeholders []string // the names behind placeholderPrefix
	hasRequest   bool     // Caddy is serving a request, whose placeholders there are too
	reserved     []string // how names of header fields begin that cannot be configured
	whyReserved  string
	forSocket    string // advice instead of a Unix socket
	orElse       string // the end of the advice for a URL
}

var (
	ofCheck = &targetKind{
		placeholders: placeholderNames, hasRequest: true,
		reserved: []string{"X-Cvs-"}, whyReserved: "the X-Cvs- fields are reserved, every check gets them",
		forSocket: "a unix socket is asked by a route: order_check { route { reverse_proxy unix//run/shop.sock } }", orElse: ", or a route",
	}
	ofTell = &targetKind{
		placeholders: []string{"event", "imp_uid", "merchant_uid", "status", "amount", "expires", "account"},
		reserved:     []string{"X-Cvs-", "Webhook-"}, whyReserved: "the X-Cvs- and webhook- fields are reserved, every tell gets them",
		forSocket: "a unix socket is told through a site of its own: bind it to 127.0.0.1, with reverse_proxy unix//run/shop.sock, and name that site's URL",
	}
)

// target is a URL of the merchant's app and the header fields to send there. Both may have
// placeholders.
type target struct {
	url    template
	header map[string]template
	span   spanKind // of the requests to it
}

func parseTarget(rawURL string, header map[string]string, kind *targetKind) (t target, err error) {
	if t.url, err = parseURLTemplate(rawURL, kind); err != nil {
		return t, fmt.Errorf("url: %w", err)
	}
	t.span.template = spanTemplate(rawURL)
	t.header = make(map[string]template, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if t.header[name], err = parseTemplate(header[name], kind); err != nil {
			return t, fmt.Errorf("header %s: %w", name, err)
		}
		if slices.ContainsFunc(t.header[name], func(p part) bool { return !fitsHeader(p.literal) }) {
			return t, fmt.Errorf("header %s: the value has a line break or another control character", name)
		}
	}
	return t, nil
}

// request returns a request without a body. It adds the configured header fields to the given
// ones. unfit is the cause if a value of the order cannot stand in the request, else "".
func (t *target) request(method string, header http.Header, repl *caddy.Replacer) (r *http.Request, unfit string) {
	u, err := t.url.expandURL(repl)
	if err != nil {
		return nil, causePath
	}
	for name, value := range t.header {
		text, _ := value.expand(repl)
		header.Set(name, text)
	}
	for name := range header {
		if !fitsHeader(header.Get(name)) {
			return nil, causeHeader
		}
	}
	r = &http.Request{Method: method, URL: u, Host: u.Host, Header: header}
	if host := header.Get("Host"); host != "" {
		r.Host = host
		header.Del("Host")
	}
	return r, ""
}

// validateHeader refuses header fields that cannot be configured.
func validateHeader(header map[string]string, kind *targetKind) error {
	seen := make(map[string]bool, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if err := validateHeaderName(name, kind); err != nil {
			return err
		}
		if name = http.CanonicalHeaderKey(name); seen[name] {
			return fmt.Errorf("header %s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

var headerPattern = regexp.MustCompile("^[0-9A-Za-z!#$%&'*+.^_`|~-]+$")

// repeating are the header fields with which Go's transport may send a POST again that may have
// arrived.
var repeating = []string{"Idempotency-Key", "X-Idempotency-Key"}

func validateHeaderName(name string, kind *targetKind) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !headerPattern.MatchString(name):
		return fmt.Errorf("header %q: not a name of a header field", name)
	case slices.ContainsFunc(kind.reserved, func(prefix string) bool { return strings.HasPrefix(canonical, prefix) }):
		return fmt.Errorf("header %s: %s", name, kind.whyReserved)
	case slices.Contains(repeating, canonical):
		return fmt.Errorf("header %s: with it, a request could be sent twice: choose another name", name)
	}
	return nil
}

// fitsHeader reports whether a value can be sent in a header field.
func fitsHeader(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// validateAnswer validates which answers are accepted.
func validateAnswer(accept []string, requirements []Requirement) error {
	switch {
	case accept != nil && len(accept) == 0:
		return errors.New("accept is empty: no status would mean yes")
	case requirements != nil && len(requirements) == 0:
		return errors.New("requirements is empty: name one, or leave it out")
	case slices.ContainsFunc(requirements, func(r Requirement) bool { return r.Path == "" }):
		return errors.New("require needs a path")
	}
	for _, status := range accept {
		if err := validateAccept(status); err != nil {
			return err
		}
	}
	return nil
}

func validateAccept(status string) error {
	if code, err := strconv.Atoi(status); status != "2xx" && (err != nil || code < 200 || code > 299) {
		return fmt.Errorf("accept %s: only 200 to 299 and 2xx can mean yes", status)
	}
	return nil
}

// accepts reports whether a list of accepted statuses has this one.
func accepts(accept []string, status int) bool {
	return slices.ContainsFunc(accept, func(a string) bool {
		return a == strconv.Itoa(status) || a == "2xx" && status/100 == 2
	})
}

// header returns the header fields that the merchant's app gets about an order. left is the time
// left for its answer.
func (r *record) header(contentType string, left time.Duration) http.Header {
	h := make(http.Header, 12)
	h.Set("Content-Type", contentType)
	h.Set("User-Agent", "caddy-cvs")
	h.Set("X-Cvs-Imp-Uid", r.impUID)
	h.Set("X-Cvs-Merchant-Uid", r.merchantUID)
	h.Set("X-Cvs-Timeout-Ms", strconv.FormatInt(max(left.Milliseconds(), 0), 10))
	if r.amount != "" {
		h.Set("X-Cvs-Amount", r.amount)
	}
	if expires := r.expiresText(); expires != "" {
		h.Set("X-Cvs-Expires", expires)
	}
	return h
}
