// Package ledger remembers what was asked for, issued and paid, so that an app may ask for the
// barcode of an order again at any time: after a time-out, a crash, a page reload. The API says
// what a payment is; the ledger says which payments to ask about. Nothing in it is ever believed
// against the API.
//
// It knows rows, the steps between their states, and the calls of the API that these need. It does
// not know Caddy, nor how a Store keeps its rows.
package ledger
