package strict_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

func TestParseReadsJSON(t *testing.T) {
	t.Parallel()
	raw := ` {"a":"가\u00e9\ud83d\ude00","n":15000.00,"t":true,"z":null,"l":["x","y"],"m":[1],"o":{"k":"v"},"e":""} `
	b, err := strict.Parse("application/json; charset=UTF-8", []byte(raw), "a", "n")
	require.NoError(t, err)
	assert.Equal(t, strict.JSON, b.MediaType())
	assert.Equal(t, raw, string(b.Bytes()))
	assert.Equal(t, "가é😀", b.Get("a").Text)
	assert.Equal(t, "15000.00", b.Get("n").Text)
	assert.Equal(t, strict.Number, b.Get("n").Kind)
	assert.Equal(t, strict.Bool, b.Get("t").Kind)
	assert.Equal(t, "v", b.Member("o", "k").Text)
	assert.Equal(t, strict.Absent, b.Member("o", "x").Kind)
	assert.Equal(t, strict.Absent, b.Member("a", "x").Kind)
	for name, missing := range map[string]bool{"a": false, "t": false, "z": true, "e": true, "absent": true, "o": false} {
		assert.Equal(t, missing, b.Get(name).Missing(), name)
	}
	list, ok := b.Strings("l")
	assert.True(t, ok)
	assert.Equal(t, []string{"x", "y"}, list)
	for name, size := range map[string]int{"a": 1, "z": 0, "absent": 0} {
		list, ok = b.Strings(name)
		assert.True(t, ok, name)
		assert.Len(t, list, size, name)
	}
	for _, name := range []string{"m", "n", "o"} {
		_, ok = b.Strings(name)
		assert.False(t, ok, name)
	}
	assert.True(t, b.Has("a"))
	assert.False(t, b.Has("b"))
	assert.True(t, b.Missing("b"))
	assert.True(t, b.Missing("z"))
	assert.False(t, b.Missing("o"))
}

func TestParseReadsForm(t *testing.T) {
	t.Parallel()
	raw := "name=%EA%B0%80+%26&amount=15000&&notice_url[]=a&notice_url%5B%5D=b&extra[barcode]=1&extra[payType]=card&d[a][b]=1&d[a][c]=2&d[l][]=1&d[l][]=2&empty="
	b, err := strict.Parse("application/x-www-form-urlencoded", []byte(raw), "name", "amount", "notice_url")
	require.NoError(t, err)
	assert.Equal(t, "가 &", b.Get("name").Text)
	assert.Equal(t, "card", b.Member("extra", "payType").Text)
	assert.True(t, b.Has("notice_url"))
	assert.False(t, b.Missing("notice_url"), "a list")
	assert.True(t, b.Missing("empty"))
	list, ok := b.Strings("notice_url")
	assert.True(t, ok)
	assert.Equal(t, []string{"a", "b"}, list)
	_, ok = b.Strings("extra")
	assert.False(t, ok)
	assert.True(t, b.Get("empty").Missing())
	assert.Equal(t, raw, string(b.Bytes()))
}

