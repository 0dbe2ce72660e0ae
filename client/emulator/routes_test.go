package emulator_test

import (
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

func TestRoutesRejectUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for _, test := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/users/getToken", 405, "POST"},
		{"GET", "/cvs", 405, "POST"},
		{"POST", "/cvs/imp_1", 405, "DELETE"},
		{"DELETE", "/payments/imp_1", 405, "GET, POST"},
		{"DELETE", "/payments/find/order", 405, "GET, POST"},
		{"PUT", "/payments/find/order/ready", 405, "GET, POST"},
		{"PUT", "/payments/status/all/", 405, "GET, POST"},
		{"GET", "/payments/cancel", 405, "POST"},
		{"DELETE", "/payments/prepare", 405, "POST, PUT"},
		{"GET", "/payments/findAll", 404, ""},
		{"GET", "/subscribe/payments/onetime", 405, "POST"},
		{"GET", "/till/", 404, ""},
		{"DELETE", "/till", 405, "GET, POST"},
		{"GET", "/till-faults", 405, "POST"},
		{"GET", "/till-normal", 405, "POST"},
		{"POST", "/till.js", 405, "GET"},
		{"POST", "/sandbox/payments", 405, "GET"},
		{"PUT", "/sandbox/faults", 405, "GET, POST, DELETE"},
		{"POST", "/", 405, "GET"},
		{"GET", "//", 404, ""},
		{"GET", "/payments/find/a/ready/c", 404, ""},
		{"POST", "/payments/cancel/now/please", 404, ""},
		{"GET", "/sandbox", 404, ""},
		{"POST", "/CVS", 404, ""},
	} {
		a := s.do(test.method, test.path, "", "")
		a.expect(t, test.status, -1)
		if got := a.header.Get("Allow"); got != test.allow {
			t.Errorf("%s %s: Allow %q, want %q", test.method, test.path, got, test.allow)
		}
	}
	if got := s.Requests(emulator.EndpointIssue); got != 0 {
		t.Errorf("%d requests of a wrong method were counted", got)
	}
}
