package shops

// This file holds what a shop must not believe: forged notices and tells, and tests.

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// message is a tell as it goes over the wire.
type message struct {
	body   string
	header map[string]string
}

// news returns what Caddy would tell of an order of an umbrella.
func (s *stand) news(id, impUID string, event tell.Event) *tell.Message {
	return &tell.Message{
		ImpUID: impUID, MerchantUID: id, Event: event, Status: "paid", Amount: "15000", CancelAmount: "0", PaidAt: time.Now().Unix(),
	}
}

// signed returns a tell that is signed as Caddy does it.
func (s *stand) signed(t *testing.T, news *tell.Message) message {
	t.Helper()
	return s.signedAt(t, news, gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"], time.Now())
}

func (s *stand) signedAt(t *testing.T, news *tell.Message, secret string, at time.Time) message {
	t.Helper()
	contentType, body := news.Encode(false)
	return sign(t, message{string(body), map[string]string{"Content-Type": contentType, "Webhook-Id": news.ID()}}, secret, at)
}

// sign signs a message as it is.
func sign(t *testing.T, m message, secret string, at time.Time) message {
	t.Helper()
	key, err := tell.ParseSecret(secret)
	require.NoError(t, err)
	m.header["Webhook-Timestamp"] = strconv.FormatInt(at.Unix(), 10)
	m.header["Webhook-Signature"] = tell.Sign([]tell.Secret{key}, m.header["Webhook-Id"], at, []byte(m.body))
	return m
}

// tell sends a tell to the shop as Caddy does it, past the site.
func (s *stand) tell(t *testing.T, id string, m message) gatewaytest.Answer {
	t.Helper()
	return s.tellAt(t, "http://"+s.app, id, m)
}

func (s *stand) tellAt(t *testing.T, base, id string, m message) gatewaytest.Answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/payments/"+id, strings.NewReader(m.body))
	require.NoError(t, err)
	for name, value := range m.header {
		r.Header.Set(name, value)
	}
	return s.Send(t, r)
}

// forgedNotice sends notices of an order that is not paid. That of a known payment is a hint, whoever sends it: the API is asked.
func forgedNotice(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	_, urls := s.API.WebhookURLs(p.ImpUID)
	require.Len(t, urls, 1)
	forged := gatewaytest.AlterQuery(t, urls[0], "cvs_amount", "1")
	unsigned, _, _ := strings.Cut(urls[0], "?")
	of := func(impUID string) string {
		return `{"imp_uid":"` + impUID + `","merchant_uid":"` + id + `","status":"paid"}`
	}
	for _, url := range []string{urls[0], forged, unsigned} {
		assert.Equal(t, http.StatusOK, s.Do(t, http.MethodPost, url, gatewaytest.JSONType, of(p.ImpUID)).Status)
	}
	assert.Equal(t, http.StatusForbidden, s.Do(t, http.MethodPost, forged, gatewaytest.JSONType, of("imp_unknown")).Status)

	isPaid(t, s, "") // what was to be told is told by now
	assert.Equal(t, "waiting", s.state(t, id))
}