func TestParseRejects(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 33) + "1" + strings.Repeat("}", 33)
	for name, c := range map[string]struct{ body, want string }{
		"not JSON":                {`{"a":1`, "not one valid JSON object: it ends too early"},
		"empty":                   {``, "not one valid JSON object: it is empty"},
		"spaces":                  {" \n", "not one valid JSON object: it is empty"},
		"an array":                {`[1]`, "not one valid JSON object: it is an array"},
		"a string":                {`"a"`, "not one valid JSON object: it is a string"},
		"null":                    {`null`, "not one valid JSON object: it is null"},
		"trailing bytes":          {`{"a":1}{} `, "not one valid JSON object: there is a mistake at byte 8"},
		"a name without quotes":   {`{a:1} `, "not one valid JSON object: there is a mistake at byte 2"},
		"a broken array":          {`{"a":[1,}`, "not one valid JSON object: it ends too early, or with a mistake"},
		"trailing comma":          {`{"a":1,} `, "not one valid JSON object: there is a mistake at byte 8"},
		"a comment":               {`{"a":1/**/}`, "not one valid JSON object: there is a mistake at byte 7"},
		"byte order mark":         {"\ufeff{}", "begins with a byte order mark"},
		"a form":                  {"amount=1&x=2", "looks like a form, but its Content-Type is application/json: send Content-Type: application/x-www-form-urlencoded"},
		"a form with a list":      {"x[]=1&x[]=2", "looks like a form"},
		"NaN":                     {`{"a":NaN}`, "not one valid JSON object: there is a mistake at byte 6"},
		"control character":       {"{\"a\":\"\n\"}", "not one valid JSON object: there is a mistake at byte 7"},
		"invalid UTF-8":           {"{\"a\":\"\xff\"}", "not valid UTF-8: convert it first"},
		"a lone high surrogate":   {`{"a":"\ud83d"}`, "surrogate"},
		"a lone low surrogate":    {`{"a":"\ude00"}`, "surrogate"},
		"a broken pair":           {`{"a":"\ud83d\u0041"}`, "surrogate"},
		"duplicate name":          {`{"a":1,"a":2}`, `field "a" is given twice`},
		"duplicate by case":       {`{"k":1,"K":2}`, `field "K" is given twice`},
		"duplicate by Unicode":    {`{"k":1,"K":2}`, `is given twice`},
		"duplicate by escape":     {`{"a":1,"\u0061":2}`, `field "a" is given twice`},
		"duplicate in an object":  {`{"o":{"a":1,"A":2}}`, `field "o.A" is given twice`},
		"duplicate in an array":   {`{"o":[{"a":1,"a":2}]}`, `field "o.a" is given twice`},
		"a number too large":      {`{"o":{"n":1e999}}`, `field "o.n" has a number that no double holds`},
		"a number too small":      {`{"n":-1e-999}`, `field "n" has a number that no double holds`},
		"nesting":                 {deep, "deeper than 32"},
		"a lookalike":             {`{"Amount":1}`, `field "Amount" could be taken for amount`},
		"a lookalike by Unicode":  {`{"merchant_uid":"1","ſtatus":"x"}`, `could be taken for status`},
		"a long name is cut":      {`{"` + strings.Repeat("가", 70) + `":1,"` + strings.Repeat("가", 70) + `":1}`, `…" is given twice`},
		"many names, a duplicate": {`{` + manyNames(40) + `"n3":1}`, `field "n3" is given twice`},
	} {
		_, err := strict.Parse("application/json", []byte(c.body), "amount", "merchant_uid", "status")
		assert.ErrorContains(t, err, c.want, name)
	}
	_, err := strict.Parse("application/json", []byte(strings.Repeat(`{"a":`, 32)+"1"+strings.Repeat("}", 32)))
	assert.NoError(t, err, "32 levels are allowed")
	_, err = strict.Parse("application/json", []byte(`{`+manyNames(40)+`"last":0}`))
	assert.NoError(t, err)
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"n` + string(rune('0'+i%10)) + strings.Repeat("x", i/10) + `":1,`)
	}
	return b.String()
}

func TestParseRejectsForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, want string }{
		"JSON":                 {` {"amount":1}`, "looks like JSON, but its Content-Type is application/x-www-form-urlencoded, which curl sends unless told otherwise: send Content-Type: application/json"},
		"JSON with a URL":      {`{"confirm_url":"https://shop.example/?a=b"}`, "looks like JSON"},
		"a JSON array":         {`[{"amount":1}]`, "looks like JSON"},
		"byte order mark":      {"\ufeffamount=1", "begins with a byte order mark"},
		"a repeated name":      {"amount=1&amount=2", "is given twice"},
		"repeated by case":     {"x=1&X=2", "is given twice"},
		"repeated by escape":   {"x=1&%78=2", "is given twice"},
		"repeated by PHP":      {"a.b=1&a_b=2", "is given twice"},
		"repeated by a space":  {"x=1&+x=2", "is given twice"},
		"value and list":       {"x=1&x[]=2", "is given twice"},
		"list and value":       {"x[]=1&x=2", "is given twice"},
		"list and index":       {"x[]=1&x[0]=2", "is given twice"},
		"repeated member":      {"x[a]=1&x[a]=2", "is given twice"},
		"member by case":       {"x[a]=1&x[A]=2", "is given twice"},
		"member and object":    {"x[a]=1&x[a][b]=2", "is given twice"},
		"object by case":       {"x[a]=1&X[b]=2", "is given twice"},
		"a bad escape":         {"x=%zz", "form is not valid"},
		"a bad name":           {"%zz=1", "form is not valid"},
		"a semicolon":          {"x=1;y=2", "form is not valid"},
		"no equals sign":       {"x", "form is not valid"},
		"an empty name":        {"=1", "form is not valid"},
		"a name of spaces":     {"++=1", "form is not valid"},
		"an open bracket":      {"x[=1", "form is not valid"},
		"a closing bracket":    {"x]=1", "form is not valid"},
		"text behind brackets": {"x[a]b=1", "form is not valid"},
		"brackets in brackets": {"x[[a]]=1", "form is not valid"},
		"members of a list":    {"x[][a]=1", "form is not valid"},
		"a control character":  {"x%00=1", "form is not valid"},
		"invalid UTF-8":        {"x=%ff", "not valid UTF-8"},
		"invalid UTF-8 name":   {"%ff=1", "not valid UTF-8"},
		"a lookalike":          {"AMOUNT=1", "could be taken for amount"},
		"a PHP lookalike":      {"merchant.uid=1", "could be taken for merchant_uid"},
		"a list's lookalike":   {"Amount[]=1", "could be taken for amount"},
	} {
		_, err := strict.Parse("application/x-www-form-urlencoded", []byte(c.body), "amount", "merchant_uid")
		assert.ErrorContains(t, err, c.want, name)
	}
}

func TestParseRejectsMediaTypes(t *testing.T) {
	t.Parallel()
	for _, ct := range []string{"application/json;charset=utf8", "application/json; charset=UTF8", `application/json; charset="utf8"`} {
		_, err := strict.Parse(ct, []byte(`{"a":1}`))
		require.NoError(t, err, ct)
		_, err = strict.Parse(ct, []byte("{\"a\":\"\xff\"}"))
		require.Error(t, err, "whatever it says, the bytes are looked at")
	}
	for ct, seen := range map[string]string{
		"":                                  "there is no Content-Type",
		"text/plain":                        `Content-Type "text/plain"`,
		"application/jsonp":                 `Content-Type "application/jsonp"`,
		"application/json; charset=euc-kr":  `charset "euc-kr": convert the body to UTF-8`,
		"multipart/form-data; boundary=x":   `Content-Type "multipart/form-data; boundary=x"`,
		";":                                 `Content-Type ";"`,
		"application/json, text/plain":      `Content-Type "application/json, text/plain"`,
		"text/" + strings.Repeat("x", 1000): `x…": use`,
	} {
		_, err := strict.Parse(ct, []byte(`{}`))
		assert.ErrorIs(t, err, strict.ErrMediaType, ct)
		assert.ErrorContains(t, err, seen, ct)
		assert.ErrorContains(t, err, "use Content-Type application/json or application/x-www-form-urlencoded", ct)
	}
}

