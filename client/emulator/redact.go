package emulator

// Hiding the secrets of webhook URLs, above all signatures in their queries.

import (
	"net/url"
	"regexp"
	"strings"
)

// The query parameters that package signedurl adds to a webhook URL.
const (
	parameterSig     = "cvs_sig"
	parameterAmount  = "cvs_amount"
	parameterExpires = "cvs_expires"
	parameterAccount = "cvs_account"
)

const (
	redacted        = "…"
	minSecretLength = 16 // a shorter query value is hidden only together with its name, because it may be an ordinary word
)

// withoutQuery returns a URL without the parts that may be secret: user, query and fragment.
func withoutQuery(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return u.String()
}

// redactURL returns a URL without user and fragment, and with the values of most query parameters hidden.
func redactURL(u *url.URL) string {
	shown := *u
	shown.User, shown.Fragment, shown.RawFragment = nil, "", ""
	pairs := strings.Split(u.RawQuery, "&")
	for i, pair := range pairs {
		name, _, named := strings.Cut(pair, "=")
		switch {
		case name == parameterAmount, name == parameterExpires, name == parameterAccount:
		case named:
			pairs[i] = name + "=" + redacted
		case len(pair) >= minSecretLength:
			pairs[i] = redacted
		}
	}
	shown.RawQuery = strings.Join(pairs, "&")
	return shown.String()
}

// redactor hides the secrets of a webhook's URLs in texts that are shown, because a gateway's error page often repeats the URL.
type redactor struct{ replacer *strings.Replacer }

func newRedactor(urls ...*url.URL) redactor {
	var pairs []string
	hide := func(s string) {
		if s != "" {
			pairs = append(pairs, s, redacted)
		}
	}
	for _, u := range urls {
		password, _ := u.User.Password()
		hide(password)
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			_, raw, named := strings.Cut(pair, "=")
			if named {
				hide(pair) // each pair alone, because JSON and HTML escape the & between them
			} else {
				raw = pair
			}
			if len(raw) >= minSecretLength {
				value, _ := url.QueryUnescape(raw)
				hide(raw)
				hide(value)
			}
		}
	}
	return redactor{strings.NewReplacer(pairs...)}
}

func (r redactor) text(t string) string {
	return r.replacer.Replace(t)
}

// queries matches the query of each URL in an error's text.
var queries = regexp.MustCompile(`\?[^\s"'<>]*`)

// err returns an error's text without secrets.
func (r redactor) err(err error) string {
	return r.text(queries.ReplaceAllString(err.Error(), ""))
}
