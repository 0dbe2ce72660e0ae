package strict

// This file holds how values are set in a body, and every other byte is kept.

import (
	"bytes"
	"net/url"
	"strconv"

	"github.com/tidwall/gjson"
)

// SetString gives name a text value; see set.
func (b *Body) SetString(name, value string) {
	text := Value{Kind: String, Text: value}
	if b.mediaType == Form {
		b.set(name, []byte(url.QueryEscape(value)), text)
		return
	}
	b.set(name, gjson.AppendJSONString(make([]byte, 0, len(value)+16), value), text)
}

// SetInt gives name a whole number; see set.
func (b *Body) SetInt(name string, value int64) {
	number := Value{Kind: Number, Text: strconv.FormatInt(value, 10)}
	if b.mediaType == Form {
		number.Kind = String
	}
	b.set(name, []byte(number.Text), number)
}

// set replaces the value of name by the encoded value. If name is absent, set adds it
// after the last field. Every other byte stays as it came.
func (b *Body) set(name string, encoded []byte, value Value) {
	if b.raw == nil {
		const room = 640 // for what is filled in, signed URLs included
		b.raw = append(make([]byte, 0, len(b.text)+room), b.text...)
	}
	for i := range b.fields {
		if f := &b.fields[i]; f.name == name {
			b.splice(f.start, f.end, "", encoded)
			f.value, f.end = value, f.start+len(encoded)
			return
		}
	}
	end, lead := len(b.raw), name+"="
	switch {
	case b.mediaType == JSON && len(b.fields) > 0:
		end, lead = bytes.LastIndexByte(b.raw, '}'), `,"`+name+`":`
	case b.mediaType == JSON:
		end, lead = bytes.LastIndexByte(b.raw, '}'), `"`+name+`":`
	case len(b.raw) > 0:
		lead = "&" + lead
	}
	b.splice(end, end, lead, encoded)
	start := end + len(lead)
	b.fields = append(b.fields, field{name, value, start, start + len(encoded)})
}

// splice replaces raw[start:end], and corrects the places of the fields after it.
func (b *Body) splice(start, end int, lead string, encoded []byte) {
	rest := string(b.raw[end:])
	b.raw = append(append(append(b.raw[:start], lead...), encoded...), rest...)
	for i := range b.fields {
		if f := &b.fields[i]; f.start > start {
			moved := len(lead) + len(encoded) - (end - start)
			f.start, f.end = f.start+moved, f.end+moved
		}
	}
}
