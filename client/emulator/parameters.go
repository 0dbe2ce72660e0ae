package emulator

// Reading and validating the fields of requests, from JSON and from forms.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/caddy-cvs/caddy-cvs/client/decimal"
)

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"

	messageRequired = "필수 파라미터입니다"
)

var (
	errNotText    = errors.New("문자열이어야 합니다")
	errNotNumber  = errors.New("숫자여야 합니다")
	errNotInteger = errors.New("정수여야 합니다")
)

// parameters are the fields of a request, from JSON or a form, each as JSON.
type parameters map[string]json.RawMessage

// parameters reads the fields of a request's body.
func (c *call) parameters() (parameters, *response) {
	media, _, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
	switch {
	case media == mediaJSON:
		return parseJSON(c.body)
	case media == mediaForm:
		return parseForm(c.body)
	case len(c.body) == 0:
		return nil, nil
	}
	return nil, new(failed(http.StatusUnsupportedMediaType,
		"Content-Type은 application/json 또는 application/x-www-form-urlencoded이어야 합니다."))
}

func parseJSON(body []byte) (parameters, *response) {
	var p parameters
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, new(failed(http.StatusBadRequest, "요청 본문이 올바른 JSON 객체가 아닙니다."))
	}
	return p, nil
}

// parseForm makes an array of a repeated field, and of a field that is named as PHP names an array: notice_url[], or
// notice_url[0], notice_url[1] and so on.
func parseForm(body []byte) (parameters, *response) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, new(failed(http.StatusBadRequest, "요청 본문이 올바른 form 형식이 아닙니다."))
	}
	p := make(parameters, len(form))
	for name, values := range form {
		list, index, isElement := parseElementName(name)
		if isElement && index > 0 && form.Has(elementName(list, index-1)) {
			continue // read together with the first element
		}
		var value any = values
		short, isArray := strings.CutSuffix(name, "[]")
		switch {
		case isElement && index == 0:
			short, value = list, listElements(form, list)
		case !isArray && len(values) == 1:
			value = values[0]
		}
		if _, twice := p[short]; twice {
			return nil, new(failed(http.StatusBadRequest, short+": 두 가지 형식으로 주어졌습니다."))
		}
		p[short] = bytes.TrimSpace(encodeJSON(value, ""))
	}
	return p, nil
}

// elementName returns the name of a list's element as PHP's http_build_query writes it.
func elementName(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// parseElementName splits such a name.
func parseElementName(name string) (list string, index int, ok bool) {
	list, rest, _ := strings.Cut(name, "[")
	index, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	return list, index, err == nil && name == elementName(list, index)
}

// listElements returns the values of a list whose elements have such names.
func listElements(values url.Values, list string) []string {
	var all []string
	for i := 0; values.Has(elementName(list, i)); i++ {
		all = append(all, values.Get(elementName(list, i)))
	}
	return all
}

// hasMembers reports whether a form gives a field as a list with other names, or as an object.
func (p parameters) hasMembers(name string) bool {
	for given := range p {
		if strings.HasPrefix(given, name+"[") {
			return true
		}
	}
	return false
}

// raw returns a field's JSON, or nil if it is absent or null.
func (p parameters) raw(name string) json.RawMessage {
	if raw := p[name]; string(raw) != "null" {
		return raw
	}
	return nil
}

// text returns a string. It refuses a number, because an order number in JSON loses its leading zeros and its digits beyond 2^53.
func (p parameters) text(name string) (string, error) {
	return textOf(p.raw(name))
}

func textOf(raw json.RawMessage) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", errNotText
	}
	return s, nil
}

// digits returns the text of a number. The number may be written as a string.
func (p parameters) digits(name string) (string, error) {
	var n json.Number
	if raw := p.raw(name); len(raw) > 0 && json.Unmarshal(raw, &n) == nil {
		return n.String(), nil
	}
	return p.text(name)
}

// number returns a finite number, which may be written as a string, as it is in a form. An empty one counts as absent.
func (p parameters) number(name string) (value float64, ok bool, err error) {
	s, err := p.digits(name)
	if err != nil {
		return 0, false, errNotNumber
	}
	if s == "" {
		return 0, false, nil
	}
	// ParseFloat also accepts NaN, Inf and hexadecimal numbers. They are no valid JSON.
	if !json.Valid([]byte(s)) {
		return 0, false, errNotNumber
	}
	value, err = strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, false, errNotNumber
	}
	return value, true, nil
}

// integer returns a whole number, which may be written as a string. An empty one counts as absent.
func (p parameters) integer(name string) (value int64, ok bool, err error) {
	s, err := p.digits(name)
	if err != nil {
		return 0, false, errNotInteger
	}
	if s == "" {
		return 0, false, nil
	}
	value, err = strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(value, 10) != s {
		return 0, false, errNotInteger
	}
	return value, true, nil
}

// texts returns the strings of a field that is an array of strings or one string. It leaves out empty ones.
func (p parameters) texts(name string) ([]string, error) {
	raw := p.raw(name)
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		items = []json.RawMessage{raw}
	}
	var all []string
	for _, item := range items {
		s, err := textOf(item)
		if err != nil || string(item) == "null" {
			return nil, errNotText
		}
		if s != "" {
			all = append(all, s)
		}
	}
	return all, nil
}

// textOrJSON returns a string as it is, and any other value as JSON, as the API stores custom_data.
func (p parameters) textOrJSON(name string) string {
	raw := p.raw(name)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, raw) // cannot fail: raw is part of valid JSON
	return compact.String()
}

// violations are the errors in a request's fields, one sentence for each field.
type violations []string

func (v *violations) add(name string, problem any) {
	*v = append(*v, fmt.Sprintf("%s: %v.", name, problem))
}

// response returns the response to a request with errors.
func (v violations) response() response {
	return failed(http.StatusBadRequest, strings.Join(v, " "))
}

// readAmount reads a required amount of money.
func readAmount(params parameters, name string, fractions Fractions, wrong *violations) float64 {
	amount, ok, err := params.number(name)
	written, _ := params.digits(name)
	exact, _ := decimal.Canonical(written)
	if fractions == FractionsRound {
		amount = math.Round(amount) // before the comparison, because the stored amount must be more than 0
	}
	switch {
	case err != nil:
		wrong.add(name, err)
	case !ok:
		wrong.add(name, messageRequired)
	case amount <= 0:
		wrong.add(name, "0보다 커야 합니다")
	case fractions == FractionsRefuse && !decimal.Whole(exact):
		wrong.add(name, "원 단위의 정수여야 합니다")
	}
	return amount
}

// readText reads a string. The limit is in characters, and 0 for none.
func readText(params parameters, name string, limit int, wrong *violations) string {
	s, err := params.text(name)
	switch {
	case err != nil || params.hasMembers(name):
		wrong.add(name, errNotText)
	case strings.ContainsRune(s, 0):
		wrong.add(name, "NUL 문자를 포함할 수 없습니다")
	case strings.TrimSpace(s) == "" && name == "merchant_uid":
		wrong.add(name, messageRequired)
	case limit > 0 && utf8.RuneCountInString(s) > limit:
		wrong.add(name, fmt.Sprintf("%d자를 넘을 수 없습니다", limit))
	}
	return s
}
