package caddycvs

// This file holds tests of probes: which ones cvs_confirm answers, and that none changes anything.

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/ledger"
	"github.com/caddy-cvs/caddy-cvs/client/signedurl"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

func testKeys(t *testing.T, secrets ...string) signedurl.Keys {
	t.Helper()
	keys, err := signedurl.NewKeys(secrets...)
	require.NoError(t, err)
	return keys
}

// probeOf returns a probe of an address, with the keys of the usual gateway's unnamed account.
func probeOf(t *testing.T, address string) *probe {
	t.Helper()
	base, err := signedurl.ParseBase(address)
	require.NoError(t, err)
	p, err := newProbe(base, "", testKeys(t, "canary-imp-secret"))
	require.NoError(t, err)
	return p
}

func sendProbe(t *testing.T, g *gatewaytest.Gateway, p *probe) gatewaytest.Answer {
	t.Helper()
	r, err := p.request(t.Context())
	require.NoError(t, err)
	return g.Send(t, r)
}

// signedFor returns a URL that is signed like a probe's, but for what a test changes.
func signedFor(t *testing.T, p *probe, purpose signedurl.Purpose, order string, c signedurl.Claims) string {
	t.Helper()
	signed, err := p.base.Sign(p.keys, purpose, order, c)
	require.NoError(t, err)
	return signed
}

func (p *probe) body() string {
	return fmt.Sprintf(`{"event":"caddy-cvs.probe","nonce":%q}`, p.nonce)
}

func TestProbeComparesKeys(t *testing.T) {
	t.Parallel()
	const a, b, c = "CVS_TEST_SIGNING_KEY", "CVS_TEST_PREVIOUS_KEY", "CVS_TEST_SECRET"
	secrets := map[string]string{a: "canary-signing-key-of-32-characters", b: "canary-previous-key-of-32-characters", c: "canary-imp-secret"}
	g := gatewaytest.Start(t, gatewaytest.Setup{Account: "signing_key {env." + a + "} {env." + b + "}"})
	for name, test := range map[string]struct {
		keys      []string
		sameOrder bool
		missing   int
	}{
		"same":          {[]string{a, b}, true, 0},
		"other order":   {[]string{b, a}, false, 0},
		"fewer":         {[]string{a}, false, 0},
		"more":          {[]string{a, b, c}, false, 1},
		"another third": {[]string{b, c}, false, 1},
	} {
		p := probeOf(t, g.Outside+"/cvs/confirm")
		var texts []string
		for _, key := range test.keys {
			texts = append(texts, secrets[key])
		}
		p.keys = testKeys(t, texts...)
		answer := sendProbe(t, g, p)
		require.Equal(t, http.StatusNoContent, answer.Status, "%s: %s", name, answer.Body)
		sameOrder, missing, ok := p.compare(answer.Header.Get("X-Cvs-Probe"))
		assert.True(t, ok, name)
		assert.Equal(t, test.sameOrder, sameOrder, name)
		assert.Equal(t, test.missing, missing, name)
		for _, forged := range []string{"", ",", "x", answer.Header.Get("X-Cvs-Probe") + "x"} {
			sameOrder, _, _ := p.compare(forged)
			assert.False(t, sameOrder, "%s: %s", name, forged)
		}
		_, missing, ok = probeOf(t, g.Outside).compare(answer.Header.Get("X-Cvs-Probe"))
		assert.False(t, ok, "another probe's")
		assert.Equal(t, 1, missing)
	}
	assert.Zero(t, g.Shop.Count())
}

func TestProbeNeedsAURLAndAKey(t *testing.T) {
	t.Parallel()
	_, err := newProbe(nil, "", testKeys(t, "canary-imp-secret"))
	require.EqualError(t, err, "there is no confirm_url to probe")
	base, err := signedurl.ParseBase("https://shop.example/cvs/confirm")
	require.NoError(t, err)
	_, err = newProbe(base, "", signedurl.Keys{})
	require.ErrorIs(t, err, signedurl.ErrNoKey)
}

