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

func TestModelRunFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	const number = shortRun / 20
	for _, m := range []mutation{noHold, noVersion, noVoid, noWatch, noFreshness, staleReuse, notSynced, noSweep, believes, noOrder, noClaim, staleClaim, doneFirst, lostHints} {
		_, found := playAll(number, m, !*long) // the long form counts
		if !assert.NotEmpty(t, found, m) {
			continue
		}
		by := make(map[string]int)
		for _, b := range found {
			invariant, _, _ := strings.Cut(b.problem, ":")
			by[invariant]++
		}
		var list []string
		for _, invariant := range slices.Sorted(maps.Keys(by)) {
			list = append(list, fmt.Sprintf("%d %s", by[invariant], invariant))
		}
		t.Logf("%s: first in history %d, then in %d of %d: not %s", m, found[0].history, len(found), number, strings.Join(list, ", "))
	}
}
