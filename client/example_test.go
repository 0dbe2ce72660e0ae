package client_test

// This file holds the examples of the documentation.

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client"
	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// connect returns a client, the emulator of the API that it calls, and a function that
// closes both.
func connect() (*client.Client, *emulator.Emulator, func()) {
	e := emulator.New(emulator.Options{})
	server := httptest.NewServer(e)
	c, err := client.New(client.Config{API: server.URL, ImpKey: "my-key", ImpSecret: "my-secret"})
	if err != nil {
		panic(err)
	}
	return c, e, func() {
		c.Close()
		_ = e.Close()
		server.Close()
	}
}

func ExampleClient_Issue() {
	c, _, disconnect := connect()
	defer disconnect()

	payment, err := c.Issue(context.Background(), &client.IssueRequest{
		MerchantUID: "order-1", Amount: client.Won(15000), Name: "떡볶이", Barcode: "8801234",
		ExpiredAt: time.Now().Add(72 * time.Hour).Unix(),
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(payment.MerchantUID, payment.Amount, payment.Status, payment.Barcode())
	// Output: order-1 15000 ready 8801234
}

// Issue reports everything that is wrong with a request at once, before it is sent.
func ExampleClient_Issue_invalid() {
	c, _, disconnect := connect()
	defer disconnect()

	_, err := c.Issue(context.Background(), &client.IssueRequest{Amount: client.Won(0), BuyerPostcode: "04524-1234"})
	if invalid, ok := errors.AsType[*client.InvalidError](err); ok {
		for _, problem := range invalid.Problems {
			fmt.Println(problem)
		}
	}
	// Output:
	// buyer_postcode has 10 characters, at most 8 are allowed
	// merchant_uid is required
	// amount must be a number greater than 0
}

func ExampleClient_Void() {
	c, _, disconnect := connect()
	defer disconnect()
	ctx := context.Background()

	payment, _ := c.Issue(ctx, &client.IssueRequest{MerchantUID: "order-1", Amount: client.Won(15000)})
	voided, err := c.Void(ctx, payment.ImpUID)
	fmt.Println(voided.Status, err)

	_, err = c.Void(ctx, payment.ImpUID)
	if refusal, ok := errors.AsType[*client.APIError](err); ok {
		fmt.Println(refusal.Code, refusal.Message)
	}
	// Output:
	// cancelled <nil>
	// 1 이미 말소된 수납번호입니다.
}

func ExampleClient_FindPayment() {
	c, till, disconnect := connect()
	defer disconnect()
	ctx := context.Background()

	payment, _ := c.Issue(ctx, &client.IssueRequest{MerchantUID: "order-1", Amount: client.Won(15000)})
	_, _ = till.Scan(ctx, emulator.ScanRequest{Barcode: payment.Barcode(), PayType: emulator.PayTypeCash})

	paid, err := c.FindPayment(ctx, "order-1", client.StatusPaid)
	fmt.Println(paid.Status, paid.Amount.Equal("15000.00"), err)
	_, err = c.FindPayment(ctx, "order-2", "")
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Output:
	// paid true <nil>
	// true
}

func ExampleClient_ListPayments() {
	c, _, disconnect := connect()
	defer disconnect()
	ctx := context.Background()

	for _, order := range []string{"order-1", "order-2", "order-3"} {
		_, _ = c.Issue(ctx, &client.IssueRequest{MerchantUID: order, Amount: client.Won(15000)})
	}
	options := client.ListOptions{Page: 1, Limit: 2, Sorting: "started"}
	for options.Page != 0 {
		page, err := c.ListPayments(ctx, client.StatusReady, options)
		if err != nil {
			panic(err)
		}
		for _, payment := range page.List {
			fmt.Println(payment.MerchantUID, "of", page.Total)
		}
		options.Page = int(page.Next)
	}
	// Output:
	// order-1 of 3
	// order-2 of 3
	// order-3 of 3
}

// A connection that breaks leaves no doubt: the payment is looked up.
func ExampleClient_IssueRaw() {
	c, api, disconnect := connect()
	defer disconnect()
	_ = api.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Times: 1, Drop: emulator.DropAfter})

	issue, err := client.ParseIssue(strict.JSON, []byte(`{"merchant_uid":"order-1","amount":15000}`), c.State().Now())
	if err != nil {
		panic(err)
	}
	response, err := c.IssueRaw(context.Background(), issue)
	if err != nil {
		panic(err)
	}
	payment, err := response.Payment()
	fmt.Println(payment.MerchantUID, payment.Status, err)
	fmt.Println("recovered:", response.Recovered, "barcodes:", len(api.Payments()))
	// Output:
	// order-1 ready <nil>
	// recovered: true barcodes: 1
}

func ExampleIssue_Complete() {
	c, api, disconnect := connect()
	defer disconnect()
	keys, _ := signedurl.NewKeys("a long and secret text")
	confirm, _ := signedurl.ParseBase("http://127.0.0.1:8080/cvs/confirm")

	issue, err := client.ParseIssue(strict.Form, []byte("merchant_uid=order-1&amount=15000.00&pg="), c.State().Now())
	if err != nil {
		panic(err)
	}
	if err := issue.Complete(client.Defaults{PG: "galaxia.M1234567", ConfirmURL: confirm}, keys, "", c.State().Now()); err != nil {
		panic(err)
	}
	response, err := c.IssueRaw(context.Background(), issue)
	if err != nil {
		panic(err)
	}
	payment, _ := response.Payment()
	confirmURL, _ := api.WebhookURLs(payment.ImpUID)
	url, proof, _ := strings.Cut(confirmURL, "cvs_id=")
	_, signature, _ := strings.Cut(proof, "&cvs_sig=")
	fmt.Println(payment.PGID, url, len(signature))
	// Output: M1234567 http://127.0.0.1:8080/cvs/confirm?cvs_amount=15000&cvs_expires=& 22
}
