package ledger

// This file holds the row of an order: what it keeps, its states, and its encoding.

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddy-cvs/caddy-cvs/client"
)

// Key names an order of an account.
type Key struct {
	Account string // "" for the unnamed one
	Order   string // merchant_uid
}

// Format is the version of the rows that this package writes. It neither claims nor writes a row
// of a newer one.
const Format = 1

// MaxAttempts is the number of attempts that a row keeps.
const MaxAttempts = 20

// Row is what is kept of one order. Times are in Unix milliseconds by the store's clock, or by
// that of the machine that wrote them if the store has none, unless said otherwise.
type Row struct {
	Format    int       `json:"format"`
	Account   string    `json:"account,omitzero"`
	Order     string    `json:"order"`
	Version   uint64    `json:"version"`             // grows with each write; never used twice for an order
	Due       int64     `json:"due"`                 // the earliest moment at which something is to be done; never 0
	Holder    string    `json:"holder,omitzero"`     // who may send a POST or DELETE for the order; "" for nobody
	HeldUntil int64     `json:"held_until,omitzero"` // the end of the hold
	AtTill    int64     `json:"at_till,omitzero"`    // when a confirm webhook was last accepted
	Tries     int       `json:"tries,omitzero"`      // times in a row that the worker could not finish
	Attempts  []Attempt `json:"attempts"`            // in the order in which they were asked for
	Hints     []Hint    `json:"hints,omitzero"`      // payments that are to be looked at
	Telling   Telling   `json:"telling,omitzero"`    // telling the shop
	Queue     Queue     `json:"queue,omitzero"`      // the queue, beside Looks, in which the row stands; "" for none
	QueueDue  int64     `json:"queue_due,omitzero"`  // its place there
	Mark      *Mark     `json:"mark,omitzero"`       // of an account's row: see markOrder
	Past      Past      `json:"past,omitzero"`       // of a row that was moved here: takes the place of its account's mark

	Unknown jsontext.Value `json:",embed"` // members that a newer version wrote
}

// Attempt is one POST /cvs. It keeps no buyer's data, no whole barcode and no token.
type Attempt struct {
	ID         string   `json:"id"` // cvs_id of its signed URLs
	State      State    `json:"state"`
	Voiding    bool     `json:"voiding,omitzero"`  // it is to be voided, whatever the app asks for
	Closed     bool     `json:"closed,omitzero"`   // given up. Asked: what turns up is voided. Expired: the API refuses to void it
	ImpUID     string   `json:"imp_uid,omitzero"`  // "" while the outcome is unknown
	Amount     string   `json:"amount"`            // in the form that decimal.Canonical gives
	Own        string   `json:"own,omitzero"`      // keyed digest of the merchant's own barcode
	PG         string   `json:"pg,omitzero"`       // as it was sent
	ChannelKey string   `json:"channel,omitzero"`  // likewise
	Deadline   int64    `json:"deadline,omitzero"` // Unix seconds by the API's clock; 0 if unknown
	Fields     []string `json:"fields,omitzero"`   // names of the answer's members that had a value
	Began      int64    `json:"began,omitzero"`    // the earliest second of the API's in which its payment can have begun; 0 if unknown
	Asked      int64    `json:"asked"`             // when it was written, before its call was sent
	Since      int64    `json:"since"`             // when it came into its state
	Looks      int      `json:"looks,omitzero"`    // look-ups that the worker has done in this state
	Next       int64    `json:"next,omitzero"`     // when it is to be looked at again; 0 for never

	// What a look-up by the worker showed last.
	Verified     int64         `json:"verified,omitzero"`      // when; 0 if it was not looked at since it came into its state
	Status       client.Status `json:"status,omitzero"`        // in the API's own word
	PaidAt       int64         `json:"paid_at,omitzero"`       // Unix seconds by the API's clock
	CancelAmount string        `json:"cancel_amount,omitzero"` // paid back until then

	Happenings []Happening `json:"happenings,omitzero"` // what the shop is to hear of it, or has heard, in order
	Late       bool        `json:"late,omitzero"`       // it was paid although it was void or had expired
	Overdue    bool        `json:"overdue,omitzero"`    // it is voided because its deadline has passed
	Accepted   bool        `json:"accepted,omitzero"`   // a person has accepted that the payment has another amount

	Unknown jsontext.Value `json:",embed"` // members that a newer version wrote
}

// State is how far an attempt has come. States only rise; see rank.
type State string

// The states of an attempt.
const (
	Asked    State = "asked"   // it was or will be sent; its outcome is not known
	Issued   State = "issued"  // it has a barcode
	Void     State = "void"    // the barcode was voided
	Expired  State = "expired" // the deadline has passed, unpaid
	Failed   State = "failed"  // the API says so, or knows of no such payment
	Paid     State = "paid"
	Refunded State = "refunded" // in part or as a whole
)

// rank orders the states: a writer never lowers it. Unknown states, of a newer version, rank
// highest.
func (s State) rank() int {
	switch s {
	case Asked:
		return 0
	case Issued:
		return 1
	case Expired: // a barcode whose deadline has passed can still be voided
		return 2
	case Failed: // what the API does not know, or calls failed, may turn up as ready, and be voided
		return 3
	case Void:
		return 4
	case Paid:
		return 5
	case Refunded:
		return 6
	default:
		return 7
	}
}

// paid reports whether the barcode was paid, whatever became of the money since.
func (s State) paid() bool { return s == Paid || s == Refunded }

// ended reports whether no till was to take the barcode any more.
func (s State) ended() bool { return s == Void || s == Expired || s == Failed }

// Key returns the row's key.
func (r *Row) Key() Key { return Key{r.Account, r.Order} }

// Empty reports whether there is nothing to keep: the store removes such a row.
func (r *Row) Empty() bool { return len(r.Attempts) == 0 && len(r.Hints) == 0 && r.Mark == nil }

// ImpUIDs returns the numbers of the payments that the row knows.
func (r *Row) ImpUIDs() (list []string) {
	for i := range r.Attempts {
		if id := r.Attempts[i].ImpUID; id != "" {
			list = append(list, id)
		}
	}
	return list
}

// Clone returns a deep copy.
func (r *Row) Clone() *Row {
	c := *r
	c.Attempts = slices.Clone(r.Attempts)
	for i := range c.Attempts {
		c.Attempts[i].Fields = slices.Clone(c.Attempts[i].Fields)
		c.Attempts[i].Happenings = slices.Clone(c.Attempts[i].Happenings)
		c.Attempts[i].Unknown = bytes.Clone(c.Attempts[i].Unknown)
	}
	c.Hints = slices.Clone(c.Hints)
	if r.Mark != nil {
		c.Mark = new(*r.Mark)
	}
	c.Unknown = bytes.Clone(r.Unknown)
	return &c
}

// Encode returns the row as JSON.
func (r *Row) Encode() ([]byte, error) { return json.Marshal(r) }

// DecodeRow reads what Encode wrote, also with members of a newer version. The caller may change
// data afterwards.
func DecodeRow(data []byte) (*Row, error) {
	r := new(Row)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("reading a row of the ledger: %w", err)
	}
	return r, nil
}
