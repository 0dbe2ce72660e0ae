package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxFaults = 1000
	maxDelay  = time.Hour
	injecting = "injecting fault: "

	// The sizes of oversized messages: well above what a careful reader takes of an answer, and of a webhook.
	oversizedAnswer  = 16 << 20
	oversizedWebhook = 2 << 20

	garbage = "<!DOCTYPE html>\n<html><head><title>503 Service Temporarily Unavailable</title></head>" +
		"<body><h1>점검 중입니다.</h1></body></html>\n"
)

// Drop says when a connection is closed instead of an answer being given.
type Drop string

// The moments of a [Drop]. A webhook dropped before is never sent; one dropped after arrives, and its answer is lost.
const (
	DropBefore Drop = "before" // before the work is done
	DropAfter  Drop = "after"  // after the work, without an answer
	DropBody   Drop = "body"   // after the work, the headers and half the body; not for webhooks
)

// Forgery says what is altered in a forged webhook.
type Forgery string

// The forgeries. The first two alter the query parameters cvs_sig and cvs_amount, or add them to a URL without.
const (
	ForgedSignature   Forgery = "signature"
	ForgedAmount      Forgery = "amount"
	ForgedMerchantUID Forgery = "merchant_uid" // in the body
	ForgedUnsigned    Forgery = "unsigned"     // the whole query is removed
)

// Fault makes requests to the API, or the emulator's webhooks, go wrong. Beside a delay it has one effect. Its JSON form is
// that of POST /sandbox/faults.
type Fault struct {
	// Endpoint is the kind of request that goes wrong. EndpointAll stands for all on which the fault can have an effect.
	Endpoint Endpoint `json:"endpoint"`

	// Times is how many requests go wrong, 0 for all until the fault is cleared. As listed, how many are left.
	Times int `json:"times,omitempty"`

	// Delay comes before the work, or before the webhook is sent. It is at most an hour, and Close ends it. In JSON it is a
	// string such as "1.5s". The work is done after it even if the client has left, as with a real server.
	Delay time.Duration `json:"-"`

	// CancelWithClient gives the delay and the work up when the client leaves.
	CancelWithClient bool `json:"cancel_with_client,omitempty"`

	// Status answers with this HTTP status and an envelope, and Code with this code (and HTTP 200 if there is no Status),
	// instead of doing the work. Message is the envelope's message.
	Status  int    `json:"status,omitempty"`
	Code    int    `json:"code,omitempty"`
	Message string `json:"message,omitempty"`

	// Drop closes the connection instead of answering.
	Drop Drop `json:"drop,omitempty"`

	// Garbage does the work, then answers 200 with an HTML page. A webhook is sent with the page for a body.
	Garbage bool `json:"garbage,omitempty"`

	// Oversized does the work, then answers with 16 MiB: the right JSON after spaces. A webhook is sent with 2 MiB.
	Oversized bool `json:"oversized,omitempty"`

	// ExpiredToken expires the request's token before its time, so that the request is answered 401.
	ExpiredToken bool `json:"expired_token,omitempty"`

	// Duplicate sends a webhook twice, one after the other. The first answer decides.
	Duplicate bool `json:"duplicate,omitempty"`

	// Forged alters a webhook as a forger would.
	Forged Forgery `json:"forged,omitempty"`
}

// plainFault is a Fault without its methods, lest they call themselves.
type plainFault Fault

// MarshalJSON writes the delay as a string.
func (f Fault) MarshalJSON() ([]byte, error) {
	delay := ""
	if f.Delay > 0 {
		delay = f.Delay.String()
	}
	return json.Marshal(struct {
		plainFault
		Delay string `json:"delay,omitempty"`
	}{plainFault(f), delay})
}

