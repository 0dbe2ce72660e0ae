package emulator

// Registering amounts before a payment: POST, PUT and GET /payments/prepare.

import (
	"net/http"
	"sync"
)

// preparedAmounts holds the amounts that merchants registered for their orders. The real API compares them with what is paid in
// its payment window, which the emulator does not have.
type preparedAmounts struct {
	mu      sync.Mutex
	amounts map[orderID]float64
	orders  []orderID // in the order of registration
}

// preparedAmount is the API's model PrepareAnnotation.
type preparedAmount struct {
	MerchantUID string  `json:"merchant_uid"`
	Amount      float64 `json:"amount"`
}

// prepare handles POST /payments/prepare.
func (e *Emulator) prepare(c *call) response { return e.setPrepared(c, false) }

// updatePrepared handles PUT /payments/prepare.
func (e *Emulator) updatePrepared(c *call) response { return e.setPrepared(c, true) }

const messageNotPrepared = "사전등록된 결제정보가 존재하지 않습니다."

// setPrepared registers an order's amount, or changes a registered one.
func (e *Emulator) setPrepared(c *call, update bool) response {
	params, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	var wrong violations
	merchantUID := readText(params, "merchant_uid", maxMerchantUID, &wrong)
	amount := readAmount(params, "amount", e.opts.Fractions, &wrong)
	if len(wrong) > 0 {
		return wrong.response()
	}
	order := orderID{c.impKey, merchantUID}
	e.prepared.mu.Lock()
	defer e.prepared.mu.Unlock()
	switch _, known := e.prepared.amounts[order]; {
	case known && !update:
		return refused("이미 등록된 merchant_uid입니다.")
	case !known && update:
		return failed(http.StatusNotFound, messageNotPrepared)
	case !known:
		e.prepared.orders = append(e.prepared.orders, order)
	}
	if len(e.prepared.orders) > e.opts.MaxPayments { // removes the oldest
		delete(e.prepared.amounts, e.prepared.orders[0])
		e.prepared.orders = e.prepared.orders[1:]
	}
	e.prepared.amounts[order] = amount
	return succeeded(preparedAmount{merchantUID, amount})
}

// getPrepared handles GET /payments/prepare/{merchant_uid}.
func (e *Emulator) getPrepared(c *call) response {
	e.prepared.mu.Lock()
	defer e.prepared.mu.Unlock()
	amount, known := e.prepared.amounts[orderID{c.impKey, c.args[0]}]
	if !known {
		return failed(http.StatusNotFound, messageNotPrepared)
	}
	return succeeded(preparedAmount{c.args[0], amount})
}
