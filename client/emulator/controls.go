package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// serveControl serves the till and the controls. They need no credentials, so what a page of another site makes a browser
// send is refused; the standard check compares Sec-Fetch-Site, or Origin and Host.
func (e *Emulator) serveControl(w http.ResponseWriter, r *http.Request, rt route) {
	if err := e.origins.Check(r); err != nil {
		write(w, failed(http.StatusForbidden, "request comes from a page of another origin"))
		return
	}
	rt.control(w, r)
}

// serveTill answers POST /till.
func (e *Emulator) serveTill(w http.ResponseWriter, r *http.Request) {
	params, problem := controlParameters(w, r)
	if problem != nil {
		write(w, *problem)
		return
	}
	barcode, errBarcode := params.digits("barcode")
	payType, errPayType := params.text("pay_type")
	scenario, errScenario := params.text("scenario")
	if err := errors.Join(errBarcode, errPayType, errScenario); err != nil || barcode == "" {
		write(w, failed(http.StatusBadRequest, `till needs {"barcode": "…", "pay_type": "card" or "cash"}`))
		return
	}
	for name := range params {
		if !slices.Contains([]string{"barcode", "pay_type", "scenario"}, name) {
			write(w, failed(http.StatusBadRequest, fmt.Sprintf("till knows barcode, pay_type and scenario, not %q", name)))
			return
		}
	}
	req := ScanRequest{Barcode: barcode, PayType: payType, Scenario: Scenario(scenario)}
	if wantsPage(r) {
		e.scanFromPage(w, r, req)
		return
	}
	result, err := e.Scan(r.Context(), req)
	if err != nil {
		write(w, failed(scanStatus(err), err.Error()))
		return
	}
	send(w, http.StatusOK, encode(result, "  "))
}

func scanStatus(err error) int {
	switch {
	case errors.Is(err, ErrUnknownBarcode):
		return http.StatusNotFound
	case errors.Is(err, ErrVoid), errors.Is(err, ErrPaid):
		return http.StatusConflict
	case errors.Is(err, ErrExpired):
		return http.StatusGone
	case errors.Is(err, ErrClosed):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// controlParameters reads the fields of a request, taking for JSON what looks like it: curl -d calls everything a form.
func controlParameters(w http.ResponseWriter, r *http.Request) (parameters, *answer) {
	body, problem := readBody(w, r)
	if problem != nil {
		return nil, problem
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return parseJSON(body)
	}
	return (&call{request: r, body: body}).parameters()
}

// servePayments answers GET /sandbox/payments.
func (e *Emulator) servePayments(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, encode(map[string][]Payment{"payments": e.Payments()}, "  "))
}

// serveFaults answers GET /sandbox/faults.
func (e *Emulator) serveFaults(w http.ResponseWriter, _ *http.Request) {
	faults := append([]Fault{}, e.Faults()...) // [] rather than null
	send(w, http.StatusOK, encode(map[string][]Fault{"faults": faults}, "  "))
}

// serveInject answers POST /sandbox/faults, which takes JSON whatever its Content-Type says.
func (e *Emulator) serveInject(w http.ResponseWriter, r *http.Request) {
	body, problem := readBody(w, r)
	if problem != nil {
		write(w, *problem)
		return
	}
	var f Fault
	if err := json.Unmarshal(body, &f); err != nil {
		write(w, failed(http.StatusBadRequest, err.Error()))
		return
	}
	if err := e.Inject(f); err != nil {
		write(w, failed(http.StatusBadRequest, err.Error()))
		return
	}
	e.serveFaults(w, r)
}

// serveClear answers DELETE /sandbox/faults.
func (e *Emulator) serveClear(w http.ResponseWriter, r *http.Request) {
	e.ClearFaults()
	e.serveFaults(w, r)
}
