package emulator

// The emulator's own JSON endpoints: /sandbox/payments and /sandbox/faults. POST /till is in till.go.

import (
	"encoding/json"
	"net/http"
)

// serveControl serves a route that is no endpoint of the API. Such routes need no credentials, so it refuses requests that the
// page of another site makes a browser send: it compares Sec-Fetch-Site, or Origin and Host.
func (e *Emulator) serveControl(w http.ResponseWriter, r *http.Request, rt route) {
	if err := e.origins.Check(r); err != nil {
		writeResponse(w, failed(http.StatusForbidden, "request comes from a page of another origin"))
		return
	}
	rt.control(w, r)
}

// servePayments handles GET /sandbox/payments.
func (e *Emulator) servePayments(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, encodeJSON(map[string][]Payment{"payments": e.Payments()}, "  "))
}

// serveFaults handles GET /sandbox/faults.
func (e *Emulator) serveFaults(w http.ResponseWriter, _ *http.Request) {
	faults := append([]Fault{}, e.Faults()...) // [] rather than null
	writeJSON(w, http.StatusOK, encodeJSON(map[string][]Fault{"faults": faults}, "  "))
}

// serveInjectFault handles POST /sandbox/faults. It reads JSON and ignores the Content-Type, because curl -d sends that of a form.
func (e *Emulator) serveInjectFault(w http.ResponseWriter, r *http.Request) {
	body, problem := readBody(w, r)
	if problem != nil {
		writeResponse(w, *problem)
		return
	}
	var f Fault
	if err := json.Unmarshal(body, &f); err != nil {
		writeResponse(w, failed(http.StatusBadRequest, err.Error()))
		return
	}
	if err := e.Inject(f); err != nil {
		writeResponse(w, failed(http.StatusBadRequest, err.Error()))
		return
	}
	e.serveFaults(w, r)
}

// serveClearFaults handles DELETE /sandbox/faults.
func (e *Emulator) serveClearFaults(w http.ResponseWriter, r *http.Request) {
	e.ClearFaults()
	e.serveFaults(w, r)
}