func TestProbeIsRefused(t *testing.T) {
	t.Parallel()
	g := gatewaytest.Start(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	p := probeOf(t, g.Outside+"/cvs/confirm")
	soon := time.Now().Add(probeLifetime).Unix()
	claims := signedurl.Claims{Amount: "0", Expires: soon, ID: p.nonce}
	genuine := signedFor(t, p, signedurl.Probe, p.nonce, claims)
	at := func(change func(*signedurl.Claims)) string {
		c := claims
		change(&c)
		return signedFor(t, p, signedurl.Probe, p.nonce, c)
	}
	other := probeOf(t, g.Outside+"/cvs/confirm")
	for name, c := range map[string]struct{ url, body string }{
		"old":                   {at(func(c *signedurl.Claims) { c.Expires = time.Now().Unix() - 1 }), p.body()},
		"of no age":             {at(func(c *signedurl.Claims) { c.Expires = 0 }), p.body()},
		"with an amount":        {at(func(c *signedurl.Claims) { c.Amount = "15000" }), p.body()},
		"without an id":         {at(func(c *signedurl.Claims) { c.ID = "" }), p.body()},
		"another nonce":         {genuine, other.body()},
		"no nonce":              {genuine, `{"event":"caddy-cvs.probe"}`},
		"another event":         {genuine, strings.Replace(p.body(), ".probe", ".confirm", 1)},
		"no JSON":               {genuine, p.nonce},
		"a webhook":             {genuine, i.Webhook()},
		"a webhook of its name": {genuine, strings.Replace(i.Webhook(), "order-1", p.nonce, 1)},
		"signed as a webhook":   {signedFor(t, p, signedurl.Confirm, p.nonce, claims), p.body()},
		"signed as a notice":    {signedFor(t, p, signedurl.Notice, p.nonce, claims), p.body()},
		"signed for another":    {signedFor(t, p, signedurl.Probe, other.nonce, claims), p.body()},
		"at a webhook's URL":    {i.ConfirmURL, p.body()},
		"of no account":         {at(func(c *signedurl.Claims) { c.Account = "nobody" }), p.body()},
		"unsigned":              {g.Outside + "/cvs/confirm", p.body()},
		"altered":               {strings.Replace(genuine, "cvs_expires=", "cvs_expires=9", 1), p.body()},
	} {
		a := g.Do(t, http.MethodPost, c.url, gatewaytest.JSONType, c.body)
		assert.Equal(t, http.StatusForbidden, a.Status, "%s: %s", name, a.Body)
		assert.Equal(t, "the webhook is not genuine", a.Field(t, "reason"), name)
		assert.Empty(t, a.Header.Get("X-Cvs-Probe"), name)
	}
	assert.Equal(t, http.StatusMethodNotAllowed, g.Do(t, http.MethodGet, genuine, "", "").Status)
	g.WaitForLine(t, `"level":"info"`, `"msg":"probe"`, `"rule":"probe"`, `"status":403`)
	assert.Zero(t, g.Shop.Count())
	assert.Equal(t, http.StatusNoContent, g.Do(t, http.MethodPost, genuine, gatewaytest.JSONType, p.body()).Status)
	assert.Equal(t, http.StatusNoContent, g.Do(t, http.MethodPost, genuine, gatewaytest.JSONType, p.body()).Status, "again: it changes nothing")
	g.WaitForLine(t, `"level":"debug"`, `"msg":"probe"`, `"status":204`)
	assert.NotContains(t, g.Log(t), "cvs_sig")
}

func TestProbeIsRefusedAsAWebhookIs(t *testing.T) {
	t.Parallel()
	second := "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\napi API"
	for options, want := range map[string]string{
		"allow 127.0.0.1\n": "", "allow portone\n": "this address may not send webhooks", "account second\n": "the webhook is not genuine",
	} {
		g := gatewaytest.Start(t, gatewaytest.Setup{Second: second, Confirm: options + gatewaytest.UsualConfirm})
		a := sendProbe(t, g, probeOf(t, g.Outside+"/cvs/confirm"))
		if want == "" {
			assert.Equal(t, http.StatusNoContent, a.Status, a.Body)
			continue
		}
		assert.Equal(t, http.StatusForbidden, a.Status)
		assert.Equal(t, want, a.Field(t, "reason"))
		if strings.HasPrefix(options, "allow") { // the probe is genuine: the check may compare the keys, and see why
			assert.Equal(t, "127.0.0.1", a.Header.Get(probeClient))
			assert.NotEmpty(t, a.Header.Get(probeHeader))
		} else {
			assert.Empty(t, a.Header.Get(probeClient)+a.Header.Get(probeHeader))
		}
	}
	g := gatewaytest.Start(t, gatewaytest.Setup{Second: second, Confirm: "account second\n" + gatewaytest.UsualConfirm})
	p := probeOf(t, g.Outside+"/cvs/confirm")
	p.account, p.keys = "second", testKeys(t, "canary-second-imp-secret")
	assert.Equal(t, http.StatusNoContent, sendProbe(t, g, p).Status)
}

// A probe that reaches no cvs_confirm is answered like a signed webhook.
func TestProbeElsewhereIsNotFound(t *testing.T) {
	t.Parallel()
	g, k := startNotice(t, gatewaytest.Setup{})
	for _, path := range []string{"/wrong", "/cvs/notice", "/cvs/confirm/deeper"} {
		a := sendProbe(t, g, probeOf(t, g.Outside+path))
		assert.Equal(t, http.StatusNotFound, a.Status, path)
		assert.Equal(t, false, a.Field(t, "accepted"), path)
	}
	p := probeOf(t, g.Outside+"/cvs/notice")
	signed := signedFor(t, p, signedurl.Probe, p.nonce, signedurl.Claims{Amount: "0", Expires: time.Now().Add(probeLifetime).Unix(), ID: p.nonce})
	assert.Equal(t, http.StatusForbidden, g.Do(t, http.MethodPost, signed, gatewaytest.JSONType, notice("imp_1", p.nonce)).Status, "a notice with the signature of a probe")
	assert.Empty(t, k.take())
}

// Not an intercept, either, makes the answer a 200.
func TestProbeIsNever200(t *testing.T) {
	t.Parallel()
	at := "http://" + gatewaytest.Address(t)
	g := gatewaytest.Start(t, gatewaytest.Setup{
		Proxy: "confirm_url " + at + "/cvs/confirm", Sites: at + " {\nroute {\nintercept {\nreplace_status 200\n}\n" + onlyConfirm + "respond 404\n}\n}\n",
	})
	assert.Equal(t, http.StatusNoContent, sendProbe(t, g, probeOf(t, at+"/cvs/confirm")).Status)
}

// issuedRow returns the row of an order when the answer to the app is noted in it, which comes after the answer.
func issuedRow(t *testing.T, g *gatewaytest.Gateway, order string) (row *ledger.Row) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		row, err = rowOf(t, g, order)
		return err == nil && len(row.Attempts) == 1 && row.Attempts[0].State == ledger.Issued
	}, 5*time.Second, time.Millisecond)
	return row
}