func TestSetKeepsEveryOtherByte(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ contentType, before, after string }{
		{strict.JSON, `{}`, `{"url":"https://x/?a=1&b=\"가\"","n":7}`},
		{strict.JSON, ` { "amount" : 15000.00 , "u" : {"z":1e2} } `, ` { "amount" : 15000.00 , "u" : {"z":1e2} ,"url":"https://x/?a=1&b=\"가\"","n":7} `},
		{strict.JSON, `{"url":null,"n":"","x":1}`, `{"url":"https://x/?a=1&b=\"가\"","n":7,"x":1}`},
		{strict.Form, ``, `url=https%3A%2F%2Fx%2F%3Fa%3D1%26b%3D%22%EA%B0%80%22&n=7`},
		{strict.Form, `a=%EA%B0%80`, `a=%EA%B0%80&url=https%3A%2F%2Fx%2F%3Fa%3D1%26b%3D%22%EA%B0%80%22&n=7`},
		{strict.Form, `url=&a=1&n=`, `url=https%3A%2F%2Fx%2F%3Fa%3D1%26b%3D%22%EA%B0%80%22&a=1&n=7`},
	} {
		b, err := strict.Parse(c.contentType, []byte(c.before))
		require.NoError(t, err)
		b.SetString("url", `https://x/?a=1&b="가"`)
		b.SetInt("n", 7)
		if c.contentType == strict.JSON {
			assert.JSONEq(t, c.after, string(b.Bytes()))
			assert.Equal(t, strings.Count(c.after, " "), strings.Count(string(b.Bytes()), " "), "spaces stay")
		} else {
			assert.Equal(t, c.after, string(b.Bytes()))
		}
		assert.Equal(t, `https://x/?a=1&b="가"`, b.Get("url").Text)
		assert.Equal(t, "7", b.Get("n").Text)
	}
}

