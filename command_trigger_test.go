package caddycvs

// This file holds tests of caddy cvs trigger: what it sends, and what it says of the answer.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-cvs/caddy-cvs/client/tell"
	"github.com/caddy-cvs/caddy-cvs/internal/gatewaytest"
)

// runTrigger runs the command as Caddy does.
func runTrigger(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := triggerCommandWith(gatewaytest.Provision)
	var out, problems bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&problems)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), problems.String(), err
}

// triggerTest runs the command on a configuration.
func triggerTest(t *testing.T, config string, args ...string) (result triggered, problems string) {
	t.Helper()
	stdout, stderr, err := runTrigger(t, append(args, "--json", "--config", caddyfileOf(t, config))...)
	if stdout != "" {
		require.NoError(t, json.Unmarshal([]byte(stdout), &result), stdout)
	}
	if err != nil {
		require.Equal(t, stdout != "", err == errFound, "%v: %s", err, stderr) //nolint:errorlint // is returned as it is
	}
	result.good = err == nil
	return result, stderr
}

func caddyfileOf(t *testing.T, config string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	return file
}

func startTriggered(t *testing.T, s gatewaytest.Setup) (*gatewaytest.Gateway, string) {
	t.Helper()
	g, config := gatewaytest.Prepare(t, s)
	gatewaytest.Run(t, config)
	return g, config
}

func TestTriggerConfirm(t *testing.T) {
	t.Parallel()
	g, config := startTriggered(t, gatewaytest.Setup{Payable: func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/orders/sold-out/") {
			_, _ = w.Write([]byte(`{"payable":false,"reason":"sold out"}`))
			return
		}
		_, _ = w.Write([]byte(`{"payable":true,"total":15000}`))
	}})
	result, problems := triggerTest(t, config, "confirm", "--order", "order-1", "--amount", "15000.0")
	require.True(t, result.good, problems)
	assert.Equal(t, accepted, result.Verdict)
	assert.Equal(t, triggeredAnswer{200, "application/json", `{"accepted":true}`}, *result.Answer)
	assert.Regexp(t, `^`+g.Outside+`/cvs/confirm\?cvs_amount=15000&cvs_expires=\d+&cvs_id=[\w-]{16}&cvs_sig=\*\*\*$`, result.Request.URL)
	asked := g.Shop.Requests[0]
	assert.Equal(t, "15000", asked.Header.Get("X-Cvs-Amount"))
	assert.Contains(t, asked.Header.Get("X-Cvs-Imp-Uid"), "imp_test_")
	assert.Equal(t, result.Request.Body, g.Shop.Bodies[0])

	result, _ = triggerTest(t, config, "confirm", "--order", "sold-out", "--amount", "15000", "--imp-uid", "imp_7")
	assert.False(t, result.good)
	assert.Equal(t, refused, result.Verdict)
	assert.Equal(t, 409, result.Answer.Status)
	assert.Contains(t, result.Answer.Body, "sold out")
	assert.Equal(t, "imp_7", g.Shop.Requests[1].Header.Get("X-Cvs-Imp-Uid"))

	result, _ = triggerTest(t, config, "confirm", "--order", "order-1", "--amount", "15001")
	assert.Equal(t, 409, result.Answer.Status, "another total")
}

func TestTriggerConfirmOfAnAccount(t *testing.T) {
	t.Parallel()
	g, config := startTriggered(t, gatewaytest.Setup{
		Second: "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}\nsigning_key {env.CVS_TEST_SIGNING_KEY}\napi API",
		Proxy:  "account second\nconfirm_url OUTSIDE/cvs/confirm?shop=1", Confirm: "account second\n" + gatewaytest.UsualConfirm,
	})
	result, problems := triggerTest(t, config, "confirm", "--order", "order-1", "--amount", "15000", "--account", "second")
	require.True(t, result.good, problems)
	assert.Contains(t, result.Request.URL, "/cvs/confirm?cvs_amount=15000&")
	assert.Contains(t, result.Request.URL, "&cvs_account=second&")
	result, _ = triggerTest(t, config, "confirm", "--order", "order-1", "--amount", "15000", "--to", g.Outside+"/cvs/confirm")
	assert.Equal(t, 403, result.Answer.Status)
	assert.Contains(t, result.Meaning, "does not believe the webhook")
}

