//go:build !race

package ledger

// shortRun is the number of histories of the model run's short form.
const shortRun = 20_000
