package emulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
)

// A merchant issues a barcode with a number of its own, and a customer pays it at the till.
func Example() {
	e := emulator.New(emulator.Options{Keys: map[string]string{"my-key": "my-secret"}})
	defer func() { _ = e.Close() }()
	api := httptest.NewServer(e)
	defer api.Close()

	post := func(path, token, body string) map[string]any {
		req, _ := http.NewRequest(http.MethodPost, api.URL+path, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			panic(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var envelope struct{ Response map[string]any }
		_ = json.NewDecoder(resp.Body).Decode(&envelope)
		return envelope.Response
	}
	token := post("/users/getToken", "", `{"imp_key":"my-key","imp_secret":"my-secret"}`)["access_token"].(string)
	payment := post("/cvs", token, `{"merchant_uid":"order-1","amount":15000,"barcode":"8801234"}`)
	fmt.Println(payment["merchant_uid"], payment["status"])

	result, err := e.Scan(context.Background(), emulator.ScanRequest{Barcode: "8801234", PayType: emulator.PayTypeCash})
	fmt.Println(result.Accepted, result.Payment.Status, err)
	// Output:
	// order-1 ready
	// true paid <nil>
}

// The next POST /cvs is processed, but its client gets no response.
func ExampleEmulator_Inject() {
	e := emulator.New(emulator.Options{})
	fmt.Println(e.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter}))
	fmt.Println(e.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Forged: emulator.ForgedAmount}))
	// Output:
	// <nil>
	// injecting fault: forged has no effect on endpoint issue
}