// After each of several values that are set, the body reads as if it had come so.
func TestRepeatedSetsReadAsIfTheyHadCome(t *testing.T) {
	t.Parallel()
	names := []string{"a", "name", "url", "n", "new"}
	values := []string{"", "x", "a&b=\"c\"}", "긴 값, longer than what was there before"}
	for contentType, bodies := range map[string][]string{
		strict.JSON: {`{}`, ` { } `, `{"a":null,"name":""}`, "{ \"name\" : \"}\" , \"b\" : { \"a\" : [1,\"}\"] } ,\"n\":1.50 }\n\n", `{"url":[],"n":"x","a":{}}`},
		strict.Form: {"", "&", "a=&name=", "name=x&&b[a]=1&n=1.50&", "b[]=1&n=&a=%7D"},
	} {
		for _, raw := range bodies {
			came := []byte(raw)
			b, err := strict.Parse(contentType, came)
			require.NoError(t, err, raw)
			for step := range 40 {
				name := names[step*3%len(names)]
				if step%7 == 6 {
					b.SetInt(name, int64(step)*1000)
				} else {
					b.SetString(name, values[step%len(values)])
				}
				again, err := strict.Parse(contentType, b.Bytes())
				require.NoError(t, err, "%s became %s", raw, b.Bytes())
				for _, n := range append(names, "b", "b[a]") {
					assert.Equal(t, again.Get(n), b.Get(n), "%s of %s", n, b.Bytes())
				}
			}
			assert.Equal(t, raw, string(came), "the caller's bytes stay")
		}
	}
}

func TestValidJSON(t *testing.T) {
	t.Parallel()
	assert.True(t, strict.ValidJSON(`{"a":1}`))
	assert.True(t, strict.ValidJSON(`{"a":"\ud83d"}`), "tolerated where it is only read")
	assert.False(t, strict.ValidJSON(`{"a":1`))
	assert.False(t, strict.ValidJSON("\"\xff\""))
	assert.False(t, strict.ValidJSON(strings.Repeat("[", 5000)+strings.Repeat("]", 5000)))
}

