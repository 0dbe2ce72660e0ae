package emulator

// The faults in force.

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
)

const (
	maxFaults       = 1000
	injectingPrefix = "injecting fault: "
)

// faultList holds the faults in force. The first that affects a request is used.
type faultList struct {
	mu     sync.Mutex
	faults []Fault
}

// Inject puts a fault in force. It returns an error if the fault is invalid, or if too many are in force.
func (e *Emulator) Inject(f Fault) error {
	if err := f.validate(); err != nil {
		return fmt.Errorf(injectingPrefix+"%w", err)
	}
	l := &e.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.faults) >= maxFaults {
		return fmt.Errorf(injectingPrefix+"%d are in force already", maxFaults)
	}
	l.faults = append(l.faults, f)
	return nil
}

// Faults returns the faults in force, in the order in which they are used.
func (e *Emulator) Faults() []Fault {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	return slices.Clone(e.faults.faults)
}

// ClearFaults removes all injected faults. Delays that have begun go on.
func (e *Emulator) ClearFaults() {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.faults = nil
}

// fault returns the fault for one request to an endpoint, or an empty one.
func (e *Emulator) fault(endpoint Endpoint, r func() *http.Request) Fault {
	if f, ok := e.faults.take(endpoint); ok || e.opts.Fault == nil {
		return f
	}
	f := e.opts.Fault(endpoint, r())
	if f.Endpoint = endpoint; f.validate() != nil {
		return Fault{}
	}
	return f
}

// noRequest is the request of a webhook, which does not exist before the fault is known.
func noRequest() *http.Request { return nil }

// take returns the injected fault for one request to an endpoint, and reduces its Times.
func (l *faultList) take(endpoint Endpoint) (f Fault, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.faults, func(f Fault) bool { return f.affects(endpoint) })
	if i < 0 {
		return Fault{}, false
	}
	f = l.faults[i]
	switch {
	case f.Times == 1:
		l.faults = slices.Delete(l.faults, i, i+1)
	case f.Times > 1:
		l.faults[i].Times--
	}
	return f, true
}