// Not parallel, because it uses the one Caddy of the process that can be reloaded.
func TestProbeChangesNothing(t *testing.T) {
	listen(t, nil)
	admin := gatewaytest.Address(t)
	g, config := gatewaytest.Prepare(t, gatewaytest.Setup{Globals: onEach(), Notice: gatewaytest.UsualNotice + "\nsweep off"})
	require.NoError(t, gatewaytest.Reload(t, strings.Replace(config, "admin off", "admin "+admin, 1)))
	t.Cleanup(func() { require.NoError(t, caddy.Stop()) })
	i := g.MustIssue(t, "order-1")
	row := issuedRow(t, g, "order-1")
	status := func() any { return g.Do(t, http.MethodGet, "http://"+admin+"/cvs/status", "", "").Field(t, "handlers") }
	require.Eventually(t, func() bool { return len(heard(eventIssued)) == 1 }, 5*time.Second, time.Millisecond)
	series, counts := gathered(t), status()
	u, err := url.Parse(i.ConfirmURL)
	require.NoError(t, err)
	p := probeOf(t, g.Outside+u.Path)
	old := signedFor(t, p, signedurl.Probe, p.nonce, signedurl.Claims{Amount: "0", Expires: 1, ID: p.nonce})
	for range 3 {
		assert.Equal(t, http.StatusNoContent, sendProbe(t, g, p).Status)
		assert.Equal(t, http.StatusForbidden, g.Do(t, http.MethodPost, old, gatewaytest.JSONType, p.body()).Status)
	}
	assert.Empty(t, moved(series, gathered(t)))
	assert.Equal(t, counts, status())
	listed := 0
	for _, name := range eventNames {
		listed += len(heard(name))
	}
	assert.Equal(t, 1, listed, "the barcode was issued")
	after, err := rowOf(t, g, "order-1")
	require.NoError(t, err)
	assert.Equal(t, row, after)
	assert.Zero(t, g.Shop.Count())
	// The same gateway counts, notes and asks about a webhook.
	require.Equal(t, http.StatusOK, g.Confirm(t, i).Status)
	require.Eventually(t, func() bool { return len(moved(series, gathered(t))) > 0 }, 5*time.Second, time.Millisecond)
	assert.NotEqual(t, counts, status())
}
