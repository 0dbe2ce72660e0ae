package emulator_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// Neither a response of the emulator nor Payments shows a secret from the query of a webhook URL.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	echo := func(code int, format string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			_, _ = fmt.Fprintf(w, format, r.RequestURI)
		}
	}
	escaped := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(400)
		_ = json.NewEncoder(w).Encode(map[string]string{"reason": r.RequestURI, "sig": r.URL.Query().Get("cvs_sig")})
	}
	for name, handle := range map[string]http.HandlerFunc{
		"text":         echo(404, "Cannot POST %s"),
		"reason":       echo(409, `{"reason":"no route %s"}`),
		"accepted":     echo(200, `{"path":%q}`),
		"escaped JSON": escaped,
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere"+r.RequestURI, http.StatusFound)
		},
		"broken redirect": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://%zz"+r.RequestURI)
			w.WriteHeader(302)
		},
		"hung up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t, emulator.Options{})
			for _, forged := range []emulator.Forgery{"", emulator.ForgedSignature} {
				if forged != "" {
					s.inject(emulator.Fault{Endpoint: emulator.EndpointConfirm, Forged: forged})
				}
				s.expectNoSecret(t, newGateway(t, handle).URL)
				s = s.as("other")
			}
		})
	}
	t.Run("refused connection", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{}).expectNoSecret(t, "http://127.0.0.1:1")
	})
	t.Run("public address", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{}).expectNoSecret(t, "http://203.0.113.1")
	})
	t.Run("transport with the URL in its errors", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("dialling for %s: refused, signature %s", r.URL, r.URL.Query().Get("cvs_sig"))
		})}).expectNoSecret(t, "http://gateway")
	})
	t.Run("client as transport", func(t *testing.T) {
		t.Parallel()
		newSandbox(t, emulator.Options{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.RequestURI, r.URL.Host = "", "127.0.0.1:1"
			return http.DefaultClient.Do(r)
		})}).expectNoSecret(t, "http://gateway")
	})
}

// Secrets in a gateway's response body are hidden, and nothing else is.
func TestResponseBodiesAreRedacted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, answer, want string }{
		{"?k=0123456789abc%2Fd", `raw 0123456789abc%2Fd decoded 0123456789abc/d`, `"raw … decoded …"`},
		{"?0123456789abcdef", `bare 0123456789abcdef`, `"bare …"`},
		{"?k=0123456789abcde", `{"short":"0123456789abcde","pair":"k=0123456789abcde"}`, `{"short":"0123456789abcde","pair":"…"}`},
		{"?a", `{"a":"banana"}`, `{"a":"banana"}`},
		{"?a=1&b=2", `{"url":"/?a=1\u0026b=2"}`, `{"url":"/?…\u0026…"}`},
		{"", `{"a":"b?c=d"}`, `{"a":"b?c=d"}`},
	} {
		s := newSandbox(t, emulator.Options{})
		g := newGateway(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, test.answer) })
		barcode := s.issue(`"merchant_uid":"order","amount":1,"confirm_url":"` + g.URL + "/" + test.query + `"`).field("vbank_num")
		result, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode})
		if got := string(result.Confirm.Body); err != nil || got != test.want {
			t.Errorf("%s with %s became %s, want %s", test.answer, test.query, got, test.want)
		}
	}
}

func (s *sandbox) expectNoSecret(t *testing.T, gatewayURL string) {
	t.Helper()
	const fragments = "2bmF0dXJlLW9mLTIy" // the end of the signature, which a forgery does not alter
	issued := s.issue(fmt.Sprintf(`"merchant_uid":"order","amount":1,"confirm_url":"%s/c%s","notice_url":["%s/n%s"]`,
		gatewayURL, query, gatewayURL, query))
	for _, a := range []envelope{
		issued,
		s.do("POST", "/till", asForm, "barcode="+issued.field("vbank_num")),
		s.get("/sandbox/payments"),
		s.get("/sandbox/faults"),
		s.get("/payments/find/order"),
		s.do("POST", "/cvs", asJSON, `{"merchant_uid":"o","amount":0,"confirm_url":"http:///`+query+`","notice_url":"ftp://x/`+query+`"}`),
	} {
		for _, forbidden := range []string{secret, secret[1:], fragments} {
			if strings.Contains(a.raw, forbidden) {
				t.Errorf("%q is shown in %s", forbidden, a.raw)
			}
		}
	}
	if strings.Contains(fmt.Sprintf("%+v", s.Payments()), secret[2:]) {
		t.Errorf("the ledger shows the signature: %+v", s.Payments())
	}
}

func TestShownURLIsRedacted(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	g := newGateway(t, status(200))
	for i, test := range []struct{ query, want string }{
		{"?cvs_amount=1&cvs_expires=2&cvs_account=a&cvs_sig=s&k=v", "?cvs_amount=1&cvs_expires=2&cvs_account=a&cvs_sig=…&k=…"},
		{"?word", "?word"},
		{"?0123456789abcdef", "?…"},
		{"", ""},
	} {
		barcode := s.issue(fmt.Sprintf(`"merchant_uid":"order-%d","amount":1,"confirm_url":"%s/c%s"`, i, g.URL, test.query)).field("vbank_num")
		result, err := s.Scan(t.Context(), emulator.ScanRequest{Barcode: barcode})
		if err != nil || result.Confirm.URL != g.URL+"/c"+test.want {
			t.Errorf("%s is shown as %s, %v", test.query, result.Confirm.URL, err)
		}
	}
}
