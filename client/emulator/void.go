package emulator

// Voiding barcodes: DELETE /cvs/{imp_uid}.

import (
	"errors"
	"net/http"
)

// void handles DELETE /cvs/{imp_uid}.
func (e *Emulator) void(c *call) response {
	p, err := e.store.void(c.impKey, c.args[0], e.opts.Now())
	switch {
	case errors.Is(err, errUnknownPayment):
		return failed(http.StatusNotFound, messageUnknownPayment)
	case errors.Is(err, ErrPaid):
		return refused("이미 수납이 완료되어 말소할 수 없습니다.")
	case errors.Is(err, ErrVoid):
		// Assumption: a second void is refused, and not answered like the first.
		return refused("이미 말소된 수납번호입니다.")
	}
	return succeeded(e.annotate(p))
}
