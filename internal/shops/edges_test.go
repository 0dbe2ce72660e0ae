package shops

// This file holds the edges of the list: a barcode that cannot be had or comes late, and news of a
// barcode that is not the order's present one.

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/emulator"
	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// ask asks the shop as Caddy does, past the site.
func (s *stand) ask(t *testing.T, id, impUID string) gatewaytest.Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.app+"/orders/"+id+"/payable", strings.NewReader("{}"))
	require.NoError(t, err)
	r.Header.Set("X-Cvs-Imp-Uid", impUID)
	return s.Send(t, r)
}

// refuses asserts that the shop says no, and why.
func (s *stand) refuses(t *testing.T, id, impUID, reason string) {
	t.Helper()
	a := s.ask(t, id, impUID)
	assert.True(t, a.Status >= 400 && a.Status < 500, "%d: a no is a 4xx", a.Status)
	assert.Equal(t, reason, a.Field(t, "reason"))
}

// told has Caddy tell the shop, which must hear it.
func (s *stand) told(t *testing.T, id, impUID string, event tell.Event) {
	t.Helper()
	require.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, s.news(id, impUID, event))).Status)
}

// click opens the page that asks for a barcode.
func (s *stand) click(t *testing.T, id string) gatewaytest.Answer {
	t.Helper()
	if s.byClick {
		return s.Do(t, http.MethodPost, s.Outside+"/orders/"+id+"/barcode", gatewaytest.FormType, "")
	}
	return s.Do(t, http.MethodGet, s.Outside+"/orders/"+id, "", "")
}

func presentBarcodeCounts(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	s.refuses(t, "order-none", p.ImpUID, "없는 주문입니다")
	s.refuses(t, id, "imp_other", "다른 바코드로 결제해 주세요")
	s.refuses(t, id, "", "다른 바코드로 결제해 주세요")
	before := s.umbrellas(t)
	for range 2 { // the till may ask twice
		a := s.ask(t, id, p.ImpUID)
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		assert.Equal(t, true, a.Field(t, "payable"))
		assert.EqualValues(t, 15000, a.Field(t, "total"))
		if !s.lastTaken {
			assert.Equal(t, before-1, s.umbrellas(t), "one is held for this order")
		}
	}
	s.told(t, id, "imp_other", tell.Expired)
	assert.Equal(t, "waiting", s.state(t, id))

	s.told(t, id, p.ImpUID, tell.Expired)
	s.becomes(t, id, "expired")
	s.refuses(t, id, p.ImpUID, "결제 기한이 지났습니다")
	s.page(t, id)
	assert.Equal(t, "expired", s.state(t, id), "a reload alone gets no new barcode")
}

// umbrellas returns how many the shop has.
func (s *stand) umbrellas(t *testing.T) int {
	t.Helper()
	found := regexp.MustCompile(`재고 (\d+)개`).FindStringSubmatch(s.Do(t, http.MethodGet, s.Outside+"/", "", "").Body)
	require.NotNil(t, found)
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

// A barcode that had expired is paid all the same: the money is there, and the item is taken, once.
func paidLate(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	before := s.umbrellas(t)
	s.told(t, id, p.ImpUID, tell.Expired)
	assert.Equal(t, before, s.umbrellas(t))
	for range 2 {
		s.told(t, id, p.ImpUID, tell.Paid)
		s.becomes(t, id, "paid")
		assert.Equal(t, before-1, s.umbrellas(t))
	}
	s.told(t, id, p.ImpUID, tell.Expired)
	assert.Equal(t, "paid", s.state(t, id))

	// Told several times at once.
	id, p = s.buy(t, "umbrella")
	before = s.umbrellas(t)
	var tells sync.WaitGroup
	for range 8 {
		m := s.signed(t, s.news(id, p.ImpUID, tell.Paid))
		tells.Go(func() { s.tell(t, id, m) })
	}
	tells.Wait()
	s.becomes(t, id, "paid")
	assert.Equal(t, before-1, s.umbrellas(t))
	s.refuses(t, id, p.ImpUID, "이미 결제된 주문입니다")
}

// The API refuses, and the customer tries again.
func triesAgain(t *testing.T, s *stand) {
	id := s.order(t, "umbrella")
	require.NoError(t, s.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Code: -1, Message: "점검 중", Times: 1}))
	a := s.click(t, id)
	assert.Contains(t, a.Body, "바코드를 발급받지 못했습니다")
	assert.Contains(t, a.Body, "두 번 결제되지 않습니다")
	assert.NotContains(t, a.Body, `class="number"`)
	number(t, s.voucher(t, id))
}

// An order is paid by one barcode while the page waits for another answer, which must not make it payable again.
func paidMeanwhile(t *testing.T, s *stand) {
	id := s.order(t, "umbrella")
	before := s.API.Requests(emulator.EndpointIssue)
	require.NoError(t, s.API.Inject(emulator.Fault{Endpoint: emulator.EndpointIssue, Delay: 2 * time.Second, Times: 1}))
	shown := make(chan gatewaytest.Answer, 1)
	go func() { shown <- s.click(t, id) }()
	require.Eventually(t, func() bool { return s.API.Requests(emulator.EndpointIssue) > before }, patience, 5*time.Millisecond)
	s.told(t, id, "imp_other", tell.Paid)
	assert.Less(t, (<-shown).Status, http.StatusBadRequest)
	s.becomes(t, id, "paid")
	s.refuses(t, id, "imp_other", "이미 결제된 주문입니다")
}

// The shop in Node has templates of its own: a name or a number is text, whatever it has.
func TestNodeShopEscapesWhatItShows(t *testing.T) {
	t.Parallel()
	const script = `
import * as page from './page.js';
const bad = '"><script>alert(1)</script>\'&';
const order = { id: bad, name: bad, amount: 1, state: 'waiting', expires: 1, barcode: bad, refunded: 0 };
console.log(page.home([{ id: bad, name: bad, price: 1, stock: 1 }]), page.order(order, false), page.order({ ...order, state: 'expired' }, true), page.problem(bad));`
	cmd := exec.CommandContext(t.Context(), program(t, "node"), "--input-type=module", "-e", script)
	cmd.Dir = filepath.Join(examples, "node")
	pages, err := cmd.CombinedOutput()
	require.NoError(t, err, string(pages))
	assert.Contains(t, string(pages), "&#60;script&#62;")
	assert.NotContains(t, string(pages), "<script>alert")
	assert.NotRegexp(t, `["']&#62;`, string(pages), "nothing ends an attribute")
}
