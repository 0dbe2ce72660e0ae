package client

// This file holds the calls that an app makes.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-cvs/caddy-cvs/client/strict"
)

// Issue asks for a barcode. See IssueRaw for what it does if the answer is lost.
func (c *Client) Issue(ctx context.Context, r *IssueRequest) (*Payment, error) {
	if !r.validUTF8() {
		return nil, &InvalidError{[]string{"a text is not valid UTF-8"}}
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	issue, err := ParseIssue(strict.JSON, body.Bytes(), c.state.Now())
	if err != nil {
		return nil, err
	}
	return changed(c.IssueRaw(ctx, issue))
}

// Void makes an unpaid barcode unusable, for an order that was changed or
// cannot be delivered any more.
func (c *Client) Void(ctx context.Context, impUID string) (*Payment, error) {
	return changed(c.Do(ctx, VoidRequest(impUID)))
}

// changed reads the payment of a call that changes something. If the API says that it
// did the work and the rest cannot be read, the work is done all the same.
func changed(resp *Response, err error) (*Payment, error) {
	if err != nil {
		return nil, err
	}
	payment, err := resp.Payment()
	if errors.Is(err, ErrNotAPI) {
		return nil, &UnreadableError{ImpUID: resp.impUID()}
	}
	return payment, err
}

// Payment looks up one payment.
func (c *Client) Payment(ctx context.Context, impUID string) (*Payment, error) {
	return c.payment(ctx, PaymentRequest(impUID))
}

// FindPayment looks up the newest payment of an order, of any status if status
// is "".
func (c *Client) FindPayment(ctx context.Context, merchantUID string, status Status) (*Payment, error) {
	return c.payment(ctx, FindRequest(merchantUID, status))
}

func (c *Client) payment(ctx context.Context, r Request) (*Payment, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp.Payment()
}

// OrderPayments lists all payments of an order, the newest first, of any means of payment.
func (c *Client) OrderPayments(ctx context.Context, merchantUID string) ([]Payment, error) {
	var list []Payment
	const limit, most = 100, 100 // payments a page, pages
	for page := 1; page <= most; page++ {
		q := url.Values{
			"include_sandbox": {"true"}, "sorting": {"-started"}, "limit": {strconv.Itoa(limit)}, "page": {strconv.Itoa(page)},
		}
		found, err := c.page(ctx, Request{Method: http.MethodGet, Path: "/payments/findAll/" + url.PathEscape(merchantUID), Query: q.Encode(), List: true})
		if errors.Is(err, ErrNotFound) && page == 1 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if list = append(list, found.List...); found.Next == 0 {
			return list, nil
		}
	}
	return nil, &failure{ErrNotAPI, errTooLarge}
}

// ListOptions narrow ListPayments. Zero values stand for the API's defaults.
type ListOptions struct {
	Page    int       // from 1
	Limit   int       // payments a page, at most 1000; default 20
	From    time.Time // default 90 days before To
	To      time.Time // default now; at most 90 days after From
	Sorting string    // "-started" (the default), "started", "-paid", "paid", "-updated", "updated"
}

// ListPayments lists payments by status, StatusAll included, a page at a time.
func (c *Client) ListPayments(ctx context.Context, status Status, o ListOptions) (*PaymentPage, error) {
	return c.page(ctx, ListRequest(status, o))
}

// page asks for one page of a list.
func (c *Client) page(ctx context.Context, r Request) (*PaymentPage, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := resp.Err(); err != nil {
		return nil, err
	}
	page := new(PaymentPage)
	if err := json.Unmarshal([]byte(resp.response().Raw), page); err != nil {
		return nil, ErrNotAPI
	}
	return page, nil
}
