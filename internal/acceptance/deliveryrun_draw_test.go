//go:build !race

package acceptance

// This file holds what the delivery run draws: what becomes of each order, and of its notices.

import (
	"fmt"
	"slices"
)

// The stories of orders.
const (
	storyPaid     = "paid"
	storyRefunded = "paid, then refunded"
	storyPart     = "paid, then refunded in part"
	storyTwoParts = "paid, then refunded in two parts"
	storyExpired  = "not paid in time"
	storyAgain    = "not paid in time, then a new barcode paid"
	storyLate     = "not paid in time and void, then paid after all"
	storyVoidPaid = "voided by the app, then paid after all"
	storyVoided   = "voided by the app"
	storyOpen     = "not paid yet"
	storySandbox  = "a test channel's payment that was not issued as one"
)

// deliveryStories are printed in this order. Of 25 orders each has so many.
var deliveryStories = []struct {
	name  string
	times int
}{
	{storyPaid, 10},
	{storyRefunded, 2},
	{storyPart, 2},
	{storyTwoParts, 2},
	{storyExpired, 1},
	{storyAgain, 2},
	{storyLate, 1},
	{storyVoidPaid, 1},
	{storyVoided, 1},
	{storyOpen, 2},
	{storySandbox, 1},
}

// What becomes of a notice.
const (
	noticeOnce    = "once"
	noticeLost    = "notice: lost"
	noticeDoubled = "notice: doubled"
	noticeEarly   = "notice: earlier than the look-up shows the payment"
)

// The other faults that the run counts by name.
const (
	noticeReversed = "notice: cancelled before paid"
	noticeForm     = "notice: as a form"
	noticeRepeated = "notice: repeated, because it was not acknowledged"
	foreignCard    = "notice: of a card payment, for the next handler"
	foreignUnknown = "notice: of an unknown payment, for the next handler"
	refundServed   = "refund through the gateway"
	shopStubborn   = "shop: refuses an order until the end"
	shopDown       = "shop: down"
)

// deliveryOrder is an order: what was drawn for it, and what became of it.
type deliveryOrder struct {
	id      string
	account *deliveryAccount
	story   string
	amount  int
	refunds []int // amounts, in order; 0 for all that is left

	notices  []string // what becomes of the notice of the payment, and of each refund
	reversed bool     // the last notice is sent before the others
	asForm   bool
	served   bool // the refunds go through the gateway
	forgery  *deliveryForgery
	stubborn bool // the shop refuses it until the end

	// What became of it, guarded by deliveryRun.mu.
	last      string          // imp_uid of the barcode that the app knows
	barcodes  map[string]bool // imp_uids that the app was ever given
	voided    map[string]bool // by the app
	afterVoid map[string]bool // paid although they were void
	forbidden bool            // the shop must not be told
	unclear   bool            // it may be told, and need not be
}

// pays reports whether the shop is to hear of a payment.
func (o *deliveryOrder) pays() bool {
	return !slices.Contains([]string{storyExpired, storyVoided, storyOpen, storySandbox}, o.story)
}

// waits reports whether the order's barcode expires, which takes a while.
func (o *deliveryOrder) waits() bool {
	return slices.Contains([]string{storyExpired, storyAgain, storyLate}, o.story)
}

// deliveryDraw deals stories and faults.
type deliveryDraw struct {
	rand            *sharedRand
	stories         *deck[string]
	swept, unswept  *deck[string] // of notices
	oneIn2, oneIn5  *deck[bool]
	oneIn3, oneIn40 *deck[bool]
	forgeries       *deck[*deliveryForgery]
}

func newDeliveryDraw() *deliveryDraw {
	d := &deliveryDraw{rand: &sharedRand{rng: draw(1)}}
	var stories []string
	for _, s := range deliveryStories {
		for range s.times {
			stories = append(stories, s.name)
		}
	}
	d.stories = newDeck(d.rand, nil, stories)
	d.swept = newDeck(d.rand, nil, []string{noticeOnce, noticeOnce, noticeOnce, noticeLost, noticeLost, noticeDoubled, noticeEarly})
	d.unswept = newDeck(d.rand, nil, []string{noticeOnce, noticeOnce, noticeOnce, noticeOnce, noticeDoubled, noticeEarly})
	d.oneIn2, d.oneIn3 = newDeck(d.rand, nil, hits(2)), newDeck(d.rand, nil, hits(3))
	d.oneIn5, d.oneIn40 = newDeck(d.rand, nil, hits(5)), newDeck(d.rand, nil, hits(40))
	d.forgeries = newDeck(d.rand, nil, deliveryForgeries)
	return d
}

// order draws an order.
func (d *deliveryDraw) order(number int, account *deliveryAccount) *deliveryOrder {
	o := &deliveryOrder{
		id: fmt.Sprintf("order-%d", number), account: account, story: d.stories.next(), amount: 10000 + 100*d.rand.below(100), asForm: d.oneIn5.next(),
		barcodes: make(map[string]bool), voided: make(map[string]bool), afterVoid: make(map[string]bool),
	}
	switch o.story {
	case storyRefunded:
		o.refunds = []int{0}
	case storyPart:
		o.refunds = []int{1000}
	case storyTwoParts:
		o.refunds = []int{1000 + d.rand.below(1000), 2000 * d.rand.below(2)}
	}
	notices := d.unswept
	if account.swept {
		notices = d.swept
		o.served = len(o.refunds) > 0 && d.oneIn2.next()
	}
	for range 1 + len(o.refunds) {
		o.notices = append(o.notices, notices.next())
	}
	o.reversed = len(o.refunds) > 0 && d.oneIn2.next()
	o.stubborn = o.pays() && d.oneIn40.next()
	// Without the sweep a forged notice would have an order looked at whose genuine one was lost.
	if account.swept && d.oneIn3.next() || !account.swept && !o.pays() {
		o.forgery = d.forgeries.next()
	}
	return o
}

// orders draws all orders. In the short form those that take a while come first.
func (d *deliveryDraw) orders(n int, full bool, accounts []*deliveryAccount) []*deliveryOrder {
	list := make([]*deliveryOrder, n)
	for i := range list {
		list[i] = d.order(i, accounts[i%len(accounts)])
	}
	if !full {
		slices.SortStableFunc(list, func(a, b *deliveryOrder) int {
			switch {
			case a.waits() == b.waits():
				return 0
			case a.waits():
				return -1
			default:
				return 1
			}
		})
	}
	return list
}
