package emulator

import "net/http"

// RefusePublic is the check of the address that a webhook dials.
var RefusePublic = refusePublic

// TokensHeld returns how many tokens take up memory.
func TokensHeld(e *Emulator) int {
	e.tokens.mu.Lock()
	defer e.tokens.mu.Unlock()
	return len(e.tokens.byValue)
}

// LedgerSize returns the sizes of the ledger's indexes.
func LedgerSize(e *Emulator) [4]int {
	l := e.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	return [4]int{len(l.list), len(l.byUID), len(l.byBarcode), len(l.byOrder)}
}

// Transport returns the transport of the webhooks.
func Transport(e *Emulator) http.RoundTripper { return e.transport }
