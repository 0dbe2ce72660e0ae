package emulator

// The API's responses: the envelope, and how it is written.

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// The codes of the envelope. The API's documents list none. A refusal by a business rule comes with HTTP 200 and code 1 or -1,
// any other failure with its HTTP status and -1.
const (
	codeOK      = 0
	codeRefused = 1
	codeFailed  = -1
)

// response is a response of the API: an HTTP status and the envelope {"code", "message", "response"}.
type response struct {
	status  int
	code    int
	message string
	content any // the envelope's "response"
}

func succeeded(content any) response {
	return response{status: http.StatusOK, code: codeOK, content: content}
}

func refused(message string) response {
	return response{status: http.StatusOK, code: codeRefused, message: message}
}

func failed(status int, message string) response {
	return response{status: status, code: codeFailed, message: message}
}

// without returns the response without a field of its payments. Their other fields are then in alphabetical order.
func (r response) without(field string) response {
	dec := json.NewDecoder(bytes.NewReader(encodeJSON(r.content, "")))
	dec.UseNumber()
	var content any
	_ = dec.Decode(&content) // never fails: it was just encoded
	remove(content, field)
	r.content = content
	return r
}

// remove removes a field from a payment, or from each payment of a list or of a page.
func remove(content any, field string) {
	switch content := content.(type) {
	case []any:
		for _, p := range content {
			remove(p, field)
		}
	case map[string]any:
		if list, isPage := content["list"]; isPage {
			remove(list, field)
			return
		}
		delete(content, field)
	}
}

func (r response) encode() []byte {
	return encodeJSON(struct {
		Code     int     `json:"code"`
		Message  *string `json:"message"`
		Response any     `json:"response"`
	}{r.code, nullIfEmpty(r.message), r.content}, "")
}

// writeResponse writes a response without a fault.
func writeResponse(w http.ResponseWriter, r response) {
	writeJSON(w, r.status, r.encode())
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.WriteHeader(status) // these have no body; only a fault asks for them
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails if the client has closed the connection
}

// encodeJSON returns v as JSON with <, > and & unescaped, because no browser reads these responses as HTML.
func encodeJSON(v any, indent string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		panic("emulator: encoding a response: " + err.Error()) // every type that is encoded here is one of this package
	}
	return buf.Bytes()
}

// nullIfEmpty returns what the API gives for a string: null if it is empty.
func nullIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
