package ledger

// This file holds the mutations of the model run: each breaks one thing that the ledger rests on, in
// the store or the API of the model, and the same histories must show it.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// mutation is what is broken in a history.
type mutation string

const (
	none        mutation = ""
	noHold      mutation = "no hold is ever seen"
	noVersion   mutation = "a row is written whatever version is stored"
	noVoid      mutation = "a DELETE is answered with code 0 and does nothing"
	noWatch     mutation = "what is only watched is never due"
	ownHold     mutation = "a hold ends by the clock of its machine, although the store has one"
	noFreshness mutation = "a call is sent however old its hold is"
	staleReuse  mutation = "a read returns the version before, now and then"
	notSynced   mutation = "a write returns before it is durable, now and then"
	noSweep     mutation = "a list of payments is always empty"
	believes    mutation = "a look-up shows what a notice says"
	noOrder     mutation = "a refund stands before the payment"
	noClaim     mutation = "an order is claimed for telling whatever version is stored"
	staleClaim  mutation = "the shop is told however old the claim is"
	doneFirst   mutation = "an event counts as told before it is"
	lostHints   mutation = "a notice is answered and not noted, now and then"
)

// breaks has an invariant that each mutation breaks, among others.
var breaks = map[mutation]string{
	noHold:      "one call at a time",
	ownHold:     "one call at a time",
	noVersion:   "one barcode that the till takes",
	noVoid:      "what is noted as void is void",
	noWatch:     "a row ends",
	noFreshness: "a call has a fresh hold",
	staleReuse:  "an answer is the order's barcode",
	notSynced:   "one barcode that the till takes",
	noSweep:     "the shop hears of each payment",
	believes:    "only what was paid is told as paid",
	noOrder:     "events are told in their order",
	noClaim:     "one message at a time",
	staleClaim:  "a message has a fresh claim",
	doneFirst:   "the shop hears of each payment",
	lostHints:   "the shop hears of each payment",
}

func TestModelRunFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	const number = 1000 // with the race detector too: what is told is seldom
	for _, m := range slices.Sorted(maps.Keys(breaks)) {
		enough := breaks[m]
		if *long {
			enough = "all are counted"
		}
		_, found := playAll(number, m, enough)
		by := make(map[string]int)
		for _, b := range found {
			invariant, _, _ := strings.Cut(b.problem, ":")
			by[invariant]++
		}
		if !assert.NotZero(t, by[breaks[m]], m) {
			continue
		}
		var list []string
		for _, invariant := range slices.Sorted(maps.Keys(by)) {
			list = append(list, fmt.Sprintf("%d %s", by[invariant], invariant))
		}
		t.Logf("%s: from history %d to %d: not %s", m, found[0].history, found[len(found)-1].history, strings.Join(list, ", "))
	}
}