func forgedTell(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	news := s.news(id, p.ImpUID, tell.Paid)
	good := s.signed(t, news)
	assert.Equal(t, http.StatusNotFound, s.tellAt(t, s.Outside, id, good).Status, "the public site tells nobody")
	if s.unsigned {
		assert.Equal(t, "waiting", s.state(t, id))
		return
	}
	const other = "whsec_b3RoZXItc2VjcmV0LW9mLTMyLWJ5dGVzLWFuZC1tb3Jl"
	altered, unsigned := s.signed(t, news), s.signed(t, news)
	altered.body = strings.Replace(altered.body, `"paid"`, `"Paid"`, 1)
	delete(unsigned.header, "Webhook-Signature")
	for name, m := range map[string]message{
		"another secret": s.signedAt(t, news, other, time.Now()),
		"altered":        altered,
		"no signature":   unsigned,
		"an old one":     s.signedAt(t, news, gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"], time.Now().Add(-time.Hour)),
		"of the future":  s.signedAt(t, news, gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"], time.Now().Add(time.Hour)),
	} {
		assert.Equal(t, http.StatusUnauthorized, s.tell(t, id, m).Status, name)
	}
	assert.Equal(t, "waiting", s.state(t, id))

	// A genuine message of one order, sent to the path of another, is about its own.
	elsewhere, _ := s.buy(t, "umbrella")
	s.tell(t, elsewhere, good)
	assert.Equal(t, "waiting", s.state(t, elsewhere))
}

// With a secret that can be guessed, everybody on the machine could tell the shop.
func TestShopsNeedALongSecret(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for folder, command := range map[string][]string{"node": {nodeWithPackages(t), "server.js"}, "python": {pythonWithFlask(t), "shop.py"}} {
		for _, secret := range []string{"", "whsec_", "whsec_c2hvcnQ="} {
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			cmd.Dir = filepath.Join(examples, folder)
			cmd.Env = []string{
				"PATH=" + os.Getenv("PATH"), "PORT=0", "PYTHONDONTWRITEBYTECODE=1", "CVS_TELL_SECRET=" + secret,
				"SHOP_DATA=" + filepath.Join(t.TempDir(), "orders"),
			}
			output, err := cmd.CombinedOutput()
			assert.Error(t, err)
			assert.NoError(t, ctx.Err(), "%s starts with %q", folder, secret)
			assert.Regexp(t, "(?i)secret", string(output))
		}
	}
}

// An answer of 500 would make Caddy take the whole shop for down, and no order would be told.
func oddTells(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	for _, body := range []string{"", "{", "5", "[]", `"text"`, "null", "{}", `{"merchant_uid":5}`, `{"merchant_uid":"` + id + `"}`} {
		m := s.signed(t, s.news(id, p.ImpUID, tell.Paid))
		m.body = body
		a := s.tell(t, id, sign(t, m, gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"], time.Now()))
		assert.True(t, a.Status >= 400 && a.Status < 500, "%q: %d", body, a.Status)
		if !json.Valid([]byte(body)) {
			assert.Equal(t, http.StatusBadRequest, a.Status, "%q", body)
		}
	}
	a := s.tell(t, id, s.signed(t, s.news(id, p.ImpUID, "refreshed")))
	assert.Equal(t, http.StatusOK, a.Status, "an event of a later version")
	assert.Equal(t, "waiting", s.state(t, id))
	news := s.news(id, p.ImpUID, tell.Paid)
	news.PaidAt = 0 // null: the API did not say when
	assert.Equal(t, http.StatusOK, s.tell(t, id, s.signed(t, news)).Status)
	s.becomes(t, id, "paid")
}

// The operator tries the way with caddy cvs trigger. Also a test must be genuine.
func testTell(t *testing.T, s *stand) {
	id, p := s.buy(t, "umbrella")
	for _, event := range []tell.Event{tell.Paid, tell.Cancelled, tell.Expired} {
		news := s.news(id, p.ImpUID, event)
		news.Test = true
		a := s.tell(t, id, s.signed(t, news))
		require.Equal(t, http.StatusOK, a.Status, a.Body)
		assert.Equal(t, true, a.Field(t, "heard"))
		changing := s.signed(t, news)
		changing.header["Webhook-Signature"] = "v1,b2xkZXI= " + changing.header["Webhook-Signature"]
		assert.Equal(t, http.StatusOK, s.tell(t, id, changing).Status, "signed with two secrets, while one is changed")
		forged := s.signed(t, news)
		delete(forged.header, "Webhook-Signature")
		if !s.unsigned {
			assert.Equal(t, http.StatusUnauthorized, s.tell(t, id, forged).Status)
		}
	}
	assert.Equal(t, "waiting", s.state(t, id))
}