// UnmarshalJSON reads the delay from a string and refuses unknown fields.
func (f *Fault) UnmarshalJSON(b []byte) error {
	var read struct {
		plainFault
		Delay string `json:"delay"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&read); err != nil {
		return fmt.Errorf("reading fault: %w", err)
	}
	if read.Delay != "" {
		var err error
		if read.plainFault.Delay, err = time.ParseDuration(read.Delay); err != nil {
			return fmt.Errorf("reading fault: delay must be a duration such as \"1.5s\", not %q", read.Delay)
		}
	}
	*f = Fault(read.plainFault)
	return nil
}

// endpoints are those which a fault may name.
var endpoints = []Endpoint{
	EndpointToken, EndpointIssue, EndpointVoid, EndpointPayment, EndpointPayments, EndpointBalance, EndpointFind, EndpointFindAll,
	EndpointList, EndpointCancel, EndpointPrepare, EndpointCard, EndpointConfirm, EndpointNotice, EndpointAll,
}

// validate returns everything that is wrong with a fault.
func (f Fault) validate() error {
	var wrong []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	effects := f.effects()
	check(slices.Contains(endpoints, f.Endpoint), "endpoint must be one of %s", list(endpoints))
	check(f.Times >= 0, "times must not be negative; 0 means until cleared")
	check(f.Delay >= 0 && f.Delay <= maxDelay, "delay must be between 0 and %v", maxDelay)
	check(f.Status == 0 || f.Status >= 200 && f.Status <= 599, "status must be between 200 and 599")
	check(f.Message == "" || f.Status != 0 || f.Code != 0, "message needs a status or a code")
	check(!f.CancelWithClient || f.Delay > 0, "cancel_with_client needs a delay")
	drops := []Drop{"", DropBefore, DropAfter, DropBody}
	check(slices.Contains(drops, f.Drop), "drop must be one of %s", list(drops[1:]))
	forgeries := []Forgery{"", ForgedSignature, ForgedAmount, ForgedMerchantUID, ForgedUnsigned}
	check(slices.Contains(forgeries, f.Forged), "forged must be one of %s", list(forgeries[1:]))
	check(len(effects) <= 1, "one fault cannot combine %s; inject one for each", list(effects))
	check(len(effects) == 1 || f.Delay > 0, "a fault needs a delay or an effect")
	if len(wrong) == 0 {
		check(f.Endpoint == EndpointAll || f.affects(f.Endpoint), "%s has no effect on endpoint %s", list(effects), f.Endpoint)
		check(!f.CancelWithClient || !f.Endpoint.isWebhook(), "cancel_with_client has no effect on endpoint %s", f.Endpoint)
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

// effects returns the names of what a fault does beside its delay.
func (f Fault) effects() []string {
	var names []string
	for _, effect := range []struct {
		name string
		set  bool
	}{
		{"status or code", f.Status != 0 || f.Code != 0},
		{"drop", f.Drop != ""},
		{"garbage", f.Garbage},
		{"oversized", f.Oversized},
		{"expired_token", f.ExpiredToken},
		{"duplicate", f.Duplicate},
		{"forged", f.Forged != ""},
	} {
		if effect.set {
			names = append(names, effect.name)
		}
	}
	return names
}

// affects reports whether a fault can take effect on an endpoint.
func (f Fault) affects(endpoint Endpoint) bool {
	switch {
	case f.Endpoint != EndpointAll && f.Endpoint != endpoint:
		return false
	case endpoint.isWebhook():
		return f.Status == 0 && f.Code == 0 && f.Drop != DropBody && !f.ExpiredToken
	case f.Duplicate || f.Forged != "":
		return false
	}
	return !f.ExpiredToken || endpoint != EndpointToken
}

func (e Endpoint) isWebhook() bool {
	return e == EndpointConfirm || e == EndpointNotice
}

// answer returns what a fault answers instead of the API.
func (f Fault) answer() (answer, bool) {
	if f.Status == 0 && f.Code == 0 {
		return answer{}, false
	}
	return answer{
		status:  cmp.Or(f.Status, http.StatusOK),
		code:    cmp.Or(f.Code, codeFailed),
		message: cmp.Or(f.Message, "요청을 처리할 수 없습니다."),
	}, true
}

// deliver sends an answer as well as the fault allows.
func deliver(w http.ResponseWriter, f Fault, a answer) {
	switch {
	case f.Drop == DropAfter:
		panic(http.ErrAbortHandler)
	case f.Drop == DropBody:
		body := a.encode()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(a.status)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush() // or the server would drop this half, too
		panic(http.ErrAbortHandler)
	case f.Garbage:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, garbage)
	case f.Oversized:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(a.status)
		_, _ = io.Copy(w, oversize(a.encode(), oversizedAnswer))
	default:
		write(w, a)
	}
}

// oversize returns JSON behind so many spaces that it has size bytes.
func oversize(body []byte, size int) io.Reader {
	padding := io.LimitReader(spaces{}, int64(size-len(body)))
	return io.MultiReader(padding, bytes.NewReader(body))
}

var blank = strings.Repeat(" ", 32<<10)

// spaces is an endless reader of spaces.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	return copy(p, blank), nil
}

// faultList holds the faults in force. A request takes the first that affects it.
type faultList struct {
	mu     sync.Mutex
	faults []Fault
}

// Inject puts a fault in force. It returns an error if the fault makes no sense, or if there are too many already.
func (e *Emulator) Inject(f Fault) error {
	if err := f.validate(); err != nil {
		return fmt.Errorf(injecting+"%w", err)
	}
	l := &e.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) >= maxFaults {
		return fmt.Errorf(injecting+"%d are in force already", maxFaults)
	}
	l.faults = append(l.faults, f)
	return nil
}

// Faults returns the faults in force, in the order in which they take effect.
func (e *Emulator) Faults() []Fault {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	return slices.Clone(e.faults.faults)
}

// ClearFaults brings the emulator back to normal. Delays under way run on.
func (e *Emulator) ClearFaults() {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.faults = nil
}

// fault returns the fault for one request to an endpoint, or none.
func (e *Emulator) fault(endpoint Endpoint, r func() *http.Request) Fault {
	if f, ok := e.faults.take(endpoint); ok || e.opts.Fault == nil {
		return f
	}
	f := e.opts.Fault(endpoint, r())
	if f.Endpoint = endpoint; f.validate() != nil {
		return Fault{}
	}
	return f
}

// noRequest stands for a webhook that is still to be made.
func noRequest() *http.Request { return nil }

// take returns the injected fault for one request to an endpoint, if there is one, and counts it down.
func (l *faultList) take(endpoint Endpoint) (f Fault, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.faults, func(f Fault) bool { return f.affects(endpoint) })
	if i < 0 {
		return Fault{}, false
	}
	f = l.faults[i]
	switch {
	case f.Times == 1:
		l.faults = slices.Delete(l.faults, i, i+1)
	case f.Times > 1:
		l.faults[i].Times--
	}
	return f, true
}

func list[S ~string](items []S) string {
	names := make([]string, len(items))
	for i, item := range items {
		names[i] = string(item)
	}
	return strings.Join(names, ", ")
}
