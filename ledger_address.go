package caddycvs

// This file holds how errors of a database are kept from showing its address: drivers put the host, the
// user and the name of the database into theirs.

import (
	"cmp"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// hostAddress matches what the name of a host was found to mean, with the port.
var hostAddress = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b|\[[0-9a-fA-F.%\w]*:[0-9a-fA-F:.%\w]*\](:\d+)?`)

// certificateNames matches the names of a server's certificate: those of hosts, of which the address may have none.
var certificateNames = regexp.MustCompile(`(certificate is valid for ).*(, not )`)

// hidden takes the place of what is not shown, such as a part of an address. A port may stand behind it.
const hidden = "***"

var hiddenPort = regexp.MustCompile(`\*\*\*:\d+\b`)

// hiddenError is an error whose text shows no part of an address.
type hiddenError struct {
	text string
	err  error
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.err }

// hide returns an error that does not show the address of the place.
func (p *knownPlace) hide(err error) error {
	if p == nil || p.parts == nil || err == nil {
		return err
	}
	text := hostAddress.ReplaceAllString(p.parts.ReplaceAllString(err.Error(), hidden), hidden)
	text = certificateNames.ReplaceAllString(text, "${1}"+hidden+"${2}")
	return &hiddenError{hiddenPort.ReplaceAllString(text, hidden), err}
}

// partsPattern returns a pattern that matches the parts of an address that its driver can read.
func partsPattern(store, dsn string) *regexp.Regexp {
	parts := []string{dsn}
	if store == ledgerMySQL {
		if c, err := mysql.ParseDSN(dsn); err == nil {
			parts = append(parts, c.User, c.Passwd, c.Addr, c.DBName)
		}
	} else if c, err := pgx.ParseConfig(dsn); err == nil {
		parts = append(parts, c.User, c.Password, c.Host, c.Database)
		for _, other := range c.Fallbacks {
			parts = append(parts, other.Host)
		}
	}
	for _, part := range parts[1:] {
		if host, _, err := net.SplitHostPort(part); err == nil {
			parts = append(parts, host)
		}
	}
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	slices.SortFunc(parts, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // a part may contain another one
	for i, part := range parts {
		parts[i] = wholeWord(part)
	}
	return regexp.MustCompile(strings.Join(parts, "|"))
}

// wholeWord returns a pattern that matches a text where it is not a part of a longer word: a database's
// name may be short.
func wholeWord(text string) string {
	pattern := regexp.QuoteMeta(text)
	if regexp.MustCompile(`^\w`).MatchString(text) {
		pattern = `\b` + pattern
	}
	if regexp.MustCompile(`\w$`).MatchString(text) {
		pattern += `\b`
	}
	return pattern
}
