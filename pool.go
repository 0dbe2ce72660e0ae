package caddycvs

// This file holds the pool of the state that survives a reload: an account's token, clock and
// attempts.

import (
	"crypto/sha256"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// states holds the state of each account in use. Its keys are of type stateKey.
var states = caddy.NewUsagePool()

// stateKey identifies an account at the API without repeating its keys.
type stateKey struct {
	api         string
	credentials [sha256.Size]byte
}

// String is equal for equal keys only.
func (k stateKey) String() string { return fmt.Sprintf("%q %x", k.api, k.credentials) }

// fingerprint identifies a pair of keys.
func fingerprint(key, secret string) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d:%s%s", len(key), key, secret))
}

type pooledState struct{ *client.State }

// Destruct ends background renewals when no configuration uses the account any more.
func (p pooledState) Destruct() error {
	p.Close()
	return nil
}

func acquireState(api, key, secret string) (*client.State, stateKey) {
	k := stateKey{api, fingerprint(key, secret)}
	state, _ := states.LoadOrStore(k, pooledState{client.NewState()})
	return state.(pooledState).State, k
}

func releaseState(k stateKey) { _, _ = states.Delete(k) }

// Interface guards
var _ caddy.Destructor = pooledState{}
