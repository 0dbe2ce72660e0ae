package emulator_test

import (
	"strings"
	"testing"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// A field in two forms is rejected. The order in which a map returns the forms does not matter.
func TestFormRejectsFieldInTwoForms(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	for range 20 {
		for _, twice := range []string{"merchant_uid=a&merchant_uid[0]=b", "merchant_uid=a&merchant_uid[]=b", "merchant_uid[]=a&merchant_uid[0]=b"} {
			s.do("POST", "/cvs", asForm, twice+"&amount=1").expect(t, 400, -1)
		}
	}
}

func TestIssueRejectsOtherContentTypesAndLargeBodies(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	const order = `{"merchant_uid":"order","amount":1}`
	for _, test := range []struct {
		name, contentType, body string
		status                  int
	}{
		{"charset", "application/json;charset=UTF-8", order, 200},
		{"upper case", "Application/JSON", order, 200},
		{"form", asForm, "merchant_uid=order&amount=1&expired_at=&barcode=&confirm_url=&notice_url=&pg=", 200},
		{"no type", "", order, 415},
		{"text", "text/plain", order, 415},
		{"multipart", "multipart/form-data; boundary=x", order, 415},
		{"nothing", "", "", 400},
		{"null", asJSON, "null", 400},
		{"1 MiB", asJSON, order + strings.Repeat(" ", 1<<20-len(order)), 200},
		{"more than 1 MiB", asJSON, order + strings.Repeat(" ", 1<<20-len(order)+1), 413},
	} {
		t.Run(test.name, func(t *testing.T) {
			code := -1
			if test.status == 200 {
				code = 0
			}
			s.do("POST", "/cvs", test.contentType, test.body).expect(t, test.status, code)
		})
	}
}

func TestIssueRejectsIncompleteBody(t *testing.T) {
	t.Parallel()
	s := newSandbox(t, emulator.Options{})
	rec := serve(s.Emulator, "POST", "/cvs", brokenReader{})
	if rec.Code != 400 {
		t.Errorf("a body that breaks off got %d", rec.Code)
	}
}
