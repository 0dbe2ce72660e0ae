package emulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
)

// The codes of the envelope. No list of them is published: a business refusal comes with HTTP 200 and 1 or -1, any other
// failure with its HTTP status and -1.
const (
	codeOK      = 0
	codeRefused = 1
	codeFailed  = -1
)

// answer is what the API answers: an HTTP status and the envelope {"code", "message", "response"}.
type answer struct {
	status   int
	code     int
	message  string
	response any
}

func succeeded(response any) answer {
	return answer{status: http.StatusOK, code: codeOK, response: response}
}

func refused(message string) answer {
	return answer{status: http.StatusOK, code: codeRefused, message: message}
}

func failed(status int, message string) answer {
	return answer{status: status, code: codeFailed, message: message}
}

func (a answer) encode() []byte {
	envelope := struct {
		Code     int     `json:"code"`
		Message  *string `json:"message"`
		Response any     `json:"response"`
	}{Code: a.code, Message: text(a.message), Response: a.response}
	return encode(envelope, "")
}

// write sends an answer as the API does when nothing is wrong with it.
func write(w http.ResponseWriter, a answer) {
	send(w, a.status, a.encode())
}

func send(w http.ResponseWriter, status int, body []byte) {
	if status == http.StatusNoContent || status == http.StatusNotModified {
		w.WriteHeader(status) // neither may have a body, only a fault asks for them
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have left
}

// encode returns v as JSON. It leaves <, > and & as they are: no browser reads these answers as HTML.
func encode(v any, indent string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		panic("emulator: encoding an answer: " + err.Error()) // only types of this package come here
	}
	return buf.Bytes()
}

// text returns what the API gives for a string: null if there is none.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