// The ledger knows the order, and even the payment: it notes nothing, not even that a customer is at the till.
func TestTriggerConfirmWritesNoRow(t *testing.T) {
	t.Parallel()
	g, config := startTriggered(t, gatewaytest.Setup{})
	i := g.MustIssue(t, "order-1")
	before := issuedRow(t, g, "order-1")
	for range 2 {
		for _, order := range []string{"order-1", "order-2"} {
			result, problems := triggerTest(t, config, "confirm", "--order", order, "--amount", "15000", "--imp-uid", i.ImpUID)
			require.True(t, result.good, problems)
		}
	}
	// A webhook of the barcode is noted after the answer. When that is done, so are the others.
	_, err := rowOf(t, g, "order-2")
	require.Error(t, err)
	after, err := rowOf(t, g, "order-1")
	require.NoError(t, err)
	assert.Equal(t, before, after)
	require.Equal(t, 200, g.Confirm(t, i).Status)
	require.Eventually(t, func() bool { row, _ := rowOf(t, g, "order-1"); return row.AtTill != 0 }, 5*time.Second, time.Millisecond)
	_, err = rowOf(t, g, "order-2")
	require.Error(t, err)
}

func TestTriggerConfirmSaysWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	no := func(reason string) string { return `{"accepted":false,"reason":"` + reason + `"}` }
	_, config := gatewaytest.Prepare(t, gatewaytest.Setup{})
	for name, c := range map[string]struct {
		status        int
		body, verdict string
		meaning       string
	}{
		"another site's 200": {200, "hello", accepted, "the till would accept, but it is not cvs_confirm that answered"},
		"a no with 200":      {200, no("x"), accepted, "the till would accept, but it is not cvs_confirm that answered"},
		"another site's 404": {404, "<html>", refused, "it is not cvs_confirm that answered"},
		"a redirect":         {302, "", refused, "it is not cvs_confirm that answered"},
		"forbidden":          {403, no("x"), refused, "does not believe the webhook"},
		"unrouted":           {404, no("x"), refused, "no cvs_confirm at this path"},
		"gone":               {410, no("x"), refused, "synchronize the clocks"},
		"no":                 {409, no("x"), refused, "an order check said no"},
		"no answer":          {504, no("x"), unanswered, "could not be checked"},
	} {
		site := gatewaytest.NewShop(t, gatewaytest.AnswerWith(c.status, c.body))
		result, problems := triggerTest(t, config, "confirm", "--order", "o", "--amount", "1", "--to", site.URL+"/cvs/confirm")
		require.NotNil(t, result.Answer, "%s: %s", name, problems)
		assert.False(t, result.good, name)
		assert.Equal(t, c.verdict, result.Verdict, name)
		assert.Contains(t, result.Meaning, c.meaning, name)
	}
	result, _ := triggerTest(t, config, "confirm", "--order", "o", "--amount", "1", "--to", "http://"+gatewaytest.Address(t)+"/cvs/confirm")
	assert.Nil(t, result.Answer)
	assert.Equal(t, unanswered, result.Verdict)
	assert.Contains(t, result.Meaning, "connection refused")
}

// tells is a gateway whose shop hears what is a test, and answers 404 to the order "unknown".
func tells(t *testing.T, tellOptions, options string) (*gatewaytest.Gateway, string) {
	t.Helper()
	return startTriggered(t, gatewaytest.Setup{
		Notice: "tell SHOP/{env.CVS_TEST_INTERNAL_KEY}/{http.cvs.merchant_uid} {\nrequire heard true\n" + tellOptions + "\n}\n" + options,
		Payable: func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/unknown"):
				w.WriteHeader(http.StatusNotFound)
			case strings.HasSuffix(r.URL.Path, "/broken"):
				w.WriteHeader(http.StatusBadGateway)
			default:
				_, _ = w.Write([]byte(`{"heard":true}`))
			}
		},
	})
}

func TestTriggerTells(t *testing.T) {
	t.Parallel()
	g, config := tells(t, "header X-Internal-Key {env.CVS_TEST_INTERNAL_KEY}\nsecret {env.CVS_TEST_NOTICE_SECRET}", "")
	g.MustIssue(t, "order-1") // opens the ledger
	for n, event := range []tell.Event{tell.Paid, tell.Cancelled, tell.Expired} {
		result, problems := triggerTest(t, config, string(event), "--order", "주문 1", "--amount", "15000")
		require.True(t, result.good, problems)
		assert.Equal(t, "heard", result.Verdict)
		assert.Empty(t, result.Notes)
		assert.Equal(t, g.Shop.URL+"/{env.CVS_TEST_INTERNAL_KEY}/%EC%A3%BC%EB%AC%B8%201", result.Request.URL)
		body, seen := g.Shop.Bodies[n], g.Shop.Requests[n]
		assert.Equal(t, result.Request.Body, body)
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &m))
		assert.Equal(t, true, m["test"])
		assert.Contains(t, m["imp_uid"], "imp_test_")
		assert.Equal(t, string(event), m["event"])
		assert.InDelta(t, 15000, m["amount"], 0)
		assert.Equal(t, event == tell.Expired, m["paid_at"] == nil)
		assert.Equal(t, event == tell.Cancelled, m["cancellation_id"] != nil)
		assert.Equal(t, gatewaytest.Canaries["CVS_TEST_INTERNAL_KEY"], seen.Header.Get("X-Internal-Key"))
		assert.Equal(t, hidden, result.Request.Header["X-Internal-Key"])
		assert.Equal(t, hidden, result.Request.Header["Webhook-Signature"])
		secret, err := tell.ParseSecret(gatewaytest.Canaries["CVS_TEST_NOTICE_SECRET"])
		require.NoError(t, err)
		var at int64
		_, err = fmt.Sscan(seen.Header.Get("Webhook-Timestamp"), &at)
		require.NoError(t, err)
		assert.Equal(t, tell.Sign([]tell.Secret{secret}, seen.Header.Get("Webhook-Id"), time.Unix(at, 0), []byte(body)), seen.Header.Get("Webhook-Signature"))
	}
	_, err := rowOf(t, g, "주문 1")
	require.Error(t, err, "no row")
}

func TestTriggerTellSaysWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	_, config := tells(t, "as form", "events expired")
	result, _ := triggerTest(t, config, "paid", "--order", "unknown")
	assert.False(t, result.good)
	assert.Equal(t, "refused", result.Verdict)
	assert.Contains(t, result.Meaning, "(status 404)")
	assert.Contains(t, result.Request.Body, "&test=true")
	assert.Contains(t, result.Request.Body, "amount=1000&")
	notes := strings.Join(result.Notes, "\n")
	for _, want := range []string{"ignore a message whose test is true", "is not signed", "does not tell paid"} {
		assert.Contains(t, notes, want)
	}
	result, _ = triggerTest(t, config, "expired", "--order", "broken")
	assert.False(t, result.good)
	assert.Equal(t, "unheard", result.Verdict)
	assert.Contains(t, result.Meaning, "(server error 502)")
	assert.NotContains(t, strings.Join(result.Notes, "\n"), "does not tell")
	_, problems := triggerTest(t, config, "paid", "--order", "..")
	assert.Contains(t, problems, "choose another --order")
}

func TestTriggerPrintsForAPerson(t *testing.T) {
	t.Parallel()
	site := gatewaytest.NewShop(t, gatewaytest.AnswerWith(500, "\x1b[31m"+strings.Repeat("x", 3000)))
	_, config := gatewaytest.Prepare(t, gatewaytest.Setup{Notice: "tell " + site.URL + "/told"})
	stdout, stderr, err := runTrigger(t, "paid", "--order", "o", "--config", caddyfileOf(t, config))
	require.ErrorIs(t, err, errFound, stderr)
	for _, want := range []string{"POST " + site.URL + "/told\n", "\nX-Cvs-Amount: 1000\n", "\n500 Internal Server Error\n", "xxx...\n\nunheard: the shop does not count as having heard (server error 500)", "\nnote: the message is not signed"} {
		assert.Contains(t, stdout, want)
	}
	assert.NotContains(t, stdout, "\x1b")
	assert.Less(t, len(stdout), 4000)
}

