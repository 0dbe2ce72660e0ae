//go:build !race

package acceptance

// This file holds the shop of the delivery run: what it does with a message, and what it keeps of it.

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// What the shop does with a message. It then knows of the event, or does not.
const (
	shopHears   = "hears"
	shopSlow    = "shop: slow"
	shopLost    = "shop: hears, and the answer is lost"
	shopHalf    = "shop: hears, and dies half-way through the answer"
	shopStatus  = "shop: answers "
	shopHTML    = "shop: answers 200 with HTML"
	shopUnheard = `shop: answers {"heard":false}`
	shopHangs   = "shop: hangs"
)

// shopFaults are printed in this order. They strike one message in five.
var shopFaults = []string{
	shopSlow, shopLost, shopHalf, shopStatus + "500", shopStatus + "302", shopStatus + "404", shopStatus + "410", shopStatus + "429", shopHTML, shopUnheard, shopHangs,
}

// toldByHeader has the number of the gateway that sends a message.
const toldByHeader = "X-Test-Gateway"

// activeMessage is a message that is not answered yet.
type activeMessage struct {
	by     *gateway
	pauses int64 // how often that had been stopped
}

// hookHeader is in the answers to what was passed on.
const hookHeader = "X-Shop"

// toldMessage is a message that came to the shop.
type toldMessage struct {
	at         time.Time
	id         string // webhook-id
	genuine    bool   // its signature is right
	overlapped bool   // another one for the order was not answered yet
	stopped    bool   // the same, of a gateway that had been stopped and could not hang up
	heard      bool   // the shop knows of the event now

	Account        string   `json:"account"`
	ImpUID         string   `json:"imp_uid"`
	MerchantUID    string   `json:"merchant_uid"`
	Event          string   `json:"event"`
	Status         string   `json:"status"`
	CancellationID string   `json:"cancellation_id"`
	Amount         *float64 `json:"amount"`
	CancelAmount   *float64 `json:"cancel_amount"`
	PaidAt         int64    `json:"paid_at"`
	Late           bool     `json:"late"`

	live *deliveryPayment // as the API had it when the message came; nil if it had none
}

// deliveryShop is the merchant's app, at an address that stays the same while it is down.
type deliveryShop struct {
	run     *deliveryRun
	address string
	url     string
	faults  *deck[string]
	hold    atomic.Pointer[heldMessage]

	mu        sync.Mutex
	server    *http.Server // nil while it is down
	active    map[string][]*activeMessage
	told      []*toldMessage
	expected  map[int]foreignRequest
	passed    map[int]bool
	misplaced []string // foreign requests that were changed or not passed on
	problems  []string // messages that cannot be read
}

// heldMessage is a message that the operator waits for.
type heldMessage struct {
	heard             bool     // hold it after the shop has heard it
	from              *gateway // that sent it; set when it is there
	arrived, released chan struct{}
}

func newDeliveryShop(t *testing.T, c *deliveryRun) *deliveryShop {
	t.Helper()
	s := &deliveryShop{run: c, address: gatewaytest.Address(t), active: make(map[string][]*activeMessage), expected: make(map[int]foreignRequest), passed: make(map[int]bool)}
	s.url = "http://" + s.address
	cards := make([]string, 5*len(shopFaults))
	for i := range cards {
		cards[i] = shopHears
	}
	copy(cards, shopFaults)
	s.faults = newDeck(c.draw.rand, nil, cards)
	s.up(t)
	t.Cleanup(s.down)
	return s
}

// up has the shop listen.
func (s *deliveryShop) up(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", s.address)
	require.NoError(t, err)
	server := &http.Server{Handler: s}
	s.mu.Lock()
	s.server = server
	s.mu.Unlock()
	go func() { _ = server.Serve(listener) }()
}

// down closes the shop and breaks its connections.
func (s *deliveryShop) down() {
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	_ = server.Close()
}

func (s *deliveryShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // the gateway was killed, or the shop goes down
		return
	}
	order, found := strings.CutPrefix(r.URL.Path, "/payments/")
	if !found {
		s.serveHook(w, r, body)
		return
	}
	by := s.run.gateways.numbered(r.Header.Get(toldByHeader))
	m, active := s.arrive(order, r, body, by)
	defer s.leave(r.Context(), order, active)()
	m.live = s.run.oracle.payment(m.Account, m.ImpUID)
	s.holdHere(false, by)
	s.answer(w, r, order, m, by)
}

