package tillpage

// The two languages of the page, and how each writes times, amounts and barcode numbers.

import (
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
)

const (
	languageQuery  = "lang"
	languageCookie = "cvs_sandbox_lang" // a name of its own, because a browser sends a cookie to every port of a host
)

// language is a language of the page, as its HTML tag.
type language string

const (
	korean  language = "ko"
	english language = "en"
)

var languages = []language{korean, english}

// kst is the time zone of the stores. Korea has no daylight saving time.
var kst = time.FixedZone("KST", 9*60*60)

// languageOf returns the language that was chosen on the page, else the first language of Accept-Language that the page has, else
// Korean.
func languageOf(r *http.Request) language {
	wanted := r.Header.Get("Accept-Language")
	if c, err := r.Cookie(languageCookie); err == nil {
		wanted = c.Value + "," + wanted
	}
	for tag := range strings.SplitSeq(wanted, ",") {
		for _, l := range languages {
			if strings.HasPrefix(strings.TrimSpace(tag), string(l)) {
				return l
			}
		}
	}
	return korean
}

// t returns the text in the language l.
func (l language) t(ko, en string) string {
	if l == english {
		return en
	}
	return ko
}

// moment formats a time in Unix seconds.
func (l language) moment(unix int64) string {
	return time.Unix(unix, 0).In(kst).Format(l.t("2006-01-02 15:04", "2 Jan 2006, 15:04 KST"))
}

func (l language) amount(v float64) string {
	return humanize.Commaf(v) + l.t("원", " KRW")
}

// number formats a barcode's number in groups of four digits. A number with other characters stays as it is.
func number(barcode string) string {
	if strings.Trim(barcode, "0123456789") != "" {
		return barcode
	}
	var b strings.Builder
	for i, digit := range barcode {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

// langOf guesses the language of a text that a merchant or a gateway wrote, so that a screen reader pronounces it right.
func langOf(text string) language {
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Hangul, r) }) {
		return korean
	}
	return english
}
