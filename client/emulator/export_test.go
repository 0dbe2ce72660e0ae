package emulator

import "net/http"

// RefusePublic validates the address that a webhook connects to.
var RefusePublic = refusePublic

// TokensHeld returns the number of tokens in memory.
func TokensHeld(e *Emulator) int {
	e.tokens.mu.Lock()
	defer e.tokens.mu.Unlock()
	return len(e.tokens.byValue)
}

// StoreSize returns the number of payments in the store and in each of its indexes.
func StoreSize(e *Emulator) [4]int {
	s := e.store
	s.mu.Lock()
	defer s.mu.Unlock()
	return [4]int{len(s.list), len(s.byUID), len(s.byBarcode), len(s.byOrder)}
}

// Transport returns the transport of the webhooks.
func Transport(e *Emulator) http.RoundTripper { return e.transport }