// FuzzParseJSON compares what was read with what encoding/json reads.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{"merchant_uid":"a","amount":1.50,"o":{"k":[1,"\ud83d\ude00"]}}`, `{"a":1,"A":2}`, `{"\u0061":1e5}`, ` {} `, `{"a":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := strict.Parse(strict.JSON, body, "merchant_uid", "amount")
		if err != nil {
			return
		}
		var other map[string]json.RawMessage
		if err := json.Unmarshal(body, &other); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		for name, raw := range other {
			got := b.Get(name)
			switch got.Kind {
			case strict.String:
				var want string
				if json.Unmarshal(raw, &want) != nil || want != got.Text {
					t.Fatalf("%q: %q, encoding/json reads %q", name, got.Text, want)
				}
			case strict.Number, strict.Bool:
				if got.Text != string(raw) {
					t.Fatalf("%q: %q, encoding/json reads %s", name, got.Text, raw)
				}
			case strict.Absent:
				t.Fatalf("%q is missing", name)
			}
		}
		b.SetString("confirm_url", "https://가/?\"\\")
		var after struct {
			URL string `json:"confirm_url"`
		}
		if err := json.Unmarshal(b.Bytes(), &after); err != nil {
			t.Fatalf("after SetString: %v in %q", err, b.Bytes())
		}
	})
}

// FuzzParseForm compares what was read with what net/url reads.
func FuzzParseForm(f *testing.F) {
	for _, s := range []string{"a=1&b=2", "a[]=1&a[]=2", "amount=1&amount[]=2", "a=%EA%B0%80+x", "x[a][b]=1", "&&a=&"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		b, err := strict.Parse(strict.Form, []byte(body), "amount")
		if err != nil {
			return
		}
		other, err := url.ParseQuery(body)
		if err != nil {
			t.Fatalf("accepted what net/url refuses: %v", err)
		}
		for name, values := range other {
			if strings.HasSuffix(name, "[]") {
				continue
			}
			if len(values) != 1 || b.Get(name).Text != values[0] {
				t.Fatalf("%q: %q, net/url reads %q", name, b.Get(name).Text, values)
			}
		}
		b.SetString("confirm_url", "https://x/?a=1&b=2")
		after, err := url.ParseQuery(string(b.Bytes()))
		if err != nil || after.Get("confirm_url") != "https://x/?a=1&b=2" {
			t.Fatalf("after SetString: %v in %q", err, b.Bytes())
		}
	})
}

// A body is copied once, because its values are parts of a text. A JSON body is read
// twice: token by token to validate it, and then for the places of its fields.
// encoding/json also reads it twice, and makes a map of it.
func BenchmarkParse(b *testing.B) {
	json1 := []byte(`{"merchant_uid":"주문-20260001","amount":15000,"name":"떡볶이와 김밥","buyer_name":"홍길동","buyer_tel":"010-0000-0000","custom_data":{"cart":[1,2,3]}}`)
	form := []byte("merchant_uid=%EC%A3%BC%EB%AC%B8-20260001&amount=15000&name=%EB%96%A1%EB%B3%B6%EC%9D%B4&buyer_tel=010-0000-0000&custom_data[]=1")
	for name, read := range map[string]func() error{
		"JSON": func() error {
			_, err := strict.Parse(strict.JSON, json1, "merchant_uid", "amount", "name", "buyer_name")
			return err
		},
		"JSON/encoding/json": func() error { var m map[string]any; return json.Unmarshal(json1, &m) },
		"form": func() error {
			_, err := strict.Parse(strict.Form, form, "merchant_uid", "amount", "name", "buyer_name")
			return err
		},
		"form/net/url": func() error { _, err := url.ParseQuery(string(form)); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Anybody may send a body: its cost must not grow with the depth of long names.
func TestParseAllocatesInProportionToTheBody(t *testing.T) {
	var members []string
	for i := range 3000 {
		members = append(members, fmt.Sprintf(`"m%d":1`, i))
	}
	levels := strings.Repeat("[b]", 31)
	for mediaType, body := range map[string]string{
		strict.JSON: `{"` + strings.Repeat("a", 32_000) + `":{` + strings.Join(members, ",") + `}}`,
		strict.Form: strings.Repeat("a", 60_000) + levels + "=1&b" + strings.Repeat("[c]", 32) + "=1",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := strict.Parse(mediaType, []byte(body))
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(200*len(body)), mediaType)
	}
	_, err := strict.Parse(strict.Form, []byte("a"+strings.Repeat("[b]", 33)+"=1"))
	assert.ErrorContains(t, err, "nested deeper than 32 levels")
}