func TestTriggerSaysWhyItSendsNothing(t *testing.T) {
	t.Parallel()
	shop := gatewaytest.NewShop(t, nil)
	prepare := func(s gatewaytest.Setup) string {
		_, config := gatewaytest.Prepare(t, s)
		return config
	}
	usual := prepare(gatewaytest.Setup{})
	second := "imp_key {env.CVS_TEST_SECOND_KEY}\nimp_secret {env.CVS_TEST_SECOND_SECRET}"
	onlySecond := "{\ncvs {\naccount second {\n" + second + "\n}\n}\n}\nhttp://:8081 {\ncvs_proxy {\naccount second\nconfirm_url {env.CVS_TEST_NOTHING}\n}\n}\n"
	confirm := []string{"confirm", "--order", "o", "--amount", "1", "--to", shop.URL}
	for name, c := range map[string]struct {
		config string
		args   []string
		want   string
	}{
		"no order":           {usual, []string{"confirm", "--amount", "1"}, "name an order with --order"},
		"no amount":          {usual, []string{"confirm", "--order", "o"}, "--amount must be an amount in won, such as 15000"},
		"an amount of 0":     {usual, []string{"paid", "--order", "o", "--amount", "0.0"}, "--amount must be an amount in won"},
		"a negative amount":  {usual, []string{"paid", "--order", "o", "--amount", "-1"}, "--amount must be an amount in won"},
		"a long order":       {usual, []string{"confirm", "--order", strings.Repeat("o", 41), "--amount", "1"}, "merchant_uid is longer than 40 characters"},
		"no account":         {usual, append(confirm, "--account", "second"), `there is no account "second": leave --account out`},
		"another account":    {prepare(gatewaytest.Setup{Second: second}), append(confirm, "--account", "third"), `there is no account "third", there are: second`},
		"no unnamed account": {onlySecond, confirm, "there is no unnamed account: name one with --account: second"},
		"a key not set":      {prepare(gatewaytest.Setup{Keys: "imp_key {env.A}\nimp_secret {env.CVS_TEST_NOTHING}"}), confirm, "{env.CVS_TEST_NOTHING}"},
		"a file not there":   {prepare(gatewaytest.Setup{Account: "signing_key {file./no/such/file}"}), confirm, "{file./no/such/file}"},
		"a short key":        {prepare(gatewaytest.Setup{Account: "signing_key {env.HOME}"}), confirm, "run this command as the user that runs Caddy"},
		"a URL of a key":     {onlySecond, []string{"confirm", "--order", "o", "--amount", "1", "--account", "second"}, "confirm_url: evaluated placeholder {env.CVS_TEST_NOTHING} is empty"},
		"no confirm_url":     {prepare(gatewaytest.Setup{Proxy: "pg galaxia"}), confirm[:5], "name the URL of cvs_confirm with --to"},
		"two confirm_url":    {prepare(gatewaytest.Setup{Sites: "http://:8099 {\ncvs_proxy {\nconfirm_url https://shop.example/other\n}\n}\n"}), confirm[:5], "has several confirm_url"},
		"not a URL":          {usual, append(confirm[:5:5], "--to", "shop.example"), "--to: need an absolute http or https URL"},
		"a bad confirm_url":  {prepare(gatewaytest.Setup{Proxy: "confirm_url {env.CVS_TEST_KEY}"}), confirm[:5], "confirm_url: need an absolute"},
		"no cvs_notice":      {usual, []string{"paid", "--order", "o"}, "no cvs_notice with a tell"},
		"a tell's account":   {usual, []string{"paid", "--order", "o", "--account", "x"}, `there is no account "x"`},
		"a tell's secret":    {prepare(gatewaytest.Setup{Notice: "tell SHOP/x {\nsecret {env.CVS_TEST_NOTHING}\n}"}), []string{"paid", "--order", "o"}, "{env.CVS_TEST_NOTHING}"},
		"no cvs":             {"{\nadmin off\n}\n", confirm, "the configuration has no global option cvs"},
		"broken":             {"{\n", confirm, "adapting config"},
	} {
		_, problems := triggerTest(t, c.config, c.args...)
		assert.Contains(t, problems, "Error: ", name)
		assert.Contains(t, problems, c.want, name)
		for _, canary := range gatewaytest.Canaries {
			assert.NotContains(t, problems, canary, name)
		}
	}
	assert.Zero(t, shop.Count())
	_, problems, err := runTrigger(t, "paid", "--order", "o")
	require.Error(t, err)
	assert.Contains(t, problems, "there is no Caddyfile in this directory: name the configuration with --config")
	_, problems, err = runTrigger(t, "refunded")
	require.Error(t, err)
	assert.Contains(t, problems, `there is nothing to trigger that is called "refunded": there are confirm, paid, cancelled and expired`)
	var help bytes.Buffer
	cmd := newTriggerCommand()
	cmd.SetOut(&help)
	cmd.SetArgs([]string{})
	require.NoError(t, cmd.ExecuteContext(t.Context()))
	stdout := help.String()
	assert.Contains(t, stdout, "Tries the way to your shop without a payment")
}

// A configuration in JSON may have what no Caddyfile has.
func TestTriggerReadsAnyJSON(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"apps":{"cvs":[]}}`:   "the global option cvs cannot be read",
		`{"apps":{"cvs":null}}`: "the global option cvs cannot be read",
		`{"apps":{"cvs":{},"http":{"servers":{"a":{"routes":[{"handle":[{"handler":"cvs_proxy","pg":1}]}]}}}}}`: "reading the configuration of cvs_proxy",
	} {
		_, err := readTriggerConfig([]byte(config))
		assert.ErrorContains(t, err, want)
	}
	c, err := readTriggerConfig([]byte(`{"apps":{"cvs":{"accounts":{"second":null}}}}`))
	require.NoError(t, err)
	acc, err := c.account("second")
	require.NoError(t, err)
	assert.Equal(t, new(Account), acc)
	_, err = new(trigger).tell(t.Context(), caddy.Context{}, &Notice{Tell: new(Tell)}, tell.Paid)
	assert.ErrorContains(t, err, "tell: need a URL")
}

// A script must not take a mistyped call for the shop's no.
func TestTriggerEndsWith2AfterAWrongCall(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{{"refunded"}, {"--order", "1"}, {"paid", "--imp-uid", "x"}, {"confirm", "order-1"}, {"confirm", "--amount"}, {"paid"}} {
		got := runCvs(t, append([]string{"trigger"}, words...)...)
		assert.Equal(t, 2, got.code, words)
		assert.Contains(t, got.errors, "Error: ", words)
		assert.Empty(t, got.out)
	}
}
