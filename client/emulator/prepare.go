package emulator

import (
	"net/http"
	"strings"
	"sync"
)

// prepared holds the amounts that merchants announced for their orders. Only the API's payment window compares them with what
// is paid; the emulator has none.
type prepared struct {
	mu      sync.Mutex
	amounts map[orderID]float64
	orders  []orderID // in the order in which they were announced
}

// preparation is the API's model PrepareAnnotation.
type preparation struct {
	MerchantUID string  `json:"merchant_uid"`
	Amount      float64 `json:"amount"`
}

// prepare answers POST /payments/prepare.
func (e *Emulator) prepare(c *call) answer { return e.setPrepared(c, false) }

// prepareAgain answers PUT /payments/prepare.
func (e *Emulator) prepareAgain(c *call) answer { return e.setPrepared(c, true) }

const messageNotPrepared = "사전등록된 결제정보가 존재하지 않습니다."

// setPrepared sets an order's amount, for the first time or again.
func (e *Emulator) setPrepared(c *call, again bool) answer {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	var wrong violations
	merchantUID := readText(params, "merchant_uid", maxMerchantUID, &wrong)
	amount := readAmount(params, "amount", e.opts.Fractions, &wrong)
	if len(wrong) > 0 {
		return failed(http.StatusBadRequest, strings.Join(wrong, " "))
	}
	order := orderID{c.impKey, merchantUID}
	e.prepared.mu.Lock()
	defer e.prepared.mu.Unlock()
	switch _, known := e.prepared.amounts[order]; {
	case known && !again:
		return refused("이미 등록된 merchant_uid입니다.")
	case !known && again:
		return failed(http.StatusNotFound, messageNotPrepared)
	case !known:
		e.prepared.orders = append(e.prepared.orders, order)
	}
	if len(e.prepared.orders) > e.opts.MaxPayments { // the oldest is forgotten
		delete(e.prepared.amounts, e.prepared.orders[0])
		e.prepared.orders = e.prepared.orders[1:]
	}
	e.prepared.amounts[order] = amount
	return succeeded(preparation{merchantUID, amount})
}

// preparedPayment answers GET /payments/prepare/{merchant_uid}.
func (e *Emulator) preparedPayment(c *call) answer {
	e.prepared.mu.Lock()
	defer e.prepared.mu.Unlock()
	amount, known := e.prepared.amounts[orderID{c.impKey, c.args[0]}]
	if !known {
		return failed(http.StatusNotFound, messageNotPrepared)
	}
	return succeeded(preparation{c.args[0], amount})
}