// arrive notes a message.
func (s *deliveryShop) arrive(order string, r *http.Request, body []byte, by *gateway) (*toldMessage, *activeMessage) {
	m := &toldMessage{at: time.Now(), id: r.Header.Get("Webhook-Id"), genuine: isGenuine(r, body)}
	err := json.Unmarshal(body, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || m.MerchantUID != order || m.Amount == nil || m.CancelAmount == nil {
		s.problems = append(s.problems, fmt.Sprintf("%s: %v in %s", order, err, body))
	}
	for _, other := range s.active[order] {
		if other.by.pauses.Load() == other.pauses {
			m.overlapped = true
		} else {
			m.stopped = true
		}
	}
	active := &activeMessage{by, by.pauses.Load()}
	s.active[order] = append(s.active[order], active)
	s.told = append(s.told, m)
	return m, active
}

// leave returns what ends a request. It is called also when its connection has ended.
func (s *deliveryShop) leave(ctx context.Context, order string, active *activeMessage) func() {
	end := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.active[order] = slices.DeleteFunc(s.active[order], func(other *activeMessage) bool { return other == active })
	})
	context.AfterFunc(ctx, end)
	return end
}

// isGenuine verifies a message by the Standard Webhooks.
func isGenuine(r *http.Request, body []byte) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(deliverySecret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
	return r.Header.Get("Webhook-Signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// holdHere holds a message if the operator waits for one.
func (s *deliveryShop) holdHere(heard bool, by *gateway) {
	h := s.hold.Load()
	if h != nil && h.heard == heard && s.hold.CompareAndSwap(h, nil) {
		h.from = by
		close(h.arrived)
		wait(h.released, time.Minute)
	}
}

// answer answers a message as it is drawn.
func (s *deliveryShop) answer(w http.ResponseWriter, r *http.Request, order string, m *toldMessage, by *gateway) {
	how := shopHears
	if !s.run.calm.Load() && !strings.HasPrefix(order, baitPrefix) {
		if s.run.isStubborn(order) {
			http.Error(w, `{"heard":false}`, http.StatusNotFound)
			return
		}
		how = s.faults.next()
	}
	if how != shopHears {
		s.run.counts.add(how)
	}
	switch how {
	case shopSlow:
		wait(r.Context().Done(), 300*time.Millisecond)
	case shopHangs:
		wait(r.Context().Done(), 10*deliveryTimeout)
		return
	case shopHTML:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>a page of another program</html>")
		return
	case shopUnheard:
		fmt.Fprint(w, `{"heard":false}`)
		return
	}
	var status int
	if _, err := fmt.Sscanf(how, shopStatus+"%d", &status); err == nil && how != shopHTML {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		fmt.Fprint(w, `{"heard":true}`)
		return
	}
	s.hear(m)
	s.holdHere(true, by)
	switch how {
	case shopLost:
		panic(http.ErrAbortHandler)
	case shopHalf:
		w.Header().Set("Content-Length", "14")
		fmt.Fprint(w, `{"heard`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", gatewaytest.JSONType)
	fmt.Fprint(w, `{"heard":true}`)
}

// hear notes that the shop knows of an event.
func (s *deliveryShop) hear(m *toldMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.heard = true
}

// serveHook serves what the gateway passes on.
func (s *deliveryShop) serveHook(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set(hookHeader, "hook")
	w.WriteHeader(http.StatusAccepted)
	var number int
	if _, err := fmt.Sscanf(r.URL.RawQuery, foreignKey+"=%d&", &number); err != nil { // a forged notice of an unknown payment
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed[number] = true
	if !s.expected[number].same(r, body) {
		s.misplaced = append(s.misplaced, fmt.Sprintf("%s %s, %s: %.200q", r.Method, r.URL, r.Header.Get("Content-Type"), body))
	}
}

func (s *deliveryShop) expect(number int, f foreignRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[number] = f
}

func (s *deliveryShop) notPassedOn(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.misplaced = append(s.misplaced, err.Error())
}

// messages returns copies of what the shop was told so far, in the order in which it came.
func (s *deliveryShop) messages() []toldMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]toldMessage, len(s.told))
	for i, m := range s.told {
		list[i] = *m
	}
	return list
}

// requireSound fails if the shop could not read a message.
func (s *deliveryShop) requireSound(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Empty(t, s.problems)
	for number := range s.expected {
		if !s.passed[number] {
			s.misplaced = append(s.misplaced, fmt.Sprintf("foreign request %d did not arrive", number))
		}
	}
}
