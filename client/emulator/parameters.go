package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

var (
	errNotText    = errors.New("문자열이어야 합니다")
	errNotNumber  = errors.New("숫자여야 합니다")
	errNotInteger = errors.New("정수여야 합니다")
)

// parameters are a request's fields, from JSON or a form, each as JSON.
type parameters map[string]json.RawMessage

// parameters reads a request's fields.
func (c *call) parameters() (parameters, *answer) {
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

func parseJSON(body []byte) (parameters, *answer) {
	var p parameters
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, new(failed(http.StatusBadRequest, "요청 본문이 올바른 JSON 객체가 아닙니다."))
	}
	return p, nil
}

// parseForm takes a repeated field, or one named as PHP names an array (notice_url[], or notice_url[0] and so on), for an array.
func parseForm(body []byte) (parameters, *answer) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, new(failed(http.StatusBadRequest, "요청 본문이 올바른 form 형식이 아닙니다."))
	}
	p := make(parameters, len(form))
	for name, values := range form {
		list, index, isElement := cutIndex(name)
		if isElement && index > 0 && form.Has(element(list, index-1)) {
			continue // it is taken with the first
		}
		var value any = values
		short, isArray := strings.CutSuffix(name, "[]")
		switch {
		case isElement && index == 0:
			short, value = list, elements(form, list)
		case !isArray && len(values) == 1:
			value = values[0]
		}
		if _, twice := p[short]; twice {
			return nil, new(failed(http.StatusBadRequest, short+": 두 가지 형식으로 주어졌습니다."))
		}
		p[short] = bytes.TrimSpace(encode(value, ""))
	}
	return p, nil
}

// element names a list's element as PHP's http_build_query does.
func element(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// cutIndex takes such a name apart.
func cutIndex(name string) (list string, index int, ok bool) {
	list, rest, _ := strings.Cut(name, "[")
	index, err := strconv.Atoi(strings.TrimSuffix(rest, "]"))
	return list, index, err == nil && name == element(list, index)
}

// elements returns the values of a list that is written so, from the first on.
func elements(values url.Values, list string) []string {
	var all []string
	for i := 0; values.Has(element(list, i)); i++ {
		all = append(all, values.Get(element(list, i)))
	}
	return all
}

// hasMembers reports whether a form gives a field as a list or an object that it is not.
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

// text returns a string. A number is none: an order's number that is sent as one loses its zeros and its digits beyond 2^53.
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

// digits returns a number's digits, which may be written as a string.
func (p parameters) digits(name string) (string, error) {
	var n json.Number
	if raw := p.raw(name); len(raw) > 0 && json.Unmarshal(raw, &n) == nil {
		return n.String(), nil
	}
	return p.text(name)
}

// number returns a finite number, which may be written as a string, as in a form. It is absent if it is empty.
func (p parameters) number(name string) (value float64, ok bool, err error) {
	s, err := p.digits(name)
	if err != nil {
		return 0, false, errNotNumber
	}
	if s == "" {
		return 0, false, nil
	}
	// JSON's grammar keeps out what ParseFloat takes besides: NaN, Inf, hexadecimals.
	if !json.Valid([]byte(s)) {
		return 0, false, errNotNumber
	}
	value, err = strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, false, errNotNumber
	}
	return value, true, nil
}

// integer returns a whole number, which may be written as a string. It is 0 if it is absent or empty.
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

// texts returns the strings of a field that is either an array of them or one. Empty ones are left out.
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

// stored returns a field as the API keeps custom_data: a string as it is, anything else as JSON.
func (p parameters) stored(name string) string {
	raw := p.raw(name)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var compact bytes.Buffer
	_ = json.Compact(&compact, raw) // it came out of valid JSON
	return compact.String()
}
