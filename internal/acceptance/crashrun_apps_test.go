//go:build !race

package acceptance

// This file holds the apps of the crash run. Each asks for the barcode of one order, often several
// times at once, hangs up, and asks again.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// The app's own acts, as the report names them.
const (
	appLeft          = "app: hung up"
	appLost          = "app: connection broken"
	appRefused       = "app: connection refused"
	appOtherAmount   = "app: another amount"
	appOtherDeadline = "app: another deadline"
	appShortDeadline = "app: a deadline within the run"
	appTwoRequests   = "app: two different requests at once"
	appVoid          = "app: DELETE of its own"
	appPays          = "customer: goes to the till"
)

// appActs are printed in this order.
var appActs = []string{appLeft, appLost, appRefused, appOtherAmount, appOtherDeadline, appShortDeadline, appTwoRequests, appVoid, appPays}

// crashOrder is an order and all that happened to it.
type crashOrder struct {
	id      string
	rng     *rand.Rand   // used by one goroutine at a time
	request crashRequest // the newest
	last    *crashAsk    // the one after the faults

	mu    sync.Mutex // guards asks and voids, which several goroutines of the app append to
	asks  []*crashAsk
	voids []crashVoid
	scans []crashScan
}

// crashRequest is what an app asks for.
type crashRequest struct {
	amount   int
	deadline int64 // 0 if the app names none; cvs_proxy then gives 72 hours
}

// crashAsk is one POST /cvs and its answer.
type crashAsk struct {
	request      crashRequest
	began, ended time.Time
	status       int // 0 without an answer
	code         int
	message      string
	retryAfter   time.Duration
	reused       bool // X-Cvs-Reused
	impUID       string
	merchantUID  string
	barcode      string
	amount       int
	state        string
}

// crashVoid is one DELETE /cvs/{imp_uid} of the app.
type crashVoid struct {
	began, ended time.Time
	answered     bool
}

// crashScan is one attempt to pay.
type crashScan struct {
	impUID   string
	ended    time.Time
	final    bool // after the last answer
	accepted bool
	reason   string
}

// serve lets one app serve its customer.
func (c *crashRun) serve(t *testing.T, number int64) {
	o := &crashOrder{id: fmt.Sprintf("order-%d", number), rng: draw(1000 + uint64(number))}
	o.request = crashRequest{amount: 15000 + o.rng.IntN(5)*1000}
	c.mu.Lock()
	c.orders = append(c.orders, o)
	c.mu.Unlock()
	for range 2 + o.rng.IntN(3) {
		c.round(t, o)
		wait(nil, time.Duration(o.rng.Int64N(int64(crashTimeout))))
	}
	if o.rng.IntN(8) == 0 {
		c.counts.add(appPays)
		c.goToTill(o)
	}
}

// goToTill lets the till scan all barcodes that the customer was ever shown, in random order.
func (c *crashRun) goToTill(o *crashOrder) {
	shown := make(map[string]string)
	for _, a := range o.asks {
		if a.barcode != "" {
			shown[a.impUID] = a.barcode
		}
	}
	list := slices.Sorted(maps.Keys(shown))
	o.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, impUID := range list {
		result, err := c.g.API.Scan(context.Background(), emulator.ScanRequest{Barcode: shown[impUID]})
		o.scans = append(o.scans, crashScan{impUID: impUID, ended: time.Now(), accepted: err == nil && result.Accepted, reason: result.Reason})
	}
}

