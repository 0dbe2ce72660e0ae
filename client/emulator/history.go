package emulator

// Payments as they were before, for look-ups that lag.

import "time"

// keepHistory keeps a payment as it is, before it is changed. The number of its changes is small, so none are removed.
func (p *payment) keepHistory(now time.Time) {
	p.earlier, p.since = new(*p), now
}

// asOf returns the payment as it was at a time, or nil if it did not exist then.
func (p *payment) asOf(at time.Time) *payment {
	for p != nil && p.since.After(at) {
		p = p.earlier
	}
	return p
}

// shown returns what a look-up shows of payments: as they are, or as they were if look-ups lag.
func (c *call) shown(payments []payment) []payment {
	if c.asOf.IsZero() {
		return payments
	}
	var past []payment
	for i := range payments {
		if p := payments[i].asOf(c.asOf); p != nil {
			past = append(past, *p)
		}
	}
	return past
}
