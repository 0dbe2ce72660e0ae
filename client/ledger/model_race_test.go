//go:build race

package ledger

// shortRun is smaller here: the race detector slows everything down, and has nothing to find where
// one coroutine runs at a time.
const shortRun = 2_000