// answered returns one of the answers that had a barcode, or nil.
func (o *crashOrder) answered() *crashAsk {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []*crashAsk
	for _, a := range o.asks {
		if a.barcode != "" {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[o.rng.IntN(len(list))]
}

// revise changes what the app asks for, sometimes, and returns the name of the change.
func (o *crashOrder) revise() string {
	now := time.Now()
	switch n := o.rng.IntN(20); {
	case n < 3:
		o.request.amount += 1000
		return appOtherAmount
	case n < 5:
		o.request.deadline = now.Add([]time.Duration{time.Hour, 10 * time.Hour, 100 * time.Hour}[o.rng.IntN(3)]).Unix()
		return appOtherDeadline
	case n < 6:
		o.request.deadline = now.Add(time.Duration(2+o.rng.IntN(2)) * time.Second).Unix()
		return appShortDeadline
	}
	return ""
}

// refresh replaces a deadline that has passed or will soon.
func (o *crashOrder) refresh(soon time.Duration) {
	if o.request.deadline != 0 && o.request.deadline < time.Now().Add(soon).Unix() {
		o.request.deadline = 0
	}
}

// round asks one to three times at once, sometimes for another amount than a moment ago, and
// sometimes voids a barcode at the same time.
func (c *crashRun) round(t *testing.T, o *crashOrder) {
	o.refresh(2 * time.Second)
	former := o.request
	change := o.revise()
	c.note(change)
	var all sync.WaitGroup
	if change != "" && o.rng.IntN(3) == 0 {
		c.counts.add(appTwoRequests)
		patience, tries := o.temper()
		all.Go(func() { c.insist(t, o, former, patience, tries) })
	}
	if a := o.answered(); a != nil && o.rng.IntN(5) == 0 {
		c.counts.add(appVoid)
		patience, _ := o.temper()
		all.Go(func() { c.voidAsApp(t, o, a.impUID, patience) })
	}
	request := o.request
	for range 1 + o.rng.IntN(3) {
		patience, tries := o.temper()
		all.Go(func() { c.insist(t, o, request, patience, tries) })
	}
	all.Wait()
}

// note counts an event that has a name.
func (c *crashRun) note(name string) {
	if name != "" {
		c.counts.add(name)
	}
}

// temper draws how long an app waits for an answer, and how often it asks.
func (o *crashOrder) temper() (patience time.Duration, tries int) {
	patience = 3 * crashTimeout
	if o.rng.IntN(2) == 0 {
		patience = time.Millisecond + time.Duration(o.rng.Int64N(int64(crashTimeout)))
	}
	return patience, 1 + o.rng.IntN(3)
}

// insist asks until there is an answer of the API. It asks again at once. While the gateway is dead,
// a try does not count.
func (c *crashRun) insist(t *testing.T, o *crashOrder, request crashRequest, patience time.Duration, tries int) {
	for tries > 0 {
		a := c.ask(t, o, request, patience)
		if a.status == http.StatusOK {
			return
		}
		if a.message == appRefused && !c.full.Load() {
			wait(nil, 30*time.Millisecond)
			continue
		}
		tries--
	}
}

// ask sends one POST /cvs.
func (c *crashRun) ask(t *testing.T, o *crashOrder, request crashRequest, patience time.Duration) *crashAsk {
	form := url.Values{"merchant_uid": {o.id}, "amount": {strconv.Itoa(request.amount)}, "buyer_name": {gatewaytest.BuyerName}}
	if request.deadline != 0 {
		form.Set("expired_at", strconv.FormatInt(request.deadline, 10))
	}
	a := &crashAsk{request: request, began: time.Now()}
	resp, body, failure := c.send(t, http.MethodPost, "/cvs", form.Encode(), patience)
	a.ended, a.message = time.Now(), failure
	switch failure {
	case "":
		a.read(t, resp, body)
	case appRefused: // nobody was asked
		return a
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asks = append(o.asks, a)
	return a
}

// send sends a request and reads its answer. Without a whole answer it says in failure why.
func (c *crashRun) send(t *testing.T, method, path, body string, patience time.Duration) (resp *http.Response, answer []byte, failure string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.g.Inside+path, strings.NewReader(body))
	assert.NoError(t, err)
	r.Header.Set("Content-Type", gatewaytest.FormType)
	resp, err = c.g.HTTP.Do(r)
	if err == nil {
		defer resp.Body.Close()
		answer, err = io.ReadAll(resp.Body)
	}
	switch {
	case err == nil:
		return resp, answer, ""
	case errors.Is(err, syscall.ECONNREFUSED):
		failure = appRefused
	case ctx.Err() != nil:
		failure = appLeft
	default:
		failure = appLost
	}
	c.counts.add(failure)
	return nil, nil, failure
}

// read reads the gateway's answer.
func (a *crashAsk) read(t *testing.T, resp *http.Response, body []byte) {
	var envelope struct {
		Code     int
		Message  string
		Response struct {
			ImpUID      string `json:"imp_uid"`
			MerchantUID string `json:"merchant_uid"`
			Barcode     string `json:"vbank_num"`
			Amount      int
			Status      string
		}
	}
	assert.NoError(t, json.Unmarshal(body, &envelope), "%s", body)
	a.status, a.code, a.message = resp.StatusCode, envelope.Code, envelope.Message
	a.reused = resp.Header.Get("X-Cvs-Reused") == "1"
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		a.retryAfter = time.Duration(seconds) * time.Second
	}
	if a.status == http.StatusOK && a.code == 0 {
		p := envelope.Response
		a.impUID, a.merchantUID, a.barcode, a.amount, a.state = p.ImpUID, p.MerchantUID, p.Barcode, p.Amount, p.Status
	}
}

// voidAsApp sends the app's own DELETE.
func (c *crashRun) voidAsApp(t *testing.T, o *crashOrder, impUID string, patience time.Duration) {
	began := time.Now()
	resp, _, _ := c.send(t, http.MethodDelete, "/cvs/"+impUID, "", patience)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.voids = append(o.voids, crashVoid{began: began, ended: time.Now(), answered: resp != nil && resp.StatusCode == http.StatusOK})
}
