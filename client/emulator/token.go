package emulator

// Access tokens: POST /users/getToken, and the token of each request.

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
)

const (
	extensionWindow = 60  // seconds before the expiry in which a request for a token extends its life
	extension       = 300 // seconds by which it is extended
	maxKeyLength    = 256
	pruneAt         = 1024 // tokens held before expired ones are removed
)

type token struct {
	value     string
	impKey    string
	expiredAt int64
}

// tokens holds one token for each imp_key.
type tokens struct {
	mu      sync.Mutex
	life    int64
	byKey   map[string]*token
	byValue map[string]*token
	pruneAt int
	issued  int
}

func newTokens(life int64) *tokens {
	return &tokens{life: life, byKey: make(map[string]*token), byValue: make(map[string]*token), pruneAt: pruneAt}
}

// get returns the token of an imp_key. The API returns the same one until it has expired, and extends its life if it is
// requested in its last minute.
func (t *tokens) get(impKey string, now int64) token {
	t.mu.Lock()
	defer t.mu.Unlock()
	held, ok := t.byKey[impKey]
	switch {
	case !ok || held.expiredAt <= now:
		t.remove(held)
		t.prune(now)
		held = &token{value: newTokenValue(), impKey: impKey, expiredAt: now + t.life}
		t.byKey[impKey], t.byValue[held.value] = held, held
		t.issued++
	case held.expiredAt-now <= extensionWindow:
		held.expiredAt += extension
	}
	return *held
}

// owner returns the imp_key for which a token was issued, if it has not expired.
func (t *tokens) owner(value string, now int64) (impKey string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	held, ok := t.byValue[value]
	if !ok || held.expiredAt <= now {
		return "", false
	}
	return held.impKey, true
}

func (t *tokens) expire(value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(t.byValue[value])
}

func (t *tokens) expireAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byKey)
	clear(t.byValue)
}

func (t *tokens) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issued
}

func (t *tokens) remove(held *token) {
	if held != nil {
		delete(t.byKey, held.impKey)
		delete(t.byValue, held.value)
	}
}

// prune removes expired tokens. Otherwise an emulator that accepts any key would use more memory with every new key.
func (t *tokens) prune(now int64) {
	if len(t.byValue) < t.pruneAt {
		return
	}
	for _, held := range t.byValue {
		if held.expiredAt <= now {
			t.remove(held)
		}
	}
	t.pruneAt = max(pruneAt, 2*len(t.byValue))
}

func newTokenValue() string {
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// getToken handles POST /users/getToken.
func (e *Emulator) getToken(c *call) response {
	p, problem := c.parameters()
	if problem != nil {
		return *problem
	}
	// A value that is neither a string nor a number fails like a wrong key.
	impKey, _ := p.digits("imp_key")
	impSecret, _ := p.digits("imp_secret")
	if !e.validKeys(impKey, impSecret) {
		return failed(http.StatusUnauthorized, "인증에 실패하였습니다. API키와 secret을 확인하세요.")
	}
	now := e.now()
	t := e.tokens.get(impKey, now)
	return succeeded(struct {
		AccessToken string `json:"access_token"`
		Now         int64  `json:"now"`
		ExpiredAt   int64  `json:"expired_at"`
	}{t.value, now, t.expiredAt})
}

func (e *Emulator) validKeys(impKey, impSecret string) bool {
	if impKey == "" || impSecret == "" || len(impKey) > maxKeyLength {
		return false
	}
	if e.opts.Keys == nil {
		return true
	}
	want, ok := e.opts.Keys[impKey]
	return ok && want == impSecret
}

// requestToken returns the access token of a request. The API also accepts it without the scheme "Bearer", and in the header
// and the query parameter that old clients use.
func requestToken(r *http.Request) string {
	header := r.Header.Get("Authorization")
	if header == "" {
		return cmp.Or(r.Header.Get("X-Imptokenheader"), r.URL.Query().Get("_token"))
	}
	if scheme, value, ok := strings.Cut(header, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(value)
	}
	return header
}
